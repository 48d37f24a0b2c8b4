"""How far trained policies are from the behaviour, state by state (ReDS, Table 3).

Singh et al., "ReDS: Offline RL With Heteroskedastic Datasets via Support Constraints", NeurIPS
2023, measure a dataset's heteroskedasticity as standard deviation and maximum, over the dataset's
states, of D(π, β)(s) with the policy π of a CQL run. The same measure of ρ, the distribution under
which CQL (ReDS) pushes Q down, has KL(ρ ‖ β), which tells whether ρ stayed within the data.

All three are Gaussians before a tanh, which cancels. β is what the dataset recorded if it did so
before a tanh and one policy collected it (locomotion), and is otherwise fitted to the actions
(AntMaze: what is recorded there is before clipping, and depends on the waypoint, which no learner
sees). Where several policies collected (medium-expert), a row's record is that of one of them, but
β(a|s) is their mixture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines import cql, reds
from baselines.engine import TrainedRun, trained_runs
from baselines.parts.policies import GaussianActor
from hetero_bench.atomic import write_file
from hetero_bench.heteroskedasticity import (
    BehaviourSource,
    ContinuousHeteroskedasticity,
    continuous_heteroskedasticity,
)
from hetero_bench.heteroskedasticity.policies import (
    GaussianPolicy,
    collecting_policies,
    has_exact_behaviour,
)


@dataclass(frozen=True)
class Diagnostic:
    """Measure D(π, β) and KL(π ‖ β) of trained runs of CQL and CQL (ReDS), of ρ too."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files run.json that training wrote, or folders that are searched for them."""
    behaviour: BehaviourSource | None = None
    """Where β comes from: exact, as recorded, or fitted; by default exact if recorded before a
    tanh, of one policy."""
    seed: int = 0
    """Of the fit of β."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own that the runs were trained on, as for train."""
    out: Path | None = None
    """JSON file to write, too."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Measures and shows."""
        for path in self.register:
            hetero_bench.register(path)
        measurements = measure(trained_runs(self.runs), self.behaviour, self.seed)
        Console().print(*tables(measurements))
        if self.out is not None:
            documents = [each.to_dict() for each in measurements]
            write_file(self.out, json.dumps(documents, indent=1) + "\n")


@dataclass(frozen=True)
class Measurement:
    """What is found of one run.

    Attributes:
        run: Its file.
        method: Name of its method.
        seed: Its seed.
        of: ``policy`` or ``rho``.
        measures: Of the dataset against this policy.
    """

    run: str
    method: str
    seed: int
    of: str
    measures: ContinuousHeteroskedasticity

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain JSON values."""
        facts = {name: getattr(self, name) for name in ("run", "method", "seed", "of")}
        return {**facts, **self.measures.to_dict()}


def measure(
    runs: Sequence[TrainedRun], behaviour: BehaviourSource | None = None, seed: int = 0
) -> list[Measurement]:
    """Measures the policy of every run, and ρ where there is one.

    Args:
        runs: Trained runs of CQL or CQL (ReDS).
        behaviour: See :func:`policy_heteroskedasticity`.
        seed: Of the fit of β.

    Raises:
        ValueError: If a run is of a method without a tanh-Gaussian policy.
    """
    return [
        Measurement(
            run=str(each.path),
            method=each.run.method,
            seed=each.member.seed,
            of=name,
            measures=policy_heteroskedasticity(each.member.dataset, actor, behaviour, seed),
        )
        for each in runs
        for name, actor in gaussian_actors(each).items()
    ]


def gaussian_actors(trained: TrainedRun) -> dict[str, GaussianActor]:
    """Returns the tanh-Gaussians of a run, ``policy`` and, if it has one, ``rho``.

    Raises:
        ValueError: If its policy is not a tanh-Gaussian.
    """
    agent, number = trained.population.trainer.agent, trained.number
    if not isinstance(agent, cql.Agent | reds.Agent):
        raise ValueError(f"{trained.path} is a run of {trained.run.method}; expected cql or reds")
    found = {"policy": agent.gaussian_actor(number)}
    if isinstance(agent, reds.Agent) and agent.rho is not None:
        found["rho"] = agent.rho.gaussian_actor(number)
    return found


def policy_heteroskedasticity(
    dataset: hetero_bench.Dataset,
    actor: GaussianActor,
    behaviour: BehaviourSource | None = None,
    seed: int = 0,
) -> ContinuousHeteroskedasticity:
    """Measures a dataset against a tanh-Gaussian policy.

    Args:
        dataset: What the policy was trained on, or another one with its observations and actions.
        actor: The policy.
        behaviour: ``exact`` or ``fitted``; by default exact if recorded before a tanh, and the
            recipe names one policy.
        seed: Of the fit.
    """
    if behaviour is None:
        known = collecting_policies(dataset.spec) == 1 and has_exact_behaviour(dataset, "tanh")
        behaviour = "exact" if known else "fitted"
    return continuous_heteroskedasticity(
        dataset, before_tanh(actor), behaviour=behaviour, squash="tanh", seed=seed
    )


def before_tanh(actor: GaussianActor) -> GaussianPolicy:
    """Returns a tanh-Gaussian policy as the Gaussian before the tanh, waypoints left aside."""

    def policy(
        observations: np.ndarray, waypoints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            mean, log_std = actor.heads(torch.from_numpy(np.array(observations, np.float32)))
        return mean.double().numpy(), log_std.double().exp().numpy()

    return policy


def tables(measurements: Sequence[Measurement]) -> list[Table]:
    """Returns a table per dataset with a row per policy; ``log std`` is that of log(1 + D)."""
    shown: dict[str, Table] = {}
    for each in measurements:
        found = each.measures
        title = f"D(π, β)(s) on {found.dataset_id}, β {found.behaviour}"
        if title not in shown:
            shown[title] = Table("π", title=title, title_justify="left")
            for name in ("seed", "std", "max", "D = ∞", "log std", "KL(π ‖ β)"):
                shown[title].add_column(name, justify="right")
        shown[title].add_row(
            f"{each.method} {each.of}",
            str(each.seed),
            *(f"{value:.3g}" for value in (found.std, found.maximum)),
            f"{found.infinite:.1%}",
            *(f"{value:.3g}" for value in (found.log_summary.std, found.kl_summary.mean)),
        )
    return list(shown.values())
