"""Mazes of the gridworld as readable text, and the integer tables that follow from them.

A layout is a tuple of equally long strings::

    #        wall
    .        hallway cell
    v ^ < >  room cell; the arrow says in which direction the room is left towards the goal
    S  G     start and goal; each belongs to the room or hallway it touches

States are the free cells (goal included) numbered row by row from the top left. Actions are
``ACTION_NAMES``: no-op, up, down, left, right. A wall blocks: the agent stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ACTION_NAMES = ("noop", "up", "down", "left", "right")
NUM_ACTIONS = len(ACTION_NAMES)
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])
"""(A, 2) row and column change of each action."""
OPPOSITE_ACTIONS = np.array([0, 2, 1, 4, 3])
"""(A,) the action that undoes each action."""
HALLWAY = 0
"""``exit_actions`` entry of hallway cells: no-op, as a hallway has no exit direction."""

WALL_MARK, HALLWAY_MARK, START_MARK, GOAL_MARK = "#", ".", "S", "G"
ROOM_MARKS = {"^": 1, "v": 2, "<": 3, ">": 4}
KNOWN_MARKS = (WALL_MARK, HALLWAY_MARK, START_MARK, GOAL_MARK, *ROOM_MARKS)

LAYOUTS: dict[str, tuple[str, ...]] = {
    # Three rooms and three hallways in the order of the way: down through the first room, under
    # the wall and up the hallway, down through the second room, down and along to the third, up
    # through it and on to the goal. Each room is entered on the side that its behaviour policy
    # drives to. The rooms are low, so that short trajectories can visit all cells evenly.
    "three-rooms": (
        "########################",
        "#vvvSvvv#..vvvvvvv######",
        "#vvvvvvv#.#vvvvvvv######",
        "#vvvvvvv#.#vvvvvvv#G####",
        "#vvvvvvv#.#vvvvvvv#.####",
        "#vvvvvvv#.#vvvvvvv#.####",
        "#vvvvvvv#.#vvvvvvv#.####",
        "####.####.####.####.####",
        "####......####.#^^^^^^^#",
        "##############.#^^^^^^^#",
        "##############.#^^^^^^^#",
        "##############.#^^^^^^^#",
        "##############.#^^^^^^^#",
        "##############.####.####",
        "##############......####",
        "########################",
    ),
}
"""Named layouts; the values are rows of equal length, top row first."""


@dataclass(frozen=True, eq=False)
class GridworldLayout:
    """A validated maze: ``S`` free cells, ``A`` = 5 actions.

    Attributes:
        name: Name in ``LAYOUTS``, or "custom".
        rows: The maze as text, top row first.
        cells: (S, 2) int64 row and column of each state.
        state_map: (height, width) int64 state of each cell, -1 for walls.
        start: State in which an episode starts.
        goal: State that ends an episode on entering.
        next_states: (S, A) int64 state after an executed action, by geometry alone.
        exit_actions: (S,) int64 direction in which the cell's room is left, ``HALLWAY`` (0) in
            hallways.
        goal_distances: (S,) int64 number of moves to the goal on a shortest path.
        goal_actions: (S,) int64 first action of a shortest path to the goal; the lowest-numbered
            of several, no-op in the goal.
    """

    name: str
    rows: tuple[str, ...]
    cells: np.ndarray
    state_map: np.ndarray
    start: int
    goal: int
    next_states: np.ndarray
    exit_actions: np.ndarray
    goal_distances: np.ndarray
    goal_actions: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in cells, walls included."""
        return len(self.rows), len(self.rows[0])

    @property
    def num_states(self) -> int:
        """Number of free cells ``S``, the goal included."""
        return len(self.cells)

    @property
    def in_room(self) -> np.ndarray:
        """(S,) bool, whether the state lies in a room (else in a hallway)."""
        return self.exit_actions != HALLWAY

    def to_grid(self, values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Returns (height, width) float64: per-state ``values`` (S,) on the map, walls ``fill``."""
        grid = np.full(self.shape, fill)
        grid[self.cells[:, 0], self.cells[:, 1]] = values
        return grid


def get_layout(layout: str | Sequence[str]) -> GridworldLayout:
    """Returns a named layout, or one built from rows of text.

    Args:
        layout: A key of ``LAYOUTS``, or the maze's rows, top row first.

    Raises:
        ValueError: If the name is unknown, or the rows are no valid maze; the message names row
            and column.
    """
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(
                f"unknown gridworld layout {layout!r}; expected one of {sorted(LAYOUTS)}, or a "
                "sequence of rows"
            )
        return _build_layout(layout, LAYOUTS[layout])
    return _build_layout("custom", tuple(layout))


@lru_cache(maxsize=64)
def _build_layout(name: str, rows: tuple[str, ...]) -> GridworldLayout:
    _check_shape(rows)
    marks = np.array([list(row) for row in rows])
    free = marks != WALL_MARK
    _check_enclosed(free)
    cells = np.argwhere(free)
    state_map = np.full(free.shape, -1)
    state_map[free] = np.arange(len(cells))
    start = int(state_map[_find_single(marks, START_MARK, "start")])
    goal = int(state_map[_find_single(marks, GOAL_MARK, "goal")])
    targets = state_map[tuple((cells[:, None] + MOVES).transpose(2, 0, 1))]
    next_states = np.where(targets < 0, np.arange(len(cells))[:, None], targets)
    distances = _distances_to(goal, next_states)
    lost = np.flatnonzero(distances < 0)
    if len(lost):
        row, column = cells[lost[0]]
        raise ValueError(
            f"the goal cannot be reached from row {row}, column {column}; every free cell must be "
            "connected to it"
        )
    arrays = {
        "cells": cells,
        "state_map": state_map,
        "next_states": next_states,
        "exit_actions": _exit_actions(marks, cells, next_states),
        "goal_distances": distances,
        "goal_actions": np.argmin(distances[next_states], axis=1),
    }
    for array in arrays.values():
        array.setflags(write=False)
    return GridworldLayout(name=name, rows=rows, start=start, goal=goal, **arrays)


def _check_shape(rows: tuple[str, ...]) -> None:
    if len(rows) < 3 or len(rows[0]) < 3:
        raise ValueError("a layout needs at least 3 rows and 3 columns, its border being wall")
    for r, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"row {r} has {len(row)} characters; expected {len(rows[0])} as in row 0"
            )
        for c, mark in enumerate(row):
            if mark not in KNOWN_MARKS:
                raise ValueError(
                    f"unknown character {mark!r} in row {r}, column {c}; expected one of "
                    f"{' '.join(KNOWN_MARKS)}"
                )


def _check_enclosed(free: np.ndarray) -> None:
    border = free.copy()
    border[1:-1, 1:-1] = False
    if border.any():
        row, column = np.argwhere(border)[0]
        raise ValueError(
            f"row {row}, column {column} is open; the maze must be enclosed by walls {WALL_MARK!r}"
        )


def _find_single(marks: np.ndarray, mark: str, meaning: str) -> tuple[int, int]:
    found = np.argwhere(marks == mark)
    if len(found) != 1:
        places = ", ".join(f"row {r} column {c}" for r, c in found) or "none"
        raise ValueError(f"a layout needs exactly one {meaning} {mark!r}; found {places}")
    return int(found[0, 0]), int(found[0, 1])


def _distances_to(goal: int, next_states: np.ndarray) -> np.ndarray:
    """Breadth-first distances; moves can be undone, so successors are predecessors. -1 is lost."""
    distances = np.full(len(next_states), -1)
    distances[goal] = 0
    queue = deque([goal])
    while queue:
        state = queue.popleft()
        for neighbour in next_states[state]:
            if distances[neighbour] < 0:
                distances[neighbour] = distances[state] + 1
                queue.append(int(neighbour))
    return distances


def _exit_actions(marks: np.ndarray, cells: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    state_marks = marks[cells[:, 0], cells[:, 1]]
    exits = np.array([ROOM_MARKS.get(mark, HALLWAY) for mark in state_marks])
    for state in np.flatnonzero((state_marks == START_MARK) | (state_marks == GOAL_MARK)):
        touched = {int(exits[n]) for n in next_states[state] if exits[n] != HALLWAY}
        if len(touched) > 1:
            row, column = cells[state]
            raise ValueError(
                f"{str(state_marks[state])!r} in row {row}, column {column} touches rooms with "
                "different exit directions; expected one room, or a hallway"
            )
        exits[state] = touched.pop() if touched else HALLWAY
    return exits
