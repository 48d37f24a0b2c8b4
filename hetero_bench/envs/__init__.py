"""Gymnasium environments of this suite, registered as ``hetero_bench/<Name>-vN`` on import."""

from __future__ import annotations

import gymnasium

GRIDWORLD_MAZE_ID = "hetero_bench/GridworldMaze-v0"
ANTMAZE_MAX_EPISODE_STEPS = {"UMaze": 700, "Medium": 1000, "Large": 1000, "Ultra": 2000}
"""Episode lengths of D4RL's v2 environments, by the <Name> in ``hetero_bench/AntMaze<Name>-v0``."""


def register_environments() -> None:
    """Registers the suite's environments with Gymnasium; registering them again does nothing."""
    if GRIDWORLD_MAZE_ID not in gymnasium.registry:
        gymnasium.register(
            GRIDWORLD_MAZE_ID,
            entry_point="hetero_bench.envs.gridworld:GridworldMazeEnv",
            vector_entry_point="hetero_bench.envs.gridworld_vector:GridworldMazeVectorEnv",
            max_episode_steps=300,
        )
    for name, max_episode_steps in ANTMAZE_MAX_EPISODE_STEPS.items():
        if f"hetero_bench/AntMaze{name}-v0" not in gymnasium.registry:
            gymnasium.register(
                f"hetero_bench/AntMaze{name}-v0",
                entry_point="hetero_bench.envs.antmaze:AntMazeEnv",
                vector_entry_point="hetero_bench.envs.antmaze_vector:AntMazeVectorEnv",
                kwargs={"maze": name.lower()},
                max_episode_steps=max_episode_steps,
            )


register_environments()
