"""AntMaze's mazes as readable text, and the geometry that follows from them.

A maze is a tuple of equally long strings, the row with the smallest y first::

    #    wall
    .    free cell
    S    free cell in which episodes start; its centre is the origin
    G    free cell with the evaluated goal

Cells are squares of 4 m. x grows with the column and y with the row, so a plot with y upwards shows
the text upside down. The free cells are numbered row by row; those numbers are called ``cells``.

The walls are those of D4RL (Fu et al., 2020) and, for ``ultra``, of its published extension.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CELL_SIZE = 4.0
"""Metres."""
WALL_MARK, FREE_MARK, START_MARK, GOAL_MARK = "#", ".", "S", "G"
KNOWN_MARKS = (WALL_MARK, FREE_MARK, START_MARK, GOAL_MARK)

MAZES: dict[str, tuple[str, ...]] = {
    "umaze": (
        "#####",
        "#S..#",
        "###.#",
        "#G..#",
        "#####",
    ),
    "medium": (
        "########",
        "#S.##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#.G#",
        "########",
    ),
    "large": (
        "############",
        "#S...#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#.G.#",
        "############",
    ),
    "ultra": (
        "################",
        "#S......#......#",
        "#.###.#.#.##.#.#",
        "#.###.#....#.#.#",
        "#...#.##.###.#.#",
        "#.#...#........#",
        "#...#...#.###.##",
        "#.#.###.#...#.##",
        "#.......#.#....#",
        "##.##.#...####.#",
        "##.#..#.#.....G#",
        "################",
    ),
}
"""The evaluated mazes, each with one goal."""

PLAY_GOALS: dict[str, tuple[tuple[int, int], ...]] = {
    "umaze": ((3, 1),),
    "medium": ((2, 6), (5, 1), (6, 5)),
    "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
    "ultra": (
        (1, 4), (1, 11), (1, 14), (2, 5), (2, 9), (3, 7), (4, 3), (4, 12), (5, 1), (5, 7), (5, 10),
        (5, 14), (6, 5), (7, 3), (7, 11), (8, 1), (8, 7), (8, 13), (9, 5), (10, 9), (10, 14),
    ),
}  # fmt: skip
"""(row, column) of the hand-picked goals that D4RL's ``play`` data was collected with."""


@dataclass(frozen=True, eq=False)
class AntMazeLayout:
    """A validated maze of ``S`` free cells.

    Attributes:
        name: Name in ``MAZES``, or "custom".
        rows: The maze as text.
        rows_columns: (S, 2) int64 row and column of each cell.
        cell_map: (height, width) int64 cell at each place, -1 for walls.
        centres: (S, 2) float64 x and y of each cell's centre, metres.
        wall_centres: x and y of every wall block, metres.
        start: Cell in which episodes start.
        goal: Cell with the evaluated goal.
        distances: (S, S) int64 moves between cells on a shortest path.
        next_cells: (S, S) int64, entry [goal, cell]: the next cell on a shortest path to the goal,
            the lowest-numbered of several; the goal itself in the goal.
    """

    name: str
    rows: tuple[str, ...]
    rows_columns: np.ndarray
    cell_map: np.ndarray
    centres: np.ndarray
    wall_centres: tuple[tuple[float, float], ...]
    start: int
    goal: int
    distances: np.ndarray
    next_cells: np.ndarray

    @property
    def num_cells(self) -> int:
        """Number of free cells ``S``."""
        return len(self.centres)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The outer edges x_min, x_max, y_min, y_max of the maze, walls included, metres."""
        row, column = self.rows_columns[self.start]
        height, width = self.cell_map.shape
        left, lower = -(column + 0.5) * CELL_SIZE, -(row + 0.5) * CELL_SIZE
        return left, left + width * CELL_SIZE, lower, lower + height * CELL_SIZE

    def cells_at(self, positions: np.ndarray) -> np.ndarray:
        """Returns the cell that each position lies in.

        Args:
            positions: (n, 2) x and y, metres.

        Returns:
            (n,) int64, -1 in walls and outside.
        """
        height, width = self.cell_map.shape
        indices = np.floor(positions / CELL_SIZE + 0.5).astype(np.int64)
        indices = indices[:, ::-1] + self.rows_columns[self.start]
        inside = np.all((indices >= 0) & (indices < (height, width)), axis=1)
        clipped = np.clip(indices, 0, (height - 1, width - 1))
        return np.where(inside, self.cell_map[clipped[:, 0], clipped[:, 1]], -1)

    def nearest_cells(self, positions: np.ndarray) -> np.ndarray:
        """Returns the free cell (n,) at or nearest to each position (n, 2)."""
        cells = self.cells_at(positions)
        lost = cells < 0
        if lost.any():
            offsets = np.abs(positions[lost, None] - self.centres)
            cells[lost] = np.maximum(offsets - CELL_SIZE / 2, 0).sum(axis=2).argmin(axis=1)
        return cells

    def cell_of(self, row: int, column: int) -> int:
        """Returns the number of the free cell at a row and column.

        Raises:
            ValueError: If there is a wall, or no such place.
        """
        height, width = self.cell_map.shape
        if not (0 <= row < height and 0 <= column < width) or self.cell_map[row, column] < 0:
            raise ValueError(f"maze {self.name!r} has no free cell at row {row}, column {column}")
        return int(self.cell_map[row, column])


def get_layout(maze: str | Sequence[str]) -> AntMazeLayout:
    """Returns a named maze, or one built from rows of text.

    Args:
        maze: A key of ``MAZES``, or the maze's rows.

    Raises:
        ValueError: If the name is unknown, or the rows are no valid maze; the message names row
            and column.
    """
    if isinstance(maze, str):
        if maze not in MAZES:
            raise ValueError(
                f"unknown AntMaze maze {maze!r}; expected one of {', '.join(MAZES)}, or a "
                "sequence of rows"
            )
        return _build(maze, MAZES[maze])
    if not isinstance(maze, Sequence) or not all(isinstance(row, str) for row in maze):
        raise ValueError(
            f"maze is {maze!r}; expected one of {', '.join(MAZES)}, or a sequence of rows, each "
            f"a string of {' '.join(KNOWN_MARKS)}"
        )
    return _build("custom", tuple(maze))


@lru_cache(maxsize=64)
def _build(name: str, rows: tuple[str, ...]) -> AntMazeLayout:
    marks = _checked_marks(rows)
    free = marks != WALL_MARK
    rows_columns = np.argwhere(free)
    cell_map = np.full(free.shape, -1)
    cell_map[free] = np.arange(len(rows_columns))
    start, goal = (_find_single(marks, mark) for mark in (START_MARK, GOAL_MARK))
    distances, next_cells = _shortest_paths(cell_map)
    lost = np.flatnonzero(distances[cell_map[start]] < 0)
    if len(lost):
        row, column = rows_columns[lost[0]]
        raise ValueError(
            f"row {row}, column {column} cannot be reached from the start; every free cell must "
            "be connected to it"
        )
    arrays = {
        "rows_columns": rows_columns,
        "cell_map": cell_map,
        "centres": _centres(rows_columns, start),
        "distances": distances,
        "next_cells": next_cells,
    }
    for array in arrays.values():
        array.setflags(write=False)
    walls = _centres(np.argwhere(~free), start)
    return AntMazeLayout(
        name=name,
        rows=rows,
        start=int(cell_map[start]),
        goal=int(cell_map[goal]),
        wall_centres=tuple((float(x), float(y)) for x, y in walls),
        **arrays,
    )


def _centres(rows_columns: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
    return (rows_columns - np.array(origin))[:, ::-1] * CELL_SIZE


def _checked_marks(rows: tuple[str, ...]) -> np.ndarray:
    if len(rows) < 3 or len(rows[0]) < 3:
        raise ValueError("a maze needs at least 3 rows and 3 columns, its border being wall")
    height, width = len(rows), len(rows[0])
    for r, row in enumerate(rows):
        if len(row) != width:
            raise ValueError(f"row {r} has {len(row)} characters; expected {width} as in row 0")
        for c, mark in enumerate(row):
            if mark not in KNOWN_MARKS:
                raise ValueError(
                    f"unknown character {mark!r} in row {r}, column {c}; expected one of "
                    f"{' '.join(KNOWN_MARKS)}"
                )
            if mark != WALL_MARK and (r in (0, height - 1) or c in (0, width - 1)):
                raise ValueError(
                    f"row {r}, column {c} is open; the maze must be enclosed by walls '#'"
                )
    return np.array([list(row) for row in rows])


def _find_single(marks: np.ndarray, mark: str) -> tuple[int, int]:
    found = np.argwhere(marks == mark)
    if len(found) != 1:
        places = ", ".join(f"row {r} column {c}" for r, c in found) or "none"
        raise ValueError(f"a maze needs exactly one {mark!r}; found {places}")
    return int(found[0, 0]), int(found[0, 1])


def _shortest_paths(cell_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Breadth-first distances between all cells, and first moves towards each (see the layout)."""
    neighbours: list[list[int]] = []
    for row, column in np.argwhere(cell_map >= 0):
        around = ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column))
        neighbours.append([int(cell_map[place]) for place in around if cell_map[place] >= 0])
    distances = np.full((len(neighbours),) * 2, -1)
    next_cells = np.tile(np.arange(len(neighbours))[:, None], (1, len(neighbours)))
    for goal in range(len(neighbours)):
        distances[goal, goal] = 0
        queue = deque([goal])
        while queue:
            cell = queue.popleft()
            for neighbour in neighbours[cell]:
                if distances[goal, neighbour] < 0:
                    distances[goal, neighbour] = distances[goal, cell] + 1
                    queue.append(neighbour)
    for goal in range(len(neighbours)):
        for cell, around in enumerate(neighbours):
            closer = [n for n in around if 0 <= distances[goal, n] < distances[goal, cell]]
            if closer:
                next_cells[goal, cell] = closer[0]
    return distances, next_cells
