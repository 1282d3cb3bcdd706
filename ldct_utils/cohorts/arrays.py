"""Source ``npy``: pairs of arrays in the layout that RED-CNN's preparation script made common."""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ldct_utils.cohorts import reading, swapped
from ldct_utils.cohorts.writing import Part, Plan
from ldct_utils.ct import dicom, intensity

LAYOUT = "L506_86_input.npy beside L506_86_target.npy, (HU + 1024) / 4096, as RED-CNN's prep.py writes them"


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: partners share folder, patient and index, which RED-CNN's preparation made by position.

    A patient of several folders is one. Folders called input and target lie beside each other and count as one.

    The layout holds no geometry: thickness, pixel size and position are unknown (NaN), and so is the kernel.

    Raises: ValueError: if no pair is left, with every reason; for an array that is truncated; for swapped doses.
    """
    root = reading.only(folders)
    found, skipped = _named(root)
    people = _pseudonyms({key.name for key in found})
    places = {key: place for place, key in enumerate(dict.fromkeys((k.name, k.folder) for k in found))}
    pairs = []
    for key, files in found.items():
        patient = people[key.name]
        twice = [path for paths in files.values() if len(paths) > 1 for path in paths]
        if twice:
            every = [path for paths in files.values() for path in paths]
            skipped += [(patient, "", "two files claim to be one slice: keep one of them", path) for path in every]
        elif len(files) == 2:
            both, shapes = {kind: path for kind, (path,) in files.items()}, {}
            for kind, path in both.items():
                with reading.naming(patient, f"{key.index}_{kind}"):
                    shapes[kind] = _npy_shape(path)
            if shapes["input"] != shapes["target"]:
                skipped += [(patient, "", "input and target differ in size", path) for path in both.values()]
            else:
                series = f"npy {places[key.name, key.folder] + 1}" if len(places) > len(people) else "npy"
                pairs.append((patient, series, _Array(both["input"], shapes["input"], key.index), both["target"]))
        else:
            wanted = "target" if "input" in files else "input"
            ((path,),) = files.values()
            skipped.append((patient, "", f"its partner _{wanted}.npy is missing in its folder", path))
    pairs = reading.same_size(pairs, skipped, root, LAYOUT)
    for patient in sorted({p for p, *_ in pairs}):
        with reading.naming(patient, "npy"):
            swapped.check([(low.path, full) for p, _, low, full in pairs if p == patient], _array_hu)
    tasks, anatomy_of = [], {}
    unsaid = [p for p, *_ in pairs if read["anatomy"] == "mixed" and p[0] not in reading.ANATOMY_OF_LETTER]
    for patient, series, low, full in pairs:
        anatomy_of[patient] = reading.ANATOMY_OF_LETTER.get(patient[0], "abdomen")
        if read["anatomy"] != "mixed":
            anatomy_of[patient] = read["anatomy"]
        row = {"patient": patient, "series": series, "anatomy": anatomy_of[patient], "kernel": "unknown"}
        row |= {"thickness_mm": np.nan, "pixel_mm": np.nan, "z_mm": np.nan, "dose": read["dose"]}
        tasks.append(partial(read_arrays, row, low.index, str(low.path), str(full)))
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
    """Path, shape and index of an array file, as ``same_size`` wants them."""

    def __init__(self, path: Path, shape: tuple, index: str):
        self.path, self.shape, self.index = path, shape, index


class _Key(NamedTuple):
    """What partners share. Two files 86 and 086 are two slices."""

    name: str
    folder: tuple
    number: int
    index: str


def _named(root: Path) -> tuple[dict, list]:
    """Arrays below a folder: {key: {"input": paths, "target": paths}} in the order of the keys, and what is skipped."""
    found, skipped = {}, []
    for path in dicom.list_files(root):
        named = re.fullmatch(r"(.+)_(\d+)_(input|target)\.npy", path.name)
        if not named:
            skipped.append((None, "", "its name is not <patient>_<index>_input.npy or _target.npy", path))
            continue
        inside = path.relative_to(root).parts[:-1]
        folder = tuple(part for part in inside if not re.fullmatch(r"(?i)(input|target)s?", part))
        key = _Key(named[1], folder, int(named[2]), named[2])
        found.setdefault(key, {}).setdefault(named[3], []).append(path)
    return dict(sorted(found.items())), skipped


def _pseudonyms(names: set) -> dict:
    """{name in a file: patient}. A name that is not a challenge's id may be a person's: it becomes P001, P002, ..."""
    people = sorted({reading.one_person(name) for name in names})
    others = [person for person in people if not reading.CHALLENGE_ID.fullmatch(person.upper())]
    of_person = {p: f"P{others.index(p) + 1:03d}" if p in others else p.upper() for p in people}
    return {name: of_person[reading.one_person(name)] for name in names}


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


def read_arrays(row: dict, index: str, low: str, full: str) -> Part:
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
