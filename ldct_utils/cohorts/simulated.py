"""Sources whose low dose is made here: ``simulated`` patients, and noise inserted into normal-dose ``dicom``."""

import re
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldct_utils import dicom, dose, phantom
from ldct_utils.cohorts import paired
from ldct_utils.cohorts.writing import Part, Plan

PIXEL_MM = (0.70, 0.80)  # texture and anatomy keep their real scale in pixels: crop rather than shrink
THICKNESS_MM = 3.0
IMAGES = ("ldct", "ndct", "truth", "absent_ldct", "absent_ndct", "absent_truth")
MASKS = ("organ_masks", "lesion_masks")
HEAD, CHEST = {"HEAD", "BRAIN", "SKULL"}, {"CHEST", "THORAX", "LUNG"}  # BodyPartExamined, DICOM PS3.16 annex L


def seed_of(*numbers) -> int:
    """An independent seed for each combination of numbers, e.g. cohort seed, patient, slice."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def plan_simulated(patients: int, slices: int, anatomy: str, level: float, kernel: str, size: int, seed: int) -> Plan:
    """Plan of ``simulated``: patient i depends on the seed and i only, whatever the dose, the kernel or the others.

    Raises: ValueError: for an unknown anatomy or kernel, or a number out of range.
    """
    known = tuple(phantom.ANATOMIES)
    if anatomy not in (*known, "mixed"):
        raise ValueError(f"unknown anatomy {anatomy!r}; known: {', '.join(known)}, mixed")
    if patients < 1 or slices < 1 or size < 64:
        raise ValueError(f"need patients >= 1, slices >= 1, size >= 64; got {patients}, {slices}, {size}")
    of = {f"P{i + 1:03d}": known[i % len(known)] if anatomy == "mixed" else anatomy for i in range(patients)}
    tasks = [
        partial(one_patient, name, kind, slices, level, kernel, size, seed_of(seed, i))
        for i, (name, kind) in enumerate(of.items())
    ]
    return Plan(
        slices=patients * slices,
        shape=(size, size),
        dtypes=dict.fromkeys(IMAGES, np.int16) | dict.fromkeys(MASKS, np.uint8),
        anatomy_of=of,
        tasks=tasks,
        parallel=True,
    )


def one_patient(name: str, anatomy: str, slices: int, level: float, kernel: str, size: int, seed: int) -> Part:
    """Anatomy and both scans of one simulated patient."""
    pixel_mm = float(np.random.default_rng(seed).uniform(*PIXEL_MM))
    body = phantom.patient(seed, anatomy, size=size, slices=slices, thickness_mm=THICKNESS_MM, pixel_mm=pixel_mm)
    scan = dose.scan(body.truth, pixel_mm, level, kernel=kernel, seed=seed, absent=body.absent_truth)
    images = {
        "ldct": scan.ldct,
        "ndct": scan.ndct,
        "truth": body.truth,
        "absent_ldct": scan.absent_ldct,
        "absent_ndct": scan.absent_ndct,
        "absent_truth": body.absent_truth,
    }
    arrays = {key: np.rint(image).clip(dicom.AIR_HU, 32767).astype(np.int16) for key, image in images.items()}
    arrays |= {"organ_masks": body.organ_masks.astype(np.uint8), "lesion_masks": body.lesion_masks.astype(np.uint8)}
    rows = [
        {
            "patient": name,
            "series": f"{THICKNESS_MM:g} mm {kernel}",
            "anatomy": anatomy,
            "kernel": kernel,
            "thickness_mm": THICKNESS_MM,
            "pixel_mm": pixel_mm,
            "z_mm": float(z),
            "dose": level,
        }
        for z in body.z_mm
    ]
    lesions = body.lesions.copy()
    lesions["patient"] = name
    return Part(rows, arrays, {"lesions": lesions[["patient", *(c for c in lesions if c != "patient")]]})


def plan_inserted(roots: list, level: float, kernel: str, anatomy: str, seed: int, progress: bool) -> Plan:
    """Plan of ``dicom``: every normal-dose series below the folders, low dose made by inserting noise.

    A patient is one challenge id in the path, else one person of the headers, else one folder; pseudonyms P001...
    follow the order of the paths.

    Raises: ValueError: if no slice is left, with every reason.
    """
    series, skipped, notes = {}, [], []
    for root in roots:
        found = dicom.find(root, lambda p: tqdm(p, unit="file", desc="reading headers", disable=not progress))
        skipped += [(paired.challenge_id(path), "", reason, path) for path, reason in found.skipped]
        for h in found.headers:
            reason = _not_normal_dose(h, root)
            if reason:
                skipped.append((paired.challenge_id(h.path), "", reason, h.path))
            else:
                key = (str(h.path.parent), h.series, h.kernel, h.thickness_mm, h.normal, h.shape)
                series.setdefault(key, []).append(h)
    slices, names = [], {}
    for headers in series.values():
        first = headers[0]
        own = paired.challenge_id(first.path.parent)
        person = own or first.person or str(first.path.parent)
        patient = names.setdefault(person, own or f"P{sum(v[0] == 'P' for v in names.values()) + 1:03d}")
        kept, dropped = dicom.in_order(headers)
        label = f"{first.thickness_mm:g} mm {first.kernel}"
        skipped += [(patient, label, reason, h.path) for h, reason in dropped]
        if dicom.gaps(kept):
            notes.append(
                f"{patient} {label}: {dicom.gaps(kept)} gaps in z; slices are used one by one, so none is lost"
            )
        if first.kernel not in dose.KERNELS:
            notes.append(f"{patient} {label}: noise of kernel {kernel}, since {first.kernel} has none of its own")
        slices += [(patient, label, h, None) for h in kept]
    slices = paired.same_size("dicom", ", ".join(map(str, roots)), slices, skipped)
    tasks, of = [], {}
    for i, (patient, label, h, _) in enumerate(slices):
        kind = of.setdefault(patient, anatomy if anatomy != "mixed" else _anatomy(h, patient))
        row = {"patient": patient, "series": label, "anatomy": kind, "kernel": h.kernel, "thickness_mm": h.thickness_mm}
        row |= {"pixel_mm": h.pixel_mm, "z_mm": h.z_mm, "dose": level}
        used = h.kernel if h.kernel in dose.KERNELS else kernel
        tasks.append(partial(insert, row, str(h.path), used, seed_of(seed, i)))
    return Plan(
        slices=len(tasks),
        shape=slices[0][2].shape,
        dtypes={"ldct": np.int16, "ndct": np.int16},
        anatomy_of=of,
        tasks=tasks,
        parallel=True,
        skipped=paired.skip_table(skipped),
        notes=notes,
    )


def _not_normal_dose(header, root: Path) -> str:
    """Why a slice cannot take inserted noise; empty if it can."""
    where = " ".join((root.name, *header.path.relative_to(root).parts[:-1], header.description))
    if re.search(r"(?i)quarter_\d+mm|\blow[ _-]*dose", where):
        return "already a low-dose series"
    if abs(header.normal[2]) < 0.9:
        return "not an axial series: noise is inserted along the projections of axial slices"
    return ""


def _anatomy(header, patient: str) -> str:
    """Anatomy by the challenge's exam letter, else by BodyPartExamined, else abdomen."""
    if paired.ANATOMY_OF_LETTER.get(patient[0]):
        return paired.ANATOMY_OF_LETTER[patient[0]]
    return "head" if header.body_part in HEAD else "chest" if header.body_part in CHEST else "abdomen"


def insert(row: dict, path: str, kernel: str, seed: int) -> Part:
    """One normal-dose slice and the same slice with the noise of a lower dose added."""
    ndct = dicom.read_hu(path)
    ldct = dose.low_dose_from_image(ndct.astype(np.float32), row["pixel_mm"], row["dose"], kernel=kernel, seed=seed)
    return Part([row], {"ldct": np.rint(ldct).clip(dicom.AIR_HU, 32767).astype(np.int16)[None], "ndct": ndct[None]})
