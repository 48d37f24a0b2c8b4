"""A corridor small enough to know every answer, as environment and as dataset.

Seven cells in a row; actions left, stay, right; an episode starts in the middle, entering the last
cell earns 1 and terminates, and after 30 steps it is truncated.
"""

from __future__ import annotations

import gymnasium
import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.dataset import Dataset
from hetero_bench.provenance import Provenance
from hetero_bench.spec import DatasetSpec

CELLS, START, GOAL, HORIZON = 7, 3, 6, 30


class Corridor(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (CELLS,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = START
        return one_hot(self.cell), {}

    def step(self, action):
        self.cell = int(np.clip(self.cell + action - 1, 0, CELLS - 1))
        goal = self.cell == GOAL
        return one_hot(self.cell), float(goal), goal, False, {"success": goal}


gymnasium.register("hetero_bench_tests/Corridor-v0", lambda **_: Corridor())


def one_hot(cell):
    return np.eye(CELLS, dtype=np.float32)[cell]


def corridor_spec(name="corridor", **fields):
    return DatasetSpec.model_validate(
        {
            "name": name,
            "version": 0,
            "family": "toy",
            "summary": "",
            "sources": [{"kind": "d4rl", "path": "none"}],
            "licence": "MIT",
            "citation": "",
            "rewards": {"semantics": "1 for entering the last cell"},
            "environment": {
                "id": "hetero_bench_tests/Corridor-v0",
                "max_episode_steps": HORIZON,
            },
            "action": {"shape": [], "dtype": "int64", "n": 3},
            "reference": {"random": 0.0, "expert": 1.0, "source": "exact"},
            "evaluation_episodes": 10,
            **fields,
        }
    )


def corridor(name="corridor", *, probabilities=(0.6, 0.1, 0.3), episodes=100, seed=0, **fields):
    """A dataset of the behaviour policy that goes left, stays and goes right as given."""
    rng = np.random.default_rng(seed)
    rows, finals = [], []
    for episode in range(episodes):
        cell = START
        for step in range(HORIZON):
            action = rng.choice(3, p=probabilities)
            successor = int(np.clip(cell + action - 1, 0, CELLS - 1))
            goal = successor == GOAL
            last = step == HORIZON - 1 and not goal
            rows.append((one_hot(cell), action, float(goal), goal, last, episode))
            cell = successor
            if goal or last:
                break
        finals.append(one_hot(cell))
    observations, actions, rewards, terminations, truncations, ids = zip(*rows, strict=True)
    arrays = EpisodeArrays(
        observations=np.stack(observations),
        actions=np.array(actions, np.int64),
        rewards=np.array(rewards, np.float32),
        terminations=np.array(terminations),
        truncations=np.array(truncations),
        episode_ids=np.array(ids, np.int32),
        final_observations=np.stack(finals),
    )
    arrays.validate()
    provenance = Provenance(
        status="unpinned",
        source="d4rl",
        digest=f"{seed:064x}",
        made_at="2000-01-01T00:00:00+00:00",
    )
    return Dataset(spec=corridor_spec(name, **fields), arrays=arrays, provenance=provenance)


class Point(gymnasium.Env):
    """A point in the plane that is moved by an action in [-1, 1]² and wants to be at the origin.

    It starts on the unit circle and moves by a tenth of the action; a step costs the distance that
    is left, and at a distance below 0.1 the episode terminates. The shortest way is straight.
    """

    observation_space = gymnasium.spaces.Box(-3, 3, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        angle = self.np_random.uniform(0, 2 * np.pi)
        self.place = np.array([np.cos(angle), np.sin(angle)])
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.place, reward, arrived = point_step(self.place, np.asarray(action, np.float64))
        return self.place.astype(np.float32), reward, arrived, False, {"success": arrived}


gymnasium.register("hetero_bench_tests/Point-v0", lambda **_: Point())

POINT_HORIZON = 40


def point_step(place, action):
    """Successor, reward and whether the origin is reached."""
    place = (place + 0.1 * action).clip(-3, 3)
    distance = float(np.linalg.norm(place))
    return place, -distance, distance < 0.1


def point(name="point", *, skill=0.3, noise=0.6, episodes=60, seed=0, **fields):
    """A dataset of a policy that goes towards the origin a little, with much noise.

    An action is ``skill`` times the direction plus normal noise of deviation ``noise``, clipped.
    The reference expert goes straight: ten steps cost 4.5.
    """
    rng = np.random.default_rng(seed)
    rows, finals = [], []
    for episode in range(episodes):
        angle = rng.uniform(0, 2 * np.pi)
        place = np.array([np.cos(angle), np.sin(angle)])
        for step in range(POINT_HORIZON):
            towards = -place / np.linalg.norm(place)
            action = (skill * towards + noise * rng.normal(size=2)).clip(-1, 1).astype(np.float32)
            successor, reward, arrived = point_step(place, action.astype(np.float64))
            last = step == POINT_HORIZON - 1 and not arrived
            rows.append((place.astype(np.float32), action, reward, arrived, last, episode))
            place = successor
            if arrived or last:
                break
        finals.append(place.astype(np.float32))
    observations, actions, rewards, terminations, truncations, ids = zip(*rows, strict=True)
    arrays = EpisodeArrays(
        observations=np.stack(observations),
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        terminations=np.array(terminations),
        truncations=np.array(truncations),
        episode_ids=np.array(ids, np.int32),
        final_observations=np.stack(finals),
    )
    arrays.validate()
    provenance = Provenance(
        status="unpinned",
        source="d4rl",
        digest=f"{seed:064x}",
        made_at="2000-01-01T00:00:00+00:00",
    )
    spec = corridor_spec(
        name,
        **{
            "rewards": {"semantics": "minus the distance that is left"},
            "environment": {
                "id": "hetero_bench_tests/Point-v0",
                "max_episode_steps": POINT_HORIZON,
            },
            "action": {"shape": [2], "dtype": "float32", "low": -1.0, "high": 1.0},
            "reference": {"random": -40.0, "expert": -4.5, "source": "exact"},
            **fields,
        },
    )
    return Dataset(spec=spec, arrays=arrays, provenance=provenance)
