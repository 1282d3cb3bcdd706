"""Pictures of the report's first page: what networks do to an image, what scores make of it."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

from ldct_utils.report import plots

SIDE = 128  # pixels of a cut-out
MARGIN = 12  # pixels between a lesion and the border of a cut-out, so that its circle is whole
ERROR = 50.0  # HU at the ends of the colours of a difference


def around(mask, shape, side: int = SIDE) -> tuple[slice, slice]:
    """A square of ``side`` pixels, within the image, that holds most of a mask's lesions whole, ``MARGIN`` from its
    border, and of such squares the one with most of all lesions; the image's middle without any."""

    def cut(centre):
        starts = np.clip(np.asarray(centre, int) - side // 2, 0, np.maximum(np.array(shape) - side, 0))
        return tuple(slice(start, start + side) for start in starts)

    if mask is None or not np.any(mask):
        return cut(np.array(shape) // 2)
    numbers = np.unique(mask[mask > 0])
    centres = [ndimage.center_of_mass(mask == number) for number in numbers]
    tried = [*centres, *((np.add(a, b) / 2) for a in centres for b in centres)]
    pixels = {number: (mask == number).sum() for number in numbers}

    def held(centre):
        rows, columns = cut(centre)
        inner = mask[rows.start + MARGIN : rows.stop - MARGIN, columns.start + MARGIN : columns.stop - MARGIN]
        whole = sum((inner == number).sum() == size for number, size in pixels.items())
        return whole, (mask[rows, columns] > 0).sum()

    return cut(max(tried, key=held))


def below(axis, words: str):
    axis.text(0.5, -0.03, words, transform=axis.transAxes, ha="center", va="top", fontsize=9)


def strips(rows: list[dict]):
    """Cut-outs in rows, each in the window of its anatomy, lesions circled in every panel.

    Args: rows: each with label, window, pixel_mm, mask (H, W) or None, panels {title: image in HU} of one size, notes
        {title: words below a panel}, and optionally difference {title: image in HU} drawn in colours at the row's end.
    Returns: the figure.
    """
    most = max(len(row["panels"]) + len(row.get("difference", {})) for row in rows)
    figure, axes = plt.subplots(len(rows), most, figsize=(2.6 * most, 2.85 * len(rows)), squeeze=False)
    for line, row in zip(axes, rows):
        cut = around(row["mask"], next(iter(row["panels"].values())).shape)
        mask = None if row["mask"] is None else row["mask"][cut]
        for axis in line:
            axis.set_axis_off()
        for axis, (title, image) in zip(line, row["panels"].items()):
            plots.show(axis, image[cut], *row["window"], title)
            plots.circle(axis, mask)
            below(axis, row.get("notes", {}).get(title, ""))
        plots.scale_bar(line[0], row["pixel_mm"])
        plots.row_label(line[0], f"{row['label']}\n{plots.window_text(*row['window'])}", 9)
        for axis, (title, image) in zip(line[len(row["panels"]) :], row.get("difference", {}).items()):
            drawn = plots.difference(axis, image[cut], ERROR, title)
            plots.circle(axis, mask, "black")
            figure.colorbar(drawn, ax=axis, shrink=0.8, label="HU")
    return figure


def taken(loss: str, before: float, after: float) -> str:
    """What a network does to the error of a slice, HU, without a full stop. Args: loss: that it was trained with."""
    if f"{before:.1f}" == f"{after:.1f}":
        return f"The {loss} network leaves the error of this low-dose slice at {after:.1f} HU"
    return f"The {loss} network takes the error of this low-dose slice from {before:.1f} to {after:.1f} HU"


def least_and_most(slice_of_losses: dict) -> str:
    """Which network leaves the least error in the whole slice, and which the most."""
    truth, panels = slice_of_losses["truth"], slice_of_losses["panels"]
    error = {name: np.sqrt(np.mean((image - truth) ** 2)) for name, image in panels.items()}
    least, most = min(error, key=error.get), max(error, key=error.get)
    if f"{error[least]:.1f}" == f"{error[most]:.1f}":
        return f"In this slice every network leaves an error of {error[least]:.1f} HU."
    rest = f"and {most} the most, {error[most]:.1f} HU"
    these = f"Of these {len(error)} networks, " if len(error) > 2 else ""
    return f"{these}{'in' if these else 'In'} this slice {least} leaves the least error, {error[least]:.1f} HU, {rest}."


def with_errors(label: str, window, pixel_mm: float, mask, panels: dict, truth):
    """Cut-outs of one slice in a row, and below each what it differs by from the noise-free truth.

    Args: panels: {title: image in HU}; truth: (H, W) HU, drawn last. mask: lesion numbers or None.
    Returns: the figure.
    """
    most = len(panels) + 1
    figure, axes = plt.subplots(2, most, figsize=(2.6 * most, 5.6), squeeze=False)
    cut = around(mask, truth.shape)
    marked = None if mask is None else mask[cut]
    for axis in axes[1]:
        axis.set_axis_off()
    for column, (title, image) in zip(axes.T, (panels | {"noise-free truth": truth}).items()):
        plots.show(column[0], image[cut], *window, "\n".join(textwrap.wrap(title, 24)))
        plots.circle(column[0], marked)
        if title in panels:
            drawn = plots.difference(column[1], (image - truth)[cut], ERROR)
            plots.circle(column[1], marked, "black")
            below(column[0], f"error {np.sqrt(np.mean((image - truth) ** 2)):.1f} HU")
    plots.scale_bar(axes[0, 0], pixel_mm)
    plots.row_label(axes[0, 0], f"{label}\n{plots.window_text(*window)}", 9)
    plots.row_label(axes[1, 0], "image − truth", 9)
    figure.colorbar(drawn, cax=axes[1, -1].inset_axes([0.02, 0.05, 0.06, 0.9]), label="HU")
    return figure


FILL = {True: {"fillstyle": "full"}, False: {"fillstyle": "left", "markerfacecoloralt": "white"}}


def doses(found, judges: dict, at: float, looks: dict):
    """The dose of an uncleaned image that is as good as the cleaned one, a line a judge, a point a network and task.

    Args:
        found: judge, method, in_livers (half filled where not), dose, low, high: fractions of the normal dose, infinite
            beyond it.
        judges: {name: its words}, in order. at: the dose of the cleaned images. looks: {method: colour, marker, label}.
    Returns: the figure.
    """
    figure, axis = plt.subplots(figsize=(8.5, 1.8 + 0.7 * len(judges)))
    least = 0.75 * at  # what lies further left is an arrow, as what lies beyond the normal dose
    for line, name in enumerate(judges):
        part = found[found["judge"] == name]
        if line % 2:
            axis.axhspan(line - 0.5, line + 0.5, color="#F3F3F3", lw=0, zorder=0)
        for shift, one in zip(np.linspace(-0.32, 0.32, len(part)), part.itertuples()):
            middle, *ends = 100 * np.clip([one.dose, one.low, one.high], least, 1.2)
            look = looks[one.method]
            axis.plot(ends, [line + shift] * 2, color=look["color"], lw=1.2)
            marker = ">" if one.dose > 1 else "<" if one.dose < least else look["marker"]
            axis.plot(middle, line + shift, marker=marker, color=look["color"], ms=6, **FILL[bool(one.in_livers)])
    axis.axvline(100 * at, color="black", lw=1, ls=":")
    plots.ticks_at(axis, sorted({10, 25, 50, 100, 100 * at}))
    axis.set(xlabel="dose of an uncleaned image that is as good, % of the normal dose; further right is better →",
             xlim=(96 * least, 125), yticks=range(len(judges)), yticklabels=judges.values(),
             ylim=(-0.5, len(judges) - 0.5))  # fmt: skip
    axis.invert_yaxis()
    handles = [plt.Line2D([], [], **{"lw": 1.2, **look}) for look in looks.values()]
    handles.append(plt.Line2D([], [], color="black", lw=1, ls=":", label="no dose is saved"))
    handles += [
        plt.Line2D([], [], color="black", ls="", marker="o", ms=6, label=words, **FILL[there])
        for there, words in ((True, "filled: in simulated patients"), (False, "half filled: in uniform cylinders"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    return figure
