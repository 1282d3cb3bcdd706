"""N2Q as a no-reference metric: the mean predicted quality inside the body.

It needs a model: ``load(run folder of 08a_train_quality)`` returns the metric, which ``metrics.compute`` takes in
``names``.

The network has a window of its own. A domain that shows all of it (``hu``, ``body``, a wider ``window``) leaves the map
as it is and changes only where the body is found: where a window clips lungs and fat away, the body is smaller by their
edges, and the mean differs in the third decimal. Such maps are computed once and kept for the next domain.
"""

import hashlib

import numpy as np
import torch

from ldct_utils.metrics.ct_niqe import body
from ldct_utils.metrics.registry import Metric
from ldct_utils.noise2quality import maps, networks, targets, training

KEPT = 64  # maps; the images of one call of ``metrics.compute`` are mostly fewer


def metric(assessor: maps.Assessor) -> Metric:
    """The metric ``n2q`` of a trained network; outside the domain ``body`` it finds the body by itself.

    Air outside the patient, which any window shows flat, would be rated perfect and is left out. NaN without a body.
    """
    target, kept = targets.get(assessor.target), {}

    def rated_as(image):
        """The map of a slice (H, W) in HU, kept by what the network's window shows of it."""
        shown = training.windowed(image, assessor.level, assessor.width).round(6)  # domains differ in the last bits
        key = image.shape, hashlib.blake2b(shown.tobytes(), digest_size=16).digest()
        if key not in kept:
            if len(kept) >= KEPT:
                del kept[next(iter(kept))]
            kept[key] = maps.quality_map(image, assessor)
        return kept[key]

    def compute(pred, data_range=None, mask=None):
        masks = torch.stack([body(image) for image in pred]) if mask is None else mask
        rated = np.stack([rated_as(image) for image in pred.cpu().numpy()])
        rated = torch.from_numpy(rated).to(masks.device).double()
        return (rated * masks).sum((1, 2)) / masks.sum((1, 2))

    return Metric(
        name="n2q", direction=target.direction, low=target.low, high=target.high, unit=target.unit, takes="hu",
        label=f"{networks.get(assessor.model).label} ({target.label})", digits=3, compute=compute,
        family="no-reference", masked=True, smallest=maps.MULTIPLE, library="own",
        reference="Haque et al. 2022, trained on NDCT and scaled noise",
    )  # fmt: skip


def load(folder) -> Metric:
    """N2Q with the network of a finished run of 08a_train_quality. Raises: as ``maps.load``."""
    return metric(maps.load(folder))
