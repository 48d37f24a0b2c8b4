from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetero_bench.errors import SourceError
from hetero_bench.exports import to_d4rl
from hetero_bench.sources import d4rl
from hetero_bench.spec import D4RLSource
from tests.helpers import assert_equal_arrays, dataset_of, random_arrays


def write(path, infos=None, **keys):
    """Writes an HDF5 file; by default observation t is (t, t) and everything else follows."""
    rows = len(keys["terminals"])
    defaults = {
        "observations": np.repeat(np.arange(rows, dtype=np.float32)[:, None], 2, axis=1),
        "actions": np.zeros((rows, 1), dtype=np.float32),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": np.zeros(rows, dtype=bool),
    }
    with h5py.File(path, "w") as file:
        for key, value in {**defaults, **keys, **(infos or {})}.items():
            if value is not None:
                file[key] = value
    return path


def flags(text):
    return np.array([char == "1" for char in text])


def contents(arrays):
    """What an episode is, as text: its observations (first column), final one and kind of end."""
    kinds = np.where(arrays.terminations, "terminated", "truncated")
    starts = arrays.episode_starts()
    return [
        (arrays.observations[start:stop, 0].tolist(), final, kinds[stop - 1])
        for start, stop, final in zip(
            starts[:-1], starts[1:], arrays.final_observations[:, 0], strict=True
        )
    ]


def test_a_row_cut_by_a_timeout_is_dropped_where_its_successor_is_unknown(tmp_path):
    path = write(tmp_path / "a.hdf5", terminals=flags("000000"), timeouts=flags("001001"))
    arrays = d4rl.read(path)
    arrays.validate()
    assert contents(arrays) == [([0, 1], 2, "truncated"), ([3, 4], 5, "truncated")]
    assert arrays.rewards.tolist() == [0, 1, 3, 4]
    assert arrays.notes == {"rows_in_file": 6, "dropped_rows": 2}


def test_a_terminal_row_is_kept_though_its_successor_is_unknown(tmp_path):
    arrays = d4rl.read(write(tmp_path / "a.hdf5", terminals=flags("0100")))
    arrays.validate()
    assert contents(arrays) == [([0, 1], 1, "terminated"), ([2], 3, "truncated")]
    assert arrays.notes["dropped_rows"] == 1
    assert "own observation" in arrays.notes["final_observations_of_terminal_rows"]


def test_an_episode_of_one_row_without_a_successor_vanishes_and_is_counted(tmp_path):
    # Row 2 is an episode of its own; so is row 3, but that one terminates.
    path = write(tmp_path / "a.hdf5", terminals=flags("000100"), timeouts=flags("011000"))
    arrays = d4rl.read(path)
    arrays.validate()
    assert contents(arrays) == [
        ([0], 1, "truncated"),
        ([3], 3, "terminated"),
        ([4], 5, "truncated"),
    ]
    assert arrays.notes["rows_in_file"] == 6
    assert arrays.notes["dropped_rows"] == 3
    assert arrays.notes["dropped_episodes"] == 1


def test_with_successors_nothing_is_dropped_and_an_unfinished_episode_is_truncated(tmp_path):
    successors = np.repeat(np.array([1, 2, 20, 4, 5], dtype=np.float32)[:, None], 2, axis=1)
    path = write(
        tmp_path / "a.hdf5",
        terminals=flags("00000"),
        timeouts=flags("00100"),
        next_observations=successors,
    )
    arrays = d4rl.read(path)
    arrays.validate()
    assert contents(arrays) == [([0, 1, 2], 20, "truncated"), ([3, 4], 5, "truncated")]
    assert arrays.notes == {"rows_in_file": 5, "dropped_rows": 0}
    np.testing.assert_array_equal(arrays.next_observations(), successors)


def test_a_break_without_a_flag_ends_the_episode(tmp_path):
    successors = np.repeat(np.array([1, 20, 3, 4], dtype=np.float32)[:, None], 2, axis=1)
    path = write(tmp_path / "a.hdf5", terminals=flags("0001"), next_observations=successors)
    arrays = d4rl.read(path)
    arrays.validate()
    assert contents(arrays) == [([0, 1], 20, "truncated"), ([2, 3], 4, "terminated")]
    assert arrays.notes["unflagged_ends"] == 1
    np.testing.assert_array_equal(arrays.next_observations(), successors)


def test_a_row_that_is_both_terminal_and_timeout_stops_bootstrapping(tmp_path):
    path = write(tmp_path / "a.hdf5", terminals=flags("0100"), timeouts=flags("0100"))
    arrays = d4rl.read(path)
    arrays.validate()
    assert arrays.terminations.tolist() == [False, True, False]
    assert arrays.truncations.tolist() == [False, True, True]


def test_without_timeouts_and_terminals_set_it_is_one_episode(tmp_path):
    arrays = d4rl.read(write(tmp_path / "a.hdf5", terminals=flags("0000")))
    assert contents(arrays) == [([0, 1, 2], 3, "truncated")]


def test_rows_that_leave_nothing_are_an_error(tmp_path):
    path = write(tmp_path / "a.hdf5", terminals=flags("00"), timeouts=flags("11"))
    for function in (d4rl.read, d4rl.inspect):
        with pytest.raises(SourceError, match="no row has a known successor"):
            function(path)


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    discrete=st.booleans(),
    seed=st.integers(0, 9),
    data=st.data(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_what_was_written_gives_it_back(lengths, discrete, seed, data, tmp_path):
    terminated = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    arrays = random_arrays(
        lengths, terminated=terminated, num_actions=3 if discrete else None, seed=seed
    )
    path = tmp_path / "a.hdf5"
    path.unlink(missing_ok=True)
    to_d4rl(dataset_of(arrays), path)
    assert_equal_arrays(d4rl.read(path), arrays)

    # Without the successors: what is left are rows of the original with their true successors.
    with h5py.File(path, "a") as file:
        del file["next_observations"]
    if not any(terminated) and max(lengths) == 1:
        return
    read = d4rl.read(path)
    read.validate()
    kept = np.flatnonzero(arrays.terminations | ~arrays.truncations)
    np.testing.assert_array_equal(read.observations, arrays.observations[kept])
    np.testing.assert_array_equal(read.extras["states"], arrays.extras["states"][kept])
    np.testing.assert_array_equal(read.terminations, arrays.terminations[kept])
    bootstrapped = ~read.terminations
    np.testing.assert_array_equal(
        read.next_observations()[bootstrapped], arrays.next_observations()[kept][bootstrapped]
    )
    assert read.notes["dropped_rows"] == arrays.num_transitions - len(kept)
    found = d4rl.inspect(path)
    assert (found.transitions, found.episodes) == (read.num_transitions, read.num_episodes)


def test_infos_become_extras_where_they_are_finite_numbers_per_row(tmp_path):
    path = write(
        tmp_path / "a.hdf5",
        terminals=flags("001"),
        infos={
            "infos/qpos": np.ones((3, 5), dtype=np.float64),
            "infos/logp": np.array([0.0, np.nan, 0.0]),
            "infos/short": np.zeros(2),
            "infos/text": np.array([b"a", b"b", b"c"]),
            "infos/nested/x": np.zeros(3),
            "infos/..": np.zeros(3),
            b"infos/\xff": np.zeros(3),
        },
    )
    arrays = d4rl.read(path)
    assert list(arrays.extras) == ["qpos"]
    assert arrays.extras["qpos"].shape == (3, 5)
    assert sorted(arrays.notes["infos_left_out"]) == [
        "..",
        "b'\\xff'",
        "logp",
        "nested",
        "short",
        "text",
    ]


def test_discrete_actions_are_int64_and_counted(tmp_path):
    for actions in (np.array([0, 3, 1], dtype=np.uint8), np.array([[0], [3], [1]])):
        path = write(tmp_path / "a.hdf5", terminals=flags("001"), actions=actions)
        read = d4rl.read(path)
        assert read.actions.dtype == np.int64
        assert read.actions.tolist() == [0, 3, 1]
        found = d4rl.inspect(path)
        assert found.action.n == 4
        assert found.action.shape == ()
        assert (found.transitions, found.episodes) == (3, 1)


BIG_ENDIAN = np.arange(6, dtype=">f4").reshape(3, 2)


def test_foreign_byte_order_and_columns_are_read(tmp_path):
    path = write(
        tmp_path / "a.hdf5",
        observations=BIG_ENDIAN,
        rewards=np.ones((3, 1), dtype=">f8"),
        terminals=np.array([[0.0], [0.0], [1.0]]),
    )
    read = d4rl.read(path)
    assert read.observations.dtype == np.float32
    assert read.observations.tolist() == BIG_ENDIAN.tolist()
    assert read.rewards.dtype == np.float32
    assert read.terminations.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rewards": None}, "rewards is missing; the file has actions, observations, terminals"),
        ({"rewards": np.zeros(2)}, "rewards has 2 rows; expected 3"),
        ({"rewards": np.zeros((3, 2))}, r"rewards has shape \(3, 2\); expected one number"),
        ({"rewards": np.array([0, np.nan, 0])}, "rewards is not finite in row 1"),
        ({"observations": np.full((3, 2), np.inf)}, "observations is not finite in row 0"),
        ({"observations": np.array([b"a", b"b", b"c"])}, "observations has dtype"),
        ({"observations": np.zeros((0, 2))}, "at least one row"),
        ({"actions": np.zeros(3)}, r"expected \(N, dimensions\)"),
        ({"actions": np.zeros((3, 2), dtype=int)}, "MultiDiscrete"),
        ({"actions": np.array([0, -1, 0])}, "from -1 to 0"),
        ({"actions": np.array([0, 1 << 40, 0])}, "expected numbers from 0"),
        ({"actions": np.zeros((3, 1), dtype=complex)}, "actions has dtype complex128"),
        ({"terminals": np.array([0, 2, 1])}, "terminals has values other than 0 and 1"),
        ({"timeouts": np.array([0.0, 0.5, 1.0])}, "timeouts has values other than"),
        ({"next_observations": np.zeros((3, 3))}, r"next_observations has shape \(3, 3\)"),
        ({"next_observations": np.full((3, 2), np.nan)}, "next_observations is not finite"),
    ],
)
def test_a_bad_key_is_named(keys, message, tmp_path):
    path = write(tmp_path / "a.hdf5", **{"terminals": flags("001"), **keys})
    with pytest.raises(SourceError, match=message) as caught:
        d4rl.read(path)
    assert str(path) in str(caught.value)


def test_only_numbers_stored_in_the_file_itself_are_read(tmp_path):
    secret = write(tmp_path / "secret.hdf5", terminals=flags("001"))
    secret.with_suffix(".bin").write_bytes(bytes(12))

    def replaced(make):
        path = write(tmp_path / "a.hdf5", terminals=flags("001"), rewards=None)
        with h5py.File(path, "a") as file:
            make(file)
        return path

    def link(file):
        file["rewards"] = h5py.ExternalLink(str(secret), "rewards")

    def soft_link(file):
        file["rewards"] = h5py.SoftLink("/actions")

    def external(file):
        place = [(str(secret.with_suffix(".bin")), 0, 12)]
        file.create_dataset("rewards", (3,), "f4", external=place)

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "rewards", shape=(3,))
        file.create_virtual_dataset("rewards", layout)

    def objects(file):
        file.create_dataset("rewards", (3,), h5py.string_dtype())

    def group(file):
        file.create_group("rewards")

    for make in (link, soft_link, external, virtual, objects, group):
        with pytest.raises(SourceError, match=r"rewards (is not an array stored|has dtype object)"):
            d4rl.read(replaced(make))


def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path):
    path = write(tmp_path / "a.hdf5", terminals=flags("001"), observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (1 << 40, 2), "f4", chunks=(1024, 2))
    with pytest.raises(SourceError, match="more than the file can hold"):
        d4rl.read(path)


def test_a_damaged_or_foreign_file_is_an_error_not_a_crash(tmp_path):
    path = write(tmp_path / "a.hdf5", terminals=flags("001"))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SourceError, match="not readable as HDF5"):
            d4rl.read(path)
    path.write_text("not HDF5 at all")
    with pytest.raises(SourceError, match="not readable as HDF5"):
        d4rl.read(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        d4rl.read(tmp_path / "missing.hdf5")


def test_identity_changes_with_the_file_and_is_none_when_it_is_gone(tmp_path):
    path = write(tmp_path / "a.hdf5", terminals=flags("001"))
    spec, source = dataset_of(random_arrays()).spec, D4RLSource(path=str(path))
    before = d4rl.identity(spec, source)
    assert before == d4rl.identity(spec, source)
    os.utime(path, ns=(1, 1))
    touched = d4rl.identity(spec, source)
    assert touched != before
    write(path, terminals=flags("0" * 4000))
    os.utime(path, ns=(1, 1))
    assert d4rl.identity(spec, source) != touched
    path.unlink()
    assert d4rl.identity(spec, source) is None


@pytest.mark.slow
def test_a_million_rows(tmp_path):
    rows = 1_000_000
    timeouts = np.zeros(rows, dtype=bool)
    timeouts[999::1000] = True
    observations = np.random.default_rng(0).normal(size=(rows, 29)).astype(np.float32)
    path = write(
        tmp_path / "a.hdf5",
        observations=observations,
        actions=np.zeros((rows, 8), dtype=np.float32),
        terminals=np.zeros(rows, dtype=bool),
        timeouts=timeouts,
    )
    arrays = d4rl.read(path)
    assert arrays.num_transitions == 999_000
    assert arrays.num_episodes == 1000
    np.testing.assert_array_equal(arrays.final_observations, observations[999::1000])
