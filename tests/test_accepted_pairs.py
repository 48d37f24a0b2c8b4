from __future__ import annotations

from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.engine.data import MemberData
from baselines.engine.random import MemberRandom
from baselines.parts.accepted_pairs import AcceptedPairs
from tests.toy import point

BATCH = 4
LONG, SHORT = point("long", episodes=2, seed=1), point("short", episodes=1, seed=2)
DATA = MemberData([SHORT, LONG, SHORT])
FIRST = DATA.offsets.tolist()


class ListsOfPairs:
    """The rings in plain Python."""

    def __init__(self, capacities):
        self.rings = [deque(maxlen=capacity) for capacity in capacities]

    def append(self, rows, actions, accepted):
        for member, ring in enumerate(self.rings):
            for pair in zip(*(x[member].tolist() for x in (rows, actions, accepted)), strict=True):
                if pair[-1]:
                    ring.append((pair[0], tuple(pair[1])))


def proposals(accepted, number):
    """A batch of random rows and actions, of which the given ones are accepted."""
    generator = torch.Generator().manual_seed(number)
    draws = torch.rand(len(FIRST), BATCH, generator=generator)
    rows = (draws * DATA.sizes[:, None]).long() + DATA.offsets[:, None]
    actions = torch.rand(len(FIRST), BATCH, 2, generator=generator) * 2 - 1
    return rows, actions, torch.tensor(accepted).view(len(FIRST), BATCH)


def contents(ring, member):
    """The pairs in a member's ring, in the order of their places."""
    size = int(ring.sizes[member])
    rows = (ring.rows[member, :size] + FIRST[member]).tolist()
    return list(zip(rows, map(tuple, ring.actions[member, :size].tolist()), strict=True))


batches_of_marks = st.lists(
    st.lists(st.booleans(), min_size=3 * BATCH, max_size=3 * BATCH), max_size=8
)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*3 * [st.integers(BATCH, 9)]), batches_of_marks)
def test_it_holds_what_rings_in_plain_python_hold(capacities, batches):
    ours, theirs = AcceptedPairs(DATA, capacities, BATCH), ListsOfPairs(capacities)
    for number, marks in enumerate(batches):
        batch = proposals(marks, number)
        ours.append(*batch)
        theirs.append(*batch)
    for member, capacity in enumerate(capacities):
        ring = theirs.rings[member]
        assert int(ours.sizes[member]) == len(ring)
        oldest = int(ours.accepted[member]) % capacity if len(ring) == capacity else 0
        places = contents(ours, member)
        assert places[oldest:] + places[:oldest] == list(ring)


def test_a_ring_has_to_hold_a_batch():
    with pytest.raises(ValueError, match="a ring of 3 accepted pairs does not hold one batch of 4"):
        AcceptedPairs(DATA, [8, 3, 8], BATCH)


def test_without_accepted_pairs_the_union_is_the_dataset():
    ring = AcceptedPairs(DATA, [8, 8, 8], BATCH)
    ring.append(*proposals([False] * 12, 0))
    pairs = ring.sample_union(MemberRandom([0, 1, 2], "union"), 500)
    assert not pairs.from_ring.any()
    # The same numbers as those of an ordinary batch.
    batch = DATA.sample(MemberRandom([0, 1, 2], "union"), 500)
    assert torch.equal(pairs.observations, batch.observations)
    assert torch.equal(pairs.actions, batch.actions)


def test_every_pair_of_the_union_is_as_likely():
    ring = AcceptedPairs(DATA, [30, 30, 30], BATCH)
    marks = [True] * 4 + [True, False, True, False] + [False] * 4
    for number in range(5):
        ring.append(*proposals(marks, number))
    assert ring.sizes.tolist() == [20, 10, 0]
    draws = 40_000
    pairs = ring.sample_union(MemberRandom([3, 4, 5], "union"), draws)
    observations = DATA.rows.observations
    for member in range(3):
        first, size = FIRST[member], int(DATA.sizes[member])
        known = [
            (row, tuple(DATA.rows.actions[row].tolist())) for row in range(first, first + size)
        ]
        known += contents(ring, member)
        number_of = {
            (*observations[row].tolist(), *action): k for k, (row, action) in enumerate(known)
        }
        drawn = torch.cat([pairs.observations[member], pairs.actions[member]], -1).tolist()
        counts = torch.bincount(
            torch.tensor([number_of[tuple(each)] for each in drawn]), minlength=len(known)
        ).double()
        expected = draws / len(known)
        assert len(number_of) == len(known)
        # Chi squared: mean n - 1, variance 2 (n - 1).
        statistic = float(((counts - expected) ** 2 / expected).sum())
        freedom = len(known) - 1
        assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5
        assert pairs.from_ring[member].sum() == counts[size:].sum()


def test_its_state_is_live():
    ring = AcceptedPairs(DATA, [8, 8, 8], BATCH)
    saved = {name: tensor.clone() for name, tensor in ring.state_dict().items()}
    ring.append(*proposals([True] * 12, 0))
    for name, tensor in ring.state_dict().items():
        assert not torch.equal(tensor, saved[name]), name
        tensor.copy_(saved[name])
    assert not ring.actions.any()
    assert ring.sizes.tolist() == [0, 0, 0]
