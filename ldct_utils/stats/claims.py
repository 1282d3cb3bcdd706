"""A claim of equivalence with its controls: what must hold before two ways of training may be called equally good.

The margin is fixed beforehand and the unit is a training with its own seed. Equivalence alone is not enough, since an
insensitive test finds everything equal: every control, a training with one thing wrong, must be worse by more than the
margin in the first measure, and in every other measure one control at least must differ by more than the margin.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils.stats import intervals, tost

COLUMNS = [
    *("measure", "role", "first", "second", "difference", "low", "high", "p", "n_first", "n_second", "holds")
]  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """What was decided of two arms.

    Attributes:
        verdict: ``equivalent``, ``worse`` or ``better`` (of the first arm, by more than the margin), ``not decided``.
        reasons: why it is not decided, each in words; empty for the others.
        table: the comparisons behind it, columns ``COLUMNS``; differences are first - second, positive = first better,
            low and high are their 90 % interval, ``holds`` is None where there are too few trainings.
    """

    verdict: str
    reasons: list
    table: pd.DataFrame


def decide(values: pd.DataFrame, first: str, second: str, controls: list, margin: float) -> Claim:
    """Whether the first arm is as good as the second by every measure.

    Equivalence is asked of every measure at once, so no correction for several tests is due (all must hold).

    Args:
        values: columns arm, seed, measure, value; higher is better; a row a training and measure. The measure that
            comes first decides whether the controls lose.
        first, second: the arms that are compared. controls: arms that must lose against the first one.
        margin: of equivalence and of losing, in the unit of the values.
    """
    arms = set(values["arm"])
    missing = [f"there is no network {name}" for name in (first, second) if name not in arms]
    if missing:
        return Claim("not decided", missing, pd.DataFrame(columns=COLUMNS))
    table = pd.DataFrame(_compared(values, first, second, controls, margin), columns=COLUMNS)
    claims, tests = table[table["role"] == "claim"], table[table["role"] == "control"]
    main = claims.iloc[0]
    reasons = []
    if main["holds"] is None:
        few = int(min(main["n_first"], main["n_second"]))
        return Claim("not decided", [f"{few} training of an arm shows no spread between trainings"], table)
    if not controls:
        reasons.append("there is no control that had to lose")
    lost = tests[tests["measure"] == main["measure"]]
    for row in lost[lost["holds"].map(lambda one: one is not True)].itertuples():
        reasons.append(f"the control “{row.second}” was not shown to lose by more than the margin")
    for row in claims.iloc[1:].itertuples():
        seen = tests[tests["measure"] == row.measure]["holds"].map(lambda one: one is True)
        if len(seen) and not seen.any():
            reasons.append(f"no control differs by more than the margin in {row.measure}")
    for row in claims[~claims["holds"].astype(bool)].itertuples():
        side = _side(row, margin)
        reasons.append(
            f"{first} are {side} by more than the margin in {row.measure}"
            if side
            else f"{row.measure} was not shown to be equal"
        )
    if side := _side(main, margin):
        return Claim(side, [], table)
    return Claim("not decided" if reasons else "equivalent", reasons, table)


def _side(row, margin) -> str | None:
    """On which side of the margin the whole interval lies, ``better`` or ``worse``; None where it reaches inside."""
    return "better" if row.low > margin else "worse" if row.high < -margin else None


def _compared(values, first, second, controls, margin):
    """Rows of the table: per measure the claim, then the controls."""
    measures = list(dict.fromkeys(values["measure"]))
    for measure in measures:
        part = values[values["measure"] == measure].groupby("arm")["value"]
        of = {arm: one.to_numpy() for arm, one in part}
        for role, other in [("claim", second), *(("control", name) for name in controls)]:
            if first not in of or other not in of:
                continue
            found = tost.independent(of[first], of[other])
            low, high = found.interval()
            if role == "claim":
                p = found.p_equivalent(margin)
            elif measure == measures[0]:
                p = found.p_above(margin)
            else:  # on either side
                p = float(np.minimum(1, 2 * np.minimum(found.p_above(margin), found.p_below(-margin))))
            holds = bool(p < intervals.ALPHA) if found.known else None
            yield measure, role, first, other, found.mean, low, high, p, *found.n, holds
