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
# # 04d · Which observers can tell a good denoiser from a bad one?
# **Question.** A model observer stands for a reader. Which observers notice that an image got worse, and which praise
# whatever looks smooth? How much dose does a denoiser save for those that may be believed?
#
# **Reads** nothing, or checkpoints of finished `03_train` runs. **Writes** `judged.parquet` (d' of every observer, task
# and image), `verdicts.parquet` (rules and observers), `doses.parquet` (doses saved).
# **Cost** of the defaults: 2 minutes on one core, and 15 s a network.
#
# Words: LDCT is the low-dose image, reconstructed by plain filtered back-projection (FBP). d′ says how well an observer
# tells "lesion" from "no lesion"; 0 is guessing. AUC is the share of pairs that an observer puts in the right order;
# 0.5 is guessing. A network is one of `03_train`.

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
from ldct_utils.models import textbook
from ldct_utils.study.runs import select, start

run = start("04d_observers", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import report
from ldct_utils.report import sentences
from ldct_utils.report.drawings import crops
from ldct_utils.report.drawings import observers as drawn
from ldct_utils.task_based import npwe, panel, said, tasks, trial
from ldct_utils.training import designs, prediction, setup

# %%
setup.seed_everything(seed, threads)
trial.check(doses, low_dose, realisations, backgrounds)
low_percent = report.percent(low_dose)

# %% [markdown]
# ## Whom we ask
# - **CHO, retrained**: the channelised Hotelling observer learns its template anew on each denoiser's images, and knows
#   lesion, place and noise. It is nearly a *ceiling*: it uses most of what the image holds (less of a shape), so that
#   processing can hardly help it, and it cannot say that one does.
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
# Seven tasks. In the first six everything but the noise is known, in a uniform cylinder of 60 HU and 300 mm. In the
# last each image is the liver of another simulated patient, used once: there the interval is one over patients.
#
# Eight images of each: LDCT; blurred (Gaussian, SD 3 pixels); median filtered; total variation; unsharp masked; two
# erasers; and the noise-free truth. One eraser takes 80 % of the lesion away (of the elongated one, of what makes it
# so) and leaves the noise. The other takes 80 % of lesion and noise alike: in the cylinder only the contrast goes.

# %%
chosen, listed, _ = designs.listed(select(runs)) if runs else ([], None, [])
designs.check_trained(chosen, kernel)


def as_control(denoise):
    return lambda images, background, added: denoise(images)


names = designs.trainings(listed) if runs else []
networks = {name: as_control(prediction.denoiser(one, batch, precision, device)) for name, one in zip(names, chosen)}
IMAGES = tasks.controls() | networks


# %%
def scenes():
    """The four pairs of classes, one after the other: of the first, four tasks in one image."""
    yield tasks.known_places(realisations, [seed, 0], kernel)
    for number, name in enumerate((tasks.SEARCH, tasks.FINE_SEARCH), 1):
        yield tasks.searched(name, realisations, [seed, number], kernel)
    yield tasks.in_patients(backgrounds, [seed, 3], kernel, progress=partial(tqdm, desc="patients"))


# %%
first = tasks.known_places(1, [seed, 0], kernel)  # one scan, to be looked at
noisy = first.images(low_dose)
outputs = run.array(
    "example", lambda: np.stack([first.added, *(first.after(one, noisy)[1][0] for one in IMAGES.values())])
)
images = dict(zip(IMAGES, outputs[1:]))
truth, signals = images.pop(tasks.TRUTH), [target.signal for target in first.targets]
errors = {name: float(np.sqrt(np.mean((image - truth) ** 2))) for name, image in images.items()}
blinded = {name: errors[name] for name in errors if name not in (tasks.PLAIN, tasks.ERASER, tasks.FADE)}
least = min(blinded, key=blinded.get)
radii = report.listed(f"{tasks.LESIONS[name].radius_mm:g}" for name in (tasks.CEILING, tasks.FINE, tasks.LARGE))
behind = np.median(truth)  # HU of the cylinder

# %%
report.figure(
    run, "images", crops.compared(truth, images, signals, first.pixel_mm, (60, 150), truth - behind),
    f"Of the denoisers that do not know the truth, “{least}” leaves the least error, {blinded[least]:.1f} HU (LDCT: "
    f"{errors[tasks.PLAIN]:.1f} HU).",
    f"Circled, from top left: discs with a radius of {radii} mm, and an elongated lesion that must be told from a "
    f"disc. One scan at {low_percent} of the dose, of a uniform cylinder of {behind:.0f} HU. The erasers take "
    f"{report.percent(tasks.ERASED)} away: of the lesion alone, or of lesion and noise.",
    alt="CT crops of a uniform cylinder with four circled lesions after each denoiser; below each its difference from "
    "the truth.",
)  # fmt: skip

# %% [markdown]
# ## Every observer before every image
# Templates are made on one half of the repeated scans and tested on the other. Intervals are jackknife intervals over
# scans, or over patients where each is used once. Differences between two images are taken with the same noise.


# %%
def swept(times):
    """The NPWE with another amount of internal noise."""
    return lambda s: npwe.npwe(s.absent, s.present, s.difference, s.pixel_mm, times * s.internal)


SWEEP = {f"NPWE, internal noise × {times:g}": swept(times) for times in internal_sweep}


# %%
def judge():
    """Rows of ``panel.judge`` for all scenes; the internal noise is fixed on the first."""
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
# knows everything, prefers the blur where detail counts, or does not notice the eraser that leaves the noise. Faults
# are tested at 5 % over all comparisons of a rule; dose and eraser must be shown in each one.

# %%
verdicts = run.table("verdicts", lambda: trial.verdicts(judged))
believed = [name for name in trial.believed(verdicts) if name in PANEL]
failed = [name for name in PANEL if name not in believed]
faults = verdicts[verdicts["fails"].eq(True)]

# %%
kept = verdicts.assign(said=[{True: "no", False: "yes"}.get(one, "not asked") for one in verdicts["fails"]])
kept = kept.pivot(index="observer", columns="rule", values="said").loc[[*PANEL, *SWEEP], verdicts["rule"].unique()]
why = report.listed([f"{one.observer} {one.rule}" for one in faults.itertuples()], none="No observer broke a rule")
report.table(
    run, "verdicts", kept.reset_index(),
    f"The rules are kept by {report.some(len(believed), len(PANEL), 'observer')}.",
    f"{sentences.capital(why)}. The rows with other internal noise are variants of {panel.NPWE} and are not counted. "
    f"{realisations} repeated scans a class, {backgrounds} patients.",
    heads={"observer": "observer"} | {rule: said.KEEPS[rule] for rule in kept},
)  # fmt: skip

# %% [markdown]
# ## What each observer says of each image
# The number is d′, the colour is d′ over that of the LDCT: blue is better than the LDCT, red is worse. On the large
# faint lesion a blur may win, which is no fault of an observer; a reader with more internal noise may lose by it.
# An eraser counts as noticed by an observer whose d′ falls by 5 % or more, in the cylinder in any task.

# %%
blind = trial.blind(low, PANEL)
report.figure(
    run, "d_prime", drawn.d_prime(low, TASKS, PANEL, list(IMAGES)),
    said.fading(low, believed),
    f"Numbers: d′ at {low_percent} of the dose; blue is better than LDCT, red is worse. ∞: no noise, so the observer "
    "is never wrong. In the tasks “search” the observer does not know the place.",
    alt="A table of colours a task, a row an observer, a column an image, with d′ in it; blue better, red worse than "
    "LDCT.",
)  # fmt: skip

# %% [markdown]
# ## Could any denoiser have helped each observer?
# If no processing can help an observer in a task, its “no dose is saved” carries no information there: every denoiser
# gets it. The largest gain that any filter or network brings an observer shows whether it can be helped.

# %%
REAL = [*names, *textbook.FILTERS]  # denoisers that do not know the truth
gained = run.table("could", lambda: trial.largest_gains(low, REAL, PANEL))
helped = trial.helped_by_image(low, REAL)
could = dict(zip(gained["observer"], gained["text"]))
top = gained.set_index("observer")["image"].fillna("no denoiser")[panel.RETRAINED]
able = [o for o in believed if could[o] != "none is shown"]
report.table(
    run, "could", gained.assign(passes=gained["observer"].isin(believed)).sort_values("share", ascending=False),
    f"A gain in d′ is shown in some task for {report.some(len(able), len(believed), 'observer')} that kept the rules.",
    "Each gain is the largest of many, not corrected for that. It shows what an observer can say, not who helps.",
    heads={"observer": "observer", "text": "largest gain in d′ (image, task)", "tasks": "tasks with a gain",
           "passes": "kept the rules"},
)  # fmt: skip

# %% [markdown]
# ## How much dose does an image save?
# The dose at which FBP is as good for the same observer and task. Only observers that passed are asked, and only where
# more dose is shown to help them. Beyond the doses looked at, the end of their range stands. Saved dose counts only in
# tasks in which an image was shown to raise the observer's d′, and never of “CHO, retrained”; lost dose counts in all.
# Filters are controls. The LDCT is worth its own dose; the noise-free truth, which no dose reaches, is left out.

# %%
rising = trial.helped_by_dose(real, doses[-1])
bought = run.table("doses", lambda: trial.equal_doses(low[low["observer"].isin(believed)], rising, helped))
looked = bought[bought["image"].isin(REAL)].sort_values("worth", ascending=False)
met = looked[looked["image"].isin(names or REAL) & (looked["observer"] != panel.RETRAINED)]
asked = met[met["could_gain"]]
saves, costs = asked[trial.saved_and_lost(asked, low_dose)[0]], met[trial.saved_and_lost(met, low_dose)[1]]

# %%
saved = said.dose_saved(asked, met, low_dose)
report.table(
    run, "doses", looked.assign(said=trial.saved_in_words(looked, doses)), saved,
    f"{said.savers(asked, low_dose)} Counted: 95 % jackknife intervals of {'networks' if names else 'filters'}, not "
    f"corrected for their number, that lie more than {100 * trial.SAVING:g} points off {low_percent}. "
    f"{said.unheard(looked, asked, panel.RETRAINED)}", {"image": "image", "task": "task", "observer": "observer",
    "d_prime": "d′", "said": f"FBP as good as the image of {low_percent}"},
)  # fmt: skip

# %%
report.figure(
    run, "doses_saved", drawn.doses(looked, TASKS, REAL, believed, panel.RETRAINED, low_dose, doses), saved,
    "Right of the dotted line dose is saved; bars are 95 % jackknife intervals, cut off at the doses looked at. Grey: "
    f"“{panel.RETRAINED}”, a ceiling, for which nothing can be saved. {said.undrawn(real, rising, believed)}",
    alt="Dot plots of the dose of an equally good FBP, a panel a task, a group of lines an image, a colour a reader.",
)  # fmt: skip

# %% [markdown]
# ## Does the amount of internal noise decide?
# Over two octaves the order of the images should hold. Kendall's tau between the orders is 1 if it does.

# %%
taus = trial.order_kept(low, panel.NPWE, SWEEP)
told = report.listed(f"{tau:.2f} with {name.removeprefix('NPWE, ')}" for name, tau in taus.items())
report.text(f"The orders in which the NPWE ranks the images agree by a mean tau over tasks of {told}.")

# %% [markdown]
# ## Checks: every observer gave an AUC, and the one that rewards any smoothing is caught

# %%
assert np.isfinite(judged["auc"]).all(), "an observer gave no AUC"
assert panel.CNR in failed or realisations < 400, "contrast over noise, which rewards any smoothing, was not caught"
headline = {
    "believed": believed, "failed": {name: list(faults[faults["observer"] == name]["rule"]) for name in failed},
    "blind_to_fading": blind, "could_gain": could, "saves": len(saves), "costs": len(costs), "asked": len(asked),
    "readers": trial.by_observer(asked, low_dose, met),
    "internal_noise_hu2_mm2": float(judged["internal"].iloc[0]), "tau_internal_noise": taus,
    "realisations": realisations, "backgrounds": backgrounds,
    "gap": {image: trial.of_image(low, image, "gap", PANEL) for image in [*REAL, tasks.ERASER, tasks.FADE]},
    "ldct": trial.of_image(low, tasks.PLAIN, "d_prime", PANEL),
}  # fmt: skip
run.finish(headline=headline)

# %%
report.text(
    f"**What we saw.** The rules are kept by {report.some(len(believed), len(PANEL), 'observer')}; broken by "
    f"{report.listed(failed, none='no one')}. {saved} As a control, “{panel.RETRAINED}”, nearly a ceiling, "
    f"was shown to gain from {top}. One limit is that the observers are formulas, most lesions discs, and one of "
    "seven tasks has anatomy. `04b_dose` asks a retrained CHO about networks, by lesion and dose."
)
