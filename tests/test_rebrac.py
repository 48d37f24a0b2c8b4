from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import layer_norm

from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.rebrac import METHOD, Agent, Config, policy_loss, squared_distance
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
    Config(policy_penalty=0.3, critic_penalty=0.5, **SMALL),
    Config(policy_penalty=0.01, critic_penalty=2.0, discount=0.5, **SMALL),
)


def make(*configs):
    """Agents whose last layers are not small, so that the networks' outputs differ."""
    configs = configs or (Config(**SMALL),)
    agent = Agent(configs, data_of(len(configs)), range(len(configs)))
    random = torch.Generator().manual_seed(1)
    for tensor in (
        agent.critics.parameters,
        agent.critics.target,
        agent.policy.parameters,
        agent.policy.target,
    ):
        noise = torch.randn(tensor.shape, generator=random)
        tensor.data.add_(0.3 * noise)
    return agent


def plain_critic(parameters, sizes, states, actions):
    """A critic in float64, layer by layer: linear, ReLU, layer normalisation with its own scale."""
    x, flat = torch.cat([states.double(), actions.double()], -1), parameters.double()

    def take(*shape):
        nonlocal flat
        count = torch.Size(shape).numel()
        taken, flat = flat[:count].view(shape), flat[count:]
        return taken

    for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        weight, bias = take(fan_in, fan_out), take(fan_out)
        x = x @ weight + bias
        if number < len(sizes) - 2:
            scale, shift = take(fan_out), take(fan_out)
            x = layer_norm(x.clamp(min=0.0), (fan_out,)) * scale + shift
    assert not len(flat)
    return x.squeeze(-1)


def plain_values(agent, parameters, member, states, actions):
    """(B,) values of both critics."""
    sizes = agent.critics.network.sizes
    return [plain_critic(parameters[e, member], sizes, states, actions) for e in (0, 1)]


def test_policy_loss_of_two_samples_by_hand():
    actions = torch.tensor([[[0.5, 0.0], [0.0, -1.0]]])
    distances = squared_distance(actions, torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]))
    assert distances.tolist() == [[1.25, 1.0]]
    values = torch.tensor([[2.0, -4.0]])  # mean -1, mean size 3
    loss = policy_loss(values, distances, torch.tensor([0.4]))
    assert loss.tolist() == pytest.approx([0.4 * 1.125 + 1.0 / 3.0])


def test_policy_loss_does_not_depend_on_the_scale_of_values():
    batch, penalty = random_batch(), torch.tensor([0.1])
    distances = squared_distance(batch.actions, batch.next_actions)
    losses = [policy_loss(scale * batch.rewards, distances, penalty) for scale in (1.0, 1e-3, 1e4)]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


def test_policy_loss_gradient_against_finite_differences():
    """With the weight λ held fixed, as the loss has it."""
    batch = random_batch()
    values = batch.rewards.double().requires_grad_()
    actions = batch.next_actions.double().requires_grad_()
    data, penalty = batch.actions.double(), torch.tensor([0.7]).double()
    weight = 1.0 / values.detach().abs().mean()
    loss = policy_loss(values, squared_distance(actions, data), penalty)
    slopes = torch.autograd.grad(loss.sum(), (values, actions))

    def fixed(values, actions):
        return 0.7 * (actions - data).square().sum(-1).mean() - weight * values.mean()

    for which, argument in enumerate((values, actions)):
        for index in range(argument.numel()):
            step = torch.zeros_like(argument)
            step.view(-1)[index] = 1e-6
            high, low = ([values.detach(), actions.detach()] for _ in range(2))
            high[which], low[which] = high[which] + step, low[which] - step
            numeric = (fixed(*high) - fixed(*low)).item() / 2e-6
            assert slopes[which].view(-1)[index].item() == pytest.approx(numeric, abs=1e-8)


def expected_targets(agent, batch, member):
    """y of a member in float64, written once more."""
    states, config = batch.next_observations[member], CONFIGS[member]
    noise = MemberRandom([0, 1], "target noise").normal(8, 2)[member].double()
    mean = plain(agent.policy.network, agent.policy.target[member], states).tanh()
    actions = (mean + (0.2 * noise).clamp(-0.5, 0.5)).clamp(-1.0, 1.0)
    values = torch.minimum(*plain_values(agent, agent.critics.target, member, states, actions))
    penalty = config.critic_penalty * (actions - batch.next_actions[member]).square().sum(-1)
    after = values - torch.where(batch.has_next[member], penalty, 0.0)
    alive = 1.0 - batch.terminations[member].double()
    return (batch.rewards[member] + config.discount * alive * after).detach()


def test_the_critics_gradient_is_that_of_the_paper():
    agent, batch = make(*CONFIGS), random_batch(2)
    # The second row is cut off: it has a value but no next action.
    batch.has_next[:, 1] = False
    batch.next_actions[:, 1] = 1e3
    theta, total = as_double(agent.critics.parameters), 0.0
    for member in range(2):
        y = expected_targets(agent, batch, member)
        states, actions = batch.observations[member], batch.actions[member]
        for q in plain_values(agent, theta, member, states, actions):
            total = total + ((q - y) ** 2).mean()
    metrics = agent.update(batch, "critics")
    assert metrics["loss"].sum().item() == pytest.approx(total.item(), rel=1e-5)
    assert_gradient(agent.critics.optimiser, gradient(total, theta))


def test_the_policys_gradient_is_that_of_the_paper():
    agent, batch = make(*CONFIGS), random_batch(2)
    phi, total = as_double(agent.policy.parameters), 0.0
    agent._update_policy(batch)
    for member, config in enumerate(CONFIGS):
        states = batch.observations[member]
        actions = plain(agent.policy.network, phi[member], states).tanh()
        critics = agent.critics.parameters.detach()
        q = torch.minimum(*plain_values(agent, critics, member, states, actions))
        distance = (actions - batch.actions[member]).square().sum(-1).mean()
        total = total + config.policy_penalty * distance - q.mean() / q.detach().abs().mean()
    assert_gradient(agent.policy.optimiser, gradient(total, phi))


def test_updates_move_what_they_should():
    agent, batch = make(), random_batch()
    before = snapshot(agent)
    assert [agent.phase(step) for step in range(4)] == 2 * ["critics", "critics and policy"]
    agent.update(batch, "critics")
    assert moved(agent, before) == {"critics.parameters"}
    before = snapshot(agent)
    agent._update_policy(batch)
    assert moved(agent, before) == {"policy.parameters"}
    agent.update(batch, "critics and policy")
    assert moved(agent, before) == {
        "critics.parameters",
        "critics.target",
        "policy.parameters",
        "policy.target",
    }


def test_signs():
    """Without a penalty the policy climbs min Q, with a large one it approaches the data; and the
    critics' penalty makes targets smaller."""
    for penalty, better in ((0.0, "value"), (50.0, "distance")):
        agent = make(Config(policy_penalty=penalty, policy_rate=3e-3, **SMALL))
        batch = random_batch(rows=32)

        def measures(agent=agent, batch=batch):
            actions = agent.policy(batch.observations).tanh()
            value = agent.critics.of_policy(batch.observations, actions, critics=2).amin(0).mean()
            return {"value": value.item(), "distance": -(actions - batch.actions).square().mean()}

        before = measures()[better]
        for _ in range(20):
            agent._update_policy(batch)
        assert measures()[better] > before
    lenient, strict = (make(Config(critic_penalty=each, **SMALL)) for each in (0.0, 1.0))
    low, high = (
        each.td3.targets(batch, each.td3.target_actions(batch)) for each in (strict, lenient)
    )
    assert torch.equal(low < high, batch.has_next)


def test_networks_begin_as_in_the_authors_code():
    agent = Agent([Config(**SMALL)], data_of(1), [0])
    for network, parameters, bound in (
        (agent.critics.network, agent.critics.parameters[0], 3e-3),
        (agent.policy.network, agent.policy.parameters, 1e-3),
    ):
        first, *_, last = network.unpack(parameters.detach())
        assert (first.bias == 0.1).all()
        for part in (last.weight, last.bias):
            assert 0.0 < part.abs().max() <= bound
    assert (agent.critics.network.norm, agent.policy.network.norm) == ("after", "none")


def penalties(name, family="locomotion"):
    config = METHOD.config_for(corridor_spec(name, family=family))
    return config.policy_penalty, config.critic_penalty


@pytest.mark.parametrize("ending", ["", "-hb", "-hb-10k"])
def test_penalties_by_dataset(ending):
    published = {
        "halfcheetah-medium": (0.001, 0.01),
        "halfcheetah-medium-replay": (0.01, 0.001),
        "halfcheetah-medium-expert": (0.01, 0.1),
        "hopper-medium": (0.01, 0.01),
        "hopper-medium-replay": (0.05, 0.5),
        "hopper-medium-expert": (0.1, 0.01),
        "hopper-expert": (0.1, 0.1),
        "walker2d-medium": (0.05, 0.1),
        "walker2d-medium-replay": (0.05, 0.01),
        "walker2d-medium-expert": (0.01, 0.01),
        "walker2d-full-replay": (0.01, 0.01),
    }
    for name, expected in published.items():
        assert penalties(name + ending) == expected, name


def test_settings_by_suite():
    maze = METHOD.config_for(corridor_spec("antmaze-medium-noisy-10k", family="antmaze"))
    assert maze == Config(
        policy_penalty=0.001,
        critic_penalty=0.0005,
        batch_size=256,
        policy_rate=3e-4,
        critic_rate=5e-5,
        discount=0.999,
        reward_scale=100.0,
    )
    assert penalties("antmaze-large-biased", "antmaze") == (0.002, 0.001)
    assert penalties("antmaze-umaze-diverse", "antmaze") == (0.003, 0.001)
    assert penalties("ant-medium-hb") == (0.01, 0.01)
    pen = METHOD.config_for(corridor_spec("pen-cloned", family="adroit"))
    assert (pen.policy_penalty, pen.critic_penalty, pen.batch_size) == (0.05, 0.5, 256)


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """1,500 steps, 3 seeds: scores above 85; that of the data is 52."""
    config = Config(policy_penalty=0.2, critic_penalty=0.01, hidden_sizes=(32, 32), batch_size=64)
    group = [Member(point(), config, seed) for seed in range(3)]
    trainer = Trainer(METHOD, group, "cpu", steps=1_500)
    trainer.advance(1_500)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1_500, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 85.0
