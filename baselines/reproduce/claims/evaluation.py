"""What results say on a claim: a difference, a probability, and a verdict by rule.

``held``: there are enough runs for any test to tell, and the 95% interval of the quantity lies on
the claim's side: above 0 for *more*, within ``MARGIN`` of 0 for *equal*. ``not held``: it lies
below 0, or beyond the margin. ``undecided``: anything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import hetero_bench
from baselines.reproduce.claims.claims import Arm, Claim, Direction, expand
from hetero_bench import bootstrap, scoring
from hetero_bench.bootstrap import RESAMPLES, TOLERANCE, Estimate, Interval, enough_runs
from hetero_bench.grading.resampling import Resampling
from hetero_bench.runs import Run, read_run_file
from hetero_bench.scoring import Scores

Verdict = Literal["held", "not held", "undecided"]
MARGIN = 5.0
"""Scores that differ by less are said to be equal, percentage points."""
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
        quantity: The difference of mean scores, or the difference of two such, percentage points.
        improvement: Probability that a run of the first arm beats one of the second on a dataset.
        runs: Fewest runs of an arm on a dataset.
        verdict: What follows.
        to_decide: What it would take where it is undecided, else empty.
    """

    means: tuple[tuple[float, float], ...]
    quantity: Interval
    improvement: Interval
    runs: int
    verdict: Verdict
    to_decide: str


def evaluate(claim: Claim, results: Path) -> Evidence | Missing:
    """Decides a claim.

    Args:
        claim: The claim.
        results: Folder with the tiers' folders of results.

    Raises:
        ValueError: If a file is damaged, or an arm means several configs of it.
    """
    datasets, against = expand(claim.datasets), expand(claim.against)
    scores = {
        (arm.title, name): _scores(arm, name, results / claim.tier)
        for arm in (claim.first, claim.second)
        for name in (*datasets, *against)
    }
    if not all(scores.values()):
        return Missing(_command(claim))
    resampling = Resampling(seed=0, resamples=RESAMPLES)

    def estimates(names: tuple[str, ...]) -> tuple[Estimate, Estimate]:
        first, second = (
            resampling.estimate(
                scoring.mean,
                Scores([scores[arm.title, name] for name in names]),
                names=(claim.tier, arm.method, arm.title, *names),
            )
            for arm in (claim.first, claim.second)
        )
        return first, second

    pairs = [estimates(names) for names in (datasets, against) if names]
    quantity = bootstrap.difference(*pairs[0])
    if against:
        quantity = bootstrap.difference(quantity, bootstrap.difference(*pairs[1]))
    improvement = resampling.estimate(
        scoring.probability_of_improvement,
        *(each.scores[0] for each in pairs[0]),
        names=(claim.tier, claim.first.title, claim.second.title, *datasets),
    )
    interval = quantity.interval()
    enough = all(enough_runs(x.scores[0], y.scores[0]) for x, y in pairs)
    runs = min(each.fewest_runs for each in quantity.scores)
    verdict = decide(claim.direction, interval, enough=enough)
    to_decide = ""
    if verdict == "undecided":
        to_decide = missing_runs(claim.direction, interval, runs, len(datasets), enough=enough)
    return Evidence(
        means=tuple((first.value, second.value) for first, second in pairs),
        quantity=interval,
        improvement=improvement.interval(),
        runs=runs,
        verdict=verdict,
        to_decide=to_decide,
    )


def decide(direction: Direction, interval: Interval, *, enough: bool) -> Verdict:
    """Returns the verdict on a quantity; see the module.

    Args:
        direction: What is claimed.
        interval: Of the quantity, percentage points.
        enough: Whether there are enough runs for any test to tell.
    """
    if not enough or math.isnan(interval.low):
        return "undecided"
    low, high = interval.low, interval.high
    if direction == "more":
        return "undecided" if not interval.excludes(0.0) else "held" if low > 0.0 else "not held"
    if max(-low, high) < MARGIN - TOLERANCE:
        return "held"
    return "not held" if max(low, -high) > MARGIN + TOLERANCE else "undecided"


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
    width = max(interval.high - interval.estimate, interval.estimate - interval.low)
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


def _scores(arm: Arm, dataset: str, folder: Path) -> list[float]:
    """Returns an arm's final scores on a dataset, percent; none if it was not measured.

    Raises:
        ValueError: If the arm means several configs.
    """
    path = folder / arm.method / f"{hetero_bench.get_spec(dataset).id}.json"
    if not path.exists():
        return []
    runs = [run for run in read_run_file(path) if _is_of(arm, run)]
    if any(run.config != runs[0].config for run in runs):
        raise ValueError(
            f"{path} has several configs with {dict(arm.setting)}; expected one. State more of the "
            f"fields of the arm {arm.title!r}."
        )
    return [_score(run) for run in runs]


def _is_of(arm: Arm, run: Run) -> bool:
    return all(run.config.get(name) == value for name, value in arm.setting.items())


def _score(run: Run) -> float:
    returns, reference = run.evaluations[-1].returns, run.reference
    return float(scoring.normalized_scores(returns, reference.random, reference.expert).mean())


def _command(claim: Claim) -> str:
    methods = " ".join(dict.fromkeys((claim.first.method, claim.second.method)))
    datasets = " ".join((*claim.datasets, *claim.against))
    return (
        f"python -m baselines table --tier {claim.tier} --methods {methods} --datasets {datasets}"
    )
