"""Methods: what was chosen about a run, in words."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from ldct_utils import methods


def run(number, history=None, **params):
    """Stands for a finished 03_train run in memory."""
    return SimpleNamespace(
        id=str(number), folder=Path("03_train") / f"run-{number}", params={"seed": 0} | params,
        table=lambda name: {"history": history}[name],
    )  # fmt: skip


def names(*runs):
    return list(methods.listed(runs)[1].method)


def test_a_method_is_named_by_what_makes_its_loss():
    vgg = {"loss": "vgg", "layer": "block3_conv2", "context": "imagenet", "lam": None, "psi_on": "fixed"}
    assert names(run(0, loss="mse", layer="block3_conv2", context="random")) == ["mse"]
    assert names(run(0, **vgg, psi_target=0.95)) == ["vgg · block3_conv2 · imagenet · ψ 0.95"]
    assert names(run(0, **vgg, psi_target=1.0)) == ["vgg_only · block3_conv2 · imagenet"]
    assert names(run(0, **vgg, psi_target=0.0)) == ["mse"]
    assert names(run(0, **vgg | {"psi_on": "hold"}, psi_target=0.5)) == ["vgg · block3_conv2 · imagenet · ψ 0.5 held"]
    assert names(run(0, **vgg | {"arch": "vgg16"}, psi_target=0.5))[0].startswith("vgg · vgg16 block3_conv2")


def test_a_lambda_given_by_hand_is_named_with_the_psi_that_was_measured():
    history = pd.DataFrame({"psi_ratio_of_sums": [float("nan"), 0.8123, 0.5]})
    _, table, _ = methods.listed([run(0, history, loss="vgg", layer="block1_conv2", context="random", lam=0.1)])
    assert table.method[0] == "vgg · block1_conv2 · random · λ 0.1" and table.psi[0] == 0.812


def test_settings_name_a_method_only_where_names_would_collide():
    chosen = [run(0, loss="mse", lr=0.1), run(1, loss="mse", lr=0.2), run(2, loss="l1", lr=0.2)]
    assert names(*chosen) == ["mse · lr 0.1", "mse · lr 0.2", "l1"]
    kept, table, varying = methods.listed([*chosen, run(3, loss="l1", lr=0.2)])
    assert varying == ["lr"] and [one.id for one in kept] == ["0", "1", "2"] and list(table.run) == ["0", "1", "2"]


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
    _, table, varying = methods.listed(chosen)
    assert list(table.method) == ["mse", "wgan"] and table.columns.is_unique and varying == ["network"]


def test_arms_are_one_a_place_and_the_commonest_settings_speak_for_it():
    rows = [
        ("mse", None, None, 0.0, False, "odd", "mse · odd"), ("mse", None, None, 0.0, False, "usual", "mse"),
        ("vgg", "b3", "random", 0.95, True, "usual", "held"), ("vgg", "b3", "random", 0.95, False, "usual", "vgg"),
        ("vgg", "b3", "random", 0.95, False, "odd", "vgg · odd"), ("l1", None, None, None, False, "usual", "l1"),
        ("vgg_only", "b3", "random", 1.0, False, "usual", "only"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["loss", "layer", "context", "psi", "held", "setting", "method"])
    table = table.assign(lam=np.nan)
    arms, base, aside = methods.arms(table, ["setting"])
    assert list(arms.method) == ["vgg", "only"] and base == "mse" and aside == ["held", "vgg · odd"]
    arms, base, aside = methods.arms(table[table.loss == "l1"], ["setting"])
    assert arms.empty and base == "LDCT" and aside == []
