"""A grade as text for a terminal and as an HTML report."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hetero_bench import formatting
from hetero_bench.grading import tables
from hetero_bench.grading.results import Aggregate, Grade
from hetero_bench.report import Figure, Section, Table, render

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from hetero_bench.plotting import Style

REFERENCES = {0.0: "random", 100.0: "expert"}
UNLIMITED = 10_000
TEXT_WIDTH = 100
PROFILE_RUNS = 10
"""Runs that every method needs for a performance profile on a single dataset."""


def as_text(grade: Grade, width: int | None = None) -> str:
    """Renders the score tables and comparisons; see ``Grade.to_text``."""
    from rich.console import Console
    from rich.text import Text

    stream = io.StringIO()
    console = Console(file=stream, width=width or UNLIMITED, color_system=None)
    shown = _text_tables(grade)
    for table in shown:
        console.print(Text(table.caption))
        console.print(_grid(table))
    notes = [f"Warning: {warning}" for warning in grade.warnings]
    notes += filter(None, [_left_out(grade)])
    notes += filter(None, dict.fromkeys(table.note for table in shown))
    notes.append(_method_note(grade))
    for note in notes:
        console.print(Text(note), width=min(width or TEXT_WIDTH, TEXT_WIDTH))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def as_html(grade: Grade, extra: Sequence[Section], title: str) -> str:
    """Renders the report; see ``Grade.to_html``."""
    from hetero_bench import plotting

    styles = plotting.method_styles([entry.label for entry in grade.entries])
    sections = [_dataset_section(grade, one.label, styles) for one in grade.datasets]
    if len(grade.shared) > 1:
        sections.insert(0, _aggregate_section(grade, styles))
    if _profile_makes_sense(grade):
        sections.append(_profile_section(grade, styles))
    if grade.comparisons:
        sections.append(_comparison_section(grade))
    sections += extra
    sections.append(Section("Data", table=tables.data_table(grade)))
    sections.append(Section("Runs", table=tables.run_table(grade)))
    sections.append(Section("Configurations", table=tables.config_table(grade)))
    runs = sum(len(result.seeds) for result in grade.results)
    return render(
        title,
        sections,
        lead=_lead(grade),
        facts=(
            ("Methods", str(len(grade.entries))),
            ("Datasets", str(len(grade.datasets))),
            ("Runs", str(runs)),
            ("Bootstrap", f"{grade.resamples:,} resamples, seed {grade.seed}"),
        ),
        warnings=[*grade.warnings, *filter(None, [_left_out(grade)])],
        colophon=f"{_method_note(grade)} Made by hetero_bench {grade.version}.",
    )


def _lead(grade: Grade) -> str:
    """One sentence on who is first, or that it is undecided."""
    if not grade.aggregates:
        return "No dataset has runs of all methods, so there is no overall order."
    order = tables.ranked(grade.aggregates)
    where = grade.shared[0] if len(grade.shared) == 1 else f"{len(grade.shared)} shared datasets"
    best = order[0]
    if len(order) == 1:
        return f"{best.entry} scores {formatting.estimate(best.iqm)} on {where} (IQM)."
    leaders = [one.entry for one in order if one.rank.low == 1]
    if len(leaders) == 1:
        return f"{best.entry} is first on {where}, with an IQM of {formatting.estimate(best.iqm)}."
    return f"First place on {where} is undecided between {_listed(leaders)}."


def _dataset_section(grade: Grade, dataset: str, styles: Mapping[str, Style]) -> Section:
    from hetero_bench.plotting import IntervalRow, interval_plot, to_svg

    results = sorted(
        (result for result in grade.results if result.dataset == dataset),
        key=lambda result: (-result.iqm.estimate, result.entry),
    )
    rows = [IntervalRow(one.entry, one.iqm, one.scores) for one in results]
    plot = interval_plot({"": rows}, references=REFERENCES, styles=styles)
    figure = Figure(
        caption=f"Marker: IQM. Bar: {grade.level:.0%} interval. Thin strokes: single runs.",
        alt=f"Scores on {dataset}: "
        + "; ".join(f"{one.entry} IQM {formatting.estimate(one.iqm)}" for one in results),
        image=to_svg(plot),
    )
    table = tables.dataset_table(grade, dataset)
    if dataset != grade.datasets[0].label:
        table = dataclasses.replace(table, note="")  # said once
    return Section(dataset, table=table, figures=(figure,))


def _aggregate_section(grade: Grade, styles: Mapping[str, Style]) -> Section:
    from hetero_bench.plotting import IntervalRow, interval_plot, to_svg

    order = tables.ranked(grade.aggregates)
    panels = {
        "IQM": [IntervalRow(one.entry, one.iqm) for one in order],
        "Median": [IntervalRow(one.entry, one.median) for one in order],
        "Mean": [IntervalRow(one.entry, one.mean) for one in order],
        "Optimality gap": [IntervalRow(one.entry, one.optimality_gap) for one in order],
    }
    figure = Figure(
        caption="Higher is better, except for the optimality gap: the mean amount by which runs "
        "miss the expert.",
        alt="Aggregates over the shared datasets: "
        + "; ".join(f"{one.entry} IQM {formatting.estimate(one.iqm)}" for one in order),
        image=to_svg(interval_plot(panels, xlabel="percent", styles=styles)),
    )
    text = (
        "Every dataset weighs the same. The IQM, the mean of the middle half of all runs, is "
        "steadier than the mean, which one dataset can dominate, and than the median, which "
        "ignores most runs."
    )
    return Section("Across datasets", text, table=tables.aggregate_table(grade), figures=(figure,))


def _profile_makes_sense(grade: Grade) -> bool:
    """A distribution of runs needs runs: several datasets, or many seeds on one."""
    shared = [len(result.seeds) for result in grade.results if result.dataset in grade.shared]
    return len(grade.shared) > 1 or min(shared, default=0) >= PROFILE_RUNS


def _profile_section(grade: Grade, styles: Mapping[str, Style]) -> Section:
    from hetero_bench.plotting import performance_profile_plot, to_svg

    order = tables.ranked(grade.aggregates)
    plot = performance_profile_plot(
        grade.thresholds,
        {one.entry: one.profile for one in order},
        {one.entry: (one.profile_low, one.profile_high) for one in order},
        styles=styles,
    )
    figure = Figure(
        caption=f"Share of runs scoring above τ, with pointwise {grade.level:.0%} intervals. "
        "A curve that lies above another everywhere belongs to the better method at every score.",
        alt="Performance profiles. Share of runs above the middle of the scale: "
        + "; ".join(f"{one.entry} {_middle(grade, one):.0%}" for one in order),
        image=to_svg(plot),
    )
    return Section("Performance profile", figures=(figure,))


def _comparison_section(grade: Grade) -> Section:
    against = "all pairs" if grade.baseline is None else f"against {grade.baseline}"
    text = (
        "A method is called better if the interval of the difference excludes 0 and there are "
        "enough runs for any test to tell; otherwise the comparison is undecided. "
        f"Compared: {against}."
    )
    return Section("Comparisons", text, table=tables.comparison_table(grade))


def _middle(grade: Grade, aggregate: Aggregate) -> float:
    return aggregate.profile[len(grade.thresholds) // 2]


def _text_tables(grade: Grade) -> list[Table]:
    found = [tables.dataset_table(grade, one.label) for one in grade.datasets]
    if len(grade.shared) > 1:
        found.append(tables.aggregate_table(grade))
    if grade.comparisons:
        found.append(tables.comparison_table(grade))
    return [*found, tables.data_table(grade)]


def _grid(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(table.columns):
        justify = "right" if index in table.numeric else "left"
        grid.add_column(Text(column), justify=justify, overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(formatting.printable(cell)) for cell in row))
    return grid


def _left_out(grade: Grade) -> str:
    if not grade.left_out:
        return ""
    parts = "; ".join(
        f"{dataset} (no runs of {_listed(list(entries))})"
        for dataset, entries in grade.left_out.items()
    )
    return f"Left out of what is computed across datasets: {parts}."


def _method_note(grade: Grade) -> str:
    return (
        f"Intervals: stratified percentile bootstrap over runs, {grade.resamples:,} resamples, "
        f"seed {grade.seed} (Agarwal et al. 2021)."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
