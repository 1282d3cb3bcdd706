"""What needs no network: known answers of the noise number, the lookup and the constant, and who they learn from."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.noise2quality import baselines, scoring

DOSES = (0.05, 0.10, 0.25, 0.50, 0.75)
SSIM = ("ssim", 40.0, 300.0)


def discs(patients=6, size=96, noise_hu=8.0, seed=0):
    """Discs of tissue, the inserted noise white: a cohort in memory, the last two of its patients for the test."""
    rng = np.random.default_rng(seed)
    grid = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
    clean = np.where(grid < 0.9, 60.0, -1000.0)[None]
    ndct = clean + rng.normal(0, noise_hu, (patients, size, size))
    ldct = ndct + rng.normal(0, noise_hu * 3**0.5, ndct.shape)  # three times the variance more: a quarter of the dose
    about = pd.DataFrame({"row": range(patients), "dose": 0.25, "patient": [f"P{i}" for i in range(patients)],
                          "anatomy": "abdomen", "split": ["train"] * (patients - 2) + ["test"] * 2})  # fmt: skip
    rows = lambda split: about.row[about.split == split].to_numpy()  # noqa: E731
    return SimpleNamespace(id="x", slices=about, ldct=ldct, ndct=ndct, rows=rows)


@pytest.fixture(scope="module")
def cohort():
    return discs()


@pytest.fixture(scope="module")
def fitted(cohort):
    return baselines.fit(cohort, cohort.rows("train"), DOSES, *SSIM)


def test_the_noise_number_is_the_spread_of_high_passed_noise(cohort):
    rng = np.random.default_rng(1)
    image = np.full((96, 96), 60.0) + rng.normal(0, 10, (96, 96))
    kernel = np.exp(-(np.arange(-6, 7) ** 2) / (2 * 1.5**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    passed = -kernel
    passed[6, 6] += 1  # what is left of a pixel of white noise
    assert baselines.noise_number(image) == pytest.approx(10 * np.sqrt((passed**2).sum()), rel=0.05)
    assert np.isnan(baselines.noise_number(np.full((96, 96), -1000.0)))


def test_one_noise_number_names_every_dose_where_noise_is_all_that_differs(cohort, fitted):
    expected = np.sqrt(1 / np.array(DOSES))  # noise goes as one over the root of the dose
    assert fitted.numbers_hu / fitted.numbers_hu[0] == pytest.approx(expected / expected[0], rel=0.05)
    for one in cohort.slices[cohort.slices.split == "test"].itertuples():
        low, _ = scoring.at_doses(cohort, one, DOSES)
        assert [fitted.dose(image) for image in low] == list(DOSES)
    assert np.isnan(fitted.dose(np.full((96, 96), -1000.0)))


def test_statistics_of_a_constant_and_of_white_noise():
    assert np.allclose(baselines.statistics(np.full((32, 32), 0.3)), np.array([0.3, 0, 0])[:, None, None], atol=1e-7)
    mean, spread, high = baselines.statistics(0.5 + np.random.default_rng(0).normal(0, 0.1, (256, 256)))
    peak, power = 1 / (2 * np.pi * 1.5**2), 1 / (4 * np.pi * 1.5**2)  # of the window: its middle, its squares' sum
    assert (mean.mean(), mean.std()) == pytest.approx((0.5, 0.1 * power**0.5), abs=1e-3)
    assert (spread**2).mean() == pytest.approx(0.01 * (1 - power), rel=0.02)
    assert (high**2).mean() == pytest.approx(0.01 * (1 - 2 * peak + power), rel=0.02)
    assert high.std() < spread.std()  # its window is wider


def test_the_lookup_is_the_mean_of_its_bin_and_an_empty_bin_takes_the_nearest():
    bins, values = [np.array([0, 0, 2]), np.array([1, 1, 0])], np.array([1.0, 3.0, 7.0])
    found = baselines._means(bins, values, [3, 2])
    assert found[0, 1] == 2 and found[2, 0] == 7 and found[0, 0] == 2 and found[2, 1] == 7
    assert np.isfinite(found).all()


def test_the_lookup_sees_quality_and_the_constant_does_not(cohort, fitted):
    about = cohort.slices[cohort.slices.split == "test"]
    scores, classes = scoring.score(cohort, about, DOSES, *SSIM, fitted.raters())
    means = scores[(scores.region == "body") & (scores.metric == "mse")].groupby("model").value.mean()
    assert means["lookup"] < 0.5 * means["constant"]
    assert (classes.model == "noise number").all() and (classes.predicted == classes.dose).all()
    flat = scores[(scores.model == "constant") & (scores.metric == "mean")]
    assert np.allclose(flat.value, fitted.constant)
    bias = scores[(scores.model == "constant") & (scores.metric == "bias") & (scores.region == "whole")].value
    assert bias.mean() == pytest.approx(0, abs=0.01) and bias.abs().max() > 0.1


def test_nothing_is_learned_from_test_patients(cohort, fitted):
    other = discs()
    rows = other.rows("test")
    other.ldct, other.ndct = other.ldct.copy(), other.ndct.copy()
    other.ldct[rows] += 500  # would move every edge, mean and noise level
    again = baselines.fit(other, other.rows("train"), DOSES, *SSIM)
    assert again.constant == fitted.constant and np.array_equal(again.table, fitted.table)
    assert np.array_equal(again.numbers_hu, fitted.numbers_hu)
    assert all(np.array_equal(*pair) for pair in zip(again.edges, fitted.edges))


def test_what_cannot_be_fitted_is_refused(cohort):
    with pytest.raises(ValueError, match="no training slices"):
        baselines.fit(cohort, [], DOSES, *SSIM)
    air = SimpleNamespace(id="x", slices=cohort.slices, ldct=cohort.ldct * 0 - 1000, ndct=cohort.ndct * 0 - 1000)
    with pytest.raises(ValueError, match="enough soft tissue"):
        baselines.fit(air, [0, 1], DOSES, *SSIM)


def test_slices_are_spread_evenly_over_every_patient():
    about = pd.DataFrame({"row": range(9), "patient": ["a"] * 7 + ["b"] * 2})
    assert list(scoring.spread(about, 3).row) == [0, 3, 6, 7, 8]
    assert list(scoring.spread(about, 1).row) == [0, 7]


def test_of_a_larger_slice_the_middle_is_rated():
    wide = discs(3, size=20)
    one = next(wide.slices.itertuples())
    low, ndct = scoring.at_doses(wide, one, DOSES, 16)
    assert low.shape == (5, 16, 16) and np.array_equal(ndct, wide.ndct[0, 2:18, 2:18].astype(np.float32))
    assert np.allclose(low[2], wide.ldct[0, 2:18, 2:18], atol=1e-3)
    assert scoring.at_doses(wide, one, DOSES, 64)[1].shape == scoring.at_doses(wide, one, DOSES)[1].shape == (20, 20)
