"""What advantage-weighted methods share: weights of transitions, and the likelihood they weigh.

The policy is a Gaussian whose mean is the tanh of a network and whose standard deviation does not
depend on the state; it is not squashed.
"""

from __future__ import annotations

from torch import Tensor

from baselines.parts.gaussian import normal_log_density

LOG_STD_RANGE = (-5.0, 2.0)
"""Bounds of the policy's log standard deviation, as in the code of IQL's authors."""

_STD_FLOOR = 1e-5  # added to the standard deviation of advantages, as in the code of AWR's authors


def exponential_weights(advantages: Tensor, inverse_temperature: Tensor, clip: Tensor) -> Tensor:
    """Returns the (P, B) weights ``min(exp(β A), clip)``.

    Args:
        advantages: (P, B) A.
        inverse_temperature: (P,) β, in units of one over the advantage's.
        clip: (P,) largest weight.
    """
    return (inverse_temperature[:, None] * advantages).exp().minimum(clip[:, None])


def standardised_weights(advantages: Tensor, temperature: Tensor, clip: Tensor) -> Tensor:
    """Returns the (P, B) weights ``min(exp(Ã/T), clip)``, with Ã standardised by member.

    Ã is A less its mean, over its standard deviation: the scale of rewards does not matter.

    Args:
        advantages: (P, B) A.
        temperature: (P,) T, in standard deviations of the advantage.
        clip: (P,) largest weight.
    """
    deviations = advantages - advantages.mean(-1, keepdim=True)
    scale = deviations.square().mean(-1).sqrt() + _STD_FLOOR
    return exponential_weights(deviations, 1.0 / (scale * temperature), clip)


def weighted_likelihood_loss(
    outputs: Tensor, log_std: Tensor, actions: Tensor, weights: Tensor
) -> Tensor:
    """Returns the (P,) loss ``-mean_B w(s,a) log π(a|s)``.

    Args:
        outputs: (P, B, act) of the policy network; their tanh is the mean.
        log_std: (P, 1, act) log standard deviations.
        actions: (P, B, act) dataset actions.
        weights: (P, B), positive, without gradient.
    """
    log_std = log_std.clamp(*LOG_STD_RANGE)
    return -(weights * normal_log_density(outputs.tanh(), log_std, actions)).mean(-1)
