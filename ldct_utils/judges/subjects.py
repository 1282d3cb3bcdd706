"""Simulated patients for a trial of judges: scans, half of them without lesions, and crops with many noise scans.

``show`` runs a denoiser over all of them, so that judges are functions of images alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ldct_utils.ct import planted, texture
from ldct_utils.invariance import cases, evidence
from ldct_utils.judges.faulty import Patient
from ldct_utils.task_based import npwe, observers

CROP, REGION = 96, 33  # sides in pixels of the crops, and of what an observer sees around a lesion
DISCS, DISC_PX, DISC_HU = 4, 4.0, -30.0  # planted into a slice to see what is kept of them
FAINT = 2.0  # d' in x to which an observer's lesion is weakened
TOUCHED_HU = 1.0  # what a lesion adds to a pixel that belongs to it
PAIRED = 8  # noise scans of a crop, with the same noise with and without lesions


@dataclass(frozen=True)
class Task:
    """A crop in which a lesion is looked for, HU. Its truth is known with and without lesions.

    Attributes: absent, present: (N, h, w) noise scans without lesions, and with one that is weakened to d' of FAINT.
        clean: (h, w), no lesion, no noise. faint: (h, w), what the weakened lesion adds. signal: the same of all
        lesions at full contrast. lesions: boolean (h, w). scans: (R, h, w), of the crop as the patient is (with or
        without lesions), scans_truth: (h, w). window: slices of the observer's region. radius_px: of the lesion.
        internal: noise of the NPWE, HU^2 mm^2, one value for all tasks, as FBP at full dose gives it: noise power goes
        with 1 / dose, so that it is the LDCT's own times its dose. d_x: {observer: d'
        in the LDCT}. touched: boolean (h, w), all pixels of lesions, of those too that the border of the crop cuts.
    """

    absent: np.ndarray
    present: np.ndarray
    clean: np.ndarray
    faint: np.ndarray
    signal: np.ndarray
    lesions: np.ndarray
    scans: np.ndarray
    scans_truth: np.ndarray
    window: tuple
    radius_px: float
    pixel_mm: float
    internal: float
    d_x: dict
    touched: np.ndarray


@dataclass(frozen=True)
class Subject:
    """One patient's slice, (H, W) HU; ``discs``: what is planted, None where no tissue is flat; ``task``: or None."""

    patient: str
    diseased: bool
    ldct: np.ndarray
    ndct: np.ndarray
    known: Patient
    discs: np.ndarray | None
    task: Task | None


@dataclass(frozen=True)
class Shown:
    """What a denoiser made of all subjects, lists with an entry a subject.

    Attributes: outputs: (H, W). marked: (H, W), with discs planted, or None. absent, present, scans: as of ``Task``.
        paired: two arrays (R, h, w), without and with all lesions at full contrast, the same noise. None without task.
        faint: (h, w), what is left of the weakened lesion, mean over the same noise with it and without. None without
        task.
    """

    subjects: list
    outputs: list
    marked: list
    absent: list
    present: list
    scans: list
    paired: list
    faint: list


def draw(cohort, realisations: int, seed: int = 0, progress: Callable = iter) -> list[Subject]:
    """The subjects of a cohort, one slice a patient, that with most lesion pixels; every second has no lesions.

    Args: cohort: of simulated patients. realisations: noise scans of a crop and class, 30 or more. progress: function
        of the patients that gives them back.
    Raises: ValueError: for too few realisations, or a cohort without twins without lesions.
    """
    if cohort.absent_truth is None:
        raise ValueError(f"cohort {cohort.id} has no twins without lesions: take simulated patients")
    if realisations < 30:
        raise ValueError(f"an observer with six channels needs 30 realisations or more, not {realisations}")
    crops = {one.patient: one for one in cases.find(cohort, cohort.slices.row, CROP, realisations, seed)}
    found = []
    for number, (patient, part) in enumerate(progress(list(cohort.slices.groupby("patient", sort=True)))):
        area = {row: int((cohort.lesion_masks[row] > 0).sum()) for row in part.row}
        row, diseased = max(area, key=area.get), number % 2 == 0
        task = None if patient not in crops else _task(crops[patient], diseased, cohort.meta["parameters"]["dose"])
        found.append(_subject(cohort, row, patient, diseased, task, number))
    return one_eye(found)


def one_eye(subjects: list[Subject]) -> list[Subject]:
    """The same subjects with one internal noise of the NPWE, the median of their tasks': an eye is the same whoever is
    looked at."""
    if not (tasks := [one.task for one in subjects if one.task is not None]):
        return subjects
    internal = float(np.median([task.internal for task in tasks]))

    def seen(task):
        regions = [images[:, *task.window] for images in (task.absent, task.present)]
        d = npwe.npwe(*regions, task.faint[task.window], task.pixel_mm, internal).d_prime
        return replace(task, internal=internal, d_x=task.d_x | {"npwe": d})

    return [one if one.task is None else replace(one, task=seen(one.task)) for one in subjects]


def _subject(cohort, row, patient, diseased, task, number):
    prefix = "" if diseased else "absent_"
    ldct, ndct, truth = (np.float32(getattr(cohort, prefix + name)[row]) for name in ("ldct", "ndct", "truth"))
    without, inside = np.float32(cohort.absent_truth[row]), np.asarray(cohort.lesion_masks[row]) > 0
    pixel_mm = float(cohort.slices.set_index("row").pixel_mm[row])
    corners = texture.places(without[None])[0]
    middles = planted.centres(corners, texture.SIDE, DISCS + 1)
    place = middles[-1] if middles else tuple(int(n) // 2 for n in truth.shape)
    discs = planted.discs(truth.shape, middles[:DISCS], DISC_PX, DISC_HU) if middles else None
    known = Patient(truth, without, inside if diseased else None, pixel_mm, place, number)
    return Subject(patient, diseased, ldct, ndct, known, discs, task)


def _task(case, diseased, dose) -> Task | None:
    """The task of a crop: its lesion with the most energy whose region lies in the crop; None if there is none."""
    drawn = case.draw()
    signals = evidence.apart(drawn.signal, case.inside)
    for n in np.argsort([-(one**2).sum() for one in signals]):
        corner = [round(at) - REGION // 2 for at in np.argwhere(case.inside[n]).mean(0)]
        if min(corner) >= 0 and max(corner) + REGION <= CROP:
            break
    else:
        return None
    window = tuple(slice(start, start + REGION) for start in corner)
    radius_px = float(case.lesions.radius_mm.iloc[n] / case.pixel_mm)
    clean, signal = np.float32(drawn.truth - drawn.signal), np.float32(drawn.signal)
    alone = drawn.null - np.float32(drawn.signal - signals[n])
    full = observers.cho(*(images[:, *window] for images in (drawn.absent, alone)), radius_px).d_prime
    faint = np.float32(min(1.0, FAINT / max(full, 1e-9)) * signals[n])
    present = alone - (np.float32(signals[n]) - faint)
    regions = [images[:, *window] for images in (drawn.absent, present)]
    internal = dose * npwe.internal_noise(*regions, faint[window], case.pixel_mm)
    d_x = {"cho": observers.cho(*regions, radius_px).d_prime, "npw": matched(*regions, faint[window])}
    scans, truth = (drawn.null, clean + signal) if diseased else (drawn.absent, clean)
    touched = case.inside.any(0) | (np.abs(signal) > TOUCHED_HU)
    return Task(drawn.absent, present, clean, faint, signal, case.inside.any(0), scans, truth, window,
                radius_px, case.pixel_mm, internal, d_x, touched)  # fmt: skip


def matched(absent, present, signal) -> float:
    """d' of an observer with the lesion itself as its template: negative where a lesion is seen with the other sign.

    Args: absent, present: (N, n, n), HU. signal: (n, n), what the lesion adds to the noise-free image.
    """
    responses = [np.tensordot(np.asarray(images, float), np.asarray(signal, float), 2) for images in (absent, present)]
    return float((responses[1].mean() - responses[0].mean()) / np.sqrt(np.mean([one.var(ddof=1) for one in responses])))


def show(make: Callable, subjects: list, progress: Callable = iter) -> Shown:
    """What a denoiser makes of all subjects.

    Args: make: function of a ``faulty.Patient`` that gives a denoiser of images (N, H, W), HU; it is called anew for
        every truth, so that an honest twin stays honest where something was planted.
    """
    rows = [_shown(make, one) for one in progress(subjects)]
    return Shown(subjects, *map(list, zip(*rows)))


def _shown(make, one):
    known, task = one.known, one.task
    output = make(known)(one.ldct[None])[0]
    marked = None
    if one.discs is not None:
        more = Patient(known.truth + one.discs, known.without + one.discs, known.lesions, known.pixel_mm, known.place,
                       known.seed)  # fmt: skip
        marked = make(more)((one.ldct + one.discs)[None])[0]
    if task is None:
        return output, marked, *[None] * 5

    def of(truth):
        return make(Patient(truth, task.clean, task.touched, known.pixel_mm, _away(task.touched), known.seed))

    absent = of(task.clean)(task.absent)
    present = of(task.clean + task.faint)(task.present)
    # the crop as the patient is: one without lesions has nothing to erase
    healthy = Patient(task.scans_truth, task.clean, task.touched if one.diseased else None, known.pixel_mm,
                      _away(task.touched), known.seed)  # fmt: skip
    scans = make(healthy)(task.scans)
    paired = absent[:PAIRED], of(task.clean + task.signal)(task.absent[:PAIRED] + task.signal)
    faint = (of(task.clean + task.faint)(task.absent[:PAIRED] + task.faint) - absent[:PAIRED]).mean(0)
    return output, marked, absent, present, scans, paired, faint


def _away(lesions):
    """A place of the crop far from its lesions and 12 pixels or more from its border: (row, column)."""
    away = ndimage.distance_transform_edt(~lesions)[12:-12, 12:-12]
    return tuple(int(at) + 12 for at in np.unravel_index(away.argmax(), away.shape))
