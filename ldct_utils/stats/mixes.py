"""The curve of mixes of a network's output with its input, and its interval: gain in PSNR against contrast kept."""

import numpy as np
import pandas as pd

from ldct_utils.stats import blending, intervals


def band(to: blending.Curve, shares, draws: int, seed: int = 0) -> pd.DataFrame:
    """The blends of a curve: share, kept, gain (dB), and the interval of its distance: low, high.

    Args: shares: of the input; those off the curve are left out.
    """
    found = []
    for share in (one for one in shares if one >= to.best):
        gap = to.base.gain(share) - to.slope(share) * (to.base.left(share) - to.left(share))
        span = intervals.patient_bootstrap(gap, draws=draws, seed=seed)
        found.append((share, to.left(share), span.mean, span.low, span.high))
    return pd.DataFrame(found, columns=["share", "kept", "gain", "low", "high"])


def of_base(tests, listed, table, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """``band`` of the method whose mixes with the LDCT stand beside the others in ``testing.kept_of_methods``.

    Args: tests: stored tests. listed: method and seed of each of them, a row a test. table: of ``kept_of_methods``, a
        row at least. draws, seed: of the bootstrap.
    Returns: of ``band``, and faint: the share kept of faint lesions, NaN where there are none. A mix keeps all of what
        comes from the LDCT and the method's own share of the rest.
    """
    base, target = table["base"].iloc[0], table["target"].iloc[0]
    own = [(test, its_seed) for test, name, its_seed in zip(tests, listed.method, listed.seed) if name == base]
    squares, kept = (pd.concat([test.table(name).assign(seed=s) for test, s in own]) for name in ("squares", "kept"))
    curve = blending.curve(blending.measured(squares[squares["target"] == target], kept))
    found, faint = band(curve, np.linspace(-1, 1, 81), draws, seed), table.set_index("method")["faint"][base]
    return found.assign(faint=found["share"] + (1 - found["share"]) * faint)
