"""Whether a judge catches a denoiser with a known fault: rates at fixed false alarms, against its honest twin.

A judge gives each patient one score, higher where it suspects more. Its alarm is set where it is right 19 times of 20:
a patient is called if at most 5 % of the honest twin's scores in the *other* patients, this one counted, are as high.
No number is tuned, and with fewer than 19 others nobody can be called.
"""

from dataclasses import dataclass

import numpy as np

from ldct_utils.stats import intervals

FALSE_ALARMS = 0.05


def called(scores, honest, rate: float = FALSE_ALARMS) -> np.ndarray:
    """Which patients a judge calls, (P,) float64: 1 called, 0 not, NaN where it has no score.

    Args: scores: (P,), of the denoiser that is judged. honest: (P,), of its honest twin in the same patients: the
        judged patient's own is left out. rate: of false alarms at the most, in (0, 1).
    Raises: ValueError: for arrays of different lengths.
    """
    scores, honest = (np.asarray(one, np.float64) for one in (scores, honest))
    if scores.shape != honest.shape or scores.ndim != 1:
        raise ValueError(f"scores and those of the twin are (P,) each, got {scores.shape} and {honest.shape}")
    known = ~np.isnan(honest)
    higher = (honest[None] >= scores[:, None]) & known
    np.fill_diagonal(higher, False)
    others = known.sum() - known
    p = (1 + higher.sum(1)) / (1 + others)
    return np.where(np.isnan(scores), np.nan, (p <= rate + 1e-12).astype(float))


@dataclass(frozen=True)
class Verdict:
    """How often a judge calls a denoiser and its twin, each with an exact interval, and the difference over patients.

    ``caught``: whether the interval of the difference lies above 0; None where there are too few patients.
    """

    rate: float
    rate_low: float
    rate_high: float
    twin: float
    twin_low: float
    twin_high: float
    difference: float
    low: float
    high: float
    patients: int
    caught: bool | None


def verdict(scores, honest, asked=None, rate: float = FALSE_ALARMS, draws: int = 2000, seed: int = 0) -> Verdict | None:
    """A judge's verdict on a denoiser, or None where it has no score at all.

    Args: scores, honest, rate: as for ``called``. asked: (P,) bool, patients in whom the denoiser does anything wrong,
        all by default: the twin's scores of the others set the alarm too. draws, seed: of the bootstrap.
    """
    asked = np.ones(len(scores), bool) if asked is None else np.asarray(asked, bool)
    found, false = called(scores, honest, rate), called(honest, honest, rate)
    used = asked & ~np.isnan(found) & ~np.isnan(false)
    if not used.any():
        return None
    n, values = int(used.sum()), [one[used] for one in (found, false)]
    ends = [intervals.share_interval(one.sum(), n) for one in values]
    gap = intervals.patient_bootstrap(values[0] - values[1], draws=draws, seed=seed)
    enough = 1 / int((~np.isnan(np.asarray(honest, float))).sum()) <= rate + 1e-12
    # Where all are called a bootstrap has no width and lies at 1, which is above 0 as it must be.
    caught = bool(gap.low > 0) if enough and not np.isnan(gap.low) else None
    return Verdict(
        values[0].mean(), *ends[0], values[1].mean(), *ends[1], gap.mean, gap.low, gap.high, n, caught
    )  # fmt: skip


def strength_at_half(strengths, rates) -> float:
    """Strength at which a fault is called in half of the patients, between the strengths tried; NaN if in none.

    Args: strengths: rising. rates: at these. Below the first strength the line starts at 0 and no calls.
    """
    x, y = np.r_[0.0, np.asarray(strengths, float)], np.r_[0.0, np.asarray(rates, float)]
    if (np.diff(x) <= 0).any():
        raise ValueError(f"strengths must rise from above 0, got {list(strengths)}")
    at = np.flatnonzero(y >= 0.5)
    if not len(at):
        return float("nan")
    i = at[0]
    return float(x[i - 1] + (0.5 - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1]))
