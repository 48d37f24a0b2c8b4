"""Building an AntMaze dataset of 1M transitions from nothing: time and peak memory.

Against a collection without this suite's batch and worker processes: one environment at a time
through ``gymnasium.make``, the controller asked for one action at a time, in the same run. The
targets are 5 minutes and 2 GB on two cores.

    OMP_NUM_THREADS=1 python benchmarks/antmaze_build.py
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import tyro

import hetero_bench
from hetero_bench.envs.batch import make_env, require_environment
from hetero_bench.recipes.antmaze import environment_layout
from hetero_bench.recipes.antmaze_controller import AntMazeController
from hetero_bench.recipes.antmaze_planner import collection_task, waypoints
from hetero_bench.shards import default_workers
from hetero_bench.spec import DatasetSpec

TARGET_SECONDS, TARGET_GIGABYTES = 300.0, 2.0


@dataclass(frozen=True)
class Options:
    """What to measure."""

    dataset: str = "antmaze-large-noisy"
    single_steps: int = 5000


def one_at_a_time(spec: DatasetSpec, steps: int) -> float:
    """Returns the rows per second of a plain collection loop."""
    environment = require_environment(spec)
    env, rng = make_env(environment), np.random.default_rng(0)
    layout, controller = environment_layout(environment), AntMazeController.load()
    task = collection_task(layout, "play")
    observation, _ = env.reset(seed=0)
    _, aim = task.draw(rng)
    began = time.perf_counter()
    for _ in range(steps):
        position = observation[None, :2]
        point = waypoints(layout, position, aim[None], rng.random((1, 2)))
        mean = controller(observation[None], point)[0]
        action = np.clip(mean + 0.2 * rng.standard_normal(mean.shape), -1.0, 1.0)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
            _, aim = task.draw(rng)
    env.close()
    return steps / (time.perf_counter() - began)


def gigabytes(who: int) -> float:
    """Returns a peak resident memory so far."""
    return resource.getrusage(who).ru_maxrss / 1e6


def main(options: Options) -> None:
    """Builds in an empty cache and prints what it took."""
    spec = hetero_bench.get_spec(options.dataset)
    single = one_at_a_time(spec, options.single_steps)
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        dataset = hetero_bench.load(options.dataset, cache_dir=cache)
        seconds = time.perf_counter() - began
        rows = len(dataset)
    workers = default_workers()
    children = gigabytes(resource.RUSAGE_CHILDREN)
    peak = gigabytes(resource.RUSAGE_SELF) + workers * children
    print(f"{rows:,} transitions in {seconds:.0f} s with {workers} workers")
    print(f"  {rows / seconds:,.0f} rows/s, {rows / seconds / single:.2f} times one at a time")
    print(f"  at most {peak:.2f} GB: this process's peak and {workers} times a worker's largest")
    verdict = "met" if seconds < TARGET_SECONDS and peak < TARGET_GIGABYTES else "missed"
    print(f"  targets of {TARGET_SECONDS:.0f} s and {TARGET_GIGABYTES:.0f} GB: {verdict}")


if __name__ == "__main__":
    main(tyro.cli(Options))
