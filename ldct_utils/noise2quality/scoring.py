"""Slices at every dose, rated by networks and baselines, and what came of it: the tables of 08a and 08."""

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ldct_utils.ct import intensity
from ldct_utils.ct.dose import at_dose
from ldct_utils.noise2quality import maps, networks, targets, training


def at_doses(cohort, one, doses, side: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A slice at every dose, (doses, H, W), and its NDCT (H, W), float32 HU.

    Args: one: its row of ``slices``. side: pixels of the central square that is taken where the slice is larger; None
        takes it whole.
    """
    ndct, ldct = (np.asarray(images[one.row], np.float32) for images in (cohort.ndct, cohort.ldct))
    starts = [0 if side is None else max(n - side, 0) // 2 for n in ndct.shape]
    part = tuple(slice(start, n if side is None else start + side) for start, n in zip(starts, ndct.shape))
    return np.stack([at_dose(ndct[part], ldct[part], one.dose, dose) for dose in doses]), ndct[part]


def rows(cohort, split: str) -> np.ndarray:
    """Rows of a split. Raises: ValueError: where it has none."""
    found = cohort.rows(split)
    if not len(found):
        raise ValueError(f"cohort {cohort.id} has no {split} slices; choose a split that has some")
    return found


def examples(cohort, one, doses, wanted, window, assessor, **options) -> np.ndarray:
    """(doses, 3, H, W) float32: a slice at every dose, HU, its true map and the predicted one, in the target's units.

    Args: one: its row of ``slices``. wanted: of ``targets.get``. window: (level, width). options: of ``maps.assess``.
    """
    low, ndct = at_doses(cohort, one, doses)
    true = np.stack([training.true_map(image, ndct, wanted, *window) for image in low])
    return np.stack([low, true, maps.quality_map(low, assessor, **options)], 1).astype(np.float32)


def spread(about: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many slices of every patient, evenly. Args: about: rows of a cohort's ``slices``."""
    parts = (part for _, part in about.groupby("patient", sort=True))
    return pd.concat([part.iloc[np.unique(np.linspace(0, len(part) - 1, most).round().astype(int))] for part in parts])


def rater(assessor: maps.Assessor, **options):
    """A network as ``score`` takes it. Args: options: as of ``maps.assess``."""
    head = networks.get(assessor.model).head

    def rate(images):
        found, chances = maps.assess(images, assessor, **options)
        return found, np.array(assessor.doses)[chances.argmax(1)] if head else None

    return rate


def score(cohort, about, doses, target: str, level: float, width: float, raters: dict, side: int | None = None):
    """How well each rater maps the quality of slices at every dose, over the whole slice and inside the body.

    Args:
        cohort, about: whose slices, and which rows of its ``slices``. doses: fractions. target, level, width: see
            ``training.true_map``.
        raters: {name: function of slices (N, H, W) in HU that returns maps of the same shape in the target's units, and
            the doses that it names (N,), either None}.
        side: as in ``at_doses``: a network that normalises over the slice saw slices of one field of view.
    Returns: scores, columns row, patient, anatomy, dose, model, region (whole, body), metric (as of
        ``targets.map_scores``, of maps on [0, 1]), value; and classes, columns row, patient, anatomy, dose, model,
        predicted: the dose that is named, NaN where none is.
    """
    wanted, scores, classes = targets.get(target), [], []
    for one in tqdm(about.itertuples(), total=len(about), unit="slice"):
        low, ndct = at_doses(cohort, one, doses, side)
        inside = torch.from_numpy(intensity.body_mask(ndct))[None]
        true = np.stack([wanted.encode(training.true_map(image, ndct, wanted, level, width)) for image in low])
        for name, rate in raters.items():
            found, named = rate(low)
            for i, dose in enumerate(doses):
                keys = {"row": one.row, "patient": one.patient, "anatomy": one.anatomy, "dose": dose, "model": name}
                if named is not None:
                    classes.append(keys | {"predicted": named[i]})
                if found is None:
                    continue
                pair = [torch.from_numpy(np.asarray(x, np.float64))[None] for x in (wanted.encode(found[i]), true[i])]
                for region, mask in (("whole", None), ("body", inside)):
                    for metric, value in targets.map_scores(*pair, mask).items():
                        scores.append(keys | {"region": region, "metric": metric, "value": value})
    columns = ["row", "patient", "anatomy", "dose", "model"]
    return pd.DataFrame(scores, columns=[*columns, "region", "metric", "value"]), pd.DataFrame(
        classes, columns=[*columns, "predicted"]
    )
