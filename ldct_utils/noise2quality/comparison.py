"""Models of quality maps compared: Table 1 of Noise2Quality, what each of its additions is worth, and its claims.

Scores are those of ``scoring.score``, on maps scaled to [0, 1], with the columns seed and, for the claims, test (which
cohort). Intervals are over patients and seeds; no comparison depends on what other networks are there.
"""

import numpy as np
import pandas as pd
from scipy import stats as distributions

from ldct_utils.noise2quality import networks
from ldct_utils.noise2quality.baselines import CONSTANT, LOOKUP, NUMBER
from ldct_utils.stats import intervals

PUBLISHED = pd.DataFrame(
    {
        "ae": (0.6761, 0.1033, 0.3226),
        "redcnn": (0.7250, 0.0594, 0.2434),
        "unet": (0.7448, 0.0804, 0.2830),
        "u_hpf": (0.7381, 0.0979, 0.3237),
        "u_con": (0.7484, 0.0759, 0.2794),
        "u_ssl": (0.7572, 0.0669, 0.2505),
        "n2q": (0.7664, 0.0686, 0.2437),
    },
    index=["ssim", "mse", "nrmse"],
)  # fmt: skip  Haque et al. 2022, Table 1
METRICS, REGIONS = {"ssim": 1, "mse": -1, "nrmse": -1}, ("whole", "body")  # 1: higher is better, -1: lower
RANGE = {"ssim": (-1, 1), "mse": (0, np.inf), "nrmse": (0, np.inf)}
# What is asked is fixed here, whatever else was trained: first the claim's, then what each addition is worth.
PAIRS = [("n2q", LOOKUP), ("n2q", "unet"), ("n2q", CONSTANT), ("n2q", "u_con"), ("n2q", "u_ssl"), ("u_con", "unet"),
         ("u_ssl", "unet"), ("u_hpf", "unet"), ("unet", "ae"), ("unet", "redcnn"), ("n2q", "n2q_batch"),
         ("n2q", "n2q_none")]  # fmt: skip
SLOPES = (0.75, 1.25)  # of predicted over true quality: within a quarter of 1
HOLDS, FAILS, OPEN = "holds", "fails", "not shown"
SETTINGS = (
    "target",
    "map_loss",
    "alpha",
    "doses",
    "level",
    "width",
    "sigma",
    "max_steps",
    "batch",
    "lr",
    "test_slices",
)
ALIKE = ("target", "doses", "level", "width", "test_slices")  # what maps depend on
SEEDS = 3  # fewer trainings decide nothing


def arm(model: str, normalisation: str | None = None) -> str:
    """A model's name in tables: its own, and its normalisation where that is not the published one."""
    return model if normalisation in (None, networks.published(model)) else f"{model}_{normalisation}"


def _parts(name: str) -> tuple[str, str]:
    """Model and normalisation of an arm; "" for the published one."""
    model, _, normalisation = name.rpartition("_")
    return (model, normalisation) if normalisation in networks.NORMALISATIONS else (name, "")


def plain(name: str) -> str:
    """The plain U-Net with the normalisation of this arm."""
    return arm("unet", _parts(name)[1] or None)


def label(name: str) -> str:
    """An arm or a baseline in words."""
    model, normalisation = _parts(name)
    if model not in networks.MODELS:
        return {NUMBER: "one noise number"}.get(name, name)
    return networks.get(model).label + {"batch": " (batch norm)", "none": " (no norm)"}.get(normalisation, "")


def by_arm(found) -> dict:
    """{(arm, seed): run} of runs of 08a_train_quality. Raises: ValueError: where a design and seed is there twice."""
    chosen = {}
    for one in found:
        key = arm(one.params["model"], one.params["normalisation"]), one.params["seed"]
        if chosen.setdefault(key, one) is not one:
            raise ValueError(f"{label(key[0])} with seed {key[1]} is there twice: name runs of one design")
    return chosen


def described(chosen: dict) -> pd.DataFrame:
    """A row a run: model (in words), seed, run, weights, patch_size and the settings ``SETTINGS``, as text.

    Args: chosen: of ``by_arm``. Raises: ValueError: where runs differ in what their maps depend on (``ALIKE``).
    """
    rows = [
        {"model": label(m), "seed": s, "run": one.name, "weights": one.numbers["parameters"],
         "patch_size": one.numbers["patch_size"]} | {name: str(one.params[name]) for name in SETTINGS}
        for (m, s), one in chosen.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    for name in ALIKE:
        if table[name].nunique() > 1:
            raise ValueError(f"these runs differ in {name}; their maps do not compare. Choose runs of one")
    return table


def in_order(chosen: dict) -> list[str]:
    """The arms that there are, in the order of the published table."""
    there = {one for one, _ in chosen}
    every = dict.fromkeys(arm(m, n) for m in networks.MODELS for n in (None, *networks.NORMALISATIONS))
    return [one for one in every if one in there]


def read(runs: dict, name: str = "scores") -> pd.DataFrame:
    """A table of all runs with their seeds; the baselines, which do not depend on a run, once, under the first seed.

    Args: runs: {(arm, seed): finished run of 08a_train_quality}. name: ``scores`` or ``dose_classes``.
    """
    tables, first = [], next(iter(runs))
    for key, one in runs.items():
        found = one.table(name)
        kept = [key[0], *((LOOKUP, NUMBER, CONSTANT) if key == first else ())]
        tables.append(found[found.model.isin(kept)].assign(seed=key[1]))
    return pd.concat(tables, ignore_index=True)


def cell(scores, model: str, region: str, metric: str) -> pd.DataFrame:
    """(patients, seeds): means over slices and doses; patients without a finite value are left out."""
    part = scores[(scores.model == model) & (scores.region == region) & (scores.metric == metric)]
    return intervals.by_patient(part).dropna()


def accuracy(classes, model: str) -> pd.DataFrame:
    """(patients, seeds): share of images whose dose is named rightly; a dose that was not named is wrong."""
    part = classes[classes.model == model]
    return intervals.by_patient(part.assign(value=(part.predicted == part.dose).astype(float)))


def slopes(scores, model: str, region: str = "body") -> pd.DataFrame:
    """(patients, seeds): slope of the mean predicted quality over the mean true one, a line through a patient's doses.

    1 where all of a loss of quality is seen, 0 where every dose is called the same.
    """
    part = scores[(scores.model == model) & (scores.region == region) & scores.metric.isin(("mean", "bias"))]
    means = part.pivot_table(index=["patient", "seed", "dose"], columns="metric", values="value").dropna()
    means = means.assign(true=means["mean"] - means["bias"])
    away = means - means.groupby(["patient", "seed"]).transform("mean")
    sums = pd.DataFrame({"both": away["mean"] * away.true, "true": away.true**2}).groupby(["patient", "seed"]).sum()
    return (sums.both / sums.true).unstack("seed").dropna()


def gains(own: pd.DataFrame, rival: pd.DataFrame, direction: int = 1) -> pd.DataFrame:
    """(patients, seeds): by how much the first is better, paired over patients and the seeds that both have. A rival
    of one seed that draws nothing at random, a baseline, is held against every seed: see ``fixed``."""
    seeds = [seed for seed in own.columns if seed in rival.columns]
    return (direction * (own[seeds] - rival[seeds])).dropna()


def fixed(baseline: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """(patients, seeds) of a baseline, the same for every seed of ``own``."""
    return pd.DataFrame({seed: baseline.iloc[:, 0] for seed in own.columns})


def over(values, draws: int = 2000, seed: int = 0) -> dict:
    """mean, low and high of (patients, seeds). Under 6 patients the interval is over the seeds alone, of these patients
    (t, ``seeds`` - 1 degrees of freedom); NaN for one seed, and where there is nothing."""
    if not np.size(values):
        return {"mean": np.nan, "low": np.nan, "high": np.nan}
    held = intervals.patient_bootstrap(values, draws=draws, seed=seed)
    low, high = held.low, held.high
    if held.patients < intervals.MIN_PATIENTS and held.seeds > 1:
        by_seed = np.asarray(values, np.float64).mean(axis=0)
        reach = distributions.t.ppf(1 - intervals.ALPHA / 2, held.seeds - 1) * by_seed.std(ddof=1) / held.seeds**0.5
        low, high = held.mean - reach, held.mean + reach
    return {"mean": held.mean, "low": float(low), "high": float(high)}


def table(scores, models, published: bool, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """A row a model, region and metric: mean with its interval, seeds, and the published number.

    Args: published: whether the published numbers, which are of SSIM maps, may stand beside these.
    """
    rows = []
    for region in REGIONS:
        for metric in METRICS:
            for model in models:
                values = cell(scores, model, region, metric)
                known = published and model in PUBLISHED
                rows.append({"model": model, "region": region, "metric": metric, **over(values, draws, seed),
                             "seeds": values.shape[1],
                             "published": PUBLISHED[model][metric] if known else np.nan})  # fmt: skip
    return pd.DataFrame(rows)


def wide(table: pd.DataFrame, region: str) -> pd.DataFrame:
    """``table`` of one region, a row a model, the least MSE first: each metric with its _low and _high, and _published.

    Bounds are cut where the metric cannot lie (``RANGE``): an interval over few trainings may reach beyond.
    """
    part = table[table["region"] == region].set_index("model")
    found = pd.DataFrame({"model": part.index.unique(), "called": [label(m) for m in part.index.unique()]})
    for metric in METRICS:
        of = part[part["metric"] == metric].reindex(found["model"])
        found[metric], found[f"{metric}_published"] = of["mean"].to_numpy(), of["published"].to_numpy()
        for end in ("low", "high"):
            found[f"{metric}_{end}"] = of[end].clip(*RANGE[metric]).to_numpy()
    return found.sort_values("mse", kind="stable").reset_index(drop=True)


def patient_means(scores: pd.DataFrame) -> pd.Series:
    """Means over slices and doses, then over patients, by region, model and metric. Args: scores: of one training."""
    each = scores.groupby(["region", "model", "metric", "patient"])["value"].mean()
    return each.groupby(level=["region", "model", "metric"]).mean()


def summary(means: pd.Series) -> pd.DataFrame:
    """SSIM and MSE of the maps, inside the body and on whole slices: a row a model, named in ``map by``.

    Args: means: of ``patient_means``.
    """
    found = pd.DataFrame({
        f"{metric.upper()}, {region}": means.xs((region, metric), level=("region", "metric"))
        for region in REGIONS for metric in ("ssim", "mse")
    })  # fmt: skip
    return found.rename(index=label).rename_axis("map by").reset_index()


def means(table: pd.DataFrame, models) -> dict:
    """{model: {metric: mean on whole slices}} of ``table``, for a run's result."""
    whole = table[table["region"] == "whole"].set_index(["model", "metric"])["mean"]
    return {model: {metric: float(whole[model, metric]) for metric in METRICS} for model in models}


def accuracies(classes, models, draws: int = 2000, seed: int = 0) -> dict:
    """{model: ``over`` of its share of rightly named doses}, of those that name doses, and of one noise number."""
    found = {model: over(accuracy(classes, model), draws, seed) for model in (*models, NUMBER)}
    return {model: one for model, one in found.items() if np.isfinite(one["mean"])}


def contrasts(scores, models, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """By how much the first of ``PAIRS`` is better than the second, a row a pair, region and metric.

    Returns: first, second, region, metric, mean, low, high (positive: the first is better), patients and seeds.
    """
    rows = []
    for one, other in PAIRS:
        for region in REGIONS if {one, other} <= set(models) else ():
            for metric, direction in METRICS.items():
                own, rival = cell(scores, one, region, metric), cell(scores, other, region, metric)
                gap = gains(own, fixed(rival, own) if other in (LOOKUP, CONSTANT) else rival, direction)
                if gap.size:
                    rows.append({"first": one, "second": other, "region": region, "metric": metric,
                                 **over(gap, draws, seed), "patients": len(gap), "seeds": gap.shape[1]})  # fmt: skip
    names = ["first", "second", "region", "metric", "mean", "low", "high", "patients", "seeds"]
    return pd.DataFrame(rows, columns=names)


def better(low: float, high: float, margin: float = 0.0) -> str:
    """Verdict on an interval of a gain: holds above -margin, fails below it, else not shown."""
    return HOLDS if low > -margin else FAILS if high < -margin else OPEN


def within(low: float, high: float, bounds=SLOPES) -> str:
    """Verdict on an interval: holds inside the bounds, fails outside of them, else not shown."""
    inside = bounds[0] <= low and high <= bounds[1]
    return HOLDS if inside else FAILS if high < bounds[0] or low > bounds[1] else OPEN


def claims(scores, classes, model: str, margin: float, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What Noise2Quality must do, on the tests of ``scores``: a row a test and question.

    Dose: its share of rightly named doses lies at most ``margin`` under that of one noise number. Map: its MSE on whole
    slices is below that of the lookup, and below that of ``plain``. Slope: predicted over true quality inside the body,
    within ``SLOPES``. All must hold, so none is corrected for the others. Under ``SEEDS`` trainings nothing is shown.

    Args: scores, classes: of ``scoring.score`` with the columns test and seed. model: the arm that claims.
    Returns: test, question, ours, yardstick (means), mean, low, high (of the gain, positive: better; of the slope
        itself), patients, seeds, verdict; questions without a rival, or without a value, are left out.
    """
    rows = []

    def asked(test, question, own, rival, values, judge):
        if values.size:
            held = over(values, draws, seed)
            verdict = judge(held["low"], held["high"]) if values.shape[1] >= SEEDS else OPEN
            rows.append({"test": test, "question": question, "ours": own, "yardstick": rival, **held,
                         "patients": len(values), "seeds": values.shape[1], "verdict": verdict})  # fmt: skip

    for test in scores.test.unique():
        part, named = scores[scores.test == test], classes[classes.test == test]
        own, number = accuracy(named, model), accuracy(named, NUMBER)
        if own.size:
            gap = gains(own, fixed(number, own))
            asked(test, "dose, against one noise number", own.stack().mean(), number.stack().mean(), gap,
                  lambda low, high: better(low, high, margin))  # fmt: skip
        own = cell(part, model, "whole", "mse")
        for rival, name in ((LOOKUP, "map, against the lookup"), (plain(model), "map, against the plain U-Net")):
            other = cell(part, rival, "whole", "mse")
            gap = gains(own, fixed(other, own) if rival == LOOKUP else other, -1)
            asked(test, name, own.stack().mean(), other.stack().mean(), gap, better)
        found = slopes(part, model)
        asked(test, "slope of predicted over true quality", found.stack().mean(), 1.0, found, within)
    return pd.DataFrame(rows)
