"""Learned multipliers of constraints: SAC's temperature, Lagrange multipliers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from baselines.engine.optimiser import MemberAdam, note_finite


class Multiplier:
    """One positive number per member that grows while its constraint is violated.

    With an excess e > 0 of what is constrained it takes an Adam step up the Lagrangian ``λ e``, on
    log λ. It begins at 1.

    Args:
        learning_rate: (P,) Adam's step sizes.
        largest: Upper bound of λ.
    """

    def __init__(self, learning_rate: Tensor, *, largest: float = math.inf):
        self.logarithm = torch.zeros_like(learning_rate).unsqueeze(-1)
        self.optimiser = MemberAdam(self.logarithm, learning_rate)
        self.largest = largest

    def value(self) -> Tensor:
        """Returns the (P,) multipliers λ, without gradient."""
        return self.logarithm.squeeze(-1).exp().clamp(max=self.largest)

    def ascend(self, excess: Tensor, active: Tensor) -> None:
        """Takes one step.

        Args:
            excess: (P,) e, without gradient.
            active: (P,) bool, changed in place: a member whose excess is not finite is switched
                off before the step.
        """
        gradient = -(self.value() * excess).unsqueeze(-1)
        self.optimiser.step(gradient, note_finite(active, excess, gradient))

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {"logarithm": self.logarithm, "optimiser": self.optimiser.state_dict()}
