"""The breadth-first planner, and where collections start and go to."""

from __future__ import annotations

import numpy as np
import pytest

from hetero_bench.envs.antmaze_layout import CELL_SIZE, MAZES, PLAY_GOALS, get_layout
from hetero_bench.recipes.antmaze_planner import (
    AISLE_HALF_WIDTH,
    WAYPOINT_JITTER,
    collection_task,
    waypoints,
)

HALVES = np.array([[0.5, 0.5]])


@pytest.mark.parametrize("maze", list(MAZES))
def test_next_cells_are_shortest_paths(maze):
    layout = get_layout(maze)
    cells = np.arange(layout.num_cells)
    assert (layout.distances == layout.distances.T).all()
    for goal in cells:
        following = layout.next_cells[goal]
        expected = np.maximum(layout.distances[goal] - 1, 0)
        np.testing.assert_array_equal(layout.distances[goal, following], expected)
        steps = np.abs(layout.centres[following] - layout.centres).sum(axis=1)
        np.testing.assert_array_equal(steps, np.where(cells == goal, 0, CELL_SIZE))


@pytest.mark.parametrize(("maze", "moves"), [("umaze", 6), ("medium", 10), ("large", 14)])
def test_length_of_the_evaluated_ways(maze, moves):
    layout = get_layout(maze)
    assert layout.distances[layout.start, layout.goal] == moves


def test_cells_of_positions():
    layout = get_layout("umaze")
    positions = np.array([[0, 0], [1.9, -1.9], [2.1, 0], [8, 4], [0, 4], [-50, 0], [-1, 2.5]])
    np.testing.assert_array_equal(layout.cells_at(positions), [0, 0, 1, 3, -1, -1, -1])
    nearest = layout.nearest_cells(positions)
    np.testing.assert_array_equal(nearest, [0, 0, 1, 3, 0, 0, 0])


def test_the_waypoint_lies_in_the_next_cell_with_jitter():
    layout = get_layout("umaze")
    rng = np.random.default_rng(0)
    uniforms = rng.random((1000, 2))
    positions, goals = np.zeros((1000, 2)), np.tile([0.3, 8.2], (1000, 1))
    points = waypoints(layout, positions, goals, uniforms)
    np.testing.assert_allclose(points - [4.0, 0.0], WAYPOINT_JITTER * uniforms)


def test_the_goal_itself_is_the_last_waypoint():
    layout = get_layout("umaze")
    goals = np.array([[0.3, 8.2]])
    for position in ([4.5, 8.4], [1.0, 8.0]):
        np.testing.assert_array_equal(waypoints(layout, np.array([position]), goals, HALVES), goals)


def test_an_ant_beside_its_aisle_goes_to_the_middle_first():
    layout = get_layout("umaze")
    goals = np.array([[8.0, 4.0]])
    early = waypoints(layout, np.array([[6.3, 0.0]]), np.array([[8.0, 8.0]]), HALVES)
    np.testing.assert_allclose(early, [[8.5, 0.5]])
    near = np.array([[8.5 - AISLE_HALF_WIDTH + 0.01, 0.0]])
    np.testing.assert_allclose(
        waypoints(layout, near, np.array([[8.0, 8.0]]), HALVES), [[8.5, 4.5]]
    )
    np.testing.assert_allclose(waypoints(layout, near, goals, HALVES), goals)


@pytest.mark.parametrize("maze", list(MAZES))
def test_a_point_that_follows_the_waypoints_arrives_and_keeps_off_the_walls(maze):
    layout = get_layout(maze)
    rng = np.random.default_rng(0)
    task = collection_task(layout, "diverse")
    starts, goals = (
        np.array(part) for part in zip(*(task.draw(rng) for _ in range(200)), strict=True)
    )
    positions, arrived = starts.copy(), np.zeros(200, dtype=bool)
    walls, clearance = np.array(layout.wall_centres), np.inf
    for _ in range(2000):
        points = waypoints(layout, positions, goals, rng.random((200, 2)))
        offsets = points - positions
        distances = np.linalg.norm(offsets, axis=1, keepdims=True)
        positions = positions + offsets / np.maximum(distances, 1e-9) * np.minimum(0.2, distances)
        arrived |= np.linalg.norm(positions - goals, axis=1) <= 0.5
        gaps = np.maximum(np.abs(positions[:, None] - walls) - CELL_SIZE / 2, 0)
        clearance = min(clearance, float(np.linalg.norm(gaps, axis=2).min()))
        if arrived.all():
            break
    assert arrived.all()
    assert clearance > 0.45  # goals lie as close as 0.5 m to walls


def test_play_starts_anywhere_but_at_its_goals():
    layout = get_layout("large")
    task = collection_task(layout, "play")
    rng = np.random.default_rng(0)
    starts, goals = (
        np.array(part) for part in zip(*(task.draw(rng) for _ in range(2000)), strict=True)
    )
    goal_cells = {layout.cell_of(*place) for place in PLAY_GOALS["large"]}
    assert set(layout.cells_at(goals)) == goal_cells
    assert set(layout.cells_at(starts)) == set(range(layout.num_cells)) - goal_cells
    offsets = starts - layout.centres[layout.cells_at(starts)]
    assert offsets.min() >= 0
    assert 0.95 < offsets.max() <= 1


def test_diverse_starts_and_ends_anywhere():
    layout = get_layout("medium")
    task = collection_task(layout, "diverse")
    rng = np.random.default_rng(0)
    starts, goals = (
        np.array(part) for part in zip(*(task.draw(rng) for _ in range(2000)), strict=True)
    )
    assert (
        set(layout.cells_at(starts)) == set(layout.cells_at(goals)) == set(range(layout.num_cells))
    )


def test_single_goes_from_the_start_to_the_evaluated_goal():
    layout = get_layout("umaze")
    start, goal = collection_task(layout, "single").draw(np.random.default_rng(0))
    assert start is None
    assert layout.cells_at(goal[None])[0] == layout.goal


def test_unknown_modes():
    with pytest.raises(ValueError, match="unknown collection mode 'random'; expected single"):
        collection_task(get_layout("umaze"), "random")
    with pytest.raises(ValueError, match="'custom' has no hand-picked goals"):
        collection_task(get_layout(["####", "#SG#", "####"]), "play")


@pytest.mark.parametrize("maze", list(MAZES))
def test_hand_picked_goals_are_free_cells(maze):
    layout = get_layout(maze)
    for place in PLAY_GOALS[maze]:
        layout.cell_of(*place)
    with pytest.raises(ValueError, match="no free cell at row 0, column 0"):
        layout.cell_of(0, 0)
