"""Search hyper-parameters: trials of one notebook, proposed by a Gaussian process, judged on validation patients.

    python workflow/search.py hpo_small                     # what `make search STUDY=hpo_small` calls
    python workflow/search.py hpo_cnn10 --storage postgresql://user@host/searches

A trial is a run like any other, with its notebook in its run folder. The search itself is a database: the same command
on several machines adds workers, and after a kill it goes on. A worker tells the database that it lives; the trial of
one that has fallen silent is run again with the same values, which continues the training where its state was saved.
"""

import argparse
import math
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import events
import numpy as np
import optuna
import search_space
import sqlalchemy
import study as workflow
import yaml
from optuna.trial import TrialState

from ldct_utils.stats.search import word
from ldct_utils.study import files, identity, machine, parameters, paths, planning, runs

SHOWN_BY = "10_search"
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
optuna.logging.set_verbosity(optuna.logging.ERROR)  # trials are told in this file's own words
RETRIES = 5  # of a trial whose worker, process or kernel was killed
AGAIN = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)


class Failed(Exception):
    """A trial's run ended by itself without a score."""


class Killed(Exception):
    """A trial's run was ended from outside: its kernel or its process died, of lack of memory for example."""


class Sampler(optuna.samplers.BaseSampler):
    """Gaussian process and logarithm of expected improvement, after ``startup`` random trials.

    Seeded by the number of the trial: Optuna's own, started anew in every worker and after every kill, would draw the
    first random trials again. And a trial that failed counts as the worst score so far: Optuna's own does not see it
    and proposes the learning rate that diverged again and again.
    """

    def __init__(self, seed: int, startup: int):
        self.seed, self.startup, self.inner = seed, startup, None

    def before_trial(self, study, trial):
        seed = int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0])
        self.inner = optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=self.startup, warn_independent_sampling=False
        )

    def infer_relative_search_space(self, study, trial):
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        if not search_space:
            return {}
        seen, own = judged(study, trial.number)
        return self.inner.sample_relative(seen, own, search_space)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self.inner.sample_independent(study, trial, param_name, param_distribution)


def judged(study, number: int):
    """The search as the Gaussian process sees it, in memory, and in it the trial ``number`` that asks."""
    trials = study.get_trials(deepcopy=False)
    worst = min(t.value for t in trials if t.state == TrialState.COMPLETE)
    seen = optuna.create_study(direction="maximize")
    for t in trials:
        known = {"params": t.params, "distributions": t.distributions}
        if settled(t):
            seen.add_trial(optuna.create_trial(**known, value=worst if t.value is None else t.value))
        elif t.state == TrialState.RUNNING and t.number != number:
            seen.add_trial(optuna.create_trial(**known, state=TrialState.RUNNING))
    seen.add_trial(optuna.create_trial(state=TrialState.RUNNING))
    return seen, seen.get_trials()[-1]


def say(line: str):
    print(line, flush=True)


def settled(trial) -> bool:
    """Whether a trial has its score, or failed by itself; one whose worker was lost failed without a reason."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and "reason" in trial.user_attrs)


def places(study, trials: int) -> list:
    """The trials that count: of those settled, running or waiting the first ``trials`` by number.

    Numbers are given out one after another by the database, so two workers that asked for the last place at once
    agree on which of them has it.
    """
    kept = [
        t for t in study.get_trials(deepcopy=False) if settled(t) or t.state in (TrialState.RUNNING, TrialState.WAITING)
    ]
    return sorted(kept, key=lambda t: t.number)[:trials]


def open_storage(url: str, grace: int):
    """The database. Raises: ValueError: if it cannot be reached, or the URL's driver is not installed."""
    try:
        shown = sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError as error:
        raise ValueError("the storage must be a database URL such as postgresql://user@host/name") from error
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for left in (2, 1, 0):
        try:
            return optuna.storages.RDBStorage(
                url, options, heartbeat_interval=max(1, grace // 6), grace_period=grace,
                heartbeat_stale_trial_callback=AGAIN,
            )  # fmt: skip
        except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
            raise ValueError(
                f"no driver for {shown}; PostgreSQL's: .venv/bin/uv pip install psycopg2-binary"
            ) from error
        except sqlalchemy.exc.SQLAlchemyError as error:  # among others: another worker is making the same tables
            if not left:
                raise ValueError(f"cannot open {shown}: {str(error).splitlines()[0]}") from error
            time.sleep(2)


def execute(planned: planning.Planned) -> str | None:
    """Run a notebook in a process of its own, which ends with this one. Returns: None, or why it failed.

    Raises: Killed: if it did not end by itself.
    """
    if planned.finished:
        return None
    plan, own = workflow.write_plan(planned.folder, [planned]), events.file_of(planned.folder, planned.folder)
    own.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("run_notebook.py")), str(plan), "0", str(own.parent)]
    with open(planned.folder / "run.log", "w", encoding="utf-8") as log:
        ended = subprocess.run(command, cwd=paths.root(), stdout=log, stderr=subprocess.STDOUT, check=False)
    if planned.finished:
        return None
    told = [event["message"] for event in events.read(own)[0] if event["event"] == "failed"]
    reason = told[-1] if told else f"its process ended with code {ended.returncode}; see run.log in its folder"
    if ended.returncode < 0 or reason.startswith("DeadKernelError"):
        raise Killed(reason)
    return reason


class Worker:
    """Trials until the search is complete, whoever else works on it."""

    def __init__(self, search: search_space.Search, storage):
        self.search, self.storage = search, storage
        self.study = optuna.create_study(
            storage=storage, study_name=f"{search.study}-{search.id}", direction="maximize", load_if_exists=True,
            sampler=Sampler(search.seed, search.startup),
        )  # fmt: skip

    def places(self):
        return places(self.study, self.search.trials)

    def label(self) -> str:
        """Which of the trials has just ended."""
        return f"[{sum(settled(t) for t in self.places()) + 1:>3}/{self.search.trials}]"

    def objective(self, trial) -> float:
        if trial.number not in [
            t.number for t in self.places()
        ]:  # another worker took the last place at the same moment
            raise optuna.TrialPruned
        values = self.search.suggest(trial)
        planned = self.search.planned(values)
        trial.set_user_attr("folder", identity.inside_outputs(planned.folder))
        say("          start   " + ", ".join(f"{name} {word(value)}" for name, value in values.items()))
        try:
            reason = execute(planned)
        except (KeyboardInterrupt, Killed) as stop:
            this = self.study.get_trials()[trial.number]
            before = len(AGAIN.retry_history(this))
            if isinstance(stop, KeyboardInterrupt) or before < RETRIES:
                say(f"          again   {stop or 'interrupted'}")
                AGAIN(self.study, this)  # whoever takes it continues this run
                raise
            reason = f"{stop} (it was stopped {before} times before)"
        if reason is None:
            result = runs.Run(planned.folder).result
            if self.search.metric not in result["numbers"]:
                raise ValueError(f"{planned.notebook} records no {self.search.metric!r}; see run.finish in it")
            value = result["numbers"][self.search.metric]
            if isinstance(value, int | float) and math.isfinite(value):
                trial.set_user_attr("seconds", result["seconds"])
                say(f"{self.label()} done    {self.search.metric} {value:.4f}   ({workflow.clock(result['seconds'])})")
                return value
            reason = f"{self.search.metric} is {value}"
        say(f"{self.label()} FAILED  {reason}")
        trial.set_user_attr("reason", reason)
        raise Failed(reason)

    def work(self):
        """Run what is left, and wait for what others run: a worker of another machine may die."""
        seen, waiting = set(), False
        while True:
            optuna.storages.fail_stale_trials(self.study)
            found = self.places()
            for trial in found:
                # One beat for a trial whose worker died before its first, or it would never be missed.
                if trial.state == TrialState.RUNNING and trial.number not in seen:
                    self.storage.record_heartbeat(trial._trial_id)
                    seen.add(trial.number)
            if len(found) == self.search.trials and all(settled(t) for t in found):
                return
            if len(found) == self.search.trials and not any(t.state == TrialState.WAITING for t in found):
                if not waiting:
                    count = sum(t.state == TrialState.RUNNING for t in found)
                    say(f"waiting for {count} trials that others run, or were running when they were killed")
                waiting = True
                time.sleep(min(5, max(1, self.storage.get_heartbeat_interval())))
                continue
            waiting = False
            self.one()

    def one(self):
        """One trial; nothing is lost if somebody else has taken it over, since both work in the same run folder."""
        try:
            self.study.optimize(self.objective, n_trials=1, catch=(Failed, Killed))
        except ValueError as error:
            if "Cannot tell a" not in str(error):
                raise
            say("the trial was taken over by another worker while this one was silent")

    def export(self) -> tuple[Path, list]:
        """``outputs/<study>/search.json``: all that the database says of the search, and nothing about where it is."""
        found, trials = self.places(), []
        for t in found:
            tried = optuna.storages.RetryHeartbeatStaleTrialCallback.retry_history(t)
            trials.append(
                {
                    "values": t.params,
                    "score": t.value if t.state == TrialState.COMPLETE else None,
                    "reason": t.user_attrs.get("reason"),
                    "folder": t.user_attrs["folder"],
                    "seconds": t.user_attrs.get("seconds"),
                    "began": t.datetime_start.isoformat(timespec="seconds"),
                    "interrupted": len(tried),
                }
            )
        s = self.search
        content = {"search": self.study.study_name, "notebook": s.notebook, "metric": s.metric, "startup": s.startup}
        content |= {"seed": s.seed, "fixed": s.fixed, "space": s.space, "trials": trials}
        path = paths.outputs() / s.study / "search.json"
        if not path.is_file() or files.read_json(path) != files.plain(content):
            files.write_json(path, content)
        return path, trials


def shown(search: search_space.Search, path: Path) -> planning.Planned:
    """The run of the notebook that shows a search."""
    script = parameters.read(paths.notebooks() / f"{SHOWN_BY}.py")
    given = {"study": search.study, "run_name": "search", "search": identity.inside_outputs(path)}
    values = machine.resolve(parameters.check(script, given))
    folder = identity.folder(script, values)
    return planning.Planned(SHOWN_BY, "search", values, folder.name[-8:], folder, ())


def run(study: str, url: str | None, overrides: dict, grace: int) -> bool:
    """Work on a search until it is complete, then show it. Returns: whether a trial has a score."""
    search = search_space.read(study, overrides)
    folder = paths.outputs() / study
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / "search", say=say):
        worker = Worker(search, open_storage(url or f"sqlite:///{folder / 'search.db'}", grace))
    done = sum(settled(t) for t in worker.places())
    say(f"search {worker.study.study_name}: {search.trials} trials of {search.notebook}, {done} finished")
    worker.work()
    path, trials = worker.export()
    listed = [
        replace(search.planned(t["values"]), name=f"trial-{n:02}", folder=paths.outputs() / t["folder"])
        for n, t in enumerate(trials, 1)
    ]
    failed = sum(t["score"] is None for t in trials)
    if failed == len(trials):
        say(f"all {failed} trials failed, the last with: {trials[-1]['reason']}")
        return False
    best = max((t for t in trials if t["score"] is not None), key=lambda t: t["score"])
    say(f"best {search.metric} {best['score']:.4f} with {best['values']} in {best['folder']}; {failed} trials failed")
    figures = shown(search, path)
    try:
        reason = execute(figures)
    except Killed as stop:
        reason = str(stop)
    if reason:
        raise ValueError(f"{SHOWN_BY} failed: {reason}; see {paths.short(figures.folder / 'notebook.ipynb')}")
    workflow.write_plan(folder, [*listed, figures])  # what the report shows of this study
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", help="name of a file in params/ with a part `search`, without .yaml")
    parser.add_argument(
        "--storage", default=os.environ.get("LDCT_SEARCH_STORAGE") or None, metavar="URL",
        help="database that workers share, e.g. postgresql://user@host/name; SQLite in outputs/<study>/ without it",
    )  # fmt: skip
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="wins over the study file")
    parser.add_argument("--grace", type=int, default=60, help="seconds of silence after which a worker counts as lost")
    given = parser.parse_args()
    try:
        overrides = {k: yaml.safe_load(v) for k, v in (word.split("=", 1) for word in given.set)}
        study = given.study.removeprefix("params/").removesuffix(".yaml")
        found = run(study, given.storage, overrides, given.grace)
        from ldct_utils.report import page

        say(f"report: {paths.short(page.write())}")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
