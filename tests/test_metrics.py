"""Full-reference metrics: identities, known values, other implementations, and scoring a cohort."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from skimage import metrics as skimage_metrics

from ldct_utils import intensity, metrics
from ldct_utils.metrics import full_reference, ranges, registry

IDENTICAL = {"ssim": 1.0, "psnr": np.inf, "nrmse": 0.0, "rmse_hu": 0.0, "bias_hu": 0.0}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def score(pred, target, domain, names=metrics.METRICS, mask=None):
    """Metric name -> value of one slice (H, W)."""
    mask = None if mask is None else mask[None]
    table = metrics.compute(pred=pred[None], target=target[None], names=names, domain=domain, mask=mask)
    return dict(zip(table["metric"], table["value"]))


def taken(metric, pred, target, *args, mask=None, **kwargs):
    """A metric's function on one slice (H, W), already prepared."""
    batch = [torch.as_tensor(image)[None].double() for image in (pred, target)]
    return metric(*batch, *args, mask=None if mask is None else torch.as_tensor(mask)[None], **kwargs).item()


def body_slice(size=64):
    """A disc of soft tissue in air, HU."""
    y, x = np.mgrid[:size, :size] - size / 2
    return np.where(np.hypot(x, y) < size * 0.4, 40.0, -1000.0)


@pytest.fixture
def cohort(rng):
    """Five slices of three patients in HU, with truth; LDCT noisier than NDCT."""
    truth = np.stack([body_slice()] * 5)
    ndct = truth + rng.normal(0, 12, truth.shape)
    ldct = ndct + rng.normal(0, 20, truth.shape)
    slices = pd.DataFrame(
        {"row": range(5), "patient": ["P1", "P1", "P2", "P2", "P3"], "anatomy": ["abdomen"] * 4 + ["chest"]}
    )
    return SimpleNamespace(
        slices=slices, truth=truth.astype(np.int16), ndct=ndct.astype(np.int16), ldct=ldct.astype(np.int16)
    )


@pytest.mark.parametrize("domain", intensity.DOMAINS)
def test_identical_slices_score_best_in_every_domain(domain, recwarn):
    values = score(body_slice(), body_slice(), intensity.domain(domain))
    assert values == pytest.approx(IDENTICAL)
    assert not recwarn.list  # infinity by definition, not by dividing by zero


@pytest.mark.parametrize("domain", intensity.DOMAINS)
@pytest.mark.parametrize("name", ["ssim", "psnr", "nrmse", "rmse_hu"])
def test_more_noise_scores_worse_and_the_direction_says_so(domain, name, rng):
    noise = rng.normal(0, 10, (64, 64))
    near, far = (
        score(body_slice() + scale * noise, body_slice(), intensity.domain(domain), [name])[name] for scale in (1, 3)
    )
    assert metrics.info(name).direction * (near - far) > 0


@pytest.mark.parametrize("name", sorted(IDENTICAL))
def test_values_stay_in_the_registered_range(name, rng):
    metric = metrics.info(name)
    value = score(rng.normal(0, 900, (64, 64)), body_slice(), intensity.domain("hu"), [name])[name]
    assert metric.low <= value <= metric.high


def test_psnr_of_mse_point_01_at_peak_1_is_20_db():
    assert taken(full_reference.psnr, np.full((9, 9), 0.6), np.full((9, 9), 0.5), data_range=1.0) == pytest.approx(20.0)


def test_rmse_of_20_hu_gives_46_23_db_in_the_hu_domain(rng):
    pred = body_slice() + 20 * rng.choice([-1, 1], (64, 64))
    values = score(pred, body_slice(), intensity.domain("hu"))
    assert values["rmse_hu"] == pytest.approx(20) and values["psnr"] == pytest.approx(46.23, abs=0.005)


def test_ssim_of_two_constants_is_the_luminance_term():
    value = taken(full_reference.ssim, np.full((20, 20), 0.6), np.full((20, 20), 0.5), data_range=1.0)
    assert value == pytest.approx(0.6001 / 0.6101, abs=1e-9)


def test_ssim_equals_its_definition_written_out_over_windows(rng):
    target = rng.normal(0, 100, (40, 33))
    pred = target + rng.normal(0, 60, target.shape)
    x, y = (sliding_window_view(image, (7, 7)).reshape(-1, 49) for image in (pred, target))
    c1, c2 = (0.01 * 4096) ** 2, (0.03 * 4096) ** 2
    mx, my = x.mean(1), y.mean(1)
    cov = ((x - mx[:, None]) * (y - my[:, None])).sum(1) / 48
    ssim = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (x.var(1, ddof=1) + y.var(1, ddof=1) + c2))
    assert taken(full_reference.ssim, pred, target, data_range=4096) == pytest.approx(ssim.mean(), abs=1e-10)


def test_ssim_inside_a_mask_of_everything_is_the_ssim_of_the_slice(rng):
    pred = body_slice() + rng.normal(0, 30, (64, 64))
    everywhere = taken(full_reference.ssim, pred, body_slice(), 4096, mask=np.ones((64, 64), bool))
    assert everywhere == pytest.approx(taken(full_reference.ssim, pred, body_slice(), 4096), abs=1e-12)


def test_viana2025_equals_the_published_evaluation_on_three_channels(rng):
    target = body_slice() + rng.normal(0, 15, (64, 64))
    pred = target + rng.normal(0, 30, target.shape)
    levels = [(np.clip((hu + 1024) / 4096, 0, 1) * 255).astype(np.uint8) for hu in (target, pred)]  # truncates
    y, x = (np.repeat(image[..., None], 3, axis=-1) for image in levels)
    values = score(pred, target, intensity.domain("viana2025"))
    assert values["ssim"] == pytest.approx(skimage_metrics.structural_similarity(y, x, channel_axis=-1), abs=1e-12)
    assert values["psnr"] == pytest.approx(skimage_metrics.peak_signal_noise_ratio(y, x), abs=1e-9)
    assert values["nrmse"] == pytest.approx(skimage_metrics.normalized_root_mse(y, x), abs=1e-9)


def test_viana2025_sees_nothing_below_one_grey_level_of_16_hu():
    target = np.full((16, 16), 40.0)  # 66.2 levels
    values = score(target + 5, target, intensity.domain("viana2025"))
    assert values["psnr"] == np.inf and values["rmse_hu"] == 0
    one_level = score(target + 16, target, intensity.domain("viana2025"))
    assert one_level["rmse_hu"] == pytest.approx(4096 / 255)


def test_viana2025_on_a_real_pair_equals_three_channels(test_data):
    number = sorted((test_data / "mayo_npy").glob("*_input.npy"))[0].name.split("_")[1]
    pred, target = (np.load(test_data / "mayo_npy" / f"L506_{number}_{kind}.npy") for kind in ("input", "target"))
    levels = [np.repeat((image.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, -1) for image in (target, pred)]
    values = score(intensity.from_net(pred), intensity.from_net(target), intensity.domain("viana2025"))
    assert values["ssim"] == pytest.approx(skimage_metrics.structural_similarity(*levels, channel_axis=-1), abs=1e-12)
    assert 0.5 < values["ssim"] < 0.999


@pytest.mark.parametrize("data_range", [None, 0, -1.0])
@pytest.mark.parametrize("metric", [full_reference.ssim, full_reference.psnr])
def test_a_float_image_without_a_data_range_is_refused(metric, data_range):
    with pytest.raises(ValueError, match="data_range"):
        taken(metric, body_slice(), body_slice(), data_range)
    with pytest.raises(TypeError):
        taken(metric, body_slice(), body_slice())


def test_nrmse_takes_air_as_zero_in_hu_domains():
    target = np.full((16, 16), 0.0)  # water: 1024 above air on the network's scale
    values = score(target + 102.4, target, intensity.domain("hu"))
    assert values["nrmse"] == pytest.approx(0.1)


def test_nrmse_of_an_all_zero_target_is_defined():
    zero, one = np.zeros((8, 8)), np.ones((8, 8))
    assert taken(full_reference.nrmse, zero, zero) == 0 and taken(full_reference.nrmse, one, zero) == np.inf


def test_rmse_of_eulig2024_clips_hu_plus_1024_to_2924_and_is_not_windowed():
    target = np.full((16, 16), 1800.0)
    values = score(target + 300, target, intensity.domain("eulig2024"))
    assert values["rmse_hu"] == pytest.approx(100)  # clipped at 1900 HU
    assert values["psnr"] == np.inf  # the abdominal window saturates on both


def test_rmse_of_a_window_counts_only_what_the_window_shows():
    target = np.full((16, 16), 200.0)  # the abdominal window ends at 250 HU
    assert score(target + 300, target, intensity.domain("window"))["rmse_hu"] == pytest.approx(50)
    assert score(target + 30, target, intensity.domain("window"))["bias_hu"] == pytest.approx(30)


def test_body_ignores_errors_outside_the_body():
    target = body_slice()
    pred = np.where(target > -500, target, target + 400)
    outside, inside = (score(pred, target, intensity.domain(name)) for name in ("hu", "body"))
    assert inside["rmse_hu"] == 0 and inside["psnr"] == np.inf and outside["rmse_hu"] > 100


def test_a_slice_without_a_body_scores_nan_in_the_body_domain():
    values = score(np.full((32, 32), -990.0), np.full((32, 32), -1000.0), intensity.domain("body"))
    assert all(np.isnan(value) for value in values.values())


def test_bias_is_pred_minus_target():
    assert score(body_slice() + 3, body_slice(), intensity.domain("hu"))["bias_hu"] == pytest.approx(3)


def test_float32_and_int16_images_score_as_float64_ones(rng):
    target = np.round(body_slice())
    pred = np.round(target + rng.normal(0, 20, target.shape))
    expected = score(pred, target, intensity.domain("hu"))
    for dtype in (np.float32, np.int16):
        assert score(pred.astype(dtype), target.astype(dtype), intensity.domain("hu")) == expected


def test_evaluate_gives_a_row_for_every_slice_domain_reference_and_metric(cohort):
    table = metrics.evaluate(lambda hu: hu, cohort, range(5))
    assert list(table.columns) == ["row", "patient", "anatomy", "domain", "reference", "metric", "value"]
    assert len(table) == 5 * 4 * 2 * 5 and not table.duplicated(table.columns[:-1].tolist()).any()
    assert table["value"].dtype == np.float64


def test_evaluate_scores_the_input_it_is_given_and_in_the_rows_it_names(cohort):
    table = metrics.evaluate(lambda hu: hu, cohort, [3, 1], domains=["hu"], metrics=["rmse_hu"])
    for row, reference in ((3, "ndct"), (1, "truth")):
        expected = np.sqrt(np.mean((cohort.ldct[row].astype(float) - getattr(cohort, reference)[row]) ** 2))
        chosen = table[(table["row"] == row) & (table["reference"] == reference)]
        assert chosen["value"].item() == pytest.approx(expected)
        assert chosen["patient"].item() == cohort.slices["patient"][row]


def test_evaluate_does_not_depend_on_the_batch_and_never_exceeds_it(cohort):
    seen = []

    def predict(hu):
        seen.append(len(hu))
        return hu * np.float32(0.99)

    one, all_at_once = (metrics.evaluate(predict, cohort, range(5), domains=["hu"], batch=b) for b in (2, 8))
    pd.testing.assert_frame_equal(one, all_at_once)
    assert seen == [2, 2, 1, 5]


def test_evaluate_uses_the_window_of_each_anatomy_and_names_a_window_of_its_own(cohort):
    own = metrics.evaluate(lambda hu: hu, cohort, [0, 4], domains=["window"], metrics=["ssim"], references=["ndct"])
    chest = score(cohort.ldct[4], cohort.ndct[4], intensity.domain("window", "chest"), ["ssim"])["ssim"]
    assert own.set_index("row")["value"][4] == pytest.approx(chest)
    given = metrics.evaluate(
        lambda hu: hu, cohort, [4], domains=["window", "hu"], metrics=["ssim"], level=40, width=400
    )
    assert set(given["domain"]) == {"window C 40 W 400", "hu"}


def test_evaluate_leaves_out_a_truth_that_the_cohort_has_not(cohort):
    cohort.truth = None
    table = metrics.evaluate(lambda hu: hu, cohort, [0], domains=["hu"])
    assert set(table["reference"]) == {"ndct"}
    with pytest.raises(ValueError, match="none of the references truth"):
        metrics.evaluate(lambda hu: hu, cohort, [0], references=["truth"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "no rows to score"),
        ({"domains": ["lung"]}, "unknown evaluation domain 'lung'"),
        ({"domains": "hu"}, "not one string"),
        ({"metrics": ["sim"]}, "unknown metric 'sim'; known: .*ssim"),
        ({"references": ["input"]}, "unknown reference 'input'"),
        ({"predict": lambda hu: hu[:, :32]}, r"predict gave shape \(1, 32, 64\)"),
        ({"predict": lambda hu: hu * np.nan}, "row 2: the prediction holds 4096 values that are not finite"),
    ],
)
def test_evaluate_refuses_what_it_cannot_score(cohort, change, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(**{"predict": lambda hu: hu, "cohort": cohort, "rows": [2], **change})


def test_slices_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 64, 64\) and target \(1, 32, 32\)"):
        score(body_slice(), body_slice(32), intensity.domain("hu"))


def test_every_registered_metric_states_direction_and_range():
    assert set(IDENTICAL) <= set(metrics.names())
    for name in metrics.names():
        metric = metrics.info(name)
        assert metric.direction in (-1, 0, 1) and metric.low < metric.high and metric.label and metric.arrow


def test_a_metric_cannot_be_registered_twice():
    with pytest.raises(ValueError, match="'ssim' is registered twice"):
        registry.register(name="ssim", direction=1, low=0, high=1, unit="", takes="hu", label="SSIM", digits=3)(
            lambda *a: 0.0
        )


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="not 'grey'"):
        ranges.prepared("grey", intensity.domain("hu"), body_slice())
