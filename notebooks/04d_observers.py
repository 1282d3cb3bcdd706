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
# # 04d · Which observers can say no?
# **Question.** A model observer stands for a reader. Which observers notice that an image got worse, and which praise
# whatever looks smooth? How much dose does a denoiser save for those that may be believed?
#
# **Reads** nothing, or checkpoints of finished `03_train` runs. **Writes** `judged.parquet` (d' of every observer, task
# and image), `verdicts.parquet` (rules and observers), `doses.parquet` (doses saved), three figures and three tables.
# **Cost** of the defaults: 2 minutes on one core, and 15 s a network.
#
# Words: LDCT is the low-dose image, reconstructed by plain filtered back-projection (FBP). d′ says how well an observer
# tells "lesion" from "no lesion"; 0 is guessing. AUC is the share of pairs that it puts in the right order; 0.5 is
# guessing. A network is one of `03_train`.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/04d_observers/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = []  # run folders or globs of 03_train, relative to outputs/; empty: known denoisers alone
realisations: int = 400  # noise realisations a class, at least 100
backgrounds: int = 120  # simulated patients, each used once; even, at least 44
doses: list = [0.1, 0.25, 0.5, 1.0]  # fractions of the normal dose, rising, in (0, 1]
low_dose: float = 0.25  # of these, the dose at which images are denoised
kernel: str = "B30"  # reconstruction kernel, that of the runs
internal_share: float = 0.6  # variance of the reader's internal noise over that of the FBP at full dose, above 0
internal_sweep: list = [0.5, 2.0]  # times that much internal noise: two octaves
seed: int = 0  # seeds noise and patients
batch: int = 16  # images a network is given at once
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # of the networks: auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("04d_observers", globals())

# %%
from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import t as student
from tqdm.auto import tqdm

from ldct_utils import report
from ldct_utils.report import plots
from ldct_utils.study.runs import select
from ldct_utils.task_based import npwe, observers, panel, tasks, trial
from ldct_utils.training import designs, prediction, setup

setup.seed_everything(seed, threads)
if low_dose not in doses or doses != sorted(doses) or len(doses) < 2:
    raise ValueError(f"doses must rise and hold low_dose ({low_dose:g}), got {doses}")
if realisations < 100 or backgrounds < 44:
    raise ValueError(f"take 100 realisations and 44 backgrounds or more, not {realisations} and {backgrounds}")

# %% [markdown]
# ## Whom we ask
# - **CHO, retrained**: the channelised Hotelling observer learns its template anew on each denoiser's images, and knows
#   lesion, place and noise. We call it *the ceiling*: no processing can help it, so it cannot say that one does.
# - **CHO, learned on FBP**: the same observer with the template of the plain images, as a reader has learned on them.
# - **NPW**: looks for the lesion's own shape and does not allow for the noise texture.
# - **NPWE**: looks for the lesion as it is after processing, through the eye's sensitivity, with internal noise. The
#   eye filter is f^1.3 exp(−c f²) with its peak at 4 cycles a degree; the image is seen at its true size (pixels of
#   0.75 mm) from 500 mm.
# - **search**: a CHO that does not know the place. Its template slides over the image, and the largest response counts
#   if it lies within the lesion's radius. Once retrained, once learned on FBP.
# - **contrast over noise** is no observer. It is here because it is known to reward any smoothing, and must fail.
#
# The internal noise is fixed once: on FBP at full dose it has `internal_share` of the variance that the image's noise
# has, for the first task. The same number holds for all images. It is also halved and doubled.

# %% [markdown]
# ## What they are shown
# Seven tasks. In the first six everything but the noise is known, in a cylinder of water of 300 mm. In the last each
# image is the liver of another simulated patient, used once: there the interval is one over patients.
#
# Eight images of each: LDCT; blurred (Gaussian, SD 3 pixels); median filtered; total variation; unsharp masked; two
# erasers; and the noise-free truth. One eraser takes 80 % of the lesion away and leaves the noise. The other fades
# lesion and noise alike, so that the information stays and the contrast goes.

# %%
chosen, listed, _ = designs.listed(select(runs)) if runs else ([], None, [])
kernels = {one.params.get("kernel", kernel) for one in chosen}
if kernels - {kernel}:
    raise ValueError(f"the runs were trained on kernel {', '.join(sorted(kernels))}: set kernel, or choose other runs")


def named(one):
    """A network's name among the images; the training's number where a method has several."""
    several = (listed["method"] == one.method).sum() > 1
    return designs.spoken(one.method) + f", seed {one.seed}" * bool(several)


def as_control(denoise):
    return lambda images, background, added: denoise(images)


names = [named(one) for one in listed.itertuples()] if runs else []
networks = {name: as_control(prediction.denoiser(one, batch, precision, device)) for name, one in zip(names, chosen)}
IMAGES = tasks.controls() | networks


def percent(share, form=".0%"):
    """A share in percent with a space before the sign."""
    return f"{share:{form}}".replace("%", " %")


# %%
def scenes():
    """The four pairs of classes, one after the other: of the first, four tasks in one image."""
    yield tasks.known_places(realisations, [seed, 0], kernel)
    for number, name in enumerate((tasks.SEARCH, tasks.FINE_SEARCH), 1):
        yield tasks.searched(name, realisations, [seed, number], kernel)
    yield tasks.in_patients(backgrounds, [seed, 3], kernel, progress=partial(tqdm, desc="patients"))


first = tasks.known_places(1, [seed, 0], kernel)


def example():
    """(images, H, W) HU of the first scene: the lesions alone, then one realisation of the present class."""
    shown = first.images(low_dose)
    return np.stack([first.added, *(first.after(control, shown)[1][0] for control in IMAGES.values())])


stored, titles = run.array("example", example), ["what is added", *IMAGES]
columns = -(-len(titles) // 2)
figure, axes = plt.subplots(2, columns, figsize=(2.1 * columns, 4.9), squeeze=False)
for axis in axes.ravel():
    axis.set_axis_off()
for axis, title, image in zip(axes.ravel(), titles, stored):
    window = (0, 60) if title == titles[0] else (60, 150)
    plots.show(axis, image, *window, f"{fill(title, 22)}\n{plots.window_text(*window)}").title.set_fontsize(8)
    for row, column in (target.place for target in first.targets):
        axis.add_patch(plt.Circle((column, row), 12, fill=False, lw=0.8, color="#f0e442"))
sizes = "; ".join(f"{target.name} ({tasks.LESIONS[target.name].text})" for target in first.targets)
report.figure(
    run, "images", figure,
    "**Four tasks in one image, as every denoiser leaves them.** From the upper left, row by row: " + sizes
    + f". The last is an ellipse against a disc of the same area. Dose {percent(low_dose)}, one realisation.",
)  # fmt: skip

# %% [markdown]
# ## Every observer before every image
# Templates are made on one half of the realisations and tested on the other. Intervals are jackknife intervals over
# realisations, or over patients where each is used once. Differences between two images are taken with the same noise.


# %%
def swept(times):
    """The NPWE with another amount of internal noise."""
    return lambda s: npwe.npwe(s.absent, s.present, s.difference, s.pixel_mm, times * s.internal)


SWEEP = {f"NPWE, internal noise × {times:g}": swept(times) for times in internal_sweep}


def judge():
    """Rows of ``panel.judge`` for all scenes."""
    tables, internal = [], None
    for scene in scenes():
        internal = internal or panel.internal_noise(scene, internal_share)
        progress = partial(tqdm, desc=scene.targets[0].name, mininterval=1)
        tables.append(panel.judge(scene, IMAGES, doses, low_dose, internal, progress, at_place=panel.AT_PLACE | SWEEP))
    return pd.concat(tables, ignore_index=True).assign(internal=internal)


judged = run.table("judged", judge)
real = judged[~judged["zero"]]
low = real[real["dose"] == low_dose]
TASKS, PANEL = list(judged["task"].unique()), [name for name in judged["observer"].unique() if name not in SWEEP]

# %% [markdown]
# ## Who fails
# An observer fails if it sees lesions where there are none, gains nothing from dose, sees more than an observer that
# knows everything, prefers the blur where detail counts, or does not notice the eraser that leaves the noise. Each rule
# is tested at 5 % over all that it asks of one observer.

# %%
verdicts = run.table("verdicts", lambda: trial.verdicts(judged))
believed = [name for name in trial.believed(verdicts) if name in PANEL]
failed = [name for name in PANEL if name not in believed]
faults = verdicts[verdicts["fails"].eq(True)]
words = {True: "fails", False: "passes"}
shown = verdicts.assign(said=[words.get(one, "not asked") for one in verdicts["fails"]])
shown = shown.pivot(index="observer", columns="rule", values="said").loc[[*PANEL, *SWEEP], verdicts["rule"].unique()]
why = [f"{one.observer} {one.rule} ({one.where}: by {one.value:.2g})" for one in faults.itertuples()]
report.table(
    run, "rules", shown.reset_index(),
    f"**{len(PANEL) - len(failed)} of {len(PANEL)} pass.** "
    + (f"{'; '.join(why)}. " if why else "No observer broke a rule. ")
    + f"{report.plural(realisations, 'realisation')} a class, {backgrounds} patients.",
)  # fmt: skip

# %% [markdown]
# ## What each observer says of each image
# The number is d′, the colour is d′ over that of the LDCT: blue is better than the LDCT, red is worse. On the large
# faint lesion a blur may win, and for a reader with internal noise it does not harm. That is no fault of an observer.


# %%
def matrices(name):
    """d' of every observer and image of a task, and its logarithm over that of the LDCT."""
    part = low[(low["task"] == name) & ~low["observer"].isin(SWEEP)]
    d_prime = part.pivot(index="observer", columns="image", values="d_prime")[list(IMAGES)]
    d_prime = d_prime.loc[[o for o in PANEL if o in d_prime.index]]
    ratio = d_prime.clip(lower=0.05).div(d_prime[tasks.PLAIN].clip(lower=0.05), axis=0)
    return d_prime, np.log2(ratio.clip(upper=4))


heights = [len(matrices(name)[0]) for name in TASKS]
figure, axes = plt.subplots(len(TASKS), 1, figsize=(4 + 0.7 * len(IMAGES), 1.5 + 0.36 * sum(heights)), sharex=True,
                            gridspec_kw={"height_ratios": heights})  # fmt: skip
for axis, name in zip(axes, TASKS):
    d_prime, colour = matrices(name)
    plots.matrix(axis, colour.to_numpy(), [fill(i, 24) for i in IMAGES], d_prime.index, -2, 2)
    for text, value in zip(axis.texts, d_prime.to_numpy().ravel()):
        text.set_text("∞" if np.isinf(value) else f"{value:.2f}")
    axis.set_title(name, fontsize=9, loc="left")
faded = low[(low["image"] == tasks.FADE) & (low["task"] != tasks.PATIENTS)]
blind = [o for o in PANEL if (faded["gap"] > -0.05 * faded["d_prime"])[faded["observer"] == o].all()]
sighted = [o for o in believed if o not in blind]
report.figure(
    run, "d_prime", figure,
    f"**Only {' and '.join(sighted) or 'no observer'} sees contrast fade.** Numbers: d′ at {percent(low_dose)} of the "
    "dose; blue is better than the LDCT, red worse, full colour a factor of 4. ∞: without noise an observer that has "
    "none of its own is never wrong.",
)  # fmt: skip

# %% [markdown]
# ## Could an observer have said yes?
# An observer that cannot gain from any processing cannot say that a denoiser saves no dose: it says so of every
# denoiser. The largest gain that any known denoiser brings it shows whether it could. The truth is left out, since no
# denoiser knows it.

# %%
ASKED = [i for i in IMAGES if i not in (tasks.PLAIN, tasks.TRUTH)]
reach = student.ppf(0.975, observers.GROUPS - 1)
gains = low[low["image"].isin(ASKED) & low["observer"].isin(PANEL)].assign(
    share=lambda t: t["gap"] / (t["d_prime"] - t["gap"]), sure=lambda t: t["gap"] > reach * t["gap_se"]
)
best = gains[gains["sure"]].sort_values("share").groupby("observer").tail(1).set_index("observer")
could = {
    name: f"{percent(best['share'][name], '+.0%')} ({best['image'][name]}, {best['task'][name]})"
    if name in best.index else "none is shown"
    for name in PANEL
}  # fmt: skip
report.table(
    run, "could", pd.DataFrame({"observer": PANEL, "largest gain in d′ from a denoiser": could.values(),
                                "passes the rules": ["yes" if name in believed else "no" for name in PANEL]}),
    f"**{len([o for o in believed if o in best.index])} of {report.plural(len(believed), 'observer')} that pass could "
    "say yes.** Each gain is the largest of many and its interval is not corrected for that: it shows what an observer "
    "can say, not that this denoiser helps.",
)  # fmt: skip

# %% [markdown]
# ## How much dose does an image save?
# The dose at which FBP is as good for the same observer and task. Only observers that passed are asked, and only where
# more dose is shown to help them. Doses beyond those looked at are not known; then the end of the range stands. The
# ceiling stands apart: it cannot gain, so for it nothing can be saved.


# %%
def worth_text(one):
    """A dose in percent with its interval; at the ends of the doses as a bound."""
    end = "< " if one.worth <= doses[0] * 1.001 else "> " if one.worth >= doses[-1] * 0.999 else ""
    return f"{end}{percent(one.worth)} [{100 * one.worth_low:.0f}, {100 * one.worth_high:.0f}]"


rising = real[(real["image"] == tasks.PLAIN) & (real["dose"] == doses[-1])]
rising = rising[rising["gap"] > reach * rising["gap_se"]].set_index(["task", "observer"]).index
bought = low[low["worth"].notna() & low["observer"].isin(believed) & ~low["image"].isin((tasks.TRUTH, tasks.FADE))]
bought = bought[bought.set_index(["task", "observer"]).index.isin(rising)]
bought = run.table(
    "doses", lambda: bought[["task", "observer", "image", "d_prime", "worth", "worth_low", "worth_high"]]
)
of_interest = names or [tasks.BLUR, tasks.MEDIAN, tasks.TV, tasks.UNSHARP]
chosen_doses = bought[bought["image"].isin(of_interest)]
wide = chosen_doses.assign(text=[worth_text(one) for one in chosen_doses.itertuples()])
wide = wide.pivot(index=["task", "observer"], columns="image", values="text").reindex(columns=of_interest)
wide = wide.reindex([key for key in low.set_index(["task", "observer"]).index.unique() if key in wide.index])
asked = chosen_doses[chosen_doses["observer"] != panel.RETRAINED]
saves, costs = asked[asked["worth_low"] > low_dose], asked[asked["worth_high"] < low_dose]
where = [f"{task}: {', '.join(part['observer'].unique())}" for task, part in saves.groupby("task", sort=False)]
report.table(
    run, "bought", wide.reset_index(),
    f"**{len(saves)} of {len(asked)} comparisons save dose, {len(costs)} cost dose** (without the ceiling; the others "
    f"are not shown to do either). Dose of the FBP that is as good as the image at {percent(low_dose)}, in % of the "
    "normal dose, with 95 % jackknife intervals, not corrected for their number."
    + f" Dose is saved in {'; '.join(where)}." * bool(where),
)  # fmt: skip

# %%
figure, axes = plt.subplots(
    1, len(TASKS), figsize=(2 + 1.7 * len(TASKS), 1.4 + 0.24 * len(of_interest) * 5), sharey=True
)
mark = dict(zip(believed, "osD^vP*"))
for axis, name in zip(axes, TASKS):
    part = bought[(bought["task"] == name) & bought["image"].isin(of_interest)]
    for one in part.itertuples():
        level = of_interest.index(one.image) + 0.7 * (believed.index(one.observer) + 0.5) / len(believed) - 0.35
        colour = "#999999" if one.observer == panel.RETRAINED else plots.COLOURS[believed.index(one.observer) % 6]
        axis.plot([one.worth_low, one.worth_high], [level, level], color=colour, lw=1.4)
        axis.plot(one.worth, level, marker=mark[one.observer], color=colour, ms=5, ls="")
    axis.axvline(low_dose, color="black", lw=0.8, ls=":")
    plots.ticks_at(axis, doses)
    axis.set_title(fill(name, 16), fontsize=9)
axes[0].set_yticks(range(len(of_interest)), [fill(i, 26) for i in of_interest])
axes[0].invert_yaxis()
axes[len(TASKS) // 2].set_xlabel("dose of the FBP that is as good, fraction of the normal one; right is better")
handles = [plt.Line2D([], [], marker=mark[o], ls="", label=o + " (the ceiling)" * (o == panel.RETRAINED),
                      color="#999999" if o == panel.RETRAINED else plots.COLOURS[believed.index(o) % 6])
           for o in believed]  # fmt: skip
figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
report.figure(
    run, "doses_saved", figure,
    "**Who is asked, and for what, decides whether dose is saved.** Dotted: the image's own dose, "
    f"{percent(low_dose)}; right of it dose is saved. Bars: 95 % jackknife intervals, cut off at the doses looked at. "
    "Grey: the ceiling, for which nothing can be saved.",
)  # fmt: skip

# %% [markdown]
# ## Does the amount of internal noise decide?
# Over two octaves the order of the images should hold. Kendall's tau between the orders is 1 if it does.

# %%
orders = low[low["observer"].isin([panel.NPWE, *SWEEP]) & (low["task"] != tasks.PATIENTS)]
orders = orders.pivot(index=["task", "image"], columns="observer", values="d_prime")
taus = {
    name: float(np.mean([part[name].corr(part[panel.NPWE], method="kendall") for _, part in orders.groupby("task")]))
    for name in SWEEP
}
report.text(
    "The NPWE ranks the images nearly alike whatever its internal noise: mean tau over tasks "
    + ", ".join(f"{tau:.2f} ({name.removeprefix('NPWE, ')})" for name, tau in taus.items()) + "."
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(judged["auc"]).all(), "an observer gave no AUC"
assert panel.CNR in failed or realisations < 400, "contrast over noise, which rewards any smoothing, was not caught"
internal = float(judged["internal"].iloc[0])


def of_image(image, column):
    """{task: {observer: value}} of an image at the low dose."""
    part = low[(low["image"] == image) & low["observer"].isin(PANEL)]
    return {t: {o: float(v) for o, v in zip(p["observer"], p[column])} for t, p in part.groupby("task", sort=False)}


headline = {
    "believed": believed, "failed": {name: list(faults[faults["observer"] == name]["rule"]) for name in failed},
    "blind_to_fading": blind, "could_gain": could, "saves": len(saves), "costs": len(costs), "asked": len(asked),
    "internal_noise_hu2_mm2": internal, "tau_internal_noise": taus, "realisations": realisations,
    "backgrounds": backgrounds, "gap": {image: of_image(image, "gap") for image in ASKED},
    "ldct": of_image(tasks.PLAIN, "d_prime"),
}  # fmt: skip
run.finish(headline=headline)

# %%
large = low[(low["task"] == tasks.LARGE) & (low["observer"] == panel.NPWE)].set_index("image")["d_prime"]
ceiling = could[panel.RETRAINED]
report.text(
    f"**What we saw.** {len(believed)} of {len(PANEL)} observers pass"
    + (f"; {' and '.join(failed)} {'fails' if len(failed) == 1 else 'fail'}. " if failed else ". ")
    + ("No denoiser is shown to help the retrained CHO, so it cannot say that one saves dose. "
       if ceiling == "none is shown" else f"The largest gain of the retrained CHO is {ceiling}. ")
    + f"By the others, {len(saves)} of {len(asked)} comparisons save dose and {len(costs)} cost dose. Contrast that "
    f"fades with its noise is seen by {' and '.join(sighted) or 'no observer that passes'} alone; for the NPWE a "
    f"3-pixel blur takes the large faint lesion from d′ {large[tasks.PLAIN]:.2f} to {large[tasks.BLUR]:.2f}. "
    "One limit: the observers are formulas, the lesions discs, and one of seven tasks has anatomy. `04b_dose` asks the "
    "ceiling in more patients."
)  # fmt: skip
