"""A cohort by its parameters: its identity, and the cohort itself, loaded if it is on disk, else built once."""

import importlib
import inspect
import os
from pathlib import Path
from types import ModuleType

from ldct_utils.cohorts import cohort, reading, splits, writing
from ldct_utils.ct import dicom
from ldct_utils.study import files, paths
from ldct_utils.study import identity as _identity
from ldct_utils.study.sources import SOURCES


def roots(data_root) -> list:
    """The folders of a ``data_root``: one, or several joined by ``:`` (as in PATH), relative to the working folder or
    the study. Raises: ValueError: if none is given. FileNotFoundError: if one does not exist."""
    if not data_root:
        raise ValueError("this source reads files: give data_root, the folder that holds them")
    found = []
    for name in str(data_root).split(os.pathsep):
        places = [p for p in (Path(name), paths.root() / name) if p.is_dir()]
        if not places:
            raise FileNotFoundError(f"data_root {name} is not a folder (looked from here and from {paths.root()})")
        found.append(places[0].resolve())
    return found


def _resolve(source, split, anatomy, dose, values) -> tuple:
    """Checked parameters that the source reads, and the split it uses. Raises: ValueError: for an illegal value."""
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; known: {', '.join(SOURCES)}")
    if not 0 < dose <= 1:
        raise ValueError(f"dose is a fraction in (0, 1], got {dose}")
    if anatomy not in ("mixed", *reading.ANATOMY_OF_LETTER.values()):
        raise ValueError(f"unknown anatomy {anatomy!r}; known: abdomen, chest, head, mixed")
    values = values | {"anatomy": anatomy, "dose": dose}
    return {name: values[name] for name in SOURCES[source].reads}, split or SOURCES[source].split


def _manifest(folders: list) -> list:
    """Names, sizes and times of the external files: cheap, and new whenever one of them is."""
    stats = []
    for folder in folders:
        for path in dicom.list_files(folder):
            try:
                stat = path.stat()
            except OSError as error:
                raise dicom.not_read(path, error) from None
            stats.append((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return stats


def _module(source: str) -> ModuleType:
    """The module that makes a source's slices."""
    return importlib.import_module(f"{__package__}.{SOURCES[source].module}")


def _of_machine(source: str) -> dict:
    """What of this machine the slices of a source depend on, e.g. ``{"projector": "astra"}``; {} for most."""
    return getattr(_module(source), "of_machine", dict)()


def _describe(source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed) -> tuple:
    """(id, read parameters, split, folders) of a cohort, without building it."""
    given = {"patients": patients, "slices": slices, "kernel": kernel, "size": size, "cohort_seed": cohort_seed}
    read, split = _resolve(source, split, anatomy, dose, given)
    folders = [] if source == "simulated" else roots(data_root)
    fixed = split in ("draw", *splits.SPLITS)
    if split == "draw":
        read["cohort_seed"] = cohort_seed
    parts = {
        "source": source,
        "parameters": read,
        "split": split if fixed else splits.read(split),
        "code": _identity.code_hash(["cohorts.lookup"], [{"source": source}]),
        "data": _manifest(folders),
        "machine": _of_machine(source),
    }
    return _identity.hash8(parts), read, split, folders


def identity(
    source="simulated", data_root=None, patients=24, slices=4, anatomy="mixed", dose=0.25, kernel="B30", size=256,
    split=None, cohort_seed=0,
) -> str:  # fmt: skip
    """The id8 of the cohort that ``get`` would give for the same arguments, without building it."""
    return _describe(source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed)[0]


def get(
    source="simulated", data_root=None, patients=24, slices=4, anatomy="mixed", dose=0.25, kernel="B30", size=256,
    split=None, cohort_seed=0, progress=True,
) -> cohort.Cohort:  # fmt: skip
    """The cohort of these parameters: loaded if it is on disk, else built, once, under a lock.

    Args:
        source: ``simulated``; ``mayo2016``, ``tcia``, ``npy`` (pairs on disk); ``dicom`` (noise inserted into NDCT).
        data_root: folder with the files; for ``dicom`` also several, joined by ``:``.
        patients, slices, size: of ``simulated``: patients, slices a patient, pixels a side.
        anatomy: abdomen, chest, head or mixed (all). Of ``dicom`` and ``npy`` it says what the slices show; mixed asks
            ids and headers.
        dose: of the LDCT slices as a fraction of the NDCT's, in (0, 1]; for ``npy`` it is recorded only.
        kernel: of the simulated scan, or of the noise inserted into ``dicom`` series; a name in ``fbp.KERNELS``. For
            ``dicom`` also the folder of a cohort of real pairs of the same scanner, whose noise is then measured.
        split: ``draw`` (by patient, from the seed), a split file's name or path, or train, val or test for everyone.
            None is the published split for ``mayo2016``, ``npy`` and ``tcia``, and ``draw`` for the others.
        cohort_seed: seeds simulated patients, noise and the drawn split.
        progress: show progress bars.
    Raises: ValueError, FileNotFoundError, PermissionError, RuntimeError, OSError: each saying what to do.
    """
    with reading.logging_paths():
        id8, read, split, folders = _describe(
            source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed
        )
        folder = paths.cohorts() / f"{source}-{id8}"
        if not (folder / "cohort.json").is_file():
            with files.locked(folder):
                if not (folder / "cohort.json").is_file():
                    meta = {"id": id8, "source": source, "parameters": read, "split": split}
                    _build(folder, meta, folders, cohort_seed, progress)
    return cohort.load(folder)


def _build(folder: Path, meta: dict, folders: list, cohort_seed: int, progress: bool):
    source = meta["source"]
    plan = _module(source).plan(source, folders, meta["parameters"], progress)
    split_of = splits.assign(meta["split"], plan.anatomy_of, cohort_seed)
    writing.build(folder, plan, split_of, meta | _of_machine(source), progress)


def of(*trained) -> cohort.Cohort:
    """The one cohort that finished runs were trained on, as it was then.

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
    arguments = [params[name] for name in inspect.signature(identity).parameters]
    if identity(*arguments) != ids[0]:
        raise ValueError(
            f"{trained[0].id} was trained on cohort {ids[0]}, which is gone and which the files and code of today do "
            "not give: train the run again"
        )
    return get(*arguments)
