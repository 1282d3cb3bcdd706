"""The U-Net critic of DU-GAN and what it judges besides images: Sobel gradients and CutMix images.

Huang et al. 2021 (arXiv 2108.10772; IEEE Trans Instrum Meas 71, 2022): sections III-B (critics), III-C (CutMix).
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, pad
from torch.nn.utils.parametrizations import spectral_norm

WIDEST = 512  # channels at most
SLOPE = 0.2  # of every LeakyReLU
SOBEL_EPS = 1e-4  # under the root, in the units of the image


def _convolution(inside, outside, *args, **more):
    """A convolution, spectrally normalised unless it reads up to 4 channels or gives one."""
    layer = nn.Conv2d(inside, outside, *args, **more)
    return spectral_norm(layer) if inside > 4 and outside != 1 else layer


def _double(inside, outside):
    return nn.Sequential(
        _convolution(inside, outside, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True),
        _convolution(outside, outside, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True),
    )  # fmt: skip


def _fitted(image, like):
    """``image`` padded with zeros on both sides to the height and width of ``like`` (odd sizes lose a pixel)."""
    rows, columns = (like.shape[axis] - image.shape[axis] for axis in (2, 3))
    return pad(image, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class Down(nn.Module):
    """Two convolutions and, if it ``halves``, a strided one, beside a 1x1 shortcut."""

    def __init__(self, inside, outside, halves):
        super().__init__()
        # Every second pixel is taken before the 1x1 convolution, not by its stride: for channels_last and a number of
        # channels that 8 does not divide, oneDNN 3.13's gradient of a strided one overwrites memory on AVX2 CPUs.
        self.step = 2 if halves else 1
        self.shortcut = _convolution(inside, outside, 1)
        self.convolve = _double(inside, outside)
        self.down = _convolution(outside, outside, 4, stride=2, padding=1) if halves else nn.Identity()

    def forward(self, z):
        """The block's output, and what it hands across the U."""
        across, shortcut = self.convolve(z), self.shortcut(z[..., :: self.step, :: self.step])
        return _fitted(self.down(across), shortcut) + shortcut, across


class Up(nn.Module):
    """Bilinear enlargement by 2, joined with what comes across the U; a 1x1 shortcut past two convolutions."""

    def __init__(self, inside, outside):
        super().__init__()
        self.shortcut = _convolution(inside, outside, 1)
        self.convolve = _double(2 * inside, outside)

    def forward(self, z, across):
        z = _fitted(interpolate(z, scale_factor=2, mode="bilinear", align_corners=False), across)
        return self.convolve(torch.cat([z, across], dim=1)) + self.shortcut(z)


class Critic(nn.Module):
    """U-Net with a verdict on the whole image at its bottom and one on every pixel at its end.

    57,213,839 weights at width 64 and depth 6, as published; spectral normalisation as ``_convolution`` says.

    Args: width: channels of the first level, doubled a level up to 512; depth: halvings.
    Raises: ValueError: for a width or depth below 1.
    """

    def __init__(self, width: int = 64, depth: int = 6):
        super().__init__()
        if width < 1 or depth < 1:
            raise ValueError(f"critic_width and critic_depth are at least 1, not {width} and {depth}")
        self.depth = depth
        widths = [1, *(min(width * 2**level, WIDEST) for level in range(depth))]
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(Down(a, b, True) for a, b in pairs)
        self.bottom = Down(widths[-1], widths[-1], False)
        self.middle = _double(widths[-1], widths[-1])
        self.verdict = nn.Linear(widths[-1], 1)
        self.up = nn.ModuleList(Up(b, a) for a, b in reversed(pairs))
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, image):
        """Verdicts on images (N, 1, H, W) of more than 2**(depth - 1) pixels a side: (N,) and (N, 1, H, W).

        1 stands for real, 0 for fake; least squares train it, so values lie anywhere.
        """
        smallest = 2 ** (self.depth - 1) + 1  # two pixels are left for the last halving
        if min(image.shape[2:]) < smallest:
            raise ValueError(
                f"a critic of depth {self.depth} needs patches of {smallest} pixels, not {tuple(image.shape)}; "
                "raise patch_size or lower critic_depth"
            )
        z, skips = image, []
        for block in self.down:
            z, across = block(z)
            skips.append(across)
        z, _ = self.bottom(z)
        z = self.middle(z) + z
        verdict = self.verdict(nn.functional.leaky_relu(z, SLOPE).mean((2, 3))).squeeze(1)
        for block, across in zip(self.up, reversed(skips)):
            z = block(z, across)
        return verdict, self.head(z)


def sobel(image):
    """Magnitude of the Sobel gradient, (N, 1, H, W) to the same shape: sqrt(gx^2 + gy^2 + 1e-4), kernels over 4.

    Inside the image a ramp of slope s a pixel gives sqrt(4 s^2 + 1e-4); beyond its border there are zeros.
    """
    kernel = torch.tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=image.dtype) / 4
    kernels = torch.stack([kernel, kernel.T])[:, None].to(image.device, non_blocking=True)
    both = conv2d(image, kernels, padding=1)
    return (both.square().sum(1, keepdim=True) + SOBEL_EPS).sqrt()


def least_squares(verdicts, wanted):
    """Least-squares GAN loss an image, (N,): (verdict - wanted)^2 on the whole plus its mean over the pixels.

    Args: verdicts: what a ``Critic`` gives; wanted: (whole, pixels), numbers or an image (H, W) of 0 and 1 for pixels.
    Source: Mao et al. 2017, arXiv 1611.04076, Eq. 2, without the factor 1/2.
    """
    whole, pixels = verdicts
    return (whole - wanted[0]).square() + (pixels - wanted[1]).square().flatten(1).mean(1)


def cutmix_mask(height: int, width: int):
    """Image (H, W), 1 where CutMix keeps the real image, 0 in the box that is filled with the fake one.

    The box has a share 1 - lambda of the image, lambda uniform in [0, 1], and a uniformly drawn centre; what lies
    outside the image is cut off. Draws three numbers from torch's global generator.
    Source: Yun et al. 2019, arXiv 1905.04899, section 3.2 with alpha = 1.
    """
    share, y, x = torch.rand(3).tolist()
    side = (1 - share) ** 0.5
    (top, bottom), (left, right) = (
        (round(max(centre * n - side * n / 2, 0)), round(min(centre * n + side * n / 2, n)))
        for centre, n in ((y, height), (x, width))
    )
    mask = torch.ones(height, width)
    mask[top:bottom, left:right] = 0
    return mask
