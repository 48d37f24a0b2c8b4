"""The tables of a grade, shared by its text and HTML forms."""

from __future__ import annotations

from collections.abc import Iterable

from hetero_bench import formatting
from hetero_bench.formatting import NONE
from hetero_bench.grading.results import Aggregate, Comparison, Grade, Result
from hetero_bench.report import Table

FIRST_PLACE = "first place cannot be excluded"


def dataset_table(grade: Grade, dataset: str) -> Table:
    """Scores of every entry on one dataset, best IQM first."""
    results = sorted(
        (result for result in grade.results if result.dataset == dataset),
        key=lambda result: (-result.iqm.estimate, result.entry),
    )
    success = any(result.success is not None for result in results)
    diverged = any(result.diverged for result in results)
    columns = ["Method", "Runs", "Mean ± std", "IQM", f"{grade.level:.0%} interval"]
    columns += ["Success %"] * success + ["Diverged"] * diverged + ["Oracle", "Rank"]
    return Table(
        caption=f"Normalised scores on {dataset}, percent.",
        columns=tuple(columns),
        rows=tuple(_result_row(result, success, diverged) for result in results),
        numeric=frozenset(range(1, len(columns))),
        strong=_first_places(results),
        strong_means=FIRST_PLACE,
        note=(
            "Score of a run: final evaluation; 0 is the random policy, 100 the reference expert. "
            "Interval: of the IQM. Oracle: best evaluation during training, which cannot be chosen "
            "without the environment and ranks nothing."
        ),
    )


def aggregate_table(grade: Grade) -> Table:
    """Aggregates over the shared datasets, best IQM first."""
    aggregates = ranked(grade.aggregates)
    interval = f"[{grade.level:.0%} interval]"
    return Table(
        caption=f"Over the {_count(len(grade.shared), 'shared dataset')}, percent {interval}.",
        columns=("Method", "IQM", "Median", "Mean", "Optimality gap", "Rank"),
        rows=tuple(
            (
                one.entry,
                formatting.estimate(one.iqm),
                formatting.estimate(one.median),
                formatting.estimate(one.mean),
                formatting.estimate(one.optimality_gap),
                formatting.rank(one.rank),
            )
            for one in aggregates
        ),
        numeric=frozenset(range(1, 6)),
        strong=_first_places(aggregates),
        strong_means=FIRST_PLACE,
        note=f"Datasets: {', '.join(grade.shared)}.",
    )


def comparison_table(grade: Grade) -> Table:
    """All comparisons, those over several datasets first."""
    return Table(
        caption=f"IQM of the first minus IQM of the second, percentage points "
        f"[{grade.level:.0%} interval].",
        columns=("First against second", "On", "Difference", "P(first beats second)", "Verdict"),
        rows=tuple(
            (
                f"{one.first} against {one.second}",
                scope_name(one),
                formatting.estimate(one.difference),
                formatting.estimate(one.improvement, 2),
                one.verdict,
            )
            for one in grade.comparisons
        ),
        numeric=frozenset({2, 3}),
        note="P: the probability that a run of the first method beats a run of the second on the "
        "same dataset. Intervals are each pair's own, not corrected for the number of pairs; rank "
        "intervals are.",
    )


def data_table(grade: Grade) -> Table:
    """What the runs were trained on."""
    return Table(
        caption="What the runs were trained on, and the returns that scores are measured against.",
        columns=(
            "Dataset",
            "Provenance",
            "Source",
            "Digest (sha256)",
            "Return at 0%",
            "Return at 100%",
        ),
        rows=tuple(
            (
                one.label,
                ", ".join(one.statuses),
                ", ".join(one.sources) or NONE,
                ", ".join(digest[:16] for digest in one.digests),
                f"{one.random:.4g}",
                f"{one.expert:.4g}",
            )
            for one in grade.datasets
        ),
        numeric=frozenset({4, 5}),
        note="verified: the digest is the registry's. rebuilt: same recipe and seed, other bits. "
        "unpinned: the registry has no digest for it.",
    )


def run_table(grade: Grade) -> Table:
    """Which runs count."""
    return Table(
        caption="Seeds and budget of the runs, by method and dataset.",
        columns=(
            "Method",
            "Dataset",
            "Seeds",
            "Gradient steps",
            "Precision",
            "Final episodes",
            "Diverged",
        ),
        rows=tuple(
            (
                one.entry,
                one.dataset,
                formatting.integers(one.seeds),
                _range(one.steps),
                ", ".join(one.precisions) or NONE,
                _range(one.episodes),
                formatting.integers(one.diverged) or "none",
            )
            for one in sorted(grade.results, key=lambda one: (one.entry, one.dataset))
        ),
        numeric=frozenset({3, 5}),
    )


def config_table(grade: Grade) -> Table:
    """Hyperparameters of every entry; fields that differ between datasets list all values."""
    return Table(
        caption="Resolved hyperparameters of each method; seeds are above.",
        columns=("Method", "Configuration"),
        rows=tuple((entry.label, _config(entry.configs)) for entry in grade.entries),
    )


def scope_name(comparison: Comparison) -> str:
    """The dataset, or how many of them."""
    scope = comparison.scope
    return scope[0] if len(scope) == 1 else f"{len(scope)} shared datasets"


def ranked(aggregates: Iterable[Aggregate]) -> list[Aggregate]:
    """Best IQM first."""
    return sorted(aggregates, key=lambda one: (-one.iqm.estimate, one.entry))


def _result_row(result: Result, success: bool, diverged: bool) -> tuple[str, ...]:
    row = [
        result.entry,
        str(len(result.seeds)),
        formatting.plus_minus(result.mean.estimate, result.std),
        formatting.number(result.iqm.estimate),
        formatting.bounds(result.iqm),
    ]
    if success:
        row.append(NONE if result.success is None else formatting.number(result.success.estimate))
    if diverged:
        row.append(str(len(result.diverged)))
    row.append(formatting.plus_minus(result.oracle_mean, result.oracle_std))
    row.append(formatting.rank(result.rank))
    return tuple(row)


def _first_places(ranked: Iterable[Result | Aggregate]) -> frozenset[int]:
    return frozenset(index for index, one in enumerate(ranked) if one.rank.low == 1)


def _range(values: tuple[int, ...]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _config(configs: tuple[dict[str, object], ...]) -> str:
    names = sorted({name for config in configs for name in config})
    values = {
        name: dict.fromkeys(str(config.get(name, "unset")) for config in configs) for name in names
    }
    text = ", ".join(f"{name}={' or '.join(values[name])}" for name in names)
    return formatting.printable(text) or NONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
