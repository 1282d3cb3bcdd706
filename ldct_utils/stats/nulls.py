"""Nulls: how often each test of two methods fires where there is nothing to find.

In the first the labels of two methods are swapped within patients, which leaves what patients share. In the second two
trainings of *one* method are compared as if they were two methods. A test that answers for methods is rarely
significant in either; one that takes the networks as given passes the first and fails the second.
"""

import itertools

import numpy as np
import pandas as pd
from scipy import stats as distributions

from ldct_utils.stats import intervals, paired

# The tests and what they are called. With one training each, all four take the networks as given.
TESTS = {"slices": "Wilcoxon over slices", "patients": "Wilcoxon over patients", "interval": "interval over patients",
         "mixed": "mixed model"}  # fmt: skip


def swapped(one, other, swaps: int, seed: int = 0) -> pd.Series:
    """In how many swaps each of ``TESTS`` is significant, where the labels of two methods are swapped within patients.

    Args: one, other: scores in one cell, as in ``cells``. swaps: each swaps every patient's labels or does not.
    Returns: {test: number}; NaN for the bootstrap under ``intervals.MIN_PATIENTS`` patients.
    """
    both, _ = paired.paired(one, other)
    gap = both.assign(gap=both["first"] - both["second"]).groupby(["row", "patient"])["gap"].mean().reset_index()
    names, rng, found = gap["patient"].unique(), np.random.default_rng(seed), []
    for _ in range(swaps):
        values = gap["gap"] * gap["patient"].map(dict(zip(names, rng.choice([-1, 1], len(names)))))
        means = values.groupby(gap["patient"]).mean()
        inside = intervals.patient_bootstrap(means, draws=2000, seed=seed)
        p_values = (
            paired.wilcoxon(values, 0 * values),
            paired.wilcoxon(means, 0 * means),
            paired.mixed_model(values, 0 * values, gap["patient"])["p"],
        )
        found.append(_significant(*p_values, inside.low, inside.high))
    return pd.DataFrame(found, columns=list(TESTS)).sum(min_count=1)


def _significant(p_slices, p_patients, p_mixed, low, high) -> dict[str, float]:
    """{test: 1 or 0}, NaN where a test cannot be made."""
    fired = [float("nan") if np.isnan(p) else float(p < intervals.ALPHA) for p in (p_slices, p_patients, p_mixed)]
    excludes = float("nan") if np.isnan(low) else float(low > 0 or high < 0)
    return dict(zip(TESTS, (*fired[:2], excludes, fired[2])))


def other_seeds(tables, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Every two trainings of one method compared as two methods are, a row a pair: nothing is to be found there that
    belongs to methods.

    A test that speaks of methods is significant in few of these pairs. One that takes the networks as given is so in
    nearly all, where trainings differ.

    Args: tables: {method: its scores} of one cell, as in ``cells``. draws, seed: of the bootstrap.
    Returns: columns method, seed, other_seed, difference, and for each of ``TESTS`` 1 or 0 (NaN: no interval).
    """
    rows = []
    for method, table in tables.items():
        trainings = {number: part.assign(seed=paired.UNTRAINED) for number, part in table.groupby("seed")}
        for one, other in itertools.combinations(trainings, 2):
            found = paired.compare(trainings[one], trainings[other], draws=draws, seed=seed)
            fired = _significant(*(found[name] for name in ("p_slices", "p_patients", "p_mixed", "low", "high")))
            rows.append({"method": method, "seed": one, "other_seed": other, "difference": found["difference"]} | fired)
    columns = ["method", "seed", "other_seed", "difference", *TESTS]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(TESTS, float))


def both(tables, swap, swaps: int, seed: int = 0) -> pd.DataFrame:
    """What the tests find where there is nothing to find: labels swapped within patients, and other trainings.

    Args:
        tables: {metric: {method: its scores}}, of one domain and reference.
        swap: (metric, method, method) whose labels are swapped, or None. swaps: how often.
    Returns: a row a null and metric: null (``labels swapped`` or ``other training``), metric, cases, for each of
        ``TESTS`` in how many it is significant, and for the second null the pooled ``sd`` between trainings of one
        method with its 95 % interval (``low``, ``high``), ``df`` and the number of ``methods``.
    """
    rows = []
    if swap and swaps:
        metric, one, other = swap
        counts = swapped(tables[metric][one], tables[metric][other], swaps, seed)
        rows.append({"null": "labels swapped", "metric": metric, "cases": swaps} | counts.to_dict())
    for metric, found in tables.items():
        pairs = other_seeds(found, seed=seed)
        finite = {name: table[np.isfinite(table["value"])] for name, table in found.items()}
        means = [intervals.by_patient(finite[name]).dropna().mean() for name in pairs["method"].unique()]
        spread = intervals.pooled_sd(means)
        rows.append(
            {"null": "other training", "metric": metric, "cases": len(pairs)}
            | pairs[list(TESTS)].sum(min_count=1).to_dict()
            | {"sd": spread.sd, "low": spread.low, "high": spread.high, "df": spread.df, "methods": len(means)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _digits(value: float) -> str:
    """Two significant digits, a last zero among them."""
    return f"{value:#.2g}".rstrip(".")


def in_words(found, labels) -> pd.DataFrame:
    """The table of ``both`` for a reader. Args: labels: {metric: what it is called, with its unit}."""

    def of(count, cases):
        return "–" if pd.isna(count) or not cases else f"{count:.0f} of {cases:.0f}"

    other = found["null"] == "other training"
    spread = [f"{_digits(r.sd)} [{_digits(r.low)}, {_digits(r.high)}]" if o and r.methods else "–"
              for o, r in zip(other, found.itertuples())]  # fmt: skip
    kind = found["null"].map({"labels swapped": "two methods, labels swapped within patients",
                              "other training": "two trainings of one method"})  # fmt: skip
    columns = {"compared, though equal": kind, "score": found["metric"].map(labels)}
    for test, name in TESTS.items():
        columns[f"significant, {name}"] = [of(*pair) for pair in zip(found[test], found["cases"])]
    return pd.DataFrame(columns | {"SD between trainings": spread})


def limits_said(patients: int, metrics: int, trainings: int) -> str:
    """What this many patients and trainings a method can show at the most, in sentences."""
    floor, people = paired.smallest_p(patients), f"{patients} patient{'s' * (patients != 1)}"
    words = [f"The smallest p that {people} can give is {floor:.3g}."]
    if metrics > 1:
        words.append(f"After Holm's correction for {metrics} metrics it is {min(1, floor * metrics):.3g}.")
    if few := patients < intervals.MIN_PATIENTS:
        words.append(f"Under {intervals.MIN_PATIENTS} patients no interval is given.")
    if trainings == 1:
        whom = "these slices and this network" if few else "this network, for other patients too"
        words.append(f"One training gives no verdict on its method: its results speak of {whom}.")
    if trainings == 2:
        words.append("Two trainings give a poor idea of the spread between them.")
    return " ".join(words)


def trainings_said(found, metric: str, label: str, patients: int) -> str:
    """What the other trainings say of the Wilcoxon test over patients, in sentences.

    Args: found: from ``both``. metric: one of its metrics; label: what it is called. patients: how many.
    """
    (row,) = found[(found["null"] == "other training") & (found["metric"] == metric)].to_dict("records")
    count, pairs, test = row["patients"], row["cases"], "the Wilcoxon test over patients"
    if not pairs:
        return (
            "No method was trained twice, so how much two trainings of one method differ is not known. No result here "
            "speaks of methods; each speaks of these networks."
        )
    if row["sd"] == 0:
        return f"All trainings of a method have the same {label}, so another seed changed nothing here."
    if paired.smallest_p(patients) >= intervals.ALPHA:
        return (
            f"{patients} patient{' is' if patients == 1 else 's are'} too few for {test} to be significant, so it "
            "cannot show whether two trainings of one method differ."
        )
    if pairs == 1:
        return (
            f"The one pair of trainings of one method {'differs' if count else 'does not differ'} significantly in "
            f"{label} by {test}. One pair does not show how often."
        )
    said = (
        f"Two trainings of one method differ significantly in {label} in {count:.0f} of {pairs} pairs by {test}, where "
        "5 % would be right for a test of methods. "
    )
    if distributions.binom.sf(count - 1, pairs, intervals.ALPHA) < intervals.ALPHA:
        return said + "This test speaks of these networks, not of their methods."
    return said + "More than 5 % was not shown."


def swapped_said(found, labels: dict) -> str:
    """How often tests find a difference between swapped labels, in a sentence; empty where none were swapped.

    Args: found: from ``both``. labels: {metric: what it is called}.
    """
    rows = found[(found["null"] == "labels swapped") & (found["cases"] > 0)]
    if rows.empty or rows[["slices", "patients"]].isna().any(axis=None):
        return ""
    row = rows.iloc[0]
    by_slices, by_patients = (100 * row[name] / row["cases"] for name in ("slices", "patients"))
    return (
        f"With labels swapped within patients, the test over slices finds a difference in {labels[row['metric']]} in "
        f"{by_slices:.0f} % of {row['cases']:.0f} trials, and over patients in {by_patients:.0f} %; 5 % is right."
    )


def told(found, labels: dict, of_trainings: str, spread: str) -> tuple[str, str]:
    """Finding and reading aid of the table of nulls: swapped labels first, where there are any.

    Args: found, labels: as of ``swapped_said``. of_trainings, spread: from ``trainings_said`` and ``spread_said``.
    """
    first, *rest = filter(None, (swapped_said(found, labels), of_trainings, spread))
    return first, " ".join(rest)


def spreads(found) -> dict[str, float]:
    """{metric: pooled SD between trainings of one method} of ``both``; NaN where none was trained twice."""
    other = found[found["null"] == "other training"]
    return dict(zip(other["metric"], other["sd"].astype(float)))


def of_trainings(found, metric: str) -> dict:
    """What the other trainings gave, as numbers: pairs, how many are significant by a metric, and the SDs of all."""
    row = found[(found["null"] == "other training") & (found["metric"] == metric)].iloc[0]
    return {"trainings_compared": int(row["cases"]), "trainings_significant": int(np.nan_to_num(row["patients"])),
            "trainings_sd": spreads(found)}  # fmt: skip


def spread_said(found, units) -> str:
    """The SDs between trainings of one method, in a sentence; empty where no method was trained twice.

    Args: found: from ``both``. units: {metric: (label, unit)} of those that are told.
    """
    told = found[(found["null"] == "other training") & found["metric"].isin(units)]
    if told.empty or not told["methods"].iloc[0]:
        return ""
    spans = []
    for row in told.itertuples():
        label, unit = units[row.metric]
        inside = f"{_digits(row.low)} to {_digits(row.high)}"
        spans.append(f"{_digits(row.sd)} {unit} in {label} (95 % interval {inside})")
    methods, df = int(told["methods"].iloc[0]), int(told["df"].iloc[0])
    whose = f"pooled over {methods} methods" if methods > 1 else "of the one method that was trained more than once,"
    return (
        f"Trainings of one method differ with an SD of {' and '.join(spans)}, {whose} with {df} "
        f"degree{'s' * (df != 1)} of freedom."
    )
