"""N2Q as a no-reference metric: the mean predicted quality inside the body.

It needs a model: ``load(run folder of 08a_train_quality)`` returns the metric, which ``metrics.compute`` takes in
``names``.
"""

import torch

from ldct_utils.metrics.ct_niqe import body
from ldct_utils.metrics.registry import Metric
from ldct_utils.quality import maps, networks, targets


def metric(assessor: maps.Assessor) -> Metric:
    """The metric ``n2q`` of a trained network; outside the domain ``body`` it finds the body by itself.

    Air outside the patient, which any window shows flat, would be rated perfect and is left out. NaN without a body.
    """
    target = targets.get(assessor.target)

    def compute(pred, data_range=None, mask=None):
        masks = torch.stack([body(image) for image in pred]) if mask is None else mask
        rated = torch.from_numpy(maps.quality_map(pred.cpu().numpy(), assessor)).to(masks.device).double()
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
