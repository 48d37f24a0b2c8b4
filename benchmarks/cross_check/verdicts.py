"""Whether two sets of runs score the same, as far as they tell."""

from __future__ import annotations

import math
from typing import Literal

from hetero_bench.bootstrap import Interval

MARGIN = 5.0
"""Points of the normalised score within which two implementations count as equal."""

Verdict = Literal["equal", "undecided", "differs"]


def verdict(difference: Interval, margin: float = MARGIN) -> Verdict:
    """Says what an interval of a difference shows.

    Returns:
        ``equal`` if it lies inside ±margin, ``differs`` if it lies outside, and ``undecided`` if it
        crosses a bound or there is none.
    """
    if math.isnan(difference.low):
        return "undecided"
    if -margin <= difference.low and difference.high <= margin:
        return "equal"
    if difference.low > margin or difference.high < -margin:
        return "differs"
    return "undecided"
