"""Crops in one display window, each with what it differs by from the noise-free truth; lesions circled, scale in mm."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

from ldct_utils.report import plots

FACE = 8  # points of the titles
TRUTH = "noise-free truth"


def lesion_mask(signals) -> np.ndarray:
    """Where lesions lie, (H, W): the number of each, from 1, in which its signal has half its height; 0 elsewhere.

    Args: signals: (L, H, W), HU, what each lesion adds.
    """
    mask = np.zeros(np.shape(signals)[1:], int)
    for number, signal in enumerate(np.abs(signals), 1):
        mask[signal > signal.max() / 2] = number
    return mask


def changed(mask, difference_hu, least: float = 1.5, pixels: int = 5) -> np.ndarray:
    """The lesions of a mask, and every other place that a difference shows: one that the slice meets at its edge only.

    Args: mask: (H, W), numbers of lesions. difference_hu: (H, W). least: HU that count; pixels: of a place that counts.
    """
    places, count = ndimage.label(np.abs(difference_hu) > least)
    found = np.array(mask, int)
    for place in range(1, count + 1):
        inside = places == place
        if inside.sum() >= pixels and not found[inside].any():
            found[inside] = found.max() + 1
    return found


def compared(truth, images: dict, lesions, pixel_mm: float, window, added=None, limit: float = 60.0, across: int = 5,
             of: str = TRUTH):  # fmt: skip
    """Images in one window, below each its difference from the first one, the noise-free truth, with its RMS in HU.

    Args:
        truth: (H, W), HU, noise-free. images: {title: (H, W), HU}. lesions: (L, H, W), what each adds or fills, or
            (H, W), their numbers.
        pixel_mm: pixel side. window: (level, width), HU. added: (H, W), HU, what is added, shown below the
            truth. limit: of the differences, HU. across: columns; more images go on below.
        of: what ``truth`` is called, where it is another image.
    Returns: the figure.
    """
    mask = lesions if np.ndim(lesions) == 2 else lesion_mask(lesions)
    columns = [(of, truth, None), *((name, one, one - truth) for name, one in images.items())]
    known, length = of == TRUTH, 50.0 if truth.shape[1] * pixel_mm > 150 else 20.0
    blocks = -(-len(columns) // across)
    across, lines = -(-len(columns) // blocks), 2 * blocks
    side = 1.95 if across > 3 else 2.6
    figure, axes = plt.subplots(lines, across, figsize=(side * across + 0.8, 1.13 * side * lines), squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for number, (name, image, gap) in enumerate(columns):
        above, below = axes[2 * (number // across) : 2 * (number // across) + 2, number % across]
        _panel(above, fill(name, 21), mask, lambda to, of=image: plots.show(to, of, *window))
        if gap is not None:
            drawn = _panel(below, f"{'error' if known else 'RMS'} {np.sqrt(np.mean(gap**2)):.1f} HU", mask,
                           lambda to, of=gap: plots.difference(to, of, limit))  # fmt: skip
        elif added is not None:
            most = max(1.0, float(np.ceil(np.abs(added).max())))
            _panel(
                below, f"lesions alone, at ±{most:g} HU", mask, lambda to, most=most: plots.difference(to, added, most)
            )
        if number % across == 0:
            if not number:
                plots.scale_bar(above, pixel_mm, length)
            plots.row_label(above, plots.window_text(*window), FACE)
            plots.row_label(below, f"minus {of if known else 'the first'}, ±{limit:g} HU", FACE)
    figure.colorbar(drawn, ax=axes, label="HU", shrink=0.35, aspect=25, pad=0.01)
    return figure


def _panel(axis, title, mask, draw):
    drawn = draw(axis)
    axis.set_title(title, fontsize=FACE)
    plots.circle(axis, mask)
    return drawn
