"""Models of the density of actions in a state, as methods that stay near data use them.

An energy E(s,a) is -log π(a|s), or a bound of it, over 4D for actions of D dimensions, plus a
constant: these are the units of SPOT's autoencoder, in which the weights λ of energies are stated.
A model is fitted by lowering the mean energy of data. There are two: the autoencoder of
parts/vae.py and the squashed Gaussian here. Randomness is injected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.method import Actor
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.parts import gaussian
from baselines.parts.networks import MLP
from baselines.parts.policies import GaussianActor

LOG_STD_RANGE = (-5.0, 2.0)
"""Bounds of the Gaussian's log standard deviation before squashing."""


class Density(ABC):
    """A population of models of π(a|s).

    Args:
        parameters: (P, n) leaf tensor.
        learning_rate: (P,) Adam's step sizes.
        noise_size: Standard normal numbers per energy.

    Attributes:
        parameters: (P, n).
        optimiser: Of the parameters.
        noise_size: Standard normal numbers per energy.
    """

    def __init__(self, parameters: Tensor, learning_rate: Tensor, noise_size: int):
        self.parameters = parameters
        self.optimiser = MemberAdam(parameters, learning_rate)
        self.noise_size = noise_size

    @abstractmethod
    def energies(
        self, parameters: Tensor, observations: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Returns the (P, B) energies E(s, a) under given parameters.

        Args:
            parameters: (P, n). Detached ones let a gradient through to the actions alone.
            observations: (P, B, obs).
            actions: (P, B, act).
            noise: (P, B, noise_size) standard normal numbers.
        """

    @abstractmethod
    def actor(self, member: int) -> Actor:
        """Returns a copy of one member's model on the CPU, as a policy that samples from it."""

    def of_policy(self, observations: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """Returns the (P, B) energies of a policy's actions; see :meth:`energies`.

        A gradient goes to the actions alone.
        """
        return self.energies(self.parameters.detach(), observations, actions, noise)

    def fit(self, observations: Tensor, actions: Tensor, noise: Tensor, active: Tensor) -> Tensor:
        """Takes one gradient step down the mean energy of the given actions.

        Args:
            observations: (P, B, obs).
            actions: (P, B, act).
            noise: (P, B, noise_size) standard normal numbers.
            active: (P,) bool, changed in place: a member that is no longer finite is switched off.

        Returns:
            (P,) mean energies before the step.
        """
        loss = self.energies(self.parameters, observations, actions, noise).mean(-1)
        self.optimiser.minimise(loss, active)
        return loss.detach()

    @torch.no_grad()
    def become(self, other: Density) -> None:
        """Takes over the parameters of another model of the same kind."""
        self.parameters.copy_(other.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {"parameters": self.parameters, "optimiser": self.optimiser.state_dict()}


class TanhGaussian(Density):
    """A population of squashed Gaussians; an energy is -log π(a|s) / 4D, without noise.

    Args:
        data: Gives sizes, frames and device.
        seeds: (P,) member seeds.
        hidden_sizes: Width of each hidden layer.
        learning_rate: (P,) Adam's step sizes.
        stream: Name of the random stream that the initial weights come from.
    """

    def __init__(
        self,
        data: MemberData,
        seeds: Sequence[int],
        hidden_sizes: Sequence[int],
        learning_rate: Tensor,
        *,
        stream: str = "tanh-gaussian",
    ):
        self.network = MLP((data.observation_size, *hidden_sizes, 2 * data.action_size))
        parameters = self.network.init(MemberRandom(seeds, stream, data.device))
        super().__init__(parameters, learning_rate, noise_size=0)
        self._data = data

    def energies(
        self, parameters: Tensor, observations: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Returns the (P, B) values of -log π(a|s) / 4D; see :meth:`Density.energies`."""
        heads = gaussian.split_heads(self.network(parameters, observations), *LOG_STD_RANGE)
        return -gaussian.log_density(*heads, actions) / (4 * actions.shape[-1])

    def actor(self, member: int) -> GaussianActor:
        """Returns a copy of one member's model on the CPU, as a policy that samples from it."""
        theta = self.parameters.detach()[member : member + 1].cpu().clone()
        return GaussianActor(self.network, theta, self._data.frame(member), LOG_STD_RANGE)
