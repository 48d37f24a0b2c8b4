"""Maps of per-row quantities over the floor of an AntMaze."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.antmaze_canvas import new_antmaze
from hetero_bench.envs.antmaze_layout import AntMazeLayout
from hetero_bench.heteroskedasticity.continuous import LARGEST_LOG
from hetero_bench.maze_plotting import DIVERGENCE, divergence_bar, divergence_norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BIN_SIZE = 1.0
"""Metres."""


def floor_means(
    layout: AntMazeLayout,
    positions: np.ndarray,
    values: np.ndarray,
    bin_size: float = BIN_SIZE,
) -> np.ndarray:
    """Averages a per-row quantity over squares of the maze's floor.

    Args:
        layout: The maze.
        positions: (N, 2) x and y of every row, metres.
        values: (N,) finite values.
        bin_size: Side of the squares, metres; the first begins at the maze's lower left corner.

    Returns:
        (height, width) float64 means, the row with the smallest y first; NaN where no row is.

    Raises:
        ValueError: If shapes do not fit, or ``bin_size`` is not positive.
    """
    if positions.shape != (len(values), 2) or values.ndim != 1 or not bin_size > 0.0:
        raise ValueError(
            f"positions have shape {positions.shape}, values {values.shape}, bin_size is "
            f"{bin_size}; expected (N, 2), (N,) and a positive number"
        )
    x_min, x_max, y_min, y_max = layout.bounds
    width = math.ceil((x_max - x_min) / bin_size)
    height = math.ceil((y_max - y_min) / bin_size)
    columns = np.floor((positions[:, 0] - x_min) / bin_size).astype(np.int64)
    rows = np.floor((positions[:, 1] - y_min) / bin_size).astype(np.int64)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    bins = rows[inside] * width + columns[inside]
    counts = np.bincount(bins, minlength=height * width)
    sums = np.bincount(bins, weights=values[inside], minlength=height * width)
    means = np.full(height * width, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means.reshape(height, width)


def floor_divergence_map(
    layout: AntMazeLayout,
    positions: np.ndarray,
    log_divergence: np.ndarray,
    title: str = "",
    *,
    maximum: float | None = None,
    bin_size: float = BIN_SIZE,
    axes: Axes | None = None,
) -> Figure:
    """Draws D(π, β) over the floor, as in the ReDS paper's Figure 2.

    A square's D is that of the mean of log(1 + D) over its rows, clamped to 20 first, so that a few
    rows of huge D do not decide. Colours are linear up to 1 and logarithmic above.

    Args:
        layout: The maze.
        positions: (N, 2) x and y of every row, metres.
        log_divergence: (N,) log(1 + D) of every row, as in
            :class:`~hetero_bench.heteroskedasticity.ContinuousHeteroskedasticity`.
        title: Title above the maze.
        maximum: End of the colour scale, to give several maps one; the largest value by default.
        bin_size: Side of the squares, metres.
        axes: Where to draw; a new figure if ``None``.

    Returns:
        The figure drawn into.

    Raises:
        ValueError: As :func:`floor_means` does.
    """
    clamped = np.minimum(log_divergence, LARGEST_LOG)
    divergence = np.expm1(floor_means(layout, positions, clamped, bin_size))
    top = max(float(np.nanmax(divergence)) if maximum is None else maximum, 1.0)
    figure, axes = new_antmaze(layout, title, axes)
    x_min, x_max, y_min, y_max = layout.bounds
    height, width = divergence.shape
    image = axes.imshow(
        divergence,
        cmap=DIVERGENCE,
        norm=divergence_norm(top),
        extent=(x_min, x_min + width * bin_size, y_min, y_min + height * bin_size),
        origin="lower",
        interpolation="nearest",
    )
    axes.set_xlim(x_min, x_max)
    axes.set_ylim(y_min, y_max)
    divergence_bar(figure, axes, image, "D(π, β)(s)")
    return figure
