"""An environment whose k-th episode depends on (seed, k) alone, and is remembered."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


def reset_seed(seed: int, episode: int) -> int:
    """Returns the seed that an episode of a :class:`SeededEpisodes` is reset with."""
    return int(np.random.SeedSequence([seed, 1, episode]).generate_state(1)[0])


class SeededEpisodes(gymnasium.Wrapper):
    """Gives each episode its own seed and records the simulator's state at its start.

    So a training that stopped within an episode goes on by replaying that episode's actions.

    Args:
        env: A MuJoCo environment of Gymnasium.
        seed: Seed of all episodes.

    Attributes:
        next_episode: Number of the episode that the next reset begins.
        initial_positions: (nq,) float64 joint positions after each reset so far.
        initial_velocities: (nv,) float64 joint velocities, likewise.
    """

    def __init__(self, env: gymnasium.Env, seed: int) -> None:
        super().__init__(env)
        self._seed = seed
        self.next_episode = 0
        self.initial_positions: list[np.ndarray] = []
        self.initial_velocities: list[np.ndarray] = []

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begins the next episode; a seed given is ignored."""
        observation, info = self.env.reset(seed=reset_seed(self._seed, self.next_episode))
        self.next_episode += 1
        data: Any = self.env.unwrapped.data  # type: ignore[attr-defined]
        self.initial_positions.append(data.qpos.copy())
        self.initial_velocities.append(data.qvel.copy())
        return observation, info
