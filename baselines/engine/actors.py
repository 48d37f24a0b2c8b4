"""Trained policies, read back from a population's checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from baselines.engine.checkpoint import read_checkpoint, restore
from baselines.engine.ledger import Ledger
from baselines.engine.method import Actor
from baselines.engine.plan import Plan
from baselines.engine.trainer import Trainer


def trained_actors(plan: Plan, out: str | os.PathLike[str] = "runs") -> list[Actor]:
    """Returns the (P,) members' final policies, on the CPU.

    Args:
        plan: The population.
        out: The folder that it was trained into.

    Raises:
        FileNotFoundError: If it was not trained there, or not to the end.
        ValueError: If the checkpoint is damaged or of another plan.
    """
    path = plan.checkpoint_path(Path(out))
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint {path}; train this plan first")
    tensors, facts = read_checkpoint(path)
    step = Ledger.of(plan, facts, path).step
    if step < plan.steps:
        raise FileNotFoundError(f"{path} is at step {step:,} of {plan.steps:,}; train it on first")
    trainer = Trainer.of(plan, device="cpu")
    restore(trainer.state_dict(), tensors)
    return [trainer.agent.actor(number) for number in range(len(plan.members))]
