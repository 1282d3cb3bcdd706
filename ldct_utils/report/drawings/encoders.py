"""The training of an encoder: its losses, what its levels still show of a patch, and how far its weights moved."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots


def losses(curve, names: dict):
    """Losses over a training against that of a constant answer, running means of 10 steps; lower is better.

    Args: curve: column step, and one a loss. names: {column: its words}.
    """
    figure, axis = plt.subplots(figsize=(8, 3.4))
    for name, words in names.items():
        axis.semilogy(curve["step"], curve[name].rolling(10, min_periods=1).mean(), label=words)
    axis.axhline(1, color="black", lw=0.8, ls=":", label="an answer that ignores the image")
    plots.plain_log(axis, "y")
    axis.set(xlabel="step", ylabel="loss / loss of a constant answer")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def rebuilt(images, titles, level: float, width: float, pixel_mm: float = np.nan):
    """A patch and what each level says of it, with the differences below.

    Args: images: (1 + levels, H, W), HU, the patch first. titles: of all. level, width: of the window, HU. pixel_mm.
    """
    count = len(titles)
    figure, axes = plt.subplots(2, count, figsize=(3.1 * count + 1, 6.2), squeeze=False)
    for i, title in enumerate(titles):
        plots.show(axes[0, i], images[i], level, width, title)
        axes[1, i].set_axis_off()
        if i:
            error = np.asarray(images[i], np.float64) - images[0]
            words = f"minus {titles[0]}, error {np.sqrt(np.mean(error**2)):.0f} HU"
            drawn = plots.difference(axes[1, i], error, 200.0, words)
    plots.row_label(axes[0, 0], plots.window_text(level, width))
    plots.scale_bar(axes[0, 0], pixel_mm, 10)
    if count > 1:
        figure.colorbar(drawn, ax=axes, label="difference, HU", shrink=0.5)
    return figure


def moved(change, layers):
    """How far the weights of each convolution moved, %. Args: change: column relative change. layers: their names."""
    figure, axis = plt.subplots(figsize=(8, 3))
    axis.bar(range(len(change)), 100 * change["relative change"], color=plots.COLOURS[0])
    axis.set_xticks(range(len(change)), layers, rotation=60, ha="right", fontsize=8)
    axis.set(ylabel="relative change of weights, %")
    return figure
