"""Advantage-weighted regression (AWR) for continuous actions.

Peng, Kumar, Zhang and Levine, "Advantage-Weighted Regression: Simple and Scalable Off-Policy
Reinforcement Learning", arXiv 1910.00177, 2019. A value function is regressed on the returns of the
dataset's trajectories, and a policy on their actions, the better than expected weighing more:

    V:  min_φ  E_D[ (G - V_φ(s))² ]                                       Algorithm 1, line 5
    π:  max_θ  E_D[ min(exp(Ã/T), 20) · log π_θ(a|s) ],   A = G - V_φ(s)   line 6

G is the TD(λ) return of the trajectory from (s,a) on,

    G_t = r_t + γ [ (1-λ) V_φ(s_{t+1}) + λ G_{t+1} ],

which is r_t where the episode terminated, and r_t + γ V_φ(s_{t+1}) where it was truncated. Ã is A
less its mean, over its standard deviation, as in the authors' code: T has no unit, and the scale of
rewards does not matter. The policy is evaluated at its mean.

Differences from the paper, which alternates 200 steps on V with 1000 on π, each time with the
returns of all its data under the V it begins with, and then collects new data:

- offline the data stays the same. Returns of all transitions are computed before every
  ``refresh_interval``-th update; every update takes a step on V and one on π, with the advantages
  of its batch under the present V and with their mean and standard deviation;
- the policy is that of IQL (:mod:`baselines.parts.advantage_weighting`): its standard deviation is
  learned, its mean is within bounds. The paper's deviation is fixed, and means out of bounds cost;
- the optimiser is Adam and hidden layers are wider, as for the other methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.engine.checks import check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.optimiser import MemberAdam
from baselines.engine.preparation import as_configured
from baselines.engine.random import MemberRandom
from baselines.parts.advantage_weighting import standardised_weights, weighted_likelihood_loss
from baselines.parts.critics import squared_error, td_targets
from baselines.parts.networks import MLP
from baselines.parts.policies import DeterministicActor, Policy

Phase = Literal["step", "returns and step"]

_ROWS_AT_ONCE = 2**17  # of all members, whose values are computed together: bounds the memory


@dataclass(frozen=True)
class Config:
    """Hyperparameters of AWR."""

    temperature: float = 1.0
    """T, in standard deviations of the advantage (β in the paper)."""
    weight_clip: float = 20.0
    """Largest weight of a transition (ω_max in the paper)."""
    discount: float = 0.99
    """γ."""
    trace_decay: float = 0.95
    """λ of the TD(λ) returns: 0 bootstraps after one step, 1 at the end of the trajectory."""
    refresh_interval: int = 200
    """Updates from one computation of all returns to the next; the same for all members."""
    value_scale: float = 100.0
    """What an output of 1 of the value network means, in units of reward (1/(1-γ) in the authors'
    code): Adam moves outputs slowly, and values are sums over many steps."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of both networks; the same for all members."""
    learning_rate: float = 3e-4
    """Adam's step size, for both networks."""
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
        check_range(self, "trace_decay", 0.0, 1.0)
        check_range(self, "refresh_interval", 1, whole=True)
        check_range(self, "value_scale", 0.0, open_low=True)
        check_range(self, "learning_rate", 0.0, open_low=True)


OVERRIDES = {"antmaze": {"reward_shift": -1.0}}
"""Rewards of 0 and 1 become -1 and 0, as for the other methods without a setting of their own."""


def lambda_returns(
    rewards: Tensor,
    next_values: Tensor,
    terminations: Tensor,
    truncations: Tensor,
    discount: Tensor,
    trace_decay: Tensor,
    *,
    longest: int,
) -> Tensor:
    """Returns the (P, N) TD(λ) returns G of every transition of whole trajectories.

    The recursion is solved by doubling: G_t as a linear function of G_{t+k}, with G_{t+k} as one of
    G_{t+2k} put in, is one of G_{t+2k}. Instead of a loop over time there are log2(longest)
    elementwise operations.

    Args:
        rewards: (P, N) of trajectory after trajectory; the last transition ends one.
        next_values: (P, N) values of the true successors.
        terminations: (P, N) bool.
        truncations: (P, N) bool.
        discount: (P,) γ.
        trace_decay: (P,) λ.
        longest: Transitions of the longest trajectory.
    """
    ends = terminations | truncations
    decay = trace_decay[:, None]
    bootstrap = torch.where(ends, next_values, (1.0 - decay) * next_values)
    returns = td_targets(rewards, terminations, bootstrap, discount)
    share = (discount[:, None] * decay).expand_as(returns).masked_fill(ends, 0.0)
    ahead = 1
    while ahead < longest:
        # Where roll goes round the end the share is zero: a trajectory ends in between.
        returns = returns + share * returns.roll(-ahead, -1)
        share = share * share.roll(-ahead, -1)
        ahead *= 2
    return returns


def longest_trajectory(rows: Batch) -> int:
    """Returns the number of transitions of the longest trajectory among (N,) rows."""
    ends = (rows.terminations | rows.truncations).nonzero().flatten()
    return int(ends.diff(prepend=ends.new_tensor([-1])).max())


class Agent:
    """A population of policies with their value functions."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        hidden_sizes = shared(configs, "hidden_sizes")
        learning_rate = per_member(configs, "learning_rate", device)
        self.value_network = MLP((data.observation_size, *hidden_sizes, 1))
        self.value = self.value_network.init(MemberRandom(seeds, "value", device))
        self.value_optimiser = MemberAdam(self.value, learning_rate)
        self.policy = Policy(data, seeds, hidden_sizes, learning_rate, extra=1)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.data = data
        self.longest = longest_trajectory(data.rows)
        self.returns = torch.zeros(len(configs), int(data.sizes.max()), device=device)
        self.refresh_interval: int = shared(configs, "refresh_interval")
        self.value_scale = per_member(configs, "value_scale", device)
        self.temperature = per_member(configs, "temperature", device)
        self.weight_clip = per_member(configs, "weight_clip", device)
        self.discount = per_member(configs, "discount", device)
        self.trace_decay = per_member(configs, "trace_decay", device)

    def values(self, observations: Tensor) -> Tensor:
        """Returns the (P, B) values V(s) of (P, B, obs) observations."""
        outputs = self.value_network(self.value, observations).squeeze(-1)
        return self.value_scale[:, None] * outputs

    def phase(self, step: int) -> Phase:
        """Returns whether update number ``step`` (0, 1, ...) begins with all returns."""
        return "returns and step" if step % self.refresh_interval == 0 else "step"

    @torch.no_grad()
    def refresh_returns(self) -> None:
        """Computes the returns of each member's whole dataset under its present V."""
        every, (members, most) = self.data.rows, self.returns.shape
        # In place of rows that a smaller dataset does not have, its last one: it ends a trajectory,
        # so no return depends on what follows.
        rows = torch.arange(most, device=self.data.device).minimum(self.data.sizes[:, None] - 1)
        rows = rows + self.data.offsets[:, None]
        parts = rows.split(max(1, _ROWS_AT_ONCE // members), dim=-1)
        next_values = [self.values(every.next_observations[part]) for part in parts]
        returns = lambda_returns(
            every.rewards[rows],
            torch.cat(next_values, dim=-1),
            every.terminations[rows],
            every.truncations[rows],
            self.discount,
            self.trace_decay,
            longest=self.longest,
        )
        self.returns.copy_(returns)

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Takes one gradient step on V and one on π, both with the advantages before the step."""
        if phase == "returns and step":
            self.refresh_returns()
        returns = self.returns.gather(-1, batch.row - self.data.offsets[:, None])
        values = self.values(batch.observations)
        weights = standardised_weights(
            returns - values.detach(), self.temperature, self.weight_clip
        )
        value_loss = squared_error(values.unsqueeze(0), returns)
        outputs = self.policy(batch.observations)
        policy_loss = weighted_likelihood_loss(outputs, self.policy.extra(), batch.actions, weights)

        self.value_optimiser.minimise(value_loss, self.active)
        self.policy.optimiser.minimise(policy_loss, self.active)
        metrics = {
            "loss": value_loss + policy_loss,
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value": values.mean(-1),
            "return": returns.mean(-1),
            "weight": weights.mean(-1),
            "weight_clipped": (weights >= self.weight_clip[:, None]).float().mean(-1),
        }
        return {name: value.detach() for name, value in metrics.items()}

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "policy": self.policy.state_dict(),
            "value": self.value,
            "value_optimiser": self.value_optimiser.state_dict(),
            "returns": self.returns,
            "active": self.active,
        }


METHOD = Method(
    name="awr",
    title="AWR",
    paper="Peng et al., arXiv 1910.00177, 2019",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
