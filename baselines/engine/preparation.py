"""What networks see of a dataset and of its environment.

Continuous actions are in [-1, 1] for networks, whatever the environment's bounds are; observations
may be normalised and rewards rescaled. A :class:`Frame` leads from an environment to what networks
see and back.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from hetero_bench import Dataset

ActionKind = Literal["discrete", "continuous"]

STD_OFFSET = 1e-3
"""Added to standard deviations of observations, as in TD3+BC: one that never varies stays small."""


@dataclass(frozen=True)
class Preparation:
    """What is done to a dataset before a member is trained on it.

    Attributes:
        normalise_observations: Subtract the mean of the dataset's observations and divide by their
            standard deviation plus ``STD_OFFSET``.
        reward_scale: Rewards are multiplied by this,
        reward_shift: and then this is added.
        best_fraction: Keep only the trajectories of the highest returns, so many that they have
            this share of the transitions.
    """

    normalise_observations: bool = False
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    best_fraction: float = 1.0


def as_configured(config: Any, dataset: Dataset) -> Preparation:
    """Returns what the fields of a config say that have the names of a preparation's."""
    return Preparation(
        normalise_observations=config.normalise_observations,
        reward_scale=config.reward_scale,
        reward_shift=config.reward_shift,
    )


@dataclass(frozen=True)
class Frame:
    """Between a member's environment and its networks.

    Attributes:
        mean: (*obs) float32 subtracted from observations.
        std: (*obs) float32 by which they are then divided.
        low: Lower end of the environment's actions, the networks' -1.
        high: Upper end, the networks' 1.
    """

    mean: Tensor
    std: Tensor
    low: float = -1.0
    high: float = 1.0

    def observe(self, observations: Tensor) -> Tensor:
        """Returns (..., *obs) what networks see of an environment's observations."""
        return (observations - self.mean) / self.std

    def act(self, actions: Tensor) -> Tensor:
        """Returns (..., act) an environment's actions for networks' actions in [-1, 1]."""
        half = 0.5 * (self.high - self.low)
        return (actions * half + (self.low + half)).clamp(self.low, self.high)

    def action_inputs(self, actions: np.ndarray) -> np.ndarray:
        """Returns (..., act) an environment's actions in the networks' [-1, 1]."""
        half = 0.5 * (self.high - self.low)
        return (actions - (self.low + half)) / half


def action_kind(dataset: Dataset) -> ActionKind:
    """Returns whether a dataset's actions are discrete or continuous."""
    return "discrete" if dataset.transitions.actions.dtype.kind in "iu" else "continuous"


def best_rows(dataset: Dataset, fraction: float) -> np.ndarray:
    """Returns the rows of the trajectories with the highest undiscounted returns.

    Args:
        dataset: The dataset.
        fraction: They have at least this share of the transitions, without the last of them less.

    Returns:
        (n,) int64 rows, in the dataset's order.
    """
    arrays = dataset.arrays
    returns = np.bincount(arrays.episode_ids, weights=arrays.rewards)
    lengths = np.bincount(arrays.episode_ids)
    best_first = np.argsort(-returns, kind="stable")
    before = np.cumsum(lengths[best_first]) - lengths[best_first]
    chosen = best_first[before < fraction * len(arrays.rewards)]
    return np.flatnonzero(np.isin(arrays.episode_ids, chosen))


def return_range(dataset: Dataset) -> float:
    """Returns the largest less the smallest undiscounted return of a dataset's trajectories.

    Raises:
        ValueError: If all are equal, so that nothing can be divided by it.
    """
    arrays = dataset.arrays
    returns = np.bincount(arrays.episode_ids, weights=arrays.rewards)
    width = float(returns.max() - returns.min())
    if width <= 0.0:
        raise ValueError(
            f"all {len(returns)} trajectories of {dataset.id} have the return {returns[0]:g}; "
            "rewards cannot be scaled by the range of returns. Choose a fixed scale."
        )
    return width


def frame_of(dataset: Dataset, preparation: Preparation) -> Frame:
    """Returns the statistics of a dataset's observations and the bounds of its actions."""
    observations = dataset.transitions.observations
    if preparation.normalise_observations:
        if preparation.best_fraction < 1.0:
            observations = observations[best_rows(dataset, preparation.best_fraction)]
        mean = observations.mean(axis=0, dtype=np.float64)
        std = observations.std(axis=0, dtype=np.float64) + STD_OFFSET
    else:
        mean, std = np.zeros(observations.shape[1:]), np.ones(observations.shape[1:])
    frame = Frame(torch.from_numpy(mean).float(), torch.from_numpy(std).float())
    action = dataset.spec.action
    if action is not None and action.low is not None and action.high is not None:
        frame = dataclasses.replace(frame, low=action.low, high=action.high)
    return frame


def prepared_columns(
    dataset: Dataset, preparation: Preparation, frame: Frame, *, discrete: bool
) -> dict[str, np.ndarray]:
    """Returns the columns of a batch for all of a dataset's transitions."""
    source = dataset.transitions
    columns = {
        "observations": np.asarray(source.observations, np.float32),
        "actions": np.asarray(source.actions, np.int64 if discrete else np.float32),
        "rewards": np.asarray(source.rewards, np.float32),
        "next_observations": np.asarray(source.next_observations, np.float32),
        "terminations": np.asarray(source.terminations),
        "truncations": np.asarray(source.truncations),
    }
    if preparation.normalise_observations:
        for name in ("observations", "next_observations"):
            columns[name] = (columns[name] - frame.mean.numpy()) / frame.std.numpy()
    if not discrete:
        columns["actions"] = _bounded(dataset, frame.action_inputs(columns["actions"]))
    columns["rewards"] = np.float32(preparation.reward_scale) * columns["rewards"] + np.float32(
        preparation.reward_shift
    )
    columns["has_next"] = ~(columns["terminations"] | columns["truncations"])
    following = np.roll(columns["actions"], -1, axis=0)
    following[~columns["has_next"]] = 0
    columns["next_actions"] = following
    if preparation.best_fraction < 1.0:
        rows = best_rows(dataset, preparation.best_fraction)
        columns = {name: column[rows] for name, column in columns.items()}
    return columns


def _bounded(dataset: Dataset, actions: np.ndarray) -> np.ndarray:
    """Returns float32 actions in [-1, 1]; small excesses, as from rounding, are cut off."""
    largest = float(np.abs(actions).max())
    if largest > 1.0 + 1e-3:
        raise ValueError(
            f"actions of {dataset.id} are up to {largest:.3g} times as far out as their bounds; "
            "state the action space's low and high when registering it (-1 and 1 by default)"
        )
    return actions.clip(-1.0, 1.0).astype(np.float32, copy=False)
