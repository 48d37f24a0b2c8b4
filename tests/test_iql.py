from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.preparation import return_range
from baselines.engine.trainer import Trainer
from baselines.iql import METHOD, Agent, Config, prepare
from baselines.parts.advantage_weighting import exponential_weights, weighted_likelihood_loss
from tests.continuous import (
    as_double,
    assert_gradient,
    data_of,
    gradient,
    moved,
    plain,
    random_batch,
    snapshot,
)
from tests.toy import point

SMALL = {"hidden_sizes": (8, 8)}


def make(*configs):
    configs = configs or (Config(**SMALL),)
    return Agent(configs, data_of(len(configs)), range(len(configs)))


def test_weights_by_hand():
    advantages = torch.tensor([[0.0, math.log(2.0), 50.0]])
    weights = exponential_weights(advantages, torch.tensor([3.0]), torch.tensor([100.0]))
    assert weights[0].tolist() == pytest.approx([1.0, 8.0, 100.0])


def test_policy_loss_by_hand():
    """Means tanh(0) = 0 and standard deviations 1: -log N(a; 0, 1), weighted."""
    actions = torch.tensor([[[0.5, -1.0], [0.0, 0.0]]])
    weights = torch.tensor([[2.0, 4.0]])
    loss = weighted_likelihood_loss(torch.zeros(1, 2, 2), torch.zeros(1, 1, 2), actions, weights)
    normal = math.log(2 * math.pi)  # of two dimensions
    assert loss.tolist() == pytest.approx([(2 * (normal + 0.625) + 4 * normal) / 2])


def test_policy_loss_gradient_against_finite_differences():
    batch = random_batch(2)
    outputs = torch.randn(2, 8, 2, dtype=torch.float64, requires_grad=True)
    log_std = torch.zeros(2, 1, 2, dtype=torch.float64, requires_grad=True)
    weights = batch.rewards.double().exp()
    assert torch.autograd.gradcheck(
        lambda x, s: weighted_likelihood_loss(x, s, batch.actions.double(), weights),
        (outputs, log_std),
    )


def reference(agent, batch, member, tau, beta, value, new_value, critics, policy):
    """Eq. 5 with V, Eqs. 6 and 7 with V after its step, for one member in float64."""
    states, actions = batch.observations[member].double(), batch.actions[member].double()
    inputs = torch.cat([states, actions], -1)
    q_bar = (
        torch.cat(
            [plain(agent.critics.network, agent.critics.target[e, member], inputs) for e in (0, 1)],
            -1,
        )
        .min(-1)
        .values.detach()
    )

    def v(parameters, observations):
        return plain(agent.value_network, parameters, observations).squeeze(-1)

    u = q_bar - v(value, states)
    value_loss = (torch.where(u < 0, 1 - tau, tau) * u**2).mean()
    alive = 1.0 - batch.terminations[member].double()
    y = batch.rewards[member].double() + 0.99 * alive * v(
        new_value, batch.next_observations[member]
    )
    critic_loss = sum(
        ((plain(agent.critics.network, critics[e], inputs).squeeze(-1) - y) ** 2).mean()
        for e in (0, 1)
    )
    n = agent.policy.network.num_parameters - 2
    mean = plain(agent.policy.network, policy[:n], states).tanh()
    log_density = torch.distributions.Normal(mean, policy[n:].exp()).log_prob(actions).sum(-1)
    weights = (beta * (q_bar - v(new_value, states))).exp().clamp(max=100.0)
    return value_loss, critic_loss, -(weights * log_density).mean()


def test_the_updates_gradients_are_those_of_the_paper():
    settings = [(0.7, 3.0), (0.9, 10.0)]
    rate = 0.01  # so large that V before and after its step give other losses
    configs = [
        Config(expectile=t, inverse_temperature=b, learning_rate=rate, **SMALL) for t, b in settings
    ]
    agent, batch = make(*configs), random_batch(2)
    agent.critics.target.mul_(1.5)  # targets that differ from the critics
    value, critics, policy = (
        as_double(each) for each in (agent.value, agent.critics.parameters, agent.policy.parameters)
    )

    def losses_with(new_value):
        return [
            reference(
                agent, batch, p, *settings[p], value[p], new_value[p], critics[:, p], policy[p]
            )
            for p in (0, 1)
        ]

    (slope,) = torch.autograd.grad(sum(each[0] for each in losses_with(value.detach())), value)
    new_value = value.detach() - rate * slope / (slope.abs() + 1e-8)  # Adam's first step
    losses, of_old_value = losses_with(new_value), losses_with(value.detach())
    for p, k in ((0, 1), (0, 2), (1, 1), (1, 2)):
        assert abs(losses[p][k] / of_old_value[p][k] - 1.0) > 1e-3
    before = snapshot(agent)
    metrics = agent.update(batch)
    assert moved(agent, before) == {
        "value",
        "critics.parameters",
        "critics.target",
        "policy.parameters",
    }
    names = ("value_loss", "critic_loss", "policy_loss")
    for k, (name, optimiser, theta) in enumerate(
        [
            (names[0], agent.value_optimiser, value),
            (names[1], agent.critics.optimiser, critics),
            (names[2], agent.policy.optimiser, policy),
        ]
    ):
        for p in (0, 1):
            assert metrics[name][p].item() == pytest.approx(losses[p][k].item(), rel=1e-4)
        assert_gradient(optimiser, gradient(losses[0][k] + losses[1][k], theta))


def test_the_policys_step_size_falls_to_zero_along_a_cosine():
    agent, batch = make(), random_batch()  # of a run of 100 steps
    moves = []
    for _ in range(100):
        before = agent.policy.parameters.detach().clone()
        agent.policy.optimiser.minimise(agent.policy.parameters.sum(-1), agent.active)
        moves.append((before - agent.policy.parameters.detach()).mean().item())
    expected = [3e-4 * 0.5 * (1 + math.cos(math.pi * k / 100)) for k in range(100)]
    np.testing.assert_allclose(moves, expected, atol=1e-6)
    agent.update(batch)
    assert agent.policy.parameters.isfinite().all()


def test_rewards_are_scaled_by_the_range_of_returns():
    dataset = point()
    returns = np.bincount(dataset.arrays.episode_ids, weights=dataset.arrays.rewards)
    assert return_range(dataset) == pytest.approx(returns.max() - returns.min())
    config = METHOD.config_for(point(family="locomotion").spec)
    assert config.scale_by_returns
    preparation = prepare(config, dataset)
    assert preparation.reward_scale == pytest.approx(1000.0 / return_range(dataset))
    maze = METHOD.config_for(point(family="antmaze").spec)
    assert (maze.expectile, maze.inverse_temperature, maze.reward_shift) == (0.9, 10.0, -1.0)
    assert METHOD.config_for(dataset.spec) == Config()


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """1,500 steps, 2 seeds: scores above 75, that of the data is 52."""
    config = Config(
        hidden_sizes=(32, 32), batch_size=64, learning_rate=1e-3, inverse_temperature=20.0
    )
    group = [Member(point(), config, seed) for seed in range(2)]
    trainer = Trainer(METHOD, group, "cpu", steps=1_500)
    trainer.advance(1_500)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1_500, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 75.0
