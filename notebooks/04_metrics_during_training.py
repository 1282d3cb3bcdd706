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
# **Question.** Do losses and metrics agree, from checkpoint to checkpoint and about the networks that come out? Which
# metrics reverse often, and what does it cost to pick a checkpoint by one of them?
#
# **Reads** checkpoints of `03_train` runs and, if given, models of `04a_ct_niqe` and `08a_train_quality`. **Writes**
# `run_<id>.parquet` (scores by checkpoint) and tables of agreement. **Cost** 45 s a run of 11 checkpoints, on one core.
#
# SSIM in the domain `hu` is a mean squared error in disguise: its constant C2 is far larger than soft tissue's
# contrasts. So SSIM (window) stands beside it. After Taifour et al. (arXiv 2511.00698); what they leave open we chose.

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

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.audit import agreement, reactions, scoring, trainings
from ldct_utils.ct import intensity
from ldct_utils.models import encoders
from ldct_utils.report import metric_words, sentences
from ldct_utils.report.drawings import slices as pictures
from ldct_utils.report.drawings import trainings as drawings
from ldct_utils.study.runs import select
from ldct_utils.training import checkpoints, designs, prediction, setup, validation

# %% [markdown]
# ## The runs and their slices
# A *method* is everything that was chosen about a run except its seed. All runs must share one cohort. Unless `split`
# is train, no run was trained on these patients; `test_source` takes another cohort.

# %%
setup.seed_everything(seed, threads)
chosen, listed, varying = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
scored, whose = cohorts.tested_on(cohort, test_source, test_root), "test" if test_source else split
about = scoring.slices(scored, whose, slices)
rows, patients = about.row.to_numpy(), about.patient.nunique()
ldct, ndct = (np.asarray(images[rows], np.float32) for images in (scored.ldct, scored.ndct))
listed["checkpoints"] = steps = checkpoints.in_step(chosen)

# %%
references = {"ndct": ndct} | ({} if scored.truth is None else {"truth": np.asarray(scored.truth[rows], np.float32)})
names = {method: designs.spoken(method) for method in dict.fromkeys(listed.method)}
people = report.plural(patients, f"{'validation' if whose == 'val' else whose} patient")
over_runs = report.plural(len(chosen), "run")
run.table("runs", lambda: listed)
report.table(
    run, "runs", listed.replace({"method": names}), f"We watch {over_runs} of {report.plural(len(names), 'method')}.",
    f"Scored slices: {len(rows)}, of {people}. What differs beside loss and seed: {report.listed(varying, 'nothing')}.",
    {"run": "run", "method": "method", "seed": "seed", "checkpoints": "checkpoints"},
)  # fmt: skip

# %% [markdown]
# ## The metrics and the losses
# Metrics are computed in the evaluation domain. All losses are computed for every run, in the network range, VGG on the
# slices' centre. Charbonnier is a smooth L1. VIFp (Eulig) is VIFp as the LDCT benchmark of Eulig et al. (2024) computes
# it, with the two images swapped.

# %%
fitted = {"ct_niqe": ct_niqe, "n2q": n2q}
scorer = scoring.choose(run, metrics, fitted, cohort, domains, level, width, device, scored)
INFO, NAMES = scorer.info, list(scorer.info)
report.table(run, "metrics", scorer.described, scorer.said, scorer.absent)

# %%
setup.seed_everything(seed, threads)
encoder = encoders.load("vgg19", context, layer, None, "x255", seed).to(device)
LOSSES = {"mse": "MSE", "l1": "L1", "charbonnier": "Charbonnier", "vgg": f"VGG {layer}"}
LABEL = LOSSES | {name: metric.label for name, metric in INFO.items()}
order, free = [*LOSSES, *NAMES], scoring.free(NAMES)  # free: no formula ties them to the MSE
report.text("Encoder of the VGG loss: " + encoders.describe(encoder))

# %% [markdown]
# ## Every metric at every checkpoint
# Also before training, which is the LDCT itself for a residual network. Beside them stand two controls of known damage.

# %%
known = {}  # scores by the images' hash: before training all residual networks give one and the same


def follow(one):
    """Scores of one run at all of its checkpoints."""
    tables = []
    for step in checkpoints.checkpoints(one.folder):
        pred = prediction.denoiser(one, batch, precision, device, step)(ldct)
        key = hash(pred.tobytes())
        if key not in known:
            lost = validation.slice_losses(pred, ndct, encoder, loss_crop, precision, device)
            known[key] = pd.concat([scorer.score(pred, references), lost])
        tables.append(known[key].assign(step=step))
    return pd.concat(tables, ignore_index=True)


# %%
beside = {n: x for n, x in reactions.controls(ldct, ndct, about.pixel_mm).items() if n in drawings.STYLE}
controls = run.table(
    "controls", lambda: pd.concat([scorer.score(x, references).assign(control=name) for name, x in beside.items()])
)
followed = [run.table(f"run_{name}", lambda one=one: follow(one)) for name, one in zip(tqdm(listed.run), chosen)]
curves = trainings.joined(followed, listed, about.patient)
direction = {name: metric.direction for name, metric in INFO.items()} | dict.fromkeys(LOSSES, -1)
curves["aligned"] = agreement.align(curves.value, curves.name.map(direction))

# %% [markdown]
# ## During training (after the paper's Figures 1 to 4)
# First the losses, then what the networks make of a slice, then the metrics. A blurred NDCT needs the pixel size.

# %%
own = {LOSSES[name]: verdict for name, verdict in trainings.in_their_own(curves, LOSSES).items()}
report.figure(
    run, "losses", drawings.losses(curves[curves.domain == "network"], LOSSES, names), metric_words.in_their_own(own),
    f"Means over seeds and {people}. Lines that cover each other differ by less than can be seen.",
    alt="Line plots over updates, a panel a loss, a line a method: each loss relative to before training.",
)  # fmt: skip
shown = int((about.anatomy == "abdomen").argmax())  # the first of the abdomen, else the first


def last_predictions():
    """(methods, H, W) float32 HU: the shown slice by the first seed of each method, at its last checkpoint."""
    firsts = (prediction.denoiser(chosen[list(listed.method).index(m)], batch, precision, device) for m in names)
    return np.stack([denoise(ldct[shown]) for denoise in firsts]).astype("f4")


outputs = {"LDCT": ldct[shown]} | dict(zip(names.values(), run.array("reconstructions", last_predictions)))
report.figure(
    run, "reconstructions", pictures.grid(pictures.errors(scored, rows[shown], outputs), 2.3, across=5),
    metric_words.least_error({name: pictures.rms(image - ndct[shown]) for name, image in outputs.items()}),
    "Below: each image minus the NDCT, on one scale. The first seed of each method; circles mark known lesions.",
    alt="CT images of one slice: LDCT, a network of each method, NDCT; below, each minus the NDCT in colour.",
)  # fmt: skip

# %%
for of, stem, reference in [("full-reference", "full_reference", "ndct"), ("no-reference", "no_reference", "none")]:
    part, fixed = (t[(t.domain == domains[0]) & (t.reference == reference)] for t in (curves, controls))
    panels = {n: (f"{LABEL[n]} {INFO[n].arrow}", INFO[n].unit) for n in scorer.of(of)}
    if panels:
        rose = {LABEL[name]: did for name, did in trainings.improved(part, panels).items()}
        found, missed = sentences.improved(rose, of)
        report.figure(
            run, stem, drawings.metrics(part, fixed, panels, names), found,
            f"{missed} Lines: means over {people} and seeds; bands: range over seeds. Black, or numbers at the edge: "
            f"{'; '.join(beside)}.".strip(),
            alt="Line plots over updates, a panel a metric, a line a method, bands over seeds, controls in black.",
        )  # fmt: skip

# %% [markdown]
# ## Do losses and metrics agree?
# Per run: rank correlation over checkpoints of each loss with each metric. Any two curves that improve correlate, and
# so do their *changes*, since steps shrink. As a control, losses of one run meet metrics of *another* of its method.
# Only agreement beyond that ties a metric to a loss.

# %%
given = curves, list(listed.method), LOSSES, NAMES, domains, references, draws, seed
agreed = run.table("agreement", lambda: trainings.agreements(*given))
part = agreed[(agreed.domain == domains[0]) & (agreed.reference == "ndct") & (agreed.kind == "spearman")]
typical, between = (trainings.typical(part, free, column) for column in ("mean", "others"))
paired = part.others.notna().any()
within, apart = (report.number(value[True], 2) for value in (typical, between))
control = f"with another training's metrics by {apart}" if paired else "no method has two seeds as a control"
together = f"From checkpoint to checkpoint, changes of losses and metrics correlate by {within} (median; {control})."
together = together if np.isfinite(typical[True]) else "Changes from checkpoint to checkpoint cannot be correlated."
same = report.listed([LABEL[name] for name in NAMES if name not in free], none="nothing")

# %%
report.figure(
    run, "agreement", drawings.agreement(trainings.tables(part, LOSSES, NAMES), LABEL),
    together, "Positive: both get better together, whichever way is better. Means over "
    f"{over_runs}. The medians leave out what is the MSE in other units ({same}).",
    alt="Tables in colour, losses by metrics: rank correlation of curves, of changes, and beyond another training.",
)  # fmt: skip

# %%
pairs = part[part.detrended].sort_values("gain" if paired else "mean", ascending=False)
sure, judged = pairs[pairs.gain_low > 0], int(pairs.gain_low.notna().sum())
report.table(
    run, "agreement_intervals", pairs.replace({"loss": LABEL, "metric": LABEL}),
    metric_words.tighter(len(sure), judged, len(sure[sure.metric.isin(free)])),
    f"95 % intervals over {people} and trainings, of {judged} of {report.plural(len(pairs), 'pair')}.",
    metric_words.known(pairs, {
        "loss": "loss", "metric": "metric", ("mean", "low", "high"): "correlation of changes",
        "others": "with another seed", ("gain", "gain_low", "gain_high"): "difference"}),
)  # fmt: skip

# %% [markdown]
# ## Which metrics reverse often?
# We count reversals, of those that are possible (white noise: 2/3). The path is all movement added up; over the net
# change it is 1 for a curve that never turns. Setbacks (movement against the net change) and scatter (second half, from
# 11 checkpoints on) are in SDs between seeds. Above 1, the choice of the checkpoint matters more than the seed.

# %%
erratic = run.table("erratic", lambda: trainings.erratic(curves, order, domains[0]))
reverse = metric_words.reversals(dict(zip([LABEL[name] for name in order], erratic.turns)))
report.table(
    run, "erratic_shown", erratic.replace({"name": LABEL}).sort_values("turns", ascending=False), reverse,
    f"Medians over {over_runs} of {report.plural(steps, 'checkpoint')}. Columns that these cannot fill are left out.",
    metric_words.known(erratic, {
        "name": "loss or metric", "turns": "reversals, of those possible", "roughness": "path over net change",
        "setback_over_seed_sd": "setbacks, SDs between seeds", "jitter_over_seed_sd": "scatter, SDs between seeds"}),
)  # fmt: skip

# %% [markdown]
# ## Do metrics agree about the final networks?
# Kendall's W is 1 if all raters rank the methods alike. Raters are the metrics and, by each metric alone, patients.

# %%
given = trainings.at_the_end(curves), NAMES, scorer.of("full-reference")
concord = run.table("concordance", lambda: trainings.concordance(*given, domains, references, draws, seed))
of_first = concord[(concord.domain == domains[0]) & (concord.reference == "ndct")].set_index("raters")
ranking = trainings.ranks(*given, domains[0])[list(names)]
ranking.insert(0, "W over patients", of_first.w.loc[NAMES].to_numpy())
agree = metric_words.concord(*of_first.loc["all metrics", ["w", "low", "high"]], len(names))

# %%
report.table(
    run, "ranks", ranking.rename(index=LABEL).rename_axis("metric").reset_index(), agree,
    f"Ranks at the end of training, 1 is best; no difference is tested. First: W of {people} as raters.",
    {"metric": "metric", "W over patients": "agreement of patients, W"} | names,
)  # fmt: skip

# %% [markdown]
# ## Which checkpoint would each metric pick, and what does that cost?
# Cost: the share of a metric's whole range over the run's checkpoints that is lost by taking another metric's pick.

# %%
picked, cost = trainings.picks(curves, order, domains[0])
run.table("picks", lambda: picked)
off = dict(zip(NAMES, cost[: len(LOSSES), len(LOSSES) :].T))
full, without = ({LABEL[n]: off[n] for n in scorer.of(f"{of}-reference")} for of in ("full", "no"))
costs = metric_words.cost_of_losses(full, without)
report.figure(
    run, "picks", drawings.picks(cost, [LABEL[n] for n in order]), costs,
    f"{metric_words.untrained(picked, LABEL)} Means over {over_runs}; 0 is best.".strip(),
    alt="Table in colour: what picking the checkpoint by each loss or metric costs by every other, in percent.",
)  # fmt: skip

# %% [markdown]
# ## Checks
# %%
trained_on = set(cohort.slices[cohort.slices.split == "train"].patient)
assert curves.patient.nunique() == patients and set(curves.run) == set(listed.run)
assert np.isfinite(curves[(curves.domain == "network") & (curves.name == "mse")].value).all(), "a loss is not finite"
assert whose == "train" or test_source or trained_on.isdisjoint(about.patient), "a scored patient was trained on"
assert trainings.psnr_is_rmse(curves, intensity.HU_SPAN), "PSNR and RMSE disagree about an image"
run.finish(
    cohort=scored.id, runs=len(chosen), methods=len(names), slices=len(rows), patients=int(patients),
    metrics=len(INFO), unavailable=list(scorer.missing.name), encoder=encoder.provenance,
    agreement=float(typical[False]), agreement_of_changes=float(typical[True]),
    agreement_with_other_seed=float(between[False]) if paired else None, concordance=float(of_first.w["all metrics"]),
    agreement_of_changes_with_other_seed=float(between[True]) if paired else None,
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {together} {agree} {reverse} {costs} One limit: {report.plural(steps, 'checkpoint')} a run and "
    f"{people}; and metrics that agree need not be right. Next: `04c_metric_audit`."
)
