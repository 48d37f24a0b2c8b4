"""Gymnasium environments of this suite, registered as ``hetero_bench/<Name>-vN`` on import."""

from __future__ import annotations

import gymnasium

GRIDWORLD_MAZE_ID = "hetero_bench/GridworldMaze-v0"


def register_environments() -> None:
    """Registers the suite's environments with Gymnasium; registering them again does nothing."""
    if GRIDWORLD_MAZE_ID not in gymnasium.registry:
        gymnasium.register(
            GRIDWORLD_MAZE_ID,
            entry_point="hetero_bench.envs.gridworld:GridworldMazeEnv",
            vector_entry_point="hetero_bench.envs.gridworld_vector:GridworldMazeVectorEnv",
            max_episode_steps=300,
        )


register_environments()
