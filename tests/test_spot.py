from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.engine.data import MemberData
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.spot import METHOD, Agent, Config, improve_policy, policy_loss
from tests.continuous import (
    as_double,
    assert_gradient,
    data_of,
    gradient,
    moved,
    plain,
    random_batch,
    sampled_batch,
    snapshot,
)
from tests.toy import point

SMALL = Config(hidden_sizes=(8, 8), density_sizes=(8, 8), density_steps=3, dropout=0.0)


def make(*configs):
    configs = configs or (SMALL,)
    return Agent(configs, data_of(len(configs)), range(len(configs)))


def improve(agent, batch):
    density, latents = agent.density, agent.policy_latents
    improve_policy(agent.td3, density, batch, latents, agent.density_weight, agent.active)


def test_policy_loss_of_two_samples_by_hand():
    values = torch.tensor([[2.0, -4.0]])  # mean -1, mean size 3
    energies = torch.tensor([[0.5, 1.5]])
    loss = policy_loss(values, energies, torch.tensor([0.2]))
    assert loss.tolist() == pytest.approx([1.0 / 3.0 + 0.2 * 1.0])


def test_policy_loss_gradient_holds_the_mean_value_fixed():
    values = torch.tensor([[2.0, -4.0]], requires_grad=True)
    energies = torch.tensor([[0.5, 1.5]], requires_grad=True)
    loss = policy_loss(values, energies, torch.tensor([0.2]))
    by_values, by_energies = torch.autograd.grad(loss, (values, energies))
    assert by_values[0].tolist() == pytest.approx([-1 / 6, -1 / 6])
    assert by_energies[0].tolist() == pytest.approx([0.1, 0.1])


def test_the_density_comes_first():
    agent = make()
    assert [agent.phase(step) for step in range(8)] == [
        *3 * ["density"],
        *2 * ["critics", "critics and policy"],
        "critics",
    ]
    assert make(replace(SMALL, density_steps=1)).phase(2) == "critics and policy"


def test_a_run_that_ends_with_the_density_is_refused():
    data = MemberData([point()], steps=3)
    with pytest.raises(ValueError, match="density_steps is 3 and the run has 3 updates; take more"):
        Agent([SMALL], data, [0])


def test_updates_move_what_they_should():
    agent, batch = make(), random_batch()
    for phase, expected in {
        "density": {"density.parameters"},
        "critics": {"critics.parameters"},
        "critics and policy": {
            "critics.parameters",
            "critics.target",
            "policy.parameters",
            "policy.target",
        },
    }.items():
        before = snapshot(agent)
        metrics = agent.update(batch, phase)
        assert moved(agent, before) == expected
        assert metrics["loss"].shape == (1,)
        assert not any(value.requires_grad for value in metrics.values())
    expected = before["critics.target"].lerp(agent.td3.critics.parameters.detach(), 0.005)
    torch.testing.assert_close(agent.td3.critics.target, expected)


def written_out_energies(agent, member, states, actions, noise):
    """E(s, a) in float64, with the energy's formula written once more."""
    theta = agent.density.parameters[member].detach()
    encoder, decoder = agent.density.encoder, agent.density.decoder
    encoded = plain(encoder, theta[: encoder.num_parameters], torch.cat([states, actions], -1))
    mean, log_std = encoded.chunk(2, -1)
    z = mean + log_std.clamp(-4, 15).exp() * noise
    guess = plain(decoder, theta[encoder.num_parameters :], torch.cat([states, z], -1)).tanh()
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return ((guess - actions) ** 2).mean(-1) + 0.5 * kl.mean(-1)


def test_the_policys_gradient_goes_through_critic_encoder_and_decoder():
    weights = (0.1, 3.0)
    agent = make(*(replace(SMALL, density_weight=weight) for weight in weights))
    batch = random_batch(2)
    noise = MemberRandom([0, 1], "latents of policy").normal(8, 4).double()
    phi, total = as_double(agent.td3.policy.parameters), 0.0
    improve(agent, batch)
    for member, weight in enumerate(weights):
        states = batch.observations[member].double()
        actions = plain(agent.td3.policy.network, phi[member], states).tanh()
        critic = agent.td3.critics.parameters[0, member].detach()
        q = plain(agent.td3.critics.network, critic, torch.cat([states, actions], -1))
        energies = written_out_energies(agent, member, states, actions, noise[member])
        total = total - q.mean() / q.detach().abs().mean() + weight * energies.mean()
    assert_gradient(agent.td3.policy.optimiser, gradient(total, phi))


def test_the_critics_gradient_is_that_of_td3():
    agent = make(SMALL, replace(SMALL, discount=0.5, policy_noise=0.4))
    agent.td3.policy.target.mul_(1.5)  # a target that differs from the policy
    batch = random_batch(2)
    noise = MemberRandom([0, 1], "target noise").normal(8, 2).double()
    theta, loss = as_double(agent.td3.critics.parameters), 0.0
    network = agent.td3.critics.network
    for member, (discount, std) in enumerate(((0.99, 0.2), (0.5, 0.4))):
        s, a, r, s2, ends = (each[member].double() for each in batch[:5])
        mean = plain(agent.td3.policy.network, agent.td3.policy.target[member], s2).tanh()
        action = (mean + (std * noise[member]).clamp(-0.5, 0.5)).clamp(-1, 1)
        inputs = torch.cat([s2, action], -1)
        q2 = torch.cat(
            [plain(network, each[member], inputs) for each in agent.td3.critics.target], -1
        )
        y = (r + discount * (1 - ends) * q2.min(-1).values).detach()
        for each in theta:
            q = plain(network, each[member], torch.cat([s, a], -1)).squeeze(-1)
            loss = loss + ((q - y) ** 2).mean()
    agent.update(batch, "critics")
    assert_gradient(agent.td3.critics.optimiser, gradient(loss, theta))


def test_units_are_dropped_in_policy_and_target_and_not_in_evaluation():
    agent, batch = make(replace(SMALL, dropout=0.5, policy_noise=0.0)), random_batch()
    first, second = (agent.td3.targets(batch, agent.td3.target_actions(batch)) for _ in range(2))
    alive = ~batch.terminations
    assert not torch.equal(first[alive], second[alive])
    assert torch.equal(first[~alive], second[~alive])
    actor, observations = agent.actor(0), batch.observations[0]
    assert torch.equal(
        actor(observations, torch.empty(8, 0)), actor(observations, torch.empty(8, 0))
    )
    without = make()
    assert torch.equal(without.td3.policy.parameters, agent.td3.policy.parameters)


def test_small_outputs_start_near_zero():
    agent, batch = make(replace(SMALL, small_outputs=True)), random_batch()
    assert agent.td3.policy(batch.observations).abs().max() < 0.05
    assert agent.td3.critics(batch.observations, batch.actions).abs().max() < 0.1
    assert make().td3.policy(batch.observations).abs().max() > 0.05


@pytest.mark.parametrize(("weight", "better"), [(0.0, "value"), (1e3, "density")])
def test_signs(weight, better):
    """Without a regulariser the policy climbs Q_1, with much of it it seeks density."""
    agent = make(replace(SMALL, density_weight=weight, policy_rate=3e-3))
    batch = sampled_batch(data_of(), rows=32)

    def measure():
        with torch.no_grad():
            actions = agent.td3.policy(batch.observations).tanh()
            if better == "value":
                return agent.td3.critics.of_policy(batch.observations, actions, critics=1).mean()
            return -agent.density.of_policy(
                batch.observations, actions, torch.zeros(1, 32, 4)
            ).mean()

    for _ in range(50):
        agent._update_density(batch)
    before = measure()
    for _ in range(20):
        improve(agent, batch)
    assert measure() > before


def test_overrides():
    def weight(name, family="locomotion"):
        spec = point(name, family=family).spec
        return METHOD.config_for(spec).density_weight

    names = ["halfcheetah-medium-hb", "halfcheetah-medium-replay-hb-10k", "halfcheetah-expert-hb"]
    assert [weight(name) for name in names] == [0.05, 0.05, 1.0]
    names = ["hopper-medium-replay-hb-10k", "hopper-medium-expert-hb-10k", "hopper-medium"]
    assert [weight(name) for name in names] == [0.1, 0.2, 0.1]
    assert [weight(f"walker2d-{x}-hb") for x in ("medium", "medium-expert")] == [0.2, 0.5]
    mazes = ["umaze-hb", "umaze-diverse-hb", "medium-play-hb", "medium-diverse-hb", "large-play-hb"]
    weights = [weight(f"antmaze-{maze}", "antmaze") for maze in mazes]
    assert weights == [0.25, 0.25, 0.05, 0.025, 0.025]
    assert weight("antmaze-medium-noisy-10k", "antmaze") == 0.025


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """200 steps of density and 600 more, 3 seeds: scores above 90, that of the data is 52."""
    config = Config(
        hidden_sizes=(32, 32),
        density_sizes=(32, 32),
        density_steps=200,
        density_rate=3e-3,
        critic_rate=3e-3,
        policy_rate=3e-3,
        target_rate=0.02,
        batch_size=64,
    )
    group = [Member(point(), config, seed) for seed in range(3)]
    trainer = Trainer(METHOD, group, "cpu", steps=800)
    trainer.advance(800)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 800, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 90.0
        assert np.mean(record.successes) >= 0.95
