"""Conservative Q-learning (CQL) for continuous actions.

Kumar, Zhou, Tucker and Levine, "Conservative Q-Learning for Offline Reinforcement Learning",
NeurIPS 2020: CQL(H) on SAC (Haarnoja et al., "Soft Actor-Critic Algorithms and Applications",
arXiv 1812.05905, 2018), in the form of the authors' code:

    Q:  min_θ  Σ_i { E_D[ (Q_i(s,a) - y)² ] + w · diff_i }                     Eq. 4
        diff_i = E_D[ log Σ_a exp Q_i(s,a) - Q_i(s,a) ]
        y = r + γ min_j Q̄_j(s', a'),  a' ~ π(·|s'),  or with ``max_backup`` the largest
            min_j Q̄_j(s', a'_k) of K actions a'_k ~ π(·|s')
    π:  min_φ  E_{s~D, a~π}[ α log π(a|s) - min_j Q_j(s,a) ]                    SAC, Eq. 7
    α:  E_{a~π}[-log π(a|s)] is held at the dimension of the action             SAC, Eq. 18
        times -1

The sum over actions is estimated with K actions each that are uniform, from π(·|s) and from
π(·|s'), all of them in s and each exponential divided by the action's density (appendix F). The
estimate is a sum, not a mean: it carries a constant log 3K.

``gap`` makes w a multiplier that holds diff at the gap (Eq. 30): the penalty is then
α' w (diff_i - gap), and α' >= 0 ascends on it.

All losses are computed before any step is taken, as in the authors' code. That code's policy also
learns a scale and an offset of its log standard deviation, which are left out here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured
from baselines.engine.random import MemberRandom
from baselines.parts import gaussian
from baselines.parts.critics import Critics, squared_error, td_targets
from baselines.parts.initialisation import orthogonal, uniform_fan_in
from baselines.parts.multipliers import Multiplier
from baselines.parts.policies import DeterministicActor, Policy

LOG_STD_RANGE = (-20.0, 2.0)
"""Bounds of the policy's log standard deviation, as in the authors' code."""
LARGEST_MULTIPLIER = 1e6
"""Bound of α'."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of CQL. Defaults are those for locomotion."""

    penalty: float = 10.0
    """w, weight of the penalty (α in Eq. 4; half as much as where the TD error has a factor ½)."""
    gap: float | None = None
    """Value at which a multiplier holds diff, in units of value; None for no multiplier. Given or
    not for all members alike."""
    samples: int = 10
    """K, actions per state from each of three distributions; the same for all members."""
    diff_min: float | None = None
    """Values of diff that are smaller, of single transitions, are raised to this; None for no."""
    max_backup: bool = False
    """Back up the best of K actions instead of one; the same for all members."""
    discount: float = 0.99
    """γ."""
    target_rate: float = 0.005
    """Fraction by which the targets Q̄ move in each step."""
    critic_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of the critics; the same for all members."""
    policy_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of the policy; the same for all members."""
    orthogonal: bool = True
    """Start from orthogonal weights; the same for all members."""
    critic_rate: float = 3e-4
    """Adam's step size for critics, and for α'."""
    policy_rate: float = 3e-5
    """Adam's step size for the policy, and for α."""
    batch_size: int = 256
    """Transitions per gradient step."""
    normalise_observations: bool = False
    """Subtract the dataset's mean from observations and divide by its standard deviation."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this,"""
    reward_shift: float = 0.0
    """and then this is added."""

    def __post_init__(self) -> None:
        check_preparation(self)
        check_sizes(self, "critic_sizes")
        check_sizes(self, "policy_sizes")
        check_range(self, "penalty", 0.0)
        if self.gap is not None:
            check_range(self, "gap")
        if self.diff_min is not None:
            check_range(self, "diff_min")
        check_range(self, "samples", 1, whole=True)
        check_choice(self, "max_backup", (False, True))
        check_choice(self, "orthogonal", (False, True))
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "target_rate", 0.0, 1.0, open_low=True)
        check_range(self, "critic_rate", 0.0, open_low=True)
        check_range(self, "policy_rate", 0.0, open_low=True)


OVERRIDES = {
    "antmaze": {
        "penalty": 5.0,
        "gap": 0.8,
        "diff_min": -200.0,
        "max_backup": True,
        "critic_sizes": (256, 256, 256, 256, 256),
        "policy_sizes": (256, 256),
        "policy_rate": 1e-4,
        "reward_scale": 10.0,
        "reward_shift": -5.0,
    },
    "adroit": {"penalty": 1.0, "policy_rate": 1e-4},
}


def conservative_difference(q: Tensor, log_densities: Tensor, q_data: Tensor) -> Tensor:
    """Returns the (E, P, B) ``log Σ_k exp(Q(s,a_k)) / p(a_k|s) - Q(s,a)`` of Eq. 4.

    Args:
        q: (E, P, B, K) values of sampled actions.
        log_densities: (P, B, K) log p of the distributions that they were drawn from.
        q_data: (E, P, B) values of the dataset's actions.
    """
    return torch.logsumexp(q - log_densities, dim=-1) - q_data


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


class Agent:
    """A population of policies with conservative twin critics."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        initialiser = orthogonal if shared(configs, "orthogonal") else uniform_fan_in
        critic_rate = per_member(configs, "critic_rate", device)
        policy_rate = per_member(configs, "policy_rate", device)
        critic_sizes = shared(configs, "critic_sizes")
        policy_sizes = shared(configs, "policy_sizes")
        self.critics = Critics(data, seeds, critic_sizes, critic_rate, initialiser=initialiser)
        self.policy = Policy(
            data, seeds, policy_sizes, policy_rate, heads=2, initialiser=initialiser
        )
        self.alpha = Multiplier(policy_rate)
        self.constraint = self.gap = None
        if any(config.gap is not None for config in configs):
            self.gap = per_member(configs, "gap", device)
            self.constraint = Multiplier(critic_rate, largest=LARGEST_MULTIPLIER)
        self.noise = MemberRandom(seeds, "policy samples", device)
        self.uniform = MemberRandom(seeds, "uniform actions", device)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.target_entropy = -float(data.action_size)
        self.samples: int = shared(configs, "samples")
        self.max_backup: bool = shared(configs, "max_backup")
        self.diff_min = None
        if any(config.diff_min is not None for config in configs):
            self.diff_min = per_member(configs, "diff_min", device)
        self.penalty = per_member(configs, "penalty", device)
        self.discount = per_member(configs, "discount", device)
        self.target_rate = per_member(configs, "target_rate", device)

    def heads(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the policy's (P, B, act) mean and log standard deviation before squashing."""
        return gaussian.split_heads(self.policy(observations), *LOG_STD_RANGE)

    def targets(self, batch: Batch, following: Samples) -> Tensor:
        """Returns the (P, B) targets y, the best of the actions given in s', without gradient."""
        next_q = self.critics.target_values(batch.next_observations, following.actions)
        return td_targets(batch.rewards, batch.terminations, next_q.amin(0).amax(-1), self.discount)

    def differences(self, batch: Batch, proposals: Sequence[Samples]) -> tuple[Tensor, Tensor]:
        """Returns the (E, P) means of diff, and the (E, P, B) values of the dataset's actions."""
        actions = [batch.actions.unsqueeze(-2), *(each.actions for each in proposals)]
        q = self.critics(batch.observations, torch.cat(actions, dim=-2))
        log_densities = torch.cat([each.log_densities for each in proposals], dim=-1)
        diff = conservative_difference(q[..., 1:], log_densities, q[..., 0])
        if self.diff_min is not None:
            diff = diff.maximum(self.diff_min[:, None])
        return diff.mean(-1), q[..., 0]

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on α, π, Q and α' each, then moves the targets."""
        K, (B, size) = self.samples, batch.actions.shape[1:]
        noise = self.noise.normal(2 * K + 2, B, size).split([1, K, 1, K], dim=1)
        heads = self.heads(batch.observations)
        chosen = draw(heads, noise[0])
        with torch.no_grad():
            sampled = draw(heads, noise[1])
            next_heads = self.heads(batch.next_observations)
            following = draw(next_heads, noise[3])
            backed_up = following if self.max_backup else draw(next_heads, noise[2])
            uniform = 2.0 * self.uniform.uniform(B, K, size) - 1.0
            density = torch.full_like(sampled.log_densities, -size * math.log(2.0))

        values = self.critics.of_policy(batch.observations, chosen.actions, critics=2)[..., 0]
        log_density = chosen.log_densities[..., 0]
        loss = policy_loss(values, log_density, self.alpha.value())
        diff, q_data = self.differences(batch, [Samples(uniform, density), sampled, following])
        td = squared_error(q_data, self.targets(batch, backed_up))
        if self.constraint is None or self.gap is None:
            weight, excess = self.penalty, diff
        else:
            weight, excess = self.constraint.value() * self.penalty, diff - self.gap
        critic_loss = td + weight * excess.sum(0)

        entropy = -log_density.detach().mean(-1)
        self.alpha.ascend(self.target_entropy - entropy, self.active)
        self.policy.optimiser.minimise(loss, self.active)
        self.critics.optimiser.minimise(critic_loss, self.active)
        if self.constraint is not None:
            self.constraint.ascend(self.penalty * excess.detach().mean(0), self.active)
        self.critics.track(self.target_rate, self.active)
        metrics = {
            "loss": critic_loss,
            "td_loss": td,
            "difference": diff.mean(0),
            "weight": weight,
            "policy_loss": loss,
            "entropy": entropy,
            "alpha": self.alpha.value(),
            "q_data": q_data.mean((0, -1)),
        }
        return {name: value.detach() for name, value in metrics.items()}

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU, at its mode before squashing."""
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        state = {
            "critics": self.critics.state_dict(),
            "policy": self.policy.state_dict(),
            "alpha": self.alpha.state_dict(),
            "noise": self.noise.state_dict(),
            "uniform": self.uniform.state_dict(),
            "active": self.active,
        }
        if self.constraint is not None:
            state["constraint"] = self.constraint.state_dict()
        return state


METHOD = Method(
    name="cql",
    title="CQL",
    paper="Kumar et al., NeurIPS 2020",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
