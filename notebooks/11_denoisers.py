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
# # 11 · Is newer better?
# **Question.** Denoisers of several years, trained and tested on the same slices: is a newer one better than the best
# before it, by scores and by what a radiomics study would read, and what does it cost?
#
# **Reads** checkpoints of finished `03_train` runs of one cohort. **Writes** `scores.parquet` (by slice and method),
# `newer.parquet` (each against the best before it), `nulls.parquet`, `cost.parquet`, `rfs.json` (what features are
# normalised with). **Cost** seconds a network and slice of 512x512.
#
# Words: LDCT and NDCT are the low-dose and the normal-dose slice. SSIM and VIF measure likeness, PSNR error in decibel,
# radiomic similarity (RFS in files) how alike the texture of organs is; more is better in all four.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/11_denoisers/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
years: dict = {}  # {network: its year of publication}, of networks of one's own; without a year it counts as newest
classical: list = ["tv", "nlm"]  # methods without training, tuned on the validation slices; they count as the oldest
reference: str = "ndct"  # what is scored against: ndct, or truth where it is known
level: Optional[float] = None  # centre of the window of SSIM and PSNR, HU; None takes each anatomy's own window
width: Optional[float] = None  # and its width, HU
rfs_by: str = "auto"  # organs by thresholds, totalsegmentator, or auto: the latter on real scans if it can be
rfs_organs: list = []  # organs that RFS is taken in; [] is lungs, bone and soft tissue by thresholds, else all
draws: int = 2000  # bootstrap draws over patients
swaps: int = 200  # label swaps within patients, of two methods: how often the tests fire there
seed: int = 0  # seeds the bootstrap
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.models import textbook
from ldct_utils.study.runs import start

run = start("11_denoisers", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import ast

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.metrics import benchmark, comparison, denoised, own_window
from ldct_utils.models.classical import build, in_words
from ldct_utils.report import sentences, verdicts
from ldct_utils.report.drawings import denoisers as drawings
from ldct_utils.report.drawings import tradeoff as plane
from ldct_utils.segments import total
from ldct_utils.stats import intervals, mixes, nulls
from ldct_utils.study.runs import select
from ldct_utils.training import checkpoints, costs, designs, filters, prediction, setup, testing, working_point
from ldct_utils.training.designs import spoken, worded

setup.seed_everything(seed, threads)

# %% [markdown]
# ## The methods, oldest first
# A network's place is that of its publication, not of this training; methods without training are older than all.

# %%
chosen, listed, varying = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
if getattr(cohort, reference, None) is None:
    raise ValueError(f"cohort {cohort.id} has no {reference!r} to score against; reference is ndct or truth")
shown_in = f"level {level:g}, width {width:g} HU" if own_window(level, width) else "the window of each anatomy"
rows = cohort.rows("test")
about = cohort.slices.set_index("row").loc[rows]
patients, against = about.patient.nunique(), testing.REFERENCES[reference]

# %%
networks = [one.params["network"] for one in chosen]
labels = designs.labels(networks, listed["method"])  # a network with one design is called by its name
names = designs.by_age(labels, networks, classical, years)
says = {name: spoken(name) for name in ["LDCT", *names]}
shown = listed.assign(words=[says[label] for label in labels], year=designs.published(networks, years))
report.table(
    run, "methods", verdicts.trainings(shown, says), f"Oldest first: {report.listed(map(says.get, names))}.",
    f"{report.plural(len(rows), 'test slice')} of {report.plural(patients, 'patient')}; a row a training. "
    f"Not trained: {report.listed(map(says.get, classical))}.",
    {"run": "run", "words": "method", "year": "published", "seed": "seed"} | verdicts.settings(varying),
)  # fmt: skip
if any(one.params.get("init") == "hub" for one in chosen):
    report.text("Published weights may have been trained on these patients: then their scores are too good.")

# %% [markdown]
# ## Which of them were trained enough
# A network is at its *working point* if it was trained enough to be compared. With a critic it may then be 1.5 dB worse
# than its input, with a noise texture nearer to the NDCT's than MSE gives. Others get no verdict and are no rivals.

# %%
tested = [testing.scores(one) for one in chosen]
points = working_point.of_methods(chosen, tested, labels)
unfinished = [name for name, one in points.items() if not one.reached]
reached = run.table("working_points", lambda: working_point.table(points))
report.table(run, "working_points", worded(reached), working_point.said(points),
             f"{sentences.asked(working_point.STEADY, working_point.LEAST_GAIN_DB)} Others get no verdict. Means over "
             "trainings. Texture: noise power spectrum in flat soft tissue.", verdicts.texture(reached))  # fmt: skip

# %% [markdown]
# PSNR knows nothing of lesions. A network gains something only where it lies above the curve of mixes with the LDCT.

# %%
lesions = run.table("kept", lambda: testing.kept_of_methods(tested, listed.assign(method=labels), draws, seed))
if lesions.empty:
    report.text("No lesion is known in these patients, so what is kept of one is not known.")
else:
    shown = testing.in_percent(lesions)
    curve = run.table("mixes", lambda: mixes.of_base(tested, listed.assign(method=labels), lesions, draws, seed))
    told, *reading = verdicts.mixing(*testing.beyond_mixes(worded(lesions))), *sentences.beside_blends(shown, says)
    plain = run.table("filters", lambda: filters.points(cohort, lesions["target"].iloc[0]))
    drawn = plane.beside_mixes(shown, curve, plain, says, unfinished)
    report.figure(run, "kept_drawn", drawn, told, reading[0], alt=plane.ALT)
    report.table(run, "kept", worded(shown), verdicts.kept(shown, says), reading[1], testing.KEPT)

# %% [markdown]
# Methods without training are tuned: the smallest RMSE on the middle slice of every validation patient.

# %%
tuned = run.table("tuned", lambda: filters.tuned(classical, cohort))
settings_of = dict(tuned.itertuples(index=False))
settled = [f"{says[name]} {in_words(ast.literal_eval(given))}" for name, given in settings_of.items()]
report.text(f"Tuning gives {report.listed(settled, 'nothing, since every method was trained')}.")


# %%
def predictors():
    """(label, seed, function from HU to HU, its run), the LDCT itself first."""
    yield "LDCT", -1, lambda hu: hu, None
    for name in classical:
        yield name, -1, build(name, **ast.literal_eval(settings_of[name])), None
    for one, label in zip(chosen, labels):
        yield label, one.params["seed"], prediction.denoiser(one, 1, precision, device), one


# %% [markdown]
# ## Scores
# SSIM and PSNR in a window, by default the anatomy's, VIF with the benchmark's argument order. **Radiomic similarity**:
# 42 radiomic features (IBSI's first order and GLCM) of each organ, z-scored on the NDCT of the *training* patients, and
# the cosine of a method's vector and the NDCT's. Organs are found on the NDCT, by TotalSegmentator on real scans where
# it can be, else as ranges of HU. LDCT-IQA rates slices of 512x512.

# %%
by, wanted, why = denoised.organs_by(cohort, rfs_by, rfs_organs)
both, drawn = [*cohort.rows("train"), *rows], None
if by == "totalsegmentator":
    drawn = dict(zip(both, run.array("organs", lambda: total.of_cohort(cohort, both, device))))
rfs = denoised.rfs_of(cohort, cohort.rows("train"), wanted, drawn, by, run.folder / "rfs.json")
masks = denoised.masks_of(cohort, rows, list(rfs.mean.index), drawn) if rfs else {}
given = reference, rfs, masks, device, (level, width)
FILTERS = {name: one for name, one in textbook.filters().items() if name != textbook.TV}  # which is tuned above
report.text(f"Organs of RFS: {by}{f', since {why}' * bool(why)}. {denoised.rfs_said(rfs)}")


# %%
def scored():
    """One row a slice, method, seed and metric."""
    parts = [denoised.scored(predict, cohort, rows, *given).assign(method=label, seed=number)
             for label, number, predict, _ in tqdm(predictors(), total=1 + len(classical) + len(chosen))]  # fmt: skip
    return pd.concat(parts, ignore_index=True).drop(columns="reference")


scores = run.table("scores", scored)
filtered = run.table("controls", lambda: pd.concat([
    denoised.scored(one, cohort, rows, *given).assign(method=name)
    for name, one in (filters.with_truth(FILTERS, cohort, rows) if reference == "ndct" else FILTERS).items()
]))  # fmt: skip
called = benchmark.LABELS | {"rfs": "radiomic similarity"}
LABEL = {name: words for name, words in called.items() if name in set(scores["metric"])}
score_of = {name: words.split(",")[0] for name, words in LABEL.items()}
direction = {name: benchmark.BETTER.get(name, 1) for name in LABEL}

# %% [markdown]
# ## Each against the best before it
# By anatomy and metric: is a method better than the best of all older ones, the LDCT first? The verdict is the 95 %
# interval over patients *and* trainings of the pair: it excludes 0 or it does not. `newer.parquet` has p over patients.

# %%
judged = scores, ["LDCT", *names], direction, unfinished, draws, seed
newer = run.table("newer", lambda: comparison.against_older(*judged))
of_networks, overall = newer["verdict"][~newer["method"].isin(classical)], newer[newer["anatomy"] == "all"]
summed, aside = verdicts.newer(overall[~overall["method"].isin(classical)].dropna(subset="best before"), says, against)
report.figure(
    run, "newer_shown", drawings.newer(newer, says, LABEL), summed,
    f"{report.bars(patients, 'patient', also=' and trainings')} {aside} A network without a verdict is no rival of "
    f"later ones. A verdict needs {intervals.MIN_PATIENTS} patients and two trainings at their working point.",
    "Dots with intervals, a panel a metric and a line a method: how much better it is than the best older one.",
)  # fmt: skip

# %%
means = overall[overall["method"].isin(names)].pivot(index="metric", columns="method", values="mean")
firsts = {name: (direction[name] * means.loc[name]).idxmax() for name in LABEL}
leaders = verdicts.best(verdicts.of_newest(overall, firsts, unfinished, says, score_of), map(says.get, unfinished))
wide = overall.pivot(index="method", columns="metric", values="mean").reindex(["LDCT", *names])
wide = pd.concat([wide, filtered.groupby(["method", "metric"], sort=False)["value"].mean().unstack()])[list(LABEL)]
report.table(
    run, "means", worded(wide.reset_index()), leaders,
    f"Against the {against}, means over {report.plural(len(rows), 'test slice')}; SSIM and PSNR in {shown_in}. At the "
    "end controls: filters that are not tuned, and the truth where it is known.",
    {"method": "method"} | LABEL,
)  # fmt: skip

# %% [markdown]
# ## Control: do the tests keep quiet where there is nothing to find?
# Labels of two methods are swapped within patients, and two trainings of one method are compared as two methods are.

# %%
of_metrics = {name: dict(list(scores[scores["metric"] == name].groupby("method"))) for name in LABEL}
last = overall[overall["metric"] == "psnr"].dropna(subset="best before").iloc[-1]
pair = ("psnr", last["method"], last["best before"]) if patients > 1 else None
empty = run.table("nulls", lambda: nulls.both(of_metrics, pair, swaps, seed))
of_trainings = nulls.trainings_said(empty, "psnr", "PSNR", patients)
spread = nulls.spread_said(empty, {"psnr": ("PSNR", "dB"), "rmse_hu": ("RMSE", "HU")})
report.table(run, "nulls_shown", nulls.in_words(empty, LABEL), *nulls.told(empty, score_of, of_trainings, spread))

# %% [markdown]
# ## The easiest and the hardest slice
# By SSIM, a mean over the methods. Grain is noise that was left or the NDCT's own; structure is anatomy that changed.

# %%
of_slices = scores[(scores.metric == "ssim") & scores.method.isin(names)].groupby("row").value.mean()
extremes = {"highest": int(of_slices.idxmax()), "lowest": int(of_slices.idxmin())}


def pictures():
    """(2, 2 + methods, H, W) float32 HU: LDCT, reference, and every method once."""
    first = {}
    for label, _, predict, _ in predictors():
        first.setdefault(label, predict)
    ldct, target = ([np.asarray(images[row], np.float32) for row in extremes.values()]
                    for images in (cohort.ldct, getattr(cohort, reference)))  # fmt: skip
    return np.array([[x, y, *(first[name](x[None])[0] for name in names)] for x, y in zip(ldct, target)], np.float32)


# %%
seen = cohort.slices.set_index("row").loc[list(extremes.values())].reset_index()
seen = seen.assign(label=[f"{what} SSIM {of_slices[row]:.3f}, {about.patient[row]}" for what, row in extremes.items()])
circled, images = cohort.lesion_masks, run.array("pictures", pictures)
circled = None if circled is None else [circled[row] for row in seen["row"]]
report.figure(
    run, "extremes", drawings.slices(seen, images, ["LDCT", against, *map(says.get, names)], circled),
    f"The methods' mean SSIM is {of_slices.max():.3f} in the easiest slice and {of_slices.min():.3f} in the hardest.",
    "Lines in a difference are edges that a method changed. Known lesions are circled. One training each.",
    "Two CT slices, LDCT, reference and each method; below each the difference from the reference in red and blue.",
)  # fmt: skip

# %% [markdown]
# ## What it costs
# Multiplications are those of convolutions and matrix products; others, such as those of the bilateral filter, count as
# none. Memory is the most that tensors take at once. Both are counted in float32.


# %%
def measured():
    """One row a method: weights, multiplications, seconds and memory a test slice."""
    found, ldct = {}, np.asarray(cohort.ldct[rows[:1]], np.float32)
    for label, _, predict, one in predictors():
        if label != "LDCT" and label not in found:
            network = checkpoints.load_network(one.folder).to(device) if one else None
            found[label] = {"method": label} | costs.of_slice(predict, ldct, network, device)
    return pd.DataFrame(list(found.values()))


# %%
cost, ssim = run.table("cost", measured), overall[overall["metric"] == "ssim"].set_index("method")["mean"]
costly = worded(cost.assign(SSIM=cost.method.map(ssim)).sort_values("s a slice"))
report.table(run, "cost", costly, sentences.slowest(cost["s a slice"]),
             f"A slice of {'x'.join(map(str, cohort.ldct.shape[1:]))} pixels, {precision} on {device}.",
             costs.HEADS)  # fmt: skip

# %% [markdown]
# ## Checks
# %%
counts = scores.groupby(["method", "seed", "metric"])["row"].nunique().groupby("metric").nunique()
assert counts.eq(1).all(), "methods were scored on different slices"
assert set(about.patient).isdisjoint(cohort.slices.patient[cohort.slices.split == "train"]), "one is in two splits"
assert (scores[scores.metric == "rfs"].value.abs() <= 1 + 1e-9).all()
run.finish(
    cohort=cohort.id, methods=len(names), patients=patients, slices=len(rows), unfinished=unfinished, best=firsts,
    **comparison.tallied(of_networks), ssim=ssim.to_dict(), trainings_sd=nulls.spreads(empty),
)  # fmt: skip

# %%
report.text(f"**What we saw.** {summed} {aside} {leaders} {verdicts.takes(cost['s a slice'])} {of_trainings} A network "
            "is as good as its training; `04b_dose` and `05_invariances` ask what scores do not see.")  # fmt: skip
