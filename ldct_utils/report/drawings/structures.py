"""Figures of 09: errors over structures, the removal experiment, and what networks leave of faint lesions; and what is
said of them.
"""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ldct_utils.report import plots
from ldct_utils.report.sentences import listed, number, percent, plural, some

MARKERS = "osD^vP*X"
KINDS = {  # title: error, image whose segments count, unit
    "RMSE of all pixels": ("RMSE", "", ""),
    "MeanSRMSE,\nsegments of the NDCT": ("mean_srmse", "ndct", "slices"),
    "MeanSRMSE, segments of\nthe NDCT, linked": ("mean_srmse", "ndct", "linked"),
    "MeanSRMSE,\nsegments of the LDCT": ("mean_srmse", "ldct", "slices"),
    "MeanSRMSE,\nsegments of the output": ("mean_srmse", "output", "slices"),
    "MaxSRMSE,\nsegments of the NDCT": ("max_srmse", "ndct", "slices"),
}
SEGMENTATIONS = {"felzenszwalb": "Felzenszwalb", "otsu": "Otsu", "thresholds": "thresholds", "sam": "SAM",
                 "labels": "the cohort's own organ labels"}  # as read  # fmt: skip
LESS = {"kept": "contrast", "d_cho_kept": "d′ of the Hotelling observer",
        "d_npw_kept": "d′ of the non-prewhitening observer"}  # fmt: skip
AGREEMENT = {"error": "error", "segments of": "segments of", "of": "segments in", "reference": "against",
             "tau": "tau", "reversed": "pairs shown to change places"}  # fmt: skip
UNITS = {"slices": "single slices", "linked": "linked slices"}
KEPT = {"kept": "contrast", "d_cho_kept": "d′, Hotelling observer", "d_npw_kept": "d′, non-prewhitening observer"}


def _spans(axis, part, at, value, **style):
    """Dots with their intervals, one line each; a dot alone where there is no interval."""
    axis.plot(part[value], at, "o", ms=4.5, **style)
    axis.hlines(at, part.low.fillna(part[value]), part.high.fillna(part[value]), color=style["color"], lw=1.2)


def _lines(axes, names, wide: int):
    """Names of the lines of a dot plot, the first on top."""
    axes[0].set_yticks(range(len(names)), [fill(name, wide) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)


def errors(ranking, beside, references: dict, names: dict):
    """Errors of the methods, a panel a kind of error (``KINDS``).

    Args: ranking: of ``structures.errors.ranked``. beside: the same of known denoisers and the LDCT, which stand below
        a line. references, names: {reference or method: what to call it}. The method with the least RMSE against the
        first reference stands on top.
    """
    of_kind, below = (one.set_index(["error", "segments of", "unit"]).sort_index() for one in (ranking, beside))
    panels = {title: of_kind.loc[[key]] for title, key in KINDS.items() if key in of_kind.index}
    plain = panels["RMSE of all pixels"].query("method != 'LDCT'")
    order = plain[plain.reference == next(iter(references))].sort_values("mean_hu").method.to_list()
    reach = {title: 1.6 * part["high"].fillna(part["mean_hu"]).max() for title, part in panels.items()}
    count, known = len(order), list(dict.fromkeys(beside["method"]))
    panels = {title: pd.concat([part.query("method != 'LDCT'"), below.loc[below.index.isin([KINDS[title]])]])
              for title, part in panels.items()}  # fmt: skip
    order, names = [*order, *known], {name: name for name in known} | names
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = (9.5, rows * (0.42 * len(order) + 1.0) + 0.7)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    for axis, (title, part) in zip(axes.flat, panels.items()):
        for shift, (reference, label) in enumerate(references.items()):
            one = part[part.reference == reference].set_index("method").reindex(order)
            at = np.arange(len(order)) + 0.24 * (shift - (len(references) - 1) / 2)
            far = (one.mean_hu > reach[title]).to_numpy()  # drawn, they would squash all others
            _spans(axis, one[~far], at[~far], "mean_hu", color=plots.COLOURS[shift], label=f"against the {label}")
            for value, line in zip(one.mean_hu[far], at[far]):
                axis.text(0.98, line, f"{value:.0f} →", transform=axis.get_yaxis_transform(), ha="right", va="center",
                          fontsize=8, color=plots.COLOURS[shift])  # fmt: skip
        axis.set_title(title)
        axis.margins(x=0.1)
        axis.locator_params(axis="x", nbins=4)
        axis.axhline(count - 0.5, color="0.6", lw=0.8)
    for line in axes:
        _lines(line, [names[one] for one in order], 26)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("error, HU (further left is better)", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def removal(spans, theory, main: dict, others: dict):
    """How often each metric notices a removal, against the added noise: a panel a cohort and share.

    Args: spans: of ``structures.removal.intervals``, with cohort. theory: of ``structures.removal.beside_theory``.
        main: {metric: label} of those drawn in colour; all others are grey. others: {metric: label} of the grey ones,
        of which the lowest is named.
    """
    panels = list(spans.groupby(["cohort", "q"], sort=False))
    colours = dict(zip(main, (plots.COLOURS[i] for i in (1, 4, 5, 0, 2, 6)), strict=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels) + 3.2, 3.9), squeeze=False, sharey=True)
    for axis, ((cohort, q), part) in zip(axes[0], panels):
        step = {sigma: i for i, sigma in enumerate(sorted(part.sigma.unique()))}
        grey = [name for name in part.metric.unique() if name not in main]
        for i, name in enumerate([*grey, *main]):
            one = part[part.metric == name].sort_values("sigma")
            x = one.sigma.map(step).to_numpy(float)
            if name not in main:
                axis.plot(x, one.tpf, color="#BBBBBB", lw=1, label=f"other metrics ({len(grey)})")
                continue
            x += 0.05 * (i - len(grey) - 2)
            axis.plot(x, one.tpf, MARKERS[i % 8] + "-", ms=5, lw=2, color=colours[name], label=main[name])
            axis.vlines(x, one.low, one.high, color=colours[name], lw=1)
        if grey:
            low = part[part.metric.isin(grey)].sort_values(["tpf", "sigma"]).iloc[0]
            axis.annotate(others[low.metric], (step[low.sigma], low.tpf), xytext=(0, -3), ha="center", va="top",
                          textcoords="offset points", color="#666666", fontsize=8)  # fmt: skip
        known = theory[(theory.cohort == cohort) & (theory.q == q)]
        axis.plot(known.sigma.map(step), known.theory, color="black", ls=":", lw=1.4, label="PSNR, by its formula")
        axis.axhline(0.5, color="black", lw=0.8)
        axis.text(0.01, 0.505, "chance", transform=axis.get_yaxis_transform(), va="bottom", fontsize=8)
        axis.set_xticks(range(len(step)), [f"{sigma:g}" for sigma in step])
        axis.set(
            title=f"{cohort}: {percent(q)} of a volume's structures removed, at least one",
            xlabel="SD of the added noise, HU",
            ylim=(-0.03, 1.03),
        )
    axes[0, 0].set_ylabel("removal is noticed (TPF); 1 is best")
    handles = {label: line for line, label in zip(*axes[0, 0].get_legend_handles_labels())}
    figure.legend(handles.values(), handles, loc="outside right center")
    return figure


def kept(spans, names: dict):
    """What networks leave of faint lesions, a panel a quantity (``KEPT``), who keeps most of the contrast on top.

    Args: spans: of ``task_based.kept.spans``. names: {method: what to call it}.
    """
    order = spans[spans.quantity == "kept"].sort_values("mean", ascending=False).method.to_list()
    figure, axes = plt.subplots(1, len(KEPT), figsize=(9.5, 0.5 * len(order) + 1.4), sharey=True)
    for axis, (quantity, label) in zip(axes, KEPT.items()):
        part = spans[spans.quantity == quantity].set_index("method").reindex(order)
        _spans(axis, part, np.arange(len(order)), "mean", color=plots.COLOURS[0])
        axis.axvline(1, color="black", lw=1, ls=":")
        axis.set_title(label)
        axis.margins(x=0.12)
        axis.locator_params(axis="x", nbins=4)
    _lines(axes, [names[one] for one in order], 26)
    figure.supxlabel("relative to the low-dose slice (dotted: 1); further right is better; the scales differ",
                     fontsize=10)  # fmt: skip
    return figure


# ---- what is said ----
def least(best: str, pixels: float, structures: float, unclear, names: dict) -> str:
    """Who has the least error, and of which other methods that was not shown.

    Args: best: the method. pixels: its RMSE over pixels, structures: over these, HU. unclear: the others that were not
        shown to have more; None where there are too few patients to tell. names: as of ``errors``, the LDCT's too.
    """
    who, over = names[best], f"{number(structures, 1)} HU"
    if len(names) < 3:
        return f"The error of {who} is {number(pixels, 1)} HU over pixels and {over} over structures."
    told = f"Against the NDCT, {who} has the least error over pixels, {number(pixels, 1)} HU; over structures its error"
    told += f" is {over}."
    if unclear is None:
        return f"{told} Too few patients to show that others have more."
    w = "was" if len(unclear) == 1 else "were"
    return f"{told} {listed(map(names.get, unclear))} {w} not shown to have more over pixels." if unclear else told


def turned(agreement, methods: int, trainings, enough: bool) -> str:
    """Whether errors over structures change the order of methods.

    Args: agreement: of ``structures.errors.agreement``. methods: how many, each trained as often as ``trainings`` says.
        enough: whether the patients are enough for intervals.
    """
    most, pairs = agreement.reversed.max(), int(agreement.pairs.max())
    if not enough:
        return "Too few patients to show that two methods change places."
    if most:
        return f"Errors over structures reverse at most {most:g} of {plural(pairs, 'pair')} of methods."
    times = sorted(set(trainings))
    how = f"{times[0]} to {times[-1]} trainings" if len(times) > 1 else "one training" if times == [1] else \
        plural(times[0], "training")  # fmt: skip
    return f"No two of the {methods} methods, {how} each, were shown to change places by errors over structures."


def sure(spans) -> str:
    """Where a metric counts as noticing a removal, in words that follow "its". Args: as of ``removal``."""
    return "TPF is over 0.9" if spans.low.isna().all() else "interval lies above chance"


def planted(lesions) -> str:
    """What faint lesions are planted in each patient. Args: lesions: (radius, mm, and contrast, HU) each."""
    radii, contrasts = (sorted({one[i] for one in lesions}) for i in (0, 1))
    spread = [" to ".join(dict.fromkeys(number(x, 0 if x == int(x) else 1) for x in (values[0], values[-1])))
              for values in (radii, contrasts)]  # fmt: skip
    return f"{plural(len(lesions), 'lesion')} a patient, radius {spread[0]} mm, contrast {spread[1]} HU"


def hardest(spans, main: dict, oracle: str) -> str:
    """What metrics notice at the strongest noise. Args: spans, main: as of ``removal``. oracle: the metric of ``main``
    that is told the segments, and is no answer."""
    first = spans[(spans.cohort == spans.cohort.iloc[0]) & (spans.q == spans.q.iloc[0]) & spans.metric.isin(list(main))]
    last = first[first.sigma == first.sigma.max()]
    known, own = last[last.metric == oracle], last[last.metric != oracle]
    where, top = f"At {last.sigma.iloc[0]:g} HU of noise", own[own.tpf == own.tpf.max()]
    highest = f"the highest TPF is {number(top.tpf.iloc[0], 2)} ({listed(map(main.get, top.metric))})"
    if own.low.isna().all():
        return f"{where} {highest}; too few volumes to tell it from chance."
    sure = own[own.low > 0.5]
    if len(sure):
        notice = "still notices" if len(sure) == 1 else "still notice"
        return f"{where} {listed(map(main.get, sure.metric))} {notice} the removal; {highest}."
    but = " but the oracle" if (known.low > 0.5).any() else ""
    return f"{where} no metric{but} is shown to notice the removal; {highest}."


def keeps(shares: dict) -> str:
    """What networks keep of faint lesions. Args: shares: {name: share of the contrast}, at least one."""
    of, order = "of the contrast of planted faint lesions", sorted(shares, key=shares.get)
    low, high = percent(shares[order[0]]), percent(shares[order[-1]])
    if len(order) == 1:
        return f"{order[0]} keeps {low} {of}."
    if low == high:
        return f"{some(len(order), len(order), 'loss').capitalize()} keep {low} {of}."
    return f"Networks keep {low} ({order[0]}) to {high} {of}."


def against(who: str, gaps) -> str:
    """What one loss keeps more or less of than the others.

    Args: who: its name. gaps: of ``task_based.kept.against``, ``who`` minus each other one; not empty.
    """
    if gaps.differs.isna().all():
        return "Too few patients to compare losses."
    clauses, same = [], []
    for quantity, part in gaps.groupby("quantity", sort=False):
        sure = part[part.differs.fillna(False).astype(bool)]
        for word, count in (("less", (sure.difference < 0).sum()), ("more", (sure.difference > 0).sum())):
            if count:
                clauses.append(f"{word} {LESS[quantity]} than {some(int(count), len(part), 'other loss')}")
        same += [] if len(sure) else [LESS[quantity]]
    if not clauses:
        return f"No loss was shown to keep more or less than {who}."
    told = f"{who} keeps {listed(clauses)}."
    return told[:-1] + f"; in {listed(same)} no difference was shown." if same else told
