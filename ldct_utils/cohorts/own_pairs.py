"""Source ``paired``: one's own pairs of low and full dose, DICOM series or volumes, in any folders and at any doses."""

from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldct_utils.cohorts import headerless, listed, reading, swapped
from ldct_utils.cohorts.paired import read_pair
from ldct_utils.cohorts.writing import Part, Plan
from ldct_utils.ct import data_files, dicom

LAYOUT = "pairs of DICOM series, NIfTI volumes or arrays that a table or patterns name (pairs)"
FULL, LOW = 0, 1


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: what ``pairs`` puts together; DICOM slices find their partners by position.

    Patients are those of the table or of the paths, else of the headers. Their names become P001, P002, ... in the
    order of the names, unless they are ids of the challenge.

    Raises: ValueError: if no pair is left, with every reason; for swapped doses; for volumes that are not in HU; for
        two patients, told apart by their paths, whose headers hold one PatientID.
    """
    root = reading.only(folders)
    rows = listed.read(read["pairs"], root, need_low=True)
    if not rows:
        raise ValueError(f"source=paired does not know what is a pair: {listed.HOW}")
    series, skipped, notes, untold = _series(rows, root, progress)
    _one_id_each(series, bool(listed.table(read["pairs"], root)), notes)
    names = reading.pseudonyms({key[0] for key in series if not key[0].startswith(UNTOLD)})
    for person in sorted({key[0] for key in series} - set(names)):
        names[person] = f"P{len({n for n in names.values() if n[0] == 'P'}) + 1:03d}"
        untold.add(names[person])
    pairs, assumed = [], []
    for (person, dose, _), sides in series.items():
        patient = names[person]
        matched = _volumes(patient, sides, skipped, read) or _slices(patient, sides, skipped, notes, patient in untold)
        kind = read["anatomy"] if read["anatomy"] != "mixed" else _anatomy(sides)
        assumed += [patient] * (kind is None) * bool(matched)
        about = {"patient": patient, "anatomy": kind or "abdomen", "dose": dose or read["dose"]}
        pairs += [(patient, label, full, (about, low)) for label, low, full in matched]
    if assumed:
        notes.append(reading.assumed("series", len(assumed), len(assumed)))
    pairs = reading.same_size(pairs, skipped, root, LAYOUT)
    tasks = []
    for _, label, full, (about, low) in sorted(pairs, key=lambda p: p[0]):
        tasks.append(_task(about | {"series": label}, low, full, read["hu_range"]))
    anatomy_of = {}
    for patient, *_, (about, _) in pairs:
        anatomy_of.setdefault(patient, about["anatomy"])
    return Plan(
        slices=sum(getattr(full, "count", 1) for _, _, full, _ in pairs),
        shape=pairs[0][2].shape,
        dtypes={"ldct": np.int16, "ndct": np.int16},
        anatomy_of=anatomy_of,
        tasks=tasks,
        skipped=reading.skip_table(skipped),
        notes=notes,
        untold={patient for patient in untold if patient in anatomy_of},
    )


UNTOLD = "\0"  # begins what stands for a person whom only the examination tells apart


class _Volume:
    """A volume as ``same_size`` wants it: path, slices, shape (H, W)."""

    def __init__(self, found: headerless.About):
        self.path, self.about, self.count, self.shape = found.path, found, found.shape[0], found.shape[1:]


def _series(rows: list, root: Path, progress: bool) -> tuple:
    """{(person, dose, row): ([full], [low])} of headers and volumes; what is skipped, notes, nobody yet untold."""
    headers, skipped, series, notes = {}, [], {}, []
    paths = sorted({path for row in rows for path in (*row.full, *row.low)})
    for path in tqdm(paths, unit="file", desc="reading headers", disable=not progress):
        if not headerless.is_one(path):
            try:
                headers[path] = dicom.read_header(path)
            except data_files.Unusable as reason:
                skipped.append(("", "", str(reason), path))
    count = len(set(data_files.list_files(root)) - set(paths) - {root / listed.TABLE})
    if count:
        notes.append(f"{count} files below data_root are in no pair that was named")
    for number, row in enumerate(rows):
        for side, files in ((FULL, row.full), (LOW, row.low)):
            for path in files:
                if headerless.is_one(path):
                    if not row.patient:
                        raise ValueError("volumes do not say whose they are: name patients in a table, or by {patient}")
                    one, person = _Volume(headerless.about(path)), row.patient
                elif path in headers:
                    one = headers[path]
                    person = row.patient or reading.one_person(one.person) or UNTOLD + (one.study or str(path.parent))
                else:
                    continue
                series.setdefault((person, row.dose, number), ([], []))[side].append(one)
    return series, skipped, notes, set()


def _one_id_each(series: dict, stated: bool, notes: list):
    """Two patients with one PatientID may be one person: refused, unless a table states that they are two."""
    people = {}
    for (person, *_), sides in series.items():
        for one in (*sides[FULL], *sides[LOW]):
            if name := reading.one_person(getattr(one, "person", "")):
                people.setdefault(name, set()).add(reading.one_person(person))
    shared = sum(len(found) > 1 for found in people.values())
    if shared and not stated:
        raise ValueError(
            f"PatientIDs that stand in the headers of several patients of the pattern: {shared}. The patients may be "
            "visits of one person. Say who is who in a table of pairs (patient, low, full)"
        )
    if shared:
        notes.append(f"{shared} PatientIDs stand in the headers of several patients; the table is taken at its word")


def _anatomy(sides) -> str | None:
    return next((kind for one in sides[FULL] if (kind := reading.body_part(getattr(one, "body_part", "")))), None)


def _slices(patient: str, sides: tuple, skipped: list, notes: list, untold: bool) -> list:
    """(series, low header, full header) of DICOM slices: series of one thickness and kernel, partners by position."""
    advice = "; the headers do not say whose it is: name patients in a table or by {patient} in the patterns" * untold
    groups = [{}, {}]
    for side in (FULL, LOW):
        for header in sides[side]:
            if isinstance(header, dicom.Header):
                groups[side].setdefault((header.thickness_mm, header.kernel), []).append(header)
    if len(groups[FULL]) == len(groups[LOW]) == 1:  # one series each are partners, whatever their kernels are called
        groups[LOW] = dict(zip(groups[FULL], groups[LOW].values()))
    pairs = []
    for key in sorted({*groups[FULL], *groups[LOW]}, key=str):
        label = f"{key[0]:g} mm {key[1]}"
        ordered = []
        for side in (LOW, FULL):
            with reading.naming(patient, label):
                copies = []
                kept, dropped = dicom.in_order(dicom.each_once(groups[side].get(key, []), copies))
            ordered.append(kept)
            skipped += [(patient, label, reason, path) for path, reason in copies]
            skipped += [(patient, label, reason, h.path) for h, reason in dropped]
        for have, want, which in ((0, 1, "full-dose"), (1, 0, "low-dose")):
            if not ordered[want]:
                reason = f"the {which} partner series is missing{advice}"
                skipped += [(patient, label, reason, h.path) for h in ordered[have]]
        if not (ordered[0] and ordered[1]):
            continue
        matched, alone = dicom.pair(*ordered)
        skipped += [(patient, label, reason, h.path) for h, reason in alone]
        if holes := dicom.gaps([full for _, full in matched]):
            notes.append(f"{patient} {label}: {holes} gaps in z; slices are used one by one, so none is lost")
        with reading.naming(patient, label):
            swapped.check(matched, lambda header: dicom.read_hu(header.path))
        pairs += [(label, low, full) for low, full in matched]
    return pairs


def _volumes(patient: str, sides: tuple, skipped: list, read: dict) -> list:
    """(series, low, full) of volumes: one of each, or partners of one name."""
    full, low = ([one for one in sides[side] if isinstance(one, _Volume)] for side in (FULL, LOW))
    if len(full) == len(low) == 1:
        found = [(low[0], full[0])]
    else:
        of_name = {one.path.name: one for one in low}
        found = [(of_name.pop(one.path.name), one) for one in full if one.path.name in of_name]
        used = {id(one) for pair in found for one in pair}
        reason = "several volumes, none of its name at the other dose: name each pair in a row of a table"
        skipped += [(patient, "", reason, one.path) for one in (*low, *full) if id(one) not in used]
    pairs = []
    for number, (a, b) in enumerate(found, 1):
        label = "volume" if len(found) == 1 else f"volume {number}"
        if a.about.shape != b.about.shape or a.about.place != b.about.place:
            reason = "the two doses have another matrix, voxel or field of view"
            skipped += [(patient, label, reason, one.path) for one in (a, b)]
            continue
        with reading.naming(patient, label):
            both = [headerless.hu(one.path, read["hu_range"]) for one in (a, b)]
            swapped.check(list(zip(*both)), lambda image: image)
        pairs.append((label, a, b))
    return pairs


def _task(row: dict, low, full, hu_range: list | None):
    if isinstance(full, _Volume):
        row = row | {"kernel": "unknown", "thickness_mm": full.about.spacing_mm, "pixel_mm": full.about.pixel_mm}
        return partial(read_volumes, row, low.path, full.path, hu_range)
    row = row | {"kernel": full.kernel, "thickness_mm": full.thickness_mm, "pixel_mm": full.pixel_mm, "z_mm": full.z_mm}
    return partial(read_pair, row, str(low.path), str(full.path))


def read_volumes(row: dict, low: Path, full: Path, hu_range: list | None) -> Part:
    """All slices of a pair of volumes, which are held in memory at once."""
    with reading.naming(row["patient"], row["series"]):
        arrays = {"ldct": headerless.hu(low, hu_range), "ndct": headerless.hu(full, hu_range)}
    rows = [row | {"z_mm": number * row["thickness_mm"]} for number in range(len(arrays["ndct"]))]
    return Part(rows, arrays)
