"""Intervals for differences of mean scores: what a handful of runs can show.

Welch (1947), "The generalization of 'Student's' problem when several different population
variances are involved", Biometrika 34; degrees of freedom after Satterthwaite (1946). For pairs,
Student (1908), "The probable error of a mean", Biometrika 6. With five runs a side on one task a
bootstrap interval that says 95% misses the truth in 12 of 100 cases and Welch's in 5, and a verdict
on a claim has to be earned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from hetero_bench.bootstrap import LEVEL, Interval
from hetero_bench.scoring import Scores, ScoresLike


def contrast(
    plus: Sequence[ScoresLike], minus: Sequence[ScoresLike], level: float = LEVEL
) -> Interval:
    """Returns the sum of some methods' mean scores less that of others', with its interval.

    Args:
        plus: Scores of the methods that are added; of each the mean over its tasks counts, tasks
            weighing the same.
        minus: Scores of the methods that are taken off.
        level: Coverage of the interval.

    Returns:
        The difference; the bounds are NaN if a task has fewer than two runs. It has no width if
        the runs do not vary.
    """
    estimate, parts, freedoms = 0.0, [], []
    for sign, several in ((1.0, plus), (-1.0, minus)):
        for scores in map(Scores.of, several):
            for runs in np.split(scores.values, scores.starts[1:]):
                estimate += sign * float(runs.mean()) / scores.num_tasks
                freedoms.append(len(runs) - 1)
                if len(runs) > 1:
                    parts.append(runs.var(ddof=1) / len(runs) / scores.num_tasks**2)
    if min(freedoms) == 0:
        return Interval(estimate, math.nan, math.nan)
    variance = float(np.sum(parts))
    if variance == 0.0:
        return Interval(estimate, estimate, estimate)
    freedom = variance**2 / float(np.sum(np.square(parts) / freedoms))
    half = float(stats.t.ppf(0.5 * (1.0 + level), freedom)) * math.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half)


def paired_contrast(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns the mean of paired differences with Student's interval.

    Args:
        first: (R,) values, such as scores of runs after something was done to them.
        second: (R,) values of the same runs before.
        level: Coverage of the interval.

    Returns:
        The mean of first less second; the bounds are NaN for one pair.
    """
    differences = np.subtract(first, second)
    estimate, count = float(differences.mean()), len(differences)
    if count < 2:
        return Interval(estimate, math.nan, math.nan)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf(0.5 * (1.0 + level), count - 1)) * error
    return Interval(estimate, estimate - half, estimate + half)
