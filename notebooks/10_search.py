# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Which hyper-parameters does a method want, and which of them matter?
# **Question.** A search trained one method many times with values that a Gaussian process proposed. How did it go, what
# is best on the validation patients, and which parameter decided it?
#
# **Reads** `search.json` of a search (`make search STUDY=hpo_small` writes it and runs this notebook), and the history
# of the best trial where its run folder is on this machine. **Writes** `trials.parquet`, `importance.parquet`.
# **Cost** seconds.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/10_search/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
search: str = "hpo_small/search.json"  # what a search left, relative to outputs/

# %%
from ldct_utils.study import runs

run = runs.start("10_search", globals())

# %%
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd

from ldct_utils import report
from ldct_utils.report import plots
from ldct_utils.study import files, paths

found = paths.locate(search)
if found is None:
    raise FileNotFoundError(f"no {search} below outputs/; `make search STUDY=hpo_small` leaves hpo_small/search.json")
told = files.read_json(found)
metric, space = told["metric"], told["space"]
score = metric.removeprefix("val_").replace("_", " ").upper()
varied = {name: value for name, value in told["fixed"].items() if name in ("network", "method")}
print(f"{told['search']}: {len(told['trials'])} trials of {told['notebook']}, {varied}, seed {told['seed']}")

# %% [markdown]
# ## The history
# The first trials are drawn from the priors. From then on every trial maximises the expected improvement over the best
# one so far, by a Gaussian process fitted to all scores; a search that works proposes better trials than chance did. A
# trial that failed took its share of the budget, and counted as the worst score so far.

# %%
trials = pd.DataFrame(
    {"trial": number, **one["values"], metric: one["score"], "seconds": one["seconds"], "folder": one["folder"],
     "interrupted": one["interrupted"], "failed": one["reason"] or ""}
    for number, one in enumerate(told["trials"], 1)
)  # fmt: skip
trials[metric] = trials[metric].astype(float)
trials["best"] = trials[metric].cummax().ffill()
scored, failed = trials.dropna(subset=metric), trials[trials.failed != ""]
if scored.empty:
    raise ValueError(f"none of the {len(trials)} trials has a score; the last failed with: {trials.failed.iloc[-1]}")
chance = scored[scored.trial <= told["startup"]]
proposed = scored[scored.trial > told["startup"]]
best = scored.loc[scored[metric].idxmax()]

figure, axis = plt.subplots(figsize=(8, 3.4))
axis.plot(chance.trial, chance[metric], "o", color=plots.COLOURS[7], label="drawn from the priors")
axis.plot(proposed.trial, proposed[metric], "o", color=plots.COLOURS[0], label="expected improvement")
axis.step(trials.trial, trials.best, where="post", color=plots.COLOURS[1], label="best so far")
if len(failed):
    axis.plot(failed.trial, [scored[metric].min()] * len(failed), "x", color="black", label="failed")
axis.set(xlabel="trial", ylabel=f"{score}, validation patients (higher is better)")
axis.legend(fontsize=8)
middle = [f"{part[metric].median():.3f}" if len(part) else "none" for part in (chance, proposed)]
report.figure(
    run, "history", figure,
    f"{len(scored)} of {len(trials)} trials have a score. Median {score} of the trials drawn from the priors "
    f"{middle[0]}, of those that the Gaussian process proposed {middle[1]}; the best, {best[metric]:.4f}, is trial "
    f"{best.trial}.",
)  # fmt: skip

# %%
report.table(
    run, "trials", trials.drop(columns="best"),
    f"All trials, with the values that the search set. Failed by themselves: {len(failed)}. Cut off by a kill and "
    f"continued in the same run folder: {(trials.interrupted > 0).sum()}.",
)  # fmt: skip

# %% [markdown]
# ## Where good trials lie

# %%
columns = min(4, len(space))
lines = -(-len(space) // columns)
figure, axes = plt.subplots(lines, columns, figsize=(3.2 * columns, 2.9 * lines), squeeze=False, sharey=True)
for axis, (name, prior) in zip(axes.flat, space.items()):
    drawn = axis.scatter(scored[name], scored[metric], c=scored.trial, cmap="viridis", s=22, clip_on=False, zorder=3)
    axis.plot(best[name], best[metric], "o", ms=11, mfc="none", mec=plots.COLOURS[1], mew=1.8, clip_on=False)
    axis.set(xlabel=name, xscale="log" if prior["log"] else "linear", xlim=(prior["low"], prior["high"]))
for axis in axes.flat[len(space) :]:
    axis.set_axis_off()
for axis in axes[:, 0]:
    axis.set_ylabel(score)
figure.colorbar(drawn, ax=axes, label="trial")


def at_edge(name):
    """Whether the best value lies in the outer 2 % of its prior."""
    low, high, value = space[name]["low"], space[name]["high"], best[name]
    if space[name]["log"]:
        low, high, value = np.log([low, high, value])
    return not 0.02 < (value - low) / (high - low) < 0.98


edges = [name for name in space if at_edge(name)]
note = f" At an end of its prior the best trial has {', '.join(edges)}." if edges else ""
report.figure(
    run, "slices", figure,
    f"{score} over every searched parameter, on the width of its prior; circled, the best trial. A trial differs from "
    f"another in all parameters at once.{note}",
)  # fmt: skip

# %% [markdown]
# ## Which parameter decided
# PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255): how differently the values of the better trials are
# distributed from those of all trials, as a share of the sum over parameters. It says little after few trials, and
# nothing about how parameters act together.

# %%
kinds = {True: optuna.distributions.IntDistribution, False: optuna.distributions.FloatDistribution}
priors = {name: kinds[p["int"]](p["low"], p["high"], log=p["log"]) for name, p in space.items()}


def importance():
    """A row a parameter: its share."""
    again = optuna.create_study(direction="maximize")
    for one in told["trials"]:
        if one["score"] is not None:
            again.add_trial(optuna.create_trial(params=one["values"], distributions=priors, value=one["score"]))
    shares = optuna.importance.get_param_importances(again)
    return pd.DataFrame({"parameter": list(shares), "share": list(shares.values())})


shares = run.table("importance", importance)
figure, axis = plt.subplots(figsize=(6, 0.7 + 0.38 * len(shares)))
axis.barh(shares.parameter[::-1], shares.share[::-1], color=plots.COLOURS[0])
axis.set(xlabel="importance (share)", xlim=(0, 1))
report.figure(
    run, "importance", figure,
    f"From {len(scored)} trials. {shares.parameter.iloc[0]} comes first with {shares.share.iloc[0]:.0%}.",
)  # fmt: skip

# %% [markdown]
# ## The best trial

# %%
values = pd.DataFrame({"parameter": list(space), "value": [f"{best[name]:.6g}" for name in space]})
values["prior"] = [
    f"{p['low']:g} to {p['high']:g}" + (", whole" if p["int"] else "") + (", log" if p["log"] else "")
    for p in space.values()
]
report.table(
    run, "best", values,
    f"Values of trial {best.trial}, whose {score} on the validation patients is {best[metric]:.4f}. Its run folder is "
    f"`{best.folder}`.",
)  # fmt: skip
history = paths.locate(f"{best.folder}/history.parquet")
if history is None:
    report.text(f"The run folder `{best.folder}` is on another machine, so its training curves are not shown.")
else:
    report.figure(
        run, "training", plots.training_curves(pd.read_parquet(history)),
        f"Training of the best trial, {best.seconds:.0f} s in its last sitting.",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert trials.trial.is_unique and len(trials) == len(scored) + len(failed), "a trial has neither score nor reason"
assert np.isfinite(scored[metric]).all() and best[metric] == scored[metric].max()
assert abs(shares.share.sum() - 1) < 1e-6 and set(shares.parameter) == set(space)
assert all((scored[name].between(p["low"], p["high"])).all() for name, p in space.items()), "a value outside its prior"

run.finish(
    search=told["search"], metric=metric, trials=len(trials), failed=len(failed), best_score=float(best[metric]),
    best_trial=int(best.trial), best_folder=best.folder, best={name: best[name] for name in space},
    importance=dict(zip(shares.parameter, shares.share)),
)  # fmt: skip

# %%
gain = f"; {best[metric] - chance[metric].max():+.4f} over the best of the random ones" if len(chance) else ""
report.text(
    f"**What we saw.** {len(trials)} trials ({len(failed)} failed) reached {score} {best[metric]:.4f} on the "
    f"validation patients{gain}. {shares.parameter.iloc[0]} mattered most ({shares.share.iloc[0]:.0%}). The score "
    "chose the trial, so it is optimistic, and no score of a test patient took part: train these values with several "
    "seeds in `03_train`, and compare methods that had the same budget in `06_stats`."
)
