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
# **Question.** Which changes of a low-dose slice leave the output of a denoising network as it was? Noise should be
# among them. Is anatomy?
#
# **Reads** a finished `03_train` run, its cohort, and optionally a generator and a flow of `05a_train_invariances`.
# **Writes** `search.npy`, `evidence.parquet` (changes of input and output), `*_counts.parquet` (what was changed, and
# hidden), `contrasts.parquet`, `detection.parquet` (what is kept of lesions). **Cost**: 15 minutes on one core.
#
# Words: f is the network, x the low-dose slice (LDCT), NDCT its partner at normal dose. A *repeated scan* is the same
# patient at the same dose with new noise. d′ says how well an observer tells "lesion" from "no lesion"; 0 is guessing.

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
crop: int = 128  # rows and columns around a patient's lesions, else of the slice's middle, pixels
crops: Optional[int] = 1  # most crops a patient, each of another slice; None takes all its test slices
most_patients: Optional[int] = None  # examine no more than this many; None takes all
realisations: int = 200  # other noise draws of every crop, with lesions and without
distance: str = "mse"  # mse, dssim or vgg16 (context: below)
context: str = "auto"  # of the VGG-16: imagenet, random, a weights file, or auto (imagenet if it is here, else random)
scale_hu: Optional[float] = None  # HU at which the bounded distance is 1/2 (dssim: data range); None: its usual one
tile: Optional[int] = None  # mse: bound every tile of so many pixels a side by itself; None bounds the crop as one
alpha: float = 0.1  # weight of the change, in (0, 1): the share of its power that f may pass on
sigma_hu: float = 41.0  # SD of the noise at the start, HU; 41: Kachelriess' 1e-2, read as SD of the network range
lr: float = 1e-3  # Adam's learning rate, network range: 4.1 HU an iteration
iterations: int = 3000  # of Adam
aim_px: Optional[float] = 2.0  # a second search, rewarded for changes blurred by so many pixels (SD); None: only one
control_iterations: int = 300  # for the controls
at_once: int = 8  # crops that go through f together
samples: int = 32  # draws a crop of generator and flow
level: float = 0.05  # a change counts where so small a share of repeated scans change as much
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

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import numpy as np

from ldct_utils import cohorts, report
from ldct_utils.invariance import cases, controls, distances, drawn, evidence, examine, images, optimise, summary
from ldct_utils.models import encoders
from ldct_utils.report.drawings import invariances as drawings
from ldct_utils.report.drawings import known_ct
from ldct_utils.training import checkpoints, designs, setup

# %% [markdown]
# ## The network and its patients
# A crop of a simulated patient holds known lesions, and the scanner runs again with all noise new. The difference of
# two such **repeated scans** is what a denoiser should not see. A real slice was scanned once, so only the noise that
# lowers its dose is drawn anew; that d′ is 15 % too high at a quarter of the dose is corrected (`observers.unfrozen`).

# %%
setup.seed_everything(seed, threads)
examination = examine.Examination(realisations, level, segmentation, region, faint)  # refuses what has no answer
examination.fits(crop)
trained = runs.load(denoiser)
f = checkpoints.load_network(trained.folder, "last" if checkpoint is None else checkpoint)
whose = (trained.id, max(checkpoints.checkpoints(trained.folder)) if checkpoint is None else checkpoint)
denoised = images.denoiser(optimise.freeze(f, device), device, at_once)

# %%
cohort = cohorts.of(trained)
test = cohorts.tested_on(cohort, test_source, test_root)
found = cases.chosen(test, test.rows("test"), crop, realisations, seed, crops, most_patients)
x_hu = np.stack([case.ldct for case in found])
lesions = sum(len(case.inside) for case in found if case.inside is not None)
with_lesions, patients = lesions > 0, len({case.patient for case in found})
people = f"{report.plural(patients, 'patient')}, {report.plural(lesions, 'known lesion')}, one training"

# %% [markdown]
# ## First generation: searching
# We look for an input x_inv that lies far from x and that f maps to the same output. Adam, from x + n, minimises
# **d(f(x), f(x_inv)) − α d(x, x_inv)**. Kachelriess' talk bounds the distance d, without saying how; ours is m / (m +
# s²) with m the mean square, which stays under 1 and keeps a gradient. A search finds a small change only if the
# network passes on less than √α of its amplitude.
#
# A *plain search* mostly finds fine texture, which f does not see. An *aimed search* asks whether f hides *anatomy*:
# its change counts only after a Gaussian blur, while the output must stay as it was at every scale. It runs in float32:
# bf16 rounds soft tissue to 8 HU, which would pass for an invariance.

# %%
encoder = encoders.load("vgg16", context, ["block3_conv3"], seed=seed) if distance == "vgg16" else None
measure = distances.build(distance, scale_hu, encoder, tile)
SEARCHES = {"search": None}
if aim_px:  # the scale of dssim is a data range
    SEARCHES["aimed"] = distances.build("mse", None if distance == "dssim" else scale_hu, tile=tile, blur_px=aim_px)


def searched():
    """x_inv (searches, crops, H, W) float32 HU. Killed at any moment, it goes on where it was."""
    start = partial(optimise.Search, f, images.batch(x_hu), measure, alpha, sigma_hu, lr, seed, device=device)
    bits = {"search": precision, "aimed": "float32"}
    search = {k: start(precision=bits[k], batch=at_once, distance_in=aim) for k, aim in SEARCHES.items()}
    optimise.finish(search, iterations, run.folder, run.id, save_every_s)
    run.table("trajectory", lambda: optimise.course(search, found))
    return np.stack([images.in_hu(one.x_inv) for one in search.values()]).astype(np.float32)


# %%
x_inv, before = dict(zip(SEARCHES, run.array("search", searched))), denoised(x_hu)
rows = drawings.rows_of(found)  # one crop of each anatomy, its lesions circled
course = run.table("trajectory")
for method, changed in x_inv.items():
    after = denoised(changed)
    report.figure(
        run, method, drawings.changed_inputs(rows, x_hu, changed, before, after),
        summary.outcome(course, method, (changed, x_hu), (after, before)),
        f"Root mean squares over {people}; shown: one patient of each anatomy. Each row has a scale of its own. By its "
        "aim a search keeps a change only where the network damps it.", alt=drawings.ALT["changed_inputs"],
    )  # fmt: skip

# %% [markdown]
# ### Controls with known answers
# The search must give x back for the identity (α < 1), run to its bound for a constant, and find what a mean filter
# passes by less than √α. The aimed search must catch a denoiser that erases lesions, not one that halves.

# %%
aimed_at = (found[0].inside, found[0].around, aim_px) if aim_px else ()
on_known = partial(controls.searched, found[0].ldct, alpha, sigma_hu, lr, control_iterations, seed, *aimed_at)
known = run.table("controls", on_known).set_index("control")
report.table(
    run, "controls", known.rename(index={"blur": "mean filter"}).reset_index(),
    "A test denoiser that returns its input hides nothing; there the search still changed "
    f"{report.number(known['in, HU']['identity'], unit='HU')} (correct: 0).", "For a mean filter, "
    f"{report.percent(known['power where gain < √α']['blur'])} of the change lies where the filter passes less than "
    f"√α = {report.percent(alpha**0.5)} (correct: 100 %). Erased lesions must change in the input alone. One crop.",
    heads={column: head for column, head in drawings.CONTROLS.items() if column in {"control", *known}},
)  # fmt: skip

# %% [markdown]
# ## Second and third generation: drawing
# A generator, and a VAE with a flow, were trained to draw images that look like low dose (`05a_train_invariances`).
# The VAE's reconstruction of x stands beside them: what a decoder cannot draw looks like an invariance.

# %%
MADE = {method: changed[:, None] for method, changed in x_inv.items()}  # {method: (crops, draws, side, side) HU}
settings = {"denoiser": whose, "crops": x_hu, "samples": samples, "seed": seed, "device": device}
if generator:
    MADE["generator"] = run.array("generated", lambda: drawn.generated(runs.load(generator), **settings))
if flow:
    of = runs.load(flow)
    flowed = run.array("flowed", lambda: drawn.flowed(f, of, runs.load(of.params["vae"]), **settings))
    MADE |= {"VAE + flow": flowed[:, 1:], "VAE alone": flowed[:, :1]}
on_controls = of.numbers.get("controls_on_ct") if flow else None  # whether such models work where the answer is known

# %%
for method in (one for one in ("generator", "VAE + flow") if one in MADE):
    x, draw = examine.middle(x_hu, MADE[method].shape[-1]), MADE[method]
    spread, panels = draw.std(axis=1, ddof=1), {f"draw {k + 1}": draw[:, k] for k in range(3)}
    panels = {"low-dose input": x, "output": denoised(x), **panels, "output of draw 1": denoised(draw[:, 0])}
    apart = evidence.rmse_hu(panels["output of draw 1"], panels["output"]).mean()
    report.figure(
        run, f"draws_{method.split()[0].lower()}", drawings.draws(rows, panels, spread),
        f"Draws of the {method} differ from each other by {np.sqrt(np.mean(spread**2)):.1f} HU (SD).",
        f"{known_ct.warned(on_controls, [method]) or summary.explained([method])} The LDCT differs from its NDCT by "
        f"{np.std(x_hu - [one.ndct for one in found]):.1f} HU (SD). The outputs of the input and of draw 1 differ by "
        f"{apart:.1f} HU (0 if the model is right).", alt=drawings.ALT["draws"],
    )  # fmt: skip

# %% [markdown]
# ## Is the change an invariance?
# How far are the images of a method from x and, after f, from f(x), and how far are repeated scans? An invariance is
# large in the input and *smaller than a repeated scan* in the output. A blur of 2 pixels tells anatomy from noise.

# %%
tables = examination.stored(run, with_lesions, denoised, found, MADE)
changes, NULL = tables["evidence"], {method: examine.null_of(made) for method, made in MADE.items()}  # repeated scans
LABELS = known_ct.marked({method: summary.called(method) for method in MADE}, on_controls)
ratios = summary.against_null(changes, NULL, draws, seed)
answer, mean = summary.beside_scans(summary.ratios(changes, NULL)["search"]["in_hu"]), summary.on_average(ratios)
report.table(
    run, "ratios", ratios.assign(method=ratios.method.map(LABELS)), answer,
    f"{mean} {summary.explained(MADE)} {known_ct.warned(on_controls, MADE)}".strip(), heads=drawings.RATIOS,
)  # fmt: skip
report.figure(
    run, "evidence_shown", drawings.beside_repeated_scan(summary.ratios(changes, NULL), LABELS), answer,
    f"A point a patient; {people}. Right of the vertical line the input changes more than between two scans. Below the "
    "diagonal the network damps the change more than it damps noise.", alt=drawings.ALT["beside_repeated_scan"],
)  # fmt: skip
repeated = changes[changes.method == NULL["search"]].groupby("anatomy")[["in_hu", "out_hu"]].mean()
report.figure(
    run, "trajectories", drawings.courses(course, repeated, {one: LABELS[one] for one in x_inv}),
    summary.ended(course, x_inv), f"Settled: the change of the input moved by less than "
    f"{report.percent(summary.STEADY)} over the last tenth. Solid: a crop each. Dashed: repeated scans.",
    alt=drawings.ALT["courses"],
)  # fmt: skip

# %% [markdown]
# ## Does the network hide anatomy?
# p is the share of repeated scans that change a segment's mean, or a lesion's contrast (its mean minus that of its
# organ around it), as much. *Changed*: p ≤ level in the input. *Hidden*: changed, and p > level in the output. As
# controls, held-back scans and the unchanged input should have p ≤ level in that share of cases.

# %%
counts = {
    what: run.table(f"{what}_counts", lambda what=what: evidence.counted(tables[f"{what}s"], level, draws, seed))
    for what in ("segment", "lesion")[: 1 + with_lesions]
}
far, reach = summary.beyond(tables["own"], level), summary.within_reach(tables.get("contrasts"), alpha)
told = {"segment": f"As a check, {report.percent(far['in'], 1)} of segments of the unchanged input look changed, where "
        f"{report.percent(level)} is right.", "lesion": summary.reachable(reach, alpha)}  # fmt: skip
say = {what: summary.hiding(count, x_inv, what, NULL) for what, count in counts.items()}
for what, count in counts.items():
    report.table(
        run, f"{what}_counts", summary.shown(count, LABELS), say[what], f"{told[what]} {summary.seeming(count, what)} "
        f"{people}.", heads=drawings.COUNTS,
    )  # fmt: skip

# %%
if with_lesions:
    regions = evidence.kinds(evidence.verdicts(tables["lesions"], level))
    run.table("lesion_kinds", lambda: summary.by_kind(regions))
    report.figure(
        run, "lesions_shown", drawings.lesion_changes(regions, NULL, LABELS), say["lesion"],
        "On the dotted line a change is passed on whole; at 0 it is hidden.", alt=drawings.ALT["lesion_changes"],
    )  # fmt: skip

# %% [markdown]
# ## Existence is not frequency
# One image in which f hides a change does not tell how often that occurs. So over repeated scans: **contrast kept** is
# f(x + lesion) − f(x) as a share of what the lesion adds, with the same noise in both. **d′**, before and after f, is
# that of two observers. *CHO, retrained* (channelised Hotelling) learns anew on the images of each network and is a
# ceiling; *NPW* (non-prewhitening) knows the lesion, takes noise as white. Strong lesions are weakened to d′ `faint`.

# %%
kept = {}
if with_lesions:
    contrasts, detection = evidence.kinds(tables["contrasts"]), tables["detection"]
    kept = summary.kept(contrasts, detection, draws, seed)
    share = {what: report.interval(*100 * np.array([s.mean, s.low, s.high]), unit="%") for what, s in kept.items()}
    happens = (f"The network keeps {share['contrast']} of the lesions' contrast and, for CHO, retrained, "
               f"{share['d_prime']} of d′.")  # fmt: skip
    report.table(
        run, "contrast_kept", summary.exists_and_happens(regions, contrasts, detection, x_inv, draws, seed), happens,
        f"95 % intervals over patients; {people}.",
        heads=drawings.KEPT | {f"exists, {one}": f"lesions, {LABELS[one]}" for one in x_inv},
    )  # fmt: skip
    report.table(
        run, "lesions_kept", summary.by_lesion(contrasts, regions, x_inv, alpha), told["lesion"],
        "Brackets: lowest and highest of repeated scans.", drawings.LESIONS | {one: LABELS[one] for one in x_inv},
    )  # fmt: skip
    pair = summary.kept_by_lesion(contrasts), summary.d_prime_by_lesion(detection)
    report.figure(
        run, "detection_shown", drawings.kept(*pair, alpha**0.5), happens,
        "Left: mean and range over scans, a point a lesion. Right: lesions of which the contrast was reduced until d′ "
        f"was {faint:g} or less; for NPW the network keeps {share['d_npw']} of it.", alt=drawings.ALT["kept"],
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(changes[["in_hu", "out_hu"]].to_numpy()).all()
controls.check(known, alpha, control_iterations)
taught = set(cohort.slices.patient[cohort.slices.split == "train"])
assert test_source or taught.isdisjoint(case.patient for case in found), "a patient that is examined was trained on"
run.finish(
    denoiser=trained.id, method=designs.called(trained), network=trained.params["network"], cohort=test.id,
    patients=patients, crops=len(found), encoder=encoder.provenance if encoder else None,
    **summary.as_numbers(ratios, far, counts), **reach, **{f"{what}_kept": span.mean for what, span in kept.items()},
)  # fmt: skip

# %%
anatomy = f"{say['lesion']} {happens}" if with_lesions else "No lesions are known here."
network, loss = (designs.spoken(name) for name in (trained.params["network"], designs.called(trained)))
report.text(f"**What we saw.** {answer} {mean} {anatomy} Limit: {crop}-pixel crops, one {network} trained with {loss}.")
