"""Whether two sets of runs score the same, as far as they tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from hetero_bench.bootstrap import LEVEL, Interval

MARGIN = 5.0
"""Points of the normalised score within which two implementations count as equal."""

Verdict = Literal["equal", "undecided", "differs"]


def mean_difference(
    ours: Sequence[float], theirs: Sequence[float], level: float = LEVEL
) -> Interval:
    """Returns the difference of the means of two samples with Welch's interval.

    Welch (1947), "The generalization of 'Student's' problem when several different population
    variances are involved", Biometrika 34; degrees of freedom after Satterthwaite. The bootstrap
    would be too sure of itself with five runs, and "equal" is the verdict that has to be earned.

    Args:
        ours: Scores of our runs, one per seed.
        theirs: Scores of the other library's.
        level: Coverage of the interval.

    Returns:
        Ours less theirs; the bounds are NaN if a side has fewer than two runs.

    Raises:
        ValueError: If a side has no run.
    """
    if not ours or not theirs:
        raise ValueError(f"{len(ours)} against {len(theirs)} runs; expected at least one of each")
    samples = [np.asarray(each, np.float64) for each in (ours, theirs)]
    estimate = float(samples[0].mean() - samples[1].mean())
    if min(map(len, samples)) < 2:
        return Interval(estimate, math.nan, math.nan)
    parts = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    freedom_of_each = np.array([len(sample) - 1 for sample in samples])
    variance = float(parts.sum())
    if variance == 0.0:
        return Interval(estimate, estimate, estimate)
    freedom = variance**2 / float((parts**2 / freedom_of_each).sum())
    half = float(stats.t.ppf(0.5 * (1.0 + level), freedom)) * math.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half)


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
