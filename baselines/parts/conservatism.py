"""The penalty of conservative Q-learning: what CQL and CQL (ReDS) for continuous actions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.engine.members import per_member
from baselines.parts.multipliers import Multiplier

LARGEST_MULTIPLIER = 1e6
"""Bound of α', as in the code of CQL's authors."""


def log_sum_exp(q: Tensor, log_densities: Tensor) -> Tensor:
    """Returns ``log Σ_k exp(Q(s,a_k)) / p(a_k|s)``, an estimate of log ∫ exp Q(s,a) da plus log K.

    Args:
        q: (..., P, B, K) values of sampled actions.
        log_densities: (P, B, K) log p of the distributions that they were drawn from.

    Returns:
        (..., P, B).
    """
    return torch.logsumexp(q - log_densities, dim=-1)


class Penalty:
    """The weight of what Q is pushed down by: ``w · diff``, or ``α' w (diff - gap)``.

    α' >= 0 ascends on the latter, and so holds diff at the gap (Kumar et al., NeurIPS 2020,
    Eq. 30).

    Args:
        configs: (P,) configs with the fields ``penalty``, ``gap``, ``diff_min`` and
            ``critic_rate``.
        device: Where everything lives.
    """

    def __init__(self, configs: Sequence[Any], device: torch.device):
        self.factor = per_member(configs, "penalty", device)
        self.constraint = self.gap = self.diff_min = None
        if any(config.gap is not None for config in configs):
            self.gap = per_member(configs, "gap", device)
            rate = per_member(configs, "critic_rate", device)
            self.constraint = Multiplier(rate, largest=LARGEST_MULTIPLIER)
        if any(config.diff_min is not None for config in configs):
            self.diff_min = per_member(configs, "diff_min", device)

    def mean(self, diff: Tensor) -> Tensor:
        """Returns the (E, P) means over the batch of (E, P, B) values of diff, raised to a bound.

        The bound is ``diff_min``, if there is one.
        """
        return (diff if self.diff_min is None else diff.maximum(self.diff_min[:, None])).mean(-1)

    def weight(self) -> Tensor:
        """Returns the (P,) present weight of diff, without gradient."""
        return self.factor if self.constraint is None else self.constraint.value() * self.factor

    def excess(self, diff: Tensor) -> Tensor:
        """Returns the (E, P) ``diff - gap`` of (E, P) means; diff itself if there is no gap."""
        return diff if self.gap is None else diff - self.gap

    def loss(self, diff: Tensor) -> Tensor:
        """Returns the (P,) penalty, the sum over critics, of (E, P) means."""
        return self.weight() * self.excess(diff).sum(0)

    def ascend(self, diff: Tensor, active: Tensor) -> None:
        """Takes one step on α', if there is one.

        Args:
            diff: (E, P) means.
            active: (P,) bool, as in :meth:`~baselines.parts.multipliers.Multiplier.ascend`.
        """
        if self.constraint is not None:
            self.constraint.ascend(self.factor * self.excess(diff.detach()).mean(0), active)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {} if self.constraint is None else {"constraint": self.constraint.state_dict()}
