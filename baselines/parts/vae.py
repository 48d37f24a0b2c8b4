"""A conditional variational autoencoder as a model of the behaviour policy's density.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; conditioned on the state and with
a decoder of fixed variance, as SPOT and CAR use it:

    E(s,a) = mean_d (â_d - a_d)² + ½ mean_j KL( N(μ_j, σ_j²) ‖ N(0, 1) ),
    (μ, log σ) = encoder(s, a),   z = μ + σ ε,   ε ~ N(0, I),   â = decoder(s, z)

With twice as many latent dimensions as action dimensions, D, and a decoder of variance 1/8, the
energy E is the negative evidence lower bound of log π_β(a|s), times 1/(4D), plus a constant: a low
energy is a high density. Randomness is injected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.preparation import Frame
from baselines.engine.random import MemberRandom
from baselines.parts.density import Density
from baselines.parts.networks import MLP

LOG_STD_RANGE = (-4.0, 15.0)
"""Bounds of the encoder's log standard deviation."""
KL_WEIGHT = 0.5
"""Weight of the divergence in the energy; the decoder's variance is a quarter of it."""
LATENT_CLIP = 0.5
"""Latent variables that are decoded into a policy's actions are clipped to this (BCQ's code)."""


def divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Returns KL(N(μ, σ²) ‖ N(0, 1)) by dimension, elementwise."""
    return 0.5 * (mean.square() + (2.0 * log_std).exp() - 1.0) - log_std


def energy(reconstructions: Tensor, actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Returns the (P, B) energies E.

    Args:
        reconstructions: (P, B, act) â.
        actions: (P, B, act) a.
        mean: (P, B, latent) μ.
        log_std: (P, B, latent) log σ.
    """
    distance = (reconstructions - actions).square().mean(-1)
    return distance + KL_WEIGHT * divergence(mean, log_std).mean(-1)


@dataclass(frozen=True)
class VAEActor:
    """A policy that decodes latent variables near their prior's mean.

    Attributes:
        decoder: Maps an observation and a latent variable to an action before squashing.
        parameters: (1, n) the decoder's parameters, on the CPU.
        frame: From the environment to the network and back.
        noise_size: Dimensions of the latent variable.
    """

    decoder: MLP
    parameters: Tensor
    frame: Frame
    noise_size: int

    def __call__(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, obs) observations and (n, latent) normal noise to (n, act) actions."""
        latents = noise.clamp(-LATENT_CLIP, LATENT_CLIP)
        inputs = torch.cat([self.frame.observe(observations), latents], dim=-1).unsqueeze(0)
        return self.frame.act(self.decoder(self.parameters, inputs).squeeze(0).tanh())


class VAE(Density):
    """A population of autoencoders of actions, conditioned on observations.

    Args:
        data: Gives sizes, frames and device.
        seeds: (P,) member seeds.
        hidden_sizes: Width of each hidden layer of encoder and decoder.
        learning_rate: (P,) Adam's step sizes.
        stream: Name of the random stream that the initial weights come from.

    Attributes:
        encoder: Shape of the encoder; its outputs are μ and log σ.
        decoder: Shape of the decoder; the tanh of its outputs is an action.
        parameters: (P, n), the encoder's and then the decoder's.
        noise_size: Dimensions of the latent variable.
    """

    def __init__(
        self,
        data: MemberData,
        seeds: Sequence[int],
        hidden_sizes: Sequence[int],
        learning_rate: Tensor,
        *,
        stream: str = "vae",
    ):
        observation, action = data.observation_size, data.action_size
        latent = 2 * action
        self.encoder = MLP((observation + action, *hidden_sizes, 2 * latent))
        self.decoder = MLP((observation + latent, *hidden_sizes, action))
        random = MemberRandom(seeds, stream, data.device)
        parts = [network.init(random).detach() for network in (self.encoder, self.decoder)]
        super().__init__(torch.cat(parts, dim=-1).requires_grad_(), learning_rate, latent)
        self._data = data

    def encode(
        self, parameters: Tensor, observations: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the (P, B, latent) μ and log σ of (P, B, obs) and (P, B, act) arguments."""
        return self._encode(self._split(parameters)[0], observations, actions)

    def decode(self, parameters: Tensor, observations: Tensor, latents: Tensor) -> Tensor:
        """Returns the (P, B, act) actions â of (P, B, obs) and (P, B, latent) arguments."""
        return self._decode(self._split(parameters)[1], observations, latents)

    def energies(
        self, parameters: Tensor, observations: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Returns the (P, B) energies E(s, a) under given parameters; see :class:`Density`.

        A gradient goes to the actions through encoder and decoder.
        """
        # Split once: two slices would each fill a gradient of full size with zeros.
        encoder, decoder = self._split(parameters)
        mean, log_std = self._encode(encoder, observations, actions)
        reconstructions = self._decode(decoder, observations, mean + log_std.exp() * noise)
        return energy(reconstructions, actions, mean, log_std)

    def _split(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """Returns the encoder's and the decoder's part of (P, n) parameters."""
        return parameters.split((self.encoder.num_parameters, self.decoder.num_parameters), dim=-1)

    def _encode(
        self, theta: Tensor, observations: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        outputs = self.encoder(theta, torch.cat([observations, actions], dim=-1))
        mean, log_std = outputs.chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def _decode(self, theta: Tensor, observations: Tensor, latents: Tensor) -> Tensor:
        return self.decoder(theta, torch.cat([observations, latents], dim=-1)).tanh()

    def actor(self, member: int) -> VAEActor:
        """Returns a copy of one member's decoder on the CPU, as a policy."""
        theta = self.parameters.detach()[member : member + 1, self.encoder.num_parameters :]
        return VAEActor(
            self.decoder, theta.cpu().clone(), self._data.frame(member), self.noise_size
        )
