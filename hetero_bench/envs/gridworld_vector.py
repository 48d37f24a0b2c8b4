"""The gridworld maze as a batched NumPy environment, for fast evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hetero_bench.counter_random import counter_uniforms, draw_key
from hetero_bench.envs.gridworld import check_render_mode, observation_space
from hetero_bench.envs.gridworld_layout import NUM_ACTIONS, GridworldLayout
from hetero_bench.envs.gridworld_model import (
    DEFAULT_ACTION_NOISE,
    DEFAULT_FEATURE_SCALING,
    DEFAULT_LAYOUT,
    GridworldModel,
    gridworld_model,
)
from hetero_bench.envs.gridworld_rendering import DEFAULT_CELL_SIZE, render_gridworld


class GridworldMazeVectorEnv(VectorEnv):
    """Copies of :class:`hetero_bench.envs.gridworld.GridworldMazeEnv`, stepped at once.

    Row ``i`` is bit-equal to the single environment under the same seeds. A row is reset only by
    :meth:`reset` (``AutoresetMode.DISABLED``). A finished row stays as it is when stepped: same
    observation and flags, reward 0.

    Args:
        num_envs: Number of environments ``n``.
        max_episode_steps: Steps after which an episode is truncated, ``None`` for never.
        layout: As in the single environment, like the arguments that follow.
        action_noise: Probability in [0, 1].
        feature_seed: Seed of the observation features.
        feature_scaling: ``"unit_variance"`` or ``"none"``.
        render_mode: ``None`` or ``"rgb_array"``.
        cell_size: Pixels per cell in rendered pictures.

    Raises:
        ValueError: If an argument is not one of those described.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["rgb_array"],
        "render_fps": 15,
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        layout: str | Sequence[str] = DEFAULT_LAYOUT,
        action_noise: float = DEFAULT_ACTION_NOISE,
        feature_seed: int = 0,
        feature_scaling: str = DEFAULT_FEATURE_SCALING,
        render_mode: str | None = None,
        cell_size: int = DEFAULT_CELL_SIZE,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; expected at least 1")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}; expected at least 1")
        check_render_mode(render_mode, self.metadata)
        self.model: GridworldModel = gridworld_model(
            layout, action_noise, feature_seed, feature_scaling
        )
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.render_mode = render_mode
        self.cell_size = cell_size
        self.single_observation_space = observation_space(self.model)
        self.single_action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.states = np.full(num_envs, self.layout.start)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._was_reset = np.zeros(num_envs, dtype=bool)
        self._keys = np.zeros(num_envs, dtype=np.uint64)
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._terminations = np.zeros(num_envs, dtype=bool)
        self._truncations = np.zeros(num_envs, dtype=bool)
        self._successors = self.layout.next_states.reshape(-1)

    @property
    def layout(self) -> GridworldLayout:
        """The maze."""
        return self.model.layout

    def reset(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Resets all rows, or those of a mask.

        Args:
            seed: ``None`` (each row goes on with its own generator), one seed from which row ``i``
                gets ``seed + i``, or one seed (or ``None``) per row.
            options: ``{"reset_mask": (n,) bool array}`` resets only the rows that are true; seeds
                of the others are ignored.

        Returns:
            (n, 50) float32 observations of all rows, and infos of the rows that were reset.

        Raises:
            ValueError: If seeds or mask have the wrong length, or the mask is all false.
            TypeError: If the mask is not a bool array.
        """
        mask = self._reset_mask(options)
        seeds = self._seeds(seed)
        for row in np.flatnonzero(mask).tolist():
            generator, row_seed = self._generators[row], seeds[row]
            if generator is None or row_seed is not None:
                generator, _ = seeding.np_random(None if row_seed is None else int(row_seed))
                self._generators[row] = generator
            self._keys[row] = draw_key(generator)
        self._was_reset |= mask
        self._elapsed[mask] = 0
        self._terminations[mask] = False
        self._truncations[mask] = False
        self.states = np.where(mask, self.layout.start, self.states)
        return self._observations(), self._infos(mask)

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps every row that has not finished.

        Args:
            actions: (n,) integers; in 0..4 in rows that have not finished.

        Returns:
            Observations (n, 50) float32, rewards (n,) float64, terminations (n,) bool,
            truncations (n,) bool, infos with ``state``, ``cell`` and ``success`` arrays.

        Raises:
            ValueError: If the actions have another shape or dtype, or are out of range.
            gymnasium.error.ResetNeeded: If a row has never been reset.
        """
        if not self._was_reset.all():
            row = int(np.argmin(self._was_reset))
            raise gymnasium.error.ResetNeeded(f"environment {row} was never reset; call reset()")
        live = ~(self._terminations | self._truncations)
        actions = self._checked_actions(actions, live)
        uniforms = counter_uniforms(self._keys, self._elapsed)
        executed = self.model.executed_actions(actions, uniforms)
        # Finished rows may carry any action: clipped here, their result is dropped.
        moved = self._successors.take(self.states * NUM_ACTIONS + executed, mode="clip")
        self.states = np.where(live, moved, self.states)
        self._elapsed += live
        self._terminations = self.states == self.layout.goal
        if self.max_episode_steps is not None:
            self._truncations = self._elapsed >= self.max_episode_steps
        rewards = (live & self._terminations).astype(np.float64)
        return (
            self._observations(),
            rewards,
            self._terminations.copy(),
            self._truncations.copy(),
            self._infos(np.ones(self.num_envs, dtype=bool)),
        )

    def render(self) -> tuple[np.ndarray, ...] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns one RGB picture per row, or ``None`` without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(
            render_gridworld(self.layout, int(state), self.cell_size) for state in self.states
        )

    def _observations(self) -> np.ndarray:
        return self.model.features.take(self.states, axis=0)

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        """Returns infos in Gymnasium's layout: rows outside the mask are zero."""
        states = np.where(mask, self.states, 0)
        return {
            "state": states,
            "_state": mask,
            "cell": np.where(mask[:, None], self.layout.cells.take(states, axis=0), 0),
            "_cell": mask,
            "success": mask & self._terminations,
            "_success": mask,
        }

    def _checked_actions(self, actions: np.ndarray, live: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions have shape {actions.shape} and dtype {actions.dtype}; expected "
                f"({self.num_envs},) integers"
            )
        actions = actions.astype(np.int64, copy=False)
        wrong = live & ((actions < 0) | (actions >= NUM_ACTIONS))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"action of environment {row} is {actions[row]}; expected 0..{NUM_ACTIONS - 1}"
            )
        return actions

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
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

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"got {len(seed)} seeds; expected one per environment, {self.num_envs}"
            )
        return seed
