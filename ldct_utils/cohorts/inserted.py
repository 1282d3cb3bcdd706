"""Source ``dicom``: normal-dose CT, given a low dose by inserting noise; anatomy is never reconstructed anew."""

import re
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldct_utils.cohorts import cohort, listed, reading, writing
from ldct_utils.cohorts.writing import Part, Plan
from ldct_utils.ct import data_files, dicom, dose, fbp, intensity
from ldct_utils.study.paths import locate

LAYOUT = "normal-dose axial CT series as DICOM files, in any folders"
TILTED = 0.85  # cosine of the largest gantry tilt, 30 degrees and some
MEASURED = 40  # pairs that a noise kernel is measured on
REAL_PAIRS = ("mayo2016", "tcia", "npy", "paired")  # sources whose low dose was not made here


def of_machine() -> dict:
    """What of this machine the slices depend on: what makes the projections."""
    return {"projector": fbp.backend()}


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: every normal-dose series below the folders, low dose made by inserting noise.

    A patient is one person of the headers, or one exam of the challenge where the folders are the challenge's; see
    ``_people``. Pseudonyms P001... follow the order of the paths. Each series has its own anatomy; the split goes by a
    patient's first.

    Raises: ValueError: for an unknown kernel, a cohort that no kernel can be measured on, or if no slice is left, with
        every reason.
    """
    shape = texture(read["kernel"])
    series, skipped, stated = {}, [], {}
    if read["pairs"] or len(folders) == 1:
        for row in listed.read(read["pairs"], reading.only(folders), need_low=False):
            stated |= dict.fromkeys(row.full, row.patient)
    for root in folders:
        found = dicom.find(root, lambda p: tqdm(p, unit="file", desc="reading headers", disable=not progress))
        skipped += [
            (_exam(path, root), "", reason, path) for path, reason in found.skipped if path.name != listed.TABLE
        ]
        for h in found.headers:
            reason, exam = _not_normal_dose(h, root), _exam(h.path, root, h.description)
            if stated and h.path not in stated:
                reason = "not in the table that says who is who"
            if reason:
                skipped.append((exam, "", reason, h.path))
            else:
                key = (
                    str(h.path.parent),
                    exam,
                    stated.get(h.path),
                    h.person,
                    h.study,
                    h.series,
                    h.kernel,
                    h.thickness_mm,
                    h.normal,
                )
                series.setdefault((*key, h.shape), []).append(h)
    firsts = [(key[1], one[0]) for key, headers in series.items() for one in dicom.acquisitions(headers)]
    names, untold, notes = _people(firsts, stated)
    slices, kinds, assumed, odd = [], {}, [], set()
    for (_, exam, *_), headers in [(key, one) for key, of in series.items() for one in dicom.acquisitions(of)]:
        first = headers[0]
        patient = names[exam, first]
        label = f"{first.thickness_mm:g} mm {first.kernel}"
        with reading.naming(patient, label):
            kept, dropped = dicom.in_order(headers)
        skipped += [(patient, label, reason, h.path) for h, reason in dropped]
        if dicom.gaps(kept):
            notes.append(
                f"{patient} {label}: {dicom.gaps(kept)} gaps in z; slices are used one by one, so none is lost"
            )
        by_exam, by_header = reading.ANATOMY_OF_LETTER.get(exam[:1]), reading.body_part(first.body_part)
        if by_exam and by_header and by_exam != by_header:
            odd.add(f"{patient}: the headers say {by_header}, the exam's letter {by_exam}")
        kind = by_exam or by_header if read["anatomy"] == "mixed" else read["anatomy"]
        if kind is None:
            assumed.append(len(kept))
        slices += [(patient, label, h, kind or "abdomen") for h in kept]
    if read["anatomy"] == "mixed":
        notes += [f"{one}, which is taken; anatomy=... overrides it" for one in sorted(odd)]
    if assumed:
        notes.append(reading.assumed("series", len(assumed), sum(assumed)))
    slices = reading.same_size(slices, skipped, ", ".join(map(str, folders)), LAYOUT)
    tasks = []
    for i, (patient, label, h, kind) in enumerate(slices):
        kinds.setdefault(patient, kind)
        row = {"patient": patient, "series": label, "anatomy": kind, "kernel": h.kernel, "thickness_mm": h.thickness_mm}
        row |= {"pixel_mm": h.pixel_mm, "z_mm": h.z_mm, "dose": read["dose"]}
        tasks.append(partial(insert, row, str(h.path), shape, writing.seed_of(read["cohort_seed"], i)))
    return Plan(
        slices=len(tasks),
        shape=slices[0][2].shape,
        dtypes={"ldct": np.int16, "ndct": np.int16},
        anatomy_of=kinds,
        tasks=tasks,
        parallel=True,
        skipped=reading.skip_table(skipped),
        notes=notes,
        untold=untold,
    )


def texture(kernel: str) -> tuple:
    """What shapes the noise: a name in ``fbp.KERNELS``, or a paired cohort of the same scanner that it is measured on.

    Args: kernel: a kernel's name; ``own``, measured in each slice itself; or a cohort's folder, e.g.
        ``cohorts/mayo2016-85addb80``. Its training pairs of the commonest pixel size are measured, ``MEASURED`` of
        them at the most; the pairs of a test patient never are.
    Returns: (kernel's name, ``dose.NoiseKernel`` or None).
    """
    folder = locate(kernel) if "/" in kernel else None
    if folder is None:
        if kernel != dose.OWN:
            fbp.apodisation(kernel)
        return kernel, None
    pairs = cohort.load(folder)
    table = pairs.slices[pairs.slices.split == "train"]
    if pairs.meta["source"] not in REAL_PAIRS or table.empty:
        raise ValueError(f"kernel {kernel}: noise is measured on the training slices of a cohort of real pairs")
    pixel_mm = float(table.pixel_mm.mode()[0])
    rows = table.row[np.isclose(table.pixel_mm, pixel_mm, rtol=0.05)].to_numpy()
    rows = rows[np.linspace(0, len(rows) - 1, min(MEASURED, len(rows))).astype(int)]
    ldct, ndct = (images[rows].astype(np.float32) for images in (pairs.ldct, pairs.ndct))
    return "hann", dose.measured_kernel(ldct - ndct, ndct, pixel_mm)


def _not_normal_dose(header, root: Path) -> str:
    """Why a slice cannot take inserted noise; empty if it can."""
    inside = " ".join((*header.path.relative_to(root).parts[:-1], header.description))
    # Of the root's name only a series' own counts: a folder of low-dose studies may well hold normal doses too.
    if re.search(r"(?i)quarter_\d+mm|\blow[ _-]*dose", inside) or re.match(r"(?i)quarter_\d+mm", root.name):
        return "already a low-dose series"
    if abs(header.normal[2]) < TILTED:
        return "not an axial series: noise is inserted along the projections of axial slices"
    return ""


def _exam(path: Path, root: Path, description: str = "") -> str:
    """The challenge's id of the exam that a file belongs to, where its folders are the challenge's; else "".

    A folder that only looks like such an id, a room or a case L203, says nothing of who lies in it.
    """
    inside = reading.folders_of(path, root)
    by_folder = any(re.fullmatch(r"(?i)(full|quarter)_\d+mm(_sharp)?", part) for part in inside)
    by_words = any(re.search(r"(?i)\b(low|full)[ _-]*dose", text) for text in (*inside, description))
    return (reading.challenge_id(path, root) or "") if by_folder or by_words else ""


def _people(series: list, stated: dict) -> tuple[dict, set, list]:
    """Who the series are of: one person has one name, whatever the headers and folders look like.

    Two series are of one person if they share a PatientID (visits aside, ``reading.one_person``) or an exam of the
    challenge. An exam whose headers name several people is none. Without either, an examination stands for a person.

    Args: series: (exam or "", first header) of each. stated: {file: who it is of}, which then is all that counts.
    Returns: {(exam, header): patient}; the patients who are told apart by their examinations alone; notes.
    """
    ids = {}
    for exam, header in series:
        ids.setdefault(exam, set()).add(reading.one_person(header.person))
    crowded = {exam for exam, people in ids.items() if exam and len(people - {""}) > 1}
    groups = []
    for exam, header in series:
        marks = {("exam", exam)} if exam and exam not in crowded else set()
        if header.person:
            marks.add(("id", reading.one_person(header.person)))
        if header.path in stated:
            marks = {("stated", reading.one_person(stated[header.path]))}
        marks = marks or {("study", header.study or str(header.path.parent))}
        own = {"marks": marks, "series": [(exam, header)]}
        for other in [g for g in groups if g["marks"] & own["marks"]]:
            own = {name: type(own[name])((*other[name], *own[name])) for name in own}
            groups.remove(other)
        groups.append(own)
    names, untold, notes, number = {}, set(), [], 0
    notes += [f"the headers below folder {e} name several people: they are taken as such" for e in sorted(crowded)]
    order = {key: place for place, key in enumerate(series)}
    for group in sorted(groups, key=lambda g: min(order[key] for key in g["series"])):
        exams = sorted(value for kind, value in group["marks"] if kind == "exam")
        number += not exams
        name = exams[0] if exams else f"P{number:03d}"
        if len(exams) > 1:
            notes.append(f"{' and '.join(exams)} have one PatientID in their headers: they are taken for one person")
        if {kind for kind, _ in group["marks"]} == {"study"}:
            untold.add(name)
        names |= dict.fromkeys(group["series"], name)
    return names, untold, notes


def insert(row: dict, path: str, shape: tuple, seed: int) -> Part:
    """One normal-dose slice of a file, and the same slice with the noise of a lower dose added."""
    try:
        with reading.naming(row["patient"], row["series"], row["z_mm"]):
            ndct = dicom.read_hu(path)
    except data_files.Unusable as reason:
        return reading.left_out(row, path, reason)
    return with_noise(row, ndct, shape, seed)


def with_noise(row: dict, ndct: np.ndarray, shape: tuple, seed: int) -> Part:
    """One normal-dose slice and the same slice with the noise of a lower dose added.

    A slice without soft tissue, in which its own noise could be measured, is skipped. What lies at the lower end of the
    scale, above all the padding outside the reconstructed circle, stays there: clipping would take the negative half of
    any noise added to it, and so raise the mean.

    Args: row: of the cohort's table; gives pixel and dose. ndct: (H, W) int16 HU. shape: of the noise (``texture``).
    """
    kernel, measured = shape
    try:
        ldct = dose.low_dose_from_image(ndct.astype(np.float32), row["pixel_mm"], row["dose"], kernel, seed, measured)
    except ValueError as error:
        return Part(skipped=[{"patient": row["patient"], "series": row["series"], "reason": str(error)}])
    ldct[ndct == intensity.AIR_HU] = intensity.AIR_HU
    return Part([row], {"ldct": np.rint(ldct).clip(intensity.AIR_HU, 32767).astype(np.int16)[None], "ndct": ndct[None]})
