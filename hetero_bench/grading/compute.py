"""``grade``: from run files to scores, intervals, comparisons and ranks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import hetero_bench
from hetero_bench import bootstrap, scoring
from hetero_bench.bootstrap import Estimate, Interval, RankInterval
from hetero_bench.grading.collect import collect, recipe_digest
from hetero_bench.grading.compare import compare_all, find_baseline
from hetero_bench.grading.resampling import Resampling
from hetero_bench.grading.results import (
    Aggregate,
    Comparison,
    DatasetSummary,
    Grade,
    Result,
)
from hetero_bench.runs import EvaluationRecord, Run
from hetero_bench.scoring import Scores

THRESHOLDS = 101
"""Number of scores at which performance profiles are computed."""


def grade(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    seed: int = 0,
    resamples: int = bootstrap.RESAMPLES,
    baseline: str | None = None,
) -> Grade:
    """Scores runs: per dataset, over the datasets that all methods share, and in pairs.

    A run counts by its final evaluation; the best evaluation during training is given beside it,
    labelled "oracle". Distinct configs of a method on the same dataset are distinct entries,
    labelled by the fields that differ. Random numbers depend on the seed and the names involved,
    so that an interval does not change because another method is graded along.

    Args:
        paths: Run files, and folders that are searched for them.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
        baseline: Label of an entry, or a method's name: compare the others with it alone.

    Returns:
        The grade, with ``to_text``, ``to_json`` and ``to_html``.

    Raises:
        FileNotFoundError: A path does not exist, or no run is found.
        ValueError: A file is damaged or of another schema; two different runs have the same method,
            config, dataset and seed; runs of one dataset id used different data, or different
            reference scores; ``baseline`` is not among the entries.
    """
    runs = collect(paths)
    resampling = Resampling(seed, resamples)
    labels = tuple(entry.label for entry in runs.entries)
    base = find_baseline(baseline, runs.entries)
    scores = {key: [final_score(run) for run in group] for key, group in runs.runs.items()}

    results: list[Result] = []
    comparisons: list[Comparison] = []
    for dataset in runs.datasets:
        there = {
            label: Scores([scores[label, dataset]])
            for label in labels
            if (label, dataset) in scores
        }
        estimates = _iqms(there, (dataset,), resampling)
        ranks = bootstrap.rank_intervals(estimates)
        results += [
            _result(label, dataset, runs.runs[label, dataset], iqm, ranks[label], resampling)
            for label, iqm in estimates.items()
        ]
        comparisons += compare_all(estimates, (dataset,), base, resampling)

    missing = {
        dataset: tuple(label for label in labels if (label, dataset) not in scores)
        for dataset in runs.datasets
    }
    shared = tuple(dataset for dataset, entries in missing.items() if not entries)
    together = {label: Scores([scores[label, one] for one in shared]) for label in labels if shared}
    estimates = _iqms(together, shared, resampling)
    thresholds = _thresholds(together.values())
    if len(shared) > 1:
        comparisons = compare_all(estimates, shared, base, resampling) + comparisons

    return Grade(
        entries=runs.entries,
        datasets=tuple(_dataset_summary(label, group) for label, group in runs.datasets.items()),
        results=tuple(results),
        shared=shared,
        left_out={dataset: entries for dataset, entries in missing.items() if entries},
        aggregates=tuple(_aggregates(estimates, shared, thresholds, resampling)),
        thresholds=tuple(thresholds.tolist()),
        comparisons=tuple(comparisons),
        warnings=runs.warnings,
        seed=seed,
        resamples=resamples,
        level=bootstrap.LEVEL,
        baseline=base,
        version=hetero_bench.__version__,
    )


def final_score(run: Run) -> float:
    """Normalised score of the last evaluation, percent: the score that ranks a run."""
    return _score(run, run.evaluations[-1])


def oracle_score(run: Run) -> float:
    """Best normalised score over all evaluations, percent; it ranks nothing."""
    return max(_score(run, evaluation) for evaluation in run.evaluations)


def _score(run: Run, evaluation: EvaluationRecord) -> float:
    reference = run.reference
    scores = scoring.normalized_scores(evaluation.returns, reference.random, reference.expert)
    return float(np.mean(scores))


def _iqms(
    scores: Mapping[str, Scores], scope: tuple[str, ...], resampling: Resampling
) -> dict[str, Estimate]:
    """IQM of each entry: what ranks and comparisons are made from."""
    return {
        label: resampling.estimate(scoring.iqm, one, names=(label, *scope))
        for label, one in scores.items()
    }


def _result(
    entry: str,
    dataset: str,
    runs: list[Run],
    iqm: Estimate,
    rank: RankInterval,
    resampling: Resampling,
) -> Result:
    def mean(scores: Scores) -> Interval:
        return resampling.estimate(scoring.mean, scores, names=(entry, dataset)).interval()

    finals = [run.evaluations[-1] for run in runs]
    oracle = [oracle_score(run) for run in runs]
    successes = [final.successes for final in finals if final.successes is not None]
    rates = [100.0 * float(np.mean(one)) for one in successes]
    scores = iqm.scores[0]
    return Result(
        entry=entry,
        dataset=dataset,
        seeds=tuple(run.seed for run in runs),
        scores=tuple(scores.values.tolist()),
        returns=tuple(float(np.mean(final.returns)) for final in finals),
        oracle_scores=tuple(oracle),
        steps=tuple(final.step for final in finals),
        precisions=tuple(sorted({run.budget.precision for run in runs if run.budget.precision})),
        episodes=tuple(len(final.returns) for final in finals),
        diverged=tuple(run.seed for run in runs if run.status == "diverged"),
        mean=mean(scores),
        std=_sample_std(scores.values),
        iqm=iqm.interval(),
        oracle_mean=float(np.mean(oracle)),
        oracle_std=_sample_std(oracle),
        success=mean(Scores([rates])) if len(rates) == len(runs) else None,
        rank=rank,
    )


def _aggregates(
    iqms: Mapping[str, Estimate],
    scope: tuple[str, ...],
    thresholds: np.ndarray,
    resampling: Resampling,
) -> list[Aggregate]:
    def profile(scores: Scores, weights: np.ndarray | None = None) -> np.ndarray:
        return scoring.performance_profile(scores, weights, thresholds=thresholds)

    aggregates = []
    ranks = bootstrap.rank_intervals(iqms)
    for entry, iqm in iqms.items():
        scores, names = iqm.scores[0], (entry, *scope)
        low, high = bootstrap.percentiles(resampling.distribution(profile, scores, names=names))
        if scores.fewest_runs < 2:
            low = high = np.full(len(thresholds), math.nan)
        mean, median, gap = (
            resampling.estimate(statistic, scores, names=names).interval()
            for statistic in (scoring.mean, scoring.median, scoring.optimality_gap)
        )
        aggregates.append(
            Aggregate(
                entry=entry,
                mean=mean,
                median=median,
                iqm=iqm.interval(),
                optimality_gap=gap,
                rank=ranks[entry],
                profile=tuple(profile(scores).tolist()),
                profile_low=tuple(low.tolist()),
                profile_high=tuple(high.tolist()),
            )
        )
    return aggregates


def _thresholds(scores: Iterable[Scores]) -> np.ndarray:
    """Evenly spaced over all scores, from 0 to 100 at least, with bounds on whole tens."""
    values = [one.values for one in scores]
    if not values:
        return np.empty(0)
    low = min(0.0, 10.0 * math.floor(min(one.min() for one in values) / 10.0))
    high = max(100.0, 10.0 * math.ceil(max(one.max() for one in values) / 10.0))
    return np.linspace(low, high, THRESHOLDS)


def _dataset_summary(label: str, runs: list[Run]) -> DatasetSummary:
    def distinct(values: Iterable[Any]) -> tuple[str, ...]:
        return tuple(sorted({str(value) for value in values if value is not None}))

    record, reference = runs[0].dataset, runs[0].reference
    provenances = [run.dataset.provenance for run in runs]
    return DatasetSummary(
        label=label,
        id=record.id,
        size=record.size,
        draw=record.draw,
        digests=distinct(run.dataset.digest for run in runs),
        statuses=distinct(one.get("status", "unknown") for one in provenances),
        sources=distinct(one.get("source") for one in provenances),
        recipe_digest=recipe_digest(provenances[0]),
        random=reference.random,
        expert=reference.expert,
    )


def _sample_std(values: Sequence[float] | np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
