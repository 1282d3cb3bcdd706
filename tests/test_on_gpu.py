"""The script for the first minutes on a GPU, rehearsed on the CPU with nothing but the packages it says it needs."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

from ldct_utils.study import paths

SCRIPT = paths.root() / "benchmarks" / "on_gpu.py"
# runs the script as if the packages named on its command line were not installed
WITHOUT = (
    "import runpy, sys; names, script, *given = sys.argv[1:]; sys.modules.update(dict.fromkeys(names.split(','))); "
    "sys.argv = [script, *given]; runpy.run_path(script, run_name='__main__')"
)


def plain(name):
    return re.match(r"[\w.-]+", name)[0].lower().replace("_", "-")


def not_carried(carried):
    """Packages that are importable here and belong neither to ``carried`` nor to what those require."""
    of = metadata.packages_distributions()
    wanted, stack = set(), [plain(name) for package in carried for name in of[package]]
    while stack:
        if (name := stack.pop()) in wanted:
            continue
        wanted.add(name)
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform
            continue
        stack += [plain(one) for one in asked if "extra ==" not in one]
    return sorted(package for package, names in of.items() if not wanted & set(map(plain, names)))


def run(folder, *without):
    from_file = [sys.executable, "-c", WITHOUT, ",".join(without), str(SCRIPT)]
    given = ["--device", "cpu", "--minutes", "0.25", "--out", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(from_file + given, env=environment, cwd=folder, capture_output=True, text=True)


def test_the_script_for_a_gpu_is_rehearsed_with_what_is_carried_in(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import on_gpu

    without = not_carried(on_gpu.CARRIED)
    assert {"pydicom", "matplotlib", "pytest"} <= set(without) and not set(on_gpu.CARRIED) & set(without)
    done = run(tmp_path, *(name for name in without if name != "ldct_utils"))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "on_gpu.jsonl").read_text().splitlines()]
    table = (tmp_path / "on_gpu.md").read_text()
    assert table in done.stdout and len(table.splitlines()) == 2 + len(rows)
    order = list(dict.fromkeys(row["what"] for row in rows))
    assert order[:3] == ["bf16 matrix product", "tests marked gpu", "first update"] and order[-1] == "torch.compile"
    assert {row["state"] for row in rows} <= {"done", "no time left", "left out: only on a GPU"}
    assert rows[0]["state"] == "done" and rows[0]["value"] > 0


def test_a_row_that_fails_is_written_and_the_next_one_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import on_gpu

    bench = on_gpu.Bench("cpu", 1, tmp_path)
    bench.row("a", "fails", lambda: 1 / 0)
    assert "failed: ZeroDivisionError" in (tmp_path / "on_gpu.md").read_text()
    bench.row("a", "runs", lambda: {"value": 2.0})
    bench.ends = 0
    bench.row("a", "too late", lambda: pytest.fail("no row begins after the end"))
    assert [row["state"][:6] for row in bench.rows] == ["failed", "done", "no tim"]
