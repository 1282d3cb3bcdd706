"""What metrics and an observer make of known damage to images."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ldct_utils.ct.degradations import DEGRADATIONS
from ldct_utils.report import plots
from ldct_utils.report.drawings import styles


def reactions(part, labels: dict, kinds, dose: float, seen=None):
    """How much worse each metric gets under each kind of damage at its greatest strength, and how steadily.

    Args: part: rows of ``audit.reactions.reactions`` of one domain and dose. labels: {metric: its name}. kinds: of
        damage, in order. dose: whose effect is the unit. seen: the same of d' in place of a metric, as a last line.
    Returns: the figure.
    """
    if seen is not None:
        part, labels = pd.concat([part, seen]), labels | dict.fromkeys(seen["metric"], "d′ (CHO)")
    columns = [f"{DEGRADATIONS[k].label}\n{DEGRADATIONS[k].strengths[-1]:g} {DEGRADATIONS[k].unit}" for k in kinds]
    figure, axes = plt.subplots(1, 2, figsize=(13.5, 0.34 * len(labels) + 2.0), sharey=True)
    shown = (("sensitivity", f"gets worse by (1: as at {100 * dose:g} % of the dose)", "RdBu_r"),
             ("rho", "rank correlation with strength", "RdBu"))  # fmt: skip
    for axis, (value, title, cmap) in zip(axes, shown):
        wide = part.pivot(index="metric", columns="harm", values=value).loc[[*labels], [*kinds]]
        drawn = plots.matrix(axis, wide.to_numpy(), columns, [*labels.values()], cmap=cmap)
        figure.colorbar(drawn, ax=axis, shrink=0.5, aspect=25, pad=0.01, extend="both" if value != "rho" else "neither")
        axis.set_title(title)
        if seen is not None:
            axis.axhline(len(labels) - 1.5, color="black", lw=1.5)
        styles.true_minus(axis)
    return figure


def detection(means, kinds):
    """d' at rising strength of damage. Args: means: d' by harm and strength, ``none`` first. kinds: as of above."""
    figure, axis = plt.subplots(figsize=(9, 3.8))
    for index, kind in enumerate(kinds):
        values = [means["none", 0.0], *(means[kind, s] for s in DEGRADATIONS[kind].strengths)]
        at = np.arange(len(values)) + 0.05 * (index - (len(kinds) - 1) / 2)  # side by side, where they coincide
        at[0] = 0  # without damage all are one
        axis.plot(at, values, lw=1.2, ms=5, label=DEGRADATIONS[kind].label, marker="osD^vP*X"[index],
                  ls="-" if index < 4 else "--", color=plots.COLOURS[index])  # fmt: skip
    axis.plot(0, means["none", 0.0], "o", color="black", ms=7, zorder=3, label="no damage")
    axis.set(xticks=range(4), xlabel="step of strength", ylabel="d′ ↑", ylim=(min(0, axis.get_ylim()[0]), None))
    axis.axhline(0, color="black", lw=0.8)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
