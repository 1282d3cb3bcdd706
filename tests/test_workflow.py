"""The workflow on a toy study: order, parallel runs, failures, kills, and calling it again; all of it for real."""

import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jupytext
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TRACED

from ldct_utils.report import page
from ldct_utils.study import files, paths, planning, runs

sys.path.insert(0, str(ROOT / "workflow"))

import events

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
from IPython.display import Markdown, display
from ipykernel.kernelapp import IPKernelApp

from ldct_utils.study import runs

run = runs.start("{name}", globals())
"""
BODY = """
# %% [markdown]
# ## Steps

# %%
def step(number):
    (run.folder / "processes.tmp").write_text(f"{os.getpid()} {os.getppid()}")
    os.replace(run.folder / "processes.tmp", run.folder / "processes.txt")  # whole, whenever it is read
    with open(run.folder / "computed.txt", "a") as log:
        log.write(f"{number}\\n")
    beats, awaited = 0, os.environ.get("TOY_WAITS_FOR")  # a file that every step after the second waits for
    while beats < 10 or (number > 1 and awaited and not os.path.isfile(awaited)):
        beats += 1
        time.sleep(seconds / 10)
        (run.folder / "alive.txt").write_text(str(time.time()))
    about = {"omp": os.environ["OMP_NUM_THREADS"], "transport": IPKernelApp.instance().transport}
    return pd.DataFrame({"began": [time.time() - seconds], "ended": time.time()} | about)


for number in range(steps):
    run.table(f"step_{number}", lambda: step(number))
run.table("squares", lambda: pd.DataFrame({"x": [value, value**2, None], "of": "abc", "seconds": time.time()}))

# %%
assert not fail, "asked to fail"
display(Markdown(f"**What we saw.** The value was {value}."))
run.finish(value=value, threads=threads, inputs=len(inputs))
"""


def lay(root: Path, body: str = BODY):
    """Write the toy notebooks below the root of a study."""
    for folder in ("notebooks", "params"):
        (root / folder).mkdir()
    (root / "pyproject.toml").touch()
    for name in ("01_toy", "02_sum"):
        text = HEAD.format(number=name[:2], name=name) + body
        (root / "notebooks" / f"{name}.py").write_text(text)
        jupytext.write(jupytext.reads(text, "py:percent"), root / "notebooks" / f"{name}.ipynb")


def enter(root: Path, monkeypatch):
    """Let this process and those that it starts work on the study below a root."""
    monkeypatch.delenv(TRACED, raising=False)
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(root))
    monkeypatch.delenv("LDCT_OUTPUTS", raising=False)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that writes a study of toy notebooks into a root of its own and returns the outputs folder."""
    enter(tmp_path, monkeypatch)
    lay(tmp_path)

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
    return {runs.Run(p.parent).name: p.read_text().split() for p in outputs.rglob("computed.txt")}


@pytest.fixture(scope="module")
def computed_once(tmp_path_factory):
    """Root of a toy study of three finished runs, which name a cohort."""
    root = tmp_path_factory.mktemp("computed")
    lay(root, BODY.replace("run.finish(", "run.finish(cohort='0123abcd', "))
    (root / "params" / "toy.yaml").write_text(
        """
notebooks:
  01_toy:
    defaults: {steps: 0}
    runs: [{name: same}, {name: planted, value: 2}, {name: bad, value: 3}]
"""
    )
    with pytest.MonkeyPatch.context() as patch:
        enter(root, patch)
        done = call()
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def finished(computed_once, tmp_path, monkeypatch):
    """Run folders, by name, of a copy of that study."""
    shutil.copytree(computed_once, tmp_path, dirs_exist_ok=True)
    enter(tmp_path, monkeypatch)
    return {planned.name: planned.folder for planned in planning.plan("toy")}


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
    planned = {p.name: p for p in planning.plan("toy")}
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
    assert one["omp"] == "1" and one["transport"] == "ipc"  # TCP ports can be taken by another kernel that starts
    if (os.cpu_count() or 1) > 1:
        assert max(one["began"], two["began"]) < min(one["ended"], two["ended"])

    # again: what is finished stays; a lost result is made again from its tables and what was built on it stays too
    (planned["one"].folder / "result.json").unlink()
    before, stamp = computed(outputs), (planned["sum"].folder / "result.json").stat().st_mtime_ns
    again = call()
    assert "study toy: 5 runs, 2 finished" in again.stdout and planned["one"].finished
    assert computed(outputs) == before
    assert (planned["sum"].folder / "result.json").stat().st_mtime_ns == stamp


def wait_for(condition, seconds=300, study=None):
    """Wait until something is so; if the study ends without it, say what it printed instead of waiting on."""
    end = time.time() + seconds
    while not condition():
        ended = study is not None and study.poll() is not None
        assert not ended or condition(), study.communicate()[0]
        assert time.time() < end, "waited too long"
        time.sleep(0.1)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that nobody has collected yet counts as ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_after_each_kill_nothing_goes_on_writing_and_the_same_command_finishes_the_study(toy, tmp_path, monkeypatch):
    go = tmp_path / "go"  # so that the slow run cannot end before a kill, however slowly its kernel starts
    monkeypatch.setenv("TOY_WAITS_FOR", str(go))
    outputs = toy("notebooks: {01_toy: {runs: [{name: quick}, {name: slow, steps: 9}]}}")
    quick, slow = planning.plan("toy")
    begun = ["0", "1"]  # steps of the slow run, in the order in which they were begun
    said = {
        "snakemake": "",  # nobody is left to say so
        "papermill": "killed   01_toy/slow: its process",
        "kernel": "failed   01_toy/slow: DeadKernelError",
    }
    for victim, complaint in said.items():
        begun.append("2")  # cut off each time; the first two are in their tables
        study = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for(lambda: quick.finished and computed(outputs).get(runs.Run(slow.folder).name) == begun, study=study)
        kernel, papermill = map(int, (slow.folder / "processes.txt").read_text().split())
        os.kill({"snakemake": study.pid, "papermill": papermill, "kernel": kernel}[victim], signal.SIGKILL)
        told, _ = study.communicate(timeout=300)
        wait_for(lambda pids=(kernel, papermill): all(map(gone, pids)))
        assert not slow.finished and (slow.folder / "step_1.parquet").is_file()
        assert not (slow.folder / "step_2.parquet").exists()
        assert victim == "snakemake" or "study toy: 2 runs, 1 finished" in told
        if complaint:
            assert study.returncode == 1 and "1 of 2 runs are not finished" in told and complaint in told
            assert f"see {(slow.folder / 'notebook.ipynb').relative_to(outputs.parent)}" in told
            assert "not run" not in told
    go.touch()
    alive = (slow.folder / "alive.txt").read_text()
    done = call()
    assert done.returncode == 0, done.stdout
    assert "study toy: 2 runs, 1 finished" in done.stdout and slow.finished
    assert alive != (slow.folder / "alive.txt").read_text()
    steps = computed(outputs)
    assert steps["default"] == ["0"]
    # what was in the table stays; only the step that was cut off is computed again
    assert steps[runs.Run(slow.folder).name] == [*begun, *map(str, range(2, 9))]


def test_two_calls_and_another_study_at_once_share_the_folder_and_a_later_call_has_nothing_to_do(
    toy, tmp_path, monkeypatch
):
    go = tmp_path / "go"  # no run can end before all three commands are at work
    monkeypatch.setenv("TOY_WAITS_FOR", str(go))
    outputs = toy("notebooks: {01_toy: {runs: [{name: one, steps: 3}]}}")
    (tmp_path / "params" / "other.yaml").write_text("notebooks: {01_toy: {runs: [{name: two, steps: 3, value: 2}]}}")
    logs = [tmp_path / f"said-{number}.txt" for number in range(3)]
    commands = [command(), command(), [*command()[:-1], "other"]]
    going = []
    for words, log in zip(commands, logs):
        with open(log, "w") as file:
            going.append(subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT))

    def said(part):
        return sum(part in log.read_text() for log in logs)

    wait_for(lambda: said("waiting: another process is working on") == 1 and said("start   01_toy") == 2)
    wait_for(lambda: len(list(outputs.rglob("step_1.parquet"))) == 2)
    go.touch()
    assert [one.wait(timeout=300) for one in going] == [0, 0, 0], [log.read_text() for log in logs]
    assert list(computed(outputs).values()) == [["0", "1", "2"]] * 2 and not list(outputs.rglob(".tmp-*"))
    page_now = (outputs / "report" / "index.html").read_text()  # of whoever came last: it shows both
    assert "The value was 1.0." in page_now and "The value was 2.0." in page_now

    (outputs / "toy" / "snakemake.log").unlink()
    before, done, spent = os.times(), call(), os.times()
    # of the processor, since other tests run beside this one
    assert spent.children_user + spent.children_system - before.children_user - before.children_system < 15
    assert done.returncode == 0 and "1 runs, 1 finished" in done.stdout
    assert not (outputs / "toy" / "snakemake.log").exists()  # Snakemake was not even started


def test_the_notebook_of_a_finished_run_that_was_cut_short_is_written_again(finished, tmp_path):
    folder, cut_short = finished["planted"], load_study().cut_short
    notebook, stored = folder / "notebook.ipynb", [folder / "result.json", folder / "squares.parquet"]
    before, text = [path.read_bytes() for path in stored], notebook.read_text()
    assert not cut_short(notebook) and not cut_short(tmp_path / "none.ipynb")
    about = json.loads(text)
    about["metadata"]["papermill"]["end_time"] = None  # as papermill saves it on its way
    notebook.write_text(json.dumps(about))
    assert cut_short(notebook)
    notebook.write_text(text[: len(text) // 2])
    done = call()
    assert done.returncode == 0 and "again   01_toy/planted: its notebook was cut short" in done.stdout, done.stdout
    assert done.stdout.count("again  ") == 1 and not cut_short(notebook)
    assert "The value was 2.0." in (tmp_path / "outputs" / "report" / "index.html").read_text()
    assert [path.read_bytes() for path in stored] == before  # the table holds the time at which it was computed


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
    planned = planning.plan("toy")
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


def verified(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "workflow" / "verify.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def edit(root: Path, before: str, after: str):
    """Change the toy notebook's code."""
    notebook = root / "notebooks" / "01_toy.py"
    notebook.write_text(notebook.read_text().replace(before, after))
    jupytext.write(jupytext.read(notebook), notebook.with_suffix(".ipynb"))


def test_a_finished_run_is_computed_again_and_what_differs_is_named(finished, tmp_path, monkeypatch, capsys):
    import verify

    one, outputs = finished["bad"], tmp_path / "outputs"
    before = {path: path.read_bytes() for path in one.iterdir()}
    done = verified(f"outputs/toy/*/{one.name}", f"toy/01_toy/{one.name}/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("4 numbers and 1 files are the same to the bit") == 1 and "DIFFERS" not in done.stdout
    assert before == {path: path.read_bytes() for path in one.iterdir()} and page.studies() == ["toy"]
    assert not [path for path in (outputs / ".verify").iterdir() if path.is_dir()]

    # code that computes something else since
    edit(tmp_path, "value**2", "value**2 + 1e-9")
    done = verified(f"toy/01_toy/{one.name}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "its code or data have changed since" in done.stdout
    assert "DIFFERS  squares.parquet: x (1 values, by up to 1.1e-10 of the largest)" in done.stdout

    # a run that is not there
    monkeypatch.setattr(sys, "argv", ["verify.py", "toy/03_none/*"])
    assert verify.main() == 2 and "no run matches 'toy/03_none/*'" in capsys.readouterr().err

    # a table that somebody changed is not taken for the run's
    files.write_parquet(one / "squares.parquet", pd.read_parquet(one / "squares.parquet").assign(x=1.0))
    (told,) = verify.differences(runs.Run(one), runs.Run(one))
    assert told == "squares.parquet: not the file that the run wrote; it was changed afterwards"


def recorded(result: Path, part: str, **values):
    """Make a finished run say that it had other parameters or numbers."""
    about = json.loads(result.read_text())
    files.write_json(result, about | {part: about[part] | values})


def test_runs_that_are_verified_at_once_are_told_of_as_one_by_one(finished, tmp_path):
    recorded(finished["planted"] / "result.json", "numbers", value=2.5)
    recorded(finished["bad"] / "result.json", "parameters", fail=True)
    edit(tmp_path, "'0123abcd'", "'99990000'")

    def told(*words):
        """What is printed below each run's name, and the last paragraph; without times and places in the order."""
        done = verified("toy/*/*", *words)
        assert done.returncode == 2 and done.stderr == "", done.stdout + done.stderr
        text, last = done.stdout.split("\n\n")
        assert re.findall(r"^\[ +(\d)/3\]", text, flags=re.MULTILINE) == ["1", "2", "3"]
        parts = re.split(r"^(?:\[ +\d/3\]|  +start) (\S+).*\n", text, flags=re.MULTILINE)[1:]
        below = {name: lines for name, lines in zip(parts[::2], parts[1::2]) if lines}
        return {name: below[paths.short(folder)] for name, folder in finished.items()}, last

    at_once, last = told("--cores", "2")
    one_by_one, last_too = told("--cores", "1")
    assert at_once == one_by_one
    for text in (last, last_too):
        differs, failed = (f"  {paths.short(finished[name])}" for name in ("planted", "bad"))
        first, *others = text.splitlines()
        assert first.startswith("1 of 3 runs came back the same (")
        assert sorted(others) == [f"  differs{differs}", f"  failed {failed}"]
    moved = "note: cohort was 0123abcd, is 99990000"
    assert moved in at_once["same"] and "DIFFERS" not in at_once["same"]
    assert "3 numbers and 1 files are the same to the bit" in at_once["same"]
    assert moved in at_once["planted"] and "1 of 3 numbers and 1 files differ" in at_once["planted"]
    assert re.findall("DIFFERS.*", at_once["planted"]) == ["DIFFERS  value: 2.5 then, 2.0 now"]
    assert at_once["bad"].startswith("  FAILED: AssertionError: asked to fail; see outputs/.verify/")
    assert len(list(tmp_path.glob("outputs/.verify/*/notebook.ipynb"))) == 1  # that of the run that failed


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A function that lets verify call a script instead of itself, and returns verdicts and what the scripts noted."""
    import verify

    def compute(script: str, cores: int, **params):
        (tmp_path / "stand_in.py").write_text(
            "import os, sys, time\nfrom pathlib import Path\n"
            "name, noted = Path(sys.argv[2]).name, Path(__file__).with_name('noted')\n"
            "def note(word):\n    with open(noted, 'a') as log:\n        log.write(f'{word} {name}\\n')\n"
            f"note('begin')\n{script}\nnote('end')\n"
        )
        monkeypatch.setattr(verify, "__file__", str(tmp_path / "stand_in.py"))
        monkeypatch.delenv(TRACED, raising=False)
        jobs = []
        for name, (seconds, given) in params.items():
            files.write_json(tmp_path / name / "result.json", {"seconds": seconds, "parameters": given})
            jobs.append(verify.Job(runs.Run(tmp_path / name), cores))
        (tmp_path / "noted").unlink(missing_ok=True)
        verdicts = verify.compute(jobs, cores)
        verdicts = {Path(name).name: verdict for name, verdict in verdicts.items()}
        return verdicts, (tmp_path / "noted").read_text().splitlines()

    return compute


def test_as_many_runs_are_verified_at_once_as_their_threads_fit_the_cores(stand_in):
    meet = """
end = time.time() + 60
while len(noted.read_text().splitlines()) < 2:
    if time.time() > end:
        sys.exit(2)
    time.sleep(0.05)
"""
    verdicts, _ = stand_in(meet, 2, one=(1, {}), other=(1, {"threads": 1}))
    assert verdicts == {"one": 0, "other": 0}  # each has waited for the other to begin

    alone = ["begin", "end"]
    verdicts, noted = stand_in("time.sleep(0.3)", 2, short=(1, {"threads": 2}), long=(9, {"threads": 8}), some=(3, {}))
    assert verdicts == dict.fromkeys(("short", "long", "some"), 0)
    assert noted == [f"{word} {name}" for name in ("long", "some", "short") for word in alone]
    verdicts, noted = stand_in("time.sleep(0.3)", 1, a=(1, {}), b=(2, {}))
    assert noted == [f"{word} {name}" for name in "ba" for word in alone]
    gpu = {"device": "cuda", "threads": 1}
    verdicts, noted = stand_in("time.sleep(0.3)", 3, a=(1, gpu), b=(2, gpu | {"device": "cuda:1"}))
    assert noted == [f"{word} {name}" for name in "ba" for word in alone]


def test_a_run_whose_process_is_killed_counts_as_failed_and_the_others_go_on(stand_in, capfd):
    script = """
print("first line of", name, flush=True)
if name == "killed":
    os.kill(os.getpid(), 9)
print("last line of", name, file=sys.stderr)
note("end")
sys.exit(1 if name == "differs" else 0)
"""
    verdicts, _ = stand_in(script, 2, killed=(5, {}), differs=(4, {}), same=(3, {}), too=(2, {}))
    assert verdicts == {"killed": 2, "differs": 1, "same": 0, "too": 0}
    lines = [line.strip() for line in capfd.readouterr().out.splitlines() if " start " not in line]
    place = lines.index("first line of killed")
    assert lines[place + 1] == "FAILED: its process was ended from outside (exit code -9; out of memory?)"
    for name in ("differs", "same", "too"):  # whole, and below its own name
        place = lines.index(f"first line of {name}")
        assert f"/{name} " in lines[place - 1] and lines[place + 1] == f"last line of {name}"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_when_verify_is_stopped_no_kernel_goes_on(finished, tmp_path, ending):
    for folder in finished.values():
        recorded(folder / "result.json", "parameters", steps=1, seconds=300.0)
    command = [sys.executable, str(ROOT / "workflow" / "verify.py"), "toy/*/*", "--cores", "2"]
    going = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell that starts the tests in the background has it ignored, and what they start would ignore it too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip

    def processes():
        told = tmp_path.glob("outputs/.verify/*/01_toy/*/processes.txt")
        return [int(number) for file in told for number in file.read_text().split()]

    wait_for(lambda: len(processes()) == 4)
    going.send_signal(ending)
    _, complaint = going.communicate(timeout=600)
    wait_for(lambda: all(gone(number) for number in processes()), seconds=300)
    assert going.returncode == (130 if ending == signal.SIGINT else -ending)
    assert complaint == ("stopped\n" if ending == signal.SIGINT else "")


def test_the_id_of_a_cohort_is_noted_and_nothing_beside_it_is_excused(tmp_path):
    import verify

    def run(name, **numbers):
        about = {"notebook": "03_train", "id": "00000001", "commit": "", "dirty": False, "versions": {}, "files": {}}
        folder = tmp_path / f"{name}--00000001"
        files.write_json(folder / "result.json", about | {"numbers": numbers})
        return runs.Run(folder)

    def told(then, now):
        old, new = run("old", **then), run("new", **now)
        return verify.circumstances(old, new), verify.differences(old, new)

    before = {"cohort": "0123abcd", "test_cohort": "mayo2016-89abcdef", "rmse_hu": 20.0}
    moved = before | {"cohort": "99990000", "test_cohort": "mayo2016-77778888"}
    noted = ["cohort was 0123abcd, is 99990000", "test_cohort was mayo2016-89abcdef, is mayo2016-77778888"]
    assert told(before, before) == ([], [])
    assert told(before, moved) == (noted, [])
    assert told(before, moved | {"rmse_hu": 20.5}) == (noted, ["rmse_hu: 20.0 then, 20.5 now"])

    # ids under another name, of another source, gone, no longer an id, or inside of another number: all are counted
    assert told({"denoiser": "0123abcd"}, {"denoiser": "99990000"})[1] == ["denoiser: 0123abcd then, 99990000 now"]
    for other in ("tcia-89abcdef", "89abcdef", None, "mayo2016-89"):
        _, (line,) = told(before, before | {"test_cohort": other})
        assert line == f"test_cohort: mayo2016-89abcdef then, {other} now"
    assert len(told(before, {"test_cohort": before["test_cohort"], "rmse_hu": 20.0})[1]) == 1
    assert told({"of": {"cohort": "0123abcd"}}, {"of": {"cohort": "99990000"}})[1] == [
        "of.cohort: 0123abcd then, 99990000 now"
    ]


def test_what_differs_between_stored_files_is_told_in_words(tmp_path):
    import torch
    import verify
    from safetensors.torch import save_file

    def told(write, suffix, one, other):
        paths = [tmp_path / f"{name}{suffix}" for name in ("one", "other")]
        write(one, paths[0]), write(other, paths[1])
        return verify.difference_of(*paths)

    def array(values, path):
        files.write_npy(path, np.array(values))

    assert told(array, ".npy", [1.0, np.nan], [1.0, np.nan]) == ""
    assert told(array, ".npy", [1.0, 4.0], [1.0, 5.0]) == "values (1 values, by up to 2.5e-01 of the largest)"
    assert told(array, ".npy", [1.0], [1.0, 2.0]) == "another shape"
    assert told(array, ".npy", [True, False], [False, False]).startswith("values (1 values")
    weights = {"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.bfloat16)}
    assert told(save_file, ".safetensors", weights, weights | {"a": torch.tensor([1.0, 1.0, 2.0])}).startswith("a (1 ")
    assert told(save_file, ".safetensors", weights, {"a": weights["a"]}) == "other weights by name"

    def table(values, path):
        files.write_parquet(path, pd.DataFrame(values))

    assert told(table, ".parquet", {"x": [1], "seconds": [2.0]}, {"x": [1], "seconds": [3.0]}) == ""
    assert told(table, ".parquet", {"x": ["a", "b"]}, {"x": ["a", "c"]}) == "x (1 values)"
    assert told(table, ".parquet", {"x": [1]}, {"x": [1, 2]}) == "1 rows and 1 columns then, 2 and 1 now"
    assert told(table, ".parquet", {"x": [1]}, {"y": [1]}) == "other columns"


@pytest.fixture
def progress(toy):
    """Progress of a study of four runs, the last of another notebook; what it says is in ``progress.out``."""
    outputs = toy(
        "notebooks: {01_toy: {runs: [{name: a}, {name: b, value: 2}, {name: c, value: 3}]}, 02_sum: {runs: [{}]}}"
    )
    return load_study().Progress(outputs / "toy" / "events", planning.plan("toy"), io.StringIO())


def tell(progress, *told):
    """Runs tell (number, event, ...), each in its own file, and the user hears of it."""
    for number, event, *about in told:
        about = {"done": {"seconds": 100.0}, "failed": {"message": "no"}, "start": {}}[event]
        events.tell(progress.files[number], event, **about)
    progress.read()


def job_error(number, message=None, log=()):
    """What Snakemake logs when a job of the study ends badly."""
    record = {"event": SimpleNamespace(name="JOB_ERROR"), "rule_name": f"run{number}_01_toy_x", "rule_msg": message}
    return SimpleNamespace(**record, log=["outputs/toy/01_toy/x/notebook.ipynb", *log])


def finish(planned):
    files.write_json(planned.folder / "result.json", {"parameters": {}, "numbers": {}})


def test_time_left_counts_what_each_notebook_takes_and_how_many_run_at_once(progress):
    assert progress.left() == "time left known after the first run"
    finish(progress.planned[0])
    tell(progress, (0, "start"), (0, "done"))
    assert progress.left() == "at least 5:00 left"  # two more of the same notebook, and a guess for the unknown one
    tell(progress, (1, "start"), (2, "start"))
    assert progress.left() == "at least 2:30 left"
    tell(progress, (2, "failed"))
    assert progress.left() == "at least 1:40 left"
    finish(progress.planned[3])
    tell(progress, (3, "start"), (3, "done"))
    assert progress.left() == "about 0:50 left"  # every notebook that is still to come has been seen
    progress.running[1] -= 200
    assert progress.left() == "time left not known"  # the only one left takes longer than others did
    study = load_study()
    assert study.clock(59.6) == "1:00" and study.clock(3723) == "1:02:03"


def test_a_killed_run_is_named_with_its_reason_and_no_longer_counts_as_running(progress, capsys):
    finish(progress.planned[0])
    tell(progress, (0, "start"), (0, "done"), (1, "start"))
    assert progress.heard(SimpleNamespace(levelname="INFO")) and not progress.errors  # any other record
    progress.heard(job_error(1, "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'.", [".snakemake/slurm_logs/x/7.log"]))
    tell(progress)
    assert "KILLED  01_toy/b: SLURM-job '7' failed, SLURM status is: 'TIMEOUT'." in progress.out.getvalue()
    assert not progress.running and progress.left() == "at least 3:20 left"
    tell(progress, (2, "start"))
    assert progress.widest == 1  # else what is left would be shared among runs that are not there
    tell(progress, (1, "start"))  # the second try
    assert set(progress.running) == {1, 2} and not progress.killed
    progress.heard(job_error(1, "SLURM-job '9' failed, SLURM status is: 'OUT_OF_MEMORY'.", [".snakemake/9.log"]))
    tell(progress, (2, "failed"))
    progress.heard(job_error(2))  # it has said so itself
    tell(progress)
    assert set(progress.killed) == {1} and set(progress.failed) == {2}

    progress.planned[1].folder.mkdir(parents=True)
    (progress.planned[1].folder / "notebook.ipynb").write_text("{}")
    load_study().say_missing(progress.planned, progress.planned[1:], progress)
    told = capsys.readouterr().out
    assert "killed   01_toy/b: SLURM-job '9' failed, SLURM status is: 'OUT_OF_MEMORY'. Log: .snakemake/9.log" in told
    assert "notebook.ipynb" in told and "failed   01_toy/c: no" in told and "not run  02_sum/default" in told


def test_a_line_that_a_kill_cut_off_costs_that_line_only(progress):
    cut = progress.files[1]
    tell(progress, (1, "start"))
    with open(cut, "a") as handle:
        handle.write('{"event": "do{"event": "done"}\n')
    tell(progress, (0, "start"), (1, "failed"))
    assert set(progress.running) == {0} and set(progress.failed) == {1}
    with open(cut, "a") as handle:
        handle.write('{"event": "st')
    tell(progress)
    assert [event["event"] for event in events.read(cut)[0]] == ["start", "failed"]

    # a run that has failed by itself is not tried again, and one beside it does not mind
    plan = load_study().write_plan(cut.parent.parent, progress.planned)
    words = [sys.executable, str(ROOT / "workflow" / "run_notebook.py"), str(plan), "1", str(cut.parent)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_outputs_that_were_moved_are_reported_as_before(progress, monkeypatch):
    for planned in progress.planned[:2]:
        finish(planned)
    outputs = progress.planned[0].folder.parents[2]
    plan = load_study().write_plan(outputs / "toy", progress.planned)
    assert str(outputs) not in plan.read_text()
    before = page.read_study("toy")
    moved = outputs.rename(outputs.with_name("elsewhere"))
    monkeypatch.setenv("LDCT_OUTPUTS", str(moved))
    after = page.read_study("toy")
    assert [after[k] for k in ("runs", "finished", "older")] == [before[k] for k in ("runs", "finished", "older")]
    assert (after["runs"], after["finished"], after["older"]) == (4, 2, 0)


def test_braces_in_the_name_of_the_outputs_folder_are_refused_before_anything_runs(toy, tmp_path, monkeypatch, capsys):
    toy("notebooks: {01_toy: {runs: [{name: one}]}}\n")
    monkeypatch.setenv("LDCT_OUTPUTS", str(tmp_path / "out {a}"))
    monkeypatch.setattr(sys, "argv", ["study.py", "toy"])
    assert load_study().main() == 2
    assert "takes braces for wildcards: choose an outputs folder without" in capsys.readouterr().err
    assert not (tmp_path / "out {a}").exists()


def test_what_the_workflow_engine_stumbles_over_reaches_the_terminal(toy, tmp_path):
    log = tmp_path / "snakemake.log"
    log.write_text("old words\n")
    before = log.stat().st_size
    log.write_text("old words\nBuilding DAG\nWildcardError in rule x:\n  No values given for   wildcard 'a'.\n")
    assert load_study().stumbled(log, before) == "WildcardError in rule x: No values given for wildcard 'a'."
    log.write_text("old words\nlocked by another\n")
    assert load_study().stumbled(log, before) == "locked by another"
