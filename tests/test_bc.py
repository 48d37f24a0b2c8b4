from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import bc10
from baselines.bc import (
    LOG_STD_RANGE,
    METHOD,
    Agent,
    Config,
    negative_log_likelihood,
    squared_distance,
)
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from baselines.parts import gaussian
from baselines.parts.policies import DeterministicActor, GaussianActor
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


def test_squared_distance_by_hand():
    outputs = torch.tensor([[[0.0, 100.0]]])  # actions 0 and 1
    assert squared_distance(outputs, torch.tensor([[[0.5, -1.0]]])).tolist() == [(0.25 + 4.0) / 2]


def test_likelihood_by_hand():
    """At u = 0 the slope of tanh is one: a standard normal's density there, in two dimensions."""
    loss = negative_log_likelihood(torch.zeros(1, 3, 4), torch.zeros(1, 3, 2))
    assert loss.tolist() == pytest.approx([np.log(2 * np.pi)])


def test_gradients_against_finite_differences():
    batch = random_batch(2)
    outputs = torch.randn(2, 8, 4, dtype=torch.float64, requires_grad=True)
    actions = batch.actions.double()
    assert torch.autograd.gradcheck(lambda x: negative_log_likelihood(x, actions), (outputs,))
    assert torch.autograd.gradcheck(lambda x: squared_distance(x[..., :2], actions), (outputs,))


@pytest.mark.parametrize("head", ["deterministic", "gaussian"])
def test_an_update_goes_down_the_gradient_and_moves_the_policy_alone(head):
    agent, batch = Agent([Config(head=head, **SMALL)], data_of(), [0]), random_batch()
    theta = as_double(agent.policy.parameters)
    outputs = plain(agent.policy.network, theta[0], batch.observations[0])
    actions = batch.actions[0].double()
    if head == "deterministic":
        loss = ((outputs.tanh() - actions) ** 2).mean()
    else:
        base = torch.distributions.Normal(outputs[:, :2], outputs[:, 2:].clamp(-5, 2).exp())
        squash = torch.distributions.TanhTransform()
        loss = -torch.distributions.TransformedDistribution(base, squash).log_prob(actions)
        loss = loss.sum(-1).mean()
    before = snapshot(agent)
    reported = agent.update(batch)["loss"]
    assert reported.item() == pytest.approx(loss.item(), rel=1e-5)
    assert_gradient(agent.policy.optimiser, gradient(loss, theta))
    assert moved(agent, before) == {"policy.parameters"}
    for _ in range(10):
        last = agent.update(batch)["loss"]
    assert last < reported


def test_a_gaussian_actor_samples_what_was_learned():
    agent = Agent([Config(head="gaussian", **SMALL)], data_of(), [0])
    observations = torch.tensor([[0.3, -0.2]]).expand(20_000, -1)
    actor = agent.actor(0)
    assert isinstance(actor, GaussianActor)
    assert actor.noise_size == 2
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = actor(observations, noise).atanh()
        seen = actor.frame.observe(observations[:1])
        outputs = plain(agent.policy.network, agent.policy.parameters[0], seen)
    mean, log_std = gaussian.split_heads(outputs.float(), *LOG_STD_RANGE)
    torch.testing.assert_close(drawn.mean(0), mean[0], rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(0), log_std[0].exp(), rtol=0.05, atol=0)
    greedy = Agent([Config(head="gaussian", greedy=True, **SMALL)], data_of(), [0]).actor(0)
    assert isinstance(greedy, DeterministicActor)
    with torch.no_grad():
        action = greedy(observations[:1], torch.empty(1, 0))
    torch.testing.assert_close(action, mean.tanh(), rtol=1e-5, atol=1e-6)


def test_actors_take_an_environments_observations_and_give_its_actions():
    """Normalised in training, so normalised in evaluation; [-1, 1] is mapped to the bounds."""
    wide = point(action={"shape": [2], "dtype": "float32", "low": -2.0, "high": 6.0})
    trainer = Trainer(METHOD, [Member(wide, Config(**SMALL), 0)], "cpu")
    inputs = wide.transitions.observations[:10]
    actor = trainer.agent.actor(0)
    with torch.no_grad():
        actions = actor(torch.from_numpy(inputs), torch.empty(10, 0))
        seen = trainer.data.rows.observations[:10]
        outputs = plain(actor.network, actor.parameters[0], seen)
    mean, std = wide.transitions.observations.mean(0), wide.transitions.observations.std(0)
    np.testing.assert_allclose(seen, (inputs - mean) / (std + 1e-3), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actions.double(), 2.0 + 4.0 * outputs.tanh(), rtol=1e-5, atol=1e-5)


def test_ten_percent_bc_is_bc_on_the_best_trajectories():
    dataset = point()
    config = bc10.METHOD.config_for(dataset.spec)
    assert config == Config(best_fraction=0.1)
    trainer = Trainer(bc10.METHOD, [Member(dataset, config, 0)], "cpu")
    returns = np.bincount(dataset.arrays.episode_ids, weights=dataset.arrays.rewards)
    lengths = np.bincount(dataset.arrays.episode_ids)
    kept = len(trainer.data.rows.rewards)
    best = np.argsort(-returns)
    enough = int(np.searchsorted(np.cumsum(lengths[best]), 0.1 * len(dataset))) + 1
    assert kept == lengths[best[:enough]].sum()
    assert trainer.data.rows.rewards.sum().item() == pytest.approx(
        returns[best[:enough]].sum(), rel=1e-5
    )


def test_clones_the_behaviour_policys_mean():
    """Half-noise data, 600 steps: the direction to the origin times the behaviour's skill."""
    dataset = point(skill=0.5, noise=0.1, episodes=100)
    config = Config(hidden_sizes=(32, 32), batch_size=64, learning_rate=3e-3)
    member = Member(dataset, config, 0)
    trainer = Trainer(METHOD, [member], "cpu")
    trainer.advance(600)
    places = torch.tensor([[0.6, 0.0], [0.0, -0.5], [-0.4, 0.4]])
    with torch.no_grad():
        actions = trainer.agent.actor(0)(places, torch.empty(3, 0))
    expected = -0.5 * places / places.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(actions, expected, rtol=0, atol=0.12)
    record = evaluate_member(member, trainer.agent.actor(0), 600, 10)
    assert np.mean(record.successes) == 1.0
