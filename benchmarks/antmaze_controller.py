"""Measures the AntMaze controller: does it reach goals, how fast, and how often does it fall?

    OMP_NUM_THREADS=1 python benchmarks/antmaze_controller.py --pairs 200

Starts and goals are drawn as for ``diverse`` data and actions carry Gaussian noise as in the
datasets. Running out of time and falling over count as failures.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hetero_bench.envs import ANTMAZE_MAX_EPISODE_STEPS
from hetero_bench.envs.antmaze import GOAL_RADIUS, maze_model
from hetero_bench.envs.antmaze_layout import get_layout
from hetero_bench.envs.antmaze_model import NUM_JOINTS, STEP_SECONDS, AntBatch, ant_model
from hetero_bench.recipes.antmaze_controller import AntMazeController
from hetero_bench.recipes.antmaze_planner import collection_task, waypoints
from hetero_bench.recipes.antmaze_steering import uprightness
from hetero_bench.recipes.mlp_policy import TanhMLP

FALLEN_STEPS = 20
"""An ant on its back for so many steps in a row has fallen."""
OPEN_SECONDS = 20.0


@dataclass(frozen=True)
class MazeResult:
    """What was measured in one maze; times in seconds over the successes, speeds in m/s."""

    maze: str
    pairs: int
    success_rate: float
    fall_rate: float
    timeout_rate: float
    median_seconds_to_goal: float
    p90_seconds_to_goal: float
    mean_path_speed: float


def measure_maze(
    controller: AntMazeController, maze: str, pairs: int, noise: float, seed: int
) -> MazeResult:
    layout = get_layout(maze)
    limit = {name.lower(): n for name, n in ANTMAZE_MAX_EPISODE_STEPS.items()}[maze]
    task = collection_task(layout, "diverse")
    rng = np.random.default_rng(np.random.SeedSequence([seed, layout.num_cells]))
    ants = AntBatch(maze_model(layout), pairs)
    goals = np.empty((pairs, 2))
    for index in range(pairs):
        start, goals[index] = task.draw(rng)
        ants.reset(index, rng, start)
    starts = ants.observations[:, :2].copy()
    reached = np.full(pairs, -1)
    down = np.zeros(pairs, dtype=int)
    fallen = np.zeros(pairs, dtype=bool)
    for step in range(limit):
        active = np.flatnonzero((reached < 0) & ~fallen)
        if len(active) == 0:
            break
        observations = ants.observations[active]
        points = waypoints(layout, observations[:, :2], goals[active], rng.random((len(active), 2)))
        means = controller(observations, points)
        observations = ants.step(means + noise * rng.standard_normal(means.shape), active)[active]
        near = np.linalg.norm(observations[:, :2] - goals[active], axis=1) <= GOAL_RADIUS
        reached[active[near]] = step + 1
        down[active] = np.where(uprightness(observations) < 0, down[active] + 1, 0)
        fallen[active] = down[active] >= FALLEN_STEPS
    success = reached > 0
    seconds = reached[success] * STEP_SECONDS
    cells = layout.nearest_cells(starts), layout.nearest_cells(goals)
    metres = np.maximum(4.0 * layout.distances[cells], np.linalg.norm(goals - starts, axis=1))
    return MazeResult(
        maze=maze,
        pairs=pairs,
        success_rate=float(success.mean()),
        fall_rate=float((fallen & ~success).mean()),
        timeout_rate=float((~fallen & ~success).mean()),
        median_seconds_to_goal=float(np.median(seconds)),
        p90_seconds_to_goal=float(np.quantile(seconds, 0.9)),
        mean_path_speed=float(metres[success].sum() / seconds.sum()),
    )


def measure_open(
    controller: AntMazeController, ants_count: int, noise: float, seed: int
) -> dict[str, float]:
    """Runs in one fixed direction per ant without walls; the first two seconds do not count."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    ants = AntBatch(ant_model(), ants_count)
    for index in range(ants_count):
        ants.reset(index, rng)
    angles = rng.uniform(-np.pi, np.pi, ants_count)
    directions = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    fallen = np.zeros(ants_count, dtype=bool)
    started = ants.observations[:, :2].copy()
    warm_up, steps = round(2 / STEP_SECONDS), round(OPEN_SECONDS / STEP_SECONDS)
    for step in range(steps):
        if step == warm_up:
            started = ants.observations[:, :2].copy()
        observations = ants.observations
        means = controller(observations, observations[:, :2] + directions)
        ants.step(means + noise * rng.standard_normal((ants_count, NUM_JOINTS)))
        fallen |= uprightness(ants.observations) < 0
    moved = np.sum((ants.observations[:, :2] - started) * directions, axis=1)
    speeds = moved / ((steps - warm_up) * STEP_SECONDS)
    return {
        "mean_speed": float(speeds.mean()),
        "slowest_tenth": float(np.quantile(speeds, 0.1)),
        "fall_rate": float(fallen.mean()),
    }


def main(
    pairs: int = 200,
    noise: float = 0.2,
    seed: int = 0,
    mazes: tuple[str, ...] = ("umaze", "medium", "large", "ultra"),
    weights: Path | None = None,
    out: Path | None = None,
) -> None:
    """Measures and prints JSON.

    Args:
        pairs: Start-goal pairs per maze.
        noise: Standard deviation of the action noise.
        seed: Seed of starts, goals and noise.
        mazes: Which mazes.
        weights: A weights file, the bundled one by default.
        out: File to write the JSON to as well.
    """
    controller = AntMazeController(TanhMLP.load(weights)) if weights else AntMazeController.load()
    document = {
        "noise": noise,
        "seed": seed,
        "open": measure_open(controller, pairs, noise, seed),
        "mazes": [asdict(measure_maze(controller, maze, pairs, noise, seed)) for maze in mazes],
    }
    text = json.dumps(document, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
