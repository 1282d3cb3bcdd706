"""Noise2Quality: doses, maps, the high-pass, the networks, training that resumes, and the metric n2q."""

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import notebook_cells
import numpy as np
import pandas as pd
import piq
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from states import same_state

from ldct_utils import cohorts, metrics, report
from ldct_utils.ct import dose, intensity
from ldct_utils.ct.dose import at_dose
from ldct_utils.metrics import full_reference
from ldct_utils.noise2quality import doses, evidence, highpass, maps, metric, networks, targets, training
from ldct_utils.report import captions
from ldct_utils.study import files
from ldct_utils.training import checkpoints, setup

DOSES = (0.05, 0.10, 0.25, 0.50, 0.75)  # Haque et al. 2022, Fig. 2 without the full dose, whose map is 1 everywhere

ROOT = Path(__file__).resolve().parents[1]
SCALES = {0.05: 2.516611, 0.10: 1.732051, 0.25: 1.0, 0.50: 0.577350, 0.75: 0.333333, 1.0: 0.0}


def texture(size=64, seed=0, sd=0.1):
    """A smooth image in [0, 1] and a noisy copy of it, (H, W)."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=(size, size)), 4)
    image = 0.2 + 0.6 * (image - image.min()) / np.ptp(image)
    return image, np.clip(image + rng.normal(0, sd, image.shape), 0, 1)


def in_memory(ldct, ndct, truth=None, its=0.25):
    about = pd.DataFrame({"row": range(len(ndct)), "dose": its, "patient": "P001", "anatomy": "abdomen"})
    return SimpleNamespace(id="x", slices=about, ldct=ldct, ndct=ndct, truth=truth)


def scanned(independent, its=0.25):
    """A water cylinder, scanned twice, the LDCT at dose ``its``, in the format of a cohort; the truth is noise-free."""
    grid = np.hypot(*np.mgrid[-80:80, -80:80]) * 1.5
    truth = np.where(grid < 100, 40.0, -1000.0)[None]
    scan = dose.scan(truth, 1.5, its, "B30", seed=0, independent=independent, views=180)
    return [np.rint(x).astype(np.int16) for x in (scan.ldct, scan.ndct, scan.noise_free)]


# ---- doses ----
@pytest.mark.parametrize(("fraction", "wanted"), SCALES.items())
def test_the_scale_of_the_noise_is_that_of_the_table(fraction, wanted):
    assert at_dose(np.zeros(1), np.ones(1), 0.25, fraction)[0] == pytest.approx(wanted, abs=5e-7)


def test_a_quarter_and_the_full_dose_give_the_pair_back():
    ndct, ldct = np.random.default_rng(0).normal(40, 30, (2, 1, 8, 8)).astype(np.float32)
    assert np.allclose(at_dose(ndct, ldct, 0.25, 0.25), ldct, atol=1e-4)
    assert np.array_equal(at_dose(ndct, ldct, 0.25, 1.0), ndct)
    for fraction, ratio in ((0.05, 19 / 3), (0.1, 3.0), (0.5, 1 / 3), (0.75, 1 / 9)):
        made = at_dose(ndct, ldct, 0.25, fraction) - ndct
        assert made.var() / (ldct - ndct).var() == pytest.approx(ratio, rel=1e-4)


def test_scaled_noise_has_the_variance_of_its_dose_where_the_ldct_holds_the_ndcts_noise():
    ldct, ndct, truth = scanned(independent=False)
    found = doses.check(in_memory(ldct, ndct, truth))
    assert list(found.dose) == [0.5, 0.75]
    assert found.value.to_numpy() == pytest.approx([2.0, 1 / 0.75], rel=0.05)
    assert doses.check(in_memory(ldct, ndct)).iloc[-1].value == pytest.approx(0, abs=0.15)


def test_independent_draws_are_refused_with_and_without_a_truth():
    ldct, ndct, truth = scanned(independent=True)
    with pytest.raises(ValueError, match=r"is 1.5\d at dose 0.5 where 2.00.*independently.*source simulated"):
        doses.check(in_memory(ldct, ndct, truth))
    with pytest.raises(ValueError, match=r"correlation.* is -0.[345]\d where 0.00.*contains the NDCT's noise"):
        doses.check(in_memory(ldct, ndct))
    with pytest.raises(ValueError, match="has an LDCT of dose 1"):
        doses.check(in_memory(ldct, ndct, truth, its=1.0))


@pytest.mark.parametrize(("its", "wanted"), [(0.25, -0.447), (0.10, -0.302), (0.04, -0.196)])
def test_independent_draws_are_refused_at_every_dose_of_the_ldct_without_a_truth(its, wanted):
    rng = np.random.default_rng(0)
    ndct, low = rng.normal(0, 1, 400_000), rng.normal(0, its**-0.5, 400_000)
    assert doses.independent(its) == pytest.approx(wanted, abs=5e-4)
    assert np.corrcoef(low - ndct, ndct)[0, 1] == pytest.approx(wanted, abs=0.005)
    ldct, ndct, _ = scanned(independent=True, its=its)
    with pytest.raises(ValueError, match=r"correlation.* is -0.\d\d where 0.00.*contains the NDCT's noise"):
        doses.check(in_memory(ldct, ndct, its=its))
    ldct, ndct, _ = scanned(independent=False, its=its)
    assert doses.check(in_memory(ldct, ndct, its=its)).holds.all()


def test_the_default_patients_pass_and_their_mean_quality_falls_with_the_dose(outputs):
    cohort = cohorts.get(patients=1, slices=1, anatomy="abdomen", split="test", progress=False)
    found = doses.check(cohort)
    assert (abs(found.value / found.expected - 1) < 0.05).all() and len(found) == 2
    ndct, ldct = (np.asarray(images[0], np.float32) for images in (cohort.ndct, cohort.ldct))
    for name, sign in (("ssim", -1), ("gmsd", -1), ("rmse", 1)):
        target = targets.get(name)
        means = [training.true_map(at_dose(ndct, ldct, 0.25, d), ndct, target).mean() for d in (*DOSES, 1.0)]
        assert (np.diff(means) * sign < 0).all(), (name, means)


# ---- targets ----
def test_the_ssim_map_is_one_for_equals_symmetric_and_agrees_with_two_implementations():
    image, noisy = texture()
    assert np.allclose(targets.ssim_map(image, image), 1)
    found = targets.ssim_map(noisy, image)
    assert np.allclose(found, targets.ssim_map(image, noisy)) and found.shape == image.shape
    tensors = [torch.from_numpy(one)[None] for one in (noisy, image)]
    own = full_reference.ssim_gaussian(*tensors, 1.0)
    assert targets.valid(found).mean() == pytest.approx(float(own), abs=1e-10)
    other = structural_similarity(
        noisy, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, full=True
    )[1]
    assert np.allclose(targets.valid(found), targets.valid(other))


def test_the_resized_map_is_that_of_the_window_that_fits_in_stretched():
    image, noisy = texture(256)
    found, padded = targets.ssim_map_resized(noisy, image), targets.ssim_map(noisy, image)
    assert targets.valid(padded).shape == (246, 246) and found.shape == (256, 256)
    assert abs(found.mean() - targets.valid(padded).mean()) < 2e-3 and abs(found - padded).max() > 0.01
    assert found[128, 128] == pytest.approx(padded[127:130, 127:130].mean(), abs=0.05)
    assert np.allclose(targets.ssim_map_resized(image, image), 1)


def test_the_spread_of_the_gradient_map_is_gmsd_of_the_image_at_twice_the_size():
    image, noisy = texture(32)
    pair = [torch.from_numpy(np.kron(one, np.ones((2, 2))))[None, None] for one in (noisy, image)]
    assert targets.gms_map(noisy, image).std() == pytest.approx(float(piq.gmsd(*pair)), rel=1e-6)
    assert np.allclose(targets.gms_map(image, image), 1)


def test_the_rmse_map_of_a_constant_difference_is_it_in_hu():
    image = np.random.default_rng(0).normal(0, 50, (32, 32))
    assert np.allclose(targets.rmse_map(image + 30, image), 30)
    assert targets.get("rmse").encode(100.0) == 0.5 and targets.get("rmse").decode(0.5) == 100.0
    with pytest.raises(ValueError, match="no target 'psnr'; there are ssim"):
        targets.get("psnr")


def test_the_window_is_that_of_the_notebook():
    assert training.windowed(39.5) == 0.5 and training.windowed(-110.0) == 0 and training.windowed(189.0) == 1
    assert training.windowed(-109.0) > 0 and training.windowed(188.0) < 1 and training.windowed(-500.0) == 0


# ---- high-pass ----
def test_the_high_pass_is_linear_blind_to_constants_and_leaves_the_low_pass():
    (a, b), constant = texture(), np.full((32, 48), 0.7)
    assert np.allclose(highpass.highpass(constant), 0)
    mixed = highpass.highpass(2 * a - 3 * b)
    assert np.allclose(mixed, 2 * highpass.highpass(a) - 3 * highpass.highpass(b))
    assert np.allclose(highpass.highpass(a) + highpass.lowpass(a), a)
    with pytest.raises(ValueError, match="even H and W"):
        highpass.highpass(np.zeros((31, 32)))
    with pytest.raises(ValueError, match="no sigma 'wide' of the high-pass; there are published, auto"):
        highpass.highpass(a, "wide")


@pytest.mark.parametrize(("name", "sigma"), [("published", 4), ("auto", 0)])
def test_the_blur_of_the_high_pass_is_opencvs(name, sigma):
    cv2 = pytest.importorskip("cv2")
    image = texture()[1]
    blurred = cv2.GaussianBlur(image, (5, 5), sigma)  # 0: OpenCV chooses
    wanted = image - ndimage.zoom(ndimage.zoom(blurred, 0.5), 2)
    assert np.allclose(highpass.highpass(image, name)[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=1e-9)


# ---- networks ----
def test_the_networks_have_the_published_numbers_of_weights():
    counts = {}
    with torch.device("meta"):
        for name in networks.MODELS:
            counts[name] = sum(p.numel() for p in networks.build(name).parameters())
    assert counts["u_ssl"] == 1_963_622 and counts["n2q"] == 1_963_766
    assert counts["unet"] == counts["u_hpf"] == counts["u_ssl"] - (256 * 5 + 5)
    assert counts["u_con"] == counts["n2q"] - (256 * 5 + 5) and counts["redcnn"] == 1_848_865
    assert counts["ae"] == counts["unet"] - 9 * sum(w * w for w in (16, 32, 64, 128))  # weights that read the skips


@pytest.mark.parametrize("name", networks.MODELS)
def test_every_network_gives_a_map_inside_one_and_doses_where_it_has_a_head(name):
    torch.manual_seed(0)
    network, chosen = networks.build(name, channels=2), networks.get(name)
    predicted, logits = network(torch.randn(3, len(chosen.inputs), 32, 48))
    assert predicted.shape == (3, 1, 32, 48) and predicted.abs().max() < 1
    assert (logits is not None) == chosen.head and (logits is None or logits.shape == (3, 5))
    with pytest.raises(ValueError, match=r"takes \(N, "):
        network(torch.zeros(1, 3, 32, 32))
    if chosen.kind != "redcnn":
        with pytest.raises(ValueError, match="divisible by 16"):
            network(torch.zeros(1, len(chosen.inputs), 40, 32))


def test_dropout_is_off_and_the_head_sees_no_global_scale_when_a_network_is_applied():
    torch.manual_seed(0)
    network = networks.build("n2q", channels=2).eval()
    image = torch.randn(1, 2, 32, 32)
    assert torch.equal(network(image)[0], network(image)[0])
    # instance normalisation takes the noise level away, of which only relative statistics are left
    assert torch.allclose(network(image)[1], network(3 * image)[1], atol=1e-2)


@pytest.mark.parametrize("name", networks.NORMALISATIONS)
def test_a_normalisation_changes_no_weight_and_decides_what_of_the_scale_is_left(name):
    torch.manual_seed(0)
    network = networks.build("n2q", 2, normalisation=name)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in networks.build("n2q", 2).parameters())
    image = torch.randn(2, 2, 32, 32)
    network.eval()
    same = torch.allclose(network(image)[1], network(100 * image)[1], atol=1e-2)
    assert same == (name == "instance")
    alone = torch.allclose(network(image)[0][:1], network(image[:1])[0], atol=1e-5)
    network.train()
    for layer in network.modules():
        layer.p = 0.0  # no dropout
    assert alone and torch.allclose(network(image)[0][:1], network(image[:1])[0], atol=1e-5) == (name != "batch")


def test_a_normalisation_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no normalisation 'group'; there are instance, batch, none"):
        networks.build("unet", 2, normalisation="group")
    with pytest.raises(ValueError, match="RED-CNN has no normalisation; got 'batch'"):
        networks.build("redcnn", 2, normalisation="batch")
    assert networks.published("redcnn") == "none" and networks.published("n2q") == "instance"


# ---- training ----
def made(folder, model="n2q", target="ssim", seed=0, **given):
    """A small network's step and batches on the tiny cohort."""
    cohort = cohorts.load(folder)
    setup.seed_everything(seed, 1)
    chosen = networks.get(model)
    trainer = training.TrainQuality(networks.build(model, 2, 5), **given)
    batches = training.Batches(
        cohort, cohort.rows("train"), 32, 2, seed, chosen.inputs, targets.get(target), DOSES, 40.0, 300.0,
        "published",
    )  # fmt: skip
    return trainer, batches


def test_a_patchs_map_is_that_of_the_slice(tiny_cohort):
    _, batches = made(tiny_cohort)
    rows, corners = batches.pairs.places(0)
    images, found, labels = batches.next()
    cohort = cohorts.load(tiny_cohort)
    row, (y, x) = rows[0], corners[0] + batches.margin
    ndct, ldct = (np.asarray(one[row], np.float32) for one in (cohort.ndct, cohort.ldct))
    low = at_dose(ndct, ldct, 0.25, DOSES[labels[0]])
    whole = training.true_map(low, ndct, targets.get("ssim"))[y : y + 32, x : x + 32]
    assert batches.margin == 8
    assert np.allclose((found[0, 0] + 1) / 2, whole, atol=1e-5)
    assert np.allclose((images[0, 0] + 1) / 2, training.windowed(low)[y : y + 32, x : x + 32], atol=1e-6)
    high = highpass.highpass(training.windowed(low))[y : y + 32, x : x + 32]
    away = images[0, 1].numpy() / 2 - high
    assert 0 < np.sqrt((away**2).mean()) < 0.1 * high.std()  # nearly: SciPy's grid depends on the image's size


def test_whole_slices_are_what_the_network_is_applied_to(tiny_cohort):
    cohort = cohorts.load(tiny_cohort)
    side = min(cohort.ldct.shape[1:])
    batches = training.Batches(
        cohort, cohort.rows("train"), side, 2, 0, networks.INPUTS, targets.get("ssim"), DOSES, 40.0, 300.0, "published"
    )  # fmt: skip
    row = batches.pairs.places(0)[0][0]
    images, found, labels = batches.next()
    ndct, ldct = (np.asarray(one[row], np.float32) for one in (cohort.ndct, cohort.ldct))
    low = at_dose(ndct, ldct, 0.25, DOSES[labels[0]])
    assert batches.margin == 0
    assert np.allclose(images[0], training.inputs_of(training.windowed(low), networks.INPUTS), atol=1e-4)
    assert np.allclose((found[0, 0] + 1) / 2, training.true_map(low, ndct, targets.get("ssim")), atol=1e-4)


def test_noise_is_scaled_before_the_window_clips(tiny_cohort):
    cohort = cohorts.load(tiny_cohort)
    ndct, ldct = (np.asarray(one[0], np.float32) for one in (cohort.ndct, cohort.ldct))
    right = training.windowed(at_dose(ndct, ldct, 0.25, 0.05))
    clipped = at_dose(training.windowed(ndct), training.windowed(ldct), 0.25, 0.05)
    assert abs(right - clipped).max() > 0.05  # so that the next line tells them apart
    _, batches = made(tiny_cohort)
    batches.given = (0.05,)
    rows, corners = batches.pairs.places(0)
    shown = (batches.next()[0][0, 0].numpy() + 1) / 2
    (y, x), row = corners[0] + batches.margin, rows[0]
    ndct, ldct = (np.asarray(one[row], np.float32) for one in (cohort.ndct, cohort.ldct))
    wanted = training.windowed(at_dose(ndct, ldct, 0.25, 0.05))[y : y + 32, x : x + 32]
    assert np.allclose(shown, wanted, atol=1e-5)


def test_the_loss_is_that_of_the_map_and_a_weighted_cross_entropy(tiny_cohort):
    trainer, batches = made(tiny_cohort, alpha=0.3)
    trainer.network.eval()
    images, wanted, labels = batches.next()
    terms = trainer.terms(images, wanted, labels)
    predicted, logits = trainer.network(images)
    assert torch.allclose(terms["map"], (predicted - wanted).square().mean((1, 2, 3)))
    assert torch.allclose(terms["dose"], torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
    assert trainer.weights == {"map": 1.0, "dose": 0.3}
    absolute, _ = made(tiny_cohort, map_loss="l1")
    absolute.network.load_state_dict(trainer.network.state_dict())
    absolute.network.eval()
    assert torch.allclose(absolute.terms(images, wanted, labels)["map"], (predicted - wanted).abs().mean((1, 2, 3)))
    assert set(made(tiny_cohort, "unet")[0].weights) == {"map"}
    assert absolute.optimiser.param_groups[0]["weight_decay"] == 1e-5
    with pytest.raises(ValueError, match="no map_loss 'ssim'; there are mse, l1"):
        training.TrainQuality(networks.build("ae", 2), map_loss="ssim")


def test_training_that_goes_on_is_training_that_was_never_stopped(tiny_cohort, tmp_path):
    def run(parts):
        for some in parts:
            trainer, batches = made(tiny_cohort)
            done = checkpoints.resume(tmp_path, "id", step=trainer, batches=batches)
            for _ in range(some):
                trainer.update(*batches.next())
            checkpoints.save(tmp_path, "id", done + some, step=trainer, batches=batches)
        (tmp_path / checkpoints.STATE_FILE).unlink()
        return trainer.state_dict()

    assert same_state(run([4]), run([1, 3]))


def test_updates_lower_the_error_of_the_map(tiny_cohort):
    trainer, batches = made(tiny_cohort, lr=1e-2, alpha=0.0)
    found = [float(trainer.update(*batches.next())["map"].mean()) for _ in range(40)]
    assert np.mean(found[-5:]) < 0.6 * np.mean(found[:5])


# ---- use ----
def assessor(model="n2q", target="ssim"):
    torch.manual_seed(0)
    network = networks.build(model, 2, 5).eval()
    return maps.Assessor(model, 2, None, target, DOSES, 40.0, 300.0, "published", network)


def write(folder, one):
    folder.mkdir(parents=True, exist_ok=True)
    maps.write(folder, one)
    files.write_json(folder / "result.json", {"id": "0", "files": {}})
    return folder


def test_quality_maps_of_any_size_have_the_shape_of_the_slice_and_the_units_of_the_target():
    slices = np.random.default_rng(0).normal(40, 40, (2, 50, 41)).astype(np.float32)
    found, chances = maps.assess(slices, assessor())
    assert found.shape == slices.shape and (found > 0).all() and (found < 1).all()
    assert np.allclose(chances.sum(1), 1) and chances.shape == (2, 5)
    assert np.allclose(maps.quality_map(slices[0], assessor()), found[0], atol=1e-5)
    assert np.isnan(maps.assess(slices, assessor("unet"))[1]).all()
    same = maps.quality_map(slices, assessor("unet", "rmse"))
    assert np.allclose(same, 200 * maps.quality_map(slices, assessor("unet")), rtol=1e-4)
    with pytest.raises(ValueError, match="not finite"):
        maps.assess(np.full((32, 32), np.nan), assessor())
    with pytest.raises(ValueError, match="at least 16 pixels"):
        maps.assess(np.zeros((8, 8)), assessor())


def test_the_metric_n2q_of_a_stored_network_is_the_mean_inside_the_body(tmp_path):
    grid = np.hypot(*np.mgrid[-32:32, -32:32])
    image = np.where(grid < 24, 40.0, -1000.0)[None]
    image = image + np.random.default_rng(0).normal(0, 20, image.shape) * (grid < 24)
    one = assessor()
    stored = metric.load(write(tmp_path / "run", one))
    domain = intensity.domain("hu")
    value = metrics.compute(pred=image, names=[stored], domain=domain).value.iloc[0]
    inside = intensity.body_mask(image)
    assert value == pytest.approx(maps.quality_map(image, one)[inside].mean(), rel=1e-5)
    assert (stored.name, stored.direction, stored.family) == ("n2q", 1, "no-reference")
    masked = metrics.compute(pred=image, names=[stored], domain=intensity.domain("body"), mask=inside).value.iloc[0]
    assert masked == pytest.approx(value, rel=1e-6)
    assert math.isnan(metrics.compute(pred=np.full((1, 64, 64), -1000.0), names=[stored], domain=domain).value.iloc[0])
    rmse = metric.metric(assessor(target="rmse"))
    assert (rmse.direction, rmse.unit) == (-1, "HU")


def test_a_wider_window_leaves_the_map_as_it_is_and_computes_it_once():
    grid = np.hypot(*np.mgrid[-32:32, -32:32])
    image = np.select([grid < 20, grid < 26], [40.0, -300.0], -1000.0)[None]
    image = image + np.random.default_rng(0).normal(0, 20, image.shape)
    one, calls = assessor(), []
    one.network.register_forward_hook(lambda *_: calls.append(1))
    n2q, hu, window = metric.metric(one), intensity.domain("hu"), intensity.domain("window", level=40.0, width=400.0)
    full, shown = (metrics.compute(pred=image, names=[n2q], domain=d).value.iloc[0] for d in (hu, window))
    assert len(calls) == 1
    quality = maps.quality_map(image, one)
    assert np.array_equal(maps.quality_map(image.clip(-160, 240), one), quality)
    assert full == pytest.approx(quality[intensity.body_mask(image)].mean(), rel=1e-5)
    assert shown == pytest.approx(quality[intensity.body_mask(image, -159)].mean(), rel=1e-5)
    assert abs(full - shown) > 1e-4  # the body is another where lungs and fat are clipped
    narrow = intensity.domain("window", level=40.0, width=100.0)
    metrics.compute(pred=image, names=[n2q], domain=narrow)
    metrics.compute(pred=image + 50.0, names=[n2q], domain=hu)
    assert len(calls) == 5  # and two by this test itself


# ---- evidence ----
def test_errors_that_cancel_in_the_mean_are_told_by_their_size_and_by_the_correlation():
    true = np.array([0.6, 0.7, 0.8, 0.9])
    said = {"same": np.full(4, 0.75), "right": true, "reversed": true[::-1]}
    rated = pd.concat(pd.DataFrame({"kind": k, "patient": ["a", "a", "b", "b"], "true": true, "predicted": v})
                      for k, v in said.items())  # fmt: skip
    found = evidence.by_kind(rated)
    assert list(found.index) == list(said) and (found.slices == 4).all()
    assert np.allclose(found.error, 0) and found.absolute_error.to_numpy() == pytest.approx([0.1, 0, 0.2])
    assert found.correlation.to_numpy()[1:] == pytest.approx([1, -1]) and math.isnan(found.correlation["same"])


def test_the_headline_says_what_fails_and_what_too_few_trainings_leave_open():
    asked = pd.DataFrame(
        {"test": ["a", "a", "b"], "question": ["dose", "map", "slope"], "seeds": 3, "verdict": "holds"}
    )
    assert evidence.headline(asked, "N2Q") == (
        "holds", "N2Q does all that it claims. 3 of 3 questions came out for it."
    )  # fmt: skip
    verdict, words = evidence.headline(asked.assign(verdict=["holds", "fails", "not shown"]), "N2Q")
    assert verdict == "fails" and "1 of 3" in words and "Against it: map (a)." in words and "slope" not in words
    verdict, words = evidence.headline(asked.assign(verdict="not shown", seeds=1), "N2Q")
    assert verdict == "not shown" and "was not shown to do" in words and "less than 3 times" in words
    assert evidence.headline(asked.iloc[:0], "N2Q") == ("not shown", "Nothing could be asked of N2Q.")


# ---- the notebooks on real pairs ----
def execute(notebook, **given):
    """A notebook's cells in a plain namespace."""
    return notebook_cells.execute(ROOT / "notebooks" / f"{notebook}.py", given)


def drawn(run, name, figure, finding, reading="", alt=""):
    """``report.figure``, small and not stored: layout and PDFs are most of the time."""
    figure.set_layout_engine("none")
    figure.savefig(io.BytesIO(), dpi=20)
    plt.close(figure)
    captions._tell(run, "figure", name, finding, reading, alt=alt)


def write_pairs(folder, patients, slices=2, size=96, seed=0, empty=()):
    """Discs of tissue as npy pairs; the slices ``empty`` show air only."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    grid = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
    for patient in patients:
        for number in range(slices):
            clean = np.where((grid < rng.uniform(0.7, 0.9)) & (number not in empty), 40.0, -1000.0)
            full = clean + rng.normal(0, 10, clean.shape)
            for kind, image in (("target", full), ("input", full + rng.normal(0, 30, clean.shape))):
                np.save(folder / f"{patient}_{number}_{kind}.npy", intensity.to_net(image.clip(-1024, 3000)))
    return folder


def test_08_runs_to_its_end_on_pairs_of_two_patients_and_refuses_those_of_its_training(outputs, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(report, "text", said.append)
    monkeypatch.setattr(report, "figure", drawn)
    first = write_pairs(tmp_path / "first", ["ANNA", "BERT"])
    second = write_pairs(tmp_path / "second", ["L506"], slices=3, seed=1, empty=(2,))
    about = {"study": "t", "source": "npy", "data_root": str(first), "split": "draw", "patch_size": 32, "batch": 2,
             "threads": 1, "channels": 2, "max_steps": 2, "log_every": 1, "precision": "float32"}  # fmt: skip
    for model in ("n2q", "unet"):
        execute("08a_train_quality", model=model, **about)
    common = {"study": "t", "runs": ["t/08a_train_quality/*"], "blurs": [1.0], "threads": 1, "precision": "float32",
              "wheel_slices": 0}  # fmt: skip
    space = execute("08_noise2quality", **common, test_source="npy", test_root=str(second))
    pairs = set(zip(space["contrasts"]["first"], space["contrasts"].second))
    assert pairs == {("n2q", "lookup"), ("n2q", "unet"), ("n2q", "constant")}
    assert said[-1].startswith("**What we saw.** N2Q was not shown to do what it claims. 0 of 8 questions")
    numbers = json.loads((space["run"].folder / "result.json").read_text())["numbers"]
    assert numbers["verdict"] == "not shown" and numbers["headline"] in said[-1]
    claims = pd.DataFrame(numbers["claims"])
    assert list(claims.test.unique()) == ["test patients", "real pairs"] and (claims.verdict == "not shown").all()
    assert np.isfinite(claims[["ours", "yardstick", "mean"]]).all().all()
    assert {"error", "absolute_error"} <= set(numbers["out_of_distribution"]["LDCT, blur 1 px"])
    with pytest.raises(ValueError, match=r"P00[12] of npy .* was in the training"):
        execute("08_noise2quality", **common, test_source="npy", test_root=str(first))


def test_what_is_no_finished_run_or_not_whole_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run of 08a_train_quality"):
        maps.load(tmp_path)
    folder = write(tmp_path / "run", assessor())
    path = folder / maps.FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        maps.load(folder)
    folder = write(tmp_path / "other", assessor())
    assert json.dumps(maps.load(folder).settings) == json.dumps(assessor().settings)
