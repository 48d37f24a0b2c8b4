"""The sweep's outcome: for every setting, the share of episodes that each seed solved."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from baselines.reproduce.reds_gridworld import sweep
from hetero_bench.bootstrap import Interval, percentiles, resampled_weights
from hetero_bench.runs import Run, read_runs
from hetero_bench.scoring import Scores

BOOTSTRAP_SEED = 0
RESAMPLES = 10_000
SOLVED = 0.5
"""A seed solves the task if at least this share of its episodes reaches the goal."""
MAXIMUM_RETURN = 1.0
SUCCEEDING_SEEDS = 0.8
"""A setting succeeds if at least this share of its seeds solves the task: 8 of 10."""


class Setting(BaseModel):
    """A method's hyperparameters in units of reward, so that reward scales can be compared.

    Attributes:
        method: Name of the method.
        dataset: Canonical id of its dataset.
        alpha: α of CQL and ReDS.
        tau: τ of ReDS.
        temperature: T of CQL's and ReDS's softmax; AWR's T, in standard deviations.
        rho_term: What stands for ReDS's E_ρ[Q].
        reward_scale: What rewards were multiplied by.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    dataset: str
    alpha: float | None = None
    tau: float | None = None
    temperature: float | None = None
    rho_term: str | None = None
    reward_scale: float = 1.0

    @classmethod
    def of(cls, method: str, dataset: str, config: Mapping[str, Any]) -> Setting:
        """Reads the setting of a run's config, which is in units of scaled reward."""
        scale = config.get("reward_scale", 1.0)
        units = {"alpha": scale, "tau": scale, "temperature": 1.0 if method == "awr" else scale}
        in_rewards = {
            name: float(f"{config[name] / unit:.12g}")
            for name, unit in units.items()
            if name in config
        }
        return cls(
            method=method,
            dataset=dataset,
            rho_term=config.get("rho_term"),
            reward_scale=scale,
            **in_rewards,
        )


class Cell(BaseModel):
    """One setting of the sweep.

    Attributes:
        arm: The part of the sweep that it belongs to.
        setting: Its hyperparameters.
        seeds: Its seeds, ascending.
        rates: Share of the final evaluation's episodes that reached the goal, per seed.
        values: Mean of Q over the data's actions at the end of training, in units of reward, per
            seed; empty for methods without Q. No policy earns more than 1.
        diverged: Seeds that became non-finite.
        seconds: Training time, shared evenly among the members of a population.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    arm: str
    setting: Setting
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    values: tuple[float, ...] = ()
    diverged: int = 0
    seconds: float = 0.0

    @property
    def runaway(self) -> int:
        """Seeds whose Q is larger than any policy can earn."""
        return sum(not value <= MAXIMUM_RETURN for value in self.values)

    @property
    def solved(self) -> int:
        """Seeds that solve the task."""
        return sum(rate >= SOLVED for rate in self.rates)

    @property
    def succeeds(self) -> bool:
        """Whether enough of the seeds solve the task."""
        return self.solved >= math.ceil(SUCCEEDING_SEEDS * len(self.rates) - 1e-9)

    @property
    def success(self) -> Interval:
        """Mean over seeds, with its bootstrap interval."""
        return mean_interval(np.array(self.rates))


def mean_interval(values: np.ndarray) -> Interval:
    """Returns the mean of (seeds,) values with its bootstrap interval; one seed has none."""
    low, high = percentiles(seed_weights(len(values)) @ values)
    if len(values) < 2:
        low = high = math.nan
    return Interval(float(values.mean()), float(low), float(high))


def difference(first: Cell, second: Cell) -> Interval:
    """Returns the first cell's mean success minus the second's."""
    return mean_interval(paired_differences(first, second))


def paired_differences(first: Cell, second: Cell) -> np.ndarray:
    """Returns (seeds,) the first cell's success minus the second's, seed by seed.

    Raises:
        ValueError: If the cells have different seeds.
    """
    if first.seeds != second.seeds:
        raise ValueError(f"seeds {first.seeds} and {second.seeds} differ; expected the same")
    return np.array(first.rates) - np.array(second.rates)


def seed_weights(seeds: int) -> np.ndarray:
    """Returns (R, seeds) bootstrap weights; each row sums to 1.

    Every setting is resampled with the same ones: equal seeds share initial weights and batches,
    so settings are compared seed by seed.
    """
    return resampled_weights(
        Scores([np.zeros(seeds)]), np.random.default_rng(BOOTSTRAP_SEED), RESAMPLES
    )


def read_cells(out: Path, arms: Sequence[sweep.Arm]) -> list[Cell]:
    """Reads the run records of a sweep.

    Args:
        out: The sweep's folder.
        arms: Its parts.

    Raises:
        FileNotFoundError: If a part has no results.
        ValueError: If a record has no successes.
    """
    cells = []
    for arm in arms:
        groups: dict[Setting, list[Run]] = defaultdict(list)
        for _, run in read_runs(out / arm.name):
            groups[Setting.of(run.method, run.dataset.id, run.config)].append(run)
        for setting, runs in groups.items():
            runs.sort(key=lambda run: run.seed)
            cells.append(
                Cell(
                    arm=arm.name,
                    setting=setting,
                    seeds=tuple(run.seed for run in runs),
                    rates=tuple(map(_success_rate, runs)),
                    values=tuple(_final_values(run) for run in runs if "q_data" in run.metrics),
                    diverged=sum(run.status == "diverged" for run in runs),
                    seconds=sum(run.budget.wall_seconds / run.budget.members for run in runs),
                )
            )
    return cells


def _final_values(run: Run) -> float:
    _, value = run.metrics["q_data"][-1]
    return math.inf if value is None else value / run.config["reward_scale"]


def _success_rate(run: Run) -> float:
    successes = run.evaluations[-1].successes
    if successes is None:
        raise ValueError(f"a run of {run.method} on {run.dataset.id} has no successes")
    return float(np.mean(successes))


def select(cells: Iterable[Cell], **fields: Any) -> list[Cell]:
    """Returns the cells whose settings have these fields, in the order of α, then of T."""
    found = [
        cell
        for cell in cells
        if all(getattr(cell.setting, name) == value for name, value in fields.items())
    ]
    return sorted(found, key=lambda cell: (cell.setting.alpha or 0, cell.setting.temperature or 0))


def best(cells: Iterable[Cell]) -> Cell:
    """Returns the cell with the highest mean success.

    Of equal ones it is the one with the largest α, the most conservative; then the one nearest to
    the sweep's default in the rest.
    """

    def rank(cell: Cell) -> tuple[float, ...]:
        setting = cell.setting
        usual = (
            setting.rho_term in (None, "mean"),
            setting.reward_scale == 1.0,
            setting.temperature == sweep.TEMPERATURE,
            setting.tau in (None, sweep.TAU),
        )
        return round(cell.success.estimate, 9), setting.alpha or 0.0, sum(usual)

    return max(cells, key=rank)
