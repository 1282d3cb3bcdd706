"""Figures in the conventions of the field: named windows, units on every axis, colours safe for the colour-blind."""

import time

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib import patheffects, ticker

from ldct_utils.ct import intensity

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito
STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.grid": True,
    "axes.axisbelow": True,  # a grid behind bars too
    "grid.alpha": 0.25,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}
plt.rcParams.update(STYLE)


def loss_style(method: str) -> tuple[str, str]:
    """(colour, marker) of a method, the same in every figure: the colour tells the loss, the marker the rest.

    A perceptual term in a shallow level of the encoder (blocks 1 to 3) has another colour than one in a deep level.

    Args: method: as ``training.designs`` names it, e.g. ``vgg · block3_conv2 · random · ψ 95 % at start``.
    """
    loss, *parts = method.split(" · ")
    colours = {"mse": 0, "l1": 2, "charbonnier": 5, "mean_srmse": 3, "LDCT": 7}
    if loss in ("vgg", "vgg_only"):
        deep = any(f"block{level}" in part for part in parts for level in (4, 5))
        marks = {"λ": "X", "random": "s", "imagenet": "o", "small CT encoder": "D", "medical": "D"}
        found = [mark for word, mark in marks.items() for part in parts if part.split(" ")[0] == word or part == word]
        return COLOURS[4 if deep else 1], "*" if loss == "vgg_only" else (found or ["P"])[0]
    if loss in colours:
        return COLOURS[colours[loss]], "o" if not parts else "sDP^v<>h"[sum(map(ord, "".join(parts))) % 8]
    return COLOURS[3], "sDP^v<>h"[sum(map(ord, method)) % 8]


def window_text(level: float, width: float) -> str:
    """A window as radiology writes it, e.g. ``C 50 W 400 HU``."""
    return f"C {level:g} W {width:g} HU".replace("-", "−")


def show(axis, image_hu, level: float, width: float, title: str = ""):
    """Draw one slice in a display window on ``axis``, without ticks or grid."""
    axis.imshow(np.asarray(image_hu, dtype=np.float32), vmin=level - width / 2, vmax=level + width / 2)
    axis.set_title(title)
    axis.set_axis_off()
    # A thin frame: what the window shows as plain white would otherwise look like a picture that is missing.
    axis.add_patch(plt.Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, ec="0.6", lw=0.6, clip_on=False))
    return axis


def matrix(axis, values, columns, lines, low: float = -1.0, high: float = 1.0, cmap: str = "RdBu", form: str = ""):
    """Draw a table of numbers as colours from ``low`` to ``high``, with the numbers in it; NaN stay empty.

    Args: values: (lines, columns). columns, lines: their labels. cmap: diverging (RdBu and alike), or rising to dark.
        form: of the numbers; two decimals below 10 by default.
    Returns: the image, for a colour bar.
    """
    drawn = axis.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axis.set_yticks(range(len(lines)), lines)
    axis.grid(False)
    middle, reach = (low + high) / 2, (high - low) / 2
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(value - middle) > 0.6 * reach if cmap.startswith("RdBu") else value > middle
            shown = f"{value:{form or ('.2f' if abs(value) < 10 else '.0f')}}".replace("-", "−")
            shown = shown if any(digit in shown for digit in "123456789") else shown.lstrip("+−")
            axis.text(j, i, shown, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    return drawn


def row_label(axis, text: str, size: float = 9):
    """Write what a row of images shows upright at the left of ``axis``, its first; size: of the font, points."""
    axis.text(
        -0.04, 0.5, text, rotation=90, ha="right", va="center", multialignment="center", transform=axis.transAxes,
        fontsize=size,
    )  # fmt: skip


def axis_label(metric, of: str = "") -> str:
    """A metric for an axis: label, direction and unit, e.g. ``PSNR ↑ (dB)``; of: stands before it."""
    return f"{of} {metric.label} {metric.arrow}".strip() + (f" ({metric.unit})" if metric.unit else "")


def reach(table) -> np.ndarray:
    """How far intervals reach below and above their means, (2, rows), as ``errorbar`` takes it.

    Args: table: columns mean, low, high.
    """
    return np.abs(table[["low", "high"]].to_numpy().T - table["mean"].to_numpy())


def plain_log(axis, which: str = "xy", subs: tuple = (1, 3)):
    """Ticks of logarithmic axes as plain numbers; which: of x and y. subs: multiples of powers of ten that have one."""
    for one in (getattr(axis, f"{name}axis") for name in which):
        one.set_major_locator(ticker.LogLocator(subs=subs))
        one.set_major_formatter(ticker.FormatStrFormatter("%g"))
        one.set_minor_formatter(ticker.NullFormatter())


def ticks_at(axis, values):
    """A logarithmic x axis with ticks at these values alone, as plain numbers."""
    axis.set_xscale("log")
    axis.set_xticks(values, [f"{value:g}" for value in values], minor=False)
    axis.xaxis.set_minor_locator(ticker.NullLocator())


def difference(axis, image_hu, limit: float = 100.0, title: str = ""):
    """Draw a difference image in HU on a diverging map, symmetric about 0; returns the image for a colour bar."""
    drawn = axis.imshow(np.asarray(image_hu, dtype=np.float32), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_title(title)
    axis.set_axis_off()
    return drawn


def anatomy_window(anatomy: str) -> tuple[float, float]:
    """(level, width) in HU in which slices of an anatomy are read; the abdominal window for one that is not known."""
    return intensity.WINDOWS.get(anatomy, intensity.WINDOWS["abdomen"])


def edge_notes(axis, notes: list[tuple[str, str]], upper: bool = False, size: float = 8):
    """Write what lies beyond the limits of ``axis`` at its left, one line a note, from the lower or upper edge inwards.

    Args: notes: (text, colour), the first one nearest to the edge. size: of the font, points.
    """
    for line, (text, colour) in enumerate(notes):
        away = (2 + 1.4 * size * line) * (-1 if upper else 1)
        axis.annotate(
            text, (0.02, float(upper)), xytext=(0, away), xycoords="axes fraction", textcoords="offset points",
            va="top" if upper else "bottom", fontsize=size, color=colour,
        )  # fmt: skip


def without_far(axis, groups: dict, told: dict, zero: bool = False):
    """Limit x so that most groups can be compared (``limits_without_far``), and tell the others at the edge.

    Args: groups: {y: values}. told: {y: the number that stands for a group that is far off}. zero: 0 is within the
        limits too, as it must be for differences.
    """
    low, high, off = limits_without_far(list(groups.values()))
    if zero:
        room = 0.05 * (max(high, 0) - min(low, 0))
        low, high = low if low < 0 else -room, high if high > 0 else room
    axis.set_xlim(low, high)
    for line in (line for i, line in enumerate(groups) if i in off and not low <= told[line] <= high):
        left, text = told[line] < low, f"{told[line]:.3g}"
        axis.annotate(
            f"◂ {text}" if left else f"{text} ▸", (0.02 if left else 0.98, line), xycoords=("axes fraction", "data"),
            ha="left" if left else "right", va="center", size=8,
        )  # fmt: skip


def limits_without_far(groups, far: float = 3.0) -> tuple[float, float, list[int]]:
    """Limits of an axis on which most groups of values can be compared, where a few lie far from all others.

    Args: groups: arrays of values; what is not finite cannot be shown and is passed over. far: a group lies far off
        where its median is so many typical ranges (median of the groups' own) from the median of the medians; where
        this holds for more than a third of the groups, it holds for none.
    Returns: low, high, and the indices of the groups that lie far off, to be told at the edge; 0 and 1 for no values.
    """
    groups = {i: values[np.isfinite(values)] for i, values in enumerate(np.asarray(g, np.float64) for g in groups)}
    groups = {i: values for i, values in groups.items() if len(values)}
    if not groups:
        return 0.0, 1.0, []
    medians = {i: np.median(values) for i, values in groups.items()}
    middle, typical = np.median([*medians.values()]), np.median([np.ptp(values) for values in groups.values()])
    off = [i for i, median in medians.items() if typical > 0 and abs(median - middle) > far * typical]
    off = off if 3 * len(off) <= len(groups) else []
    shown = np.concatenate([values for i, values in groups.items() if i not in off])
    margin = 0.05 * (np.ptp(shown) or 1.0)
    return float(shown.min() - margin), float(shown.max() + margin), off


def window_at(hu: float, anatomy: str) -> tuple[float, float]:
    """(level, width) of the narrowest window that shows this HU well inside its range: that of the anatomy, of the
    abdomen, of the chest or of bone; the widest of them where none does."""
    names = dict.fromkeys([anatomy if anatomy in intensity.WINDOWS else "abdomen", "abdomen", "chest", "bone"])
    known = sorted((intensity.WINDOWS[name] for name in names), key=lambda window: window[1])
    return next((w for w in known if abs(hu - w[0]) <= 0.4 * w[1]), known[-1])


class Live:
    """A figure that is drawn anew in its place while a notebook works, at most ``share`` of the time.

    Args: draw: makes the figure from whatever ``update`` is given; share: of the wall time that drawing may take.
    """

    def __init__(self, draw, share: float = 0.02):
        self.draw, self.share, self.handle = draw, share, None
        self.ended, self.cost = time.monotonic(), 0.1  # of the first drawing, s

    def update(self, make_argument):
        """Draw ``make_argument()``, if enough time has passed since the last drawing."""
        started = time.monotonic()
        if (started - self.ended) * self.share < self.cost:
            return
        figure = self.draw(make_argument())
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)
        plt.close(figure)
        self.ended = time.monotonic()
        self.cost = self.ended - started


def circle(axis, lesions, colour: str = COLOURS[4]):
    """Circle lesions on an image; nothing for None or where there are none.

    Args: lesions: (H, W) of lesion numbers, 0 for none, or boolean, one lesion a mask: (H, W) or (L, H, W).
    """
    known = np.zeros((0, 1, 1), bool) if lesions is None else np.asarray(lesions)
    if known.dtype != bool:
        known = np.stack([known == number for number in np.unique(known[known > 0])] or [np.zeros((1, 1), bool)])
    for mask in known.reshape(-1, *known.shape[-2:]):
        if mask.any():
            inside = np.argwhere(mask)
            middle, radius = (inside.min(0) + inside.max(0)) / 2, np.ptp(inside, axis=0).max() / 2 + 4
            axis.add_patch(plt.Circle(middle[::-1], radius, fill=False, ec=colour, lw=1.2))


def scale_bar(axis, pixel_mm: float, length_mm: float | None = None):
    """Draw a bar of so many mm at the lower left of an image; None takes a length that fits.

    Args: pixel_mm: side of a pixel; NaN draws nothing.
    """
    if not pixel_mm > 0:
        return
    height, width = axis.get_images()[0].get_array().shape[:2]
    fitting = next((mm for mm in (50, 20, 10, 5, 2) if mm <= 0.4 * width * pixel_mm), 1)
    length_mm, left, low = length_mm or fitting, 0.04 * width, 0.95 * height
    edge = [patheffects.withStroke(linewidth=3, foreground="black")]  # seen on bone and on air
    axis.autoscale(False)
    axis.plot([left, left + length_mm / pixel_mm], [low, low], color="white", lw=1.5, path_effects=edge)
    axis.text(left, low - 0.02 * height, f"{length_mm:g} mm", color="white", fontsize=8, va="bottom", path_effects=edge)


# {what a table stores: what a reader sees}, for columns of evaluation domains and references
WORDS = {
    "domain": {
        "hu": "all pixels, HU", "body": "inside the body, HU", "window": "display window", "viana2025": "8 bits",
        "eulig2024": "window of the LDCT benchmark",
    },
    "reference": {"ndct": "NDCT", "truth": "noise-free truth"},
}  # fmt: skip
