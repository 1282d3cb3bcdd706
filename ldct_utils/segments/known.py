"""Segments that nobody has to find: the organs that a cohort labels itself, left out by the rules of ``finding``."""

import numpy as np
import pandas as pd
from skimage import measure

from ldct_utils.ct import intensity
from ldct_utils.segments.finding import MAX_SHARE, MIN_AREA, MIN_INSIDE, Segments
from ldct_utils.segments.labels import renumbered

ABOUT = ("label", "area", "centroid", "intensity_mean")  # of a segment, in the order of its columns
COLUMNS = ["segment", "area", "row", "column", "mean_hu"]


def of_labels(image_hu, labels, min_area: int = MIN_AREA) -> Segments:
    """Organs of a slice as ``finding.segment`` gives structures: each connected region of a label is a segment.

    Left out are small regions, what is larger than half of the body, and what lies mostly outside of it, as the table.

    Args: image_hu: (H, W), HU, which says where the body is. labels: (H, W) integers, 0 none. min_area: least number of
        pixels.
    Raises: ValueError: if the two differ in shape.
    """
    image_hu, labels = np.asarray(image_hu, np.float64), np.asarray(labels)
    if image_hu.shape != labels.shape:
        raise ValueError(f"labels of shape {labels.shape} do not belong to an image of shape {image_hu.shape}")
    regions, body = measure.label(labels, background=0, connectivity=1), intensity.body_mask(image_hu)
    area, inside = np.bincount(regions.ravel()), np.bincount(regions.ravel(), body.ravel())
    small, large = area < max(1, min_area), area > MAX_SHARE * body.sum()
    rules = {"small": small, "large": large & ~small, "background": ~small & ~large & (inside < MIN_INSIDE * area)}
    left_out = {rule: int(found[1:].sum()) for rule, found in rules.items()} | {"duplicate": 0}
    regions = renumbered(regions, ~np.any([*rules.values()], axis=0))
    table = pd.DataFrame(measure.regionprops_table(regions, image_hu, properties=ABOUT)).set_axis(COLUMNS, axis=1)
    return Segments(regions, table, f"labels (connected regions), {min_area} pixels or more", left_out)
