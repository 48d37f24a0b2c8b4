from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from hetero_bench.errors import SourceError
from hetero_bench.exports import to_minari
from hetero_bench.sources import minari
from hetero_bench.spec import MinariSource
from tests.helpers import assert_equal_arrays, dataset_of, random_arrays

BOX = Box(-np.inf, np.inf, (2,), np.float32)
TWO = Discrete(2)


def episode(terminations, truncations, *, first=0, actions=None, infos=None):
    """An episode whose observation t is (first + t, first + t)."""
    steps = len(terminations)
    observations = np.repeat(np.arange(first, first + steps + 1)[:, None], 2, axis=1)
    return EpisodeBuffer(
        observations=observations.astype(np.float32),
        actions=np.zeros(steps, dtype=np.int64) if actions is None else actions,
        rewards=np.arange(first, first + steps, dtype=np.float64),
        terminations=np.array([flag == "1" for flag in terminations]),
        truncations=np.array([flag == "1" for flag in truncations]),
        infos=infos,
    )


def store(folder, episodes, *, observation_space=BOX, action_space=TWO):
    """Writes a Minari dataset with Minari's own storage."""
    folder.mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data", observation_space=observation_space, action_space=action_space
    )
    storage.update_metadata({"dataset_id": "user/toy-v1", "minari_version": "0.5.4"})
    storage.update_episodes(episodes)
    return folder


@pytest.mark.parametrize(
    "arrays",
    [
        random_arrays(),
        random_arrays([5, 2], num_actions=None, observation_dtype="float64"),
        random_arrays([2, 3], observation_shape=(8, 8, 3), observation_dtype="uint8"),
    ],
    ids=["discrete", "continuous", "images"],
)
def test_what_was_exported_is_read_back_bit_for_bit(arrays, cache, tmp_path):
    to_minari(dataset_of(arrays), "toy-v0")
    seen = []
    read = minari.read(tmp_path / "minari" / "toy-v0", lambda *done: seen.append(done))
    assert_equal_arrays(read, arrays)
    assert read.notes == {}
    assert seen[-1] == (arrays.num_episodes, arrays.num_episodes)
    found = minari.inspect(tmp_path / "minari" / "toy-v0")
    assert (found.transitions, found.episodes) == (arrays.num_transitions, arrays.num_episodes)
    assert found.observation.shape == arrays.observations.shape[1:]
    assert found.observation.dtype == arrays.observations.dtype.name
    assert found.action.dtype == arrays.actions.dtype.name


def test_final_observations_and_ends_are_those_recorded(tmp_path):
    folder = store(
        tmp_path / "toy",
        [
            episode("001", "000"),
            episode("00", "01", first=10),
            episode("00", "00", first=20),  # no flag: truncated
            episode("0100", "0001", first=30),  # goes on after a termination
            episode("1", "1", first=40),
        ],
    )
    arrays = minari.read(folder)
    arrays.validate()
    assert arrays.observations[:, 0].tolist() == [0, 1, 2, 10, 11, 20, 21, 30, 31, 32, 33, 40]
    assert arrays.final_observations[:, 0].tolist() == [3, 12, 22, 32, 34, 41]
    assert arrays.episode_ids.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert np.flatnonzero(arrays.terminations).tolist() == [2, 8, 11]
    assert np.flatnonzero(arrays.truncations).tolist() == [4, 6, 10, 11]
    assert arrays.rewards.dtype == np.float32
    assert arrays.notes == {"unflagged_ends": 1, "ends_inside_episodes": 1}


def test_infos_per_step_become_extras_and_others_are_named(tmp_path):
    infos = {
        "mass": np.ones((2, 3)),
        "with_reset": np.zeros(3),  # Minari's collector also records the reset's
        "holes": np.array([1.0, np.nan]),
    }
    folder = store(
        tmp_path / "toy",
        [episode("01", "00", infos=infos), episode("01", "00", infos={**infos, "rare": [1, 2]})],
    )
    arrays = minari.read(folder)
    assert list(arrays.extras) == ["mass"]
    assert arrays.extras["mass"].shape == (4, 3)
    assert arrays.notes["infos_left_out"] == ["holes", "rare", "with_reset"]


def test_spaces_give_extents(tmp_path):
    actions = np.zeros((2, 3), dtype=np.float32)
    folder = store(
        tmp_path / "toy",
        [episode("01", "00", actions=actions)],
        observation_space=Box(np.array([0, -1]), np.array([1, 1]), dtype=np.float64),
        action_space=Box(-2, 2, (3,), np.float32),
    )
    found = minari.inspect(folder)
    assert (found.action.low, found.action.high, found.action.shape) == (-2, 2, (3,))
    assert (found.observation.low, found.observation.high) == (None, None)
    assert found.observation.dtype == "float32", "what is stored, not what the space says"
    assert minari.array_spec(Discrete(3, start=1), "actions").n == 4


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (Dict({"x": BOX}), Discrete(2), "observation space is Dict.*expected Box or Discrete"),
        (BOX, MultiDiscrete([2, 2]), "action space is MultiDiscrete.*expected Box or Discrete"),
    ],
)
def test_other_spaces_are_refused(observation_space, action_space, message, tmp_path):
    folder = store(
        tmp_path / "toy", [], observation_space=observation_space, action_space=action_space
    )
    metadata = folder / "data" / "metadata.json"
    metadata.write_text(
        json.dumps({**json.loads(metadata.read_text()), "total_episodes": 1, "total_steps": 1})
    )
    for function in (minari.read, minari.inspect):
        with pytest.raises(SourceError, match=message):
            function(folder)


def test_damage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no Minari dataset"):
        minari.read(tmp_path)
    folder = store(tmp_path / "toy", [episode("01", "00"), episode("001", "000")])
    data, metadata = folder / "data" / "main_data.hdf5", folder / "data" / "metadata.json"
    whole = metadata.read_text()

    metadata.write_text(json.dumps({**json.loads(whole), "total_steps": 7}))
    with pytest.raises(SourceError, match="have 5 steps; its metadata states 7"):
        minari.read(folder)
    metadata.write_text(whole[:50])
    with pytest.raises(SourceError, match="Minari cannot read it"):
        minari.read(folder)
    metadata.write_text(whole)

    with h5py.File(data, "a") as file:
        del file["episode_1/observations"]
        file["episode_1/observations"] = np.zeros((3, 2), dtype=np.float32)
    with pytest.raises(SourceError, match=r"episode 1: observations have shape \(3, 2\).*4 rows"):
        minari.read(folder)
    with h5py.File(data, "a") as file:
        del file["episode_1/observations"]
    with pytest.raises(SourceError, match="episode 1 is not readable"):
        minari.read(folder)
    with h5py.File(data, "a") as file:
        file["episode_1/observations"] = np.full((4, 2), np.nan, np.float32)
    with pytest.raises(SourceError, match="observations is not finite in row 2"):
        minari.read(folder)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("rewards", np.zeros((3, 1)), r"episode 1: rewards have shape \(3, 1\).*one number per"),
        (
            "rewards",
            np.zeros(2),
            r"shape \(4, 2\).*3 rows, as there are 2 rewards",
        ),
        ("rewards", np.array([b"a", b"b", b"c"]), "rewards have shape .* dtype"),
        ("terminations", np.zeros((3, 1), bool), r"terminations have shape \(3, 1\)"),
        ("truncations", np.array([0.0, 0.5, 1.0]), "truncations have values other than 0 and 1"),
        ("observations", np.zeros((4, 3), np.float32), r"observations have shape \(3,\)"),
        ("observations", np.zeros((4, 2)), "dtype float64; those of the episodes before"),
        ("actions", np.zeros((3, 2), np.int64), r"actions have shape \(2,\)"),
    ],
)
def test_columns_that_do_not_fit_are_refused(column, values, message, tmp_path):
    folder = store(tmp_path / "toy", [episode("01", "00"), episode("001", "000")])
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        del file[f"episode_1/{column}"]
        file[f"episode_1/{column}"] = values
    with pytest.raises(SourceError, match=f"{folder}.*{message}"):
        minari.read(folder)


def test_an_empty_dataset_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no steps"):
        minari.read(store(tmp_path / "toy", []))


def test_identity_follows_the_data(tmp_path):
    folder = store(tmp_path / "toy", [episode("01", "00")])
    spec, source = dataset_of(random_arrays()).spec, MinariSource(path=str(folder))
    before = minari.identity(spec, source)
    assert before == minari.identity(spec, source)
    os.utime(folder / "data" / "main_data.hdf5", ns=(1, 1))
    assert minari.identity(spec, source) != before
    assert minari.identity(spec, MinariSource(path=str(tmp_path / "gone"))) is None
