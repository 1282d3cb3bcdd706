"""Two methods compared: paired tests, effect sizes, corrections and intervals that know that slices belong to patients.

Slices of one patient are not independent, so a test over slices finds differences where none are. The patient is the
unit of every interval and verdict here; the slice-level test stays only because the literature reports it.
Arrays of differences are (patients, seeds): the mean over the slices of each patient, for each training seed.
"""

import numpy as np
import pandas as pd
from scipy import stats as distributions
from scipy.optimize import minimize_scalar

from ldct_utils.stats import intervals

UNTRAINED = -1  # the seed of what was not trained, such as the LDCT or a filter


def smallest_p(n: int) -> float:
    """The smallest p that a two-sided Wilcoxon signed-rank test of ``n`` pairs can give: 2 of the 2^n signs."""
    if n < 0:
        raise ValueError(f"a number of pairs cannot be negative, got {n}")
    return min(1.0, 2.0 ** (1 - n))


def wilcoxon(first, second) -> float:
    """p of the two-sided Wilcoxon signed-rank test of paired values; 1 if all pairs are equal.

    Raises: ValueError: if the shapes differ or a value is not finite.
    """
    first, second = intervals.finite(first, second)
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
    first, second = intervals.finite(first, second)
    if first.size < 2:
        return float("nan")
    return d_from(first.mean(), first.std(ddof=1), second.mean(), second.std(ddof=1), first.size, second.size)


def cohen_dz(first, second) -> float:
    """Paired Cohen's d: mean of the differences over their SD (ddof 1), signed; 0 if all pairs are equal."""
    first, second = intervals.finite(first, second)
    gap = first - second
    if gap.size < 2:
        return float("nan")
    spread = gap.std(ddof=1)
    return 0.0 if not gap.any() else float(gap.mean() / spread) if spread > 0 else float(np.copysign(np.inf, gap[0]))


def holm(p_values) -> np.ndarray:
    """p values adjusted by Holm's step-down method for the number of tests among them (NaN: not tested)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)[: int((~np.isnan(p_values)).sum())]  # NaN comes last
    adjusted = np.full(p_values.shape, np.nan)
    # as statsmodels' multipletests, which collects garbage at every call: a quarter of a second where torch is loaded
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


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
    first, second = intervals.finite(first, second)
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


def paired(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Scores of two methods on the same slices, paired by seed where they share seeds.

    Args:
        first, second: columns row, patient, seed, value, one row a slice and seed; ``UNTRAINED`` (of
            the LDCT) pairs with every seed.
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
        if set(one["seed"]) == {UNTRAINED}:
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
    return intervals.by_patient(both.assign(value=both["first"] - both["second"])).dropna()


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
    interval = intervals.patient_bootstrap(gap.to_numpy(), draws=draws, seed=seed)
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


def interaction(cells: dict, draws: int = 10_000, seed: int = 0) -> intervals.Interval:
    """The 2x2 interaction: (a1 - a2) - (b1 - b2), with an interval over patients crossed with seeds.

    Args: cells: ``a1``, ``a2``, ``b1``, ``b2`` -> table of ``by_patient`` (rows patients, columns seeds).
    Returns: the interval over the patients and seeds that all four share (their means over seeds, if they share none).
    """
    a1, a2, b1, b2 = (cells[name] for name in ("a1", "a2", "b1", "b2"))
    if not set(a1.columns) & set(a2.columns) & set(b1.columns) & set(b2.columns):
        a1, a2, b1, b2 = (cell.mean(axis=1).to_frame(-1) for cell in (a1, a2, b1, b2))
    contrast = ((a1 - a2) - (b1 - b2)).dropna(axis=1, how="all").dropna()
    return intervals.patient_bootstrap(contrast.to_numpy(), draws=draws, seed=seed)
