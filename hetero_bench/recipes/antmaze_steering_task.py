"""What the AntMaze controller is trained on: run in a given direction, in the open or in a maze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetero_bench.envs.antmaze import at_goals, maze_model
from hetero_bench.envs.antmaze_layout import get_layout
from hetero_bench.envs.antmaze_model import NUM_JOINTS, STEP_SECONDS, AntBatch, ant_model
from hetero_bench.recipes.antmaze_planner import collection_task, waypoints
from hetero_bench.recipes.antmaze_steering import steering_features, uprightness


@dataclass(frozen=True)
class SteeringConfig:
    """The training task.

    Attributes:
        maze: ``None`` to run in random directions in the open, or the name of a maze to be steered
            through by the planner, from anywhere to anywhere.
        target_steps: Fewest and most steps between redraws of the direction (in the open) and of
            the perturbation.
        episode_steps: An episode is cut after so many steps.
        direction_noise: Standard deviation of the noise on the direction shown, radians; a
            planner's jittered waypoints shake it too.
        speed_cap: Speed towards the target that is rewarded, at most, m/s.
        sideways_cost: Per m/s of sideways speed.
        action_cost: Per unit of squared action.
        upright_reward: Per unit of uprightness.
        fall_cost: Once, on falling over, which ends the episode.
        fall_uprightness: Below this cosine of its tilt the ant has fallen.
        perturbed: Share of stretches between two redraws in which the action executed is disturbed.
        perturbation_noise: Largest standard deviation of Gaussian action noise then.
        perturbation_bias: Largest constant bias of each action then.
    """

    maze: str | None = None
    target_steps: tuple[int, int] = (60, 100)
    episode_steps: int = 1000
    direction_noise: float = 0.1
    speed_cap: float = 3.0
    sideways_cost: float = 0.3
    action_cost: float = 0.05
    upright_reward: float = 0.2
    fall_cost: float = 5.0
    fall_uprightness: float = 0.2
    perturbed: float = 0.5
    perturbation_noise: float = 0.3
    perturbation_bias: float = 0.2


class SteeringTask:
    """Ants that are rewarded for running where they are told.

    Args:
        size: How many ants ``n``.
        rng: All randomness.
        config: The task.

    Attributes:
        targets: (n, 2) unit vectors, the true target directions.
        speeds: (n,) m/s towards the target in the last step.
    """

    def __init__(
        self, size: int, rng: np.random.Generator, config: SteeringConfig | None = None
    ) -> None:
        self.config = config or SteeringConfig()
        self.rng = rng
        self._layout = None if self.config.maze is None else get_layout(self.config.maze)
        model = ant_model() if self._layout is None else maze_model(self._layout)
        self.ants = AntBatch(model, size)
        self.speeds = np.zeros(size)
        self.targets = np.zeros((size, 2))
        self._aims = np.zeros((size, 2))
        self._shown = np.zeros((size, 2))
        self._noise = np.zeros((size, 1))
        self._bias = np.zeros((size, NUM_JOINTS))
        self._until_redraw = np.zeros(size, dtype=np.int64)
        self._elapsed = np.zeros(size, dtype=np.int64)

    def reset(self) -> np.ndarray:
        """Starts all ants, at different moments of their episodes; returns (n, 29) features."""
        size = len(self._elapsed)
        for index in range(size):
            self._start(index)
        self._elapsed[:] = self.rng.integers(self.config.episode_steps, size=size)
        self._update_targets(np.ones(size, dtype=bool))
        return self._features()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Takes one step of all ants; those that ended an episode wait for :meth:`restart`.

        Args:
            actions: (n, 8) in ±1.

        Returns:
            Rewards (n,), whether each ant fell (n,), whether its episode was cut (n,), and the
            features (n, 29) of the state reached, before any reset.
        """
        config = self.config
        noise = self._noise * self.rng.standard_normal(actions.shape)
        before = self.ants.observations[:, :2].copy()
        after = self.ants.step(actions + self._bias + noise)
        velocities = (after[:, :2] - before) / STEP_SECONDS
        self.speeds = np.sum(velocities * self.targets, axis=1)
        ahead_x, ahead_y = self.targets.T
        sideways = np.abs(velocities[:, 1] * ahead_x - velocities[:, 0] * ahead_y)
        upright = uprightness(after)
        fallen = upright < config.fall_uprightness
        rewards = (
            np.minimum(self.speeds, config.speed_cap)
            - config.sideways_cost * sideways
            - config.action_cost * np.sum(np.square(actions), axis=1)
            + config.upright_reward * upright
            - config.fall_cost * fallen
        )
        self._elapsed += 1
        cut = ~fallen & (self._elapsed >= config.episode_steps)
        self._until_redraw -= 1
        self._update_targets(self._until_redraw <= 0)
        return rewards, fallen, cut, self._features()

    def restart(self, ended: np.ndarray) -> np.ndarray:
        """Starts the ants of mask (n,) again and returns all features (n, 29)."""
        for index in np.flatnonzero(ended):
            self._start(int(index))
        self._elapsed[ended] = 0
        self._update_targets(ended)
        return self._features()

    def _start(self, index: int) -> None:
        start = None
        if self._layout is not None:
            start, self._aims[index] = collection_task(self._layout, "diverse").draw(self.rng)
        self.ants.reset(index, self.rng, start)

    def _update_targets(self, redraw: np.ndarray) -> None:
        if redraw.any():
            self._redraw_perturbations(redraw)
        if self._layout is None:
            angles = self.rng.uniform(-np.pi, np.pi, int(redraw.sum()))
            self.targets[redraw] = np.stack((np.cos(angles), np.sin(angles)), axis=1)
            return
        positions = self.ants.observations[:, :2]
        for index in np.flatnonzero(at_goals(positions, self._aims)):
            _, self._aims[index] = collection_task(self._layout, "diverse").draw(self.rng)
        uniforms = self.rng.random(positions.shape)
        offsets = waypoints(self._layout, positions, self._aims, uniforms) - positions
        self.targets = offsets / np.linalg.norm(offsets, axis=1, keepdims=True)

    def _redraw_perturbations(self, mask: np.ndarray) -> None:
        count, config, rng = int(mask.sum()), self.config, self.rng
        low, high = config.target_steps
        self._until_redraw[mask] = rng.integers(low, high + 1, count)
        perturbed = rng.random((count, 1)) < config.perturbed
        self._noise[mask] = perturbed * rng.uniform(0, config.perturbation_noise, (count, 1))
        bias = config.perturbation_bias
        self._bias[mask] = perturbed * rng.uniform(-bias, bias, (count, NUM_JOINTS))

    def _features(self) -> np.ndarray:
        angles = self.config.direction_noise * self.rng.standard_normal(len(self.targets))
        cosine, sine = np.cos(angles), np.sin(angles)
        x, y = self.targets.T
        self._shown[:, 0], self._shown[:, 1] = cosine * x - sine * y, sine * x + cosine * y
        return steering_features(self.ants.observations, self._shown)
