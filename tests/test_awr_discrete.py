from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.awr_discrete import METHOD, Agent, Config, lambda_returns
from baselines.engine.data import Batch, MemberData
from baselines.engine.random import MemberRandom
from baselines.parts.advantage_weighting import standardised_weights
from baselines.parts.discrete import weighted_likelihood_loss
from baselines.parts.soft_q import td_loss
from tests.toy import CELLS, corridor

MIXED = (0.35, 0.2, 0.45)
"""Behaviour with which some episodes of the corridor terminate and some are truncated."""


def make(configs=None, **dataset):
    configs = configs or [Config()]
    data = MemberData([corridor(**dataset)] * len(configs))
    return data, Agent(configs, data, range(len(configs)))


def returns_of(rewards, values, *, terminated=None, truncated=None, discount=0.5, trace_decay=0.5):
    def flags(step):
        return torch.tensor([[[k == step for k in range(len(rewards))]]])

    return lambda_returns(
        torch.tensor([[rewards]]),
        torch.tensor([[values]]),
        flags(terminated),
        flags(truncated),
        torch.tensor([discount]),
        torch.tensor([trace_decay]),
    ).item()


def test_return_of_three_steps_by_hand():
    # G_2 = 4 + 8/2 = 8;  G_1 = 2 + (6 + 8)/2 / 2 = 5.5;  G_0 = 1 + (4 + 5.5)/2 / 2 = 3.375.
    assert returns_of([1.0, 2.0, 4.0], [4.0, 6.0, 8.0]) == 3.375


def test_termination_ends_the_return_and_truncation_bootstraps():
    rewards, values = [1.0, 2.0, 4.0], [4.0, 6.0, 8.0]
    # Terminated in step 1: G_1 = 2, G_0 = 1 + (4 + 2)/2 / 2 = 2.5.
    assert returns_of(rewards, values, terminated=1) == 2.5
    # Truncated there: G_1 = 2 + 6/2 = 5, G_0 = 1 + (4 + 5)/2 / 2 = 3.25.
    assert returns_of(rewards, values, truncated=1) == 3.25
    assert returns_of(rewards, values, terminated=0) == 1.0
    assert returns_of(rewards, values, truncated=0) == 3.0


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_what_comes_after_the_end_may_be_anything(end):
    expected = returns_of([1.0, 2.0], [4.0, 6.0], **{end: 1})
    nan = math.nan
    assert returns_of([1.0, 2.0, nan, nan], [4.0, 6.0, nan, nan], **{end: 1}) == expected


def test_extreme_traces():
    rewards, values = [1.0, 2.0, 4.0], [4.0, 6.0, 8.0]
    assert returns_of(rewards, values, trace_decay=0.0) == 1 + 0.5 * 4  # one step
    assert returns_of(rewards, values, trace_decay=1.0) == 1 + 0.5 * 2 + 0.25 * 4 + 0.125 * 8


def test_a_return_is_the_mixture_of_n_step_returns():
    """(1-λ) Σ_n λ^(n-1) G^(n), with the rest of the weight on the longest."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=6), rng.normal(size=6)
    discount, decay = 0.9, 0.8
    n_step = [
        (discount ** np.arange(n) * rewards[:n]).sum() + discount**n * values[n - 1]
        for n in range(1, 7)
    ]
    weights = np.array([*((1 - decay) * decay ** np.arange(5)), decay**5])
    mixture = returns_of(rewards.tolist(), values.tolist(), discount=discount, trace_decay=decay)
    assert mixture == pytest.approx((weights * n_step).sum(), rel=1e-5)


def naive_returns(dataset, value_of, discount, decay, horizon):
    """TD(λ) returns of every row, trajectory by trajectory and from each row anew."""
    returns = []
    for episode in dataset.episodes():
        next_values = value_of(episode.observations[1:])
        for start in range(len(episode)):
            stop = min(len(episode), start + horizon)
            total = 0.0
            for t in reversed(range(start, stop)):
                bootstrap = next_values[t]
                if t < stop - 1:
                    bootstrap = (1 - decay) * next_values[t] + decay * total
                total = episode.rewards[t] + discount * (1 - episode.terminations[t]) * bootstrap
            returns.append(total)
    return np.array(returns)


@pytest.mark.parametrize("horizon", [1, 4, 30])
def test_returns_of_a_dataset_against_a_recursion_per_trajectory(horizon):
    first, second = corridor("first", probabilities=MIXED), corridor("second", seed=1, episodes=30)
    assert first.transitions.terminations.any()
    assert first.transitions.truncations.any()
    configs = [
        Config(discount=0.9, trace_decay=0.8, horizon=horizon),
        Config(discount=0.99, trace_decay=0.3, horizon=horizon),
    ]
    datasets = [first, second]
    data = MemberData(datasets)
    agent = Agent(configs, data, [0, 1])
    # Equally many rows of both: the second dataset is the shorter and ends all the data.
    rows = torch.stack([torch.arange(len(second)), len(first) + torch.arange(len(second))])
    batch = data.take(rows)
    assert batch.row[1, -1] == len(data.rows.row) - 1
    returns = agent.returns(batch).numpy()
    for member, (dataset, config) in enumerate(zip(datasets, configs, strict=True)):

        def value_of(observations, member=member):
            inputs = torch.from_numpy(observations)[None]
            parameters = agent.value[[member]].detach()
            return agent.value_network(parameters, inputs).double().flatten().numpy()

        naive = naive_returns(dataset, value_of, config.discount, config.trace_decay, horizon)
        np.testing.assert_allclose(returns[member], naive[: len(second)], rtol=1e-5, atol=1e-6)


def test_the_updates_losses_are_those_of_the_paper():
    """Both losses written out once more, in float64 and without the engine's arithmetic."""
    configs = [
        Config(discount=0.9, temperature=0.3, trace_decay=0.5, horizon=30),
        Config(discount=0.5, temperature=5.0, weight_clip=1.1, horizon=30),
    ]
    dataset = corridor(probabilities=MIXED)
    data, agent = make(configs, probabilities=MIXED)
    batch = data.sample(MemberRandom([0, 1], "batches"), 64)

    def outputs(network, parameters, observations):
        inputs = torch.as_tensor(observations).double()[None]
        return network(parameters.detach().double(), inputs)[0].numpy()

    expected = {"value_loss": [], "policy_loss": [], "weight": []}
    for member, config in enumerate(configs):

        def value_of(observations, member=member):
            return outputs(agent.value_network, agent.value[[member]], observations)[:, 0]

        every = naive_returns(dataset, value_of, config.discount, config.trace_decay, 30)
        returns = every[batch.row[member].numpy()]
        advantages = returns - value_of(batch.observations[member])
        normal = (advantages - advantages.mean()) / (advantages.std() + 1e-5)
        weights = np.minimum(np.exp(normal / config.temperature), config.weight_clip)
        logits = outputs(agent.policy_network, agent.policy[[member]], batch.observations[member])
        log_pi = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        taken = log_pi[np.arange(64), batch.actions[member].numpy()]
        expected["value_loss"].append(0.5 * (advantages**2).mean())
        expected["policy_loss"].append(-(weights * taken).mean())
        expected["weight"].append(weights.mean())
    metrics = agent.update(batch)
    for name, values in expected.items():
        np.testing.assert_allclose(metrics[name], values, rtol=1e-4, err_msg=name)
    torch.testing.assert_close(metrics["loss"], metrics["value_loss"] + metrics["policy_loss"])
    clipped = metrics["weight_clipped"]
    assert 0 < clipped[1] < 1


def test_one_update_moves_value_and_policy_each_by_its_own_gradient():
    """Returns and weights are held fixed; the policy's loss does not reach the value function."""
    data, agent = make([Config(temperature=0.5)], probabilities=MIXED)
    batch = data.sample(MemberRandom([0], "batches"), 64)
    rows = [tensor.clone() for tensor in data.rows]
    value, policy = agent.value.detach().clone(), agent.policy.detach().clone()
    returns = agent.returns(batch)
    assert not returns.requires_grad
    phi, theta = value.clone().requires_grad_(), policy.clone().requires_grad_()
    values = agent.value_network(phi, batch.observations).squeeze(-1)
    weights = standardised_weights(returns - values.detach(), agent.temperature, agent.weight_clip)
    logits = agent.policy_network(theta, batch.observations)
    losses = td_loss(values, returns), weighted_likelihood_loss(logits, batch.actions, weights)
    gradients = [torch.autograd.grad(losses[k].sum(), p)[0] for k, p in enumerate((phi, theta))]

    agent.update(batch)
    optimisers = agent.value_optimiser, agent.policy_optimiser
    for gradient, optimiser in zip(gradients, optimisers, strict=True):
        # Adam's first moment after one step is a tenth of the gradient.
        torch.testing.assert_close(10 * optimiser.first_moment, gradient, rtol=1e-4, atol=1e-7)
    for before, after in ((value, agent.value), (policy, agent.policy)):
        assert (after.detach() - before).abs().max().item() == pytest.approx(1e-3, rel=1e-2)
    assert all(torch.equal(before, after) for before, after in zip(rows, data.rows, strict=True))


def test_signs():
    """Where two actions were taken equally often, the one that earned more becomes likelier."""
    observations = torch.eye(CELLS)[None, [1, 1]]
    rows = Batch(
        observations=observations[0],
        actions=torch.tensor([0, 2]),
        rewards=torch.tensor([0.0, 1.0]),
        next_observations=observations[0],
        terminations=torch.ones(2, dtype=torch.bool),
        truncations=torch.zeros(2, dtype=torch.bool),
        next_actions=torch.zeros(2, dtype=torch.int64),
        has_next=torch.zeros(2, dtype=torch.bool),
        row=torch.arange(2),
    )
    data, agent = make([Config(learning_rate=0.01)])
    data.rows = rows
    batch = data.take(torch.tensor([[0, 1]]))
    for _ in range(100):
        agent.update(batch)
    value = agent.value_network(agent.value, observations)
    torch.testing.assert_close(value, torch.full_like(value, 0.5), atol=0.05, rtol=0)
    probabilities = torch.softmax(agent.policy_network(agent.policy, observations), -1)[0, 0]
    # Standardised advantages are -1 and 1: odds of e².
    assert (probabilities[2] / probabilities[0]).item() == pytest.approx(math.e**2, rel=0.1)


def test_a_table_learns_the_reweighted_behaviour():
    """With one weight per cell, V is the TD(λ) fixed point and π(a|s) ∝ Σ_rows w."""
    configs = [
        Config(hidden_sizes=(), discount=0.9, horizon=30, learning_rate=0.02, temperature=T)
        for T in (0.5, 2.0)
    ]
    dataset = corridor(probabilities=MIXED, episodes=40)
    data, agent = make(configs, probabilities=MIXED, episodes=40)
    batch = data.take(torch.arange(len(dataset)).expand(2, -1))
    for _ in range(600):
        agent.update(batch)
    cells = dataset.transitions.observations.argmax(-1)

    value = np.zeros(CELLS)
    for _ in range(100):
        returns = naive_returns(dataset, lambda x: value[x.argmax(-1)], 0.9, 0.95, 30)
        value[:-1] = [returns[cells == cell].mean() for cell in range(CELLS - 1)]
    advantages = returns - value[cells]
    normal = (advantages - advantages.mean()) / advantages.std()
    table = torch.eye(CELLS).expand(2, -1, -1)
    learned = agent.value_network(agent.value, table)[..., 0].detach().numpy()
    policies = torch.softmax(agent.policy_network(agent.policy, table), -1).detach().numpy()
    for member, config in enumerate(configs):
        np.testing.assert_allclose(learned[member, :-1], value[:-1], atol=0.02)
        weights = np.minimum(np.exp(normal / config.temperature), 20)
        total = np.zeros((CELLS, 3))
        np.add.at(total, (cells, dataset.transitions.actions), weights)
        expected = total[:-1] / total[:-1].sum(-1, keepdims=True)
        np.testing.assert_allclose(policies[member, :-1], expected, atol=0.03)


def test_the_actor_samples_the_policy_or_takes_its_mode():
    for greedy in (False, True):
        _, agent = make([Config(greedy=greedy)])
        actor = agent.actor(0)
        assert actor.noise_size == (not greedy)
        assert torch.equal(actor.parameters, agent.policy)
        assert actor.parameters is not agent.policy
        assert actor.network is agent.policy_network
        assert actor.temperature == 1.0  # AWR's temperature shapes the weights, not the actor


def test_method_is_declared():
    assert (METHOD.name, METHOD.config, METHOD.agent) == ("awr", Config, Agent)
