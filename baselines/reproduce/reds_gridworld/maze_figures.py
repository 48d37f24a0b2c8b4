"""Pictures of what the trained policies do: where episodes end, visitations, Figure 2 remade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import hetero_bench
from baselines.gridworld import Maze
from baselines.reproduce.reds_gridworld import series
from baselines.reproduce.reds_gridworld.figures import NAMES, STYLES
from baselines.reproduce.reds_gridworld.findings import Divergence, Findings
from baselines.reproduce.reds_gridworld.results import Cell, Setting
from baselines.reproduce.reds_gridworld.verdicts import significant
from hetero_bench.maze_plotting import divergence_map, visitation_maps
from hetero_bench.plotting import INK, RULE, clean_axes, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PART_COLOURS = ("#7f3b08", "#b35806", "#e08214", "#fdb863", "#b2abd2", "#8073ac")
GOAL_COLOUR = "#2ea043"


def fates_plot(findings: Findings) -> Figure:
    """Draws in which part of the maze episodes end, as one bar per setting."""
    columns: dict[str, list[tuple[str, Cell]]] = {
        f"{NAMES[each.method]}, rewards × {each.reward_scale:g}": [
            (f"{cell.setting.alpha:g}", cell)
            for cell in each.cells(findings.cells, findings.dataset)
        ]
        for pair in (series.PAIRS[0], series.PAIRS[-1])
        for each in reversed(pair)
    }
    with styled_figure(0.9 + 0.25 * max(map(len, columns.values())), len(columns)) as figure:
        for axes, (title, rows) in zip(
            figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True
        ):
            _draw_ends(axes, [(label, findings.fate(cell.setting).ends) for label, cell in rows])
            axes.set_ylim(max(map(len, columns.values())) - 0.5, -0.5)
            axes.set_title(title, fontsize=9.5, color=INK, loc="left")
        figure.axes[0].set_ylabel("α")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw_ends(axes: Axes, rows: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    parts = list(rows[0][1])
    colours = dict(zip(parts, (*PART_COLOURS[: len(parts) - 1], GOAL_COLOUR), strict=True))
    left = np.zeros(len(rows))
    for part in parts:
        widths = np.array([ends[part] for _, ends in rows])
        axes.barh(range(len(rows)), widths, left=left, color=colours[part], label=part, height=0.78)
        left += widths
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_xlim(0.0, 1.0)
    axes.set_xticks([0.0, 0.5, 1.0], ["0%", "50%", "100%"])
    clean_axes(axes)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)


def visitations(findings: Findings, settings: Mapping[str, Setting], *, columns: int = 3) -> Figure:
    """Draws where the policies of several settings, by title, spend their time."""
    layout = Maze.of(hetero_bench.load(findings.dataset)).model.layout
    occupancies = {title: findings.occupancy(setting) for title, setting in settings.items()}
    return visitation_maps(layout, occupancies, columns=columns)


def figure_2(findings: Findings) -> Figure:
    """Draws divergence maps, their histograms and CQL's success for each dataset."""
    names = (*findings.figure_2, findings.dataset)
    divergences = [findings.divergence(name) for name in names]
    layout = Maze.of(hetero_bench.load(findings.dataset)).model.layout
    top = max(each.maximum for each in divergences)
    shared = {cell.setting.alpha for cell in _plain_cql(findings, names[0])}
    with styled_figure(2.35 * len(names), 1) as figure:
        grid = figure.subplots(len(names), 3, width_ratios=[1.75, 1.0, 1.0])
        for (maze, histogram, success), each in zip(grid, divergences, strict=True):
            title = each.dataset.rsplit("-", 1)[0]
            divergence_map(layout, each.by_state, title, maximum=top, axes=maze)
            _draw_histogram(histogram, each, top)
            cells = _plain_cql(findings, each.dataset)
            _draw_success(success, [cell for cell in cells if cell.setting.alpha in shared])
        grid[-1][1].set_xlabel("D(π, β)(s)")
        grid[-1][2].set_xlabel("α of CQL")
        grid[0][2].set_title("episodes that reach the goal", fontsize=9.5, color=INK, loc="left")
    return figure


def _plain_cql(findings: Findings, dataset: str) -> list[Cell]:
    return series.CQL.cells(findings.cells, dataset)


def _draw_histogram(axes: Axes, each: Divergence, top: float) -> None:
    """Shares of the data's rows by D, on the scale of the maps: linear to 1, then logarithmic."""
    seen = ~np.isnan(each.by_state)
    weights = np.array(each.state_distribution)[seen]
    end = _stretched(top) + 0.1
    axes.hist(
        _stretched(each.by_state[seen]),
        bins=np.linspace(0.0, end, 32).tolist(),
        weights=weights,
        color="#bd0026",
    )
    ticks = [tick for tick in (0.0, 1.0, 10.0, 100.0) if _stretched(tick) <= end]
    axes.set_xticks([_stretched(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.set_xlim(0.0, end)
    axes.set_ylim(0.0, 1.03)
    axes.set_yticks([0.0, 0.5, 1.0], ["0%", "50%", "100%"])
    title = f"$C_{{diff}}$ = {significant(each.c_diff)}, std {each.std:.1f}, max {each.maximum:.1f}"
    axes.set_title(title, fontsize=9.5, color=INK, loc="left", parse_math=True)
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    clean_axes(axes)


def _stretched(divergence: Any) -> Any:
    return np.where(divergence < 1.0, divergence, 1.0 + np.log10(np.maximum(divergence, 1.0)))


def _draw_success(axes: Axes, cells: Sequence[Cell]) -> None:
    colour = STYLES["cql"].colour
    intervals = [cell.success for cell in cells]
    means = np.array([interval.estimate for interval in intervals])
    reach = np.array([[i.estimate - i.low, i.high - i.estimate] for i in intervals]).T
    axes.bar(range(len(cells)), means, color=colour, width=0.6)
    axes.errorbar(range(len(cells)), means, reach, fmt="none", ecolor=INK, capsize=3, linewidth=1)
    axes.set_xticks(range(len(cells)), [f"{cell.setting.alpha:g}" for cell in cells])
    axes.set_ylim(0.0, 1.03)
    axes.set_yticks([0.0, 0.5, 1.0], ["0%", "50%", "100%"])
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    clean_axes(axes)
