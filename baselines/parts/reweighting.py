"""Weights of actions that Q holds to be bad: what the two forms of CQL (ReDS) share."""

from __future__ import annotations

from torch import Tensor

EXPONENT_RANGE = (-10.0, 5.0)
"""σ_min and σ_max of the ReDS paper's Eq. 52, in all of its experiments."""


def bad_action_weights(advantages: Tensor, tau: Tensor) -> Tensor:
    """Returns (P, B) weights ``g = exp(clip(-A/τ, -10, 5))`` (Eq. 6 and 52).

    Args:
        advantages: (P, B).
        tau: (P,) τ.
    """
    return (-advantages / tau[:, None]).clamp(*EXPONENT_RANGE).exp()


def weight_metrics(advantages: Tensor, tau: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Returns (P,) facts about the weights of a batch.

    ``weight_ess`` is Kish's effective sample size (Σ g)² / Σ g², in transitions; ``weight_lowest``
    and ``weight_highest`` are the shares of transitions at the bounds of the exponent.

    Args:
        advantages: (P, B).
        tau: (P,) τ.
        weights: (P, B) g.
    """
    exponents, (low, high) = -advantages / tau[:, None], EXPONENT_RANGE
    return {
        "advantage": advantages.mean(-1),
        "weight": weights.mean(-1),
        "weight_ess": weights.sum(-1).square() / weights.square().sum(-1),
        "weight_lowest": (exponents <= low).float().mean(-1),
        "weight_highest": (exponents >= high).float().mean(-1),
    }
