from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hetero_bench
from hetero_bench.heteroskedasticity import (
    chi_square,
    differential_concentrability,
    heteroskedasticity,
    smooth,
)

seeds = st.integers(0, 2**32 - 1)
DOCS = Path(__file__).resolve().parents[1] / "docs"
MEASUREMENTS = DOCS / "heteroskedasticity" / "measurements.json"


def test_chi_square_by_hand():
    policy = np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]])
    behaviour = np.array([[0.25, 0.75], [0.5, 0.5], [0.25, 0.75]])
    expected = [4 - 1, 0.0, 0.75 * (3 - 1) + 0.25 * (1 / 3 - 1)]
    np.testing.assert_allclose(chi_square(policy, behaviour), expected)


@given(seeds)
def test_chi_square_is_a_divergence(seed):
    rng = np.random.default_rng(seed)
    policy, behaviour = rng.dirichlet(np.ones(5), 8), smooth(rng.dirichlet(np.ones(5), 8))
    np.testing.assert_allclose(
        chi_square(policy, behaviour),
        ((policy - behaviour) ** 2 / behaviour).sum(axis=1),
        rtol=1e-9,
        atol=1e-9,
    )
    np.testing.assert_allclose(chi_square(behaviour, behaviour), 0.0, atol=1e-9)


@given(seeds)
def test_differential_concentrability_is_equation_4(seed):
    """The double sum over pairs of states, as the paper writes it, against the variance."""
    rng = np.random.default_rng(seed)
    divergence, mu, occupancy = rng.exponential(3.0, 6), rng.dirichlet(np.ones(6)) + 1e-3, None
    occupancy = rng.dirichlet(np.ones(6))
    roots = np.sqrt(divergence / mu)
    double_sum = sum(
        occupancy[i] * occupancy[j] * (roots[i] - roots[j]) ** 2
        for i, j in itertools.product(range(6), repeat=2)
    )
    assert differential_concentrability(divergence, mu, occupancy) == pytest.approx(double_sum)


def test_a_homoscedastic_dataset_measures_zero_where_mu_is_even(cache):
    measured = heteroskedasticity(hetero_bench.load("gridworld-uniform"))
    assert measured.std == pytest.approx(0.0, abs=1e-9)
    assert measured.maximum == pytest.approx(4.0, rel=1e-6)  # optimal against uniform over five
    assert measured.twice_variance == pytest.approx(0.0, abs=1e-9)
    assert measured.unvisited == 0.0


def test_the_heteroskedastic_dataset_measures_what_its_recipe_says(cache):
    dataset = hetero_bench.load("gridworld-hetero")
    measured = heteroskedasticity(dataset)
    layout = dataset.make_env().unwrapped.layout
    live = np.arange(layout.num_states) != layout.goal
    hallway = live & ~layout.in_room
    likely = smooth(np.array([[1.0, 0.0, 0.0, 0.0, 0.0]]))[0, 0]
    np.testing.assert_allclose(measured.divergence[hallway], 1 / likely - 1, rtol=1e-5)
    rare = 0.999 * 0.04 + 0.0002
    assert measured.maximum == pytest.approx(1 / rare - 1, rel=1e-5)
    assert np.isnan(measured.divergence[layout.goal])
    assert measured.occupancy.sum() == pytest.approx(1.0)
    assert measured.state_distribution.sum() == pytest.approx(1.0)
    fitted = heteroskedasticity(dataset, behaviour="fitted")
    assert fitted.mean == pytest.approx(measured.mean, rel=0.1)


def test_row_order_does_not_matter(cache):
    dataset = hetero_bench.load("gridworld-mixed-10k")
    order = np.random.default_rng(1).permutation(dataset.arrays.num_episodes)
    arrays, rows = dataset.arrays.take_episodes(order, len(dataset))
    assert not np.array_equal(rows, np.arange(len(dataset)))
    other = dataclasses.replace(dataset, arrays=arrays)
    first, second = heteroskedasticity(dataset), heteroskedasticity(other)
    assert first.c_diff == pytest.approx(second.c_diff)
    assert first.quantiles == pytest.approx(second.quantiles)


def test_the_behaviour_policy_itself_diverges_from_nothing(cache):
    dataset = hetero_bench.load("gridworld-hetero")
    mdp = dataset.make_env().unwrapped.mdp
    policy = mdp.uniform_policy()
    states = dataset.extras["states"]
    policy[states] = dataset.extras["behaviour_probabilities"]
    policy /= policy.sum(axis=1, keepdims=True)
    assert heteroskedasticity(dataset, policy).maximum == pytest.approx(0.0, abs=1e-2)


def test_the_pages_measurements_are_those_of_the_data_that_the_registry_pins():
    datasets = json.loads(MEASUREMENTS.read_text(encoding="utf-8"))["datasets"]
    assert len(datasets) == 14
    for name, found in datasets.items():
        spec = hetero_bench.get_spec(name)
        assert found["digest"] == spec.sha256["whole"], name
        assert (found["transitions"], found["episodes"]) == (spec.transitions, spec.episodes)


def test_the_discount_is_the_manifests(cache):
    dataset = hetero_bench.load("gridworld-mixed")
    assert dataset.spec.discount == 0.99
    spec = dataset.spec.model_copy(update={"discount": 0.5})
    measured = heteroskedasticity(dataclasses.replace(dataset, spec=spec))
    mdp = dataset.make_env().unwrapped.mdp
    expected = mdp.occupancy(mdp.value_iteration(0.5).policy, 0.5)
    np.testing.assert_allclose(measured.occupancy, expected)
    assert not np.allclose(measured.occupancy, heteroskedasticity(dataset).occupancy)
