from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.engine.precision import MatmulPrecision
from baselines.engine.random import MemberRandom
from baselines.parts.initialisation import orthogonal, small_output
from baselines.parts.networks import MLP


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


def test_layer_normalisation_before_and_after_the_relu():
    inputs = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    for place in ("before", "after"):
        mlp = MLP((3, 6, 4, 2), norm=place)
        assert mlp.num_parameters == 3 * 6 + 3 * 6 + 6 * 4 + 3 * 4 + 4 * 2 + 2
        parameters = mlp.init(MemberRandom([0], "network")).detach()
        layers = mlp.unpack(parameters)
        assert [layer.norm_weight is None for layer in layers] == [False, False, True]
        layers[0].norm_weight.mul_(torch.arange(1.0, 7.0))
        layers[1].norm_bias.add_(0.3)
        x = inputs[0]
        for layer in layers[:2]:
            x = x @ layer.weight[0] + layer.bias[0]
            norm = torch.nn.LayerNorm(x.shape[-1])
            norm.weight.data, norm.bias.data = layer.norm_weight[0, 0], layer.norm_bias[0, 0]
            x = norm(x).relu() if place == "before" else norm(x.relu())
        expected = x @ layers[2].weight[0] + layers[2].bias[0]
        outputs, features = mlp.with_features(parameters, inputs)
        torch.testing.assert_close(outputs[0], expected)
        torch.testing.assert_close(features[0], x)
        double = parameters.double().requires_grad_()
        assert torch.autograd.gradcheck(lambda p, m=mlp: m(p, inputs.double()), (double,))


def test_features_of_an_ensemble():
    mlp = MLP((3, 6, 1))
    parameters = mlp.init(MemberRandom([0, 1], "network"), ensemble=3)
    inputs = torch.randn(2, 5, 3)
    outputs, features = mlp.with_features(parameters, inputs)
    assert features.shape == (3, 2, 5, 6)
    last = mlp.unpack(parameters)[-1]
    torch.testing.assert_close(
        outputs.flatten(0, 1), features.flatten(0, 1) @ last.weight + last.bias
    )


def test_dropout_drops_its_share_and_keeps_the_mean():
    mlp = MLP((2, 4_000, 1), dropout=0.25)
    parameters = mlp.init(MemberRandom([0, 1], "network")).detach()
    inputs, stream = torch.randn(2, 50, 2), MemberRandom([0, 1], "dropout")
    _, kept = mlp.with_features(parameters, inputs)
    _, features = mlp.with_features(parameters, inputs, dropout=stream)
    on = kept > 0
    dropped = on & (features == 0)
    assert dropped.sum().item() / on.sum().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(features[on & ~dropped], kept[on & ~dropped] / 0.75)
    again = mlp(parameters, inputs, dropout=MemberRandom([0, 1], "dropout"))
    alone = mlp(parameters[1:], inputs[1:], dropout=MemberRandom([1], "dropout"))
    torch.testing.assert_close(alone, again[1:])
    assert not torch.equal(again, mlp(parameters, inputs, dropout=stream))


def test_extra_parameters_belong_to_no_layer():
    mlp = MLP((3, 4, 2), extra=2)
    parameters = mlp.init(MemberRandom([0, 1], "network"))
    assert torch.equal(mlp.extra(parameters), torch.zeros(2, 2))
    inputs = torch.randn(2, 5, 3)
    before = mlp(parameters, inputs).detach()
    with torch.no_grad():
        mlp.extra(parameters).add_(1.0)
    torch.testing.assert_close(mlp(parameters, inputs).detach(), before)
    (slope,) = torch.autograd.grad(mlp.extra(parameters).sum(), parameters)
    assert slope.sum().item() == 4.0


def test_orthogonal_initial_weights():
    mlp = MLP((5, 20, 20, 3))
    random = MemberRandom([0, 1], "network")
    parameters = mlp.init(random, ensemble=2, initialiser=orthogonal)
    assert parameters.shape == (2, 2, mlp.num_parameters)
    for layer, gain in zip(mlp.unpack(parameters), (2**0.5, 2**0.5, 1e-2), strict=True):
        assert (layer.bias == 0).all()
        weight = layer.weight.detach()
        short = weight if weight.shape[1] <= weight.shape[2] else weight.transpose(1, 2)
        gram = short @ short.transpose(1, 2)
        expected = gain**2 * torch.eye(gram.shape[-1]).expand_as(gram)
        torch.testing.assert_close(gram, expected, rtol=0, atol=1e-5)
    alone = mlp.init(MemberRandom([1], "network"), ensemble=2, initialiser=orthogonal)
    torch.testing.assert_close(alone[:, 0], parameters[:, 1])


def test_small_initial_outputs():
    mlp = MLP((10, 50, 7))
    parameters = mlp.init(MemberRandom([0], "network"), initialiser=small_output(1e-3))
    first, last = mlp.unpack(parameters)
    assert last.weight.abs().max() < 1e-3 < 0.1 < first.weight.abs().max() < 10**-0.5
    assert last.bias.abs().max() < 1e-3


def test_half_precision_is_of_hidden_layers_alone():
    mlp = MLP((8, 64, 64, 3))
    parameters = mlp.init(MemberRandom([0, 1], "network"))
    inputs = torch.randn(2, 40, 8)
    exact = mlp(parameters, inputs)
    with MatmulPrecision("bf16", "cpu"):
        outputs, features = mlp.with_features(parameters, inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), parameters)
    assert outputs.dtype == features.dtype == slope.dtype == torch.float32
    assert not torch.equal(outputs, exact)
    torch.testing.assert_close(outputs, exact, rtol=0.02, atol=0.02)
    last = mlp.unpack(parameters)[-1]
    torch.testing.assert_close(outputs, features @ last.weight + last.bias)
    own = mlp.unpack(slope)[-1]  # of the last layer, in float32: sums of features, and of ones
    sums = features.sum(-2).unsqueeze(-1).expand_as(own.weight)
    torch.testing.assert_close(own.weight, sums)
    assert (own.bias == 40.0).all()
    (reference,) = torch.autograd.grad(exact.sum(), parameters)
    assert (slope - reference).norm() < 0.02 * reference.norm()
    torch.testing.assert_close(mlp(parameters, inputs), exact)  # as before, outside


def test_fp32_on_a_cpu_is_exact():
    """24 significant bits survive a product with one, whatever library multiplies."""
    outside = torch.get_float32_matmul_precision()
    numbers = torch.randn(3, 256, 256)
    with MatmulPrecision("fp32", "cpu"):
        assert torch.equal(torch.eye(256).expand(3, 256, 256) @ numbers, numbers)
    assert torch.get_float32_matmul_precision() == outside
