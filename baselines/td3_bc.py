"""TD3+BC: TD3 whose policy is also held to the dataset's actions.

Fujimoto and Gu, "A Minimalist Approach to Offline Reinforcement Learning", NeurIPS 2021, on TD3
(Fujimoto, van Hoof and Meger, "Addressing Function Approximation Error in Actor-Critic Methods",
ICML 2018; parts/td3.py):

    Q:  min_θ  Σ_i E_D[ (Q_i(s,a) - y)² ],   y = r + γ min_i Q̄_i(s', ã)      TD3, Algorithm 1
        ã = clip(π̄(s') + clip(ε, -c, c), -1, 1),   ε ~ N(0, σ²)                TD3, Eq. 14
    π:  min_φ  E_D[ -λ Q_1(s, π(s)) + (π(s) - a)² ],                          Eq. 5 (signs turned)
        λ = α / E_D[ |Q_1(s, π(s))| ]                                         Eq. 6, held fixed

The policy and all targets move with every ``policy_delay``-th update of the critics. The squared
distance is a mean over the dimensions of the action, and λ is made of |Q_1| at the policy's actions
where the paper writes the dataset's: both as in the authors' code. No deviations from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_preparation, check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured
from baselines.parts.guided import Guided, GuidedFit
from baselines.parts.networks import NORM_PLACES, NormPlace
from baselines.parts.penalties import CriticPenalty
from baselines.parts.policies import DeterministicActor
from baselines.parts.td3 import TD3, check_td3

Phase = Literal["critics", "critics and policy"]


@dataclass(frozen=True)
class Config:
    """Hyperparameters of TD3+BC (Table 3 of the paper)."""

    alpha: float = 2.5
    """α, weight of the value against the distance to the data, in numbers of mean |Q| (Eq. 6)."""
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
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of all networks; the same for all members."""
    critic_norm: NormPlace = "none"
    """Where the critics' hidden layers have layer normalisation; the same for all members."""
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
        check_td3(self)
        check_range(self, "alpha", 0.0)
        check_range(self, "learning_rate", 0.0, open_low=True)
        check_choice(self, "critic_norm", NORM_PLACES)


OVERRIDES = {"antmaze": {"reward_shift": -1.0}}
"""Rewards of 0 and 1 become -1 and 0, as all the papers have it that use TD3+BC there."""


def policy_loss(values: Tensor, policy_actions: Tensor, actions: Tensor, alpha: Tensor) -> Tensor:
    """Returns the (P,) loss of Eq. 5, ``mean_B [-λ Q_1(s, π(s))] + mean (π(s) - a)²``.

    Multiplying all values by a positive number does not change it.

    Args:
        values: (P, B) Q_1(s, π(s)).
        policy_actions: (P, B, act) π(s).
        actions: (P, B, act) dataset actions.
        alpha: (P,) α.
    """
    return guide_loss(values, alpha) + squared_distance(policy_actions, actions)


def guide_loss(values: Tensor, alpha: Tensor) -> Tensor:
    """Returns the (P,) ``mean_B [-λ Q_1(s, π(s))]``, λ = α / mean |Q_1|."""
    weight = alpha / values.detach().abs().mean(-1)
    return -weight * values.mean(-1)


def squared_distance(policy_actions: Tensor, actions: Tensor) -> Tensor:
    """Returns the (P,) ``mean (π(s) - a)²`` over states and dimensions."""
    return (policy_actions - actions).square().mean((-2, -1))


class Agent:
    """A population of policies with their twin critics.

    Args:
        configs: (P,) configs.
        data: The members' transitions.
        seeds: (P,) member seeds.
        critic_penalty: A plug-in's, added to the loss of the critics.
    """

    def __init__(
        self,
        configs: Sequence[Config],
        data: MemberData,
        seeds: Sequence[int],
        *,
        critic_penalty: CriticPenalty | None = None,
    ):
        learning_rate = per_member(configs, "learning_rate", data.device)
        self.td3 = TD3(
            configs,
            data,
            seeds,
            critic_rate=learning_rate,
            policy_rate=learning_rate,
            critic_norm=shared(configs, "critic_norm"),
            critic_penalty=critic_penalty,
        )
        self.critics, self.policy = self.td3.critics, self.td3.policy
        self.active = torch.ones(len(configs), dtype=torch.bool, device=data.device)
        self.alpha = per_member(configs, "alpha", data.device)

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

    def _update_policy(self, batch: Batch) -> dict[str, Tensor]:
        actions = self.td3.actions(batch.observations)
        values = self.td3.values(batch.observations, actions)
        loss = policy_loss(values, actions, batch.actions, self.alpha)
        self.policy.optimiser.minimise(loss, self.active)
        distance = squared_distance(actions, batch.actions)
        return {"policy_loss": loss, "q_policy": values.mean(-1), "distance": distance}

    def guided(self, batch: Batch) -> list[Guided]:
        """Returns the two terms of Eq. 5 apart; see parts/guided.py."""
        terms = GuidedFit(
            self.policy.optimiser,
            lambda theta: squared_distance(self.td3.actions_of(theta, batch), batch.actions),
            lambda theta: guide_loss(
                self.td3.values(batch.observations, self.td3.actions_of(theta, batch)), self.alpha
            ),
        )
        return [Guided("", tuple(range(len(self.active))), terms)]

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {**self.td3.state_dict(), "active": self.active}


METHOD = Method(
    name="td3_bc",
    title="TD3+BC",
    paper="Fujimoto and Gu, NeurIPS 2021",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
