"""Collecting locomotion data: reproducibility, what the extras say, and what is refused."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise

import gymnasium
import numpy as np
import pytest

from hetero_bench import loading
from hetero_bench.arrays import digest_arrays
from hetero_bench.errors import ManifestError
from hetero_bench.loading import Artefact
from hetero_bench.recipes import locomotion, locomotion_policies
from hetero_bench.recipes.locomotion_manifest import to_spec, whole_table
from hetero_bench.recipes.locomotion_policies import UniformActions, policy_path
from hetero_bench.recipes.locomotion_tasks import ENVIRONMENTS
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.spec import EnvironmentSpec
from tests.helpers import assert_resimulates

HOPPER = EnvironmentSpec(id="Hopper-v5", max_episode_steps=1000)
SMALL = {"shards": 4, "envs": 2, "steps": 60}


def actor(inputs, outputs, seed):
    """A policy with random weights."""
    rng = np.random.default_rng(seed)
    sizes = (inputs, 16, 2 * outputs)
    weights = [
        rng.normal(scale=before**-0.5, size=(after, before)).astype(np.float32)
        for before, after in pairwise(sizes)
    ]
    return SquashedGaussianMLP(tuple(weights), tuple(np.zeros(n, np.float32) for n in sizes[1:]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A registry with two policies for hopper and one for another task; returns their digests."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locomotion_policies, "registry_folder", lambda: folder)
        locomotion_policies.policies_folder().mkdir(parents=True)
        shapes = {"hopper-1": (11, 3), "hopper-2": (11, 3), "walker2d-1": (17, 6)}
        yield {
            name: actor(*shape, seed).save(policy_path(name))
            for seed, (name, shape) in enumerate(shapes.items())
        }


def parameters(weights, *names, **changes):
    policies = [{"name": name, "sha256": weights[name]} for name in names]
    return {"policies": policies, **SMALL, **changes}


@pytest.fixture(scope="module")
def collected(weights):
    return locomotion.build(
        parameters(weights, "hopper-1", "hopper-2"), 5, environment=HOPPER, workers=2
    )


def test_layout_of_the_arrays(collected):
    collected.validate()
    assert collected.num_transitions == 4 * 2 * 60
    assert collected.observations.dtype == collected.actions.dtype == np.float32
    assert np.abs(collected.actions).max() <= 1
    ends = collected.episode_starts()[1:] - 1
    assert (collected.terminations[ends] ^ collected.truncations[ends]).all()
    assert collected.truncations[59::60].sum() == collected.truncations.sum()
    assert collected.notes["episodes_cut_when_the_collection_ended"] == collected.truncations.sum()


def test_equal_bits_whatever_the_number_of_workers(weights, collected):
    told = []
    again = locomotion.build(
        parameters(weights, "hopper-1", "hopper-2"),
        5,
        environment=HOPPER,
        workers=1,
        progress=lambda done, total: told.append((done, total)),
    )
    for (name, first), (_, second) in zip(collected.named(), again.named(), strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)
    assert again.notes == collected.notes
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    other = locomotion.build(parameters(weights, "hopper-1", shards=1), 6, environment=HOPPER)
    assert not np.array_equal(other.observations[0], collected.observations[0])


def test_each_policy_collects_half_of_the_rows(collected):
    """And the extras are its Gaussian, of which the action is a squashed draw."""
    for rows, name in ((slice(0, 240), "hopper-1"), (slice(240, 480), "hopper-2")):
        policy = SquashedGaussianMLP.load(policy_path(name))
        means, log_stds = policy.distribution(collected.observations[rows])
        np.testing.assert_allclose(collected.extras["behaviour_means"][rows], means, atol=1e-5)
        stds = collected.extras["behaviour_stds"][rows]
        np.testing.assert_allclose(stds, np.exp(log_stds), rtol=1e-4)
        known = np.abs(means) + 4 * stds < 7  # beyond, float32 actions are too near to their bounds
        noise = (np.arctanh(collected.actions[rows][known]) - means[known]) / stds[known]
        assert known.mean() > 0.5
        assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
        assert noise.std() == pytest.approx(1, abs=4 / np.sqrt(noise.size))


def test_stored_trajectories_resimulate_from_their_reset_seeds(collected):
    assert_resimulates(collected, gymnasium.make("Hopper-v5"), range(collected.num_episodes))
    starts = collected.episode_starts()
    seeds = collected.extras["reset_seeds"]
    assert len(set(seeds[starts[:-1]].tolist())) == collected.num_episodes
    np.testing.assert_array_equal(seeds, seeds[starts[collected.episode_ids]])


def test_notes_say_how_good_each_policy_was(collected):
    starts = collected.episode_starts()
    returns = np.add.reduceat(collected.rewards, starts[:-1], dtype=np.float64)
    whole = collected.terminations[starts[1:] - 1]
    for rows, name in ((slice(0, 240), "hopper-1"), (slice(240, 480), "hopper-2")):
        mine = returns[whole & (starts[:-1] >= rows.start) & (starts[:-1] < rows.stop)]
        quality = collected.notes["return_of_whole_episodes"][name]
        assert quality["episodes"] == len(mine) > 2
        assert quality["mean"] == pytest.approx(mine.mean(), abs=0.06)
        assert quality["std"] == pytest.approx(mine.std(), abs=0.06)


def test_a_time_limit_is_a_truncation(weights):
    short = EnvironmentSpec(id="HalfCheetah-v5", max_episode_steps=25)
    arrays = locomotion.build(parameters({}, policies=[{"name": "random"}]), 0, environment=short)
    assert np.diff(arrays.episode_starts()).tolist() == [25, 25, 10] * 8
    assert not arrays.terminations.any()
    assert arrays.notes["return_of_whole_episodes"]["random"]["episodes"] == 16
    assert set(arrays.extras) == {"reset_seeds"}


def test_random_actions_are_uniform():
    drawn = UniformActions(3)(np.zeros((5000, 11)), np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert drawn.shape == (5000, 3)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose((drawn**2).mean(axis=0), 1 / 3, atol=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": []}, "policies"),
        ({"policies": [{"name": "hopper-1"}]}, "expected a sha256 for every policy but 'random'"),
        ({"policies": [{"name": "../x", "sha256": "0" * 64}]}, "policies.0.name"),
        ({"policies": [{"name": "random"}, {"name": "random"}]}, "expected it to stand alone"),
        ({"shards": 3}, "3 shards cannot be dealt out evenly to 2"),
        ({"steps": 0}, "steps"),
        ({"nose": 1}, "nose"),
    ],
)
def test_wrong_parameters(weights, changes, message):
    both = parameters(weights, "hopper-1", "hopper-2")
    with pytest.raises(ManifestError, match=f"recipe.parameters: .*{message}"):
        locomotion.check({**both, **changes}, HOPPER)


def test_another_environment():
    pendulum = EnvironmentSpec(id="InvertedPendulum-v5", max_episode_steps=1000)
    with pytest.raises(ManifestError, match="expected one of Hopper-v5, Walker2d-v5"):
        locomotion.check({"policies": [{"name": "random"}]}, pendulum)


def test_weights_that_are_missing_damaged_or_of_another_task(weights):
    with pytest.raises(FileNotFoundError, match="no policy weights at .*hopper-9"):
        locomotion.build(
            {"policies": [{"name": "hopper-9", "sha256": "0" * 64}]}, 0, environment=HOPPER
        )
    with pytest.raises(ValueError, match="expected 0000"):
        locomotion.build(
            {"policies": [{"name": "hopper-1", "sha256": "0" * 64}]}, 0, environment=HOPPER
        )
    with pytest.raises(ValueError, match="takes 17 numbers and gives 6; Hopper-v5 has obs"):
        locomotion.build(parameters(weights, "walker2d-1"), 0, environment=HOPPER)


@pytest.mark.parametrize("task", ENVIRONMENTS)
def test_all_tasks_can_be_collected(task):
    environment_id, kwargs = ENVIRONMENTS[task]
    environment = EnvironmentSpec(id=environment_id, kwargs=kwargs, max_episode_steps=1000)
    arguments = {
        "parameters": {"policies": [{"name": "random"}], "shards": 1, "envs": 1, "steps": 20},
        "environment": environment.model_dump(),
        "seed": 0,
        "files": {},
    }
    rows = locomotion.collect_shard(arguments, 0)
    assert rows["observations"].shape[0] == 20
    assert np.isfinite(rows["final_observations"]).all()


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    table = whole_table("hopper", "random", {}, 0, [], SMALL)
    artefact = Artefact.of(to_spec("toy", table))
    told = []

    @contextmanager
    def interrupted(description):
        def progress(done, total):
            told.append(done)
            if told == [1, 2]:
                raise KeyboardInterrupt

        yield progress

    monkeypatch.setenv("HETERO_BENCH_WORKERS", "1")
    monkeypatch.setattr(loading, "progress_bar", interrupted)
    with pytest.raises(KeyboardInterrupt):
        artefact.load(tmp_path)
    assert not list((tmp_path / "toy-v0").glob("[!.]*"))
    dataset = artefact.load(tmp_path)
    assert told in ([1, 2, 3, 4], [1, 2, 4])  # a third may have been finished before the end
    whole = locomotion.build({"policies": [{"name": "random"}], **SMALL}, 0, environment=HOPPER)
    assert digest_arrays(dataset.arrays) == digest_arrays(whole)
    left = {path.name for path in (tmp_path / "toy-v0").iterdir()}
    assert left <= {"whole", ".whole.lock"}
