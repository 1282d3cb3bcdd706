"""Orders of methods: which pairs two measures put the other way round."""

import pandas as pd

from ldct_utils.stats import intervals


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
