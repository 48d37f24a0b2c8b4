from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines import c4, cql, iql, td3_bc
from baselines.engine import get_method, train
from baselines.engine.checkpoint import flatten, restore
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.cluster_sampler import WORD
from baselines.parts.cross_covariance import gradients, successive_inputs, traces
from baselines.parts.mixture import Mixture, expectation
from baselines.parts.td_residual import gradient_cosines
from tests.continuous import (
    applied_gradient,
    as_double,
    data_of,
    gradient,
    plain,
    random_batch,
)
from tests.toy import corridor_spec, point

SMALL = {"hidden_sizes": (12, 10), "batch_size": 16}
SMALL_CQL = {
    "critic_sizes": (12, 10),
    "policy_sizes": (12,),
    "batch_size": 16,
    "samples": 3,
    "orthogonal": False,  # the last layer would be so small that gradients were lost in rounding
}
PLUG_IN = {"refresh_interval": 7, "projection": 4, "cold_iterations": 4, "warm_iterations": 2}
CQL, TD3_BC, IQL = c4.METHODS
BACKBONES = {
    "cql": (cql, CQL, SMALL_CQL),
    "td3_bc": (td3_bc, TD3_BC, SMALL),
    "iql": (iql, IQL, SMALL),
}
DATASET = point(episodes=20)


def trainer_of(method, *configs, seeds=None, **options):
    seeds = range(len(configs)) if seeds is None else seeds
    group = [Member(DATASET, config, seed) for config, seed in zip(configs, seeds, strict=True)]
    return Trainer(method, group, "cpu", steps=100, **options)


def tensors(trainer):
    return {name: tensor.clone() for name, tensor in flatten(trainer.state_dict())}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_cluster_and_no_penalty_are_the_backbone_bit_for_bit(backbone):
    """Alone, where no penalty is computed, and beside a member with one."""
    module, method, small = BACKBONES[backbone]
    without = method.config(clusters=1, penalty_weight=0.0, **PLUG_IN, **small)
    reference = trainer_of(module.METHOD, *2 * [module.Config(**small)])
    alone = trainer_of(method, without, without)
    beside = trainer_of(method, without, replace(without, penalty_weight=0.5))
    for trainer in (reference, alone, beside):
        trainer.advance(31)
    expected, alone, beside = tensors(reference), tensors(alone), tensors(beside)
    for name, tensor in expected.items():
        assert torch.equal(alone[name], tensor), name
        if tensor.dim() > 0:
            axis = 0 if tensor.dim() < 3 else 1
            assert torch.equal(beside[name].select(axis, 0), tensor.select(axis, 0)), name
    name = "agent.critics.parameters"
    assert not torch.equal(beside[name][:, 1], expected[name][:, 1])


@pytest.mark.parametrize("change", [{"clusters": 2}, {"penalty_weight": 0.1}])
def test_clusters_alone_and_the_penalty_alone_make_a_difference(change):
    config = c4.TD3BCConfig(clusters=1, penalty_weight=0.0, **PLUG_IN, **SMALL)
    trainers = [trainer_of(TD3_BC, each) for each in (config, replace(config, **change))]
    for trainer in trainers:
        trainer.advance(3)
    parameters = [tensors(each)["agent.critics.parameters"] for each in trainers]
    assert not torch.equal(*parameters)


def covariance_penalty(network, theta, target, batch, member, kind, beta):
    """R of one member, the mean over its critics, written plainly in float64 with autograd."""
    total = 0.0
    has_next = batch.has_next[member]
    for e in range(len(theta)):
        rows = []
        for parameters, states, actions in (
            (target[e, member], batch.next_observations, batch.next_actions),
            (theta[e, member], batch.observations, batch.actions),
        ):
            x = torch.cat([states[member], actions[member]], -1).double().requires_grad_()
            if kind == "exact":
                values = plain(network, parameters, x).sum()
                (found,) = torch.autograd.grad(values, x, create_graph=True)
            else:
                found = x
                for layer in network.unpack(parameters.double())[:-1]:
                    found = torch.relu(found @ layer.weight[0] + layer.bias[0])
            found = found[has_next]
            rows.append(found - found.mean(0))
        covariance = rows[0].T @ rows[1] / len(rows[0])
        total = total + covariance.square().sum() + beta * covariance.trace() ** 2
    return total / len(theta)


@pytest.mark.parametrize("kind", ["feature", "exact"])
@pytest.mark.parametrize("next_network", ["target", "online"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_critics_gradient_is_that_of_equation_14(kind, next_network, backbone):
    """The backbone's own gradient, as tested elsewhere, plus λ ∇R; a turned sign would show."""
    module, method, small = BACKBONES[backbone]
    weights = (30.0, 7.0) if kind == "feature" else (3_000.0, 700.0)
    configs = [
        method.config(
            penalty_weight=w, trace_weight=0.5, gradient=kind, next_network=next_network, **small
        )
        for w in weights
    ]
    batch, data = random_batch(2), data_of(2)
    ours = method.agent(configs, data, [0, 1])
    theirs = module.Agent([module.Config(**small)] * 2, data, [0, 1])
    for agent in (ours.backbone, theirs):
        agent.critics.target.mul_(1.2)
    network, theta = ours.backbone.critics.network, as_double(ours.backbone.critics.parameters)
    target = theta if next_network == "online" else ours.backbone.critics.target.double()
    penalties = [
        covariance_penalty(network, theta, target, batch, member, kind, 0.5) for member in (0, 1)
    ]
    loss = sum(weight * each for weight, each in zip(weights, penalties, strict=True))
    metrics = ours.update(batch, "critics")
    theirs.update(batch, "critics") if backbone == "td3_bc" else theirs.update(batch)
    expected = gradient(loss, theta)
    added = applied_gradient(ours.backbone.critics.optimiser)
    added = added - applied_gradient(theirs.critics.optimiser)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(added, expected, rtol=1e-3, atol=2e-5 * expected.abs().max().item())
    values = torch.stack(penalties).float().detach()
    torch.testing.assert_close(metrics["cross_covariance"], values, rtol=1e-4, atol=1e-7)
    if backbone == "cql":
        td = metrics["td_loss"]
    else:
        td = metrics["loss" if backbone == "td3_bc" else "critic_loss"] - metrics["critic_penalty"]
    shares = metrics["critic_penalty"] / td
    torch.testing.assert_close(metrics["critic_penalty_share"], shares, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_its_penalty_the_features_of_the_actions_taken(backbone):
    module, _, small = BACKBONES[backbone]
    seen = []

    def penalty(critics, batch, next_actions, features):
        inputs = torch.cat([batch.observations, batch.actions], dim=-1)
        _, expected = critics.network.with_features(critics.parameters, inputs)
        torch.testing.assert_close(features, expected)
        slopes = (
            torch.autograd.grad(each.square().sum(), critics.parameters, retain_graph=True)[0]
            for each in (features, expected)
        )
        torch.testing.assert_close(*slopes)
        seen.append(features)
        return torch.zeros(2), {}

    agent = module.Agent([module.Config(**small)] * 2, data_of(2), [0, 1], critic_penalty=penalty)
    arguments = ("critics",) if backbone == "td3_bc" else ()
    agent.update(random_batch(2), *arguments)
    assert len(seen) == 1


@pytest.mark.parametrize("backbone", ["td3_bc", "iql"])
def test_the_critics_are_asked_once_for_the_td_error_and_the_penalty(backbone, monkeypatch):
    _, method, small = BACKBONES[backbone]
    agent = method.agent([method.config(**small)], data_of(1), [0])
    critics, passes = agent.backbone.critics, []
    ask = critics.network.with_features

    def counted(parameters, inputs, **options):
        passes.append(parameters is critics.parameters)
        return ask(parameters, inputs, **options)

    monkeypatch.setattr(critics.network, "with_features", counted)
    metrics = agent.update(random_batch(1), "critics")
    assert metrics["cross_covariance"] > 0.0
    assert passes.count(True) == 1


def test_the_penalty_lowers_the_cross_covariance():
    configs = [
        c4.TD3BCConfig(clusters=1, penalty_weight=w, learning_rate=1e-3, **PLUG_IN, **SMALL)
        for w in (0.0, 100.0)
    ]
    trainer = trainer_of(TD3_BC, *configs, seeds=[0, 0])
    trainer.advance(300)
    without, with_penalty = trainer.agent.clustering.refresh(
        trainer.agent.backbone.critics, cold=False
    )["trace_uniform"]
    assert with_penalty < 0.5 * without


def test_batches_are_of_the_clusters_of_the_last_refresh():
    trainer = trainer_of(TD3_BC, c4.TD3BCConfig(**PLUG_IN, **SMALL))
    trainer.advance(1)
    random = MemberRandom([3], "batches")
    again = MemberRandom([3], "batches")
    before = tensors(trainer)
    batch = trainer.agent.sample(random, 16)
    restore(trainer.state_dict(), before)
    rows = trainer.agent.clustering.sampler.draw(again, 16)
    assert torch.equal(batch.row, rows)
    assert torch.equal(batch.rewards, trainer.data.rows.rewards[rows])


def test_batches_are_of_the_members_own_datasets():
    config = c4.TD3BCConfig(**PLUG_IN, **SMALL)
    group = [
        Member(each, config, 0) for each in (DATASET, point("other", episodes=5), DATASET.subset(9))
    ]
    trainer = Trainer(TD3_BC, group, "cpu", steps=100)
    trainer.advance(10)
    first = trainer.data.offsets
    for _ in range(20):
        rows = trainer.agent.sample(trainer.batches, 16).row
        assert (rows >= first[:, None]).all()
        assert (rows < (first + trainer.data.sizes)[:, None]).all()


def test_members_may_differ_in_their_numbers_of_clusters():
    """A member of a sweep is as it would be alone."""
    configs = [c4.TD3BCConfig(clusters=k, **PLUG_IN, **SMALL) for k in (1, 2, 5)]
    together = trainer_of(TD3_BC, *configs)
    together.advance(1)
    for number, config in enumerate(configs):
        alone = trainer_of(TD3_BC, config, seeds=[number])
        alone.advance(1)
        ours, theirs = tensors(together), tensors(alone)
        place = "agent.clustering.sampler."
        assert torch.equal(ours[f"{place}rows"][number], theirs[f"{place}rows"][0])
        # Not the weights after more updates: where the tables round otherwise, a row of a batch is
        # another one.
        for name in ("clusters", "entries"):
            table = theirs[place + name][0]
            difference = (ours[place + name][number][: len(table)] - table).abs().max()
            assert difference / WORD < 1e-3
    together.advance(19)
    metrics = together.take_metrics()
    assert metrics["effective_clusters"][0] == 1.0
    assert metrics["effective_clusters"][1] <= 2.0 + 1e-6


def test_what_is_measured():
    trainer = trainer_of(CQL, c4.Config(**PLUG_IN, **SMALL_CQL))
    trainer.advance(8)
    metrics = trainer.take_metrics()
    names = {
        "trace_uniform",
        "trace_cluster",
        "term_a",
        "term_b",
        "cosine_variance",
        "cosine_mean",
        "effective_clusters",
        "occupied_clusters",
        "log_likelihood",
        "critic_penalty",
        "critic_penalty_share",
        "cross_covariance",
    }
    assert names <= metrics.keys()
    assert all(value is not None for name in names for value in metrics[name])


def test_the_measures_of_a_refresh_are_what_their_names_say():
    """Of all transitions, but for the cosines, which are of a uniform batch."""
    data = data_of(2)
    agent = TD3_BC.agent([c4.TD3BCConfig(**PLUG_IN, **SMALL)] * 2, data, [0, 1])
    backbone, clustering, critics = agent.backbone, agent.clustering, agent.backbone.critics
    critics.target.mul_(1.2)
    found = agent.refresh(0)
    uniform = data.sample(MemberRandom([0, 1], "uniform batches"), SMALL["batch_size"])
    discount = torch.full((2,), 0.99)
    cosines = gradient_cosines(critics, backbone.policy, uniform, discount)
    expected = dict(zip(("cosine_variance", "cosine_mean"), cosines, strict=True))
    for member in (0, 1):
        rows = torch.arange(int(data.sizes[member]))
        batch = data.take((rows + data.offsets[member])[None])
        there = batch.has_next[0].nonzero().flatten()
        following, current = (
            gradients(critics.network, parameters[0, member, None], x[:, there], "feature")
            for x, parameters in zip(
                successive_inputs(batch), (critics.target, critics.parameters), strict=True
            )
        )
        points, responsibilities = clustering.assign(critics, member, there)
        terms = traces(following, current, responsibilities[None])
        mixture = Mixture(*(each[member, None] for each in clustering._mixture))
        values = {
            "trace_uniform": terms.uniform,
            "trace_cluster": terms.within,
            "term_a": terms.following,
            "term_b": terms.current,
            "log_likelihood": expectation(points[None], mixture)[1].mean(-1),
        }
        for name, value in values.items():
            torch.testing.assert_close(found[name][member, None], value, rtol=1e-3, atol=1e-5)
        assert terms.following > 1.2 * terms.current
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert (expected["cosine_variance"] - expected["cosine_mean"]).abs().min() > 0.05


def test_cosines_are_those_of_the_three_gradients():
    agent = TD3_BC.agent([c4.TD3BCConfig(**SMALL)], data_of(1), [0])
    batch, critics = random_batch(1, rows=32), agent.backbone.critics
    theta = as_double(critics.parameters)[0, 0].detach().requires_grad_()
    states = batch.next_observations[0]
    actions = plain(
        agent.backbone.policy.network, agent.backbone.policy.parameters[0], states
    ).tanh()
    inputs = torch.cat([states.double(), actions], -1)
    following = [plain(critics.network, critics.target[e, 0], inputs) for e in (0, 1)]
    alive = 1.0 - batch.terminations[0].double()
    y = batch.rewards[0].double() + 0.99 * alive * torch.minimum(*following).squeeze(-1).detach()
    x = torch.cat([batch.observations[0], batch.actions[0]], -1)
    delta = y - plain(critics.network, theta, x).squeeze(-1)
    squares = [delta.square().mean(), delta.var(correction=0), delta.mean() ** 2]
    both, variance, mean = (
        torch.autograd.grad(each, theta, retain_graph=True)[0] for each in squares
    )
    expected = [torch.cosine_similarity(both, each, dim=0) for each in (variance, mean)]
    discount = torch.tensor([0.99])
    found = gradient_cosines(critics, agent.backbone.policy, batch, discount)
    torch.testing.assert_close(
        torch.cat(found).double(), torch.stack(expected), rtol=1e-4, atol=1e-5
    )


def test_measuring_does_not_change_what_is_trained(monkeypatch):
    config = c4.TD3BCConfig(**PLUG_IN, **SMALL)
    measured, unmeasured = (trainer_of(TD3_BC, config) for _ in range(2))
    measured.advance(10)
    nothing = (torch.zeros(1), torch.zeros(1))
    monkeypatch.setattr(c4, "gradient_cosines", lambda *arguments: nothing)
    unmeasured.advance(10)
    ours, theirs = tensors(measured), tensors(unmeasured)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_that_was_interrupted_goes_on_with_equal_bits(tmp_path):
    """Between two fits and in a fit's place; the records are equal, too."""
    config = c4.TD3BCConfig(**PLUG_IN, **SMALL)
    whole = trainer_of(TD3_BC, config)
    whole.advance(25)
    for stop in (10, 14):
        first, second = trainer_of(TD3_BC, config), trainer_of(TD3_BC, config, seeds=[9])
        first.advance(stop)
        restore(second.state_dict(), tensors(first))
        second.advance(25 - stop)
        ours, theirs = tensors(second), tensors(whole)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), stop


def test_it_trains_from_its_name_and_its_records_have_the_measures(tmp_path, capsys):
    assert get_method("c4") is CQL
    assert get_method("c4_td3_bc") is TD3_BC
    configs = [c4.TD3BCConfig(penalty_weight=w, **PLUG_IN, **SMALL) for w in (0.0, 0.1)]
    runs = train(
        "c4_td3_bc",
        [DATASET],
        [0],
        configs,
        steps=20,
        log_every=10,
        evaluation_episodes=2,
        out=tmp_path,
    )
    assert [run.config["penalty_weight"] for run in runs] == [0.0, 0.1]
    assert "of the time went into refreshing" in capsys.readouterr().err
    assert all(0.0 < run.budget.refresh_seconds < run.budget.wall_seconds for run in runs)
    assert [step for step, _ in runs[1].metrics["trace_cluster"]] == [10, 20]


def test_the_weight_of_the_penalty_is_by_the_datas_quality():
    def weight(name, family="locomotion", method=CQL):
        return method.config_for(corridor_spec(name, family=family)).penalty_weight

    expected = {
        "hopper-medium-hb-10k": 0.3,
        "hopper-medium-replay-hb-10k": 0.5,
        "hopper-full-replay-hb-10k": 0.5,
        "walker2d-medium-expert": 0.1,
        "ant-expert": 0.1,
        "hopper-random-hb-10k": 0.3,
    }
    for name, value in expected.items():
        assert weight(name) == weight(name, method=TD3_BC) == value, name
    maze = CQL.config_for(corridor_spec("antmaze-medium-noisy-10k", family="antmaze"))
    assert (maze.penalty_weight, maze.reward_scale, maze.gap) == (0.3, 10.0, 0.8)


def test_normalised_critics_have_no_exact_gradient_here():
    c4.TD3BCConfig(critic_norm="before")
    with pytest.raises(ValueError, match="critics are normalised; expected 'feature'"):
        c4.TD3BCConfig(critic_norm="before", gradient="exact")


def test_fits_are_never_within_a_sequence_of_updates(monkeypatch):
    """Every 7 updates, although ten are taken together where they can be."""
    config = c4.TD3BCConfig(**PLUG_IN, **SMALL)
    trainer = trainer_of(TD3_BC, config)
    events = []
    monkeypatch.setattr(trainer.agent, "refresh", lambda step: events.append(f"fit {step}") or {})
    monkeypatch.setattr(trainer, "_update", lambda phase: events.append("update"))
    trainer._metrics_of = {"critics": [], "critics and policy": []}
    for updates in (3, 10, 20):
        trainer.advance(updates)
    fits = [number for number, event in enumerate(events) if event.startswith("fit")]
    assert [events[number] for number in fits] == ["fit 0", "fit 7", "fit 14", "fit 21", "fit 28"]
    assert np.diff(fits).tolist() == [8, 8, 8, 8]
    assert len(events) == 33 + 5


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["td3_bc", "iql"])
def test_learns_to_reach_the_point(backbone):
    """1,500 steps, 2 seeds: at least as good as is asked of the backbones in their own tests."""
    _, method, _ = BACKBONES[backbone]
    config = method.config(hidden_sizes=(32, 32), batch_size=64, learning_rate=1e-3)
    group = [Member(point(), config, seed) for seed in range(2)]
    trainer = Trainer(method, group, "cpu", steps=1_500)
    trainer.advance(1_500)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1_500, 20)
        score = member.dataset.spec.normalized_score(record.returns).mean()
        assert score > 75.0
        assert np.mean(record.successes) >= 0.9
