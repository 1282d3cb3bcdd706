"""Source ``npy``: pairs of arrays in the layout that RED-CNN's preparation script made common, slices or stacks."""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ldct_utils.cohorts import headerless, reading, swapped
from ldct_utils.cohorts.writing import Part, Plan
from ldct_utils.ct import conventions, data_files, intensity

LAYOUT = "L506_86_input.npy beside L506_86_target.npy, (HU + 1024) / 4096, as RED-CNN's prep.py writes them"
NET = (intensity.HU_MIN, intensity.HU_MAX)  # HU that 0 and 1 stand for, where nothing else is said
FAR = (-0.5, 8.0)  # what arrays in that range never exceed: noise below air, metal above
LOOKED_AT = 3  # pairs of a patient, evenly spaced


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: partners share folder, patient and index, which RED-CNN's preparation made by position.

    A patient of several folders is one. Folders called input and target lie beside each other and count as one.

    The layout holds no geometry: thickness, pixel size and position are unknown (NaN), and so is the kernel.

    Raises: ValueError: if no pair is left, with every reason; for an array that is truncated; for swapped doses.
    """
    root = reading.only(folders)
    found, skipped = _named(root)
    people = reading.pseudonyms({key.name for key in found})
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
                    shapes[kind] = headerless.array_shape(path)
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
    notes = ["the layout holds no geometry: pixel size, thickness, kernel and z are unknown"]
    for patient in sorted({p for p, *_ in pairs}):
        with reading.naming(patient, "npy"):
            own = [(low.path, full) for p, _, low, full in pairs if p == patient]
            _check_range(own, read["hu_range"], notes)
            swapped.check(own, lambda path: _array_hu(path, read["hu_range"])[-1])
    tasks, anatomy_of = [], {}
    unsaid = [p for p, *_ in pairs if read["anatomy"] == "mixed" and p[0] not in reading.ANATOMY_OF_LETTER]
    for patient, series, low, full in pairs:
        anatomy_of[patient] = reading.ANATOMY_OF_LETTER.get(patient[0], "abdomen")
        if read["anatomy"] != "mixed":
            anatomy_of[patient] = read["anatomy"]
        row = {"patient": patient, "series": series, "anatomy": anatomy_of[patient], "kernel": "unknown"}
        row |= {"thickness_mm": np.nan, "pixel_mm": np.nan, "z_mm": np.nan, "dose": read["dose"]}
        tasks.append(partial(read_arrays, row, low.count, low.index, str(low.path), str(full), read["hu_range"]))
    if unsaid:
        notes.append(reading.assumed("patients", len(set(unsaid)), len(unsaid)))
    return Plan(
        slices=sum(low.count for _, _, low, _ in pairs),
        shape=pairs[0][2].shape,
        dtypes={"ldct": np.int16, "ndct": np.int16},
        anatomy_of=anatomy_of,
        tasks=tasks,
        skipped=reading.skip_table(skipped),
        notes=notes,
    )


class _Array:
    """Path, shape (H, W), slices and index of an array file, as ``same_size`` wants them."""

    def __init__(self, path: Path, shape: tuple, index: str):
        self.path, self.count, self.shape, self.index = path, shape[0], shape[1:], index


class _Key(NamedTuple):
    """What partners share. Two files 86 and 086 are two slices."""

    name: str
    folder: tuple
    number: int
    index: str


def _named(root: Path) -> tuple[dict, list]:
    """Arrays below a folder: {key: {"input": paths, "target": paths}} in the order of the keys, and what is skipped."""
    found, skipped = {}, []
    for path in data_files.list_files(root):
        named = re.fullmatch(r"(.+)_(\d+)_(input|target)\.np[yz]", path.name)
        if not named:
            reason = data_files.packed(path) or "its name is not <patient>_<index>_input.npy or _target.npy"
            skipped.append((None, "", reason, path))
            continue
        inside = path.relative_to(root).parts[:-1]
        folder = tuple(part for part in inside if not re.fullmatch(r"(?i)(input|target)s?", part))
        key = _Key(named[1], folder, int(named[2]), named[2])
        found.setdefault(key, {}).setdefault(named[3], []).append(path)
    return dict(sorted(found.items())), skipped


def read_arrays(row: dict, count: int, index: str, low: str, full: str, hu_range: list | None) -> Part:
    """One pair of arrays, slices or stacks of ``count`` slices, from their range to HU."""
    arrays = {}
    for name, kind, path in (("ldct", "input", low), ("ndct", "target", full)):
        with reading.naming(row["patient"], f"{index}_{kind}"):
            arrays[name] = _array_hu(path, hu_range)
    return Part([row] * count, arrays)


def _array_hu(path: str, hu_range: list | None) -> np.ndarray:
    """An array file in HU, (N, H, W) int16, not below -1024. ``hu_range``: HU of a stored 0 and 1, ``NET`` if None."""
    image = headerless.stored(Path(path))
    low, high = hu_range or NET
    stored, hu = (image.min(), image.max()), np.rint(image * (high - low) + low)
    # The range of HU in CT, -3024 to about 20000 for metal, cannot be mistaken for the network range.
    if (not hu_range and not FAR[0] <= stored[0] <= stored[1] <= FAR[1]) or hu.max() > np.iinfo(np.int16).max:
        raise data_files.about(path, ValueError(
            f"spans {stored[0]:g} to {stored[1]:g}, {'taken for' if hu_range else 'and the npy layout holds'} "
            f"{_in_words(low, high)}. {_advice(image)}"
        ))  # fmt: skip
    return hu.clip(intensity.AIR_HU, np.iinfo(np.int16).max).astype(np.int16)


def _check_range(pairs: list, hu_range: list | None, notes: list):
    """Look at a few pairs of a patient: whether they are CT in the range that they are taken for.

    Args: notes: takes a line where a range that was given does not look right.
    Raises: ValueError: where nobody gave the range and something is missing, with the ranges that would fit.
    """
    for part, kind in enumerate(("input", "target")):
        chosen = {len(pairs) * (2 * n + 1) // (2 * LOOKED_AT) for n in range(LOOKED_AT)}
        for path in [pairs[number][part] for number in sorted(chosen)]:
            _array_hu(path, hu_range)  # says what is wrong with one file
        stored = np.concatenate([_middle(pairs[number][part]) for number in sorted(chosen)])
        low, high = hu_range or NET
        lacking = conventions.missing(stored * (high - low) + low)
        if lacking and not hu_range:
            raise ValueError(f"{kind} is no CT as {_in_words(low, high)}: {lacking}. {_advice(stored)}")
        if lacking:
            notes.append(f"with the hu_range that was given, {lacking} ({kind})")


def _middle(path) -> np.ndarray:
    """Up to three slices of an array file, evenly spaced."""
    stored = headerless.stored(Path(path))
    return stored[sorted({len(stored) * (2 * n + 1) // (2 * LOOKED_AT) for n in range(LOOKED_AT)})]


def _in_words(low: float, high: float) -> str:
    return f"(HU {-low:+g}) / {high - low:g}"


def _advice(stored: np.ndarray) -> str:
    return f"{conventions.advice(stored)}; [{NET[0]:g}, {NET[1]:g}] keeps the layout's"
