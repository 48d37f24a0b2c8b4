"""The controller's network in NumPy: parity with what trained it, storage, and its input."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from hetero_bench.envs.antmaze_layout import get_layout
from hetero_bench.recipes.antmaze_steering import NUM_FEATURES, steering_features, uprightness
from hetero_bench.recipes.antmaze_steering_task import SteeringConfig, SteeringTask
from hetero_bench.recipes.mlp_policy import TanhMLP


def random_network(rng, sizes=(29, 16, 12, 8)):
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    layers = list(zip(sizes[1:], sizes[:-1], strict=True))
    return TanhMLP(
        weights=tuple(normal(*shape) for shape in layers),
        biases=tuple(normal(out) for out, _ in layers),
        mean=normal(sizes[0]),
        std=np.abs(normal(sizes[0])) + 0.1,
        log_std=normal(sizes[-1]),
    )


@pytest.fixture
def network():
    return random_network(np.random.default_rng(0))


def test_forward_pass_by_hand():
    policy = TanhMLP(
        weights=(np.array([[2.0, 0.0]], np.float32), np.array([[3.0]], np.float32)),
        biases=(np.array([0.5], np.float32), np.array([-1.0], np.float32)),
        mean=np.array([1.0, 0.0], np.float32),
        std=np.array([2.0, 1.0], np.float32),
        log_std=np.zeros(1, np.float32),
    )
    inputs = np.array([[1.5, 7.0], [100.0, 0.0]], np.float32)
    expected = 3 * np.tanh([[0.25 * 2 + 0.5], [10.0 * 2 + 0.5]]) - 1
    np.testing.assert_allclose(policy(inputs), expected, rtol=1e-6)
    assert policy(inputs).dtype == np.float32


def test_parity_with_stable_baselines3(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("stable_baselines3")
    from hetero_bench.recipes.export_antmaze_controller import network_from_checkpoint
    from hetero_bench.recipes.train_antmaze_controller import TrainingConfig, make_model

    model, env = make_model(
        TrainingConfig(out=tmp_path, num_envs=2, batch_size=128),
        SteeringTask(2, np.random.default_rng(0)),
    )
    rng = np.random.default_rng(1)
    env.obs_rms.mean = rng.standard_normal(NUM_FEATURES)
    env.obs_rms.var = rng.uniform(0.1, 4.0, NUM_FEATURES)
    for parameter in model.policy.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    statistics = {"mean": env.obs_rms.mean.tolist(), "variance": env.obs_rms.var.tolist()}
    exported = network_from_checkpoint(
        {"policy": model.policy.state_dict(), "statistics": statistics}
    )
    features = 3 * rng.standard_normal((100, NUM_FEATURES)).astype(np.float32)
    expected, _ = model.predict(env.normalize_obs(features), deterministic=True)
    np.testing.assert_allclose(np.clip(exported(features), -1, 1), expected, atol=1e-5)
    np.testing.assert_allclose(exported.log_std, model.policy.log_std.detach().numpy())


def test_training_writes_a_curve_and_resumes(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("stable_baselines3")
    from hetero_bench.recipes.train_antmaze_controller import TrainingConfig, train

    def run(steps):
        train(TrainingConfig(out=tmp_path, steps=steps, num_envs=4, rollout_steps=8, batch_size=16))
        with (tmp_path / "learning_curve.csv").open() as file:
            return [int(row["steps"]) for row in csv.DictReader(file)]

    assert run(64) == [32, 64]
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert run(128) == [32, 64, 96, 128]
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (first["steps"], second["steps"]) == (64, 128)
    assert second["seconds"] > first["seconds"]
    assert second["statistics"]["count"] > first["statistics"]["count"]
    moments = second["optimizer"]["state"]
    assert moments[0]["step"] == 2 * first["optimizer"]["state"][0]["step"]
    assert not list(tmp_path.glob("*.partial"))


def test_round_trip(network, tmp_path):
    path = tmp_path / "policy.safetensors"
    about = {"steps": 5, "note": "test"}
    digest = network.save(path, about)
    loaded = TanhMLP.load(path, digest)
    inputs = np.random.default_rng(1).standard_normal((5, 29)).astype(np.float32)
    np.testing.assert_array_equal(loaded(inputs), network(inputs))
    np.testing.assert_array_equal(loaded.log_std, network.log_std)
    for _ in range(20):
        assert network.save(tmp_path / "again.safetensors", dict(reversed(about.items()))) == digest


def test_wrong_files(network, tmp_path):
    path = tmp_path / "policy.safetensors"
    with pytest.raises(FileNotFoundError, match="no policy weights at"):
        TanhMLP.load(path)
    digest = network.save(path)
    with pytest.raises(ValueError, match=f"have sha256 {digest}; expected {'0' * 64}"):
        TanhMLP.load(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is not a safetensors file"):
        TanhMLP.load(path)
    network.weights[0][0, 0] = np.nan
    network.save(path)
    with pytest.raises(ValueError, match=r"layers.0.weight is not finite float32"):
        TanhMLP.load(path)


def test_layers_that_do_not_fit(network, tmp_path):
    path = tmp_path / "policy.safetensors"
    parts = {name: getattr(network, name) for name in network.__dataclass_fields__}
    TanhMLP(**{**parts, "weights": network.weights[::-1]}).save(path)
    with pytest.raises(ValueError, match="do not fit together"):
        TanhMLP.load(path)
    import safetensors.numpy

    safetensors.numpy.save_file({"layers.0.weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(ValueError, match="expected"):
        TanhMLP.load(path)


def turned(observations, angle):
    """Turns whole ants, position aside, about the vertical axis."""
    result = observations.copy()
    half = angle / 2
    w, x, y, z = observations[:, 3:7].T
    c, s = np.cos(half), np.sin(half)
    result[:, 3:7] = np.stack((c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w), axis=1)
    vx, vy = observations[:, 15], observations[:, 16]
    result[:, 15] = np.cos(angle) * vx - np.sin(angle) * vy
    result[:, 16] = np.sin(angle) * vx + np.cos(angle) * vy
    return result


@pytest.fixture
def observations():
    observations = np.random.default_rng(2).standard_normal((50, 29))
    observations[:, 3:7] /= np.linalg.norm(observations[:, 3:7], axis=1, keepdims=True)
    return observations


def test_features_do_not_change_when_the_world_turns(observations):
    directions = np.tile([2.0, 0.0], (50, 1))
    for angle in (0.3, 1.8, -2.5):
        others = np.tile([np.cos(angle), np.sin(angle)], (50, 1)) * 7
        np.testing.assert_allclose(
            steering_features(turned(observations, angle), others),
            steering_features(observations, directions),
            atol=1e-5,
        )


def test_features_ignore_position_and_the_quaternions_sign(observations):
    directions = np.random.default_rng(3).standard_normal((50, 2))
    expected = steering_features(observations, directions)
    flipped = observations.copy()
    flipped[:, :2] += 5
    flipped[:, 3:7] *= -1
    np.testing.assert_allclose(steering_features(flipped, directions), expected, atol=1e-6)


def test_features_of_an_upright_ant():
    observation = np.zeros((1, 29))
    observation[0, 2], observation[0, 3] = 0.6, 1.0
    observation[0, 15:18] = 1.0, 2.0, 3.0
    features = steering_features(observation, np.array([[0.0, 4.0]]))[0]
    np.testing.assert_allclose(features[:7], [0.6, 0, -1, 0, 0, 0, 1], atol=1e-7)
    np.testing.assert_allclose(features[15:18], [2, -1, 3], atol=1e-6)
    assert uprightness(observation)[0] == 1
    observation[0, 3:7] = 0, 1, 0, 0
    assert uprightness(observation)[0] == -1


def test_the_steering_task_rewards_speed_towards_the_target():
    task = SteeringTask(3, np.random.default_rng(0), SteeringConfig(perturbed=0.0))
    task.reset()
    targets = task.targets.copy()
    for index, data in enumerate(task.ants.data):
        data.qvel[:2] = 2 * targets[index] * (1, -1, 0)[index]
        task.ants.observe(index)
    rewards, fallen, cut, features = task.step(np.zeros((3, 8)))
    assert features.shape == (3, NUM_FEATURES)
    assert not fallen.any()
    assert not cut.any()
    assert task.speeds[0] > 1
    assert task.speeds[1] < -1
    assert rewards[0] > rewards[2] > rewards[1]


def test_a_fallen_ant_pays_and_starts_again():
    task = SteeringTask(2, np.random.default_rng(0))
    task.reset()
    task.ants.data[0].qpos[3:7] = 0, 1, 0, 0
    rewards, fallen, _, _ = task.step(np.zeros((2, 8)))
    np.testing.assert_array_equal(fallen, [True, False])
    assert rewards[0] < -4
    task.restart(fallen)
    assert uprightness(task.ants.observations).min() > 0.9


def test_in_a_maze_the_planner_gives_the_direction():
    task = SteeringTask(4, np.random.default_rng(0), SteeringConfig(maze="umaze"))
    task.reset()
    layout = get_layout("umaze")
    for _ in range(3):
        task.step(np.zeros((4, 8)))
    positions = task.ants.observations[:, :2]
    assert (layout.cells_at(positions) >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(task.targets, axis=1), 1)
    ahead = layout.cells_at(positions + 2.5 * task.targets)
    assert (ahead >= 0).mean() >= 0.75
