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
# **Question.** Given a denoising network f and a low-dose patch x: which other patches that look like low-dose CT does
# f turn into the same output? A model is trained to draw them. Whether they are what they claim to be is for
# `05_invariances`.
#
# **Reads** a finished `03_train` run, its cohort, and for the flow the VAE of another run of this notebook. **Writes**
# `model.safetensors`, `history.parquet`, `samples.npy`. **Cost** of the defaults: about 4 minutes on one core.

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
control_updates: list = [200, 300]  # flow: of a small VAE and its flow, for each control; [] leaves them out
ct_control_updates: list = []  # flow: of VAE, flow and generator in the controls on CT; [] leaves these out

# %%
from ldct_utils.study import runs

run = runs.start("05a_train_invariances", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import time
from functools import cache

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import patches
from ldct_utils.invariance import distances, drawn, flow, generate, images, known, known_ct, models, optimise
from ldct_utils.invariance import vae as cvae
from ldct_utils.models import encoders
from ldct_utils.report.drawings import invariances as drawings
from ldct_utils.report.drawings import known_ct as shown
from ldct_utils.study import files
from ldct_utils.training import checkpoints, setup
from ldct_utils.training.history import History

# %% [markdown]
# ## The denoiser and its patches
# f is frozen. The model sees patches of f's training patients, and is looked at on the validation patients.

# %%
setup.seed_everything(seed, threads)
setup.learning_rate(schedule, 1.0, 0, 1, warmup)  # an unknown schedule must not wait for the cohort
models.check(model, vae, control_updates, ct_control_updates)
peak = lr if lr is not None else 1e-5 if size == "published" and model != "generator" else 1e-3
trained = runs.load(denoiser)
f = checkpoints.load_network(trained.folder, "last" if checkpoint is None else checkpoint)
updates_of_f = max(checkpoints.checkpoints(trained.folder)) if checkpoint is None else checkpoint
f = optimise.freeze(f, device)

# %%
cohort = cohorts.of(trained)
train_rows, val_rows = cohort.rows("train"), cohort.rows("val")
seen_before = not len(val_rows)
if seen_before:
    val_rows = train_rows
sampler = patches.Sampler(cohort, train_rows, patch_size, None, batch, seed)
people = report.plural(cohort.slices[cohort.slices.row.isin(val_rows)].patient.nunique(), "patient")
report.text(
    f"The network {trained.params['network']}, trained with {trained.params['loss']}, and "
    f"{report.plural(len(train_rows), 'slice')} of its training. The model is looked at on {people} of "
    + ("the training, since there are none for validation." if seen_before else "the validation.")
)

# %% [markdown]
# ## The model

# %%
setup.seed_everything(seed, threads)
common = {"lr": peak, "betas": tuple(betas), "precision": precision, "device": device}
coder = None

# %% [markdown]
# `generator`: g(z | x) draws a changed patch. It minimises **d(f(x), f(g)) − α d(x, g) − β C(g)**; the critic C is
# *high* for what looks like an LDCT patch (the slides print +β C). A term of ours rewards draws that differ.

# %%
if model == "generator":
    net = generate.build(**settings)
    measure = distances.build("mse", scale_hu)
    step = generate.Natural(f, net, generate.critic(), measure, alpha, beta, diversity, **common)

# %% [markdown]
# `vae`: z holds what f(x) does not say about x; encoder and decoder see f(x). The published weight of the KL divergence
# is for 200,000 updates: after few its z says nothing of x.

# %%
if model == "vae":
    net, seen = cvae.build(size, patch_size, **settings), None
    if perceptual:
        seen = encoders.load("vgg16", context, list(cvae.PERCEPTUAL_LAYERS), convention="plain", seed=seed)
    weights = {"kl": kl} if kl is not None else {"kl": 1e-6} if size == "small" else {}
    step = cvae.TrainVAE(f, net, cvae.critic(net) if adversarial else None, seen, weights, **common)

# %% [markdown]
# `flow`: an invertible map, given f(x), from z to v that is normally distributed. Draw v, go back, decode: f ought to
# map every such patch to f(x). The published flow leaves a leaky ReLU out of its log-determinant, which biases its
# likelihoods, not its samples; the determinant here is that of the map (`tests/test_invariance_flow.py`).

# %%
FLOW_SIZES = {"published": {}, "small": {"blocks": 6, "width": 128, "depth": 2, "condition": 32, "embed": 8}}
if model == "flow":
    coder = models.of_denoiser(runs.load(vae), "vae", (trained.id, updates_of_f))
    net = flow.build(**({"dim": coder.dim, "patch": coder.patch} | FLOW_SIZES[size] | settings))
    step = flow.TrainFlow(f, coder, net, **common)
count = sum(p.numel() for p in net.parameters())
print(f"{model}: {count:,} parameters, patches of {patch_size} pixels, {precision} on {device}, lr {peak:g}")

# %% [markdown]
# ## Training
# As in `03_train`: a batch, an update, now and then a row of the history and a state to resume from.

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

# %%
net.eval()
curves = history.table()
if not run.finished:
    files.write_parquet(run.folder / "history.parquet", curves)
    models.write(run.folder, model, net)
term = next(iter(step.weights))
report.figure(
    run, "curves", drawings.loss_terms(curves, step.weights),
    f"In {report.plural(max_steps, 'update')} {drawings.TERMS.get(term, term)} went from "
    f"{report.number(curves[term].iloc[0])} to {report.number(curves[term].iloc[-1])}.",
    f"Terms of the loss of the {drawings.MODELS[model]}, unweighted, means a patch.", alt=drawings.ALT["loss_terms"],
)  # fmt: skip

# %% [markdown]
# ## Patients it has not seen
# Draws for validation patches: how far they are from x, and f of them from f(x), which a useful model moves little.
# `05_invariances` holds its change of the input against another scan of the slice.

# %%
ldct, ndct = patches.Sampler(cohort, val_rows, patch_size, None, val_patches, seed + 2).next()
of_model = {"samples": samples, "seed": seed, "device": device, "coder": coder}
made = run.array("samples", lambda: drawn.held_out(model, net, f, ldct, **of_model))
denoised = images.denoiser(f, device)
fx, f_made, ndct_hu = denoised(images.in_hu(ldct)), denoised(made), images.in_hu(ndct)
found = drawn.quantities(model, net, f, ldct, made, f_made, fx, ndct_hu, **of_model)
error = found.pop("inversion error", 0.0)
into, out, spread = (found[key] for key in ("in, draws, HU", "out, draws, HU", "SD over draws, HU"))

# %%
decoder = runs.load(vae).numbers["reconstruction_hu"] if vae else found.get("in, reconstruction, HU")
answer = drawings.drawn_said(into, out, spread, decoder)
who = f"{report.plural(val_patches, 'patch')} of {people}, {report.plural(samples, 'draw')} each, one training"
report.table(
    run, "held_out", pd.DataFrame({"quantity": map(drawings.quantity, found), "value": list(found.values())}), answer,
    f"Root mean squares over pixels. {who}.",
)  # fmt: skip
rows = drawings.tissue_rows(fx, drawn.with_structure(ndct_hu))
panels = {"low-dose input": made[:, 0], "output": fx} | {f"draw {k + 1}": made[:, 2 + k] for k in range(3)}
panels |= {"reconstruction": made[:, 1]} if model == "vae" else {}
report.figure(
    run, "draws", drawings.draws(rows, panels, made[:, 2:].std(axis=1, ddof=1)),
    f"Draws of the {drawings.MODELS[model]} differ from each other by {spread:.1f} HU (SD).",
    f"Patches of soft tissue with the most structure. {who}.", alt=drawings.ALT["draws"],
)  # fmt: skip

# %% [markdown]
# ## Controls with known answers
# Small VAEs and flows are trained on sums of four plane waves with normal amplitudes of 40 HU, for an f that passes two
# and removes two, each of which has correlation 0.6 with one that passes. What f leaves open is then known
# (`ldct_utils.invariance.known`): draws must keep the first, and vary in the second by 32 HU around 0.6 of the first.
# Behind the identity they must not vary, behind a constant like the data. The last control adds noise of 20 HU.

# %%
controlled, answers = cache(lambda: known.controlled(control_updates, seed)), None
if model == "flow" and control_updates:
    answers = run.table("known", lambda: controlled()[0])
    sd = answers.set_index(["control", "quantity"]).found
    open_sd = float(sd["mean filter", "SD over draws, waves that are removed"])
    told = (f"Behind the mean filter draws vary by {open_sd:.0f} HU where it is blind (32 HU is right) and by "
            f"{sd['mean filter', 'SD over draws, waves that pass']:.1f} HU where it is not (0 is right).")  # fmt: skip
    report.table(run, "known", answers, told, "HU but for the slope; one small VAE and flow a control.",
                 heads={"control": "denoiser", "quantity": "quantity", "found": "found", "known": "right"})  # fmt: skip

# %%
if answers is not None:
    drawn_patches = run.array("known_draws", lambda: controlled()[1])
    report.figure(
        run, "known_draws", drawings.known_draws(list(known.CONTROLS), drawn_patches), told,
        "Draws are right that have the same output and are otherwise any patch that could have had it. One patch each.",
        alt=drawings.ALT["known_draws"],
    )  # fmt: skip

# %% [markdown]
# ## Controls on CT
# The same on CT patches with a disc of random contrast in the middle (`ldct_utils.invariance.known_ct`). Draws ought to
# change it freely behind an *eraser* of the middle, and must not behind the identity.

# %%
on_ct = None
if model == "flow" and ct_control_updates:
    others = val_rows if seen_before else np.setdiff1d(cohort.slices.row, train_rows)  # all that no model is trained on
    learned, looked_at = (patches.Sampler(cohort, rows, patch_size, None, size, seed + 4)
                          for rows, size in ((train_rows, batch), (others, 4 * val_patches)))  # fmt: skip
    both = cache(lambda: known_ct.controlled(cohort, learned, looked_at, ct_control_updates, samples, seed))
    on_ct = run.table("known_ct", lambda: both()[0])
    report.table(
        run, "known_ct_shown", shown.by_denoiser(on_ct), shown.said(on_ct),
        "Right are slope 0 and the SD of the patches behind the eraser, 1 and 0 behind the identity. "
        f"{report.bars(int(on_ct.patients[0]), 'patient', 'Brackets')} {shown.tried(known_ct.headline(on_ct))}",
        shown.HEADS,
    )  # fmt: skip
    report.figure(
        run, "known_ct_drawn", shown.patches(on_ct, run.array("known_ct_draws", lambda: both()[1])), shown.said(on_ct),
        "The patch with the strongest disc. Right are draws that change it behind the eraser alone.", alt=shown.ALT,
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert done == max_steps == curves.step.iloc[-1], "the history does not end where training did"
assert np.isfinite(made).all() and np.isfinite(list(found.values())).all()
assert error < 1e-3, f"the flow does not invert: {error:g} of the largest v"
if answers is not None and min(control_updates) >= 200:
    known.check(answers)
run.finish(
    cohort=cohort.id, denoiser=trained.id, updates_of_f=int(updates_of_f), parameters=count, in_hu=into, out_hu=out,
    sd_hu=spread, **{"reconstruction_hu": found["in, reconstruction, HU"]} if model == "vae" else {},
    **{"nll_per_dimension": found["NLL a dimension"]} if model == "flow" else {},
    **{"control_sd_hu": open_sd} if answers is not None else {},
    **{"controls_on_ct": known_ct.headline(on_ct)} if on_ct is not None else {},
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {answer} The network changes its input by {found['f(x) from x, HU']:.1f} HU. One limit: a draw "
    f"that f does not map to f(x) is a fault of the {drawings.MODELS[model]}, not of f. Next: `05_invariances`."
)
