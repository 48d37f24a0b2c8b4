"""The actor of SAC as NumPy arrays: ReLU layers, then a Gaussian squashed by tanh.

Stored as safetensors: ``layers.<i>.weight`` (out, in) and ``layers.<i>.bias`` (out,), float32; the
last layer gives means and log standard deviations, one after the other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hetero_bench.recipes.mlp_policy import load_layers, save_layers

LOG_STD_LIMITS = (-20.0, 2.0)
"""Log standard deviations are clipped to these, as in Stable-Baselines3."""


@dataclass(frozen=True, eq=False)
class SquashedGaussianMLP:
    """Policy with actions tanh(mean + std * noise), float32, between -1 and 1.

    Attributes:
        weights: One (out, in) matrix per layer.
        biases: One (out,) vector per layer.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    @property
    def num_inputs(self) -> int:
        """Length of an observation."""
        return self.weights[0].shape[1]

    @property
    def num_outputs(self) -> int:
        """Length of an action."""
        return len(self.biases[-1]) // 2

    def distribution(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the Gaussian before squashing.

        Args:
            observations: (n, obs).

        Returns:
            Means and log standard deviations, (n, act) float32 each.
        """
        hidden = observations.astype(np.float32, copy=False)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight.T + bias, 0.0)
        outputs = hidden @ self.weights[-1].T + self.biases[-1]
        mean, log_std = np.split(outputs, 2, axis=1)
        return mean, np.clip(log_std, *LOG_STD_LIMITS)

    def mean_actions(self, observations: np.ndarray) -> np.ndarray:
        """Returns tanh of the means, (n, act) float32: the deterministic policy."""
        return np.tanh(self.distribution(observations)[0])

    def __call__(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws actions (n, act) float32 for observations (n, obs), as SAC collects."""
        return self.draw(observations, rng)[0]

    def draw(
        self, observations: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws actions and says from which Gaussians.

        Args:
            observations: (n, obs).
            rng: Source of the noise.

        Returns:
            Actions, and the means and standard deviations before squashing, (n, act) float32 each.
        """
        mean, log_std = self.distribution(observations)
        std = np.exp(log_std)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        return np.tanh(mean + std * noise), mean, std

    def save(self, path: str | os.PathLike[str], about: dict[str, Any] | None = None) -> str:
        """Writes the safetensors file and returns its sha256; see ``mlp_policy.save_layers``."""
        return save_layers(path, self.weights, self.biases, {}, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str], sha256: str | None = None) -> SquashedGaussianMLP:
        """Reads a safetensors file; arguments and errors as ``TanhMLP.load``."""
        weights, biases, _ = load_layers(Path(path), sha256, extra=())
        if len(biases[-1]) % 2:
            raise ValueError(
                f"{path} has {len(biases[-1])} outputs; expected a mean and a log standard "
                "deviation for each action"
            )
        return cls(weights, biases)
