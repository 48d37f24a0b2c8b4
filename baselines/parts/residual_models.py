"""Stage II of SPAR: populations of residual policies π_res, by how they are made and improved.

    MLP     f(s, a_base);      climbs Q_rob                                          Eq. 7
    CVAE    f(s, a_base, z);   fitted alone                                          Eq. 8
    PLAS    f(s, a_base, z);   fitted, then held fixed while z = π_z(s, a_base) climbs Q_rob
    PROJ    f(s, a_base, z);   imitates what is good of its own samples              Eq. 10

All of them are fitted to the dataset's residuals Δa = a - a_base with weights w. Losses are
functions of given parameters and given noise, so that gradients can be compared. The last two are
in parts/residual_guidance.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.parts.gradient_clipping import minimise_clipped
from baselines.parts.guided import GuidedFit
from baselines.parts.networks import MLP
from baselines.parts.residual_anchor import Judge
from baselines.parts.residual_gate import Proposal, Regressed, Sampled
from baselines.parts.residual_losses import weighted_distance
from baselines.parts.vae import LOG_STD_RANGE, divergence


class ResidualBatch(NamedTuple):
    """Transitions as residual policies see them."""

    observations: Tensor  # (P, B, obs)
    base_actions: Tensor  # (P, B, act) a_base
    residuals: Tensor  # (P, B, act) Δa
    weights: Tensor  # (P, B) w
    base_values: Tensor  # (P, B) Q_rob(s, a_base) of the critics for guidance
    base_std: Tensor  # (P, B) σ_Q(s, a_base) of these

    @property
    def context(self) -> Tensor:
        """(P, B, obs + act) the inputs (s, a_base) of every residual policy."""
        return torch.cat([self.observations, self.base_actions], dim=-1)

    def act(self, residuals: Tensor) -> Tensor:
        """Returns a_base + Δa, clipped, for (P, B, act) or (P, B, K, act) residuals."""
        base = self.base_actions
        return ((base if residuals.dim() == 3 else base.unsqueeze(-2)) + residuals).clamp(-1.0, 1.0)


class Population(ABC):
    """Residual policies of some members of a population, all of one kind.

    Args:
        configs: (P,) configs of these members.
        data: Gives sizes and device.
        judge: Q_rob of the critics for guidance.

    Attributes:
        proposal: How residuals follow from parameters.
    """

    proposal: Proposal

    def __init__(self, configs: Sequence[Any], data: MemberData, judge: Judge):
        self.judge = judge
        self.context_size = data.observation_size + data.action_size
        self.guide_weight = per_member(configs, "guide_weight", data.device)
        self.rate = per_member(configs, "residual_rate", data.device)
        self.clip = per_member(configs, "gradient_clip", data.device)

    @abstractmethod
    def update(
        self, batch: ResidualBatch, active: Tensor, *, guided: bool, steered: bool
    ) -> dict[str, Tensor]:
        """Takes one gradient step.

        Args:
            batch: What to take it on.
            active: (P,) bool, changed in place.
            guided: Whether it is the turn of guidance by samples.
            steered: Whether generators are done and latent policies begin.

        Returns:
            (P,) metrics by name; ``loss`` is among them.
        """

    def guided_fit(self, batch: ResidualBatch) -> GuidedFit | None:
        """Returns the two terms of Eq. 2 apart, None without guidance; see parts/guided.py."""
        return None

    def proposes(self, steered: bool) -> bool:
        """Returns whether what is proposed is trained in such an update."""
        return True

    @abstractmethod
    def ready(self) -> bool:
        """Returns whether what is proposed has been trained at all."""

    @abstractmethod
    def proposal_parameters(self) -> Tensor:
        """Returns the (P, n) parameters of :attr:`proposal`, without gradient."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""


class Regressor(Population):
    """SPAR-MLP: a deterministic residual that is fitted and climbs Q_rob at once (Eq. 7)."""

    def __init__(
        self, configs: Sequence[Any], data: MemberData, seeds: Sequence[int], judge: Judge
    ):
        super().__init__(configs, data, judge)
        hidden_sizes = shared(configs, "hidden_sizes")
        self.network = MLP((self.context_size, *hidden_sizes, data.action_size))
        self.parameters = self.network.init(MemberRandom(seeds, "residual", data.device))
        self.optimiser = MemberAdam(self.parameters, self.rate)
        self.proposal = Regressed(self.network)

    def fit_loss(self, parameters: Tensor, batch: ResidualBatch) -> Tensor:
        """Returns the (P,) weighted distance to the data, the first term of Eq. 7."""
        residuals = self.network(parameters, batch.context)
        return weighted_distance(residuals, batch.residuals, batch.weights)

    def guide_loss(self, parameters: Tensor, batch: ResidualBatch) -> Tensor:
        """Returns the (P,) ``-mean_B Q_rob(s, a_synth)``, the second term without λ_g."""
        actions = batch.act(self.network(parameters, batch.context))
        return -self.judge(batch.observations, actions).mean(-1)

    def guided_fit(self, batch: ResidualBatch) -> GuidedFit:
        """Returns the two terms of Eq. 7 apart."""
        return GuidedFit(
            self.optimiser,
            lambda theta: self.fit_loss(theta, batch),
            lambda theta: self.guide_weight * self.guide_loss(theta, batch),
            self.clip,
        )

    def update(
        self, batch: ResidualBatch, active: Tensor, *, guided: bool, steered: bool
    ) -> dict[str, Tensor]:
        """Takes one step down Eq. 7."""
        residuals = self.network(self.parameters, batch.context)
        fit = weighted_distance(residuals, batch.residuals, batch.weights)
        guide = -self.judge(batch.observations, batch.act(residuals)).mean(-1)
        loss = fit + self.guide_weight * guide
        minimise_clipped(self.optimiser, loss, active, self.clip)
        return {"loss": loss, "fit_loss": fit, "guide_loss": guide}

    def ready(self) -> bool:
        """Returns whether a step was taken."""
        return bool(self.optimiser.steps > 0)

    def proposal_parameters(self) -> Tensor:
        """Returns the (P, n) parameters of the residual."""
        return self.parameters.detach()

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {"parameters": self.parameters, "optimiser": self.optimiser.state_dict()}


class Generator(Population):
    """SPAR-CVAE: residuals decoded from latent variables, fitted by a weighted bound (Eq. 8).

    Attributes:
        encoder: Shape of q(z|s, a_base, Δa).
        decoder: Shape of f(s, a_base, z).
        parameters: (P, n), the encoder's and then the decoder's.
    """

    def __init__(
        self, configs: Sequence[Any], data: MemberData, seeds: Sequence[int], judge: Judge
    ):
        super().__init__(configs, data, judge)
        sizes = shared(configs, "generator_sizes")
        self.latent: int = shared(configs, "latent_size")
        self.kl_weight = per_member(configs, "kl_weight", data.device)
        self.encoder = MLP((self.context_size + data.action_size, *sizes, 2 * self.latent))
        self.decoder = MLP((self.context_size + self.latent, *sizes, data.action_size))
        random = MemberRandom(seeds, "residual", data.device)
        parts = [network.init(random).detach() for network in (self.encoder, self.decoder)]
        self.parameters = torch.cat(parts, dim=-1).requires_grad_()
        self.optimiser = MemberAdam(self.parameters, self.rate)
        self.noise = MemberRandom(seeds, "latents of data", data.device)
        self.proposal = Sampled(self.decoder, self.latent, shared(configs, "candidates"))

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the encoder's and the decoder's parameters."""
        encoder, decoder = self.encoder.num_parameters, self.decoder.num_parameters
        return tuple(parameters.split([encoder, decoder], dim=-1))  # pyright: ignore[reportReturnType]

    def fit_losses(
        self, parameters: Tensor, batch: ResidualBatch, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the two (P,) terms of Eq. 8, the second without β: it has no weights.

        Args:
            parameters: (P, n).
            batch: Transitions.
            noise: (P, B, latent) standard normal numbers.
        """
        encoder, decoder = self.split(parameters)
        context = batch.context
        encoded = self.encoder(encoder, torch.cat([context, batch.residuals], dim=-1))
        mean, log_std = posterior(encoded)
        latents = mean + log_std.exp() * noise
        residuals = self.decoder(decoder, torch.cat([context, latents], dim=-1))
        kl = divergence(mean, log_std).mean((-2, -1))
        return weighted_distance(residuals, batch.residuals, batch.weights), kl

    def update(
        self, batch: ResidualBatch, active: Tensor, *, guided: bool, steered: bool
    ) -> dict[str, Tensor]:
        """Takes one step down Eq. 8, and what a subclass adds to it."""
        noise = self.noise.normal(batch.weights.shape[1], self.latent)
        distance, kl = self.fit_losses(self.parameters, batch, noise)
        loss = distance + self.kl_weight * kl
        metrics = {"fit_loss": distance, "kl": kl}
        if guided:
            added, more = self._guided(batch)
            loss, metrics = loss + added, metrics | more
        minimise_clipped(self.optimiser, loss, active, self.clip)
        return {"loss": loss, **metrics}

    def _guided(self, batch: ResidualBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns a (P,) loss for guidance, and metrics."""
        return torch.zeros_like(self.kl_weight), {}

    def ready(self) -> bool:
        """Returns whether a step was taken."""
        return bool(self.optimiser.steps > 0)

    def proposal_parameters(self) -> Tensor:
        """Returns the (P, n) parameters of the decoder."""
        return self.split(self.parameters.detach())[1]

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "parameters": self.parameters,
            "optimiser": self.optimiser.state_dict(),
            "noise": self.noise.state_dict(),
        }


def posterior(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and log standard deviation of q(z|s, a_base, Δa)."""
    mean, log_std = encoded.chunk(2, dim=-1)
    return mean, log_std.clamp(*LOG_STD_RANGE)
