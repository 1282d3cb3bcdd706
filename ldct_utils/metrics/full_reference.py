"""Full-reference metrics: how far a batch of slices is from its targets.

Every function takes ``pred`` and ``target``, float64 tensors (N, H, W) on the scale that it is registered with, the
peak ``data_range`` of that scale (a float image has none of its own) and, where it can be taken inside a mask, a
boolean ``mask`` (N, H, W) outside which nothing is scored; it returns a float64 tensor (N,). Call them through
``metrics.compute``, which prepares the images and refuses what they cannot take.
"""

from functools import cache

import numpy as np
import torch

from ldct_utils.ct import intensity, nps
from ldct_utils.ct.intensity import EULIG_TOP, HU_MIN
from ldct_utils.metrics.registry import register

UNIFORM_7 = (1 / 7,) * 7
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, s3.2
VIF_NOISE = 2.0  # variance of the visual noise; fixed by its authors for images in [0, 255]
WANG_2004 = "Wang et al. 2004, IEEE TIP 13(4), 600, Eq. 13"
SHEIKH_2006 = "Sheikh and Bovik 2006, IEEE TIP 15(2), 430"


def gaussian(taps: int, sigma: float) -> tuple[float, ...]:
    """Gaussian window of odd length, sum 1. The 2-D windows of SSIM and VIF are products of two of these."""
    window = np.exp(-((np.arange(taps) - (taps - 1) / 2) ** 2) / (2 * sigma**2))
    return tuple((window / window.sum()).tolist())


@cache
def _opencv():
    """OpenCV where it can be imported: it comes with pyiqa, and some of its builds need libGL."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def filtered(images, weights, step: int = 1):
    """Separable filter of images (N, H, W) along both axes, where it fits in ("valid"), every ``step``-th pixel.

    On a CPU by OpenCV, which needs half the time of torch; the numbers are the same to rounding.
    """
    if min(images.shape[-2:]) < len(weights):
        raise ValueError(f"images of {tuple(images.shape[-2:])} pixels are smaller than a window of {len(weights)}")
    if images.is_cpu and _opencv():
        return _by_opencv(images, weights, step)
    return by_shifts(images, weights, step)


def by_shifts(images, weights, step: int = 1):
    """``filtered`` as a sum of shifted copies: in float64 20 times as fast as torch's convolution on a CPU."""
    for axis in (-1, -2):
        last = (images.shape[axis] - len(weights)) // step * step
        total = None
        for start, weight in enumerate(weights):
            where = slice(start, start + last + 1, step)
            part = images[..., where] if axis == -1 else images[..., where, :]
            total = part * weight if total is None else total.add_(part, alpha=weight)
        images = total
    return images


def _by_opencv(images, weights, step):
    cv2, border = _opencv(), len(weights) // 2
    window, inside = np.array(weights), (slice(border, -border, step),) * 2
    parts = []
    for image in images.contiguous().numpy():
        if len(set(weights)) == 1:
            whole = cv2.boxFilter(image, cv2.CV_64F, (len(weights),) * 2)
        else:
            whole = cv2.sepFilter2D(image, cv2.CV_64F, window, window)
        parts.append(torch.from_numpy(whole[inside]))
    return torch.stack(parts) if len(parts) > 1 else parts[0][None]


def _mean(values, mask):
    """Mean over each image, inside the mask; NaN where the mask is empty."""
    if mask is None:
        return values.mean((1, 2))
    return (values * mask).sum((1, 2)) / mask.sum((1, 2))


def _positive(data_range) -> float:
    if not (data_range is not None and data_range > 0):
        raise ValueError(f"SSIM and PSNR need a positive data_range in the units of the image, got {data_range}")
    return float(data_range)


def _ssim_terms(pred, target, data_range, weights, sample: bool = False):
    """The two factors of SSIM, luminance and structure, wherever the window fits in, each (numerator, denominator).

        SSIM = (2 m_p m_t + C1) (2 cov + C2) / ((m_p^2 + m_t^2 + C1) (var_p + var_t + C2))

    with m, var and cov the mean, variance and covariance of prediction and target inside the window. A covariance is
    the mean of the products less the product of the means. ``sample``: variances and covariance over n-1 in place of n,
    which is C2 times (n-1)/n.
    """
    peak, count = _positive(data_range), len(weights) ** 2
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2 * ((count - 1) / count if sample else 1)

    def products(p, t, constant):
        """2 p t + constant and p^2 + t^2 + constant: with the constant in them, an image is gone through once less."""
        constant = torch.full((), constant, dtype=p.dtype, device=p.device)  # made there, not copied
        return torch.addcmul(constant, p, t, value=2), torch.addcmul(constant, p, p).addcmul_(t, t)

    luminance = products(filtered(pred, weights), filtered(target, weights), c1)
    means_of_products = [filtered(one, weights) for one in products(pred, target, c1 + c2)]
    structure = [mean.sub_(term) for mean, term in zip(means_of_products, luminance)]  # C1 goes, C2 stays
    return luminance, structure


def _mean_ssim(pred, target, data_range, mask, weights, sample=False):
    luminance, structure = _ssim_terms(pred, target, data_range, weights, sample)
    border = len(weights) // 2
    inside = None if mask is None else mask[:, border:-border, border:-border]
    above, below = (one.mul_(other) for one, other in zip(structure, luminance))
    return _mean(above.div_(below), inside)


@register(
    direction=1, low=-1.0, high=1.0, unit="", takes="domain", label="SSIM", digits=3, masked=True, smallest=7,
    reference=WANG_2004,
)  # fmt: skip
def ssim(pred, target, data_range, mask=None):
    """Mean structural similarity, 7x7 uniform window, sample covariance, K1 .01, K2 .03.

    These are scikit-image's defaults, which Viana et al. 2025 and Eulig et al. 2024 both used. Inside a mask it is the
    mean of the SSIM map there. A border of 3 pixels, where windows would leave the image, never counts. Identical
    images: 1. An empty mask: NaN.
    """
    return _mean_ssim(pred, target, data_range, mask, UNIFORM_7, sample=True)


@register(
    direction=1, low=-1.0, high=1.0, unit="", takes="hu", label="SSIM (window)", digits=3, masked=True, smallest=7,
    reference=WANG_2004, identical=np.nan,
)  # fmt: skip
def ssim_window(pred, target, data_range=None, mask=None):
    """SSIM of what a reader sees: the abdomen's window (C 50 W 400), its width as the range, inside the body.

    With the whole range of HU C2 is (.03 * 4096)^2 = 123^2 HU^2, larger than the variance of soft tissue and its noise:
    SSIM is then 1 less a mean squared error. Clipped air and bone are alike in all images and score 1, hence only the
    target's body counts, or ``mask``. NaN without a body. ``data_range`` is not used.
    """
    level, width = intensity.WINDOWS["abdomen"]
    if mask is None:
        mask = torch.as_tensor(intensity.body_mask(target.cpu().numpy()), device=target.device)
    shown = [(image - (level - width / 2)).clip(0, width) for image in (pred, target)]
    return _mean_ssim(*shown, width, mask, UNIFORM_7, sample=True)


@register(
    direction=1, low=-1.0, high=1.0, unit="", takes="domain", label="SSIM (Gaussian)", digits=3, masked=True,
    smallest=11, reference=WANG_2004,
)  # fmt: skip
def ssim_gaussian(pred, target, data_range, mask=None):
    """Mean structural similarity with its authors' 11x11 Gaussian window, sigma 1.5, and no down-sampling.

    What piq, pyiqa and torchmetrics call SSIM; it differs from the uniform window's. A border of 5 pixels never counts.
    """
    return _mean_ssim(pred, target, data_range, mask, gaussian(11, 1.5))


@register(
    direction=1, low=0.0, high=1.0, unit="", takes="domain", label="MS-SSIM", digits=3, smallest=161,
    reference="Wang et al. 2003, Asilomar 37, 1398, Eq. 7",
)  # fmt: skip
def ms_ssim(pred, target, data_range):
    """SSIM over five scales, halved by 2x2 means; 11x11 Gaussian window. A negative term counts as 0.

    An odd side is first padded by its first row or column, as piq does.
    """
    terms = []
    for scale in range(len(MS_SSIM_WEIGHTS)):
        if scale:
            pred, target = (_halved(image) for image in (pred, target))
        luminance, structure = _ssim_terms(pred, target, data_range, gaussian(11, 1.5))
        term = structure[0] / structure[1]
        if scale == len(MS_SSIM_WEIGHTS) - 1:
            term = term * luminance[0] / luminance[1]
        terms.append(_mean(term, None).clip(min=0))
    return torch.stack([term**weight for term, weight in zip(terms, MS_SSIM_WEIGHTS)]).prod(0)


def _halved(images):
    odd = max(side % 2 for side in images.shape[-2:])
    images = torch.nn.functional.pad(images, (odd, 0, odd, 0), mode="replicate")
    return torch.nn.functional.avg_pool2d(images, 2)


@register(direction=1, low=-np.inf, high=np.inf, unit="dB", takes="domain", label="PSNR", digits=2, masked=True)
def psnr(pred, target, data_range, mask=None):
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), dB.

    Identical images: infinity, by definition and without a warning. An empty mask: NaN.
    """
    return 10 * torch.log10(_positive(data_range) ** 2 / _mean((pred - target).square_(), mask))


@register(
    direction=-1, low=0.0, high=np.inf, unit="", takes="attenuation", label="NRMSE", digits=3, masked=True,
    reference="Viana et al. 2025, footnote 3 (scikit-image's euclidean normalisation)",
)  # fmt: skip
def nrmse(pred, target, data_range=None, mask=None):
    """Error norm over target norm, ||pred - target|| / ||target||, on a scale where air is 0.

    ``data_range`` is not used. Identical images: 0, also where both are 0. A target of zeros that is missed: infinity.
    An empty mask: NaN.
    """
    error, norm = _mean((pred - target).square_(), mask).sqrt(), _mean(target.square(), mask).sqrt()
    return torch.where((error == 0) & (norm == 0), torch.zeros_like(error), error / norm)


@register(direction=-1, low=0.0, high=np.inf, unit="HU", takes="hu", label="RMSE", digits=1, masked=True)
def rmse_hu(pred, target, data_range=None, mask=None):
    """Root mean squared error, HU; ``data_range`` is not used. An empty mask: NaN."""
    return _mean((pred - target).square_(), mask).sqrt()


@register(direction=0, low=-np.inf, high=np.inf, unit="HU", takes="hu", label="bias", digits=1, masked=True)
def bias_hu(pred, target, data_range=None, mask=None):
    """Mean of pred - target, HU; ``data_range`` is not used. An empty mask: NaN."""
    return _mean(pred - target, mask)


@register(
    direction=-1, low=0.0, high=np.inf, unit="HU", takes="hu", label="noise SD", digits=1, masked=True, identical=np.nan
)
def noise_sd_hu(pred, target, data_range=None, mask=None):
    """Noise SD of the prediction in the soft tissue of the target, HU: ``nps.tissue_noise``, robust and high-pass.

    The target only says where soft tissue (0 to 160 HU) is. Lower is less noise, which alone is no better image: a blur
    lowers it too, so read it beside the target's own. The high-pass keeps .945 of the SD of white noise and less of
    coarser grain. NaN where a slice has under 20 blocks of 8 x 8 pixels of soft tissue, as most heads in a narrow
    window do.
    """
    if mask is not None:
        target = torch.where(mask, target, HU_MIN)
    return torch.tensor([_noise(*pair) for pair in zip(pred.cpu().numpy(), target.cpu().numpy())]).to(pred)


def _noise(pred, target):
    try:
        return nps.tissue_noise(pred, target)
    except ValueError:  # it raises only where soft tissue is too scarce
        return float("nan")


@register(
    direction=1, low=0.0, high=np.inf, identical=1.0, unit="", takes="unit", label="VIFp", digits=3, smallest=41,
    reference=f"{SHEIKH_2006}, in its authors' pixel domain version",
)  # fmt: skip
def vifp(pred, target, data_range):
    """Visual information fidelity in the pixel domain, on the 0-255 scale that its noise variance belongs to.

    The prediction is the distorted image, the target the reference: the two do not swap. More contrast than the target
    gives over 1. Equal to torchmetrics on 0-255 and to piq. A target without any structure: NaN.
    """
    return _vifp(pred * (255 / data_range), target * (255 / data_range))


@register(
    direction=1, low=0.0, high=np.inf, identical=1.0, unit="", takes="hu", label="VIFp (Eulig)", digits=3, smallest=41,
    reference="Eulig et al. 2024, Med Phys 51, 8776, evaluation code of the LDCT benchmark",
)  # fmt: skip
def vifp_eulig(pred, target, data_range=None):
    """VIFp as the LDCT benchmark computes it, for comparison with its tables only.

    On HU + 1024 clipped to [0, 2924], although the noise variance is meant for 0-255; and with the arguments swapped:
    the prediction is the reference, so that a blurred prediction, with less information to lose, gains. The benchmark's
    numbers are those in the domains ``eulig2024`` and ``hu``; windows clip first.
    """
    pred, target = ((image - HU_MIN).clip(0, EULIG_TOP) for image in (pred, target))
    return _vifp(pred=target, target=pred)


def _vifp(pred, target, eps=1e-10):
    """Information that four scales of the prediction share with the target, over that of the target."""
    shared = whole = 0
    for scale in range(4):
        taps = 2 ** (4 - scale) + 1
        weights = gaussian(taps, taps / 5)
        if scale:
            pred, target = filtered(pred, weights, step=2), filtered(target, weights, step=2)
        mean_p, mean_t = filtered(pred, weights), filtered(target, weights)
        cov = filtered(pred * target, weights).sub_(mean_p * mean_t)
        var_p = filtered(pred.square(), weights).sub_(mean_p.square_()).clip_(min=0)
        var_t = filtered(target.square(), weights).sub_(mean_t.square_()).clip_(min=0)
        # The target seen through a channel: pred = gain * target + noise. No gain where either is constant.
        var_t.mul_(var_t >= eps)
        gain = (cov / (var_t + eps)).clip_(min=0).mul_(var_p >= eps)
        noise = torch.addcmul(var_p, gain, cov, value=-1).clip_(min=eps)
        shared = shared + gain.square_().mul_(var_t).div_(noise.add_(VIF_NOISE)).log1p_().sum((1, 2))
        whole = whole + var_t.div_(VIF_NOISE).log1p_().sum((1, 2))
    return shared / whole


@register(
    direction=1, low=0.0, high=np.inf, identical=1.0, unit="", takes="unit", label="VIF (wavelet, 8 bits)", digits=3,
    smallest=41, library="pyiqa vif, image rounded to 256 grey levels", reference=SHEIKH_2006, needs=("pyiqa",),
)  # fmt: skip
def vif(pred, target, data_range):
    """Visual information fidelity over a steerable pyramid, filtered in float32.

    pyiqa rounds to 256 grey levels before anything else, and so does this number: a level is 16.06 HU in the domain
    ``hu`` and 1.57 HU in the abdominal window. What is finer than that does not exist for it. Covariances of
    bands are in float64 here: pyiqa's, sums over every pixel in float32, make the number differ by 3e-4 between CPUs.
    """
    from pyiqa.archs.vif_arch import VIF  # imported here: it takes seconds

    grey = [(image / data_range).float()[:, None].expand(-1, 3, -1, -1) for image in (pred, target)]
    model = VIF()
    matrices = model.refparams_vecgsm
    model.refparams_vecgsm = lambda bands: matrices([band.double() for band in bands])
    return model(*grey).double()


@register(
    direction=-1, low=0.0, high=1.0, unit="", takes="unit", label="GMSD", digits=4, smallest=6, library="piq",
    reference="Xue et al. 2014, IEEE TIP 23(2), 684, Eqs. 4 and 6",
)  # fmt: skip
def gmsd(pred, target, data_range):
    """Gradient magnitude similarity deviation: how unevenly gradients are kept. Blind to a constant offset."""
    import piq

    return piq.gmsd(pred[:, None], target[:, None], data_range=data_range, reduction="none")


@register(
    direction=1, low=0.0, high=1.0, unit="", takes="unit", label="FSIM", digits=3, smallest=16, library="piq",
    reference="Zhang et al. 2011, IEEE TIP 20(8), 2378, Eq. 11",
)  # fmt: skip
def fsim(pred, target, data_range):
    """Feature similarity: phase congruency and gradients, of grey images (no colour term).

    Averages blocks of round(smaller side / 256) pixels first, as its authors do: 2 x 2 at 512 pixels.
    """
    import piq

    # Phase congruency takes no differences of large numbers, so float32 serves; two slices at a time stay in the cache.
    pairs = zip(pred.float()[:, None].split(2), target.float()[:, None].split(2))
    found = [piq.fsim(*pair, data_range=data_range, reduction="none", chromatic=False) for pair in pairs]
    return torch.cat(found).double()


@register(
    direction=1, low=0.0, high=1.0, unit="", takes="unit", label="HaarPSI", digits=3, smallest=16, library="piq",
    reference="Reisenhofer et al. 2018, Signal Process. Image Commun. 61, 33, Eq. 12",
)  # fmt: skip
def haarpsi(pred, target, data_range):
    """Haar wavelet perceptual similarity, of grey images, after averaging blocks of 2 x 2 pixels."""
    import piq

    return piq.haarpsi(pred[:, None], target[:, None], data_range=data_range, reduction="none")
