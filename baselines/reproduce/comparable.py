"""Whether runs of two arms may be compared: all that is not the arm is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hetero_bench.runs import Run

_SHARED: Mapping[str, Callable[[Run], Any]] = {
    "reference returns": lambda run: (run.reference.random, run.reference.expert),
    "data": lambda run: run.dataset.digest,
    "steps": lambda run: run.budget.steps,
    "precision": lambda run: run.budget.precision,
    "final episodes": lambda run: len(run.evaluations[-1].returns),
}
_NOT_STATED: set[Any] = {None}
"""The precision of runs from before records had it."""


def unlike(first: Sequence[Run], second: Sequence[Run]) -> str | None:
    """Returns in what two arms' runs on a dataset differ that they have to share, None if nothing.

    That is the data, reference returns, steps, precision, number of final episodes, and the draws
    and seeds, of which no arm may have one twice.
    """
    for what, of in _SHARED.items():
        one, other = ({of(run) for run in runs} for runs in (first, second))
        if (one != other or len(one) > 1) and _NOT_STATED not in (one, other):
            return f"{what}: {one} against {other}"
    one, other = map(places, (first, second))
    return None if one == other else f"draws and seeds: {one} against {other}"


def places(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Returns the draw and seed of every run, in order.

    Raises:
        ValueError: If two runs have the same.
    """
    found = sorted((run.dataset.draw or 0, run.seed) for run in runs)
    if len(set(found)) < len(found):
        raise ValueError(
            f"{runs[0].method} on {runs[0].dataset.id} has several runs of one draw and seed; "
            "expected one of each"
        )
    return found
