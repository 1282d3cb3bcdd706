"""What makes a found invariance evidence: changes in HU against the changes that another noise realisation makes."""

import numpy as np
from scipy import ndimage

from ldct_utils.invariance.vae import STD_HU


def rmse_hu(images, reference) -> np.ndarray:
    """Root mean square difference (...,) of images (..., H, W) from one image (H, W), both HU."""
    difference = np.asarray(images, np.float64) - np.asarray(reference, np.float64)
    return np.sqrt(np.mean(np.square(difference), axis=(-2, -1)))


def pix_md(images, reference) -> np.ndarray:
    """Mean absolute difference (...,) of images (..., H, W) from one image (H, W), both HU, in units of 502.185 HU.

    Source: code released with Eulig et al., Med Phys 52(1) 188 (2025), whose only measure it is.
    """
    difference = np.asarray(images, np.float64) - np.asarray(reference, np.float64)
    return np.abs(difference).mean(axis=(-2, -1)) / STD_HU


def low_pass(images, sigma_px: float = 2.0) -> np.ndarray:
    """Images (..., H, W) blurred by a Gaussian: what is left of a change is anatomy rather than noise."""
    images = np.asarray(images, np.float32)
    return ndimage.gaussian_filter(images, (*(0,) * (images.ndim - 2), sigma_px, sigma_px))


def contrast(images, inside, around) -> np.ndarray:
    """Mean of a region minus that of its surroundings, HU: images (..., H, W), boolean (H, W) -> (...,).

    Raises: ValueError: if one of the two has no pixels.
    """
    if not inside.any() or not around.any():
        raise ValueError("a lesion without pixels, or without surroundings, has no contrast: leave it out")
    images = np.asarray(images, np.float64)
    return images[..., inside].mean(-1) - images[..., around].mean(-1)


def contrast_kept(denoise, absent, signal, inside) -> np.ndarray:
    """Share of each lesion's contrast that f keeps, a noise realisation a row: 1 all, 0 nothing.

    f(x + signal) - f(x), its mean over the lesion's pixels as a share of the signal's: with the same noise in both, so
    that few realisations are enough.

    Args: denoise: f of images (R, H, W), HU. absent: x, (R, H, W), HU. signal: what all lesions add without noise,
        (H, W), HU. inside: the pixels of each, boolean (L, H, W).
    Returns: (R, L). Raises: ValueError: for a lesion that adds nothing.
    """
    true = means(signal, inside)
    if not true.all():
        raise ValueError("a lesion that adds nothing has no contrast to keep: leave it out")
    absent = np.asarray(absent, np.float32)
    return means(denoise(absent + np.asarray(signal, np.float32)) - denoise(absent), inside) / true


def means(images, masks) -> np.ndarray:
    """Mean of every segment: images (..., H, W), HU, boolean masks (S, H, W) -> (..., S), HU.

    Raises: ValueError: for a mask without pixels.
    """
    images, flat = np.asarray(images, np.float64), np.asarray(masks, np.float64).reshape(len(masks), -1)
    if not (area := flat.sum(1)).all():
        raise ValueError("a segment without pixels has no mean: leave it out")
    return images.reshape(*images.shape[:-2], -1) @ flat.T / area


def p_value(change, null) -> np.ndarray:
    """How often the null alone makes a change as large: p of each |change|, exact for finitely many realisations.

    Args: change: (...,) or (..., S); null: (R,) or (R, S), changes between realisations of the same slice.
    Returns: (1 + number of |null| >= |change|) / (R + 1), in (0, 1]: at most a with probability a where ``change`` is
        one more realisation (Phipson and Smyth 2010, Stat Appl Genet Mol Biol 9:39).
    Raises: ValueError: for a change that is not finite, which no null would be as large as.
    """
    change, null = np.abs(np.asarray(change, np.float64)), np.abs(np.asarray(null, np.float64))
    if not (np.isfinite(change).all() and np.isfinite(null).all()):
        raise ValueError("changes must be finite to have a p")
    ordered = np.sort(null, axis=0)
    if null.ndim == 1:
        larger = len(null) - np.searchsorted(ordered, change, side="left")
    else:
        flat = change.reshape(-1, null.shape[1])
        larger = np.stack(
            [len(null) - np.searchsorted(ordered[:, s], flat[:, s], side="left") for s in range(null.shape[1])], axis=1
        ).reshape(change.shape)
    return (1 + larger) / (len(null) + 1)
