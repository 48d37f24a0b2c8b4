"""Training SAC: the lean update against Stable-Baselines3's, resuming, damage, what is kept."""

from __future__ import annotations

import csv
import hashlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hetero_bench.recipes import training_checkpoints
from hetero_bench.recipes.export_locomotion import export
from hetero_bench.recipes.locomotion_runs import LocomotionRun
from hetero_bench.recipes.locomotion_tasks import ENVIRONMENTS, make_task
from hetero_bench.recipes.locomotion_trainer import LocomotionTrainer
from hetero_bench.recipes.replay import ROW_ARRAYS, RecordedReplay
from hetero_bench.recipes.seeded_episodes import SeededEpisodes
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.recipes.train_locomotion import TrainingConfig, evaluate_policy, train
from hetero_bench.recipes.training_checkpoints import checkpoint_folders, read_rows, read_state


def small(out, steps, **settings):
    return TrainingConfig(
        **{
            "env": "hopper",
            "out": out,
            "steps": steps,
            "checkpoint_steps": 100,
            "evaluation_episodes": 1,
            "learning_starts": 50,
            "batch_size": 16,
            "width": 16,
            **settings,
        }
    )


def make_trainer(**settings):
    defaults = {"learning_starts": 50, "batch_size": 64, "width": 32, "hidden_dtype": "float32"}
    return LocomotionTrainer("hopper", 0, 500, **{**defaults, **settings})


def rows_of(run):
    folders = checkpoint_folders(run)
    return {name: read_rows(folders, name) for name in (*ROW_ARRAYS, "initial_positions")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short training that was never interrupted."""
    run = tmp_path_factory.mktemp("finished")
    train(small(run, 300))
    return run


class Gradients:
    """Catches the gradients of one lean update instead of taking its steps."""

    def __init__(self, model, batch_size):
        self.of_alpha = None
        state = {name: value.clone() for name, value in model.policy.state_dict().items()}
        flats = {"actor": model._actor, "critic": model._critics}
        self.flat = {}
        self.starts = {name: flat.parameters.data_ptr() for name, flat in flats.items()}
        with pytest.MonkeyPatch.context() as patch:
            for name, flat in flats.items():
                patch.setattr(
                    getattr(model, name).optimizer,
                    "step",
                    lambda n=name, f=flat: self.flat.update({n: f.parameters.grad.clone()}),
                )
            patch.setattr(model.alpha_optimizer, "step", lambda: None)
            model.train(1, batch_size)
        self.of_alpha = model.log_alpha.grad.clone()
        model.policy.load_state_dict(state)

    def of(self, name, parameter):
        start = (parameter.data_ptr() - self.starts[name]) // parameter.element_size()
        return self.flat[name][start : start + parameter.numel()].view_as(parameter)


def test_the_update_has_the_gradients_of_stable_baselines3s_losses():
    trainer = make_trainer()
    trainer.train(120)
    model, size = trainer.model, 64
    generator = np.random.default_rng()
    generator.bit_generator.state = model.rng.bit_generator.state
    found = Gradients(model, size)

    batch = trainer.replay.rows(generator.integers(trainer.replay.size(), size=size))
    noises = [torch.from_numpy(generator.standard_normal((size, 3), np.float32)) for _ in "ab"]

    def act(observations, noise):
        mean, log_std, _ = model.actor.get_action_dist_params(observations)
        gaussian = mean + log_std.exp() * noise
        distribution = model.actor.action_dist.proba_distribution(mean, log_std)
        actions = torch.tanh(gaussian)
        return actions, distribution.log_prob(actions, gaussian)

    # As in stable_baselines3/sac/sac.py, with automatic differentiation.
    actions, log_prob = act(batch.observations, noises[0])
    log_alpha = model.log_alpha.detach().clone().requires_grad_()
    (-(log_alpha * (log_prob + model.target_entropy).detach()).mean()).backward()
    alpha = log_alpha.detach().exp()
    with torch.no_grad():
        next_actions, next_log_prob = act(batch.next_observations, noises[1])
        next_values = torch.cat(model.critic_target(batch.next_observations, next_actions), 1)
        soft_values = next_values.min(1).values - alpha * next_log_prob
        targets = batch.rewards + model.gamma * batch.continues * soft_values
    values = model.critic(batch.observations, batch.actions)
    model.critic.zero_grad()
    (0.5 * sum(F.mse_loss(value.squeeze(1), targets) for value in values)).backward()
    critic_gradients = {name: p.grad.clone() for name, p in model.critic.named_parameters()}
    policy_values = torch.cat(model.critic(batch.observations, actions), 1).min(1).values
    model.actor.zero_grad()
    (alpha * log_prob - policy_values).mean().backward()

    torch.testing.assert_close(found.of_alpha, log_alpha.grad, rtol=1e-5, atol=1e-5)
    for name, parameter in model.critic.named_parameters():
        torch.testing.assert_close(
            found.of("critic", parameter), critic_gradients[name], rtol=1e-4, atol=1e-6
        )
    for parameter in model.actor.parameters():
        torch.testing.assert_close(
            found.of("actor", parameter), parameter.grad, rtol=1e-4, atol=1e-6
        )


def test_targets_follow_the_critics_and_the_temperature_falls():
    trainer = make_trainer()
    trainer.train(60)
    critic, target = trainer.model.critic, trainer.model.critic_target
    before = [p.detach().clone() for p in target.parameters()]
    trainer.train(61)
    for old, now, followed in zip(before, target.parameters(), critic.parameters(), strict=True):
        torch.testing.assert_close(now.detach(), 0.995 * old + 0.005 * followed.detach())
    assert trainer.model._n_updates == 11
    assert float(trainer.model.log_alpha.detach()) == pytest.approx(-11 * 3e-4, rel=1e-3)


def test_bfloat16_gives_nearly_the_same_gradients():
    trainer = make_trainer(width=256)
    trainer.train(60)
    model, size = trainer.model, 64
    state = model.rng.bit_generator.state
    exact = Gradients(model, size)
    model.rng.bit_generator.state = state
    model._dtype = torch.bfloat16
    rough = Gradients(model, size)
    for name in ("actor", "critic"):
        error = (rough.flat[name] - exact.flat[name]).norm() / exact.flat[name].norm()
        assert 0 < error < 0.03


def test_the_numpy_policy_is_the_torch_policy(tmp_path):
    trainer = make_trainer(width=256)
    trainer.train(80)
    rng = np.random.default_rng(0)
    observations = 3 * rng.standard_normal((50, 11)).astype(np.float32)
    policy = trainer.policy()
    policy.save(tmp_path / "policy.safetensors")
    policy = SquashedGaussianMLP.load(tmp_path / "policy.safetensors")
    with torch.no_grad():
        tensors = torch.from_numpy(observations)
        mean, log_std, _ = trainer.model.actor.get_action_dist_params(tensors)
        deterministic = trainer.model.actor(tensors, deterministic=True)
    found_mean, found_log_std = policy.distribution(observations)
    np.testing.assert_allclose(found_mean, mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(found_log_std, log_std.numpy(), atol=1e-5)
    np.testing.assert_allclose(policy.mean_actions(observations), deterministic, atol=1e-5)

    noise = np.random.default_rng(7).standard_normal((50, 3), np.float32)
    expected = np.tanh(mean.numpy() + np.exp(log_std.numpy()) * noise)
    drawn = policy(observations, np.random.default_rng(7))
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    assert drawn.dtype == np.float32


def test_log_standard_deviations_are_clipped():
    weight = np.array([[1.0], [1000.0]], np.float32)
    policy = SquashedGaussianMLP((weight,), (np.zeros(2, np.float32),))
    mean, log_std = policy.distribution(np.array([[0.5], [-0.5]]))
    np.testing.assert_array_equal(mean, [[0.5], [-0.5]])
    np.testing.assert_array_equal(log_std, [[2.0], [-20.0]])


def test_rows_are_what_the_environment_gave(finished):
    rows = rows_of(finished)
    last = np.flatnonzero(rows["terminations"] | rows["truncations"])
    assert len(rows["rewards"]) == 300
    assert len(last) == rows["episode_ids"][-1] > 3
    assert len(rows["initial_positions"]) == rows["episode_ids"][-1] + 1
    np.testing.assert_array_equal(np.flatnonzero(np.diff(rows["episode_ids"])), last)
    inside = np.setdiff1d(np.arange(299), last)
    np.testing.assert_array_equal(
        rows["next_observations"][inside], rows["observations"][inside + 1]
    )

    env = SeededEpisodes(make_task("hopper"), 0)
    for k in range(3):
        observation, _ = env.reset()
        np.testing.assert_array_equal(env.initial_positions[-1], rows["initial_positions"][k])
        for row in np.flatnonzero(rows["episode_ids"] == k):
            np.testing.assert_array_equal(np.float32(observation), rows["observations"][row])
            observation, reward, terminated, truncated, _ = env.step(rows["actions"][row])
            np.testing.assert_array_equal(np.float32(observation), rows["next_observations"][row])
            assert np.float32(reward) == rows["rewards"][row]
            assert (terminated, truncated) == (rows["terminations"][row], rows["truncations"][row])


def test_a_time_limit_is_a_truncation():
    env = make_task("hopper")
    replay = RecordedReplay(3, env.observation_space, env.action_space)
    row = (np.ones((1, 11)), 2 * np.ones((1, 11)), np.zeros((1, 3)), np.ones(1))
    replay.add(*row, np.array([True]), [{"TimeLimit.truncated": True}])
    replay.add(*row, np.array([True]), [{"TimeLimit.truncated": False}])
    replay.add(*row, np.array([False]), [{}])
    assert replay.arrays["truncations"].tolist() == [True, False, False]
    assert replay.arrays["terminations"].tolist() == [False, True, False]
    assert replay.arrays["episode_ids"].tolist() == [0, 1, 2]
    assert replay.rows(np.arange(3)).continues.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="expected one environment with actions between -1 and 1"):
        RecordedReplay(3, env.observation_space, SimpleNamespace(low=-2, high=2))


def test_a_resumed_training_is_the_uninterrupted_one(finished, tmp_path, capsys):
    train(small(tmp_path, 130))
    train(small(tmp_path, 300))
    assert "going on from 130 steps" in capsys.readouterr().out
    expected, found = rows_of(finished), rows_of(tmp_path)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    files = [checkpoint_folders(run)[-1] / "trainer.safetensors" for run in (finished, tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_finished_training_is_left_alone(finished):
    before = {path: path.stat().st_mtime_ns for path in (finished / "checkpoints").rglob("*")}
    train(small(finished, 300))
    assert {p: p.stat().st_mtime_ns for p in (finished / "checkpoints").rglob("*")} == before


def test_an_episode_that_does_not_replay_ends_truncated(tmp_path, capsys):
    train(small(tmp_path, 100))
    running = rows_of(tmp_path)["episode_ids"][-1]
    assert not rows_of(tmp_path)["terminations"][-1]
    starts = rows_of(tmp_path)["initial_positions"]
    _change_last_row(tmp_path, "next_observations")
    train(small(tmp_path, 110))
    assert "the running episode does not replay here" in capsys.readouterr().out
    rows = rows_of(tmp_path)
    assert rows["episode_ids"][100] == running + 1
    np.testing.assert_array_equal(rows["initial_positions"][: running + 1], starts)
    assert len(rows["initial_positions"]) == rows["episode_ids"][-1] + 1
    assert not rows["truncations"][99]
    assert LocomotionRun(tmp_path).replay(110).arrays.truncations[99]


@pytest.mark.parametrize("damage", ["bytes", "missing", "sums"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    finished, tmp_path, damage, capsys
):
    train(small(tmp_path, 300))
    folder = checkpoint_folders(tmp_path)[1]
    file = folder / ("SHA256SUMS" if damage == "sums" else "rewards.npy")
    if damage == "bytes":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.warns(UserWarning, match="00000200 is damaged") as caught:
        train(small(tmp_path, 300))
    message = str(caught[0].message)
    assert file.name in message
    assert "later 00000300" in message
    assert "going on from 00000100" in message
    assert "going on from 100 steps" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("damaged-*"))
    assert names == ["damaged-00000200", "damaged-00000300"]
    for name, array in rows_of(finished).items():
        np.testing.assert_array_equal(rows_of(tmp_path)[name], array, err_msg=name)


def test_a_killed_checkpoint_leaves_nothing_behind(tmp_path, monkeypatch):
    train(small(tmp_path, 100))
    monkeypatch.setattr(training_checkpoints.np, "save", _killed)
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path, 200))
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["00000100"]


def _change_last_row(run, name):
    """Makes a stored row differ from what the simulator gives, as another machine may."""
    folder = checkpoint_folders(run)[-1]
    array = np.load(folder / f"{name}.npy")
    array[-1] += 1e-3
    np.save(folder / f"{name}.npy", array)
    sums = folder / "SHA256SUMS"
    kept = [line for line in sums.read_text().splitlines() if not line.endswith(f"{name}.npy")]
    digest = hashlib.sha256((folder / f"{name}.npy").read_bytes()).hexdigest()
    sums.write_text("\n".join([*kept, f"{digest}  {name}.npy", ""]))


def _killed(*args, **kwargs):
    raise KeyboardInterrupt


def test_the_replay_buffer_reads_as_episodes(finished):
    run, rows = LocomotionRun(finished), rows_of(finished)
    assert run.env == "hopper"
    assert run.steps == [100, 200, 300]
    for steps in run.steps:
        replay = run.replay(steps)
        arrays = replay.arrays
        np.testing.assert_array_equal(arrays.observations, rows["observations"][:steps])
        np.testing.assert_array_equal(arrays.terminations, rows["terminations"][:steps])
        assert arrays.truncations[-1] != arrays.terminations[-1]
        assert not arrays.truncations[:-1].any()
        assert len(replay.initial_positions) == len(replay.initial_velocities)
        assert len(replay.initial_positions) == arrays.num_episodes
        np.testing.assert_array_equal(
            arrays.final_observations[-1], rows["next_observations"][steps - 1]
        )
        env, starts = make_task("hopper"), arrays.episode_starts()[:-1]
        for seed, positions in zip(
            arrays.extras["reset_seeds"][starts], replay.initial_positions, strict=True
        ):
            env.reset(seed=int(seed))
            np.testing.assert_array_equal(env.unwrapped.data.qpos, positions)
    with pytest.raises(ValueError, match=r"no checkpoint at 150 steps, but \[100, 200, 300\]"):
        run.replay(150)


@pytest.mark.parametrize(
    ("returns", "steps"),
    [
        ([20.0, 110.0, 300.0], 200),
        ([150.0, 30.0, 300.0], 100),
        ([20.0, 300.0, 300.0], 100),
        ([295.0, 100.0, 300.0], 100),  # 100 is a collapse, after an expert
        ([270.0, 100.0, 300.0], 100),
        ([269.0, 100.0, 300.0], 200),
    ],
)
def test_medium_is_on_the_way_up_to_a_third_of_the_expert(finished, monkeypatch, returns, steps):
    run = LocomotionRun(finished)
    monkeypatch.setattr(run, "stochastic_returns", lambda: np.array(returns))
    assert run.medium_steps() == steps


def test_export_bundles_policies_and_curve(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(LocomotionRun, "medium_steps", lambda self: 100)
    digests = export(finished, out=tmp_path)
    assert sorted(digests) == ["hopper-100.safetensors", "hopper-300.safetensors"]
    for name, digest in digests.items():
        SquashedGaussianMLP.load(tmp_path / name, digest)
    assert (tmp_path / "hopper.csv").read_text() == (finished / "learning_curve.csv").read_text()
    export(finished, last=200, out=tmp_path / "early")
    assert len((tmp_path / "early" / "hopper.csv").read_text().splitlines()) == 3
    names = [path.name for path in sorted((tmp_path / "early").glob("*.safetensors"))]
    assert names == ["hopper-100.safetensors", "hopper-200.safetensors"]
    with pytest.raises(ValueError, match=r"no checkpoint at 250 steps, but \[100, 200, 300\]"):
        export(finished, last=250)
    with pytest.raises(ValueError, match="holds no intact checkpoint"):
        export(tmp_path)


def test_other_settings_are_refused(finished):
    with pytest.raises(ValueError, match=r"width=16 \(now 32\).*or another --out"):
        train(small(finished, 300, width=32))


def test_the_curve_is_that_of_the_checkpoints(finished):
    with (finished / "learning_curve.csv").open(newline="") as file:
        curve = list(csv.DictReader(file))
    assert [int(row["steps"]) for row in curve] == [100, 200, 300]
    folder = checkpoint_folders(finished)[-1]
    policy = SquashedGaussianMLP.load(folder / "policy.safetensors")
    evaluations = evaluate_policy(policy, "hopper", 1, 0)
    assert read_state(folder)["evaluations"] == evaluations
    for kind in ("stochastic", "deterministic"):
        found = float(curve[-1][f"{kind}_return"])
        assert found == pytest.approx(np.mean(evaluations[kind]["returns"]), abs=0.05)


def test_without_the_extra_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.delitem(sys.modules, "hetero_bench.recipes.locomotion_trainer")
    monkeypatch.delitem(sys.modules, "hetero_bench.recipes.lean_sac", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'hetero-bench\[recipes\]'"):
        train(small(tmp_path, 100))


def test_the_tasks_have_the_shapes_of_the_benchmark():
    shapes = {}
    for name in ENVIRONMENTS:
        env = make_task(name)
        shapes[name] = (*env.observation_space.shape, *env.action_space.shape)
        assert env.spec.max_episode_steps == 1000
        assert (np.abs([env.action_space.low, env.action_space.high]) == 1).all()
    assert shapes == {
        "hopper": (11, 3),
        "walker2d": (17, 6),
        "halfcheetah": (17, 6),
        "ant": (27, 8),
    }
