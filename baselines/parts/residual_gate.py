"""Stage III of SPAR (Algorithm 5, Eq. 12): candidates, and the gate that takes the best or a_base.

How candidates follow from the parameters of stage II is said here once, for training, evaluation
and export: :class:`Regressed`, :class:`Sampled` and :class:`Steered` hold shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from baselines.engine.preparation import Frame
from baselines.parts.networks import MLP
from baselines.parts.repeated_inputs import with_repeated_context
from baselines.parts.residual_anchor import judged
from baselines.parts.residual_losses import Decision, rectified, robust_values

LATENT_BOUND = 2.0
"""Largest latent variable that a latent policy chooses, as in PLAS."""


class Proposal(Protocol):
    """How a residual policy makes candidates."""

    @property
    def noise_size(self) -> int:
        """Standard normal numbers per state."""
        ...

    def __call__(self, parameters: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Returns the (P, B, K, act) residuals of K candidates.

        Args:
            parameters: (P, n).
            context: (P, B, obs + act) s and a_base.
            noise: (P, B, noise_size) standard normal numbers.
        """
        ...


@dataclass(frozen=True)
class Regressed:
    """One residual, the output of a network."""

    network: MLP

    @property
    def noise_size(self) -> int:
        """No noise."""
        return 0

    def __call__(self, parameters: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Returns the (P, B, 1, act) residual; see :class:`Proposal`."""
        return self.network(parameters, context).unsqueeze(-2)


@dataclass(frozen=True)
class Sampled:
    """Residuals decoded from samples of the latent variable's prior."""

    decoder: MLP
    latent: int
    candidates: int

    @property
    def noise_size(self) -> int:
        """A latent variable for every candidate."""
        return self.candidates * self.latent

    def __call__(self, parameters: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Returns the (P, B, K, act) residuals; see :class:`Proposal`."""
        latents = noise.unflatten(-1, (self.candidates, self.latent))
        return with_repeated_context(self.decoder, parameters, context, latents)


@dataclass(frozen=True)
class Steered:
    """One residual, decoded from what a latent policy says; its parameters follow the decoder's."""

    decoder: MLP
    pilot: MLP

    @property
    def noise_size(self) -> int:
        """No noise."""
        return 0

    def __call__(self, parameters: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Returns the (P, B, 1, act) residual; see :class:`Proposal`."""
        sizes = [self.decoder.num_parameters, self.pilot.num_parameters]
        decoder, pilot = parameters.split(sizes, dim=-1)
        latents = LATENT_BOUND * self.pilot(pilot, context).tanh()
        return self.decoder(decoder, torch.cat([context, latents], dim=-1)).unsqueeze(-2)


@dataclass(frozen=True)
class RectifiedActor:
    """SPAR's policy: the best of K candidates if the critics say that it gains enough.

    Attributes:
        base: Shape of π_base; its first outputs, squashed, are an action.
        base_parameters: (1, n), on the CPU.
        proposal: How candidates are made.
        proposal_parameters: (1, n).
        critic: Shape of a critic.
        critic_parameters: (E, 1, n) critics of the gate.
        penalty: (1,) λ_u.
        absolute: η_abs.
        relative: η_rel.
        frame: From the environment to the networks and back.
        action_size: Dimensions of an action.
    """

    chooses: ClassVar[bool] = True

    base: MLP
    base_parameters: Tensor
    proposal: Proposal
    proposal_parameters: Tensor
    critic: MLP
    critic_parameters: Tensor
    penalty: Tensor
    absolute: float
    relative: float
    frame: Frame
    action_size: int

    @property
    def noise_size(self) -> int:
        """What the candidates take."""
        return self.proposal.noise_size

    def decide(self, observations: Tensor, noise: Tensor) -> Decision:
        """Returns the (1, n) decisions in (1, n, obs) states as networks see them."""
        outputs = self.base(self.base_parameters, observations)
        base_actions = outputs[..., : self.action_size].tanh()
        context = torch.cat([observations, base_actions], dim=-1)
        residuals = self.proposal(self.proposal_parameters, context, noise)
        candidates = (base_actions.unsqueeze(-2) + residuals).clamp(-1.0, 1.0)
        # The base action is judged as one more candidate, so that a state enters critics once.
        asked = torch.cat([base_actions.unsqueeze(-2), candidates], dim=-2)
        mean, std = judged(self.critic, self.critic_parameters, observations, asked)
        values = robust_values(mean, std, self.penalty)
        return rectified(
            base_actions,
            candidates,
            values[..., 0],
            values[..., 1:],
            self.absolute,
            self.relative,
        )

    def __call__(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, obs) observations and (n, noise_size) normal noise to (n, act) actions."""
        inputs = self.frame.observe(observations).unsqueeze(0)
        return self.frame.act(self.decide(inputs, noise.unsqueeze(0)).actions.squeeze(0))
