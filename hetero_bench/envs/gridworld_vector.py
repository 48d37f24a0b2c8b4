"""The gridworld maze as a batched NumPy environment, for fast evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hetero_bench.counter_random import counter_uniforms, draw_key
from hetero_bench.envs.gridworld import observation_space
from hetero_bench.envs.gridworld_layout import NUM_ACTIONS, GridworldLayout
from hetero_bench.envs.gridworld_model import (
    DEFAULT_ACTION_NOISE,
    DEFAULT_FEATURE_SCALING,
    DEFAULT_LAYOUT,
    GridworldModel,
    gridworld_model,
)
from hetero_bench.envs.gridworld_rendering import DEFAULT_CELL_SIZE, render_gridworld
from hetero_bench.envs.regions import Regions, gridworld_regions
from hetero_bench.envs.render_modes import check_render_mode
from hetero_bench.envs.vector_episodes import Seeds, VectorEpisodes


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
        check_render_mode(render_mode, self.metadata)
        self.model: GridworldModel = gridworld_model(
            layout, action_noise, feature_seed, feature_scaling
        )
        self._episodes = VectorEpisodes(num_envs, max_episode_steps)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.cell_size = cell_size
        self.single_observation_space = observation_space(self.model)
        self.single_action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.states = np.full(num_envs, self.layout.start)
        self._keys = np.zeros(num_envs, dtype=np.uint64)
        self._successors = self.layout.next_states.reshape(-1)

    @property
    def layout(self) -> GridworldLayout:
        """The maze."""
        return self.model.layout

    @property
    def regions(self) -> Regions:
        """As in the single environment."""
        return gridworld_regions(self.layout)

    @property
    def positions(self) -> np.ndarray:
        """(n, 2) float64 row and column of each row's cell."""
        return self.layout.cells[self.states].astype(np.float64)

    def reset(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        seed: Seeds = None,
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
        mask, generators = self._episodes.begin(seed, options)
        self._keys[mask] = [draw_key(generator) for generator in generators]
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
        episodes = self._episodes
        live = episodes.live()
        actions = self._checked_actions(actions, live)
        uniforms = counter_uniforms(self._keys, episodes.elapsed)
        executed = self.model.executed_actions(actions, uniforms)
        # Finished rows may carry any action: clipped here, their result is dropped.
        moved = self._successors.take(self.states * NUM_ACTIONS + executed, mode="clip")
        self.states = np.where(live, moved, self.states)
        episodes.advance(live, self.states == self.layout.goal)
        rewards = (live & episodes.terminations).astype(np.float64)
        return (
            self._observations(),
            rewards,
            episodes.terminations.copy(),
            episodes.truncations.copy(),
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
            "success": mask & self._episodes.terminations,
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
