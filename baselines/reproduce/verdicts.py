"""The rule by which an interval decides a claim on a difference of scores."""

from __future__ import annotations

import math
from typing import Literal

from hetero_bench.bootstrap import TOLERANCE, Interval

Direction = Literal["more", "equal"]
"""Whether a quantity is said to be more than nothing, or nothing."""
Verdict = Literal["held", "not held", "undecided"]
MARGIN = 5.0
"""Scores that differ by less are said to be equal, percentage points."""


def decide(direction: Direction, interval: Interval, *, enough: bool) -> Verdict:
    """Returns the verdict on a quantity.

    ``held``: there are enough runs for any test to tell, and the interval lies on the claim's side:
    above 0 for *more*, within ``MARGIN`` of 0 for *equal*. ``not held``: it lies below 0, or beyond
    the margin. ``undecided``: anything else, and equality of runs that do not vary: all may have
    failed.

    Args:
        direction: What is claimed.
        interval: Of the quantity, percentage points.
        enough: Whether there are enough runs for any test to tell.
    """
    if not enough or math.isnan(interval.low):
        return "undecided"
    low, high = interval.low, interval.high
    if direction == "more":
        return "undecided" if not interval.excludes(0.0) else "held" if low > 0.0 else "not held"
    if max(-low, high) < MARGIN - TOLERANCE:
        return "held" if reach(interval) > TOLERANCE else "undecided"
    return "not held" if max(low, -high) > MARGIN + TOLERANCE else "undecided"


def reach(interval: Interval) -> float:
    """Returns the larger of an estimate's distances to the bounds."""
    return max(interval.high - interval.estimate, interval.estimate - interval.low)
