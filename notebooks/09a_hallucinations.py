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
# `patch_detector.parquet` (the same for a second detector, sFRC), `all_denoisers.parquet`. **Cost** on one core: three
# seconds a lesion-free slice for its scans, then a quarter of a minute a denoiser for slices of ten patients.
#
# Kachelriess ("Problems in Assessing AI Image Quality", DKFZ) proposes to compare each segment of the LDCT with the
# output and to look at those that changed unusually; what is unusual the slides leave open. Every denoiser changes
# every segment, since it takes the noise away: without a null, a large change says nothing.

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

# %%
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import kstest, norm
from tqdm.auto import tqdm

from ldct_utils import cohorts, report, segments
from ldct_utils.ct import intensity
from ldct_utils.report import bracket, plots
from ldct_utils.stats import intervals
from ldct_utils.structures import froc, hallucinations, null, sfrc
from ldct_utils.study.runs import load, select
from ldct_utils.training import designs, prediction, setup

setup.seed_everything(seed, threads)

# %% [markdown]
# ## Denoisers, patients, slices

# %%
chosen, listed, varying = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
test = cohorts.tested_on(cohort, test_source, test_root)
about = test.slices.set_index("row", drop=False).loc[test.rows("test")]
free_known = test.absent_ndct is not None  # the slices without their lesions, so that they can be scanned again
alone = about.patient.nunique() == 1
if unknown := set(sources) - {"ndct", "ldct", "prediction"}:
    raise ValueError(f"sources are ndct, ldct and prediction, got {', '.join(sorted(unknown))}")


def most_affected(part, of=test):
    """Rows of a patient's slices with most of its lesions, or around its middle where none are known."""
    if of.lesion_masks is None:
        middle = (len(part) - slices_each) // 2
        return part.index[max(0, middle) :][:slices_each]
    area = {row: int((of.lesion_masks[row] > 0).sum()) for row in part.index}
    return sorted(area, key=area.get, reverse=True)[:slices_each]


denoise = {name: prediction.denoiser(one, 1, precision, device) for name, one in zip(listed.run, chosen)}
method = dict(zip(denoise, listed["method"]))
name_of = dict(zip((one.id for one in chosen), listed.run))
main = name_of.get(load(denoiser).id) if denoiser else listed.run[0]
if main is None:
    raise ValueError(f"the denoiser {denoiser} is none of the runs; add it to runs")
tested = [(patient, int(row)) for patient, part in about.groupby("patient") for row in most_affected(part)]
WHOSE = "row" if alone and free_known else "patient"  # whose others give the null
nulled = len({row if WHOSE == "row" else patient for patient, row in tested}) >= 2
report.table(
    run, "methods", listed,
    f"Denoisers. Cohort {test.id}; tested: {report.plural(len(tested), 'slice')} of "
    f"{report.plural(about.patient.nunique(), 'patient')}. Segments are listed for {method[main]}, run {main}."
    + " One patient: nothing below has an interval over patients." * alone,
)  # fmt: skip

# %% [markdown]
# ## A test for every segment
# A segment is compared between the LDCT and the output: by how much did its contrast (its mean without its rim, minus
# that of a ring around it) change, in units of what the noise that the network removes would do to it, given its power
# spectrum and local level? Networks also take a little from every healthy edge, surely and without meaning, so that a
# share of the segment's own contrast is tolerated. That z is not yet a p-value: segments follow the noise of the image
# they were found in, and edges differ. p-values therefore come from a **null**: the same numbers of all *other*
# patients, from slices *without lesions* that went through scanner, network, segmentation and scoring alike.
#
# For simulated patients these are the tested slices, their lesions gone and all noise new. Of real patients it is not
# known what they hide: there the null is the other patients' slices as they are, with whatever f does to them, and a p
# says only that a segment is unusual among patients. Where lesions were inserted into a real scan, the scan without
# them gives the null, only the noise that lowers the dose being new. If that is one patient, its *other slices* take
# the place of the other patients: a p then holds for this patient alone, and slices of one patient are more alike than
# patients are.


# %%
def free_scans():
    """(slices, realisations, 2 or 3, H, W) int16: LDCT, NDCT and, where it is known, truth without lesions."""
    found = []
    for number, (_, row) in enumerate(tqdm(tested, desc="scans without lesions", unit="slice")):
        images = hallucinations.lesion_free(test, row, realisations, [seed, number])
        truth = [images["truth"]] if "truth" in images else []
        found.append([np.stack([images["ldct"][k], images["ndct"][k], *truth]) for k in range(realisations)])
    return np.array(found)


def scans(of, rows):
    """(name, row, 0) -> images, HU. A twin is the same scan without lesions, to the last noise."""
    found = {}
    for name, prefix in (("scan", ""), ("twin", "absent_")):
        there = {n: getattr(of, prefix + n) for n in ("ldct", "ndct", "truth")}
        for row in rows if there["ldct"] is not None else ():
            found[name, row, 0] = {n: np.float32(images[row]) for n, images in there.items() if images is not None}
    return found


def inputs():
    """(name, row, realisation) -> images, HU, of the slices that are tested, and of the lesion-free scans."""
    found = scans(test, [row for _, row in tested])
    for number, (_, row) in enumerate(tested if free_known else ()):
        for k in range(realisations):
            found["null", row, k] = dict(zip(("ldct", "ndct", "truth"), np.float32(free[number, k])))
    return found


free = run.array("free", free_scans) if free_known else None
NULL = "null" if free_known else "as it is"

# %% [markdown]
# Changes are planted by exchanging the two scans. *Removal*: f never saw the lesions of the LDCT. *Insertion*: the LDCT
# never had those that f saw. All else is equal. And one more denoiser, the *perfect* one, gives the truth of the scans
# without lesions, where it is known: whatever a test calls changed there is a false alarm.

# %%
PERFECT = "perfect"


def comparisons(row, of=test):
    """(kind, LDCT that is compared, LDCT that f sees, lesions) of one slice; scans by their keys in ``inputs``."""
    labels = None if of.lesion_masks is None else np.asarray(of.lesion_masks[row], int)
    scan, twin, again = ("scan", row, 0), ("twin", row, 0), realisations if free_known and of is test else 0
    found = [("null", ("null", row, k), ("null", row, k), None) for k in range(again)]
    found.append(("as it is", scan, scan, labels))
    if of.absent_ldct is not None:
        found += [("removal", scan, twin, labels), ("insertion", twin, scan, labels)]
    return found


def outputs_of(images):
    """{run: {scan: its output}}, the perfect denoiser's for at most two scans of a slice."""
    found = {
        key: {at: f(one["ldct"]) for at, one in images.items()}
        for key, f in tqdm(denoise.items(), desc="outputs", unit="run")
    }
    perfect = {at: one["truth"] for at, one in images.items() if at[0] == "null" and at[2] < 2 and "truth" in one}
    return found | ({PERFECT: perfect} if perfect else {})


@cache
def images_and_outputs():
    """What both detectors look at."""
    images = inputs()
    return images, outputs_of(images)


def slice_rows(patient, row, images, outputs, spectrum):
    """Tables of the segments of one slice. Those of one image are found once, for all denoisers."""
    body, cache, found = intensity.body_mask(np.float32(test.ndct[row])), {}, []
    body = body if body.any() else None

    def segments_of(name, image):
        if name not in cache:
            regions = segments.segment(image, segmentation, min_area=min_area).regions
            cache[name] = regions, hallucinations.outlined(regions, body)
        return cache[name]

    for kind, compared, seen, labels in comparisons(row):
        for key, made in outputs.items():
            if seen not in made or (key == PERFECT and kind != "null"):
                continue
            ldct, wanted = images[compared]["ldct"], ("truth", "ndct", "ldct") if key == PERFECT else sources
            for source in wanted:
                name = (key, seen) if source == "prediction" else (source, compared)
                image = made[seen] if source == "prediction" else images[compared][source]
                table = hallucinations.examine(
                    ldct, made[seen], *segments_of(name, image), spectrum[key], body, labels,
                    0.0 if key == PERFECT else tolerated,
                )  # fmt: skip
                where = {"patient": patient, "row": row, "realisation": compared[2], "source": source}
                found.append(table.assign(run=key, kind=kind, **where))
    return found


def segment_rows():
    """One row a run, kind, slice, source and segment, with p from the null of the other patients (or slices)."""
    (images, outputs), spectrum, out = images_and_outputs(), {}, []
    for key, made in outputs.items():
        known = [at for at in made if at[0] == ("null" if free_known else "scan")]
        ldct, ndct = ([images[at][name] for at in known] for name in ("ldct", "ndct"))
        spectrum[key] = hallucinations.removed_spectrum(ldct, [made[at] for at in known], ndct)
    for patient, row in tqdm(tested, desc="segments", unit="slice"):
        out += slice_rows(patient, row, images, outputs, spectrum)
    found = pd.concat(out, ignore_index=True).assign(p=np.nan)
    for _, part in found.groupby(["run", "source"]) if nulled else ():
        part = part.assign(patient=part[WHOSE])
        found.loc[part.index, "p"] = null.against_others(part, part[part.kind == NULL], classes)
    return found


examined = run.table("segments", segment_rows)
own = examined[examined.run == main]
if not nulled:
    report.text("**One patient has no others to give a null**: segments are listed by |z|, without p-values.")
elif alone:
    report.text("**One patient**: p-values come from its other slices and hold for it alone.")

# %% [markdown]
# ## Are the p-values right where nothing was lost?
# Scans without lesions, of patients that gave nothing to the null: 5 % of their segments must have p < .05, and .5 %
# p < .005, where the list below is decided. *Naive*: mean difference over SD/√n, pixels as if independent. *Spectrum*:
# the z above as if it were normal. *Null*: its p-value. Naive and spectrum are controls of what the check itself can
# see. Segments of one patient share anatomy and noise: intervals are over patients, and the Kolmogorov–Smirnov test
# takes one segment a patient, 200 times. With so few values it rejects little that is wrong; the shares tell more.

# %%
TESTS = {"naive": lambda t: 2 * norm.sf(t.naive_z.abs()), "spectrum": lambda t: 2 * norm.sf(t.z.abs()),
         "null": lambda t: t.p}  # fmt: skip


def calibration_row(part, p):
    """How p-values of lesion-free segments are spread."""
    part, line = part.assign(p=p), {"segments": len(part)}
    for level in (0.05, 0.005):
        each = (part.p < level).groupby(part.patient).mean()
        span = intervals.patient_bootstrap(each.to_numpy(), draws=draws, seed=seed)
        shown = bracket(span.low, span.high, ".2g") if np.ptp(each) else "–"
        line |= {f"p < {level:g}".replace("0.", "."): span.mean, f"interval, {level:g}".replace("0.", "."): shown}
    ks = [kstest(part.groupby(WHOSE).sample(1, random_state=seed + k).p, "uniform").pvalue for k in range(200)]
    return line | {"KS rejects": float(np.mean(np.array(ks) < 0.05))}


calibrated = free_known and nulled
if calibrated:
    free_rows = examined[(examined.kind == "null") & examined.run.isin([PERFECT, main])]
    calibration = run.table("calibration", lambda: pd.DataFrame([
        {"denoiser": method.get(key, key), "segments of": source, "test": name} | calibration_row(part, made(part))
        for (key, source), part in free_rows.groupby(["run", "source"])
        for name, made in TESTS.items() if key == PERFECT or name == "null" or test.truth is None
    ]))  # fmt: skip
    control = PERFECT if test.truth is not None else method[main]
    ideal = calibration[calibration.denoiser == control].set_index(["segments of", "test"])
    of_null = calibration[(calibration.denoiser == method[main]) & (calibration.test == "null")]
    top = ideal["p < .05"].xs("naive", level="test").idxmax()
    report.table(
        run, "calibration_shown", calibration,
        f"Shares of lesion-free segments with small p; right are .05 and .005. Segments of the {top.upper()} by "
        f"{'a perfect denoiser' if control == PERFECT else control} are changed naively in "
        f"{ideal['p < .05'][top, 'naive']:.0%}, by the spectrum in {ideal['p < .05'][top, 'spectrum']:.0%}, by the "
        f"null in {ideal['p < .05'][top, 'null']:.1%}{' (nothing tolerated)' * (control == PERFECT)}. {method[main]}: "
        + "; ".join(
            f"{r['segments of']} {r['p < .05']:.1%} {r['interval, .05']} and {r['p < .005']:.2%} {r['interval, .005']}"
            for r in of_null.to_dict("records")
        )
        + f". The KS test rejects the null's p in {of_null['KS rejects'].max():.0%} of draws at most, p-values that "
        f"are wrong by construction in {ideal['KS rejects'].drop('null', level='test').min():.0%} to "
        f"{ideal['KS rejects'].drop('null', level='test').max():.0%}.",
    )  # fmt: skip

# %%
if calibrated:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    steps = np.geomspace(1e-3, 1, 101)
    for colour, (source, part) in zip(plots.COLOURS, own[own.kind == "null"].groupby("source")):
        below = part.groupby("patient").p.apply(lambda p: (p < 0.05).mean())
        axes[0].loglog(steps, [(part.p <= c).mean() for c in steps], color=colour, label=source)
        axes[1].plot(np.sort(below), np.arange(1, len(below) + 1), "o-", color=colour, ms=4, lw=0.6, label=source)
    axes[0].loglog(steps, steps, color="black", lw=0.8, ls=":")
    axes[0].set(xlabel="p", ylabel="share of lesion-free segments at or below", ylim=(3e-4, 1.1))
    axes[1].axvline(0.05, color="black", lw=0.8, ls=":")
    axes[1].set(xlabel="share of a patient's lesion-free segments with p < .05", ylabel="patients, in order")
    axes[0].legend(fontsize=8)
    report.figure(
        run, "uniform", figure,
        f"p-values of lesion-free scans, {method[main]}, from the null of the other "
        f"{'slices' if alone else 'patients'}; dotted: what is right. The null holds over these, not for each of them.",
    )  # fmt: skip

# %% [markdown]
# ## The most suspicious segments
# All segments of the slices as they are, by p. Corrected within a slice and source (Benjamini and Hochberg), as a
# reader looks at a slice; the least p is one over the size of the null, so that a long list corrected as a whole could
# not name any. The procedure keeps its false discovery rate only if p-values are right in the tail, slice by slice.
# Whether they are is seen by what it names on scans *without* lesions, each judged by the null of the other patients
# like the slices under test.


# %%
WITHIN = ["run", "kind", "patient", "row", "realisation", "source"]
FIELDS = ["patient", "row", "source", "segment", "area", "before_hu", "change_hu", "z", "p", "p_adjusted", "suspicious",
          "structure"]  # fmt: skip
if nulled:
    judged = null.ranked(examined[examined.kind.isin(["as it is", NULL])], alpha, within=WITHIN)
else:
    judged = examined.assign(p_adjusted=np.nan, suspicious=False, size=examined.z.abs())
    judged = judged.sort_values("size", ascending=False)


def suspicious_rows():
    top = judged[(judged.run == main) & (judged.kind == "as it is")][FIELDS].reset_index(drop=True)
    return top[top.suspicious | (top.index < 10)]


def rate_of(key, kind):
    """Suspicious segments a slice of one run with the interval over patients, and of how many patients."""
    part = judged[(judged.run == key) & (judged.kind == kind)]
    scans = part.drop_duplicates(["patient", "row", "realisation"]).groupby("patient").size()
    each = part.groupby("patient").suspicious.sum() / scans
    span = intervals.patient_bootstrap(each.to_numpy(float), draws=draws, seed=seed)
    shown = bracket(span.low, span.high, ".2g") if np.ptp(each) else "–"
    return span.mean, shown, f"{int((each > 0).sum())} of {len(each)}"


suspects = run.table("suspicious", suspicious_rows)
count = int(suspects.suspicious.sum())
rate, rate_interval, rate_patients = rate_of(main, "as it is")
free_rate = rate_of(main, "null") if calibrated else None
report.table(
    run, "suspicious_shown", suspects.head(12),
    (f"The first of {report.plural(count, 'suspicious segment')} in {report.plural(len(tested), 'slice')} of "
     f"{method[main]}: {rate:.2g} {rate_interval} a slice, in {rate_patients} patients" if nulled else
     f"The segments of {method[main]} with the largest |z|")
    + ("" if free_rate is None else f"; on scans without lesions the same procedure names {free_rate[0]:.2g} "
       f"{free_rate[1]} a slice, in {free_rate[2]} patients")
    + ("" if test.lesion_masks is None else
       f". {int(((suspects.structure > 0) & suspects.suspicious).sum())} of the suspicious show a known lesion (column "
       "structure)")
    + ". change_hu against before_hu: opposite signs fade, equal signs grow.",
)  # fmt: skip

# %%
HALF = min(48, min(test.ldct.shape[1:]) // 2)  # pixels around the middle of a segment
drawn = suspects[suspects.suspicious].head(worst) if count else suspects.head(1)
figure, axes = plt.subplots(len(drawn), 4, figsize=(10.5, 2.65 * len(drawn) + 0.2), squeeze=False)
for place, (line, one) in enumerate(zip(axes, drawn.itertuples())):
    ldct, ndct = (np.float32(getattr(test, name)[one.row]) for name in ("ldct", "ndct"))
    shown = {"LDCT": ldct, "prediction": denoise[main](ldct), "NDCT": ndct}
    image = {"ldct": ldct, "ndct": ndct, "prediction": shown["prediction"]}[one.source]
    mask = segments.masks_of(segments.segment(image, segmentation, min_area=min_area).regions)[one.segment - 1]
    corner = [int(np.clip(round(m) - HALF, 0, n - 2 * HALF)) for m, n in zip(np.argwhere(mask).mean(0), mask.shape)]
    box = tuple(slice(c, c + 2 * HALF) for c in corner)
    level = plots.window_at(float(ndct[mask].mean()), about.anatomy[one.row])
    change = shown["prediction"] - ldct
    for axis, (title, what) in zip(line, shown.items()):
        plots.show(axis, what[box], *level, title if place == 0 else "")
    limit = float(np.quantile(np.abs(change[box]), 0.995))
    last = plots.difference(line[3], change[box], limit, "" if place else "prediction − LDCT")
    figure.colorbar(last, ax=line[3], shrink=0.85, label="HU")
    for axis in line:
        axis.contour(mask[box], [0.5], colors="#E69F00", linewidths=1)
    words = [
        f"{one.patient}, {about.anatomy[one.row]}, {plots.window_text(*level)}",
        f"segment of {one.source}: {one.before_hu:+.0f} HU, change {one.change_hu:+.0f} HU",
        f"p {one.p:.2g}, corrected {one.p_adjusted:.2g}" if nulled else f"z {one.z:+.1f}",
    ]
    plots.row_label(line[0], "\n".join(words), 7)
report.figure(
    run, "worst", figure,
    (f"The most suspicious segments ({len(drawn)}), contours in orange" if count else
     "No segment is suspicious; drawn is the one that leads the list, its contour in orange")
    + f"; cut-outs of {2 * HALF} pixels, windows chosen by the segment's mean.",
)  # fmt: skip

# %% [markdown]
# ## Does the test find what is planted?
# One segment shows a lesion if at least half of it lies in it; one that holds less is not counted. Beside the test
# stand the naive z and SRMSE(x, f(x)), what ranking by change alone comes to. A lesion that no segment shows is missed
# at any threshold. What can be found therefore depends on **which image is segmented**: a removed lesion is gone from
# the output, and left in the LDCT, under its noise, and in the NDCT, which the study has and a hospital has not.

# %%
SCORES = {"this test": "score", "naive z": "naive", "SRMSE(x, f(x))": "srmse_hu"}
MARKS, FPR = np.logspace(-2, 2, 41).round(6), np.linspace(0, 1, 101)
GROUPS = {"all": sources, **{s: [s] for s in sources}}
if {"ndct", "ldct", "prediction"} == set(sources):
    GROUPS["without the NDCT"] = ["ldct", "prediction"]


def lesion_slices():
    """Tested slices of the patients with lesions: patient, image and the number of its structures."""
    lesions_in = {row: len(np.unique(test.lesion_masks[row])) - 1 for _, row in tested}
    slices = pd.DataFrame(tested, columns=["patient", "image"]).assign(structures=lambda t: t.image.map(lesions_in))
    return slices[slices.groupby("patient").structures.transform("sum") > 0]


def planted_segments(slices):
    """(run, kind) and the scored segments of these slices."""
    scored = examined.assign(image=lambda t: t["row"], naive=lambda t: t.naive_z.abs())
    scored["score"] = -np.log10(scored.p) + 1e-6 * scored.z.abs()  # of equal p the larger z leads
    here = scored.kind.isin(["removal", "insertion"]) & scored.patient.isin(slices.patient)
    return scored[here].groupby(["run", "kind"])


def detector_rows():
    """ROC and FROC of every run and kind; of the one that is listed by every score and every source too."""
    slices, out = lesion_slices(), []
    for (key, kind), part in planted_segments(slices):
        wanted = [("all", "this test")]
        if key == main:
            wanted = [("all", name) for name in SCORES] + [(group, "this test") for group in GROUPS if group != "all"]
        for group, name in wanted:
            table = part[part.source.isin(GROUPS[group])].assign(score=lambda t, c=SCORES[name]: t[c])
            found = froc.curves(table, slices, FPR, MARKS, draws, seed=seed)
            shown = len(table[table.structure > 0].drop_duplicates(["row", "structure"]))
            head = {"run": key, "kind": kind, "segments_of": group, "score": name, "shown": shown}
            head |= {"lesions": int(slices.structures.sum()), "patients": slices.patient.nunique()}
            out.append(found.assign(**head))
    return pd.concat(out, ignore_index=True)


def read_off(part):
    """AUC and what is found at one false mark a slice, each with its interval, of one line of the detector."""
    area, one = part[part.curve == "auc"].iloc[0], part[(part.curve == "froc") & (part.x == 1)].iloc[0]
    return {"AUC": area.y, "AUC interval": bracket(area.low, area.high, ".2g"), "found at 1 false mark": one.y,
            "interval": bracket(one.low, one.high, ".2g"), "shown": f"{area.shown} of {area.lesions}"}  # fmt: skip


planted = nulled and test.absent_ldct is not None
if planted:
    detector = run.table("detector", detector_rows)
    of_main = detector[detector.run == main]
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4))
    for pair, kind in zip((axes[:2], axes[2:]), ("removal", "insertion")):
        for colour, label in zip(plots.COLOURS, SCORES):
            for axis, curve in zip(pair, ("roc", "froc")):
                part = of_main[(of_main.kind == kind) & (of_main.score == label) & (of_main.curve == curve)]
                part = part[part.segments_of == "all"]
                axis.plot(part.x, part.y, color=colour, label=label)
                if label != "SRMSE(x, f(x))":
                    axis.fill_between(part.x, part.low, part.high, color=colour, alpha=0.15, lw=0)
        pair[0].set(title=f"{kind}: ROC", xlabel="false positive fraction", ylabel="true positive fraction",
                    xlim=(0, 1), ylim=(0, 1.01))  # fmt: skip
        pair[1].set(title=f"{kind}: FROC", xlabel="false marks a slice", ylabel="lesions found", xscale="log",
                    xlim=(MARKS[0], MARKS[-1]), ylim=(0, 1.01))  # fmt: skip
        pair[1].axvline(1, color="black", lw=0.6, ls=":")
    axes[1].legend(fontsize=7)
    report.figure(
        run, "detector_shown", figure,
        f"Planted removals and insertions, {method[main]}, segments of all sources; "
        + ("no bands, since one patient has no interval" if alone else
           f"bands: 95 % over {report.plural(of_main.patients.max(), 'patient')}, of the test and of the naive z")
        + ". The ROC is of segments "
        "that show a lesion; the FROC counts lesions that no segment shows as missed.",
    )  # fmt: skip
else:
    report.text("Nothing can be planted: " + ("the lesions of these patients are not known." if nulled else "no null."))

# %%
if planted:
    lines = pd.DataFrame([
        {"kind": kind, "segments of": group, "score": name} | read_off(part)
        for (kind, group, name), part in of_main.groupby(["kind", "segments_of", "score"], sort=False)
    ])  # fmt: skip
    by = lines.set_index(["kind", "segments of", "score"])
    say = {
        kind: "; ".join(f"{group} {r['found at 1 false mark']:.2f} (shows {r['shown']})"
                        for group, r in by.loc[kind].xs("this test", level="score").iterrows())
        for kind in ("removal", "insertion")
    }  # fmt: skip
    report.table(
        run, "detector_table", lines,
        "Area under the ROC and lesions found at one false mark a slice"
        + ("; one patient, no interval" if alone else ", with 95 % over patients") + ". By whose segments, "
        f"removals: {say['removal']}; insertions: {say['insertion']}. By change alone, SRMSE(x, f(x)), "
        + " and ".join(f"{by.loc[(kind, 'all', 'SRMSE(x, f(x))'), 'found at 1 false mark']:.2f} of {kind}s are found, "
                       f"{by.loc[(kind, 'all', 'this test'), 'found at 1 false mark']:.2f} by the test" for kind in say)
        + ".",
    )  # fmt: skip

# %% [markdown]
# ## A second detector: Fourier rings in patches
# Scanning Fourier ring correlation (sFRC; Kc, Zeng, Soni and Badano 2026) compares the output with a **reference** in
# patches. Both are Fourier transformed, and the frequency (lp/mm) at which they stop to agree is the patch's score: a
# low one means that something coarse differs. With the NDCT as reference it can be used where pairs exist; with the
# noise-free truth it shows the most that it could find. A patch is one mark, so the test above is scored by patches
# too: a patch takes the score of its most suspicious segment.
#
# How strong must a lesion be for sFRC to miss it? Removals are planted with the reference's lesions 1, 4 and 16 times
# as strong, which the network never saw. The last is a control: it must be found.

# %%
REFERENCES = {"ndct": "sFRC, NDCT as reference", "truth": "sFRC, truth as reference"}
BY_SEGMENT, BY_PATCH, GRADES = "this test, by segment", "this test, by patch", (4, 16)
PLANTED = ["removal", "insertion", *(f"removal, {k} times as strong" for k in GRADES)]


def compared_with(row, of, images, reference):
    """(kind, reference image, LDCT that f sees, lesions) of a slice: its ``comparisons``, and stronger removals."""
    for kind, compared, seen, labels in comparisons(row, of):
        if reference in images.get(compared, ()):  # validation patients have no lesion-free scans
            image = images[compared][reference]
            yield kind, compared[2], image, seen, labels
            for k in GRADES if kind == "removal" else ():
                more = (k - 1) * (image - images[seen][reference])
                yield f"removal, {k} times as strong", 0, image + more, seen, labels


def patch_rows(of, rows, images, outputs):
    """One row a run, kind, slice, reference and patch: its crossing frequency and the lesion that it shows."""
    known, out = of.slices.set_index("row"), []
    for row, reference in ((row, one) for row in rows for one in REFERENCES):
        body = intensity.body_mask(np.float32(of.ndct[row]))
        for kind, again, image, seen, labels in compared_with(row, of, images, reference):
            for key in (key for key in denoise if seen in outputs[key]):
                pair = outputs[key][seen], image, known.pixel_mm[row]
                found = sfrc.marks(*pair, body if body.any() else None, labels, patch)
                head = {"run": key, "kind": kind, "reference": reference, "image": row, "realisation": again}
                out.append(found.assign(patient=known.patient[row], **head))
    return pd.concat(out, ignore_index=True)


def all_patches():
    """Patches of the tested slices and, for the cutoff, of the validation patients of the runs' cohort."""
    parts = {"test": patch_rows(test, [row for _, row in tested], *images_and_outputs())}
    if cohort.absent_ldct is not None and cohort.lesion_masks is not None and len(cohort.rows("val")):
        validation = cohort.slices[cohort.slices.split == "val"].set_index("row")
        rows = [int(row) for _, part in validation.groupby("patient") for row in most_affected(part, cohort)]
        images = scans(cohort, rows)
        parts["val"] = patch_rows(cohort, rows, images, outputs_of(images))
    return pd.concat([part.assign(split=split) for split, part in parts.items()], ignore_index=True)


def patch_detector_rows():
    """ROC and FROC of every run and kind by patches: of sFRC and of the test above."""
    slices, out = lesion_slices(), []
    segments_of = dict(list(planted_segments(slices)))
    here = patches[(patches.split == "test") & patches.patient.isin(slices.patient) & patches.kind.isin(PLANTED)]
    for (key, kind, reference), part in here.groupby(["run", "kind", "reference"]):
        wanted = {REFERENCES[reference]: part.assign(score=-part.lp_mm)}
        if reference == "ndct" and (key, kind) in segments_of:
            own = segments_of[key, kind]
            by_image = [(one, own[own.image == image]) for image, one in part.groupby("image")]
            wanted[BY_PATCH] = pd.concat([one.assign(score=sfrc.of_segments(one, those)) for one, those in by_image])
        for name, table in wanted.items():
            shown = len(table[table.structure > 0].drop_duplicates(["image", "structure"]))
            head = {"run": key, "kind": kind, "detector": name, "shown": shown, "lesions": int(slices.structures.sum())}
            out.append(froc.curves(table, slices, FPR, MARKS, draws, seed=seed).assign(**head))
    return pd.concat(out, ignore_index=True)


if planted:
    patches = run.table("patches", all_patches)
    by_patch = run.table("patch_detector", patch_detector_rows)
    own_segments = of_main[(of_main.segments_of == "all") & (of_main.score == "this test")]
    detectors = pd.concat([own_segments.assign(detector=BY_SEGMENT), by_patch[by_patch.run == main]])
    at_one = {key: read_off(part) for key, part in detectors.groupby(["kind", "detector"], sort=False)}
    found_at_one = {key: one["found at 1 false mark"] for key, one in at_one.items()}

# %%
if planted:
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), sharey=True)
    parts = detectors[detectors.curve == "froc"].groupby(["kind", "detector"], sort=False)
    for (kind, name), part in parts:
        axis, strong = axes[int(kind == "insertion")], kind.removeprefix("removal")
        if not strong or kind == "insertion" or name == REFERENCES["ndct"]:
            colour = plots.COLOURS[[BY_SEGMENT, BY_PATCH, *REFERENCES.values()].index(name)]
            style = "-" if kind in ("removal", "insertion") else {"4": "--", "1": ":"}[strong[2]]
            axis.plot(part.x, part.y, style, color=colour, label=name + strong * (kind != "insertion"))
            if style == "-":
                axis.fill_between(part.x, part.low, part.high, color=colour, alpha=0.1, lw=0)
    for axis, kind in zip(axes, ("removal", "insertion")):
        axis.set(title=kind, xlabel="false marks a slice", xscale="log", xlim=(0.1, 50), ylim=(0, 1.01))
        axis.axvline(1, color="black", lw=0.6, ls=":")
    axes[0].set_ylabel("lesions found")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    strongest = found_at_one[PLANTED[-1], REFERENCES["ndct"]]
    report.figure(
        run, "patch_detector_shown", figure,
        "**At one false mark a slice sFRC against the NDCT finds "
        f"{100 * found_at_one['removal', REFERENCES['ndct']]:.0f} % of removed lesions, this test "
        f"{100 * found_at_one['removal', BY_SEGMENT]:.0f} %.** Of lesions {GRADES[-1]} times as strong sFRC finds "
        f"{100 * strongest:.0f} %. {method[main]}, patches of {patch} pixels"
        + ("; one patient, no bands." if alone else "; bands: 95 % over patients."),
    )  # fmt: skip
    report.table(
        run, "patch_detector_table", pd.DataFrame([dict(zip(("kind", "detector"), k)) | v for k, v in at_one.items()]),
        "The detectors side by side. A patch may be marked for another segment in it, so the test by patch is not the "
        "test by segment. Column shown: lesions that some mark can show.",
    )  # fmt: skip

# %% [markdown]
# The cutoff is tuned on *validation* patients, for one false mark a slice. What does it do on patients that it was not
# tuned on, and where nothing can be found? Lesion-free scans have new noise and no lesion; every mark there is false. A
# run of the same method with another seed says what a mere other training does.


# %%
def spread_over(values):
    """A mean with its interval over patients, as text."""
    values = values.dropna().to_numpy(float)
    span = intervals.patient_bootstrap(values, draws=draws, seed=seed)
    return f"{span.mean:.2g} " + (bracket(span.low, span.high, ".2g") if np.ptp(values) else "–")


def cutoff_rows():
    """One row a reference and run: what the cutoff, tuned with the listed run, finds and marks falsely."""
    out, slices, pair = [], lesion_slices(), ["removal", "insertion"]
    again = pd.concat([slices.assign(structures=0)] * (realisations if free_known else 1))
    of_main_val = patches[(patches.split == "val") & (patches.run == main) & patches.kind.isin(pair)]
    for reference, tuning in of_main_val.groupby("reference"):
        cut = sfrc.cutoff(tuning, len(tuning.drop_duplicates(["image", "kind"])))
        here = (patches.split == "test") & (patches.reference == reference) & patches.patient.isin(slices.patient)
        for key, own in patches[here].groupby("run", sort=False):
            each = {kind: sfrc.at_cutoff(own[own.kind == kind], slices, cut) for kind in pair}
            line = {"reference": reference, "cutoff, lp/mm": cut, "run": key}
            line |= {f"{kind}s found": spread_over(one.found) for kind, one in each.items()}
            line["false marks a slice"] = spread_over(sum(one.false_marks for one in each.values()) / 2)
            if free_known:
                line["on lesion-free scans"] = spread_over(
                    sfrc.at_cutoff(own[own.kind == "null"], again, cut).false_marks
                )
            out.append(line)
    return pd.DataFrame(out)


tuned = planted and (patches.split == "val").any()
if tuned:
    cutoffs = run.table("cutoffs", cutoff_rows)
    mine = cutoffs[cutoffs.run == main].set_index("reference")
    report.table(
        run, "cutoffs_shown", cutoffs,
        f"Against the NDCT the cutoff is {mine['cutoff, lp/mm']['ndct']:.3f} lp/mm, tuned with {method[main]}. On test "
        f"patients it gives {mine['false marks a slice']['ndct']} false marks a slice where 1 was wanted"
        + (f", and {mine['on lesion-free scans']['ndct']} on lesion-free scans." if free_known else "."),
    )  # fmt: skip

# %% [markdown]
# ## All denoisers
# What each leaves for a reader to check, beside what chance leaves, and how well changes planted in its output are
# found.


# %%
def all_rows():
    """One row a run: suspicious segments a slice, also of lesion-free scans, and the detector's numbers."""
    out = []
    for key in denoise:
        line = {"method": method[key], "run": key}
        for kind in ["as it is"] + ["null"] * calibrated:
            words = "suspicious a slice" if kind == "as it is" else "lesion-free scans"
            line |= dict(zip((words, f"{words}: interval", f"{words}: patients"), rate_of(key, kind)))
        for kind in ("removal", "insertion") if planted else ():
            part = detector[(detector.run == key) & (detector.kind == kind) & (detector.score == "this test")]
            found = read_off(part[part.segments_of == "all"])
            line |= {f"{kind}: {name}": value for name, value in found.items()}
        out.append(line)
    return pd.DataFrame(out)


if nulled:
    everyone = run.table("all_denoisers", all_rows)
    report.table(
        run, "all_denoisers_shown", everyone,
        "Suspicious segments a slice"
        + (", of lesion-free scans too: what the procedure names where nothing can have been lost" * calibrated)
        + (", and how well planted removals and insertions are found" * planted)
        + ("; one patient, no interval." if alone else "; intervals over patients."),
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
train_patients = set(cohort.slices.patient[cohort.slices.split == "train"])
assert test_source or train_patients.isdisjoint(about.patient), "a patient is in two splits"
assert examined.z.notna().all() and (not nulled or examined.p.between(0, 1).all())
numbers = {}
if nulled:
    numbers["suspicious_a_slice"] = float(rate)
if calibrated:
    numbers |= {"suspicious_a_lesion_free_slice": float(free_rate[0]), "p_under_05": float(of_null["p < .05"].mean()),
                "p_under_005": float(of_null["p < .005"].mean()),
                "naive_false_alarms": float(ideal["p < .05"][top, "naive"])}  # fmt: skip
if planted:
    for kind in ("removal", "insertion"):
        numbers[f"auc_{kind}"] = {name: float(by.loc[(kind, "all", name), "AUC"]) for name in SCORES}
        numbers[f"found_{kind}"] = {g: float(by.loc[(kind, g, "this test"), "found at 1 false mark"]) for g in GROUPS}
    numbers["found_by_detector"] = {f"{kind}: {name}": float(value) for (kind, name), value in found_at_one.items()}
if tuned:
    numbers["sfrc_cutoff_lp_mm"] = {name: float(value) for name, value in mine["cutoff, lp/mm"].items()}
run.finish(cohort=test.id, denoiser=main, methods=len(set(method.values())), segmentation=segmentation, **numbers)

# %%
told = []
if planted:
    best = by.xs(("all", "this test"), level=["segments of", "score"])
    told.append("At one false mark a slice, " + " and ".join(
        f"{r['found at 1 false mark']:.0%} of planted {kind}s are found, where segments show {r['shown']}"
        if np.isfinite(r["found at 1 false mark"]) else f"no planted {kind} is found, since no segment shows any"
        for kind, r in best.iterrows()) + ".")  # fmt: skip
    told.append("sFRC, which needs the NDCT, finds " + " and ".join(
        f"{100 * found_at_one[kind, REFERENCES['ndct']]:.0f} % of {kind}s" for kind in best.index)
        + f", and {100 * strongest:.0f} % of removals {GRADES[-1]} times as strong.")  # fmt: skip
if nulled:
    told.append(f"The list of {method[main]} names {rate:.2g} suspicious segments a slice"
                + ("." if free_rate is None else f", and {free_rate[0]:.2g} where no lesion is."))  # fmt: skip
else:
    told.append("One patient gives no null, so that no segment can be called suspicious.")
report.text(
    f"**What we saw.** {' '.join(told)} One limit: segments are those of {segmentation}, and a lesion that no segment "
    "shows stays unseen. `05_invariances` asks whether f *can* hide one."
)
