"""Perceptual influence: the published numbers, both definitions, their inverses, and what happens at the edges."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldct_utils.stats import intervals
from ldct_utils.study import planning
from ldct_utils.training import psi

# From the losses listed in the authors' repository, by hand: psi at the paper's lambda, and 19 * MSE / PL.
PUBLISHED_PSI = {
    ("E1", 1): (0.965783, 6.7316e-06), ("E1", 5): (0.977891, 4.2958e-06), ("E1", 10): (0.977548, 4.3638e-06),
    ("E2", 1): (0.963533, 7.1910e-03), ("E2", 5): (0.976966, 4.4797e-03), ("E2", 10): (0.976349, 4.6025e-03),
    ("E3", 1): (0.751211, 6.2925e-05), ("E3", 5): (0.917043, 1.7188e-05), ("E3", 10): (0.910346, 1.8712e-05),
    ("E4", 1): (0.873053, 2.7627e-04), ("E4", 5): (0.889002, 2.3723e-04), ("E4", 10): (0.881929, 2.5437e-04),
}  # fmt: skip
EPOCH_10_AT_DECADES = {  # psi at lambda = 1e-7, 1e-6, ..., 1
    "E1": (0.303332, 0.813225, 0.977548, 0.997709, 0.999770, 0.999977, 0.999998, 1.000000),
    "E2": (0.000413, 0.004111, 0.039645, 0.292195, 0.805000, 0.976349, 0.997583, 0.999758),
    "E3": (0.092180, 0.503820, 0.910346, 0.990248, 0.999016, 0.999902, 0.999990, 0.999999),
    "E4": (0.007414, 0.069503, 0.427573, 0.881929, 0.986789, 0.998663, 0.999866, 0.999987),
}


@pytest.fixture
def images():
    """Losses of 60 images of 12 patients whose ratio differs from image to image."""
    rng = np.random.default_rng(0)
    return rng.lognormal(-9, 0.5, 60), rng.lognormal(5, 1, 60), np.repeat(np.arange(12), 5)


@pytest.mark.parametrize("row", psi.PUBLISHED, ids=lambda row: f"{row[0]}-epoch{row[4]}")
def test_published_losses_give_the_published_curves(row):
    name, _, _, lam, epoch, mse, perceptual = row
    value, calibrated = PUBLISHED_PSI[name, epoch]
    assert round(psi.ratio_of_sums(mse, perceptual, lam), 6) == value
    assert f"{psi.lambda_for(mse, perceptual, 0.95):.4e}" == f"{calibrated:.4e}"


@pytest.mark.parametrize("name", EPOCH_10_AT_DECADES)
def test_published_curve_at_every_decade(name):
    mse, perceptual = next(row[5:] for row in psi.PUBLISHED if row[0] == name and row[4] == 10)
    assert np.round(psi.curve([mse], [perceptual], 10.0 ** np.arange(-7, 1)), 6).tolist() == list(
        EPOCH_10_AT_DECADES[name]
    )


def test_baseline_lambda_leaves_the_pixel_loss_nothing():
    assert psi.ratio_of_sums(0.00012420525308698416, 0.5127434134483337, psi.LITERATURE_LAMBDA) == pytest.approx(
        0.9976, abs=5e-5
    )


@pytest.mark.parametrize("study", ["perceptual_influence_paper", "perceptual_influence_code"])
def test_published_studies_have_an_arm_at_the_published_lambda_and_one_at_the_psi_it_gave(study):
    runs = dict(planning._listed(planning.read_study(study)["notebooks"]["03_train"]))
    for name, context, layer, lam, epoch, mse, perceptual in psi.PUBLISHED:
        if epoch == 10:
            own, same = runs[name], runs[f"{name}-psi"]
            assert own["lam"] == pytest.approx(lam) and "psi_target" not in own and "lam" not in same
            assert same["psi_target"] == round(psi.ratio_of_sums(mse, perceptual, lam), 3)
            assert own["layer"] == same["layer"] == layer and ("weights" in own) == (context == "medical")
            assert own.get("weights") == same.get("weights") and same["psi_on"] == "hold"
    assert {run["precision"] for run in runs.values()} == {"float32"}


def test_the_two_definitions_differ_unless_totals_are_equal():
    assert psi.mean_of_ratios([1, 9], [1, 1], 1) == pytest.approx(0.3, abs=1e-15)
    assert psi.ratio_of_sums([1, 9], [1, 1], 1) == pytest.approx(2 / 12, abs=1e-15)
    assert psi.mean_of_ratios([3, 6], [7, 4], 1) == pytest.approx(psi.ratio_of_sums([3, 6], [7, 4], 1), abs=1e-15)


def test_ratio_of_sums_is_the_mean_of_ratios_weighted_by_total_loss(images):
    mse, perceptual, _ = images
    total = mse + 1e-6 * perceptual
    weighted = np.average(1e-6 * perceptual / total, weights=total)
    assert psi.ratio_of_sums(mse, perceptual, 1e-6) == pytest.approx(weighted, rel=1e-12)


@pytest.mark.parametrize("definition", psi.DEFINITIONS)
@pytest.mark.parametrize("target", [0.001, 0.25, 0.5, 0.75, 0.95, 0.99, 0.9999])
def test_lambda_found_gives_the_psi_wanted(images, definition, target):
    mse, perceptual, _ = images
    lam = psi.lambda_for(mse, perceptual, target, definition)
    assert psi.influence(mse, perceptual, lam, definition) == pytest.approx(target, abs=1e-9)


def test_one_image_has_one_lambda_under_both_definitions():
    found = [psi.lambda_for([2e-4], [500.0], 0.95, definition) for definition in psi.DEFINITIONS]
    assert found[0] == 0.95 / (1 - 0.95) * 2e-4 / 500 and found[1] == pytest.approx(found[0], rel=1e-8)


@pytest.mark.parametrize("definition", psi.DEFINITIONS)
def test_psi_rises_from_zero_towards_one(images, definition):
    mse, perceptual, _ = images
    values = psi.curve(mse, perceptual, [0, *np.logspace(-12, 3, 40)], definition)
    assert values[0] == 0 and (np.diff(values) > 0).all() and 0.999999 < values[-1] < 1


def test_a_common_unit_of_both_losses_cancels(images):
    mse, perceptual, _ = images
    for definition in psi.DEFINITIONS:
        a, b = (psi.influence(scale * mse, scale * perceptual, 1e-6, definition) for scale in (1, 4096.0**2))
        assert a == pytest.approx(b, rel=1e-12)


def test_identical_images_have_no_influence_to_share():
    for definition in psi.DEFINITIONS:
        assert psi.influence([0, 0], [0, 0], 0.1, definition) == 0
    assert psi.mean_of_ratios([0, 1], [0, 3], 1) == psi.mean_of_ratios([1], [3], 1) == 0.75
    assert psi.ratio_of_sums([0, 1], [0, 3], 1) == 0.75


def test_lambda_of_a_mean_of_ratios_with_degenerate_images():
    mse, perceptual = (
        np.array([0, 0, 1.0, 2.0, 4.0]),
        np.array([0, 5.0, 1.0, 7.0, 0]),
    )  # 0/0, always 1, free, free, never
    lam = psi.lambda_for(mse, perceptual, 0.6, "mean_of_ratios")
    assert psi.mean_of_ratios(mse, perceptual, lam) == pytest.approx(0.6, abs=1e-9)
    # two images of ratio 1 and one that is always 1: their mean must be (3 * 0.6 - 1) / 2 = 0.4
    assert psi.lambda_for([0, 1, 2], [5, 1, 2], 0.6, "mean_of_ratios") == pytest.approx(0.4 / 0.6, rel=1e-6)
    with pytest.raises(ValueError, match=r"stays between 0\.250 and 0\.750"):
        psi.lambda_for(mse, perceptual, 0.8, "mean_of_ratios")


@pytest.mark.parametrize("definition", psi.DEFINITIONS)
def test_lambda_that_does_not_exist_is_an_error_that_says_why(definition):
    with pytest.raises(ValueError, match="perceptual loss is 0 on every image"):
        psi.lambda_for([1, 2], [0, 0], 0.5, definition)
    with pytest.raises(ValueError, match="pixel loss is 0 on every image"):
        psi.lambda_for([0, 0], [1, 2], 0.5, definition)
    with pytest.raises(ValueError, match="vgg_only"):
        psi.lambda_for([1], [1], 1, definition)
    with pytest.raises(ValueError, match=r"\[0, 1\), not 95"):
        psi.lambda_for([1], [1], 95, definition)
    assert psi.lambda_for([1], [1], 0, definition) == 0


@pytest.mark.parametrize(
    ("mse", "perceptual", "lam", "message"),
    [
        ([1, 2], [1], 0.1, r"mse \(2,\) and perceptual \(1,\)"),
        ([], [], 0.1, "one value an image"),
        ([[1, 2]], [[1, 2]], 0.1, "one value an image"),
        ([1, np.nan], [1, 1], 0.1, "mse losses must be finite.*nan"),
        ([1, 1], [1, np.inf], 0.1, "perceptual losses must be finite.*inf"),
        ([1, -1], [1, 1], 0.1, "mse losses must be finite and not negative.*-1"),
        ([1], [1], -0.1, "lambda must be finite and not negative, not -0.1"),
        ([1], [1], np.inf, "lambda must be finite"),
        ([1], [1], np.nan, "lambda must be finite"),
    ],
)
def test_losses_that_are_none_are_refused(mse, perceptual, lam, message):
    for function in (psi.ratio_of_sums, psi.mean_of_ratios):
        with pytest.raises(ValueError, match=message):
            function(mse, perceptual, lam)


def test_unknown_definition_is_refused_by_every_function():
    for call in (psi.influence, psi.lambda_for):
        with pytest.raises(ValueError, match=r"no definition 'eq5'.*ratio_of_sums, mean_of_ratios"):
            call([1], [1], 0.5, definition="eq5")


def test_gradient_influence_of_known_gradients():
    assert psi.gradient_influence([1, 3], [1, 1], 1) == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert psi.gradient_influence([0, 1], [0, 1], 1) == 0.5 and psi.gradient_influence([0], [0], 1) == 0


def test_bootstrap_interval_holds_the_estimate_and_shrinks_with_patients(images):
    mse, perceptual, patients = images
    for definition in psi.DEFINITIONS:
        low, high = psi.bootstrap(mse, perceptual, patients, lam=1e-6, definition=definition, draws=300)
        assert low < psi.influence(mse, perceptual, 1e-6, definition) < high
        few = psi.bootstrap(mse[:30], perceptual[:30], patients[:30], lam=1e-6, definition=definition, draws=300)
        assert few[1] - few[0] > high - low


def test_bootstrap_interval_of_lambda_holds_the_estimate(images):
    mse, perceptual, patients = images
    for definition in psi.DEFINITIONS:
        low, high = psi.bootstrap(mse, perceptual, patients, target=0.95, definition=definition, draws=100)
        assert low < psi.lambda_for(mse, perceptual, 0.95, definition) < high


def test_bootstrap_draws_patients_and_not_images():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(8), 50)
    mse, perceptual = np.ones(400), np.repeat(rng.lognormal(0, 1, 8), 50)  # images of a patient say the same
    whole = np.diff(psi.bootstrap(mse, perceptual, patients, lam=1.0, draws=400))
    as_if_independent = np.diff(psi.bootstrap(mse, perceptual, np.arange(400), lam=1.0, draws=400))
    assert whole > 4 * as_if_independent


def test_bootstrap_of_a_ratio_of_sums_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(3), 0
    for trial in range(60):
        patients = np.repeat(np.arange(20), 3)
        perceptual = np.repeat(rng.lognormal(0, 0.5, 20), 3) * rng.lognormal(0, 0.2, 60)
        low, high = psi.bootstrap(np.ones(60), perceptual, patients, lam=1.0, draws=200, seed=trial)
        truth = np.exp(0.5**2 / 2 + 0.2**2 / 2)
        hits += low < truth / (1 + truth) < high
    assert 0.8 * 60 <= hits <= 60


def small_study(rng, patients, sd=0.1):
    """Perceptual losses of two images of each patient beside MSE 1, the patient of each, and psi at lambda 1."""
    of = np.repeat(np.arange(patients), 2)
    mean = np.exp(sd**2 / 2 + 0.1**2 / 2)
    return rng.lognormal(0, sd, patients)[of] * rng.lognormal(0, 0.1, of.size), of, mean / (1 + mean)


def drawn_by_hand(perceptual, of, draws, seed):
    weights = intervals.patient_draws(of[-1] + 1, draws, seed)
    mean = weights @ np.bincount(of, perceptual) / 2
    return mean / (1 + mean)


def test_bounds_are_the_expanded_percentiles_of_all_other_intervals(images):
    mse, perceptual, of = images
    weights = intervals.patient_draws(12, 300, 4)
    pixel, percept = (weights @ np.bincount(of, values) for values in (mse, perceptual))
    found = psi.bootstrap(mse, perceptual, of, lam=1e-6, draws=300, seed=4)
    assert found == pytest.approx(intervals.interval(1e-6 * percept / (pixel + 1e-6 * percept), 12), rel=1e-12)
    found = psi.bootstrap(mse, perceptual, of, target=0.95, draws=300, seed=4)
    assert found == pytest.approx(intervals.interval(19 * pixel / percept, 12), rel=1e-12)
    one_each = mse[::5], perceptual[::5], of[::5]
    mean = intervals.patient_bootstrap(1e-6 * one_each[1] / (one_each[0] + 1e-6 * one_each[1]), draws=300, seed=4)
    found = psi.bootstrap(*one_each, lam=1e-6, definition="mean_of_ratios", draws=300, seed=4)
    assert found == pytest.approx((mean.low, mean.high), rel=1e-12)


def test_intervals_of_ten_patients_are_wider_than_plain_percentiles_by_a_fifth():
    rng, widths = np.random.default_rng(1), []
    for seed in range(12):
        perceptual, of, _ = small_study(rng, 10)
        low, high = psi.bootstrap(np.ones(20), perceptual, of, lam=1.0, draws=2000, seed=seed)
        widths.append((high - low) / np.ptp(np.quantile(drawn_by_hand(perceptual, of, 2000, seed), [0.025, 0.975])))
    factor = np.sqrt(10 / 9) * stats.t.ppf(0.975, 9) / stats.norm.ppf(0.975)
    assert factor == pytest.approx(1.217, abs=1e-3) and np.mean(widths) == pytest.approx(factor, rel=0.02)


def test_intervals_of_few_patients_cover_what_plain_percentiles_miss():
    rng, hits, plain = np.random.default_rng(3), 0, 0
    for trial in range(200):  # 4000 trials of this: 93 and 87 %
        perceptual, of, truth = small_study(rng, 7)
        low, high = psi.bootstrap(np.ones(14), perceptual, of, lam=1.0, draws=400, seed=trial)
        hits += low < truth < high
        low, high = np.quantile(drawn_by_hand(perceptual, of, 400, trial), [0.025, 0.975])
        plain += low < truth < high
    assert hits >= 0.92 * 200 and plain <= 0.88 * 200


def test_too_few_patients_give_no_interval(images):
    mse, perceptual, patients = images
    assert np.isnan(psi.bootstrap(mse[:25], perceptual[:25], patients[:25], lam=1e-6)).all()


def test_bootstrap_refuses_unclear_requests(images):
    mse, perceptual, patients = images
    with pytest.raises(ValueError, match="either lam"):
        psi.bootstrap(mse, perceptual, patients)
    with pytest.raises(ValueError, match="either lam"):
        psi.bootstrap(mse, perceptual, patients, lam=1, target=0.5)
    with pytest.raises(ValueError, match="one patient for each of the 60 images"):
        psi.bootstrap(mse, perceptual, patients[:3], lam=1)


# ---- what a training reached ----
def history(steps, values, shares=None, column="psi_ratio_of_sums"):
    return pd.DataFrame({"step": steps, column: values, "val_gradient_influence": shares or [np.nan] * len(steps)})


def test_psi_reached_is_that_of_the_rows_around_start_half_and_end():
    steps = [0, *range(10, 401, 10)]
    values = [np.nan, *(1 - step / 1000 for step in steps[1:])]
    shares = [0.9 if step == 0 else 0.5 if step == 210 else 0.1 if step == 400 else np.nan for step in steps]
    found = psi.reached(history(steps, values, shares))
    assert found["psi_start"] == pytest.approx(1 - 0.015)  # rows 10 and 20, a twentieth of the training
    assert found["psi_half"] == pytest.approx(1 - 0.2) and found["psi_end"] == pytest.approx(1 - 0.39)
    assert [found[f"gradient_share_{moment}"] for moment in psi.MOMENTS] == [0.9, 0.5, 0.1]
    assert tuple(found) == psi.REACHED


def test_a_short_training_takes_the_nearest_row():
    found = psi.reached(history([0, 8, 64, 128], [np.nan, 0.95, 0.8, 0.1]))
    assert [found[f"psi_{moment}"] for moment in psi.MOMENTS] == pytest.approx([0.95, 0.8, 0.1])
    assert found["gradient_share_end"] is None  # nothing was validated
    one = psi.reached(history([0, 5], [np.nan, 0.7]))
    assert one["psi_start"] == one["psi_half"] == one["psi_end"] == pytest.approx(0.7)


def test_a_training_without_a_perceptual_term_has_no_psi():
    assert set(psi.reached(pd.DataFrame({"step": [0, 10], "mse": [np.nan, 1.0]})).values()) == {None}
    assert set(psi.reached(pd.DataFrame({"step": [0], "val_rmse_hu": [1.0]})).values()) == {None}


def test_psi_is_read_by_the_definition_that_it_was_set_by():
    other = history([0, 10], [np.nan, 0.6], column="psi_mean_of_ratios").assign(psi_ratio_of_sums=0.9)
    assert psi.reached(other, "mean_of_ratios")["psi_end"] == pytest.approx(0.6)
    with pytest.raises(ValueError, match="no definition 'eq5' of psi"):
        psi.reached(other, "eq5")


# ---- how far lambdas lie apart ----
def test_a_spread_within_a_layer_is_not_the_spread_over_all():
    lams = [("untrained", "b3", 4.0), ("identity", "b3", 2.0), ("untrained", "b5", 30.0), ("identity", "b5", 10.0)]
    table = pd.DataFrame(lams, columns=["f", "layer", "lam"])
    assert psi.spreads(table, "lam") == {"within_layer": pytest.approx(3), "over_all": pytest.approx(15)}
    assert psi.spreads(table[:1], "lam") == {"within_layer": 1.0, "over_all": 1.0}
    with pytest.raises(ValueError, match="lambdas above 0"):
        psi.spreads(table.assign(lam=[1.0, 0.0, 1.0, 1.0]), "lam")
    with pytest.raises(ValueError, match="lambdas above 0"):
        psi.spreads(table[:0], "lam")
