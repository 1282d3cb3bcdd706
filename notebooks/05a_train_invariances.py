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
# # 05a · Learning to draw what a denoiser cannot see
# **Question.** Given a denoiser f and a low-dose patch x: which other patches that look like low-dose CT does f turn
# into the same output? A model is trained to draw them. Whether they are what they claim to be is for `05_invariances`.
#
# **Reads** a finished `03_train` run, its cohort, and for the flow the VAE of another run of this notebook. **Writes**
# `model.safetensors`, `history.parquet`, `samples.npy`. **Cost** of the defaults: about 4 minutes on one core; a flow
# spends one more on its controls.
# Killed at any moment, the same command goes on where it was.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/05a_train_invariances/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
denoiser: str = "adhoc/03_train/*"  # f: a run folder of 03_train, or a pattern that one run matches
checkpoint: Optional[int] = None  # its checkpoint, by updates; None takes the last
# the model
model: str = "vae"  # vae, flow (needs a vae) or generator
vae: Optional[str] = None  # for the flow: run folder of this notebook with the VAE of the same denoiser
size: str = "small"  # of vae and flow: small (for CPUs) or published
patch_size: int = 32  # rows and columns of a patch: 32, 64 or 128; the publication has 128
settings: dict = {}  # other settings of the model, a mapping; see its build function
perceptual: bool = False  # vae: add the VGG-16 term of the publication (context below)
adversarial: bool = False  # vae: add the critic of the publication
context: str = "auto"  # of the VGG-16: imagenet, random, a weights file, or auto (imagenet if it is here, else random)
kl: Optional[float] = None  # vae: weight of the KL divergence; None takes 1e-6 if small, else the published .575
alpha: float = 0.1  # generator: weight of the change, in (0, 1): the share of its power that f may pass on
beta: float = 0.1  # generator: weight of the critic
diversity: float = 0.1  # generator: weight of the term against mode collapse
scale_hu: float = 25.0  # generator: RMS change at which its bounded distance is 1/2, HU
# training
batch: int = 16  # patches an update; published: 64 (vae), 128 (flow)
max_steps: int = 3000  # updates; a generator and a flow need a third of them
lr: Optional[float] = None  # of Adam; None takes 1e-3 for small models and 1e-5, as published, for published ones
schedule: str = "cosine"  # of the learning rate: constant, or cosine (half a wave, to 0 after the last update)
warmup: int = 50  # updates over which it rises from 0
betas: list = [0.9, 0.999]  # decay rates of Adam; published: 0.5, 0.999 for the vae
seed: int = 0  # seeds weights, patches and samples
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all
# records
log_every: int = 25  # updates a row of the history
save_every_s: float = 30.0  # seconds between states to resume from
val_patches: int = 64  # validation patches that the model is looked at on
samples: int = 16  # draws a patch
control_updates: list = [
    200,
    300,
]  # flow: of a small VAE and its flow, for each control with a known answer; [] leaves them out

# %%
from ldct_utils.study import runs

run = runs.start("05a_train_invariances", globals())

# %%
import time
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import patches
from ldct_utils.ct import intensity
from ldct_utils.invariance import distances, flow, generate, known, models
from ldct_utils.invariance import vae as cvae
from ldct_utils.models import encoders
from ldct_utils.report import plots
from ldct_utils.study import files
from ldct_utils.training import checkpoints, setup
from ldct_utils.training.history import History

setup.seed_everything(seed, threads)
setup.learning_rate(schedule, 1.0, 0, 1, warmup)  # an unknown schedule must not wait for the cohort
if model not in models.KINDS:
    raise ValueError(f"model is {', '.join(models.KINDS)}, not {model!r}")
if (vae is not None) != (model == "flow"):
    raise ValueError(f"vae is the run folder of a VAE and belongs to model=flow, which needs one; this is {model}")
if control_updates and (len(control_updates) != 2 or min(control_updates) < 1):
    raise ValueError(f"control_updates are those of the VAE and of the flow, both at least 1, not {control_updates!r}")
FLOW_SIZES = {"published": {}, "small": {"blocks": 6, "width": 128, "depth": 2, "condition": 32, "embed": 8}}
peak = lr if lr is not None else 1e-5 if size == "published" and model != "generator" else 1e-3

# %% [markdown]
# ## The denoiser and its patches
# f is frozen. The model sees patches of the patients that f was trained on, and is looked at on the validation
# patients; the test patients wait for `05_invariances`.

# %%
trained = runs.load(denoiser)
cohort = cohorts.of(trained)
f = checkpoints.load_network(trained.folder, "last" if checkpoint is None else checkpoint)
updates_of_f = max(checkpoints.checkpoints(trained.folder)) if checkpoint is None else checkpoint
f = f.requires_grad_(False).to(device, memory_format=torch.channels_last)
train_rows, val_rows = cohort.rows("train"), cohort.rows("val")
note = ""
if not len(val_rows):
    val_rows, note = train_rows, " It has no validation patients: what is shown below are training patches."
sampler = patches.Sampler(cohort, train_rows, patch_size, None, batch, seed)
report.text(
    f"Denoiser: {trained.params['network']}, loss {trained.params['loss']}, run {trained.name}. Cohort {cohort.id}: "
    f"{report.plural(len(train_rows), 'slice')} for training.{note}"
)

# %% [markdown]
# ## The model
# Three of them, of two generations:
#
# - `generator`: g(z | x) draws a changed patch. It minimises d(f(x), f(g)) − α d(x, g) − β C(g), where the critic C
#   is *high* for what looks like an LDCT patch. The slides print +β C, which is the same if C says how unreal a patch
#   is. Nothing there keeps g from ignoring z; here a term rewards draws that differ.
# - `vae`: z holds what f(x) does not say about x. Encoder and decoder both see f(x), so what they need not store in z
#   is what f lets through.
# - `flow`: an invertible map, given f(x), from z to v that is normally distributed. Draw v, go back, decode: every
#   patch so made is, for the flow, as likely as x, and f ought to map all of them to f(x).
#
# The published flow reports a log-determinant of zero for a leaky ReLU that shrinks negative values, so its likelihoods
# are biased; its samples are not. The determinant here is that of the map (`tests/test_invariance_flow.py`).

# %%
setup.seed_everything(seed, threads)
common = {"lr": peak, "betas": tuple(betas), "precision": precision, "device": device}
if model == "vae":
    net = cvae.build(size, patch_size, **settings)
    seen = (
        encoders.load("vgg16", context, list(cvae.PERCEPTUAL_LAYERS), convention="plain", seed=seed)
        if perceptual
        else None
    )
    # Published are trainings of 200,000 updates; with their KL a short one ends with a z that says nothing of x.
    weights = {"kl": kl} if kl is not None else {"kl": 1e-6} if size == "small" else {}
    step = cvae.TrainVAE(f, net, cvae.critic(net) if adversarial else None, seen, weights, **common)
    if perceptual:
        report.text("Encoder: " + encoders.describe(seen))
elif model == "flow":
    stored = runs.load(vae)
    if (stored.numbers["denoiser"], stored.numbers["updates_of_f"]) != (trained.id, updates_of_f):
        raise ValueError(f"the VAE {vae} belongs to the denoiser {stored.params['denoiser']}, not to {denoiser}")
    coder = models.load(stored.folder, "vae")
    net = flow.build(**({"dim": coder.dim, "patch": coder.patch} | FLOW_SIZES[size] | settings))
    step = flow.TrainFlow(f, coder, net, **common)
else:
    net = generate.build(**settings)
    step = generate.Natural(
        f, net, generate.critic(), distances.build("mse", scale_hu), alpha, beta, diversity, **common
    )
count = sum(p.numel() for p in net.parameters())
print(f"{model}: {count:,} parameters, patches of {patch_size} pixels, {precision} on {device}, lr {peak:g}")

# %% [markdown]
# ## Training
# As in `03_train`: a batch, an update, a row of the history now and then, and a state from which a killed run goes on
# to the very same numbers.

# %%
history = History(batch, step.falling)
done = checkpoints.resume(run.folder, run.id, step=step, sampler=sampler, history=history)
saved = time.monotonic()
history.paused()
with tqdm(total=max_steps, initial=done, unit="update", mininterval=1) as bar:
    while done < max_steps:
        step.lr = setup.learning_rate(schedule, peak, done, max_steps, warmup)
        terms = step.update(*sampler.next())
        done += 1
        history.add(done, terms)
        bar.update()
        if done % log_every and done < max_steps:
            continue
        history.row(step.weights, step.lr)  # raises if a term is not finite or has diverged
        if done == max_steps or time.monotonic() - saved > save_every_s:
            checkpoints.save(run.folder, run.id, done, step=step, sampler=sampler, history=history)
            saved = time.monotonic()
        history.paused()
net.eval()
curves = history.table()
if not run.finished:
    files.write_parquet(run.folder / "history.parquet", curves)
    models.write(run.folder, model, net)

# %%
names = list(step.weights)
figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.8), squeeze=False)
for axis, name, colour in zip(axes[0], names, plots.COLOURS):
    axis.plot(curves.step, curves[name], color=colour)
    axis.set(title=f"{name}, weight {step.weights[name]:.3g}", xlabel="updates", ylabel="mean a patch")
report.figure(
    run, "curves", figure,
    f"Terms of the loss of the {model}, unweighted, means over {report.plural(log_every, 'update')} of "
    f"{report.plural(batch, 'patch')}. At the end: "
    + ", ".join(f"{name} {curves[name].iloc[-1]:.3g}" for name in names) + ".",
)  # fmt: skip

# %% [markdown]
# ## Patients it has not seen
# Draws for validation patches, in HU: how far they are from x (in), how far f of them is from f(x) (out). A useful
# model has a small *out*; what its *in* must be held against, another scan of the same slice, is in `05_invariances`.

# %%
ldct, ndct = patches.Sampler(cohort, val_rows, patch_size, None, val_patches, seed + 2).next()


def hu(images):
    """Network range to HU, NumPy, without the channel."""
    images = images.detach().float().cpu().numpy()
    return intensity.from_net(images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images)


@torch.inference_mode()
def denoised(images):
    """f of patches (..., P, P) in HU, float32 HU."""
    flat = torch.from_numpy(np.array(images, np.float32)).reshape(-1, 1, patch_size, patch_size)
    parts = [hu(f(intensity.to_net(part).to(device))) for part in flat.split(64)]
    return np.concatenate(parts).reshape(images.shape)


@torch.inference_mode()
def drawn():
    """(patches, 2 + samples, P, P) HU: x, the VAE's reconstruction (else x again), and draws."""
    first = x_hu
    if model == "generator":
        draws = generate.sample(net, ldct, samples, seed).numpy()
    elif model == "flow":
        draws = flow.sample(f, coder, net, ldct, samples, seed).numpy()
    else:
        torch.manual_seed(seed)
        y_hat = f(ldct.to(device)).float()
        first = hu(net.reconstruct(x=ldct.to(device), y_hat=y_hat))
        posterior = net.encode(x=ldct.to(device), y_hat=y_hat)
        draws = np.stack(
            [net.decode(cvae.sample(*posterior), y_hat=y_hat).cpu().numpy()[:, 0] for _ in range(samples)], 1
        )
    return np.concatenate([x_hu[:, None], first[:, None], intensity.from_net(draws)], axis=1).astype(np.float32)


x_hu = hu(ldct)
made = run.array("samples", drawn)
fx, f_made = denoised(x_hu), denoised(made)
change_in, change_out = (
    np.sqrt(np.mean((a[:, 1:] - b[:, None]) ** 2, (2, 3))) for a, b in ((made, x_hu), (f_made, fx))
)
spread = made[:, 2:].std(axis=1, ddof=1)
found = {
    "in, draws, HU": float(change_in[:, 1:].mean()),
    "out, draws, HU": float(change_out[:, 1:].mean()),
    "SD over draws, HU": float(np.sqrt(np.mean(spread**2))),
    "LDCT from NDCT, HU": float(np.sqrt(np.mean((x_hu - hu(ndct)) ** 2))),
    "f(x) from x, HU": float(np.sqrt(np.mean((fx - x_hu) ** 2))),
}
with torch.inference_mode():
    beside = f(ldct.to(device)).float()
    if model == "vae":
        bits = cvae.kl(*net.encode(x=ldct.to(device), y_hat=beside))
        found |= {"in, reconstruction, HU": float(change_in[:, 0].mean()), "KL, nats a patch": float(bits.mean())}
        found["out, reconstruction, HU"] = float(change_out[:, 0].mean())
    elif model == "flow":
        torch.manual_seed(seed)
        v, logdet = net(cvae.sample(*coder.encode(x=ldct.to(device), y_hat=beside)), beside)
        back = net.inverse(v, beside)
        found |= {"NLL a dimension": float(flow.nll(v, logdet).mean() / net.dim), "mean of v": float(v.mean()),
                  "SD of v": float(v.std())}  # fmt: skip
        error = float((net.forward(back, beside)[0] - v).abs().max() / v.abs().max().clamp_min(1))
    else:
        found["collapse (0: z is ignored)"] = float(generate.collapse(net, ldct, samples, seed).mean())
scores = pd.DataFrame({"quantity": list(found), "value": list(found.values())})
report.table(
    run, "held_out", scores,
    f"{report.plural(val_patches, 'patch')} of "
    f"{report.plural(cohort.slices[cohort.slices.row.isin(val_rows)].patient.nunique(), 'patient')}, {samples} draws "
    f"each, RMS over pixels: draws differ from x by {found['in, draws, HU']:.1f} HU and, after f, from f(x) by "
    f"{found['out, draws, HU']:.1f} HU.",
)  # fmt: skip

# %%
tissue = hu(ndct)
soft = ((tissue > -150) & (tissue < 300)).mean((1, 2)) > 0.9  # not the edges of bone and body, which rule any gradient
structure = np.hypot(*np.gradient(tissue, axis=(1, 2))).mean((1, 2))
shown = np.lexsort((-structure, ~soft))[:3]
titles = ["x (LDCT)", "f(x)", *(["reconstruction"] if model == "vae" else []), "draw 1", "draw 2", "draw 3"]
figure, axes = plt.subplots(
    len(shown), len(titles) + 1, figsize=(2.0 * len(titles) + 2.4, 2.1 * len(shown)), squeeze=False
)
for line, i in zip(axes, shown):
    middle = fx[i][np.abs(fx[i] - np.median(fx[i])) < 300]  # of any anatomy: a usual window may be all bright
    low, high = np.quantile(middle, [0.02, 0.98])
    level, width = 10 * round((low + high) / 20), 50 * np.ceil(max(100, 1.5 * (high - low)) / 50)
    images = [x_hu[i], fx[i], *([made[i, 1]] if model == "vae" else []), *made[i, 2:5]]
    for axis, image, title in zip(line, images, titles):
        plots.show(axis, image, level, width, title)
    sd = line[-1].imshow(spread[i], cmap="viridis", vmin=0, vmax=np.quantile(spread[shown], 0.995))
    line[-1].set_axis_off()
    line[-1].set_title("SD over draws")
    plots.row_label(line[0], plots.window_text(level, width), 8)
figure.colorbar(sd, ax=axes[:, -1], shrink=0.8, label="HU")
report.figure(
    run, "draws", figure,
    f"Validation patches of soft tissue with the most structure, draws of the {model}, and the SD over {samples} draws "
    f"({found['SD over draws, HU']:.1f} HU RMS).",
)  # fmt: skip

# %% [markdown]
# ## Controls with known answers
# What VAE and flow draw for a denoiser cannot be checked against anything. So a small VAE and flow are trained the same
# way on patches that are sums of four plane waves with normal amplitudes of 40 HU, and for an f that passes two of them
# and removes two, each of which has correlation 0.6 with one that passes. What f leaves open is then known by a formula
# (`ldct_utils.invariance.known`): draws must keep the first, and vary in the second by 32 HU around 0.6 of the first.
# Behind the identity they must not vary, and behind a constant they must vary like the data. The last control adds
# white noise of 20 HU to all that the mean filter removes, in some 400 directions at once, which is nearer to CT.

# %%
CONTROLS = {"mean filter": ("blur", 0.0), "identity": ("identity", 0.0), "constant": ("constant", 0.0),
            "mean filter, noise": ("blur", 20.0)}  # fmt: skip


@cache
def controlled():
    """A row a control and quantity: what was drawn and what is known, HU; and x, f(x), three draws of each, HU."""
    parts, images = [], []
    for title, (control, noise_hu) in tqdm(CONTROLS.items(), unit="control"):
        known_f = known.f_of(control)
        small = known.train(known_f, control_updates, noise_hu=noise_hu, seed=seed)
        parts.append(known.compare(known_f, *small, noise_hu=noise_hu).assign(control=title))
        x = known.patches(1, [seed, 3], noise_hu)[0]
        images.append(hu(torch.cat([x, known_f(x), flow.sample(known_f, *small, x, 3, seed)[0][:, None]])))
    return pd.concat(parts, ignore_index=True), np.stack(images).astype(np.float32)


answers = None
if model == "flow" and control_updates:
    answers = run.table("known", lambda: controlled()[0]).set_index(["control", "quantity"])
    cells = answers.apply(lambda row: f"{row.found:.3g} ({round(row.known, 3) + 0:.3g})", axis=1)
    blur, noisy = (answers.loc[title].found for title in ("mean filter", "mean filter, noise"))
    report.table(
        run, "known_shown", cells.unstack("control")[list(CONTROLS)].loc[answers.loc["identity"].index].reset_index(),
        f"What a small VAE and flow draw after {' and '.join(map(str, control_updates))} updates, in brackets what is "
        f"known; HU, but for the slope. Behind the mean filter the draws vary by "
        f"{blur['SD over draws, waves that are removed']:.1f} HU where it is blind (known: 32) and by "
        f"{blur['SD over draws, waves that pass']:.1f} HU where it is not (0); behind the identity by "
        f"{answers.found['identity', 'SD over draws, waves that are removed']:.2g} HU (0). Of noise in 400 directions "
        f"the draws have {noisy['SD over draws, all else']:.1f} HU of 20 (without it "
        f"{blur['SD over draws, all else']:.1f} HU, which are faults); this z has {known.VAE['dim']} numbers.",
    )  # fmt: skip

# %%
if answers is not None:
    figure, axes = plt.subplots(len(CONTROLS), 5, figsize=(8.2, 1.75 * len(CONTROLS)), squeeze=False)
    for line, title, images in zip(axes, CONTROLS, run.array("known_draws", lambda: controlled()[1])):
        for axis, name, image in zip(line, ("x", "f(x)", "draw 1", "draw 2", "draw 3"), images):
            plots.show(axis, image, 0, 300, name)
        plots.row_label(line[0], f"{title}\n{plots.window_text(0, 300)}", 8)
    report.figure(
        run, "known_draws", figure,
        "One patch of each control, what f shows of it, and three draws: right if they have the same f(x) and are "
        "otherwise any patch that could have had it.",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert done == max_steps == curves.step.iloc[-1], "the history does not end where training did"
assert np.isfinite(made).all() and np.isfinite(list(found.values())).all()
if model == "flow":
    assert error < 1e-3, f"the flow does not invert: {error:g} of the largest v"
if answers is not None and min(control_updates) >= 200:
    varies = answers.found.unstack("control").loc["SD over draws, waves that pass"]
    assert varies["mean filter"] < 4 and varies["identity"] < 4, "draws vary in what f shows"
    assert varies["constant"] > 20, "draws for an f that shows nothing do not vary"

keys = ("in, draws, HU", "out, draws, HU", "SD over draws, HU")
run.finish(
    cohort=cohort.id, denoiser=trained.id, updates_of_f=int(updates_of_f),
    parameters=count, in_hu=found[keys[0]], out_hu=found[keys[1]], sd_hu=found[keys[2]],
    **{"reconstruction_hu": found["in, reconstruction, HU"]} if model == "vae" else {},
    **{"nll_per_dimension": found["NLL a dimension"]} if model == "flow" else {},
    **{"control_sd_hu": float(blur["SD over draws, waves that are removed"])} if answers is not None else {},
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** After {report.plural(max_steps, 'update')} the {model} draws patches that differ from x by "
    f"{found[keys[0]]:.1f} HU and from each other by {found[keys[2]]:.1f} HU; f of them differs from f(x) by "
    f"{found[keys[1]]:.1f} HU, while f moves x itself by {found['f(x) from x, HU']:.1f} HU. One limit: a draw that f "
    "does not map to f(x) is a fault of the model, not a property of f. Next: `05_invariances`."
)
