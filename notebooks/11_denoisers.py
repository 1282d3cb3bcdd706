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
# # 11 · Is newer better?
# **Question.** Denoisers of several years, trained alike and tested on the same slices: is a newer one better than the
# best before it, by scores and by what a radiomics study would read, and what does it cost?
#
# **Reads** checkpoints of finished `03_train` runs of one cohort. **Writes** `scores.parquet` (domain `eulig2024`,
# HU, and radiomic feature similarity, by slice and method), `newer.parquet` (each against the best before it),
# `nulls.parquet`, `cost.parquet`, `rfs.json` (what features are normalised with). **Cost** seconds a network and slice
# of 512x512.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/11_denoisers/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
order: list = ["cnn10", "redcnn", "wganvgg", "resnet", "qae", "dugan", "transct", "bilateral"]  # networks, oldest first
classical: list = ["tv", "nlm"]  # methods without training, tuned on the validation slices; they count as the oldest
reference: str = "ndct"  # what is scored against: ndct, or truth where it is known
rfs_by: str = "auto"  # organs by thresholds, totalsegmentator, or auto: the latter on real scans if it can be
rfs_organs: list = []  # organs that RFS is taken in; [] is lungs, bone and soft tissue by thresholds, else all
draws: int = 2000  # bootstrap draws over patients
swaps: int = 200  # label swaps within patients, of two methods: how often the tests fire there
seed: int = 0  # seeds the bootstrap
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("11_denoisers", globals())

# %%
import ast
import textwrap
import time
import weakref

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from ldct_utils import cohorts, metrics, report, segments
from ldct_utils.ct import intensity
from ldct_utils.metrics import comparison, feature_similarity, ldct_iqa
from ldct_utils.models.classical import build, tune
from ldct_utils.report import plots
from ldct_utils.segments import total
from ldct_utils.stats import nulls
from ldct_utils.study.runs import select
from ldct_utils.training import checkpoints, designs, prediction, setup, testing, working_point

setup.seed_everything(seed, threads)

# %% [markdown]
# ## The methods
# Oldest first. A network's place is that of its publication, not of this training; methods without training are older
# than all.

# %%
chosen, listed, varying = designs.listed(select(runs))
cohort = cohorts.of(*chosen)
if getattr(cohort, reference, None) is None:
    raise ValueError(f"cohort {cohort.id} has no {reference!r} to score against; reference is ndct or truth")
rows = cohort.rows("test")
about = cohort.slices.set_index("row").loc[rows]
networks = [one.params["network"] for one in chosen]
numbers = listed.groupby(pd.Series(networks))["method"].nunique()  # a network with one design is called by its name
labels = [n if numbers[n] == 1 else m for n, m in zip(networks, listed["method"])]
listed = listed.assign(label=labels, network=networks)
network_of = dict(zip(labels, networks))
age = {name: i for i, name in enumerate([*classical, *order])}
names = [*classical, *sorted(network_of, key=lambda n: age.get(network_of[n], len(age)))]
report.table(
    run, "methods", listed,
    f"Runs: {len(chosen)}, methods: {', '.join(names)}, oldest first. Cohort {cohort.id}, "
    f"{report.plural(len(rows), 'test slice')} of {report.plural(about.patient.nunique(), 'patient')}; settings that "
    f"differ: {', '.join(varying) or 'none'}.",
)  # fmt: skip
if any(one.params.get("init") == "hub" for one in chosen):
    report.text(
        "Published weights were trained on patients of the LDCT and Projection data. Where test patients are among "
        "them, as those of the 2016 challenge may be, their scores are too good."
    )

# %% [markdown]
# ### Which of them are at their working point
# A network that was stopped too early says nothing about its method. It must have stopped improving (the last quarter
# of the updates changed its own objective, of the validation patches, by less than 2 %) and gain at least 1 dB PSNR
# over its input in the windows of the anatomies. One with a critic may be 1.5 dB worse than its input, with a noise
# texture nearer to the NDCT's than MSE gives. Others get no verdict, and nobody is compared with them.

# %%
points = working_point.of_methods(chosen, [testing.scores(one) for one in chosen], labels)
unfinished = [name for name, one in points.items() if not one.reached]
report.table(
    run, "working_points", working_point.table(points),
    f"{working_point.said(points)} Means over trainings. The distance of the noise texture is that of the noise power "
    "spectra in flat soft tissue, in level and shape.",
)  # fmt: skip


# %% [markdown]
# How much of the contrast of known lesions each passes on stands beside that: PSNR knows nothing of lesions.

# %%
lesions = run.table(
    "kept", lambda: testing.kept_of_methods([testing.scores(one) for one in chosen], labels, draws, seed)
)
kept = lesions.set_index("method")[["kept", "low", "high"]] * 100
spans = [f"{r.Index} {r.kept:.0f} % {report.bracket(r.low, r.high, '.0f')}" for r in kept.itertuples()]
report.text(
    f"**Contrast of lesions kept**: {'; '.join(spans)}" + ". The untouched LDCT keeps 100 %."
    if len(lesions) else "No lesion is known in these patients: what is kept of one cannot be said."
)  # fmt: skip


# %%
def tuned():
    """Settings of the methods without training, with the smallest RMSE on the middle slices of validation patients."""
    val = cohort.slices[cohort.slices.split == "val"].groupby("patient").row.apply(lambda r: r.iloc[len(r) // 2])
    val = val.to_numpy(np.int64)
    pairs = [np.asarray(images[val], np.float32) for images in (cohort.ldct, cohort.ndct)]
    return pd.DataFrame([{"method": name, "settings": str(tune(name, *pairs))} for name in classical])


settings_of = dict(run.table("tuned", tuned).itertuples(index=False)) if classical else {}
if classical:
    tunings = "; ".join(f"{k} {v}" for k, v in settings_of.items())
    report.text(f"Tuned for RMSE on a slice of every validation patient: {tunings}.")


def predictors():
    """(label, seed, function from HU to HU), the LDCT itself first."""
    yield "LDCT", -1, lambda hu: hu
    for name in classical:
        yield name, -1, build(name, **ast.literal_eval(settings_of[name]))
    for one, label in zip(chosen, labels):
        yield label, one.params["seed"], prediction.denoiser(one, 1, precision, device)


# %% [markdown]
# ## Scores
# SSIM and PSNR in the window of each anatomy, VIF with the benchmark's argument order (domain `eulig2024` and HU), and
# **RFS**: 42 radiomic features (IBSI's first order and GLCM) of each organ, z-scored on the NDCT of the *training*
# patients, and the cosine between a method's vector and the NDCT's. The normalisation is stored and does not depend on
# the methods, so that one method more changes no other's score. Organs are found on the NDCT: by TotalSegmentator on
# real scans that bring its labels with them or where it is installed, else as ranges of HU, which no anatomist drew.
# Slices of 512x512 are rated by LDCT-IQA too where its weights are here; it has seen abdomens and no denoised image.


# %%
if rfs_by not in ("auto", "thresholds", "totalsegmentator"):
    raise ValueError(f"rfs_by is auto, thresholds or totalsegmentator, not {rfs_by!r}")
why = "" if total.labelled(cohort) else "the patients are simulated" if cohort.truth is not None else total.missing()
by = rfs_by if rfs_by != "auto" else "thresholds" if why else "totalsegmentator"
organs = list(total.ORGANS) if by == "totalsegmentator" else list(segments.TISSUES)
if unknown := set(rfs_organs) - set(organs):
    raise ValueError(f"rfs_organs by {by} are {', '.join(organs)}; got {', '.join(sorted(unknown))}")
wanted = rfs_organs or (organs if by == "totalsegmentator" else ["lungs", "bone", "soft tissue"])
report.text(f"Organs of RFS: {by}{f', since {why}' if rfs_by == 'auto' and why else ''}.")
drawn = {}
if by == "totalsegmentator":
    both = [*cohort.rows("train"), *rows]
    drawn = dict(zip(both, run.array("organs", lambda: total.of_cohort(cohort, both, device))))


def organs_of(row):
    """{organ: mask} of an NDCT slice; small ones are left out."""
    if by == "thresholds":
        found = feature_similarity.organ_masks(np.asarray(cohort.ndct[row], np.float32))
    else:
        found = {name: drawn[row] == place for place, name in enumerate(total.ORGANS, 1)}
    return {n: mask for n, mask in found.items() if n in wanted and mask.sum() >= feature_similarity.MIN_AREA}


def fitted():
    """The normalisation of RFS, fitted on the NDCT of the training slices; organs seen too rarely are left out, and
    where none is left there is no RFS."""
    train = cohort.rows("train")
    masks = [organs_of(row) for row in train]
    owner = cohort.slices.set_index("row").loc[train].patient.to_list()
    table = feature_similarity.vectors([np.asarray(cohort.ndct[r], np.float32) for r in train], masks, owner)
    if table.empty:
        return None
    counts = table.groupby("organ").size()
    kept = table[table.organ.isin(counts[counts >= feature_similarity.FEWEST].index)]
    return feature_similarity.fit(kept, by) if len(kept) else None


rfs_file = run.folder / "rfs.json"
if not rfs_file.is_file() and (measure := fitted()):
    measure.save(rfs_file)
rfs = feature_similarity.load(rfs_file) if rfs_file.is_file() else None
if rfs and rfs.settings["segments"] != by:
    raise ValueError(f"this run began with organs by {rfs.settings['segments']}: give rfs_by, which was {rfs_by}")
known = set(rfs.mean.index) if rfs else set()
masks_of = {row: {o: m for o, m in organs_of(row).items() if o in known} for row in rows if known}
report.text(
    f"RFS is taken in {', '.join(f'{o} ({n} training segments)' for o, n in rfs.count.items() if o in known)}."
    if rfs else f"There is **no RFS**: no organ is in {feature_similarity.FEWEST} training slices or more."
)  # fmt: skip


rates = cohort.ldct.shape[1:] == (ldct_iqa.SIZE,) * 2 and metrics.available(["ldct_iqa"]).available.all()


def rated(images):
    """LDCT-IQA of denoised slices, which takes no reference."""
    found = metrics.compute(pred=images, names=["ldct_iqa"], domain=intensity.domain("hu"), device=device)
    where = about[["patient", "anatomy"]].reset_index()
    return pd.concat([where, found.drop(columns="image")], axis=1)


def scored():
    """One row a slice, method, seed and metric (RFS: the mean over the slice's organs)."""
    target, parts = getattr(cohort, reference), []
    for label, its_seed, predict in tqdm(predictors(), total=1 + len(classical) + len(chosen), unit="method"):
        made = {}

        def once(hu, predict=predict, made=made):
            found = predict(hu)
            made.update(zip(rows[len(made) : len(made) + len(hu)], found))
            return found

        windowed = metrics.evaluate(once, cohort, rows, ["eulig2024"], ["ssim", "psnr"], [reference])
        stored = iter(made.values())
        whole = metrics.evaluate(
            lambda hu, stored=stored: np.stack([next(stored) for _ in hu]), cohort, rows, ["hu"],
            ["vifp_eulig", "rmse_hu"], [reference],
        )  # fmt: skip
        similar = [
            {"row": row, "patient": about.patient[row], "anatomy": about.anatomy[row], "domain": "hu", "metric": "rfs",
             "value": np.mean(list(rfs.similarity(made[row], np.asarray(target[row], np.float32), masks).values()))}
            for row, masks in masks_of.items() if masks
        ]  # fmt: skip
        alone = [rated(np.stack(list(made.values())))] if rates else []
        parts.append(pd.concat([windowed, whole, pd.DataFrame(similar), *alone]).assign(method=label, seed=its_seed))
    return pd.concat(parts, ignore_index=True).drop(columns="reference")


scores = run.table("scores", scored)
LABEL = {"ssim": "SSIM", "psnr": "PSNR, dB", "vifp_eulig": "VIF", "rmse_hu": "RMSE, HU"}
LABEL |= ({"rfs": "RFS"} if rfs else {}) | ({"ldct_iqa": "LDCT-IQA"} if rates else {})
BETTER = {"rmse_hu": -1}  # of all others more is better

# %% [markdown]
# ## Each against the best before it
# By anatomy and metric, in the order of age: is a method better or worse than the best of all older ones (by its mean)?
# The verdict is the 95 % interval over patients *and* trainings of this pair alone. It excludes 0 or it does not; one
# training gives none, and other methods change nothing. `newer.parquet` has p of a Wilcoxon test over patients and of a
# mixed model beside it, Holm-corrected over the metrics of a pair: both speak of *these networks*.

# %%
direction = {name: BETTER.get(name, 1) for name in LABEL}
newer = run.table(
    "newer", lambda: comparison.against_older(scores, ["LDCT", *names], direction, unfinished, draws, seed)
)
counts = newer.verdict.value_counts()
summed = comparison.verdicts_said(newer.verdict, "the newer method")
without = ", ".join(f"{n} ({word})" for word, n in counts.items() if word not in comparison.DECIDED)
once = [name for name, n in listed.groupby("label").seed.nunique().items() if n == 1]
notes = dict.fromkeys(once, "\none training") | dict.fromkeys(unfinished, "\nnot at a working point")

# %%
wide = newer.assign(column=newer.anatomy + ", " + newer.metric.map(LABEL))
columns = list(dict.fromkeys(wide["column"]))
digits = {"ssim": 3, "psnr": 2, "vifp_eulig": 3, "rmse_hu": 1, "rfs": 2, "ldct_iqa": 2}
ARROW, SHADE = {"better": " ↑", "worse": " ↓"}, {"better": "#a6d3f0", "worse": "#f5c29b"}
text = wide.assign(shown=[f"{r.mean:.{digits[r.metric]}f}{ARROW.get(r.verdict, '')}" for r in wide.itertuples()])
text = text.pivot(index="method", columns="column", values="shown").reindex(["LDCT", *names])[columns]
verdict = wide.pivot(index="method", columns="column", values="verdict").reindex(["LDCT", *names])[columns]
figure, axis = plt.subplots(figsize=(0.78 * len(columns) + 2.4, 0.34 * (len(text) + 0.7 * len(notes)) + 1))
axis.set_axis_off()
drawn = axis.table(
    text.fillna("–").to_numpy(), loc="center", cellLoc="center",
    rowLabels=[name + notes.get(name, "") for name in text.index],
    colLabels=[c.replace(", ", "\n", 1) for c in columns],
    cellColours=[[SHADE.get(one, "white") for one in line] for line in verdict.to_numpy()],
)  # fmt: skip
drawn.auto_set_font_size(False)
drawn.set_fontsize(8)
drawn.scale(1, 1.35)
for (line, _), cell in drawn.get_celld().items():
    cell.set_linewidth(0.3)
    if line == 0 or text.index[line - 1] in notes:
        cell.set_height(cell.get_height() * 1.7)
    if line and text.index[line - 1] in unfinished:
        cell.get_text().set_color("#777777")
report.figure(
    run, "newer_shown", figure,
    f"{summed} Means over test slices against {reference.upper()}; ↑ blue: better than the best older method at its "
    "working point, ↓ orange: worse (the 95 % interval over patients and trainings excludes 0). "
    + (f"Comparisons without a verdict: {without}." if without else ""),
)  # fmt: skip

# %% [markdown]
# ## Do the tests keep their promise?
# Two comparisons in which there is nothing to find: labels of two methods swapped within patients, and two trainings of
# one method compared as two methods are. A test that takes the networks as given passes the first and fails the second.

# %%
patients = about.patient.nunique()
of_metrics = {name: dict(list(scores[scores.metric == name].groupby("method"))) for name in LABEL}
last = newer[(newer.anatomy == "all") & (newer.metric == "psnr")].dropna(subset="best before").iloc[-1]
pair = ("psnr", last.method, last["best before"]) if patients > 1 else None
empty = run.table("nulls", lambda: nulls.both(of_metrics, pair, swaps, seed))
of_trainings = nulls.trainings_said(empty, "psnr", "PSNR", patients)
spread = nulls.spread_said(empty, {"psnr": ("PSNR", "dB"), "rmse_hu": ("RMSE", "HU")})
report.table(
    run, "nulls_shown", nulls.in_words(empty, LABEL),
    f"{of_trainings} {spread} {report.plural(patients, 'patient')}, all anatomies together."
    + (f" Labels were swapped between {last.method} and {last['best before']}." if pair and swaps else ""),
)  # fmt: skip

# %% [markdown]
# ## The easiest and the hardest slice

# %%
of_slices = scores[(scores.metric == "ssim") & scores.method.isin(names)].groupby("row").value.mean()
extremes = {"highest": int(of_slices.idxmax()), "lowest": int(of_slices.idxmin())}


def pictures():
    """(2, 2 + methods, H, W) float32 HU: LDCT, reference, and every method once."""
    found = []
    first = {}
    for label, _, predict in predictors():
        first.setdefault(label, predict)
    for row in extremes.values():
        ldct = np.asarray(cohort.ldct[row], np.float32)
        made = [first[name](ldct[None])[0] for name in names]
        found.append([ldct, np.asarray(getattr(cohort, reference)[row], np.float32), *made])
    return np.array(found, np.float32)


stored = run.array("pictures", pictures)
table = []
for (what, row), images in zip(extremes.items(), stored):
    titles = ["\n".join(textwrap.wrap(title, 16)) for title in ("LDCT", reference.upper(), *names)]
    label = f"{what} SSIM {of_slices[row]:.3f}\n{about.anatomy[row]}, {about.patient[row]}"
    table.append((label, dict(zip(titles, images)), *plots.anatomy_window(about.anatomy[row])))
report.figure(
    run, "extremes", plots.rows(table, size=1.7),
    f"The slices whose SSIM, a mean over methods, is highest ({of_slices.max():.3f}) and lowest "
    f"({of_slices.min():.3f}).",
)  # fmt: skip

# %% [markdown]
# ## What it costs
# Multiplications of one test slice (counted by torch for convolutions and matrix products; other operations, such as
# those of the bilateral filter, count as none), seconds on this machine, and the most memory that tensors take at once.


# %%
class Live(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the bytes of tensors that operations make while they live; ``peak`` is the most at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in self.seen:
                storage = one.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                self.seen.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(one, self._gone, key, size)
        return found

    def _gone(self, key, size):
        self.seen.discard(key)
        self.now -= size


def costs():
    """One row a method: weights, multiplications, seconds and memory a test slice."""
    found, ldct = [], np.asarray(cohort.ldct[rows[:1]], np.float32)
    for label, _, predict in predictors():
        if label == "LDCT" or label in {one["method"] for one in found}:
            continue
        predict(ldct)  # what is set up once does not count
        times = []
        for _ in range(3):
            began = time.perf_counter()
            predict(ldct)
            times.append(time.perf_counter() - began)
        row = {"method": label, "weights": 0, "GMAC a slice": np.nan, "s a slice": min(times), "MB a slice": np.nan}
        if label not in classical:
            network = checkpoints.load_network(chosen[labels.index(label)].folder).to(device)
            with FlopCounterMode(display=False) as counter:
                prediction.predict(network, ldct, 1, "float32", device)
            with Live() as live:
                prediction.predict(network, ldct, 1, "float32", device)
            row |= {"weights": sum(p.numel() for p in network.parameters()), "MB a slice": live.peak / 1e6,
                    "GMAC a slice": counter.get_total_flops() / 2e9}  # fmt: skip
        found.append(row)
    return pd.DataFrame(found)


cost = run.table("cost", costs)
means = newer[(newer.anatomy == "all") & newer.method.isin(names)].pivot(
    index="metric", columns="method", values="mean"
)
firsts = {name: (direction[name] * means.loc[name]).idxmax() for name in LABEL}
ssim = newer[(newer.anatomy == "all") & (newer.metric == "ssim")].set_index("method")["mean"]
height, width = cohort.ldct.shape[1:]
report.table(
    run, "cost_shown", cost.assign(SSIM=cost.method.map(ssim)),
    f"Cost of one slice of {height}x{width} pixels beside the windowed SSIM over all test slices; {precision} on "
    f"{device}, {threads} threads, best of three; memory and multiplications in float32. The dearest takes "
    f"{cost['s a slice'].max() / cost['s a slice'].min():.0f} times as long as the cheapest.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert scores.groupby(["method", "seed", "metric"])["row"].nunique().groupby("metric").nunique().eq(1).all(), (
    "methods were scored on different slices"
)
train_patients = set(cohort.slices.patient[cohort.slices.split == "train"])
assert train_patients.isdisjoint(about.patient), "a patient is in two splits"
assert (scores[scores.metric == "rfs"].value.abs() <= 1 + 1e-9).all()
run.finish(
    cohort=cohort.id, methods=len(names), patients=patients, slices=len(rows),
    decided=int(newer.verdict.isin(comparison.DECIDED).sum()), better=int(counts.get("better", 0)),
    worse=int(counts.get("worse", 0)), too_few=int(counts.get("too few patients", 0)),
    one_training=int(counts.get("one training", 0)), unfinished=unfinished, best=firsts,
    ssim={name: float(ssim[name]) for name in ssim.index}, trainings_sd=nulls.spreads(empty),
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {summed} {working_point.said(points)} {of_trainings} First by SSIM is {firsts['ssim']}, by VIF "
    f"{firsts['vifp_eulig']}, by RFS {firsts.get('rfs', 'none')}. One limit: a network is as good as its training, "
    "which here was that of the runs listed above. `04b_dose` and `05_invariances` ask what such scores do not see."
)
