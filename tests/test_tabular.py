from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetero_bench.tabular import TabularMDP
from hetero_bench.tabular_policy import TabularPolicy

LEFT, RIGHT = 0, 1


def chain(goal_reward: float = 1.0) -> TabularMDP:
    """0 - 1 - 2 - 3, deterministic left and right; entering 3 pays and ends."""
    transitions = np.zeros((4, 2, 4))
    for state in range(4):
        transitions[state, LEFT, max(state - 1, 0)] = 1.0
        transitions[state, RIGHT, min(state + 1, 3)] = 1.0
    rewards = np.zeros((4, 2))
    rewards[2, RIGHT] = goal_reward
    return TabularMDP(transitions, rewards, np.arange(4) == 3, np.eye(4)[0])


def random_mdp(seed: int, S: int = 6, A: int = 3) -> tuple[TabularMDP, np.ndarray]:
    rng = np.random.default_rng(seed)
    mdp = TabularMDP(
        transitions=rng.dirichlet(np.ones(S), (S, A)),
        rewards=rng.normal(size=(S, A)),
        terminal=np.arange(S) == S - 1,
        initial=rng.dirichlet(np.ones(S)),
    )
    return mdp, rng.dirichlet(np.ones(A), S)


def always(action: int) -> np.ndarray:
    return np.tile(np.eye(2)[action], (4, 1))


def test_value_iteration_solves_the_chain_by_hand():
    solution = chain().value_iteration(0.9)
    assert np.allclose(solution.values, [0.81, 0.9, 1.0, 0.0], atol=1e-10)
    assert np.allclose(solution.action_values[1], [0.9 * 0.81, 0.9], atol=1e-10)
    assert solution.policy[:3].argmax(axis=1).tolist() == [RIGHT] * 3
    assert (solution.action_values[3] == 0.0).all()


def test_value_iteration_prefers_a_near_reward_when_the_discount_is_low():
    """State 0 pays 0.3 for bumping into the left wall, forever; 0.3 / (1 - gamma) wins."""
    mdp = chain()
    mdp.rewards[0, LEFT] = 0.3
    solution = mdp.value_iteration(0.9)
    assert solution.policy[0].argmax() == LEFT
    assert np.allclose(solution.values[0], 3.0, atol=1e-9)
    assert np.allclose(solution.values[:3], [3.0, 2.7, 0.9 * 2.7], atol=1e-9)


def test_value_iteration_error_is_within_the_tolerance():
    mdp, _ = random_mdp(3)
    exact = mdp.value_iteration(0.95, tol=1e-13).values
    loose = mdp.value_iteration(0.95, tol=1e-3)
    assert np.abs(loose.values - exact).max() <= 1e-3
    values = mdp.policy_evaluation(mdp.value_iteration(0.95).policy, 0.95)
    assert np.allclose(values, exact, atol=1e-9)


def test_value_iteration_breaks_ties_by_the_lowest_action():
    mdp = chain()
    mdp.rewards[2, RIGHT] = 0.0
    assert mdp.value_iteration(0.9).policy.argmax(axis=1).tolist() == [LEFT] * 4


def test_value_iteration_reports_that_it_did_not_converge():
    with pytest.raises(RuntimeError, match="after 2 sweeps"):
        chain().value_iteration(0.99, max_iterations=2)
    with pytest.raises(ValueError, match="discount in \\[0, 1\\)"):
        chain().value_iteration(1.0)


def test_policy_evaluation_by_hand():
    """Right with probability p from everywhere: the classical gambler's expected values."""
    assert np.allclose(chain().policy_evaluation(always(RIGHT), 0.5), [0.25, 0.5, 1.0, 0.0])
    assert np.allclose(chain().policy_evaluation(always(RIGHT), 1.0), [1.0, 1.0, 1.0, 0.0])
    assert np.allclose(chain().policy_evaluation(always(LEFT), 0.5), 0.0)
    assert np.allclose(chain().policy_evaluation(always(RIGHT), horizon=2), [0, 1.0, 1.0, 0])


def test_expected_visits_by_hand():
    """The fair walk from 0 visits state s on average 2 (3 - s) times before absorption at 3."""
    mdp = chain()
    assert np.allclose(mdp.expected_visits(mdp.uniform_policy()), [6.0, 4.0, 2.0, 0.0])
    assert np.allclose(mdp.expected_visits(always(RIGHT)), [1.0, 1.0, 1.0, 0.0])
    assert np.allclose(mdp.expected_visits(always(RIGHT), 0.5), [1.0, 0.5, 0.25, 0.0])
    assert np.allclose(mdp.expected_visits(always(LEFT), horizon=7), [7.0, 0.0, 0.0, 0.0])
    assert np.allclose(mdp.expected_visits(always(RIGHT), 0.5, horizon=2), [1.0, 0.5, 0.0, 0.0])
    assert (mdp.expected_visits(always(RIGHT), horizon=0) == 0.0).all()


def test_occupancy_sums_to_one_over_non_terminal_states():
    mdp = chain()
    occupancy = mdp.occupancy(mdp.uniform_policy())
    assert np.allclose(occupancy, [0.5, 1 / 3, 1 / 6, 0.0])


def test_a_policy_that_never_terminates_is_an_error_only_where_it_matters():
    mdp = chain()
    with pytest.raises(ValueError, match=r"from 1 states .*state 0.* never reaches a terminal"):
        mdp.expected_visits(always(LEFT))
    with pytest.raises(ValueError, match="give a horizon or gamma < 1"):
        mdp.policy_evaluation(always(LEFT))
    stuck_behind_start = always(RIGHT)
    stuck_behind_start[0] = [1.0, 0.0]
    from_one = TabularMDP(mdp.transitions, mdp.rewards, mdp.terminal, np.eye(4)[1])
    assert from_one.expected_return(stuck_behind_start) == pytest.approx(1.0)


def test_nothing_happens_after_a_terminal_state():
    mdp = chain()
    mdp.rewards[3] = 100.0
    assert mdp.expected_return(always(RIGHT)) == pytest.approx(1.0)
    assert mdp.expected_return(always(RIGHT), horizon=50) == pytest.approx(1.0)
    started_at_the_end = TabularMDP(mdp.transitions, mdp.rewards, mdp.terminal, np.eye(4)[3])
    assert started_at_the_end.expected_return(always(RIGHT)) == 0.0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), gamma=st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_flow_and_return_identities(seed, gamma):
    """Visits satisfy the flow equations, and values, visits and returns agree."""
    mdp, policy = random_mdp(seed)
    live = ~mdp.terminal
    visits = mdp.expected_visits(policy, gamma)
    state_action = visits[:, None] * policy
    inflow = mdp.initial + gamma * np.einsum("sa,sat->t", state_action, mdp.transitions)
    assert np.allclose(visits[live], inflow[live])
    assert (visits[mdp.terminal] == 0.0).all()
    values = mdp.policy_evaluation(policy, gamma)
    assert mdp.expected_return(policy, gamma) == pytest.approx(mdp.initial @ values, abs=1e-9)
    assert np.allclose(values, (policy * mdp.action_values(values, gamma)).sum(axis=1), atol=1e-9)
    assert np.allclose(mdp.occupancy(policy, gamma), visits / visits.sum())


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), horizon=st.integers(0, 30))
def test_finite_horizon_agrees_with_the_recursion_by_matrix_powers(seed, horizon):
    mdp, policy = random_mdp(seed)
    live = (~mdp.terminal).astype(float)
    step = np.einsum("sa,sat->st", policy, mdp.transitions) * live[:, None] * live
    present, visits = mdp.initial * live, np.zeros(mdp.num_states)
    for t in range(horizon):
        visits += present @ np.linalg.matrix_power(step, t)
    assert np.allclose(mdp.expected_visits(policy, horizon=horizon), visits)
    rewards = (policy * mdp.rewards).sum(axis=1)
    assert mdp.expected_return(policy, horizon=horizon) == pytest.approx(visits @ rewards)
    values = mdp.policy_evaluation(policy, horizon=horizon)
    assert mdp.initial @ values == pytest.approx(visits @ rewards)


def test_a_long_horizon_approaches_the_linear_solve():
    mdp, policy = random_mdp(11)
    assert np.allclose(mdp.expected_visits(policy, horizon=2000), mdp.expected_visits(policy))
    assert np.allclose(
        mdp.policy_evaluation(policy, 0.9, horizon=2000), mdp.policy_evaluation(policy, 0.9)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transitions": np.ones((3, 2))}, "transitions have shape"),
        ({"transitions": np.full((4, 2, 4), 0.3)}, r"transitions\[0, 0\] is no probability"),
        ({"rewards": np.zeros((4, 3))}, "rewards has shape"),
        ({"initial": np.array([0.5, 0.6, 0, 0])}, "initial is no probability"),
        ({"initial": np.array([1.5, -0.5, 0, 0])}, "initial is no probability"),
    ],
)
def test_invalid_arrays_are_rejected(change, message):
    mdp = chain()
    arrays = {
        "transitions": mdp.transitions,
        "rewards": mdp.rewards,
        "terminal": mdp.terminal,
        "initial": mdp.initial,
    }
    with pytest.raises(ValueError, match=message):
        TabularMDP(**{**arrays, **change})


def test_invalid_policies_and_numbers_are_rejected():
    mdp = chain()
    with pytest.raises(ValueError, match="policy has shape"):
        mdp.expected_visits(np.ones((4, 3)))
    policy = always(RIGHT)
    policy[2] = [np.nan, 1.0]
    with pytest.raises(ValueError, match=r"policy\[2\] is no probability"):
        mdp.policy_evaluation(policy, 0.9)
    with pytest.raises(ValueError, match=r"gamma is 1\.5"):
        mdp.policy_evaluation(always(RIGHT), 1.5)
    with pytest.raises(ValueError, match="horizon is -1"):
        mdp.expected_visits(always(RIGHT), horizon=-1)


def test_tabular_policy_finds_states_and_samples_their_rows():
    features = np.array([[1.0, 3.0], [1.0, 2.0], [1.0, 5.0]], dtype=np.float32)
    policy = TabularPolicy(np.array([[1.0, 0, 0], [0, 0, 1.0], [0.25, 0.5, 0.25]]), features)
    states = np.array([2, 0, 1, 1, 2])
    assert policy.states(features[states]).tolist() == states.tolist()
    rng = np.random.default_rng(0)
    assert policy(features[[0, 1, 0]], rng).tolist() == [0, 2, 0]
    draws = policy(features[np.full(40_000, 2)], rng)
    assert np.allclose(np.bincount(draws) / len(draws), [0.25, 0.5, 0.25], atol=0.0125)


def test_tabular_policy_rejects_unknown_observations_and_ambiguous_features():
    features = np.array([[0.0], [1.0]])
    policy = TabularPolicy(np.eye(2), features)
    for unknown in (0.5, -1.0, 2.0, np.nan):
        with pytest.raises(ValueError, match="observation 1 is of none of the 2 states"):
            policy(np.array([[0.0], [unknown]]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="no single feature"):
        TabularPolicy(np.eye(2), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="expected \\(S, A\\)"):
        TabularPolicy(np.eye(3), features)
