"""What the blocks share: a number with its interval, and how a run's tables are asked.

A span is {"value", "low", "high"}; without an interval low and high are absent.
"""

import math
import re


def span(value, low=None, high=None) -> dict:
    """A number and its interval; ends that are not there are left out, what is infinite is None: beyond what was
    looked at."""
    found = {"value": None if math.isinf(value) else float(value)}
    ends = {"low": low, "high": high}
    return found | {k: (float(v) if math.isfinite(v) else None) for k, v in ends.items() if v is not None and v == v}


def ends(text) -> tuple:
    """The two numbers of an interval that a notebook stored as text, ``[0.31, 0.75]``; (None, None) for a dash."""
    found = re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", str(text).replace("−", "-"))
    return tuple(map(float, found)) if len(found) == 2 else (None, None)


def of_trainings(values) -> dict:
    """The mean of a method's trainings; its ends, where there are several, are the least and the most of them."""
    return span(values.mean(), *((values.min(), values.max()) if len(values) > 1 else ()))


def has(run, name: str) -> bool:
    return f"{name}.parquet" in run.result["files"]


def where(table, **equal):
    """The rows of a table whose columns have these values; a table without rows may lack the columns."""
    for column, value in equal.items() if len(table) else ():
        table = table[table[column] == value]
    return table
