"""Implicit Q-learning (IQL) for continuous actions.

Kostrikov, Nair and Levine, "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022.
Values of the best actions in the data come from expectile regression, without ever asking for the
value of another action; the policy is then cloned, the better actions weighing more:

    V:  min_ψ  E_D[ L_τ( min_i Q̄_i(s,a) - V(s) ) ],   L_τ(u) = |τ - 1[u < 0]| u²     Eq. 5
    Q:  min_θ  Σ_i E_D[ (Q_i(s,a) - r - γ V(s'))² ]                                    Eq. 6
    π:  max_φ  E_D[ min(exp(β A), 100) log π(a|s) ],   A = min_i Q̄_i(s,a) - V(s)      Eq. 7

The policy is a Gaussian whose mean is the tanh of a network and whose standard deviation does not
depend on the state; it is not squashed (appendix B, and the authors' code). Its step size falls to
zero along half a cosine over the run. It is evaluated at its mean. V takes its step first, and then
A and the targets of Q have the new V, as in the authors' code (ikostrikov/implicit_q_learning,
learner.py, ``_update_jit``: value, actor, critic, target critic); Q̄ moves last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.optimiser import MemberAdam, cosine
from baselines.engine.preparation import Preparation, return_range
from baselines.engine.random import MemberRandom
from baselines.parts.advantage_weighting import exponential_weights, weighted_likelihood_loss
from baselines.parts.critics import Critics, expectile_error, squared_error, td_targets
from baselines.parts.networks import MLP
from baselines.parts.penalties import CriticPenalty, penalised
from baselines.parts.policies import DeterministicActor, Policy

if TYPE_CHECKING:
    from hetero_bench import Dataset

RETURN_RANGE = 1000.0
"""What the range of returns is scaled to (appendix B: rewards of locomotion)."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of IQL. Defaults are those for locomotion (appendix B)."""

    expectile: float = 0.7
    """τ of the value function."""
    inverse_temperature: float = 3.0
    """β of the policy's weights, per unit of (scaled) reward."""
    weight_clip: float = 100.0
    """Largest weight of a transition in the policy's loss."""
    discount: float = 0.99
    """γ."""
    target_rate: float = 0.005
    """Fraction by which the targets Q̄ move in each step."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of all networks; the same for all members."""
    dropout: float = 0.0
    """Probability with which a hidden unit of the policy is dropped; the same for all members."""
    learning_rate: float = 3e-4
    """Adam's step size, for all networks; the policy's falls to zero over the run."""
    batch_size: int = 256
    """Transitions per gradient step."""
    normalise_observations: bool = False
    """Subtract the dataset's mean from observations and divide by its standard deviation."""
    scale_by_returns: bool = False
    """Multiply rewards by 1000 / (largest - smallest return of the dataset's trajectories)."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this, too,"""
    reward_shift: float = 0.0
    """and then this is added."""

    def __post_init__(self) -> None:
        check_preparation(self)
        check_sizes(self)
        check_range(self, "expectile", 0.0, 1.0)
        check_range(self, "inverse_temperature", 0.0)
        check_range(self, "weight_clip", 0.0, open_low=True)
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "target_rate", 0.0, 1.0, open_low=True)
        check_range(self, "dropout", 0.0, 0.99)
        check_range(self, "learning_rate", 0.0, open_low=True)
        check_choice(self, "scale_by_returns", (False, True))


OVERRIDES = {
    "locomotion": {"scale_by_returns": True},
    "antmaze": {"expectile": 0.9, "inverse_temperature": 10.0, "reward_shift": -1.0},
    "adroit": {"expectile": 0.8, "dropout": 0.1},
    "kitchen": {"inverse_temperature": 0.5, "dropout": 0.1},
}


def prepare(config: Config, dataset: Dataset) -> Preparation:
    """Returns what is done to a dataset."""
    scale = config.reward_scale
    if config.scale_by_returns:
        scale *= RETURN_RANGE / return_range(dataset)
    return Preparation(config.normalise_observations, scale, config.reward_shift)


class Agent:
    """A population of value functions, critics and policies."""

    def __init__(
        self,
        configs: Sequence[Config],
        data: MemberData,
        seeds: Sequence[int],
        *,
        critic_penalty: CriticPenalty | None = None,
    ):
        device = data.device
        hidden_sizes = shared(configs, "hidden_sizes")
        learning_rate = per_member(configs, "learning_rate", device)
        self.critics = Critics(data, seeds, hidden_sizes, learning_rate)
        self.critic_penalty = critic_penalty
        self.value_network = MLP((data.observation_size, *hidden_sizes, 1))
        self.value = self.value_network.init(MemberRandom(seeds, "value", device))
        self.value_optimiser = MemberAdam(self.value, learning_rate)
        self.policy = Policy(
            data,
            seeds,
            hidden_sizes,
            learning_rate,
            extra=1,
            dropout=shared(configs, "dropout"),
            schedule=None if data.steps is None else cosine(data.steps),
        )
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.expectile = per_member(configs, "expectile", device)
        self.inverse_temperature = per_member(configs, "inverse_temperature", device)
        self.weight_clip = per_member(configs, "weight_clip", device)
        self.discount = per_member(configs, "discount", device)
        self.target_rate = per_member(configs, "target_rate", device)

    def values(self, observations: Tensor) -> Tensor:
        """Returns the (P, B) values V(s) of (P, B, obs) observations."""
        return self.value_network(self.value, observations).squeeze(-1)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on V, then on π and Q with the new V, then moves the targets."""
        best = self.critics.target_values(batch.observations, batch.actions).amin(0)
        metrics = self._update_value(batch, best)
        metrics |= self._update_policy(batch, best)
        metrics |= self._update_critics(batch)
        self.critics.track(self.target_rate, self.active)
        metrics["loss"] = metrics["value_loss"] + metrics["policy_loss"] + metrics["critic_loss"]
        return {name: value.detach() for name, value in metrics.items()}

    def _update_value(self, batch: Batch, best: Tensor) -> dict[str, Tensor]:
        values = self.values(batch.observations)
        loss = expectile_error(best - values, self.expectile)
        self.value_optimiser.minimise(loss, self.active)
        return {"value_loss": loss, "value": values.mean(-1)}

    def _update_policy(self, batch: Batch, best: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            advantages = best - self.values(batch.observations)
        weights = exponential_weights(advantages, self.inverse_temperature, self.weight_clip)
        outputs = self.policy(batch.observations, training=True)
        loss = weighted_likelihood_loss(outputs, self.policy.extra(), batch.actions, weights)
        self.policy.optimiser.minimise(loss, self.active)
        return {"policy_loss": loss, "weight": weights.mean(-1)}

    def _update_critics(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            next_values = self.values(batch.next_observations)
        targets = td_targets(batch.rewards, batch.terminations, next_values, self.discount)
        q, features = self.critics.with_features(batch.observations, batch.actions)
        td = squared_error(q, targets)
        penalty = self.critic_penalty
        loss, of_plug_in = penalised(penalty, td, td, self.critics, batch, None, features)
        self.critics.optimiser.minimise(loss, self.active)
        return {"critic_loss": loss, "q_data": q.mean((0, -1)), **of_plug_in}

    def act(self, observations: Tensor) -> Tensor:
        """Returns the (P, B, act) means of the policy in (P, B, obs) observations."""
        return self.policy(observations).tanh()

    def update_online(self, batch: Batch, step: int, regulariser: float) -> dict[str, Tensor]:
        """Takes one step of fine-tuning: as in training, nothing in it is relaxed."""
        return self.update(batch)

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "critics": self.critics.state_dict(),
            "value": self.value,
            "value_optimiser": self.value_optimiser.state_dict(),
            "policy": self.policy.state_dict(),
            "active": self.active,
        }


METHOD = Method(
    name="iql",
    title="IQL",
    paper="Kostrikov et al., ICLR 2022",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=prepare,
    overrides=OVERRIDES,
)
