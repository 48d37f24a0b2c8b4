"""How far from the dataset's actions a policy's are: SPAR's kNN support-distance ratio (Figure 3).

Zhao, Pan, Liang and Lin, "SPAR: Support-Preserving Action Rectification", arXiv 2605.27877, 2026.
With d(a) the mean distance of an action to its k nearest actions of the dataset,

    ratio = q95( d(π(s_i)) ) / q95( d(a_i) )        over states s_i of the dataset.

An action of the dataset is none of its own neighbours, and what a policy does in state s_i is not
compared with a_i either, so that a policy that repeats the dataset has a ratio of 1. Distances are
in the environment's units, whatever the state. The paper does not state k, which is 10 here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines.engine import Actor, TrainedRun, trained_runs
from baselines.engine.preparation import action_kind
from hetero_bench.atomic import write_file

NEIGHBOURS = 10
QUANTILE = 0.95


def neighbour_distances(
    points: np.ndarray, support: np.ndarray, left_out: np.ndarray, neighbours: int = NEIGHBOURS
) -> np.ndarray:
    """Returns the (n,) mean distances of points to their nearest neighbours in a support.

    Args:
        points: (n, d).
        support: (N, d).
        left_out: (n,) for each point a row of the support that is no neighbour of it.
        neighbours: k.

    Raises:
        ValueError: If the support has too few rows.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(support) <= neighbours:
        raise ValueError(f"{len(support)} actions; expected more than {neighbours} neighbours")
    search = NearestNeighbors(n_neighbors=neighbours + 1).fit(support)
    distances, rows = search.kneighbors(points)
    own = rows == left_out[:, None]
    own[~own.any(1), -1] = True  # not among the nearest: the farthest of k + 1 goes
    return distances[~own].reshape(len(points), neighbours).mean(1)


def support_ratio(
    generated: np.ndarray, actions: np.ndarray, rows: np.ndarray, neighbours: int = NEIGHBOURS
) -> float:
    """Returns the q95 kNN support-distance ratio of a policy's actions.

    Args:
        generated: (n, act) what the policy does in the states of some rows of the dataset.
        actions: (N, act) all actions of the dataset.
        rows: (n,) these rows.
        neighbours: k.

    Raises:
        ValueError: If the dataset's actions are all repeated, so that they have no distance.
    """
    ours, theirs = (
        np.quantile(neighbour_distances(points, actions, rows, neighbours), QUANTILE)
        for points in (generated, actions[rows])
    )
    if theirs == 0.0:
        raise ValueError(
            f"{QUANTILE:.0%} of the actions are among more than {neighbours} equal ones; expected "
            "actions that have a distance to their neighbours"
        )
    return float(ours / theirs)


def measure(
    actor: Actor,
    dataset: hetero_bench.Dataset,
    *,
    states: int = 10_000,
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> float:
    """Returns the support ratio of a policy in states of its dataset.

    Args:
        actor: The policy.
        dataset: Its dataset, of continuous actions.
        states: How many states, at most; they are drawn without replacement.
        neighbours: k.
        seed: Of the states and the policy's noise.

    Raises:
        ValueError: If actions are discrete.
    """
    transitions, rng = dataset.transitions, np.random.default_rng(seed)
    if transitions.actions.dtype.kind in "iu":
        raise ValueError(f"{dataset.id} has discrete actions; distances need continuous ones")
    rows = rng.permutation(len(dataset))[:states]
    observations = np.asarray(transitions.observations[rows], np.float32)
    noise = rng.standard_normal((len(rows), actor.noise_size), np.float32)
    with torch.inference_mode():
        generated = actor(torch.from_numpy(observations), torch.from_numpy(noise)).numpy()
    return support_ratio(generated, np.asarray(transitions.actions), rows, neighbours)


@dataclass(frozen=True)
class Measurement:
    """What is found of one run."""

    run: str
    method: str
    dataset: str
    setting: str
    seed: int
    ratio: float


@dataclass(frozen=True)
class SupportRatio:
    """Measure how far trained policies' actions are from those of their dataset.

    1 is as far as the dataset's actions are from each other, at their 95% quantile. Runs with
    discrete actions are left out.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files run.json that training wrote, or folders that are searched for them."""
    states: int = 10_000
    """States of the dataset in which policies are asked."""
    neighbours: int = NEIGHBOURS
    """k."""
    out: Path | None = None
    """JSON file to write, too."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own that the runs were trained on, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Prints a table and writes the file."""
        for path in self.register:
            hetero_bench.register(path)
        runs = trained_runs(self.runs)
        continuous = [each for each in runs if action_kind(each.member.dataset) == "continuous"]
        found = [self._measured(each) for each in continuous]
        show(found)
        if len(continuous) < len(runs):
            print(f"left out: {len(runs) - len(continuous)} runs with discrete actions")
        if self.out is not None:
            write_file(self.out, json.dumps([asdict(each) for each in found], indent=1).encode())

    def _measured(self, trained: TrainedRun) -> Measurement:
        run, member = trained.run, trained.member
        ratio = measure(
            trained.actor(),
            member.dataset,
            states=self.states,
            neighbours=self.neighbours,
            seed=run.seed,
        )
        path, where = str(trained.path), member.dataset.id
        return Measurement(path, run.method, where, member.label, run.seed, ratio)


def show(found: Sequence[Measurement]) -> None:
    """Prints one row per run."""
    table = Table("method", "dataset", "setting", "seed", "support ratio")
    for each in found:
        cells = (each.method, each.dataset, each.setting, str(each.seed), f"{each.ratio:.2f}")
        table.add_row(*cells)
    Console().print(table)
