"""Draws the learning curves of docs/locomotion.md from those that are bundled.

python docs/make_locomotion_pictures.py
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.plotting import INK, MUTED, PALETTE, clean_axes, styled_figure, to_png
from hetero_bench.recipes.locomotion_policies import policies_folder
from hetero_bench.recipes.locomotion_tasks import ENVIRONMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PATH = Path(__file__).resolve().parent / "locomotion" / "learning-curves.png"
KINDS = {"stochastic": PALETTE[0], "deterministic": PALETTE[1]}
MILLION = 1e6


def read_curve(path: Path) -> dict[str, np.ndarray]:
    """Reads a learning curve; columns by name."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def draw() -> Figure:
    """Draws one panel per trained task."""
    curves = {env: policies_folder() / f"{env}.csv" for env in ENVIRONMENTS}
    trained = {env: read_curve(path) for env, path in curves.items() if path.is_file()}
    with styled_figure(3.0, len(trained)) as figure:
        panels = figure.subplots(1, len(trained), squeeze=False)[0]
        for axes, (env, curve) in zip(panels, trained.items(), strict=True):
            _draw_curve(axes, curve)
            _mark_policies(axes, env, curve)
            axes.set_title(ENVIRONMENTS[env][0], color=INK, loc="left", fontsize=10)
            axes.set_xlabel("environment steps, millions")
        panels[0].set_ylabel("return of 20 episodes")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    return figure


def _draw_curve(axes: Axes, curve: dict[str, np.ndarray]) -> None:
    steps = curve["steps"] / MILLION
    for kind, colour in KINDS.items():
        mean, std = curve[f"{kind}_return"], curve[f"{kind}_return_std"]
        axes.plot(steps, mean, color=colour, label=f"{kind}, ± std", linewidth=1.4)
        axes.fill_between(steps, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    clean_axes(axes)
    axes.set_ylim(bottom=min(0.0, float(curve["stochastic_return"].min())))
    axes.set_xlim(left=0.0)


def _mark_policies(axes: Axes, env: str, curve: dict[str, np.ndarray]) -> None:
    for path in policies_folder().glob(f"{env}-*.safetensors"):
        at = int(path.stem.rpartition("-")[2])
        name = "expert" if at == curve["steps"][-1] else "medium"
        value = curve["stochastic_return"][curve["steps"] == at][0]
        axes.plot(at / MILLION, value, "o", color=INK, markersize=5, zorder=3)
        axes.annotate(
            name,
            (at / MILLION, value),
            xytext=(6, -10) if name == "medium" else (0, 8),
            textcoords="offset points",
            ha="left" if name == "medium" else "right",
            color=MUTED,
        )


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_bytes(to_png(draw()))
    print(PATH)
