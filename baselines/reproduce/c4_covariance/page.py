"""Writes the page: prose from a template, every number from the studies."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from baselines.reproduce.c4_covariance import figures
from baselines.reproduce.c4_covariance.observation import C4, Study
from baselines.reproduce.templates import fill_template
from hetero_bench import atomic
from hetero_bench.plotting import to_png

TEMPLATE = Path(__file__).with_name("page.md.jinja")
DPI = 110
GRADIENTS = {"exact": "input gradients", "feature": "features"}
"""What cross covariances are of, by the names of the measures."""
CLUSTER_FIGURES = {"cql": 12, "td3_bc": 13}
"""The paper's pictures of clusters, by backbone."""


def write_page(studies: list[Study], page: Path) -> list[Path]:
    """Writes the page, its figures and all values as JSON; returns the files written."""
    folder = page.with_suffix("")
    written = []
    for study in studies:
        for name, draw in (
            ("loss", figures.what_drives_the_loss),
            ("traces", figures.traces_during_training),
            ("clusters", figures.clusters_during_training),
        ):
            path = folder / f"{name}-{study.backbone}.png"
            written.append(atomic.write_file(path, to_png(draw(study), dpi=DPI)))
    documents = [study.model_dump_json(exclude={"clusters"}) for study in studies]
    values = f"[{','.join(documents)}]\n"
    written.append(atomic.write_file(folder / "values.json", values))
    written.append(atomic.write_file(page, render(studies, folder.name)))
    return written


def render(studies: list[Study], folder: str) -> str:
    """Returns the page's Markdown, whose figures lie in ``folder`` beside it."""
    return fill_template(
        TEMPLATE,
        studies=[
            {
                "study": study,
                "rows": claim_rows(study),
                "backbone": figures.backbone_arm(study),
                "cluster_figure": CLUSTER_FIGURES[study.backbone],
            }
            for study in studies
        ],
        figures=sorted({1, 11, *(CLUSTER_FIGURES[study.backbone] for study in studies)}),
        folder=folder,
        options=command_options(studies),
        seeds=len(studies[0].seeds),
    )


def command_options(studies: list[Study]) -> str:
    """Returns the options that make these studies again."""
    first = studies[0]
    options = {
        "dataset": first.dataset.rsplit("-v", 1)[0],
        "backbones": " ".join(study.backbone for study in studies),
        "steps": first.steps[-1],
        "observations": len(first.steps),
        "seeds": len(first.seeds),
        "episodes": first.episodes,
    }
    return "".join(f" --{name} {value}" for name, value in options.items())


def late_values(study: Study, arm: str, name: str) -> np.ndarray:
    """Returns the (P,) means of a measure over the second half of training."""
    found = figures.values(study, arm, name)
    return np.nanmean(found[len(found) // 2 :], axis=0)


def claim_rows(study: Study) -> list[tuple[str, str, str]]:
    """Returns the paper's claims, what was measured, and the verdict.

    Numbers are means over the second half of training, of every seed; a claim is held if it is so
    for all seeds, and undecided if it is for some.
    """
    plain = figures.backbone_arm(study)
    late = functools.partial(late_values, study)
    rows = []

    def add(claim: str, lower: tuple[str, np.ndarray], higher: tuple[str, np.ndarray]) -> None:
        measured = "; ".join(
            f"{name} {' and '.join(f'{value:.3g}' for value in numbers)}"
            for name, numbers in (lower, higher)
        )
        so = lower[1] < higher[1]
        verdict = "held" if so.all() else "undecided" if so.any() else "not held"
        if np.isnan([lower[1], higher[1]]).any():
            verdict = "not measured"
        rows.append((claim, measured, verdict))

    add(
        "∇E[δ²] is closer to ∇Var δ than to ∇(Eδ)² (Figure 1, left)",
        ("∇(Eδ)²", late(plain, "cosine_mean")),
        ("∇Var δ", late(plain, "cosine_variance")),
    )
    cross_term = figures.values(study, plain, "trace_exact")
    add(
        f"The cross term grows under {plain} (Figure 1, right)",
        ("first", cross_term[0]),
        ("last", cross_term[-1]),
    )
    for kind, text in GRADIENTS.items():
        for arm in study.arms:
            if arm != C4:
                add(
                    f"C4 has a lower trace than {arm}, {text} (Figure 11)",
                    (C4, late(C4, f"trace_{kind}")),
                    (arm, late(arm, f"trace_{kind}")),
                )
    for kind, text in GRADIENTS.items():
        add(
            f"C4's gradients go less together than {plain}'s, {text}, scale left out (ours)",
            (C4, late(C4, f"correlation_{kind}")),
            (plain, late(plain, f"correlation_{kind}")),
        )
    add(
        "Batches of one cluster, which lack Cov(μ'_Z, μ_Z), have a lower trace (Theorem 2)",
        ("one cluster", late(C4, "fit_trace_cluster")),
        ("uniform", late(C4, "fit_trace_uniform")),
    )
    return rows
