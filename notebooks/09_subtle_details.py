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
# over structures judge denoisers otherwise, and can a structure that a denoiser removed or invented be found?
#
# **Reads** finished `03_train` runs of one cohort; for the removal experiment also volumes of the Medical Segmentation
# Decathlon. **Writes** `errors.parquet` (errors by slice and segments), `segments.parquet` (the test of every
# segment), `suspicious.parquet` (the ranked list), `detector.parquet` (ROC and FROC), `removal.parquet` (TPF by metric
# and noise), `losses.parquet` (lesions by loss). **Cost** one minute a denoiser of 16 channels and test slices of ten
# patients; the removal experiment as much for four volumes, all on one core.
#
# SRMSE and its uses follow Kachelriess ("Problems in Assessing AI Image Quality", DKFZ), whose slides leave open how
# masks become volumes, which image is segmented and when a segment is suspicious. What is chosen here is said below.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/09_subtle_details/
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
denoiser: Optional[str] = None  # the one whose segments are listed and drawn; None takes the first of runs
losses: list = []  # runs of 03_train whose losses are compared on lesions; empty leaves that part out
test_source: Optional[str] = None  # examine another cohort, all of it; None takes the test patients of the runs' own
test_root: Optional[str] = None  # folder of that cohort
# structures
segmentation: str = "felzenszwalb"  # sam (its weights must be there), felzenszwalb, otsu or thresholds
min_area: int = 20  # least area of a segment, pixels
overlap: float = 0.5  # segments of neighbouring slices are one at this intersection over union, in (0, 1]
# hallucinations
sources: list = ["ndct", "ldct", "prediction"]  # images whose segments are tested
slices_each: int = 1  # slices of a patient that are tested: those with most of its lesions
realisations: int = 6  # scans of each of these without its lesions, for the null; even
tolerated: float = 0.1  # share of its contrast that any structure may lose or gain; 0 counts every change
classes: int = 2  # of area, each with a null of its own
alpha: float = 0.05  # false discovery rate in a slice and source
worst: int = 4  # suspicious segments that are drawn
# removal
fractions: list = [0.1]  # share q of the structures that is removed
sigmas: list = [0.0, 2.5, 5.0, 10.0, 20.0, 40.0]  # SD of the added noise, HU
volumes: int = 6  # most volumes
noise_draws: int = 4  # of the noise, for each volume, sigma and q
metrics: Optional[list] = None  # full-reference metrics; None takes all that can be computed here
decathlon: Optional[str] = None  # unpacked task of the Decathlon, such as Task06_Lung; None leaves it out
decathlon_slices: int = 16  # axial slices of each of its volumes
# losses
lesions: list = [[3.0, -40.0], [3.0, -20.0], [5.0, -20.0]]  # radius in mm and contrast in HU
lesion_patients: int = 6  # simulated patients that no network has seen
lesion_realisations: int = 60  # noise realisations a class, for d'
draws: int = 1000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
device: str = "auto"  # auto, cpu or cuda
precision: str = "float32"  # of the networks: auto, float32 or bf16, whose rounding is a change of 1 HU itself
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.runs import start

run = start("09_subtle_details", globals())

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import kendalltau, kstest
from tqdm.auto import tqdm

from ldct_utils import (
    cohorts,
    detection,
    hallucinations,
    intensity,
    nps,
    plots,
    removal,
    report,
    segments,
    stats,
    structures,
    tasks,
    training,
)  # fmt: skip
from ldct_utils import decathlon as msd
from ldct_utils import metrics as registered
from ldct_utils.methods import listed as methods_of
from ldct_utils.runs import load, select

training.seed_everything(seed, threads)

# %% [markdown]
# ## Denoisers and patients

# %%
chosen, listed, varying = methods_of(select(runs))
cohort = cohorts.of(*chosen)
test = cohorts.get(test_source, test_root, split="test") if test_source else cohort
rows = test.rows("test")
about = test.slices.set_index("row").loc[rows]
simulated = test.meta["source"] == "simulated"
references = ["ndct", "truth"] if test.truth is not None else ["ndct"]
few = about.patient.nunique() < stats.MIN_PATIENTS


def slices_of(name, where):
    """Slices (N, H, W) of the test cohort, float32 HU."""
    return np.asarray(getattr(test, name)[where], np.float32)


def predictor(one):
    """Function of slices (N, H, W) in HU that denoises them with a run's network."""
    network = training.load_network(one.folder).to(device)
    return lambda hu: training.predict(network, hu, 4, precision, device)


def bracket(low, high, digits=3):
    return "–" if np.isnan(low) else f"[{low:.{digits}g}, {high:.{digits}g}]"


denoise = {one.id: predictor(one) for one in chosen}
method = dict(zip(denoise, listed["method"]))
main = load(denoiser).id if denoiser else chosen[0].id
if main not in denoise:
    raise ValueError(f"the denoiser {denoiser} is none of the runs; add it to runs")
report.table(
    run, "methods", listed,
    f"Denoisers. Cohort {test.id}, {len(rows)} test slices of {about.patient.nunique()} patients. Segments are listed "
    f"for {method[main]}, run {main}.",
)  # fmt: skip

# %% [markdown]
# ## 1. Errors over structures
# SRMSE is the RMSE inside one segment; MeanSRMSE its mean, MaxSRMSE its maximum over the segments of a slice, in HU. By
# definition segments are those of the **target**: on a denoised image a structure that was lost has no segment. Those
# of the LDCT and of the output are shown to compare. Each mask of a slice is a segment; *linked*, masks of neighbouring
# slices are one segment of the patient's volume where they overlap enough (masks that overlap in a slice are painted
# the smallest on top). Background, what is as large as the body, what is small and duplicates are left out: all of
# them would bring the mean over pixels back in.


# %%
find = partial(segments.segment, method=segmentation, min_area=min_area)
FIXED = [*references, "ldct"]  # images whose segments are the same for every method


def error_rows(pred, regions, target):
    """MeanSRMSE, MaxSRMSE and the number of segments of a slice or volume; NaN where there is no segment."""
    found = segments.srmse(pred, target, regions) if np.any(regions) else np.full(1, np.nan)
    return {"mean_srmse": found.mean(), "max_srmse": found.max(), "segments": int(np.isfinite(found).sum())}


def errors():
    """One row a patient, slice (-1: the volume, segments linked), method, segmented image and reference."""
    out = []
    for patient, part in tqdm(list(about.groupby("patient")), desc="errors", unit="patient"):
        images = {name: slices_of(name, part.index.to_numpy()) for name in FIXED}
        known = {name: [find(image).regions for image in stack] for name, stack in images.items()}
        for key in ["LDCT", *denoise]:
            pred = images["ldct"] if key == "LDCT" else denoise[key](images["ldct"])
            regions = known | ({"output": [find(image).regions for image in pred]} if key != "LDCT" else {})
            for source, found in regions.items():
                volume = segments.link(np.stack([segments.flat(one) for one in found]), overlap)
                for reference in references:
                    head = {"patient": patient, "run": key, "source": source, "reference": reference}
                    each = zip(part.index, pred, found, images[reference])
                    out += [
                        head | {"row": r, "rmse_hu": np.sqrt(np.mean((p - t) ** 2))} | error_rows(p, s, t)
                        for r, p, s, t in each
                    ]
                    out.append(head | {"row": -1} | error_rows(pred, volume, images[reference]))
    return pd.DataFrame(out)


error = run.table("errors", errors)
error["method"] = error["run"].map({"LDCT": "LDCT"} | method)


def left_out():
    """What was left out of the segments of the NDCT, one row a slice."""
    found = [(row, find(slices_of("ndct", row))) for row in rows]
    return pd.DataFrame([{"row": row, "kept": len(one), **one.left_out, "how": one.method} for row, one in found])


counts = run.table("left_out", left_out)
per_slice = error[(error.row >= 0) & (error.reference == "ndct")].groupby("source").segments.mean()
linked_count = error[(error.row < 0) & (error.reference == "ndct")].groupby("source").segments.mean()
report.text(
    f"Segments by **{counts.how.iloc[0]}**. Of the NDCT {counts.kept.mean():.0f} a slice are kept; left out a slice: "
    + ", ".join(f"{counts[name].mean():.1f} {name}" for name in ("small", "large", "background", "duplicate"))
    + ". Numbers a slice by what is segmented: "
    + ", ".join(f"{name} {value:.0f}" for name, value in per_slice.items())
    + f"; linked through z, the NDCT has {linked_count['ndct']:.0f} a volume where its slices have "
    f"{counts.kept.sum() / about.patient.nunique():.0f}. Means of different numbers of segments compare; maxima do not."
)  # fmt: skip

# %% [markdown]
# ### Does the order of the methods change?
# Ranks by the mean over patients (and seeds), against the ranks by RMSE over all pixels. An order of two methods is
# called *reversed* only where the intervals of both differences exclude 0.


# %%
def by_patient(part, value):
    """Mean over slices and seeds: (patients, methods)."""
    return part.groupby(["patient", "method"])[value].mean().unstack()


def ranked_rows():
    """One row a reference, kind of error and method: mean, rank and its agreement with RMSE."""
    out = []
    for reference in references:
        part = error[error.reference == reference]
        base = by_patient(part[(part.row >= 0) & (part.source == "ndct")], "rmse_hu")
        kinds = {("RMSE", "", ""): base}
        for source in [*FIXED, "output"]:
            for name in ("mean_srmse", "max_srmse"):
                one = part[part.source == source]
                kinds[(name, source, "slices")] = by_patient(one[one.row >= 0], name)
                kinds[(name, source, "linked")] = by_patient(one[one.row < 0], name)
        for (name, source, unit), table in kinds.items():
            table = table.dropna(axis=1, how="all").dropna()
            names = [m for m in table if m != "LDCT"]
            tau = kendalltau(table[names].mean(), base[names].mean()).statistic if len(names) > 1 else np.nan
            turned = 0
            for i, first in enumerate(names):
                for second in names[i + 1 :]:
                    gaps = [x.loc[table.index, first] - x.loc[table.index, second] for x in (table, base)]
                    spans = [stats.patient_bootstrap(g.to_numpy(), draws=draws, seed=seed) for g in gaps]
                    sure = all(span.excludes_zero for span in spans)
                    turned += bool(sure and spans[0].mean * spans[1].mean < 0)
            ranks = table[names].mean().rank()
            for m in table:
                span = stats.patient_bootstrap(table[m].to_numpy(), draws=draws, seed=seed)
                out.append({"reference": reference, "error": name, "segments of": source, "unit": unit, "method": m,
                            "mean_hu": span.mean, "low": span.low, "high": span.high, "rank": ranks.get(m, np.nan),
                            "tau": tau, "reversed": turned, "pairs": len(names) * (len(names) - 1) // 2})  # fmt: skip
    return pd.DataFrame(out)


ranking = run.table("ranking", ranked_rows)
agreement = ranking.drop_duplicates(["reference", "error", "segments of", "unit"])[1:]
agreement = agreement[agreement.error != "RMSE"]
report.table(
    run, "agreement", agreement[["reference", "error", "segments of", "unit", "tau", "reversed", "pairs"]],
    "Order of the methods by errors over segments against their order by RMSE: Kendall's tau, and how many pairs of "
    "methods are reversed beyond the intervals over patients. By MeanSRMSE over segments of the NDCT "
    + "; ".join(f"{r.reference}: tau {r.tau:.2f}, {r.reversed} of {r.pairs} pairs reversed" for r in agreement[
        (agreement.error == "mean_srmse") & (agreement["segments of"] == "ndct") & (agreement.unit == "slices")
    ].itertuples())
    + f". By MaxSRMSE at most {agreement[agreement.error == 'max_srmse'].reversed.max()} pairs are.",
)  # fmt: skip

# %%
SHOWN = [("RMSE", "", ""), ("mean_srmse", "ndct", "slices"), ("mean_srmse", "ndct", "linked"),
         ("mean_srmse", "ldct", "slices"), ("mean_srmse", "output", "slices"),
         ("max_srmse", "ndct", "slices")]  # fmt: skip
TITLES = ["RMSE", "MeanSRMSE, NDCT", "MeanSRMSE, NDCT,\nlinked", "MeanSRMSE, LDCT", "MeanSRMSE, output",
          "MaxSRMSE, NDCT"]  # fmt: skip
order = (
    ranking[(ranking.error == "RMSE") & (ranking.reference == "ndct") & (ranking.method != "LDCT")]
    .sort_values("mean_hu")
    .method.to_list()
)
figure, axes = plt.subplots(1, len(SHOWN), figsize=(2.1 * len(SHOWN) + 2, 0.36 * len(order) + 1.6), sharey=True)
for axis, key, title in zip(axes, SHOWN, TITLES):
    for shift, (reference, colour) in enumerate(zip(references, plots.COLOURS)):
        part = ranking[(ranking[["error", "segments of", "unit"]] == key).all(1) & (ranking.reference == reference)]
        part = part.set_index("method").reindex(order)
        at = np.arange(len(order)) + 0.22 * shift
        axis.plot(part.mean_hu, at, "o", color=colour, ms=4, label=f"against {reference.upper()}")
        axis.hlines(at, part.low.fillna(part.mean_hu), part.high.fillna(part.mean_hu), color=colour, lw=1)
    axis.set(title=title, xlabel="HU")
    axis.set_yticks(np.arange(len(order)), order)
    axis.margins(x=0.1)
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
report.figure(
    run, "errors_shown", figure,
    "Errors of the methods, ordered by RMSE against NDCT; titles name the image whose segments count. "
    + ("Too few patients for intervals." if few else "Bars: 95 % over patients."),
)  # fmt: skip

# %% [markdown]
# ## 2. What was removed or invented?
# A segment is compared between the LDCT and the output: by how much did its contrast (its mean without its rim, minus
# that of a ring around it) change, in units of what the noise that the network removes would do to it, given its power
# spectrum and local level? Networks also take a little from every healthy edge, surely and without meaning, so that a
# share of the segment's own contrast is tolerated. That z is not yet a p-value: segments follow the noise of the image
# they were found in, and edges differ. p-values therefore come from a **null**: the same numbers from slices *without
# lesions* that went through scanner, network, segmentation and scoring alike.
#
# For simulated patients these are the very same slices, their lesions gone and all noise new. Of real patients it is
# not known what they hide: there the null of a patient is all other patients, with whatever f does to them.


# %%
def examine(images, pred, spectrum, wanted, structure=None, usual=tolerated):
    """Table of the segments of one slice: the test, and what is commonly taken instead of it.

    Args: images: ``ldct``, ``ndct`` and what else is segmented, (H, W), HU. structure: label map of what is planted.
    """
    body, parts = intensity.body_mask(images["ndct"]), []
    for source in wanted:
        regions = find(pred if source == "prediction" else images[source]).regions
        if not np.any(regions):
            continue
        inside = body if body.any() else None
        table = hallucinations.score(images["ldct"], pred, regions, spectrum, 1.0, inside, tolerated=usual)
        table = table.merge(hallucinations.naive(images["ldct"], pred, regions), on="segment").assign(source=source)
        if structure is not None:
            table["structure"] = detection.planted(regions, structure)[table.segment - 1]
        parts.append(table)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def most_affected(part):
    """Rows of a patient's slices with most of its lesions, or around its middle where none are known."""
    if test.lesion_masks is None:
        middle = (len(part) - slices_each) // 2
        return part.index[max(0, middle) :][:slices_each]
    area = {row: int((test.lesion_masks[row] > 0).sum()) for row in part.index}
    return sorted(area, key=area.get, reverse=True)[:slices_each]


tested = [(p, int(row)) for p, part in about.groupby("patient") for row in most_affected(part)]


def free_scans():
    """(slices, realisations, 3, H, W) int16: LDCT, NDCT and truth without lesions."""
    found = []
    for number, (_, row) in enumerate(tqdm(tested, desc="scans without lesions", unit="slice")):
        images = hallucinations.lesion_free(test, row, realisations, [seed, number])
        found.append([np.stack([images["ldct"][k], images["ndct"][k], images["truth"]]) for k in range(realisations)])
    return np.array(found)


free = run.array("free", free_scans) if simulated else None


def null_cases():
    """(patient, row, realisation, images) of every slice of the null."""
    for number, (patient, row) in enumerate(tested):
        if simulated:
            for k in range(realisations):
                yield patient, row, k, dict(zip(("ldct", "ndct", "truth"), free[number, k].astype(np.float32)))
        else:
            yield patient, row, 0, {name: slices_of(name, row) for name in ("ldct", "ndct")}


def spectrum_of(cases, outputs):
    """Power spectrum of what a denoiser removes in flat tissue, in units of pixels."""
    removed = [pred - images["ldct"] for images, pred in zip(cases, outputs)]
    return nps.spectrum(removed, [images["ndct"] for images in cases], 1.0)


def planted_cases():
    """(kind, patient, row, images, image that f sees, label map) of every slice that is tested.

    Removal: f never saw the lesions of the LDCT. Insertion: the LDCT never had those that f saw. All else is equal, to
    the last noise, since the cohort keeps every scan without its lesions.
    """
    for patient, row in tested:
        scan = {name: slices_of(name, row) for name in ("ldct", "ndct")}
        yield "as it is", patient, row, scan, scan["ldct"], None
        if test.absent_ldct is not None:
            twin, labels = {name: slices_of(f"absent_{name}", row) for name in scan}, test.lesion_masks[row].astype(int)
            yield "removal", patient, row, scan, twin["ldct"], labels
            yield "insertion", patient, row, twin, scan["ldct"], labels


def segment_rows():
    """One row a run, slice and segment: of the null, of the slices as they are, and of planted changes."""
    out = []
    for key, f in tqdm(denoise.items(), desc="segments", unit="run"):
        cases = list(null_cases())
        outputs = [f(images["ldct"][None])[0] for *_, images in cases]
        spectrum = spectrum_of([images for *_, images in cases], outputs)
        for (patient, row, k, images), pred in zip(cases, outputs):
            table = examine(images, pred, spectrum, sources)
            out.append(table.assign(run=key, kind="null", patient=patient, row=row, realisation=k))
        for kind, patient, row, images, seen, labels in planted_cases():
            table = examine(images, f(seen[None])[0], spectrum, sources, labels)
            out.append(table.assign(run=key, kind=kind, patient=patient, row=row, realisation=-1))
    return pd.concat(out, ignore_index=True)


examined = run.table("segments", segment_rows)


def with_p(part, null_part, score="z"):
    """Rows with p from the null of their own source, ``score`` taken for z."""
    found = []
    for source, one in part.groupby("source"):
        known = null_part[null_part.source == source].assign(z=lambda t: t[score])
        found.append(one.assign(p=hallucinations.null([known], classes).p(one.assign(z=one[score]))))
    return pd.concat(found)


# %% [markdown]
# ### A perfect denoiser under naive tests
# The control: output = truth, no lesion anywhere. Every segment that a test calls changed is a false alarm, 5 % of them
# if the test is what it says. *Naive*: mean difference over SD/√n, pixels as if independent. *Spectrum*: the z above as
# if normal. *Null*: its p-value, the null from the other half of the patients.


# %%
def perfect_rows():
    """One row a segment of lesion-free slices, for a denoiser that gives the truth; at most two scans a slice."""
    cases = [(p, images) for p, _, k, images in null_cases() if k < 2]
    spectrum = spectrum_of([images for _, images in cases], [images["truth"] for _, images in cases])
    return pd.concat(
        [examine(i, i["truth"], spectrum, ["truth", "ndct", "ldct"], usual=0.0).assign(patient=p) for p, i in cases],
        ignore_index=True,
    )


def halves(table):
    """p of each half of the patients from the null of the other half."""
    first = table.patient.isin(sorted(table.patient.unique())[::2])
    return pd.concat([with_p(table[half], table[~half]) for half in (first, ~first)])


if simulated:
    perfect = halves(run.table("perfect", perfect_rows))
    alarms = [
        {"segments of": source, "segments": len(part), "naive": (part.naive_z.abs() > 1.96).mean(),
         "spectrum": (part.z.abs() > 1.96).mean(), "null": (part.p < 0.05).mean()}
        for source, part in perfect.groupby("source")
    ]  # fmt: skip
    alarms = pd.DataFrame(alarms)
    worst_naive = alarms.loc[alarms.naive.idxmax()]
    report.table(
        run, "false_alarms", alarms,
        "Share of the segments of a perfect denoiser that each test calls changed at 5 %. Segments of the "
        f"{worst_naive['segments of'].upper()} follow its noise: naively {worst_naive.naive:.0%} of them are changed, "
        f"by the spectrum {worst_naive.spectrum:.0%}, by the null {worst_naive.null:.0%} (nothing tolerated).",
    )  # fmt: skip

# %% [markdown]
# ### Are the null's p-values uniform?
# Half of the patients give the null, the other half's lesion-free scans are tested, and the reverse. Segments of one
# patient share anatomy and noise, and a Kolmogorov–Smirnov test that counts them all rejects too often: it takes one
# segment a patient, 200 times. If p is uniform its own p is .5 in the median, and one draw in twenty rejects.

# %%
own_null = examined[(examined.run == main) & (examined.kind == "null")]
held = halves(own_null)
uniform, columns = [], np.linspace(0, 1, 101)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
for colour, (source, part) in zip(plots.COLOURS, held.groupby("source")):
    ks = [kstest(part.groupby("patient").sample(1, random_state=seed + k).p, "uniform").pvalue for k in range(200)]
    below = part.groupby("patient").p.apply(lambda p: (p < 0.05).mean())
    span = stats.patient_bootstrap(below.to_numpy(), draws=draws, seed=seed)
    uniform.append({"segments of": source, "segments": len(part), "KS p": np.median(ks),
                    "KS rejects": np.mean(np.array(ks) < 0.05), "p < .05": span.mean,
                    "interval": bracket(span.low, span.high, 2), "least": below.min(), "most": below.max(),
                    "least p": 1 / (1 + len(part) // classes)})  # fmt: skip
    axes[0].plot(columns, [(part.p <= c).mean() for c in columns], color=colour, label=source)
    axes[1].plot(np.sort(below), np.arange(1, len(below) + 1), "o", color=colour, ms=4, label=source)
axes[0].axline((0, 0), slope=1, color="black", lw=0.8, ls=":")
axes[0].set(xlabel="p", ylabel="share of null segments at or below")
axes[1].axvline(0.05, color="black", lw=0.8, ls=":")
axes[1].set(xlabel="share of a patient's null segments with p < .05", ylabel="patients, in order")
axes[0].legend(fontsize=8)
uniform = pd.DataFrame(uniform)
report.figure(
    run, "uniform", figure,
    "p-values of lesion-free scans held out by patient. "
    + "; ".join(f"{r['segments of']}: KS p {r['KS p']:.2f}, rejects in "
                f"{r['KS rejects']:.0%} of the draws, {r['p < .05']:.1%} below .05"
                for r in uniform.to_dict("records"))
    + f". Single patients reach from {uniform.least.min():.1%} to {uniform.most.max():.1%}.",
)  # fmt: skip
report.table(run, "uniform_shown", uniform, "Uniformity of the null's p-values, patients split; 5 % is right.")

# %% [markdown]
# ### The most suspicious segments
# All segments of the slices as they are, by p. Corrected within a slice and source for the false discovery rate
# (Benjamini and Hochberg), as a reader looks at a slice; the least p is one over the size of the null, so that a long
# list corrected as a whole could not name any.


# %%
def null_for(part, of_run):
    """The null of some rows: all lesion-free scans; of a real patient those of all other patients."""
    return of_run if simulated else of_run[~of_run.patient.isin(part.patient)]


def judged(key, kind):
    """Segments of one run and kind with p, p_adjusted and suspicious, the worst first."""
    here = examined[(examined.run == key) & (examined.kind == kind)]
    base, found = examined[(examined.run == key) & (examined.kind == "null")], []
    for (_, _, source), part in here.groupby(["patient", "row", "source"]):
        known = null_for(part, base)
        null = hallucinations.null([known[known.source == source]], classes)
        found.append(hallucinations.ranked(part, null, alpha))
    return pd.concat(found).assign(size=lambda t: t.z.abs()).sort_values(["p", "size"], ascending=[True, False])


def lesion_of(one):
    """Number of the known lesion that a segment shows, 0 for none."""
    if test.lesion_masks is None:
        return 0
    image = predicted(one.row) if one.source == "prediction" else slices_of(one.source, one.row)
    labels = detection.planted(find(image).regions, test.lesion_masks[one.row].astype(int))
    return max(0, int(labels[one.segment - 1]))


def predicted(row):
    return denoise[main](slices_of("ldct", [row]))[0]


FIELDS = ["patient", "row", "source", "segment", "area", "before_hu", "change_hu", "z", "p", "p_adjusted", "suspicious"]


def suspicious_rows():
    top = judged(main, "as it is")[FIELDS].reset_index(drop=True)
    keep = top[top.suspicious | (top.index < 10)]
    return keep.assign(lesion=[lesion_of(one) for one in keep.itertuples()])


suspects = run.table("suspicious", suspicious_rows)
rate = suspects.suspicious.sum() / len(tested)
report.table(
    run, "suspicious_shown", suspects.head(12),
    f"The first of {int(suspects.suspicious.sum())} suspicious segments in {len(tested)} slices ({rate:.2g} a slice) "
    f"of {method[main]}, false discovery rate {alpha:g} a slice and source; {int((suspects.lesion > 0).sum())} "
    "of those listed show a known lesion. change_hu against before_hu: opposite signs fade, equal signs grow.",
)  # fmt: skip

# %%
drawn = suspects.drop_duplicates(["row"]).head(worst)
HALF = min(48, min(test.ldct.shape[1:]) // 2)  # pixels around the middle of a segment
figure, axes = plt.subplots(len(drawn), 4, figsize=(10.5, 2.65 * len(drawn)), squeeze=False)
for place, (line, one) in enumerate(zip(axes, drawn.itertuples())):
    ldct, pred = slices_of("ldct", one.row), predicted(one.row)
    image = pred if one.source == "prediction" else slices_of(one.source, one.row)
    mask = segments.masks_of(find(image).regions)[one.segment - 1]
    corner = [int(np.clip(round(m) - HALF, 0, n - 2 * HALF)) for m, n in zip(np.argwhere(mask).mean(0), mask.shape)]
    box = tuple(slice(c, c + 2 * HALF) for c in corner)
    level = plots.anatomy_window(about.anatomy[one.row])
    shown = {"LDCT": ldct, "prediction": pred, "NDCT": slices_of("ndct", one.row)}
    for axis, (title, what) in zip(line, shown.items()):
        plots.show(axis, what[box], *level, title if place == 0 else "")
    limit = 3 * float(np.std((pred - ldct)[box]))
    last = plots.difference(line[3], (pred - ldct)[box], limit, "prediction − LDCT" if place == 0 else "")
    figure.colorbar(last, ax=line[3], shrink=0.85, label="HU")
    for axis in line:
        axis.contour(mask[box], [0.5], colors="#E69F00", linewidths=1)
    words = [
        f"{one.patient}, {about.anatomy[one.row]}, {plots.window_text(*level)}",
        f"{one.before_hu:+.0f} HU, change {one.change_hu:+.0f} HU", f"p {one.p:.2g}, corrected {one.p_adjusted:.2g}",
    ]  # fmt: skip
    line[0].text(-0.05, 0.5, "\n".join(words), rotation=90, ha="right", va="center", multialignment="center",
                 transform=line[0].transAxes, fontsize=7.5)  # fmt: skip
report.figure(
    run, "worst", figure,
    f"The most suspicious segment of the {len(drawn)} slices that lead the list, its contour in orange; cut-outs of "
    f"{2 * HALF} pixels.",
)  # fmt: skip

# %% [markdown]
# ### Does the detector find what is planted?
# *Removal*: the output is that of the same scan without its lesions. *Insertion*: the LDCT is that without, the output
# that with lesions. All segments of all sources are candidates; one shows a lesion if at least half of it lies in it,
# one that holds less is not counted. Beside p: the naive z, the same with a null of its own, and SRMSE(x, f(x)), what
# ranking by change alone comes to. A lesion that no segment shows is missed at any threshold.

# %%
SCORES = {"p, null": "score", "naive z": "naive", "naive z, null": "naive_score", "SRMSE(x, f(x))": "srmse_hu"}
GRID = np.geomspace(0.01, 100, 41)  # false marks a slice
FPR = np.linspace(0, 1, 101)


def scored(key, kind):
    """Segments of planted slices with every score, the highest the most suspicious."""
    here = examined[(examined.run == key) & (examined.kind == kind)]
    base = examined[(examined.run == key) & (examined.kind == "null")]
    found = with_p(here, base)
    by_naive = with_p(here, base, "naive_z").p.reindex(found.index)
    tie = 1e-6  # of equal p the larger z leads
    return found.assign(
        score=-np.log10(found.p) + tie * found.z.abs(), naive=found.naive_z.abs(), image=found["row"],
        naive_score=-np.log10(by_naive) + tie * found.naive_z.abs(),
    )  # fmt: skip


def lesions_in(row):
    return len(np.unique(test.lesion_masks[row])) - 1


def curves_of(parts, score):
    """AUC, TPR on ``FPR`` and sensitivity on ``GRID``: the numbers that one set of patients gives."""
    table = pd.concat([part.assign(draw=i) for i, part in enumerate(parts)])  # a patient may be drawn twice
    table = table.assign(score=table[score], image=table.draw.astype(str) + table.image.astype(str))
    sure = table[table.structure >= 0]
    if not (sure.structure > 0).any():
        return np.full(1 + len(FPR) + len(GRID), np.nan)
    roc = detection.roc(sure.score, sure.structure > 0)
    images = sum(part.image.nunique() for part in parts)
    total = sum(lesions_in(row) for part in parts for row in part.image.unique())
    froc = detection.froc(table, images, total)
    area = np.trapezoid(roc.tpr, roc.fpr)
    return np.concatenate([[area], detection.at(roc, "fpr", "tpr", FPR),
                           detection.at(froc, "false_per_image", "sensitivity", GRID)])  # fmt: skip


def detector_rows():
    """ROC and FROC of every run, kind and score, with intervals over patients."""
    out = []
    for key in denoise:
        for kind in ("removal", "insertion"):
            table = scored(key, kind)
            parts = [part for _, part in table.groupby("patient") if sum(map(lesions_in, part.image.unique()))]
            for label, score in SCORES.items() if key == main else [next(iter(SCORES.items()))]:
                value, low, high = detection.over_patients(
                    parts, partial(curves_of, score=score), min(draws, 200), seed=seed
                )
                head = {"run": key, "kind": kind, "score": label, "patients": len(parts),
                        "shown": len(table[table.structure > 0].drop_duplicates(["row", "structure"])),
                        "lesions": sum(lesions_in(r) for p in parts for r in p.image.unique())}  # fmt: skip
                at = [("auc", np.nan), *(("roc", x) for x in FPR), *(("froc", x) for x in GRID)]
                out += [head | {"curve": c, "x": x, "y": y, "low": a, "high": b}
                        for (c, x), y, a, b in zip(at, value, low, high)]  # fmt: skip
    return pd.DataFrame(out)


planted = test.absent_ldct is not None
if planted:
    detector = run.table("detector", detector_rows)
    own = detector[detector.run == main]
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4))
    for pair, kind in zip((axes[:2], axes[2:]), ("removal", "insertion")):
        for colour, label in zip(plots.COLOURS, SCORES):
            for axis, curve in zip(pair, ("roc", "froc")):
                part = own[(own.kind == kind) & (own.score == label) & (own.curve == curve)]
                axis.plot(part.x, part.y, color=colour, label=label)
                if label in ("p, null", "naive z"):
                    axis.fill_between(part.x, part.low, part.high, color=colour, alpha=0.15, lw=0)
        pair[0].set(
            title=f"{kind}: ROC",
            xlabel="false positive fraction",
            ylabel="true positive fraction",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        pair[1].set(
            title=f"{kind}: FROC",
            xlabel="false marks a slice",
            ylabel="lesions found",
            xscale="log",
            xlim=(GRID[0], GRID[-1]),
            ylim=(0, 1),
        )
    axes[1].legend(fontsize=7)
    areas = own[own.curve == "auc"]
    report.figure(
        run, "detector_shown", figure,
        f"Planted removals and insertions, {method[main]}; bands: 95 % over {areas.patients.max()} patients, of the "
        "test and of the naive z. Area under the ROC: "
        + "; ".join(
            f"{kind}: " + ", ".join(f"{r.score} {r.y:.2f} {bracket(r.low, r.high, 2)}" for r in part.itertuples())
            for kind, part in areas.groupby("kind")
        )
        + ". Segments show "
        + ", ".join(f"{p.shown.iloc[0]} of {p.lesions.iloc[0]} lesions ({k})" for k, p in areas.groupby("kind"))
        + ": what no segment shows is missed.",
    )  # fmt: skip
else:
    report.text("The lesions of these patients are not known, so nothing can be planted.")

# %% [markdown]
# ### All denoisers
# What each leaves for a reader to check, and how well changes planted in its output are found.


# %%
def all_rows():
    """One row a run: suspicious segments a slice by kind, lesions that faded, the detector's numbers."""
    out = []
    for key in denoise:
        found = judged(key, "as it is")
        each = found.groupby("patient").suspicious.sum() / found.groupby("patient")["row"].nunique()
        span = stats.patient_bootstrap(each.to_numpy(float), draws=draws, seed=seed)
        line = {"method": method[key], "run": key, "suspicious a slice": span.mean,
                "interval": bracket(span.low, span.high, 2)}  # fmt: skip
        for kind in ("removal", "insertion") if planted else ():
            part = detector[(detector.run == key) & (detector.kind == kind) & (detector.score == "p, null")]
            area = part[part.curve == "auc"].iloc[0]
            froc = part[part.curve == "froc"]
            one = froc.iloc[(froc.x - 1).abs().argmin()]
            line |= {f"{kind}: AUC": area.y, f"{kind}: AUC interval": bracket(area.low, area.high, 2),
                     f"{kind}: found at 1 false mark": one.y,
                     f"{kind}: interval": bracket(one.low, one.high, 2)}  # fmt: skip
        out.append(line)
    return pd.DataFrame(out)


everyone = run.table("all_denoisers", all_rows)
report.table(
    run, "all_denoisers_shown", everyone,
    f"Suspicious segments a slice (chance leaves few: the false discovery rate is {alpha:g} a slice and source)"
    + (", and how well planted removals and insertions are found; intervals over patients." if planted else "."),
)  # fmt: skip

# %% [markdown]
# ## 3. The removal experiment
# A fraction q of the known structures is taken out of a volume, white noise of SD σ is added, independently, to the
# volume with and without them, and both are scored against the clean original. **TPF**: how often a metric calls the
# volume with structures missing the worse one; .5 is chance. Segments come from the original, never from what was
# removed; where they *are* what was removed the curve is an upper bound ("oracle"). For PSNR theory gives
# TPF = Φ(k e² / (2 √(N σ⁴ + k e² σ²))), k of N voxels changed by e HU (RMS).


# %%
def removal_rows():
    """TPF of every metric, volume, q and sigma; columns of ``removal.tpf`` and cohort."""
    options = {"fractions": fractions, "sigmas": sigmas, "draws": noise_draws, "names": metrics, "seed": seed,
               "device": device}  # fmt: skip
    groups = {}
    if test.lesion_masks is not None:
        groups["simulated"] = structures.from_cohort(test)[:volumes]
    parts = [removal.tpf(v, progress=partial(tqdm, desc=n, unit="volume"), **options) for n, v in groups.items()]
    parts = [part.assign(cohort=name) for part, name in zip(parts, groups)]
    if decathlon:
        found = msd.volumes(decathlon, most=volumes, slices=decathlon_slices)
        parts.append(
            removal.tpf(found, method="biharmonic", **options).assign(cohort=decathlon.rstrip("/").split("/")[-1])
        )
    return pd.concat(parts, ignore_index=True)


with_removal = test.lesion_masks is not None or decathlon
if with_removal:
    removed = run.table("removal", removal_rows)
    spans = pd.concat(
        [removal.intervals(part, draws, seed).assign(cohort=name) for name, part in removed.groupby("cohort")]
    )
    missing = registered.available(registered.names("full-reference"))
    absent = missing[~missing.available].name.to_list()
    each = removed.drop_duplicates(["cohort", "volume", "q", "sigma"])
    each = each.assign(squares=each.error**2 * each.changed).groupby(["cohort", "q"])
    size = each[["changed", "pixels", "squares"]].sum()
    report.text(
        "; ".join(
            f"**{name}**: {each.volume.nunique()[name, q]} volumes, q = {q:g} changes {one.changed / one.pixels:.3%} "
            f"of their voxels by {np.sqrt(one.squares / max(one.changed, 1)):.0f} HU RMS"
            for (name, q), one in size.iterrows()
        )
        + f". Metrics without weights or packages here: {', '.join(absent) or 'none'}."
    )
else:
    report.text("No known structures (these patients' lesions are unknown and no Decathlon task is given): left out.")


# %%
def theory_of(part):
    """Mean over volumes of PSNR's TPF in theory, by sigma."""
    each = part[part.metric == "psnr"].drop_duplicates(["volume", "sigma"])
    value = removal.psnr_theory(each.pixels, each.changed, each.error, each.sigma)
    return each.assign(value=value).groupby("sigma").value.mean()


def label_of(name):
    return registered.info(name).label if name in registered.REGISTER else name.replace("mean_srmse", "MeanSRMSE")


MAIN = {"mean_srmse": plots.COLOURS[1], "max_srmse": plots.COLOURS[4], "psnr": plots.COLOURS[0],
        "ssim": plots.COLOURS[2], removal.ORACLE: plots.COLOURS[6]}  # fmt: skip
if with_removal:
    panels = list(spans.groupby(["cohort", "q"]))
    figure, axes = plt.subplots(1, len(panels), figsize=(6.6 * len(panels) + 2.4, 4.4), squeeze=False)
    agreed = []
    for axis, ((name, q), part) in zip(axes[0], panels):
        step = {s: i for i, s in enumerate(sorted(part.sigma.unique()))}
        others = [m for m in part.metric.unique() if m not in MAIN]
        for i, m in enumerate([*others, *MAIN]):
            one = part[part.metric == m].sort_values("sigma")
            if one.empty:
                continue
            x = one.sigma.map(step).to_numpy() + 0.025 * (i - len(others))
            style = {"color": MAIN[m], "lw": 2} if m in MAIN else {"color": "#999999", "lw": 0.9}
            axis.plot(x, one.tpf, marker="osD^vP*X"[i % 8], ms=4, ls="-" if m in MAIN else ("--", ":", "-.")[i % 3],
                      label=label_of(m), **style)  # fmt: skip
            axis.vlines(x, one.low, one.high, color=style["color"], lw=0.8)
        theory = theory_of(removed[(removed.cohort == name) & (removed.q == q)])
        agreed.append(theory.rename("theory").to_frame().assign(cohort=name, q=q).reset_index())
        axis.plot(theory.index.map(step), theory, color="black", ls=":", lw=1.2, label="PSNR, theory")
        axis.axhline(0.5, color="black", lw=0.6)
        axis.set_xticks(range(len(step)), [f"{s:g}" for s in step])
        axis.set(title=f"{name}, q = {q:g}", xlabel="σ of the added noise, HU", ylabel="TPF", ylim=(-0.03, 1.03))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    agreed = pd.concat(agreed).merge(spans[spans.metric == "psnr"], on=["cohort", "q", "sigma"])
    gap = (agreed.tpf - agreed.theory).abs()
    gap_at = agreed.loc[gap.idxmax()] if len(gap) else None
    report.figure(
        run, "removal_shown", figure,
        "TPF by noise, bars: 95 % over volumes"
        + ("" if spans.volumes.min() >= stats.MIN_PATIENTS else " (too few for these)")
        + (f". PSNR is off its theory by at most {gap.max():.3f} (σ = {gap_at.sigma:g} HU)." if len(gap) else "."),
    )  # fmt: skip

# %%
if with_removal:
    wide = spans[spans.metric.isin(["mean_srmse", "max_srmse", "psnr", "ssim", removal.ORACLE])]
    text = wide.assign(shown=[f"{r.tpf:.2f} {bracket(r.low, r.high, 2)}" for r in wide.itertuples()])
    text = text.assign(metric=text.metric.map(label_of)).pivot(
        index=["cohort", "q", "sigma"], columns="metric", values="shown"
    )
    one = spans[spans.metric == "mean_srmse"].sort_values("sigma")
    sure = one[(one.low > 0.5) | (one.low.isna() & (one.tpf > 0.9))]
    seen, lost = sure.sigma.to_list(), one[~one.index.isin(sure.index)].sigma.to_list()
    best = spans[spans.metric != removal.ORACLE].sort_values("tpf").groupby(["cohort", "q", "sigma"]).tail(1)
    report.table(
        run, "removal_table", text.reset_index(),
        f"Where MeanSRMSE still detects q = {fractions[0]:g}: σ = {', '.join(f'{s:g}' for s in seen) or 'none'} HU; "
        f"where not: {', '.join(f'{s:g}' for s in lost) or 'none'} HU. The best metric by σ: "
        + ", ".join(f"{r.sigma:g} HU {label_of(r.metric)} {r.tpf:.2f}" for r in best.sort_values("sigma").itertuples())
        + ".",
    )  # fmt: skip

# %% [markdown]
# ## 4. MeanSRMSE as a loss
# The talk proposes it. Networks trained with it, with MSE and with a perceptual term see the same noise of the same
# unseen patients: how much of a lesion's contrast do they keep, and how well do observers detect it afterwards
# (channelised Hotelling, and non-prewhitening, which like a reader does not undo the noise's grain)? d' is relative to
# that in the LDCT.


# %%
def loss_rows():
    """Rows of ``tasks.lesion_scores`` for the LDCT and every run of ``losses``, with method and training seed."""
    of_loss, names, _ = methods_of(select(losses))
    functions = {"LDCT": lambda hu: hu} | {one.id: predictor(one) for one in of_loss}
    known = pd.DataFrame({"name": [one.id for one in of_loss], "method": names["method"], "seed": names["seed"]})
    dose = cohort.meta["parameters"].get("dose", 0.25)
    made = tasks.lesion_scores(
        functions, [tasks.Lesion(*one) for one in lesions], lesion_patients, dose, lesion_realisations, seed=seed,
        progress=partial(tqdm, total=lesion_patients, desc="lesions", unit="patient"),
    )  # fmt: skip
    base = made[made.name == "LDCT"].set_index(["patient", "lesion"])
    made = made[made.name != "LDCT"].merge(known, on="name")
    at = pd.MultiIndex.from_frame(made[["patient", "lesion"]])
    for observer in ("d_cho", "d_npw"):
        made[f"{observer}_kept"] = made[observer].to_numpy() / base[observer].reindex(at).to_numpy()
    return made


KEPT = {"kept": "contrast kept", "d_cho_kept": "d' kept, Hotelling", "d_npw_kept": "d' kept, non-prewhitening"}
if losses:
    of_losses = run.table("losses", loss_rows)

    def spans_of(part):
        """Interval over patients and seeds of every quantity, means over lesions."""
        for column in KEPT:
            table = stats.by_patient(part.assign(value=part[column]))
            yield column, stats.patient_bootstrap(table.to_numpy(), draws=draws, seed=seed)

    kept = [
        {"method": name, "quantity": column, "mean": span.mean, "low": span.low, "high": span.high, "seeds": span.seeds,
         "patients": span.patients}
        for name, part in of_losses.groupby("method") for column, span in spans_of(part)
    ]  # fmt: skip
    kept = pd.DataFrame(kept)
    against = sorted({n for n in kept.method if "srmse" in n} or set(kept.method))[0]
    gaps = []
    for name in kept.method.unique():
        for column, label in KEPT.items():
            tables = [
                stats.by_patient(of_losses[of_losses.method == m].assign(value=lambda t, c=column: t[c]))
                for m in (against, name)
            ]
            shared = sorted(set(tables[0]) & set(tables[1]))
            if name != against and shared:
                span = stats.patient_bootstrap((tables[0] - tables[1])[shared].to_numpy(), draws=draws, seed=seed)
                gaps.append({"first": against, "second": name, "quantity": label, "difference": span.mean,
                             "interval": bracket(span.low, span.high), "sure": str(span.excludes_zero)})  # fmt: skip
    order = list(kept.method.unique())
    figure, axes = plt.subplots(1, len(KEPT), figsize=(11, 0.5 * len(order) + 1.4), sharey=True)
    for axis, (column, label) in zip(axes, KEPT.items()):
        part = kept[kept.quantity == column].set_index("method").reindex(order)
        axis.plot(part["mean"], range(len(order)), "o", color=plots.COLOURS[0])
        axis.hlines(range(len(order)), part.low, part.high, color=plots.COLOURS[0])
        axis.axvline(1, color="black", lw=0.8, ls=":")
        axis.set(xlabel=label)
        axis.set_yticks(range(len(order)), order)
    axes[0].invert_yaxis()
    report.figure(
        run, "losses_shown", figure,
        f"What is left of {len(lesions)} lesions in {lesion_patients} patients; 1 is the LDCT. Bars: 95 % over "
        f"patients and seeds ({kept.seeds.min()} to {kept.seeds.max()} seeds). Contrast kept: "
        + ", ".join(
            f"{r.method} {r.mean:.3f} {bracket(r.low, r.high)}" for r in kept[kept.quantity == "kept"].itertuples()
        )
        + ".",
    )  # fmt: skip
    if gaps:
        report.table(
            run, "losses_compared", pd.DataFrame(gaps), f"{against} minus each other loss, by patient and seed."
        )
else:
    report.text("No runs are given for `losses`: the comparison of losses is left out.")

# %% [markdown]
# ## Checks

# %%
train_patients = set(cohort.slices.patient[cohort.slices.split == "train"])
assert test_source or train_patients.isdisjoint(about.patient), "a patient is in two splits"
assert (error.max_srmse.dropna() >= error.mean_srmse.dropna() - 1e-9).all()
assert examined.z.notna().all() and held.p.between(0, 1).all()
if with_removal:
    quiet = removed[(removed.sigma == 0) & (removed.q > 0) & (removed.metric == "psnr")]
    assert (quiet.tpf == 1).all(), "without noise PSNR sees every removal"

numbers = {"suspicious_a_slice": float(rate), "p_under_05": float(uniform["p < .05"].mean()),
           "ks_p": {r["segments of"]: r["KS p"] for r in uniform.to_dict("records")}}  # fmt: skip
main_tau = agreement[(agreement.error == "mean_srmse") & (agreement["segments of"] == "ndct")]
numbers["tau_with_rmse"] = {f"{r.reference}, {r.unit}": float(r.tau) for r in main_tau.itertuples()}
if simulated:
    numbers["naive_false_alarms"] = float(worst_naive.naive)
if planted:
    numbers |= {f"auc_{r.kind}": {r.score: float(r.y)} for r in areas[areas.score == "p, null"].itertuples()}
if with_removal:
    numbers |= {"mean_srmse_detects_at_hu": seen, "mean_srmse_misses_at_hu": lost, "psnr_off_theory": float(gap.max())}
if losses:
    numbers["contrast_kept"] = {r.method: float(r.mean) for r in kept[kept.quantity == "kept"].itertuples()}
run.finish(cohort=test.id, denoiser=main, methods=len(set(method.values())), segmentation=segmentation, **numbers)

# %%
max_tau = agreement[(agreement.error == "max_srmse") & (agreement["segments of"] == "ndct")]
told = [
    f"Against RMSE, MeanSRMSE orders the methods with tau {main_tau.tau.min():.2f} or more ({main_tau.reversed.max()} "
    f"of {main_tau.pairs.max()} pairs reversed), MaxSRMSE with {max_tau.tau.min():.2f} ({max_tau.reversed.max()})."
]
if planted:
    told.append("Planted in the output, "
                + " and ".join(f"{r.kind}s are found with an area under the ROC of {r.y:.2f}"
                               for r in areas[areas.score == "p, null"].itertuples()) + ".")  # fmt: skip
told.append(f"The list of {method[main]} names {rate:.2g} suspicious segments a slice.")
if with_removal:
    told.append(f"MeanSRMSE still sees q = {fractions[0]:g} at σ = {', '.join(f'{s:g}' for s in seen) or 'no'} HU"
                f" and not at {', '.join(f'{s:g}' for s in lost) or 'any other'} HU.")  # fmt: skip
report.text(
    f"**What we saw.** {' '.join(told)} One limit: segments are those of {segmentation}, and a lesion that no segment "
    "shows stays unseen. `05_invariances` asks whether f *can* hide one."
)
