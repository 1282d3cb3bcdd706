"""Sources ``mayo2016``, the 2016 NIH-AAPM-Mayo challenge, and ``tcia``, its larger sibling: pairs of DICOM series."""

import re
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldct_utils.cohorts import reading, swapped
from ldct_utils.cohorts.writing import Part, Plan
from ldct_utils.ct import data_files, dicom

DOSE_OF_LETTER = {"C": 0.10, "L": 0.25, "N": 0.25}  # TCIA, LDCT-and-Projection-data, data description
LAYOUT = {
    "mayo2016": "L067/full_1mm/*.IMA beside L067/quarter_1mm/*.IMA (also *_3mm, *_1mm_sharp, *_3mm_sharp)",
    "tcia": "C002/<study>/1.000000-Low Dose Images-39882/1-001.dcm beside ...-Full Dose Images-22038/1-001.dcm",
}


def _series_of(source: str, header, root: Path) -> tuple | None:
    """(patient, series key, is low dose) of a file, from its folders and header; None if they do not say."""
    inside, patient = header.path.relative_to(root), _patient(header, root)
    if source == "mayo2016":
        named = [
            re.fullmatch(r"(?i)(full|quarter)_(\d+mm(?:_sharp)?)", part) for part in (root.name, *inside.parts[:-1])
        ]
        named = [match for match in named if match]
        if patient is None or not named:
            return None
        return patient, named[-1][2].lower().replace("_", " "), named[-1][1].lower() == "quarter"
    # The root's own name comes last: a data set called Low_Dose_CT holds both doses.
    for text in (*reversed(inside.parts[:-1]), header.description, root.name):
        named = re.search(r"(?i)\b(low|full)[ _-]*dose", text)
        if named and patient is not None:
            return patient, "", named[1].lower() == "low"
    return None


def _patient(header, root: Path) -> str | None:
    """The exam of the challenge that a file belongs to, by its folders or else its header; None if neither says."""
    by_header = header.person if reading.CHALLENGE_ID.fullmatch(header.person) else None
    return reading.challenge_id(header.path, root) or by_header


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: partners are found by patient, series and position along the slice normal.

    Raises: ValueError: if no pair is left, with every reason; for swapped doses.
    """
    root = reading.only(folders)
    found = dicom.find(root, lambda p: tqdm(p, unit="file", desc="reading headers", disable=not progress))
    skipped = [(reading.challenge_id(path, root), "", reason, path) for path, reason in found.skipped]
    series, notes, others = {}, [], {}
    for header in found.headers:
        named = _series_of(source, header, root)
        if named is None:
            other = "tcia" if source == "mayo2016" else "mayo2016"
            if _series_of(other, header, root):
                reason = f"its folders are those of source={other}, not of {source}"
            elif _patient(header, root) is None:
                reason = "no patient of the challenge, as L067, by folder or header: source=paired takes any names"
            else:
                reason = "neither a low-dose nor a full-dose series by its folder: source=paired takes any folders"
            skipped.append((reading.challenge_id(header.path, root), "", reason, header.path))
        else:
            patient, name, is_low = named
            if reading.CHALLENGE_ID.fullmatch(header.person) and header.person != patient:
                others.setdefault(patient, set()).add(header.person)
            both_doses = series.setdefault((patient, name), ([], []))
            both_doses[0 if is_low else 1].append(header)
    for patient, said in sorted(others.items()):
        notes.append(f"{patient}: headers in its folder name {', '.join(sorted(said))}; the folder is taken")
    pairs = []
    for (patient, name), both_doses in sorted(series.items()):
        if read.get("anatomy", "mixed") not in ("mixed", reading.ANATOMY_OF_LETTER[patient[0]]):
            continue
        ordered = []
        for headers in both_doses:
            with reading.naming(patient, name):
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
        if matched:
            with reading.naming(patient, name):
                swapped.check(matched, lambda header: dicom.read_hu(header.path))
        pairs += [(patient, name, low, full) for low, full in matched]
    pairs = reading.same_size(pairs, skipped, root, LAYOUT[source])
    tasks = []
    for patient, name, low, full in pairs:
        row = {
            "patient": patient,
            "series": name or f"{full.thickness_mm:g} mm {full.kernel}",
            "anatomy": reading.ANATOMY_OF_LETTER[patient[0]],
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
        anatomy_of={p: reading.ANATOMY_OF_LETTER[p[0]] for p, *_ in pairs},
        tasks=tasks,
        skipped=reading.skip_table(skipped),
        notes=notes,
    )


def read_pair(row: dict, low: str, full: str) -> Part:
    """One DICOM pair in HU."""
    arrays = {}
    for name, path in (("ldct", low), ("ndct", full)):
        try:
            with reading.naming(row["patient"], row["series"], row["z_mm"]):
                arrays[name] = dicom.read_hu(path)[None]
        except data_files.Unusable as reason:
            return reading.left_out(row, path, reason)
    return Part([row], arrays)
