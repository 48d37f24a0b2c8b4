"""Trains SAC on a locomotion task with Stable-Baselines3 on one core.

    export OMP_NUM_THREADS=1
    python -m hetero_bench.recipes.train_locomotion --env hopper --out runs/hopper --steps 1000000

The output folder gets a checkpoint every 50,000 steps, from which the same command goes on, and
``learning_curve.csv``. All checkpoints are kept: they hold the policy's weights and, between them,
every transition (about 100 MB for hopper and 300 MB for ant in 1M steps). A resumed training equals
one that never stopped, bit for bit, on the same machine. Needs
``pip install 'hetero-bench[recipes]'``.

SAC is Stable-Baselines3's with its defaults (learning rate 3e-4, batches of 256, two layers of 256,
discount 0.99, target rate 0.005, learned temperature), 10,000 steps with uniform actions first, in
all four environments. The buffer holds every transition, also beyond its usual 1M. What differs is
how the same update is computed: see ``lean_sac.py``.
"""

from __future__ import annotations

import csv
import io
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hetero_bench.atomic import write_file
from hetero_bench.recipes.locomotion_tasks import TaskName, make_task
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.recipes.training_checkpoints import (
    checkpoint_folders,
    intact_checkpoints,
    read_state,
)

CURVE_FILE = "learning_curve.csv"
CURVE_COLUMNS = (
    "steps",
    "seconds",
    "stochastic_return",
    "stochastic_return_std",
    "deterministic_return",
    "deterministic_return_std",
    "stochastic_length",
    "deterministic_length",
)


@dataclass(frozen=True)
class TrainingConfig:
    """One training.

    Attributes:
        env: The environment.
        out: Folder for the checkpoints and the learning curve.
        steps: Total environment steps, those before a resumption included.
        seed: Seed of episodes, networks, batches and noise.
        checkpoint_steps: Environment steps between two checkpoints.
        evaluation_episodes: Episodes of each of the two evaluations at a checkpoint.
        learning_starts: Steps with uniform actions before the first update.
        batch_size: Rows per update.
        width: Units of each of the two hidden layers.
        hidden_dtype: Arithmetic of the products between hidden layers.
    """

    env: TaskName
    out: Path
    steps: int = 1_000_000
    seed: int = 0
    checkpoint_steps: int = 50_000
    evaluation_episodes: int = 20
    learning_starts: int = 10_000
    batch_size: int = 256
    width: int = 256
    hidden_dtype: Literal["bfloat16", "float32"] = "bfloat16"


def train(config: TrainingConfig) -> None:
    """Trains until ``config.steps``, from the last intact checkpoint in ``config.out`` if any.

    Raises:
        ImportError: If Stable-Baselines3 is not installed.
        ValueError: If the folder holds a training with other settings.
    """
    try:
        import torch

        from hetero_bench.recipes.locomotion_trainer import LocomotionTrainer
    except ModuleNotFoundError as error:
        raise ImportError(
            f"training needs {error.name}, which is not installed: "
            "pip install 'hetero-bench[recipes]'"
        ) from error
    torch.set_num_threads(1)
    settings = {
        name: value for name, value in asdict(config).items() if name not in ("out", "steps")
    }
    folders = intact_checkpoints(config.out)
    if folders:
        _check_settings(config.out, read_state(folders[-1])["settings"], settings)
    trainer = LocomotionTrainer(
        config.env,
        config.seed,
        config.steps,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        width=config.width,
        hidden_dtype=config.hidden_dtype,
    )
    before = 0.0
    if folders:
        before = read_state(folders[-1])["seconds"]
        trainer.restore(folders)
        print(f"going on from {trainer.steps} steps", flush=True)
    _write_curve(config.out)
    started = time.monotonic()
    while trainer.steps < config.steps:
        next_checkpoint = (trainer.steps // config.checkpoint_steps + 1) * config.checkpoint_steps
        trainer.train(min(next_checkpoint, config.steps))
        evaluations = evaluate_policy(
            trainer.policy(), config.env, config.evaluation_episodes, config.seed
        )
        about = {
            "settings": settings,
            "seconds": before + time.monotonic() - started,
            "evaluations": evaluations,
        }
        trainer.save(config.out, about)
        _write_curve(config.out)
        print(
            f"{trainer.steps} steps, {about['seconds']:.0f} s: return "
            f"{np.mean(evaluations['stochastic']['returns']):.0f} stochastic, "
            f"{np.mean(evaluations['deterministic']['returns']):.0f} deterministic",
            flush=True,
        )


def evaluate_policy(
    policy: SquashedGaussianMLP, task: TaskName, episodes: int, seed: int
) -> dict[str, dict[str, list]]:
    """Runs the policy with and without its noise.

    Args:
        policy: The policy.
        task: The environment.
        episodes: Episodes of each kind; the same ones for every policy.
        seed: Seed of the episodes and the noise.

    Returns:
        Returns and lengths of each episode, for ``stochastic`` and ``deterministic``.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    return {
        "stochastic": _run(lambda seen: policy(seen, rng), task, episodes, seed),
        "deterministic": _run(policy.mean_actions, task, episodes, seed),
    }


def _run(act: Any, task: TaskName, episodes: int, seed: int) -> dict[str, list]:
    """Returns undiscounted returns and lengths of episodes that run side by side."""
    seeds = np.random.SeedSequence([seed, 3]).generate_state(episodes).tolist()
    envs = [make_task(task) for _ in range(episodes)]
    observations = np.stack([env.reset(seed=s)[0] for env, s in zip(envs, seeds, strict=True)])
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
    running = np.arange(episodes)
    while len(running):
        actions = act(observations[running])
        going_on = []
        for i, action in zip(running, actions, strict=True):
            observations[i], reward, terminated, truncated, _ = envs[i].step(action)
            returns[i] += float(reward)
            lengths[i] += 1
            going_on.append(not (terminated or truncated))
        running = running[going_on]
    for env in envs:
        env.close()
    return {"returns": returns.tolist(), "lengths": lengths.tolist()}


def _check_settings(run: Path, stored: dict[str, Any], given: dict[str, Any]) -> None:
    different = [name for name in given if stored.get(name) != given[name]]
    if different:
        was = ", ".join(f"{name}={stored.get(name)!r} (now {given[name]!r})" for name in different)
        raise ValueError(
            f"{run} holds a training with {was}: give the same settings to go on, or another --out"
        )


def _write_curve(run: Path) -> None:
    """Writes the learning curve of all checkpoints."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CURVE_COLUMNS)
    for folder in checkpoint_folders(run):
        state = read_state(folder)
        kinds = [state["evaluations"][kind] for kind in ("stochastic", "deterministic")]
        row = [state["seconds"]]
        for kind in kinds:
            row += [np.mean(kind["returns"]), np.std(kind["returns"])]
        row += [np.mean(kind["lengths"]) for kind in kinds]
        writer.writerow([state["steps"], *(f"{value:.1f}" for value in row)])
    write_file(run / CURVE_FILE, text.getvalue())


if __name__ == "__main__":
    import tyro

    train(tyro.cli(TrainingConfig))
