from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.engine.random import MemberRandom
from baselines.networks import MLP


def layers_of(mlp, parameters):
    """One network's flat vector as [(weight, bias), ...] arrays."""
    flat, layers = parameters.detach().numpy(), []
    for fan_in, fan_out in mlp.layers:
        weight, bias, flat = np.split(flat, [fan_in * fan_out, fan_in * fan_out + fan_out])
        layers.append((weight.reshape(fan_in, fan_out), bias))
    assert flat.size == 0
    return layers


def reference(mlp, parameters, inputs):
    x = inputs.numpy()
    for number, (weight, bias) in enumerate(layers_of(mlp, parameters)):
        x = (np.maximum(x, 0) if number else x) @ weight + bias
    return x


def test_each_member_is_its_own_network():
    mlp = MLP((4, 8, 6, 3))
    assert mlp.num_parameters == 4 * 8 + 8 + 8 * 6 + 6 + 6 * 3 + 3
    parameters = mlp.init(MemberRandom([0, 1, 2], "network")).detach()
    inputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    outputs = mlp(parameters, inputs)
    for member in range(3):
        expected = reference(mlp, parameters[member], inputs[member])
        np.testing.assert_allclose(outputs[member], expected, rtol=1e-5, atol=1e-6)


def test_an_ensemble_shares_its_members_inputs_or_has_its_own():
    mlp = MLP((4, 8, 2))
    parameters = mlp.init(MemberRandom([0, 1, 2], "network"), ensemble=2).detach()
    assert parameters.shape == (2, 3, mlp.num_parameters)
    assert parameters.is_contiguous()
    inputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    shared = mlp(parameters, inputs)
    assert shared.shape == (2, 3, 5, 2)
    for e in range(2):
        torch.testing.assert_close(shared[e], mlp(parameters[e], inputs))
    own = mlp(parameters, torch.stack([inputs, 2 * inputs]))
    torch.testing.assert_close(own[0], shared[0])
    torch.testing.assert_close(own[1], mlp(parameters[1], 2 * inputs))


def test_initial_parameters_are_uniform_within_one_over_root_fan_in():
    mlp = MLP((100, 50, 20))
    parameters = mlp.init(MemberRandom([0, 1], "network"))
    assert parameters.is_leaf
    assert parameters.requires_grad
    for weight, bias in layers_of(mlp, parameters[0]):
        bound = weight.shape[0] ** -0.5
        assert np.abs(weight).max() < bound
        assert np.abs(bias).max() < bound
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    alone = mlp.init(MemberRandom([1], "network"))
    assert torch.equal(parameters[1:], alone)
    assert not torch.equal(parameters[0], parameters[1])


def test_gradient_against_finite_differences():
    mlp = MLP((3, 5, 2))
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(2, 2, mlp.num_parameters, generator=generator, dtype=torch.float64)
    inputs = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    parameters.requires_grad_()
    assert torch.autograd.gradcheck(lambda theta: mlp(theta, inputs), (parameters,))
