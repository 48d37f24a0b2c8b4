"""What an update of CQL (ReDS) does to its networks; the equations are in test_reds_discrete.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import cql_discrete as cql
from baselines.engine.data import Batch, MemberData
from baselines.engine.random import MemberRandom
from baselines.parts.discrete import taken, weighted_likelihood_loss
from baselines.parts.reweighting import bad_action_weights
from baselines.parts.soft_q import td_loss
from baselines.reds_discrete import (
    METHOD,
    Agent,
    Config,
    policy_advantages,
    rho_log_sum_exp,
    rho_mean,
    support_penalty,
)
from tests.toy import CELLS, corridor

FORMS = pytest.mark.parametrize("rho_term", ["mean", "lse", "data"])


def make(configs=None, **dataset):
    configs = configs or [Config()]
    data = MemberData([corridor(**dataset)] * len(configs))
    return data, Agent(configs, data, range(len(configs)))


def whole_loss(agent, batch, uniform):
    """Eq. 7 and Eq. 9 written out once more, in float64 and without the engine's arithmetic.

    The update's ρ is already that of after its step when Q's loss is taken.
    """
    results = []
    for member in range(len(agent.alpha)):
        settings = {
            name: getattr(agent.q, name)[member].item()
            for name in ("temperature", "discount", "reward_scale")
        }
        temperature = settings["temperature"]

        def outputs(parameters, observations, member=member):
            with torch.no_grad():
                return agent.q.network(
                    parameters[[member]].double(), observations[[member]].double()
                )[0].numpy()

        def softmax(x):
            x = np.exp(x - x.max(-1, keepdims=True))
            return x / x.sum(-1, keepdims=True)

        q = outputs(agent.q.critic, batch.observations)
        rows, actions = np.arange(len(q)), batch.actions[member].numpy()
        next_policy = softmax(outputs(agent.q.critic, batch.next_observations) / temperature)
        bootstrap = (next_policy * outputs(agent.q.target, batch.next_observations)).sum(-1)
        live = ~batch.terminations[member].numpy()
        rewards = settings["reward_scale"] * batch.rewards[member].double().numpy()
        td = 0.5 * ((q[rows, actions] - rewards - settings["discount"] * live * bootstrap) ** 2)

        advantages = q[rows, actions] - (softmax(q / temperature) * q).sum(-1)
        g = np.exp(np.clip(-advantages / agent.tau[member].item(), -10, 5))

        def rho_values(member=member, q=q, temperature=temperature, rows=rows):
            rho = softmax(outputs(agent.rho.parameters, batch.observations, member))
            if agent.rho_term == "mean":
                return (rho * q).sum(-1)
            edges = rho.cumsum(-1)[:, None, :-1]
            samples = (uniform[member].double().numpy()[..., None] >= edges).sum(-1)
            terms = np.exp(q[rows[:, None], samples] / temperature) / rho[rows[:, None], samples]
            return temperature * np.log(terms.mean(-1))

        soft = temperature * np.log(np.exp(q / temperature).sum(-1))
        results.append((td, soft, g, q[rows, actions], rho_values))
    return results


@FORMS
def test_the_updates_loss_is_equation_9(rho_term):
    shared = {"rho_term": rho_term, "rho_samples": 3}
    configs = [
        Config(alpha=0.1, tau=0.5, temperature=0.5, discount=0.9, **shared),
        Config(alpha=2.0, tau=0.1, temperature=0.2, discount=0.5, reward_scale=7.0, **shared),
    ]
    data, agent = make(configs, probabilities=(0.2, 0.1, 0.7))
    agent.q.target.copy_(1.5 * agent.q.critic.detach())
    batch = data.sample(MemberRandom([0, 1], "batches"), 32)
    uniform = MemberRandom([0, 1], "rho samples").uniform(32, 3)
    terms = whole_loss(agent, batch, uniform)
    metrics = agent.update(batch)
    for member, (td, soft, g, q_taken, rho_values) in enumerate(terms):
        pushed_down = g * q_taken if rho_term == "data" else rho_values()
        penalty = 0.5 * (soft + pushed_down) - q_taken
        expected = {
            "loss": td.mean() + configs[member].alpha * penalty.mean(),
            "td_loss": td.mean(),
            "penalty": penalty.mean(),
            "weight": g.mean(),
            "weight_ess": g.sum() ** 2 / (g**2).sum(),
        }
        for name, value in expected.items():
            assert metrics[name][member].item() == pytest.approx(value, rel=2e-4), name
    assert ("rho_loss" in metrics) == (rho_term != "data")


@FORMS
def test_one_update_moves_each_network_by_its_own_gradient(rho_term):
    """ρ by Eq. 7 with Q held fixed, then Q by Eq. 9 with the new ρ, the weights and the target."""
    config = Config(rho_term=rho_term, tau=0.5, temperature=0.5, alpha=0.5, target_rate=0.1)
    data, agent = make([config])
    batch = data.sample(MemberRandom([0], "batches"), 32)
    critic, target = agent.q.critic.detach().clone(), agent.q.target.clone()
    targets = agent.q.targets(batch)
    assert not targets.requires_grad
    theta = critic.clone().requires_grad_()
    q = agent.q.network(theta, batch.observations)
    advantages = policy_advantages(q.detach(), batch.actions, agent.q.temperature)
    weights = bad_action_weights(advantages, agent.tau)
    if agent.rho is not None:
        psi = agent.rho.parameters.detach().clone()
        logits = agent.q.network(psi.requires_grad_(), batch.observations)
        rho_loss = weighted_likelihood_loss(logits, batch.actions, weights)
        (rho_gradient,) = torch.autograd.grad(rho_loss.sum(), psi)

    metrics = agent.update(batch)
    rho_values = weights * taken(q, batch.actions)
    if agent.rho is not None:
        torch.testing.assert_close(metrics["rho_loss"], rho_loss.detach())
        torch.testing.assert_close(
            10 * agent.rho.optimiser.first_moment, rho_gradient, rtol=1e-4, atol=1e-7
        )
        step = agent.rho.parameters.detach() - psi.detach()
        assert step.abs().max().item() == pytest.approx(1e-3, rel=1e-2)
        log_rho = agent.rho.log_probabilities(batch.observations)
        uniform = MemberRandom([0], "rho samples").uniform(32, 4)
        rho_values = {
            "mean": lambda: rho_mean(q, log_rho),
            "lse": lambda: rho_log_sum_exp(q, log_rho, agent.q.temperature, uniform),
        }[rho_term]()
    penalty = support_penalty(q, batch.actions, agent.q.temperature, rho_values)
    loss = td_loss(taken(q, batch.actions), targets) + 0.5 * penalty
    (gradient,) = torch.autograd.grad(loss.sum(), theta)
    torch.testing.assert_close(10 * agent.q.optimiser.first_moment, gradient, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(agent.q.target, 0.9 * target + 0.1 * agent.q.critic.detach())
    assert not torch.equal(agent.q.critic, critic)


def test_the_data_form_has_no_network_for_rho():
    _, with_network = make([Config(rho_term="mean")])
    _, without = make([Config(rho_term="data")])
    assert with_network.state_dict().keys() - without.state_dict().keys() == {"rho"}


def test_at_high_tau_it_is_cql_with_half_of_alpha():
    """With g = 1 Eq. 8 is CQL's penalty at half the weight: α of ReDS = 2 α of CQL."""
    reds_config = Config(alpha=0.06, tau=1e9, rho_term="data", temperature=0.1)
    cql_config = cql.Config(alpha=0.03, temperature=0.1)
    data = MemberData([corridor()])
    ours, theirs = Agent([reds_config], data, [0]), cql.Agent([cql_config], data, [0])
    assert torch.equal(ours.q.critic, theirs.q.critic)
    first, second = MemberRandom([0], "batches"), MemberRandom([0], "batches")
    for _ in range(50):
        ours.update(data.sample(first, 64))
        theirs.update(data.sample(second, 64))
    torch.testing.assert_close(ours.q.critic, theirs.q.critic, rtol=0, atol=1e-5)


def test_signs():
    """Among equally frequent actions the worse is pushed down, against what CQL does."""
    observations = torch.eye(CELLS)[None, [1, 1]]
    batch = Batch(
        observations=observations,
        actions=torch.tensor([[0, 2]]),
        rewards=torch.tensor([[0.0, 1.0]]),
        next_observations=observations,
        terminations=torch.ones(1, 2, dtype=torch.bool),
        truncations=torch.zeros(1, 2, dtype=torch.bool),
        next_actions=torch.zeros(1, 2, dtype=torch.int64),
        has_next=torch.zeros(1, 2, dtype=torch.bool),
        row=torch.arange(2)[None],
    )
    settings = {"temperature": 0.2, "learning_rate": 0.01}
    values = {}
    for rho_term in ("mean", "data"):
        _, agent = make([Config(**settings, alpha=0.2, tau=0.5, rho_term=rho_term)])
        for _ in range(300):
            agent.update(batch)
        values[rho_term] = agent.q(observations)[0, 0].detach()
        if agent.rho is not None:
            rho = agent.rho.log_probabilities(observations)[0, 0].exp()
            assert rho[0] > 0.8 > rho[2] > rho[1]  # bad, good, never taken
    data = MemberData([corridor()])
    plain = cql.Agent([cql.Config(**settings, alpha=0.1)], data, [0])
    for _ in range(300):
        plain.update(batch)
    without_rho = plain.q(observations)[0, 0].detach()
    for with_rho in values.values():
        assert with_rho[0] < without_rho[0] - 0.05
    assert values["mean"][2] > without_rho[2] + 0.02


@FORMS
def test_learns_to_reach_the_goal_where_the_behaviour_policy_mostly_walks_away(rho_term):
    config = Config(
        rho_term=rho_term, alpha=0.003, tau=0.1, temperature=0.01, discount=0.9, target_rate=0.02
    )
    data, agent = make([config] * 2, probabilities=(0.6, 0.1, 0.3))
    batches = MemberRandom([0, 1], "batches")
    for _ in range(1_000):
        agent.update(data.sample(batches, 64))
    q = agent.q(torch.eye(CELLS).expand(2, -1, -1))
    assert (q.argmax(-1)[:, :6] == 2).all()


def test_method_is_declared():
    assert (METHOD.name, METHOD.config, METHOD.agent) == ("reds", Config, Agent)
