"""SPAR's equations: the robust value, weights of residuals, distances, and the gate.

Zhao, Pan, Liang and Lin, "SPAR: Support-Preserving Action Rectification", arXiv 2605.27877, 2026.
Everything here is a function of its arguments. Squared distances are means over the dimensions of
the action; ``K`` counts candidates in a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

STD_FLOOR = 1e-3
"""Smallest σ_Q that advantages are divided by."""
LARGEST_WEIGHT = 100.0
"""Largest exponential weight w of a fit, as in IQL."""
VALUE_OFFSET = 1e-8
"""ε of Eq. 12."""


def robust_values(mean: Tensor, std: Tensor, penalty: Tensor) -> Tensor:
    """Returns ``Q_rob = μ_Q - λ_u σ_Q`` (Eq. 1).

    Args:
        mean: (P, ...) μ_Q over the critics.
        std: (P, ...) σ_Q, of the population of critics (divided by their number).
        penalty: (P,) λ_u.
    """
    return mean - _spread(penalty, mean) * std


def normalised_advantages(values: Tensor, base_values: Tensor, base_std: Tensor) -> Tensor:
    """Returns ``Ã = (Q_rob(s,a) - Q_rob(s,a_base)) / σ_Q`` (section 3.2.2).

    Args:
        values: (P, B) or (P, B, K) Q_rob(s, a).
        base_values: (P, B) Q_rob(s, a_base).
        base_std: (P, B) σ_Q(s, a_base).
    """
    if values.dim() > base_values.dim():
        base_values, base_std = base_values.unsqueeze(-1), base_std.unsqueeze(-1)
    return (values - base_values) / base_std.clamp(min=STD_FLOOR)


@dataclass(frozen=True)
class Weighting:
    """The weights w of section 3.2.2, along its two axes.

    Attributes:
        temperature: (P,) T of ``w_base = exp(Ã/T)``.
        uniform: (P,) bool, ``w_base = 1`` instead.
        hard: (P,) bool, no weight where ``Ã ≤ 0``.
    """

    temperature: Tensor
    uniform: Tensor
    hard: Tensor

    def weights(self, advantages: Tensor) -> Tensor:
        """Returns the (P, B) weights w of dataset actions with advantages Ã, at most 100."""
        return self._filtered(self._base(advantages).clamp(max=LARGEST_WEIGHT), advantages)

    def shares(self, advantages: Tensor) -> Tensor:
        """Returns the (P, B, K) weights ω of Eq. 9: w over its sum in each state.

        They sum to 1, and are 0 in a state none of whose candidates has weight. Only ratios of
        weights count, so there is no largest one.

        Args:
            advantages: (P, B, K) Ã_k, finite.
        """
        # In numbers of the best candidate's weight, lest it overflow.
        relative = self._base(advantages - advantages.amax(-1, keepdim=True))
        relative = self._filtered(relative, advantages)
        return relative / relative.sum(-1, keepdim=True).clamp(min=1.0)

    def _base(self, advantages: Tensor) -> Tensor:
        exponents = advantages / _spread(self.temperature, advantages)
        return exponents.masked_fill(_spread(self.uniform, advantages), 0.0).exp()

    def _filtered(self, weights: Tensor, advantages: Tensor) -> Tensor:
        return weights.masked_fill(_spread(self.hard, weights) & (advantages <= 0.0), 0.0)


def weighted_distance(residuals: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Returns the (P,) fit ``mean_B w ‖π_res - Δa‖²`` of Eq. 7 and 8.

    Args:
        residuals: (P, B, act).
        targets: (P, B, act) Δa.
        weights: (P, B) w, without gradient.
    """
    return (weights * (residuals - targets).square().mean(-1)).mean(-1)


def imitation_loss(residuals: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
    """Returns the (P,) guidance ``mean_B Σ_k ω_k ‖Δa_res(z_k) - Δa_k‖²`` of Eq. 10.

    Args:
        residuals: (P, B, K, act).
        targets: (P, B, K, act) Δa_k, without gradient.
        shares: (P, B, K) ω, without gradient.
    """
    return (shares * (residuals - targets).square().mean(-1)).sum(-1).mean(-1)


def resampled(targets: Tensor, shares: Tensor, uniforms: Tensor) -> Tensor:
    """Returns targets drawn with replacement, each with the probability of its share.

    Args:
        targets: (P, B, K, act).
        shares: (P, B, K) ω. Where all are 0, what is drawn has no meaning.
        uniforms: (P, B, K) in (0, 1).
    """
    bounds = shares.cumsum(-1)
    drawn = torch.searchsorted(bounds, uniforms * bounds[..., -1:], right=True)
    drawn = drawn.clamp(max=shares.shape[-1] - 1)
    return targets.gather(-2, drawn.unsqueeze(-1).expand_as(targets))


class Decision(NamedTuple):
    """What stage III does in each state."""

    actions: Tensor  # (..., act), the best candidate or the base action
    gains: Tensor  # (...) ΔQ_rob of the best candidate
    accepted: Tensor  # (...) bool, whether it is taken


def rectified(
    base_actions: Tensor,
    candidates: Tensor,
    base_values: Tensor,
    values: Tensor,
    absolute: Tensor | float,
    relative: Tensor | float,
) -> Decision:
    """Takes the best candidate where it gains enough, and the base action elsewhere (Eq. 12).

    Args:
        base_actions: (..., act) a_base.
        candidates: (..., K, act) a_base + Δa_k, clipped.
        base_values: (...) Q_rob(s, a_base).
        values: (..., K) Q_rob(s, a_k).
        absolute: η_abs, broadcastable to (...).
        relative: η_rel, likewise.
    """
    gains, best = (values - base_values.unsqueeze(-1)).max(-1)
    enough = gains / (base_values.abs() + VALUE_OFFSET) > relative
    accepted = (gains > absolute) & enough
    index = best[..., None, None].expand(*best.shape, 1, candidates.shape[-1])
    chosen = candidates.gather(-2, index).squeeze(-2)
    return Decision(torch.where(accepted.unsqueeze(-1), chosen, base_actions), gains, accepted)


def _spread(members: Tensor, like: Tensor) -> Tensor:
    """Returns (P,) numbers as (P, 1, ...) with as many axes as another tensor."""
    return members.view(-1, *(1 for _ in like.shape[1:]))
