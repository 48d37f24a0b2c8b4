"""How sure a score is: stratified bootstrap intervals, comparisons of methods, rank intervals.

The runs of each task are resampled with replacement, independently of the other tasks; tasks are
not resampled, as a benchmark's tasks are fixed. Intervals are percentile intervals. Sources:

    Efron (1979), "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7.
    Agarwal, Schwarzer, Castro, Courville & Bellemare (2021), "Deep Reinforcement Learning at the
    Edge of the Statistical Precipice", NeurIPS 34, section 4.1.

Nothing is seeded globally: each random function takes a ``numpy.random.Generator``, and the same
generator state gives the same interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hetero_bench.scoring import Scores, ScoresLike

RESAMPLES = 10_000
LEVEL = 0.95
CHUNK_ELEMENTS = 2**20
"""Run weights held at once while resampling: 8 MiB, times a few temporaries."""
TOLERANCE = 1e-9
"""Differences below this are rounding: methods that score the same are never told apart by it."""

Statistic = Callable[..., Any]
"""``statistic(*scores, *weights)``: S ``Scores`` and S arrays (R, n_s) to values (R, ...)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate and its confidence interval; the bounds are NaN where there is none."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside the interval; False where there is no interval."""
        return bool(self.low > value + TOLERANCE or self.high < value - TOLERANCE)


@dataclass(frozen=True, slots=True)
class RankInterval:
    """A rank (1 is best; ties share the smaller number) and the ranks the runs cannot exclude."""

    rank: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of one or several methods' scores with its bootstrap distribution.

    Attributes:
        scores: The scores that it was computed from, one entry per method.
        value: The statistic as observed.
        distribution: (R,) float64, the statistic of each resample.
    """

    scores: tuple[Scores, ...]
    value: float
    distribution: np.ndarray

    def interval(self, level: float = LEVEL) -> Interval:
        """The estimate with its percentile interval.

        The bounds are NaN if some task has a single run, which says nothing about how runs vary.

        Raises:
            ValueError: ``level`` is not between 0 and 1.
        """
        low, high = percentiles(self.distribution, level)
        if any(scores.fewest_runs < 2 for scores in self.scores):
            low = high = math.nan
        return Interval(self.value, float(low), float(high))


def bootstrap(
    statistic: Statistic,
    *scores: ScoresLike,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Stratified bootstrap distribution of a statistic of one or several methods.

    Methods are resampled independently, each from its own child of ``rng``. Resamples are made in
    chunks of at most ``CHUNK_ELEMENTS`` run weights; the chunk size does not change the result.

    Args:
        statistic: Called as ``statistic(*scores, *weights)`` with (rows, n) weights per method.
        *scores: One argument per method.
        rng: Source of randomness.
        resamples: Number of resamples, R.

    Returns:
        (R, ...) values of the statistic.

    Raises:
        ValueError: ``resamples`` is not positive.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    samples = [Scores.of(one) for one in scores]
    streams = rng.spawn(len(samples))
    rows = max(1, CHUNK_ELEMENTS // sum(sample.values.size for sample in samples))
    parts = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        weights = [
            resampled_weights(sample, stream, count)
            for sample, stream in zip(samples, streams, strict=True)
        ]
        parts.append(statistic(*samples, *weights))
    return np.concatenate(parts)


def resampled_weights(scores: Scores, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Draws stratified resamples of one method's runs.

    Args:
        scores: The scores, n runs.
        rng: Source of randomness; n uniform numbers are used per resample.
        resamples: Number of resamples, R.

    Returns:
        (R, n) float64: how often each run was drawn times the weight of a run of its task.
    """
    size = scores.values.size
    first, count = (np.repeat(array, scores.counts) for array in (scores.starts, scores.counts))
    drawn = first + (rng.random((resamples, size)) * count).astype(np.int64)
    cells = drawn + size * np.arange(resamples)[:, None]
    times = np.bincount(cells.ravel(), minlength=resamples * size)
    return times.reshape(resamples, size) * scores.weights


def percentiles(distribution: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Central interval of a bootstrap distribution (R, ...): array (2, ...), low then high."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; expected a fraction between 0 and 1, such as 0.95")
    return np.quantile(distribution, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)


def estimate(
    statistic: Statistic,
    *scores: ScoresLike,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Computes a scalar statistic and its bootstrap distribution; arguments as ``bootstrap``."""
    samples = tuple(Scores.of(one) for one in scores)
    value = float(statistic(*samples, *(sample.weights for sample in samples)))
    return Estimate(samples, value, bootstrap(statistic, *samples, rng=rng, resamples=resamples))


def difference(x: Estimate, y: Estimate) -> Estimate:
    """The estimate of X minus that of Y.

    Args:
        x: A statistic of method X.
        y: The same statistic of method Y on the same tasks, with as many resamples, drawn from
            another stream (or later from the same generator): runs of X and Y are independent.

    Returns:
        The difference, in the statistic's unit.

    Raises:
        ValueError: Different numbers of tasks or resamples.
    """
    for mine, other in zip(x.scores, y.scores, strict=True):
        mine.check_same_tasks(other)
    if x.distribution.shape != y.distribution.shape:
        raise ValueError(
            f"cannot compare {len(x.distribution)} resamples with {len(y.distribution)}; "
            "bootstrap both methods with the same number"
        )
    return Estimate(x.scores + y.scores, x.value - y.value, x.distribution - y.distribution)


def enough_runs(x: ScoresLike, y: ScoresLike, level: float = LEVEL) -> bool:
    """Whether any test could tell X from Y at this level with so few runs.

    The bootstrap is over-confident with a handful of runs. A permutation test within tasks cannot
    give a two-sided p-value below 2 / prod_t C(n_x + n_y, n_x) (Fisher 1935, "The Design of
    Experiments"); where that exceeds 1 - level, as with 3 runs against 3 on one task, nothing is
    shown.
    """
    x, y = Scores.of(x), Scores.of(y)
    x.check_same_tasks(y)
    arrangements = math.prod(
        math.comb(n_x + n_y, n_x)
        for n_x, n_y in zip(x.counts.tolist(), y.counts.tolist(), strict=True)
    )
    return arrangements * (1.0 - level) >= 2.0 * (1.0 - 1e-9)


def decide(x: Estimate, y: Estimate, level: float = LEVEL) -> int:
    """Whether X is shown to differ from Y: runs are enough and the interval of X - Y excludes 0.

    Returns:
        1 if X is shown to be larger, -1 if Y is, 0 if it is undecided.
    """
    if not enough_runs(x.scores[0], y.scores[0], level):
        return 0
    interval = difference(x, y).interval(level)
    return int(math.copysign(1.0, interval.low)) if interval.excludes(0.0) else 0


def rank_intervals(
    estimates: Mapping[str, Estimate], level: float = LEVEL
) -> dict[str, RankInterval]:
    """Ranks by an aggregate of which more is better, with the ranks the runs cannot exclude.

    A method ranks at best 1 + the number of methods shown better than it, and at worst M minus the
    number shown worse. Shown means: at level 1 - (1 - level) / (M - 1), so that the rank interval
    as a whole keeps ``level`` (Mogstad, Romano, Shaikh & Wilhelm 2024, "Inference for Ranks with
    Applications to Mobility across Neighbourhoods and Academic Achievement across Countries",
    Review of Economic Studies; here with a Bonferroni bound). Percentiles of bootstrapped ranks,
    the obvious choice, are too narrow for methods that are nearly tied.

    Args:
        estimates: The same statistic of each of the M methods, fit for ``difference``.
        level: Coverage aimed at for each method's rank interval.

    Returns:
        Rank interval of each method, in the order given.
    """
    adjusted = 1.0 - (1.0 - level) / max(1, len(estimates) - 1)
    better = dict.fromkeys(estimates, 0)
    worse = dict.fromkeys(estimates, 0)
    for (x, of_x), (y, of_y) in itertools.combinations(estimates.items(), 2):
        order = decide(of_x, of_y, adjusted)
        if order != 0:
            winner, loser = (x, y) if order > 0 else (y, x)
            worse[winner] += 1
            better[loser] += 1
    return {
        name: RankInterval(
            rank=1 + sum(one.value > mine.value + TOLERANCE for one in estimates.values()),
            low=1 + better[name],
            high=len(estimates) - worse[name],
        )
        for name, mine in estimates.items()
    }
