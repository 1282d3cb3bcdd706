"""What is examined for invariances: a crop of a test patient's LDCT slice, and the null that a change is held against.

A denoiser should ignore the noise. What it ignores beyond that is told from other noise realisations of the same slice
at the same dose: a *null* change is the difference between two scans. Noise added to the slice instead would be there
twice.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils import dose as doses
from ldct_utils import fbp, tasks
from ldct_utils.cohorts import simulated

RING = (2, 7)  # pixels from a lesion's rim: where its surroundings begin and end
SMALLEST = 9  # pixels of a lesion whose mean says something


@dataclass
class Case:
    """One crop (H, W), HU throughout.

    Attributes:
        row: of the cohort. ldct, ndct: the pair as the cohort stores it. null: (R, H, W), more of ``ldct``.
        null_kind: "another scan" (all noise is new) or "inserted noise" (that of the NDCT is kept).
        absent: (R, H, W), realisations without the lesions, or None. truth: (H, W), free of noise, or None.
        lesions: lesion, radius_mm, contrast_hu, organ; a row for each of ``inside`` and ``around``, boolean (L, H, W):
            the lesion's pixels, and those of its organ around it.
    """

    patient: str
    anatomy: str
    row: int
    pixel_mm: float
    ldct: np.ndarray
    ndct: np.ndarray
    null: np.ndarray
    null_kind: str
    absent: np.ndarray | None = None
    truth: np.ndarray | None = None
    lesions: pd.DataFrame | None = None
    inside: np.ndarray | None = None
    around: np.ndarray | None = None


def find(cohort, rows, size: int, realisations: int, seed: int = 0, kernel: str = "B30"):
    """One case a patient: of a simulated one the crop with the most lesions, else the middle of the middle slice.

    Args:
        cohort: ``cohorts.Cohort``; rows: which of its slices are asked for, (N,). size: side of the crops, pixels.
        realisations: of the null, and of the lesion-absent class. seed: fixes their noise.
        kernel: shape of inserted noise, for cohorts of real images; pairs give their own, see below.
    Yields: Case. Patients without a lesion (simulated) or without soft tissue to measure noise on (real) are left out.
    Raises: ValueError: if the crop is larger than the slices, there are under two realisations, or a real cohort's dose
        or ``kernel`` is none.

    For simulated patients the whole scan is drawn anew. A real slice was scanned once, so its NDCT is kept and the
    noise that lowers the dose is drawn anew, of the strength and, for pairs, the power spectrum of LDCT - NDCT.
    """
    if size > min(cohort.ldct.shape[1:]):
        raise ValueError(f"a crop of {size} pixels does not fit slices of shape {cohort.ldct.shape[1:]}")
    if realisations < 2:
        raise ValueError(f"a null needs at least two realisations, got {realisations}")
    about = cohort.slices[cohort.slices.row.isin(rows)]
    for number, (patient, part) in enumerate(about.groupby("patient", sort=True)):
        if cohort.meta["source"] == "simulated":
            found = _simulated(cohort, patient, part.row.to_numpy(), size, realisations, [seed, number])
        else:
            found = _real(cohort, part, size, realisations, [seed, number], kernel)
        if found is not None:
            yield found


def _simulated(cohort, patient, rows, size, realisations, seed):
    body, _ = simulated.patient_again(cohort, patient)
    first = int(cohort.slices.row[cohort.slices.patient == patient].min())
    row, (top, left) = _most_lesions(cohort.lesion_masks, rows, size)
    numbers = np.unique(cohort.lesion_masks[row, top : top + size, left : left + size])
    which, window = row - first, np.s_[top : top + size, left : left + size]
    labels, organs = cohort.lesion_masks[row][window], cohort.organ_masks[row][window]
    kept = [n for n in numbers if n and _whole(cohort.lesion_masks[row], window, n)]
    if not kept:
        return None
    scene, present = body.absent_scene[which], body.scene[which]
    crop = (body.crop[0] + top, body.crop[1] + left, size, size)
    n0 = doses.N0 * doses.TUBE[body.anatomy]
    made = tasks.ensemble(
        scene, body.pixel_mm, crop, (), (), realisations, seed, cohort.meta["parameters"]["kernel"], n0, present
    )
    level = float(cohort.meta["parameters"]["dose"])
    table = cohort.lesions[cohort.lesions.patient == patient].set_index("lesion").loc[kept]
    masks = [_masks(labels, organs, n) for n in kept]
    return Case(
        patient, body.anatomy, int(row), body.pixel_mm,
        *(np.asarray(images[row][window], np.float32) for images in (cohort.ldct, cohort.ndct)),
        made.images(True, level), "another scan", made.images(False, level), made.truth(True),
        table.reset_index()[["lesion", "radius_mm", "contrast_hu", "organ"]],
        *(np.stack(part) for part in zip(*masks)),
    )  # fmt: skip


def _whole(labels, window, number):
    """Whether a lesion lies in the window with enough pixels and all of its own."""
    return (labels[window] == number).sum() == (labels == number).sum() >= SMALLEST


def _most_lesions(masks, rows, size):
    """The row and the corner (top, left) of a crop around one of its lesions that holds the most pixels of lesions."""
    best = (0, int(rows[0]), (0, 0))
    for row in rows:
        for number in np.unique(masks[row])[1:]:
            middle = np.argwhere(masks[row] == number).mean(0)
            corner = [int(np.clip(round(m) - size // 2, 0, n - size)) for m, n in zip(middle, masks.shape[1:])]
            held = int((masks[row][corner[0] : corner[0] + size, corner[1] : corner[1] + size] > 0).sum())
            best = max(best, (held, int(row), tuple(corner)))
    return best[1], best[2]


def _masks(labels, organs, number):
    """A lesion's own pixels and the ring of the same organ around it, both boolean (H, W)."""
    inside = labels == number
    near, far = (ndimage.binary_dilation(inside, iterations=n) for n in RING)
    organ = np.bincount(organs[inside]).argmax()
    around = far & ~near & (labels == 0)
    return inside, around & (organs == organ) if (around & (organs == organ)).sum() >= SMALLEST else around


def _real(cohort, part, size, realisations, seed, kernel):
    about = part.iloc[len(part) // 2]
    ldct, ndct = (np.asarray(images[about.row], np.float32) for images in (cohort.ldct, cohort.ndct))
    pixel_mm = float(about.pixel_mm) if np.isfinite(about.pixel_mm) else 0.75  # of no effect but on the noise's shape
    top, left = ((side - size) // 2 for side in ndct.shape)
    window = np.s_[top : top + size, left : left + size]
    doses.check_dose(float(about.dose))
    fbp.apodisation(kernel)
    try:  # what is left to fail is a slice without enough soft tissue
        measured = doses.measured_kernel((ldct - ndct)[None], ndct[None], pixel_mm)
        drawn = [
            doses.low_dose_from_image(ndct, pixel_mm, float(about.dose), kernel, [*seed, n], measured) - ndct
            for n in range(realisations)
        ]
    except ValueError:
        return None
    # of the strength that this very pair has
    wanted = doses.nps.tissue_noise(ldct - ndct, ndct) / np.mean([doses.nps.tissue_noise(d, ndct) for d in drawn[:4]])
    null = np.stack([(ndct + wanted * noise)[window] for noise in drawn]).astype(np.float32)
    return Case(
        about.patient, about.anatomy, int(about.row), pixel_mm, ldct[window], ndct[window], null, "inserted noise"
    )
