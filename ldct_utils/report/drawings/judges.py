"""Judges down, denoisers across: from which strength a fault is caught."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Rectangle

from ldct_utils.report import plots, sentences

# Colours of cells, by state; the last three stand in the legend where they occur.
PLAIN = {"not caught": "white", "misled": plots.COLOURS[1], "not asked": "#eeeeee"}
SELDOM = {"open": "#cccccc", "noise": "#fbdcc4", "counted": "#f6ecd2"}
HEADS = {
    "judge": "judge", "caught": "faults caught", "asked": "faults asked", "missed": "faults not caught",
    "misled": "alarm without a fault",
    ("twin_percent", "twin_low", "twin_high"): "most alarms at a twin, % of patients (right: 5)",
}  # fmt: skip
CELLS = {
    "judge": "judge", "denoiser": "denoiser", "from": "caught from, % of strength", "half": "half found at, %",
    "rising": "alarms at each strength, %", ("rate", "rate_low", "rate_high"): "alarms at the largest, % of patients",
    ("twin", "twin_low", "twin_high"): "alarms at the twin, %", "patients": "patients",
}  # fmt: skip
NO_FAULT = {"identity": "alarm at the image that was not denoised", "truth": "alarm at the noise-free truth"}
ALT = (
    "Grid of coloured cells, judges down and denoisers across: blue where a fault is caught, orange where a denoiser "
    "without a fault raises an alarm."
)


def heads(denoisers) -> dict:
    """``HEADS`` for the table of the denoisers that were asked: the column of alarms without a fault names what has
    none, and is left out where nothing without one was asked."""
    harmless = [head for name, head in NO_FAULT.items() if name in denoisers]
    found = HEADS | ({"misled": harmless[0]} if len(harmless) == 1 else {})
    return {column: head for column, head in found.items() if harmless or column != "misled"}


def with_ends(table, verdicts, labels: dict):
    """A table of ``verdicts.by_judge`` with the interval of the most alarms at a twin: twin_low and twin_high, %.

    Args: verdicts: a row a judge, denoiser and strength: judge, twin, twin_low, twin_high. labels: {judge: its label}.
    """
    most = verdicts.sort_values("twin").drop_duplicates("judge", keep="last").set_index("judge").rename(index=labels)
    ends = {f"twin_{end}": table["judge"].map(100 * most[f"twin_{end}"]) for end in ("low", "high")}
    same = (table["judge"].map(100 * most["twin"]) - table["twin_percent"]).abs() < 1e-6  # not of what has no fault
    return table.assign(**{name: values.where(same) for name, values in ends.items()})


def _blue(strength):
    return plt.cm.Blues(0.95 - 0.65 * strength)


def _cell(axis, x, y, row):
    """One cell: its colour, hatched where the judge cannot be asked, and the text in it."""
    face = _blue(row.strength) if row.state == "caught" else (PLAIN | SELDOM)[row.state]
    hatch = "////" if row.state == "not asked" else None
    axis.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor="#777777", hatch=hatch, lw=0.6))
    dark = row.state == "caught" and sum(face[:3]) < 1.5
    axis.text(x + 0.5, y + 0.5, row.text, ha="center", va="center", fontsize=7 if "\n" in row.text else 9,
              color="white" if dark else "black")  # fmt: skip


def grid(cells, judges: dict, denoisers: dict, lines_at, strengths, above=()):
    """The grid of all verdicts.

    Args: cells: judge, denoiser, state, strength, text (of ``judges.verdicts.grid``). judges, denoisers: {name: label}
        in their order. lines_at: columns before which a line separates kinds of denoisers. strengths: of the legend.
        above: rows above which a line separates what is not counted.
    """
    figure, axis = plt.subplots(figsize=(3.2 + 0.72 * len(denoisers), 2.6 + 0.42 * len(judges)))
    across, down = list(denoisers), list(judges)
    for row in cells.itertuples():
        _cell(axis, across.index(row.denoiser), down.index(row.judge), row)
    axis.set(xlim=(0, len(across)), ylim=(len(down), 0))
    axis.set_xticks(np.arange(len(across)) + 0.5, denoisers.values(), rotation=40, ha="right", fontsize=9)
    axis.set_yticks(np.arange(len(down)) + 0.5, judges.values(), fontsize=9)
    axis.grid(False)
    axis.tick_params(length=0)
    for at in lines_at:
        axis.axvline(at, color="black", lw=2)
    for at in above:
        axis.axhline(at, color="black", lw=2)
    words = {"not caught": "not shown to be caught", "misled": "wrong: alarm at the noise-free truth",
             "not asked": "cannot be asked", "noise": "right: sees the noise of an image not denoised",
             "open": "asked without an answer", "counted": "lesions of one patient"}  # fmt: skip
    from_where = "caught from {} of the strength" if len(strengths) > 1 else "caught"
    keys = [Patch(facecolor=_blue(s), edgecolor="#777777", label=from_where.format(sentences.percent(s)))
            for s in strengths]  # fmt: skip
    kinds = PLAIN | {state: face for state, face in SELDOM.items() if (cells["state"] == state).any()}
    keys += [Patch(facecolor=face, edgecolor="#777777", hatch="////" if state == "not asked" else None,
                   label=words[state]) for state, face in kinds.items()
             if state != "not asked" or (cells["state"] == state).any()]  # fmt: skip
    figure.legend(handles=keys, loc="outside upper center", ncols=3, fontsize=8)
    return figure
