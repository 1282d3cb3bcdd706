"""Full-reference metrics of one slice in a named evaluation domain.

Every function takes one slice ``pred`` and ``target`` (H, W), already prepared by the domain, the peak ``data_range``
that scores refer to (required: a float image has none of its own), and optionally a boolean ``mask`` (H, W) outside
which nothing is scored. Everything is computed in float64.
"""

import numpy as np
from skimage.metrics import structural_similarity

from ldct_utils import intensity
from ldct_utils.metrics.registry import register

SSIM_WINDOW = 7  # uniform, with sample covariance: scikit-image's default, which Viana and Eulig both used


def prepared(takes: str, domain: intensity.Domain, image_hu) -> np.ndarray:
    """What a metric is given of an image in HU in an evaluation domain.

    Args:
        takes: ``domain``: the domain's own scale, as SSIM and PSNR need it.
            ``hu``: what the domain shows of the image, in HU: clipped by a window, quantised by ``viana2025``; Eulig et
            al. take RMSE on HU + 1024 clipped to [0, 2924] although their SSIM is windowed.
            ``attenuation``: as ``domain``, but HU + 1024 in the HU domains. NRMSE divides by the norm of the target,
            which means something only where air is 0.
        domain: the evaluation domain.
        image_hu: image in HU, any shape.
    """
    if takes == "domain":
        return domain.prepare(image_hu)
    plain = domain.name in ("hu", "body")
    if takes == "attenuation":
        return domain.prepare(image_hu) - (intensity.HU_MIN if plain else 0)
    if takes != "hu":
        raise ValueError(f"a metric takes domain, hu or attenuation, not {takes!r}")
    if plain:
        return domain.prepare(image_hu)
    if domain.name == "eulig2024":
        return np.clip(np.asarray(image_hu, np.float64) - intensity.HU_MIN, 0, intensity.EULIG_TOP) + intensity.HU_MIN
    if domain.name == "viana2025":
        return domain.prepare(image_hu) * (intensity.HU_SPAN / domain.data_range) + intensity.HU_MIN
    return domain.prepare(image_hu) * domain.width + domain.level - domain.width / 2


def _pair(pred, target, mask):
    """Both images as float64 vectors of the scored pixels. Raises: ValueError: if the shapes differ."""
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if pred.shape != target.shape:
        raise ValueError(f"pred {pred.shape} and target {target.shape} differ in shape")
    return (pred.ravel(), target.ravel()) if mask is None else (pred[mask], target[mask])


def _positive(data_range):
    if not (data_range is not None and data_range > 0):
        raise ValueError(f"SSIM and PSNR need a positive data_range in the units of the image, got {data_range}")
    return float(data_range)


@register(direction=1, low=-1.0, high=1.0, unit="", takes="domain", label="SSIM", digits=3)
def ssim(pred, target, data_range, mask=None) -> float:
    """Mean structural similarity, 7x7 uniform window, sample covariance, K1 .01, K2 .03.

    Inside a mask it is the mean of the SSIM map there. A border of 3 pixels, where windows would leave the image, never
    counts. Identical images: 1. An empty mask: NaN.
    Raises: ValueError: if the images are smaller than 7x7, differ in shape or ``data_range`` is not positive.
    Source: Wang et al. 2004, Eq. 13; Viana et al. 2025, evaluation code (scikit-image defaults).
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    options = {"data_range": _positive(data_range), "win_size": SSIM_WINDOW}
    if mask is None:
        return float(structural_similarity(target, pred, **options))
    _, similarity = structural_similarity(target, pred, full=True, **options)
    border = (SSIM_WINDOW - 1) // 2
    inside = (slice(border, -border),) * 2
    scored = similarity[inside][mask[inside]]
    return float(scored.mean()) if scored.size else float("nan")


@register(direction=1, low=-np.inf, high=np.inf, unit="dB", takes="domain", label="PSNR", digits=2)
def psnr(pred, target, data_range, mask=None) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), dB.

    Identical images: infinity, by definition and without a warning. An empty mask: NaN.
    Raises: ValueError: if the shapes differ or ``data_range`` is not positive.
    """
    peak = _positive(data_range)
    pred, target = _pair(pred, target, mask)
    if not target.size:
        return float("nan")
    mse = np.mean((pred - target) ** 2)
    return float(10 * np.log10(peak**2 / mse)) if mse > 0 else float("inf")


@register(direction=-1, low=0.0, high=np.inf, unit="", takes="attenuation", label="NRMSE", digits=3)
def nrmse(pred, target, data_range=None, mask=None) -> float:
    """Error norm over target norm, ||pred - target|| / ||target||, on a scale where air is 0.

    ``data_range`` is not used. Identical images: 0, also where both are 0. A target of zeros that is missed: infinity.
    An empty mask: NaN.
    Source: scikit-image's ``euclidean`` normalisation, which Viana et al. 2025 use (footnote 3).
    """
    pred, target = _pair(pred, target, mask)
    if not target.size:
        return float("nan")
    error, norm = np.linalg.norm(pred - target), np.linalg.norm(target)
    if norm == 0:
        return 0.0 if error == 0 else float("inf")
    return float(error / norm)


@register(direction=-1, low=0.0, high=np.inf, unit="HU", takes="hu", label="RMSE", digits=1)
def rmse_hu(pred, target, data_range=None, mask=None) -> float:
    """Root mean squared error, HU; ``data_range`` is not used. An empty mask: NaN."""
    pred, target = _pair(pred, target, mask)
    return float(np.sqrt(np.mean((pred - target) ** 2))) if target.size else float("nan")


@register(direction=0, low=-np.inf, high=np.inf, unit="HU", takes="hu", label="bias", digits=1)
def bias_hu(pred, target, data_range=None, mask=None) -> float:
    """Mean of pred - target, HU; ``data_range`` is not used. An empty mask: NaN."""
    pred, target = _pair(pred, target, mask)
    return float(np.mean(pred - target)) if target.size else float("nan")
