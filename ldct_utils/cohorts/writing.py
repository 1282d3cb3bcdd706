"""A cohort from a plan to its folder: slices stream to disk, and the folder appears whole or not at all.

Arrays are written through plain file handles: a full disk is then an error that can be reported (a memory map would
kill the process), and anonymous memory stays that of a few slices however many there are.
"""

import hashlib
import os
import shutil
import threading
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ldct_utils.study import files, identity, machine, paths, runs

COLUMNS = ("row", "patient", "series", "anatomy", "kernel", "thickness_mm", "pixel_mm", "z_mm", "split", "dose")
SPARE = 1.02  # tables, file system overhead


@dataclass
class Part:
    """What one task returns: ``rows`` (one dict a slice), ``arrays`` (name -> (n, H, W)), tables (name -> DataFrame).

    A slice that cannot be used is in ``skipped`` instead (dict of patient, series, reason).
    """

    rows: list = field(default_factory=list)
    arrays: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    skipped: list = field(default_factory=list)


@dataclass
class Plan:
    """A cohort before it is built. ``tasks`` are picklable callables that return parts, in the order of the rows."""

    slices: int
    shape: tuple
    dtypes: dict  # array name -> dtype, the same for every part
    anatomy_of: dict  # patient -> anatomy
    tasks: list
    parallel: bool = False
    skipped: list = field(default_factory=list)  # dicts of patient, series, reason, files
    notes: list = field(default_factory=list)
    organs: dict = field(default_factory=dict)  # label in organ_masks -> organ
    untold: set = field(default_factory=set)  # patients who may be one of the others, since no header or path says who

    @property
    def bytes(self) -> int:
        """Disk space that the arrays will take."""
        return sum(np.dtype(d).itemsize for d in self.dtypes.values()) * self.slices * int(np.prod(self.shape))


def seed_of(*numbers) -> int:
    """An independent seed for each combination of numbers, e.g. cohort seed, patient, slice."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class _NpyWriter:
    """Appends slices to a ``.npy`` file; the header's count is set right when it is closed."""

    def __init__(self, path: Path, shape: tuple, dtype):
        self.path, self.shape, self.dtype, self.done = path, shape, np.dtype(dtype), 0
        self.file = open(path, "wb")  # noqa: SIM115  closed by `close`
        self._header(shape[0])

    def _header(self, count: int):
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self.file, described | {"shape": (count, *self.shape[1:])})

    def append(self, slices: np.ndarray):
        if slices.shape[1:] != self.shape[1:] or slices.dtype != self.dtype:
            raise ValueError(
                f"{self.path.name} takes {self.dtype} {self.shape[1:]}, got {slices.dtype} {slices.shape[1:]}"
            )
        self.file.write(np.ascontiguousarray(slices).data)
        self.done += len(slices)

    def close(self):
        if not self.file.closed:
            if self.done != self.shape[0]:
                self.file.seek(0)
                self._header(self.done)  # NumPy pads headers so that the first axis may change in place
            self.file.close()


@contextmanager
def _one_thread():
    """Worker processes started inside use one thread each, since there are as many workers as cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _importable_main() -> bool:
    """Whether worker processes can start. They import the main module again, and so would run a plain script again."""
    import __main__

    return getattr(__main__, "__spec__", None) is not None or not hasattr(__main__, "__file__")


def _call(task):
    return task()


def _end_with_parent():
    """Called in each worker: end it when the process that started it is gone, so that a kill leaves nothing behind."""

    def watch():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(tasks: list, parallel: bool):
    """Results of ``tasks`` in their order, few in memory at a time; in parallel where that is faster."""
    workers = min(machine.cpu_threads(), len(tasks))
    # A process takes some seconds to import its packages: for a few tasks it does not pay.
    if not (parallel and workers > 1 and len(tasks) > 4 and _importable_main()):
        yield from map(_call, tasks)
        return
    with _one_thread(), ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent) as pool:
        pending = deque()
        try:
            for task in tasks:
                pending.append(pool.submit(_call, task))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def check_space(plan: Plan, folder: Path):
    """Raise OSError, saying how much is needed and free, if the cohort does not fit on the disk of ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = plan.bytes * SPARE, shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{plan.slices} slices need {needed / 1e9:.2f} GB below {paths.short(folder)}, where {free / 1e9:.2f} GB "
            "are free: free some, take fewer slices, or set LDCT_OUTPUTS to a larger disk"
        )


def build(folder: Path, plan: Plan, split_of: dict, meta: dict, progress: bool = True):
    """Write the cohort of ``plan`` to ``folder``: a temporary sibling is renamed once everything is in it.

    Args: split_of: patient -> split. meta: what ``cohort.json`` says besides what is counted here.
    Raises: OSError: if the disk is or gets full; nothing is left of the attempt then.
    """
    for left in folder.parent.glob(
        f".tmp-*-{folder.name}"
    ):  # of a build that was killed: whoever builds holds the lock
        shutil.rmtree(left)
    check_space(plan, folder.parent)
    rows, tables, train, skipped, scans = [], {}, _Moments(), Counter(), {}
    with files.new_folder(folder) as new, ExitStack() as stack:
        writers = {}
        for name, dtype in plan.dtypes.items():
            writers[name] = _NpyWriter(new / f"{name}.npy", (plan.slices, *plan.shape), dtype)
            stack.callback(writers[name].close)
        bar = stack.enter_context(tqdm(total=plan.slices, unit="slice", desc=folder.name, disable=not progress))
        try:
            for part in run(plan.tasks, plan.parallel):
                skipped.update((s["patient"], s["series"], s["reason"]) for s in part.skipped)
                for name, writer in writers.items() if part.rows else ():
                    writer.append(part.arrays[name])
                for one, image in zip(part.rows, part.arrays.get("ldct", ())):
                    rows.append({"row": len(rows), "split": split_of[one["patient"]], **one})
                    if rows[-1]["split"] == "train":
                        train.add(image)
                for one, image in zip(part.rows, part.arrays.get("ndct", ())):
                    _check_once(scans, one["patient"], image, split_of)
                for name, table in part.tables.items():
                    tables.setdefault(name, []).append(table)
                bar.update(len(part.rows) + len(part.skipped))
            stack.close()  # flushes the arrays: a full disk may show only now
        except OSError as error:
            if isinstance(error, PermissionError | FileNotFoundError) or hasattr(error, "path"):  # of reading
                raise
            raise OSError(
                error.errno,
                f"writing the cohort stopped after {len(rows)} of {plan.slices} slices ({error.strerror}): "
                f"{plan.bytes / 1e9:.2f} GB are needed below {paths.short(folder.parent)}; nothing of it was kept",
            ) from error
        if len(rows) + skipped.total() != plan.slices:
            raise ValueError(f"the plan promised {plan.slices} slices, its tasks gave {len(rows)}")
        left_out = plan.skipped + [
            {"patient": p, "series": s, "reason": r, "files": n} for (p, s, r), n in skipped.items()
        ]
        if not rows:
            raise ValueError("no slice could be used: " + "; ".join(f"{s['files']} x {s['reason']}" for s in left_out))
        slices = pd.DataFrame(rows)[list(COLUMNS)]
        slices.to_parquet(new / "slices.parquet", index=False)
        for name, parts in tables.items():
            pd.concat(parts, ignore_index=True).to_parquet(new / f"{name}.parquet", index=False)
        digests = {path.name: files.sha256(path) for path in sorted(new.iterdir())}
        stored = {name: {"bytes": (new / name).stat().st_size, "sha256": digest} for name, digest in digests.items()}
        counted = slices.groupby("split").agg(patients=("patient", "nunique"), slices=("row", "size"))
        files.write_json(
            new / "cohort.json",
            meta
            | {
                "shape": [len(rows), *plan.shape],
                "counts": counted.to_dict("index"),
                "train_ldct_hu": train.summary(),
                "skipped": left_out,
                "notes": plan.notes,
                "organs": plan.organs,
                "files": stored,
                "fingerprint": identity.hash8(digests),
                "versions": runs.versions(),
            },
        )
        for path in new.iterdir():
            path.chmod(0o444)  # immutable once written


def _check_once(scans: dict, patient: str, ndct: np.ndarray, split_of: dict):
    """Two scans never have the same noise: equal slices are one scan, whatever the two patients are called.

    Args: scans: {hash of a slice: patient} of all before, filled here. split_of: patient -> split.
    Raises: ValueError: if two patients of different splits share a slice.
    """
    if not np.ptp(ndct):  # a slice of air is like any other
        return
    other = scans.setdefault(hashlib.sha256(np.ascontiguousarray(ndct)).digest(), patient)
    if split_of[other] != split_of[patient]:
        raise ValueError(
            f"{other} ({split_of[other]}) and {patient} ({split_of[patient]}) have a slice in common, so they are one "
            "person's scan under two names: leave one of the two out of data_root"
        )


class _Moments:
    """Running mean, standard deviation and range of int16 images, exact in integers."""

    def __init__(self):
        self.count, self.sum, self.squares, self.low, self.high = 0, 0, 0, np.inf, -np.inf

    def add(self, image: np.ndarray):
        wide = image.astype(np.int64).ravel()
        self.count, self.sum, self.squares = (
            self.count + wide.size,
            self.sum + int(wide.sum()),
            self.squares + int(wide @ wide),
        )
        self.low, self.high = min(self.low, int(wide.min())), max(self.high, int(wide.max()))

    def summary(self) -> dict | None:
        if not self.count:
            return None
        mean = self.sum / self.count
        return {"mean": mean, "std": (self.squares / self.count - mean**2) ** 0.5, "min": self.low, "max": self.high}
