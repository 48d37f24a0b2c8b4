from __future__ import annotations

import pytest
import torch

from baselines import cql, td3_bc
from baselines.layer_norm import METHODS, Config, TD3BCConfig
from tests.continuous import data_of

CQL, TD3_BC = METHODS


@pytest.mark.parametrize(
    ("method", "config", "plain"),
    [
        (CQL, Config(critic_sizes=(8, 6), policy_sizes=(8,)), cql.Config),
        (TD3_BC, TD3BCConfig(hidden_sizes=(8, 6)), td3_bc.Config),
    ],
)
def test_critics_are_normalised_before_the_relu_and_policies_are_not(method, config, plain):
    assert plain().critic_norm == "none"
    agent = method.agent([config], data_of(1), [0])
    network, theta = agent.critics.network, agent.critics.parameters.detach()[0]
    assert (network.norm, agent.policy.network.norm) == ("before", "none")
    inputs = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    x = inputs[0]
    *hidden, last = network.unpack(theta)
    for layer in hidden:
        x = x @ layer.weight[0] + layer.bias[0]
        deviation = x - x.mean(-1, keepdim=True)
        x = deviation / (deviation.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        x = torch.relu(x)
    torch.testing.assert_close(network(theta, inputs)[0], x @ last.weight[0] + last.bias[0])


def test_everything_else_is_the_backbones():
    for method, module in ((CQL, cql), (TD3_BC, td3_bc)):
        assert method.agent is module.Agent
        assert method.overrides is module.METHOD.overrides
        changed = set(vars(method.config()).items()) - set(vars(module.Config()).items())
        assert changed == {("critic_norm", "before")}
