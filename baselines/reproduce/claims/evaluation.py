"""What results say on a claim: a difference, a probability, and a verdict by rule.

The rule is that of :func:`baselines.reproduce.verdicts.decide`, on the quantity's 95% interval,
with two additions. A difference that is said to be larger on some data than on other data has to
exist there, too: the claim holds if both statements do. Two arms that do alike on the former and
unlike on the latter are no evidence, and a first arm that does worse on the former is evidence
against it. And equality is held only of arms that have learned something on every dataset: two
policies that have not are alike whatever trained them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hetero_bench
from baselines.reproduce.claims.claims import Arm, Claim, expand
from baselines.reproduce.comparable import places, unlike
from baselines.reproduce.contrasts import contrast
from baselines.reproduce.scores import final_score
from baselines.reproduce.verdicts import MARGIN, Direction, Verdict, all_of, decide, reach
from hetero_bench import scoring
from hetero_bench.bootstrap import RESAMPLES, TOLERANCE, Interval, enough_runs
from hetero_bench.grading.resampling import Resampling
from hetero_bench.runs import Run, read_run_file
from hetero_bench.scoring import Scores

Statement = tuple[Direction, Interval]
"""What is said of a quantity, and the quantity in percentage points."""
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
        unequal: Fields that both arms' configs have, the claim does not name, and yet differ, with
            their values on one of the datasets.
        verdict: What follows.
        to_decide: What it would take where it is undecided, else empty.
    """

    means: tuple[tuple[float, float], ...]
    differences: tuple[Interval, ...]
    quantity: Interval
    improvement: Interval
    runs: int
    diverged: int
    unequal: Mapping[str, tuple[Any, Any]]
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
    diverged, unequal = 0, {}
    for names in filter(None, (expand(claim.datasets), expand(claim.against))):
        runs = [[_runs(arm, name, folder) for name in names] for arm in (claim.first, claim.second)]
        if not all(map(all, runs)):
            return Missing(_command(claim))
        for name, first, second in zip(names, *runs, strict=True):
            _check_comparable(claim, name, first, second)
            unequal |= _unequal(claim, first[0].config, second[0].config)
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
    means = tuple((scoring.mean(x), scoring.mean(y)) for x, y in pairs)
    enough = all(enough_runs(*pair) for pair in pairs) and not math.isnan(quantity.low)
    lowest = min(scoring.task_means(scores).min() for pair in pairs for scores in pair)
    untrained = claim.direction == "equal" and lowest < MARGIN
    runs_each = min(scores.fewest_runs for pair in pairs for scores in pair)
    statements: list[Statement] = [(claim.direction, quantity)]
    if others:
        statements.append(("more", differences[0]))
    verdicts: list[Verdict] = [decide(*each, enough=enough) for each in statements]
    open_ones = [each for each, one in zip(statements, verdicts, strict=True) if one == "undecided"]
    verdict, lacking = all_of(verdicts), []
    if verdict != "not held" and untrained:
        verdict = "undecided"
        lacking.append(
            "more steps or an easier task: an arm scores less than "
            f"{MARGIN:g} points above the random policy"
        )
    if verdict == "undecided" and open_ones:
        lacking.append(missing_runs(open_ones, runs_each, first.num_tasks, enough=enough))
    return Evidence(
        means=means,
        differences=differences,
        quantity=quantity,
        improvement=improvement.interval(),
        runs=runs_each,
        diverged=diverged,
        unequal=unequal,
        verdict=verdict,
        to_decide="; ".join(lacking),
    )


def missing_runs(statements: Sequence[Statement], runs: int, datasets: int, *, enough: bool) -> str:
    """Says how many runs would decide several statements, if the quantities stayed as they are.

    Args:
        statements: What is undecided.
        runs: Runs per arm and dataset.
        datasets: Number of datasets.
        enough: Whether there are enough runs for any test to tell.
    """
    if not enough:
        needed = fewest_runs(datasets)
        return f"at least {needed} seeds per arm: with fewer no test on these datasets can tell"
    if any(reach(interval) <= TOLERANCE for _, interval in statements):
        return "an easier or a harder task: here all runs of an arm score alike"
    growth = max(_growth(*each) for each in statements)
    if growth * runs >= FORESEEABLE:
        return f"more than {FORESEEABLE:,} seeds per arm"
    needed = max(math.ceil(runs * growth), runs + 1)
    return f"about {needed:,} seeds per arm, if the difference stays as it is"


def _growth(direction: Direction, interval: Interval) -> float:
    """Returns how many times as many runs a statement would take.

    An interval's width falls with the root of the number of runs; it has to clear the boundary
    between two verdicts that is nearest to the estimate.
    """
    distance = abs(interval.estimate)
    if direction == "equal":
        distance = abs(distance - MARGIN)
    return (reach(interval) / distance) ** 2 if distance > 0.0 else math.inf


def fewest_runs(datasets: int) -> int:
    """Returns the fewest runs per arm and dataset with which a test could tell two arms apart."""
    runs = 2
    while not enough_runs([[0.0] * runs] * datasets, [[0.0] * runs] * datasets):
        runs += 1
    return runs


def _runs(arm: Arm, dataset: str, folder: Path) -> list[Run]:
    """Returns an arm's runs on a dataset; none if it was not measured.

    Raises:
        ValueError: If the arm means several configs, or the file holds other runs than its place
            says, or one twice.
    """
    spec = hetero_bench.get_spec(dataset)
    path = folder / arm.method / f"{spec.id}.json"
    if not path.exists():
        return []
    found = read_run_file(path)
    others = {(run.method, run.dataset.id) for run in found} - {(arm.method, spec.id)}
    if others:
        raise ValueError(f"{path} has runs of {sorted(others)}; expected {arm.method} on {spec.id}")
    runs = [run for run in found if arm.setting.items() <= run.config.items()]
    if any(run.config != runs[0].config for run in runs):
        raise ValueError(
            f"{path} has several configs with {dict(arm.setting)}; expected one. State more of the "
            f"fields of the arm {arm.title!r}."
        )
    places(runs)
    return runs


def _check_comparable(
    claim: Claim, dataset: str, first: Sequence[Run], second: Sequence[Run]
) -> None:
    """Checks that two arms have all in common that they have to.

    Raises:
        ValueError: If they do not; the message says where and in what.
    """
    found = unlike(first, second)
    if found is not None:
        raise ValueError(
            f"results of {claim.first.title} and {claim.second.title} on {dataset} in tier "
            f"{claim.tier} differ in {found}. Train the cell again that is not the tier's "
            "(table --overwrite)."
        )


def _unequal(
    claim: Claim, first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Returns what two configs both have and the claim does not name, where it differs."""
    stated = claim.first.setting.keys() | claim.second.setting.keys()
    return {
        name: (value, second[name])
        for name, value in first.items()
        if name not in stated and second.get(name, value) != value
    }


def _command(claim: Claim) -> str:
    methods = " ".join(dict.fromkeys((claim.first.method, claim.second.method)))
    datasets = " ".join((*claim.datasets, *claim.against))
    return (
        f"python -m baselines table --tier {claim.tier} --methods {methods} --datasets {datasets}"
    )
