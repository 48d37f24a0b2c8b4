"""Continuous-action datasets whose behaviour is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.dataset import Dataset
from tests.helpers import dataset_of

NARROW, WIDE = 0.15, 0.25
"""Noise where the first observation is negative, and elsewhere."""


def controller(observations: np.ndarray) -> np.ndarray:
    """(n, 2) means, functions of (n, 3) observations."""
    return np.stack(
        [0.5 * np.tanh(observations[:, 0]), 0.3 * observations[:, 1] * observations[:, 2]], axis=1
    )


def noise(observations: np.ndarray) -> np.ndarray:
    """(n,) standard deviations."""
    return np.where(observations[:, 0] < 0.0, NARROW, WIDE)


def gaussian_dataset(
    rows: int = 1000,
    *,
    episodes: int = 20,
    stds: Any = None,
    shifts: Any = 0.0,
    waypoint_extras: bool = True,
    recorded: bool = True,
    seed: int = 0,
    **fields: Any,
) -> Dataset:
    """Actions are the controller's plus noise, clipped to ±1; every state has one waypoint."""
    rng = np.random.default_rng(seed)
    observations = rng.uniform(-1.0, 1.0, (rows, 3)).astype(np.float32)
    means = controller(observations)
    stds = np.broadcast_to(noise(observations) if stds is None else stds, (rows,))
    shifts = np.broadcast_to(shifts, (rows,))
    raw = means + shifts[:, None] + stds[:, None] * rng.standard_normal(means.shape)
    extras = {
        "controller_means": means.astype(np.float32),
        "noise_means": shifts.astype(np.float32),
        "noise_stds": stds.astype(np.float32),
    }
    if waypoint_extras:
        extras["waypoints"] = rng.uniform(-1.0, 1.0, (rows, 2)).astype(np.float32)
    ids = np.sort(np.arange(rows) % episodes).astype(np.int32)
    ends = np.append(np.diff(ids) > 0, True)
    arrays = EpisodeArrays(
        observations=observations,
        actions=np.clip(raw, -1.0, 1.0).astype(np.float32),
        rewards=np.zeros(rows, np.float32),
        terminations=np.zeros(rows, bool),
        truncations=ends,
        episode_ids=ids,
        final_observations=np.zeros((episodes, 3), np.float32),
        extras=extras if recorded else {},
    )
    return dataset_of(arrays, **fields)
