"""Policies that fit data and are guided by values: the two terms of their loss, apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from baselines.engine.data import Batch
from baselines.engine.optimiser import MemberAdam

Loss = Callable[[Tensor], Tensor]
"""(V,) losses as a function of (V, n) parameters, with batch and noise fixed."""


class GuidedFit(NamedTuple):
    """What a gradient step of some members' policies is made of.

    Attributes:
        optimiser: Has the (V, n) parameters, and the moments of their training.
        fit: The loss that fits data.
        guide: The loss that climbs values. Both with their weights; the policy's is their sum.
        longest: (V,) length to which training clips gradients; None if it does not.
    """

    optimiser: MemberAdam
    fit: Loss
    guide: Loss
    longest: Tensor | None = None


class Guided(NamedTuple):
    """Members whose policies are of one kind.

    Attributes:
        kind: What tells them from the population's other members, or nothing.
        members: (V,) their numbers.
        terms: Of their loss.
    """

    kind: str
    members: tuple[int, ...]
    terms: GuidedFit


@runtime_checkable
class GuidedAgent(Protocol):
    """An agent whose policies fit data and are guided by values."""

    def guided(self, batch: Batch) -> list[Guided]:
        """Returns the terms of the policies' losses on a batch, of the members that have both.

        Hidden units are not dropped.
        """
        ...


def guide_loss(values: Tensor) -> Tensor:
    """Returns the (P,) ``mean_B [-Q(s, π(s))] / mean_B |Q|`` of TD3+BC with α = 1.

    Args:
        values: (P, B) Q(s, π(s)).
    """
    return -values.mean(-1) / values.detach().abs().mean(-1)
