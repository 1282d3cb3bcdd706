"""Figures of 09a: p-values where nothing was lost, the most suspicious segments, and how many changes are found; and
what is said of them.
"""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots
from ldct_utils.report.sentences import number, plural

SEGMENT = "#E69F00"  # contour of a suspicious segment
# whose segments are tested, in words
IMAGES = {"ndct": "NDCT", "ldct": "LDCT", "prediction": "output", "truth": "noise-free truth"}
SCORES = {"SRMSE(x, f(x))": "change alone"}  # as read; the others keep their names
DETECTORS = ("this test, by segment", "this test, by patch", "sFRC, NDCT as reference", "sFRC, truth as reference")
BANDED = (DETECTORS[0], DETECTORS[2])
STRONGER = {"removal, 4 times as strong": "--", "removal, 16 times as strong": ":"}  # {kind of removal: line}
# Heads of tables, {column or value with its interval: words}
CALIBRATION = {
    "denoiser": "denoiser", "segments of": "segments of", "test": "test",
    ("p < .05", "p < .05: low", "p < .05: high"): "p < 0.05 (right: 0.05)",
    ("p < .005", "p < .005: low", "p < .005: high"): "p < 0.005 (right: 0.005)",
    "KS rejects": "KS tests that find p uneven (right: 0.05)",
}  # fmt: skip
SUSPICIOUS = {"patient": "patient", "source": "segment of", "before_hu": "contrast, HU", "change_hu": "change, HU",
              "structure": "known lesion (0: none)"}  # fmt: skip
FOUND = {("AUC", "auc_low", "auc_high"): "AUC", "shown": "shown",
         ("found at 1 false mark", "low", "high"): "found at 1 false mark a slice"}  # fmt: skip
CUTOFFS = {
    "reference": "reference", "cutoff": "cutoff, lp/mm", "run": "run",
    ("found_removal", "found_removal_low", "found_removal_high"): "removals found",
    ("found_insertion", "found_insertion_low", "found_insertion_high"): "insertions found",
    ("false", "false_low", "false_high"): "false marks a slice",
    ("false_free", "false_free_low", "false_free_high"): "on lesion-free scans",
}  # fmt: skip
ALL = {
    "run": "run", "called": "method",
    ("suspicious a slice", "suspicious a slice: low", "suspicious a slice: high"): "suspicious a slice",
    ("lesion-free scans", "lesion-free scans: low", "lesion-free scans: high"): "in lesion-free scans",
    ("removal: found at 1 false mark", "removal: low", "removal: high"): "removals found",
    ("insertion: found at 1 false mark", "insertion: low", "insertion: high"): "insertions found",
}  # fmt: skip


def of(table, heads: dict) -> dict:
    """Those of the heads whose columns a table has."""
    return {key: words for key, words in heads.items() if (key if isinstance(key, str) else key[0]) in table}


def p_values(table):
    """p-values of lesion-free segments: the share at or below each p, and how patients differ.

    Args: table: rows of one run with source, patient and p.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6))
    steps = np.geomspace(1e-3, 1, 101)
    for i, (source, part) in enumerate(table.groupby("source")):
        style = {"color": plots.COLOURS[i], "label": f"segments of the {IMAGES[source]}"}
        axes[0].loglog(steps, [(part.p <= step).mean() for step in steps], **style)
        below = part.groupby("patient").p.apply(lambda p: 100 * (p < 0.05).mean())
        axes[1].plot(np.sort(below), np.arange(1, len(below) + 1), "o-", ms=4.5, lw=0.6, **style)
    axes[0].loglog(steps, steps, color="black", lw=1, ls=":")
    axes[0].set(xlabel="p", ylabel="share of lesion-free segments\nat or below p", ylim=(3e-4, 1.1))
    axes[1].axvline(5, color="black", lw=1, ls=":")
    axes[1].set(
        xlabel="lesion-free segments with p < 0.05, % (5 is right)", ylabel="patients, in order", xlim=(0, None)
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def suspects(shown: list[dict]):
    """Suspicious segments, a row each: LDCT, output, NDCT and the difference of the first two, its contour in orange.

    Args: shown: of ``structures.pipeline.cutouts``.
    """
    figure, axes = plt.subplots(len(shown), 4, figsize=(9.5, 2.5 * len(shown) + 0.3), squeeze=False)
    for place, (line, one) in enumerate(zip(axes, shown)):
        window = plots.window_at(one["mean_hu"], one["anatomy"])
        change = one["output"] - one["ldct"]
        for axis, name in zip(line, ("ldct", "output", "ndct")):
            plots.show(axis, one[name], *window, "" if place else {"output": "output"}.get(name, name.upper()))
        limit = float(np.quantile(np.abs(change), 0.995))
        drawn = plots.difference(line[3], change, limit, "" if place else "output − LDCT")
        figure.colorbar(drawn, ax=line, shrink=0.85, label="HU", pad=0.01)
        for axis in line:
            axis.contour(one["segment"], [0.5], colors=SEGMENT, linewidths=1.2)
            plots.circle(axis, one["lesions"])
            height, width = change.shape  # a circle beyond the rim would widen the panel
            axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        plots.scale_bar(line[0], one["pixel_mm"])
        change, before = (number(one[name], 1, "HU", sign=True) for name in ("change_hu", "before_hu"))
        plots.row_label(
            line[0], f"{one['patient']}, contrast {before}\nchange {change}\n{plots.window_text(*window)}", 8
        )
    return figure


def detector(curves, scores, marks):
    """ROC and FROC of planted removals and insertions, by every score.

    Args: curves: of ``structures.detectors.by_segment``, of one run and all sources. scores: their names; the first two
        have bands. marks: false marks a slice, where the FROC is read.
    """
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 6.6))
    for pair, kind in zip(axes, ("removal", "insertion")):
        for i, score in enumerate(scores):
            for axis, curve in zip(pair, ("roc", "froc")):
                part = curves[(curves.kind == kind) & (curves.score == score) & (curves.curve == curve)]
                axis.plot(part.x, part.y, color=plots.COLOURS[i], label=SCORES.get(score, score))
                if i < 2:
                    axis.fill_between(part.x, part.low, part.high, color=plots.COLOURS[i], alpha=0.15, lw=0)
        pair[0].set(title=f"{kind}s: segments (ROC)", xlabel="share of other segments marked",
                    ylabel="share of segments found", xlim=(0, 1), ylim=(0, 1.01))  # fmt: skip
        _froc(pair[1], f"{kind}s: lesions (FROC)", (marks[0], marks[-1]))
        pair[1].set_ylabel("share of lesions found")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _froc(axis, title, ends):
    axis.set(
        title=title, xlabel="false marks a slice (further left is better)", xscale="log", xlim=ends, ylim=(0, 1.01)
    )
    plots.plain_log(axis, "x", (1,))
    axis.axvline(1, color="black", lw=0.8, ls=":")


def patch_detector(curves):
    """FROC of the two detectors on planted removals and insertions; stronger removals only of the second detector.
    Bands are drawn of one line a detector (``BANDED``), since four of them cannot be told apart.

    Args: curves: columns of ``froc.curves``, kind and detector (``DETECTORS``).
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.4), sharey=True)
    froc = dict(list(curves[curves.curve == "froc"].groupby(["kind", "detector"])))
    for axis, kind in zip(axes, ("removal", "insertion")):
        for name in (name for name in DETECTORS if (kind, name) in froc):
            part, colour = froc[kind, name], plots.COLOURS[DETECTORS.index(name)]
            axis.plot(part.x, part.y, color=colour, label=name)
            if name in BANDED:
                axis.fill_between(part.x, part.low, part.high, color=colour, alpha=0.15, lw=0)
        _froc(axis, f"{kind}s", (0.1, 50))
    for kind, style in STRONGER.items():
        part, label = froc[kind, DETECTORS[2]], kind.removeprefix("removal, ")
        axes[0].plot(part.x, part.y, style, color=plots.COLOURS[2], label=f"{DETECTORS[2]}, {label}")
    axes[0].set_ylabel("share of lesions found")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


# ---- what is said ----
def _range(values, places: int = 0) -> str:
    """Shares in percent: ``17 to 30 %``, or ``17 %`` where they read alike."""
    return " to ".join(dict.fromkeys(number(100 * one, places) for one in (values.min(), values.max()))) + " %"


def calibrated(calibration, main: str, called: str) -> str:
    """How many lesion-free segments are called changed. Args: calibration: of ``structures.null.calibrations``. main:
    the denoiser that is listed, as the table names it; called: as it is read."""
    at = calibration.set_index(["denoiser", "test"])["p < .05"]
    control = calibration.denoiser[calibration.test == "naive"].iloc[0]
    who = called if control == main else f"the {control} denoiser"
    said = (
        f"With {who} the test calls {_range(at.loc[[(control, 'null')]], 1)} of the lesion-free segments changed and "
    )
    said += f"a naive test {_range(at.loc[[(control, 'naive')]])}"
    return (
        f"{said}."
        if control == main
        else f"{said}; with {called} the test calls {_range(at.loc[[(main, 'null')]], 1)}."
    )


def right(calibration, main: str) -> str:
    """Whether p is right over patients, in a sentence. Args: as of ``calibrated``."""
    own = calibration[(calibration.denoiser == main) & (calibration.test == "null")]
    levels = {"p < .05": 0.05, "p < .005": 0.005}
    ends = [(own[f"{name}: low"], own[f"{name}: high"], level) for name, level in levels.items()]
    if any(low.isna().any() for low, _, _ in ends):
        return "Patients are too few, or too alike, to say whether p is right."
    if any(((low > level) | (high < level)).any() for low, high, level in ends):
        return "Over patients p is shown to be wrong for some segments (table above)."
    return "Over patients p was not shown to be wrong."


def in_patients(table) -> str:
    """The share of segments with p < 0.05 in single patients, e.g. ``1 to 15 %``. Args: as of ``p_values``."""
    return _range(table.groupby(["source", "patient"]).p.apply(lambda p: (p < 0.05).mean()))


def named(rates, run: str, nulled: bool, free: bool) -> str:
    """How many segments the test names, and whether that is more than where nothing was lost.

    Args: rates: of ``structures.null.rates``. run: the one that is listed. nulled: whether there are p-values. free:
        whether there are lesion-free scans.
    """
    if not nulled:
        return "One patient gives no null, so that no segment can be called suspicious."
    own = rates[rates.run == run].iloc[0]
    here, said = own["suspicious a slice"], "The test names no segment suspicious"
    if here:
        said = f"The test names {number(here, 2)} suspicious segments a slice"
    if not free:
        return f"{said}."
    chance = own["lesion-free scans"]
    if not here and not chance:
        return f"{said}, neither here nor where nothing was lost."
    said += f", {number(chance, 2)} a slice where nothing was lost."
    if not here:
        return said
    if here <= chance:
        return f"{said} So a suspicious segment is no evidence of a change here."
    low, high = own["suspicious a slice: low"], own["lesion-free scans: high"]
    if np.isnan(low) or np.isnan(high):
        return f"{said} Patients are too few, or too alike, to say whether that is more than chance."
    return f"{said} That is {'more than chance' if low > high else 'not shown to be more than chance'}."


def most_suspicious(suspects, alpha: float, nulled: bool) -> str:
    """What the list holds. Args: suspects: of ``structures.null.listed``. alpha: of the corrected p. nulled: whether
    there are p-values."""
    if not nulled:
        return f"Listed are the {len(suspects)} largest |z|."
    sure = suspects[suspects.suspicious.astype(bool)]
    below = f"below {alpha:g}"
    if sure.empty:
        return f"Listed are the {len(suspects)} smallest p; no corrected p is {below}."
    known = int((sure.structure > 0).sum())
    of = "of a known lesion" if known == 1 else "of known lesions"
    are = f"{known or 'none'} {of}" if len(sure) > 1 else "of a known lesion" if known else "not of a known lesion"
    return f"Listed are the {len(suspects)} smallest p; {len(sure)} corrected p {'is' if len(sure) == 1 else 'are'} " \
           f"{below}, {are}."  # fmt: skip


def first_suspect(drawn, count: int, nulled: bool) -> str:
    """What is drawn. Args: drawn: rows of ``structures.null.listed``. count: of all that are suspicious."""
    one = drawn.iloc[0]
    if not count:
        why = "smallest p" if nulled else "largest |z|"
        return f"No segment is suspicious; drawn is the one with the {why} ({one.patient})."
    before, change = one.before_hu, one.change_hu
    how = f"changes by {number(change, 0, 'HU', sign=True)}"
    if before * change > 0 or abs(change) <= abs(before):
        how = f"{'grows' if before * change > 0 else 'fades'} by {number(abs(change), 0, 'HU')}"
    contrast = f"its contrast of {number(before, 0, 'HU')} {how}"
    if count == 1:
        return f"One segment is suspicious ({one.patient}): {contrast}."
    return f"{plural(count, 'segment')} are suspicious, drawn are {len(drawn)}. The first ({one.patient}): {contrast}."
