from __future__ import annotations

import os

import gymnasium
import numpy as np
import pytest

import hetero_bench
from hetero_bench.errors import PolicyError
from hetero_bench.evaluation import episode_seeds, evaluate
from hetero_bench.policies import OnnxPolicy, PredictorPolicy, RandomPolicy, find_policy
from hetero_bench.spec import DatasetSpec
from hetero_bench.tabular_policy import TabularPolicy


class Countdown(gymnasium.Env):
    """Lasts as many steps as its seed says; the reward is the action; it logs its resets."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    seeds: list[int] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Countdown.seeds.append(seed)
        self.length = 1 + seed % 7
        self.t = 0
        return self._observation(), {}

    def step(self, action):
        self.t += 1
        done = self.t == self.length
        info = {"success": done and self.length > 3}
        return self._observation(), float(action[0]), done, False, info

    def _observation(self):
        return np.array([self.t, self.length], dtype=np.float32)


gymnasium.register("hetero_bench_tests/Countdown-v0", lambda **_: Countdown())

SPEC = DatasetSpec.model_validate(
    {
        "name": "countdown",
        "version": 0,
        "family": "toy",
        "summary": "",
        "sources": [{"kind": "d4rl", "path": "none"}],
        "licence": "MIT",
        "citation": "",
        "rewards": {"semantics": "the action"},
        "environment": {"id": "hetero_bench_tests/Countdown-v0", "max_episode_steps": 5},
        "reference": {"random": 0.0, "expert": 2.0, "source": "made up"},
        "evaluation_episodes": 12,
    }
)


def half(observations):
    return np.full((len(observations), 1), 0.5, dtype=np.float32)


@pytest.mark.parametrize("num_envs", [1, 3, 5, 12, 40])
def test_every_episode_is_run_once_whatever_the_others_lengths(num_envs):
    Countdown.seeds.clear()
    result = evaluate(half, SPEC, num_envs=num_envs, seed=3)
    seeds = episode_seeds(3, 12)
    assert sorted(Countdown.seeds) == sorted(seeds.tolist())
    lengths = np.minimum(1 + seeds % 7, 5)  # the time limit truncates at 5
    np.testing.assert_array_equal(result.lengths, lengths)
    np.testing.assert_allclose(result.returns, 0.5 * lengths)
    np.testing.assert_array_equal(result.successes, np.isin(1 + seeds % 7, [4, 5]))
    np.testing.assert_allclose(result.scores, 25.0 * lengths)
    assert result.score == pytest.approx(25.0 * lengths.mean())


def test_success_is_an_episodes_own_and_at_any_step():
    """Success is reported only in the step that has it, and never again in that episode."""

    class Flash(Countdown):
        def step(self, action):
            observation, reward, done, truncated, _ = super().step(action)
            info = {"success": True} if self.t == 1 and self.length > 3 else {}
            return observation, reward, done, truncated, info

    gymnasium.register("hetero_bench_tests/Flash-v0", lambda **_: Flash())
    flash = SPEC.environment.model_copy(update={"id": "hetero_bench_tests/Flash-v0"})
    result = evaluate(half, SPEC.model_copy(update={"environment": flash}), num_envs=2, seed=3)
    np.testing.assert_array_equal(result.successes, 1 + episode_seeds(3, 12) % 7 > 3)
    assert set(result.successes) == {True, False}


def test_the_batched_environment_gives_equal_episodes_at_any_width(cache):
    """More episodes than environments, ending at different times."""
    mdp = hetero_bench.load("gridworld-uniform").make_env().unwrapped
    policy = TabularPolicy(mdp.mdp.value_iteration(0.99).policy, mdp.model.features)
    results = [evaluate(policy, "gridworld-hetero", episodes=30, num_envs=n) for n in (1, 7, 30)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.lengths, results[0].lengths)
    assert len(set(results[0].lengths)) > 5


def test_the_first_episodes_do_not_depend_on_how_many_follow():
    np.testing.assert_array_equal(episode_seeds(1, 100)[:10], episode_seeds(1, 10))
    assert len(set(episode_seeds(0, 1000))) == 1000
    assert not np.array_equal(episode_seeds(0, 10), episode_seeds(1, 10))


def test_a_policy_with_memory_is_told_which_rows_start():
    class Memory:
        def __init__(self):
            self.steps = np.zeros(0, dtype=int)

        def reset(self, mask):
            if len(self.steps) != len(mask):
                self.steps = np.zeros(len(mask), dtype=int)
            self.steps[mask] = 0

        def __call__(self, observations):
            np.testing.assert_array_equal(observations[self.live(observations), 0], self.expected)
            self.steps += 1
            return half(observations)

        def live(self, observations):
            live = self.steps < observations[:, 1]
            self.expected = self.steps[live]
            return live

    result = evaluate(Memory(), SPEC, num_envs=4)
    assert result.episodes == 12


def test_a_stochastic_policy_draws_from_the_evaluations_generator():
    def noisy(observations, rng):
        return rng.uniform(-1, 1, (len(observations), 1))

    first, again, other = (evaluate(noisy, SPEC, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.returns, again.returns)
    assert not np.array_equal(first.returns, other.returns)


def test_the_dataset_may_come_with_the_policy():
    def policy(observations):
        return half(observations)

    with pytest.raises(TypeError, match="no dataset to evaluate on"):
        evaluate(policy)
    policy.dataset = SPEC
    assert evaluate(policy).dataset_id == "countdown-v0"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (lambda o: np.zeros((len(o), 2), np.float32), r"shape \(4, 2\) for 4 observations"),
        (lambda o: np.zeros(len(o), np.float32), r"expected \(4, 1\)"),
        (lambda o: np.full((len(o), 1), "a"), "dtype <U1; expected floats"),
        (lambda o: np.where(o[:, :1] == 2, np.nan, 0.0), r"episode \d+, step 2: action \[nan\]"),
        (lambda o: np.where(o[:, :1] == 1, 1.5, 0.0), r"episode \d+, step 1: action \[1.5\]"),
    ],
)
def test_unusable_actions_are_named_by_episode_and_step(policy, message):
    with pytest.raises(PolicyError, match=message):
        evaluate(policy, SPEC, num_envs=4)


def test_rounding_beyond_the_bounds_is_clipped():
    result = evaluate(lambda o: np.full((len(o), 1), 1 + 1e-6), SPEC)
    np.testing.assert_array_equal(result.returns, result.lengths)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (lambda n: np.zeros(n), "dtype float64; expected integers"),
        (lambda n: np.full(n, 5), r"episode 0, step 0: action 5 .* \[0, 4\]"),
        (lambda n: np.full(n, -1), "action -1"),
    ],
)
def test_discrete_actions_are_checked(actions, message):
    with pytest.raises(PolicyError, match=message):
        evaluate(lambda o: actions(len(o)), "gridworld-hetero", episodes=3)


def test_numbers_out_of_range_and_things_that_are_no_policy_are_refused():
    for arguments in ({"episodes": 0}, {"num_envs": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="expected at least one"):
            evaluate(half, SPEC, **arguments)
    with pytest.raises(TypeError, match="a policy is a function"):
        evaluate("policy", SPEC)
    nowhere = SPEC.environment.model_copy(update={"id": "Nowhere-v0"})
    with pytest.raises(ValueError, match="Gymnasium has no environment 'Nowhere-v0'"):
        evaluate(half, SPEC.model_copy(update={"environment": nowhere}))
    with pytest.raises(ValueError, match="names no environment"):
        evaluate(half, SPEC.model_copy(update={"environment": None}))


def test_a_stable_baselines3_model_is_a_policy():
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", Countdown(), n_steps=8, batch_size=8, seed=0, device="cpu")
    result = evaluate(model, SPEC)
    expected = evaluate(lambda o: model.predict(o, deterministic=True)[0], SPEC)
    np.testing.assert_array_equal(result.returns, expected.returns)


def test_a_recurrent_model_is_told_once_where_episodes_start():
    class Recurrent:
        starts = []

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            self.starts.append(episode_start.copy())
            return half(observation), (state or 0) + 1

    model = Recurrent()
    policy = PredictorPolicy(model)
    policy.reset(np.array([True, True]))
    for mask in ([False, False], [False, True], [False, False]):
        if any(mask):
            policy.reset(np.array(mask))
        policy(np.zeros((2, 2), np.float32))
    assert [starts.tolist() for starts in model.starts] == [
        [True, True],
        [False, True],
        [False, False],
    ]


def test_an_onnx_policy_is_fed_observations_and_noise(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    shape = ["n", 1]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["noise", "scale"], ["scaled"]),
            helper.make_node("Tanh", ["scaled"], ["action"]),
        ],
        "policy",
        [
            helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("noise", TensorProto.FLOAT, shape),
        ],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, shape)],
        [helper.make_tensor("scale", TensorProto.FLOAT, [1], [0.5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = tmp_path / "policy.onnx"
    onnx.save(model, path)
    policy = OnnxPolicy(path)
    observations = np.zeros((3, 2), np.float32)
    actions = policy(observations, rng=np.random.default_rng(0))
    noise = np.random.default_rng(0).standard_normal((3, 1), dtype=np.float32)
    np.testing.assert_allclose(actions, np.tanh(0.5 * noise), rtol=1e-6)
    assert evaluate(find_policy(str(path), Countdown.action_space), SPEC).episodes == 12
    doubles = policy(observations.astype(np.float64), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(doubles, actions)
    with pytest.raises(PolicyError, match=r"failed on observations of shape \(3, 7\)"):
        policy(np.zeros((3, 7)), rng=np.random.default_rng(0))

    graph.input[0].name = "state"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"has inputs \['noise', 'state'\]; expected observation"):
        OnnxPolicy(path)
    graph.input[0].name = "observation"
    for shape, message in ((["n", "k"], "expected fixed sizes"), ([1, 1], "symbolic first axis")):
        del graph.input[:]
        graph.input.append(
            helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", 2])
        )
        graph.input.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, shape))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        onnx.save(model, path)
        with pytest.raises(ValueError, match=message):
            OnnxPolicy(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="not a readable ONNX model"):
        OnnxPolicy(path)


def linear_policy(path, *, metadata=(), **action):
    """Saves a policy whose action is linear in the observation; returns the model."""
    import onnx
    from onnx import TensorProto, helper

    output = {"elem_type": TensorProto.FLOAT, "shape": ["n", 1], **action}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["observation", "scale"], ["action"])],
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("action", **output)],
        [helper.make_tensor("scale", TensorProto.FLOAT, [2, 1], [0.1, 0.05])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    for key, value in metadata:
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return model


def test_an_onnx_file_says_what_it_was_trained_on(tmp_path, monkeypatch):
    path = tmp_path / "policy.onnx"
    linear_policy(path, metadata=[("dataset", "countdown-v0"), ("seed", "3")])
    policy = OnnxPolicy(path)
    assert policy.metadata == {"dataset": "countdown-v0", "seed": "3"}
    monkeypatch.setattr("hetero_bench.evaluation.get_spec", {"countdown-v0": SPEC}.__getitem__)
    found = evaluate(path)
    assert found.dataset_id == SPEC.id
    np.testing.assert_array_equal(found.returns, evaluate(str(path), SPEC).returns)
    linear_policy(path)
    with pytest.raises(TypeError, match="no dataset to evaluate on"):
        evaluate(path)


def test_onnx_files_of_strangers_are_not_trusted(tmp_path, monkeypatch):
    import onnx
    from onnx import TensorProto, helper

    path = tmp_path / "policy.onnx"
    model = linear_policy(path)
    (tmp_path / "secret").write_bytes(np.float32(7).tobytes())
    outside = helper.make_tensor("scale", TensorProto.FLOAT, [1], [1.0])
    outside.ClearField("float_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="secret")
    inner = helper.make_graph([], "inner", [], [], [outside])
    hidden = helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner)
    for change in (
        lambda graph: graph.initializer[0].CopyFrom(outside),
        lambda graph: graph.node.append(hidden),
        lambda graph: graph.node.append(helper.make_node("Constant", [], ["e"], value=outside)),
    ):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        change(changed.graph)
        path.write_bytes(changed.SerializeToString())
        with pytest.raises(ValueError, match="'scale' lies in another file; expected all data"):
            OnnxPolicy(path)

    linear_policy(path, shape=[3, 1])
    with pytest.raises(ValueError, match=r"output action is tensor\(float\) of shape \[3, 1\]"):
        OnnxPolicy(path)
    linear_policy(path)
    monkeypatch.setattr("hetero_bench.onnx_policy.MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"bytes; expected at most"):
        OnnxPolicy(path)
    with pytest.raises(FileNotFoundError):
        OnnxPolicy(tmp_path / "nowhere.onnx")


def test_onnx_files_of_strangers_run_standard_operators_and_end(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    path, standard = tmp_path / "policy.onnx", [helper.make_opsetid("", 17)]

    def save(*nodes, noise=None, domains=(), functions=()):
        inputs = [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", 2])]
        if noise is not None:
            inputs.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, noise))
        output = helper.make_tensor_value_info("action", TensorProto.FLOAT, ["n", 2])
        constants = [
            helper.make_tensor("count", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("go", TensorProto.BOOL, [], [True]),
        ]
        graph = helper.make_graph(nodes, "policy", inputs, [output], constants)
        others = [helper.make_opsetid(each, 1) for each in domains]
        model = helper.make_model(
            graph, opset_imports=standard + others, ir_version=10, functions=functions
        )
        onnx.save(model, path)

    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("go_on", "x")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["count", "go", "observation"], ["action"], body=body)
    branch = helper.make_graph(
        [loop], "b", [], [helper.make_tensor_value_info("action", TensorProto.FLOAT, None)]
    )
    save(helper.make_node("If", ["go"], ["action"], then_branch=branch, else_branch=branch))
    with pytest.raises(ValueError, match=r"operator ai\.onnx\.Loop; expected those of the ONNX"):
        OnnxPolicy(path)

    names = ["observation"], ["action"]
    save(helper.make_node("Gelu", *names, domain="com.microsoft"), domains=["com.microsoft"])
    with pytest.raises(ValueError, match=r"operator com\.microsoft\.Gelu; expected those of"):
        OnnxPolicy(path)

    body = [helper.make_node("Neg", *names)]
    minus = helper.make_function("own", "Minus", *names, body, standard)
    save(helper.make_node("Minus", *names, domain="own"), domains=["own"], functions=[minus])
    rows = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(OnnxPolicy(path).act(rows, None), -rows)

    save(helper.make_node("Identity", *names), noise=["n", 2**32, 2**32])  # 2⁶⁴ wraps to 0
    with pytest.raises(ValueError, match="at most 1048576 numbers per observation"):
        OnnxPolicy(path)

    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is no regular file"):
        OnnxPolicy(path)


def test_policies_are_found_by_name():
    space = Countdown.action_space
    assert isinstance(find_policy("random", space), RandomPolicy)
    assert find_policy("tests.test_evaluation:half", space) is half
    for name, message in (
        ("half", "expected random, FILE.onnx or"),
        ("nowhere.onnx", "no file"),
        ("tests.test_evaluation:nothing", "could not import"),
        ("no_such_module:policy", "could not import"),
    ):
        with pytest.raises(ValueError, match=message):
            find_policy(name, space)


def test_a_batched_environment_gives_what_single_ones_give():
    """The gridworld's own batch against a plain loop over ``make_env``, same seeds."""
    dataset = "gridworld-hetero"
    spec = hetero_bench.get_spec(dataset)

    def policy(observations):
        return (np.abs(observations[:, 0] * 1000).astype(np.int64)) % 5

    result = evaluate(policy, dataset, episodes=6, num_envs=4, seed=2)
    for k, seed in enumerate(episode_seeds(2, 6)):
        env = gymnasium.make(spec.environment.id, **spec.environment.kwargs)
        observation, _ = env.reset(seed=int(seed))
        total, steps, ended = 0.0, 0, False
        while not ended:
            action = policy(observation[None])[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            total, steps, ended = total + float(reward), steps + 1, terminated or truncated
        assert (result.returns[k], result.lengths[k]) == (total, steps)


def test_the_random_policy_scores_zero_on_the_gridworld():
    spec = hetero_bench.get_spec("gridworld-hetero")
    policy = RandomPolicy(gymnasium.spaces.Discrete(5))
    result = evaluate(policy, spec, episodes=2000)
    p = spec.reference.random
    margin = 4 * np.sqrt(max(p * (1 - p), 1e-4) / 2000)
    assert abs(result.mean_return - p) < margin
