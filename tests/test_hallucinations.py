"""Hallucination detection: variances that know the noise, p-values that are uniform under noise alone, ROC and FROC."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, signal, stats

from ldct_utils import segments
from ldct_utils.ct import nps
from ldct_utils.structures import froc, hallucinations
from ldct_utils.structures import null as suspicion

PIXEL = 0.75
SIZE = 96


def noise(rng, count=1, size=SIZE, sd=20.0, grain=1.0):
    """Correlated noise (count, size, size), HU: white noise under a Gaussian, on a torus so that its SD is known."""
    drawn = ndimage.gaussian_filter(rng.standard_normal((count, size, size)), (0, grain, grain), mode="wrap")
    unit = np.zeros((size, size))
    unit[0, 0] = 1
    return sd * drawn / np.sqrt((ndimage.gaussian_filter(unit, grain, mode="wrap") ** 2).sum())


def true_nps(n=32, sd=20.0, grain=1.0):
    """The spectrum of that noise on (n, n) frequencies, HU^2 mm^2."""
    f = np.fft.fftfreq(n)
    gain = np.exp(-4 * np.pi**2 * grain**2 * (f[:, None] ** 2 + f[None] ** 2))
    return sd**2 * PIXEL**2 * gain / gain.mean()


def discs(size=SIZE, step=24, radius=4):
    """Label map of discs on a grid, far enough apart that their rings share no noise."""
    y, x = np.mgrid[:size, :size] % step - step // 2
    return ndimage.label(np.hypot(x, y) < radius)[0]


# ---- the contrast and its variance ----
def test_weights_take_the_mean_of_a_ring_from_that_of_a_segment():
    image = np.zeros((40, 40))
    y, x = np.mgrid[:40, :40] - 20
    mask = np.hypot(x, y) < 7
    image[mask] = 30
    weights = hallucinations.contrast_weights(mask)
    assert weights.sum() == pytest.approx(0) and (weights * image).sum() == pytest.approx(30)
    assert (weights * (image + 500)).sum() == pytest.approx(30)
    assert (weights > 0).sum() < mask.sum() and not weights[mask & ~ndimage.binary_erosion(mask)].any()
    assert not weights[np.hypot(x, y) > 12.1].any()
    half = hallucinations.contrast_weights(mask, body=x < 0)
    assert not half[(x >= 0) & (half < 0)].any() and half.sum() == pytest.approx(0)
    assert hallucinations.contrast_weights(mask, body=np.zeros_like(mask)) is None


def test_a_small_segment_is_not_eroded_away():
    mask = np.zeros((20, 20), bool)
    mask[8:11, 8:11] = True
    assert (hallucinations.contrast_weights(mask) > 0).sum() == 9


def test_the_variance_is_the_integral_of_the_weights_spectrum_times_the_nps():
    n, weights = 64, hallucinations.contrast_weights(discs(64, 64, 6) > 0)
    spectrum = true_nps(n)
    transform = np.abs(np.fft.fft2(weights)) ** 2
    expected = np.sqrt((transform * spectrum).sum() / (n * PIXEL) ** 2)
    assert hallucinations.functional_sd(weights, hallucinations.covariance(spectrum, PIXEL)) == pytest.approx(expected)


def test_white_noise_gives_the_textbook_error_of_two_means():
    weights = hallucinations.contrast_weights(discs(64, 64, 6) > 0)
    inner, ring = (weights > 0).sum(), (weights < 0).sum()
    lags = hallucinations.covariance(np.full((32, 32), 20.0**2 * PIXEL**2), PIXEL)
    assert hallucinations.functional_sd(weights, lags) == pytest.approx(20 * np.sqrt(1 / inner + 1 / ring))


def test_the_sd_is_that_of_many_draws_with_a_measured_spectrum():
    rng = np.random.default_rng(0)
    draws = noise(rng, 400, 64)
    weights = hallucinations.contrast_weights(discs(64, 64, 6) > 0)
    spectrum = nps.power_spectrum(draws[:100, :32, :32], PIXEL, taper=True)
    sd = hallucinations.functional_sd(weights, hallucinations.covariance(spectrum, PIXEL))
    assert sd == pytest.approx((draws * weights).sum((1, 2)).std(), rel=0.1)


def test_a_spectrum_of_another_form_is_refused():
    for wrong in (np.zeros((4, 6)), np.zeros((5, 5)), np.zeros(4)):
        with pytest.raises(ValueError, match=r"a spectrum is \(n, n\) with n even"):
            hallucinations.covariance(wrong, PIXEL)


def test_the_local_level_follows_the_noise_and_not_a_structure():
    rng = np.random.default_rng(1)
    lags = hallucinations.covariance(true_nps(), PIXEL)
    gain = np.where(np.arange(SIZE) < SIZE // 2, 1.0, 3.0)
    level = hallucinations.local_level(noise(rng)[0] * gain, lags)
    assert level[:, :24].mean() == pytest.approx(1, rel=0.1) and level[:, -24:].mean() == pytest.approx(3, rel=0.1)
    lost = noise(rng)[0] + 60 * ndimage.gaussian_filter((discs(SIZE, SIZE, 6) > 0).astype(float), 1)
    assert hallucinations.local_level(lost, lags)[48, 48] < 1.3


# ---- the null ----
def perfect(rng, count, spectrum, regions=None, local=False):
    """Tables of a denoiser that leaves the truth, lesion-free; NDCT segments where ``regions`` is None."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    body = np.hypot(x, y) < 0.47 * SIZE
    truth = np.where(body, 40.0, -1000.0)
    found = []
    for normal, more in zip(noise(rng, count, sd=12.0), noise(rng, count, sd=20.0)):
        ndct = truth + normal
        here = segments.segment(ndct, min_area=15).regions if regions is None else regions
        found.append(hallucinations.score(ndct + more, truth, here, spectrum, PIXEL, body=body, local=local))
    return found


TOTAL = true_nps(sd=np.hypot(12, 20))


def test_for_fixed_segments_z_is_standard_normal_where_a_naive_test_sees_changes():
    table = pd.concat(perfect(np.random.default_rng(2), 40, TOTAL, discs()))
    assert stats.kstest(table["z"], "norm").pvalue > 0.01 and table["z"].std() == pytest.approx(1, rel=0.06)
    inner = (hallucinations.contrast_weights(discs()[:24, :24] > 0) > 0).sum()
    naive = table["change_hu"] / (np.hypot(12, 20) / np.sqrt(inner))  # pixels as if they were independent
    assert (naive.abs() > 1.96).mean() > 0.25 and (table["z"].abs() > 1.96).mean() < 0.08


@pytest.fixture(scope="module")
def followed():
    """Lesion-free tables whose segments follow the NDCT's noise: to fit a null, and to test it."""
    rng = np.random.default_rng(3)
    return perfect(rng, 100, TOTAL), perfect(rng, 40, TOTAL)


def test_segments_of_the_ndct_follow_its_noise_and_only_the_null_keeps_p_uniform(followed):
    fitted, fresh = followed
    # Three segments an image: neighbours share a ring, and a KS test needs independent values.
    one = pd.concat([table.sample(min(len(table), 3), random_state=n) for n, table in enumerate(fresh)])
    naive = 2 * stats.norm.sf(one["z"].abs())
    assert (naive < 0.05).mean() > 0.15 and stats.kstest(naive, "uniform").pvalue < 1e-4
    p = suspicion.null(fitted).p(one)
    assert stats.kstest(p, "uniform").pvalue > 0.05
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.04)


def test_p_is_exact_where_the_null_is_counted():
    table = pd.DataFrame({"area": 50, "z": np.arange(1.0, 100)})
    null = suspicion.null([table], classes=1)
    found = null.p(pd.DataFrame({"area": [9, 9, 9, 9], "z": [1000.0, 99.0, -50.0, 0.0]}))
    np.testing.assert_allclose(found, [0.01, 0.02, 0.51, 1.0])


def test_each_class_of_area_has_its_own_null():
    rng = np.random.default_rng(0)
    area = rng.integers(20, 400, 600)
    table = pd.DataFrame({"area": area, "z": rng.standard_normal(600) * np.where(area < 200, 5, 1)})
    null = suspicion.null([table], classes=2)
    small, large = null.p(pd.DataFrame({"area": [30, 390], "z": [4.0, 4.0]}))
    assert small > 0.3 > 0.02 > large
    with pytest.raises(ValueError, match="lesion-free segments: 600, too few for 40 classes"):
        suspicion.null([table], classes=40)
    with pytest.raises(ValueError, match="areas are too alike for 3 classes"):
        suspicion.null([table.assign(area=50)])


# ---- detection ----
@pytest.fixture(scope="module")
def planted():
    """A network that blurs nothing and takes all noise, but loses one disc and invents another."""
    rng = np.random.default_rng(7)
    places = discs(192, 24)
    removed, invented = places == 10, places == 40
    truth = 40 + 100.0 * ((places > 0) & ~invented)
    ldct = truth + noise(rng, size=192)[0]
    pred = truth - 100 * removed + 100 * invented
    free = [hallucinations.score(truth + one, truth, places, true_nps(), PIXEL) for one in noise(rng, 30, size=192)]
    table = hallucinations.score(ldct, pred, places, true_nps(), PIXEL)
    return suspicion.ranked(table.assign(p=suspicion.null(free, classes=1).p(table))), places, removed | invented


def test_a_removal_and_an_insertion_lead_the_list_and_say_which_they_are(planted):
    ranked, _, _ = planted
    first = ranked.iloc[:2].set_index("segment")
    assert set(first.index) == {10, 40} and first["suspicious"].all() and (first["p_adjusted"] < 0.05).all()
    assert first.loc[10, "change_hu"] == pytest.approx(-100, abs=40) and first.loc[10, "before_hu"] > 60
    assert first.loc[40, "change_hu"] == pytest.approx(100, abs=40)
    assert ranked["suspicious"].sum() <= 4 and ranked["p"].is_monotonic_increasing


def test_correction_is_benjamini_hochbergs(planted):
    ranked, _, _ = planted
    p, count = ranked["p"].to_numpy(), len(ranked)
    expected = np.minimum.accumulate((p * count / np.arange(1, count + 1))[::-1])[::-1].clip(max=1)
    np.testing.assert_allclose(ranked["p_adjusted"], expected)
    holm = suspicion.ranked(ranked, method="holm")
    assert (holm["p_adjusted"] >= holm["p"]).all()


def test_an_empty_table_has_no_suspects():
    table = hallucinations.score(np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((8, 8), int), true_nps(), PIXEL)
    known = suspicion.null([pd.DataFrame({"area": 50, "z": np.arange(30.0)})], classes=1)
    assert not len(suspicion.ranked(table.assign(p=known.p(table))))


def test_a_network_that_changes_nothing_is_not_suspected(followed):
    image = noise(np.random.default_rng(0))[0]
    table = hallucinations.score(image, image, discs(), true_nps(), PIXEL)
    assert len(table) and not table["z"].any()
    assert (suspicion.null(followed[0]).p(table) == 1).all()


def test_masks_and_label_maps_score_alike():
    rng = np.random.default_rng(0)
    ldct, pred = noise(rng, 2)
    labels = discs()
    tables = [hallucinations.score(ldct, pred, r, true_nps(), PIXEL) for r in (labels, segments.masks_of(labels))]
    pd.testing.assert_frame_equal(*tables)
    with pytest.raises(ValueError, match="segment 1 has no pixel"):
        hallucinations.score(ldct, pred, np.zeros((1, SIZE, SIZE), bool), true_nps(), PIXEL)
    with pytest.raises(ValueError, match="one slice"):
        hallucinations.score(ldct, pred[:50], labels, true_nps(), PIXEL)


def test_a_segment_shows_the_structure_that_holds_half_of_it():
    structures = np.zeros((10, 10), int)
    structures[:5, :5], structures[6:, 6:] = 3, 7
    regions = np.zeros((10, 10), int)
    regions[:4, :4], regions[7:, 3:9], regions[0, 9] = 1, 2, 3
    np.testing.assert_array_equal(froc.planted(regions, structures), [3, 7, 0])
    np.testing.assert_array_equal(froc.planted(regions, structures, share=0.8), [3, -1, 0])


def test_the_detector_finds_planted_structures_better_than_chance(planted):
    ranked, places, structures = planted
    shown = froc.planted(places, structures.astype(int))[ranked["segment"] - 1]
    table = pd.DataFrame({"patient": "P001", "image": 0, "score": ranked["z"].abs(), "structure": shown})
    slices = pd.DataFrame({"patient": ["P001"], "image": [0], "structures": [1]})
    assert froc.curves(table, slices, [], [])["y"][0] > 0.95


# ---- the null of other patients, and the list ----
def patients_table(rng, count=6, size=60, odd=None):
    """Segments of some patients; those of ``odd`` change three times as much."""
    table = pd.DataFrame({"patient": np.repeat([f"P{i}" for i in range(count)], size), "area": 50,
                          "z": rng.standard_normal(count * size), "kind": "null"})  # fmt: skip
    table.loc[table.patient == odd, "z"] *= 3
    return table


def test_a_patient_is_judged_by_the_others_and_never_by_itself():
    table = patients_table(np.random.default_rng(0), odd="P2")
    p = suspicion.against_others(table, table, classes=1)
    odd, others = table[table.patient == "P2"], table[table.patient != "P2"]
    np.testing.assert_allclose(p[odd.index], suspicion.null([others], 1).p(odd))
    assert (p[odd.index] < 0.05).mean() > 0.3 > 0.1 > (p[others.index] < 0.05).mean()
    twice = table.assign(z=0.0, other=table.z)
    np.testing.assert_allclose(suspicion.against_others(twice, twice, 1, "other"), p)
    with pytest.raises(ValueError, match="with one no p-value can be given"):
        suspicion.against_others(odd, odd)


def test_a_list_is_corrected_in_each_slice_by_itself():
    table = pd.DataFrame({"row": [1, 1, 1, 2], "p": [0.02, 0.5, 0.9, 0.04], "z": [3.0, 1, 0, 2]})
    whole, each = suspicion.ranked(table), suspicion.ranked(table, within=["row"])
    assert whole["p_adjusted"].tolist() == pytest.approx([0.08, 0.08, 2 / 3, 0.9]) and not whole.suspicious.any()
    assert each["p_adjusted"].tolist() == pytest.approx([0.06, 0.04, 0.75, 0.9])
    assert each.suspicious.tolist() == [False, True, False, False]


def test_outlines_made_once_score_as_segments_do():
    rng = np.random.default_rng(0)
    ldct, pred = noise(rng, 2)
    labels, body = discs(), np.ones((SIZE, SIZE), bool)
    whole = hallucinations.score(ldct, pred, labels, true_nps(), 1.0, body)
    outlines = hallucinations.outlined(labels, body)
    pd.testing.assert_frame_equal(hallucinations.score(ldct, pred, outlines, true_nps(), 1.0, body), whole)
    found = hallucinations.examine(ldct, pred, labels, outlines, true_nps(), body, (labels == 3).astype(int))
    assert found["structure"].tolist() == [int(n == 3) for n in found["segment"]]
    third = found[found["segment"] == 3][["y", "x"]].to_numpy()[0]
    assert third == pytest.approx(np.argwhere(labels == 3).mean(0))
    assert {"z", "naive_z", "srmse_hu"} <= set(found)


def test_an_autocorrelation_does_not_wrap_around():
    weights = np.random.default_rng(0).standard_normal((9, 12))
    full = signal.correlate2d(weights, weights)
    np.testing.assert_allclose(hallucinations.autocorrelation(weights, 7), full[1:16, 4:19], atol=1e-12)
    assert hallucinations.autocorrelation(weights, 15).shape == (31, 31)


def test_the_variance_of_a_contrast_is_that_of_drawn_noise():
    weights = hallucinations.contrast_weights(discs(48, 48, 6) > 0)
    drawn = (noise(np.random.default_rng(0), 1500, 48) * weights).sum((1, 2))
    assert hallucinations.functional_sd(weights, hallucinations.covariance(true_nps(), PIXEL)) == pytest.approx(
        drawn.std(), rel=0.06
    )


def test_noise_that_cannot_be_measured_says_what_to_do():
    air = np.full((2, 64, 64), -1000.0)
    with pytest.raises(ValueError, match=r"no flat soft tissue.*test more or other slices"):
        hallucinations.removed_spectrum(air, air, air)
