"""The LDCT benchmark's normalisation (Eulig et al. 2024, Med Phys 51(12) 8776) as a part of its networks.

The benchmark trains on (v - mean) / std, with v = HU + 1024 and the statistics of the low-dose training images. Here
every network maps the network range to itself; one built with ``mean_hu`` and ``std_hu`` normalises its input and
denormalises its output inside, so that it may stand wherever another denoiser stands. The published
``evaluate.denormalize`` adds the standard deviation in place of the mean, 20.73 HU too much; here 0 comes back as the
mean.
"""

import math

import torch
from torch import nn

from ldct_utils.ct import intensity


class Normalised(nn.Module):
    """A denoiser whose ``denoise`` works on normalised images; ``forward`` maps the network range to itself.

    Args:
        mean_hu, std_hu: mean and standard deviation of the low-dose training images in HU (a cohort's
            ``train_ldct_hu``; the benchmark's own are -542.5458 and 502.1851); both None: no normalisation, the network
            works in the network range.
    Raises: ValueError: if only one is given, or ``std_hu`` is not positive.
    """

    SMALLEST = 1  # rows and columns that the network needs at least

    def __init__(self, mean_hu=None, std_hu=None):
        super().__init__()
        if (mean_hu is None) != (std_hu is None):
            raise ValueError(f"give both mean_hu and std_hu or neither, not {mean_hu!r} and {std_hu!r}")
        mean_hu, std_hu = (intensity.HU_MIN, intensity.HU_SPAN) if mean_hu is None else (mean_hu, std_hu)
        for name, value in (("mean_hu", mean_hu), ("std_hu", std_hu)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is a number in HU, not {value!r}")
        if std_hu <= 0:
            raise ValueError(f"std_hu is a standard deviation in HU, above 0, not {std_hu!r}")
        self.mean, self.std = float(intensity.to_net(mean_hu)), float(std_hu / intensity.HU_SPAN)

    def normalise(self, image):
        """Network range to what ``denoise`` takes: (v - mean) / std."""
        return (image - self.mean) / self.std

    def denormalise(self, image):
        """Inverse of ``normalise``."""
        return image * self.std + self.mean

    def check(self, image):
        """Raises: ValueError: for images that the network cannot take."""
        if image.ndim != 4 or image.shape[1] != 1 or min(image.shape[2:]) < self.SMALLEST:
            raise ValueError(
                f"{type(self).__name__} takes (N, 1, H, W) with H and W of at least {self.SMALLEST}, "
                f"not {tuple(image.shape)}"
            )

    def forward(self, image):
        """Denoise LDCT (N, 1, H, W) in the network range. Returns the same shape. Raises: ValueError: see ``check``."""
        self.check(image)
        return self.denormalise(self.denoise(self.normalise(image)))


def in_float32(layer, z, *more):
    """``layer(z, *more)`` in float32 within autocast.

    For what leaves a network that does not add to its input: bf16 has 8 bits, steps of 8 HU at soft tissue.
    """
    with torch.autocast(z.device.type, enabled=False):
        return layer(z if z.dtype == torch.float64 else z.float(), *more)


def check_whole(network, **settings):
    """Raises: ValueError: naming a setting that is not a whole number of at least 1."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{network}: {name} must be a whole number of at least 1, not {value!r}")
