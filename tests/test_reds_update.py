"""What an update of CQL (ReDS) does to its networks; the equations are in test_reds.py."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from baselines import cql
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.reweighting import bad_action_weights
from baselines.reds import METHOD, Agent, Config
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
from tests.soft_actor_critic_reference import act, terms, value
from tests.toy import point

SMALL = {"critic_sizes": (8, 8), "policy_sizes": (8,), "samples": 3, "orthogonal": False}
FORMS = pytest.mark.parametrize("rho_term", ["lse", "mean", "data"])
B = 8


def make(**changes):
    return Agent([Config(**{**SMALL, **changes})], data_of(), [0])


def clipped_weights(agent, batch, found, config):
    """g of every transition and the advantages, one by one."""
    s, a = batch.observations[0].double(), batch.actions[0].double()
    advantages, g = [], []
    for row in range(B):
        q = [
            value(agent.critics.network, agent.critics.parameters[e, 0], s[[row]], a[[row]]).item()
            for e in (0, 1)
        ]
        advantages.append(min(q) - min(found.q_policy[e][row].item() for e in (0, 1)))
        g.append(np.exp(np.clip(-advantages[-1] / config.tau, -10.0, 5.0)))
    return torch.tensor(advantages).double(), torch.tensor(g).double()


def log_likelihood(agent, psi, batch):
    """(B,) log ρ(a|s) of the dataset's actions."""
    mean, log_std = plain(agent.rho.network.network, psi, batch.observations[0]).chunk(2, -1)
    a = batch.actions[0].double()
    normal = torch.distributions.Normal(mean, log_std.clamp(-5.0, 2.0).exp())
    return (normal.log_prob(torch.atanh(a)) - torch.log(1 - a**2)).sum(-1)


def rho_terms(agent, psi, batch, config, theta, g, q_data):
    """P_ρ by critic, with ρ's parameters as they are after its step, and mean Q of its actions."""
    if config.rho_term == "data":
        return [g * q for q in q_data], None
    s = batch.observations[0].double()
    noise = MemberRandom([0], "rho samples").normal(config.samples, B, 2)[0].double()
    drawn = [act(agent.rho.network.network, psi, s, each, lowest=-5.0) for each in noise]
    found, means = [], []
    for e in (0, 1):
        q = [value(agent.critics.network, theta[e], s, a.detach()) for a, _ in drawn]
        means.append(sum(q) / len(q))
        total = sum(each.exp() / p.detach().exp() for each, (_, p) in zip(q, drawn, strict=True))
        found.append(means[e] if config.rho_term == "mean" else torch.log(torch.as_tensor(total)))
    return found, means


CASES = {
    "plain": {},
    "max backup": {"max_backup": True, "discount": 0.5},
    "constrained": {"gap": 0.7, "penalty": 2.0},
    "clipped": {},
}
DIFF_MIN = {"lse": 2.9, "mean": 1.75, "data": 1.72}
"""Amid the values of diff in the case that is clipped."""


@FORMS
@pytest.mark.parametrize("case", CASES)
def test_the_updates_gradients_are_those_of_the_paper(rho_term, case):
    """Every network moves by its own loss: ρ first, π and Q from what was there before."""
    settings = {**SMALL, "rho_term": rho_term, "tau": 0.2, **CASES[case]}
    if case == "clipped":
        settings["diff_min"] = DIFF_MIN[rho_term]
    agent, batch, config = make(**settings), random_batch(), Config(**settings)
    agent.critics.target.mul_(1.5)  # targets that differ from the critics
    theta, phi = as_double(agent.critics.parameters), as_double(agent.learner.policy.parameters)
    found = terms(agent, batch, config, theta[:, 0], phi[0])
    advantages, g = clipped_weights(agent, batch, found, config)
    assert g.min() < 0.7 < 1.5 < g.max()
    expected = {
        "policy_loss": found.policy_loss.item(),
        "advantage": advantages.mean().item(),
        "weight": g.mean().item(),
        "weight_ess": (g.sum() ** 2 / (g**2).sum()).item(),
        "q_data": torch.stack(found.q_data).mean().item(),
        "q_policy": torch.stack(found.q_policy).mean().item(),
        "q_random": torch.stack(found.q_random).mean().item(),
    }
    if rho_term != "data":
        psi = as_double(agent.rho.network.parameters)
        rho_loss = -(g * log_likelihood(agent, psi[0], batch)).mean()
        expected["rho_loss"] = rho_loss.item()

    before = snapshot(agent)
    metrics = agent.update(batch)
    after = None
    if rho_term != "data":
        assert_gradient(agent.rho.network.optimiser, gradient(rho_loss, psi))
        after = agent.rho.network.parameters.detach()[0]
    pushed_down, q_rho = rho_terms(agent, after, batch, config, theta[:, 0], g, found.q_data)
    critic_loss = sum(found.td)
    for policy_term, rho_part, q_data in zip(
        found.policy_term, pushed_down, found.q_data, strict=True
    ):
        diff = 0.5 * (policy_term + rho_part) - q_data
        if config.diff_min is not None:
            assert 0 < (diff < config.diff_min).sum() < B
            diff = diff.clamp(min=config.diff_min)
        gap = 0.0 if config.gap is None else config.gap
        critic_loss = critic_loss + config.penalty * (diff.mean() - gap)
    expected["loss"] = critic_loss.item()
    if q_rho is not None:
        expected["q_rho"] = torch.stack(q_rho).mean().item()
    for name, number in expected.items():
        assert metrics[name].item() == pytest.approx(number, rel=1e-4, abs=1e-6), name
    assert ("q_rho" in metrics) == ("rho_entropy" in metrics) == (rho_term != "data")
    assert_gradient(agent.critics.optimiser, gradient(critic_loss, theta))
    assert_gradient(agent.learner.policy.optimiser, gradient(found.policy_loss, phi))
    assert moved(agent, before) == {
        "critics.parameters",
        "critics.target",
        "policy.parameters",
        "alpha.logarithm",
        *(["constraint.logarithm"] if config.gap is not None else []),
        *(["rho.parameters"] if rho_term != "data" else []),
    }


def test_fitting_rho_moves_nothing_else():
    agent, batch = make(), random_batch()
    before = snapshot(agent)
    drawn, _ = agent.fit_rho(batch, torch.ones(1, B))
    assert moved(agent, before) == {"rho.parameters"}
    assert not drawn[0].actions.requires_grad
    assert not drawn[0].log_densities.requires_grad


def test_the_data_form_has_no_network_for_rho():
    with_network, without = make().state_dict(), make(rho_term="data").state_dict()
    assert with_network.keys() - without.keys() == {"rho"}


@pytest.mark.parametrize(
    "settings",
    [{}, {"gap": 0.5, "max_backup": True, "diff_min": 3.0}],
    ids=["plain", "constrained"],
)
def test_at_high_tau_it_is_cql_with_half_the_weight(settings):
    """With g = 1 Eq. 8 is half of CQL's penalty: twice w and half the gap do the same."""
    data = data_of()
    plain_config = cql.Config(**SMALL, penalty=2.0, **settings)
    halved = {name: settings[name] / 2 for name in ("gap", "diff_min") if name in settings}
    doubled = dataclasses.replace(plain_config, penalty=4.0, **halved)
    config = Config(**dataclasses.asdict(doubled), tau=1e9, rho_term="data")
    ours, theirs = Agent([config], data, [0]), cql.Agent([plain_config], data, [0])
    assert torch.equal(ours.critics.parameters, theirs.critics.parameters)
    for seed in range(30):
        batch = sampled_batch(data, seed=seed)
        ours.update(batch)
        theirs.update(batch)
    for name in ("critics", "policy"):
        one, two = (getattr(each.learner, name).parameters for each in (ours, theirs))
        torch.testing.assert_close(one, two, rtol=0, atol=2e-5)
    if "gap" in settings:
        one, two = (each.penalty.constraint.value() for each in (ours, theirs))
        torch.testing.assert_close(one, two)


def two_actions():
    """One state in which a bad and a good action were taken equally often; nothing follows."""
    batch = random_batch(rows=32)
    good = torch.arange(32) % 2 == 1
    actions = 0.05 * batch.actions + torch.where(good, 0.5, -0.5)[:, None]
    return batch._replace(
        observations=torch.zeros_like(batch.observations),
        actions=actions,
        rewards=good.float()[None],
        terminations=torch.ones_like(batch.terminations),
    ), good


@pytest.mark.parametrize(
    ("rho_term", "penalty", "tau"), [("lse", 1.0, 0.1), ("mean", 0.5, 0.5), ("data", 0.2, 0.5)]
)
def test_bad_actions_of_the_data_are_pushed_down_more_than_by_cql(rho_term, penalty, tau):
    """The signs of A and of ρ's term: either one wrong raises the bad or lowers the good.

    One run may end either way, as it rounds on this processor: ρ and the critics chase each other.
    """
    settings = {
        **SMALL,
        "critic_sizes": (32, 32),
        "policy_sizes": (32,),
        "critic_rate": 3e-3,
        "policy_rate": 3e-3,
        "samples": 8,
    }
    batch, good = two_actions()
    config = Config(**settings, penalty=penalty, tau=tau, rho_term=rho_term, rho_rate=1e-2)
    plain_config = cql.Config(**settings, penalty=penalty / 2)
    lower, lead, behind = [], [], []
    for seed in range(5):
        agents = Agent([config], data_of(), [seed]), cql.Agent([plain_config], data_of(), [seed])
        for _ in range(300):
            metrics = agents[0].update(batch)
            agents[1].update(batch)
        with_rho, without = (
            agent.critics(batch.observations, batch.actions)[:, 0].mean(0).detach()
            for agent in agents
        )
        lower.append((without[~good].mean() - with_rho[~good].mean()).item())
        ours, theirs = (each[good].mean() - each[~good].mean() for each in (with_rho, without))
        lead.append((ours - theirs).item())
        if rho_term != "data":
            behind.append((metrics["q_data"] - metrics["q_rho"]).item())
    assert np.mean(lower) > 0.03
    assert np.mean(lead) > 0.05
    if rho_term != "data":
        assert np.mean(behind) > 0.0


def test_rho_goes_where_the_bad_actions_are():
    agent = make(policy_sizes=(32,), rho_rate=1e-2)
    batch, good = two_actions()
    weights = bad_action_weights(torch.where(good, 1.0, -1.0)[None], torch.tensor([0.3]))
    entropy = []
    for _ in range(300):
        _, metrics = agent.fit_rho(batch, weights)
        entropy.append(metrics["rho_entropy"].item())
    mean, log_std = agent.rho.heads(batch.observations)
    assert mean[0, 0].tanh().tolist() == pytest.approx([-0.5, -0.5], abs=0.05)
    assert entropy[-1] < entropy[0] - 2.0
    assert (log_std >= -5.0).all()
    actor = agent.rho.gaussian_actor(0)
    actions = actor(batch.observations[0], torch.zeros(32, 2))
    torch.testing.assert_close(actions, mean[0].detach().tanh())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rho_term", "settings"),
    [
        ("lse", {"gap": 1.0, "tau": 1.0}),
        ("mean", {"penalty": 1.0, "tau": 5.0}),
        ("data", {"gap": 0.5, "tau": 5.0}),
    ],
    ids=["lse", "mean", "data"],
)
def test_learns_to_reach_the_point(rho_term, settings):
    """1,200 steps, 2 seeds: scores above 65, that of the data is 52."""
    config = Config(
        critic_sizes=(32, 32),
        policy_sizes=(32, 32),
        batch_size=64,
        policy_rate=1e-3,
        rho_rate=1e-3,
        samples=4,
        max_backup=True,
        rho_term=rho_term,
        **settings,
    )
    group = [Member(point(), config, seed) for seed in range(2)]
    trainer = Trainer(METHOD, group, "cpu")
    trainer.advance(1200)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1200, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 65.0
        assert np.isfinite(record.returns).all()
