"""Model observers against what theory says: known d', no signal, invariance, coverage of the intervals."""

import numpy as np
import pytest
from scipy import ndimage, stats

from ldct_utils.task_based import observers


def noise(shape, sd=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, sd, shape)


def classes(signal, count, sd=1.0, seed=0):
    """Absent and present ensembles of a signal (n, n) in independent white noise."""
    absent, present = noise((2, count, *signal.shape), sd, seed)
    return absent, present + signal


def disc(size, radius):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return (np.hypot(y, x) <= radius).astype(float)


def hotelling(difference, covariance):
    """d' for a known mean difference (C,) and covariance (C, C), sqrt(dg' K^-1 dg)."""
    return np.sqrt(difference @ np.linalg.solve(covariance, difference))


def test_auc_of_gaussian_scores_is_phi_of_d_prime_over_root_two():
    absent, present = noise((2, 200_000))
    assert observers.auc(absent, present + 1.5) == pytest.approx(stats.norm.cdf(1.5 / np.sqrt(2)), abs=0.003)


def test_auc_is_the_share_of_pairs_in_the_right_order():
    absent, present = np.array([1.0, 2.0, 2.0]), np.array([2.0, 3.0])
    assert observers.auc(absent, present) == pytest.approx((1 + 0.5 + 0.5 + 3) / 6)
    first, second = np.round(noise((2, 40), 2.0))
    known = stats.mannwhitneyu(second, first).statistic / 1600
    assert observers.auc(first, second) == pytest.approx(known)


def test_observers_in_white_noise_reach_contrast_times_root_of_pixels_over_sigma():
    lesion = 5.0 * disc(15, 3.0)
    wanted = 5.0 * np.sqrt((lesion > 0).sum()) / 20.0
    channels = observers.laguerre_gauss(15, 9.0, 8)
    channelised = hotelling(channels @ lesion.ravel(), 20.0**2 * channels @ channels.T)
    assert 0.9 * wanted < channelised < wanted  # eight round channels hold most of a disc
    for used, known in ((channels, channelised), (lesion.reshape(1, -1), wanted)):  # the second: the matched filter
        absent, present = (observers.respond(x, used) for x in classes(lesion, 4000, 20.0))
        assert observers.detect(absent, present).d_prime == pytest.approx(known, rel=0.06)


def test_cross_validated_d_prime_approaches_the_true_one_in_coloured_noise():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(5, 5)) + 2 * np.eye(5)
    difference = np.array([1.0, -0.5, 0.3, 0.8, 0.1])
    wanted = hotelling(difference, mixing @ mixing.T)
    absent, present = (noise((4000, 5), seed=s) @ mixing.T for s in (2, 3))
    assert observers.detect(absent, present + difference).d_prime == pytest.approx(wanted, rel=0.06)


def test_an_invertible_linear_filter_leaves_the_full_hotelling_observer_unchanged():
    absent, present = classes(0.8 * disc(6, 2.0), 200)
    blurred = [ndimage.gaussian_filter(x, (0, 0.7, 0.7), mode="wrap") for x in (absent, present)]
    before, after = (observers.detect(*(observers.respond(x) for x in pair)) for pair in ((absent, present), blurred))
    assert after.d_prime == pytest.approx(before.d_prime, rel=1e-6)
    assert after.auc == pytest.approx(before.auc, abs=1e-9)
    assert 1 < before.d_prime < 4


def test_a_filter_that_loses_frequencies_costs_the_full_hotelling_observer():
    lesion = disc(6, 2.0)
    absent, present = classes(lesion, 300)
    reduced = [x.reshape(-1, 3, 2, 3, 2).mean((2, 4)) for x in (absent, present)]
    before, after = (observers.detect(*(observers.respond(x) for x in pair)) for pair in ((absent, present), reduced))
    assert after.d_prime < before.d_prime


def test_intervals_of_a_lesion_without_contrast_cover_one_half():
    covered, found = 0, []
    for repeat in range(200):
        absent, present = noise((2, 200, 6), seed=[5, repeat])
        result = observers.detect(absent, present)
        covered += result.auc_low <= 0.5 <= result.auc_high
        found.append(result.auc)
    assert covered / 200 >= 0.92  # .95 nominal, less two binomial SD
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)


def test_intervals_cover_what_the_trained_template_reaches_on_average():
    repeats = [observers.detect(*(noise((200, 4), seed=[6, r, c]) + 0.6 * c for c in (0, 1))) for r in range(200)]
    mean_d, mean_auc = (np.mean([getattr(r, name) for r in repeats]) for name in ("d_prime", "auc"))
    assert mean_d == pytest.approx(1.2, rel=0.06)
    for name, truth in (("d", mean_d), ("auc", mean_auc)):
        inside = [getattr(r, f"{name}_low") <= truth <= getattr(r, f"{name}_high") for r in repeats]
        assert 0.9 <= np.mean(inside) <= 0.99


def test_testing_on_the_training_data_would_have_found_a_lesion_that_is_not_there():
    absent, present = noise((2, 200, 40), seed=7)
    template = np.linalg.solve((np.cov(absent.T) + np.cov(present.T)) / 2, present.mean(0) - absent.mean(0))
    assert observers.auc(absent @ template, present @ template) > 0.6
    honest = observers.detect(absent, present)
    assert honest.auc_low <= 0.5 <= honest.auc_high


def test_laguerre_gauss_channels_are_orthonormal_and_round():
    channels = observers.laguerre_gauss(61, 12.0, 6)
    assert np.allclose(channels @ channels.T, np.eye(6), atol=1e-6)
    for channel in channels.reshape(-1, 61, 61):
        assert np.allclose(channel, channel.T) and np.allclose(channel, channel[::-1])


def test_dense_dog_channels_ignore_the_mean_and_pass_rising_frequencies():
    channels = observers.dense_dog(64).reshape(-1, 64, 64)
    power = np.abs(np.fft.rfft2(channels)) ** 2
    f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64))
    means = [(p * f).sum() / p.sum() for p in power]
    assert len(channels) == 10 and (np.diff(means) > 0).all()
    assert np.allclose(channels, channels[:, ::-1, ::-1])
    assert abs(channels[-1].sum()) < 0.05 * np.abs(channels[-1]).sum()


def test_gabor_channels_lie_in_their_passbands():
    channels = observers.gabor(128).reshape(4, 5, 2, 128, 128)
    f = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128))
    for octave, centre in enumerate((0.1875, 0.09375, 0.046875)):
        power = np.abs(np.fft.rfft2(channels[octave, 0, 0])) ** 2
        assert f.ravel()[power.argmax()] == pytest.approx(centre, abs=0.012)


def test_images_that_are_all_alike_show_nothing_and_idle_channels_change_nothing():
    nothing = observers.detect(np.full((60, 4), 7.0), np.full((60, 4), 7.0))
    assert (nothing.d_prime, nothing.d_low, nothing.d_high, nothing.auc) == (0, 0, 0, 0.5)
    with pytest.raises(ValueError, match="no noise"):
        observers.detect(np.full((60, 4), 7.0), np.full((60, 4), 8.0))
    absent, present = noise((2, 60, 3))
    present = present + 1.0
    idle = [np.concatenate([values, np.full((60, 1), 7.0)], axis=1) for values in (absent, present)]
    assert observers.detect(*idle).d_prime == pytest.approx(observers.detect(absent, present).d_prime)


def test_too_few_realisations_and_mismatched_channels_say_so():
    absent, present = noise((2, 20, 30))
    with pytest.raises(ValueError, match="20 realisations a class are too few to train 30 channels"):
        observers.detect(absent, present)
    with pytest.raises(ValueError, match="of one shape"):
        observers.detect(absent, present[:-1])
    with pytest.raises(ValueError, match="finite"):
        observers.detect(absent * np.nan, present)
    with pytest.raises(ValueError, match="do not fit images"):
        observers.respond(np.zeros((2, 5, 5)), observers.laguerre_gauss(7, 3.0))


def test_channels_by_name_are_for_a_disc_and_an_unknown_name_is_refused():
    narrow, wide = (observers.channels("laguerre_gauss", 33, radius) for radius in (1.0, 4.0))
    assert np.allclose(wide, observers.laguerre_gauss(33, 14.0)) and not np.allclose(narrow, wide)
    for kind in observers.KINDS:
        assert observers.channels(kind, 33, 2.0).shape[1] == 33**2
    with pytest.raises(ValueError, match="laguerre_gauss, dense_dog, gabor, not 'square'"):
        observers.channels("square", 33, 2.0)


def test_the_two_observers_are_templates_on_their_own_channels():
    """The CHO beats the NPW where the noise is correlated, and both find what is plainly there."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:15, :15] - 7
    signal = (np.hypot(x, y) < 3).astype(np.float32) * 8
    noise = ndimage.gaussian_filter(rng.normal(0, 60, (2, 400, 15, 15)), (0, 0, 2, 2))
    absent, present = noise[0], noise[1] + signal
    cho, npw = observers.cho(absent, present, 3), observers.npw(absent, present, signal)
    own = observers.channels("laguerre_gauss", 15, 3)
    assert cho == observers.detect(*(observers.respond(images, own) for images in (absent, present)))
    expected = [images.reshape(len(images), -1) @ signal.ravel()[:, None] for images in (absent, present)]
    assert npw.d_prime == pytest.approx(observers.detect(*expected).d_prime)
    assert cho.d_prime > npw.d_prime + 0.2 > 0.5


def test_a_kept_template_is_not_learned_anew():
    """Inverted images mislead a reader who keeps to a template, and not one who learns again."""
    absent, present = classes(3.0 * disc(15, 3.0), 200, 10.0)
    plain = observers.cho(absent, present, 3.0)
    assert observers.cho(-absent, -present, 3.0).d_prime == pytest.approx(plain.d_prime)
    kept = observers.cho(-absent, -present, 3.0, trained_on=(absent, present))
    assert kept.d_prime == pytest.approx(-plain.d_prime) and kept.auc == pytest.approx(1 - plain.auc)
    with pytest.raises(ValueError, match="one shape"):
        observers.cho(absent, present, 3.0, trained_on=(absent[:-1], present[:-1]))


def test_a_difference_of_the_same_realisations_is_surer_than_of_two():
    absent, present = classes(3.0 * disc(15, 3.0), 200, 10.0)
    one, other = (observers.cho(absent, present + extra * disc(15, 3.0), 3.0) for extra in (0, 0.5))
    gap, error = observers.difference(other, one)
    assert gap == pytest.approx(other.d_prime - one.d_prime) and 0 < 3 * error < gap
    assert error < 0.5 * np.hypot(*(observers.spread(each.left_out)[0] for each in (one, other)))
    assert observers.difference(observers.certain(40), one) == (np.inf, 0.0)


def test_the_ideal_observer_in_known_noise_is_contrast_times_root_of_pixels_over_sigma():
    lesion = 5.0 * disc(9, 3.0)
    assert observers.ideal(lesion, 400.0 * np.eye(81)) == pytest.approx(5 * np.sqrt((lesion > 0).sum()) / 20)
    mixing = noise((81, 81), seed=8) + 9 * np.eye(81)
    moved = (mixing @ lesion.ravel()).reshape(9, 9)
    assert observers.ideal(moved, 400 * mixing @ mixing.T) == pytest.approx(observers.ideal(lesion, 400 * np.eye(81)))


def test_a_difference_without_noise_is_told_apart_from_other_errors():
    nothing = np.zeros((40, 3))
    with pytest.raises(observers.NoNoise):
        observers.detect(nothing, nothing + 1)
    with pytest.raises(observers.NoNoise):  # a template learned elsewhere sees it too
        observers.detect(nothing, nothing + 1, trained_on=(noise((40, 3)), noise((40, 3), seed=1) + 1))
