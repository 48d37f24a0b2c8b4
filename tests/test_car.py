from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines import car_g, spot
from baselines.car import METHOD, THRESHOLD_ROWS, Agent, Config, in_support
from baselines.engine.checkpoint import flatten, restore
from baselines.engine.data import MemberData
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.export import write_policy
from baselines.parts.quantiles import quantile
from tests.continuous import (
    as_double,
    assert_gradient,
    data_of,
    gradient,
    moved,
    plain,
    sampled_batch,
    snapshot,
)
from tests.toy import point

SMALL = Config(hidden_sizes=(8, 8), density_sizes=(8, 8), warmup_steps=3, dropout=0.0, batch_size=8)
EVERYTHING = 1e9


def make(*configs):
    configs = configs or (SMALL,)
    data = data_of(len(configs))
    return data, Agent(configs, data, range(len(configs)))


def trained(steps, *configs, method=METHOD):
    group = [Member(point(), config, seed) for seed, config in enumerate(configs or (SMALL,))]
    trainer = Trainer(method, group, "cpu", steps=100)
    trainer.advance(steps)
    return trainer


def test_quantile_by_hand():
    energies = torch.tensor([[3.0, 1.0, 4.0, 2.0], [8.0, 7.0, 6.0, 5.0]])
    for share, expected in {
        0.0: [1, 5],
        0.25: [1, 5],
        0.5: [2, 6],
        0.6: [3, 7],
        1.0: [4, 8],
    }.items():
        assert quantile(energies, torch.tensor([share, share])).tolist() == expected
        assert quantile(energies, share).tolist() == expected
    assert quantile(energies, torch.tensor([0.5, 1.0])).tolist() == [2, 8]


def test_actions_at_the_threshold_are_in_support():
    energies = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    marks = in_support(energies, torch.tensor([0.2, -1.0]))
    assert marks.tolist() == [[True, True, False], [False, False, False]]


def test_phases():
    _, agent = make()
    phases = [agent.phase(step) for step in range(6)]
    assert [phase.warm_up for phase in phases] == [True, True, True, False, False, False]
    assert [phase.start for phase in phases] == [False, False, False, True, False, False]
    assert [phase.policy for phase in phases] == [False, True, False, True, False, True]
    assert [phase.propose for phase in phases] == [False, False, False, True, False, True]
    assert [str(phase) for phase in phases[2:5]] == [
        "β, critics",
        "threshold, critics, policy, mix",
        "critics",
    ]
    _, agent = make(replace(SMALL, propose_always=True))
    assert [agent.phase(step).propose for step in range(5)] == [False, False, False, True, True]


def test_a_run_that_ends_in_the_warm_up_is_refused():
    data = MemberData([point()], steps=3)
    with pytest.raises(ValueError, match="warmup_steps is 3 and the run has 3 updates; take more"):
        Agent([SMALL], data, [0])


@pytest.mark.parametrize("density", ["vae", "gaussian"])
def test_updates_move_what_they_should(density):
    config = replace(SMALL, density=density, threshold=EVERYTHING, propose_always=True)
    data, agent = make(config)
    batch = sampled_batch(data, rows=8)
    critics, policy = {"critics.parameters"}, {"policy.parameters"}
    targets = {"critics.target", "policy.target"}
    mix = {"mix.parameters", "accepted.rows", "accepted.actions", "accepted.accepted"}
    expected = [
        critics | {"behaviour.parameters"},
        critics | policy | targets | {"behaviour.parameters"},
        critics | {"behaviour.parameters"},
        critics | policy | targets | mix,
        critics | mix,
        critics | policy | targets | mix,
    ]
    for step, names in enumerate(expected):
        before = snapshot(agent)
        metrics = agent.update(batch, agent.phase(step))
        assert moved(agent, before) == names, step
        assert metrics["loss"].shape == (1,)
        assert not any(value.requires_grad for value in metrics.values())


def test_mix_starts_from_the_frozen_behaviour():
    agent = trained(4, replace(SMALL, mix_rate=0.0)).agent
    assert torch.equal(agent.mix.parameters, agent.behaviour.parameters)
    assert agent.mix.optimiser.steps == 1
    assert agent.behaviour.optimiser.steps == 3
    assert not torch.equal(agent.mix.parameters, make()[1].mix.parameters)


def written_out_energies(vae, theta, member, states, actions, noise):
    """E(s, a) in float64, with the energy's formula written once more."""
    theta = theta[member]
    encoder, decoder = theta.split([vae.encoder.num_parameters, vae.decoder.num_parameters])
    encoded = plain(vae.encoder, encoder, torch.cat([states, actions], -1))
    mean, log_std = encoded.chunk(2, -1)
    z = mean + log_std.clamp(-4, 15).exp() * noise[member].double()
    guess = plain(vae.decoder, decoder, torch.cat([states, z], -1)).tanh()
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
    return ((guess - actions) ** 2).mean(-1) + 0.5 * kl.mean(-1)


@pytest.mark.parametrize("warm_up", [True, False])
def test_the_policys_reference_is_the_behaviour_in_the_warm_up_and_mix_later(warm_up):
    weights = (0.1, 3.0)
    configs = (replace(SMALL, density_weight=weight, mix_rate=0.0) for weight in weights)
    data, agent = make(*configs)
    agent.mix.parameters.data.mul_(1.5)
    batch = sampled_batch(data, rows=8)
    noise = MemberRandom([0, 1], "latents of policy").normal(8, 4)
    td3, reference = agent.td3, agent.behaviour if warm_up else agent.mix
    phi, total = as_double(td3.policy.parameters), 0.0
    # Critics, and in the warm-up β, have taken their step when the policy takes its own.
    agent.update(batch, agent.phase(1 if warm_up else 5))
    for member, weight in enumerate(weights):
        states = batch.observations[member].double()
        actions = plain(td3.policy.network, phi[member], states).tanh()
        critic = td3.critics.parameters[0, member].detach()
        q = plain(td3.critics.network, critic, torch.cat([states, actions], -1))
        theta = reference.parameters.detach().double()
        energies = written_out_energies(reference, theta, member, states, actions, noise)
        total = total - q.mean() / q.detach().abs().mean() + weight * energies.mean()
    assert_gradient(td3.policy.optimiser, gradient(total, phi))


def test_mix_is_fitted_to_data_and_accepted_pairs():
    data, agent = make(replace(SMALL, ring_factor=0.1), SMALL)
    rows = data.offsets[:, None] + torch.arange(8)
    odd = torch.full((2, 8, 2), 0.123)
    for _ in range(20):
        agent.accepted.append(rows, odd, torch.ones(2, 8, dtype=torch.bool))
    pairs = agent.accepted.sample_union(MemberRandom([0, 1], "union"), 64)
    share = (agent.accepted.sizes / (agent.accepted.sizes + data.sizes)).tolist()
    assert pairs.from_ring.float().mean(-1).tolist() == pytest.approx(share, abs=0.1)
    noise = MemberRandom([0, 1], "latents of mix").normal(64, 4)
    theta, total = as_double(agent.mix.parameters), 0.0
    metrics = agent._fit_mix(64)
    for member in range(2):
        states, actions = pairs.observations[member].double(), pairs.actions[member].double()
        energies = written_out_energies(agent.mix, theta, member, states, actions, noise)
        total = total + energies.mean()
        assert metrics["energy_union"][member].item() == pytest.approx(energies.mean().item())
    assert_gradient(agent.mix.optimiser, gradient(total, theta))
    assert torch.equal(metrics["from_ring"], pairs.from_ring.float().mean(-1))


def history(trainer, steps):
    """The batches, proposals and marks of the policy's updates, as the agent saw them."""
    seen = []
    append = trainer.agent.accepted.append
    trainer.agent.accepted.append = lambda *batch: (seen.append(batch), append(*batch))
    trainer.advance(steps)
    return seen


@pytest.mark.parametrize("at_mean", [False, True])
def test_stored_pairs_verify_again_with_the_noise_they_were_verified_with(at_mean):
    thresholds = (0.07, 0.11)
    configs = [replace(SMALL, threshold=each, verify_at_mean=at_mean) for each in thresholds]
    trainer = trained(3, *configs)
    seen, agent = history(trainer, 20), trainer.agent
    noise = MemberRandom([0, 1], "latents of verifier")
    theta = agent.behaviour.parameters.detach().double()
    stored = [[], []]
    for rows, actions, marks in seen:
        draw = noise.normal(8, 4) * (not at_mean)
        for member, threshold in enumerate(thresholds):
            states = trainer.data.rows.observations[rows[member]].double()
            energies = written_out_energies(
                agent.behaviour, theta, member, states, actions[member].double(), draw
            )
            assert ((energies <= threshold) == marks[member]).all()
            stored[member] += actions[member][marks[member]].tolist()
    ring = agent.accepted
    assert 0 < ring.sizes[0] < ring.sizes[1] < 80
    for member in range(2):
        assert ring.actions[member, : ring.sizes[member]].tolist() == stored[member]


def test_proposals_are_the_policys_actions_before_its_step():
    trainer = trained(3, replace(SMALL, threshold=EVERYTHING))
    phi = trainer.agent.td3.policy.parameters.detach().clone()
    ((rows, actions, _),) = history(trainer, 1)
    states = trainer.data.rows.observations[rows[0]]
    expected = plain(trainer.agent.td3.policy.network, phi[0], states).tanh()
    torch.testing.assert_close(actions[0].double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(trainer.agent.td3.policy.parameters, phi)


class JointWarmUp(spot.Agent):
    """SPOT whose density is fitted while critics and policy learn, as CAR's warm-up has it."""

    def phase(self, step):
        return step < self.density_steps, self.td3.moves_policy(step + 1)

    def update(self, batch, phase):
        warm_up, policy = phase
        if warm_up:
            self._update_density(batch)
        return super().update(batch, "critics and policy" if policy else "critics")


def from_spot(config):
    names = spot.Config.__dataclass_fields__.keys() & Config.__dataclass_fields__.keys()
    return spot.Config(
        density_steps=config.warmup_steps,
        density_rate=config.behaviour_rate,
        **{name: getattr(config, name) for name in names},
    )


@pytest.mark.parametrize(("threshold", "mix_rate", "equal"), [(-1.0, 0.0, 1), (-1.0, 1e-3, 0)])
def test_where_nothing_is_accepted_and_mix_does_not_move_it_is_spot(threshold, mix_rate, equal):
    config = replace(SMALL, threshold=threshold, mix_rate=mix_rate, dropout=0.1, warmup_steps=10)
    ours = trained(30, config, replace(config, density_weight=2.0))
    reference = replace(spot.METHOD, agent=JointWarmUp)
    configs = [from_spot(config), from_spot(replace(config, density_weight=2.0))]
    theirs = trained(30, *configs, method=reference)
    assert not ours.agent.accepted.sizes.any()
    for name in ("policy", "critics"):
        mine, other = (dict(flatten(each.agent.td3.state_dict()[name])) for each in (ours, theirs))
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[key], other[key]) for key in mine) == equal
    assert torch.equal(ours.agent.behaviour.parameters, theirs.agent.density.parameters)


def test_a_threshold_may_follow_from_the_data():
    config = replace(SMALL, warmup_steps=50, behaviour_rate=1e-2, threshold_quantile=0.75)
    configs = [config, replace(config, threshold=0.3), replace(config, threshold_quantile=0.25)]
    agent = trained(50, *configs).agent
    assert agent.threshold.tolist() == pytest.approx([-np.inf, 0.3, -np.inf])
    trainer = trained(51, *configs)
    agent, data = trainer.agent, trainer.data
    threshold = agent.threshold.tolist()
    assert threshold[1] == pytest.approx(0.3)
    batch = data.sample(MemberRandom([7, 8, 9], "others"), THRESHOLD_ROWS)
    energies = agent.verify(batch.observations, batch.actions, MemberRandom([7, 8, 9], "noise"))
    accepted = in_support(energies, agent.threshold).float().mean(-1).tolist()
    assert accepted[0] == pytest.approx(0.75, abs=0.05)
    assert accepted[2] == pytest.approx(0.25, abs=0.05)


def test_a_member_that_is_switched_off_accepts_nothing():
    data, agent = make(*2 * [replace(SMALL, threshold=int(EVERYTHING))])
    agent.active[1] = False
    agent.update(sampled_batch(data, rows=8), agent.phase(3))
    assert agent.accepted.sizes.tolist() == [8, 0]


def test_metrics_say_what_is_accepted_and_used():
    config = replace(SMALL, threshold=EVERYTHING, ring_factor=1.0)
    trainer = trained(3, config, replace(config, threshold=-1.0))
    trainer.take_metrics()
    trainer.advance(2)
    size = int(trainer.data.sizes[0])
    metrics = trainer.take_metrics()
    assert metrics["acceptance"] == [1.0, 0.0]
    assert metrics["ring"] == pytest.approx([8 / size, 0.0])
    assert metrics["from_ring"][1] == 0.0
    low, high, top = (metrics[f"energy_behaviour{x}"][0] for x in ("", "_95", "_max"))
    assert low < high <= top


@pytest.mark.parametrize("density", ["vae", "gaussian"])
@pytest.mark.parametrize("saved_at", [5, 10, 15])
def test_a_run_resumes_across_the_end_of_the_warm_up(saved_at, density):
    config = replace(SMALL, warmup_steps=10, density=density, dropout=0.1)
    straight, resumed = trained(saved_at, config), trained(0, config)
    saved = {name: tensor.clone() for name, tensor in flatten(straight.state_dict())}
    restore(resumed.state_dict(), saved)
    for trainer in (straight, resumed):
        trainer.advance(20)
    assert straight.agent.accepted.sizes > 0
    theirs = dict(flatten(resumed.state_dict()))
    for name, tensor in flatten(straight.state_dict()):
        assert torch.equal(theirs[name], tensor), name


def test_the_references_are_policies():
    agent = trained(6, replace(SMALL, threshold=EVERYTHING, mix_rate=1e-2)).agent
    actors = agent.reference_actors(0)
    assert list(actors) == ["behaviour", "mix"]
    for name, density in (("behaviour", agent.behaviour), ("mix", agent.mix)):
        expected = density.actor(0)
        assert actors[name].noise_size == 4
        assert torch.equal(actors[name].parameters, expected.parameters)
    assert not torch.equal(actors["mix"].parameters, actors["behaviour"].parameters)


@pytest.mark.parametrize("density", ["vae", "gaussian"])
def test_a_reference_can_be_exported(density, tmp_path):
    actor = trained(6, replace(SMALL, density=density)).agent.reference_actors(0)["mix"]
    assert write_policy(actor, point(), tmp_path / "mix.onnx", {}).value <= 1e-5


def test_overrides():
    def config(name, family="locomotion", method=METHOD):
        return method.config_for(point(name, family=family).spec)

    assert config("walker2d-medium-expert-hb").density_weight == 0.5
    maze = config("antmaze-umaze-hb", "antmaze")
    assert (maze.density_weight, maze.reward_shift, maze.policy_rate) == (0.25, -1.0, 1e-3)
    assert (maze.small_outputs, maze.normalise_observations, maze.dropout) == (True, False, 0.0)
    gaussian = config("antmaze-umaze-hb", "antmaze", car_g.METHOD)
    assert (gaussian.density, gaussian.density_weight) == ("gaussian", 0.25)
    assert config("hopper-medium-hb").density == "vae"


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """200 steps of warm-up and 600 more, 3 seeds: scores above 90, that of the data is 52.

    Its reference policy is better than the behaviour policy's model (Table 3).
    """
    config = Config(
        hidden_sizes=(32, 32),
        density_sizes=(32, 32),
        warmup_steps=200,
        behaviour_rate=3e-3,
        mix_rate=1e-3,
        critic_rate=3e-3,
        policy_rate=3e-3,
        target_rate=0.02,
        batch_size=64,
    )
    group = [Member(point(), config, seed) for seed in range(3)]
    trainer = Trainer(METHOD, group, "cpu", steps=800)
    trainer.advance(800)
    for number, member in enumerate(group):
        references = trainer.agent.reference_actors(number)
        actors = {"policy": trainer.agent.actor(number), **references}
        records = {name: evaluate_member(member, each, 800, 20) for name, each in actors.items()}
        scores = {
            name: member.dataset.spec.normalized_score(record.returns).mean()
            for name, record in records.items()
        }
        assert scores["policy"] > 90.0
        assert np.mean(records["policy"].successes) >= 0.95
        assert scores["mix"] > scores["behaviour"] + 10.0
