"""Small datasets for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np

from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_arrays
from hetero_bench.dataset import Dataset
from hetero_bench.provenance import Provenance
from hetero_bench.spec import DatasetSpec

CART_POLE = {"id": "CartPole-v1", "max_episode_steps": 500}


def random_arrays(
    lengths: Sequence[int] = (3, 1, 4),
    *,
    terminated: Sequence[bool] | None = None,
    observation_shape: tuple[int, ...] = (4,),
    observation_dtype: str = "float32",
    num_actions: int | None = 2,
    action_size: int = 3,
    extras: bool = True,
    seed: int = 0,
) -> EpisodeArrays:
    """Episodes of random numbers; continuous actions in [-1, 1] if ``num_actions`` is None."""
    rng = np.random.default_rng(seed)
    rows, episodes = sum(lengths), len(lengths)
    ends = np.zeros(rows, dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    is_terminal = np.zeros(rows, dtype=bool)
    is_terminal[ends] = [e % 2 == 0 for e in range(episodes)] if terminated is None else terminated

    def observations(count: int) -> np.ndarray:
        values = rng.normal(size=(count, *observation_shape)) * 50 + 100
        return values.astype(observation_dtype)

    if num_actions is None:
        actions = rng.uniform(-1, 1, (rows, action_size)).astype(np.float32)
    else:
        actions = rng.integers(num_actions, size=rows)
    more = {}
    if extras:
        weights = rng.random((rows, 2)).astype(np.float32)
        more = {
            "behaviour_probabilities": weights / weights.sum(axis=1, keepdims=True),
            "states": rng.integers(9, size=rows).astype(np.int16),
        }
    return EpisodeArrays(
        observations=observations(rows),
        actions=actions,
        rewards=rng.normal(size=rows).astype(np.float32),
        terminations=ends & is_terminal,
        truncations=ends & ~is_terminal,
        episode_ids=np.repeat(np.arange(episodes, dtype=np.int32), lengths),
        final_observations=observations(episodes),
        extras=more,
    )


def dataset_of(arrays: EpisodeArrays, **fields: Any) -> Dataset:
    """A dataset in memory, with specification fields set or replaced."""
    arrays.validate()
    table = {
        "name": "toy",
        "version": 0,
        "family": "toy",
        "summary": "Random numbers.",
        "sources": [{"kind": "d4rl", "path": "toy.hdf5"}],
        "licence": "MIT",
        "citation": "Nobody (2024).",
        "rewards": {"semantics": "none"},
        **fields,
    }
    provenance = Provenance(
        status="unpinned",
        source="d4rl",
        digest=dataset_digest(digest_arrays(arrays)),
        versions={"numpy": np.__version__},
        made_at="2024-01-01T00:00:00+00:00",
    )
    return Dataset(spec=DatasetSpec.model_validate(table), arrays=arrays, provenance=provenance)


def assert_equal_arrays(actual: EpisodeArrays, expected: EpisodeArrays) -> None:
    """Asserts that all arrays have equal names, shapes, dtypes and bytes; notes may differ."""
    assert digest_arrays(actual) == digest_arrays(expected), [
        name
        for name, digest in digest_arrays(expected).items()
        if digest_arrays(actual).get(name) != digest
    ]


def assert_resimulates(arrays: EpisodeArrays, env: gymnasium.Env, episodes: Iterable[int]) -> None:
    """Asserts that stored episodes come out of the simulator again, bit for bit."""
    starts, successors = arrays.episode_starts(), arrays.next_observations()
    for episode in episodes:
        start, stop = starts[episode : episode + 2]
        observation, _ = env.reset(seed=int(arrays.extras["reset_seeds"][start]))
        np.testing.assert_array_equal(np.float32(observation), arrays.observations[start])
        for row in range(start, stop):
            observation, reward, terminated, truncated, _ = env.step(arrays.actions[row])
            np.testing.assert_array_equal(np.float32(observation), successors[row])
            assert np.float32(reward) == arrays.rewards[row]
            assert terminated == arrays.terminations[row]
            assert not truncated or arrays.truncations[row]
