from __future__ import annotations

import math

import pytest
import torch

from baselines.bc_discrete import METHOD, Agent, Config, negative_log_likelihood
from baselines.engine.data import MemberData
from baselines.engine.random import MemberRandom
from tests.toy import corridor, one_hot


def test_loss_of_two_samples_by_hand():
    # Softmax of (0, log 3) is (1/4, 3/4); of (0, 0) it is (1/2, 1/2).
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]]).repeat(2, 1, 1)
    actions = torch.tensor([[0, 1], [1, 0]])
    expected = [(math.log(4) + math.log(2)) / 2, (math.log(4 / 3) + math.log(2)) / 2]
    assert negative_log_likelihood(logits, actions).tolist() == pytest.approx(expected)


def test_loss_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(4, (2, 3), generator=generator)
    assert torch.autograd.gradcheck(lambda x: negative_log_likelihood(x, actions), (logits,))


def test_one_update_makes_the_batchs_actions_more_likely():
    data = MemberData([corridor()] * 2)
    agent = Agent([Config(), Config(learning_rate=1e-2)], data, [0, 1])
    batch = data.sample(MemberRandom([0, 1], "batches"), 64)

    def losses():
        with torch.no_grad():
            return negative_log_likelihood(
                agent.network(agent.policy, batch.observations), batch.actions
            )

    before = losses()
    reported = agent.update(batch)["loss"]
    torch.testing.assert_close(reported, before)
    assert (losses() < before).all()


def test_learns_the_behaviour_policy():
    data = MemberData([corridor(probabilities=(0.6, 0.1, 0.3), episodes=300)])
    agent = Agent([Config()], data, [0])
    batches = MemberRandom([0], "batches")
    for _ in range(600):
        agent.update(data.sample(batches, 256))
    observation = torch.from_numpy(one_hot(3)).expand(1, 1, -1)
    learned = torch.softmax(agent.network(agent.policy, observation), -1).flatten()
    in_data = data.rows.actions[data.rows.observations[:, 3] == 1]
    empirical = torch.bincount(in_data, minlength=3) / len(in_data)
    torch.testing.assert_close(learned.detach(), empirical, atol=0.05, rtol=0)

    # The actor samples from it: the share of each action is its probability.
    actor = agent.actor(0)
    assert actor.noise_size == 1
    count = 20_000
    noise = torch.randn(count, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actions = actor(observation[0].expand(count, -1), noise)
    shares = torch.bincount(actions, minlength=3) / count
    torch.testing.assert_close(shares, learned.detach(), atol=0.015, rtol=0)


def test_a_greedy_actor_takes_the_most_probable_action():
    data = MemberData([corridor()])
    agent = Agent([Config(greedy=True)], data, [0])
    observations = data.rows.observations[:50]
    actor = agent.actor(0)
    assert actor.noise_size == 0
    expected = agent.network(agent.policy, observations[None])[0].argmax(-1)
    assert torch.equal(actor(observations, torch.empty(50, 0)), expected)


def test_an_actor_is_a_copy():
    data = MemberData([corridor()])
    agent = Agent([Config()], data, [0])
    actor = agent.actor(0)
    before = actor.parameters.clone()
    agent.update(data.sample(MemberRandom([0], "batches"), 8))
    assert torch.equal(actor.parameters, before)


def test_method_is_declared():
    assert (METHOD.name, METHOD.config, METHOD.agent) == ("bc", Config, Agent)
