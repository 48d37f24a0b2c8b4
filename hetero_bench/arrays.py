"""The flat episode layout: what sources return, the cache stores and datasets are read from.

An offline dataset of ``N`` transitions in ``E`` episodes::

    row                0    1    2  |  3    4  |  ...  N-1
    episode_ids        0    0    0  |  1    1  |  ...  E-1
    observations      s0   s1   s2  | s0   s1  |  ...
    actions           a0   a1   a2  | a0   a1  |  ...
    truncations/       -    -    T  |  -    T  |  ...    T    <- every episode's last row only
    terminations
    final_observations          s3  |       s2 |  ...         <- one per episode: the true successor

Observations are stored once. ``next_observations`` is ``observations`` shifted by one row, with
``final_observations`` put in at the episode ends, so that it is the true successor everywhere, at
a truncation too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ROW_ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations", "episode_ids")
"""Names of the arrays with one entry per transition that every dataset has."""


@dataclass(frozen=True, slots=True)
class EpisodeArrays:
    """Transitions of whole episodes in flat arrays.

    Attributes:
        observations: (N, *obs) observation before each step.
        actions: (N, *act) action taken; (N,) int64 for a discrete action space.
        rewards: (N,) float32, the environment's raw reward.
        terminations: (N,) bool; bootstrapping stops here.
        truncations: (N,) bool; the episode ends here, bootstrapping does not.
        episode_ids: (N,) int32, counting up from 0 without gaps.
        final_observations: (E, *obs) true successor of each episode's last row.
        extras: further per-row arrays, for example ``behaviour_probabilities`` (N, A).
        notes: JSON facts about how the arrays came about, shown in the dataset's card.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    episode_ids: np.ndarray
    final_observations: np.ndarray
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def num_transitions(self) -> int:
        """Number of rows ``N``."""
        return len(self.observations)

    @property
    def num_episodes(self) -> int:
        """Number of episodes ``E``."""
        return len(self.final_observations)

    def named(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (name, array) for every stored array; extras are named ``extras.<name>``."""
        for name in (*ROW_ARRAYS, "final_observations"):
            yield name, getattr(self, name)
        for name in sorted(self.extras):
            yield f"extras.{name}", self.extras[name]

    @classmethod
    def from_named(
        cls, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]
    ) -> EpisodeArrays:
        """Rebuilds the arrays from the names that :meth:`named` gives."""
        required = {name: arrays[name] for name in (*ROW_ARRAYS, "final_observations")}
        extras = {
            name.removeprefix("extras."): array
            for name, array in arrays.items()
            if name.startswith("extras.")
        }
        return cls(**required, extras=extras, notes=dict(notes))

    def episode_starts(self) -> np.ndarray:
        """Returns (E + 1,) int64 offsets: episode ``e`` is rows ``[starts[e], starts[e+1])``."""
        counts = np.bincount(self.episode_ids, minlength=self.num_episodes)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def next_observations(self) -> np.ndarray:
        """Returns (N, *obs) true successors, materialised."""
        successors = np.empty_like(self.observations)
        successors[:-1] = self.observations[1:]
        successors[self.episode_starts()[1:] - 1] = self.final_observations
        return successors

    def validate(self) -> None:
        """Checks shapes, dtypes and the episode structure.

        Raises:
            ValueError: If an array breaks the layout; the message names array and row.
        """
        rows = self.num_transitions
        if rows == 0:
            raise ValueError("the dataset has no transitions; expected at least one")
        for name, array in self.named():
            if name != "final_observations" and len(array) != rows:
                raise ValueError(f"{name} has {len(array)} rows; expected {rows} as observations")
        for name, kinds, words in (
            ("rewards", "f", "floating-point numbers"),
            ("terminations", "b", "bool"),
            ("truncations", "b", "bool"),
            ("episode_ids", "iu", "integers"),
        ):
            array = getattr(self, name)
            if array.ndim != 1:
                raise ValueError(f"{name} has shape {array.shape}; expected one per row, ({rows},)")
            if array.dtype.kind not in kinds:
                raise ValueError(f"{name} has dtype {array.dtype}; expected {words}")
        steps = np.diff(self.episode_ids.astype(np.int64))
        if self.episode_ids[0] != 0 or np.any((steps != 0) & (steps != 1)):
            raise ValueError("episode_ids must start at 0 and count up without gaps")
        episodes = int(self.episode_ids[-1]) + 1
        if self.num_episodes != episodes:
            raise ValueError(
                f"final_observations has {self.num_episodes} rows; expected one per episode, "
                f"{episodes}"
            )
        if self.final_observations.shape[1:] != self.observations.shape[1:]:
            raise ValueError(
                f"final_observations have shape {self.final_observations.shape[1:]}; expected "
                f"{self.observations.shape[1:]} as observations"
            )
        is_last = np.append(steps == 1, True)
        ends = self.terminations | self.truncations
        wrong = np.flatnonzero(ends != is_last)
        if len(wrong):
            raise ValueError(
                f"row {wrong[0]}: an episode's last row, and no other, must be a termination or a "
                "truncation"
            )
        for name, array in self.named():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0, 0])
                raise ValueError(f"{name} is not finite in row {row}; drop or repair the episode")

    def take_episodes(self, episodes: np.ndarray, size: int) -> tuple[EpisodeArrays, np.ndarray]:
        """Takes whole episodes in the given order until ``size`` rows, cutting the last one.

        A cut episode is marked truncated; its final observation is the true successor of the row
        it was cut at.

        Args:
            episodes: (K,) episode numbers without repetition, in drawing order.
            size: Rows to take, at most those of the episodes given.

        Returns:
            The subset, and the (size,) int64 row numbers it was taken from.
        """
        starts = self.episode_starts()
        lengths = np.diff(starts)[episodes]
        used = int(np.searchsorted(np.cumsum(lengths), size)) + 1
        if used > len(episodes):
            raise ValueError(f"cannot take {size} rows from {int(lengths.sum())}")
        episodes, lengths = np.asarray(episodes)[:used], lengths[:used].copy()
        lengths[-1] -= int(lengths.sum()) - size
        new_starts = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.arange(size) + np.repeat(starts[episodes] - new_starts[:-1], lengths)

        truncations = self.truncations[rows]
        final_observations = self.final_observations[episodes]
        last = rows[-1]
        if last + 1 < starts[episodes[-1] + 1]:
            truncations[-1] = True
            final_observations[-1] = self.observations[last + 1]
        subset = EpisodeArrays(
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            terminations=self.terminations[rows],
            truncations=truncations,
            episode_ids=np.repeat(np.arange(used, dtype=np.int32), lengths),
            final_observations=final_observations,
            extras={name: array[rows] for name, array in self.extras.items()},
            notes=dict(self.notes),
        )
        return subset, rows


def digest_array(name: str, array: np.ndarray) -> str:
    """Returns the sha256 hex digest of an array's name, dtype, shape and little-endian bytes."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    header = json.dumps([name, little.dtype.str, list(little.shape)]).encode()
    digest = hashlib.sha256(header)
    digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def digest_arrays(arrays: EpisodeArrays) -> dict[str, str]:
    """Returns the sha256 digest of every stored array by name."""
    return {name: digest_array(name, array) for name, array in arrays.named()}


def dataset_digest(digests: Mapping[str, str]) -> str:
    """Returns one digest for a dataset: the sha256 over its arrays' digests in name order."""
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()
