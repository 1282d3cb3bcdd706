"""The training of a medical encoder: a normalisation that changes nothing, patches, heads, and states that go on."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ldct_utils.models import encoders
from ldct_utils.training import checkpoints, medical_encoder


@pytest.fixture
def cohort():
    about = pd.DataFrame({"row": [0, 1], "anatomy": ["head", "chest"]})
    return SimpleNamespace(id="made", slices=about, ndct=np.zeros((2, 32, 32)), ldct=np.full((2, 32, 32), 3072.0))


def test_a_normalisation_changes_nothing_at_first_and_is_folded_away():
    body, _ = encoders.initialised("vgg19", "random", ["block1_conv2"], None, "x255", 0)
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = body.eval()(encoders.rgb(images, "x255"))["block1_conv2"].detach()
    keys = set(body.state_dict())
    medical_encoder.normalise(body, images, "x255")
    assert set(body.state_dict()) != keys
    again = body.eval()(encoders.rgb(images, "x255"))["block1_conv2"].detach()
    medical_encoder.fold(body)
    folded = body(encoders.rgb(images, "x255"))["block1_conv2"].detach()
    assert set(body.state_dict()) == keys
    for found in (again, folded):
        assert torch.allclose(found, plain, atol=1e-3 * float(plain.abs().max()))


def test_the_first_half_of_patches_is_ndct_and_anatomies_are_those_of_their_rows(cohort):
    images, anatomies = medical_encoder.patches(cohort, np.random.default_rng(0), [1], 6, 16)
    assert images.shape == (6, 1, 16, 16) and anatomies.tolist() == [0] * 6  # chest comes first
    assert images[:3].eq(0.25).all() and images[3:].eq(1).all()


def test_decoders_start_from_the_mean_image_at_the_size_of_the_patch():
    features = {"a": torch.rand(2, 3, 4, 4), "b": torch.rand(2, 5, 1, 1)}
    heads = medical_encoder.heads_of(features, 16, 3, 0.3)
    for name, z in features.items():
        assert heads[name](z).shape == (2, 1, 16, 16) and torch.allclose(heads[name](z), torch.tensor(0.3))
    assert heads["dose"](torch.rand(2, 8)).shape == (2, 2) and heads["anatomy"](torch.rand(2, 8)).shape == (2, 3)


def test_the_rate_rises_and_falls_to_nothing():
    rates = [medical_encoder.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1, abs=0.03) and rates[-1] < 1e-3
    assert all(b < a for a, b in itertools.pairwise(rates[10:]))


def test_a_state_goes_on_where_it_stopped(tmp_path):
    one, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    told, again = medical_encoder.Terms(), medical_encoder.Terms()
    told.rows.append({"step": 6, "dose": 0.5})
    assert checkpoints.resume(tmp_path, "id", a=other, history=again) == 0 and again.rows == []
    checkpoints.save(tmp_path, "id", 7, a=one, history=told)
    assert checkpoints.resume(tmp_path, "id", a=other, history=again) == 7 and again.rows == told.rows
    assert torch.equal(one.weight, other.weight)


def test_weights_moved_by_a_known_share():
    body = torch.nn.Linear(2, 1, bias=False)
    before = {"weight": body.weight.detach().clone()}
    body.weight.data *= 1.5
    assert medical_encoder.moved(body, before)["relative change"].item() == pytest.approx(0.5)


@pytest.mark.parametrize(("arch", "size", "tasks"), [("resnet50", 16, ["dose"]), ("vgg19", 40, ["dose"]),
                                                     ("vgg19", 16, []), ("vgg19", 16, ["lesion"])])  # fmt: skip
def test_what_cannot_be_trained_is_refused(arch, size, tasks):
    with pytest.raises(ValueError, match=r"arch must be|patch_size must be|tasks must be"):
        medical_encoder.check(arch, size, tasks)


def test_a_cohort_without_validation_slices_is_refused(cohort):
    cohort.rows = lambda split: [0] if split == "train" else []
    with pytest.raises(ValueError, match="cohort made has no val slices"):
        medical_encoder.check_cohort(cohort)
