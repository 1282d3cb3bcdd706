"""Two trainings of one method compared as methods: how often each test fires, their spread, every sentence."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from ldct_utils.stats import intervals, nulls


def scores(shifts, patients=10, slices=4, noise=0.05, seed=0):
    """{method: scores} of trainings that lie ``shifts`` (a list a method) apart, with noise of their own a patient."""
    rng, found = np.random.default_rng(seed), {}
    base = rng.normal(40, 3, (patients, slices))
    for number, lists in enumerate(shifts):
        rows = []
        for training, shift in enumerate(lists):
            own = rng.normal(0, noise, (patients, 1)) + rng.normal(0, noise / 5, (patients, slices))
            rows += [(p * slices + z, f"P{p:02d}", training, base[p, z] + shift + own[p, z])
                     for p, z in np.ndindex(patients, slices)]  # fmt: skip
        found[f"m{number}"] = pd.DataFrame(rows, columns=["row", "patient", "seed", "value"])
    return found


def other(table, swaps=0):
    found = nulls.both({"psnr": table}, None, swaps)
    return found, found.iloc[0]


def test_trainings_that_differ_make_every_test_fire_that_takes_networks_as_given():
    table = scores([[0, 1, -1], [0.5, -0.5, 2]])
    pairs = nulls.other_seeds(table)
    assert list(zip(pairs.method, pairs.seed, pairs.other_seed)) == [
        (m, *seeds) for m in ("m0", "m1") for seeds in ((0, 1), (0, 2), (1, 2))
    ]
    assert pairs[list(nulls.TESTS)].eq(1).all(axis=None)
    assert pairs.difference.to_list() == pytest.approx([-1, 1, 2, 1, -1.5, -2.5], abs=0.1)


def test_the_same_pair_passes_swapped_labels_and_fails_other_trainings():
    table = scores([[0, 1, -1], [0.5, -0.5, 2]])
    found = nulls.both({"psnr": table}, ("psnr", "m0", "m1"), 60).set_index("null")
    assert found.patients["labels swapped"] <= 7 and found.cases["labels swapped"] == 60
    assert found.patients["other training"] == found.cases["other training"] == 6
    assert list(nulls.both({"psnr": table}, None, 60).null) == ["other training"]


def test_trainings_that_differ_only_in_what_patients_gain_fire_a_patient_level_test_in_5_percent():
    found = [other(scores([[0, 0, 0]] * 6, seed=s))[1] for s in range(4)]
    assert sum(one.patients for one in found) / sum(one.cases for one in found) < 0.15
    assert sum(one.slices for one in found) / sum(one.cases for one in found) > 0.2  # slices as independent


def test_the_spread_is_the_root_of_the_mean_variance_between_trainings():
    _, row = other(scores([[0, 2], [10, 14]], noise=1e-9))
    assert row.sd == pytest.approx(5**0.5) and row.df == 2 and row.methods == 2
    assert [row.low, row.high] == pytest.approx(np.sqrt(2 * 5 / chi2.ppf([0.975, 0.025], 2)))
    table = scores([[0, 2]], noise=1e-9)
    table["m0"].loc[(table["m0"].seed == 1) & (table["m0"].patient < "P05"), "value"] -= 2  # half of the patients
    assert other(table)[1].sd == pytest.approx(0.5**0.5)  # of the means over patients, 0 and 1


def test_a_pooled_sd_weighs_by_degrees_of_freedom_and_passes_over_single_values():
    spread = intervals.pooled_sd([[0.0, 2.0], [1.0, 2.0, 3.0], [7.0]])
    assert spread.sd == pytest.approx(((2 + 2) / 3) ** 0.5) and spread.df == 3
    assert intervals.pooled_sd([[1.0, 1.0]]) == intervals.Spread(0.0, 0.0, 0.0, 1)
    for nothing in ([], [[1.0]]):
        spread = intervals.pooled_sd(nothing)
        assert np.isnan([spread.sd, spread.low, spread.high]).all() and spread.df == 0
    with pytest.raises(ValueError, match="finite"):
        intervals.pooled_sd([[1.0, np.inf]])


def test_the_interval_of_a_pooled_sd_holds_the_true_one_in_95_percent():
    rng = np.random.default_rng(1)
    spreads = [intervals.pooled_sd(rng.normal(0, 2, (8, 3))) for _ in range(600)]
    assert 0.92 < np.mean([one.low <= 2 <= one.high for one in spreads]) < 0.98


def test_a_training_without_a_finite_score_of_a_slice_is_compared_on_the_others():
    table = scores([[0, 1]])
    table["m0"].loc[0, "value"] = np.inf
    _, row = other(table)
    assert np.isfinite(row.sd) and row.cases == 1


def test_sentences_for_none_one_equal_few_many_and_chance():
    def said(table, patients=10):
        return nulls.trainings_said(other(table)[0], "psnr", "PSNR", patients)

    none, _ = other(scores([[0], [1]]))
    assert (
        "No method was trained twice" in said(scores([[0], [1]])) and nulls.spread_said(none, {"psnr": ("", "")}) == ""
    )
    assert np.isnan(nulls.spreads(none)["psnr"]) and nulls.in_words(none, {"psnr": "PSNR"}).iloc[0, 2:].eq("–").all()
    one = said(scores([[0, 1]]))
    assert one.startswith("The one pair of trainings of one method differs significantly in PSNR") and "One pair" in one
    assert "does not differ" in said(scores([[0, 0]], seed=2))
    assert "All trainings of a method have the same PSNR" in said(scores([[0, 0, 0]], noise=0))
    few = said(scores([[0, 1, 2]], patients=5), 5)
    assert few.startswith("5 patients are too few for the Wilcoxon test over patients to be significant")
    assert said(scores([[0, 1]], patients=1), 1).startswith("1 patient is too few for the")
    many = said(scores([[0, 1, 2]] * 9))
    assert "in 27 of 27 pairs" in many and many.endswith("speaks of these networks, not of their methods.")
    chance = said(scores([[0, 0, 0]] * 3))
    assert " of 9 pairs" in chance and chance.endswith("More than 5 % was not shown.")


def test_the_spread_is_told_with_its_unit_interval_and_degrees_of_freedom():
    table = scores([[0, 2], [10, 14]], noise=1e-9)
    found = nulls.both({"psnr": table, "ssim": table}, None, 0)
    told = (
        "Trainings of one method differ with an SD of 2.2 dB in PSNR (95 % interval 1.2 to 14), pooled over 2 methods"
    )
    assert nulls.spread_said(found, {"psnr": ("PSNR", "dB")}) == f"{told} with 2 degrees of freedom."
    one = nulls.both({"psnr": scores([[0, 2], [0]])}, None, 0)
    assert "of the one method that was trained more than once, with 1 degree of freedom." in nulls.spread_said(
        one, {"psnr": ("PSNR", "dB")}
    )
    shown = nulls.in_words(found, {"psnr": "PSNR (dB)", "ssim": "SSIM"})
    assert list(shown.columns)[-1] == "SD between trainings" and shown.iloc[0, -1] == "2.2 [1.2, 14]"
    assert list(shown.score) == ["PSNR (dB)", "SSIM"] and shown.iloc[0, 3] == "2 of 2"


def test_swapped_labels_lead_where_there_are_any():
    found = pd.DataFrame({"null": ["labels swapped"], "metric": ["psnr"], "cases": [200], "slices": [50.0],
                          "patients": [14.0]})  # fmt: skip
    labels = {"psnr": "PSNR"}
    first, rest = nulls.told(found, labels, "Of trainings.", "")
    assert "in PSNR in 25 % of 200 trials, and over patients in 7 %; 5 % is right." in first and rest == "Of trainings."
    none = found.assign(null="other training")
    assert nulls.told(none, labels, "Of trainings.", "Spread.") == ("Of trainings.", "Spread.")
    assert nulls.swapped_said(found.assign(patients=np.nan), labels) == ""


def test_a_training_can_be_told_from_another_only_where_there_are_six_patients_for_an_interval():
    _, row = other(scores([[0, 1]], patients=5))
    assert np.isnan(row.interval) and row.patients == 0 and row.slices == 1


@pytest.mark.parametrize(
    ("given", "said", "unsaid"),
    [((10, 3, 3), "that 10 patients can give is 0.00195. After Holm's correction for 3 metrics it is 0.00586.", "One"),
     ((7, 1, 1), "speak of this network, for other patients too.", "Holm"),
     ((1, 1, 1), "The smallest p that 1 patient can give is 1. Under 6 patients no interval is given. One training",
      "1 patients"),
     ((7, 1, 2), "Two trainings give a poor idea", "Under 6")],
)  # fmt: skip
def test_what_few_patients_and_trainings_cannot_show_is_said(given, said, unsaid):
    words = nulls.limits_said(*given)
    assert said in words and unsaid not in words
