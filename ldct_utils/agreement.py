"""How losses and metrics move together while networks train: correlation, erratic steps, rank agreement, picks.

All values are sign-aligned first (higher is better), so that agreement is a positive number for every pair. The curve
of a run is an array (steps, patients, quantities); what is reported is the mean over patients, with intervals from a
bootstrap over patients.
"""

import numpy as np
from scipy.stats import rankdata

from ldct_utils.stats import expanded_tail


def align(values, direction: int):
    """Values so that higher is better: as they are (direction 1), negated (-1), or minus their distance from 0 (0)."""
    if direction not in (-1, 0, 1):
        raise ValueError(f"a direction is -1, 0 or 1, got {direction!r}")
    values = np.asarray(values, np.float64)
    return values * direction if direction else -np.abs(values)


def patient_draws(patients: int, draws: int, seed: int = 0) -> np.ndarray:
    """Weights (draws, patients) of bootstrap samples of patients; each row sums to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=draws) / patients


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
            they measure; their changes do not.
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


def interval(draws, patients: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound over the first axis of bootstrap ``draws``, widened for few patients (Hesterberg 2015)."""
    tail = expanded_tail(patients, level)
    low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    return low, high


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
        if len(moves) > 1:
            found[column] = np.mean(moves[1:] != moves[:-1])
    return found.reshape(curve.shape[1:])


def roughness(curve) -> np.ndarray:
    """Total variation of a curve (steps, ...) over its net change: 1 if monotone, inf if it ends where it began."""
    moves = np.diff(np.asarray(curve, np.float64), axis=0)
    total, net = np.abs(moves).sum(axis=0), np.abs(moves.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, total / net, 1.0)


def jitter(curve) -> np.ndarray:
    """SD of the checkpoint-to-checkpoint scatter in the second half of a curve (steps, ...), in its own unit.

    Half the mean square of successive differences is the variance of the scatter about a slow trend (von Neumann
    1941); the first half, where the trend is steep, is left out.
    """
    curve = np.asarray(curve, np.float64)
    return np.sqrt(np.mean(np.diff(curve[len(curve) // 2 :], axis=0) ** 2, axis=0) / 2)


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
