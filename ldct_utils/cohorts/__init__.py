"""Cohorts: paired low-dose and normal-dose slices on disk, with an identity and a split by patient.

``get`` is all that a notebook needs: it builds the cohort of its parameters once and loads it ever after.
"""

import importlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ldct_utils import dicom, fbp, files, paths
from ldct_utils import identity as _identity
from ldct_utils.cohorts import sources, splits, unseen, writing
from ldct_utils.data_sources import SOURCES, others

SMALL = 256e6  # cohorts up to this many bytes are hashed on every load (0.2 s), larger ones on `verify` only
REMEDY = "delete the folder and build the cohort anew"
ARRAYS = (
    *("ldct", "ndct", "truth", "organ_masks", "lesion_masks"),
    *("absent_ldct", "absent_ndct", "absent_truth"),
)


def _evenly(count: int, most: int) -> np.ndarray:
    """At most ``most`` places of 0 .. count - 1, in the middles of as many equal parts."""
    most = min(count, most)
    return ((np.arange(most) + 0.5) * count / max(most, 1)).astype(int)


@dataclass(frozen=True)
class Cohort:
    """A cohort on disk. Arrays are read-only memory maps (slices, H, W): int16 HU, masks uint8; None where absent.

    ``organ_masks`` hold labels (``phantom.ORGANS``), ``lesion_masks`` the lesion's number (0: none); ``absent_*`` are
    the same slices without lesions and with the same noise.
    """

    id: str
    folder: Path
    meta: dict
    slices: pd.DataFrame
    ldct: np.ndarray
    ndct: np.ndarray
    truth: np.ndarray | None
    organ_masks: np.ndarray | None
    lesion_masks: np.ndarray | None
    absent_ldct: np.ndarray | None
    absent_ndct: np.ndarray | None
    absent_truth: np.ndarray | None
    lesions: pd.DataFrame | None

    def rows(self, split: str, anatomy: str | None = None) -> np.ndarray:
        """Row numbers of a split, in order, optionally of one anatomy; empty if the cohort has none.

        Raises: ValueError: if ``split`` is not train, val or test, or the cohort does not know the anatomy.
        """
        if split not in splits.SPLITS:
            raise ValueError(f"unknown split {split!r}; known: {', '.join(splits.SPLITS)}")
        known = sorted(self.slices.anatomy.unique())
        if anatomy is not None and anatomy not in known:
            raise ValueError(f"cohort {self.id} has no anatomy {anatomy!r}; it has {', '.join(known)}")
        chosen = self.slices[self.slices.split == split]
        return chosen[(chosen.anatomy == anatomy) | (anatomy is None)].row.to_numpy(np.int64)

    def spread(self, rows, most: int) -> np.ndarray:
        """At most ``most`` of these rows, as many of each patient as goes, and each patient's spread over the scan.

        Where there are more patients than rows to choose, the patients are spread over those of the table.
        """
        about = self.slices[self.slices.row.isin(rows)]
        parts = [part.row.to_numpy(np.int64) for _, part in about.groupby("patient", sort=False)]
        parts = [parts[i] for i in _evenly(len(parts), most)]
        share = np.zeros(len(parts), int)
        while share.sum() < min(most, sum(map(len, parts))):
            share[min((n, i) for i, n in enumerate(share) if n < len(parts[i]))[1]] += 1
        chosen = [part[_evenly(len(part), n)] for part, n in zip(parts, share)]
        return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))

    def verify(self):
        """Compare every file with the hash taken when it was written. Raises: ValueError: naming one that differs."""
        for name, stored in self.meta["files"].items():
            if files.sha256(self.folder / name) != stored["sha256"]:
                raise ValueError(f"{paths.short(self.folder / name)} was changed after it was written: {REMEDY}")


def load(folder) -> Cohort:
    """A cohort from its folder.

    Sizes of all files are compared with those recorded, and the contents too where that takes no time (up to 256 MB).

    Raises: FileNotFoundError: if there is no finished cohort. ValueError: if a file was changed.
    """
    folder = Path(folder)
    if not (folder / "cohort.json").is_file():
        raise FileNotFoundError(f"{paths.short(folder)} is not a finished cohort: it has no cohort.json")
    meta = files.read_json(folder / "cohort.json")
    for name, stored in meta["files"].items():
        actual = (folder / name).stat().st_size if (folder / name).is_file() else None
        if actual != stored["bytes"]:
            raise ValueError(
                f"{paths.short(folder / name)} has {actual} bytes, {stored['bytes']} were written: {REMEDY}"
            )
    arrays = dict.fromkeys(ARRAYS)
    for name in ARRAYS:
        if f"{name}.npy" in meta["files"]:
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    lesions = pd.read_parquet(folder / "lesions.parquet") if "lesions.parquet" in meta["files"] else None
    cohort = Cohort(meta["id"], folder, meta, pd.read_parquet(folder / "slices.parquet"), lesions=lesions, **arrays)
    if sum(stored["bytes"] for stored in meta["files"].values()) <= SMALL:
        cohort.verify()
    return cohort


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
    if anatomy not in ("mixed", *sources.ANATOMY_OF_LETTER.values()):
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


def _code(source: str) -> str:
    """Hash of the code that makes a source's cohorts: other sources and, without projections, projectors are left out,
    so that a change of the simulated anatomy does not make anyone build the cohort of real patients again."""
    unused = {"cohorts.unseen"} | others(source)
    return _identity.code_hash(["cohorts"], unused if SOURCES[source].projects else unused | {"fbp"})


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
        "code": _code(source),
        "data": _manifest(folders),
    }
    if SOURCES[source].projects:
        parts["projector"] = fbp.backend()
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
) -> Cohort:  # fmt: skip
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
    with sources.logging_paths():
        id8, read, split, folders = _describe(
            source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed
        )
        folder = paths.cohorts() / f"{source}-{id8}"
        if not (folder / "cohort.json").is_file():
            with files.locked(folder):
                if not (folder / "cohort.json").is_file():
                    meta = {"id": id8, "source": source, "parameters": read, "split": split}
                    _build(folder, meta, folders, cohort_seed, progress)
    return load(folder)


def _build(folder: Path, meta: dict, folders: list, cohort_seed: int, progress: bool):
    source = SOURCES[meta["source"]]
    plan = importlib.import_module(f"{__name__}.{source.module}").plan(
        meta["source"], folders, meta["parameters"], progress
    )
    if source.projects:
        meta = meta | {"projector": fbp.backend()}
    writing.build(folder, plan, splits.assign(meta["split"], plan.anatomy_of, cohort_seed), meta, progress)


def of(*trained) -> Cohort:
    """The one cohort that finished runs were trained on, as it was then.

    Args: trained: runs (``runs.Finished``) of a notebook that takes the parameters of ``get``.
    Raises: ValueError: if they were trained on different cohorts, or on one that is gone and cannot be built again
        because its files or the code have changed since.
    """
    ids = sorted({one.numbers["cohort"] for one in trained})
    if len(ids) != 1:
        raise ValueError(f"these runs were trained on different cohorts ({', '.join(ids)}): choose runs of one")
    params = trained[0].params
    folder = paths.cohorts() / f"{params['source']}-{ids[0]}"
    if (folder / "cohort.json").is_file():
        return load(folder)
    arguments = [params[name] for name in inspect.signature(identity).parameters]
    if identity(*arguments) != ids[0]:
        raise ValueError(
            f"{trained[0].id} was trained on cohort {ids[0]}, which is gone and which the files and code of today do "
            "not give: train the run again"
        )
    return get(*arguments)


def tested_on(own: Cohort, source: str | None = None, root: str | None = None) -> Cohort:
    """The cohort that networks are tested on: their own, or all patients of another that they were not trained on.

    Args: own: of the training. source, root: of the other one, as ``get`` takes them; None for their own.
    Raises: ValueError: naming patients that are in both, see ``unseen.shared``.
    """
    if not source:
        return own
    other = get(source, root, split="test")
    if seen := unseen.shared(own, other):
        raise ValueError(
            f"{', '.join(sorted(seen))} of {source} {other.id} was in the training: give a test_root without, or leave "
            "test_source out, which takes the training cohort's own test patients"
        )
    return other
