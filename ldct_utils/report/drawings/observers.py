"""What observers say of images, and the dose that each says an image saves."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots
from ldct_utils.report.drawings import styles

GREY = "#999999"  # of the ceiling, for which nothing can be saved


def d_prime(low, tasks, observers, images):
    """d' of every observer and image, a block a task; the colour is d' over that of the first image.

    Args: low: rows of ``task_based.panel.judge`` at one dose. tasks, observers, images: names, in order; the first
        image is the one that the others are set against.
    Returns: the figure.
    """
    tables = {}
    for name in tasks:
        part = low[(low["task"] == name) & low["observer"].isin(observers)]
        wide = part.pivot(index="observer", columns="image", values="d_prime")[list(images)]
        tables[name] = wide.loc[[one for one in observers if one in wide.index]]
    heights = [len(table) for table in tables.values()]
    figure, axes = plt.subplots(
        len(tables), 1, figsize=(4 + 0.72 * len(images), 1.5 + 0.36 * sum(heights)), sharex=True, squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, (name, table) in zip(axes[:, 0], tables.items()):
        ratio = table.clip(lower=0.05).div(table[images[0]].clip(lower=0.05), axis=0)
        colour = np.log2(ratio.clip(upper=4)).to_numpy()
        drawn = plots.matrix(axis, colour, [fill(i, 24) for i in images], table.index, -2, 2)
        for text, value in zip(axis.texts, table.to_numpy().ravel()):
            text.set_text("∞" if np.isinf(value) else f"{value:.2f}")
        styles.true_minus(axis)
        axis.set_title(name, fontsize=9, loc="left")
    bar = figure.colorbar(drawn, ax=axes[:, 0], shrink=0.25, aspect=25, pad=0.01, ticks=[-2, -1, 0, 1, 2])
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    bar.set_label(f"d′ over that of {images[0]}")
    return figure


def doses(bought, tasks, images, observers, ceiling: str, low: float, looked_at):
    """Dose of the plain reconstruction that is as good, a column a task, a group of lines an image, a line an observer.

    Args: bought: task, observer, image, worth, worth_low and worth_high, fractions. tasks, images, observers: names, in
        order. ceiling: the observer for which nothing can be saved. low: the images' own dose. looked_at: doses.
    Returns: the figure.
    """
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(2 + 1.6 * len(tasks), 1.8 + 0.9 * len(images)), sharey=True, squeeze=False
    )
    colours = {name: GREY if name == ceiling else plots.COLOURS[i % 6] for i, name in enumerate(observers)}
    marks = dict(zip(observers, "osD^vP*X"))
    for axis, name in zip(axes[0], tasks):
        for one in bought[(bought["task"] == name) & bought["image"].isin(images)].itertuples():
            level = images.index(one.image) + 0.7 * (observers.index(one.observer) + 0.5) / len(observers) - 0.35
            ends, colour = [100 * one.worth_low, 100 * one.worth_high], colours[one.observer]
            axis.plot(ends, [level, level], color=colour, lw=1.4)
            axis.plot(100 * one.worth, level, marker=marks[one.observer], color=colour, ms=5, ls="")
        axis.axvline(100 * low, color="black", lw=1, ls=":")
        plots.ticks_at(axis, [100 * dose for dose in looked_at])
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlim(80 * looked_at[0], 125 * looked_at[-1])
        axis.set_title(fill(name, 16), fontsize=9)
    axes[0, 0].set_yticks(range(len(images)), [fill(i, 26) for i in images])
    axes[0, 0].set_ylim(len(images) - 0.5, -0.5)
    axes[0, len(tasks) // 2].set_xlabel("dose of the FBP that is as good, % of the normal one; right is better →")
    handles = [plt.Line2D([], [], marker=marks[o], color=colours[o], label=o + " (a ceiling)" * (o == ceiling))
               for o in observers]  # fmt: skip
    handles.append(plt.Line2D([], [], color="black", lw=1, ls=":", label="the image's own dose: nothing is saved"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    return figure
