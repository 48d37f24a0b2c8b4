"""Environment steps per second of a tabular policy in the gridworld, on one core.

Times the bare loop over the vector environment and ``hetero_bench.evaluate`` around it, with the
optimal policy (84 steps an episode or so) and with the behaviour policy, whose episodes last the
full 300 steps. Timings are the best of several repeats; the target is 200,000 steps/s.

    python benchmarks/gridworld_evaluation.py --episodes 1000 --num-envs 100
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
import tyro

import hetero_bench
from hetero_bench.envs import GRIDWORLD_MAZE_ID
from hetero_bench.envs.gridworld_model import gridworld_mdp, gridworld_model
from hetero_bench.recipes.gridworld import behaviour_probabilities
from hetero_bench.tabular_policy import TabularPolicy

TARGET_STEPS_PER_SECOND = 200_000


@dataclass(frozen=True)
class Options:
    """What to measure."""

    dataset: str = "gridworld-hetero"
    episodes: int = 1000
    num_envs: int = 100
    repeats: int = 5


def bare_loop(policy: TabularPolicy, options: Options) -> int:
    """Runs batches of episodes without any bookkeeping; returns environment steps taken."""
    env = gymnasium.make_vec(GRIDWORLD_MAZE_ID, options.num_envs)
    rng = np.random.default_rng(0)
    steps = 0
    for batch in range(-(-options.episodes // options.num_envs)):
        observations, _ = env.reset(seed=batch * options.num_envs)
        active = np.ones(options.num_envs, dtype=bool)
        while active.any():
            steps += int(active.sum())
            observations, _, terminations, truncations, _ = env.step(policy(observations, rng))
            active = ~(terminations | truncations)
    return steps


def evaluation(policy: TabularPolicy, options: Options) -> int:
    """Runs ``hetero_bench.evaluate``; returns environment steps taken."""
    result = hetero_bench.evaluate(
        policy, options.dataset, episodes=options.episodes, num_envs=options.num_envs
    )
    return int(result.lengths.sum())


def best_rate(run: Callable[[], int], repeats: int) -> float:
    """Returns the highest rate of ``repeats`` runs in steps per second."""
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        steps = run()
        rates.append(steps / (time.perf_counter() - began))
    return max(rates)


def main(options: Options) -> None:
    model, mdp = gridworld_model(), gridworld_mdp()
    policies = {
        "optimal": mdp.value_iteration(0.99).policy,
        "behaviour": behaviour_probabilities(model.layout, room_uniform=0.2, hallway_uniform=0.0),
    }
    print(f"{options.episodes} episodes, {options.num_envs} at a time, steps/s")
    print(f"{'policy':<12}{'bare loop':>14}{'evaluate':>14}")
    slowest = np.inf
    for name, probabilities in policies.items():
        policy = TabularPolicy(probabilities, model.features)
        bare = best_rate(lambda policy=policy: bare_loop(policy, options), options.repeats)
        whole = best_rate(lambda policy=policy: evaluation(policy, options), options.repeats)
        slowest = min(slowest, whole)
        print(f"{name:<12}{bare:>14,.0f}{whole:>14,.0f}")
    verdict = "met" if slowest >= TARGET_STEPS_PER_SECOND else "missed"
    print(f"target {TARGET_STEPS_PER_SECOND:,} steps/s: {verdict}")


if __name__ == "__main__":
    main(tyro.cli(Options))
