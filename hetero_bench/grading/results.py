"""What ``grade`` returns: plain frozen records, and how they become text, JSON and HTML."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetero_bench import atomic
from hetero_bench.bootstrap import Interval, RankInterval
from hetero_bench.grading.collect import Entry

if TYPE_CHECKING:
    from hetero_bench.report import Section

SCHEMA = "hetero_bench/grade/v1"


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """Data that runs were trained on.

    Attributes:
        label: Dataset id, with size and draw where they are not the default.
        id: Canonical dataset id.
        size: Rows asked for; None: the whole dataset.
        draw: Official draw of a subset.
        digests: Distinct sha256 digests of the arrays (several only for rebuilds of one recipe).
        statuses: Distinct provenance statuses: verified, rebuilt, unpinned.
        sources: Distinct sources that answered.
        recipe_digest: Identity of the recipe that built it, if any.
        random: Return that scores 0.
        expert: Return that scores 100.
    """

    label: str
    id: str
    size: int | None
    draw: int | None
    digests: tuple[str, ...]
    statuses: tuple[str, ...]
    sources: tuple[str, ...]
    recipe_digest: str | None
    random: float
    expert: float


@dataclass(frozen=True, slots=True)
class Result:
    """One entry on one dataset; the tuples have one value per run, in the order of ``seeds``.

    Attributes:
        entry: Label of the entry.
        dataset: Label of the dataset.
        seeds: Seeds of the runs.
        scores: Final normalised scores, percent: the mean over the last evaluation's episodes.
        returns: Mean returns of the last evaluation.
        oracle_scores: Best normalised scores over all evaluations of each run. An oracle would be
            needed to stop there, so they rank nothing.
        steps: Gradient steps at the last evaluation.
        precisions: Of the networks' matrix products, those that are stated, in order of names.
        episodes: Episodes of the last evaluation.
        diverged: Seeds whose parameters became non-finite; scored by their last finite policy.
        mean: Mean score.
        std: Sample standard deviation of the scores over seeds (n - 1); NaN for one run.
        iqm: Interquartile mean score.
        oracle_mean: Mean of ``oracle_scores``.
        oracle_std: Sample standard deviation of ``oracle_scores``.
        success: Success rate of the last evaluation, percent; None where the task has none.
        rank: By IQM, among the entries on this dataset.
    """

    entry: str
    dataset: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    returns: tuple[float, ...]
    oracle_scores: tuple[float, ...]
    steps: tuple[int, ...]
    precisions: tuple[str, ...]
    episodes: tuple[int, ...]
    diverged: tuple[int, ...]
    mean: Interval
    std: float
    iqm: Interval
    oracle_mean: float
    oracle_std: float
    success: Interval | None
    rank: RankInterval


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One entry over the datasets that all entries share, percent.

    Attributes:
        entry: Label of the entry.
        mean: Mean over datasets.
        median: Median over datasets of the mean over runs.
        iqm: Interquartile mean over all runs.
        optimality_gap: Mean amount by which runs miss 100.
        rank: By IQM.
        profile: Share of runs above each of ``Grade.thresholds``.
        profile_low: Lower bound of its pointwise interval; NaN where there is none.
        profile_high: Upper bound of its pointwise interval.
    """

    entry: str
    mean: Interval
    median: Interval
    iqm: Interval
    optimality_gap: Interval
    rank: RankInterval
    profile: tuple[float, ...]
    profile_low: tuple[float, ...]
    profile_high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two entries on the same data.

    Attributes:
        scope: Labels of the datasets compared on.
        first: Label of one entry.
        second: Label of the other.
        difference: IQM of the first minus IQM of the second, percentage points.
        improvement: Probability that a run of the first beats a run of the second.
        better: Label of the better entry if the difference's interval excludes 0, else None.
        reason: What stood in the way of a decision: ``"single run"``, ``"too few runs"``; empty if
            it is decided, or undecided because the interval holds 0.
    """

    scope: tuple[str, ...]
    first: str
    second: str
    difference: Interval
    improvement: Interval
    better: str | None
    reason: str

    @property
    def verdict(self) -> str:
        """In words: ``"<label> is better"`` or ``"undecided"``, with the reason if it has one."""
        if self.better is not None:
            return f"{self.better} is better"
        return f"undecided ({self.reason})" if self.reason else "undecided"


@dataclass(frozen=True)
class Grade:
    """Scores of a set of runs; see ``hetero_bench.grade``.

    Attributes:
        entries: Methods, or methods with one of their configs.
        datasets: Data that was used.
        results: Entry by dataset, in order of dataset, then entry.
        shared: Labels of the datasets on which every entry has runs.
        left_out: Labels of the other datasets, each with the entries that have no runs on it.
        aggregates: Entries over the shared datasets; empty if there are none.
        thresholds: Scores at which performance profiles are given.
        comparisons: Pairs of entries, per dataset and, if several are shared, over those.
        warnings: What a reader of the scores should know.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
        level: Coverage that intervals aim at.
        baseline: Label that the others are compared with; None: all pairs.
        version: Release of hetero_bench that computed this.
    """

    entries: tuple[Entry, ...]
    datasets: tuple[DatasetSummary, ...]
    results: tuple[Result, ...]
    shared: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    aggregates: tuple[Aggregate, ...]
    thresholds: tuple[float, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]
    seed: int
    resamples: int
    level: float
    baseline: str | None
    version: str

    def result(self, entry: str, dataset: str) -> Result:
        """Looks up one entry on one dataset.

        Raises:
            KeyError: The entry has no runs there.
        """
        for result in self.results:
            if (result.entry, result.dataset) == (entry, dataset):
                return result
        known = ", ".join(f"({result.entry!r}, {result.dataset!r})" for result in self.results)
        raise KeyError(f"no runs of {entry!r} on {dataset!r}; there are {known}")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types; a bound that does not exist is None."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Writes ``to_dict()`` and returns the path."""
        return atomic.write_file(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def to_text(self, width: int | None = None) -> str:
        """Renders the tables as text.

        Args:
            width: Columns to fill; as wide as the tables need by default.
        """
        from hetero_bench.grading.views import as_text

        return as_text(self, width)

    def to_html(
        self,
        path: str | os.PathLike[str],
        sections: Sequence[Section] = (),
        title: str = "Offline RL scores",
    ) -> Path:
        """Writes one self-contained HTML page.

        Args:
            path: File to write.
            sections: Further sections, put between the comparisons and the record of the data.
            title: Title of the page.

        Returns:
            The path written.
        """
        from hetero_bench.grading.views import as_html

        return atomic.write_file(path, as_html(self, sections, title))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
