"""Maps of divergence, and several visitation maps on one scale."""

from __future__ import annotations

import numpy as np
import pytest

from hetero_bench.envs.gridworld_layout import get_layout
from hetero_bench.maze_plotting import divergence_map, visitation_maps

LAYOUT = get_layout("three-rooms")


def drawn(axes):
    """The values drawn over the walls."""
    return np.ma.filled(axes.images[1].get_array(), np.nan)


def test_a_divergence_map_shows_values_in_their_cells_and_leaves_unknown_ones_empty(tmp_path):
    divergence = np.linspace(0.0, 50.0, LAYOUT.num_states)
    divergence[7] = np.nan
    figure = divergence_map(LAYOUT, divergence, "D", maximum=100.0)
    values, bar = drawn(figure.axes[0]), figure.axes[1]
    np.testing.assert_array_equal(values[tuple(LAYOUT.cells.T)], divergence)
    assert np.isnan(values[LAYOUT.state_map < 0]).all()
    assert figure.axes[0].images[1].norm.vmax == 100.0
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "1", "10", "100"]
    figure.savefig(tmp_path / "map.png")


def test_a_divergence_map_ends_at_its_largest_value_and_never_below_one():
    for largest, top in ((30.0, 30.0), (0.2, 1.0)):
        divergence = np.full(LAYOUT.num_states, largest)
        assert divergence_map(LAYOUT, divergence).axes[0].images[1].norm.vmax == top
    with pytest.raises(ValueError, match="divergence has shape"):
        divergence_map(LAYOUT, np.ones(3))


def test_several_visitation_maps_share_one_colour_scale():
    spread = np.ones(LAYOUT.num_states)
    stuck = np.zeros(LAYOUT.num_states)
    stuck[3] = 2.0
    figure = visitation_maps(LAYOUT, {"a": spread, "b": stuck, "c": spread}, columns=2)
    *panels, bar = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["a", "b", "c", ""]
    assert drawn(panels[1])[tuple(LAYOUT.cells[3])] == 1.0
    assert {axes.images[1].norm.vmax for axes in panels[:3]} == {1.0}
    assert bar.get_ylim()[1] == pytest.approx(1.0)


def test_visitation_maps_reject_what_they_cannot_draw():
    with pytest.raises(ValueError, match="no visits"):
        visitation_maps(LAYOUT, {})
    with pytest.raises(ValueError, match="visits have shape"):
        visitation_maps(LAYOUT, {"a": np.zeros(LAYOUT.num_states)})
