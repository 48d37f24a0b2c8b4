"""Where episodes end: regions of mazes, the table over them, and what evaluation records."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest

import hetero_bench
from hetero_bench.cli import main
from hetero_bench.ends import Ends, RegionEnds
from hetero_bench.envs import antmaze_layout, gridworld_layout
from hetero_bench.envs.antmaze import AntMazeEnv
from hetero_bench.envs.gridworld_model import gridworld_mdp, gridworld_model
from hetero_bench.envs.regions import Regions, antmaze_regions, gridworld_regions
from hetero_bench.evaluation import episode_seeds, evaluate
from hetero_bench.tabular_policy import TabularPolicy
from tests.test_evaluation import SPEC, half

UMAZE = antmaze_layout.get_layout("umaze")
ROOMS = gridworld_layout.get_layout("three-rooms")


def test_an_antmazes_regions_are_its_cells_by_their_way_to_the_goal():
    regions = antmaze_regions(UMAZE)
    assert regions.names == (
        "row 3, column 1 (goal)",
        "row 3, column 2",
        "row 3, column 3",
        "row 2, column 3",
        "row 1, column 3",
        "row 1, column 2",
        "row 1, column 1 (start)",
    )
    np.testing.assert_array_equal(regions.distances, range(7))
    positions = [[0.0, 0.0], [1.9, -1.9], [2.1, 0.0], [8.0, 4.0], [0.5, 8.5], [-1.0, 10.5]]
    np.testing.assert_array_equal(regions.locate(np.array(positions)), [6, 6, 5, 3, 0, 0])


def test_every_cell_of_every_antmaze_is_a_region_of_its_own():
    for maze in antmaze_layout.MAZES:
        layout = antmaze_layout.get_layout(maze)
        regions = antmaze_regions(layout)
        found = regions.locate(layout.centres)
        assert sorted(found) == list(range(layout.num_cells))
        assert (np.diff(regions.distances) >= 0).all()
        np.testing.assert_array_equal(regions.distances[found], layout.distances[layout.goal])


def test_a_gridworlds_regions_are_its_rooms_and_hallways():
    regions = gridworld_regions(ROOMS)
    assert regions.names == (
        "hallway 3 (goal)", "room 3", "hallway 2", "room 2", "hallway 1", "room 1 (start)",
    )  # fmt: skip
    found = regions.locate(ROOMS.cells)
    np.testing.assert_array_equal(ROOMS.in_room, found % 2 == 1)
    # The first room has 6 rows of 7 cells; the third hallway 5 with the goal.
    assert (found == 5).sum() == 42
    assert (found == 0).sum() == 5
    for region, distance in enumerate(regions.distances):
        assert ROOMS.goal_distances[found == region].min() == distance
    np.testing.assert_array_equal(regions.locate(np.array([[1.0, 4.0], [3.0, 19.0]])), [5, 0])


def test_start_and_goal_may_share_a_region():
    corridor = gridworld_layout.get_layout(["#####", "#S.G#", "#####"])
    regions = gridworld_regions(corridor)
    assert regions.names == ("hallway 1 (goal)",)
    assert regions.distances.tolist() == [0]


def ends(successes=(False, False, True, False)):
    return Ends(
        regions=antmaze_regions(UMAZE),
        positions=np.array([[0.0, 0.0], [8.0, 4.0], [0.5, 8.2], [0.1, 0.1]]),
        timeouts=np.array([True, True, False, False]),
        successes=None if successes is None else np.array(successes),
    )


def test_the_table_counts_each_episode_once_nearest_to_the_goal_first():
    assert ends().by_region() == [
        RegionEnds("row 3, column 1 (goal)", 0, 1, 1, 0),
        RegionEnds("row 2, column 3", 3, 1, 0, 1),
        RegionEnds("row 1, column 1 (start)", 6, 2, 0, 1),
    ]
    assert str(ends()).splitlines() == [
        "ended in                 moves to goal  episodes  succeeded  timed out",
        "row 3, column 1 (goal)               0         1          1          0",
        "row 2, column 3                      3         1          0          1",
        "row 1, column 1 (start)              6         2          0          1",
    ]


def test_a_task_without_successes_has_none_in_the_table():
    table = ends(successes=None)
    assert [row.successes for row in table.by_region()] == [None, None, None]
    assert str(table).splitlines()[1].split()[-2:] == ["–", "0"]


def test_gridworld_evaluations_say_where_episodes_ended():
    """The optimal policy against one that never moves."""
    model = gridworld_model(action_noise=0.1)
    optimal = TabularPolicy(gridworld_mdp().value_iteration(0.99).policy, model.features)
    spec = hetero_bench.get_spec("gridworld-hetero")
    reached = evaluate(optimal, spec, episodes=20, num_envs=7)
    assert reached.ends.by_region() == [RegionEnds("hallway 3 (goal)", 0, 20, 20, 0)]
    np.testing.assert_array_equal(reached.ends.positions, [[3, 19]] * 20)
    stuck = evaluate(lambda o: np.zeros(len(o), dtype=int), spec, episodes=6)
    (row,) = stuck.ends.by_region()
    assert row == RegionEnds("room 1 (start)", 48, 6, 0, 6)


def test_an_environment_without_regions_reports_none():
    assert evaluate(half, SPEC).ends is None


class Corridor(gymnasium.Env):
    """One's own environment with regions: a walk of as many steps as its seed says."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    regions = Regions(("far", "near"), np.array([5, 0]), lambda p: (p[:, 0] < 3).astype(np.int64))

    def reset(self, *, seed=None, options=None):
        self.position, self.length = np.zeros(2), 1 + seed % 7
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.position = self.position + np.array([1, 0])
        return np.zeros(1, np.float32), 0.0, self.position[0] == self.length, False, {}


def test_ones_own_environment_may_name_regions():
    gymnasium.register("hetero_bench_tests/Regions-v0", lambda **_: Corridor())
    environment = SPEC.environment.model_copy(
        update={"id": "hetero_bench_tests/Regions-v0", "max_episode_steps": 4}
    )
    spec = SPEC.model_copy(update={"environment": environment})
    results = [evaluate(half, spec, num_envs=n, seed=3) for n in (1, 5, 12)]
    for result in results:
        np.testing.assert_array_equal(result.ends.positions[:, 0], result.lengths)
        np.testing.assert_array_equal(result.ends.episode_regions, result.lengths < 3)
        np.testing.assert_array_equal(result.ends.timeouts, 1 + episode_seeds(3, 12) % 7 > 4)
        assert sum(row.episodes for row in result.ends.by_region()) == 12
        assert result.ends.by_region()[0].successes is None
    assert 0 < results[0].ends.timeouts.sum() < 12


def test_the_position_is_the_infos():
    env = AntMazeEnv("umaze")
    _, info = env.reset(seed=0)
    np.testing.assert_array_equal(env.position, info["xy"])
    grid = gymnasium.make("hetero_bench/GridworldMaze-v0")
    _, info = grid.reset(seed=0)
    np.testing.assert_array_equal(grid.unwrapped.position, info["cell"])


def test_the_command_line_prints_and_draws_ends(capsys, tmp_path):
    picture = tmp_path / "ends.png"
    command = ["evaluate", "gridworld-hetero", "--policy", "random", "--episodes", "5"]
    assert main([*command, "--picture", str(picture)]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0].startswith("gridworld-hetero-v0: return")
    assert lines[1].startswith("ended in")
    assert sum(int(line.split()[-3]) for line in lines[2:]) == 5
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {picture}" in output.err

    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ends"].keys() == {"positions", "regions", "timeouts"}
    assert all(len(values) == 5 for values in document["ends"].values())
    assert set(document["ends"]["regions"]) <= set(gridworld_regions(ROOMS).names)


def test_a_picture_needs_a_maze(capsys, tmp_path):
    manifest = tmp_path / "cart.toml"
    manifest.write_text(CART)
    command = ["evaluate", "cart", "--policy", "random", "--register", str(manifest)]
    assert main([*command, "--picture", str(tmp_path / "ends.png")]) == 1
    assert "the environment of cart-v0 is no maze; leave out --picture" in capsys.readouterr().err
    assert main([*command, "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ends"] is None


CART = """
[datasets.cart]
version = 0
family = "toy"
summary = "CartPole."
sources = [{ kind = "d4rl", path = "cart.hdf5" }]
licence = "MIT"
citation = ""
rewards = { semantics = "1 per step" }
environment = { id = "CartPole-v1", max_episode_steps = 20 }
"""


@pytest.mark.parametrize("maze", ["medium", "large"])
def test_the_goal_of_an_antmaze_lies_in_its_goal_region(maze):
    env = AntMazeEnv(maze)
    goals = np.array([env.reset(seed=seed)[1]["goal"] for seed in range(10)])
    assert set(env.regions.locate(goals).tolist()) == {0}
