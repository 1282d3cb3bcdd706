"""Finding planted structures: curves read on a grid, intervals over patients, scans again without lesions."""

import numpy as np
import pandas as pd
import pytest

from ldct_utils import cohorts, detection, hallucinations, segments, stats
from ldct_utils.cohorts import simulated

SMALL = {"patients": 2, "slices": 1, "size": 96, "anatomy": "head", "progress": False}


# ---- intervals over patients ----
def test_the_interval_of_a_mean_is_that_of_patients_and_not_of_rows():
    rng = np.random.default_rng(0)
    parts = [np.repeat(value, 50) for value in rng.normal(0, 1, 12)]
    value, low, high = detection.over_patients(parts, lambda those: np.concatenate(those).mean(), draws=4000)
    expected = stats.patient_bootstrap([one[0] for one in parts], draws=4000)
    assert value == pytest.approx(expected.mean)
    assert [low, high] == pytest.approx([expected.low, expected.high], abs=0.06)


def test_a_curve_gets_bounds_point_by_point_and_few_patients_get_none():
    parts = [np.full((3, 2), number) + np.arange(2.0) for number in range(8)]
    value, low, high = detection.over_patients(parts, lambda those: np.concatenate(those).mean(0), draws=200)
    assert value.shape == low.shape == high.shape == (2,) and (low < value).all() and (value < high).all()
    _, low, high = detection.over_patients(parts[:5], lambda those: np.concatenate(those).mean(0))
    assert np.isnan(low).all() and np.isnan(high).all()


def test_a_draw_without_any_structure_is_left_out_of_the_interval():
    parts = [np.array([1.0 if number else np.nan]) for number in range(6)]
    _, low, high = detection.over_patients(parts, lambda those: np.concatenate(those).mean(), draws=100)
    assert (low, high) == (1, 1)


def test_a_curve_is_read_where_it_has_got_to():
    curve = pd.DataFrame({"x": [0.0, 0.5, 0.5, 2.0], "y": [0.0, 0.1, 0.4, 1.0]})
    assert detection.at(curve, "x", "y", [0.0, 0.4, 0.5, 1.9, 9.0]).tolist() == [0.0, 0.0, 0.4, 0.4, 1.0]


# ---- what is commonly taken for a change ----
def test_the_naive_score_is_the_mean_over_its_error_and_the_rmse():
    rng = np.random.default_rng(0)
    ldct, regions = rng.normal(0, 20, (30, 30)), np.zeros((30, 30), int)
    regions[:5, :5], regions[10:20, 10:20] = 1, 2
    pred = np.where(regions == 2, ldct + 7, 0.9 * ldct)
    found = hallucinations.naive(ldct, pred, regions)
    change = (pred - ldct)[regions == 1]
    assert found["naive_z"][0] == pytest.approx(change.mean() / (change.std() / 5))
    np.testing.assert_allclose(found["srmse_hu"], segments.srmse(ldct, pred, regions))
    assert found["srmse_hu"][1] == pytest.approx(7)
    assert not hallucinations.naive(ldct, ldct, regions)[["naive_z", "srmse_hu"]].to_numpy().any()


def test_what_is_tolerated_takes_edges_off_the_list_and_leaves_a_lost_structure_on_it():
    labels, spectrum = np.zeros((64, 64), int), np.full((32, 32), 4.0)
    labels[8:24, 8:24], labels[36:52, 36:52] = 1, 2
    truth = np.where(labels == 1, 400.0, np.where(labels == 2, 20.0, 0.0))
    pred = np.where(labels == 1, 380.0, 0.0)  # 5 % of the strong one, all of the faint one
    strict, lenient = (
        hallucinations.score(truth, pred, labels, spectrum, 1.0, local=False, tolerated=share) for share in (0.0, 0.1)
    )
    np.testing.assert_array_equal(strict["change_hu"], lenient["change_hu"])
    assert strict["z"].abs().min() > 30 and strict["z"].tolist()[0] == pytest.approx(strict["z"].tolist()[1])
    assert lenient["z"].tolist() == pytest.approx(
        [-20 / np.hypot(strict["sd_hu"][0], 40), -20 / np.hypot(strict["sd_hu"][1], 2)]
    )


# ---- lesion-free scans ----
@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDCT_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield cohorts.get(**SMALL)


def test_a_slice_scanned_again_has_no_lesions_and_new_noise_of_the_same_strength(cohort):
    row = 1
    found = hallucinations.lesion_free(cohort, row, 4, seed=5)
    assert found["ldct"].shape == (4, 96, 96) and found["truth"].dtype == np.int16
    body = simulated.patient_again(cohort, cohort.slices.patient[row])[0]
    assert np.abs(found["truth"].astype(int) - cohort.absent_truth[row]).max() <= 1
    assert (cohort.lesion_masks[row] > 0).any() and np.ptp(body.scene[0] - body.absent_scene[0]) > 1
    for name in ("ldct", "ndct"):
        noise = found[name].astype(float) - found["truth"]
        stored = getattr(cohort, f"absent_{name}")[row].astype(float) - cohort.absent_truth[row]
        assert noise.std() == pytest.approx(stored.std(), rel=0.1)
        assert abs(np.corrcoef([*noise.reshape(4, -1), stored.ravel()]) - np.eye(5)).max() < 0.1
    both = (found["ldct"].astype(float) - found["ndct"]), found["ndct"].astype(float) - found["truth"]
    assert both[0].std() / both[1].std() == pytest.approx(3**0.5, rel=0.05)  # the LDCT holds the NDCT's own noise


def test_lesion_free_scans_come_in_pairs(cohort):
    with pytest.raises(ValueError, match="an even number, not 3"):
        hallucinations.lesion_free(cohort, 0, 3, 0)


# ---- segments ----
def test_overlapping_masks_become_a_label_map_with_the_smallest_on_top():
    masks = np.zeros((3, 6, 6), bool)
    masks[0, 2:4, 2:4], masks[1, :, :], masks[2, 1:5, 1:5] = True, True, True
    labels = segments.flat(masks)
    assert (labels[2:4, 2:4] == 1).all() and labels[0, 0] == 2 and labels[1, 1] == 3
    assert segments.flat(labels) is labels and segments.link(np.stack([labels, labels])).max() == 3


def test_what_is_left_out_is_counted_by_rule():
    image = np.full((96, 96), -1000.0)
    image[16:80, 16:80] = 40.0
    image[30:40, 30:40] = 90.0
    image[88:94, 10:60] = 200.0  # the table
    rng = np.random.default_rng(0)
    image += rng.normal(0, 5, image.shape)
    none = {"min_area": 1, "max_share": np.inf, "min_inside": 0}
    every = segments.segment(image, **none)
    assert not any(every.left_out.values())
    for rule, name, strict in (
        ("min_area", "small", 150),
        ("max_share", "large", 0.5),
        ("min_inside", "background", 0.5),
    ):
        found = segments.segment(image, **none | {rule: strict})
        assert found.left_out[name] >= 1 and sum(found.left_out.values()) == found.left_out[name]
        assert len(found) + found.left_out[name] == len(every)
    found = segments.segment(image, min_area=150)  # each is counted once, whatever rules it breaks
    assert len(found) + sum(found.left_out.values()) == len(every)
