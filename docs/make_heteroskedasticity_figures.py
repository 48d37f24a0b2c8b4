"""Draws the pictures of docs/heteroskedasticity.md.

python docs/make_heteroskedasticity_figures.py maps       # builds or opens the datasets drawn
python docs/make_heteroskedasticity_figures.py severity   # from the committed measurements
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hetero_bench
from hetero_bench.antmaze_plotting import floor_divergence_map
from hetero_bench.heteroskedasticity import ContinuousHeteroskedasticity
from hetero_bench.recipes.antmaze import environment_layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "heteroskedasticity"
MAPPED = [
    *(f"antmaze-{maze}-{kind}" for kind in ("noisy", "biased") for maze in ("medium", "large")),
    "antmaze-medium-play-hb",
    "antmaze-large-play-hb",
]
LARGEST_D = 100.0
"""End of the maps' colour scale."""
COLOURS = {"medium": "#2a78d6", "large": "#eb6834"}
STYLES = {"fitted": "-", "exact": "--"}


def draw_severity() -> Figure:
    """Draws how D varies over the rows, against the severity."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    document = json.loads((FOLDER / "measurements.json").read_text(encoding="utf-8"))["severity"]
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    deviation, robust = figure.subplots(1, 2)
    for maze, levels in document.items():
        severities = sorted(map(int, levels))
        look = {"color": COLOURS[maze], "marker": "o", "markersize": 4}
        exact = [levels[str(severity)]["exact"]["std"] for severity in severities]
        deviation.plot(severities, exact, label=maze, **look)
        for kind, style in STYLES.items():
            found = [levels[str(severity)][kind] for severity in severities]
            logs = [each["log_one_plus_divergence"]["std"] for each in found]
            robust.plot(severities, logs, label=f"{maze}, {kind}", linestyle=style, **look)
    deviation.set_yscale("symlog", linthresh=10.0)
    deviation.set_ylim(bottom=0)
    for axes, title in ((deviation, "std of D, exact"), (robust, "std of log(1 + D)")):
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("severity", fontsize=9)
        axes.set_xticks(range(5))
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", color="#e8e6e0", linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_maps() -> Figure:
    """Draws D, fitted, over the floor of the mazes, on one colour scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 10.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(3, 2).ravel(), MAPPED, strict=True):
        dataset = hetero_bench.load(name)
        assert dataset.spec.environment is not None
        measured = hetero_bench.heteroskedasticity(dataset, behaviour="fitted")
        assert isinstance(measured, ContinuousHeteroskedasticity)
        floor_divergence_map(
            environment_layout(dataset.spec.environment),
            dataset.arrays.observations[:, :2],
            measured.log_divergence,
            name,
            maximum=LARGEST_D,
            axes=axes,
        )
    return figure


PICTURES = {"maps": draw_maps, "severity": draw_severity}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]().savefig(FOLDER / f"{name}.png", dpi=110)
        print(FOLDER / f"{name}.png")
