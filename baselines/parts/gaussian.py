"""Gaussian policies for actions in [-1, 1], squashed by tanh or not.

A squashed action is ``a = tanh(u)`` with ``u`` normal, independent by dimension. Its log-density is

    log π(a|s) = Σ_d [ log N(u_d; μ_d, σ_d) - log(1 - tanh²(u_d)) ],

and ``log(1 - tanh²u) = 2 (log 2 - u - softplus(-2u))``, which loses no digits for large |u|.
Randomness is injected: everything here is a function of its arguments.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

LARGEST_ACTION = 1.0 - 1e-6
"""Dataset actions are clipped to this before atanh: the density at ±1 is infinite."""

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def split_heads(outputs: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Splits a network's outputs into mean and log standard deviation of ``u``.

    Args:
        outputs: (..., 2 act).
        low: Smallest log standard deviation; smaller ones are clipped, and have no gradient.
        high: Largest one.

    Returns:
        (..., act) mean and (..., act) log standard deviation.
    """
    mean, log_std = outputs.chunk(2, dim=-1)
    return mean, log_std.clamp(low, high)


def normal_log_density(mean: Tensor, log_std: Tensor, values: Tensor) -> Tensor:
    """Returns (...) log N(values; mean, std), summed over the last axis of (..., act) arguments."""
    standard = (values - mean) * (-log_std).exp()
    return -(0.5 * standard.square() + log_std + _LOG_SQRT_2PI).sum(-1)


def log_tanh_slope(u: Tensor) -> Tensor:
    """Returns log(1 - tanh²u), elementwise."""
    return 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))


def sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draws squashed actions with their log-densities, both differentiable (reparameterised).

    Args:
        mean: (..., act) of ``u``.
        log_std: (..., act) of ``u``.
        noise: (..., act) standard normal numbers.

    Returns:
        (..., act) actions and (...) log-densities.
    """
    u = mean + log_std.exp() * noise
    # The standardised u is the noise itself, so the normal part has no gradient but log σ's.
    normal = -(0.5 * noise.square() + log_std + _LOG_SQRT_2PI)
    return u.tanh(), (normal - log_tanh_slope(u)).sum(-1)


def log_density(mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
    """Returns (...) log-densities of given (..., act) squashed actions in [-1, 1].

    Actions beyond ``LARGEST_ACTION`` are clipped to it, and have no gradient.
    """
    u = actions.clamp(-LARGEST_ACTION, LARGEST_ACTION).atanh()
    return normal_log_density(mean, log_std, u) - log_tanh_slope(u).sum(-1)
