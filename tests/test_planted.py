"""Planted discs and spectra over cycles a pixel: known answers for known denoisers."""

import numpy as np
import pytest
from scipy import ndimage

from ldct_utils.ct import planted, texture

RNG = np.random.default_rng(0)
FLAT = np.full((2, 128, 128), 60.0)
NOISE = RNG.normal(0, 20, FLAT.shape)


def test_a_disc_has_its_contrast_in_the_middle_and_nothing_far_from_it():
    image = planted.discs((64, 64), [(32, 30)], radius=6, contrast_hu=-30)
    assert image[32, 30] == pytest.approx(-30, rel=0.01) and abs(image[32, 48]) < 1e-3
    assert image.sum() == pytest.approx(-30 * np.pi * 6.0**2, rel=0.03)


def test_kept_is_one_for_the_identity_none_for_a_constant_and_the_factor_of_a_scaling():
    image = planted.discs((128, 128), [(40, 40), (90, 90)], radius=4, contrast_hu=-30)
    slices = (FLAT + NOISE)[0]
    assert planted.kept(slices, slices + image, image) == pytest.approx(1)
    assert planted.kept(slices * 0, slices * 0, image) == 0
    assert planted.kept(0.6 * slices, 0.6 * (slices + image), image) == pytest.approx(0.6)
    blurred = [ndimage.gaussian_filter(one, 4) for one in (slices, slices + image)]
    assert 0.1 < planted.kept(*blurred, image) < 0.6
    with pytest.raises(ValueError, match="no disc"):
        planted.kept(slices, slices, image * 0)


def test_centres_lie_apart_and_are_the_flattest_first():
    corners = [(0, 0), (8, 8), (64, 0), (0, 64), (90, 90)]
    assert planted.centres(corners, 32, 3, apart=40) == [(16, 16), (80, 16), (16, 80)]
    assert planted.centres([], 32, 3) == []


def test_the_spectrum_of_white_noise_is_flat_and_its_variance():
    corners = texture.places(FLAT)
    assert len(corners) == 2 and len(corners[0]) == texture.MOST
    assert texture.curve(NOISE, corners) == pytest.approx(np.full(len(texture.CYCLES), 400), rel=0.15)
    with pytest.raises(ValueError, match="no flat soft tissue"):
        texture.curve(NOISE, texture.places(FLAT - 1000))


def test_distances_of_spectra_know_level_and_shape():
    spectrum = np.exp(-texture.CYCLES * 4)
    assert texture.distance_db(spectrum, spectrum) == 0 and texture.shape_error(spectrum, 7 * spectrum) < 1e-12
    assert texture.distance_db(spectrum / 10, spectrum) == pytest.approx(10)
    assert texture.shape_error(np.ones(len(spectrum)), spectrum) > 0.3
