"""Heteroskedasticity of behaviour that is recorded before a tanh."""

from __future__ import annotations

import numpy as np
import pytest

from hetero_bench.heteroskedasticity import continuous_heteroskedasticity
from hetero_bench.heteroskedasticity.marginal_fit import FitSettings
from hetero_bench.recipes.locomotion_measures import heteroskedasticity_against, mean_return
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.spec import RecipeSpec
from tests.helpers import dataset_of, random_arrays


@pytest.fixture
def dataset():
    """Rows with β = N(0, 1) in one dimension and N(0.5, 2²) in the other."""
    arrays = random_arrays([3, 5], num_actions=None, action_size=2, extras=False)
    arrays.extras["behaviour_means"] = np.tile(np.float32([0, 0.5]), (8, 1))
    arrays.extras["behaviour_stds"] = np.tile(np.float32([1, 2]), (8, 1))
    return dataset_of(arrays)


def constant(means, log_stds):
    """A policy whose Gaussian is the same everywhere."""
    biases = np.float32([*means, *log_stds])
    return SquashedGaussianMLP((np.zeros((4, 4), np.float32),), (biases,))


def measure(dataset, expert):
    return heteroskedasticity_against(expert, dataset.spec, dataset.arrays, FitSettings())


def test_a_shifted_policy_has_the_closed_forms_divergence(dataset):
    # Equal variances: 1 + D = exp((difference of means / std)²).
    found = measure(dataset, constant([0.3, 0.5], np.log([1, 2])))
    assert found["behaviour"] == "exact"
    assert found["maximum_of_D"] == pytest.approx(np.expm1(0.09), rel=1e-3)
    assert found["maximum_of_log_1_plus_D"] == pytest.approx(0.09, rel=1e-3)
    assert found["std_of_D"] == found["share_of_rows_with_infinite_D"] == 0


def test_the_behaviour_itself_has_none_and_a_wide_policy_an_infinite_one(dataset):
    assert measure(dataset, constant([0, 0.5], np.log([1, 2])))["maximum_of_D"] == 0
    wide = measure(dataset, constant([0, 0.5], np.log([1.5, 2])))  # 1.5² > 2 · 1²
    assert wide["share_of_rows_with_infinite_D"] == 1
    assert wide["maximum_of_log_1_plus_D"] == 20


def test_it_is_said_where_the_behaviour_is_the_rows_own_policy(dataset):
    policies = [{"name": "hopper-150000"}, {"name": "hopper-1000000"}]
    for count, expected in ((1, "exact"), (2, "exact, of the policy that collected the row")):
        parameters = {"policies": policies[:count]}
        recipe = RecipeSpec(name="locomotion", version=1, seed=0, parameters=parameters)
        spec = dataset.spec.model_copy(update={"recipe": recipe})
        expert = constant([0, 0.5], np.log([1, 2]))
        found = heteroskedasticity_against(expert, spec, dataset.arrays, FitSettings())
        assert found["behaviour"] == expected


def test_mean_return_is_that_of_the_episodes(dataset):
    dataset.arrays.rewards[:] = [1, 1, 1, 2, 2, 2, 2, 1]
    assert mean_return(dataset.arrays) == {"mean": 6.0, "std": 3.0}


def test_recorded_gaussians_before_a_tanh_are_not_those_before_clipping(dataset):
    def policy(observations, waypoints):
        return np.zeros((len(observations), 2)), np.ones((len(observations), 2))

    with pytest.raises(ValueError, match="before a tanh and not before clipping; give squash"):
        continuous_heteroskedasticity(dataset, policy)
    del dataset.extras["behaviour_stds"]
    with pytest.raises(ValueError, match="does not record behaviour_stds"):
        continuous_heteroskedasticity(dataset, policy, behaviour="exact", squash="tanh")
