"""Intervals that know that slices belong to patients: the one bootstrap over patients, and exact intervals of shares.

``patient_draws`` draws patients, ``interval`` takes the bounds: expanded percentiles (Hesterberg 2015), since the plain
ones are too narrow for few patients. ``bootstrap_interval`` does both, ``patient_bootstrap`` is that of a mean.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as distributions
from statsmodels.stats.proportion import proportion_confint

ALPHA = 0.05
MIN_PATIENTS = 6  # fewer patients give no interval


def patient_draws(patients: int, draws: int, seed: int = 0) -> np.ndarray:
    """Weights (draws, patients) of bootstrap samples of patients; each row sums to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=draws) / patients


def expanded_tail(n: int, level: float = 1 - ALPHA) -> float:
    """Share of bootstrap draws to cut off at either end for ``n`` patients, less than half of 1 - ``level``.

    Source: expanded percentile interval (Hesterberg 2015), since the plain one is too narrow for few patients.
    """
    return float(distributions.norm.cdf(np.sqrt(n / (n - 1)) * distributions.t.ppf((1 - level) / 2, n - 1)))


def interval(draws, patients: int, level: float = 1 - ALPHA, method: str = "linear"):
    """Lower and upper bound over the first axis of bootstrap ``draws``, (draws, ...): expanded percentiles.

    Draws that are NaN are passed over.

    Args:
        patients: how many were drawn from. level: nominal coverage.
        method: of ``np.quantile``; ``inverted_cdf`` picks a draw, which is needed where some are infinite.
    Returns: low, high, each (...); NaN under ``MIN_PATIENTS`` patients and where all draws are NaN.
    """
    if patients < MIN_PATIENTS:
        return (np.full(np.shape(draws)[1:], np.nan)[()],) * 2
    tail = expanded_tail(patients, level)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0, method=method)
    return low, high


def bootstrap_interval(
    statistic, patients: int, draws: int, level: float = 1 - ALPHA, seed: int = 0, method: str = "linear"
):
    """Bounds of a statistic of patients that are drawn with replacement.

    Args:
        statistic: function of weights as of ``patient_draws``, that gives its values, (draws, ...).
        patients, level, method: as in ``interval``. draws, seed: of the bootstrap.
    Returns: low, high, each (...); NaN, and nothing is drawn, under ``MIN_PATIENTS`` patients.
    """
    if patients < MIN_PATIENTS:
        return float("nan"), float("nan")
    return interval(statistic(patient_draws(patients, draws, seed)), patients, level, method)


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; ``low`` and ``high`` are NaN where there are too few patients for one."""

    mean: float
    low: float
    high: float
    patients: int
    seeds: int

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the interval leaves zero out; None where there is no interval."""
        return None if np.isnan(self.low) else bool(self.low > 0 or self.high < 0)


def finite(*arrays):
    arrays = [np.asarray(values, dtype=np.float64) for values in arrays]
    if any(a.shape != arrays[0].shape for a in arrays):
        raise ValueError(f"paired values need one shape, got {' and '.join(str(a.shape) for a in arrays)}")
    if not arrays[0].size:
        raise ValueError("no values to compare: give one pair or more")
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("values to compare must be finite; leave slices with an infinite PSNR or no body out first")
    return arrays


def patient_bootstrap(values, draws: int = 10_000, level: float = 1 - ALPHA, seed: int = 0) -> Interval:
    """Mean of patient-level values and its interval: patients drawn with replacement, widened by what seeds differ.

    With the variances A of the mean from patients (of their means over seeds) and B from seeds (of their means over
    patients), the bounds lie (T_A A + T_B B) / sqrt(A + B) from the mean: T_A is the distance of the bootstrap's bound
    in units of sqrt(A), T_B the t quantile of seeds - 1 degrees of freedom. One seed, or seeds that agree, leave the
    bootstrap over patients; patients that agree leave a t interval over seeds. Drawing the seeds too gives less: of
    3 seeds that differ as much as 10 patients do, such 95 % intervals hold the true mean in 89 % of simulated studies.
    This one holds it in 93 to 99 % (normal patients, seeds and residuals; 6 or 10 patients; 2, 3 or 8 seeds; SD of the
    seeds 0 to 3, of the residuals 0 to 1 of the patients'). Its price where seeds do not differ: 10 patients' interval
    is 1.04 times as wide at 3 seeds with residuals of .3, 1.3 times with residuals of 1; at 2 seeds 1.2 and 1.8 times.

    Args:
        values: (patients, seeds) or (patients,), e.g. differences between two methods.
        draws: bootstrap samples. level: nominal coverage. seed: of the draws.
    Returns: the interval; without bounds under 6 patients. One seed says nothing about other seeds, and two differ by
        little or much by luck: the interval's ``seeds`` belongs beside it.
    Source: for patients the expanded percentile interval, as in ``expanded_tail``; with seeds, t quantiles weighed by
        the variances that they belong to (Cochran and Cox 1957, Experimental Designs: means of unequal variances).
        A + B counts the residuals twice, which errs on the wide side; Satterthwaite's degrees of freedom err on the
        other (89 % where 2 seeds differ more than patients do).
    """
    (values,) = finite(values)
    values = values.reshape(len(values), -1)
    n, m = values.shape
    mean = float(values.mean())
    low, high = bootstrap_interval(lambda weights: weights @ values.mean(axis=1), n, draws, level, seed)
    of_seeds = values.mean(axis=0).var(ddof=1) / m if m > 1 else 0.0
    if n >= MIN_PATIENTS and of_seeds > 0:
        of_patients, t = values.mean(axis=1).var(ddof=1) / n, distributions.t.ppf((1 + level) / 2, m - 1)
        distances = np.array([mean - low, high - mean]) * np.sqrt(of_patients) + t * of_seeds
        low, high = mean + np.array([-1, 1]) * distances / np.sqrt(of_patients + of_seeds)
    return Interval(mean, float(low), float(high), n, m)


def over_trainings(values, level: float = 1 - ALPHA) -> tuple[float, float, float]:
    """Mean of trainings with its t interval: mean, low, high; no interval for fewer than two, all NaN for none.

    Args: values: one a training; NaN are left out.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    if len(values) == 1:
        return float(values[0]), float("nan"), float("nan")
    reach = distributions.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - reach), float(values.mean() + reach)


def by_patient(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over slices: a row a patient, a column a training seed.

    Args: scores: columns patient, seed, value, one row a slice and seed.
    """
    return scores.pivot_table(index="patient", columns="seed", values="value", aggfunc="mean", dropna=False)


def share_interval(successes, n: int, level: float = 1 - ALPHA) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson 1934): where all or none succeed, a bootstrap has no width.

    Args: successes: of n; need not be whole where trials count by halves.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a share needs successes among 1 or more trials, got {successes} of {n}")
    low, high = proportion_confint(successes, n, alpha=1 - level, method="beta")
    return float(low), float(high)


@dataclass(frozen=True)
class Spread:
    """A standard deviation with its interval and degrees of freedom; NaN and 0 where nothing was repeated."""

    sd: float
    low: float
    high: float
    df: int


def pooled_sd(groups, level: float = 1 - ALPHA) -> Spread:
    """SD within groups, e.g. between the trainings of a method: the root of the mean variance, weighted by its degrees
    of freedom, with the exact interval for normal values.

    Args: groups: arrays of values; one of a single value says nothing.
    Returns: the SD. Its interval holds if all groups spread alike; it is too narrow where one rules the others.
    Raises: ValueError: for values that are not finite.
    """
    groups = [finite(values)[0].ravel() for values in groups]
    df = sum(group.size - 1 for group in groups)
    if not df:
        return Spread(float("nan"), float("nan"), float("nan"), 0)
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    low, high = np.sqrt(squares / distributions.chi2.ppf([(1 + level) / 2, (1 - level) / 2], df))
    return Spread(float(np.sqrt(squares / df)), float(low), float(high), df)
