from __future__ import annotations

import pytest
import torch

from baselines import dr3, iql
from baselines.engine.random import MemberRandom
from baselines.parts.critics import smoothed
from tests.continuous import applied_gradient, as_double, data_of, gradient, random_batch

SMALL = {"hidden_sizes": (8, 6)}
CQL, TD3_BC = dr3.METHODS


def test_the_penalty_of_two_transitions_by_hand():
    current = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    following = torch.tensor([[[[2.0, 1.0], [1.0, 5.0]]], [[[-3.0, 1.0], [9.0, 9.0]]]])
    going_on, ended = torch.tensor([[False, False]]), torch.tensor([[False, True]])
    assert dr3.alikeness(current, following, going_on).tolist() == [(4 + 3) / 2 + (-2 + 18) / 2]
    assert dr3.alikeness(current, following, ended).tolist() == [4 / 2 - 2 / 2]


def features(network, parameters, inputs):
    x = inputs.double()
    for layer in network.unpack(parameters)[:-1]:
        x = torch.relu(x @ layer.weight[0] + layer.bias[0])
    return x


def test_the_gradient_passes_through_both_features_and_not_through_the_action():
    configs = [dr3.TD3BCConfig(feature_weight=weight, **SMALL) for weight in (0.0, 5.0)]
    data, batch = data_of(2), random_batch(2)
    agent = TD3_BC.agent(configs, data, [0, 0])
    noise = MemberRandom([0, 0], "target noise").normal(8, 2)
    actions = agent.policy.target_outputs(batch.next_observations).tanh()
    actions = smoothed(actions, noise, torch.tensor([0.2, 0.2]), torch.tensor([0.5, 0.5]))
    theta, network = as_double(agent.critics.parameters), agent.critics.network
    total = 0.0
    for member, weight in enumerate((0.0, 5.0)):
        x = torch.cat([batch.observations[member], batch.actions[member]], -1)
        following = torch.cat([batch.next_observations[member], actions[member]], -1)
        alive = 1.0 - batch.terminations[member].double()
        for e in (0, 1):
            pair = [features(network, theta[e, member], each) for each in (x, following)]
            total = total + weight * (alive * (pair[0] * pair[1]).sum(-1)).mean()
    plain = TD3_BC.agent([dr3.TD3BCConfig(feature_weight=0.0, **SMALL)] * 2, data, [0, 0])
    metrics = agent.update(batch, "critics")
    plain.update(batch, "critics")
    added = applied_gradient(agent.critics.optimiser) - applied_gradient(plain.critics.optimiser)
    torch.testing.assert_close(added, gradient(total, theta), rtol=1e-3, atol=1e-5)
    assert metrics["critic_penalty"][0] == 0.0
    assert metrics["critic_penalty"][1] == 5.0 * metrics["feature_product"][1] > 0.0


def test_backbones_without_an_action_in_the_next_state_are_refused():
    config = dr3.PlugIn()
    penalty = dr3.FeaturePenalty([config], torch.device("cpu"))
    agent = iql.Agent([iql.Config(**SMALL)], data_of(1), [0], critic_penalty=penalty)
    with pytest.raises(ValueError, match="needs the policy's actions"):
        agent.update(random_batch(1))


def test_the_backed_up_action_of_cql_is_used():
    """With max_backup one of the K actions."""
    for max_backup in (False, True):
        config = dr3.Config(critic_sizes=(8,), policy_sizes=(8,), max_backup=max_backup, samples=3)
        agent, seen = CQL.agent([config], data_of(1), [0]), []
        penalty = agent.critic_penalty

        def spy(critics, batch, next_actions, features, penalty=penalty, seen=seen):
            seen.append(next_actions)
            return penalty(critics, batch, next_actions, features)

        agent.critic_penalty = spy
        agent.update(random_batch(1))
        assert seen[0].shape == (1, 8, 2)
        assert not seen[0].requires_grad
