"""Methods compared by their scores: known orders and gains, separate cells, verdicts that few patients forbid."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.metrics import comparison
from ldct_utils.stats import paired

GAIN = {"good": 2.0, "fair": 1.0, "poor": -1.0}  # over the LDCT, of every patient alike but for a little


def scores(patients=7, slices=2, metric="psnr", sign=1, seeds=(0, 1)):
    """Scores of three methods and the LDCT in one cell; differences between patients and seeds are known."""
    rng, rows = np.random.default_rng(0), []
    base = rng.normal(40, 3, (patients, slices))
    for method, gain in (GAIN | {"LDCT": 0.0}).items():
        luck = rng.normal(0, 0.1, patients)
        for seed in seeds if method != "LDCT" else (-1,):
            for p, z in np.ndindex(patients, slices):
                value = base[p, z] + sign * (gain + luck[p] * (method != "LDCT"))
                rows.append((p * slices + z, f"P{p}", "head", "hu", "ndct", metric, value, method, seed))
    return pd.DataFrame(rows, columns=[*comparison.SLICE, "value", "method", "seed"])


def test_the_first_is_the_best_network_whichever_way_the_metric_points():
    for metric, sign in (("psnr", 1), ("rmse_hu", -1)):
        table = comparison.summary(comparison.by_slice(scores(metric=metric, sign=sign)))
        assert comparison.first(table) == "good"
        assert table.set_index("method")["rank"].to_dict() == {"good": 1, "fair": 2, "LDCT": 3, "poor": 4}
    assert comparison.first(table[table.method == "LDCT"]) is None


def test_a_score_that_is_not_finite_is_left_out_of_means_and_counted():
    table = scores()
    table.loc[(table.method == "good") & (table.row == 0), "value"] = np.inf
    found = comparison.summary(comparison.by_slice(table)).set_index("method")
    assert found["count"].to_dict() == {"good": 13, "fair": 14, "poor": 14, "LDCT": 14}
    assert np.isfinite(found["mean"]).all()


def test_the_best_is_compared_with_all_others_within_its_cell_only():
    both = pd.concat([scores(), scores(metric="rmse_hu", sign=-1)], ignore_index=True)
    tests = comparison.against_best(both, comparison.summary(comparison.by_slice(both)), draws=300)
    assert list(tests.metric) == ["psnr"] * 3 + ["rmse_hu"] * 3 and set(tests["first"]) == {"good"}
    assert tests.set_index(["metric", "other"]).difference["psnr", "poor"] == pytest.approx(3, abs=0.2)
    assert np.allclose(tests.p_patients_holm[:3], 3 * paired.smallest_p(7))  # three comparisons of a metric, not six


def test_verdicts_are_missing_where_too_few_patients_allow_none():
    for patients, known in ((7, True), (5, False)):
        table = scores(patients)
        verdict = comparison.verdicts(
            comparison.against_best(table, comparison.summary(comparison.by_slice(table)), draws=300)
        )
        assert verdict.slices.all()  # slices are many, as published
        assert verdict[["patients", "interval", "mixed"]].notna().all(axis=None) == known
        assert verdict.interval.fillna(False).all() == known


def test_an_interval_that_holds_zero_is_no_difference():
    tests = pd.DataFrame({"low": [-1.0, 0.1, -2.0], "high": [1.0, 2.0, -0.1], "patients": 9, "p_slices": 0.01,
                          "p_patients_holm": [0.04, 0.06, 0.01], "p_mixed_holm": 0.5})  # fmt: skip
    found = comparison.verdicts(tests)
    assert found.interval.to_list() == [False, True, True] and found.patients.to_list() == [True, False, True]
    assert not found.mixed.any() and found.slices.all()


def test_gains_are_over_the_ldct_and_count_the_patients_that_gain():
    for metric, sign in (("psnr", 1), ("rmse_hu", -1)):
        found = comparison.gains(scores(metric=metric, sign=sign), draws=300).set_index("method")
        assert list(found.index) == list(GAIN)
        assert np.allclose(found.gain, [sign * g for g in GAIN.values()], atol=0.1)
        assert found["patients that gain"].to_list() == [7, 7, 0] and set(found.seeds) == {2}


def test_labels_that_are_swapped_leave_what_patients_share_and_nothing_else():
    table = comparison.cells(scores(10, 4))["hu", "ndct", "psnr"]
    found = comparison.swapped(table["good"], table["poor"], swaps=40).set_index("test")["share significant"]
    assert found["Wilcoxon over slices"] > 0.1 > found["Wilcoxon over patients"]  # slices of a patient swap together
    few = comparison.cells(scores(3))["hu", "ndct", "psnr"]
    assert np.isnan(comparison.swapped(few["good"], few["poor"], 2)["share significant"][2])


ARMS = pd.DataFrame(
    [("medical", "deep", 0.95, "good"), ("medical", "shallow", 0.95, "fair"), ("random", "deep", 0.95, "poor"),
     ("random", "shallow", 0.95, "fair"), ("random", "shallow", 1.0, "poor")],
    columns=["context", "layer", "psi", "method"],
).assign(lam=np.nan, base="fair", held=False, psi_start=0.95, psi_half=0.94, psi_end=0.93)  # fmt: skip
ARMS["at"] = [f"ψ {100 * psi:g} % at start" for psi in ARMS.psi]


def test_effects_of_psi_are_differences_from_the_base_in_the_order_of_the_arms():
    found = comparison.over_psi(comparison.cells(scores()), ARMS[::-1], draws=300)
    assert list(zip(found.context, found.layer, found.psi)) == sorted(zip(ARMS.context, ARMS.layer, ARMS.psi))
    assert np.allclose(found.difference, [1, 0, -2, 0, -2], atol=0.2) and set(found.base) == {"fair"}


def test_the_interaction_needs_four_cells_at_one_psi():
    tables = comparison.cells(scores())
    found = comparison.interactions(tables, ARMS, 0.05, draws=300)
    assert found["at"].to_list() == ["ψ 95 % at start"] and found.contrast.to_list() == [
        "medical − random, shallow − deep"
    ]
    # (fair - good) - (fair - poor): less from deep to shallow in the first context, more in the second
    assert found.interaction.item() == pytest.approx(-3, abs=0.2) and found["excludes 0"].item() == "yes"
    none = comparison.interactions(tables, ARMS[1:], 0.05, draws=300)
    assert none.empty and list(none) == list(found)


def test_four_cells_are_an_interaction_at_one_psi_only_where_they_kept_it():
    tables = comparison.cells(scores())

    def kind(tolerance=0.05, **reached):
        arms = ARMS.copy()
        for moment, value in reached.items():
            arms.loc[1, f"psi_{moment}"] = value  # of one cell of four
        (row,) = comparison.interactions(tables, arms, tolerance, draws=10).itertuples()
        return row.kind, round(row.apart, 6)

    assert kind() == ("interaction at ψ 95 % at start", 0.0)
    assert kind(end=0.89) == ("interaction at ψ 95 % at start", 0.04)
    assert (
        kind(end=0.87) == ("comparison at fixed λ, ψ 95 % at start", 0.06) and "interaction" in kind(0.07, end=0.87)[0]
    )
    assert kind(start=0.5)[0] == kind(half=0.5)[0] == "comparison at fixed λ, ψ 95 % at start"  # not the end alone
    assert kind(end=np.nan)[0].startswith("comparison")  # what is not known was not kept
    (row,) = comparison.interactions(tables, ARMS, 0.05, draws=10).to_dict("records")
    assert "medical, shallow: 95 → 94 → 93" in row["psi of the cells, %"]


def test_a_psi_that_is_held_makes_no_interaction_with_one_that_is_not():
    mixed = ARMS.assign(held=[True, False, False, False, False])
    mixed.loc[0, "at"] = "ψ 95 % held"
    assert comparison.interactions(comparison.cells(scores()), mixed, 0.05, draws=10).empty


def test_effects_of_two_networks_are_each_over_the_base_of_its_own():
    arms = pd.DataFrame({"network": ["unet", "cnn10"], "context": "random", "layer": "deep", "psi": 0.95,
                         "method": ["good", "poor"], "base": ["fair", "LDCT"], "at": "ψ 95 % at start"})  # fmt: skip
    found = comparison.over_psi(comparison.cells(scores()), arms, draws=300).set_index("network")
    assert list(found.index) == ["cnn10", "unet"] and list(found.base) == ["LDCT", "fair"]
    assert found.difference["unet"] == pytest.approx(2 - 1, abs=0.2)
    assert found.difference["cnn10"] == pytest.approx(-1, abs=0.2)


def test_an_interaction_is_of_one_network():
    tables = comparison.cells(scores())
    split = ARMS.assign(network=["unet", "unet", "cnn10", "cnn10", "cnn10"])  # four cells, of two networks
    assert comparison.interactions(tables, split, 0.05, draws=300).empty
    both = pd.concat([ARMS.assign(network="unet"), ARMS.assign(network="cnn10", method="fair")], ignore_index=True)
    found = comparison.interactions(tables, both, 0.05, draws=300)
    assert list(found.network) == ["cnn10", "unet"] and list(found)[:2] == ["network", "at"]
    assert found.interaction.to_list() == pytest.approx([0, -3], abs=0.2)


def test_lambdas_given_by_hand_are_one_place_and_the_nearest_to_the_published_psi_stands_for_it():
    arms = ARMS.assign(lam=[0.1, 0.1, 0.1, 0.1, 0.5], psi=[0.9, 0.9, 0.9, 0.5, 0.9])
    found = comparison.interactions(comparison.cells(scores()), arms, 0.05, draws=300)
    assert found["at"].to_list() == ["given λ"]
    assert found.interaction.item() == pytest.approx((1 - 2) - (-1 - -1), abs=0.2)  # the shallow random one is "poor"


def test_runs_that_were_scored_otherwise_are_refused():
    one = scores(seeds=(0,))
    tables = {"scores": one[one.method == "good"], "ldct_scores": one[one.method == "LDCT"]}
    tables = {name: table.drop(columns=["method", "seed"]) for name, table in tables.items()}
    run = SimpleNamespace(name="1", table=tables.get)
    other = tables | {"ldct_scores": tables["ldct_scores"].assign(value=0.0)}
    listed = pd.DataFrame({"method": ["a", "b"], "seed": 0})
    read = comparison.read([run], [run], listed[:1], ["psnr"], "hu")
    assert set(read.method) == {"a", "LDCT"} and len(read) == 28
    with pytest.raises(ValueError, match="'body'; they have hu"):
        comparison.read([run], [run], listed[:1], ["psnr"], "body")
    with pytest.raises(ValueError, match="not scored by ssim"):
        comparison.read([run], [run], listed[:1], ["psnr", "ssim"], "hu")
    with pytest.raises(ValueError, match="runs 1 and 2 were tested on different slices"):
        both = [run, SimpleNamespace(name="2", table=other.get)]
        comparison.read(both, both, listed, ["psnr"], "hu")
