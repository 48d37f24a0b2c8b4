"""The rules by which intervals decide claims on differences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from baselines.reproduce.contrasts import paired_contrast
from hetero_bench.bootstrap import TOLERANCE, Interval

Direction = Literal["more", "equal"]
"""Whether a quantity is said to be more than nothing, or nothing."""
Verdict = Literal["held", "not held", "undecided"]
MARGIN = 5.0
"""Scores that differ by less are said to be equal, percentage points."""
FEWEST_PAIRS = 5
"""Pairs below which a paired difference decides nothing: four all go one way in 1 case of 8 by
chance, and the interval rests on three degrees of freedom."""


def decide(direction: Direction, interval: Interval, *, enough: bool) -> Verdict:
    """Returns the verdict on a quantity.

    ``held``: there are enough runs for any test to tell, and the interval lies on the claim's side:
    above 0 for *more*, within ``MARGIN`` of 0 for *equal*. ``not held``: it lies below 0, or beyond
    the margin. ``undecided``: anything else, and equality of runs that do not vary: all may have
    failed.

    Args:
        direction: What is claimed.
        interval: Of the quantity; for *equal*, in percentage points.
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


def more_in_pairs(first: ArrayLike, second: ArrayLike) -> tuple[Interval, Verdict]:
    """Returns the mean of paired differences, and the verdict on its being more than nothing.

    Args:
        first: (R,) values of runs.
        second: (R,) values of the same runs that are taken off.
    """
    found = paired_contrast(first, second)
    return found, decide("more", found, enough=np.size(first) >= FEWEST_PAIRS)


def reach(interval: Interval) -> float:
    """Returns the larger of an estimate's distances to the bounds."""
    return max(interval.high - interval.estimate, interval.estimate - interval.low)


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether every one of several statements holds.

    Raises:
        ValueError: If there is none.
    """
    found = set(verdicts)
    if not found:
        raise ValueError("no statement; expected at least one")
    if "not held" in found:
        return "not held"
    return "undecided" if "undecided" in found else "held"
