"""What a found invariance is held against: the null of noise realisations, lesions of simulated patients, exact p."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest, kstest

from ldct_utils import cohorts
from ldct_utils.cohorts import simulated
from ldct_utils.ct import nps
from ldct_utils.invariance import cases, evidence, flow, models

SIZE = 96


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """One simulated abdomen of two slices, all of it for testing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDCT_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        return cohorts.get(patients=1, slices=2, anatomy="abdomen", split="test", progress=False)


@pytest.fixture(scope="module")
def case(cohort):
    return next(cases.find(cohort, cohort.rows("test"), SIZE, 60, seed=3))


@pytest.fixture(scope="module")
def drawn(case):
    return case.draw()


# ---- measures ----
def test_changes_are_root_mean_squares_in_hu():
    x = np.zeros((4, 4))
    assert evidence.rmse_hu(np.stack([x, x + 3, x - 4]), x) == pytest.approx([0, 3, 4])


def test_the_published_measure_of_a_shift_by_10_hu():
    x = np.arange(16.0).reshape(4, 4)
    assert evidence.pix_md(np.stack([x, x + 10, x - 10]), x) == pytest.approx([0, 0.0199130, 0.0199130], abs=5e-8)


def test_contrast_is_the_lesion_s_mean_minus_its_surroundings():
    image, inside = np.full((8, 8), 60.0), np.zeros((8, 8), bool)
    inside[2:4, 2:4] = True
    image[inside] = 40
    assert evidence.contrast(image, inside, ~inside) == pytest.approx(-20)
    assert evidence.contrast(np.stack([image, image + 100]), inside, ~inside) == pytest.approx([-20, -20])
    for pair in ((inside, np.zeros_like(inside)), (np.zeros_like(inside), inside)):
        with pytest.raises(ValueError, match="without pixels, or without surroundings"):
            evidence.contrast(image, *pair)


def test_means_of_segments_and_a_segment_without_pixels_is_refused():
    image, masks = np.arange(16.0).reshape(4, 4), np.zeros((2, 4, 4), bool)
    masks[0, 0], masks[1, :, 1] = True, True
    assert evidence.means(image, masks) == pytest.approx([1.5, 7])
    assert evidence.means(np.stack([image, -image]), masks).shape == (2, 2)
    with pytest.raises(ValueError, match="without pixels"):
        evidence.means(image, np.zeros((1, 4, 4), bool))


def test_low_pass_keeps_the_mean_and_takes_the_noise_but_not_across_images():
    rng = np.random.default_rng(0)
    images = np.stack([rng.normal(0, 1, (64, 64)), np.full((64, 64), 7.0)])
    smooth = evidence.low_pass(images)
    assert smooth[1] == pytest.approx(7.0, abs=1e-5) and smooth[0].std() < 0.2


# ---- p values ----
def test_p_is_the_share_of_the_null_that_changes_as_much_counting_the_finding_itself():
    null = np.array([-3.0, 1.0, 2.0, 0.5])
    assert evidence.p_value(np.array([0.0, 2.0, -2.5, 10.0]), null) == pytest.approx([1, 3 / 5, 2 / 5, 1 / 5])


def test_a_change_that_is_not_finite_has_no_p_rather_than_the_smallest():
    for change, null in (([np.nan], [1.0, 2.0]), ([1.0], [np.inf, 2.0])):
        with pytest.raises(ValueError, match="finite"):
            evidence.p_value(change, null)


def test_p_of_one_more_realisation_is_uniform_in_every_region():
    rng, scale = np.random.default_rng(1), [1.0, 5.0]
    p = np.stack([evidence.p_value(rng.normal(0, scale), rng.normal(0, scale, (99, 2))) for _ in range(1500)])
    for region in range(2):
        assert (p[:, region] <= 0.05).mean() == pytest.approx(0.05, abs=0.018)
        assert kstest(p[:, region], "uniform").pvalue > 0.01


# ---- changed, and hidden among these ----
def regions(p_in, p_out, patients):
    return pd.DataFrame({"p_in": p_in, "p_out": p_out, "patient": patients})


def test_hidden_is_what_changed_at_the_input_and_not_at_the_output():
    found = evidence.verdicts(regions([0.05, 0.01, 0.05, 0.9], [0.06, 0.01, 0.05, 0.9], list("abcd")), 0.05)
    assert found.changed.tolist() == [True, True, True, False] and found.hidden.tolist() == [True, False, False, False]


def test_rates_are_of_what_changed_and_nothing_changed_is_no_result():
    none = evidence.counts(evidence.verdicts(regions([0.5] * 16, [0.5] * 16, range(16)), 0.05))
    assert (none["tested"], none["changed"], none["hidden"]) == (16, 0, 0)
    assert np.isnan([none["share"], none["low"], none["high"]]).all()
    assert evidence.said(none) == "0 of 16 changed, hiding not tested"
    half = regions([0.01] * 20 + [0.5] * 80, ([0.5, 0.01] * 10) + [0.5] * 80, [*"abcdefghij" * 10])
    half = evidence.counts(evidence.verdicts(half, 0.05))
    assert (half["tested"], half["changed"], half["hidden"], half["patients"]) == (100, 20, 10, 10)
    assert evidence.said(half) == "20 of 100 changed, 10 of these hidden (50%)"
    assert half["share"] == 0.5 and 0 <= half["low"] < 0.5 < half["high"] <= 1


@pytest.mark.parametrize("patients", [1, 10])
def test_no_hidden_lesion_among_those_changed_still_has_an_exact_upper_bound(patients):
    who = [i % patients for i in range(2 * patients)]
    none = evidence.counts(evidence.verdicts(regions(0.01, 0.01, who), 0.05))
    every = evidence.counts(evidence.verdicts(regions(0.01, 0.5, who), 0.05))
    bound = binomtest(0, patients).proportion_ci(0.95).high  # .31 for 10 patients
    assert (none["share"], none["low"], none["high"]) == (0, 0, pytest.approx(bound))
    assert (every["share"], every["low"], every["high"]) == (1, pytest.approx(1 - bound), 1)


def test_counts_stand_beside_the_rms_change_of_all_regions_of_a_method():
    table = regions([0.01, 0.9, 0.01, 0.01], [0.5, 0.9, 0.01, 0.01], list("abab"))
    table = table.assign(method=["flow"] * 2 + ["aimed"] * 2, change_in=[3.0, -4, 1, 1], change_out=[0.0, 1, 2, -2])
    found = evidence.counted(table, 0.05).set_index("method")
    assert list(found.index) == ["flow", "aimed"]  # in their order
    assert found[["tested", "changed", "hidden"]].to_numpy().tolist() == [[2, 1, 1], [2, 2, 0]]
    assert found.in_hu.tolist() == pytest.approx([12.5**0.5, 1])
    assert found.out_hu.tolist() == pytest.approx([0.5**0.5, 2])


def test_a_lesion_at_an_edge_belongs_to_the_larger_kind():
    table = pd.DataFrame({"radius_mm": [2.9, 3.0, 5.0], "contrast_hu": [-24.9, -25.0, 30.0]})
    found = evidence.kinds(table)
    assert found["radius, mm"].tolist() == list(evidence.RADII)
    assert found.contrast.tolist() == ["under 25 HU", "25 HU and more", "25 HU and more"]


def test_the_d_prime_kept_of_a_patient_is_of_the_sums_over_its_lesions():
    rows = [
        ("a", "x", 2.0),
        ("a", "f(x)", 1.0),
        ("a", "x", 1.0),
        ("a", "f(x)", 2.0),
        ("b", "x", 2.0),
        ("b", "f(x)", 1.0),
    ]
    kept = evidence.d_prime_kept(pd.DataFrame(rows, columns=["patient", "image", "d_prime"]))
    assert kept.to_dict() == {"a": 1.0, "b": 0.5}


# ---- cases of simulated patients ----
def test_a_patient_drawn_again_is_the_one_that_the_cohort_stores(cohort):
    body, _ = simulated.patient_again(cohort, "P001")
    assert np.array_equal(body.organ_masks, cohort.organ_masks)


def test_a_cohort_that_is_not_simulated_or_was_made_otherwise_is_not_drawn_again(cohort):
    other = dataclasses.replace(cohort, meta=cohort.meta | {"source": "npy"})
    with pytest.raises(ValueError, match="only simulated patients"):
        simulated.patient_again(other, "P001")
    changed = dataclasses.replace(cohort, lesion_masks=np.zeros_like(cohort.lesion_masks))
    with pytest.raises(ValueError, match="differs from cohort"):
        simulated.patient_again(changed, "P001")


def test_the_null_is_as_far_from_the_slice_as_two_scans_are_from_each_other(case, drawn):
    null, noise = drawn.null, evidence.rmse_hu(drawn.null, drawn.truth).mean()
    assert evidence.rmse_hu(case.ldct, drawn.truth) == pytest.approx(noise, rel=0.06)
    assert evidence.rmse_hu(null, case.ldct).mean() == pytest.approx(np.sqrt(2) * noise, rel=0.05)
    assert evidence.rmse_hu(null[:30], null[30]).mean() == pytest.approx(np.sqrt(2) * noise, rel=0.05)


def test_several_crops_of_a_patient_hold_every_lesion_once_and_are_drawn_alike_twice(cohort, case):
    every = list(cases.find(cohort, cohort.rows("test"), SIZE, 2, seed=3, crops=None))
    held = [n for one in every for n in one.lesions.lesion]
    assert len(set(held)) == len(held) >= len(case.lesions)
    assert len({one.row for one in every}) == len(every) <= 2  # slices of this patient
    assert every[0].row == case.row and np.array_equal(every[0].inside, case.inside)
    first, again = every[0].draw(), every[0].draw()
    assert np.array_equal(first.null, again.null) and np.array_equal(first.absent, again.absent)
    with pytest.raises(ValueError, match="at least 1, or None"):
        next(cases.find(cohort, cohort.rows("test"), SIZE, 2, crops=0))


def test_a_case_holds_no_more_than_its_own_images(case):
    """Hundreds of realisations, whole slices and bodies must not stay in memory for every crop that is looked at."""

    parts = [getattr(case, field.name) for field in dataclasses.fields(case)]
    parts += [*case.draw.__defaults__, *case.draw.__defaults__[0]]  # the slice that is scanned anew, with and without
    images = [part for part in parts if isinstance(part, np.ndarray)]
    assert len(images) == 6 and all(image.base is None for image in images)  # no view into a whole volume
    assert all(image.shape[-2:] == (SIZE, SIZE) for image in images[:4]) and images[4].ndim == images[5].ndim == 2


def test_lesions_are_in_the_null_and_not_in_the_absent_class(case, drawn):
    assert len(case.lesions) == len(case.inside) == len(case.around) >= 1
    for i, lesion in enumerate(case.lesions.itertuples()):
        assert not (case.inside[i] & case.around[i]).any() and case.inside[i].sum() >= evidence.SMALLEST
        present, absent = (
            evidence.contrast(images, case.inside[i], case.around[i]) for images in (drawn.null, drawn.absent)
        )
        se = np.hypot(present.std(), absent.std()) / np.sqrt(len(present))
        gap = present.mean() - absent.mean()
        assert abs(gap) > 4 * se and np.sign(gap) == np.sign(lesion.contrast_hu)
        assert abs(gap) < 1.1 * abs(lesion.contrast_hu) + 4 * se


def test_the_contrast_that_a_known_f_keeps(case, drawn):
    """All by the identity, a share by a map that weakens everything, what is outside the lesion's mean by a filter."""
    share = lambda f: evidence.contrast_kept(f, drawn.absent[:5], drawn.signal, case.inside)  # noqa: E731
    assert np.allclose(share(lambda hu: hu), 1, atol=1e-3)
    assert np.allclose(share(lambda hu: 0.3 * hu + 7), 0.3, atol=1e-3)
    expected = evidence.means(evidence.low_pass(drawn.signal), case.inside) / evidence.means(drawn.signal, case.inside)
    assert share(evidence.low_pass).shape == (5, len(case.inside))
    assert np.allclose(share(evidence.low_pass), expected, atol=1e-2) and (expected < 0.9).all()
    with pytest.raises(ValueError, match="adds nothing"):
        evidence.contrast_kept(lambda hu: hu, drawn.absent[:2], 0 * drawn.signal, case.inside)


def test_lesions_apart_add_up_and_each_holds_its_own_contrast(case, drawn):
    signals = evidence.apart(drawn.signal, case.inside)
    assert signals.shape == case.inside.shape and np.array_equal(signals.sum(0), drawn.signal)
    own = np.stack([evidence.means(one, case.inside) for one in signals])
    assert np.array_equal(own, np.diag(evidence.means(drawn.signal, case.inside)))


def test_crops_that_do_not_fit_and_nulls_of_one_are_refused(cohort):
    with pytest.raises(ValueError, match="does not fit"):
        next(cases.find(cohort, cohort.rows("test"), 4096, 10))
    with pytest.raises(ValueError, match="at least two"):
        next(cases.find(cohort, cohort.rows("test"), SIZE, 1))


# ---- cases of real pairs ----
def test_the_null_of_a_real_pair_keeps_the_ndct_and_has_the_pair_s_own_noise(test_data, outputs):
    pairs = cohorts.get("npy", str(test_data / "mayo_npy"), split="test", progress=False)
    case = next(cases.find(pairs, pairs.rows("test"), 128, 3, seed=0))
    null = case.draw().null
    assert case.lesions is None and null.shape == (3, 128, 128)
    rows = sorted(pairs.rows("test"))
    assert case.row == rows[2] and [one.row for one in cases.find(pairs, rows, 128, 2, crops=2)] == [rows[1], rows[3]]
    own = np.std(nps.high_pass(case.ldct - case.ndct))
    drawn = [np.std(nps.high_pass(one - case.ndct)) for one in null]
    assert np.mean(drawn) == pytest.approx(own, rel=0.25)
    correlation = np.corrcoef((null[0] - case.ndct).ravel(), (case.ldct - case.ndct).ravel())[0, 1]
    assert abs(correlation) < 0.1  # drawn anew


def test_inserted_noise_of_a_crop_is_that_of_the_slice_and_none_lies_in_the_padding():
    y, x = np.mgrid[:96, :96] - 47.5
    body = np.where(np.hypot(y, 1.3 * x) < 40, 50.0, -1000.0).astype(np.float32)
    noise = cases._noise_of(body, 0.75)
    whole, part = noise([1, 2], (0, 0, 96, 96)), noise([1, 2], (20, 30, 41, 17))
    assert np.abs(part - whole[20:61, 30:47]).max() < 1e-3 * np.std(whole)
    assert np.corrcoef(whole.ravel(), noise([1, 3], (0, 0, 96, 96)).ravel())[0, 1] < 0.1
    rng = np.random.default_rng(0)
    tissue = np.where(np.hypot(y, x) < 47, 50 + rng.normal(0, 5, body.shape), -1024.0).astype(np.float32)
    tissue = np.kron(tissue, np.ones((2, 2), np.float32))  # large enough to measure noise on
    low = np.where(tissue > -1024, tissue + rng.normal(0, 20, tissue.shape), -1024.0).astype(np.float32)
    about = pd.DataFrame({"row": [0], "patient": "L506", "anatomy": "abdomen", "pixel_mm": 0.75})
    pair = SimpleNamespace(slices=about, ldct=low[None], ndct=tissue[None], meta={"source": "npy"}, lesion_masks=None)
    (one,) = cases.find(pair, [0], 192, 3)
    null = one.draw().null
    assert (null[:, tissue == -1024] == -1024).all()
    inside = np.hypot(*(np.mgrid[:192, :192] - 95.5)) < 80
    made = nps.power_spectrum((null - tissue)[:, 48:144, 48:144], 0.75)
    assert np.std((null - tissue)[:, inside]) == pytest.approx(20, rel=0.15)
    rings = nps.radial(made, 0.75, np.array([0.1, 0.3, 0.5]), 0.1)
    assert rings.max() < 1.4 * rings.min()  # white, as what was added


# ---- models on disk ----
def test_a_model_comes_back_with_its_settings_and_weights(tmp_path):
    torch.manual_seed(0)
    net = flow.build(dim=8, blocks=2, width=8, depth=1, condition=4, patch=32, embed=2)
    models.write(tmp_path, "flow", net)
    again = models.load(tmp_path, "flow")
    assert again.settings == net.settings and not again.training
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values()))
    with pytest.raises(ValueError, match="is a flow, not a vae"):
        models.load(tmp_path, "vae")
    with pytest.raises(FileNotFoundError, match=r"there is no .*model.* a finished run of 05a"):
        models.load(tmp_path / "nowhere", "flow")


def test_judging_what_was_found_loads_no_model():
    code = "import sys; from ldct_utils.invariance import comparison, evidence; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
