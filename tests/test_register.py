from __future__ import annotations

import warnings

import gymnasium
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from hetero_bench import registry
from hetero_bench.errors import ManifestError, SizeError, SourceError
from hetero_bench.evaluation import evaluate
from hetero_bench.exports import to_d4rl, to_minari
from hetero_bench.importing import register
from hetero_bench.loading import load
from hetero_bench.registry import get_spec, list_datasets, normalized_score
from tests.helpers import CART_POLE, assert_equal_arrays, dataset_of, random_arrays

MANIFEST = """
[datasets.mine]
version = 2
family = "mine"
summary = "A file of mine."
licence = "CC0"
citation = ""
rewards = { semantics = "none" }
sources = [{ kind = "d4rl", path = "data/mine.hdf5" }]
transitions = 8

[datasets.mine-small]
version = 2
family = "mine"
summary = "Some of it."
licence = "CC0"
citation = ""
rewards = { semantics = "none" }
sources = [{ kind = "subset" }]
subset = { parent = "mine", size = 5 }
"""


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch, cache):
    monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def arrays():
    return random_arrays()


@pytest.fixture
def file(arrays, tmp_path):
    return to_d4rl(dataset_of(arrays), tmp_path / "data" / "mine.hdf5")


def test_a_d4rl_file_is_registered_and_loaded_through_the_cache(file, arrays, cache):
    (spec,) = register(file)
    assert spec.id == "mine-v0"
    assert spec.family == "user"
    assert spec.transitions == 8
    assert spec.observation.shape == (4,)
    assert (spec.action.n, spec.action.dtype) == (2, "int64")
    dataset = load("mine")
    assert_equal_arrays(dataset.arrays, arrays)
    assert dataset.folder.parent == cache / "mine-v0"
    assert dataset.folder.name.startswith("whole@")
    assert dataset.provenance.source == "d4rl"
    assert dataset.provenance.status == "unpinned"
    assert isinstance(load("mine").arrays.observations, np.memmap)
    assert len(load("mine", size=5, draw=1)) == 5
    with pytest.raises(SizeError):
        load("mine", size=9)


def test_a_cached_dataset_outlives_its_file_and_follows_its_changes(file, arrays):
    register(file)
    load("mine")
    file.unlink()
    assert_equal_arrays(load("mine").arrays, arrays)
    changed = random_arrays(seed=1)
    to_d4rl(dataset_of(changed), file)
    assert_equal_arrays(load("mine").arrays, changed)


def test_files_of_one_name_keep_their_places_in_the_cache(file, arrays, tmp_path, cache):
    other = random_arrays(seed=1)
    elsewhere = to_d4rl(dataset_of(other), tmp_path / "elsewhere" / "mine.hdf5")
    stamps = set()
    for _ in range(2):
        for path, expected in ((file, arrays), (elsewhere, other)):
            registry._registered.clear()
            register(path)
            assert_equal_arrays(load("mine").arrays, expected)
            assert_equal_arrays(
                load("mine", size=5).arrays, dataset_of(expected, transitions=8).subset(5).arrays
            )
            stamps.add((load("mine").folder, (load("mine").folder / "metadata.json").stat().st_ino))
    assert len(stamps) == 2
    assert len([path for path in (cache / "mine-v0").iterdir() if path.is_dir()]) == 4


def test_a_file_that_no_longer_fits_its_registration_is_refused(file):
    register(file)
    file.unlink()
    to_d4rl(dataset_of(random_arrays([2])), file)
    with pytest.raises(SourceError, match="2 transitions; mine-v0 is registered with 8"):
        load("mine")


MADE = """
[datasets.made]
version = 0
family = "mine"
summary = ""
licence = "CC0"
citation = ""
rewards = { semantics = "none" }
sources = [{ kind = "build" }]
environment = { id = "hetero_bench/GridworldMaze-v0", max_episode_steps = 9, kwargs = {} }
recipe = { name = "gridworld", version = 1, seed = 0, parameters = { trajectories = 9 } }
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"gridworld"', '"nope"', "recipe.name: there is no recipe 'nope'"),
        ('"gridworld"', '"balanced_starts"', "recipe.name: there is no recipe 'balanced_starts'"),
        ('"gridworld"', '"__init__"', "recipe.name: there is no recipe '__init__'"),
        ("trajectories = 9", "trajectories = 0", "recipe.parameters: trajectories: "),
        ("kwargs = {}", 'kwargs = { layut = "x" }', "environment.kwargs: layut: Extra inputs"),
        ("hetero_bench/GridworldMaze-v0", "CartPole-v1", "environment.id: recipe 'gridworld'"),
    ],
)
def test_a_recipes_table_is_checked_when_it_is_registered(tmp_path, old, new, message):
    path = tmp_path / "made.toml"
    path.write_text(MADE)
    registry._registered.clear()
    assert [spec.id for spec in register(path)] == ["made-v0"]
    registry._registered.clear()
    assert old in MADE
    path.write_text(MADE.replace(old, new))
    with pytest.raises(ManifestError, match=rf"made.toml: \[datasets.made\]: {message}"):
        register(path)
    assert not registry._registered


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ('{ parent = "mine-small", size = 3 }', "subset.parent: 'mine-small' is a subset itself"),
        ('{ parent = "gridworld-hetero-v0", size = 3 }', "subset.parent: there is no dataset"),
        ('{ parent = "gridworld-hetero-10k", size = 3 }', "is a subset itself"),
        ('{ parent = "mine", size = 9 }', "subset.size: 9 is more than the 8 transitions"),
    ],
)
def test_subsets_are_drawn_from_whole_datasets(tmp_path, subset, message):
    path = tmp_path / "mine.toml"
    path.write_text(MANIFEST.replace('{ parent = "mine", size = 5 }', subset))
    with pytest.raises(ManifestError, match=rf"mine.toml: \[datasets.mine-small\]: .*{message}"):
        register(path)


def test_a_manifests_paths_start_at_its_own_folder(file, arrays, tmp_path, monkeypatch):
    manifest = tmp_path / "mine.toml"
    manifest.write_text(MANIFEST)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    specs = register("../mine.toml")
    assert [spec.id for spec in specs] == ["mine-v2", "mine-small-v2"]
    assert specs[0].sources[0].path == str(file)
    assert_equal_arrays(load("mine-v2").arrays, arrays)
    assert len(load("mine-small", draw=2)) == 5


def test_a_minari_folder_is_registered_with_what_it_records(arrays, tmp_path):
    reference = {"random": 20.0, "expert": 500.0, "source": "made up"}
    to_minari(
        dataset_of(arrays, environment={**CART_POLE, "max_episode_steps": 77}, reference=reference),
        "my/cart_pole-v3",
    )
    folder = tmp_path / "minari" / "my" / "cart_pole-v3"
    (spec,) = register(folder)
    assert spec.id == "my-cart-pole-v3"
    assert spec.environment.id == "CartPole-v1"
    assert spec.environment.max_episode_steps == 77
    assert (spec.reference.random, spec.reference.expert) == (20.0, 500.0)
    assert (spec.licence, spec.citation) == ("MIT", "Nobody (2024).")
    assert spec.action.n == 2
    assert normalized_score("my-cart-pole", 260.0) == pytest.approx(50.0)
    assert_equal_arrays(load("my-cart-pole").arrays, arrays)
    assert register(folder / "data") == [spec]

    (other,) = register(
        folder, name="other", version=1, random=0.0, expert=1.0, max_episode_steps=5, licence="CC0"
    )
    assert (other.id, other.licence) == ("other-v1", "CC0")
    assert (other.reference.expert, other.reference.source) == (
        1.0,
        "given when it was registered",
    )
    assert other.environment.max_episode_steps == 5


def test_a_dataset_made_with_minaris_own_functions_can_be_evaluated_on(tmp_path):
    env = gymnasium.make("CartPole-v1", max_episode_steps=6)
    episodes = []
    for seed in range(3):
        observations, rewards, done = [env.reset(seed=seed)[0]], [], False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(seed % 2)
            observations.append(observation)
            rewards.append(reward)
            done = terminated or truncated
        flags = np.zeros((2, len(rewards)), dtype=bool)
        flags[:, -1] = terminated, truncated
        episodes.append(
            EpisodeBuffer(
                observations=observations,
                actions=[seed % 2] * len(rewards),
                rewards=rewards,
                terminations=flags[0],
                truncations=flags[1],
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers("cart-v0", episodes, env=env)
    register(tmp_path / "minari" / "cart-v0")
    dataset = load("cart")
    assert dataset.spec.environment.max_episode_steps == 6
    assert dataset.arrays.num_episodes == 3
    np.testing.assert_array_equal(
        dataset.arrays.final_observations, [buffer.observations[-1] for buffer in episodes]
    )
    result = evaluate(lambda observations: np.zeros(len(observations), dtype=int), dataset)
    assert result.episodes == 100
    assert result.lengths.max() <= 6


def test_an_environment_gives_time_limit_and_extents(file):
    (spec,) = register(file, environment="CartPole-v1")
    assert spec.environment.max_episode_steps == 500
    assert spec.action.n == 2
    assert spec.observation.dtype == "float32"
    (other,) = register(file, name="other", environment="CartPole-v1", max_episode_steps=9)
    assert other.environment.max_episode_steps == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"environment": "Acrobot-v1"}, r"observations are arrays of shape \(4,\); Acrobot-v1 has"),
        ({"environment": "Nowhere-v0"}, "Gymnasium has no environment 'Nowhere-v0'"),
        ({"environment": "Pendulum-v1"}, "arrays of shape"),
        ({"max_episode_steps": 3}, "without an environment"),
        ({"environment": "CartPole-v1", "max_episode_steps": 0}, "max_episode_steps: "),
        ({"random": 1.0}, "random is given alone"),
        ({"random": 1.0, "expert": 1.0}, r"expert \(1.0\) must exceed random"),
        ({"name": "Not A Name"}, "name: String should match"),
        ({"name": "mine-v3"}, "must not end in -vN"),
        ({"name": "gridworld-hetero"}, "gridworld-hetero is already registered; rename it"),
    ],
)
def test_bad_arguments_are_named(arguments, message, file):
    with pytest.raises(ValueError, match=message):
        register(file, **arguments)
    assert not registry._registered


def test_registering_again_is_harmless_and_something_else_is_refused(file, arrays, tmp_path):
    first = register(file)
    assert register(file) == first
    with pytest.raises(ManifestError, match="mine is already registered"):
        register(file, licence="other")
    other = to_d4rl(dataset_of(random_arrays([2])), tmp_path / "mine.hdf5")
    with pytest.raises(ManifestError, match="mine is already registered"):
        register(other)
    assert_equal_arrays(load("mine").arrays, arrays)
    assert len([spec for spec in list_datasets() if spec.name == "mine"]) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hopper_medium-v2.hdf5", "hopper-medium-v2"),
        ("Ant Maze (1).h5", "ant-maze-1-v0"),
        ("--.hdf5", "dataset-v0"),
    ],
)
def test_names_are_made_from_file_names(name, expected, file, tmp_path):
    (spec,) = register(file.rename(tmp_path / name))
    assert spec.id == expected
    assert get_spec(expected) is spec


def test_what_cannot_be_registered_says_why(file, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing there"):
        register(tmp_path / "missing.hdf5")
    text = tmp_path / "data.csv"
    text.write_text("1,2")
    with pytest.raises(ValueError, match=r"expected a manifest \(\.toml\).*Minari"):
        register(text)
    with pytest.raises(FileNotFoundError, match="is no Minari dataset"):
        register(tmp_path)
    bad = tmp_path / "bad.hdf5"
    bad.write_text("no")
    with pytest.raises(SourceError, match="not readable as HDF5"):
        register(bad)
    manifest = tmp_path / "mine.toml"
    manifest.write_text(MANIFEST)
    with pytest.raises(ValueError, match="states name, licence itself"):
        register(manifest, name="x", licence="y")
    manifest.write_text(MANIFEST.replace('parent = "mine"', 'parent = "mime"'))
    with pytest.raises(ManifestError, match=r"mine-small\]: subset.parent: .*'mime'"):
        register(manifest)
    manifest.write_text(MANIFEST.replace("version = 2", "version = -1"))
    with pytest.raises(ManifestError, match=r"mine.toml: \[datasets.mine\]: version: "):
        register(manifest)
    assert not registry._registered
