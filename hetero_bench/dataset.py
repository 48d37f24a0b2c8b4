"""A loaded dataset: arrays, episodes, evaluation environment, card and provenance."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_arrays
from hetero_bench.errors import SizeError
from hetero_bench.provenance import Provenance
from hetero_bench.spec import DatasetSpec

if TYPE_CHECKING:
    import gymnasium
    import minari


class Episode(NamedTuple):
    """One trajectory of ``T`` steps.

    Attributes:
        observations: (T + 1, *obs), the true final observation included.
        actions: (T, *act).
        rewards: (T,) float32, raw.
        terminations: (T,) bool.
        truncations: (T,) bool.
        extras: Further per-step arrays (T, ...).
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    extras: dict[str, np.ndarray]

    def __len__(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Number of steps ``T``."""
        return len(self.rewards)


class Transitions:
    """The ``N`` transitions of a dataset as flat arrays.

    Memory-mapped, except ``next_observations``, which is put together in memory on first use.
    The layout is drawn in :mod:`hetero_bench.arrays`.
    """

    def __init__(self, arrays: EpisodeArrays) -> None:
        """Wraps arrays without copying them."""
        self._arrays = arrays

    def __len__(self) -> int:
        """Number of transitions ``N``."""
        return self._arrays.num_transitions

    @property
    def observations(self) -> np.ndarray:
        """(N, *obs) observation before each step."""
        return self._arrays.observations

    @property
    def actions(self) -> np.ndarray:
        """(N, *act) action taken; (N,) int64 for a discrete action space."""
        return self._arrays.actions

    @property
    def rewards(self) -> np.ndarray:
        """(N,) float32 raw rewards."""
        return self._arrays.rewards

    @cached_property
    def next_observations(self) -> np.ndarray:
        """(N, *obs) true successors, at a truncation too."""
        return self._arrays.next_observations()

    @property
    def terminations(self) -> np.ndarray:
        """(N,) bool; bootstrapping stops where True."""
        return self._arrays.terminations

    @property
    def truncations(self) -> np.ndarray:
        """(N,) bool; the episode ends where True, bootstrapping does not."""
        return self._arrays.truncations

    @property
    def episode_ids(self) -> np.ndarray:
        """(N,) int32 episode that each row belongs to."""
        return self._arrays.episode_ids

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}={getattr(self, name).shape}" for name in ("observations", "actions")
        )
        return f"Transitions({len(self):,} rows, {shapes})"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A dataset as :func:`hetero_bench.load` returns it.

    Attributes:
        spec: The manifest's table.
        arrays: The flat arrays, read-only and memory-mapped when loaded from the cache.
        provenance: Which source answered, the digest, and whether it is the release's data.
        size: The ``size`` asked of ``load``, None for the dataset as registered.
        draw: Which draw of a subset this is, None for a whole dataset.
        folder: Where the arrays lie in the cache, None for a dataset in memory.
    """

    spec: DatasetSpec
    arrays: EpisodeArrays
    provenance: Provenance
    size: int | None = None
    draw: int | None = None
    folder: Path | None = None
    transitions: Transitions = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "transitions", Transitions(self.arrays))

    @property
    def id(self) -> str:
        """Canonical id, version included."""
        return self.spec.id

    @property
    def extras(self) -> dict[str, np.ndarray]:
        """Further per-row arrays (N, ...), for example ``behaviour_probabilities``."""
        return self.arrays.extras

    def __len__(self) -> int:
        """Number of transitions ``N``."""
        return self.arrays.num_transitions

    def __repr__(self) -> str:
        drawn = "" if self.draw is None else f", draw {self.draw}"
        return (
            f"<Dataset {self.id}: {len(self):,} transitions, {self.arrays.num_episodes:,} "
            f"episodes{drawn}, {self.provenance.status}>"
        )

    def episodes(self) -> Iterator[Episode]:
        """Yields the trajectories in order."""
        arrays = self.arrays
        starts = arrays.episode_starts()
        for number, (start, stop) in enumerate(itertools.pairwise(starts)):
            rows = slice(start, stop)
            final = arrays.final_observations[number][None]
            yield Episode(
                observations=np.concatenate([arrays.observations[rows], final]),
                actions=arrays.actions[rows],
                rewards=arrays.rewards[rows],
                terminations=arrays.terminations[rows],
                truncations=arrays.truncations[rows],
                extras={name: array[rows] for name, array in arrays.extras.items()},
            )

    def returns(self) -> np.ndarray:
        """Returns (E,) float64 undiscounted sums of the raw rewards of every episode."""
        return np.add.reduceat(
            self.arrays.rewards, self.arrays.episode_starts()[:-1], dtype=np.float64
        )

    def make_env(self, **kwargs: Any) -> gymnasium.Env:
        """Makes the evaluation environment.

        Args:
            **kwargs: Passed on over the manifest's, for example ``render_mode="rgb_array"``.

        Raises:
            ValueError: If the dataset was registered without an environment.
        """
        from hetero_bench.envs.batch import make_env, require_environment

        return make_env(require_environment(self.spec), **kwargs)

    def make_vec_env(self, num_envs: int, **kwargs: Any) -> gymnasium.vector.VectorEnv:
        """Makes ``num_envs`` evaluation environments stepped together, without autoreset.

        The environment's own batched implementation is used where it has one.
        """
        from hetero_bench.envs.batch import make_vec_env, require_environment

        return make_vec_env(require_environment(self.spec), num_envs, **kwargs)

    def subset(self, size: int, draw: int = 0) -> Dataset:
        """Draws whole trajectories without replacement until ``size`` transitions, in memory.

        It is the same draw as ``load(id, size=size, draw=draw)``.

        Args:
            size: Transitions to draw; the last trajectory is cut to fit and marked truncated.
            draw: Which draw, 0 to 4; nested in size.

        Raises:
            SizeError: If size or draw is out of range, or this is a draw itself: drawn from again,
                it would be other data under the same name as its parent's draw.
            TypeError: If size or draw is not an integer.
        """
        from hetero_bench.sources.subset import draw_subset

        if self.spec.subset is not None:
            raise SizeError(
                f"{self.id} is a draw of {self.spec.subset.parent} already; draw from that, with "
                f"load({self.spec.subset.parent!r}, size={size!r}, draw={draw!r})"
            )
        arrays, _ = draw_subset(self.arrays, size, draw, self.spec.subset_seed)
        provenance = Provenance(
            status=self.provenance.status,
            source="subset",
            digest=dataset_digest(digest_arrays(arrays)),
            parent=self.provenance,
            versions=self.provenance.versions,
            made_at=self.provenance.made_at,
        )
        return Dataset(
            spec=self.spec.resized(size),
            arrays=arrays,
            provenance=provenance,
            size=size,
            draw=draw,
        )

    def statistics(self) -> dict[str, Any]:
        """Returns counts, returns, lengths, rewards and action statistics as plain JSON values."""
        from hetero_bench.summaries import statistics

        return statistics(self)

    def card(self) -> str:
        """Returns the dataset's card in Markdown: what it is, where it is from, its statistics."""
        from hetero_bench.cards import card

        return card(self)

    def minari(self, dataset_id: str | None = None) -> minari.MinariDataset:
        """Exports to Minari's local store, so that ``minari.load_dataset`` finds it.

        Args:
            dataset_id: Name in Minari; ``hetero_bench/<canonical id>`` by default.
        """
        from hetero_bench.exports import to_minari

        return to_minari(self, dataset_id)

    def to_d4rl(self, path: str | os.PathLike[str]) -> Path:
        """Writes one HDF5 file in D4RL's layout, true successors included."""
        from hetero_bench.exports import to_d4rl

        return to_d4rl(self, path)
