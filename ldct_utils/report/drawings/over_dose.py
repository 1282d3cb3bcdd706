"""Detection, image metrics and equivalent doses against dose, and what fine structure is the truth's own."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ldct_utils.report import plots
from ldct_utils.report.drawings import styles

GREY = [  # of controls that stand beside networks: line, marker and shade, so that each is told from the others
    ("-", "", "#000000"), ("--", "", "#000000"), ("-", "v", "#777777"), ("-", "^", "#777777"), ("-", "x", "#777777"),
    ("-", "+", "#777777"), ("--", "v", "#777777"), ("--", "^", "#777777"),
]  # fmt: skip
DOSE = "dose, % of the normal one"


def _curve(axis, part, look, shift=0.0, **more):
    """Means and intervals of one curve over dose; ``shift``: to stand beside the others, not on them."""
    at = 100 * part["dose"] * 1.025**shift
    axis.errorbar(at, part["mean"], plots.reach(part), **{"ms": 4, "lw": 1.2, **look, **more})


def _dose_axis(axis, doses, label):
    plots.ticks_at(axis, [100 * dose for dose in doses])
    axis.set(xlabel=DOSE, ylabel=label)


def detection(means, gains, lesions, looks: dict, controls: dict):
    """d' of both observers against dose, and what denoising adds to it: a column a lesion.

    Args: means, gains: of ``equivalence.means`` and ``equivalence.gains``. lesions: their names, in order. looks,
        controls: {network, or filter beside them: colour, marker and label}.
    Returns: the figure.
    """
    figure, axes = plt.subplots(3, len(lesions), figsize=(3.5 * len(lesions), 8.7), squeeze=False)
    looks = {"FBP": styles.FBP} | looks | controls
    doses, middle = sorted(means["dose"].unique()), (len(looks) - 1) / 2
    for number, name in enumerate(lesions):
        for axis, observer in zip(axes[:, number], ("CHO", "NPW")):
            rows = means.query('quantity == "d\'" and observer == @observer and lesion == @number')
            for shift, (method, look) in enumerate(looks.items()):
                _curve(axis, rows[rows["method"] == method], look, shift - middle)
            _dose_axis(axis, doses, f"d′ ({observer}) ↑")
        for shift, ((method, observer), part) in enumerate(
            gains[gains["lesion"] == number].groupby(["method", "observer"], sort=False)
        ):
            hollow = {} if observer == "CHO" else {"ls": ":", "mfc": "white"}
            _curve(axes[2, number], part, looks[method], shift - middle, **hollow)
        axes[2, number].axhline(0, color="black", lw=0.8)
        _dose_axis(axes[2, number], doses, "d′ minus that of FBP ↑")
        axes[0, number].set_title(name.replace("-", "−"))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def metrics(means, labels: dict, looks: dict, controls: dict):
    """Image metrics against dose. Args: labels: {metric: its axis label}; the others: as of ``detection``."""
    looks = {"FBP": styles.FBP} | looks | controls
    across = min(2, len(labels))
    lines = -(-len(labels) // across)
    figure, axes = plt.subplots(lines, across, figsize=(4.6 * across, 0.5 + 3 * lines), squeeze=False)
    for axis in axes.ravel()[len(labels) :]:
        axis.set_axis_off()
    for axis, (name, label) in zip(axes.ravel(), labels.items()):
        rows = means[means["quantity"] == name]
        for shift, (method, look) in enumerate(looks.items()):
            _curve(axis, rows[rows["method"] == method], look, shift - (len(looks) - 1) / 2)
        _dose_axis(axis, sorted(means["dose"].unique()), label)
        # an error falls as a power of the dose, and on a plain axis one bad filter presses the others together
        if "↓" in label and rows["mean"].min() > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(ScalarFormatter())
            axis.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def equivalent(found, measures, doses, at: float, looks: dict, controls: dict):
    """Equivalent doses in both readings, a line a measure and network; what lies beyond the doses is an arrow.

    The controls of a measure share one line, without their intervals.

    Args: found: rows of ``equivalence.bought`` of all lesions. measures: their order. doses: those looked at. at: the
        dose of the denoised images. looks, controls: {network or control: colour, marker and label}.
    Returns: the figure.
    """
    lines = [*looks, *controls][: len(looks) + bool(controls)]
    figure, axes = plt.subplots(1, 2, figsize=(10, 1.9 + 0.22 * len(measures) * len(lines)), sharey=True)
    shown = (("worth", at, f"FBP as good as the image denoised at {100 * at:g} %\nright is better →"),
             ("full dose", 1.0, "denoised image as good as FBP at 100 %\n← left is better"))  # fmt: skip
    for axis, (reading, nothing, label) in zip(axes, shown):
        for one in found[found["reading"] == reading].itertuples():
            number = lines.index(one.method) if one.method in looks else len(looks)
            level = list(measures).index(one.measure) + 0.8 * (number + 0.5) / len(lines) - 0.4
            _dose_bar(axis, one, level, doses, (looks | controls)[one.method], bar=one.method in looks)
        for line in range(1, len(measures)):
            axis.axhline(line - 0.5, color="#DDDDDD", lw=0.6, zorder=0)
        axis.axvline(100 * nothing, color="black", lw=1, ls=":")
        plots.ticks_at(axis, [100 * dose for dose in doses])
        axis.set(xlabel=f"dose, %: {label}",
                 xlim=(76 * doses[0], 131), yticks=range(len(measures)),
                 yticklabels=[name.replace("'", "′") for name in measures])  # fmt: skip
    axes[0].invert_yaxis()
    handles = [plt.Line2D([], [], **{"lw": 1.4, **look}) for look in looks.values()]
    handles += [plt.Line2D([], [], **{**look, "lw": 0}) for look in controls.values()]
    handles.append(plt.Line2D([], [], color="black", lw=1, ls=":", label="no dose is saved"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _dose_bar(axis, one, level, doses, look, bar=True):
    middle, *ends = 100 * np.clip([one.dose, one.low, one.high], 0.8 * doses[0], 1.25)
    if bar:
        axis.plot(ends, [level, level], color=look["color"], lw=1.4)
    kind = "<" if one.dose < doses[0] else ">" if one.dose > 1 else look["marker"]
    axis.plot(middle, level, marker=kind, color=look["color"], mfc=look.get("mfc", look["color"]), ms=5, ls="")


def coherence(shares, controls, looks: dict, named: dict):
    """Shares of power against spatial frequency: controls grey, networks with their intervals.

    Args: shares: of ``fabrication.shares``. controls: names of the methods that are no networks. looks: as of
        ``equivalent``. named: {control: what to call it}, where it has another name.
    Returns: the figure.
    """
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.3))
    for axis, (name, part) in zip(axes, shares.groupby("share", sort=False)):
        for method, rows in part.groupby("method", sort=False):
            if method in controls:
                line, marker, shade = GREY[controls.index(method) % len(GREY)]
                axis.plot(rows["frequency"], rows["mean"], label=named.get(method, method), color=shade, lw=1, ls=line,
                          marker=marker, ms=5)  # fmt: skip
                continue
            axis.plot(rows["frequency"], rows["mean"], ms=4, **looks[method])
            axis.fill_between(rows["frequency"], rows["low"], rows["high"], color=looks[method]["color"], alpha=0.15,
                              lw=0)  # fmt: skip
        axis.set(xlabel="spatial frequency, lp/mm", ylabel=name)
    axes[0].set(ylim=(0, 1.02))
    axes[1].set_yscale("symlog", linthresh=0.1)
    axes[1].set(ylim=(-0.1, 100))
    axes[1].axhline(0, color="black", lw=0.8)
    axes[2].set(yscale="log", ylim=(0.01, 100))
    axes[2].axhline(1, color="black", lw=0.8, ls=":")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure
