"""SRMSE: worked examples, identities, the differentiable form, and the two registered metrics."""

import numpy as np
import pytest
import torch

from ldct_utils import metrics, segments
from ldct_utils.ct import intensity
from ldct_utils.metrics import segmentwise
from ldct_utils.training import losses


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def blocks(side=8, count=4):
    """Label map of count x count squares of ``side`` pixels that cover the image."""
    return np.kron(np.arange(1, count**2 + 1).reshape(count, count), np.ones((side, side), int))


def organs(seed=0, size=96, noise=12.0):
    """(target, prediction) of a body with structures, HU."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    image = np.where(np.hypot(x, y) < 0.45 * size, 40.0, -1000.0)
    for row, column, radius, hu in ((-20, 0, 9, 250.0), (15, -15, 10, -90.0), (14, 16, 7, 120.0), (0, 20, 4, -60.0)):
        image[np.hypot(x - column, y - row) < radius] = hu
    noisy = image + noise * rng.standard_normal(image.shape)
    return noisy, noisy + 20 * rng.standard_normal(image.shape)


# ---- the definition ----
def test_worked_example_of_four_errors_of_1_and_one_of_5():
    labels = np.array([[1, 1, 1, 1, 2]])
    pred, target = np.array([[1.0, 1, 1, 1, 5]]), np.zeros((1, 5))
    np.testing.assert_allclose(segments.srmse(pred, target, labels), [1, 5])
    assert segments.mean_srmse(pred, target, labels) == pytest.approx(3)
    assert segments.max_srmse(pred, target, labels) == pytest.approx(5)
    everything = np.ones((1, 1, 5), bool)
    assert segments.mean_srmse(pred, target, everything) == pytest.approx(np.sqrt(29 / 5))
    assert segments.max_srmse(pred, target, everything) == pytest.approx(2.408319, abs=1e-6)


def test_ten_pixels_of_a_million_off_by_100_hu_are_316_thousandths_of_rmse_and_100_of_srmse():
    pred, mask = np.zeros((1000, 1000)), np.zeros((1000, 1000), np.int32)
    pred[500, :10], mask[500, :10] = 100, 1
    assert np.sqrt(np.mean(pred**2)) == pytest.approx(0.316, abs=5e-4)
    assert segments.max_srmse(pred, np.zeros_like(pred), mask) == pytest.approx(100)


def test_equal_segments_that_cover_the_image_average_to_the_mse_and_not_above_the_rmse(rng):
    pred, target = rng.normal(0, 30, (2, 32, 32))
    errors = segments.srmse(pred, target, blocks())
    mse = np.mean((pred - target) ** 2)
    assert np.mean(errors**2) == pytest.approx(mse)
    assert errors.mean() < np.sqrt(mse)


def test_equal_images_score_zero_and_a_shift_scores_its_size(rng):
    image = rng.normal(0, 30, (32, 32))
    assert not segments.srmse(image, image, blocks()).any()
    np.testing.assert_allclose(segments.srmse(image - 7, image, blocks()), 7)


def test_an_error_in_one_segment_is_shared_by_all(rng):
    target, labels = rng.normal(0, 30, (32, 32)), blocks()
    pred = np.where(labels == 5, target + rng.normal(0, 9, target.shape), target)
    errors = segments.srmse(pred, target, labels)
    assert np.count_nonzero(errors) == 1
    assert segments.mean_srmse(pred, target, labels) == pytest.approx(errors[4] / 16)


def test_prediction_and_target_swap_and_scale(rng):
    pred, target = rng.normal(0, 30, (2, 32, 32))
    errors = segments.srmse(pred, target, blocks())
    np.testing.assert_allclose(segments.srmse(target, pred, blocks()), errors)
    np.testing.assert_allclose(segments.srmse(-2.5 * pred, -2.5 * target, blocks()), 2.5 * errors)


def test_masks_labels_and_volumes_agree_and_masks_may_overlap(rng):
    pred, target = rng.normal(0, 30, (2, 4, 16, 32, 32))[:, 0]
    labels = rng.integers(0, 6, pred.shape)
    expected = [np.sqrt(np.mean((pred - target)[labels == s] ** 2)) for s in range(1, 6)]
    np.testing.assert_allclose(segments.srmse(pred, target, labels), expected)
    masks = segments.masks_of(labels)
    np.testing.assert_allclose(segments.srmse(pred, target, masks), expected)
    twice = segments.srmse(pred, target, np.concatenate([masks, masks[:1] | masks[1:2]]))
    assert min(expected[:2]) < twice[-1] < max(expected[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regions": np.zeros((8, 8), int)}, "there is no segment"),
        ({"regions": np.zeros((0, 8, 8), bool)}, "there is no segment"),
        ({"regions": np.zeros((2, 8, 8), bool)}, "segment 1 has no pixel"),
        ({"regions": np.full((8, 8), 2)}, "segment 1 has no pixel"),
        ({"regions": np.ones((8, 8))}, "not as float64"),
        ({"regions": np.ones((8, 9), int)}, r"shape \(8, 9\) do not belong to images of shape \(8, 8\)"),
        ({"regions": np.ones((8, 8), bool)}, "do not belong"),
        ({"target": np.zeros((4, 8))}, "differ in shape"),
    ],
)
def test_srmse_refuses_what_would_be_nan(change, message):
    with pytest.raises(ValueError, match=message):
        segments.srmse(
            **{"pred": np.ones((8, 8)), "target": np.zeros((8, 8)), "regions": np.ones((8, 8), int)} | change
        )


# ---- for training ----
def test_the_differentiable_form_gives_the_same_numbers(rng):
    pred, target = (torch.from_numpy(rng.normal(0, 30, (3, 1, 32, 32))) for _ in range(2))
    labels = np.stack([blocks(), blocks().T, np.where(blocks() > 7, blocks() + 40, 0)])
    found = segments.mean_srmse_torch(pred, target, torch.from_numpy(labels))
    dense = [labels[0], labels[1], np.where(labels[2] > 0, labels[2] - 47, 0)]
    expected = [segments.mean_srmse(p[0], t[0], r) for p, t, r in zip(pred.numpy(), target.numpy(), dense)]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_its_gradient_is_that_of_finite_differences_and_zero_where_nothing_is_wrong(rng):
    labels = torch.from_numpy(blocks(2, 2)[None])
    target = torch.from_numpy(rng.normal(0, 1, (1, 1, 4, 4)))
    pred = (target + torch.from_numpy(rng.normal(0, 1, (1, 1, 4, 4)))).requires_grad_()
    (slope,) = torch.autograd.grad(segments.mean_srmse_torch(pred, target, labels).sum(), pred)
    for row, column in ((0, 0), (1, 3), (3, 2)):
        step = torch.zeros_like(target)
        step[0, 0, row, column] = 1e-5
        ends = [segments.mean_srmse(*(x.detach()[0, 0] for x in (pred + k * step, target)), labels[0]) for k in (1, -1)]
        assert slope[0, 0, row, column].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)
    same = target.clone().requires_grad_()
    (slope,) = torch.autograd.grad(segments.mean_srmse_torch(same, target, labels).sum(), same)
    assert not slope.any()


def test_small_pieces_and_images_without_segments_count_nothing(rng):
    pred, target = (torch.from_numpy(rng.normal(0, 30, (2, 8, 8))) for _ in range(2))
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[0, :4], labels[0, 7, 7] = 1, 2
    found = segments.mean_srmse_torch(pred, target, labels, min_area=4)
    expected = (pred - target)[0, :4].square().mean().sqrt().item()
    np.testing.assert_allclose(found, [expected, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="do not fit"):
        segments.mean_srmse_torch(pred, target, labels[:1])


def test_it_takes_gradients_beside_other_losses(rng):
    labels = torch.from_numpy(blocks()[None])
    target = torch.from_numpy(rng.normal(0, 0.1, (1, 1, 32, 32)))
    pred = torch.zeros_like(target, requires_grad=True)
    (losses.mse(pred, target) + segments.mean_srmse_torch(pred, target, labels)).sum().backward()
    assert pred.grad.isfinite().all() and pred.grad.abs().sum() > 0


# ---- the metrics ----
def test_the_metrics_are_srmse_over_the_segments_of_the_target():
    target, pred = organs()
    regions = segments.segment(target.astype(np.float32)).regions
    table = metrics.compute(
        pred=pred[None], target=target[None], names=["mean_srmse", "max_srmse"], domain=intensity.domain("hu")
    )
    expected = [segments.mean_srmse(pred, target, regions), segments.max_srmse(pred, target, regions)]
    np.testing.assert_allclose(table["value"], expected)
    assert expected[0] == pytest.approx(20, rel=0.15) and regions.max() > 5


def test_a_lost_structure_moves_the_maximum_more_than_the_rmse():
    target, _ = organs(noise=2.0)
    y, x = np.mgrid[:96, :96] - 48
    pred = target.copy()
    pred[np.hypot(x - 20, y) < 4] += 100
    given = {"pred": pred[None], "target": target[None], "domain": intensity.domain("hu")}
    most, rmse = metrics.compute(names=["max_srmse", "rmse_hu"], **given)["value"]
    assert rmse < 10 and most > 80


def test_many_predictions_of_one_target_segment_it_once(monkeypatch):
    target, pred = organs(seed=9)
    calls, find = [], segments.segment
    monkeypatch.setattr(segmentwise.segments, "segment", lambda image: calls.append(1) or find(image))
    for shift in range(3):
        given = {"pred": np.stack([pred + shift] * 2), "target": np.stack([target] * 2)}
        metrics.compute(**given, names=["mean_srmse", "max_srmse"], domain=intensity.domain("hu"))
    assert len(calls) == 1


def test_inside_a_mask_only_what_lies_there_counts():
    target, pred = organs(seed=2)
    mask = np.zeros(target.shape, bool)
    mask[:, :48] = True
    given = {"target": target[None], "names": ["mean_srmse"], "domain": intensity.domain("body"), "mask": mask[None]}
    inside = metrics.compute(pred=pred[None], **given)["value"][0]
    assert metrics.compute(pred=np.where(mask, pred, 5000)[None], **given)["value"][0] == inside > 0
    given["mask"] = np.zeros((1, *mask.shape), bool)
    assert np.isnan(metrics.compute(pred=pred[None], **given)["value"][0])


def test_a_slice_without_structures_has_no_srmse():
    air = np.full((1, 64, 64), -1000.0)
    given = {"pred": air + 5, "target": air, "names": ["mean_srmse", "max_srmse"], "domain": intensity.domain("hu")}
    assert metrics.compute(**given)["value"].isna().all()


def test_on_real_pairs_every_organ_counts_alike(test_data):
    pair = [np.load(test_data / "mayo_npy" / f"L506_88_{kind}.npy").astype(float) for kind in ("input", "target")]
    ldct, ndct = (intensity.from_net(image) for image in pair)
    given = {"pred": ldct[None], "target": ndct[None], "domain": intensity.domain("hu")}
    mean, most, rmse = metrics.compute(names=["mean_srmse", "max_srmse", "rmse_hu"], **given)["value"]
    assert 10 < mean < most and mean > rmse  # half of the slice is air without noise
