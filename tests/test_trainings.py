"""Tables over the checkpoints of several trainings: what each says of curves that are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.audit import scoring, trainings
from ldct_utils.models import encoders
from ldct_utils.training import checkpoints, validation

PATIENTS = [f"P{i}" for i in range(7)]
RUNS = (("a-0", "mse", 0), ("a-1", "mse", 1), ("b-0", "vgg", 0))


def scores(run, method, seed, steps=12):
    """Loss mse and metrics psnr (its mirror), free (its own course) and niqe (no reference) of one run."""
    rng = np.random.default_rng(seed + 10 * (method == "vgg"))
    rows = []
    for step in range(steps):
        for i, patient in enumerate(PATIENTS):
            mse = (3 if method == "mse" else 4) * np.exp(-step / 4) + 0.1 * i + 0.05 * rng.normal()
            about = {"run": run, "method": method, "seed": seed, "step": step, "patient": patient, "image": i}
            for name, value, domain, reference, direction in (
                ("mse", mse, "network", "ndct", -1), ("psnr", -mse, "hu", "ndct", 1),
                ("free", step + rng.normal(), "hu", "ndct", 1), ("niqe", rng.normal(), "hu", "none", -1),
            ):  # fmt: skip
                rows.append(about | {"name": name, "value": value, "aligned": value * direction, "domain": domain,
                                     "reference": reference})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def curves():
    return pd.concat([scores(*run) for run in RUNS], ignore_index=True)


NAMES = ("mse", "psnr", "free", "niqe")


def test_curves_of_a_run_have_its_losses_its_references_and_what_needs_none(curves):
    one = trainings.judged(curves[curves.run == "a-0"], NAMES, "hu")
    assert one.shape == (12, 7, 4) and np.allclose(one[..., 0], one[..., 1])
    with pytest.raises(KeyError):
        trainings.judged(curves[curves.run == "a-0"], NAMES, "window")


def test_a_mirror_agrees_wholly_and_the_control_needs_two_seeds(curves):
    methods = [method for _, method, _ in RUNS]
    found = trainings.agreements(curves, methods, ["mse"], NAMES[1:], ["hu"], ["ndct"], 20, 0)
    part = found[(found.kind == "spearman") & found.detrended]
    assert part.set_index("metric")["mean"]["psnr"] == pytest.approx(1) and part.others.notna().all()
    assert trainings.typical(found[found.kind == "spearman"], ["psnr"], "mean") == {False: 1, True: 1}
    tables = trainings.tables(found[found.kind == "spearman"], ["mse"], NAMES[1:])
    assert len(tables) == 3 and list(tables["Of curves"].columns) == list(NAMES[1:])
    alone = trainings.agreements(
        curves[curves.run != "a-1"], ["mse", "vgg"], ["mse"], NAMES[1:], ["hu"], ["ndct"], 20, 0
    )
    assert alone.others.isna().all() and len(trainings.tables(alone[alone.kind == "kendall"], ["mse"], ["psnr"])) == 2


def test_a_curve_that_falls_is_steady_and_one_without_a_trend_is_not(curves):
    found = trainings.erratic(curves, NAMES, "hu").set_index("name")
    assert found.turns["mse"] == found.turns["psnr"] < 0.35 < found.turns["niqe"]
    assert found.seed_sd.notna().all() and found.jitter.notna().all()
    one = trainings.erratic(curves[curves.seed == 0], NAMES, "hu")
    assert one.seed_sd.isna().all() and one.setback_over_seed_sd.isna().all()


def test_metrics_that_order_the_methods_alike_are_in_full_concordance(curves):
    final = trainings.at_the_end(curves)
    full = ["psnr", "free"]
    found = trainings.concordance(final, ["psnr", "niqe"], full, ["hu"], ["ndct"], 50, 0).set_index("raters")
    assert set(found.index) == {"all metrics", "psnr", "niqe"} and found.low["all metrics"] <= found.high["all metrics"]
    ranks = trainings.ranks(final, ["psnr", "niqe"], full, "hu")
    assert sorted(ranks.loc["psnr"]) == [1, 2] and list(ranks.columns) == ["mse", "vgg"]
    twice = trainings.concordance(final, ["psnr", "psnr"], full, ["hu"], ["ndct"], 50, 0)
    assert twice.w[0] == 1
    few = trainings.concordance(
        final[final.index.get_level_values("patient") < "P3"], ["psnr"], full, ["hu"], ["ndct"], 9, 0
    )
    assert few.low.isna().all()


def test_the_mirror_picks_the_same_checkpoint_at_no_cost(curves):
    picked, cost = trainings.picks(curves, NAMES, "hu")
    assert len(picked) == 3 * 4 and cost.shape == (4, 4) and np.allclose(np.diag(cost), 0)
    assert cost[0, 1] == cost[1, 0] == 0 and cost[3, 0] > 0
    wide = picked.pivot(index="run", columns="name", values="step")
    assert (wide.mse == wide.psnr).all()


def test_what_improved_in_every_run_and_which_loss_ended_lowest_in_its_own(curves):
    assert trainings.improved(curves[curves.domain == "hu"], ["psnr", "free"]) == dict.fromkeys(
        ("psnr", "free"), (True, False)
    )
    worse = curves.assign(aligned=np.where(curves.run == "b-0", -curves.aligned, curves.aligned))
    assert trainings.improved(worse[worse.domain == "hu"], ["psnr", "free"]) == dict.fromkeys(
        ("psnr", "free"), (False, False)
    )
    worse = curves.assign(aligned=-curves.aligned)
    assert trainings.improved(worse[worse.domain == "hu"], ["psnr"]) == {"psnr": (False, True)}
    lower = curves.assign(value=np.where(curves.method == "mse", curves.value - 1, curves.value))
    assert trainings.in_their_own(lower, ["mse", "l1"]) == {"mse": "lowest", "l1": "not trained"}
    assert trainings.in_their_own(curves[curves.method == "mse"], ["mse"]) == {"mse": "alone"}
    other = curves.replace({"method": {"mse": "l1"}})  # no run was trained with the MSE, which cannot be lowest there
    assert trainings.in_their_own(other, ["mse"]) == {"mse": "not trained"}
    worst = curves.assign(value=np.where(curves.method == "mse", 1 + curves.value, curves.value))
    assert trainings.in_their_own(worst, ["mse"]) == {"mse": "not lowest"}
    between = worst.assign(value=np.where(worst.run == "a-0", worst.value - 2, worst.value))
    assert trainings.in_their_own(between, ["mse"]) == {"mse": "tied"}


def test_tables_of_runs_are_joined_with_their_patients():
    listed = pd.DataFrame({"run": ["a", "b"], "method": ["x", "y"], "seed": [0, 1]})
    one = pd.DataFrame({"image": [1, 0], "value": [0.1, 0.2]})
    found = trainings.joined([one, one], listed, pd.Series(["P1", "P2"]))
    assert found.patient.tolist() == ["P2", "P1"] * 2 and found.run.tolist() == ["a", "a", "b", "b"]


def test_psnr_and_rmse_must_say_the_same_of_every_image():
    table = pd.DataFrame({"run": "a", "step": 0, "image": [0, 1, 0, 1], "domain": "hu", "reference": "ndct",
                          "name": ["rmse_hu"] * 2 + ["psnr"] * 2})  # fmt: skip
    rmse = np.array([10.0, 20.0])
    values = [*rmse, *(20 * np.log10(4096 / rmse))]
    assert trainings.psnr_is_rmse(table.assign(value=values), 4096)
    assert not trainings.psnr_is_rmse(table.assign(value=[*values[:3], 0.0]), 4096)
    assert trainings.psnr_is_rmse(table.assign(value=values)[:2], 4096)  # without PSNR there is nothing to compare


def test_metrics_that_are_the_mse_in_other_units_are_not_enough():
    assert scoring.free(["psnr", "ssim", "rmse_hu"]) == ["ssim"]
    with pytest.raises(ValueError, match="psnr, nrmse are the MSE in other units: add a metric"):
        scoring.free(["psnr", "nrmse"])


def test_runs_with_checkpoints_at_other_steps_are_refused(tmp_path):
    chosen = []
    for run, steps in (("a", (0, 5)), ("b", (0, 5)), ("c", (0, 6))):
        for step in steps:
            path = tmp_path / run / "checkpoints" / f"step_{step:07d}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        chosen.append(SimpleNamespace(folder=tmp_path / run))
    assert checkpoints.in_step(chosen[:2]) == 2
    with pytest.raises(ValueError, match="checkpoints at different steps"):
        checkpoints.in_step(chosen)


def test_losses_of_slices_are_those_of_the_network_range_and_vgg_of_the_centre():
    rng = np.random.default_rng(0)
    ndct = rng.normal(0, 30, (2, 48, 48)).astype(np.float32)
    pred = ndct.copy()
    pred[:, :8] += 100  # outside the centre
    encoder = encoders.load(context="random", layers=("block1_conv1",))
    found = validation.slice_losses(pred, ndct, encoder, 16).pivot(index="image", columns="name", values="value")
    assert found.mse.to_numpy() == pytest.approx((100 / 4096) ** 2 / 6, rel=1e-4) and (found.vgg == 0).all()
    whole = validation.slice_losses(pred, ndct, encoder, 64)
    assert whole.value[whole.name == "vgg"].gt(0).all() and set(whole.name) == {"mse", "l1", "charbonnier", "vgg"}
