"""What a plug-in adds to the loss of a method's critics, without the method knowing it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from baselines.engine.data import Batch
from baselines.parts.critics import Critics


class CriticPenalty(Protocol):
    """A differentiable function of the critics' parameters."""

    def __call__(
        self, critics: Critics, batch: Batch, next_actions: Tensor | None, features: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the penalty, weighted, and metrics, (P,) each.

        Args:
            critics: The method's critics, before their step.
            batch: Transitions.
            next_actions: (P, B, act) actions of the policy in s' that the method's targets come
                from, without gradient; None for a method that has none.
            features: (E, P, B, m) activations of the critics' last hidden layer at (s, a).
        """
        ...


def penalised(
    penalty: CriticPenalty | None,
    loss: Tensor,
    td_error: Tensor,
    critics: Critics,
    batch: Batch,
    next_actions: Tensor | None,
    features: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the (P,) loss with the penalty added, and metrics; the loss itself without a penalty.

    Args:
        penalty: The plug-in's, if there is one.
        loss: (P,) loss of the method's critics.
        td_error: (P,) the part of it that is the squared TD error.
        critics: See :class:`CriticPenalty`.
        batch: See :class:`CriticPenalty`.
        next_actions: See :class:`CriticPenalty`.
        features: See :class:`CriticPenalty`; of the pass that gave the TD error, so that there is
            one pass and not two. None if that pass was of other actions, too.
    """
    if penalty is None:
        return loss, {}
    if features is None:
        _, features = critics.with_features(batch.observations, batch.actions)
    added, metrics = penalty(critics, batch, next_actions, features)
    share = added / td_error
    return loss + added, {"critic_penalty": added, "critic_penalty_share": share, **metrics}
