from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from baselines.parts.mixture import Mixture, expectation, fit, log_joint, maximisation, spread_out

NO_RIDGE = torch.zeros(1, dtype=torch.float64)


def blobs(sizes=(60, 30, 10), size=4, seed=0, groups=1):
    """Normal points around distant centres, (groups, n, size) float64."""
    rng = np.random.default_rng(seed)
    parts = [
        10.0 * number + rng.normal(size=(groups, count, size)) * (1.0 + number)
        for number, count in enumerate(sizes)
    ]
    return torch.from_numpy(np.concatenate(parts, axis=1))


def random_responsibilities(points, clusters=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*points.shape[:2], clusters, generator=generator, dtype=points.dtype)
    return logits.softmax(-1)


def test_log_joint_is_the_normal_density():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(3, 3))
    covariance, mean = factor @ factor.T + np.eye(3), rng.normal(size=3)
    point = rng.normal(size=3)
    mixture = Mixture(
        torch.tensor([[math.log(0.25)]], dtype=torch.float64),
        torch.from_numpy(mean)[None, None],
        torch.from_numpy(covariance)[None, None],
    )
    deviation = point - mean
    expected = (
        math.log(0.25)
        - 0.5 * deviation @ np.linalg.solve(covariance, deviation)
        - 0.5 * math.log(np.linalg.det(2.0 * math.pi * covariance))
    )
    found = log_joint(torch.from_numpy(point)[None, None], mixture)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_the_m_step_takes_weighted_moments():
    points = blobs()
    r = random_responsibilities(points)
    mixture = maximisation(points, r, torch.tensor([0.25]).double())
    y = points[0].numpy()
    for z in range(3):
        weights = r[0, :, z].numpy()
        covariance = np.cov(y.T, ddof=0, aweights=weights) + 0.25 * np.eye(4)
        assert mixture.log_weights[0, z].exp().item() == pytest.approx(weights.sum() / len(y))
        np.testing.assert_allclose(mixture.means[0, z], np.average(y, axis=0, weights=weights))
        np.testing.assert_allclose(mixture.covariances[0, z], covariance, atol=1e-10)


def test_points_without_responsibility_do_not_count():
    points = blobs()
    r = random_responsibilities(points)
    r[:, 70:] = 0.0
    ours = fit(points, r, NO_RIDGE + 0.1, 4)
    theirs = fit(points[:, :70], r[:, :70], NO_RIDGE + 0.1, 4)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_likelihood_never_falls():
    points = blobs(sizes=(80, 60, 60))
    r, history = random_responsibilities(points), []
    for _ in range(30):
        r, log_likelihood = expectation(points, fit(points, r, NO_RIDGE, 1))
        history.append(log_likelihood.mean().item())
    assert all(later >= earlier - 1e-10 for earlier, later in pairwise(history))
    assert history[-1] > history[0] + 0.5


def test_separate_blobs_are_found():
    points = blobs()
    uniforms = torch.tensor([[0.5, 0.5, 0.5]])
    counted = torch.ones(1, 100, dtype=torch.bool)
    start = spread_out(points, counted, torch.tensor([3]), uniforms)
    r, _ = expectation(points, fit(points, start, NO_RIDGE + 1e-3, 20))
    found = r[0].argmax(-1)
    assert [len(set(part.tolist())) for part in found.split([60, 30, 10])] == [1, 1, 1]
    assert sorted(r[0].mean(0).tolist()) == pytest.approx([0.1, 0.3, 0.6], abs=1e-6)


def test_centres_are_drawn_in_proportion_to_squared_distance():
    """Of the points 0, 1 and 3 with centre 0, point 3 has nine tenths of the second draw."""
    points = torch.tensor([[[0.0], [1.0], [3.0]]]).double().expand(10_000, -1, -1)
    uniforms = torch.rand(10_000, 2, generator=torch.Generator().manual_seed(0))
    uniforms[:, 0] = 0.2  # the first of three points
    counted = torch.ones(10_000, 3, dtype=torch.bool)
    r = spread_out(points, counted, torch.full((10_000,), 2), uniforms)
    middle_with_first = (r[:, 1] == r[:, 0]).all(-1)
    assert (r[:, 2] != r[:, 0]).any(-1).all()
    assert middle_with_first.double().mean().item() == pytest.approx(0.9, abs=0.01)


def test_components_that_are_not_wanted_stay_empty():
    points = blobs(groups=2)
    counted = torch.ones(2, 100, dtype=torch.bool)
    counted[1, 50:] = False
    uniforms = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    start = spread_out(points, counted, torch.tensor([2, 5]), uniforms)
    assert start.sum(-1).tolist() == counted.double().tolist()
    together = fit(points, start, torch.full((2,), 0.1).double(), 10)
    assert together.log_weights[0, 2:].tolist() == [-math.inf] * 3
    alone = fit(points[:1], start[:1, :, :2], NO_RIDGE + 0.1, 10)
    torch.testing.assert_close(together.means[:1, :2], alone.means)
    r, _ = expectation(points, together)
    assert r.isfinite().all()
    assert (r[0, :, 2:] == 0.0).all()


def test_a_covariance_that_cannot_be_inverted_spoils_its_own_mixture_only():
    points = blobs(groups=2)
    mixture = fit(points, random_responsibilities(points), torch.full((2,), 0.1).double(), 3)
    mixture.covariances[1, 0] = -torch.eye(4)
    r, _ = expectation(points, mixture)
    assert r[0].isfinite().all()
    assert r[1].isnan().all()
