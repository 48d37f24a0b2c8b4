"""Revisited behaviour-regularised actor-critic (ReBRAC).

Tarasov, Kurenkov, Nikulin and Kolesnikov, "Revisiting the Minimalist Approach to Offline
Reinforcement Learning", NeurIPS 2023. TD3+BC (:mod:`baselines.td3_bc`) whose critics are held to
the dataset's actions, too, with a weight of their own, and whose networks are deeper, with layer
normalisation in the critics:

    Q:  min_θ  Σ_i E_D[ (Q_i(s,a) - y)² ],
        y = r + γ [ min_i Q̄_i(s',ã) - β₂ ‖ã - a'‖² ]
        ã = clip(π̄(s') + clip(ε, -c, c), -1, 1),   ε ~ N(0, σ²)
    π:  min_φ  E_D[ β₁ ‖π(s) - a‖² - λ min_i Q_i(s, π(s)) ],
        λ = 1 / E_D[ |min_i Q_i(s, π(s))| ], held fixed

a' is the dataset's action in s'. Squared distances are sums over the dimensions of the action. The
policy and all targets move with every ``policy_delay``-th update of the critics. The penalty inside
the discount, the minima, normalisation after the ReLU and initial parameters are as in the authors'
code. One difference: where a trajectory is cut off there is no a' and no penalty, while that code
drops the transition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.engine.checks import check_preparation, check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured
from baselines.parts.guided import Guided, GuidedFit, guide_loss
from baselines.parts.policies import DeterministicActor
from baselines.parts.td3 import TD3, check_td3

Phase = Literal["critics", "critics and policy"]

HIDDEN_BIAS = 0.1
"""All biases but those of the last layers at first, as in the authors' code."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of ReBRAC. Defaults are those for locomotion."""

    policy_penalty: float = 0.01
    """β₁, weight of the policy's squared distance to the data."""
    critic_penalty: float = 0.01
    """β₂, weight of the target action's squared distance to the data, in units of value."""
    discount: float = 0.99
    """γ."""
    target_rate: float = 0.005
    """Fraction by which targets move."""
    policy_noise: float = 0.2
    """σ of the noise on target actions, in units of action."""
    noise_clip: float = 0.5
    """c, the largest such noise."""
    policy_delay: int = 2
    """Updates of the critics per update of the policy and the targets; the same for all members."""
    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of all networks; the same for all members."""
    policy_rate: float = 1e-3
    """Adam's step size for the policy."""
    critic_rate: float = 1e-3
    """Adam's step size for the critics."""
    batch_size: int = 1024
    """Transitions per gradient step."""
    normalise_observations: bool = False
    """Subtract the dataset's mean from observations and divide by its standard deviation."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this,"""
    reward_shift: float = 0.0
    """and then this is added."""

    def __post_init__(self) -> None:
        check_preparation(self)
        check_td3(self)
        check_range(self, "policy_penalty", 0.0)
        check_range(self, "critic_penalty", 0.0)
        check_range(self, "policy_rate", 0.0, open_low=True)
        check_range(self, "critic_rate", 0.0, open_low=True)


def _penalties(policy: float, critic: float) -> dict[str, float]:
    return {"policy_penalty": policy, "critic_penalty": critic}


OVERRIDES = {
    "halfcheetah-random*": _penalties(0.001, 0.1),
    "halfcheetah-medium*": _penalties(0.001, 0.01),
    "halfcheetah-medium-replay*": _penalties(0.01, 0.001),
    "halfcheetah-medium-expert*": _penalties(0.01, 0.1),
    "halfcheetah-expert*": _penalties(0.01, 0.01),
    "halfcheetah-full-replay*": _penalties(0.001, 0.1),
    "hopper-random*": _penalties(0.001, 0.01),
    "hopper-medium*": _penalties(0.01, 0.01),
    "hopper-medium-replay*": _penalties(0.05, 0.5),
    "hopper-medium-expert*": _penalties(0.1, 0.01),
    "hopper-expert*": _penalties(0.1, 0.1),
    "hopper-full-replay*": _penalties(0.01, 0.01),
    "walker2d-random*": _penalties(0.01, 0.0),
    "walker2d-medium*": _penalties(0.05, 0.1),
    "walker2d-medium-replay*": _penalties(0.05, 0.01),
    "walker2d-medium-expert*": _penalties(0.01, 0.01),
    "walker2d-expert*": _penalties(0.01, 0.5),
    "walker2d-full-replay*": _penalties(0.01, 0.01),
    "antmaze": {
        "batch_size": 256,
        "policy_rate": 3e-4,
        "critic_rate": 5e-5,
        "discount": 0.999,
        "reward_scale": 100.0,
        **_penalties(0.002, 0.001),
    },
    "antmaze-umaze*": _penalties(0.003, 0.002),
    "antmaze-umaze-diverse*": _penalties(0.003, 0.001),
    "antmaze-medium*": _penalties(0.001, 0.0005),
    "antmaze-medium-diverse*": _penalties(0.001, 0.0),
    "antmaze-large-diverse*": _penalties(0.002, 0.002),
    "adroit": {"batch_size": 256, "policy_rate": 3e-4, "critic_rate": 3e-4},
    "pen-human*": _penalties(0.1, 0.5),
    "pen-cloned*": _penalties(0.05, 0.5),
    "pen-expert*": _penalties(0.01, 0.01),
}
"""β₁ and β₂ that the authors tuned for each of D4RL's datasets, for datasets made after these, too.
The paper has no Ant: the defaults. Mazes without variants of their own have those of ``play``, and
mazes of other sizes those of ``large-play``."""


def squared_distance(actions: Tensor, data_actions: Tensor) -> Tensor:
    """Returns the (P, B) squared distances of (P, B, act) actions."""
    return (actions - data_actions).square().sum(-1)


def policy_loss(values: Tensor, distances: Tensor, penalty: Tensor) -> Tensor:
    """Returns the (P,) loss ``mean_B [β₁ ‖π(s) - a‖² - λ Q(s, π(s))]``.

    Multiplying all values by a positive number does not change it.

    Args:
        values: (P, B) min_i Q_i(s, π(s)).
        distances: (P, B) ‖π(s) - a‖².
        penalty: (P,) β₁.
    """
    return penalty * distances.mean(-1) + guide_loss(values)


class Agent:
    """A population of policies with their twin critics."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        self.td3 = TD3(
            configs,
            data,
            seeds,
            critic_rate=per_member(configs, "critic_rate", device),
            policy_rate=per_member(configs, "policy_rate", device),
            small_outputs=True,
            hidden_bias=HIDDEN_BIAS,
            critic_norm="after",
            next_penalty=self._next_penalty,
        )
        self.critics, self.policy = self.td3.critics, self.td3.policy
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)
        self.policy_penalty = per_member(configs, "policy_penalty", device)
        self.critic_penalty = per_member(configs, "critic_penalty", device)

    def phase(self, step: int) -> Phase:
        """Returns whether the policy moves in update number ``step`` (0, 1, ...), too."""
        return "critics and policy" if self.td3.moves_policy(step + 1) else "critics"

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Takes one gradient step on the critics, and if it is its turn one on the policy."""
        metrics = self.td3.improve_critics(batch, self.active)
        if phase == "critics and policy":
            metrics |= self._update_policy(batch)
            self.td3.track(self.active)
        return {name: value.detach() for name, value in metrics.items()}

    def _next_penalty(self, batch: Batch, next_actions: Tensor) -> Tensor:
        """Returns the (P, B) β₂ ‖ã - a'‖², and nothing where there is no a'."""
        distances = squared_distance(next_actions, batch.next_actions) * batch.has_next
        return self.critic_penalty[:, None] * distances

    def _values(self, batch: Batch, actions: Tensor) -> Tensor:
        """Returns the (P, B) min_i Q_i(s, a), with a gradient to the actions alone."""
        return self.critics.of_policy(batch.observations, actions, critics=2).amin(0)

    def guided(self, batch: Batch) -> list[Guided]:
        """Returns the two terms of the policies' loss apart; see parts/guided.py."""

        def fit(theta: Tensor) -> Tensor:
            actions = self.td3.actions_of(theta, batch)
            return self.policy_penalty * squared_distance(actions, batch.actions).mean(-1)

        def guide(theta: Tensor) -> Tensor:
            return guide_loss(self._values(batch, self.td3.actions_of(theta, batch)))

        terms = GuidedFit(self.policy.optimiser, fit, guide)
        return [Guided("", tuple(range(len(self.active))), terms)]

    def _update_policy(self, batch: Batch) -> dict[str, Tensor]:
        actions = self.td3.actions(batch.observations)
        values = self._values(batch, actions)
        distances = squared_distance(actions, batch.actions)
        loss = policy_loss(values, distances, self.policy_penalty)
        self.policy.optimiser.minimise(loss, self.active)
        return {
            "policy_loss": loss,
            "q_policy": values.mean(-1),
            "distance": distances.mean(-1),
        }

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {**self.td3.state_dict(), "active": self.active}


METHOD = Method(
    name="rebrac",
    title="ReBRAC",
    paper="Tarasov et al., NeurIPS 2023",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
