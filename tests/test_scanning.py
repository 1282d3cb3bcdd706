"""Detection with search against its theory."""

import numpy as np
import pytest
from scipy.stats import norm

from ldct_utils.task_based import observers, scanning


def test_the_area_of_independent_places_is_the_one_of_the_theory():
    known = {0: 0.0167, 1: 0.115, 2: 0.390, 3: 0.736}
    for d_prime, area in known.items():
        assert scanning.lroc_area(d_prime, 30) == pytest.approx(area, abs=5e-4)
    assert scanning.lroc_area(0, 30) == pytest.approx(1 / 60, rel=1e-6)


def test_of_a_single_place_it_is_the_usual_auc():
    d_primes = np.array([0.0, 1.0, 2.5])
    assert scanning.lroc_area(d_primes, 1) == pytest.approx(norm.cdf(d_primes / 2**0.5), abs=1e-6)
    with pytest.raises(ValueError, match="at least one place"):
        scanning.lroc_area(1.0, 0.5)


@pytest.mark.parametrize("d_prime", [0.0, 1.0, 2.0, 3.0])
def test_a_search_over_independent_places_finds_what_the_theory_says(d_prime):
    rng, count, places = np.random.default_rng(3), 4000, 30
    absent, present = rng.normal(size=(2, count, places))
    where = rng.integers(places, size=count)
    present[np.arange(count), where] += d_prime
    hit = present.argmax(1) == where
    area = scanning._area(absent.max(1), present.max(1), hit)
    assert area == pytest.approx(scanning.lroc_area(d_prime, places), abs=0.02)


def test_ties_count_half_and_misses_do_not_count():
    absent, present = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 6.0])
    assert scanning._area(absent, present, np.array([True, True])) == pytest.approx((2 + 4) / 8)
    assert scanning._area(absent, present, np.array([True, False])) == pytest.approx(2 / 8)


def test_responses_are_those_of_the_regions_around_each_place():
    rng = np.random.default_rng(0)
    images, channels = rng.normal(size=(3, 21, 30)), rng.normal(size=(2, 49))
    places = scanning.grid((21, 30), 7, 3)
    found = scanning.responses(images, channels, places, batch=2)
    for number, place in enumerate(places):
        seen = scanning.around(images, [place] * 3, 7).reshape(3, -1)
        assert found[:, number] == pytest.approx(seen @ channels.T, abs=1e-4)


def scene(contrast, count=200, size=48, radius=2.0, seed=0):
    """White noise with a disc at a random place of the grid: both classes and the places."""
    rng = np.random.default_rng(seed)
    absent, present = rng.normal(0, 10.0, (2, count, size, size)).astype(np.float32)
    where = scanning.grid((size, size), 17, 2)
    where = where[rng.integers(len(where), size=count)]
    y, x = np.mgrid[:size, :size]
    for image, (row, column) in zip(present, where):
        image += contrast * (np.hypot(y - row, x - column) <= radius)
    return absent, present, where


def test_search_costs_and_a_stronger_lesion_is_found_more_often():
    areas = [scanning.search(*scene(c), 2.0, 17).auc for c in (5.0, 10.0, 20.0)]
    assert areas == sorted(areas) and areas[-1] > 0.95
    absent, present, where = scene(10.0)
    known_place = [scanning.around(images, where, 17) for images in (absent, present)]
    assert observers.cho(*known_place, 2.0).auc > areas[1] + 0.05


def test_where_there_is_no_lesion_search_guesses():
    found = scanning.search(*scene(0.0, count=400), 2.0, 17)
    places = scanning.grid((48, 48), 17, 2)
    assert found.chance == pytest.approx(scanning.guesses(places, 2.0).mean() / 2)
    assert found.auc == pytest.approx(found.chance, abs=0.02)
    held = [scanning.search(*scene(0.0, 100, seed=s), 2.0, 17, anywhere=True) for s in range(40)]
    assert np.mean([one.auc_low <= 0.5 <= one.auc_high for one in held]) >= 0.85
    assert {one.chance for one in held} == {0.5}


def test_a_template_learned_elsewhere_is_kept():
    """A shift of grey values leaves a kept template as it was; inverted images mislead it, and not a retrained one."""
    absent, present, where = scene(15.0)
    plain = scanning.search(absent, present, where, 2.0, 17)
    kept = scanning.search(-absent, -present, where, 2.0, 17, trained_on=(absent, present))
    assert scanning.search(-absent, -present, where, 2.0, 17).auc == pytest.approx(plain.auc, abs=1e-9)
    assert kept.auc < 0.1 < plain.auc


def test_no_miss_is_not_an_infinite_d_prime():
    found = scanning.search(*scene(100.0, 60), 2.0, 17)
    assert found.auc == 1 and found.d_prime < scanning.D_PRIMES[-1]


def test_lesions_off_the_grid_and_wrong_shapes_are_refused():
    absent, present, where = scene(10.0, 40)
    with pytest.raises(ValueError, match="off the grid"):
        scanning.search(absent, present, where + 1, 2.0, 17)
    with pytest.raises(ValueError, match="classes"):
        scanning.search(absent[:-1], present, where, 2.0, 17)
    with pytest.raises(ValueError, match="no place"):
        scanning.grid((16, 40), 17)
