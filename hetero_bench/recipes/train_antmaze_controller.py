"""Trains the AntMaze controller with Stable-Baselines3's PPO on one core.

    export OMP_NUM_THREADS=1
    train="python -m hetero_bench.recipes.train_antmaze_controller --out runs/controller"
    $train --steps 3500000
    $train --steps 7500000 --task.maze large

First in the open, then steered through a maze, so that corners and walls are met as well. The
output folder holds ``checkpoint.pt`` (networks, optimiser, normaliser), from which the same
command goes on, and ``learning_curve.csv``. Going on is not bit-equal to never having stopped: the
ants start again. Needs ``pip install 'hetero-bench[recipes]'``.

The bundled weights were trained so and stopped at 6.1M steps. The totals were settled on while
training, and the learning rate follows the total: what it was, row by row, is in
``registry/policies/antmaze-controller.csv``.
"""

from __future__ import annotations

import csv
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from hetero_bench.envs.antmaze_model import NUM_JOINTS
from hetero_bench.recipes.antmaze_steering import NUM_FEATURES
from hetero_bench.recipes.antmaze_steering_task import SteeringConfig, SteeringTask

CURVE_FILE = "learning_curve.csv"
CURVE_COLUMNS = (
    "steps",
    "seconds",
    "speed",
    "falls_per_1000",
    "reward",
    "action_std",
    "kl",
    "learning_rate",
    "maze",
)


@dataclass(frozen=True)
class TrainingConfig:
    """PPO (Schulman et al., 2017) for the steering task.

    Attributes:
        out: Folder for the checkpoint and the learning curve.
        steps: Total environment steps, those before a resumption included.
        seed: Seed of the ants, the networks and the sampling.
        num_envs: Ants stepped together.
        rollout_steps: Steps of each ant between two updates.
        batch_size: Rows per gradient step.
        epochs: Passes over a rollout.
        learning_rate: Adam's step size in the first half; it then falls linearly to a tenth.
        gamma: Discount.
        gae_lambda: Decay of the generalised advantage estimate.
        width: Units of the two tanh layers of policy and value network, each.
        log_std: Initial log standard deviation of the actions.
        checkpoint_seconds: Time between two checkpoints.
        task: The steering task.
    """

    out: Path
    steps: int = 12_000_000
    seed: int = 0
    num_envs: int = 64
    rollout_steps: int = 64
    batch_size: int = 1024
    epochs: int = 5
    learning_rate: float = 3e-4
    gamma: float = 0.98
    gae_lambda: float = 0.95
    width: int = 256
    log_std: float = -1.0
    checkpoint_seconds: float = 180.0
    task: SteeringConfig = field(default_factory=SteeringConfig)


def make_model(config: TrainingConfig, task: SteeringTask, seed: int = 0) -> tuple[Any, Any]:
    """Returns an untrained Stable-Baselines3 PPO model and its normalised environment."""
    import torch
    from stable_baselines3 import PPO

    env = _normalised(task, config.gamma)
    model = PPO(
        "MlpPolicy",
        env,
        learning_rate=lambda remaining: config.learning_rate * max(0.1, min(1.0, 2 * remaining)),
        n_steps=config.rollout_steps,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        policy_kwargs={
            "activation_fn": torch.nn.Tanh,
            "net_arch": {"pi": [config.width] * 2, "vf": [config.width] * 2},
            "log_std_init": config.log_std,
        },
        seed=seed,
        device="cpu",
    )
    return model, env


def train(config: TrainingConfig) -> None:
    """Trains until ``config.steps``, from the checkpoint in ``config.out`` if there is one."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    torch.set_num_threads(1)
    config.out.mkdir(parents=True, exist_ok=True)
    checkpoint = config.out / "checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True) if checkpoint.is_file() else None
    done = saved["steps"] if saved else 0
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, done]))
    task = SteeringTask(config.num_envs, rng, config.task)
    model, env = make_model(config, task, config.seed + done)
    if saved:
        model.policy.load_state_dict(saved["policy"])
        model.policy.optimizer.load_state_dict(saved["optimizer"])
        model.num_timesteps = done
        _restore_statistics(env, saved["statistics"])
    _keep_curve_until(config.out / CURVE_FILE, done)

    class Recorder(BaseCallback):
        """Adds a row to the learning curve after each rollout and saves now and then."""

        def __init__(self) -> None:
            super().__init__()
            self.started = self.last_saved = time.monotonic()
            self.before = saved["seconds"] if saved else 0.0
            self.sums = np.zeros(3)

        def seconds(self) -> float:
            return self.before + time.monotonic() - self.started

        def _on_step(self) -> bool:
            fallen = [not info["TimeLimit.truncated"] for info in self.locals["infos"] if info]
            self.sums += task.speeds.mean(), sum(fallen), env.old_reward.mean()
            return True

        def _on_rollout_end(self) -> None:
            steps, envs = config.rollout_steps, config.num_envs
            speed, falls, reward = self.sums / steps
            self.sums[:] = 0
            logged = model.logger.name_to_value
            row = (
                self.num_timesteps,
                self.seconds(),
                speed,
                1000 * falls / envs,
                reward,
                model.policy.log_std.detach().exp().mean().item(),
                logged.get("train/approx_kl", np.nan),
                model.policy.optimizer.param_groups[0]["lr"],
                config.task.maze or "open",
            )
            _append(config.out / CURVE_FILE, row)
            if time.monotonic() - self.last_saved > config.checkpoint_seconds:
                self.save()

        def _on_training_end(self) -> None:
            self.save()

        def save(self) -> None:
            state = {
                "steps": self.num_timesteps,
                "seconds": self.seconds(),
                "policy": model.policy.state_dict(),
                "optimizer": model.policy.optimizer.state_dict(),
                "statistics": _statistics(env),
                "task": asdict(config.task),
            }
            temporary = checkpoint.with_suffix(".partial")
            torch.save(state, temporary)
            os.replace(temporary, checkpoint)
            self.last_saved = time.monotonic()

    model.learn(
        config.steps - done, callback=Recorder(), log_interval=None, reset_num_timesteps=False
    )


def _normalised(task: SteeringTask, gamma: float) -> Any:
    """Wraps the task for Stable-Baselines3, observations and rewards normalised."""
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    class SteeringVecEnv(VecEnv):
        """Stable-Baselines3's interface to the task."""

        def __init__(self) -> None:
            features = gymnasium.spaces.Box(-np.inf, np.inf, (NUM_FEATURES,), np.float32)
            actions = gymnasium.spaces.Box(-1.0, 1.0, (NUM_JOINTS,), np.float32)
            super().__init__(len(task.speeds), features, actions)
            self._actions = np.zeros((self.num_envs, NUM_JOINTS))

        def reset(self) -> np.ndarray:
            return task.reset()

        def step_async(self, actions: np.ndarray) -> None:
            self._actions = actions

        def step_wait(self) -> Any:
            rewards, fallen, cut, features = task.step(self._actions)
            ended = fallen | cut
            infos: list[dict] = [{} for _ in range(self.num_envs)]
            for i in np.flatnonzero(ended):
                infos[i] = {
                    "terminal_observation": features[i],
                    "TimeLimit.truncated": bool(cut[i]),
                }
            if ended.any():
                features = task.restart(ended)
            return features, rewards.astype(np.float32), ended, infos

        def close(self) -> None:
            pass

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [None] * self.num_envs

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError

        def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> list[Any]:
            raise NotImplementedError

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False] * self.num_envs

    return VecNormalize(SteeringVecEnv(), gamma=gamma)


def _statistics(env: Any) -> dict[str, Any]:
    """Returns the normaliser's running statistics as lists and floats."""
    observations, returns = env.obs_rms, env.ret_rms
    return {
        "mean": observations.mean.tolist(),
        "variance": observations.var.tolist(),
        "count": float(observations.count),
        "return_mean": float(returns.mean),
        "return_variance": float(returns.var),
        "return_count": float(returns.count),
    }


def _restore_statistics(env: Any, saved: dict[str, Any]) -> None:
    env.obs_rms.mean = np.array(saved["mean"])
    env.obs_rms.var = np.array(saved["variance"])
    env.obs_rms.count = saved["count"]
    env.ret_rms.mean = np.array(saved["return_mean"])
    env.ret_rms.var = np.array(saved["return_variance"])
    env.ret_rms.count = saved["return_count"]


def _keep_curve_until(path: Path, steps: int) -> None:
    """Starts the curve, or drops the rows that a resumed training will write again."""
    rows: list[list[str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            rows = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= steps]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([CURVE_COLUMNS, *rows])


def _append(path: Path, row: tuple[float | str, ...]) -> None:
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])


if __name__ == "__main__":
    import tyro

    train(tyro.cli(TrainingConfig))
