"""Values of many images, a row a group: how they lie and what their mean is."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots


def dots(table, group: str, value: str, label: str, kind: str | None = None):
    """A dot an image, a bar the mean, a row a group in the order of the table.

    Args: table: columns ``group`` and ``value``. label: of the axis, with its better direction. kind: column whose
        values have a colour each, e.g. the anatomy.
    Returns: the figure.
    """
    groups, kinds = list(dict.fromkeys(table[group])), [None] if kind is None else list(dict.fromkeys(table[kind]))
    figure, axis = plt.subplots(figsize=(7, 0.8 + 0.36 * len(groups)))
    for row, name in enumerate(groups):
        rows = table[table[group] == name].dropna(subset=[value])
        points, up = rows[value], row + np.linspace(-0.25, 0.25, len(rows))
        for colour, one in zip(plots.COLOURS, kinds):
            its = np.ones(len(rows), bool) if kind is None else (rows[kind] == one).to_numpy()
            axis.plot(points[its], up[its], ".", color=colour, ms=5, alpha=0.6, label=one if row == 0 else None)
        axis.plot([points.mean()] * 2, [row - 0.35, row + 0.35], color="black", lw=1.5)
    axis.set_yticks(range(len(groups)), groups)
    axis.set(xlabel=label, ylim=(len(groups) - 0.5, -0.5), xlim=(min(0, axis.get_xlim()[0]), None))
    if len(kinds) > 1:
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
