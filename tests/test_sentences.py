"""Sentences with numbers: zero, one, all and too few are sentences of their own; positive is better everywhere."""

import math

import pandas as pd
import pytest

from ldct_utils.report import captions, sentences

NAN = math.nan
UP, DOWN, MIXED = (True, False), (False, True), (False, False)  # better, and worse, in every run


@pytest.mark.parametrize(
    ("number", "word", "said"),
    [(0, "patient", "0 patients"), (1, "patient", "1 patient"), (2, "patch", "2 patches"), (3, "study", "3 studies"),
     (2, "day", "2 days")],
)  # fmt: skip
def test_a_number_of_things(number, word, said):
    assert sentences.plural(number, word) == said


@pytest.mark.parametrize(
    ("number", "total", "said"),
    [(0, 0, "no metric"), (0, 1, "no metric"), (1, 1, "the only metric"), (0, 17, "none of the 17 metrics"),
     (3, 17, "3 of 17 metrics"), (17, 17, "all 17 metrics"), (2, 2, "both metrics")],
)  # fmt: skip
def test_how_many_of_all(number, total, said):
    assert sentences.some(number, total, "metric") == said


def test_more_than_all_is_refused():
    with pytest.raises(ValueError, match="4 of 3 metrics"):
        sentences.some(4, 3, "metric")


@pytest.mark.parametrize(
    ("words", "most", "said"),
    [([], None, "none"), (["a"], None, "a"), (["a", "b"], None, "a and b"), ("abc", None, "a, b and c"),
     ("abcde", 2, "a, b and 3 more"), ("ab", 2, "a and b")],
)  # fmt: skip
def test_a_list(words, most, said):
    assert sentences.listed(words, most=most) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.95, "0.950"), (-0.33, "−0.330"), (308.4, "308"), (1234.5, "1,234"), (0.0355, "0.0355"), (0.0, "0.00"),
     (NAN, "–"), (None, "–"), (math.inf, "∞"), (-math.inf, "−∞"), (-3.21e-9, "−3.21 · 10⁻⁹"), (1e-12, "1.00 · 10⁻¹²")],
)  # fmt: skip
def test_a_number_alone_has_three_digits_and_a_true_minus(value, said):
    assert sentences.number(value) == said


def test_no_zero_has_a_sign():
    assert sentences.number(-0.001, 2) == "0.00" == sentences.number(0.001, 2, sign=True)
    assert sentences.number(0.2, 1, "dB", sign=True) == "+0.2 dB"


@pytest.mark.parametrize(
    ("values", "said"),
    [((0.69, 0.65, 0.74), "0.69 [0.65, 0.74]"), ((82.1, 77.3, 87.2), "82 [77, 87]"),
     ((-0.03, -1.48, 1.42), "−0.0 [−1.5, 1.4]"), ((12.632, 12.59, 12.67), "12.63 [12.59, 12.67]"),
     ((1.2e-5, 1.1e-5, 1.3e-5), "1.20 · 10⁻⁵ [1.10 · 10⁻⁵, 1.30 · 10⁻⁵]"),
     ((0.5, NAN, NAN), "0.500"), ((0.0, 0.0, 0.0), "0.0 [0.0, 0.0]"), ((NAN, NAN, NAN), "–")],
)  # fmt: skip
def test_a_value_and_its_interval(values, said):
    assert sentences.interval(*values) == said.replace("−0.0 [", "0.0 [")


@pytest.mark.parametrize(
    ("values", "said"),
    [((0.33, 0.02, 0.64), "is 0.33 dB better than MSE (95 % interval 0.02 to 0.64 better)"),
     ((-0.33, -0.64, -0.02), "is 0.33 dB worse than MSE (95 % interval 0.02 to 0.64 worse)"),
     ((-0.25, -1.5, 1.4), "was not shown to differ from MSE (0.2 dB worse; 95 % interval 1.5 worse to 1.4 better)"),
     ((0.0, -0.2, 0.2), "was not shown to differ from MSE (0 dB apart; 95 % interval 0.20 worse to 0.20 better)"),
     ((0.33, NAN, NAN), "is 0.330 dB better than MSE (no interval)"),
     ((0.0, NAN, NAN), "is as good as MSE (no interval)"), ((NAN, NAN, NAN), "could not be compared with MSE"),
     ((NAN, -1.0, 1.0), "could not be compared with MSE"), ((None, NAN, NAN), "could not be compared with MSE")],
)  # fmt: skip
def test_a_comparison_says_its_direction_and_what_was_not_shown(values, said):
    assert sentences.compared(*values, "MSE", "dB") == said


def test_a_share_in_percent():
    assert sentences.percent(0.25) == "25 %" and sentences.percent(0.0053, 2) == "0.53 %"
    assert sentences.percent(NAN) == "–"


@pytest.mark.parametrize(("notebook", "number"), [("04b_dose", "4b"), ("12_answers", "12"), ("03_train", "3")])
def test_figures_are_cited_by_the_number_of_their_notebook(notebook, number):
    assert captions.chapter(notebook) == number


@pytest.mark.parametrize(
    ("first", "said"),
    [({}, "nothing is first"), ({"SSIM": "MSE"}, "MSE is first by SSIM"),
     ({"SSIM": "MSE", "PSNR": "MSE"}, "MSE is first by SSIM and PSNR"),
     ({"SSIM": "MSE", "PSNR": "L1", "RMSE": "MSE"}, "MSE is first by SSIM and RMSE, and L1 by PSNR"),
     ({"a": "x", "b": "y", "c": "z"}, "X is first by a, and y by b and z by c")],
)  # fmt: skip
def test_who_is_first_by_what(first, said):
    assert sentences.leaders(first) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "Too few patients for intervals."), (5, "Too few patients for intervals."),
     (6, "Bars: 95 % intervals over 6 patients.")],
)  # fmt: skip
def test_what_bars_are_and_when_there_are_none(number, said):
    assert sentences.bars(number, "patient") == said
    assert sentences.bars(7, "study", "Brackets") == "Brackets: 95 % intervals over 7 studies."


@pytest.mark.parametrize(
    ("gain", "said"),
    [(0.352, "MSE improves PSNR most, by 0.35 dB"), (-0.012, "no network improves PSNR; MSE loses least, 0.01 dB"),
     (0.0, "no network improves PSNR; MSE loses least, 0.00 dB")],
)  # fmt: skip
def test_the_largest_gain_is_no_gain_where_it_is_negative(gain, said):
    assert sentences.gained("MSE", gain, "PSNR", "dB") == said


@pytest.mark.parametrize(
    ("rose", "said", "missed"),
    [({"a": UP}, "The only new metric, a, improved in every run.", ""),
     ({"a": DOWN}, "The only new metric, a, got worse in every run.", ""),
     ({"a": MIXED}, "The only new metric, a, did not improve in every run.", ""),
     ({"a": UP, "b": UP}, "Both new metrics improved in every run.", ""),
     ({"a": DOWN, "b": DOWN}, "Both new metrics got worse in every run.", ""),
     ({"SSIM": UP, "b": DOWN, "c": UP}, "2 of 3 new metrics improved in every run.", "Worse in every run: b."),
     ({"SSIM": DOWN, "b": MIXED}, "None of the 2 new metrics improved in every run.",
      "Worse in every run: SSIM. Not in one direction in all runs: b.")],
)  # fmt: skip
def test_which_metrics_improved_and_which_did_not(rose, said, missed):
    assert sentences.improved(rose, "new") == (said, missed)


@pytest.mark.parametrize(
    ("limits", "said"),
    [({}, "No metric was asked whether it notices that."),
     ({"PSNR": 5.0}, "PSNR notices that they are gone up to 5 HU of noise."),
     ({"PSNR": 5.0, "SSIM": 0.0}, "SSIM notices that they are gone only without noise, PSNR up to 5 HU."),
     ({"PSNR": 5.0, "SSIM": 5.0, "MaxSRMSE": 20.0},
      "PSNR and SSIM notice that they are gone up to 5 HU of noise, MaxSRMSE up to 20 HU."),
     ({"PSNR": 0.0, "SSIM": NAN}, "PSNR notices that they are gone only without noise. SSIM was not shown to notice "
      "the removal at any level of noise."),
     ({"PSNR": NAN, "SSIM": NAN}, "PSNR and SSIM were not shown to notice the removal at any level of noise.")],
)  # fmt: skip
def test_up_to_how_much_noise_a_removal_is_noticed(limits, said):
    assert sentences.noticed(limits, 18, 71) == f"We removed 18 of 71 lesions and added noise. {said}"


def test_of_what_was_removed_one_is_singular_and_none_is_told():
    one = "We removed 1 of 4 structures and added noise. PSNR notices that it is gone up to 5 HU of noise."
    assert sentences.noticed({"PSNR": 5.0}, 1, 4, "structure") == one
    assert sentences.noticed({"PSNR": 0.5}, 0, 4) == "No lesion was removed, so that there is nothing to notice."


@pytest.mark.parametrize(
    ("falls", "total", "said"),
    [(0, 6, "None of the 6 metrics calls"), (1, 6, "1 of 6 metrics calls"), (4, 6, "4 of 6 metrics call"),
     (6, 6, "All 6 metrics call"), (1, 1, "The only metric calls"), (0, 1, "No metric calls")],
)  # fmt: skip
def test_how_many_metrics_call_an_image_worse(falls, total, said):
    told = sentences.worsened(falls, total)
    assert told == f"{said} the image worse in every patient when all lesions are removed."


@pytest.mark.parametrize(
    ("sentence", "said"),
    [("an image as good as FBP at 53 %, for d′ as FBP at 25 %.", None),
     ("an image as good as FBP at less than 25 %, for d′ as FBP at less than 25 % [less than 25, 30].",
      "an image worse than FBP at 25 %, for d′ worse than FBP at 25 % [less than 25, 30]."),
     ("an image as good as FBP at more than 100 %.", "an image better than FBP at 100 %."),
     ("as good as FBP at more than 100 % [more than 100, more than 100].", "better than FBP at 100 %.")],
)  # fmt: skip
def test_a_bound_of_a_dose_is_told_as_what_it_means(sentence, said):
    assert sentences.beyond(sentence) == (said or sentence)


def test_a_domain_is_told_by_its_grey_values():
    assert sentences.scale("viana2025") == "256 grey levels from −1024 to 3072 HU, as in Viana et al. (2025)"
    assert sentences.scale("window C 40 W 400") == "window C 40 W 400"


def test_what_a_working_point_asks():
    said = sentences.asked(0.02, 1.0)
    assert "less than 2 % over the last quarter" in said
    assert said.endswith("If it was trained without a critic, its PSNR is at least 1 dB above its input's.")


def test_how_much_longer_the_slowest_takes():
    assert sentences.slowest([0.1, 12.0, 1]) == "The slowest method takes 120 times as long as the fastest."
    assert sentences.slowest([0.5]) == "The one method takes 0.500 s a slice."


def test_one_network_alone_does_not_keep_the_least():
    assert sentences.kept_least("MSE", "63 %", 3) == "MSE keeps least of a lesion's contrast, 63 %."
    assert sentences.kept_least("MSE", "63 %", 1, "the lesions' contrast") == "MSE keeps 63 % of the lesions' contrast."


@pytest.mark.parametrize(
    ("tau", "said"),
    [(NAN, "Kendall's τ needs three networks or more without ties."),
     (1.0, "The order here and that of the test patients have Kendall's τ = 1.00 (1: the same)."),
     (-0.333, "The order here and that of the test patients have Kendall's τ = −0.33 (1: the same).")],
)  # fmt: skip
def test_an_order_is_told_by_a_tau_that_is_at_most_one(tau, said):
    assert sentences.ordered(tau) == said


def test_a_difference_too_small_for_decimals_is_told_by_a_power_of_ten():
    assert sentences.compared(1.2e-5, NAN, NAN, "MSE", "dB") == "is 1.20 · 10⁻⁵ dB better than MSE (no interval)"
    assert "(1.20 · 10⁻⁵ worse; 95 % interval 3.00 · 10⁻⁵ worse to" in sentences.compared(-1.2e-5, -3e-5, 1e-5, "MSE")


@pytest.mark.parametrize(
    ("number", "total", "said"),
    [(0, 3, "None of the 3 rows has a limit."), (1, 3, "1 of 3 rows has a limit; the others are for comparison."),
     (16, 20, "16 of 20 rows have a limit; the others are for comparison."), (20, 20, "All 20 rows have a limit.")],
)  # fmt: skip
def test_how_many_rows_have_a_limit(number, total, said):
    assert sentences.limits(number, total) == said


@pytest.mark.parametrize(
    ("errors", "ratios", "said"),
    [({}, {"B30": 0.8}, "The spectrum of the added noise was not compared with a scanner's."),
     ({"D45": 0.1}, {"D45": 0.8}, "In RMS, the spectrum of the added noise lies 10 % (D45) from that of one scanner."),
     ({"B30": 0.06}, {"B30": NAN}, "In RMS, the spectrum of the added noise lies 6 % (B30) from that of one scanner."),
     ({"B30": 0.06, "D45": 0.1}, {"B30": 0.839}, "In RMS, the spectrum of the added noise lies 6 % (B30) and 10 % "
      "(D45) from that of one scanner. Noise power along x is 0.84 of that along y, on the scanner 0.65; this has no "
      "limit.")],
)  # fmt: skip
def test_how_near_noise_comes_to_a_scanners(errors, ratios, said):
    assert sentences.like_scanner(errors, ratios, 0.65) == said


def test_how_far_two_series_differ_either_way():
    assert sentences.apart([1.0, 2.0], [1.1, 1.6]) == "25 %" and sentences.apart([3.0], [3.0]) == "0 %"


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [(0.95, 0.929, "ψ went from 95.0 % to 92.9 % in training."), (0.9980, 0.9988, "ψ went from 99.8 % to 99.9 % in "
      "training."), (0.95, 0.9501, "ψ stayed at 95.0 % in training."), (None, None, "ψ was not followed in this run.")],
)  # fmt: skip
def test_where_a_share_went(start, end, said):
    assert sentences.went("ψ", start, end) == said


def test_what_is_kept_stands_beside_what_a_mixture_with_the_input_would_keep():
    more = "mixing some of the input back in keeps more, as a rule at more error"
    assert sentences.keeps(0.67) == f"The network keeps 67 % of the contrast of lesions; {more}."
    assert sentences.keeps(0.89, 0.8) == (
        f"The network keeps 89 % of the contrast of lesions and 80 % of that of faint ones (under 25 HU); {more}."
    )
    assert sentences.keeps(0.67, float("nan")) == sentences.keeps(0.67)
    assert sentences.keeps(1.02) == "The network keeps 102 % of the contrast of lesions."
    assert sentences.keeps(0.9998) == "The network keeps 100 % of the contrast of lesions."
    assert sentences.keeps(None).startswith("No lesion is known in these patients")
    several = pd.DataFrame({"kept": [0.9, 1.01], "patients": 10, "target": "truth", "seeds": [3, 1]})
    drawn, listed = sentences.beside_blends(several.assign(base="mse"), {"mse": "MSE"})
    assert drawn == (
        "Above and right of the curve a network is better than MSE with some of the LDCT mixed in. PSNR: in HU, slices "
        "with lesions, against the noise-free truth. Bars: 95 % intervals over 10 patients and trainings."
    )
    assert listed == (
        "The LDCT keeps 100 % and gains 0 dB. PSNR over a mix: above 0 dB a network has less error than the mix that "
        "keeps as much. Brackets: 95 % intervals over 10 patients and trainings."
    )
    alone = sentences.beside_blends(several[1:].assign(base="mse"), {"mse": "MSE"})[0]
    assert alone.endswith("Bars: 95 % intervals over 10 patients.")
    one = pd.DataFrame({"kept": [1.0], "patients": [3], "target": ["ndct"], "seeds": 1})
    assert sentences.beside_blends(one.assign(base="mse"), {"mse": "MSE"}) == (
        "PSNR: in HU, slices with lesions, against the NDCT. Too few patients for intervals.",
        "The LDCT keeps 100 % and gains 0 dB. Too few patients for intervals.",
    )
