from __future__ import annotations

import subprocess
import sys

import h5py
import minari
import numpy as np
import pytest

from hetero_bench import exports
from hetero_bench.sources import d4rl
from tests.helpers import CART_POLE, assert_equal_arrays, dataset_of, random_arrays

# Reads with Minari alone, in a process that never imports hetero_bench, and stores what it saw.
READ_WITH_MINARI = """
import sys
import minari
import numpy as np

dataset = minari.load_dataset(sys.argv[1])
arrays = {"total": np.array([dataset.total_episodes, dataset.total_steps])}
for episode in dataset.iterate_episodes():
    for name in ("observations", "actions", "rewards", "terminations", "truncations"):
        arrays[f"{episode.id}/{name}"] = getattr(episode, name)
    for name, values in (episode.infos or {}).items():
        arrays[f"{episode.id}/infos/{name}"] = values
assert "hetero_bench" not in sys.modules
np.savez(sys.argv[2], **arrays)
"""


def read_with_minari(dataset_id, tmp_path):
    target = tmp_path / "seen.npz"
    subprocess.run(
        [sys.executable, "-c", READ_WITH_MINARI, dataset_id, str(target)], check=True, cwd=tmp_path
    )
    return dict(np.load(target, allow_pickle=False))


@pytest.mark.parametrize(
    "arrays",
    [
        random_arrays(),
        random_arrays([5, 2], num_actions=None, observation_dtype="float64"),
        random_arrays([2, 3], observation_shape=(8, 8, 3), observation_dtype="uint8"),
        random_arrays([1], extras=False),
    ],
    ids=["discrete", "continuous", "images", "one row"],
)
def test_plain_minari_in_another_process_reads_the_same_bytes(arrays, cache, tmp_path):
    dataset = dataset_of(arrays)
    exported = exports.to_minari(dataset)
    assert exported.id == "hetero_bench/toy-v0"
    seen = read_with_minari("hetero_bench/toy-v0", tmp_path)
    np.testing.assert_array_equal(seen.pop("total"), [arrays.num_episodes, len(dataset)])
    for number, episode in enumerate(dataset.episodes()):
        expected = {
            **{name: getattr(episode, name) for name in episode._fields if name != "extras"},
            **{f"infos/{name}": values for name, values in episode.extras.items()},
        }
        for name, values in expected.items():
            found = seen.pop(f"{number}/{name}")
            assert found.dtype == values.dtype, name
            np.testing.assert_array_equal(found, values, err_msg=name)
    assert not seen, "nothing else is exported"


def test_the_export_recovers_the_environment_and_the_scores(cache):
    reference = {"random": 20.0, "expert": 500.0, "source": "made up"}
    dataset = dataset_of(
        random_arrays(), environment={**CART_POLE, "max_episode_steps": 77}, reference=reference
    )
    exported = exports.to_minari(dataset)
    env = exported.recover_environment()
    assert env.spec.id == "CartPole-v1"
    assert env.spec.max_episode_steps == 77
    assert exported.observation_space == env.observation_space
    assert exported.action_space == env.action_space
    scores = minari.get_normalized_score(exported, np.array([20.0, 260.0]))
    np.testing.assert_allclose(100 * scores, dataset.spec.normalized_score([20.0, 260.0]))
    metadata = exported.storage.metadata
    assert metadata["citation"] == "Nobody (2024)."
    assert metadata["provenance"]["digest"] == dataset.provenance.digest


def test_spaces_without_an_environment_hold_the_data(cache):
    dataset = dataset_of(
        random_arrays(num_actions=None),
        action={"shape": [3], "dtype": "float32", "low": -1.0, "high": 1.0},
    )
    exported = exports.to_minari(dataset)
    for episode in exported:
        assert all(
            observation in exported.observation_space for observation in episode.observations
        )
        assert all(action in exported.action_space for action in episode.actions)
    assert exported.action_space.high.max() == 1.0
    assert exports.to_minari(dataset_of(random_arrays()), "other-v3").action_space.n == 2


def test_a_draw_says_so_in_its_name(cache):
    dataset = dataset_of(random_arrays([3, 3, 3]), transitions=9).subset(5, draw=3)
    assert exports.minari_id(dataset) == "hetero_bench/toy-size-5-draw-3-v0"
    assert exports.to_minari(dataset).total_steps == 5


def test_an_existing_minari_dataset_is_kept(cache):
    exports.to_minari(dataset_of(random_arrays([4])))
    with pytest.raises(FileExistsError, match="minari delete hetero_bench/toy-v0"):
        exports.to_minari(dataset_of(random_arrays([2])))
    assert minari.load_dataset("hetero_bench/toy-v0").total_steps == 4


@pytest.mark.parametrize("name", ["toy", "a b-v0", "../toy-v0"])
def test_a_name_that_minari_does_not_take_is_refused(name, cache):
    with pytest.raises(ValueError, match="expected namespace/name-vN"):
        exports.to_minari(dataset_of(random_arrays()), name)


def test_a_failed_export_leaves_nothing(cache, tmp_path, monkeypatch):
    dataset = dataset_of(random_arrays())
    monkeypatch.setattr(type(dataset), "episodes", lambda self: iter([1 / 0]))
    with pytest.raises(ZeroDivisionError):
        exports.to_minari(dataset)
    assert not [path for path in (tmp_path / "minari").rglob("*") if "toy" in path.name]
    monkeypatch.undo()


def test_d4rl_keys_are_those_of_d4rl(tmp_path):
    arrays = random_arrays([2, 3], terminated=[True, False], num_actions=None)
    path = exports.to_d4rl(dataset_of(arrays), tmp_path / "new" / "toy.hdf5")
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["terminals"], [0, 1, 0, 0, 0])
        np.testing.assert_array_equal(file["timeouts"], [0, 0, 0, 0, 1])
        np.testing.assert_array_equal(file["next_observations"], arrays.next_observations())
        np.testing.assert_array_equal(file["infos/states"], arrays.extras["states"])
        assert file["metadata/hetero_bench_id"].asstr()[()] == "toy-v0"


@pytest.mark.parametrize("chunk_bytes", [1, 200, 1 << 24])
def test_d4rl_round_trip_is_exact_whatever_the_chunks(chunk_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "_CHUNK_BYTES", chunk_bytes)
    arrays = random_arrays([3, 1, 4, 1, 1, 5], observation_dtype="float64")
    read = d4rl.read(exports.to_d4rl(dataset_of(arrays), tmp_path / "toy.h5"))
    assert_equal_arrays(read, arrays)
    assert read.notes == {"rows_in_file": 15, "dropped_rows": 0}


def test_d4rl_export_never_overwrites(tmp_path):
    path = tmp_path / "toy.hdf5"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="choose another name"):
        exports.to_d4rl(dataset_of(random_arrays()), path)
    assert path.read_text() == "mine"
    with pytest.raises(ValueError, match=r"\.hdf5 or \.h5"):
        exports.to_d4rl(dataset_of(random_arrays()), tmp_path / "toy.npz")


def test_a_failed_d4rl_export_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "_write_rows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exports.to_d4rl(dataset_of(random_arrays()), tmp_path / "toy.hdf5")
    assert list(tmp_path.iterdir()) == []
