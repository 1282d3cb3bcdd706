"""Comparing methods: paired tests, effect sizes, corrections and intervals that know that slices belong to patients.

Slices of one patient are not independent, so a test over slices finds differences where none are. The patient is the
unit of every interval and verdict here; the slice-level test stays only because the literature reports it.
Arrays of differences are (patients, seeds): the mean over the slices of each patient, for each training seed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as distributions
from scipy.optimize import minimize_scalar
from statsmodels.stats.multitest import multipletests

from ldct_utils.psi import MIN_PATIENTS

ALPHA = 0.05
# Viana et al. 2025, Table 3: mean and SD over slices; SSIM means with the four decimals of Table 4.
PUBLISHED = {
    "E1": {"ssim": (0.9443, 0.043), "psnr": (42.61, 3.87), "nrmse": (0.048, 0.021)},
    "E2": {"ssim": (0.9333, 0.050), "psnr": (41.52, 3.62), "nrmse": (0.054, 0.022)},
    "E3": {"ssim": (0.8987, 0.062), "psnr": (39.70, 3.40), "nrmse": (0.065, 0.026)},
    "E4": {"ssim": (0.9370, 0.045), "psnr": (41.80, 3.39), "nrmse": (0.051, 0.020)},
    "baseline": {"ssim": (0.9293, 0.053), "psnr": (38.98, 2.45), "nrmse": (0.068, 0.019)},
}
# Table 4: |d| of E1 against each of the others, SSIM of the slices of two patients.
PUBLISHED_D = {"baseline": 0.31, "E2": 0.24, "E3": 0.86, "E4": 0.17}


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


def _finite(*arrays):
    arrays = [np.asarray(values, dtype=np.float64) for values in arrays]
    if any(a.shape != arrays[0].shape for a in arrays):
        raise ValueError(f"paired values need one shape, got {' and '.join(str(a.shape) for a in arrays)}")
    if not arrays[0].size:
        raise ValueError("no values to compare: give one pair or more")
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("values to compare must be finite; leave slices with an infinite PSNR or no body out first")
    return arrays


def smallest_p(n: int) -> float:
    """The smallest p that a two-sided Wilcoxon signed-rank test of ``n`` pairs can give: 2 of the 2^n signs."""
    if n < 0:
        raise ValueError(f"a number of pairs cannot be negative, got {n}")
    return min(1.0, 2.0 ** (1 - n))


def wilcoxon(first, second) -> float:
    """p of the two-sided Wilcoxon signed-rank test of paired values; 1 if all pairs are equal.

    Raises: ValueError: if the shapes differ or a value is not finite.
    """
    first, second = _finite(first, second)
    return 1.0 if (first == second).all() else float(distributions.wilcoxon(first, second).pvalue)


def d_from(mean_1, sd_1, mean_2, sd_2, n_1: int = 2, n_2: int = 2) -> float:
    """|Cohen's d| of two groups from their means and SDs (ddof 1); equal sizes need no ``n``."""
    pooled = np.sqrt(((n_1 - 1) * sd_1**2 + (n_2 - 1) * sd_2**2) / (n_1 + n_2 - 2))
    gap = abs(mean_1 - mean_2)
    return 0.0 if gap == 0 else float(gap / pooled) if pooled > 0 else float("inf")


def cohen_d(first, second) -> float:
    """|Cohen's d| with the pooled SD (ddof 1) as if the two groups were independent, which paired scores are not.

    Source: Viana et al. 2025, hypothesis test of the released code; given because Table 4 reports it.
    """
    first, second = _finite(first, second)
    if first.size < 2:
        return float("nan")
    return d_from(first.mean(), first.std(ddof=1), second.mean(), second.std(ddof=1), first.size, second.size)


def cohen_dz(first, second) -> float:
    """Paired Cohen's d: mean of the differences over their SD (ddof 1), signed; 0 if all pairs are equal."""
    first, second = _finite(first, second)
    gap = first - second
    if gap.size < 2:
        return float("nan")
    spread = gap.std(ddof=1)
    return 0.0 if not gap.any() else float(gap.mean() / spread) if spread > 0 else float(np.copysign(np.inf, gap[0]))


def holm(p_values) -> np.ndarray:
    """p values adjusted by Holm's step-down method for the number of tests among them (NaN: not tested)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted, tested = np.full(p_values.shape, np.nan), ~np.isnan(p_values)
    if tested.any():
        adjusted[tested] = multipletests(p_values[tested], alpha=ALPHA, method="holm")[1]
    return adjusted


def expanded_tail(n: int, level: float = 1 - ALPHA) -> float:
    """Share of bootstrap draws to cut off at either end for ``n`` patients, less than half of 1 - ``level``.

    Source: expanded percentile interval (Hesterberg 2015), since the plain one is too narrow for few patients.
    """
    return float(distributions.norm.cdf(np.sqrt(n / (n - 1)) * distributions.t.ppf((1 - level) / 2, n - 1)))


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
    (values,) = _finite(values)
    values = values.reshape(len(values), -1)
    n, m = values.shape
    mean = float(values.mean())
    if n < MIN_PATIENTS:
        return Interval(mean, float("nan"), float("nan"), n, m)
    patients = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws) / n
    tail = expanded_tail(n, level)
    low, high = np.quantile(patients @ values.mean(axis=1), [tail, 1 - tail])
    of_seeds = values.mean(axis=0).var(ddof=1) / m if m > 1 else 0.0
    if of_seeds > 0:
        of_patients, t = values.mean(axis=1).var(ddof=1) / n, distributions.t.ppf((1 + level) / 2, m - 1)
        distances = np.array([mean - low, high - mean]) * np.sqrt(of_patients) + t * of_seeds
        low, high = mean + np.array([-1, 1]) * distances / np.sqrt(of_patients + of_seeds)
    return Interval(mean, float(low), float(high), n, m)


def mixed_model(first, second, patients) -> dict:
    """Effect of the method in a linear mixed model of slice scores, slices within patients, fitted by REML.

    The model is score ~ method + (method | patient) + (1 | slice): patients and slices differ in their scores, and
    patients also in how much they gain. Paired by slice it becomes difference ~ 1 + (1 | patient), which is what is
    fitted. In score ~ method + (1 | patient) all patients would gain alike, and slices would count as independent.

    Args: first, second: scores of two methods on the same slices, (slices,). patients: the patient of each slice.
    Returns: effect (first - second), se, p (two-sided t with patients - 1 degrees of freedom). NaN for one patient.
    Raises: ValueError: if the shapes differ or values are not finite.
    Source: profiled REML criterion (Pinheiro and Bates 2000, s2.2.5), equal to statsmodels' MixedLM, whose general
        optimisers meet singular matrices where patients differ much more or less than their slices do.
    """
    first, second = _finite(first, second)
    gap = pd.Series(first - second).groupby(np.asarray(patients))
    count, mean = gap.count().to_numpy(), gap.mean().to_numpy()
    n, total = len(count), count.sum()
    if n < 2:
        return {"effect": float(mean[0]), "se": float("nan"), "p": float("nan")}
    within = float(((first - second - gap.transform("mean").to_numpy()) ** 2).sum())

    def fit(ratio):
        """Effect, its variance and the criterion, for a ratio of the patients' variance to the slices'."""
        weight = count / (1 + ratio * count)
        effect = (weight * mean).sum() / weight.sum()
        squares = within + (weight * (mean - effect) ** 2).sum()
        criterion = (total - 1) * np.log(squares) + np.log1p(ratio * count).sum() + np.log(weight.sum())
        return effect, squares / (total - 1) / weight.sum(), criterion

    scale = max(np.abs(first - second).max(), np.finfo(float).tiny)
    if total == n or within <= total * (1e-9 * scale) ** 2:  # nothing varies within patients: a t test of their means
        effect, variance = mean.mean(), mean.var(ddof=1) / n
    else:
        best = minimize_scalar(lambda t: fit(np.exp(t))[2], bounds=(-20, 30), method="bounded")
        effect, variance, _ = min(fit(0.0), fit(np.exp(best.x)), key=lambda found: found[2])
    p = 2 * distributions.t.sf(abs(effect) / np.sqrt(variance), n - 1) if variance > 0 else float(effect == 0)
    return {"effect": float(effect), "se": float(np.sqrt(variance)), "p": float(p)}


def by_patient(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over slices: a row a patient, a column a training seed.

    Args: scores: columns patient, seed, value, one row a slice and seed.
    """
    return scores.pivot_table(index="patient", columns="seed", values="value", aggfunc="mean", dropna=False)


def paired(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Scores of two methods on the same slices, paired by seed where they share seeds.

    Args:
        first, second: columns row, patient, seed, value, one row a slice and seed; the seed of what was not trained
            (the LDCT) is -1 and pairs with every seed.
    Returns: columns row, patient, seed, first, second (finite values only), and how seeds were paired: ``paired``, or
        ``averaged`` where the methods share none and each is averaged over its own, which then counts as one seed.
    Raises: ValueError: if the two were not scored on the same slices.
    """
    if set(first["row"]) != set(second["row"]):
        raise ValueError(
            f"the methods were scored on different slices ({first['row'].nunique()} and {second['row'].nunique()})"
        )
    keys, how = ["row", "patient", "seed"], "paired"
    for one, other in ((first, second), (second, first)):
        if set(one["seed"]) == {-1}:
            spread = one.drop(columns="seed").merge(other[["row", "seed"]], on="row")
            first, second = (spread, other) if one is first else (other, spread)
            break
    if not set(first["seed"]) & set(second["seed"]):
        first, second = (
            one.groupby(["row", "patient"], as_index=False)["value"].mean().assign(seed=-1) for one in (first, second)
        )
        how = "averaged"
    both = first[[*keys, "value"]].merge(second[[*keys, "value"]], on=keys, suffixes=("_first", "_second"))
    both = both.rename(columns={"value_first": "first", "value_second": "second"})
    return both[np.isfinite(both["first"]) & np.isfinite(both["second"])], how


def gaps(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Differences first - second of two methods, (patients, seeds): means over slices, patients that lack one left out.

    Args: first, second: as in ``paired``.
    """
    return _gaps(paired(first, second)[0])


def _gaps(both):
    return by_patient(both.assign(value=both["first"] - both["second"])).dropna()


def compare(first: pd.DataFrame, second: pd.DataFrame, draws: int = 10_000, seed: int = 0) -> dict:
    """Two methods by every test, for one metric in one domain against one reference: a row of Table 4.

    Args: first, second: as in ``paired``. draws, seed: of the bootstrap.
    Returns: means, difference (first - second, patients weighing alike) with its interval, p values, effect sizes, and
        the numbers of patients, seeds and slices. Tests and effect sizes take means over seeds; only the interval
        knows how much these differ.
    """
    both, how = paired(first, second)
    gap = _gaps(both)
    slices = both.groupby(["row", "patient"], as_index=False)[["first", "second"]].mean()
    patients = slices.groupby("patient")[["first", "second"]].mean()
    interval = patient_bootstrap(gap.to_numpy(), draws=draws, seed=seed)
    return {
        "mean_first": slices["first"].mean(),
        "mean_second": slices["second"].mean(),
        "p_slices": wilcoxon(slices["first"], slices["second"]),
        "d": cohen_d(slices["first"], slices["second"]),
        "d_z": cohen_dz(slices["first"], slices["second"]),
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "p_patients": wilcoxon(patients["first"], patients["second"]),
        "p_mixed": mixed_model(slices["first"], slices["second"], slices["patient"])["p"],
        "patients": interval.patients,
        "seeds": interval.seeds,
        "seed_pairing": how,
        "slices": len(slices),
        "left_out": len(set(first["row"])) - len(slices),
    }


def interaction(cells: dict, draws: int = 10_000, seed: int = 0) -> Interval:
    """The 2x2 interaction: (a1 - a2) - (b1 - b2), with an interval over patients crossed with seeds.

    Args: cells: ``a1``, ``a2``, ``b1``, ``b2`` -> table of ``by_patient`` (rows patients, columns seeds).
    Returns: the interval over the patients and seeds that all four share (their means over seeds, if they share none).
    """
    a1, a2, b1, b2 = (cells[name] for name in ("a1", "a2", "b1", "b2"))
    if not set(a1.columns) & set(a2.columns) & set(b1.columns) & set(b2.columns):
        a1, a2, b1, b2 = (cell.mean(axis=1).to_frame(-1) for cell in (a1, a2, b1, b2))
    contrast = ((a1 - a2) - (b1 - b2)).dropna(axis=1, how="all").dropna()
    return patient_bootstrap(contrast.to_numpy(), draws=draws, seed=seed)


def share_interval(successes, n: int, level: float = 1 - ALPHA) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson 1934): where all or none succeed, a bootstrap has no width.

    Args: successes: of n; need not be whole where trials count by halves.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a share needs successes among 1 or more trials, got {successes} of {n}")
    tail = (1 - level) / 2
    low = distributions.beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = distributions.beta.isf(tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def reversed_pairs(values: pd.DataFrame, base: pd.DataFrame, draws: int = 10_000, seed: int = 0) -> tuple[int, int]:
    """How many pairs of methods two measures order differently, beyond the intervals of both differences.

    Args: values, base: (patients, methods), the same methods; patients that only one of them has are left out.
    Returns: reversed pairs, and all pairs.
    """
    names, patients = list(values), values.index.intersection(base.index)
    turned = 0
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            gaps = [(t.loc[patients, first] - t.loc[patients, second]).to_numpy() for t in (values, base)]
            spans = [patient_bootstrap(gap, draws=draws, seed=seed) for gap in gaps]
            turned += bool(all(s.excludes_zero for s in spans) and spans[0].mean * spans[1].mean < 0)
    return turned, len(names) * (len(names) - 1) // 2


def critical_difference(methods: int, patients: int) -> float:
    """Difference of two mean ranks beyond what luck explains (Nemenyi's test; Demšar 2006, JMLR 7:1, section 3.2.2)."""
    quantile = distributions.studentized_range.ppf(1 - ALPHA, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * patients)))


def told_together(mean_ranks, gap: float) -> list[tuple[int, int]]:
    """Groups of methods whose mean ranks lie within ``gap`` of each other.

    Args: mean_ranks: (methods,), rising. gap: from ``critical_difference``.
    Returns: (first, last) method of every group of two or more that is not part of a larger one.
    """
    mean_ranks, groups = np.asarray(mean_ranks, np.float64), []
    for first, rank in enumerate(mean_ranks):
        last = int(np.flatnonzero(mean_ranks <= rank + gap)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
