"""Methods compared by their scores on the same slices: the tables that say which is better, and how surely.

A table of scores has a row a slice, method, training seed, evaluation domain, reference and metric; the LDCT itself is
the last method, with seed -1. Scores compare within a *cell*: one domain, reference and metric. The unit of every
interval is the patient (``stats``).
"""

import itertools

import numpy as np
import pandas as pd

from ldct_utils.metrics.evaluation import ONCE
from ldct_utils.metrics.scores import info
from ldct_utils.stats import intervals, paired

LDCT = "LDCT"
CELL = ["domain", "reference", "metric"]
SLICE = ["row", "patient", "anatomy", *CELL]

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


def read(runs, tests, listed, names, domain: str) -> pd.DataFrame:
    """All scores of finished runs of 03_train by some metrics.

    Args: runs, listed: from ``designs.listed``. tests: of the runs, from ``testing.scores``. names: of metrics. domain:
        one that must be among the scores. Metrics with a window of their own (``evaluation.ONCE``) are put there.
    Raises: ValueError: for runs that were tested on different slices, or not in this domain or by these metrics.
    """
    tables = [one.table("scores").assign(method=m, seed=s) for one, m, s in zip(tests, listed.method, listed.seed)]
    ldct, *others = (one.table("ldct_scores").set_index(SLICE)["value"].sort_index() for one in tests)
    for one, other in zip(runs[1:], others):
        if not (other.index.equals(ldct.index) and np.allclose(other, ldct, equal_nan=True)):
            raise ValueError(f"runs {runs[0].name} and {one.name} were tested on different slices: they do not compare")
    scores = pd.concat([*tables, ldct.reset_index().assign(method=LDCT, seed=-1)], ignore_index=True)
    if domain not in set(scores["domain"]):
        known = ", ".join(scores["domain"].unique())
        raise ValueError(f"the runs were not scored in domain {domain!r}; they have {known}")
    if missing := sorted(set(names) - set(scores["metric"])):
        raise ValueError(f"the runs were not scored by {', '.join(missing)}")
    scores.loc[scores["metric"].isin(ONCE), "domain"] = domain
    return scores[scores["metric"].isin(names)]


def by_slice(scores) -> pd.DataFrame:
    """The mean over seeds of each slice and method; what is not finite is NaN."""
    means = scores.groupby([*SLICE, "method"], as_index=False, sort=False)["value"].mean()
    return means.assign(value=means["value"].where(np.isfinite(means["value"])))


def summary(slices) -> pd.DataFrame:
    """A row a cell and method: mean, std and count over slices, std_patients (of patients' means) and rank, 1 the best.

    Args: slices: from ``by_slice``.
    """
    table = slices.groupby([*CELL, "method"], sort=False)["value"].agg(["mean", "std", "count"])
    means = slices.groupby([*CELL, "method", "patient"], sort=False)["value"].mean()
    table["std_patients"] = means.groupby([*CELL, "method"], sort=False).std()
    table = table.reset_index()
    direction = table["metric"].map(lambda name: info(name).direction)
    goodness = table["mean"].abs().mul(-1).where(direction == 0, table["mean"] * direction)
    table["rank"] = goodness.groupby([table[k] for k in CELL]).rank(ascending=False, method="min")
    return table


def first(part) -> str | None:
    """The best method of one cell of ``summary``, the LDCT aside; None where no method has a finite mean."""
    trained = part[(part["method"] != LDCT) & part["mean"].notna()]
    return None if trained.empty else part["method"][trained["rank"].idxmin()]


def mean_and_rank(part, beside=None) -> pd.DataFrame:
    """Table 3 as published: a row a method, the best first, with its mean (SD) and rank by each metric.

    Returns: method, ``<metric>`` (text) and ``<metric> rank``.
    Args: part: the rows of ``summary`` of one domain and reference; the metric that comes first there orders them.
        beside: scores of known denoisers, such as filters, that stand below without a rank.
    """
    if beside is not None and len(beside):
        given = beside[
            (beside["domain"] == part["domain"].iloc[0]) & (beside["reference"] == part["reference"].iloc[0])
        ]
        ranked, below = mean_and_rank(part), mean_and_rank(summary(by_slice(given)))
        return pd.concat([ranked, below.assign(**{name: pd.NA for name in below if name.endswith(" rank")})])
    digits = part["metric"].map(lambda name: info(name).digits)
    part = part.assign(shown=[f"{m:.{d}f} ({s:.{d}f})" for m, s, d in zip(part["mean"], part["std"], digits)])
    wide, columns = part.pivot(index="method", columns="metric", values=["shown", "rank"]), {}
    for name in part["metric"].unique():
        columns |= {name: wide["shown", name], f"{name} rank": wide["rank", name].astype("Int64")}
    return pd.DataFrame(columns).sort_values(f"{part['metric'].iloc[0]} rank").reset_index()


def heads_of_ranks(metrics) -> dict[str, str]:
    """Heads of the columns of ``mean_and_rank``."""
    heads = {"method": "method"}
    for name in metrics:
        unit = f", {info(name).unit}" if info(name).unit else ""
        heads |= {
            name: f"{info(name).label} {info(name).arrow}: mean (SD){unit}",
            f"{name} rank": f"{info(name).label} rank",
        }
    return heads


# Heads of the columns that a reader sees of ``judged`` and of ``interactions``.
TABLE4 = {
    "metric": "metric", "first": "best by it", "other": "other",
    ("better_by", "low", "high"): "best is better by [95 %]", "verdict": "verdict on the methods",
    "p_patients_holm": "p over patients", "p_slices": "p over slices, as published",
}  # fmt: skip
INTERACTIONS = {
    "contrast": "contrast", "kind": "what it is", "psi of the cells, %": "ψ: start → half → end, %",
    "reference": "against", "metric": "metric", ("interaction", "low", "high"): "difference of differences [95 %]",
}  # fmt: skip


def firsts(table, domain: str) -> dict[str, dict[str, str | None]]:
    """{reference: {metric: the best method}} in one domain. Args: table: from ``summary``."""
    part = table[table["domain"] == domain]
    found = {}
    for (reference, metric), some in part.groupby(["reference", "metric"], sort=False):
        found.setdefault(reference, {})[metric] = first(some)
    return found


def cells(scores) -> dict[tuple, dict[str, pd.DataFrame]]:
    """{(domain, reference, metric): {method: columns row, patient, seed, value}}."""
    return {
        key: {m: table[["row", "patient", "seed", "value"]] for m, table in part.groupby("method", sort=False)}
        for key, part in scores.groupby(CELL, sort=False)
    }


def pair(tables, first: str, second: str, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Two methods by every metric that both were scored by: ``paired.compare``, a row a metric.

    The p values are Holm-corrected over these metrics, which is the whole family: no other method changes one of them.

    Args: tables: {metric: {method: its scores}}, of one domain and reference. draws, seed: of the bootstrap.
    Returns: what ``paired.compare`` gives, ``p_slices_holm``, ``p_patients_holm``, ``p_mixed_holm``, and ``trained``:
        whether one of the two was trained and another training could thus give another difference.
    """
    rows = {}
    for metric, found in tables.items():
        if first in found and second in found:
            rows[metric] = paired.compare(found[first], found[second], draws=draws, seed=seed)
            rows[metric]["trained"] = any(
                (found[method]["seed"] != paired.UNTRAINED).any() for method in (first, second)
            )
    tests = pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")
    for test in ("p_slices", "p_patients", "p_mixed"):
        tests[f"{test}_holm"] = paired.holm(tests[test])
    return tests


def against_best(scores, table, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """The best method of every cell against every other one, a row a comparison: ``pair``.

    Args: table: from ``summary``. draws, seed: of the bootstrap.
    """
    rows, found = [], cells(scores)
    best = {key: first(part) for key, part in table.groupby(CELL, sort=False)}
    for domain, reference in dict.fromkeys(key[:2] for key in found):
        of_metrics = {key[2]: tables for key, tables in found.items() if key[:2] == (domain, reference)}
        done = {}  # a pair is tested by all metrics at once, whichever of them put it here
        for metric, tables in of_metrics.items():
            top = best[domain, reference, metric]
            for other in (name for name in tables if top and name != top):
                if (top, other) not in done:
                    done[top, other] = pair(of_metrics, top, other, draws, seed)
                row = dict(zip(CELL, (domain, reference, metric))) | {"first": top, "other": other}
                rows.append(row | done[top, other].loc[metric].to_dict())
    return pd.DataFrame(rows).infer_objects()


def against_older(scores, order, direction, unfinished=(), draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Every method against the best of those before it, by anatomy (and all of them) and metric: ``pair``.

    Args:
        scores: columns row, patient, anatomy, metric, method, seed, value.
        order: methods, oldest first. direction: {metric: 1 where more is better, -1 where less is}, in the order told.
        unfinished: methods not at their working point: they get no verdict and are nobody's best older one.
    Returns: a row an anatomy, metric and method with its mean; where there is an older one ``best before``, what the
        method is ``better by`` (in the metric's unit, positive = better) with low and high, p values and ``verdict``.
    """
    rows = []
    for anatomy in [*sorted(scores["anatomy"].unique()), "all"]:
        part = scores if anatomy == "all" else scores[scores["anatomy"] == anatomy]
        tables = {name: dict(list(some.groupby("method"))) for name, some in part.groupby("metric")}
        done = {}
        for metric in (name for name in direction if name in tables):
            means = part[part["metric"] == metric].groupby("method")["value"].mean()
            for place, method in enumerate(order):
                older = [name for name in order[:place] if name in means and name not in unfinished]
                if method not in means:
                    continue
                rows.append({"anatomy": anatomy, "metric": metric, "method": method, "mean": means[method]})
                if older:
                    top = max(older, key=lambda name: direction[metric] * means[name])
                    if (method, top) not in done:
                        done[method, top] = pair(tables, method, top, draws, seed)
                    tests = done[method, top]
                    rows[-1] |= {"best before": top, "better by": direction[metric] * tests.difference[metric]}
                    rows[-1] |= tests.loc[metric].drop("difference").to_dict()
                    rows[-1]["verdict"] = verdicts(tests, pd.Series(direction)[tests.index])[metric]
                    if method in unfinished:
                        rows[-1]["verdict"] = "not at a working point"
                    if direction[metric] < 0:
                        rows[-1] |= {"low": -tests.high[metric], "high": -tests.low[metric]}
    return pd.DataFrame(rows)


def verdicts(tests, direction) -> pd.Series:
    """What each comparison says of two *methods*: the interval over patients and trainings, and nothing else.

    ``better`` or ``worse`` (of the first) and ``differs`` (by a metric without a direction) where it excludes 0, else
    ``not shown``. There is none with ``too few patients``, nor with ``one training``, whose interval speaks of these
    networks and not of their methods, nor where the two have ``no seed in common``.

    Args: tests: from ``pair`` or ``against_best``. direction: of their metrics, 1, -1 or 0.
    """
    sign = np.sign(tests["low"].where(tests["low"] > 0, tests["high"].where(tests["high"] < 0, 0)))
    alone = tests["trained"].astype(bool) & (tests["seeds"] < 2)
    found = np.select(
        [tests["patients"] < intervals.MIN_PATIENTS, alone & (tests["seed_pairing"] == "averaged"), alone, sign == 0,
         direction == 0, sign == direction],
        ["too few patients", "no seed in common", "one training", "not shown", "differs", "better"], "worse",
    )  # fmt: skip
    return pd.Series(found, tests.index)


def closest(tests) -> tuple[str, str, str] | None:
    """(metric, first, other) of the smallest difference, whose labels are swapped as a control.

    None where nothing was compared, or for one patient, whose labels are swapped for all slices or for none.

    Args: tests: from ``against_best``, of one cell.
    """
    if tests.empty or tests["patients"].max() < 2:
        return None
    row = tests.loc[tests["difference"].abs().idxmin()]
    return row["metric"], row["first"], row["other"]


def judged(tests) -> pd.DataFrame:
    """Comparisons of ``against_best`` with their ``verdict`` and ``better_by``, low, high: positive is better."""
    found = verdicts(tests, tests["metric"].map(lambda name: info(name).direction))
    return turned(tests.assign(verdict=found), "difference")


def beside_known(scores, known, best: dict, domain: str, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """``judged`` comparisons of the best method by each score with known denoisers, such as filters, in one domain, on
    the slices on which those were scored.

    Args: scores: from ``read``. known: scores alike, or none. best: from ``firsts``. draws, seed: of the bootstrap.
    """
    if known.empty:
        return pd.DataFrame(columns=[*CELL, "first", "other", "verdict"])
    others, rows = cells(known), []
    for (where, reference, metric), tables in cells(scores).items():
        first = best.get(reference, {}).get(metric) if where == domain else None
        for name, table in others.get((domain, reference, metric), {}).items() if first else ():
            own = tables[first][tables[first]["row"].isin(table["row"])]
            found = pair({metric: {first: own, name: table}}, first, name, draws, seed).loc[metric]
            rows.append(
                dict(zip(CELL, (domain, reference, metric))) | {"first": first, "other": name} | found.to_dict()
            )
    return judged(pd.DataFrame(rows))


def turned(table, value: str) -> pd.DataFrame:
    """A table of differences with ``better_by``, ``low`` and ``high``: the same turned so that positive is better.

    A metric without a direction stays as it is.

    Args: table: columns metric, ``value`` (the difference), low, high.
    """
    sign = table["metric"].map(lambda name: info(name).direction or 1)
    ends = np.sort(table[["low", "high"]].to_numpy(np.float64) * sign.to_numpy()[:, None], axis=1)
    return table.assign(better_by=sign * table[value], low=ends[:, 0], high=ends[:, 1])


def sides(scores, domain: str, reference: str, metric: str, top: str, draws: int = 10_000, seed: int = 0) -> tuple:
    """``by_patient`` of all methods over the LDCT, and of the method ``top`` over each other."""
    names = [name for name in dict.fromkeys(scores["method"]) if name != LDCT]
    pairs = {m: (m, LDCT) for m in names}, {m: (top, m) for m in names}
    return tuple(by_patient(scores, domain, reference, metric, side, draws, seed) for side in pairs)


def by_patient(
    scores, domain: str, reference: str, metric: str, pairs, draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """How much better methods are than others in one cell, a row a pair and patient; positive is better.

    Args:
        scores: from ``read``. draws, seed: of the bootstrap.
        pairs: {whose line it is: (method, the other one)}; where the two are one it is left out.
    Returns: method (whose line it is), patient, anatomy, better_by (mean over slices and seeds), and of the pair the
        mean over patients with its interval: mean, low, high.
    """
    tables, anatomy_of = cells(scores)[domain, reference, metric], dict(zip(scores["patient"], scores["anatomy"]))
    found = []
    for line, (method, other) in pairs.items():
        if method == other:
            continue
        gap = paired.gaps(tables[method], tables[other]) * (info(metric).direction or 1)
        span = intervals.patient_bootstrap(gap, draws=draws, seed=seed)
        each = pd.DataFrame({"patient": gap.index, "better_by": gap.mean(axis=1).to_numpy()})
        each = each.assign(anatomy=each["patient"].map(anatomy_of), method=line)
        found.append(each.assign(mean=span.mean, low=span.low, high=span.high))
    columns = ["method", "patient", "anatomy", "better_by", "mean", "low", "high"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def published_effects() -> pd.DataFrame:
    """Table 4 of Viana et al. derived again from their means and SDs: a row a method that E1 is compared with.

    All p values are printed as 0.0 there; they come from the slices of two patients.
    """
    first = PUBLISHED["E1"]["ssim"]
    return pd.DataFrame(
        [
            {"comparison": f"E1 against {name}", "SSIM of E1": f"{first[0]:.4f}", "SSIM": f"{values['ssim'][0]:.4f}",
             "d derived": paired.d_from(*first, *values["ssim"]), "d published": PUBLISHED_D[name],
             "p published": "0.0", "smallest p of 2 patients": paired.smallest_p(2)}
            for name, values in PUBLISHED.items() if name != "E1"
        ]
    )  # fmt: skip


def tallied(found) -> dict[str, int]:
    """How many verdicts decide, go either way, and are missing for want of patients or trainings."""
    counts = found.value_counts()
    words = {"better": "better", "worse": "worse", "too_few": "too few patients", "one_training": "one training"}
    return {"decided": int(found.isin(DECIDED).sum())} | {k: int(counts.get(word, 0)) for k, word in words.items()}


def counted(found) -> dict[str, int]:
    """How many comparisons there are, have a verdict, go to the first method, and are significant over slices.

    Args: found: from ``judged``.
    """
    return {
        "comparisons": len(found), "decided": int(found["verdict"].isin(DECIDED).sum()),
        "better": int((found["verdict"] == "better").sum()),
        "significant_slices": int((found["p_slices"] < intervals.ALPHA).sum()),
    }  # fmt: skip


DECIDED = ("better", "worse", "differs", "not shown")  # verdicts; the others say why there is none


def gains(scores, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Every method minus the LDCT, a row a cell and method: mean over patients with its interval, paired d, and how
    many patients gain."""
    rows = []
    for key, tables in cells(scores).items():
        for method in (m for m in tables if m != LDCT):
            gap = paired.gaps(tables[method], tables[LDCT])
            if gap.empty:
                continue
            span, means = intervals.patient_bootstrap(gap, draws=draws, seed=seed), gap.mean(axis=1)
            rows.append(
                {"method": method} | dict(zip(CELL, key))
                | {"gain": span.mean, "low": span.low, "high": span.high, "paired d": paired.cohen_dz(means, 0 * means),
                   "patients that gain": int((np.sign(means) == info(key[2]).direction).sum()),
                   "patients": span.patients, "seeds": span.seeds}
            )  # fmt: skip
    return pd.DataFrame(rows)


def over_psi(tables, arms, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Every arm minus its base, by network (where there are several), context, layer, psi and whether psi was held:
    mean over patients with its interval, and what psi was at start, half and end.

    Args: tables: cells of one domain. arms: from ``designs.arms``.
    """
    place, rows = [name for name in ("network", "context", "layer", "psi", "held") if name in arms], []
    told = [*place, "at", "method", "base", *(c for c in arms if c.startswith(("psi_", "gradient_share_")))]
    for (_, reference, name), found in tables.items():
        for arm in arms.sort_values(place, kind="stable").to_dict("records"):
            gap = paired.gaps(found[arm["method"]], found[arm["base"]])
            span = intervals.patient_bootstrap(gap, draws=draws, seed=seed)
            rows.append(
                {"reference": reference, "metric": name} | {key: arm[key] for key in told}
                | {"difference": span.mean, "low": span.low, "high": span.high, "seeds": span.seeds}
            )  # fmt: skip
    return pd.DataFrame(rows)


def best_effect(effects, reference: str, metric: str) -> pd.Series:
    """The best loss of one reference and metric: of fixed lambdas, where there are any, and of those with an MSE base.

    Differences from a base and from the LDCT do not compare.

    Args: effects: from ``over_psi``, turned so that ``better_by`` is positive for better (``turned``).
    """
    part = effects[(effects["reference"] == reference) & (effects["metric"] == metric)]
    part = part if part["held"].all() else part[~part["held"].astype(bool)]
    part = part if (part["base"] == LDCT).all() else part[part["base"] != LDCT]
    return part.loc[part["better_by"].idxmax()]


def interactions(tables, arms, tolerance: float, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Differences of differences of two contexts and two layers, at each setting of psi that has all four
    (``paired.interaction``), all of one network.

    Four cells that were set to one psi need not keep it. A row is called an interaction at that psi only if, at start,
    half and end of training, the psi of the four lie within ``tolerance`` of each other; else it is a comparison at
    fixed lambda, in which context and psi differ together.

    Args: as for ``over_psi``. tolerance: largest difference between the psi of two cells, in [0, 1]. Of several lambdas
        that were given by hand for one cell, the one nearest to psi .95 is taken, and the row is at "given λ".
    """
    by = [name for name in ("network", "at") if name == "at" or name in arms]
    names = [*by, "contrast", "kind", "psi of the cells, %", "apart", "reference", "metric", "interaction", "low",
             "high", "patients", "seeds", "excludes 0"]  # fmt: skip
    arms, rows = arms.assign(at=arms["at"].where(arms["lam"].isna(), "given λ")), []
    for where, some in arms.assign(off=(arms["psi"] - 0.95).abs()).sort_values("off").groupby(by):
        cells = some.drop_duplicates(["context", "layer"]).set_index(["context", "layer"])
        pairs = (itertools.combinations(sorted(some[column].unique()), 2) for column in ("context", "layer"))
        for (c1, c2), (shallow, deep) in itertools.product(*pairs):
            wanted = {"a1": (c1, deep), "a2": (c1, shallow), "b1": (c2, deep), "b2": (c2, shallow)}
            if not all(key in cells.index for key in wanted.values()):
                continue
            went = cells.loc[list(wanted.values()), ["psi_start", "psi_half", "psi_end"]].astype(float)
            apart = np.ptp(went.to_numpy(), axis=0).max()  # NaN where a psi is not known: nothing to call one psi
            at = where[-1]
            other = "a λ that moves" if some["held"].any() else "fixed λ"
            other = f"comparison at {at}" if at == "given λ" else f"comparison at {other}, {at}"
            kind = f"interaction at {at}" if apart <= tolerance else other
            told = "; ".join(f"{c}, {y}: " + " → ".join(f"{100 * v:.0f}" for v in row)
                             for (c, y), row in zip(went.index, went.to_numpy()))  # fmt: skip
            for (_, reference, name), found in tables.items():
                four = {k: intervals.by_patient(found[cells["method"][key]]) for k, key in wanted.items()}
                span = paired.interaction(four, draws=draws, seed=seed)
                excludes = {None: "–", True: "yes", False: "no"}[span.excludes_zero]
                rows.append((*where, f"{c1} − {c2}, {deep} − {shallow}", kind, told, apart, reference, name, span.mean,
                             span.low, span.high, span.patients, span.seeds, excludes))  # fmt: skip
    return pd.DataFrame(rows, columns=names)
