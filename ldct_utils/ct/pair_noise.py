"""The noise of an LDCT-NDCT pair: its level and texture, and the verdicts on them."""

import numpy as np

from ldct_utils.ct import intensity, noise_checks, nps

LEVELS = ("ndct_noise_hu", "added_noise_hu", "correlation", "ndct_all_hu", "added_all_hu")


def levels(ldct, ndct) -> dict:
    """Noise of one pair, images (H, W) in HU.

    Returns: ``bias_hu``: mean LDCT - NDCT inside the body. ``ndct_noise_hu``, ``added_noise_hu``: high-pass SD in flat
        soft tissue of the NDCT and of LDCT - NDCT. ``correlation`` of the two. ``ndct_all_hu``, ``added_all_hu``: SD
        over all frequencies, in which the NDCT's holds some anatomy. NaN where the slice has too little body or soft
        tissue to tell.
    """
    low, normal = np.asarray(ldct, np.float32), np.asarray(ndct, np.float32)
    body = intensity.body_mask(normal)
    found = {"bias_hu": float((low - normal)[body].mean()) if body.any() else np.nan}
    try:
        measured = (
            nps.tissue_noise(normal, normal),
            nps.tissue_noise(low - normal, normal),
            noise_checks.correlation(low, normal),
            nps.flat_noise(normal, normal),
            nps.flat_noise(low - normal, normal),
        )
    except ValueError:
        measured = [np.nan] * len(LEVELS)
    return found | dict(zip(LEVELS, measured))


def texture(ldct, ndct, pixel_mm: float, frequencies) -> tuple | None:
    """Noise power spectrum of LDCT - NDCT in flat soft tissue of one pair, (H, W), HU.

    Args: frequencies: evenly spaced, in cycles per unit of ``pixel_mm``.
    Returns: radial spectrum at the frequencies, and (power along x, power along y); None without flat soft tissue.
    """
    normal = np.asarray(ndct, np.float32)
    try:
        spectrum = nps.spectrum([ldct - normal], [normal], pixel_mm)
    except ValueError:
        return None
    curve = nps.radial(spectrum, pixel_mm, frequencies, frequencies[1] - frequencies[0])
    return curve, noise_checks.axis_power(spectrum, pixel_mm)


def mean_texture(pairs, frequencies) -> tuple | None:
    """``texture`` in the mean over pairs (LDCT, NDCT, pixel size), each at its own pixel size; None without any."""
    found = [one for one in (texture(*pair, frequencies) for pair in pairs) if one is not None]
    return tuple(np.mean(part, axis=0) for part in zip(*found)) if found else None


def white_error(pixel_mm: float, kernel: str) -> float:
    """``noise_checks.shape_error`` of white noise, which no scanner has: the control that must fail."""
    white = np.random.default_rng(0).normal(0, 20, (4, 64, 64))
    return noise_checks.shape_error(nps.power_spectrum(white, pixel_mm), pixel_mm, kernel)


def organ_noise(images, truth, masks, label: int, rows, least: int = 500) -> float:
    """SD of image - truth inside an organ, median over the slices that show more than ``least`` pixels of it; NaN if
    none does. Args: images, truth: (slices, H, W), HU. masks: labels of organs."""
    rows = [row for row in rows if (masks[row] == label).sum() > least]
    spread = [np.std((images[row].astype(np.float32) - truth[row])[masks[row] == label]) for row in rows]
    return float(np.median(spread)) if spread else np.nan


def peak(count, edges, low: float, high: float) -> float:
    """The middle of the fullest bin of a histogram between two values."""
    middle = (np.asarray(edges)[:-1] + np.asarray(edges)[1:]) / 2
    inside = (middle > low) & (middle < high)
    return float(middle[inside][np.argmax(np.asarray(count)[inside])])


def check(what: str, value: float, low: float = np.nan, high: float = np.nan) -> dict:
    """One line of a table of checks; without a range, or where nothing could be measured, it has no verdict.

    Returns: check, value, from, to, verdict.
    """
    verdict = "as it should be" if low <= value <= high else "off"
    if np.isnan(value) or np.isnan(low):
        verdict = "not measurable" if np.isnan(value) else "for comparison"
    return {"check": what, "value": value, "from": low, "to": high, "verdict": verdict}
