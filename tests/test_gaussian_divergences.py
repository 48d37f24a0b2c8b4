"""Closed forms of the divergences, and what a fit is made of: likelihood, network, optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetero_bench.heteroskedasticity.divergences import (
    kullback_leibler,
    log_one_plus_chi_square,
)
from hetero_bench.heteroskedasticity.encoding import PiecewiseLinearEncoding
from hetero_bench.heteroskedasticity.likelihood import (
    CensoredActions,
    KnownGaussians,
    log_normal_tail,
)
from hetero_bench.heteroskedasticity.network import Adam, GaussianNetwork

seeds = st.integers(0, 2**32 - 1)


def log_density(x, mean, std):
    return (-0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)


def test_one_dimension_by_hand():
    """σβ = 2 σπ: 1 + D = 4 / √7, and exp(b² / 7) more with a shift of b σπ."""
    for shift in (0.0, 0.3):
        arguments = [np.array([[v]]) for v in (0.5, 0.1, 0.5 + shift, 0.2)]
        expected = math.log(4 / math.sqrt(7)) + (shift / 0.1) ** 2 / 7
        assert log_one_plus_chi_square(*arguments)[0] == pytest.approx(expected)
        assert kullback_leibler(*arguments)[0] == pytest.approx(
            math.log(2) + (1 + (shift / 0.1) ** 2) / 8 - 0.5
        )


def test_eight_equal_dimensions_multiply():
    ones = np.ones((1, 8))
    log_d = log_one_plus_chi_square(0 * ones, 0.1 * ones, 0 * ones, 0.2 * ones)[0]
    assert math.expm1(log_d) == pytest.approx((4 / math.sqrt(7)) ** 8 - 1)
    assert math.expm1(log_d) == pytest.approx(26.3, abs=0.05)


def test_closed_forms_against_monte_carlo():
    rng = np.random.default_rng(0)
    mean, std = np.array([0.2, -0.1, 0.0]), np.array([0.1, 0.2, 0.15])
    beta_mean, beta_std = np.array([0.25, -0.2, 0.05]), np.array([0.13, 0.19, 0.2])
    samples = mean + std * rng.standard_normal((400_000, 3))
    log_ratio = log_density(samples, mean, std) - log_density(samples, beta_mean, beta_std)
    arguments = [part[None] for part in (mean, std, beta_mean, beta_std)]
    for closed, estimates in (
        (np.exp(log_one_plus_chi_square(*arguments)[0]), np.exp(log_ratio)),
        (kullback_leibler(*arguments)[0], log_ratio),
    ):
        error = estimates.std() / np.sqrt(len(estimates))
        assert closed == pytest.approx(estimates.mean(), abs=4 * error)
        assert error < 0.01 * closed


@given(seeds)
def test_both_are_divergences_and_tanh_or_scaling_cancels(seed):
    rng = np.random.default_rng(seed)
    mean, beta_mean = rng.normal(size=(2, 5, 3))
    std, beta_std = rng.uniform(0.5, 1.0, (2, 5, 3))
    for divergence in (log_one_plus_chi_square, kullback_leibler):
        found = divergence(mean, std, beta_mean, beta_std)
        assert (found > 0.0).all()
        np.testing.assert_allclose(divergence(mean, std, mean, std), 0.0, atol=1e-12)
        scaled = divergence(3.0 * mean - 1.0, 3.0 * std, 3.0 * beta_mean - 1.0, 3.0 * beta_std)
        np.testing.assert_allclose(scaled, found, rtol=1e-9)
    chi = log_one_plus_chi_square(mean, std, beta_mean, beta_std)
    assert (kullback_leibler(mean, std, beta_mean, beta_std) <= chi + 1e-12).all()  # by Jensen


def test_a_behaviour_that_is_too_narrow_in_one_dimension_makes_it_infinite():
    std = np.full((3, 2), 0.1)
    beta = np.array([[0.2, 0.0707], [0.2, 0.0708], [0.2, 0.2]])
    log_d = log_one_plus_chi_square(0 * std, std, 0 * std, beta)
    np.testing.assert_array_equal(np.isinf(log_d), [True, False, False])
    assert np.isfinite(kullback_leibler(0 * std, std, 0 * std, beta)).all()


def test_the_normal_tail():
    z = np.array([-80.0, -30.1, -29.9, -8.0, -1.3, 0.0, 2.2, 9.0, 15.0])
    logarithms, hazards = log_normal_tail(z)
    inner = np.abs(z) < 9.5
    expected = [math.log(0.5 * math.erfc(-x / math.sqrt(2))) for x in z[inner]]
    np.testing.assert_allclose(logarithms[inner], expected, atol=1e-5)
    assert logarithms[0] == pytest.approx(-(80.0**2) / 2 - math.log(80.0 * math.sqrt(2 * math.pi)))
    numeric = (log_normal_tail(z + 1e-2)[0] - log_normal_tail(z - 1e-2)[0]) / 2e-2
    np.testing.assert_allclose(hazards, numeric, rtol=3e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["censored", "known"])
def test_derivatives_of_the_losses(kind):
    rng = np.random.default_rng(1)
    actions = np.clip(rng.normal(size=(200, 3)), -1.0, 1.0)
    assert 0.2 < (np.abs(actions) == 1.0).mean() < 0.5
    target = CensoredActions(actions) if kind == "censored" else KnownGaussians(actions, 0.3)
    rows = rng.integers(200, size=50)
    means, log_stds = rng.normal(size=(2, 50, 3))
    loss, step = target.loss(rows, means, log_stds), 1e-2
    for found, up, down in (
        (loss.by_mean, (means + step, log_stds), (means - step, log_stds)),
        (loss.by_log_std, (means, log_stds + step), (means, log_stds - step)),
    ):
        numeric = (target.loss(rows, *up).values - target.loss(rows, *down).values) / (2 * step)
        np.testing.assert_allclose(found, numeric, rtol=5e-3, atol=5e-3)


def test_probabilities_of_the_censored_likelihood_sum_to_one():
    inside = np.linspace(-1.0, 1.0, 20_001)[1:-1, None]
    values = np.concatenate([[[-1.0]], inside, [[1.0]]])
    target = CensoredActions(values)
    rows = np.arange(len(values))
    loss = target.loss(rows, np.full(values.shape, 0.7), np.full(values.shape, np.log(0.4))).values
    probabilities = np.exp(-loss[:, 0])
    assert probabilities[0] + probabilities[-1] + probabilities[1:-1].sum() * 1e-4 == pytest.approx(
        1.0, abs=1e-3
    )


def test_the_encoding_places_entries_in_pieces_of_equally_many_rows():
    observations = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [10.0, 5.0], [100.0, 5.0]])
    encoding = PiecewiseLinearEncoding.of(observations, 2)
    found = encoding(np.array([[1.0, 5.0], [51.0, 5.0], [-3.0, 6.0]]))
    assert found.shape == (3, 6)
    assert found.dtype == np.float32
    standard, lower, upper = found.reshape(3, 3, 2).transpose(1, 0, 2)
    expected = (np.array([1.0, 51.0, -3.0]) - 22.6) / observations[:, 0].std()
    np.testing.assert_allclose(standard[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(lower[:, 0], [0, 1, -1], atol=1e-6)
    np.testing.assert_allclose(upper[:, 0], [-1, 0, -1], atol=1e-6)
    # A constant entry is not scaled; anything above it is above its empty pieces.
    np.testing.assert_array_equal(standard[:, 1], [0, 0, 1])
    np.testing.assert_array_equal(lower[:, 1], [-1, -1, 1])


def test_outliers_are_clipped_on_their_way_to_the_network():
    observations = np.linspace(-1.0, 1.0, 100)[:, None]
    encoding = PiecewiseLinearEncoding.of(observations, 4)
    np.testing.assert_array_equal(encoding(np.array([[1e6]])), [[10.0, 1.0, 1.0, 1.0, 1.0]])


def test_the_networks_gradient_is_that_of_its_loss():
    rng = np.random.default_rng(2)
    network = GaussianNetwork(4, 2, 3, 16, rng)
    network.parameters += 0.3 * rng.standard_normal(network.parameters.shape).astype(np.float32)
    inputs = rng.standard_normal((64, 4)).astype(np.float32)
    weights = rng.standard_normal((2, 64, 2, 3))

    def loss():
        means, log_stds = network.gaussians(network.forward(inputs))
        return float((weights[0] * means + weights[1] * log_stds).sum())

    gradient = network.gradient(network.forward(inputs), *weights)
    direction = gradient / np.linalg.norm(gradient)
    start, step = network.parameters.copy(), np.float32(1e-3)
    values = []
    for sign in (1, -1):
        network.parameters[:] = start + sign * step * direction
        values.append(loss())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(np.linalg.norm(gradient), rel=1e-2)


def test_adam_with_weight_decay_by_hand():
    vector = np.array([1.0, -2.0], np.float32)
    Adam(vector, weight_decay=0.5).step(np.array([3.0, -0.01], np.float32), 0.1)
    np.testing.assert_allclose(vector, [0.95 - 0.1, -1.9 + 0.1], rtol=1e-5)
