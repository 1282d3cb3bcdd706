"""Denoisers whose invariances are known beforehand: what a method claims to find must be right on these first.

They map images (N, 1, H, W), network range, to the same shape, as every denoiser does, and have nothing to train.
"""

import inspect

import numpy as np
import pandas as pd
import torch
from torch import nn

from ldct_utils.ct.intensity import HU_SPAN, to_net
from ldct_utils.invariance import distances, evidence
from ldct_utils.invariance.optimise import Search

REMOVED = 1e-6  # gain at which a frequency counts as removed: rounding leaves about 1e-8


class Identity(nn.Module):
    """f(x) = x. No invariance: for alpha < 1 only x itself will do; for alpha > 1 everything far enough (distances)."""

    def forward(self, image):
        return image


class Constant(nn.Module):
    """f(x) = ``hu`` everywhere. Everything is an invariance: d_out is 0, and a search ends at the bounds."""

    def __init__(self, hu=0.0):
        super().__init__()
        self.value = float(to_net(hu))

    def forward(self, image):
        return torch.full_like(image, self.value)


class Blur(nn.Module):
    """Circular mean over ``size`` x ``size`` pixels: linear, and it removes known frequencies.

    Along an axis of H pixels it removes the frequencies k, 0 < k < H, for which ``size`` k / H is whole; there are
    some if size and H have a common divisor. Nulls of one axis are nulls whatever the frequency along the other.
    """

    def __init__(self, size=4):
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"size of the mean filter is a number of pixels, at least 1, not {size!r}")
        self.size = size

    def _axis(self, length):
        """Transfer function along an axis of ``length`` pixels, complex128 (length,)."""
        if length < self.size:
            raise ValueError(f"a mean over {self.size} pixels does not fit into an axis of {length}")
        kernel = torch.zeros(length, dtype=torch.float64)
        kernel[: self.size] = 1 / self.size
        return torch.fft.fft(kernel.roll(-(self.size // 2)))

    def gain(self, shape):
        """What is left of the amplitude of every frequency, (H, W) float64, in the order of ``torch.fft.fft2``."""
        rows, columns = (self._axis(length).abs() for length in shape)
        return rows[:, None] * columns

    def forward(self, image):
        rows, columns = (self._axis(length).to(image.device, torch.complex64) for length in image.shape[-2:])
        blurred = torch.fft.ifft2(torch.fft.fft2(image.float()) * rows[:, None] * columns)
        return blurred.real.to(image.dtype)

    def null_space(self, shape, gain=REMOVED):
        """Frequencies that are removed, boolean (H, W), in the order of ``torch.fft.fft2``.

        Args: shape: (H, W); gain: the largest that counts as removed; sqrt(alpha) gives all that a search with the
            distance ``mse`` should call invisible.
        Raises: ValueError: if it removes none.
        """
        removed = self.gain(shape) <= gain
        if not removed.any():
            raise ValueError(
                f"a mean over {self.size}x{self.size} pixels removes no frequency of {tuple(shape)} pixels; "
                "take a size that has a divisor in common with height or width"
            )
        return removed

    def share_in_null(self, delta, gain=REMOVED):
        """Share of the power of changes (N, 1, H, W) that lies in ``null_space``: (N,) float64; NaN for no change."""
        power = torch.fft.fft2(delta.double()).abs().square()[:, 0]
        removed = self.null_space(delta.shape[-2:], gain).to(delta.device)
        return (power * removed).sum((1, 2)) / power.sum((1, 2))


class Erase(nn.Module):
    """f(x) = ``hu`` + ``keep`` (x - ``hu``) inside a mask and x elsewhere: a denoiser that hides what is in the mask.

    A search must find changes there if ``keep``^2 < alpha (``keep`` is a share of the amplitude), and none above.

    Args: inside: boolean (H, W). keep: share of everything inside that is passed on, 0 to 1.
    """

    def __init__(self, inside, keep=0.0, hu=0.0):
        super().__init__()
        if not 0 <= keep <= 1:
            raise ValueError(f"keep is the share that is passed on, 0 to 1, not {keep!r}")
        self.register_buffer("inside", torch.as_tensor(inside, dtype=torch.bool))
        self.keep, self.value = keep, float(to_net(hu))

    def forward(self, image):
        return torch.where(self.inside, self.value + self.keep * (image - self.value), image)


CONTROLS = {"identity": Identity, "constant": Constant, "blur": Blur}
KEPT = {"erases": 0.0, "halves": 0.5}  # of lesions, by ``Erase`` in ``searched``


def names():
    """Names of the controls that need no image; ``Erase`` needs to know where."""
    return list(CONTROLS)


def build(name, **given):
    """A control by name: ``identity``; ``constant``, with ``hu``; ``blur``, with ``size`` in pixels.

    Raises: ValueError: for an unknown control, or a setting that it does not have.
    """
    if name not in CONTROLS:
        raise ValueError(f"no control {name!r}; there are {', '.join(CONTROLS)}")
    if unknown := set(given) - set(inspect.signature(CONTROLS[name]).parameters):
        raise ValueError(f"the control {name!r} has no setting {', '.join(sorted(unknown))}")
    return CONTROLS[name](**given)


def searched(x_hu, alpha, sigma_hu, lr, iterations, seed=0, inside=None, around=None, aim_px=2.0) -> pd.DataFrame:
    """What a search with the distance ``mse`` finds on every control: identity, constant, mean filter; and, where
    lesions are given, an aimed one on a denoiser that erases them and on one that halves them.

    Args:
        x_hu: one crop (H, W), HU. alpha, sigma_hu, lr, seed: of the ``optimise.Search``. iterations: of each.
        inside, around: the lesions' pixels and those around them, boolean (L, H, W), or None. aim_px: SD of the blur
            after which changes of lesions count, pixels.
    Returns: a row a control: ``control``; RMS change of x at the start and the end, ``start, HU`` and ``in, HU``, and
        of f(x), ``out, HU``; for the filter the share of the ``power where gain < √α``; for lesions the largest change
        of one's contrast before and after f, ``contrast in, HU`` and ``contrast out, HU``. NaN elsewhere.
    """
    x, rows = to_net(torch.from_numpy(np.array(x_hu, np.float32)[None, None])), []
    asked = {one: (build(one), None) for one in names()}
    if inside is not None:
        aimed = distances.build("mse", blur_px=aim_px)
        asked |= {f"{what} lesions": (Erase(inside.any(0), keep), aimed) for what, keep in KEPT.items()}
    for name, (f, rewarded) in asked.items():
        search = Search(f, x, distances.build("mse"), alpha, sigma_hu, lr, seed, distance_in=rewarded)
        start = float(search.measure()["in_hu"])
        for _ in range(iterations):
            search.step()
        ends, change = search.measure(), search.x_inv - x
        row = {"control": name, "start, HU": start, "in, HU": float(ends["in_hu"]), "out, HU": float(ends["out_hu"])}
        if name == "blur":
            row["power where gain < √α"] = float(f.share_in_null(change, alpha**0.5))
        if rewarded:
            for end, moved in (("in", change), ("out", f(x + change) - f(x))):
                image = moved[0, 0].numpy() * HU_SPAN
                row[f"contrast {end}, HU"] = max(abs(evidence.contrast(image, *pair)) for pair in zip(inside, around))
        rows.append(row)
    return pd.DataFrame(rows)


def check(known, alpha: float, iterations: int):
    """What a search must have found on the controls; a short one, of under 300 iterations, only little of it.

    Args: known: of ``searched``, indexed by ``control``. alpha, iterations: of the search.
    Raises: AssertionError: naming what was found that is not there, or missed.
    """
    assert known["out, HU"]["constant"] < 0.01, "a constant moved"
    if iterations < 300 or alpha >= 1:
        return
    now, start = known["in, HU"], known["start, HU"]
    assert now["identity"] < 0.1 * start["identity"], "the identity was found invariant"
    assert now["constant"] > 2 * start["constant"], "a constant was not found invariant"
    assert known["power where gain < √α"]["blur"] > 0.9, "the blur's null space was missed"
    if "contrast in, HU" in known and alpha < 0.25:
        caught, after = known.loc["erases lesions", ["contrast in, HU", "contrast out, HU"]]
        assert caught > 20 > 20 * after, "lesions that f erases were missed"
        assert known["contrast in, HU"]["halves lesions"] < 1, "lesions that f halves were found hidden"
