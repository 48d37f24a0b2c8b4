from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_array, digest_arrays


def episodes_of(lengths, terminated=None, dims=2) -> EpisodeArrays:
    """Episodes in which observation row t of episode e is (e, t): successors can be read off."""
    terminated = [False] * len(lengths) if terminated is None else terminated
    rows = [(e, t) for e, length in enumerate(lengths) for t in range(length)]
    observations = np.zeros((len(rows), dims), dtype=np.float32)
    observations[:, :2] = rows
    finals = np.zeros((len(lengths), dims), dtype=np.float32)
    finals[:, :2] = list(enumerate(lengths))
    last = np.array([t == lengths[e] - 1 for e, t in rows])
    ended = np.array([terminated[e] for e, _ in rows])
    return EpisodeArrays(
        observations=observations,
        actions=np.arange(len(rows), dtype=np.int64) % 5,
        rewards=np.arange(len(rows), dtype=np.float32),
        terminations=last & ended,
        truncations=last & ~ended,
        episode_ids=np.array([e for e, _ in rows], dtype=np.int32),
        final_observations=finals,
        extras={"row": np.arange(len(rows), dtype=np.int64)},
    )


def test_next_observations_are_true_successors_at_both_kinds_of_ends():
    arrays = episodes_of([3, 1, 2], terminated=[True, False, False])
    expected = [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2)]
    np.testing.assert_array_equal(arrays.next_observations(), expected)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_taking_episodes_keeps_successors_and_marks_the_cut(lengths, data):
    arrays = episodes_of(lengths, terminated=[True] * len(lengths))
    order = np.array(data.draw(st.permutations(range(len(lengths)))))
    size = data.draw(st.integers(1, sum(lengths)))
    subset, rows = arrays.take_episodes(order, size)
    subset.validate()
    assert subset.num_transitions == size
    np.testing.assert_array_equal(subset.extras["row"], rows)
    np.testing.assert_array_equal(subset.next_observations(), arrays.next_observations()[rows])
    np.testing.assert_array_equal(subset.terminations, arrays.terminations[rows])
    cut = not arrays.terminations[rows[-1]]
    assert subset.truncations.sum() == int(cut)
    assert subset.truncations[-1] == cut
    drawn_episodes = subset.observations[:, 0].astype(int)
    np.testing.assert_array_equal(order[subset.episode_ids], drawn_episodes)


def test_taking_more_rows_than_there_are_is_refused():
    with pytest.raises(ValueError, match="cannot take 7 rows from 6"):
        episodes_of([3, 3]).take_episodes(np.array([0, 1]), 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.zeros(4, np.float32)}, "rewards has 4 rows; expected 5"),
        ({"terminations": np.zeros(5, np.float32)}, "terminations has dtype float32"),
        ({"rewards": np.zeros((5, 1), np.float32)}, r"rewards has shape \(5, 1\)"),
        ({"rewards": np.zeros(5, np.int64)}, "rewards has dtype int64; expected floating"),
        ({"truncations": np.zeros((5, 1), bool)}, r"truncations has shape \(5, 1\)"),
        ({"episode_ids": np.array([0, 0, 0, 2, 2], np.int32)}, "without gaps"),
        ({"episode_ids": np.array([1, 1, 1, 2, 2], np.int32)}, "start at 0"),
        ({"final_observations": np.zeros((3, 2), np.float32)}, "expected one per episode, 2"),
        ({"final_observations": np.zeros((2, 3), np.float32)}, "have shape"),
        ({"truncations": np.zeros(5, bool)}, "row 2: an episode's last row"),
        ({"truncations": np.array([1, 0, 1, 0, 1], bool)}, "row 0: an episode's last row"),
        ({"rewards": np.array([0, 1, np.nan, 0, 0], np.float32)}, "not finite in row 2"),
    ],
)
def test_validation_names_array_and_row(change, message):
    arrays = episodes_of([3, 2])
    arrays.validate()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(arrays, **change).validate()


def test_digest_is_of_name_dtype_shape_and_little_endian_bytes():
    array = np.array([[1, 2]], dtype="<i4")
    header = b'["a", "<i4", [1, 2]]'
    expected = hashlib.sha256(header + bytes([1, 0, 0, 0, 2, 0, 0, 0])).hexdigest()
    assert digest_array("a", array) == expected
    assert digest_array("a", array.astype(">i4")) == expected
    for other in (array.reshape(2, 1), array.astype("<i8"), array + 1):
        assert digest_array("a", other) != expected
    assert digest_array("b", array) != expected


def test_dataset_digest_covers_every_array_but_not_the_notes():
    arrays = episodes_of([3, 2])
    digest = dataset_digest(digest_arrays(arrays))
    assert digest == dataset_digest(digest_arrays(dataclasses.replace(arrays, notes={"a": 1})))
    for name, array in arrays.named():
        changed = array.copy()
        changed.reshape(-1)[0] = changed.reshape(-1)[0] == 0
        named = {**dict(arrays.named()), name: changed}
        other = EpisodeArrays.from_named(named, {})
        assert dataset_digest(digest_arrays(other)) != digest, name
