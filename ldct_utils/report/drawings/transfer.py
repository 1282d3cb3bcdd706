"""Networks from several kinds of training data on several tests: a dot a training."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots

GREY = plots.COLOURS[7]  # of controls
ALT = (
    "Dot plots, tests down and measures across: a dot a training, a line a kind of training data, better to the right."
)
HEADS = {"measure": "measure", "second": "simulated patients against", ("difference", "low", "high"): "better by, dB",
         "p": "p", "trainings": "trainings", "verdict": "verdict"}  # fmt: skip


def dots(values, order, pair, margin_db: float, labels: dict):
    """A dot a training, a line a kind of training data; the band is the margin around the pair's second, or its first.

    Args: values: test, arm, measure, value. order: arms, the best first. pair: the two arms that are compared.
        labels: {measure: words of the axis}, in order.
    """
    tests = list(dict.fromkeys(values["test"]))
    size = (13, (0.8 + 0.34 * len(order)) * len(tests) + 0.4)
    figure, axes = plt.subplots(len(tests), len(labels), figsize=size, squeeze=False, sharey=True)
    colours = dict(zip(pair, plots.COLOURS))
    for line, test in zip(axes, tests):
        for axis, (measure, words) in zip(line, labels.items()):
            part = values[(values["test"] == test) & (values["measure"] == measure)]
            for arm, group in part.groupby("arm"):
                axis.plot(group["value"], np.full(len(group), list(order).index(arm)), "o", ms=6, alpha=0.75,
                          color=colours.get(arm, GREY), mec="black", mew=0.4)  # fmt: skip
            around = next((one for arm in reversed(pair) if len(one := part["value"][part["arm"] == arm])), None)
            if around is not None:
                middle = around.mean()
                axis.axvspan(middle - margin_db, middle + margin_db, color=plots.COLOURS[4], alpha=0.25, lw=0)
            axis.set_yticks(range(len(order)), order)
            axis.set_title(test, fontsize=9)
            axis.set_xlabel(f"{words} →")
    axes[0, 0].invert_yaxis()  # shared by all
    return figure
