"""Arithmetic that methods for discrete actions share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.parts.networks import MLP


def taken(values: Tensor, actions: Tensor) -> Tensor:
    """Returns each transition's value of the action taken.

    Args:
        values: (P, B, A) a value of every action.
        actions: (P, B) int64.

    Returns:
        (P, B).
    """
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def boltzmann(values: Tensor, temperature: Tensor) -> Tensor:
    """Returns the policy ``π(a|s) ∝ exp(Q(s,a) / temperature)``.

    Args:
        values: (P, B, A) action values.
        temperature: (P,) in units of value.

    Returns:
        (P, B, A) probabilities.
    """
    return torch.softmax(values / temperature[:, None, None], dim=-1)


def soft_maximum(values: Tensor, temperature: Tensor) -> Tensor:
    """Returns ``temperature · log Σ_a exp(Q(s,a) / temperature)``.

    It is the maximum over policies of expected value plus temperature times entropy; its gradient
    with respect to the values is :func:`boltzmann`.

    Args:
        values: (P, B, A) action values.
        temperature: (P,) in units of value.

    Returns:
        (P, B).
    """
    temperature = temperature[:, None]
    return temperature * torch.logsumexp(values / temperature.unsqueeze(-1), dim=-1)


def log_likelihood(logits: Tensor, actions: Tensor) -> Tensor:
    """Returns ``log π(a|s)`` of the actions taken, for π the softmax of the logits.

    Args:
        logits: (P, B, A) unnormalised log-probabilities of the actions.
        actions: (P, B) int64.

    Returns:
        (P, B).
    """
    return taken(torch.log_softmax(logits, dim=-1), actions)


def weighted_likelihood_loss(logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
    """Returns the (P,) loss ``-mean_B w(s,a) log π(a|s)`` of advantage-weighted regression.

    Its tabular minimiser is π(a|s) ∝ β(a|s) E[w | s, a], with β the dataset's actions.

    Args:
        logits: (P, B, A) unnormalised log-probabilities of the actions.
        actions: (P, B) int64 dataset actions.
        weights: (P, B), positive, without gradient.
    """
    return -(weights * log_likelihood(logits, actions)).mean(-1)


def invert_cumulative(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Returns actions sampled by inverse transform: a function of uniform numbers.

    Args:
        probabilities: (*batch, A) action probabilities.
        uniform: (*batch, K) uniform numbers in [0, 1).

    Returns:
        (*batch, K) int64 actions.
    """
    # Without the last column rounding cannot lead past the last action.
    cumulative = probabilities.cumsum(-1)[..., :-1]
    return (uniform.unsqueeze(-1) >= cumulative.unsqueeze(-2)).sum(-1)


NO_ACTION = -1
"""What a policy returns where its probabilities are not numbers; evaluation refuses it."""


@dataclass(frozen=True)
class SoftmaxActor:
    """A policy that samples actions from a softmax, or takes the most probable one.

    Attributes:
        network: Maps observations to one number per action.
        parameters: (1, n) the network's parameters, on the CPU.
        temperature: The softmax is over the network's outputs divided by this.
        greedy: Take the action with the largest output instead of sampling.
    """

    network: MLP
    parameters: Tensor
    temperature: float = 1.0
    greedy: bool = False

    @property
    def noise_size(self) -> int:
        """One number per action sampled."""
        return 0 if self.greedy else 1

    def probabilities(self, observations: Tensor) -> Tensor:
        """Returns the (n, A) probabilities of the actions for (n, obs) observations.

        NaN where the network's outputs are.
        """
        outputs = self.network(self.parameters, observations.unsqueeze(0)).squeeze(0)
        if self.greedy:
            best = torch.nn.functional.one_hot(outputs.argmax(-1), outputs.shape[-1]).float()
            return best.masked_fill(outputs.isnan().any(-1, keepdim=True), math.nan)
        return torch.softmax(outputs / self.temperature, dim=-1)

    def __call__(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, obs) observations and (n, noise_size) normal noise to (n,) int64 actions.

        NaN outputs give ``NO_ACTION``: comparisons with NaN would quietly choose an action.
        """
        probabilities = self.probabilities(observations)
        if self.greedy:
            actions = probabilities.argmax(-1)
        else:
            uniform = 0.5 * (1.0 + torch.erf(noise / math.sqrt(2.0)))
            actions = invert_cumulative(probabilities, uniform).squeeze(-1)
        return actions.masked_fill(probabilities.isnan().any(-1), NO_ACTION)
