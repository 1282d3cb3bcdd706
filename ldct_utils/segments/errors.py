"""SRMSE: the error of a segment, and over segments its mean and its maximum."""

import numpy as np
import torch

from ldct_utils.segments.labels import members


def srmse(pred, target, regions) -> np.ndarray:
    """Root mean squared error inside each segment, (S,), in the unit of the images.

    Args:
        pred, target: same shape, any number of dimensions: a slice or a volume.
        regions: segments: an integer label map of that shape (0 none, labels 1 to S), or boolean masks (S, ...).
    Raises: ValueError: if shapes differ, there is no segment, or one has no pixel.
    Source: Kachelriess, SRMSE(x, y; s) = sqrt(sum_n m_n (x_n - y_n)^2 / sum_n m_n).
    """
    pred, target, regions = np.asarray(pred, np.float64), np.asarray(target, np.float64), np.asarray(regions)
    if pred.shape != target.shape:
        raise ValueError(f"pred {pred.shape} and target {target.shape} differ in shape")
    if regions.dtype != bool and not np.issubdtype(regions.dtype, np.integer):
        raise ValueError(f"segments come as an integer label map or as boolean masks, not as {regions.dtype}")
    if regions.shape[int(regions.dtype == bool) :] != pred.shape:
        raise ValueError(f"segments of shape {regions.shape} do not belong to images of shape {pred.shape}")
    owner, pixel, area = members(regions)
    if not len(area):
        raise ValueError("there is no segment: SRMSE needs one or more")
    if not area.all():
        raise ValueError(f"segment {area.argmin() + 1} has no pixel: leave empty masks out")
    return np.sqrt(np.bincount(owner, np.square(pred - target).ravel()[pixel], len(area)) / area)


def mean_srmse(pred, target, regions) -> float:
    """MeanSRMSE: mean of ``srmse`` over the segments, each weighing alike. Lower is better."""
    return float(srmse(pred, target, regions).mean())


def max_srmse(pred, target, regions) -> float:
    """MaxSRMSE: the largest ``srmse``. An extreme value: compare it at equal minimum area and number of segments."""
    return float(srmse(pred, target, regions).max())


def mean_srmse_torch(pred, target, labels, min_area: int = 1):
    """MeanSRMSE an image, differentiable, for training.

    Args:
        pred, target: (N, 1, H, W) or (N, H, W), any scale.
        labels: integer label maps, (N, 1, H, W) or (N, H, W), 0 none; numbers may have gaps, as in a crop.
        min_area: segments with fewer pixels here, such as a patch's border cuts off, are left out.
    Returns: (N,) float32; 0 for an image without segments. A segment without error has gradient 0.
    """
    if pred.shape != target.shape or len(labels) != len(pred) or labels.numel() != pred.numel():
        shapes = ", ".join(str(tuple(x.shape)) for x in (pred, target, labels))
        raise ValueError(f"pred, target and labels have the shapes {shapes}, which do not fit")
    images, top = len(pred), int(labels.max()) + 1
    first = top * torch.arange(images, device=labels.device)
    flat = (labels.reshape(images, -1).long() + first[:, None]).reshape(-1)
    squared = (pred.float() - target.float()).square().reshape(-1)
    area = torch.bincount(flat, minlength=images * top)
    mean = torch.zeros(images * top, device=squared.device).index_add(0, flat, squared) / area.clamp(min=1)
    used = (area >= max(1, min_area)).reshape(images, top)
    used[:, 0] = False
    wrong = mean > 0  # the slope of a root is infinite at 0
    root = torch.where(wrong, torch.where(wrong, mean, 1.0).sqrt(), 0.0).reshape(images, top)
    return (root * used).sum(1) / used.sum(1).clamp(min=1)
