"""How well planted structures are found: which segments show them, ROC and FROC, with intervals over patients."""

import numpy as np
import pandas as pd

from ldct_utils.segments.labels import members
from ldct_utils.stats import MIN_PATIENTS, expanded_tail


def planted(regions, structures, share: float = 0.5) -> np.ndarray:
    """Which planted structure each segment shows: its number, 0 for none, -1 for a part too small to count, (S,).

    Args: regions: label map (H, W) or masks (S, H, W). structures: label map (H, W) of what was removed or inserted.
    A segment shows a structure where at least ``share`` of its pixels belong to it. One that holds less of it is
    neither a hit nor a false mark.
    """
    owner, pixel, area = members(regions)
    structures = np.asarray(structures)
    count = np.zeros((len(area), int(structures.max(initial=0)) + 1))
    np.add.at(count, (owner, structures.ravel()[pixel]), 1)
    count[:, 0] = 0
    most = count.argmax(1)
    return np.where(count.max(1) >= share * area, most, np.where(count.any(1), -1, 0))


def roc(scores, positive) -> pd.DataFrame:
    """ROC curve of scores (higher: more suspicious): a row a threshold, columns threshold, fpr, tpr; from (0, 0)."""
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if not positive.any() or positive.all():
        raise ValueError(f"a ROC needs both kinds of segments, got {positive.sum()} planted of {len(positive)}")
    thresholds = np.unique(scores)[::-1]
    fpr, tpr = ([0.0, *_at_least(scores[kind], thresholds) / kind.sum()] for kind in (~positive, positive))
    return pd.DataFrame({"threshold": [np.inf, *thresholds], "fpr": fpr, "tpr": tpr})


def _at_least(scores, thresholds):
    """How many scores reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def froc(candidates: pd.DataFrame, images: int, structures: int) -> pd.DataFrame:
    """FROC curve: share of planted structures that are found against false marks an image.

    Args:
        candidates: a row a segment of any image: image, score (higher: more suspicious), structure (number of the
            planted structure in its image that it shows, 0 for none; see ``planted``).
        images, structures: numbers of images and of planted structures in all of them, found or not.
    Returns: a row a threshold: threshold, false_per_image, sensitivity; from (0, 0). A structure counts once.
    """
    if images < 1 or structures < 1:
        raise ValueError(f"FROC needs an image and a planted structure, got {images} and {structures}")
    best = candidates[candidates["structure"] > 0].groupby(["image", "structure"])["score"].max().to_numpy()
    false = candidates.loc[candidates["structure"] == 0, "score"].to_numpy()
    thresholds = np.unique(candidates["score"])[::-1]
    marks, found = _at_least(false, thresholds) / images, _at_least(best, thresholds) / structures
    columns = {"threshold": [np.inf, *thresholds], "false_per_image": [0.0, *marks], "sensitivity": [0.0, *found]}
    return pd.DataFrame(columns)


def over_patients(parts, statistic, draws: int = 1000, level: float = 0.95, seed: int = 0):
    """A statistic of all patients together, and its interval from drawing patients with replacement.

    Args:
        parts: one table or array a patient. statistic: of a list of them, to a number or an array (a curve on a grid).
    Returns: value, low, high: arrays of the statistic's shape; bounds are NaN under 6 patients. Draws for which the
        statistic is NaN are left out.
    Source: expanded percentile interval, as in ``stats.expanded_tail``.
    """
    value, n = np.asarray(statistic(list(parts)), np.float64), len(parts)
    if n < MIN_PATIENTS:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    rng = np.random.default_rng(seed)
    found = np.array([statistic([parts[i] for i in rng.integers(0, n, n)]) for _ in range(draws)], np.float64)
    tail = expanded_tail(n, level)
    low, high = np.nanquantile(found, [tail, 1 - tail], axis=0)
    return value, low, high


def at(curve: pd.DataFrame, x: str, y: str, grid) -> np.ndarray:
    """A curve of ``roc`` or ``froc`` read at the given values of ``x``: the largest ``y`` reached by then."""
    reached = np.searchsorted(curve[x].to_numpy(), np.asarray(grid, np.float64), side="right") - 1
    return np.maximum.accumulate(curve[y].to_numpy())[reached]
