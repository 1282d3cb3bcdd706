"""The plane of error and contrast kept: filters, blends and losses, each loss's distance from the blends, a lesion."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ldct_utils.ct.intensity import FAINT_HU
from ldct_utils.report import plots
from ldct_utils.report.drawings import styles
from ldct_utils.report.sentences import number

FILTERS = {"Gaussian": ("s", "0.45"), "median": ("^", "0.45"), "total variation": ("v", "black")}  # marker, colour

LEFTMOST_DB = -4.0  # what loses more than this is told in the legend: drawn, it would squash all others

ALT = "Gain in PSNR against contrast kept: a point a network with intervals, the curve of mixes with the LDCT, filters."


def plane(losses, filters, band, dots, says: dict, undecided, target: str):
    """Left: gain in PSNR against contrast kept. Right: how far each loss lies from the blends, twice.

    Args:
        losses: rows by method, best first, with gain, kept, more_kept, less_error, each with ``_low`` and ``_high``,
            contrasts in %; answer.
        filters: name, strength, gain, kept (%). band: of the blends: gain, low, high, kept (%). dots: of it, marked.
        says: {method: its words}. undecided: answers drawn hollow. target: what the gain is against.
    """
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 5.6), width_ratios=[2, 1, 1])
    _plane(axes[0], losses, filters, band, dots, says, undecided)
    axes[0].set(xlabel=f"PSNR over the LDCT, dB (in HU, against the {target})", ylabel="contrast of lesions kept, %")
    axes[2].sharey(axes[1])
    words = (("more_kept", "contrast kept beyond\nthe blend of equal error,\npoints"),
             ("less_error", "gain beyond the blend\nthat keeps as much,\ndB"))  # fmt: skip
    for axis, (quantity, label) in zip(axes[1:], words):
        _distance(axis, losses, quantity, says, undecided)
        axis.set(xlabel=f"{label}, better →")
    axes[1].invert_yaxis()
    axes[2].tick_params(labelleft=False)
    if losses["answer"].isin(undecided).any():
        hollow = "hollow: not shown to differ from a blend, or too few patients to say"
        axes[0].plot([], [], "o", color="0.3", mfc="white", mew=1.2, ms=8, label=hollow)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return figure


def filters_below(points) -> pd.DataFrame:
    """Filters as rows of the table of losses, each at its strength of the largest gain: method, gain, kept (%), answer.

    Args: points: name, strength, gain, kept (%).
    """
    best = points.sort_values("gain").drop_duplicates("name", keep="last")
    return pd.DataFrame({"method": best["name"] + ", no network", "gain": best["gain"], "kept": best["kept"],
                         "answer": "a filter"})  # fmt: skip


def beside_mixes(table, band, filters, says: dict, unsettled=()):
    """Gain in PSNR against contrast kept, a point a method, beside the mixes of one of them with the LDCT and filters:
    of all lesions and, where there are any, of faint ones.

    Args: table: of ``testing.kept_of_methods``, shares in %. band: of ``mixes.of_base``. filters: of
        ``training.filters.points``. says: {method: its words}. unsettled: methods that were not trained enough to be
        compared, drawn hollow.
    Returns: the figure.
    """
    panels = {"kept": ("all lesions", "low", "high")}
    if table["faint"].notna().any():
        panels["faint"] = (f"faint lesions, under {FAINT_HU:.0f} HU", "faint_low", "faint_high")
    # the legend below has a line for two methods a panel
    size = (2.4 + 4.4 * len(panels), 4.2 + 0.2 * len(table) / len(panels))
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharex=True)
    for axis, (share, (title, *ends)) in zip(axes[0], panels.items()):
        spans = table.rename(columns=dict(zip([share, *ends], ["here", "from", "to"])))
        curve, plain = (one.assign(kept=100 * one[share]) for one in (band, filters))
        if share != "kept":  # the curve's interval is that of a distance in the plane of all lesions
            curve = curve.assign(low=np.nan, high=np.nan)
        _beside_mixes(axis, spans.dropna(subset="here"), curve, plain, says, unsettled)
        axis.set(xlabel="gain in PSNR over the LDCT, dB", title=title)
    axes[0, 0].set_ylabel("contrast of lesions kept, %")
    if set(unsettled) & set(table["method"]):
        axes[0, 0].plot([], [], "o", color="0.3", mfc="white", ms=7, label="hollow: not trained enough to be compared")
    keys = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(keys.values(), keys, loc="outside lower center", ncols=2 * len(panels), fontsize=9)
    return figure


def _beside_mixes(axis, table, band, filters, says, unsettled):
    """One panel. Args: table: with here, from, to: the share kept and its interval, %. band, filters: kept in %."""
    base, looks = says[table["base"].iloc[0]], styles.styles({name: says[name] for name in table["method"]})
    inside = table[table["gain"] >= LEFTMOST_DB]
    left = max(min([0, *inside["gain_low"].fillna(inside["gain"])]), LEFTMOST_DB) - 0.3
    lowest = min([*table["from"].fillna(table["here"]), band["kept"].min()]) - 2
    _filters(axis, filters, left, lowest)
    inside_of = "95 % interval of the mixes" if band["low"].notna().any() else None
    axis.fill_betweenx(band["kept"], band["low"], band["high"], color="0.85", lw=0, label=inside_of)
    axis.plot(band["gain"], band["kept"], color="0.35", lw=1.5, label=f"{base} mixed with the LDCT")
    axis.plot(0, 100, marker="o", color="black", ms=6, ls="", label="LDCT")
    for _, row in table.iterrows():
        reach = [np.abs([[here - low], [high - here]]) for here, low, high in (
            row[["here", "from", "to"]], row[["gain", "gain_low", "gain_high"]])]  # fmt: skip
        face = {"mfc": "white"} if row["method"] in unsettled else {}
        if row["method"] not in set(inside["method"]):
            face["label"] = f"{says[row['method']]} (outside, at {number(row['gain'], 1)} dB)"
        axis.errorbar(row["gain"], row["here"], *reach, ms=7, lw=1.2, ls="", **looks[row["method"]] | face)
    axis.set(xlim=(left, None), ylim=(lowest, None))
    axis.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    axis.annotate("better", (0.97, 0.95), (0.83, 0.82), xycoords="axes fraction", arrowprops={"arrowstyle": "->"})


def _filters(axis, filters, left: float, lowest: float):
    """A dotted curve a filter, by strength, a point each: gain (dB), kept (%). Of one that lies outside the frame, left
    of ``left`` dB or under ``lowest`` %, the legend tells the strength of the largest gain."""
    for name, part in filters.groupby("name", sort=False):
        marker, colour = FILTERS[name]
        seen, best = ((part["gain"] >= left) & (part["kept"] >= lowest)).any(), part.loc[part["gain"].idxmax()]
        outside = f"{name} (outside, at {number(best['gain'], 1)} dB)"
        axis.plot(part["gain"], part["kept"], marker=marker, color=colour, ms=4, lw=1, ls=":",
                  label=f"{name}, by strength" if seen else outside)  # fmt: skip


def _face(row, colour, undecided):
    """How the mark of a loss is filled: hollow where nothing was decided."""
    hollow = row["answer"] in undecided
    return {"mfc": "white" if hollow else colour, "mec": colour if hollow else "black", "mew": 1.2 if hollow else 0.5}


def _plane(axis, losses, filters, band, dots, says, undecided):
    low = min([0, *losses["gain_low"].fillna(losses["gain"])]) - 0.3
    lowest = min([band["kept"].min(), *losses["kept_low"].fillna(losses["kept"])])
    lowest -= 0.3 * (100 - lowest) + 0.1
    _filters(axis, filters, low, lowest)
    axis.fill_betweenx(band["kept"], band["low"], band["high"], color=plots.COLOURS[0], alpha=0.2, lw=0,
                       label="95 % interval of the blends")  # fmt: skip
    axis.plot(
        band["gain"],
        band["kept"],
        color=plots.COLOURS[0],
        lw=2,
        label="blends of the MSE network with its input (right of MSE: some input subtracted)",
    )
    axis.plot(dots["gain"], dots["kept"], "o", ms=3.5, color=plots.COLOURS[0])
    alone = dots[dots["share"] == 0]
    axis.plot(alone["gain"], alone["kept"], "o", ms=8, mec="black", mew=0.5, color=plots.COLOURS[0], ls="", label="MSE")
    for name, row in losses.iterrows():
        colour, marker = plots.loss_style(name)
        reach = [[[row[q] - row[f"{q}_low"]], [row[f"{q}_high"] - row[q]]] for q in ("kept", "gain")]
        axis.errorbar(row["gain"], row["kept"], *reach, color=colour, marker=marker, ms=8, lw=1.2,
                      ls="", label=says[name], **_face(row, colour, undecided))  # fmt: skip
    axis.axvline(0, color="black", lw=0.8)
    axis.axhline(100, color="black", lw=0.8)
    axis.annotate("better", (0.97, 0.17), (0.83, 0.04), xycoords="axes fraction", arrowprops={"arrowstyle": "->"})
    axis.set(xlim=(low, None), ylim=(lowest, None))


def _distance(axis, losses, quantity, says, undecided):
    for line, (name, row) in enumerate(losses.iterrows()):
        colour, marker = plots.loss_style(name)
        axis.hlines(line, row[f"{quantity}_low"], row[f"{quantity}_high"], color=colour)
        axis.plot(row[quantity], line, marker, color=colour, ms=8, **_face(row, colour, undecided))
    axis.axvline(0, color=plots.COLOURS[0], lw=2)
    axis.set_yticks(range(len(losses)), [fill(says[name], 20) for name in losses.index], fontsize=9)
    axis.margins(y=0.1)
    axis.xaxis.set_major_locator(MaxNLocator(3))


def lesion(cut, titles, middle, radius: float, anatomy: str, pixel_mm: float):
    """One lesion in several images, circled; below, what each passes on of it.

    Args:
        cut: (2, N, H, W), HU: the images, then what each passes on; the first image is the target.
        titles: N of them. middle: (row, column) of the lesion; radius, pixels. pixel_mm: side of a pixel.
    """
    level, width = plots.window_at(float(cut[0, 0, *np.rint(middle).astype(int)]), anatomy)
    count = len(titles)
    figure, axes = plt.subplots(2, count, figsize=(2.6 * count, 6), squeeze=False)
    energy, limit = (cut[1, 0] ** 2).sum(), np.abs(cut[1, 0]).max()
    for i, title in enumerate(titles):
        error = np.sqrt(((cut[0, i] - cut[0, 0]) ** 2).mean())
        plots.show(axes[0, i], cut[0, i], level, width, fill(title, 24) + (f"\nerror {error:.1f} HU" if i else "\n"))
        kept = f"keeps {100 * (cut[1, i] * cut[1, 0]).sum() / energy:.0f} %"
        drawn = plots.difference(axes[1, i], cut[1, i], limit, kept)
        for axis in axes[:, i]:
            axis.add_patch(plt.Circle(middle[::-1], radius, fill=False, color=plots.COLOURS[4], lw=1.2))
    plots.row_label(axes[0, 0], f"image\n{plots.window_text(level, width)}")
    plots.row_label(axes[1, 0], "with minus without\nall lesions")
    figure.colorbar(drawn, ax=axes, label="passed on of the lesions, HU", shrink=0.5)
    plots.scale_bar(axes[0, 0], pixel_mm, 10)
    return figure
