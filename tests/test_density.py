from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from baselines.engine.data import MemberData
from baselines.parts.density import TanhGaussian
from tests.continuous import plain
from tests.toy import point


def make(seeds=(0, 1), sizes=(16, 16), rate=1e-3):
    data = MemberData([point()] * len(seeds))
    return data, TanhGaussian(data, seeds, sizes, torch.full((len(seeds),), rate))


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_energies_are_those_of_the_transformed_distribution():
    _, model = make()
    observations, actions = random(2, 7, 2), random(2, 7, 2, seed=1).tanh()
    ours = model.energies(model.parameters, observations, actions, torch.empty(2, 7, 0))
    for member in range(2):
        outputs = plain(model.network, model.parameters[member], observations[member])
        mean, log_std = outputs.chunk(2, -1)
        normal = Normal(mean, log_std.clamp(-5.0, 2.0).exp())
        density = TransformedDistribution(Independent(normal, 1), TanhTransform())
        expected = -density.log_prob(actions[member].double()) / 8  # four times two dimensions
        torch.testing.assert_close(ours[member].double(), expected, rtol=1e-4, atol=1e-4)


def test_actions_at_their_bounds_have_finite_energies_and_gradients():
    _, model = make()
    actions = torch.ones(2, 3, 2, requires_grad=True)
    energies = model.of_policy(random(2, 3, 2), actions, torch.empty(2, 3, 0))
    (gradient,) = torch.autograd.grad(energies.sum(), actions)
    assert energies.isfinite().all()
    assert gradient.isfinite().all()


def test_a_gaussian_draws_a_policy_back_until_its_action_has_no_more_digits():
    _, model = make(seeds=(0,))
    for u, drawn in ((3.0, True), (6.5, True), (8.0, False)):
        before = torch.full((1, 3, 2), u, requires_grad=True)
        energies = model.of_policy(random(1, 3, 2), before.tanh(), torch.empty(1, 3, 0))
        (gradient,) = torch.autograd.grad(energies.sum(), before)
        assert (gradient > 0.1).all() if drawn else (gradient == 0.0).all()


def test_gradients_against_finite_differences():
    _, model = make(seeds=(0,), sizes=(6,))
    parameters = model.parameters.detach().double().requires_grad_()
    observations = random(1, 3, 2, dtype=torch.float64)
    actions = (0.5 * random(1, 3, 2, seed=2, dtype=torch.float64)).tanh().requires_grad_()
    noise = torch.empty(1, 3, 0, dtype=torch.float64)
    assert torch.autograd.gradcheck(model.energies, (parameters, observations, actions, noise))


def test_a_policys_energies_have_no_gradient_to_the_parameters():
    _, model = make()
    actions = random(2, 7, 2, seed=1).tanh().requires_grad_()
    energies = model.of_policy(random(2, 7, 2), actions, torch.empty(2, 7, 0))
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(energies.sum(), model.parameters)


def test_fitting_finds_mean_and_spread_of_the_data():
    data, model = make(seeds=(0,), sizes=(32,), rate=1e-2)
    observations = data.take(torch.arange(512).expand(1, -1)).observations
    actions = (0.5 + 0.3 * random(1, 512, 2)).tanh()
    active = torch.ones(1, dtype=torch.bool)
    for _ in range(200):
        model.fit(observations, actions, torch.empty(1, 512, 0), active)
    outputs = model.network(model.parameters, observations).detach()
    mean, log_std = outputs.chunk(2, -1)
    assert mean.mean().item() == pytest.approx(0.5, abs=0.05)
    assert log_std.exp().mean().item() == pytest.approx(0.3, abs=0.05)


def test_its_policy_samples():
    data, model = make()
    observations, noise = random(5, 2), random(5, 2, seed=3)
    outputs = plain(model.network, model.parameters[1], data.frame(1).observe(observations))
    mean, log_std = outputs.chunk(2, -1)
    expected = (mean + log_std.clamp(-5.0, 2.0).exp() * noise.double()).tanh()
    actions = model.actor(1)(observations, noise)
    torch.testing.assert_close(actions.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_model_becomes_another():
    _, first = make()
    _, second = make(seeds=(2, 3))
    first.become(second)
    assert torch.equal(first.parameters, second.parameters)
    assert first.parameters.requires_grad
    assert first.parameters is not second.parameters
