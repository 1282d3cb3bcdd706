"""Finding the structures of a slice: methods, and which segments count."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage import filters, measure, segmentation

from ldct_utils.ct import intensity
from ldct_utils.segments import sam
from ldct_utils.segments.labels import distinct, masks_of, members, renumbered

MIN_AREA = 20  # pixels: the SRMSE of n pixels of pure noise varies by about 1 / sqrt(2 n), 16 % here
MAX_SHARE = 0.5  # of the body: larger segments are the body itself, and their error is the global one
MIN_INSIDE = 0.5  # share of a segment that lies in the body; the rest is background: table and air
MAX_IOU = 0.8  # of two masks of a stack: beyond, they are one structure, which must not count twice
WINDOWS = ("chest", "abdomen", "bone")  # the three that serve every anatomy, as channels
# HU ranges of tissues, after a blur. What lies between fat and soft tissue is the mixed border of both.
TISSUES = {
    "lungs": (intensity.HU_MIN, -500.0),
    "fat": (-190.0, -30.0),
    "soft tissue": (0.0, 120.0),
    "contrast": (120.0, 220.0),
    "bone": (220.0, intensity.HU_MAX),
}


@dataclass(frozen=True)
class Segments:
    """Structures of one slice.

    Attributes:
        regions: (H, W) int32, label of each pixel's segment (0 none), or boolean (S, H, W) where segments overlap.
        table: a row a segment: segment (1 to S: its label or place), area (pixels), row, column (centroid), mean_hu.
        method: what made them and how: results of two methods do not compare.
        left_out: how many were found and left out, by the first rule that applies: small, large, background, duplicate.
    """

    regions: np.ndarray
    table: pd.DataFrame
    method: str
    left_out: dict

    def __len__(self):
        return len(self.table)

    @property
    def masks(self) -> np.ndarray:
        """Boolean (S, H, W), in the order of the table."""
        return masks_of(self.regions)


def channels(image_hu, anatomy: str | None = None) -> np.ndarray:
    """What is segmented: a slice as a reader sees it, (H, W, C) in [0, 1].

    Args: anatomy: key of ``intensity.WINDOWS``, one channel. None: the windows for lung, soft tissue and bone, a
        channel each, which serve every anatomy.
    """
    if anatomy is not None and anatomy not in intensity.WINDOWS:
        raise ValueError(f"no window is known for anatomy {anatomy!r}; known: {', '.join(intensity.WINDOWS)}")
    image_hu, names = np.asarray(image_hu, np.float64), WINDOWS if anatomy is None else (anatomy,)
    return np.stack([intensity.window(image_hu, *intensity.WINDOWS[name]) for name in names], axis=-1)


def segment(
    image_hu, method: str = "felzenszwalb", anatomy: str | None = None, min_area: int = MIN_AREA,
    max_share: float = MAX_SHARE, min_inside: float = MIN_INSIDE, max_iou: float = MAX_IOU, **options,
) -> Segments:  # fmt: skip
    """Structures of a slice. Background, what is as large as the body, what is small and duplicates are left out.

    Args:
        image_hu: (H, W), HU. For SRMSE the target: on a denoised image a lost structure has no segment.
        method: ``felzenszwalb`` (Felzenszwalb and Huttenlocher 2004, IJCV 59(2), 167: graph-based over-segmentation;
            options scale, median), ``otsu`` (multi-level Otsu and connected components; classes, sigma),
            ``thresholds`` (connected components of ``TISSUES``; sigma) or ``sam`` (Segment Anything, Kirillov et al.
            2023; folder, device, points_per_side, pred_iou, stability).
        anatomy: window(s) that are segmented, as in ``channels``; ``otsu`` takes one, that of the abdomen by default,
            and ``thresholds`` none.
        min_area: least number of pixels. max_share: largest area, as a share of the body's.
        min_inside: least share of a segment inside the body (``intensity.body_mask``; the slice where it finds none).
        max_iou: overlap, intersection over union, at which the lower ranked of two masks of a stack falls.
    Raises: ValueError: for another shape, an unknown method, or an image that is not finite.
        FileNotFoundError: where SAM's weights are missing.
    """
    image_hu = np.asarray(image_hu, np.float64)
    if image_hu.ndim != 2:
        raise ValueError(f"segment takes one slice (H, W), got shape {image_hu.shape}")
    if not np.isfinite(image_hu).all():
        raise ValueError(f"the slice holds values that are not finite: {int((~np.isfinite(image_hu)).sum())}")
    if method not in _METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    regions, words = _METHODS[method](image_hu, anatomy, **options)
    # Where a window has clipped air, the body is what lies above its lower end.
    body = intensity.body_mask(image_hu, max(-500.0, image_hu.min() + 1))
    if not body.any():
        body = np.ones(image_hu.shape, bool)
    owner, pixel, area = members(regions)
    inside = np.bincount(owner, body.ravel()[pixel], len(area))
    small, large = area < max(1, min_area), area > max_share * body.sum()
    background = ~small & ~large & (inside < min_inside * area)
    keep = ~(small | large | background)
    left_out = {"small": small & (area > 0), "large": large & ~small, "background": background}
    left_out = {rule: int(found.sum()) for rule, found in left_out.items()}
    stacked = regions.dtype == bool
    regions = distinct(regions[keep], max_iou) if stacked else renumbered(regions, [False, *keep])
    table = _described(regions, image_hu)
    left_out["duplicate"] = int(keep.sum()) - len(table)
    return Segments(regions, table, f"{method} ({words}), {min_area} pixels or more", left_out)


def _described(regions, image_hu) -> pd.DataFrame:
    owner, pixel, area = members(regions)
    row, column = np.divmod(pixel, image_hu.shape[1])
    values = {"row": row, "column": column, "mean_hu": image_hu.ravel()[pixel]}
    means = {name: np.bincount(owner, value, len(area)) / area for name, value in values.items()}
    return pd.DataFrame({"segment": np.arange(1, len(area) + 1), "area": area, **means})


def _shown(anatomy) -> str:
    return f"windows of {', '.join(WINDOWS)}" if anatomy is None else f"window of {anatomy}"


def _felzenszwalb(image_hu, anatomy, scale: float = 50.0, median: int = 5):
    # A median instead of the method's Gaussian, whose soft edges become segments of their own.
    shown = channels(ndimage.median_filter(image_hu, median), anatomy)
    labels = segmentation.felzenszwalb(shown, scale, sigma=0, min_size=MIN_AREA, channel_axis=-1)
    return labels + 1, f"median of {median} x {median} pixels, scale {scale:g}, {_shown(anatomy)}"


def _otsu(image_hu, anatomy, classes: int = 4, sigma: float = 1.0):
    anatomy = anatomy or "abdomen"
    shown = filters.gaussian(channels(image_hu, anatomy)[..., 0], sigma)
    inside = shown[(shown > 0) & (shown < 1)]  # clipped pixels would make classes of their own
    if len(np.unique(inside)) < classes:
        raise ValueError(f"the {_shown(anatomy)} shows fewer than {classes} grey levels: take another window or method")
    levels = np.digitize(shown, filters.threshold_multiotsu(inside, classes, nbins=128))
    words = f"{classes} classes, sigma {sigma:g} pixels, {_shown(anatomy)}"
    return measure.label(levels + 1, connectivity=1), words


def _thresholds(image_hu, anatomy, sigma: float = 1.0):
    tissues, labels = tissue_masks(image_hu, sigma), np.zeros(image_hu.shape, np.int64)
    for name in TISSUES:
        parts, _ = ndimage.label(tissues[name])
        labels[parts > 0] = parts[parts > 0] + labels.max()
    return labels, f"HU ranges of {', '.join(TISSUES)}, sigma {sigma:g} pixels"


def _sam(image_hu, anatomy, **options):
    masks, words = sam.masks(channels(image_hu, anatomy), **options)
    return masks, f"{words}, {_shown(anatomy)}"


_METHODS = {"felzenszwalb": _felzenszwalb, "otsu": _otsu, "thresholds": _thresholds, "sam": _sam}
METHODS = tuple(_METHODS)


def tissue_masks(image_hu, sigma: float = 1.0) -> dict[str, np.ndarray]:
    """Tissues by thresholds: ``body`` and each of ``TISSUES`` -> boolean (H, W), disjoint but for the body.

    HU ranges of the slice blurred by a Gaussian of ``sigma`` pixels, inside the body; lungs are what is so dark over
    more than 1 % of it at a stretch, or bowel gas and airways would be lungs. No anatomist drew these: results that
    rest on them say "thresholds".
    """
    image_hu = np.asarray(image_hu, np.float64)
    body, smooth = intensity.body_mask(image_hu), ndimage.gaussian_filter(image_hu, sigma)
    found = {name: body & (smooth >= low) & (smooth < high) for name, (low, high) in TISSUES.items()}
    parts, count = ndimage.label(found["lungs"])
    large = np.bincount(parts.ravel(), minlength=count + 1) > 0.01 * body.sum()
    large[0] = False
    return {"body": body, **found, "lungs": large[parts]}
