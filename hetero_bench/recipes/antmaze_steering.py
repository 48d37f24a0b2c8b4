"""What the AntMaze controller sees: the ant, from the viewpoint of the direction it shall run in.

Everything about D4RL's ant but the walls is the same in every direction. So the controller is given
its input as seen by somebody who looks along the target direction, and one gait learned that way
serves every direction.
"""

from __future__ import annotations

import numpy as np

NUM_FEATURES = 29
"""Height, two axes of the torso (6), joint angles (8), velocities (6), joint velocities (8)."""

_SHORTEST = 1e-9
"""Metres. An ant that stands on its target to this accuracy is shown no direction."""


def steering_features(observations: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Turns observations into the controller's input: position dropped, x axis along the target.

    Args:
        observations: (n, 29) positions and velocities of the ant.
        directions: (n, 2) from the ant towards its target, of any length.

    Returns:
        (n, 29) float32: height; the torso's x and z axes, in the target's frame; joint angles;
        linear velocity in the target's frame; angular velocity in the torso's own frame; joint
        velocities. Axes instead of a quaternion, because a quaternion and its negative are the
        same orientation.
    """
    cosine, sine = directions.T / np.maximum(np.linalg.norm(directions, axis=1), _SHORTEST)
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
