"""Pictures of gridworld mazes: where a policy goes, and what a behaviour policy does.

Figures are drawn with Matplotlib's object interface: nothing is shown and no global state is
touched. Pass ``axes`` to draw into a figure of your own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.envs.gridworld_layout import MOVES, NUM_ACTIONS, GridworldLayout
from hetero_bench.maze_canvas import colour_bar, mark_start_and_goal, new_maze

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

INK = "#1f2328"
LOG_DECADES = 4
VISITS = "YlGnBu"
DIVERGENCE = "YlOrRd"
SMALL_CELL_INCHES = 0.125
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
    shares = _shares(layout, visits)
    norm = _visitation_norm(float(shares.max()), logarithmic=logarithmic)
    figure, axes = new_maze(layout, title, axes)
    colour_bar(figure, axes, _draw_visits(axes, layout, shares, norm), label)
    return figure


def visitation_maps(
    layout: GridworldLayout,
    visits: Mapping[str, np.ndarray],
    *,
    columns: int = 3,
    label: str = "share of time steps",
) -> Figure:
    """Draws several visitation maps side by side, on one logarithmic colour scale.

    Args:
        layout: The maze.
        visits: Title to (S,) non-negative visits, as for :func:`visitation_map`.
        columns: Maps per row.
        label: Name of the colour scale.

    Raises:
        ValueError: If there is no map, or visits have the wrong shape, are negative or sum to zero.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    if not visits:
        raise ValueError("no visits to draw; expected at least one map")
    shares = {title: _shares(layout, each) for title, each in visits.items()}
    norm = _visitation_norm(max(float(each.max()) for each in shares.values()))
    columns = min(columns, len(shares))
    rows = math.ceil(len(shares) / columns)
    height, width = layout.shape
    cell = SMALL_CELL_INCHES
    figure = Figure(
        figsize=(columns * (width * cell + 0.1) + 0.8, rows * (height * cell + 0.4)),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, each) in zip(panels, shares.items(), strict=False):
        new_maze(layout, title, axes)
        _draw_visits(axes, layout, each, norm, letters=False)
    for axes in panels[len(shares) :]:
        axes.set_axis_off()
    colour_bar(figure, list(panels), ScalarMappable(norm, VISITS), label)
    return figure


def divergence_map(
    layout: GridworldLayout,
    divergence: np.ndarray,
    title: str = "",
    *,
    maximum: float | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Draws D(π, β)(s), as in the ReDS paper's Figure 2.

    Colours are linear up to 1 and logarithmic above.

    Args:
        layout: The maze.
        divergence: (S,) D(π, β)(s); cells where it is NaN stay empty.
        title: Title above the maze.
        maximum: End of the colour scale, to give several maps one; the largest value by default.
        axes: Where to draw; a new figure if ``None``.

    Returns:
        The figure drawn into.

    Raises:
        ValueError: If ``divergence`` has the wrong shape.
    """
    divergence = np.asarray(divergence, dtype=np.float64)
    if divergence.shape != (layout.num_states,):
        raise ValueError(
            f"divergence has shape {divergence.shape}; expected ({layout.num_states},)"
        )
    top = max(float(np.nanmax(divergence)) if maximum is None else maximum, 1.0)
    figure, axes = new_maze(layout, title, axes)
    image = axes.imshow(layout.to_grid(divergence), cmap=DIVERGENCE, norm=divergence_norm(top))
    divergence_bar(figure, axes, image, "D(π, β)(s)")
    mark_start_and_goal(axes, layout)
    return figure


def divergence_norm(top: float) -> Normalize:
    """Returns a colour scale for D up to ``top`` >= 1, linear up to 1 and logarithmic above."""
    from matplotlib.colors import SymLogNorm

    return SymLogNorm(linthresh=1.0, vmin=0.0, vmax=top)


def divergence_bar(
    figure: Figure, axes: Axes | list[Axes], image: ScalarMappable, label: str
) -> None:
    """Adds a colour bar for :func:`divergence_norm`, with ticks at 0 and the powers of ten."""
    bar = colour_bar(figure, axes, image, label)
    top = bar.get_ylim()[1]
    ticks = [0.0, *(10.0**k for k in range(math.floor(math.log10(top)) + 1))]
    bar.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    bar.minorticks_off()


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
    figure, axes = new_maze(layout, title, axes)
    image = axes.imshow(
        layout.to_grid(np.where(shown, entropy, np.nan)),
        cmap="Oranges",
        norm=Normalize(0.0, 1.6 * np.log(NUM_ACTIONS)),
    )
    bar = colour_bar(figure, axes, image, "entropy of the behaviour policy (nats)")
    bar.set_ylim(0.0, np.log(NUM_ACTIONS))
    mark_start_and_goal(axes, layout, outline_only=True)
    _draw_arrows(axes, layout, probabilities, shown)
    return figure


def _shares(layout: GridworldLayout, visits: np.ndarray) -> np.ndarray:
    visits = np.asarray(visits, dtype=np.float64)
    if visits.shape != (layout.num_states,) or not (visits >= 0.0).all() or visits.sum() == 0.0:
        raise ValueError(
            f"visits have shape {visits.shape}; expected ({layout.num_states},) non-negative "
            "numbers, not all zero"
        )
    return visits / visits.sum()


def _visitation_norm(top: float, *, logarithmic: bool = True) -> Normalize:
    from matplotlib.colors import LogNorm, Normalize

    return LogNorm(top * 10.0**-LOG_DECADES, top, clip=True) if logarithmic else Normalize(0, top)


def _draw_visits(
    axes: Axes,
    layout: GridworldLayout,
    shares: np.ndarray,
    norm: Normalize,
    *,
    letters: bool = True,
) -> AxesImage:
    grid = layout.to_grid(np.where(shares > 0.0, shares, np.nan))
    image = axes.imshow(grid, cmap=VISITS, norm=norm)
    mark_start_and_goal(axes, layout, letters=letters)
    return image


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
