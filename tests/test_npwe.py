"""The non-prewhitening observer with internal noise against its formula, and what internal noise must do to it."""

import numpy as np
import pytest

from ldct_utils.task_based import npwe, observers

PIXEL = 0.75


def disc(size=33, radius=4.0, contrast=-20.0):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return contrast * np.clip(0.5 + radius - np.hypot(y, x), 0, 1)


def noise(count, size=33, sd=20.0, seed=0):
    return np.random.default_rng(seed).normal(0, sd, (count, size, size))


def test_the_eye_filter_peaks_at_four_cycles_a_degree():
    eye = npwe.eye_filter(1001, 0.1)  # frequencies .01 apart
    f = np.fft.fftfreq(1001, 0.1)
    top = np.abs(f[eye[0].argmax()])
    assert eye[0, 0] == 0 and eye.max() == pytest.approx(1, abs=1e-3)
    assert top * 500 * np.pi / 180 == pytest.approx(4, abs=0.1)
    assert np.abs(f[npwe.eye_filter(1001, 0.1, 1000)[0].argmax()]) == pytest.approx(top / 2, abs=0.01)


def test_in_white_noise_d_prime_is_that_of_the_formula():
    signal, sd, internal = disc(), 20.0, 40.0
    absent, present = noise(2000, sd=sd), noise(2000, sd=sd, seed=1) + signal
    found = npwe.npwe(absent, present, signal, PIXEL, internal)
    weight, eye = np.abs(np.fft.fft2(signal)) ** 2 * PIXEL**4, npwe.eye_filter(33, PIXEL)
    cell = 1 / (33 * PIXEL) ** 2
    energy = (weight * eye**2).sum() * cell
    known = energy / np.sqrt((weight * eye**4).sum() * cell * sd**2 * PIXEL**2 + internal * energy)
    assert found.d_prime == pytest.approx(known, rel=0.05)


def test_without_an_eye_or_internal_noise_it_is_the_non_prewhitening_observer(monkeypatch):
    monkeypatch.setattr(npwe, "eye_filter", lambda size, *_: np.ones((size, size)))
    signal = disc()
    absent, present = noise(2000), noise(2000, seed=1) + signal
    found = npwe.npwe(absent, present, signal, PIXEL, 1e-9).d_prime
    assert found == pytest.approx(observers.npw(absent, present, signal).d_prime, rel=0.02)


def test_internal_noise_is_fixed_so_that_the_share_is_what_d_prime_loses():
    signal = disc()
    absent, present = noise(500), noise(500, seed=1) + signal
    internal = npwe.internal_noise(absent, present, signal, PIXEL, share=0.6)
    with_, without = (npwe.npwe(absent, present, signal, PIXEL, n).d_prime for n in (internal, 1e-9))
    assert with_ / without == pytest.approx(1 / 1.6**0.5, rel=1e-6)


def test_an_image_that_fades_is_worse_only_for_who_has_noise_of_its_own():
    signal = disc()
    absent, present = noise(500), noise(500, seed=1) + signal
    internal = npwe.internal_noise(absent, present, signal, PIXEL)
    faded = 0.2 * absent, 0.2 * present
    assert observers.npw(*faded, signal).d_prime == pytest.approx(observers.npw(absent, present, signal).d_prime)
    before = npwe.npwe(absent, present, signal, PIXEL, internal).d_prime
    assert npwe.npwe(*faded, 0.2 * signal, PIXEL, internal).d_prime < 0.6 * before


def test_images_without_noise_are_seen_with_the_internal_noise_alone():
    signal = disc()
    nothing = np.zeros((40, 33, 33))
    found = npwe.npwe(nothing, nothing + signal, signal, PIXEL, 40.0)
    weight = np.abs(np.fft.fft2(signal)) ** 2 * PIXEL**4 * npwe.eye_filter(33, PIXEL) ** 2
    assert found.d_prime == pytest.approx(np.sqrt(weight.sum() / (33 * PIXEL) ** 2 / 40.0), rel=1e-9)


def test_where_there_is_no_lesion_the_interval_holds_a_guess():
    held = [npwe.npwe(noise(100, seed=[s, 10]), noise(100, seed=[s, 11]), disc(), PIXEL, 40.0) for s in range(100)]
    assert np.mean([one.auc_low <= 0.5 <= one.auc_high for one in held]) >= 0.9
    assert np.mean([one.d_prime for one in held]) == pytest.approx(0, abs=0.05)
    assert npwe.npwe(noise(40), noise(40, seed=1), 0 * disc(), PIXEL, 40.0).d_prime == 0


@pytest.mark.parametrize("internal", [0, -1.0, np.nan])
def test_internal_noise_must_be_a_power(internal):
    with pytest.raises(ValueError, match="internal noise"):
        npwe.npwe(noise(40), noise(40), disc(), PIXEL, internal)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(40, 33, 33\), \(41, 33, 33\), \(33, 33\)"):
        npwe.npwe(noise(40), noise(41), disc(), PIXEL, 40.0)
