"""Coverage-aware reference policy (CAR): SPOT whose reference takes over what is well supported.

"Decoupling Policy Improvement and Conservatism in Offline Reinforcement Learning" (under review;
no authors named), on SPOT (:mod:`baselines.spot`). The policy proposes actions; a frozen model of
the behaviour policy verifies that they are in support; those that are augment the data that a
second model, the mixed reference policy, is fitted to, and this one regularises the policy:

    π_mix,t = τ_t π̂_t + (1 - τ_t) π_mix,t-1,   π_mix,0 = π_β                        Eq. 6
    π̂_t ∝ π_t 1[π_β ≥ ε],   τ_t(s) = Z_t(s) = Σ_a π_t(a|s) 1[π_β(a|s) ≥ ε]    Eqs. 5, 7

Eq. 4 is Eq. 6 with π_β for π_mix,t-1, to which a rejected proposal falls back. On tables this is
``coverage_aware_mixture`` (tabular.py), whose tests check Theorem 1 (Eq. 8), π_mix,t ≤ π_β / ε, and
Corollary 1 (Eq. 17), KL(π_mix,t ‖ π_β) ≤ -log ε. Theorem 2 (Eq. 9) and Corollary 2 (Eq. 18), on
returns and on visits of states, are theory without code. π_mix is the reference of Eq. 3,
max_π E[Q] - λ KL(π ‖ π_ref); Eqs. 1 and 2 are the values of any actor-critic method. Eqs. 13 to 16
and 19 are steps of proofs.

In practice (Section 4.4, Algorithm 1), with energies E ~ -log π (parts/vae.py, parts/density.py):

    β, mix:  min_ψ  E[ E_ψ(s,a) ],   over D for β, over D ∪ D' for mix              Eq. 10
    π:       min_φ  E_D[ -Q_1(s, π(s)) / E_D[|Q_1(s, π(s))|] + λ E_mix(s, π(s)) ]   Eq. 11
    Q:       min_θ  Σ_i E_D[ (Q_i(s,a) - y)² ]   as in TD3 (parts/td3.py)           Eq. 12
    D':      add (s, â) if E_β(s, â) ≤ ε_ood,   â = π(s)                            line 12

Warm-up: β, critics and policy are trained together, with E_β in place of E_mix. Then β is frozen
and mix starts from it. The critics' targets take π's actions, not mix's (Section 5.4).

What the paper leaves open:

- D' grows and mix moves where the policy does, as both use the same forward pass (dropped units
  included; appendix B.3): of the two readings the one nearer to the stated cost of 8%.
  ``propose_always`` has every update propose.
- The verifier takes one sample of the latent variable; ``verify_at_mean`` takes its mean.
- ε_ood is given as a range, [0.02, 0.8]. It may be stated, or follow from the data: the
  ``threshold_quantile`` of the energies of the dataset's own actions when β is frozen.
- Table 2's step size of "the VAE" is taken to be that of mix; β, which starts from nothing, has
  SPOT's.
- The mean of |Q_1| and the numbers λ are SPOT's, whose implementation the paper builds on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from baselines import spot
from baselines.engine.checks import check_choice, check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import opening_steps, per_member, shared
from baselines.engine.method import Actor, Method
from baselines.engine.preparation import as_configured
from baselines.engine.random import MemberRandom
from baselines.parts.accepted_pairs import AcceptedPairs
from baselines.parts.density import Density, TanhGaussian
from baselines.parts.guided import Guided
from baselines.parts.policies import DeterministicActor
from baselines.parts.quantiles import quantile
from baselines.parts.td3 import TD3, check_td3
from baselines.parts.vae import VAE

DENSITIES = {"vae": VAE, "gaussian": TanhGaussian}

THRESHOLD_ROWS = 4096
"""Transitions whose energies a threshold is made of that follows from the data."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of CAR (Table 2 of the paper). Defaults are those for locomotion."""

    density_weight: float = 0.1
    """λ, weight of the energy of the policy's actions, in numbers of mean |Q|."""
    threshold: float | None = None
    """ε_ood, largest energy of an action that is in support. A negative one accepts nothing, as a
    VAE's energies are positive; None: see threshold_quantile."""
    threshold_quantile: float = 0.9
    """Without a threshold: the share of the dataset's own actions that would be accepted."""
    warmup_steps: int | None = None
    """T_1, updates of the joint warm-up; the same for all members. By default a tenth of the run:
    the paper's 100,000 if it has a million."""
    ring_factor: float = 5.0
    """|D'| / |D|, largest number of accepted pairs; the oldest are forgotten."""
    behaviour_rate: float = 1e-3
    """Adam's step size for β's model."""
    mix_rate: float = 5e-6
    """Adam's step size for mix's model; 0 leaves it as β."""
    density: Literal["vae", "gaussian"] = "vae"
    """Model of both densities; the same for all members."""
    density_sizes: tuple[int, ...] = (750, 750)
    """Width of each hidden layer of a density's networks; the same for all members."""
    propose_always: bool = False
    """Propose in every update, not only where the policy moves; the same for all members."""
    verify_at_mean: bool = False
    """Verify at the mean of the latent variable; the same for all members."""
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
    critic_rate: float = 1e-3
    """Adam's step size for the critics."""
    policy_rate: float = 1e-3
    """Adam's step size for the policy."""
    batch_size: int = 256
    """Transitions per gradient step; the same for all members."""
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
        if self.threshold is not None:
            check_range(self, "threshold")
        check_range(self, "threshold_quantile", 0.0, 1.0)
        if self.warmup_steps is not None:
            check_range(self, "warmup_steps", 1, whole=True)
        check_range(self, "ring_factor", 0.0, open_low=True)
        check_range(self, "behaviour_rate", 0.0, open_low=True)
        check_range(self, "mix_rate", 0.0)
        check_choice(self, "density", tuple(DENSITIES))
        check_choice(self, "propose_always", (False, True))
        check_choice(self, "verify_at_mean", (False, True))
        check_range(self, "dropout", 0.0, 0.99)
        check_choice(self, "small_outputs", (False, True))
        check_range(self, "critic_rate", 0.0, open_low=True)
        check_range(self, "policy_rate", 0.0, open_low=True)


OVERRIDES = {
    **spot.OVERRIDES,
    "antmaze": {**spot.OVERRIDES["antmaze"], "policy_rate": Config.policy_rate},
}
"""SPOT's, with the step size of Table 2: CAR's own λ, in [0.05, 38], are not published."""


class Phase(NamedTuple):
    """What an update consists of, besides the critics."""

    warm_up: bool  # fit β
    start: bool  # freeze β and let mix start from it
    policy: bool  # move policy and targets
    propose: bool  # propose, verify and fit mix

    def __str__(self) -> str:
        parts = {"β": self.warm_up, "threshold": self.start, "critics": True}
        parts |= {"policy": self.policy, "mix": self.propose}
        return ", ".join(name for name, moves in parts.items() if moves)


def in_support(energies: Tensor, threshold: Tensor) -> Tensor:
    """Returns (P, B) whether actions with these energies under β are accepted, ``E_β ≤ ε_ood``."""
    return energies <= threshold.unsqueeze(-1)


class Agent:
    """A population of policies with their twin critics and the models of β and mix."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        self.warmup_steps = opening_steps(configs, "warmup_steps", data.steps)
        density, sizes = DENSITIES[shared(configs, "density")], shared(configs, "density_sizes")
        self.behaviour = density(data, seeds, sizes, per_member(configs, "behaviour_rate", device))
        self.mix = density(data, seeds, sizes, per_member(configs, "mix_rate", device))
        self.td3 = TD3(
            configs,
            data,
            seeds,
            critic_rate=per_member(configs, "critic_rate", device),
            policy_rate=per_member(configs, "policy_rate", device),
            dropout=shared(configs, "dropout"),
            small_outputs=shared(configs, "small_outputs"),
        )
        capacities = [
            round(config.ring_factor * size)
            for config, size in zip(configs, data.sizes.tolist(), strict=True)
        ]
        self.accepted = AcceptedPairs(data, capacities, shared(configs, "batch_size"))
        uses = ("data", "policy", "verifier", "threshold", "mix")
        self.latents = {use: MemberRandom(seeds, f"latents of {use}", device) for use in uses}
        self.union = MemberRandom(seeds, "union", device)
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)

        thresholds = [config.threshold for config in configs]
        self.threshold_follows = torch.tensor([each is None for each in thresholds], device=device)
        self.threshold = torch.tensor(
            [-math.inf if each is None else float(each) for each in thresholds], device=device
        )
        self.threshold_quantile = per_member(configs, "threshold_quantile", device)
        self.density_weight = per_member(configs, "density_weight", device)
        self.propose_always: bool = shared(configs, "propose_always")
        self.verify_at_mean: bool = shared(configs, "verify_at_mean")
        self._data = data

    def phase(self, step: int) -> Phase:
        """Returns what update number ``step`` (0, 1, ...) consists of."""
        warm_up, policy = step < self.warmup_steps, self.td3.moves_policy(step + 1)
        return Phase(
            warm_up=warm_up,
            start=step == self.warmup_steps,
            policy=policy,
            propose=not warm_up and (policy or self.propose_always),
        )

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Takes the gradient steps of one iteration of Algorithm 1."""
        metrics = {}
        if phase.warm_up:
            metrics |= self._fit_behaviour(batch)
        if phase.start:
            self._start()
        reference = self.behaviour if phase.warm_up else self.mix
        actions, of_td3 = self._update_td3(batch, phase.policy, reference, self.density_weight)
        metrics |= of_td3
        if phase.propose:
            metrics |= self._propose(batch, actions)
            metrics |= self._fit_mix(batch.actions.shape[1])
        return {name: value.detach() for name, value in metrics.items()}

    def act(self, observations: Tensor) -> Tensor:
        """Returns the (P, B, act) actions π(s), as evaluated."""
        return self.td3.policy(observations).tanh()

    def update_online(self, batch: Batch, step: int, regulariser: float) -> dict[str, Tensor]:
        """Takes one step of fine-tuning, in which β, mix and D' stay as they are (Section 5.5)."""
        weight = regulariser * self.density_weight
        _, metrics = self._update_td3(batch, self.td3.moves_policy(step + 1), self.mix, weight)
        return {name: value.detach() for name, value in metrics.items()}

    def _fit_behaviour(self, batch: Batch) -> dict[str, Tensor]:
        """Takes a step on β with data (Eq. 10)."""
        noise = self.latents["data"].normal(batch.actions.shape[1], self.behaviour.noise_size)
        energy = self.behaviour.fit(batch.observations, batch.actions, noise, self.active)
        return {"energy_data": energy}

    @torch.no_grad()
    def _start(self) -> None:
        """Lets mix start from β and sets the thresholds that follow from the data."""
        self.mix.become(self.behaviour)
        random = self.latents["threshold"]
        sample = self._data.sample(random, THRESHOLD_ROWS)
        energies = self.verify(sample.observations, sample.actions, random)
        threshold = quantile(energies, self.threshold_quantile)
        self.threshold.copy_(torch.where(self.threshold_follows, threshold, self.threshold))

    def _update_td3(
        self, batch: Batch, policy: bool, reference: Density, weight: Tensor
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Takes a step on Q (Eq. 12) and in turn on π (Eq. 11).

        Returns:
            (P, B, act) π(s) before its step, None where there was none, and metrics.
        """
        metrics, actions = self.td3.improve_critics(batch, self.active), None
        if policy:
            actions, of_policy = spot.improve_policy(
                self.td3, reference, batch, self.latents["policy"], weight, self.active
            )
            self.td3.track(self.active)
            metrics |= of_policy
        return actions, metrics

    @torch.no_grad()
    def verify(self, observations: Tensor, actions: Tensor, random: MemberRandom) -> Tensor:
        """Returns the (P, B) energies E_β(s, a) that are compared with the threshold.

        Args:
            observations: (P, B, obs).
            actions: (P, B, act).
            random: The members' stream of latent variables.
        """
        noise = random.normal(actions.shape[1], self.behaviour.noise_size)
        if self.verify_at_mean:
            noise.zero_()
        return self.behaviour.of_policy(observations, actions, noise)

    @torch.no_grad()
    def _propose(self, batch: Batch, actions: Tensor | None) -> dict[str, Tensor]:
        """Adds those of the policy's actions to D' that are in support (lines 10 to 12).

        Args:
            batch: Gives the states.
            actions: (P, B, act) what the policy's own update took, if it took any.
        """
        if actions is None:
            actions = self.td3.actions(batch.observations)
        energies = self.verify(batch.observations, actions, self.latents["verifier"])
        accepted = in_support(energies, self.threshold) & self.active.unsqueeze(-1)
        self.accepted.append(batch.row, actions, accepted)
        return {
            "acceptance": accepted.float().mean(-1),
            "ring": self.accepted.sizes / self.accepted.capacities,
            "energy_behaviour": energies.mean(-1),
            "energy_behaviour_95": quantile(energies, 0.95),
            "energy_behaviour_max": energies.amax(-1),
        }

    def _fit_mix(self, batch_size: int) -> dict[str, Tensor]:
        """Takes a step on mix with D ∪ D' (Eq. 10, line 13)."""
        pairs = self.accepted.sample_union(self.union, batch_size)
        noise = self.latents["mix"].normal(batch_size, self.mix.noise_size)
        energy = self.mix.fit(pairs.observations, pairs.actions, noise, self.active)
        return {"energy_union": energy, "from_ring": pairs.from_ring.float().mean(-1)}

    def guided(self, batch: Batch) -> list[Guided]:
        """Returns the two terms of Eq. 11 apart; see parts/guided.py."""
        latents = self.latents["policy"]
        return spot.guided(self.td3, self.mix, batch, latents, self.density_weight)

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.td3.policy.deterministic_actor(member)

    def reference_actors(self, member: int) -> dict[str, Actor]:
        """Returns copies of one member's β and mix on the CPU, as policies (Table 3)."""
        return {"behaviour": self.behaviour.actor(member), "mix": self.mix.actor(member)}

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "behaviour": self.behaviour.state_dict(),
            "mix": self.mix.state_dict(),
            **self.td3.state_dict(),
            "accepted": self.accepted.state_dict(),
            "threshold": self.threshold,
            "latents": {use: random.state_dict() for use, random in self.latents.items()},
            "union": self.union.state_dict(),
            "active": self.active,
        }


METHOD = Method(
    name="car",
    title="CAR",
    paper="Anonymous, under review",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
    online_overrides=spot.ONLINE_OVERRIDES,
)
