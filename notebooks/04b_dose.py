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
# # 04b · How much dose does a denoiser buy?
# **Question.** At which dose is a denoised image worth the FBP at full dose: for detecting a lesion, and for the
# metrics that rank denoisers? Does the output hold fine structure that the truth does not?
#
# **Reads** checkpoints of finished `03_train` runs. **Writes** `measured.parquet` (d', AUC and metrics by patient,
# method and dose), `doses.parquet` (equivalent doses), `spectra.parquet` (coherence with the truth), `inserts.parquet`
# (transfer functions).
# **Cost** of the defaults: about one minute, and 45 s a U-Net of 16 channels, on one core.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/04b_dose/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
# detection
patients: int = 6  # simulated abdomens that no network was trained on; under 6 there are no intervals
lesions: list = [[1.0, -25.0], [2.0, -9.0], [4.0, -3.0]]  # radius in mm and contrast in HU of each
doses: list = [0.1, 0.25, 0.5, 1.0]  # fractions of the normal dose, rising, in (0, 1]
realisations: int = 200  # noise realisations a class, patient and dose
crop: int = 96  # rows and columns that are reconstructed and denoised around the lesions, pixels
region: int = 33  # rows and columns that an observer sees around a lesion, pixels, odd
observer_channels: str = "laguerre_gauss"  # of the Hotelling observer: laguerre_gauss, dense_dog or gabor
metrics: list = ["rmse_hu", "ssim", "mean_srmse", "max_srmse"]  # image metrics over dose; values that are positive
scored: int = 20  # realisations of the present class that the metrics score
kernel: str = "B30"  # reconstruction kernel, that of the runs
# fabricated resolution and transfer functions
low_dose: float = 0.25  # dose at which both are looked at, the networks' own
structured: int = 160  # rows and columns of anatomy for the coherence, pixels
repeats: int = 24  # noise realisations for the coherence
fine: float = 0.4  # lp/mm above which structure is called fine
contrasts: list = [30.0, 100.0, 300.0]  # HU of the inserts whose transfer functions are taken
# how
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds patients, noise and bootstrap
batch: int = 16  # crops a network is given at once
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("04b_dose", globals())

# %%
import textwrap
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import report
from ldct_utils.ct import intensity
from ldct_utils.metrics import compute, info
from ldct_utils.phantom.patient import patient
from ldct_utils.report import plots
from ldct_utils.stats import intervals
from ldct_utils.study.runs import select
from ldct_utils.task_based import ensembles, equivalence, fabrication, observers, resolution
from ldct_utils.training import designs, prediction, setup

setup.seed_everything(seed, threads)
wanted = tuple(ensembles.Lesion(*(float(v) for v in one)) for one in lesions)
if low_dose not in doses or doses != sorted(doses) or doses[-1] != 1:
    raise ValueError(f"doses must rise, end with 1 and hold low_dose ({low_dose:g}), got {doses}")
if not metrics:
    raise ValueError("metrics names at least one image metric to set beside d'")
if observer_channels not in observers.KINDS:
    raise ValueError(f"observer_channels are {', '.join(observers.KINDS)}, not {observer_channels!r}")
few = patients < intervals.MIN_PATIENTS
over_patients = partial(intervals.patient_bootstrap, draws=draws, seed=seed)  # a mean with its 95 % interval
people = report.plural(patients, "patient")

# %% [markdown]
# ## The networks
# Every network sees the very same noise. Each was trained at one dose; at any other it extrapolates.

# %%
chosen, listed, varying = designs.listed(select(runs))
kernels = {one.params.get("kernel", kernel) for one in chosen}
if kernels != {kernel}:
    raise ValueError(f"the runs were trained on kernel {', '.join(sorted(kernels))}: set kernel, or choose other runs")
trained_at = sorted({float(one.params.get("dose", low_dose)) for one in chosen})
their_dose = ", ".join(f"{d:g}" for d in trained_at)
names = list(dict.fromkeys(listed["method"]))
colour = {"FBP": "#000000"} | {name: plots.COLOURS[i % 6] for i, name in enumerate(names)}
mark = {"FBP": "o"} | {name: "sD^vP*X"[i // 6 % 7] for i, name in enumerate(names)}
report.table(
    run, "networks", listed,
    f"Networks: {len(chosen)}, methods: {len(names)}, trained at dose {their_dose}; settings that differ beside the "
    f"design: {', '.join(varying) or 'none'}.",
)  # fmt: skip

denoisers = [prediction.denoiser(one, batch, precision, device) for one in chosen]
NETWORKS = list(zip(listed.method, listed.seed, denoisers))
METHODS = [("FBP", -1, lambda hu: hu), *NETWORKS]

# %% [markdown]
# ## Lesions at known places
# Small dark discs lie deep in the liver of simulated patients. The noise-free slice is reconstructed once; noise is
# drawn in the projections and reconstructed alone, for each class anew. LDCT = NDCT + inserted noise: the same two
# noise images, rescaled, serve all doses, so that curves over dose do not jitter, while realisations and classes are
# independent. All lesions of a patient are there or absent together; an observer looks at one of them.
#
# The contrasts are far below a textbook's, since these observers know where to look and for what: a lesion that one
# sees is one that they never miss, at any of these doses.


# %%
def livers(count, each):
    """(number, noise realisations of a crop with lesions) of simulated patients, ``each`` realisations a class."""
    for number, (body, place, spots) in enumerate(ensembles.patients(count, wanted, crop, seed)):
        scene = body.absent_scene[0]
        yield number, ensembles.ensemble(scene, body.pixel_mm, place, wanted, spots, each, [seed, number], kernel)


def measured_in(made, classes):
    """Rows of d' and AUC by observer and lesion, and of every metric against the truth."""
    yield from ensembles.detections(made, classes, region, observer_channels)
    some = classes[1][:scored]
    truth = np.repeat(made.truth(True)[None], len(some), 0)
    marks = compute(pred=some, target=truth, names=metrics, domain=intensity.domain("hu"))
    for name, value in marks.groupby("metric")["value"].mean().items():
        yield {"observer": "", "lesion": equivalence.ALL, "quantity": name, "value": value}


def measure():
    """One row a patient, method, seed, dose, observer (or metric) and lesion."""
    rows = []
    with tqdm(total=patients * len(doses) * len(METHODS), unit="ensemble", mininterval=1) as bar:
        for number, made in livers(patients, realisations):
            for dose in doses:
                given = [made.images(present, dose) for present in (False, True)]
                for method, its_seed, denoise in METHODS:
                    head = {"patient": number, "method": method, "seed": its_seed, "dose": dose}
                    rows += [head | found for found in measured_in(made, [denoise(one) for one in given])]
                    bar.update()
    return pd.DataFrame(rows)


measured = run.table("measured", measure)


# %%
def example():
    """(4 + methods, H, W) HU: the lesions alone, the first patient's crop without noise, FBP twice, each method."""
    _, made = next(livers(1, 1))
    low, first = made.images(True, low_dose), {name: f for name, _, f in reversed(NETWORKS)}
    outputs = [first[name](low)[0] for name in names]
    return np.stack([made.signals.sum(0), made.truth(True), made.images(True, 1.0)[0], low[0], *outputs])


stored = run.array("example", example)
titles = ["lesions alone", "truth", "FBP, dose 1", f"FBP, dose {low_dose:g}", *names]
titles = ["\n".join(textwrap.wrap(title, 24)) for title in titles][:8]
figure, axes = plt.subplots(1, len(titles), figsize=(2.3 * len(titles), 2.9))
for axis, title, image in zip(axes, titles, stored):
    window = (-10, 40) if title == "lesions alone" else (100, 150)
    plots.show(axis, image, *window, f"{title}\n{plots.window_text(*window)}").title.set_fontsize(8)
report.figure(
    run, "crops", figure,
    f"The liver of one of {people} with lesions of radius and contrast "
    f"{'; '.join(lesion.text for lesion in wanted)}; one realisation.",
)  # fmt: skip

# %% [markdown]
# ## Detection against dose
# d' of the channelised Hotelling observer (CHO), which knows the noise's correlations and undoes them as far as they
# can be undone, and of the non-prewhitening observer (NPW), which looks for the lesion's shape and takes the noise as
# it comes.
#
# The CHO learns anew on each network's images and knows lesion, place and noise. We call it *the ceiling*: it shows
# what is still in the image, and processing cannot put anything in. It can say that a network costs dose, not that one
# saves dose. Observers that can say both, with noise of their own or without knowing the place, are put to the test in
# `04d_observers`, and the dose that a network saves is asked of those that pass.
# Templates are trained on one half of the realisations and tested on the other, both ways.

# %%
per_patient = equivalence.of_patients(measured)
curve = partial(equivalence.curve, per_patient, doses)  # (patients, doses) of a quantity, observer, lesion and method
means = run.table("means", lambda: equivalence.means(per_patient, draws, seed))
means = means.set_index(equivalence.WHAT).sort_index(kind="stable")


def draw(axis, quantity, observer, lesion, label):
    """One quantity against dose for every method, error bars over patients."""
    for shift, method in enumerate(["FBP", *names]):
        part = means.loc[(quantity, observer, lesion, method)]
        at = part["dose"] * 1.025 ** (shift - len(names) / 2)  # side by side, not on top of each other
        axis.errorbar(at, part["mean"], plots.reach(part), color=colour[method], marker=mark[method], ms=4, lw=1.2,
                      label=method)  # fmt: skip
    plots.ticks_at(axis, doses)
    axis.set(xlabel="dose, fraction of normal", ylabel=label)


def draw_difference(axis, lesion):
    """d' of every method minus that of the FBP, CHO filled and NPW hollow, error bars over patients."""
    for shift, (method, observer) in enumerate((m, o) for m in names for o in ("CHO", "NPW")):
        gap = curve("d'", observer, lesion, method) - curve("d'", observer, lesion, "FBP")
        spans = pd.DataFrame([vars(over_patients(one)) for one in gap.T])
        at = np.array(doses) * 1.025 ** (shift - len(names))
        line, fill = ("-", colour[method]) if observer == "CHO" else (":", "white")
        axis.errorbar(at, spans["mean"], plots.reach(spans), color=colour[method], ls=line, mfc=fill,
                      marker=mark[method], ms=4, lw=1.2)  # fmt: skip
    axis.axhline(0, color="black", lw=0.8)
    plots.ticks_at(axis, doses)
    axis.set(xlabel="dose, fraction of normal", ylabel="d' − d' of FBP")


# %%
figure, axes = plt.subplots(3, len(wanted), figsize=(3.6 * len(wanted), 8.7), squeeze=False)
for number, lesion in enumerate(wanted):
    draw(axes[0, number], "d'", "CHO", number, "d' (CHO)")
    draw(axes[1, number], "d'", "NPW", number, "d' (NPW)")
    draw_difference(axes[2, number], number)
    axes[0, number].set_title(f"radius {lesion.text}")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
cho = {m: means.loc[("d'", "CHO", equivalence.ALL, m)].set_index("dose")["mean"][low_dose] for m in colour}
auc = means.query("quantity == 'AUC' and observer == 'CHO' and method == 'FBP' and lesion >= 0")["mean"]
report.figure(
    run, "detection", figure,
    f"Detection against dose, {people}, {realisations} realisations a class"
    + ("" if few else "; error bars: 95 % over patients, each with noise of its own") + ". Bottom: "
    "the difference that denoising makes, same noise, CHO filled and NPW hollow. "
    f"AUC of the CHO for FBP runs from {auc.min():.2f} to {auc.max():.2f}. At dose {low_dose:g}, CHO, mean of the "
    f"lesions: {', '.join(f'{m} {d:.2f}' for m, d in cho.items())}.",
)  # fmt: skip

# %% [markdown]
# How much of an uncertainty is the finite number of realisations? The jackknife answers within a patient; between
# patients the size of the body, hence the noise, differs as well.

# %%
keys = ["observer", "method", "dose"]
inside = measured[measured["quantity"] == "d'"].assign(half=lambda t: (t["high"] - t["low"]) / 2)
between = per_patient.query('quantity == "d\'" and lesion >= 0').groupby([*keys, "lesion"])["value"].std()
widths = inside.groupby(keys, sort=False)["half"].mean().to_frame("±, one patient")
widths["SD between patients"] = between.groupby(keys).mean()
part = widths.loc["CHO"]["±, one patient"]
report.table(
    run, "uncertainty", widths.reset_index(),
    f"Mean half-width of the 95 % jackknife interval of d' over {realisations} realisations of one patient, and the SD "
    f"of d' between {people}, means over lesions. CHO: {part.min():.2f} to {part.max():.2f}. Methods share "
    "their noise, so their differences are surer than this.",
)  # fmt: skip

# %% [markdown]
# ## What the image metrics say
# The same crops, with their lesions, scored against the noise-free truth.

# %%
figure, axes = plt.subplots(1, len(metrics), figsize=(4.6 * len(metrics), 3.4), squeeze=False)
for axis, name in zip(axes[0], metrics):
    draw(axis, name, "", equivalence.ALL, f"{plots.axis_label(info(name))} against truth")
axes[0, 0].legend(fontsize=7)
first = means.query("quantity == @metrics[0] and dose == @low_dose").reset_index().set_index("method")["mean"]
report.figure(
    run, "image_metrics", figure,
    f"{plots.axis_label(info(metrics[0]))} at dose {low_dose:g}: "
    f"{', '.join(f'{m} {first[m]:.3g}' for m in colour)}; {people}, {min(scored, realisations)} "
    "realisations each.",
)  # fmt: skip

# %% [markdown]
# ## Equivalent doses
# Two readings of the same curves: the dose at which the *denoised* image reaches FBP at full dose (over 1: it never
# does), and the dose of the *FBP* that is worth the denoised image at the training dose. A network that buys nothing
# has 1 and the training dose; by the ceiling none can do better. Curves rise by isotonic regression; their logarithms
# are interpolated in log dose ("linear": the values themselves, where one is not above 0), never extrapolated.

# %%
MEASURES = {f"d' ({observer})": ("d'", observer, 1) for observer in ("CHO", "NPW")}
MEASURES |= {f"{info(m).label} {info(m).arrow}": (m, "", info(m).direction) for m in metrics}
hotelling, npw, image_metric, *_ = MEASURES
at = doses.index(low_dose)
bought = run.table("doses", lambda: equivalence.bought(per_patient, doses, at, MEASURES, names, draws=draws, seed=seed))
of_all = bought[bought["lesion"] == equivalence.ALL]
everywhere = of_all.set_index(["reading", "measure", "method"])["text"]
full, worth = "denoised = FBP at full dose", f"FBP worth denoised at {low_dose:g}"
shown = bought.assign(lesion=[wanted[i].text if i >= 0 else "all" for i in bought["lesion"]])
shown = shown.pivot(index=["method", "measure", "lesion"], columns="reading", values="text")
report.table(
    run, "bought", shown.set_axis([full, worth], axis=1).reset_index(),
    f"Doses as fractions of the normal one, 95 % intervals over {people} and their noise. By {hotelling} "
    "over all lesions the denoised image equals FBP at full dose at "
    + "; ".join(f"{m}: {everywhere['full dose', hotelling, m]}" for m in names) + f". By {image_metric}: "
    + "; ".join(f"{m}: {everywhere['full dose', image_metric, m]}" for m in names) + ".",
)  # fmt: skip


# %%
def draw_doses(axis, reading, nothing):
    """Equivalent doses in one reading, a line a measure and method; what lies beyond the doses is an arrow."""
    order, low_end, high_end = list(MEASURES), doses[0] * 0.8, 1.25
    for one in of_all[of_all["reading"] == reading].itertuples():
        y = order.index(one.measure) + 0.7 * (names.index(one.method) + 0.5) / len(names) - 0.35
        middle, *ends = np.clip([one.dose, one.low, one.high], low_end, high_end)
        axis.plot(ends, [y, y], color=colour[one.method], lw=1.4)
        kind = "<" if one.dose < doses[0] else ">" if one.dose > 1 else mark[one.method]
        axis.plot(middle, y, marker=kind, color=colour[one.method], ms=5, ls="")
    axis.axvline(nothing, color="black", lw=0.8, ls=":")
    plots.ticks_at(axis, doses)
    axis.set(xlim=(low_end * 0.95, high_end * 1.05), yticks=range(len(order)), yticklabels=order)


figure, axes = plt.subplots(1, 2, figsize=(10, 1.4 + 0.22 * len(MEASURES) * len(names)), sharey=True)
draw_doses(axes[0], "full dose", 1)
draw_doses(axes[1], "worth", low_dose)
axes[0].invert_yaxis()
axes[0].set(xlabel="dose at which denoised = FBP at full dose")
axes[1].set(xlabel=f"dose of the FBP worth denoised at {low_dose:g}")
handles = [plt.Line2D([], [], marker=mark[name], color=colour[name], label=name) for name in names]
figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
report.figure(
    run, "equivalent_doses", figure,
    "How much dose each network buys, by each measure. Dotted: a network that buys none. Arrows at the edge: beyond "
    f"the doses that were looked at. {people}" + (", 95 % intervals over them." if not few else "."),
)  # fmt: skip

# %% [markdown]
# ## Is the fine structure real?
# Coherence of the output with the noise-free truth, by spatial frequency, in anatomy full of edges. An output's power
# has three parts: coherent with the truth (a linear image of it), repeatable but incoherent (it stands in every noise
# realisation and is not the truth's: fabricated, or the truth's own structure weakened here and not there), and noise.
# The incoherent power is therefore an upper bound of what was invented. Weakening leaves less than the truth's power:
# what exceeds it, the *surplus*, is amplified where it is coherent and else invented.
#
# Controls: FBP at normal and low dose (linear: nothing fabricated), low dose blurred, unsharp masked (sharper, but a
# linear image of the truth), with a fine texture pasted onto it that is the same in every realisation, and median
# filtered.


# %%
def spectra():
    """One row a patient, method (or control), seed and frequency: powers in HU^2 mm^2."""
    tables = []
    for number in tqdm(range(patients), desc="coherence"):
        body = patient([seed, 1000 + number], "abdomen", slices=1)
        scene = body.absent_scene[0]
        place = (*((full - structured) // 2 for full in scene.shape), structured, structured)
        made = ensembles.ensemble(
            scene, body.pixel_mm, place, realisations=repeats, seed=[seed, 1, number], kernel=kernel
        )
        low, truth = made.images(False, low_dose), made.truth(False)
        outputs = [(name, -1, one) for name, one in fabrication.controls(made, low_dose, [seed, number]).items()]
        outputs += [(method, its_seed, denoise(low)) for method, its_seed, denoise in NETWORKS]
        for method, its_seed, images in outputs:
            found = fabrication.spectrum(images, truth, made.pixel_mm)
            tables.append(pd.DataFrame({"patient": number, "method": method, "seed": its_seed} | dict(found)))
    return pd.concat(tables, ignore_index=True)


spectrum = run.table("spectra", spectra)
controls = list(dict.fromkeys(spectrum.loc[spectrum["seed"] == -1, "method"]))
powers = {method: part for method, part in fabrication.of_patients(spectrum).groupby("method")}
peaks = {method: fabrication.surplus(powers[method]) for method in (*controls, *names)}
finer = {method: fabrication.fine(powers[method], fine) for method in peaks}


# %%
def told(values):
    """Mean and interval over patients, in words."""
    span = over_patients(values)
    return f"{span.mean:.2f}" + ("" if few else f" {report.bracket(span.low, span.high, '.2f')}")


def row(method):
    """One line of the table: shares of power, and RMS in HU, of what is finer than ``fine``."""
    power, peak = finer[method], peaks[method]
    return {
        "image": method, "coherence²": told(power["coherent"] / power["output"]),
        "coherent / truth": told(power["coherent"] / power["truth"]),
        "repeatable / truth": told(power["repeatable"] / power["truth"]),
        "highest surplus": f"{told(peak.ratio)} at {peak.frequency:.2f} lp/mm",
        "incoherent, repeatable, HU": told(signed[method]),
        "noise, HU": told(np.sqrt((power["output"] - power["repeatable"]).clip(lower=0))),
    }  # fmt: skip


def in_words(method):
    """A method's highest surplus."""
    top = peaks[method]
    where = f"{top.frequency:.2f} lp/mm, {top.hu:.2f} HU RMS beyond it"
    return f"{method} ({top.mean:.2f} times the truth's power at {where})"


# %%
signed = {m: np.sign(power["fabricated"]) * np.sqrt(power["fabricated"].abs()) for m, power in finer.items()}
fabricated = {m: float(values.mean()) for m, values in signed.items()}
more = [in_words(m) for m in names if peaks[m].exceeds]
unsure = [in_words(m) for m in names if not peaks[m].exceeds and peaks[m].mean > 1]
counts = listed.groupby("method")["seed"].nunique()
seeds = f"{counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")
seeds += " training seed" + "s" * bool(counts.max() > 1) + " a network"
seeds += ", and one says nothing of others" * bool(counts.min() == 1)
report.table(
    run, "fabricated", pd.DataFrame(map(row, peaks)),
    f"Structure finer than {fine:g} lp/mm at dose {low_dose:g}, {people}"
    + ("" if few else ", 95 % intervals over them")
    + f"; the truth's own is {np.sqrt(finer[controls[0]]['truth']).mean():.1f} HU RMS. Highest surplus: repeatable "
    "power over the truth's at the frequency where that is highest. Networks with more than the truth somewhere (by "
    f"5 %{'' if few else ', by t intervals corrected for the number of frequencies'}): {', '.join(more) or 'none'}; "
    f"controls: {', '.join(m for m in controls if peaks[m].exceeds) or 'none'}. "
    + (f"More, but not told apart from the truth's: {', '.join(unsure)}. " if unsure else "")
    + f"{seeds}. The incoherent repeatable power is an upper bound of what was invented; the "
    f"pasted texture shows what an invention looks like: {fabricated['texture pasted']:.1f} HU.",
)  # fmt: skip

# %%
DASHES = ["-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4))]


def draw_quotient(axis, above, below):
    """One power over another against frequency: means over patients, controls grey, networks with intervals."""
    for number, method in enumerate(peaks):
        part = powers[method].assign(q=powers[method][above] / powers[method][below])
        values = part.pivot(index="patient", columns="frequency", values="q")
        if method in controls:
            axis.plot(values.columns, values.mean(), label=method, color="#666666", lw=1, ls=DASHES[number % 6])
            continue
        axis.plot(values.columns, values.mean(), label=method, color=colour[method], marker=mark[method], ms=4)
        spans = pd.DataFrame([vars(over_patients(values[f])) for f in values])
        axis.fill_between(values.columns, spans.low, spans.high, color=colour[method], alpha=0.15, lw=0)
    axis.set(xlabel="spatial frequency, lp/mm")


def coherence_at(method):
    """Coherence² at the lowest frequency that counts as fine, mean over patients."""
    part = powers[method].query("frequency >= @fine - 1e-9")
    return (part["coherent"] / part["output"]).groupby(part["frequency"]).mean().iloc[0]


# %%
figure, axes = plt.subplots(1, 3, figsize=(12.5, 4.1))
draw_quotient(axes[0], "coherent", "output")
axes[0].set(ylabel="coherence² with the truth", ylim=(0, 1.02))
draw_quotient(axes[1], "fabricated", "truth")
axes[1].set_yscale("symlog", linthresh=0.1)
axes[1].set(ylabel="repeatable, incoherent / truth's power", ylim=(-0.1, 100))
draw_quotient(axes[2], "repeatable", "truth")
axes[2].set(ylabel="repeatable / truth's power", yscale="log", ylim=(0.01, 100))
axes[2].axhline(1, color="black", lw=0.8, ls=":")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
report.figure(
    run, "coherence", figure,
    f"Coherence with the noise-free truth at dose {low_dose:g}, means over {people}, {repeats} realisations "
    f"each. At {fine:g} lp/mm the coherence² is "
    + ", ".join(f"{m} {coherence_at(m):.2f}" for m in (*controls[:2], *names))
    + ". Middle: linear between ±0.1, else logarithmic. Grey: controls"
    + ("." if few else "; bands: 95 % over patients."),
)  # fmt: skip

# %% [markdown]
# ## A transfer function for every contrast
# A linear system has one MTF. Discs of 12 mm radius in a cylinder of water: the edge of the mean over realisations
# gives the transfer function of this task (TTF), and with it the frequency of 50 %. CNR is that of single images, with
# the SD over the pixels around; it rewards smoothing without limit.

# %%
progress = partial(tqdm, desc="inserts")
edges = run.table(
    "inserts", lambda: resolution.inserts(METHODS, contrasts, low_dose, realisations, [seed, 2], kernel, progress)
)
edges = edges.groupby(["contrast_hu", "method"], sort=False).mean(numeric_only=True).drop(columns="seed").reset_index()
half = edges.pivot(index="method", columns="contrast_hu", values="f50")
change = (half.loc[names, contrasts[-1]] - half.loc[names, contrasts[0]]).abs()
report.table(
    run, "transfer", edges,
    f"Edges of discs at dose {low_dose:g}, means over {realisations} realisations; f50 and f10: frequencies in lp/mm "
    "at which the transfer function is .5 and .1; recovered: contrast in the disc's middle over its own. FBP has f50 "
    f"{half.loc['FBP'].min():.3f} to {half.loc['FBP'].max():.3f} at all contrasts; the networks' f50 changes by up "
    f"to {change.max():.3f} between {contrasts[0]:g} and {contrasts[-1]:g} HU. No interval: one phantom.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
expected = patients * len(doses) * len(METHODS) * (4 * len(wanted) + len(metrics))
assert len(measured) == expected and np.isfinite(measured["value"]).all(), "a measurement is missing"
fbp = [curve("d'", observer, equivalence.ALL, "FBP").mean(0) for observer in ("CHO", "NPW")]
assert all(d[-1] > d[0] for d in fbp), "detection in FBP images does not grow with the dose"
law = [np.polyfit(np.log(doses), np.log(np.maximum(d, 1e-6)), 1)[0] for d in fbp]
assert abs(fabricated["FBP, dose 1"]) < abs(fabricated["texture pasted"]), "the control is not told from the FBP"
numbers = {
    f"{reading.replace(' ', '_')}_{measure}": {m: everywhere[reading, name, m] for m in names}
    for reading in ("full dose", "worth")
    for measure, name in (("cho", hotelling), ("npw", npw), (metrics[0], image_metric))
}
run.finish(
    patients=patients, realisations=realisations, methods=len(names), trained_at=trained_at,
    exponent_cho=float(law[0]), exponent_npw=float(law[1]), fabricated_hu=fabricated,
    surplus={m: float((power["repeatable"] / power["truth"]).mean()) for m, power in finer.items()},
    excess_hu={m: peaks[m].hu for m in names}, **numbers,
)  # fmt: skip

# %%
pick = min(names, key=lambda name: first[name] * -info(metrics[0]).direction)
report.text(
    f"**What we saw.** d' of FBP images grows with the dose to the power {law[0]:.2f} (CHO; theory: .5). Judged by "
    f"{image_metric}, {pick} at dose {low_dose:g} is worth FBP at {everywhere['worth', image_metric, pick]}; judged by "
    f"lesions that are to be detected, FBP at {everywhere['worth', hotelling, pick]} (CHO, the ceiling, which no "
    f"network can raise) and {everywhere['worth', npw, pick]} (NPW). Repeatable fine structure beyond the truth's "
    f"power: {', '.join(more) or 'found in no network'} ({seeds}). Limits: the lesions are discs at known places, the "
    f"observers are models, and a network trained at dose {their_dose} extrapolates at every other. `04d_observers` "
    "asks observers that can gain; `06_stats` compares the same networks by metrics on whole slices."
)
