"""How losses and metrics move together while networks train: correlation, erratic steps, rank agreement, picks.

All values are sign-aligned first (higher is better), so that agreement is a positive number for every pair. The curve
of a run is an array (steps, patients, quantities); what is reported is the mean over patients, with intervals from a
bootstrap over patients.
"""

import itertools

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ldct_utils.stats import intervals

SECOND_DIFFERENCES = 4  # fewest from which a scatter is estimated


def align(values, direction):
    """Values so that higher is better: as they are (direction 1), negated (-1), or minus their distance from 0 (0).

    Args: direction: one for all values, or one for each.
    """
    wrong = [one for one in np.unique(direction) if one not in (-1, 0, 1)]
    if wrong:
        raise ValueError(f"a direction is -1, 0 or 1, got {', '.join(map(str, wrong))}")
    values, direction = np.asarray(values, np.float64), np.asarray(direction)
    return np.where(direction == 0, -np.abs(values), values * direction)


def cube(table, names) -> np.ndarray:
    """Curves (steps, patients, quantities) of a long table of one run, means over the slices of a patient.

    Args: table: columns step, patient, name, aligned. names: of the quantities, which the result has in this order.
    """
    wide = table.pivot_table(index=["step", "patient"], columns="name", values="aligned", dropna=False)[list(names)]
    return wide.to_numpy().reshape(table.step.nunique(), -1, len(names))


def means(curves, weights=None) -> np.ndarray:
    """Weighted mean over patients.

    Args: curves: (steps, patients, quantities). weights: (draws, patients), rows summing to 1; None is the plain mean.
    Returns: (draws, steps, quantities); one draw for ``weights=None``.
    """
    curves = np.asarray(curves, np.float64)
    if curves.ndim != 3:
        raise ValueError(f"curves have shape (steps, patients, quantities), got {curves.shape}")
    weights = np.full((1, curves.shape[1]), 1 / curves.shape[1]) if weights is None else np.asarray(weights)
    return np.einsum("dp,spq->dsq", weights, curves)


def _correlation(a):
    """Correlation along n of (draws, n, quantities): (draws, quantities, quantities); NaN where one is constant."""
    a = a - a.mean(axis=1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=1))
    norm[norm <= 1e-12 * np.abs(a).max(initial=1e-300)] = np.nan
    return np.einsum("dnq,dnr->dqr", a, a) / (norm[:, :, None] * norm[:, None, :])


def spearman(curves, detrend: bool = False) -> np.ndarray:
    """Spearman's rank correlation between all quantities over checkpoints.

    Args:
        curves: (draws, steps, quantities), as ``means`` gives them.
        detrend: correlate the changes from one checkpoint to the next. Two curves that both rise correlate whatever
            they measure. Their changes do not where they rise steadily; but steps shrink in every training, and then
            changes correlate as well: what is left of a correlation, ``own_and_others`` tells.
    Returns: (draws, quantities, quantities), ties with mean ranks; NaN where a curve is constant.
    """
    curves = np.diff(curves, axis=1) if detrend else np.asarray(curves)
    return _correlation(rankdata(curves, axis=1))


def kendall(curves, detrend: bool = False) -> np.ndarray:
    """Kendall's tau-b between all quantities over checkpoints; arguments and result as in ``spearman``."""
    curves = np.diff(curves, axis=1) if detrend else np.asarray(curves)
    later, earlier = np.triu_indices(curves.shape[1], 1)
    signs = np.sign(curves[:, later] - curves[:, earlier])
    moved = np.einsum("dnq->dq", signs**2)
    moved[moved == 0] = np.nan
    return np.einsum("dnq,dnr->dqr", signs, signs) / np.sqrt(moved[:, :, None] * moved[:, None, :])


def own_and_others(curves, groups, first: int, measure, detrend: bool = False, weights=None):
    """Agreement of the first quantities with the rest, within a run and between runs that differ in their seed only.

    The losses of one run and the metrics of *another* share the course that every such training takes, rising curves
    and shrinking steps, and nothing else: their agreement is what a run's own has to exceed.

    Args:
        curves: one array (steps, patients, quantities) a run, of the same steps and patients.
        groups: (runs,), equal for runs of one design.
        first: how many quantities, e.g. losses, are set against the rest.
        measure: ``spearman`` or ``kendall``. detrend: as there. weights: as in ``means``.
    Returns: own and others, each (runs, draws, first, rest); others are means over the other runs of a run's group, NaN
        where it has none.
    """
    mean = [means(one, weights) for one in curves]

    def between(a, b):
        return measure(np.concatenate([mean[a][..., :first], mean[b][..., first:]], axis=-1), detrend)[
            :, :first, first:
        ]

    own = np.stack([between(run, run) for run in range(len(mean))])
    others = np.full(own.shape, np.nan)
    for run, group in enumerate(groups):
        partners = [one for one, its in enumerate(groups) if its == group and one != run]
        if partners:
            others[run] = np.mean([between(run, one) for one in partners], axis=0)
    return own, others


def over_runs(values, weights) -> np.ndarray:
    """Mean over runs (runs, draws, ...) by weights (draws, runs), without the NaN; NaN where nothing else is there."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    weights = np.asarray(weights).T.reshape(values.shape[:2] + (1,) * (values.ndim - 2)) * known
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * np.where(known, values, 0)).sum(0) / weights.sum(0)


def pairs(curves, groups, losses, metrics, draws: int = 500, seed: int = 0) -> pd.DataFrame:
    """Agreement of every loss with every metric over checkpoints, and how much of it another seed's run gives as well.

    Args:
        curves: one array (steps, patients, quantities) a run, the losses first. groups: as in ``own_and_others``.
        losses, metrics: names of the quantities. draws, seed: of the bootstrap over patients and, beside it, runs.
    Returns: a row a kind (spearman, kendall), detrended or not, loss and metric. mean over the runs, low, high: its
        interval; others: the mean with the metrics of other runs of the group; gain: what the own run has beyond that,
        gain_low, gain_high: its interval; lowest_run, highest_run. No intervals under 6 patients.
    """
    rows, runs, patients = [], len(curves), np.shape(curves[0])[1]
    # the first draw is the plain mean
    people = np.vstack([np.full(patients, 1 / patients), intervals.patient_draws(patients, draws, seed)])
    trained = np.vstack([np.full(runs, 1 / runs), intervals.patient_draws(runs, draws, seed + 1)])
    for detrend, measure in itertools.product((False, True), (spearman, kendall)):
        own, others = own_and_others(curves, groups, len(losses), measure, detrend, people)
        mean, other, gain = (over_runs(values, trained) for values in (own, others, own - others))
        lowest, highest = np.fmin.reduce(own[:, 0]), np.fmax.reduce(own[:, 0])  # of those that are known
        (low, high), (gain_low, gain_high) = (intervals.interval(drawn[1:], patients) for drawn in (mean, gain))
        rows += [
            {"kind": measure.__name__, "detrended": detrend, "loss": losses[i], "metric": metrics[j],
             "mean": mean[0, i, j], "low": low[i, j], "high": high[i, j], "others": other[0, i, j],
             "gain": gain[0, i, j], "gain_low": gain_low[i, j], "gain_high": gain_high[i, j],
             "lowest_run": lowest[i, j], "highest_run": highest[i, j]}
            for i, j in np.ndindex(lowest.shape)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def sign_changes(curve) -> np.ndarray:
    """How often a curve turns: changes of direction over those that are possible, in [0, 1].

    Args: curve: (steps, ...). Steps that leave the value as it was are passed over.
    Returns: shape (...); 0 for a monotone curve, about 2/3 for white noise, 1 for a saw. NaN under three moves.
    """
    curve = np.asarray(curve, np.float64)
    flat = curve.reshape(len(curve), -1)
    found = np.full(flat.shape[1], np.nan)
    for column in range(flat.shape[1]):
        moves = np.sign(np.diff(flat[:, column]))
        moves = moves[moves != 0]
        if len(moves) > 2:
            found[column] = np.mean(moves[1:] != moves[:-1])
    return found.reshape(curve.shape[1:])


def roughness(curve) -> np.ndarray:
    """Total variation of a curve (steps, ...) over its net change: 1 if monotone, inf if it ends where it began."""
    moves = np.diff(np.asarray(curve, np.float64), axis=0)
    total, net = np.abs(moves).sum(axis=0), np.abs(moves.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, total / net, 1.0)


def setback(curve) -> np.ndarray:
    """How far a curve (steps, ...) moves against its net change, all such moves added up: 0 if it is monotone.

    It is in the curve's own unit and needs no model of the trend, hence few checkpoints; a smooth curve that falls
    before it rises has it too.
    """
    moves = np.diff(np.asarray(curve, np.float64), axis=0)
    return (np.abs(moves).sum(axis=0) - np.abs(moves.sum(axis=0))) / 2


def jitter(curve) -> np.ndarray:
    """SD of the checkpoint-to-checkpoint scatter in the second half of a curve (steps, ...), in its own unit.

    A sixth of the mean square of second differences is the variance of the scatter about a trend that is straight over
    three checkpoints (Gasser, Sroka and Jennen-Steinmetz 1986). First differences would hold the trend itself. The
    first half, where it bends most, is left out. NaN under four second differences, that is under 11 checkpoints.
    """
    bends = np.diff(np.asarray(curve, np.float64)[len(curve) // 2 :], n=2, axis=0)
    return (
        np.sqrt(np.mean(bends**2, axis=0) / 6) if len(bends) >= SECOND_DIFFERENCES else np.full(bends.shape[1:], np.nan)
    )


def kendall_w(scores) -> float:
    """Kendall's coefficient of concordance of raters who rank items, in [0, 1], corrected for ties.

    Args: scores: (raters, items), higher is better. A rater who gives every item the same score is left out.
    Returns: W; NaN with fewer than two raters or items.
    Source: Kendall and Babington Smith 1939; ties as in Siegel and Castellan 1988, s9.7.
    """
    scores = np.asarray(scores, np.float64)
    scores = scores[np.ptp(scores, axis=1) > 0]
    m, n = scores.shape
    if m < 2 or n < 2:
        return float("nan")
    ranks = rankdata(scores, axis=1)
    spread = ((ranks.sum(axis=0) - m * (n + 1) / 2) ** 2).sum()
    ties = 0.0
    for row in ranks:
        _, counts = np.unique(row, return_counts=True)
        ties += (counts**3 - counts).sum()
    return float(12 * spread / (m**2 * (n**3 - n) - m * ties))


def picks(curve) -> tuple[np.ndarray, np.ndarray]:
    """Which checkpoint each quantity would pick, and what that costs by every other.

    Args: curve: (steps, quantities), higher is better.
    Returns: steps picked, (quantities,), the first of equals, -1 where a curve has a NaN; and the cost (quantities,
        quantities): entry [i, j] is the share of all that quantity j varied over the checkpoints (best minus worst)
        which is lost by taking the pick of i, in [0, 1]; NaN where j did not vary or either has a NaN.
    """
    curve = np.asarray(curve, np.float64)
    unknown = np.isnan(curve).any(axis=0)
    chosen = np.where(unknown, -1, curve.argmax(axis=0))
    span = np.ptp(curve, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = (curve.max(axis=0) - curve[chosen]) / span
    lost[unknown] = np.nan
    return chosen, np.where(span > 0, lost, np.nan)
