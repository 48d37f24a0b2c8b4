"""Advantage-weighted actor-critic (AWAC).

Nair, Gupta, Dalal and Levine, "AWAC: Accelerating Online Reinforcement Learning with Offline
Datasets", arXiv 2006.09359, 2020, Algorithm 1, offline. A critic evaluates the policy, and the
policy is cloned from the dataset, actions better than its own weighing more:

    Q:  min_θ  Σ_i E_D[ (Q_i(s,a) - y)² ],   y = r + γ min_i Q̄_i(s',a'),  a' ~ π(·|s')
    π:  max_φ  E_D[ min(exp(A/λ), 100) log π(a|s) ],
        A = min_i Q_i(s,a) - min_i Q_i(s,ã),  ã ~ π(·|s)

The paper derives the weight exp(A/λ)/Z(s) from a bound on the divergence from the data's policy and
disregards Z. Its code has exp(A/λ) normalised over the batch; here it is clipped instead, as in
CORL (Tarasov et al., "CORL: Research-oriented Deep Offline Reinforcement Learning Library", NeurIPS
2023), from which sizes and λ are, too. Every update takes one step on the critics and then one on
the policy.

The policy is that of IQL (:mod:`baselines.parts.advantage_weighting`), whose mean is within bounds;
in CORL it is not. Its samples are clipped to the bounds. It is evaluated at its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.engine.checks import check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured
from baselines.engine.random import MemberRandom
from baselines.parts.advantage_weighting import (
    LOG_STD_RANGE,
    exponential_weights,
    weighted_likelihood_loss,
)
from baselines.parts.critics import Critics, squared_error, td_targets
from baselines.parts.policies import DeterministicActor, Policy


@dataclass(frozen=True)
class Config:
    """Hyperparameters of AWAC."""

    temperature: float = 0.1
    """λ, in units of (scaled) reward."""
    weight_clip: float = 100.0
    """Largest weight of a transition in the policy's loss."""
    discount: float = 0.99
    """γ."""
    target_rate: float = 0.005
    """Fraction by which the targets Q̄ move in each step."""
    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of all networks; the same for all members."""
    learning_rate: float = 3e-4
    """Adam's step size, for all networks."""
    batch_size: int = 256
    """Transitions per gradient step."""
    normalise_observations: bool = True
    """Subtract the dataset's mean from observations and divide by its standard deviation."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this,"""
    reward_shift: float = 0.0
    """and then this is added."""

    def __post_init__(self) -> None:
        check_preparation(self)
        check_sizes(self)
        check_range(self, "temperature", 0.0, open_low=True)
        check_range(self, "weight_clip", 0.0, open_low=True)
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "target_rate", 0.0, 1.0, open_low=True)
        check_range(self, "learning_rate", 0.0, open_low=True)


OVERRIDES = {
    "locomotion": {"temperature": 1.0 / 3.0},
    "antmaze": {"reward_shift": -1.0},
}


def sample_actions(outputs: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """Returns (P, B, act) actions of the policy, clipped to [-1, 1].

    Args:
        outputs: (P, B, act) of the policy network; their tanh is the mean.
        log_std: (P, 1, act) log standard deviations.
        noise: (P, B, act) standard normal numbers.
    """
    std = log_std.clamp(*LOG_STD_RANGE).exp()
    return (outputs.tanh() + std * noise).clamp(-1.0, 1.0)


class Agent:
    """A population of policies with their twin critics."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        hidden_sizes = shared(configs, "hidden_sizes")
        learning_rate = per_member(configs, "learning_rate", device)
        self.critics = Critics(data, seeds, hidden_sizes, learning_rate)
        self.policy = Policy(data, seeds, hidden_sizes, learning_rate, extra=1)
        self.noise = MemberRandom(seeds, "policy noise", device)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.temperature = per_member(configs, "temperature", device)
        self.weight_clip = per_member(configs, "weight_clip", device)
        self.discount = per_member(configs, "discount", device)
        self.target_rate = per_member(configs, "target_rate", device)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on the critics and then one on the policy."""
        metrics = self._update_critics(batch) | self._update_policy(batch)
        self.critics.track(self.target_rate, self.active)
        return {name: value.detach() for name, value in metrics.items()}

    @torch.no_grad()
    def draw(self, outputs: Tensor) -> Tensor:
        """Returns (P, B, act) actions drawn from the policy of given outputs, without gradient."""
        noise = self.noise.normal(*outputs.shape[1:])
        return sample_actions(outputs, self.policy.extra(), noise)

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Returns the (P, B) targets y of the critics, without gradient."""
        next_actions = self.draw(self.policy(batch.next_observations))
        next_values = self.critics.target_values(batch.next_observations, next_actions).amin(0)
        return td_targets(batch.rewards, batch.terminations, next_values, self.discount)

    @torch.no_grad()
    def advantages(self, batch: Batch, policy_actions: Tensor) -> Tensor:
        """Returns the (P, B) advantages A over the policy's (P, B, act) actions, no gradient."""
        actions = torch.stack([batch.actions, policy_actions], dim=-2)
        q_data, q_policy = self.critics(batch.observations, actions).amin(0).unbind(-1)
        return q_data - q_policy

    def _update_critics(self, batch: Batch) -> dict[str, Tensor]:
        targets = self.targets(batch)
        values = self.critics(batch.observations, batch.actions)
        loss = squared_error(values, targets)
        self.critics.optimiser.minimise(loss, self.active)
        return {"critic_loss": loss, "q_data": values.mean((0, -1)), "target": targets.mean(-1)}

    def _update_policy(self, batch: Batch) -> dict[str, Tensor]:
        outputs = self.policy(batch.observations)
        advantages = self.advantages(batch, self.draw(outputs))
        weights = exponential_weights(advantages, 1.0 / self.temperature, self.weight_clip)
        loss = weighted_likelihood_loss(outputs, self.policy.extra(), batch.actions, weights)
        self.policy.optimiser.minimise(loss, self.active)
        return {
            "loss": loss,
            "advantage": advantages.mean(-1),
            "weight": weights.mean(-1),
            "weight_clipped": (weights >= self.weight_clip[:, None]).float().mean(-1),
        }

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "critics": self.critics.state_dict(),
            "policy": self.policy.state_dict(),
            "noise": self.noise.state_dict(),
            "active": self.active,
        }


METHOD = Method(
    name="awac",
    title="AWAC",
    paper="Nair et al., arXiv 2006.09359, 2020",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
