"""Full-reference metrics: identities, known values, other implementations, and scoring a cohort."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage
from skimage import metrics as skimage_metrics

from ldct_utils import metrics
from ldct_utils.audit import agreement
from ldct_utils.ct import intensity
from ldct_utils.metrics import evaluation, full_reference, ranges, registry, scores

IDENTICAL = {"ssim": 1.0, "ssim_window": 1.0, "psnr": np.inf, "nrmse": 0.0, "rmse_hu": 0.0, "bias_hu": 0.0}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def score(pred, target, domain, names=evaluation.METRICS, mask=None):
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
    told = [str(one.message) for one in recwarn if issubclass(one.category, RuntimeWarning)]
    assert not told  # infinity by definition, not by dividing by zero


@pytest.mark.parametrize("domain", intensity.DOMAINS)
@pytest.mark.parametrize("name", ["ssim", "psnr", "nrmse", "rmse_hu"])
def test_more_noise_scores_worse_and_the_direction_says_so(domain, name, rng):
    noise = rng.normal(0, 10, (64, 64))
    near, far = (
        score(body_slice() + scale * noise, body_slice(), intensity.domain(domain), [name])[name] for scale in (1, 3)
    )
    assert metrics.info(name).direction * (near - far) > 0


WITHOUT_WEIGHTS = [name for name in metrics.names() if not set(metrics.info(name).needs) - {"pyiqa"}]


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_values_stay_in_the_registered_range(name, rng):
    metric = metrics.info(name)
    assert metrics.available([name]).available[0]  # pyiqa is one of the requirements
    size = max(128, metric.smallest)
    target = body_slice(size) + rng.normal(0, 10, (size, size))
    preds = np.stack([target, target + rng.normal(0, 10, target.shape), rng.normal(0, 900, target.shape)])
    values = metrics.compute(
        pred=preds, target=np.stack([target] * 3), names=[name], domain=intensity.domain("hu")
    ).value
    rounding = 1e-6  # of those that libraries compute in float32
    assert values.notna().all() and values.between(metric.low - rounding, metric.high + rounding).all(), list(values)
    if metric.family == "full-reference":  # a range says nothing that allows what cannot be
        assert metric.direction < 1 or np.isinf(metric.high) or values[0] == pytest.approx(metric.high, abs=1e-4)
        assert metric.direction > -1 or metric.low == values[0] or name == "noise_sd_hu"


def test_metrics_that_are_one_for_identical_images_by_their_formula_are_registered_so():
    assert {n: metrics.info(n).high for n in ("ssim", "ms_ssim", "fsim", "haarpsi")} == dict.fromkeys(
        ("ssim", "ms_ssim", "fsim", "haarpsi"), 1.0
    )


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
    # five metrics in four domains, and the one with a window of its own in one of them
    assert len(table) == 5 * 2 * (4 * 5 + 1) and not table.duplicated(table.columns[:-1].tolist()).any()
    assert table["value"].dtype == np.float64
    own = table[(table["metric"] == "ssim_window") & (table["row"] == 3)].set_index(["domain", "reference"])["value"]
    body = intensity.body_mask(cohort.ndct[3])
    expected = score(cohort.ldct[3], cohort.truth[3], intensity.domain("body"), ["ssim_window"], body)["ssim_window"]
    assert list(own.index) == [("body", "ndct"), ("body", "truth")] and own["body", "truth"] == expected
    alone = metrics.evaluate(lambda hu: hu, cohort, [3], domains=["hu", "window"], metrics=["ssim_window", "ssim"])
    assert (alone.groupby("metric")["domain"].nunique() == 2).all()  # without its domain it stands in those asked for


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
        ({"predict": lambda hu: hu * np.nan}, "row 2: the prediction holds values that are not finite: 4096"),
    ],
)
def test_evaluate_refuses_what_it_cannot_score(cohort, change, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(**{"predict": lambda hu: hu, "cohort": cohort, "rows": [2], **change})


def test_windowed_ssim_sees_what_the_range_of_all_hu_hides(rng):
    """In ``hu`` SSIM is 1 less a mean squared error; with the window's width as range it sees structure."""
    target, noise = body_slice(128), rng.normal(0, 1, (128, 128))
    lost = {
        name: [1 - score(target + sd * noise, target, intensity.domain("hu"), [name])[name] for sd in (10, 30)]
        for name in ("ssim", "ssim_window")
    }
    assert lost["ssim"][1] / lost["ssim"][0] == pytest.approx(9, abs=1)  # as the mean square grows
    assert lost["ssim_window"][1] / lost["ssim_window"][0] < 4 and lost["ssim_window"][0] > 5 * lost["ssim"][0]


def test_windowed_ssim_is_that_of_the_window_inside_the_body_alone(rng):
    target = body_slice(96)
    pred = target + rng.normal(0, 20, target.shape)
    inside = intensity.body_mask(target)
    own = score(pred, target, intensity.domain("hu"), ["ssim_window"])["ssim_window"]
    clipped = [np.clip(image, -150, 250) + 150 for image in (pred, target)]
    assert own == pytest.approx(taken(full_reference.ssim, *clipped, data_range=400, mask=inside), abs=1e-12)
    outside = np.where(inside, pred, pred + 3000 * (rng.random(pred.shape) < 0.2))
    far = ndimage.binary_erosion(inside, np.ones((7, 7)))  # windows of 7 pixels that lie in the body
    values = [taken(full_reference.ssim_window, one, target, mask=far) for one in (outside, pred)]
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    nothing = score(np.full((20, 20), -1000.0), np.full((20, 20), -1000.0), intensity.domain("hu"), ["ssim_window"])
    assert np.isnan(nothing["ssim_window"])


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


# Traps that the way in makes impossible.


def stack(count=3, size=64, seed=5):
    """(noisy, clean) slices of discs, (N, H, W) HU."""
    rng = np.random.default_rng(seed)
    clean = np.stack([body_slice(size) for _ in range(count)])
    return clean + rng.normal(0, 25, clean.shape), clean


FULL = [name for name in metrics.names("full-reference") if not metrics.info(name).needs]  # no weights needed


def test_prediction_and_target_can_only_be_given_by_name():
    noisy, clean = stack()
    with pytest.raises(TypeError):
        metrics.compute(noisy, clean, ["vifp"], intensity.domain("hu"))


def test_a_table_has_one_row_an_image_and_metric_in_order():
    noisy, clean = stack()
    table = metrics.compute(pred=noisy, target=clean, names=["psnr", "vifp"], domain=intensity.domain("window"))
    assert list(table.columns) == ["image", "domain", "metric", "value"]
    assert table["image"].tolist() == [0, 0, 1, 1, 2, 2] and table["metric"].tolist() == ["psnr", "vifp"] * 3
    assert set(table["domain"]) == {"window"} and table["value"].dtype == np.float64


@pytest.mark.parametrize("name", FULL)
def test_a_batch_scores_as_its_slices_alone(name):
    noisy, clean = stack(size=max(metrics.info(name).smallest, 64))
    noisy[1] += 30
    options = {"names": [name], "domain": intensity.domain("hu")}
    together = metrics.compute(pred=noisy, target=clean, batch=3, **options)["value"]
    alone = [metrics.compute(pred=p[None], target=t[None], **options)["value"][0] for p, t in zip(noisy, clean)]
    np.testing.assert_allclose(together, alone, rtol=1e-6 if name == "vif" else 1e-12)


@pytest.mark.parametrize("name", sorted(set(FULL) - {"noise_sd_hu"}))
def test_identical_slices_score_the_best_value_and_noise_a_worse_one(name):
    _, clean = stack(1, size=192)
    noise = np.random.default_rng(1).normal(0, 1, clean.shape)
    clean = clean + 12 * noise[:, ::-1]
    given = {"target": clean, "names": [name], "domain": intensity.domain("hu")}
    same, near, far = (metrics.compute(pred=clean + s * noise, **given)["value"][0] for s in (0, 20, 60))
    best = {"psnr": np.inf} | {n: 0.0 for n in ("nrmse", "rmse_hu", "bias_hu", "gmsd", "mean_srmse", "max_srmse")}
    assert same == pytest.approx(best.get(name, 1.0), abs=1e-4 if name == "vif" else 1e-9)
    if name != "bias_hu":
        turned = [agreement.align(value, metrics.info(name).direction) for value in (same, near, far)]
        assert turned[0] > turned[1] > turned[2]


def test_after_alignment_psnr_ranks_as_the_negative_error_does():
    noisy, clean = stack(6)
    noisy += np.arange(6)[:, None, None] * noisy.std() / 10
    given = {"pred": noisy, "target": clean, "domain": intensity.domain("hu")}
    table = metrics.compute(names=["psnr", "rmse_hu"], **given).pivot(index="image", columns="metric", values="value")
    turned = table.apply(lambda column: agreement.align(column, metrics.info(column.name).direction))
    assert turned.corr("spearman").iloc[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("name", intensity.DOMAINS)
def test_the_unit_scale_is_within_0_and_1_and_windowed_like_the_domain(name):
    hu = torch.tensor([-3000.0, -1024, 0, 40, 300, 3072, 9000])
    unit = ranges.prepared("unit", intensity.domain(name), hu)
    assert unit.dtype == torch.float64 and unit.min() == 0 and unit.max() == 1 and unit.diff().min() >= 0
    assert ranges.peak("unit", intensity.domain(name)) == 1


@pytest.mark.parametrize("name", intensity.DOMAINS)
@pytest.mark.parametrize("takes", ["domain", "hu", "attenuation", "unit"])
def test_arrays_and_tensors_are_prepared_alike(name, takes):
    hu = np.random.default_rng(0).normal(0, 600, (2, 8, 8)).astype(np.float32)
    domain = intensity.domain(name)
    prepared = ranges.prepared(takes, domain, torch.from_numpy(hu))
    torch.testing.assert_close(prepared, ranges.prepared(takes, domain, hu.astype(np.float64)), rtol=0, atol=1e-12)
    if takes == "domain":
        np.testing.assert_array_equal(prepared.numpy(), domain.prepare(hu).astype(float))


@pytest.mark.parametrize("name", sorted(name for name in FULL if not metrics.info(name).masked))
def test_what_cannot_be_taken_inside_a_mask_is_refused_in_the_domain_body(name):
    noisy, clean = stack(size=170)
    with pytest.raises(ValueError, match=f"{name} cannot be taken inside a mask"):
        metrics.compute(pred=noisy, target=clean, names=["ssim", name], domain=intensity.domain("body"))


def test_evaluate_refuses_such_a_metric_before_it_predicts(cohort):
    def predict(hu):
        raise AssertionError("predicted")

    with pytest.raises(ValueError, match="vifp cannot be taken inside a mask"):
        metrics.evaluate(predict, cohort, [0], metrics=["ssim", "vifp"])
    table = metrics.evaluate(lambda hu: hu, cohort, [0, 4], domains=["hu", "window"], metrics=["ssim", "vifp"])
    assert set(table["metric"]) == {"ssim", "vifp"} and len(table) == 2 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": None}, "psnr need a target"),
        ({"names": "psnr"}, "not one string"),
        ({"names": ["sim"]}, "unknown metric 'sim'"),
        ({"names": ["ms_ssim"]}, "ms_ssim needs slices of at least 161 pixels a side"),
        ({"pred": np.full((3, 64, 64), np.nan)}, "image 0: the prediction holds values that are not finite: 4096"),
        ({"target": np.full((3, 64, 64), np.inf)}, "image 0: the target holds values that are not finite: 4096"),
        ({"pred": np.zeros((64, 64))}, r"\(N, H, W\)"),
        ({"mask": np.ones((3, 64, 64), bool)}, "a mask belongs to the domain body"),
        ({"mask": np.ones((1, 64, 64), bool), "domain": intensity.domain("body")}, "mask .* differ in shape"),
    ],
)
def test_compute_refuses_what_it_cannot_score(change, message):
    noisy, clean = stack()
    given = {"pred": noisy, "target": clean, "names": ["psnr"], "domain": intensity.domain("hu")}
    with pytest.raises(ValueError, match=message):
        metrics.compute(**given | change)


def test_a_metric_without_its_weights_is_listed_as_such_and_refused_by_name(monkeypatch):
    monkeypatch.setattr(scores, "_missing", lambda metric: ["some.pth"] if metric.name == "gmsd" else [])
    listed = metrics.available().set_index("name")
    assert not listed.available["gmsd"] and listed.missing["gmsd"] == "some.pth" and listed.available["ssim"]
    noisy, clean = stack()
    with pytest.raises(ValueError, match=r"'gmsd' needs some.pth, not found here: `make weights`"):
        metrics.compute(pred=noisy, target=clean, names=["gmsd"], domain=intensity.domain("hu"))


def test_noise_sd_reads_the_noise_of_the_prediction_in_the_targets_tissue():
    rng = np.random.default_rng(0)
    clean = np.stack([body_slice(160)] * 2)
    noise = rng.normal(0, 1, clean.shape)
    pred = clean + noise * np.array([10.0, 30.0])[:, None, None]
    names = ["noise_sd_hu"]
    for domain in ("hu", "body"):
        table = metrics.compute(pred=pred, target=clean, names=names, domain=intensity.domain(domain))
        np.testing.assert_allclose(table["value"], [9.45, 28.35], rtol=0.06)  # the high-pass keeps .945
    air = np.full((1, 160, 160), -1000.0)
    assert np.isnan(metrics.compute(pred=air, target=air, names=names, domain=intensity.domain("hu"))["value"][0])


def test_noise_sd_inside_a_mask_leaves_out_the_tissue_outside():
    rng = np.random.default_rng(0)
    target = np.full((1, 160, 160), 40.0)
    mask = np.zeros(target.shape, bool)
    mask[..., :60] = True
    pred = target + rng.normal(0, 1, target.shape) * np.where(mask, 10, 40)
    given = {"pred": pred, "target": target, "names": ["noise_sd_hu"]}
    inside = metrics.compute(**given, domain=intensity.domain("body"), mask=mask)["value"][0]
    assert (
        inside == pytest.approx(9.45, rel=0.1)
        and metrics.compute(**given, domain=intensity.domain("hu"))["value"][0] > 25
    )


@pytest.mark.parametrize("domain", ["hu", "window"])
def test_on_real_pairs_every_metric_prefers_half_the_noise(test_data, domain):
    pairs = [
        tuple(np.load(path.with_name(path.name.replace("input", kind))) for kind in ("input", "target"))
        for path in sorted((test_data / "mayo_npy").glob("*_input.npy"))[:2]
    ]
    ldct, ndct = (intensity.from_net(np.stack(images).astype(np.float64)) for images in zip(*pairs))
    given = {"target": ndct, "names": sorted(set(FULL) - {"bias_hu"}), "domain": intensity.domain(domain)}
    low, half = (metrics.compute(pred=ndct + share * (ldct - ndct), **given) for share in (1, 0.5))
    for name, gain in zip(low["metric"], half["value"] - low["value"]):
        assert gain * metrics.info(name).direction > 0, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", FULL)
def test_a_gpu_gives_the_numbers_of_the_cpu(name):
    noisy, clean = stack(size=max(metrics.info(name).smallest, 64))
    given = {"pred": noisy, "target": clean, "names": [name], "domain": intensity.domain("hu")}
    cpu, gpu = (metrics.compute(**given, device=device)["value"] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu, cpu, rtol=1e-4 if name == "vif" else 1e-9)


def test_without_pyiqa_its_metrics_are_listed_as_missing_and_the_others_work(monkeypatch):
    """pyiqa is non-commercial, and some must leave it out."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pyiqa" else find(name, *rest))
    table = metrics.available().set_index("name")
    assert not table.available["vif"] and table.missing["vif"] == "the package pyiqa" and table.available["ssim"]
    with pytest.raises(ValueError, match="'vif' needs the package pyiqa, not found here"):
        metrics.compute(
            pred=body_slice()[None], target=body_slice()[None], names=["vif"], domain=intensity.domain("hu")
        )


# ---- slices without structure, and arrays of other kinds ----
def test_an_image_has_the_best_value_against_itself_even_without_any_structure():
    air = np.full((1, 192, 192), -1024.0)
    names = [name for name in metrics.names("full-reference") if metrics.available([name]).available.all()]
    names = [name for name in names if not np.isnan(metrics.info(name).best)]  # they look at tissue or body alone
    values = metrics.compute(pred=air, target=air, names=names, domain=intensity.domain("window", "abdomen"))
    best = {name: metrics.info(name).best for name in names}
    assert best["psnr"] == np.inf and best["vifp"] == 1 and best["rmse_hu"] == 0 and best["ssim"] == 1
    assert all(row.value == best[row.metric] for row in values.itertuples())


def test_a_value_outside_of_the_range_is_none_and_is_told_with_its_number():
    from ldct_utils.metrics import scores

    info = metrics.info("haarpsi")
    images = [torch.zeros(3, 8, 8), torch.arange(192.0).reshape(3, 8, 8)]
    found = scores.defined(info, np.array([0.5, np.inf, 1 + 1e-9]), images)
    assert found[0] == 0.5 and np.isnan(found[1]) and found[2] == pytest.approx(1)
    air = np.full((1, 64, 64), -1024.0)
    with pytest.warns(UserWarning, match=r"no value: piqe \(1 of 1 slices\); means leave them out"):
        metrics.compute(pred=air, names=["piqe"], domain=intensity.domain("hu"))


def test_any_byte_order_is_read_and_a_mask_is_never_lost():
    rng = np.random.default_rng(0)
    target, pred = rng.normal(0, 100, (2, 1, 32, 32))
    expected = metrics.compute(pred=pred, target=target, names=["rmse_hu"], domain=intensity.domain("hu")).value[0]
    swapped = pred.astype(">f8"), target.astype(">f8")
    found = metrics.compute(pred=swapped[0], target=swapped[1], names=["rmse_hu"], domain=intensity.domain("hu"))
    assert found.value[0] == expected
    masked = np.ma.masked_array(pred, mask=pred > 50)
    with pytest.raises(ValueError, match="masked array: fill what is masked"):
        metrics.compute(pred=masked, target=target, names=["rmse_hu"], domain=intensity.domain("hu"))
    unmasked = np.ma.masked_array(pred, mask=False)
    assert (
        metrics.compute(pred=unmasked, target=target, names=["rmse_hu"], domain=intensity.domain("hu")).value[0]
        == expected
    )
