"""The numbers behind the page: made from the sweep's results, kept beside the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

import hetero_bench
from baselines import tabular
from baselines.gridworld import Maze
from baselines.reproduce.reds_gridworld import sweep
from baselines.reproduce.reds_gridworld.exact import TOLERANCE, Exact, solve
from baselines.reproduce.reds_gridworld.results import Cell, Setting, best, read_cells, select
from baselines.reproduce.reds_gridworld.trained import (
    Fate,
    TrainedPolicies,
    fate,
    trained_policies,
)
from hetero_bench.heteroskedasticity import tabular_behaviour, tabular_heteroskedasticity

PATIENCE = 1_000
"""Steps that show whether a policy is stuck or slow."""
OPTIMAL, TRAINED = "optimal", "cql"
"""Policies whose divergence from the data is measured: the optimal one, and CQL's best."""


class Divergence(BaseModel):
    """How far a policy is from a dataset's behaviour, and how unevenly.

    Attributes:
        dataset: Canonical id.
        policy: ``optimal``, or ``cql``: the mean policy over seeds of its best setting.
        c_diff: Differential concentrability.
        std: Standard deviation of D over the dataset's rows.
        maximum: Largest D.
        divergence: (S,) D(π, β)(s); None where the data has no row.
        state_distribution: (S,) share of the dataset's rows.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    policy: str
    c_diff: float
    std: float
    maximum: float
    divergence: tuple[float | None, ...]
    state_distribution: tuple[float, ...]

    @property
    def by_state(self) -> np.ndarray:
        """(S,) D(π, β)(s), NaN where the data has no row."""
        return np.array([np.nan if each is None else each for each in self.divergence])


class OnDataset(BaseModel):
    """More about CQL on one dataset at one α of Figure 2.

    Attributes:
        dataset: Canonical id.
        alpha: α.
        exact: Success of the exact tabular version.
        patient: Success of the trained policies if episodes had ``PATIENCE`` steps; mean.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    alpha: float
    exact: float
    patient: float


class Findings(BaseModel):
    """The reproduction's results.

    Attributes:
        dataset: Canonical id of the heteroskedastic dataset.
        figure_2: Canonical ids of the paper's Figure 2's datasets, in its order.
        steps: Gradient steps by method.
        episodes: Episodes of the final evaluation.
        populations: How many were trained.
        cells: All settings.
        exact: The tabular counterparts.
        fates: What becomes of the policies on the heteroskedastic dataset.
        occupancies: Share of the time in each state, by setting.
        divergences: Of the optimal policy, and of CQL's best, from each dataset.
        on_datasets: More about CQL on Figure 2's datasets and the heteroskedastic one.
    """

    dataset: str
    figure_2: tuple[str, ...]
    steps: dict[str, int]
    episodes: int
    populations: int
    cells: tuple[Cell, ...]
    exact: Exact
    fates: tuple[Fate, ...]
    occupancies: tuple[tuple[Setting, tuple[float, ...]], ...]
    divergences: tuple[Divergence, ...]
    on_datasets: tuple[OnDataset, ...]

    def fate(self, setting: Setting) -> Fate:
        """Returns the fate of one setting's policies."""
        return next(each for each in self.fates if each.setting == setting)

    def occupancy(self, setting: Setting) -> np.ndarray:
        """Returns (S,) the share of the time that one setting's policies spend in each state."""
        return np.array(next(each for other, each in self.occupancies if other == setting))

    def divergence(self, dataset: str, policy: str = OPTIMAL) -> Divergence:
        """Returns one policy's divergence from one dataset."""
        return next(
            each for each in self.divergences if (each.dataset, each.policy) == (dataset, policy)
        )

    @property
    def seeds(self) -> int:
        """Seeds per setting."""
        return len(self.cells[0].seeds)

    @property
    def members(self) -> int:
        """Policies trained."""
        return sum(len(cell.seeds) for cell in self.cells)

    @property
    def core_minutes(self) -> float:
        """Time of all populations added up, each trained and evaluated by one process."""
        return sum(cell.seconds for cell in self.cells) / 60.0


def analyse(out: Path, arms: Sequence[sweep.Arm], seeds: Sequence[int]) -> Findings:
    """Reads and analyses a finished sweep.

    Args:
        out: Its folder.
        arms: Its parts.
        seeds: Its seeds.
    """
    dataset = hetero_bench.load(sweep.DATASET)
    others = [hetero_bench.load(name) for name in sweep.FIGURE_2_DATASETS]
    cells = read_cells(out, arms)
    maze = Maze.of(dataset)
    behaviour = tabular_behaviour(dataset).probabilities
    policies = {
        each.setting: each for arm in arms for each in trained_policies(arm, out, seeds, maze)
    }
    divergences, on_datasets = [], []
    for each in (*others, dataset):
        on_datasets += _on_dataset(each, policies)
        chosen = best(select(cells, dataset=each.id, method="cql"))
        trained = policies[chosen.setting].probabilities.mean(axis=0)
        divergences += [_divergence(each), _divergence(each, TRAINED, trained)]
    own = [each for each in policies.values() if each.setting.dataset == dataset.id]
    return Findings(
        dataset=dataset.id,
        figure_2=tuple(each.id for each in others),
        steps={arm.method: arm.steps for arm in arms},
        episodes=dataset.spec.evaluation_episodes or 0,
        populations=sum(1 for arm in arms for _ in arm.jobs(out, seeds)),
        cells=tuple(cells),
        exact=solve(dataset),
        fates=tuple(fate(each, maze, behaviour) for each in own),
        occupancies=tuple(
            (each.setting, tuple(float(f"{share:.3g}") for share in each.occupancy)) for each in own
        ),
        divergences=tuple(divergences),
        on_datasets=tuple(on_datasets),
    )


def _on_dataset(
    dataset: hetero_bench.Dataset, policies: Mapping[Setting, TrainedPolicies]
) -> list[OnDataset]:
    maze = Maze.of(dataset)
    solution = tabular.cql(
        maze.mdp,
        tabular_behaviour(dataset).probabilities,
        alpha=sweep.FIGURE_2_ALPHAS,
        temperature=sweep.TEMPERATURE,
        tolerance=TOLERANCE,
    )
    patient = dataclasses.replace(maze, horizon=PATIENCE)
    found = []
    for alpha, policy in zip(sweep.FIGURE_2_ALPHAS, solution.policy, strict=True):
        setting = Setting(
            method="cql", dataset=dataset.id, alpha=alpha, temperature=sweep.TEMPERATURE
        )
        successes = patient.visitation(policies[setting].probabilities).successes
        found.append(
            OnDataset(
                dataset=dataset.id,
                alpha=alpha,
                exact=maze.success(policy),
                patient=float(successes.mean()),
            )
        )
    return found


def _divergence(
    dataset: hetero_bench.Dataset, name: str = OPTIMAL, policy: np.ndarray | None = None
) -> Divergence:
    measured = tabular_heteroskedasticity(dataset, policy)
    return Divergence(
        dataset=dataset.id,
        policy=name,
        c_diff=measured.c_diff,
        std=measured.std,
        maximum=measured.maximum,
        divergence=tuple(
            None if math.isnan(value) else float(f"{value:.6g}") for value in measured.divergence
        ),
        state_distribution=tuple(float(f"{each:.6g}") for each in measured.state_distribution),
    )
