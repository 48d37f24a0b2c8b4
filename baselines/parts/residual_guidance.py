"""Stage II of SPAR, continued: generators that imitate their samples, or are steered to value.

PROJ    min  L_fit + λ_g E[Σ_k ω_k ‖π_res(z_k) - sg Δa_k‖²]        Eq. 2 and 10, Algorithm 4
PLAS    min  L_fit,  then  -λ_g E[Q_rob(s, a_synth)] over π_z        Algorithm 3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.optimiser import MemberAdam, track
from baselines.engine.random import MemberRandom
from baselines.parts.gradient_clipping import minimise_clipped
from baselines.parts.guided import GuidedFit
from baselines.parts.networks import MLP
from baselines.parts.repeated_inputs import with_repeated_context
from baselines.parts.residual_anchor import Judge
from baselines.parts.residual_gate import Steered
from baselines.parts.residual_losses import (
    Weighting,
    imitation_loss,
    normalised_advantages,
    resampled,
    weighted_distance,
)
from baselines.parts.residual_models import Generator, ResidualBatch, posterior
from baselines.parts.vae import divergence

Guidance = Literal["literal", "cross", "elbo"]
"""Eq. 10 as written; towards samples of other latents; towards samples, encoded. See spar.py."""


class Samples(NamedTuple):
    """Candidates that a target decoder generates, and their weights."""

    latents: Tensor  # (P, B, K, latent) z_k
    residuals: Tensor  # (P, B, K, act) Δa_k = f'(s, a_base, z_k)
    shares: Tensor  # (P, B, K) ω_k
    advantages: Tensor  # (P, B, K) Ã_k


class Projector(Generator):
    """SPAR-PROJ: a generator that imitates its own samples by their value (Eq. 9 and 10).

    Attributes:
        target: (P, n) parameters of the decoder f'.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        data: MemberData,
        seeds: Sequence[int],
        judge: Judge,
        weighting: Weighting,
    ):
        super().__init__(configs, data, seeds, judge)
        self.weighting = weighting
        self.guidance: Guidance = shared(configs, "guidance")
        self.samples: int = shared(configs, "guide_samples")
        self.target_rate = per_member(configs, "generator_target", data.device)
        self.target = self.split(self.parameters.detach())[1].clone()
        self.guide_noise = MemberRandom(seeds, "latents of guidance", data.device)

    @torch.no_grad()
    def draw(self, batch: ResidualBatch, latents: Tensor) -> Samples:
        """Returns what f' makes of (P, B, K, latent) latents, weighed by Eq. 9."""
        residuals = with_repeated_context(self.decoder, self.target, batch.context, latents)
        values = self.judge.exactly(batch.observations, batch.act(residuals))
        advantages = normalised_advantages(values, batch.base_values, batch.base_std)
        return Samples(latents, residuals, self.weighting.shares(advantages), advantages)

    def guide_loss(
        self,
        parameters: Tensor,
        batch: ResidualBatch,
        samples: Samples,
        noise: Tensor,
        uniforms: Tensor,
    ) -> Tensor:
        """Returns the (P,) loss of Eq. 10 in one of its readings.

        Args:
            parameters: (P, n).
            batch: Transitions.
            samples: What is imitated.
            noise: (P, B, K, latent) standard normal numbers, for all but ``literal``.
            uniforms: (P, B, K) in (0, 1), for ``cross``.
        """
        encoder, decoder = self.split(parameters)
        latents, targets, shares, _ = samples
        divergences = 0.0
        if self.guidance == "cross":
            # As many draws as samples, all alike; none where no sample has weight.
            targets, latents = resampled(targets, shares, uniforms), noise
            shares = shares.sum(-1, keepdim=True).expand_as(shares) / shares.shape[-1]
        elif self.guidance == "elbo":
            encoded = with_repeated_context(self.encoder, encoder, batch.context, targets)
            mean, log_std = posterior(encoded)
            latents = mean + log_std.exp() * noise
            per_state = divergence(mean, log_std).mean((-2, -1))
            divergences = self.kl_weight * (shares.sum(-1) * per_state).mean(-1)
        residuals = with_repeated_context(self.decoder, decoder, batch.context, latents)
        return imitation_loss(residuals, targets, shares) + divergences

    def guide_numbers(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns random latents, noise and uniforms for :meth:`draw` and :meth:`guide_loss`.

        Of what the guidance has no use for there are none.
        """
        shape = (rows, self.samples)
        return (
            self.guide_noise.normal(*shape, self.latent),
            self.guide_noise.normal(*shape, 0 if self.guidance == "literal" else self.latent),
            self.guide_noise.uniform(*shape if self.guidance == "cross" else (rows, 0)),
        )

    def guided_fit(self, batch: ResidualBatch) -> GuidedFit:
        """Returns the two terms of Eq. 2 apart, on fresh samples."""
        rows = batch.weights.shape[1]
        latents, noise, uniforms = self.guide_numbers(rows)
        samples, own = self.draw(batch, latents), self.noise.normal(rows, self.latent)

        def fit(theta: Tensor) -> Tensor:
            distance, kl = self.fit_losses(theta, batch, own)
            return distance + self.kl_weight * kl

        def guide(theta: Tensor) -> Tensor:
            return self.guide_weight * self.guide_loss(theta, batch, samples, noise, uniforms)

        return GuidedFit(self.optimiser, fit, guide, self.clip)

    def update(
        self, batch: ResidualBatch, active: Tensor, *, guided: bool, steered: bool
    ) -> dict[str, Tensor]:
        """Takes one step down ``L_fit + λ_g L_guide`` (Eq. 2), then moves the target decoder."""
        metrics = super().update(batch, active, guided=guided, steered=steered)
        decoder = self.split(self.parameters.detach())[1]
        track(self.target, decoder, self.target_rate, active)
        return metrics

    def _guided(self, batch: ResidualBatch) -> tuple[Tensor, dict[str, Tensor]]:
        latents, noise, uniforms = self.guide_numbers(batch.weights.shape[1])
        samples = self.draw(batch, latents)
        loss = self.guide_loss(self.parameters, batch, samples, noise, uniforms)
        weighted = samples.shares.sum(-1)  # 1 or 0
        guided = weighted.mean(-1)
        effective = weighted / (samples.shares.square().sum(-1) + 1.0 - weighted)
        metrics = {
            "imitation_loss": loss,
            "guide_advantage": (samples.shares * samples.advantages).sum(-1).mean(-1),
            "guided_states": guided,
            "effective_candidates": effective.mean(-1) / guided.clamp(min=1e-6),
        }
        return self.guide_weight * loss, metrics

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        more = {"target": self.target, "guide_noise": self.guide_noise.state_dict()}
        return super().state_dict() | more


class LatentPilot(Generator):
    """SPAR-PLAS: a generator, then a policy of its latent variable that climbs Q_rob.

    Attributes:
        pilot: (P, n) parameters of π_z.
    """

    def __init__(
        self, configs: Sequence[Any], data: MemberData, seeds: Sequence[int], judge: Judge
    ):
        super().__init__(configs, data, seeds, judge)
        sizes = (self.context_size, *shared(configs, "hidden_sizes"), self.latent)
        self.pilot_network = MLP(sizes)
        self.pilot = self.pilot_network.init(MemberRandom(seeds, "latent policy", data.device))
        self.pilot_optimiser = MemberAdam(self.pilot, self.rate)
        self.proposal = Steered(self.decoder, self.pilot_network)

    def residuals(self, pilot: Tensor, batch: ResidualBatch) -> Tensor:
        """Returns the (P, B, act) residuals f(s, a_base, π_z(s, a_base)) of a fixed decoder."""
        parameters = torch.cat([self.split(self.parameters.detach())[1], pilot], dim=-1)
        no_noise = batch.context[..., :0]
        return self.proposal(parameters, batch.context, no_noise).squeeze(-2)

    def fit_loss_of_pilot(self, pilot: Tensor, batch: ResidualBatch) -> Tensor:
        """Returns the (P,) weighted distance to the data of what the latent policy does."""
        return weighted_distance(self.residuals(pilot, batch), batch.residuals, batch.weights)

    def guide_loss(self, pilot: Tensor, batch: ResidualBatch) -> Tensor:
        """Returns the (P,) ``-mean_B Q_rob(s, a_synth)`` of Algorithm 3 without λ_g."""
        actions = batch.act(self.residuals(pilot, batch))
        return -self.judge(batch.observations, actions).mean(-1)

    def guided_fit(self, batch: ResidualBatch) -> GuidedFit:
        """Returns what holds the latent policy to the data, and its guidance."""
        return GuidedFit(
            self.pilot_optimiser,
            lambda theta: self.fit_loss_of_pilot(theta, batch),
            lambda theta: self.guide_weight * self.guide_loss(theta, batch),
            self.clip,
        )

    def update(
        self, batch: ResidualBatch, active: Tensor, *, guided: bool, steered: bool
    ) -> dict[str, Tensor]:
        """Takes one step on the generator, or later on the latent policy."""
        if not steered:
            return super().update(batch, active, guided=guided, steered=steered)
        guide = self.guide_loss(self.pilot, batch)
        loss = self.guide_weight * guide
        minimise_clipped(self.pilot_optimiser, loss, active, self.clip)
        return {"loss": loss, "pilot_loss": guide}

    def proposes(self, steered: bool) -> bool:
        """Returns whether what is proposed is trained in such an update."""
        return steered

    def ready(self) -> bool:
        """Returns whether the latent policy has taken a step."""
        return bool(self.pilot_optimiser.steps > 0)

    def proposal_parameters(self) -> Tensor:
        """Returns the (P, n) parameters of decoder and latent policy."""
        return torch.cat([super().proposal_parameters(), self.pilot.detach()], dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        more = {"pilot": self.pilot, "pilot_optimiser": self.pilot_optimiser.state_dict()}
        return super().state_dict() | more
