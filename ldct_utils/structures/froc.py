"""How well planted structures are found: which segments show them, ROC and FROC, with intervals over patients."""

import numpy as np
import pandas as pd

from ldct_utils.segments.labels import members
from ldct_utils.stats.intervals import bootstrap_interval


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


def curves(table, slices, fpr, marks, draws: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """ROC and FROC of planted structures, with intervals from drawing patients with replacement.

    Args:
        table: a row a segment: patient, image, score (higher: more suspicious), structure (as ``planted`` numbers it;
            -1 stays out of the ROC and is no false mark).
        slices: a row an image, also where no segment was found: patient, image, structures (number planted in it, found
            or not).
        fpr: false positive fractions at which the ROC is read. marks: false marks an image for the FROC.
        draws, seed: of the bootstrap. level: nominal coverage.
    Returns: rows with curve (auc, roc, froc), x, y, low, high. A curve is read at the largest y reached by x; equal
        scores are one threshold. In the FROC a structure counts once, with the best of its segments, and one that no
        segment shows is missed. y is NaN where nothing planted is shown; bounds are under 6 patients, and draws without
        anything planted are left out.
    """
    patients = list(slices["patient"].unique())
    if not len(patients) or slices["structures"].sum() < 1:
        raise ValueError(f"ROC and FROC need a planted structure, got none; images: {len(slices)}")
    table = table.assign(owner=table["patient"].map(patients.index))
    owned = slices.assign(owner=slices["patient"].map(patients.index)).groupby("owner")
    images, total = owned.size().to_numpy(float), owned["structures"].sum().to_numpy(float)
    best = table[table["structure"] > 0].groupby(["owner", "image", "structure"])["score"].max().reset_index()
    thresholds = np.unique(table["score"])[::-1]
    positive, negative, found = (
        _reached(part, thresholds, len(patients))
        for part in (table[table.structure > 0], table[table.structure == 0], best)
    )

    def read(weight):
        """AUC, ROC at ``fpr`` and FROC at ``marks`` where each patient counts ``weight`` times."""
        hit, false, structures = positive @ weight, negative @ weight, total @ weight
        if not hit[-1] or not false[-1]:
            return np.full(1 + len(fpr) + len(marks), np.nan)
        rate, x = hit / hit[-1], false / false[-1]
        return np.concatenate([[np.trapezoid(rate, x)], at(x, rate, fpr),
                               at(false / (images @ weight), found @ weight / structures, marks)])  # fmt: skip

    def again(weights):
        return [read(times) for times in np.rint(weights * len(patients))]

    value, low, high = read(np.ones(len(patients))), np.nan, np.nan
    if np.isfinite(value).all():
        low, high = bootstrap_interval(again, len(patients), draws, level, seed)
    names = ["auc", *["roc"] * len(fpr), *["froc"] * len(marks)]
    return pd.DataFrame({"curve": names, "x": [np.nan, *fpr, *marks], "y": value, "low": low, "high": high})


def _reached(part, thresholds, patients):
    """How many rows of each patient reach each threshold (falling), after a row of none: (1 + T, patients)."""
    count = np.zeros((1 + len(thresholds), patients))
    np.add.at(count, (1 + np.searchsorted(-thresholds, -part["score"].to_numpy()), part["owner"].to_numpy(int)), 1)
    return count.cumsum(0)


def at(x, y, grid) -> np.ndarray:
    """A curve that never falls, read at the values ``grid`` of x: the largest y reached by then. x starts at 0."""
    return np.asarray(y)[np.searchsorted(x, np.asarray(grid, np.float64), side="right") - 1]
