from __future__ import annotations

import pytest
import torch

from baselines.awac import METHOD, Agent, Config, sample_actions
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
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
from tests.toy import corridor_spec, point

SMALL = {"hidden_sizes": (8, 8)}
CONFIGS = (
    Config(temperature=0.1, weight_clip=1.5, **SMALL),
    Config(temperature=2.0, discount=0.5, **SMALL),
)


def make(*configs):
    configs = configs or (Config(**SMALL),)
    return Agent(configs, data_of(len(configs)), range(len(configs)))


def noises(members=2, draws=2):
    """What an agent draws: for next states first, then for states."""
    stream = MemberRandom(range(members), "policy noise")
    return [stream.normal(8, 2).double() for _ in range(draws)]


def test_samples_are_clipped_to_the_bounds():
    outputs, log_std = torch.zeros(1, 3, 2), torch.tensor([[[0.5, 0.25]]]).log()
    noise = torch.tensor([[[1.0, 1.0], [-1.0, 2.0], [3.0, -5.0]]])
    actions = sample_actions(outputs, log_std, noise)
    torch.testing.assert_close(actions, torch.tensor([[[0.5, 0.25], [-0.5, 0.5], [1.0, -1.0]]]))


def drawn(agent, member, parameters, states, noise):
    """Actions of one member's policy in float64, written once more."""
    mean = plain(agent.policy.network, parameters, states).tanh()
    return (mean + parameters[-2:].double().exp() * noise[member]).clamp(-1.0, 1.0)


def smaller_value(agent, member, parameters, states, actions):
    inputs = torch.cat([states.double(), actions.double()], -1)
    values = [plain(agent.critics.network, parameters[e, member], inputs) for e in (0, 1)]
    return torch.cat(values, -1).min(-1).values


def test_the_critics_gradient_is_that_of_the_paper():
    agent, batch = make(*CONFIGS), random_batch(2)
    agent.critics.target.mul_(1.5)  # targets that differ from the critics
    theta, total = as_double(agent.critics.parameters), 0.0
    for member, config in enumerate(CONFIGS):
        states = batch.next_observations[member]
        policy = agent.policy.parameters[member].detach()
        actions = drawn(agent, member, policy, states, noises()[0])
        after = smaller_value(agent, member, agent.critics.target, states, actions)
        alive = 1.0 - batch.terminations[member].double()
        y = (batch.rewards[member] + config.discount * alive * after).detach()
        inputs = torch.cat([batch.observations[member], batch.actions[member]], -1)
        for e in (0, 1):
            q = plain(agent.critics.network, theta[e, member], inputs).squeeze(-1)
            total = total + ((q - y) ** 2).mean()
    agent.update(batch)
    assert_gradient(agent.critics.optimiser, gradient(total, theta))


def test_the_policys_gradient_is_that_of_the_paper():
    """Under the critics as they are after their step, and with the weights held fixed."""
    agent, batch = make(*CONFIGS), random_batch(2)
    phi, total, clipped = as_double(agent.policy.parameters), 0.0, 0
    metrics = agent.update(batch)
    critics = agent.critics.parameters.detach()
    for member, config in enumerate(CONFIGS):
        states, actions = batch.observations[member], batch.actions[member].double()
        own = drawn(agent, member, phi[member].detach(), states, noises()[1])
        advantages = smaller_value(agent, member, critics, states, actions) - smaller_value(
            agent, member, critics, states, own
        )
        weights = (advantages / config.temperature).exp().clamp(max=config.weight_clip)
        clipped += int((weights == config.weight_clip).sum())
        mean = plain(agent.policy.network, phi[member], states).tanh()
        normal = torch.distributions.Normal(mean, phi[member, -2:].exp())
        loss = -(weights * normal.log_prob(actions).sum(-1)).mean()
        assert metrics["loss"][member].item() == pytest.approx(loss.item(), rel=1e-4)
        total = total + loss
    assert clipped > 0
    assert_gradient(agent.policy.optimiser, gradient(total, phi))


def test_an_update_moves_critics_targets_and_policy():
    agent, batch = make(), random_batch()
    before = snapshot(agent)
    agent.update(batch)
    assert moved(agent, before) == {
        "critics.parameters",
        "critics.target",
        "policy.parameters",
    }
    expected = before["critics.target"].lerp(agent.critics.parameters.detach(), 0.005)
    torch.testing.assert_close(agent.critics.target, expected)


def test_each_loss_moves_its_own_parameters_only():
    agent, batch = make(), random_batch()
    before = snapshot(agent)
    agent._update_critics(batch)
    assert moved(agent, before) == {"critics.parameters"}
    before = snapshot(agent)
    agent._update_policy(batch)
    assert moved(agent, before) == {"policy.parameters"}


def test_signs():
    """Of two actions in one state, the mean moves to the one of the greater value."""
    agent = make(Config(temperature=0.5, learning_rate=0.01, **SMALL))
    batch = random_batch(rows=2)._replace(
        observations=torch.ones(1, 2, 2),
        actions=torch.tensor([[[0.5, -0.5], [-0.5, 0.5]]]),
        rewards=torch.tensor([[1.0, 0.0]]),
        terminations=torch.ones(1, 2, dtype=torch.bool),
    )
    for _ in range(150):
        agent.update(batch)
    q = agent.critics(batch.observations, batch.actions)
    torch.testing.assert_close(q, batch.rewards.expand(2, 1, 2), rtol=0, atol=0.1)
    mean = agent.policy(batch.observations).tanh()[0, 0]
    # Advantages differ by 1, their weights by e²: the weighted mean is tanh(1) / 2.
    assert mean[0].item() == pytest.approx(0.38, abs=0.1)
    assert mean[1].item() == pytest.approx(-0.38, abs=0.1)


def test_settings_by_suite():
    def config(name, family):
        return METHOD.config_for(corridor_spec(name, family=family))

    assert config("hopper-medium-hb", "locomotion") == Config(temperature=1 / 3)
    assert config("antmaze-medium-noisy", "antmaze") == Config(reward_shift=-1.0)
    assert config("pen-human", "adroit") == Config(temperature=0.1)


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """1,000 steps, 3 seeds: scores above 90; that of the data is 52."""
    config = Config(hidden_sizes=(32, 32), batch_size=64, learning_rate=1e-3)
    group = [Member(point(), config, seed) for seed in range(3)]
    trainer = Trainer(METHOD, group, "cpu", steps=1_000)
    trainer.advance(1_000)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1_000, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 90.0
