"""Models of quality maps compared: shared seeds, baselines without seeds, slopes, and what the claims decide."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.noise2quality import comparison

LEVEL = {"n2q": 0.8, "unet": 0.6, "lookup": 0.7, "constant": 0.5}
DOSES = {0.05: 0.3, 0.25: 0.6, 0.75: 0.9}  # and the true mean quality


def run(model, seed, patients=7, slope=1.0):
    """A run of 08a in memory: SSIM by model, an MSE of 1 - SSIM; a little better with every seed."""
    rng, rows, classes = np.random.default_rng(seed), [], []
    for who in (model, "lookup", "constant"):
        for p in range(patients):
            for dose, true in DOSES.items():
                ssim = LEVEL[who] + (0.01 * seed + rng.normal(0, 0.01) if who == model else 0)
                mean = 0.6 + slope * (true - 0.6)
                for metric, value in {"ssim": ssim, "mse": 1 - ssim, "nrmse": 1 - ssim, "bias": mean - true,
                                      "mean": mean}.items():  # fmt: skip
                    rows += [(f"P{p}", dose, who, region, metric, value) for region in comparison.REGIONS]
    for who in (model, "noise number"):
        right = who == "noise number" or seed == 0  # a network is right at seed 0 alone
        classes += [(f"P{p}", dose, who, dose if right else 0.5) for p in range(patients) for dose in DOSES]
    tables = {"scores": pd.DataFrame(rows, columns=["patient", "dose", "model", "region", "metric", "value"]),
              "dose_classes": pd.DataFrame(classes, columns=["patient", "dose", "model", "predicted"])}  # fmt: skip
    return SimpleNamespace(table=tables.get)


@pytest.fixture(scope="module")
def scores():
    keys = [("n2q", 0), ("n2q", 1), ("unet", 1), ("unet", 2)]
    return comparison.read({key: run(*key) for key in keys})


def claimed(keys, slope=1.0, patients=7):
    runs = {key: run(*key, slope=slope, patients=patients) for key in keys}
    read = (comparison.read(runs, name).assign(test="own") for name in ("scores", "dose_classes"))
    return comparison.claims(*read, "n2q", 0.05, 300).set_index("question")


def test_baselines_are_read_once_and_stand_against_every_training(scores):
    found = scores[scores.model == "constant"]
    assert set(found.seed) == {0} and not found.duplicated(["patient", "dose", "region", "metric"]).any()
    own, fixed = comparison.cell(scores, "n2q", "whole", "mse"), comparison.cell(scores, "lookup", "whole", "mse")
    gap = comparison.gains(own, comparison.fixed(fixed, own), -1)
    assert gap.shape == (7, 2) and gap.mean().to_numpy() == pytest.approx([0.1, 0.11], abs=0.01)


def test_table_1_holds_published_numbers_beside_ssim_maps_only(scores):
    found = comparison.table(scores, ["unet", "n2q", "constant"], True, 300).set_index(["model", "region", "metric"])
    assert found.published["n2q", "whole", "nrmse"] == 0.2437 and np.isnan(found.published["constant", "body", "mse"])
    assert found["mean"]["n2q", "whole", "ssim"] == pytest.approx(0.805, abs=0.01)
    assert found.seeds["n2q", "whole", "ssim"] == 2 and found.seeds["constant", "whole", "ssim"] == 1
    assert comparison.table(scores, ["n2q"], False, 300).published.isna().all()


def test_contrasts_pair_the_seeds_that_both_have_and_are_positive_where_the_first_is_better(scores):
    found = comparison.contrasts(scores, ["unet", "n2q", "lookup", "constant"], 300)
    assert set(zip(found["first"], found.second)) == {("n2q", "lookup"), ("n2q", "unet"), ("n2q", "constant")}
    ours = found[(found.second == "unet") & (found.region == "whole")].set_index("metric")
    assert ours.seeds["ssim"] == 1 and ours["mean"].to_numpy() == pytest.approx([0.2] * 3, abs=0.02)
    assert (ours.low > 0).all()
    fewer = comparison.contrasts(scores, ["n2q", "lookup", "constant"], 300)
    same = found[found.second != "unet"].reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer, same)  # what else was trained changes no comparison


def test_the_slope_is_what_of_a_difference_in_quality_is_seen():
    for slope in (1.0, 0.4, 0.0):
        found = comparison.read({("n2q", 0): run("n2q", 0, slope=slope)})
        assert comparison.slopes(found, "n2q").to_numpy() == pytest.approx(slope, abs=1e-9)


def test_a_claim_needs_its_interval_on_one_side_and_three_trainings():
    three = [(model, seed) for model in ("n2q", "unet") for seed in range(3)]
    found = claimed(three)
    assert found.verdict.to_dict() == {
        "dose, against one noise number": "not shown",  # right in one training of three
        "map, against the lookup": "holds", "map, against the plain U-Net": "holds",
        "slope of predicted over true quality": "holds",
    }  # fmt: skip
    assert found.ours.iloc[0] == pytest.approx(1 / 3) and found.yardstick.iloc[0] == 1
    assert claimed(three, slope=0.5).verdict.iloc[-1] == "fails"
    assert (claimed(three[:2] + three[3:5]).verdict == "not shown").all()
    assert list(claimed(three[:3]).index)[1:] == ["map, against the lookup", "slope of predicted over true quality"]


def test_verdicts_on_intervals():
    assert [comparison.better(*ends, 0.05) for ends in ((-0.04, 1), (-1, -0.06), (-0.06, 1), (np.nan, np.nan))] == [
        "holds", "fails", "not shown", "not shown"
    ]  # fmt: skip
    assert [comparison.within(*ends) for ends in ((0.75, 1.25), (0.5, 0.74), (0.7, 1), (1.3, 2), (np.nan, np.nan))] == [
        "holds", "fails", "not shown", "fails", "not shown"
    ]  # fmt: skip


def test_few_patients_have_an_interval_over_trainings_and_none_have_no_numbers():
    values = np.array([[0.1, 0.2, 0.3]])
    held = comparison.over(values)
    reach = 4.302653 * 0.1 / 3**0.5  # t with 2 degrees of freedom
    assert (held["low"], held["high"]) == pytest.approx((0.2 - reach, 0.2 + reach))
    assert np.isnan(comparison.over(values[:, :1])["low"]) and comparison.over(values[:, :1])["mean"] == 0.1
    assert np.isnan(list(comparison.over(pd.DataFrame()).values())).all()


def test_designs_are_named_by_what_differs_from_the_published():
    assert comparison.arm("n2q") == comparison.arm("n2q", "instance") == "n2q"
    assert comparison.arm("u_ssl", "batch") == "u_ssl_batch" and comparison.arm("redcnn", "none") == "redcnn"
    assert [comparison.plain(name) for name in ("n2q", "n2q_batch", "u_ssl_none")] == [
        "unet",
        "unet_batch",
        "unet_none",
    ]
    names = ["n2q", "u_ssl_batch", "n2q_none", "lookup", "noise number"]
    assert [comparison.label(name) for name in names] == [
        "N2Q", "U-SSL (batch norm)", "N2Q (no norm)", "lookup", "one noise number"
    ]  # fmt: skip


def trained(model="n2q", seed=0, normalisation=None, **changed):
    """A finished run as far as its description goes."""
    params = dict.fromkeys(comparison.SETTINGS, 1) | {"model": model, "seed": seed, "normalisation": normalisation}
    return SimpleNamespace(params=params | changed, numbers={"parameters": 9, "patch_size": 32}, name=f"{model}-{seed}")


def test_runs_are_designs_and_seeds_each_once():
    chosen = comparison.by_arm([trained("unet"), trained("n2q", 1), trained("n2q", 0, "batch")])
    assert list(chosen) == [("unet", 0), ("n2q", 1), ("n2q_batch", 0)]
    assert set(comparison.in_order(chosen)) == {"unet", "n2q", "n2q_batch"}
    assert comparison.described(chosen).model.tolist() == ["U-Net", "N2Q", "N2Q (batch norm)"]
    with pytest.raises(ValueError, match="N2Q with seed 0 is there twice"):
        comparison.by_arm([trained(), trained()])
    with pytest.raises(ValueError, match="these runs differ in doses"):
        comparison.described(comparison.by_arm([trained(), trained("unet", doses=2)]))


def test_a_wide_table_cuts_bounds_where_a_metric_cannot_lie_and_puts_the_best_first(scores):
    table = comparison.table(scores, ["unet", "n2q", "constant"], True, 300)
    table.loc[(table.model == "n2q") & (table.metric == "mse"), ["low", "high"]] = [-0.018, 0.118]
    found = comparison.wide(table, "whole")
    assert found.model.tolist() == ["n2q", "unet", "constant"] and found.called[0] == "N2Q"
    assert found.mse_low[0] == 0 and found.mse_high[0] == 0.118
    assert found.ssim_published[0] == 0.7664 and np.isnan(found.ssim_published[2])
    means = comparison.means(table, ["n2q"])
    assert means["n2q"]["ssim"] == pytest.approx(0.805, abs=0.01)


def test_accuracies_leave_out_who_names_no_dose():
    classes = comparison.read({("n2q", 0): run("n2q", 0)}, "dose_classes")
    found = comparison.accuracies(classes, ["n2q", "unet"], 100)
    assert list(found) == ["n2q", "noise number"] and found["n2q"]["mean"] == 1


def test_a_training_is_summed_up_by_patients():
    means = comparison.patient_means(run("n2q", 0).table("scores"))
    assert means["whole", "lookup", "ssim"] == pytest.approx(0.7)
    found = comparison.summary(means).set_index("map by")
    assert list(found) == ["SSIM, whole", "MSE, whole", "SSIM, body", "MSE, body"]
    assert found.loc["lookup", "MSE, body"] == pytest.approx(0.3) and "N2Q" in found.index
