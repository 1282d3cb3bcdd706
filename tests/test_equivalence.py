"""Doses that are worth the same: exact for power laws, honest where a value is never reached, intervals that cover."""

import itertools

import numpy as np
import pandas as pd
import pytest

from ldct_utils.task_based import equivalence

DOSES = np.array([0.1, 0.25, 0.5, 1.0])
FBP = np.tile(2.0 * np.sqrt(DOSES), (6, 1))  # d' of a linear system


def log(values):
    return equivalence.rising(values)


def test_a_method_as_good_as_the_reference_needs_the_same_dose():
    for at, dose in enumerate(DOSES):
        assert equivalence.equivalent(DOSES, log(FBP), log(FBP), at).dose == pytest.approx(dose)


def test_a_method_that_gains_a_factor_needs_the_dose_that_the_square_law_says():
    assert equivalence.equivalent(DOSES, log(1.2 * FBP), log(FBP)).dose == pytest.approx(1 / 1.44)
    rmse = equivalence.rising(12 / np.sqrt(DOSES), -1)[None]
    better = equivalence.rising(0.7 * 12 / np.sqrt(DOSES), -1)[None]
    assert equivalence.equivalent(DOSES, better, rmse).dose == pytest.approx(0.49)


def test_what_is_never_reached_is_above_the_highest_dose_and_what_is_exceeded_below_the_lowest():
    worse = equivalence.equivalent(DOSES, log(0.9 * FBP), log(FBP))
    assert worse.dose == np.inf and worse.text == "> 1 [> 1, > 1]"
    better = equivalence.equivalent(DOSES, log(5 * FBP), log(FBP))
    assert better.dose == 0 and better.text.startswith("< 0.1")


def test_falling_stretches_of_a_curve_are_pooled():
    assert equivalence.dose_reaching(DOSES, [0.0, 2.0, 1.0, 3.0], 1.5) == pytest.approx(0.25)
    assert 0.5 < equivalence.dose_reaching(DOSES, [0.0, 2.0, 1.0, 3.0], 2.0) < 1.0


def test_values_without_a_logarithm_are_refused_unless_the_scale_is_said_to_be_linear():
    with pytest.raises(ValueError, match=r"positive values, the least is -0\.1: .*linear=True"):
        equivalence.rising([-0.1, 0.5])
    assert (equivalence.rising([-0.1, 0.5], -1, linear=True) == [0.1, -0.5]).all()
    curve = np.tile([-0.1, 0.2, 0.5, 1.1], (6, 1))
    found = equivalence.equivalent(DOSES, equivalence.rising(curve, linear=True), curve, 2, linear=True)
    assert found.text == "0.5 [0.5, 0.5] (linear)" and "linear" not in equivalence.equivalent(DOSES, FBP, FBP).text


def test_intervals_cover_the_dose_that_the_mean_of_all_patients_needs():
    covered = 0
    for repeat in range(200):
        rng = np.random.default_rng(repeat)
        gain = np.exp(rng.normal(np.log(1.25), 0.1, (8, 1)))
        noisy = FBP[:1] * gain * np.exp(rng.normal(0, 0.03, (8, 4)))
        found = equivalence.equivalent(DOSES, log(noisy), log(np.repeat(FBP[:1], 8, 0)), draws=300, seed=repeat)
        covered += found.low <= 1 / 1.25**2 <= found.high
    assert 0.9 <= covered / 200 <= 0.995


def test_few_patients_give_no_interval_and_bad_curves_say_so():
    found = equivalence.equivalent(DOSES, log(FBP[:3]), log(FBP[:3]))
    assert np.isnan(found.low) and found.text == "1"
    with pytest.raises(ValueError, match="doses must rise"):
        equivalence.dose_reaching([0.5, 0.1], [1, 2], 1.5)
    with pytest.raises(ValueError, match="one shape"):
        equivalence.equivalent(DOSES, FBP, FBP[:, :3])
    with pytest.raises(ValueError, match="finite"):
        equivalence.equivalent(DOSES, FBP * np.nan, FBP)


def measured(patients=6, seeds=(0, 1)):
    """d' of two lesions and a metric over dose: f is worth 1.2 times FBP in d' and has .7 times its RMSE."""
    rows = []
    for p, dose, (method, seed) in itertools.product(range(patients), DOSES, [("FBP", -1), *(("f", s) for s in seeds)]):
        gain, less = (1.0, 1.0) if method == "FBP" else (1.2 + 0.02 * seed - 0.01, 0.7)
        head = {"patient": p, "method": method, "seed": seed, "dose": dose}
        for lesion in (0, 1):
            rows.append(head | {"observer": "CHO", "lesion": lesion, "quantity": "d'",
                                "value": gain * (1 + lesion) * np.sqrt(dose)})  # fmt: skip
        rmse = less * 12 / np.sqrt(dose)
        rows.append(head | {"observer": "", "lesion": equivalence.ALL, "quantity": "rmse_hu", "value": rmse})
    return pd.DataFrame(rows)


def test_curves_are_means_over_seeds_and_over_lesions_but_never_over_patients():
    table = equivalence.of_patients(measured())
    found = equivalence.curve(table, list(DOSES), "d'", "CHO", equivalence.ALL, "f")
    assert np.allclose(found, np.tile(1.2 * 1.5 * np.sqrt(DOSES), (6, 1)))
    assert np.allclose(equivalence.curve(table, list(DOSES), "d'", "CHO", 1, "FBP"), 2 * np.sqrt(DOSES))
    over = equivalence.means(table, draws=100).set_index([*equivalence.WHAT, "dose"])
    assert over["mean"]["rmse_hu", "", equivalence.ALL, "FBP", 0.25] == pytest.approx(24)
    assert np.allclose(over.low, over["mean"]) and np.allclose(over.high, over["mean"])  # patients agree


def test_both_readings_of_a_gain_are_those_of_the_square_law():
    measures = {"d' (CHO)": ("d'", "CHO", 1), "RMSE": ("rmse_hu", "", -1)}
    found = equivalence.bought(equivalence.of_patients(measured()), list(DOSES), 1, measures, ["f"], draws=50)
    assert list(found.lesion) == [-1, -1, 0, 0, 1, 1, -1, -1] and not found.linear.any()
    dose = found.set_index(["measure", "lesion", "reading"]).dose
    assert dose["d' (CHO)", -1, "full dose"] == pytest.approx(1 / 1.44)
    assert dose["d' (CHO)", 1, "worth"] == pytest.approx(0.25 * 1.44)
    assert dose["RMSE", -1, "full dose"] == pytest.approx(0.49)
    assert dose["RMSE", -1, "worth"] == pytest.approx(0.25 / 0.49)


def test_a_detectability_below_zero_is_interpolated_as_it_is_and_says_so():
    below = measured()
    below.loc[(below.patient == 0) & (below.dose == 0.1) & (below.lesion == 0), "value"] = -0.1
    found = equivalence.bought(
        equivalence.of_patients(below), list(DOSES), 1, {"d'": ("d'", "CHO", 1)}, ["f"], draws=50
    ).set_index(["lesion", "reading"])
    assert found.linear[0, "worth"] and found.text[0, "worth"].endswith("(linear)") and not found.linear[1, "worth"]


@pytest.mark.parametrize(
    ("dose", "said"),
    [((0.59, 0.55, np.inf), "59 % [55, more than 100]"), ((0.0, 0.0, 0.25), "less than 10 % [less than 10, 25]"),
     ((1.0, np.nan, np.nan), "100 %"), ((np.inf, np.nan, np.nan), "more than 100 %")],
)  # fmt: skip
def test_a_dose_is_told_in_percent_and_beyond_the_doses_as_a_bound(dose, said):
    assert equivalence.in_percent(*dose, 0.1, 1.0) == said
    assert equivalence.in_percent(*dose, 0.1, 1.0, linear=True) == f"{said} (linear)"


def test_what_a_method_adds_is_taken_patient_by_patient():
    found = equivalence.gains(equivalence.of_patients(measured()), list(DOSES), ["f"], draws=50)
    assert list(found["lesion"].unique()) == [equivalence.ALL, 0, 1] and set(found["observer"]) == {"CHO"}
    assert np.allclose(found["mean"], 0.2 * (1 + found["lesion"].replace(equivalence.ALL, 0.5)) * np.sqrt(found.dose))
    assert np.allclose(found.low, found["mean"]) and np.allclose(found.high, found["mean"])  # patients agree


def test_uncertainty_is_half_an_interval_within_and_a_spread_between_patients():
    rows = measured().assign(low=lambda t: t["value"] - 0.3, high=lambda t: t["value"] + 0.3)
    rows.loc[rows["quantity"] == "d'", "value"] += rows["patient"] % 2  # SD of 3 zeros and 3 ones
    found = equivalence.uncertainty(rows, equivalence.of_patients(rows))
    assert np.allclose(found["±, one patient"], 0.3) and np.allclose(found["SD between patients"], np.sqrt(0.3))


def test_the_best_of_some_methods_is_that_of_the_largest_dose_by_each_measure():
    found = pd.DataFrame({"measure": ["RMSE", "RMSE", "RMSE", "SSIM", "SSIM", "RMSE"],
                          "method": ["tv", "blur", "net", "tv", "blur", "tv"],
                          "reading": ["worth"] * 5 + ["full dose"],
                          "dose": [0.5, 0.3, 0.9, 0.2, np.inf, 1.0]})  # fmt: skip
    best = equivalence.best_of(found, ("tv", "blur"))
    assert list(zip(best["measure"], best["method"])) == [("RMSE", "tv"), ("SSIM", "blur")]
    assert equivalence.best_of(found, ()).empty


def test_doses_in_words_stand_with_the_greatest_first_and_by_method_as_they_are_kept():
    measures = {"d' (CHO)": ("d'", "CHO", 1), "RMSE": ("rmse_hu", "", -1)}
    found = equivalence.bought(equivalence.of_patients(measured()), list(DOSES), 1, measures, ["f"], draws=50)
    found = found[found["lesion"] == equivalence.ALL]
    told = equivalence.in_words(found, DOSES)
    assert list(told["judge"]) == ["RMSE", "d′ (CHO)"] and list(told["worth"]) == ["51 % [51, 51]", "36 % [36, 36]"]
    kept = equivalence.by_method(found, {"cho": "d' (CHO)"})
    assert list(kept) == ["full_dose_cho", "worth_cho"] and kept["worth_cho"]["f"].startswith("0.36 ")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"doses": [0.25, 0.1, 1.0]}, "doses must rise, end with 1 and hold low_dose"), ({"metrics": []}, "at least one"),
     ({"low_dose": 0.3}, "hold low_dose .0.3."), ({"kind": "blobs"}, "observer_channels are laguerre_gauss")],
)  # fmt: skip
def test_parameters_that_make_no_curve_are_refused(change, said):
    good = {"doses": [0.1, 0.25, 1.0], "low_dose": 0.25, "metrics": ["ssim"], "kind": "gabor"}
    equivalence.check(**good)
    with pytest.raises(ValueError, match=said):
        equivalence.check(**(good | change))
