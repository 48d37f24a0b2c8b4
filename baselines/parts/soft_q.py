"""Q-functions whose policies are softmaxes of their own values: what CQL and ReDS share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.optimiser import MemberAdam, track
from baselines.engine.random import MemberRandom
from baselines.parts.critics import td_targets
from baselines.parts.discrete import SoftmaxActor, boltzmann
from baselines.parts.networks import MLP


def td_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Returns the (P,) error ``½ mean_B (value - target)²`` of (P, B) arguments."""
    return 0.5 * (values - targets).square().mean(-1)


class SoftQ:
    """A population of Q-functions with their targets, and the policies π(a|s) ∝ exp(Q(s,a)/T).

    Args:
        configs: (P,) configs of a method. Of their fields ``hidden_sizes``, ``backup`` and
            ``greedy`` are shared by all members; ``learning_rate``, ``temperature``, ``discount``,
            ``reward_scale`` and ``target_rate`` are not.
        data: Gives observation size, number of actions and device.
        seeds: (P,) member seeds.

    Attributes:
        network: The shape of a Q-function; one output per action.
        critic: (P, n) parameters of Q.
        target: (P, n) parameters of Q̄, the exponential moving average of Q.
        temperature: (P,) T, in units of scaled reward.
        active: (P,) bool, members that are trained.
    """

    def __init__(self, configs: Sequence[Any], data: MemberData, seeds: Sequence[int]):
        device = data.device
        hidden_sizes = shared(configs, "hidden_sizes")
        self.network = MLP((data.observation_size, *hidden_sizes, data.num_actions))
        self.critic = self.network.init(MemberRandom(seeds, "critic", device))
        self.target = self.critic.detach().clone()
        self.optimiser = MemberAdam(self.critic, per_member(configs, "learning_rate", device))
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.backup = shared(configs, "backup")
        self.greedy = shared(configs, "greedy")
        self.temperature = per_member(configs, "temperature", device)
        self.discount = per_member(configs, "discount", device)
        self.reward_scale = per_member(configs, "reward_scale", device)
        self.target_rate = per_member(configs, "target_rate", device)

    def __call__(self, observations: Tensor) -> Tensor:
        """Returns the (P, B, A) values Q(s, ·) of (P, B, obs) observations."""
        return self.network(self.critic, observations)

    @torch.no_grad()
    def next_values(self, next_observations: Tensor) -> Tensor:
        """Returns (P, B) values V̄(s') of (P, B, obs) next observations.

        V̄(s') is E_{a'~π}[Q̄(s',a')], or with ``backup="max"`` the maximum of Q̄(s',·).
        """
        target_q = self.network(self.target, next_observations)
        if self.backup == "max":
            return target_q.amax(-1)
        return (boltzmann(self(next_observations), self.temperature) * target_q).sum(-1)

    def targets(self, batch: Batch) -> Tensor:
        """Returns the (P, B) backups B^π Q̄(s,a) of the batch's transitions, without gradient."""
        return td_targets(
            batch.rewards * self.reward_scale[:, None],
            batch.terminations,
            self.next_values(batch.next_observations),
            self.discount,
        )

    def minimise(self, losses: Tensor) -> None:
        """Takes one step down (P,) losses of the critic, then moves the target."""
        self.optimiser.minimise(losses, self.active)
        track(self.target, self.critic, self.target_rate, self.active)

    def actor(self, member: int) -> SoftmaxActor:
        """Returns a copy of one member's policy on the CPU."""
        return SoftmaxActor(
            self.network,
            self.critic.detach()[member : member + 1].cpu().clone(),
            temperature=float(self.temperature[member]),
            greedy=self.greedy,
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "critic": self.critic,
            "target": self.target,
            "optimiser": self.optimiser.state_dict(),
            "active": self.active,
        }
