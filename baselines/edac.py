"""EDAC: soft actor-critic with a large ensemble of critics whose gradients are kept apart.

An, Moon, Kim and Song, "Uncertainty-Based Offline Reinforcement Learning with Diversified
Q-Ensemble", NeurIPS 2021, on SAC (Haarnoja et al., "Soft Actor-Critic Algorithms and Applications",
arXiv 1812.05905, 2018). The least of N values is a pessimistic one, the more so where critics
disagree, and they disagree more on other actions if their gradients differ on the dataset's:

    Q:  min_θ  Σ_i E_D[ (Q_i(s,a) - y)² ] + η/(N-1) E_D[ Σ_{i≠j} cos(g_i, g_j) ]     Algorithm 1
        g_i = ∇_a Q_i(s,a)
        y = r + γ ( min_i Q̄_i(s', a') - α log π(a'|s') ),   a' ~ π(·|s')
    π:  min_φ  E_{s~D, a~π}[ α log π(a|s) - min_i Q_i(s,a) ]                          SAC, Eq. 7
    α:  E_{a~π}[-log π(a|s)] is held at the dimension of the action times -1          SAC, Eq. 18

The order is α, π, Q, each with what the one before has become; the authors' code computes all
losses first. The cosines are summed over all pairs, as in the paper; that code draws no more
critics for them than actions have dimensions. With η = 0 this is SAC-N of the same paper. The
authors train for 3 million updates. They state no settings for ant mazes, which have those of
locomotion.
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
from baselines.parts import gaussian
from baselines.parts.critics import Critics, squared_error, td_targets
from baselines.parts.initialisation import small_output
from baselines.parts.input_gradients import values_and_gradients
from baselines.parts.multipliers import Multiplier
from baselines.parts.policies import DeterministicActor, Policy
from baselines.parts.soft_actor_critic import policy_loss

LOG_STD_RANGE = (-5.0, 2.0)
"""Bounds of the policy's log standard deviation, as in the authors' code."""
POLICY_OUTPUT, CRITIC_OUTPUT, HIDDEN_BIAS = 1e-3, 3e-3, 0.1
"""Bounds of the initial last layers, and all other biases at first, as in the authors' code."""
SMALLEST_NORM = 1e-10
"""Added to the norms of gradients."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of EDAC. Defaults are those for locomotion."""

    ensemble: int = 10
    """N, critics; the same for all members."""
    diversity: float = 1.0
    """η, weight of the similarity of the critics' gradients."""
    discount: float = 0.99
    """γ."""
    target_rate: float = 0.005
    """Fraction by which the targets Q̄ move in each step."""
    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of all networks; the same for all members."""
    critic_rate: float = 3e-4
    """Adam's step size for the critics."""
    policy_rate: float = 3e-4
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
        check_sizes(self)
        check_range(self, "ensemble", 2, whole=True)
        check_range(self, "diversity", 0.0)
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "target_rate", 0.0, 1.0, open_low=True)
        check_range(self, "critic_rate", 0.0, open_low=True)
        check_range(self, "policy_rate", 0.0, open_low=True)


OVERRIDES = {
    "halfcheetah-medium-expert*": {"diversity": 5.0},
    "walker2d-medium-expert*": {"diversity": 5.0},
    "hopper-*": {"ensemble": 50},
    "pen-*": {"ensemble": 20, "diversity": 1000.0},
    "pen-cloned*": {"diversity": 10.0},
}


def similarity(gradients: Tensor) -> Tensor:
    """Returns the (P,) penalty ``1/(N-1) mean_B Σ_{i≠j} cos(g_i, g_j)``.

    By ``Σ_{i≠j} <u_i, u_j> = |Σ_i u_i|² - Σ_i |u_i|²``, which needs no matrix of pairs.

    Args:
        gradients: (N, P, B, act) g.
    """
    lengths = torch.linalg.vector_norm(gradients, dim=-1, keepdim=True)
    directions = gradients / (lengths + SMALLEST_NORM)
    pairs = directions.sum(0).square().sum(-1) - directions.square().sum((0, -1))
    return pairs.mean(-1) / (len(gradients) - 1)


class Agent:
    """A population of policies with ensembles of critics."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        hidden_sizes = shared(configs, "hidden_sizes")
        policy_rate = per_member(configs, "policy_rate", device)
        self.critics = Critics(
            data,
            seeds,
            hidden_sizes,
            per_member(configs, "critic_rate", device),
            ensemble=shared(configs, "ensemble"),
            initialiser=small_output(CRITIC_OUTPUT, hidden_bias=HIDDEN_BIAS),
        )
        self.policy = Policy(
            data,
            seeds,
            hidden_sizes,
            policy_rate,
            heads=2,
            initialiser=small_output(POLICY_OUTPUT, hidden_bias=HIDDEN_BIAS),
        )
        self.alpha = Multiplier(policy_rate)
        self.noise = MemberRandom(seeds, "policy samples", device)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.ensemble: int = shared(configs, "ensemble")
        self.target_entropy = -float(data.action_size)
        self.actions = slice(data.observation_size, None)
        self.diversity = per_member(configs, "diversity", device)
        self.discount = per_member(configs, "discount", device)
        self.target_rate = per_member(configs, "target_rate", device)

    def draw(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (P, B, act) actions of the policy and their (P, B) log-densities."""
        mean, log_std = gaussian.split_heads(self.policy(observations), *LOG_STD_RANGE)
        return gaussian.sample(mean, log_std, self.noise.normal(*mean.shape[1:]))

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Returns the (P, B) targets y of the critics, without gradient."""
        next_actions, log_density = self.draw(batch.next_observations)
        next_values = self.critics.target_values(batch.next_observations, next_actions).amin(0)
        soft = next_values - self.alpha.value()[:, None] * log_density
        return td_targets(batch.rewards, batch.terminations, soft, self.discount)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on α, π and Q each, then moves the targets."""
        metrics = self._update_policy(batch) | self._update_critics(batch)
        self.critics.track(self.target_rate, self.active)
        return {name: value.detach() for name, value in metrics.items()}

    def _update_policy(self, batch: Batch) -> dict[str, Tensor]:
        actions, log_density = self.draw(batch.observations)
        entropy = -log_density.detach().mean(-1)
        self.alpha.ascend(self.target_entropy - entropy, self.active)
        alpha = self.alpha.value()
        values = self.critics.of_policy(batch.observations, actions, critics=self.ensemble)
        loss = policy_loss(values, log_density, alpha)
        self.policy.optimiser.minimise(loss, self.active)
        return {
            "policy_loss": loss,
            "entropy": entropy,
            "alpha": alpha,
            "q_policy": values.amin(0).mean(-1),
            "q_spread": values.std(0).mean(-1),
        }

    def _update_critics(self, batch: Batch) -> dict[str, Tensor]:
        targets = self.targets(batch)
        inputs = torch.cat([batch.observations, batch.actions], dim=-1)
        values, gradients = values_and_gradients(
            self.critics.network, self.critics.parameters, inputs, self.actions
        )
        td, penalty = squared_error(values, targets), similarity(gradients)
        loss = td + self.diversity * penalty
        self.critics.optimiser.minimise(loss, self.active)
        return {
            "loss": loss,
            "td_loss": td,
            "similarity": penalty,
            "q_data": values.mean((0, -1)),
            "target": targets.mean(-1),
        }

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU, at its mode before squashing."""
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "critics": self.critics.state_dict(),
            "policy": self.policy.state_dict(),
            "alpha": self.alpha.state_dict(),
            "noise": self.noise.state_dict(),
            "active": self.active,
        }


METHOD = Method(
    name="edac",
    title="EDAC",
    paper="An et al., NeurIPS 2021",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
