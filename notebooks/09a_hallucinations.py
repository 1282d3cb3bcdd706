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
# # 09a · What did a denoiser remove or invent?
# **Question.** A denoised image may lack a structure that was there, or show one that was not. Can either be found in
# the single image, by a test that does not call noise a change, and how many are found?
#
# **Reads** finished `03_train` runs of one cohort. **Writes** `segments.parquet` (the test of every segment),
# `suspicious.parquet` (the ranked list), `detector.parquet` (ROC and FROC of planted changes), `patches.parquet` and
# `patch_detector.parquet` (the same for sFRC), `all_denoisers.parquet`. **Cost** on one core: a minute for 10 patients.
#
# Kachelriess ("Problems in Assessing AI Image Quality", DKFZ) proposes to look at the segments that changed unusually;
# what is unusual the slides leave open. Every denoiser changes every segment, since it takes the noise away.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/09a_hallucinations/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
denoiser: Optional[str] = None  # the one whose segments are listed and drawn; None takes the first of runs
test_source: Optional[str] = None  # examine another cohort, all of it; None takes the test patients of the runs' own
test_root: Optional[str] = None  # folder of that cohort
segmentation: str = "felzenszwalb"  # sam (its weights must be there), felzenszwalb, otsu or thresholds
min_area: int = 20  # least area of a segment, pixels
sources: list = ["ndct", "ldct", "prediction"]  # images whose segments are tested; a hospital has the last two
slices_each: int = 1  # slices of a patient that are tested: those with most of its lesions
realisations: int = 6  # scans of each of these without its lesions, for the null; even
tolerated: float = 0.1  # share of its contrast that any structure may lose or gain; 0 counts every change
classes: int = 2  # of area, each with a null of its own
patch: int = 64  # side of the patches of the second detector, sFRC, pixels; even
alpha: float = 0.05  # at which Benjamini and Hochberg's procedure calls a segment of a slice and source suspicious
worst: int = 4  # most suspicious segments that are drawn
draws: int = 1000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
device: str = "auto"  # auto, cpu or cuda
precision: str = "float32"  # of the networks: auto, float32 or bf16, whose rounding is a change of 1 HU itself
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("09a_hallucinations", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.report import bars, listed, number, percent, plural, sentences
from ldct_utils.report.drawings import changes as drawings
from ldct_utils.structures import detectors, null, pipeline
from ldct_utils.study.runs import load, select
from ldct_utils.training import designs, prediction, setup

# %% [markdown]
# ## Denoisers, patients, slices

# %%
setup.seed_everything(seed, threads)
sources = pipeline.known_sources(sources)
chosen, about_runs, _ = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
test = cohorts.tested_on(cohort, test_source, test_root)
tested = pipeline.most_affected(test, "test", slices_each)
patients = len({patient for patient, _ in tested})

# %%
denoise = {name: prediction.denoiser(one, 1, precision, device) for name, one in zip(about_runs.run, chosen)}
method = dict(zip(denoise, about_runs["method"]))
called = {name: designs.spoken(words) for name, words in method.items()}
ids = dict(zip((one.id for one in chosen), about_runs.run))
main = pipeline.one_of(denoiser, load(denoiser).id, ids) if denoiser else about_runs.run[0]

# %%
report.table(
    run, "methods", about_runs.assign(called=about_runs.run.map(called)),
    f"The lists below are for {called[main]}.",
    f"{plural(len(tested), 'slice')} of {plural(patients, 'patient')}, at most {slices_each} a patient.",
    {"run": "run", "called": "method", "seed": "seed"},
)  # fmt: skip

# %% [markdown]
# ## A test for every segment
# By how much did a segment's contrast (its mean without its rim, minus that of a ring around it) change from LDCT to
# output? z is this change in units of what the noise that the network removes would do, given its power spectrum and
# local level. Networks also take a little from every healthy edge, so that a share of the contrast is tolerated.
#
# That z is no p-value: segments follow the noise of the image they were found in, and edges differ. p comes from a
# **null**: the same numbers of all *other* patients, from slices *without lesions* that went through scanner, network,
# segmentation and scoring alike. For simulated patients these are the tested slices, their lesions gone and all noise
# new. What real patients hide is not known: their slices as they are give the null, and p says only that a segment is
# unusual. Of one real scan with inserted lesions its *other slices* are the others, and p holds for it alone.
#
# Changes are planted by exchanging two scans. *Removal*: the network never saw the lesions of the LDCT. *Insertion*:
# the LDCT never had those that it saw. One more denoiser, the *perfect* one, gives the noise-free truth of lesion-free
# scans: whatever a test calls changed there is a false alarm.

# %%
free_known = test.absent_ndct is not None  # the slices without their lesions, so that they can be scanned again
make_free = partial(pipeline.free_scans, test, tested, realisations, seed, tqdm)
slices = pipeline.Slices(test, tested, denoise, run.array("free", make_free) if free_known else None, tqdm)
NULL, whose = "null" if free_known else "as it is", "row" if patients == 1 and free_known else "patient"
nulled = len({one[whose == "row"] for one in tested}) >= 2  # whose others give the null

# %%
find = pipeline.finder(segmentation, min_area)
with_p = partial(pipeline.with_p, kind=NULL, whose=whose, classes=classes) if nulled else (lambda table: table)
examined = run.table("segments", lambda: with_p(pipeline.examined(slices, sources, find, tolerated, tqdm)))
if not nulled:
    report.text("**One patient has no others to give a null**: segments are listed by |z|, without p-values.")

# %% [markdown]
# ## Are the p-values right where nothing was lost?
# In lesion-free scans 5 % of the segments must have p < 0.05, and 0.5 % p < 0.005, where the list below is decided.
# *Naive* takes pixels as independent, *spectrum* takes z as normal: they are controls of what this check can see.
# Segments of a patient share anatomy and noise. Intervals are therefore over patients, and the Kolmogorov–Smirnov (KS)
# test takes one segment a patient, 200 times.

# %%
calibrated = free_known and nulled
if calibrated:
    free_rows = examined[examined.kind == "null"]
    calibration = run.table("calibration", lambda: null.calibrations(free_rows, main, method, whose, draws, seed))
    alarms = null.calibration_numbers(calibration, method[main])
    report.table(
        run, "calibration", calibration.replace(drawings.IMAGES | {method[main]: called[main]}),
        drawings.calibrated(calibration, method[main], called[main]), "5 % is right. Perfect: a denoiser that gives "
        "the noise-free truth. Tests: null is this test, naive takes pixels as independent, spectrum takes z as "
        f"normal. {bars(patients, 'patient', 'Brackets')}", drawings.CALIBRATION,
    )  # fmt: skip

# %%
if calibrated:
    report.figure(
        run, "uniform", drawings.p_values(free_rows[free_rows.run == main]),
        f"{percent(alarms['p_under_05'], 1)} of the lesion-free segments have p < 0.05, where 5 % is right.",
        f"{called[main]}; on the dotted lines p is right. {drawings.right(calibration, method[main])} "
        f"Right: by patient, {drawings.in_patients(free_rows[free_rows.run == main])}; colours sorted apart.",
        alt="Left: share of segments at or below p against p, both logarithmic. Right: that share at 0.05, by patient.",
    )  # fmt: skip

# %% [markdown]
# ## The most suspicious segments
# All segments of the slices as they are, by p, corrected within a slice and source (Benjamini and Hochberg). The
# procedure keeps its rate only if p is right in the tail; what it names on scans *without* lesions tells.

# %%
judged = null.judged(examined[examined.kind.isin(["as it is", NULL])], alpha, nulled)
suspects = run.table("suspicious", lambda: null.listed(judged[(judged.run == main) & (judged.kind == "as it is")]))
rates = null.rates(judged, method, calibrated, draws, seed)
named = drawings.named(rates, main, nulled, calibrated)
report.table(
    run, "suspicious", suspects.replace({"source": drawings.IMAGES}), named,
    drawings.most_suspicious(suspects, alpha, nulled) + " A change of the opposite sign of the contrast fades it.",
    drawings.SUSPICIOUS | ({"p": "p", "p_adjusted": "corrected p"} if nulled else {"z": "z"}),
)  # fmt: skip

# %%
count = int(suspects.suspicious.sum())
drawn = suspects[suspects.suspicious].head(worst) if count else suspects.head(1)
report.figure(
    run, "worst", drawings.suspects(pipeline.cutouts(slices, main, drawn, find)),
    drawings.first_suspect(drawn, count, nulled),
    f"Contour: the segment; circle: a known lesion. The output is that of {called[main]}.",
    alt="Cut-outs of the LDCT, the output, the NDCT and the difference of the first two, with a segment's contour.",
)  # fmt: skip

# %% [markdown]
# ## Does the test find what is planted?
# A segment shows a lesion if at least half of it lies in it. Beside the test stand the naive z and SRMSE(x, f(x)), the
# change alone. A lesion that no segment shows is missed at any threshold, so that it matters **which image is
# segmented**: a removed lesion is gone from the output, but left in the LDCT and in the NDCT, which a hospital has not.

# %%
planted = nulled and test.absent_ldct is not None
if planted:
    with_lesions = detectors.lesion_slices(test, tested)
    detector = run.table("detector", lambda: detectors.by_segment(examined, with_lesions, main, sources, draws, seed))
    own_curves = detector[detector.run == main]
    table = detectors.lines(own_curves, {"kind": "kind", "segments_of": "segments of", "score": "score"})
    all_of = table[(table["segments of"] == "all") & (table.score == "this test")].set_index("kind")
    found, simple = detectors.found_said(table), detectors.simpler_said(table)
else:
    report.text("Nothing can be planted: the lesions of these patients are not known, or nothing gives a null.")

# %%
if planted:
    curves = own_curves[own_curves.segments_of == "all"]
    report.figure(
        run, "detector_shown", drawings.detector(curves, list(detectors.SCORES), detectors.marks(with_lesions)), found,
        f"{simple} {called[main]}; the right panels count lesions that no segment shows as missed. "
        f"{bars(own_curves.patients.max(), 'patient', 'Bands of two scores')}",
        alt="ROC and FROC curves of removals (top) and insertions (bottom) for three scores, with bands.",
    )  # fmt: skip
    report.table(
        run, "detector_table",
        table.replace({"segments of": drawings.IMAGES}).assign(by=table.score.replace(drawings.SCORES)),
        f"Segments show {all_of.shown['removal']} removed and {all_of.shown['insertion']} inserted lesions.",
        "Others cannot be found. Naive z takes the noise of pixels as independent, change alone is the RMS of output "
        f"minus LDCT. {bars(patients, 'patient', 'Brackets')}",
        {"kind": "kind", "segments of": "segments of", "by": "score"} | drawings.FOUND,
    )  # fmt: skip

# %% [markdown]
# ## A second detector: Fourier rings in patches
# Scanning Fourier ring correlation (sFRC; Kc, Zeng, Soni and Badano 2026) compares the output with a **reference** in
# patches. The frequency at which they stop to agree is the patch's score: where it is low, something coarse differs.
# The noise-free truth is meant to show the most that could be found. A patch is one mark, so other scores are read by
# patches too. Lesions 4 and 16 times as strong are removed too, as controls. *Validation* patients give the cutoff.

# %%
if planted:
    patches = run.table("patches", lambda: detectors.all_patches(slices, cohort, slices_each, patch))
    judge = partial(detectors.by_patch, patches[patches.split == "test"], examined, with_lesions, main)
    by_patch = run.table("patch_detector", lambda: judge(draws, seed))
    by_segment = curves.assign(detector=curves.score.map(detectors.LINES) + ", by segment")
    both = pd.concat([by_segment, by_patch[by_patch.run == main]])
    at_one = detectors.lines(both, {"kind": "kind", "detector": "detector"})

# %%
if planted:
    of_sfrc = at_one[at_one.detector == detectors.REFERENCES["ndct"]].set_index("kind")["found at 1 false mark"]
    seen = listed([detectors.told(of_sfrc[kind], kind) for kind in detectors.KINDS])
    report.figure(
        run, "patch_detector_shown", drawings.patch_detector(both),
        f"At one false mark a slice sFRC against the NDCT finds {seen}.", "Of removals 16 times as strong it finds "
        f"{percent(of_sfrc[detectors.stronger(16)])}. {called[main]}, patches of {patch} pixels. "
        f"{bars(own_curves.patients.max(), 'patient', 'Bands of two lines')}",
        alt="FROC curves of removals (left) and insertions (right): lesions found against false marks a slice.",
    )  # fmt: skip
    report.table(
        run, "patch_detector_table", at_one.sort_values("found at 1 false mark", ascending=False),
        detectors.bound_said(at_one) or found, f"Shown: how many of the {by_patch.lesions.max()} lesions lie in a "
        "segment or patch. A patch may be marked for another segment in it.",
        {"kind": "kind", "detector": "detector"} | drawings.FOUND,
    )  # fmt: skip

# %%
tuned = planted and (patches.split == "val").any()
if tuned:
    again = realisations if free_known else 0
    cutoffs = run.table("cutoffs", lambda: detectors.cutoffs(patches, with_lesions, main, again, draws, seed))
    mine = cutoffs[cutoffs.run == main].set_index("reference")
    report.table(
        run, "cutoffs", cutoffs.replace({"reference": drawings.IMAGES}),
        f"Tuned for 1 false mark a slice, sFRC against the NDCT gives {number(mine.false['ndct'], 1)} on other patients"
        + (f" and {number(mine.false_free['ndct'], 1)} on their lesion-free scans." if again else "."),
        f"Tuned with {called[main]}. On lesion-free scans every mark is false. {bars(patients, 'patient', 'Brackets')}",
        drawings.of(cutoffs, drawings.CUTOFFS),
    )  # fmt: skip

# %% [markdown]
# ## All denoisers
# What each leaves for a reader to check, beside what chance leaves, and how well changes planted in it are found.

# %%
if nulled:
    everyone = run.table("all_denoisers", lambda: rates.merge(detectors.of_runs(detector)) if planted else rates)
    ends = dict.fromkeys(number(everyone[null.RATES[0]].agg(end), 2) for end in ("min", "max"))
    everyone["called"] = everyone.run.map(called)
    report.table(
        run, "all_denoisers", everyone.sort_values(null.RATES[0]),
        f"The test calls {' to '.join(ends)} segments a slice suspicious, by network.",
        f"Lesions are found at one false mark a slice. {bars(patients, 'patient', 'Brackets')}",
        drawings.of(everyone, drawings.ALL),
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
train = {*cohort.slices.patient[cohort.slices.split == "train"]}
assert test_source or train.isdisjoint(patient for patient, _ in tested), "a patient is in two splits"
assert examined.z.notna().all() and (not nulled or examined.p.between(0, 1).all())
run.finish(
    cohort=test.id, denoiser=main, methods=len({*method.values()}), segmentation=segmentation,
    **(null.numbers(rates, main) if nulled else {}), **(alarms if calibrated else {}),
    **(detectors.numbers(table, at_one, sources) if planted else {}),
    **({"sfrc_cutoff_lp_mm": mine.cutoff.to_dict()} if tuned else {}),
)  # fmt: skip

# %%
told = [found, simple, f"sFRC, which takes the NDCT as its reference, finds {seen}."] if planted else []
unseen = f"A lesion that {sentences.outlined_by(segmentation)} did not outline stays unseen; organ labels outline none"
report.text(f"**What we saw.** {' '.join(filter(None, [*told, named]))} {unseen}, so they are no choice here. "
            "Next: `05_invariances` asks whether a network *can* hide one.")  # fmt: skip
