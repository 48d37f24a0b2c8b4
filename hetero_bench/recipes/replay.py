"""A replay buffer that keeps every transition with its true successor and its episode."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

ROW_ARRAYS = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "terminations",
    "truncations",
    "episode_ids",
)


class Batch(NamedTuple):
    """B transitions as torch tensors, float32.

    Attributes:
        observations: (B, S).
        actions: (B, A).
        next_observations: (B, S).
        rewards: (B,).
        continues: (B,) 0 where the episode terminated, else 1.
    """

    observations: Any
    actions: Any
    next_observations: Any
    rewards: Any
    continues: Any


class RecordedReplay:
    """Rows in the order they were collected, in a buffer that never overwrites.

    Takes the arguments that Stable-Baselines3 gives a replay buffer.

    Args:
        buffer_size: Rows of room.
        observation_space: Box (S,).
        action_space: Box (A,) with bounds -1 and 1: what is stored is what was executed.
        *args: Ignored (device).
        n_envs: Must be one.
        **kwargs: Ignored.

    Attributes:
        arrays: For each of ``ROW_ARRAYS``, an array with ``buffer_size`` rows, the first
            ``size()`` filled. Truncations are time limits; they do not stop bootstrapping.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: Any,
        action_space: Any,
        *args: Any,
        n_envs: int = 1,
        **kwargs: Any,
    ) -> None:
        if n_envs != 1 or np.any(action_space.low != -1) or np.any(action_space.high != 1):
            raise ValueError(
                f"{n_envs} environments with actions in {action_space}: expected one environment "
                "with actions between -1 and 1"
            )
        observation, action = observation_space.shape, action_space.shape
        self.arrays = {
            "observations": np.zeros((buffer_size, *observation), np.float32),
            "next_observations": np.zeros((buffer_size, *observation), np.float32),
            "actions": np.zeros((buffer_size, *action), np.float32),
            "rewards": np.zeros(buffer_size, np.float32),
            "terminations": np.zeros(buffer_size, bool),
            "truncations": np.zeros(buffer_size, bool),
            "episode_ids": np.zeros(buffer_size, np.int32),
        }
        self._continues = np.ones(buffer_size, np.float32)
        self._size = 0
        self.episode = 0

    def size(self) -> int:
        """Number of rows."""
        return self._size

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Appends one row; arguments as Stable-Baselines3 gives them, with a leading axis of 1."""
        row, arrays = self._size, self.arrays
        truncated = bool(infos[0].get("TimeLimit.truncated", False))
        arrays["observations"][row] = obs[0]
        arrays["next_observations"][row] = next_obs[0]
        arrays["actions"][row] = action[0]
        arrays["rewards"][row] = reward[0]
        arrays["terminations"][row] = done[0] and not truncated
        arrays["truncations"][row] = truncated
        arrays["episode_ids"][row] = self.episode
        self._continues[row] = not arrays["terminations"][row]
        self._size += 1
        self.episode += bool(done[0])

    def rows(self, indices: np.ndarray) -> Batch:
        """Returns the transitions at (B,) row indices."""
        import torch

        arrays = self.arrays
        return Batch(
            *(
                torch.from_numpy(array[indices])
                for array in (
                    arrays["observations"],
                    arrays["actions"],
                    arrays["next_observations"],
                    arrays["rewards"],
                    self._continues,
                )
            )
        )

    def extend(self, rows: dict[str, np.ndarray]) -> None:
        """Appends rows that were stored; ``rows`` has an array for each of ``ROW_ARRAYS``."""
        count = len(rows["rewards"])
        new = slice(self._size, self._size + count)
        for name in ROW_ARRAYS:
            self.arrays[name][new] = rows[name]
        self._continues[new] = ~rows["terminations"]
        self._size += count
        last = self._size - 1
        ended = self.arrays["terminations"][last] or self.arrays["truncations"][last]
        self.episode = int(self.arrays["episode_ids"][last]) + bool(ended)

    def end_episode(self) -> None:
        """Begins a new episode after the last row, which readers then find truncated."""
        if self._size and self.arrays["episode_ids"][self._size - 1] == self.episode:
            self.episode += 1
