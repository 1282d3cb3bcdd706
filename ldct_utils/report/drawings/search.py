"""A search for hyper-parameters: its trials in order and over each parameter, and what decided."""

import matplotlib.pyplot as plt

from ldct_utils.report import plots


def history(trials, metric: str, startup: int, label: str):
    """Scores of trials in order, drawn from the priors or proposed, with the best so far and those that failed.

    Args:
        trials: columns trial, ``metric`` (NaN without a score), best, failed (why, or empty).
        startup: trials that are drawn from the priors. label: of the score.
    Returns: the figure.
    """
    scored, failed = trials.dropna(subset=metric), trials[trials.failed != ""]
    chance, proposed = scored[scored.trial <= startup], scored[scored.trial > startup]
    figure, axis = plt.subplots(figsize=(8, 3.6))
    axis.plot(chance.trial, chance[metric], "o", color=plots.COLOURS[7], label="drawn from the priors")
    axis.plot(proposed.trial, proposed[metric], "o", color=plots.COLOURS[0], label="expected improvement")
    axis.step(trials.trial, trials.best, where="post", color=plots.COLOURS[1], label="best so far")
    if len(failed):
        axis.plot(failed.trial, [scored[metric].min()] * len(failed), "x", color="black", label="failed")
    axis.set(xlabel="trial", ylabel=f"{label}, validation patients\n(higher is better)")
    figure.legend(loc="outside upper center", ncols=4, fontsize=9)
    return figure


def over_parameters(scored, metric: str, space: dict, best, label: str):
    """Scores over every searched parameter on the width of its prior, the best trial circled; the colour is the trial.

    Args: scored: trials that have a score. space: {parameter: low, high, log, or choices}. best: its row.
    Returns: the figure.
    """
    columns = min(4, len(space))
    lines = -(-len(space) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.2 * columns, 2.9 * lines), squeeze=False, sharey=True)
    for axis, (name, prior) in zip(axes.flat, space.items()):
        choices = prior.get("choices")
        at, top = (
            (scored[name], best[name]) if not choices else (scored[name].map(choices.index), choices.index(best[name]))
        )
        drawn = axis.scatter(at, scored[metric], c=scored.trial, cmap="viridis", s=22, clip_on=False, zorder=3)
        axis.plot(top, best[metric], "o", ms=11, mfc="none", mec=plots.COLOURS[1], mew=1.8, clip_on=False)
        if choices:
            axis.set(xlabel=name, xlim=(-0.5, len(choices) - 0.5))
            axis.set_xticks(range(len(choices)), [str(one) for one in choices], rotation=20)
        else:
            axis.set(xlabel=name, xscale="log" if prior["log"] else "linear", xlim=(prior["low"], prior["high"]))
    for axis in axes.flat[len(space) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel(label)
    figure.colorbar(drawn, ax=axes, label="trial")
    return figure


def importance(shares):
    """What share of the importance each parameter has. Args: shares: columns parameter, share, in [0, 1]."""
    figure, axis = plt.subplots(figsize=(6, 0.7 + 0.38 * len(shares)))
    axis.barh(shares.parameter[::-1], 100 * shares.share[::-1], color=plots.COLOURS[0])
    axis.set(xlabel="importance, %", xlim=(0, 100))
    return figure
