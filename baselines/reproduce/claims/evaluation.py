"""What results say on a claim: a difference, a probability, and a verdict by rule.

The rule is that of :func:`baselines.reproduce.verdicts.decide`, on the quantity's 95% interval. A
difference that is said to be larger on some data than on other data has to exist there, too: the
verdict on that is the claim's. Two arms that do alike on the former and unlike on the latter are no
evidence, and a first arm that does worse on both is evidence against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hetero_bench
from baselines.reproduce.claims.claims import Arm, Claim, expand
from baselines.reproduce.contrasts import contrast
from baselines.reproduce.scores import final_score
from baselines.reproduce.verdicts import MARGIN, Direction, Verdict, decide, reach
from hetero_bench import scoring
from hetero_bench.bootstrap import RESAMPLES, TOLERANCE, Interval, enough_runs
from hetero_bench.grading.resampling import Resampling
from hetero_bench.runs import Run, read_run_file
from hetero_bench.scoring import Scores

FORESEEABLE = 1_000
"""Runs per arm above which their number is not stated."""


@dataclass(frozen=True)
class Missing:
    """Results that a claim lacks.

    Attributes:
        command: What measures them.
    """

    command: str


@dataclass(frozen=True)
class Evidence:
    """What was measured.

    Attributes:
        means: Mean scores of both arms, percent, on ``datasets`` and, if any, on ``against``.
        differences: Of these means, first less second, percentage points.
        quantity: The difference on ``datasets``, less that on ``against`` if there are any.
        improvement: Probability that a run of the first arm beats one of the second on one of
            ``datasets``.
        runs: Fewest runs of an arm on a dataset.
        diverged: Runs that diverged; scored by their last finite policies.
        verdict: What follows.
        to_decide: What it would take where it is undecided, else empty.
    """

    means: tuple[tuple[float, float], ...]
    differences: tuple[Interval, ...]
    quantity: Interval
    improvement: Interval
    runs: int
    diverged: int
    verdict: Verdict
    to_decide: str


def evaluate(claim: Claim, results: Path) -> Evidence | Missing:
    """Decides a claim.

    Args:
        claim: The claim.
        results: Folder with the tiers' folders of results.

    Raises:
        ValueError: If a file is damaged, an arm means several configs of it, or the arms' runs on
            a dataset are not comparable.
    """
    folder = results / claim.tier
    pairs: list[tuple[Scores, Scores]] = []
    diverged = 0
    for names in filter(None, (expand(claim.datasets), expand(claim.against))):
        runs = [[_runs(arm, name, folder) for name in names] for arm in (claim.first, claim.second)]
        if not all(map(all, runs)):
            return Missing(_command(claim))
        for name, first, second in zip(names, *runs, strict=True):
            _check_comparable(claim, name, first, second)
        first, second = (Scores([list(map(final_score, each)) for each in arm]) for arm in runs)
        pairs.append((first, second))
        diverged += sum(run.status == "diverged" for arm in runs for each in arm for run in each)

    (first, second), *others = pairs
    differences = tuple(contrast([x], [y]) for x, y in pairs)
    quantity = contrast([first, *(y for _, y in others)], [second, *(x for x, _ in others)])
    improvement = Resampling(seed=0, resamples=RESAMPLES).estimate(
        scoring.probability_of_improvement,
        first,
        second,
        names=(claim.tier, claim.first.title, claim.second.title, *claim.datasets),
    )
    enough = all(enough_runs(*pair) for pair in pairs) and not math.isnan(quantity.low)
    runs_each = min(scores.fewest_runs for pair in pairs for scores in pair)
    verdict, deciding = decide(claim.direction, quantity, enough=enough), quantity
    if others and verdict == "held":
        verdict, deciding = decide("more", differences[0], enough=enough), differences[0]
    to_decide = ""
    if verdict == "undecided":
        datasets = first.num_tasks
        to_decide = missing_runs(claim.direction, deciding, runs_each, datasets, enough=enough)
    return Evidence(
        means=tuple((scoring.mean(x), scoring.mean(y)) for x, y in pairs),
        differences=differences,
        quantity=quantity,
        improvement=improvement.interval(),
        runs=runs_each,
        diverged=diverged,
        verdict=verdict,
        to_decide=to_decide,
    )


def missing_runs(
    direction: Direction, interval: Interval, runs: int, datasets: int, *, enough: bool
) -> str:
    """Says how many runs would decide, if the quantity stayed as it is.

    An interval's width falls with the root of the number of runs; it has to clear the boundary
    between two verdicts that is nearest to the estimate.

    Args:
        direction: What is claimed.
        interval: Of the quantity, percentage points.
        runs: Runs per arm and dataset.
        datasets: Number of datasets.
        enough: Whether there are enough runs for any test to tell.
    """
    if not enough:
        needed = fewest_runs(datasets)
        return f"at least {needed} seeds per arm: with fewer no test on these datasets can tell"
    width = reach(interval)
    if width <= TOLERANCE:
        return "an easier or a harder task: here all runs of an arm score alike"
    distance = abs(interval.estimate)
    if direction == "equal":
        distance = abs(distance - MARGIN)
    if distance * math.sqrt(FORESEEABLE / runs) <= width:
        return f"more than {FORESEEABLE:,} seeds per arm"
    needed = max(math.ceil(runs * (width / distance) ** 2), runs + 1)
    return f"about {needed:,} seeds per arm, if the difference stays as it is"


def fewest_runs(datasets: int) -> int:
    """Returns the fewest runs per arm and dataset with which a test could tell two arms apart."""
    runs = 2
    while not enough_runs([[0.0] * runs] * datasets, [[0.0] * runs] * datasets):
        runs += 1
    return runs


def _runs(arm: Arm, dataset: str, folder: Path) -> list[Run]:
    """Returns an arm's runs on a dataset; none if it was not measured.

    Raises:
        ValueError: If the arm means several configs.
    """
    path = folder / arm.method / f"{hetero_bench.get_spec(dataset).id}.json"
    if not path.exists():
        return []
    runs = [run for run in read_run_file(path) if arm.setting.items() <= run.config.items()]
    if any(run.config != runs[0].config for run in runs):
        raise ValueError(
            f"{path} has several configs with {dict(arm.setting)}; expected one. State more of the "
            f"fields of the arm {arm.title!r}."
        )
    return runs


_COMPARED = ("reference returns", "data", "steps", "precision", "final episodes", "draws and seeds")
_NOT_STATED: set[Any] = {None}
"""The precision of runs from before records had it."""


def _circumstances(runs: Sequence[Run]) -> tuple[Any, ...]:
    """Returns all that two arms' runs have to share, in the order of ``_COMPARED``."""
    return (
        {(run.reference.random, run.reference.expert) for run in runs},
        {run.dataset.digest for run in runs},
        {run.budget.steps for run in runs},
        {run.budget.precision for run in runs},
        {len(run.evaluations[-1].returns) for run in runs},
        sorted((run.dataset.draw or 0, run.seed) for run in runs),
    )


def _check_comparable(
    claim: Claim, dataset: str, first: Sequence[Run], second: Sequence[Run]
) -> None:
    """Checks that two arms differ in nothing but the arm.

    Raises:
        ValueError: If they do; the message says where and in what.
    """
    for what, one, other in zip(
        _COMPARED, _circumstances(first), _circumstances(second), strict=True
    ):
        if one != other and _NOT_STATED not in (one, other):
            raise ValueError(
                f"results of {claim.first.title} and {claim.second.title} on {dataset} in tier "
                f"{claim.tier} differ in {what}: {one} against {other}. Train the cell again that "
                "is not the tier's (table --overwrite)."
            )


def _command(claim: Claim) -> str:
    methods = " ".join(dict.fromkeys((claim.first.method, claim.second.method)))
    datasets = " ".join((*claim.datasets, *claim.against))
    return (
        f"python -m baselines table --tier {claim.tier} --methods {methods} --datasets {datasets}"
    )
