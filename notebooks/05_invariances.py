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
# # 05 · What can a denoiser not see?
# **Question.** Which changes of a low-dose slice leave the output of a denoiser f as it was? Noise should be among
# them. Is anatomy?
#
# **Reads** a finished `03_train` run, its cohort, and optionally a generator and a flow of `05a_train_invariances`.
# **Writes** `search.npy`, `trajectory.parquet`, `evidence.parquet` (changes in and out, by patient and draw),
# `lesions.parquet`, `segments.parquet` (changes against the null), `lesion_counts.parquet`, `segment_counts.parquet`
# (how many were changed, and hidden), `contrasts.parquet` (contrast of the lesions that f keeps, by realisation),
# `detection.parquet` (d' of weakened lesions before and after f), `own.parquet` (x itself among the realisations).
# **Cost** of the defaults: 15 minutes on one core for a U-Net of 16 channels, nearly all of it the 3000 iterations; the
# noise of a real slice of 512x512 adds 16 s.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/05_invariances/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
denoiser: str = "adhoc/03_train/*"  # f: a run folder of 03_train, or a pattern that one run matches
checkpoint: Optional[int] = None  # its checkpoint, by updates; None takes the last
generator: Optional[str] = None  # run folder of 05a_train_invariances with a generator for this f
flow: Optional[str] = None  # run folder of 05a_train_invariances with a flow for this f
test_source: Optional[str] = None  # examine another cohort, all of it; None takes the test patients of f's own
test_root: Optional[str] = None  # folder of that cohort
# what is examined
crop: int = 128  # rows and columns around a patient's lesions, else of the slice's middle, pixels
crops: Optional[int] = 1  # most crops a patient, each of another slice; None takes all its test slices
most_patients: Optional[int] = None  # examine no more than this many; None takes all
realisations: int = 200  # other noise realisations of every crop, with lesions and without
# search
distance: str = "mse"  # mse, dssim or vgg16 (context: below)
context: str = "auto"  # of the VGG-16: imagenet, random, a weights file, or auto (imagenet if it is here, else random)
scale_hu: Optional[float] = None  # HU at which the bounded distance is 1/2 (dssim: data range); None: its usual one
tile: Optional[int] = None  # mse: bound every tile of so many pixels a side by itself; None bounds the crop as one
alpha: float = 0.1  # weight of the change, in (0, 1): the share of its power that f may pass on
sigma_hu: float = 41.0  # SD of the noise at the start, HU; 41 reads the slides' 1e-2 as an SD of the network range
lr: float = 1e-3  # Adam's learning rate, network range: 4.1 HU an iteration
iterations: int = 3000  # of Adam
aim_px: Optional[float] = 2.0  # a second search, rewarded for changes blurred by so many pixels (SD); None: only one
control_iterations: int = 300  # for the controls
at_once: int = 8  # crops that go through f together
# draws
samples: int = 32  # draws a crop of generator and flow
# evidence
level: float = 0.05  # a change counts where so few of the null's changes are as large
segmentation: str = "felzenszwalb"  # how structures are found in the NDCT: felzenszwalb, otsu or thresholds
region: int = 33  # rows and columns that the observers see around a lesion, pixels, odd
faint: float = 2.0  # d' in x to which lesions are weakened before f is asked what it keeps of it; 2 is an AUC of .92
draws: int = 2000  # bootstrap draws over patients
save_every_s: float = 30.0  # seconds between states to resume from
seed: int = 0  # seeds noise, starts and draws
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # of f in the plain search: auto, float32 or bf16; all else is float32
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study import runs

run = runs.start("05_invariances", globals())

# %%
import time
from functools import cache, partial
from itertools import groupby, islice

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.ct import intensity
from ldct_utils.invariance import cases, controls, distances, evidence, examine, generate, models, optimise
from ldct_utils.invariance import flow as cinn
from ldct_utils.models import encoders
from ldct_utils.report import plots
from ldct_utils.stats import intervals
from ldct_utils.training import checkpoints, designs, setup

setup.seed_everything(seed, threads)
examination = examine.Examination(realisations, level, segmentation, region, faint)  # refuses what has no answer
if region > crop:
    raise ValueError(f"the observer's region of {region} pixels does not fit a crop of {crop}")
over_patients = partial(intervals.patient_bootstrap, draws=draws, seed=seed)  # a mean with its 95 % interval

# %% [markdown]
# ## The denoiser and what it is shown
# One crop (or several) for each test patient. For simulated patients it holds known lesions, and the scanner is run
# again: the same slice at the same dose with all noise new, with the lesions and without. These realisations are the
# **null**: what a denoiser should not see is the difference between two of them. (Noise added to x would be there
# twice.) A real slice was scanned once, so its NDCT is kept and only the noise that lowers the dose is drawn anew. The
# NDCT's own noise then never changes, which makes d' too high, by 15 % at a quarter of the dose: d' is corrected for it
# (`observers.unfrozen`).

# %%
trained = runs.load(denoiser)
cohort = cohorts.of(trained)
test = cohorts.tested_on(cohort, test_source, test_root)
f = checkpoints.load_network(trained.folder, "last" if checkpoint is None else checkpoint)
updates_of_f = max(checkpoints.checkpoints(trained.folder)) if checkpoint is None else checkpoint
optimise.freeze(f, device)
name = designs.name_of(next(pd.DataFrame([designs.design(trained)]).itertuples()))
asked = test.slices[test.slices.row.isin(test.rows("test"))]
several = cases.find(test, test.rows("test"), crop, realisations, seed, crops)
by_person = (list(part) for _, part in groupby(several, key=lambda case: case.patient))
found = [case for part in islice(by_person, most_patients) for case in part]
if not found:
    raise ValueError(f"cohort {test.id} has no test patient with a lesion (or soft tissue) in a crop of {crop} pixels")
patients = len({case.patient for case in found})
shown = [next(c for c in found if c.anatomy == one) for one in sorted({c.anatomy for c in found})]
lesions = sum(len(c.inside) for c in found if c.inside is not None)
report.text(
    f"Denoiser: {trained.params['network']}, {name}, run {trained.name}. {report.plural(len(found), 'crop')} of {crop} "
    f"pixels from {patients} of {report.plural(asked.patient.nunique(), 'test patient')} (slices: {len(asked)}) of "
    f"cohort {test.id}. Known lesions: {lesions or 'none, so that only segments speak of anatomy'}. The null is "
    f"{found[0].null_kind}, {realisations} realisations a crop."
    + " One patient: nothing below has an interval over patients."
    * (patients == 1)
)


def net(hu):
    """HU (..., H, W) to a batch (N, 1, H, W) in the network range."""
    hu = np.array(hu, np.float32)  # a copy: what is stored is memory-mapped and not writable
    return intensity.to_net(torch.from_numpy(hu.reshape(-1, 1, *hu.shape[-2:])))


@torch.inference_mode()
def denoised(hu):
    """f of images (..., H, W) in HU, float32."""
    parts = [f(part.to(device)).float().cpu() for part in net(hu).split(at_once)]
    return intensity.from_net(torch.cat(parts).numpy()).reshape(np.shape(hu))


# %% [markdown]
# ## First generation: searching
# x_inv minimises d(f(x), f(x_inv)) − α d(x, x_inv) by Adam, from x + n. The published bound on the distance is not
# specified; here it is d = m / (m + s²) with m the mean square, which never reaches 1, so that its gradient never
# dies. For small changes the objective falls along a direction exactly if f passes on less than α of its power, √α of
# its amplitude: what f only weakens, no search finds. A small structure must be weakened further still for the second.
#
# Most directions that f does not see are fine texture, so that is what a search finds. Whether f can hide *anatomy* is
# asked by a second one, `aimed`: its change counts only after a Gaussian blur, while f's output must stay as it was
# at every scale.

# %%
encoder = encoders.load("vgg16", context, ["block3_conv3"], seed=seed) if distance == "vgg16" else None
if encoder:
    report.text("Encoder: " + encoders.describe(encoder))
measure = distances.build(distance, scale_hu, encoder, tile)
scale_of_aim = None if distance == "dssim" else scale_hu  # whose scale is a data range
SEARCHES = {"search": None}
if aim_px:
    SEARCHES["aimed"] = distances.build("mse", scale_of_aim, tile=tile, blur_px=aim_px)


def searched():
    """x_inv (searches, crops, H, W) float32 HU. Killed at any moment, it goes on where it was."""
    x = net([c.ldct for c in found])
    start = partial(optimise.Search, f, x, measure, alpha, sigma_hu, lr, seed, device=device, batch=at_once)
    # bf16 rounds soft tissue to 8 HU on its way into f: less than the texture that the search finds, but more than the
    # aimed one does, which would take the rounding for an invariance.
    search = {
        one: start(precision="float32" if rewarded else precision, distance_in=rewarded)
        for one, rewarded in SEARCHES.items()
    }
    done, saved = checkpoints.resume(run.folder, run.id, **search), time.monotonic()
    with tqdm(total=iterations, initial=done, unit="iteration", mininterval=1) as bar:
        while done < iterations:
            for one in search.values():
                one.step()
            done += 1
            bar.update()
            if done == iterations or time.monotonic() - saved > save_every_s:
                checkpoints.save(run.folder, run.id, done, **search)
                saved = time.monotonic()
    about = {name: [getattr(c, name) for c in found] for name in ("patient", "row", "anatomy")}
    rows = []
    for one in search:
        for i in range(0, iterations, max(1, iterations // 300)):
            in_hu, out_hu = search[one].trace[i].double().cpu().numpy()
            rows.append(pd.DataFrame({"search": one, "iteration": i, **about, "in_hu": in_hu, "out_hu": out_hu}))
    run.table("trajectory", lambda: pd.concat(rows, ignore_index=True))
    return intensity.from_net(np.stack([s.x_inv.cpu().numpy()[:, 0] for s in search.values()])).astype(np.float32)


x_inv = dict(zip(SEARCHES, run.array("search", searched)))
trajectory = run.table("trajectory")

# %%
for method, images in x_inv.items():
    figure, axes = plt.subplots(len(shown), 6, figsize=(13, 2.45 * len(shown)), squeeze=False)
    for line, case in zip(axes, shown):
        window, changed = plots.anatomy_window(case.anatomy), images[found.index(case)]
        before, after = denoised(case.ldct), denoised(changed)
        plots.show(line[0], case.ldct, *window, "x (LDCT)")
        plots.show(line[1], changed, *window, "x_inv")
        limit = max(5.0, 10 * np.ceil(0.4 * np.std(changed - case.ldct)))  # 4 SD, in tens of HU
        moved = [evidence.rmse_hu(*pair) for pair in ((changed, case.ldct), (after, before))]
        drawn = plots.difference(line[2], changed - case.ldct, limit, f"x_inv − x\n{moved[0]:.3g} HU RMS")
        plots.show(line[3], before, *window, "f(x)")
        plots.show(line[4], after, *window, "f(x_inv)")
        plots.difference(line[5], after - before, limit, f"f(x_inv) − f(x)\n{moved[1]:.3g} HU RMS")
        figure.colorbar(drawn, ax=line[5], shrink=0.85, label="HU")
        plots.row_label(line[0], f"{case.anatomy}, {case.patient}\n{plots.window_text(*window)}", 8)
    before = np.stack([c.ldct for c in found])
    into, out = (evidence.rmse_hu(*pair).mean() for pair in ((images, before), (denoised(images), denoised(before))))
    report.figure(
        run, method, figure,
        f"What {iterations} iterations of the {'search' if method == 'search' else 'aimed search'} found, α = "
        f"{alpha:g}, distance {distance}: x changes by {into:.3g} HU RMS, the output by {out:.2g} HU "
        f"(mean over {report.plural(len(found), 'crop')}).",
    )  # fmt: skip

# %% [markdown]
# ### Controls with known answers
# The same search, on denoisers whose invariances are known. The identity has none: with α < 1 it must give x back. A
# constant sees nothing: the search must run to its bound. A mean filter removes known frequencies: what is found must
# lie where its gain is below √α. A denoiser that erases the crop's lesions must be caught by the aimed search, or that
# finding no lesion hidden would say nothing; one that keeps half of them must not, since half is more than √α.

# %%
with_lesions, first = lesions > 0, found[0]
aimed_at = (first.inside, first.around, aim_px) if aim_px else ()
known = run.table(
    "controls", lambda: controls.searched(first.ldct, alpha, sigma_hu, lr, control_iterations, seed, *aimed_at)
).set_index("control")
erased = "contrast in, HU" in known
if erased:
    ends = known[["contrast in, HU", "contrast out, HU"]]
    (caught, after), spared = ends.loc["erases lesions"], ends["contrast in, HU"]["halves lesions"]
report.table(
    run, "controls_shown", known.reset_index(),
    f"{control_iterations} iterations from noise of {sigma_hu:g} HU. Identity: {known['in, HU']['identity']:.2f} HU "
    f"are left of it (0 in the end); constant: the output cannot move and x goes {known['in, HU']['constant']:.0f} HU "
    f"away; mean filter: {known['power where gain < √α']['blur']:.1%} of the power of what was found is where it "
    "should be."
    + (f" Aimed search, largest change of a lesion's contrast: {caught:.3g} HU in x and {after:.2g} HU after f where f "
       f"erases lesions, {spared:.2g} HU in x where it halves them." if erased else ""),
)  # fmt: skip

# %% [markdown]
# ## Second and third generation: drawing
# A search leaves what low-dose images look like. A generator, and a VAE with a flow, were trained to draw images that
# look like them (`05a_train_invariances`), for patches: the middle of each crop. The VAE's reconstruction of x stands
# beside them, since what a decoder cannot draw looks like an invariance.


# %%
def of_this_f(folder, kind):
    """A model of 05a. Raises: ValueError: if it was trained for another denoiser, or another checkpoint of it."""
    one = runs.load(folder)
    theirs, ours = (one.numbers["denoiser"], one.numbers["updates_of_f"]), (trained.id, updates_of_f)
    if theirs != ours:
        raise ValueError(f"{kind} {folder} was trained for the denoiser (run, updates) {theirs}, not {ours}")
    return one, models.load(one.folder, kind).to(device)


def generated():
    """(crops, samples, P, P) float32 HU."""
    one, g = of_this_f(generator, "generator")
    x = net([examine.middle(c.ldct, one.params["patch_size"]) for c in found])
    return intensity.from_net(generate.sample(g, x, samples, seed).numpy()).astype(np.float32)


def flowed():
    """(crops, 1 + samples, P, P) float32 HU: the VAE's reconstruction, then draws."""
    one, drawer = of_this_f(flow, "flow")
    coder = of_this_f(one.params["vae"], "vae")[1]
    x = net([examine.middle(c.ldct, coder.patch) for c in found])
    tilde = cinn.sample(f, coder, drawer, x, samples, seed).numpy()
    with torch.inference_mode():
        plain = coder.reconstruct(x=x.to(device), y_hat=f(x.to(device)).float()).cpu().numpy()
    return intensity.from_net(np.concatenate([plain, tilde], axis=1)).astype(np.float32)


MADE = {method: images[:, None] for method, images in x_inv.items()}  # {method: (crops, draws, side, side)}
if generator:
    MADE["generator"] = run.array("generated", generated)
if flow:
    flowed_hu = run.array("flowed", flowed)
    MADE |= {"VAE + flow": flowed_hu[:, 1:], "VAE alone": flowed_hu[:, :1]}
if not generator and not flow:
    report.text("No model of `05a_train_invariances` was given: only the search is examined below.")

# %%
for method in (one for one in ("generator", "VAE + flow") if one in MADE):
    side, spread = MADE[method].shape[-1], MADE[method].std(axis=1, ddof=1)
    figure, axes = plt.subplots(len(shown), 7, figsize=(14.5, 2.2 * len(shown)), squeeze=False)
    for line, case in zip(axes, shown):
        window, n = plots.anatomy_window(case.anatomy), found.index(case)
        x = examine.middle(case.ldct, side)
        images = {"x (LDCT)": x, "f(x)": denoised(x)}
        images |= {f"draw {k + 1}": one for k, one in enumerate(MADE[method][n][:3])}
        images["f(draw 1)"] = denoised(MADE[method][n][0])
        for axis, (title, image) in zip(line, images.items()):
            plots.show(axis, image, *window, title)
        sd = line[6].imshow(spread[n], cmap="viridis", vmin=0, vmax=np.quantile(spread, 0.995))
        line[6].set_title("SD over draws")
        line[6].set_axis_off()
        plots.row_label(line[0], f"{case.anatomy}, {case.patient}\n{plots.window_text(*window)}", 8)
    figure.colorbar(sd, ax=axes[:, 6], shrink=0.8, label="HU")
    report.figure(
        run, f"draws_{method.split()[0].lower()}", figure,
        f"{method}: draws for test patches, and the SD over {samples} draws, {np.sqrt(np.mean(spread**2)):.1f} HU RMS.",
    )  # fmt: skip

# %% [markdown]
# ## Crop by crop
# All that follows is measured here, one crop after another (`ldct_utils/invariance/examine.py`): hundreds of noise
# realisations of a crop and what f makes of them are forgotten before the next ones are drawn, so that memory does not
# grow with the number of slices.


# %%
@cache
def examined():
    """All tables by name."""
    return examination.of(denoised, found, MADE, partial(tqdm, desc="examined", unit="crop"))


TABLES = examine.OF_IMAGES + examine.OF_LESIONS * with_lesions
measured = {name: run.table(name, lambda name=name: examined()[name]) for name in TABLES}
NULL = {method: examine.null_of(images) for method, images in MADE.items()}  # on the same pixels as the method's images

# %% [markdown]
# ## Evidence
# For every method: how far its images are from x (in) and, after f, from f(x) (out), beside the same two numbers for
# other noise realisations. An invariance is large in and small out, *smaller than the null's out*: a change that f lets
# through more than it lets noise through is no invariance. Blurred by a Gaussian of 2 pixels the same numbers
# tell anatomy from noise.

# %%
changes = measured["evidence"]
WORDS = {"in_hu": "in", "out_hu": "out", "low_in_hu": "in, low-passed", "low_out_hu": "out, low-passed"}
by_patient = changes.groupby(["method", "patient"], sort=False)[[*WORDS, "pix_md"]].mean()
pix_md = by_patient.pix_md.groupby("method").mean()
ratio_of = {method: by_patient.loc[method] / by_patient.loc[NULL[method]] for method in MADE}  # a row a patient
ratios = []
for method, ratio in ratio_of.items():
    for quantity in WORDS:
        own, null = (by_patient.loc[one][quantity].mean() for one in (method, NULL[method]))
        span = over_patients(ratio[quantity])
        ratios.append({"method": method, "quantity": quantity, "hu": own, "null_hu": null, "ratio": span.mean,
                       "low": span.low, "high": span.high})  # fmt: skip
ratios = pd.DataFrame(ratios)
times = {method: ratios[ratios.method == method].set_index("quantity").ratio for method in MADE}

bracket = partial(report.bracket, form=".2f")
report.table(
    run, "ratios",
    ratios.assign(quantity=ratios.quantity.map(WORDS), interval=report.brackets(ratios))
    .drop(columns=["low", "high"]),
    f"RMS changes in HU, means over {report.plural(patients, 'patient')}, and their ratio to the change that another "
    f"noise realisation makes on the same pixels, with 95 % intervals over patients"
    f"{' (too few patients for these)' if patients < intervals.MIN_PATIENTS else ''}. "
    + "; ".join(f"{m}: {r['in_hu']:.2f} times the null in, {r['out_hu']:.2f} times out" for m, r in times.items())
    + ". Ratios are means of the patients' own. Mean |x − x̃| in units of 502 HU, as published: "
    + ", ".join(f"{m} {pix_md[m]:.4f}" for m in MADE) + ".",
)  # fmt: skip

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
for axis, part, title in zip(axes, ("", "low_"), ("all frequencies", "low-passed")):
    for shade, mark, method in zip(plots.COLOURS, "osDv^", MADE):
        filled = "none" if method == "VAE alone" else shade  # it lies where the flow's draws do
        axis.scatter(*(ratio_of[method][f"{part}{end}_hu"] for end in ("in", "out")), facecolor=filled,
                     edgecolor=shade, marker=mark, s=30, label=method)  # fmt: skip
    axis.axhline(1, color="black", lw=0.8)
    axis.axvline(1, color="black", lw=0.8)
    axis.set(xscale="log", yscale="log", xlabel="change of x / null", ylabel="change of f(x) / null", title=title)
    plots.plain_log(axis)
axes[0].legend(fontsize=8, frameon=True)  # or its marks would pass for patients
report.figure(
    run, "evidence_shown", figure,
    "Each point a patient. Right of 1: a larger change than other noise makes; below 1: f moves less than for other "
    "noise. Only the lower half is invariance.",
)  # fmt: skip

# %%
colour = dict(zip(sorted({c.anatomy for c in found}), plots.COLOURS))
null = changes[changes.method == NULL["search"]].groupby("anatomy")[["in_hu", "out_hu"]].mean()
figure, axes = plt.subplots(len(x_inv), 2, figsize=(10, 3.0 * len(x_inv)), squeeze=False)
for line, method in zip(axes, x_inv):
    for axis, column, what in zip(line, ("in_hu", "out_hu"), ("change of x", "change of f(x)")):
        for _, part in trajectory[trajectory.search == method].groupby(["patient", "row"]):
            axis.plot(part.iteration + 1, part[column], color=colour[part.anatomy.iloc[0]], lw=1)
        for one, shade in colour.items():
            axis.plot([], [], color=shade, label=f"search, {one}")
            axis.axhline(null[column][one], color=shade, lw=1.2, ls="--", label=f"other noise, {one}")
        axis.set(xscale="log", yscale="log", xlabel="iteration", ylabel=f"{what}, HU RMS", title=method)
        plots.plain_log(axis)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
report.figure(
    run, "trajectories", figure,
    "Change of input and output while searching, a line a crop; dashed: what another noise realisation changes, "
    f"{null.in_hu.mean():.1f} HU in and {null.out_hu.mean():.1f} HU out in the mean. What still moves at the end needs "
    f"more than these {iterations} iterations.",
)  # fmt: skip

# %% [markdown]
# ## Does f hide anatomy?
# Noise amplitude and realisation are what a denoiser is *meant* to ignore. For each known lesion: by how much do the
# found images change its contrast (its mean minus that of its organ around it), and does f let the change through? p is
# exact: the share of null realisations that change the contrast as much. **Changed** is a lesion whose contrast changed
# by more than the null explains at the input (p ≤ level), **hidden** one of these that did not at the output. What was
# not changed says nothing of f, so the rate is hidden *of changed*, and a method that changed none gives none. The rows
# *null*, realisations that were held back, say what chance gives: they change at most one in twenty, and by little, so
# that a method that changes much more is more easily seen through than they are.


# %%
def counts_of(name):
    """Stored: a row a method; see ``evidence.counted``."""
    found = run.table(f"{name}_counts", lambda: evidence.counted(measured[f"{name}s"], level, draws, seed))
    return found.set_index("method")


def in_words(counts):
    """``evidence.counted`` for the reader."""
    shown = counts.assign(interval=report.brackets(counts)).drop(columns=["low", "high"])
    return shown.rename(columns=evidence.WORDS).reset_index()


of_segments = counts_of("segment")
missed = evidence.verdicts(measured["segments"], level)
missed = missed[missed.method.isin(x_inv) & missed.hidden]
report.table(
    run, "segment_shares", in_words(of_segments),
    f"Segments ({segmentation}, of the {'NDCT' if test.truth is None else 'truth'}) whose mean changed by more than "
    f"the null explains (p ≤ {level:g}), and those of them whose change f hides. "
    + "; ".join(f"{m}: {evidence.said(of_segments.loc[m])}" for m in (*x_inv, NULL["search"]))
    + (f". Hidden in what was searched: {missed.area.min()} to {missed.area.max()} pixels, changed by "
       f"{missed.change_in.abs().min():.2g} to {missed.change_in.abs().max():.2g} HU." if len(missed) else ".")
    + " Hidden of changed: means over patients with a changed one; where none or all are hidden the bound is the exact "
    "one.",
)  # fmt: skip

# %%
own = measured["own"]
far = {end: (own[f"p_{end}"] <= level).groupby(own.patient).mean().mean() for end in ("in", "out")}
report.text(
    f"**Is the null right?** x itself, taken for one more realisation, has p ≤ {level:g} in {far['in']:.1%} of "
    f"{len(own)} segments, f(x) in {far['out']:.1%}, held against the mean of the null. {level:.0%} is right; a null "
    "that is too narrow gives more, and then calls too much changed."
)

# %%
if with_lesions:
    of_lesions = evidence.kinds(evidence.verdicts(measured["lesions"], level))
    lesion_counts = counts_of("lesion")
    held = {method: lesion_counts.loc[method] for method in MADE if method in lesion_counts.index}
    by_chance = of_lesions[of_lesions.method == NULL["search"]]
    passed = by_chance.assign(both=by_chance.change_in * by_chance.change_out, own=by_chance.change_in**2)
    passed = passed.groupby(["patient", "lesion"])[["both", "own"]].sum().eval("both / own")
    counted = held | {"null": lesion_counts.loc[NULL["search"]]}
    told = "; ".join(f"{method}: {evidence.said(count)}" for method, count in counted.items())
    report.table(
        run, "lesion_shares", in_words(lesion_counts),
        "Lesions whose contrast changed by more than the null explains, and those of them whose change f hides. "
        f"{told}. A search could find only lesions of whose contrast f passes on less than √α = {alpha**0.5:.2f}; of "
        f"what other noise changes it passes on {passed.min():.2f} to {passed.max():.2f} (least squares through 0, "
        "lesion by lesion). Hidden of changed and its bounds as for segments.",
    )  # fmt: skip
    by_kind = of_lesions.groupby(["method", "radius, mm", "contrast"], observed=True).agg(
        patients=("patient", "nunique"), images=("hidden", "size"), changed=("changed", "sum"), hidden=("hidden", "sum")
    )
    report.table(
        run, "lesion_kinds", by_kind.reset_index(),
        "The same by size and contrast of the lesion: counts over all images of all lesions of a kind.",
    )  # fmt: skip

# %%
if with_lesions:
    columns = min(3, len(held))
    lines = -(-len(held) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.7 * columns, 3.3 * lines), squeeze=False)
    for axis in axes.flat[len(held) :]:
        axis.set_axis_off()
    for axis, method in zip(axes.flat, held):
        part, by_chance = (of_lesions[of_lesions.method == one] for one in (method, NULL[method]))
        axis.scatter(by_chance.change_in, by_chance.change_out, s=8, color="#999999", label="null")
        seen = part.changed & ~part.hidden
        groups = {"not changed": ~part.changed, "changed, shown": seen, "changed, hidden": part.hidden}
        for (label, some), shade, mark in zip(groups.items(), plots.COLOURS, "o^s"):
            axis.scatter(part.change_in[some], part.change_out[some], s=14, color=shade, marker=mark,
                         label=f"{label} ({some.sum()})")  # fmt: skip
        axis.axline((0, 0), slope=1, color="black", lw=0.8, ls=":")
        axis.set(xlabel="change of contrast in x, HU", ylabel="change of contrast in f(x), HU", title=method)
        axis.legend(fontsize=7)
    report.figure(
        run, "lesions_shown", figure,
        "Change of each lesion's contrast before and after f; on the dotted line f passes it on whole, at 0 it "
        f"hides it. {told}.",
    )  # fmt: skip

# %% [markdown]
# ## Existence is not frequency
# A search looks for *one* image, among all that there could be, in which f hides a change. That one exists says nothing
# of how often it occurs: readers are shown noise as it comes. So for the same lesions, over noise realisations:
#
# - **Contrast kept**: f(x + lesion) − f(x) over the lesion, as a share of what the lesion adds; x without the lesion,
#   the same noise in both. 1 is all of it, 0 is a lesion that f removes.
# - **d'**: how well slices with the lesion are told from slices without, before and after f, by a channelised Hotelling
#   observer and by a non-prewhitening one (NPW: knows the lesion, takes the noise as white). A lesion that nobody could
#   miss has no d' to lose, so each is first weakened until its d' in x is `faint`, and stands alone.
#
# A lesion counts once, a patient is the mean of its lesions, and intervals are over patients.


# %%
def side_by_side(label, about):
    """One row: what exists (found images) and how often it happens (noise realisations), for some of the lesions."""
    these = about[["patient", "lesion"]].drop_duplicates()
    per_lesion = about.groupby(["patient", "lesion"]).kept.mean()
    own, seen = of_lesions.merge(these), detection.merge(these)
    span = over_patients(per_lesion.groupby("patient").mean())
    return {
        "lesions": label, "n": len(per_lesion), "patients": span.patients,
        **{f"exists, {m}": evidence.said(evidence.counts(own[own.method == m])) for m in x_inv},
        "contrast kept": span.mean, "interval": bracket(span.low, span.high),
        "lowest lesion": per_lesion.min(), "lowest realisation": about.kept.min(),
        "share under half": float((about.kept < 0.5).groupby(about.patient).mean().mean()),
        "d' kept": evidence.d_prime_kept(seen).mean() if len(seen) else np.nan,
    }  # fmt: skip


if not with_lesions:
    report.text("No lesions are known in these slices, so what f keeps of their contrast and d' is not known either.")
if with_lesions:
    detection, contrasts = measured["detection"], evidence.kinds(measured["contrasts"])
    kept_d, kept_npw = (over_patients(evidence.d_prime_kept(detection, column)) for column in ("d_prime", "d_npw"))
    of_kind = contrasts.groupby(["radius, mm", "contrast"], observed=True)
    beside = [side_by_side("all", contrasts)]
    beside += [side_by_side(f"{radius} mm, {contrast}", part) for (radius, contrast), part in of_kind]
    kept_contrast = beside[0]["contrast kept"]
    report.table(
        run, "contrast_kept", pd.DataFrame(beside),
        f"What exists beside what happens. f keeps {kept_contrast:.2f} of the lesions' contrast "
        f"{beside[0]['interval']}, at least {contrasts.kept.min():.2f} in each of "
        f"{contrasts.image.nunique()} noise realisations of each lesion; under half of it in "
        f"{beside[0]['share under half']:.1%} of them. Intervals are over patients, where there are "
        f"{intervals.MIN_PATIENTS} or more.",
    )  # fmt: skip

# %%
if with_lesions:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9))
    bar = contrasts.groupby(["patient", "lesion", "anatomy", "radius_mm", "contrast"]).kept.agg(["mean", "min", "max"])
    bar = bar.reset_index()
    for one, shade, mark in zip(evidence.CONTRASTS, plots.COLOURS, "os"):
        part = bar[bar.contrast == one]
        spread = np.abs(part[["min", "max"]].to_numpy().T - part["mean"].to_numpy())
        left.errorbar(part.radius_mm, part["mean"], spread, fmt=mark, ms=5, lw=0.8, color=shade, label=one)
    for level_of, words in ((1, "all is kept"), (0, "the lesion is gone")):
        left.axhline(level_of, color="black", lw=0.8, ls=":")
        left.annotate(words, (1, level_of), (-3, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", fontsize=8)  # fmt: skip
    left.set(xlabel="radius of the lesion, mm", ylabel="share of the contrast that f keeps",
             ylim=(min(-0.1, 1.1 * bar["min"].min()), max(1.25, 1.1 * bar["max"].max())))  # fmt: skip
    left.legend(fontsize=8, loc="center left")
    pairs = detection.pivot(index=["patient", "lesion", "d_full"], columns="image", values=["d_prime", "d_npw"])
    whole, before = pairs.index.get_level_values("d_full"), pairs["d_prime", "x"]
    for column, label, shade, mark in zip(("d_prime", "d_npw"), ("Hotelling", "NPW"), plots.COLOURS, "os"):
        right.scatter(whole, pairs[column, "f(x)"] / pairs[column, "x"], s=25, color=shade, marker=mark, label=label)
    right.axhline(1, color="black", lw=0.8, ls=":")
    right.set(xlabel="d' of the lesion in x before it was weakened", ylabel="share of d' that f keeps", xscale="log",
             ylim=(min(0.5, *right.get_ylim()), max(1.5, *right.get_ylim())))  # fmt: skip
    plots.plain_log(right, "x", (1, 2, 5))
    right.legend(fontsize=8)
    report.figure(
        run, "detection_shown", figure,
        f"Left: contrast kept of {report.plural(len(bar), 'lesion')}, mean and range over "
        f"{report.plural(contrasts.image.nunique(), 'realisation')}. Right: of {report.plural(len(pairs), 'lesion')}, "
        f"with d' of {whole.min():.2g} to {whole.max():.2g} in x, weakened to d' of "
        f"{before.min():.2g} to {before.max():.2g}, {realisations} realisations a class: f keeps {kept_d.mean:.2f} "
        f"{bracket(kept_d.low, kept_d.high)} of d' for the Hotelling observer and {kept_npw.mean:.2f} "
        f"{bracket(kept_npw.low, kept_npw.high)} for the NPW, in the mean over patients. Above 1: the NPW gains what "
        "makes the noise whiter.",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(changes.in_hu).all() and np.isfinite(changes.out_hu).all()
assert known["out, HU"]["constant"] < 0.01, "a constant moved"
if control_iterations >= 300 and alpha < 1:
    assert known["in, HU"]["identity"] < 0.1 * known["start, HU"]["identity"], "the identity was found invariant"
    assert known["in, HU"]["constant"] > 2 * known["start, HU"]["constant"], "a constant was not found invariant"
    assert known["power where gain < √α"]["blur"] > 0.9, "the blur's null space was missed"
    if erased and alpha < 0.25:
        assert caught > 20 > 20 * after, "lesions that f erases were missed"
        assert spared < 1, "lesions that f halves were found hidden"
train_patients = set(cohort.slices.patient[cohort.slices.split == "train"])
assert test_source or train_patients.isdisjoint(c.patient for c in found), "a patient that is examined was trained on"

numbers = {f"own_{end}_beyond_level": float(far[end]) for end in far}
for method, ratio in times.items():
    key = method.lower().replace(" + ", "_").replace(" ", "_")
    numbers |= {f"{key}_{end}_over_null": float(ratio[f"{end}_hu"]) for end in ("in", "out")}
    numbers |= {f"{key}_segments_{what}": int(of_segments[what][method]) for what in ("tested", "changed", "hidden")
                if method in of_segments.index}  # fmt: skip
    if with_lesions and method in held:
        numbers |= {f"{key}_lesions_{what}": int(held[method][what]) for what in ("tested", "changed", "hidden")}
if with_lesions:
    numbers |= {"d_prime_kept": kept_d.mean, "d_npw_kept": kept_npw.mean, "contrast_kept": kept_contrast}
run.finish(
    denoiser=trained.id, method=name, network=trained.params["network"], cohort=test.id, patients=patients,
    crops=len(found), encoder=encoder.provenance if encoder else None, **numbers,
)  # fmt: skip

# %%
into, out = (times["search"][f"{end}_hu"] for end in ("in", "out"))
in_words = (
    " No lesions are known here. Segments whose mean was changed by more than the null explains: "
    + "; ".join(f"{m}: {evidence.said(of_segments.loc[m])}" for m in (*x_inv, NULL["search"])) + "."
) if not with_lesions else (
    f" Lesions: {told}; only one of whose contrast f passes on less than {alpha**0.5:.2f} could be found. Over noise "
    f"realisations, which is how often and not whether, f keeps {kept_contrast:.2f} of the lesions' contrast and, of "
    f"lesions that are hard to see, {kept_d.mean:.2f} of d' (NPW: {kept_npw.mean:.2f})."
)  # fmt: skip
report.text(
    f"**What we saw.** Changes {into:.1f} times as large as another noise realisation move f's output {out:.2f} times "
    f"as much as it does.{in_words} One limit: crops of {crop} pixels, one network, one start a crop."
    + (" `06_stats` compares runs of this notebook." if with_lesions else "")
)
