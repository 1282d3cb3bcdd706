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
# # 04 · Do losses and metrics agree while a network trains?
# **Question.** Networks are trained with different losses and watched by many metrics. Do losses and metrics agree,
# from checkpoint to checkpoint and about the networks that come out? Which metrics are erratic, and what does it cost
# to pick a checkpoint by one of them?
#
# **Reads** the checkpoints of finished `03_train` runs, and optionally a CT-NIQE model of `04a_ct_niqe` and a quality
# model of `08a_train_quality`. **Writes** `run_<id>.parquet` (every loss and metric at every checkpoint of a run) and
# the tables of agreement. **Cost** three quarters of a minute for a run of 11 checkpoints, on one core.
#
# SSIM in the domain `hu` is a mean squared error in disguise: its constant C2 is far larger than the contrasts of soft
# tissue. Beside it stands SSIM (window), of what a display window shows, inside the body.
#
# The question is that of Taifour et al. (arXiv 2511.00698). What they do not report (layer and weight of the VGG loss,
# Charbonnier's ε, the metrics' input range, the set of no-reference metrics, seeds) is our own choice here.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/04_metrics_during_training/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, all of one cohort
split: str = "val"  # whose slices are scored: val, test or train
test_source: Optional[str] = None  # score another cohort, all of it, instead of a split of the runs' own
test_root: Optional[str] = None  # folder of that cohort
slices: int = 1  # slices a patient, those with most lesion in them first
metrics: list = []  # names of metrics; empty takes all whose weights are on this machine
ct_niqe: Optional[str] = None  # run folder of 04a_ct_niqe, for the metric ct_niqe
n2q: Optional[str] = None  # run folder of 08a_train_quality, for the metric n2q
domains: list = ["hu", "window"]  # evaluation domains; the first one is that of the figures
level: float = 40.0  # centre of the window, HU; the paper shows [-160, 240] HU
width: float = 400.0  # width of the window, HU
layer: str = "block3_conv2"  # feature level of the VGG loss that every run is evaluated with
context: str = "auto"  # its encoder: imagenet, random, a weights file, or auto
loss_crop: int = 128  # side of the central part on which the VGG loss is evaluated, pixels
draws: int = 500  # bootstrap draws over patients
batch: int = 8  # slices predicted at once
seed: int = 0  # seeds the bootstrap, and an encoder without weights
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("04_metrics_during_training", globals())

# %%
import hashlib
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.audit import agreement, reactions, scoring
from ldct_utils.ct import intensity
from ldct_utils.models import encoders
from ldct_utils.report import plots
from ldct_utils.stats import intervals
from ldct_utils.study.runs import select
from ldct_utils.training import checkpoints, designs, losses, prediction, setup

setup.seed_everything(seed, threads)

# %% [markdown]
# ## The runs and their slices
# A *method* is everything that was chosen about a run except its seed. All runs must share one cohort. The slices come
# from patients that no run was trained on; with `test_source` from another cohort, such as real pairs for networks that
# were trained on inserted noise.

# %%
chosen, listed, varying = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
scored = cohorts.tested_on(cohort, test_source, test_root)
whose = "test" if test_source else split
about = scoring.slices(scored, whose, slices)
rows, patients = about.row.to_numpy(), about.patient.nunique()
people, over_runs = report.plural(patients, f"{whose} patient"), report.plural(len(chosen), "run")
ldct, ndct = (np.asarray(images[rows], np.float32) for images in (scored.ldct, scored.ndct))
truth = None if scored.truth is None else np.asarray(scored.truth[rows], np.float32)
references = {"ndct": ndct} if truth is None else {"ndct": ndct, "truth": truth}
methods = list(dict.fromkeys(listed.method))
COLOUR = dict(zip(methods, [*plots.COLOURS] * (1 + len(methods) // len(plots.COLOURS))))
steps_of = {tuple(checkpoints.checkpoints(one.folder)) for one in chosen}
if len(steps_of) > 1:
    raise ValueError(
        "these runs have checkpoints at different steps; train them with the same max_steps and checkpoint_every"
    )
listed["checkpoints"] = [len(checkpoints.checkpoints(one.folder)) for one in chosen]
report.table(
    run, "runs", listed,
    f"{over_runs}, {report.plural(len(methods), 'method')}, on cohort {cohort.id}; scored on "
    f"{report.plural(len(rows), 'slice')} of {people} of cohort {scored.id}. Beside the design, these settings differ "
    f"between the runs: {', '.join(varying) or 'none'}.",
)  # fmt: skip

# %% [markdown]
# ## The metrics
# A metric whose weights are not on this machine is listed with the file it needs. Metrics are computed on what the
# evaluation domain shows; each record says in which domain and against which reference.

# %%
models = {"ct_niqe": ct_niqe, "n2q": n2q}
scorer = scoring.choose(run, metrics, models, cohort, domains, level, width, device, scored)
INFO, NAMES = scorer.info, list(scorer.info)
FR, NR = scorer.of("full-reference"), scorer.of("no-reference")
free = [name for name in NAMES if name not in ("psnr", "rmse_hu", "nrmse")]
if not free:
    raise ValueError(f"{', '.join(NAMES)} are the MSE in other units: add a metric, such as ssim, that no formula ties")
report.table(run, "metrics", scorer.described, scorer.said)

# %%
setup.seed_everything(seed, threads)
encoder = encoders.load("vgg19", context, layer, None, "x255", seed).to(device)
pixel_terms = losses.build({"mse": 1.0, "l1": 1.0, "charbonnier": 1.0})
vgg_term = losses.build({"vgg": 1.0}, encoder)
LOSSES = {"mse": "MSE", "l1": "L1", "charbonnier": "Charbonnier", "vgg": f"VGG {layer}"}
report.text("Encoder of the VGG loss: " + encoders.describe(encoder))


def lost(pred):
    """The losses of whole slices, the VGG loss of their centre, in the columns of ``scorer.score``."""
    whole = [torch.from_numpy(intensity.to_net(x))[:, None].to(device) for x in (pred, ndct)]
    top, left = ((side - min(loss_crop, side)) // 2 for side in pred.shape[1:])
    centre = [x[..., top : top + loss_crop, left : left + loss_crop] for x in whole]
    with torch.no_grad(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
        values = pixel_terms.terms(*whole) | vgg_term.terms(*centre)
    tables = [pd.DataFrame({"image": range(len(v)), "name": k, "value": v.cpu()}) for k, v in values.items()]
    return pd.concat(tables).assign(domain="network", reference="ndct")


# %% [markdown]
# ## Every metric at every checkpoint
# Also before training, which is the LDCT itself for a residual network. The losses are evaluated on every run, whatever
# it was trained with.


# %%
known = {}  # scores by the images' hash: before training all residual networks give one and the same


def follow(one):
    """Scores of one run at all of its checkpoints."""
    tables = []
    for step in checkpoints.checkpoints(one.folder):
        pred = prediction.denoiser(one, batch, precision, device, step)(ldct)
        key = hashlib.sha256(pred).digest()
        if key not in known:
            known[key] = pd.concat([scorer.score(pred, references), lost(pred)])
        tables.append(known[key].assign(step=step))
    return pd.concat(tables, ignore_index=True)


# %%
STYLE = {"LDCT": "--", "NDCT, blurred": ":"}  # of the controls that the curves are drawn beside
beside = {name: images for name, images in reactions.controls(ldct, ndct, about.pixel_mm).items() if name in STYLE}
controls = run.table(
    "controls", lambda: pd.concat([scorer.score(x, references).assign(control=name) for name, x in beside.items()])
)
followed = [run.table(f"run_{name}", lambda one=one: follow(one)) for name, one in zip(tqdm(listed.run), chosen)]
curves = pd.concat([
    table.assign(run=one, method=name, seed=s)
    for table, one, name, s in zip(followed, listed.run, listed.method, listed.seed)
], ignore_index=True)  # fmt: skip
curves["patient"] = about.patient.to_numpy()[curves.image]
direction = {name: metric.direction for name, metric in INFO.items()} | dict.fromkeys(LOSSES, -1)
curves["aligned"] = agreement.align(curves.value, curves.name.map(direction))
LABEL = LOSSES | {name: metric.label for name, metric in INFO.items()}

# %% [markdown]
# ### How the losses fall (after the paper's Figure 1)

# %%
figure, axes = plt.subplots(1, len(LOSSES), figsize=(3.1 * len(LOSSES), 3.0))
loss_means = curves[curves.domain == "network"].groupby(["name", "method", "step"]).value.mean()
for axis, (name, label) in zip(axes, LOSSES.items()):
    for method in methods:
        line = loss_means[name, method]
        axis.plot(line.index, line / line.iloc[0], color=COLOUR[method], label=method)
    axis.set(title=label, xlabel="updates")
axes[0].set_ylabel("relative to before training")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
ends = {name: loss_means[name].groupby("method").last().idxmin() for name in LOSSES}
own = sum(str(ends[name]).startswith(name) for name in LOSSES)
report.figure(
    run, "losses", figure,
    f"Each loss on {report.plural(len(rows), f'{whose} slice')} ({people}; VGG: the central {loss_crop} pixels), for "
    "networks trained with each. "
    f"Losses that end lowest in a network that was trained with them: {own} of {len(LOSSES)}. Lowest is "
    + ", ".join(f"{LOSSES[name]} in {method}" for name, method in ends.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ### What the networks make of a slice (after the paper's Figure 2)

# %%
showing = int(about.index[about.anatomy == "abdomen"][0]) if (about.anatomy == "abdomen").any() else 0
firsts = [next(one for one, name in zip(chosen, listed.method) if name == method) for method in methods]


def last_predictions():
    """(methods, H, W) float32 HU: the shown slice by the first seed of each method, at its last checkpoint."""
    found = [prediction.denoiser(one, batch, precision, device)(ldct[showing]) for one in firsts]
    return np.stack(found).astype(np.float32)


shown = run.array("reconstructions", last_predictions)
panels = {"LDCT": ldct[showing]} | dict(zip(methods, shown)) | {"NDCT": ndct[showing]}
panels |= {} if truth is None else {"truth": truth[showing]}
across = 4
figure, axes = plt.subplots(-(-len(panels) // across), across, figsize=(2.7 * across, 3.0 * -(-len(panels) // across)))
for axis in axes.ravel():
    axis.set_axis_off()
for axis, (title, image) in zip(axes.ravel(), panels.items()):
    plots.show(axis, image, level, width, title.replace(" · ", "\n", 1))
figure.supxlabel(plots.window_text(level, width), fontsize=9)
sd = {title: float(np.sqrt(np.mean((image - ndct[showing]) ** 2))) for title, image in panels.items()}
report.figure(
    run, "reconstructions", figure,
    f"{about.anatomy[showing].capitalize()}, patient {about.patient[showing]}. RMSE against NDCT, HU: "
    + ", ".join(f"{title} {value:.1f}" for title, value in sd.items() if title not in ("NDCT", "truth")) + ".",
)  # fmt: skip


# %% [markdown]
# ### Metrics during training (after the paper's Figures 3 and 4)
# Lines are means over patients and seeds, bands the range over seeds. Dashed: the LDCT. Dotted: blurred NDCT,
# where the pixel size is known.


# %%
def small_multiples(names, reference):
    """One panel a metric: its value against updates, a line a method."""
    columns = 4
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(12, 2.5 * lines), squeeze=False)
    part = curves[(curves.domain == domains[0]) & (curves.reference == reference)]
    means = part.groupby(["name", "method", "step", "seed"]).value.mean()
    fixed = controls[(controls.domain == domains[0]) & (controls.reference == reference)]
    fixed = fixed.groupby(["name", "control"]).value.mean()
    for axis in axes.ravel()[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.ravel(), names):
        for method in methods:
            seeds = means[name, method].unstack("seed")
            axis.plot(seeds.index, seeds.mean(axis=1), color=COLOUR[method], label=method)
            axis.fill_between(seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=COLOUR[method], alpha=0.2, lw=0)
        seen = axis.get_ylim()
        for control in beside:
            axis.axhline(fixed[name, control], color="black", ls=STYLE[control], lw=1, label=control)
        margin = 0.6 * (seen[1] - seen[0])
        axis.set_ylim(max(axis.get_ylim()[0], seen[0] - margin), min(axis.get_ylim()[1], seen[1] + margin))
        axis.set(title=f"{LABEL[name]} {INFO[name].arrow}", xlabel="updates", ylabel=INFO[name].unit or None)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


main = "ndct"
for names, stem, words, reference in (
    (FR, "full_reference", "full-reference", main),
    (NR, "no_reference", "no-reference", "none"),
):
    if names:
        part = curves[(curves.domain == domains[0]) & (curves.reference == reference) & curves.name.isin(names)]
        change = part.groupby(["name", "run", "step"]).aligned.mean().groupby(["name", "run"])
        rose = (change.last() > change.first()).groupby("name").mean()
        report.figure(
            run, stem, small_multiples(names, reference),
            f"{report.plural(len(names), f'{words} metric')} on {report.plural(len(rows), f'{whose} slice')}, "
            f"domain {domains[0]}"
            + (", reference NDCT" if reference == main else "") + ". Better at the end of training than before it, in "
            f"every run: {', '.join(LABEL[n] for n in names if rose[n] == 1) or 'none'}; not in every run: "
            f"{', '.join(LABEL[n] for n in names if rose[n] < 1) or 'none'}.",
        )  # fmt: skip

# %% [markdown]
# ## Do losses and metrics agree?
# Per run: rank correlation over checkpoints between each loss and each metric, both turned so that higher is better, of
# the means over patients. Any two curves that improve correlate, hence the second analysis: the *changes* from one
# checkpoint to the next. But steps shrink in every training, so that changes correlate as well. What that alone gives
# is measured: the losses of one run against the metrics of *another* run of the same method, of another seed. Only
# what a run's own agreement has beyond that was seen to tie this metric to this loss. PSNR and RMSE are tied to MSE by
# a formula, image by image, though not in their means over images, and serve as a check. Intervals come from drawing
# patients and runs.

# %%
order = [*LOSSES, *NAMES]


def curves_of(table, domain=domains[0], reference="ndct"):
    """Aligned curves of one run, (steps, patients, quantities) in ``order``."""
    judged = (table.domain == domain) & table.reference.isin([reference, "none"])
    return agreement.cube(table[(table.domain == "network") | judged], order)


def agreements():
    """``agreement.pairs`` in every domain, against every reference."""
    found = []
    for domain, reference in itertools.product(domains, references):
        sets = [curves_of(table, domain, reference) for _, table in curves.groupby("run", sort=False)]
        pairs = agreement.pairs(sets, list(listed.method), list(LOSSES), NAMES, draws, seed)
        found.append(pairs.assign(domain=domain, reference=reference))
    return pd.concat(found, ignore_index=True)


agreed = run.table("agreement", agreements)

# %%
part = agreed[(agreed.domain == domains[0]) & (agreed.reference == main) & (agreed.kind == "spearman")]
SHOWN = (("mean", False, "of curves"), ("mean", True, "of changes between checkpoints"),
         ("gain", True, "of changes, minus that with the metrics of another seed's run"))  # fmt: skip
paired = part.others.notna().any()
figure, axes = plt.subplots(2 + paired, 1, figsize=(0.62 * len(NAMES) + 2.2, 3.1 * (2 + paired)), sharex=True)
for axis, (value, detrended, title) in zip(axes, SHOWN):
    wide = part[part.detrended == detrended].pivot(index="loss", columns="metric", values=value)
    plots.matrix(axis, wide.loc[list(LOSSES), NAMES].to_numpy(), [LABEL[n] for n in NAMES], LOSSES.values())
    axis.set_title(f"Spearman correlation {title}, mean over {over_runs}")
typical, between, beyond = (
    part[part.metric.isin(free)].groupby("detrended")[value].median() for value in ("mean", "others", "gain")
)
vgg = part[(part.loss == "vgg") & part.metric.isin(free)].groupby("detrended")["mean"].median()
compared = "No method has two seeds, so that it is not known what any two trainings would give."
if paired:
    compared = (
        f"With the metrics of a run of the same method and another seed: {between[False]:.2f}, of the changes "
        f"{between[True]:.2f}; median of the differences {beyond[False]:.2f} and {beyond[True]:.2f}."
    )
report.figure(
    run, "agreement", figure,
    f"Agreement of losses (evaluated on all runs) with metrics, domain {domains[0]}, reference NDCT, {people}; "
    f"1: they rank checkpoints alike. Median over losses and metrics that are not tied to MSE: "
    f"{typical[False]:.2f}, of the changes {typical[True]:.2f}; of the VGG loss {vgg[False]:.2f} and {vgg[True]:.2f}. "
    + compared,
)  # fmt: skip

# %%
strongest = part[part.detrended].sort_values("gain" if paired else "mean", ascending=False)
table = strongest.assign(
    loss=strongest.loss.map(LOSSES), metric=strongest.metric.map(LABEL), interval=report.brackets(strongest),
    beyond=report.brackets(strongest[["gain_low", "gain_high"]].set_axis(["low", "high"], axis=1)),
).rename(columns={"others": "other seed", "gain": "difference", "beyond": "its interval"})  # fmt: skip
sure = int((strongest.gain_low > 0).sum())
loose = strongest[strongest.metric.isin(free)]
report.table(
    run, "agreement_intervals",
    table[["loss", "metric", "mean", "interval", "lowest_run", "highest_run", "other seed", "difference",
           "its interval"]],
    f"Spearman correlation of the changes between checkpoints, with 95 % intervals over {people} and "
    f"{over_runs}, and the range over runs. "
    + (f"Beyond the correlation with the metrics of another seed's run are {sure} of {len(strongest)} pairs, interval "
       f"and all, {int((loose.gain_low > 0).sum())} of them of the {len(loose)} that no formula ties."
       if paired and strongest.gain_low.notna().any() else compared if not paired else ""),
)  # fmt: skip

# %% [markdown]
# ## Which metrics are erratic?
# How often a curve turns (2/3 is white noise, 0 a monotone curve), the way it travels over the way it gets, and, in
# units of the spread between seeds (of means over the second half of training): all that it moves against its net
# change, and its scatter about a smooth course in the second half. Scatter above 1: the choice of the checkpoint
# matters more than the seed. It needs 11 checkpoints; with fewer it cannot be told from a bending trend.


# %%
def restless():
    """Sign changes, total variation over net change, setbacks and scatter over seed spread, a row a quantity."""
    found = []
    for (identifier, method), table in curves.groupby(["run", "method"], sort=False):
        values = curves_of(table).mean(axis=1)
        found.append(pd.DataFrame({
            "name": order, "run": identifier, "method": method, "turns": agreement.sign_changes(values),
            "roughness": agreement.roughness(values), "setback": agreement.setback(values),
            "jitter": agreement.jitter(values),
            "end": values[len(values) // 2 :].mean(axis=0),  # the scatter averages out
        }))  # fmt: skip
    table = pd.concat(found, ignore_index=True)
    table["seed_sd"] = table.groupby(["name", "method"]).end.transform("std")
    table["setback_over_seed_sd"] = table.setback / table.seed_sd
    table["jitter_over_seed_sd"] = table.jitter / table.seed_sd
    columns = ["turns", "roughness", "setback", "jitter", "seed_sd", "setback_over_seed_sd", "jitter_over_seed_sd"]
    return table.groupby("name")[columns].median().loc[order].reset_index()


erratic = run.table("erratic", restless)
shown_erratic = erratic.assign(name=erratic.name.map(LABEL)).drop(columns=["setback", "jitter", "seed_sd"])
steady = int((erratic.turns == 0).sum())
if erratic.seed_sd.isna().all():
    against = "The seed spread is missing: no method has two seeds."
else:
    against = (
        f"Moves against the net change exceed the seeds' spread for "
        f"{(erratic.setback_over_seed_sd > 1).sum()} of {len(erratic)}. "
        + (f"Scatter exceeds it for {(erratic.jitter_over_seed_sd > 1).sum()}." if erratic.jitter.notna().any() else
           f"No scatter: {listed.checkpoints.iloc[0]} checkpoints are too few to tell it from the trend.")
    )  # fmt: skip
report.table(
    run, "erratic_shown",
    shown_erratic.rename(columns={
        "name": "loss or metric", "roughness": "way / net change", "setback_over_seed_sd": "setbacks / seed SD",
        "jitter_over_seed_sd": "scatter / seed SD",
    }),
    f"Medians over {over_runs}, domain {domains[0]}, reference NDCT. "
    + (f"{steady} of {len(erratic)} never turn; most restless: {LABEL[erratic.name[erratic.turns.idxmax()]]} (turns at "
       f"{erratic.turns.max():.0%} of the checkpoints). " if erratic.turns.notna().any() else
       "Too few checkpoints to turn. ")
    + against,
)  # fmt: skip

# %% [markdown]
# ## Do metrics agree about the final networks?
# Kendall's W of the metrics as raters of the methods: 1 if all rank them alike. Beside it, the same for patients as
# raters, by each metric alone: a metric on which patients disagree cannot rank methods.

# %%
final = curves[curves.domain != "network"]
final = final[final.step == final.groupby("run").step.transform("max")]
final = final.groupby(["domain", "reference", "name", "method", "patient"]).aligned.mean()


def concordance():
    """W over metrics with its interval, and W over patients for each metric: a row a domain, reference and rater."""
    found = []
    for domain, reference in itertools.product(domains, references):
        where = {"domain": domain, "reference": reference}
        of = [final[domain, reference if n in FR else "none", n].unstack("patient") for n in NAMES]
        values = np.stack([one.to_numpy() for one in of])  # (metrics, methods, patients)
        drawn = [agreement.kendall_w(values @ w) for w in intervals.patient_draws(patients, draws, seed)]
        few = patients < intervals.MIN_PATIENTS or len(methods) < 2
        low, high = intervals.interval(np.array(drawn), patients) if not few else (np.nan, np.nan)
        w = agreement.kendall_w(values.mean(-1))
        found.append(where | {"raters": "all metrics", "w": w, "low": low, "high": high})
        found += [where | {"raters": n, "w": agreement.kendall_w(v.T)} for n, v in zip(NAMES, values)]
    return pd.DataFrame(found)


concord = run.table("concordance", concordance)
whole = concord[concord.raters == "all metrics"].set_index(["domain", "reference"])
alone = concord[(concord.domain == domains[0]) & (concord.reference == main) & (concord.raters != "all metrics")]
one = whole.loc[(domains[0], main)]
ranking = pd.DataFrame({
    LABEL[n]: final[domains[0], main if n in FR else "none", n]
    .groupby("method").mean().rank(ascending=False, method="min")
    for n in NAMES
}).loc[methods].astype("Int64").T  # fmt: skip
ranking.insert(0, "W over patients", alone.set_index("raters").w.loc[NAMES].to_numpy())
concordant = f"The metrics' concordance is W = {one.w:.2f}" if len(methods) > 1 else "One method cannot be ranked"
concordant += f" [{one.low:.2f}, {one.high:.2f}]." if np.isfinite(one.low) else "."
report.table(
    run, "ranks", ranking.rename_axis("metric").reset_index(),
    f"Rank of each method by each metric at the end of training (domain {domains[0]}, reference NDCT, means over "
    f"patients and seeds), and how well the patients ({patients}) agree on it. {concordant}",
)  # fmt: skip

# %% [markdown]
# ## Which checkpoint would each metric pick, and what does that cost?
# Cost is the share of a metric's whole range over the run's checkpoints that is lost by taking another metric's pick.

# %%
picked, costs = [], []
for (identifier, method, number), table in curves.groupby(["run", "method", "seed"], sort=False):
    steps, (at, cost) = sorted(table.step.unique()), agreement.picks(curves_of(table).mean(axis=1))
    where = [steps[i] if i >= 0 else np.nan for i in at]
    picked.append(pd.DataFrame({"run": identifier, "method": method, "seed": number, "name": order, "step": where}))
    costs.append(cost)
run.table("picks", lambda: pd.concat(picked, ignore_index=True))
with np.errstate(invalid="ignore"):
    cost = np.nanmean(costs, axis=0)
figure, axis = plt.subplots(figsize=(0.55 * len(order) + 2.5, 0.42 * len(order) + 1.6))
plots.matrix(axis, cost, [LABEL[n] for n in order], [LABEL[n] for n in order], 0, 1, "Blues")
axis.set(xlabel="… costs this share of the range by", ylabel="picking the checkpoint by …")
off = cost[: len(LOSSES), len(LOSSES) :]
report.figure(
    run, "picks", figure,
    f"Means over {over_runs}, domain {domains[0]}, reference NDCT. Picking by a loss costs "
    f"{np.nanmean(off):.0%} of a metric's range on average, at most {np.nanmax(off):.0%}. Costliest pick on average: "
    f"{LABEL[order[int(np.nanargmax(np.nan_to_num(np.nanmean(cost, axis=1))))]]}.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
final_losses = curves[(curves.domain == "network") & (curves.name == "mse")]
hu = curves[(curves.name == "rmse_hu") & (curves.domain == "hu") & (curves.reference == "ndct")]
assert curves.patient.nunique() == patients and set(curves.run) == set(listed.run)
assert np.isfinite(final_losses.value).all(), "a loss is not finite"
trained_on = set(cohort.slices[cohort.slices.split == "train"].patient)
own = whose != "train" and not test_source
assert not own or trained_on.isdisjoint(about.patient), "a patient that is scored was trained on"
if not hu.empty and "psnr" in FR:  # PSNR and RMSE say the same about every image
    psnr = curves[(curves.name == "psnr") & (curves.domain == "hu") & (curves.reference == "ndct")]
    both = hu.merge(psnr, on=["run", "step", "image"], suffixes=("", "_psnr"))
    assert np.allclose(both.value_psnr, 20 * np.log10(intensity.HU_SPAN / both.value)), "PSNR and RMSE disagree"

run.finish(
    cohort=scored.id, runs=len(chosen), methods=len(methods), slices=len(rows), patients=int(patients),
    metrics=len(INFO), unavailable=list(scorer.missing.name), encoder=encoder.provenance,
    agreement=float(typical[False]), agreement_of_changes=float(typical[True]),
    agreement_with_other_seed=float(between[False]) if paired else None,
    agreement_of_changes_with_other_seed=float(between[True]) if paired else None,
    concordance=float(whole.w[domains[0], main]),
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** Over checkpoints losses and metrics correlate by {typical[False]:.2f} in the median, their "
    f"changes by {typical[True]:.2f}. "
    + (f"With the metrics of another seed's training it is {between[False]:.2f} and {between[True]:.2f}: that much is "
       "the course of any such training. " if paired else "")
    + f"About the final networks: {concordant[0].lower()}{concordant[1:]} One limit: {people}, and that "
    "metrics agree does not say that they are right. Next: `04c_metric_audit` asks what each of them reacts to."
)  # fmt: skip
