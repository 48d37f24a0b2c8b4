"""What the AntMaze controller is trained on: run in a given direction, in the open.

Everything about D4RL's ant but the walls is the same in every direction. So the controller is given
its input as seen by somebody who looks along the target direction (:func:`steering_features`), and
one gait learned that way serves every direction. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetero_bench.envs.antmaze_model import NUM_JOINTS, STEP_SECONDS, AntBatch, ant_model

NUM_FEATURES = 29
"""Height, two axes of the torso (6), joint angles (8), velocities (6), joint velocities (8)."""


def steering_features(observations: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Turns observations into the controller's input: position dropped, x axis along the target.

    Args:
        observations: (n, 29) positions and velocities of the ant.
        directions: (n, 2) from the ant towards its target, of any length but zero.

    Returns:
        (n, 29) float32: height; the torso's x and z axes, in the target's frame; joint angles;
        linear velocity in the target's frame; angular velocity in the torso's own frame; joint
        velocities. Axes instead of a quaternion, because a quaternion and its negative are the
        same orientation.
    """
    cosine, sine = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    w, x, y, z = observations[:, 3:7].T
    forward = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    upward = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
    features = np.empty((len(observations), NUM_FEATURES), dtype=np.float32)
    features[:, 0] = observations[:, 2]
    vectors = (forward, upward, observations[:, 15:18].T)
    for column, (ahead, left, above) in zip((1, 4, 15), vectors, strict=True):
        features[:, column] = cosine * ahead + sine * left
        features[:, column + 1] = cosine * left - sine * ahead
        features[:, column + 2] = above
    features[:, 7:15] = observations[:, 7:15]
    features[:, 18:] = observations[:, 18:]
    return features


def uprightness(observations: np.ndarray) -> np.ndarray:
    """Returns the cosine (n,) of the torso's tilt: 1 upright, -1 on its back."""
    x, y = observations[:, 4], observations[:, 5]
    return 1 - 2 * (x * x + y * y)


@dataclass(frozen=True)
class SteeringConfig:
    """The training task.

    Attributes:
        target_steps: Fewest and most steps between redraws of the target direction.
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
    """Ants in the open that are rewarded for running where they are told, with autoreset.

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
        self.ants = AntBatch(ant_model(), size)
        self.speeds = np.zeros(size)
        self.targets = np.zeros((size, 2))
        self._shown = np.zeros((size, 2))
        self._noise = np.zeros((size, 1))
        self._bias = np.zeros((size, NUM_JOINTS))
        self._until_redraw = np.zeros(size, dtype=np.int64)
        self._elapsed = np.zeros(size, dtype=np.int64)

    def reset(self) -> np.ndarray:
        """Starts all ants, at different moments of their episodes; returns (n, 29) features."""
        size = len(self._elapsed)
        for index in range(size):
            self.ants.reset(index, self.rng)
        self._elapsed[:] = self.rng.integers(self.config.episode_steps, size=size)
        self._redraw_targets(np.ones(size, dtype=bool))
        return self._features()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Takes one step of all ants; episodes that end start again at once.

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
        self._redraw_targets(self._until_redraw <= 0)
        return rewards, fallen, cut, self._features()

    def restart(self, ended: np.ndarray) -> np.ndarray:
        """Starts the ants of mask (n,) again and returns all features (n, 29)."""
        for index in np.flatnonzero(ended):
            self.ants.reset(int(index), self.rng)
        self._elapsed[ended] = 0
        self._redraw_targets(ended)
        return self._features()

    def _redraw_targets(self, mask: np.ndarray) -> None:
        count, config, rng = int(mask.sum()), self.config, self.rng
        if count == 0:
            return
        angles = rng.uniform(-np.pi, np.pi, count)
        self.targets[mask] = np.stack((np.cos(angles), np.sin(angles)), axis=1)
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
