"""SPOT: TD3 whose policy stays where the density of the behaviour policy is high.

Wu, Wu, Qiu, Wang and Long, "Supported Policy Optimization for Offline Reinforcement Learning",
NeurIPS 2022, on TD3 (Fujimoto, van Hoof and Meger, "Addressing Function Approximation Error in
Actor-Critic Methods", ICML 2018). First a conditional VAE is fitted to the dataset's actions; then
it is held fixed, and its bound of the density regularises the policy:

    VAE:  min_ψ  E_D[ E_ψ(s,a) ],   E_ψ ~ -log π_β(a|s)  (parts/vae.py)        density estimator
    Q:    min_θ  Σ_i E_D[ (Q_i(s,a) - y)² ],  y = r + γ min_i Q̄_i(s', ã)       TD3, Algorithm 1
          ã = clip(π̄(s') + clip(ε, -c, c), -1, 1),   ε ~ N(0, σ²)               TD3, Eq. 14
    π:    min_φ  E_D[ -Q_1(s, π(s)) / E_D[|Q_1(s, π(s))|] + λ E_ψ(s, π(s)) ]    density regulariser

The mean of |Q_1| is held fixed. The policy and all targets move with every ``policy_delay``-th
update of the critics. The energy E takes one sample of the latent variable, in units in which the
authors' λ are stated. Where hidden units of the policy are dropped, those of its target are, too,
as in the authors' code. The VAE is fitted in the same run, by its first ``density_steps`` updates;
the authors count them on top of those of the policy. No other deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import opening_steps, per_member, shared
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured
from baselines.engine.random import MemberRandom
from baselines.parts.density import Density
from baselines.parts.guided import Guided, GuidedFit, guide_loss
from baselines.parts.policies import DeterministicActor
from baselines.parts.quantiles import quantile
from baselines.parts.td3 import TD3, check_td3
from baselines.parts.vae import VAE

Phase = Literal["density", "critics", "critics and policy"]


@dataclass(frozen=True)
class Config:
    """Hyperparameters of SPOT. Defaults are those for locomotion."""

    density_weight: float = 0.1
    """λ, weight of the energy of the policy's actions, in numbers of mean |Q|."""
    density_steps: int | None = None
    """Updates of the VAE, at the beginning of the run; the same for all members. By default a tenth
    of the run: the authors' 100,000 if it has a million."""
    density_rate: float = 1e-3
    """Adam's step size for the VAE."""
    density_sizes: tuple[int, ...] = (750, 750)
    """Width of each hidden layer of encoder and decoder; the same for all members."""
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
    """Width of each hidden layer of policy and critics; the same for all members."""
    dropout: float = 0.1
    """Probability with which a hidden unit of the policy is dropped; the same for all members."""
    small_outputs: bool = False
    """Start from nearly zero actions and values; the same for all members."""
    critic_rate: float = 3e-4
    """Adam's step size for the critics."""
    policy_rate: float = 3e-4
    """Adam's step size for the policy."""
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
        check_sizes(self, "density_sizes")
        check_range(self, "density_weight", 0.0)
        if self.density_steps is not None:
            check_range(self, "density_steps", 1, whole=True)
        check_range(self, "density_rate", 0.0, open_low=True)
        check_range(self, "dropout", 0.0, 0.99)
        check_choice(self, "small_outputs", (False, True))
        check_range(self, "critic_rate", 0.0, open_low=True)
        check_range(self, "policy_rate", 0.0, open_low=True)


ONLINE_OVERRIDES = {"antmaze-large*": {"discount": 0.995}}
"""As the authors' code has it when it goes on in the environment."""
OVERRIDES = {
    "halfcheetah-*": {"density_weight": 0.05},
    "halfcheetah-*expert*": {"density_weight": 1.0},
    "hopper-*expert*": {"density_weight": 0.2},
    "walker2d-*": {"density_weight": 0.2},
    "walker2d-*expert*": {"density_weight": 0.5},
    "antmaze": {
        "density_weight": 0.025,
        "dropout": 0.0,
        "small_outputs": True,
        "policy_rate": 1e-4,
        "normalise_observations": False,
        "reward_shift": -1.0,
    },
    "antmaze-umaze*": {"density_weight": 0.25},
    "antmaze-medium-play*": {"density_weight": 0.05},
    "adroit": {"density_weight": 1.0},
}
"""The authors' settings for D4RL, by what this suite's names share with them. They state none for
data of experts alone, which has medium-expert's, nor for Adroit, which has their code's default.
This suite's own ant mazes have the settings of D4RL's diverse data of their size."""


def policy_loss(values: Tensor, energies: Tensor, weight: Tensor) -> Tensor:
    """Returns the (P,) loss ``mean_B [-Q_1(s, π(s)) / mean|Q_1| + λ E(s, π(s))]``.

    Multiplying all values by a positive number does not change it.

    Args:
        values: (P, B) Q_1(s, π(s)).
        energies: (P, B) E(s, π(s)).
        weight: (P,) λ.
    """
    return guide_loss(values) + weight * energies.mean(-1)


def guided(
    td3: TD3, density: Density, batch: Batch, latents: MemberRandom, weight: Tensor
) -> list[Guided]:
    """Returns the two terms of the policies' loss apart; arguments as of :func:`improve_policy`."""
    noise = latents.normal(batch.actions.shape[1], density.noise_size)

    def fit(theta: Tensor) -> Tensor:
        actions = td3.actions_of(theta, batch)
        return weight * density.of_policy(batch.observations, actions, noise).mean(-1)

    def guide(theta: Tensor) -> Tensor:
        return guide_loss(td3.values(batch.observations, td3.actions_of(theta, batch)))

    terms = GuidedFit(td3.policy.optimiser, fit, guide)
    return [Guided("", tuple(range(len(weight))), terms)]


def improve_policy(
    td3: TD3,
    density: Density,
    batch: Batch,
    latents: MemberRandom,
    weight: Tensor,
    active: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Takes one gradient step on the policy.

    Args:
        td3: Gives Q_1 and π.
        density: Gives E.
        batch: Gives the states.
        latents: Gives the noise of the energies.
        weight: (P,) λ.
        active: (P,) bool, changed in place: a member that is no longer finite is switched off.

    Returns:
        (P, B, act) the actions π(s) before the step, and metrics, (P,) each.
    """
    actions = td3.actions(batch.observations)
    values = td3.values(batch.observations, actions)
    noise = latents.normal(actions.shape[1], density.noise_size)
    energies = density.of_policy(batch.observations, actions, noise)
    loss = policy_loss(values, energies, weight)
    td3.policy.optimiser.minimise(loss, active)
    return actions.detach(), {
        "policy_loss": loss,
        "q_policy": values.mean(-1),
        "energy_policy": energies.mean(-1),
        "energy_policy_95": quantile(energies, 0.95),
        "energy_policy_max": energies.amax(-1),
    }


class Agent:
    """A population of policies with their twin critics and models of the behaviour's density."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        self.density = VAE(
            data,
            seeds,
            shared(configs, "density_sizes"),
            per_member(configs, "density_rate", device),
        )
        self.td3 = TD3(
            configs,
            data,
            seeds,
            critic_rate=per_member(configs, "critic_rate", device),
            policy_rate=per_member(configs, "policy_rate", device),
            dropout=shared(configs, "dropout"),
            small_outputs=shared(configs, "small_outputs"),
        )
        self.data_latents = MemberRandom(seeds, "latents of data", device)
        self.policy_latents = MemberRandom(seeds, "latents of policy", device)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        self.density_steps = opening_steps(configs, "density_steps", data.steps)
        self.density_weight = per_member(configs, "density_weight", device)

    def phase(self, step: int) -> Phase:
        """Returns what moves in update number ``step`` (0, 1, ...)."""
        updates = step + 1 - self.density_steps
        if updates <= 0:
            return "density"
        return "critics and policy" if self.td3.moves_policy(updates) else "critics"

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Takes one gradient step on the density, or on the critics and in turn the policy."""
        if phase == "density":
            return self._update_density(batch)
        return self._update_td3(batch, phase == "critics and policy", self.density_weight)

    def act(self, observations: Tensor) -> Tensor:
        """Returns the (P, B, act) actions π(s), as evaluated."""
        return self.td3.policy(observations).tanh()

    def update_online(self, batch: Batch, step: int, regulariser: float) -> dict[str, Tensor]:
        """Takes one step of fine-tuning, in which the density stays as it is."""
        weight = regulariser * self.density_weight
        return self._update_td3(batch, self.td3.moves_policy(step + 1), weight)

    def _update_td3(self, batch: Batch, policy: bool, weight: Tensor) -> dict[str, Tensor]:
        metrics = self.td3.improve_critics(batch, self.active)
        if policy:
            metrics |= improve_policy(
                self.td3, self.density, batch, self.policy_latents, weight, self.active
            )[1]
            self.td3.track(self.active)
        return {name: value.detach() for name, value in metrics.items()}

    def _update_density(self, batch: Batch) -> dict[str, Tensor]:
        noise = self.data_latents.normal(batch.actions.shape[1], self.density.noise_size)
        loss = self.density.fit(batch.observations, batch.actions, noise, self.active)
        return {"loss": loss, "energy_data": loss}

    def guided(self, batch: Batch) -> list[Guided]:
        """Returns the two terms of the policies' loss apart; see parts/guided.py."""
        return guided(self.td3, self.density, batch, self.policy_latents, self.density_weight)

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.td3.policy.deterministic_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "density": self.density.state_dict(),
            **self.td3.state_dict(),
            "data_latents": self.data_latents.state_dict(),
            "policy_latents": self.policy_latents.state_dict(),
            "active": self.active,
        }


METHOD = Method(
    name="spot",
    title="SPOT",
    paper="Wu et al., NeurIPS 2022",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
    online_overrides=ONLINE_OVERRIDES,
)
