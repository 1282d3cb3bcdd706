"""Degradations: nothing at strength 0, and exactly what they say at the others."""

import numpy as np
import pytest

from ldct_utils.ct import degradations, dose, fbp, nps
from ldct_utils.ct.degradations import DEGRADATIONS, degrade


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(40, 10, (3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_strength_zero_changes_nothing_and_more_changes_more(images, name):
    lesion = np.zeros(images.shape, np.float32)
    lesion[:, 20:30, 20:30] = -20
    np.testing.assert_array_equal(degrade(name, images, 0, 0.75, lesion=lesion), images)
    found = [degrade(name, images, strength, 0.75, 7, lesion) for strength in DEGRADATIONS[name].strengths]
    change = [np.abs(one - images).mean() for one in found]
    assert 0 < change[0] < change[1] < change[2]
    assert all(one.dtype == np.float32 and one.shape == images.shape for one in found)
    np.testing.assert_array_equal(
        degrade(name, images, 0.5, 0.75, 7, lesion), degrade(name, images, 0.5, 0.75, 7, lesion)
    )


def test_lesions_are_removed_and_invented_by_the_share_that_is_asked(images):
    lesion = np.zeros((64, 64), np.float32)
    lesion[30:36, 30:36] = 25
    np.testing.assert_allclose(degrade("lesion_removed", images + lesion, 1.0, 0.75, lesion=lesion), images, atol=1e-4)
    half = degrade("lesion_added", images, 0.5, 0.75, lesion=lesion)
    np.testing.assert_allclose(half - images, np.broadcast_to(lesion / 2, images.shape), atol=1e-4)
    with pytest.raises(ValueError, match="lesion_removed needs lesion="):
        degrade("lesion_removed", images, 0.5, 0.75)


@pytest.mark.parametrize("name", ["rings", "streaks"])
def test_artefacts_have_the_sd_that_is_asked_and_are_scaled_alike(name):
    blank = np.zeros((20, 48, 48), np.float32)
    found = degrade(name, blank, 5.0, 0.75, seed=1)
    np.testing.assert_allclose(found.std(axis=(1, 2)), 5.0, rtol=1e-4)
    np.testing.assert_allclose(degrade(name, blank, 10.0, 0.75, seed=1), 2 * found, rtol=1e-5)
    # no image has another's artefact, also not turned or mirrored (rings are the same then) or with another sign
    alike = np.abs(np.corrcoef(found.reshape(20, -1)) - np.eye(20))
    assert alike.max() < 0.9 and alike.mean() < 0.25


def test_rings_are_round_and_streaks_are_not():
    def varies_along_rings(image):
        """Share of an image's variance that is not explained by the distance from its centre."""
        axis = np.arange(96) - 47.5
        radius = np.round(np.hypot(axis[:, None], axis[None])).astype(int)
        inside = (radius > 4) & (radius < 44)
        mean = np.bincount(radius[inside], image[inside]) / np.maximum(np.bincount(radius[inside]), 1)
        return np.var(image[inside] - mean[radius[inside]]) / np.var(image[inside])

    rng = np.random.default_rng(2)
    assert varies_along_rings(degradations.ring_patterns(1, (96, 96), 0.75, rng)[0]) < 0.35
    assert varies_along_rings(degradations.streak_patterns(1, (96, 96), 0.75, rng)[0]) > 0.8


def test_rings_are_the_reconstruction_of_a_sinogram_with_cells_that_are_off(monkeypatch):
    size, pixel = 64, 0.75
    found = degradations.ring_patterns(2, (size, size), pixel, np.random.default_rng(4))[1]
    seen = []
    whole = fbp.filtered
    monkeypatch.setattr(fbp, "filtered", lambda cells, *rest: seen.append(cells) or whole(cells, *rest))
    degradations.ring_patterns(2, (size, size), pixel, np.random.default_rng(4))
    known = fbp.reconstruct(np.repeat(seen[0][1:], fbp.VIEWS, axis=0), pixel, (size, size))
    assert np.count_nonzero(seen[0][1]) <= 2 * degradations.BAD_CELLS
    assert np.corrcoef(found.ravel(), known.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("name", ["rings", "streaks"])
def test_a_new_pattern_an_image_projects_nothing_and_reconstructs_no_image_of_all_views(name, monkeypatch):
    """Its cost is that of the patterns alone: a whole scan an image would take minutes for 200 images."""
    views, whole = [], fbp.reconstruct

    def reconstruct(sinogram, *args, **given):
        views.append(len(sinogram))
        return whole(sinogram, *args, **given)

    monkeypatch.setattr(fbp, "project", lambda *_, **__: pytest.fail("a pattern is projected"))
    monkeypatch.setattr(fbp, "reconstruct", reconstruct)
    degrade(name, np.zeros((5, 96, 96), np.float32), 5.0, 0.75, seed=1)
    assert len(views) <= 5 and max(views, default=0) <= degradations.STARVED_VIEWS


def test_invented_texture_is_fine_and_stays_in_tissue():
    images = np.full((2, 128, 128), 40, np.float32)
    images[:, :, :64] = -1000
    added = degrade("texture", images, 5.0, 0.75, seed=3) - images
    assert np.abs(added[:, :, :50]).max() == 0 and added[:, :, 80:].std() == pytest.approx(5, rel=0.05)
    power = nps.radial(nps.power_spectrum(added[:, 32:96, 64:], 0.75, taper=True), 0.75, (0.2, 0.6))
    assert power[0] < 0.02 * power[1]
    with pytest.raises(ValueError, match="nothing finer than"):
        degrade("texture", images, 5.0, 2.0)


def test_blur_keeps_the_mean_and_halves_what_a_gaussian_halves():
    x = np.arange(256) * 0.75
    frequency = 0.2
    wave = np.broadcast_to(np.sin(2 * np.pi * frequency * x), (1, 64, 256)).astype(np.float32)
    found = degrade("blur", wave, 0.8, 0.75)[0, 32, 60:-60]
    expected = np.exp(-2 * np.pi**2 * 0.8**2 * frequency**2)
    assert found.std() / wave[0, 32, 60:-60].std() == pytest.approx(expected, rel=0.01)


def test_another_dose_has_the_noise_that_a_scan_at_that_dose_has():
    truth = np.full((1, 96, 96), -1000, np.float32)
    axis = np.arange(96) - 47.5
    truth[0][np.hypot(axis[:, None], axis[None]) < 40] = 40
    middle = (slice(None), slice(32, 64), slice(32, 64))
    scans = [dose.scan(truth, 0.75, 0.25, seed=[9, draw], n0=3e3, views=180) for draw in range(12)]
    sd = {
        a: np.std([dose.at_dose(s.ndct, s.ldct, 0.25, a)[middle] - s.noise_free[middle] for s in scans])
        for a in (1.0, 0.25, 0.1)
    }
    assert sd[0.25] / sd[1.0] == pytest.approx(2, rel=0.05)
    assert sd[0.1] / sd[1.0] == pytest.approx(10**0.5, rel=0.05)
    np.testing.assert_allclose(dose.at_dose(scans[0].ndct, scans[0].ldct, 0.25, 0.25), scans[0].ldct, atol=1e-3)
    with pytest.raises(ValueError, match="the LDCT's under 1"):
        dose.at_dose(truth, truth, 1.0, 0.5)


def test_what_cannot_be_done_is_refused(images):
    with pytest.raises(ValueError, match="unknown degradation 'smudge'"):
        degrade("smudge", images, 1, 0.75)
    with pytest.raises(ValueError, match="strength >= 0"):
        degrade("blur", images, -1, 0.75)
