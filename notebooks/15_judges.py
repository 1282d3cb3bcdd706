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
# # 15 · Which judge catches which fault?
# **Question.** Metrics, observers and tests judge denoisers. Which of them would have seen a denoiser that erases
# lesions, blurs, pastes texture or inserts a lesion, and from what strength on?
#
# **Reads** simulated patients that no network was trained on; finished `03_train` and `05a` runs if given. **Writes**
# `scores-*.parquet` (a row a judge and patient), `verdicts.parquet`, `search-*.parquet`, two tables, a figure. **Cost**
# on one core 5 s a patient, a quarter of a second a patient, denoiser and strength, 10 s a search.
#
# Words: LDCT is the low-dose slice, the noise-free truth a slice without noise. d′ says how well an observer tells
# "lesion" from "no lesion"; 0 is guessing.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/15_judges/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
patients: int = 60  # simulated for this notebook alone, one slice each; every second has no lesions; 20 or more
people_seed: int = 15  # of these patients; another one than that of the networks' training
dose: float = 0.25  # of their LDCT; fraction of the normal one
kernel: str = "B30"  # of the reconstruction
faults: list = []  # names of judges.faulty; empty takes all
strengths: list = [0.25, 0.5, 0.75, 1.0]  # of each fault, rising, in (0, 1]
judges: list = []  # names of judges.panel; empty takes all
runs: list = []  # run folders or globs of 03_train, relative to outputs/: networks that are judged as well
drawn: list = []  # those of 05a_train_invariances, whose models were tried on an eraser and the identity there
realisations: int = 40  # noise scans of a crop and class, 30 or more
iterations: int = 3000  # of the invariance search; 0 leaves it out
alpha: float = 0.1  # of the search: the share of its power that a denoiser may pass on, in (0, 1)
sigma_hu: float = 41.0  # of the search: SD of the noise at the start, HU
lr: float = 1e-3  # of the search: Adam's learning rate, network range
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
device: str = "auto"  # of the networks: auto, cpu or cuda
precision: str = "float32"  # of the networks: auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("15_judges", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import simulated
from ldct_utils.invariance import optimise
from ldct_utils.judges import caught, faulty, panel, search, subjects, verdicts
from ldct_utils.report.drawings import judges as drawings
from ldct_utils.study.runs import named, select
from ldct_utils.training import checkpoints, prediction, setup

# %% [markdown]
# ## Patients, half of them without lesions
# Every patient is scanned once as a whole and many times in a crop around where its lesions are. Of every second
# patient we take the scan without lesions. No network has seen any of them.

# %%
setup.seed_everything(seed, threads)
faults, judges = panel.known(faults, judges)  # refuses a name that is not known
SOURCE = simulated.__name__.rpartition(".")[2]  # named by its module, so that the id of this run follows its code
cohort = cohorts.get(SOURCE, patients=patients, slices=1, dose=dose, kernel=kernel, cohort_seed=people_seed)
people = subjects.draw(cohort, realisations, seed, partial(tqdm, desc="noise scans", unit="patient"))
diseased = pd.Series({one.patient: one.diseased for one in people})
who = f"{report.plural(len(people), 'simulated patient')}, {int(diseased.sum())} with lesions"
tasks = sum(one.task is not None for one in people)
report.text(f"Judged are {who}. A known lesion is looked for in {report.plural(tasks, 'crop')}.")

# %% [markdown]
# ## Denoisers with one known fault, and honest twins
# The *honest denoiser* knows the noise-free truth and leaves 40 to 60 % of the noise, without touching anatomy. Faults
# are laid over it, at a strength from 0 to 1; blur, median and total variation work on the LDCT itself. The *honest
# twin* does the same without the fault. The twin of blur, median, total variation, unsharp masking and the blind eraser
# is the truth plus what they make of the noise alone. The twin of a network is made alike.
#
# - *Eraser*: replaces lesions that it knows. *Blind eraser*: takes out what is faint and of lesion size.
# - *Texture paster*: up to 10 HU of fine texture. *Inserter*: a disc of up to 40 HU.
# - *Identity* and *noise-free truth* have no fault. The identity leaves all noise and is thus noisier than its twin.

# %%
chosen = select(runs) if runs else []
networks = {
    name: prediction.denoiser(one, 4, precision, device) for name, one in zip(named(chosen) if chosen else [], chosen)
}
columns = [*faults, *networks]


def makers():
    """(denoiser, strength, variant, function of a patient): all that is judged; one honest twin serves several."""
    for name in faults:
        for s in strengths:
            yield name, s, "fault", partial(faulty.build, name, s)
            if name in faulty.FILTERS:
                yield name, s, "twin", partial(faulty.twin, name, s)
    yield "honest", 0.0, "twin", partial(faulty.twin, "identity", 0.0)
    for name, f in networks.items():
        yield name, 1.0, "fault", lambda patient, f=f: f
        yield name, 1.0, "twin", lambda patient, f=f: faulty.of_noise(f, patient.truth)


# %%
def scored(name, strength, variant, make):
    """Scores of all judges on one denoiser, a row a judge and patient."""
    shown = subjects.show(make, people)
    head = {"denoiser": name, "strength": strength, "variant": variant, "patient": diseased.index}
    return pd.concat([pd.DataFrame(head | {"judge": j, "score": panel.scores(j, shown)}) for j in judges])


parts = [
    run.table(f"scores-{name}-{strength:g}-{variant}", partial(scored, name, strength, variant, make))
    for name, strength, variant, make in tqdm(list(makers()), desc="denoisers", unit="denoiser")
]

# %% [markdown]
# A fault that is laid over the honest denoiser has that denoiser as its twin.

# %%
scores = pd.concat(parts, ignore_index=True)
honest = scores[scores["denoiser"] == "honest"]
laid_over = [(name, s) for name in faults if name not in faulty.FILTERS for s in strengths]
twins = [honest.assign(denoiser=name, strength=s) for name, s in laid_over]
scores = pd.concat([scores[scores["denoiser"] != "honest"], *twins], ignore_index=True)

# %% [markdown]
# ## How often each judge raises an alarm
# A judge raises an alarm at a patient if its score is among the highest 5 % of those that the honest twin has in the
# other patients. A fault is **caught** if it raises more alarms than its twin: the 95 % interval over patients of the
# difference lies above 0. Intervals are not corrected for the number of cells. Contrast that is kept counts beyond a
# tenth that may be lost or gained, since the twins keep all of it. The observer with an eye has the internal noise that
# FBP at full dose gives it: the LDCT's times its dose, since noise power goes with 1 / dose; one value for all. No
# judge here asks for a lesion's size or shape, and one that is retrained for each denoiser cannot notice what
# retraining undoes, such as a contrast of the other sign. Kept contrast and observers compare an image with a lesion to
# one without: what texture paster and inserter add is in both, so that they **cannot be asked** about these.

# %%
own_task = {name: panel.JUDGES[name].own_task for name in judges}
found = run.table("verdicts", lambda: verdicts.of_scores(scores, own_task, diseased, draws, seed))
cell = verdicts.cells(found)
silent = verdicts.silent(cell)  # catch no fault, so that what they find in a network means nothing
labels = {name: panel.JUDGES[name].label for name in judges}

# %% [markdown]
# ## The invariance search, on one patient
# The search of `05_invariances` looks for a change of the input that a denoiser does not show. It needs a gradient, so
# that the median and total variation cannot be asked. A lesion is *changed* if its contrast moved by more than other
# scans move it, and *hidden* if the output does not show that. Where no lesion was changed, hiding was not tested. A
# lesion is *within reach* if a denoiser passes on less than the root of alpha of its contrast. A search that hides
# no larger share behind a known fault than behind its twin says nothing about a network.

# %%
hunt = {"alpha": alpha, "sigma_hu": sigma_hu, "lr": lr, "iterations": iterations, "seed": seed}
bar = partial(tqdm, desc="searches", unit="search")
hunted = pd.DataFrame()
if iterations:
    modules = [search.network(n, optimise.freeze(checkpoints.load_network(one.folder), "cpu"))
               for n, one in zip(networks, chosen)]  # fmt: skip
    hunted = search.of_all(people, faults, strengths, bar, modules, keep=run.table, **hunt)

# %% [markdown]
# ## Whom to believe, and of what
# A judge is believed of the faults that it catches. An alarm at the identity is right, since it is noisier than its
# twin, but a judge that raises it answers to noise. With too few patients for 5 % false alarms nothing is decided.

# %%
graded = [name for name in faults if name not in faulty.HARMLESS]
table = verdicts.by_judge(cell, found, labels)
enough = len(people) * caught.FALSE_ALARMS >= 1
headline = verdicts.best_said(table, cell, labels)
if not enough:
    headline = f"Not decided: {report.plural(len(people), 'patient')} are too few for 5 % false alarms."

# %%
truth_asked = "" if "truth" in faults else "; the noise-free truth was not asked"
by_patient = (
    " The test of segments is asked by patient here, by lesion and with a null of its own in 09a."
    if "segments" in judges
    else ""
)
report.table(
    run, "judges", drawings.with_ends(table.replace("", "none"), found, labels), headline,
    "A twin is the same denoiser without the fault; a fault at full strength is caught if it raises more alarms than "
    f"its twin. Asked were {who}{truth_asked}.{by_patient}", heads=drawings.heads(faults),
)  # fmt: skip

# %% [markdown]
# The grid shows every judge and denoiser. Between the lines stand the denoisers without a fault, and to the right of
# them networks, where some were given.

# %%
cells = verdicts.grid(cell, hunted, judges, columns, silent)
down = labels | ({verdicts.SEARCH: f"{verdicts.SEARCH},\nnot counted"} if iterations else {})
fewer = [f"{int(diseased.sum())} for the eraser"] * ("eraser" in faults)
fewer += [f"{tasks} where a judge brings a lesion"] * any(own_task.values())
fewer = f" ({report.listed(fewer)})" * bool(fewer)
of_search = " Last row: lesions hidden of those changed by a search (05), one patient" + (
    "; the truth shows no change of its input." if "truth" in faults else "."
)
across = {name: verdicts.LABELS.get(name, name) for name in columns}
report.figure(
    run, "grid", drawings.grid(cells, down, across, sorted({len(graded), len(faults)}), strengths,
                               [len(labels)] if iterations else []),
    verdicts.all_caught_said(table, cell, labels) if enough else headline,
    f"Numbers: % of {report.plural(len(people), 'patient')}{fewer} with an alarm, faults at full strength; chance: "
    "5. Coloured: more often than after the same denoiser without the fault." + of_search * (iterations > 0),
    alt=drawings.ALT,
)  # fmt: skip

# %% [markdown]
# The same in numbers. Where several strengths were tried, the one that is found in half of the patients lies between
# them; alarms at the twin are false ones, 5 % of which are right.

# %%
report.table(
    run, "cells", verdicts.every_cell(cell, labels), verdicts.half_said(cell),
    f"At {100 * caught.FALSE_ALARMS:.0f} % false alarms. Intervals: 95 %, exact, over patients. "
    + verdicts.own_lesions_said([panel.JUDGES[name] for name in judges], faults, tasks, len(people)), drawings.CELLS,
)  # fmt: skip

# %% [markdown]
# ## Checks
# A twin of what does nothing is the honest denoiser, honest twins seldom raise an alarm, and PSNR prefers the
# noise-free truth.

# %%
nothing_done = scores[(scores["denoiser"] == "identity") & (scores["variant"] == "twin")]
same = honest.merge(nothing_done, on=["judge", "patient"])
assert (same["score_x"].eq(same["score_y"]) | same["score_x"].isna()).all(), "a twin is not the honest denoiser"
assert found["rate"].between(0, 1).all() and found["twin"].between(0, 1).all(), "a rate is not between 0 and 1"
if enough:
    assert found["twin"].max() <= 0.5, "a judge calls honest twins in half of the patients: its alarm is set wrongly"
    of_truth = found[(found["judge"] == "psnr") & (found["denoiser"] == "truth")]
    assert not of_truth["caught"].any(), "PSNR calls the truth worse than an image with noise"

# %%
lines = verdicts.rows_in_words(cell, labels, columns, silent)
if iterations:
    lines.append({"judge": verdicts.SEARCH} | {across[name]: verdicts.searched(hunted, name)[0] for name in columns})
for one in select(drawn) if drawn else []:
    lines += verdicts.drawn(one.numbers.get("controls_on_ct"), columns)
misled = sorted(table["judge"][table["misled"] != ""])
run.finish(
    headline={"answer": headline, "decided": bool(enough), "table": lines, "cells": verdicts.as_numbers(cell, labels),
              "patients": len(people), "silent": [labels[j] for j in silent], "faults": len(graded),
              "caught_of_faults": {row.judge: int(row.caught) for row in table.itertuples()}, "misled": misled,
              "asked_of_faults": {row.judge: int(row.asked) for row in table.itertuples()},
              "noticed": verdicts.noticed(cell, labels)},
    cohort=cohort.id,
)  # fmt: skip

# %%
quiet = report.listed(f"“{labels[j]}”" for j in silent)
others = f" {verdicts.alarms_said(table)} {f'{quiet} caught no fault' if silent else 'Every judge catches a fault'}."
report.text(
    f"**What we saw.** {headline} {verdicts.asked_said(faults, strengths)}{others if enough else ''} One limit is that "
    "faults and patients are made up, and that each twin, the same denoiser without the fault, knows the noise-free "
    "truth. `06_stats` compares losses by the metrics judged here."
)
