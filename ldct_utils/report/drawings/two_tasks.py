"""Detection of a lesion against telling its shape: what denoising does to both."""

import matplotlib.pyplot as plt

from ldct_utils.report import plots

GREY = {"color": "#999999", "marker": "x"}  # of a control
RIGHT = "d′ over that of FBP; right is better →"


def plane(table, observers: dict, looks: dict, control: str):
    """Both ratios of d' in one plane, a panel an observer: a line from no denoising over the strengths to the whole.

    Args: table: of ``characterise.both_tasks``. observers: {whose panels are drawn: title}. looks: {image: colour,
        marker and label}. control: an image, drawn in grey at its whole strength.
    Returns: the figure.
    """
    figure, axes = plt.subplots(1, len(observers), figsize=(5 * len(observers), 4.9), sharex=True, sharey=True)
    for axis, (observer, title) in zip(axes, observers.items()):
        for name, look in {**looks, control: {**GREY, "label": f"{control} (control)"}}.items():
            rows = table[(table["observer"] == observer) & (table["name"] == name)].sort_values("share")
            rows = rows[rows["share"] == 1] if name == control else rows
            axis.plot([1, *rows["detection"]], [1, *rows["shape"]], ms=5, lw=1, **look)
            (whole,) = rows[rows["share"] == 1].itertuples()
            across, up = ([[getattr(whole, task) - getattr(whole, f"{task}_low")],
                           [getattr(whole, f"{task}_high") - getattr(whole, task)]]
                          for task in ("detection", "shape"))  # fmt: skip
            axis.errorbar(whole.detection, whole.shape, up, across, color=look["color"], lw=1)
        axis.axhline(1, color="black", lw=0.8)
        axis.axvline(1, color="black", lw=0.8)
        axis.set_title(f"{title}\nlower right: detection helped, shape harmed", fontsize=9)
        axis.set(xlabel=f"detection: {RIGHT}")
    axes[0].set_ylabel("shape: d′ over that of FBP; up is better →")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def contrasts(ratios, tasks, looks: dict, own: dict):
    """Ratios of d' of whole outputs against the lesion's contrast, a panel a task.

    Args: ratios: rows of ``characterise.ratios`` of one observer and whole outputs. tasks: names. looks: as of
        ``plane``. own: {task: the contrast at which it was solved, HU}.
    """
    figure, axes = plt.subplots(1, len(tasks), figsize=(5 * len(tasks), 4.1), sharey=True)
    for axis, task in zip(axes, tasks):
        for name, look in looks.items():
            part = ratios[(ratios["name"] == name) & (ratios["task"] == task)].sort_values("contrast_hu")
            reach = [part["ratio"] - part["low"], part["high"] - part["ratio"]]
            axis.errorbar(-part["contrast_hu"], part["ratio"], reach, ms=4, lw=1.2, **look)
        axis.axhline(1, color="black", lw=0.8)
        axis.set(title=task, xlabel="contrast below the liver, HU")
        others = [-c for c in ratios["contrast_hu"].unique() if c not in own.values()]
        far = all(abs(c / own[task] + 1) > 0.2 for c in others)  # room for a tick of its own
        plots.ticks_at(axis, sorted({*others, *([-round(own[task])] if far else [])}))
    axes[0].set_ylabel("d′ over that of FBP; up is better →")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure
