"""The exact counterparts of CQL, CQL (ReDS) and AWR, and the trained methods against them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import cql_discrete as cql
from baselines import reds_discrete as reds
from baselines import tabular
from baselines.engine.data import MemberData
from hetero_bench.envs.gridworld_model import gridworld_model
from hetero_bench.recipes.gridworld import behaviour_probabilities
from hetero_bench.tabular import TabularMDP
from tests.toy import CELLS, GOAL, START, corridor

CORRIDOR_BEHAVIOUR = np.tile([0.5, 0.2, 0.3], (CELLS, 1))


def corridor_mdp():
    """The toy corridor, whose dynamics are deterministic."""
    transitions = np.zeros((CELLS, 3, CELLS))
    for cell in range(CELLS):
        for action in range(3):
            successor = cell if cell == GOAL else np.clip(cell + action - 1, 0, CELLS - 1)
            transitions[cell, action, successor] = 1.0
    rewards = transitions[:, :, GOAL].copy()
    rewards[GOAL] = 0.0
    return TabularMDP(transitions, rewards, np.arange(CELLS) == GOAL, np.eye(CELLS)[START])


def bandit(rewards):
    """One state, one step."""
    transitions = np.zeros((2, len(rewards), 2))
    transitions[:, :, 1] = 1.0
    earned = np.stack([rewards, np.zeros(len(rewards))])
    return TabularMDP(transitions, earned, np.array([False, True]), np.array([1.0, 0.0]))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def backup(mdp, solution, discount):
    """B^π Q of a single solution."""
    q = np.where(np.isfinite(solution.action_values), solution.action_values, 0.0)
    return mdp.action_values((solution.policy * q).sum(-1), discount)


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-6, 2).map(lambda x: 10.0**x),
    st.floats(-3, 1).map(lambda x: 10.0**x),
)
@settings(deadline=None)
def test_the_minimiser_is_where_the_gradient_vanishes(seed, pushed_down, temperature):
    rng = np.random.default_rng(seed)
    behaviour = rng.dirichlet(np.full(5, 0.5), 20) + 1e-6
    behaviour[rng.random((20, 5)) < 0.3] = 0.0
    behaviour[:, 0] += 1e-3
    behaviour /= behaviour.sum(-1, keepdims=True)
    centres, start = rng.normal(size=(2, 20, 5)) * np.array([[[1.0]], [[30.0]]])
    q = tabular.minimiser(centres, pushed_down, behaviour, temperature, start)
    policy = tabular.soft_policy(q, temperature, behaviour > 0)
    np.testing.assert_allclose(policy.sum(-1), 1.0)
    scale = 1 + pushed_down / behaviour[behaviour > 0].min()
    gradient = behaviour * (q - centres) + pushed_down * policy
    assert np.abs(gradient[behaviour > 0]).max() < 1e-9 * scale
    assert (policy[behaviour == 0] == 0).all()


def test_the_minimiser_minimises_the_trained_methods_loss():
    """Eq. 9 in one state: the torch losses on one row per sample, minimised numerically."""
    alpha, temperature = 0.2, torch.tensor([0.3], dtype=torch.float64)
    counts = torch.tensor([6, 3, 1])
    actions = torch.repeat_interleave(torch.arange(3), counts)[None]
    behaviour = (counts / counts.sum()).double()
    backups = torch.tensor([0.0, 1.0, 0.4], dtype=torch.float64)
    rho = torch.tensor([0.7, 0.1, 0.2], dtype=torch.float64)
    q = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([q], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        rows = q.expand(1, 10, 3)
        values = reds.rho_mean(rows, rho.log())
        penalty = reds.support_penalty(rows, actions, temperature, values)
        td = reds.td_loss(reds.taken(rows, actions), backups[actions])
        loss = (td + alpha * penalty).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    centres = (backups + alpha * (1 - 0.5 * rho / behaviour)).numpy()[None]
    exact = tabular.minimiser(centres, 0.5 * alpha, behaviour.numpy()[None], 0.3, np.zeros((1, 3)))
    np.testing.assert_allclose(exact[0], q.detach().numpy(), atol=1e-8)


def test_cql_is_a_fixed_point_of_equation_41():
    mdp, alpha, temperature = corridor_mdp(), 0.05, 0.1
    solution = tabular.cql(
        mdp, CORRIDOR_BEHAVIOUR, alpha=alpha, temperature=temperature, discount=0.9
    )
    assert solution.change <= 1e-8
    policy = softmax(solution.action_values / temperature)
    np.testing.assert_allclose(solution.policy, policy)
    expected = backup(mdp, solution, 0.9) - alpha * (policy / CORRIDOR_BEHAVIOUR - 1)
    np.testing.assert_allclose(solution.action_values, expected, atol=1e-6)


@pytest.mark.parametrize("rho_term", ["mean", "data"])
def test_reds_is_a_fixed_point_of_equation_10(rho_term):
    mdp, beta = corridor_mdp(), CORRIDOR_BEHAVIOUR
    alpha, tau, temperature = 0.05, 0.1, 0.1
    solution = tabular.reds(
        mdp, beta, alpha=alpha, tau=tau, temperature=temperature, rho_term=rho_term, discount=0.9
    )
    assert solution.change <= 1e-8
    q, policy = solution.action_values, solution.policy
    advantages = q - (policy * q).sum(-1, keepdims=True)
    rho = beta * np.exp(np.clip(-advantages / tau, -10, 5))
    if rho_term == "mean":
        rho /= rho.sum(-1, keepdims=True)
    expected = backup(mdp, solution, 0.9) - alpha * (policy + rho - 2 * beta) / (2 * beta)
    np.testing.assert_allclose(q, expected, atol=1e-6)
    assert np.abs(rho - beta).max() > 0.1  # far from CQL at α/2


@pytest.mark.parametrize("rho_term", ["mean", "data"])
def test_reds_with_rho_equal_to_beta_is_cql_with_half_of_alpha(rho_term):
    mdp, settings = corridor_mdp(), {"temperature": 0.1, "discount": 0.9}
    ours = tabular.reds(mdp, CORRIDOR_BEHAVIOUR, alpha=0.1, tau=1e9, rho_term=rho_term, **settings)
    theirs = tabular.cql(mdp, CORRIDOR_BEHAVIOUR, alpha=0.05, **settings)
    np.testing.assert_allclose(ours.action_values, theirs.action_values, atol=1e-7)


def test_a_little_alpha_gives_the_optimal_policy_and_a_lot_the_behaviour_policy():
    mdp = corridor_mdp()
    solutions = [
        tabular.cql(mdp, CORRIDOR_BEHAVIOUR, alpha=[1e-6, 1e3], temperature=1e-2, discount=0.9),
        tabular.reds(
            mdp, CORRIDOR_BEHAVIOUR, alpha=[1e-6, 1e3], tau=1e3, temperature=1e-2, discount=0.9
        ),
    ]
    for solution in solutions:
        weak, strong = solution.policy[:, :GOAL]
        assert (weak[:, 2] > 0.98).all()
        np.testing.assert_allclose(strong, CORRIDOR_BEHAVIOUR[:GOAL], atol=1e-2)
    # Without a constraint the values are those of soft-greedy control.
    values = (solutions[0].policy[0] * solutions[0].action_values[0]).sum(-1)
    np.testing.assert_allclose(values[:GOAL], 0.9 ** np.arange(GOAL - 1, -1, -1), atol=0.02)


def test_a_grid_is_its_cells():
    model = gridworld_model()
    beta = behaviour_probabilities(model.layout, 0.2, 0.0)
    alphas, taus = np.array([[1e-3], [1e-2]]), np.array([0.01, 0.1, 1.0])
    options = {"temperature": 0.02, "discount": 0.9}
    mdp = model.mdp()
    grid = tabular.reds(mdp, beta, alpha=alphas, tau=taus, **options)
    assert grid.policy.shape == grid.action_values.shape == (2, 3, *beta.shape)
    assert grid.change.shape == (2, 3)
    cell = tabular.reds(mdp, beta, alpha=1e-2, tau=0.1, **options)
    assert cell.policy.shape == beta.shape
    np.testing.assert_allclose(grid.policy[1, 1], cell.policy, atol=1e-6)
    assert np.abs(grid.policy[0, 1] - cell.policy).max() > 0.1


def test_what_the_data_does_not_have_is_never_done():
    model = gridworld_model()
    beta = behaviour_probabilities(model.layout, 0.2, 0.0)
    mdp = model.mdp()
    hallways = ~model.layout.in_room
    policies = [
        tabular.cql(mdp, beta, alpha=1e-3, temperature=0.02).policy,
        tabular.reds(mdp, beta, alpha=1e-3, tau=0.05, temperature=0.02).policy,
        tabular.awr(mdp, beta, np.full(len(beta), 1 / len(beta)), temperature=1.0),
    ]
    for policy in policies:
        np.testing.assert_allclose(policy.sum(-1), 1.0)
        np.testing.assert_array_equal(policy[hallways], beta[hallways])  # deterministic there
    conservative = [mdp.expected_return(policy, horizon=300) for policy in policies[:2]]
    assert min(conservative) > 0.99


@pytest.mark.parametrize("zero", ["alpha", "temperature"])
def test_hyperparameters_are_positive(zero):
    options = {"alpha": 0.1, "temperature": 0.1} | {zero: [0.1, 0.0]}
    with pytest.raises(ValueError, match="expected positive hyperparameters"):
        tabular.cql(corridor_mdp(), CORRIDOR_BEHAVIOUR, **options)


def test_awr_of_a_bandit_by_hand():
    """Rewards 0 and 1, half and half: standardised advantages -1 and 1, odds of exp(2/T)."""
    mdp, beta = bandit(np.array([0.0, 1.0])), np.full((2, 2), 0.5)
    temperatures = [0.5, 1.0, 1e6]
    policies = tabular.awr(mdp, beta, np.array([1.0, 0.0]), temperature=temperatures)
    assert policies.shape == (3, 2, 2)
    odds = policies[:, 0, 1] / policies[:, 0, 0]
    np.testing.assert_allclose(odds, np.exp(2 / np.array(temperatures)), rtol=1e-4)
    clipped = tabular.awr(mdp, beta, np.array([1.0, 0.0]), temperature=0.1, weight_clip=3.0)
    assert clipped[0, 1] / clipped[0, 0] == pytest.approx(3 * math.exp(10), rel=1e-3)
    twice = tabular.awr(mdp, beta, np.array([1.0, 0.0]), temperature=1.0, rounds=2)
    assert twice[0, 1] > policies[1, 0, 1]


def test_awr_improves_on_the_behaviour_policy():
    mdp, uniform = corridor_mdp(), np.full(CELLS, 1 / CELLS)
    returns = [
        mdp.expected_return(policy, 0.9)
        for policy in tabular.awr(mdp, CORRIDOR_BEHAVIOUR, uniform, temperature=[10, 1, 0.1])
    ]
    assert np.all(np.diff([mdp.expected_return(CORRIDOR_BEHAVIOUR, 0.9), *returns]) > 0)


@pytest.mark.parametrize(("name", "tau"), [("cql", None), ("mean", 0.1), ("data", 0.5)])
def test_a_trained_table_finds_the_fixed_point(name, tau):
    """A linear network on one-hot cells, trained on all rows at once by the shipped agents."""
    dataset = corridor(probabilities=(0.5, 0.2, 0.3), episodes=60)
    options = {"alpha": 0.05, "temperature": 0.1, "discount": 0.9}
    training = {"hidden_sizes": (), "learning_rate": 0.02, "target_rate": 0.05}
    data = MemberData([dataset])
    if name == "cql":
        agent = cql.Agent([cql.Config(**options, **training)], data, [0])
    else:
        config = reds.Config(**options, **training, tau=tau, rho_term=name)
        agent = reds.Agent([config], data, [0])
    batch = data.take(torch.arange(len(dataset))[None])
    for _ in range(1_500):
        agent.update(batch)
    learned = agent.q(torch.eye(CELLS)[None])[0, :GOAL].detach().double().numpy()

    cells = dataset.transitions.observations.argmax(-1)
    counts = np.zeros((CELLS, 3))
    np.add.at(counts, (cells, dataset.transitions.actions), 1)
    counts[GOAL] = 1
    beta = counts / counts.sum(-1, keepdims=True)
    if name == "cql":
        solution = tabular.cql(corridor_mdp(), beta, **options)
    else:
        solution = tabular.reds(corridor_mdp(), beta, **options, tau=tau, rho_term=name)
    np.testing.assert_allclose(learned, solution.action_values[:GOAL], atol=0.02)
    np.testing.assert_allclose(softmax(learned / 0.1), solution.policy[:GOAL], atol=0.02)
