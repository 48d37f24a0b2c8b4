"""How far guidance by value damages a fit: SPAR's DD and VSD (section 4.3, Table 3).

Zhao, Pan, Liang and Lin, "SPAR: Support-Preserving Action Rectification", arXiv 2605.27877, 2026.
With Δθ the step of Adam along the gradient of the guidance alone, clipped as in training, from a
copy of the parameters,

    DD  = ⟨∇_θ L_fit(θ), Δθ⟩                   VSD = L_fit(θ + Δθ) - L_fit(θ)

on one batch with one draw of noise. Positive numbers are damage. The paper does not say what of
Adam's state the step starts from. With both moments of training, most of Δθ is momentum that has
little to do with the guidance; with none, Adam makes every gradient a step of full size, however
small it is. The default keeps the second moment, the scale that training has reached, and no
momentum. The other two are shown beside it.

Any policy whose loss has the two terms can be given: SPAR's, and those of TD3+BC and what is built
on it, ReBRAC, SPOT and CAR. A policy that only climbs values, or only fits, has no such conflict.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import hetero_bench
from baselines.engine import TrainedRun, trained_runs
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.gradient_clipping import clipped
from baselines.parts.guided import GuidedAgent, GuidedFit
from hetero_bench.atomic import write_file

RATE = 3e-4
"""Adam's step size in the paper."""

Moments = Literal["second", "both", "none"]
MOMENTS: tuple[Moments, ...] = ("second", "both", "none")


class Conflict(NamedTuple):
    """What one step of guidance does to a fit, (V,) each."""

    direction: Tensor  # DD
    degradation: Tensor  # VSD


def gradient_conflict(terms: GuidedFit, moments: Moments = "second") -> Conflict:
    """Returns DD and VSD of a population; nothing of it is changed.

    Args:
        terms: Of the policies' loss. Guidance is clipped as in training: the second moment is of
            clipped gradients, and a longer one would take a step that training never takes.
        moments: What of Adam's state the step starts from.
    """
    optimiser = terms.optimiser
    theta = optimiser.parameters.detach().clone().requires_grad_()
    before = terms.fit(theta)
    (fitting,) = torch.autograd.grad(before.sum(), theta)
    (guiding,) = torch.autograd.grad(terms.guide(theta).sum(), theta)
    if terms.longest is not None:
        guiding = clipped(guiding, terms.longest)
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
        return Conflict(direction, (terms.fit(moved).double() - before.double()))


@dataclass(frozen=True)
class Measurement:
    """Means over batches of one run.

    Attributes:
        run: Its ``run.json``.
        method: Its method.
        kind: The variant, for SPAR, with PROJ's guidance; else empty.
        dataset: Canonical id.
        setting: What tells it from others of its population, but for the seed.
        seed: Seed.
        steps: Updates that it was trained for.
        moments: What of Adam's state the steps started from.
        dd: DD.
        vsd: VSD.
    """

    run: str
    method: str
    kind: str
    dataset: str
    setting: str
    seed: int
    steps: int
    moments: Moments
    dd: float
    vsd: float


@dataclass(frozen=True)
class GradientConflict:
    """Measure how the guidance of trained policies conflicts with their fit (SPAR, Table 3).

    Runs of policies without guidance, such as SPAR's base policy, are left out, and so are those
    that were fine-tuned in an environment: the weights of their terms changed all the time.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files run.json that training wrote, or folders that are searched for them."""
    batches: int = 20
    """Batches to average over."""
    out: Path | None = None
    """JSON file to write, too."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own that the runs were trained on, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Prints a row per run and writes the file."""
        if self.batches < 1:
            raise ValueError(f"batches is {self.batches}; expected at least 1")
        for path in self.register:
            hetero_bench.register(path)
        runs = trained_runs(self.runs)
        offline = [each for each in runs if each.population.ledger.fine_tuning is None]
        found = list(measurements(offline, self.batches))
        show(found)
        lacking = len(offline) - len(found) // len(MOMENTS)
        if lacking:
            print(f"left out: {lacking} runs whose policies have no guidance, or no fit")
        if len(offline) < len(runs):
            print(f"left out: {len(runs) - len(offline)} runs that were fine-tuned")
        if self.out is not None:
            write_file(self.out, json.dumps([asdict(each) for each in found], indent=1) + "\n")


def measurements(runs: Sequence[TrainedRun], batches: int) -> Iterator[Measurement]:
    """Yields what is found of those runs whose policies have both terms.

    Args:
        runs: Trained runs.
        batches: How many batches, of fresh transitions.
    """
    populations = {id(each.population): each.population for each in runs}
    found = {key: measure(each.trainer, batches) for key, each in populations.items()}
    for each in runs:
        conflicts = found[id(each.population)].get(each.number)
        if conflicts is None:
            continue
        for moments, (dd, vsd) in conflicts.by_moments.items():
            yield Measurement(
                run=str(each.path),
                method=each.run.method,
                kind=conflicts.kind,
                dataset=each.member.dataset.id,
                setting=each.member.label,
                seed=each.run.seed,
                steps=each.population.plan.steps,
                moments=moments,
                dd=dd,
                vsd=vsd,
            )


class MemberConflicts(NamedTuple):
    """What guidance does to the fit of one member, means over batches."""

    kind: str
    by_moments: dict[Moments, tuple[float, float]]  # DD and VSD


def measure(trainer: Trainer, batches: int) -> dict[int, MemberConflicts]:
    """Returns what is found of each member, by its number.

    All ways to start Adam's step see the same batches and noise. Members whose policies do not have
    both terms are left out.

    Args:
        trainer: A population.
        batches: How many batches.
    """
    agent = trainer.agent
    if not isinstance(agent, GuidedAgent):
        return {}
    source = MemberRandom([0] * trainer.data.num_members, "conflict", trainer.data.device)
    kinds: dict[int, str] = {}
    sums: dict[int, np.ndarray] = {}
    for _ in range(batches):
        for each in agent.guided(trainer.data.sample(source, trainer.batch_size)):
            found = [torch.stack(gradient_conflict(each.terms, moments)) for moments in MOMENTS]
            of_members = torch.stack(found).movedim(-1, 0).cpu().numpy()
            for number, conflicts in zip(each.members, of_members, strict=True):
                kinds[number] = each.kind
                sums[number] = sums.get(number, 0.0) + conflicts
    return {
        number: MemberConflicts(
            kinds[number], dict(zip(MOMENTS, map(tuple, (total / batches).tolist()), strict=True))
        )
        for number, total in sums.items()
    }


def show(found: Sequence[Measurement]) -> None:
    """Prints one row per run and moments."""
    table = Table(title="Gradient conflict", title_justify="left")
    for name in ("method", "dataset", "setting", "seed", "Adam's moments", "DD", "VSD"):
        table.add_column(name, justify="right" if name in ("seed", "DD", "VSD") else "left")
    for each in found:
        method = f"{each.method} {each.kind}".strip()
        values = (f"{each.dd:.1e}", f"{each.vsd:.1e}")
        table.add_row(method, each.dataset, each.setting, str(each.seed), each.moments, *values)
    Console().print(table)
