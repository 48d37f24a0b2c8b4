"""Soft actor-critic with twin critics: what CQL and CQL (ReDS) for continuous actions share.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, 2018, as CQL has
it, without entropy in the backup:

    π:  min_φ  E_{s~D, a~π}[ α log π(a|s) - min_j Q_j(s,a) ]                    Eq. 7
    α:  E_{a~π}[-log π(a|s)] is held at the dimension of the action times -1    Eq. 18
    y = r + γ min_j Q̄_j(s', a'),  a' ~ π(·|s'),  or with ``max_backup`` the largest
        min_j Q̄_j(s', a'_k) of K actions a'_k ~ π(·|s')

The gradient of Eq. 18 by log α has the factor α; codes of SAC and CQL leave it out, which Adam
hardly notices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.random import MemberRandom
from baselines.parts import gaussian
from baselines.parts.critics import Critics, td_targets
from baselines.parts.initialisation import orthogonal, uniform_fan_in
from baselines.parts.multipliers import Multiplier
from baselines.parts.networks import NormPlace
from baselines.parts.policies import DeterministicActor, GaussianActor, Policy

LOG_STD_RANGE = (-20.0, 2.0)
"""Bounds of the policy's log standard deviation, as in JaxCQL; -5 and 2 in the authors' code."""


class Samples(NamedTuple):
    """Actions drawn in every state, with their log-densities."""

    actions: Tensor  # (P, B, K, act)
    log_densities: Tensor  # (P, B, K)


def draw(heads: tuple[Tensor, Tensor], noise: Tensor) -> Samples:
    """Returns squashed actions from (P, B, act) heads and (P, K, B, act) noise."""
    mean, log_std = (each.unsqueeze(1) for each in heads)
    actions, log_densities = gaussian.sample(mean, log_std, noise)
    return Samples(actions.movedim(1, 2), log_densities.movedim(1, 2))


def policy_loss(values: Tensor, log_density: Tensor, alpha: Tensor) -> Tensor:
    """Returns the (P,) loss ``mean_B [α log π(a|s) - min_j Q_j(s,a)]``.

    Args:
        values: (E, P, B) of actions a ~ π.
        log_density: (P, B) log π(a|s).
        alpha: (P,) α, without gradient.
    """
    return (alpha[:, None] * log_density - values.amin(0)).mean(-1)


class Draws(NamedTuple):
    """The actions of one update; all but ``chosen`` without gradient."""

    chosen: Samples  # one a ~ π(·|s)
    candidates: Samples  # a' ~ π(·|s') of which the best is backed up, one or K
    proposals: tuple[Samples, Samples, Samples]  # K each: uniform, from π(·|s), from π(·|s')


class SoftActorCritic:
    """A population of tanh-Gaussian policies with twin critics.

    Args:
        configs: (P,) configs of a method. Of their fields ``critic_sizes``, ``policy_sizes``,
            ``orthogonal``, ``samples`` and ``max_backup`` are shared by all members;
            ``critic_rate``, ``policy_rate``, ``discount`` and ``target_rate`` are not.
        data: Gives sizes, frames and device.
        seeds: (P,) member seeds.
        critic_norm: Where the critics' hidden layers have layer normalisation.

    Attributes:
        critics: Q and Q̄.
        policy: π; two heads per dimension of the action.
        alpha: α.
        active: (P,) bool, members that are trained.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        data: MemberData,
        seeds: Sequence[int],
        *,
        critic_norm: NormPlace = "none",
    ):
        device = data.device
        initialiser = orthogonal if shared(configs, "orthogonal") else uniform_fan_in
        critic_rate = per_member(configs, "critic_rate", device)
        policy_rate = per_member(configs, "policy_rate", device)
        critic_sizes = shared(configs, "critic_sizes")
        policy_sizes = shared(configs, "policy_sizes")
        self.critics = Critics(
            data, seeds, critic_sizes, critic_rate, norm=critic_norm, initialiser=initialiser
        )
        self.policy = Policy(
            data, seeds, policy_sizes, policy_rate, heads=2, initialiser=initialiser
        )
        self.alpha = Multiplier(policy_rate)
        self.noise = MemberRandom(seeds, "policy samples", device)
        self.uniform = MemberRandom(seeds, "uniform actions", device)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.target_entropy = -float(data.action_size)
        self.samples: int = shared(configs, "samples")
        self.max_backup: bool = shared(configs, "max_backup")
        self.discount = per_member(configs, "discount", device)
        self.target_rate = per_member(configs, "target_rate", device)

    def heads(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the policy's (P, B, act) mean and log standard deviation before squashing."""
        return gaussian.split_heads(self.policy(observations), *LOG_STD_RANGE)

    def draw(self, batch: Batch) -> Draws:
        """Draws all the actions of one update."""
        K, (B, size) = self.samples, batch.actions.shape[1:]
        noise = self.noise.normal(2 * K + 2, B, size).split([1, K, 1, K], dim=1)
        heads = self.heads(batch.observations)
        chosen = draw(heads, noise[0])
        with torch.no_grad():
            sampled = draw(heads, noise[1])
            next_heads = self.heads(batch.next_observations)
            following = draw(next_heads, noise[3])
            candidates = following if self.max_backup else draw(next_heads, noise[2])
            uniform = 2.0 * self.uniform.uniform(B, K, size) - 1.0
            density = torch.full_like(sampled.log_densities, -size * math.log(2.0))
        return Draws(chosen, candidates, (Samples(uniform, density), sampled, following))

    def targets(self, batch: Batch, candidates: Samples) -> Tensor:
        """Returns the (P, B) targets y, the best of the actions given in s', without gradient."""
        next_q = self.critics.target_values(batch.next_observations, candidates.actions)
        return td_targets(batch.rewards, batch.terminations, next_q.amin(0).amax(-1), self.discount)

    def minimise(self, policy_loss: Tensor, critic_loss: Tensor, entropy: Tensor) -> None:
        """Takes one gradient step on α, π and Q each, then moves the targets.

        Args:
            policy_loss: (P,).
            critic_loss: (P,).
            entropy: (P,) of the policy, without gradient.
        """
        self.alpha.ascend(self.target_entropy - entropy, self.active)
        self.policy.optimiser.minimise(policy_loss, self.active)
        self.critics.optimiser.minimise(critic_loss, self.active)
        self.critics.track(self.target_rate, self.active)

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU, at its mode before squashing."""
        return self.policy.deterministic_actor(member)

    def gaussian_actor(self, member: int) -> GaussianActor:
        """Returns a copy of one member's policy on the CPU that samples."""
        return self.policy.gaussian_actor(member, LOG_STD_RANGE)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "critics": self.critics.state_dict(),
            "policy": self.policy.state_dict(),
            "alpha": self.alpha.state_dict(),
            "noise": self.noise.state_dict(),
            "uniform": self.uniform.state_dict(),
            "active": self.active,
        }
