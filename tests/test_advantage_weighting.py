from __future__ import annotations

import math

import pytest
import torch

from baselines.parts.advantage_weighting import (
    exponential_weights,
    standardised_weights,
    weighted_likelihood_loss,
)


def test_exponential_weights_by_hand():
    advantages = torch.tensor([[0.0, -1.0, 5.0], [0.0, -1.0, 5.0]])
    weights = exponential_weights(advantages, torch.tensor([2.0, 0.5]), torch.tensor([9.0, 100.0]))
    expected = [[1.0, math.exp(-2.0), 9.0], [1.0, math.exp(-0.5), math.exp(2.5)]]
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_standardised_weights_by_hand():
    advantages = torch.tensor([[0.0, 2.0], [3.0, 3.0]])  # standardised: -1, 1; no deviation at all
    weights = standardised_weights(advantages, torch.tensor([2.0, 2.0]), torch.tensor([20.0, 20.0]))
    expected = [[math.exp(-0.5), math.exp(0.5)], [1.0, 1.0]]
    torch.testing.assert_close(weights, torch.tensor(expected), rtol=1e-4, atol=0)


def test_weights_are_clipped_by_member_and_finite_at_any_temperature():
    advantages = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).repeat(3, 1)
    weights = standardised_weights(
        advantages, torch.tensor([1e-6, 0.1, 10.0]), torch.tensor([20.0, 5.0, 20.0])
    )
    assert weights.isfinite().all()
    assert weights[:, 3].tolist() == pytest.approx([20.0, 5.0, math.exp(3**0.5 / 10)], rel=1e-4)


def test_the_scale_of_rewards_does_not_matter():
    advantages = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    settings = torch.tensor([0.7]), torch.tensor([20.0])
    weights = standardised_weights(advantages, *settings)
    scaled = standardised_weights(30 * advantages + 7, *settings)
    torch.testing.assert_close(scaled, weights, rtol=1e-4, atol=0)
    assert (weights.argsort() == advantages.argsort()).all()  # the better, the more


def test_likelihood_loss_by_hand():
    """One dimension, mean 0: -log π is a²/2σ² + log σ + log √2π."""
    outputs, log_std = torch.zeros(1, 2, 1), torch.full((1, 1, 1), math.log(0.5))
    actions, weights = torch.tensor([[[0.5], [-1.0]]]), torch.tensor([[3.0, 1.0]])
    loss = weighted_likelihood_loss(outputs, log_std, actions, weights)
    rest = math.log(0.5) + 0.5 * math.log(2.0 * math.pi)
    assert loss.tolist() == pytest.approx([(3.0 * (0.5 + rest) + (2.0 + rest)) / 2.0])


def test_log_standard_deviations_are_within_the_bounds_of_iqls_authors():
    outputs, actions, weights = torch.zeros(1, 1, 2), torch.full((1, 1, 2), 0.1), torch.ones(1, 1)
    beyond, within = torch.tensor([[[-9.0, 3.0]]]), torch.tensor([[[-5.0, 2.0]]])
    losses = [
        weighted_likelihood_loss(outputs, each, actions, weights) for each in (beyond, within)
    ]
    assert torch.equal(*losses)


def test_likelihood_loss_against_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    outputs, log_std = normal(2, 4, 3).requires_grad_(), normal(2, 1, 3).requires_grad_()
    actions, weights = normal(2, 4, 3).tanh(), normal(2, 4).exp()
    assert torch.autograd.gradcheck(
        lambda *heads: weighted_likelihood_loss(*heads, actions, weights), (outputs, log_std)
    )


def test_the_minimiser_is_the_weighted_mean_with_the_weighted_deviation():
    actions = torch.tensor([[[0.1], [0.3], [-0.4]]]).double()
    weights = torch.tensor([[1.0, 2.0, 0.5]]).double()
    shares = weights / weights.sum()
    mean = (shares * actions[..., 0]).sum()
    deviation = (shares * (actions[..., 0] - mean).square()).sum().sqrt()
    outputs = mean.atanh().expand(1, 3, 1).clone().requires_grad_()
    log_std = deviation.log().view(1, 1, 1).clone().requires_grad_()
    loss = weighted_likelihood_loss(outputs, log_std, actions, weights)
    slopes = torch.autograd.grad(loss.sum(), (outputs, log_std))
    for slope in slopes:
        assert slope.sum().item() == pytest.approx(0.0, abs=1e-9)
