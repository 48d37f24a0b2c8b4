from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.cql_discrete import Agent, Config, conservative_penalty
from baselines.engine.data import Batch, MemberData
from baselines.engine.random import MemberRandom
from baselines.parts.critics import td_targets
from baselines.parts.discrete import boltzmann, soft_maximum, taken
from baselines.parts.soft_q import td_loss
from tests.toy import corridor

LOG2 = math.log(2)


def test_td_error_of_two_samples_by_hand():
    rewards = torch.tensor([[1.0, 2.0]])
    terminations = torch.tensor([[False, True]])
    next_values = torch.tensor([[10.0, 10.0]])
    targets = td_targets(rewards, terminations, next_values, torch.tensor([0.5]))
    assert targets.tolist() == [[6.0, 2.0]]  # 1 + 0.5 * 10; nothing follows a termination
    loss = td_loss(torch.tensor([[5.0, 5.0]]), targets)
    assert loss.tolist() == [0.5 * (1.0 + 9.0) / 2]


def test_a_value_that_does_not_count_may_be_anything():
    targets = td_targets(
        torch.ones(1, 1), torch.tensor([[True]]), torch.tensor([[torch.nan]]), torch.ones(1)
    )
    assert targets.tolist() == [[1.0]]


def test_penalty_of_two_samples_by_hand():
    # T log Σ exp(Q/T) of (0, 0) is T log 2, of (0, T log 3) it is T log 4.
    for temperature in (0.5, 1.0, 2.0):
        q = torch.tensor([[[0.0, 0.0], [0.0, temperature * math.log(3)]]])
        penalty = conservative_penalty(q, torch.tensor([[0, 1]]), torch.tensor([temperature]))
        by_hand = (temperature * LOG2 + temperature * (2 * LOG2 - math.log(3))) / 2
        assert penalty.item() == pytest.approx(by_hand, rel=1e-6)


def test_penalty_gradient_is_policy_minus_data():
    """The gradient of Eq. 2's penalty with the policy held fixed: π(a|s) - 1[a taken], / B."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(4, (2, 3), generator=generator)
    temperature = torch.tensor([0.3, 2.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(conservative_penalty(q, actions, temperature).sum(), q)
    expected = (boltzmann(q, temperature) - torch.nn.functional.one_hot(actions, 4)) / 3
    torch.testing.assert_close(gradient, expected.detach())


def test_gradients_against_finite_differences():
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(4, (2, 3), generator=generator)
    targets = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    temperature = torch.tensor([0.3, 2.0], dtype=torch.float64)

    def loss(q):
        penalty = conservative_penalty(q, actions, temperature)
        return td_loss(taken(q, actions), targets) + 0.7 * penalty

    assert torch.autograd.gradcheck(loss, (q,))


def test_tabular_minimiser_is_equation_3():
    """Q = target - α (π/π_β - 1), with π the minimiser's own policy."""
    alpha, temperature = 0.2, torch.tensor([0.5], dtype=torch.float64)
    counts = torch.tensor([6, 3, 1])
    actions = torch.repeat_interleave(torch.arange(3), counts)[None]
    backups = torch.tensor([0.0, 1.0, 0.4], dtype=torch.float64)
    q = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([q], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        rows = q.expand(1, actions.shape[1], 3)
        td = td_loss(taken(rows, actions), backups[actions])
        loss = td + alpha * conservative_penalty(rows, actions, temperature)
        loss.sum().backward()
        return loss.sum()

    optimiser.step(closure)
    behaviour = counts.double() / counts.sum()
    policy = boltzmann(q[None, None], temperature)[0, 0]
    expected = backups - alpha * (policy / behaviour - 1)
    torch.testing.assert_close(q.detach(), expected.detach(), rtol=0, atol=1e-8)


def test_soft_maximum_is_the_best_value_plus_entropy():
    q, temperature = torch.tensor([[[1.0, 0.2, -0.4]]]), torch.tensor([0.7])
    policy = boltzmann(q, temperature)
    by_definition = (policy * q).sum() - 0.7 * (policy * policy.log()).sum()
    assert soft_maximum(q, temperature).item() == pytest.approx(by_definition.item(), rel=1e-6)
    cold = soft_maximum(q, torch.tensor([1e-3]))
    assert cold.item() == pytest.approx(1.0)


def make(configs=None, **dataset):
    configs = configs or [Config()]
    data = MemberData([corridor(**dataset)] * len(configs))
    return data, Agent(configs, data, range(len(configs)))


def whole_loss(agent, batch):
    """Eq. 2 written out once more, in float64 and without the engine's arithmetic."""
    losses = []
    for member, alpha in enumerate(agent.alpha.tolist()):
        temperature, discount, scale = (
            getattr(agent.q, name)[member].item()
            for name in ("temperature", "discount", "reward_scale")
        )

        def values(parameters, observations, member=member):
            with torch.no_grad():
                return agent.q.network(
                    parameters[[member]].double(), observations[[member]].double()
                )[0].numpy()

        q = values(agent.q.critic, batch.observations)
        next_q = values(agent.q.critic, batch.next_observations)
        next_target = values(agent.q.target, batch.next_observations)
        policy = np.exp((next_q - next_q.max(-1, keepdims=True)) / temperature)
        policy /= policy.sum(-1, keepdims=True)
        bootstrap = (policy * next_target).sum(-1)
        if agent.q.backup == "max":
            bootstrap = next_target.max(-1)
        ended = batch.terminations[member].numpy()
        backup = scale * batch.rewards[member].double().numpy() + discount * (~ended) * bootstrap
        q_data = q[np.arange(len(q)), batch.actions[member].numpy()]
        soft = temperature * np.log(np.exp(q / temperature).sum(-1))
        losses.append(0.5 * ((q_data - backup) ** 2).mean() + alpha * (soft - q_data).mean())
    return np.array(losses)


@pytest.mark.parametrize("backup", ["policy", "max"])
def test_the_updates_loss_is_equation_2(backup):
    configs = [
        Config(alpha=0.1, temperature=0.5, discount=0.9, backup=backup),
        Config(alpha=2.0, temperature=0.2, discount=0.5, reward_scale=7.0, backup=backup),
    ]
    data, agent = make(configs, probabilities=(0.2, 0.1, 0.7))
    agent.q.target.copy_(1.5 * agent.q.critic.detach())  # a target that differs from the critic
    batch = data.sample(MemberRandom([0, 1], "batches"), 32)
    assert batch.terminations.any()
    expected = whole_loss(agent, batch)
    np.testing.assert_allclose(agent.update(batch)["loss"], expected, rtol=1e-5)


def test_one_update_moves_the_critic_by_its_gradient_and_the_target_by_averaging():
    data, agent = make([Config(target_rate=0.1, learning_rate=1e-3)])
    batch = data.sample(MemberRandom([0], "batches"), 32)
    critic, target = agent.q.critic.detach().clone(), agent.q.target.clone()
    assert torch.equal(critic, target)
    rows = [tensor.clone() for tensor in data.rows]
    agent.update(batch)
    assert (agent.q.critic.detach() - critic).abs().max().item() == pytest.approx(1e-3, rel=1e-2)
    torch.testing.assert_close(agent.q.target, 0.9 * target + 0.1 * agent.q.critic.detach())
    assert not agent.q.target.requires_grad
    assert all(torch.equal(before, after) for before, after in zip(rows, data.rows, strict=True))


def test_target_and_policy_of_the_next_state_are_held_fixed():
    """The update's direction is the gradient at fixed targets (semi-gradient)."""
    data, agent = make([Config(alpha=0.0, temperature=0.1)])
    batch = data.sample(MemberRandom([0], "batches"), 32)
    theta = agent.q.critic.detach().clone().double().requires_grad_()
    targets = td_targets(
        batch.rewards,
        batch.terminations,
        agent.q.next_values(batch.next_observations),
        agent.q.discount,
    ).double()
    q = agent.q.network(theta, batch.observations.double())
    (expected,) = torch.autograd.grad(td_loss(taken(q, batch.actions), targets).sum(), theta)
    agent.update(batch)
    # Adam's first moment after one step is a tenth of the gradient.
    gradient = 10 * agent.q.optimiser.first_moment
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-7)


def test_termination_stops_bootstrapping_and_truncation_does_not():
    data = MemberData([corridor(probabilities=(0.45, 0.1, 0.45))])
    source = corridor(probabilities=(0.45, 0.1, 0.45)).transitions
    assert source.truncations.any()
    assert source.terminations.any()
    np.testing.assert_array_equal(data.rows.terminations.numpy(), source.terminations)
    batch = data.take(torch.arange(len(source))[None])
    targets = td_targets(
        batch.rewards, batch.terminations, torch.full_like(batch.rewards, 8.0), torch.tensor([0.5])
    )[0].numpy()
    assert (targets[source.terminations] == 1.0).all()  # the reward alone
    assert (targets[source.truncations] == 4.0).all()
    # The successor of a truncated row is its own, not the next episode's first observation.
    rows = np.flatnonzero(source.truncations[:-1])
    cells = source.observations[rows].argmax(-1) + source.actions[rows] - 1
    np.testing.assert_array_equal(batch.next_observations[0, rows].argmax(-1), np.clip(cells, 0, 6))


def test_signs():
    """The penalty pushes unseen actions down against the data's, the TD error pulls to targets."""
    observations = torch.eye(7)[None, :4]
    batch = Batch(
        observations=observations,
        actions=torch.zeros(1, 4, dtype=torch.int64),
        rewards=torch.full((1, 4), 5.0),
        next_observations=observations,
        terminations=torch.ones(1, 4, dtype=torch.bool),
        truncations=torch.zeros(1, 4, dtype=torch.bool),
        next_actions=torch.zeros(1, 4, dtype=torch.int64),
        has_next=torch.ones(1, 4, dtype=torch.bool),
        row=torch.arange(4)[None],
    )

    def change(alpha):
        _, agent = make([Config(alpha=alpha, temperature=1.0)])
        before = agent.q.network(agent.q.critic, observations).detach()
        for _ in range(20):
            agent.update(batch)
        return (agent.q.network(agent.q.critic, observations) - before)[0].detach()

    towards_reward = change(0.0)
    assert (towards_reward[:, 0] > 0).all()
    conservative = change(1e6)
    assert (conservative[:, 0, None] > conservative[:, 1:]).all()
    assert (conservative[:, 1:] < 0).all()


def test_learns_to_reach_the_goal_where_the_behaviour_policy_mostly_walks_away():
    """The corridor, 1,500 steps, 3 seeds: right in every cell, values within 0.1 of optimal."""
    configs = [Config(alpha=0.003, temperature=0.01, discount=0.9, target_rate=0.02)] * 3
    data, agent = make(configs, probabilities=(0.6, 0.1, 0.3))
    batches = MemberRandom([0, 1, 2], "batches")
    for _ in range(1_500):
        agent.update(data.sample(batches, 64))
    q = agent.q.network(agent.q.critic, torch.eye(7).expand(3, 7, 7))
    assert (q.argmax(-1)[:, :6] == 2).all()
    optimal = 0.9 ** torch.arange(5, -1, -1)
    torch.testing.assert_close(
        q.max(-1).values[:, :6].detach(), optimal.expand(3, 6), atol=0.1, rtol=0
    )
