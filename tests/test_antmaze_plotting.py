"""Maps over an AntMaze's floor, and the measure of data that the recipe collects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hetero_bench.antmaze_plotting import floor_divergence_map, floor_means
from hetero_bench.envs.antmaze_layout import get_layout
from hetero_bench.heteroskedasticity import heteroskedasticity
from hetero_bench.recipes import antmaze
from hetero_bench.recipes.antmaze_controller import AntMazeController
from tests.helpers import dataset_of
from tests.test_antmaze_recipe import UMAZE, parameters

LAYOUT = get_layout("umaze")


def test_floor_means_by_hand():
    positions = np.array([[0.1, 0.1], [0.9, 0.9], [1.1, 0.1], [-6.0, -6.0], [13.9, 13.9], [99, 0]])
    means = floor_means(LAYOUT, positions, np.array([1.0, 3.0, 5.0, 7.0, 9.0, 11.0]))
    assert LAYOUT.bounds == (-6.0, 14.0, -6.0, 14.0)
    assert means.shape == (20, 20)
    assert (means[6, 6], means[6, 7], means[0, 0], means[19, 19]) == (2.0, 5.0, 7.0, 9.0)
    assert np.isfinite(means).sum() == 4
    coarse = floor_means(LAYOUT, positions, np.arange(6.0), bin_size=3.0)
    assert coarse.shape == (7, 7)
    assert coarse[2, 2] == 1.0


def test_a_map_shows_each_square_in_its_place():
    positions = np.array([[0.5, 0.5], [0.6, 0.4], [8.2, 4.7]])
    log_divergence = np.array([math.log(3.0), math.log(27.0), np.inf])
    figure = floor_divergence_map(LAYOUT, positions, log_divergence, "D")
    axes, bar = figure.axes
    image = axes.images[1]
    values = np.ma.filled(image.get_array(), np.nan)
    assert image.get_extent() == [-6.0, 14.0, -6.0, 14.0]
    assert values[6, 6] == pytest.approx(8.0)  # √(3 · 27) - 1
    assert values[10, 14] == pytest.approx(math.expm1(20.0))
    assert np.isfinite(values).sum() == 2
    assert image.norm.vmax == pytest.approx(math.expm1(20.0))
    assert bar.get_yticklabels()[1].get_text() == "1"
    one_scale = floor_divergence_map(LAYOUT, positions, log_divergence, maximum=50.0)
    assert one_scale.axes[0].images[1].norm.vmax == 50.0


@pytest.mark.parametrize(
    ("positions", "bin_size"), [(np.zeros((2, 2)), 1.0), (np.zeros((3, 2)), 0.0)]
)
def test_shapes_that_do_not_fit(positions, bin_size):
    with pytest.raises(ValueError, match=r"positions have shape .* expected \(N, 2\)"):
        floor_means(LAYOUT, positions, np.zeros(3), bin_size)


def test_collected_data_measures_what_its_schedule_says():
    arrays = antmaze.build(parameters(shards=2, steps=100), 5, environment=UMAZE, workers=1)
    dataset = dataset_of(arrays)
    measured = heteroskedasticity(dataset)
    noise, bias = arrays.extras["noise_stds"], arrays.extras["noise_means"]
    gap = 2 * noise.astype(float) ** 2 - 0.01
    factor = noise**2 / (0.1 * np.sqrt(gap)) * np.exp(bias.astype(float) ** 2 / gap)
    np.testing.assert_allclose(measured.divergence, factor**8 - 1, rtol=1e-4, atol=1e-5)
    assert len(np.unique(noise)) > 1
    assert measured.std > 0.0

    controller = AntMazeController.load()

    def policy(observations, waypoints):
        means = controller(observations, waypoints)
        return means, np.full(means.shape, 0.1)

    again = heteroskedasticity(dataset, policy)
    np.testing.assert_allclose(again.log_divergence, measured.log_divergence, rtol=0.02, atol=0.02)
