"""A search of hyper-parameters: what is refused, the budget kept by many workers and over kills, and what is left.

Most tests put a function in the place of the training, so that a trial takes no time; all around it is real.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))


PUBLISHED = ("cnn10", "redcnn", "wganvgg", "resnet", "qae", "dugan", "transct", "bilateral")
TOY = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
study: str = "adhoc"
lr: float = 1e-3  # any number
steps: int = 10  # any whole number
rates: list = [0.9, 0.999]  # two numbers
about: dict = {}  # anything

# %%
from ldct_utils import runs

run = runs.start("01_toy", globals())

# %%
assert lr < 0.5, "diverged"
run.finish(val_score=-lr * steps + rates[0] + about["b"])
"""
STUDY = """
title: Toy
notebooks: {01_toy: {defaults: {about: {a: 1}}}}
search:
  trials: 6
  startup: 9
  metric: val_score
  space:
    lr: {low: 1e-5, high: 1, log: true}
    steps: {low: 1, high: 100, int: true}
    rates.0: {low: 0.3, high: 0.9}
    about.b: {low: 0, high: 1}
"""
# A worker whose training is a sleep: it leaves its values as the run would, and fails where the learning rate is high.
WORKER = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
import search

def train(planned):
    if planned.notebook == "10_search":
        return None
    planned.folder.mkdir(parents=True, exist_ok=True)
    with open(planned.folder / "workers.txt", "a") as log:
        log.write(f"{os.getpid()}\\n")
    if planned.params["lr"] > 0.1:
        return "FloatingPointError: mse has diverged"
    time.sleep(float(sys.argv[2]))
    score = 1 - abs(planned.params["lr"] - 1e-3)
    result = {"numbers": {"val_score": score}, "seconds": 0.1}
    (planned.folder / "result.json").write_text(json.dumps(result))

search.execute = train
search.shown = lambda s, path: search.studies.Planned("10_search", "search", {}, "0" * 8, path.parent, ())
sys.exit(0 if search.run("toy", None, {}, grace=3) else 1)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that writes a search of a toy notebook into a root of its own and returns the root."""
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    monkeypatch.delenv("LDCT_OUTPUTS", raising=False)
    for folder in ("notebooks", "params"):
        (tmp_path / folder).mkdir()
    (tmp_path / "notebooks" / "01_toy.py").write_text(TOY)
    (tmp_path / "worker.py").write_text(WORKER)

    def write(text: str = STUDY) -> Path:
        (tmp_path / "params" / "toy.yaml").write_text(text)
        return tmp_path

    return write


def start(root: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, str(root / "worker.py"), str(ROOT / "workflow"), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_workers_share_the_budget_and_a_killed_ones_trial_is_run_again_with_the_same_values(toy):
    root = toy()
    folder = root / "outputs" / "toy"
    first = start(root, 60)
    end = time.time() + 60
    while not list(folder.rglob("workers.txt")) or not (folder / "search.db").is_file():
        assert time.time() < end, "no trial began"
        time.sleep(0.1)
    while not [p for p in folder.rglob("workers.txt") if str(first.pid) in p.read_text()][-1:]:
        time.sleep(0.1)
    time.sleep(1)  # the trial that sleeps; those before it diverged at once
    first.send_signal(signal.SIGKILL)
    first.wait()
    both = [start(root, 0.2) for _ in range(2)]
    told = [p.communicate(timeout=120)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0], told

    left = json.loads((folder / "search.json").read_text())["trials"]
    assert len(left) == 6
    assert all((t["score"] is None) == (t["reason"] == "FloatingPointError: mse has diverged") for t in left)
    assert all((t["score"] is None) == (t["values"]["lr"] > 0.1) for t in left)
    again = [t for t in left if t["interrupted"]]
    assert len(again) == 1
    workers = (root / "outputs" / again[0]["folder"] / "workers.txt").read_text().split()
    assert workers[0] == str(first.pid) and len(workers) == 2  # the very same run folder, so training goes on there
    assert len({t["folder"] for t in left}) == 6 == len({t["values"]["lr"] for t in left})
    ran = [w for p in folder.rglob("workers.txt") for w in p.read_text().split()]
    assert len(ran) == 7  # six trials, one of them twice

    # the same command again finds nothing to do; a raised budget adds trials to those that are there
    stamp = (folder / "search.json").stat().st_mtime_ns
    done = start(root, 0)
    assert "6 finished" in done.communicate(timeout=60)[0] and done.returncode == 0
    assert (folder / "search.json").stat().st_mtime_ns == stamp
