"""A finished cohort on disk, and reading it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ldct_utils.cohorts import splits
from ldct_utils.study import files, paths

SMALL = 256e6  # cohorts up to this many bytes are hashed on every load (0.2 s), larger ones on `verify` only
REMEDY = "delete the folder and build the cohort anew"
ARRAYS = (
    *("ldct", "ndct", "truth", "organ_masks", "lesion_masks"),
    *("absent_ldct", "absent_ndct", "absent_truth"),
)


def _evenly(count: int, most: int) -> np.ndarray:
    """At most ``most`` indices evenly spaced in 0 .. count - 1: the middles of as many equal intervals."""
    most = min(count, most)
    return ((np.arange(most) + 0.5) * count / max(most, 1)).astype(int)


@dataclass(frozen=True)
class Cohort:
    """A cohort on disk. Arrays are read-only memory maps (slices, H, W): int16 HU, masks uint8; None where absent.

    ``organ_masks`` hold labels (``organs`` names them), ``lesion_masks`` the lesion's number (0: none);
    ``absent_*`` are the same slices without lesions and with the same noise.
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

    @property
    def organs(self) -> dict[int, str]:
        """{label in ``organ_masks``: name of the organ or structure}; {} where the cohort has none."""
        return {int(label): name for label, name in self.meta.get("organs", {}).items()}

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
        """At most ``most`` of these rows, shared equally among the patients and evenly spaced within each scan.

        A patient with fewer slices than its share gives all of them. With more patients than ``most``, one row is
        taken of every n-th patient in the order of the table.
        """
        about = self.slices[self.slices.row.isin(rows)]
        parts = [part.row.to_numpy(np.int64) for _, part in about.groupby("patient", sort=False)]
        parts = [parts[i] for i in _evenly(len(parts), most)]
        share = np.zeros(len(parts), int)
        while share.sum() < min(most, sum(map(len, parts))):
            with_more = [i for i, part in enumerate(parts) if share[i] < len(part)]
            share[min(with_more, key=lambda i: share[i])] += 1  # one more of the patient that has the fewest
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
