"""The paper's figures, from the studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from baselines.reproduce.c4_covariance.observation import BACKBONES, C4, Study
from hetero_bench.plotting import INK, PALETTE, RULE, clean_axes, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"LN": PALETTE[2], "DR3": PALETTE[3], C4: PALETTE[0]}
"""Of the arms; the backbone's is the palette's second."""


def colour_of(arm: str) -> str:
    """Returns the colour of an arm."""
    return COLOURS.get(arm, PALETTE[1])


def backbone_arm(study: Study) -> str:
    """Returns the name of the arm that is the backbone alone."""
    return next(iter(BACKBONES[study.backbone]))


def values(study: Study, arm: str, name: str) -> np.ndarray:
    """Returns the (T, P) values of a measure."""
    return np.array(study.arms[arm][name], np.float64)


def _draw(axes: Axes, study: Study, arm: str, name: str, *, colour: str, label: str) -> None:
    """Draws the mean over seeds, and every seed faintly."""
    found = values(study, arm, name)
    axes.plot(study.steps, found, color=colour, linewidth=0.8, alpha=0.35)
    axes.plot(study.steps, found.mean(1), color=colour, linewidth=1.8, label=label)


def _finish(axes: Axes, title: str, *, legend: bool = True) -> None:
    axes.set_title(title, fontsize=9.5, loc="left", color=INK)
    axes.set_xlabel("gradient steps")
    axes.grid(color=RULE, linewidth=0.5)
    clean_axes(axes)
    if legend:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)


def what_drives_the_loss(study: Study) -> Figure:
    """Figure 1: cosines; terms A, B and C; the score; all of the backbone alone."""
    arm = backbone_arm(study)
    with styled_figure(2.7, 3) as figure:
        cosines, terms, score = figure.subplots(1, 3)
        for name, label, colour in (
            ("cosine_variance", "∇ Var δ", PALETTE[0]),
            ("cosine_mean", "∇ (E δ)²", PALETTE[1]),
        ):
            _draw(cosines, study, arm, name, colour=colour, label=label)
        cosines.set_ylim(-1.05, 1.05)
        _finish(cosines, f"{arm}: cosine of ∇ E[δ²] with")
        for name, label, colour in (
            ("term_a_exact", "A: tr Cov(g')", PALETTE[2]),
            ("term_b_exact", "B: tr Cov(g)", PALETTE[4]),
            ("trace_exact", "C: tr Cov(g', g)", PALETTE[1]),
        ):
            _draw(terms, study, arm, name, colour=colour, label=label)
        terms.set_yscale("symlog", linthresh=1e-3)
        _finish(terms, f"{arm}: terms of Var δ, over m")
        for each in study.arms:
            _draw(score, study, each, "score", colour=colour_of(each), label=each)
        _finish(score, "score (%)")
    return figure


def traces_during_training(study: Study) -> Figure:
    """Figure 11: the trace of the cross covariance of all arms, by both meanings of g."""
    with styled_figure(2.9, 3) as figure:
        panels = figure.subplots(1, 3)
        for axes, kind, title in zip(
            panels,
            ("exact", "feature"),
            ("input gradients: tr Cov(g', g) / m", "features: tr Cov(g', g) / m"),
            strict=False,
        ):
            for arm in study.arms:
                _draw(axes, study, arm, f"trace_{kind}", colour=colour_of(arm), label=arm)
            axes.set_yscale("symlog", linthresh=1e-3)
            _finish(axes, title, legend=kind == "exact")
        for name, label, style in (
            ("fit_trace_uniform", "uniform batches", PALETTE[1]),
            ("fit_trace_cluster", "single-cluster batches", PALETTE[0]),
        ):
            _draw(panels[2], study, C4, name, colour=style, label=label)
        _finish(panels[2], "C4, features: by batches")
    return figure


def clusters_during_training(study: Study) -> Figure:
    """Figures 12 and 13: gradient pairs in two dimensions, coloured by cluster."""
    with styled_figure(2.6, len(study.clusters)) as figure:
        panels = figure.subplots(1, len(study.clusters), squeeze=False)[0]
        for axes, found in zip(panels, study.clusters, strict=True):
            places, labels = np.array(found.places), np.array(found.labels)
            for label in sorted(set(found.labels)):
                own = places[labels == label]
                axes.scatter(*own.T, s=3, color=PALETTE[label % len(PALETTE)], linewidths=0)
            title = f"{found.step:,} steps: {found.effective:.1f} clusters"
            axes.set_title(title, fontsize=9, loc="left", color=INK)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_color(RULE)
    return figure
