"""Success over α: heat maps and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.reproduce.reds_gridworld import series
from baselines.reproduce.reds_gridworld.findings import Findings
from baselines.reproduce.reds_gridworld.results import Cell
from baselines.reproduce.reds_gridworld.series import Series
from hetero_bench.plotting import INK, PALETTE, RULE, Style, clean_axes, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {"cql": Style(PALETTE[1], "s"), "reds": Style(PALETTE[0], "o")}
NAMES = {"cql": "CQL", "reds": "ReDS"}
CURVE_RANGE = (0.00005, 0.15)
"""α that curves show; beyond it all success is 0."""


def success_heat_map(findings: Findings) -> Figure:
    """Draws the success of every series (rows) at every α (columns), with intervals as text."""
    rows = [
        (each, cells)
        for each in series.ALL
        if (cells := each.cells(findings.cells, findings.dataset))
    ]
    alphas = sorted({cell.setting.alpha or 0.0 for _, cells in rows for cell in cells})
    count = {name: sum(each.method == name for each, _ in rows) for name in NAMES}
    with styled_figure(0.9 + 0.44 * len(rows), 1) as figure:
        panels = figure.subplots(len(NAMES), 1, sharex=True, height_ratios=list(count.values()))
        for axes, name in zip(panels, NAMES, strict=True):
            own = [(each, cells) for each, cells in rows if each.method == name]
            _draw_cells(axes, own, alphas)
        panels[-1].set_xlabel("α, in units of reward")
    return figure


def _draw_cells(
    axes: Axes, rows: Sequence[tuple[Series, list[Cell]]], alphas: Sequence[float]
) -> None:
    from matplotlib.patches import Rectangle

    values = np.full((len(rows), len(alphas)), np.nan)
    for row, (_, cells) in enumerate(rows):
        for cell in cells:
            column = alphas.index(cell.setting.alpha or 0.0)
            success = cell.success
            values[row, column] = success.estimate
            dark = success.estimate > 0.6
            kwargs: Any = {"ha": "center", "va": "center", "color": "white" if dark else INK}
            axes.text(column, row - 0.16, _percent(success.estimate), fontsize=9, **kwargs)
            interval = f"{_percent(success.low)}–{_percent(success.high)}"
            axes.text(column, row + 0.24, interval, fontsize=6.5, **kwargs)
            if cell.succeeds:
                frame = Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False)
                frame.set(edgecolor=PALETTE[1], linewidth=1.8)
                axes.add_patch(frame)
    axes.imshow(values, cmap="YlGnBu", vmin=0.0, vmax=1.15, aspect="auto")
    axes.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    axes.set_yticks(range(len(rows)), [each.title for each, _ in rows])
    axes.set_xticks(np.arange(len(alphas) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def success_curves(findings: Findings) -> Figure:
    """Draws success over α of ReDS and CQL; below the same with ReDS at half its α."""
    pairs = [
        pair
        for pair in series.PAIRS
        if all(each.cells(findings.cells, findings.dataset) for each in pair)
    ]
    with styled_figure(5.0, len(pairs)) as figure:
        grid = figure.subplots(2, len(pairs), squeeze=False, sharex=True, sharey=True)
        for row, panels in enumerate(grid):
            for axes, pair in zip(panels, pairs, strict=True):
                for each in pair:
                    factor = 0.5 if row == 1 and each.method == "reds" else 1.0
                    _draw_curve(axes, findings, each, factor)
                axes.set_xscale("log")
                axes.set_xlim(*CURVE_RANGE)
                axes.set_xticks([0.001, 0.01, 0.1], ["0.001", "0.01", "0.1"])
                axes.set_ylim(-0.03, 1.05)
                axes.tick_params(labelbottom=True)
                axes.grid(color=RULE, linewidth=0.5)
                clean_axes(axes)
        for axes, (_, cql) in zip(grid[0], pairs, strict=True):
            axes.set_title(series.condition(cql), fontsize=9.5, loc="left", color=INK)
        for axes in grid[0]:
            axes.set_xlabel("α")
        for axes in grid[1]:
            axes.set_xlabel("α of CQL, α/2 of ReDS")
        for panels in grid:
            panels[0].set_ylabel("episodes that reach the goal")
            panels[0].yaxis.set_major_formatter(lambda value, _: _percent(value) + "%")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=4, frameon=False, labelcolor=INK
        )
    return figure


def _draw_curve(axes: Axes, findings: Findings, each: Series, factor: float) -> None:
    cells = each.cells(findings.cells, findings.dataset)
    style, name = STYLES[each.method], NAMES[each.method]
    curve = findings.exact.curve(each)
    if curve is not None:
        axes.plot(
            np.array(curve.alphas) * factor,
            curve.successes,
            color=style.colour,
            linewidth=1.2,
            linestyle=(0, (2, 1.5)),
            alpha=0.75,
            label=f"{name}, exact tables",
        )
    alphas = np.array([cell.setting.alpha for cell in cells]) * factor
    intervals = [cell.success for cell in cells]
    means, lows, highs = (
        np.array([getattr(interval, part) for interval in intervals])
        for part in ("estimate", "low", "high")
    )
    axes.fill_between(alphas, lows, highs, color=style.colour, alpha=0.13, linewidth=0)
    axes.plot(
        alphas,
        means,
        color=style.colour,
        marker=style.marker,
        markersize=5,
        linewidth=1.8,
        label=f"{name}, trained",
    )


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100.0 * value:.0f}"


def edge_plot(findings: Findings) -> Figure:
    """Draws the largest succeeding α of exact ReDS over τ, beside CQL's and twice CQL's."""
    taus, edges = zip(*findings.exact.edges.items(), strict=True)
    cql = findings.exact.curve(series.CQL)
    assert cql is not None
    with styled_figure(2.7, 1) as figure:
        axes = figure.subplots()
        style = STYLES["reds"]
        axes.plot(taus, edges, color=style.colour, marker=style.marker, markersize=4.5)
        for factor, name in ((1.0, "CQL"), (2.0, "twice that: CQL with half its α")):
            axes.axhline(factor * cql.edge, color=STYLES["cql"].colour, linewidth=1.3, zorder=0)
            axes.annotate(
                name,
                (1.0, factor * cql.edge),
                xycoords=axes.get_yaxis_transform(),
                xytext=(-2, -3),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8.5,
                color=STYLES["cql"].colour,
            )
        axes.set_xscale("log")
        axes.set_xticks([0.01, 0.1, 1.0], ["0.01", "0.1", "1"])
        axes.set_ylim(0.0, 1.15 * max(edges))
        axes.set_xlabel("τ of ReDS, in units of reward")
        axes.set_ylabel("largest α that succeeds")
        clean_axes(axes)
    return figure
