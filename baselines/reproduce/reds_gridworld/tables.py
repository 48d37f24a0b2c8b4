"""The page's tables, as rows of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from baselines.reproduce.reds_gridworld import claims, series
from baselines.reproduce.reds_gridworld.findings import OPTIMAL, TRAINED, Findings
from baselines.reproduce.reds_gridworld.regions import Region, edge_intervals, success_region
from baselines.reproduce.reds_gridworld.results import SOLVED, difference
from baselines.reproduce.reds_gridworld.verdicts import describe, percent, points, significant
from hetero_bench.formatting import NONE, estimate

SMALLEST = 3
"""Values of α that the table of too little conservatism shows of each series."""


def region_rows(findings: Findings) -> list[Sequence[str]]:
    """Returns per series: succeeding α, their ratio, the upper edge, and the exact one."""
    rows = []
    for each in series.ALL:
        cells = each.cells(findings.cells, findings.dataset)
        if not cells:
            continue
        region = success_region({cell.setting.alpha or 0.0: cell.succeeds for cell in cells})
        lower, upper = edge_intervals(cells)
        exact = findings.exact.curve(each)
        rows.append(
            (
                each.title,
                f"{cells[0].setting.alpha:g} to {cells[-1].setting.alpha:g}",
                NONE if region is None else _range(region),
                NONE if region is None else _ratio(region),
                estimate(lower, 4),
                estimate(upper, 4),
                NONE if exact is None else f"{exact.edge:.4f}",
            )
        )
    return rows


def _range(region: Region) -> str:
    text = f"{region.lowest:g}"
    if region.highest > region.lowest:
        text += f" to {region.highest:g}"
    if region.gaps:
        text += " without " + ", ".join(f"{alpha:g}" for alpha in region.gaps)
    return text


def _ratio(region: Region) -> str:
    bounded = region.bounded_below and region.bounded_above
    return f"{'' if bounded else '≥ '}{region.ratio:g}"


def width_rows(findings: Findings) -> list[Sequence[str]]:
    """Returns per condition: widths, their ratio, how far the ends are apart, mean gain."""
    return [
        (
            each.condition,
            *(estimate(part, 1) for part in each.widths[:2]),
            *(estimate(part, 2) for part in each.widths[2:]),
            points(each.gain),
        )
        for each in claims.matched(findings)
    ]


def half_alpha_rows(findings: Findings) -> list[Sequence[str]]:
    """Returns per pair of settings: ReDS, CQL with half its α, the difference."""
    return [
        (
            describe(reds),
            percent(reds.success),
            f"{cql.setting.alpha:g}",
            percent(cql.success),
            points(difference(reds, cql)),
        )
        for each in claims.matched(findings)
        for reds, cql in zip(each.reds, each.cql, strict=True)
    ]


def low_alpha_rows(findings: Findings) -> list[Sequence[str]]:
    """Returns for the smallest values of α: failures, overestimates, behaviour in hallways."""
    rows = []
    for pair in (series.PAIRS[0], series.PAIRS[-1]):
        for each in reversed(pair):
            for cell in each.cells(findings.cells, findings.dataset)[:SMALLEST]:
                fate = findings.fate(cell.setting)
                fails = np.array(cell.rates) < SOLVED
                rows.append(
                    (
                        f"{each.title}, α = {cell.setting.alpha:g}",
                        f"{fails.sum()} of {len(fails)}",
                        str(cell.runaway),
                        significant(max(cell.values)),
                        *(_mean(fate.off_data, seeds) for seeds in (fails, ~fails)),
                        *(_mean(fate.hits_wall, seeds) for seeds in (fails, ~fails)),
                    )
                )
    return rows


def _mean(shares: Sequence[float], seeds: np.ndarray) -> str:
    return f"{100.0 * np.array(shares)[seeds].mean():.0f}%" if seeds.any() else NONE


def figure_2_rows(findings: Findings) -> list[Sequence[str]]:
    """Returns per dataset: measures of heteroskedasticity."""
    rows = []
    for name in (*findings.figure_2, findings.dataset):
        optimal, learned = (findings.divergence(name, which) for which in (OPTIMAL, TRAINED))
        rows.append(
            (
                _short(name),
                significant(optimal.c_diff),
                significant(learned.c_diff),
                f"{optimal.std:.1f}",
                f"{optimal.maximum:.1f}",
            )
        )
    return rows


def on_dataset_rows(findings: Findings) -> list[Sequence[str]]:
    """Returns per dataset and α: CQL's success trained, exact, and with more steps."""
    return [
        (
            _short(each.dataset),
            f"{each.alpha:g}",
            percent(cell.success),
            f"{100.0 * each.exact:.0f}%",
            f"{100.0 * each.patient:.0f}%",
        )
        for each in findings.on_datasets
        for cell in series.CQL.cells(findings.cells, each.dataset)
        if cell.setting.alpha == each.alpha
    ]


def _short(dataset_id: str) -> str:
    return f"`{dataset_id.rsplit('-', 1)[0]}`"
