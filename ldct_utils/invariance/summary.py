"""What was examined crop by crop, summed up over patients: changes beside those of a repeated scan, and lesions.

The tables that these functions take are those of ``examine.Examination``.
"""

import numpy as np
import pandas as pd

from ldct_utils.invariance import evidence
from ldct_utils.stats import intervals

# RMS changes that are held against those of a repeated scan: column of the table of changes, and what it is called.
QUANTITIES = {"in_hu": "input", "out_hu": "output", "low_in_hu": "input, blurred", "low_out_hu": "output, blurred"}
CALLED = {"search": "plain search", "aimed": "aimed search"}  # methods as readers know them, where that is another name


def called(method: str) -> str:
    """A method as readers know it, e.g. ``aimed search``; ``repeated scan (96 pixels)`` for a null."""
    if method.startswith("null, "):
        return f"repeated scan ({method.removeprefix('null, ')})"
    return CALLED.get(method, method)


def ratios(changes, nulls: dict) -> dict:
    """{method: changes as multiples of its null's, a row a patient, columns ``QUANTITIES``}, of the patients' means.

    Args: changes: a row a method and image: ``method``, ``patient``, and the columns ``QUANTITIES``, HU.
        nulls: {method: the method of its null, on the same pixels}.
    """
    means_of = changes.groupby(["method", "patient"], sort=False)[[*QUANTITIES]].mean()
    return {method: means_of.loc[method] / means_of.loc[null] for method, null in nulls.items()}


def against_null(changes, nulls: dict, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """How large the changes of each method are beside those that other noise makes.

    Args: changes, nulls: as of ``ratios``, with a column ``pix_md``. draws, seed: of the bootstrap over patients.
    Returns: a row a method and quantity: ``hu`` and ``null_hu``, means over patients; ``ratio``, the mean of the
        patients' own, with its 95 % interval ``low``, ``high``, NaN for too few patients; ``pix_md`` of the method.
    """
    by_patient = changes.groupby(["method", "patient"], sort=False)[[*QUANTITIES, "pix_md"]].mean()
    rows = []
    for method, ratio in ratios(changes, nulls).items():
        for quantity, words in QUANTITIES.items():
            own, null = (by_patient.loc[one][quantity].mean() for one in (method, nulls[method]))
            span = intervals.patient_bootstrap(ratio[quantity], draws=draws, seed=seed)
            rows.append({"method": method, "quantity": words, "hu": own, "null_hu": null, "ratio": span.mean,
                         "low": span.low, "high": span.high, "pix_md": by_patient.pix_md[method].mean()})  # fmt: skip
    return pd.DataFrame(rows)


def by_kind(regions) -> pd.DataFrame:
    """Counts over all images of all lesions of a kind: a row a method and kind; patients, images, changed, hidden.

    Args: regions: of ``evidence.kinds`` of ``evidence.verdicts``.
    """
    return regions.groupby(["method", "radius, mm", "contrast"], observed=True).agg(
        patients=("patient", "nunique"), images=("hidden", "size"), changed=("changed", "sum"), hidden=("hidden", "sum")
    ).reset_index()  # fmt: skip


def beyond(own, level: float) -> dict:
    """{"in", "out": share of segments with p <= level, mean over patients}: ``level`` is right where p is uniform.

    Args: own: a row a segment: ``patient``, ``p_in``, ``p_out``.
    """
    return {end: (own[f"p_{end}"] <= level).groupby(own.patient).mean().mean() for end in ("in", "out")}


def hiding(counts, methods, what: str = "lesion") -> str:
    """What searches changed and the network hides, in one sentence.

    Args: counts: of ``evidence.counted``. methods: those that are told, of one image a region. what: the regions.
    """
    rows = [row for row in counts.itertuples() if row.method in methods]
    if not rows:
        return f"No {what} lies whole in these images."
    first, *others = rows
    of = f"{first.tested} {what}{'s' * (first.tested != 1)} by more than a repeated scan explains"
    if not any(row.changed for row in rows):
        who = f"The {called(first.method)}" if not others else "No search"
        return f"{who} changed {'none' if not others else 'any'} of {of}, so hiding was not tested."
    parts = [
        f"changed {row.changed or 'none'} of {of if row is first else row.tested}"
        + (f", of which the network hides {row.hidden or 'none'}" if row.changed else "")
        for row in rows
    ]
    return "T" + "; ".join(f"the {called(row.method)} {part}" for row, part in zip(rows, parts))[1:] + "."


def kept_by_lesion(contrasts) -> pd.DataFrame:
    """A row a lesion: ``mean``, ``min``, ``max`` over noise realisations of the share of its contrast that is kept.

    Args: contrasts: of ``evidence.kinds``, a row a lesion and realisation, with ``kept``.
    """
    about = ["patient", "lesion", "anatomy", "radius_mm", "contrast"]
    return contrasts.groupby(about).kept.agg(["mean", "min", "max"]).reset_index()


def d_prime_by_lesion(detection) -> pd.DataFrame:
    """A row a lesion: ``d_full`` before it was weakened, and shares of d' that f keeps, ``share_cho``, ``share_npw``.

    Args: detection: a row a lesion and image ("x" or "f(x)").
    """
    pairs = detection.pivot(index=["patient", "lesion", "d_full"], columns="image", values=["d_prime", "d_npw"])
    shares = {f"share_{name}": pairs[column, "f(x)"] / pairs[column, "x"]
              for name, column in (("cho", "d_prime"), ("npw", "d_npw"))}  # fmt: skip
    return pd.DataFrame(shares).reset_index()


def kept(contrasts, detection, draws: int = 10_000, seed: int = 0) -> dict:
    """What f keeps of lesions, {what: ``intervals.Interval`` over patients}: ``contrast``, ``d_prime``, ``d_npw``.

    Args: contrasts: a row a lesion and realisation, with ``kept``. detection: as for ``evidence.d_prime_kept``.
    """
    contrast = contrasts.groupby(["patient", "lesion"]).kept.mean().groupby("patient").mean()
    shares = {column: evidence.d_prime_kept(detection, column) for column in ("d_prime", "d_npw")}
    return {
        what: intervals.patient_bootstrap(values, draws=draws, seed=seed)
        for what, values in {"contrast": contrast, **shares}.items()
    }


def exists_and_happens(regions, contrasts, detection, methods, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """What exists (found images) beside how often it happens (noise realisations): a row for all lesions and a kind.

    Args:
        regions: of ``evidence.kinds`` of ``evidence.verdicts``. contrasts: of ``evidence.kinds``, a row a lesion and
            realisation, with ``kept``. detection: as for ``evidence.d_prime_kept``.
        methods: of ``regions`` that are told. draws, seed: of the bootstrap.
    Returns: ``lesions`` (which), ``n``, ``patients``, ``exists, <method>`` in words; ``contrast kept``, the mean over
        patients of the means over their lesions, with ``low``, ``high``; ``lowest lesion``, ``lowest realisation``,
        ``share under half`` of the realisations, and ``d' kept``, NaN where no observer could look.
    """
    parts = [("all", contrasts)]
    for (radius, contrast), part in contrasts.groupby(["radius, mm", "contrast"], observed=True):
        parts.append((f"{radius} mm, {contrast}", part))
    rows = []
    for label, part in parts:
        these = part[["patient", "lesion"]].drop_duplicates()
        per_lesion = part.groupby(["patient", "lesion"]).kept.mean()
        own, seen = regions.merge(these), detection.merge(these)
        span = intervals.patient_bootstrap(per_lesion.groupby("patient").mean(), draws=draws, seed=seed)
        rows.append({
            "lesions": label, "n": len(per_lesion), "patients": span.patients,
            **{f"exists, {m}": evidence.said(evidence.counts(own[own.method == m])) for m in methods},
            "contrast kept": span.mean, "low": span.low, "high": span.high,
            "lowest lesion": per_lesion.min(), "lowest realisation": part.kept.min(),
            "share under half": float((part.kept < 0.5).groupby(part.patient).mean().mean()),
            "d' kept": evidence.d_prime_kept(seen).mean() if len(seen) else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)


def as_numbers(ratio_table, far: dict, counts: dict) -> dict:
    """What a run keeps of each method: its changes over the null's, and counts of segments and lesions.

    Args: ratio_table: of ``against_null``. far: of ``beyond``. counts: {what: of ``evidence.counted``}.
    """
    found = {f"own_{end}_beyond_level": float(share) for end, share in far.items()}
    for method, part in ratio_table.groupby("method", sort=False):
        key, ratio = method.lower().replace(" + ", "_").replace(" ", "_"), part.set_index("quantity").ratio
        found |= {f"{key}_{end}_over_null": float(ratio[f"{end}put"]) for end in ("in", "out")}
        for what, count in counts.items():
            rows = count[count.method == method].to_dict("records")
            found |= {f"{key}_{what}s_{w}": int(row[w]) for row in rows for w in ("tested", "changed", "hidden")}
    return found
