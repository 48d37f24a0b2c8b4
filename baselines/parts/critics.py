"""Action values of continuous actions: what methods with critics share.

Values are (E, P, B): ``E`` critics per member. Whatever a paper has as a scalar is (P,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.optimiser import MemberAdam, track
from baselines.engine.random import MemberRandom
from baselines.parts.initialisation import Initialiser, uniform_fan_in
from baselines.parts.networks import MLP, NormPlace


def td_targets(
    rewards: Tensor, terminations: Tensor, next_values: Tensor, discount: Tensor
) -> Tensor:
    """Returns ``r + γ V̄(s')``, and ``r`` where the episode terminated; truncation does not count.

    Args:
        rewards: (P, B) rewards as prepared.
        terminations: (P, B) bool.
        next_values: (P, B) values of the true successors.
        discount: (P,) γ.

    Returns:
        (P, B).
    """
    return rewards + discount[:, None] * next_values.masked_fill(terminations, 0.0)


def squared_error(values: Tensor, targets: Tensor) -> Tensor:
    """Returns the (P,) loss ``Σ_E mean_B (Q - y)²`` of (E, P, B) values and (P, B) targets."""
    return (values - targets).square().mean(-1).sum(0)


def expectile_error(differences: Tensor, expectile: Tensor) -> Tensor:
    """Returns the (P,) loss ``mean_B |τ - 1[u < 0]| u²``; its minimiser is the τ-expectile.

    Args:
        differences: (P, B) u, target less value.
        expectile: (P,) τ; one half gives half the squared error.
    """
    weight = torch.where(differences < 0.0, 1.0 - expectile[:, None], expectile[:, None])
    return (weight * differences.square()).mean(-1)


def smoothed(actions: Tensor, noise: Tensor, std: Tensor, clip: Tensor) -> Tensor:
    """Returns TD3's target actions: actions plus clipped noise, clipped to [-1, 1].

    Fujimoto, van Hoof and Meger, "Addressing Function Approximation Error in Actor-Critic Methods",
    ICML 2018, Equation 14.

    Args:
        actions: (P, B, act) the target policy's actions.
        noise: (P, B, act) standard normal numbers.
        std: (P,) standard deviation of the noise.
        clip: (P,) largest noise.
    """
    bound = clip[:, None, None]
    return (actions + (noise * std[:, None, None]).clamp(-bound, bound)).clamp(-1.0, 1.0)


class Critics:
    """Ensembles of critics Q(s, a) with their targets, one ensemble per member.

    Args:
        data: Gives sizes and device.
        seeds: (P,) member seeds.
        hidden_sizes: Width of each hidden layer.
        learning_rate: (P,) Adam's step sizes.
        ensemble: ``E``, critics per member.
        norm: Where hidden layers have layer normalisation.
        initialiser: Gives the initial weights.

    Attributes:
        network: The shape of a critic.
        parameters: (E, P, n).
        target: (E, P, n) parameters of the target critics Q̄.
        optimiser: Of the parameters.
    """

    def __init__(
        self,
        data: MemberData,
        seeds: Sequence[int],
        hidden_sizes: Sequence[int],
        learning_rate: Tensor,
        *,
        ensemble: int = 2,
        norm: NormPlace = "none",
        initialiser: Initialiser = uniform_fan_in,
    ):
        self.network = MLP((data.observation_size + data.action_size, *hidden_sizes, 1), norm=norm)
        random = MemberRandom(seeds, "critic", data.device)
        self.parameters = self.network.init(random, ensemble=ensemble, initialiser=initialiser)
        self.target = self.parameters.detach().clone()
        self.optimiser = MemberAdam(self.parameters, learning_rate)

    def values(self, parameters: Tensor, observations: Tensor, actions: Tensor) -> Tensor:
        """Returns the values under given parameters.

        Args:
            parameters: (E, P, n) or (P, n): all critics, some, the targets, or one. Detached ones
                let a gradient through to the actions alone.
            observations: (P, B, obs).
            actions: (P, B, act), or (P, B, K, act) for K actions in every state.

        Returns:
            (E, P, B) or (P, B), and (..., K) for K actions.
        """
        several = actions.dim() == 4
        if several:
            observations = observations.unsqueeze(-2).expand(*actions.shape[:-1], -1)
        inputs = torch.cat([observations, actions], dim=-1)
        shape = inputs.shape[1:-1]
        outputs = self.network(parameters, inputs.flatten(1, -2))
        return outputs.reshape(*outputs.shape[:-2], *shape)

    def __call__(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Returns the (E, P, B) values Q(s, a); see :meth:`values`."""
        return self.values(self.parameters, observations, actions)

    def with_features(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the values Q(s, a), and the activations of the last hidden layer they come from.

        Args:
            observations: (P, B, obs).
            actions: (P, B, act).

        Returns:
            (E, P, B) and (E, P, B, width).
        """
        inputs = torch.cat([observations, actions], dim=-1)
        values, features = self.network.with_features(self.parameters, inputs)
        return values.squeeze(-1), features

    def of_policy(self, observations: Tensor, actions: Tensor, *, critics: int) -> Tensor:
        """Returns values of a policy's actions, with a gradient to the actions alone.

        Args:
            observations: (P, B, obs).
            actions: (P, B, act).
            critics: How many critics to ask, from the first on.

        Returns:
            (critics, P, B).
        """
        return self.values(self.parameters.detach()[:critics], observations, actions)

    @torch.no_grad()
    def target_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Returns the (E, P, B) values Q̄(s, a) without gradient; see :meth:`values`."""
        return self.values(self.target, observations, actions)

    def track(self, rate: Tensor, active: Tensor) -> None:
        """Moves the targets towards the critics by a (P,) fraction, where (P,) active."""
        track(self.target, self.parameters, rate, active)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "parameters": self.parameters,
            "target": self.target,
            "optimiser": self.optimiser.state_dict(),
        }
