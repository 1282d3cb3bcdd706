"""Source ``npy``: pairs of arrays in the layout that RED-CNN's preparation script made common."""

import re
from functools import partial
from pathlib import Path

import numpy as np

from ldct_utils.cohorts import reading, swapped
from ldct_utils.cohorts.writing import Part, Plan
from ldct_utils.ct import dicom, intensity

LAYOUT = "L506_86_input.npy beside L506_86_target.npy, (HU + 1024) / 4096, as RED-CNN's prep.py writes them"


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: partners share the index in their names, which RED-CNN's preparation made by position.

    The layout holds no geometry: thickness, pixel size and position are unknown (NaN), and so is the kernel.

    Raises: ValueError: if no pair is left, with every reason; for an array that is truncated; for swapped doses.
    """
    root = reading.only(folders)
    pattern = re.compile(r"(.+)_(\d+)_(input|target)\.npy")
    series, skipped = {}, []
    for path in dicom.list_files(root):
        named = pattern.fullmatch(path.name)
        if named:
            series.setdefault((named[1], int(named[2])), {})[named[3]] = path
        else:
            skipped.append((None, "", "its name is not <patient>_<index>_input.npy or _target.npy", path))
    names = sorted({patient for patient, _ in series})
    # A name that is not a challenge id may be a person's: it becomes P001, P002, ...
    others = [name for name in names if not re.fullmatch(r"[CLN]\d{3}", name)]
    pseudonym = {n: n if n not in others else f"P{others.index(n) + 1:03d}" for n in names}
    pairs = []
    for (name, index), both in sorted(series.items()):
        patient = pseudonym[name]
        if len(both) == 2:
            shapes = {}
            for kind, path in both.items():
                with reading.naming(patient, f"{index}_{kind}"):
                    shapes[kind] = _npy_shape(path)
            if shapes["input"] != shapes["target"]:
                skipped.append((patient, "", "input and target differ in size", both["input"]))
            else:
                pairs.append((patient, index, _Array(both["input"], shapes["input"]), both["target"]))
        else:
            wanted = "target" if "input" in both else "input"
            skipped.append((patient, "", f"its partner _{wanted}.npy is missing", next(iter(both.values()))))
    pairs = reading.same_size(pairs, skipped, root, LAYOUT)
    for patient in sorted({p for p, *_ in pairs}):
        with reading.naming(patient, "npy"):
            swapped.check([(low.path, full) for p, _, low, full in pairs if p == patient], _array_hu)
    tasks, anatomy_of = [], {}
    unsaid = [p for p, *_ in pairs if read["anatomy"] == "mixed" and p[0] not in reading.ANATOMY_OF_LETTER]
    for patient, index, low, full in pairs:
        anatomy_of[patient] = reading.ANATOMY_OF_LETTER.get(patient[0], "abdomen")
        if read["anatomy"] != "mixed":
            anatomy_of[patient] = read["anatomy"]
        row = {"patient": patient, "series": "npy", "anatomy": anatomy_of[patient], "kernel": "unknown"}
        row |= {"thickness_mm": np.nan, "pixel_mm": np.nan, "z_mm": np.nan, "dose": read["dose"]}
        tasks.append(partial(read_arrays, row, index, str(low.path), str(full)))
    notes = ["the layout holds no geometry: pixel size, thickness, kernel and z are unknown"]
    if unsaid:
        notes.append(reading.assumed("patients", len(set(unsaid)), len(unsaid)))
    return Plan(
        slices=len(tasks),
        shape=pairs[0][2].shape,
        dtypes={"ldct": np.int16, "ndct": np.int16},
        anatomy_of=anatomy_of,
        tasks=tasks,
        skipped=reading.skip_table(skipped),
        notes=notes,
    )


class _Array:
    """Path and shape of an array file, as ``same_size`` wants them."""

    def __init__(self, path: Path, shape: tuple):
        self.path, self.shape = path, shape


def _load(path, **options) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False, **options)
    except (ValueError, EOFError, OSError) as error:
        if getattr(error, "errno", None):
            raise dicom.not_read(path, error) from None
        raise dicom.about(path, ValueError("truncated or not a plain array; write it again")) from None


def _npy_shape(path: Path) -> tuple:
    shape = _load(path, mmap_mode="r").shape
    if len(shape) != 2:
        raise dicom.about(path, ValueError(f"shape {shape}; one slice (H, W) a file is expected"))
    return shape


def read_arrays(row: dict, index: int, low: str, full: str) -> Part:
    """One pair of arrays, from the network range to HU."""
    arrays = {}
    for name, kind, path in (("ldct", "input", low), ("ndct", "target", full)):
        with reading.naming(row["patient"], f"{index}_{kind}"):
            arrays[name] = _array_hu(path)[None]
    return Part([row], arrays)


def _array_hu(path: str) -> np.ndarray:
    image = _load(path).astype(np.float64)
    low, high = image.min(), image.max()
    # The range of HU in CT, -3024 to about 20000 for metal, cannot be mistaken for the network range.
    if not (np.isfinite(image).all() and low >= -0.5 and high <= 8):
        raise dicom.about(path, ValueError(
            f"spans {low:g} to {high:g}: the npy layout holds (HU + 1024) / 4096. Arrays in HU: "
            "save (image + 1024) / 4096 instead"
        ))  # fmt: skip
    hu = np.rint(intensity.from_net(image))
    return hu.clip(dicom.AIR_HU, np.iinfo(np.int16).max).astype(np.int16)
