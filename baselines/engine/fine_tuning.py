"""What fine-tuning a trained population in its environments is going to do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from baselines.engine.data import Batch
from baselines.engine.ledger import FINE_TUNED
from baselines.engine.members import Member
from baselines.engine.method import Method
from baselines.engine.trained import TrainedPopulation


@runtime_checkable
class OnlineAgent(Protocol):
    """An agent that can be fine-tuned in an environment."""

    def act(self, observations: Tensor) -> Tensor:
        """Maps (P, B, obs) observations as prepared to (P, B, act) actions in [-1, 1]."""
        ...

    def update_online(self, batch: Batch, step: int, regulariser: float) -> dict[str, Tensor]:
        """Takes one gradient step for every active member.

        Args:
            batch: Transitions, collected ones among them; those have no next action.
            step: Number of the update, from 0 in the environment's first step.
            regulariser: Factor of the weight of what holds the policy to the data.

        Returns:
            Metrics by name, (P,) each, on the device; ``loss`` is among them.
        """
        ...


def check_online(method: Method) -> None:
    """Raises an error if a method cannot be fine-tuned in an environment."""
    if not (isinstance(method.agent, type) and issubclass(method.agent, OnlineAgent)):
        raise ValueError(
            f"{method.title} cannot be fine-tuned in an environment; spot, car, car_g and iql can"
        )


@dataclass(frozen=True)
class FineTuning:
    """How a trained population is fine-tuned.

    Attributes:
        population: The trained population.
        steps: Steps in the environment, and updates.
        noise: Standard deviation of the noise on actions in [-1, 1].
        floor: Factor of the regulariser's weight at the end of its decay.
        decay_share: Share of the steps over which it decays linearly. The text of CAR has 0.2 (20%
            of the weight at step 0.2M of 1M), the code of SPOT 0.8 (the same at 0.8M).
        discount: γ online; None for the method's, which is that of training but for SPOT and CAR in
            large mazes.
        cut_every: Steps between two checkpoints, at which episodes are cut off.
        eval_every: Steps between two evaluations; None for the final one only.
        log_every: Steps between two points of the training curves.
        device: Where everything lives.

    Raises:
        ValueError: If a number is out of range, or the method cannot be fine-tuned.
    """

    population: TrainedPopulation
    steps: int
    noise: float = 0.1
    floor: float = 0.2
    decay_share: float = 0.2
    discount: float | None = None
    cut_every: int = 10_000
    eval_every: int | None = None
    log_every: int = 1_000
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "cut_every", "eval_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if not 0.0 <= self.noise < np.inf:
            raise ValueError(f"noise is {self.noise}; expected a finite number of at least 0")
        for name in ("floor", "decay_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0, at most 1")
        if self.population.ledger.fine_tuning is not None:
            raise ValueError(f"{self.population.path} has been fine-tuned; give the trained runs")
        check_online(self.population.plan.method)

    def regulariser(self, step: int) -> float:
        """Returns the factor of the regulariser's weight in step number ``step`` (0, 1, ...)."""
        decay = self.decay_share * self.steps
        return max(self.floor, 1.0 - (1.0 - self.floor) * step / decay) if decay else self.floor

    @property
    def members(self) -> list[Member]:
        """The (P,) members with the hyperparameters that they have online."""
        members, method = self.population.plan.members, self.population.plan.method
        changed = [method.config_online(each.config, each.dataset.spec) for each in members]
        if self.discount is not None:
            changed = [dataclasses.replace(each, discount=self.discount) for each in changed]
        return [
            dataclasses.replace(member, config=config)
            for member, config in zip(members, changed, strict=True)
        ]

    @property
    def name(self) -> str:
        """What records call the method."""
        return self.population.plan.method.name + FINE_TUNED

    @property
    def title(self) -> str:
        """What progress bars call the population."""
        return f"{self.population.plan.title} online"

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the results besides the trained population, as JSON values."""
        fields = [each.name for each in dataclasses.fields(self) if each.name != "population"]
        return {name: getattr(self, name) for name in fields}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that determines the results, the trained learners included.

        Equal plans trained by other code, or on another machine, are other populations.
        """
        settings = self.settings | {"device": torch.device(self.device).type}
        document = [self.population.plan.document(), self.population.digest, settings]
        text = json.dumps(document, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def checkpoint_path(self, out: Path) -> Path:
        """Returns where the checkpoint lies."""
        return out / self.name / f"population-{self.fingerprint[:12]}" / "checkpoint.safetensors"

    def run_path(self, out: Path, member: Member) -> Path:
        """Returns where a member's record lies: as the trained one's, under the longer name."""
        plan = self.population.plan
        inner = plan.run_path(out, member).relative_to(out / plan.method.name)
        return out / self.name / inner

    def evaluates_at(self, step: int) -> bool:
        """Whether the members are evaluated after this many steps."""
        return step == self.steps or (self.eval_every is not None and step % self.eval_every == 0)

    def next_stop(self, step: int) -> int:
        """Returns the next step after ``step`` at which to log, to evaluate or to save."""
        every = [self.log_every, self.cut_every, *([self.eval_every] if self.eval_every else [])]
        return min([self.steps, *((step // each + 1) * each for each in every)])
