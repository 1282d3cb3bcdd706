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
# # 04e · Does denoising help to detect a lesion and harm to see its shape?
# **Question.** Noise hides a lesion, and smoothing hides its outline. Is a lesion detected better after denoising,
# while a spiculated lesion is told worse from a round one?
#
# **Reads** finished `03_train` runs, if any are named. **Writes** `measured.parquet` (d′ of both tasks by patient,
# denoiser, strength, contrast and observer) and `ratios.parquet`. **Cost** on one core: four
# seconds a patient, and one and a half more for every network and patient.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/04e_detect_or_characterise/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = []  # run folders or globs of 03_train, relative to outputs/; none takes the filter alone
patients: int = 6  # simulated abdomens that no network was trained on; under 6 there are no intervals
dose: float = 0.25  # fraction of the normal dose, below 1; that of the runs
radius_mm: float = 4.0  # of the round lesion; the spiculated one has its area
d_prime: float = 1.5  # of plain reconstructions, which fixes each task's own contrast
contrasts: list = [-20.0, -30.0, -50.0, -100.0]  # HU, looked at beside it, in both tasks
strengths: list = [0.33, 0.67, 1.0]  # shares of the denoised image in the blend with its input; the last is 1
tv_hu: float = 20.0  # weight of the filter, total variation
blur_px: float = 3.0  # SD of the strong blur, a control
realisations: int = 100  # noise realisations a class and patient
crop: int = 64  # rows and columns that are reconstructed and denoised, pixels
region: int = 33  # rows and columns that the observer sees, pixels, odd
observer_channels: str = "dense_dog"  # of the observer: laguerre_gauss, dense_dog or gabor
internal: float = 1.0  # variance of the internal noise in a channel, in units of that of FBP at full dose
kernel: str = "B30"  # reconstruction kernel, that of the runs
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds patients, noise, orientations and bootstrap
batch: int = 50  # crops a network is given at once
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.models import textbook
from ldct_utils.study.runs import start

run = start("04e_detect_or_characterise", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm.auto import tqdm

from ldct_utils import report
from ldct_utils.models import classical
from ldct_utils.report.drawings import crops, styles, two_tasks
from ldct_utils.study.runs import select
from ldct_utils.task_based import characterise, said
from ldct_utils.training import designs, prediction, setup

# %%
setup.seed_everything(seed, threads)
characterise.check(dose, strengths)
at_dose = report.percent(dose)

# %% [markdown]
# ## Denoisers
# Three strengths of a denoiser are three blends of its output with its input. A strong blur is a control: it must harm
# shape. So are the plain reconstruction itself, with a ratio of 1, and the full dose, which must help both tasks. A
# median filter and unsharp masking stand beside them in the tables, to compare with. The noise-free truth does not: an
# observer without noise of its own never misses a lesion there, so that its d′ has no bound.

# %%
BLUR, TV = "strong blur", "total variation"
chosen, listed = designs.listed(select(runs))[:2] if runs else ([], pd.DataFrame(columns=["method", "seed"]))
designs.check_trained(chosen, kernel, dose)
spoken = [designs.network(method) for method in listed["method"]]

# %%
OTHERS = (textbook.MEDIAN, textbook.UNSHARP)
denoisers = {(TV, 0): classical.build("tv", weight_hu=tv_hu),
             (BLUR, 0): lambda hu: ndimage.gaussian_filter(hu, (0, blur_px, blur_px))}  # fmt: skip
denoisers |= {(name, 0): textbook.filters()[name] for name in OTHERS}
for name, number, one in zip(spoken, listed["seed"], chosen):
    denoisers[name, int(number)] = prediction.denoiser(one, batch, precision, device)
names = [TV, *dict.fromkeys(spoken)]
trainings = {name: len({s for n, s in denoisers if n == name}) for name in names}
looks = styles.styles({"tv": TV} | dict(zip(listed["method"], spoken)))
looks = {look["label"]: look for look in looks.values()}
told = report.listed(f"{name} ({report.plural(trainings[name], 'training')})" for name in names[1:])
also = " and trainings" if max(trainings.values()) > 1 else ""
bars, within = (report.bars(patients, "patient", drawn, also=also) for drawn in ("Bars", "Brackets"))
report.text(f"Beside the filter, total variation, there are these networks: {told}.")

# %% [markdown]
# ## Two tasks, one observer
# *Detection*: a round dark lesion in the liver of a simulated patient, or none. *Shape*: a spiculated lesion, turned at
# random, or a round one of the same area. A channelised Hotelling observer (CHO), which allows for the noise texture
# through a few channels, judges both. **d′** says how well it tells the two classes: 0 is guessing. *CHO, learned on
# FBP* keeps the template of plain reconstructions (FBP, filtered back-projection), as a reader who learned on these;
# its verdict decides. *CHO, retrained* learns anew on the images that it judges, which no reader can do for every
# denoiser. Both are shown with *internal noise* as well, the same for all images, as a reader has it: contrast that is
# smoothed away is then lost. CHO, retrained, without internal noise is a ceiling, since it undoes a blur.
#
# Its channels are dense differences of Gaussians, by which human readers are modelled. The answer depends on that:
# Laguerre–Gauss channels, fitted to the disc, see little of an outline, so that even a strong blur costs them little.
# Set `observer_channels` to compare.
#
# At one contrast the tasks are not equally hard, so each has its own, at which FBP at this dose reaches the same d′.

# %%
cases = characterise.cases(patients, radius_mm, realisations, crop, seed, kernel)
about = (contrasts, d_prime, dose, strengths, observer_channels, region, internal, tqdm)
measured = run.table("measured", lambda: characterise.measure_all(cases, denoisers, *about))
TASKS = list(characterise.TASKS)
own_contrast = measured[measured["solved"]].groupby("task")["contrast_hu"].first().to_dict()

# %%
one = next(characterise.cases(1, radius_mm, 1, crop, seed, kernel))  # the first patient, to be looked at
spikes, disc = (own_contrast["shape"] * image for image in (one.spikes[one.turned[0]], one.made.signals[0]))
truth, noisy = one.made.clean + spikes, one.images("spiculated", own_contrast["shape"], dose)
looked = {TV: denoisers[TV, 0]} | {name: f for (name, _), f in denoisers.items() if name == names[-1]}
images = {"the same, round": one.made.clean + disc, f"FBP, {at_dose} of the dose": noisy[0],
          **{name: f(noisy)[0] for name, f in looked.items()}}  # fmt: skip
report.figure(
    run, "lesions",
    crops.compared(truth, images, spikes[None], one.made.pixel_mm, (120, 200), spikes, of="noise-free, spiculated"),
    f"Contrasts were chosen so that d′ is {d_prime:g} in FBP: {report.number(own_contrast['detection'], 1)} HU for "
    f"detection, {report.number(own_contrast['shape'], 0)} HU for shape.",
    f"Circled: a round and a spiculated lesion of one area, radius {radius_mm:g} mm, here at the contrast for shape. "
    f"One scan at {at_dose} of the dose.",
    alt="CT crops of a liver with a circled spiculated lesion, a round one, the noisy and the denoised images; below "
    "the differences.",
)  # fmt: skip

# %% [markdown]
# ## Controls first
# d′ after denoising is set over d′ without it: above 1 the task has become easier, below 1 harder. Only if all controls
# come out as they must is a denoiser judged.

# %%
ratios = run.table("ratios", lambda: characterise.ratios(measured, draws, seed))
table = run.table("both_tasks", lambda: characterise.both_tasks(ratios, names))
controls = characterise.controls(table, BLUR)
reasons = characterise.reasons_against(controls, patients)
full = table[table["name"] == characterise.FULL][TASKS].min(axis=None)
report.text(f"{said.held(controls)} The full dose multiplies both d′ by {full:.1f} or more.")

# %% [markdown]
# ## What denoising does to both tasks
# CHO, learned on FBP, decides.

# %%
judged = {
    observer: table[(table["observer"] == observer) & (table["share"] == 1)].set_index("name")["said"][names].to_dict()
    for observer in characterise.OBSERVERS
}
whole = table[table["share"] == 1].set_index(["name", "observer"])
answer = said.answer(judged, reasons, whole)


def ratio(name, observer, task):
    """A ratio of d' with its interval, as text."""
    return report.interval(*whole.loc[(name, observer), [task, f"{task}_low", f"{task}_high"]])


# %%
last, decides, noisy_one = names[-1], characterise.DECIDES, characterise.NOISY
detail = (
    f"Denoising ({last}) multiplies d′ of detection by {ratio(last, decides, 'detection')} and d′ of shape by "
    f"{ratio(last, decides, 'shape')}"
)
with_noise = f"{ratio(last, noisy_one, 'detection')} and {ratio(last, noisy_one, 'shape')}"
report.text(f"{detail}; with internal noise by {with_noise}. {said.given_by(judged, reasons)}")

# %%
asked = table[(table["share"] == 1) | table["name"].isin(names)]
strong = asked[asked["observer"] == decides].sort_values("detection", ascending=False)
report.table(
    run, "both_tasks", strong.assign(share=100 * strong["share"]), f"{detail}.",
    f"The observer is {said.READERS[decides]}. Strength: share of the denoised image in its blend with the input"
    f"{said.at_part(strong)}. In the noise-free truth d′ of detection has no bound: it is left out. {within}",
    heads={"name": "image", "share": "strength, %"} | characterise.HEADS,
)  # fmt: skip

# %%
every = table[(table["share"] == 1) & table["name"].isin([*names, BLUR, *OTHERS])].sort_values(["name", "observer"])
report.table(
    run, "observers", every.assign(observer=every["observer"].map(said.READERS)), said.given_by(judged, reasons),
    f"Whole outputs. CHO, retrained, without internal noise is a ceiling, which a blur need not harm. {within}",
    heads={"name": "image", "observer": "observer"} | characterise.HEADS,
)  # fmt: skip

# %%
report.figure(
    run, "plane", two_tasks.plane(table, {o: said.READERS[o] for o in (decides, noisy_one)}, looks, BLUR),
    answer if reasons else said.beside_noise(judged, last),
    f"A line runs from no denoising (1, 1) over the strengths to the whole output. {bars}",
    alt="Two scatter plots, factor of d′ of detection against that of shape, a line a denoiser from no denoising at 1.",
)  # fmt: skip

# %% [markdown]
# ## Does it depend on the contrast?
# Strong lesions are detected in any image, so only shape is a question there.

# %%
at_full = ratios[(ratios["share"] == 1) & (ratios["observer"] == decides)]
of_last = at_full[(at_full["name"] == last) & (at_full["task"] == "shape")].sort_values("contrast_hu")
report.figure(
    run, "contrasts", two_tasks.contrasts(at_full, TASKS, looks, own_contrast),
    said.over_contrasts(of_last, last),
    f"Whole outputs; {said.READERS[decides]}. On the line at 1 nothing changes. {bars}",
    alt="Two line plots of the factor of d′ against the lesion's contrast, detection and shape, a line a denoiser.",
)  # fmt: skip

# %% [markdown]
# ## Checks: nothing is missing, and every contrast was solved

# %%
assert np.isfinite(measured["d_prime"]).all(), "a d' is missing"
solved = measured[(measured["name"] == characterise.FBP) & measured["solved"] & (measured["observer"] == decides)]
assert np.allclose(solved.groupby("task")["d_prime"].mean(), d_prime, atol=0.01), "a contrast was not solved"
assert controls["no denoising leaves both tasks as they are"]

# %%
headline = {
    "answer": answer, "decided": not reasons, "reasons": reasons, "verdicts": judged, "patients": patients,
    "contrast_hu": own_contrast, "dose": dose, "trainings": trainings, "controls": controls,
    "ratios": characterise.kept_ratios(whole, [*names, BLUR, *OTHERS, characterise.FULL]),
}  # fmt: skip
run.finish(headline=headline)

# %%
report.text(
    f"**What we saw.** {answer} {said.held(controls)} One limit is that lesions lie at known places in simulated "
    "livers and the observer is linear. `04b_dose` asks how much dose a network saves, `14_tradeoff` what a loss keeps "
    "of a lesion's contrast."
)
