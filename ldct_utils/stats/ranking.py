"""Orders of methods: which ranks luck does not explain, and which pairs two measures put the other way round."""

import numpy as np
import pandas as pd
from scipy import stats as distributions

from ldct_utils.stats import intervals


def critical_difference(methods: int, patients: int) -> float:
    """Difference of two mean ranks beyond what luck explains (Nemenyi's test; Demšar 2006, JMLR 7:1, section 3.2.2)."""
    quantile = distributions.studentized_range.ppf(1 - intervals.ALPHA, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * patients)))


def told_together(mean_ranks, gap: float) -> list[tuple[int, int]]:
    """Groups of methods whose mean ranks lie within ``gap`` of each other.

    Args: mean_ranks: (methods,), rising. gap: from ``critical_difference``.
    Returns: (first, last) method of every group of two or more that is not part of a larger one.
    """
    mean_ranks, groups = np.asarray(mean_ranks, np.float64), []
    for first, rank in enumerate(mean_ranks):
        last = int(np.flatnonzero(mean_ranks <= rank + gap)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def reversed_pairs(values: pd.DataFrame, base: pd.DataFrame, draws: int = 10_000, seed: int = 0) -> tuple[int, int]:
    """How many pairs of methods two measures order differently, beyond the intervals of both differences.

    Args: values, base: (patients, methods), the same methods; patients that only one of them has are left out.
    Returns: reversed pairs, and all pairs.
    """
    names, patients = list(values), values.index.intersection(base.index)
    turned = 0
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            gaps = [(t.loc[patients, first] - t.loc[patients, second]).to_numpy() for t in (values, base)]
            spans = [intervals.patient_bootstrap(gap, draws=draws, seed=seed) for gap in gaps]
            turned += bool(all(s.excludes_zero for s in spans) and spans[0].mean * spans[1].mean < 0)
    return turned, len(names) * (len(names) - 1) // 2
