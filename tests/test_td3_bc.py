from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.critics import smoothed
from baselines.td3_bc import METHOD, Agent, Config, policy_loss
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


def make(*configs, **dataset):
    configs = configs or (Config(**SMALL),)
    return Agent(configs, data_of(len(configs), **dataset), range(len(configs)))


def test_policy_loss_of_two_samples_by_hand():
    values = torch.tensor([[2.0, -4.0]])  # mean -1, mean size 3
    policy_actions = torch.tensor([[[0.5, 0.0], [0.0, -1.0]]])
    actions = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # mean square (0.25 + 1) / 4
    loss = policy_loss(values, policy_actions, actions, torch.tensor([1.5]))
    assert loss.tolist() == pytest.approx([1.5 * 1.0 / 3.0 + 1.25 / 4.0])


def test_policy_loss_does_not_depend_on_the_scale_of_values():
    batch = random_batch()
    values, alpha = batch.rewards, torch.tensor([2.5])
    losses = [
        policy_loss(scale * values, batch.next_actions, batch.actions, alpha)
        for scale in (1.0, 1e-3, 1e4)
    ]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


def test_policy_loss_gradient_against_finite_differences():
    """With the weight λ held fixed, as the loss has it."""
    batch = random_batch()
    values = batch.rewards.double().requires_grad_()
    weight = 2.5 / values.detach().abs().mean(-1)
    loss = policy_loss(values, batch.actions, batch.actions, torch.tensor([2.5]).double())
    (analytic,) = torch.autograd.grad(loss.sum(), values)
    numeric = torch.zeros_like(values)
    for k in range(values.shape[1]):
        step = torch.zeros_like(values)
        step[0, k] = 1e-6
        difference = (values + step).mean(-1) - (values - step).mean(-1)
        numeric[0, k] = (-weight * difference / 2e-6).item()
    torch.testing.assert_close(analytic, numeric, rtol=1e-6, atol=1e-9)


def test_updates_move_what_they_should():
    agent, batch = make(), random_batch()
    before = snapshot(agent)
    assert [agent.phase(step) for step in range(4)] == 2 * ["critics", "critics and policy"]
    agent.update(batch, "critics")
    assert moved(agent, before) == {"critics.parameters"}
    before = snapshot(agent)
    agent.update(batch, "critics and policy")
    assert moved(agent, before) == {
        "critics.parameters",
        "critics.target",
        "policy.parameters",
        "policy.target",
    }
    expected = before["critics.target"].lerp(agent.critics.parameters.detach(), 0.005)
    torch.testing.assert_close(agent.critics.target, expected)


def expected_targets(agent, batch, noise, discounts):
    """y of every member in float64, written once more."""
    targets, network = [], agent.critics.network
    for member, discount in enumerate(discounts):
        states = batch.next_observations[member]
        mean = plain(agent.policy.network, agent.policy.target[member], states)
        kicks = (noise[member].double() * 0.2).clamp(-0.5, 0.5)
        actions = (mean.tanh() + kicks).clamp(-1.0, 1.0)
        inputs = torch.cat([states.double(), actions], -1)
        values = [plain(network, agent.critics.target[e, member], inputs) for e in (0, 1)]
        q = torch.minimum(*values).squeeze(-1)
        alive = 1.0 - batch.terminations[member].double()
        y = batch.rewards[member].double() + discount * alive * q
        targets.append(y.detach())
    return targets


def test_the_critics_gradient_is_that_of_the_paper():
    agent = make(Config(**SMALL), Config(discount=0.5, **SMALL))
    agent.policy.target.mul_(1.5)  # a target that differs from the policy
    batch = random_batch(2)
    noise = MemberRandom([0, 1], "target noise").normal(8, 2)
    theta = as_double(agent.critics.parameters)
    loss = 0.0
    for member, y in enumerate(expected_targets(agent, batch, noise, (0.99, 0.5))):
        inputs = torch.cat([batch.observations[member], batch.actions[member]], -1)
        for e in (0, 1):
            q = plain(agent.critics.network, theta[e, member], inputs).squeeze(-1)
            loss = loss + ((q - y) ** 2).mean()
    agent.update(batch, "critics")
    assert_gradient(agent.critics.optimiser, gradient(loss, theta))


def test_the_policys_gradient_is_that_of_the_paper():
    agent, batch = make(Config(**SMALL), Config(alpha=0.3, **SMALL)), random_batch(2)
    agent.update(batch, "critics")
    phi, total = as_double(agent.policy.parameters), 0.0
    agent._update_policy(batch)
    for member, alpha in enumerate((2.5, 0.3)):
        states = batch.observations[member]
        actions = plain(agent.policy.network, phi[member], states).tanh()
        critic = agent.critics.parameters[0, member].detach()
        q = plain(agent.critics.network, critic, torch.cat([states.double(), actions], -1))
        weight = alpha / q.detach().abs().mean()
        total = total - weight * q.mean() + ((actions - batch.actions[member]) ** 2).mean()
    assert_gradient(agent.policy.optimiser, gradient(total, phi))


def test_target_noise_is_clipped_and_so_are_actions():
    actions = torch.tensor([[[0.0, 0.9], [0.0, -0.9]]])
    noise = torch.tensor([[[1.0, 1.0], [10.0, -10.0]]])
    out = smoothed(actions, noise, torch.tensor([0.2]), torch.tensor([0.5]))
    torch.testing.assert_close(out, torch.tensor([[[0.2, 1.0], [0.5, -1.0]]]))


def test_signs():
    """With a large α the policy climbs Q_1; with none it approaches the data."""
    for alpha, better in ((50.0, "value"), (0.0, "distance")):
        agent, batch = make(Config(alpha=alpha, learning_rate=3e-3, **SMALL)), random_batch(rows=32)

        def measures(agent=agent, batch=batch):
            actions = agent.policy(batch.observations).tanh()
            value = agent.critics.of_policy(batch.observations, actions, critics=1).mean()
            return {"value": value.item(), "distance": -(actions - batch.actions).square().mean()}

        before = measures()[better]
        for _ in range(20):
            agent._update_policy(batch)
        assert measures()[better] > before


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """1,500 steps, 3 seeds, data of half the return: scores above 80, that of the data is 52."""
    config = Config(hidden_sizes=(32, 32), batch_size=64, learning_rate=1e-3)
    group = [Member(point(), config, seed) for seed in range(3)]
    trainer = Trainer(METHOD, group, "cpu", steps=1_500)
    trainer.advance(1_500)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1_500, 20)
        score = member.dataset.spec.normalized_score(record.returns).mean()
        assert score > 80.0
        assert np.mean(record.successes) >= 0.95
