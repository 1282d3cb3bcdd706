"""Equivalence and worse-by-more-than-a-margin of two groups: two one-sided t tests, and the intervals that they are.

A difference that was not shown is no equivalence: that needs a margin, fixed before the data are seen, and an interval
inside it. The unit is whatever one value stands for, e.g. a training with its own seed.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from ldct_utils.stats import intervals


@dataclass(frozen=True)
class Difference:
    """A mean difference with its standard error and degrees of freedom; both NaN where a group has fewer than 2 values.

    ``n``: values of the first and of the second group.
    """

    mean: float
    se: float
    df: float
    n: tuple[int, int]

    @property
    def known(self) -> bool:
        """Whether there are enough values for a test."""
        return bool(np.isfinite(self.se))

    def interval(self, level: float = 1 - 2 * intervals.ALPHA) -> tuple[float, float]:
        """Two-sided t interval; by default the 90 % one, whose ends are those of two one-sided tests at 5 %."""
        if not self.known:
            return float("nan"), float("nan")
        reach = distributions.t.ppf((1 + level) / 2, self.df) * self.se if self.se > 0 else 0.0
        return self.mean - reach, self.mean + reach

    def p_above(self, bound: float) -> float:
        """p of the one-sided test that the true difference is above ``bound``; NaN with too few values."""
        if not self.known:
            return float("nan")
        gap = self.mean - bound
        if self.se == 0:
            return float(gap <= 0)
        return float(distributions.t.sf(gap / self.se, self.df))

    def p_below(self, bound: float) -> float:
        """p of the one-sided test that the true difference is below ``bound``; NaN with too few values."""
        return Difference(-self.mean, self.se, self.df, self.n).p_above(-bound)

    def p_equivalent(self, margin: float) -> float:
        """p of the two one-sided tests that the difference lies within ± ``margin``: the larger of theirs.

        Source: Schuirmann 1987, J Pharmacokinet Biopharm 15:657.
        Raises: ValueError: for a margin that is not above 0.
        """
        if not margin > 0:
            raise ValueError(f"a margin of equivalence is above 0, got {margin!r}")
        return float(np.maximum(self.p_above(-margin), self.p_below(margin)))


def independent(first, second) -> Difference:
    """Difference of the means of two groups, first - second, whose variances may differ (Welch's degrees of freedom).

    Raises: ValueError: for an empty group or values that are not finite.
    """
    first, second = (intervals.finite(values)[0].ravel() for values in (first, second))
    n, mean = (first.size, second.size), float(first.mean() - second.mean())
    if min(n) < 2:
        return Difference(mean, float("nan"), float("nan"), n)
    parts = np.array([first.var(ddof=1) / n[0], second.var(ddof=1) / n[1]])
    total = parts.sum()
    df = total**2 / (parts**2 / (np.array(n) - 1)).sum() if total > 0 else sum(n) - 2
    return Difference(mean, float(np.sqrt(total)), float(df), n)
