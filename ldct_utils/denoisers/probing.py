"""A denoiser on a few slices, before anything is measured: what is wrong with what it puts out, and what to do.

A wrong range, a transposed image or a grid that is shifted by half a pixel gives an image that looks like CT and scores
that look like a bad denoiser.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from ldct_utils.ct import conventions, intensity

SHIFT = 0.1  # pixels; filters of any strength and the study's networks stay at .02 and below
SLOPE = 0.1  # of output over input, from 1
COARSE = 3.0  # pixels; what the slope is taken over
BIAS_HU = 40.0  # of the mean inside the body
CLEARLY = 0.97  # of two ranges, the error of the better one over the other's
TURNS = {
    "transposed": lambda image: image.swapaxes(-1, -2),
    "upside down": lambda image: image[..., ::-1, :],
    "mirrored": lambda image: image[..., ::-1],
    "rotated by 180 degrees": lambda image: image[..., ::-1, ::-1],
    "rotated by 90 degrees": lambda image: np.rot90(image, 1, (-2, -1)),
    "rotated by 270 degrees": lambda image: np.rot90(image, 3, (-2, -1)),
}


@dataclass(frozen=True)
class Look:
    """What a denoiser did to the slices of a probe.

    slope, bias_hu: of its output over the input, and mean difference inside the body. shift: (rows, columns), pixels,
    of the output from the input. rmse_hu: inside the body, from the NDCT (NaN where there is none).
    """

    slope: float
    bias_hu: float
    shift: tuple[float, float]
    rmse_hu: float


def look(denoise: Callable, ldct, ndct=None) -> Look:
    """Probe a denoiser that takes HU.

    Args: ldct, ndct: slices (N, H, W), HU, a few.
    Raises: ValueError: with what is wrong and what to do: no array, another size, values that are not finite, an image
        without content, transposed or turned, on a shifted grid, or in another range than HU.
    """
    ldct = np.asarray(ldct, np.float32)
    made = denoise(ldct.copy())
    _shape(made, ldct)
    made = np.asarray(made, np.float64)
    if not np.isfinite(made).all():
        share = 1 - np.isfinite(made).mean()
        raise ValueError(
            f"{share:.2%} of the denoised pixels are not finite (NaN or infinite), in slices of finite HU: "
            "look for a division, a logarithm or half precision that overflows, and for a wrong range"
        )
    body = np.stack([intensity.body_mask(image) for image in ldct])
    inside = body if body.any() else np.ones_like(body)
    values, counts = np.unique(made[inside].round(3), return_counts=True)
    if counts.max() > inside.sum() / 2:  # noise goes through every denoiser: no two pixels are quite the same
        raise ValueError(
            f"half of the body or more has the value {values[counts.argmax()]:.4g}: the network puts out no image, or "
            "it takes another range"
        )
    _upright(made, ldct)
    slope = _slope(ldct, made)
    deep = ndimage.binary_erosion(inside, np.ones((1, 9, 9)))  # where blur moves no mean
    bias = float((made - ldct)[deep if deep.any() else inside].mean())
    if abs(slope - 1) > SLOPE or abs(bias) > BIAS_HU:
        raise ValueError(
            f"the output is no HU: it rises by {slope:.3g} for each HU of the input (1 is right), and the body's mean "
            f"moves by {bias:+.0f} HU. The network takes another range, so give range, {conventions.HOW}"
        )
    shift = _shifted(made, ldct)
    if max(map(abs, shift)) > SHIFT:
        raise ValueError(
            f"the output lies {shift[0]:+.2f} rows and {shift[1]:+.2f} columns beside its input: look for padding on "
            "one side only, or for an enlarged image that keeps its corners and not its pixel centres"
        )
    rmse = np.nan if ndct is None else float(np.sqrt(np.mean((made - ndct)[inside] ** 2)))
    return Look(slope, bias, shift, rmse)


def _shape(made, ldct):
    """Raises: ValueError: if what came back is no images of the input's shape."""
    wanted = " x ".join(map(str, ldct.shape))
    if not isinstance(made, np.ndarray) and not hasattr(made, "__array__"):
        raise ValueError(f"a denoiser gives back an array ({wanted}), this one {type(made).__name__}")
    made = np.asarray(made)
    if made.dtype.kind not in "fiu":
        raise ValueError(f"a denoiser gives back numbers, this one {made.dtype}")
    if made.shape == ldct.shape:
        return
    got = " x ".join(map(str, made.shape))
    remedy = "give back (N, 1, H, W) for (N, 1, H, W)"
    if made.shape == (*ldct.shape[:-2], *ldct.shape[:-3:-1]):
        remedy = "rows and columns are exchanged: transpose the output"
    elif made.ndim == 3 and len(made) == len(ldct):
        lost = [a - b for a, b in zip(ldct.shape[1:], made.shape[1:])]
        border = min(lost) > 0 and max(lost) < min(ldct.shape[1:]) / 4  # a stride loses half or more
        remedy = "pad its input, or the convolutions, by half of what is missing on each side"
        remedy = remedy if border else "resize the output to its input's grid"
    raise ValueError(f"the output is {got} where the input is {wanted}: {remedy}")


def _slope(x, y) -> float:
    """Slope of y over x by least squares, over organs and not over pixels: noise in x would lower it."""
    smooth = [ndimage.gaussian_filter(np.asarray(image, np.float64), (0, COARSE, COARSE)) for image in (x, y)]
    return float(np.polyfit(*(image.ravel() for image in smooth), 1)[0])


def _upright(made, ldct):
    """Raises: ValueError: if the output fits a turned input better than the input. Square images can be turned so."""

    def likeness(other):
        return np.corrcoef(made.ravel(), other.ravel())[0, 1]

    straight = likeness(ldct)
    for name, turn in TURNS.items():
        turned = turn(ldct)
        if turned.shape == ldct.shape and likeness(turned) > max(straight + 0.02, 0.5):
            raise ValueError(f"the output is {name}: turn it back before it is given back")
    if straight < -0.5:
        raise ValueError("the output is the negative of its input: subtract the predicted noise from the input")


def _shifted(made, ldct) -> tuple[float, float]:
    """Median over slices of the shift of the output from the input, pixels, between edges that both show."""
    found = []
    for after, before in zip(made, ldct):
        # Edges alone: the shift of whole bodies, which are smooth, comes out too small.
        one, two = (ndimage.gaussian_laplace(np.clip(image, -1024.0, 1000.0), 1.0) for image in (before, after))
        found.append(-phase_cross_correlation(one, two, upsample_factor=20, normalization=None)[0])
    return tuple(float(value) for value in np.median(found, axis=0))


def plausible(denoise: Callable, ldct, ndct=None, known=None) -> pd.DataFrame:
    """Every known range tried on a denoiser whose own is not known, the likeliest first where there is an NDCT.

    Args: denoise: of images in its own range, whatever that is. known: {name: Convention}; None for all.
    Returns: a row a range: range, plausible, rmse_hu (inside the body, from the NDCT), slope, bias_hu, why (not).
    """
    rows = []
    for name, convention in (known or conventions.KNOWN).items():
        try:
            found = look(convention.wrap(denoise), ldct, ndct)
        except ValueError as error:
            rows.append({"range": name, "plausible": False, "rmse_hu": np.nan, "why": str(error).split(":")[0]})
        else:
            rows.append({"range": name, "plausible": True, "rmse_hu": found.rmse_hu, "slope": found.slope,
                         "bias_hu": found.bias_hu, "why": ""})  # fmt: skip
    table = pd.DataFrame(rows, columns=["range", "plausible", "rmse_hu", "slope", "bias_hu", "why"])
    return table.sort_values(["plausible", "rmse_hu"], ascending=[False, True], ignore_index=True)


def likeliest(table: pd.DataFrame, name: str) -> str:
    """The one range that fits, from ``plausible``.

    Raises: ValueError: where none does, or where two do about as well and a person must say which; without an NDCT
        always, with those that give a CT image: a wrong range can do so too.
    """
    fits = table[table["plausible"]]
    if fits.empty:
        tried = "; ".join(f"{row.range}: {row.why}" for row in table.itertuples())
        raise ValueError(f"no known range gives a CT image with {name}: give range, {conventions.HOW}. Tried: {tried}")
    if fits["rmse_hu"].isna().any():
        raise ValueError(
            f"which range does {name} take? Without an NDCT nobody can tell which is right. {', '.join(fits['range'])} "
            f"give a CT image. Give range, {conventions.HOW}"
        )
    close = fits[fits["rmse_hu"] * CLEARLY <= fits["rmse_hu"].iloc[0]]
    if len(close) > 1:
        listed = ", ".join(f"{row.range} (RMSE {row.rmse_hu:.1f} HU)" for row in close.itertuples())
        raise ValueError(f"{name} gives a CT image in {len(close)} ranges: {listed}. Say which as range")
    return str(fits["range"].iloc[0])
