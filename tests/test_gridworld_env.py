from __future__ import annotations

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hetero_bench.envs import GRIDWORLD_MAZE_ID, register_environments
from hetero_bench.envs.gridworld import GridworldMazeEnv
from hetero_bench.envs.gridworld_layout import (
    ACTION_NAMES,
    LAYOUTS,
    OPPOSITE_ACTIONS,
    get_layout,
)
from hetero_bench.envs.gridworld_model import gridworld_mdp, gridworld_model, smoothed_features
from hetero_bench.envs.gridworld_rendering import (
    AGENT_COLOUR,
    FLOOR_COLOUR,
    GOAL_COLOUR,
    START_COLOUR,
    WALL_COLOUR,
)
from hetero_bench.envs.gridworld_vector import GridworldMazeVectorEnv
from hetero_bench.registry import list_datasets
from hetero_bench.tabular_policy import TabularPolicy

NOOP, UP, DOWN, LEFT, RIGHT = range(5)
SMALL = ("######", "#Sv..#", "#vv#.#", "####G#", "######")
CORRIDOR = ("#####", "#S.G#", "#####")


def rollout(env, actions, seed):
    """Returns the observations, rewards, flags and states of an episode, padded after its end."""
    observation, info = env.reset(seed=seed)
    rows = [(observation, 0.0, False, False, info["state"])]
    for action in actions:
        if rows[-1][2] or rows[-1][3]:
            rows.append((rows[-1][0], 0.0, *rows[-1][2:]))
            continue
        observation, reward, terminated, truncated, info = env.step(int(action))
        rows.append((observation, reward, terminated, truncated, info["state"]))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def vector_rollout(env, actions, **reset):
    observations, infos = env.reset(**reset)
    n = env.num_envs
    rows = [(observations, np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), infos["state"])]
    for action in actions:
        *row, infos = env.step(action)
        rows.append((*row, infos["state"]))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


# Layouts


def test_every_named_layout_is_valid_and_the_default_has_the_papers_size():
    for name in LAYOUTS:
        assert get_layout(name).name == name
    assert get_layout("three-rooms").shape == (16, 24)
    assert ACTION_NAMES == ("noop", "up", "down", "left", "right")


def test_the_default_layout_has_the_structure_that_the_paper_describes():
    """Rooms left downwards and upwards, and hallways one cell wide that also go up."""
    layout = get_layout("three-rooms")
    room_exits = set(layout.exit_actions[layout.in_room].tolist())
    assert room_exits == {UP, DOWN}
    hallway = ~layout.in_room
    assert UP in layout.goal_actions[hallway]
    moves = layout.next_states[:, 1:]
    neighbours = (moves != np.arange(layout.num_states)[:, None]).sum(axis=1)
    assert neighbours[hallway].max() == 2
    assert layout.in_room[layout.start]
    assert not layout.in_room[layout.goal]


def test_rooms_are_left_on_the_side_that_their_mark_says():
    """From anywhere in a room, following the goal leaves it from its last row that way."""
    layout = get_layout("three-rooms")
    for state in np.flatnonzero(layout.in_room):
        exit_action = layout.exit_actions[state]
        here = int(state)
        while layout.in_room[here]:
            assert layout.exit_actions[here] == exit_action
            last, here = here, int(layout.next_states[here, layout.goal_actions[here]])
        beyond = layout.next_states[last, exit_action]
        assert beyond == last or not layout.in_room[beyond]


def test_small_layout_tables_by_hand():
    layout = get_layout(SMALL)
    # States: 0 1 2 3 in row 1, 4 5 and 6 in row 2, 7 the goal.
    assert layout.cells.tolist() == [
        [1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [2, 4], [3, 4]
    ]  # fmt: skip
    assert (layout.start, layout.goal) == (0, 7)
    assert layout.next_states[0].tolist() == [0, 0, 4, 0, 1]
    assert layout.next_states[3].tolist() == [3, 3, 6, 2, 3]
    assert layout.next_states[7].tolist() == [7, 6, 7, 7, 7]
    assert layout.goal_distances.tolist() == [5, 4, 3, 2, 6, 5, 1, 0]
    assert layout.goal_actions.tolist() == [RIGHT, RIGHT, RIGHT, DOWN, UP, UP, DOWN, NOOP]
    assert layout.exit_actions.tolist() == [DOWN, DOWN, 0, 0, DOWN, DOWN, 0, 0]
    assert layout.state_map[1].tolist() == [-1, 0, 1, 2, 3, -1]


def test_moves_and_their_opposites_cancel():
    layout = get_layout("three-rooms")
    for action in range(5):
        there = layout.next_states[:, action]
        back = layout.next_states[there, OPPOSITE_ACTIONS[action]]
        moved = there != np.arange(layout.num_states)
        assert (back[moved] == np.flatnonzero(moved)).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("###", "#S#"), "at least 3 rows"),
        (("####", "#SG#", "###"), "row 2 has 3 characters; expected 4"),
        (("####", "#SG#", "#x.#", "####"), "unknown character 'x' in row 2, column 1"),
        (("####", "#SG.", "####"), "row 1, column 3 is open"),
        (("####", "#.G#", "####"), "exactly one start 'S'; found none"),
        (("#####", "#SGG#", "#####"), "one goal 'G'; found row 1 column 2, row 1 column 3"),
        (("######", "#SG#.#", "######"), "cannot be reached from row 1, column 4"),
        (("#####", "#vS^#", "##G##", "#####"), "'S' in row 1, column 2 touches rooms"),
    ],
)
def test_invalid_layouts_say_where_and_why(rows, message):
    with pytest.raises(ValueError, match=message):
        get_layout(rows)


def test_unknown_layout_names_are_listed():
    with pytest.raises(ValueError, match=r"unknown gridworld layout 'maze'.*three-rooms"):
        get_layout("maze")


# Observations


def test_smoothing_is_the_papers_definition():
    """X[s] <- T[s] X in place, with T the transition matrix averaged over actions."""
    mdp = gridworld_mdp()
    layout = get_layout("three-rooms")
    T = mdp.transitions.mean(axis=1)
    # The goal's own moves count for the smoothing, though episodes end there.
    T[layout.goal] = np.eye(layout.num_states)[layout.next_states[layout.goal]].mean(axis=0)
    X = np.random.default_rng(7).standard_normal((layout.num_states, 50))
    for _ in range(10):
        for state in range(layout.num_states):
            X[state] = T[state] @ X
    assert np.allclose(smoothed_features(layout.next_states, np.random.default_rng(7)), X)


def test_features_have_unit_deviation_unless_told_otherwise():
    scaled, raw = (
        gridworld_model(feature_seed=3),
        gridworld_model(feature_seed=3, feature_scaling="none"),
    )
    assert scaled.features.dtype == np.float32
    assert np.allclose(scaled.features.std(axis=0), 1.0, atol=1e-5)
    assert np.allclose(scaled.features * raw.features.std(axis=0), raw.features, atol=1e-5)
    assert not np.allclose(scaled.features, gridworld_model(feature_seed=4).features)


def test_no_two_cells_look_alike():
    assert (
        len(np.unique(gridworld_model().features, axis=0)) == get_layout("three-rooms").num_states
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action_noise": 1.5}, "action_noise is 1.5"),
        ({"feature_seed": -1}, "feature_seed is -1"),
        ({"feature_scaling": "whitened"}, "feature_scaling is 'whitened'"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
    ],
)
def test_invalid_arguments_are_rejected_by_both_environments(arguments, message):
    for environment in (GridworldMazeEnv, GridworldMazeVectorEnv):
        with pytest.raises(ValueError, match=message):
            environment(**arguments)


# The single environment


def test_environment_checker_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(GRIDWORLD_MAZE_ID).unwrapped)


def test_registration_is_idempotent_and_states_the_time_limit():
    before = gymnasium.spec(GRIDWORLD_MAZE_ID)
    register_environments()
    assert gymnasium.spec(GRIDWORLD_MAZE_ID) is before
    assert before.max_episode_steps == 300


def test_equal_seeds_give_equal_episodes_and_others_do_not():
    env = gymnasium.make(GRIDWORLD_MAZE_ID, action_noise=0.5)
    actions = np.random.default_rng(0).integers(0, 5, 200)
    first, again, other = (rollout(env, actions, seed) for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(first[-1], other[-1])


def test_an_unseeded_reset_goes_on_with_the_generator():
    env = GridworldMazeEnv(action_noise=0.5)
    actions = np.full(50, DOWN)
    env.reset(seed=1)
    second = rollout(env, actions, None)[-1]
    third = rollout(env, actions, None)[-1]
    env.reset(seed=1)
    assert np.array_equal(rollout(env, actions, None)[-1], second)
    assert not np.array_equal(second, third)


def test_walls_block_and_the_goal_pays_and_terminates():
    env = GridworldMazeEnv(layout=CORRIDOR, action_noise=0.0)
    _, info = env.reset(seed=0)
    assert info["state"] == 0
    assert info["cell"].tolist() == [1, 1]
    for action, state in ((UP, 0), (LEFT, 0), (NOOP, 0), (RIGHT, 1), (DOWN, 1)):
        observation, reward, terminated, truncated, info = env.step(action)
        assert (info["state"], reward, terminated, truncated) == (state, 0.0, False, False)
        assert np.array_equal(observation, env.model.features[state])
        assert info["success"] is False
    observation, reward, terminated, truncated, info = env.step(RIGHT)
    assert (info["state"], reward, terminated, truncated) == (2, 1.0, True, False)
    assert info["success"] is True
    assert info["cell"].tolist() == [1, 3]


def test_a_goal_reached_on_the_last_step_is_a_termination():
    for limit, expected in ((2, (1.0, True)), (1, (0.0, False))):
        env = gymnasium.make(
            GRIDWORLD_MAZE_ID, layout=CORRIDOR, action_noise=0.0, max_episode_steps=limit
        )
        env.reset(seed=0)
        for _ in range(limit):
            _, reward, terminated, truncated, _ = env.step(RIGHT)
        assert (reward, terminated) == expected
        assert truncated


def test_action_noise_has_the_stated_frequency():
    """Right is chosen in an open corridor: 0.95 + 0.05/5 right, 0.05/5 left, the rest stays."""
    env = GridworldMazeVectorEnv(20_000, layout=("#####", "#...#", "#.S.#", "#..G#", "#####"))
    env.reset(seed=0)
    start = env.layout.start
    *_, infos = env.step(np.full(20_000, RIGHT))
    share = np.bincount(infos["state"], minlength=env.layout.num_states) / 20_000
    successors = env.layout.next_states[start]
    assert share[successors[RIGHT]] == pytest.approx(0.96, abs=0.007)
    for action in (NOOP, UP, DOWN, LEFT):
        assert share[successors[action]] == pytest.approx(0.01, abs=0.0035)


def test_invalid_actions_are_rejected():
    env = GridworldMazeEnv()
    env.reset(seed=0)
    for action in (5, -1, 1.5):
        with pytest.raises(ValueError, match=r"expected an integer in 0\.\.4"):
            env.step(action)  # pyright: ignore[reportArgumentType]


def test_environments_can_be_pickled_and_go_on_equally():
    env = GridworldMazeEnv()
    env.reset(seed=0)
    copy = pickle.loads(pickle.dumps(env))  # noqa: S301 - as AsyncVectorEnv does
    for action in (DOWN, DOWN, LEFT, RIGHT) * 10:
        assert env.step(action)[4]["state"] == copy.step(action)[4]["state"]


# Rendering


def test_pictures_show_walls_start_goal_and_agent_where_they_are():
    env = GridworldMazeEnv(layout=SMALL, render_mode="rgb_array", action_noise=0.0, cell_size=10)
    env.reset(seed=0)
    env.step(RIGHT)
    image = env.render()
    assert image is not None
    assert image.shape == (50, 60, 3)
    assert image.dtype == np.uint8

    def centre(row, column):
        return tuple(image[row * 10 + 5, column * 10 + 5].tolist())

    assert centre(0, 0) == WALL_COLOUR
    assert centre(1, 1) == START_COLOUR
    assert centre(1, 2) == AGENT_COLOUR
    assert centre(1, 3) == FLOOR_COLOUR
    assert centre(3, 4) == GOAL_COLOUR
    agent = (image == AGENT_COLOUR).all(axis=2)
    assert agent[10:20, 20:30].sum() == agent.sum() > 30


def test_without_a_render_mode_nothing_is_drawn():
    assert GridworldMazeEnv().render() is None
    assert GridworldMazeVectorEnv(2).render() is None
    too_small = GridworldMazeEnv(render_mode="rgb_array", cell_size=2)
    with pytest.raises(ValueError, match="cell_size is 2"):
        too_small.render()


def test_the_vector_environment_draws_every_row():
    env = GridworldMazeVectorEnv(3, layout=CORRIDOR, render_mode="rgb_array", action_noise=0.0)
    env.reset(seed=0)
    env.step(np.array([RIGHT, NOOP, NOOP]))
    frames = env.render()
    assert frames is not None
    assert len(frames) == 3
    assert np.array_equal(frames[1], frames[2])
    assert not np.array_equal(frames[0], frames[1])


# The vector environment


@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_vector_rows_equal_the_single_environment_bit_for_bit(width):
    """Whatever the width; half of the layouts let episodes end at different times."""
    for layout, limit in (("three-rooms", 40), (SMALL, 25)):
        kwargs = {"layout": layout, "action_noise": 0.3, "max_episode_steps": limit}
        env = gymnasium.make_vec(GRIDWORLD_MAZE_ID, num_envs=width, **kwargs)
        single = gymnasium.make(GRIDWORLD_MAZE_ID, **kwargs)
        seeds = [100 + row for row in range(width)]
        actions = np.random.default_rng(0).choice(
            [NOOP, UP, DOWN, LEFT, RIGHT], (50, 64), p=[0.1, 0.1, 0.3, 0.1, 0.4]
        )[:, :width]
        together = vector_rollout(env, actions, seed=seeds)
        for row in {0, 1, width // 2, width - 1} & set(range(width)):
            alone = rollout(single, actions[:, row], seeds[row])
            for batched, expected in zip(together, alone, strict=True):
                assert np.array_equal(batched[:, row], expected)
        if layout == SMALL:
            assert together[1].sum() == together[2][-1].sum()


def test_vector_interface_equals_gymnasiums_own():
    """Observations, rewards, flags and infos, against SyncVectorEnv of the single environment."""
    ours = gymnasium.make_vec(GRIDWORLD_MAZE_ID, num_envs=4, action_noise=0.3)
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make(GRIDWORLD_MAZE_ID, action_noise=0.3)] * 4,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    assert ours.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    mask = np.array([False, True, True, False])
    resets = [
        {"seed": 9},
        {"seed": [1, 2, 3, 4]},
        {},
        {"seed": [5, 6, None, 8], "options": {"reset_mask": mask}},
        {"options": {"reset_mask": mask}},
    ]
    for reset in resets:
        copies = [
            {**reset, **({"options": dict(reset["options"])} if "options" in reset else {})}
            for _ in range(2)
        ]
        results = [(env.reset(**kw)) for env, kw in zip((ours, theirs), copies, strict=True)]
        assert_equal_steps(*results)
        for _ in range(20):
            actions = rng.integers(0, 5, 4)
            assert_equal_steps(ours.step(actions), theirs.step(actions))


def assert_equal_steps(ours, theirs):
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
        assert mine.dtype == other.dtype
        assert np.array_equal(mine, other)
    assert ours[-1].keys() == theirs[-1].keys()
    for name, value in theirs[-1].items():
        assert np.array_equal(ours[-1][name], value), name


def test_the_callers_options_are_left_alone():
    env = GridworldMazeVectorEnv(2)
    options = {"reset_mask": np.array([True, True])}
    env.reset(seed=0, options=options)
    assert "reset_mask" in options


def test_a_masked_reset_leaves_the_other_rows_where_they_are():
    env = GridworldMazeVectorEnv(3, action_noise=0.0)
    env.reset(seed=0)
    env.step(np.full(3, DOWN))
    before = env.states.copy()
    observations, infos = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert env.states.tolist() == [before[0], env.layout.start, before[2]]
    assert np.array_equal(observations, env.model.features[env.states])
    assert infos["_state"].tolist() == [False, True, False]


def test_finished_rows_stay_and_do_not_disturb_the_others():
    env = GridworldMazeVectorEnv(3, layout=CORRIDOR, action_noise=0.0, max_episode_steps=3)
    env.reset(seed=0)
    env.step(np.array([RIGHT, RIGHT, LEFT]))
    _, rewards, terminations, truncations, infos = env.step(np.array([RIGHT, NOOP, LEFT]))
    assert rewards.tolist() == [1, 0, 0]
    assert infos["success"].tolist() == [True, False, False]
    # Row 0 has finished: any action, even one out of range, is ignored.
    _, rewards, terminations, truncations, infos = env.step(np.array([99, RIGHT, LEFT]))
    assert rewards.tolist() == [0, 1, 0]
    assert terminations.tolist() == [True, True, False]
    assert truncations.tolist() == [False, True, True]
    last = env.step(np.array([LEFT, LEFT, RIGHT]))
    assert last[1].tolist() == [0, 0, 0]
    assert last[4]["state"].tolist() == infos["state"].tolist()
    assert np.array_equal(last[2], terminations)
    assert np.array_equal(last[3], truncations)


def test_returned_arrays_are_the_callers():
    env = GridworldMazeVectorEnv(2, layout=CORRIDOR, action_noise=0.0)
    _, infos = env.reset(seed=0)
    infos["state"][:] = 2
    observations, rewards, terminations, truncations, infos = env.step(np.array([RIGHT, RIGHT]))
    for array in (observations, rewards, terminations, truncations, infos["state"]):
        array[:] = 1
    *_, infos = env.step(np.array([LEFT, NOOP]))
    assert infos["state"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda env: env.reset(seed=[1, 2]), ValueError, "got 2 seeds"),
        (lambda env: env.reset(options={"reset_mask": [True] * 3}), TypeError, "dtype bool"),
        (
            lambda env: env.reset(options={"reset_mask": np.zeros(3, bool)}),
            ValueError,
            "0 true entries",
        ),
        (lambda env: env.step(np.zeros(2, int)), ValueError, r"expected \(3,\) integers"),
        (lambda env: env.step(np.zeros(3)), ValueError, "dtype float64"),
        (lambda env: env.step(np.array([0, 5, 0])), ValueError, "environment 1 is 5"),
        (lambda env: env.step(np.array([0, 0, -1])), ValueError, "environment 2 is -1"),
    ],
)
def test_bad_input_to_the_vector_environment(call, error, message):
    env = GridworldMazeVectorEnv(3)
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        call(env)


def test_bad_construction_and_missing_reset_of_the_vector_environment():
    with pytest.raises(ValueError, match="num_envs is 0"):
        GridworldMazeVectorEnv(0)
    with pytest.raises(ValueError, match="max_episode_steps is 0"):
        GridworldMazeVectorEnv(1, max_episode_steps=0)
    env = GridworldMazeVectorEnv(2)
    env.reset(seed=0, options={"reset_mask": np.array([True, False])})
    with pytest.raises(gymnasium.error.ResetNeeded, match="environment 1 was never reset"):
        env.step(np.array([0, 0]))


# The exact MDP against the environment


def test_mdp_transitions_are_the_environments_dynamics():
    """Expected next-state frequencies of every pair, by enumerating executed actions."""
    model = gridworld_model(SMALL, action_noise=0.2)
    mdp = model.mdp()
    layout = model.layout
    for state in range(layout.num_states):
        for action in range(5):
            expected = np.zeros(layout.num_states)
            if state == layout.goal:
                expected[state] = 1.0
            else:
                expected[layout.next_states[state, action]] += 0.8
                for executed in range(5):
                    expected[layout.next_states[state, executed]] += 0.04
            assert np.allclose(mdp.transitions[state, action], expected)
    enters = mdp.transitions[:, :, layout.goal] * ~mdp.terminal[:, None]
    assert np.allclose(mdp.rewards, enters)
    assert mdp.terminal.nonzero()[0].tolist() == [layout.goal]
    assert mdp.initial.argmax() == layout.start


def test_exact_returns_and_visits_agree_with_rollouts():
    """Success within the time limit and visits, within five standard errors of 20,000 episodes."""
    episodes, limit = 20_000, 15
    env = GridworldMazeVectorEnv(episodes, max_episode_steps=limit, layout=SMALL, action_noise=0.3)
    mdp = env.model.mdp()
    policy = 0.5 * mdp.value_iteration(0.99).policy + 0.5 * mdp.uniform_policy()
    act = TabularPolicy(policy, env.model.features)
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=0)
    returns = np.zeros(episodes)
    visits = np.zeros((episodes, mdp.num_states))
    active = np.ones(episodes, dtype=bool)
    for _ in range(limit):
        visits[np.flatnonzero(active), env.states[active]] += 1
        observations, rewards, terminations, truncations, _ = env.step(act(observations, rng))
        returns += rewards
        active &= ~(terminations | truncations)
    expected = mdp.expected_return(policy, horizon=limit)
    assert 0.3 < expected < 0.95
    assert returns.mean() == pytest.approx(
        expected, abs=5 * np.sqrt(expected * (1 - expected) / episodes)
    )
    error = visits.std(axis=0) / np.sqrt(episodes)
    difference = np.abs(visits.mean(axis=0) - mdp.expected_visits(policy, horizon=limit))
    assert (difference <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("spec", list_datasets(family="gridworld"), ids=lambda spec: spec.id)
def test_reference_scores_are_exact(spec):
    """The numbers that the registry states, for the environment and discount that it states."""
    kwargs, horizon = spec.environment.kwargs, spec.environment.max_episode_steps
    reference = spec.reference
    mdp = gridworld_model(**kwargs).mdp()
    random = mdp.expected_return(mdp.uniform_policy(), horizon=horizon)
    expert = mdp.expected_return(mdp.value_iteration(spec.discount).policy, horizon=horizon)
    assert f"within {horizon} steps" in reference.source
    assert f"discount {spec.discount:g}" in reference.source
    assert random == pytest.approx(reference.random, rel=1e-9)
    assert expert == pytest.approx(reference.expert, abs=1e-12)
