"""What the network is to predict: a map of how a slice at low dose differs from its NDCT, pixel by pixel.

Maps have units of their own; ``encode`` maps them to [0, 1] for losses, metrics and figures, ``decode`` back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity
from skimage.transform import resize

from ldct_utils.metrics import full_reference

SIGMA, RADIUS = 1.5, 5  # pixels: the 11x11 Gaussian window of SSIM (Wang et al. 2004)
GMS_CONSTANT = 170 / 255**2  # for images in [0, 1]; Xue et al. 2014
RMSE_TOP_HU = 200.0  # HU: the local RMSE that stands at the end of the scale
MARGIN = 8  # pixels around a patch that its map depends on, rounded up to a multiple of 8


def ssim_map(pred, target) -> np.ndarray:
    """SSIM at every pixel, same size: 11x11 Gaussian window, population variances, K .01 and .03, L = 1.

    Args: pred, target: (H, W), in [0, 1], of at least 11 pixels. At the border the images are mirrored.
    Source: scikit-image; Wang et al. 2004, Eq. 13.
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    return structural_similarity(
        pred, target, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False, data_range=1.0, full=True
    )[1]


def ssim_map_resized(pred, target) -> np.ndarray:
    """The SSIM map of Noise2Quality's notebook: only where the window fits in, then stretched back by interpolation.

    Against ``ssim_map`` it is displaced by up to 5 pixels towards the border, and smoother.
    """
    return resize(valid(ssim_map(pred, target)), np.shape(pred), order=1, mode="reflect", anti_aliasing=False)


def valid(image) -> np.ndarray:
    """The part of a map in which the 11x11 window fits in: (H - 10, W - 10)."""
    return image[RADIUS:-RADIUS, RADIUS:-RADIUS]


def gms_map(pred, target) -> np.ndarray:
    """Gradient magnitude similarity at every pixel, (H, W), images in [0, 1].

    Not down-sampled by 2 as GMSD does it first: the SD of this map is GMSD at the full resolution.
    Source: piq; Xue et al. 2014, Eq. 4.
    """
    import torch
    from piq.functional import gradient_map, prewitt_filter, similarity_map

    kernels = torch.stack([prewitt_filter(dtype=torch.float64), prewitt_filter(dtype=torch.float64).transpose(-1, -2)])
    images = (torch.from_numpy(np.array(image, np.float64))[None, None] for image in (pred, target))
    gradients = (gradient_map(image, kernels) for image in images)
    return similarity_map(*gradients, constant=GMS_CONSTANT)[0, 0].numpy()


def rmse_map(pred_hu, target_hu) -> np.ndarray:
    """Root of the local mean squared difference in the 11x11 Gaussian window, HU, (H, W); images in HU."""
    squares = np.square(np.asarray(pred_hu, np.float64) - np.asarray(target_hu, np.float64))
    return np.sqrt(ndimage.gaussian_filter(squares, SIGMA, radius=RADIUS))


@dataclass(frozen=True)
class Target:
    """A quality map.

    Attributes: label, unit: for figures. direction: 1 where a larger value is better quality, else -1. low, high: what
        [0, 1] stands for. windowed: whether ``compute(pred, target)`` takes images in [0, 1] of the window, or HU.
        local: whether a pixel depends on its surroundings only, so that a patch can be cut out of the map.
    """

    label: str
    unit: str
    direction: int
    low: float
    high: float
    windowed: bool
    compute: Callable
    local: bool = True

    def encode(self, values):
        """Values of the map to [0, 1]. SSIM below 0 and an RMSE beyond the top lie outside; nothing is clipped."""
        return (values - self.low) / (self.high - self.low)

    def decode(self, unit):
        """Inverse of ``encode``."""
        return unit * (self.high - self.low) + self.low


TARGETS = {
    "ssim": Target("SSIM", "", 1, 0.0, 1.0, True, ssim_map),
    "ssim_resized": Target("SSIM (valid, resized)", "", 1, 0.0, 1.0, True, ssim_map_resized, local=False),
    "gmsd": Target("gradient similarity", "", 1, 0.0, 1.0, True, gms_map),
    "rmse": Target("local RMSE", "HU", -1, 0.0, RMSE_TOP_HU, False, rmse_map),
}


def get(name: str) -> Target:
    """The target of that name. Raises: ValueError: for an unknown one, listing the known."""
    if name not in TARGETS:
        raise ValueError(f"no target {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS[name]


def map_scores(predicted, true, mask=None) -> dict:
    """How well a map was predicted, on [0, 1]: ssim (11x11 Gaussian window, range 1), mse, nrmse, bias.

    Args: predicted, true: float64 tensors (1, H, W). mask: boolean (1, H, W), where scores are taken; None: everywhere.
    Returns: {name: value}; bias is the mean of predicted - true, mean that of predicted, nrmse is relative to the norm
        of the true map. NaN for an empty mask.
    """
    error = predicted - true
    mean = (lambda x: x.mean()) if mask is None else (lambda x: x[mask].mean())
    return {
        "ssim": float(full_reference.ssim_gaussian(predicted, true, 1.0, mask)),
        "mse": float(mean(error.square())),
        "nrmse": float(full_reference.nrmse(predicted, true, mask=mask)),
        "bias": float(mean(error)),
        "mean": float(mean(predicted)),
    }
