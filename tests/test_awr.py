from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import awr
from baselines.awr import METHOD, Agent, Config, lambda_returns, longest_trajectory
from baselines.engine.data import MemberData
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from tests.continuous import (
    as_double,
    assert_gradient,
    gradient,
    moved,
    plain,
    sampled_batch,
    snapshot,
)
from tests.toy import corridor_spec, point

SMALL = {"hidden_sizes": (8, 8), "normalise_observations": False}


def make(*configs, **dataset):
    configs = configs or (Config(**SMALL),)
    data = MemberData([point(**{"episodes": 8, **dataset})] * len(configs))
    return data, Agent(configs, data, range(len(configs)))


def flags(length, *where):
    return torch.tensor([[step in where for step in range(length)]])


def test_returns_of_two_trajectories_by_hand():
    """γ = λ = ½. The first is truncated after three steps, the second terminates after two."""
    returns = lambda_returns(
        torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]),
        torch.tensor([[4.0, 6.0, 8.0, 4.0, 99.0]]),
        flags(5, 4),
        flags(5, 2),
        torch.tensor([0.5]),
        torch.tensor([0.5]),
        longest=3,
    )
    # 4 + 8/2 = 8;  2 + (6 + 8)/2 / 2 = 5.5;  1 + (4 + 5.5)/2 / 2 = 3.375;  8 + (4 + 16)/2 / 2 = 13
    assert returns.tolist() == [[3.375, 5.5, 8.0, 13.0, 16.0]]


def naive_returns(rewards, next_values, terminations, ends, discount, decay):
    """TD(λ) returns by the recursion, from the last row on."""
    returns = np.zeros(len(rewards))
    for t in reversed(range(len(rewards))):
        after = next_values[t]
        if not ends[t]:
            after = (1 - decay) * next_values[t] + decay * returns[t + 1]
        returns[t] = rewards[t] + discount * (1 - terminations[t]) * after
    return returns


@pytest.mark.parametrize(("discount", "decay"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0)])
def test_doubling_is_the_recursion(discount, decay):
    """Trajectories of every length from 1 to 33."""
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.arange(1, 34))
    n = lengths.sum()
    ends = np.isin(np.arange(n), lengths.cumsum() - 1)
    terminations = ends & (rng.random(n) < 0.5)
    rewards, values = rng.normal(size=n), rng.normal(size=n)
    rows = [torch.from_numpy(each)[None] for each in (rewards, values, terminations)]
    returns = lambda_returns(
        *rows,
        torch.from_numpy(ends & ~terminations)[None],
        torch.tensor([discount], dtype=torch.float64),
        torch.tensor([decay], dtype=torch.float64),
        longest=33,
    )
    expected = naive_returns(rewards, values, terminations, ends, discount, decay)
    np.testing.assert_allclose(returns[0].numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows_at_once", [2**17, 50])
def test_returns_of_datasets_of_different_sizes(rows_at_once, monkeypatch):
    """Each member's are those of its own data under its own V, in whatever parts V is computed."""
    monkeypatch.setattr(awr, "_ROWS_AT_ONCE", rows_at_once)
    datasets = [point(episodes=9, skill=0.6), point(episodes=4, seed=1)]
    assert all(
        each.transitions.terminations.any() or each.transitions.truncations.any()
        for each in datasets
    )
    configs = [Config(**SMALL), Config(discount=0.8, trace_decay=0.5, value_scale=7.0, **SMALL)]
    data = MemberData(datasets)
    agent = Agent(configs, data, [0, 1])
    agent.refresh_returns()
    assert longest_trajectory(data.rows) == 40
    for member, (dataset, config) in enumerate(zip(datasets, configs, strict=True)):
        rows = dataset.transitions
        inputs = torch.from_numpy(rows.next_observations)
        values = config.value_scale * plain(agent.value_network, agent.value[member], inputs)
        expected = naive_returns(
            rows.rewards,
            values.detach().flatten().numpy(),
            rows.terminations,
            rows.terminations | rows.truncations,
            config.discount,
            config.trace_decay,
        )
        actual = agent.returns[member, : len(dataset)].numpy()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_returns_are_refreshed_when_it_is_time():
    data, agent = make(Config(refresh_interval=3, learning_rate=0.1, **SMALL))
    phases = [agent.phase(step) for step in range(4)]
    assert phases == ["returns and step", "step", "step", "returns and step"]
    batch = sampled_batch(data)
    names = {"value", "policy.parameters"}
    before = snapshot(agent)
    agent.update(batch, "returns and step")
    assert moved(agent, before) == {*names, "returns"}
    before = snapshot(agent)
    agent.update(batch, "step")
    assert moved(agent, before) == names
    first = agent.returns.clone()
    agent.update(batch, "returns and step")
    assert not torch.equal(agent.returns, first)


def test_both_gradients_are_those_of_the_paper():
    """In float64; returns and weights held fixed, and no gradient of the policy's loss for V."""
    configs = (
        Config(temperature=0.5, value_scale=1.0, **SMALL),
        Config(temperature=3.0, weight_clip=1.2, value_scale=2.0, **SMALL),
    )
    data, agent = make(*configs)
    batch = sampled_batch(data)
    agent.refresh_returns()
    value, policy = as_double(agent.value), as_double(agent.policy.parameters)
    value_loss, policy_loss, clipped = 0.0, 0.0, 0
    for member, config in enumerate(configs):
        states, actions = batch.observations[member], batch.actions[member].double()
        v = config.value_scale * plain(agent.value_network, value[member], states).squeeze(-1)
        returns = agent.returns[member][batch.row[member]].double()
        advantages = (returns - v).detach()
        normal = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)
        weights = (normal / config.temperature).exp().clamp(max=config.weight_clip)
        clipped += int((weights == config.weight_clip).sum())
        mean = plain(agent.policy.network, policy[member], states).tanh()
        std = policy[member, -2:].exp()
        density = torch.distributions.Normal(mean, std).log_prob(actions).sum(-1)
        value_loss = value_loss + ((returns - v) ** 2).mean()
        policy_loss = policy_loss - (weights * density).mean()
    assert clipped > 0
    metrics = agent.update(batch, "step")
    for name, loss in (("value_loss", value_loss), ("policy_loss", policy_loss)):
        assert metrics[name].sum().item() == pytest.approx(loss.item(), rel=1e-5)
    assert_gradient(agent.value_optimiser, gradient(value_loss, value))
    assert_gradient(agent.policy.optimiser, gradient(policy_loss, policy))


def test_signs():
    """Of two actions in one state, the mean moves to the one that returned more."""
    data, agent = make(Config(learning_rate=0.01, **SMALL))
    batch = data.take(torch.tensor([[0, 1]]))
    actions = torch.tensor([[[0.5, -0.5], [-0.5, 0.5]]])
    batch = batch._replace(observations=torch.ones(1, 2, 2), actions=actions)
    agent.returns[0, :2] = torch.tensor([3.0, 1.0])
    for _ in range(150):
        metrics = agent.update(batch, "step")
    assert metrics["value"].item() == pytest.approx(2.0, abs=0.2)
    mean = agent.policy(batch.observations).tanh()[0, 0]
    # Standardised advantages are 1 and -1: weights e and 1/e.
    share = np.tanh(1.0) * 0.5
    torch.testing.assert_close(mean, torch.tensor([share, -share]).float(), rtol=0, atol=0.05)


def test_antmazes_have_their_own_reward():
    assert METHOD.config_for(corridor_spec()) == Config()
    assert METHOD.config_for(corridor_spec("mazy", family="antmaze")) == Config(reward_shift=-1.0)


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """1,000 steps, 3 seeds: scores above 78; that of the data is 52, and BC's is below 71."""
    config = Config(hidden_sizes=(32, 32), batch_size=64, learning_rate=1e-3, value_scale=10.0)
    group = [Member(point(), config, seed) for seed in range(3)]
    trainer = Trainer(METHOD, group, "cpu", steps=1_000)
    trainer.advance(1_000)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1_000, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 78.0
