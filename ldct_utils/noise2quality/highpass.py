"""The second input of Noise2Quality: what a slice holds beyond a blurred copy at half its size."""

import numpy as np
from scipy import ndimage

# Weights of the 5x5 blur along an axis. The published notebook hands OpenCV a border mode where the SD is expected, so
# its Gaussian has an SD of 4 pixels; ``auto`` is what OpenCV takes for 5 taps if left to choose, an SD of about 1.
TAPS = {"published": np.exp(-(np.arange(-2, 3) ** 2) / (2 * 4.0**2)), "auto": np.array([1.0, 4.0, 6.0, 4.0, 1.0])}


def lowpass(image, sigma: str = "published") -> np.ndarray:
    """A 5x5 Gaussian blur, then half the size and back by cubic splines. (H, W), H and W even; linear in the image.

    The splines are mirrored at the border, where SciPy's default sets pixels to 0 whenever rounding puts them outside.

    Raises: ValueError: for an unknown ``sigma`` or an odd size.
    """
    if sigma not in TAPS:
        raise ValueError(f"no sigma {sigma!r} of the high-pass; there are {', '.join(TAPS)}")
    image = np.asarray(image, np.float64)
    if image.ndim != 2 or image.shape[0] % 2 or image.shape[1] % 2:
        raise ValueError(f"the high-pass takes (H, W) with even H and W, got {image.shape}")
    weights, blurred = TAPS[sigma] / TAPS[sigma].sum(), image
    for axis in (0, 1):
        blurred = ndimage.correlate1d(blurred, weights, axis, mode="mirror")
    return ndimage.zoom(ndimage.zoom(blurred, 0.5, mode="mirror"), 2, mode="mirror")


def highpass(image, sigma: str = "published") -> np.ndarray:
    """Image minus ``lowpass``: 0 for a constant. Source: Haque et al. 2022, s2.3, and their notebook."""
    return np.asarray(image, np.float64) - lowpass(image, sigma)
