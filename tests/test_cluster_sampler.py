from __future__ import annotations

import pytest
import torch

from baselines.engine.checkpoint import flatten, restore
from baselines.engine.random import MemberRandom
from baselines.parts.cluster_sampler import WORD, ClusterSampler, thresholds

ALL = slice(None)


def sampler_of(responsibilities, pool=None, first_row=100):
    members, rows, clusters = responsibilities.shape
    sampler = ClusterSampler(range(members), clusters, pool or rows, torch.device("cpu"))
    numbers = first_row + torch.arange(rows).expand(members, -1)
    sampler.write(ALL, numbers, responsibilities, torch.zeros(members, dtype=torch.bool))
    return sampler


def some_responsibilities(members=2, rows=7, clusters=3):
    generator = torch.Generator().manual_seed(0)
    return (2.0 * torch.randn(members, rows, clusters, generator=generator)).softmax(-1)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000, 9_999, 50_000])
def test_equal_weights_draw_what_a_uniform_batch_draws(count):
    words = MemberRandom([3], "batches").bits(20_000) >> 32 & (WORD - 1)
    edges = torch.arange(1, count).mul(WORD).div(count, rounding_mode="floor")
    words = torch.cat([words.flatten(), edges, edges + 1])  # where rounding would show
    table = thresholds(torch.ones(count, dtype=torch.float64))
    assert torch.equal(torch.searchsorted(table, words, right=True), words * count >> 32)
    assert table[-1] == WORD


def test_thresholds_are_shares_of_words():
    table = thresholds(torch.tensor([0.0, 1.0, 0.0, 2.0, 1.0, 0.0]).double())
    assert (table / WORD).tolist() == [0.0, 0.25, 0.25, 0.75, 1.0, 1.0]
    assert thresholds(torch.zeros(3).double()).tolist() == [0, 0, 0]


def test_one_cluster_over_everything_gives_the_rows_of_uniform_batches():
    sampler = sampler_of(torch.ones(2, 321, 1))
    sizes = torch.tensor([321, 321])
    ours, theirs = MemberRandom([5, 6], "batches"), MemberRandom([5, 6], "batches")
    for _ in range(5):
        assert torch.equal(sampler.draw(ours, 64), 100 + theirs.integers(sizes, 64))
    assert torch.equal(ours.counter, theirs.counter)


def test_every_transition_is_drawn_equally_often():
    """The marginal Σ_z p_z r_iz / N_z is 1/n: from the tables exactly, and as drawn."""
    r = some_responsibilities()
    sampler = sampler_of(r)
    clusters = sampler._clusters.diff(prepend=torch.zeros(2, 1, dtype=torch.int64), dim=-1) / WORD
    starts = torch.arange(3).view(1, 3, 1) * WORD
    entries = sampler._entries.view(2, 3, 7) - starts
    within = entries.diff(prepend=torch.zeros(2, 3, 1, dtype=torch.int64), dim=-1) / WORD
    torch.testing.assert_close(clusters, r.sum(1) / 7, rtol=0, atol=1e-7)
    marginal = (clusters.unsqueeze(-1) * within).sum(1)
    torch.testing.assert_close(marginal, torch.full((2, 7), 1 / 7), rtol=0, atol=1e-7)

    random = MemberRandom([0, 1], "batches")
    drawn = torch.cat([sampler.draw(random, 8) for _ in range(5_000)], dim=-1)
    for member in range(2):
        shares = torch.bincount(drawn[member] - 100, minlength=7) / drawn.shape[1]
        torch.testing.assert_close(shares, torch.full((7,), 1 / 7), rtol=0, atol=0.01)


def test_a_batch_is_of_one_cluster():
    """With hard clusters of rows 0-2, 3-9 and 10-11; each as often as it has rows."""
    labels = torch.tensor([0] * 3 + [1] * 7 + [2] * 2)
    sampler = sampler_of(torch.eye(3)[labels].unsqueeze(0))
    random, count = MemberRandom([0], "batches"), torch.zeros(3)
    for _ in range(3_000):
        found = set(labels[sampler.draw(random, 16)[0] - 100].tolist())
        assert len(found) == 1
        count[found.pop()] += 1
    torch.testing.assert_close(count / 3_000, torch.tensor([3, 7, 2]) / 12, rtol=0, atol=0.03)


def test_clusters_and_rows_without_weight_are_never_drawn():
    r = some_responsibilities()
    r[0, :, 1] = 0.0
    r[:, 4:] = 0.0
    sampler = sampler_of(r, pool=20)
    random = MemberRandom([0, 1], "batches")
    drawn = torch.cat([sampler.draw(random, 32) for _ in range(200)], dim=-1)
    assert sorted(set(drawn.flatten().tolist())) == [100, 101, 102, 103]


def test_members_that_keep_their_tables_keep_every_bit():
    sampler = sampler_of(some_responsibilities())
    before = {name: tensor.clone() for name, tensor in flatten(sampler.state_dict())}
    spoilt = torch.full((2, 7, 3), torch.nan)
    spoilt[1] = some_responsibilities(1)[0]
    sampler.write(ALL, torch.zeros(2, 7).long(), spoilt, torch.tensor([True, False]))
    for name in ("rows", "clusters", "entries"):
        after = dict(flatten(sampler.state_dict()))[name]
        assert torch.equal(after[0], before[name][0]), name
        assert not torch.equal(after[1], before[name][1]), name


def test_tables_may_be_written_for_some_members_only():
    r = some_responsibilities(members=3)
    together, apart = sampler_of(r), ClusterSampler(range(3), 3, 7, torch.device("cpu"))
    rows = 100 + torch.arange(7).expand(1, -1)
    for member in range(3):
        group = slice(member, member + 1)
        apart.write(group, rows, r[group], torch.zeros(1, dtype=torch.bool))
    for (name, ours), (_, theirs) in zip(
        flatten(together.state_dict()), flatten(apart.state_dict()), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_before_anything_is_written_there_is_row_0():
    sampler = ClusterSampler([0, 1], 3, 5, torch.device("cpu"))
    assert (sampler.draw(MemberRandom([0, 1], "batches"), 50) == 0).all()


def test_the_state_determines_all_further_draws():
    first, second = (
        sampler_of(some_responsibilities()),
        sampler_of(some_responsibilities()[:, :, [1, 2, 0]]),
    )
    random = MemberRandom([0, 1], "batches")
    first.draw(random, 3)
    restore(second.state_dict(), dict(flatten(first.state_dict())))
    draws = []
    for sampler in (first, second):
        random = MemberRandom([7, 8], "batches")
        draws.append([sampler.draw(random, 5) for _ in range(10)])
    assert all(torch.equal(one, other) for one, other in zip(*draws, strict=True))
