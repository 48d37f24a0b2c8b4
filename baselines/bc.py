"""Behavioural cloning (BC) for continuous actions.

Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation", Neural
Computation 3(1), 1991. ``head`` chooses what is learned:

    deterministic   L(φ) = E_{(s,a)~D} (π_φ(s) - a)²,      π_φ = tanh of a network
    gaussian        L(φ) = -E_{(s,a)~D} log π_φ(a|s),      π_φ a tanh-squashed Gaussian

``best_fraction`` restricts the data to the trajectories of the highest returns: with 0.1 this is
the 10%-BC of Chen et al., "Decision Transformer", NeurIPS 2021 (:mod:`baselines.bc10`).

A Gaussian policy is evaluated by sampling, as it was fitted: its return estimates the behaviour
policy's; with ``greedy`` its mode before squashing is taken. The squared distance is a mean over
the dimensions of the action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Actor, Method
from baselines.engine.preparation import Preparation
from baselines.parts import gaussian
from baselines.parts.policies import Policy

if TYPE_CHECKING:
    from hetero_bench import Dataset

LOG_STD_RANGE = (-5.0, 2.0)
"""Bounds of the Gaussian's log standard deviation before squashing."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of behavioural cloning."""

    head: Literal["deterministic", "gaussian"] = "deterministic"
    """What the policy is; the same for all members."""
    best_fraction: float = 1.0
    """Share of the transitions to clone: those of the trajectories with the highest returns."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer; the same for all members."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    batch_size: int = 256
    """Transitions per gradient step."""
    normalise_observations: bool = True
    """Subtract the dataset's mean from observations and divide by its standard deviation."""
    greedy: bool = False
    """Evaluate the Gaussian's mode before squashing instead of sampling."""

    def __post_init__(self) -> None:
        check_sizes(self)
        check_choice(self, "head", ("deterministic", "gaussian"))
        check_range(self, "best_fraction", 0.0, 1.0, open_low=True)
        check_range(self, "learning_rate", 0.0, open_low=True)
        check_range(self, "batch_size", 1, whole=True)
        check_choice(self, "normalise_observations", (False, True))
        check_choice(self, "greedy", (False, True))


def prepare(config: Config, dataset: Dataset) -> Preparation:
    """Returns what is done to a dataset; rewards choose trajectories and are not used otherwise."""
    return Preparation(
        normalise_observations=config.normalise_observations,
        best_fraction=config.best_fraction,
    )


def squared_distance(outputs: Tensor, actions: Tensor) -> Tensor:
    """Returns the (P,) loss ``mean (tanh(outputs) - a)²`` of (P, B, act) arguments."""
    return (outputs.tanh() - actions).square().mean((-2, -1))


def negative_log_likelihood(outputs: Tensor, actions: Tensor) -> Tensor:
    """Returns the (P,) loss ``-mean_B log π(a|s)``.

    Args:
        outputs: (P, B, 2 act) means and log standard deviations before squashing.
        actions: (P, B, act) dataset actions.
    """
    mean, log_std = gaussian.split_heads(outputs, *LOG_STD_RANGE)
    return -gaussian.log_density(mean, log_std, actions).mean(-1)


class Agent:
    """A population of cloned policies."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        self.gaussian = shared(configs, "head") == "gaussian"
        self.policy = Policy(
            data,
            seeds,
            shared(configs, "hidden_sizes"),
            per_member(configs, "learning_rate", data.device),
            heads=2 if self.gaussian else 1,
        )
        self.greedy = shared(configs, "greedy")
        self.active = torch.ones(len(configs), dtype=torch.bool, device=data.device)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step towards the batch's actions."""
        loss_of = negative_log_likelihood if self.gaussian else squared_distance
        loss = loss_of(self.policy(batch.observations), batch.actions)
        self.policy.optimiser.minimise(loss, self.active)
        return {"loss": loss.detach()}

    def actor(self, member: int) -> Actor:
        """Returns a copy of one member's policy on the CPU."""
        if self.gaussian and not self.greedy:
            return self.policy.gaussian_actor(member, LOG_STD_RANGE)
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {"policy": self.policy.state_dict(), "active": self.active}


METHOD = Method(
    name="bc",
    title="BC",
    paper="Pomerleau, Neural Computation 3(1), 1991",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=prepare,
)
