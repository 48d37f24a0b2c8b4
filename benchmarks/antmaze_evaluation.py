"""Environment steps per second of policies evaluated in AntMaze.

Against what there is without this suite's batch: one environment at a time through
``gymnasium.make``. Uniformly random actions use up all of an episode's steps; the bundled
controller ends its episodes at the goal. Ways take turns and each one's best of several turns
counts, so that what else the machine does harms all alike; processor time is told beside it, as
that hardly depends on it. The target is 100 episodes of 1,000 steps in 60 s.

    OMP_NUM_THREADS=1 python benchmarks/antmaze_evaluation.py --episodes 100 --repeats 3
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro

import hetero_bench
from hetero_bench.envs.antmaze import AntMazeEnv
from hetero_bench.envs.batch import make_env, require_environment
from hetero_bench.evaluation import episode_seeds
from hetero_bench.policies import Policy, RandomPolicy, takes_generator
from hetero_bench.recipes.antmaze_walker import AntMazeWalker
from hetero_bench.shards import WORKERS_VARIABLE, default_workers
from hetero_bench.spec import DatasetSpec

TARGET_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """What to measure."""

    dataset: str = "antmaze-large-noisy"
    episodes: int = 100
    single_episodes: int = 5
    repeats: int = 3


@dataclass
class Best:
    """The fastest turn of one way, and the least processor time per step of any turn."""

    seconds: float = float("inf")
    steps: int = 0
    processor_seconds: float = float("inf")

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self.steps / self.seconds

    def take(self, run: Callable[[], int]) -> None:
        """Times a turn, which returns its steps, and keeps it if it is the fastest."""
        began, used = time.perf_counter(), time.process_time()
        steps = run()
        seconds = time.perf_counter() - began
        self.processor_seconds = min(self.processor_seconds, (time.process_time() - used) / steps)
        if steps / seconds > self.rate:
            self.seconds, self.steps = seconds, steps


def one_at_a_time(policy: Policy, spec: DatasetSpec, episodes: int) -> int:
    """Runs episodes of one environment through ``gymnasium.make``; returns the steps taken."""
    env = make_env(require_environment(spec))
    arguments = {"rng": np.random.default_rng(0)} if takes_generator(policy) else {}
    steps = 0
    for seed in episode_seeds(0, episodes):
        observation, _ = env.reset(seed=int(seed))
        ended = False
        while not ended:
            action = policy(observation[None], **arguments)[0]
            observation, _, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
            steps += 1
    env.close()
    return steps


def evaluation(policy: Policy, spec: DatasetSpec, episodes: int, threads: int) -> int:
    """Runs ``hetero_bench.evaluate`` on so many threads; returns the steps taken."""
    os.environ[WORKERS_VARIABLE] = str(threads)
    return int(hetero_bench.evaluate(policy, spec, episodes=episodes).lengths.sum())


def measure(policy: Policy, spec: DatasetSpec, options: Options, threads: int) -> dict[str, Best]:
    """Returns each way's fastest turn."""
    ways: dict[str, Callable[[], int]] = {
        "one at a time": lambda: one_at_a_time(policy, spec, options.single_episodes),
        "evaluate, 1 thread": lambda: evaluation(policy, spec, options.episodes, 1),
        f"evaluate, {threads} threads": lambda: evaluation(policy, spec, options.episodes, threads),
    }
    best = {way: Best() for way in ways}
    for _ in range(options.repeats):
        for way, run in ways.items():
            best[way].take(run)
    return best


def main(options: Options) -> None:
    spec = hetero_bench.get_spec(options.dataset)
    environment = require_environment(spec)
    env = make_env(environment).unwrapped
    assert isinstance(env, AntMazeEnv)
    threads = default_workers()
    limit = environment.max_episode_steps
    print(f"{spec.id}: {options.episodes} episodes of at most {limit} steps, {threads} threads")
    columns = ("steps/s", "ratio", "seconds", "steps", "CPU µs/step")
    print(f"{'policy':<12}{'way':<22}" + "".join(f"{column:>13}" for column in columns))
    policies: dict[str, Policy] = {
        "random": RandomPolicy(env.action_space),
        "controller": AntMazeWalker(env.layout.rows),
    }
    slowest = 0.0
    for name, policy in policies.items():
        best = measure(policy, spec, options, threads)
        base = best["one at a time"].rate
        for way, found in best.items():
            print(
                f"{name:<12}{way:<22}{found.rate:>13,.0f}{found.rate / base:>13.2f}"
                f"{found.seconds:>13.1f}{found.steps:>13,}{found.processor_seconds * 1e6:>13.0f}"
            )
        slowest = max(slowest, found.seconds)
    verdict = "met" if slowest <= TARGET_SECONDS else "missed"
    print(f"target {TARGET_SECONDS:.0f} s on {threads} threads: {verdict}")


if __name__ == "__main__":
    main(tyro.cli(Options))
