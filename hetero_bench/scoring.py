"""Statistics over score matrices: what a set of runs scored. Their uncertainty: ``bootstrap.py``.

A *task* is a dataset with its environment, a *run* is one training seed, a *score* is a run's
normalised score in percent (0 = random policy, 100 = reference expert). Every task weighs the same
in every statistic, and the runs of a task share its weight equally, so tasks may have different
numbers of runs. With equal numbers each statistic equals the one of the same name in

    Agarwal, Schwarzer, Castro, Courville & Bellemare (2021), "Deep Reinforcement Learning at the
    Edge of the Statistical Precipice", NeurIPS 34 (below: "Agarwal et al.").

A statistic is a function ``statistic(scores, weights)``. The weights say how much each run counts;
by default each counts as it was observed. A bootstrap resample is another set of weights (Efron &
Tibshirani 1993, "An Introduction to the Bootstrap": resampling vectors), so thousands of resamples
cost one matrix product, or one cumulative sum over runs that are sorted once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

GAMMA = 100.0
"""Threshold of the optimality gap, percent: the reference expert."""


class Scores:
    """The scores of one method: runs grouped by task, possibly different numbers of runs per task.

    Attributes:
        values: (n,) float64, percent; all runs, those of task 0 first.
        counts: (T,) int64, runs of each task.
        starts: (T,) int64, index of each task's first run in ``values``.
        weights: (n,) float64, 1 / (T * runs of the run's task); sums to 1.
    """

    def __init__(self, tasks: Sequence[ArrayLike]) -> None:
        """Stores one array of scores per task.

        Args:
            tasks: T sequences of run scores, percent.

        Raises:
            ValueError: No task, a task without runs or not one-dimensional, or a score that is
                not finite.
        """
        arrays = [np.asarray(task, dtype=np.float64) for task in tasks]
        if not arrays:
            raise ValueError("no scores: expected at least one task with at least one run")
        for index, array in enumerate(arrays):
            if array.ndim != 1 or array.size == 0:
                raise ValueError(
                    f"scores of task {index} have shape {array.shape}; expected (runs,), runs >= 1"
                )
            if not np.isfinite(array).all():
                run = int(np.flatnonzero(~np.isfinite(array))[0])
                raise ValueError(
                    f"run {run} of task {index} scored {array[run]}; expected finite scores. "
                    "Score a diverged run by the returns that its policy reached."
                )
        self.values = np.concatenate(arrays)
        self.counts = np.array([array.size for array in arrays], dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.weights = np.repeat(1.0 / (len(arrays) * self.counts), self.counts)

    @classmethod
    def of(cls, scores: ScoresLike) -> Scores:
        """Takes ``Scores``, a (runs, tasks) matrix, or a sequence of one array of runs per task."""
        if isinstance(scores, Scores):
            return scores
        if isinstance(scores, np.ndarray):
            if scores.ndim != 2:
                raise ValueError(f"score matrix has shape {scores.shape}; expected (runs, tasks)")
            return cls(list(scores.T))
        return cls(scores)

    @property
    def num_tasks(self) -> int:
        """Number of tasks, T."""
        return len(self.counts)

    @property
    def fewest_runs(self) -> int:
        """Number of runs of the task that has fewest."""
        return int(self.counts.min())

    def check_same_tasks(self, other: Scores) -> None:
        """Raises ValueError unless ``other`` has the same number of tasks."""
        if self.num_tasks != other.num_tasks:
            raise ValueError(
                f"cannot compare scores on {self.num_tasks} tasks with scores on "
                f"{other.num_tasks}; give both methods' scores on the same tasks in the same order"
            )


ScoresLike = Scores | np.ndarray | Sequence[ArrayLike]
"""What every statistic takes: see ``Scores.of``."""


def normalized_scores(returns: ArrayLike, random: float, expert: float) -> np.ndarray:
    """Scores in percent: 0 = random policy, 100 = reference expert (Fu et al. 2020, "D4RL").

    Args:
        returns: Undiscounted returns, any shape.
        random: Return of the random policy.
        expert: Return of the reference expert.

    Returns:
        float64 array of the shape of ``returns``; not clipped.

    Raises:
        ValueError: ``expert`` does not exceed ``random``, or one of them is not finite.
    """
    if not (math.isfinite(random) and math.isfinite(expert) and expert > random):
        raise ValueError(
            f"reference returns are random={random}, expert={expert}; "
            "expected finite numbers, expert above random"
        )
    return 100.0 * (np.asarray(returns, dtype=np.float64) - random) / (expert - random)


def mean(scores: ScoresLike, weights: np.ndarray | None = None) -> Any:
    """Mean over tasks of the mean over runs.

    Args:
        scores: One method's scores.
        weights: (..., n) weights of the runs; as observed by default.

    Returns:
        Percent, shape (...): a float by default. The same holds for the statistics below.
    """
    scores, weights = _weighted(scores, weights)
    return weights @ scores.values


def task_means(scores: ScoresLike, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over runs of each task, shape (..., T)."""
    scores, weights = _weighted(scores, weights)
    return np.add.reduceat(weights * scores.values, scores.starts, axis=-1) * scores.num_tasks


def median(scores: ScoresLike, weights: np.ndarray | None = None) -> Any:
    """Median over tasks of the mean over runs (Agarwal et al., section 2)."""
    return np.median(task_means(scores, weights), axis=-1)


def iqm(scores: ScoresLike, weights: np.ndarray | None = None) -> Any:
    """Interquartile mean: the mean of the middle half of all runs (Agarwal et al., section 4.3).

    A share floor(n / 4) / n of the weight is trimmed at each end, n being the number of runs. With
    equally many runs per task this cuts floor(n / 4) whole runs (the 25% trimmed mean); otherwise
    the run at the edge counts in part.
    """
    scores, weights = _weighted(scores, weights)
    order = np.argsort(scores.values)
    trimmed = (scores.values.size // 4) / scores.values.size
    weights = weights[..., order]
    upper = np.cumsum(weights, axis=-1)
    kept = np.minimum(upper, 1.0 - trimmed) - np.maximum(upper - weights, trimmed)
    kept = np.maximum(kept, 0.0)
    return kept @ scores.values[order] / kept.sum(axis=-1)


def optimality_gap(
    scores: ScoresLike, weights: np.ndarray | None = None, *, gamma: float = GAMMA
) -> Any:
    """Mean amount by which scores miss ``gamma`` percent; scores above it miss nothing.

    Smaller is better (Agarwal et al., section 4.3).
    """
    scores, weights = _weighted(scores, weights)
    return weights @ np.maximum(gamma - scores.values, 0.0)


def performance_profile(
    scores: ScoresLike, weights: np.ndarray | None = None, *, thresholds: ArrayLike
) -> np.ndarray:
    """Run-score distribution: the share of runs that score above each threshold.

    Source: Agarwal et al., section 4.2.

    Args:
        scores: One method's scores.
        weights: (..., n) weights of the runs; as observed by default.
        thresholds: (K,) thresholds, percent.

    Returns:
        (..., K) fractions in [0, 1], non-increasing in the threshold.
    """
    scores, weights = _weighted(scores, weights)
    above = scores.values[:, None] > np.asarray(thresholds, dtype=np.float64)
    return weights @ above.astype(np.float64)


def probability_of_improvement(
    x: ScoresLike,
    y: ScoresLike,
    x_weights: np.ndarray | None = None,
    y_weights: np.ndarray | None = None,
) -> Any:
    """Probability that a run of X beats a run of Y on a task drawn at random, ties counting half.

    Per task the Mann-Whitney U statistic over its largest value (Mann & Whitney 1947), averaged
    over tasks (Agarwal et al., section 4.3).

    Args:
        x: Scores of method X.
        y: Scores of method Y on the same tasks in the same order.
        x_weights: (..., n_x) weights of the runs; as observed by default.
        y_weights: (..., n_y) weights of the runs; as observed by default.

    Returns:
        Fraction in [0, 1], shape (...).

    Raises:
        ValueError: Different numbers of tasks.
    """
    x, x_weights = _weighted(x, x_weights)
    y, y_weights = _weighted(y, y_weights)
    x.check_same_tasks(y)
    total: Any = 0.0
    for x_start, x_count, y_start, y_count in zip(
        x.starts, x.counts, y.starts, y.counts, strict=True
    ):
        of_x, of_y = slice(x_start, x_start + x_count), slice(y_start, y_start + y_count)
        wins = 0.5 + 0.5 * np.sign(x.values[of_x, None] - y.values[of_y])
        total = total + np.sum((x_weights[..., of_x] @ wins) * y_weights[..., of_y], axis=-1)
    # Either method's weights sum to 1/T in each task, so a task's share above is 1/T².
    return total * x.num_tasks


def _weighted(scores: ScoresLike, weights: np.ndarray | None) -> tuple[Scores, np.ndarray]:
    scores = Scores.of(scores)
    return scores, scores.weights if weights is None else weights
