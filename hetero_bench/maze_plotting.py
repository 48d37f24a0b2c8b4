"""Pictures of gridworld mazes: where a policy goes, and what a behaviour policy does.

Figures are drawn with Matplotlib's object interface: nothing is shown and no global state is
touched. Pass ``axes`` to draw into a figure of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.envs.gridworld_layout import MOVES, NUM_ACTIONS, GridworldLayout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

WALL = "#3b3f46"
EMPTY = "#f6f4ee"
START = "#2ea043"
GOAL = "#000000"
INK = "#1f2328"
LOG_DECADES = 4
_CELL_INCHES = 0.3
# Sizes in cells: the longest arrow, a shaft's half width, a head's length and half width.
_ARROW_LENGTH, _SHAFT, _HEAD = 0.46, 0.03, (0.18, 0.13)


def visitation_map(
    layout: GridworldLayout,
    visits: np.ndarray,
    title: str = "",
    *,
    logarithmic: bool = True,
    label: str = "share of time steps",
    axes: Axes | None = None,
) -> Figure:
    """Draws how often each cell is visited, as in the ReDS paper's Figures 1 and 6 to 8.

    Args:
        layout: The maze.
        visits: (S,) non-negative visits or occupancy; shares of the sum are shown.
        title: Title above the maze.
        logarithmic: Colour by the logarithm, down to 10^-4 of the most visited cell; else linear.
        label: Name of the colour scale.
        axes: Where to draw; a new figure if ``None``.

    Returns:
        The figure drawn into.

    Raises:
        ValueError: If ``visits`` has the wrong shape, is negative or sums to zero.
    """
    from matplotlib.colors import LogNorm, Normalize

    visits = np.asarray(visits, dtype=np.float64)
    if visits.shape != (layout.num_states,) or not (visits >= 0.0).all() or visits.sum() == 0.0:
        raise ValueError(
            f"visits have shape {visits.shape}; expected ({layout.num_states},) non-negative "
            "numbers, not all zero"
        )
    shares = visits / visits.sum()
    top = shares.max()
    norm = LogNorm(top * 10.0**-LOG_DECADES, top, clip=True) if logarithmic else Normalize(0, top)
    figure, axes = _new_maze(layout, title, axes)
    grid = layout.to_grid(np.where(shares > 0.0, shares, np.nan))
    image = axes.imshow(grid, cmap="YlGnBu", norm=norm)
    _colour_bar(figure, axes, image, label)
    _mark_start_and_goal(axes, layout)
    return figure


def behaviour_map(
    layout: GridworldLayout,
    probabilities: np.ndarray,
    title: str = "",
    *,
    axes: Axes | None = None,
) -> Figure:
    """Draws a policy: an arm per action on cells coloured by entropy.

    An arm's length is the square root of its probability, so that rare actions can be seen; the
    likeliest actions' arms have heads. A dot in the middle is the no-op; its area is its
    probability.

    Args:
        layout: The maze.
        probabilities: (S, 5) action probabilities; the goal's are not shown.
        title: Title above the maze.
        axes: Where to draw; a new figure if ``None``.

    Returns:
        The figure drawn into.

    Raises:
        ValueError: If ``probabilities`` has the wrong shape.
    """
    from matplotlib.colors import Normalize

    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (layout.num_states, NUM_ACTIONS):
        raise ValueError(
            f"probabilities have shape {probabilities.shape}; expected "
            f"({layout.num_states}, {NUM_ACTIONS})"
        )
    shown = np.arange(layout.num_states) != layout.goal
    logarithms = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0.0)
    entropy = -(probabilities * logarithms).sum(axis=1)
    figure, axes = _new_maze(layout, title, axes)
    image = axes.imshow(
        layout.to_grid(np.where(shown, entropy, np.nan)),
        cmap="Oranges",
        norm=Normalize(0.0, 1.6 * np.log(NUM_ACTIONS)),
    )
    bar = _colour_bar(figure, axes, image, "entropy of the behaviour policy (nats)")
    bar.set_ylim(0.0, np.log(NUM_ACTIONS))
    _mark_start_and_goal(axes, layout, outline_only=True)
    _draw_arrows(axes, layout, probabilities, shown)
    return figure


def _draw_arrows(
    axes: Axes, layout: GridworldLayout, probabilities: np.ndarray, shown: np.ndarray
) -> None:
    from matplotlib.collections import PolyCollection

    likeliest = probabilities >= probabilities.max(axis=1, keepdims=True) - 1e-9
    polygons: list[np.ndarray] = []
    for action in range(1, NUM_ACTIONS):
        frame = np.stack([MOVES[action][::-1], MOVES[action]])  # (along, across) to (x, y)
        drawn = shown & (probabilities[:, action] > 0.0)
        lengths = _ARROW_LENGTH * np.sqrt(probabilities[drawn, action])
        centres = layout.cells[drawn, ::-1]
        for centre, length, headed in zip(centres, lengths, likeliest[drawn, action], strict=True):
            end = length - _HEAD[0] if headed else length
            shaft = [(0, _SHAFT), (end, _SHAFT), (end, -_SHAFT), (0, -_SHAFT)]
            polygons.append(centre + np.array(shaft) @ frame)
            if headed:
                head = [(end, _HEAD[1]), (length, 0), (end, -_HEAD[1])]
                polygons.append(centre + np.array(head) @ frame)
    axes.add_collection(PolyCollection(polygons, facecolors=INK, linewidths=0))
    drawn = shown & (probabilities[:, 0] > 0.0)
    axes.scatter(
        *layout.cells[drawn, ::-1].T, s=60.0 * probabilities[drawn, 0], c=INK, linewidths=0
    )


def _new_maze(layout: GridworldLayout, title: str, axes: Axes | None) -> tuple[Figure, Axes]:
    """Returns a figure and axes with the walls drawn, in cell coordinates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    height, width = layout.shape
    if axes is None:
        figure = Figure(
            figsize=(width * _CELL_INCHES + 1.1, height * _CELL_INCHES + 0.5), layout="constrained"
        )
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    else:
        found = axes.get_figure(root=True)
        assert isinstance(found, Figure)
        figure = found
    axes.imshow(
        layout.to_grid(np.zeros(layout.num_states), fill=1.0), cmap=ListedColormap([EMPTY, WALL])
    )
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def _mark_start_and_goal(
    axes: Axes, layout: GridworldLayout, *, outline_only: bool = False
) -> None:
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
        if fill:
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


def _colour_bar(figure: Figure, axes: Axes, image: ScalarMappable, label: str) -> Axes:
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return bar.ax
