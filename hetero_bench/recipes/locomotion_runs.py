"""What a training of SAC left: its checkpoints' returns and policies, and its replay buffer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.recipes.locomotion_tasks import TaskName
from hetero_bench.recipes.replay import ROW_ARRAYS
from hetero_bench.recipes.seeded_episodes import reset_seed
from hetero_bench.recipes.training_checkpoints import intact_checkpoints, read_rows, read_state

POLICY_FILE = "policy.safetensors"
"""A checkpoint's policy, a ``SquashedGaussianMLP``."""
EXPERT_LEVEL = 0.9
"""A policy with this share of the expert's return has become an expert itself."""


@dataclass(frozen=True)
class Replay:
    """The transitions of a training, in the order they were collected.

    Attributes:
        arrays: The episodes, with the extra ``reset_seeds`` (N,) uint32: ``env.reset(seed=...)``
            gives the state that the row's episode began in. The last row is truncated if the
            episode was still running; so is the last row of an episode that a resumed training
            could not go on with.
        initial_positions: (E, nq) float64 joint positions that each episode started from.
        initial_velocities: (E, nv) float64 joint velocities, likewise.
    """

    arrays: EpisodeArrays
    initial_positions: np.ndarray
    initial_velocities: np.ndarray


class LocomotionRun:
    """A training's folder.

    Args:
        folder: Output folder of ``train_locomotion``.
        last: Checkpoint to take for the last one, in environment steps: later ones are ignored.

    Raises:
        ValueError: If it holds no intact checkpoint, or not that one.
    """

    def __init__(self, folder: Path, last: int | None = None) -> None:
        self._folders = intact_checkpoints(folder)
        if not self._folders:
            raise ValueError(
                f"{folder} holds no intact checkpoint of train_locomotion: give its --out folder"
            )
        self._states = [read_state(checkpoint) for checkpoint in self._folders]
        self.folder = folder
        if last is not None:
            kept = self._index(last) + 1
            del self._folders[kept:], self._states[kept:]

    @property
    def env(self) -> TaskName:
        """The task it was trained on."""
        return self._states[-1]["settings"]["env"]

    @property
    def steps(self) -> list[int]:
        """Environment steps at each checkpoint, ascending."""
        return [state["steps"] for state in self._states]

    def stochastic_returns(self) -> np.ndarray:
        """Returns (checkpoints,) mean returns of the stochastic policies, as on the curve."""
        return np.array(
            [np.mean(state["evaluations"]["stochastic"]["returns"]) for state in self._states]
        )

    def medium_steps(self) -> int:
        """Returns the checkpoint whose return is nearest to a third of the last one's.

        Only checkpoints before the first one that reaches 90% of that return are looked at: a
        policy on its way up, and not one that was good and collapsed.
        """
        returns = self.stochastic_returns()
        first = int(np.argmax(returns >= EXPERT_LEVEL * returns[-1]))
        rising = returns[: max(1, first)]
        return self.steps[int(np.abs(rising - returns[-1] / 3).argmin())]

    def policy_file(self, steps: int) -> Path:
        """Returns the file of the policy after ``steps`` environment steps."""
        return self._folders[self._index(steps)] / POLICY_FILE

    def replay(self, steps: int) -> Replay:
        """Reads the replay buffer as it was after ``steps`` environment steps.

        Raises:
            ValueError: If there is no such checkpoint.
        """
        folders = self._folders[: self._index(steps) + 1]
        rows = {name: read_rows(folders, name) for name in ROW_ARRAYS}
        last = np.flatnonzero(np.append(np.diff(rows["episode_ids"]) != 0, True))
        rows["truncations"][last] |= ~rows["terminations"][last]
        rows["final_observations"] = rows.pop("next_observations")[last]
        seed = self._states[-1]["settings"]["seed"]
        seeds = np.array([reset_seed(seed, k) for k in range(len(last))], dtype=np.uint32)
        rows["extras.reset_seeds"] = seeds[rows["episode_ids"]]
        arrays = EpisodeArrays.from_named(rows, {})
        arrays.validate()
        begun = slice(len(last))  # an episode may have begun without a row yet
        return Replay(
            arrays,
            read_rows(folders, "initial_positions")[begun],
            read_rows(folders, "initial_velocities")[begun],
        )

    def _index(self, steps: int) -> int:
        if steps not in self.steps:
            raise ValueError(f"{self.folder} has no checkpoint at {steps} steps, but {self.steps}")
        return self.steps.index(steps)
