"""Writes the page: prose from a template, every number from the findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.reproduce.reds_gridworld import claims, series, sweep, tables
from baselines.reproduce.reds_gridworld.figures import edge_plot, success_curves, success_heat_map
from baselines.reproduce.reds_gridworld.findings import PATIENCE, Findings
from baselines.reproduce.reds_gridworld.maze_figures import fates_plot, figure_2, visitations
from baselines.reproduce.reds_gridworld.results import best, select
from baselines.reproduce.reds_gridworld.verdicts import describe, percent
from baselines.reproduce.templates import fill_template
from hetero_bench import atomic
from hetero_bench.plotting import to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.md.jinja")
DPI = 110


def write_page(findings: Findings, page: Path) -> list[Path]:
    """Writes the page, its figures and the findings as JSON.

    Args:
        findings: What it says.
        page: The Markdown file; the rest goes into a folder of its name beside it.

    Returns:
        The files written.
    """
    folder = page.with_suffix("")
    written = [
        atomic.write_file(folder / f"{name}.png", to_png(draw(), dpi=DPI))
        for name, draw in figures(findings).items()
    ]
    document = findings.model_dump_json(exclude_none=True) + "\n"
    written.append(atomic.write_file(folder / "findings.json", document))
    written.append(atomic.write_file(page, render(findings, folder.name)))
    return written


def render(findings: Findings, folder: str) -> str:
    """Returns the page's Markdown, whose figures lie in ``folder`` beside it."""
    reds, cql = claims.separating(findings)
    lowest, *_ = series.CQL.cells(findings.cells, findings.dataset)
    exact_cql = findings.exact.curve(series.CQL)
    assert exact_cql is not None
    exact_edge = max(findings.exact.edges.items(), key=lambda item: item[1])
    return fill_template(
        TEMPLATE,
        findings=findings,
        folder=folder,
        claim_rows=[(c.text, c.source, c.measured, c.verdict) for c in claims.claims(findings)],
        reds_tuned=best(claims.of_method(findings, "reds")),
        cql_tuned=best(claims.of_method(findings, "cql")),
        separating_reds=reds,
        separating_cql=cql,
        main_match=claims.matched(findings)[0],
        region_rows=tables.region_rows(findings),
        width_rows=tables.width_rows(findings),
        half_alpha_rows=tables.half_alpha_rows(findings),
        low_rows=tables.low_alpha_rows(findings),
        figure_2_rows=tables.figure_2_rows(findings),
        on_dataset_rows=tables.on_dataset_rows(findings),
        patience=PATIENCE,
        awr_cells=claims.of_method(findings, "awr"),
        bc=claims.of_method(findings, "bc")[0],
        exact_cql=exact_cql,
        exact_edge=exact_edge,
        exact_gain=f"{100.0 * (exact_edge[1] / (2.0 * exact_cql.edge) - 1.0):.0f}",
        awr_exact={rounds: max(each.values()) for rounds, each in findings.exact.awr.items()},
        steps=findings.steps,
        lowest_fails=findings.seeds - lowest.solved,
        describe=describe,
        percent=percent,
    )


def figures(findings: Findings) -> dict[str, Callable[[], Figure]]:
    """Returns the figures to draw, by name."""
    reds, cql = claims.separating(findings)
    awr = {
        f"AWR, T = {cell.setting.temperature:g}": cell.setting
        for cell in select(findings.cells, dataset=findings.dataset, method="awr")
        if cell.setting.temperature in sweep.PAPER_TEMPERATURES
    }
    plain = series.CQL.cells(findings.cells, findings.dataset)
    tuned = best(plain)
    shown = (*sweep.PAPER_ALPHAS, *(each.setting.alpha for each in (plain[0], tuned, cql)))
    of_cql = {
        f"CQL, α = {cell.setting.alpha:g}": cell.setting
        for cell in plain
        if cell.setting.alpha in shown
    }
    of_reds = {
        f"ReDS, α = {reds.setting.alpha:g}": reds.setting,
        **{f"CQL, α = {each.setting.alpha:g}": each.setting for each in (cql, tuned)},
    }
    return {
        "success-heat-map": lambda: success_heat_map(findings),
        "success-curves": lambda: success_curves(findings),
        "exact-edges": lambda: edge_plot(findings),
        "where-episodes-end": lambda: fates_plot(findings),
        "figure-6-awr": lambda: visitations(findings, awr),
        "figure-7-cql": lambda: visitations(findings, of_cql),
        "figure-8-reds": lambda: visitations(findings, of_reds),
        "figure-2": lambda: figure_2(findings),
    }
