from __future__ import annotations

import math

import pytest
import torch

from baselines.parts import gaussian


def random_heads(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, log_std, noise = torch.randn(3, 2, 5, 3, generator=generator, dtype=dtype).unbind(0)
    return mean, 0.5 * log_std - 0.5, noise


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.2), (-1.0, 0.5)])
def test_the_density_integrates_to_one(mean, std):
    grid = torch.linspace(-1, 1, 400_001, dtype=torch.float64)[1:-1, None]
    heads = torch.full_like(grid, mean), torch.full_like(grid, math.log(std))
    density = gaussian.log_density(*heads, grid).exp()
    assert torch.trapezoid(density, grid.squeeze(-1)).item() == pytest.approx(1.0, abs=1e-4)


def test_the_density_is_that_of_torchs_transformed_distribution():
    mean, log_std, noise = random_heads()
    base = torch.distributions.Normal(mean, log_std.exp())
    reference = torch.distributions.TransformedDistribution(
        base, torch.distributions.TanhTransform(cache_size=1)
    )
    actions, densities = gaussian.sample(mean, log_std, noise)
    torch.testing.assert_close(densities, reference.log_prob(actions).sum(-1))
    torch.testing.assert_close(gaussian.log_density(mean, log_std, actions), densities)


def test_slopes_far_out_are_exact_where_the_naive_formula_is_lost():
    far = torch.tensor([-40.0, -12.0, 0.3, 12.0, 40.0])
    expected = torch.tensor([2 * (math.log(2) - abs(u)) for u in far.tolist()])
    expected[2] = math.log(1 - math.tanh(0.3) ** 2)
    torch.testing.assert_close(gaussian.log_tanh_slope(far), expected, rtol=1e-5, atol=1e-6)
    assert (1 - far[[0, 1, 3, 4]].tanh().square() < 1e-6).all()


def test_gradients_against_finite_differences():
    mean, log_std, noise = (each.requires_grad_() for each in random_heads())
    assert torch.autograd.gradcheck(gaussian.sample, (mean, log_std, noise.detach()))
    actions = torch.rand(2, 5, 3, dtype=torch.float64) * 1.8 - 0.9
    assert torch.autograd.gradcheck(gaussian.log_density, (mean, log_std, actions))
    assert torch.autograd.gradcheck(gaussian.normal_log_density, (mean, log_std, actions))


def test_actions_at_the_bounds_have_a_finite_density():
    mean, log_std, _ = random_heads(torch.float32)
    for bound in (-1.0, 1.0):
        density = gaussian.log_density(mean, log_std, torch.full_like(mean, bound))
        assert density.isfinite().all()
    near = gaussian.log_density(mean, log_std, torch.full_like(mean, gaussian.LARGEST_ACTION))
    torch.testing.assert_close(density, near)


def test_heads_are_split_and_clipped():
    outputs = torch.tensor([[1.0, 2.0, -30.0, 5.0]], requires_grad=True)
    mean, log_std = gaussian.split_heads(outputs, -20.0, 2.0)
    assert mean.tolist() == [[1.0, 2.0]]
    assert log_std.tolist() == [[-20.0, 2.0]]
    (slope,) = torch.autograd.grad(log_std.sum() + mean.sum(), outputs)
    assert slope.tolist() == [[1.0, 1.0, 0.0, 0.0]]
