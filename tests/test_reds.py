from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines import cql
from baselines.discrete import boltzmann, soft_maximum, taken, weighted_likelihood_loss
from baselines.engine.data import Batch, MemberData
from baselines.engine.random import MemberRandom
from baselines.reds import (
    METHOD,
    Agent,
    Config,
    bad_action_weights,
    policy_advantages,
    rho_log_sum_exp,
    rho_mean,
    support_penalty,
)
from baselines.soft_q import td_loss
from tests.toy import CELLS, corridor

FORMS = pytest.mark.parametrize("rho_term", ["mean", "lse", "data"])
DOUBLE = torch.float64


def make(configs=None, **dataset):
    configs = configs or [Config()]
    data = MemberData([corridor(**dataset)] * len(configs))
    return data, Agent(configs, data, range(len(configs)))


def random_case(seed=0, batch=3, actions=4):
    """Action values, actions, log ρ, uniform numbers and temperatures of two members."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(2, batch, actions, generator=generator, dtype=DOUBLE)
    taken_actions = torch.randint(actions, (2, batch), generator=generator)
    log_rho = torch.randn(2, batch, actions, generator=generator, dtype=DOUBLE).log_softmax(-1)
    uniform = torch.rand(2, batch, 5, generator=generator, dtype=DOUBLE)
    return q, taken_actions, log_rho, uniform, torch.tensor([0.3, 2.0], dtype=DOUBLE)


# Eq. 6 and 7: which actions are bad, and how much they weigh


def test_advantages_and_weights_of_two_samples_by_hand():
    # π of (0, log 3) at T = 1 is (1/4, 3/4), so E_π[Q] = 3/4 log 3.
    q = torch.tensor([[[0.0, math.log(3)], [2.0, 2.0]]])
    advantages = policy_advantages(q, torch.tensor([[0, 1]]), torch.tensor([1.0]))
    assert advantages[0].tolist() == pytest.approx([-0.75 * math.log(3), 0.0], abs=1e-6)
    weights = bad_action_weights(advantages, torch.tensor([0.5]))
    assert weights[0].tolist() == pytest.approx([3**1.5, 1.0], rel=1e-6)  # bad actions weigh more


def test_weights_are_decreasing_and_clipped():
    advantages = torch.linspace(-50, 50, 101)[None]
    weights = bad_action_weights(advantages, torch.tensor([2.0]))
    assert (weights.diff() <= 0).all()
    assert weights.max().item() == pytest.approx(math.exp(5))  # Eq. 52, not the listing's e^10
    assert weights.min().item() == pytest.approx(math.exp(-10))
    assert weights[0, 50] == 1.0


def test_weights_become_one_at_high_temperature():
    weights = bad_action_weights(torch.randn(1, 50), torch.tensor([1e6]))
    torch.testing.assert_close(weights, torch.ones(1, 50), atol=1e-5, rtol=0)


def test_a_tabular_rho_is_the_behaviour_policy_reweighted():
    actions = torch.tensor([[0, 0, 0, 0, 1, 1, 2]])
    q = torch.tensor([0.5, 0.0, -0.2], dtype=DOUBLE)
    rows, temperature = q.expand(1, 7, 3), torch.tensor([0.5], dtype=DOUBLE)
    weights = bad_action_weights(policy_advantages(rows, actions, temperature), temperature)
    optimum = torch.zeros(3, dtype=DOUBLE).index_add(0, actions[0], weights[0])
    logits = (optimum / optimum.sum()).log().requires_grad_()
    loss = weighted_likelihood_loss(logits.expand(1, 7, 3), actions, weights)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=DOUBLE), rtol=0, atol=1e-12)
    behaviour = torch.tensor([4.0, 2.0, 1.0], dtype=DOUBLE) / 7
    g = torch.exp(-(q - (boltzmann(rows[:, :1], temperature)[0, 0] * q).sum()) / 0.5)
    torch.testing.assert_close(optimum / optimum.sum(), behaviour * g / (behaviour * g).sum())


# Eq. 8: the forms of E_ρ[Q], and the penalty


def test_penalty_of_two_samples_by_hand():
    # T log Σ exp(Q/T) of (0, 0) is T log 2, of (0, T log 3) it is T log 4.
    T = 0.5
    q = torch.tensor([[[0.0, 0.0], [0.0, T * math.log(3)]]])
    rho = torch.tensor([[[0.1, 0.9], [0.8, 0.2]]])
    values = rho_mean(q, rho.log())
    assert values[0].tolist() == pytest.approx([0.0, 0.2 * T * math.log(3)])
    penalty = support_penalty(q, torch.tensor([[0, 1]]), torch.tensor([T]), values)
    first = 0.5 * (T * math.log(2) + 0.0) - 0.0
    second = 0.5 * (T * math.log(4) + 0.2 * T * math.log(3)) - T * math.log(3)
    assert penalty.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_log_sum_exp_of_two_samples_by_hand():
    # Samples 1 and 0 of ρ = (1/4, 3/4): T log ½ (e^(1/T) / ¾ + e^0 / ¼).
    T, q, rho = 0.5, torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.25, 0.75]]])
    uniform = torch.tensor([[[0.9, 0.1]]])
    by_hand = T * math.log((math.exp(1 / T) / 0.75 + 1 / 0.25) / 2)
    estimate = rho_log_sum_exp(q, rho.log(), torch.tensor([T]), uniform)
    assert estimate.item() == pytest.approx(by_hand, rel=1e-6)


def test_log_sum_exp_of_one_sample_has_the_gradient_of_the_mean():
    q, _, log_rho, _, temperature = random_case()
    q.requires_grad_()
    total = 0.0
    grid = (torch.arange(20_000, dtype=DOUBLE) + 0.5) / 20_000
    for part in grid.split(100):  # 100 batches of one sample each, side by side
        uniform = part.repeat(3).view(1, -1, 1).expand(2, -1, 1)
        repeated = [each.repeat_interleave(100, 1) for each in (q, log_rho)]
        values = rho_log_sum_exp(*repeated, temperature, uniform)
        total = total + torch.autograd.grad(values.sum() / 20_000, q)[0]
    torch.testing.assert_close(total, log_rho.exp(), atol=1e-4, rtol=0)


def test_log_sum_exp_of_many_samples_is_cqls_whatever_rho_is():
    q, _, log_rho, _, temperature = random_case()
    grid = ((torch.arange(20_000, dtype=DOUBLE) + 0.5) / 20_000).expand(2, 3, -1)
    estimate = rho_log_sum_exp(q, log_rho, temperature, grid)
    torch.testing.assert_close(estimate, soft_maximum(q, temperature), atol=1e-3, rtol=0)
    without_correction = temperature[:, None] * (
        (log_rho + q / temperature[:, None, None]).logsumexp(-1)
    )
    assert ((estimate - without_correction).abs() > 0.01).all()


@FORMS
def test_gradients_against_finite_differences(rho_term):
    q, actions, log_rho, uniform, temperature = random_case(1)
    tau = torch.tensor([0.5, 3.0], dtype=DOUBLE)
    targets = torch.randn(2, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    weights = bad_action_weights(policy_advantages(q, actions, temperature), tau)

    def loss(q):
        rho_values = {
            "mean": lambda: rho_mean(q, log_rho),
            "lse": lambda: rho_log_sum_exp(q, log_rho, temperature, uniform),
            "data": lambda: weights * taken(q, actions),
        }[rho_term]()
        penalty = support_penalty(q, actions, temperature, rho_values)
        return td_loss(taken(q, actions), targets) + 0.7 * penalty

    assert torch.autograd.gradcheck(loss, (q.requires_grad_(),))


def test_penalty_gradient_is_half_policy_and_half_rho_minus_data():
    """Eq. 8's gradient with π and ρ held fixed."""
    q, actions, log_rho, _, temperature = random_case()
    q.requires_grad_()
    penalty = support_penalty(q, actions, temperature, rho_mean(q, log_rho))
    (gradient,) = torch.autograd.grad(penalty.sum(), q)
    pushed_down = (boltzmann(q, temperature) + log_rho.exp()) / 2
    expected = (pushed_down - torch.nn.functional.one_hot(actions, 4)) / 3
    torch.testing.assert_close(gradient, expected.detach())


def test_rho_equal_to_the_behaviour_policy_halves_cqls_gradient():
    """The behaviour policy here is that of the batch: one state, several rows."""
    _, _, _, _, temperature = random_case()
    actions = torch.tensor([[0, 0, 1, 3, 3, 3]]).expand(2, -1)
    behaviour = torch.nn.functional.one_hot(actions, 4).double().mean(1)
    q = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    q.requires_grad_()
    rows = q[:, None].expand(-1, 6, -1)
    reds = support_penalty(rows, actions, temperature, (behaviour[:, None] * rows).sum(-1))
    ours = torch.autograd.grad(reds.sum(), q)[0]
    theirs = torch.autograd.grad(cql.conservative_penalty(rows, actions, temperature).sum(), q)[0]
    torch.testing.assert_close(ours, theirs / 2)


@pytest.mark.parametrize("normalised", [True, False], ids=["mean", "data"])
def test_tabular_minimiser_is_equation_10(normalised):
    """Q = target - α (π + ρ - 2β) / 2β, with ρ = β·g, normalised or not, held fixed."""
    alpha, temperature = 0.2, torch.tensor([0.5], dtype=DOUBLE)
    counts = torch.tensor([6, 3, 1])
    actions = torch.repeat_interleave(torch.arange(3), counts)[None]
    behaviour = counts.double() / counts.sum()
    backups = torch.tensor([0.0, 1.0, 0.4], dtype=DOUBLE)
    before = torch.tensor([0.3, 0.9, -0.1], dtype=DOUBLE).expand(1, 10, 3)
    advantages = policy_advantages(before, actions, temperature)
    g = bad_action_weights(advantages, torch.tensor([0.4], dtype=DOUBLE))
    rho = torch.zeros(3, dtype=DOUBLE).index_add(0, actions[0], g[0]) / 10
    assert rho.sum() > 1.1
    if normalised:
        rho = rho / rho.sum()
    q = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    optimiser = torch.optim.LBFGS([q], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        rows = q.expand(1, 10, 3)
        rho_values = rho_mean(rows, rho.log()) if normalised else g * taken(rows, actions)
        penalty = support_penalty(rows, actions, temperature, rho_values)
        loss = td_loss(taken(rows, actions), backups[actions]) + alpha * penalty
        loss.sum().backward()
        return loss.sum()

    optimiser.step(closure)
    policy = boltzmann(q[None, None], temperature)[0, 0]
    expected = backups - alpha * (policy + rho - 2 * behaviour) / (2 * behaviour)
    torch.testing.assert_close(q.detach(), expected.detach(), rtol=0, atol=1e-8)


# The update


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
        row=torch.arange(2)[None],
    )
    values = {}
    for rho_term in ("mean", "data"):
        _, agent = make([Config(alpha=0.2, tau=0.5, temperature=0.2, rho_term=rho_term,
                                learning_rate=0.01)])  # fmt: skip
        for _ in range(300):
            agent.update(batch)
        values[rho_term] = agent.q(observations)[0, 0].detach()
        if agent.rho is not None:
            rho = agent.rho.log_probabilities(observations)[0, 0].exp()
            assert rho[0] > 0.8 > rho[2] > rho[1]  # bad, good, never taken
    data = MemberData([corridor()])
    plain = cql.Agent([cql.Config(alpha=0.1, temperature=0.2, learning_rate=0.01)], data, [0])
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
