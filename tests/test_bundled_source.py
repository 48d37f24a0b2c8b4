"""Data that comes with the package: read as it was written, refused where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from hetero_bench import bundling, registry
from hetero_bench.arrays import dataset_digest, digest_arrays
from hetero_bench.errors import SourceError
from hetero_bench.loading import load
from hetero_bench.registry import get_spec, list_datasets, registry_folder
from hetero_bench.sources import bundled
from hetero_bench.sources.bundled import bundled_path, read_arrays, write_arrays

MANIFEST = """
[datasets.maze]
version = 0
family = "test"
summary = "Short walks."
licence = "MIT"
citation = "none"
sources = [{{ kind = "bundled" }}, {{ kind = "build" }}]
rewards = {{ semantics = "+1 at the goal" }}
sha256 = {{ {pins} }}

[datasets.maze.environment]
id = "hetero_bench/GridworldMaze-v0"
max_episode_steps = 300

[datasets.maze.environment.kwargs]
layout = "three-rooms"
action_noise = 0.05
feature_seed = 0
feature_scaling = "unit_variance"

[datasets.maze.recipe]
name = "gridworld"
version = 1
seed = 0

[datasets.maze.recipe.parameters]
trajectories = 20
episode_steps = 8
room_uniform = 0.2
hallway_uniform = 0.0
starts = "uniform"
"""


@pytest.fixture
def maze(monkeypatch, tmp_path, cache):
    """Registers a small built dataset that may be bundled; returns the arrays of its recipe."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(bundled, "registry_folder", lambda: tmp_path / "registry")

    def register(pins: str = ""):
        registry._registered.clear()
        path = tmp_path / "maze.toml"
        path.write_text(MANIFEST.format(pins=pins), encoding="utf-8")
        registry.add_specs(registry.read_manifest(path), path)

    register()
    arrays = load("maze", source="build").arrays
    register(f'whole = "{dataset_digest(digest_arrays(arrays))}"')
    return arrays


def test_a_file_gives_back_what_was_written(maze, tmp_path):
    path = tmp_path / "deep" / "whole.npz"
    write_arrays(maze, path)
    again = read_arrays(path)
    assert again.notes == maze.notes
    assert digest_arrays(again) == digest_arrays(maze)
    assert again.extras.keys() == maze.extras.keys()
    assert [file.name for file in path.parent.iterdir()] == ["whole.npz"]


def test_bundled_data_comes_first_and_is_verified(maze, capsys):
    assert load("maze").provenance.source == "build"
    bundling.bundle("maze")
    assert "verified" in capsys.readouterr().out
    dataset = load("maze", source="bundled")
    assert dataset.provenance.status == "verified"
    assert dataset.provenance.source == "bundled"
    np.testing.assert_array_equal(dataset.arrays.actions, maze.actions)


def test_what_is_not_bundled_says_so(maze):
    with pytest.raises(SourceError, match="whole is not bundled; of maze-v0, .* has nothing"):
        load("maze", source="bundled")


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_a_damaged_file_is_refused_and_the_next_source_asked(maze, keep):
    path = bundled_path(get_spec("maze"), "whole")
    write_arrays(maze, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"whole\.npz is damaged .*install hetero-bench again"):
        load("maze", source="bundled")
    assert load("maze").provenance.source == "build"


def test_other_numbers_than_the_pinned_are_refused(maze):
    maze = maze.take_episodes(np.arange(maze.num_episodes), maze.num_transitions)[0]
    maze.actions[3] = (maze.actions[3] + 1) % 5
    write_arrays(maze, bundled_path(get_spec("maze"), "whole"))
    with pytest.raises(SourceError, match="the registry pins"):
        load("maze", source="bundled")


def test_pickled_arrays_are_never_read(maze):
    path = bundled_path(get_spec("maze"), "whole")
    path.parent.mkdir(parents=True)
    named = dict(maze.named()) | {"observations": np.array([{}], dtype=object)}
    np.savez(path, notes=np.array("{}"), **named)
    with pytest.raises(SourceError, match="damaged"):
        load("maze", source="bundled")


def test_only_what_names_the_source_is_bundled(cache):
    with pytest.raises(ValueError, match="expected 'bundled' and one to make it from"):
        bundling.bundle("gridworld-hetero")


BUNDLED = [
    (spec, path.stem)
    for spec in list_datasets()
    for path in sorted((registry_folder() / "data" / spec.id).glob("*.npz"))
]


@pytest.mark.parametrize(
    ("spec", "artefact"), BUNDLED, ids=lambda value: getattr(value, "id", value)
)
def test_bundled_files_of_the_release_are_what_the_registry_pins(spec, artefact):
    arrays = read_arrays(bundled_path(spec, artefact))
    arrays.validate()
    assert arrays.num_transitions == spec.transitions
    assert dataset_digest(digest_arrays(arrays)) == spec.sha256[artefact]


def test_every_bundled_file_belongs_to_a_dataset():
    files = {path.parent.name for path in (registry_folder() / "data").rglob("*.npz")}
    bundled_specs = [
        spec for spec in list_datasets() if any(s.kind == "bundled" for s in spec.sources)
    ]
    # A whole dataset that cannot be had is listed too: its subsets are drawn from it.
    absent = [spec for spec in bundled_specs if len(spec.sources) == 1 and spec.subset is None]
    assert all(source.reason for spec in absent for source in spec.sources)
    assert files == {spec.id for spec in bundled_specs} - {spec.id for spec in absent}
