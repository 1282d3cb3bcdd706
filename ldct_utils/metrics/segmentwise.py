"""Metrics over structures instead of pixels: SRMSE (Kachelriess), over segments of the target.

Segments come from Felzenszwalb's over-segmentation of the target in the windows of chest, abdomen and bone
(``segments.segment`` with its defaults), since a metric cannot count on weights; those of the prediction would miss
what it lost. Use ``segments.srmse`` for other segments, or for volumes.
"""

from functools import lru_cache

import numpy as np
import torch

from ldct_utils import segments
from ldct_utils.metrics.registry import register
from ldct_utils.segments.labels import renumbered

SOURCE = "Kachelriess, Problems in Assessing AI Image Quality (DKFZ)"


@lru_cache(maxsize=128)
def _segmented(shape, values: bytes) -> np.ndarray:
    """Label map of a target; kept, since many predictions are scored against one target."""
    return segments.segment(np.frombuffer(values, np.float32).reshape(shape)).regions


def _over_segments(pred, target, mask, reduce):
    found = []
    for number, image in enumerate(target):
        regions = _segmented(tuple(image.shape), image.float().cpu().numpy().tobytes())
        if mask is not None:
            regions = np.where(mask[number].cpu().numpy(), regions, 0)
            regions = renumbered(regions, np.bincount(regions.ravel()) > 0)
        found.append(reduce(pred[number].cpu(), image.cpu(), regions) if regions.any() else np.nan)
    return torch.tensor(found, dtype=torch.float64, device=pred.device)


@register(
    direction=-1,
    low=0.0,
    high=np.inf,
    unit="HU",
    takes="hu",
    label="MeanSRMSE",
    digits=1,
    masked=True,
    reference=SOURCE,
)
def mean_srmse(pred, target, data_range=None, mask=None):
    """RMSE of each structure of the target, averaged over structures, HU; ``data_range`` is not used.

    A lesion counts as much as the liver. Inside a mask: over what of each segment lies there. A target without any
    structure of 20 pixels or more: NaN.
    """
    return _over_segments(pred, target, mask, segments.mean_srmse)


@register(
    direction=-1, low=0.0, high=np.inf, unit="HU", takes="hu", label="MaxSRMSE", digits=1, masked=True,
    reference=SOURCE,
)  # fmt: skip
def max_srmse(pred, target, data_range=None, mask=None):
    """RMSE of the structure of the target that is worst, HU; as ``mean_srmse``.

    An extreme value: under noise alone a small segment has it, and it grows with the number of segments.
    """
    return _over_segments(pred, target, mask, segments.max_srmse)
