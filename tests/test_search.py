"""A search of hyper-parameters: what is refused, the budget kept by many workers and over kills, and what is left.

Most tests put a function in the place of the training, so that a trial takes no time; all around it is real.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import jupytext
import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import ROOT, TRACED
from notebook_cells import execute

from ldct_utils import report
from ldct_utils.report.drawings import search as drawings
from ldct_utils.stats import search as searches
from ldct_utils.study import planning

sys.path.insert(0, str(ROOT / "workflow"))

import search
import search_space

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
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
from ldct_utils.study import runs

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


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that writes a search of a toy notebook into a root of its own and returns the root."""
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    monkeypatch.delenv("LDCT_OUTPUTS", raising=False)
    monkeypatch.delenv(TRACED, raising=False)
    for folder in ("notebooks", "params"):
        (tmp_path / folder).mkdir()
    (tmp_path / "notebooks" / "01_toy.py").write_text(TOY)

    def write(text: str = STUDY) -> Path:
        (tmp_path / "params" / "toy.yaml").write_text(text)
        return tmp_path

    return write


def start(seconds: float):
    """A worker in a process of its own, a copy of this one, whose training is a sleep.

    It leaves its values as the run would, and fails where the learning rate is high.
    """

    def train(planned):
        if planned.notebook == "10_search":
            return None
        planned.folder.mkdir(parents=True, exist_ok=True)
        with open(planned.folder / "workers.txt", "a") as log:
            log.write(f"{os.getpid()}\n")
        if planned.params["lr"] > 0.1:
            return "FloatingPointError: mse has diverged"
        (planned.folder / "asleep.txt").write_text(str(os.getpid()))
        time.sleep(seconds)
        result = {"numbers": {"val_score": 1 - abs(planned.params["lr"] - 1e-3)}, "seconds": 0.1}
        (planned.folder / "result.json").write_text(json.dumps(result))

    def work():
        search.execute = train
        search.shown = lambda s, path: planning.Planned("10_search", "search", {}, "0" * 8, path.parent, ())
        sys.exit(0 if search.run("toy", None, {}, grace=3) else 1)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def test_workers_share_the_budget_and_a_killed_ones_trial_is_run_again_with_the_same_values(toy):
    root = toy()
    folder = root / "outputs" / "toy"
    first = start(600)  # killed long before
    end = time.time() + 300
    # the trial that sleeps, and has written so whole; those before it diverged at once
    while str(first.pid) not in [p.read_text() for p in folder.rglob("asleep.txt")]:
        assert time.time() < end and first.is_alive(), "no trial began"
        time.sleep(0.1)
    first.kill()
    first.join()
    both = [start(0.2) for _ in range(2)]
    for process in both:
        process.join(600)
    assert [p.exitcode for p in both] == [0, 0] and first.exitcode == -signal.SIGKILL

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

    # a further worker finds nothing to do and writes nothing
    stamp = (folder / "search.json").stat().st_mtime_ns
    worker = search.Worker(search_space.read("toy"), search.open_storage(f"sqlite:///{folder / 'search.db'}", 3))
    worker.work()
    assert worker.export()[1] == left and (folder / "search.json").stat().st_mtime_ns == stamp


@pytest.fixture
def trained(monkeypatch):
    """Puts a sum in the place of the training: a score that is best at lr = 1e-3 and grows with steps."""

    def train(planned):
        if planned.params["lr"] > 0.1:
            return "FloatingPointError: mse has diverged"
        score = -abs(np.log10(planned.params["lr"]) + 3) + planned.params["steps"] / 1000
        planned.folder.mkdir(parents=True, exist_ok=True)
        result = {"numbers": {"val_score": score}, "seconds": 0.1}
        (planned.folder / "result.json").write_text(json.dumps(result))

    monkeypatch.setattr(search, "execute", train)


def work(root: Path, trials: int, startup: int, name: str = "search.db") -> tuple[search.Worker, list]:
    """A worker of this process on the toy search, done, and its trials' values."""
    text = STUDY.replace("trials: 6", f"trials: {trials}").replace("startup: 9", f"startup: {startup}")
    (root / "params" / "toy.yaml").write_text(text)
    (root / "outputs" / "toy").mkdir(parents=True, exist_ok=True)
    storage = search.open_storage(f"sqlite:///{root / 'outputs' / 'toy' / name}", 60)
    worker = search.Worker(search_space.read("toy"), storage)
    worker.work()
    return worker, [t["values"] for t in worker.export()[1]]


def test_the_proposals_depend_on_the_seed_alone_and_a_worker_that_starts_again_repeats_none(toy, trained):
    root = toy()
    whole = work(root, 8, 4, "whole.db")[1]
    assert work(root, 3, 4, "parts.db")[1] == whole[:3]
    worker, parts = work(root, 8, 4, "parts.db")  # a new worker on the three that are there, its sampler new too
    assert parts == whole
    assert len({one["lr"] for one in whole}) == 8
    assert all(isinstance(one["steps"], int) and 1 <= one["steps"] <= 100 for one in whole)
    states = [t.state for t in worker.study.get_trials()]
    assert states.count(optuna.trial.TrialState.COMPLETE) == sum(one["lr"] <= 0.1 for one in whole)
    # a Gaussian process at work: it goes where scores are good, and not again where a trial diverged
    away = [abs(np.log10(one["lr"]) + 3) for one in whole]
    assert np.median(away[4:]) < np.median(away[:4])
    assert any(one["lr"] > 0.1 for one in whole[:4]) and all(one["lr"] <= 0.1 for one in whole[4:])


def test_of_two_that_ask_for_the_last_place_the_lower_number_has_it(toy, trained):
    root = toy()
    worker, _ = work(root, 6, 9)
    late = worker.study.ask()
    with pytest.raises(optuna.TrialPruned):
        worker.objective(late)
    assert late.number not in [t.number for t in worker.places()] and len(worker.places()) == 6


def test_a_running_trial_whose_worker_died_before_its_first_beat_is_missed_too(toy, trained):
    root = toy()
    (root / "outputs" / "toy").mkdir(parents=True)
    storage = search.open_storage(f"sqlite:///{root / 'outputs' / 'toy' / 'search.db'}", 2)
    worker = search.Worker(search_space.read("toy"), storage)
    worker.study.ask()  # running from now on, by nobody
    worker.work()
    assert len(worker.places()) == 6 and all(search.settled(t) for t in worker.places())
    assert 0 not in [t.number for t in worker.places()]


def test_a_trial_is_a_run_of_the_notebook_and_its_own_failure_is_a_reason(toy):
    root = toy()
    text = jupytext.reads(TOY, "py:percent")
    jupytext.write(text, root / "notebooks" / "01_toy.ipynb")
    toy_search = search_space.read("toy")
    bad = toy_search.planned({"lr": 0.75, "steps": 4, "rates.0": 0.5, "about.b": 0.75})
    assert bad.params["rates"] == [0.5, 0.999] and bad.params["about"] == {"a": 1, "b": 0.75}
    assert search.execute(bad) == "AssertionError: diverged"
    assert "diverged" in (bad.folder / "notebook.ipynb").read_text()
    (bad.folder / "result.json").write_text("{}")
    assert search.execute(bad) is None  # a run that has finished is not run again


DIES = """
import os, signal, time
from pathlib import Path

tries = Path("tries.txt")
tries.write_text((tries.read_text() if tries.is_file() else "") + "x")
if len(tries.read_text()) < 3:  # the kernel kills first itself, then the process that runs the notebook
    os.kill((os.getpid(), os.getppid())[len(tries.read_text()) - 1], signal.SIGKILL)
    time.sleep(60)  # it ends as soon as it misses that process
"""


def test_a_trial_whose_kernel_or_process_is_killed_is_run_again_and_not_spent(toy, capsys):
    root = toy()
    source = TOY.replace('assert lr < 0.5, "diverged"', DIES)
    (root / "notebooks" / "01_toy.py").write_text(source)
    jupytext.write(jupytext.reads(source, "py:percent"), root / "notebooks" / "01_toy.ipynb")
    worker, values = work(root, 1, 9)
    (trial,) = worker.export()[1]
    assert trial["reason"] is None and trial["interrupted"] == 2
    assert (root / "tries.txt").read_text() == "xxx"
    assert trial["score"] == pytest.approx(
        -values[0]["lr"] * values[0]["steps"] + values[0]["rates.0"] + values[0]["about.b"]
    )
    said = capsys.readouterr().out
    assert "again   DeadKernelError" in said and "again   its process ended with code -9" in said
    assert "FAILED" not in said


def test_a_trial_that_is_killed_every_time_fails_in_the_end(toy, monkeypatch):
    root, tried = toy(), []

    def train(planned):
        tried.append(planned.folder)
        raise search.Killed("DeadKernelError: Kernel died")

    monkeypatch.setattr(search, "execute", train)
    worker, _ = work(root, 1, 9)
    (trial,) = worker.export()[1]
    assert trial["score"] is None and trial["reason"].startswith("DeadKernelError: Kernel died (it was stopped 5 times")
    assert len(tried) == 6 and len(set(tried)) == 1


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("lr: {low: 1e-5", "lrr: {low: 1e-5", "no parameter 'lrr'; did you mean 'lr'?"),
        ("rates.0", "rates.2", "rates has the places 0 to 1"),
        ("rates.0", "steps.0", "steps is int, and only a dict or a list has parts"),
        ("high: 100, int: true", "high: 100", "parameter steps must be int, got 1.0"),
        ("high: 100, int: true", "high: 9.5, int: true", "must be whole numbers"),
        ("low: 1e-5", "low: 0", "above 0"),
        ("low: 0.3", "low: 0.95", "low must be below high"),
        ("low: 0.3", "lowest: 0.3", "needs a prior"),
        ("val_score", "score", "must be a validation score"),
        ("val_score", "interval_score", "must be a validation score"),
        ("val_score", "val_rmse_hu", "val_rmse_hu is better small or no score"),
        ("val_score", "best_val_score_step", "best_val_score_step is better small or no score"),
        ("val_score", "val_psnr", "run.finish of 01_toy has no number 'val_psnr'; did you mean 'val_score'?"),
        ("trials: 6", "trials: 0", "search.trials must be a positive whole number"),
        ("trials: 6", "trails: 6", "got trails"),
        ("01_toy: {defaults: {about: {a: 1}}}", "01_toy: {matrix: {lr: [1, 2]}}", "lists 2 runs; a search varies one"),
    ],
)
def test_a_mistake_in_a_search_file_is_refused_before_anything_runs(toy, old, new, complaint, monkeypatch, capsys):
    assert old in STUDY
    toy(STUDY.replace(old, new))
    monkeypatch.setattr(sys, "argv", ["search.py", "toy"])
    assert search.main() == 2
    assert complaint in capsys.readouterr().err


def test_a_password_is_not_told_where_a_database_cannot_be_opened():
    with pytest.raises(ValueError, match="no driver for postgresql") as told:
        search.open_storage("postgresql+asyncfoo://me:secret@host/name", 60)
    assert "secret" not in str(told.value)


def test_the_study_command_refuses_a_search_and_names_the_right_one(toy, monkeypatch):
    toy()
    with pytest.raises(ValueError, match="make search STUDY=toy"):
        search.workflow.run("toy", "local", {})


@pytest.mark.parametrize("network", PUBLISHED)
def test_every_published_method_has_the_same_budget_and_the_published_priors(network):
    found = search_space.read(f"hpo_{network}")
    assert (found.trials, found.startup, found.metric) == (50, 10, "val_ssim")
    wanted = {"lr": (1e-5, 1e-2, True), "max_steps": (1000, 100000, False), "batch": (2, 128, False)}
    if network != "transct":
        wanted["patch_size"] = (33 if network == "dugan" else 32, 128, False)  # its critics need 33
    if network in ("wganvgg", "dugan"):
        wanted |= {"betas.0": (0.3, 0.9, False), "method_settings.n_d": (1, 5, False)}
    wanted |= {
        "wganvgg": {"method_settings.lam_perc": (0, 1, False)},
        "dugan": {
            "method_settings.cutmix_warmup": (0, 10000, False), "method_settings.lam_adv": (0, 1, False),
            "method_settings.lam_cutmix": (0, 10, False), "method_settings.lam_px_grad": (0, 40, False),
        },
        "bilateral": {
            "method_settings.lr_r": (1e-5, 1e-2, True), "settings.sigma_r": (0.01, 1, False),
            "settings.sigma_xyz": (0.01, 1, False),
        },
    }.get(network, {})  # fmt: skip
    assert {n: (p["low"], p["high"], p["log"]) for n, p in found.space.items()} == wanted
    assert found.fixed["network"] == network
    # the same data and the same fixed settings as where the published optima are trained
    benchmark = planning.read_study("ldct_benchmark")
    same = ("normalise", "sampling", "warmup", "eval_every", "val_slices")
    assert {k: found.fixed[k] for k in same} == {k: benchmark["notebooks"]["03_train"]["defaults"][k] for k in same}


def test_the_notebook_shows_history_importance_and_the_best_trial(outputs, monkeypatch):
    """From a search of eight trials, one of which failed; its runs are on another machine."""
    space = {"lr": {"low": 1e-5, "high": 1e-2, "log": True, "int": False}}
    space["batch"] = {"low": 2, "high": 16, "log": False, "int": True}
    rng, trials = np.random.default_rng(0), []
    for number in range(8):
        values = {"lr": float(10 ** rng.uniform(-5, -2)), "batch": int(rng.integers(2, 17))}
        score = None if number == 2 else 0.9 - 0.1 * abs(np.log10(values["lr"]) + 3)
        about = {"reason": None if score else "FloatingPointError: diverged", "seconds": 3.0, "interrupted": 0}
        trials.append({"values": values, "score": score, "folder": f"hpo_toy/03_train/lr-{number:08x}"} | about)
    told = {"search": "hpo_toy-00000000", "notebook": "03_train", "metric": "val_ssim", "startup": 4, "seed": 0,
            "fixed": {"network": "cnn10"}, "space": space, "trials": trials}  # fmt: skip
    (outputs / "hpo_toy").mkdir()
    (outputs / "hpo_toy" / "search.json").write_text(json.dumps(told))
    said = []
    monkeypatch.setattr(report, "text", said.append)
    execute(ROOT / "notebooks" / "10_search.py", {"study": "test", "search": "hpo_toy/search.json"})
    (folder,) = (outputs / "test" / "10_search").glob("*/")
    numbers = json.loads((folder / "result.json").read_text())["numbers"]
    best = max((t for t in trials if t["score"]), key=lambda t: t["score"])
    assert numbers["best"] == best["values"] and numbers["failed"] == 1 and numbers["trials"] == 8
    assert numbers["importance"]["lr"] > numbers["importance"]["batch"]  # the score was made of lr alone
    assert {"history", "slices", "importance"} <= {p.stem for p in folder.glob("*.png")}
    kept = pd.read_parquet(folder / "trials.parquet")
    assert kept.failed.tolist().count("FloatingPointError: diverged") == 1
    assert any("on another machine" in text for text in said)


KINDS = TOY.replace("steps: int", 'kind: str = "l1"\nsteps: int').replace("-lr", "len(kind) - lr")
MIXED = STUDY.replace(
    "    steps: {low: 1, high: 100, int: true}", "    kind: {choices: [l1, mse, vgg]}\n    steps: {choices: [8, 64]}"
)


def test_a_search_over_choices_and_numbers_finds_the_best_that_is_known(toy, monkeypatch):
    """Best is kind mse with 64 steps at lr 1e-3; kinds and steps have no order, and lr is best where kind says."""
    root, tried = toy(MIXED.replace("trials: 6", "trials: 24").replace("startup: 9", "startup: 8")), []
    (root / "notebooks" / "01_toy.py").write_text(KINDS)

    def train(planned):
        given = planned.params
        tried.append((given["kind"], given["steps"]))
        score = {"l1": 0.2, "mse": 1.0, "vgg": 0.0}[given["kind"]] + 0.5 * (given["steps"] == 64)
        planned.folder.mkdir(parents=True, exist_ok=True)
        result = {"numbers": {"val_score": score - 0.2 * abs(np.log10(given["lr"]) + 3)}, "seconds": 0.1}
        (planned.folder / "result.json").write_text(json.dumps(result))

    monkeypatch.setattr(search, "execute", train)
    (root / "outputs" / "toy").mkdir(parents=True)
    worker = search.Worker(search_space.read("toy"), search.open_storage(f"sqlite:///{root / 'outputs/toy/a.db'}", 60))
    worker.work()
    told = {"space": worker.search.space, "metric": "val_score", "trials": worker.export()[1]}
    table = searches.trials(told)
    best = table.loc[table["val_score"].idxmax()]
    assert (best["kind"], best["steps"]) == ("mse", 64) and abs(np.log10(best["lr"]) + 3) < 0.5
    late = tried[8:]
    assert late.count(("mse", 64)) > len(late) / 2 and len(set(tried[:8])) > 3, "the proposals go where it is good"
    assert set(searches.importance(told)["parameter"]) == set(told["space"])
    assert all(searches.within(prior, table[name]) for name, prior in told["space"].items())
    assert "kind" not in searches.at_edge(told["space"], best)
    words = searches.values(told["space"], best).set_index("parameter")
    assert tuple(words.loc["kind"]) == ("mse", "l1 | mse | vgg") and words.loc["steps", "value"] == "64"
    figure = drawings.over_parameters(table, "val_score", told["space"], best, "score")
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "kind"]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["l1", "mse", "vgg"]


def test_a_choice_that_decides_everything_is_most_important():
    rng, trials = np.random.default_rng(0), []
    space = {"lr": {"low": 1e-5, "high": 1e-2, "log": True, "int": False}, "kind": {"choices": ["l1", "mse", None]}}
    for _ in range(60):
        values = {"lr": float(10 ** rng.uniform(-5, -2)), "kind": [None, "l1", "mse"][rng.integers(3)]}
        trials.append({"values": values, "score": 1.0 * (values["kind"] == "mse") + 0.01 * rng.normal()})
    shares = searches.importance({"space": space, "trials": trials}).set_index("parameter")["share"]
    assert shares["kind"] > 0.7


@pytest.mark.parametrize(
    ("prior", "complaint"),
    [
        ("{choices: [l1]}", "choices are two or more different words"),
        ("{choices: [l1, l1]}", "choices are two or more different words"),
        ("{choices: [l1, mse], low: 1}", "without low and high"),
        ("{choices: l1}", "choices are two or more different words"),
        ("{choices: [l1, [mse]]}", "choices are two or more different words"),
        ("{choices: [l1, 3]}", "kind"),  # a number where the notebook takes a word
    ],
)
def test_choices_that_are_none_are_refused(toy, prior, complaint):
    root = toy(MIXED.replace("{choices: [l1, mse, vgg]}", prior))
    (root / "notebooks" / "01_toy.py").write_text(KINDS)
    with pytest.raises(ValueError, match=complaint):
        search_space.read("toy")


def test_loss_layer_and_batch_are_choices_of_a_training_and_an_unknown_loss_is_refused(monkeypatch):
    content = planning.read_study("hpo_small")
    content["search"]["space"] |= {
        "loss": {"choices": ["mse", "vgg", "mse + 0.1*l1"]}, "batch": {"choices": [4, 8]},
        "layer": {"choices": ["block3_conv2", "block5_conv4"]},
    }  # fmt: skip
    monkeypatch.setattr(planning, "read_study", lambda study: content)
    found = search_space.read("hpo_small")
    fixed = optuna.trial.FixedTrial(
        {"lr": 1e-3, "max_steps": 50, "patch_size": 32, "batch": 8, "loss": "vgg", "layer": "block5_conv4"}
    )
    params = found.planned(found.suggest(fixed)).params
    assert (params["loss"], params["layer"], params["batch"]) == ("vgg", "block5_conv4", 8)
    content["search"]["space"]["loss"] = {"choices": ["mse", "l7"]}
    with pytest.raises(ValueError, match="loss 'l7' has no term 'l7'"):
        search_space.read("hpo_small")


def test_a_best_value_at_an_end_of_its_prior_is_named_on_the_scale_of_the_prior():
    space = {"lr": {"low": 1e-5, "high": 1e-1, "log": True}, "depth": {"low": 1, "high": 9, "log": False}}
    assert searches.at_edge(space, {"lr": 1e-3, "depth": 5}) == []
    assert searches.at_edge(space, {"lr": 1.1e-5, "depth": 9}) == ["lr", "depth"]
    assert searches.at_edge(space, {"lr": 2e-3, "depth": 8.5}) == []


def test_trials_without_any_score_are_refused_with_the_reason_of_the_last():
    one = {"values": {"lr": 1e-3}, "score": None, "seconds": 1.0, "folder": "x", "interrupted": 0}
    told = {"metric": "val_ssim", "trials": [one | {"reason": "diverged"}, one | {"reason": "killed"}]}
    with pytest.raises(ValueError, match="no trial has a score, of 2; the last failed with: killed"):
        searches.trials(told)
    told["trials"].append(one | {"score": 0.5, "reason": None})
    found = searches.trials(told)
    assert found.trial.tolist() == [1, 2, 3] and found.failed.tolist() == ["diverged", "killed", ""]
    assert found.best.isna().tolist() == [True, True, False]
