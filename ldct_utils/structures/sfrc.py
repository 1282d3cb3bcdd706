"""Scanning Fourier ring correlation (sFRC): up to which detail do a denoised image and its reference agree, patch by
patch?

Both images are cut into patches and their Fourier transforms correlated on rings of equal frequency. The frequency at
which the correlation first falls below a threshold is the patch's crossing; where it is low, something larger than
noise differs: a structure was removed, invented or moved. A patch is one mark.

Source: Kc, Zeng, Soni and Badano 2026, "sFRC for assessing hallucinations in medical image restoration"
(arXiv 2603.04673), written from its description: patches of 64 pixels, Hann window, rings inscribed in the square,
threshold .5. Three things differ. The patch's mean is taken off before the window, since it would leak into the first
rings and hold the correlation up there; the correlation keeps its sign, as an inverted structure is no agreement;
patches overlap by half, since the window is blind at their rims.
"""

import numpy as np
import pandas as pd
from scipy import fft

from ldct_utils.ct.nps import hann_window

PATCH, THRESHOLD = 64, 0.5
INSIDE = 0.5  # share of a patch that must lie in the body for it to be scored
TINY = 1e-18  # of the patch's largest square: a ring with less power than this holds rounding alone


def corners(shape, patch: int = PATCH, stride: int | None = None) -> np.ndarray:
    """First row and column of every patch, (P, 2), row by row. The last ones end at the image's edge, so that nothing
    is left out.

    Args: shape: (H, W). stride: pixels from patch to patch; None takes half a patch.
    Raises: ValueError: for an image smaller than a patch, or a patch or stride that is no length.
    """
    stride = patch // 2 if stride is None else stride
    if patch < 4 or patch % 2 or stride < 1:
        raise ValueError(f"patches have an even side of 4 pixels or more and a stride of 1 or more: {patch}, {stride}")
    if len(shape) != 2 or min(shape) < patch:
        raise ValueError(f"patches of {patch} pixels do not fit a slice of shape {tuple(shape)}: take smaller ones")
    sides = [np.unique([*range(0, n - patch, stride), n - patch]) for n in shape]
    return np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)


def correlation(image, reference, patch: int = PATCH, stride: int | None = None) -> np.ndarray:
    """Fourier ring correlation of every patch, (P, patch / 2 + 1): the sum over a ring of the product of one transform
    with the other's conjugate, real part, over the root of the product of their powers.

    Ring r holds the frequencies that round to r / patch cycles per pixel; ring 0 is 1 by definition, since the mean is
    taken off. A ring without power in both images agrees (1), without power in one of them it does not (0).

    Args: image, reference: (H, W), of any one unit.
    """
    image, reference = (np.asarray(one, np.float64) for one in (image, reference))
    if image.shape != reference.shape:
        raise ValueError(f"image and reference are one slice (H, W) each, got {image.shape} and {reference.shape}")
    where, weight = corners(image.shape, patch, stride), hann_window(patch)
    index = np.rint(np.hypot(*np.meshgrid(*[fft.fftfreq(patch, 1 / patch)] * 2, indexing="ij"))).astype(int)
    rings = patch // 2 + 1
    inscribed = index < rings
    sums = np.zeros((inscribed.sum(), rings))
    sums[np.arange(len(sums)), index[inscribed]] = 1

    def transformed(one):
        cut = np.lib.stride_tricks.sliding_window_view(one, (patch, patch))[where[:, 0], where[:, 1]]
        middle = (cut * weight).sum((1, 2), keepdims=True) / weight.sum()
        return fft.fft2((cut - middle) * weight)[:, inscribed], TINY * patch**4 * np.square(cut).max((1, 2))[:, None]

    (one, least_one), (other, least_other) = transformed(image), transformed(reference)
    powers = np.square(np.abs(one)) @ sums, np.square(np.abs(other)) @ sums
    empty = powers[0] <= least_one, powers[1] <= least_other
    root = np.sqrt(np.where(empty[0] | empty[1], 1, powers[0] * powers[1]))
    found = np.where(empty[0] | empty[1], empty[0] & empty[1], ((one * other.conj()).real @ sums) / root)
    found[:, 0] = 1
    return found


def crossing(
    image, reference, pixel_mm: float, patch: int = PATCH, stride: int | None = None, threshold: float = THRESHOLD
) -> np.ndarray:
    """Frequency at which each patch's correlation first falls below the threshold, lp/mm, (P,), as ``corners`` orders
    the patches.

    Between two rings the correlation is taken as a straight line. Infinite where it never falls below: identical
    images. The lowest ring is 1 / (patch * pixel_mm) lp/mm; a patch that has lost it crosses below.

    Args: image, reference: (H, W), HU. pixel_mm: pixel side; 1 gives cycles per pixel. threshold: in (0, 1).
    Raises: ValueError: as ``corners``; for a pixel without size, or a threshold that is no correlation.
    """
    if not pixel_mm > 0 or not 0 < threshold < 1:
        raise ValueError(
            f"sFRC takes pixels with a size and a threshold between 0 and 1, got {pixel_mm} mm, {threshold}"
        )
    found = correlation(image, reference, patch, stride)
    below = found < threshold
    first = np.where(below.any(1), below.argmax(1), 1)  # never 0, where the correlation is 1
    before, after = (found[np.arange(len(found)), at] for at in (first - 1, first))
    drop = np.where(below.any(1), before - after, 1)
    at = first - 1 + (before - threshold) / drop
    return np.where(below.any(1), at / (patch * pixel_mm), np.inf)


# ---- marks ----
def nearest(places, middles) -> np.ndarray:
    """Which patch each place (K, 2) belongs to: that of the nearest middle (P, 2), whose window sees it best."""
    gap = np.asarray(places, float).reshape(-1, 1, 2) - middles
    return np.hypot(*np.moveaxis(gap, -1, 0)).argmin(1)


def marks(
    image, reference, pixel_mm: float, body=None, structures=None, patch: int = PATCH, stride=None, **how
) -> pd.DataFrame:
    """The patches of a slice, one mark each, for ``froc.curves``.

    A patch shows the structures whose middle lies nearest to its own. It is neither a hit nor a false mark (structure
    -1) where it only touches one.

    Args: body: boolean (H, W); patches that lie in it by less than half are left out. structures: label map (H, W) of
        what was removed or inserted. how: threshold. The others as in ``crossing``.
    Returns: patch (number), y, x (its middle, pixels), lp_mm (crossing frequency), structure (0: none, -1: touched): a
        row a patch, or one for each structure where it shows several.
    """
    where = corners(np.shape(image), patch, stride)
    middles = where + (patch - 1) / 2
    table = pd.DataFrame({"patch": np.arange(len(where)), "y": middles[:, 0], "x": middles[:, 1]})
    table["lp_mm"] = crossing(image, reference, pixel_mm, patch, stride, **how)
    boxes = [np.s_[y : y + patch, x : x + patch] for y, x in where]
    if structures is None or not np.any(structures):
        table["structure"] = 0
    else:
        structures = np.asarray(structures)
        numbers = np.unique(structures[structures > 0])
        places = [np.argwhere(structures == number).mean(0) for number in numbers]
        shown = pd.DataFrame({"patch": nearest(places, middles), "structure": numbers})
        table = table.merge(shown, "left", on="patch")
        touched = np.array([bool(structures[box].any()) for box in boxes])
        table["structure"] = table["structure"].fillna(-1.0 * pd.Series(touched[table.patch])).astype(int)
    if body is not None:
        inside = np.array([np.mean(body[box]) >= INSIDE for box in boxes])
        table = table[inside[table["patch"]]]
    return table.reset_index(drop=True)


def of_segments(patches: pd.DataFrame, segments: pd.DataFrame, score: str = "score", least: float = 0.0):
    """Another detector's scores at the granularity of patches, (rows of ``patches``,): the highest of the segments
    whose middle lies nearest to the patch, ``least`` where it has none.

    Args: patches: ``marks`` of one slice. segments: y, x (middle, pixels) and a score each, of the same slice.
    """
    if segments.empty or patches.empty:
        return np.full(len(patches), least)
    middles = patches.drop_duplicates("patch")
    at = middles["patch"].to_numpy()[nearest(segments[["y", "x"]].to_numpy(), middles[["y", "x"]].to_numpy())]
    return patches["patch"].map(segments[score].groupby(at).max()).fillna(least).to_numpy()


def cutoff(patches: pd.DataFrame, slices: int, false_marks: float = 1.0) -> float:
    """The largest crossing frequency, lp/mm, at or below which there are no more than so many false marks a slice.

    To be tuned on validation patients. -inf where even the lowest crossing gives more.

    Args: patches: ``marks`` of all slices together. slices: their number.
    """
    found, counts = np.unique(patches.loc[patches["structure"] == 0, "lp_mm"], return_counts=True)
    fits = counts.cumsum() <= false_marks * slices
    return float(found[fits][-1]) if fits.any() else -np.inf


def at_cutoff(patches: pd.DataFrame, slices: pd.DataFrame, lp_mm: float) -> pd.DataFrame:
    """What a cutoff gives each patient: found (share of structures) and false_marks (a slice).

    Args: patches: ``marks`` with patient and image. slices: a row an image: patient, image, structures.
    """
    marked = patches[patches["lp_mm"] <= lp_mm]
    hits = marked[marked["structure"] > 0].drop_duplicates(["image", "structure"]).groupby("patient").size()
    false = marked[marked["structure"] == 0].groupby("patient").size()
    each = slices.groupby("patient").agg(images=("image", "size"), structures=("structures", "sum"))
    each["found"] = hits.reindex(each.index, fill_value=0) / each["structures"].where(each["structures"] > 0)
    each["false_marks"] = false.reindex(each.index, fill_value=0) / each["images"]
    return each
