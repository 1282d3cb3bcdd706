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
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
# detection
patients: int = 6  # simulated abdomens that no network was trained on; under 6 there are no intervals
lesions: list = [[1.0, -25.0], [2.0, -9.0], [4.0, -3.0]]  # radius in mm and contrast in HU of each
doses: list = [0.1, 0.25, 0.5, 1.0]  # fractions of the normal dose, rising, in (0, 1]
realisations: int = 200  # noise realisations a class, patient and dose
crop: int = 96  # rows and columns that are reconstructed and denoised around the lesions, pixels
region: int = 33  # rows and columns that an observer sees around a lesion, pixels, odd
observer_channels: str = "laguerre_gauss"  # of the Hotelling observer: laguerre_gauss, dense_dog or gabor
metrics: list = ["rmse_hu", "ssim"]  # image metrics over dose, one or more; values that are positive
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
from ldct_utils.runs import start

run = start("04b_dose", globals())

# %%
import textwrap
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import t as student
from tqdm.auto import tqdm

from ldct_utils import (
    degradations,
    equivalence,
    intensity,
    methods,
    observers,
    phantom,
    plots,
    report,
    resolution,
    stats,
    tasks,
    training,
)
from ldct_utils.metrics import compute, info
from ldct_utils.runs import select

training.seed_everything(seed, threads)
wanted = tuple(tasks.Lesion(*(float(v) for v in one)) for one in lesions)
if low_dose not in doses or doses != sorted(doses) or doses[-1] != 1:
    raise ValueError(f"doses must rise, end with 1 and hold low_dose ({low_dose:g}), got {doses}")
if not metrics:
    raise ValueError("metrics names at least one image metric to set beside d'")
few = patients < stats.MIN_PATIENTS

# %% [markdown]
# ## The networks
# Every network sees the very same noise. Each was trained at one dose; at any other it extrapolates.

# %%
chosen, listed, varying = methods.listed(select(runs))
kernels = {one.params.get("kernel", kernel) for one in chosen}
if kernels != {kernel}:
    raise ValueError(f"the runs were trained on kernel {', '.join(sorted(kernels))}: set kernel, or choose other runs")
trained_at = sorted({float(one.params.get("dose", low_dose)) for one in chosen})
networks = [training.load_network(one.folder).to(device) for one in chosen]
names = list(dict.fromkeys(listed["method"]))
colour = {"FBP": "#000000"} | {name: plots.COLOURS[i % 6] for i, name in enumerate(names)}
mark = {"FBP": "o"} | {name: "sD^vP*X"[i // 6 % 7] for i, name in enumerate(names)}
report.table(
    run, "networks", listed,
    f"Networks: {len(chosen)}, methods: {len(names)}, trained at dose {', '.join(f'{d:g}' for d in trained_at)}; "
    f"settings that differ beside the design: {', '.join(varying) or 'none'}.",
)  # fmt: skip


def denoise(network, hu):
    return training.predict(network, hu, batch, precision, device)


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
CHANNELS = {
    "laguerre_gauss": lambda lesion, pixel_mm: observers.laguerre_gauss(region, 2 * lesion.radius_mm / pixel_mm + 6),
    "dense_dog": lambda lesion, pixel_mm: observers.dense_dog(region),
    "gabor": lambda lesion, pixel_mm: observers.gabor(region),
}
if observer_channels not in CHANNELS:
    raise ValueError(f"observer_channels are {', '.join(CHANNELS)}, not {observer_channels!r}")
domain = intensity.domain("hu")
METHODS = [("FBP", -1, None), *zip(listed["method"], listed["seed"], networks)]


def detections(made, images):
    """Rows of d' and AUC of the channelised Hotelling and the non-prewhitening observer, for each lesion."""
    for number, lesion in enumerate(made.lesions):
        seen = [made.region(one, number, region) for one in images]
        expected = made.region(made.signals[number], number, region).reshape(1, -1)
        for observer, used in (("CHO", CHANNELS[observer_channels](lesion, made.pixel_mm)), ("NPW", expected)):
            found = observers.detect(*(observers.respond(one, used) for one in seen))
            head = {"observer": observer, "lesion": number}
            yield head | {"quantity": "d'", "value": found.d_prime, "low": found.d_low, "high": found.d_high}
            yield head | {"quantity": "AUC", "value": found.auc, "low": found.auc_low, "high": found.auc_high}


def measure():
    """One row a patient, method, seed, dose, observer (or metric) and lesion."""
    rows = []
    with tqdm(total=patients * len(doses) * len(METHODS), unit="ensemble", mininterval=1) as bar:
        for patient, (body, place, spots) in enumerate(tasks.patients(patients, wanted, crop, seed)):
            made = tasks.ensemble(
                body.absent_scene[0], body.pixel_mm, place, wanted, spots, realisations,
                [seed, patient], kernel,
            )  # fmt: skip
            truth = np.repeat(made.truth(True)[None], min(scored, realisations), 0)
            for dose in doses:
                given = [made.images(present, dose) for present in (False, True)]
                for method, its_seed, network in METHODS:
                    images = given if network is None else [denoise(network, one) for one in given]
                    head = {"patient": patient, "method": method, "seed": its_seed, "dose": dose}
                    rows += [head | found for found in detections(made, images)]
                    marks = compute(pred=images[1][: len(truth)], target=truth, names=metrics, domain=domain)
                    for name, value in marks.groupby("metric")["value"].mean().items():
                        rows.append(head | {"observer": "", "lesion": -1, "quantity": name, "value": value})
                    bar.update()
    return pd.DataFrame(rows)


measured = run.table("measured", measure)


# %%
def example():
    """(4 + methods, H, W) HU: the lesions alone, the first patient's crop without noise, FBP twice, each method."""
    body, place, spots = next(iter(tasks.patients(1, wanted, crop, seed)))
    made = tasks.ensemble(body.absent_scene[0], body.pixel_mm, place, wanted, spots, 1, [seed, 0], kernel)
    low = made.images(True, low_dose)
    outputs = [denoise(networks[list(listed["method"]).index(name)], low)[0] for name in names]
    return np.stack([made.signals.sum(0), made.truth(True), made.images(True, 1.0)[0], low[0], *outputs])


stored = run.array("example", example)
titles = ["lesions alone", "truth", "FBP, dose 1", f"FBP, dose {low_dose:g}", *names]
titles = ["\n".join(textwrap.wrap(title, 24)) for title in titles][:8]
figure, axes = plt.subplots(1, len(titles), figsize=(2.3 * len(titles), 2.9))
for axis, title, image in zip(axes, titles, stored):
    window = (-10, 40) if title == "lesions alone" else (100, 150)
    plots.show(axis, image, *window, f"{title}\n{plots.window_text(*window)}").title.set_fontsize(8)
sizes = "; ".join(lesion.text for lesion in wanted)
report.figure(
    run, "crops", figure,
    f"The liver of one of {patients} patients with lesions of radius and contrast {sizes}; one realisation.",
)  # fmt: skip

# %% [markdown]
# ## Detection against dose
# d' of the channelised Hotelling observer (CHO), which knows the noise's correlations and undoes them as far as they
# can be undone, and of the non-prewhitening observer (NPW), which looks for the lesion's shape and takes the noise as
# it comes, as a reader does. Templates are trained on one half of the realisations and tested on the other, both ways.

# %%
detected = measured[measured["observer"] != ""]
per_patient = measured.groupby(
    ["quantity", "observer", "lesion", "method", "dose", "patient"], sort=False, as_index=False
)["value"].mean()  # over training seeds
everything = per_patient[per_patient["observer"] != ""]
everything = everything.groupby(["quantity", "observer", "method", "dose", "patient"], sort=False, as_index=False)[
    "value"
].mean()  # over lesions
per_patient = pd.concat([per_patient, everything.assign(lesion=-1)], ignore_index=True)  # lesion -1: all of them


def curves(quantity, observer, lesion, method):
    """(patients, doses) of one quantity."""
    part = per_patient.query(
        "quantity == @quantity and observer == @observer and lesion == @lesion and method == @method"
    )
    return part.pivot(index="patient", columns="dose", values="value")[doses].to_numpy()


def summary():
    """Means over patients with their intervals, for every quantity, method and dose."""
    rows = []
    keys = ["quantity", "observer", "lesion", "method", "dose"]
    for key, part in per_patient.groupby(keys, sort=False):
        found = stats.patient_bootstrap(part["value"].to_numpy(), draws=draws, seed=seed)
        rows.append(dict(zip(keys, key)) | {"mean": found.mean, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


means = run.table("means", summary)


def draw(axis, quantity, observer, lesion, label):
    """One quantity against dose for every method, error bars over patients."""
    for shift, method in enumerate(["FBP", *names]):
        part = means.query(
            "quantity == @quantity and observer == @observer and lesion == @lesion and method == @method"
        )
        at = part["dose"] * 1.025 ** (shift - len(names) / 2)  # side by side, not on top of each other
        bars = np.abs(part[["low", "high"]].to_numpy().T - part["mean"].to_numpy())
        axis.errorbar(at, part["mean"], bars, color=colour[method], marker=mark[method], ms=4, lw=1.2, label=method)
    axis.set_xscale("log")
    axis.set_xticks(doses, [f"{d:g}" for d in doses], minor=False)
    axis.xaxis.set_minor_locator(plt.NullLocator())
    axis.set(xlabel="dose, fraction of normal", ylabel=label)


def draw_difference(axis, lesion):
    """d' of every method minus that of the FBP, CHO filled and NPW hollow, error bars over patients."""
    for shift, (method, observer) in enumerate((m, o) for m in names for o in ("CHO", "NPW")):
        gap = curves("d'", observer, lesion, method) - curves("d'", observer, lesion, "FBP")
        found = [stats.patient_bootstrap(one, draws=draws, seed=seed) for one in gap.T]
        bars = np.abs([[getattr(f, end) - f.mean for f in found] for end in ("low", "high")])
        at = np.array(doses) * 1.025 ** (shift - len(names))
        line, fill = ("-", colour[method]) if observer == "CHO" else (":", "white")
        axis.errorbar(at, [f.mean for f in found], bars, color=colour[method], ls=line, mfc=fill, marker=mark[method],
                      ms=4, lw=1.2)  # fmt: skip
    axis.axhline(0, color="black", lw=0.8)
    axis.set_xscale("log")
    axis.set_xticks(doses, [f"{d:g}" for d in doses], minor=False)
    axis.xaxis.set_minor_locator(plt.NullLocator())
    axis.set(xlabel="dose, fraction of normal", ylabel="d' − d' of FBP")


figure, axes = plt.subplots(3, len(wanted), figsize=(3.6 * len(wanted), 8.4), squeeze=False)
for number, lesion in enumerate(wanted):
    draw(axes[0, number], "d'", "CHO", number, "d' (CHO)")
    draw(axes[1, number], "d'", "NPW", number, "d' (NPW)")
    draw_difference(axes[2, number], number)
    axes[0, number].set_title(f"radius {lesion.text}")
axes[0, 0].legend(fontsize=7)
cho = {m: means.query("quantity == \"d'\" and observer == 'CHO' and lesion == -1 and method == @m") for m in colour}
auc = means.query("quantity == 'AUC' and observer == 'CHO' and method == 'FBP' and lesion >= 0")
report.figure(
    run, "detection", figure,
    f"Detection against dose, {patients} patients, {realisations} realisations a class"
    + ("" if few else "; error bars: 95 % over patients, each with noise of its own") + ". Bottom: "
    "the difference that denoising makes, same noise, CHO filled and NPW hollow. "
    f"AUC of the CHO for FBP runs from {auc['mean'].min():.2f} to {auc['mean'].max():.2f}. "
    f"At dose {low_dose:g}, CHO, mean of the lesions: "
    + ", ".join(f"{m} {cho[m].set_index('dose')['mean'][low_dose]:.2f}" for m in cho) + ".",
)  # fmt: skip

# %% [markdown]
# How much of an uncertainty is the finite number of realisations? The jackknife answers within a patient; between
# patients the size of the body, hence the noise, differs as well.

# %%
inside = detected[(detected["quantity"] == "d'")].assign(half=lambda t: (t["high"] - t["low"]) / 2)
spread = inside.groupby(["observer", "method", "dose", "lesion"])["value"].std().groupby(["observer", "method", "dose"])
widths = inside.groupby(["observer", "method", "dose"], sort=False)["half"].mean().reset_index(name="±, one patient")
widths["SD between patients"] = spread.mean().loc[list(zip(*(widths[c] for c in widths.columns[:3])))].to_numpy()
part = widths[widths["observer"] == "CHO"]
report.table(
    run, "uncertainty", widths,
    f"Mean half-width of the 95 % jackknife interval of d' over {realisations} realisations of one patient, and the SD "
    f"of d' between {patients} patients, means over lesions. CHO: {part['±, one patient'].min():.2f} to "
    f"{part['±, one patient'].max():.2f}. Methods share their noise, so their differences are surer than this.",
)  # fmt: skip

# %% [markdown]
# ## What the image metrics say
# The same crops, with their lesions, scored against the noise-free truth.

# %%
figure, axes = plt.subplots(1, len(metrics), figsize=(4.6 * len(metrics), 3.4), squeeze=False)
for axis, name in zip(axes[0], metrics):
    unit = f", {info(name).unit}" if info(name).unit else ""
    draw(axis, name, "", -1, f"{info(name).label} {info(name).arrow} against truth{unit}")
axes[0, 0].legend(fontsize=7)
first = means.query("quantity == @metrics[0] and dose == @low_dose").set_index("method")["mean"]
report.figure(
    run, "image_metrics", figure,
    f"{info(metrics[0]).label} at dose {low_dose:g}: " + ", ".join(f"{m} {first[m]:.3g}" for m in colour)
    + f"; {patients} patients, {min(scored, realisations)} realisations each.",
)  # fmt: skip

# %% [markdown]
# ## Equivalent doses
# Two readings of the same curves, their logarithms interpolated in log dose ("linear": the values themselves, where one
# is not above 0), rising by isotonic regression, never extrapolated:
# the dose at which the *denoised* image reaches FBP at full dose (over 1: it never does), and the dose of the *FBP*
# that is worth the denoised image at the training dose. A network that buys nothing has 1 and the training dose.

# %%
MEASURES = [("d'", "CHO"), ("d'", "NPW"), *((name, "") for name in metrics)]
label = {("d'", o): f"d' ({o})" for o in ("CHO", "NPW")} | {
    (m, ""): f"{info(m).label} {info(m).arrow}" for m in metrics
}


def equivalents():
    """Both equivalent doses of every method by every measure; for d' of each lesion and of all together."""
    rows = []
    for (quantity, observer), method in ((measure, name) for measure in MEASURES for name in names):
        for lesion in [-1, *range(len(wanted))] if observer else [-1]:
            pair = np.stack([curves(quantity, observer, lesion, one) for one in ("FBP", method)])
            linear = not (pair > 0).all()  # one patient's d' below 0 has no logarithm: then the scale is another
            turned = equivalence.rising(pair, 1 if observer else info(quantity).direction, linear)
            at = doses.index(low_dose)
            for reading, (curve, reference, number) in {
                "full dose": (turned[1], turned[0], -1),
                "worth": (turned[0], turned[1], at),
            }.items():
                found = equivalence.equivalent(doses, curve, reference, number, draws, seed=seed, linear=linear)
                rows.append({"measure": label[quantity, observer], "lesion": lesion, "method": method,
                             "reading": reading, "dose": found.dose, "low": found.low, "high": found.high,
                             "text": found.text, "linear": linear})  # fmt: skip
    return pd.DataFrame(rows)


bought = run.table("doses", equivalents)
shown = bought.assign(lesion=[wanted[i].text if i >= 0 else "all" for i in bought["lesion"]])
shown = shown.pivot(index=["method", "measure", "lesion"], columns="reading", values="text").reset_index()
shown.columns = ["method", "measure", "lesion", "denoised = FBP at full dose", f"FBP worth denoised at {low_dose:g}"]
shown.index.name = None
everywhere = bought[bought["lesion"] == -1].set_index(["reading", "measure", "method"])["text"]
report.table(
    run, "bought", shown,
    f"Doses as fractions of the normal one, 95 % intervals over {patients} patients and their noise. By d' (CHO) over "
    "all lesions the denoised image equals FBP at full dose at "
    + "; ".join(f"{m}: {everywhere['full dose', label[MEASURES[0]], m]}" for m in names)
    + f". By {label[MEASURES[2]]}: "
    + "; ".join(f"{m}: {everywhere['full dose', label[MEASURES[2]], m]}" for m in names) + ".",
)  # fmt: skip

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 1.4 + 0.22 * len(MEASURES) * len(names)), sharey=True)
order = [label[m] for m in MEASURES]
low_end, high_end = doses[0] * 0.8, 1.25
for axis, reading in zip(axes, ("full dose", "worth")):
    part = bought[(bought["lesion"] == -1) & (bought["reading"] == reading)]
    for one in part.itertuples():
        y = order.index(one.measure) + 0.7 * (names.index(one.method) + 0.5) / len(names) - 0.35
        ends = [np.clip(v, low_end, high_end) for v in (one.dose, one.low, one.high)]
        if not few:
            axis.plot(ends[1:], [y, y], color=colour[one.method], lw=1.4)
        kind = "<" if one.dose < doses[0] else ">" if one.dose > 1 else mark[one.method]
        axis.plot(ends[0], y, marker=kind, color=colour[one.method], ms=5, ls="")
    axis.axvline(1 if reading == "full dose" else low_dose, color="black", lw=0.8, ls=":")
    axis.set(xscale="log", xlim=(low_end * 0.95, high_end * 1.05), yticks=range(len(order)), yticklabels=order)
    axis.set_xticks(doses, [f"{d:g}" for d in doses])
    axis.xaxis.set_minor_locator(plt.NullLocator())
axes[0].invert_yaxis()
axes[0].set(xlabel="dose at which denoised = FBP at full dose")
axes[1].set(xlabel=f"dose of the FBP worth denoised at {low_dose:g}")
for name in names:
    axes[1].plot([], [], marker=mark[name], color=colour[name], label=name)
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
report.figure(
    run, "equivalent_doses", figure,
    "How much dose each network buys, by each measure. Dotted: a network that buys none. Arrows at the edge: beyond "
    f"the doses that were looked at. {patients} patients" + (", 95 % intervals over them." if not few else "."),
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
# linear image of the truth), and with a fine texture pasted onto it that is the same in every realisation.


# %%
def spectra():
    """One row a patient, method (or control), seed and frequency: powers in HU^2 mm^2."""
    rows = []
    for patient in tqdm(range(patients), desc="coherence"):
        body = phantom.patient([seed, 1000 + patient], "abdomen", slices=1)
        scene = body.absent_scene[0]
        place = (*((full - structured) // 2 for full in scene.shape), structured, structured)
        made = tasks.ensemble(scene, body.pixel_mm, place, realisations=repeats, seed=[seed, 1, patient], kernel=kernel)
        low, truth, pixel = made.images(False, low_dose), made.truth(False), made.pixel_mm
        pasted = degradations.degrade("texture", truth[None], 5.0, pixel, [seed, patient]) - truth
        outputs = [
            ("FBP, dose 1", -1, made.images(False, 1.0)),
            (f"FBP, dose {low_dose:g}", -1, low),
            ("blurred", -1, degradations.degrade("blur", low, 0.8, pixel)),
            ("unsharp masked", -1, degradations.degrade("unsharp", low, 1.0, pixel)),
            ("texture pasted", -1, low + pasted),
            ("median filter", -1, ndimage.median_filter(low, (1, 3, 3))),
            *((method, its_seed, denoise(network, low)) for method, its_seed, network in METHODS[1:]),
        ]
        for method, its_seed, images in outputs:
            found = resolution.coherence(images, truth, pixel)
            rows.append(pd.DataFrame(
                {"patient": patient, "method": method, "seed": its_seed, "frequency": found.frequencies,
                 "truth": found.truth, "output": found.output, "coherent": found.coherent,
                 "repeatable": found.repeatable}
            ))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


spectrum = run.table("spectra", spectra)
controls = list(dict.fromkeys(spectrum.loc[spectrum["seed"] == -1, "method"]))
powers = spectrum.groupby(["method", "patient", "frequency"], sort=False).mean(numeric_only=True).reset_index()
powers["fabricated"] = powers["repeatable"] - powers["coherent"]


# %%
def fine_structure(method):
    """RMS in HU of what is finer than ``fine``: the integral of each power over the frequency plane, by patient."""
    part = powers[(powers["method"] == method) & (powers["frequency"] >= fine - 1e-9)]
    area = resolution.ring_rms(1, part["frequency"]) ** 2  # of the rings in the frequency plane
    return pd.DataFrame(
        {name: (part[name] * area).groupby(part["patient"]).sum() for name in (
            "truth", "output", "coherent", "repeatable", "fabricated")}
    )  # fmt: skip


def with_interval(values, digits=2):
    found = stats.patient_bootstrap(np.asarray(values), draws=draws, seed=seed)
    return f"{found.mean:.{digits}f}" + ("" if few else f" [{found.low:.{digits}f}, {found.high:.{digits}f}]")


rows, fabricated, surplus, peaks = [], {}, {}, {}
for method in [*controls, *names]:
    power = fine_structure(method)
    signed = np.sign(power["fabricated"]) * np.sqrt(power["fabricated"].abs())
    fabricated[method], surplus[method] = float(signed.mean()), float((power["repeatable"] / power["truth"]).mean())
    ratio = powers[powers["method"] == method].assign(ratio=lambda t: t["repeatable"] / t["truth"])
    ratio = ratio.pivot(index="patient", columns="frequency", values="ratio")
    at = ratio.mean().idxmax()
    # Picked among all frequencies, and six patients are too few for a bootstrap that far out: t of the logarithms.
    logs, tail = np.log(ratio[at].clip(lower=1e-6)), stats.ALPHA / 2 / len(ratio.columns)
    least = np.exp(logs.mean() + student.ppf(tail, max(patients - 1, 1)) * logs.std() / np.sqrt(patients))
    ring = powers[(powers["method"] == method) & (powers["frequency"] == at)]
    hu = float(resolution.ring_rms((ring["repeatable"] - ring["truth"]).mean(), at))
    peaks[method] = SimpleNamespace(at=at, mean=ratio[at].mean(), least=least, hu=hu)
    rows.append(
        {"image": method,
         "coherence²": with_interval(power["coherent"] / power["output"]),
         "coherent / truth": with_interval(power["coherent"] / power["truth"]),
         "repeatable / truth": with_interval(power["repeatable"] / power["truth"]),
         "highest surplus": with_interval(ratio[at]) + f" at {at:.2f} lp/mm",
         "incoherent, repeatable, HU": with_interval(signed),
         "noise, HU": with_interval(np.sqrt((power["output"] - power["repeatable"]).clip(lower=0)))}
    )  # fmt: skip
exceeds = [m for m in peaks if peaks[m].mean > 1.05 and (few or peaks[m].least > 1)]
invents = [m for m in exceeds if m in names]
truth_hu = float(np.sqrt(fine_structure(controls[0])["truth"]).mean())


def peak(method):
    """A method's highest surplus in words."""
    top = peaks[method]
    return f"{method} ({top.mean:.2f} times the truth's power at {top.at:.2f} lp/mm, {top.hu:.2f} HU RMS beyond it)"


told = [peak(m) for m in invents]
unsure = [peak(m) for m in names if m not in invents and peaks[m].mean > 1]
counts = listed.groupby("method")["seed"].nunique()
seeds = f"{counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")
seeds += " training seed a network" if seeds == "1" else " training seeds a network"
seeds += ", which says nothing of others" if seeds.startswith("1 t") else ""
report.table(
    run, "fabricated", pd.DataFrame(rows),
    f"Structure finer than {fine:g} lp/mm at dose {low_dose:g}, {patients} patients"
    + ("" if few else ", 95 % intervals over them") + f"; the truth's own is {truth_hu:.1f} HU RMS. Highest surplus: "
    "repeatable power over the truth's at the frequency where that is highest. Networks with more than the truth "
    f"somewhere (by 5 %{'' if few else ', by t intervals corrected for the number of frequencies'}): "
    f"{', '.join(told) or 'none'}; controls: {', '.join(m for m in exceeds if m in controls) or 'none'}. "
    + (f"More, but not told apart from the truth's: {', '.join(unsure)}. " if unsure else "")
    + f"{seeds[0].upper()}{seeds[1:]}. The incoherent repeatable power is an upper bound of what was invented; the "
    f"pasted texture shows what an invention looks like: {fabricated['texture pasted']:.1f} HU.",
)  # fmt: skip

# %%
figure, axes = plt.subplots(1, 3, figsize=(12.5, 4.1))
quotients = (("coherent", "output"), ("fabricated", "truth"), ("repeatable", "truth"))
for number, method in enumerate([*controls, *names]):
    part, control = powers[powers["method"] == method], method in controls
    how = {"color": "#666666" if control else colour[method], "lw": 1 if control else 1.6,
           "ls": ["-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4))][number % 6] if control else "-",
           "marker": "" if control else mark[method], "ms": 4}  # fmt: skip
    for axis, (above, below) in zip(axes, quotients):
        values = part.assign(q=part[above] / part[below]).pivot(index="patient", columns="frequency", values="q")
        axis.plot(values.columns, values.mean(), label=method, **how)
        if not few and not control:
            found = [stats.patient_bootstrap(values[f].to_numpy(), draws=draws, seed=seed) for f in values]
            ends = [[getattr(one, end) for one in found] for end in ("low", "high")]
            axis.fill_between(values.columns, *ends, color=colour[method], alpha=0.15, lw=0)
axes[0].set(ylabel="coherence² with the truth", ylim=(0, 1.02))
axes[1].set_yscale("symlog", linthresh=0.1)
axes[1].set(ylabel="repeatable, incoherent / truth's power", ylim=(-0.1, 100))
axes[2].set(ylabel="repeatable / truth's power", yscale="log", ylim=(0.01, 100))
axes[2].axhline(1, color="black", lw=0.8, ls=":")
for axis in axes:
    axis.set(xlabel="spatial frequency, lp/mm")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
squared = {
    m: float((t["coherent"] / t["output"]).groupby(t["frequency"]).mean().loc[lambda c: c.index >= fine - 1e-9].iloc[0])
    for m, t in powers.groupby("method")
}
report.figure(
    run, "coherence", figure,
    f"Coherence with the noise-free truth at dose {low_dose:g}, means over {patients} patients, {repeats} realisations "
    f"each. At {fine:g} lp/mm the coherence² is " + ", ".join(f"{m} {squared[m]:.2f}" for m in (*controls[:2], *names))
    + ". Grey: controls" + ("." if few else "; bands: 95 % over patients."),
)  # fmt: skip

# %% [markdown]
# ## A transfer function for every contrast
# A linear system has one MTF. Discs of 12 mm radius in a cylinder of water: the edge of the mean over realisations
# gives the transfer function of this task (TTF), and with it the frequency of 50 %. CNR is that of single images, with
# the SD over the pixels around; it rewards smoothing without limit.


# %%
def inserts():
    """One row a contrast, method and seed: f50 and f10 in lp/mm, contrast recovered, CNR."""
    rows, radius, pixel = [], 12.0, 0.75
    scene = tasks.cylinder(300.0, 0.0, pixel)
    place = (*((full - 96) // 2 for full in scene.shape), 96, 96)
    for contrast in tqdm(contrasts, desc="inserts"):
        made = tasks.ensemble(scene, pixel, place, (tasks.Lesion(radius, contrast),), [(48, 48)], realisations,
                              [seed, 2], kernel)  # fmt: skip
        low = made.images(True, low_dose)
        inside = tasks.disc((96, 96), (48, 48), (radius - 4) / pixel) == 1
        around = (tasks.disc((96, 96), (48, 48), (radius + 4) / pixel) == 0) & (
            tasks.disc((96, 96), (48, 48), (radius + 16) / pixel) == 1
        )
        for method, its_seed, network in [("noise-free", -1, None), *METHODS]:
            images = made.truth(True)[None] if method == "noise-free" else low
            images = images if network is None else denoise(network, images)
            average = images.mean(0, dtype=np.float64)
            curve = resolution.ttf(average, (48, 48), radius, pixel)
            rows.append(
                {"contrast_hu": contrast, "method": method, "seed": its_seed,
                 "f50": resolution.frequency_at(curve, 0.5), "f10": resolution.frequency_at(curve, 0.1),
                 "recovered": (average[inside].mean() - average[around].mean()) / contrast,
                 "CNR": np.nan if method == "noise-free" else np.mean([tasks.cnr(i, inside, around) for i in images])}
            )  # fmt: skip
    return pd.DataFrame(rows)


edges = run.table("inserts", inserts)
edges = edges.groupby(["contrast_hu", "method"], sort=False).mean(numeric_only=True).drop(columns="seed").reset_index()
half = edges.pivot(index="method", columns="contrast_hu", values="f50")
change = (half.loc[names, contrasts[-1]] - half.loc[names, contrasts[0]]).abs()
report.table(
    run, "transfer", edges,
    f"Edges of discs at dose {low_dose:g}, means over {realisations} realisations; f50 and f10 in lp/mm. FBP has "
    f"f50 {half.loc['FBP'].min():.3f} to {half.loc['FBP'].max():.3f} at all contrasts; the networks' f50 changes by up "
    f"to {change.max():.3f} between {contrasts[0]:g} and {contrasts[-1]:g} HU. No interval: one phantom.",
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
expected = patients * len(doses) * len(METHODS) * (4 * len(wanted) + len(metrics))
assert len(measured) == expected and np.isfinite(measured["value"]).all(), "a measurement is missing"
fbp = {o: curves("d'", o, -1, "FBP").mean(0) for o in ("CHO", "NPW")}
assert all(v[-1] > v[0] for v in fbp.values()), "detection in FBP images does not grow with the dose"
law = [np.polyfit(np.log(doses), np.log(np.maximum(v, 1e-6)), 1)[0] for v in fbp.values()]
assert abs(fabricated["FBP, dose 1"]) < abs(fabricated["texture pasted"]), "the control is not told from the FBP"
numbers = {
    f"{reading.replace(' ', '_')}_{measure}": {m: everywhere[reading, label[measure_key], m] for m in names}
    for reading in ("full dose", "worth")
    for measure, measure_key in (("cho", MEASURES[0]), ("npw", MEASURES[1]), (metrics[0], MEASURES[2]))
}
run.finish(
    patients=patients, realisations=realisations, methods=len(names), trained_at=trained_at,
    exponent_cho=float(law[0]), exponent_npw=float(law[1]), fabricated_hu=fabricated, surplus=surplus,
    excess_hu={m: peaks[m].hu for m in names}, **numbers,
)  # fmt: skip

# %%
pick = min(names, key=lambda name: first[name] * -info(metrics[0]).direction)
report.text(
    f"**What we saw.** d' of FBP images grows with the dose to the power {law[0]:.2f} (CHO; theory: .5). Judged by "
    f"{label[MEASURES[2]]}, {pick} at dose {low_dose:g} is worth FBP at "
    f"{everywhere['worth', label[MEASURES[2]], pick]}; judged by lesions that are to be detected, FBP at "
    f"{everywhere['worth', label[MEASURES[0]], pick]} (CHO) and "
    f"{everywhere['worth', label[MEASURES[1]], pick]} (NPW). Repeatable fine structure beyond the truth's power: "
    f"{', '.join(told) or 'found in no network'} ({seeds}). Limits: the lesions are discs at known places, the "
    f"observers are models, and a network trained at dose {', '.join(f'{d:g}' for d in trained_at)} extrapolates at "
    "every other. `06_stats` compares the same networks by metrics on whole slices."
)
