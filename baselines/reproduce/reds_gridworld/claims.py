"""The paper's claims about its maze, each with what was measured and a verdict.

A verdict follows from intervals by a rule, not from reading: ``held`` if the interval lies on the
claim's side, ``not held`` if it lies on the other, ``undecided`` if it covers both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from baselines.reproduce.reds_gridworld import series
from baselines.reproduce.reds_gridworld.findings import Findings
from baselines.reproduce.reds_gridworld.regions import compare_widths, success_region
from baselines.reproduce.reds_gridworld.results import SOLVED, Cell, best, difference, select
from baselines.reproduce.reds_gridworld.sweep import CQL_PAPER_ALPHAS, AWR_PAPER_TEMPERATURES
from hetero_bench.bootstrap import Interval
from hetero_bench.formatting import bounds, estimate, number

Verdict = Literal["held", "not held", "undecided"]
REDS_SUCCESS = 0.8
"""Share of episodes in which the paper's CQL (ReDS) traverses the maze."""


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
        text: What is claimed.
        source: Where.
        measured: What was measured, in words and numbers.
        verdict: What follows.
    """

    text: str
    source: str
    measured: str
    verdict: Verdict


def above(interval: Interval, value: float) -> Verdict:
    """Whether a quantity is at least ``value``."""
    if interval.low >= value:
        return "held"
    return "not held" if interval.high < value else "undecided"


def below(interval: Interval, value: float) -> Verdict:
    """Whether a quantity is less than ``value``."""
    opposite: dict[Verdict, Verdict] = {"held": "not held", "not held": "held"}
    return opposite.get(above(interval, value), "undecided")


def all_hold(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether every one of several statements holds."""
    found = set(verdicts)
    if "not held" in found:
        return "not held"
    return "undecided" if "undecided" in found else "held"


def consistent(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that all of several comparisons agree on, else ``undecided``."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else "undecided"
