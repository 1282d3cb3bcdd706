"""Observers and image metrics asked of the same images, for curves over dose."""

import numpy as np

from ldct_utils.ct import intensity
from ldct_utils.metrics import compute
from ldct_utils.task_based import ensembles, equivalence


def judged(made, classes, region: int, kind: str, metrics, scored: int):
    """d' and AUC of both observers for every lesion, and every metric of the images with lesions against the truth.

    Args:
        made: ``ensembles.Ensemble``. classes: its images (N, H, W), HU, absent and present, processed or not. region,
            kind: of the observers, as of ``ensembles.detections``. metrics: names. scored: images that metrics score.
    Yields: observer ("" for a metric), lesion (its number; ``equivalence.ALL`` for a metric), quantity and value; of
        observers also low and high. A metric's value is the mean over images, in the domain ``hu``.
    """
    yield from ensembles.detections(made, classes, region, kind)
    some = classes[1][:scored]
    truth = np.repeat(made.truth(True)[None], len(some), 0)
    marks = compute(pred=some, target=truth, names=metrics, domain=intensity.domain("hu"))
    for name, value in marks.groupby("metric")["value"].mean().items():
        yield {"observer": "", "lesion": equivalence.ALL, "quantity": name, "value": value}
