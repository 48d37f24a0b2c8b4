"""How numbers, intervals and names are written in tables, messages and figures."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from hetero_bench.bootstrap import Interval, RankInterval

NONE = "–"
"""What stands where there is no value."""


def number(value: float, digits: int = 1) -> str:
    """Fixed-point with a true minus sign; a dash for NaN."""
    if math.isnan(value):
        return NONE
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def bounds(interval: Interval, digits: int = 1) -> str:
    """``[low, high]``, or a dash where there is no interval."""
    if math.isnan(interval.low):
        return NONE
    return f"[{number(interval.low, digits)}, {number(interval.high, digits)}]"


def estimate(interval: Interval, digits: int = 1) -> str:
    """``estimate [low, high]``."""
    value = number(interval.estimate, digits)
    return value if math.isnan(interval.low) else f"{value} {bounds(interval, digits)}"


def plus_minus(mean: float, std: float, digits: int = 1) -> str:
    """``mean ± std``, without the latter where it is NaN."""
    value = number(mean, digits)
    return value if math.isnan(std) else f"{value} ± {number(std, digits)}"


def mean_and_std(values: ArrayLike, digits: int = 1) -> str:
    """``mean ± std`` of a sample, the standard deviation with n - 1; none for one value."""
    sample = np.asarray(values, np.float64)
    std = float(sample.std(ddof=1)) if sample.size > 1 else math.nan
    return plus_minus(float(sample.mean()), std, digits)


def rank(interval: RankInterval) -> str:
    """``2`` or ``1–3``: the ranks that the runs cannot exclude."""
    if interval.low == interval.high:
        return str(interval.low)
    return f"{interval.low}–{interval.high}"


def integers(values: Iterable[int]) -> str:
    """Sorted whole numbers with ranges joined: ``0–4, 7``."""
    groups: list[list[int]] = []
    for value in sorted(set(values)):
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    return ", ".join(
        str(group[0]) if len(group) == 1 else f"{group[0]}–{group[-1]}" for group in groups
    )


def printable(text: str) -> str:
    """Replaces control characters, so that no name can steer a terminal or break a picture."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shorten(text: str, length: int) -> str:
    """Cuts long text, marking the cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
