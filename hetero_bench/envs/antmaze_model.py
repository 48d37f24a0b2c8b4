"""D4RL's ant as a compiled MuJoCo model, alone on a floor or inside a maze.

The body is Gymnasium's own ``ant.xml``, read from the installed package and changed where D4RL's
ant differs: time step 0.02 s instead of 0.01 s, motor torque ±30 Nm instead of ±150 Nm, and contact
impedance ``solimp`` (0.8, 0.8, 0.01) on every geometry. Every other physical field of the two
compiled models is equal. The fourth difference, clipping actions to ±1, is MuJoCo's control limit.

Source: Fu et al. (2020), "D4RL: Datasets for deep data-driven reinforcement learning".
"""

# MuJoCo's compiled modules come without type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

TIME_STEP = 0.02
"""Seconds of one simulator step."""
FRAME_SKIP = 5
"""Simulator steps per action."""
STEP_SECONDS = TIME_STEP * FRAME_SKIP
"""Seconds per action."""
MOTOR_TORQUE = 30.0
"""Newton metres at an action of 1."""
SOLVER_IMPEDANCE = (0.8, 0.8, 0.01)
"""``solimp``: impedance at zero and full penetration, and the width in metres between them."""
WALL_HALF_HEIGHT = 1.0
"""Metres."""
WALL_COLOUR = (0.7, 0.5, 0.3, 1.0)

NUM_POSITIONS = 15
"""x, y, z, quaternion (w, x, y, z), eight joint angles."""
NUM_VELOCITIES = 14
"""Linear velocity (world frame), angular velocity (torso frame), eight joint velocities."""
NUM_OBSERVATIONS = NUM_POSITIONS + NUM_VELOCITIES
NUM_JOINTS = 8

RESET_POSITION_NOISE = 0.1
"""Half-width of the uniform noise on the initial positions (metres, radians, quaternion units)."""
RESET_VELOCITY_NOISE = 0.1
"""Standard deviation of the Gaussian noise on the initial velocities."""


@lru_cache(maxsize=8)
def ant_model(
    wall_centres: tuple[tuple[float, float], ...] = (), wall_half_width: float = 2.0
) -> mujoco.MjModel:
    """Compiles the ant with square walls around it; equal arguments share one model.

    Args:
        wall_centres: (x, y) of each wall block, metres; the ant starts at the origin.
        wall_half_width: Half the side of a wall block, metres.

    Returns:
        The model. It must not be changed, since it is shared.
    """
    spec = mujoco.MjSpec.from_file(str(ant_xml_path()))
    spec.option.timestep = TIME_STEP
    for actuator in spec.actuators:
        actuator.gear[0] = MOTOR_TORQUE
    for x, y in wall_centres:
        spec.worldbody.add_geom(
            name=f"wall_{x:g}_{y:g}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(x, y, WALL_HALF_HEIGHT),
            size=(wall_half_width, wall_half_width, WALL_HALF_HEIGHT),
            conaffinity=1,
            rgba=WALL_COLOUR,
        )
    for geom in spec.geoms:
        geom.solimp[:3] = SOLVER_IMPEDANCE
    return spec.compile()


def ant_xml_path() -> Path:
    """Returns the path of Gymnasium's ``ant.xml``.

    Raises:
        FileNotFoundError: If the installed Gymnasium has none where it is expected.
    """
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
    if not path.is_file():
        raise FileNotFoundError(
            f"Gymnasium {gymnasium.__version__} has no {path}; install gymnasium>=1.2"
        )
    return path


def set_initial_state(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    rng: np.random.Generator,
    xy: Sequence[float] | np.ndarray | None = None,
) -> None:
    """Puts the ant upright at the origin with D4RL's noise on every position and velocity.

    Args:
        model: From :func:`ant_model`.
        data: State to overwrite.
        rng: Drawn from 29 times, whether ``xy`` is given or not.
        xy: Exact start position in metres; replaces the origin and its noise.
    """
    mujoco.mj_resetData(model, data)
    data.qpos += rng.uniform(-RESET_POSITION_NOISE, RESET_POSITION_NOISE, NUM_POSITIONS)
    data.qvel += RESET_VELOCITY_NOISE * rng.standard_normal(NUM_VELOCITIES)
    if xy is not None:
        data.qpos[:2] = xy
    mujoco.mju_normalize4(data.qpos[3:7])
    mujoco.mj_forward(model, data)


class AntBatch:
    """Ants that share one model and are stepped by one thread or several, to equal bits.

    MuJoCo lets go of Python's lock while it steps, so ``t`` threads are nearly ``t`` times as fast.

    Args:
        model: From :func:`ant_model`.
        size: How many ants ``n``.
        threads: Threads to step them with.

    Attributes:
        observations: (n, 29) float64, positions then velocities; overwritten by each call, zero
            before an ant's first :meth:`reset`.
    """

    def __init__(self, model: mujoco.MjModel, size: int, threads: int = 1) -> None:
        self.model = model
        self.data = [mujoco.MjData(model) for _ in range(size)]
        self.observations = np.zeros((size, NUM_OBSERVATIONS))
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def reset(
        self, index: int, rng: np.random.Generator, xy: Sequence[float] | np.ndarray | None = None
    ) -> None:
        """Starts ant ``index`` again; see :func:`set_initial_state`."""
        set_initial_state(self.model, self.data[index], rng, xy)
        self.observe(index)

    def step(
        self, actions: np.ndarray, indices: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """Holds actions, clipped to ±1, for ``STEP_SECONDS``.

        Args:
            actions: (k, 8), one row per ant that is stepped.
            indices: Which ants; all by default.

        Returns:
            ``observations`` (n, 29).
        """
        controls = np.clip(actions, -1.0, 1.0)
        pairs = list(enumerate(range(len(self.data)) if indices is None else indices))
        if self._pool is None:
            self._advance(controls, pairs)
        else:
            shares = (pairs[first :: self._threads] for first in range(self._threads))
            for _ in self._pool.map(partial(self._advance, controls), shares):
                pass
        return self.observations

    def observe(self, index: int | np.integer) -> None:
        """Copies the state of ant ``index`` into ``observations``."""
        data = self.data[index]
        self.observations[index, :NUM_POSITIONS] = data.qpos
        self.observations[index, NUM_POSITIONS:] = data.qvel

    def close(self) -> None:
        """Ends the threads; the ants cannot be stepped afterwards if there were several."""
        if self._pool is not None:
            self._pool.shutdown()

    def _advance(self, controls: np.ndarray, pairs: Iterable[tuple[int, int]]) -> None:
        """Steps the ants of (row of ``controls``, ant) pairs."""
        for row, index in pairs:
            data = self.data[index]
            data.ctrl[:] = controls[row]
            mujoco.mj_step(self.model, data, FRAME_SKIP)
            self.observe(index)
