"""What a plan would cost, from a few updates."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from baselines.engine.checkpoint import flatten
from baselines.engine.plan import Plan
from baselines.engine.trainer import Trainer

WARM_UP_UPDATES = 5


@dataclass(frozen=True)
class Estimate:
    """Cost of a plan; evaluations come on top.

    Attributes:
        members: ``P``.
        state_bytes: Parameters, targets and optimiser moments of all members.
        data_bytes: The transitions on the device.
        steps_per_second: Gradient steps of the whole population.
        training_seconds: Time for the plan's gradient steps.
    """

    members: int
    state_bytes: int
    data_bytes: int
    steps_per_second: float
    training_seconds: float


def estimate(plan: Plan, *, seconds: float = 1.0) -> Estimate:
    """Times updates of a population on its device, and throws it away.

    Args:
        plan: The population.
        seconds: How long to time.
    """
    trainer = Trainer.of(plan)
    trainer.advance(WARM_UP_UPDATES)
    _wait(plan.device)
    begun, updates = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < seconds or updates == 0:
        trainer.advance(WARM_UP_UPDATES)
        _wait(plan.device)
        updates += WARM_UP_UPDATES
    rate = updates / elapsed
    tensors = [tensor for _, tensor in flatten(trainer.state_dict())]
    return Estimate(
        members=len(plan.members),
        state_bytes=sum(each.nbytes for each in tensors),
        data_bytes=sum(each.nbytes for each in trainer.data.rows),
        steps_per_second=rate,
        training_seconds=plan.steps / rate,
    )


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
