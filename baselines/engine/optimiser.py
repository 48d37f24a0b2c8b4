"""Adam and target networks on flat parameter vectors, exact for every member by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Schedule = Callable[[Tensor], Tensor]
"""Factor of the step size as a function of the number of steps taken, on the device."""


def cosine(total: int) -> Schedule:
    """Returns the schedule that falls from 1 to 0 in ``total`` steps along half a cosine.

    Loshchilov and Hutter, "SGDR", ICLR 2017, Equation 5, without restarts.
    """
    return lambda steps: 0.5 * (1.0 + torch.cos(math.pi * (steps / total).clamp(max=1.0)))


class MemberAdam:
    """Adam (Kingma and Ba, 2015, Algorithm 1) on one buffer that holds every member's parameters.

    Adam is elementwise, so one step on the whole buffer is exact for each member. All state is on
    the device, the number of steps too: a step has no host synchronisation.

    Args:
        parameters: (*stack, n) leaf tensor, changed in place; the last stack axis is members.
        learning_rate: (P,) step sizes.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.
        schedule: Changes the step sizes over time; constant by default.
    """

    def __init__(
        self,
        parameters: Tensor,
        learning_rate: Tensor,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        schedule: Schedule | None = None,
    ):
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.betas = betas
        self.eps = eps
        self.schedule = schedule
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
        self.step(gradient, note_finite(active, losses.detach(), gradient))

    @torch.no_grad()
    def step(self, gradient: Tensor, active: Tensor) -> None:
        """Takes one step along a given gradient.

        Args:
            gradient: Of the same shape as the parameters.
            active: (P,) bool. The parameters of other members keep every bit, whatever their
                gradient is.
        """
        rate = self.learning_rate
        if self.schedule is not None:
            rate = rate * self.schedule(self.steps).to(rate.dtype)
        self.steps.add_(1.0)
        if gradient.device.type == "cpu":
            self._step_by_member(gradient, active, rate)
        else:
            self._step_together(gradient, active, rate)

    def _step_together(self, gradient: Tensor, active: Tensor, rate: Tensor) -> None:
        """Takes the step in elementwise kernels over all members: few launches."""
        first_decay, second_decay = self.betas
        self.first_moment.lerp_(gradient, 1.0 - first_decay)
        self.second_moment.mul_(second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
        dtype = self.parameters.dtype
        first_correction = (1.0 - first_decay**self.steps).to(dtype)
        second_correction = (1.0 - second_decay**self.steps).sqrt().to(dtype)
        rate = (rate / first_correction).unsqueeze(-1)
        update = self.second_moment.sqrt().div_(second_correction).add_(self.eps)
        update = torch.div(self.first_moment, update, out=update).mul_(rate)
        # torch.where, not a rate of zero: zero times NaN would still be NaN.
        update = torch.where(active.unsqueeze(-1), update, 0.0)
        self.parameters.sub_(update)

    def _step_by_member(self, gradient: Tensor, active: Tensor, rate: Tensor) -> None:
        """Takes the step in one pass over memory, member by member: a CPU is bound by memory."""
        steps = self.steps.float()
        skip = (~active).float()
        first_decay, second_decay = self.betas
        # The kernel takes rows to be dense, whatever their strides say.
        buffers = (
            self.parameters.detach(),
            gradient.contiguous(),
            self.first_moment,
            self.second_moment,
        )
        with denormals_flushed():
            for member in range(len(active)):
                rows = [list(each[..., member, :].reshape(-1, each.shape[-1])) for each in buffers]
                torch.ops.aten._fused_adam_.tensor_lr(
                    *rows,
                    [],
                    [steps] * len(rows[0]),
                    lr=rate[member],
                    beta1=first_decay,
                    beta2=second_decay,
                    weight_decay=0.0,
                    eps=self.eps,
                    amsgrad=False,
                    maximize=False,
                    found_inf=skip[member],
                )

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the live tensors of the moments and the number of steps."""
        return {
            "first_moment": self.first_moment,
            "second_moment": self.second_moment,
            "steps": self.steps,
        }


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """A block in which this thread of a CPU, and no other, takes numbers below 1.2e-38 for zero.

    The first moment of a unit that has died falls below that in some 800 steps, where arithmetic is
    a dozen times slower: half of the time of SPOT's density went into such numbers. What they would
    have added to a parameter is far below its last digit.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def note_finite(active: Tensor, losses: Tensor, gradient: Tensor) -> Tensor:
    """Switches off members whose loss or gradient is not finite.

    Args:
        active: (P,) bool, changed in place and returned.
        losses: (P,).
        gradient: (*stack, n), the last stack axis members.
    """
    size = gradient.sum(-1)  # NaN and infinity survive a sum
    size = size.sum(0) if size.dim() > 1 else size
    return active.logical_and_((losses + size).isfinite())


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
