"""Projection, reconstruction and dose reduction: known attenuation, the dose law, what is refused, real slices."""

import numpy as np
import pytest
from scipy import ndimage

from ldct_utils.ct import dicom, dose, fbp, noise_checks, nps

PIXEL = 0.75


@pytest.fixture(scope="module")
def disc():
    """Water disc of 60 mm radius in air, HU (192, 192), and its mask well inside."""
    axis = (np.arange(192) - 95.5) * PIXEL
    radius = np.hypot(axis[:, None], axis[None])
    return (np.clip(0.5 - (radius - 60) / PIXEL, 0, 1) * 1000 - 1000).astype(np.float32), radius < 50


def texture(spectrum, pixel_mm):
    """A radial spectrum without the level."""
    curve = nps.radial(spectrum, pixel_mm)
    return curve / np.nanmean(curve)


def scan(disc, **options):
    return dose.scan(disc[0][None], PIXEL, **{"dose": 0.25, "seed": 0, "views": 180, "n0": 2e4, **options})


def backends():
    missing = pytest.mark.skipif(fbp.backend() != "astra", reason="ASTRA has no wheel for this platform")
    return [pytest.param("astra", marks=missing), "skimage"]


@pytest.mark.parametrize("use", backends())
def test_the_central_ray_of_a_disc_crosses_its_diameter(disc, use):
    lines = fbp.project(fbp.to_mu(disc[0]), PIXEL, 90, use=use)
    assert lines.shape == (90, fbp.detector_count(disc[0].shape, PIXEL))
    assert np.allclose(lines[:, lines.shape[1] // 2], 120 * fbp.MU_WATER, rtol=0.01)
    assert np.allclose(lines.sum(1) * fbp.DETECTOR_MM, np.pi * 60**2 * fbp.MU_WATER, rtol=0.005)  # mass is kept


@pytest.mark.skipif(fbp.backend() != "astra", reason="ASTRA has no wheel for this platform")
def test_both_projectors_agree(disc):
    image = disc[0].copy()
    image[60:80, 100:130] = 400  # nothing symmetric
    lines = {use: fbp.project(fbp.to_mu(image), PIXEL, 180, use=use) for use in fbp.BACKENDS}
    assert np.abs(lines["astra"] - lines["skimage"]).mean() < 0.002 * lines["astra"].max()
    images = [fbp.reconstruct(one, PIXEL, image.shape) / fbp.MU_WATER * 1000 for one in lines.values()]
    assert np.sqrt(np.mean((images[0] - images[1])[disc[1]] ** 2)) < 10


@pytest.mark.parametrize("use", backends())
def test_a_part_projected_at_its_place_equals_the_whole(use):
    whole = np.zeros((96, 96), np.float32)
    whole[20:50, 55:75] = 0.02
    centre = dose.centre_of((20, 55, 30, 20), whole.shape, PIXEL)
    one = fbp.project(whole, PIXEL, 60, use=use)
    other = fbp.project(whole[20:50, 55:75], PIXEL, 60, one.shape[1], centre, use)
    # scikit-image turns a pixel image, so a ray along an edge may fall on its other side
    assert np.abs(one - other).mean() < (1e-5 if use == "astra" else 1e-3) * one.max()


@pytest.mark.parametrize("kernel", fbp.KERNELS)
def test_every_kernel_reconstructs_the_mean_of_water_and_air(disc, kernel):
    lines = fbp.project(fbp.to_mu(disc[0]), PIXEL, 360)
    image = fbp.reconstruct(lines, PIXEL, disc[0].shape, kernel) / fbp.MU_WATER * 1000 - 1000
    assert image[disc[1]].mean() == pytest.approx(0, abs=3)
    assert image[:20, :20].mean() == pytest.approx(-1000, abs=3)


def test_a_window_reconstructs_the_same_pixels_as_the_whole(disc):
    lines = fbp.project(fbp.to_mu(disc[0]), PIXEL, 90)
    whole = fbp.reconstruct(lines, PIXEL, disc[0].shape)
    part = fbp.reconstruct(lines, PIXEL, (50, 60), centre_mm=dose.centre_of((30, 110, 50, 60), disc[0].shape, PIXEL))
    assert np.allclose(part, whole[30:80, 110:170], atol=1e-6)


def test_orientation_survives_projection_and_reconstruction():
    image = np.full((96, 96), -1000.0, np.float32)
    image[10:30, 60:85] = 0
    back = fbp.reconstruct(fbp.project(fbp.to_mu(image), PIXEL, 180), PIXEL, image.shape) / fbp.MU_WATER
    assert np.corrcoef(back.ravel(), image.ravel())[0, 1] > 0.98


def test_the_sharper_kernel_has_more_noise_and_sharper_edges(disc):
    scans = {kernel: scan(disc, kernel=kernel) for kernel in ("B30", "D45")}
    sd = {kernel: (one.ndct - one.noise_free)[0][disc[1]].std() for kernel, one in scans.items()}
    slope = {kernel: np.abs(np.diff(one.noise_free[0][96])).max() for kernel, one in scans.items()}
    assert sd["D45"] > 1.8 * sd["B30"] and slope["D45"] > 1.2 * slope["B30"]


def test_inserted_variance_is_what_is_missing_at_low_dose():
    photons, a, sigma = np.array([20.0, 500.0]), 0.1, 6.0
    low = 1 / (a * photons) + (sigma / (a * photons)) ** 2
    normal = 1 / photons + (sigma / photons) ** 2
    assert np.allclose(dose.inserted_variance(photons, a, sigma), low - normal)
    assert np.all(dose.inserted_variance(photons, 1.0, sigma) == 0)


def test_full_dose_leaves_the_ndct_as_it_is(disc):
    one = scan(disc, dose=1.0)
    assert np.array_equal(one.ldct, one.ndct)


def test_bow_tie_and_exposure_control_shape_the_photons():
    lines = np.zeros((2, 601), np.float32)
    lines[1] = 4.0
    counts = dose.photons(lines, 1e5)
    assert counts[0, 300] > 5 * counts[0, 0]  # the edge of the fan is weakened
    assert counts[1, 300] / counts[0, 300] == pytest.approx(np.exp(-4 * (1 - dose.AEC_STRENGTH)))
    with pytest.raises(ValueError, match="n0"):
        dose.photons(lines, 0)


def test_same_seed_same_scan_other_seed_other_noise(disc):
    one, two, other = scan(disc, seed=3), scan(disc, seed=3), scan(disc, seed=4)
    assert np.array_equal(one.ldct, two.ldct) and np.array_equal(one.ndct, two.ndct)
    assert not np.allclose(one.ndct, other.ndct)


def test_another_realisation_changes_the_ldct_and_keeps_the_ndct(disc):
    one, two = scan(disc), scan(disc, realisation=1)
    assert np.array_equal(one.ndct, two.ndct)
    first, second = ((s.ldct - s.ndct)[0][disc[1]] for s in (one, two))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_slices_of_one_stack_have_different_noise(disc):
    stack = dose.scan(np.stack([disc[0]] * 2), PIXEL, 0.25, "B30", 0, views=90)
    assert not np.allclose(stack.ndct[0], stack.ndct[1])


def test_the_lesion_absent_twin_has_the_same_noise_and_no_lesion(disc):
    with_lesion = disc[0].copy()
    with_lesion[90:98, 60:72] += 50
    one = dose.scan(with_lesion[None], PIXEL, 0.25, "B30", 0, n0=2e4, views=180, absent=disc[0][None])
    lesion = (one.ldct - one.absent_ldct)[0]
    assert np.allclose(lesion, (one.ndct - one.absent_ndct)[0], atol=1e-2)
    assert lesion[92:96, 64:68].mean() == pytest.approx(50, abs=8) and abs(lesion[:40].mean()) < 0.5
    without = scan(disc)  # same seed: photons differ only by the lesion's own shadow
    assert np.abs(without.noise_free - (one.noise_free - lesion)).max() < 1.0


def test_a_window_on_the_patient_equals_the_window_of_the_whole_scan(disc):
    whole, part = scan(disc), scan(disc, crop=(40, 50, 64, 80))
    assert part.ldct.shape == (1, 64, 80)
    assert np.allclose(part.ldct, whole.ldct[:, 40:104, 50:130], atol=0.05)


@pytest.mark.parametrize("wrong", [0, -0.1, 1.5, float("nan"), True])
def test_a_dose_outside_zero_to_one_is_refused(disc, wrong):
    with pytest.raises(ValueError, match="dose"):
        scan(disc, dose=wrong)
    with pytest.raises(ValueError, match="dose"):
        dose.low_dose_from_image(disc[0], PIXEL, wrong)


def test_what_does_not_fit_is_refused(disc):
    with pytest.raises(ValueError, match="kernel 'B99'"):
        scan(disc, kernel="B99")
    with pytest.raises(ValueError, match="kernel 'B99'"):
        dose.low_dose_from_image(disc[0], PIXEL, 0.5, "B99")
    with pytest.raises(ValueError, match=r"\(S, H, W\)"):
        dose.scan(disc[0], PIXEL)
    with pytest.raises(ValueError, match="twin has shape"):
        scan(disc, absent=disc[0][None, :-2])
    with pytest.raises(ValueError, match="outside the slices"):
        scan(disc, crop=(150, 0, 64, 64))
    with pytest.raises(ValueError, match=r"\(H, W\) or \(S, H, W\)"):
        dose.low_dose_from_image(disc[0][0], PIXEL)
    with pytest.raises(ValueError, match="unknown projector 'gpu'"):
        fbp.project(disc[0], PIXEL, use="gpu")
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        fbp.project(disc[0][None], PIXEL)
    with pytest.raises(ValueError, match="soft tissue"):
        dose.low_dose_from_image(np.full((64, 64), -1000.0), PIXEL, views=30)


def test_slices_need_not_be_square(disc):
    one = dose.scan(disc[0][None, 10:-10], PIXEL, 0.25, "B30", 0, views=180)
    assert one.ldct.shape == (1, 172, 192)
    assert one.noise_free[0][disc[1][10:-10]].mean() == pytest.approx(0, abs=3)


def noisy_tissue(disc, sd_photons=2e4):
    """A normal-dose slice of soft tissue as it comes from a scanner, HU."""
    tissue = np.where(disc[0] > -500, disc[0] + 50, disc[0])
    return dose.scan(tissue[None], PIXEL, 1.0, "B30", 5, sd_photons, views=180).ndct[0]


@pytest.mark.parametrize("n0", [5e3, 1e5])
def test_inserted_noise_takes_its_level_from_the_slice_itself(disc, n0):
    ndct = noisy_tissue(disc, n0)
    ldct = dose.low_dose_from_image(ndct, PIXEL, 0.25, "B30", 0, views=180)
    ratio = nps.tissue_noise(ldct - ndct, ndct) / nps.tissue_noise(ndct, ndct)
    assert ratio == pytest.approx(np.sqrt(3), rel=0.1)  # variance (1-a)/a times the slice's own
    assert abs((ldct - ndct).mean()) < 1
    assert abs(noise_checks.correlation(ldct, ndct)) < 0.15


def test_insertion_at_full_dose_changes_nothing_and_stacks_go_slice_by_slice(disc):
    ndct = noisy_tissue(disc)
    assert np.array_equal(dose.low_dose_from_image(ndct, PIXEL, 1.0, views=60), ndct)
    stack = dose.low_dose_from_image(np.stack([ndct, ndct]), PIXEL, 0.5, seed=2, views=60)
    assert stack.shape == (2, *ndct.shape) and not np.allclose(stack[0], stack[1])
    assert np.array_equal(stack[1], dose.low_dose_from_image(ndct, PIXEL, 0.5, seed=[2, 1], views=60))


def test_a_measured_kernel_needs_its_own_pixel_size(disc):
    ndct = noisy_tissue(disc)
    kernel = dose.NoiseKernel(np.ones((32, 32)), 0.5)
    with pytest.raises(ValueError, match=r"measured at 0\.5 mm"):
        dose.low_dose_from_image(ndct, PIXEL, 0.25, views=60, noise_kernel=kernel)


def test_a_measured_kernel_gives_its_own_texture(disc):
    ndct = noisy_tissue(disc)
    sharp = [dose.low_dose_from_image(ndct, PIXEL, 0.25, "D45", s, views=180) - ndct for s in range(4)]
    kernel = dose.measured_kernel(sharp, [ndct] * 4, PIXEL)
    inserted = dose.low_dose_from_image(ndct, PIXEL, 0.25, "B30", 9, kernel, views=180) - ndct
    plain = dose.low_dose_from_image(ndct, PIXEL, 0.25, "B30", 9, views=180) - ndct
    wanted = texture(kernel.spectrum, PIXEL)
    errors = [
        np.sqrt(np.mean((texture(nps.spectrum([x], [ndct], PIXEL), PIXEL) - wanted) ** 2) / np.mean(wanted**2))
        for x in (inserted, plain)
    ]
    assert errors[0] < 0.2 < 0.4 < errors[1]


PAIRS = (18, 86, 88, 167, 176)


def real_npy(test_data, number):
    return [np.load(test_data / "mayo_npy" / f"L506_{number}_{kind}.npy") * 4096 - 1024 for kind in ("input", "target")]


def test_a_kernel_measured_on_some_real_pairs_holds_on_another(test_data):
    pairs = {number: real_npy(test_data, number) for number in PAIRS}
    pixel, unseen = 0.7421875, 176
    seen = [number for number in PAIRS if number != unseen]
    kernel = dose.measured_kernel([pairs[n][0] - pairs[n][1] for n in seen], [pairs[n][1] for n in seen], pixel)
    quarter, full = pairs[unseen]
    ldct = dose.low_dose_from_image(full, pixel, 0.25, "hann", 0, kernel)
    made, real = (nps.spectrum([x - full], [full], pixel) for x in (ldct, quarter))
    wanted = texture(real, pixel)
    assert np.sqrt(np.mean((texture(made, pixel) - wanted) ** 2) / np.mean(wanted**2)) < 0.15


def test_noise_inserted_into_a_real_slice_adds_no_mean_and_the_right_level(test_data):
    path = sorted((test_data / "ct_abdomen_dicom").glob("*.dcm"))[0]
    ndct = dicom.read_hu(path).astype(np.float32)
    ldct = dose.low_dose_from_image(ndct, 0.9765625, 0.25, "hann", 0)
    assert abs((ldct - ndct).mean()) < 1
    ratio = nps.tissue_noise(ldct, ndct) / nps.tissue_noise(ndct, ndct)
    assert 1.7 < ratio < 2.3


# ---- a slice that is no scan at its normal dose, a kernel that is not the slice's ----
def sharp(n=256, pixel=0.3, sd=30.0):
    """A disc of tissue with the noise of a sharp kernel on small pixels: finer than any registered one."""
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n, pixel)] * 2))
    white = np.fft.fft2(np.random.default_rng(1).standard_normal((n, n)))
    noise = np.fft.ifft2(white * np.sqrt(f) * np.exp(-((f / 1.4) ** 4))).real
    y, x = np.mgrid[:n, :n] / n - 0.5
    return (np.where(np.hypot(x, y) < 0.45, 50.0, -1000.0) + sd * noise / noise.std()).astype(np.float32), pixel


def test_noise_of_another_texture_is_refused_and_measured_in_the_slice_it_has_the_right_strength():
    ndct, pixel = sharp()
    with pytest.raises(ValueError, match=r"kernel B30 is of another texture .* 2\.\d times .* kernel=own"):
        dose.low_dose_from_image(ndct, pixel, 0.25, "B30", 0, views=180)
    added = dose.low_dose_from_image(ndct, pixel, 0.25, "own", 0, views=180) - ndct
    middle = np.s_[96:160, 96:160]
    assert added[middle].std() == pytest.approx(np.sqrt(3) * 30, rel=0.15)  # at a quarter


@pytest.mark.parametrize("made", ["flat", "steps", "blurred"])
def test_a_slice_without_a_scans_own_noise_is_refused_with_the_reason(made):
    ndct, pixel = sharp()
    ndct = {"flat": np.where(ndct > -500, 50.0, -1000.0), "steps": np.rint(ndct / 400) * 400,
            "blurred": ndimage.gaussian_filter(ndct, 12)}[made]  # fmt: skip
    with pytest.raises(ValueError, match=r"HU in soft tissue.*denoised, compressed, segmented|blocks of soft"):
        dose.low_dose_from_image(ndct, pixel, 0.25, "hann", 0, views=60)
