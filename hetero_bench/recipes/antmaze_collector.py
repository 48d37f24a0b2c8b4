"""Ants that follow the planner's waypoints with noise, and the rows that come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetero_bench.envs.antmaze import at_goals, draw_goals
from hetero_bench.envs.antmaze_layout import AntMazeLayout
from hetero_bench.envs.antmaze_model import NUM_JOINTS, NUM_OBSERVATIONS, AntBatch
from hetero_bench.recipes.action_noise import NoiseSchedule
from hetero_bench.recipes.antmaze_controller import AntMazeController
from hetero_bench.recipes.antmaze_planner import CollectionTask, waypoints
from hetero_bench.recipes.antmaze_steering import uprightness


@dataclass(eq=False)
class Collector:
    """Ants of one shard, each running one episode after the other.

    Attributes:
        layout: The maze.
        task: Where episodes start and what they aim at.
        schedule: Noise and bias over x.
        controller: Gives the actions' means before these.
        rng: All randomness.
        ants: As many as are stepped together.
        max_episode_steps: Steps after which an episode is truncated.
        stay: Whether an episode goes on where it was sent to, or ends there with a truncation.
    """

    layout: AntMazeLayout
    task: CollectionTask
    schedule: NoiseSchedule
    controller: AntMazeController
    rng: np.random.Generator
    ants: AntBatch
    max_episode_steps: int
    stay: bool

    def __post_init__(self) -> None:
        size = len(self.ants.data)
        self._aims = np.empty((size, 2))
        self._goals = np.empty((size, 2))
        self._elapsed = np.zeros(size, dtype=np.int64)

    def collect(self, steps: int) -> dict[str, np.ndarray]:
        """Collects ``steps`` rows of every ant, the last of them truncated.

        Returns:
            Arrays with the rows of one ant after those of another, and ``final_observations`` of
            the episodes in that order. ``arrivals``, ``fallen`` and ``cut`` are flags by row:
            within reach of where the episode was sent, on its back, ended by the last step alone.
        """
        size = len(self.ants.data)
        rows: dict[str, np.ndarray] = {
            "observations": np.empty((size, steps, NUM_OBSERVATIONS), dtype=np.float32),
            "actions": np.empty((size, steps, NUM_JOINTS), dtype=np.float32),
            "controller_means": np.empty((size, steps, NUM_JOINTS), dtype=np.float32),
            "noise_stds": np.empty((size, steps), dtype=np.float32),
            "noise_means": np.empty((size, steps), dtype=np.float32),
            "waypoints": np.empty((size, steps, 2), dtype=np.float32),
        }
        flags = {
            name: np.zeros((size, steps), dtype=bool)
            for name in ("terminations", "truncations", "arrivals", "fallen", "cut")
        }
        finals: list[tuple[int, int, np.ndarray]] = []
        for index in range(size):
            self._start_episode(index)
        for step in range(steps):
            for name, values in self._act().items():
                rows[name][:, step] = values
            after = self.ants.step(rows["actions"][:, step])
            for name, values in self._judge(after).items():
                flags[name][:, step] = values
            ended = flags["terminations"][:, step] | flags["truncations"][:, step]
            if step == steps - 1:
                flags["cut"][:, step] = ~ended
                flags["truncations"][:, step] |= ~ended
                ended[:] = True
            for index in np.flatnonzero(ended):
                finals.append((int(index), step, after[index].astype(np.float32)))
                self._start_episode(int(index))
        flat = {n: array.reshape(-1, *array.shape[2:]) for n, array in {**rows, **flags}.items()}
        finals.sort(key=lambda final: final[:2])
        return {**flat, "final_observations": np.stack([final[2] for final in finals])}

    def _start_episode(self, index: int) -> None:
        start, aim = self.task.draw(self.rng)
        evaluated = self.layout.centres[[self.layout.goal]]
        drawn = draw_goals(evaluated, self.rng)[0]
        aims_there = self.layout.cells_at(aim[None])[0] == self.layout.goal
        self._aims[index] = aim
        self._goals[index] = aim if aims_there else drawn
        self._elapsed[index] = 0
        self.ants.reset(index, self.rng, start)

    def _act(self) -> dict[str, np.ndarray]:
        observations = self.ants.observations
        positions = observations[:, :2]
        points = waypoints(self.layout, positions, self._aims, self.rng.random(positions.shape))
        means = self.controller(observations, points)
        stds, biases = self.schedule.at(positions[:, 0])
        noise = self.rng.standard_normal(means.shape)
        actions = means + biases[:, None] + stds[:, None] * noise
        return {
            "observations": observations,
            "actions": np.clip(actions, -1.0, 1.0),
            "controller_means": means,
            "noise_stds": stds,
            "noise_means": biases,
            "waypoints": points,
        }

    def _judge(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        self._elapsed += 1
        positions = observations[:, :2]
        succeeded, arrived = at_goals(positions, self._goals), at_goals(positions, self._aims)
        over = self._elapsed >= self.max_episode_steps
        if not self.stay:
            over |= arrived
        return {
            "terminations": succeeded,
            "truncations": over & ~succeeded,
            "arrivals": arrived,
            "fallen": uprightness(observations) < 0,
        }
