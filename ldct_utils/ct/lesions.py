"""Lesions of known contrast inserted into real slices: spheres, blurred as the scan itself is, in quiet tissue.

An ideal sphere has sharper edges than any scan. What a lesion adds is therefore blurred by the scan's own resolution
(``edges.Resolution``), within the slice and across slices, and sampled at the middles of pixels and slices.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

from ldct_utils.ct.edges import Resolution

FINE = 5  # points a pixel side at which a sphere is drawn before it is blurred; odd, so that one is the middle
TAIL = 5.0  # SDs after which the blur ends
SMOOTH_MM = 1.5  # SD of the blur after which tissue is called quiet: the noise falls below the vessels' contrast


@dataclass(frozen=True)
class Lesion:
    """A sphere: radius in mm, contrast in HU, and its middle: z in mm, row y and column x in pixels (fractions too)."""

    radius_mm: float
    contrast_hu: float
    z_mm: float
    y: float
    x: float


def reach_mm(radius_mm: float, resolution: Resolution) -> tuple[float, float]:
    """How far a blurred sphere reaches from its middle, mm: across slices, within a slice."""
    return radius_mm + TAIL * resolution.across_mm, radius_mm + TAIL * resolution.in_plane_mm


def _box(lesion, shape, pixel_mm, reach):
    """Rows and columns that a lesion reaches, slices clipped to the image; and the fine grid's distance from it, mm."""
    half = int(np.ceil(reach / pixel_mm)) + 1
    rows, columns = (range(round(at) - half, round(at) + half + 1) for at in (lesion.y, lesion.x))
    fine = (np.arange(FINE) - FINE // 2) / FINE
    y, x = ((np.array(side)[:, None] + fine).ravel() - at for side, at in ((rows, lesion.y), (columns, lesion.x)))
    radius = np.hypot(y[:, None], x) * pixel_mm
    inside = [[max(0, -side[0]), min(len(side), n - side[0])] for side, n in zip((rows, columns), shape)]
    here = tuple(slice(*one) for one in inside)
    there = tuple(slice(side[0] + one[0], side[0] + one[1]) for side, one in zip((rows, columns), inside))
    return there, here, radius


def add(image, lesion: Lesion, z_mm: float, pixel_mm: float, resolution: Resolution):
    """Add to a slice what a lesion contributes to it, in place.

    The chord of the sphere along z is integrated over the slice's profile in closed form, then blurred in the slice.

    Args: image: (H, W) float, HU. z_mm: the slice's place.
    """
    across, within = reach_mm(lesion.radius_mm, resolution)
    off = abs(z_mm - lesion.z_mm)
    if off >= across:
        return
    there, here, radius = _box(lesion, image.shape, pixel_mm, within)
    chord = np.sqrt(np.maximum(lesion.radius_mm**2 - radius**2, 0))
    share = special.ndtr((off + chord) / resolution.across_mm) - special.ndtr((off - chord) / resolution.across_mm)
    blurred = ndimage.gaussian_filter(share, resolution.in_plane_mm / pixel_mm * FINE, truncate=TAIL)
    middles = blurred[FINE // 2 :: FINE, FINE // 2 :: FINE]
    image[there] += (lesion.contrast_hu * middles[here]).astype(image.dtype)


def pixels(lesion: Lesion, z_mm: float, shape, pixel_mm: float, spacing_mm: float) -> np.ndarray:
    """Where a sphere fills at least half of a voxel of a slice, boolean (H, W): its mask, whatever the scan's blur."""
    there, here, radius = _box(lesion, shape, pixel_mm, lesion.radius_mm)
    chord, off = np.sqrt(np.maximum(lesion.radius_mm**2 - radius**2, 0)), z_mm - lesion.z_mm
    filled = (np.minimum(off + spacing_mm / 2, chord) - np.maximum(off - spacing_mm / 2, -chord)).clip(0) / spacing_mm
    of_pixel = filled.reshape(len(radius) // FINE, FINE, -1, FINE).mean((1, 3))
    mask = np.zeros(shape, bool)
    mask[there] = of_pixel[here] >= 0.5
    return mask


def quiet_depth(hu, organ, avoid, spacing_mm: float, pixel_mm: float, tolerance_hu: float, away_mm: float):
    """How deep each voxel lies in quiet tissue of an organ, mm (S, H, W): a sphere of that radius around it holds
    nothing else.

    Quiet is what, blurred by ``SMOOTH_MM``, is within ``tolerance_hu`` of the organ's own median: a vessel, a fissure
    or a cyst that nobody labelled is not.

    Args:
        hu: (S, H, W). organ, avoid: boolean (S, H, W); avoid: labelled vessels, ``away_mm`` of which is no place.
    """
    sampling = (spacing_mm, pixel_mm, pixel_mm)
    sigma = [SMOOTH_MM / side for side in sampling]
    # Blurred within the organ alone, or its rim would be called unquiet for what lies outside.
    weight = ndimage.gaussian_filter(organ.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(np.where(organ, hu, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-3)
    quiet = organ & (np.abs(smooth - np.median(np.asarray(hu)[organ])) <= tolerance_hu)
    # what lies beyond the volume is not known
    quiet = np.pad(quiet, 1)
    depth = ndimage.distance_transform_edt(quiet, sampling)[1:-1, 1:-1, 1:-1]
    if avoid.any():
        depth = np.minimum(depth, ndimage.distance_transform_edt(~avoid, sampling) - away_mm)
    return depth.astype(np.float32)
