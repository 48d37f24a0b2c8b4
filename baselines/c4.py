"""C4: single-cluster batches and a penalty on the cross covariance of TD, for any critic's method.

Qiao, Yue, Wang, Deng and Ren, "Less Is More: Clustered Cross-Covariance Control for Offline RL",
a plug-in for CQL (``c4``, the paper's choice), TD3+BC (``c4_td3_bc``) and IQL (``c4_iql``). With
x = (s, a) and x' = (s', a'), both from the data, and g = ∇_x Q(x), g' = ∇_x' Q̄(x'):

    E[δ²] = (E δ)² + Var δ                                                                 Eq. 4
    Var δ ≈ γ²k'² Var<w',g'> + k² Var<w,g> - 2γkk' Cov(<w',g'>, <w,g>)      Theorem 1, Eqs. 6, 7
    Cov(<w',g'>, <w,g>) ≤ ‖C‖₂ ≤ ‖C‖_F,   C = Cov(g', g)                                   Eq. 8
    C = E[C_Z] + Cov(μ'_Z, μ_Z)                                                 Theorem 2, Eq. 9
    |2γkk' Cov(<w',g'>, <w,g>)| ≤ 2γkk' ‖C_z‖₂ ≤ 2γkk' sqrt(tr Σ'_z · tr Σ_z)             Eq. 10
    p(y) = Σ_z p_z N(y | μ_z, Ω_z),   y = [g', g],  Ω_z = [Σ'_z C_z; C_zᵀ Σ_z]            Eq. 11
        E-step:  r_iz ∝ p_z N(y_i | μ_z, Ω_z)                                        Algorithm 1
        M-step:  p_z = mean_i r_iz, weighted means, weighted covariances + εI        Algorithm 1
    min  L(θ) + λ Σ_z p_z ‖C_z‖_F²                                                        Eq. 12
    z ~ Cat(p),   B i.i.d. ∝ r_iz                                                    Algorithm 1
    R(B) = ‖Ĉ‖_F² + β (tr Ĉ)²,   Ĉ = Cov_B(g', g)                                         Eq. 13
    Q:  min_θ  L(θ, B) + λ R(B),   L the backbone's loss of its critics                   Eq. 14

The first two terms of the variance are the regularisers of noisy supervised learning; the third is
TD's own, and minimising δ² drives it up. A batch of one cluster has only the E[C_Z] part of it, and
the penalty shrinks that: Eqs. 13 and 14 estimate Eq. 12 from batches, with a Frobenius norm because
it bounds the spectral one (Eq. 8; w and w' are unit vectors) and is easily estimated. The mixture
is fitted again every ``refresh_interval`` updates, outside the training step, on a pool of
transitions from which batches then come.

Theory without code: Theorem 1, which follows from Q(x + kw) ≈ Q(x) + k <w, g> (Eq. 2; Eq. 5 is the
variance of that), and the bounds of Eqs. 8 and 10. Lemma 3 is why the actor may use the batches of
clusters, too: D_f(π ‖ Σ_m w_m ν_m) ≤ Σ_m w_m D_f(π ‖ ν_m) (Eq. 17), so that steps on the objectives
of single clusters (Eq. 19) climb, in expectation, a lower bound (Eq. 18) of the whole one.

What the paper leaves open, and how it is here:

- **g is the last hidden layer's activations** by default, as in the paper's runs (appendix E.1):
  the λ of its tables belong to that scale. ``gradient = exact`` is the gradient by the input, which
  the authors recommend; it is written out, so one backward pass is enough.
- **g' comes from Q̄ without gradient** (Eq. 6), so that the penalty moves g alone; Eq. 7 has the
  online critic, ``next_network = online``, with a gradient through both.
- Clusters are those of the first critic, R is a mean over both: L is a sum over both, so that each
  critic's own loss is L_i + (λ/2) R_i.
- The full Ω_z of Eq. 11 is kept, but in at most ``projection`` principal directions of g' and as
  many of g, and for responsibilities only; R is computed in full. The mixture is fitted on
  ``fit_size`` transitions spread over the pool, then all of the pool gets its responsibilities.
- **A warm start carries responsibilities, not places**: transitions keep theirs while gradients
  move, and the first M-step is taken with them where the gradients are now. Started from the old
  means and covariances, all gradients are outliers to most of the mixture after 200 updates, and
  one cluster takes everything: measured on TD3+BC, 1.0 effective clusters in one seed of two, where
  they are 4.4 and 4.9 like this (the paper reports about 5).
- A component that has lost all its transitions stays empty, as EM leaves it.
- If the first fit fails, as in data without any next action, batches are uniform, and stay so.
- The pool is the dataset if it has at most ``pool`` transitions, otherwise drawn anew at every
  refresh, spread over the dataset.
- Transitions without a next action are trained on, but have no pair: r_iz = p_z, and not in Ĉ.
- The actor has the same batch as the critics (Section 6, Lemma 3).
- ε is ``ridge`` times the mean variance of the coordinates; β, ε, the iterations and the pool are
  not reported. β is 0. The KL term of Section 6 is not part of Algorithm 1, nor of this.
- **λ by the data's quality is inferred**: Table 12 at .3 for medium, .5 for medium-replay and .1
  for medium-expert gives the scores of Table 2. That full-replay is as medium-replay, expert as
  medium-expert and all others as medium, is a guess.
- Everything else is the backbone's, networks too, so that a comparison with it is one of the
  plug-in; the paper's have four hidden layers of 256 and a policy rate of 1e-4.

With K = 1 and λ = 0 this is the backbone, bit for bit, if the pool holds the dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from baselines import cql, iql, td3_bc
from baselines.engine.checks import check_choice, check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Method, PhasedAgent
from baselines.engine.random import MemberRandom
from baselines.parts.clustering import Clustering
from baselines.parts.critics import Critics
from baselines.parts.cross_covariance import (
    GradientKind,
    cross_penalty,
    gradients,
    successive_inputs,
)
from baselines.parts.guided import Guided, GuidedAgent
from baselines.parts.penalties import CriticPenalty
from baselines.parts.policies import DeterministicActor
from baselines.parts.td_residual import gradient_cosines


@dataclass(frozen=True)
class PlugIn:
    """Hyperparameters of C4, beside those of its backbone."""

    clusters: int = 5
    """K, components of the mixture."""
    penalty_weight: float = 0.3
    """λ, weight of the penalty R; by the data's quality .1 to .5."""
    trace_weight: float = 0.0
    """β, weight of the squared trace within R."""
    refresh_interval: int = 200
    """F, updates between two fits of the mixture; the same for all members."""
    gradient: GradientKind = "feature"
    """What g is: the critic's last hidden layer, or its exact gradient by the input; the same for
    all members."""
    next_network: Literal["target", "online"] = "target"
    """Whose gradient g' is in R: that of Q̄, held fixed, or Q's, not held fixed; the same for all
    members."""
    pool: int = 50_000
    """Transitions that batches come from until the next fit; the same for all members."""
    fit_size: int = 4_096
    """Transitions of the pool that the mixture is fitted on; the same for all members."""
    projection: int = 32
    """Directions of g', and of g, in which the mixture sees them; the same for all members."""
    ridge: float = 1e-3
    """ε, added to variances within clusters, in numbers of the mean variance."""
    cold_iterations: int = 50
    """Iterations of EM in the first fit; the same for all members."""
    warm_iterations: int = 5
    """Iterations of EM in all later fits; the same for all members."""

    def check_plug_in(self) -> None:
        """Checks the fields of the plug-in.

        Raises:
            ValueError: If one is out of range.
        """
        for name in ("penalty_weight", "trace_weight"):
            check_range(self, name, 0.0)
        check_range(self, "ridge", 0.0, open_low=True)
        whole = ("clusters", "refresh_interval", "pool", "fit_size", "projection")
        for name in (*whole, "cold_iterations", "warm_iterations"):
            check_range(self, name, 1, whole=True)
        check_choice(self, "gradient", ("feature", "exact"))
        check_choice(self, "next_network", ("target", "online"))
        if self.gradient == "exact" and getattr(self, "critic_norm", "none") != "none":
            raise ValueError(
                "gradient is 'exact' and critics are normalised; expected 'feature', or "
                "critic_norm 'none'"
            )


@dataclass(frozen=True)
class Config(PlugIn, cql.Config):
    """Hyperparameters of C4 on CQL."""

    def __post_init__(self) -> None:
        cql.Config.__post_init__(self)
        self.check_plug_in()


@dataclass(frozen=True)
class TD3BCConfig(PlugIn, td3_bc.Config):
    """Hyperparameters of C4 on TD3+BC."""

    def __post_init__(self) -> None:
        td3_bc.Config.__post_init__(self)
        self.check_plug_in()


@dataclass(frozen=True)
class IQLConfig(PlugIn, iql.Config):
    """Hyperparameters of C4 on IQL."""

    def __post_init__(self) -> None:
        iql.Config.__post_init__(self)
        self.check_plug_in()


QUALITY = {"*-replay*": {"penalty_weight": 0.5}, "*-expert*": {"penalty_weight": 0.1}}
"""λ by the quality of the data, as inferred from Tables 2 and 12; .3 for all other data."""


class CovariancePenalty:
    """λ R of a batch (Eqs. 13, 14)."""

    def __init__(self, configs: Sequence[PlugIn], device: torch.device):
        self.weight = per_member(configs, "penalty_weight", device)
        self.trace_weight = per_member(configs, "trace_weight", device)
        self.kind: GradientKind = shared(configs, "gradient")
        self.next_network: str = shared(configs, "next_network")

    def pairs(self, critics: Critics, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the (E, P, B, m) rows g' and g of a batch; g may be the features given."""
        network, (following, x) = critics.network, successive_inputs(batch)
        parameters = critics.parameters if self.next_network == "online" else critics.target
        next_rows = gradients(network, parameters, following, self.kind)
        if self.kind == "feature":
            return next_rows, features
        return next_rows, gradients(network, critics.parameters, x, self.kind)

    def __call__(
        self, critics: Critics, batch: Batch, next_actions: Tensor | None, features: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the (P,) λ R, and R."""
        pairs = self.pairs(critics, batch, features)
        penalty = cross_penalty(*pairs, batch.has_next, self.trace_weight)
        penalty = penalty.mean(0)
        return self.weight * penalty, {"cross_covariance": penalty}


class Agent:
    """A population of a backbone's learners, with their mixtures.

    Args:
        make_backbone: The backbone's agent, which takes a ``critic_penalty`` and has ``critics``
            and a ``policy``.
        configs: (P,) configs of the backbone with the fields of :class:`PlugIn`.
        data: The members' transitions.
        seeds: (P,) member seeds.
    """

    def __init__(
        self,
        make_backbone: Callable[..., Any],
        configs: Sequence[Any],
        data: MemberData,
        seeds: Sequence[int],
    ):
        penalty: CriticPenalty | None = None
        if any(config.penalty_weight > 0.0 for config in configs):
            penalty = CovariancePenalty(configs, data.device)
        self.backbone = make_backbone(configs, data, seeds, critic_penalty=penalty)
        self.active: Tensor = self.backbone.active
        self.clustering = Clustering(configs, data, seeds, self.backbone.critics)
        self.refresh_interval: int = shared(configs, "refresh_interval")
        self._data = data
        self._batch_size: int = shared(configs, "batch_size")
        self._discount = per_member(configs, "discount", data.device)
        self._uniform = MemberRandom(seeds, "uniform batches", data.device)

    def refresh(self, step: int) -> dict[str, Tensor]:
        """Fits the mixtures, writes the tables that batches are drawn by, and takes measures."""
        return {
            **self.clustering.refresh(self.backbone.critics, cold=step == 0),
            **self.measures(),
        }

    def measures(self) -> dict[str, Tensor]:
        """Returns the cosines of Figure 1a (Eq. 4), of a uniform batch, by name.

        δ is the same for all backbones, with min_i Q̄_i(s', π(s')) at the policy's mode. Their own
        targets differ: CQL draws a', or the best of K; TD3+BC adds noise; IQL has V(s').
        """
        batch = self._data.sample(self._uniform, self._batch_size)
        of_variance, of_mean = gradient_cosines(
            self.backbone.critics, self.backbone.policy, batch, self._discount
        )
        return {"cosine_variance": of_variance, "cosine_mean": of_mean}

    def sample(self, random: MemberRandom, batch_size: int) -> Batch:
        """Returns a batch of one cluster for every member."""
        rows = self.clustering.sampler.draw(random, batch_size)
        return self._data.take(rows + self._data.offsets.unsqueeze(-1))

    def phase(self, step: int) -> Any:
        """Returns the backbone's phase; None if its updates are all alike."""
        return self.backbone.phase(step) if isinstance(self.backbone, PhasedAgent) else None

    def update(self, batch: Batch, phase: Any) -> dict[str, Tensor]:
        """Takes the backbone's update, whose critics' loss has the penalty."""
        if isinstance(self.backbone, PhasedAgent):
            return self.backbone.update(batch, phase)
        return self.backbone.update(batch)

    def guided(self, batch: Batch) -> list[Guided]:
        """Returns the terms of the backbone's policies, if they have both; see parts/guided.py."""
        return self.backbone.guided(batch) if isinstance(self.backbone, GuidedAgent) else []

    def actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU."""
        return self.backbone.actor(member)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            **self.backbone.state_dict(),
            "clustering": self.clustering.state_dict(),
            "measured": self._uniform.state_dict(),
        }


def _on(backbone: Method, name: str, config: type) -> Method:
    return replace(
        backbone,
        name=name,
        title=f"C4 ({backbone.title})",
        paper="Qiao et al., 2025",
        config=config,
        agent=partial(Agent, backbone.agent),
        overrides={**backbone.overrides, **QUALITY},
    )


METHODS = (
    _on(cql.METHOD, "c4", Config),
    _on(td3_bc.METHOD, "c4_td3_bc", TD3BCConfig),
    _on(iql.METHOD, "c4_iql", IQLConfig),
)
