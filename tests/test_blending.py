"""A method beside the blends of a reference with its input: exact sums, known places on the plane, faults, coverage."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from finished_runs import cohort
from scipy import ndimage

from ldct_utils import metrics
from ldct_utils.ct import planted
from ldct_utils.models import classical
from ldct_utils.stats import blending
from ldct_utils.stats.blending import compare, curve
from ldct_utils.stats.intervals import Interval
from ldct_utils.task_based import resolution


def lesions(size=40):
    """Two slices with a strong lesion, number 1, and one slice with a faint one, 2: (masks, signal)."""
    y, x = np.mgrid[:size, :size]
    masks = np.zeros((2, size, size), np.uint8)
    masks[:, np.hypot(y - 12, x - 12) < 4] = 1
    masks[0, np.hypot(y - 28, x - 26) < 3] = 2
    signal = ndimage.gaussian_filter(np.select([masks == 1, masks == 2], [50.0, 5.0], 0.0), (0, 1, 1))
    return masks, signal


# ---- what is measured ----
def test_each_pixel_belongs_to_the_nearest_lesion_of_its_own_slice():
    masks = np.zeros((3, 5, 9), np.uint8)
    masks[0, 2, 1], masks[0, 2, 7], masks[1, 0, 0] = 1, 2, 4
    nearest = planted.territories(masks)
    assert (nearest[0, :, :4] == 1).all() and (nearest[0, :, 5:] == 2).all()
    assert (nearest[1] == 4).all() and not nearest[2].any()


def test_a_filter_that_does_nothing_keeps_one_and_one_that_removes_all_keeps_zero():
    masks, signal = lesions()
    x = np.random.default_rng(0).normal(0, 30, signal.shape).astype(np.float32)
    whole = planted.kept_by_lesion(
        x, x + np.rint(signal).astype(np.float32), np.rint(signal), planted.territories(masks)
    )
    assert set(whole) == {1, 2} and whole[1] == pytest.approx(1, abs=1e-6)
    exact = planted.kept_by_lesion(0 * signal, signal, signal, planted.territories(masks))
    assert exact == {1: 1.0, 2: 1.0}
    assert planted.kept_by_lesion(x, x, signal, planted.territories(masks)) == {1: 0.0, 2: 0.0}


def test_a_lesion_is_judged_by_its_own_pixels_and_all_its_slices():
    masks, signal = lesions()
    nearest = planted.territories(masks)
    passed = signal * np.where(nearest == 2, 0.2, 1.0)
    passed[1] *= 0.5
    kept = planted.kept_by_lesion(0 * signal, passed, signal, nearest)
    energy = (signal**2 * (nearest == 1)).sum((1, 2))
    assert kept == pytest.approx({1: (energy[0] + 0.5 * energy[1]) / energy.sum(), 2: 0.2})


def test_lesions_of_a_patient_weigh_alike_however_strong_they_are():
    squares = pd.DataFrame({"patient": ["P1"], "row": 3, "seed": 0, "before": 4.0, "both": 1.0, "after": 1.0})
    kept = pd.DataFrame({"patient": "P1", "lesion": [1, 2], "seed": 0, "kept": [1.0, 0.2]})
    assert blending.measured(squares, kept).kept == pytest.approx(np.array([[0.6]]))


def test_what_is_missing_is_refused_by_name():
    squares = pd.DataFrame(
        {"patient": ["P1", "P2"], "row": [3, 4], "seed": 0, "before": 4.0, "both": 1.0, "after": 1.0}
    )
    kept = pd.DataFrame({"patient": ["P1"], "lesion": 1, "seed": 0, "kept": 1.0})
    with pytest.raises(ValueError, match="no lesion in the slices of P2: leave"):
        blending.measured(squares, kept)
    more = pd.concat([squares[:1], squares[:1].assign(seed=1)])
    with pytest.raises(ValueError, match="lacks slices or lesions of the others: measure"):
        blending.measured(more, kept)


def test_the_gain_is_the_difference_of_the_psnr_that_tables_give():
    data = cohort(patients=3, slices=2)
    f = 0.3 * data.ldct + 0.7 * ndimage.gaussian_filter(data.ldct, (0, 1, 1))
    sums = blending.mean_squares(data.ldct, f, data.truth)
    table = pd.DataFrame(dict(zip(("before", "both", "after"), sums)) | {"row": range(6), "seed": 0})
    table["patient"] = data.slices["patient"].to_numpy()
    kept = pd.DataFrame({"patient": table["patient"].unique(), "lesion": 1, "seed": 0, "kept": 1.0})
    found = blending.measured(table, kept)
    for share in (0.0, 0.4):
        mixed = iter([share * data.ldct + (1 - share) * f])
        scores = [metrics.evaluate(g, data, np.arange(6), metrics=("psnr",), batch=6, domains=("hu",))
                  for g in (lambda hu: hu, lambda hu, made=mixed: next(made))]  # fmt: skip
        psnr = [one[one.reference == "truth"].groupby("patient").value.mean().to_numpy() for one in scores]
        assert found.gain(share)[:, 0] == pytest.approx(psnr[1] - psnr[0], abs=1e-6)


def test_a_blend_that_is_made_lies_on_the_computed_curve():
    rng = np.random.default_rng(1)
    masks, signal = lesions()
    x, target = rng.normal(0, 20, (2, 2, 40, 40))
    f = lambda image: np.tanh(ndimage.gaussian_filter(image, (0, 1, 1)) / 40) * 40  # noqa: E731
    share, nearest = 0.35, planted.territories(masks)
    with_lesions, without = ([image, f(image)] for image in (x + signal, x))
    mixed = [share * images[0] + (1 - share) * images[1] for images in (with_lesions, without)]
    kept = planted.kept_by_lesion(without[1], with_lesions[1], signal, nearest)
    made = planted.kept_by_lesion(mixed[1], mixed[0], signal, nearest)
    assert made == pytest.approx({n: share + (1 - share) * k for n, k in kept.items()}, abs=1e-12)
    before, both, after = blending.mean_squares(with_lesions[0], with_lesions[1], target)
    quadratic = share**2 * before + 2 * share * (1 - share) * both + (1 - share) ** 2 * after
    assert blending.mean_squares(with_lesions[0], mixed[0], target)[2] == pytest.approx(quadratic, rel=1e-12)


# ---- the curve and an arm beside it ----
def nets(seed=0, patients=10, seeds=3, spread=0.02, luck=0.05, kept=0.66, error=0.5):
    """Trainings that leave this share of the squared error; luck: SD over trainings in dB, a tenth in kept."""
    rng = np.random.default_rng(seed)
    who, training = rng.normal(0, spread, (patients, 1)), rng.normal(0, luck, (1, seeds))
    before = np.broadcast_to(rng.uniform(50, 500, (patients, 1)), (patients, seeds))
    after = before * error * 10 ** (-(10 * who + training) / 10)
    both = before * error * 10**-who
    k = kept + who + rng.normal(0, luck / 10, (1, seeds)) + rng.normal(0, spread / 4, (patients, seeds))
    return blending.Measured(np.stack([before, both, after]), np.arange(patients), k, tuple(range(seeds)))


def moved(one, db=0.0, kept=0.0, share=0.0):
    """The blend with this share of the input, better by so many dB and by so much contrast kept."""
    before, both, after = one.squares
    error = share**2 * before + 2 * share * (1 - share) * both + (1 - share) ** 2 * after
    squares = np.stack([before, both, error * 10 ** (-db / 10)])
    return replace(one, squares=squares, kept=share + (1 - share) * one.kept + kept)


def test_the_curve_ends_at_the_least_error_and_at_the_input():
    base = nets(luck=0)
    to = curve(base)
    shares = np.linspace(-1, 1, 4001)
    assert to.best == pytest.approx(shares[np.argmax([base.gain(s).mean() for s in shares])], abs=1e-3)
    assert to.gain(1) == pytest.approx(0, abs=1e-12) and to.left(1) == pytest.approx(1)
    for share in (0.2, 0.7):
        assert to.share_of_gain(to.gain(share)) == pytest.approx(share, abs=1e-8)
        assert to.share_of_kept(to.left(share)) == pytest.approx(share)
        slope = (to.gain(share + 0.01) - to.gain(share - 0.01)) / (to.left(share + 0.01) - to.left(share - 0.01))
        assert to.slope(share) == pytest.approx(slope, rel=1e-3)
    assert (to.share_of_gain(9), to.share_of_gain(-1), to.share_of_kept(2), to.share_of_kept(0)) == (
        to.best,
        1,
        1,
        to.best,
    )
    assert to.slope(1) == 0 and to.slope(to.best) == 0


def test_a_reference_that_keeps_everything_has_nothing_to_trade():
    base = nets(kept=1.05)
    to = curve(base)
    assert to.share_of_kept(0.5) == to.share_of_kept(1.2) == to.best
    assert compare(moved(base, db=-1), base, draws=200).answer == blending.LESS


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_blend_of_the_reference_is_never_above_its_own_curve(share):
    base = nets()
    found = compare(moved(base, share=share), base, draws=300)
    assert found.answer != blending.BETTER
    if curve(base).best < share < 1:
        assert found.less_error.mean == found.more_kept.mean == 0
        assert found.less_error.low == found.less_error.high == 0
        assert found.share == pytest.approx(share, abs=1e-6) and found.answer == blending.OPEN


def test_an_oracle_that_gives_removed_lesions_back_is_found_above():
    base = nets()
    oracle = replace(base, kept=base.kept + 0.5 * (1 - base.kept))
    found = compare(oracle, base, draws=300)
    assert found.answer == blending.BETTER and found.more_kept.low > 0 and found.less_error.low > 0
    assert found.more_kept.mean == pytest.approx(0.17, abs=0.03)


def test_the_distances_are_those_that_were_put_in():
    base = nets(luck=0)
    found = compare(moved(base, kept=0.05, share=0.4), base, draws=300)
    assert found.more_kept.mean == pytest.approx(0.05, abs=1e-6) and found.answer == blending.BETTER
    found = compare(moved(base, db=-0.4, share=0.4), base, draws=300)
    assert found.less_error.mean == pytest.approx(-0.4, abs=1e-6) and found.answer == blending.LESS


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"db": 1.0, "kept": 0.001}, blending.BETTER),  # less error than any blend
        ({"db": 1.0, "kept": 0.1}, blending.BETTER),
        ({"db": 1.0, "kept": -0.1}, blending.BEYOND),
        ({"db": -6.0, "kept": 0.3}, blending.WORSE),
        ({"db": -6.0, "kept": -0.1}, blending.WORSE),
        ({"kept": -0.1}, blending.LESS),  # keeps less than the network, at its error
        ({"db": -0.5, "kept": -0.1}, blending.LESS),
    ],
)
def test_places_beside_the_branch_have_an_answer_of_their_own(change, answer):
    base = nets(luck=0.01)
    found = compare(moved(base, **change), base, draws=300)
    assert found.answer == answer
    for one in (found.less_error, found.more_kept):
        assert one.low <= one.mean <= one.high
    if change.get("db", 0) > 0:
        assert found.share == pytest.approx(curve(base).best)
    if answer == blending.WORSE:
        assert found.share == 1 and found.more_kept.mean == pytest.approx(found.kept.mean - 1)


def test_too_few_patients_or_trainings_decide_nothing():
    few, single = nets(patients=5), nets(seeds=1)
    found = compare(moved(few, kept=0.2), few, draws=100)
    assert found.answer == blending.FEW_PATIENTS and np.isnan(found.more_kept.low)
    assert found.more_kept.mean > 0.1
    assert compare(moved(single, kept=0.2), single, draws=100).answer == blending.FEW_TRAININGS
    with pytest.raises(ValueError, match=r"\(10, 3\), \(5, 3\)"):
        compare(nets(), few)


def test_an_interval_that_is_barely_above_zero_in_one_reading_and_below_in_the_other_is_told_as_such():
    gain, above, below = (Interval(1.0, low, high, 10, 3) for low, high in ((1, 2), (0.1, 0.2), (-0.2, -0.1)))
    assert blending.answer(gain, above, below) == blending.BEYOND
    assert blending.answer(gain, below, above) == blending.LESS


def test_trainings_are_paired_by_the_seeds_that_both_have():
    base, arm = nets(), nets(seed=1)
    a, b = blending.together(arm.of([2, 0]), base)
    assert a.seeds == b.seeds == (2, 0) and (b.kept == base.kept[:, [2, 0]]).all()
    a, b = blending.together(replace(arm, seeds=(5, 6, 7)), base.of([0, 1]))
    assert a.seeds == (5, 6) and b.seeds == (0, 1)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_the_intervals_hold_the_true_distance_as_often_as_they_say(share):
    """Trainings of both methods are drawn anew, the arm .05 above the curve; 95 % intervals of 100 studies."""
    many = nets(patients=4000, luck=0)
    true, at = curve(many), moved(many, kept=0.05, share=share)
    gain, kept = at.gain().mean(), at.kept.mean()
    wanted = gain - true.gain(true.share_of_kept(kept)), kept - true.left(true.share_of_gain(gain))
    held = np.zeros(2)
    for number in range(100):
        base, other = (nets(seed=2 * number + i, luck=0.15) for i in (0, 1))
        found = compare(moved(other, kept=0.05, share=share), base, draws=200)
        spans = found.less_error, found.more_kept
        held += [one.low <= true_one <= one.high for one, true_one in zip(spans, wanted)]
    assert (held >= 90).all(), held


# ---- what it stands on ----
def test_the_filter_of_a_networks_ttf_is_the_filter_where_the_network_is_one():
    made = resolution.insert(300.0, 20, 3)
    frequencies, transfer = resolution.transferred(made, lambda hu: ndimage.gaussian_filter(hu, (0, 0.8, 0.8)), 0.25)
    low = frequencies < 0.3
    expected = np.exp(-2 * (np.pi * frequencies[low] * 0.8) ** 2)
    assert transfer[0] == pytest.approx(1) and transfer[low] == pytest.approx(expected, abs=0.03)
    _, signal = lesions()
    linear = resolution.filtered(signal, frequencies, transfer)
    direct = ndimage.gaussian_filter(signal, (0, 0.8, 0.8), mode="wrap")
    assert np.abs(linear - direct).max() < 0.02 * signal.max()
    same = resolution.filtered(signal, [0.0, 0.5], [1.0, 1.0])
    assert same == pytest.approx(signal, abs=1e-9)


def test_total_variation_does_more_at_a_larger_weight_where_it_may_take_its_time():
    image = np.random.default_rng(0).normal(0, 20, (64, 64)).astype(np.float32)
    image[:, 32:] += 1000
    left = [classical.build("tv", weight_hu=w, iterations=150, eps=1e-5)(image)[:, :24].std() for w in (10, 20, 40)]
    assert np.all(np.diff(left) < 0)
