"""Ensembles of known-location lesions, transfer functions and coherence, against theory and the study's own scanner."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ldct_utils.audit import over_dose
from ldct_utils.ct import crop_noise, dose, fbp, nps
from ldct_utils.task_based import ensembles, equivalence, fabrication, observers, resolution

PIXEL = 0.75
LESIONS = (ensembles.Lesion(1.5, -40.0), ensembles.Lesion(4.0, 15.0))


@pytest.fixture(scope="module")
def water():
    """A small cylinder off the rotation axis's crop, 120 realisations of a 64 x 64 crop with two lesions."""
    scene = ensembles.cylinder(120.0, 0.0, PIXEL)
    return ensembles.ensemble(scene, PIXEL, (40, 70, 64, 64), LESIONS, [[20, 18], [44, 40]], 120, seed=1)


def white(shape, sd=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, sd, shape)


# ---- ensembles ----
@pytest.fixture(scope="module", params=[("B30", (0.0, 0.0)), ("D45", (-60.0, 75.0))])
def both_noises(request):
    """Noise of one crop, whose variance differs by direction and place: drawn in the image, and reconstructed."""
    kernel, centre = request.param
    angle, cell = fbp.angles(360)[:, None], np.linspace(-1, 1, 500)
    variance = 1e-4 * (1.5 + np.cos(2 * angle - 1)) * (1 + 0.5 * cell**2)
    drawn = crop_noise.CropNoise(variance, PIXEL, (48, 40), kernel, centre)
    sinograms = np.sqrt(variance) * np.random.default_rng(0).standard_normal((96, *variance.shape))
    known = [fbp.reconstruct(one, PIXEL, (48, 40), kernel, centre) for one in sinograms]
    return drawn, drawn.draw(400, np.random.default_rng(1)), np.stack(known)


def test_noise_drawn_in_a_crop_has_the_moments_of_reconstructed_noise(both_noises):
    drawn, found, known = both_noises
    assert np.allclose(found.std(0), drawn.sd, rtol=0.2) and found.std() == pytest.approx(known.std(), rel=0.02)
    smooth = [ndimage.gaussian_filter(images.var(0), 8) for images in (found, known)]
    assert np.allclose(smooth[0], smooth[1], rtol=0.08)
    assert abs(found.mean()) < 0.02 * found.std() and abs(np.mean((found / found.std()) ** 4) - 3) < 0.05


def test_noise_drawn_in_a_crop_has_the_spectrum_of_reconstructed_noise_in_every_direction(both_noises):
    found, known = (nps.power_spectrum(images[:, 4:44, :40], PIXEL, taper=True) for images in both_noises[1:])
    rows, columns = np.fft.fftfreq(40, PIXEL)[:, None], np.fft.fftfreq(40, PIXEL)[None]
    inside = np.abs(np.hypot(rows, columns) - 0.3) < 0.15
    direction = np.arctan2(rows, columns) % np.pi
    parts = [inside & (np.abs(direction - middle) < np.pi / 8) for middle in (np.pi / 4, np.pi / 2, 3 * np.pi / 4)]
    shares = np.array([[spectrum[part].mean() for part in parts] for spectrum in (found, known)])
    assert np.allclose(shares[0], shares[1], rtol=0.1)
    assert shares[1].max() > 1.5 * shares[1].min(), "the test needs noise with a direction"
    assert np.allclose(nps.radial(found, PIXEL)[:8], nps.radial(known, PIXEL)[:8], rtol=0.12)


def test_noise_free_crop_and_lesions_are_those_of_a_scan_of_the_whole(water):
    scene = ensembles.cylinder(120.0, 0.0, PIXEL)
    with_lesions = scene.copy()
    for lesion, place in zip(LESIONS, water.places):
        with_lesions += lesion.contrast_hu * ensembles.disc(
            scene.shape, np.add(place, (40, 70)), lesion.radius_mm / PIXEL
        )
    scan = dose.scan(with_lesions[None], PIXEL, 0.25, absent=scene[None], crop=(40, 70, 64, 64))
    assert np.allclose(water.truth(True), scan.noise_free[0], atol=0.5)
    known = (scan.ndct - scan.absent_ndct)[0]
    assert np.allclose(water.signals.sum(0), known, atol=0.02 * np.abs(known).max())


@pytest.mark.parametrize("level", [0.25, 1.0])
def test_noise_has_the_level_and_texture_of_the_study_s_scans(water, level):
    scene = ensembles.cylinder(120.0, 0.0, PIXEL)
    scans = [dose.scan(scene[None], PIXEL, level, seed=s, crop=(40, 70, 64, 64), views=360, n0=2 * dose.N0)
             for s in range(12)]  # fmt: skip
    known = np.stack([(s.ldct - s.noise_free)[0] for s in scans])
    found = water.images(False, level) - water.truth(False)
    assert found.std() == pytest.approx(known.std(), rel=0.04)
    curves = [nps.radial(nps.power_spectrum(x, PIXEL, taper=True), PIXEL) for x in (found, known)]
    assert np.allclose(curves[0] / curves[1].max(), curves[1] / curves[1].max(), atol=0.12)


def test_noise_variance_goes_with_one_over_dose(water):
    normal = (water.images(False, 1.0) - water.truth(False)).var()
    for level in (0.1, 0.25, 0.5):
        assert (water.images(False, level) - water.truth(False)).var() / normal == pytest.approx(1 / level, rel=0.08)


def test_ensembles_over_dose_follow_the_noise_of_a_measured_phantom(water, test_data):
    with np.load(test_data / "low_contrast_phantom.npz") as stored:
        levels = stored["dose"]
        images = stored["fbp_signal_absent"][:, :, 96:160, 96:160].astype(np.float64)
    measured = np.array([np.sqrt(np.var(one, axis=0, ddof=1).mean()) for one in images])
    assert np.allclose(np.sort(measured)[::-1], [74.6, 31.6, 23.9], rtol=0.02)
    ours = np.array([(water.images(False, level) - water.truth(False)).std() for level in levels])
    assert np.allclose(ours / ours[levels.argmax()], measured / measured[levels.argmax()], rtol=0.03)


def test_a_low_dose_realisation_contains_its_normal_dose_partner(water):
    inserted, normal = water.images(True, 0.25) - water.images(True, 1.0), water.normal[1]
    assert abs(np.corrcoef(inserted.ravel(), normal.ravel())[0, 1]) < 0.02
    assert inserted.std() == pytest.approx(np.sqrt(3) * normal.std(), rel=0.05)


def test_realisations_and_classes_are_independent_and_repeat_with_the_seed(water):
    flat = np.concatenate([water.normal[0, :20], water.normal[1, :20], water.inserted[0, :20]]).reshape(60, -1)
    correlations = np.corrcoef(flat) - np.eye(60)
    assert np.abs(correlations).max() < 0.25 and abs(correlations.mean()) < 0.01
    scene = ensembles.cylinder(60.0, 0.0, PIXEL)
    one, again, other = (ensembles.ensemble(scene, PIXEL, (30, 30, 32, 32), realisations=3, seed=s) for s in (4, 4, 5))
    assert (one.normal == again.normal).all() and (one.normal != other.normal).any()


def test_detection_grows_with_the_root_of_the_dose_and_vanishes_with_the_contrast():
    scene, places = ensembles.cylinder(120.0, 0.0, PIXEL), [[20, 20], [44, 44]]
    lesions = (ensembles.Lesion(3.0, -3.0), ensembles.Lesion(3.0, 0.0))
    made = ensembles.ensemble(scene, PIXEL, (50, 50, 64, 64), lesions, places, 250, seed=3)
    channels = observers.laguerre_gauss(31, 12.0)
    found = {
        (level, i): observers.detect(
            *(observers.respond(made.region(made.images(present, level), i, 31), channels) for present in (False, True))
        )
        for level in (0.25, 1.0)
        for i in (0, 1)
    }
    assert found[1.0, 0].d_prime / found[0.25, 0].d_prime == pytest.approx(2.0, rel=0.2)
    assert all(found[level, 1].auc_low <= 0.5 <= found[level, 1].auc_high for level in (0.25, 1.0))
    # what spectra predict of the channelised observer: no more than the ideal one
    regions = made.normal.reshape(-1, 64, 64)
    power, cell = np.abs(np.fft.fft2(made.signals[0]) * PIXEL**2) ** 2, 1 / (64 * PIXEL) ** 2
    ideal = np.sqrt((power / (nps.power_spectrum(regions, PIXEL) + 1.0)).sum() * cell)
    assert 0.75 * ideal < found[1.0, 0].d_prime < 1.1 * ideal


def test_patients_have_their_lesions_deep_in_the_liver():
    (found,) = ensembles.patients(1, LESIONS, seed=3)
    body, (top, left, height, width), places = found
    rows, columns = (places + np.subtract((top, left), body.crop[:2])).T
    label = body.organ_masks[0][rows, columns]
    assert (label == ensembles.LABELS["liver"]).all() and (height, width) == (96, 96)
    assert (places >= 16).all() and (places < 80).all()
    with pytest.raises(ValueError, match="only 0 of 2 simulated patients have room in the liver"):
        list(ensembles.patients(1, (ensembles.Lesion(60.0, 5.0),), tries=2))


def test_an_organ_without_room_has_no_places():
    assert ensembles.find_places(np.zeros((96, 96), bool), LESIONS, PIXEL, 96) is None
    assert ensembles.find_places(ensembles.disc((96, 96), (48, 48), 5) > 0.5, LESIONS, PIXEL, 96) is None
    places = ensembles.find_places(np.ones((128, 128), bool), LESIONS, PIXEL, 96)
    assert np.hypot(*(places[0] - places[1])) * PIXEL >= ensembles.GAP_MM


def test_wrong_crops_and_regions_say_so(water):
    with pytest.raises(ValueError, match="outside a scene"):
        ensembles.ensemble(np.zeros((64, 64)), PIXEL, (40, 0, 32, 32))
    with pytest.raises(ValueError, match="at least one realisation"):
        ensembles.ensemble(np.zeros((64, 64)), PIXEL, (0, 0, 32, 32), realisations=0)
    with pytest.raises(ValueError, match="leaves the crop"):
        water.region(water.clean, 0, 51)
    with pytest.raises(ValueError, match="dose is a fraction"):
        water.images(True, 1.5)


def test_contrast_to_noise_ratio_by_hand():
    image = np.zeros((10, 10))
    image[:5] = 30.0
    image[5:, ::2] = 1.0
    inside, around = np.zeros((2, 10, 10), bool)
    inside[:5], around[5:] = True, True
    assert ensembles.cnr(image, inside, around) == pytest.approx(29.5 / image[5:].std(ddof=1))


# ---- transfer functions ----
@pytest.mark.parametrize("sigma_mm", [0.8, 1.2])
def test_transfer_function_of_a_gaussian_blur_is_its_fourier_transform(sigma_mm):
    fine = ensembles.disc((640, 640), (319.5, 319.5), 15.0 / 0.15)
    blurred = ndimage.gaussian_filter(fine, sigma_mm / 0.15).reshape(128, 5, 128, 5).mean((1, 3))
    found = resolution.ttf(40 + 25 * blurred, (63.5, 63.5), 15.0, 0.75)
    f = resolution.TTF_FREQUENCIES
    known = np.exp(-2 * np.pi**2 * sigma_mm**2 * f**2)
    pixel = np.sinc(0.75 * f)  # the pixel itself blurs, too, by less in most directions
    assert np.all(found < known + 0.03) and np.all(found > known * pixel - 0.03)
    assert resolution.frequency_at(found, 0.5) == pytest.approx(np.sqrt(np.log(2) / 2) / np.pi / sigma_mm, rel=0.06)


def test_transfer_function_of_a_reconstruction_is_that_of_its_kernel():
    scene = ensembles.cylinder(120.0, 0.0, PIXEL)
    made = ensembles.ensemble(scene, PIXEL, (40, 40, 96, 96), (ensembles.Lesion(15.0, 100.0),), [[48, 48]], 1, seed=0)
    found = resolution.ttf(made.signals[0], (48, 48), 15.0, PIXEL)
    f = resolution.TTF_FREQUENCIES
    low = f < 0.45
    kernel, pixels = fbp.KERNELS["B30"](f), np.sinc(PIXEL * f) ** 3  # of the disc's soft rim and the projected pixels
    assert np.all((found < kernel + 0.02)[low]) and np.all((found > kernel * pixels - 0.02)[low])


def test_transfer_function_does_not_depend_on_contrast_or_sign_and_needs_room():
    image = ndimage.gaussian_filter(ensembles.disc((96, 96), (47.5, 47.5), 16.0).astype(float), 1.5)
    curves = [resolution.ttf(100 + c * image, (47.5, 47.5), 12.0, 0.75) for c in (5.0, -300.0)]
    assert np.allclose(*curves) and curves[0][0] == pytest.approx(1)
    with pytest.raises(ValueError, match="needs 8 mm"):
        resolution.ttf(image, (20.0, 47.5), 12.0, 0.75)
    assert np.isnan(resolution.frequency_at(np.ones(51), 0.5))


# ---- coherence ----
@pytest.fixture(scope="module")
def scene():
    """A truth with structure at every frequency, and twelve noise realisations of it."""
    truth = 30 * ndimage.gaussian_filter(white((160, 160), seed=1), 0.6)
    return truth, truth + white((12, 160, 160), 8.0, seed=2)


def test_coherence_of_an_image_with_itself_is_one_and_survives_a_linear_filter(scene):
    truth, _ = scene
    same = resolution.coherence(np.stack([truth, truth]), truth, PIXEL)
    assert np.allclose(same.squared, 1) and np.allclose(same.fabricated / same.truth, 0, atol=1e-9)
    sharpened = truth + 2 * (truth - ndimage.gaussian_filter(truth, 1.0))
    linear = resolution.coherence(np.stack([sharpened, sharpened]), truth, PIXEL)
    assert (linear.squared > 0.97).all() and linear.surplus[-1] > 4  # more structure, none of it invented


def test_coherence_in_noise_is_the_signal_s_share_of_the_power(scene):
    truth, noisy = scene
    found = resolution.coherence(noisy, truth, PIXEL)
    assert np.allclose(found.squared, found.truth / (found.truth + 8.0**2 * PIXEL**2), atol=0.06)
    assert np.allclose(found.noise, 8.0**2 * PIXEL**2, rtol=0.15)
    assert np.allclose(found.fabricated / found.output, 0, atol=0.04)


def test_structure_that_comes_back_in_every_realisation_is_told_from_noise(scene):
    truth, noisy = scene
    texture = white(truth.shape, 5.0, seed=3)
    found = resolution.coherence(noisy + texture, truth, PIXEL)
    assert np.allclose(found.fabricated, 5.0**2 * PIXEL**2, rtol=0.25)
    assert np.allclose(found.noise, 8.0**2 * PIXEL**2, rtol=0.15)


def test_structure_that_is_weakened_unevenly_is_incoherent_but_not_beyond_the_truth(scene):
    truth, _ = scene
    gain = np.where(ndimage.gaussian_filter(white(truth.shape, seed=5), 6) > 0, 1.0, 0.3)
    weakened = resolution.coherence(np.stack([gain * truth] * 2), truth, PIXEL)
    assert (weakened.fabricated > 0.05 * weakened.truth).all() and (weakened.surplus < 1).all()
    invented = resolution.coherence(np.stack([truth + white(truth.shape, 5.0, seed=3)] * 2), truth, PIXEL)
    rings = resolution.ring_rms(invented.repeatable - invented.truth, invented.frequencies)
    known = resolution.ring_rms(5.0**2 * PIXEL**2, invented.frequencies)
    assert np.allclose(rings[-4:], known[-4:], rtol=0.3) and resolution.ring_rms(-1.0, 0.5) == 0


def test_coherence_needs_several_realisations_of_the_truth(scene):
    truth, noisy = scene
    for outputs in (noisy[:1], noisy[0], noisy[:, :100]):
        with pytest.raises(ValueError, match="two or more realisations"):
            resolution.coherence(outputs, truth, PIXEL)


# ---- measured on an ensemble ----
def test_every_lesion_is_judged_by_both_observers(water):
    classes = [water.images(present, 1.0) for present in (False, True)]
    found = pd.DataFrame(ensembles.detections(water, classes, 25))
    assert len(found) == 2 * 2 * 2 and found.value.between(found.low, found.high).all()
    d = found[found.quantity == "d'"].set_index(["observer", "lesion"]).value
    auc = found[found.quantity == "AUC"].set_index(["observer", "lesion"]).value
    assert (auc.between(0.5, 1)).all() and d["CHO", 0] > 1
    noise = [water.images(False, 1.0)[half::2] for half in (0, 1)]  # no lesion in either class
    none = pd.DataFrame(ensembles.detections(water, noise, 25)).set_index("quantity")
    assert none.value["AUC"].between(0.25, 0.75).all() and (none.low["AUC"] < 0.5).all()


def test_inserts_of_a_linear_denoiser_have_one_transfer_function_and_keep_their_contrast():
    def half(hu):
        return hu / 2

    found = resolution.inserts([("FBP", -1, lambda hu: hu), ("half", 0, half)], [100.0, 400.0], 1.0, 6)
    assert list(found.method) == ["noise-free", "FBP", "half"] * 2
    f50 = found.set_index(["contrast_hu", "method"]).f50
    assert f50[400.0, "FBP"] == pytest.approx(f50[400.0, "noise-free"], rel=0.05)
    assert f50[400.0, "half"] == pytest.approx(f50[400.0, "FBP"])
    recovered = found.set_index(["contrast_hu", "method"]).recovered
    assert recovered[400.0, "FBP"] == pytest.approx(1, abs=0.05)
    assert recovered[400.0, "half"] == pytest.approx(recovered[400.0, "FBP"] / 2)
    cnr = found.set_index(["contrast_hu", "method"]).CNR
    assert np.isnan(cnr[100.0, "noise-free"]) and cnr[400.0, "half"] == pytest.approx(cnr[400.0, "FBP"], rel=1e-4)


def test_transfer_functions_are_averaged_over_trainings():
    rows = pd.DataFrame(
        {"contrast_hu": [30.0] * 3, "method": ["FBP", "a", "a"], "seed": [-1, 0, 1], "f50": [0.3, 0.2, 0.4]}
    )
    found = resolution.means(rows)
    assert list(found) == ["contrast_hu", "method", "f50"] and list(found.f50) == pytest.approx([0.3, 0.3])


def test_observers_and_metrics_are_asked_of_the_same_images(water):
    classes = [water.images(present, 0.25) for present in (False, True)]
    found = pd.DataFrame(over_dose.judged(water, classes, 25, "laguerre_gauss", ["rmse_hu"], 5))
    pd.testing.assert_frame_equal(found[found.observer != ""].reset_index(drop=True),
                                  pd.DataFrame(ensembles.detections(water, classes, 25)))  # fmt: skip
    (row,) = found[found.observer == ""].itertuples()
    errors = np.sqrt(((classes[1][:5] - water.truth(True)) ** 2).mean((1, 2), dtype=np.float64))
    assert row.value == pytest.approx(errors.mean(), rel=1e-4) and row.lesion == equivalence.ALL


def test_livers_are_the_scans_of_the_patients_with_room(water):
    (made,) = ensembles.livers(1, LESIONS, 2, 96, seed=3)
    body, crop, places = next(ensembles.patients(1, LESIONS, 96, 3))
    again = ensembles.ensemble(body.absent_scene[0], body.pixel_mm, crop, LESIONS, places, 2, [3, 0])
    np.testing.assert_array_equal(made.images(True, 0.25), again.images(True, 0.25))


def test_powers_are_those_of_controls_and_denoisers_in_the_same_noise():
    found = fabrication.spectra([("same", 4, np.asarray)], 1, 0.25, 2, 48, progress=list)
    low = found[found.method == "FBP, dose 0.25"].output.to_numpy()
    assert np.array_equal(found[found.method == "same"].output, low) and found.seed.unique().tolist() == [-1, 4]
    assert found[found.method == "FBP, dose 1"].output.mean() < low.mean() and found.patient.eq(0).all()
