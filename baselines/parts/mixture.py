"""Mixtures of Gaussians by expectation maximisation, many at once: Eq. 11 and Algorithm 1 of C4.

Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977;
Bishop, "Pattern Recognition and Machine Learning", 2006, Section 9.2. ``G`` mixtures of ``K``
components each, of ``n`` points in ``D`` dimensions. A component without points has weight 0 and
stays empty, so that mixtures of fewer components than ``K`` can be computed beside others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot


class Mixture(NamedTuple):
    """``p(y) = Σ_z p_z N(y | μ_z, Ω_z)`` (C4, Eq. 11)."""

    log_weights: Tensor  # (G, K) log p_z
    means: Tensor  # (G, K, D) μ_z
    covariances: Tensor  # (G, K, D, D) Ω_z


def log_joint(points: Tensor, mixture: Mixture) -> Tensor:
    """Returns the (G, n, K) ``log p_z + log N(y_i | μ_z, Ω_z)``.

    NaN for a component whose covariance is not positive definite.

    Args:
        points: (G, n, D) y.
        mixture: The mixtures.
    """
    groups, count, size = points.shape
    factors, failed = torch.linalg.cholesky_ex(mixture.covariances)
    factors = torch.where(failed[..., None, None] == 0, factors, math.nan)
    identity = torch.eye(size, dtype=points.dtype, device=points.device).expand_as(factors)
    whitening = torch.linalg.solve_triangular(factors, identity, upper=False)
    offsets = (whitening @ mixture.means.unsqueeze(-1)).reshape(groups, 1, -1)
    white = torch.baddbmm(-offsets, points, whitening.reshape(groups, -1, size).mT)
    distances = white.square_().view(groups, count, -1, size).sum(-1)
    log_scales = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constants = mixture.log_weights - log_scales - 0.5 * size * math.log(2.0 * math.pi)
    return constants.unsqueeze(1) - 0.5 * distances


def expectation(points: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """The E-step of Algorithm 1: ``r_iz ∝ p_z N(y_i | μ_z, Ω_z)``.

    Args:
        points: (G, n, D) y.
        mixture: The mixtures.

    Returns:
        (G, n, K) responsibilities r that sum to 1 over z, and (G, n) log-likelihoods log p(y_i).
    """
    joint = log_joint(points, mixture)
    return joint.softmax(-1), joint.logsumexp(-1)


def maximisation(points: Tensor, responsibilities: Tensor, ridge: Tensor) -> Mixture:
    """The M-step of Algorithm 1: ``p_z = N_z / n``, weighted means, covariances ``Ω_z + εI``.

    Args:
        points: (G, n, D) y.
        responsibilities: (G, n, K) r; all 0 for points that do not count.
        ridge: (G,) ε.
    """
    groups, _, size = points.shape
    masses = responsibilities.sum(1)
    divisors = masses.clamp_min(torch.finfo(masses.dtype).tiny)
    means = responsibilities.mT @ points / divisors.unsqueeze(-1)
    weighted = (responsibilities.unsqueeze(-1) * points.unsqueeze(-2)).flatten(-2)
    moments = (weighted.mT @ points).view(groups, -1, size, size) / divisors[..., None, None]
    identity = torch.eye(size, dtype=points.dtype, device=points.device)
    covariances = moments - means.unsqueeze(-1) * means.unsqueeze(-2)
    covariances = covariances + ridge[:, None, None, None] * identity
    return Mixture((masses / masses.sum(-1, keepdim=True)).log(), means, covariances)


def fit(points: Tensor, responsibilities: Tensor, ridge: Tensor, iterations: int) -> Mixture:
    """Returns the mixtures after so many M-steps, with E-steps between them.

    Args:
        points: (G, n, D) y.
        responsibilities: (G, n, K) r to begin with; points whose r are all 0 do not count.
        ridge: (G,) ε of the M-steps.
        iterations: M-steps, at least 1.
    """
    counts = responsibilities.sum(-1, keepdim=True)
    mixture = maximisation(points, responsibilities, ridge)
    for _ in range(iterations - 1):
        responsibilities, _ = expectation(points, mixture)
        mixture = maximisation(points, counts * responsibilities, ridge)
    return mixture


def spread_out(points: Tensor, counted: Tensor, clusters: Tensor, uniforms: Tensor) -> Tensor:
    """Assigns points to centres that are drawn far from each other.

    Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007: the first centre
    is a point drawn uniformly, every other one is drawn in proportion to the squared distance from
    the nearest centre so far.

    Args:
        points: (G, n, D) y.
        counted: (G, n) bool, which points count.
        clusters: (G,) int64 number of centres, at most K.
        uniforms: (G, K) uniforms on (0, 1) to draw the centres with.

    Returns:
        (G, n, K) 1 for the nearest centre and 0 for others; all 0 for points that do not count.
    """
    nearest = counted.to(points.dtype)
    distances = []
    for number in range(uniforms.shape[1]):
        cumulated = nearest.cumsum(-1)
        draw = uniforms[:, number, None].to(points.dtype) * cumulated[:, -1:]
        centre = torch.searchsorted(cumulated, draw, right=True).clamp(max=points.shape[1] - 1)
        centre = points.gather(1, centre.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
        distance = (points - centre).square().sum(-1)
        nearest = counted * (distance if number == 0 else nearest.minimum(distance))
        distances.append(distance.masked_fill((clusters <= number).unsqueeze(-1), math.inf))
    chosen = torch.stack(distances, dim=-1).argmin(-1)
    return counted.unsqueeze(-1) * one_hot(chosen, uniforms.shape[1]).to(points.dtype)
