"""Figures, drawn with matplotlib's object interface (no pyplot, no global state, no display).

Every function returns a ``matplotlib.figure.Figure``; ``to_svg`` and ``to_png`` make it bytes.
matplotlib is imported when a function is called.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hetero_bench.bootstrap import Interval
from hetero_bench.formatting import printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292f"
MUTED = "#6e7781"
RULE = "#d0d7de"
DARK_THEME = {INK: "#e6e3dd", MUTED: "#a0a7af", RULE: "#3d444d"}
"""Colours of lines and letters, and what they become where the reader prefers a dark page."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#4aa8d8", "#8b6bb1", "#7f7f7f")
"""Colours of methods: Okabe & Ito's, two of them darkened, told apart by colour-blind readers."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X")
PAGE_INCHES = 9.6
LABEL_LENGTH = 34


@dataclass(frozen=True, slots=True)
class Style:
    """How a method is drawn, the same in all figures of a report."""

    colour: str
    marker: str


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One row of an interval plot.

    Attributes:
        label: Name of the method.
        interval: Estimate and bounds; without bounds only the estimate is drawn.
        points: Scores of single runs, drawn faintly.
    """

    label: str
    interval: Interval
    points: tuple[float, ...] = ()


def interval_plot(
    panels: Mapping[str, Sequence[IntervalRow]],
    *,
    xlabel: str = "normalised score (%)",
    references: Mapping[float, str] | None = None,
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Estimates and intervals as dots and bars, one row per method, one panel per title.

    Args:
        panels: Title to rows, from top to bottom. Panels stand side by side and share the rows'
            labels only if these are the same in all panels.
        xlabel: Label of the horizontal axis.
        references: Scores that every panel shows, marked by a dotted line, with their names.
        styles: Style of each label; ``method_styles`` of all labels by default.

    Returns:
        The figure.

    Raises:
        ValueError: No panel, or a panel without rows.
    """
    if not panels or not all(panels.values()):
        raise ValueError("nothing to draw; expected at least one panel with at least one row")
    labels = list(dict.fromkeys(row.label for rows in panels.values() for row in rows))
    styles = styles or method_styles(labels)
    height = 0.62 + 0.3 * max(len(rows) for rows in panels.values())
    with styled_figure(height, len(panels)) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        orders = {tuple(row.label for row in rows) for rows in panels.values()}
        for index, (ax, (title, rows)) in enumerate(zip(axes, panels.items(), strict=True)):
            for y, row in enumerate(rows):
                _draw_interval(ax, y, row, styles[row.label])
            named = index == 0 or len(orders) > 1
            ax.set_yticks(range(len(rows)), [_short(row.label) for row in rows] if named else [])
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.set_title(_short(title), fontsize=9.5, color=INK, loc="left")
            ax.set_xlabel(xlabel)
            _mark_references(ax, references or {})
            clean_axes(ax)
            ax.tick_params(axis="y", length=0, labelcolor=INK)
            ax.spines["left"].set_visible(False)
    return figure


def performance_profile_plot(
    thresholds: Sequence[float],
    profiles: Mapping[str, Sequence[float]],
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    *,
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Share of runs that score above each threshold: the higher the curve, the better.

    Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
    Precipice", section 4.2.

    Args:
        thresholds: (K,) scores, percent, ascending.
        profiles: (K,) fractions of each method.
        bands: (K,) lower and upper bounds of each method, where there are any.
        styles: Style of each method.

    Returns:
        The figure.
    """
    styles = styles or method_styles(profiles)
    bands = bands or {}
    with styled_figure(3.4, 1) as figure:
        ax = figure.subplots()
        every = max(1, len(thresholds) // 8)
        for index, (label, profile) in enumerate(profiles.items()):
            low, high = bands.get(label, (profile, profile))
            if np.isfinite(low).all():
                ax.fill_between(
                    thresholds,
                    low,
                    high,
                    color=styles[label].colour,
                    alpha=0.14,
                    linewidth=0,
                    step="post",
                )
            ax.step(
                thresholds,
                profile,
                where="post",
                color=styles[label].colour,
                linewidth=1.8,
                marker=styles[label].marker,
                markevery=(index * every // max(1, len(profiles)), every),
                markersize=4,
                label=_short(label),
            )
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlim(thresholds[0], thresholds[-1])
        ax.set_xlabel("normalised score τ (%)")
        ax.set_ylabel("share of runs above τ")
        clean_axes(ax)
        ax.grid(axis="y", color=RULE, linewidth=0.6)
        legend = ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
        for text in legend.get_texts():
            text.set_color(INK)
    return figure


def method_styles(labels: Iterable[str]) -> dict[str, Style]:
    """Gives every label a colour and a marker, in order; pairs repeat after 56 labels."""
    return {
        label: Style(PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
        for index, label in enumerate(labels)
    }


def to_svg(figure: Figure) -> bytes:
    """Renders a figure as SVG that follows the reader's light or dark preference.

    The same figure gives the same bytes: no date, no random ids. Letters are text in the reader's
    own sans-serif font.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hetero_bench"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    variables = {colour: f"--c{index}" for index, colour in enumerate(DARK_THEME)}
    light = "".join(f"{name}:{colour};" for colour, name in variables.items())
    dark = "".join(f"{name}:{DARK_THEME[colour]};" for colour, name in variables.items())
    for colour, name in variables.items():
        svg = re.sub(f"(?<=[:\\s]){colour}\\b", f"var({name})", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"<>]*", "system-ui, 'Segoe UI', sans-serif", svg)
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    start = svg.index(">") + 1
    return (svg[:start] + style + svg[start:]).encode("utf-8")


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """Renders a figure as PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def styled_figure(height: float, panels: int) -> Iterator[Figure]:
    """A figure in the house style, laid out when the block ends; labels are never parsed as TeX.

    Args:
        height: In inches.
        panels: Panels side by side; more than five widen the figure.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "text.parse_math": False,
        "font.size": 9,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "text.color": INK,
    }
    with matplotlib.rc_context(style):
        width = max(PAGE_INCHES, 1.9 * panels)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _draw_interval(ax: Axes, y: int, row: IntervalRow, style: Style) -> None:
    interval, colour = row.interval, style.colour
    if row.points:
        ax.plot(row.points, [y] * len(row.points), "|", color=colour, markersize=9, alpha=0.45)
    if not math.isnan(interval.low):
        ax.plot(
            [interval.low, interval.high],
            [y, y],
            color=colour,
            linewidth=5,
            alpha=0.38,
            solid_capstyle="butt",
        )
    ax.plot([interval.estimate], [y], style.marker, color=colour, markersize=6)


def _mark_references(ax: Axes, references: Mapping[float, str]) -> None:
    for score, name in references.items():
        ax.axvline(score, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        ax.annotate(
            name,
            (score, 1.0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=MUTED,
        )


def clean_axes(ax: Axes) -> None:
    """Leaves of the frame what is needed to read the axes."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_linewidth(0.7)
    ax.spines["left"].set_linewidth(0.7)
    ax.tick_params(width=0.7, length=3)
    ax.set_facecolor("none")


def _short(label: str) -> str:
    return shorten(printable(label), LABEL_LENGTH)
