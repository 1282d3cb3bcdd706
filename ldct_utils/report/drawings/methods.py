"""Methods beside one another: gains of patients, error maps, and what a share of perceptual loss changes.

Methods are named as ``training.designs`` names them, which fixes their colours; what to call them is passed in.
"""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots
from ldct_utils.report.sentences import number

ANATOMY_MARKS = "o^sDv"  # one an anatomy, in the order of their names
LIMIT_HU = 50.0  # end of the scale of error maps
ASIDE = 2.0  # of ψ, %, between the bars of two lines
FAR = 0.03  # of ψ: what moved by less is drawn at its end only


def patients(panels: dict, methods: dict, label: str):
    """One line a method: a dot a patient, below it the mean with its interval; right of 0 is better.

    Args:
        panels: {title: columns method, patient, anatomy, better_by, mean, low, high}, from
            ``metrics.comparison.by_patient``, an empty one is left out. methods: {method: its words}, from above.
        label: of the axes, with the unit.
    """
    panels = {title: table for title, table in panels.items() if len(table)}
    there = {name for table in panels.values() for name in table["method"]}
    methods = {name: words for name, words in methods.items() if name in there}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.5 + 4 * len(panels), 1.6 + 0.42 * len(methods)), squeeze=False, sharey=True
    )
    anatomies = sorted({name for table in panels.values() for name in table["anatomy"]})
    marks = dict(zip(anatomies, ANATOMY_MARKS * len(anatomies)))
    for axis, (title, table) in zip(axes[0], panels.items()):
        _lines_of_patients(axis, table, list(methods), marks)
        axis.set(title=fill(title, 46), xlabel=f"{label}, better →")
    axes[0, 0].set_yticks(range(len(methods)), [fill(words, 34) for words in methods.values()], fontsize=8)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.6)
    handles = [plt.Line2D([], [], marker=m, ls="", color="0.4", label=a) for a, m in marks.items()]
    handles.append(plt.Line2D([], [], marker="d", color="black", lw=2.2, label="mean, 95 % interval"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _lines_of_patients(axis, table, methods, marks):
    drawn, means = {}, {}
    for method, part in table.groupby("method", sort=False):
        line, row = methods.index(method), part.iloc[0]
        means[line] = row["mean"]
        drawn[line] = [*part["better_by"], *(end for end in (row["low"], row["high"]) if np.isfinite(end))]
        height = line + np.linspace(-0.25, 0.05, len(part))
        for dot, where in zip(part.itertuples(), height):
            axis.plot(dot.better_by, where, marks[dot.anatomy], ms=4.5, alpha=0.8, color=plots.loss_style(method)[0])
        axis.plot([row["low"], row["high"]], [line + 0.28] * 2, color="black", lw=2.2, solid_capstyle="butt")
        axis.plot(row["mean"], line + 0.28, "d", color="black", ms=5)
    plots.without_far(axis, drawn, means, zero=True)
    axis.axvline(0, color="black", lw=0.8, ls=":")
    axis.locator_params(axis="x", nbins=5)


def errors(about, target, made: dict, reference: str, methods: dict, lesions=None):
    """Slices of a reference and what each image differs from it by, on one scale.

    Args:
        about: a row a slice: anatomy, and pixel_mm where it is known. target: (slices, H, W), HU.
        made: {method: (slices, H, W), HU}. reference: what the target is called. methods: {method: its words}.
        lesions: (slices, H, W), a lesion's number, 0 for none; None where none are known.
    """
    size = (2.5 * (1 + len(made)), 2.9 * len(about))
    figure, axes = plt.subplots(len(about), 1 + len(made), figsize=size, squeeze=False)
    for i, (line, row) in enumerate(zip(axes, about.to_dict("records"))):
        window = plots.anatomy_window(row["anatomy"])
        plots.show(line[0], target[i], *window, reference if i == 0 else "")
        plots.row_label(line[0], f"{row['anatomy']}\n{plots.window_text(*window)}")
        plots.scale_bar(line[0], row.get("pixel_mm", np.nan))
        for axis, (method, images) in zip(line[1:], made.items()):
            error = images[i] - target[i]
            words = fill(methods[method], 24) + "\n" if i == 0 else ""
            drawn = plots.difference(axis, error, LIMIT_HU, f"{words}error {np.sqrt(np.mean(error**2)):.1f} HU")
        for axis in line if lesions is not None else ():
            plots.circle(axis, lesions[i])
    figure.colorbar(drawn, ax=axes, label=f"image − {reference}, HU", shrink=0.6, pad=0.01)
    return figure


def psi(effects, panels: dict, columns: int):
    """What a loss gains over its base against the ψ reached, %: a line a network, context and layer, thin back to the
    ψ at the start; up is better. A hollow mark is one training.

    Args:
        effects: a row a loss, reference and metric: who, layer, held, psi, psi_start, psi_end, better_by, low, high,
            seeds, base, method, at. panels: {(reference, metric): label of the axis}; columns: panels in a row.
    """
    lines = -(-len(panels) // columns)
    size = (4.2 * columns, 3.2 * lines + 0.9)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, sharex=True)
    for axis, ((reference, metric), label) in zip(axes.flat, panels.items()):
        panel = effects[(effects["reference"] == reference) & (effects["metric"] == metric)]
        _psi_lines(axis, panel)
        _psi_limits(axis, panel)
        axis.set(ylabel=f"{label}, better →")
    moved = (effects["psi_start"] - effects["psi_end"]).abs().max() > FAR
    also = "; a horizontal line runs to its start" if moved else ""
    figure.supxlabel(f"perceptual share ψ at the end of training, % (marks of one ψ side by side{also})", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _psi_lines(axis, panel):
    lines = list(panel.groupby(["who", "layer", "held"]))
    for i, ((who, layer, held), part) in enumerate(lines):
        part = part.sort_values("psi_end")
        colour, mark = plots.loss_style(part["method"].iloc[0])
        how = {"color": colour, "marker": "*" if held else mark, "ms": 9 if held else 6}
        x = 100 * part["psi_end"].to_numpy() + ASIDE * (i - (len(lines) - 1) / 2)  # bars of one ψ stand side by side
        start = [] if held or part["base"].iloc[0] == "LDCT" else [0.0]
        axis.plot([*start, *x], [*start, *part["better_by"]], ls="" if held else ("-", "--", ":", "-.")[i % 4], lw=0.8,
                  label=f"{layer}, {who}" + ", ψ held" * held, **how)  # fmt: skip
        axis.vlines(x, part["low"], part["high"], color=colour, lw=1.6)
        far = part[(part["psi_start"] - part["psi_end"]).abs() > FAR]
        axis.hlines(far["better_by"], 100 * far["psi_end"], 100 * far["psi_start"], color=colour, lw=0.8, alpha=0.6)
        axis.plot(100 * far["psi_start"], far["better_by"], "|", color=colour, ms=7)
        alone = (part["seeds"] == 1).to_numpy()
        axis.plot(x[alone], part["better_by"][alone], ls="", mfc="white", **how)
    axis.axhline(0, color="black", lw=0.8, ls=":")
    axis.set(xlim=(-4, 106), xticks=range(0, 101, 25))


def _psi_limits(axis, panel):
    """Limits by the losses under ψ = 1; what the perceptual term alone does may be far off, and is told at the edge."""
    inner = panel[panel["psi"] < 1] if (panel["psi"] < 1).any() else panel
    ends = inner[["better_by", "low", "high"]]
    low, high = min(0.0, ends.min(axis=None)), max(0.0, ends.max(axis=None))
    room = 0.2 * (high - low) or 1e-6
    axis.set_ylim(low - room, high + room)
    for upper, far in ((False, panel["better_by"] < low - room), (True, panel["better_by"] > high + room)):
        notes = [(f"{row.layer}, {row.at}: {number(row.better_by, sign=True)}", plots.loss_style(row.method)[0])
                 for row in panel[far].itertuples()]  # fmt: skip
        plots.edge_notes(axis, notes, upper)


def shares_kept(table, denoisers, quantities: dict, controls=()):
    """How much of several quantities denoisers keep, a panel a quantity, with 95 % intervals; 100 % is all of it.

    Args: table: denoiser, quantity, mean, low, high, in shares. denoisers: from above. quantities: {name: its words}.
        controls: denoisers below these, grey.
    """
    first, denoisers = len(denoisers), [*denoisers, *controls]
    size = (2 + 3.0 * len(quantities), 1.3 + 0.4 * len(denoisers))
    figure, axes = plt.subplots(1, len(quantities), figsize=size, sharey=True, squeeze=False)
    for axis, (quantity, words) in zip(axes[0], quantities.items()):
        part = table[table["quantity"] == quantity].set_index("denoiser").loc[denoisers]
        for rows, colour in ((slice(first), "black"), (slice(first, None), "0.55")):
            some, lines = part[rows], np.arange(len(part))[rows]
            axis.errorbar(100 * some["mean"], lines, xerr=100 * plots.reach(some), fmt="o", color=colour)
        axis.axvline(100, color="black", lw=0.8, ls=":")
        axis.set_yticks(range(len(part)), [fill(name, 34) for name in part.index], fontsize=8)
        axis.set(xlabel=f"{words}, % (100: all)", ylim=(len(part) - 0.5, -0.5))
        axis.locator_params(axis="x", nbins=4)
        axis.ticklabel_format(axis="x", useOffset=False)
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, 99), max(high, 101))  # what differs by less than a hundredth looks the same
    return figure
