"""What was examined crop by crop, summed up over patients: changes beside those of a repeated scan, and lesions.

The tables that these functions take are those of ``examine.Examination``.
"""

import numpy as np
import pandas as pd

from ldct_utils.invariance import evidence
from ldct_utils.report.sentences import capital, interval, listed, number, plural, some
from ldct_utils.stats import intervals

# RMS changes that are held against those of a repeated scan: column of the table of changes, and what it is called.
QUANTITIES = {"in_hu": "input", "out_hu": "output", "low_in_hu": "input, blurred", "low_out_hu": "output, blurred"}
CALLED = {"search": "plain search", "aimed": "aimed search"}  # methods as readers know them, where that is another name

WAYS = {  # of finding an input, in a few words
    "search": "the plain search takes any change that the network ignores",
    "aimed": "the aimed search wants changes of anatomy",
    "generator": "a generator draws inputs that it has learned",
    "VAE + flow": "a VAE with a flow draws inputs that it has learned",
}  # fmt: skip
GONE = 0.1  # of its start: a search that ends with so small a change has found none, as for the identity (controls)
STEADY = 0.05  # change of a search over the last tenth of its iterations, under which it has settled


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


def hiding(counts, methods, what: str = "lesion", nulls: dict | None = None) -> str:
    """What searches changed and the network hides, in one sentence; what repeated scans alone would change beside it.

    Args: counts: of ``evidence.counted``. methods: those that are told, of one image a region. what: the regions.
        nulls: {method: the method of its repeated scans}; None leaves these out.
    """
    rows = [row for row in counts.itertuples() if row.method in methods]
    if not rows:
        return f"No {what} lies whole in these images."
    first, *others = rows
    of = f"{first.tested} {what}{'s' * (first.tested != 1)} by more than a repeated scan explains"
    if not any(row.changed for row in rows):
        who = f"The {called(first.method)}" if not others else "No search"
        return f"{who} changed {'none' if not others else 'any'} of {of}, so hiding was not tested."
    luck = _by_chance(counts, first, nulls)
    by_chance = "" if luck is None else f"by chance {number(luck, 0 if luck >= 10 else 1)} would look changed"
    if luck is not None and all(row.changed <= luck for row in rows):
        told = [f"the {called(row.method)} changed {row.changed or 'none'} of {row.tested} {what}s" for row in rows]
        return f"T{listed(told)[1:]}; {by_chance}, so nothing was found."
    parts = [
        f"changed {row.changed or 'none'} of {of if row is first else row.tested}"
        + (f", of which the network hides {row.hidden or 'none'}" if row.changed else "")
        for row in rows
    ]
    told = [f"the {called(row.method)} {part}" for row, part in zip(rows, parts)] + ([by_chance] if by_chance else [])
    return f"T{'; '.join(told)[1:]}."


def _by_chance(counts, row, nulls):
    """How many of a method's regions its repeated scans alone would change; None where that is not known."""
    null = counts[counts.method == (nulls or {}).get(row.method)]
    return None if null.empty else float(row.tested * (null.changed / null.tested).iloc[0])


def seeming(counts, what: str = "lesion") -> str:
    """What of the changes that repeated scans make seems hidden; empty where they change nothing.

    Args: counts: of ``evidence.counted``.
    """
    null = counts[counts.method.str.startswith("null")]
    changed, hidden = int(null.changed.sum()), int(null.hidden.sum())
    if not changed:
        return ""
    return f"Noise alone makes {some(hidden, changed, what)} that repeated scans changed look hidden."


def beside_scans(ratio) -> str:
    """In how many patients the plain search changed the input less and more than a second scan does.

    Args: ratio: (patients,), change of the input as a multiple of a repeated scan's, of ``ratios``.
    """
    who, n = "The plain search changed the input by", len(ratio)
    less, more = ratio[ratio < 1], ratio[ratio >= 1]

    def span(part):
        return " to ".join(dict.fromkeys(f"{end:.2g}" for end in (part.min(), part.max()))) + " times"

    if not len(more):
        return f"{who} less than a second scan does in {some(n, n, 'patient')} ({span(less)})."
    if not len(less):
        return f"{who} as much as a second scan or more in {some(n, n, 'patient')} ({span(more)})."
    return (
        f"{who} less than a second scan does in {len(less)} of {n} patients ({span(less)}) and by as much or more in "
        f"{len(more)} ({span(more)})."
    )


def on_average(table) -> str:
    """How much the plain search changes input and output, beside a second scan. Args: table: of ``against_null``."""
    part = table[table["method"] == "search"].set_index("quantity")[["ratio", "low", "high"]]
    into, out = (interval(*part.loc[end]) for end in ("input", "output"))
    return f"On average it changed the input {into} times as much as a second scan does, and the output {out} times."


def explained(methods) -> str:
    """What each way of finding an input does, in one sentence. Args: methods: of ``WAYS``, others are passed over."""
    told = listed(WAYS[one] for one in methods if one in WAYS)
    return f"{capital(told)}."


def _course(course, method) -> pd.Series:
    return course[course["search"] == method].groupby("iteration")["in_hu"].mean()


def settled(course, method) -> bool:
    """Whether the change of the input moved by under ``STEADY`` over the last tenth of the iterations.

    Args: course: of ``optimise.course``. method: a search.
    """
    change = _course(course, method)
    before, end = change.iloc[-1 - max(1, len(change) // 10) :].iloc[[0, -1]] if len(change) > 1 else (np.inf, 0.0)
    return bool(abs(end - before) < STEADY * max(before, 1e-12)) or end == before


def outcome(course, method, inputs, outputs) -> str:
    """What a search ended with, in one sentence: its RMS changes of input and output, or that it found none.

    Args: course, method: as of ``settled``. inputs, outputs: changed and unchanged ones, (crops, H, W) each, HU.
    """
    into, out = (float(evidence.rmse_hu(*pair).mean()) for pair in (inputs, outputs))
    start, who = _course(course, method).iloc[0], f"The {called(method)}"
    if into > GONE * start:
        return f"{who} changes the input by {number(into)} HU and the output by {number(out)} HU."
    ended = "" if settled(course, method) else " and had not settled"
    return f"{who} found no change: its change shrank from {number(start, 0)} to {into:.2g} HU{ended}."


def ended(course, methods) -> str:
    """Which searches had settled when they ended. Args: course: as of ``settled``. methods: the searches."""
    names = {one: f"the {called(one)}" for one in methods}
    steady = [names[one] for one in methods if settled(course, one)]
    moving = [name for name in names.values() if name not in steady]
    when = f"After {plural(int(course['iteration'].max()) + 1, 'iteration')}"
    parts = [f"{listed(who)} had {word}" for who, word in ((steady, "settled"), (moving, "not settled")) if who]
    return f"{when} {' and '.join(parts)}."


def kept_by_lesion(contrasts) -> pd.DataFrame:
    """A row a lesion: ``mean``, ``min``, ``max`` over noise realisations of the share of its contrast that is kept.

    Args: contrasts: of ``evidence.kinds``, a row a lesion and realisation, with ``kept``.
    """
    about = ["patient", "lesion", "anatomy", "radius_mm", "contrast"]
    return contrasts.groupby(about).kept.agg(["mean", "min", "max"]).reset_index()


def within_reach(contrasts, alpha: float) -> dict:
    """How many lesions a search could find by small changes: the network keeps less of them than the root of alpha.

    That holds for a network that is linear nearby; a large change need not keep to it.

    Args: contrasts: a row a lesion and realisation, with ``kept``; None where no lesions are known. alpha: of the
        search.
    Returns: {"within_reach", "lesions": numbers of lesions}; empty where none are known.
    """
    if contrasts is None:
        return {}
    each = contrasts.groupby(["patient", "lesion"]).kept.mean()
    return {"within_reach": int((each < alpha**0.5).sum()), "lesions": len(each)}


def reachable(reach: dict, alpha: float) -> str:
    """The counts of ``within_reach`` in a sentence; empty where no lesions are known."""
    if not reach:
        return ""
    found, every = reach["within_reach"], reach["lesions"]
    limit = f"{100 * alpha**0.5:.0f} %"
    if not found:
        each = "the one lesion" if every == 1 else f"each of {every} lesions"
        return f"Of {each} the network keeps {limit} (√α) or more: no small change of one pays for a search."
    verb = "is" if found == 1 else "are"
    return f"Of {plural(every, 'lesion')}, {found} {verb} kept below {limit} (√α) and could be found by small changes."


def by_lesion(contrasts, regions, methods, alpha: float) -> pd.DataFrame:
    """A row a lesion, the least kept first: what the network keeps of it, whether that is little enough for small
    changes, and what became of it.

    Args: contrasts: of ``evidence.kinds``, a row a lesion and realisation, with ``kept``. regions: of
        ``evidence.verdicts``. methods: searches. alpha: of these.
    Returns: columns patient, lesion, anatomy, radius_mm, contrast; ``mean``, ``min``, ``max`` of the contrast kept over
        realisations, %; ``reach``, whether the mean lies below the root of alpha; and a column a method in words.
    """
    table = kept_by_lesion(contrasts).sort_values("mean", kind="stable")
    table["reach"] = table["mean"] < alpha**0.5
    shares = ["mean", "min", "max"]
    table[shares] = 100 * table[shares]
    for method in methods:
        own = regions[regions.method == method].set_index(["patient", "lesion"])
        became = np.select([own.hidden, own.changed], ["changed, hidden", "changed, not hidden"], "not changed")
        words = dict(zip(own.index, became))
        table[method] = [words.get(key, "not whole in the image") for key in zip(table.patient, table.lesion)]
    return table.reset_index(drop=True)


def shown(counts, labels: dict) -> pd.DataFrame:
    """Counts as they are read: where nothing was changed, hiding was not tested.

    Args: counts: of ``evidence.counted``. labels: {method: its name}; others are ``called``.
    """
    hidden = [f"{row.hidden} of {row.changed}" if row.changed else "not tested" for row in counts.itertuples()]
    return counts.assign(method=[labels.get(one, called(one)) for one in counts.method], hidden=hidden)


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
