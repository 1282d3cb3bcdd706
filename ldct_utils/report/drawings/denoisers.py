"""Denoisers of several years: each against the best before it, and slices as each of them leaves them."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots

VERDICTS = {"better": plots.COLOURS[0], "worse": plots.COLOURS[1], "not shown to differ": plots.COLOURS[7]}
SHOWN = {"not shown": "not shown to differ"}  # a verdict as the legend calls it; what is in neither has no verdict
MARKS = "Ds^ov"  # an anatomy each, all of them together first
LIMIT_HU = 50.0  # end of the scale of differences


def newer(table, methods: dict, metrics: dict):
    """How much better each method is than the best before it; a panel a metric, a line a method, a mark an anatomy.

    Args:
        table: of ``metrics.comparison.against_older``: anatomy, metric, method, better by, low, high, verdict.
        methods: {method: its words}, oldest first. metrics: {metric: label with its unit}.
    """
    table = table.dropna(subset="better by")
    lines, anatomies = (
        [m for m in methods if m in set(table["method"])],
        ["all", *sorted({*table["anatomy"]} - {"all"})],
    )
    columns = min(3, len(metrics))
    size = (2.2 + 3.6 * columns, (1.2 + 0.55 * len(lines)) * -(-len(metrics) // columns) + 0.5)
    figure, axes = plt.subplots(-(-len(metrics) // columns), columns, figsize=size, squeeze=False, sharey=True)
    for axis in axes.flat[len(metrics) :]:
        axis.set_axis_off()
    for axis, (metric, label) in zip(axes.flat, metrics.items()):
        for row in table[table["metric"] == metric].itertuples():
            place = anatomies.index(row.anatomy)
            height = lines.index(row.method) + 0.18 * (place - (len(anatomies) - 1) / 2)
            colour = VERDICTS.get(SHOWN.get(row.verdict, row.verdict))
            axis.plot([row.low, row.high], [height] * 2, color=colour or "0.4", lw=1.4, ls="-" if colour else ":")
            how = {"color": colour or "0.4", "mfc": colour or "white"}
            axis.plot(row[table.columns.get_loc("better by") + 1], height, MARKS[place % 5], ms=5.5, **how)
        axis.axvline(0, color="black", lw=0.8, ls=":")
        axis.set(xlabel=f"gain in {label}, better →")
        axis.locator_params(axis="x", nbins=5)
        axis.yaxis.set_tick_params(labelsize=8)
    axes[0, 0].set_yticks(range(len(lines)), [fill(methods[name], 26) for name in lines])
    axes[0, 0].set_ylim(len(lines) - 0.4, -0.6)
    handles = [plt.Line2D([], [], marker=m, ls="", color="0.3", label=a) for m, a in zip(MARKS, anatomies)]
    handles += [plt.Line2D([], [], color=colour, lw=3, label=words) for words, colour in VERDICTS.items()]
    handles.append(
        plt.Line2D([], [], color="0.4", lw=1.4, ls=":", marker="o", mfc="white", label="no verdict (hollow)")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


def slices(about, images, titles, lesions=None, size: float = 1.9):
    """Slices as several methods leave them, and below each what it differs from the reference by.

    Args:
        about: a row a slice: label, anatomy, and pixel_mm where it is known.
        images: (slices, 2 + methods, H, W), HU: LDCT, the reference, and the methods. titles: of all of them.
        lesions: (slices, H, W), a lesion's number, 0 for none; None where none are known.
    """
    height, count = 2.35 * size * len(about), len(titles)
    figure, axes = plt.subplots(2 * len(about), count, figsize=(size * count + 1, height), squeeze=False)
    for i, row in enumerate(about.to_dict("records")):
        window = plots.anatomy_window(row["anatomy"])
        above, below = axes[2 * i], axes[2 * i + 1]
        target = np.asarray(images[i][1], np.float64)
        for j, title in enumerate(titles):
            plots.show(above[j], images[i][j], *window, fill(title, 16) if i == 0 else "")
            error = images[i][j] - target
            below[j].set_axis_off()
            if j != 1:
                drawn = plots.difference(below[j], error, LIMIT_HU, f"error {np.sqrt(np.mean(error**2)):.0f} HU")
            for axis in ((above[j], below[j]) if j != 1 else (above[j],)) if lesions is not None else ():
                plots.circle(axis, lesions[i])
        plots.row_label(above[0], f"{row['label']}\n{plots.window_text(*window)}", 8)
        plots.row_label(below[0], f"minus {titles[1]}", 8)
        plots.scale_bar(above[0], row.get("pixel_mm", np.nan))
    figure.colorbar(drawn, ax=axes, label=f"image − {titles[1]}, HU", shrink=0.5, pad=0.01)
    return figure
