"""Pictures of the gridworld as RGB arrays, in pure NumPy."""

from __future__ import annotations

import numpy as np

from hetero_bench.envs.gridworld_layout import GridworldLayout

DEFAULT_CELL_SIZE = 20
MINIMUM_CELL_SIZE = 4

WALL_COLOUR = (74, 78, 87)
FLOOR_COLOUR = (250, 249, 245)
GRID_COLOUR = (228, 226, 219)
START_COLOUR = (46, 160, 67)
GOAL_COLOUR = (0, 0, 0)
AGENT_COLOUR = (214, 69, 65)


def render_gridworld(
    layout: GridworldLayout, state: int, cell_size: int = DEFAULT_CELL_SIZE
) -> np.ndarray:
    """Draws the maze seen from above: start green, goal black, the agent a red disc.

    Args:
        layout: The maze.
        state: The agent's state.
        cell_size: Pixels per cell side, at least 4.

    Returns:
        (height * cell_size, width * cell_size, 3) uint8.

    Raises:
        ValueError: If ``cell_size`` is too small to show the agent.
    """
    if cell_size < MINIMUM_CELL_SIZE:
        raise ValueError(f"cell_size is {cell_size}; expected at least {MINIMUM_CELL_SIZE} pixels")
    colours = np.empty((*layout.shape, 3), dtype=np.uint8)
    colours[:] = WALL_COLOUR
    colours[layout.cells[:, 0], layout.cells[:, 1]] = FLOOR_COLOUR
    for marked, colour in ((layout.start, START_COLOUR), (layout.goal, GOAL_COLOUR)):
        colours[tuple(layout.cells[marked])] = colour
    image = colours.repeat(cell_size, axis=0).repeat(cell_size, axis=1)

    floor = (image == FLOOR_COLOUR).all(axis=2)
    grid_line = np.zeros_like(floor)
    grid_line[::cell_size] = True
    grid_line[:, ::cell_size] = True
    image[floor & grid_line] = GRID_COLOUR

    offsets = np.arange(cell_size) - (cell_size - 1) / 2
    disc = offsets[:, None] ** 2 + offsets**2 <= (0.36 * cell_size) ** 2
    top, left = layout.cells[state] * cell_size
    image[top : top + cell_size, left : left + cell_size][disc] = AGENT_COLOUR
    return image
