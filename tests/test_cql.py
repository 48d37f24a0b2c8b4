from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.cql import METHOD, Agent, Config, conservative_difference
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from baselines.parts.conservatism import Penalty
from baselines.parts.soft_actor_critic import draw, policy_loss
from tests.continuous import (
    as_double,
    assert_gradient,
    data_of,
    gradient,
    moved,
    random_batch,
    snapshot,
)
from tests.soft_actor_critic_reference import terms
from tests.toy import point

SMALL = {"critic_sizes": (8, 8), "policy_sizes": (8,), "samples": 3, "orthogonal": False}
B = 8


def make(**changes):
    return Agent([Config(**{**SMALL, **changes})], data_of(), [0])


def test_difference_by_hand():
    q, log_densities = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[math.log(0.5), 0.0]]])
    diff = conservative_difference(q, log_densities, torch.tensor([[[0.5]]]))
    assert diff.item() == pytest.approx(math.log(2 * math.e + math.e**2) - 0.5)


def test_with_uniform_actions_the_sum_estimates_the_integral():
    """log ∫ exp Q over [-1, 1]² of a linear Q is known; the estimate carries log K."""
    generator = torch.Generator().manual_seed(0)
    count = 200_000
    actions = 2.0 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1.0
    q = (actions @ torch.tensor([1.0, -2.0], dtype=torch.float64))[None, None, None]
    density = torch.full((1, 1, count), -2.0 * math.log(2.0), dtype=torch.float64)
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    estimate = conservative_difference(q, density, zero).item() - math.log(count)
    exact = math.log(2.0 * math.sinh(1.0)) + math.log(math.sinh(2.0))
    assert estimate == pytest.approx(exact, abs=0.01)


def test_policy_loss_by_hand():
    values = torch.tensor([[[1.0, 5.0]], [[2.0, 3.0]]])
    loss = policy_loss(values, torch.tensor([[0.5, -1.0]]), torch.tensor([2.0]))
    assert loss.tolist() == [((1.0 - 1.0) + (-2.0 - 3.0)) / 2]


def test_losses_gradients_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 1, 3, 4), (1, 3, 4), (2, 1, 3)]
    numbers = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    assert torch.autograd.gradcheck(conservative_difference, tuple(numbers))
    log_density, alpha = numbers[1][..., 0], torch.tensor([0.3], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v, d: policy_loss(v, d, alpha), (numbers[2], log_density.detach().requires_grad_())
    )


def reference(agent, batch, config, theta, phi):
    """The critics' and the policy's loss in float64, written once more."""
    found = terms(agent, batch, config, theta, phi)
    critic_loss = sum(found.td)
    for policy_term, q_data in zip(found.policy_term, found.q_data, strict=True):
        diff = policy_term - q_data
        if config.diff_min is not None:
            diff = diff.clamp(min=config.diff_min)
        gap = 0.0 if config.gap is None else config.gap
        critic_loss = critic_loss + config.penalty * (diff.mean() - gap)
    return critic_loss, found.policy_loss


@pytest.mark.parametrize(
    "changes",
    [{}, {"max_backup": True, "discount": 0.5}, {"gap": 0.7, "penalty": 2.0}, {"diff_min": 3.2}],
    ids=["plain", "max backup", "constrained", "clipped"],
)
def test_the_updates_gradients_are_those_of_the_paper(changes):
    agent, batch = make(**changes), random_batch()
    agent.critics.target.mul_(1.5)  # targets that differ from the critics
    theta, phi = as_double(agent.critics.parameters), as_double(agent.learner.policy.parameters)
    config = Config(**{**SMALL, **changes})
    critic_loss, loss = reference(agent, batch, config, theta[:, 0], phi[0])
    before = snapshot(agent)
    metrics = agent.update(batch)
    assert metrics["loss"].item() == pytest.approx(critic_loss.item(), rel=1e-4)
    assert metrics["policy_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert_gradient(agent.critics.optimiser, gradient(critic_loss, theta))
    assert_gradient(agent.learner.policy.optimiser, gradient(loss, phi))
    constraint = {"constraint.logarithm"} if config.gap is not None else set()
    assert moved(agent, before) == constraint | {
        "critics.parameters",
        "critics.target",
        "policy.parameters",
        "alpha.logarithm",
    }


def test_the_best_action_is_that_of_the_smaller_values():
    """The minimum over critics comes first, then the maximum over actions; it matters here."""
    agent, batch = make(max_backup=True, samples=10), random_batch()
    target = agent.critics.target
    target.copy_(torch.randn(target.shape, generator=torch.Generator().manual_seed(0)))
    candidates = agent.learner.draw(batch).candidates
    next_q = agent.critics.target_values(batch.next_observations, candidates.actions)
    best, swapped = next_q.amin(0).amax(-1), next_q.amax(-1).amin(0)
    assert (swapped > best + 0.1)[~batch.terminations].any()
    expected = batch.rewards + 0.99 * ~batch.terminations * best
    torch.testing.assert_close(agent.learner.targets(batch, candidates), expected)


def test_a_multiplier_rises_with_the_mean_over_critics():
    """Neither with the smaller difference, as of the first member, nor with the larger one."""
    penalty = Penalty([Config(gap=0.2, critic_rate=1e-2)] * 2, torch.device("cpu"))
    diff = torch.tensor([[1.0, -1.0], [0.0, 0.4]])  # (E, P)
    penalty.ascend(diff, torch.ones(2, dtype=torch.bool))
    assert penalty.constraint.value().tolist() == pytest.approx([math.exp(0.01), math.exp(-0.01)])


def test_multipliers_move_towards_their_constraints():
    """α falls while the entropy is above the target; α' rises while diff is above the gap."""
    for gap, rises in ((-5.0, True), (50.0, False)):
        agent = make(gap=gap, critic_rate=1e-2, policy_rate=1e-2)
        for seed in range(5):
            metrics = agent.update(random_batch(seed=seed))
        assert metrics["entropy"].item() > -2.0
        assert agent.learner.alpha.value().item() < 1.0
        assert (agent.penalty.constraint.value().item() > 1.0) == rises


def test_samples_have_the_densities_of_the_policy():
    agent, batch = make(), random_batch()
    noise = torch.randn(1, 4, B, 2, generator=torch.Generator().manual_seed(0))
    heads = agent.learner.heads(batch.observations)
    samples = draw(heads, noise)
    assert samples.actions.shape == (1, B, 4, 2)
    single = draw(heads, noise[:, 2:3])
    torch.testing.assert_close(samples.actions[:, :, 2:3], single.actions)
    torch.testing.assert_close(samples.log_densities[:, :, 2:3], single.log_densities)


def test_signs():
    """A large penalty pushes the policy's and random actions down against the data's."""
    agent, batch = make(penalty=1e3, critic_rate=1e-2), random_batch()
    before = agent.update(batch)["difference"]
    for _ in range(30):
        after = agent.update(batch)["difference"]
    assert after < before - 0.2


def test_the_antmazes_settings():
    config = METHOD.config_for(point(family="antmaze").spec)
    assert (config.gap, config.max_backup, config.diff_min) == (0.8, True, -200.0)
    assert (config.reward_scale, config.reward_shift) == (10.0, -5.0)


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """600 steps with a multiplier, 2 seeds: scores above 65, that of the data is 52."""
    config = Config(
        critic_sizes=(32, 32),
        policy_sizes=(32, 32),
        batch_size=64,
        policy_rate=1e-3,
        samples=4,
        gap=1.0,
        max_backup=True,
    )
    group = [Member(point(), config, seed) for seed in range(2)]
    trainer = Trainer(METHOD, group, "cpu")
    trainer.advance(600)
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 600, 20)
        assert member.dataset.spec.normalized_score(record.returns).mean() > 65.0
        assert np.isfinite(record.returns).all()
