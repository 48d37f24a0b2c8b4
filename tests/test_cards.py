from __future__ import annotations

import json
import math

import numpy as np
import pytest

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.cards import manifest_card
from hetero_bench.markdown_tables import text_histogram
from hetero_bench.provenance import Provenance
from hetero_bench.summaries import state_coverage
from tests.helpers import CART_POLE, dataset_of, random_arrays

REFERENCE = {"random": 1.0, "expert": 11.0, "source": "computed exactly"}


@pytest.fixture
def arrays():
    """Two episodes with returns 6 and 1, lengths 3 and 1."""
    return EpisodeArrays(
        observations=np.zeros((4, 2), dtype=np.float32),
        actions=np.array([0, 2, 2, 0]),
        rewards=np.array([1, 2, 3, 1], dtype=np.float32),
        terminations=np.array([False, False, True, False]),
        truncations=np.array([False, False, False, True]),
        episode_ids=np.array([0, 0, 0, 1], dtype=np.int32),
        final_observations=np.ones((2, 2), dtype=np.float32),
        extras={
            "behaviour_probabilities": np.array(
                [[1, 0, 0], [0, 0, 1], [0.5, 0, 0.5], [0, 1, 0]], dtype=np.float32
            )
        },
        notes={"rows_in_file": 6, "dropped_rows": 2},
    )


def test_statistics_are_those_of_the_data(arrays):
    facts = dataset_of(arrays, reference=REFERENCE).statistics()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["transitions"], facts["episodes"]) == (4, 2)
    assert (facts["terminations"], facts["truncations"]) == (1, 1)
    assert facts["returns"] == {
        "mean": 3.5, "std": 2.5, "min": 1.0, "q25": 2.25, "median": 3.5, "q75": 4.75, "max": 6.0,
    }  # fmt: skip
    assert facts["lengths"]["mean"] == 2
    assert facts["rewards"]["std"] == pytest.approx(np.std([1, 2, 3, 1]))
    assert facts["normalized_scores"]["mean"] == pytest.approx(25.0)
    assert facts["actions"] == {"counts": [2, 0, 2], "frequencies": [0.5, 0.0, 0.5]}
    entropy = facts["behaviour_entropy"]
    assert entropy["max"] == pytest.approx(math.log(2))
    assert entropy["mean"] == pytest.approx(math.log(2) / 4)
    assert entropy["deterministic"] == 0.75
    assert entropy["uniform"] == pytest.approx(math.log(3))
    assert facts["notes"] == {"rows_in_file": 6, "dropped_rows": 2}
    drawn = dataset_of(arrays).subset(3).statistics()
    assert (drawn["notes"], drawn["parent_notes"]) == ({}, facts["notes"])


def test_actions_never_taken_are_counted_too(arrays):
    dataset = dataset_of(arrays, action={"shape": [], "dtype": "int64", "n": 5})
    assert dataset.statistics()["actions"]["counts"] == [2, 0, 2, 0, 0]


def test_continuous_actions_are_summarised_per_dimension():
    arrays = random_arrays([40, 60], num_actions=None, extras=False)
    facts = dataset_of(arrays).statistics()
    for name, function in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
        expected = function(arrays.actions.astype(np.float64), axis=0)
        np.testing.assert_allclose(facts["actions"][name], expected)
    assert "behaviour_entropy" not in facts
    assert "normalized_scores" not in facts


def test_histograms_are_lines_of_text(arrays):
    assert text_histogram([0.0, 0.5, 12.25], [0, 80]).splitlines() == [
        "```text",
        "    0 to   0.5 0",
        f"  0.5 to 12.25 {'█' * 40} 80",
        "```",
    ]
    assert text_histogram([0, 1, 2], [1, 1000]).splitlines()[1:3] == [
        "0 to 1 █ 1",
        f"1 to 2 {'█' * 40} 1,000",
    ]
    facts = dataset_of(arrays).statistics()
    assert facts["return_histogram"]["counts"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert facts["return_histogram"]["edges"][::10] == [1.0, 6.0]


def test_coverage_is_that_of_the_principal_components():
    """Two dimensions that say the same, one of its own, one that never varies."""
    first, second = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
    found = state_coverage(np.stack([first, 2 * first, second, 7 + 0 * first], axis=1))
    assert found["dimensions"] == 3
    np.testing.assert_allclose(found["shares"], [2 / 3, 1 / 3, 0], atol=1e-12)
    assert found["for_90_percent"] == found["for_99_percent"] == 2
    assert found["total_variance"] == pytest.approx(1 + 4 + 1)
    assert state_coverage(np.ones((4, 2)))["dimensions"] == 0


def test_entries_near_their_bounds_are_counted():
    arrays = random_arrays([2], num_actions=None, action_size=2, extras=False)
    arrays.actions[:] = [[1.99, 0], [-2, 1.9]]
    dataset = dataset_of(arrays, action={"shape": [2], "dtype": "float32", "low": -2, "high": 2})
    assert dataset.statistics()["actions"]["near_bounds"] == 0.5
    assert "50.0% of all entries lie within 1% of their bounds" in dataset.card()


def test_the_card_says_what_a_user_needs(arrays):
    text = dataset_of(
        arrays,
        reference=REFERENCE,
        environment={**CART_POLE, "kwargs": {"sutton_barto_reward": True}},
        rewards={"semantics": "+1 at | the goal", "shift": -1.0},
    ).card()
    for expected in (
        "# toy-v0\n\nRandom numbers.",
        "| Transitions | 4 |",
        "| Rewards | +1 at \\| the goal |",
        "| Conventional transform | reward - 1 |",
        "`CartPole-v1`, at most 500 steps, 100 evaluation episodes",
        "| `sutton_barto_reward` | `true` |",
        "| Return of an episode | 3.5 | 2.5 | 1 | 2.25 | 3.5 | 4.75 | 6 |",
        "| Normalised score, % | 25 |",
        "| 2 | 2 | 50.00% |",
        "deterministic in 75.0% of the rows",
        "| rows in file | 6 |\n| dropped rows | 2 |",
        "| 100: expert | 11 |",
        "Source: computed exactly",
        "Licence: MIT\n\nNobody (2024).",
        "toy.hdf5",
        "| Status | unpinned |",
    ):
        assert expected in text


def test_a_drawn_and_rebuilt_dataset_says_so(arrays):
    dataset = dataset_of(arrays)
    drawn = dataset.subset(3, draw=2)
    object.__setattr__(
        drawn,
        "provenance",
        Provenance(
            status="rebuilt",
            source="subset",
            digest="a" * 64,
            expected_digest="b" * 64,
            parent=dataset.provenance,
            made_at="now",
        ),
    )
    text = drawn.card()
    assert text.startswith("# toy-v0 (size 3, draw 2)")
    assert "## Notes\n" not in text
    assert "## Notes on the dataset it was drawn from\n\n|  |  |\n| --- | --- |\n| rows in" in text
    assert "3 transitions of `toy`, whole trajectories drawn without replacement" in text
    assert "| Status | rebuilt |" in text
    assert f"| Digest in the registry | `{'b' * 64}` |" in text
    assert f"| Parent | unpinned, digest `{dataset.provenance.digest}` |" in text


def test_a_manifest_has_a_card_without_data(arrays):
    spec = dataset_of(
        arrays,
        sources=[{"kind": "build"}],
        environment=CART_POLE,
        recipe={"name": "maze", "version": 3, "seed": 7, "parameters": {"rooms": [1, 2]}},
        observation={"shape": [4], "dtype": "float32"},
        action={"shape": [1], "dtype": "float32", "low": -2, "high": 2},
    ).spec
    text = manifest_card(spec)
    assert "recipe `maze` (version 3) with seed 7.\n\n| Parameter | Value |" in text
    assert "| `rooms` | `[1, 2]` |" in text
    assert "| Transitions | – |" in text
    assert "| Actions | 1 float32 in [-2, 2] |" in text
    assert "Statistics" not in text


@pytest.mark.slow
def test_memory_mapped_rows_give_the_statistics_of_those_in_memory(tmp_path):
    arrays = random_arrays([1000] * 200, num_actions=None, observation_shape=(3,))
    mapped = {}
    for name, array in arrays.named():
        np.save(tmp_path / f"{name}.npy", array)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    dataset = dataset_of(EpisodeArrays.from_named(mapped, {}))
    assert dataset.statistics() == dataset_of(arrays).statistics()
