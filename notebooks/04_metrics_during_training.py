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
# # 04 · Which metric can be trusted while a network trains?
# **Question.** Networks are trained with different losses and watched by many metrics. Do losses and metrics agree,
# from checkpoint to checkpoint and about the networks that come out? And what does each metric react to: does it
# notice a lesion that was removed, or texture that was never measured?
#
# **Reads** the checkpoints of finished `03_train` runs, and optionally a CT-NIQE model of `04a_ct_niqe` and a quality
# model of `08a_train_quality`. **Writes**
# `curves.parquet` (every loss and metric at every checkpoint), the tables of agreement, the audit and its figures.
# **Cost** three quarters of a minute for a run of 11 checkpoints, and four minutes for the audit, on one core.
#
# The question is that of Taifour et al. (arXiv 2511.00698). What they do not report (layer and weight of the VGG loss,
# Charbonnier's ε, the metrics' input range, the set of no-reference metrics, seeds) is our own choice here.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/04_metrics_during_training/
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, all of one cohort
split: str = "val"  # whose slices are scored: val, test or train
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
audit_doses: list = [1.0, 0.25]  # doses at which known degradations are audited
tasks: int = 6  # simulated livers in which lesions are to be detected; 0 leaves d' out
realisations: int = 200  # noise realisations a class, for d'
draws: int = 500  # bootstrap draws over patients
batch: int = 8  # slices predicted at once
seed: int = 0  # seeds bootstrap, artefacts and noise
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.runs import start

run = start("04_metrics_during_training", globals())

# %%
import hashlib
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from tqdm.auto import tqdm

from ldct_utils import agreement, cohorts, encoders, intensity, losses, observers, plots, report, stats, training
from ldct_utils import metrics as iqa
from ldct_utils import tasks as detection
from ldct_utils.degradations import DEGRADATIONS, at_dose, degrade
from ldct_utils.methods import listed as methods_of
from ldct_utils.metrics.ct_niqe import load as load_ct_niqe
from ldct_utils.quality.metric import load as load_n2q
from ldct_utils.runs import load, select

training.seed_everything(seed, threads)

# %% [markdown]
# ## The runs and their slices
# A *method* is everything that was chosen about a run except its seed. All runs must share one cohort. The slices come
# from patients that no run was trained on.

# %%
chosen, listed, varying = methods_of(select(runs))
cohort = cohorts.of(*chosen)
about = cohort.slices[cohort.slices.split == split]
if about.empty:
    raise ValueError(f"cohort {cohort.id} has no {split} patients; choose another split")
lesion_pixels = [0 if cohort.lesion_masks is None else np.count_nonzero(cohort.lesion_masks[r]) for r in about.row]
about = about.assign(lesion=lesion_pixels).sort_values(["patient", "lesion", "row"], ascending=[True, False, True])
about = about.groupby("patient").head(slices).sort_values("row").reset_index(drop=True)
rows, patients = about.row.to_numpy(), about.patient.nunique()
if about.dose.nunique() > 1 or about.pixel_mm.isna().any():
    raise ValueError(
        f"the audit needs slices of one dose and a known pixel size; cohort {cohort.id} has doses "
        f"{', '.join(f'{d:g}' for d in about.dose.unique())} and {about.pixel_mm.isna().sum()} slices without a size"
    )
ldct, ndct = (np.asarray(images[rows], np.float32) for images in (cohort.ldct, cohort.ndct))
truth = None if cohort.truth is None else np.asarray(cohort.truth[rows], np.float32)
references = {"ndct": ndct} if truth is None else {"ndct": ndct, "truth": truth}
methods = list(dict.fromkeys(listed.method))
COLOUR = dict(zip(methods, [*plots.COLOURS] * (1 + len(methods) // len(plots.COLOURS))))
steps_of = {tuple(training.checkpoints(one.folder)) for one in chosen}
if len(steps_of) > 1:
    raise ValueError("these runs have checkpoints at different steps; train them with the same checkpoint_every")
listed["checkpoints"] = [len(training.checkpoints(one.folder)) for one in chosen]
report.table(
    run, "runs", listed,
    f"{len(chosen)} runs, {len(methods)} methods, on cohort {cohort.id}; scored on {len(rows)} slices of {patients} "
    f"{split} patients. Beside the design, these settings differ between the runs: {', '.join(varying) or 'none'}.",
)  # fmt: skip

# %% [markdown]
# ## The metrics
# A metric whose weights are not on this machine is listed with the file it needs. Metrics are computed on what the
# evaluation domain shows; each record says in which domain and against which reference.

# %%
fitted = {"ct_niqe": (ct_niqe, load_ct_niqe), "n2q": (n2q, load_n2q)}  # these learn from NDCT of training patients
extra = {name: read(folder) for name, (folder, read) in fitted.items() if folder}
for name, (folder, _) in fitted.items():
    if folder and load(folder).numbers["cohort"] != cohort.id:
        raise ValueError(
            f"{name} {folder} was fitted on another cohort, which may hold these patients: fit it on this one"
        )
here = iqa.available(metrics or None)
small = min(ldct.shape[1:])
usable = [name for name in here.name[here.available] if iqa.info(name).smallest <= small]
if metrics:
    usable = list(metrics)  # named ones never fall away: `compute` says what is missing
# What was here when the run began stays its list, also where weights arrive before it is finished.
usable = list(run.table("metric_names", lambda: pd.DataFrame({"name": usable})).name)
kinds = {family: [m for m in usable if iqa.info(m).family == family] for family in ("full-reference", "no-reference")}
kinds["no-reference"] += [extra[name] for name in extra]
INFO = {getattr(m, "name", m): m if not isinstance(m, str) else iqa.info(m) for f in kinds.values() for m in f}
described = pd.DataFrame(
    {"metric": m.label, "family": m.family, "better": m.arrow, "unit": m.unit, "library": m.library}
    for m in INFO.values()
)
missing = here[~here.available]
tiny = sorted(set(here.name[here.available]) - set(usable))
report.table(
    run, "metrics", described,
    f"{len(INFO)} metrics. Not here: " + (", ".join(f"{r.name} ({r.missing})" for r in missing.itertuples(index=False))
                                          or "none") + "."
    + f" Slices are too small for: {', '.join(tiny)}." * bool(tiny),
)  # fmt: skip

# %%
training.seed_everything(seed, threads)
encoder = encoders.load("vgg19", context, layer, None, "x255", seed).to(device)
pixel_terms = losses.build({"mse": 1.0, "l1": 1.0, "charbonnier": 1.0})
vgg_term = losses.build({"vgg": 1.0}, encoder)
LOSSES = {"mse": "MSE", "l1": "L1", "charbonnier": "Charbonnier", "vgg": f"VGG {layer}"}
report.text("Encoder of the VGG loss: " + encoders.describe(encoder))


def scored(pred, targets):
    """Every metric of images (N, H, W) in HU against each of ``targets``, {reference: (N, H, W)}, and against none.

    Returns: columns image, domain, reference, name, value.
    """
    tables = []
    for one in domains:
        domain = intensity.domain(one, level=level, width=width) if one == "window" else intensity.domain(one)
        pairs = [(reference, target, kinds["full-reference"]) for reference, target in targets.items()]
        for reference, target, names in [*pairs, ("none", None, kinds["no-reference"])]:
            if names:
                found = iqa.compute(pred=pred, target=target, names=names, domain=domain, device=device)
                tables.append(found.assign(reference=reference))
    return pd.concat(tables, ignore_index=True).rename(columns={"metric": "name"})


def lost(pred):
    """The losses of whole slices, the VGG loss of their centre, in the columns of ``scored``."""
    whole = [torch.from_numpy(intensity.to_net(x))[:, None].to(device) for x in (pred, ndct)]
    top, left = ((side - min(loss_crop, side)) // 2 for side in pred.shape[1:])
    centre = [x[..., top : top + loss_crop, left : left + loss_crop] for x in whole]
    with torch.no_grad(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
        values = pixel_terms.terms(*whole) | vgg_term.terms(*centre)
    tables = [pd.DataFrame({"image": range(len(v)), "name": k, "value": v.cpu()}) for k, v in values.items()]
    return pd.concat(tables).assign(domain="network", reference="ndct")


def within_brackets(table, form=".2f"):
    """Intervals of a table with columns low and high, in words; a dash where there is none."""
    return ["–" if np.isnan(low) else f"[{low:{form}}, {high:{form}}]" for low, high in zip(table.low, table.high)]


# %% [markdown]
# ## Every metric at every checkpoint
# Also before training, which is the LDCT itself for a residual network. The losses are evaluated on every run, whatever
# it was trained with.


# %%
known = {}  # scores by the images' hash: before training all residual networks give one and the same


def follow(one):
    """Scores of one run at all of its checkpoints."""
    tables = []
    for step in training.checkpoints(one.folder):
        network = training.load_network(one.folder, step).to(device)
        pred = training.predict(network, ldct, batch, precision, device)
        key = hashlib.sha256(pred).digest()
        if key not in known:
            known[key] = pd.concat([scored(pred, references), lost(pred)])
        tables.append(known[key].assign(step=step))
    return pd.concat(tables, ignore_index=True)


def harmed(name, images, strength, lesion=None):
    """``degrade`` for slices (N, H, W) of the cohort, each with its own pixel size and artefacts of its own."""
    parts = [slice(i, i + 1) for i in range(len(images))]
    return np.concatenate([
        degrade(name, images[p], strength, mm, [seed, i], None if lesion is None else lesion[p])
        for i, (p, mm) in enumerate(zip(parts, about.pixel_mm))
    ])  # fmt: skip


CONTROLS = {
    "LDCT": lambda: ldct, "NDCT": lambda: ndct, "NDCT + noise": lambda: ndct + 0.1 * (ldct - ndct),
    "NDCT, blurred": lambda: harmed("blur", ndct, 0.8),
}  # fmt: skip
controls = run.table(
    "controls", lambda: pd.concat([scored(f(), references).assign(control=name) for name, f in CONTROLS.items()])
)
followed = [run.table(f"run_{one.id}", lambda one=one: follow(one)) for one in tqdm(chosen, desc="runs")]
identity = ["domain", "reference", "name"]
curves = pd.concat(
    [
        table.assign(run=one.id, method=name, seed=s)
        for table, one, name, s in zip(followed, chosen, listed.method, listed.seed)
    ],
    ignore_index=True,
)
curves["patient"] = about.patient.to_numpy()[curves.image]
direction = curves.name.map({**{n: m.direction for n, m in INFO.items()}, **dict.fromkeys(LOSSES, -1)})
curves["aligned"] = np.where(direction == 0, -curves.value.abs(), curves.value * direction)
LABEL = LOSSES | {name: m.label for name, m in INFO.items()}
FR = [m if isinstance(m, str) else m.name for m in kinds["full-reference"]]
NR = [m if isinstance(m, str) else m.name for m in kinds["no-reference"]]

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
    f"Each loss on {len(rows)} {split} slices ({split} patients: {patients}; VGG: the central {loss_crop} pixels), for "
    "networks trained with each. "
    f"{own} of {len(LOSSES)} losses end lowest in a network that was trained with them: "
    + ", ".join(f"{LOSSES[name]} in {method}" for name, method in ends.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ### What the networks make of a slice (after the paper's Figure 2)

# %%
showing = int(about.index[about.anatomy == "abdomen"][0]) if (about.anatomy == "abdomen").any() else 0
firsts = [next(one for one, name in zip(chosen, listed.method) if name == method) for method in methods]


def last_predictions():
    """(methods, H, W) float32 HU: the shown slice by the first seed of each method, at its last checkpoint."""
    found = [
        training.predict(training.load_network(f.folder).to(device), ldct[showing], batch, precision, device)
        for f in firsts
    ]
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
# Lines are means over patients and seeds, bands the range over seeds. Dashed: the LDCT. Dotted: blurred NDCT.


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
        for control, style in (("LDCT", "--"), ("NDCT, blurred", ":")):
            axis.axhline(fixed[name, control], color="black", ls=style, lw=1, label=control)
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
            f"{len(names)} {words} metrics on {len(rows)} {split} slices, domain {domains[0]}"
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
order = [*LOSSES, *FR, *NR]


def cube(table, domain, reference):
    """Aligned curves of one run, (steps, patients, quantities) in ``order``, and the steps."""
    wanted = (table.domain == "network") | ((table.domain == domain) & table.reference.isin([reference, "none"]))
    wide = table[wanted].pivot_table(index=["step", "patient"], columns="name", values="aligned", dropna=False)[order]
    steps = wide.index.unique("step")
    return wide.to_numpy().reshape(len(steps), -1, len(order)), steps


def agreements():
    """Spearman and Kendall of every loss with every metric: a row a domain, reference, kind, loss and metric."""
    found, few = [], patients < stats.MIN_PATIENTS
    # the first draw is the plain mean
    people = np.vstack([np.full(patients, 1 / patients), agreement.patient_draws(patients, draws, seed)])
    trained = np.vstack([np.full(len(chosen), 1 / len(chosen)), agreement.patient_draws(len(chosen), draws, seed + 1)])
    for domain in domains:
        for reference in references:
            sets = [cube(table, domain, reference)[0] for _, table in curves.groupby("run", sort=False)]
            for detrend in (False, True):
                for kind, measure in (("spearman", agreement.spearman), ("kendall", agreement.kendall)):
                    own, others = agreement.own_and_others(
                        sets, list(listed.method), len(LOSSES), measure, detrend, people
                    )
                    parts = {name: agreement.over_runs(x, trained) for name, x in
                             (("mean", own), ("others", others), ("gain", own - others))}  # fmt: skip
                    ends = {name: agreement.interval(parts[name][1:], patients) for name in ("mean", "gain")}
                    for (i, loss), (j, name) in itertools.product(enumerate(LOSSES), enumerate([*FR, *NR])):
                        low, high, gain_low, gain_high = (
                            np.nan if few else end[i, j] for both in ends.values() for end in both
                        )
                        found.append({
                            "domain": domain, "reference": reference, "kind": kind, "detrended": detrend,
                            "loss": loss, "metric": name, "mean": parts["mean"][0, i, j], "low": low, "high": high,
                            "others": parts["others"][0, i, j], "gain": parts["gain"][0, i, j],
                            "gain_low": gain_low, "gain_high": gain_high,
                            "lowest_run": np.nanmin(own[:, 0, i, j]), "highest_run": np.nanmax(own[:, 0, i, j]),
                        })  # fmt: skip
    return pd.DataFrame(found)


with warnings.catch_warnings():  # a metric that never changed correlates with nothing
    warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
    agreed = run.table("agreement", agreements)


# %%
def matrix(axis, values, columns, lines, low=-1.0, high=1.0, cmap="RdBu", digits=2):
    """A table of numbers as colours, with the numbers in it."""
    drawn = axis.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axis.set_yticks(range(len(lines)), lines)
    axis.grid(False)
    middle, reach = (low + high) / 2, (high - low) / 2
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(value - middle) > 0.6 * reach if cmap.startswith("RdBu") else value > middle
            shown = f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.0f}"
            axis.text(j, i, shown, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    return drawn


part = agreed[(agreed.domain == domains[0]) & (agreed.reference == main) & (agreed.kind == "spearman")]
SHOWN = (("mean", False, "of curves"), ("mean", True, "of changes between checkpoints"),
         ("gain", True, "of changes, minus that with the metrics of another seed's run"))  # fmt: skip
paired = part.others.notna().any()
figure, axes = plt.subplots(2 + paired, 1, figsize=(0.62 * len([*FR, *NR]) + 2.2, 3.1 * (2 + paired)), sharex=True)
for axis, (value, detrended, title) in zip(axes, SHOWN):
    wide = part[part.detrended == detrended].pivot(index="loss", columns="metric", values=value)
    matrix(axis, wide.loc[list(LOSSES), [*FR, *NR]].to_numpy(), [LABEL[n] for n in [*FR, *NR]], LOSSES.values())
    axis.set_title(f"Spearman correlation {title}, mean over {len(chosen)} runs")
free = [n for n in [*FR, *NR] if n not in ("psnr", "rmse_hu", "nrmse")]
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
    f"Agreement of losses (evaluated on all runs) with metrics, domain {domains[0]}, reference NDCT, {patients} "
    f"{split} patients; 1: they rank checkpoints alike. Median over losses and metrics that are not tied to MSE: "
    f"{typical[False]:.2f}, of the changes {typical[True]:.2f}; of the VGG loss {vgg[False]:.2f} and {vgg[True]:.2f}. "
    + compared,
)  # fmt: skip

# %%
strongest = part[part.detrended].sort_values("gain" if paired else "mean", ascending=False)
table = strongest.assign(
    loss=strongest.loss.map(LOSSES), metric=strongest.metric.map(LABEL), interval=within_brackets(strongest),
    beyond=within_brackets(strongest[["gain_low", "gain_high"]].set_axis(["low", "high"], axis=1)),
).rename(columns={"others": "other seed", "gain": "difference", "beyond": "its interval"})  # fmt: skip
sure = int((strongest.gain_low > 0).sum())
loose = strongest[strongest.metric.isin(free)]
report.table(
    run, "agreement_intervals",
    table[["loss", "metric", "mean", "interval", "lowest_run", "highest_run", "other seed", "difference",
           "its interval"]],
    f"Spearman correlation of the changes between checkpoints, with 95 % intervals over {patients} patients and "
    f"{len(chosen)} runs, and the range over runs. "
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
def restless(domain=domains[0], reference=main):
    """Sign changes, total variation over net change, setbacks and scatter over seed spread, a row a quantity."""
    found = []
    for (identifier, method), table in curves.groupby(["run", "method"], sort=False):
        values = cube(table, domain, reference)[0].mean(axis=1)
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
    f"Medians over {len(chosen)} runs, domain {domains[0]}, reference NDCT. "
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
final = final.groupby([*identity, "method", "patient"]).aligned.mean()


def concordance():
    """W over metrics with its interval, and W over patients for each metric: a row a domain, reference and rater."""
    found = []
    for domain in domains:
        for reference in references:
            names = [*FR, *NR]
            values = np.stack(
                [final[domain, reference if n in FR else "none", n].unstack("patient").to_numpy() for n in names]
            )
            drawn = [agreement.kendall_w(values @ w) for w in agreement.patient_draws(patients, draws, seed)]
            few = patients < stats.MIN_PATIENTS or len(methods) < 2
            low, high = agreement.interval(np.array(drawn), patients) if not few else (np.nan, np.nan)
            found.append(
                {
                    "domain": domain,
                    "reference": reference,
                    "raters": "all metrics",
                    "w": agreement.kendall_w(values.mean(-1)),
                    "low": low,
                    "high": high,
                }
            )
            found += [
                {"domain": domain, "reference": reference, "raters": name, "w": agreement.kendall_w(v.T)}
                for name, v in zip(names, values)
            ]
    return pd.DataFrame(found)


concord = run.table("concordance", concordance)
whole = concord[concord.raters == "all metrics"].set_index(["domain", "reference"])
alone = concord[(concord.domain == domains[0]) & (concord.reference == main) & (concord.raters != "all metrics")]
one = whole.loc[(domains[0], main)]
ranking = pd.DataFrame({
    LABEL[n]: final[domains[0], main if n in FR else "none", n]
    .groupby("method").mean().rank(ascending=False, method="min")
    for n in [*FR, *NR]
}).loc[methods].astype("Int64").T  # fmt: skip
ranking.insert(0, "W over patients", alone.set_index("raters").w.loc[[*FR, *NR]].to_numpy())
concordant = f"The metrics' concordance is W = {one.w:.2f}" if len(methods) > 1 else "One method cannot be ranked"
concordant += f" [{one.low:.2f}, {one.high:.2f}]." if np.isfinite(one.low) else "."
report.table(
    run, "ranks", ranking.rename_axis("metric").reset_index(),
    f"Rank of each method by each metric at the end of training (domain {domains[0]}, reference NDCT, means over "
    f"patients and seeds), and how well the {patients} patients agree on it. {concordant}",
)  # fmt: skip

# %% [markdown]
# ## Which checkpoint would each metric pick, and what does that cost?
# Cost is the share of a metric's whole range over the run's checkpoints that is lost by taking another metric's pick.

# %%
picked, costs = [], []
for (identifier, method, number), table in curves.groupby(["run", "method", "seed"], sort=False):
    values, steps = cube(table, domains[0], main)
    at, cost = agreement.picks(values.mean(axis=1))
    where = [steps[i] if i >= 0 else np.nan for i in at]
    picked.append(pd.DataFrame({"run": identifier, "method": method, "seed": number, "name": order, "step": where}))
    costs.append(cost)
run.table("picks", lambda: pd.concat(picked, ignore_index=True))
with np.errstate(invalid="ignore"):
    cost = np.nanmean(costs, axis=0)
figure, axis = plt.subplots(figsize=(0.55 * len(order) + 2.5, 0.42 * len(order) + 1.6))
matrix(axis, cost, [LABEL[n] for n in order], [LABEL[n] for n in order], 0, 1, "Blues")
axis.set(xlabel="… costs this share of the range by", ylabel="picking the checkpoint by …")
off = cost[: len(LOSSES), len(LOSSES) :]
report.figure(
    run, "picks", figure,
    f"Means over {len(chosen)} runs, domain {domains[0]}, reference NDCT. Picking by a loss costs "
    f"{np.nanmean(off):.0%} of a metric's range on average, at most {np.nanmax(off):.0%}. Costliest pick on average: "
    f"{LABEL[order[int(np.nanargmax(np.nan_to_num(np.nanmean(cost, axis=1))))]]}.",
)  # fmt: skip

# %% [markdown]
# ## Which metrics prefer blur or noise?
# Controls: the NDCT itself, the same with a tenth of the LDCT's extra noise, blurred, and the LDCT.
# The reference is the noise-free truth where there is one, since against the NDCT the NDCT is perfect by definition; a
# light blur may really bring a noisy NDCT nearer to it.

# %%
best_reference = "truth" if truth is not None else "ndct"
judged = controls[(controls.domain == domains[0]) & controls.reference.isin([best_reference, "none"])]
judged = judged.groupby(["name", "control"]).value.mean().unstack()[list(CONTROLS)].loc[[*FR, *NR]]
better = judged.apply(lambda r: pd.Series(agreement.align(r, INFO[r.name].direction), r.index), axis=1)
wrong = {
    c: [LABEL[n] for n in judged.index if better.loc[n, c] > better.loc[n, "NDCT"]]
    for c in list(CONTROLS)
    if c != "NDCT"
}
shown_controls = judged.rename(index=LABEL).rename_axis("metric").reset_index()
shown_controls.insert(1, "better", [INFO[n].arrow for n in judged.index])
report.table(
    run, "controls_shown", shown_controls,
    f"Means over {len(rows)} slices, domain {domains[0]}, reference {best_reference}. Rated above the NDCT: "
    + "; ".join(f"{c} by {', '.join(names) or 'none'}" for c, names in wrong.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ## Metric audit
# Known harm done to the same slices, at known strengths, at each dose. Two answers for each metric: does it fall as the
# harm grows (rank correlation with strength), and by how much, in units of what a quarter of the dose does to it. A
# removed lesion is the harm that a diagnosis depends on.

# %%
ldct_dose = float(about.dose.iloc[0])
twins = (cohort.absent_ndct, cohort.absent_ldct, cohort.absent_truth)  # the same slices and noise, without lesions
absent = None if twins[0] is None else [np.asarray(images[rows], np.float32) for images in twins]
HARMS = {"none": (0.0,)} | {n: (0.0, *d.strengths) if d.lesion == "added" else d.strengths
                            for n, d in DEGRADATIONS.items() if absent or d.lesion is None}  # fmt: skip
# against the NDCT itself an undegraded NDCT is perfect, and nothing can be said of its noise
doses = [a for a in audit_doses if truth is not None or a < 1]
if not doses:
    raise ValueError(f"nothing to audit: audit_doses is {audit_doses}, and without a truth a dose must be under 1")


def audited():
    """Scores of degraded slices against the truth (or the NDCT): a row an image, dose, harm, strength, metric."""
    tables, target = [], references[best_reference]
    jobs = [(a, harm, s) for a in doses for harm, strengths in HARMS.items() for s in strengths]
    jobs += [(ldct_dose, "none", 0.0)] * (ldct_dose not in doses)  # what the sensitivities are measured in
    lesion = truth - absent[2] if absent else None
    for a, harm, strength in tqdm(jobs, desc="audit"):
        images, reference = at_dose(ndct, ldct, ldct_dose, a), target
        if harm == "lesion_added":
            images, reference = at_dose(absent[0], absent[1], ldct_dose, a), absent[2]
        if harm != "none":
            images = harmed(harm, images, strength, lesion)
        tables.append(scored(images, {best_reference: reference}).assign(dose=a, harm=harm, strength=float(strength)))
    return pd.concat(tables, ignore_index=True)


audit = run.table("audit", audited)
audit["patient"] = about.patient.to_numpy()[audit.image]
turn = audit.name.map({n: m.direction for n, m in INFO.items()})
audit["aligned"] = np.where(turn == 0, -audit.value.abs(), audit.value * turn)


# %%
def react():
    """Rank correlation with strength and sensitivity of metrics to harm: a row a domain, dose, harm and metric."""
    found = []
    means = audit.groupby(["domain", "name", "dose", "harm", "strength", "patient"]).aligned.mean()
    for domain in domains:
        for name in [*FR, *NR]:
            at = means[domain, name]
            change = None  # the unit of sensitivities; undefined where dose itself does not move the metric
            if 1.0 in doses:
                change = (at[ldct_dose, "none", 0.0] - at[1.0, "none", 0.0]).to_numpy()
                if not np.isfinite(change).all() or (
                    stats.patient_bootstrap(change, draws=draws, seed=seed).excludes_zero is False
                ):
                    change = None
            for a in doses:
                for harm in list(HARMS)[1:]:
                    start = at[a, harm if harm == "lesion_added" else "none", 0.0]
                    values = np.stack([start, *(at[a, harm, s] for s in DEGRADATIONS[harm].strengths)])  # (4, patients)
                    steps = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
                    rho = agreement.spearman(np.stack([values.T, steps.T], axis=-1))[:, 0, 1]
                    fall, inside = values[0] - values[-1], None
                    if change is not None and np.isfinite(fall).all():
                        inside = agreement.quotient(fall, change, draws=draws, seed=seed)
                    found.append(
                        {"domain": domain, "dose": a, "harm": harm, "metric": name}
                        | {"rho": np.nanmean(rho) if np.isfinite(rho).any() else np.nan}
                        | {k: getattr(inside, v, np.nan) for k, v in
                           (("sensitivity", "mean"), ("low", "low"), ("high", "high"))}
                    )  # fmt: skip
    return pd.DataFrame(found)


reactions = run.table("reactions", react)
harms, audited_dose = list(HARMS)[1:], max(doses)
part = reactions[(reactions.domain == domains[0]) & (reactions.dose == audited_dose)]
harm_labels = [f"{DEGRADATIONS[h].label}\n{DEGRADATIONS[h].strengths[-1]:g} {DEGRADATIONS[h].unit}" for h in harms]
figure, axes = plt.subplots(1, 2, figsize=(13, 0.34 * len([*FR, *NR]) + 2.0), sharey=True)
for axis, value, title, reach in (
    (axes[0], "sensitivity", f"fall, in units of a dose of {ldct_dose:g}", 1),
    (axes[1], "rho", "rank correlation with strength", 1),
):
    wide = part.pivot(index="metric", columns="harm", values=value).loc[[*FR, *NR], harms].to_numpy()
    matrix(
        axis,
        wide,
        harm_labels,
        [LABEL[n] for n in [*FR, *NR]],
        -reach,
        reach,
        "RdBu_r" if value == "sensitivity" else "RdBu",
    )
    axis.set_title(title)
removed = part[part.harm == "lesion_removed"].set_index("metric") if absent else None
known = None if removed is None else removed.dropna(subset="low")
blind = [] if known is None else [LABEL[n] for n in known.index if known.low[n] > -0.05 and known.high[n] < 0.05]
fooled = part[(part.high < 0) & part.harm.isin(["unsharp", "texture", "blur"])]
told = "No sensitivities: they need dose 1, a noise-free truth and six patients. "
if part.low.notna().any():
    told = (
        (f"Removing every lesion moves {len(blind)} of {len(known)} metrics by less than .05, interval and all. "
         if absent else "")
        + "Called an improvement, the interval below 0: "
        + ("; ".join(f"{DEGRADATIONS[h].label} by {LABEL[m]}" for h, m in zip(fooled.harm, fooled.metric))
           or "none of blur, unsharp masking and invented texture") + ". "
    )  # fmt: skip
report.figure(
    run, "audit", figure,
    f"What each metric makes of harm at its greatest strength, dose {audited_dose:g}, domain {domains[0]}, reference "
    f"{best_reference}; means over {patients} patients. Left: 1 is as much as a dose of {ldct_dose:g} costs (itself "
    "unsure, which the intervals contain), negative: the metric calls the harm an improvement, empty: dose does not "
    "move it. Right: -1 falls with every step. " + told,
)  # fmt: skip

# %%
shown_reactions = part.assign(
    harm=part.harm.map({n: d.label for n, d in DEGRADATIONS.items()}), metric=part.metric.map(LABEL),
    interval=within_brackets(part, ".3g"),
)  # fmt: skip
report.table(
    run,
    "reactions_shown",
    shown_reactions[["metric", "harm", "sensitivity", "interval", "rho"]],
    f"The figure's numbers, with 95 % intervals over {patients} patients. All doses and domains: `reactions.parquet`.",
)

# %% [markdown]
# ## Does a metric follow the diagnosis?
# d' of a channelised Hotelling observer says how well lesions in a simulated liver are detected in images with the same
# harm. Over doses pooled, anything that reacts to noise follows d'; the question is whether it does so *within* one
# dose. d' is of lesions at known places in known surroundings: harm to the surroundings that a reader would mistake for
# disease is outside of what it sees. Many kinds of harm leave d' as it was, and the order of equal numbers is noise: d'
# that differ by less than their standard error share a rank. Which harms are on the list is our choice, and so is,
# through it, the correlation.

# %%
LESIONS = tuple(detection.Lesion(*one) for one in ((1.0, -25.0), (2.0, -9.0), (4.0, -3.0)))  # as in 04b_dose
REGION = 33  # pixels around a lesion that the observer sees


def detect_all():
    """d' of every lesion in every simulated liver, at every dose, under every harm."""
    found = []
    livers = detection.patients(tasks, LESIONS, seed=seed)
    for number, (body, crop, places) in enumerate(tqdm(livers, total=tasks, desc="livers")):
        scan = detection.ensemble(
            body.absent_scene[0],
            body.pixel_mm,
            crop,
            LESIONS,
            places,
            realisations,
            [seed, number],
            chosen[0].params["kernel"],
        )
        channels = [observers.laguerre_gauss(REGION, 2 * one.radius_mm / body.pixel_mm + 6) for one in LESIONS]
        for a in doses:
            plain = [scan.images(present, a) for present in (False, True)]
            for harm, strengths in HARMS.items():
                for strength in strengths:
                    classes = [
                        image if harm == "none" or (harm == "lesion_removed" and not present)
                        or (harm == "lesion_added" and present)
                        else degrade(harm, image, strength, body.pixel_mm, [seed, number, present], scan.signals.sum(0))
                        for present, image in enumerate(plain)
                    ]  # fmt: skip
                    for index, lesion in enumerate(LESIONS):
                        answers = [observers.respond(scan.region(c, index, REGION), channels[index]) for c in classes]
                        seen = observers.detect(*answers)
                        found.append(
                            {"liver": number, "dose": a, "harm": harm, "strength": strength, "lesion": lesion.text,
                             "d_prime": seen.d_prime, "low": seen.d_low, "high": seen.d_high, "auc": seen.auc}
                        )  # fmt: skip
    return pd.DataFrame(found)


d_prime = run.table("d_prime", detect_all) if tasks else None


# %%
def standard_errors():
    """Standard error of d', mean over lesions and livers, from the jackknife intervals: by dose, harm and strength."""
    halves = (d_prime.high - d_prime.low) / 2 / student.ppf(0.975, observers.GROUPS - 1)
    halves = (halves**2).groupby([d_prime.dose, d_prime.harm, d_prime.strength])
    return np.sqrt(halves.mean() / halves.count())


def follow_diagnosis():
    """Spearman correlation of each metric with d' over the harms, within each dose and pooled: a row a metric."""
    found, keys = [], ["dose", "harm", "strength"]
    detected = d_prime.groupby([*keys, "liver"]).d_prime.mean().unstack("liver")
    detected = detected[
        ~(
            (detected.index.get_level_values("harm") == "lesion_added")
            & (detected.index.get_level_values("strength") == 0)
        )
    ]
    unsure = standard_errors().loc[detected.index].to_numpy()
    weights = agreement.patient_draws(patients, draws, seed)
    livers = agreement.patient_draws(tasks, draws, seed + 1)
    means = audit[audit.domain == domains[0]].groupby(["name", *keys, "patient"]).aligned.mean().unstack("patient")
    for name in [*FR, *NR]:
        values = means.loc[name].loc[detected.index].to_numpy()
        for label, part in [
            *((a, detected.index.get_level_values("dose") == a) for a in doses),
            *([("pooled", slice(None))] if len(doses) > 1 else []),
        ]:
            width, d = np.median(unsure[part]), detected.to_numpy()[part]
            pair = np.stack([values[part] @ weights.T, agreement.tied(d @ livers.T, width)], axis=-1)
            drawn = agreement.spearman(pair.transpose(1, 0, 2))[:, 0, 1]
            ranks = agreement.tied(d.mean(1), width)
            middle = np.stack([values[part].mean(1), ranks], axis=-1)[None]
            least = min(patients, tasks)
            low, high = agreement.interval(drawn, least) if least >= stats.MIN_PATIENTS else (np.nan, np.nan)
            found.append(
                {
                    "metric": name,
                    "within": str(label),
                    "rho": agreement.spearman(middle)[0, 0, 1],
                    "low": low,
                    "high": high,
                    "conditions": len(ranks),
                    "told_apart": int(ranks.max()) + 1,
                    "d_se": width,
                }
            )
    return pd.DataFrame(found)


followers = None
if tasks:
    followers = run.table("diagnosis", follow_diagnosis)
    withins = [*map(str, doses), *(["pooled"] if len(doses) > 1 else [])]
    wide = followers.pivot(index="metric", columns="within", values="rho").loc[[*FR, *NR], withins]
    shown_d = (
        wide.rename(index=LABEL, columns={str(a): f"dose {a:g}" for a in doses}).rename_axis("metric").reset_index()
    )
    for a in doses:
        one = followers[followers.within == str(a)].set_index("metric").loc[[*FR, *NR]]
        shown_d[f"interval, dose {a:g}"] = within_brackets(one)
    one_metric = followers.drop_duplicates("within").set_index("within")
    told_apart = [(a, *one_metric.loc[str(a), ["conditions", "told_apart", "d_se"]]) for a in doses]
    clean = d_prime[d_prime.harm == "none"].groupby("dose").d_prime.mean()
    within = wide[[*map(str, doses)]].mean(axis=1)
    follows = f"{within.median():.2f} within one dose"
    follows += f" and {wide['pooled'].median():.2f} with doses pooled" if len(doses) > 1 else ""
    report.table(
        run, "diagnosis_shown", shown_d,
        f"Rank correlation of metrics with d' over {len(HARMS) - 1} kinds of harm, which are our choice. Of the d' of "
        f"{told_apart[0][1]:.0f} conditions are told apart: "
        + ", ".join(f"{ranks:.0f} at dose {a:g} (standard error {se:.2f})" for a, _, ranks, se in told_apart)
        + ". d' without harm: "
        + ", ".join(f"{v:.2f} at dose {a:g}" for a, v in clean.items())
        + f" (mean of {len(LESIONS)} lesions in {tasks} livers, {realisations} realisations a class). Median over "
        f"metrics: {follows}; best within a dose: {LABEL[within.idxmax()]}. Intervals, where there are "
        f"{stats.MIN_PATIENTS} of each: {patients} patients and {tasks} livers drawn.",
    )  # fmt: skip

    figure, axis = plt.subplots(figsize=(9, 3.6))
    means = d_prime[d_prime.dose == audited_dose].groupby(["harm", "strength"]).d_prime.mean()
    base = means["none", 0.0]
    for index, harm in enumerate(harms):
        values = [base, *(means[harm, s] for s in DEGRADATIONS[harm].strengths)]
        at = np.arange(len(values)) + 0.05 * (index - (len(harms) - 1) / 2)  # side by side, where they coincide
        style = {"marker": "osD^vP*X"[index], "ls": "-" if index < 4 else "--", "color": plots.COLOURS[index]}
        axis.plot(at, values, lw=1.2, ms=5, label=DEGRADATIONS[harm].label, **style)
    axis.set(xticks=range(4), xlabel="step of strength", ylabel="d'", ylim=(min(0, axis.get_ylim()[0]), None))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ignored = [DEGRADATIONS[h].label for h in harms if abs(means[h, DEGRADATIONS[h].strengths[-1]] / base - 1) < 0.1]
    report.figure(
        run, "d_prime_under_harm", figure,
        f"Detectability of {' and '.join(one.text for one in LESIONS)} in the liver at dose {audited_dose:g}, "
        f"mean over {tasks} livers. Harm that changes it by less than a tenth: {', '.join(ignored) or 'none'}.",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
final_losses = curves[(curves.domain == "network") & (curves.name == "mse")]
hu = curves[(curves.name == "rmse_hu") & (curves.domain == "hu") & (curves.reference == "ndct")]
assert curves.patient.nunique() == patients and set(curves.run) == {one.id for one in chosen}
assert np.isfinite(final_losses.value).all(), "a loss is not finite"
trained_on = set(cohort.slices[cohort.slices.split == "train"].patient)
assert split == "train" or trained_on.isdisjoint(about.patient), "a patient that is scored was trained on"
if not hu.empty and "psnr" in FR:  # PSNR and RMSE say the same about every image
    psnr = curves[(curves.name == "psnr") & (curves.domain == "hu") & (curves.reference == "ndct")]
    both = hu.merge(psnr, on=["run", "step", "image"], suffixes=("", "_psnr"))
    assert np.allclose(both.value_psnr, 20 * np.log10(intensity.HU_SPAN / both.value)), "PSNR and RMSE disagree"

run.finish(
    cohort=cohort.id, runs=len(chosen), methods=len(methods), slices=len(rows), patients=int(patients),
    metrics=len(INFO), unavailable=list(missing.name), encoder=encoder.provenance, agreement=float(typical[False]),
    agreement_of_changes=float(typical[True]), agreement_with_other_seed=float(between[False]) if paired else None,
    agreement_of_changes_with_other_seed=float(between[True]) if paired else None,
    concordance=float(whole.w[domains[0], main]),
    blind_to_lesions=len(blind) if absent else None,
    d_prime_pooled=None if followers is None else float(wide[withins[-1]].median()),
    d_prime_within=None if followers is None else float(within.median()),
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** Over checkpoints losses and metrics correlate by {typical[False]:.2f} in the median, their "
    f"changes by {typical[True]:.2f}. "
    + (f"With the metrics of another seed's training it is {between[False]:.2f} and {between[True]:.2f}: that much is "
       "the course of any such training. " if paired else "")
    + f"About the final networks: {concordant[0].lower()}{concordant[1:]} "
    + (f"{len(blind)} of {len(known)} metrics hardly notice that every lesion was removed. " if blind else "")
    + (f"Their correlation with d', over the harms that we chose, is {follows}. " if tasks else "")
    + f"One limit: {patients} patients, and degradations that are ours to choose. Next: `04b_dose` asks how much "
    "dose a denoiser buys."
)  # fmt: skip
