"""Draws the noise schedules and the chains of docs/antmaze.md.

    python docs/make_antmaze_figures.py schedules
    python docs/make_antmaze_figures.py chains

``chains`` builds the four heteroskedastic datasets if they are not in the cache.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import hetero_bench
from hetero_bench.antmaze_canvas import new_antmaze
from hetero_bench.arrays import EpisodeArrays
from hetero_bench.envs.antmaze_layout import AntMazeLayout
from hetero_bench.recipes.antmaze import environment_layout
from hetero_bench.schedule_table import dataset_schedule
from hetero_bench.stitching import shortest_chain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "antmaze"
HETEROSKEDASTIC = [
    f"antmaze-{maze}-{kind}" for maze in ("medium", "large") for kind in ("noisy", "biased")
]
BIN_SIZE = 0.5
"""Metres: side of the squares within which a chain looks for rows to jump to."""
NOISE, BIAS = "#2a78d6", "#eb6834"
TRACK, JUMP = "#2a78d6", "#d03b3b"


def draw_schedules() -> Figure:
    """Draws noise and bias over x under each maze, as in the ReDS paper's Figure 11."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 8.8))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.06, right=0.98, top=0.94, bottom=0.22, hspace=0.95, wspace=0.1)
    for axes, name in zip(figure.subplots(2, 2).ravel(), HETEROSKEDASTIC, strict=True):
        spec = hetero_bench.get_spec(name)
        assert spec.environment is not None
        schedule = dataset_schedule(spec)
        assert schedule is not None
        new_antmaze(environment_layout(spec.environment), name, axes)
        for edge in schedule.edges:
            axes.axvline(edge, color="#9a978e", linewidth=0.6, linestyle=":")
        bars = axes.inset_axes((0.0, -0.62, 1.0, 0.56), sharex=axes)
        _draw_bars(bars, schedule.edges, schedule.noise, schedule.bias)
        axes.tick_params(bottom=False, labelbottom=False)
        handles = bars.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw_bars(axes: Axes, edges: np.ndarray, noise: np.ndarray, bias: np.ndarray) -> None:
    width, gap = np.diff(edges), 0.12
    left, middle, each = edges[:-1] + gap, edges[:-1] + width / 2, width / 2 - gap
    axes.bar(left, noise, each, align="edge", color=NOISE, label="noise (std)")
    axes.bar(middle, bias, each, align="edge", color=BIAS, label="bias")
    axes.axhline(0, color="#52514e", linewidth=0.8)
    axes.set_ylim(-0.16, 0.34)
    axes.set_xticks(range(0, int(edges[-1]) + 1, 4))
    axes.set_xlabel("x, metres", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#e8e6e0", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def draw_chains() -> Figure:
    """Draws, for each heteroskedastic dataset, a chain of its rows from start to goal.

    Trajectories that lead from the start's cell to a reward are taken out before: a chain that
    follows one of these shows nothing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2).ravel()
    for axes, name in zip(panels, HETEROSKEDASTIC, strict=True):
        dataset = hetero_bench.load(name)
        assert dataset.spec.environment is not None
        layout = environment_layout(dataset.spec.environment)
        arrays, removed = _without_whole_ways(dataset.arrays, layout)
        chain = shortest_chain(
            arrays, _in_start_cell(arrays, layout), arrays.terminations, bin_size=BIN_SIZE
        )
        assert chain is not None
        points = arrays.observations[chain.rows, :2]
        episodes = len(np.unique(arrays.episode_ids[chain.rows]))
        print(
            f"{name}: without {removed} trajectories that go all the way, {len(chain.rows)} rows "
            f"of {episodes} trajectories, {chain.jumps.sum()} jumps no longer than the "
            f"{chain.quantile:.0%} quantile ({chain.threshold:.2f}) of the distances to the "
            "nearest row of another trajectory",
            flush=True,
        )
        new_antmaze(layout, name, axes)
        axes.plot(*points.T, color=TRACK, linewidth=1.4, label="within a trajectory")
        axes.scatter(*points[chain.jumps].T, color=JUMP, s=16, zorder=3, label="jump to another")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure


def _without_whole_ways(arrays: EpisodeArrays, layout: AntMazeLayout) -> tuple[EpisodeArrays, int]:
    """Takes out the trajectories that visit the start's cell and are rewarded, and counts them."""
    whole = np.zeros(arrays.num_episodes, dtype=bool)
    whole[arrays.episode_ids[_in_start_cell(arrays, layout)]] = True
    rewarded = np.zeros(arrays.num_episodes, dtype=bool)
    rewarded[arrays.episode_ids[arrays.terminations]] = True
    others = np.flatnonzero(~(whole & rewarded))
    rows = int(np.isin(arrays.episode_ids, others).sum())
    return arrays.take_episodes(others, rows)[0], arrays.num_episodes - len(others)


def _in_start_cell(arrays: EpisodeArrays, layout: AntMazeLayout) -> np.ndarray:
    return layout.cells_at(arrays.observations[:, :2].astype(np.float64)) == layout.start


PICTURES = {"schedules": draw_schedules, "chains": draw_chains}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        path = FOLDER / f"{name}.png"
        FOLDER.mkdir(exist_ok=True)
        PICTURES[name]().savefig(path, dpi=110)
        print(path)
