"""Losses and metrics along several trainings: curves, agreement, and what picking a checkpoint by each costs."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots
from ldct_utils.report.sentences import number

STYLE = {"LDCT": "--", "NDCT, blurred": ":"}  # of the controls that metrics are drawn beside


def colours(methods) -> dict:
    """{method: colour}: that of its loss in every figure. Of several with one loss the first has it; the others take
    colours that are no other loss's here."""
    found, own = {}, {method: plots.loss_style(method)[0] for method in methods}
    for method in methods:
        free = [colour for colour in plots.COLOURS[::-1] if colour not in {*found.values(), *own.values()}]
        found[method] = own[method] if own[method] not in found.values() or not free else free[0]
    return found


def losses(curves, labels: dict, names: dict):
    """How each loss falls in every method, relative to before training.

    Args: curves: columns name, method, step, value. labels: {loss: title}. names: {method: label in the legend}.
    Returns: the figure.
    """
    means = curves.groupby(["name", "method", "step"]).value.mean()
    figure, axes = plt.subplots(1, len(labels), figsize=(3.1 * len(labels), 3.2), squeeze=False)
    colour = colours(names)
    for axis, (name, label) in zip(axes[0], labels.items()):
        for method, called in names.items():
            line = means[name, method]
            axis.plot(line.index, line / line.iloc[0], color=colour[method], label=called)
        axis.set(title=label, xlabel="updates")
    axes[0, 0].set_ylabel("relative to before training")
    _legend(figure, axes[0, 0])
    return figure


def metrics(curves, controls, panels: dict, names: dict):
    """One panel a metric: its mean over seeds against updates with the range over seeds, a line a method.

    Args:
        curves: columns name, method, step, seed, value. controls: columns name, control, value.
        panels: {metric: (title with the better direction, unit or "")}. names: {method: label}.
    Returns: the figure. A control that lies outside a panel stands at its edge as a number.
    """
    across, colour = min(4, len(panels)), colours(names)
    means = curves.groupby(["name", "method", "step", "seed"]).value.mean()
    fixed = controls.groupby(["name", "control"]).value.mean()
    figure, axes = plt.subplots(-(-len(panels) // across), across, squeeze=False)
    figure.set_size_inches(max(7, 3 * across), 2.6 * len(axes) + 0.4 * (len(axes) == 1))
    for axis in axes.ravel()[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, (title, unit)) in zip(axes.ravel(), panels.items()):
        for method, called in names.items():
            seeds = means[name, method].unstack("seed")
            axis.plot(seeds.index, seeds.mean(axis=1), color=colour[method], label=called)
            axis.fill_between(seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=colour[method], alpha=0.2, lw=0)
        seen = axis.get_ylim()
        for control, value in fixed[name].items():
            axis.axhline(value, color="black", ls=STYLE[control], lw=1, label=control)
        margin = 0.6 * (seen[1] - seen[0])
        low, high = max(axis.get_ylim()[0], seen[0] - margin), min(axis.get_ylim()[1], seen[1] + margin)
        axis.set_ylim(low, high)
        for upper, arrow in ((False, "▾"), (True, "▴")):
            off = [(f"{arrow} {control}: {number(value)}", "black") for control, value in fixed[name].items()
                   if (value > high if upper else value < low)]  # fmt: skip
            plots.edge_notes(axis, off, upper)
        axis.set(title=title, xlabel="updates", ylabel=unit or None)
    _legend(figure, *axes.ravel()[: len(panels)])
    return figure


def agreement(panels: dict, labels: dict):
    """Tables of correlations in colour, one above the other.

    Args: panels: {title: frame of values in [-1, 1]}. labels: {row or column: what it is called}.
    Returns: the figure.
    """
    columns = next(iter(panels.values())).columns
    figure, axes = plt.subplots(len(panels), 1, figsize=(0.62 * len(columns) + 3.0, 3.1 * len(panels)), sharex=True)
    for axis, (title, table) in zip(np.atleast_1d(axes), panels.items()):
        drawn = plots.matrix(axis, table.to_numpy(), [labels[c] for c in columns], [labels[row] for row in table.index])
        axis.set_title(title)
    figure.colorbar(drawn, ax=axes, label="rank correlation, or difference of two", shrink=0.5, aspect=25, pad=0.01)
    return figure


def picks(cost, labels):
    """What picking a checkpoint by one quantity costs by every other. Args: cost: (quantities, quantities), shares."""
    figure, axis = plt.subplots(figsize=(0.55 * len(labels) + 2.5, 0.42 * len(labels) + 1.6))
    drawn = plots.matrix(axis, 100 * cost, labels, labels, 0, 100, "Blues", form=".0f")
    figure.colorbar(drawn, ax=axis, label="cost, % of the range over checkpoints", shrink=0.5, aspect=25, pad=0.01)
    axis.set(xlabel="… costs so many % of the range by", ylabel="picking the checkpoint by …")
    return figure


def _legend(figure, *axes):
    """One legend of what is seen in any of the axes."""
    found = {}
    for axis in axes:
        low, high = axis.get_ylim()
        for handle, label in zip(*axis.get_legend_handles_labels()):
            values = handle.get_ydata()
            if np.nanmax(values) >= low and np.nanmin(values) <= high:
                found.setdefault(label, handle)
    figure.legend(found.values(), found, loc="outside lower center", ncols=3, fontsize=8)
