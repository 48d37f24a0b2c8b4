"""The AntMaze behaviour policy: the bundled network, steered towards waypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hetero_bench.recipes.antmaze_steering import NUM_FEATURES, steering_features
from hetero_bench.recipes.mlp_policy import TanhMLP
from hetero_bench.registry import registry_folder

WEIGHTS_FILE = "antmaze-controller.safetensors"


def weights_path() -> Path:
    """Returns where the bundled controller's weights lie."""
    return registry_folder() / "policies" / WEIGHTS_FILE


class AntMazeController:
    """Runs D4RL's ant towards a point: ``controller(observations, points) -> actions``.

    Only the direction to the point matters. Trained by
    :mod:`hetero_bench.recipes.train_antmaze_controller`.

    Args:
        network: Over :func:`hetero_bench.recipes.antmaze_steering.steering_features`.

    Raises:
        ValueError: If the network has other inputs.
    """

    def __init__(self, network: TanhMLP) -> None:
        if network.num_inputs != NUM_FEATURES:
            raise ValueError(
                f"the network takes {network.num_inputs} inputs; expected {NUM_FEATURES}"
            )
        self.network = network

    @classmethod
    def load(cls, sha256: str | None = None) -> AntMazeController:
        """Loads the bundled weights; see :meth:`TanhMLP.load` for errors."""
        return cls(TanhMLP.load(weights_path(), sha256))

    def __call__(self, observations: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Returns (n, 8) float32 actions within ±1, to which noise may be added.

        Args:
            observations: (n, 29).
            points: (n, 2) x and y to walk to, metres.
        """
        features = steering_features(observations, points - observations[:, :2])
        return np.clip(self.network(features), -1.0, 1.0)
