"""The picture of where episodes ended."""

from __future__ import annotations

import numpy as np
import pytest

from hetero_bench.ends import Ends
from hetero_bench.ends_plotting import CELL_RADIUS, ends_map, spread_in_cells
from hetero_bench.envs import antmaze_layout, gridworld_layout
from hetero_bench.envs.regions import Regions, antmaze_regions, gridworld_regions

POSITIONS = np.array([[0.0, 0.0], [8.0, 4.0], [0.5, 8.2], [1.0, 8.0]])
TIMEOUTS = np.array([True, True, False, False])
SUCCESSES = np.array([False, False, True, False])


def drawn(figure):
    """Label to positions of the dots."""
    return {dots.get_label(): dots.get_offsets().tolist() for dots in figure.axes[0].collections}


def test_dots_lie_where_the_ants_stopped_and_say_how(tmp_path):
    layout = antmaze_layout.get_layout("umaze")
    ends = Ends(antmaze_regions(layout), POSITIONS, TIMEOUTS, SUCCESSES)
    figure = ends_map(ends, "where")
    assert drawn(figure) == {
        "succeeded: 1": [[0.5, 8.2]],
        "timed out: 2": [[0.0, 0.0], [8.0, 4.0]],
        "ended otherwise: 1": [[1.0, 8.0]],
    }
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "where"
    assert axes.get_ylim() == (-6.0, 14.0)  # upwards, metres
    walls, extent = axes.images[0].get_array(), axes.images[0].get_extent()
    np.testing.assert_array_equal(walls, layout.cell_map < 0)
    assert tuple(extent) == layout.bounds
    figure.savefig(tmp_path / "ends.png")


def test_gridworld_dots_are_spread_over_their_cell():
    layout = gridworld_layout.get_layout("three-rooms")
    positions = np.array([[1.0, 4.0]] * 5 + [[3.0, 19.0]])
    late = np.arange(6) < 5
    figure = ends_map(Ends(gridworld_regions(layout), positions, late, ~late))
    dots = drawn(figure)
    assert dots["succeeded: 1"] == [[19.0, 3.0]]
    offsets = np.array(dots["timed out: 5"]) - [4.0, 1.0]
    assert len(np.unique(offsets, axis=0)) == 5
    assert np.linalg.norm(offsets, axis=1).max() < CELL_RADIUS


def test_spreading_moves_only_what_coincides():
    cells = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    moved = spread_in_cells(cells)
    np.testing.assert_array_equal(moved[:2], cells[:2])
    assert np.linalg.norm(moved[2] - cells[2]) == pytest.approx(CELL_RADIUS / np.sqrt(2))


def test_only_this_suites_mazes_can_be_drawn():
    regions = Regions(("all",), np.zeros(1), lambda p: np.zeros(len(p), dtype=np.int64))
    with pytest.raises(ValueError, match="cannot draw a maze of type NoneType"):
        ends_map(Ends(regions, POSITIONS, TIMEOUTS, None))
