"""Stages II and III of SPAR for the members of one variant, on top of a frozen stage I."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.method import Actor
from baselines.engine.random import MemberRandom
from baselines.parts.policies import DeterministicActor
from baselines.parts.quantiles import quantile
from baselines.parts.residual_anchor import Anchor, Judge, JudgedRows
from baselines.parts.residual_gate import RectifiedActor
from baselines.parts.residual_guidance import LatentPilot, Projector
from baselines.parts.residual_losses import (
    LARGEST_WEIGHT,
    Weighting,
    normalised_advantages,
    rectified,
    robust_values,
)
from baselines.parts.residual_models import Generator, Population, Regressor, ResidualBatch

GATED_ROWS = 32
"""States of a batch in which the gate is looked at."""
SHARES = (0.05, 0.5, 0.95)
"""Quantiles of the gains there."""


class Phase(NamedTuple):
    """What an update consists of."""

    stage: Literal[1, 2]
    first: bool = False  # of stage II: the dataset is judged before it
    guided: bool = False  # PROJ's guidance, and a look at the gate
    steered: bool = False  # PLAS trains its latent policy

    def __str__(self) -> str:
        if self.stage == 1:
            return "stage I"
        parts = {"verdicts": self.first, "guidance": self.guided, "latent policy": self.steered}
        return ", ".join(["stage II", *(name for name, part in parts.items() if part)])


class Rectifiers:
    """Stage II and III of the members of one variant.

    Args:
        configs: (P,) configs of all members of the population.
        data: Gives sizes and device.
        seeds: (P,) seeds of all members.
        chosen: Numbers of the members of this variant, V of them.
        groups: (P,) group of each member.
        anchor: Stage I.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        data: MemberData,
        seeds: Sequence[int],
        chosen: Sequence[int],
        groups: Sequence[int],
        anchor: Anchor,
    ):
        device = data.device
        configs, seeds = [configs[each] for each in chosen], [seeds[each] for each in chosen]
        own = [groups[each] for each in chosen]
        self.index = torch.tensor(chosen, device=device)
        self.groups = torch.tensor(own, device=device)
        asked = None if own == list(range(len(anchor.active))) else self.groups
        self.penalty = per_member(configs, "uncertainty_weight", device)
        self.weighting = Weighting(
            per_member(configs, "temperature", device),
            torch.tensor([each.weighting == "uniform" for each in configs], device=device),
            torch.tensor([each.filters_hard for each in configs], device=device),
        )
        guide = Judge(anchor, anchor.subsets.guide, asked, self.penalty)
        self.judge = Judge(anchor, anchor.subsets.gate, asked, self.penalty)
        self.residual = _population(configs, data, seeds, guide, self.weighting)
        self.absolute = per_member(configs, "gate_absolute", device).unsqueeze(-1)
        self.relative = per_member(configs, "gate_relative", device).unsqueeze(-1)
        self.gate_noise = MemberRandom(seeds, "latents of gate", device)

    def see(self, batch: Batch, rows: JudgedRows) -> ResidualBatch:
        """Returns the batch of these members with residuals and their weights."""
        observations = batch.observations.index_select(0, self.index)
        actions = batch.actions.index_select(0, self.index)
        said = rows.take(self.groups, batch.row.index_select(0, self.index))
        advantages = normalised_advantages(
            robust_values(said.data_mean, said.data_std, self.penalty),
            robust_values(said.base_mean, said.base_std, self.penalty),
            said.base_std,
        )
        return ResidualBatch(
            observations,
            said.base_actions,
            actions - said.base_actions,
            self.weighting.weights(advantages),
            robust_values(said.guide_mean, said.guide_std, self.penalty),
            said.guide_std,
        )

    def update(self, batch: ResidualBatch, active: Tensor, phase: Phase) -> dict[str, Tensor]:
        """Takes one gradient step for these members; returns (V,) metrics."""
        metrics = self.residual.update(batch, active, guided=phase.guided, steered=phase.steered)
        metrics["weight"] = batch.weights.mean(-1)
        metrics["weighted_share"] = (batch.weights > 0.0).float().mean(-1)
        metrics["capped_share"] = (batch.weights >= LARGEST_WEIGHT).float().mean(-1)
        metrics["residual"] = torch.linalg.vector_norm(batch.residuals, dim=-1).mean(-1)
        looks = phase.guided and self.residual.proposes(phase.steered)
        return metrics | (self.look_at_gate(batch) if looks else {})

    @torch.no_grad()
    def look_at_gate(self, batch: ResidualBatch) -> dict[str, Tensor]:
        """Returns what the gate would do in a few states of a batch, (V,) each."""
        batch = ResidualBatch(*(each[:, :GATED_ROWS] for each in batch))
        proposal = self.residual.proposal
        noise = self.gate_noise.normal(batch.weights.shape[1], proposal.noise_size)
        residuals = proposal(self.residual.proposal_parameters(), batch.context, noise)
        candidates = batch.act(residuals)
        decision = rectified(
            batch.base_actions,
            candidates,
            self.judge.exactly(batch.observations, batch.base_actions),
            self.judge.exactly(batch.observations, candidates),
            self.absolute,
            self.relative,
        )
        return {
            "gate_accepted": decision.accepted.float().mean(-1),
            "gate_gain": decision.gains.mean(-1),
            **{f"gate_gain_{100 * each:.0f}": quantile(decision.gains, each) for each in SHARES},
        }

    def actor(self, member: int, base: DeterministicActor) -> Actor:
        """Returns a copy of one member's policy on the CPU: π_base until residuals are trained.

        Args:
            member: Its number in the whole population.
            base: Its π_base.
        """
        if not self.residual.ready():
            return base
        row = self.index.tolist().index(member)
        one = slice(row, row + 1)
        return RectifiedActor(
            base.network,
            base.parameters,
            self.residual.proposal,
            self.residual.proposal_parameters()[one].cpu().clone(),
            self.judge.network,
            self.judge.parameters()[:, one].cpu().clone(),
            self.penalty[one].cpu(),
            float(self.absolute[row]),
            float(self.relative[row]),
            base.frame,
            base.action_size,
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {**self.residual.state_dict(), "gate_noise": self.gate_noise.state_dict()}


def _population(
    configs: Sequence[Any],
    data: MemberData,
    seeds: Sequence[int],
    guide: Judge,
    weighting: Weighting,
) -> Population:
    kinds = {"mlp": Regressor, "cvae": Generator, "plas": LatentPilot}
    variant = shared(configs, "variant")
    if variant == "proj":
        return Projector(configs, data, seeds, guide, weighting)
    return kinds[variant](configs, data, seeds, guide)
