"""What a network of Gaussians is fitted to: losses with their gradients.

A dataset stores clipped actions. An entry inside the bounds has the Gaussian's density; one at a
bound says only that the action before clipping lay there or beyond, and has the probability of
that (a censored, or Tobit, likelihood). So the Gaussian that is fitted is that of the action before
clipping. Were entries at the bounds taken at their face value, the standard deviation would come
out too small wherever a controller saturates, and D infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_TABLE_LOW, _TABLE_HIGH, _TABLE_POINTS = -30.0, 10.0, 8001
"""Linear interpolation between these has an error below 1e-5."""


class Loss(NamedTuple):
    """A loss by entry, (B, A) each, and its derivatives.

    Attributes:
        values: Nats.
        by_mean: Derivative by the Gaussian's mean.
        by_log_std: Derivative by its log standard deviation.
    """

    values: np.ndarray
    by_mean: np.ndarray
    by_log_std: np.ndarray


class Target(Protocol):
    """What one Gaussian per row is fitted to."""

    def loss(self, rows: np.ndarray, means: np.ndarray, log_stds: np.ndarray) -> Loss:
        """Returns the loss of Gaussians with (B, A) parameters on rows (B,)."""
        ...


@dataclass(frozen=True, eq=False)
class CensoredActions:
    """Negative log-likelihood of actions that were clipped to a symmetric interval.

    Attributes:
        actions: (R, A) within ±``bound``.
        bound: Entries at ±``bound`` or beyond are known to be at least that.
    """

    actions: np.ndarray
    bound: float = 1.0

    def loss(self, rows: np.ndarray, means: np.ndarray, log_stds: np.ndarray) -> Loss:
        """See :class:`Target`."""
        actions = self.actions[rows]
        stds = np.exp(log_stds)
        side = np.where(actions >= self.bound, 1.0, np.where(actions <= -self.bound, -1.0, 0.0))
        standard = (actions - means) / stds
        beyond = side * (means - side * self.bound) / stds
        log_tail, hazard = log_normal_tail(beyond)
        inside = side == 0.0
        return Loss(
            np.where(inside, 0.5 * standard**2 + log_stds + _LOG_SQRT_2PI, -log_tail),
            np.where(inside, -standard, -side * hazard) / stds,
            np.where(inside, 1.0 - standard**2, beyond * hazard),
        )


@dataclass(frozen=True, eq=False)
class KnownGaussians:
    """Cross-entropy to Gaussians that are known by row.

    Minimising it over functions of the observation gives the mean and the variance of their mixture
    over what the observation does not tell.

    Attributes:
        means: (R, A).
        std: Standard deviation of each.
    """

    means: np.ndarray
    std: float

    def loss(self, rows: np.ndarray, means: np.ndarray, log_stds: np.ndarray) -> Loss:
        """See :class:`Target`."""
        variances = np.exp(2.0 * log_stds)
        errors = means - self.means[rows]
        squares = (errors**2 + self.std**2) / variances
        return Loss(0.5 * squares + log_stds + _LOG_SQRT_2PI, errors / variances, 1.0 - squares)


def log_normal_tail(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns log Φ(z) and its derivative φ(z)/Φ(z), accurate to 1e-5, of an array."""
    points, logarithms, hazards = _normal_tables()
    low = np.minimum(z, _TABLE_LOW)
    far = -0.5 * low**2 - np.log(-low) - _LOG_SQRT_2PI
    near = z >= _TABLE_LOW
    return (
        np.where(near, np.interp(z, points, logarithms), far),
        np.where(near, np.interp(z, points, hazards), -low),
    )


@lru_cache(maxsize=1)
def _normal_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.linspace(_TABLE_LOW, _TABLE_HIGH, _TABLE_POINTS)
    logarithms = np.array([math.log(0.5 * math.erfc(-z / math.sqrt(2.0))) for z in points])
    return points, logarithms, np.exp(-0.5 * points**2 - _LOG_SQRT_2PI - logarithms)
