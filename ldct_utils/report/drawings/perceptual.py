"""The perceptual share ψ of a loss against its weight λ, and what encoders answer to."""

import matplotlib.pyplot as plt
import numpy as np

from ldct_utils.report import plots, sentences

# {network of a table: (what it is called, its colour)}
NETWORKS = {
    "untrained": ("untrained network", plots.COLOURS[0]),
    "identity": ("the LDCT itself", plots.COLOURS[1]),
    "trained": ("trained network", plots.COLOURS[2]),
}


def _psi_axis(axis, target: float | None, usual: float):
    if target is not None:
        axis.axhline(100 * target, color="black", lw=0.8, ls=":", label=f"target ψ = {100 * target:g} %")
    axis.axvline(usual, color="black", lw=0.8, ls="--", label=f"λ = {usual:g} of the literature")
    axis.set(xscale="log", xlabel="weight λ of the perceptual term", ylim=(0, 102))


def _legend(axis, columns: int = 2):
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)


def psi_by_lambda(panels: list[tuple], lambdas, target: float, usual: float):
    """ψ against λ, a panel a comparison; solid by Algorithm 2, dotted by Eq. 5.

    Args:
        panels: (title, {name: (psi by Algorithm 2, psi by Eq. 5 or None, λ that was used or None)}), psi at
            ``lambdas``, in [0, 1]. Names of ``NETWORKS`` have the colours of networks, others those of depth.
        target: psi, a dotted line. usual: λ of the literature, a dashed line.
    Returns: the figure.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 4.2), sharey=True, squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels):
        depth = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(curves)))
        for colour, (name, (solid, dotted, used)) in zip(depth, curves.items()):
            label, colour = NETWORKS.get(name, (name, colour))
            axis.plot(lambdas, 100 * np.asarray(solid), color=colour, label=label)
            if dotted is not None:
                axis.plot(lambdas, 100 * np.asarray(dotted), ":", color=colour)
            if used is not None:
                axis.plot(used, 100 * np.interp(np.log(used), np.log(lambdas), solid), "o", color=colour)
        _psi_axis(axis, target, usual)
        axis.set_xlabel(f"weight λ of the perceptual term ({title})" if title else axis.get_xlabel())
        _legend(axis)
    axes[0, 0].set_ylabel("perceptual share ψ of the loss, %")
    return figure


def calibration(table, layers, target: float, solid: str, open_: str):
    """λ for a target psi, with its interval, and the share of the gradient at that λ, by layer and network.

    Args:
        table: f, layer, columns ``solid`` and ``open_`` (λ by the two definitions), lambda_low, lambda_high, gradient
            influence. layers: names, shallow to deep. target: psi, in [0, 1].
    Returns: the figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.0))
    for shift, (f, r) in zip((-0.2, 0, 0.2), table.groupby("f", sort=False)):
        label, colour = NETWORKS[f]
        at = np.arange(len(r)) + shift
        left.semilogy(at, r[solid], "o", color=colour, label=label)
        left.semilogy(at + 0.07, r[open_], "o", color=colour, mfc="white")
        left.vlines(at, r.lambda_low, r.lambda_high, color=colour, lw=2, alpha=0.5)
        right.plot(at, 100 * r["gradient influence"], "o", color=colour)
    right.axhline(100 * target, color="black", lw=0.8, ls=":", label=f"share of the loss, {100 * target:g} %")
    for axis in (left, right):
        axis.set_xticks(range(len(layers)), layers, fontsize=8, rotation=15)
    left.set(ylabel=f"λ for ψ = {100 * target:g} %")
    low = 100 * table["gradient influence"].min()
    right.set(ylabel="share of the gradient at that λ, %", ylim=(min(low, 100 * target) - 2, 100.5))
    figure.legend(loc="outside upper center", ncols=4, fontsize=9)
    return figure


def answers(table, levels, changes: dict, reference: str, factor: float):
    """What encoders answer to, a panel a change, by depth; the reference in black, with a grey band about its answer.

    Args:
        table: encoder, level, and the columns of ``changes`` ({column: title}). levels: shallow to deep.
        reference: the encoder the others are measured against. factor: half width of the band.
    Returns: the figure.
    """
    figure, axes = plt.subplots(1, len(changes), figsize=(3.3 * len(changes), 3.9), squeeze=False)
    for axis, (change, label) in zip(axes[0], changes.items()):
        ratio = "/" in change
        for colour, (name, r) in zip(plots.COLOURS, table.groupby("encoder", sort=False)):
            at, values = [levels.index(level) for level in r.level], r[change] * (1 if ratio else 100)
            axis.semilogy(at, values, "o-", color="black" if name == reference else colour, label=name)
            if name == reference:
                axis.fill_between(at, values / factor, values * factor, color="0.85")
        axis.set_xticks(range(len(levels)), levels, rotation=45, ha="right", fontsize=8)
        plots.plain_log(axis, "y", (1, 1.5, 2, 3, 5, 7))
        axis.set_ylabel("ratio of the two changes" if ratio else "relative change of features, %")
        axis.set(title=label, xlim=(-0.3, len(levels) - 0.7))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    return figure


def reading(table, level: str, reference: str, trained: str = "EfficientNet-Lite0") -> str:
    """How ``answers`` is read: a trained encoder against random ones, where it stands, and where the reference is.

    Args: table, reference: as of ``answers``. level: at which encoders are compared. trained: the encoder.
    """
    said, known = [], set(table.encoder)
    asked = table[table.level == level].set_index("encoder").get("lesions / noise")
    if asked is not None and trained in asked and (random := asked[asked.index.str.startswith("random")]).size:
        times = sentences.number(asked[trained] / random.mean())
        said += [f"There {trained}, trained on photographs and of another design, reacts {times} times as much as a "
                 "random VGG-19 to lost lesions relative to noise."]  # fmt: skip
    if trained in known:
        without = [one for one in dict.fromkeys(table.level) if one not in set(table.level[table.encoder == trained])]
        none = f", with none at {sentences.listed(without)}" if without else ""
        said += [f"Stages of {trained} stand at the level of the same sampling{none}."]
    here = "Black: {}'s VGG-19; a stand-in lies in the grey band." if reference in known else "{}'s VGG-19 is not here."
    return " ".join([*said, here.format(reference)])
