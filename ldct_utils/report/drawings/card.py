"""The report card of a denoiser in pictures: what it makes of one lesion, and how it stands beside others."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots

SIDE = 72  # of the cut-out, pixels
FAR = 100  # %, at which the profile ends
ALT = {  # what one sees of a figure, by the function that draws it
    "pictures": "CT cut-outs in a row, a lesion circled: low dose, each denoiser, normal dose and the reference; below "
    "each its difference from the reference.",
    "profile": "Points with bars, a row a measure: how much better, to the right of 0, or worse, to the left, the "
    "denoiser is than each other, in per cent.",
}


def pictures(titles, images, lesion, pixel_mm: float, window):
    """Cut-outs around a lesion, and below each what it adds to or lacks of the last image, with its RMS.

    Args: titles: (N,). images: (N, H, W), HU; the last is the reference. lesion: boolean (H, W), or None: the middle.
        window: (level, width), HU.
    Returns: the figure.
    """
    shape, many = images.shape[1:], len(titles)
    spot = np.array(shape) // 2 if lesion is None else np.argwhere(lesion).mean(0)
    corner = np.clip(spot - SIDE // 2, 0, np.array(shape) - SIDE).astype(int)
    cut = tuple(slice(start, start + SIDE) for start in corner)
    figure, axes = plt.subplots(2, many, figsize=(2.3 * many, 5.2), squeeze=False)
    for (upper, lower), title, image in zip(axes.T, titles, images):
        gap = (image - images[-1])[cut]
        plots.show(upper, image[cut], *window, title)
        drawn = plots.difference(lower, gap, 40.0, f"{np.sqrt(np.mean(gap**2)):.1f} HU RMS")
        for axis in (upper, lower):
            plots.circle(axis, None if lesion is None else lesion[cut])
    plots.scale_bar(axes[0, 0], pixel_mm)
    plots.row_label(axes[0, 0], plots.window_text(*window))
    figure.colorbar(drawn, ax=axes[1], label=f"difference from {titles[-1]}, HU", shrink=0.8)
    return figure


def profile(compared, labels: dict, name: str):
    """How much better or worse a denoiser is, in % of the other's value: a row a measure, a marker another denoiser.

    Hollow where the bar crosses 0: not shown to differ.

    Args: compared: beside (the other), measure, second (its value), better, low, high. labels: {measure: words}, of
        those that may be shown, in order. name: of the denoiser.
    """
    listed = [measure for measure in labels if measure in set(compared["measure"])]
    against = list(dict.fromkeys(compared["beside"]))
    figure, axis = plt.subplots(figsize=(8, 1.5 + 0.45 * len(listed)))
    for shift, other in enumerate(against):
        part = compared[compared["beside"] == other].set_index("measure").reindex(listed)
        ends = (100 * part[["better", "low", "high"]].div(part["second"].abs(), axis=0)).clip(-FAR, FAR)
        at = np.arange(len(listed)) + 0.5 * (shift + 0.5) / len(against) - 0.25
        shade, mark = plots.COLOURS[shift % 6], "osD^v"[shift % 5]
        axis.hlines(at, ends["low"], ends["high"], color=shade)
        decided = ((ends["low"] > 0) | (ends["high"] < 0)).to_numpy()
        axis.plot(ends["better"][decided], at[decided], mark, color=shade, ms=6)
        axis.plot(ends["better"][~decided], at[~decided], mark, color=shade, mfc="white", ms=6)
        axis.plot([], [], mark, color=shade, ms=6, label=f"beside {other}")
    axis.plot([], [], "o", color="0.4", mfc="white", ms=6, label="hollow: not shown to differ")
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(np.arange(len(listed)), [labels[measure] for measure in listed])
    axis.set(xlim=(-1.03 * FAR, 1.03 * FAR), xlabel=f"← worse    {name}, % of the other's value    better →")
    axis.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure
