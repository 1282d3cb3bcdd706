"""What is examined for invariances: a crop of a test patient's LDCT slice, and the null that a change is held against.

A denoiser should ignore the noise. What it ignores beyond that is told from other noise realisations of the same slice
at the same dose: a *null* change is the difference between two scans. Noise added to the slice instead would be there
twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.signal import fftconvolve

from ldct_utils.cohorts import simulated
from ldct_utils.ct import dose, fbp, intensity, nps
from ldct_utils.invariance.evidence import SMALLEST
from ldct_utils.task_based import ensembles

RING = (2, 7)  # pixels from a lesion's rim: where its surroundings begin and end
TAPS = 31  # side of the filter that shapes inserted noise, pixels
CALIBRATED_ON = 4  # realisations of a whole slice that say how


@dataclass
class Drawn:
    """Noise realisations of a case, HU: what its findings are held against.

    Attributes:
        null: (R, H, W), more of the case's ``ldct``.
        absent: (R, H, W), realisations without the lesions, or None. truth: (H, W), free of noise, or None.
        signal: (H, W), what the lesions add to an image without noise, or None.
        dose: None where all noise is new; the LDCT's dose where only what lowers it was drawn, so that d' over the
            realisations is too high (``observers.unfrozen``).
    """

    null: np.ndarray
    absent: np.ndarray | None = None
    truth: np.ndarray | None = None
    signal: np.ndarray | None = None
    dose: float | None = None


@dataclass
class Case:
    """One crop (H, W), HU throughout. It is small: hundreds of noise realisations are drawn when they are asked for.

    Attributes:
        row: of the cohort. ldct, ndct: the pair as the cohort stores it.
        draw: function without arguments: the realisations, a ``Drawn``, the same at every call.
        lesions: lesion, radius_mm, contrast_hu, organ; a row for each of ``inside`` and ``around``, boolean (L, H, W):
            the lesion's pixels, and those of its organ around it. None where none is known.
    """

    patient: str
    anatomy: str
    row: int
    pixel_mm: float
    ldct: np.ndarray
    ndct: np.ndarray
    draw: Callable[[], Drawn]
    lesions: pd.DataFrame | None = None
    inside: np.ndarray | None = None
    around: np.ndarray | None = None


def find(cohort, rows, size: int, realisations: int, seed: int = 0, crops: int | None = 1):
    """Crops of every patient: those with the most lesions, or the middles of slices where no lesion is known.

    Args:
        cohort: ``cohorts.Cohort``; rows: which of its slices are asked for, (N,). size: side of the crops, pixels.
        realisations: of the null, and of the lesion-absent class. seed: fixes their noise.
        crops: most of a patient, each of another slice; None takes all slices. A lesion counts once, where its crop
            comes first; without lesions the slices are evenly spaced (one: the middle).
    Yields: Case. Slices without a new lesion, or, of a real scan, without soft tissue to measure noise on are left out.
    Raises: ValueError: if the crop is larger than the slices, there are under two realisations, or ``crops`` is
        below 1.

    For simulated patients the whole scan is drawn anew. A real slice was scanned once, so its NDCT is kept and the
    noise that lowers the dose is drawn anew, of the strength and the power spectrum of LDCT - NDCT. Lesions that were
    inserted into it come without them as well: the twin of the NDCT, with noise of its own.
    """
    if size > min(cohort.ldct.shape[1:]):
        raise ValueError(f"a crop of {size} pixels does not fit slices of shape {cohort.ldct.shape[1:]}")
    if realisations < 2:
        raise ValueError(f"a null needs at least two realisations, got {realisations}")
    if crops is not None and crops < 1:
        raise ValueError(f"crops of a patient are at least 1, or None for all slices, not {crops!r}")
    about = cohort.slices[cohort.slices.row.isin(rows)]
    for number, (patient, part) in enumerate(about.groupby("patient", sort=True)):
        if cohort.meta["source"] == "simulated":
            yield from _simulated(cohort, patient, part.row.to_numpy(), size, realisations, [seed, number], crops)
        elif cohort.lesion_masks is not None and cohort.absent_ndct is not None:
            yield from _inserted(cohort, part, size, realisations, [seed, number], crops)
        else:
            yield from _real(cohort, part, size, realisations, [seed, number], crops)


def chosen(cohort, rows, size: int, realisations: int, seed=0, crops: int | None = 1, most: int | None = None) -> list:
    """The crops of ``find`` as a list, of no more than ``most`` patients. Raises: ValueError: if there is none."""
    several = find(cohort, rows, size, realisations, seed, crops)
    by_patient = (list(part) for _, part in groupby(several, key=lambda case: case.patient))
    found = [case for part in islice(by_patient, most) for case in part]
    if not found:
        raise ValueError(
            f"cohort {cohort.id} has no test patient with a lesion (or soft tissue) in a crop of {size} pixels"
        )
    return found


def _simulated(cohort, patient, rows, size, realisations, seed, crops):
    body, _ = simulated.patient_again(cohort, patient)
    first = int(cohort.slices.row[cohort.slices.patient == patient].min())
    dose_of, kernel = (cohort.meta["parameters"][name] for name in ("dose", "kernel"))
    n0, pixel_mm = dose.N0 * dose.TUBE[body.anatomy], body.pixel_mm
    for number, (row, corner, known) in enumerate(_with_lesions(cohort, patient, rows, size, crops)):
        window = _window(corner, size)
        scenes = [np.array(scene[row - first]) for scene in (body.absent_scene, body.scene)]  # not the whole body
        crop = (*(side + more for side, more in zip(body.crop, corner)), size, size)

        def draw(scenes=scenes, crop=crop, seed=(*seed, number)):
            made = ensembles.ensemble(
                scenes[0], pixel_mm, crop, (), (), realisations, list(seed), kernel, n0, present=scenes[1]
            )
            without, truth = made.truth(False), made.truth(True)
            return Drawn(made.images(True, float(dose_of)), made.images(False, float(dose_of)), truth, truth - without)

        yield Case(
            patient, body.anatomy, int(row), pixel_mm,
            *(np.array(images[row][window], np.float32) for images in (cohort.ldct, cohort.ndct)),
            draw, *known,
        )  # fmt: skip


def _window(corner, size):
    return tuple(np.s_[start : start + size] for start in corner)


def _with_lesions(cohort, patient, rows, size, crops):
    """Crops of a patient with new lesions: (row, corner (top, left), what ``Case`` says of these lesions)."""
    about = cohort.lesions[cohort.lesions.patient == patient].set_index("lesion")
    taken, left = set(), list(rows)
    for _ in range(len(rows) if crops is None else min(crops, len(rows))):
        row, corner = _most_lesions(cohort.lesion_masks, left, size, taken)
        left.remove(row)
        window = _window(corner, size)
        labels, organs = (np.array(masks[row][window]) for masks in (cohort.lesion_masks, cohort.organ_masks))
        new = [n for n in np.unique(labels) if n and n not in taken and _whole(cohort.lesion_masks[row], window, n)]
        if not new:
            return
        taken |= set(new)
        masks = [_masks(labels, organs, n) for n in new]
        table = about.loc[new].reset_index()[["lesion", "radius_mm", "contrast_hu", "organ"]]
        yield row, corner, (table, *(np.stack(part) for part in zip(*masks)))


def _inserted(cohort, part, size, realisations, seed, crops):
    """Crops of a real scan into which lesions were inserted."""
    about, patient = part.set_index("row", drop=False), part.patient.iloc[0]
    found = _with_lesions(cohort, patient, part.row.to_numpy(), size, crops)
    for number, (row, corner, known) in enumerate(found):
        case = _real_slice(cohort, about.loc[row], size, realisations, [*seed, number], corner, known)
        if case is not None:
            yield case


def _whole(labels, window, number):
    """Whether a lesion lies in the window with enough pixels and all of its own."""
    return (labels[window] == number).sum() == (labels == number).sum() >= SMALLEST


def _most_lesions(masks, rows, size, taken=()):
    """The row and the corner (top, left) of a crop around one of its lesions that holds the most pixels of lesions.

    Those in ``taken`` do not count.
    """
    best = (0, int(rows[0]), (0, 0))
    for row in rows:
        labels = np.where(np.isin(masks[row], list(taken)), 0, masks[row])
        for number in np.unique(labels)[1:]:
            middle = np.argwhere(labels == number).mean(0)
            corner = [int(np.clip(round(m) - size // 2, 0, n - size)) for m, n in zip(middle, masks.shape[1:])]
            held = int((labels[corner[0] : corner[0] + size, corner[1] : corner[1] + size] > 0).sum())
            best = max(best, (held, int(row), tuple(corner)))
    return best[1], best[2]


def _masks(labels, organs, number):
    """A lesion's own pixels and the ring of the same organ around it, both boolean (H, W)."""
    inside = labels == number
    near, far = (ndimage.binary_dilation(inside, iterations=n) for n in RING)
    organ = np.bincount(organs[inside]).argmax()
    around = far & ~near & (labels == 0)
    return inside, around & (organs == organ) if (around & (organs == organ)).sum() >= SMALLEST else around


def _real(cohort, part, size, realisations, seed, crops):
    count = len(part) if crops is None else min(crops, len(part))
    chosen = (np.arange(count) + 0.5) * len(part) // count  # the middle of each of so many equal parts
    for number in range(count):
        about = part.iloc[int(chosen[number])]
        case = _real_slice(cohort, about, size, realisations, [*seed, number])
        if case is not None:
            yield case


def _real_slice(cohort, about, size, realisations, seed, corner=None, known=()):
    """The case of a crop of a real slice, its middle or from ``corner``; ``known``: lesions that were inserted."""

    def whole(*names):  # read anew, not kept: a case is small
        return [np.array(getattr(cohort, name)[about.row], np.float32) for name in names]

    ldct, ndct = whole("ldct", "ndct")
    pixel_mm = float(about.pixel_mm) if np.isfinite(about.pixel_mm) else 0.75  # of no effect but on the noise's shape
    corner = [(side - size) // 2 for side in ndct.shape] if corner is None else corner
    window = _window(corner, size)

    # Of the slice's own attenuation; strength and texture are the pair's own. The few realisations that tell how to get
    # there are of the whole slice, where there is tissue to measure on; all others only of the crop. Where this study
    # inserted the noise its kernel is known, and no texture has to be measured.
    kernel = cohort.meta["parameters"]["kernel"] if known else None
    inserted = kernel in fbp.KERNELS
    kernel = kernel if inserted else "hann"
    noise = _noise_of(ndct, pixel_mm, kernel)
    try:  # what is left to fail is a slice without enough soft tissue
        first = np.stack([noise([*seed, number], (0, 0, *ndct.shape)) for number in range(CALIBRATED_ON)])
        taps = _unchanged() if inserted else _taps(first, ldct - ndct, ndct, pixel_mm)
        drawn = [nps.tissue_noise(fftconvolve(one, taps, "same"), ndct) for one in first]
        wanted = nps.tissue_noise(ldct - ndct, ndct) / np.mean(drawn)
    except ValueError:
        return None
    crops = [image[window].copy() for image in (ldct, ndct)]

    def draw():
        noise, margin = _noise_of(*whole("ndct"), pixel_mm, kernel), TAPS // 2
        larger = (*(start - margin for start in corner), size + 2 * margin, size + 2 * margin)

        def added_to(image, start):
            """Realisations of the LDCT of an image, by seeds from ``start``."""
            scanned = image > intensity.AIR_HU  # nothing lies outside the reconstructed circle, nor does noise
            seeds = ([*seed, start + number] for number in range(realisations))
            made = (fftconvolve(noise(one, larger), taps, "valid") * scanned for one in seeds)
            return np.stack([image + wanted * one for one in made]).astype(np.float32)

        if not known:
            return Drawn(added_to(crops[1], 0))
        absent = whole("absent_ndct")[0][window]
        return Drawn(added_to(crops[1], 0), added_to(absent, realisations), None, crops[1] - absent, float(about.dose))

    return Case(
        about.patient, about.anatomy, int(about.row), pixel_mm, *crops, draw, *known
    )  # fmt: skip


def _noise_of(ndct, pixel_mm, kernel="hann"):
    """Function of a seed and a window (top, left, height, width) of the slice that reconstructs photon noise in it."""
    lines = fbp.project(fbp.to_mu(ndct), pixel_mm)
    spread = 1 / np.sqrt(dose.photons(lines, 1.0)).astype(np.float32)

    def noise(seed, window):
        drawn = np.random.default_rng(seed).standard_normal(lines.shape, np.float32) * spread
        centre = dose.centre_of(window, ndct.shape, pixel_mm)
        return fbp.reconstruct(drawn, pixel_mm, window[2:], kernel, centre) * np.float32(1000 / fbp.MU_WATER)

    return noise


def _unchanged():
    """Filter (TAPS, TAPS) that leaves images as they are."""
    taps = np.zeros((TAPS, TAPS))
    taps[TAPS // 2, TAPS // 2] = 1
    return taps


def _taps(drawn, difference, ndct, pixel_mm):
    """Filter (TAPS, TAPS) that gives noise images (N, H, W) the shape of the spectrum of ``difference`` (H, W)."""
    side = TAPS + 1
    own = nps.spectrum(drawn, [ndct] * len(drawn), pixel_mm, side)
    wanted = nps.spectrum(difference[None], ndct[None], pixel_mm, side)
    return nps.shaping_filter(own, wanted)[1:, 1:]  # whose first row and column are 0
