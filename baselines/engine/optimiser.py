"""Adam and target networks on flat parameter vectors, exact for every member by itself."""

from __future__ import annotations

import torch
from torch import Tensor


class MemberAdam:
    """Adam (Kingma and Ba, 2015, Algorithm 1) on one buffer that holds every member's parameters.

    Adam is elementwise, so one step on the whole buffer is exact for each member. All state is on
    the device, the number of steps too: a step has no host synchronisation.

    Args:
        parameters: (*stack, n) leaf tensor, changed in place; the last stack axis is members.
        learning_rate: (P,) step sizes.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.
    """

    def __init__(
        self,
        parameters: Tensor,
        learning_rate: Tensor,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        self.parameters = parameters
        self.learning_rate = learning_rate.unsqueeze(-1)
        self.betas = betas
        self.eps = eps
        self.first_moment = torch.zeros_like(parameters, requires_grad=False)
        self.second_moment = torch.zeros_like(parameters, requires_grad=False)
        # float64: 1 - beta**t loses digits in float32 for beta near 1.
        self.steps = torch.zeros((), dtype=torch.float64, device=parameters.device)

    def minimise(self, losses: Tensor, active: Tensor) -> None:
        """Takes one step down the members' losses and freezes members that are no longer finite.

        Args:
            losses: (P,) one loss per member, a differentiable function of the parameters. They are
                summed, so a member's gradient is that of its own loss.
            active: (P,) bool, changed in place: a member whose loss or gradient is not finite is
                switched off before the step.
        """
        (gradient,) = torch.autograd.grad(losses.sum(), self.parameters)
        size = gradient.movedim(-2, 0).flatten(1).sum(-1)  # NaN and infinity survive a sum
        active.logical_and_((losses.detach() + size).isfinite())
        self.step(gradient, active)

    @torch.no_grad()
    def step(self, gradient: Tensor, active: Tensor) -> None:
        """Takes one step along a given gradient.

        Args:
            gradient: Of the same shape as the parameters.
            active: (P,) bool. The parameters of other members keep every bit, whatever their
                gradient is.
        """
        self.steps.add_(1.0)
        first_decay, second_decay = self.betas
        self.first_moment.lerp_(gradient, 1.0 - first_decay)
        self.second_moment.mul_(second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
        dtype = self.parameters.dtype
        first_correction = (1.0 - first_decay**self.steps).to(dtype)
        second_correction = (1.0 - second_decay**self.steps).sqrt().to(dtype)
        rate = self.learning_rate / first_correction
        update = self.second_moment.sqrt().div_(second_correction).add_(self.eps)
        update = torch.div(self.first_moment, update, out=update).mul_(rate)
        # torch.where, not a rate of zero: zero times NaN would still be NaN.
        update = torch.where(active.unsqueeze(-1), update, 0.0)
        self.parameters.sub_(update)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the live tensors of the moments and the number of steps."""
        return {
            "first_moment": self.first_moment,
            "second_moment": self.second_moment,
            "steps": self.steps,
        }


@torch.no_grad()
def track(target: Tensor, source: Tensor, rate: Tensor, active: Tensor) -> None:
    """Moves target parameters towards their source: ``target += rate * (source - target)``.

    Args:
        target: (*stack, n) target parameters, changed in place.
        source: (*stack, n) parameters they follow.
        rate: (P,) fraction of the way; 1 copies.
        active: (P,) bool; the targets of other members keep every bit.
    """
    target.lerp_(source, (rate * active).unsqueeze(-1))
