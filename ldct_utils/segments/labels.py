"""How segments are held: a label map where they are disjoint, a stack of boolean masks where they overlap."""

import numpy as np
from scipy import sparse


def masks_of(regions) -> np.ndarray:
    """A label map (0: no segment) or a stack of masks as boolean masks (S, ...)."""
    regions = np.asarray(regions)
    if regions.dtype == bool:
        return regions
    return regions[None] == np.arange(1, regions.max(initial=0) + 1).reshape(-1, *[1] * regions.ndim)


def members(regions):
    """Which pixels belong to which segment.

    Returns: segment (from 0) and flat pixel of every membership, and the number of pixels of each segment.
    """
    regions = np.asarray(regions)
    if regions.dtype == bool:
        owner, pixel = np.nonzero(regions.reshape(len(regions), np.prod(regions.shape[1:], dtype=int)))
        return owner, pixel, np.bincount(owner, minlength=len(regions))
    pixel = np.flatnonzero(regions)
    owner = regions.ravel()[pixel] - 1
    return owner, pixel, np.bincount(owner, minlength=regions.max(initial=0))


def renumbered(labels, keep) -> np.ndarray:
    """A label map (int32) with the labels for which ``keep`` is true, numbered from 1 without gaps; others are 0."""
    keep = np.asarray(keep, bool).copy()
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def distinct(masks, max_iou: float) -> np.ndarray:
    """Masks (S, H, W), best first, without those that overlap a better one by more than ``max_iou``."""
    if not len(masks):
        return masks
    flat = sparse.csr_array(masks.reshape(len(masks), -1).astype(np.float32))
    shared, area = (flat @ flat.T).toarray(), masks.sum((1, 2))
    iou = shared / np.maximum(area[:, None] + area[None] - shared, 1)
    kept = []
    for number in range(len(masks)):
        if (iou[number, kept] <= max_iou).all():
            kept.append(number)
    return masks[kept]


def flat(regions) -> np.ndarray:
    """Segments that may overlap as one label map (H, W), int32: the smallest on top, label s for mask s - 1."""
    regions = np.asarray(regions)
    if regions.dtype != bool:
        return regions
    labels = np.zeros(regions.shape[1:], np.int32)
    for number in np.argsort(-regions.reshape(len(regions), -1).sum(1), kind="stable"):
        labels[regions[number]] = number + 1
    return labels


def link(label_maps, overlap: float = 0.5) -> np.ndarray:
    """Segments of the slices of a volume, linked through z: label maps (Z, H, W) to the labels of 3-D segments, int32.

    Two segments of neighbouring slices are one where their intersection is at least ``overlap`` of their union. How
    masks of slices become volumes is not stated where SRMSE is defined; unlinked, each mask of a slice is a segment.
    """
    labels = np.asarray(label_maps).astype(np.int64)
    if labels.ndim != 3 or not 0 < overlap <= 1:
        raise ValueError(f"link takes label maps (Z, H, W) and an overlap in (0, 1], got {labels.shape} and {overlap}")
    before = np.cumsum([0, *labels.max((1, 2), initial=0)])
    unique = np.where(labels > 0, labels + before[:-1, None, None], 0)
    area = np.bincount(unique.ravel(), minlength=before[-1] + 1)
    pairs = np.stack([unique[:-1].ravel(), unique[1:].ravel()])
    pairs, shared = np.unique(pairs[:, (pairs > 0).all(0)], axis=1, return_counts=True)
    pairs = pairs[:, shared >= overlap * (area[pairs[0]] + area[pairs[1]] - shared)]
    graph = sparse.coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(len(area), len(area)))
    group = sparse.csgraph.connected_components(graph, directed=False)[1][unique] + 1
    group[unique == 0] = 0
    return renumbered(group, np.bincount(group.ravel()) > 0)
