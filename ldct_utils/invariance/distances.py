"""Bounded distances between images, for d_out - alpha d_in: large changes must not pay without end.

Without a bound the second term sinks for ever and the search runs away. A clamp at 1 bounds it too, but from there on
its gradient is zero and nothing moves. ``saturate`` does neither:

    d = m / (m + s^2),   m a mean square, s the scale at which d is 1/2.

It is below 1, so that d_out - alpha d_in > -alpha; its slope s^2 / (m + s^2)^2 fades but is never zero. For m << s^2 it
is m / s^2: there the objective is (|J delta|^2 - alpha |delta|^2) / (n s^2) for a small change delta of n pixels, J the
Jacobian of f at x, and sinks along a singular direction of J exactly if its gain sigma has sigma^2 < alpha. That is
what alpha means: a change counts as invisible if f passes on less than alpha of its power. Further out, with
m_out = sigma^2 m_in, the best size of a change along one such direction is

    m_in = s^2 (sqrt(alpha) - sigma) / (sigma (1 - sqrt(alpha) sigma)),

finite for 0 < sigma < sqrt(alpha) < 1: only what f does not see at all (sigma = 0) goes on to the HU range. With
alpha > 1 both distances near 1 give 1 - alpha < 0, so that *any* image far enough from x wins: keep alpha below 1.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ldct_utils.ct.intensity import HU_SPAN

SCALES_HU = {"mse": 25.0, "dssim": HU_SPAN, "vgg16": 25.0}  # 25 HU: about the noise of a quarter-dose abdomen
SSIM_TAPS, SSIM_SIGMA = 11, 1.5  # Wang et al. 2004, IEEE TIP 13(4), 600, s3.2
WATER = 0.25  # 0 HU in the network range
PROBE = 128  # rows and columns of the noise image on which the scale of a feature distance is found


def saturate(mean_square, scale_square):
    """Map a mean square in [0, inf) to m / (m + s^2) in [0, 1), float32; any shape.

    In float64 inside: far out the gradient is a difference of nearly equal numbers.
    """
    m = mean_square.double()
    return (m / (m + scale_square)).float()


class Distance(nn.Module):
    """d(a, b): images (N, 1, H, W), network range, to (N,) float32 in [0, 1]; made by ``build``.

    ``compare(features(a), features(b))`` is the same in two steps, for an image that is compared many times.
    """

    def forward(self, a, b):
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 1:
            raise ValueError(f"a distance takes two batches (N, 1, H, W), got {tuple(a.shape)} and {tuple(b.shape)}")
        return self.compare(self.features(a), self.features(b))


class Mse(Distance):
    """Mean squared error, saturated; with ``tile``, in every tile by itself and then averaged, so that a change in one
    place does not use up what a change elsewhere could gain; with ``blur_px``, of images blurred by a Gaussian, so that
    only changes of anatomy's size count."""

    def __init__(self, scale_hu, tile=None, blur_px=None):
        super().__init__()
        self.scale_square, self.tile, taps = (scale_hu / HU_SPAN) ** 2, tile, None
        if blur_px is not None:
            at = torch.arange(-math.ceil(3 * blur_px), math.ceil(3 * blur_px) + 1.0)
            taps = torch.softmax(-0.5 * (at / blur_px).square(), dim=0)
        self.register_buffer("taps", taps, persistent=False)

    def features(self, image):
        image = image.float()
        if self.taps is None:
            return image
        reach = len(self.taps) // 2
        image = F.pad(image, (reach,) * 4, mode="reflect")
        return F.conv2d(F.conv2d(image, self.taps.view(1, 1, 1, -1)), self.taps.view(1, 1, -1, 1))

    def compare(self, a, b):
        square = (a - b).square()
        if self.tile is None:
            return saturate(square.flatten(1).mean(1), self.scale_square)
        tiles = F.avg_pool2d(square, self.tile, ceil_mode=True)
        return saturate(tiles, self.scale_square).flatten(1).mean(1)


class Dssim(Distance):
    """(1 - SSIM) / 2 with an 11x11 Gaussian window where it fits in, SSIM of HU + 1024 with a given data range.

    Own code: piq refuses images outside [0, data range], where f's output and a moving x_inv may lie, and takes
    variances as E[x^2] - E[x]^2 of HU + 1024, which in float32 is off by 1 HU^2. Here 0 HU is subtracted first.
    """

    def __init__(self, range_hu):
        super().__init__()
        self.c1, self.c2 = ((k * range_hu / HU_SPAN) ** 2 for k in (0.01, 0.03))
        window = torch.exp(-((torch.arange(SSIM_TAPS) - SSIM_TAPS // 2) ** 2) / (2 * SSIM_SIGMA**2)).double()
        self.register_buffer("window", window / window.sum(), persistent=False)

    def _blurred(self, image):
        window = self.window.to(image.dtype)
        return F.conv2d(F.conv2d(image, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    def features(self, image):
        """The image about 0 HU, its local mean and its local variance; float64 stays float64."""
        if min(image.shape[-2:]) < SSIM_TAPS:
            raise ValueError(f"dssim needs images of at least {SSIM_TAPS} pixels a side, not {tuple(image.shape[-2:])}")
        about_water = (image if image.dtype == torch.float64 else image.float()) - WATER
        mean = self._blurred(about_water)
        return about_water, mean, self._blurred(about_water.square()) - mean.square()

    def compare(self, a, b):
        (image_a, mean_a, var_a), (image_b, mean_b, var_b) = a, b
        covariance = self._blurred(image_a * image_b) - mean_a * mean_b
        mean_a, mean_b = mean_a + WATER, mean_b + WATER  # SSIM's first factor is not free of the offset
        brightness = (2 * mean_a * mean_b + self.c1) / (mean_a.square() + mean_b.square() + self.c1)
        structure = (2 * covariance + self.c2) / (var_a + var_b + self.c2)
        return ((1 - (brightness * structure).flatten(1).mean(1)) / 2).float()


class Features(Distance):
    """Mean squared difference of an encoder's features, saturated layer by layer and averaged over layers.

    The scale of a layer is the distance there between water and water with white noise of ``scale_hu``.
    """

    def __init__(self, encoder, scale_hu):
        super().__init__()
        self.encoder = encoder
        noise = torch.randn(1, 1, PROBE, PROBE, generator=torch.Generator().manual_seed(0)) * scale_hu / HU_SPAN
        water = torch.full_like(noise, WATER)
        device = next(encoder.parameters()).device
        with torch.no_grad():
            noisy, flat = self.features((water + noise).to(device)), self.features(water.to(device))
        self.scale_squares = {layer: (noisy[layer] - flat[layer]).square().mean().item() for layer in flat}

    def features(self, image):
        """{layer: (N, C, h, w)} in float32, under autocast too: near x the rounding of bf16 is all one would see."""
        with torch.autocast(image.device.type, enabled=False):
            return {layer: found.float() for layer, found in self.encoder(image.float()).items()}

    def compare(self, a, b):
        layers = [
            saturate((a[layer] - b[layer]).square().flatten(1).mean(1), scale)
            for layer, scale in self.scale_squares.items()
        ]
        return sum(layers) / len(layers)


def build(name, scale_hu=None, encoder=None, tile=None, blur_px=None):
    """Build a distance by name: a module d(a, b) of images (N, 1, H, W), network range, that returns (N,) float32.

    Args:
        name: ``mse``, bounded as above; ``dssim``, (1 - SSIM) / 2; ``vgg16``, perceptual, bounded as ``mse``.
        scale_hu: HU, > 0; None takes ``SCALES_HU``. ``mse``: RMS error at which d is 1/2. ``dssim``: data range of
            SSIM; 4096 by default, at which soft tissue hardly counts: 400 makes it count as in an abdomen window,
            with nothing clipped. ``vgg16``: white noise on water that is at distance 1/2.
        encoder: for ``vgg16``, from ``encoders.load("vgg16", context, layers)``.
        tile: for ``mse``, rows and columns of a tile, in pixels; None takes the image as one.
        blur_px: for ``mse``, SD of a Gaussian that images are blurred by, in pixels, > 0; None takes them as they are.
    Raises: ValueError: for an unknown name, a scale that is not positive, a missing encoder or one of another kind.
    Source: objective and distances after Eulig, Maier, Ommer and Kachelriess, "May denoising remove structures?", who
        bound the MSE "by +1" and do not say how.
    """
    if name not in SCALES_HU:
        raise ValueError(f"no distance {name!r}; there are {', '.join(SCALES_HU)}")
    scale_hu = SCALES_HU[name] if scale_hu is None else scale_hu
    if not 0 < scale_hu < float("inf"):
        raise ValueError(f"scale_hu of {name} must be a positive number of HU, not {scale_hu!r}")
    if tile is not None and (name != "mse" or isinstance(tile, bool) or not isinstance(tile, int) or tile < 1):
        raise ValueError(f"tile is a number of pixels, at least 1, for the distance mse; got {tile!r} for {name}")
    if blur_px is not None and (name != "mse" or not 0 < blur_px < float("inf")):
        raise ValueError(f"blur_px is a number of pixels above 0 for the distance mse; got {blur_px!r} for {name}")
    if (encoder is not None) != (name == "vgg16"):
        raise ValueError(f"encoder= belongs to the distance vgg16, which needs one from encoders.load; this is {name}")
    if name == "mse":
        return Mse(scale_hu, tile, blur_px)
    if name == "dssim":
        return Dssim(scale_hu)
    if (arch := encoder.provenance["arch"]) != "vgg16":
        raise ValueError(f"the distance vgg16 reads a VGG-16, but the encoder is {arch}")
    return Features(encoder, scale_hu)
