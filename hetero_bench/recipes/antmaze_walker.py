"""The noise-free AntMaze controller as a policy that can be evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hetero_bench.envs.antmaze import GOAL_NOISE
from hetero_bench.envs.antmaze_layout import get_layout
from hetero_bench.recipes.antmaze_controller import AntMazeController
from hetero_bench.recipes.antmaze_planner import waypoints
from hetero_bench.recipes.antmaze_steering import steering_features


class AntMazeWalker:
    """Walks a maze's shortest path and stays about the middle of where its goals are drawn.

    Goals are not observed. Waypoints are the middle of their jitter, so the policy is
    deterministic, and each row is computed by itself: a row's action has the same bits whatever the
    other rows are and how many.

    Args:
        maze: Name in ``antmaze_layout.MAZES``, or rows of text.
        controller: The bundled one by default.

    Raises:
        ValueError: If the maze is unknown or no valid maze.
        FileNotFoundError: If the controller's weights are missing.
    """

    def __init__(
        self, maze: str | Sequence[str], controller: AntMazeController | None = None
    ) -> None:
        self.layout = get_layout(maze)
        self.controller = AntMazeController.load() if controller is None else controller
        self._goal = self.layout.centres[self.layout.goal] + sum(GOAL_NOISE) / 2

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Returns (n, 8) float32 actions within ±1 for (n, 29) observations."""
        positions = observations[:, :2]
        goals = np.broadcast_to(self._goal, positions.shape)
        points = waypoints(self.layout, positions, goals, np.full(positions.shape, 0.5))
        features = steering_features(observations, points - positions)
        # Stacked one-row products: a product over all rows at once rounds by their number.
        actions = self.controller.network(features[:, None])[:, 0]
        return np.clip(actions, -1.0, 1.0)
