"""Chains of dataset rows from start to goal."""

from __future__ import annotations

import numpy as np
import pytest

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.stitching import nearest_continuations, shortest_chain


def walks(*points):
    """Episodes along given points (n + 1, 2) each."""
    lengths = [len(path) - 1 for path in points]
    ends = np.cumsum(lengths) - 1
    truncations = np.zeros(sum(lengths), dtype=bool)
    truncations[ends] = True
    return EpisodeArrays(
        observations=np.concatenate([path[:-1] for path in points]).astype(np.float32),
        actions=np.zeros((sum(lengths), 1), dtype=np.float32),
        rewards=np.zeros(sum(lengths), dtype=np.float32),
        terminations=np.zeros(sum(lengths), dtype=bool),
        truncations=truncations,
        episode_ids=np.repeat(np.arange(len(points)), lengths).astype(np.int32),
        final_observations=np.stack([path[-1] for path in points]).astype(np.float32),
    )


def line(start, stop, steps, offset=0.0):
    path = np.linspace(start, stop, steps + 1)
    return np.column_stack([path, np.full(steps + 1, offset)])


def test_nearest_rows_by_brute_force():
    rng = np.random.default_rng(0)
    arrays = walks(*(rng.uniform(0, 3, (21, 2)) for _ in range(6)))
    nearest, distances = nearest_continuations(arrays, bin_size=1.0)
    scale = arrays.observations.std(axis=0)
    successors = arrays.next_observations()
    for row in range(len(nearest)):
        gaps = np.linalg.norm((arrays.observations - successors[row]) / scale, axis=1)
        other = arrays.episode_ids != arrays.episode_ids[row]
        same_square = (np.floor(arrays.observations) == np.floor(successors[row])).all(axis=1)
        gaps[~(other & same_square)] = np.inf
        assert distances[row] == pytest.approx(gaps.min(), abs=1e-3)
        if np.isfinite(gaps.min()):
            assert gaps[nearest[row]] == pytest.approx(gaps.min(), abs=1e-3)


def test_two_halves_are_joined_by_one_jump():
    arrays = walks(line(0, 5, 10), line(4, 9, 10, offset=0.1))
    starts, goals = arrays.observations[:, 0] < 0.1, arrays.observations[:, 0] > 8.4
    chain = shortest_chain(arrays, starts, goals, bin_size=20.0)
    assert chain is not None
    assert chain.rows[[0, -1]].tolist() == [0, 19]
    assert chain.jumps.sum() == 1
    where = int(np.flatnonzero(chain.jumps)[0])
    gap = arrays.observations[chain.rows[where]] - arrays.next_observations()[chain.rows[where - 1]]
    assert np.linalg.norm(gap / arrays.observations.std(axis=0)) <= chain.threshold + 1e-6
    assert 0 < chain.quantile < 0.7


def test_a_jump_to_the_next_row_of_the_file_counts():
    """The first trajectory ends where the second, stored right after it, begins."""
    arrays = walks(line(0, 5, 5), line(5, 9, 4))
    starts, goals = np.arange(9) == 0, np.arange(9) == 8
    chain = shortest_chain(arrays, starts, goals, bin_size=20.0)
    assert chain is not None
    np.testing.assert_array_equal(chain.rows, np.arange(9))
    assert np.flatnonzero(chain.jumps).tolist() == [5]


def test_no_chain_across_a_gap():
    arrays = walks(line(0, 3, 6), line(0.2, 3, 6), line(10, 13, 6), line(10.2, 13, 6))
    starts, goals = arrays.observations[:, 0] < 1, arrays.observations[:, 0] > 12
    assert shortest_chain(arrays, starts, goals, bin_size=1.0) is None


def test_one_trajectory_needs_no_jump():
    arrays = walks(line(0, 9, 9), line(0, 1, 4))
    starts, goals = np.zeros(13, dtype=bool), np.zeros(13, dtype=bool)
    starts[0], goals[8] = True, True
    chain = shortest_chain(arrays, starts, goals)
    assert chain is not None
    assert not chain.jumps.any()
    np.testing.assert_array_equal(chain.rows, np.arange(9))
    alone = shortest_chain(walks(line(0, 9, 9)), starts[:9], goals[:9])
    assert alone is not None
    np.testing.assert_array_equal(alone.rows, np.arange(9))
    assert alone.threshold == 0.0
