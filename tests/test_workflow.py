"""The workflow on a toy study: order, parallel runs, failures, kills, and calling it again; all of it for real."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import pandas as pd
import pytest

from ldct_utils import studies

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # {number} · Toy
# **Question.** Does the run finish?

# %% tags=["parameters"]
study: str = "adhoc"
value: float = 1.0  # any number
steps: int = 1  # each takes `seconds` and is stored
seconds: float = 0.1  # per step
fail: bool = False  # end with an error
threads: int = 1  # cores
inputs: list = []  # run folders

# %%
import os
import time

import pandas as pd

from ldct_utils import report, runs

run = runs.start("{name}", globals())
"""
BODY = """
# %% [markdown]
# ## Steps

# %%
def step(number):
    (run.folder / "processes.txt").write_text(f"{os.getpid()} {os.getppid()}")
    with open(run.folder / "computed.txt", "a") as log:
        log.write(f"{number}\\n")
    for _ in range(10):
        time.sleep(seconds / 10)
        (run.folder / "alive.txt").write_text(str(time.time()))
    return pd.DataFrame({"began": [time.time() - seconds], "ended": time.time(), "omp": os.environ["OMP_NUM_THREADS"]})


for number in range(steps):
    run.table(f"step_{number}", lambda: step(number))

# %%
assert not fail, "asked to fail"
report.text(f"**What we saw.** The value was {value}.")
run.finish(value=value, threads=threads, inputs=len(inputs))
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that writes a study of toy notebooks into a root of its own and returns the outputs folder."""
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    monkeypatch.delenv("LDCT_OUTPUTS", raising=False)
    for folder in ("notebooks", "params"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").touch()
    for name in ("01_toy", "02_sum"):
        text = HEAD.format(number=name[:2], name=name) + BODY
        (tmp_path / "notebooks" / f"{name}.py").write_text(text)
        jupytext.write(jupytext.reads(text, "py:percent"), tmp_path / "notebooks" / f"{name}.ipynb")

    def write(text: str) -> Path:
        (tmp_path / "params" / "toy.yaml").write_text(text)
        return tmp_path / "outputs"

    return write


def command(*words) -> list[str]:
    return [sys.executable, str(ROOT / "workflow" / "study.py"), "toy", *words]


def call(*words) -> subprocess.CompletedProcess:
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=300)


def computed(outputs: Path) -> dict[str, list[str]]:
    """Steps that were really computed, by run folder."""
    return {p.parent.name.rpartition("-")[0]: p.read_text().split() for p in outputs.rglob("computed.txt")}


def load_study():
    """``workflow/study.py`` as a module."""
    spec = importlib.util.spec_from_file_location("study", ROOT / "workflow" / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_study_runs_in_order_and_in_parallel_and_a_failure_stops_only_what_needs_it(toy):
    outputs = toy(
        """
notebooks:
  01_toy:
    defaults: {seconds: 3}
    runs: [{name: one, value: 1e-4}, {name: two, value: 2}, {name: bad, fail: true, seconds: 0.1}]
  02_sum:
    runs: [{name: sum, inputs: ["@01_toy/one", "@01_toy/two"]}, {name: held, value: 3, inputs: ["@01_toy"]}]
"""
    )
    done = call()
    assert done.returncode == 1, done.stdout + done.stderr
    planned = {p.name: p for p in studies.plan("toy")}
    assert [name for name, p in planned.items() if p.finished] == ["one", "two", "sum"]

    # what the user is told: counts, times, what failed and where its notebook is, what was held up by it
    assert "study toy: 5 runs, 0 finished" in done.stdout
    assert "[  3/5] done    02_sum/sum" in done.stdout and " left)" in done.stdout
    assert "failed   01_toy/bad: AssertionError: asked to fail" in done.stdout
    notebook = planned["bad"].folder / "notebook.ipynb"
    assert f"see {notebook.relative_to(outputs.parent)}" in done.stdout
    assert "asked to fail" in notebook.read_text() and (planned["bad"].folder / "step_0.parquet").is_file()
    assert "not run  02_sum/held (waits for bad)" in done.stdout
    assert "report: outputs/report/index.html" in done.stdout

    # 1e-4 in YAML is a number; every run's libraries got its own number of threads; the first two ran side by side
    results = {name: json.loads((p.folder / "result.json").read_text()) for name, p in planned.items() if p.finished}
    assert results["one"]["numbers"]["value"] == 1e-4 and results["sum"]["numbers"]["inputs"] == 2
    one, two = (pd.read_parquet(planned[name].folder / "step_0.parquet").iloc[0] for name in ("one", "two"))
    assert one["omp"] == "1"
    if (os.cpu_count() or 1) > 1:
        assert max(one["began"], two["began"]) < min(one["ended"], two["ended"])

    # again: what is finished stays; a lost result is made again from its tables and what was built on it stays too
    (planned["one"].folder / "result.json").unlink()
    before, stamp = computed(outputs), (planned["sum"].folder / "result.json").stat().st_mtime_ns
    again = call()
    assert "study toy: 5 runs, 2 finished" in again.stdout and planned["one"].finished
    assert computed(outputs) == before
    assert (planned["sum"].folder / "result.json").stat().st_mtime_ns == stamp


def wait_for(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited too long"
        time.sleep(0.1)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that nobody has collected yet counts as ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("victim", ["snakemake", "papermill", "kernel"])
def test_after_a_kill_nothing_goes_on_writing_and_the_same_command_finishes_the_study(toy, victim):
    outputs = toy("notebooks: {01_toy: {runs: [{name: quick}, {name: slow, steps: 9, seconds: 0.7}]}}")
    quick, slow = studies.plan("toy")
    study = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: quick.finished and (slow.folder / "step_1.parquet").is_file())
    kernel, papermill = map(int, (slow.folder / "processes.txt").read_text().split())
    os.kill({"snakemake": study.pid, "papermill": papermill, "kernel": kernel}[victim], signal.SIGKILL)
    told, _ = study.communicate(timeout=120)
    wait_for(lambda: gone(kernel) and gone(papermill), seconds=20)
    assert not slow.finished
    if victim != "snakemake":  # somebody is left to say so
        assert study.returncode == 1 and "1 of 2 runs are not finished" in told and "01_toy/slow" in told
    alive = (slow.folder / "alive.txt").read_text()

    interrupted = computed(outputs)
    begun = interrupted[slow.folder.name.rpartition("-")[0]]
    kept = [n for n in begun if (slow.folder / f"step_{n}.parquet").is_file()]
    assert len(kept) >= 2 and len(begun) - len(kept) <= 1  # the kill falls into a step, or between two
    done = call()
    assert done.returncode == 0, done.stdout
    assert "study toy: 2 runs, 1 finished" in done.stdout and slow.finished
    assert alive != (slow.folder / "alive.txt").read_text()
    steps = computed(outputs)
    assert steps["default"] == ["0"] == interrupted["default"]
    # what was in the table stays; only a step that was cut off is computed twice
    assert sorted(steps[slow.folder.name.rpartition("-")[0]]) == sorted([*map(str, range(9)), *begun[len(kept) :]])


def test_two_calls_at_once_share_the_work_and_a_third_has_none(toy):
    outputs = toy("notebooks: {01_toy: {runs: [{name: one, seconds: 2}]}}")
    both = [subprocess.Popen(command(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [p.communicate(timeout=300)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert sum("waiting: another process is working on" in text for text in told) == 1
    assert list(computed(outputs).values()) == [["0"]]

    (outputs / "toy" / "snakemake.log").unlink()
    before, done, spent = os.times(), call(), os.times()
    # of the processor, since other tests run beside this one
    assert spent.children_user + spent.children_system - before.children_user - before.children_system < 15
    assert done.returncode == 0 and "1 runs, 1 finished" in done.stdout
    assert not (outputs / "toy" / "snakemake.log").exists()  # Snakemake was not even started


@pytest.mark.parametrize(
    ("study", "complaint"),
    [
        ("notebooks: {01_toy: {runs: [{valu: 2}]}}", "no parameter 'valu'; did you mean 'value'?"),
        ("notebooks: {01_toy: {runs: [{value: much}]}}", "parameter value must be float, got 'much'"),
        ("notebooks: {01_toi: {runs: [{value: 2}]}}", "no notebook"),
        ("notebooks: {02_sum: {runs: [{inputs: ['@01_toy/none']}]}, 01_toy: {runs: [{}]}}", "refers to no run"),
        ("title: nothing", "needs a mapping `notebooks`"),
    ],
)
def test_a_mistake_in_a_study_file_stops_it_before_anything_runs(toy, study, complaint, monkeypatch, capsys):
    outputs = toy(study)
    monkeypatch.setattr(sys, "argv", ["study.py", "toy"])
    assert load_study().main() == 2
    assert complaint in capsys.readouterr().err
    assert not list(outputs.rglob("notebook.ipynb"))


def test_an_override_reaches_the_runs_and_their_identity(toy, monkeypatch, capsys):
    toy("notebooks: {01_toy: {runs: [{name: one}]}}")
    monkeypatch.setattr(sys, "argv", ["study.py", "toy", "--plan", "--set", "value=2.5"])
    assert load_study().main() == 0
    told = capsys.readouterr().out
    assert told.startswith("missing") and "value-2.5-" in told
    monkeypatch.setattr(sys, "argv", ["study.py", "toy", "--plan", "--set", "valu=2.5"])
    assert load_study().main() == 2
    assert "no notebook of the study declares 'valu'" in capsys.readouterr().err


def test_the_slurm_profile_asks_for_what_a_run_needs(toy):
    outputs = toy("notebooks: {01_toy: {runs: [{name: one}, {name: two, value: 2}]}}")
    planned = studies.plan("toy")
    planned[1].params["device"] = "cuda"
    plan = load_study().write_plan(outputs / "toy", planned)
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--dry-run"]
    snakemake += ["--profile", str(ROOT / "workflow" / "profiles" / "slurm"), "--directory", str(outputs)]
    done = subprocess.run(
        [*snakemake, "--config", f"plan={plan}", "events=none"], capture_output=True, text=True, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    jobs = {part.split(":")[0]: part for part in text.split("\nrule ")[1:]}
    assert "gpu=0" in jobs["run0_01_toy_one"]
    assert "gpu=1" in jobs["run1_01_toy_two"] and "mem_mb=8000" in jobs["run1_01_toy_two"]


def test_time_left_counts_what_each_notebook_takes_and_how_many_run_at_once(toy):
    toy("notebooks: {01_toy: {runs: [{name: a}, {name: b, value: 2}, {name: c, value: 3}]}, 02_sum: {runs: [{}]}}")
    study = load_study()
    progress = study.Progress(Path("events"), studies.plan("toy"), io.StringIO())
    assert progress.left() == "time left known after the first run"
    progress.planned[0].folder.mkdir(parents=True)
    (progress.planned[0].folder / "result.json").write_text("{}")
    progress.take({"run": 0, "event": "done", "seconds": 100.0})
    assert progress.left() == "about 5:00 left"  # two more of the same notebook, and the mean for the unknown one
    progress.take({"run": 1, "event": "start"})
    progress.take({"run": 2, "event": "start"})
    assert progress.left() == "about 2:30 left"
    progress.take({"run": 2, "event": "failed", "message": "no"})
    assert progress.left() == "about 1:40 left"
    assert study.clock(59.6) == "1:00" and study.clock(3723) == "1:02:03"
