"""Behavioural cloning (BC) for discrete actions.

Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation", Neural
Computation 3(1), 1991. The policy maximises the likelihood of the dataset's actions,

    L(θ) = -E_{(s,a)~D} log π_θ(a|s),    π_θ = softmax of a multilayer perceptron's outputs.

The policy is evaluated by sampling, as it was fitted: its return estimates the behaviour policy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.engine.checks import check_network
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.parts.discrete import SoftmaxActor, log_likelihood
from baselines.parts.networks import MLP


@dataclass(frozen=True)
class Config:
    """Hyperparameters of behavioural cloning."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Width of each hidden layer; the same for all members."""
    batch_size: int = 256
    """Transitions per gradient step."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    greedy: bool = False
    """Evaluate the most probable action instead of sampling."""

    def __post_init__(self) -> None:
        check_network(self)


def negative_log_likelihood(logits: Tensor, actions: Tensor) -> Tensor:
    """Returns the (P,) loss ``-mean_B log π(a|s)``.

    Args:
        logits: (P, B, A) unnormalised log-probabilities of the actions.
        actions: (P, B) int64 dataset actions.
    """
    return -log_likelihood(logits, actions).mean(-1)


class Agent:
    """A population of cloned policies."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        hidden_sizes = shared(configs, "hidden_sizes")
        self.network = MLP((data.observation_size, *hidden_sizes, data.num_actions))
        self.policy = self.network.init(MemberRandom(seeds, "policy", data.device))
        self.optimiser = MemberAdam(self.policy, per_member(configs, "learning_rate", data.device))
        self.greedy = shared(configs, "greedy")
        self.active = torch.ones(len(configs), dtype=torch.bool, device=data.device)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on the likelihood of the batch's actions."""
        logits = self.network(self.policy, batch.observations)
        loss = negative_log_likelihood(logits, batch.actions)
        self.optimiser.minimise(loss, self.active)
        return {"loss": loss.detach()}

    def actor(self, member: int) -> SoftmaxActor:
        """Returns a copy of one member's policy on the CPU."""
        parameters = self.policy.detach()[member : member + 1].cpu().clone()
        return SoftmaxActor(self.network, parameters, greedy=self.greedy)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "policy": self.policy,
            "optimiser": self.optimiser.state_dict(),
            "active": self.active,
        }


METHOD = Method(
    name="bc",
    title="BC",
    paper="Pomerleau, Neural Computation 3(1), 1991",
    config=Config,
    agent=Agent,
    actions="discrete",
)
