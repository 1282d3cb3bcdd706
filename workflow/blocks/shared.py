"""What blocks of several subjects need: places that are filled in when a block is written, and a range in words."""

import math

from ldct_utils.answers.words import fixed

FOLDER = "{results}/"  # where pictures lie, seen from the page that a block stands on
STUDY = "{study}"


def between(ranges) -> str:
    """``0.52 to 1.30``, the least and the largest number in these ranges; None is beyond what can be measured."""
    ends = [math.inf if one is None else one for several in ranges for one in several]
    told = ("beyond measure" if math.isinf(one) else fixed(one) for one in (min(ends), max(ends)))
    return " to ".join(dict.fromkeys(told))
