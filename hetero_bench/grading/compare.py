"""Pairs of entries: the interval of their difference, and whether it decides anything."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping

from hetero_bench import bootstrap, scoring
from hetero_bench.bootstrap import Estimate
from hetero_bench.grading.collect import Entry
from hetero_bench.grading.resampling import Resampling
from hetero_bench.grading.results import Comparison


def compare_all(
    estimates: Mapping[str, Estimate],
    scope: tuple[str, ...],
    baseline: str | None,
    resampling: Resampling,
) -> list[Comparison]:
    """Compares all pairs, the higher IQM first, or every other entry with the baseline.

    Args:
        estimates: IQM of each entry over the scope.
        scope: Labels of the datasets compared on.
        baseline: Label of an entry, or None for all pairs.
        resampling: Seed and number of resamples.

    Returns:
        The comparisons; none if the baseline has no runs there.
    """
    order = sorted(estimates, key=lambda entry: (-estimates[entry].value, entry))
    if baseline is None:
        pairs = list(itertools.combinations(order, 2))
    elif baseline in estimates:
        pairs = [(entry, baseline) for entry in order if entry != baseline]
    else:
        pairs = []
    return [_compare(x, y, estimates[x], estimates[y], scope, resampling) for x, y in pairs]


def find_baseline(name: str | None, entries: tuple[Entry, ...]) -> str | None:
    """Resolves a label, or the name of a method with one entry, to a label.

    Raises:
        ValueError: No entry has that name, or several have.
    """
    labels = [entry.label for entry in entries]
    if name is None or name in labels:
        return name
    matches = [entry.label for entry in entries if entry.method == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(
            f"baseline {name!r} has several configs; choose one of {', '.join(map(repr, matches))}"
        )
    close = difflib.get_close_matches(name, labels, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"no runs of baseline {name!r}{hint} (there are {', '.join(map(repr, labels))})"
    )


def _compare(
    first: str,
    second: str,
    x: Estimate,
    y: Estimate,
    scope: tuple[str, ...],
    resampling: Resampling,
) -> Comparison:
    difference = bootstrap.difference(x, y).interval()
    better = {1: first, -1: second, 0: None}[bootstrap.decide(x, y)]
    reason = ""
    if math.isnan(difference.low):
        reason = "single run"
    elif better is None and difference.excludes(0.0):
        reason = "too few runs"
    improvement = resampling.estimate(
        scoring.probability_of_improvement, *x.scores, *y.scores, names=(first, second, *scope)
    )
    return Comparison(
        scope=scope,
        first=first,
        second=second,
        difference=difference,
        improvement=improvement.interval(),
        better=better,
        reason=reason,
    )
