"""Advantage-weighted regression (AWR) for discrete actions.

Peng, Kumar, Zhang and Levine, "Advantage-Weighted Regression: Simple and Scalable Off-Policy
Reinforcement Learning", arXiv 1910.00177, 2019. A value function is regressed on the returns of the
dataset's trajectories, and a policy on their actions, the better than expected weighing more:

    V:  min_φ  ½ E_D[ (G - V_φ(s))² ]                                    Algorithm 1, line 5
    π:  max_θ  E_D[ min(exp(Ã/T), 20) · log π_θ(a|s) ],   A = G - V_φ(s)  line 6

G is the TD(λ) return of the trajectory from (s,a) on,

    G_t = r_t + γ [ (1-λ) V_φ(s_{t+1}) + λ G_{t+1} ],

which is r_t where the episode terminated, and r_t + γ V_φ(s_{t+1}) where it was truncated. Ã is A
less its mean, over its standard deviation: so T has no unit, and the scale of rewards does not
matter. The policy is evaluated by sampling, as it was fitted.

Differences from the paper, which alternates hundreds of steps on V with hundreds on π and then
collects new data; offline the data stays the same, and here

- both take a step on every batch, with the returns and advantages that V gives at that moment; the
  paper's code computes them for all of its data once per iteration. Mean and standard deviation of
  A are those of the batch;
- returns look ``horizon`` steps ahead and bootstrap in full there. A trajectory that ends earlier
  has its exact TD(λ) return;
- the optimiser is Adam, as for the other methods, instead of momentum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.engine.checks import check_network, check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.parts.advantage_weighting import standardised_weights
from baselines.parts.critics import td_targets
from baselines.parts.discrete import SoftmaxActor, weighted_likelihood_loss
from baselines.parts.networks import MLP
from baselines.parts.soft_q import td_loss


@dataclass(frozen=True)
class Config:
    """Hyperparameters of AWR."""

    temperature: float = 1.0
    """T, in standard deviations of the advantage (β in the paper; the ReDS paper tries 0.1, 1 and
    10 in its maze)."""
    weight_clip: float = 20.0
    """Largest weight of a transition (ω_max in the paper)."""
    discount: float = 0.99
    """γ."""
    trace_decay: float = 0.95
    """λ of the TD(λ) returns: 0 bootstraps after one step, 1 at the end of the trajectory."""
    horizon: int = 8
    """Steps that returns look ahead, the same for all members; every one costs a forward pass. With
    8 they are exact on the gridworld, whose trajectories have no more."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Width of each hidden layer of both networks; the same for all members."""
    batch_size: int = 256
    """Transitions per gradient step."""
    learning_rate: float = 1e-3
    """Adam's step size, for both networks."""
    greedy: bool = False
    """Evaluate the most probable action instead of sampling."""

    def __post_init__(self) -> None:
        check_network(self)
        check_range(self, "temperature", 0.0, open_low=True)
        check_range(self, "weight_clip", 0.0, open_low=True)
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "trace_decay", 0.0, 1.0)
        check_range(self, "horizon", 1, whole=True)


def lambda_returns(
    rewards: Tensor,
    next_values: Tensor,
    terminations: Tensor,
    truncations: Tensor,
    discount: Tensor,
    trace_decay: Tensor,
) -> Tensor:
    """Returns the TD(λ) return G of the first of ``K`` successive transitions.

    What comes after the end of a trajectory has no effect.

    Args:
        rewards: (P, B, K).
        next_values: (P, B, K) values of the true successors.
        terminations: (P, B, K) bool.
        truncations: (P, B, K) bool.
        discount: (P,) γ.
        trace_decay: (P,) λ.

    Returns:
        (P, B).
    """
    ends = terminations | truncations
    returns = td_targets(rewards[..., -1], terminations[..., -1], next_values[..., -1], discount)
    for k in reversed(range(rewards.shape[-1] - 1)):
        value = next_values[..., k]
        mixed = torch.lerp(value, returns, trace_decay[:, None])
        bootstrap = torch.where(ends[..., k], value, mixed)
        returns = td_targets(rewards[..., k], terminations[..., k], bootstrap, discount)
    return returns


class Agent:
    """A population of policies with their value functions."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        hidden_sizes = shared(configs, "hidden_sizes")
        learning_rate = per_member(configs, "learning_rate", device)
        self.value_network = MLP((data.observation_size, *hidden_sizes, 1))
        self.value = self.value_network.init(MemberRandom(seeds, "value", device))
        self.value_optimiser = MemberAdam(self.value, learning_rate)
        self.policy_network = MLP((data.observation_size, *hidden_sizes, data.num_actions))
        self.policy = self.policy_network.init(MemberRandom(seeds, "policy", device))
        self.policy_optimiser = MemberAdam(self.policy, learning_rate)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.data = data
        self.ahead = torch.arange(shared(configs, "horizon"), device=device)
        self.greedy = shared(configs, "greedy")
        self.temperature = per_member(configs, "temperature", device)
        self.weight_clip = per_member(configs, "weight_clip", device)
        self.discount = per_member(configs, "discount", device)
        self.trace_decay = per_member(configs, "trace_decay", device)

    @torch.no_grad()
    def returns(self, batch: Batch) -> Tensor:
        """Returns the (P, B) TD(λ) returns of the batch's transitions under the present V."""
        # The last row of all ends a trajectory, so rows past it have no effect wherever they point.
        every = self.data.rows
        rows = (batch.row.unsqueeze(-1) + self.ahead).clamp_(max=len(every.row) - 1)

        def steps(column: Tensor) -> Tensor:
            return column.index_select(0, rows.flatten()).view(*rows.shape, *column.shape[1:])

        next_observations = steps(every.next_observations).flatten(1, 2)
        next_values = self.value_network(self.value, next_observations)
        return lambda_returns(
            steps(every.rewards),
            next_values.view(rows.shape),
            steps(every.terminations),
            steps(every.truncations),
            self.discount,
            self.trace_decay,
        )

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on V and one on π, both with the advantages before the step."""
        returns = self.returns(batch)
        values = self.value_network(self.value, batch.observations).squeeze(-1)
        weights = standardised_weights(
            returns - values.detach(), self.temperature, self.weight_clip
        )
        value_loss = td_loss(values, returns)
        logits = self.policy_network(self.policy, batch.observations)
        policy_loss = weighted_likelihood_loss(logits, batch.actions, weights)

        self.value_optimiser.minimise(value_loss, self.active)
        self.policy_optimiser.minimise(policy_loss, self.active)
        metrics = {
            "loss": value_loss + policy_loss,
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value": values.mean(-1),
            "weight": weights.mean(-1),
            "weight_clipped": (weights >= self.weight_clip[:, None]).float().mean(-1),
        }
        return {name: value.detach() for name, value in metrics.items()}

    def actor(self, member: int) -> SoftmaxActor:
        """Returns a copy of one member's policy on the CPU."""
        parameters = self.policy.detach()[member : member + 1].cpu().clone()
        return SoftmaxActor(self.policy_network, parameters, greedy=self.greedy)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "policy": self.policy,
            "policy_optimiser": self.policy_optimiser.state_dict(),
            "value": self.value,
            "value_optimiser": self.value_optimiser.state_dict(),
            "active": self.active,
        }


METHOD = Method(
    name="awr",
    title="AWR",
    paper="Peng et al., arXiv 1910.00177, 2019",
    config=Config,
    agent=Agent,
    actions="discrete",
)
