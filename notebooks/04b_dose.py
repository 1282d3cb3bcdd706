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
# # 04b · How much dose does a denoiser save?
# **Question.** At which dose is a denoised image as good as a plain reconstruction at full dose: for detecting a
# lesion, and by the metrics that rank denoisers? Does the output hold fine structure that the truth does not?
#
# **Reads** checkpoints of `03_train` runs. **Writes** `measured.parquet` (d′ and metrics), `doses.parquet` (equivalent
# doses), `spectra.parquet` (coherence with the truth), `inserts.parquet` (transfer functions). **Cost**: about one
# minute, and 45 s a U-Net of 16 channels, on one core. **Words.** FBP, filtered back-projection, is the plain
# reconstruction. d′ says how well a model observer tells "lesion" from "no lesion"; 0 is guessing. CHO, the channelised
# Hotelling observer, allows for the noise texture; NPW, the non-prewhitening one, not. Doses: shares of the normal one.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/04b_dose/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
patients: int = 6  # simulated abdomens that no network was trained on; under 6 there are no intervals
lesions: list = [[1.0, -25.0], [2.0, -9.0], [4.0, -3.0]]  # radius in mm and contrast in HU of each
doses: list = [0.1, 0.25, 0.5, 1.0]  # fractions of the normal dose, rising, in (0, 1]
realisations: int = 200  # noise draws a class, patient and dose
crop: int = 96  # rows and columns that are reconstructed and denoised around the lesions, pixels
region: int = 33  # rows and columns that an observer sees around a lesion, pixels, odd
observer_channels: str = "laguerre_gauss"  # of the Hotelling observer: laguerre_gauss, dense_dog or gabor
metrics: list = ["rmse_hu", "ssim", "ssim_window", "mean_srmse", "max_srmse"]  # image metrics over dose, positive
scored: int = 20  # noise draws with the lesion that the metrics score
kernel: str = "B30"  # reconstruction kernel, that of the runs
low_dose: float = 0.25  # dose at which both are looked at, the networks' own
structured: int = 160  # rows and columns of anatomy for the coherence, pixels
repeats: int = 24  # noise draws for the coherence
fine: float = 0.4  # lp/mm above which structure is called fine
contrasts: list = [30.0, 100.0, 300.0]  # HU of the inserts whose transfer functions are taken
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds patients, noise and bootstrap
batch: int = 16  # crops a network is given at once
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.models import textbook
from ldct_utils.study.runs import start

run = start("04b_dose", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import report
from ldct_utils.audit.over_dose import judged
from ldct_utils.metrics import info
from ldct_utils.report import metric_words, plots, sentences
from ldct_utils.report.drawings import crops, over_dose, styles
from ldct_utils.study.runs import select
from ldct_utils.task_based import ensembles, equivalence, fabrication, resolution, trial
from ldct_utils.training import designs, prediction, setup

# %%
setup.seed_everything(seed, threads)
equivalence.check(doses, low_dose, metrics, observer_channels)
wanted = tuple(ensembles.Lesion(*(float(v) for v in one)) for one in lesions)
low, bars = report.percent(low_dose), partial(report.bars, patients, "patient")
over, within = bars(), bars("Brackets")

# %% [markdown]
# ## The networks
# Every network sees the very same noise. Each was trained at one dose; at any other it extrapolates. Four plain filters
# are controls: a score by which one saves as much does not speak for a network. No truth: its d′ has no bound.

# %%
chosen, listed, _ = designs.listed(select(runs))
designs.check_trained(chosen, kernel)
trained_at = sorted({float(one.params.get("dose", low_dose)) for one in chosen})
spoken = {name: designs.spoken(name) for name in run.table("networks", lambda: listed)["method"]}
names, looks, filters = list(spoken), styles.styles(spoken), styles.grey(textbook.FILTERS)
at = report.listed(map(report.percent, trained_at))
report.text(f"We test networks trained at {at} of the dose with {report.listed(spoken.values())}.")
denoisers = [prediction.denoiser(one, batch, precision, device) for one in chosen]
NETWORKS = list(zip(listed.method, listed.seed, denoisers))
METHODS = [("FBP", -1, lambda hu: hu), *NETWORKS, *((name, -1, one) for name, one in textbook.filters().items())]

# %% [markdown]
# ## Lesions at known places
# Small dark discs lie deep in the liver of simulated patients. Noise is drawn for each class anew; the same two noise
# images, rescaled, serve all doses. Contrasts are far below a textbook's, since these observers know where to look.

# %%
livers = partial(ensembles.livers, lesions=wanted, size=crop, seed=seed, kernel=kernel)
scan = next(livers(1, realisations=1))  # the first patient, to be looked at
noisy, first = scan.images(True, low_dose), {name: f for name, _, f in reversed(NETWORKS)}
shown = [scan.signals.sum(0), scan.truth(True), scan.images(True, 1.0)[0], noisy[0]]  # lesions, truth, FBP twice
added, truth, *images = run.array("example", lambda: np.stack([*shown, *(first[name](noisy)[0] for name in names)]))

# %%
images = dict(zip(["FBP, 100 %", f"FBP, {low}", *(f"{spoken[name]}, {low}" for name in names)], images))
_, before, after, *_ = [float(np.sqrt(np.mean((one - truth) ** 2))) for one in images.values()]
report.figure(
    run, "crops", crops.compared(truth, images, scan.signals, scan.pixel_mm, (100, 150), added),
    f"At {low} of the dose the {designs.network(names[0])} takes the error from {before:.1f} to {after:.1f} HU.",
    "A simulated liver. Below each image: its difference from the truth; below the truth: lesions on their own scale.",
    alt="CT crops of a liver with circled lesions, noise-free, FBP and denoised; below each its difference from truth.",
)  # fmt: skip

# %% [markdown]
# ## The experiment
# The observers learn on one half of the repeated scans and are tested on the other, both ways.


# %%
def measure():
    """One row a patient, method, seed, dose, observer (or metric) and lesion."""
    rows = []
    for number, made in enumerate(tqdm(livers(patients, realisations=realisations), total=patients)):
        for dose in doses:
            given = [made.images(present, dose) for present in (False, True)]
            for method, its_seed, denoise in METHODS:
                classes = [denoise(one) for one in given]
                found = judged(made, classes, region, observer_channels, metrics, scored)
                rows += [{"patient": number, "method": method, "seed": its_seed, "dose": dose} | one for one in found]
    return pd.DataFrame(rows)


measured = run.table("measured", measure)

# %% [markdown]
# ## Detection against dose
# The CHO learns anew on each network's images and knows lesion, place and noise. That is nearly *a ceiling*: a network
# can add only what its few channels miss. It can say that a network costs dose. Whether one saves dose, `04d_observers`
# asks readers who keep what they learned on FBP.

# %%
per_patient = equivalence.of_patients(measured)  # the patient is the unit: trainings are averaged first
means = run.table("means", lambda: equivalence.means(per_patient, draws, seed))
gains = equivalence.gains(per_patient, doses, names, draws=draws, seed=seed)
overall = gains.query("observer == 'CHO' and lesion == @equivalence.ALL and dose == @low_dose")
plain_d = equivalence.curve(per_patient, [low_dose], "d'", "CHO", equivalence.ALL, "FBP").mean()

# %%
report.figure(
    run, "detection", over_dose.detection(means, gains, [one.text for one in wanted], looks, filters),
    metric_words.changes_at_most(dict(zip(overall["method"].map(designs.network), overall["mean"])), plain_d, low),
    "A column a lesion (radius, contrast). Bottom: d′ minus that of FBP on the same scans; filled: CHO, hollow and "
    f"dotted: NPW. Grey: filters. {over} Nothing is corrected for the number of comparisons.",
    alt="Line plots of d′ against dose, a column a lesion: CHO, NPW and the difference to FBP of both.",
)  # fmt: skip

widths = run.table("uncertainty", lambda: equivalence.uncertainty(measured, per_patient))
inside, between = (report.number(widths[name].max(), 2) for name in ("±, one patient", "SD between patients"))
report.text(f"Noise leaves d′ of a patient uncertain by ±{inside} at most; its SD between patients is ≤ {between}.")

# %% [markdown]
# ## What the image metrics say
# The same crops, with their lesions, are scored against the noise-free truth. SSIM in HU follows the MSE
# (`04c_metric_audit`); SSIM (window), which is taken inside the body and the abdomen's window, stands beside it.

# %%
labels = {name: f"{plots.axis_label(info(name))} against truth" for name in metrics}
first = means.query("quantity == @metrics[0] and dose == @low_dose").set_index("method")["mean"]
pick = max(names, key=lambda name: first[name] * info(metrics[0]).direction)  # the best by the first metric
report.figure(
    run, "image_metrics", over_dose.metrics(means, labels, looks, filters),
    f"At {low} of the dose {info(metrics[0]).label} goes from {report.number(first['FBP'], unit=info(metrics[0]).unit)}"
    f" in FBP to {report.number(first[pick], unit=info(metrics[0]).unit)} after the {designs.network(pick)}.",
    f"The arrow points to better. Grey: filters. {over}",
    alt="Line plots of image metrics against dose, one panel a metric, with a curve for FBP and each network.",
)  # fmt: skip

# %% [markdown]
# ## Equivalent doses
# Two readings of the same curves: the dose of the *FBP* that is as good as the image denoised at the networks' own
# dose, and the dose at which the *denoised* image reaches FBP at full dose. Isotonic regression makes curves rise. We
# interpolate log value over log dose, or plain values ("linear") if one is ≤ 0, and never extrapolate.

# %%
MEASURES = {f"d' ({observer})": ("d'", observer, 1) for observer in ("CHO", "NPW")}
MEASURES |= {f"{info(m).label} {info(m).arrow}": (m, "", info(m).direction) for m in metrics}
per_dose = partial(equivalence.bought, per_patient, doses, doses.index(low_dose), MEASURES, [*names, *filters])
bought = run.table("doses", lambda: per_dose(draws=draws, seed=seed))
of_all = bought[bought["lesion"] == equivalence.ALL]
of_names = of_all[of_all["method"].isin(names)]
told = equivalence.in_words(of_all, doses)
by_cho, by_npw, by_image, *_ = told[told["method"] == pick].set_index("measure")["worth"][[*MEASURES]]
scored_as, seen_as = (metric_words.bracketed(sentences.beyond(one)) for one in (
    f"In crops of {report.plural(patients, 'liver')} the image of {low} after the {designs.network(pick)} is as good "
    f"as FBP at {by_image} by {info(metrics[0]).label}.",
    f"For the CHO it is as good as FBP at {by_cho}, for NPW as good as FBP at {by_npw}."))  # fmt: skip
best = metric_words.largest_saving(told[told["method"].isin(names)], of_names[of_names.reading == "worth"],
                                   low_dose, designs.network)  # fmt: skip
control = metric_words.filters_save(equivalence.best_of(of_all, filters), low_dose + trial.SAVING)
report.table(
    run, "doses", told.replace({"method": spoken}), f"{sentences.beyond(best)} {control}",
    f"All lesions together, largest dose first; `doses.parquet` has each lesion. {within}",
    heads={"judge": "judged by", "method": "network or filter", "worth": f"FBP as good as the image denoised at {low}",
           "full dose": "denoised image as good as FBP at 100 %"},
)  # fmt: skip

# %%
report.figure(
    run, "equivalent_doses",
    over_dose.equivalent(of_all, list(MEASURES), doses, low_dose, looks, filters),
    f"{scored_as} {seen_as}", "On the dotted line nothing is saved. Arrows: beyond the doses looked at. Grey: filters, "
    f"without their intervals. {over}",
    alt="Two dot plots of equivalent doses, a line a measure and network; a dotted line stands for no saving.",
)  # fmt: skip

# %% [markdown]
# ## Is the fine structure real?
# Coherence of the output with the noise-free truth, by spatial frequency, in anatomy full of edges. An output's power
# has three parts: coherent with the truth (a linear image of it), repeatable but incoherent (in every repeated scan and
# not the truth's: an upper bound of what was invented, since structure may also be weakened unevenly), and noise. The
# *surplus* is the repeatable power over the truth's: above 1, detail was amplified (coherent) or invented. Controls:
# FBP at both doses, blurred, unsharp masked (linear), with a fine texture pasted onto it, and median filtered.

# %%
seen = partial(fabrication.spectra, NETWORKS, patients, low_dose, repeats, structured, seed, kernel)
spectrum = run.table("spectra", lambda: seen(partial(tqdm, desc="coherence")))
controls = list(dict.fromkeys(spectrum.loc[spectrum["seed"] == -1, "method"]))
plain = dict(zip(controls[:2], images))  # FBP at both doses, with their doses in %
powers = fabrication.of_patients(spectrum)
structure = run.table("fabricated", lambda: fabrication.summary(powers, fine, draws, seed))
of_method = structure.set_index("method")
more = metric_words.more_detail(structure, spoken)

# %%
report.table(
    run, "fabricated", structure.sort_values("surplus", ascending=False).replace({"method": spoken | plain}),
    f"{more} {metric_words.in_total(of_method['repeatable'][names])}",
    f"Finer than {fine:g} lp/mm, at {low} of the dose. Surplus: power that recurs in every scan over the truth's, at "
    f"its highest; above 1 is invented or amplified. Negative HU are chance. {within}",
    heads={"method": "image", **fabrication.HEADS},
)  # fmt: skip

# %%
report.figure(
    run, "coherence", over_dose.coherence(fabrication.shares(powers, draws, seed), controls, looks, plain),
    f"Of the fine detail after the {designs.network(pick)}, {report.percent(of_method['coherence'][pick])} follows the "
    f"noise-free truth; in FBP it is {report.percent(of_method['coherence'][controls[1]])} at {low} of the dose and "
    f"{report.percent(of_method['coherence'][controls[0]])} at 100 %.",
    f"Fine: above {fine:g} lp/mm. Black and grey: controls. The middle axis is linear from −0.1 to 0.1. On the right, "
    f"lines above the dotted one have more detail than the truth. {bars('Bands')}",
    alt="Line plots against spatial frequency: coherence with the truth, incoherent and repeatable power over its own.",
)  # fmt: skip

# %% [markdown]
# ## A transfer function for every contrast
# It comes from the edge of discs of 12 mm radius in water. A linear system (FBP, blur, unsharp) has only one.

# %%
inserts = partial(resolution.inserts, METHODS, contrasts, low_dose, realisations, [seed, 2], kernel, tqdm)
edges = run.table("transfer", lambda: resolution.means(run.table("inserts", inserts)))
half = edges.pivot(index="method", columns="contrast_hu", values="f50")
blur = metric_words.edge(half[contrasts[0]][pick], half[contrasts[0]]["FBP"], contrasts[0], designs.network(pick))
report.table(
    run, "transfer", edges.replace({"method": spoken}), blur,
    f"Higher is sharper. At {low} of the dose, means over {realisations} scans of discs in one phantom: no interval.",
    heads={"contrast_hu": "contrast, HU", "method": "image", **resolution.HEADS},
)  # fmt: skip

# %% [markdown]
# ## Checks: FBP gains from dose, and the pasted texture is found
# %%
expected = patients * len(doses) * len(METHODS) * (4 * len(wanted) + len(metrics))
assert len(measured) == expected and np.isfinite(measured["value"]).all(), "a measurement is missing"
rise = [equivalence.curve(per_patient, doses, "d'", one, equivalence.ALL, "FBP").mean(0) for one in ("CHO", "NPW")]
assert all(d[-1] > d[0] for d in rise), "detection in FBP images does not grow with the dose"
sharp = of_all.query("method == @textbook.UNSHARP and reading == 'worth' and measure.str.startswith('RMSE')")
assert (sharp["dose"] < low_dose).all(), "unsharp masking saves dose by RMSE although it raises the noise"
assert np.ptp(half.loc[textbook.BLUR]) < 0.01, "a blur is linear, and its transfer function depends on the contrast"
law = [float(np.polyfit(np.log(doses), np.log(np.maximum(d, 1e-6)), 1)[0]) for d in rise]
invented = of_method["incoherent"]
assert abs(invented["FBP, dose 1"]) < abs(invented["texture pasted"]), "the control is not told from the FBP"

# %%
told_by = equivalence.by_method(of_names, dict(zip(("cho", "npw", metrics[0]), MEASURES)))
run.finish(
    patients=patients, realisations=realisations, methods=len(names), trained_at=trained_at, exponent_cho=law[0],
    exponent_npw=law[1], fabricated_hu=invented.to_dict(), surplus=of_method["repeatable"].to_dict(),
    excess_hu=of_method["excess_hu"][names].to_dict(), **told_by,
)  # fmt: skip

# %%
report.text(
    f"**What we saw.** {scored_as} {seen_as} {control} {more} {blur} In FBP d′ grows with the dose to the "
    f"power {law[0]:.2f} for the CHO and {law[1]:.2f} for NPW (theory: 0.5). One limit: discs at known places, and a "
    "CHO that can hardly gain. Next: `04d_observers`, whose other readers can."
)
