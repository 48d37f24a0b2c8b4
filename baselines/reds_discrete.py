"""CQL (ReDS) for discrete actions: CQL, constrained to the behaviour policy's support.

Singh, Kumar, Vuong, Chebotar and Levine, "ReDS: Offline RL With Heteroskedastic Datasets via
Support Constraints", NeurIPS 2023. CQL pushes Q down where the policy is and up where the data is,
good or bad. ReDS also pushes down a distribution ρ: the data reweighted towards the actions that Q
holds to be bad. Each update, in the order of Algorithm 1 and on one batch:

    A = Q_θ(s,a) - E_{a'~π}[Q_θ(s,a')],   g = exp(clip(-A/τ, -10, 5))       g of Eq. 6; Eq. 52
    ρ:  max_ψ  E_D[ g · log ρ_ψ(a|s) ]                                      Eq. 7
    Q:  min_θ  α R(θ; ρ) + ½ E_D[ (Q_θ(s,a) - B^π Q̄(s,a))² ]                Eq. 9
        R(θ; ρ) = ½ ( E_π[Q_θ(s,a)] + E_ρ[Q_θ(s,a)] ) - E_D[Q_θ(s,a)]       Eq. 8

with the policy π, the target Q̄ and the backup as in :mod:`baselines.cql_discrete`: the policy
π(a|s) ∝ exp(Q_θ(s,a)/T) is no network of its own, and E_π[Q] becomes T·log Σ_a exp(Q/T), with the
same gradient. Tabularly the minimiser is Eq. 10, Q = B^π Q̄ - α (π + ρ - 2β) / (2β);
:mod:`baselines.tabular` iterates it.

``rho_term`` chooses what stands for E_ρ[Q]:

``mean``
    Eq. 8 as printed, the sum Σ_a ρ_ψ(a|s) Q(s,a) over all actions.
``lse``
    As the paper's listing has it, an importance-weighted log-sum-exp over ``rho_samples`` actions
    a_i ~ ρ_ψ, here at temperature T and normalised: T·log (1/K) Σ_i exp(Q(s,a_i)/T) / ρ_ψ(a_i|s).
    With one sample its gradient is that of ``mean`` in expectation. With many it no longer depends
    on ρ but is CQL's T·log Σ_a exp(Q/T): then ReDS is CQL. The listing samples π's term in the same
    way; with few actions that is a sum.
``data``
    E_D[ g · Q(s,a) ], without any ρ network: ρ = β·g as Eq. 6 has it, not normalised. Eq. 7
    normalises it, as any network has to. Where α g > 2τ an action that falls a little is pushed
    down faster than it falls, good or bad, until g is clipped: this form wants a small α or a
    large τ.

In the limit of a large τ, g = 1 and ρ = β, so that ``mean`` and ``data`` are CQL with half its α.
α, τ and T are in units of (scaled) reward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_network, check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.parts.discrete import (
    SoftmaxActor,
    boltzmann,
    invert_cumulative,
    soft_maximum,
    taken,
    weighted_likelihood_loss,
)
from baselines.parts.networks import MLP
from baselines.parts.reweighting import bad_action_weights, support_difference, weight_metrics
from baselines.parts.soft_q import SoftQ, td_loss


@dataclass(frozen=True)
class Config:
    """Hyperparameters of CQL (ReDS)."""

    alpha: float = 0.008
    """α, weight of the penalty, in units of scaled reward (Eq. 9, where it is left out; Eq. 10)."""
    tau: float = 0.1
    """τ of g = exp(-A/τ), in units of scaled reward (Eq. 7)."""
    rho_term: Literal["mean", "lse", "data"] = "mean"
    """What stands for E_ρ[Q] in Eq. 8; the same for all members."""
    rho_samples: int = 4
    """K of ``lse``, the same for all members; 4 in the paper's listing."""
    temperature: float = 0.02
    """T of the policy softmax(Q/T), in units of scaled reward."""
    discount: float = 0.99
    """γ."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this."""
    backup: Literal["policy", "max"] = "policy"
    """Next state's value: expectation under π (Eq. 9), or the maximum of Q̄."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Width of each hidden layer of Q and of ρ; the same for all members."""
    batch_size: int = 256
    """Transitions per gradient step."""
    learning_rate: float = 1e-3
    """Adam's step size, for Q and for ρ."""
    target_rate: float = 0.02
    """Fraction by which the target Q̄ moves towards Q in each step."""
    greedy: bool = False
    """Evaluate argmax Q instead of sampling from π."""

    def __post_init__(self) -> None:
        check_network(self)
        check_range(self, "alpha", 0.0)
        check_range(self, "tau", 0.0, open_low=True)
        check_choice(self, "rho_term", ("mean", "lse", "data"))
        check_range(self, "rho_samples", 1, whole=True)
        check_range(self, "temperature", 0.0, open_low=True)
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "reward_scale")
        check_choice(self, "backup", ("policy", "max"))
        check_range(self, "target_rate", 0.0, 1.0, open_low=True)


def policy_advantages(q: Tensor, actions: Tensor, temperature: Tensor) -> Tensor:
    """Returns (P, B) advantages ``A = Q(s,a) - E_{a'~π}[Q(s,a')]`` of the actions taken.

    Args:
        q: (P, B, A) action values.
        actions: (P, B) int64 dataset actions.
        temperature: (P,) T of the policy.
    """
    return taken(q, actions) - (boltzmann(q, temperature) * q).sum(-1)


def rho_mean(q: Tensor, log_rho: Tensor) -> Tensor:
    """Returns (P, B) ``E_ρ[Q(s,a)]`` of (P, B, A) action values and log-probabilities (Eq. 8)."""
    return (log_rho.exp() * q).sum(-1)


def rho_log_sum_exp(q: Tensor, log_rho: Tensor, temperature: Tensor, uniform: Tensor) -> Tensor:
    """Returns the listing's ``T·log (1/K) Σ_i exp(Q(s,a_i)/T) / ρ(a_i|s)`` with samples a_i ~ ρ.

    Args:
        q: (P, B, A) action values.
        log_rho: (P, B, A) log-probabilities.
        temperature: (P,) T.
        uniform: (P, B, K) uniform numbers, one per sample.

    Returns:
        (P, B).
    """
    samples = invert_cumulative(log_rho.exp(), uniform)
    scaled = q.gather(-1, samples) / temperature[:, None, None]
    total = torch.logsumexp(scaled - log_rho.gather(-1, samples), dim=-1)
    return temperature[:, None] * (total - math.log(samples.shape[-1]))


def support_penalty(q: Tensor, actions: Tensor, temperature: Tensor, rho_values: Tensor) -> Tensor:
    """Returns the (P,) penalty R(θ; ρ) of Eq. 8, with T·log Σ_a exp(Q/T) for E_π[Q].

    Args:
        q: (P, B, A) action values.
        actions: (P, B) int64 dataset actions.
        temperature: (P,) T.
        rho_values: (P, B) what stands for E_ρ[Q].
    """
    policy_term, q_data = soft_maximum(q, temperature), taken(q, actions)
    return support_difference(policy_term, rho_values, q_data).mean(-1)


class Rho:
    """A population of reweighted behaviour policies ρ_ψ: softmax networks of the shape of Q."""

    def __init__(self, network: MLP, random: MemberRandom, learning_rate: Tensor):
        self.network = network
        self.parameters = network.init(random)
        self.optimiser = MemberAdam(self.parameters, learning_rate)

    def fit(self, batch: Batch, weights: Tensor, active: Tensor) -> Tensor:
        """Takes one gradient step on Eq. 7 with (P, B) weights; returns the (P,) loss before it."""
        logits = self.network(self.parameters, batch.observations)
        loss = weighted_likelihood_loss(logits, batch.actions, weights)
        self.optimiser.minimise(loss, active)
        return loss.detach()

    @torch.no_grad()
    def log_probabilities(self, observations: Tensor) -> Tensor:
        """Returns (P, B, A) log ρ_ψ(·|s) of (P, B, obs) observations, without gradient."""
        return torch.log_softmax(self.network(self.parameters, observations), dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {"parameters": self.parameters, "optimiser": self.optimiser.state_dict()}


class Agent:
    """A population of Q-functions, each with the ρ that it is pushed down under."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        self.q = SoftQ(configs, data, seeds)
        self.active = self.q.active
        self.alpha = per_member(configs, "alpha", device)
        self.tau = per_member(configs, "tau", device)
        self.rho_term: str = shared(configs, "rho_term")
        self.rho_samples: int = shared(configs, "rho_samples")
        self.rho = None
        if self.rho_term != "data":
            random = MemberRandom(seeds, "rho", device)
            self.rho = Rho(self.q.network, random, per_member(configs, "learning_rate", device))
        self.samples = MemberRandom(seeds, "rho samples", device)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes a gradient step on Eq. 7, then one on Eq. 9, then moves the target."""
        targets = self.q.targets(batch)
        q = self.q(batch.observations)
        q_taken = taken(q, batch.actions)
        advantages = policy_advantages(q.detach(), batch.actions, self.q.temperature)
        weights = bad_action_weights(advantages, self.tau)
        metrics = weight_metrics(advantages, self.tau, weights)
        if self.rho is None:
            rho_values = weights * q_taken
        else:
            metrics["rho_loss"] = self.rho.fit(batch, weights, self.active)
            log_rho = self.rho.log_probabilities(batch.observations)
            metrics["rho_entropy"] = -(log_rho.exp() * log_rho).sum(-1).mean(-1)
            if self.rho_term == "mean":
                rho_values = rho_mean(q, log_rho)
            else:
                uniform = self.samples.uniform(batch.actions.shape[-1], self.rho_samples)
                rho_values = rho_log_sum_exp(q, log_rho, self.q.temperature, uniform)
        td = td_loss(q_taken, targets)
        penalty = support_penalty(q, batch.actions, self.q.temperature, rho_values)
        loss = td + self.alpha * penalty

        self.q.minimise(loss)
        metrics |= {
            "loss": loss,
            "td_loss": td,
            "penalty": penalty,
            "q_data": q_taken.mean(-1),
        }
        return {name: value.detach() for name, value in metrics.items()}

    def actor(self, member: int) -> SoftmaxActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.q.actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        rho = {"rho": self.rho.state_dict()} if self.rho is not None else {}
        return {**self.q.state_dict(), **rho, "samples": self.samples.state_dict()}


METHOD = Method(
    name="reds",
    title="CQL (ReDS)",
    paper="Singh et al., NeurIPS 2023",
    config=Config,
    agent=Agent,
    actions="discrete",
)
