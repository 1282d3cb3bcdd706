"""Faint discs of known contrast planted into slices, and how much of their contrast a denoiser keeps.

The disc is added to the low-dose slice, where it changes no noise. The denoised slices with and without it differ by
what the denoiser passed on of the disc.
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
