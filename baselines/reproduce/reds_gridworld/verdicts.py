"""Verdicts follow from bootstrap intervals by rule, not from reading.

``held``: the interval lies on the statement's side. ``not held``: it lies on the other.
``undecided``: it covers both, or there is none.
"""

from __future__ import annotations

from collections.abc import Iterable

from baselines.reproduce.reds_gridworld.results import Cell
from baselines.reproduce.verdicts import Verdict
from hetero_bench.bootstrap import Interval
from hetero_bench.formatting import bounds, estimate, number

_ROUNDING = 1e-9


def at_least(interval: Interval, value: float) -> Verdict:
    """Whether a quantity is at least ``value``."""
    if interval.low >= value - _ROUNDING:
        return "held"
    return "not held" if interval.high < value - _ROUNDING else "undecided"


def less_than(interval: Interval, value: float) -> Verdict:
    """Whether a quantity is less than ``value``."""
    return negation(at_least(interval, value))


def more_than(interval: Interval, value: float) -> Verdict:
    """Whether a quantity exceeds ``value``."""
    if interval.low > value + _ROUNDING:
        return "held"
    return "not held" if interval.high <= value + _ROUNDING else "undecided"


def negation(verdict: Verdict) -> Verdict:
    """The verdict on the opposite statement."""
    opposite: dict[Verdict, Verdict] = {"held": "not held", "not held": "held"}
    return opposite.get(verdict, "undecided")


def unanimous(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that all of several comparisons give, ``undecided`` if they differ."""
    first, *others = verdicts
    return first if all(other == first for other in others) else "undecided"


def describe(cell: Cell) -> str:
    """A cell's hyperparameters in words."""
    setting = cell.setting
    parts = [
        f"{name} = {value:g}"
        for name, value in (("α", setting.alpha), ("τ", setting.tau), ("T", setting.temperature))
        if value is not None
    ]
    if setting.rho_term not in (None, "mean"):
        parts.append(f"ρ: {setting.rho_term}")
    if setting.reward_scale != 1.0:
        parts.append(f"rewards × {setting.reward_scale:g}")
    return ", ".join(parts)


def percent(interval: Interval) -> str:
    """An interval of shares, in percent."""
    scaled = Interval(*(100.0 * each for each in (interval.estimate, interval.low, interval.high)))
    return f"{number(scaled.estimate, 0)}% {bounds(scaled, 0)}"


def points(interval: Interval) -> str:
    """A difference of shares, in percentage points."""
    scaled = Interval(*(100.0 * each for each in (interval.estimate, interval.low, interval.high)))
    return f"{estimate(scaled, 0)} points"


def significant(value: float) -> str:
    """Three significant digits, or all of a large number's."""
    return f"{value:,.0f}" if value >= 1000.0 else f"{value:.3g}"
