"""The parts of a maze that evaluation tells episodes' ends by, so that one sees where they stop.

An environment that has them offers ``regions`` (:class:`Regions`) and ``position`` ((2,), where the
agent is); a vector environment ``regions`` and ``positions`` (n, 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hetero_bench.envs.antmaze_layout import AntMazeLayout
from hetero_bench.envs.gridworld_layout import GridworldLayout


@dataclass(frozen=True, eq=False)
class Regions:
    """Named parts of a maze, the nearest to the goal first.

    Attributes:
        names: What each of the ``R`` regions is called.
        distances: (R,) int64 moves from a region's nearest cell to the goal on a shortest path.
        locate: Function of positions (n, 2) that gives the regions (n,) int64 they lie in.
        layout: The maze, for pictures; ``None`` if there are none of its kind.
    """

    names: tuple[str, ...]
    distances: np.ndarray
    locate: Callable[[np.ndarray], np.ndarray]
    layout: AntMazeLayout | GridworldLayout | None = None


@lru_cache(maxsize=64)
def antmaze_regions(layout: AntMazeLayout) -> Regions:
    """Returns the free cells, named by row and column; positions are x and y in metres.

    A torso that leans over a wall counts for the nearest free cell.
    """
    distances = layout.distances[layout.goal]
    order = np.argsort(distances, kind="stable")
    regions = np.argsort(order)
    marks = {layout.start: " (start)", layout.goal: " (goal)"}
    names = tuple(
        "row {}, column {}".format(*layout.rows_columns[cell]) + marks.get(cell, "")
        for cell in order.tolist()
    )
    return Regions(
        names=names,
        distances=distances[order],
        locate=lambda positions: regions[layout.nearest_cells(positions)],
        layout=layout,
    )


@lru_cache(maxsize=64)
def gridworld_regions(layout: GridworldLayout) -> Regions:
    """Returns rooms and hallways, numbered on the way to the goal; positions are row and column.

    A room is a connected set of cells that are left in the same direction.
    """
    parts = _connected_parts(layout)
    distances = np.array(
        [layout.goal_distances[parts == part].min() for part in range(parts.max() + 1)]
    )
    order = np.argsort(distances, kind="stable")
    regions = np.argsort(order)[parts]
    marks = {int(regions[layout.start]): " (start)", int(regions[layout.goal]): " (goal)"}
    counts = {"room": 0, "hallway": 0}
    names: dict[int, str] = {}
    for region in range(len(order))[::-1]:
        kind = "room" if layout.in_room[regions == region][0] else "hallway"
        counts[kind] += 1
        names[region] = f"{kind} {counts[kind]}" + marks.get(region, "")
    return Regions(
        names=tuple(names[region] for region in range(len(order))),
        distances=distances[order],
        locate=lambda cells: regions[layout.state_map[tuple(np.asarray(cells, dtype=np.int64).T)]],
        layout=layout,
    )


def _connected_parts(layout: GridworldLayout) -> np.ndarray:
    """Returns (S,) numbers of the connected sets of cells with one exit direction."""
    parts = np.full(layout.num_states, -1)
    for state in range(layout.num_states):
        if parts[state] >= 0:
            continue
        part, stack = parts.max() + 1, [state]
        while stack:
            at = stack.pop()
            parts[at] = part
            around = layout.next_states[at]
            alike = layout.exit_actions[around] == layout.exit_actions[state]
            stack += around[alike & (parts[around] < 0)].tolist()
    return parts
