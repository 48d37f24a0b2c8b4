from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetero_bench.arrays import digest_arrays
from hetero_bench.envs.gridworld_layout import OPPOSITE_ACTIONS, get_layout
from hetero_bench.envs.gridworld_model import gridworld_mdp, gridworld_model
from hetero_bench.errors import ManifestError
from hetero_bench.maze_plotting import behaviour_map, visitation_map
from hetero_bench.recipes.balanced_starts import (
    allocate_starts,
    balanced_start_weights,
    distance_from_uniform,
    visit_counts,
)
from hetero_bench.recipes.gridworld import behaviour_probabilities, build

NOOP, UP, DOWN, LEFT, RIGHT = range(5)
CORRIDOR = ("######", "#S..G#", "######")
LAYOUT = get_layout("three-rooms")


def maze(**kwargs):
    return SimpleNamespace(id="hetero_bench/GridworldMaze-v0", kwargs=kwargs)


def collect(parameters=None, seed=0, progress=None, **kwargs):
    return build(
        {"trajectories": 2000, **(parameters or {})},
        seed,
        environment=maze(**kwargs),
        progress=progress,
    )


@pytest.fixture(scope="module")
def hetero():
    return collect()


def test_layout_of_the_arrays(hetero):
    hetero.validate()
    N = hetero.num_transitions
    assert hetero.num_episodes == 2000
    assert (hetero.observations.shape, hetero.observations.dtype) == ((N, 50), np.float32)
    assert (hetero.actions.dtype, hetero.rewards.dtype) == (np.int64, np.float32)
    assert hetero.episode_ids.dtype == np.int32
    extras = {name: (array.shape, array.dtype) for name, array in hetero.extras.items()}
    assert extras == {
        "behaviour_probabilities": ((N, 5), np.float32),
        "states": ((N,), np.int16),
        "next_states": ((N,), np.int16),
    }
    lengths = np.bincount(hetero.episode_ids)
    ended = hetero.terminations[np.cumsum(lengths) - 1]
    assert (lengths[~ended] == 50).all()
    assert lengths[ended].min() < 50


def test_observations_and_states_agree(hetero):
    features = gridworld_model().features
    states, next_states = hetero.extras["states"], hetero.extras["next_states"]
    assert np.array_equal(hetero.observations, features[states])
    assert np.array_equal(hetero.next_observations(), features[next_states])
    within = hetero.episode_ids[1:] == hetero.episode_ids[:-1]
    assert np.array_equal(states[1:][within], next_states[:-1][within])
    assert (states != LAYOUT.goal).all()


def test_rewards_and_terminations_mark_the_goal(hetero):
    entered = hetero.extras["next_states"] == LAYOUT.goal
    assert np.array_equal(hetero.rewards, entered.astype(np.float32))
    assert np.array_equal(hetero.terminations, entered)
    assert not (hetero.terminations & hetero.truncations).any()
    assert entered.sum() == hetero.notes["episodes_reaching_the_goal"] > 0


def test_the_goal_on_the_last_step_is_a_termination_not_a_truncation():
    """Three moves from the start to the goal; the behaviour policy goes straight."""
    for steps, terminates in ((3, True), (2, False)):
        arrays = collect(
            {"episode_steps": steps, "trajectories": 30, "starts": "uniform"},
            layout=CORRIDOR,
            action_noise=0.0,
        )
        from_start = arrays.extras["states"][arrays.episode_starts()[:-1]] == 0
        last = arrays.episode_starts()[1:] - 1
        assert from_start.sum() == 10
        assert (arrays.terminations[last][from_start] == terminates).all()
        assert (arrays.truncations[last][from_start] != terminates).all()


def test_behaviour_policy_by_hand():
    probabilities = behaviour_probabilities(LAYOUT, room_uniform=0.2, hallway_uniform=0.0)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    assert np.allclose(probabilities[LAYOUT.start], [0.04, 0.84, 0.04, 0.04, 0.04])
    third_room = LAYOUT.state_map[10, 18]
    assert np.allclose(probabilities[third_room], [0.04, 0.04, 0.84, 0.04, 0.04])
    long_hallway = LAYOUT.state_map[5, 9]
    assert probabilities[long_hallway].tolist() == [0, 1, 0, 0, 0]
    mixed = behaviour_probabilities(LAYOUT, room_uniform=0.6, hallway_uniform=0.5)
    assert np.allclose(mixed[long_hallway], [0.1, 0.6, 0.1, 0.1, 0.1])
    assert np.allclose(mixed[LAYOUT.start].max(), 0.4 + 0.12)


@settings(deadline=None, max_examples=20)
@given(room=st.floats(0, 1), hallway=st.floats(0, 1))
def test_behaviour_is_a_distribution_with_its_mode_where_it_should_be(room, hallway):
    probabilities = behaviour_probabilities(LAYOUT, room, hallway)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    assert probabilities.min() >= 0.0
    preferred = np.where(LAYOUT.in_room, OPPOSITE_ACTIONS[LAYOUT.exit_actions], LAYOUT.goal_actions)
    best = probabilities[np.arange(LAYOUT.num_states), preferred]
    assert (best >= probabilities.max(axis=1) - 1e-12).all()


def test_actions_have_the_stated_probabilities(hetero):
    """Per state and action within five binomial standard errors, and hallways without exception."""
    stated = behaviour_probabilities(LAYOUT, 0.2, 0.0)
    states = hetero.extras["states"]
    assert np.array_equal(
        hetero.extras["behaviour_probabilities"], stated[states].astype(np.float32)
    )
    counts = np.zeros((LAYOUT.num_states, 5))
    np.add.at(counts, (states, hetero.actions), 1)
    visits = counts.sum(axis=1, keepdims=True)
    error = np.sqrt(stated * (1 - stated) * visits)
    assert (np.abs(counts - stated * visits) <= 5 * error + 1e-9).all()
    assert (counts[stated == 0.0] == 0).all()


def test_next_states_have_the_dynamics_of_the_exact_mdp(hetero):
    """Chi-squared statistic of the successors, summed over all pairs with enough samples."""
    transitions = gridworld_mdp().transitions
    counts = np.zeros_like(transitions)
    rows = (hetero.extras["states"], hetero.actions, hetero.extras["next_states"])
    np.add.at(counts, rows, 1)
    expected = counts.sum(axis=2, keepdims=True) * transitions
    assert (counts[expected == 0.0] == 0).all()
    used = expected > 5
    statistic = ((counts - expected)[used] ** 2 / expected[used]).sum()
    freedom = used.sum()
    assert statistic < freedom + 6 * np.sqrt(2 * freedom)


def test_equal_seeds_give_equal_bits_and_others_do_not(hetero):
    assert digest_arrays(collect()) == digest_arrays(hetero)
    other = collect(seed=1)
    assert digest_arrays(other) != digest_arrays(hetero)
    assert np.array_equal(
        np.sort(other.extras["states"][other.episode_starts()[:-1]]),
        np.sort(hetero.extras["states"][hetero.episode_starts()[:-1]]),
    )


def test_progress_is_reported_to_the_end():
    calls = []
    collect({"trajectories": 10}, progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (1, 50)
    assert calls[-1] == (50, 50)


# Occupancy


def test_expected_visits_are_those_of_the_exact_mdp():
    """The recipe's own recursion, without BLAS, against TabularMDP."""
    mdp = gridworld_mdp()
    behaviour = behaviour_probabilities(LAYOUT, 0.2, 0.0)
    executed = gridworld_model().executed_probabilities(behaviour)
    counts = visit_counts(LAYOUT.next_states, executed, LAYOUT.goal, 50)
    assert np.allclose(counts[LAYOUT.start], mdp.expected_visits(behaviour, horizon=50))
    assert (counts[LAYOUT.goal] == 0.0).all()
    assert (counts[:, LAYOUT.goal] == 0.0).all()


def test_balanced_starts_are_optimal():
    """At the minimum of KL(uniform || occupancy) no start's multiplier exceeds one (KKT)."""
    executed = gridworld_model().executed_probabilities(behaviour_probabilities(LAYOUT, 0.2, 0.0))
    counts = visit_counts(LAYOUT.next_states, executed, LAYOUT.goal, 50)
    weights = balanced_start_weights(counts)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[LAYOUT.goal] == 0.0
    live = np.arange(LAYOUT.num_states) != LAYOUT.goal
    occupancy = (weights @ counts)[live]
    occupancy /= occupancy.sum()
    components = counts[live][:, live] / counts[live].sum(axis=1, keepdims=True)
    multipliers = (components / occupancy).mean(axis=1)
    assert multipliers.max() < 1.0 + 1e-3
    assert multipliers[weights[live] > 1e-3] == pytest.approx(1.0, abs=1e-3)
    assert weights @ counts.sum(axis=1) > 0
    _, balanced = distance_from_uniform(occupancy)
    _, uniform = distance_from_uniform(counts[live][:, live].sum(axis=0))
    assert balanced is not None
    assert uniform is not None
    assert balanced < 0.75 * uniform


def test_balancing_a_problem_with_a_known_answer():
    """From state 0 both 0 and 1 are visited, from 1 only 1: all trajectories start in 0."""
    counts = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert balanced_start_weights(counts) == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)
    assert balanced_start_weights(np.diag([1.0, 2.0, 0.0])) == pytest.approx([2 / 3, 1 / 3, 0.0])


def test_short_trajectories_cover_the_maze_evenly():
    """Where the behaviour policy cannot pile up against a wall, occupancy is nearly uniform."""
    short = collect({"episode_steps": 8, "trajectories": 20_000})
    residual = short.notes["occupancy_against_uniform"]
    assert residual["expected_total_variation"] < 0.08
    assert abs(residual["empirical_total_variation"] - residual["expected_total_variation"]) < 0.01
    even = collect({"room_uniform": 1.0, "hallway_uniform": 1.0})
    assert even.notes["occupancy_against_uniform"]["expected_total_variation"] < 0.02


def test_notes_state_the_residual_that_the_data_has(hetero):
    visits = np.bincount(hetero.extras["states"], minlength=LAYOUT.num_states)
    visits = visits[np.arange(LAYOUT.num_states) != LAYOUT.goal]
    occupancy = visits / visits.sum()
    residual = hetero.notes["occupancy_against_uniform"]
    uniform = 1 / len(visits)
    assert residual["empirical_total_variation"] == pytest.approx(
        np.abs(occupancy - uniform).sum() / 2, abs=1e-6
    )
    assert residual["empirical_kl_nats"] == pytest.approx(
        (uniform * np.log(uniform / occupancy)).sum(), abs=1e-6
    )
    assert residual["empirical_total_variation"] == pytest.approx(
        residual["expected_total_variation"], abs=0.02
    )
    assert hetero.notes["minimum_visits_of_a_state"] == visits.min() > 0
    assert hetero.notes["maximum_visits_of_a_state"] == visits.max()
    assert json.loads(json.dumps(hetero.notes)) == hetero.notes


def test_uncovered_states_make_the_divergence_infinite_in_the_notes():
    few = collect({"trajectories": 3})
    residual = few.notes["occupancy_against_uniform"]
    assert residual["empirical_kl_nats"] is None
    assert few.notes["minimum_visits_of_a_state"] == 0
    json.dumps(few.notes, allow_nan=False)


@settings(deadline=None)
@given(
    shares=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40).filter(lambda s: sum(s) > 0.1),
    trajectories=st.integers(1, 5000),
)
def test_allocation_is_exact_and_within_one_of_the_share(shares, trajectories):
    weights = np.array(shares) / sum(shares)
    allocated = allocate_starts(weights, trajectories)
    assert allocated.sum() == trajectories
    assert (np.abs(allocated - weights * trajectories) < 1.0 + 1e-5).all()


def test_allocation_breaks_ties_by_state_and_ignores_the_last_bits():
    weights = np.full(3, 1 / 3)
    assert allocate_starts(weights, 4).tolist() == [2, 1, 1]
    nudged = weights + np.array([-1e-16, 0.0, 1e-16])
    assert allocate_starts(nudged, 4).tolist() == [2, 1, 1]


# Parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"room_unifrom": 0.2}, "room_unifrom: Extra inputs"),
        ({"room_uniform": 1.2}, "room_uniform: .*less than or equal to 1"),
        ({"hallway_uniform": -0.1}, "hallway_uniform: .*greater than or equal to 0"),
        ({"trajectories": 0}, "trajectories: .*greater than or equal to 1"),
        ({"episode_steps": 0}, "episode_steps: .*greater than or equal to 1"),
        ({"starts": "anywhere"}, "starts: .*'balanced' or 'uniform'"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ManifestError, match=message):
        collect(parameters)


def test_trajectories_have_no_default():
    with pytest.raises(ManifestError, match="trajectories: Field required"):
        build({}, 0, environment=maze())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layut": "three-rooms"}, "layut: Extra inputs"),
        ({"layout": 5}, "layout"),
        ({"layout": "four-rooms"}, "layout.*unknown gridworld layout 'four-rooms'"),
        ({"action_noise": "x"}, "action_noise: .*valid number"),
        ({"action_noise": 1.5}, "action_noise: .*less than or equal to 1"),
        ({"feature_seed": 0.7}, "feature_seed: .*valid integer"),
        ({"feature_scaling": "max"}, "feature_scaling"),
    ],
)
def test_bad_environment_arguments_are_named(kwargs, message):
    with pytest.raises(ManifestError, match=f"environment.kwargs: {message}"):
        collect(**kwargs)


def test_another_environment_is_refused():
    with pytest.raises(ManifestError, match="environment.id: .*GridworldMaze-v0; got 'CartPole-v1"):
        build({"trajectories": 1}, 0, environment=SimpleNamespace(id="CartPole-v1", kwargs={}))


# Pictures of mazes


def test_maps_are_drawn_into_figures_of_the_mazes_size(tmp_path):
    visits = np.arange(LAYOUT.num_states, dtype=float)
    for figure in (
        visitation_map(LAYOUT, visits, "visits"),
        visitation_map(LAYOUT, visits, "visits", logarithmic=False),
        behaviour_map(LAYOUT, behaviour_probabilities(LAYOUT, 0.2, 0.0), "behaviour"),
    ):
        walls, values = (np.ma.asarray(image.get_array()) for image in figure.axes[0].images)
        assert walls.shape == values.shape == LAYOUT.shape
        assert np.array_equal(np.asarray(walls) == 0.0, LAYOUT.state_map >= 0)
        figure.savefig(tmp_path / "map.png")


def test_a_visitation_map_shows_shares_in_their_cells():
    visits = np.zeros(LAYOUT.num_states)
    visits[[3, 10]] = [30.0, 10.0]
    values = np.ma.filled(visitation_map(LAYOUT, visits).axes[0].images[1].get_array(), np.nan)
    assert values[tuple(LAYOUT.cells[3])] == 0.75
    assert values[tuple(LAYOUT.cells[10])] == 0.25
    assert np.isnan(values).sum() == values.size - 2


def test_maps_draw_into_given_axes_and_reject_bad_arrays():
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    assert visitation_map(LAYOUT, np.ones(LAYOUT.num_states), axes=axes) is figure
    for bad in (np.zeros(LAYOUT.num_states), np.ones(3), -np.ones(LAYOUT.num_states)):
        with pytest.raises(ValueError, match="visits have shape"):
            visitation_map(LAYOUT, bad)
    with pytest.raises(ValueError, match="probabilities have shape"):
        behaviour_map(LAYOUT, np.ones((LAYOUT.num_states, 4)))
