"""A full disk at every place where the study writes: said in words, nothing lost, nothing half, and gone on with."""

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from full_disk import PLACES
from test_workflow import toy  # noqa: F401  a fixture

SMALL = 'mount -t tmpfs -o size=16m tmpfs "$0" && exec "$@"'


def on_a_small_disk(folder, command: list) -> list:
    """The command, with a disk of 16 MB of its own at ``folder``; skips where none can be made."""
    small = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    return [*small, *command]


@pytest.fixture(scope="module", params=["disk", "limit"])
def happened(request, tmp_path_factory):
    """What ``full_disk.py`` found, {place: {full, wrong}}: on a small disk that is filled up, and by a limit."""
    folder = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, str(ROOT / "tests" / "full_disk.py"), request.param, str(folder)]
    if request.param == "disk":
        command = on_a_small_disk(folder, command)
    # Without coverage, whose own data file would meet the limit too.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "LDCT"))}
    env |= {"LDCT_STUDY_ROOT": str(folder), "MPLBACKEND": "agg", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'workflow'}"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_said_and_the_same_call_goes_on(happened, place):
    assert happened[place]["full"] > 1 and happened[place]["wrong"] == []


STUDY = """
import os, shutil, subprocess, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
import full_disk
full_disk.ROOT = full_disk.Path(os.environ["LDCT_OUTPUTS"])

def study():
    done = subprocess.run([sys.executable, sys.argv[1] + "/workflow/study.py", "toy"], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr

with full_disk.space(5):
    print(study())
print([study(), sorted(str(p) for p in full_disk.ROOT.rglob(".tmp-*"))])
"""


def test_a_study_on_a_full_disk_says_so_and_the_same_command_finishes_it(toy, tmp_path, monkeypatch):  # noqa: F811
    outputs = toy("notebooks: {01_toy: {runs: [{name: one, value: 2}]}}")
    outputs.mkdir()
    monkeypatch.setenv("LDCT_OUTPUTS", str(outputs))
    command = on_a_small_disk(outputs, [sys.executable, "-c", STUDY, str(ROOT)])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (code, told), ((again, told_again), left) = map(ast.literal_eval, done.stdout.splitlines())
    assert code == 2 and "could not be written (No space left on device): free some space there" in told, told
    assert "Traceback" not in told and "out of memory" not in told, told
    assert again == 0 and "[  1/1] done" in told_again and left == [], told_again
