"""Paired sources: the 2016 challenge (``mayo2016``), its sibling on TCIA (``tcia``), RED-CNN's arrays (``npy``)."""

import logging
import re
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldct_utils import dicom, intensity
from ldct_utils.cohorts.writing import Part, Plan

ANATOMY_OF_LETTER = {"C": "chest", "L": "abdomen", "N": "head"}  # exam letter of Mayo's patient ids
DOSE_OF_LETTER = {"C": 0.10, "L": 0.25, "N": 0.25}  # TCIA, LDCT-and-Projection-data, data description
LAYOUT = {
    "mayo2016": "L067/full_1mm/*.IMA beside L067/quarter_1mm/*.IMA (also *_3mm, *_1mm_sharp, *_3mm_sharp)",
    "tcia": "C002/<study>/1.000000-Low Dose Images-39882/1-001.dcm beside ...-Full Dose Images-22038/1-001.dcm",
    "npy": "L506_86_input.npy beside L506_86_target.npy, (HU + 1024) / 4096, as RED-CNN's prep.py writes them",
}
log = logging.getLogger(__name__)  # paths of skipped files go here, never into a file: set it to INFO to see them


def challenge_id(path: Path) -> str | None:
    """The patient id of Mayo's data (L506, C002, N012) in a path, nearest to the file; None if there is none."""
    found = [part for part in path.parts if re.fullmatch(r"[CLN]\d{3}", part)]
    return found[-1] if found else None


def skip_table(entries) -> list:
    """(patient, series, reason, path) of files left out -> one dict a reason with the number of files."""
    entries = list(entries)
    for patient, series, reason, path in entries:
        log.info("skipped %s (%s %s): %s", path, patient, series, reason)
    counted = Counter((patient or "", series or "", reason) for patient, series, reason, _ in entries)
    return [{"patient": p, "series": s, "reason": r, "files": n} for (p, s, r), n in sorted(counted.items())]


def nothing_usable(source: str, root, skipped: list) -> ValueError:
    """The error for a source of which no slice is left: every reason, and the layout that was expected."""
    reasons = "; ".join(f"{s['files']} x {s['patient']} {s['series']} {s['reason']}" for s in skipped)
    return ValueError(
        f"no usable slice in {root} for source={source}: {reasons or 'no file fits'}. Expected: {LAYOUT[source]}"
    )


def same_size(source: str, root, pairs: list, skipped: list) -> list:
    """Keep the slices of the most frequent matrix: one cohort is one array. ``pairs``: (patient, series, low, full)."""
    if not pairs:
        raise nothing_usable(source, root, skip_table(skipped))
    sizes = Counter(p[2].shape for p in pairs)
    shape = max(sizes, key=lambda s: (sizes[s], s))
    skipped += [
        (p, s, f"matrix {h.shape[0]}x{h.shape[1]} in a cohort of {shape[0]}x{shape[1]}", h.path)
        for p, s, h, _ in pairs
        if h.shape != shape
    ]
    return [p for p in pairs if p[2].shape == shape]


def _dose_level(source: str, header, root: Path) -> tuple | None:
    """(patient, series key, is low dose) of a file, from its folders and header; None if they do not say."""
    inside = header.path.relative_to(root)
    patient = challenge_id(Path(root.name, *inside.parts[:-1])) or challenge_id(Path(header.person.removeprefix("id ")))
    if source == "mayo2016":
        named = [
            re.fullmatch(r"(?i)(full|quarter)_(\d+mm(?:_sharp)?)", part) for part in (root.name, *inside.parts[:-1])
        ]
        named = [match for match in named if match]
        if patient is None or not named:
            return None
        return patient, named[-1][2].lower().replace("_", " "), named[-1][1].lower() == "quarter"
    for text in (*reversed(inside.parts[:-1]), root.name, header.description):
        named = re.search(r"(?i)\b(low|full)[ _-]*dose", text)
        if named and patient is not None:
            return patient, "", named[1].lower() == "low"
    return None


def dicom_pairs(source: str, root: Path, anatomy: str, progress: bool) -> Plan:
    """Plan of ``mayo2016`` and ``tcia``: partners are found by patient, series and position along the slice normal.

    Raises: ValueError: if no pair is left, with every reason.
    """
    found = dicom.find(root, lambda p: tqdm(p, unit="file", desc="reading headers", disable=not progress))
    skipped = [(challenge_id(path), "", reason, path) for path, reason in found.skipped]
    series, notes = {}, []
    for header in found.headers:
        level = _dose_level(source, header, root)
        if level is None:
            skipped.append(
                (challenge_id(header.path), "", "neither a low-dose nor a full-dose series by its folder", header.path)
            )
        else:
            series.setdefault(level[:2], ([], []))[0 if level[2] else 1].append(header)
    pairs = []
    for (patient, name), levels in sorted(series.items()):
        if anatomy not in ("mixed", ANATOMY_OF_LETTER[patient[0]]):
            continue
        ordered = []
        for headers in levels:
            kept, dropped = dicom.in_order(headers)
            ordered.append(kept)
            skipped += [(patient, name, reason, h.path) for h, reason in dropped]
        for have, want, which in ((1, 0, "low-dose"), (0, 1, "full-dose")):
            if not ordered[want]:
                skipped += [(patient, name, f"the {which} partner series is missing", h.path) for h in ordered[have]]
        if not (ordered[0] and ordered[1]):
            continue
        matched, alone = dicom.pair(*ordered)
        skipped += [(patient, name, reason, h.path) for h, reason in alone]
        holes = dicom.gaps([full for _, full in matched])
        if holes:
            notes.append(f"{patient} {name}: {holes} gaps in z; slices are used one by one, so none is lost")
        pairs += [(patient, name, low, full) for low, full in matched]
    pairs = same_size(source, root, pairs, skipped)
    tasks = []
    for patient, name, low, full in pairs:
        row = {
            "patient": patient,
            "series": name or f"{full.thickness_mm:g} mm {full.kernel}",
            "anatomy": ANATOMY_OF_LETTER[patient[0]],
            "kernel": full.kernel,
            "thickness_mm": full.thickness_mm,
            "pixel_mm": full.pixel_mm,
            "z_mm": full.z_mm,
            "dose": DOSE_OF_LETTER[patient[0]] if source == "tcia" else 0.25,
        }
        tasks.append(partial(read_pair, row, str(low.path), str(full.path)))
    return Plan(
        slices=len(tasks),
        shape=pairs[0][2].shape,
        dtypes={"ldct": np.int16, "ndct": np.int16},
        anatomy_of={p: ANATOMY_OF_LETTER[p[0]] for p, *_ in pairs},
        tasks=tasks,
        skipped=skip_table(skipped),
        notes=notes,
    )


def read_pair(row: dict, low: str, full: str) -> Part:
    """One DICOM pair in HU."""
    return Part([row], {"ldct": dicom.read_hu(low)[None], "ndct": dicom.read_hu(full)[None]})


def npy_pairs(root: Path, dose: float) -> Plan:
    """Plan of ``npy``: partners share the index in their names, which RED-CNN's preparation made by position.

    The layout holds no geometry: thickness, pixel size and position are unknown (NaN), and so is the kernel.
    """
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
    found = []
    for (name, _), both in sorted(series.items()):
        if len(both) == 2:
            shapes = {kind: _npy_shape(path) for kind, path in both.items()}
            if shapes["input"] != shapes["target"]:
                skipped.append((pseudonym[name], "", "input and target differ in size", both["input"]))
            else:
                found.append((pseudonym[name], "npy", _Array(both["input"], shapes["input"]), both["target"]))
        else:
            wanted = "target" if "input" in both else "input"
            skipped.append((pseudonym[name], "", f"its partner _{wanted}.npy is missing", next(iter(both.values()))))
    found = same_size("npy", root, found, skipped)
    tasks = []
    for patient, name, low, full in found:
        anatomy = ANATOMY_OF_LETTER.get(patient[0], "abdomen")
        row = {"patient": patient, "series": name, "anatomy": anatomy, "kernel": "unknown", "thickness_mm": np.nan}
        row |= {"pixel_mm": np.nan, "z_mm": np.nan, "dose": dose}
        tasks.append(partial(read_arrays, row, str(low.path), str(full)))
    return Plan(
        slices=len(tasks),
        shape=found[0][2].shape,
        dtypes={"ldct": np.int16, "ndct": np.int16},
        anatomy_of={patient: ANATOMY_OF_LETTER.get(patient[0], "abdomen") for patient, *_ in found},
        tasks=tasks,
        skipped=skip_table(skipped),
        notes=["the layout holds no geometry: pixel size, thickness, kernel and z are unknown"],
    )


class _Array:
    """Path and shape of an array file, as ``same_size`` wants them."""

    def __init__(self, path: Path, shape: tuple):
        self.path, self.shape = path, shape


def _npy_shape(path: Path) -> tuple:
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, PermissionError):
            raise PermissionError(f"no permission to read {path}: chmod u+r it") from error
        raise ValueError(f"{path} is truncated or not a plain array ({error}); write it again") from error
    if len(shape) != 2:
        raise ValueError(f"{path} has shape {shape}; one slice (H, W) a file is expected")
    return shape


def read_arrays(row: dict, low: str, full: str) -> Part:
    """One pair of arrays, from the network range to HU."""
    return Part([row], {"ldct": _array_hu(low)[None], "ndct": _array_hu(full)[None]})


def _array_hu(path: str) -> np.ndarray:
    image = np.load(path, allow_pickle=False).astype(np.float64)
    low, high = image.min(), image.max()
    # The range of HU in CT, -3024 to about 20000 for metal, cannot be mistaken for the network range.
    if not (np.isfinite(image).all() and low >= -0.5 and high <= 8):
        raise ValueError(
            f"{path} spans {low:g} to {high:g}: the npy layout holds (HU + 1024) / 4096. Arrays in HU: "
            "save (image + 1024) / 4096 instead"
        )
    hu = np.rint(intensity.from_net(image))
    return hu.clip(dicom.AIR_HU, np.iinfo(np.int16).max).astype(np.int16)
