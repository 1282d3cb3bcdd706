"""Sentences of what observers say, each with its zero, one, all and too-few case."""

import numpy as np
import pandas as pd
import pytest

from ldct_utils.task_based import characterise, panel, said, tasks, trial

FADED = "an eraser that fades lesion and noise alike"


# ---- 04d ----
def faded(observer, share, task=tasks.FINE):
    return {"observer": observer, "image": tasks.FADE, "task": task, "d_prime": 1 - share, "gap": -share}


def test_who_notices_that_lesion_and_noise_fade():
    low = pd.DataFrame([faded("A", 0.0), faded("B", 0.5), faded("A", 0.9, tasks.PATIENTS), faded("C", 0.4)])
    one, all_of_them = f"In the cylinder {FADED} is noticed by", "in patients by the only observer asked there."
    assert said.fading(low, ["A", "B"]) == f"{one} B alone, {all_of_them}"
    assert said.fading(low, ["A"]) == f"{one} no observer, {all_of_them}"
    assert said.fading(low, ["B", "C"]) == f"{one} both observers."
    assert said.fading(low, []) == f"No observer is believed, so none is asked about {FADED}."
    blind = low.assign(gap=0.0)
    assert said.fading(blind, ["A", "B"]).endswith("in patients by no observer asked there.")


def compared(*rows):
    """(observer, task, worth, low, high)."""
    return pd.DataFrame(rows, columns=["observer", "task", "worth", "worth_low", "worth_high"])


def test_dose_that_is_saved_is_told_with_patients_and_observers():
    asked = compared(
        ("A", tasks.LARGE, 0.5, 0.4, 0.6), ("A", tasks.FINE, 0.4, 0.3, 0.5), ("B", tasks.LARGE, 0.3, 0.27, 0.33),
        ("B", tasks.PATIENTS, 0.9, 0.1, 1.0), ("A", tasks.PATIENTS, 0.2, 0.18, 0.22),
    )  # fmt: skip
    assert said.dose_saved(asked, asked, 0.25) == (
        "Dose is saved in 3 of 5 comparisons, and lost in 1 of 5 that could show a loss; in livers it is saved in none "
        "of the 2 comparisons."
    )
    assert said.savers(asked, 0.25) == "Savings by observer: A 2 (the best as good as FBP at 50 %) and B 1 (30 %)."
    away = asked[asked["task"] != tasks.PATIENTS]
    assert said.dose_saved(away, asked, 0.25).endswith(
        "and lost in 1 of 5 that could show a loss; in livers no observer that gains from dose could be asked: no "
        "image was shown to raise its d′ there."
    )
    assert said.dose_saved(away, away, 0.25).endswith(
        "; in livers no observer could be asked: more dose was not shown to raise its d′ there."
    )
    assert said.dose_saved(asked[:0], asked, 0.25) == (
        "About saved dose no observer that gains from dose could be asked: no image was shown to raise its d′. Dose is "
        "lost in 1 of 5 comparisons."
    )
    assert said.dose_saved(asked[:0], asked[:0], 0.25).endswith("more dose was not shown to raise its d′.")
    assert said.savers(asked[:0], 0.25) == said.savers(asked[3:], 0.25) == "No observer saves dose."


def test_observers_that_are_not_counted_or_not_drawn_are_named():
    looked = compared(*((one, tasks.LARGE, 0.3, 0.2, 0.4) for one in ("A", panel.RETRAINED, panel.SEARCH)))
    told = said.unheard(looked, looked[:1], panel.RETRAINED)
    assert told.endswith(f"to help: {panel.RETRAINED} (a ceiling); {panel.SEARCH}.")
    there = compared(*(("A", task, 0.3, 0.2, 0.4) for task in (tasks.LARGE, tasks.FINE, tasks.PATIENTS)))
    assert said.unheard(there, there[:1], panel.RETRAINED).endswith(
        f"to help: A in “{tasks.FINE}” and “{tasks.PATIENTS}”."
    )
    assert said.unheard(looked, looked, panel.RETRAINED) == ""
    met = pd.MultiIndex.from_frame(looked[["task", "observer"]])
    assert said.undrawn(looked, met, looked["observer"]) == ""
    assert said.undrawn(looked, met[1:], ["A"]).endswith(f"A in “{tasks.LARGE}”.")
    assert set(said.KEEPS) == {trial.NOTHING, trial.DOSE, trial.BEST, trial.BLUR, trial.ERASER}


# ---- 04e ----
def judged(**verdicts):
    """{observer: {image: verdict}}: each image's verdict of the observer that decides, and of the three others."""
    first, *others = characterise.OBSERVERS
    return {first: {name: pair[0] for name, pair in verdicts.items()}} | {
        other: {name: pair[1] for name, pair in verdicts.items()} for other in others
    }


@pytest.fixture
def whole():
    row = {"detection": 1.3, "detection_low": 1.2, "detection_high": 1.4, "shape": 0.8, "shape_low": 0.7}
    return pd.DataFrame([row | {"shape_high": 0.9}], pd.MultiIndex.from_tuples([("a network", characterise.DECIDES)]))


def test_an_answer_names_its_observer_and_how_many_agree(whole):
    yes, open_, harm = characterise.CONFIRMED, characterise.OPEN, characterise.HARM_ALONE
    of = judged(**{"b": (open_, open_), "c": (open_, open_), "a network": (yes, harm)})
    assert said.answer(of, ["of rain"], whole).endswith("harms to see its shape, because of rain.")
    assert said.answer(of, [], whole) == (
        "After the a network, an observer (CHO, learned on FBP) detects lesions better and tells shapes worse; no "
        "other of the 4 observers says the same. Its d′, against that of FBP, is 1.30 times (1.20 to 1.40) in "
        "detection and 0.80 times (0.70 to 0.90) in shape. After b and c, the same observer is shown neither to "
        "detect lesions better nor to tell shapes worse; all 4 observers say the same."
    )
    assert said.given_by(of) == (
        "The verdict of CHO, learned on FBP, is given by 1 of 4 observers for the a network and by all 4 observers for "
        "c and b."
    )
    assert said.given_by(of, ["of rain"]) == "No verdict is given, because of rain."
    assert said.beside_noise(of, "b").endswith("nor to tell shapes worse, with internal noise and without.")
    assert said.beside_noise(of, "a network").endswith(
        "; with internal noise it tells shapes worse and is not shown to detect lesions better."
    )
    assert set(said.VERDICTS) == {yes, open_, harm, characterise.HELP_ALONE, characterise.REFUTED}
    assert set(said.READERS) == set(characterise.OBSERVERS)


def test_strengths_at_which_both_are_shown():
    rows = pd.DataFrame({"name": "a", "share": [0.67, 1.0], "said": characterise.CONFIRMED})
    assert said.at_part(rows) == "; help and harm are both shown for a at 67 %"
    assert said.at_part(rows[1:]) == ""


def test_contrasts_are_told_apart_by_their_intervals():
    rows = pd.DataFrame({"ratio": [0.9, 0.94], "low": [0.85, 0.9], "high": [0.95, 0.99]})
    told = "At both contrasts, d′ of shape after total variation is 0.90 to 0.94 times that of FBP"
    assert said.over_contrasts(rows, "total variation") == f"{told}; the intervals overlap."
    apart = rows.assign(low=[0.85, 0.93], high=[0.91, 0.99])
    assert said.over_contrasts(apart, "total variation") == f"{told}; not all intervals overlap."
    assert said.over_contrasts(rows.assign(low=np.nan), "total variation") == f"{told}."
    assert said.over_contrasts(rows[:1], "MSE network") == (
        "At its only contrast, d′ of shape after the MSE network is 0.90 times that of FBP."
    )


def test_controls_are_named():
    came_out = {"one holds": True, "two holds": True}
    assert said.held(came_out) == "Both controls came out as they must: one holds and two holds."
    assert said.held(came_out | {"one holds": False}) == "1 of 2 controls came out as they must. Wrong: one holds."
