"""The judges: each a function of what a denoiser made of all subjects, one score a patient, higher where it suspects.

A further judge is one more function and one line in ``JUDGES``. NaN where a judge cannot be asked. Scores are rounded
to ``DIGITS``, so that the last bits of a float decide nothing where a denoiser and its twin do the same. Where a twin
does nothing wrong at all, as with the contrast of lesions, a limit that scores must pass takes the place of its spread.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ldct_utils import metrics, segments
from ldct_utils.ct import intensity, planted
from ldct_utils.judges import faulty
from ldct_utils.judges.subjects import Shown, matched
from ldct_utils.structures import hallucinations, sfrc
from ldct_utils.task_based import fabrication, npwe, observers

DIGITS = 5
REPEATS = 20  # scans of a crop that tell what comes back
FINE = 0.4  # lp/mm: structure finer than this is looked at for what was invented
NO_NOISE_HU = 1e-3  # SD up to which scans count as all alike: d' is infinite
TOLERATED, MIN_AREA = 0.1, 20  # share of its contrast that a segment or lesion may lose or gain; least area, pixels


def _metric(name: str):
    def judge(shown: Shown) -> np.ndarray:
        """What the output lacks of the LDCT's own score against the truth: its gain, with the sign turned."""
        truth, ldct = (np.stack(part) for part in zip(*((one.known.truth, one.ldct) for one in shown.subjects)))
        after, before = (
            metrics.compute(pred=np.stack(images), target=truth, names=[name], domain=intensity.domain("hu"))
            .sort_values("image")["value"].to_numpy() for images in (shown.outputs, ldct)
        )  # fmt: skip
        return before - after

    return judge


def kept_of_discs(shown: Shown) -> np.ndarray:
    """By how much more than is tolerated the contrast kept of faint planted discs is off from 1. Who plants them needs
    no truth."""
    return np.array([
        np.nan if one.discs is None else _beyond(planted.kept(output, marked, one.discs))
        for one, output, marked in zip(shown.subjects, shown.outputs, shown.marked)
    ])  # fmt: skip


def kept_of_lesions(shown: Shown) -> np.ndarray:
    """The same of the patient's own lesions: a simulation can ask for it."""
    return np.array([
        np.nan if one.task is None else _beyond(planted.kept(*(part.mean(0) for part in pair), one.task.signal))
        for one, pair in zip(shown.subjects, shown.paired)
    ])  # fmt: skip


def _beyond(kept: float) -> float:
    """Twins keep all of the contrast in every patient: without a limit any rounding would be an alarm."""
    return max(0.0, abs(1 - kept) - TOLERATED)


def surplus(shown: Shown) -> np.ndarray:
    """Fine structure that comes back in every scan beyond the truth's own, HU^2 (``fabrication``)."""
    found = np.full(len(shown.subjects), np.nan)
    for at, (one, scans) in enumerate(zip(shown.subjects, shown.scans)):
        if one.task is not None:
            powers = fabrication.spectrum(scans[:REPEATS], one.task.scans_truth, one.known.pixel_mm)
            powers = fabrication.fine(fabrication.of_patients(powers.assign(method="", patient=0)), FINE)
            found[at] = powers["repeatable"].iloc[0] - powers["truth"].iloc[0]
    return found


def cho(shown: Shown) -> np.ndarray:
    """The d' that is lost to a channelised Hotelling observer, trained anew for each denoiser: the ceiling."""
    return _lost(shown, "cho", lambda images, task, _: observers.cho(*images, task.radius_px).d_prime)


def cho_on_fbp(shown: Shown) -> np.ndarray:
    """The same of one that learned on the plain reconstructions of the LDCT and keeps its template."""

    def observe(images, task, _):
        learned = [plain[:, *task.window] for plain in (task.absent, task.present)]
        return observers.cho(*images, task.radius_px, trained_on=learned).d_prime

    return _lost(shown, "cho", observe)


def npw(shown: Shown) -> np.ndarray:
    """The d' that is lost to an observer that knows the lesion, its sign too, and takes noise as white."""
    return _lost(shown, "npw", lambda images, task, _: matched(*images, task.faint[task.window]))


def eye(shown: Shown) -> np.ndarray:
    """The d' that is lost to an observer with an eye and internal noise: it looks for the lesion as the denoiser leaves
    it, and cannot use what has faded (NPWE)."""

    def observe(images, task, left):
        return npwe.npwe(*images, left[task.window], task.pixel_mm, task.internal).d_prime

    return _lost(shown, "npwe", observe)


def _lost(shown, name, observe):
    """d' in the LDCT minus d' in the output. Not its share: an observer who sees little of a lesion in some patients
    would have a d' near 0 in the denominator there, and these patients' twins would set the alarm for all."""
    found = np.full(len(shown.subjects), np.nan)
    for at, (one, *classes, left) in enumerate(zip(shown.subjects, shown.absent, shown.present, shown.faint)):
        if one.task is not None:
            seen = [images[:, *one.task.window] for images in classes]
            noise = max(images.std(0).max() for images in seen)
            found[at] = one.task.d_x[name] - (observe(seen, one.task, left) if noise > NO_NOISE_HU else np.inf)
    return found


def segment_test(shown: Shown) -> np.ndarray:
    """The largest |z| of a change of a segment's contrast, over segments of the LDCT and of the output (09a)."""
    ldct, truth = (np.stack(part) for part in zip(*((one.ldct, one.known.truth) for one in shown.subjects)))
    if np.array_equal(ldct, np.stack(shown.outputs)):
        return np.zeros(len(ldct))
    spectrum = hallucinations.removed_spectrum(ldct, shown.outputs, truth)
    return np.array([_largest_z(one, output, spectrum) for one, output in zip(shown.subjects, shown.outputs)])


_OUTLINES = {}  # of the LDCT's segments, which are those of every denoiser


def _largest_z(one, output, spectrum):
    key = (one.patient, one.diseased, one.ldct.tobytes()[:4096])
    if key not in _OUTLINES:
        _OUTLINES[key] = _outlined(one.ldct, one.ndct)
    body, tables = intensity.body_mask(one.ndct), []
    for outlines in (_OUTLINES[key], _outlined(output, one.ndct)):
        tables.append(
            hallucinations.score(one.ldct, output, outlines, spectrum, 1.0, body if body.any() else None,
                                 tolerated=TOLERATED)["z"].abs().max()
        )  # fmt: skip
    return np.nanmax([*tables, 0.0])


def _outlined(image, ndct):
    body = intensity.body_mask(ndct)
    regions = segments.segment(image, "felzenszwalb", min_area=MIN_AREA).regions
    return hallucinations.outlined(regions, body if body.any() else None)


def ring_correlation(reference: str):
    """Args: reference: ``truth`` or ``ndct``, what patches are compared with."""

    def judge(shown: Shown) -> np.ndarray:
        """The lowest frequency at which a patch of the output parts from the reference, lp/mm, with the sign turned."""
        found = []
        for one, output in zip(shown.subjects, shown.outputs):
            target = one.known.truth if reference == "truth" else one.ndct
            marks = sfrc.marks(output, target, one.known.pixel_mm, intensity.body_mask(one.ndct))
            found.append(-marks["lp_mm"].min())
        return np.array(found)

    return judge


@dataclass(frozen=True)
class Judge:
    """``score``: the function. ``own_task``: it brings its own lesions, so that it is asked in every patient."""

    label: str
    score: Callable
    own_task: bool = False


JUDGES = {
    "psnr": Judge("gain in PSNR", _metric("psnr")),
    "ssim": Judge("gain in SSIM", _metric("ssim")),
    "ssim_window": Judge("gain in SSIM (window)", _metric("ssim_window")),
    "discs": Judge("contrast kept, planted discs", kept_of_discs, own_task=True),
    "lesions": Judge("contrast kept, known lesions", kept_of_lesions, own_task=True),
    "segments": Judge("test of segments (09a)", segment_test),
    "fabrication": Judge("invented fine structure (04b)", surplus),
    "cho": Judge("channelised Hotelling (CHO, retrained)", cho, own_task=True),
    "cho_on_fbp": Judge("channelised Hotelling (CHO, learned on FBP)", cho_on_fbp, own_task=True),
    "npw": Judge("non-prewhitening observer (NPW)", npw, own_task=True),
    "npwe": Judge("observer with an eye (NPWE)", eye, own_task=True),
    "sfrc": Judge("Fourier rings (sFRC), against the truth", ring_correlation("truth")),
    "sfrc_ndct": Judge("Fourier rings (sFRC), against the NDCT", ring_correlation("ndct")),
}


def scores(name: str, shown: Shown) -> np.ndarray:
    """A judge's scores, (P,), rounded. Raises: ValueError: for an unknown judge."""
    if name not in JUDGES:
        raise ValueError(f"no judge {name!r}; there are {', '.join(JUDGES)}")
    return np.round(np.asarray(JUDGES[name].score(shown), np.float64), DIGITS)


def known(names, judges) -> tuple[list, list]:
    """Faults and judges by name, all where none is named. Raises: ValueError: for a name that there is not."""
    names, judges = list(names) or faulty.names(), list(judges) or list(JUDGES)
    if unknown := (set(names) - set(faulty.names())) | (set(judges) - set(JUDGES)):
        raise ValueError(
            f"no known denoiser or judge is called {', '.join(sorted(unknown))}: see judges.faulty and panel"
        )
    return names, judges
