"""Statistics: published effect sizes, exact p values, false-positive rates under simulated nulls, refusals."""

import itertools
import json
import re
from pathlib import Path

import finished_runs
import matplotlib.pyplot as plt
import notebook_cells
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, t, ttest_1samp
from statsmodels.regression.mixed_linear_model import MixedLM

from ldct_utils.metrics import comparison, info
from ldct_utils.report import plots
from ldct_utils.stats import intervals, paired, ranking
from ldct_utils.study import runs

ROOT = Path(__file__).resolve().parents[1]

PATIENTS, SLICES = 10, 4
PATIENT_OF = np.repeat(np.arange(PATIENTS), SLICES)


def null_differences(rng, patient_sd=0.004, slice_sd=0.002):
    """Differences of two equally good methods, (patients, slices): each patient gains or loses something of its own."""
    return rng.normal(0, patient_sd, (PATIENTS, 1)) + rng.normal(0, slice_sd, (PATIENTS, SLICES))


def scores(values, seeds=(0,), first_row=0):
    """A score table from an array (patients, slices, seeds)."""
    values = np.asarray(values, dtype=float).reshape(len(values), -1, len(seeds))
    records = [
        (first_row + p * values.shape[1] + z, f"P{p:03d}", seed, values[p, z, s])
        for p in range(values.shape[0])
        for z in range(values.shape[1])
        for s, seed in enumerate(seeds)
    ]
    return pd.DataFrame(records, columns=["row", "patient", "seed", "value"])


def false_positives(test, draws=200):
    """How often ``test`` fires when method labels are swapped within patients, where patients differ in what they gain.

    Args: test: differences (patients, slices) -> whether they are significant.
    """
    rng = np.random.default_rng(11)
    differences = null_differences(rng)
    return sum(bool(test(differences * rng.choice([-1, 1], (PATIENTS, 1)))) for _ in range(draws))


# Where a test with a true rate of 5 % falls 99.9 % of the time in 200 swaps (10 patients allow a Wilcoxon 4.9 %).
LOW, HIGH = binom.ppf([0.0005, 0.9995], 200, 0.05)


@pytest.mark.parametrize(("experiment", "expected"), [("baseline", 0.311), ("E2", 0.236), ("E3", 0.855), ("E4", 0.166)])
def test_published_means_and_sds_give_the_published_effect_sizes(experiment, expected):
    d = paired.d_from(*comparison.PUBLISHED["E1"]["ssim"], *comparison.PUBLISHED[experiment]["ssim"])
    assert d == pytest.approx(expected, abs=5e-4)
    assert d == pytest.approx(comparison.PUBLISHED_D[experiment], abs=0.01)


def test_cohen_d_pools_the_variances_of_unequal_groups():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    assert paired.cohen_d(first, second) == pytest.approx(2 / np.sqrt((1 + 4) / 2))
    assert paired.d_from(0, 1, 3, 2, 10, 4) == pytest.approx(3 / np.sqrt((9 * 1 + 3 * 4) / 12))


def test_paired_d_is_signed_and_takes_the_sd_of_the_differences():
    first, second = np.array([1.0, 2.0, 6.0]), np.array([2.0, 4.0, 9.0])
    assert paired.cohen_dz(first, second) == pytest.approx(-2.0)
    assert paired.cohen_dz(second, first) == pytest.approx(2.0)


def test_effect_sizes_of_equal_scores_are_zero():
    assert paired.cohen_d([1, 2], [1, 2]) == 0 and paired.cohen_dz([1, 2], [1, 2]) == 0


@pytest.mark.parametrize(("n", "p"), [(2, 0.5), (5, 0.0625), (6, 0.03125), (10, 2 / 1024), (1, 1.0), (0, 1.0)])
def test_smallest_p_is_two_of_all_signs(n, p):
    assert paired.smallest_p(n) == p


def test_wilcoxon_reaches_the_smallest_p_when_all_pairs_agree():
    for n in (5, 6, 10):
        assert paired.wilcoxon(np.arange(1.0, n + 1), np.zeros(n)) == pytest.approx(paired.smallest_p(n))


def test_wilcoxon_of_equal_scores_is_one_and_does_not_depend_on_order():
    assert paired.wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1.0
    first, second = np.random.default_rng(0).normal(size=(2, 9))
    assert paired.wilcoxon(first, second) == paired.wilcoxon(second, first)


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests():
    # .01 * 3, then max(.03, .02 * 2), then max(.04, .03 * 1)
    assert paired.holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


def test_holm_leaves_out_what_was_not_tested():
    adjusted = paired.holm([0.01, np.nan, 0.5])
    assert adjusted[0] == pytest.approx(0.02) and np.isnan(adjusted[1])
    assert np.isnan(paired.holm([np.nan])).all()


def test_no_interval_under_six_patients():
    values = np.random.default_rng(0).normal(1, 0.1, (6, 2))
    five, six = intervals.patient_bootstrap(values[:5]), intervals.patient_bootstrap(values)
    assert np.isnan([five.low, five.high]).all() and five.excludes_zero is None and five.patients == 5
    assert six.low < six.mean < six.high and six.excludes_zero is True


def test_interval_of_few_patients_is_as_wide_as_that_of_a_t_test():
    rng, widths = np.random.default_rng(3), []
    for _ in range(40):
        values = rng.normal(0, 1, 8)
        interval, exact = intervals.patient_bootstrap(values), ttest_1samp(values, 0).confidence_interval()
        assert interval.mean == pytest.approx(values.mean())
        widths.append((interval.high - interval.low) / (exact.high - exact.low))
    assert np.mean(widths) == pytest.approx(1, abs=0.03)  # a plain percentile interval: .77


def test_bounds_of_draws_pass_over_nan_and_may_pick_an_infinite_one():
    draws = np.stack([np.linspace(0, 1, 201), np.full(201, np.nan)], axis=1)
    draws[::2] = np.nan
    tail = intervals.expanded_tail(8)
    low, high = intervals.interval(draws, 8)
    assert (low[0], high[0]) == pytest.approx(tuple(np.quantile(draws[1::2, 0], [tail, 1 - tail])))
    assert np.isnan([low[1], high[1]]).all() and np.isnan(intervals.interval(draws, 5)).all()
    far = np.append(np.zeros(50), np.full(50, np.inf))
    assert intervals.interval(far, 8, method="inverted_cdf") == (0, np.inf)


def test_the_interval_of_a_statistic_draws_nothing_for_too_few_patients():
    values = np.random.default_rng(0).normal(size=(8, 2))
    low, high = intervals.bootstrap_interval(lambda weights: weights @ values, 8, 500, seed=2)
    alone = [intervals.patient_bootstrap(one, 500, seed=2) for one in values.T]
    assert low.tolist() == pytest.approx([a.low for a in alone]) and high.tolist() == pytest.approx(
        [a.high for a in alone]
    )
    assert np.isnan(intervals.bootstrap_interval(None, 5, 500)).all()


def test_seeds_that_disagree_widen_the_interval():
    patients = np.random.default_rng(0).normal(0, 0.1, (8, 1))
    agree, disagree = (intervals.patient_bootstrap(patients + np.array(gap)) for gap in ([0, 0, 0], [-1, 0, 1]))
    assert disagree.seeds == 3
    assert disagree.high - disagree.low > 3 * (agree.high - agree.low)


def test_many_slices_of_a_patient_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    gains = rng.normal(0.3, 1, (PATIENTS, 1))
    few, many = (paired.compare(scores(gains + np.zeros((1, k))), scores(np.zeros((PATIENTS, k)))) for k in (1, 50))
    assert many["high"] - many["low"] == pytest.approx(few["high"] - few["low"])
    assert many["p_patients"] == few["p_patients"] and many["p_slices"] < 0.01 < few["p_slices"]


def test_bootstrap_gives_the_same_interval_for_the_same_seed_only():
    values = np.random.default_rng(0).normal(size=8)
    assert intervals.patient_bootstrap(values, seed=1) == intervals.patient_bootstrap(values, seed=1)
    assert intervals.patient_bootstrap(values, seed=1) != intervals.patient_bootstrap(values, seed=2)


def test_mixed_model_on_balanced_data_is_a_t_test_of_patient_means():
    rng = np.random.default_rng(5)
    gap = null_differences(rng) + 0.002
    base = rng.normal(0.9, 0.05, gap.shape)
    result = paired.mixed_model((base + gap).ravel(), base.ravel(), PATIENT_OF)
    exact = ttest_1samp(gap.mean(axis=1), 0)
    assert result["p"] == pytest.approx(exact.pvalue, abs=1e-4)
    assert result["effect"] == pytest.approx(gap.mean())


def test_mixed_model_on_unbalanced_data_is_that_of_statsmodels():
    rng = np.random.default_rng(8)
    patients = np.repeat(np.arange(8), [1, 2, 3, 4, 5, 6, 7, 8])
    gap = rng.normal(0.3, 1, 8)[patients] + rng.normal(0, 1, len(patients))
    fitted = MixedLM(gap, np.ones((gap.size, 1)), patients).fit(method="powell")
    result = paired.mixed_model(gap, 0 * gap, patients)
    assert result["effect"] == pytest.approx(fitted.fe_params[0], rel=1e-4)
    assert result["se"] == pytest.approx(fitted.bse_fe[0], rel=1e-4)


@pytest.mark.parametrize("ratio", [1e-6, 1e-2, 1e2, 1e6])
def test_mixed_model_fits_whatever_the_ratio_of_patients_to_slices(ratio):
    gap = null_differences(np.random.default_rng(9), patient_sd=ratio, slice_sd=1) + ratio
    result = paired.mixed_model(gap.ravel(), 0 * gap.ravel(), PATIENT_OF)
    assert result["effect"] == pytest.approx(gap.mean()) and 0 < result["p"] < 1
    if ratio > 1:
        assert result["p"] == pytest.approx(ttest_1samp(gap.mean(axis=1), 0).pvalue, rel=1e-3)


def test_mixed_model_does_not_depend_on_the_unit_of_the_scores():
    gap = null_differences(np.random.default_rng(6)).ravel()
    small, large = (paired.mixed_model(gap * unit, 0 * gap, PATIENT_OF)["p"] for unit in (1e-3, 1e3))
    assert small == pytest.approx(large, abs=1e-6)


def test_mixed_model_where_patients_gain_alike_keeps_its_p_finite():
    gap = np.random.default_rng(7).normal(0.2, 1, PATIENTS * SLICES)
    gap -= np.repeat(gap.reshape(PATIENTS, SLICES).mean(1), SLICES)  # the patients' variance is estimated as zero
    assert 0 < paired.mixed_model(gap + 0.2, 0 * gap, PATIENT_OF)["p"] < 1


def test_mixed_model_of_degenerate_data_is_defined():
    one = paired.mixed_model([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], ["P1"] * 3)
    assert one["effect"] == 2 and np.isnan(one["p"])
    assert paired.mixed_model([1.0, 2.0], [1.0, 2.0], ["P1", "P2"])["p"] == 1.0
    single = paired.mixed_model([1.0, 2.0, 4.0], [0.0, 0.0, 0.0], ["P1", "P2", "P3"])
    assert single["p"] == pytest.approx(ttest_1samp([1, 2, 4], 0).pvalue)


def test_swapped_labels_make_a_patient_level_wilcoxon_significant_in_5_percent():
    count = false_positives(lambda d: paired.wilcoxon(d.mean(1), np.zeros(PATIENTS)) < intervals.ALPHA)
    assert LOW <= count <= HIGH


def test_swapped_labels_leave_zero_outside_the_bootstrap_interval_in_5_percent():
    count = false_positives(lambda d: intervals.patient_bootstrap(d.mean(1), draws=4000).excludes_zero)
    assert LOW <= count <= HIGH


def test_swapped_labels_make_a_mixed_model_significant_in_5_percent():
    count = false_positives(lambda d: paired.mixed_model(d.ravel(), 0 * d.ravel(), PATIENT_OF)["p"] < intervals.ALPHA)
    assert LOW <= count <= HIGH


def test_swapped_labels_make_a_slice_level_wilcoxon_significant_far_too_often():
    count = false_positives(lambda d: paired.wilcoxon(d.ravel(), 0 * d.ravel()) < intervals.ALPHA)
    assert count > 2 * HIGH


@pytest.mark.parametrize("patients", [6, 10])
@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize(("seed_sd", "residual_sd"), [(0, 0.3), (0.3, 0.3), (0.6, 0), (1, 0), (1, 1), (3, 0.3)])
def test_patients_crossed_with_seeds_keep_5_percent_however_much_seeds_vary(patients, seeds, seed_sd, residual_sd):
    rng = np.random.default_rng(2)
    count = 0
    for _ in range(200):
        values = rng.normal(0, 1, (patients, 1)) + rng.normal(0, seed_sd, seeds)
        values = values + rng.normal(0, residual_sd, (patients, seeds))
        count += intervals.patient_bootstrap(values, draws=1000).excludes_zero
    assert count <= HIGH  # it may fire less often: the interval errs on the wide side


def test_seeds_that_do_not_differ_hardly_widen_the_interval():
    rng, widths = np.random.default_rng(4), {}
    for seeds in (2, 3, 8):
        found = []
        for _ in range(40):
            values = rng.normal(0, 1, (PATIENTS, 1)) + rng.normal(0, 0.3, (PATIENTS, seeds))
            crossed, alone = (
                intervals.patient_bootstrap(values, 2000),
                intervals.patient_bootstrap(values.mean(axis=1), 2000),
            )
            assert crossed.low <= alone.low and alone.high <= crossed.high
            found.append((crossed.high - crossed.low) / (alone.high - alone.low))
        widths[seeds] = np.median(found)
    assert widths[2] < 1.3 and widths[3] < 1.08 and widths[8] < 1.03


def test_seeds_of_patients_that_agree_give_a_t_interval_over_seeds():
    seeds = np.array([-0.4, 0.1, 0.9])
    found, exact = intervals.patient_bootstrap(np.tile(seeds, (8, 1))), ttest_1samp(seeds, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_seeds_that_agree_leave_the_interval_over_patients_skew_included():
    values = np.random.default_rng(1).exponential(size=(12, 1))
    alone = intervals.patient_bootstrap(values, seed=3)
    agreed = intervals.patient_bootstrap(np.tile(values, (1, 3)), seed=3)
    differing = intervals.patient_bootstrap(values + np.array([-0.01, 0, 0.01]), seed=3)
    assert alone.high - alone.mean > 1.1 * (alone.mean - alone.low)
    assert (agreed.low, agreed.high) == pytest.approx((alone.low, alone.high))
    assert (differing.low, differing.high) == pytest.approx((alone.low, alone.high), rel=0.01)


def test_bounds_weigh_the_t_of_patients_and_of_seeds_by_their_variances():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(200, 1)) + 0.1 * np.array([-1, 0, 1]) + rng.normal(0, 0.2, (200, 3))
    a, b = values.mean(axis=1).var(ddof=1) / 200, values.mean(axis=0).var(ddof=1) / 3
    half = (t.ppf(0.975, 199) * a + t.ppf(0.975, 2) * b) / np.sqrt(a + b)
    found = intervals.patient_bootstrap(values, draws=40_000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.02)


def test_compare_finds_a_gain_that_all_patients_share():
    base = np.random.default_rng(0).normal(0.9, 0.03, (PATIENTS, SLICES))
    gain = 0.01 + null_differences(np.random.default_rng(1), 0.001, 0.001)
    row = paired.compare(scores(base + gain), scores(base))
    assert row["low"] < 0.01 < row["high"] and row["low"] > 0
    assert row["p_patients"] == pytest.approx(paired.smallest_p(PATIENTS)) and row["p_mixed"] < 1e-4
    assert (row["patients"], row["seeds"], row["slices"], row["left_out"]) == (PATIENTS, 1, PATIENTS * SLICES, 0)


def test_compare_pairs_the_seeds_that_both_methods_have():
    base = np.random.default_rng(0).normal(size=(7, 2, 3))
    row = paired.compare(scores(base + 1, seeds=(0, 1, 2)), scores(base[..., 1:], seeds=(1, 2)))
    assert row["seeds"] == 2 and row["seed_pairing"] == "paired"
    assert row["difference"] == pytest.approx(1) and row["high"] - row["low"] == pytest.approx(0, abs=1e-12)


def test_compare_averages_seeds_where_none_is_shared():
    base = np.random.default_rng(0).normal(size=(7, 2, 2))
    row = paired.compare(scores(base, seeds=(0, 1)), scores(base - 1, seeds=(5, 6)))
    assert row["seed_pairing"] == "averaged" and row["seeds"] == 1 and row["difference"] == pytest.approx(1)


def test_the_untrained_input_pairs_with_every_seed_on_either_side():
    ldct = scores(np.zeros((7, 2, 1)), seeds=(-1,))
    network = scores(np.ones((7, 2, 2)), seeds=(0, 1))
    ahead, behind = paired.compare(network, ldct), paired.compare(ldct, network)
    assert ahead["difference"] == 1 and behind["difference"] == -1 and ahead["seeds"] == behind["seeds"] == 2


def test_compare_leaves_infinite_scores_out_and_counts_them():
    first, second = scores(np.ones((7, 2))), scores(np.zeros((7, 2)))
    first.loc[3, "value"] = np.inf
    row = paired.compare(first, second)
    assert row["left_out"] == 1 and row["slices"] == 13 and row["difference"] == 1


def test_gaps_are_means_over_slices_by_patient_and_shared_seed():
    values = np.arange(12.0).reshape(3, 2, 2)
    first, second = scores(values, (0, 1)), scores(np.ones((3, 2, 2)), (1, 2))
    first.loc[first.patient == "P002", "value"] = np.inf
    found = paired.gaps(first, second)
    assert list(found.columns) == [1] and list(found.index) == ["P000", "P001"]
    assert np.allclose(found[1], values[:2, :, 1].mean(1) - 1)


def test_compare_refuses_scores_of_different_slices():
    with pytest.raises(ValueError, match="different slices"):
        paired.compare(scores(np.ones((7, 2))), scores(np.ones((7, 2)), first_row=1))


def test_interaction_is_the_difference_of_differences():
    rng = np.random.default_rng(0)
    patient = rng.normal(size=(8, 1, 1))
    cells = {
        name: intervals.by_patient(scores(patient + effect))
        for name, effect in zip(("a1", "a2", "b1", "b2"), (5, 3, 2, 1))
    }
    found = paired.interaction(cells)
    assert found.mean == pytest.approx((5 - 3) - (2 - 1))
    assert found.patients == 8 and found.excludes_zero is True  # what patients share cancels


def test_interaction_averages_seeds_that_the_cells_do_not_share():
    cells = {name: intervals.by_patient(scores(np.full((6, 1, 1), value), seeds=(seed,))) for seed, (name, value) in
             enumerate({"a1": 4.0, "a2": 1.0, "b1": 1.0, "b2": 1.0}.items())}  # fmt: skip
    assert paired.interaction(cells).mean == pytest.approx(3)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [([1.0, np.inf], [0.0, 0.0], "finite"), ([1.0], [1.0, 2.0], "one shape"), ([], [], "no values")],
)
@pytest.mark.parametrize("test", [paired.wilcoxon, paired.cohen_d, paired.cohen_dz])
def test_values_that_cannot_be_compared_are_refused(test, first, second, message):
    with pytest.raises(ValueError, match=message):
        test(first, second)


def test_a_negative_number_of_pairs_is_refused():
    with pytest.raises(ValueError, match="-1"):
        paired.smallest_p(-1)


# ---- what 06_stats writes at the edges of its figure ----
@pytest.mark.parametrize("upper", [False, True])
def test_notes_at_an_edge_stand_inside_the_axes_and_not_on_top_of_each_other(upper):
    figure, axis = plt.subplots(figsize=(4.2, 3.2))
    axis.set_ylim(-2.5, 0.7)
    plots.edge_notes(axis, [("block3_conv2, ψ 1: -2.9", "C0"), ("block5_conv4, ψ 1: -7.8", "C0"), ("-8", "C1")], upper)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axis.texts]
    inside = axis.get_window_extent()
    plt.close(figure)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(inside.x0 < b.x0 and b.x1 < inside.x1 and inside.y0 < b.y0 and b.y1 < inside.y1 for b in boxes)
    assert np.argmin([abs(b.y0 - inside.y0) for b in boxes]) == (2 if upper else 0)  # the first is nearest to its edge


# ---- 06_stats on finished runs of every kind ----
def execute(**parameters):
    """Run 06_stats on the runs below the outputs; return it as a finished run, with the text that it showed."""
    given = {"runs": ["test/03_train/*"], "draws": 300, "swaps": 20}
    text = notebook_cells.shown(ROOT / "notebooks" / "06_stats.py", given | parameters)
    return runs.select("adhoc/06_stats/*")[0], text


def test_06_stats_compares_psi_layers_contexts_and_seeds(outputs):
    data = finished_runs.cohort(patients=7, slices=2)
    for seed in (0, 1):
        finished_runs.write(outputs, data, 1 + seed, 0.5, seed=seed, loss="mse")
    cells = [(c, y) for c in ("random", "medical") for y in ("block3_conv2", "block5_conv4")]
    for number, (context, layer) in enumerate(cells):
        design = {"loss": "vgg", "context": context, "layer": layer}
        drifts = {"psi_end": 0.3} if context == "medical" else {}
        finished_runs.write(outputs, data, 10 + number, 0.3 + 0.2 * number, **design, **drifts)
        finished_runs.write(outputs, data, 20 + number, 0.4, **design, psi_target=0.0)  # MSE again: left out
    finished_runs.write(outputs, data, 30, 0.6, loss="vgg", psi_on="hold")
    finished_runs.write(outputs, data, 31, 0.6, loss="vgg", layer="block5_conv4", lam=0.01)
    done, shown = execute(metrics=["ssim", "psnr"])

    listed = done.table("runs")
    assert len(listed) == 2 + 4 + 2 and "mse" in set(listed["method"])
    assert "We left out 4 runs as repeats of a method and a seed." in shown
    assert {"vgg · block3_conv2 · random · ψ 95 % held", "vgg · block5_conv4 · random · λ 0.01"} < set(listed["method"])
    assert listed.set_index("method")["psi"]["vgg · block5_conv4 · random · λ 0.01"] == 0.9  # measured, first updates
    assert (
        done.numbers["best"]["ndct"]["ssim"] == "vgg · block5_conv4 · small CT encoder · ψ 95 % at start"
    )  # gain .9 by construction
    table4 = done.table("comparisons").query("domain == 'viana2025' and reference == 'truth' and metric == 'psnr'")
    assert set(table4["other"]) == set(listed["method"]) - set(table4["first"]) | {"LDCT"}
    ldct = table4.set_index("other").loc["LDCT"]
    assert ldct["low"] > 0 and ldct["p_patients"] == paired.smallest_p(7) and ldct["patients"] == 7
    crossed = done.table("interactions").query("at == 'ψ 95 % at start' and metric == 'psnr' and reference == 'ndct'")
    assert len(crossed) == 1 and crossed["low"].item() < crossed["interaction"].item() < crossed["high"].item()
    assert set(done.table("summary")["domain"]) == {"hu", "viana2025", "body", "window"}
    for name in ("psi", "errors_truth", "patients_ndct"):
        assert (done.folder / f"{name}.png").stat().st_size > 10_000
    for name in ("table3_ndct", "table4_truth", "table4_paper"):
        assert all((done.folder / f"{name}.{kind}").is_file() for kind in ("parquet", "md", "tex"))
    assert "**7 patients**" in shown and "One training gives no verdict" in shown
    verdict = done.table("table4_truth").set_index("other").verdict
    assert set(verdict) == {"one training"}  # the best one was trained once; only MSE was trained twice
    empty = done.table("nulls").set_index(["null", "metric"])
    assert empty.cases["other training", "rmse_hu"] == 1 and empty.cases["labels swapped", "ssim"] == 20
    assert "The one pair of trainings of one method" in shown
    assert "All of the 7 trained methods are at their working point" in shown
    assert set(done.table("interactions")["kind"]) == {"comparison at fixed λ, ψ 95 % at start"}
    assert done.numbers["interactions"] > 0 == done.numbers["interactions_at_one_psi"]
    assert "ψ of the four cells lies up to 50 points apart" in shown
    assert "90 → 85 → 30" in (done.folder / "runs.md").read_text() and "ψ moved by up to 60 points" in shown


def test_06_stats_sets_each_network_against_its_own_mse_arm_and_names_weights_briefly(outputs):
    data, weights = finished_runs.cohort(patients=6, slices=1), "somewhere/encoder_of_chest_and_abdomen_v12.safetensors"
    gain = {("unet", "mse"): 0.2, ("unet", "vgg"): 0.3, ("cnn10", "mse"): 0.8, ("cnn10", "vgg"): 0.5}
    for number, ((network, loss), share) in enumerate(gain.items(), 1):
        finished_runs.write(outputs, data, number, share, network=network, loss=loss, context=weights, examples=False)
    done, shown = execute(metrics=["psnr"], swaps=0)
    effects = done.table("psi_effects").query("reference == 'ndct'").set_index("network")
    assert list(effects.base) == ["mse · network cnn10", "mse · network unet"]
    assert effects.difference["cnn10"] < 0 < effects.difference["unet"]  # over the other's arm both would be reversed
    assert set(effects.context) == {weights} and weights in set(done.table("runs").context)
    said = json.loads((done.folder / "captions.json").read_text())["psi"]
    assert "(block3_conv2, encoder_of…domen_v12, ψ 95 % at start, network unet)" in said["finding"]  # it gains more
    assert "better than MSE (network unet) (95 % interval" in said["finding"] and "Left out" not in said["reading"]
    assert "these runs have encoder_of…domen_v12/block3_conv2" in shown


def test_06_stats_takes_one_run_of_one_patient_without_truth(outputs):
    data = finished_runs.cohort(patients=1, slices=3, truth=False)
    finished_runs.write(outputs, data, 1, 0.5, examples=False)
    done, shown = execute(domain="hu", metrics=["psnr"])
    table = done.table("comparisons")
    assert set(table["other"]) == {"LDCT"} and table[["low", "high"]].isna().all(axis=None)
    assert "**1 patient**" in shown and not re.search(r"\b1 (patient|slice|method|comparison)s", shown)
    assert "its results speak of these slices and this network" in shown
    assert list(done.table("nulls").null.unique()) == ["other training"] and "No method was trained twice" in shown
    assert done.numbers["smallest_p"] == 1 and "Under 6 patients no interval is given" in shown
    assert set(done.table("table4_ndct").verdict) == {"too few patients"} and "No comparison could be judged" in shown
    assert "The one trained method is at its working point" in shown
    assert not (done.folder / "table3_truth.parquet").exists() and "no error maps" in shown and "no ψ" in shown


def test_06_stats_refuses_runs_that_were_tested_on_different_slices(outputs):
    finished_runs.write(outputs, finished_runs.cohort(seed=0), 1, 0.5)
    finished_runs.write(outputs, finished_runs.cohort(seed=1), 2, 0.5, loss="l1")
    with pytest.raises(ValueError, match="tested on different slices"):
        execute()


# ---- shares and orders ----
def test_an_exact_share_has_the_coverage_that_it_promises():
    assert intervals.share_interval(6, 6) == pytest.approx((0.025 ** (1 / 6), 1))
    low, high = intervals.share_interval(3, 10)
    assert (low, high) == pytest.approx((0.0667, 0.6525), abs=1e-4)  # published tables of Clopper and Pearson
    with pytest.raises(ValueError, match="got 7 of 6"):
        intervals.share_interval(7, 6)


def test_a_pair_is_reversed_only_where_both_orders_are_sure():
    rng = np.random.default_rng(0)
    base = pd.DataFrame({"a": 1.0, "b": 2.0, "c": 3.0}, index=range(8)) + 0.01 * rng.standard_normal((8, 3))
    other = base.assign(a=base.b + 1)
    assert ranking.reversed_pairs(base, base, 200) == (0, 3)
    assert ranking.reversed_pairs(other, base, 200) == (1, 3)
    unsure = base.assign(a=base.b + rng.normal(0.01, 5, 8))
    assert ranking.reversed_pairs(unsure, base, 200) == (0, 3)
    assert ranking.reversed_pairs(other[["a"]], base[["a"]], 200) == (0, 0)
    assert ranking.reversed_pairs(other[:4], base, 200) == (0, 3)  # too few patients are never sure


def test_limits_leave_out_what_lies_far_off_and_show_all_else():
    near = [np.array([0.97, 0.99]), np.array([0.98, 0.995]), np.array([0.96, 0.98])]
    low, high, off = plots.limits_without_far([*near, np.array([0.4, 0.8])])
    assert off == [3] and 0.95 < low < 0.96 and 0.995 < high < 1.0
    assert plots.limits_without_far([[np.inf], [], *near, [0.4, 0.8]]) == (low, high, [5])
    assert plots.limits_without_far([[0.0, 0.1], [0.9, 1.0]])[2] == []  # two: which of them is far from the others?
    assert plots.limits_without_far([[], [np.nan]]) == (0, 1, [])
    assert plots.limits_without_far(near)[2] == [] and plots.limits_without_far([[1.0, 1.0], [1.0]])[2] == []


def test_what_lies_far_off_is_told_at_the_edge_it_lies_beyond():
    figure, axis = plt.subplots()
    groups = {line: np.array([1.0, 1.1]) + 0.01 * line for line in range(4)} | {7: [-9.0, -8.9], 8: [30.0, 31.0]}
    plots.without_far(axis, groups, {line: np.mean(values) for line, values in groups.items()})
    told = {text.get_text(): (text.xy[1], text.get_ha()) for text in axis.texts}
    plt.close(figure)
    assert told == {"◂ -8.95": (7, "left"), "30.5 ▸": (8, "right")} and axis.get_xlim()[1] < 2


def test_zero_is_on_the_axis_of_differences_that_all_lie_on_one_side():
    def limits(groups, zero):
        figure, axis = plt.subplots()
        plots.without_far(axis, groups, {line: np.mean(values) for line, values in groups.items()}, zero)
        found = axis.get_xlim(), [text.get_text() for text in axis.texts]
        plt.close(figure)
        return found

    gains = {line: np.array([5.0, 5.5]) + 0.1 * line for line in range(5)}
    (low, high), _ = limits(gains, True)
    assert low < 0 < 5.9 < high and limits(gains, False)[0][0] > 4
    (low, high), _ = limits({line: -values for line, values in gains.items()}, True)
    assert low < -5.9 and 0 < high < 1
    near = gains | {7: np.array([2.0, 2.1]), 8: np.array([30.0, 31.0])}  # between the others and 0: not beyond an edge
    assert limits(near, True)[1] == ["30.5 ▸"] and limits(near, False)[1] == ["◂ 2.05", "30.5 ▸"]


def test_bars_reach_from_the_mean_to_both_ends_and_axes_name_direction_and_unit():
    table = pd.DataFrame({"mean": [1.0, 2.0], "low": [0.5, np.nan], "high": [3.0, np.nan]})
    assert np.array_equal(plots.reach(table), [[0.5, np.nan], [2.0, np.nan]], equal_nan=True)
    assert plots.axis_label(info("psnr"), "Δ") == "Δ PSNR ↑ (dB)" and plots.axis_label(info("ssim")) == "SSIM ↑"
    figure, axis = plt.subplots()
    plots.ticks_at(axis, [0.1, 0.25, 1.0])
    figure.canvas.draw()
    shown = [t.get_text() for t in axis.get_xticklabels()]
    plt.close(figure)
    assert shown == ["0.1", "0.25", "1"] and axis.get_xscale() == "log" and not len(axis.get_xticks(minor=True))
