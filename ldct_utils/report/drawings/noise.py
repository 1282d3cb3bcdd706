"""Noise of CT images: histograms of CT numbers, and noise power spectra."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots


def histogram(counts: dict, edges):
    """CT numbers: all on a logarithmic axis, fat and soft tissue on a linear one.

    Args: counts: {image: pixels a bin}. edges: of the bins, HU.
    Returns: the figure.
    """
    figure, (whole, part) = plt.subplots(1, 2, figsize=(9.5, 3.4))
    for axis, low, high in ((whole, edges[0], edges[-1]), (part, -200, 250)):
        for colour, (name, count) in zip(plots.COLOURS, counts.items()):
            axis.stairs(count / count.sum() / np.diff(edges) * 100, edges, color=colour, label=name)
        axis.set(xlim=(low, high), xlabel="CT number, HU", ylabel="% of pixels per HU")
    whole.set_yscale("log")
    figure.legend(*part.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    return figure


def spectra(frequencies, curves: dict, references: dict, unit: str):
    """Radial noise power spectra, each over its own mean.

    Args: curves, references: {name: values at the frequencies}; references in black. unit: of the frequencies.
    Returns: the figure.
    """
    figure, axis = plt.subplots(figsize=(7.6, 3.6))
    for colour, (name, curve) in zip(plots.COLOURS, curves.items()):
        axis.plot(frequencies, curve / np.nanmean(curve), "o-", color=colour, label=name)
    for style, (name, curve) in zip(("--", ":"), references.items()):
        axis.plot(frequencies, np.array(curve) / np.nanmean(curve), style, color="black", label=name)
    axis.axhline(1, color="grey", lw=0.8, label="white noise")
    axis.set(xlabel=f"spatial frequency, {unit}", ylabel="noise power / its mean", ylim=(0, None))
    axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
