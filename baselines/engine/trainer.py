"""The training step of a population, and many of them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from baselines.engine.capture import CapturedUpdates
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import Member, shared
from baselines.engine.memory import keep_freed_memory
from baselines.engine.method import Agent, Method, PhasedAgent, RefreshedAgent, SamplingAgent
from baselines.engine.plan import Plan
from baselines.engine.precision import MatmulPrecision, Precision
from baselines.engine.random import MemberRandom

CAPTURED_UPDATES = 10
"""Updates in one CUDA graph."""


class Trainer:
    """A population on a device: its data, learners and random streams.

    Args:
        method: The method that all members use.
        members: (P,) members.
        device: Where everything lives.
        steps: Updates that are going to be taken in all, for schedules.
        precision: Of the networks' matrix products.
        capture: On a GPU, replay updates as CUDA graphs.

    Attributes:
        data: The members' transitions.
        agent: The members' learners.
        batches: The members' stream of batches.
        refresh_seconds: Time spent so far on what the agent computes anew every few updates.

    Raises:
        ValueError: If the method is not made for the datasets' actions, or members differ in
            something they have to share.
    """

    def __init__(
        self,
        method: Method,
        members: Sequence[Member],
        device: torch.device | str,
        *,
        steps: int | None = None,
        precision: Precision = "fp32",
        capture: bool = True,
    ):
        if torch.device(device).type == "cpu":
            keep_freed_memory()
        configs = [member.config for member in members]
        seeds = [member.seed for member in members]
        self.data = MemberData(
            [member.dataset for member in members],
            device,
            preparations=[method.prepare(each.config, each.dataset) for each in members],
            steps=steps,
        )
        kind = "discrete" if self.data.discrete else "continuous"
        if kind != method.actions:
            raise ValueError(
                f"{method.name} is made for {method.actions} actions; "
                f"{members[0].dataset.id} has {kind} ones"
            )
        self.precision = MatmulPrecision(precision, device)
        self.batch_size: int = shared(configs, "batch_size")
        self.batches = MemberRandom(seeds, "batches", device)
        self.agent = method.agent(configs, self.data, seeds)
        self._step = np.zeros((), np.int64)  # for the host, and as a tensor for the checkpoint
        self._totals: dict[str, Tensor] = {}
        self._metrics_of: dict[Hashable, list[str]] = {}
        self._counts: Counter[str] = Counter()
        self.refresh_seconds = 0.0
        self._captured = None
        if capture and self.data.device.type == "cuda":
            self._captured = CapturedUpdates(self._update, self.data.device)

    @classmethod
    def of(cls, plan: Plan, device: str | None = None) -> Trainer:
        """Returns a plan's population, at its beginning.

        Args:
            plan: The plan.
            device: Where everything lives; by default where the plan says.
        """
        return cls(
            plan.method,
            plan.members,
            plan.device if device is None else device,
            steps=plan.steps,
            precision=plan.precision,
        )

    def advance(self, updates: int) -> None:
        """Takes gradient steps without host synchronisation."""
        with self.precision:
            while updates > 0:
                step = int(self._step)
                alike = min(updates, self._refresh_if_due(step))
                together = CAPTURED_UPDATES if alike >= CAPTURED_UPDATES else 1
                phases = tuple(self._phase(step + each) for each in range(together))
                if self._captured is not None:
                    self._captured.run(phases)
                else:
                    for phase in phases:
                        self._update(phase)
                for phase in phases:
                    self._counts.update(self._metrics_of[phase])
                self._step += together
                updates -= together

    def _phase(self, step: int) -> Hashable:
        return self.agent.phase(step) if isinstance(self.agent, PhasedAgent) else None

    def _refresh_if_due(self, step: int) -> float:
        """Returns the number of updates until the next refresh, after one if it is due."""
        if not isinstance(self.agent, RefreshedAgent):
            return math.inf
        done = step % self.agent.refresh_interval
        if done == 0:
            self._wait()
            begun = time.perf_counter()
            metrics = self.agent.refresh(step)
            self._wait()
            self.refresh_seconds += time.perf_counter() - begun
            self.note(metrics)
        return self.agent.refresh_interval - done

    def _wait(self) -> None:
        if self.data.device.type == "cuda":
            torch.cuda.synchronize(self.data.device)

    def _sample(self) -> Batch:
        if isinstance(self.agent, SamplingAgent):
            return self.agent.sample(self.batches, self.batch_size)
        return self.data.sample(self.batches, self.batch_size)

    def _update(self, phase: Hashable) -> None:
        batch = self._sample()
        if isinstance(self.agent, PhasedAgent):
            metrics = self.agent.update(batch, phase)
        else:
            metrics = cast(Agent, self.agent).update(batch)
        self._metrics_of[phase] = list(metrics)
        self._add(metrics)

    def note(self, metrics: Mapping[str, Tensor]) -> None:
        """Counts (P,) metrics of something that is no update of :meth:`advance` among the means."""
        self._add(metrics)
        self._counts.update(list(metrics))

    def _add(self, metrics: Mapping[str, Tensor]) -> None:
        """Adds to the sums that :meth:`take_metrics` divides."""
        for name, value in metrics.items():
            if name not in self._totals:
                self._totals[name] = torch.zeros_like(value)
            self._totals[name].add_(value)

    def take_metrics(self) -> dict[str, list[float | None]]:
        """Returns the means of all metrics since the last call, (P,) each; None if not finite.

        A metric that no update since then has returned is left out.
        """
        means = {name: (self._totals[name] / n).tolist() for name, n in self._counts.items()}
        for total in self._totals.values():
            total.zero_()
        self._counts.clear()
        return {
            name: [value if math.isfinite(value) else None for value in values]
            for name, values in means.items()
        }

    def frozen(self) -> list[int]:
        """Returns the numbers of the members that became non-finite."""
        return (~self.agent.active).nonzero().flatten().tolist()

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates, between metric reads."""
        return {
            "agent": self.agent.state_dict(),
            "batches": self.batches.state_dict(),
            "step": torch.from_numpy(self._step),
        }
