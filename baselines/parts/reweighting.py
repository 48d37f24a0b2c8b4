"""What the two forms of CQL (ReDS) share: weights of actions that Q holds to be bad, and Eq. 8."""

from __future__ import annotations

from torch import Tensor

from baselines.parts.quantiles import quantile

EXPONENT_RANGE = (-10.0, 5.0)
"""σ_min and σ_max of the ReDS paper's Eq. 52, in all of its experiments."""
PERCENTILES = (5, 50, 95)
"""Of the advantages, that are reported."""


def bad_action_weights(advantages: Tensor, tau: Tensor) -> Tensor:
    """Returns (P, B) weights ``g = exp(clip(-A/τ, -10, 5))`` (Eq. 6 and 52).

    Args:
        advantages: (P, B).
        tau: (P,) τ.
    """
    return (-advantages / tau[:, None]).clamp(*EXPONENT_RANGE).exp()


def support_difference(policy_term: Tensor, rho_term: Tensor, q_data: Tensor) -> Tensor:
    """Returns ``½ (P_π + P_ρ) - Q(s,a)``, the penalty R(θ; ρ) of Eq. 8 by transition.

    Args:
        policy_term: (..., P, B) what stands for E_π[Q].
        rho_term: (..., P, B) what stands for E_ρ[Q].
        q_data: (..., P, B) values of the dataset's actions.
    """
    return 0.5 * (policy_term + rho_term) - q_data


def weight_metrics(advantages: Tensor, tau: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Returns (P,) facts about the advantages and weights of a batch.

    ``advantage_5`` and so on are percentiles; ``weight_ess`` is Kish's effective sample size
    (Σ g)² / Σ g², in transitions; ``weight_lowest`` and ``weight_highest`` are the shares of
    transitions at the bounds of the exponent.

    Args:
        advantages: (P, B).
        tau: (P,) τ.
        weights: (P, B) g.
    """
    exponents, (low, high) = -advantages / tau[:, None], EXPONENT_RANGE
    percentiles = {
        f"advantage_{percent}": quantile(advantages, percent / 100) for percent in PERCENTILES
    }
    return {
        "advantage": advantages.mean(-1),
        **percentiles,
        "weight": weights.mean(-1),
        "weight_ess": weights.sum(-1).square() / weights.square().sum(-1),
        "weight_lowest": (exponents <= low).float().mean(-1),
        "weight_highest": (exponents >= high).float().mean(-1),
    }
