"""AntMaze: D4RL's physics, reset, goals, rewards and episode ends."""

from __future__ import annotations

import os
import subprocess
import sys

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import hetero_bench.envs
from hetero_bench.envs.antmaze import AntMazeEnv, draw_goals, maze_model
from hetero_bench.envs.antmaze_layout import MAZES, get_layout
from hetero_bench.envs.antmaze_model import AntBatch, ant_model, ant_xml_path

CHANGED_FIELDS = {"opt.timestep", "actuator_gear", "geom_solimp"}
DERIVED_FIELDS = {"actuator_acc0"}  # acceleration per unit of control, which follows from the gear


def physical_fields(model):
    """Every compiled array and option, by name."""
    for name in sorted(dir(model)):
        value = getattr(model, name)
        if isinstance(value, np.ndarray) and not name.startswith("_"):
            yield name, value
    for name in sorted(dir(model.opt)):
        if not name.startswith("_"):
            yield f"opt.{name}", getattr(model.opt, name)


def test_the_ant_differs_from_gymnasiums_in_the_stated_fields_only():
    ours = ant_model()
    theirs = mujoco.MjModel.from_xml_path(str(ant_xml_path()))
    found = {
        name
        for (name, value), (_, reference) in zip(
            physical_fields(ours), physical_fields(theirs), strict=True
        )
        if not callable(value) and not np.array_equal(value, reference)
    }
    assert found == CHANGED_FIELDS | DERIVED_FIELDS
    np.testing.assert_allclose(ours.actuator_acc0, theirs.actuator_acc0 * 30 / 150)


def test_the_changed_fields_have_d4rls_values():
    model = ant_model()
    assert model.opt.timestep == 0.02
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    assert (model.nq, model.nv, model.nu) == (15, 14, 8)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 30.0)
    np.testing.assert_array_equal(model.actuator_gear[:, 1:], 0.0)
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-1.0, 1.0]] * 8)
    assert model.actuator_ctrllimited.all()
    np.testing.assert_array_equal(model.geom_solimp[:, :3], [[0.8, 0.8, 0.01]] * model.ngeom)
    np.testing.assert_array_equal(model.geom_solref, [[0.02, 1.0]] * model.ngeom)


@pytest.mark.parametrize("maze", list(MAZES))
def test_walls_stand_where_the_text_says(maze):
    layout, bare = get_layout(maze), ant_model()
    model = maze_model(layout)
    walls = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)
    marks = np.argwhere(np.array([list(row) for row in MAZES[maze]]) == "#")
    assert len(walls) == len(marks)
    assert model.ngeom == bare.ngeom + len(walls)
    expected = (marks - [1, 1])[:, ::-1] * 4.0
    np.testing.assert_array_equal(model.geom_pos[walls, :2], expected)
    np.testing.assert_array_equal(model.geom_pos[walls, 2], 1.0)
    np.testing.assert_array_equal(model.geom_size[walls], [[2.0, 2.0, 1.0]] * len(walls))
    np.testing.assert_array_equal(model.geom_solimp[walls, :3], [[0.8, 0.8, 0.01]] * len(walls))
    np.testing.assert_array_equal(model.geom_friction[walls], [[1, 0.5, 0.5]] * len(walls))
    np.testing.assert_array_equal(model.geom_margin[walls], 0.01)
    assert (model.geom_contype[walls] == 1).all()
    assert (model.geom_conaffinity[walls] == 1).all()
    np.testing.assert_array_equal(model.body_mass, bare.body_mass)


@pytest.mark.parametrize(
    ("name", "steps"), [("UMaze", 700), ("Medium", 1000), ("Large", 1000), ("Ultra", 2000)]
)
def test_registered_environments(name, steps):
    spec = gymnasium.spec(f"hetero_bench/AntMaze{name}-v0")
    assert spec.max_episode_steps == steps
    assert spec.kwargs == {"maze": name.lower()}
    hetero_bench.envs.register_environments()
    assert gymnasium.spec(f"hetero_bench/AntMaze{name}-v0") is spec


@pytest.mark.filterwarnings("ignore:.*A Box observation space")
def test_gymnasiums_checker_is_content():
    check_env(gymnasium.make("hetero_bench/AntMazeUMaze-v0").unwrapped, skip_render_check=True)


def rollout(env, seed, steps=40):
    rng = np.random.default_rng(seed)
    start, _ = env.reset(seed=seed)
    return np.array([start, *(env.step(rng.uniform(-1, 1, 8))[0] for _ in range(steps))])


def test_equal_seeds_give_equal_bits_and_others_do_not():
    first = rollout(AntMazeEnv("medium"), 3)
    env = AntMazeEnv("medium")
    rollout(env, 4)
    np.testing.assert_array_equal(rollout(env, 3), first)
    assert np.abs(rollout(env, 4) - first).max() > 0.1


def test_observations_are_positions_then_velocities():
    env = AntMazeEnv("umaze")
    env.reset(seed=0)
    observation, _, _, _, info = env.step(np.full(8, 0.5))
    assert observation.shape == (29,)
    np.testing.assert_array_equal(observation[:15], env.data.qpos)
    np.testing.assert_array_equal(observation[15:], env.data.qvel)
    np.testing.assert_array_equal(observation[:2], info["xy"])
    assert np.linalg.norm(observation[3:7]) == pytest.approx(1)


def test_a_step_lasts_a_tenth_of_a_second_and_moves_by_the_velocity():
    env = AntMazeEnv("umaze")
    env.reset(seed=0)
    before = env.data.time
    observation, *_ = env.step(np.zeros(8))
    assert env.data.time - before == pytest.approx(0.1)
    moved = env.step(np.zeros(8))[0][:2] - observation[:2]
    assert np.abs(moved - 0.1 * observation[15:17]).max() < 0.02


def test_actions_beyond_the_bounds_are_clipped():
    first, second = AntMazeEnv("umaze"), AntMazeEnv("umaze")
    first.reset(seed=1)
    second.reset(seed=1)
    np.testing.assert_array_equal(first.step(np.full(8, 7.0))[0], second.step(np.ones(8))[0])


def test_reset_noise():
    ants = AntBatch(ant_model(), 1)
    rng = np.random.default_rng(0)
    starts = []
    for _ in range(1000):
        ants.reset(0, rng)
        starts.append(ants.observations[0].copy())
    starts = np.array(starts)
    offsets = starts[:, [0, 1, 2, *range(7, 15)]] - [0, 0, 0.75, *[0] * 8]
    assert np.abs(offsets).max() <= 0.1
    assert offsets.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
    np.testing.assert_allclose(np.linalg.norm(starts[:, 3:7], axis=1), 1)
    assert np.abs(starts[:, 4:7]).max() < 0.1 / 0.9
    assert starts[:, 15:].std() == pytest.approx(0.1, rel=0.02)
    assert starts[:, 15:].mean() == pytest.approx(0, abs=0.003)


def test_a_batch_steps_the_ants_it_is_told_to():
    model, rng = ant_model(), np.random.default_rng(0)
    batch, single = AntBatch(model, 3), AntBatch(model, 1)
    for index in range(3):
        batch.reset(index, rng, (index, 0.0))
    before = batch.observations.copy()
    single.data[0].qpos[:], single.data[0].qvel[:] = before[2, :15], before[2, 15:]
    mujoco.mj_forward(model, single.data[0])
    actions = rng.uniform(-1, 1, (2, 8))
    after = batch.step(actions, [2, 0])
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[2], single.step(actions[:1])[0])
    assert np.abs(after[0] - before[0]).max() > 0.01


def test_goals_are_redrawn_at_each_reset_within_their_noise():
    env = AntMazeEnv("large")
    centre = np.array([32.0, 24.0])
    goals = np.array([env.reset(seed=seed)[1]["goal"] for seed in range(20)])
    assert len(np.unique(goals, axis=0)) == 20
    assert ((goals >= centre) & (goals <= centre + 1.5)).all()
    many = draw_goals(np.zeros((20000, 2)), np.random.default_rng(0))
    assert many.min() >= 0
    assert 1.45 < many.max() <= 1.5
    assert many.mean() == pytest.approx(0.75, abs=0.01)
    assert many.var() == pytest.approx(1 / 12 + 0.25 / 12, rel=0.02)


@pytest.mark.parametrize(("distance", "success"), [(0.4, True), (0.6, False)])
def test_the_goal_is_half_a_metre_wide(distance, success):
    env = AntMazeEnv("umaze")
    env.reset(seed=0, options={"start": (4.0, 0.0), "goal": (4.0 + distance, 0.0)})
    _, reward, terminated, truncated, info = env.step(np.zeros(8))
    assert np.linalg.norm(info["xy"] - info["goal"]) == pytest.approx(distance, abs=0.05)
    assert (reward, terminated, truncated) == (float(success), success, False)
    assert info["success"] is success


def test_the_time_limit_truncates_and_the_goal_terminates():
    env = gymnasium.make("hetero_bench/AntMazeUMaze-v0", max_episode_steps=3)
    env.reset(seed=0)
    flags = [env.step(np.zeros(8, np.float32))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    env.reset(seed=0, options={"goal": (0.0, 0.0)})
    assert env.step(np.zeros(8, np.float32))[2:4] == (True, False)


@pytest.mark.parametrize(("axis", "sign"), [(0, -1), (1, -1), (1, 1)])
def test_walls_stop_a_flying_ant(axis, sign):
    env = AntMazeEnv("umaze")
    env.reset(seed=0)
    env.data.qvel[axis] = 10.0 * sign
    furthest = 0.0
    for _ in range(20):
        observation, *_ = env.step(np.zeros(8))
        furthest = max(furthest, sign * observation[axis])
    assert 0.5 < furthest < 2.0


def test_an_open_way_does_not_stop_it():
    env = AntMazeEnv("umaze")
    env.reset(seed=0)
    env.data.qvel[0] = 10.0
    assert max(env.step(np.zeros(8))[0][0] for _ in range(20)) > 2.5


def test_custom_mazes():
    env = AntMazeEnv(["#####", "#G.S#", "#####"])
    _, info = env.reset(seed=0)
    assert -8.0 <= info["goal"][0] <= -6.5
    np.testing.assert_array_equal(env.layout.centres, [[-8, 0], [-4, 0], [0, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maze": "huge"}, "unknown AntMaze maze 'huge'; expected one of umaze, medium"),
        ({"maze": "UMaze"}, "unknown AntMaze maze 'UMaze'; expected one of umaze, medium"),
        ({"maze": 3}, "maze is 3; expected one of umaze, .*, or a sequence of rows, each a string"),
        (
            {"maze": [["#", "S"], ["G", "#"]]},
            r"maze is \[\['#', 'S'\], .* each a string of # . S G",
        ),
        ({"maze": None}, "maze is None; expected one of umaze"),
        ({"maze": ["####", "#SG#", "###"]}, "row 2 has 3 characters"),
        ({"maze": ["#####", "#S..#", "#####"]}, "exactly one 'G'; found none"),
        ({"maze": ["#####", "#SGS#", "#####"]}, "exactly one 'S'; found row 1 column 1, row 1"),
        ({"maze": ["####", "#SG.", "####"]}, "row 1, column 3 is open"),
        ({"maze": ["#####", "#SxG#", "#####"]}, "unknown character 'x' in row 1, column 2"),
        ({"maze": ["#####", "#S#G#", "#####"]}, "row 1, column 3 cannot be reached"),
        ({"maze": ["##", "##"]}, "at least 3 rows"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
        ({"image_size": 0}, "image_size is 0; expected a number of pixels from 1"),
        ({"image_size": "big"}, "image_size is 'big'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AntMazeEnv(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": "corner"}, "goal is 'corner'; expected x and y"),
        ({"goal": (1.0, 2.0, 3.0)}, "expected x and y"),
        ({"goal": 5}, "goal is 5; expected x and y in metres"),
        ({"goal": {"x": 0.0, "y": 0.0}}, "goal is {'x': 0.0, 'y': 0.0}; expected x and y"),
        ({"goal": [(0.0, 0.0)]}, r"goal is \[\(0.0, 0.0\)\]; expected x and y"),
        ("goal", "reset options are 'goal'; expected a dict such as {'goal': "),
        ({"start": (np.nan, 0.0)}, "both finite"),
        (
            {"goal": (0.0, 3.0)},
            r"goal \(0, 3\) lies in no free cell of maze 'umaze'; the nearest one's centre is "
            r"\(0, 0\), and the origin is the centre of the start cell",
        ),
        ({"goal": (400.0, 0.0)}, r"the nearest one's centre is \(8, 0\)"),
        ({"target": (0.0, 0.0)}, r"unknown reset options \['target'\]"),
    ],
)
def test_wrong_reset_options(options, message):
    with pytest.raises(ValueError, match=message):
        AntMazeEnv("umaze").reset(seed=0, options=options)


@pytest.mark.parametrize("action", [np.zeros(7), np.zeros((1, 8)), np.full(8, np.nan)])
def test_wrong_actions(action):
    env = AntMazeEnv("umaze")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected 8 finite numbers"):
        env.step(action)


RENDERING = """
import numpy as np
from hetero_bench.envs.antmaze import AntMazeEnv
from hetero_bench.envs.antmaze_vector import AntMazeVectorEnv
env = AntMazeEnv("large", render_mode="rgb_array", image_size=240)
env.reset(seed=0, options={"goal": (32.0, 24.0)})
try:
    picture = env.render().astype(int)
except RuntimeError as error:
    raise SystemExit(77)
assert picture.shape == (180, 240, 3), picture.shape
green = np.argwhere((picture[..., 1] > 100) & (picture[..., 0] < 90))
row, column = green.mean(axis=0)
# 20 pixels per cell; the goal's cell is row 7 of 9 counted from the bottom, and column 9.
assert abs(row - 30) < 3 and abs(column - 190) < 3, (row, column)
assert (picture[2, 2] < 110).all() and (picture[150, 50] > 200).all()
assert AntMazeEnv("umaze").render() is None

vector = AntMazeVectorEnv(2, maze="large", render_mode="rgb_array", image_size=240)
vector.reset(seed=3)
first, second = vector.render()
env.reset(seed=4)
assert (second == env.render()).all() and (first != second).any()
assert AntMazeVectorEnv(2).render() is None
vector.close()
env.close()
"""


def test_the_view_from_above_shows_walls_and_goal():
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    result = subprocess.run(
        [sys.executable, "-c", RENDERING], env=environment, capture_output=True, text=True
    )
    if result.returncode == 77:
        pytest.skip("MuJoCo cannot open an OpenGL context here (Debian: libegl1)")
    assert result.returncode == 0, result.stderr
