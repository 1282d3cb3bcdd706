"""Methods compared by their scores: known orders and gains, separate cells, verdicts that few patients forbid."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.metrics import comparison
from ldct_utils.report import verdicts
from ldct_utils.stats import nulls, paired

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
    assert np.allclose(tests.p_patients_holm, 2 * paired.smallest_p(7))  # two metrics of a pair, not three methods


def test_a_third_network_changes_no_verdict_and_no_p_on_the_first_two():
    both = pd.concat([scores(), scores(metric="rmse_hu", sign=-1)], ignore_index=True)
    third = both[both.method == "fair"].assign(method="third", value=lambda t: t.value + 5 * (t.metric == "psnr"))
    two, three = both[both.method != "poor"], pd.concat([both[both.method != "poor"], third], ignore_index=True)
    found = []
    for table in (two, three):  # the third is the best by PSNR, which leaves the first two one metric in Table 4
        tests = comparison.against_best(table, comparison.summary(comparison.by_slice(table)), draws=300)
        tests = tests[(tests["first"] == "good") & (tests.other == "fair")].set_index("metric")
        tests["verdict"] = comparison.verdicts(tests, pd.Series({"psnr": 1, "rmse_hu": -1})[tests.index])
        found.append(tests)
    assert set(found[0].index) == {"psnr", "rmse_hu"} and list(found[1].index) == ["rmse_hu"]
    pd.testing.assert_frame_equal(found[0].loc[["rmse_hu"]], found[1])
    assert found[1].verdict.item() == "better"


def test_a_younger_network_changes_no_row_of_the_older_ones():
    table, direction = scores(), {"psnr": 1}
    order = ["LDCT", "poor", "fair", "good"]
    two = comparison.against_older(table[table.method != "good"], order[:3], direction, draws=300)
    three = comparison.against_older(table, order, direction, draws=300)
    pd.testing.assert_frame_equal(two, three[three.method != "good"].reset_index(drop=True))
    verdict = three[three.anatomy == "all"].set_index("method").verdict
    assert verdict[["poor", "fair", "good"]].to_list() == ["worse", "better", "better"] and pd.isna(verdict["LDCT"])


def test_a_method_that_is_not_at_its_working_point_gets_no_verdict_and_is_nobodys_rival():
    order = ["LDCT", "poor", "good", "fair"]
    found = comparison.against_older(scores(), order, {"psnr": 1}, draws=300).set_index(["anatomy", "method"])
    assert found.verdict["all", "fair"] == "worse" and found["best before"]["all", "fair"] == "good"
    found = comparison.against_older(scores(), order, {"psnr": 1}, ["good", "poor"], 300)
    found = found.set_index(["anatomy", "method"])
    assert found.verdict["all", "fair"] == "better" and found["best before"]["all", "fair"] == "LDCT"
    assert found.verdict["all", "good"] == found.verdict["all", "poor"] == "not at a working point"


def test_better_by_points_the_same_way_for_every_metric():
    both = pd.concat([scores(), scores(metric="rmse_hu", sign=-1)], ignore_index=True)
    found = comparison.against_older(both, ["fair", "good"], {"psnr": 1, "rmse_hu": -1}, draws=300)
    found = found[found.anatomy == "all"].dropna(subset="best before").set_index("metric")
    assert np.allclose(found["better by"], 1, atol=0.2) and (found.verdict == "better").all()
    assert (found.low <= found["better by"]).all() and (found["better by"] <= found.high).all()


def test_a_verdict_needs_patients_trainings_and_an_interval_beside_zero():
    def verdict(seeds=(0, 1), patients=7, metric="psnr", sign=1):
        table = scores(patients, metric=metric, sign=sign, seeds=seeds)
        tests = comparison.against_best(table, comparison.summary(comparison.by_slice(table)), draws=300)
        return set(comparison.verdicts(tests, sign))

    assert verdict() == {"better"} and verdict(metric="rmse_hu", sign=-1) == {"better"}
    assert verdict(patients=5) == {"too few patients"} and verdict(seeds=(0,)) == {"one training"}
    given = {"low": [-1.0, 0.1, -2.0, 0.1, 0.1], "high": [1.0, 2.0, -0.1, 2.0, 2.0], "patients": 9, "trained": True,
             "seeds": [3, 3, 3, 1, 1], "seed_pairing": [*["paired"] * 4, "averaged"]}  # fmt: skip
    tests = pd.DataFrame(given)
    assert comparison.verdicts(tests, 1).to_list() == [
        "not shown",
        "better",
        "worse",
        "one training",
        "no seed in common",
    ]
    assert comparison.verdicts(tests, -1).to_list()[1:3] == ["worse", "better"]
    assert comparison.verdicts(tests, 0).to_list()[:3] == ["not shown", "differs", "differs"]
    assert comparison.verdicts(tests.assign(trained=False), 1).to_list()[3] == "better"  # a filter has no trainings


def test_only_the_interval_decides():
    tests = pd.DataFrame({"low": [-1.0, 0.1], "high": [1.0, 2.0], "patients": 9, "seeds": 3, "seed_pairing": "paired",
                          "trained": True, "p_slices": [1e-9, 0.9], "p_patients_holm": [1e-3, 0.9]})  # fmt: skip
    assert comparison.verdicts(tests, 1).to_list() == ["not shown", "better"]


def test_gains_are_over_the_ldct_and_count_the_patients_that_gain():
    for metric, sign in (("psnr", 1), ("rmse_hu", -1)):
        found = comparison.gains(scores(metric=metric, sign=sign), draws=300).set_index("method")
        assert list(found.index) == list(GAIN)
        assert np.allclose(found.gain, [sign * g for g in GAIN.values()], atol=0.1)
        assert found["patients that gain"].to_list() == [7, 7, 0] and set(found.seeds) == {2}


def test_labels_that_are_swapped_leave_what_patients_share_and_nothing_else():
    table = comparison.cells(scores(10, 4))["hu", "ndct", "psnr"]
    found = nulls.swapped(table["good"], table["poor"], swaps=40)
    assert found["slices"] > 4 > found["patients"]  # slices of a patient swap together
    few = comparison.cells(scores(3))["hu", "ndct", "psnr"]
    assert np.isnan(nulls.swapped(few["good"], few["poor"], 2)["interval"])


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


def test_table_3_has_means_with_sds_and_ranks_the_best_first():
    both = pd.concat([scores(), scores(metric="rmse_hu", sign=-1)])
    table = comparison.mean_and_rank(comparison.summary(comparison.by_slice(both)))
    assert list(table["method"]) == ["good", "fair", "LDCT", "poor"] and list(table["psnr rank"]) == [1, 2, 3, 4]
    assert list(table["rmse_hu rank"]) == [1, 2, 3, 4] and table["psnr"].str.fullmatch(r"\d+\.\d+ \(\d+\.\d+\)").all()
    assert set(comparison.heads_of_ranks(["psnr", "rmse_hu"])) == set(table)
    of_filters = both[both["method"] == "good"].assign(method="median", seed=-1)
    other = of_filters.assign(method="unsharp", domain="window")  # of another domain, so that it does not belong here
    wide = comparison.mean_and_rank(comparison.summary(comparison.by_slice(both)), pd.concat([of_filters, other]))
    assert list(wide["method"]) == [*table["method"], "median"] and wide["psnr rank"].isna().tolist() == [False] * 4 + [
        True
    ]
    pd.testing.assert_frame_equal(wide[:4], table, check_dtype=False)
    assert comparison.firsts(comparison.summary(comparison.by_slice(both)), "hu") == {
        "ndct": {"psnr": "good", "rmse_hu": "good"}
    }


def test_a_filter_that_is_better_than_the_best_network_is_named_with_its_score():
    both = pd.concat([scores(), scores(metric="rmse_hu", sign=-1)])
    best = comparison.firsts(comparison.summary(comparison.by_slice(both)), "hu")
    top = both[(both["method"] == "good") & (both["seed"] == both["seed"].max())].assign(seed=-1)
    over = top.assign(method="median", value=top["value"] + 5)  # better by PSNR, worse by RMSE
    found = comparison.beside_known(both, pd.concat([over, over.assign(method="blur", value=-100.0)]), best, "hu", 200)
    verdict = found.set_index(["metric", "other"])["verdict"]
    assert verdict["psnr", "median"] == "worse" and verdict["psnr", "blur"] == "better"
    fewer = over[over["row"] % 2 == 0]  # of a large cohort filters are scored on some slices
    part = comparison.beside_known(both, fewer, best, "hu", 200).set_index("metric")
    assert (part["slices"] == fewer["row"].nunique()).all() and part["verdict"]["psnr"] == "worse"
    labels = {"psnr": "PSNR", "rmse_hu": "RMSE"}
    told = verdicts.of_filters(found[found["metric"] == "psnr"], "ndct", labels)
    assert told == "Shown to be better than the best network: median by PSNR."
    none = found[(found["other"] == "blur") & (found["metric"] == "psnr")]
    assert verdicts.of_filters(none, "ndct", labels).endswith("shown to be better than each of the filters below.")
    both = found[found["other"] == "blur"].assign(verdict="not shown")
    tied = verdicts.of_filters(both, "ndct", labels)
    assert tied == "Not shown to be worse than the best network: blur by PSNR and RMSE."
    few = found.assign(verdict="too few patients")
    assert verdicts.of_filters(few, "ndct", labels) == "The filters below were not judged (too few patients)."
    empty = comparison.beside_known(both, pd.DataFrame(), best, "hu")
    assert verdicts.of_filters(empty, "ndct", labels) == "No filters stand beside them."


def test_what_is_better_is_positive_whichever_way_the_metric_points():
    table = pd.DataFrame({"metric": ["psnr", "rmse_hu", "bias_hu"], "gap": [1.0, -2.0, 3.0],
                          "low": [0.5, -3.0, np.nan], "high": [1.5, 1.0, np.nan]})  # fmt: skip
    found = comparison.turned(table, "gap")
    assert list(found["better_by"]) == [1, 2, 3]
    assert list(found["low"][:2]) == [0.5, -1] and list(found["high"][:2]) == [1.5, 3] and found["low"].isna()[2]


@pytest.mark.parametrize(("metric", "sign"), [("psnr", 1), ("rmse_hu", -1)])
def test_what_patients_gain_is_positive_and_a_method_is_not_set_beside_itself(metric, sign):
    pairs = {"good": ("good", "LDCT"), "poor": ("poor", "LDCT"), "same": ("good", "good")}
    table = comparison.by_patient(scores(metric=metric, sign=sign), "hu", "ndct", metric, pairs, draws=100)
    assert set(table["method"]) == {"good", "poor"} and len(table) == 14 and set(table["anatomy"]) == {"head"}
    means = table.groupby("method")[["better_by", "mean"]].mean()
    assert means["better_by"].to_numpy() == pytest.approx(means["mean"].to_numpy())
    assert means["mean"]["good"] == pytest.approx(2, abs=0.2) and means["mean"]["poor"] == pytest.approx(-1, abs=0.2)
    assert comparison.by_patient(scores(), "hu", "ndct", "psnr", {"same": ("good", "good")}).empty


def test_the_closest_two_are_those_whose_labels_are_swapped():
    tests = pd.DataFrame({"metric": "psnr", "first": "a", "other": ["b", "c"], "difference": [-0.5, 1], "patients": 7})
    assert comparison.closest(tests) == ("psnr", "a", "b")
    assert comparison.closest(tests.assign(patients=1)) is None and comparison.closest(tests[:0]) is None


def test_the_best_effect_is_that_of_a_fixed_lambda_over_an_mse_base():
    rows = [("a", "mse", False, 0.1), ("b", "mse", False, 0.3), ("c", "mse", True, 0.5), ("d", "LDCT", False, 3.0)]
    table = pd.DataFrame(rows, columns=["method", "base", "held", "better_by"]).assign(reference="ndct", metric="psnr")
    assert comparison.best_effect(table, "ndct", "psnr")["method"] == "b"
    assert comparison.best_effect(table[table["held"]], "ndct", "psnr")["method"] == "c"
    assert comparison.best_effect(table[3:], "ndct", "psnr")["method"] == "d"


def test_published_effects_follow_from_the_published_means():
    paper = comparison.published_effects()
    assert np.allclose(paper["d derived"], paper["d published"], atol=0.006) and len(paper) == 4
