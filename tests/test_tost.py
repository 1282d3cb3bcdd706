"""Two one-sided tests against statsmodels, at their edges, and in their error rates."""

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_ind

from ldct_utils.stats import tost

RNG = np.random.default_rng(4)
FIRST, SECOND = RNG.normal(2.9, 0.08, 5), RNG.normal(2.87, 0.15, 7)


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.2, 0.5])
def test_p_of_independent_groups_is_that_of_statsmodels(margin):
    p, lower, upper = ttost_ind(FIRST, SECOND, -margin, margin, usevar="unequal")
    found = tost.independent(FIRST, SECOND)
    assert found.p_equivalent(margin) == pytest.approx(p, rel=1e-9)
    assert found.p_above(-margin) == pytest.approx(lower[1], rel=1e-9)
    assert found.p_below(margin) == pytest.approx(upper[1], rel=1e-9)
    assert found.n == (5, 7)


def test_the_interval_lies_inside_the_margin_exactly_where_the_test_says_equivalent():
    found = tost.independent(FIRST, SECOND)
    low, high = found.interval()
    for margin in np.linspace(0.01, 0.4, 60):
        assert (found.p_equivalent(margin) < 0.05) == (-margin < low and high < margin)
    assert found.p_above(low) == pytest.approx(0.05) and found.p_below(high) == pytest.approx(0.05)


def test_a_difference_of_the_margin_is_called_equivalent_in_at_most_five_percent():
    rng, fired = np.random.default_rng(0), 0
    for _ in range(2000):
        found = tost.independent(rng.normal(0.2, 0.1, 5), rng.normal(0, 0.1, 5))
        fired += found.p_equivalent(0.2) < 0.05
    assert 0.03 < fired / 2000 < 0.065


def test_one_value_a_group_gives_a_difference_and_no_test():
    found = tost.independent([3.0], [2.5, 2.6])
    assert found.mean == pytest.approx(0.45) and not found.known and found.n == (1, 2)
    assert np.isnan([found.p_equivalent(0.2), found.p_above(0), *found.interval()]).all()


def test_groups_without_spread_are_told_by_their_means_alone():
    same = tost.independent([1.0, 1.0], [1.0, 1.0])
    assert same.p_equivalent(0.1) == 0 and same.interval() == (0, 0)
    apart = tost.independent([1.5, 1.5], [1.0, 1.0])
    assert apart.p_equivalent(0.1) == 1 and apart.p_above(0.2) == 0 and apart.p_above(0.5) == 1


@pytest.mark.parametrize("margin", [0, -0.2, float("nan")])
def test_a_margin_must_be_positive(margin):
    with pytest.raises(ValueError, match="margin"):
        tost.independent(FIRST, SECOND).p_equivalent(margin)


def test_values_must_be_finite_and_there():
    with pytest.raises(ValueError, match="finite"):
        tost.independent([1.0, np.inf], [1.0])
    with pytest.raises(ValueError, match="no values"):
        tost.independent([], [1.0])
