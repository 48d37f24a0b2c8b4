from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from baselines.engine.data import MemberData
from baselines.parts.vae import KL_WEIGHT, VAE, divergence, energy
from tests.continuous import plain
from tests.toy import point


def make(seeds=(0, 1), sizes=(16, 16), rate=1e-3):
    data = MemberData([point()] * len(seeds))
    return data, VAE(data, seeds, sizes, torch.full((len(seeds),), rate))


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_energy_by_hand():
    reconstructions = torch.tensor([[[0.5, 0.0]]])
    actions = torch.tensor([[[1.0, -1.0]]])  # squared distances 0.25 and 1, mean 0.625
    mean = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])  # KL 0.5 of the first
    log_std = torch.tensor([[[0.0, 0.0, 0.0, math.log(2.0)]]])  # of the last: 1.5 - log 2
    by_hand = 0.625 + 0.5 * (0.5 + 1.5 - math.log(2.0)) / 4
    assert energy(reconstructions, actions, mean, log_std).item() == pytest.approx(by_hand)


def test_divergence_is_that_of_normal_distributions():
    mean, log_std = random(50, seed=1), random(50, seed=2)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_std), expected)


def test_energy_is_a_scaled_evidence_lower_bound():
    size = 3
    reconstructions, actions = random(1, 20, size, seed=3), random(1, 20, size, seed=4)
    mean, log_std = random(1, 20, 2 * size, seed=5), random(1, 20, 2 * size, seed=6)
    decoder = Normal(reconstructions, math.sqrt(KL_WEIGHT / 4))
    prior = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(-1)
    bound = decoder.log_prob(actions).sum(-1) - prior
    constant = size * math.log(math.sqrt(KL_WEIGHT / 4) * math.sqrt(2 * math.pi))
    expected = -(bound + constant) / (4 * size)
    torch.testing.assert_close(energy(reconstructions, actions, mean, log_std), expected)


def test_energies_are_those_of_the_written_out_networks():
    _, vae = make()
    observations, actions, noise = random(2, 7, 2), random(2, 7, 2, seed=1), random(2, 7, 4, seed=2)
    ours = vae.energies(vae.parameters, observations, actions, noise)
    for member, theta in enumerate(vae.parameters.split(1)):
        s, a = observations[member].double(), actions[member].double()
        encoder, decoder = theta[0].split([vae.encoder.num_parameters, vae.decoder.num_parameters])
        encoded = plain(vae.encoder, encoder, torch.cat([s, a], -1))
        mean, log_std = encoded[:, :4], encoded[:, 4:].clamp(-4.0, 15.0)
        z = mean + log_std.exp() * noise[member]
        decoded = plain(vae.decoder, decoder, torch.cat([s, z], -1)).tanh()
        kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
        expected = ((decoded - a) ** 2).mean(-1) + 0.5 * kl.mean(-1)
        torch.testing.assert_close(ours[member].double(), expected, rtol=1e-5, atol=1e-6)


def test_the_encoders_standard_deviation_is_bounded():
    _, vae = make(seeds=(0,))
    observations, actions = 1e6 * random(1, 7, 2), random(1, 7, 2, seed=1)
    _, log_std = vae.encode(vae.parameters, observations, actions)
    assert (log_std.min().item(), log_std.max().item()) == (-4.0, 15.0)


def test_gradients_against_finite_differences():
    _, vae = make(seeds=(0,), sizes=(6,))
    parameters = vae.parameters.detach().double().requires_grad_()
    arguments = [random(1, 3, size, seed=size, dtype=torch.float64) for size in (2, 2, 4)]
    arguments[1].requires_grad_()
    assert torch.autograd.gradcheck(vae.energies, (parameters, *arguments))


def test_a_policys_energies_have_a_gradient_to_the_actions_through_encoder_and_decoder():
    _, vae = make()
    observations, noise = random(2, 7, 2), random(2, 7, 4, seed=2)
    actions = random(2, 7, 2, seed=1).requires_grad_()
    energies = vae.of_policy(observations, actions, noise).sum()
    (gradient,) = torch.autograd.grad(energies, actions)

    mean, log_std = vae.encode(vae.parameters, observations, actions)
    reconstructions = vae.decode(vae.parameters, observations, mean + log_std.exp() * noise)
    direct = actions.detach() - reconstructions.detach()  # of the mean over two dimensions
    distance = (reconstructions - actions.detach()).square().mean(-1).sum()
    weighted = 0.5 * divergence(mean, log_std).mean(-1).sum()
    parts = [
        direct,
        *(
            torch.autograd.grad(each, actions, retain_graph=True)[0]
            for each in (distance, weighted)
        ),
    ]
    assert all(part.abs().max() > 1e-3 for part in parts)
    torch.testing.assert_close(gradient, sum(parts), rtol=1e-4, atol=1e-6)


def test_a_policys_energies_have_no_gradient_to_the_parameters():
    _, vae = make()
    actions = random(2, 7, 2, seed=1).requires_grad_()
    energies = vae.of_policy(random(2, 7, 2), actions, random(2, 7, 4, seed=2))
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(energies.sum(), vae.parameters)


def test_fitting_makes_data_more_likely_than_other_actions():
    """Behaviour goes towards the origin: the opposite actions get the higher energy."""
    data, vae = make(seeds=(0, 1), sizes=(32, 32), rate=3e-3)
    batch = data.take(torch.arange(512).expand(2, -1))
    active = torch.ones(2, dtype=torch.bool)
    losses = [
        vae.fit(batch.observations, batch.actions, random(2, 512, 4, seed=step), active)
        for step in range(200)
    ]
    assert (losses[-1] < 0.8 * losses[0]).all()
    towards = -batch.observations / batch.observations.norm(dim=-1, keepdim=True)
    noise = torch.zeros(2, 512, 4)
    with torch.no_grad():
        likely, unlikely = (
            vae.of_policy(batch.observations, actions, noise).mean(-1)
            for actions in (0.3 * towards, -towards)
        )
    assert (unlikely > likely + 0.1).all()


def test_a_member_that_is_switched_off_keeps_its_parameters():
    data, vae = make()
    batch = data.take(torch.arange(8).expand(2, -1))
    before = vae.parameters.detach().clone()
    vae.fit(batch.observations, batch.actions, random(2, 8, 4), torch.tensor([True, False]))
    changed = (vae.parameters.detach() != before).any(-1)
    assert changed.tolist() == [True, False]


def test_its_policy_decodes_clipped_latents():
    data, vae = make()
    observations, noise = random(5, 2), 2.0 * random(5, 4, seed=3)
    frame = data.frame(1)
    latents = noise.clamp(-0.5, 0.5)
    assert (latents != noise).any()
    theta = vae.parameters[1, vae.encoder.num_parameters :]
    inputs = torch.cat([frame.observe(observations), latents], -1)
    expected = plain(vae.decoder, theta, inputs).tanh()
    actor = vae.actor(1)
    assert actor.noise_size == 4
    torch.testing.assert_close(actor(observations, noise).double(), expected, rtol=1e-5, atol=1e-6)
