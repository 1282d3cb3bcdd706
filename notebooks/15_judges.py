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
# **Reads** simulated patients that no network was trained on, and finished `03_train` runs where given. **Writes**
# `scores-*.parquet` (a row a judge and patient), `verdicts.parquet`, `searches.parquet`, a table and a figure. **Cost**
# on one core 5 s a patient, a quarter of a second a patient, denoiser and strength, 10 s a search.
#
# Words: LDCT is the low-dose slice, the truth a slice without noise. d' says how well an observer tells "lesion" from
# "no lesion"; 0 is guessing.

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

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Patch, Rectangle
from scipy import ndimage
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import simulated
from ldct_utils.judges import caught, faulty, panel, search, subjects, verdicts
from ldct_utils.report import plots
from ldct_utils.study.runs import named, select
from ldct_utils.training import prediction, setup

setup.seed_everything(seed, threads)
faults, judges = faults or faulty.names(), judges or list(panel.JUDGES)
if unknown := (set(faults) - set(faulty.names())) | (set(judges) - set(panel.JUDGES)):
    raise ValueError(f"no known denoiser or judge is called {', '.join(sorted(unknown))}: see judges.faulty and panel")

# %% [markdown]
# ## Patients, half of them without lesions
# Every patient is scanned once as a whole and many times in a crop around its lesions. Every second patient is the
# scan without lesions. No network has seen any of them.

# %%
SOURCE = simulated.__name__.rpartition(".")[2]  # named by its module, so that the id of this run follows its code
cohort = cohorts.get(SOURCE, patients=patients, slices=1, dose=dose, kernel=kernel, cohort_seed=people_seed)
people = subjects.draw(cohort, realisations, seed, partial(tqdm, desc="noise scans", unit="patient"))
diseased = pd.Series({one.patient: one.diseased for one in people})
with_task = sum(one.task is not None for one in people)
report.text(
    f"{report.plural(len(people), 'patient')}, {report.plural(int(diseased.sum()), 'patient')} with lesions. "
    f"{report.plural(with_task, 'crop')} of a known lesion; room for planted discs in "
    f"{report.plural(sum(one.discs is not None for one in people), 'slice')}."
)

# %% [markdown]
# ## Denoisers with one known fault, and honest twins
# Each knows the truth and leaves 40 to 60 % of the noise, without touching anatomy. One fault is laid over it, at a
# strength from 0 to 1. The *honest twin* does the same without the fault. Of blur, median, total variation, unsharp
# masking and the blind eraser it is the truth plus what they make of the noise alone. Of a network it is made alike.
#
# - *Eraser*: replaces lesions that it knows. *Blind eraser*: takes out what is faint and of lesion size.
# - *Texture paster*: up to 10 HU of fine texture. *Inserter*: a disc of up to 40 HU.
# - *Identity* and *noise-free truth* have no fault. A judge that calls them answers to noise.

# %%
chosen = select(runs) if runs else []
networks = {
    name: prediction.denoiser(one, 4, precision, device) for name, one in zip(named(chosen) if chosen else [], chosen)
}


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


def scored(name, strength, variant, make):
    """Scores of all judges on one denoiser, a row a judge and patient."""
    shown = subjects.show(make, people)
    head = {"denoiser": name, "strength": strength, "variant": variant, "patient": diseased.index}
    return pd.concat([pd.DataFrame(head | {"judge": j, "score": panel.scores(j, shown)}) for j in judges])


# %%
parts = [
    run.table(f"scores-{name}-{strength:g}-{variant}", partial(scored, name, strength, variant, make))
    for name, strength, variant, make in tqdm(list(makers()), desc="denoisers", unit="denoiser")
]
scores = pd.concat(parts, ignore_index=True)
honest = scores[scores["denoiser"] == "honest"]
laid_over = [(name, s) for name in faults if name not in faulty.FILTERS for s in strengths]
twins = [honest.assign(denoiser=name, strength=s) for name, s in laid_over]
scores = pd.concat([scores[scores["denoiser"] != "honest"], *twins], ignore_index=True)

# %% [markdown]
# ## How often each judge calls a fault
# A judge calls a patient if its score is among the highest 5 % of those that the honest twin has in the other patients.
# A fault is *caught* if it is called more often than its twin: the 95 % interval over patients of the difference lies
# above 0. Intervals are not corrected for the number of cells.

# %%
own_task = {name: panel.JUDGES[name].own_task for name in judges}
found = run.table("verdicts", lambda: verdicts.of_scores(scores, own_task, diseased, draws, seed))
cell = verdicts.cells(found)
silent = verdicts.silent(cell)
labels = {name: panel.JUDGES[name].label for name in judges}

# %% [markdown]
# ## The invariance search, on one patient
# The search of `05_invariances` looks for a change of the input that a denoiser does not show. It needs a gradient, so
# that the median and total variation cannot be asked. A lesion is *changed* if its contrast moved by more than other
# scans move it, and *hidden* if the output does not show that. Where no lesion was changed, hiding was not tested.


# %%
def with_most_lesions():
    """The subject with lesions whose crop has the most of them."""
    found = [one for one in people if one.diseased and one.task is not None]
    return max(found, key=lambda one: ndimage.label(one.task.lesions)[1])


def searches():
    """A row a fault, strength and variant that has a gradient."""
    one, rows = with_most_lesions(), []
    task = one.task
    patient = faulty.Patient(task.scans_truth, task.clean, task.lesions, one.known.pixel_mm, (16, 16), one.known.seed)
    asked = [(name, s, make) for name in faults for s in strengths for make in (faulty.build, faulty.twin)]
    for name, s, make in tqdm(asked, desc="searches", unit="search"):
        known, variant = make(name, s, patient), "fault" if make is faulty.build else "twin"
        if known.gradient and (variant == "fault" or name in faulty.FILTERS):
            head = {"denoiser": name, "strength": s, "variant": variant}
            rows.append(head | search.searched(known, task, alpha, sigma_hu, lr, iterations, seed))
    return pd.DataFrame(rows)


hunted = run.table("searches", searches) if iterations else pd.DataFrame()


# %%
def search_cell(name):
    """What the search says of a fault, and the least strength at which a lesion is hidden on it and not on its twin."""
    part = hunted[hunted["denoiser"] == name] if len(hunted) else hunted
    if part.empty:
        return verdicts.NOT_ASKED, np.nan
    faulted, honest_one = (part[part["variant"] == v].set_index("strength") for v in ("fault", "twin"))
    hides = faulted["hidden"] > honest_one["hidden"].reindex(faulted.index).fillna(0)
    last = faulted.iloc[-1]
    counts = f"{last['hidden']:.0f} of {last['changed']:.0f} changed"
    if hides.any():
        return f"from {verdicts.percent(hides.idxmax())}: {counts} hidden", float(hides.idxmax())
    return (f"no: {counts} hidden" if faulted["changed"].any() else "not tested: none changed"), np.nan


# %% [markdown]
# ## The table: whom to believe, and of what

# %%
columns = [*faults, *networks]
words = [verdicts.LABELS.get(name, name) for name in columns]


def row_of(judge):
    """A judge's row in words."""
    own = cell[cell["judge"] == judge].set_index("denoiser", drop=False)
    muted = judge in silent
    said = [verdicts.said(own.loc[n] if n in own.index else None, muted and n in networks) for n in columns]
    return {"judge": labels[judge]} | dict(zip(words, said))


SEARCH = "invariance search (05), one patient"
lines = [row_of(judge) for judge in judges]
if iterations:
    lines.append({"judge": SEARCH} | {w: search_cell(n)[0] for w, n in zip(words, columns)})
table = pd.DataFrame(lines)

# %%
graded = [name for name in faults if name not in faulty.HARMLESS]
tally = cell[cell["denoiser"].isin(graded)].groupby("judge")["from"].count().reindex(judges, fill_value=0)
misled = cell[cell["denoiser"].isin(faulty.HARMLESS) & cell["caught"].fillna(False)]
clean = [j for j in judges if j not in set(misled["judge"]) and tally[j]]
most = max(clean, key=tally.get) if clean else None
enough = len(people) * caught.FALSE_ALARMS >= 1
if not enough:
    headline = f"Not decided: {report.plural(len(people), 'patient')} are too few for 5 % false alarms."
elif most is None:
    headline = "No judge catches a fault without calling a denoiser that has none."
else:
    headline = (
        f"Of the judges that call no harmless denoiser, “{labels[most]}” catches the most faults: {tally[most]} of "
        f"{len(graded)}."
    )
said_silent = (
    f" No fault is caught by {', '.join(labels[j] for j in silent)}: what it finds in a network means nothing."
    if enough and silent else ""
)  # fmt: skip
twin_rate = found[~found["denoiser"].isin(faulty.HARMLESS)]["twin"]
report.table(
    run, "judges", table,
    f"**{headline}**{said_silent} “From 25 %”: caught at this strength and all larger ones. Then how often the "
    "strongest fault is called, with its 95 % interval over patients. On honest twins judges call "
    f"{verdicts.percent(twin_rate.max())} at most.",
)  # fmt: skip


# %%
def colour_of(judge, name):
    """Colour and text of a cell of the grid."""
    start = search_cell(name)[1] if judge == SEARCH else np.nan
    text = search_cell(name)[0] if judge == SEARCH else ""
    if judge != SEARCH:
        own = cell[(cell["judge"] == judge) & (cell["denoiser"] == name)]
        if own.empty or pd.isna(own["caught"].iloc[0]):
            return "hatched", ""
        if name in networks and judge in silent:
            return "hatched", ""
        start, text = own["from"].iloc[0], f"{100 * own['rate'].iloc[0]:.0f}"
        if name in faulty.HARMLESS:
            return (plots.COLOURS[1] if own["caught"].iloc[0] else "white"), text
    elif text in (verdicts.NOT_ASKED, "not tested: none changed"):
        return "hatched", ""
    else:
        text = text.partition(": ")[2].replace(" changed hidden", "").replace(" of ", "/")
    return ("white" if np.isnan(start) else plt.cm.Blues(0.95 - 0.65 * start)), text


def draw_cell(axis, x, y, colour, text):
    """One cell: its colour, or hatched where the judge cannot be asked, and the rate in it."""
    face = "#eeeeee" if isinstance(colour, str) and colour == "hatched" else colour
    hatch = "////" if isinstance(colour, str) and colour == "hatched" else None
    axis.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor="#777777", hatch=hatch, lw=0.6))
    dark = not isinstance(face, str) and sum(face[:3]) < 1.5
    axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")


# %%
shown_rows = [*judges, *([SEARCH] if iterations else [])]
figure, axis = plt.subplots(figsize=(3.2 + 0.72 * len(columns), 2.6 + 0.42 * len(shown_rows)))
for y, judge in enumerate(shown_rows):
    for x, name in enumerate(columns):
        draw_cell(axis, x, y, *colour_of(judge, name))
axis.set(xlim=(0, len(columns)), ylim=(len(shown_rows), 0))
axis.set_xticks(np.arange(len(columns)) + 0.5, words, rotation=40, ha="right", fontsize=9)
axis.set_yticks(np.arange(len(shown_rows)) + 0.5, [labels.get(j, j) for j in shown_rows], fontsize=9)
axis.grid(False)
axis.tick_params(length=0)
for at in sorted({len(graded), len(faults)}):
    axis.axvline(at, color="black", lw=2)
keys = [Patch(facecolor=plt.cm.Blues(0.95 - 0.65 * s), edgecolor="#777777",
              label=f"caught from {verdicts.percent(s)}") for s in strengths]  # fmt: skip
keys += [Patch(facecolor="white", edgecolor="#777777", label="not caught"),
         Patch(facecolor=plots.COLOURS[1], edgecolor="#777777", label="calls what has no fault"),
         Patch(facecolor="#eeeeee", edgecolor="#777777", hatch="////",
               label="cannot be asked, or too few patients")]  # fmt: skip
figure.legend(handles=keys, loc="outside upper center", ncols=4, fontsize=8)
report.figure(
    run, "grid", figure,
    f"**{headline}** A row is a judge, a column a denoiser; between the lines stand those without a fault"
    + (", right of them networks" if networks else "")
    + ". Darker: a weaker fault is caught. Numbers: in how many of 100 patients the strongest fault is called, where "
    "5 would be right for an honest one; hatched too where patients are too few; of the search, lesions hidden of "
    "changed. Simulated: "
    f"{report.plural(len(people), 'patient')}.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
same = honest.merge(scores[(scores["denoiser"] == "identity") & (scores["variant"] == "twin")],
                    on=["judge", "patient"])  # fmt: skip
assert (same["score_x"].eq(same["score_y"]) | same["score_x"].isna()).all(), "a twin is not the honest denoiser"
rates_known = found["rate"].between(0, 1).all() and found["twin"].between(0, 1).all()
assert rates_known, "a rate is not between 0 and 1"
if enough:
    assert found["twin"].max() <= 0.5, "a judge calls honest twins in half of the patients: its alarm is set wrongly"
    if {"psnr", "truth"} <= {*judges, *faults}:
        of_truth = found[(found["judge"] == "psnr") & (found["denoiser"] == "truth")]
        assert not of_truth["caught"].any(), "PSNR calls the truth worse than an image with noise"


def plain(value):
    """A number for JSON, None where there is none."""
    return None if pd.isna(value) else float(value)


numbers = ["from", "half", "rate", "rate_low", "rate_high", "twin", "difference", "low", "high"]
stored = {
    f"{labels[r['judge']]}: {verdicts.LABELS.get(r['denoiser'], r['denoiser'])}":
        {n: plain(r[n]) for n in numbers} | {"caught": None if pd.isna(r["caught"]) else bool(r["caught"])}
    for r in cell.to_dict("records")
}  # fmt: skip
run.finish(
    headline={"answer": headline, "decided": bool(enough), "table": lines, "cells": stored,
              "patients": len(people), "silent": [labels[j] for j in silent], "faults": len(graded),
              "caught_of_faults": {labels[j]: int(tally[j]) for j in judges},
              "misled": sorted({labels[j] for j in misled["judge"]})},
    cohort=cohort.id,
)  # fmt: skip

# %%
not_misled = ", ".join(sorted({labels[j] for j in misled["judge"]})) or "no judge"
report.text(
    f"**What we saw.** {headline}{said_silent} A denoiser without a fault is called by {not_misled}. One limit: faults "
    "and patients are made up, and each twin knows the truth. `06_stats` compares losses by the metrics judged here."
)
