"""What pictures of mazes are made of, and of the gridworld in particular: walls, start, goal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.envs.gridworld_layout import GridworldLayout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

WALL = "#3b3f46"
EMPTY = "#f6f4ee"
START = "#2ea043"
GOAL = "#000000"
CELL_INCHES = 0.3


def canvas(title: str, axes: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Returns empty axes without frame and ticks, and their figure.

    Args:
        title: Title above the axes.
        axes: Where to draw; a new figure if ``None``.
        size: Width and height of a new figure, inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if axes is None:
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    else:
        found = axes.get_figure(root=True)
        assert isinstance(found, Figure)
        figure = found
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def new_maze(layout: GridworldLayout, title: str, axes: Axes | None) -> tuple[Figure, Axes]:
    """Returns a figure and axes with the walls drawn, in cell coordinates."""
    from matplotlib.colors import ListedColormap

    height, width = layout.shape
    size = (width * CELL_INCHES + 1.1, height * CELL_INCHES + 0.5)
    figure, axes = canvas(title, axes, size)
    axes.imshow(
        layout.to_grid(np.zeros(layout.num_states), fill=1.0), cmap=ListedColormap([EMPTY, WALL])
    )
    return figure, axes


def mark_start_and_goal(
    axes: Axes, layout: GridworldLayout, *, outline_only: bool = False, letters: bool = True
) -> None:
    """Colours start and goal.

    Args:
        axes: Where the maze is drawn.
        layout: The maze.
        outline_only: Frame the start instead of covering what is drawn in it.
        letters: Write S and G into them; too small to read in small mazes.
    """
    from matplotlib.patches import Rectangle

    for state, colour, name in ((layout.start, START, "S"), (layout.goal, GOAL, "G")):
        row, column = layout.cells[state]
        fill = not (outline_only and state == layout.start)
        axes.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5),
                1.0,
                1.0,
                facecolor=colour if fill else "none",
                edgecolor=colour,
                linewidth=0.0 if fill else 2.5,
            )
        )
        if fill and letters:
            axes.text(
                column,
                row,
                name,
                color="white",
                ha="center",
                va="center_baseline",
                fontsize=9,
                fontweight="bold",
            )


def colour_bar(figure: Figure, axes: Axes | list[Axes], image: ScalarMappable, label: str) -> Axes:
    """Adds a colour bar beside one or several axes; returns its axes."""
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return bar.ax
