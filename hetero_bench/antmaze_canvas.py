"""What every picture of an AntMaze is made of: walls, start and goal, in metres, y upwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.envs.antmaze_layout import CELL_SIZE, AntMazeLayout
from hetero_bench.maze_canvas import EMPTY, WALL, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_INCHES = 0.42
LEAST_INCHES = 3.4
"""Width that a title and a legend need."""
MARK = "#9a978e"


def new_antmaze(layout: AntMazeLayout, title: str, axes: Axes | None) -> tuple[Figure, Axes]:
    """Returns a figure and axes with the walls drawn; S and G mark the cells of start and goal.

    Args:
        layout: The maze.
        title: Title above it.
        axes: Where to draw; a new figure if ``None``.
    """
    from matplotlib.colors import ListedColormap

    height, width = layout.cell_map.shape
    size = max(width * CELL_INCHES, LEAST_INCHES) + 0.3, height * CELL_INCHES + 0.6
    figure, axes = canvas(title, axes, size)
    axes.imshow(
        layout.cell_map < 0,
        cmap=ListedColormap([EMPTY, WALL]),
        extent=layout.bounds,
        origin="lower",
        interpolation="nearest",
    )
    for cell, letter in ((layout.start, "S"), (layout.goal, "G")):
        x, y = layout.centres[cell] - np.array([0.34, -0.34]) * CELL_SIZE
        axes.text(x, y, letter, color=MARK, ha="center", va="center", fontsize=8, weight="bold")
    return figure, axes
