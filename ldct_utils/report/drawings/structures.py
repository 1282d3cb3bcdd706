"""Figures of 09: errors over structures, the removal experiment, and what networks leave of faint lesions."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots
from ldct_utils.report.sentences import percent

MARKERS = "osD^vP*X"
KINDS = {  # title: error, image whose segments count, unit
    "RMSE of all pixels": ("RMSE", "", ""),
    "MeanSRMSE,\nsegments of the NDCT": ("mean_srmse", "ndct", "slices"),
    "MeanSRMSE, segments of\nthe NDCT, linked": ("mean_srmse", "ndct", "linked"),
    "MeanSRMSE,\nsegments of the LDCT": ("mean_srmse", "ldct", "slices"),
    "MeanSRMSE,\nsegments of the output": ("mean_srmse", "output", "slices"),
    "MaxSRMSE,\nsegments of the NDCT": ("max_srmse", "ndct", "slices"),
}
SEGMENTATIONS = {"felzenszwalb": "Felzenszwalb", "otsu": "Otsu", "thresholds": "thresholds", "sam": "SAM"}  # as read
KEPT = {"kept": "contrast", "d_cho_kept": "d′, Hotelling observer", "d_npw_kept": "d′, non-prewhitening observer"}


def _spans(axis, part, at, value, **style):
    """Dots with their intervals, one line each; a dot alone where there is no interval."""
    axis.plot(part[value], at, "o", ms=4.5, **style)
    axis.hlines(at, part.low.fillna(part[value]), part.high.fillna(part[value]), color=style["color"], lw=1.2)


def _lines(axes, names, wide: int):
    """Names of the lines of a dot plot, the first on top."""
    axes[0].set_yticks(range(len(names)), [fill(name, wide) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)


def errors(ranking, references: dict, names: dict):
    """Errors of the methods, a panel a kind of error (``KINDS``).

    Args: ranking: of ``structures.errors.ranked``. references, names: {reference or method: what to call it}. The
        method with the least RMSE against the first reference stands on top.
    """
    of_kind = ranking.set_index(["error", "segments of", "unit"]).sort_index()
    panels = {title: of_kind.loc[[key]] for title, key in KINDS.items() if key in of_kind.index}
    plain = panels["RMSE of all pixels"].query("method != 'LDCT'")
    order = plain[plain.reference == next(iter(references))].sort_values("mean_hu").method.to_list()
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = (9.5, rows * (0.42 * len(order) + 1.0) + 0.7)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    for axis, (title, part) in zip(axes.flat, panels.items()):
        for shift, (reference, label) in enumerate(references.items()):
            one = part[part.reference == reference].set_index("method").reindex(order)
            at = np.arange(len(order)) + 0.24 * (shift - (len(references) - 1) / 2)
            _spans(axis, one, at, "mean_hu", color=plots.COLOURS[shift], label=f"against the {label}")
        axis.set_title(title)
        axis.margins(x=0.1)
        axis.locator_params(axis="x", nbins=4)
    for line in axes:
        _lines(line, [names[one] for one in order], 26)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("error, HU (further left is better)", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def removal(spans, theory, main: dict):
    """How often each metric notices a removal, against the added noise: a panel a cohort and share.

    Args: spans: of ``structures.removal.intervals``, with cohort. theory: of ``structures.removal.beside_theory``.
        main: {metric: label} of those drawn in colour; all others are grey.
    """
    panels = list(spans.groupby(["cohort", "q"], sort=False))
    colours = dict(zip(main, (plots.COLOURS[i] for i in (1, 4, 0, 2, 6))))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels) + 3.2, 3.9), squeeze=False, sharey=True)
    for axis, ((cohort, q), part) in zip(axes[0], panels):
        step = {sigma: i for i, sigma in enumerate(sorted(part.sigma.unique()))}
        others = [name for name in part.metric.unique() if name not in main]
        for i, name in enumerate([*others, *main]):
            one = part[part.metric == name].sort_values("sigma")
            x = one.sigma.map(step).to_numpy(float)
            if name not in main:
                axis.plot(x, one.tpf, color="#BBBBBB", lw=1, label=f"other metrics ({len(others)})")
                continue
            x += 0.05 * (i - len(others) - 2)
            axis.plot(x, one.tpf, MARKERS[i % 8] + "-", ms=5, lw=2, color=colours[name], label=main[name])
            axis.vlines(x, one.low, one.high, color=colours[name], lw=1)
        known = theory[(theory.cohort == cohort) & (theory.q == q)]
        axis.plot(known.sigma.map(step), known.theory, color="black", ls=":", lw=1.4, label="PSNR, theory")
        axis.axhline(0.5, color="black", lw=0.8)
        axis.text(0.01, 0.505, "chance", transform=axis.get_yaxis_transform(), va="bottom", fontsize=8)
        axis.set_xticks(range(len(step)), [f"{sigma:g}" for sigma in step])
        axis.set(title=f"{cohort}, q = {percent(q)}", xlabel="SD of the added noise, HU", ylim=(-0.03, 1.03))
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
    _lines(axes, [names[one] for one in order], 26)
    figure.supxlabel("relative to the low-dose slice (dotted: 1); further right is better", fontsize=10)
    return figure
