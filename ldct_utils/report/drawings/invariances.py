"""What a denoiser cannot see: changed inputs beside their outputs, draws of models, and lesions before and after f."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots

STEPS = (1, 2, 5)  # ticks of logarithmic axes
SHOWN = {  # what became of a lesion: marker and colour
    "not changed": ("o", plots.COLOURS[0]), "changed, output shows it": ("^", plots.COLOURS[1]),
    "changed, output hides it": ("s", plots.COLOURS[2]),
}  # fmt: skip
CHANCE = "#999999"  # of repeated scans, in all figures
CONTROLS = {
    "control": "test denoiser", "start, HU": "change at the start, HU", "in, HU": "change of input, HU",
    "out, HU": "change of output, HU", "power where gain < √α": "share of change where the filter passes less than √α",
    "contrast in, HU": "change of the lesion's contrast, input, HU",
    "contrast out, HU": "change of the lesion's contrast, output, HU",
}  # fmt: skip
RATIOS = {
    "method": "input found by", "quantity": "where", "hu": "change, HU RMS", "null_hu": "repeated scan, HU RMS",
    ("ratio", "low", "high"): "times a repeated scan [95 % over patients]",
    "pix_md": "mean |change of the input| / 502 HU, as published",
}  # fmt: skip
COUNTS = {
    "method": "input found by", "tested": "tested, with all draws or scans", "changed": "changed",
    "hidden": "hidden of these", ("share", "low", "high"): "share hidden, mean over patients",
    "in_hu": "change of input, HU RMS", "out_hu": "change of output, HU RMS",
}  # fmt: skip
KEPT = {"lesions": "lesions, radius and contrast", "n": "number", ("contrast kept", "low", "high"): "contrast kept",
        "lowest realisation": "lowest of any scan", "d' kept": "d′ kept, CHO, retrained"}  # fmt: skip
LESIONS = {"patient": "patient", "radius_mm": "radius, mm", "contrast": "contrast",
           ("mean", "min", "max"): "contrast kept, %", "reach": "kept below √α"}  # fmt: skip
ALT = {  # what one sees of a figure, by the function that draws it
    "changed_inputs": "CT crops, a row an anatomy: input, changed input, their difference, both outputs and their "
    "difference, which is fainter the less the network saw of the change.",
    "draws": "CT patches in rows: input, output and draws of a model, and a colour map of the SD over the draws.",
    "beside_repeated_scan": "Two scatter plots, logarithmic: change of output over change of input, in multiples of a"
    " repeated scan, for all frequencies and after a blur; lines at 1 and a diagonal.",
    "courses": "Line plots, logarithmic, a row a search: change of input and of output over iterations, coloured by"
    " anatomy, with dashed levels of a repeated scan.",
    "lesion_changes": "Scatter plots, one a method: change of each lesion's contrast in the output over that in the "
    "input, with a dotted diagonal and grey points of repeated scans.",
    "kept": "Two scatter plots: share of a lesion's contrast kept over its radius, and share of d′ kept over its d′ "
    "at full contrast, for two observers; lines at 1 and 0.",
    "loss_terms": "Line plots, one a term of the loss: its mean a patch over the updates of the training.",
    "known_draws": "CT-like patches of plane waves, a row a control: input, output and three draws.",
}
MODELS = {"vae": "VAE", "flow": "flow", "generator": "generator"}
TERMS = {"l1": "the error of the reconstruction (l1, a sum over pixels in units of 502 HU)",
         "nll": "the negative log-likelihood (nll)",
         "d_out": "the change of the output (d_out)"}  # fmt: skip
QUANTITIES = {"in, draws": "draw minus input", "out, draws": "output of a draw minus output of the input",
              "in, reconstruction": "reconstruction by the VAE minus input",
              "out, reconstruction": "its output minus output of the input", "LDCT from NDCT": "LDCT minus NDCT",
              "f(x) from x": "output minus input"}  # fmt: skip


def quantity(name: str) -> str:
    """What 05a calls a quantity, in words: ``draw minus input, HU``."""
    what, comma, unit = name.rpartition(", ")
    return QUANTITIES.get(what, what) + comma + unit


def drawn_said(into: float, out: float, spread: float, decoder: float | None) -> str:
    """How far draws go, HU, and whether they go further than the decoder errs. Args: decoder: None without a VAE."""
    told = f"Draws differ from the input by {into:.1f} HU, from each other by {spread:.1f} HU, and their outputs from "
    told += f"its output by {out:.1f} HU."
    if decoder is None or spread > decoder:
        return told
    return f"{told} The VAE alone errs by {decoder:.1f} HU: its draws do not show what the network ignores."


@dataclass(frozen=True)
class Row:
    """One row of images: which of all crops it shows, its label, its window (level, width) in HU, mm a pixel (no scale
    is drawn where that is not known), and lesions, boolean (L, H, W), circled in every panel, or None."""

    index: int
    label: str
    window: tuple[float, float]
    pixel_mm: float | None = None
    lesions: np.ndarray | None = None


def rows_of(crops) -> list:
    """The first crop of each anatomy as a ``Row``. Args: crops: with patient, anatomy, pixel_mm, inside (lesions)."""
    first = {case.anatomy: n for n, case in reversed([*enumerate(crops)])}
    return [
        Row(n, f"{anatomy}, {crops[n].patient}", plots.anatomy_window(anatomy), crops[n].pixel_mm, crops[n].inside)
        for anatomy, n in sorted(first.items())
    ]


def _circle(axis, row, side: int):
    """Circle the lesions of a row on an image of ``side`` pixels from the middle of the crop."""
    if row.lesions is not None:
        start = (row.lesions.shape[-1] - side) // 2
        plots.circle(axis, row.lesions[:, start : start + side, start : start + side])


def _row(line, row, panels):
    """Draw a row of images {title: (crops, H, W), HU} with window, scale and circles."""
    for axis, (title, images) in zip(line, panels.items()):
        plots.show(axis, images[row.index], *row.window, title)
        _circle(axis, row, images.shape[-1])
    if row.pixel_mm:
        plots.scale_bar(line[0], row.pixel_mm)
    plots.row_label(line[0], f"{row.label}\n{plots.window_text(*row.window)}", 8)


def _rms(image) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(image, np.float64)))))


def _rounded_up(value: float, least: float = 0.01) -> float:
    """The next number of one digit, e.g. 0.3 or 90, so that even a small change has a scale on which it is seen."""
    step = 10.0 ** np.floor(np.log10(max(value, least)))
    return float(step * np.ceil(round(max(value, least) / step, 9)))


def changed_inputs(rows: list, x, changed, fx, f_changed):
    """Input, changed input, output, output of the changed input; to the right of each pair their difference.

    Args: rows: of ``Row``. x, changed, fx, f_changed: (crops, H, W), HU.
    """
    panels = {"low-dose input": x, "changed input": changed, "output": fx, "output of the changed": f_changed}
    figure, axes = plt.subplots(len(rows), 6, figsize=(13, 2.45 * len(rows)), squeeze=False)
    for line, row in zip(axes, rows):
        _row(line[[0, 1, 3, 4]], row, panels)
        gaps = {"input": (changed - x)[row.index], "output": (f_changed - fx)[row.index]}
        limit = _rounded_up(4 * np.std(gaps["input"]))
        for axis, (what, gap) in zip(line[[2, 5]], gaps.items()):
            drawn = plots.difference(axis, gap, limit, f"change of {what}\n{_rms(gap):.3g} HU RMS")
            _circle(axis, row, gap.shape[-1])
        figure.colorbar(drawn, ax=line[5], shrink=0.85, label="difference, HU")
    return figure


def draws(rows: list, panels: dict, spread):
    """Images of each row, and at its right the SD over draws.

    Args: rows: of ``Row``. panels: {title: (crops, H, W), HU}. spread: (crops, H, W), HU.
    """
    many = len(panels)
    figure, axes = plt.subplots(len(rows), many + 1, figsize=(2.05 * many + 2.4, 2.2 * len(rows)), squeeze=False)
    brightest = np.quantile([spread[row.index] for row in rows], 0.995)
    for line, row in zip(axes, rows):
        _row(line, row, panels)
        drawn = line[-1].imshow(spread[row.index], cmap="viridis", vmin=0, vmax=brightest)
        line[-1].set_title("SD over draws")
        line[-1].set_axis_off()
        _circle(line[-1], row, spread.shape[-1])
    figure.colorbar(drawn, ax=axes[:, -1], shrink=0.8, label="SD, HU")
    return figure


def beside_repeated_scan(ratio_of: dict, labels: dict):
    """A point a patient: change of the output over change of the input, each as a multiple of a repeated scan's.

    Args: ratio_of: {method: a row a patient, columns in_hu, out_hu, low_in_hu, low_out_hu}. labels: {method: words}.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2))
    for axis, part, title in zip(axes, ("", "low_"), ("all frequencies", "after a blur of 2 pixels: anatomy")):
        for shade, mark, method in zip(plots.COLOURS, "osDv^", ratio_of):
            filled = "none" if method == "VAE alone" else shade  # it lies where the flow's draws do
            axis.scatter(*(ratio_of[method][f"{part}{end}_hu"] for end in ("in", "out")), facecolor=filled,
                         edgecolor=shade, marker=mark, s=30, label=labels[method])  # fmt: skip
        axis.axhline(1, color="black", lw=0.8)
        axis.axvline(1, color="black", lw=0.8)
        axis.set(xscale="log", yscale="log")
        axis.axline((0.1, 0.1), (1, 1), color="black", lw=0.8, ls=":", label="damped as noise is")
        axis.set(title=title, xlabel="change of the input (1 = repeated scan)",
                 ylabel="change of the output (1 = repeated scan)")  # fmt: skip
        plots.plain_log(axis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def courses(course, repeated, labels: dict):
    """Change of input and output while searching, a line a crop; dashed what a repeated scan changes.

    Args: course: columns search, patient, row, anatomy, iteration, in_hu, out_hu. repeated: by anatomy, in_hu and
        out_hu. labels: {search: words}, in the order of the rows.
    """
    colour = dict(zip(sorted(course.anatomy.unique()), plots.COLOURS))
    figure, axes = plt.subplots(len(labels), 2, figsize=(10, 3.0 * len(labels)), squeeze=False)
    for line, (search, words) in zip(axes, labels.items()):
        for axis, column, what in zip(line, ("in_hu", "out_hu"), ("input", "output")):
            for _, part in course[course.search == search].groupby(["patient", "row"]):
                axis.plot(part.iteration + 1, part[column], color=colour[part.anatomy.iloc[0]], lw=1)
            for one, shade in colour.items():
                axis.plot([], [], color=shade, label=f"search, {one}")
                axis.axhline(repeated[column][one], color=shade, lw=1.2, ls="--", label=f"repeated scan, {one}")
            axis.set(xscale="log", yscale="log", xlabel="iteration", ylabel=f"change of {what}, HU RMS", title=words)
            plots.plain_log(axis)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def lesion_changes(regions, nulls: dict, labels: dict):
    """Change of each lesion's contrast in the input and in the output, a panel a method.

    Args: regions: columns method, change_in, change_out, HU, changed, hidden. nulls: {method: the method of its
        repeated scans}. labels: {method: words}: the panels, of methods that have lesions.
    """
    labels = {method: words for method, words in labels.items() if (regions.method == method).any()}
    columns = min(3, len(labels))
    lines = -(-len(labels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.7 * columns, 3.2 * lines + 0.4), squeeze=False)
    for axis in axes.flat[len(labels) :]:
        axis.set_axis_off()
    for axis, (method, words) in zip(axes.flat, labels.items()):
        part, chance = (regions[regions.method == one] for one in (method, nulls[method]))
        axis.scatter(chance.change_in, chance.change_out, s=8, color=CHANCE, label="repeated scan")
        unchanged, seen, hidden = SHOWN
        became = np.select([part.hidden, part.changed], [hidden, seen], unchanged)
        for label, (mark, shade) in SHOWN.items():
            if len(these := part[became == label]):
                axis.scatter(these.change_in, these.change_out, s=14, color=shade, marker=mark, label=label)
        axis.axline((0, 0), slope=1, color="black", lw=0.8, ls=":")
        axis.set(xlabel="change of contrast in the input, HU", ylabel="in the output, HU", title=words)
    named = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(named.values(), named, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def kept(lesions, seen, least: float):
    """What the network keeps of lesions: left their contrast, right their detectability.

    Args: lesions: a row a lesion: radius_mm, contrast (class, words), mean, min, max of the share of its contrast.
        least: share of contrast under which a search can change a lesion.
        seen: a row a lesion: d_full, before it was weakened; share_cho, share_npw, of d' that is kept.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.3))
    for (label, part), shade, mark in zip(lesions.groupby("contrast"), plots.COLOURS, "os"):
        spread = np.abs(part[["min", "max"]].to_numpy().T - part["mean"].to_numpy())
        left.errorbar(part.radius_mm, part["mean"], spread, fmt=mark, ms=5, lw=0.8, color=shade,
                      label=f"contrast {label}")  # fmt: skip
    for level, words in ((1, "all is kept"), (least, "√α: below, small changes are found"), (0, "the lesion is gone")):
        left.axhline(level, color="black", lw=0.8, ls=":")
        left.annotate(words, (1, level), (-3, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", fontsize=8)  # fmt: skip
    left.set(xlabel="radius of the lesion, mm", ylabel="share of its contrast kept",
             ylim=(min(-0.1, 1.1 * lesions["min"].min()), max(1.25, 1.1 * lesions["max"].max())))  # fmt: skip
    for column, label, shade, mark in (("share_cho", "CHO, retrained", plots.COLOURS[2], "D"),
                                       ("share_npw", "NPW", plots.COLOURS[3], "^")):  # fmt: skip
        right.scatter(seen.d_full, seen[column], s=25, color=shade, marker=mark, label=label)
    right.axhline(1, color="black", lw=0.8, ls=":")
    right.set(xlabel="d′ of the lesion in the input, at its full contrast", ylabel="share of d′ kept ↑",
              xscale="log", ylim=(min(0.5, *right.get_ylim()), max(1.5, *right.get_ylim())))  # fmt: skip
    plots.plain_log(right, "x", STEPS)
    for axis in (left, right):
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8)
    return figure


def loss_terms(curves, weights: dict):
    """Terms of a loss over updates, unweighted, a panel a term. Args: curves: step, terms. weights: {term: weight}."""
    figure, axes = plt.subplots(1, len(weights), figsize=(3.2 * len(weights), 2.8), squeeze=False)
    for axis, name, colour in zip(axes[0], weights, plots.COLOURS):
        axis.plot(curves.step, curves[name], color=colour)
        axis.set(title=f"{name}, weight {weights[name]:.3g}", xlabel="updates", ylabel="mean a patch")
    return figure


def tissue_rows(fx, indices) -> list:
    """Patches as ``Row``, each in a window of its own: of any anatomy, a usual window may be all bright.

    Args: fx: denoised patches, (N, P, P), HU. indices: of those that are shown.
    """
    rows = []
    for n in indices:
        middle = fx[n][np.abs(fx[n] - np.median(fx[n])) < 300]
        low, high = np.quantile(middle, [0.02, 0.98])
        width = 50 * np.ceil(max(100, 1.5 * (high - low)) / 50)
        rows.append(Row(int(n), "patch", (10 * round((low + high) / 20), width)))
    return rows


def known_draws(titles, images, window=(0, 300)):
    """A patch of each control: input, what the control shows of it, and three draws.

    Args: titles: (controls,). images: (controls, 5, H, W), HU. window: centre and width, HU.
    """
    figure, axes = plt.subplots(len(titles), 5, figsize=(8.2, 1.75 * len(titles)), squeeze=False)
    for line, title, row in zip(axes, titles, images):
        for axis, name, image in zip(line, ("input", "output", "draw 1", "draw 2", "draw 3"), row):
            plots.show(axis, image, *window, name)
        plots.row_label(line[0], f"{title}\n{plots.window_text(*window)}", 8)
    return figure
