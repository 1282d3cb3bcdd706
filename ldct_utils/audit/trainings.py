"""Tables of how losses and metrics move together over the checkpoints of several trainings, and rank what comes out.

All take ``curves``, a long table with a row a run, step, image, domain, reference and quantity: columns run, method,
seed, step, patient, domain, reference, name, value, and aligned (higher is better, see ``agreement.align``). Losses
have the domain ``network``, no-reference metrics the reference ``none``.
"""

import itertools

import numpy as np
import pandas as pd

from ldct_utils.audit import agreement
from ldct_utils.stats import intervals


def joined(tables, listed, patient) -> pd.DataFrame:
    """The tables of runs as one, with run, method, seed and patient.

    Args: tables: one a row of ``listed`` (columns run, method, seed). patient: of each image.
    """
    keys = zip(tables, listed.run, listed.method, listed.seed)
    curves = pd.concat([table.assign(run=r, method=m, seed=s) for table, r, m, s in keys], ignore_index=True)
    return curves.assign(patient=np.asarray(patient)[curves.image])


def in_their_own(curves, losses) -> dict[str, str]:
    """{loss: whether it ends lowest in a method that was trained with it, whose name begins with its own}.

    ``lowest``: lower than in every other method; ``tied``: the trainings of that method and of the best other one
    overlap; ``not lowest``: another method's trainings lie below; ``alone``: no other method; ``not trained``: no
    method was trained with it.
    """
    last = curves[(curves.domain == "network") & (curves.step == curves.groupby("run").step.transform("max"))]
    ends, found = last.groupby(["name", "method", "run"]).value.mean(), {}
    for loss in losses:
        by_method = ends[loss].groupby("method").agg(["min", "mean", "max"]) if loss in ends.index else pd.DataFrame()
        own = np.array([str(method).startswith(loss) for method in by_method.index], bool)
        if not own.any():
            found[loss] = "not trained"
            continue
        ours, others = by_method[own].sort_values("mean").iloc[0], by_method[~own].sort_values("mean")
        if others.empty:
            found[loss] = "alone"
        elif ours["max"] < others["min"].min():
            found[loss] = "lowest"
        else:
            found[loss] = "not lowest" if others["max"].min() < ours["min"] else "tied"
    return found


def improved(curves, names) -> dict[str, tuple[bool, bool]]:
    """{metric: whether its mean is better, and whether it is worse, at the end of every run than before training}."""
    means = curves[curves.name.isin(names)].groupby(["name", "run", "step"]).aligned.mean().groupby(["name", "run"])
    gain = (means.last() - means.first()).groupby("name")
    rose, fell = (gain.agg(lambda change, sign=sign: bool((sign * change > 0).all())) for sign in (1, -1))
    return {name: (bool(rose[name]), bool(fell[name])) for name in names}


def tables(pairs, losses, metrics) -> dict[str, pd.DataFrame]:
    """``agreements`` of one kind as tables (losses, metrics) by their titles; the last only with runs to compare."""
    titles = {"Of curves": ("mean", False), "Of changes between checkpoints": ("mean", True)}
    if pairs.others.notna().any():
        titles["Of changes, minus that with the metrics of another training"] = ("gain", True)
    wide = {
        title: pairs[pairs.detrended == of].pivot(index="loss", columns="metric", values=value)
        for title, (value, of) in titles.items()
    }
    return {title: table.loc[list(losses), list(metrics)] for title, table in wide.items()}


def psnr_is_rmse(curves, peak: float) -> bool:
    """Whether PSNR and RMSE in HU, against the NDCT, say the same of every image; true where one is not there."""
    inside = curves[(curves.domain == "hu") & (curves.reference == "ndct")].set_index(["run", "step", "image"])
    rmse, psnr = (inside[inside.name == name].value for name in ("rmse_hu", "psnr"))
    both = rmse.index.intersection(psnr.index)
    return bool(np.allclose(psnr.loc[both], 20 * np.log10(peak / rmse.loc[both])))


def judged(table, names, domain: str, reference: str = "ndct") -> np.ndarray:
    """Curves of one run, (steps, patients, quantities) in the order of ``names``, as of ``agreement.cube``."""
    kept = (table.domain == domain) & table.reference.isin([reference, "none"])
    return agreement.cube(table[(table.domain == "network") | kept], names)


def agreements(curves, methods, losses, metrics, domains, references, draws: int, seed: int) -> pd.DataFrame:
    """``agreement.pairs`` of losses and metrics in every domain, against every reference; methods: one a run."""
    found = []
    for domain, reference in itertools.product(domains, references):
        sets = [judged(table, [*losses, *metrics], domain, reference) for _, table in curves.groupby("run", sort=False)]
        pairs = agreement.pairs(sets, list(methods), list(losses), list(metrics), draws, seed)
        found.append(pairs.assign(domain=domain, reference=reference))
    return pd.concat(found, ignore_index=True)


def typical(pairs, free, column: str) -> dict[bool, float]:
    """Median of a column of ``agreements`` over losses and the metrics ``free``: {of the changes: value}."""
    return pairs[pairs.metric.isin(free)].groupby("detrended")[column].median().to_dict()


def erratic(curves, names, domain: str) -> pd.DataFrame:
    """How restless the mean curve of each quantity is, medians over runs, in the order of ``names``.

    Returns: name; turns, roughness, setback and jitter (see ``agreement``); seed_sd: SD over seeds of the mean of the
        second half of training, in which the scatter averages out; the last two over it. NaN where a method has one
        seed.
    """
    found = []
    for (run, method), table in curves.groupby(["run", "method"], sort=False):
        values = judged(table, names, domain).mean(axis=1)
        found.append(pd.DataFrame({
            "name": list(names), "run": run, "method": method, "turns": agreement.sign_changes(values),
            "roughness": agreement.roughness(values), "setback": agreement.setback(values),
            "jitter": agreement.jitter(values), "end": values[len(values) // 2 :].mean(axis=0),
        }))  # fmt: skip
    table = pd.concat(found, ignore_index=True)
    table["seed_sd"] = table.groupby(["name", "method"]).end.transform("std")
    table["setback_over_seed_sd"] = table.setback / table.seed_sd
    table["jitter_over_seed_sd"] = table.jitter / table.seed_sd
    columns = ["turns", "roughness", "setback", "jitter", "seed_sd", "setback_over_seed_sd", "jitter_over_seed_sd"]
    return table.groupby("name")[columns].median().loc[list(names)].reset_index()


def at_the_end(curves) -> pd.Series:
    """Aligned scores of the metrics at the end of training, by domain, reference, name, method and patient."""
    final = curves[curves.domain != "network"]
    final = final[final.step == final.groupby("run").step.transform("max")]
    return final.groupby(["domain", "reference", "name", "method", "patient"]).aligned.mean()


def _scores(final, domain, reference, name, full) -> pd.DataFrame:
    return final[domain, reference if name in full else "none", name].unstack("patient")


def concordance(final, names, full, domains, references, draws: int, seed: int) -> pd.DataFrame:
    """Kendall's W of the metrics as raters of the methods, and of the patients by each metric alone.

    Args: final: of ``at_the_end``. names: of the metrics; full: those of them with a reference.
    Returns: a row a domain, reference and rater (``all metrics`` or a metric's name): w, low, high (95 % over patients,
        of all metrics; NaN under ``MIN_PATIENTS`` patients or for one method).
    """
    found = []
    for domain, reference in itertools.product(domains, references):
        where = {"domain": domain, "reference": reference}
        values = np.stack([_scores(final, domain, reference, n, full).to_numpy() for n in names])
        _, methods, patients = values.shape
        drawn = [agreement.kendall_w(values @ w) for w in intervals.patient_draws(patients, draws, seed)]
        few = patients < intervals.MIN_PATIENTS or methods < 2
        low, high = intervals.interval(np.array(drawn), patients) if not few else (np.nan, np.nan)
        w = agreement.kendall_w(values.mean(-1))
        found.append(where | {"raters": "all metrics", "w": w, "low": low, "high": high})
        found += [where | {"raters": n, "w": agreement.kendall_w(v.T)} for n, v in zip(names, values)]
    return pd.DataFrame(found)


def ranks(final, names, full, domain: str, reference: str = "ndct") -> pd.DataFrame:
    """Rank of each method by each metric, means over patients, 1 is best: a row a metric, a column a method."""
    means = {n: _scores(final, domain, reference, n, full).mean(axis=1) for n in names}
    return pd.DataFrame({n: one.rank(ascending=False, method="min") for n, one in means.items()}).astype("Int64").T


def picks(curves, names, domain: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Which checkpoint each quantity would pick in each run, and what that costs by every other, mean over runs.

    Returns: run, method, seed, name, step (NaN where a curve is not known throughout); and the cost (quantities,
        quantities), see ``agreement.picks``.
    """
    picked, costs = [], []
    for (run, method, seed), table in curves.groupby(["run", "method", "seed"], sort=False):
        steps, (at, cost) = sorted(table.step.unique()), agreement.picks(judged(table, names, domain).mean(axis=1))
        where = [steps[i] if i >= 0 else np.nan for i in at]
        picked.append(pd.DataFrame({"run": run, "method": method, "seed": seed, "name": list(names), "step": where}))
        costs.append(cost)
    with np.errstate(invalid="ignore"):
        return pd.concat(picked, ignore_index=True), np.nanmean(costs, axis=0)
