"""Figures of 08 and 08a: maps of quality, what they see of a loss of quality, and the doses that are named."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots
from ldct_utils.report.sentences import number, percent

MARKERS = "osD^vPX*hd<>p"


def _map(axis, values, wanted, title=""):
    """Draw a quality map on the target's scale; returns the image for a colour bar."""
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
    return axis.imshow(values, cmap="viridis", vmin=wanted.low, vmax=wanted.high)


def _bar(figure, drawn, axes, wanted):
    better = "brighter is better" if wanted.direction > 0 else "darker is better"
    figure.colorbar(drawn, ax=axes, shrink=0.7, label=f"{wanted.label} {wanted.unit}".strip() + f" ({better})")


def curves(history, titles: dict, guessing: dict):
    """The terms of a training's loss. Args: titles: {column of the history: what to call it}. guessing: {column: value
    of a guess}, dashed."""
    figure, axes = plt.subplots(1, len(titles), figsize=(4.6 * len(titles), 3), squeeze=False)
    for i, (axis, (name, title)) in enumerate(zip(axes[0], titles.items())):
        axis.plot(history.step, history[name], color=plots.COLOURS[i])
        axis.set(title=title, xlabel="updates", ylim=(0, None))
        if name in guessing:
            axis.axhline(guessing[name], color="black", lw=1, ls="--")
            axis.text(0.99, guessing[name], "guessing", ha="right", va="bottom", transform=axis.get_yaxis_transform())
    axes[0, 0].set_ylabel("loss (lower is better)")
    return figure


def slopes(scores, models, label, target: str):
    """Predicted over true mean quality inside the body, a panel a test, a point a dose.

    Args: scores: of ``noise2quality.scoring.score`` with the column test. models: those drawn. label: function of a
        model that names it. target: what the maps show.
    """
    tests = list(dict.fromkeys(scores.test))
    inside = scores[(scores.region == "body") & scores.metric.isin(("mean", "bias"))]
    figure, axes = plt.subplots(1, len(tests), figsize=(3.4 * len(tests) + 2.4, 3.6), squeeze=False, sharey=True)
    style = {m: {"color": c, "marker": k} for m, c, k in zip(models, plots.COLOURS * 2, MARKERS)}
    for axis, test in zip(axes[0], tests):
        part = inside[inside.test == test].pivot_table(index=["model", "dose"], columns="metric", values="value")
        for model in (m for m in models if m in part.index):
            line = part.loc[model]
            axis.plot(line["mean"] - line["bias"], line["mean"], ms=5, label=label(model), **style[model])
        ends = part["mean"] - part["bias"]
        axis.plot([ends.min(), ends.max()], [ends.min(), ends.max()], color="black", lw=1, ls="--", label="perfect")
        axis.set(xlabel=f"true mean {target}, body", title=test)
    axes[0, 0].set_ylabel(f"predicted mean {target}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def confusion(table, models, doses, label):
    """Doses that are named, by the dose of the slice, a panel a model, at most four in a row.

    Args: table: model, dose, predicted, images. doses: all of them, rising. label: function that names a model.
    """
    columns = min(4, len(models))
    rows = -(-len(models) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.0 * columns + 1, 3.1 * rows), squeeze=False)
    ticks = [percent(dose) for dose in doses]
    for axis, model in zip(axes.flat, models):
        part = table[table.model == model].pivot(index="dose", columns="predicted", values="images")
        part = part.reindex(index=doses, columns=doses).fillna(0).to_numpy()
        drawn = plots.matrix(axis, part / np.maximum(part.sum(1, keepdims=True), 1), ticks, ticks, 0, 1, "Blues")
        axis.set(xlabel="dose that is named", ylabel="dose of the slice", title=label(model))
    for axis in list(axes.flat)[len(models) :]:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the slices of a dose")
    return figure


def maps(stored: dict, doses, label, wanted, window, pixel_mm: float, lesions=None):
    """One slice at the lowest, a middle and the highest dose: the slice, its true map and that of every model.

    Args: stored: {model: (doses, 3, H, W): slice, true and predicted map}. doses: all of them. label: function that
        names a model. wanted: of ``targets.get``. window: (level, width), HU. pixel_mm: pixel side, NaN where unknown.
        lesions: label map (H, W) of known ones, circled in every panel; None where none are known.
    """
    first, lines = next(iter(stored.values())), sorted({0, len(doses) // 2, len(doses) - 1})
    size = (1.5 * (2 + len(stored)) + 1.4, 1.75 * len(lines) + 0.2)
    figure, axes = plt.subplots(len(lines), 2 + len(stored), figsize=size, squeeze=False)
    for line, i in zip(axes, lines):
        plots.show(line[0], first[i, 0], *window)
        plots.scale_bar(line[0], pixel_mm)
        plots.row_label(line[0], f"dose {percent(doses[i])}\n{plots.window_text(*window)}")
        drawn = _map(line[1], first[i, 1], wanted, f"true, mean {number(first[i, 1].mean(), 2)}")
        for axis, (model, one) in zip(line[2:], stored.items()):
            _map(axis, one[i, 2], wanted, f"{label(model)}, {number(one[i, 2].mean(), 2)}")
        for axis in line:
            plots.circle(axis, lesions, plots.COLOURS[1])
    _bar(figure, drawn, axes[:, 1:], wanted)
    return figure


def examples(stored, doses, wanted, window, pixel_mm: float, lesions=None):
    """One slice at every dose, its true map, the predicted one and their difference.

    Args: stored: (doses, 3, H, W). The others as ``maps``.
    """
    figure, axes = plt.subplots(4, len(doses), figsize=(1.75 * len(doses) + 1.8, 7.6), squeeze=False)
    limit = (wanted.high - wanted.low) / 2
    for column, dose in enumerate(doses):
        image, true, predicted = stored[column]
        plots.show(axes[0, column], image, *window, f"dose {percent(dose)}")
        drawn = _map(axes[1, column], true, wanted, f"mean {number(true.mean())}")
        _map(axes[2, column], predicted, wanted, f"mean {number(predicted.mean())}")
        away = plots.difference(
            axes[3, column], predicted - true, limit, f"mean {number((predicted - true).mean(), 2)}"
        )
    for axis in axes.flat:
        plots.circle(axis, lesions, plots.COLOURS[1])
    plots.scale_bar(axes[0, 0], pixel_mm)
    for line, text in zip(axes[:, 0], (plots.window_text(*window), "true", "predicted", "predicted − true")):
        plots.row_label(line, text)
    _bar(figure, drawn, axes[1:3], wanted)
    figure.colorbar(away, ax=axes[3], shrink=0.9, label=f"difference {wanted.unit}".strip())
    return figure
