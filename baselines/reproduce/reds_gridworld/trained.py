"""What the trained policies do in the maze: where they go, where they get stuck, what they hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from baselines.engine import trained_actors
from baselines.engine.plan import config_values
from baselines.gridworld import Maze
from baselines.reproduce.reds_gridworld.results import Setting
from baselines.reproduce.reds_gridworld.sweep import Arm
from hetero_bench.envs.gridworld_layout import HALLWAY, GridworldLayout


@dataclass(frozen=True, eq=False)
class TrainedPolicies:
    """One setting's policies.

    Attributes:
        setting: Their hyperparameters.
        probabilities: (P, S, A) action probabilities, one policy per seed.
        occupancy: (S,) share of the time spent in each state, mean over seeds.
    """

    setting: Setting
    probabilities: np.ndarray
    occupancy: np.ndarray


class Fate(BaseModel):
    """What becomes of one setting's policies, exactly.

    Attributes:
        setting: Their hyperparameters.
        ends: Share of episodes that end in each part of the maze, the goal last; mean over seeds.
        off_data: Probability, mean over the hallways' cells, of an action other than the data's,
            which is deterministic there; per seed.
        hits_wall: Probability, mean over the hallways' cells, of moving into a wall; per seed.
    """

    model_config = ConfigDict(frozen=True)

    setting: Setting
    ends: dict[str, float]
    off_data: tuple[float, ...]
    hits_wall: tuple[float, ...]


def maze_parts(layout: GridworldLayout) -> dict[str, np.ndarray]:
    """Returns (S,) bool masks of rooms and hallways in the order of the way to the goal."""
    states = np.arange(layout.num_states)
    here, there = np.broadcast_arrays(states[:, None], layout.next_states)
    same = (layout.in_room[here] == layout.in_room[there]) & (there != layout.goal)
    graph = coo_array((np.ones(same.sum()), (here[same], there[same])), shape=2 * states.shape)
    count, labels = connected_components(graph, directed=False)
    masks = [(labels == label) & (states != layout.goal) for label in range(count)]
    masks = sorted(
        (mask for mask in masks if mask.any()),
        key=lambda mask: -float(layout.goal_distances[mask].max()),
    )
    parts, numbers = {}, {"room": 0, "hallway": 0}
    for mask in masks:
        kind = "room" if layout.in_room[mask].all() else "hallway"
        numbers[kind] += 1
        parts[f"{kind} {numbers[kind]}"] = mask
    return parts


def trained_policies(
    arm: Arm, out: Path, seeds: Sequence[int], maze: Maze
) -> list[TrainedPolicies]:
    """Reads an arm's trained policies from its checkpoints.

    Args:
        arm: A part of the sweep, trained below ``out``.
        out: The sweep's folder.
        seeds: The seeds that it was trained with.
        maze: The maze of its dataset.
    """
    found = []
    for job in arm.jobs(out, seeds):
        plan = job.plan()
        actors = trained_actors(plan, job.out)
        for start in range(0, len(actors), len(seeds)):
            member = plan.members[start]
            config = config_values(member.config)
            probabilities = maze.action_probabilities(actors[start : start + len(seeds)])
            found.append(
                TrainedPolicies(
                    setting=Setting.of(job.method, member.dataset.id, config),
                    probabilities=probabilities,
                    occupancy=maze.visitation(probabilities).occupancy,
                )
            )
    return found


def fate(policies: TrainedPolicies, maze: Maze, behaviour: np.ndarray) -> Fate:
    """Measures one setting's policies.

    Args:
        policies: The policies.
        maze: The maze.
        behaviour: (S, A) the data's behaviour policy.
    """
    layout, tables = maze.model.layout, policies.probabilities
    hallways = layout.exit_actions == HALLWAY
    hallways[layout.goal] = False
    blocked = layout.next_states == np.arange(layout.num_states)[:, None]
    blocked[:, 0] = False  # the no-op hits nothing
    final = np.mean([_final_states(maze, table) for table in tables], axis=0)
    shares = {name: round(float(final[mask].sum()), 6) for name, mask in maze_parts(layout).items()}
    return Fate(
        setting=policies.setting,
        ends={**shares, "goal": round(1.0 - sum(shares.values()), 6)},
        off_data=_rounded((tables * (1.0 - behaviour)).sum(axis=-1)[:, hallways].mean(axis=1)),
        hits_wall=_rounded((tables * blocked).sum(axis=-1)[:, hallways].mean(axis=1)),
    )


def _final_states(maze: Maze, policy: np.ndarray) -> np.ndarray:
    """Returns (S,) probability of being in each state after the last step, the goal left out."""
    until, and_after = (
        maze.mdp.expected_visits(policy, horizon=maze.horizon + more) for more in (0, 1)
    )
    return and_after - until


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
