"""The test that a CT encoder must pass: each number by other code, made encoders that pass and fail it, faults."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ldct_utils.models import encoders
from ldct_utils.training import encoder_worth as worth

LEAST = {"reconstruction": 1.0, "dose": 0.85, "anatomy": 0.9, "lesions": 1.0}


@pytest.fixture(scope="module")
def cohort():
    """Eight patients of three anatomies in memory: a body with organs in air, noise, and a lesion of -20 HU."""
    rng, size = np.random.default_rng(0), 96
    y, x = np.mgrid[:size, :size] - size / 2
    names = ["abdomen", "chest", "head"]
    split = ["train"] * 5 + ["val"] * 3
    rows = [(f"P{p}", names[(p + i) % 3], split[p]) for p in range(8) for i in range(3)]
    about = pd.DataFrame(rows, columns=["patient", "anatomy", "split"]).rename_axis("row").reset_index()
    ndct = np.empty((len(rows), size, size))
    for image, anatomy in zip(ndct, about.anatomy):
        radius = np.hypot(x, y * rng.uniform(1, 1.1))
        image[:] = np.where(radius < 46, {"abdomen": 50.0, "chest": -800.0, "head": 30.0}[anatomy], -1000.0)
        image[(radius > 36) & (radius < 46)] = {"abdomen": -100.0, "chest": 60.0, "head": 1000.0}[anatomy]
        for _ in range(40):
            at = rng.uniform(-30, 30, 2)
            image[np.hypot(x - at[0], y - at[1]) < rng.uniform(1, 3)] += rng.uniform(-60, 60)
    lesion = np.where(np.hypot(x - 5, y + 5) < 6, -20.0, 0.0)
    noise = rng.normal(0, 12, ndct.shape)
    ldct = ndct + noise + rng.normal(0, 30, ndct.shape)
    made = SimpleNamespace(id="made", slices=about, absent_ndct=ndct + noise, ndct=ndct + noise + lesion)
    made.ldct, made.lesion_masks = ldct + lesion, np.broadcast_to(lesion != 0, ndct.shape)
    made.rows = lambda wanted: about.row[about.split == wanted].to_numpy()
    made.spread = lambda found, most: np.asarray(found)[:most]
    return made


class Made(nn.Module):
    """An encoder of one level, 16 pixels a position, made by hand: what it keeps is known.

    It keeps the pixels of each block (``pixels``), how large the finest differences are in soft tissue, which is its
    noise (``noise``), and the brightness of blocks in bins, which tells air, lung, fat and bone apart. Unless it is
    ``calm``, the finest differences of all pixels drown what lesions change.
    """

    def __init__(self, pixels=True, noise=True, calm=True):
        super().__init__()
        self.keeps, self.provenance = (pixels, noise, calm), {"layers": ["level"]}
        self.where = nn.Parameter(torch.zeros(1))  # what device it is on

    def forward(self, image):
        pixels, noise, calm = self.keeps
        mean = F.avg_pool2d(image, 4)
        found = [20 * mean]  # blocks average noise away and keep a lesion
        if pixels:
            found.append(F.pixel_unshuffle(image, 4))
        if noise:
            kernel = image.new_tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None] / 4
            finest = F.avg_pool2d(F.conv2d(image, kernel, padding=1).abs(), 4)
            soft = torch.sigmoid((mean - 0.22) * 400) * torch.sigmoid((0.29 - mean) * 400)  # -120 to 160 HU
            found += [soft * torch.sigmoid((finest - edge) * 2000) * 1e-3 for edge in np.linspace(0.001, 0.02, 12)]
        found += [torch.sigmoid((mean - edge) * 400) * 1e-3 for edge in np.linspace(0.02, 0.4, 24)]
        if not calm:
            found.append(50 * F.pixel_unshuffle(F.pad(image, (0, 1))[..., 1:] - image, 4))
        return {"level": torch.cat(found, 1)}


def verdict(encoder, cohort, control=None):
    """The verdict beside a control that was measured, or one that passes nothing."""
    measured = worth.measure(encoder, cohort)
    return worth.judge(
        measured, measured.assign(value=-9.0) if control is None else worth.measure(control, cohort), LEAST
    )


# ---- each number ----
def test_reconstruction_is_against_the_mean_of_each_block_and_1_hu_at_the_least():
    images = torch.rand(8, 1, 16, 16)
    blocks = F.avg_pool2d(images, 4)
    assert worth.reconstruction(blocks, images, blocks, images) == pytest.approx(0, abs=0.3)  # knows the means alone
    whole = F.pixel_unshuffle(images, 4)
    of_blocks = ((images - blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)) ** 2).mean().item()
    found = worth.reconstruction(whole, images, whole, images)
    assert found > 20 and found <= 10 * np.log10(of_blocks / worth.FLOOR) + 1e-6  # the ridge is all that it lacks
    nothing = torch.ones(8, 3, 4, 4)
    assert worth.reconstruction(nothing, images, nothing, images) < -0.1  # one grey for all blocks
    assert worth.reconstruction(images, images, images, images) < 0.1  # at full size block means are perfect as well


def test_a_linear_answer_is_least_squares_on_standardised_features():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (40, 3)) * [1, 100, 0]  # a scale that must not matter, a feature that never changes
    wanted = features[:, :1] * 2 + 1 + rng.normal(0, 0.1, (40, 1))
    standard = (features[:, :2] - features[:, :2].mean(0)) / features[:, :2].std(0, ddof=1)
    normal = standard.T @ standard + worth.STRENGTH * 40 * np.eye(2)
    by_hand = standard @ np.linalg.solve(normal, standard.T @ (wanted - wanted.mean())) + wanted.mean()
    found = worth.ridge(torch.from_numpy(features), torch.from_numpy(wanted))(torch.from_numpy(features))
    np.testing.assert_allclose(found.numpy(), by_hand, rtol=1e-9)


def test_a_class_is_told_from_the_mean_features_and_not_if_there_is_one_class_only():
    rng = np.random.default_rng(1)
    classes, other = rng.integers(0, 3, 90), rng.integers(0, 3, 60)

    def features(of):
        return torch.from_numpy(np.eye(3)[of][:, :, None, None] + rng.normal(0, 0.1, (len(of), 3, 2, 2)))

    assert worth.told(features(classes), classes, features(other), other) == 1
    shuffled = rng.permutation(other)
    assert worth.told(features(classes), classes, features(other), shuffled) < 0.6  # 1 of 3 by luck
    assert np.isnan(worth.told(features(classes), 0 * classes, features(other), other))


def test_the_image_itself_answers_to_lesions_as_the_image_does(cohort):
    class Image(Made):
        def forward(self, image):
            return {"level": image}

    assert worth.lesions(Image(), cohort)["level"] == pytest.approx(1, rel=1e-3)
    assert worth.lesions(Made(), cohort)["level"] > 1.5  # means of blocks: less noise, the same lesion


def test_without_slices_that_lack_their_lesions_nothing_is_measured_and_nothing_passed(cohort):
    bare = SimpleNamespace(**vars(cohort) | {"absent_ndct": None, "lesion_masks": None})
    judged = verdict(Made(), bare)
    row = judged[judged.test == "lesions"].iloc[0]
    assert np.isnan(row.value) and not row.passed and worth.admitted(judged) == {"level": False}
    assert "lesions (not measured)" in worth.said(judged)[0] and worth.said(judged)[-1].startswith(
        "Random filters pass"
    )
    assert next(r for r in worth.stored(judged) if r["test"] == "lesions")["value"] is None


# ---- who passes ----
def test_an_encoder_that_knows_all_four_passes_and_one_that_lacks_one_fails_just_there(cohort):
    judged = verdict(Made(), cohort)
    assert judged.passed.all(), judged
    assert worth.admitted(judged) == {"level": True} and "is called medical" in worth.said(judged)[0]
    for lacking, test in (("pixels", "reconstruction"), ("noise", "dose"), ("calm", "lesions")):
        judged = verdict(Made(**{lacking: False}), cohort)
        assert set(judged[~judged.passed].test) == {test}, judged
        assert worth.admitted(judged) == {"level": False} and "small CT encoder" in worth.said(judged)[0]


def test_random_filters_of_the_shape_of_the_encoder_fail(cohort, monkeypatch):
    for name, count in (("FITTED", 64), ("SCORED", 32), ("LESION_SLICES", 2)):
        monkeypatch.setattr(worth, name, count)
    layers = ("block3_conv2", "block5_conv4")
    measured = worth.measure(encoders.load("vgg19", "random", layers), cohort)
    judged = worth.judge(measured, measured, LEAST)
    failed = judged[~judged.passed].groupby("layer").test.agg(set)
    assert all({"reconstruction", "lesions"} <= failed[layer] for layer in layers), judged
    assert worth.admitted(judged) == dict.fromkeys(layers, False)


def test_where_random_filters_pass_nobody_is_admitted(cohort):
    judged = verdict(Made(), cohort, control=Made())
    assert judged.passed.all() and worth.admitted(judged) == {"level": False}
    assert "random filters pass as well" in worth.said(judged)[0]


# ---- faults ----
def table(**values):
    rows = [("level", test, values.get(test, LEAST[test])) for test in worth.TESTS]
    return pd.DataFrame(rows, columns=["layer", "test", "value"])


@pytest.mark.parametrize("test", worth.TESTS)
def test_each_threshold_decides(test):
    poor = table(**dict.fromkeys(worth.TESTS, -9.0))
    assert worth.admitted(worth.judge(table(), poor, LEAST)) == {"level": True}  # the threshold itself is enough
    for value in (LEAST[test] - 0.01, np.nan):
        judged = worth.judge(table(**{test: value}), poor, LEAST)
        assert worth.admitted(judged) == {"level": False} and list(judged[~judged.passed].test) == [test]


def test_features_that_were_shuffled_among_patches_are_not_told(cohort):
    class Shuffled(Made):
        def forward(self, image):
            return {"level": super().forward(image)["level"].roll(1, 0)}

    failed = verdict(Shuffled(), cohort)
    assert {"reconstruction"} <= set(failed[~failed.passed].test) and worth.admitted(failed) == {"level": False}


def test_thresholds_and_layers_must_fit():
    with pytest.raises(ValueError, match="thresholds are needed for reconstruction, dose, anatomy, lesions, got dose"):
        worth.judge(table(), table(), {"dose": 0.5})
    with pytest.raises(ValueError, match="different layers"):
        worth.judge(table(), table().assign(layer="other"), LEAST)
