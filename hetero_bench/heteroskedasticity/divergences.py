"""Divergences between Gaussian policies with independent dimensions, in closed form.

With π(·|s) = Π_d N(μπ, σπ²) and β(·|s) = Π_d N(μβ, σβ²),

    1 + D(π, β)(s) = ∫ π²/β = Π_d σβ² / (σπ √v) · exp((μπ - μβ)² / v),   v = 2 σβ² - σπ²,

which is infinite where v ≤ 0 in any dimension. Any invertible map of the actions leaves both D and
the Kullback-Leibler divergence as they are: tanh cancels, clipping does not.
"""

from __future__ import annotations

import numpy as np


def log_one_plus_chi_square(
    policy_means: np.ndarray,
    policy_stds: np.ndarray,
    behaviour_means: np.ndarray,
    behaviour_stds: np.ndarray,
) -> np.ndarray:
    """Returns (n,) float64 log(1 + D(π, β)), infinite where D is.

    Args:
        policy_means: (n, A) μπ.
        policy_stds: (n, A) σπ, positive.
        behaviour_means: (n, A) μβ.
        behaviour_stds: (n, A) σβ, positive.
    """
    mean, std, beta_mean, beta_std = _float64(
        policy_means, policy_stds, behaviour_means, behaviour_stds
    )
    gap = 2.0 * beta_std**2 - std**2
    finite = gap > 0.0
    gap = np.where(finite, gap, 1.0)
    terms = 2.0 * np.log(beta_std) - np.log(std) - 0.5 * np.log(gap)
    terms = terms + (mean - beta_mean) ** 2 / gap
    return np.where(finite.all(axis=-1), np.maximum(terms.sum(axis=-1), 0.0), np.inf)


def kullback_leibler(
    policy_means: np.ndarray,
    policy_stds: np.ndarray,
    behaviour_means: np.ndarray,
    behaviour_stds: np.ndarray,
) -> np.ndarray:
    """Returns (n,) float64 KL(π ‖ β) in nats; arguments as for the chi-square divergence."""
    mean, std, beta_mean, beta_std = _float64(
        policy_means, policy_stds, behaviour_means, behaviour_stds
    )
    squares = (std**2 + (mean - beta_mean) ** 2) / beta_std**2
    terms = np.log(beta_std / std) + 0.5 * (squares - 1.0)
    return np.maximum(terms.sum(axis=-1), 0.0)


def _float64(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return np.broadcast_arrays(*(np.asarray(array, dtype=np.float64) for array in arrays))
