"""Values of many images, a row a group: how they lie and what their mean is."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots


def dots(table, group: str, value: str, label: str):
    """A dot an image, a bar the mean, a row a group in the order of the table.

    Args: table: columns ``group`` and ``value``. label: of the axis, with its better direction.
    Returns: the figure.
    """
    groups = list(dict.fromkeys(table[group]))
    figure, axis = plt.subplots(figsize=(7, 0.8 + 0.36 * len(groups)))
    for row, name in enumerate(groups):
        points = table[table[group] == name][value].dropna()
        up = row + np.linspace(-0.25, 0.25, len(points))
        axis.plot(points, up, ".", color=plots.COLOURS[0], ms=4, alpha=0.5)
        axis.plot([points.mean()] * 2, [row - 0.35, row + 0.35], color="black", lw=1.5)
    axis.set_yticks(range(len(groups)), groups)
    axis.set(xlabel=label, ylim=(len(groups) - 0.5, -0.5), xlim=(min(0, axis.get_xlim()[0]), None))
    return figure
