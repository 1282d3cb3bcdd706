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

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import pandas as pd

from ldct_utils import report
from ldct_utils.report import sentences
from ldct_utils.report.drawings import search as drawings
from ldct_utils.report.drawings import training
from ldct_utils.stats import search as searches
from ldct_utils.study import files, paths

# %%
found = paths.locate(search)
if found is None:
    raise FileNotFoundError(f"no {search} below outputs/; `make search STUDY=hpo_small` leaves hpo_small/search.json")
told = files.read_json(found)
metric, space = told["metric"], told["space"]
score = metric.removeprefix("val_").replace("_", " ").upper()
varied = {name: value for name, value in told["fixed"].items() if name in ("network", "method")}
print(f"{told['search']}: trials of {told['notebook']}: {len(told['trials'])}, {varied}, seed {told['seed']}")

# %% [markdown]
# ## How the search went
# The first trials are drawn from the priors. From then on every trial maximises the expected improvement over the best
# one so far, by a Gaussian process fitted to all scores; a search that works proposes better trials than chance did. A
# trial that failed took its share of the budget, and counted as the worst score so far.

# %%
trials = searches.trials(told)
scored, failed = trials.dropna(subset=metric), trials[trials.failed != ""]
chance, proposed = scored[scored.trial <= told["startup"]], scored[scored.trial > told["startup"]]
best = scored.loc[scored[metric].idxmax()]
middle = [report.number(part[metric].median()) if len(part) else "none" for part in (chance, proposed)]

# %%
report.figure(
    run, "history", drawings.history(trials, metric, told["startup"], score),
    f"The best of {report.plural(len(trials), 'trial')} is trial {best.trial}, with {score} {best[metric]:.4f}.",
    f"The median {score} of trials drawn from the priors is {middle[0]}, of proposed trials {middle[1]}.",
    alt="Dot plot of the score over the trials: drawn from the priors, proposed, failed; a line of the best so far.",
)  # fmt: skip

# %%
interrupted = int((trials.interrupted > 0).sum())
report.table(
    run, "trials", trials.drop(columns="best"),
    f"{report.some(len(failed), len(trials), 'trial').capitalize()} failed.",
    f"Cut off by a kill and continued in the same run folder: {interrupted}. A dash: no score.",
    {"trial": "trial", metric: score} | {name: name for name in list(space)[:4]} | {"failed": "failed with"},
)  # fmt: skip

# %% [markdown]
# ## Where good trials lie
# A trial differs from another in all parameters at once, so a cloud without a trend may still hide one. A best value at
# an end of its prior says that the prior was too narrow. Choices, such as of a loss, have no order and no end.

# %%
edges = searches.at_edge(space, best)
at_end = f"The best trial has {report.listed(edges)} at an end of the prior."
report.figure(
    run, "slices", drawings.over_parameters(scored, metric, space, best, score),
    at_end if edges else "No value of the best trial lies at an end of its prior.",
    f"{score} over every searched parameter, on the width of its prior; the best trial is circled.",
    alt="Scatter plots of the score, a panel a parameter, coloured by trial, the best trial circled.",
)  # fmt: skip

# %% [markdown]
# ## Which parameter decided
# PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255): how differently the values of the better trials are
# distributed from those of all trials, as a share of the sum over parameters. It says little after few trials, and
# nothing about how parameters act together.

# %%
shares = run.table("importance", lambda: searches.importance(told))
first = f"{shares.parameter.iloc[0]} mattered most ({report.percent(shares.share.iloc[0])} of the importance)"
report.figure(
    run, "importance", drawings.importance(shares), f"{first}.",
    f"From {report.plural(len(scored), 'trial')} with a score.",
    alt="Bar chart: importance of each parameter in percent, largest on top.",
)  # fmt: skip

# %% [markdown]
# ## The best trial

# %%
report.table(
    run, "best", searches.values(space, best),
    f"Trial {best.trial} reached {score} {best[metric]:.4f} on the validation patients.",
    f"Its run folder is `{best.folder}`.", {"parameter": "parameter", "value": "value", "prior": "prior"},
)  # fmt: skip

# %%
history = paths.locate(f"{best.folder}/history.parquet")
if history is None:
    report.text(f"The run folder `{best.folder}` is on another machine, so its training curves are not shown.")
else:
    report.figure(
        run, "training", training.curves(pd.read_parquet(history)),
        f"The best trial trained for {best.seconds:.0f} s in its last sitting.",
        alt="Line plots over updates: the loss terms, the critics' terms if any, and the validation error.",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert trials.trial.is_unique and len(trials) == len(scored) + len(failed), "a trial has neither score nor reason"
assert np.isfinite(scored[metric]).all() and best[metric] == scored[metric].max()
assert abs(shares.share.sum() - 1) < 1e-6 and set(shares.parameter) == set(space)
assert all(searches.within(prior, scored[name]) for name, prior in space.items()), "a value outside its prior"
run.finish(
    search=told["search"], metric=metric, trials=len(trials), failed=len(failed), best_score=float(best[metric]),
    best_trial=int(best.trial), best_folder=best.folder, best={name: best[name] for name in space},
    importance=dict(zip(shares.parameter, shares.share)),
)  # fmt: skip

# %%
gain = "There was no random trial to compare with."
if len(chance):
    gain = f"That {sentences.compared(best[metric] - chance[metric].max(), np.nan, np.nan, 'the best random trial')}."
report.text(
    f"**What we saw.** {report.plural(len(trials), 'trial')} reached {score} {best[metric]:.4f} on the validation "
    f"patients. {gain} {first}. One limit: the score chose the trial, so it is optimistic. Next: train these values "
    "with several seeds in `03_train`, and compare methods of the same budget in `06_stats`."
)
