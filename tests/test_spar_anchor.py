"""SPAR's stage I: the base policy, the critics, and what they say of the dataset."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.engine.precision import MatmulPrecision
from baselines.parts.gaussian import LARGEST_ACTION
from baselines.parts.residual_rectifiers import Phase
from tests.continuous import as_double, assert_gradient, gradient, moved, plain, snapshot
from tests.spar_cases import DATA, FIRST, GUIDE, SMALL, batch_of, critic_values, make, opened, seen
from tests.toy import point


def test_stage_ones_gradients_are_those_of_the_paper():
    taus = (0.5, 0.9)
    agent = make(*(replace(SMALL, expectile=tau) for tau in taus))
    anchor, batch = agent.anchor, batch_of(agent)
    anchor.critics.target.mul_(1.5)  # targets that differ from the critics
    policy, value, critics = (
        as_double(each)
        for each in (anchor.policy.parameters, anchor.value, anchor.critics.parameters)
    )
    losses = [0.0, 0.0, 0.0]
    for p, tau in enumerate(taus):
        s, a, r, s2, ends = (each[p].double() for each in batch[:5])
        inputs = torch.cat([s, a], -1)
        network = anchor.critics.network
        q_bar = [plain(network, anchor.critics.target[e, p], inputs).squeeze(-1) for e in (0, 1)]
        u = torch.minimum(*q_bar) - plain(anchor.value_network, value[p], s).squeeze(-1)
        y = r + 0.99 * (1 - ends) * plain(anchor.value_network, value[p], s2).squeeze(-1).detach()
        losses[0] += ((plain(anchor.policy.network, policy[p], s).tanh() - a) ** 2).mean()
        losses[1] += ((tau - (u < 0).double()).abs() * u**2).mean()
        for e in range(6):
            losses[2] += ((plain(network, critics[e, p], inputs).squeeze(-1) - y) ** 2).mean()
    before = snapshot(agent)
    metrics = agent.update(batch, Phase(1))
    assert moved(agent, before) == {
        "anchor.policy.parameters",
        "anchor.value",
        "anchor.critics.parameters",
        "anchor.critics.target",
    }
    optimisers = (anchor.policy.optimiser, anchor.value_optimiser, anchor.critics.optimiser)
    for optimiser, loss, theta in zip(optimisers, losses, (policy, value, critics), strict=True):
        assert_gradient(optimiser, gradient(loss, theta))
    assert metrics["critic_loss"].sum().item() == pytest.approx(losses[2].item(), rel=1e-4)


def test_algorithm_1_backs_up_the_base_policys_values():
    tau, config = 0.8, replace(SMALL, backup="base", expectile=0.8)
    agent = make(config)
    anchor, batch = agent.anchor, batch_of(agent)
    anchor.critics.target.mul_(1.5)
    critics, loss, network = as_double(anchor.critics.parameters), 0.0, anchor.critics.network
    s, a, r, s2, ends = (each[0].double() for each in batch[:5])
    next_action = plain(anchor.policy.network, anchor.policy.parameters[0].detach(), s2).tanh()
    inputs = torch.cat([s2, next_action], -1)
    q2 = [plain(network, each[0], inputs).squeeze(-1) for each in anchor.critics.target]
    y = r + 0.99 * (1 - ends) * sum(q2) / 6
    for each in critics:
        u = y - plain(network, each[0], torch.cat([s, a], -1)).squeeze(-1)
        loss = loss + ((tau - (u < 0).double()).abs() * u**2).mean()
    before = snapshot(agent)
    agent.update(batch, Phase(1))
    assert_gradient(anchor.critics.optimiser, gradient(loss, critics))
    assert "anchor.value" not in moved(agent, before)


def test_v_may_regress_on_the_mean_of_the_critics_for_data():
    least, mean = make(), make(replace(SMALL, aggregate="mean"))
    batch = batch_of(least)
    q = least.anchor.critics.target_values(batch.observations, batch.actions)[:3].mean(0)
    values = least.anchor.values(batch.observations)
    expected = 0.5 * (q - values).square().mean(-1)
    losses = [each.update(batch, Phase(1))["value_loss"] for each in (least, mean)]
    torch.testing.assert_close(losses[1], expected.detach())
    assert losses[0] != losses[1]


def test_a_gaussian_base_policy_is_fitted_by_likelihood_and_anchors_at_its_mode():
    agent = make(replace(SMALL, base_policy="gaussian"))
    batch, policy = batch_of(agent), agent.anchor.policy
    outputs = plain(policy.network, policy.parameters[0].detach(), batch.observations[0])
    mean, log_std = outputs.chunk(2, -1)
    a = batch.actions[0].clamp(-LARGEST_ACTION, LARGEST_ACTION).double()
    density = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp()).log_prob(a.atanh())
    expected = -(density - (1 - a**2).log()).sum(-1).mean()
    base = agent.anchor.base_actions(batch.observations)
    torch.testing.assert_close(base[0].double(), mean.tanh(), rtol=1e-5, atol=1e-6)
    loss = agent.update(batch, Phase(1))["cloning_loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_critics_are_those_of_the_paper():
    subsets = make(replace(SMALL, critics=10, subset=4)).anchor.subsets
    assert subsets == (slice(0, 4), slice(3, 7), slice(6, 10))


def test_what_is_compared_is_judged_in_full_precision():
    agent = make()
    batch = batch_of(agent)
    judge = agent.rectifiers["proj-literal"].judge
    with MatmulPrecision("bf16", "cpu"):
        agent.update(batch, FIRST)
        rows = agent.rows.columns.clone()
        exact = judge.exactly(batch.observations, batch.actions)
        assert not torch.equal(exact, judge(batch.observations, batch.actions))
    assert torch.equal(exact, judge(batch.observations, batch.actions))
    agent.rows.fill(agent.anchor)
    assert torch.equal(rows, agent.rows.columns)


def test_long_gradients_are_shortened():
    agent = make(replace(SMALL, gradient_clip=1e-3))
    agent.update(batch_of(agent), Phase(1))
    for optimiser in (agent.anchor.policy.optimiser, agent.anchor.critics.optimiser):
        assert (10 * optimiser.first_moment).norm().item() == pytest.approx(1e-3, rel=1e-4)


def test_rows_are_judged_as_the_networks_say():
    """Two members on datasets of different sizes, rows at random."""
    datasets = [point("long", episodes=12), point("short", episodes=5, seed=3)]
    agent = opened(SMALL, SMALL, datasets=datasets)
    batch = batch_of(agent)
    said = agent.rows.take(agent.groups, batch.row)
    for p in (0, 1):
        states, base, residuals, _ = seen(agent, batch, p)
        q = {which: critic_values(agent, p, which, states, base) for which in (DATA, GUIDE)}
        of_data = critic_values(agent, p, DATA, states, residuals + base)
        expected = {"base_actions": base, "data_mean": of_data.mean(0)}
        expected["data_std"] = of_data.std(0, correction=0)
        for name, which in (("base", DATA), ("guide", GUIDE)):
            expected[f"{name}_mean"] = q[which].mean(0)
            expected[f"{name}_std"] = q[which].std(0, correction=0)
        for name, value in expected.items():
            ours = getattr(said, name)[p].double()
            torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-5, msg=name)
