"""A small NumPy network that gives Gaussians, and Adam to train it with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_LOG_STD_MIDDLE, _LOG_STD_REACH = -1.5, 2.5
"""Log standard deviations lie within the reach of the middle: 0.018 to 2.7."""
_PREDICTED_ROWS = 8192


class Activations(NamedTuple):
    """What a backward pass needs: inputs (B, in), both hidden layers (B, H), outputs (B, out)."""

    inputs: np.ndarray
    first: np.ndarray
    second: np.ndarray
    outputs: np.ndarray


class GaussianNetwork:
    """Two hidden ReLU layers that ``K`` Gaussians over ``A`` dimensions share, float32.

    Args:
        num_inputs: Length of an input.
        heads: How many Gaussians ``K`` per input.
        size: Dimensions ``A`` of each.
        width: Of the hidden layers.
        rng: Draws the initial weights.

    Attributes:
        parameters: Flat vector of all weights and biases.
    """

    def __init__(
        self, num_inputs: int, heads: int, size: int, width: int, rng: np.random.Generator
    ) -> None:
        self.heads, self.size = heads, size
        sizes = [num_inputs, width, width, 2 * heads * size]
        self._shapes = [
            shape for i in range(3) for shape in ((sizes[i], sizes[i + 1]), (sizes[i + 1],))
        ]
        self.parameters = np.zeros(sum(int(np.prod(shape)) for shape in self._shapes), np.float32)
        for weight, gain in zip(self._split(self.parameters)[::2], (1.0, 1.0, 0.1), strict=True):
            weight[:] = gain * np.sqrt(2.0 / len(weight)) * rng.standard_normal(weight.shape)

    def forward(self, inputs: np.ndarray) -> Activations:
        """Computes hidden layers and raw outputs for (B, in) float32 inputs."""
        w0, b0, w1, b1, w2, b2 = self._split(self.parameters)
        first = np.maximum(inputs @ w0 + b0, 0.0)
        second = np.maximum(first @ w1 + b1, 0.0)
        return Activations(inputs, first, second, second @ w2 + b2)

    def gaussians(self, activations: Activations) -> tuple[np.ndarray, np.ndarray]:
        """Returns (B, K, A) means and log standard deviations."""
        outputs = activations.outputs.reshape(-1, 2, self.heads, self.size)
        return outputs[:, 0], _LOG_STD_MIDDLE + _LOG_STD_REACH * np.tanh(outputs[:, 1])

    def gradient(
        self, seen: Activations, by_means: np.ndarray, by_log_stds: np.ndarray
    ) -> np.ndarray:
        """Returns a loss's gradient by the parameters from that by (B, K, A) Gaussians."""
        _, _, w1, _, w2, _ = self._split(self.parameters)
        _, log_stds = self.gaussians(seen)
        slope = _LOG_STD_REACH - (log_stds - _LOG_STD_MIDDLE) ** 2 / _LOG_STD_REACH
        stacked = np.stack([by_means, by_log_stds * slope], axis=1)
        back = stacked.reshape(len(seen.inputs), -1).astype(np.float32)
        gradient = np.empty_like(self.parameters)
        g0, c0, g1, c1, g2, c2 = self._split(gradient)
        g2[:], c2[:] = seen.second.T @ back, back.sum(axis=0)
        back = (back @ w2.T) * (seen.second > 0.0)
        g1[:], c1[:] = seen.first.T @ back, back.sum(axis=0)
        back = (back @ w1.T) * (seen.first > 0.0)
        g0[:], c0[:] = seen.inputs.T @ back, back.sum(axis=0)
        return gradient

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (n, K, A) float64 means and standard deviations, some rows at a time."""
        means, log_stds = zip(
            *(
                self.gaussians(self.forward(inputs[start : start + _PREDICTED_ROWS]))
                for start in range(0, len(inputs), _PREDICTED_ROWS)
            ),
            strict=True,
        )
        return (
            np.concatenate(means).astype(np.float64),
            np.exp(np.concatenate(log_stds).astype(np.float64)),
        )

    def _split(self, vector: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        parts = np.split(vector, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]


class Adam:
    """Adam with decoupled weight decay on one vector, which is changed in place.

    Kingma & Ba (2015), Loshchilov & Hutter (2019). The gradient's norm is limited.

    Args:
        parameters: (n,) float32.
        weight_decay: Share of the parameters taken off per step, per unit of learning rate.
        largest_norm: Longer gradients are shortened to this.
    """

    def __init__(
        self, parameters: np.ndarray, weight_decay: float, largest_norm: float = 10.0
    ) -> None:
        self._parameters = parameters
        self._weight_decay = weight_decay
        self._largest_norm = largest_norm
        self._mean = np.zeros_like(parameters)
        self._square = np.zeros_like(parameters)
        self._steps = 0

    def step(self, gradient: np.ndarray, learning_rate: float) -> None:
        """Takes one step down a gradient (n,)."""
        self._steps += 1
        norm = float(np.linalg.norm(gradient))
        gradient = gradient * min(1.0, self._largest_norm / max(norm, 1e-12))
        self._mean += 0.1 * (gradient - self._mean)
        self._square += 0.001 * (gradient**2 - self._square)
        scale = learning_rate / (1.0 - 0.9**self._steps)
        root = np.sqrt(self._square / (1.0 - 0.999**self._steps)) + 1e-8
        self._parameters *= 1.0 - learning_rate * self._weight_decay
        self._parameters -= (scale * self._mean / root).astype(np.float32)
