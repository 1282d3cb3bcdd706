"""How a training went: loss terms, validation error, and the perceptual share of loss and gradient."""

import matplotlib.pyplot as plt
from matplotlib import ticker

from ldct_utils.report import plots

# {term: (what it is called, its colour)}: one name and colour in every figure
LABELS = {"mse": "MSE", "l1": "L1", "charbonnier": "Charbonnier", "vgg": "VGG", "mean_srmse": "MeanSRMSE"}
TERMS = {name: (label, plots.loss_style(name)[0]) for name, label in LABELS.items()}
TERMS |= {"perceptual": ("perceptual", plots.COLOURS[4]), "grad": ("gradient", plots.COLOURS[6])}
CRITICS = {
    "adv": "adversarial", "critic": "critic", "gp": "gradient penalty", "adv_image": "adversarial, image",
    "adv_gradient": "adversarial, gradient", "critic_image": "critic, image", "critic_gradient": "critic, gradient",
    "cutmix": "CutMix",
}  # fmt: skip
DEFINITIONS = {"psi_ratio_of_sums": "ψ by Algorithm 2", "psi_mean_of_ratios": "ψ by Eq. 5"}


def curves(history):
    """Training at a glance: the loss terms as they enter the loss, and the error on whole validation slices.

    What critics add, which may be negative and need not fall, has a panel of its own.

    Args: history: the table that ``history.History`` keeps.
    Returns: the figure.
    """
    judged = {name: label for name, label in CRITICS.items() if name in history}
    figure, axes = plt.subplots(1, 3 if judged else 2, figsize=(14 if judged else 10, 3.6))
    left, right = axes[0], axes[-1]
    for colour, (name, label) in zip(plots.COLOURS, judged.items()):
        axes[1].plot(history.step, history[name], color=colour, label=label)
    if judged:
        axes[1].axhline(0, color="black", lw=0.8)
        axes[1].set(xlabel="updates", ylabel="adversarial terms", yscale="symlog")
        _legend(axes[1])
    weighted = {"vgg": history.get("lam", 1.0)}  # pixel terms nearly always have weight 1
    for name, (label, colour) in TERMS.items():
        if name in history:
            label = "λ · VGG" if name == "vgg" else label
            left.semilogy(history.step, history[name] * weighted.get(name, 1.0), color=colour, label=label)
    left.set(xlabel="updates", ylabel="training loss, network units")  # of the method, where it has its own
    if left.get_yscale() == "log":
        left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(ticker.LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(9, 9)))
        left.yaxis.set_minor_formatter(ticker.NullFormatter())
    _legend(left)
    right.axhline(0, color="black", lw=0.8)
    if "val_rmse_hu" in history:
        scored = history.dropna(subset="val_rmse_hu")
        right.plot(scored.step, scored.val_rmse_hu, "o-", color="black")
        right.set_ylim(0, 1.1 * min(scored.val_rmse_hu.max(), 3 * scored.val_rmse_hu.iloc[-1]))
    right.set(xlabel="updates", ylabel="validation RMSE against NDCT, HU\n(lower is better)")
    return figure


def perceptual_share(history, set_to: float):
    """Where the perceptual share of loss and gradient went, and how MSE, VGG loss and λ moved from the first updates.

    Args:
        history: the table that ``history.History`` keeps, of a loss MSE + λ · VGG.
        set_to: the share λ was set for, in [0, 1].
    Returns: the figure.
    """
    trained, scored = history.dropna(subset="mse"), history.dropna(subset="val_gradient_influence")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.0))
    for colour, (column, label) in zip((plots.COLOURS[4], plots.COLOURS[5]), DEFINITIONS.items()):
        left.plot(trained.step, 100 * trained[column], color=colour, lw=1, label=f"{label}, training")
        left.plot(scored.step, 100 * scored[f"val_{column}"], "o--", color=colour, ms=4, label=f"{label}, validation")
    left.plot(
        scored.step, 100 * scored.val_gradient_influence, "s:", color=plots.COLOURS[2], label="gradient, validation"
    )
    left.axhline(100 * set_to, color="black", lw=0.8, ls=":", label=f"set: {100 * set_to:.4g} %")
    left.set(xlabel="updates", ylabel="share of the perceptual term, %", ylim=(-2, 102))
    for name in ("mse", "vgg"):
        label, colour = TERMS[name]
        right.semilogy(trained.step, trained[name] / trained[name].iloc[0], color=colour, label=label)
    right.semilogy(trained.step, trained.lam / trained.lam.iloc[0], color="black", label="λ")
    right.set(xlabel="updates", ylabel="relative to the first updates")
    plots.plain_log(right, "y", (1, 2, 3, 5, 7))
    _legend(left)
    _legend(right)
    return figure


def _legend(axis):
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
