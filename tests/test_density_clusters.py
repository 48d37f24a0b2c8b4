"""How many clusters are found in clouds of which that is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN

from baselines.diagnostics.density_clusters import density_clusters

DIMENSIONS = pytest.mark.parametrize("dimensions", [1, 2, 3, 6, 8])


def normal(dimensions, seed=0, rows=1500):
    return np.random.default_rng(seed).normal(size=(rows, dimensions))


@DIMENSIONS
def test_smooth_clouds_are_one(dimensions):
    rng, round_cloud = np.random.default_rng(1), normal(dimensions)
    heavy = round_cloud / np.sqrt(rng.chisquare(5, size=(1500, 1)) / 5)
    stretched = round_cloud * np.geomspace(1.0, 0.1, dimensions)
    cube = rng.uniform(-1.0, 1.0, round_cloud.shape)
    for points in (round_cloud, heavy, stretched, np.exp(0.5 * round_cloud), cube):
        assert not density_clusters(points).any()


@DIMENSIONS
def test_two_that_are_five_deviations_apart_are_two(dimensions):
    points = normal(dimensions)
    points[::2, 0] += 5.0
    labels = density_clusters(points)
    assert set(labels) == {-1, 0, 1}
    right = [(points[labels == each, 0] > 2.5).mean() for each in (0, 1)]
    assert min(right) < 0.02
    assert max(right) > 0.98


def test_three_of_unequal_size_and_points_between():
    """A few points lie far from all clusters and belong to none."""
    points = normal(2, rows=1020)
    points[:300] += (7.0, 0.0)
    points[300:400] += (0.0, 7.0)
    points[1000:] *= 30.0
    labels = density_clusters(points)
    assert set(labels) == {-1, 0, 1, 2}
    for own in (labels[:300], labels[300:400], labels[400:1000]):
        inside = own[own >= 0]
        assert len(set(inside)) == 1
        assert len(inside) > 0.6 * len(own)
    assert (labels[1000:] == -1).mean() > 0.8


def test_the_order_of_points_has_no_say():
    points = normal(3)
    points[:500, 0] += 6.0
    order = np.random.default_rng(2).permutation(len(points))
    whole, shuffled = density_clusters(points), density_clusters(points[order])
    pairs = set(zip(whole[order].tolist(), shuffled.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 3


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="99 points; expected at least 100"):
        density_clusters(normal(2, rows=99))
    points = normal(2)
    points[3, 1] = np.nan
    with pytest.raises(ValueError, match="some points are not finite"):
        density_clusters(points)


@pytest.mark.parametrize("seed", range(3))
def test_directions_that_points_do_not_fill_have_no_say(seed):
    """A line in eight dimensions is as smooth as in one."""
    line = np.zeros((1500, 8))
    line[:, :2] = normal(1, seed) * (1.0, -0.5)
    assert not density_clusters(line).any()
    line[::2] += 6.0
    assert density_clusters(line).max() == 1


def test_parts_of_one_smooth_cloud_are_joined_beside_another_cloud(monkeypatch):
    """HDBSCAN is made to cut a uniform line in three, and to leave its ends out."""
    line, other = np.linspace(-1.0, 1.0, 1500)[:, None], normal(1, rows=500) * 0.1 + 6.0
    order = np.random.default_rng(0).permutation(2000)
    cut = np.concatenate([np.repeat([-1, 0, 1, 3, -1], [100, 500, 400, 400, 100]), np.full(500, 2)])
    monkeypatch.setattr(HDBSCAN, "fit_predict", lambda *_: cut[order])
    labels = density_clusters(np.concatenate([line, other])[order])
    assert set(labels[cut[order] == 2]) != set(labels[cut[order] == 0])
    assert len(set(labels[np.isin(cut[order], (0, 1, 3))])) == 1
    assert np.array_equal(labels == -1, cut[order] == -1)
    assert labels.max() == 1


def test_a_valley_is_told_by_the_lower_of_two_peaks():
    """One cloud twenty times as dense as a second at its flank: between them there is a valley
    below the first peak and none below the second."""
    rng = np.random.default_rng(0)
    flank = np.concatenate([rng.normal(size=1500) * 0.15, rng.uniform(-0.6, 6.0, 900)])
    assert not density_clusters(flank[:, None]).any()
