"""Noise of simulated and real scans: spectra with known answers, texture, correlation, dose law, mean HU."""

import numpy as np
import pytest
from scipy import ndimage

from ldct_utils.ct import dicom, dose, noise_checks, nps, pair_noise
from ldct_utils.phantom import patient as phantom

PIXEL = 0.75


@pytest.fixture(scope="module")
def scans():
    """One abdominal slice with each kernel: difference image, noise-free image, scan."""
    patient = phantom.patient(3, "abdomen", size=256, slices=1)
    return {kernel: dose.simulate(patient, 0.25, kernel, seed=1) for kernel in ("B30", "D45")}


def white(shape, sd, seed=0):
    return np.random.default_rng(seed).normal(0, sd, shape)


def test_noise_that_is_too_smooth_for_its_fine_part_shows_over_all_frequencies():
    """What set the level cannot check it: blurred noise with the right fine part has far too much in sum."""
    normal, smooth = water(10), ndimage.gaussian_filter(water(10, seed=1) - water(0, seed=1), 2)
    fine = nps.tissue_noise(normal, normal) / nps.tissue_noise(smooth, normal)
    found = pair_noise.levels(normal + np.sqrt(3) * fine * smooth, normal)  # a quarter of the dose
    assert found["added_noise_hu"] / found["ndct_noise_hu"] == pytest.approx(np.sqrt(3), rel=0.1)
    assert found["added_all_hu"] / found["ndct_all_hu"] > 2 * np.sqrt(3)


def test_white_noise_has_a_flat_spectrum_at_variance_times_pixel_area():
    curve = nps.radial(nps.power_spectrum(white((400, 32, 32), 7.0), PIXEL), PIXEL)
    assert np.allclose(curve, 7.0**2 * PIXEL**2, rtol=0.05)


@pytest.mark.parametrize("taper", [False, True])
def test_spectrum_integrates_to_the_variance(taper):
    regions = white((200, 32, 32), 5.0)
    cell = 1 / (32 * PIXEL) ** 2  # lp/mm squared
    assert np.sum(nps.power_spectrum(regions, PIXEL, taper)) * cell == pytest.approx(25.0, rel=0.03)


def test_spectrum_does_not_see_a_constant_offset():
    regions = white((5, 16, 16), 3.0)
    for taper in (False, True):
        assert np.allclose(nps.power_spectrum(regions + 1000, PIXEL, taper), nps.power_spectrum(regions, PIXEL, taper))


def test_a_single_wave_shows_at_its_frequency():
    x = np.arange(32) * PIXEL
    wave = 10 * np.cos(2 * np.pi * (4 / (32 * PIXEL)) * x)[None, None, :] * np.ones((1, 32, 1))
    spectrum = nps.power_spectrum(wave, PIXEL)
    assert np.unravel_index(spectrum[:, :16].argmax(), (32, 16)) == (0, 4)
    assert spectrum[0, 4] + spectrum[0, -4] == pytest.approx(spectrum.sum())


def test_shaping_noise_multiplies_its_spectrum_and_raises_no_gap_without_end():
    rng = np.random.default_rng(4)
    own = 1 + rng.random((16, 16))
    one = np.zeros((16, 16))
    one[8, 8] = 1
    assert np.allclose(nps.shaping_filter(own, own), one) and np.allclose(nps.shaping_filter(own, 9 * own), 3 * one)
    own[0, 3] = 0
    assert np.abs(nps.shaping_filter(own, own + 1)).max() < 2  # the gap counts as 1e-4 of the largest power
    f = np.hypot.outer(np.fft.fftfreq(16), np.fft.fftfreq(16))
    wanted = np.exp(-((f / 0.2) ** 2))
    reached = np.abs(np.fft.fft2(nps.shaping_filter(np.ones((16, 16)), wanted))) ** 2
    assert np.allclose(reached, wanted, atol=0.1)  # the window smooths


@pytest.mark.parametrize("kernel", ["B30", "D45"])
def test_noise_texture_is_that_of_the_clinical_kernel(scans, kernel):
    scan = scans[kernel]
    spectrum = nps.spectrum(scan.ldct - scan.ndct, scan.noise_free, PIXEL)
    assert noise_checks.shape_error(spectrum, PIXEL, kernel) < 0.15


def test_texture_of_slices_with_different_pixels_is_that_of_the_mean_of_their_own_curves():
    pixels, curves = (0.49, 0.98), []  # a head, a large patient
    for pixel in pixels:
        noise = dose.unit_noise(np.full((192, 192), 40.0), pixel, "B30", np.random.default_rng(1))
        ndct = 40 + 10 * noise / noise.std()
        curves.append(nps.spectrum([dose.low_dose_from_image(ndct, pixel, 0.25, "B30", 3) - ndct], [ndct], pixel))
    own = np.mean([nps.radial(c, pixel) for c, pixel in zip(curves, pixels)], axis=0)
    at_median = nps.radial(np.mean(curves, axis=0), np.median(pixels))
    assert noise_checks.curve_error(own, "B30") < 0.15 < 0.18 < noise_checks.curve_error(at_median, "B30")
    assert noise_checks.curve_error(nps.radial(curves[0], 0.49), "B30") == noise_checks.shape_error(
        curves[0], 0.49, "B30"
    )


def test_the_smooth_kernel_peaks_near_a_fifth_and_the_sharp_one_still_rises():
    image, _ = noise_checks.water_phantom()
    peaks = {}
    for kernel in ("B30", "D45"):
        scan = dose.scan(image[None], PIXEL, 0.25, kernel, seed=2, crop=(60, 60, 200, 200))
        regions = (scan.ldct - scan.ndct)[0][:192, :192].reshape(6, 32, 6, 32).swapaxes(1, 2).reshape(-1, 32, 32)
        peaks[kernel] = nps.radial(nps.power_spectrum(regions, PIXEL, taper=True), PIXEL)
    assert 0.15 <= nps.FREQUENCIES[peaks["B30"].argmax()] <= 0.25
    assert nps.FREQUENCIES[peaks["D45"].argmax()] > 0.55
    assert peaks["D45"][-1] > peaks["D45"][-4] > peaks["D45"][3]


@pytest.mark.parametrize("kernel", ["B30", "D45"])
def test_white_noise_fails_the_texture_check(scans, kernel):
    ndct = scans["B30"].noise_free
    spectrum = nps.spectrum(white(ndct.shape, 20.0), ndct, PIXEL)
    assert noise_checks.shape_error(spectrum, PIXEL, kernel) > 0.15


def test_each_kernel_fails_the_other_ones_texture_check(scans):
    for kernel, other in (("B30", "D45"), ("D45", "B30")):
        scan = scans[kernel]
        spectrum = nps.spectrum(scan.ldct - scan.ndct, scan.noise_free, PIXEL)
        assert noise_checks.shape_error(spectrum, PIXEL, other) > 0.3


def test_texture_check_refuses_a_kernel_without_reference():
    with pytest.raises(ValueError, match="no clinical noise spectrum for kernel 'B70'"):
        noise_checks.shape_error(np.ones((32, 32)), PIXEL, "B70")


def test_inserted_noise_is_uncorrelated_with_the_normal_dose(scans):
    for scan in scans.values():
        assert abs(noise_checks.correlation(scan.ldct[0], scan.ndct[0], scan.noise_free[0])) < 0.15


def test_independent_draws_are_strongly_anticorrelated():
    patient = phantom.patient(3, "abdomen", size=256, slices=1)
    scan = dose.simulate(patient, 0.25, "B30", seed=1, independent=True)
    assert -0.6 < noise_checks.correlation(scan.ldct[0], scan.ndct[0], scan.noise_free[0]) < -0.3


def test_noise_has_more_power_from_front_to_back_than_from_side_to_side(scans):
    scan = scans["B30"]
    along_x, along_y = noise_checks.axis_power(nps.spectrum(scan.ldct - scan.ndct, scan.noise_free, PIXEL), PIXEL)
    assert 0.3 < along_x / along_y < 0.9  # L506: .65


def test_axis_power_tells_the_axes_apart():
    rows = np.repeat(white((50, 32, 1), 5.0), 32, axis=2)  # every row one value: waves along y only
    along_x, along_y = noise_checks.axis_power(nps.power_spectrum(rows, PIXEL), PIXEL)
    assert along_y > 100 * along_x


@pytest.mark.parametrize("sigma_e", [0.0, 12.0])
def test_noise_variance_follows_photons_and_electronics(sigma_e):
    table = noise_checks.dose_law((0.1, 0.25, 0.5), sigma_e, draws=2)
    assert table.error.abs().max() < 0.05
    if not sigma_e:
        assert np.allclose(table.expected_ratio * table.dose, 1)


@pytest.mark.parametrize("kernel", ["B30", "D45"])
def test_water_fat_and_air_have_their_hu(kernel):
    table = noise_checks.mean_hu(kernel, draws=1)
    assert list(table.material) == ["water", "fat", "air"]
    assert table.error_hu.abs().max() < 3
    assert table.ndct_log_bias_hu.abs().max() < 3


def test_logarithm_biases_water_upwards_when_photons_are_few():
    image, masks = noise_checks.water_phantom()
    scan = dose.scan(image[None], PIXEL, 0.5, "B30", seed=0, n0=3e2)
    assert (scan.ndct - scan.noise_free)[0][masks["water"]].mean() > 3


def test_tissue_noise_reads_the_noise_and_not_the_edges():
    tissue = np.full((128, 128), 50.0)
    tissue[:, 64:] = 90.0
    sd = [nps.tissue_noise(tissue + white(tissue.shape, level), tissue) for level in (10.0, 20.0)]
    assert sd[1] / sd[0] == pytest.approx(2.0, rel=0.05)
    assert sd[0] == pytest.approx(10 * 0.97, rel=0.05)  # the high-pass keeps nearly all of white noise


def test_a_slice_without_soft_tissue_says_so():
    with pytest.raises(ValueError, match="soft tissue"):
        nps.tissue_noise(np.full((64, 64), -1000.0), np.full((64, 64), -1000.0))
    with pytest.raises(ValueError, match="no flat soft tissue"):
        nps.spectrum(np.zeros((1, 64, 64)), np.full((1, 64, 64), -1000.0), PIXEL)
    with pytest.raises(ValueError, match="no flat soft tissue"):
        noise_checks.correlation(np.zeros((64, 64)), np.full((64, 64), -1000.0))


def test_regions_must_be_square():
    with pytest.raises(ValueError, match="square regions"):
        nps.power_spectrum(np.zeros((3, 16, 8)), PIXEL)


def real_pair(test_data):
    full, quarter = (
        next((test_data / "mayo2016" / "L506" / f"{dose}_1mm").glob("*.IMA")) for dose in ("full", "quarter")
    )
    return dicom.read_hu(quarter).astype(np.float32), dicom.read_hu(full).astype(np.float32)


def test_the_reference_texture_is_that_of_the_real_pair(test_data):
    quarter, full = real_pair(test_data)
    spectrum = nps.spectrum([quarter - full], [full], 0.7421875)
    assert noise_checks.shape_error(spectrum, 0.7421875, "B30") < 0.01
    assert np.divide(*noise_checks.axis_power(spectrum, 0.7421875)) == pytest.approx(
        noise_checks.L506_AXIS_RATIO, abs=0.01
    )


def test_real_pairs_are_as_uncorrelated_as_simulated_ones_must_be(test_data):
    quarter, full = real_pair(test_data)
    assert noise_checks.correlation(quarter, full) == pytest.approx(-0.08, abs=0.03)
    assert nps.tissue_noise(quarter, full) / nps.tissue_noise(full, full) == pytest.approx(2.12, abs=0.1)


# ---- the noise of a pair, and the verdicts ----
def water(sd, seed=0):
    """Water cylinder with white noise of this SD, (160, 160) HU."""
    y, x = np.mgrid[:160, :160] - 79.5
    return np.where(np.hypot(x, y) < 70, 40.0, -1000.0) + np.random.default_rng(seed).normal(0, sd, (160, 160))


def test_the_noise_of_a_pair_is_what_was_added_and_its_mean_what_was_shifted():
    normal = water(10)
    low = normal + np.random.default_rng(1).normal(3, 17, normal.shape)
    found = pair_noise.levels(low, normal)
    assert found["bias_hu"] == pytest.approx(3, abs=0.5) and abs(found["correlation"]) < 0.1
    assert found["added_noise_hu"] / found["ndct_noise_hu"] == pytest.approx(1.7, rel=0.1)
    assert found["added_all_hu"] == pytest.approx(17, rel=0.05) and found["ndct_all_hu"] == pytest.approx(10, rel=0.05)
    air = pair_noise.levels(np.full((64, 64), -1000.0), np.full((64, 64), -1000.0))
    assert set(air) == {"bias_hu", *pair_noise.LEVELS} and np.isnan([air[name] for name in pair_noise.LEVELS]).all()


def test_white_noise_has_a_flat_spectrum_and_no_scanner_has_it():
    pairs = [(water(0) + np.random.default_rng(s).normal(0, 20, (160, 160)), water(0), 0.75) for s in (1, 2)]
    curve, along = pair_noise.mean_texture(pairs, nps.FREQUENCIES)
    assert np.nanstd(curve) < 0.25 * np.nanmean(curve) and np.divide(*along) == pytest.approx(1, abs=0.4)
    assert pair_noise.mean_texture([(np.zeros((64, 64)), np.full((64, 64), -1000.0), 0.75)], nps.FREQUENCIES) is None
    assert pair_noise.white_error(0.75, "B30") > 0.3


def test_the_noise_of_an_organ_is_read_where_enough_of_it_is_seen():
    truth, masks = np.zeros((2, 30, 30)), np.zeros((2, 30, 30), int)
    masks[0], masks[1, :5] = 1, 1
    images = truth + np.random.default_rng(0).normal(0, [[[12.0]], [[99.0]]], truth.shape)
    assert pair_noise.organ_noise(images, truth, masks, 1, [0, 1]) == pytest.approx(12, rel=0.1)
    assert np.isnan(pair_noise.organ_noise(images, truth, masks, 2, [0, 1]))


def test_a_peak_is_the_middle_of_the_fullest_bin_inside():
    assert pair_noise.peak([9, 1, 3, 2], [0, 10, 20, 30, 40], 10, 40) == 25


@pytest.mark.parametrize(
    ("value", "limits", "verdict"),
    [(0.5, (0, 1), "as it should be"), (2, (0, 1), "off"), (np.nan, (0, 1), "not measurable"),
     (2, (), "for comparison"), (3, (0.15, np.inf), "as it should be")],
)  # fmt: skip
def test_a_check_has_a_verdict_only_with_a_value_and_limits(value, limits, verdict):
    assert pair_noise.check("x", value, *limits)["verdict"] == verdict
