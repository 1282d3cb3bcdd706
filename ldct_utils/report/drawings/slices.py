"""CT slices beside each other: window, mm scale, lesions circled, and what two of them differ by."""

import textwrap
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots


@dataclass
class Line:
    """A row of panels in one window.

    Attributes:
        label: written upright at its left, above the window.
        images: title -> (H, W), HU.
        anatomy: names the window.
        lesions: (H, W), numbers of lesions, circled in every panel; None where none are known.
        pixel_mm: side of a pixel; None or NaN where it is not known: then there is no mm scale.
        difference: (title, (H, W) HU), a last panel with a scale of its own; None for none.
        differences: whether all its images are differences, on one scale.
        below: title -> what is written under that panel, e.g. its error.
    """

    label: str
    images: dict
    anatomy: str
    lesions: np.ndarray | None = None
    pixel_mm: float | None = None
    difference: tuple | None = None
    below: dict = field(default_factory=dict)
    differences: bool = False


def grid(lines: list[Line], size: float = 2.6, limit: float | None = None, across: int | None = None):
    """Rows of slices, one row a ``Line``.

    Args: size: width of a panel, inches. limit: of all differences, HU; None fits each to 99 % of its pixels. across:
        panels of a row, where the images of one line go on in the next; None takes all of a line.
    Returns: the figure.
    """
    panels = [_panels(line, across) for line in lines]
    panels = [row for rows in panels for row in rows]
    columns = max(len(row) for _, row in panels)
    height = 1.16 if any(line.below for line in lines) else 1.08
    figure, axes = plt.subplots(
        len(panels), columns, figsize=(size * columns, size * height * len(panels)), squeeze=False
    )
    for axis in axes.ravel():
        axis.set_axis_off()
    for row, (line, shown) in zip(axes, panels):
        window = plots.anatomy_window(line.anatomy)
        said = f"±{_limit(line, limit):g} HU" if line.differences else plots.window_text(*window)
        plots.row_label(row[0], f"{line.label}\n{said}")
        for axis, (name, image, apart) in zip(row, shown):
            title = textwrap.fill(name, 24)
            if apart or line.differences:
                drawn = plots.difference(axis, image, limit or _limit(line), title)
                if apart or name == shown[-1][0]:
                    figure.colorbar(drawn, ax=axis, label="HU", shrink=0.8)
            else:
                plots.show(axis, image, *window, title)
            if line.lesions is not None:
                plots.circle(axis, line.lesions)
            axis.text(0.5, -0.03, line.below.get(name, ""), transform=axis.transAxes, ha="center", va="top", size=9)
        plots.scale_bar(row[0], np.nan if line.pixel_mm is None else line.pixel_mm)
    return figure


def _panels(line: Line, across: int | None) -> list[tuple]:
    found = [(title, image, False) for title, image in line.images.items()]
    found += [(*line.difference, True)] if line.difference else []
    across = -(-len(found) // -(-len(found) // (across or len(found))))  # rows as long as each other
    return [(line, found[start : start + across]) for start in range(0, len(found), across)]


def _limit(line: Line, limit: float | None = None) -> float:
    """The end of the scale of a line's differences, HU: 99 % of the pixels of the first lie within it."""
    image = next(iter(line.images.values())) if line.differences else line.difference[1]
    return limit or float(np.ceil(np.percentile(np.abs(image), 99) / 10) * 10) or 10.0


def of_cohort(cohort, row: int, images: dict | None = None, minus: tuple = ("LDCT", "NDCT"), label: str = "") -> Line:
    """A line of one slice of a cohort with its lesions and scale: LDCT, NDCT, the noise-free truth and a difference.

    Args:
        cohort: of ``cohorts.get``. row: of the slice. minus: the two images whose difference is the last panel.
        images: title -> (H, W), HU, in place of the cohort's own.
        label: in front of the patient.
    """
    about = cohort.slices.set_index("row").loc[row]
    if images is None:
        stacks = {"LDCT": cohort.ldct, "NDCT": cohort.ndct, "noise-free truth": cohort.truth}
        images = {title: stack[row] for title, stack in stacks.items() if stack is not None}
    first, second = (np.asarray(images[title], np.float32) for title in minus)
    return Line(
        f"{label or about.anatomy}, {about.patient}", images, about.anatomy,
        None if cohort.lesion_masks is None else cohort.lesion_masks[row], about.get("pixel_mm"),
        (f"{minus[0]} − {minus[1]}", first - second),
    )  # fmt: skip


def of_patch(cohort, place, patch: int, outputs: dict) -> Line:
    """A line of a patch: outputs of networks, the NDCT, and what the last output differs from it by.

    Args: place: row, y, x and patient of the patch. patch: its side, pixels. outputs: name -> (patch, patch), HU.
    """
    about = cohort.slices.set_index("row").loc[place.row]
    inside = slice(place.y, place.y + patch), slice(place.x, place.x + patch)
    ndct = np.asarray(cohort.ndct[place.row][inside], np.float32)
    last = [*outputs][-1]
    return Line(
        f"{about.anatomy}, {about.patient}", outputs | {"NDCT": ndct}, about.anatomy,
        None if cohort.lesion_masks is None else cohort.lesion_masks[place.row][inside], about.get("pixel_mm"),
        (f"{last} − NDCT", outputs[last] - ndct),
        {name: f"error {rms(image - ndct):.1f} HU" for name, image in outputs.items()},
    )  # fmt: skip


def examples(about, stored, lesion_masks=None) -> list[Line]:
    """Lines of the slices that a test of a network stores: input, output, target, truth, and the error that is left.

    Args:
        about: table ``examples_rows`` of the test. stored: its array ``examples``, (rows, 4, H, W), HU.
        lesion_masks: of the cohort, (slices, H, W); None where none are known.
    """
    lines = []
    for one, (ldct, ndct, truth, output) in zip(about.itertuples(), stored):
        images = {"LDCT": ldct, "network": output, "NDCT": ndct, "noise-free truth": truth}
        lines.append(
            Line(
                f"{one.anatomy}, {one.patient}", {t: i for t, i in images.items() if np.isfinite(i).all()}, one.anatomy,
                None if lesion_masks is None else lesion_masks[one.row], getattr(one, "pixel_mm", None),
                ("network − NDCT", output - ndct),
                {title: f"error {rms(images[title] - ndct):.1f} HU" for title in ("LDCT", "network")},
            )
        )  # fmt: skip
    return lines


def errors(cohort, row: int, outputs: dict) -> list[Line]:
    """Two lines of one slice: outputs and the NDCT, and below them each output minus the NDCT, on one scale.

    Args: outputs: name -> (H, W), HU.
    """
    first, ndct = of_cohort(cohort, row), np.asarray(cohort.ndct[row], np.float32)
    below = {title: f"error {rms(image - ndct):.1f} HU" for title, image in outputs.items()}
    apart = {title: image - ndct for title, image in outputs.items()}
    about = first.anatomy, first.lesions, first.pixel_mm
    return [
        Line(first.label, outputs | {"NDCT": ndct}, *about, None, below),
        Line("minus NDCT", apart, *about, differences=True),
    ]


def rms(error_hu) -> float:
    """Root mean square of an error image."""
    return float(np.sqrt(np.mean(np.square(error_hu))))
