"""Sentences on what metrics and observers say: zero, one, all, ties and too few are sentences of their own."""

import math

import numpy as np
import pandas as pd
import pytest

from ldct_utils.report import metric_words

NAN, INF = math.nan, math.inf


def test_columns_without_any_value_are_left_out_of_a_table():
    frame = pd.DataFrame({"name": ["a", "b"], "low": [NAN, 1.0], "high": [2.0, 3.0], "none": [NAN, NAN]})
    heads = {"name": "x", ("low", "high"): "y", "none": "z"}
    assert list(metric_words.known(frame, heads)) == ["name", ("low", "high")]


def test_an_interval_in_a_sentence_has_no_square_brackets():
    assert metric_words.bracketed("FBP at 25 % [25, more than 100], or 3 [1, 2]") == (
        "FBP at 25 % (25 to more than 100), or 3 (1 to 2)"
    )


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [({}, "No network was trained with any of these losses."),
     ({"L1": "not trained"}, "No network was trained with any of these losses."),
     ({"MSE": "alone", "L1": "not trained", "VGG": "not trained"},
      "For MSE there is no other network to compare with; no network was trained with L1 or VGG."),
     ({"VGG": "lowest"}, "VGG ended lowest in the network trained with it."),
     ({"MSE": "lowest", "L1": "lowest"}, "MSE and L1 ended lowest in the networks trained with them."),
     ({"MSE": "tied", "VGG": "not lowest", "L1": "not trained"},
      "For MSE the lowest networks differ by no more than their seeds; VGG ended lower in another network; no network "
      "was trained with L1.")],
)  # fmt: skip
def test_which_loss_ended_lowest_in_its_own_network(verdicts, said):
    assert metric_words.in_their_own(verdicts) == said


@pytest.mark.parametrize(
    ("errors", "said"),
    [({"MSE": 12.41, "L1": 12.44, "VGG": 13.0}, "MSE and L1 leave the least error, 12.4 HU (LDCT: 19.8 HU)."),
     ({"MSE": 12.4, "L1": 13.0}, "MSE leaves the least error, 12.4 HU (LDCT: 19.8 HU)."),
     ({"MSE": 12.4, "L1": 12.4}, "MSE and L1 leave the same error, 12.4 HU (LDCT: 19.8 HU)."),
     ({"MSE": 12.4}, "MSE leaves an error, 12.4 HU (LDCT: 19.8 HU)."),
     ({"MSE": 20.0}, "no network leaves less error than the LDCT, 19.8 HU."),
     ({"MSE": 19.79}, "no network leaves less error than the LDCT, 19.8 HU.")],
)  # fmt: skip
def test_who_leaves_least_error_on_a_slice(errors, said):
    assert metric_words.least_error({"LDCT": 19.8} | errors) == f"On this slice {said}"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((0, 0, 0), "No pair has an interval."),
     ((0, 1, 0), "The only pair was not shown to agree more within a training than between two."),
     ((0, 72, 0), "No pair of 72 was shown to agree more within a training than between two."),
     ((1, 72, 0), "1 of 72 pairs agrees more within a training than between two; a formula ties it."),
     ((1, 72, 1), "1 of 72 pairs agrees more within a training than between two; no formula ties it."),
     ((4, 72, 0), "4 of 72 pairs agree more within a training than between two; a formula ties all of them."),
     ((4, 72, 4), "4 of 72 pairs agree more within a training than between two; a formula ties none of them."),
     ((4, 72, 3), "4 of 72 pairs agree more within a training than between two; a formula ties 1 of them.")],
)  # fmt: skip
def test_pairs_that_agree_more_within_a_training(numbers, said):
    assert metric_words.tighter(*numbers) == said


@pytest.mark.parametrize(
    ("turns", "said"),
    [({"a": NAN}, "Too few checkpoints to see a reversal."),
     ({"a": 0.0, "b": 0.0}, "In the median run no loss and no metric reversed."),
     ({"a": 0.0, "b": 0.5, "c": NAN},
      "In the median run 1 of 2 losses and metrics did not reverse; b reversed most often."),
     ({"a": 0.3, "b": 0.3}, "In the median run every loss and metric reversed, a and b most often.")],
)  # fmt: skip
def test_who_reverses_most_often(turns, said):
    assert metric_words.reversals(turns) == said


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((0.28, 0.15, 0.43, 1), "One method cannot be ranked."),
     ((NAN, NAN, NAN, 3), "The metrics were not shown to rank the methods: fewer than two tell them apart."),
     ((0.28, 0.15, 0.43, 3), "The metrics agree little on the order of the 3 methods (Kendall's W 0.28, 95 % interval "
      "0.15 to 0.43; 1 would be full agreement)."),
     ((0.5, 0.4, 0.6, 3), "The metrics agree partly on the order of the 3 methods (Kendall's W 0.50, 95 % interval "
      "0.40 to 0.60; 1 would be full agreement)."),
     ((1.0, NAN, NAN, 2), "The metrics agree largely on the order of the 2 methods (Kendall's W 1.00, no interval; 1 "
      "would be full agreement).")],
)  # fmt: skip
def test_how_far_metrics_agree_about_the_order_of_methods(numbers, said):
    assert metric_words.concord(*numbers) == said


@pytest.mark.parametrize(
    ("full", "without", "said"),
    [({}, {}, "What picking a checkpoint by a loss costs is not known."),
     ({"PSNR": [NAN, NAN]}, {}, "What picking a checkpoint by a loss costs is not known."),
     ({"PSNR": [0.0, 0.1]}, {},
      "Picking a checkpoint by a loss costs 5 % of the range of a metric with a reference, on average."),
     ({}, {"PIQE": [0.9, NAN]}, "Picking a checkpoint by a loss costs 90 % of that of PIQE, on average."),
     ({"PSNR": [0.0, 0.1]}, {"PIQE": [0.9], "NIQE": [0.8], "N2Q": [NAN]},
      "Picking a checkpoint by a loss costs 5 % of the range of a metric with a reference and 80 to 90 % of that of "
      "PIQE and NIQE, on average.")],
)  # fmt: skip
def test_what_picking_by_a_loss_costs(full, without, said):
    arrays = ({label: np.array(costs) for label, costs in part.items()} for part in (full, without))
    assert metric_words.cost_of_losses(*arrays) == said


def test_who_picks_the_untrained_network():
    picked = pd.DataFrame({"name": ["a", "a", "b", "b"], "step": [0.0, 0.0, 0.0, 5.0]})
    assert metric_words.untrained(picked, {"a": "A", "b": "B"}) == "The untrained network is picked in every run by A."
    assert metric_words.untrained(picked[2:], {"b": "B"}) == ""


@pytest.mark.parametrize(
    ("steps", "said"),
    [([], "No step of noise or blur was looked at."),
     ([(1, NAN, NAN), (-1, NAN, NAN)],
      "CT-NIQE gets worse on average in 1 of 2 steps of more noise or blur; too few patients for intervals."),
     ([(1, 0.5, 2), (2, 1, 3)], "CT-NIQE gets worse in all 2 steps of more noise or blur."),
     ([(1, 0.5, 2), (0, -1, 1)],
      "CT-NIQE was shown to get worse in 1 of 2 steps of more noise or blur; b and c were not shown to differ."),
     ([(1, 0.5, 2), (-2, -3, -1)],
      "CT-NIQE was shown to get worse in 1 of 2 steps of more noise or blur; it calls c better than b.")],
)  # fmt: skip
def test_whether_a_score_gets_worse_with_noise_and_blur(steps, said):
    assert metric_words.steps_of_damage(dict(zip([("a", "b"), ("b", "c")], steps))) == said


def test_whether_the_truth_scores_better_than_the_low_dose():
    assert metric_words.of_truth(NAN, 3.0) == ""
    worse = "CT-NIQE does not rank by quality: the noise-free truth (5.98) scores worse than the LDCT (3.02)."
    assert metric_words.of_truth(5.98, 3.02) == worse
    assert metric_words.of_truth(1, 3) == "The noise-free truth (1.00) scores better than the LDCT (3.00)."
    assert metric_words.of_truth(3.0001, 3) == "CT-NIQE scores the noise-free truth and the LDCT alike (3.00)."


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((0.0257, 0.0098, 2.63), "The median metric gets worse by 2.6 % of what 25 % of the dose does to it. Lesions are "
      "1.0 % of the body, which dilutes the move: by changed pixel it is 2.6 times what 25 % of the dose does."),
     ((0.002, 0.01, 0.2), "The median metric gets worse by 0.2 % of what 25 % of the dose does to it. By changed pixel "
      "the move is 0.2 times what 25 % of the dose does: even where pixels change, it is less."),
     ((-0.1, 0.01, -10.0), "The median metric gets better by 10.0 % of what 25 % of the dose does to it."),
     ((0.1, 0.0, NAN), "The median metric gets worse by 10.0 % of what 25 % of the dose does to it."),
     ((NAN, 0.01, NAN), "By how much is not known: no metric has a unit.")],
)  # fmt: skip
def test_the_size_of_a_loss_of_lesions_is_told_with_its_dilution(numbers, said):
    assert metric_words.diluted(*numbers, "25 %") == said


def test_damage_that_metrics_call_an_improvement():
    rows = pd.DataFrame(
        [("SD", "blur", -2, -1), ("PIQE", "rings", -2, -1), ("PIQE", "streaks", -2, -1), ("PSNR", "blur", 1, 2)],
        columns=["metric", "harm", "low", "high"],
    )
    assert metric_words.praised(rows) == "PIQE calls rings and streaks an improvement; so does SD with blur."
    assert metric_words.praised(rows[:1]) == "SD calls blur an improvement."
    more = pd.concat([rows, pd.DataFrame([{"metric": "N", "harm": "shift", "low": -2, "high": -1}])])
    assert metric_words.praised(more).endswith("; so do SD with blur and N with shift.")
    assert metric_words.praised(rows[3:]) == "No metric was shown to call a damage an improvement."
    assert metric_words.praised(rows.assign(low=NAN)).endswith("is not known: no interval exists.")


def beside(*rows, livers=6):
    columns = ["harm", "d_falls", "d_rises", "with_d", "against_d"]
    return pd.DataFrame(rows, columns=columns).assign(livers=livers, metrics=18)


def test_whether_metrics_go_the_way_of_detection_is_told_damage_by_damage():
    said = {name: name.upper() for name in "abcd"}
    down, more, up, still = ("a", 6, 0, 14, 1), ("b", 6, 0, 9, 0), ("c", 0, 6, 3, 12), ("d", 3, 2, NAN, NAN)
    assert (
        metric_words.with_detection(beside(down), said)
        == "d′ falls in every liver with A (14 of 18 metrics get worse)."
    )
    assert metric_words.with_detection(beside(down, up, still, more), said) == (
        "d′ falls in every liver with A (14 of 18 metrics get worse) and B (9); d′ rises in every liver with C "
        "(3 of 18 metrics get better); with D d′ was not shown to move."
    )
    nothing = "Under no kind of damage was d′ shown to go one way in every liver."
    assert metric_words.with_detection(beside(still), said) == nothing
    alone = beside(("a", 1, 0, 18, 0), livers=1)
    assert metric_words.with_detection(alone, said).startswith("d′ falls in the one liver with A (18 of 18")
    assert metric_words.beside_detection(beside(down, still)) == [
        "14 with it, 1 against it",
        "d′ was not shown to move",
    ]


def test_a_metric_that_is_another_in_disguise():
    rows = [("none", "ssim", -1.0, 12), ("blur", "ssim", -0.88, 36), ("rings", "ssim", -0.99, 36),
            ("none", "win", -0.76, 12), ("blur", "win", NAN, 2)]  # fmt: skip
    found = pd.DataFrame(rows, columns=["harm", "name", "rho", "images"])
    labels = {"ssim": "SSIM in HU", "win": "SSIM (window)"}
    first = "The rank correlation of SSIM in HU with the MSE is −1.00 over 12 images without damage"
    assert metric_words.in_disguise(found, labels) == (
        f"{first} and −0.99 to −0.88 within a kind of damage. The rank correlation of SSIM (window) with the MSE "
        "is −0.76 over 12 images without damage."
    )
    assert metric_words.in_disguise(found[:1], labels) == f"{first}."
    assert metric_words.in_disguise(found[1:2], labels).endswith("the MSE is −0.88 within a kind of damage.")
    for none in (found[:0], found[4:], pd.DataFrame()):
        assert metric_words.in_disguise(none, labels).startswith(
            "Whether SSIM ranks images as the MSE does is not known"
        )


def test_damage_that_a_retrained_observer_undoes():
    changes = {"blur": -0.001, "unsharp": -0.005, "rings": -0.5}
    assert metric_words.unmoved(changes) == ("d′ of the retrained CHO changes by at most 0.5 % under blur and unsharp.")
    assert (
        metric_words.unmoved({"rings": -0.5}) == "Every kind of damage changes d′ of the retrained CHO by 10 % or more."
    )
    assert metric_words.unmoved({"shift": 1e-9}).startswith("d′ of the retrained CHO changes by at most 0.0 %")


def test_by_how_much_networks_change_detection():
    one, two = {"MSE network": -0.01}, {"MSE network": -0.01, "L1 network": 0.002}
    assert metric_words.changes_at_most(one, 1.0, "25 %") == (
        "At 25 % of the dose the MSE network changes the CHO's d′ over all lesions by at most 1.0 % (FBP: 1.00)."
    )
    assert "no network changes the CHO's d′ over all lesions by more than 1.0 %" in (
        metric_words.changes_at_most(two, 1.0, "25 %")
    )
    assert "by more than 0.0100 (FBP: −0.10)" in metric_words.changes_at_most(two, -0.1, "25 %")


def saving(*rows, low_dose=0.25):
    told = pd.DataFrame(rows, columns=["measure", "method", "dose", "low", "high", "worth"])
    told["judge"] = told.measure
    return metric_words.largest_saving(told, told, low_dose, lambda method: f"{method} network")


def test_scores_that_save_as_much_are_named_together():
    beyond, far = (INF, INF, INF, "more than 100 %"), (0.73, 0.69, 0.76, "73 % [69, 76]")
    assert saving(("RMSE ↓", "MSE", *beyond), ("SSIM ↑", "MSE", *beyond), ("SSIM ↑", "L1", *far)) == (
        "By RMSE and SSIM the saving is largest: the MSE network makes the image as good as FBP at more than 100 %."
    )
    near = (0.71, 0.66, 0.75, "71 % [66, 75]")
    assert saving(("RMSE ↓", "MSE", *far), ("SSIM ↑", "L1", *near)) == (
        "By RMSE and SSIM the saving is largest: 2 networks make the image up to as good as FBP at 73 % [69, 76]."
    )
    alone = (0.5, 0.4, 0.6, "50 % [40, 60]")
    assert saving(("RMSE ↓", "MSE", *far), ("SSIM ↑", "L1", *alone)).startswith(
        "By RMSE the saving is largest: the MSE"
    )
    few = (0.73, NAN, NAN, "73 %"), (0.5, NAN, NAN, "50 %")
    assert saving(("RMSE ↓", "MSE", *few[0]), ("SSIM ↑", "L1", *few[1])).startswith(
        "By RMSE the saving is largest: the"
    )
    assert saving(("RMSE ↓", "MSE", 0.25, 0.24, 0.26, "25 % [24, 26]")) == (
        "No score shows a saving, and by RMSE the MSE network makes the image as good as FBP at 25 % [24, 26]."
    )


def best_filters(*rows):
    return pd.DataFrame(rows, columns=["measure", "method", "dose", "low", "high"])


def test_the_scores_by_which_a_plain_filter_saves_dose_are_told_from_those_by_which_none_was_shown_to():
    saves, not_shown = ("RMSE ↓", "tv", 0.6, 0.5, 0.7), ("d' (CHO)", "median", 0.26, 0.24, 0.28)
    assert metric_words.filters_save(best_filters(saves, not_shown), 0.255) == (
        "A plain filter saves dose too by RMSE; by d′ (CHO) none was shown to."
    )
    both = metric_words.filters_save(best_filters(saves, ("SSIM ↑", "tv", INF, INF, INF)), 0.255)
    assert both == "A plain filter saves dose too by RMSE and SSIM."
    assert metric_words.filters_save(best_filters(not_shown), 0.255) == (
        "No plain filter was shown to save dose by any score."
    )
    few = best_filters(("RMSE ↓", "tv", 0.6, NAN, NAN), ("d' (NPW)", "tv", 0.25, NAN, NAN))
    assert metric_words.filters_save(few, 0.255).startswith("A plain filter saves dose too by RMSE; by d′ (NPW) none")


def test_networks_with_more_fine_detail_than_the_truth_and_what_they_hold_in_all():
    table = pd.DataFrame({
        "method": ["a", "b", "c"], "exceeds": [True, False, False], "surplus_low": [1.8, 1.06, 0.9],
        "frequency": [0.65, 0.65, 0.1], "repeatable": [0.61, 0.61, 0.56],
    })  # fmt: skip
    names = {"a": "A", "b": "B", "c": "C"}
    assert metric_words.more_detail(table, names) == (
        "More fine detail than the truth holds was shown for A at 0.65 lp/mm; for B it was not, after correction for "
        "the number of frequencies."
    )
    assert metric_words.more_detail(table, {"c": "C"}) == (
        "No network was shown to hold more fine detail than the truth at any frequency."
    )
    few = metric_words.more_detail(table.assign(surplus_low=NAN), {"a": "A", "b": "B"})
    assert few == "More fine detail than the truth holds was found (no interval) for A at 0.65 lp/mm."
    assert metric_words.in_total(table.repeatable) == (
        "In total the networks hold 56 to 61 % of the truth's power in fine detail."
    )
    assert metric_words.in_total(table.repeatable[:1]) == (
        "In total the network holds 61 % of the truth's power in fine detail."
    )


@pytest.mark.parametrize(
    ("after", "word"), [(0.16, "softer than"), (0.4, "sharper than"), (0.30001, "as sharp as")]
)  # fmt: skip
def test_what_a_network_does_to_a_faint_edge(after, word):
    said = metric_words.edge(after, 0.3, 30.0, "MSE network")
    assert said.startswith(f"After the MSE network an edge of 30 HU is {word} in FBP: ")
    assert metric_words.edge(NAN, 0.3, 30.0, "MSE network").endswith("could not be measured after the MSE network.")
