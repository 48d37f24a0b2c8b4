"""What the suite's vector environments share: each row's generator, and where its episode is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding

Seeds = int | Sequence[int | None] | None
"""``None`` (each row goes on with its own generator), one seed from which row ``i`` gets
``seed + i``, or one seed (or ``None``) per row."""


class VectorEpisodes:
    """The episodes of ``n`` rows that start and end on their own.

    Args:
        num_envs: Number of rows ``n``.
        max_episode_steps: Steps after which an episode is truncated, ``None`` for never.

    Attributes:
        generators: Each row's random generator; ``None`` before its first reset.
        elapsed: (n,) int64 steps taken.
        terminations: (n,) bool, whether the episode has terminated.
        truncations: (n,) bool, whether it has run out of time.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self, num_envs: int, max_episode_steps: int | None) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; expected at least 1")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}; expected at least 1")
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.generators: list[np.random.Generator | None] = [None] * num_envs
        self._all_begun = False
        self.elapsed = np.zeros(num_envs, dtype=np.int64)
        self.terminations = np.zeros(num_envs, dtype=bool)
        self.truncations = np.zeros(num_envs, dtype=bool)

    def begin(
        self, seed: Seeds, options: dict[str, Any] | None
    ) -> tuple[np.ndarray, list[np.random.Generator]]:
        """Begins episodes in the rows that ``options["reset_mask"]`` (n,) names, or in all.

        Returns:
            The mask (n,) bool, and the generators of the rows in it, in order.

        Raises:
            ValueError: If seeds or mask have the wrong length, or the mask is all false.
            TypeError: If the mask is not a bool array.
        """
        mask, seeds = self._mask(options), self._seeds(seed)
        begun = []
        for row in np.flatnonzero(mask).tolist():
            generator, row_seed = self.generators[row], seeds[row]
            if generator is None or row_seed is not None:
                generator, _ = seeding.np_random(None if row_seed is None else int(row_seed))
                self.generators[row] = generator
            begun.append(generator)
        self.elapsed[mask] = 0
        self.terminations[mask] = False
        self.truncations[mask] = False
        return mask, begun

    def live(self) -> np.ndarray:
        """Returns (n,) bool: the rows whose episodes go on.

        Raises:
            gymnasium.error.ResetNeeded: If a row has never been reset.
        """
        if not self._all_begun:
            if None in self.generators:
                row = self.generators.index(None)
                raise gymnasium.error.ResetNeeded(
                    f"environment {row} was never reset; call reset()"
                )
            self._all_begun = True
        return ~(self.terminations | self.truncations)

    def advance(self, live: np.ndarray, terminations: np.ndarray) -> None:
        """Counts a step of the rows that are ``live`` (n,), and ends those that terminate (n,)."""
        self.elapsed += live
        self.terminations = terminations
        if self.max_episode_steps is not None:
            self.truncations = self.elapsed >= self.max_episode_steps

    def _mask(self, options: dict[str, Any] | None) -> np.ndarray:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError("options['reset_mask'] must be a NumPy array of dtype bool")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] has shape {mask.shape} and {int(mask.sum())} true entries; "
                f"expected shape ({self.num_envs},) and at least one"
            )
        return mask.copy()

    def _seeds(self, seed: Seeds) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"got {len(seed)} seeds; expected one per environment, {self.num_envs}"
            )
        return seed
