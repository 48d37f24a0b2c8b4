"""What a plug-in adds to the loss of a method's critics, without the method knowing it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from baselines.engine.data import Batch
from baselines.parts.critics import Critics


class CriticPenalty(Protocol):
    """A differentiable function of the critics' parameters."""

    def __call__(
        self, critics: Critics, batch: Batch, next_actions: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the penalty, weighted, and metrics, (P,) each.

        Args:
            critics: The method's critics, before their step.
            batch: Transitions.
            next_actions: (P, B, act) actions of the policy in s' that the method's targets come
                from, without gradient; None for a method that has none.
        """
        ...


def penalised(
    penalty: CriticPenalty | None,
    loss: Tensor,
    td_error: Tensor,
    critics: Critics,
    batch: Batch,
    next_actions: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the (P,) loss with the penalty added, and metrics; the loss itself without a penalty.

    Args:
        penalty: The plug-in's, if there is one.
        loss: (P,) loss of the method's critics.
        td_error: (P,) the part of it that is the squared TD error.
        critics: See :class:`CriticPenalty`.
        batch: See :class:`CriticPenalty`.
        next_actions: See :class:`CriticPenalty`.
    """
    if penalty is None:
        return loss, {}
    added, metrics = penalty(critics, batch, next_actions)
    share = added / td_error
    return loss + added, {"critic_penalty": added, "critic_penalty_share": share, **metrics}
