"""What the readings of SPAR's latent self-imitation do to a generator of two kinds of residuals."""

from __future__ import annotations

import pytest
import torch

from baselines.engine.data import MemberData
from baselines.parts.repeated_inputs import with_repeated_context
from baselines.parts.residual_guidance import Projector
from baselines.parts.residual_losses import Weighting
from baselines.parts.residual_models import ResidualBatch
from baselines.spar import Config
from tests.toy import point

GOOD = 0.5  # three in ten residuals are here, the others at minus this


class Judge:
    """Values that are known exactly."""

    @staticmethod
    def exactly(observations, actions):
        return (-(((actions[..., 0] - GOOD) / 0.25) ** 2)).exp()


def batches(rows=64):
    """Residuals around two places, all of equal weight; base actions 0 of value 0."""
    generator = torch.Generator().manual_seed(0)
    zeros, ones = torch.zeros(1, rows), torch.ones(1, rows)
    nothing = torch.zeros(1, rows, 2)
    while True:
        side = torch.where(torch.rand(1, rows, generator=generator) < 0.3, GOOD, -GOOD)
        residuals = torch.stack([side, zeros], -1)
        residuals += 0.03 * torch.randn(1, rows, 2, generator=generator)
        yield ResidualBatch(nothing, nothing, residuals, ones, zeros, ones)


def good_samples(generator, batch):
    """Share of what a generator makes that is nearer to the good residuals."""
    latents = torch.randn(1, 64, 16, 2, generator=torch.Generator().manual_seed(1))
    parameters = generator.proposal_parameters()
    made = with_repeated_context(generator.decoder, parameters, batch.context, latents)
    return (made[..., 0] > 0.0).float().mean().item()


@pytest.mark.slow
def test_the_readings_of_latent_self_imitation():
    """A share of 0.3 in the data stays with Eq. 10 as written, and rises with the other two."""
    data = MemberData([point(episodes=2)], steps=100)
    weighting = Weighting(torch.tensor([0.2]), torch.tensor([False]), torch.tensor([False]))
    shares = {}
    for guidance in ("literal", "cross", "elbo"):
        config = Config(
            guidance=guidance,
            guide_weight=10.0,
            generator_sizes=(32, 32),
            latent_size=2,
            guide_samples=8,
            residual_rate=3e-3,
            kl_weight=0.05,
            generator_target=0.05,
        )
        generator = Projector([config], data, [0], Judge(), weighting)
        source, active = batches(), torch.ones(1, dtype=torch.bool)
        for step in range(700):
            if step == 400:
                before = good_samples(generator, next(source))
            generator.update(next(source), active, guided=step >= 400, steered=False)
        shares[guidance] = (before, good_samples(generator, next(source)))
    before, after = shares["literal"]
    assert 0.2 < before < 0.4
    assert abs(after - before) < 0.05
    assert shares["cross"][1] > 0.8
    assert shares["elbo"][1] > before + 0.1
