"""The locomotion datasets of this release: what the manifests say is what is there."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
import torch

import hetero_bench
from hetero_bench.envs.batch import make_env, require_environment
from hetero_bench.recipes.locomotion_manifest import (
    DEFAULTS,
    POLICY_MADE,
    QUALITIES,
    BehaviourPolicy,
    dataset_name,
    whole_table,
)
from hetero_bench.recipes.locomotion_policies import policy_path
from hetero_bench.recipes.locomotion_tasks import ENVIRONMENTS
from hetero_bench.recipes.measure_locomotion import read_reference
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.registry import all_specs, get_spec, registry_folder
from hetero_bench.sources.bundled import bundled_path, read_arrays
from tests.helpers import assert_resimulates

LISTED = [env for env in ENVIRONMENTS if dataset_name(env, "expert") in all_specs()]
SMALL = [f"{dataset_name(env, quality)}-10k" for env in LISTED for quality in QUALITIES]
WITH_POLICY = [f"{dataset_name(env, quality)}-10k" for env in LISTED for quality in POLICY_MADE[1:]]


def policies_of(name):
    """Returns the policies that collected a whole dataset, by name, with their digests."""
    recipe = get_spec(name).recipe
    assert recipe is not None
    return {each["name"]: each.get("sha256") for each in recipe.parameters["policies"]}


def rows_of(name, draw=0):
    return read_arrays(bundled_path(get_spec(name), f"draw-{draw}"))


@pytest.mark.skipif(not LISTED, reason="no training is released yet")
def test_the_manifest_is_what_the_generator_says():
    document = tomllib.loads((registry_folder() / "locomotion.toml").read_text(encoding="utf-8"))
    assert document["defaults"] == DEFAULTS
    assert {spec.family for spec in all_specs().values() if spec.name in SMALL} == {"locomotion"}
    for env in LISTED:
        (medium,) = policies_of(dataset_name(env, "medium")).items()
        (expert,) = policies_of(dataset_name(env, "expert")).items()
        policies = {"medium": BehaviourPolicy(*medium), "expert": BehaviourPolicy(*expert)}
        for quality in QUALITIES:
            found = document["datasets"][dataset_name(env, quality)]
            table = whole_table(env, quality, policies, found["transitions"], [], {})
            del table["sources"]
            assert {key: found[key] for key in table} == table


@pytest.mark.parametrize("env", LISTED)
def test_datasets_have_the_sizes_that_the_names_promise(env):
    for quality in POLICY_MADE:
        assert get_spec(dataset_name(env, quality)).transitions == 1_000_000
    medium, expert = (policies_of(dataset_name(env, quality)) for quality in ("medium", "expert"))
    for quality, policies in (("medium-replay", medium), ("full-replay", expert)):
        steps = int(next(iter(policies)).rpartition("-")[2])
        assert get_spec(dataset_name(env, quality)).transitions == steps
    assert policies_of(dataset_name(env, "medium-expert")) == medium | expert


@pytest.mark.parametrize("env", LISTED)
def test_reference_returns_are_those_measured_over_1000_episodes(env):
    ((expert, sha256),) = policies_of(dataset_name(env, "expert")).items()
    table = read_reference(env, sha256)
    for quality in QUALITIES:
        for suffix in ("", "-10k"):
            spec = get_spec(dataset_name(env, quality) + suffix)
            assert spec.reference is not None
            assert spec.reference.model_dump() == table
    assert "over 1,000 episodes" in table["source"]
    assert expert in table["source"]


@pytest.mark.parametrize("name", SMALL)
def test_small_datasets_load_as_verified(name, cache):
    dataset = hetero_bench.load(name)
    assert dataset.provenance.source == "bundled"
    assert dataset.provenance.status == "verified"
    assert len(dataset) == 10_000
    assert np.isfinite(dataset.arrays.observations).all()
    assert np.abs(dataset.arrays.actions).max() <= 1


@pytest.mark.parametrize("name", WITH_POLICY)
def test_recorded_gaussians_are_the_policys_and_drew_the_actions(name):
    arrays = rows_of(name)
    parent = name.removesuffix("-10k")
    candidates = []
    for policy, sha256 in policies_of(parent).items():
        loaded = SquashedGaussianMLP.load(policy_path(policy), sha256)
        means, log_stds = loaded.distribution(arrays.observations)
        candidates.append((means, np.exp(log_stds)))
    means, stds = arrays.extras["behaviour_means"], arrays.extras["behaviour_stds"]
    close = [
        np.isclose(means, found, rtol=1e-4, atol=1e-4).all(axis=1)
        & np.isclose(stds, found_stds, rtol=1e-3).all(axis=1)
        for found, found_stds in candidates
    ]
    assert np.any(close, axis=0).all()
    if len(close) == 2:
        assert 0.2 < close[0].mean() < 0.8
    known = np.abs(means) + 4 * stds < 7
    noise = (np.arctanh(arrays.actions[known]) - means[known]) / stds[known]
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_trajectories_come_out_of_the_simulator_again(name):
    """From stored starts and actions; bit for bit where the processor gives the release's bits."""
    arrays, env = rows_of(name), make_env(require_environment(get_spec(name)))
    successors = arrays.next_observations()
    env.reset(seed=int(arrays.extras["reset_seeds"][0]))
    steps = min(10, arrays.episode_starts()[1])
    found = np.float32([env.step(action)[0] for action in arrays.actions[:steps]])
    np.testing.assert_allclose(found, successors[:steps], rtol=1e-2, atol=1e-2)
    if not np.array_equal(found, successors[:steps]):
        pytest.skip("this processor gives other last bits than the release's")
    assert_resimulates(arrays, env, range(arrays.num_episodes))


@pytest.mark.slow
def test_behaviour_cloning_of_the_expert_beats_chance_by_far():
    """A two-layer network, regressed on the 10,000 actions of hopper's expert."""
    arrays = rows_of("hopper-expert-hb-10k")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(11, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 3),
        torch.nn.Tanh(),
    )
    mean, std = arrays.observations.mean(axis=0), arrays.observations.std(axis=0)
    inputs = torch.from_numpy((arrays.observations - mean) / std)
    targets = torch.from_numpy(arrays.actions)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(1500):
        rows = torch.randint(len(inputs), (256,))
        loss = torch.nn.functional.mse_loss(network(inputs[rows]), targets[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()

    def policy(observations):
        with torch.no_grad():
            scaled = (observations.astype(np.float32) - mean) / std
            return network(torch.from_numpy(scaled)).numpy()

    result = hetero_bench.evaluate(policy, "hopper-expert-hb-10k", episodes=10)
    assert result.score is not None
    assert result.score > 50
    assert result.returns.min() > get_spec("hopper-expert-hb").reference.random


def test_bundled_data_stays_small():
    files = (registry_folder() / "data").rglob("*.npz")
    assert sum(file.stat().st_size for file in files) < 80e6
