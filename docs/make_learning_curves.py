"""Draws learning curves: normalised score over gradient steps, a panel per dataset.

    python docs/make_learning_curves.py runs/td3_bc runs/iql   # measures, writes the numbers, draws
    python docs/make_learning_curves.py                        # draws the numbers again

Lines are means over seeds, bands percentile bootstrap intervals (95%) of the mean. The runs need
several evaluations (``train --eval-every``). Numbers lie in docs/learning-curves.json.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import hetero_bench
from hetero_bench.atomic import write_file
from hetero_bench.bootstrap import RESAMPLES, percentiles
from hetero_bench.plotting import (
    INK,
    Style,
    clean_axes,
    method_styles,
    styled_figure,
    to_png,
)
from hetero_bench.runs import read_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBERS = Path(__file__).resolve().parent / "learning-curves.json"
LABEL_HEIGHT = 0.055
"""Least distance of two labels, as a share of a panel's height."""

Curves = dict[str, dict[str, dict[str, Any]]]
"""By dataset and method: ``steps`` (T), ``seeds`` (S), ``scores`` (T, S) in percent."""


def measure(paths: Sequence[str | Path]) -> Curves:
    """Returns the mean scores of the episodes of every evaluation.

    Args:
        paths: Run records, or folders that are searched for them.

    Raises:
        ValueError: If the runs of a method on a dataset were evaluated at different steps, or a
            seed occurs twice.
    """
    groups: dict[str, dict[str, dict[int, dict[int, float]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for path, run in read_runs(paths):
        spec = hetero_bench.get_spec(run.dataset.id)
        group = groups[run.dataset.id][run.method]
        if run.seed in group:
            raise ValueError(f"{path}: seed {run.seed} occurs twice; give one setting per method")
        group[run.seed] = {
            each.step: round(float(spec.normalized_score(each.returns).mean()), 3)
            for each in run.evaluations
        }
    curves: Curves = {}
    for dataset, methods in groups.items():
        for method, seeds in methods.items():
            steps = sorted({step for scores in seeds.values() for step in scores})
            if any(list(scores) != steps for scores in seeds.values()):
                raise ValueError(f"{method} on {dataset}: seeds were evaluated at different steps")
            curves.setdefault(dataset, {})[method] = {
                "steps": steps,
                "seeds": sorted(seeds),
                "scores": [[seeds[seed][step] for seed in sorted(seeds)] for step in steps],
            }
    return curves


def interval(scores: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns (T,) lower and upper ends of the means of (T, S) scores; seeds are resampled."""
    seeds = scores.shape[1]
    chosen = rng.integers(seeds, size=(RESAMPLES, seeds))
    low, high = percentiles(scores[:, chosen].mean(-1).T)
    return low, high


def draw(curves: Curves) -> Figure:
    """Draws one panel per dataset, labels at the ends of the lines."""
    styles = method_styles(sorted({method for methods in curves.values() for method in methods}))
    with styled_figure(3.4, len(curves)) as figure:
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for axes, (dataset, methods) in zip(panels, curves.items(), strict=True):
            _draw_panel(axes, methods, styles)
            axes.set_title(dataset, color=INK, loc="left", fontsize=10)
            axes.set_xlabel("gradient steps")
        panels[0].set_ylabel("normalised score, %")
    return figure


def _draw_panel(axes: Axes, methods: dict[str, dict[str, Any]], styles: dict[str, Style]) -> None:
    ends = {}
    for method, curve in methods.items():
        steps, scores = np.array(curve["steps"]), np.array(curve["scores"])
        style = styles[method]
        mean = scores.mean(-1)
        axes.plot(steps, mean, color=style.colour, marker=style.marker, markersize=4, linewidth=1.6)
        if scores.shape[1] > 1:
            low, high = interval(scores, np.random.default_rng(0))
            axes.fill_between(steps, low, high, color=style.colour, alpha=0.15, linewidth=0)
        ends[method] = (steps[-1], mean[-1])
    clean_axes(axes)
    axes.set_xlim(left=0)
    heights = spread([end for _, end in ends.values()], LABEL_HEIGHT * np.ptp(axes.get_ylim()))
    for (method, (step, _)), height in zip(ends.items(), heights, strict=True):
        axes.annotate(
            method,
            (step, height),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=styles[method].colour,
            annotation_clip=False,
        )


def spread(heights: Sequence[float], distance: float) -> np.ndarray:
    """Returns heights moved apart, in their order, until none is nearer than a distance."""
    order = np.argsort(heights, kind="stable")
    apart = np.asarray(heights, float)[order]
    for _ in range(100):
        gaps = np.diff(apart)
        tight = np.flatnonzero(gaps < distance * (1 - 1e-6))
        if not len(tight):
            break
        for index in tight:
            push = max(distance - (apart[index + 1] - apart[index]), 0.0) / 2
            apart[index] -= push
            apart[index + 1] += push
    moved = np.empty_like(apart)
    moved[order] = apart
    return moved


def main(paths: Sequence[str]) -> None:
    """Measures if runs are given, and draws."""
    if paths:
        write_file(NUMBERS, json.dumps(measure(paths), indent=1) + "\n")
    if not NUMBERS.exists():
        raise SystemExit(f"no {NUMBERS.name} yet; give folders of runs")
    picture = NUMBERS.with_suffix(".png")
    picture.write_bytes(to_png(draw(json.loads(NUMBERS.read_text(encoding="utf-8")))))
    print(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
