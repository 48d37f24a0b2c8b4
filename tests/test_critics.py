from __future__ import annotations

import pytest
import torch

from baselines.parts.critics import Critics, expectile_error, squared_error
from baselines.parts.multipliers import Multiplier
from tests.continuous import data_of, plain, random_batch


def test_squared_error_by_hand():
    values = torch.tensor([[[1.0, 2.0]], [[0.0, 4.0]]])  # two critics, one member
    assert squared_error(values, torch.tensor([[0.0, 0.0]])).tolist() == [2.5 + 8.0]


def test_expectile_error_by_hand():
    errors = expectile_error(torch.tensor([[2.0, -1.0]] * 2), torch.tensor([0.9, 0.5]))
    assert errors.tolist() == pytest.approx([(0.9 * 4 + 0.1 * 1) / 2, (4 + 1) / 4])


def test_the_minimiser_is_the_expectile():
    """Two equally likely targets 0 and 1: the τ-expectile is τ."""
    targets, tau = torch.tensor([[0.0, 1.0]] * 3), torch.tensor([0.5, 0.7, 0.9])
    value = tau.unsqueeze(-1).clone().requires_grad_()
    (slope,) = torch.autograd.grad(expectile_error(targets - value, tau).sum(), value)
    torch.testing.assert_close(slope, torch.zeros(3, 1), rtol=0, atol=1e-6)
    differences = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(expectile_error, (differences, tau.double()))


def make(members=2, **options):
    rate = torch.full((members,), 1e-3)
    return Critics(data_of(members), range(members), (8, 6), rate, **options)


def test_values_are_those_of_each_network_for_one_and_for_many_actions():
    critics, batch = make(ensemble=3), random_batch(2, rows=5)
    many = torch.stack([batch.actions, batch.next_actions, -batch.actions], dim=-2)
    values, of_many = critics(batch.observations, batch.actions), critics(batch.observations, many)
    assert values.shape == (3, 2, 5)
    assert of_many.shape == (3, 2, 5, 3)
    torch.testing.assert_close(of_many[..., 0], values)
    for e in range(3):
        for p in range(2):
            for k in range(3):
                inputs = torch.cat([batch.observations[p], many[p, :, k]], -1)
                expected = plain(critics.network, critics.parameters[e, p], inputs).squeeze(-1)
                torch.testing.assert_close(of_many[e, p, :, k].double(), expected)


@pytest.mark.parametrize("norm", ["none", "before"])
def test_values_are_the_last_layer_of_their_features(norm):
    critics, batch = make(ensemble=3, norm=norm), random_batch(2, rows=5)
    values, features = critics.with_features(batch.observations, batch.actions)
    assert torch.equal(values, critics(batch.observations, batch.actions))
    assert features.shape == (3, 2, 5, 6)
    last = critics.network.unpack(critics.parameters)[-1]
    expected = (features.flatten(0, 1) @ last.weight + last.bias).view(3, 2, 5)
    torch.testing.assert_close(values, expected)


def test_gradients_go_where_they_should():
    critics, batch = make(), random_batch(2)
    actions = batch.actions.clone().requires_grad_()
    values = critics.of_policy(batch.observations, actions, critics=1)
    assert values.shape == (1, 2, 8)
    (slope,) = torch.autograd.grad(values.sum(), actions)
    assert slope.abs().max() > 0
    values = critics.of_policy(batch.observations, actions, critics=1)
    (none,) = torch.autograd.grad(values.sum(), critics.parameters, allow_unused=True)
    assert none is None
    assert not critics.target_values(batch.observations, actions).requires_grad


def test_targets_follow():
    critics = make()
    with torch.no_grad():
        critics.parameters.add_(1.0)
    before = critics.target.clone()
    critics.track(torch.tensor([0.1, 0.5]), torch.tensor([True, False]))
    torch.testing.assert_close(critics.target[:, 0], before[:, 0] + 0.1)
    assert torch.equal(critics.target[:, 1], before[:, 1])


def test_multipliers_grow_while_the_constraint_is_violated():
    multiplier = Multiplier(torch.full((4,), 0.1), largest=1.2)
    active = torch.tensor([True, True, False, True])
    assert multiplier.value().tolist() == [1.0] * 4
    for _ in range(5):
        excess = torch.tensor([2.0, -2.0, 2.0, torch.nan])
        multiplier.ascend(excess, active)
    up, down, inactive, sick = multiplier.value().tolist()
    assert up == pytest.approx(1.2)
    assert down == pytest.approx(0.6, abs=0.02)  # Adam's steps of 0.1 on the logarithm
    assert (inactive, sick) == (1.0, 1.0)
    assert active.tolist() == [True, True, False, False]
