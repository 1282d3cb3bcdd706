"""Source ``simulated``: procedural patients, scanned at normal and low dose."""

from functools import partial

import numpy as np

from ldct_utils.cohorts import writing
from ldct_utils.cohorts.writing import Part, Plan
from ldct_utils.ct import fbp, intensity
from ldct_utils.ct.dose import simulate
from ldct_utils.phantom.organs import ORGANS
from ldct_utils.phantom.patient import ANATOMIES, Patient, patient

PIXEL_MM = (0.70, 0.80)  # texture and anatomy keep their real scale in pixels: crop rather than shrink
THICKNESS_MM = 3.0
IMAGES = ("ldct", "ndct", "truth", "absent_ldct", "absent_ndct", "absent_truth")
MASKS = ("organ_masks", "lesion_masks")


def of_machine() -> dict:
    """What of this machine the slices depend on: what makes the projections."""
    return {"projector": fbp.backend()}


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: patient i depends on the seed and i only, whatever the dose, the kernel or the others.

    Raises: ValueError: for an unknown anatomy or kernel, or a number out of range.
    """
    patients, slices, size, anatomy = (read[name] for name in ("patients", "slices", "size", "anatomy"))
    dose, kernel, seed = (read[name] for name in ("dose", "kernel", "cohort_seed"))
    fbp.apodisation(kernel)
    known = tuple(ANATOMIES)
    if anatomy not in (*known, "mixed"):
        raise ValueError(f"unknown anatomy {anatomy!r}; known: {', '.join(known)}, mixed")
    if patients < 1 or slices < 1 or size < 64:
        raise ValueError(f"need patients >= 1, slices >= 1, size >= 64; got {patients}, {slices}, {size}")
    of = {f"P{i + 1:03d}": known[i % len(known)] if anatomy == "mixed" else anatomy for i in range(patients)}
    tasks = [
        partial(one_patient, name, kind, slices, dose, kernel, size, writing.seed_of(seed, i))
        for i, (name, kind) in enumerate(of.items())
    ]
    return Plan(
        slices=patients * slices,
        shape=(size, size),
        dtypes=dict.fromkeys(IMAGES, np.int16) | dict.fromkeys(MASKS, np.uint8),
        anatomy_of=of,
        tasks=tasks,
        parallel=True,
        organs=ORGANS,
    )


def body_of(anatomy: str, slices: int, size: int, seed: int) -> Patient:
    """The anatomy of a patient of a cohort; ``seed`` is the patient's own."""
    pixel_mm = float(np.random.default_rng(seed).uniform(*PIXEL_MM))
    return patient(seed, anatomy, size=size, slices=slices, thickness_mm=THICKNESS_MM, pixel_mm=pixel_mm)


def patient_again(cohort, name: str) -> tuple[Patient, int]:
    """The anatomy of one patient of a stored cohort, drawn anew, and its seed.

    Raises: ValueError: if the cohort is not simulated, or what is drawn now is not what it stores.
    """
    if cohort.meta["source"] != "simulated":
        raise ValueError(
            f"cohort {cohort.id} is of source {cohort.meta['source']}: only simulated patients can be redrawn"
        )
    rows, read = cohort.slices[cohort.slices.patient == name], cohort.meta["parameters"]
    seed = writing.seed_of(read["cohort_seed"], int(name[1:]) - 1)
    body = body_of(rows.anatomy.iloc[0], read["slices"], read["size"], seed)
    if not np.array_equal(body.lesion_masks, cohort.lesion_masks[rows.row.to_numpy()]):
        raise ValueError(f"patient {name} drawn anew differs from cohort {cohort.id}: build the cohort anew")
    return body, seed


def one_patient(name: str, anatomy: str, slices: int, dose: float, kernel: str, size: int, seed: int) -> Part:
    """Anatomy and both scans of one simulated patient."""
    body = body_of(anatomy, slices, size, seed)
    pixel_mm = body.pixel_mm
    scan = simulate(body, dose, kernel, seed)
    images = {
        "ldct": scan.ldct,
        "ndct": scan.ndct,
        # What a denoiser is scored against: the same reconstruction without noise, so that a score measures noise and
        # lost detail, not the blur that every scan has. Lesions contribute the same with and without noise.
        "truth": scan.noise_free,
        "absent_ldct": scan.absent_ldct,
        "absent_ndct": scan.absent_ndct,
        "absent_truth": scan.noise_free - (scan.ndct - scan.absent_ndct),
    }
    arrays = {key: np.rint(image).clip(intensity.AIR_HU, 32767).astype(np.int16) for key, image in images.items()}
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
            "dose": dose,
        }
        for z in body.z_mm
    ]
    lesions = body.lesions.copy()
    lesions["patient"] = name
    return Part(rows, arrays, {"lesions": lesions[["patient", *(c for c in lesions if c != "patient")]]})
