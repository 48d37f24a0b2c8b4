"""The claims about the maze, each with what was measured and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from baselines.reproduce.reds_gridworld import series, sweep
from baselines.reproduce.reds_gridworld.findings import Findings
from baselines.reproduce.reds_gridworld.regions import Widths, compare_widths
from baselines.reproduce.reds_gridworld.results import (
    SOLVED,
    Cell,
    best,
    difference,
    mean_interval,
    paired_differences,
    select,
)
from baselines.reproduce.reds_gridworld.verdicts import (
    at_least,
    describe,
    less_than,
    more_than,
    percent,
    points,
    significant,
    unanimous,
)
from baselines.reproduce.verdicts import Verdict, all_of
from hetero_bench.bootstrap import Interval
from hetero_bench.formatting import estimate

REDS_SUCCESS = 0.8
"""Share of the time that the paper's CQL (ReDS) traverses the maze."""


@dataclass(frozen=True)
class Claim:
    """One row of the table of claims.

    Attributes:
        text: What is claimed.
        source: Where.
        measured: What was measured, in words and numbers.
        verdict: What follows.
    """

    text: str
    source: str
    measured: str
    verdict: Verdict


def claims(findings: Findings) -> list[Claim]:
    """Returns the table of claims, in the order of the page."""
    makers: tuple[Callable[[Findings], Claim], ...] = (
        _reds_succeeds,
        _cql_stuck,
        _awr_stuck,
        _cql_fails_tuned,
        _awr_fails_tuned,
        _separation,
        _wider,
        _more_than_half_alpha,
        _hallways,
        _concentrability_order,
        _success_order,
    )
    return [make(findings) for make in makers]


def of_method(findings: Findings, method: str) -> list[Cell]:
    """Returns a method's cells on the heteroskedastic dataset."""
    return select(findings.cells, dataset=findings.dataset, method=method)


def _reds_succeeds(findings: Findings) -> Claim:
    cells = of_method(findings, "reds")
    top = best(cells)
    return Claim(
        "CQL (ReDS) traverses the maze 80% of the time",
        "3.1, Fig. 8",
        f"{percent(top.success)} at {describe(top)}, the best of {len(cells)} settings; "
        f"{sum(cell.succeeds for cell in cells)} of them succeed",
        at_least(top.success, REDS_SUCCESS),
    )


def _stuck(cells: Sequence[Cell]) -> Verdict:
    return all_of(less_than(cell.success, SOLVED) for cell in cells)


def _cql_stuck(findings: Findings) -> Claim:
    cells = [
        cell
        for cell in series.CQL.cells(findings.cells, findings.dataset)
        if cell.setting.alpha in sweep.PAPER_ALPHAS
    ]
    top = max(cells, key=lambda cell: cell.success.estimate)
    return Claim(
        "CQL with α = 0.1, 1, 10 gets stuck",
        "App. B, Fig. 7",
        f"at most {percent(top.success)}",
        _stuck(cells),
    )


def _awr_stuck(findings: Findings) -> Claim:
    cells = [
        cell
        for cell in of_method(findings, "awr")
        if cell.setting.temperature in sweep.PAPER_TEMPERATURES
    ]
    top = max(cells, key=lambda cell: cell.success.estimate)
    return Claim(
        "AWR with temperature 0.1, 1, 10 gets stuck",
        "App. B, Fig. 6",
        f"at most {percent(top.success)}",
        _stuck(cells),
    )


def _cql_fails_tuned(findings: Findings) -> Claim:
    cells = of_method(findings, "cql")
    top = best(cells)
    return Claim(
        "CQL fails even at its best α",
        "3.1 (“we tune each method to its best”)",
        f"{percent(top.success)} at {describe(top)}; {sum(cell.succeeds for cell in cells)} of "
        f"{len(cells)} settings succeed",
        _stuck(cells),
    )


def _awr_fails_tuned(findings: Findings) -> Claim:
    cells = of_method(findings, "awr")
    top = max(cells, key=lambda cell: cell.success.estimate)
    return Claim(
        "AWR fails even at its best temperature",
        "3.1",
        f"at most {percent(top.success)} over {len(cells)} temperatures from "
        f"{cells[0].setting.temperature:g} to {cells[-1].setting.temperature:g}",
        _stuck(cells),
    )


def separating(findings: Findings) -> tuple[Cell, Cell]:
    """Returns ReDS's and CQL's cell at the equal α at which ReDS is farthest ahead."""
    return max(
        (
            (reds, cql)
            for reds in series.REDS.cells(findings.cells, findings.dataset)
            for cql in series.CQL.cells(findings.cells, findings.dataset)
            if reds.setting.alpha == cql.setting.alpha
        ),
        key=lambda pair: pair[0].success.estimate - pair[1].success.estimate,
    )


def _separation(findings: Findings) -> Claim:
    reds, cql = separating(findings)
    return Claim(
        "At an equal α, ReDS succeeds where CQL gets stuck",
        "3.1, Fig. 1",
        f"at {describe(cql)}: ReDS (τ = {reds.setting.tau:g}) {percent(reds.success)}, "
        f"CQL {percent(cql.success)}",
        all_of(
            (
                at_least(reds.success, SOLVED),
                less_than(cql.success, SOLVED),
                more_than(difference(reds, cql), 0.0),
            )
        ),
    )


@dataclass(frozen=True)
class Matched:
    """ReDS's cells, each with CQL's at half its α, all else equal.

    Attributes:
        condition: What they have in common.
        reds: Ascending in α.
        cql: Of the same length.
    """

    condition: str
    reds: list[Cell]
    cql: list[Cell]

    @property
    def widths(self) -> Widths:
        """The two ranges of α in which they succeed, ReDS's first."""
        return compare_widths(self.reds, self.cql)

    @property
    def gain(self) -> Interval:
        """How much more ReDS succeeds, mean over the pairs."""
        pairs = zip(self.reds, self.cql, strict=True)
        return mean_interval(np.mean([paired_differences(*pair) for pair in pairs], axis=0))


def matched(findings: Findings) -> list[Matched]:
    """Returns ReDS beside CQL at half its α, for every condition."""
    found = []
    for of_reds, of_cql in series.PAIRS:
        cells = of_cql.cells(findings.cells, findings.dataset)
        halves = {2.0 * (cell.setting.alpha or 0.0): cell for cell in cells}
        reds = [
            cell
            for cell in of_reds.cells(findings.cells, findings.dataset)
            if cell.setting.alpha in halves
        ]
        cql = [halves[cell.setting.alpha] for cell in reds if cell.setting.alpha is not None]
        found.append(Matched(series.condition(of_cql), reds, cql))
    return found


def _wider(findings: Findings) -> Claim:
    found = [(each.condition, each.widths) for each in matched(findings)]
    text = "; ".join(
        f"{condition}: ReDS {widths.first.estimate:.1f}, CQL {widths.second.estimate:.1f}, ratio "
        f"{estimate(widths.ratio, 2)}"
        for condition, widths in found
    )
    return Claim(
        "ReDS succeeds in a wider range of α than CQL",
        "ours, after App. B",
        f"largest over smallest succeeding α, {text}",
        unanimous(more_than(widths.ratio, 1.0) for _, widths in found),
    )


def _more_than_half_alpha(findings: Findings) -> Claim:
    found = [(each.condition, each.gain) for each in matched(findings)]
    return Claim(
        "ReDS does better than CQL with half its α",
        "ours",
        "; ".join(f"{condition}: {points(gain)}" for condition, gain in found)
        + ", mean over the values of α",
        unanimous(more_than(gain, 0.0) for _, gain in found),
    )


def _hallways(findings: Findings) -> Claim:
    cells = series.CQL.cells(findings.cells, findings.dataset)
    lowest, top = cells[0], best(cells)
    lost, kept = (np.array(findings.fate(cell.setting).off_data) for cell in (lowest, top))
    leaves = mean_interval(lost - kept)
    return Claim(
        "With too little conservatism success is lost in the hallways",
        "3.1, App. B",
        f"CQL with α = {lowest.setting.alpha:g} succeeds less often than with "
        f"{top.setting.alpha:g}, by {points(difference(top, lowest))}, and more often takes "
        f"another than the data's action in hallways, by {points(leaves)}",
        all_of((more_than(difference(top, lowest), 0.0), more_than(leaves, 0.0))),
    )


def _concentrability_order(findings: Findings) -> Claim:
    measured = [findings.divergence(name) for name in findings.figure_2]
    ascending = all(a.c_diff < b.c_diff for a, b in pairwise(measured))
    return Claim(
        "C_diff: uniform < mixed < skewed",
        "Fig. 2",
        ", ".join(significant(each.c_diff) for each in measured) + ", of the optimal policy",
        "held" if ascending else "not held",
    )


def _success_order(findings: Findings) -> Claim:
    tuned = [best(series.CQL.cells(findings.cells, name)) for name in findings.figure_2]
    return Claim(
        "CQL's success: uniform > mixed > skewed",
        "Fig. 2",
        ", ".join(percent(cell.success) for cell in tuned) + ", each at its best α",
        all_of(more_than(difference(a, b), 0.0) for a, b in pairwise(tuned)),
    )
