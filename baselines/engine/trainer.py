"""The training step of a population, and many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.members import Member, shared
from baselines.engine.method import Method
from baselines.engine.random import MemberRandom


class Trainer:
    """A population on a device: its data, learners and random streams.

    Args:
        method: The method that all members use.
        members: (P,) members.
        device: Where everything lives.

    Raises:
        ValueError: If the method is not made for the datasets' actions, or members differ in
            something they have to share.
    """

    def __init__(self, method: Method, members: Sequence[Member], device: torch.device | str):
        configs = [member.config for member in members]
        seeds = [member.seed for member in members]
        self.data = MemberData([member.dataset for member in members], device)
        kind = "discrete" if self.data.discrete else "continuous"
        if kind not in method.actions:
            raise ValueError(
                f"{method.name} is made for {' and '.join(method.actions)} actions; "
                f"{members[0].dataset.id} has {kind} ones"
            )
        self.batch_size: int = shared(configs, "batch_size")
        self.batches = MemberRandom(seeds, "batches", device)
        self.agent = method.agent(configs, self.data, seeds)
        self._totals: dict[str, Tensor] = {}
        self._updates = 0

    def advance(self, updates: int) -> None:
        """Takes gradient steps without host synchronisation."""
        for _ in range(updates):
            metrics = self.agent.update(self.data.sample(self.batches, self.batch_size))
            for name, value in metrics.items():
                if name in self._totals:
                    self._totals[name].add_(value)
                else:
                    self._totals[name] = value.clone()
        self._updates += updates

    def take_metrics(self) -> dict[str, list[float | None]]:
        """Returns the means of all metrics since the last call, (P,) each; None if not finite."""
        means = {name: (total / self._updates).tolist() for name, total in self._totals.items()}
        self._totals, self._updates = {}, 0
        return {
            name: [value if math.isfinite(value) else None for value in values]
            for name, values in means.items()
        }

    def frozen(self) -> list[int]:
        """Returns the numbers of the members that became non-finite."""
        return (~self.agent.active).nonzero().flatten().tolist()

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates, between metric reads."""
        return {"agent": self.agent.state_dict(), "batches": self.batches.state_dict()}
