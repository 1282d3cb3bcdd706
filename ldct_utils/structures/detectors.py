"""How many planted removals and insertions two detectors find: the test of segments, and sFRC by patches.

Tables are long, a row a run, kind and mark. Curves are those of ``froc.curves``, with intervals over patients.
"""

import numpy as np
import pandas as pd

from ldct_utils.stats import intervals
from ldct_utils.structures import froc, sfrc
from ldct_utils.structures.pipeline import Slices, most_affected

MARKS, FPR = np.logspace(-2, 2, 41).round(6), np.linspace(0, 1, 101)  # where FROC and ROC are read
SCORES = {"this test": "score", "naive z": "naive", "SRMSE(x, f(x))": "srmse_hu"}  # {name: column that ranks segments}
KINDS = ("removal", "insertion")
REFERENCES = {"ndct": "sFRC, NDCT as reference", "truth": "sFRC, truth as reference"}
LINES = {
    "this test": "this test",
    "naive z": "naive z",
    "SRMSE(x, f(x))": "change alone",
}  # scores beside sFRC, as read
GRADES = (4, 16)  # times the contrast of the removed lesions; the last is a control


def marks(slices: pd.DataFrame) -> np.ndarray:
    """Those of ``MARKS`` that so many slices can tell: one false mark in all of them, or more. Args: of
    ``lesion_slices``."""
    return MARKS[MARKS * len(slices) >= 1]


def stronger(grade: int) -> str:
    """The kind of a removal whose lesions were so many times as strong in the reference."""
    return f"removal, {grade} times as strong"


def lesion_slices(cohort, tested) -> pd.DataFrame:
    """Tested slices of the patients with lesions: patient, image (its row) and structures (their number)."""
    number = {row: len(np.unique(cohort.lesion_masks[row])) - 1 for _, row in tested}
    slices = pd.DataFrame(tested, columns=["patient", "image"])
    slices = slices.assign(structures=slices["image"].map(number))
    return slices[slices.groupby("patient")["structures"].transform("sum") > 0]


def groups(sources) -> dict[str, list]:
    """{name: images whose segments are taken together}: all, each alone, and what a hospital has."""
    found = {"all": list(sources), **{source: [source] for source in sources}}
    if set(sources) == {"ndct", "ldct", "prediction"}:
        found["without the NDCT"] = ["ldct", "prediction"]
    return found


def planted_segments(examined: pd.DataFrame, slices: pd.DataFrame) -> dict:
    """{(run, kind): segments of planted changes with every score}. Args: examined: of ``pipeline.with_p``."""
    scored = examined.assign(image=examined["row"], naive=examined["naive_z"].abs())
    scored["score"] = -np.log10(scored["p"]) + 1e-6 * scored["z"].abs()  # of equal p the larger z leads
    here = scored["kind"].isin(KINDS) & scored["patient"].isin(slices["patient"])
    return dict(list(scored[here].groupby(["run", "kind"])))


def by_segment(examined, slices, main: str, sources, draws: int, seed: int) -> pd.DataFrame:
    """ROC and FROC of the planted changes of every run; of ``main`` by every score and every group of sources too.

    Returns: columns of ``froc.curves``, run, kind, segments_of, score, shown (lesions that some segment shows), lesions
        and patients.
    """
    out, taken = [], groups(sources)
    for (key, kind), part in planted_segments(examined, slices).items():
        wanted = [("all", "this test")]
        if key == main:
            wanted = [("all", name) for name in SCORES] + [(group, "this test") for group in taken if group != "all"]
        for group, name in wanted:
            table = part[part["source"].isin(taken[group])]
            table = table.assign(score=table[SCORES[name]])
            head = {"run": key, "kind": kind, "segments_of": group, "score": name, "shown": _shown(table, "row")}
            head |= {"lesions": int(slices["structures"].sum()), "patients": slices["patient"].nunique()}
            out.append(froc.curves(table, slices, FPR, MARKS, draws, seed=seed).assign(**head))
    return pd.concat(out, ignore_index=True)


def _shown(table, image):
    return len(table[table["structure"] > 0].drop_duplicates([image, "structure"]))


def read_off(part: pd.DataFrame) -> dict:
    """One line of a detector: AUC and what is found at one false mark a slice, each with its interval, and shown."""
    area, one = part[part.curve == "auc"].iloc[0], part[(part.curve == "froc") & (part.x == 1)].iloc[0]
    return {"AUC": area.y, "auc_low": area.low, "auc_high": area.high, "found at 1 false mark": one.y, "low": one.low,
            "high": one.high, "shown": f"{area.shown} of {area.lesions}"}  # fmt: skip


def lines(detector: pd.DataFrame, by: dict) -> pd.DataFrame:
    """``read_off`` of every line of a table of curves. Args: by: {column that tells lines apart: its name in the
    result}."""
    groups = detector.groupby(list(by), sort=False)
    return pd.DataFrame([dict(zip(by.values(), key)) | read_off(part) for key, part in groups])


def told(share: float, kind: str) -> str:
    """What a detector finds of a kind of change, in words that follow "finds". Args: share: NaN where no mark shows a
    planted one."""
    return f"no {kind}, since no mark shows any" if np.isnan(share) else f"{100 * share:.0f} % of {kind}s"


def found_said(table: pd.DataFrame) -> str:
    """What the test finds at one false mark a slice, with and without segments of the NDCT, in a sentence.

    Args: table: of ``lines``, by kind, segments of and score.
    """
    shares = table[table["score"] == "this test"].set_index(["segments of", "kind"])["found at 1 false mark"]
    finds = [told(shares["all", kind], kind) for kind in KINDS]
    said = f"We planted changes: at one false mark a slice the test finds {' and '.join(finds)}"
    if "without the NDCT" not in shares.index:
        return f"{said}."
    less = [shares["without the NDCT", kind] for kind in KINDS]
    without = [told(*pair) if np.isnan(pair[0]) else f"{100 * pair[0]:.0f} %" for pair in zip(less, KINDS)]
    return f"{said}; without the NDCT's segments it finds {' and '.join(without)}."


def bound_said(table: pd.DataFrame) -> str:
    """Whether sFRC finds at least as much against the noise-free truth, which was meant as an upper bound, as against
    the NDCT, in a sentence; empty where either was not asked or no patch shows a change.

    Args: table: of ``lines``, by kind and detector.
    """
    shares = table.set_index(["kind", "detector"])["found at 1 false mark"]
    both = {kind: [shares.get((kind, REFERENCES[one]), np.nan) for one in ("truth", "ndct")] for kind in KINDS}
    both = {kind: pair for kind, pair in both.items() if not np.isnan(pair).any()}
    if not both:
        return ""
    short = {kind: pair for kind, pair in both.items() if round(100 * pair[0]) < round(100 * pair[1])}
    told_of = [f"{told(one, kind)} (against the NDCT {100 * other:.0f} %)" for kind, (one, other) in both.items()]
    finds = f"Against the noise-free truth sFRC finds {' and '.join(told_of)}"
    if not short:
        return f"{finds}: it finds no less against the truth, as was meant."
    what = "" if len(short) == len(both) else f" of {next(iter(short))}s"
    return f"{finds}: the truth was meant as an upper bound{what} and is none here."


def simpler_said(table: pd.DataFrame) -> str:
    """What the scores beside the test find, in a sentence; empty where no mark shows a change.

    Args: table: as of ``found_said``.
    """
    whole, parts, apart = table[table["segments of"] == "all"], [], False
    for kind in KINDS:
        one = whole[whole["kind"] == kind].set_index("score")
        own, others = one.loc["this test"], one.drop("this test")
        if others["found at 1 false mark"].isna().any() or others["low"].isna().any() or np.isnan(own["low"]):
            return ""
        ends = (f"{100 * others['found at 1 false mark'].agg(end):.0f}" for end in ("min", "max"))
        parts.append(f"{' to '.join(dict.fromkeys(ends))} % of {kind}s")
        apart |= bool(((others["low"] > own["high"]) | (others["high"] < own["low"])).any())
    whether = "not all intervals overlap with the test's" if apart else "their intervals overlap with the test's"
    return f"Two simpler scores find {' and '.join(parts)}; {whether}."


def numbers(table: pd.DataFrame, by_detector: pd.DataFrame, sources) -> dict:
    """What a run records: auc_<kind> by score, found_<kind> by source at one false mark, found_by_detector.

    Args: table, by_detector: of ``lines``, by kind, segments of and score, and by kind and detector.
    """
    found, at = {}, table.set_index(["kind", "segments of", "score"])
    for kind in KINDS:
        found[f"auc_{kind}"] = {name: float(at.loc[(kind, "all", name), "AUC"]) for name in SCORES}
        shares = {group: at.loc[(kind, group, "this test"), "found at 1 false mark"] for group in groups(sources)}
        found[f"found_{kind}"] = {group: float(share) for group, share in shares.items()}
    each = by_detector.set_index(["kind", "detector"])["found at 1 false mark"]
    return found | {"found_by_detector": {f"{kind}: {name}": float(share) for (kind, name), share in each.items()}}


def of_runs(detector: pd.DataFrame) -> pd.DataFrame:
    """What is found in the output of every run by this test, segments of all sources: a row a run, columns
    ``<kind>: <name>``. Args: detector: of ``by_segment``."""
    part = detector[(detector["score"] == "this test") & (detector["segments_of"] == "all")]
    rows = {key: {} for key in part["run"].unique()}
    for (key, kind), one in part.groupby(["run", "kind"], sort=False):
        rows[key] |= {f"{kind}: {name}": value for name, value in read_off(one).items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run").reset_index()


# ---- patches ----
def patches(slices: Slices, patch: int) -> pd.DataFrame:
    """``sfrc.marks`` of every comparison against every reference that is known, and of stronger removals.

    Args: patch: side, pixels. Returns: a row a run, kind, image, realisation, reference and patch.
    """
    known, out = slices.cohort.slices.set_index("row"), []
    for row, reference in ((row, one) for _, row in slices.tested for one in REFERENCES):
        body = slices.body(row)
        for kind, again, image, seen, labels in _against(slices, row, reference):
            for key in (key for key in slices.denoisers if seen in slices.outputs[key]):
                pair = slices.outputs[key][seen], image, known.pixel_mm[row]
                found = sfrc.marks(*pair, body, labels, patch)
                head = {"run": key, "kind": kind, "reference": reference, "image": row, "realisation": again}
                out.append(found.assign(patient=known.patient[row], **head))
    return pd.concat(out, ignore_index=True)


def all_patches(slices: Slices, cohort, each: int, patch: int) -> pd.DataFrame:
    """``patches`` of the tested slices (split test) and, for a cutoff, of ``each`` slice of the validation patients of
    the cohort that the networks were trained on (split val), where its lesions are known."""
    parts = [patches(slices, patch).assign(split="test")]
    if cohort.absent_ldct is not None and cohort.lesion_masks is not None and len(cohort.rows("val")):
        validation = Slices(cohort, most_affected(cohort, "val", each), slices.denoisers)
        parts.append(patches(validation, patch).assign(split="val"))
    return pd.concat(parts, ignore_index=True)


def _against(slices, row, reference):
    """(kind, realisation, reference image, scan that the network sees, lesions) of a slice."""
    for kind, compared, seen, labels in slices.comparisons(row):
        if reference in slices.images.get(compared, ()):
            image = slices.images[compared][reference]
            yield kind, compared[2], image, seen, labels
            for grade in GRADES if kind == "removal" else ():
                more = (grade - 1) * (image - slices.images[seen][reference])
                yield stronger(grade), 0, image + more, seen, labels


def by_patch(patches, examined, slices, main: str, draws: int, seed: int) -> pd.DataFrame:
    """ROC and FROC of every run and kind by patches: of sFRC and, where the NDCT is known, of the test of segments.

    Args: patches: of ``patches``, of the tested slices. examined, slices: as ``planted_segments``. main: the run of
        which the simpler scores of segments are read by patches too.
    """
    out, segments_of = [], planted_segments(examined, slices)
    here = patches["patient"].isin(slices["patient"]) & patches["kind"].isin([*KINDS, *map(stronger, GRADES)])
    for (key, kind, reference), part in patches[here].groupby(["run", "kind", "reference"]):
        wanted = {REFERENCES[reference]: part.assign(score=-part["lp_mm"])}
        if reference == "ndct" and (key, kind) in segments_of:
            own = segments_of[key, kind]
            each = [(one, own[own["image"] == image]) for image, one in part.groupby("image")]
            for name in SCORES if key == main else ["this test"]:
                parts = [one.assign(score=sfrc.of_segments(one, those, SCORES[name])) for one, those in each]
                wanted[f"{LINES[name]}, by patch"] = pd.concat(parts)
        for name, table in wanted.items():
            head = {"run": key, "kind": kind, "detector": name, "shown": _shown(table, "image")}
            head["lesions"] = int(slices["structures"].sum())
            out.append(froc.curves(table, slices, FPR, MARKS, draws, seed=seed).assign(**head))
    return pd.concat(out, ignore_index=True)


def cutoffs(patches, slices, main: str, realisations: int, draws: int, seed: int) -> pd.DataFrame:
    """What a cutoff of sFRC, tuned on validation patients for one false mark a slice, does on the tested ones.

    Args: patches: with split (val, test). main: the run that it is tuned with. realisations: lesion-free scans a slice.
    Returns: a row a reference and run: reference, cutoff (lp/mm), run; found_removal, found_insertion (shares), false
        (a slice) and, where there are lesion-free scans, false_free: means over patients, each with _low and _high.
    """
    out, again = [], pd.concat([slices.assign(structures=0)] * max(1, realisations))
    tuning = patches[(patches["split"] == "val") & (patches["run"] == main) & patches["kind"].isin(KINDS)]
    for reference, part in tuning.groupby("reference"):
        cut = sfrc.cutoff(part, len(part.drop_duplicates(["image", "kind"])))
        here = (patches["split"] == "test") & (patches["reference"] == reference)
        for key, own in patches[here & patches["patient"].isin(slices["patient"])].groupby("run", sort=False):
            each = {kind: sfrc.at_cutoff(own[own["kind"] == kind], slices, cut) for kind in KINDS}
            row = {"reference": reference, "cutoff": cut, "run": key}
            for kind, one in each.items():
                row |= _span(f"found_{kind}", one["found"], draws, seed)
            row |= _span("false", sum(one["false_marks"] for one in each.values()) / 2, draws, seed)
            if realisations:
                free = sfrc.at_cutoff(own[own["kind"] == "null"], again, cut)
                row |= _span("false_free", free["false_marks"], draws, seed)
            out.append(row)
    return pd.DataFrame(out)


def _span(name, values, draws, seed):
    """Mean over patients and its interval; no interval where all patients agree."""
    values = values.dropna().to_numpy(float)
    span = intervals.patient_bootstrap(values, draws=draws, seed=seed)
    low, high = (span.low, span.high) if np.ptp(values) else (np.nan, np.nan)
    return {name: span.mean, f"{name}_low": low, f"{name}_high": high}
