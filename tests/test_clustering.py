from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import c4
from baselines.engine.checkpoint import flatten
from baselines.engine.data import MemberData
from baselines.engine.random import MemberRandom
from baselines.parts.cluster_sampler import WORD
from baselines.parts.clustering import Clustering, spread_rows
from baselines.parts.critics import Critics
from baselines.parts.cross_covariance import gradients
from baselines.parts.mixture import Mixture, expectation
from hetero_bench.arrays import EpisodeArrays
from hetero_bench.dataset import Dataset
from tests.toy import point

SETTINGS = {"hidden_sizes": (24, 16), "projection": 6, "cold_iterations": 10, "fit_size": 200}


def clustering_of(*changes, datasets=None, seeds=None):
    configs = [c4.TD3BCConfig(**{"pool": 5_000, **SETTINGS, **change}) for change in changes]
    datasets = datasets or [point(episodes=20)] * len(configs)
    seeds = seeds or list(range(len(configs)))
    data = MemberData(datasets)
    sizes, rate = configs[0].hidden_sizes, torch.full((len(configs),), 3e-4)
    critics = Critics(data, seeds, sizes, rate)
    critics.target.mul_(1.1)
    return Clustering(configs, data, seeds, critics), data, critics


def pool_weights(clustering):
    """(P, K, n) shares of the pool's transitions within each cluster, from the tables."""
    sampler = clustering.sampler
    clusters, pool = sampler._clusters.shape[1], sampler.rows.shape[1]
    starts = torch.arange(clusters).view(1, -1, 1) * WORD
    entries = sampler._entries.view(-1, clusters, pool) - starts
    return entries.diff(prepend=torch.zeros_like(entries[..., :1]), dim=-1) / WORD


def cluster_shares(clustering):
    table = clustering.sampler._clusters
    return table.diff(prepend=torch.zeros_like(table[:, :1]), dim=-1) / WORD


def tensors(clustering):
    return {name: tensor.clone() for name, tensor in flatten(clustering.state_dict())}


def test_rows_are_spread_evenly():
    uniforms = torch.rand(3, 10, generator=torch.Generator().manual_seed(0))
    rows, counted = spread_rows(torch.tensor([1_000_003, 10, 4]), 10, uniforms)
    assert (rows[0] // 100_001).tolist() == list(range(10))
    assert rows[1].tolist() == list(range(10))
    assert rows[2].tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert counted.tolist() == [[True] * 10, [True] * 10, [True] * 4 + [False] * 6]


def test_every_row_is_chosen_equally_often():
    uniforms = torch.rand(20_000, 4, generator=torch.Generator().manual_seed(0))
    rows, counted = spread_rows(torch.full((20_000,), 10), 4, uniforms)
    assert counted.all()
    shares = torch.bincount(rows.flatten(), minlength=10) / 20_000
    torch.testing.assert_close(shares, torch.full((10,), 0.4), rtol=0, atol=0.015)


@pytest.mark.parametrize("kind", ["feature", "exact"])
def test_tables_hold_the_mixtures_responsibilities(kind):
    """All of the E-step written once more, for a dataset smaller than pool and fit size."""
    clustering, data, critics = clustering_of({"gradient": kind, "fit_size": 5_000})
    clustering.refresh(critics, cold=True)
    rows = data.rows
    x = torch.cat([rows.observations, rows.actions], -1)[None]
    following = torch.cat([rows.next_observations, rows.next_actions], -1)[None]
    pairs = (
        gradients(critics.network, critics.target[0], following, kind),
        gradients(critics.network, critics.parameters[0], x, kind),
    )
    projected = [p(g) for p, g in zip(clustering._projections, pairs, strict=True)]
    r, _ = expectation(torch.cat(projected, -1).detach(), clustering._mixture)
    shares = r[0, rows.has_next].mean(0)
    there = rows.has_next.nonzero().flatten()
    torch.testing.assert_close(clustering.assign(critics, 0, there)[1], r[0, there])
    r = torch.where(rows.has_next[:, None], r[0], shares)
    torch.testing.assert_close(cluster_shares(clustering)[0], shares, rtol=0, atol=1e-5)
    weights = pool_weights(clustering)[0]
    torch.testing.assert_close(weights, (r / r.sum(0)).mT, rtol=0, atol=1e-5)
    assert len(shares[shares > 0.02]) > 1


def test_coverage_is_uniform_over_the_pool():
    clustering, data, critics = clustering_of({}, {"clusters": 2}, {"clusters": 1})
    for cold in (True, False):
        clustering.refresh(critics, cold=cold)
        marginal = (cluster_shares(clustering).unsqueeze(-1) * pool_weights(clustering)).sum(1)
        expected = torch.full_like(marginal, 1.0 / int(data.sizes[0]))
        torch.testing.assert_close(marginal, expected, rtol=0, atol=1e-6)
    assert (cluster_shares(clustering)[1, 2:] == 0.0).all()
    assert (cluster_shares(clustering)[2, 1:] == 0.0).all()


def test_metrics_are_those_of_the_clusters():
    clustering, _, critics = clustering_of({}, {"clusters": 1})
    metrics = clustering.refresh(critics, cold=True)
    shares = cluster_shares(clustering)[0].double()
    entropy = -(shares * shares.clamp_min(1e-30).log()).sum()
    assert metrics["effective_clusters"].tolist() == pytest.approx(
        [entropy.exp().item(), 1.0], 1e-3
    )
    assert metrics["occupied_clusters"].tolist() == [(shares > 0.01).sum().item(), 1.0]
    uniform, within = metrics["trace_uniform"], metrics["trace_cluster"]
    assert uniform[1].item() == pytest.approx(within[1].item(), rel=1e-5)
    assert uniform[0].item() > 1.2 * within[0].item() > 0.0
    assert (metrics["term_a"] * metrics["term_b"] >= uniform.square()).all()


def test_a_warm_fit_goes_on_from_the_one_before():
    settings = {"warm_iterations": 1, "cold_iterations": 60, "fit_size": 5_000}
    clustering, _, critics = clustering_of(settings)
    likelihoods = [clustering.refresh(critics, cold=True)["log_likelihood"].item()]
    before = cluster_shares(clustering)
    for _ in range(5):
        likelihoods.append(clustering.refresh(critics, cold=False)["log_likelihood"].item())
        assert (cluster_shares(clustering) - before).abs().max() < 0.02
    assert likelihoods == pytest.approx([likelihoods[0]] * 6, abs=0.1)


def test_a_pool_smaller_than_the_dataset_changes_from_refresh_to_refresh():
    clustering, data, critics = clustering_of({"pool": 100, "fit_size": 50})
    pools = []
    for number in range(2):
        clustering.refresh(critics, cold=number == 0)
        rows = clustering.sampler.rows[0]
        assert len(set(rows.tolist())) > 90
        assert rows.max() < data.sizes[0]
        pools.append(rows.clone())
    assert not torch.equal(*pools)


def test_a_member_whose_fit_fails_keeps_all_it_had():
    clustering, _, critics = clustering_of({}, {})
    clustering.refresh(critics, cold=True)
    before = tensors(clustering)
    with torch.no_grad():
        critics.parameters[0, 1] = torch.inf
        critics.parameters[0, 0] *= 1.1
    clustering.refresh(critics, cold=False)
    after, moved = tensors(clustering), set()
    for name, tensor in after.items():
        if tensor.dim() > 1:
            assert torch.equal(tensor[1], before[name][1]), name
            moved |= set() if torch.equal(tensor[0], before[name][0]) else {name}
    assert {"mixture.means", "current.basis", "sampler.entries"} <= moved
    assert all(tensor.isfinite().all() for tensor in clustering._mixture[1:])


def test_members_do_not_depend_on_each_other():
    """Neither on the others' numbers of clusters nor on their datasets' sizes."""
    datasets = [point(episodes=20), point("other", episodes=10, seed=3)]
    settings = {"pool": 250, "fit_size": 100}
    together, _, critics = clustering_of(
        {"clusters": 5, **settings},
        {"clusters": 2, **settings},
        datasets=datasets,
        seeds=[4, 5],
    )
    alone, _, own = clustering_of({"clusters": 2, **settings}, datasets=datasets[1:], seeds=[5])
    for cold in (True, False):
        ours, theirs = together.refresh(critics, cold=cold), alone.refresh(own, cold=cold)
    for name, values in theirs.items():
        torch.testing.assert_close(ours[name][1:], values, rtol=1e-4, atol=1e-5, msg=name)
    torch.testing.assert_close(
        pool_weights(together)[1, :2], pool_weights(alone)[0], rtol=0, atol=1e-5
    )


def test_members_are_the_same_together_as_one_by_one():
    """As on a GPU, where they are computed together."""
    datasets = [point(episodes=20), point("other", episodes=10, seed=3)]
    changes = {"clusters": 5, "pool": 600}, {"clusters": 2, "pool": 600}
    results = []
    for groups in ([slice(0, 1), slice(1, 2)], [slice(0, 2)]):
        clustering, _, critics = clustering_of(*changes, datasets=datasets)
        clustering._groups = groups
        for cold in (True, False):
            metrics = clustering.refresh(critics, cold=cold)
        results.append((metrics, pool_weights(clustering), cluster_shares(clustering)))
    for name, values in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], values, rtol=1e-3, atol=1e-4, msg=name)
    for ours, theirs in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_the_mixture_is_full():
    """Ω_z has cross covariances C_z: without them the likelihood is lower."""
    clustering, data, critics = clustering_of({})
    clustering.refresh(critics, cold=True)
    rows = data.rows
    pairs = [
        torch.cat([rows.next_observations, rows.next_actions], -1)[None],
        torch.cat([rows.observations, rows.actions], -1)[None],
    ]
    points = [
        projection(gradients(critics.network, parameters[0], x, "feature")).detach()
        for projection, parameters, x in zip(
            clustering._projections, (critics.target, critics.parameters), pairs, strict=True
        )
    ]
    mixture = clustering._mixture
    block = torch.block_diag(torch.ones(6, 6), torch.ones(6, 6))
    without = Mixture(mixture.log_weights, mixture.means, mixture.covariances * block)
    y = torch.cat(points, -1)[:, rows.has_next]
    assert expectation(y, mixture)[1].mean() > expectation(y, without)[1].mean() + 0.1


def test_clusters_outlive_a_drift_of_all_gradients():
    """To where the old mixture would see outliers only; transitions stay with their neighbours."""
    clustering, data, critics = clustering_of({"fit_size": 5_000, "warm_iterations": 2})
    before = clustering.refresh(critics, cold=True)["effective_clusters"]
    there = data.rows.has_next.nonzero().flatten()
    labels = clustering.assign(critics, 0, there)[1].argmax(-1)
    with torch.no_grad():
        critics.parameters *= 1.5
        critics.target *= 1.5
    after = clustering.refresh(critics, cold=False)["effective_clusters"]
    assert after > 0.9 * before > 2.0
    again = clustering.assign(critics, 0, there)[1].argmax(-1)
    assert (again == labels).float().mean() > 0.8


def test_what_is_carried_to_the_next_fit_are_the_transitions_own_responsibilities():
    clustering, data, critics = clustering_of({"pool": 300, "fit_size": 200})
    for cold in (True, False):
        clustering.refresh(critics, cold=cold)
        rows, carried = clustering._rows[0], clustering._responsibilities[0]
        there = data.rows.has_next[rows]
        expected = clustering.assign(critics, 0, rows)[1] * there.unsqueeze(-1)
        torch.testing.assert_close(carried, expected, rtol=0, atol=1e-4)
        assert set(rows.tolist()) <= set(clustering.sampler.rows[0].tolist())
        assert there.float().mean() > 0.9


def test_batches_are_uniform_until_a_fit_succeeds():
    """Without any next action none does, and a member beside it is not disturbed."""
    alone = point("alone", episodes=20)
    count = 40
    arrays = EpisodeArrays(
        observations=alone.arrays.observations[:count],
        actions=alone.arrays.actions[:count],
        rewards=alone.arrays.rewards[:count],
        terminations=np.ones(count, bool),
        truncations=np.zeros(count, bool),
        episode_ids=np.arange(count, dtype=np.int32),
        final_observations=alone.arrays.observations[1 : count + 1],
    )
    steps = Dataset(spec=alone.spec, arrays=arrays, provenance=alone.provenance)
    clustering, data, critics = clustering_of({}, {}, datasets=[steps, point(episodes=20)])
    for refreshed in (None, True, False):
        if refreshed is not None:
            metrics = clustering.refresh(critics, cold=refreshed)
            assert metrics["effective_clusters"].isfinite().tolist() == [False, True]
        ours, theirs = (MemberRandom([5, 6], "batches") for _ in range(2))
        drawn, uniform = clustering.sampler.draw(ours, 64), theirs.integers(data.sizes, 64)
        assert torch.equal(drawn[0], uniform[0])
        assert torch.equal(drawn[1], uniform[1]) == (refreshed is None)


def test_there_may_be_more_clusters_than_transitions():
    datasets = [point(episodes=20).subset(5)]
    clustering, _, critics = clustering_of({"clusters": 20}, datasets=datasets)
    for cold in (True, False):
        metrics = clustering.refresh(critics, cold=cold)
        assert 1.0 <= metrics["effective_clusters"].item() <= 5.0
        drawn = clustering.sampler.draw(MemberRandom([5], "batches"), 64)
        assert set(drawn.flatten().tolist()) <= set(range(5))
