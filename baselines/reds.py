"""CQL (ReDS) for continuous actions: CQL, constrained to the behaviour policy's support.

Singh, Kumar, Vuong, Chebotar and Levine, "ReDS: Offline RL With Heteroskedastic Datasets via
Support Constraints", NeurIPS 2023. CQL pushes Q down where the policy is and up where the data is,
good or bad. ReDS also pushes down a distribution ρ: the data reweighted towards the actions that Q
holds to be bad. Of the policy π and the behaviour policy β the two make π_re = ½ π + ½ β·g (Eq. 6).
Each update, in the order of Algorithm 1 and on one batch:

    A = min_j Q_j(s,a) - min_j Q_j(s,a_π),  a_π ~ π(·|s)
    g = exp(clip(-A/τ, -10, 5))                                               g of Eq. 6; Eq. 52
    ρ:  max_ψ  E_D[ g · log ρ_ψ(a|s) ]                                        Eq. 7
    Q:  min_θ  Σ_i { E_D[ (Q_i(s,a) - y)² ] + w · diff_i }                    Eq. 9
        diff_i = E_D[ ½ ( P_π + P_ρ ) - Q_i(s,a) ]                            Eq. 8
    π:  as in CQL

with P_π what CQL pushes down, log Σ_a exp Q_i(s,a) estimated with the same 3K actions, and the
policy π, its temperature, the targets y, w and the multiplier that holds diff at a gap as in
:mod:`baselines.cql`. The printed Eq. 9 leaves out α, which Eqs. 2 and 10 have; as CQL's Eq. 4 it
has a factor ½ at the TD error, which codes leave out: w is 2α.
The losses of π and of Q are both computed before either takes its step, as in CQL; ρ takes its
step first, and π's loss and A share their a_π.

What the paper proves is theory without code, but for Eq. 10, which :mod:`baselines.tabular` has:

    Q = B^π Q̄ - α (π + β·g - 2β) / (2β)                                       Lemma 4.1, Eq. 10
    max_π  Ĵ(π) - α / (2 (1-γ)) E_{s~d^π}[ D(π, β)(s)                         Lemma 4.2, Eq. 11
                                           + E_{a~π} g(τ·π(a|s)) 1{β(a|s) > 0} ]
    max_{α,τ} J(π_ReDS) ≥ max_α J(π_CQL)                                      Lemma 4.3, Eq. 12

``rho_term`` chooses P_ρ, with K actions a_k ~ ρ_ψ(·|s):

``lse``
    The paper's listing, corrected: log Σ_k exp Q_i(s,a_k) / ρ_ψ(a_k|s). With many samples it no
    longer depends on ρ but is log ∫ exp Q_i plus log K, as P_π is plus log 3K, and ReDS is CQL.
    Among the samples it pushes down those of high Q most.
``mean``
    Eq. 8 as printed, (1/K) Σ_k Q_i(s,a_k).
``data``
    g Q_i(s,a), without any ρ network: ρ = β·g as in Eq. 6, not normalised. Where w g is large the
    data's own actions are pushed down without a bound: this form wants a small w or a large τ.

Where ρ covers actions that the data does not have, as between two modes of the data, Q falls
without end, as in Eq. 10 where β = 0; under ``lse`` slower, for the lowest samples weigh least. In
the limit of a large τ, g = 1 and ρ = β, and ``mean`` and ``data`` are CQL with half its w (and half
its gap), which is how the paper proves Lemma 4.3 (Eqs. 49 to 51). A gap does not mean the same for
all: ``lse`` carries a constant ½ (log 3K + log K) in diff, the others ½ log 3K, CQL log 3K.

The paper's listing (D.2) has errors that are not kept:

- Values of uniform actions are less ½^d, the density of [-1, 1]^d, instead of its logarithm: with d
  dimensions each is too small by d log 2 + ½^d.
- The target critic is asked in s, not in s'.
- The losses of π and of ρ evaluate ``actions``, which does not exist: a_π is meant.
- The minimum over critics is taken of A's second term only, not of Q(s,a); here it is of both.
- A is averaged over the batch before g is taken, which leaves one weight for all transitions.
- A/τ is clipped and then negated, so that weights reach e^10; Eq. 52 clips -A/τ.
- P_π has no actions from π(·|s'); CQL has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines import cql
from baselines.engine.checks import check_choice, check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured
from baselines.engine.random import MemberRandom
from baselines.parts import gaussian
from baselines.parts.conservatism import Penalty, log_sum_exp
from baselines.parts.critics import squared_error
from baselines.parts.initialisation import orthogonal, uniform_fan_in
from baselines.parts.policies import DeterministicActor, GaussianActor, Policy
from baselines.parts.reweighting import bad_action_weights, support_difference, weight_metrics
from baselines.parts.soft_actor_critic import (
    Samples,
    SoftActorCritic,
    draw,
    policy_loss,
)

LARGEST_ACTION = 0.999
"""The data's actions are clipped to this where ρ is fitted. JaxCQL, which the paper builds on,
clips them so wherever they are used (``clip_action``, in its later versions; which one the paper
had is not stated). Of the AntMaze's actions a fifth are at their bounds; with 1 - 1e-6 those would
lie at ±7 before the tanh, and the Gaussian that covers them would have twice as many there."""
RHO_LOG_STD_RANGE = (-5.0, 2.0)
"""Bounds of ρ's log standard deviation. Where all actions are at a bound, likelihood has no
maximum; the policy's bound of -20 would leave their density without digits."""


@dataclass(frozen=True)
class Config(cql.Config):
    """Hyperparameters of CQL (ReDS): all of CQL's, K actions of ρ among them, and those of ρ.

    The paper leaves CQL's as they are (appendix F.1). Defaults are those for locomotion.
    """

    tau: float = 1.0
    """τ of g = exp(-A/τ), in units of scaled reward (Eq. 7). The paper states none for locomotion;
    1 is in the middle of the values that it tries in the AntMaze."""
    rho_term: Literal["lse", "mean", "data"] = "lse"
    """What stands for E_ρ[Q] in Eq. 8; the same for all members."""
    rho_rate: float = 3e-4
    """Adam's step size for ρ, which the paper does not state: that of actors in its Figure 10."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "tau", 0.0, open_low=True)
        check_choice(self, "rho_term", ("lse", "mean", "data"))
        check_range(self, "rho_rate", 0.0, open_low=True)


OVERRIDES = {
    **cql.OVERRIDES,
    # Figure 10, where it differs from CQL's settings, and appendix F.1 for τ. The appendix has
    # three layers for critics and policy, a gap of 1 and the policy's step size of 1e-4, the
    # figure four and two layers, 0.8 and 3e-4: sizes and gap are the figure's, the step size is
    # the appendix's, and CQL's here.
    "antmaze": {
        **cql.OVERRIDES["antmaze"],
        "critic_sizes": (256, 256, 256, 256),
        "tau": 0.3,
    },
}


def policy_advantages(q_data: Tensor, q_policy: Tensor) -> Tensor:
    """Returns (P, B) advantages ``A = min_j Q_j(s,a) - min_j Q_j(s,a_π)`` of (E, P, B) values."""
    return q_data.amin(0) - q_policy.amin(0)


def rho_loss(heads: tuple[Tensor, Tensor], actions: Tensor, weights: Tensor) -> Tensor:
    """Returns the (P,) loss of Eq. 7, ``-mean_B g log ρ(a|s)``.

    Args:
        heads: (P, B, act) mean and log standard deviation of ρ before squashing.
        actions: (P, B, act) dataset actions.
        weights: (P, B) g, without gradient.
    """
    within = actions.clamp(-LARGEST_ACTION, LARGEST_ACTION)
    return -(weights * gaussian.log_density(*heads, within)).mean(-1)


class Rho:
    """A population of reweighted behaviour policies ρ_ψ, tanh-Gaussians of the policy's shape."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        initialiser = orthogonal if shared(configs, "orthogonal") else uniform_fan_in
        sizes, rate = shared(configs, "policy_sizes"), per_member(configs, "rho_rate", data.device)
        self.network = Policy(
            data, seeds, sizes, rate, heads=2, initialiser=initialiser, stream="rho"
        )
        self.noise = MemberRandom(seeds, "rho samples", data.device)

    def heads(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the (P, B, act) mean and log standard deviation before squashing."""
        return gaussian.split_heads(self.network(observations), *RHO_LOG_STD_RANGE)

    def fit(self, batch: Batch, weights: Tensor, active: Tensor) -> Tensor:
        """Takes one gradient step on Eq. 7 with (P, B) weights; returns the (P,) loss before it."""
        loss = rho_loss(self.heads(batch.observations), batch.actions, weights)
        self.network.optimiser.minimise(loss, active)
        return loss

    @torch.no_grad()
    def draw(self, observations: Tensor, samples: int) -> Samples:
        """Returns this many actions in every state, without gradient."""
        heads = self.heads(observations)
        return draw(heads, self.noise.normal(samples, *heads[0].shape[1:]))

    def gaussian_actor(self, member: int) -> GaussianActor:
        """Returns a copy of one member's ρ on the CPU."""
        return self.network.gaussian_actor(member, RHO_LOG_STD_RANGE)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {**self.network.state_dict(), "noise": self.noise.state_dict()}


class Agent:
    """A population of policies with twin critics, each with the ρ that these are pushed down under.

    Attributes:
        rho: None if ``rho_term`` is ``data``.
    """

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        norm = shared(configs, "critic_norm")
        self.learner = SoftActorCritic(configs, data, seeds, critic_norm=norm)
        self.critics, self.active = self.learner.critics, self.learner.active
        self.penalty = Penalty(configs, data.device)
        self.tau = per_member(configs, "tau", data.device)
        self.rho_term: str = shared(configs, "rho_term")
        self.rho = Rho(configs, data, seeds) if self.rho_term != "data" else None

    def fit_rho(self, batch: Batch, weights: Tensor) -> tuple[list[Samples], dict[str, Tensor]]:
        """Takes a step on ρ; returns the actions that are pushed down under it, and metrics."""
        if self.rho is None:
            return [], {}
        loss = self.rho.fit(batch, weights, self.active)
        drawn = self.rho.draw(batch.observations, self.learner.samples)
        return [drawn], {"rho_loss": loss, "rho_entropy": -drawn.log_densities.mean((-1, -2))}

    def rho_values(self, q: Tensor, drawn: Sequence[Samples], weighted: Tensor) -> Tensor:
        """Returns the (E, P, B) P_ρ.

        Args:
            q: (E, P, B, K) values of the actions drawn from ρ.
            drawn: These actions, if there is a ρ.
            weighted: (E, P, B) g Q(s,a) of the dataset's actions.
        """
        if self.rho_term == "lse":
            return log_sum_exp(q, drawn[0].log_densities)
        return q.mean(-1) if self.rho_term == "mean" else weighted

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on ρ, then one on α, π, Q and α' each, then moves the targets."""
        draws, data = self.learner.draw(batch), batch.actions.unsqueeze(-2)
        log_density = draws.chosen.log_densities[..., 0]
        both = torch.cat([draws.chosen.actions, data], dim=-2)
        values = self.critics.of_policy(batch.observations, both, critics=2)
        q_policy, q_taken = values.unbind(-1)
        loss = policy_loss(q_policy, log_density, self.learner.alpha.value())

        advantages = policy_advantages(q_taken, q_policy).detach()
        weights = bad_action_weights(advantages, self.tau)
        drawn, metrics = self.fit_rho(batch, weights)

        actions = [data, *(each.actions for each in [*draws.proposals, *drawn])]
        q, K = self.critics(batch.observations, torch.cat(actions, dim=-2)), self.learner.samples
        q_data, q_proposals, q_rho = q[..., 0], q[..., 1 : 3 * K + 1], q[..., 3 * K + 1 :]
        densities = torch.cat([each.log_densities for each in draws.proposals], dim=-1)
        policy_term = log_sum_exp(q_proposals, densities)
        rho_term = self.rho_values(q_rho, drawn, weights * q_data)
        diff = self.penalty.mean(support_difference(policy_term, rho_term, q_data))
        td = squared_error(q_data, self.learner.targets(batch, draws.candidates))
        weight, critic_loss = self.penalty.weight(), td + self.penalty.loss(diff)

        entropy = -log_density.detach().mean(-1)
        self.learner.minimise(loss, critic_loss, entropy)
        self.penalty.ascend(diff, self.active)
        metrics |= weight_metrics(advantages, self.tau, weights) | {
            "loss": critic_loss,
            "td_loss": td,
            "difference": diff.mean(0),
            "penalty_weight": weight,
            "policy_loss": loss,
            "entropy": entropy,
            "alpha": self.learner.alpha.value(),
            "q_data": q_data.mean((0, -1)),
            "q_policy": q_policy.mean((0, -1)),
            "q_random": q[..., 1 : K + 1].mean((0, -2, -1)),
        }
        if drawn:
            metrics["q_rho"] = q_rho.mean((0, -2, -1))
        return {name: value.detach() for name, value in metrics.items()}

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU, at its mode before squashing."""
        return self.learner.actor(member)

    def gaussian_actor(self, member: int) -> GaussianActor:
        """Returns a copy of one member's policy on the CPU that samples."""
        return self.learner.gaussian_actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        rho = {"rho": self.rho.state_dict()} if self.rho is not None else {}
        return {**self.learner.state_dict(), **self.penalty.state_dict(), **rho}


METHOD = Method(
    name="reds",
    title="CQL (ReDS)",
    paper="Singh et al., NeurIPS 2023",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
