"""Agreement of losses and metrics: against SciPy, and where the answer is known by hand."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ldct_utils import agreement


@pytest.fixture
def curves():
    rng = np.random.default_rng(3)
    curves = rng.normal(size=(9, 7, 4)).cumsum(axis=0)
    curves[..., 3] = np.round(curves[..., 3])  # ties
    return curves


@pytest.mark.parametrize("detrend", [False, True])
@pytest.mark.parametrize(
    "ours, theirs", [(agreement.spearman, scipy_stats.spearmanr), (agreement.kendall, scipy_stats.kendalltau)]
)
def test_correlations_over_checkpoints_are_scipys(curves, ours, theirs, detrend):
    weights = np.vstack([np.full(7, 1 / 7), np.eye(7)[2], agreement.patient_draws(7, 1, seed=1)[0]])
    found = ours(agreement.means(curves, weights), detrend)
    assert found.shape == (3, 4, 4)
    for draw, weight in enumerate(weights):
        mean = np.einsum("p,spq->sq", weight, curves)
        mean = np.diff(mean, axis=0) if detrend else mean
        for i in range(4):
            for j in range(4):
                assert found[draw, i, j] == pytest.approx(theirs(mean[:, i], mean[:, j]).statistic, abs=1e-12)


def test_a_constant_curve_agrees_with_nothing():
    curve = np.stack([np.arange(5.0), np.full(5, 0.1)], axis=1)[None]
    for found in (agreement.spearman(curve), agreement.kendall(curve)):
        assert found[0, 0, 0] == pytest.approx(1) and np.isnan(found[0, [0, 1, 1], [1, 0, 1]]).all()


def test_alignment_makes_psnr_and_mse_agree_perfectly():
    mse = np.random.default_rng(0).uniform(0.01, 1, 20)
    psnr = -10 * np.log10(mse)
    aligned = np.stack([agreement.align(psnr, 1), agreement.align(mse, -1)], axis=1)[None]
    assert agreement.spearman(aligned)[0, 0, 1] == pytest.approx(1)
    assert agreement.kendall(aligned)[0, 0, 1] == pytest.approx(1)
    np.testing.assert_array_equal(agreement.align([-3.0, 2.0], 0), [-3, -2])
    with pytest.raises(ValueError, match="direction is -1, 0 or 1, got 2"):
        agreement.align([1.0], 2)


def test_two_rising_curves_agree_raw_but_not_in_their_changes():
    rng = np.random.default_rng(5)
    rising = np.arange(60.0)[:, None] + rng.normal(0, 0.3, (60, 2))
    assert agreement.spearman(rising[None])[0, 0, 1] > 0.99
    assert abs(agreement.spearman(rising[None], detrend=True)[0, 0, 1]) < 0.35


def test_erratic_curves_are_told_from_smooth_ones():
    smooth, saw = np.arange(8.0) ** 2, np.array([0.0, 2, 1, 3, 2, 4, 3, 5])
    both = np.stack([smooth, saw], axis=1)
    np.testing.assert_allclose(agreement.sign_changes(both), [0, 1])
    np.testing.assert_allclose(agreement.roughness(both), [1, 11 / 5])
    assert np.isnan(agreement.sign_changes([1.0, 1, 1])) and agreement.roughness([0.0, 1, 0]) == np.inf
    noise = np.random.default_rng(0).normal(0, 2.0, (20_001, 1))
    assert agreement.sign_changes(noise)[0] == pytest.approx(2 / 3, abs=0.02)
    assert agreement.jitter(noise)[0] == pytest.approx(2.0, rel=0.03)


def test_kendall_w_is_one_for_equal_raters_and_known_otherwise():
    assert agreement.kendall_w(np.tile([3.0, 1, 2, 9], (4, 1))) == pytest.approx(1)
    assert agreement.kendall_w([[1.0, 2, 3], [3.0, 2, 1]]) == pytest.approx(0)
    # for two raters without ties W = (rho + 1) / 2
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(2, 12))
    rho = scipy_stats.spearmanr(*scores).statistic
    assert agreement.kendall_w(scores) == pytest.approx((rho + 1) / 2)
    # W is tied to Friedman's chi squared, ties included: W = chi2 / (m (n - 1))
    tied = rng.integers(0, 4, (5, 6)).astype(float)
    chi2 = scipy_stats.friedmanchisquare(*tied.T).statistic
    assert agreement.kendall_w(tied) == pytest.approx(chi2 / (5 * 5))
    assert np.isnan(agreement.kendall_w([[1.0, 2]])) and np.isnan(agreement.kendall_w([[1.0, 1], [2, 3]]))


def test_a_pick_costs_nothing_by_its_own_metric():
    curve = np.array([[0.0, 10], [2, 8], [1, 5]])
    chosen, cost = agreement.picks(curve)
    np.testing.assert_array_equal(chosen, [1, 0])
    np.testing.assert_allclose(cost, [[0, 0.4], [1, 0]])
    assert np.isnan(agreement.picks(np.array([[0.0, 1], [1, 1]]))[1][0, 1])
    chosen, cost = agreement.picks(np.array([[0.0, np.nan], [1, 1], [2, 3]]))
    assert list(chosen) == [2, -1] and cost[0, 0] == 0 and np.isnan(cost[[0, 1, 1], [1, 0, 1]]).all()


def test_intervals_cover_the_mean_over_patients():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        patients = rng.normal(1.0, 1.0, 8)
        curves = np.stack([patients, patients])[:, :, None]  # two equal steps, one quantity
        low, high = agreement.interval(agreement.means(curves, agreement.patient_draws(8, 400, trial))[:, 0, 0], 8)
        hits += low < 1.0 < high
    assert hits / 200 > 0.89
