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
import statistics
import sys
import threading
import time
from pathlib import Path

import yaml

from ldct_utils import files, paths, studies

HERE = Path(__file__).resolve().parent


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:03:09."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def write_plan(folder: Path, planned: list) -> Path:
    """Write the plan where Snakemake and every job read it, so that all of them mean the same folders.

    A compute node may resolve ``auto`` otherwise than the node that planned; the resolved values therefore travel.
    """
    runs = [
        {
            "notebook": p.notebook,
            "name": p.name,
            "params": p.params,
            "folder": str(p.folder),
            "upstream": [str(folder) for folder in p.upstream],
            "finished": p.finished,
        }
        for p in planned
    ]
    path = folder / "plan.json"
    files.write_json(path, runs)
    return path


class Progress(threading.Thread):
    """Follows ``events.jsonl``, to which every run adds a line as it starts and ends, and tells the user."""

    def __init__(self, path: Path, planned: list, out, every: float = 60.0):
        super().__init__(daemon=True)
        self.path, self.planned, self.out, self.every = path, planned, out, every
        self.began = self.spoke = time.time()
        self.done = sum(p.finished for p in planned)
        self.running: dict[int, float] = {}
        self.seconds: dict[str, list[float]] = {}
        self.failed: dict[int, str] = {}
        self.widest, self.ended, self.place = 1, threading.Event(), 0

    def label(self, index: int) -> str:
        return f"{self.planned[index].notebook}/{self.planned[index].name}"

    def say(self, line: str):
        print(line, file=self.out, flush=True)
        self.spoke = time.time()

    def left(self) -> str:
        """Time left: mean duration of the same notebook's runs so far, shared among the runs that go at once."""
        known = [s for values in self.seconds.values() for s in values]
        if not known:
            return "time left known after the first run"
        total = 0.0
        for index, run in enumerate(self.planned):
            if index in self.failed or run.finished:
                continue
            expected = statistics.mean(self.seconds.get(run.notebook, known))
            total += max(expected - (time.time() - self.running[index] if index in self.running else 0), 1)
        return f"about {clock(total / self.widest)} left"

    def read(self):
        """Take in the events written since the last call."""
        if not self.path.is_file():
            return
        with open(self.path, encoding="utf-8") as handle:
            handle.seek(self.place)
            for line in iter(handle.readline, ""):
                if not line.endswith("\n"):
                    break
                self.place = handle.tell()
                self.take(json.loads(line))

    def take(self, event: dict):
        index, now = event["run"], time.time()
        if event["event"] == "start":
            self.running[index] = now
            self.widest = max(self.widest, len(self.running))
            self.say(f"         start   {self.label(index)}")
            return
        self.running.pop(index, None)
        count, elapsed = len(self.planned), clock(now - self.began)
        if event["event"] == "done":
            self.done += 1
            self.seconds.setdefault(self.planned[index].notebook, []).append(event["seconds"])
            head = f"[{self.done:>3}/{count}] done    {self.label(index)}  {clock(event['seconds'])}"
            self.say(f"{head}   (elapsed {elapsed}, {self.left() if self.done < count else 'all done'})")
        else:
            self.failed[index] = event["message"]
            self.say(f"         FAILED  {self.label(index)}: {event['message']}")

    def run(self):
        while not self.ended.wait(0.5):
            self.read()
            if self.running and time.time() - self.spoke > self.every:
                now = ", ".join(f"{self.label(i)} for {clock(time.time() - t)}" for i, t in self.running.items())
                self.say(f"         running {now}   (elapsed {clock(time.time() - self.began)}, {self.left()})")
        self.read()


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


def snakemake(arguments: list[str]) -> bool:
    """Run Snakemake in this process, so that there is one thing to kill and nothing to orphan."""
    from snakemake.cli import main  # imported here: a study with nothing to do need not wait for it

    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code in (0, None)
    return True


def run(study: str, profile: str, overrides: dict) -> bool:
    """Run what is missing of a study. Returns: whether every run of it is finished now."""
    where, folder = HERE / "profiles" / profile, paths.outputs() / study
    if not (where / "config.yaml").is_file():
        known = ", ".join(sorted(p.name for p in where.parent.iterdir()))
        raise FileNotFoundError(f"no profile {profile!r}; known: {known}")
    if "search" in studies.read_study(study):
        raise ValueError(f"params/{study}.yaml describes a search: make search STUDY={study}")
    planned = studies.plan(study, overrides)
    # One `make study` at a time per study. The system frees this lock when its holder dies, which Snakemake's own lock
    # files do not; hence --nolock. An output is a result.json that was renamed into place, so it is never incomplete.
    with files.locked(folder / "study", say=lambda line: print(line, flush=True)):
        missing = [p for p in planned if not p.finished]
        print(f"study {study}: {len(planned)} runs, {len(planned) - len(missing)} finished", flush=True)
        plan, events = write_plan(folder, planned), folder / "events.jsonl"
        if not missing:
            return True
        events.unlink(missing_ok=True)
        arguments = ["--snakefile", str(HERE / "Snakefile"), "--directory", str(paths.root())]
        arguments += ["--profile", str(where), "--nolock", "--ignore-incomplete"]
        arguments += ["--config", f"plan={plan}", f"events={events}"]
        with into(folder / "snakemake.log") as out:
            progress = Progress(events, planned, out)
            progress.start()
            try:
                snakemake(arguments)
            finally:
                progress.ended.set()
                progress.join()
    still = [p for p in planned if not p.finished]
    if still:
        say_missing(planned, still, progress.failed)
        print(f"Snakemake's log: {paths.short(folder / 'snakemake.log')}. The same command again does what is left.")
    return not still


def say_missing(planned: list, still: list, failed: dict[int, str]):
    """Name the runs that failed, with their notebooks, and those that could not start because of them."""
    print(f"\n{len(still)} of {len(planned)} runs are not finished:")
    for index, p in enumerate(planned):
        if index in failed:
            print(f"  failed   {p.notebook}/{p.name}: {failed[index]}")
            print(f"           see {paths.short(p.folder / 'notebook.ipynb')}")
        elif p in still:
            held = [q.name for q in still if q.folder in p.upstream]
            print(f"  not run  {p.notebook}/{p.name}" + (f" (waits for {', '.join(held)})" if held else ""))


def show_plan(study: str, overrides: dict):
    for p in studies.plan(study, overrides):
        print(f"{'finished' if p.finished else 'missing ':8}  {p.notebook:28} {p.name:32} {paths.short(p.folder)}")


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
        from ldct_utils import page

        print(f"report: {paths.short(page.write())}")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
