"""A picture of where evaluated episodes ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.antmaze_canvas import new_antmaze
from hetero_bench.ends import Ends
from hetero_bench.envs.antmaze_layout import AntMazeLayout
from hetero_bench.envs.gridworld_layout import GridworldLayout
from hetero_bench.maze_canvas import mark_start_and_goal, new_maze

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUCCEEDED, TIMED_OUT, OTHER = "#0072b2", "#d55e00", "#6e7781"
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
CELL_RADIUS = 0.42
"""Radius, in cells, of the disc over which episodes that ended in one gridworld cell are spread."""


def ends_map(ends: Ends, title: str = "", *, axes: Axes | None = None) -> Figure:
    """Draws a dot where each episode ended, coloured by how.

    In the gridworld episodes that ended in one cell are spread over it.

    Args:
        ends: An evaluation's ``ends``.
        title: Title above the maze.
        axes: Where to draw; a new figure if ``None``.

    Returns:
        The figure drawn into.

    Raises:
        ValueError: If the environment's maze is none of this suite's.
    """
    layout = ends.regions.layout
    if isinstance(layout, AntMazeLayout):
        figure, axes = new_antmaze(layout, title, axes)
        points, area = ends.positions, 14.0
    elif isinstance(layout, GridworldLayout):
        figure, axes = new_maze(layout, title, axes)
        mark_start_and_goal(axes, layout, outline_only=True, letters=False)
        points, area = spread_in_cells(ends.positions)[:, ::-1], 9.0
    else:
        raise ValueError(f"cannot draw a maze of type {type(layout).__name__}; expected a layout")
    succeeded = np.zeros(len(points), dtype=bool) if ends.successes is None else ends.successes
    kinds = (
        ("succeeded", SUCCEEDED, succeeded),
        ("timed out", TIMED_OUT, ends.timeouts & ~succeeded),
        ("ended otherwise", OTHER, ~ends.timeouts & ~succeeded),
    )
    for label, colour, mask in kinds:
        if mask.any():
            axes.scatter(
                *points[mask].T,
                s=area,
                color=colour,
                edgecolor="white",
                linewidth=0.3,
                label=f"{label}: {int(mask.sum())}",
                zorder=3,
            )
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        ncols=len(kinds),
        frameon=False,
        fontsize=9,
        handletextpad=0.1,
        borderaxespad=0.2,
    )
    return figure


def spread_in_cells(cells: np.ndarray) -> np.ndarray:
    """Moves equal rows of ``cells`` (n, 2) apart, evenly over a disc around the cell's middle."""
    _, inverse, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    order = np.argsort(inverse, kind="stable")
    ranks = np.empty(len(cells), dtype=np.int64)
    ranks[order] = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    radii = CELL_RADIUS * np.sqrt(ranks / counts[inverse])
    angles = GOLDEN_ANGLE * ranks
    return cells + radii[:, None] * np.stack((np.sin(angles), np.cos(angles)), axis=1)
