"""SPAR: a cloned policy, corrected by residuals that stay on the data's support, if it pays.

Zhao, Pan, Liang and Lin, "SPAR: Support-Preserving Action Rectification", arXiv 2605.27877, 2026.
Three stages, of which the first two are phases of one run:

    I    π_base by pure cloning; M critics and V by expectiles        Alg. 1   residual_anchor.py
         Q_rob(s,a) = μ_Q(s,a) - λ_u σ_Q(s,a)                         Eq. 1    robust_values
    II   a residual policy Δa = π_res(s, a_base), with everything of stage I frozen
         Ã = (Q_rob(s,a) - Q_rob(s,a_base)) / σ_Q                     3.2.2    normalised_advantages
         w = exp(Ã/T) or 1, times 1[Ã > 0] if hard                    3.2.2    Weighting
         L = L_fit + λ_g L_guide                                      Eq. 2
         MLP    E[w ‖π_res - Δa‖²] - λ_g E[Q_rob(s, a_synth)]         Eq. 7    Regressor (Alg. 2)
         CVAE   E[w ‖π_res(z) - Δa‖²] + β KL(q(z|s,Δa) ‖ p(z))        Eq. 8    Generator
         PLAS   CVAE; then -λ_g E[Q_rob] of z = π_z(s, a_base)        Alg. 3   LatentPilot
         PROJ   CVAE + λ_g E[Σ_k ω_k ‖π_res(z_k) - Δa_k‖²],           Eq. 10   Projector (Alg. 4)
                Δa_k = π'_res(z_k),  ω_k = w(Ã_k) / Σ_j w(Ã_j)        Eq. 9    Weighting.shares
    III  the best of K candidates where ΔQ_rob > η_abs and                     Alg. 5
         ΔQ_rob / (|Q_rob(s,a_base)| + ε) > η_rel, else a_base        Eq. 12   rectified

Equations are in parts/residual_losses.py, stage II in parts/residual_models.py and
residual_guidance.py, the deployed policy in residual_gate.py. Variant ``base`` has no residuals.
What the paper measures is in diagnostics/: δ_ρ and the geometry of residuals (Eq. 3, Figure 2) in
spar.py, DD and VSD (Table 3) in gradient_conflict.py, the support ratio (Figure 3) in
support_ratio.py; latency (Table 11) in benchmarks/inference.py. Theory without code: Eq. 4 (samples
that fitting takes), Eqs. 5 and 6 (what searching within δ_ρ loses), Eq. 11 (drift of a chord), and
the proofs in Eqs. 13 to 37; Eq. 38 is Eq. 7 again.

What the paper leaves open or contradicts, and what is done here:

- Algorithm 1 has no V and targets mean_i Q_i(s', π_base(s')); text and appendix say V by expectile
  regression as in IQL, which is the default. ``backup="base"`` is Algorithm 1.
- Four critics for the data, four for guidance and four for the gate, of ten: {1-4}, {4-7}, {7-10}.
  V regresses on the smaller target of the first two, as IQL; ``aggregate="mean"`` on four.
- σ_Q is the critics' deviation at (s, a_base), at least 0.001. In fits w is at most 100, as in
  IQL's code; with T = 0.3 that is reached from 1.4 σ_Q on, and weights as large make β small beside
  them (``capped_share`` says how often). ω has no largest w, as Eq. 9, where only ratios count; the
  metric ``effective_candidates`` is 1 / Σ_k ω_k². A state none of whose candidates has weight is
  left out, of the metric, too. What is compared is judged in fp32 whatever the run's precision. In
  bf16 the candidates' Ã errs by 0.15 to 0.34 σ_Q, a ninth to a seventh of what the candidates of a
  state differ by, and by 0.05 to 0.28 if a_base is in bf16, too (benchmarks/spar_precision.py).
- Table 8 has a T for each task and not for each variant: on medium-replay data PROJ has MLP's, too.
- Actions are clipped to [-1, 1] wherever they are judged or taken; regression targets are not.
  Residuals are the networks' outputs as they are. Squared distances and divergences are means over
  dimensions, for which β = 0.5 is usual with w = 1. The target decoder moves with every update.
- Algorithm 4's fit has no actions of the dataset and its guidance no λ_g; Eq. 2, 8 and 10 have.
- **Eq. 10 does not improve a generator as written.** Target and prediction share z_k: the gradient
  is zero where the decoder equals its target, and elsewhere only holds the decoder to its past, the
  more so where values are high. Proposition 3.3(i) needs a prediction that does not depend on z.
  ``guidance="literal"`` is Eq. 10. ``cross`` regresses other latents on candidates drawn by ω; its
  minimiser is the proposition's, one action for all z. ``elbo`` reads Algorithm 4's "weighted
  ELBO" at its word: candidates are encoded like data, z ~ q(z|s,Δa_k), and weighed by ω_k, which
  moves the generator's mass to the better ones and keeps them apart. Of two kinds of residuals a
  generator makes the better one in 31% of its samples; 300 guided updates with λ_g = 10 and
  β = 0.05 later in 31% (literal), 99% (cross) and 60% (elbo; tests/test_spar_guidance.py).
- The share of stage II that PLAS spends on its generator is not stated; half of it here. Its filter
  is hard on every task, as Algorithm 3 has it. Adam makes PLAS all but indifferent to λ_g > 0.
- Appendix C.1.2 has two expectiles: τ, which is V's here, and ``iql_tau`` = 0.7, as well as an
  advantage scaling for cloning that is said to be pure. The latter two are not used.

Members that differ in stage II alone share stage I. Its frozen verdicts on the dataset, a_base and
Q_rob of (s, a) and (s, a_base), are computed once for all rows in the first update of stage II.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.engine.checks import check_choice, check_preparation, check_range, check_sizes
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Actor, Method
from baselines.engine.preparation import as_configured
from baselines.parts.guided import Guided
from baselines.parts.residual_anchor import Aggregate, Anchor, Backup, BaseKind, JudgedRows
from baselines.parts.residual_guidance import Guidance
from baselines.parts.residual_rectifiers import Phase, Rectifiers

Variant = Literal["base", "mlp", "cvae", "plas", "proj"]

SMALLEST_TEMPERATURE = torch.finfo(torch.float32).tiny
"""Smallest T; temperatures are float32."""
STAGE_ONE = ("expectile", "discount", "target_rate", "anchor_rate", "gradient_clip")
"""What members may differ in that stage I depends on, besides dataset, preparation and seed."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of SPAR. Defaults are Table 7's, and of Table 8 those of PROJ on MuJoCo."""

    variant: Variant = "proj"
    """The residual policy of stage II."""
    guidance: Guidance = "literal"
    """How PROJ imitates its own samples; see the module."""
    temperature: float = 0.3
    """T of the weights, in standard deviations σ_Q."""
    weighting: Literal["exponential", "uniform"] = "exponential"
    """Whether weights grow with the advantage."""
    filtering: Literal["hard", "soft"] = "hard"
    """Whether residuals without advantage have no weight; PLAS's have none in any case."""
    uncertainty_weight: float = 0.5
    """λ_u, weight of the critics' deviation in Q_rob."""
    guide_weight: float = 0.5
    """λ_g."""
    guide_samples: int = 64
    """K of PROJ's guidance; the same for all members."""
    guide_period: int = 10
    """Updates per update with PROJ's guidance; the same for all members."""
    kl_weight: float = 0.5
    """β."""
    latent_size: int = 16
    """Dimensions of z; the same for all members."""
    generator_sizes: tuple[int, ...] = (256, 256, 256)
    """Width of each hidden layer of encoder and decoder; the same for all members."""
    generator_target: float = 0.005
    """Fraction by which PROJ's target decoder moves."""
    candidates: int = 10
    """K of stage III, where residuals are sampled; the same for all members."""
    gate_absolute: float = 1e-4
    """η_abs, in units of Q."""
    gate_relative: float = 0.01
    """η_rel, in numbers of |Q_rob(s, a_base)|."""
    base_policy: BaseKind = "deterministic"
    """How the base policy is cloned; the same for all members."""
    backup: Backup = "value"
    """Whether V or the base policy's Q is backed up; the same for all members."""
    aggregate: Aggregate = "min"
    """What of the targets Q̄ V regresses on; the same for all members."""
    expectile: float = 0.5
    """τ of V."""
    critics: int = 10
    """M; the same for all members."""
    subset: int = 4
    """Critics that judge together; the same for all members."""
    discount: float = 0.99
    """γ."""
    target_rate: float = 0.005
    """Fraction by which the targets Q̄ move."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of all other networks; the same for all members."""
    anchor_rate: float = 3e-4
    """Adam's step size in stage I."""
    residual_rate: float = 3e-4
    """Adam's step size in stage II."""
    gradient_clip: float = 1.0
    """Longest gradient of a network."""
    stage1_steps: int | None = None
    """Updates of stage I, at the beginning of the run; the same for all members. By default half of
    the run, which is the paper's million if the run has two."""
    generator_steps: int | None = None
    """Updates of stage II after which PLAS goes over to its latent policy; the same for all. By
    default half of the stage."""
    batch_size: int = 256
    """Transitions per gradient step."""
    normalise_observations: bool = True
    """Subtract the dataset's mean from observations and divide by its standard deviation."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this,"""
    reward_shift: float = 0.0
    """and then this is added."""

    @property
    def filters_hard(self) -> bool:
        """Whether residuals without advantage have no weight."""
        return self.filtering == "hard" or self.variant == "plas"

    def __post_init__(self) -> None:
        check_preparation(self)
        check_sizes(self)
        check_sizes(self, "generator_sizes")
        check_choice(self, "variant", ("base", "mlp", "cvae", "plas", "proj"))
        check_choice(self, "guidance", ("literal", "cross", "elbo"))
        check_choice(self, "weighting", ("exponential", "uniform"))
        check_choice(self, "filtering", ("hard", "soft"))
        check_choice(self, "base_policy", ("deterministic", "gaussian"))
        check_choice(self, "backup", ("value", "base"))
        check_choice(self, "aggregate", ("min", "mean"))
        for name in ("temperature", "anchor_rate", "residual_rate", "gradient_clip"):
            check_range(self, name, 0.0, open_low=True)
        check_range(self, "temperature", SMALLEST_TEMPERATURE)
        for name in ("uncertainty_weight", "guide_weight", "kl_weight"):
            check_range(self, name, 0.0)
        for name in ("target_rate", "generator_target"):
            check_range(self, name, 0.0, 1.0, open_low=True)
        for name in ("guide_samples", "guide_period", "latent_size", "candidates"):
            check_range(self, name, 1, whole=True)
        check_range(self, "gate_absolute")
        check_range(self, "gate_relative")
        check_range(self, "expectile", 0.0, 1.0)
        check_range(self, "discount", 0.0, 1.0)
        check_range(self, "critics", 2, whole=True)
        check_range(self, "subset", 2, self.critics, whole=True)
        for name in ("stage1_steps", "generator_steps"):
            if getattr(self, name) is not None:
                check_range(self, name, 1, whole=True)


REGRESSION = {"variant": "mlp", "temperature": 1.0}
OVERRIDES = {
    "halfcheetah-medium*": REGRESSION,
    "hopper-medium*": REGRESSION,
    "walker2d-medium*": REGRESSION,
    "*-medium-expert*": {"variant": "proj", "temperature": 0.3},
    "walker2d-*": {"guide_weight": 2.0},
    "hopper-medium-expert*": {"uncertainty_weight": 2.0},
    "adroit": {"base_policy": "gaussian", "filtering": "soft"},
    "antmaze": {
        "base_policy": "gaussian",
        "filtering": "soft",
        "expectile": 0.9,
        "reward_shift": -1.0,
    },
    "antmaze-umaze-diverse*": {"guide_weight": 2.0},
}
"""Table 8 and appendix C.1.2, by what this suite's names share with D4RL's. Medium data have the
settings of medium-replay, on which Table 14 has MLP in front. Rewards of AntMaze are "normalised"
(Table 7), which is taken to mean that 1 is subtracted."""


def stage_one_groups(
    configs: Sequence[Config], data: MemberData, seeds: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Returns the group of each member, and the first member of each group.

    Members of a group have equal prepared data, seeds and settings of stage I.
    """
    places = zip(data.offsets.tolist(), data.sizes.tolist(), strict=True)
    keys = [
        (place, seed, tuple(getattr(config, name) for name in STAGE_ONE))
        for config, place, seed in zip(configs, places, seeds, strict=True)
    ]
    unique = list(dict.fromkeys(keys))
    return [unique.index(key) for key in keys], [keys.index(key) for key in unique]


class Agent:
    """A population of base policies, critics and residual policies."""

    def __init__(self, configs: Sequence[Config], data: MemberData, seeds: Sequence[int]):
        device = data.device
        self.configs, self.data = configs, data
        steps = 2_000_000 if data.steps is None else data.steps
        half, stage1 = max(steps // 2, 1), shared(configs, "stage1_steps")
        self.stage1_steps: int = half if stage1 is None else stage1
        generator = shared(configs, "generator_steps")
        rest = max(steps - self.stage1_steps, 0)
        self.generator_steps: int = max(rest // 2, 1) if generator is None else generator
        self.period: int = shared(configs, "guide_period")
        self.active = torch.ones(len(configs), dtype=torch.bool, device=device)
        self._check_steps()

        groups, leaders = stage_one_groups(configs, data, seeds)
        self.groups, self.leaders = (
            torch.tensor(each, device=device) for each in (groups, leaders)
        )
        first = [configs[each] for each in leaders]
        self.anchor = Anchor(
            data,
            [seeds[each] for each in leaders],
            shared(configs, "hidden_sizes"),
            per_member(first, "anchor_rate", device),
            critics=shared(configs, "critics"),
            subset=shared(configs, "subset"),
            kind=shared(configs, "base_policy"),
            backup=shared(configs, "backup"),
            aggregate=shared(configs, "aggregate"),
            expectile=per_member(first, "expectile", device),
            discount=per_member(first, "discount", device),
            target_rate=per_member(first, "target_rate", device),
            clip=per_member(first, "gradient_clip", device),
        )
        self.rows = JudgedRows(data, leaders)
        kinds = [f"{c.variant}-{c.guidance}" if c.variant == "proj" else c.variant for c in configs]
        self.rectifiers = {
            kind: Rectifiers(
                configs,
                data,
                seeds,
                [member for member, each in enumerate(kinds) if each == kind],
                groups,
                self.anchor,
            )
            for kind in dict.fromkeys(kinds)
            if kind != "base"
        }
        self._kinds = kinds

    def _check_steps(self) -> None:
        """Raises an error if the run would end before the last stage of its members."""
        variants = {config.variant for config in self.configs}
        before = self.stage1_steps * (variants != {"base"})
        before += self.generator_steps * ("plas" in variants)
        if self.data.steps is not None and self.data.steps <= before:
            raise ValueError(
                f"SPAR takes {before:,} updates before its last stage (stage1_steps"
                f"{' and generator_steps' if 'plas' in variants else ''}), and this run has "
                f"{self.data.steps:,}; take more steps or lower these"
            )

    def phase(self, step: int) -> Phase:
        """Returns what update number ``step`` (0, 1, ...) consists of."""
        update = step - self.stage1_steps
        if update < 0:
            return Phase(1)
        return Phase(
            2,
            first=update == 0,
            guided=(update + 1) % self.period == 0,
            steered="plas" in self.rectifiers and update >= self.generator_steps,
        )

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Takes one gradient step on stage I, or on stage II."""
        if phase.stage == 1:
            own = Batch(*(each.index_select(0, self.leaders) for each in batch))
            metrics = self.anchor.update(own)
            self.active.logical_and_(self.anchor.active.index_select(0, self.groups))
            return {name: each.index_select(0, self.groups) for name, each in metrics.items()}
        if phase.first and self.rectifiers:
            self.rows.fill(self.anchor)
        metrics = {"loss": torch.zeros(len(self.active), device=self.active.device)}
        for rectifiers in self.rectifiers.values():
            seen = rectifiers.see(batch, self.rows)
            active = self.active.index_select(0, rectifiers.index)
            for name, value in rectifiers.update(seen, active, phase).items():
                # What other variants do not measure is no number for them.
                whole = metrics.setdefault(name, torch.full_like(metrics["loss"], torch.nan))
                whole.index_copy_(0, rectifiers.index, value.detach())
            self.active.index_copy_(0, rectifiers.index, active)
        return metrics

    def guided(self, batch: Batch) -> list[Guided]:
        """Returns the two terms of Eq. 2 apart, by variant; see parts/guided.py."""
        found = []
        for kind, rectifiers in self.rectifiers.items():
            terms = rectifiers.residual.guided_fit(rectifiers.see(batch, self.rows))
            if terms is not None:
                found.append(Guided(kind, tuple(rectifiers.index.tolist()), terms))
        return found

    def actor(self, member: int) -> Actor:
        """Returns a copy of one member's policy on the CPU: π_base until there are residuals."""
        group = int(self.groups[member])
        base = self.anchor.base_actor(group, self.data, member)
        rectifiers = self.rectifiers.get(self._kinds[member])
        return base if rectifiers is None else rectifiers.actor(member, base)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "anchor": self.anchor.state_dict(),
            "rows": self.rows.columns,
            "residual": {kind: each.state_dict() for kind, each in self.rectifiers.items()},
            "active": self.active,
        }


METHOD = Method(
    name="spar",
    title="SPAR",
    paper="Zhao et al., arXiv 2605.27877, 2026",
    config=Config,
    agent=Agent,
    actions="continuous",
    prepare=as_configured,
    overrides=OVERRIDES,
)
