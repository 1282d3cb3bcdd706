"""Runs of 05_invariances side by side: what each of several denoisers keeps of lesions, and hides of their changes."""

import pandas as pd

from ldct_utils.invariance import evidence
from ldct_utils.report.sentences import capital, kept_least, listed, percent, some
from ldct_utils.stats import intervals

ALIKE = (
    *("crop", "crops", "most_patients", "realisations", "level", "region", "faint", "samples", "distance", "scale_hu"),
    *("tile", "alpha", "sigma_hu", "lr", "iterations", "aim_px"),
)

# Heads of the columns that a reader sees of ``lesion_counts``, and what the quantities of ``kept`` are.
COUNTS = {
    "denoiser": "network", "method": "input found by", "tested": "tested, with all draws or scans",
    "changed": "changed", "hidden": "hidden of these",
    ("share", "low", "high"): "share hidden, mean over patients [95 %]",
}  # fmt: skip
QUANTITIES = {
    "d' kept": "d′ kept, CHO, retrained", "d' kept, NPW": "d′ kept, NPW", "contrast kept": "contrast kept",
}  # fmt: skip
KEPT = {"denoiser": "network or control"} | {
    (name, f"{name} low", f"{name} high"): f"{words}, % [95 %]" for name, words in QUANTITIES.items()
}  # heads of ``side_by_side``
OF = {"d' kept": "d′ for CHO, retrained", "d' kept, NPW": "d′ for NPW", "contrast kept": "contrast"}  # in a sentence


def named(runs) -> dict:
    """{denoiser in words: run}, for runs that examined the same patients in the same way.

    Raises: ValueError: for runs that searched or measured differently, or on cohorts without known lesions.
    """
    asked = [*ALIKE, *["context"] * any(one.params["distance"] == "vgg16" for one in runs)]
    differing = [name for name in asked if len({str(one.params.get(name)) for one in runs}) > 1]
    if differing or len({one.numbers["cohort"] for one in runs}) > 1:
        raise ValueError(f"the runs of 05_invariances do not compare: other {', '.join(differing) or 'cohorts'}")
    if without := [one.name for one in runs if "d_prime_kept" not in one.numbers]:
        raise ValueError(f"the runs {', '.join(without)} of 05_invariances had no known lesions: leave them out")
    found = {}
    for one in runs:
        name = f"{one.numbers['network']} · {one.numbers['method']}"
        found[f"{name} · {one.numbers['denoiser']}" if name in found else name] = one
    return found


def lesion_counts(runs: dict) -> pd.DataFrame:
    """A row a denoiser and method of finding images: ``evidence.counted`` of the lesions."""
    counts = {name: one.table("lesion_counts") for name, one in runs.items()}
    return pd.concat(counts, names=["denoiser"]).reset_index("denoiser").reset_index(drop=True)


def searched(counts) -> tuple[int, int]:
    """How many lesions searches changed, and of how many. Args: counts: from ``lesion_counts``."""
    part = counts[counts["method"].isin(["search", "aimed"])]
    return int(part["changed"].sum()), int(part["tested"].sum())


def findable(runs: dict) -> float:
    """Share of a small change under which a search finds it worth making: the root of alpha."""
    return next(iter(runs.values())).params["alpha"] ** 0.5


def kept(run) -> dict[str, pd.Series]:
    """What f keeps, by quantity and patient: d' of the Hotelling and the NPW observer, and contrast (1: all of it)."""
    return kept_in(run.table("contrasts"), run.table("detection"))


def kept_in(contrasts, detection) -> dict[str, pd.Series]:
    """``kept``, from tables of ``examine``."""
    return {
        "d' kept": evidence.d_prime_kept(detection),
        "d' kept, NPW": evidence.d_prime_kept(detection, "d_npw"),
        "contrast kept": contrasts.groupby(["patient", "lesion"]).kept.mean().groupby("patient").mean(),
    }


def compared(by_patient: dict, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """A row a denoiser and quantity: the mean over patients, and its difference from the first denoiser's, paired.

    Args: by_patient: {denoiser: from ``kept``}. draws, seed: of the bootstrap.
    """
    first, rows = next(iter(by_patient)), []
    for name, quantities in by_patient.items():
        for quantity, values in quantities.items():
            span = intervals.patient_bootstrap(values, draws=draws, seed=seed)
            row = {"denoiser": name, "quantity": quantity, "mean": span.mean, "low": span.low, "high": span.high}
            if name != first:
                gap = (values - by_patient[first][quantity]).dropna()
                apart = intervals.patient_bootstrap(gap, draws=draws, seed=seed)
                row |= {f"minus {first}": apart.mean, "its low": apart.low, "its high": apart.high}
            rows.append(row)
    return pd.DataFrame(rows)


def side_by_side(table) -> pd.DataFrame:
    """Rows of ``compared`` as a row a denoiser, in their order: every quantity with its ``low`` and ``high``, %."""
    wide = {"mean": "{}", "low": "{} low", "high": "{} high"}
    parts = [
        100 * part.set_index("denoiser")[[*wide]].rename(columns={end: form.format(name) for end, form in wide.items()})
        for name, part in table.groupby("quantity", sort=False)
    ]
    return pd.concat(parts, axis=1).round(3).reset_index()  # what is whole up to rounding reads 100


def least_kept(table, says: dict) -> str:
    """Which network keeps least of the lesions' contrast; of two, which keeps less; whether that is shown.

    Args: table: of ``compared``. says: {denoiser: its words}.
    """
    rows = table[table["quantity"] == "contrast kept"].set_index("denoiser")
    kept = rows["mean"].sort_values()
    shares = [percent(share) for share in kept]
    what = "the lesions' contrast"
    if len(kept) != 2:
        return kept_least(says[kept.index[0]], shares[0], len(kept), what)
    less, more = (says[name] for name in kept.index)
    ends = rows.dropna(subset=["its low"])
    if len(ends) and ends["its low"].iloc[0] <= 0 <= ends["its high"].iloc[0]:
        return f"{less} and {more} are not shown to differ in {what} that they keep ({shares[0]} and {shares[1]})."
    return f"{less} keeps less of {what} than {more} ({shares[0]} against {shares[1]})."


def differences(apart, says: dict, first: str) -> str:
    """Which differences from the first network are shown, and which way.

    Args: apart: rows of ``compared`` with an interval, at least one. says: {denoiser: its words}. first: a denoiser.
    """
    told, shown = [], 0
    for name, part in apart.groupby("denoiser", sort=False):
        more, less = (
            [OF[one] for one in part[side]["quantity"]] for side in (part["its low"] > 0, part["its high"] < 0)
        )
        words = [f"{word} {listed(which)}" for word, which in (("more", more), ("less", less)) if which]
        told += [f"{says[name]} keeps {' and '.join(words)}"] if words else []
        shown += len(more) + len(less)
    which = f": against {says[first]}, {listed(told)}" if told else ""
    count = some(shown, len(apart), "difference")
    return f"{capital(count)} {'is' if shown == 1 or len(apart) == 1 else 'are'} shown{which}."
