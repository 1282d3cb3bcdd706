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
# **Reads** finished `03_train` runs, if any are named. **Writes** `measured.parquet` (d' of both tasks by patient,
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
from ldct_utils.study.runs import start

run = start("04e_detect_or_characterise", globals())

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm.auto import tqdm

from ldct_utils import report
from ldct_utils.models import classical
from ldct_utils.report import plots
from ldct_utils.stats import intervals
from ldct_utils.study.runs import select
from ldct_utils.task_based import characterise, observers
from ldct_utils.training import designs, prediction, setup

setup.seed_everything(seed, threads)
if not 0 < dose < 1 or strengths[-1:] != [1.0] or not all(0 < share <= 1 for share in strengths):
    raise ValueError(f"dose lies between 0 and 1 and strengths in (0, 1] with 1 last, got {dose} and {strengths}")
people = report.plural(patients, "patient")

# %% [markdown]
# ## Denoisers
# Three strengths of a denoiser are three blends of its output with its input. A strong blur is a control: it must harm
# shape. So are the plain reconstruction itself, with a ratio of 1, and the full dose, which must help both tasks.

# %%
BLUR, TV = "strong blur", "total variation"
chosen, listed = designs.listed(select(runs))[:2] if runs else ([], pd.DataFrame(columns=["method", "seed"]))
if kernels := {one.params.get("kernel", kernel) for one in chosen} - {kernel}:
    raise ValueError(f"the runs were trained on kernel {', '.join(sorted(kernels))}: set kernel, or choose other runs")
if doses := {one.params.get("dose", dose) for one in chosen} - {dose}:
    raise ValueError(f"the runs were trained at dose {', '.join(map(str, sorted(doses)))}: set dose to theirs")
WORDS = {"mse": "MSE", "l1": "L1", "charbonnier": "Charbonnier", "vgg": "MSE + VGG", "vgg_only": "VGG alone"}
heads = [method.split(" · ") for method in listed["method"]]
spoken = [f"{WORDS.get(loss, loss)} network" + f" ({', '.join(rest)})" * bool(rest) for loss, *rest in heads]
denoisers = {(TV, 0): classical.build("tv", weight_hu=tv_hu),
             (BLUR, 0): lambda hu: ndimage.gaussian_filter(hu, (0, blur_px, blur_px))}  # fmt: skip
for name, number, one in zip(spoken, listed["seed"], chosen):
    denoisers[name, int(number)] = prediction.denoiser(one, batch, precision, device)
names = [TV, *dict.fromkeys(spoken)]
trainings = {name: len({s for n, s in denoisers if n == name}) for name in names}
report.text(
    "Denoisers: " + "; ".join(name + f", {report.plural(trainings[name], 'training')}" * (name != TV) for name in names)
    + f". Strengths: {', '.join(f'{share:.0%}' for share in strengths)} of the output in the blend.".replace("%", " %")
)  # fmt: skip

# %% [markdown]
# ## Two tasks, one observer
# *Detection*: a round dark lesion in the liver of a simulated patient, or none. *Shape*: a spiculated lesion, turned at
# random, or a round one of the same area. A channelised Hotelling observer (CHO), which allows for the noise texture
# through a few channels, judges both. **d'** says how well it tells the two classes: 0 is guessing. Its template is
# *kept* from plain reconstructions (FBP, filtered back-projection), as for a reader who learned on these, or
# *retrained* on the images that it judges, which no reader can be for every denoiser. The kept one decides. Both are
# shown with *internal noise* as well, the same for all images, as a reader has it: contrast that is smoothed away is
# then lost. Retrained and without internal noise the observer is a ceiling, since it undoes a blur.
#
# Its channels are dense differences of Gaussians, by which human readers are modelled. The answer depends on that:
# Laguerre–Gauss channels, fitted to the disc, see little of an outline, so that even a strong blur costs them little.
# Set `observer_channels` to compare.
#
# At one contrast the tasks are not equally hard, so each has its own, at which FBP at this dose reaches the same d'.

# %%
TASKS = list(characterise.TASKS)


def measure():
    """One row a patient, denoiser, seed, strength, task, contrast and observer."""
    count = tqdm(characterise.cases(patients, radius_mm, realisations, crop, seed, kernel), total=patients)
    cases, rows = list(count), []
    channels = [observers.channels(observer_channels, region, case.radius_px) for case in cases]
    levels = {}
    for task in TASKS:
        pairs = [characterise.plain(case, task, dose, own) for case, own in zip(cases, channels)]
        levels[task] = [characterise.contrast_for(pairs, d_prime), *contrasts]
    for number, (case, own) in enumerate(zip(tqdm(cases, unit="patient"), channels)):
        for found in characterise.measure(case, denoisers, levels, dose, strengths, own, internal):
            name = found.pop("name")
            name, training = name if isinstance(name, tuple) else (name, 0)
            solved = found["contrast_hu"] == levels[found["task"]][0]
            rows.append({"patient": number, "name": name, "seed": training, "solved": solved} | found)
    return pd.DataFrame(rows)


measured = run.table("measured", measure)
own_contrast = measured[measured["solved"]].groupby("task")["contrast_hu"].first()

# %%
one = next(characterise.cases(1, radius_mm, 1, crop, seed, kernel))
signals = {"round": one.made.signals[0], "spiculated": one.spikes[one.turned[0]]}
figure, axes = plt.subplots(1, 4, figsize=(10.5, 2.9))
for axis, (kind, image) in zip(axes, signals.items()):
    plots.show(axis, own_contrast["shape"] * image, 0, 60, f"{kind}, alone")
plots.show(axes[2], one.images("spiculated", own_contrast["shape"], dose)[0], 120, 200, f"FBP, {dose:.0%} of the dose")
plots.show(axes[3], denoisers[TV, 0](one.images("spiculated", own_contrast["shape"], dose))[0], 120, 200, TV)
report.figure(
    run, "lesions", figure,
    f"A round and a spiculated lesion of the same area, {radius_mm:g} mm in radius, {own_contrast['shape']:.0f} HU: "
    f"the contrast at which their shapes are told apart with d' {d_prime:g}. For detection "
    f"{own_contrast['detection']:.1f} HU is enough.",
)  # fmt: skip

# %% [markdown]
# ## What denoising does to both tasks
# d' after denoising over d' without it. Above 1 the task has become easier, below 1 harder.


# %%
def ratio_rows():
    """One row a denoiser, strength, task, contrast and observer: the ratio of d' to FBP's, with its interval."""
    keys, out = ["task", "contrast_hu", "observer"], []
    wide = measured.pivot_table(
        index=["name", "share", *keys], columns=["patient", "seed"], values="d_prime", sort=False
    )
    for (name, share, *key), row in wide.iterrows():
        values = row.dropna().unstack("seed").to_numpy()
        plain = wide.loc[(characterise.FBP, 1.0, *key)].dropna().to_numpy()
        span = intervals.patient_bootstrap(characterise.ratio_to(values, plain), draws=draws, seed=seed)
        head = {"name": name, "share": share} | dict(zip(keys, key)) | {"d_prime": values.mean()}
        out.append(head | {"ratio": span.mean, "low": span.low, "high": span.high, "seeds": span.seeds})
    table = pd.DataFrame(out)
    return table.assign(solved=table["contrast_hu"] == table["task"].map(own_contrast))


ratios = run.table("ratios", ratio_rows)
at_own = ratios[ratios["solved"]].set_index(["name", "share", "observer", "task"])


def span_of(name, share, observer, task):
    row = at_own.loc[(name, share, observer, task)]
    return intervals.Interval(row.ratio, row.low, row.high, patients, row.seeds)


def cell(span):
    return f"{span.mean:.2f} " + report.bracket(span.low, span.high, ".2f")


# %% [markdown]
# Controls first. Only if all come out as they must is a denoiser judged.

# %%
DECIDES, *OTHERS = characterise.OBSERVERS
EVERY = [(observer, task) for observer in characterise.OBSERVERS for task in TASKS]
full = [span_of(characterise.FULL, 1.0, *one) for one in EVERY]
blurred = [span_of(BLUR, 1.0, one, "shape") for one in characterise.OBSERVERS if one != characterise.CEILING]
controls = {
    "no denoising leaves both tasks as they are": all(span_of(characterise.FBP, 1.0, *one).mean == 1 for one in EVERY),
    "the full dose helps both tasks": all(span.low > 1 for span in full),
    "a strong blur harms shape": all(span.high < 1 for span in blurred),
}
failed = [f"the control “{words}” failed" for words, held in controls.items() if not held]
reasons = ["fewer than 6 patients give no interval"] if patients < intervals.MIN_PATIENTS else failed


def percent(share):
    return f"{share:.0%}".replace("%", " %")


def table_row(name, share, observer):
    """Ratios of one image for one observer, and what they say of the claim."""
    spans = [span_of(name, share, observer, task) for task in TASKS]
    said = characterise.verdict(*spans) if name in names else "control"
    return dict(zip(TASKS, map(cell, spans))) | {"helps detection, harms shape": said}


# %%
shown = [(name, share) for name in names for share in strengths] + [(BLUR, 1.0), (characterise.FULL, 1.0)]
what = f"d' relative to FBP at {percent(dose)} of the dose, with 95 % intervals over {people} and trainings. "
report.table(
    run, "both_tasks",
    pd.DataFrame([{"image": n, "strength": percent(s)} | table_row(n, s, DECIDES) for n, s in shown]),
    what + f"Template kept from FBP. Contrasts: {own_contrast['detection']:.1f} HU for detection, "
    f"{own_contrast['shape']:.1f} HU for shape.",
)  # fmt: skip
report.table(
    run, "observers",
    pd.DataFrame([{"image": name, "observer": observer} | table_row(name, 1.0, observer)
                  for name in (*names, BLUR) for observer in characterise.OBSERVERS]),
    what + "Whole outputs, by observer. The retrained one without internal noise need not be harmed by a blur.",
)  # fmt: skip

# %%
judged = {
    observer: {name: characterise.verdict(*(span_of(name, 1.0, observer, task) for task in TASKS)) for name in names}
    for observer in characterise.OBSERVERS
}
steady = all(judged[observer] == judged[DECIDES] for observer in characterise.OBSERVERS)
noisy = {task: span_of(names[-1], 1.0, OTHERS[1], task) for task in TASKS}
SAID = {
    characterise.CONFIRMED: "Denoising makes a lesion easier to detect and its shape harder to see",
    characterise.HARM_ALONE: "Denoising makes the shape harder to see, and was not shown to help detection",
    characterise.HELP_ALONE: "Denoising makes a lesion easier to detect, and was not shown to harm shape",
    characterise.OPEN: "Neither help for detection nor harm to shape was shown",
    characterise.REFUTED: "That denoising helps to detect a lesion and harms to see its shape is refuted",
}
groups = {word: [name for name in names if judged[DECIDES][name] == word] for word in SAID}
if reasons:
    answer = (
        f"Not decided: whether denoising helps to detect a lesion and harms to see its shape, because {reasons[0]}."
    )
else:
    answer = " ".join(f"{SAID[word]} ({', '.join(group)})." for word, group in groups.items() if group)
report.text(f"**{answer}**")


# %%
def times(spans):
    """Both ratios as a sentence goes on."""
    return " and ".join(f"{task} by {cell(s)}" for task, s in spans.items())


last = names[-1]
last_words = f"The {last}" if chosen else last.capitalize()
detail = f"{last_words} multiplies d' of {times({task: span_of(last, 1.0, DECIDES, task) for task in TASKS})}; for an "
detail += f"observer with internal noise {times(noisy)}."
if not reasons:
    report.text(detail + (" All four observers agree." if steady else " The four observers do not all agree."))
STYLE = dict(zip([*names, BLUR], zip([*plots.COLOURS[: len(names)], "#999999"], "osD^vPXh*<>pd")))
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.3), sharex=True, sharey=True)
for axis, observer in zip(axes, (DECIDES, OTHERS[1])):
    for name, (colour, marker) in STYLE.items():
        drawn = [[span_of(name, s, observer, task) for task in TASKS] for s in (strengths if name in names else [1.0])]
        places = np.array([[1, 1], *[[a.mean, b.mean] for a, b in drawn]])
        axis.plot(*places.T, color=colour, marker=marker, ms=5, lw=1, label=name)
        ends = [[[one.mean - one.low], [one.high - one.mean]] for one in drawn[-1]]
        axis.errorbar(*places[-1], ends[1], ends[0], color=colour, lw=1)
    axis.axhline(1, color="black", lw=0.6)
    axis.axvline(1, color="black", lw=0.6)
    axis.set(title=f"template {observer}", xlabel="detection: d' over that of FBP →")
    axis.text(0.98, 0.03, "helps detection, harms shape", transform=axis.transAxes, ha="right", fontsize=8)
axes[0].set_ylabel("shape: d' over that of FBP →")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
report.figure(
    run, "plane", figure,
    f"**{answer}** A line runs from no denoising (1, 1) over the strengths to the whole output; grey is a control. "
    f"Bars: 95 % over {people}" + (" and trainings. " if chosen else ". ")
    + f"The full dose, not drawn, multiplies both by {min(one.mean for one in full):.1f} or more.",
)  # fmt: skip

# %% [markdown]
# ## Does it depend on the contrast?
# Strong lesions are detected in any image, so only shape is a question there.

# %%
at_full = ratios[(ratios["share"] == 1) & (ratios["observer"] == DECIDES)]
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
for axis, task in zip(axes, TASKS):
    for name in names:
        part = at_full[(at_full["name"] == name) & (at_full["task"] == task)].sort_values("contrast_hu")
        colour, marker = STYLE[name]
        axis.errorbar(-part["contrast_hu"], part["ratio"], [part["ratio"] - part["low"], part["high"] - part["ratio"]],
                      color=colour, marker=marker, ms=4, lw=1.2, label=name)  # fmt: skip
    axis.axhline(1, color="black", lw=0.6)
    axis.set(title=task, xlabel="contrast below the liver, HU", xscale="log")
    own = [-round(own_contrast[task])] if all(abs(c / own_contrast[task] - 1) > 0.2 for c in contrasts) else []
    plots.ticks_at(axis, sorted({*own, *(-c for c in contrasts)}))
axes[0].set_ylabel("d' over that of FBP")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
of_last = at_full[at_full["name"] == last].sort_values("contrast_hu").groupby("task")["ratio"]
report.figure(
    run, "contrasts", figure,
    f"{last_words} multiplies d' of shape by {of_last.first()['shape']:.2f} at the strongest contrast and by "
    f"{of_last.last()['shape']:.2f} at the faintest. Whole outputs, template kept; at a task's own contrast d' of FBP "
    f"is {d_prime:g}.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(measured["d_prime"]).all(), "a d' is missing"
solved = measured[(measured["name"] == characterise.FBP) & measured["solved"] & (measured["observer"] == DECIDES)]
assert np.allclose(solved.groupby("task")["d_prime"].mean(), d_prime, atol=0.01), "a contrast was not solved"
assert controls["no denoising leaves both tasks as they are"]
of_every = {
    name: {f"{task}, {observer}": [None if np.isnan(v) else float(v) for v in (span.mean, span.low, span.high)]
           for observer, task in EVERY for span in [span_of(name, 1.0, observer, task)]}
    for name in (*STYLE, characterise.FULL)
}  # fmt: skip
headline = {
    "answer": answer, "decided": not reasons, "reasons": reasons, "verdicts": judged, "patients": patients,
    "contrast_hu": {task: float(hu) for task, hu in own_contrast.items()}, "dose": dose, "trainings": trainings,
    "controls": controls, "ratios": of_every,
}  # fmt: skip
run.finish(headline=headline)

# %%
report.text(
    f"**What we saw.** {answer} {detail} {sum(controls.values())} of {report.plural(len(controls), 'control')} came "
    "out as they must. One limit: the lesions lie at known places in simulated livers, and the observer is linear. "
    "`04b_dose` asks how much dose a network saves, `14_tradeoff` what a loss keeps of a lesion's contrast."
)
