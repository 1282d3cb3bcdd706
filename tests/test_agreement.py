"""Agreement of losses and metrics: against SciPy, and where the answer is known by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ldct_utils.audit import agreement
from ldct_utils.stats import intervals


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
    weights = np.vstack([np.full(7, 1 / 7), np.eye(7)[2], intervals.patient_draws(7, 1, seed=1)[0]])
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
    np.testing.assert_array_equal(agreement.align([-3.0, 2.0, 2.0], [0, -1, 1]), [-3, -2, 2])
    with pytest.raises(ValueError, match="got nan"):  # a name without a direction
        agreement.align([1.0, 2.0], [1, np.nan])
    with pytest.raises(ValueError, match="direction is -1, 0 or 1, got 2"):
        agreement.align([1.0], 2)


def test_two_curves_that_rise_steadily_agree_raw_but_not_in_their_changes():
    rng = np.random.default_rng(5)
    rising = np.arange(60.0)[:, None] + rng.normal(0, 0.3, (60, 2))
    assert agreement.spearman(rising[None])[0, 0, 1] > 0.99
    assert abs(agreement.spearman(rising[None], detrend=True)[0, 0, 1]) < 0.35


def test_curves_whose_steps_shrink_agree_in_their_changes_as_well():
    t = np.arange(6.0)
    curves = 1 - np.exp(-t[:, None] / [2, 4])
    assert agreement.spearman(curves[None], detrend=True)[0, 0, 1] == pytest.approx(1)


def trained(seed, shared):
    """A run's loss and metric: the same course in every run, and scatter that both share or each has of its own."""
    rng = np.random.default_rng(seed)
    course = 1 - np.exp(-np.arange(12.0) / 3)
    scatter = rng.normal(0, 0.1, (12, 2))
    scatter[:, 1] = scatter[:, 0] if shared else scatter[:, 1]
    return np.repeat((course[:, None] + scatter)[:, None], 4, axis=1)  # (steps, patients, quantities)


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_run_shares_with_itself_is_told_from_the_course_of_every_training(shared):
    runs = [trained(seed, shared) for seed in range(40)]
    own, others = agreement.own_and_others(runs, ["a", "b"] * 20, 1, agreement.spearman)
    assert own.shape == others.shape == (40, 1, 1, 1)
    assert others.mean() > 0.7  # of curves that rise
    assert (own - others).mean() == pytest.approx(0.2 if shared else 0.0, abs=0.06)
    changes, between = (x.mean() for x in agreement.own_and_others(runs, ["a"] * 40, 1, agreement.spearman, True))
    assert between < 0.4 and changes == pytest.approx(1.0 if shared else between, abs=0.15)


def test_other_runs_are_those_of_the_same_design_and_without_any_there_is_nothing_to_compare(curves):
    weights = intervals.patient_draws(7, 3, 0)
    runs = [curves, curves[::-1] ** 3, curves**2]
    own, others = agreement.own_and_others(runs, ["a", "b", "a"], 2, agreement.kendall, True, weights)
    assert np.isnan(others[1]).all() and np.isfinite(others[[0, 2]]).all() and own.shape == (3, 3, 2, 2)
    drawn = agreement.means(curves, weights), agreement.means(curves**2, weights)
    by_hand = scipy_stats.kendalltau(np.diff(drawn[0][1, :, 0]), np.diff(drawn[1][1, :, 3])).statistic
    assert others[0, 1, 0, 1] == pytest.approx(by_hand)
    mean = agreement.over_runs(others, np.tile([0.5, 0.25, 0.25], (3, 1)))
    np.testing.assert_allclose(mean, (2 * others[0] + others[2]) / 3)


def test_pairs_are_the_correlations_of_mean_curves_and_rise_with_a_shared_course(curves):
    curves = np.stack([curves[..., 0], -curves[..., 0], curves[..., 2]], axis=-1)  # a loss, its opposite, and one more
    other = curves + np.random.default_rng(8).normal(0, 2, curves.shape)
    found = agreement.pairs([curves, other], ["a", "a"], ["mse"], ["opposite", "free"], draws=50)
    assert len(found) == 2 * 2 * 2 and set(found.kind) == {"spearman", "kendall"}
    opposite = found[found.metric == "opposite"]
    assert (opposite.lowest_run == -1).all() or np.allclose(opposite.lowest_run, -1)
    plain = found[(found.kind == "kendall") & ~found.detrended & (found.metric == "free")].iloc[0]
    by_hand = [
        scipy_stats.kendalltau(a.mean(1)[:, 0], b.mean(1)[:, 2]).statistic
        for a, b in [(curves, curves), (other, other), (curves, other), (other, curves)]
    ]
    assert plain["mean"] == pytest.approx(np.mean(by_hand[:2])) and plain.others == pytest.approx(np.mean(by_hand[2:]))
    assert plain.gain == pytest.approx(plain["mean"] - plain.others) and plain.gain_low <= plain.gain <= plain.gain_high
    assert plain.lowest_run == pytest.approx(min(by_hand[:2])) and plain.low <= plain["mean"] <= plain.high
    alone = agreement.pairs([curves[:, :1]], ["a"], ["mse"], ["opposite", "free"], draws=50)  # as in Mayo's validation
    assert alone["mean"].notna().all() and alone[["low", "high", "gain_low"]].isna().all(axis=None)
    few = agreement.pairs([curves[:, :5]], ["a"], ["mse"], ["opposite", "free"], draws=50)
    assert few[["low", "high", "others", "gain", "gain_low", "gain_high"]].isna().all(axis=None)


def test_a_table_of_scores_becomes_curves_of_patient_means():
    rows = [
        {"step": step, "patient": patient, "name": name, "aligned": 100 * step + 10 * number + q + extra}
        for step in (0, 8, 16)
        for number, patient in enumerate(("P2", "P7"))
        for q, name in enumerate(("ssim", "mse"))
        for extra in (-0.5, 0.5)  # two slices
    ]
    found = agreement.cube(pd.DataFrame(rows).sample(frac=1, random_state=0), ["ssim", "mse"])
    steps, patients, quantities = np.ogrid[:3, :2, :2]
    np.testing.assert_allclose(found, 800 * steps + 10 * patients + quantities)


def test_erratic_curves_are_told_from_smooth_ones():
    smooth, saw = np.arange(8.0) ** 2, np.array([0.0, 2, 1, 3, 2, 4, 3, 5])
    both = np.stack([smooth, saw], axis=1)
    np.testing.assert_allclose(agreement.sign_changes(both), [0, 1])
    np.testing.assert_allclose(agreement.roughness(both), [1, 11 / 5])
    assert np.isnan(agreement.sign_changes([1.0, 1, 1])) and agreement.roughness([0.0, 1, 0]) == np.inf
    np.testing.assert_allclose(agreement.setback(both), [0, 3])
    assert np.isnan(agreement.sign_changes([0.0, 1, 0])) and agreement.sign_changes([0.0, 1, 0, 1]) == 1
    noise = np.random.default_rng(0).normal(0, 2.0, (20_001, 1))
    assert agreement.sign_changes(noise)[0] == pytest.approx(2 / 3, abs=0.02)
    assert agreement.jitter(noise)[0] == pytest.approx(2.0, rel=0.03)


def test_a_smooth_curve_has_no_scatter_and_few_checkpoints_none_that_is_known():
    saturating = 1 - np.exp(-np.arange(12.0) / 2)
    assert agreement.jitter(saturating) < 0.003 and agreement.jitter(3 * np.arange(12.0)) == pytest.approx(0)
    assert agreement.jitter(saturating[:11]) < 0.005
    assert np.isnan(agreement.jitter(saturating[:10])) and np.isnan(agreement.jitter(np.ones((6, 3)))).all()


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
        low, high = intervals.interval(agreement.means(curves, intervals.patient_draws(8, 400, trial))[:, 0, 0], 8)
        hits += low < 1.0 < high
    assert hits / 200 > 0.89
