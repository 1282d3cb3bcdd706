"""Run a study: plan it, hand the runs that are missing to Snakemake, show progress, write the report.

    python workflow/study.py default                      # what `make study` calls
    python workflow/study.py default --profile slurm --set device=cuda

What is already finished is found by its identity, not by file times, so calling this again after anything (an error, a
kill, a power cut) does what is left and nothing else. Snakemake's own words go to ``outputs/<study>/snakemake.log``.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import events
import quick_start
import yaml

from ldct_utils.study import files, identity, paths, planning

HERE = Path(__file__).resolve().parent
SAYING = 1 << 16  # bytes of free space below which a run may be unable to say why it ended


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:03:09."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def write_plan(folder: Path, planned: list) -> Path:
    """Write the plan where Snakemake, every job and the report read it, so that all of them mean the same folders.

    A compute node may resolve ``auto`` otherwise than the node that planned; the resolved values therefore travel.
    Folders are relative to ``outputs/``, which can be copied to another computer with its plan.
    """
    runs = [
        {
            "notebook": p.notebook,
            "name": p.name,
            "params": p.params,
            "folder": identity.inside_outputs(p.folder),
            "upstream": [identity.inside_outputs(folder) for folder in p.upstream],
            "finished": p.finished,
        }
        for p in planned
    ]
    path = folder / "plan.json"
    files.write_json(path, runs)
    return path


def ended_from_outside(began) -> str:
    """Why a run may have ended without a word: it had no space left to say so, or something killed it."""
    if shutil.disk_usage(paths.outputs()).free < SAYING:
        return files.no_space(paths.outputs())
    return f"its process was ended from outside (out of memory?) {'' if began else 'before it began'}"


class Progress(threading.Thread):
    """Follows what every run tells as it starts and ends, and what Snakemake sees of those that cannot; tells the user.

    ``failed`` are runs that ended by themselves with an error, ``killed`` those that something else ended (out of time,
    out of memory, a lost node), each with the reason.
    """

    def __init__(self, folder: Path, planned: list, out, every: float = 60.0):
        super().__init__(daemon=True)
        self.planned, self.out, self.every = planned, out, every
        self.files = [events.file_of(folder, p.folder) for p in planned]
        self.place = [0] * len(planned)
        self.began = self.spoke = time.time()
        self.done = {index for index, p in enumerate(planned) if p.finished}
        self.running: dict[int, float] = {}
        self.seconds: dict[str, list[float]] = {}
        self.failed: dict[int, str] = {}
        self.killed: dict[int, str] = {}
        self.errors: deque = deque()  # Snakemake's records of jobs that ended badly, as yet unread
        self.widest, self.ended = 1, threading.Event()

    def label(self, index: int) -> str:
        return f"{self.planned[index].notebook}/{self.planned[index].name}"

    def say(self, line: str):
        print(line, file=self.out, flush=True)
        self.spoke = time.time()

    def left(self) -> str:
        """Time left: mean duration of the same notebook's runs so far, shared among the runs that go at once.

        A lower bound, and it says so, where a notebook has no finished run yet or a run outlasts its notebook's mean.
        """
        known = [s for values in self.seconds.values() for s in values]
        if not known:
            return "time left known after the first run"
        total, bound = 0.0, False
        for index, run in enumerate(self.planned):
            if index in {*self.failed, *self.killed} or run.finished:
                continue
            expected = statistics.mean(self.seconds.get(run.notebook, known))
            rest = expected - (time.time() - self.running[index] if index in self.running else 0)
            bound |= run.notebook not in self.seconds or rest < 0
            total += max(rest, 1)
        if bound and total < 30:
            return "time left not known"
        return f"{'at least' if bound else 'about'} {clock(total / self.widest)} left"

    def read(self):
        """Take in what was told since the last call."""
        # First of all, since a job that Snakemake has seen end has told all that it had to tell.
        errors = [self.errors.popleft() for _ in range(len(self.errors))]
        for index, file in enumerate(self.files):
            if index not in self.done:
                told, self.place[index] = events.read(file, self.place[index])
                for event in told:
                    self.take(index, event)
        for record in errors:
            self.missed(record)
        self.widest = max(self.widest, len(self.running))

    def take(self, index: int, event: dict):
        now = time.time()
        if event["event"] == "start":
            self.running[index] = now
            self.killed.pop(index, None)  # a second try
            self.say(f"         start   {self.label(index)}")
            return
        self.running.pop(index, None)
        count, elapsed = len(self.planned), clock(now - self.began)
        if event["event"] == "done":
            self.done.add(index)
            self.seconds.setdefault(self.planned[index].notebook, []).append(event["seconds"])
            head = f"[{len(self.done):>3}/{count}] done    {self.label(index)}  {clock(event['seconds'])}"
            self.say(f"{head}   (elapsed {elapsed}, {self.left() if len(self.done) < count else 'all done'})")
        else:
            self.failed[index] = event["message"]
            self.say(f"         FAILED  {self.label(index)}: {event['message']}")

    def heard(self, record) -> bool:
        """A filter of Snakemake's log that lets all pass, and keeps the jobs that ended badly for the next ``read``."""
        if getattr(getattr(record, "event", None), "name", "") == "JOB_ERROR":
            self.errors.append(record)
        return True

    def missed(self, record):
        """A job has ended badly: unless its run has said so itself, it was killed."""
        rule = re.match(r"run(\d+)_", record.rule_name)
        index = int(rule[1]) if rule else None
        if index is None or index in self.done or index in self.failed:
            return
        began = self.running.pop(index, None)
        logs = [log for log in record.log if log and not log.endswith("notebook.ipynb")]
        reason = (record.rule_msg or "").partition("For further")[0]  # a job on a cluster has one, and a log
        reason = reason or ended_from_outside(began)
        self.killed[index] = " ".join([reason.strip(), *(f"Log: {paths.short(log)}" for log in logs)])
        self.say(f"         KILLED  {self.label(index)}: {self.killed[index]}")

    def run(self):
        while not self.ended.wait(0.5):
            self.read()
            if self.running and time.time() - self.spoke > self.every:
                now = ", ".join(f"{self.label(i)} for {clock(time.time() - t)}" for i, t in self.running.items())
                self.say(f"         running {now}   (elapsed {clock(time.time() - self.began)}, {self.left()})")
        self.read()
        self.killed |= dict.fromkeys(self.running, "it was stopped before it had ended")


@contextlib.contextmanager
def into(log: Path):
    """Send this process's standard output and error, and those of its children, to ``log``; yield the old output."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(log, "ab") as handle, os.fdopen(os.dup(kept[0]), "w", encoding="utf-8") as out:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
        try:
            yield out
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept):
                os.dup2(old, number)
                os.close(old)


def snakemake(arguments: list[str], heard) -> bool:
    """Run Snakemake in this process, so that there is one thing to kill and nothing to orphan.

    Args: heard: called with every record of Snakemake's log.
    """
    from snakemake.cli import main  # imported here: a study with nothing to do need not wait for it
    from snakemake.logging import logger

    logger.addFilter(heard)  # it clears its logger's handlers as it starts, and leaves the filters
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code in (0, None)
    return True


def run(study: str, profile: str, overrides: dict) -> bool:
    """Run what is missing of a study. Returns: whether every run of it is finished now."""
    where, folder = HERE / "profiles" / profile, paths.outputs() / study
    if re.search("[{}]", str(folder)):
        raise ValueError(
            f"the workflow engine takes braces for wildcards: choose an outputs folder without, not {folder}"
        )
    if not (where / "config.yaml").is_file():
        known = ", ".join(sorted(p.name for p in where.parent.iterdir()))
        raise FileNotFoundError(f"no profile {profile!r}; known: {known}")
    if "search" in planning.read_study(study):
        raise ValueError(f"params/{study}.yaml describes a search: make search STUDY={study}")
    planned = planning.plan(study, overrides)
    # One `make study` at a time per study. The system frees this lock when its holder dies, which Snakemake's own lock
    # files do not; hence --nolock. An output is a result.json that was renamed into place, so it is never incomplete.
    with files.locked(folder / "study", say=lambda line: print(line, flush=True)):
        missing = [p for p in planned if not p.finished]
        print(f"study {study}: {len(planned)} runs, {len(planned) - len(missing)} finished", flush=True)
        say_left_out(study)
        plan, told = write_plan(folder, planned), folder / "events"
        for old in told.glob("*.jsonl"):
            old.unlink(missing_ok=True)
        show_again(plan, planned, told)
        if not missing:
            return True
        arguments = ["--snakefile", str(HERE / "Snakefile"), "--directory", str(paths.root())]
        arguments += ["--profile", str(where), "--nolock", "--ignore-incomplete"]
        arguments += ["--config", f"plan={plan}", f"events={told}"]
        log = folder / "snakemake.log"
        before = log.stat().st_size if log.is_file() else 0
        with into(log) as out:
            progress = Progress(told, planned, out)
            progress.start()
            try:
                snakemake(arguments, progress.heard)
            finally:
                progress.ended.set()
                progress.join()
    still = [p for p in planned if not p.finished]
    if still:
        say_missing(planned, still, progress)
        if not progress.failed and not progress.killed:
            print(f"No run was begun. The workflow engine says: {stumbled(log, before)}")
        print(f"Snakemake's log: {paths.short(folder / 'snakemake.log')}. The same command again does what is left.")
    return not still


def cut_short(notebook: Path) -> bool:
    """Whether a kill or a full disk ended the writing of an executed notebook; one that is not there is not."""
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["papermill"]["end_time"] is None
    except (FileNotFoundError, KeyError):  # not there, or executed by something else
        return False
    except ValueError:
        return True


def show_again(plan: Path, planned: list, told: Path):
    """Execute finished runs whose notebooks were cut short: they show what they stored, and compute nothing."""
    for number, p in enumerate(planned):
        if p.finished and cut_short(p.folder / "notebook.ipynb"):
            print(f"         again   {p.notebook}/{p.name}: its notebook was cut short", flush=True)
            subprocess.run(
                [sys.executable, HERE / "run_notebook.py", plan, str(number), told], cwd=paths.root(), check=False
            )


def stumbled(log: Path, before: int) -> str:
    """What the workflow engine complained about in the part of its log that begins at a byte, in one line."""
    text = log.read_bytes()[before:].decode("utf-8", "replace")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    at = [number for number, line in enumerate(lines) if re.match(r"\w*(Error|Exception)\b", line)]
    return " ".join(lines[at[-1] : at[-1] + 4] if at else lines[-3:]) or "nothing"


def say_missing(planned: list, still: list, progress: Progress):
    """Name the runs that failed or were killed, with their notebooks, and those that could not start for it."""
    print(f"\n{len(still)} of {len(planned)} runs are not finished:")
    for index, p in enumerate(planned):
        if p not in still:
            continue
        how, reasons = ("failed", progress.failed) if index in progress.failed else ("killed", progress.killed)
        if index in reasons:
            print(f"  {how}   {p.notebook}/{p.name}: {reasons[index]}")
            if (p.folder / "notebook.ipynb").is_file():
                print(f"           see {paths.short(p.folder / 'notebook.ipynb')}")
        else:
            held = [q.name for q in still if q.folder in p.upstream]
            print(f"  not run  {p.notebook}/{p.name}" + (f" (waits for {', '.join(held)})" if held else ""))


def show_plan(study: str, overrides: dict):
    for p in planning.plan(study, overrides):
        print(f"{'finished' if p.finished else 'missing ':8}  {p.notebook:28} {p.name:32} {paths.short(p.folder)}")
    say_left_out(study)


def say_left_out(study: str):
    """A line for each variable of the environment that runs of the study need and that is not set."""
    for variable, names in planning.left_out(study).items():
        print(f"{variable} is not set: {len(names)} run{'s' * (len(names) > 1)} left out, {names[0]} the first")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", nargs="?", default="default", help="name of a file in params/, without .yaml")
    parser.add_argument("--profile", default="local", help="a folder of workflow/profiles: local or slurm")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="wins over the study file")
    parser.add_argument("--plan", action="store_true", help="list the runs and stop")
    parser.add_argument("--report", action="store_true", help="write the report and stop")
    given = parser.parse_args()
    study = given.study.removeprefix("params/").removesuffix(".yaml")
    try:
        overrides = dict(word.split("=", 1) for word in given.set)
        overrides = {k: yaml.safe_load(v) for k, v in overrides.items()}
        if given.plan:
            show_plan(study, overrides)
            return 0
        complete = given.report or run(study, given.profile, overrides)
        quick_start.without_web_address_grammar()
        from ldct_utils.report import page

        print(f"report: {paths.short(page.write())}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
