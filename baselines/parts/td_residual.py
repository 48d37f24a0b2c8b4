"""What drives the TD loss: the directions of its mean's and of its variance's gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from baselines.engine.data import Batch
from baselines.parts.critics import Critics, td_targets
from baselines.parts.policies import Policy


def residuals(
    critics: Critics, policy: Policy, batch: Batch, discount: Tensor, parameters: Tensor
) -> Tensor:
    """Returns the (P, B) ``δ = r + γ min_i Q̄_i(s', π(s')) - Q(s, a)``, the policy at its mode.

    Args:
        critics: Q̄ and the shape of Q.
        policy: π; its first head is the mode before squashing.
        batch: Transitions.
        discount: (P,) γ.
        parameters: (P, n) of Q; what is differentiable.
    """
    with torch.no_grad():
        outputs = policy(batch.next_observations)
        next_actions = outputs[..., : batch.actions.shape[-1]].tanh()
    next_values = critics.target_values(batch.next_observations, next_actions).amin(0)
    targets = td_targets(batch.rewards, batch.terminations, next_values, discount)
    return targets - critics.values(parameters, batch.observations, batch.actions)


def gradient_cosines(
    critics: Critics, policy: Policy, batch: Batch, discount: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns cos(∇E[δ²], ∇Var δ) and cos(∇E[δ²], ∇(E δ)²), (P,) each (C4, Figure 1a).

    By ``E[δ²] = (E δ)² + Var δ`` (C4, Eq. 4), taken over the batch; the gradients are those by the
    parameters of the first critic.

    Args:
        critics: See :func:`residuals`.
        policy: See :func:`residuals`.
        batch: See :func:`residuals`.
        discount: See :func:`residuals`.
    """
    parameters = critics.parameters.detach()[0].requires_grad_()
    delta = residuals(critics, policy, batch, discount, parameters)
    second_moment, mean = delta.square().mean(-1), delta.mean(-1)
    (of_both,) = torch.autograd.grad(second_moment.sum(), parameters, retain_graph=True)
    (of_mean,) = torch.autograd.grad(mean.square().sum(), parameters)
    return (
        cosine_similarity(of_both, of_both - of_mean, dim=-1),
        cosine_similarity(of_both, of_mean, dim=-1),
    )
