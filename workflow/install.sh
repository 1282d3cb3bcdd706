#!/bin/sh
# Make .venv and install requirements.lock and this project into it. Touches nothing outside .venv; safe to repeat, also
# after an interruption. Called by make; PYTHON=/path/to/python3.12 chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
uv_version=0.13.8  # the installer, itself installed into .venv only

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || { echo "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13" >&2; exit 1; }
    python=$PYTHON
else
    python=
    for candidate in python3 python3.13 python3.12 python3.11; do
        if fits "$candidate"; then python=$candidate; break; fi
    done
    if [ -z "$python" ]; then
        echo "The study needs Python 3.11, 3.12 or 3.13; python3 here is: $(python3 --version 2>&1 || true)" >&2
        echo "Install one of them and run: make ${MAKECMDGOALS:-study} PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
fi

if ! { [ -x .venv/bin/python ] && fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    echo "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv || {
        rm -rf .venv
        echo "$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
fi

if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
fi
echo "installing requirements.lock (about 7 GB on disk, most of it CUDA; minutes on a fast line)"
.venv/bin/uv pip install --python .venv/bin/python --requirements requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-build-isolation --no-deps --editable .
.venv/bin/uv pip check --python .venv/bin/python
# A kernel that papermill or JupyterLab starts warns of TCP, which here never leaves this machine.
.venv/bin/python -c '
import json, pathlib, sys
spec = pathlib.Path(sys.prefix, "share/jupyter/kernels/python3/kernel.json")
kernel = json.loads(spec.read_text())
kernel["argv"] = [*dict.fromkeys([*kernel["argv"], "--IPKernelApp.log_level=ERROR"])]
spec.write_text(json.dumps(kernel, indent=1))'
# Where PYTHONDONTWRITEBYTECODE is set, as in many containers, Python would compile every package at every start, torch
# alone for 4 s. A few files of packages are for other Pythons and do not compile.
.venv/bin/python -m compileall -qq -j 0 .venv/lib || true
touch .venv/.installed
