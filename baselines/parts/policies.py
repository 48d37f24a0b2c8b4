"""Policies of continuous actions: networks with their optimisers, and actors for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.optimiser import MemberAdam, Schedule, track
from baselines.engine.preparation import Frame
from baselines.engine.random import MemberRandom
from baselines.parts import gaussian
from baselines.parts.initialisation import Initialiser, uniform_fan_in
from baselines.parts.networks import MLP, NormPlace


@dataclass(frozen=True)
class DeterministicActor:
    """A policy that takes the squashed output of its network.

    Attributes:
        network: Maps observations to one number per dimension of the action; further ones, such as
            log standard deviations, are left aside.
        parameters: (1, n) the network's parameters, on the CPU.
        frame: From the environment to the network and back.
        action_size: Dimensions of an action.
    """

    network: MLP
    parameters: Tensor
    frame: Frame
    action_size: int

    @property
    def noise_size(self) -> int:
        """No noise."""
        return 0

    def __call__(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, obs) observations and (n, 0) noise to (n, act) actions."""
        inputs = self.frame.observe(observations).unsqueeze(0)
        outputs = self.network(self.parameters, inputs).squeeze(0)
        return self.frame.act(outputs[..., : self.action_size].tanh())


@dataclass(frozen=True)
class GaussianActor:
    """A policy that samples from a squashed Gaussian.

    Attributes:
        network: Maps observations to means and log standard deviations before squashing.
        parameters: (1, n) the network's parameters, on the CPU.
        frame: From the environment to the network and back.
        log_std_range: Bounds of the log standard deviation.
    """

    network: MLP
    parameters: Tensor
    frame: Frame
    log_std_range: tuple[float, float]

    @property
    def noise_size(self) -> int:
        """One number per dimension of the action."""
        return self.network.sizes[-1] // 2

    def heads(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (n, act) mean and log standard deviation before squashing, in (n, obs) states."""
        inputs = self.frame.observe(observations).unsqueeze(0)
        outputs = self.network(self.parameters, inputs).squeeze(0)
        return gaussian.split_heads(outputs, *self.log_std_range)

    def __call__(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, obs) observations and (n, act) normal noise to (n, act) actions."""
        mean, log_std = self.heads(observations)
        return self.frame.act((mean + log_std.exp() * noise).tanh())


class Policy:
    """A population of policy networks. What their outputs mean, the method says.

    Args:
        data: Gives sizes, frames and device.
        seeds: (P,) member seeds.
        hidden_sizes: Width of each hidden layer.
        learning_rate: (P,) Adam's step sizes.
        heads: Outputs per dimension of the action: 1 for an action or a mean, 2 for a mean and a
            log standard deviation.
        extra: Parameters per dimension of the action that do not depend on the observation.
        norm: Where hidden layers have layer normalisation.
        dropout: Probability with which a hidden unit is dropped in training.
        initialiser: Gives the initial weights.
        schedule: Of the step sizes; constant by default.
        stream: Name of the random stream that the initial weights come from.

    Attributes:
        network: The shape of a policy.
        parameters: (P, n).
        target: (P, n) parameters of the target policy, for methods that have one.
        optimiser: Of the parameters.
    """

    def __init__(
        self,
        data: MemberData,
        seeds: Sequence[int],
        hidden_sizes: Sequence[int],
        learning_rate: Tensor,
        *,
        heads: int = 1,
        extra: int = 0,
        norm: NormPlace = "none",
        dropout: float = 0.0,
        initialiser: Initialiser = uniform_fan_in,
        schedule: Schedule | None = None,
        stream: str = "policy",
    ):
        size = data.action_size
        self.network = MLP(
            (data.observation_size, *hidden_sizes, heads * size),
            norm=norm,
            dropout=dropout,
            extra=extra * size,
        )
        random = MemberRandom(seeds, stream, data.device)
        self.parameters = self.network.init(random, initialiser=initialiser)
        self.target = self.parameters.detach().clone()
        self.optimiser = MemberAdam(self.parameters, learning_rate, schedule=schedule)
        self._dropout = MemberRandom(seeds, f"{stream} dropout", data.device) if dropout else None
        self._data = data

    def __call__(self, observations: Tensor, *, training: bool = False) -> Tensor:
        """Returns the (P, B, heads act) outputs for (P, B, obs) observations.

        Args:
            observations: As prepared.
            training: Whether to drop hidden units.
        """
        dropout = self._dropout if training else None
        return self.network(self.parameters, observations, dropout=dropout)

    @torch.no_grad()
    def target_outputs(self, observations: Tensor, *, training: bool = False) -> Tensor:
        """Returns the (P, B, heads act) outputs of the target policy, without gradient.

        Args:
            observations: As prepared.
            training: Whether to drop hidden units.
        """
        dropout = self._dropout if training else None
        return self.network(self.target, observations, dropout=dropout)

    def extra(self) -> Tensor:
        """Returns the (P, 1, extra act) parameters that do not depend on the observation."""
        return self.network.extra(self.parameters).unsqueeze(1)

    def track(self, rate: Tensor, active: Tensor) -> None:
        """Moves the target towards the policy by a (P,) fraction, where (P,) active."""
        track(self.target, self.parameters, rate, active)

    def deterministic_actor(self, member: int) -> DeterministicActor:
        """Returns a copy of one member's policy on the CPU: ``tanh`` of the first head."""
        return DeterministicActor(
            self.network, self._copy(member), self._data.frame(member), self._data.action_size
        )

    def gaussian_actor(self, member: int, log_std_range: tuple[float, float]) -> GaussianActor:
        """Returns a copy of one member's policy on the CPU that samples; its heads are two."""
        return GaussianActor(
            self.network, self._copy(member), self._data.frame(member), log_std_range
        )

    def _copy(self, member: int) -> Tensor:
        return self.parameters.detach()[member : member + 1].cpu().clone()

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        dropout = {"dropout": self._dropout.state_dict()} if self._dropout is not None else {}
        return {
            "parameters": self.parameters,
            "target": self.target,
            "optimiser": self.optimiser.state_dict(),
            **dropout,
        }
