"""The cross covariance of gradient pairs: what C4 penalises, what it clusters by, what it reports.

Rows of ``g'`` and ``g`` belong together: the critic's gradients at (s', a') and at (s, a), ``m``
numbers each, or the features that stand in for them. A transition without a' has no pair.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from baselines.engine.data import Batch
from baselines.parts.input_gradients import values_and_gradients
from baselines.parts.networks import MLP

GradientKind = Literal["feature", "exact"]
"""What stands for ∇_x Q(x): the critic's penultimate activations, or the gradient itself."""


def successive_inputs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns the critics' (P, B, obs + act) inputs x' = (s', a') and x = (s, a), both as taken."""
    following = torch.cat([batch.next_observations, batch.next_actions], dim=-1)
    return following, torch.cat([batch.observations, batch.actions], dim=-1)


def gradients(network: MLP, parameters: Tensor, inputs: Tensor, kind: GradientKind) -> Tensor:
    """Returns g of critics at x = (s, a), differentiable by their parameters.

    Args:
        network: The critics' shape.
        parameters: (*stack, n), with stack (P,) or (E, P).
        inputs: (P, B, obs + act) x.
        kind: What g is. The exact gradient needs no backward pass (see
            :mod:`baselines.parts.input_gradients`), so that a loss of it needs one only.

    Returns:
        (*stack, B, m), m the width of the last hidden layer or of the input.
    """
    if kind == "exact":
        return values_and_gradients(network, parameters, inputs)[1]
    return network.with_features(parameters, inputs)[1]


def _centred(vectors: Tensor, weight: Tensor, count: Tensor) -> Tensor:
    """Returns (..., B, m) vectors less their mean, and 0 where (..., B, 1) weight is."""
    mean = (weight * vectors).sum(-2, keepdim=True) / count
    return weight * (vectors - mean)


def cross_penalty(following: Tensor, current: Tensor, has_next: Tensor, beta: Tensor) -> Tensor:
    """Returns ``R = ‖Ĉ‖_F² + β (tr Ĉ)²`` of a batch, with ``Ĉ = Cov_B(g', g)`` (C4, Eq. 13).

    Means are over the rows that have a next action. With many features per row, ‖Ĉ‖_F² comes from
    the rows' Gram matrices, ``Σ (G' ∘ G) / B²``, which are smaller then.

    Args:
        following: (E, P, B, m) g'.
        current: (E, P, B, m) g.
        has_next: (P, B) bool.
        beta: (P,) β.

    Returns:
        (E, P).
    """
    weight = has_next.unsqueeze(-1).to(current.dtype)
    count = weight.sum(-2, keepdim=True).clamp_min(1.0)
    following, current = _centred(following, weight, count), _centred(current, weight, count)
    rows, size = current.shape[-2:]
    if size > 2 * rows:
        squared_norm = ((following @ following.mT) * (current @ current.mT)).sum((-2, -1))
    else:
        squared_norm = (following.mT @ current).square().sum((-2, -1))
    trace = (following * current).sum((-2, -1))
    return (squared_norm + beta * trace.square()) / count[..., 0, 0].square()


class Traces(NamedTuple):
    """Traces of covariances over many pairs, divided by ``m``; (G,) each."""

    uniform: Tensor  # tr Cov(g', g), Term C: what a uniform batch has
    within: Tensor  # Σ_z p_z tr C_z: what a batch of one cluster has
    between: Tensor  # tr Cov(μ'_Z, μ_Z), what single-cluster batches do without
    following: Tensor  # tr Cov(g'), Term A
    current: Tensor  # tr Cov(g), Term B


def traces(following: Tensor, current: Tensor, responsibilities: Tensor) -> Traces:
    """Returns the traces of Theorem 2's terms, ``Cov(g', g) = E[C_Z] + Cov(μ'_Z, μ_Z)``.

    All are divided by n, not by n - 1: the theorem holds for no other divisor.

    Args:
        following: (G, n, m) g'.
        current: (G, n, m) g.
        responsibilities: (G, n, K) r; all 0 for rows that do not count.
    """
    weight = responsibilities.sum(-1, keepdim=True)
    count = weight.sum(1, keepdim=True).clamp_min(1.0)
    following, current = _centred(following, weight, count), _centred(current, weight, count)
    scale = 1.0 / (count.squeeze(-1) * current.shape[-1])
    masses = responsibilities.sum(1).unsqueeze(-1)
    sums = (responsibilities.mT @ following) * (responsibilities.mT @ current)
    driver = (sums / masses.clamp_min(torch.finfo(masses.dtype).tiny)).sum((1, 2))
    uniform, *spreads = (
        (one * other).sum((1, 2))
        for one, other in ((following, current), (following, following), (current, current))
    )
    terms = (uniform, uniform - driver, driver, *spreads)
    return Traces(*(term * scale.squeeze(-1) for term in terms))
