"""The gridworld maze of the ReDS paper as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np

from hetero_bench.counter_random import counter_uniforms, draw_key
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
from hetero_bench.tabular import TabularMDP


class GridworldMazeEnv(gymnasium.Env):
    """Navigate rooms and one-cell-wide hallways from the start to the goal.

    The didactic task of Singh et al. (2023), "ReDS: Offline RL with heteroskedastic datasets via
    support constraints", Section 3.1 and Appendix B, on the dynamics of Fu et al. (2019). The
    layout is this suite's own.

    ### Actions
    ``Discrete(5)``:

    | action | effect             |
    |--------|--------------------|
    | 0      | stay               |
    | 1      | one cell up        |
    | 2      | one cell down      |
    | 3      | one cell left      |
    | 4      | one cell right     |

    With probability ``action_noise`` the executed action is redrawn uniformly over all five. A
    move into a wall leaves the agent where it is.

    ### Observations
    ``Box`` of shape (50,), float32, no unit: random Gaussian features of the cell, smoothed over
    neighbouring cells (:func:`hetero_bench.envs.gridworld_model.smoothed_features`), so that cells
    with different dynamics look alike. With ``feature_scaling="unit_variance"`` each feature is
    divided by its standard deviation over the cells.

    ### Rewards and episode end
    +1 on the step that enters the goal, which terminates the episode; 0 otherwise. The registered
    ``hetero_bench/GridworldMaze-v0`` truncates after 300 steps.

    ### Info
    ``state`` (int, number of the free cell), ``cell`` ((2,) int64 row and column) and ``success``
    (bool, the goal has been reached).

    ### Randomness
    ``reset`` draws one 64-bit key from ``np_random``; step ``t`` of the episode uses the hash of
    (key, t). So the vector environment gives bit-equal episodes for equal seeds, whatever its
    width.

    Args:
        layout: Name of a layout in ``gridworld_layout.LAYOUTS``, or rows of text.
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
    }

    def __init__(
        self,
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
        self.render_mode = render_mode
        self.cell_size = cell_size
        self.observation_space = observation_space(self.model)
        self.action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
        self.state = self.layout.start
        self._key = np.zeros(1, dtype=np.uint64)
        self._elapsed = 0

    @property
    def layout(self) -> GridworldLayout:
        """The maze."""
        return self.model.layout

    @property
    def mdp(self) -> TabularMDP:
        """The exact MDP, without the time limit; its states are ``info["state"]``."""
        return self.model.mdp()

    @property
    def regions(self) -> Regions:
        """The rooms and hallways, by which evaluation tells where episodes end."""
        return gridworld_regions(self.layout)

    @property
    def position(self) -> np.ndarray:
        """(2,) float64 row and column of the agent's cell."""
        return self.layout.cells[self.state].astype(np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Puts the agent on the start cell. ``options`` are ignored."""
        super().reset(seed=seed)
        self._key[0] = draw_key(self.np_random)
        self._elapsed = 0
        self.state = self.layout.start
        return self._observation(), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes one step; see the class for dynamics and rewards.

        Raises:
            ValueError: If the action is not in 0..4.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action is {action!r}; expected an integer in 0..{NUM_ACTIONS - 1}")
        uniforms = counter_uniforms(self._key, np.array([self._elapsed]))
        executed = self.model.executed_actions(np.array([action]), uniforms)[0]
        self._elapsed += 1
        self.state = int(self.layout.next_states[self.state, executed])
        terminated = self.state == self.layout.goal
        return self._observation(), float(terminated), terminated, False, self._info()

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns an RGB picture of the maze, or ``None`` without a render mode."""
        if self.render_mode is None:
            return None
        return render_gridworld(self.layout, self.state, self.cell_size)

    def _observation(self) -> np.ndarray:
        return self.model.features[self.state].copy()

    def _info(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "cell": self.layout.cells[self.state].copy(),
            "success": self.state == self.layout.goal,
        }


def observation_space(model: GridworldModel) -> gymnasium.spaces.Box:
    """Returns the box that exactly encloses the features."""
    return gymnasium.spaces.Box(
        low=model.features.min(axis=0), high=model.features.max(axis=0), dtype=np.float32
    )
