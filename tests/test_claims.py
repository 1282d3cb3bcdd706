"""A claim of equivalence stands only where its controls lose, and says in words why where it does not."""

import numpy as np
import pandas as pd
import pytest

from ldct_utils.stats import claims

GOOD = {"simulated": (2.9, 6.0), "real": (2.92, 6.0), "white": (1.5, 4.0), "flat": (2.2, 6.0)}


def table(means, seeds=5, spread=0.05):
    """Values of trainings around the means of their arms, by measure."""
    rows = []
    for arm, both in means.items():
        for measure, mean in zip(("error", "texture"), both):
            luck = np.linspace(-1, 1, seeds) * spread if seeds > 1 else [0.0]
            rows += [{"arm": arm, "seed": s, "measure": measure, "value": mean + one} for s, one in enumerate(luck)]
    return pd.DataFrame(rows)


def decide(means, controls=("white", "flat"), **options):
    return claims.decide(table(means, **options), "simulated", "real", list(controls), 0.2)


def test_arms_that_agree_are_equivalent_where_every_control_loses():
    found = decide(GOOD)
    assert (found.verdict, found.reasons) == ("equivalent", [])
    shown = found.table.set_index(["measure", "second"])
    assert shown.difference["error", "real"] == pytest.approx(-0.02) and shown.holds.sum() == 5
    assert not shown.holds["texture", "flat"]  # one control that differs is enough beside the first measure
    assert shown.n_first.eq(5).all() and list(found.table.columns) == claims.COLUMNS


@pytest.mark.parametrize("control", [2.9, 2.75, 3.4])
def test_a_control_that_does_not_lose_leaves_the_claim_open(control):
    found = decide(GOOD | {"flat": (control, 6.0)})
    assert found.verdict == "not decided"
    assert found.reasons == ["the control “flat” was not shown to lose by more than the margin"]


def test_a_measure_in_which_no_control_differs_shows_nothing():
    found = decide(GOOD | {"white": (1.5, 6.05)})
    assert found.reasons == ["no control differs by more than the margin in texture"]


def test_a_measure_without_equivalence_leaves_the_claim_open():
    assert decide(GOOD | {"real": (2.92, 6.18)}).reasons == ["texture was not shown to be equal"]
    assert decide(GOOD | {"real": (2.92, 6.5)}).reasons == ["simulated are worse by more than the margin in texture"]
    assert decide(GOOD | {"real": (2.92, 5.5)}).reasons == ["simulated are better by more than the margin in texture"]
    assert decide(GOOD, spread=0.6).verdict == "not decided"


@pytest.mark.parametrize(("real", "verdict"), [(3.6, "worse"), (2.2, "better")])
def test_a_difference_beyond_the_margin_is_said_as_such(real, verdict):
    assert decide(GOOD | {"real": (real, 6.0)}).verdict == verdict


def test_too_few_trainings_no_controls_and_missing_arms_decide_nothing():
    assert decide(GOOD, seeds=1).reasons == ["1 training of an arm shows no spread between trainings"]
    assert decide(GOOD, controls=()).reasons == ["there is no control that had to lose"]
    found = decide({"simulated": (2.9, 6.0)}, controls=())
    assert found.reasons == ["there is no network real"] and found.table.empty
    assert claims.decide(table(GOOD)[:0], "simulated", "real", [], 0.2).verdict == "not decided"
