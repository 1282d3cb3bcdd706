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
# the map of its similarity to the normal-dose slice. Do its two additions, a high-pass input and a second task that
# names the dose, help over a plain U-Net? And what does it say of images that it was not trained for?
#
# **Reads** finished runs of `08a_train_quality`, their cohort, and optionally a denoiser of `03_train` and a second
# cohort. **Writes** `table_1.parquet`, `contrasts.parquet`, `confusion.parquet`, `regions.parquet`,
# `out_of_distribution.parquet`, `by_kind.parquet`, `second.parquet`. **Cost** half a minute on one core.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/08_noise2quality/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/08a_train_quality/*"]  # run folders or globs of 08a_train_quality, all of one cohort and target
assess_with: str = "n2q"  # the model whose maps are looked at, its run with the lowest seed
denoiser: Optional[str] = None  # run folder of 03_train, whose output is rated too; of the same cohort
test_source: Optional[str] = None  # source of a second cohort whose pairs are rated: mayo2016, tcia, npy or dicom
test_root: Optional[str] = None  # folder of that cohort
blurs: list = [1.0, 2.0]  # SDs of Gaussian blurs of the LDCT, pixels: what no network did
most: int = 12  # test slices that are rated out of distribution at most, patients spread evenly
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds the bootstrap
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("08_noise2quality", globals())

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils import cohorts, report, segments
from ldct_utils.ct import intensity
from ldct_utils.ct.dose import at_dose
from ldct_utils.noise2quality import comparison, evidence, maps, networks, targets, training
from ldct_utils.noise2quality.comparison import CONSTANT, METRICS, RANGE, REGIONS
from ldct_utils.report import plots
from ldct_utils.stats import intervals
from ldct_utils.study.runs import load, select
from ldct_utils.training import prediction, setup

setup.seed_everything(seed, threads)
over_patients = partial(comparison.over_patients, draws=draws, seed=seed)  # mean, low, high of (patients, seeds)

# %% [markdown]
# ## The runs
# Models differ in their network, inputs and loss; cohort, target, doses and window must be alike, and what else differs
# is listed.

# %%
found = select(runs)
chosen = {}
for one in found:
    if chosen.setdefault((one.params["model"], one.params["seed"]), one) is not one:
        raise ValueError(
            f"{one.params['model']} with seed {one.params['seed']} is there twice: name runs of one design"
        )
SAME = ("target", "map_loss", "alpha", "doses", "level", "width", "sigma", "max_steps", "batch", "patch_size", "lr")
about_runs = pd.DataFrame(
    [{"model": m, "seed": s, "run": one.name, "cohort": one.numbers["cohort"], "weights": one.numbers["parameters"]}
     | {name: str(one.params[name]) for name in SAME} for (m, s), one in chosen.items()]
)  # fmt: skip
for name in ("target", "doses", "level", "width"):
    if about_runs[name].nunique() > 1:
        raise ValueError(f"these runs differ in {name}; their maps do not compare. Choose runs of one")

# %%
varying = [name for name in SAME if about_runs[name].nunique() > 1]
models = [m for m in networks.MODELS if m in set(about_runs.model)]
LABEL = {m: networks.get(m).label for m in models} | {CONSTANT: CONSTANT}
settings = next(iter(chosen.values())).params
wanted, level, width, doses = targets.get(settings["target"]), *(settings[n] for n in ("level", "width", "doses"))
OF_MAPS = f"{wanted.label} {wanted.unit}".strip()
cohort = cohorts.of(*chosen.values())
other = cohorts.tested_on(cohort, test_source, test_root) if test_source else None
report.table(
    run, "runs", about_runs.drop(columns=[n for n in SAME if n not in varying]),
    f"Runs: {len(chosen)}, models: {len(models)}, on cohort {cohort.id}, target {wanted.label}, window "
    f"{plots.window_text(level, width)}, {report.plural(settings['max_steps'], 'update')} of "
    f"{report.plural(settings['batch'], 'patch')} of {settings['patch_size']} pixels, map loss {settings['map_loss']}. "
    f"Settings that differ: {', '.join(varying) or 'none'}.",
)  # fmt: skip

# %% [markdown]
# ## Table 1
# Published numbers stand beside ours, and do not compare with them: there are 500 test slices of 10 real patients,
# resized to 256 pixels, one seed, no intervals, a map of an SSIM window that does not reach the border, and a range of
# the maps that is not stated (they are predicted on [-1, 1]). Here slices keep their pixels, maps are on [0, 1],
# patches train the network, the split is by patient (the published notebook splits training slices, so patients, into
# training and validation), no checkpoint is selected, and the intervals are over patients and seeds.

# %%
scores = comparison.read(chosen, models[0])
of_ssim, test_patients = settings["target"].startswith("ssim"), scores.patient.nunique()
table = run.table("table_1", lambda: comparison.table(scores, models, of_ssim, draws, seed))
cell = partial(comparison.cell, scores)  # (patients, seeds) of a model, region, metric and, if given, dose
seeds = table.seeds.max()
OVER = f"95 % intervals over {report.plural(test_patients, 'test patient')}"
OVER += f" and {seeds} seeds" if seeds > 1 else ", one seed"


def told(row, form=".3f", within=(-np.inf, np.inf)):
    """A mean with its interval, in words; the interval is cut where the mean cannot lie."""
    ends = np.clip([row["low"], row["high"]], *within)
    return f"{row['mean']:{form}}" + ("" if np.isnan(ends[0]) else f" {report.bracket(*ends, form)}")


# %%
beyond = [r.metric.upper() for r in table.itertuples() if r.low < RANGE[r.metric][0] or r.high > RANGE[r.metric][1]]
cut = (
    f" Intervals of {', '.join(dict.fromkeys(beyond))} are cut where the mean cannot lie, which leaves their coverage "
)
cut += f"as it is and says how little {report.plural(seeds, 'seed')} can tell; uncut: `table_1.parquet`."
shown = table.assign(text=[told(r, ".4f" if r.metric == "mse" else ".3f", RANGE[r.metric])
                           for _, r in table.iterrows()])  # fmt: skip
for region in REGIONS:
    part = shown[shown.region == region]
    wide = part.pivot(index="model", columns="metric", values="text").loc[[*models, CONSTANT], list(METRICS)]
    beside = part.pivot(index="model", columns="metric", values="published").loc[[*models, CONSTANT]]
    for metric in ("ssim", "mse", "nrmse") if region == "whole" and of_ssim else ():
        wide[f"{metric}, published"] = ["–" if np.isnan(v) else f"{v:.4f}" for v in beside[metric]]
    best = part[(part.metric == "ssim") & (part.model != CONSTANT)].set_index("model")["mean"].idxmax()
    report.table(
        run, f"maps_{region}", wide.rename(index=LABEL).rename_axis("model").reset_index(),
        f"Predicted against true {wanted.label} maps on [0, 1], "
        f"{'whole slices' if region == 'whole' else 'inside the body'}; {OVER}. Highest SSIM of a network: "
        f"{LABEL[best]}. bias: predicted minus true. `constant` is one number everywhere, the mean over the maps of 64 "
        "training patches." + cut * bool(beyond),
    )  # fmt: skip

# %% [markdown]
# ## What each addition is worth
# Two models, paired over patients and seeds. First comes what looks at nothing, a constant: what is not better has
# learned nothing that the score sees. The plain U-Net is what N2Q is built on.

# %%
contrasts = run.table("contrasts", lambda: comparison.contrasts(scores, models, LABEL, draws, seed))


def against(rival, metric="ssim"):
    """The row of `contrasts` that compares N2Q with a model on whole slices; None where one of them was not trained."""
    part = contrasts[(contrasts.pair == f"{LABEL.get('n2q')} − {LABEL.get(rival)}") & (contrasts.region == "whole")]
    return None if part.empty else part.set_index("metric").loc[metric]


def in_words(row, rival, metric):
    """One contrast of N2Q as a verdict and its numbers."""
    gain = np.array([row.low, row.high]) * METRICS[metric]
    word = "better" if gain.min() > 0 else "worse" if gain.max() < 0 else "not told apart"
    word = "too few patients for an interval" if np.isnan(gain).any() else word
    return f"N2Q against {rival}: {word}, {metric.upper()} of the map {told(row, '+.3f')}"


plain = {CONSTANT: "a constant", "unet": "the plain U-Net"}
asked = [(CONSTANT, "ssim"), (CONSTANT, "mse"), ("unet", "ssim")]
said = [in_words(against(*one), plain[one[0]], one[1]) for one in asked if against(*one) is not None]
verdict = "; ".join(said) or "N2Q is not among the runs"
report.table(
    run, "contrasts_shown",
    contrasts.assign(difference=[told(r, "+.4f") for _, r in contrasts.iterrows()])[
        ["pair", "region", "metric", "difference", "better", "seeds"]
    ],
    f"{verdict}. Differences of the first of the pair minus the second, {OVER}; better: share of patients and seeds in "
    f"which the first is better. No correction for {len(contrasts)} comparisons.",
)  # fmt: skip

# %% [markdown]
# ## Is quality underestimated?
# The authors note that their maps are too dark. A mean over doses hides what happens at either end: maps that are too
# bright at the lowest dose and too dark at the highest have a small bias.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
for axis, metric, name in zip(axes, ("ssim", "bias"), ("SSIM of the predicted map", "predicted − true quality")):
    part = scores[(scores.metric == metric) & (scores.region == "whole")]
    by = part.groupby(["model", "dose", "patient"]).value.mean().groupby(["model", "dose"]).mean()
    for m, colour, marker in zip(LABEL, plots.COLOURS, "osD^vPX*"):
        axis.plot(by[m].index * 100, by[m].to_numpy(), ls=":" if m == CONSTANT else "-", color=colour, marker=marker,
                  ms=4, label=LABEL[m])  # fmt: skip
    plots.ticks_at(axis, [100 * d for d in doses])
    axis.set(xlabel="dose, %", ylabel=name)
axes[1].axhline(0, color="black", lw=0.8)
axes[0].legend(fontsize=8)
ENDS = (doses[0], doses[-1])
bias = {m: [pd.Series(over_patients(cell(m, "whole", "bias", d))) for d in ENDS] for m in models}
ends = "; ".join(
    f"{LABEL[m]} {told(low, '+.3f')} at {ENDS[0]:.0%}, {told(high, '+.3f')} at {ENDS[1]:.0%}"
    for m, (low, high) in bias.items()
)
similar = pd.DataFrame({m: [cell(m, "whole", "ssim", d).to_numpy().mean() for d in doses] for m in LABEL}, doses)
ahead = [f"{d:.0%}" for d in doses if similar[CONSTANT][d] >= similar[models].loc[d].max()]
report.figure(
    run, "by_dose", figure,
    "Left: how similar predicted and true maps are; right: their mean difference; whole slices, means over "
    f"{report.plural(test_patients, 'patient')}. Doses at which the constant has the highest SSIM: "
    f"{', '.join(ahead) or 'none'}. Bias: {ends}.",
)  # fmt: skip

# %% [markdown]
# ## Which dose was it?
# The second task of U-SSL and N2Q, on the test slices. Guessing gets one in as many as there are doses.

# %%
heads = [m for m in models if networks.get(m).head]
named = [one.table("dose_classes").assign(model=m, seed=s) for (m, s), one in chosen.items() if m in heads]
accuracy = {}
if named:
    told_doses = pd.concat(named, ignore_index=True)
    confusion = run.table("confusion", lambda: told_doses.groupby(["model", "dose", "predicted"]).size()
                          .rename("images").reset_index())  # fmt: skip
    figure, axes = plt.subplots(1, len(heads), figsize=(4.2 * len(heads), 3.6), squeeze=False)
    ticks = [f"{100 * d:g} %" for d in doses]
    for axis, m in zip(axes[0], heads):
        part = confusion[confusion.model == m].pivot(index="dose", columns="predicted", values="images")
        part = part.reindex(index=doses, columns=doses).fillna(0).to_numpy()
        drawn = plots.matrix(axis, part / part.sum(1, keepdims=True), ticks, ticks, 0, 1, "Blues")
        axis.set(xlabel="dose that the head names", ylabel="dose of the slice", title=LABEL[m])
        right = told_doses[told_doses.model == m].assign(value=lambda t: (t.dose == t.predicted).astype(float))
        accuracy[m] = pd.Series(over_patients(intervals.by_patient(right)))
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the slices of a dose")
    report.figure(
        run, "confusion", figure,
        "Doses as the head names them, all seeds. Right: "
        + ", ".join(f"{LABEL[m]} {told(a, '.2f', (0, 1))}" for m, a in accuracy.items())
        + f"; guessing: {1 / len(doses):.2f}.",
    )  # fmt: skip
else:
    report.text("None of these models has a dose head.")

# %% [markdown]
# ## What the maps look like
# The slices as the paper's Figure 2 shows them, and below each model's map (its Figure 3) of one of them.

# %%
runs_of = {m: chosen[min(k for k in chosen if k[0] == m)] for m in models}  # its run with the lowest seed
stored = {m: one.array("examples") for m, one in runs_of.items()}  # (doses, 3, H, W): slice, true map, predicted map
low = next(iter(stored.values()))
row = int(next(iter(runs_of.values())).table("scores").sort_values("patient", kind="stable").row.iloc[0])
figure = plots.side_by_side(
    {f"{d:.0%}": low[i, 0] for i, d in enumerate(doses)} | {"full dose": cohort.ndct[row]}, level, width, 2.2
)
patient, anatomy = cohort.slices.set_index("row").loc[row, ["patient", "anatomy"]]
report.figure(
    run, "doses", figure,
    f"One slice ({patient}, {anatomy}) at {len(doses)} simulated doses, all with one noise pattern, and at the full "
    f"dose. Noise SD against the full dose: {np.std(low[0, 0] - cohort.ndct[row]):.0f} HU at {doses[0]:.0%}, "
    f"{np.std(low[-1, 0] - cohort.ndct[row]):.0f} HU at {doses[-1]:.0%}.",
)  # fmt: skip


# %%
def show_map(axis, values, title):
    """Draw a quality map on the target's scale; returns the image for a colour bar."""
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
    return axis.imshow(values, cmap="viridis", vmin=wanted.low, vmax=wanted.high)


lines = sorted({0, len(doses) // 2, len(doses) - 1})
size = (2.0 * (2 + len(models)) + 0.8, 2.2 * len(lines))
figure, axes = plt.subplots(len(lines), 2 + len(models), figsize=size, squeeze=False)
for line, i in zip(axes, lines):
    plots.show(line[0], low[i, 0], level, width, f"dose {doses[i]:.0%}")
    show_map(line[1], low[i, 1], f"true, {low[i, 1].mean():.2f}")
    for axis, m in zip(line[2:], models):
        drawn = show_map(axis, stored[m][i, 2], f"{LABEL[m]}, {stored[m][i, 2].mean():.2f}")
figure.colorbar(drawn, ax=axes, shrink=0.7, label=OF_MAPS)
figure.supxlabel(f"slices: {plots.window_text(level, width)}", fontsize=9)
report.figure(
    run, "maps", figure,
    f"True and predicted {wanted.label} maps of the same slice, with their means. "
    f"{'Brighter is better.' if wanted.direction > 0 else 'Darker is better.'}",
)  # fmt: skip

# %% [markdown]
# ## Quality over the anatomy
# What a user gets: the map of a slice as it came from the scanner, and means over organs. Organs are the simulated
# patients' own; where a cohort has none, they are tissues by HU.

# %%
assessed = assess_with if assess_with in models else models[0]
assessor = maps.load(runs_of[assessed].folder)
about = cohort.slices[cohort.slices.split == "test"]
about = about.groupby("patient", sort=True).head(max(1, most // about.patient.nunique())).head(most)


def rated(images):
    """Quality maps of slices (N, H, W) in HU."""
    return maps.quality_map(images, assessor, precision=precision, device=device)


def true_of(image, reference):
    """The true map (H, W) of a slice against its reference, both HU."""
    return training.true_map(image, reference, wanted, level, width)


def pair_of(one_cohort, rows):
    """NDCT and LDCT of a slice or several, float32 HU."""
    return (np.asarray(images[rows], np.float32) for images in (one_cohort.ndct, one_cohort.ldct))


def regions_of(row):
    """{region: mask} of a slice, regions of 200 pixels and more."""
    if cohort.organ_masks is not None:
        labels = np.asarray(cohort.organ_masks[row])
        named = {name: labels == label for label, name in cohort.organs.items() if name not in ("air", "table", "gas")}
    else:
        named = segments.tissue_masks(np.asarray(cohort.ndct[row], np.float32))
    return {name: mask for name, mask in named.items() if mask.sum() >= 200}


# %%
def by_region():
    """True and predicted quality in every region of every test slice, at every dose."""
    rows = []
    for one in about.itertuples():
        ndct, ldct = pair_of(cohort, one.row)
        images = np.stack([at_dose(ndct, ldct, one.dose, d) for d in doses])
        for d, image, predicted in zip(doses, images, rated(images)):
            true = true_of(image, ndct)
            for name, mask in regions_of(one.row).items():
                rows.append({"patient": one.patient, "row": one.row, "dose": d, "region": name, "true":
                             true[mask].mean(), "predicted": predicted[mask].mean()})  # fmt: skip
    return pd.DataFrame(rows)


regions = run.table("regions", by_region)

# %%
at = doses[int(np.argmin(np.abs(np.array(doses) - 0.25)))]
part = regions[regions.dose == at].groupby(["region", "patient"])[["true", "predicted"]].mean().groupby("region")
inside = regions.groupby(["region", "patient", "dose"])[["true", "predicted"]].mean()
own = inside.groupby(["region", "patient"]).corr().xs("true", level=2).predicted.groupby("region").mean()
shown_regions = part.mean().assign(**{"correlation over doses": own})
shown_regions.insert(0, "patients", part.size())
shown_regions = shown_regions[shown_regions.patients >= min(2, about.patient.nunique())]
ranks = shown_regions[["true", "predicted"]].corr("spearman").iloc[0, 1]
report.table(
    run, "regions_shown", shown_regions.reset_index().sort_values("true"),
    f"Mean {wanted.label} in regions at dose {at:.0%}, as it is and as the {LABEL[assessed]} predicts it, "
    f"means over those of {report.plural(about.patient.nunique(), 'test patient')} that show the region. Rank "
    f"correlation over regions: {ranks:.2f}. Correlation over doses: of true and predicted means within a patient, "
    "then the mean over patients.",
)  # fmt: skip

# %%
one = about.iloc[0]
reference, image = pair_of(cohort, one.row)
quality, true, body = rated(image), true_of(image, reference), intensity.body_mask(image)
figure, axes = plt.subplots(1, 3, figsize=(12.5, 4))
plots.show(axes[0], image, level, width, f"LDCT, {one.patient}\n{plots.window_text(level, width)}")
plots.show(axes[1], image, level, width)
drawn = show_map(axes[1], np.ma.masked_where(~body, quality), "predicted quality over it")
drawn.set_alpha(0.55)
figure.colorbar(drawn, ax=axes[1], shrink=0.8, label=OF_MAPS)
means = {n: {"true": true[m].mean(), "predicted": quality[m].mean()} for n, m in regions_of(one.row).items()}
means = pd.DataFrame(means).T.sort_values("true")
for column, shift, colour in (("true", 0.2, plots.COLOURS[7]), ("predicted", -0.2, plots.COLOURS[0])):
    axes[2].barh(np.arange(len(means)) + shift, means[column], 0.38, color=colour, label=column)
axes[2].set_yticks(range(len(means)), means.index)
axes[2].set(xlabel=f"mean {OF_MAPS}", xlim=(wanted.low, None))
axes[2].legend(fontsize=8, loc="lower right")
report.figure(
    run, "anatomy", figure,
    f"The {LABEL[assessed]} on a slice at dose {one.dose:g}: mean {wanted.label} inside the body "
    f"{quality[body].mean():.3f} predicted, {true[body].mean():.3f} true.",
)  # fmt: skip

# %% [markdown]
# ## Out of distribution: denoised and blurred images
# The model has seen noise that was scaled and nothing else. The NDCT, the noise-free truth, a blurred LDCT and a
# denoised one are all new to it. Their true maps are known here, so it can be told how far off it is. Errors of single
# slices cancel in their mean: a model that says the same of every slice can have none.

# %%
subset = about.row.to_numpy()
ndct, ldct = pair_of(cohort, subset)
blurred = {f"LDCT, blur {b:g} px": ndimage.gaussian_filter(ldct, (0, b, b)) for b in blurs}
images = {"LDCT": ldct, "NDCT": ndct} | blurred
if cohort.truth is not None:
    images["truth"] = np.asarray(cohort.truth[subset], np.float32)
if denoiser:
    trained = load(denoiser)
    if trained.numbers["cohort"] != cohort.id:
        raise ValueError(
            f"denoiser {denoiser} was trained on another cohort, perhaps on these patients: name one of this"
        )
    images["denoised"] = prediction.denoiser(trained, 4, precision, device)(ldct)


# %%
def outside():
    """Mean quality inside the body, true and predicted, of every kind of image: a row a slice and kind."""
    rows, bodies = [], intensity.body_mask(ndct)
    for kind, stack in images.items():
        for one, image, reference, body, predicted in zip(about.itertuples(), stack, ndct, bodies, rated(stack)):
            if body.any():
                true = true_of(image, reference)
                rows.append({"patient": one.patient, "row": one.row, "kind": kind, "true": true[body].mean(),
                             "predicted": predicted[body].mean()})  # fmt: skip
    return pd.DataFrame(rows)


kinds = run.table("out_of_distribution", outside)
if kinds.empty:
    raise ValueError("no test slice shows a body: there is nothing to rate inside it")
by_kind = evidence.by_kind(kinds)

# %%
figure, axis = plt.subplots(figsize=(6.2, 4.2))
for kind, colour, marker in zip(images, plots.COLOURS, "osD^vPX*"):
    part = kinds[kinds.kind == kind]
    axis.plot(part.true, part.predicted, marker, color=colour, ms=5, alpha=0.8, ls="", label=kind)
limits = [min(kinds.true.min(), kinds.predicted.min()), max(kinds.true.max(), kinds.predicted.max())]
axis.plot(limits, limits, color="black", lw=0.8)
axis.set(xlabel=f"true mean {OF_MAPS} inside the body", ylabel="predicted")
axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
new = kinds[kinds.kind != "LDCT"]
report.figure(
    run, "out_of_distribution_shown", figure,
    f"Quality of images unlike the training's, a point a slice, {by_kind.slices.max()} test slices; the line is a "
    f"perfect answer. All but the LDCT are rated {new.predicted.min():.2f} to {new.predicted.max():.2f} where "
    f"{new.true.min():.2f} to {new.true.max():.2f} is right.",
)  # fmt: skip

# %%
free = by_kind.loc[[kind for kind in by_kind.index if kind in ("truth", "denoised")]]
report.table(
    run, "by_kind", by_kind.rename(columns={"absolute_error": "absolute error"}).reset_index(),
    f"Mean {wanted.label} inside the body, true and as the {LABEL[assessed]} predicts it; means over patients of the "
    "signed and the absolute error; correlation of true and predicted over slices (none where the truth is one value)."
    + "".join(f" {kind}: error {r.error:+.3f}, but slice by slice {r.absolute_error:.3f} off, correlation "
              f"{r.correlation:.2f}." for kind, r in free.iterrows() if np.isfinite(r.correlation)),
)  # fmt: skip

# %% [markdown]
# ## Out of distribution: a second cohort
# Pairs from elsewhere, of patients that the model was not trained on: the lower dose of every pair should be called
# worse. If it is not, the model fails there.


# %%
def pairs():
    """Predicted quality of both doses of every pair with a body, true quality of the lower one, inside it."""
    rows = []
    for one in other.slices.itertuples():
        high, lower = pair_of(other, one.row)
        body = intensity.body_mask(high)
        if body.any():
            full, low = rated(np.stack([high, lower]))
            rows.append({"patient": one.patient, "row": one.row, "dose": one.dose,
                         "true, low dose": true_of(lower, high)[body].mean(), "predicted, low dose": low[body].mean(),
                         "predicted, full dose": full[body].mean()})  # fmt: skip
    return pd.DataFrame(rows)


failing, second_pairs = None, 0
if other:
    second = run.table("second", pairs)
    if second.empty:
        raise ValueError(f"no slice of {test_source} {other.id} shows a body: there is nothing to rate inside it")
    gap = (second["predicted, full dose"] - second["predicted, low dose"]) * wanted.direction
    second_pairs, failing, blank = len(second), evidence.wrong_order(gap), len(other.slices) - len(second)
    report.table(
        run, "second_shown", second,
        f"{LABEL[assessed]} on {report.plural(second_pairs, 'pair')} of "
        f"{report.plural(second.patient.nunique(), 'patient')}, {test_source}: "
        + ("the low dose is called worse in every pair." if not failing else
           f"**failing**: the low dose is not called worse in {failing} of {report.plural(second_pairs, 'pair')}.")
        + f" Difference: {gap.min():.3f} to {gap.max():.3f} {wanted.unit}".rstrip() + "."
        + f" Pairs left out, since they show no body: {blank}." * bool(blank),
    )  # fmt: skip

# %%
if other:
    both = np.stack(list(pair_of(other, 0)))
    figure, axes = plt.subplots(2, 2, figsize=(7.5, 6.8))
    for line, kind, hu, quality in zip(axes[::-1], ("full dose", "low dose"), both, rated(both)):
        plots.show(line[0], hu, level, width, kind)
        drawn = show_map(line[1], quality, f"predicted, mean {quality.mean():.3f}")
    figure.colorbar(drawn, ax=axes[:, 1], shrink=0.7, label=OF_MAPS)
    figure.supxlabel(plots.window_text(level, width), fontsize=9)
    report.figure(run, "second_maps", figure, f"The first pair of {test_source}, and its predicted maps.")
else:
    report.text("No second cohort was given (`test_source`): what the model says of other scanners is not known.")

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(table["mean"][table.region == "whole"]).all(), "a model has no score on whole slices"
assert np.isfinite(kinds[["true", "predicted"]]).all().all()
train = set(cohort.slices[cohort.slices.split == "train"].patient)
assert train.isdisjoint(scores.patient) and train.isdisjoint(about.patient), "a patient is in two splits"
whole = table[(table.region == "whole") & (table.model != CONSTANT)].set_index(["model", "metric"])["mean"]
run.finish(
    cohort=cohort.id, models=models, assessed=assessed, test_patients=test_patients,
    **{f"{m}_{metric}": float(whole[m, metric]) for m in models for metric in METRICS},
    **{f"n2q_minus_{rival}_ssim": None if (row := against(rival)) is None else
       {k: float(row[k]) for k in ("mean", "low", "high")} for rival in plain},
    bias={m: {f"{d:g}": float(one["mean"]) for d, one in zip(ENDS, both)} for m, both in bias.items()},
    dose_accuracy={m: float(a["mean"]) for m, a in accuracy.items()},
    out_of_distribution={kind: {k: float(r[k]) for k in ("error", "absolute_error", "correlation") if np.isfinite(r[k])}
                         for kind, r in by_kind.iterrows()},
    second_pairs=second_pairs, second_failing=failing,
)  # fmt: skip

# %%
flat = table[(table.model == CONSTANT) & (table.region == "whole") & (table.metric == "mse")]["mean"].iloc[0]
report.text(
    f"**What we saw.** {verdict}; {report.plural(test_patients, 'patient')}. MSE of the maps: "
    + ", ".join(f"{LABEL[m]} {whole[m, 'mse']:.4f}" for m in models)
    + f"; of a constant {flat:.4f}. Bias: {ends}. Doses at which the constant has the highest SSIM: "
    f"{', '.join(ahead) or 'none'}. The {LABEL[assessed]} rates the NDCT {by_kind.predicted['NDCT']:.3f} where "
    f"{by_kind.true['NDCT']:.3g} is right, and blur and denoising are outside of what it knows, mean error (mean "
    "absolute error): "
    + ", ".join(f"{kind} {r.error:+.3f} ({r.absolute_error:.3f})" for kind, r in by_kind.iterrows()
                if kind not in ("LDCT", "NDCT"))
    + ("." if failing is None else f". Pairs of the second cohort in the wrong order: {failing} of {second_pairs}.")
    + " One limit: every dose of a slice shares one noise pattern, and its reference is noisy itself. Next: "
    "`09_subtle_details`."
)  # fmt: skip
