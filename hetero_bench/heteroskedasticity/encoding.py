"""Observations as a network's input, so that it can learn steps in a single entry quickly."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_LARGEST = 10.0
"""Standardised entries are clipped to plus or minus this."""
_LEAST_WIDTH = 1e-6
"""An empty piece is taken to be this wide."""


@dataclass(frozen=True, eq=False)
class PiecewiseLinearEncoding:
    """Standardised entries, and each entry's place within every piece of its range.

    The pieces lie between quantiles: -1 below a piece, 1 above it, linear inside. Noise that
    changes abruptly with the position is then within reach of a small network; from standardised
    positions alone it is smoothed away. Gorishniy et al., "On Embeddings for Numerical Features in
    Tabular Deep Learning", NeurIPS 2022, Eq. 1.

    Attributes:
        mean: (obs,) of the observations.
        std: (obs,) of the observations, 1 where an entry is constant.
        edges: (pieces + 1, obs) quantiles.
    """

    mean: np.ndarray
    std: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, observations: np.ndarray, pieces: int) -> PiecewiseLinearEncoding:
        """Takes moments and quantiles from (n, obs) observations."""
        std = observations.std(axis=0, dtype=np.float64)
        std[std == 0.0] = 1.0
        edges = np.quantile(observations, np.linspace(0.0, 1.0, pieces + 1), axis=0)
        return cls(observations.mean(axis=0, dtype=np.float64), std, edges)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Returns (n, (pieces + 1) obs) float32 inputs for (n, obs) observations."""
        standard = (observations - self.mean) / self.std
        inputs = [np.clip(standard, -_LARGEST, _LARGEST).astype(np.float32)]
        for low, high in pairwise(self.edges):
            place = (observations - low) / np.maximum(high - low, _LEAST_WIDTH)
            inputs.append((2.0 * np.clip(place, 0.0, 1.0) - 1.0).astype(np.float32))
        return np.concatenate(inputs, axis=1)
