from __future__ import annotations

import pytest
import torch

from baselines.engine.precision import MatmulPrecision
from baselines.engine.random import MemberRandom
from baselines.parts.input_gradients import values_and_gradients
from baselines.parts.networks import MLP


def network_and_inputs(*, ensemble=3, hidden=(16, 8), members=2, batch=5, dtype=torch.float64):
    network = MLP((4, *hidden, 1))
    theta = network.init(MemberRandom(range(members), "network"), ensemble=ensemble)
    theta = theta.detach().to(dtype).requires_grad_()
    inputs = torch.randn(members, batch, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return network, theta, inputs


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8), (8, 16, 8)])
@pytest.mark.parametrize("ensemble", [None, 3])
def test_equal_autograd(hidden, ensemble):
    network, theta, inputs = network_and_inputs(hidden=hidden, ensemble=ensemble)
    tiled = inputs.expand(*theta.shape[:-1], *inputs.shape[-2:]).clone().requires_grad_()
    expected_values = network(theta, tiled).squeeze(-1)
    (expected,) = torch.autograd.grad(expected_values.sum(), tiled)
    values, gradients = values_and_gradients(network, theta, inputs)
    torch.testing.assert_close(values, expected_values)
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("columns", [slice(0, 3), slice(3, None)])
def test_gradients_of_some_inputs_are_those_of_all(columns):
    network, theta, inputs = network_and_inputs()
    _, every = values_and_gradients(network, theta, inputs)
    _, some = values_and_gradients(network, theta, inputs, columns)
    torch.testing.assert_close(some, every[..., columns])


def test_a_loss_of_both_has_the_gradient_of_nested_automatic_differentiation():
    network, theta, inputs = network_and_inputs()
    weights = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(1)).double()

    def loss(values, gradients):
        return values.square().sum() + (weights * gradients).sum() + gradients.pow(4).sum()

    (ours,) = torch.autograd.grad(loss(*values_and_gradients(network, theta, inputs)), theta)
    tiled = inputs.expand(3, *inputs.shape).clone().requires_grad_()
    values = network(theta, tiled).squeeze(-1)
    (gradients,) = torch.autograd.grad(values.sum(), tiled, create_graph=True)
    (nested,) = torch.autograd.grad(loss(values, gradients), theta)
    torch.testing.assert_close(ours, nested, rtol=1e-10, atol=1e-12)


def test_parameters_gradient_against_finite_differences():
    network, theta, inputs = network_and_inputs(ensemble=2, hidden=(5, 4), members=1, batch=3)
    assert torch.autograd.gradcheck(lambda t: values_and_gradients(network, t, inputs), (theta,))


def test_with_a_linear_network_by_hand():
    theta = torch.tensor([[2.0, -3.0, 0.5, 1.0, 7.0]])  # weights, then the bias
    values, gradients = values_and_gradients(MLP((4, 1)), theta, torch.ones(1, 2, 4))
    assert values.tolist() == [[7.5, 7.5]]
    assert gradients.tolist() == [[[2.0, -3.0, 0.5, 1.0]] * 2]


def test_half_precision_of_hidden_layers_is_close():
    network, theta, inputs = network_and_inputs(dtype=torch.float32)
    exact = values_and_gradients(network, theta, inputs)
    with MatmulPrecision("bf16", "cpu"):
        rounded = values_and_gradients(network, theta, inputs)
        torch.testing.assert_close(rounded[0], network(theta, inputs).squeeze(-1))
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("network", [MLP((4, 8, 2)), MLP((4, 8, 1), norm="before")])
def test_other_networks_are_refused(network):
    theta = network.init(MemberRandom([0], "network"))
    with pytest.raises(ValueError, match="expected one output and no normalisation"):
        values_and_gradients(network, theta, torch.ones(1, 2, 4))
