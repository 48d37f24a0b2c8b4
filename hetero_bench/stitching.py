"""Can a dataset be stitched together into a way from start to goal?

Offline methods must join parts of different trajectories. A *chain* is a sequence of dataset rows
in which each row follows the one before in its own trajectory, or comes from another trajectory
and begins within a small distance of where the row before ended: a *jump*. Distances are Euclidean
between standardised observations. What is small is told by the data itself: the quantile of the
jump's distance among the distances from every row's successor to the nearest row of another
trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hetero_bench.arrays import EpisodeArrays

_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Chain:
    """A way through a dataset.

    Attributes:
        rows: (n,) row numbers in order, from a start row to a goal row.
        jumps: (n,) bool, whether a row continues another trajectory than the row before.
        threshold: No jump is longer, in standardised units: the smallest threshold, on a grid of
            quantiles, that leaves any chain.
        quantile: Share of nearest-neighbour distances that are at most ``threshold``.
    """

    rows: np.ndarray
    jumps: np.ndarray
    threshold: float
    quantile: float


def nearest_continuations(
    arrays: EpisodeArrays, bin_size: float, positions: slice = slice(0, 2)
) -> tuple[np.ndarray, np.ndarray]:
    """Finds, for each row's successor, the nearest row of another trajectory.

    Only rows whose position lies in the same square are looked at, so that a million rows take
    seconds to minutes.

    Args:
        arrays: ``N`` rows with vector observations.
        bin_size: Side of the squares, in the units of the positions.
        positions: Which observation entries are the position.

    Returns:
        (N,) int64 row numbers, -1 where the square has none, and (N,) float32 distances, infinite
        there.
    """
    observations, successors = arrays.observations, arrays.next_observations()
    scale = observations.std(axis=0)
    scale[scale == 0] = 1.0
    here = (observations / scale).astype(np.float32)
    there = (successors / scale).astype(np.float32)
    squares = _squares(observations[:, positions], bin_size)
    ends = _squares(successors[:, positions], bin_size)
    nearest = np.full(len(here), -1, dtype=np.int64)
    distances = np.full(len(here), np.inf, dtype=np.float32)
    order = np.lexsort(squares.T)
    groups = np.flatnonzero(np.any(np.diff(squares[order], axis=0), axis=1)) + 1
    members = {tuple(squares[rows[0]]): rows for rows in np.split(order, groups)}
    asking = np.lexsort(ends.T)
    groups = np.flatnonzero(np.any(np.diff(ends[asking], axis=0), axis=1)) + 1
    for rows in np.split(asking, groups):
        candidates = members.get(tuple(ends[rows[0]]))
        if candidates is None:
            continue
        points = here[candidates]
        norms = (points**2).sum(axis=1)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            squared = (
                norms - 2.0 * there[block] @ points.T + (there[block] ** 2).sum(axis=1)[:, None]
            )
            own = arrays.episode_ids[block][:, None] == arrays.episode_ids[candidates]
            squared[own] = np.inf
            best = squared.argmin(axis=1)
            found = squared[np.arange(len(block)), best]
            valid = np.isfinite(found)
            nearest[block[valid]] = candidates[best[valid]]
            distances[block[valid]] = np.sqrt(np.maximum(found[valid], 0.0))
    return nearest, distances


def shortest_chain(
    arrays: EpisodeArrays,
    starts: np.ndarray,
    goals: np.ndarray,
    *,
    bin_size: float = 1.0,
    quantiles: np.ndarray | None = None,
) -> Chain | None:
    """Finds the chain with the tightest jumps, and of those one with the fewest.

    Args:
        arrays: ``N`` rows whose observations begin with x and y.
        starts: (N,) bool, rows that a chain may begin with.
        goals: (N,) bool, rows that it may end with.
        bin_size: Of :func:`nearest_continuations`.
        quantiles: Ascending quantiles of the distances to try as threshold.

    Returns:
        The chain, or None where even the largest threshold leaves none.

    Raises:
        ImportError: If SciPy is not installed.
    """
    csgraph, sparse = _scipy()
    size = arrays.num_transitions
    nearest, distances = nearest_continuations(arrays, bin_size)
    known = distances[np.isfinite(distances)]
    last = np.zeros(size, dtype=bool)
    last[arrays.episode_starts()[1:] - 1] = True
    going_on = np.flatnonzero(~last)
    source, sink = size, size + 1
    jump_cost, step_cost = 1.0, 1e-6
    for quantile in np.linspace(0.01, 1.0, 100) if quantiles is None else quantiles:
        threshold = float(np.quantile(known, quantile)) if len(known) else 0.0
        jumping = np.flatnonzero(distances <= threshold)
        origins = [going_on, jumping, np.full(starts.sum(), source), np.flatnonzero(goals)]
        targets = [going_on + 1, nearest[jumping], np.flatnonzero(starts)]
        targets.append(np.full(goals.sum(), sink))
        costs = np.concatenate(
            [
                np.full(len(going_on), step_cost),
                np.full(len(jumping), jump_cost),
                np.full(len(origins[2]) + len(origins[3]), step_cost),
            ]
        )
        graph = sparse.csr_matrix(
            (costs, (np.concatenate(origins), np.concatenate(targets))), shape=(size + 2, size + 2)
        )
        _, before = csgraph.breadth_first_order(graph, source)
        if before[sink] < 0:
            continue
        _, before = csgraph.dijkstra(graph, indices=source, return_predecessors=True)
        rows = _walk_back(before, sink, source)
        # The row after an episode's last one is another episode's: going there is a jump too.
        jumps = np.append(False, (np.diff(rows) != 1) | last[rows[:-1]])
        return Chain(rows, jumps, threshold, float(quantile))
    return None


def _squares(positions: np.ndarray, bin_size: float) -> np.ndarray:
    return np.floor(positions / bin_size).astype(np.int64)


def _walk_back(before: np.ndarray, sink: int, source: int) -> np.ndarray:
    rows = []
    node = before[sink]
    while node != source:
        rows.append(node)
        node = before[node]
    return np.array(rows[::-1], dtype=np.int64)


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import sparse
        from scipy.sparse import csgraph
    except ImportError as error:
        raise ImportError(
            "stitching trajectories needs SciPy: pip install 'hetero-bench[baselines]'"
        ) from error
    return csgraph, sparse
