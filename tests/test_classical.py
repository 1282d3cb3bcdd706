"""Denoisers without training: what they do to noise and edges, their units, tuning, and BM3D where it is absent."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage import restoration

from ldct_utils.ct import degradations
from ldct_utils.models import classical, textbook
from ldct_utils.training import filters

SETTINGS = {"nlm": {"sigma_hu": 20.0}, "tv": {"weight_hu": 20.0}, "bm3d": {"sigma_hu": 20.0}}
HERE = classical.names()


def pair(noise=20.0, size=48, count=2):
    """A disc at 40 HU in air, with and without noise, float32."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    clean = np.where(np.hypot(x, y) < 0.4, 40.0, -1000.0)
    noisy = clean + np.random.default_rng(0).normal(0, noise, (count, size, size))
    return noisy.astype(np.float32), np.broadcast_to(clean, noisy.shape).astype(np.float32)


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.mark.parametrize("name", HERE)
def test_noise_falls_and_the_edge_of_the_body_stays(name):
    noisy, clean = pair()
    denoised = classical.build(name, **SETTINGS[name])(noisy)
    assert denoised.shape == noisy.shape and denoised.dtype == np.float32
    assert rmse(denoised, clean) < 0.6 * rmse(noisy, clean)
    inside, outside = denoised[:, 20:28, 20:28].mean(), denoised[:, :4, :4].mean()
    assert abs(inside - 40) < 5 and abs(outside + 1000) < 8


@pytest.mark.parametrize("name", HERE)
def test_a_slice_alone_is_denoised_like_the_same_slice_in_a_stack(name):
    noisy, _ = pair()
    denoise = classical.build(name, **SETTINGS[name])
    assert np.allclose(denoise(noisy[1]), denoise(noisy)[1], atol=0.01)  # threads of BM3D differ in the last bits
    with pytest.raises(ValueError, match=r"\(H, W\) in HU, not \(2, 1, 48, 48\)"):
        denoise(noisy[:, None])


@pytest.mark.parametrize("name", HERE)
def test_settings_are_in_hu(name):
    """Twice the contrast with twice the noise, at twice the setting, gives twice the picture; an offset stays."""
    noisy, _ = pair()
    noisy = (noisy + 1000) / 4  # within the network range after doubling
    once, twice = (
        classical.build(name, **{setting: factor * value for setting, value in SETTINGS[name].items()})
        for factor in (1, 2)
    )
    assert np.allclose(twice(2 * noisy - 1000), 2 * once(noisy) - 1000, atol=0.5)


def test_strength_of_non_local_means_is_their_decay_over_the_noise():
    noisy, _ = pair(size=24, count=1)
    given = {"patch_size": 5, "patch_distance": 6, "sigma": 30.0, "fast_mode": True, "preserve_range": True}
    expected = restoration.denoise_nl_means(noisy[0].astype(np.float64), h=0.7 * 30.0, **given)
    assert np.allclose(classical.build("nlm", sigma_hu=30.0, strength=0.7)(noisy)[0], expected, atol=1e-3)


def test_a_vanishing_weight_of_total_variation_leaves_the_image_and_a_large_one_its_mean():
    noisy, _ = pair(size=24, count=1)
    assert rmse(classical.build("tv", weight_hu=1e-6)(noisy), noisy) < 1e-3
    flat = classical.build("tv", weight_hu=1e6)(noisy)
    assert flat.std() < 0.1 * noisy.std() and abs(flat.mean() - noisy.mean()) < 1


def test_int16_slices_of_a_cohort_are_read_as_hu_and_not_as_fractions():
    noisy, clean = pair()
    assert rmse(classical.build("tv", weight_hu=20.0)(noisy.astype(np.int16)), clean) < 12


def test_tuning_takes_the_setting_with_the_smallest_rmse_on_what_it_is_given():
    noisy, clean = pair(size=32)
    grid = {"weight_hu": (1.0, 20.0, 500.0)}
    table = classical.scores("tv", noisy, clean, grid)
    assert classical.tune("tv", noisy, clean, grid) == {"weight_hu": 20.0}
    assert table.rmse_hu.is_monotonic_increasing and len(table) == 3
    # of two validation patients of three slices the middle one each, and none of training
    slices = pd.DataFrame({"row": range(9), "patient": list("AAABBBCCC"), "split": ["val"] * 6 + ["train"] * 3})
    ldct, ndct = np.full((9, 32, 32), np.nan, np.float32), np.full((9, 32, 32), np.nan, np.float32)
    ldct[[1, 4]], ndct[[1, 4]] = noisy[:2], clean[:2]
    tuned = filters.tuned(["tv"], SimpleNamespace(slices=slices, ldct=ldct, ndct=ndct))
    assert tuned["settings"].tolist() == [str(classical.tune("tv", noisy[:2], clean[:2]))]
    direct = rmse(classical.build("tv", weight_hu=500.0)(noisy), clean)
    assert table.set_index("weight_hu").rmse_hu[500.0] == pytest.approx(direct, rel=1e-5)


def test_more_noise_is_tuned_to_more_smoothing():
    found = [
        classical.tune("nlm", *pair(noise, size=32, count=1), {"sigma_hu": (5.0, 20.0, 80.0)}) for noise in (5, 80)
    ]
    assert found[0]["sigma_hu"] < found[1]["sigma_hu"]


@pytest.mark.parametrize("name", HERE)
def test_a_best_setting_on_the_default_grid_builds_a_denoiser(name):
    noisy, clean = pair(size=24, count=1)
    best = classical.tune(name, noisy, clean)
    assert all(type(value) is float for value in best.values())
    assert rmse(classical.build(name, **best)(noisy), clean) < rmse(noisy, clean)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("median", {}, "no classical method 'median'; there are bm3d, nlm, tv"),
        ("tv", {"weight": 1.0}, "no setting 'weight'; it has weight_hu"),
        ("tv", {}, "tv needs weight_hu"),
        ("nlm", {"sigma_hu": 0.0}, "sigma_hu must be above 0, not 0.0"),
    ],
)
def test_a_wrong_method_or_setting_is_refused_by_name(name, given, words):
    with pytest.raises(ValueError, match=words):
        classical.build(name, **given)


def test_tuning_refuses_pairs_of_different_shapes_and_wrong_grids():
    noisy, clean = pair(size=16)
    with pytest.raises(ValueError, match="same shape"):
        classical.tune("tv", noisy, clean[:1])
    with pytest.raises(ValueError, match="no setting 'sigma_hu'"):
        classical.tune("tv", noisy, clean, {"sigma_hu": (1.0,)})
    with pytest.raises(ValueError, match="no classical method"):
        classical.tune("median", noisy, clean)
    with pytest.raises(ValueError, match="no validation slices to tune tv on"):
        classical.tune("tv", noisy[:0], clean[:0])


@pytest.mark.skipif("bm3d" in HERE, reason="bm3d is installed")
def test_bm3d_is_not_listed_without_its_package_and_says_why():
    with pytest.raises(ModuleNotFoundError, match="non-commercial"):
        classical.build("bm3d", sigma_hu=20.0)
    with pytest.raises(ModuleNotFoundError, match="install the package bm3d"):
        classical.tune("bm3d", *pair(size=16))


def test_tuned_settings_are_told_in_words():
    assert classical.in_words({"weight_hu": 20.0}) == "a weight of 20 HU"
    assert classical.in_words({"sigma_hu": 5.0, "strength": 0.8}) == "a noise of 5 HU and a strength of 0.8"
    assert {setting for grid in classical.GRIDS.values() for setting in grid} <= set(classical.SETTINGS)


def test_the_filters_of_a_textbook_are_those_of_the_libraries_and_of_the_audit():
    noisy, _ = pair()
    made = {name: one(noisy) for name, one in textbook.filters(pixel_mm=0.8, tv_hu=20.0).items()}
    assert tuple(made) == textbook.FILTERS
    np.testing.assert_array_equal(made[textbook.UNSHARP], degradations.unsharp(noisy, 1.0, 0.8))
    np.testing.assert_array_equal(made[textbook.MEDIAN][0], ndimage.median_filter(noisy[0], 3))
    np.testing.assert_allclose(made[textbook.TV], classical.build("tv", weight_hu=20.0, eps=1e-3)(noisy))
    assert made[textbook.BLUR].std() < made[textbook.MEDIAN].std() < noisy.std() < made[textbook.UNSHARP].std()
