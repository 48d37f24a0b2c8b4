"""What a plan would cost, from a few updates of every kind that it has."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import torch

from baselines.engine.checkpoint import flatten
from baselines.engine.method import PhasedAgent, RefreshedAgent
from baselines.engine.plan import Plan
from baselines.engine.trainer import CAPTURED_UPDATES, Trainer

Phases = tuple[Hashable, ...]
"""What each of a few updates in a row consists of."""


@dataclass(frozen=True)
class Estimate:
    """Cost of a plan; evaluations come on top.

    Attributes:
        members: ``P``.
        state_bytes: Parameters, targets, optimiser moments and what else a checkpoint has.
        data_bytes: The transitions on the device.
        training_seconds: Time for the plan's gradient steps.
        phases: The kinds of steps by name, such as ``critics / critics and policy`` where two
            alternate; one entry with an empty name if all updates are alike.
    """

    members: int
    state_bytes: int
    data_bytes: int
    training_seconds: float
    phases: dict[str, PhaseEstimate]


@dataclass(frozen=True)
class PhaseEstimate:
    """Steps of one kind.

    Attributes:
        steps: How many the plan has.
        steps_per_second: Of the whole population.
    """

    steps: int
    steps_per_second: float


def estimate(plan: Plan, *, seconds: float = 1.0) -> Estimate:
    """Times updates of a population on its device, and throws it away.

    A method may begin with updates of another kind, as SPOT does with its density. So the plan's
    updates are gone through in groups, as they are captured together on a GPU, and every distinct
    group is timed.

    Args:
        plan: The population.
        seconds: How long to time, in all.
    """
    trainer = Trainer.of(plan)
    counts, firsts = _groups(trainer, plan.steps)
    refresh_seconds = 0.0
    totals: dict[str, list[float]] = {}
    for group, first in firsts.items():
        per_step, refresh = _time_group(trainer, first, len(group), seconds / len(firsts))
        refresh_seconds = max(refresh_seconds, refresh)
        total = totals.setdefault(_name(group), [0, 0.0])
        total[0] += counts[group]
        total[1] += counts[group] * per_step
    training_seconds = sum(spent for _, spent in totals.values())
    if isinstance(trainer.agent, RefreshedAgent):
        training_seconds += refresh_seconds * -(-plan.steps // trainer.agent.refresh_interval)
    return Estimate(
        members=len(plan.members),
        state_bytes=sum(each.nbytes for _, each in flatten(trainer.state_dict())),
        data_bytes=sum(each.nbytes for each in trainer.data.rows),
        training_seconds=training_seconds,
        phases={
            name: PhaseEstimate(int(steps), steps / spent)
            for name, (steps, spent) in totals.items()
        },
    )


def _groups(trainer: Trainer, steps: int) -> tuple[Counter[Phases], dict[Phases, int]]:
    """Returns the steps that a plan takes in every distinct group, and where each comes first."""
    counts: Counter[Phases] = Counter()
    firsts: dict[Phases, int] = {}
    agent = trainer.agent
    phased = agent if isinstance(agent, PhasedAgent) else None
    for first in range(0, steps, CAPTURED_UPDATES):
        here = range(first, min(first + CAPTURED_UPDATES, steps))
        group = tuple(None if phased is None else phased.phase(each) for each in here)
        counts[group] += len(group)
        firsts.setdefault(group, first)
    return counts, firsts


def _name(group: Phases) -> str:
    return " / ".join(str(phase) for phase in dict.fromkeys(group) if phase is not None)


def _time_group(trainer: Trainer, first: int, updates: int, seconds: float) -> tuple[float, float]:
    """Returns the seconds that one update takes at a place in the plan, and a refresh."""
    place = trainer.state_dict()["step"]

    def once() -> None:
        place.fill_(first)
        trainer.advance(updates)

    for _ in range(2):  # a GPU captures the second time
        once()
    _wait(trainer.data.device)
    refreshed, begun, rounds = trainer.refresh_seconds, time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < seconds or rounds == 0:
        once()
        _wait(trainer.data.device)
        rounds += 1
    refreshing = trainer.refresh_seconds - refreshed
    return (elapsed - refreshing) / (rounds * updates), refreshing / rounds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
