"""Structures of an image, and errors over structures (SRMSE) instead of pixels: a small lesion counts as the liver
does.

Segment Anything is what SRMSE was defined with (Kachelriess, "Problems in Assessing AI Image Quality", DKFZ); where
its weights are not at hand, deterministic over-segmentations stand in, and every ``Segments`` says which method made
it. ``known`` takes the organs that a cohort labels itself.

May import: study, ct, models. Start reading in ``finding``, then ``errors``.
"""

from ldct_utils.segments.errors import max_srmse, mean_srmse, mean_srmse_torch, srmse
from ldct_utils.segments.finding import (
    MAX_IOU,
    MAX_SHARE,
    METHODS,
    MIN_AREA,
    MIN_INSIDE,
    TISSUES,
    Segments,
    channels,
    segment,
    tissue_masks,
)
from ldct_utils.segments.labels import flat, link, masks_of
from ldct_utils.segments.maps import label_maps

__all__ = [
    "MAX_IOU", "MAX_SHARE", "METHODS", "MIN_AREA", "MIN_INSIDE", "TISSUES", "Segments", "channels", "flat",
    "label_maps", "link", "masks_of", "max_srmse", "mean_srmse", "mean_srmse_torch", "segment", "srmse", "tissue_masks",
]  # fmt: skip
