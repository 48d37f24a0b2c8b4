"""Gradients that are shortened where they are long, each member's by its own length."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.engine.optimiser import MemberAdam, note_finite


def clipped(gradient: Tensor, largest: Tensor) -> Tensor:
    """Returns gradients whose length over all of a member's parameters is at most ``largest``.

    Args:
        gradient: (P, n), or (E, P, n) of an ensemble, which has one length per member.
        largest: (P,).
    """
    length = torch.linalg.vector_norm(gradient, dim=-1)
    if length.dim() > 1:
        length = torch.linalg.vector_norm(length, dim=0)
    return gradient * (largest / length.maximum(largest)).unsqueeze(-1)


def minimise_clipped(
    optimiser: MemberAdam, losses: Tensor, active: Tensor, largest: Tensor
) -> None:
    """Takes one step down the members' losses along clipped gradients.

    Args:
        optimiser: Of the parameters.
        losses: (P,) one loss per member, a differentiable function of the parameters.
        active: (P,) bool, changed in place: a member whose loss or gradient is not finite before
            clipping is switched off.
        largest: (P,) longest gradient.
    """
    (gradient,) = torch.autograd.grad(losses.sum(), optimiser.parameters)
    active = note_finite(active, losses.detach(), gradient)
    optimiser.step(clipped(gradient, largest), active)
