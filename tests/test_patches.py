"""Patches: the paper's grid, random crops, what is read how often, and going on after an interruption."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ldct_utils.cohorts.patches import Sampler, grid_starts
from ldct_utils.ct import intensity


@pytest.fixture
def cohort():
    """Five slices of 64x96 in which every pixel has a value of its own, NDCT one HU above LDCT."""
    ldct = (np.arange(5 * 64 * 96).reshape(5, 64, 96) - 1024).astype(np.int16)
    return SimpleNamespace(ldct=ldct, ndct=ldct + np.int16(1))


def drawn(sampler, batches):
    return [sampler.next() for _ in range(batches)]


def test_the_papers_grid_gives_25_patches_a_slice_and_ends_at_pixel_480():
    starts = grid_starts(512, 96, 96)
    assert starts.tolist() == [0, 96, 192, 288, 384]
    assert starts[-1] + 96 == 480
    images = np.zeros((3, 512, 512), np.int16)
    sampler = Sampler(SimpleNamespace(ldct=images, ndct=images), [0, 1, 2], 96, 96, 16, seed=0)
    assert sampler.n_patches == 3 * 25
    assert len(sampler) == 75 // 16


def test_an_image_of_exactly_one_patch_gives_that_patch():
    assert grid_starts(96, 96, 96).tolist() == [0]


def test_patches_come_as_network_range_tensors_and_in_pairs(cohort):
    ldct, ndct = Sampler(cohort, [1, 3], 32, 32, 4, seed=0).next()
    assert ldct.shape == ndct.shape == (4, 1, 32, 32) and ldct.dtype == torch.float32
    assert torch.allclose(intensity.from_net(ndct) - intensity.from_net(ldct), torch.ones(()), atol=1e-3)


@pytest.mark.parametrize("skip", [32, None])
def test_every_patch_is_the_piece_of_its_slice_that_places_names(cohort, skip):
    sampler = Sampler(cohort, [0, 2, 4], 32, skip, 3, seed=1)
    for number, (ldct, _) in enumerate(drawn(sampler, 6)):
        for row, (y, x), patch in zip(*sampler.places(number), intensity.from_net(ldct)):
            assert row in (0, 2, 4)
            assert np.array_equal(patch[0].round().numpy(), cohort.ldct[row, y : y + 32, x : x + 32])


def test_an_epoch_of_the_grid_reads_no_pixel_twice(cohort):
    sampler = Sampler(cohort, range(5), 32, 32, 2, seed=0)
    seen = torch.cat([ldct.round(decimals=6).flatten() for ldct, _ in drawn(sampler, len(sampler))])
    assert len(sampler) == 5  # 10 patches: rows 0, columns 0 and 32 of every slice
    assert len(seen.unique()) == len(seen) == 5 * 2 * 32 * 32


def test_the_patches_of_a_slice_stay_together_and_the_rest_of_an_epoch_is_dropped(cohort):
    sampler = Sampler(cohort, range(5), 32, 32, 3, seed=0)  # 10 patches, 3 batches, one patch left over
    rows = np.concatenate([sampler.places(number)[0] for number in range(len(sampler))])
    assert len(rows) == 9
    assert (np.diff(rows) != 0).sum() == 4  # each slice is one run


def test_reshuffling_changes_the_order_and_a_fixed_order_repeats(cohort):
    def order(reshuffle):
        sampler = Sampler(cohort, range(5), 32, 32, 2, seed=3, reshuffle=reshuffle)
        return [np.concatenate([sampler.places(e * 5 + i)[0] for i in range(5)]).tolist() for e in range(4)]

    fixed, fresh = order(False), order(True)
    assert fixed[0] == fixed[1] == fixed[2] == fixed[3] == fresh[0]
    assert len({tuple(one) for one in fresh}) > 1
    assert all(sorted(one) == sorted(fresh[0]) for one in fresh)


def test_random_crops_reach_every_corner_and_all_slices(cohort):
    sampler = Sampler(cohort, range(5), 60, None, 200, seed=0)
    rows, corners = sampler.places(0)
    assert set(rows) == set(range(5))
    assert set(corners[:, 0]) == set(range(5))  # 64 - 60 + 1 starts
    assert corners[:, 1].min() >= 0 and 30 < corners[:, 1].max() <= 36


def test_patients_are_equally_likely_however_many_slices_they_have(cohort):
    cohort.slices = pd.DataFrame({"row": range(5), "patient": ["P1", "P1", "P1", "P1", "P2"]})
    by_patient, by_slice = (Sampler(cohort, range(5), 32, None, 4000, 0, sampling=s) for s in ("patients", "slices"))
    shares = [np.bincount(sampler.places(0)[0], minlength=5) / 4000 for sampler in (by_patient, by_slice)]
    assert np.allclose(shares[0], [1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 2], atol=0.03)  # SD of a share: .008
    assert np.allclose(shares[1], 1 / 5, atol=0.03)
    some = Sampler(cohort, [0, 1, 4], 32, None, 4000, 0, sampling="patients").places(0)[0]  # rows of a split only
    assert np.allclose(np.bincount(some, minlength=5) / 4000, [1 / 4, 1 / 4, 0, 0, 1 / 2], atol=0.03)


def test_what_patients_are_drawn_is_a_function_of_seed_and_number(cohort):
    cohort.slices = pd.DataFrame({"row": range(5), "patient": list("ABCDD")})
    one, two, other = (Sampler(cohort, range(5), 32, None, 8, seed, sampling="patients") for seed in (3, 3, 4))
    drawn(one, 5)
    two.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.next(), two.next()))
    assert not np.array_equal(one.places(0)[1], other.places(0)[1])
    plain = Sampler(cohort, range(5), 32, None, 8, 3)
    assert np.array_equal(plain.places(2)[0], np.random.default_rng([3, 1, 2]).choice(np.arange(5), 8))  # as ever


@pytest.mark.parametrize(
    ("skip", "sampling", "message"),
    [(None, "exams", "no sampling 'exams'; there are slices, patients"), (32, "patients", "a grid takes every slice")],
)
def test_a_sampling_that_does_not_exist_or_fit_is_refused(cohort, skip, sampling, message):
    with pytest.raises(ValueError, match=message):
        Sampler(cohort, range(5), 32, skip, 2, seed=0, sampling=sampling)


@pytest.mark.parametrize("skip", [32, 0])
def test_a_restored_sampler_gives_the_very_next_batch(cohort, skip):
    whole = drawn(Sampler(cohort, range(5), 32, skip, 2, seed=7), 13)
    first = Sampler(cohort, range(5), 32, skip, 2, seed=7)
    drawn(first, 6)
    second = Sampler(cohort, range(5), 32, skip, 2, seed=7)
    second.load_state_dict(first.state_dict())
    for (a, b), (c, d) in zip(whole[6:], drawn(second, 7)):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_seeds_give_different_patches(cohort):
    a, b = (Sampler(cohort, range(5), 32, None, 8, seed=seed).places(0) for seed in (0, 1))
    assert not np.array_equal(a[1], b[1])


def test_a_state_of_another_seed_is_refused(cohort):
    state = Sampler(cohort, range(5), 32, 32, 2, seed=7).state_dict()
    with pytest.raises(ValueError, match="seed 7"):
        Sampler(cohort, range(5), 32, 32, 2, seed=8).load_state_dict(state)


def test_the_images_stay_on_disk(tmp_path):
    np.save(tmp_path / "ldct.npy", np.zeros((4, 64, 64), np.int16))
    images = np.load(tmp_path / "ldct.npy", mmap_mode="r")
    sampler = Sampler(SimpleNamespace(ldct=images, ndct=images), [0, 1], 32, 32, 2, seed=0)
    assert np.shares_memory(sampler.ldct, images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 32, 32, 2), "no slices"),
        (([0], 80, 32, 2), "80 pixels does not fit"),
        (([0], 32, -1, 2), "stride .* must be positive, got -1"),
        (([0], 32, 32, 3), "batch of 3 does not fit into an epoch of 2"),
        (([0], 32, 32, 0), "batch must be at least 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused_with_the_reason(cohort, arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampler(cohort, *arguments, seed=0)
