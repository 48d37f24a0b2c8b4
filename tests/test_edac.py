from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.edac import METHOD, Agent, Config, similarity
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
from tests.toy import point

SMALL = Config(hidden_sizes=(8, 8), ensemble=3)


def make(*configs):
    configs = configs or (SMALL,)
    return Agent(configs, data_of(len(configs)), range(len(configs)))


def test_similarity_by_hand():
    # Angles 0°, 90° and 180° in the first sample: cosines 0, 0 and -1, each pair twice. In the
    # second all are parallel: six ones.
    gradients = torch.tensor(
        [[[[2.0, 0.0], [0.0, 5.0]]], [[[0.0, 0.1], [0.0, 1.0]]], [[[-3.0, 0.0], [0.0, 0.2]]]]
    )
    assert similarity(gradients).tolist() == pytest.approx([(-2.0 + 6.0) / 2 / 2])


def test_similarity_is_that_of_all_pairs():
    gradients = torch.randn(5, 2, 7, 3, generator=torch.Generator().manual_seed(0)).double()
    total = torch.zeros(2).double()
    for i in range(5):
        for j in range(5):
            if i != j:
                total += torch.cosine_similarity(gradients[i], gradients[j], dim=-1).mean(-1)
    torch.testing.assert_close(similarity(gradients), total / 4)
    scaled = gradients * torch.rand(5, 2, 7, 1).double()
    torch.testing.assert_close(similarity(scaled), total / 4)


def test_similarity_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(3, 2, 4, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(similarity, (gradients.requires_grad_(),))


def test_a_gradient_that_vanishes_does_no_harm():
    gradients = torch.zeros(3, 1, 2, 2, requires_grad=True)
    (result,) = torch.autograd.grad(similarity(gradients).sum(), gradients)
    assert result.isfinite().all()


def test_an_update_moves_everything():
    agent, batch = make(), random_batch()
    before = snapshot(agent)
    metrics = agent.update(batch)
    assert moved(agent, before) == {
        "critics.parameters",
        "critics.target",
        "policy.parameters",
        "alpha.logarithm",
    }
    expected = before["critics.target"].lerp(agent.critics.parameters.detach(), 0.005)
    torch.testing.assert_close(agent.critics.target, expected)
    assert not any(value.requires_grad for value in metrics.values())


def test_steps_on_the_policy_leave_the_critics_alone_and_the_other_way_round():
    agent, batch = make(), random_batch()
    before = snapshot(agent)
    agent._update_policy(batch)
    assert moved(agent, before) == {"policy.parameters", "alpha.logarithm"}
    before = snapshot(agent)
    agent._update_critics(batch)
    assert moved(agent, before) == {"critics.parameters"}


def sampled(agent, member, parameters, states, noise):
    """Actions and log-densities of the policy in float64, written once more."""
    mean, log_std = plain(agent.policy.network, parameters[member], states).chunk(2, -1)
    log_std = log_std.clamp(-5.0, 2.0)
    u = mean + log_std.exp() * noise
    normal = torch.distributions.Normal(mean, log_std.exp()).log_prob(u)
    return u.tanh(), (normal - torch.log(1 - u.tanh() ** 2)).sum(-1)


def values(agent, parameters, states, actions):
    """(N, n) values of critics given one by one."""
    inputs = torch.cat([states, actions], -1)
    return torch.stack([plain(agent.critics.network, each, inputs)[:, 0] for each in parameters])


def separate(agent):
    """Moves networks away from their start, where they are alike and nearly zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for each in (agent.critics.parameters, agent.critics.target, agent.policy.parameters):
            each.add_(0.3 * torch.randn(each.shape, generator=generator))
        agent.alpha.logarithm.sub_(0.5)


def test_the_critics_gradient_is_that_of_the_paper():
    """The penalty's by nested automatic differentiation."""
    settings = ((1.0, 0.99), (20.0, 0.5))
    agent = make(*(replace(SMALL, diversity=eta, discount=gamma) for eta, gamma in settings))
    separate(agent)
    batch, noise = random_batch(2), MemberRandom([0, 1], "policy samples").normal(8, 2).double()
    theta, loss = as_double(agent.critics.parameters), 0.0
    for member, (eta, gamma) in enumerate(settings):
        s, a, r, s2, ends = (each[member].double() for each in batch[:5])
        with torch.no_grad():
            a2, log_density = sampled(agent, member, agent.policy.parameters, s2, noise[member])
            q2 = values(agent, agent.critics.target[:, member], s2, a2).min(0).values
            y = r + gamma * (1 - ends) * (q2 - math.exp(-0.5) * log_density)
        a = a.clone().requires_grad_()
        q = values(agent, theta[:, member], s, a)
        slopes = [torch.autograd.grad(each.sum(), a, create_graph=True)[0] for each in q]
        cosines = sum(
            torch.cosine_similarity(slopes[i], slopes[j], dim=-1).mean()
            for i in range(3)
            for j in range(3)
            if i != j
        )
        loss = loss + ((q - y) ** 2).mean(-1).sum() + eta / 2 * cosines
    agent._update_critics(batch)
    assert_gradient(agent.critics.optimiser, gradient(loss, theta))


def test_the_policys_gradient_is_that_of_the_paper_with_alpha_as_updated():
    agent, batch = make(SMALL, replace(SMALL, policy_rate=0.1)), random_batch(2)
    separate(agent)
    noise = MemberRandom([0, 1], "policy samples").normal(8, 2).double()
    phi, loss = as_double(agent.policy.parameters), 0.0
    agent._update_policy(batch)
    for member, alpha in enumerate(agent.alpha.value().double()):
        s = batch.observations[member].double()
        actions, log_density = sampled(agent, member, phi, s, noise[member])
        critics = agent.critics.parameters[:, member].detach()
        q = values(agent, critics, s, actions).min(0).values
        loss = loss + (alpha * log_density - q).mean()
    # Adam's first step on log α is the step size, down: entropy is above its target.
    assert agent.alpha.logarithm.flatten().tolist() == pytest.approx([-0.5 - 3e-4, -0.6], rel=1e-5)
    assert_gradient(agent.policy.optimiser, gradient(loss, phi))


def test_alpha_rises_where_entropy_is_below_its_target():
    agent, batch = make(), random_batch()
    with torch.no_grad():
        agent.policy.parameters.mul_(0.0)
        agent.policy.parameters[..., -2:] = -5.0  # log standard deviations
    agent._update_policy(batch)
    assert agent.alpha.value().item() > 1.0


def test_the_penalty_turns_gradients_apart():
    """The least mean cosine of three directions is -1/2, a penalty of -3/2."""
    agent, batch = make(replace(SMALL, diversity=100.0, critic_rate=3e-3)), random_batch(rows=32)
    first = agent._update_critics(batch)["similarity"]
    for _ in range(60):
        last = agent._update_critics(batch)["similarity"]
    assert first > 0.0
    assert -1.5 <= last < -1.2


def test_signs():
    """The policy climbs the least value, and critics descend towards their targets."""
    agent, batch = make(replace(SMALL, policy_rate=3e-3, diversity=0.0)), random_batch(rows=32)
    separate(agent)
    agent.alpha.logarithm.fill_(-20.0)
    first = agent._update_policy(batch)["q_policy"]
    for _ in range(30):
        last = agent._update_policy(batch)["q_policy"]
    assert last > first
    first = agent._update_critics(batch)["td_loss"]
    for _ in range(30):
        last = agent._update_critics(batch)["td_loss"]
    assert last < first


def test_networks_start_as_the_authors_do():
    agent = make()
    *hidden, last = agent.critics.network.unpack(agent.critics.parameters)
    assert all((layer.bias == 0.1).all() for layer in hidden)
    assert 2e-3 < last.weight.abs().max() <= 3e-3
    *hidden, last = agent.policy.network.unpack(agent.policy.parameters)
    assert all((layer.bias == 0.1).all() for layer in hidden)
    assert 5e-4 < last.weight.abs().max() <= 1e-3


def test_overrides():
    names = [
        "halfcheetah-medium-hb",
        "halfcheetah-medium-expert-hb-10k",
        "hopper-medium-expert-hb-10k",
        "walker2d-medium-replay-hb",
    ]
    configs = [METHOD.config_for(point(name, family="locomotion").spec) for name in names]
    settings = [(each.ensemble, each.diversity) for each in configs]
    assert settings == [(10, 1.0), (10, 5.0), (50, 1.0), (10, 1.0)]


def test_one_critic_is_refused():
    with pytest.raises(ValueError, match="ensemble is 1; expected an integer at least 2"):
        Config(ensemble=1)


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """800 steps, 3 seeds: scores above 80, that of the data is 52."""
    config = Config(
        ensemble=4,
        diversity=0.1,
        discount=0.9,
        target_rate=0.02,
        hidden_sizes=(32, 32),
        critic_rate=3e-3,
        policy_rate=1e-2,
        batch_size=64,
    )
    group = [Member(point(), config, seed) for seed in range(3)]
    trainer = Trainer(METHOD, group, "cpu", steps=800)
    trainer.advance(800)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 800, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 80.0
        assert np.mean(record.successes) >= 0.95
