"""Where patches are cut, what their losses say of λ, and what the literature's configurations are measured with."""

import numpy as np
import pandas as pd
import pytest
import torch

from ldct_utils import cohorts
from ldct_utils.ct import intensity
from ldct_utils.models import encoders
from ldct_utils.study import machine
from ldct_utils.training import calibration, encoder_bench, literature, losses, psi


@pytest.fixture
def cohort(tiny_cohort):
    return cohorts.load(tiny_cohort)


@pytest.fixture
def pairs(cohort):
    where = calibration.places(cohort, cohort.rows("train"), 10, 32, 0)
    return where, *(calibration.cut(images, where, 32) for images in (cohort.ldct, cohort.ndct))


def test_every_slice_gives_a_patch_before_any_gives_two_and_patches_are_what_stands_there(cohort, pairs):
    where, ldct, _ = pairs
    assert where.row.value_counts().max() - where.row.value_counts().min() <= 1
    assert where[["y", "x"]].max().max() <= 32 and where.patient[0] == cohort.slices.patient[where.row[0]]
    one = where.iloc[3]
    cut = cohort.ldct[one.row, one.y : one.y + 32, one.x : one.x + 32]
    assert np.array_equal(np.round(intensity.from_net(ldct[3, 0].numpy())), cut)
    assert where.equals(calibration.places(cohort, cohort.rows("train"), 10, 32, 0))


def test_the_losses_of_every_network_and_layer_give_the_lambda_of_the_target(pairs):
    where, ldct, ndct = pairs
    layers = ("block1_conv1", "block1_conv2")
    encoder = encoders.load(context="random", layers=layers)
    measured = calibration.measure(encoder, {"identity": ldct, "trained": (ldct + ndct) / 2}, ndct, where)
    assert len(measured) == 2 * 2 * 10 and measured.grad_perceptual.gt(0).all()
    first = measured[(measured.f == "identity") & (measured.layer == layers[0])]
    assert first.mse.to_numpy() == pytest.approx(((ldct - ndct) ** 2).mean((1, 2, 3)).numpy(), rel=1e-5)
    expected = losses.feature_errors(encoder, ldct, ndct)[layers[0]].numpy()
    assert first.perceptual.to_numpy() == pytest.approx(expected, rel=1e-4)
    table = calibration.calibrate(measured, 0.9, "ratio_of_sums", 20, 0).set_index(["f", "layer"])
    row = table.loc["identity", layers[0]]
    assert row.ratio_of_sums == pytest.approx(9 * first.mse.sum() / first.perceptual.sum(), rel=1e-5)
    assert np.isnan(row.lambda_low) and 0 < row["gradient influence"] < 1  # two patients give no interval
    assert len(table) == 4 and set(psi.DEFINITIONS) <= set(table)
    curves = calibration.curves(measured[measured.f == "identity"], "layer", [0.0, row.ratio_of_sums])
    assert list(curves) == list(layers) and curves[layers[0]][0] == pytest.approx([0, 0.9])


def test_a_short_fit_takes_noise_away(cohort, pairs):
    _, ldct, ndct = pairs
    model = calibration.short_fit(cohort, cohort.rows("train"), 32, 4, 60, 0)
    predicted = calibration.predict(model, ldct)
    assert predicted.shape == tuple(ldct.shape)
    assert np.mean((predicted - ndct.numpy()) ** 2) < np.mean((ldct - ndct).numpy() ** 2)


def test_the_literature_is_measured_with_what_is_here_and_else_says_what_is_missing(pairs, monkeypatch):
    _, ldct, ndct = pairs
    given = {"arch": "vgg19", "context": "random", "weights": None, "seed": 0}
    monkeypatch.setattr(literature, "TABLE_1", literature.TABLE_1[:4])
    table = literature.measure({"identity": ldct}, ndct, 0.95, "ratio_of_sums", given).set_index("study")
    assert table["measured with"]["Yang 2018"] == "random (study: imagenet)"
    assert 0 < table["psi, identity"]["Yang 2018"] < 1 < 1 + table["lambda for psi, identity"]["Yang 2018"]
    assert np.isnan(table["psi, identity"]["Marcos 2021"])  # which names no λ
    assert table["measured with"]["Trung 2019"] == "layer not specified in the study"
    monkeypatch.setattr(machine, "imagenet_file", lambda name: None)
    for row, said in (("vgg19", "make weights"), ("autoencoder", "needs a run of 07_medical_encoder")):
        trained_on = "imagenet" if row == "vgg19" else "medical"
        missing = literature.encoder_of(row, ("block1_conv2",), trained_on, given | {"context": "imagenet"})
        assert missing[0] is None and said in missing[1]


def test_the_published_losses_give_the_published_share():
    table = psi.published()
    last = table[table.epoch == 10]
    assert last.psi.to_numpy() == pytest.approx([0.977548, 0.976349, 0.910346, 0.881929], abs=5e-7)
    assert [psi.ratio_of_sums(r.MSE, r.PL, lam) for r, lam in zip(last.itertuples(), last["lambda for 0.95"])] == (
        pytest.approx([0.95] * 4)
    )


def test_slices_to_compare_encoders_on_have_added_noise(cohort):
    rows = cohort.rows("train")
    assert encoder_bench.slices(cohort, rows, 2) == list(cohort.spread(rows, 2))
    assert encoder_bench.slices(cohort, rows, 0) == []
    same = cohorts.Cohort(**{**vars(cohort), "ldct": cohort.ndct})
    assert encoder_bench.slices(same, rows, 2) == []


def test_encoders_are_judged_at_the_levels_of_the_study_or_the_deepest_there_is():
    table = pd.DataFrame({"encoder": "random", "level": ["block5_conv4", "block1_conv2", "block3_conv2"]})
    assert list(encoder_bench.of_study(table, list(table.level)).level) == ["block3_conv2", "block5_conv4"]
    assert list(encoder_bench.of_study(table, ["block1_conv2"]).level) == ["block1_conv2"]
    assert encoder_bench.verdicts(None, {"random": 0}) == {}
    told = encoder_bench.verdicts(table.assign(noise=1.0), {"ImageNet": 0, "random": 0})
    assert told == {"random": "open"}  # ImageNet was not measured


def test_torch_is_left_without_gradients(pairs):
    _, ldct, ndct = pairs
    found = literature.patch_losses(encoders.load(context="random", layers=("block1_conv1",)), {"x": ldct}, ndct)
    assert found["x"][0].shape == (10,) and torch.is_grad_enabled()
