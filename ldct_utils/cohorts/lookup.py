"""A cohort by its parameters: its identity, and the cohort itself, loaded if it is on disk, else built once."""

import importlib
import math
from pathlib import Path
from types import ModuleType

from ldct_utils.cohorts import cohort, listed, reading, splits, writing
from ldct_utils.ct import data_files
from ldct_utils.study import files, paths, wheels
from ldct_utils.study import identity as _identity
from ldct_utils.study.sources import COHORT_PARAMETERS, SOURCES, CohortParameters


def roots(data_root) -> list:
    """The folders of a ``data_root``: one, or several joined by ``:`` (as in PATH), relative to the working folder or
    the study. Raises: ValueError: if none is given. FileNotFoundError: if one does not exist."""
    if not data_root:
        raise ValueError("this source reads files: give data_root, the folder that holds them")
    folders = []
    for name in paths.joined(str(data_root)):
        places = [p for p in (Path(name), paths.root() / name) if p.is_dir()]
        if not places and (reason := data_files.packed(Path(name))):
            raise FileNotFoundError(f"data_root {name} is {reason.split(', into')[0]} and give the folder")
        if not places:
            raise FileNotFoundError(f"data_root {name} is not a folder (looked from here and from {paths.root()})")
        folders.append(places[0].resolve())
    return folders


def _check(asked: CohortParameters):
    """Raises: ValueError: for an unknown source or anatomy, a dose that is no fraction, or a range that is none."""
    if asked.source not in SOURCES:
        raise ValueError(f"unknown source {asked.source!r}; known: {', '.join(SOURCES)}")
    if not 0 < asked.dose <= 1:
        raise ValueError(f"dose is a fraction in (0, 1], got {asked.dose}")
    if asked.anatomy not in ("mixed", *reading.ANATOMY_OF_LETTER.values()):
        raise ValueError(f"unknown anatomy {asked.anatomy!r}; known: abdomen, chest, head, mixed")
    ends = asked.hu_range
    numbers = isinstance(ends, list | tuple) and all(isinstance(e, int | float) and math.isfinite(e) for e in ends)
    if ends is not None and not (numbers and len(ends) == 2 and ends[0] < ends[1]):
        raise ValueError(f"hu_range is [HU of a stored 0, HU of a stored 1], as in [-1000, 1000]; got {ends!r}")


def _manifest(folders: list) -> list:
    """Name, size and time of change of every external file: quick to take, and it changes when a file does."""
    manifest = []
    for folder in folders:
        for path in data_files.list_files(folder):
            try:
                stat = path.stat()
            except OSError as error:
                raise data_files.not_read(path, error) from None
            manifest.append((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return manifest


def _module(source: str) -> ModuleType:
    """The module that makes a source's slices."""
    return importlib.import_module(f"{__package__}.{SOURCES[source].module}")


def _of_machine(source: str) -> dict:
    """What of this machine the slices of a source depend on, e.g. ``{"projector": "astra"}``; {} for most."""
    return getattr(_module(source), "of_machine", dict)()


def _describe(asked: CohortParameters) -> tuple:
    """(id, parameters that the source reads, split, folders) of a cohort, without building it."""
    _check(asked)
    source = SOURCES[asked.source]
    read, split = {name: getattr(asked, name) for name in source.reads}, asked.split or source.split
    if read.get("hu_range"):
        read["hu_range"] = [float(end) for end in read["hu_range"]]  # 1 and 1.0 are one range
    folders = roots(asked.data_root) if source.files else []
    if "pairs" in read and len(folders) == 1:
        read["pairs"] = listed.digest(asked.pairs, folders[0])  # a hash: it holds names
    if split == "draw":
        read["cohort_seed"] = asked.cohort_seed
    parts = {
        "source": asked.source,
        "parameters": read,
        "split": split if split in ("draw", *splits.SPLITS) else splits.read(split),
        "code": _identity.code_hash(["cohorts.lookup"], [{"source": asked.source}]),
        "data": [wheels.WHEELS[source.wheel].sha256] if source.wheel else _manifest(folders),
        "machine": _of_machine(asked.source),
    }
    return _identity.hash8(parts), read, split, folders


def identity(*values, **named) -> str:
    """The id8 of the cohort that ``get`` would give for the same parameters, without building it."""
    return _describe(CohortParameters(*values, **named))[0]


def get(*values, progress: bool = True, **named) -> cohort.Cohort:
    """The cohort of these parameters: loaded if it is on disk, else built, once, under a lock.

    Args:
        values, named: the fields of ``CohortParameters``, in their order or by name: source, data_root,
            patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range. What is not given has
            its default.
        progress: show progress bars.
    Raises: ValueError, FileNotFoundError, PermissionError, RuntimeError, OSError: each saying what to do. TypeError:
        for a parameter that there is not.
    """
    asked = CohortParameters(*values, **named)
    with reading.logging_paths():
        id8, read, split, folders = _describe(asked)
        folder = paths.cohorts() / f"{asked.source}-{id8}"
        if not (folder / "cohort.json").is_file():
            with files.locked(folder):
                if not (folder / "cohort.json").is_file():
                    meta = {"id": id8, "source": asked.source, "parameters": read, "split": split}
                    _build(folder, meta, folders, asked, progress)
    return cohort.load(folder)


def _build(folder: Path, meta: dict, folders: list, asked: CohortParameters, progress: bool):
    source, read = meta["source"], meta["parameters"]
    read = read | {"pairs": asked.pairs} if "pairs" in read else read
    plan = _module(source).plan(source, folders, read, progress)
    split_of = splits.assign(meta["split"], plan.anatomy_of, asked.cohort_seed)
    splits.check_told(plan.untold, split_of)
    writing.build(folder, plan, split_of, meta | _of_machine(source), progress)


def of(*trained) -> cohort.Cohort:
    """The cohort that finished runs were trained on, with the slices it had then.

    Args: trained: runs (``runs.Run``) of a notebook that takes the parameters of ``get``.
    Raises: ValueError: if they were trained on different cohorts, or on one that is gone and cannot be built again
        because its files or the code have changed since.
    """
    ids = sorted({one.numbers["cohort"] for one in trained})
    if len(ids) != 1:
        raise ValueError(f"these runs were trained on different cohorts ({', '.join(ids)}): choose runs of one")
    params = trained[0].params
    folder = paths.cohorts() / f"{params['source']}-{ids[0]}"
    if (folder / "cohort.json").is_file():
        return cohort.load(folder)
    arguments = [params[name] for name in COHORT_PARAMETERS]
    if identity(*arguments) != ids[0]:
        raise ValueError(
            f"{trained[0].id} was trained on cohort {ids[0]}, which is gone and which the files and code of today do "
            "not give: train the run again"
        )
    return get(*arguments)
