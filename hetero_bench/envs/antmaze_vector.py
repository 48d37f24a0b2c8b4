"""Several AntMazes stepped together by several threads, for fast evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hetero_bench.envs.antmaze import (
    GOAL_RADIUS,
    AntMazeEnv,
    action_space,
    at_goals,
    draw_goals,
    maze_model,
    observation_space,
)
from hetero_bench.envs.antmaze_layout import AntMazeLayout, get_layout
from hetero_bench.envs.antmaze_model import NUM_JOINTS, AntBatch
from hetero_bench.envs.antmaze_rendering import (
    DEFAULT_IMAGE_SIZE,
    TopDownRenderer,
    check_image_size,
)
from hetero_bench.envs.regions import Regions, antmaze_regions
from hetero_bench.envs.render_modes import check_render_mode
from hetero_bench.envs.vector_episodes import Seeds, VectorEpisodes
from hetero_bench.shards import default_workers

ANTS_PER_THREAD = 8
"""Fewer are not worth a thread."""


class AntMazeVectorEnv(VectorEnv):
    """Copies of :class:`hetero_bench.envs.antmaze.AntMazeEnv`, stepped at once.

    Row ``i`` is bit-equal to the single environment under the same seeds, whatever the number of
    rows and threads. A row is reset only by :meth:`reset` (``AutoresetMode.DISABLED``). A finished
    row stays as it is when stepped: same observation and flags, reward 0.

    Args:
        num_envs: Number of environments ``n``.
        max_episode_steps: Steps after which an episode is truncated, ``None`` for never.
        maze: As in the single environment, like the arguments that follow.
        render_mode: ``None`` or ``"rgb_array"``.
        image_size: Length in pixels of the longer side of rendered pictures.
        threads: Threads to step with. By default one per core available, or as many as the
            variable ``HETERO_BENCH_WORKERS`` says, but none with fewer than ``ANTS_PER_THREAD``.

    Raises:
        ValueError: If an argument is not one of those described.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        **AntMazeEnv.metadata,
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        maze: str | Sequence[str] = "umaze",
        render_mode: str | None = None,
        image_size: int = DEFAULT_IMAGE_SIZE,
        threads: int | None = None,
    ) -> None:
        check_render_mode(render_mode, self.metadata)
        check_image_size(image_size)
        if threads is None:
            threads = max(1, min(default_workers(), num_envs // ANTS_PER_THREAD))
        if threads < 1:
            raise ValueError(f"threads is {threads}; expected at least 1")
        self._episodes = VectorEpisodes(num_envs, max_episode_steps)
        self.layout: AntMazeLayout = get_layout(maze)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.image_size = image_size
        self.single_observation_space = observation_space()
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.goals = np.tile(self.layout.centres[self.layout.goal], (num_envs, 1))
        self._ants = AntBatch(maze_model(self.layout), num_envs, threads)
        self._renderer: TopDownRenderer | None = None

    @property
    def regions(self) -> Regions:
        """As in the single environment."""
        return antmaze_regions(self.layout)

    @property
    def positions(self) -> np.ndarray:
        """(n, 2) float64 x and y of each torso, metres."""
        return self._ants.observations[:, :2].copy()

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
            (n, 29) float64 observations of all rows, and infos of the rows that were reset.

        Raises:
            ValueError: If an option is unknown, seeds or mask have the wrong length, or the mask is
                all false.
            TypeError: If the mask is not a bool array.
        """
        unknown = sorted(set(options or {}) - {"reset_mask"})
        if unknown:
            raise ValueError(
                f"unknown reset options {unknown}; expected 'reset_mask' (start and goal can be "
                "chosen in the single environment only)"
            )
        mask, generators = self._episodes.begin(seed, options)
        centre = self.layout.centres[[self.layout.goal]]
        for row, generator in zip(np.flatnonzero(mask).tolist(), generators, strict=True):
            self.goals[row] = draw_goals(centre, generator)[0]
            self._ants.reset(row, generator)
        return self._ants.observations.copy(), self._infos(mask)

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps every row that has not finished.

        Args:
            actions: (n, 8), clipped to ±1; finite in rows that have not finished.

        Returns:
            Observations (n, 29) float64, rewards (n,) float64, terminations (n,) bool,
            truncations (n,) bool, infos with ``xy``, ``goal`` and ``success`` arrays.

        Raises:
            ValueError: If the actions have another shape, or are not finite.
            gymnasium.error.ResetNeeded: If a row has never been reset.
        """
        episodes = self._episodes
        live = episodes.live()
        rows = np.flatnonzero(live)
        observations = self._ants.step(self._checked_actions(actions, live)[rows], rows)
        episodes.advance(live, at_goals(observations[:, :2], self.goals))
        return (
            observations.copy(),
            (live & episodes.terminations).astype(np.float64),
            episodes.terminations.copy(),
            episodes.truncations.copy(),
            self._infos(np.ones(self.num_envs, dtype=bool)),
        )

    def render(self) -> tuple[np.ndarray, ...] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns one RGB picture from above per row, or ``None`` without a render mode."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            bounds = self.layout.bounds
            self._renderer = TopDownRenderer(self._ants.model, bounds, self.image_size)
        render = self._renderer.render
        return tuple(
            render(data, goal, GOAL_RADIUS)
            for data, goal in zip(self._ants.data, self.goals, strict=True)
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Frees threads and renderer."""
        self._ants.close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        """Returns infos in Gymnasium's layout: rows outside the mask are zero."""
        positions = self.positions
        return {
            "xy": np.where(mask[:, None], positions, 0.0),
            "_xy": mask,
            "goal": np.where(mask[:, None], self.goals, 0.0),
            "_goal": mask,
            "success": mask & at_goals(positions, self.goals),
            "_success": mask,
        }

    def _checked_actions(self, actions: np.ndarray, live: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape != (self.num_envs, NUM_JOINTS):
            raise ValueError(
                f"actions have shape {actions.shape}; expected ({self.num_envs}, {NUM_JOINTS})"
            )
        wrong = live & ~np.isfinite(actions).all(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"action of environment {row} is {actions[row]}; expected {NUM_JOINTS} finite "
                "numbers in ±1"
            )
        return actions
