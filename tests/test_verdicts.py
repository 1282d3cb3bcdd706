"""Sentences on verdicts: their none, one, several, tied and unjudged cases."""

import numpy as np
import pandas as pd
import pytest

from ldct_utils.report import verdicts

SAYS = {name: name.upper() for name in ("a", "b", "c", "d", "tv")} | {"LDCT": "LDCT"}


def stands(**scores):
    """{score: (first, {other: verdict})}."""
    return {score: ("A", others) for score, others in scores.items()}


ALL_BETTER = {"LDCT": "better", "B": "better"}
TIED = {"LDCT": "better", "B": "not shown"}


@pytest.mark.parametrize(
    ("found", "said"),
    [({}, "Nothing was compared."),
     (stands(SSIM={"LDCT": "better"}), "A is the only method."),
     (stands(SSIM=ALL_BETTER, PSNR=ALL_BETTER), "A is best by SSIM and PSNR."),
     (stands(SSIM=ALL_BETTER) | {"PSNR": ("B", {"A": "better"})}, "A is best by SSIM, and B by PSNR."),
     (stands(SSIM=TIED, PSNR=TIED), "By SSIM and PSNR no best was shown: A leads and was not shown to differ from B."),
     (stands(SSIM=ALL_BETTER, PSNR=TIED), "A is best by SSIM; by PSNR no best was shown."),
     (stands(SSIM={"LDCT": "one training", "B": "one training"}), "By SSIM no best was shown.")],
)  # fmt: skip
def test_none_is_called_best_that_was_not_shown_to_be(found, said):
    assert verdicts.best(found) == said


def test_who_got_no_verdict_is_named_beside_the_best():
    assert verdicts.best(stands(SSIM=ALL_BETTER), ["C"]) == "A is best by SSIM (C got no verdict)."


@pytest.mark.parametrize(
    ("found", "said"),
    [({}, "There was nothing to compare."),
     (stands(SSIM={"LDCT": "too few patients"}), "No comparison could be judged (too few patients)."),
     (stands(SSIM=TIED, PSNR=TIED), "By SSIM and PSNR A is better than the LDCT and was not shown to differ from B."),
     (stands(SSIM=TIED, PSNR=ALL_BETTER),
      "By SSIM A is better than the LDCT and was not shown to differ from B; by PSNR A is better than the LDCT and B."),
     (stands(SSIM={"B": "better", "C": "one training"}),
      "By SSIM A is better than B and could not be judged against C (one training)."),
     (stands(SSIM={"B": "better", "C": "better", "D": "not shown", "LDCT": "better"}),
      "By SSIM A is better than the LDCT and the 2 perceptual losses and was not shown to differ from D.")],
)  # fmt: skip
def test_how_the_first_stands_to_the_others(found, said):
    assert verdicts.beside(found, groups={"perceptual losses": ["B", "C"]}) == said


def newer(*rows):
    return pd.DataFrame(rows, columns=["metric", "method", "best before", "verdict"])


def test_newer_networks_are_set_against_their_rival_and_the_unjudged_stand_aside():
    table = newer(("psnr", "a", "tv", "better"), ("ssim", "a", "tv", "not shown"), ("psnr", "b", "a", "worse"),
                  ("ssim", "b", "a", "worse"), ("psnr", "c", "a", "one training"))  # fmt: skip
    said, aside = verdicts.newer(table, SAYS, "NDCT")
    assert said == "Against the NDCT A was better than TV by 1 of 2 scores; B was worse than A by both scores."
    assert aside == "1 of 4 comparisons of networks did not show a difference and C got no verdict (one training)."
    assert verdicts.newer(table[-1:], SAYS, "NDCT")[0] == "No network could be judged."
    assert verdicts.newer(table[:0], SAYS, "NDCT") == ("There was no network to compare.", "")
    tied, _ = verdicts.newer(newer(("psnr", "a", "LDCT", "not shown")), SAYS, "NDCT")
    assert tied == "Against the NDCT A was not shown to differ from the LDCT by the only score."


def test_a_first_is_best_only_over_older_and_newer_ones_that_were_judged():
    table = newer(("psnr", "a", "tv", "better"), ("psnr", "b", "a", "worse"), ("psnr", "c", "a", "one training"),
                  ("ssim", "a", "tv", "better"), ("ssim", "b", "a", "not shown"))  # fmt: skip
    labels = {"psnr": "PSNR", "ssim": "SSIM"}
    found = verdicts.of_newest(table, {"psnr": "a", "ssim": "a"}, ["c"], SAYS, labels)
    assert found == {"PSNR": ("A", {"TV": "better", "B": "better"}), "SSIM": ("A", {"TV": "better", "B": "not shown"})}


@pytest.mark.parametrize(
    ("gains", "said"),
    [([("a", 2.4, 2.3, 2.5, 3), ("b", 2.0, 1.9, 2.1, 3)], "On it A improves PSNR most, by 2.40 dB."),
     ([("a", 2.4, 2.3, 2.5, 3), ("b", 2.3, 2.2, 2.4, 3), ("c", 1.0, 0.9, 1.1, 3)],
      "On it A and B gain most in PSNR, 2.30 to 2.40 dB, and their ranges overlap."),
     ([("a", 2.4, 2.3, 2.5, 3), ("b", 2.3, 2.2, 2.4, 3)],
      "On it no network was shown to gain most in PSNR: they gain 2.30 to 2.40 dB."),
     ([("a", 2.4, 2.4, 2.4, 1), ("b", 2.3, 2.3, 2.3, 1)],
      "On it A has the largest gain in PSNR, 2.40 dB; one training does not show a first."),
     ([("a", 2.4, 2.4, 2.4, 1)], "On it A improves PSNR (+2.40 dB)."),
     ([("a", -1.0, -1.0, -1.0, 1)], "On it A does not improve PSNR (−1.00 dB)."),
     ([("a", -1.0, -1.1, -0.9, 2), ("b", -2.0, -2.1, -1.9, 2)],
      "On it no network improves PSNR; A loses least, 1.00 dB.")],
)  # fmt: skip
def test_who_gains_most_needs_ranges_that_do_not_overlap(gains, said):
    table = pd.DataFrame(gains, columns=["method", "gain_db", "low_db", "high_db", "seeds"])
    assert verdicts.gained_most(table, SAYS, "PSNR", "dB", "On it") == said


def kept(*rows):
    return pd.DataFrame(rows, columns=["method", "kept", "low", "high"])


def test_what_is_kept_is_told_apart_only_where_intervals_do_not_meet():
    few = kept(("a", 94, 91, 98), ("b", 90, 85, 94), ("c", 89, 85, 92))
    assert verdicts.kept(few, SAYS) == "A keeps 94 % of a lesion's contrast, B 90 % and C 89 %."
    assert verdicts.kept(few[:1], SAYS) == "A keeps 94 % of a lesion's contrast."
    rows = [("a", 96, 93, 99), ("b", 95, 93, 96), ("c", 89, 85, 92), ("d", 89, 84, 92)]
    said = verdicts.kept(kept(*rows), SAYS, {"perceptual losses": ["A", "B"]})
    assert said == "D and C keep 89 % of a lesion's contrast, the 2 perceptual losses 95 to 96 %."
    open_ = verdicts.kept(kept(*((name, value, np.nan, np.nan) for name, value, *_ in rows)), SAYS)
    assert open_ == "The 4 networks keep 89 to 96 % of a lesion's contrast, and which keeps least was not shown."


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (([], 0, "m", ""), "No other network is there to set beside a mix with the LDCT."),
        (([], 0, "m", "one training"), "Whether a network does better {what} is not decided: one training."),
        (([], 2, "m", "one training"), "None of the 2 other networks was shown to do better {what}."),
        (([], 1, "m", ""), "No other network was shown to do better {what}."),
        ((["a", "c"], 3, "m", ""), "A and c do better {what}."),
        ((["L1"], 1, "m", ""), "L1 does better {what}."),
    ],
)
def test_who_does_better_than_mixing_is_said_in_a_sentence(found, said):
    assert verdicts.mixing(*found) == said.format(what="than mixing the LDCT into the output of m")


def test_error_maps_tell_the_best_two_the_ldct_and_the_largest_bias():
    target = np.zeros((2, 4, 4))
    made = {"LDCT": target + 9, "a": target + 1, "b": target - np.array([2.0, 4.0])[:, None, None]}
    told = verdicts.errors(target, {"LDCT": target, **made}, SAYS, "NDCT", "SSIM", 3, True)
    assert told[0] == "Against the NDCT A is 1.0 HU off in these slices, B 3.0 and the LDCT 9.0 HU."
    assert "circles mark known lesions. 2 of 3 methods" in told[1] and "9.0 HU (LDCT, row 1)" in told[1]
    _, bare = verdicts.errors(target - 1000, made, SAYS, "NDCT", "SSIM", 3, False)
    assert "circles" not in bare and "largest mean error" not in bare
    only, _ = verdicts.errors(target, {"LDCT": made["LDCT"], "a": made["a"]}, SAYS, "NDCT", "SSIM", 1, False)
    assert only == "Against the NDCT A is 1.0 HU off in these slices, the LDCT 9.0 HU."


def test_hollow_is_told_only_where_something_is_hollow():
    raw = pd.DataFrame({"psi_start": [0.95], "psi_end": [0.93], "seeds": [3]})
    assert verdicts.over_psi(raw, 7).endswith("the lowest mean of a method at the end is 93 %, and lines only connect.")
    assert verdicts.over_psi(raw.assign(seeds=1), 7, ["B"]).endswith("Hollow: one training. Left out, since another "
                                                                     "setting stands in their place: B.")  # fmt: skip


def test_what_is_not_answered_names_the_encoders_and_the_psi_that_there_were():
    cells = pd.DataFrame({"context": ["random", "random"], "psi_end": [0.93, 1.0]})
    assert verdicts.unanswered(cells).endswith("is not answered, with 1 encoder and ψ of 93 to 100 %")
    assert verdicts.unanswered(cells[:0]).endswith("without a perceptual loss")


def test_settings_are_called_by_words_and_trainings_stand_in_the_order_of_their_methods():
    assert verdicts.settings(["real_ct", "network", "normalise", "max_steps", "own_thing"]) == {
        "normalise": "input scaled", "max_steps": "updates", "own_thing": "own thing"
    }  # fmt: skip
    table = pd.DataFrame({"words": ["B", "A"], "normalise": ["none", "meanstd"]})
    found = verdicts.trainings(table, {"a": "A", "b": "B"})
    assert list(found["words"]) == ["A", "B"] and list(found["normalise"]) == ["by mean and SD", "no"]
    assert verdicts.trainings(table[["words"]], {"a": "A", "b": "B"}).shape == (2, 1)


def test_seconds_of_a_slice():
    assert verdicts.takes([0.0175, 0.0725]) == "A slice takes 0.018 to 0.072 s."
    assert verdicts.takes([2.5]) == "A slice takes 2.50 s."


@pytest.mark.parametrize(
    ("liver", "lungs", "told"),
    [
        ([20, 10, 12], [40, 38, 38], "every network has less error than the LDCT in both labelled organs; the error "
         "falls least in the lungs (5 %)."),
        ([20, 10, 12], [40, 38, 42], "every network has less error than the LDCT in 1 of 2 labelled organs; not in the "
         "lungs."),
        ([20, 10, 22], [40, 41, 42], "every network has less error than the LDCT in none of the 2 labelled organs; not "
         "in the liver and the lungs."),
        ([20, 10], [40, 30], "the network has less error than the LDCT in both labelled organs; the error "
         "falls least in the lungs (25 %)."),
    ],
)  # fmt: skip
def test_errors_in_organs_of_a_real_ct_have_a_sentence_for_every_case(liver, lungs, told):
    names = ["LDCT", "MSE", "L1"][: len(liver)]
    _, finding, reading = verdicts.in_organs(pd.DataFrame({"method": names, "liver, HU": liver, "lungs, HU": lungs}))
    assert finding == f"On one real CT {told}" and "no interval and no test" in reading
    one = verdicts.in_organs(pd.DataFrame({"method": names, "liver, HU": liver}))[1]
    assert one.endswith("in the only labelled organ." if max(liver[1:]) < 20 else "in no labelled organ.")
    assert verdicts.in_organs(pd.DataFrame({"method": names}))[1] == "No organ is labelled in the real CT."
