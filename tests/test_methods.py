"""Methods: what was chosen about a run, in words."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from ldct_utils.report import plots
from ldct_utils.training import designs, psi, transfer

WENT = pd.DataFrame({"step": [0, 10, 20, 40], "psi_ratio_of_sums": [np.nan, 0.95, 0.6, 0.4],
                     "val_gradient_influence": [0.9, np.nan, 0.7, 0.5]})  # fmt: skip


def run(number, history=None, encoder=None, **params):
    """Stands for a finished 03_train run in memory."""
    history = WENT if history is None else history
    return SimpleNamespace(
        id=str(number), name=f"run-{number}", folder=Path("03_train") / f"run-{number}", params={"seed": 0} | params,
        numbers={"encoder": encoder},
        table=lambda name: {"history": history}[name],
    )  # fmt: skip


def names(*runs):
    return list(designs.listed(runs)[1].method)


def test_a_method_is_named_by_what_makes_its_loss():
    vgg = {"loss": "vgg", "layer": "block3_conv2", "context": "imagenet", "lam": None, "psi_on": "fixed"}
    assert names(run(0, loss="mse", layer="block3_conv2", context="random")) == ["mse"]
    assert names(run(0, **vgg, psi_target=0.95)) == ["vgg · block3_conv2 · imagenet · ψ 95 % at start"]
    assert names(run(0, **vgg, psi_target=1.0)) == ["vgg_only · block3_conv2 · imagenet"]
    assert names(run(0, **vgg, psi_target=0.0)) == ["mse"]
    assert names(run(0, **vgg | {"psi_on": "hold"}, psi_target=0.5)) == ["vgg · block3_conv2 · imagenet · ψ 50 % held"]
    assert names(run(0, **vgg | {"arch": "vgg16"}, psi_target=0.5))[0].startswith("vgg · vgg16 block3_conv2")


def test_a_lambda_given_by_hand_is_named_with_the_psi_that_was_measured():
    history = pd.DataFrame({"step": [0, 10, 100], "psi_ratio_of_sums": [float("nan"), 0.8123, 0.5]})
    _, table, _ = designs.listed([run(0, history, loss="vgg", layer="block1_conv2", context="random", lam=0.1)])
    assert table.method[0] == "vgg · block1_conv2 · random · λ 0.1" and table.psi[0] == 0.812


def test_what_psi_became_stands_beside_what_it_was_set_to():
    vgg = {"loss": "vgg", "layer": "block3_conv2", "context": "random", "lam": None, "psi_target": 0.95}
    _, table, varying = designs.listed([run(0, loss="mse"), run(1, **vgg), run(2, WENT * 0.5, **vgg, seed=1)])
    assert table[list(psi.REACHED)].isna().all(axis=1).to_list() == [True, False, False] and varying == []
    assert psi.path(table.loc[1]) == "95 → 60 → 40" and psi.path(table.loc[1], "gradient_share") == "90 → 70 → 50"
    assert psi.path(table.loc[0]) == ""
    (arm,) = designs.arms(table, varying)[0].itertuples()
    assert (arm.psi, arm.at) == (0.95, "ψ 95 % at start")
    assert arm.psi_end == pytest.approx(0.3) and arm.gradient_share_half == pytest.approx(0.525)  # mean over the seeds


def test_an_encoder_is_called_medical_only_if_it_was_admitted():
    vgg = {"loss": "vgg", "layer": "block3_conv2", "context": "medical", "lam": None, "psi_target": 0.95}
    kinds = [None, {"admitted": False}, {"admitted": True}]
    found = [designs.design(run(0, encoder=encoder, **vgg))["context"] for encoder in kinds]
    assert found == ["small CT encoder", "small CT encoder", "medical"]
    assert designs.design(run(0, **vgg | {"context": "random"}))["context"] == "random"


def test_settings_name_a_method_only_where_names_would_collide():
    chosen = [run(0, loss="mse", lr=0.1), run(1, loss="mse", lr=0.2), run(2, loss="l1", lr=0.2)]
    assert names(*chosen) == ["mse · lr 0.1", "mse · lr 0.2", "l1"]
    kept, table, varying = designs.listed([*chosen, run(3, loss="l1", lr=0.2)])
    assert varying == ["lr"] and [one.name for one in kept] == list(table.run) == ["run-0", "run-1", "run-2"]


def test_of_settings_in_a_mapping_only_what_differs_is_part_of_a_name():
    small, large = (
        {"dim": 8, "blocks": [1, 1], "variant": "channel"},
        {"dim": 8, "blocks": [1, 1], "variant": "released"},
    )
    one, other = (run(i, loss="l1", settings=s) for i, s in enumerate((small, large)))
    assert names(one, other, run(2, loss="mse", settings=large)) == [
        "l1 · variant channel",
        "l1 · variant released",
        "mse",
    ]
    assert names(one, run(1, loss="l1", settings={})) == ["l1 · dim 8", "l1"]
    chosen = [run(i, loss="mse", channels=8, settings={"channels": n, "layer": n}) for i, n in enumerate((1, 2))]
    assert designs.listed(chosen)[2] == ["settings channels", "settings layer"]


def test_a_setting_that_was_left_alone_is_no_part_of_a_name():
    assert names(run(0, loss="mse", residual=None), run(1, loss="mse", residual=False)) == [
        "mse",
        "mse · residual False",
    ]


def test_adversarial_methods_are_named_beside_supervised_ones_without_a_second_column_of_that_name():
    chosen = [
        run(0, loss="mse", method="supervised", network="redcnn"),
        run(0, loss="mse", method="wgan", network="wganvgg"),
    ]
    _, table, varying = designs.listed(chosen)
    assert list(table.method) == ["mse", "wgan"] and table.columns.is_unique and varying == ["network"]


def test_arms_are_one_a_place_and_the_commonest_settings_speak_for_it():
    rows = [
        ("mse", None, None, 0.0, False, "odd", "mse · odd"), ("mse", None, None, 0.0, False, "usual", "mse"),
        ("vgg", "b3", "random", 0.95, True, "usual", "held"), ("vgg", "b3", "random", 0.95, False, "usual", "vgg"),
        ("vgg", "b3", "random", 0.95, False, "odd", "vgg · odd"), ("l1", None, None, None, False, "usual", "l1"),
        ("vgg_only", "b3", "random", 1.0, False, "usual", "only"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["loss", "layer", "context", "psi", "held", "setting", "method"])
    table = table.assign(lam=np.nan, **dict.fromkeys(psi.REACHED))
    arms, aside = designs.arms(table, ["setting"])
    assert list(arms.method) == ["held", "vgg", "only"] and set(arms.base) == {"mse"} and aside == ["vgg · odd"]
    assert list(arms["at"]) == ["ψ 95 % held", "ψ 95 % at start", "ψ 100 %"]  # a psi that is held is another arm
    arms, aside = designs.arms(table[table.loss == "l1"], ["setting"])
    assert arms.empty and aside == []


def of_networks(*losses_of, **settings):
    """Runs of several networks: (network, loss) each, the perceptual ones in one place."""
    vgg = {"layer": "block3_conv2", "context": "random", "lam": None, "psi_target": 0.95}
    chosen = [run(i, network=n, loss=loss, **vgg, **settings.get(n, {})) for i, (n, loss) in enumerate(losses_of)]
    return designs.listed(chosen)[1:]


def test_arms_of_two_networks_are_set_against_the_mse_arm_of_their_own():
    both = [(network, loss) for network in ("unet", "cnn10") for loss in ("mse", "l1", "vgg")]
    arms, aside = designs.arms(*of_networks(*both, cnn10={"max_steps": 1500, "lr": 0.1}))
    assert aside == [] and list(arms.network) == ["unet", "cnn10"]
    assert list(arms.base) == ["mse · network unet", "mse · network cnn10"]
    assert [m.split(" · ")[-1] for m in arms.method] == ["network unet", "network cnn10"]
    arms, _ = designs.arms(*of_networks(*[one for one in both if one != ("cnn10", "mse")]))
    assert list(arms.base) == ["mse", "LDCT"]  # never the other network's
    arms, _ = designs.arms(*of_networks(*[one for one in both if one != ("unet", "vgg")]))
    assert list(arms.base) == ["mse · network cnn10"] and "network" not in arms  # one network's: nothing to tell apart


def test_the_commonest_settings_are_those_of_the_arms_own_network():
    rows = [("unet", "mse", "1"), ("unet", "vgg", "1"), ("unet", "l1", "1")]
    rows += [("cnn10", loss, setting) for loss in ("mse", "vgg") for setting in ("2", "1")] + [("cnn10", "l1", "2")]
    table = pd.DataFrame(rows, columns=["network", "loss", "setting"])
    table = table.assign(layer="b3", context="random", psi=0.95, lam=np.nan, held=False, **dict.fromkeys(psi.REACHED))
    table["method"] = [" ".join(row) for row in rows]
    arms, aside = designs.arms(table, ["network", "setting"])
    assert dict(zip(arms.method, arms.base)) == {"unet vgg 1": "unet mse 1", "cnn10 vgg 2": "cnn10 mse 2"}
    assert aside == ["cnn10 vgg 1"]


def test_a_path_is_called_by_its_end_and_what_is_no_path_by_its_name():
    plain = ["imagenet", "0.001", "{'a': 'b/c'}", "a setting that is long but is no path at all"]
    assert designs.brief(plain) == dict(zip(plain, plain)) and designs.brief([]) == {}
    found = designs.brief([*plain, "/data/weights/encoder_of_chest_and_abdomen_v12.safetensors", "x/enc.pth"])
    assert list(found.values())[4:] == ["encoder_of…domen_v12", "enc"]
    run_folder = "default/07_medical_encoder/context-random-592b2d01"
    assert designs.brief([run_folder])[run_folder] == "context-ra…-592b2d01"  # its id is left


def test_paths_that_end_alike_are_told_apart():
    for names in (["a/encoder.pth", "b/encoder.pth"], ["encoder.pth", "encoder.pt"], ["a/a", "a/b/a"],
                  ["w/encoder_2026_first_try_of_it.pth", "w/encoder_2026_other_try_of_it.pth"],
                  ["enc", "x/enc.pth"]):  # fmt: skip
        assert len({*designs.brief([*names, "random"]).values()}) == 3, names
    assert list(designs.brief(["a/encoder.pth", "b/encoder.pth"]).values()) == ["a/encoder", "b/encoder"]


def test_weights_have_short_names_in_methods_and_whole_ones_in_the_table():
    vgg = {"loss": "vgg", "layer": "block3_conv2", "lam": None, "psi_target": 0.95}
    files = ["first/encoder.safetensors", "second/encoder.safetensors"]
    kept, table, _ = designs.listed([run(i, **vgg, context=file) for i, file in enumerate(files)])
    assert len(kept) == 2 and list(table.context) == files  # the same file name twice is not the same method twice
    assert list(table.method) == [f"vgg · block3_conv2 · {n}/encoder · ψ 95 % at start" for n in ("first", "second")]
    alone = next(pd.DataFrame([designs.design(run(0, **vgg, context=files[0]))]).itertuples())
    assert designs.name_of(alone) == "vgg · block3_conv2 · encoder · ψ 95 % at start"
    weights = [f"study/07_medical_encoder/context-random_with-everything-{i}0000000" for i in (1, 2)]
    kept, table, varying = designs.listed([run(i, **vgg, context="medical", weights=w) for i, w in enumerate(weights)])
    assert varying == ["weights"] and list(table.weights) == weights
    assert [m.split("weights ")[1] for m in table.method] == ["context-ra…-10000000", "context-ra…-20000000"]


def test_a_table_for_a_reader_names_methods_and_metrics_in_words():
    table = pd.DataFrame({"method": ["mse", "cnn10"],
                          "other": ["LDCT", "vgg · block3_conv2 · random · ψ 95 % at start"],
                          "metric": ["psnr", "ssim"], "reference": ["ndct", "truth"]})  # fmt: skip
    found = designs.worded(table, reference={"ndct": "NDCT", "truth": "noise-free truth"}, absent={})
    assert list(found["method"]) == ["MSE", "CNN-10"] and list(found["metric"]) == ["PSNR", "SSIM"]
    assert list(found["other"]) == ["LDCT", "MSE + VGG (block3_conv2, random, ψ 95 % at start)"]
    assert list(found["reference"]) == ["NDCT", "noise-free truth"] and list(table["method"]) == ["mse", "cnn10"]


def test_networks_stand_in_the_order_of_their_age_and_unnamed_ones_last():
    labels, networks = ["a", "unet", "cnn10"], ["qae", "unet", "cnn10"]
    assert designs.by_age(labels, networks, ["tv"], {}) == ["tv", "unet", "cnn10", "a"]  # a U-Net is never the newest
    own = [*networks, "mine"]
    assert designs.by_age([*labels, "b"], own, [], {}) == ["unet", "cnn10", "a", "b"]
    assert designs.by_age([*labels, "b"], own, [], {"mine": 2016}) == ["unet", "b", "cnn10", "a"]
    assert designs.published(["qae", "mine"], {}) == ["2020", "–"]


def test_every_network_of_the_study_has_its_year_of_publication():
    folder = ROOT / "ldct_utils" / "models" / "networks"
    assert set(designs.YEARS) == {file.stem for file in folder.glob("[!_]*.py")}
    for name in set(designs.YEARS) - {"unet", "denomamba"}:  # whose files cite by number
        assert str(designs.YEARS[name]) in (folder / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]


def test_cells_of_contexts_and_layers_are_said_once_and_none_is_said_too():
    table = pd.DataFrame({"context": ["random", "random", "medical"], "layer": ["x", "x", "y"]})
    assert designs.cells_said(table) == "random/x and medical/y" and designs.cells_said(table[:0]) == "none"
    assert list(designs.whose(table.assign(network="unet"))) == ["unet, random"] * 2 + ["unet, medical"]


def test_a_loss_has_one_colour_and_another_one_in_deep_levels():
    shallow, deep, given, alone = (
        plots.loss_style(f"{loss} · {layer} · random{more}")
        for loss, layer, more in (("vgg", "block3_conv2", " · ψ 95 % at start"), ("vgg", "block5_conv4", ""),
                                  ("vgg", "block5_conv4", " · λ 0.1"), ("vgg_only", "block5_conv4", ""))
    )  # fmt: skip
    assert shallow[0] != deep[0] == given[0] == alone[0] and len({deep[1], given[1], alone[1]}) == 3
    assert plots.loss_style("mse") == (plots.COLOURS[0], "o") and plots.loss_style("mse · network qae")[0] == "#0072B2"
    assert plots.loss_style("dugan") == plots.loss_style("dugan")


def test_the_order_of_methods_on_a_real_ct_needs_three_of_them():
    table = pd.DataFrame({"gain_db": [3.0, 2.0, 1.0], "own_gain_db": [1.0, 2.0, 3.0]})
    assert transfer.same_order(table) == pytest.approx(-1) and np.isnan(transfer.same_order(table[:2]))
    assert transfer.tests([], "none")[0] == [] and "make data" in transfer.tests([], "none")[1]


def on_real_ct(gain, **rmse):
    """The test of a training on a real CT whose LDCT has twice that RMSE in each organ, HU."""
    rows = [(o, image, times * v) for o, v in rmse.items() for image, times in (("LDCT", 2.0), ("prediction", 1.0))]
    table = pd.DataFrame(rows, columns=["organ", "image", "rmse_hu"])
    numbers = {"psnr_gain_db": gain, "body_rmse_hu": 9.0, "ldct_body_rmse_hu": 18.0}
    return SimpleNamespace(numbers=numbers, table={"organs": table}.__getitem__)


def test_errors_in_organs_stand_in_a_row_a_method_under_that_of_the_input():
    real = [on_real_ct(1.0, liver=10.0, kidney=20.0), on_real_ct(3.0, liver=14.0, kidney=24.0),
            on_real_ct(4.0, liver=8.0, kidney=16.0)]  # fmt: skip
    found = transfer.by_organ(transfer.means(["mse", "mse", "vgg"], real, real), real)
    assert list(found) == ["method", "liver, HU", "kidneys, HU"], "the organs that are there, in the order of ORGANS"
    assert found.values.tolist() == [["LDCT", 20, 40], ["vgg", 8, 16], ["mse", 12, 22]]
    assert list(designs.worded(found).method) == ["LDCT", "MSE + VGG", "MSE"]
    nowhere = [on_real_ct(1.0)]
    assert list(transfer.by_organ(transfer.means(["mse"], nowhere, nowhere), nowhere)) == ["method"]


def test_networks_and_trainings_are_named_as_one_speaks_of_them():
    assert designs.network("mse") == "MSE network"
    assert designs.network("vgg · block3_conv2 · ψ 95 % held") == "MSE + VGG network (block3_conv2, ψ 95 % held)"
    _, table, _ = designs.listed([run(0, loss="mse"), run(1, loss="mse", seed=1), run(2, loss="l1")])
    assert designs.trainings(table) == ["MSE, seed 0", "MSE, seed 1", "L1"]


def test_runs_of_another_kernel_or_dose_are_refused():
    chosen = [run(0, loss="mse", kernel="B30", dose=0.25), run(1, loss="l1")]
    designs.check_trained(chosen, "B30")
    designs.check_trained(chosen, "B30", 0.25)
    with pytest.raises(ValueError, match="trained on kernel B30: set kernel, or choose other runs"):
        designs.check_trained(chosen, "D45")
    with pytest.raises(ValueError, match=r"trained at dose 0\.25: set dose to theirs"):
        designs.check_trained(chosen, "B30", 0.1)
