"""AntMazes stepped together: equal to single ones bit for bit, whatever their number."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hetero_bench.envs.antmaze_vector import AntMazeVectorEnv
from hetero_bench.evaluation import episode_seeds, evaluate
from hetero_bench.recipes.antmaze_walker import AntMazeWalker
from hetero_bench.spec import DatasetSpec

MEDIUM = "hetero_bench/AntMazeMedium-v0"
SHORT_MAZE = ("####", "#SG#", "####")
SPEC = DatasetSpec.model_validate(
    {
        "name": "short-antmaze",
        "version": 0,
        "family": "toy",
        "summary": "",
        "sources": [{"kind": "d4rl", "path": "none"}],
        "licence": "MIT",
        "citation": "",
        "rewards": {"semantics": "1 at the goal"},
        "environment": {
            "id": MEDIUM,
            "kwargs": {"maze": list(SHORT_MAZE)},
            "max_episode_steps": 40,
        },
        "evaluation_episodes": 9,
    }
)


def assert_equal_steps(ours, theirs):
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)
    assert ours[-1].keys() == theirs[-1].keys()
    for name, value in theirs[-1].items():
        np.testing.assert_array_equal(ours[-1][name], value, err_msg=name)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_interface_and_every_bit_equal_gymnasiums_own(threads):
    ours = gymnasium.make_vec(MEDIUM, num_envs=4, max_episode_steps=6, threads=threads)
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make(MEDIUM, max_episode_steps=6)] * 4,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    assert isinstance(ours.unwrapped, AntMazeVectorEnv)
    assert ours.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    for reset in ({"seed": 9}, {"seed": [1, 2, 3, 4]}, {}):
        assert_equal_steps(ours.reset(**reset), theirs.reset(**reset))
        for _ in range(6):
            actions = rng.uniform(-1, 1, (4, 8)).astype(np.float32)
            assert_equal_steps(ours.step(actions), theirs.step(actions))
    mask = np.array([False, True, True, False])
    results = [
        env.reset(seed=[5, 6, None, 8], options={"reset_mask": mask}) for env in (ours, theirs)
    ]
    assert_equal_steps(*results)
    ours.close()
    theirs.close()


def test_the_number_of_rows_and_threads_changes_no_bit():
    actions = np.random.default_rng(0).uniform(-1, 1, (15, 8, 8))
    seeds = list(range(20, 28))

    def rollout(rows, threads):
        env = AntMazeVectorEnv(len(rows), maze="large", threads=threads)
        start, _ = env.reset(seed=[seeds[row] for row in rows])
        steps = [start, *(env.step(action[rows])[0] for action in actions)]
        env.close()
        return np.array(steps)

    everything = rollout(list(range(8)), 1)
    np.testing.assert_array_equal(rollout(list(range(8)), 2), everything)
    np.testing.assert_array_equal(rollout(list(range(8)), 11), everything)
    np.testing.assert_array_equal(rollout([6, 1, 3], 2), everything[:, [6, 1, 3]])
    np.testing.assert_array_equal(rollout([4], 1), everything[:, [4]])
    assert len(np.unique(everything[-1], axis=0)) == 8


def test_finished_rows_stay_and_do_not_disturb_the_others():
    env = AntMazeVectorEnv(3, max_episode_steps=4, maze="umaze", threads=2)
    env.reset(seed=0)
    env.step(np.zeros((3, 8)))
    env.reset(seed=[1, 2, 3], options={"reset_mask": np.array([False, True, False])})
    for _ in range(3):
        before, *_ = env.step(np.full((3, 8), 0.3))
    actions = np.full((3, 8), 0.3)
    actions[[0, 2]] = np.nan  # ignored in rows that have finished
    after, rewards, terminations, truncations, infos = env.step(actions)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.abs(after[1] - before[1]).max() > 1e-3
    assert rewards.tolist() == [0, 0, 0]
    assert not terminations.any()
    assert truncations.all()
    np.testing.assert_array_equal(infos["xy"], after[:, :2])


def test_a_row_that_reaches_its_goal_terminates_once():
    env = AntMazeVectorEnv(2, maze=SHORT_MAZE)
    env.reset(seed=0)
    env.goals[1] = 0.0
    first, again = (env.step(np.zeros((2, 8))) for _ in range(2))
    assert first[1].tolist() == [0, 1]
    assert first[2].tolist() == again[2].tolist() == [False, True]
    assert first[4]["success"].tolist() == again[4]["success"].tolist() == [False, True]
    assert again[1].tolist() == [0, 0]


def test_a_fixed_policys_evaluation_does_not_depend_on_the_number_of_environments():
    """The bundled controller, with episodes that end in success and by time-out."""
    walker = AntMazeWalker(SHORT_MAZE)
    results = [evaluate(walker, SPEC, num_envs=n) for n in (9, 1, 4)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.lengths, results[0].lengths)
        np.testing.assert_array_equal(result.successes, results[0].successes)
        np.testing.assert_array_equal(result.ends.positions, results[0].ends.positions)
        np.testing.assert_array_equal(result.ends.timeouts, results[0].ends.timeouts)
    assert 0 < results[0].success_rate < 1
    assert len(set(results[0].lengths)) > 3


def test_an_evaluation_equals_a_plain_loop_over_single_environments():
    walker = AntMazeWalker(SHORT_MAZE)
    result = evaluate(walker, SPEC, episodes=4, num_envs=3, seed=2)
    env = gymnasium.make(MEDIUM, maze=SHORT_MAZE, max_episode_steps=40)
    for k, seed in enumerate(episode_seeds(2, 4)):
        observation, info = env.reset(seed=int(seed))
        total, steps, ended = 0.0, 0, False
        while not ended:
            action = walker(observation[None])[0]
            observation, reward, terminated, truncated, info = env.step(action)
            total, steps, ended = total + float(reward), steps + 1, terminated or truncated
        assert (result.returns[k], result.lengths[k]) == (total, steps)
        assert result.successes[k] == info["success"]
        np.testing.assert_array_equal(result.ends.positions[k], info["xy"])


def test_the_walkers_rows_do_not_depend_on_each_other():
    walker = AntMazeWalker("medium")
    env = AntMazeVectorEnv(11, maze="medium")
    observations, _ = env.reset(seed=0)
    together = walker(observations)
    assert together.shape == (11, 8)
    assert together.dtype == np.float32
    for rows in ([0], [3, 4], [10, 2, 7, 1, 5]):
        np.testing.assert_array_equal(walker(observations[rows]), together[rows])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda env: env.reset(seed=[1, 2]), ValueError, "got 2 seeds"),
        (lambda env: env.reset(options={"goal": (0, 0)}), ValueError, r"options \['goal'\]"),
        (lambda env: env.reset(options={"reset_mask": [True] * 3}), TypeError, "dtype bool"),
        (lambda env: env.step(np.zeros((3, 7))), ValueError, r"shape \(3, 7\); expected \(3, 8\)"),
        (lambda env: env.step(np.full((3, 8), np.nan)), ValueError, "environment 0 is"),
    ],
)
def test_bad_input(call, error, message):
    env = AntMazeVectorEnv(3)
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        call(env)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"maze": "huge"}, "unknown AntMaze maze 'huge'; expected one of umaze, medium"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
        ({"image_size": 0}, "image_size is 0"),
    ],
)
def test_bad_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        AntMazeVectorEnv(**arguments)


def test_evaluating_in_an_unknown_maze_says_which_there_are():
    environment = SPEC.environment.model_copy(update={"kwargs": {"maze": "huge"}})
    spec = SPEC.model_copy(update={"environment": environment})
    with pytest.raises(ValueError, match="unknown AntMaze maze 'huge'; expected one of umaze"):
        evaluate(AntMazeWalker("umaze"), spec)


def test_a_missing_reset_is_named():
    env = AntMazeVectorEnv(2)
    observations, _ = env.reset(seed=0, options={"reset_mask": np.array([True, False])})
    assert observations[0, 2] > 0.6
    np.testing.assert_array_equal(observations[1], 0.0)
    with pytest.raises(gymnasium.error.ResetNeeded, match="environment 1 was never reset"):
        env.step(np.zeros((2, 8)))


def test_threads_follow_cores_and_rows(monkeypatch):
    """Eight rows per thread at least, and never more threads than the variable allows."""
    monkeypatch.setenv("HETERO_BENCH_WORKERS", "3")
    for rows, threads in ((1, 1), (15, 1), (16, 2), (100, 3)):
        env = AntMazeVectorEnv(rows)
        pool = env._ants._pool
        assert (1 if pool is None else pool._max_workers) == threads
        env.close()
