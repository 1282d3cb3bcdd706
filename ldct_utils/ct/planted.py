"""Faint discs planted into slices, and how much of their contrast, or of a known lesion's, a denoiser keeps.

The disc is added to the low-dose slice, where it changes no noise. The denoised slices with and without it differ by
what the denoiser passed on of the disc. Lesions of simulated patients are known alike: each slice exists without them.
"""

import numpy as np
from scipy import ndimage

APART = 40  # pixels between the middles of two discs of a slice, so that a network sees each by itself


def centres(corners, side: int, most: int, apart: float = APART) -> list[tuple[int, int]]:
    """Middles of the first regions of a slice that lie ``apart`` pixels from each other, ``most`` of them at the most.

    Args: corners: (row, column) of flat regions, the flattest first. side: of a region, pixels.
    """
    chosen = []
    for y, x in ((y + side // 2, x + side // 2) for y, x in corners):
        if len(chosen) < most and all(np.hypot(y - other_y, x - other_x) >= apart for other_y, other_x in chosen):
            chosen.append((y, x))
    return chosen


def discs(shape, middles, radius: float, contrast_hu: float, blur: float = 1.0) -> np.ndarray:
    """Discs on zero, float32 HU, as wide as the reconstruction's blur makes them.

    Args: shape: (H, W). middles: (row, column). radius: pixels. contrast_hu: signed. blur: SD of a Gaussian, pixels.
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    image = np.zeros(shape, np.float32)
    for row, column in middles:
        image = np.maximum(image, np.clip(radius + 0.5 - np.hypot(y - row, x - column), 0, 1))
    return np.float32(contrast_hu) * ndimage.gaussian_filter(image, blur)


def kept(without, with_discs, planted) -> float:
    """Share of the planted contrast in what a denoiser put out: 1 for all of it, 0 for none.

    The least-squares factor by which the planted discs must be multiplied to give the difference of the two outputs.

    Args: without, with_discs, planted: (H, W) or (S, H, W), HU.
    Raises: ValueError: if nothing was planted.
    """
    planted = np.asarray(planted, np.float64)
    if not planted.any():
        raise ValueError("no disc was planted: a share of its contrast cannot be told")
    gap = np.asarray(with_discs, np.float64) - np.asarray(without, np.float64)
    return float((gap * planted).sum() / (planted**2).sum())


def territories(lesion_masks) -> np.ndarray:
    """The number of the lesion that is nearest to each pixel, slice by slice; 0 in a slice without lesions.

    Args: lesion_masks: (S, H, W), numbers of lesions, 0 where there is none.
    """
    nearest = np.zeros_like(lesion_masks)
    for one, mask in zip(nearest, lesion_masks):
        if mask.any():
            at = ndimage.distance_transform_edt(mask == 0, return_distances=False, return_indices=True)
            one[:] = mask[tuple(at)]
    return nearest


def kept_by_lesion(without, with_lesions, signal, nearest) -> dict[int, float]:
    """Share of each lesion of a patient that a denoiser passes on: <f(x + s) - f(x), s> / <s, s>, 1 all, 0 nothing.

    Args:
        without, with_lesions: f(x) and f(x + s), (S, H, W), HU. signal: s, (S, H, W), HU.
        nearest: of ``territories``; pixels and slices of one lesion are summed.
    Returns: {number of the lesion: share}, without lesions that add nothing to these slices.
    """
    at = (signal != 0) & (nearest > 0)
    added, gap = (np.asarray(image[at], np.float64) for image in (signal, with_lesions - without))
    passed, energy = (np.bincount(nearest[at], product) for product in (gap * added, added * added))
    return {int(number): float(passed[number] / energy[number]) for number in np.flatnonzero(energy)}
