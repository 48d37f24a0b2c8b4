"""The range of α in which a method succeeds, and where success is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from baselines.reproduce.reds_gridworld.results import SUCCEEDING_SEEDS, Cell, seed_weights
from hetero_bench.bootstrap import Interval, percentiles

LEVEL = SUCCEEDING_SEEDS
"""Edges are where mean success crosses this. Seeds nearly always solve all episodes or none, so it
is where a setting stops to succeed."""


@dataclass(frozen=True)
class Region:
    """The succeeding values of α on a grid.

    Attributes:
        lowest: Smallest succeeding α.
        highest: Largest succeeding α.
        bounded_below: Whether a smaller α was tried; if not, the region may go on.
        bounded_above: Whether a larger α was tried.
        gaps: Values between the two that do not succeed.
    """

    lowest: float
    highest: float
    bounded_below: bool
    bounded_above: bool
    gaps: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Width as a factor: largest over smallest succeeding α."""
        return self.highest / self.lowest


def success_region(succeeds: Mapping[float, bool]) -> Region | None:
    """Returns the region of a grid of α, or None if no α succeeds."""
    grid = sorted(succeeds)
    inside = [alpha for alpha in grid if succeeds[alpha]]
    if not inside:
        return None
    lowest, highest = inside[0], inside[-1]
    return Region(
        lowest=lowest,
        highest=highest,
        bounded_below=lowest > grid[0],
        bounded_above=highest < grid[-1],
        gaps=tuple(a for a in grid if lowest < a < highest and not succeeds[a]),
    )


class Edges(NamedTuple):
    """Where success is gained and lost, by the curve of mean success.

    Attributes:
        lower: (R,) smallest α at which success reaches the level; 0 where it does so at the
            smallest α tried, so that the edge is unknown.
        upper: (R,) largest α at which success has the level; infinite where it still has it at the
            largest α tried.
    """

    lower: np.ndarray
    upper: np.ndarray


def success_edges(alphas: Sequence[float], success: np.ndarray, level: float = LEVEL) -> Edges:
    """Finds the edges of curves, interpolated linearly in log α between the values tried.

    Args:
        alphas: (K,) ascending.
        success: (R, K) curves.
        level: Success at an edge.

    Returns:
        NaN where a curve is nowhere at the level.
    """
    logs = np.log(np.asarray(alphas, np.float64))
    upper = np.exp(_last_crossing(logs, success, level))
    lower = np.exp(-_last_crossing(-logs[::-1], success[:, ::-1], level))
    return Edges(lower, upper)


def _last_crossing(x: np.ndarray, curves: np.ndarray, level: float) -> np.ndarray:
    """Returns (R,) the largest x at which (R, K) curves fall through a level; inf, NaN as above."""
    above = curves >= level
    last = above.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
    edge = np.full(len(curves), np.nan)
    edge[above[:, -1]] = np.inf
    inside = np.flatnonzero(above.any(axis=1) & ~above[:, -1])
    k = last[inside]
    here, after = curves[inside, k], curves[inside, k + 1]
    edge[inside] = x[k] + (here - level) / (here - after) * (x[k + 1] - x[k])
    return edge


def mean_curve(cells: Sequence[Cell]) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Returns α, the (1, K) curve of mean success and its (R, K) bootstrap.

    Args:
        cells: Cells of one series, ascending in α, all with the same seeds.
    """
    rates = np.array([cell.rates for cell in cells])
    alphas = [cell.setting.alpha or 0.0 for cell in cells]
    return alphas, rates.mean(axis=1)[None], seed_weights(rates.shape[1]) @ rates.T


def edge_intervals(cells: Sequence[Cell]) -> tuple[Interval, Interval]:
    """Returns lower and upper edge of a series of cells, with bootstrap intervals.

    Edges outside the values tried count as the outermost value tried.
    """
    observed, drawn = (_clipped_edges(cells, index) for index in (0, 1))
    return _interval(observed.lower, drawn.lower), _interval(observed.upper, drawn.upper)


class Widths(NamedTuple):
    """Two methods' ranges of α compared.

    Attributes:
        first: Upper over lower edge of the first method.
        second: Of the second.
        ratio: First width over second.
        upper: First upper edge over second.
        lower: First lower edge over second.
    """

    first: Interval
    second: Interval
    ratio: Interval
    upper: Interval
    lower: Interval


def compare_widths(first: Sequence[Cell], second: Sequence[Cell]) -> Widths:
    """Compares the widths of two series of cells, resampling the same seeds in both.

    Edges outside the values tried count as the outermost value tried; so the series should have
    equally many of them, at equal distances. A series that nowhere succeeds has width 1.
    """
    values = []
    for index in (0, 1):  # as observed, resampled
        a, b = (_clipped_edges(cells, index) for cells in (first, second))
        widths = a.upper / a.lower, b.upper / b.lower
        values.append((*widths, widths[0] / widths[1], a.upper / b.upper, a.lower / b.lower))
    return Widths(*map(_interval, *values))


def _clipped_edges(cells: Sequence[Cell], index: int) -> Edges:
    alphas, *curves = mean_curve(cells)
    edges = success_edges(alphas, curves[index])
    middle = float(np.sqrt(alphas[0] * alphas[-1]))
    finite = (np.where(np.isnan(edge), middle, edge) for edge in edges)
    return Edges(*(np.clip(edge, alphas[0], alphas[-1]) for edge in finite))


def _interval(observed: np.ndarray, drawn: np.ndarray) -> Interval:
    low, high = percentiles(drawn)
    return Interval(float(observed[0]), float(low), float(high))
