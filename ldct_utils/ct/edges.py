"""The resolution of a scan, measured in the scan itself: how far its skin is blurred against the air around it.

Source: Sanders, Hurwitz and Samei 2016, Med Phys 43:5330 (patient-specific resolution from the interface of air and
skin). Two things differ. Skin lies over darker fat, so the profile is fitted as two steps and not differentiated. And
a surface that leans against the slice is blurred by the slice's thickness as well, so edges of several leanings give
the blur within and across slices separately.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage, optimize, special
from skimage import measure

LEVEL_HU = -500.0  # half way between air and skin: where the contour runs
PIECE = 24  # points of the contour a piece of edge, about as many half pixels
BEND, ROUGH = 0.02, 0.12  # most curvature (1/pixel) and roughness (pixels) of a piece
REACH_MM = (-4.0, 3.0)  # of a profile, negative in the air
BIN_MM = 0.1
LEANING = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)  # classes of the tangent of the angle between surface and slice normal
FEWEST = 20  # pieces of edge in a class
AIR_HU = (-990.0, -900.0)  # beside the skin: the median is below the first, every pixel below the second


@dataclass(frozen=True)
class Resolution:
    """Blur of a scan, Gaussian: SD ``in_plane_mm`` within a slice, ``across_mm`` from slice to slice.

    edges: pieces of edge that it was measured on. off_hu: RMS by which the fitted profile of upright edges misses the
    measured one, of a step of some 1100 HU; NaN where it was not measured.
    """

    in_plane_mm: float
    across_mm: float
    edges: int = 0
    off_hu: float = float("nan")

    @property
    def f50(self) -> float:
        """Frequency at which the transfer function within a slice has fallen to one half, lp/mm."""
        return float(np.sqrt(np.log(2) / 2) / (np.pi * self.in_plane_mm))


def measured(hu, pixel_mm: float, spacing_mm: float) -> Resolution:
    """Resolution of a series from its skin.

    A surface that leans by the angle t is blurred in the slice by the variance s_xy^2 + s_z^2 tan^2 t. The fitted
    variances of several leanings are therefore laid on a line: its height is s_xy^2, its slope s_z^2.

    Args: hu: (S, H, W), HU, neighbouring slices ``spacing_mm`` apart.
    Raises: ValueError: where too few edges of skin are smooth and have air beside them.
    """
    pieces = [piece for number in range(1, len(hu) - 1) for piece in _pieces(hu[number - 1 : number + 2], pixel_mm)]
    leaning = np.array([tangent / spacing_mm for tangent, *_ in pieces])
    rows, off_hu = [], np.nan
    for low, high in pairwise(LEANING):
        chosen = np.flatnonzero((leaning >= low) & (leaning < high))
        if len(chosen) < FEWEST:
            continue
        variance, missed = _fitted(*(np.concatenate([pieces[i][part] for i in chosen]) for part in (1, 2)))
        off_hu = off_hu if np.isfinite(off_hu) else missed
        rows.append((np.mean(leaning[chosen] ** 2), variance, np.sqrt(len(chosen))))
    if len(rows) < 3:
        raise ValueError(f"pieces of skin with air beside them: {len(pieces)}, too few to measure the resolution on")
    slope, height = np.polyfit(*np.array(rows).T[:2], 1, w=np.array(rows).T[2])
    if height <= 0 or slope <= 0:
        raise ValueError(f"edges give no resolution: variances {height:.2g} within and {slope:.2g} mm^2 across slices")
    return Resolution(float(np.sqrt(height)), float(np.sqrt(slope)), len(pieces), float(off_hu))


def _pieces(three, pixel_mm):
    """Smooth pieces of skin of the middle one of three slices: (shift between the outer slices / 2, distances, HU)."""
    image = np.asarray(three[1], np.float32)
    for contour in measure.find_contours(image, LEVEL_HU):
        if len(contour) < 20 * PIECE:  # of the body, not of what lies in it
            continue
        for start in range(0, len(contour) - PIECE, PIECE):
            points = contour[start : start + PIECE]
            middle = points.mean(0)
            along, across = np.linalg.svd(points - middle, full_matrices=False)[2]
            place, height = (points - middle) @ along, (points - middle) @ across
            bend = np.polyfit(place, height, 2)
            if abs(bend[0]) > BEND or np.std(height - np.polyval(bend, place)) > ROUGH:
                continue
            found = _profile(image, middle, along, across, bend, np.ptp(place) / 2, pixel_mm)
            if found is not None:
                yield _shift(three, middle, across, pixel_mm), *found


def _profile(image, middle, along, across, bend, half, pixel_mm, reach: int = 16):
    """Distances from a piece of edge (mm, positive inside) and values of the pixels around it; None beside no air."""
    row, column = np.rint(middle).astype(int)
    if min(row, column) < reach or row + reach >= image.shape[0] or column + reach >= image.shape[1]:
        return None
    y, x = np.mgrid[row - reach : row + reach + 1, column - reach : column + reach + 1]
    place = (y - middle[0]) * along[0] + (x - middle[1]) * along[1]
    distance = (y - middle[0]) * across[0] + (x - middle[1]) * across[1] - np.polyval(bend, place)
    near = (np.abs(place) < half) & (np.abs(distance) < 10)
    distance, values = distance[near] * pixel_mm, image[y, x][near]
    if values[distance > 2].mean() < values[distance < -2].mean():
        distance = -distance
    air, inside = values[distance < -1.8], values[(distance > 2) & (distance < 5)]
    if len(air) < 20 or len(inside) < 10 or np.median(air) > AIR_HU[0] or air.max() > AIR_HU[1]:
        return None
    return distance, values


def _shift(three, middle, across, pixel_mm, reach: int = 7):
    """By how many mm in the slice a piece of edge moves from one slice to the next."""
    row, column = np.rint(middle).astype(int)
    box = np.s_[:, row - reach : row + reach + 1, column - reach : column + reach + 1]
    part = np.clip(ndimage.gaussian_filter(np.asarray(three, np.float32)[box], (0, 1, 1)), -1000, -100)
    inner = np.s_[2:-2, 2:-2]
    downwards, sideways = np.gradient(part[1])
    steep = abs((downwards * across[0] + sideways * across[1])[inner].mean()) / pixel_mm
    return abs((part[2] - part[0])[inner].mean()) / 2 / max(steep, 1e-6)


def skin(distance, air, step, fat, thickness, spread, at):
    """Profile of skin over fat: a step of ``step`` HU from air, another of ``fat`` HU ``thickness`` mm deeper, both
    blurred by a Gaussian of SD ``spread`` mm."""
    return (
        air + step * special.ndtr((distance - at) / spread) + fat * special.ndtr((distance - at - thickness) / spread)
    )


def _fitted(distance, values):
    """(variance in mm^2 of the blur of a mean edge profile, RMS by which the fit misses it in HU)."""
    edges = np.arange(REACH_MM[0], REACH_MM[1] + BIN_MM / 2, BIN_MM)
    index = np.digitize(distance, edges) - 1
    inside = (index >= 0) & (index < len(edges) - 1)
    counts = np.bincount(index[inside], minlength=len(edges) - 1)
    where, mean = (
        np.bincount(index[inside], v[inside], len(counts)) / np.maximum(counts, 1) for v in (distance, values)
    )
    some = counts > 0
    start = (-1000, 1060, -200, 1.8, 0.6, 0)
    bounds = ((-1100, 200, -900, 0.3, 0.1, -1), (-800, 2000, 300, 4, 3, 1))
    found, _ = optimize.curve_fit(
        skin, where[some], mean[some], start, 1 / np.sqrt(counts[some]), bounds=bounds, x_scale=(100, 100, 100, 1, 1, 1)
    )
    return found[4] ** 2, float(np.sqrt(np.mean((mean[some] - skin(where[some], *found)) ** 2)))
