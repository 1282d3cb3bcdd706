"""Compute finished runs again and say whether their numbers come back.

python workflow/verify.py 'default/06_stats/*' [more run folders or patterns] [--keep] [--cores 2]

A run is computed from its recorded parameters, with the code as it is now, from the same cohort and the same upstream
runs; 01_data builds its cohort anew. Every number, table, array and checkpoint is then compared, to the bit: on one
machine, with one thread count and the same packages they come back so. What a clock measured is left out, and the id
of a cohort is noted. Where the code of today gives a cohort another id, the first run that needs it builds it once
more, beside the old one.

As many runs are computed at once as their recorded threads fit the cores, the longest first, and one at a time on the
GPU. What a run has to tell is printed when it is done.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import run_notebook
import study

from ldct_utils.study import files, machine, paths, runs

# Numbers, columns and sentences that a clock or meter gave.
CLOCKED = {"seconds", "patches_per_s", "s a slice", "MB a slice", "megabytes", "How long does it take?"}
STORED = (".parquet", ".npy", ".safetensors")
COHORTS = "01_data"  # the notebook whose result is a cohort as well
MOST = 12  # differences named, a run
# Numbers that name a cohort by its id. An id is a hash of the code, the parameters and the data that the cohort comes
# from, and changes when code only moves. Another one is therefore noted and not counted: whether the cohort is the same
# is seen from its files, which a run of 01_data compares, and from everything that was computed from it. Nothing else
# is excused. Ids of runs need no rule: a run's own is in no number and no table, and upstream runs are those of then.
NAMES_A_COHORT = {"cohort", "test_cohort"}
COHORT = re.compile(r"(?P<source>.*-)?[0-9a-f]{8}")  # its id, or its folder's name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder below outputs/, or a pattern of several")
    parser.add_argument("--keep", action="store_true", help="keep what was computed, in outputs/.verify")
    parser.add_argument("--cores", type=int, default=machine.cpu_threads(), help="cores to use at once; else all")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # one run, in this process
    given = parser.parse_args()
    if given.alone:
        run_notebook.die_with_parent()
        return verify(Path(given.runs[0]), given.keep)
    try:
        chosen = runs.select([name.removeprefix("outputs/").rstrip("/") for name in given.runs])
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.chdir(paths.root())  # notebooks run from there, and their outputs name no other folder
    began, cores = time.time(), max(given.cores, 1)
    jobs = [Job(run, cores) for run in chosen]
    try:
        verdicts = compute(jobs, cores, given.keep)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    if len(jobs) > 1:
        same = list(verdicts.values()).count(0)
        print(f"\n{same} of {len(jobs)} runs came back the same ({study.clock(time.time() - began)})")
        for name, verdict in sorted(verdicts.items()):
            if verdict:
                print(f"  {'differs' if verdict == 1 else 'failed '}  {name}")
    return max(verdicts.values())


class Job:
    """A finished run that is to be computed again, in a process of its own: a kernel's settings are the process's.

    Attributes: name: its folder, as it is shown. seconds: what it took then. threads, gpu: what it takes meanwhile.
    """

    def __init__(self, old: runs.Run, cores: int):
        result, params = old.result, old.params
        self.folder, self.name, self.seconds = old.folder, paths.short(old.folder), result["seconds"]
        self.threads = min(int(params.get("threads") or 1), cores)
        self.gpu = str(params.get("device", "cpu")).startswith("cuda")

    def fits(self, going: list, cores: int) -> bool:
        """Whether it may begin beside those that are going."""
        busy = sum(job.threads for job in going)
        return busy + self.threads <= cores and not (self.gpu and any(job.gpu for job in going))

    def begin(self, keep: bool):
        self.began = time.time()
        self.told = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed in tell
        words = [sys.executable, __file__, "--alone", str(self.folder), *["--keep"] * keep]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.told, stderr=subprocess.STDOUT)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def tell(self, head: str) -> int:
        """Print what it had to tell, below ``head``. Returns: as ``verify``."""
        with self.told:
            self.told.seek(0)
            print(f"{head}{self.name}  {study.clock(time.time() - self.began)} (then {study.clock(self.seconds)})")
            print(self.told.read(), end="")
        code = self.process.returncode
        if code not in (0, 1, 2):
            print(f"  FAILED: its process was ended from outside (exit code {code}; out of memory?)")
        sys.stdout.flush()
        return code if code in (0, 1, 2) else 2


def compute(jobs: list[Job], cores: int, keep: bool = False) -> dict[str, int]:
    """Compute finished runs again, as many at once as fit the cores, and print what each has to tell as it is done.

    Returns: verdicts by name, as of ``verify``. Whatever ends this call ends the runs that are going.
    """
    waiting = sorted(jobs, key=lambda job: -job.seconds)  # the longest first, or a core would idle while it ends
    going, verdicts = [], {}
    try:
        while waiting or going:
            for job in list(waiting):
                if job.fits(going, cores):
                    waiting.remove(job)
                    going.append(job)
                    job.begin(keep)
                    print(f"         start {job.name}", flush=True)
            for job in [job for job in going if job.ended()]:
                going.remove(job)
                verdicts[job.name] = job.tell(f"[{len(verdicts) + 1:>3}/{len(jobs)}] ")
            time.sleep(0.1)
    finally:
        for job in going:
            job.process.kill()  # its kernel sees that it is gone, and ends as well
    return verdicts


def verify(folder: Path, keep: bool = False) -> int:
    """Compute one run again and print what differs. Returns: 0 if nothing does, 1 if something, 2 if it failed."""
    where = paths.outputs() / ".verify" / folder.name[-8:]
    try:
        with files.locked(where):
            return compared(runs.load(folder), where, keep)
    except Exception as error:  # whatever a notebook, its kernel, a stored file or the disk may raise
        seen = where / "notebook.ipynb"
        said = (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
        print(f"  FAILED: {said}" + (f"; see {paths.short(seen)}" if seen.is_file() else ""))
        return 2


def compared(old: runs.Run, where: Path, keep: bool) -> int:
    """Compute a run again below the folder ``where`` and print what differs. Returns: whether something does."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    new = again(old, where)
    for line in circumstances(old, new):
        print(f"  note: {line}")
    found, names = differences(old, new), numbers_of(old).keys() - renamed(old, new)
    for line in found[:MOST]:
        print(f"  DIFFERS  {line}")
    if len(found) > MOST:
        print(f"  and {len(found) - MOST} more")
    counted = f"{len(names)} numbers and {len(stored(old))} files"
    print(f"  {counted} are the same to the bit" if not found else f"  {len(found)} of {counted} differ")
    if not keep:
        shutil.rmtree(where)
    return int(bool(found))


def again(old: runs.Run, where: Path) -> runs.Run:
    """Compute a finished run anew, below the folder ``where``."""
    notebook, params, own = old.result["notebook"], dict(old.params), {"LDCT_WEIGHTS": str(paths.weights())}
    if notebook == COHORTS:
        own["LDCT_OUTPUTS"] = str(where)  # a new cohort beside the old one
    else:
        params["study"] = str(where.relative_to(paths.outputs()))  # says where a run is stored, not what it is
    kept = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        with study.into(where / "kernel.log"):  # what kernels say as they start
            run_notebook.execute(notebook, where / "notebook.ipynb", params)
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    (found,) = (path for path in where.rglob("result.json") if runs.TESTS not in path.parts)
    return runs.Run(found.parent)


def circumstances(old: runs.Run, new: runs.Run) -> list[str]:
    """What is not as it was, and may be another without any harm: code, data, packages, ids of cohorts."""
    then, now = old.result, new.result
    found = []
    if old.id != new.id:
        commit = (then["commit"] or "unknown")[:7] + (" with changes" if then["dirty"] else "")
        found.append(f"its code or data have changed since (it is of commit {commit})")
    for name in sorted({*then["versions"], *now["versions"]}):
        before, after = (versions.get(name, "absent") for versions in (then["versions"], now["versions"]))
        if before != after:
            found.append(f"{name} was {before}, is {after}")
    for name, (before, after) in renamed(old, new).items():
        found.append(f"{name} was {before}, is {after}")
    return found


def renamed(old: runs.Run, new: runs.Run) -> dict[str, tuple[str, str]]:
    """Ids of cohorts, then and now, by the number that holds them, where they are not the same."""
    found = {}
    for name in sorted(NAMES_A_COHORT):
        ids = str(numbers_of(old).get(name)), str(numbers_of(new).get(name))
        before, after = (COHORT.fullmatch(one) for one in ids)
        if before and after and ids[0] != ids[1] and before["source"] == after["source"]:
            found[name] = ids
    return found


def differences(old: runs.Run, new: runs.Run) -> list[str]:
    """What a run computed otherwise than the one before it, a line each; [] if they are the same."""
    then, now = numbers_of(old), numbers_of(new)
    compared = sorted({*then, *now} - {*renamed(old, new)})
    found = [f"{name}: {then.get(name)} then, {now.get(name)} now" for name in compared
             if then.get(name) != now.get(name)]  # fmt: skip
    recorded, before, after = old.result["files"], stored(old), stored(new)
    again = tests(new).keys()
    for prefix in tests(old).keys() - again:  # of a test that the recorded parameters do not ask for
        before = {name: path for name, path in before.items() if not (prefix and name.startswith(prefix))}
        found = [line for line in found if not (prefix and line.startswith(prefix))]
    for name in sorted({*before, *after, *recorded}):
        if name not in before or name not in after:
            found.append(f"{name}: {'only then' if name not in after else 'only now'}")
        elif name in recorded and files.sha256(before[name]) != recorded[name]:
            found.append(f"{name}: not the file that the run wrote; it was changed afterwards")
        elif difference := difference_of(before[name], after[name]):
            found.append(f"{name}: {difference}")
    return found


def flat(numbers: dict, prefix: str = "") -> dict:
    """Numbers by name, those of a nested one as ``outer.inner``, without those that a clock gave."""
    found = {}
    for name, value in numbers.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif name not in CLOCKED:
            found[f"{prefix}{name}"] = value
    return found


def tests(run: runs.Run) -> dict[str, runs.Run]:
    """Tests of a training, by what their numbers and files are prefixed with: nothing for that of its own cohort, else
    the source of the other cohort."""
    found = {}
    for path in sorted(run.folder.glob(f"{runs.TESTS}/*/result.json")):
        source, _, cohort = path.parent.name.split("--")[0].rpartition("-")
        found["" if cohort == run.numbers.get("cohort") else f"{source}/"] = runs.Run(path.parent)
    return found


def numbers_of(run: runs.Run) -> dict:
    """Numbers of a run and of its tests, by name."""
    found = flat(run.numbers)
    for prefix, test in tests(run).items():
        found |= flat(test.numbers, prefix)
    return found


def stored(run: runs.Run) -> dict[str, Path]:
    """Tables, arrays and weights of a run, of its tests and of its cohort, by name."""
    folders = [("", run.folder), *((prefix, test.folder) for prefix, test in tests(run).items())]
    if run.result["notebook"] == COHORTS:
        folders.append(("cohort/", run.folder.parents[2] / "cohorts" / run.numbers["cohort"]))
    return {
        prefix + str(path.relative_to(folder)): path
        for prefix, folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in STORED and ".tmp-" not in path.name and runs.TESTS not in path.relative_to(folder).parts
    }


def difference_of(before: Path, after: Path) -> str:
    """How two stored files differ, in words; nothing if they hold the same."""
    if files.sha256(before) == files.sha256(after):
        return ""
    if before.suffix == ".parquet":
        return _of_tables(pd.read_parquet(before), pd.read_parquet(after))
    if before.suffix == ".npy":
        arrays = {"values": [np.load(path, mmap_mode="r", allow_pickle=False) for path in (before, after)]}
    else:
        from safetensors.torch import load_file

        weights = [load_file(path) for path in (before, after)]
        if set(weights[0]) != set(weights[1]):
            return "other weights by name"
        arrays = {name: [one[name].double().numpy() for one in weights] for name in weights[0]}
    if any(one.shape != other.shape for one, other in arrays.values()):
        return "another shape"
    return _worst({name: _of_values(one.ravel(), other.ravel()) for name, (one, other) in arrays.items()})


def _of_tables(before: pd.DataFrame, after: pd.DataFrame) -> str:
    if before.shape != after.shape:
        return f"{len(before)} rows and {before.shape[1]} columns then, {len(after)} and {after.shape[1]} now"
    if list(before.columns) != list(after.columns):
        return "other columns"
    shared = [name for name in before.columns if name not in CLOCKED]
    return _worst({name: _of_values(before[name].to_numpy(), after[name].to_numpy()) for name in shared})


def _of_values(before: np.ndarray, after: np.ndarray) -> tuple[int, float]:
    """How many values differ, and by how much at most, relative to the largest; NaN is equal to NaN."""
    if any(values.dtype.kind not in "iufb" for values in (before, after)):
        unequal = [str(one) != str(other) for one, other in zip(before, after)]
        return sum(unequal), float("nan")
    before, after = before.astype(float), after.astype(float)
    unequal = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    if not unequal.any():
        return 0, 0.0
    return int(unequal.sum()), float(np.abs(after - before)[unequal].max() / np.nanmax(np.abs(before)))


def _worst(found: dict[str, tuple[int, float]]) -> str:
    """The columns or weights that differ, in words."""
    told = [f"{name} ({count} values" + (f", by up to {part:.1e} of the largest)" if part == part else ")")
            for name, (count, part) in found.items() if count]  # fmt: skip
    return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")


if __name__ == "__main__":
    sys.exit(main())
