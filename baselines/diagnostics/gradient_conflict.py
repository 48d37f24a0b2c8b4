"""How far guidance by value damages a fit: SPAR's DD and VSD (section 4.3, Table 3).

Zhao, Pan, Liang and Lin, "SPAR: Support-Preserving Action Rectification", arXiv 2605.27877, 2026.
With Δθ the step of Adam along the gradient of the guidance alone, from a copy of the parameters,

    DD  = ⟨∇_θ L_fit(θ), Δθ⟩                   VSD = L_fit(θ + Δθ) - L_fit(θ)

on one batch with one draw of noise. Positive numbers are damage. The paper does not say what of
Adam's state the step starts from. With both moments of training, most of Δθ is momentum that has
little to do with the guidance; with none, Adam makes every gradient a step of full size, however
small it is. The default keeps the second moment, the scale that training has reached, and no
momentum. The other two are shown beside it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import hetero_bench
from baselines import spar
from baselines.engine.data import Batch
from baselines.engine.members import Member
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.residual_guidance import LatentPilot, Projector
from baselines.parts.residual_models import Regressor, ResidualBatch
from baselines.parts.residual_rectifiers import Rectifiers
from hetero_bench.atomic import write_file

RATE = 3e-4
"""Adam's step size in the paper."""

Moments = Literal["second", "both", "none"]
Loss = Callable[[Tensor], Tensor]
"""(P,) losses as a function of (P, n) parameters, with batch and noise fixed."""


class Conflict(NamedTuple):
    """What one step of guidance does to a fit, (P,) each."""

    direction: Tensor  # DD
    degradation: Tensor  # VSD


def gradient_conflict(
    optimiser: MemberAdam, fit: Loss, guide: Loss, *, moments: Moments = "second"
) -> Conflict:
    """Returns DD and VSD of a population; nothing of it is changed.

    Args:
        optimiser: Has the parameters, (P, n), and the moments of their training.
        fit: L_fit.
        guide: The guidance, with its weight.
        moments: What of Adam's state the step starts from.
    """
    theta = optimiser.parameters.detach().clone().requires_grad_()
    before = fit(theta)
    (fitting,) = torch.autograd.grad(before.sum(), theta)
    (guiding,) = torch.autograd.grad(guide(theta).sum(), theta)
    moved = theta.detach().clone()
    adam = MemberAdam(moved, torch.full((len(moved),), RATE, device=moved.device))
    if moments != "none":
        adam.second_moment.copy_(optimiser.second_moment)
        adam.steps.copy_(optimiser.steps)
    if moments == "both":
        adam.first_moment.copy_(optimiser.first_moment)
    if moments == "second":
        # A first moment that has always been this gradient, corrected for its beginning.
        adam.first_moment.copy_(guiding * (1.0 - adam.betas[0] ** adam.steps).to(guiding.dtype))
    adam.step(guiding, torch.ones(len(moved), dtype=torch.bool, device=moved.device))
    with torch.no_grad():
        direction = (fitting.double() * (moved.double() - theta.double())).sum(-1)
        return Conflict(direction, (fit(moved).double() - before.double()))


def conflict_of(rectifiers: Rectifiers, batch: ResidualBatch, *, moments: Moments) -> Conflict:
    """Returns DD and VSD of SPAR's residual policies of one variant, on one batch.

    Raises:
        ValueError: If the variant has no guidance.
    """
    residual = rectifiers.residual
    weight = residual.guide_weight
    if isinstance(residual, Regressor):
        return gradient_conflict(
            residual.optimiser,
            lambda theta: residual.fit_loss(theta, batch),
            lambda theta: weight * residual.guide_loss(theta, batch),
            moments=moments,
        )
    if isinstance(residual, LatentPilot):
        return gradient_conflict(
            residual.pilot_optimiser,
            lambda theta: residual.fit_loss_of_pilot(theta, batch),
            lambda theta: weight * residual.guide_loss(theta, batch),
            moments=moments,
        )
    if isinstance(residual, Projector):
        rows = batch.weights.shape[1]
        latents, noise, uniforms = residual.guide_numbers(rows)
        samples, own = residual.draw(batch, latents), residual.noise.normal(rows, residual.latent)

        def fit(theta: Tensor) -> Tensor:
            distance, kl = residual.fit_losses(theta, batch, own)
            return distance + residual.kl_weight * kl

        return gradient_conflict(
            residual.optimiser,
            fit,
            lambda theta: weight * residual.guide_loss(theta, batch, samples, noise, uniforms),
            moments=moments,
        )
    raise ValueError(f"{type(residual).__name__} has no guidance; expected mlp, plas or proj")


@dataclass(frozen=True)
class Measurement:
    """Means over batches of one variant, one for each seed.

    Attributes:
        variant: The variant of SPAR, with PROJ's guidance.
        moments: What of Adam's state the steps started from.
        dd: DD by seed.
        vsd: VSD by seed.
    """

    variant: str
    moments: str
    dd: tuple[float, ...]
    vsd: tuple[float, ...]


@dataclass(frozen=True)
class Study:
    """What was measured, and of what.

    Attributes:
        dataset: Canonical id.
        stage1_steps: Updates of stage I.
        steps: Updates of stage II.
        seeds: Seeds, in the order of the measurements' numbers.
        measurements: By variant and moments.
    """

    dataset: str
    stage1_steps: int
    steps: int
    seeds: tuple[int, ...]
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class GradientConflict:
    """Train SPAR's guided variants on a dataset and measure how guidance conflicts with the fit.

    One population, whose members share stage I by seed.
    """

    dataset: str
    """Dataset id."""
    stage1_steps: int = 20_000
    """Updates of stage I."""
    steps: int = 20_000
    """Updates of stage II; PLAS has its generator for the first half of them."""
    seeds: tuple[int, ...] = (0,)
    """Seeds."""
    batches: int = 20
    """Batches to average over."""
    device: str = "cpu"
    """cpu, or cuda."""
    out: Path | None = None
    """JSON file to write, too."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Trains, prints Table 3's rows for the dataset, and writes the file."""
        for path in self.register:
            hetero_bench.register(path)
        dataset = hetero_bench.load(self.dataset)
        members = self.members(dataset, spar.METHOD.config_for(dataset.spec))
        total = self.stage1_steps + self.steps
        trainer = Trainer(spar.METHOD, members, self.device, steps=total)
        trainer.advance(total)
        found = [
            each
            for moments in ("second", "both", "none")
            for each in measure(trainer, batches=self.batches, moments=moments)
        ]
        show(found, dataset.id)
        if self.out is not None:
            study = Study(dataset.id, self.stage1_steps, self.steps, self.seeds, tuple(found))
            write_file(self.out, json.dumps(asdict(study), indent=1) + "\n")

    def members(self, dataset: hetero_bench.Dataset, config: spar.Config) -> list[Member]:
        """Returns the guided variants times seeds."""
        config = replace(config, stage1_steps=self.stage1_steps, generator_steps=self.steps // 2)
        configs = [replace(config, variant=variant) for variant in ("mlp", "plas")]
        configs += [
            replace(config, variant="proj", guidance=guidance)
            for guidance in ("literal", "cross", "elbo")
        ]
        return [Member(dataset, each, seed) for each in configs for seed in self.seeds]


def measure(trainer: Trainer, *, batches: int, moments: Moments = "second") -> list[Measurement]:
    """Returns the means over batches by variant and member, of a population in stage II.

    Args:
        trainer: A population of SPAR.
        batches: How many batches, of fresh transitions.
        moments: What of Adam's state the step starts from.
    """
    agent = trainer.agent
    if not isinstance(agent, spar.Agent):
        raise ValueError(f"a population of {type(agent).__module__}; expected SPAR's")
    source = MemberRandom([0] * trainer.data.num_members, "conflict", trainer.data.device)
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for _ in range(batches):
        batch: Batch = trainer.data.sample(source, trainer.batch_size)
        for kind, rectifiers in agent.rectifiers.items():
            conflict = conflict_of(rectifiers, rectifiers.see(batch, agent.rows), moments=moments)
            found[kind].append(torch.stack(conflict).cpu().numpy())
    means = {kind: np.mean(values, axis=0) for kind, values in found.items()}
    return [
        Measurement(kind, moments, *(tuple(each.tolist()) for each in mean))
        for kind, mean in means.items()
    ]


def show(found: Sequence[Measurement], dataset: str) -> None:
    """Prints one row per variant, means over seeds."""
    table = Table(title=f"Gradient conflict on {dataset}", title_justify="left")
    for name in ("variant", "Adam's moments", "DD", "VSD"):
        table.add_column(name, justify="left" if name[0] in "vA" else "right")
    for each in found:
        means = [f"{np.mean(values):.1e}" for values in (each.dd, each.vsd)]
        table.add_row(each.variant, each.moments, *means)
    Console().print(table)
