"""Collecting AntMaze data: the noise schedule, reproducibility, and what the extras say."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from hetero_bench.envs.antmaze import AntMazeEnv
from hetero_bench.envs.antmaze_layout import get_layout
from hetero_bench.errors import ManifestError
from hetero_bench.recipes import antmaze
from hetero_bench.recipes.action_noise import NoiseSchedule, Section
from hetero_bench.recipes.antmaze_controller import AntMazeController, weights_path
from hetero_bench.spec import EnvironmentSpec

UMAZE = EnvironmentSpec(id="hetero_bench/AntMazeUMaze-v0", max_episode_steps=700)
SECTIONS = [
    {"x": (-2, 3), "noise": 0.1},
    {"x": (3, 7), "noise": 0.4, "bias": 0.2},
    {"x": (7, 10), "noise": 0.2, "bias": -0.1},
]


def schedule(*sections, low=-2.0, high=10.0):
    return NoiseSchedule.from_sections([Section(**section) for section in sections], low, high)


def test_the_schedule_is_a_step_function_of_x():
    noise, bias = schedule(*SECTIONS[::-1]).at(np.array([-5.0, 0.0, 2.99, 3.0, 6.0, 7.5, 50.0]))
    np.testing.assert_array_equal(noise, [0.1, 0.1, 0.1, 0.4, 0.4, 0.2, 0.2])
    np.testing.assert_array_equal(bias, [0, 0, 0, 0.2, 0.2, -0.1, -0.1])
    one = schedule({"x": (-2, 10), "noise": 0.3})
    np.testing.assert_array_equal(one.at(np.array([-3.0, 4.0, 11.0]))[0], 0.3)


def test_severity_scales_the_departure_from_the_base_noise():
    x = np.array([0.0, 4.0, 8.0])
    for factor, noise, bias in (
        (0.0, [0.1, 0.1, 0.1], [0.0, 0.0, 0.0]),
        (1.0, [0.1, 0.4, 0.2], [0.0, 0.2, -0.1]),
        (2.0, [0.1, 0.7, 0.3], [0.0, 0.4, -0.2]),
    ):
        found = schedule(*SECTIONS).scaled(factor, 0.1).at(x)
        np.testing.assert_allclose(found, [noise, bias])
    with pytest.raises(ValueError, match=r"scaling the schedule by 2 gives noise -0\.3"):
        schedule(*SECTIONS).scaled(2.0, 0.5)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (SECTIONS[1:], "does not cover x from -2 to 3 m"),
        (SECTIONS[::2], "does not cover x from 3 to 7 m"),
        (SECTIONS[:2], "does not cover x from 7 to 10 m"),
        ([*SECTIONS, {"x": (5, 8), "noise": 0.1}], "covers x from 5 to 7 m twice"),
        ([{"x": (4, 4), "noise": 0.1}], r"x = \[4, 4\] is empty"),
    ],
)
def test_schedules_that_do_not_fit_the_maze(sections, message):
    with pytest.raises(ValueError, match=message):
        schedule(*sections)


def parameters(**changes):
    return {
        "mode": "diverse",
        "on_arrival": "end",
        "schedule": SECTIONS,
        "policy_sha256": digest(),
        "shards": 3,
        "ants": 2,
        "steps": 150,
        **changes,
    }


def digest():
    import hashlib

    return hashlib.sha256(weights_path().read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def collected():
    return antmaze.build(parameters(), 5, environment=UMAZE, workers=2)


def test_layout_of_the_arrays(collected):
    collected.validate()
    assert collected.num_transitions == 3 * 2 * 150
    assert collected.observations.dtype == collected.actions.dtype == np.float32
    assert np.abs(collected.actions).max() <= 1
    assert collected.rewards.dtype == np.float32
    np.testing.assert_array_equal(collected.rewards == 1, collected.terminations)
    ends = np.flatnonzero(collected.terminations | collected.truncations)
    np.testing.assert_array_equal(ends, collected.episode_starts()[1:] - 1)


def test_equal_bits_whatever_the_number_of_workers(collected):
    again = antmaze.build(parameters(), 5, environment=UMAZE, workers=1)
    for (name, first), (_, second) in zip(collected.named(), again.named(), strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)
    assert again.notes == collected.notes
    other = antmaze.build(parameters(), 6, environment=UMAZE)
    assert np.abs(other.observations[0] - collected.observations[0]).max() > 1e-3


def test_stored_actions_replay_in_the_environment(collected):
    env = AntMazeEnv("umaze")
    env.reset(seed=0, options={"goal": (0.0, 8.0)})
    successors = collected.next_observations()
    for row in (0, 40, 300, 610):
        env.data.qpos[:] = collected.observations[row, :15]
        env.data.qvel[:] = collected.observations[row, 15:]
        observation, *_ = env.step(collected.actions[row])
        np.testing.assert_allclose(observation, successors[row], atol=0.02)


def test_extras_say_how_each_action_came_about(collected):
    extras, layout = collected.extras, get_layout("umaze")
    controller = AntMazeController.load()
    means = controller(collected.observations, extras["waypoints"])
    np.testing.assert_allclose(means, extras["controller_means"], atol=1e-3)
    noise, bias = schedule(*SECTIONS).at(collected.observations[:, 0])
    np.testing.assert_allclose(extras["noise_stds"], noise, rtol=1e-6)
    np.testing.assert_allclose(extras["noise_means"], bias, rtol=1e-6)
    centred = collected.actions - extras["controller_means"] - extras["noise_means"][:, None]
    standard = centred / extras["noise_stds"][:, None]
    inner = np.abs(collected.actions) < 1
    means = extras["controller_means"] + extras["noise_means"][:, None]
    inside = (np.abs(means) + 4 * extras["noise_stds"][:, None]) < 1
    assert inside.sum() > 500
    assert (inner | ~inside).mean() > 0.999
    assert standard[inside].mean() == pytest.approx(0, abs=4 / np.sqrt(inside.sum()))
    assert standard[inside].std() == pytest.approx(1, abs=4 / np.sqrt(inside.sum()))
    assert (layout.cells_at(extras["waypoints"].astype(float)) >= 0).mean() > 0.95


def test_episodes_end_as_the_parameters_say():
    short = {"shards": 1, "ants": 2, "steps": 120, "mode": "single"}
    stay = EnvironmentSpec(id=UMAZE.id, max_episode_steps=50)
    arrays = antmaze.build(parameters(**short, on_arrival="stay"), 0, environment=stay)
    assert np.diff(arrays.episode_starts()).tolist() == [50, 50, 20] * 2
    assert not arrays.terminations.any()
    np.testing.assert_allclose(arrays.observations[0, :2], 0, atol=0.1)


def collected_shard(steps, max_episode_steps, **changes):
    """One shard of a collection, without worker processes."""
    settings, layout = antmaze.check(parameters(steps=steps, **changes), UMAZE)
    arguments = {"parameters": settings.model_dump(), "seed": 1, "maze": layout.name}
    return antmaze.collect_shard({**arguments, "max_episode_steps": max_episode_steps}, 0)


@pytest.mark.parametrize("on_arrival", ["end", "stay"])
def test_an_arrival_ends_an_episode_or_does_not(on_arrival):
    even = [{"x": (-2, 10), "noise": 0.1}]
    shard = collected_shard(400, 150, on_arrival=on_arrival, schedule=even)
    terminations, truncations, arrivals = (
        shard[name].reshape(2, 400) for name in ("terminations", "truncations", "arrivals")
    )
    assert not (terminations & truncations).any()
    elsewhere = arrivals & ~terminations
    assert elsewhere.any(axis=1).all()
    for ant in range(2):
        last = np.flatnonzero(terminations[ant] | truncations[ant])
        out_of_time = (np.diff(last, prepend=-1) == 150) | (last == 399)
        on_the_way = ~(out_of_time | terminations[ant, last])
        there = np.flatnonzero(elsewhere[ant])
        if on_arrival == "stay":
            assert not on_the_way.any()
            assert len(there) > 20  # it stands there
        else:
            assert on_the_way.any()
            assert elsewhere[ant, last[on_the_way]].all()
            assert set(there) <= set(last)


@pytest.mark.slow
def test_the_environments_goal_terminates():
    arrays = antmaze.build(
        parameters(mode="single", steps=700, schedule=[{"x": (-2, 10), "noise": 0.1}]),
        0,
        environment=UMAZE,
    )
    goals = arrays.final_observations[arrays.terminations[arrays.episode_starts()[1:] - 1], :2]
    assert len(goals) >= 6
    assert (np.abs(goals - [0.75, 8.75]) <= 1.25).all()
    assert arrays.notes["episodes_that_reached_the_evaluated_goal"] == len(goals)
    assert arrays.notes["other_episodes_that_arrived_where_sent"] == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mode": "random"}, ManifestError, "recipe.parameters: mode"),
        ({"policy_sha256": "0" * 64}, ValueError, "expected 0000"),
        ({"schedule": SECTIONS[:1]}, ValueError, "does not cover x from 3 to 10 m"),
        ({"schedule": []}, ManifestError, "schedule"),
        ({"severity": -1}, ManifestError, "severity"),
        ({"nose": 1}, ManifestError, "nose"),
    ],
)
def test_wrong_parameters(changes, error, message):
    with pytest.raises(error, match=message):
        antmaze.build(parameters(**changes), 0, environment=UMAZE)


def test_missing_weights(monkeypatch, tmp_path):
    good = parameters()
    monkeypatch.setattr("hetero_bench.recipes.antmaze_controller.registry_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="no policy weights at"):
        antmaze.build(good, 0, environment=UMAZE)


def test_the_maze_comes_from_the_environment():
    assert antmaze.environment_layout(UMAZE).name == "umaze"
    custom = EnvironmentSpec(
        id=UMAZE.id, kwargs={"maze": ["####", "#SG#", "####"]}, max_episode_steps=5
    )
    assert antmaze.environment_layout(custom).num_cells == 2
    with pytest.raises(gymnasium.error.Error):
        antmaze.environment_layout(EnvironmentSpec(id="Nowhere-v0", max_episode_steps=1))


@pytest.mark.slow
def test_the_bundled_controller_runs_and_stays_on_its_feet():
    from hetero_bench.envs.antmaze_model import AntBatch, ant_model
    from hetero_bench.recipes.antmaze_steering import uprightness

    controller, ants, rng = (
        AntMazeController.load(),
        AntBatch(ant_model(), 10),
        np.random.default_rng(0),
    )
    for index in range(10):
        ants.reset(index, rng)
    for _ in range(120):
        observations = ants.observations
        means = controller(observations, observations[:, :2] + [0.0, 5.0])
        ants.step(means + 0.2 * rng.standard_normal(means.shape))
    assert (uprightness(ants.observations) > 0.3).all()
    assert ants.observations[:, 1].mean() / 12 > 1.0
