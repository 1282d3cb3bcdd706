"""Trainable bilateral filters (Wagner et al. 2022, Med Phys 49(8), 5107), for CPU and GPU.

A pixel becomes the mean of its neighbours, weighted by their distance along each axis and by how much they differ from
it; the widths of these Gaussians are all that is trained. Neighbours outside the image do not count.
"""

import math

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ldct_utils.models.networks._normalised import Normalised, check_whole


def _pairs(height, width, sigma_x, sigma_y):
    """Every pair of neighbours once: (squared distance in x, in y, slices of the one, slices of the other).

    x goes along the rows' index (H) and y along the columns' (W), as in the published layer on (N, 1, H, W, 1).
    """
    reach = [max(math.ceil(5 * abs(sigma)) | 1, 5) // 2 for sigma in (sigma_x, sigma_y)]
    for i in range(min(reach[0], height - 1) + 1):
        for j in range(-min(reach[1], width - 1) if i else 1, min(reach[1], width - 1) + 1):
            columns = slice(max(0, -j), width - max(0, j)), slice(max(0, j), width - max(0, -j))
            one, other = (..., slice(0, height - i), columns[0]), (..., slice(i, height), columns[1])
            yield i * i, j * j, one, other


def widths(*sigmas) -> list[float]:
    """Values of standard deviations: the window's size follows from them. One wait for a GPU, not one for each."""
    return torch.stack(sigmas).tolist()


class _Filter(torch.autograd.Function):
    """One filter. With the difference d = I_q - I_p and the weight w of every pair p, q of neighbours:

    out_p = I_p + (sum of w d) / (1 + sum of w). Kept for the gradients are two images, whatever the window's size; the
    weights are computed again. d and w are shared by both pixels of a pair, so that half of the window is enough.
    """

    @staticmethod
    def forward(ctx, image, sigma_x, sigma_y, sigma_z, sigma_r):
        sx, sy, sr = widths(sigma_x, sigma_y, sigma_r)
        weights, shift = torch.ones_like(image), torch.zeros_like(image)
        for xx, yy, one, other in _pairs(*image.shape[2:], sx, sy):
            d = image[other] - image[one]
            w = (d * d).mul_(-0.5 / sr**2).sub_(xx / (2 * sx**2) + yy / (2 * sy**2)).exp_()
            weights[one] += w
            weights[other] += w
            w *= d
            shift[one] += w
            shift[other] -= w
        shift /= weights
        ctx.save_for_backward(image, weights, shift)
        ctx.sigmas = sx, sy, sr
        return image + shift

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        image, weights, shift = ctx.saved_tensors
        sx, sy, sr = ctx.sigmas
        a = grad / weights
        b = a * shift
        grad_image, of_sigma = grad.clone(), torch.zeros(3, dtype=grad.dtype, device=grad.device)
        for xx, yy, one, other in _pairs(*image.shape[2:], sx, sy):
            d = image[other] - image[one]
            w = (d * d).mul_(-0.5 / sr**2).sub_(xx / (2 * sx**2) + yy / (2 * sy**2)).exp_()
            u = (a[one] - a[other]).mul_(w)  # loss over w d
            t = (u * d).sub_((b[one] + b[other]).mul_(w))  # loss over log w
            total = t.sum()
            t *= d
            of_sigma += torch.stack([total * (xx / sx**3), total * (yy / sy**3), (t * d).sum() / sr**3])
            u -= t.div_(sr**2)
            grad_image[other] += u
            grad_image[one] -= u
        of_x, of_y, of_r = of_sigma.unbind()
        return grad_image, of_x, of_y, torch.zeros_like(of_x), of_r


class Filter(nn.Module):
    """A trainable filter: four standard deviations, in pixels along x, y, z and of the intensity.

    Slices have one pixel along z, so that sigma_z, which is kept as the published one of twelve, has no effect: its
    gradient is zero.
    """

    def __init__(self, sigma_xyz, sigma_r):
        super().__init__()
        for axis in "xyz":
            self.register_parameter(f"sigma_{axis}", nn.Parameter(torch.tensor(float(sigma_xyz))))
        self.sigma_r = nn.Parameter(torch.tensor(float(sigma_r)))

    def forward(self, image):
        return _Filter.apply(image, self.sigma_x, self.sigma_y, self.sigma_z, self.sigma_r)


class Bilateral(Normalised):
    """Filters in a row; 12 weights at three filters. Keeps any size."""

    def __init__(self, filters, sigma_r, sigma_xyz, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        self.filters = nn.Sequential(*(Filter(sigma_xyz, sigma_r) for _ in range(filters)))

    def denoise(self, x):
        return self.filters(x)

    def groups(self):
        """Parameters by learning rate, {"sigma_r": [...], "rest": [...]}; published are 3.5553e-3 and 4.0014e-5."""
        return {
            "sigma_r": [one.sigma_r for one in self.filters],
            "rest": [getattr(one, f"sigma_{axis}") for one in self.filters for axis in "xyz"],
        }


def build(filters=3, sigma_r=0.95266, sigma_xyz=0.48647, mean_hu=None, std_hu=None):
    """Untrained ``Bilateral`` filters. The published package ignores the initial values it is given; here they count.

    Args:
        filters: how many in a row.
        sigma_r: width in intensity, in units of ``std_hu``; without normalisation in those of the network range (4096
            HU), where the default hardly tells intensities apart.
        sigma_xyz: widths in space, pixels. The window has max(odd(ceil(5 sigma)), 5) pixels along an axis.
        mean_hu, std_hu: see ``Normalised``.
    Raises: ValueError: for a width that is not positive.
    """
    check_whole("bilateral", filters=filters)
    for name, value in (("sigma_r", sigma_r), ("sigma_xyz", sigma_xyz)):
        if not value > 0:
            raise ValueError(f"bilateral: {name} is a standard deviation, above 0, not {value!r}")
    return Bilateral(filters, sigma_r, sigma_xyz, mean_hu, std_hu)
