"""CAR's density models as policies (Table 3), and how likely actions are to them (Figure 2b)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import hetero_bench
from baselines import car
from baselines.engine import TrainedRun, trained_runs
from baselines.engine.evaluation import evaluate_member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from hetero_bench.atomic import write_file

SHARES = (0.5, 0.95, 1.0)
"""Quantiles of energies that are shown: the median, the 95% one and the largest."""


@dataclass(frozen=True)
class Measurement:
    """What is found of one run.

    Attributes:
        run: Its file.
        method: Its method, ``car`` or ``car_g``.
        dataset: Canonical id.
        seed: Its seed.
        scores: Mean normalised score in percent by actor: ``policy``, ``behaviour``, ``mix``.
        energies: Quantiles (``SHARES``) of energies, by ``<actions>, <model>``.
        threshold: ε_ood.
        accepted: Share of the policy's actions that are in support.
    """

    run: str
    method: str
    dataset: str
    seed: int
    scores: dict[str, float]
    energies: dict[str, tuple[float, ...]]
    threshold: float
    accepted: float


@dataclass(frozen=True)
class CarPolicies:
    """Evaluate the policy, the behaviour model and the mixed reference of trained CAR runs.

    Energies are those of the dataset's and of the policy's actions in the dataset's states, one
    sample of the latent variable each, or its mean if runs verify there; the less, the more likely
    the action.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files run.json that training wrote, or folders that are searched for them."""
    episodes: int | None = None
    """Episodes per evaluation; the dataset's number by default."""
    states: int = 10_000
    """States of the dataset at which energies are taken."""
    out: Path | None = None
    """JSON file to write, too."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own that the runs were trained on, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Measures and shows."""
        for path in self.register:
            hetero_bench.register(path)
        measurements = measure(trained_runs(self.runs), self.episodes, self.states)
        console = Console()
        console.print(score_table(measurements))
        console.print(energy_table(measurements))
        if self.out is not None:
            text = json.dumps([asdict(each) for each in measurements], indent=1)
            write_file(self.out, text + "\n")


def measure(
    runs: Sequence[TrainedRun], episodes: int | None = None, states: int = 10_000
) -> list[Measurement]:
    """Evaluates the three actors of every run and takes its energies.

    Args:
        runs: Trained runs of CAR or CAR-G.
        episodes: Per evaluation; None for the dataset's number.
        states: How many of the dataset's states energies are taken at.

    Raises:
        ValueError: If a run is of another method.
    """
    for each in runs:
        if each.population.plan.method.agent is not car.Agent:
            raise ValueError(f"{each.path} is a run of {each.run.method}; expected one of CAR")
    energies = {
        population.path: action_energies(population.trainer, states)
        for population in {id(each.population): each.population for each in runs}.values()
    }
    return [_measurement(each, energies[each.population.path], episodes) for each in runs]


@torch.no_grad()
def action_energies(trainer: Trainer, states: int) -> dict[str, Tensor]:
    """Returns (P, states) energies by actions (data, policy) and model (behaviour, mix).

    Args:
        trainer: A population of CAR.
        states: How many of the dataset's states.
    """
    agent, seeds = trainer.agent, range(trainer.data.num_members)
    assert isinstance(agent, car.Agent)
    batch = trainer.data.sample(MemberRandom(seeds, "states"), states)
    policy = agent.td3.policy(batch.observations).tanh()
    noise = MemberRandom(seeds, "latents").normal(states, agent.behaviour.noise_size)
    if agent.verify_at_mean:
        noise.zero_()
    return {
        f"{name}, {model}": density.of_policy(batch.observations, actions, noise)
        for name, actions in (("data", batch.actions), ("policy", policy))
        for model, density in (("behaviour", agent.behaviour), ("mix", agent.mix))
    }


def _measurement(
    trained: TrainedRun, energies: dict[str, Tensor], episodes: int | None
) -> Measurement:
    agent, member, number = trained.population.trainer.agent, trained.member, trained.number
    assert isinstance(agent, car.Agent)
    steps = trained.population.plan.steps
    scores = {}
    for name, actor in {"policy": agent.actor(number), **agent.reference_actors(number)}.items():
        record = evaluate_member(member, actor, steps, episodes)
        scores[name] = float(member.dataset.spec.normalized_score(record.returns).mean())
    own = {name: values[number] for name, values in energies.items()}
    accepted = car.in_support(own["policy, behaviour"], agent.threshold[number])
    return Measurement(
        run=str(trained.path),
        method=trained.run.method,
        dataset=member.dataset.id,
        seed=member.seed,
        scores=scores,
        energies={
            name: tuple(values.quantile(values.new_tensor(SHARES)).tolist())
            for name, values in own.items()
        },
        threshold=float(agent.threshold[number]),
        accepted=float(accepted.float().mean()),
    )


def score_table(measurements: Sequence[Measurement]) -> Table:
    """Returns a table of scores, with a row per run."""
    shown = Table(title="scores, and actions in support", title_justify="left")
    shown.add_column("dataset", overflow="fold")
    for name in ("seed", *measurements[0].scores, "accepted", "ε_ood"):
        shown.add_column(name, justify="right")
    for each in measurements:
        scores = [f"{score:.1f}" for score in each.scores.values()]
        facts = f"{each.accepted:.0%}", f"{each.threshold:.3g}"
        shown.add_row(each.dataset, str(each.seed), *scores, *facts)
    return shown


def energy_table(measurements: Sequence[Measurement]) -> Table:
    """Returns a table of energies, with a row per run, actions and model."""
    shown = Table(title="energies", title_justify="left")
    shown.add_column("dataset", overflow="fold")
    for name in ("seed", "actions, model", "median", "95%", "largest"):
        shown.add_column(name, justify="right")
    for each in measurements:
        for name, values in each.energies.items():
            quantiles = [f"{value:.3g}" for value in values]
            shown.add_row(each.dataset, str(each.seed), name, *quantiles)
    return shown
