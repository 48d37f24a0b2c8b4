"""Where to go in an AntMaze: breadth-first waypoints, and the starts and goals of collections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hetero_bench.envs.antmaze import draw_goals
from hetero_bench.envs.antmaze_layout import PLAY_GOALS, AntMazeLayout

WAYPOINT_JITTER = 1.0
"""Metres: a waypoint is a cell's centre plus U[0, this] on each axis, as in D4RL's collection."""
START_NOISE = 1.0
"""Metres: a random start is a cell's centre plus U[0, this] on each axis, as in D4RL."""
AISLE_HALF_WIDTH = 1.0
"""Metres. The ant keeps this close to the middle of its way from cell to cell, so that it does not
scrape inner corners when it turns."""

CollectionMode = Literal["single", "play", "diverse"]


def waypoints(
    layout: AntMazeLayout, positions: np.ndarray, goals: np.ndarray, uniforms: np.ndarray
) -> np.ndarray:
    """Returns the points to walk straight to on the way to the goals.

    That is a point in the next cell of a shortest path or, where that is the goal's cell, the goal
    itself, without jitter. An ant that is further than ``AISLE_HALF_WIDTH`` beside the middle of
    its way to the next cell is sent straight to the middle first. Its past plays no part.

    Args:
        layout: The maze.
        positions: (n, 2) x and y of the ants, metres.
        goals: (n, 2) x and y of their goals, metres.
        uniforms: (n, 2) uniform on [0, 1), the jitter; drawn anew at each step.

    Returns:
        (n, 2) x and y, metres.
    """
    cells = layout.nearest_cells(positions)
    goal_cells = layout.nearest_cells(goals)
    targets = layout.next_cells[goal_cells, cells]
    here, there = layout.centres[cells], layout.centres[targets]
    jitter = WAYPOINT_JITTER * uniforms
    points = np.where((targets == goal_cells)[:, None], goals, there + jitter)

    middle = here + WAYPOINT_JITTER / 2
    crosswise = (there == here) & (targets != cells)[:, None]
    astray = crosswise & (np.abs(positions - middle) > AISLE_HALF_WIDTH)
    beside = np.clip(positions, np.minimum(here, there), np.maximum(here, there)) + jitter
    return np.where(astray.any(axis=1, keepdims=True), beside, points)


@dataclass(frozen=True, eq=False)
class CollectionTask:
    """Where episodes of a data collection start and what they aim at.

    Attributes:
        layout: The maze.
        start_cells: Cells to start from, drawn uniformly.
        goal_cells: Cells to aim at, drawn uniformly from those that are not the start's.
        scattered: Whether a start is a random point of its cell, or the origin with the
            environment's own reset noise.
    """

    layout: AntMazeLayout
    start_cells: np.ndarray
    goal_cells: np.ndarray
    scattered: bool

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray | None, np.ndarray]:
        """Draws an episode's start (2,), None for the environment's own, and its goal (2,)."""
        start_cell = rng.choice(self.start_cells)
        goal_cell = rng.choice(self.goal_cells[self.goal_cells != start_cell])
        start = self.layout.centres[start_cell] + START_NOISE * rng.random(2)
        goal = draw_goals(self.layout.centres[[goal_cell]], rng)[0]
        return (start if self.scattered else None), goal


def collection_task(layout: AntMazeLayout, mode: CollectionMode) -> CollectionTask:
    """Returns the starts and goals of one of D4RL's kinds of collection.

    ``single``: from the maze's start to its evaluated goal. ``play``: from anywhere but the goals
    to hand-picked goals (``PLAY_GOALS``). ``diverse``: from anywhere to anywhere else.

    Raises:
        ValueError: If the mode is unknown, or the maze has no hand-picked goals.
    """
    everywhere = np.arange(layout.num_cells)
    if mode == "single":
        start, goal = np.array([layout.start]), np.array([layout.goal])
        return CollectionTask(layout, start, goal, scattered=False)
    if mode == "diverse":
        return CollectionTask(layout, everywhere, everywhere, scattered=True)
    if mode != "play":
        raise ValueError(f"unknown collection mode {mode!r}; expected single, play or diverse")
    if layout.name not in PLAY_GOALS:
        raise ValueError(
            f"maze {layout.name!r} has no hand-picked goals for mode 'play'; expected one of "
            f"{', '.join(PLAY_GOALS)}, or mode 'diverse'"
        )
    goals = np.array([layout.cell_of(row, column) for row, column in PLAY_GOALS[layout.name]])
    return CollectionTask(layout, np.setdiff1d(everywhere, goals), goals, scattered=True)
