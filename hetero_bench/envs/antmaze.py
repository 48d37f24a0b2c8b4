"""D4RL's AntMaze on today's MuJoCo, as a Gymnasium environment."""

# MuJoCo's compiled modules come without type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np

from hetero_bench.envs.antmaze_layout import CELL_SIZE, AntMazeLayout, get_layout
from hetero_bench.envs.antmaze_model import (
    NUM_JOINTS,
    NUM_OBSERVATIONS,
    STEP_SECONDS,
    AntBatch,
    ant_model,
)
from hetero_bench.envs.antmaze_rendering import (
    DEFAULT_IMAGE_SIZE,
    TopDownRenderer,
    check_image_size,
)
from hetero_bench.envs.regions import Regions, antmaze_regions
from hetero_bench.envs.render_modes import check_render_mode

GOAL_RADIUS = 0.5
"""Metres."""
GOAL_NOISE = (1.0, 0.5)
"""A goal is its cell's centre plus U[0, a] + U[0, b] metres per axis, for these a and b."""


class AntMazeEnv(gymnasium.Env):
    """An ant walks from one corner of a maze to a goal.

    The task of D4RL's ``antmaze-*-v2`` (Fu et al., 2020): same body, physics, mazes, reset and
    goals. Gymnasium-Robotics' ``AntMaze`` is another task (other torques and time step, mirrored
    mazes, other observations); policies do not carry over between the two.

    ### Actions
    ``Box(-1, 1, (8,), float32)``: joint torques in units of 30 Nm, clipped to ±1, held for 0.1 s.

    | index | joint                    | index | joint                   |
    |-------|--------------------------|-------|-------------------------|
    | 0     | hip, back right leg      | 4     | hip, front right leg    |
    | 1     | ankle, back right leg    | 5     | ankle, front right leg  |
    | 2     | hip, front left leg      | 6     | hip, back left leg      |
    | 3     | ankle, front left leg    | 7     | ankle, back left leg    |

    The legs are named as in Gymnasium's ``ant.xml``.

    ### Observations
    ``Box(-inf, inf, (29,), float64)``:

    | index | quantity                                                            | unit  |
    |-------|---------------------------------------------------------------------|-------|
    | 0-1   | x and y of the torso                                                | m     |
    | 2     | height of the torso                                                 | m     |
    | 3-6   | orientation of the torso, quaternion w, x, y, z                     | -     |
    | 7-14  | hip and ankle angles: front left, front right, back left, back right | rad   |
    | 15-17 | velocity of the torso along the world's axes                        | m/s   |
    | 18-20 | angular velocity of the torso, in its own frame                     | rad/s |
    | 21-28 | joint velocities, in the order of 7-14                              | rad/s |

    The goal is not observed: it moves by at most 1.5 m per axis between episodes.

    ### Rewards and episode end
    1 on a step that ends within 0.5 m of the goal, which terminates the episode; 0 otherwise. An
    ant that has fallen over goes on. The registered environments truncate after 700 steps (umaze),
    1000 (medium, large) or 2000 (ultra).

    ### Reset
    The ant starts at the origin, upright, with U(±0.1) added to each position (the quaternion is
    normalised afterwards) and 0.1 N(0, 1) to each velocity. The goal is the goal cell's centre plus
    U[0, 1] + U[0, 0.5] m on each axis. ``options`` may hold ``"goal"`` and ``"start"``, each an
    (x, y) in metres inside a free cell, used exactly as given.

    ### Info
    ``xy`` ((2,) float64, position), ``goal`` ((2,) float64) and ``success`` (bool, within 0.5 m).

    Args:
        maze: Name in ``antmaze_layout.MAZES``, or rows of text.
        render_mode: ``None`` or ``"rgb_array"``: a top-down view, y upwards. Without a display set
            the environment variable ``MUJOCO_GL=egl`` before Python starts.
        image_size: Length in pixels of the longer side of rendered pictures.

    Raises:
        ValueError: If an argument is not one of those described.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["rgb_array"],
        "render_fps": round(1 / STEP_SECONDS),
    }

    def __init__(
        self,
        maze: str | Sequence[str] = "umaze",
        render_mode: str | None = None,
        image_size: int = DEFAULT_IMAGE_SIZE,
    ) -> None:
        check_render_mode(render_mode, self.metadata)
        check_image_size(image_size)
        self.layout: AntMazeLayout = get_layout(maze)
        self.render_mode = render_mode
        self.image_size = image_size
        self.observation_space = observation_space()
        self.action_space = action_space()
        self.goal = self.layout.centres[self.layout.goal].copy()
        self._ant = AntBatch(maze_model(self.layout), 1)
        self._renderer: TopDownRenderer | None = None

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled MuJoCo model, shared by all environments of the maze: do not change it."""
        return self._ant.model

    @property
    def data(self) -> mujoco.MjData:
        """The simulator's state."""
        return self._ant.data[0]

    @property
    def regions(self) -> Regions:
        """The cells of the maze, by which evaluation tells where episodes end."""
        return antmaze_regions(self.layout)

    @property
    def position(self) -> np.ndarray:
        """(2,) float64 x and y of the torso, metres."""
        return self._ant.observations[0, :2].copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; see the class for the distribution and ``options``.

        Raises:
            ValueError: If an option is unknown, not two finite numbers, or inside a wall.
        """
        super().reset(seed=seed)
        options = {} if options is None else options
        if not isinstance(options, dict):
            raise ValueError(
                f"reset options are {options!r}; expected a dict such as {{'goal': (4.0, 0.0)}}"
            )
        unknown = sorted(set(options) - {"goal", "start"})
        if unknown:
            raise ValueError(f"unknown reset options {unknown}; expected 'goal' and 'start'")
        goal, start = (
            None if options.get(name) is None else self._position(name, options[name])
            for name in ("goal", "start")
        )
        drawn = draw_goals(self.layout.centres[[self.layout.goal]], self.np_random)[0]
        self.goal = drawn if goal is None else goal
        self._ant.reset(0, self.np_random, start)
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes one step of 0.1 s; see the class for rewards and episode end.

        Raises:
            ValueError: If the action does not have shape (8,) or is not finite.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (NUM_JOINTS,) or not np.isfinite(action).all():
            raise ValueError(f"action is {action}; expected {NUM_JOINTS} finite numbers in ±1")
        self._ant.step(action[None])
        info = self._info()
        success = info["success"]
        return self._observation(), float(success), success, False, info

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns an RGB picture from above, or ``None`` without a render mode."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = TopDownRenderer(self.model, self.layout.bounds, self.image_size)
        return self._renderer.render(self.data, self.goal, GOAL_RADIUS)

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _observation(self) -> np.ndarray:
        return self._ant.observations[0].copy()

    def _info(self) -> dict[str, Any]:
        xy = self.position
        success = bool(at_goals(xy, self.goal))
        return {"xy": xy, "goal": self.goal.copy(), "success": success}

    def _position(self, name: str, value: Any) -> np.ndarray:
        try:
            position = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} is {value!r}; expected x and y in metres") from error
        if position.shape != (2,) or not np.isfinite(position).all():
            raise ValueError(f"{name} is {value!r}; expected x and y in metres, both finite")
        if self.layout.cells_at(position[None])[0] < 0:
            x, y = self.layout.centres[self.layout.nearest_cells(position[None])[0]]
            raise ValueError(
                f"{name} ({position[0]:g}, {position[1]:g}) lies in no free cell of maze "
                f"{self.layout.name!r}; the nearest one's centre is ({x:g}, {y:g}), and the "
                "origin is the centre of the start cell"
            )
        return position


def maze_model(layout: AntMazeLayout) -> mujoco.MjModel:
    """Returns the compiled model of the ant in a maze, shared between callers."""
    return ant_model(layout.wall_centres, CELL_SIZE / 2)


def observation_space() -> gymnasium.spaces.Box:
    """Returns the space of observations; see :class:`AntMazeEnv`."""
    return gymnasium.spaces.Box(-np.inf, np.inf, (NUM_OBSERVATIONS,), np.float64)


def action_space() -> gymnasium.spaces.Box:
    """Returns the space of actions; see :class:`AntMazeEnv`."""
    return gymnasium.spaces.Box(-1.0, 1.0, (NUM_JOINTS,), np.float32)


def at_goals(positions: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Returns whether positions (..., 2) are at their goals (..., 2)."""
    return np.linalg.norm(positions - goals, axis=-1) <= GOAL_RADIUS


def draw_goals(centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns goals (n, 2) for goal cells' centres (n, 2), with ``GOAL_NOISE`` added."""
    wide, narrow = (rng.uniform(0.0, width, centres.shape) for width in GOAL_NOISE)
    return centres + wide + narrow
