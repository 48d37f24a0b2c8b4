from __future__ import annotations

import math

import pytest
import torch

from baselines import cql_discrete as cql
from baselines.parts.discrete import boltzmann, soft_maximum, taken, weighted_likelihood_loss
from baselines.parts.reweighting import bad_action_weights
from baselines.parts.soft_q import td_loss
from baselines.reds_discrete import (
    policy_advantages,
    rho_log_sum_exp,
    rho_mean,
    support_penalty,
)

FORMS = pytest.mark.parametrize("rho_term", ["mean", "lse", "data"])
DOUBLE = torch.float64


def random_case(seed=0, batch=3, actions=4):
    """Action values, actions, log ρ, uniform numbers and temperatures of two members."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(2, batch, actions, generator=generator, dtype=DOUBLE)
    taken_actions = torch.randint(actions, (2, batch), generator=generator)
    log_rho = torch.randn(2, batch, actions, generator=generator, dtype=DOUBLE).log_softmax(-1)
    uniform = torch.rand(2, batch, 5, generator=generator, dtype=DOUBLE)
    return q, taken_actions, log_rho, uniform, torch.tensor([0.3, 2.0], dtype=DOUBLE)


# Eq. 6 and 7: which actions are bad, and how much they weigh


def test_advantages_and_weights_of_two_samples_by_hand():
    # π of (0, log 3) at T = 1 is (1/4, 3/4), so E_π[Q] = 3/4 log 3.
    q = torch.tensor([[[0.0, math.log(3)], [2.0, 2.0]]])
    advantages = policy_advantages(q, torch.tensor([[0, 1]]), torch.tensor([1.0]))
    assert advantages[0].tolist() == pytest.approx([-0.75 * math.log(3), 0.0], abs=1e-6)
    weights = bad_action_weights(advantages, torch.tensor([0.5]))
    assert weights[0].tolist() == pytest.approx([3**1.5, 1.0], rel=1e-6)  # bad actions weigh more


def test_weights_are_decreasing_and_clipped():
    advantages = torch.linspace(-50, 50, 101)[None]
    weights = bad_action_weights(advantages, torch.tensor([2.0]))
    assert (weights.diff() <= 0).all()
    assert weights.max().item() == pytest.approx(math.exp(5))  # Eq. 52, not the listing's e^10
    assert weights.min().item() == pytest.approx(math.exp(-10))
    assert weights[0, 50] == 1.0


def test_weights_become_one_at_high_temperature():
    weights = bad_action_weights(torch.randn(1, 50), torch.tensor([1e6]))
    torch.testing.assert_close(weights, torch.ones(1, 50), atol=1e-5, rtol=0)


def test_a_tabular_rho_is_the_behaviour_policy_reweighted():
    actions = torch.tensor([[0, 0, 0, 0, 1, 1, 2]])
    q = torch.tensor([0.5, 0.0, -0.2], dtype=DOUBLE)
    rows, temperature = q.expand(1, 7, 3), torch.tensor([0.5], dtype=DOUBLE)
    weights = bad_action_weights(policy_advantages(rows, actions, temperature), temperature)
    optimum = torch.zeros(3, dtype=DOUBLE).index_add(0, actions[0], weights[0])
    logits = (optimum / optimum.sum()).log().requires_grad_()
    loss = weighted_likelihood_loss(logits.expand(1, 7, 3), actions, weights)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=DOUBLE), rtol=0, atol=1e-12)
    behaviour = torch.tensor([4.0, 2.0, 1.0], dtype=DOUBLE) / 7
    g = torch.exp(-(q - (boltzmann(rows[:, :1], temperature)[0, 0] * q).sum()) / 0.5)
    torch.testing.assert_close(optimum / optimum.sum(), behaviour * g / (behaviour * g).sum())


# Eq. 8: the forms of E_ρ[Q], and the penalty


def test_penalty_of_two_samples_by_hand():
    # T log Σ exp(Q/T) of (0, 0) is T log 2, of (0, T log 3) it is T log 4.
    T = 0.5
    q = torch.tensor([[[0.0, 0.0], [0.0, T * math.log(3)]]])
    rho = torch.tensor([[[0.1, 0.9], [0.8, 0.2]]])
    values = rho_mean(q, rho.log())
    assert values[0].tolist() == pytest.approx([0.0, 0.2 * T * math.log(3)])
    penalty = support_penalty(q, torch.tensor([[0, 1]]), torch.tensor([T]), values)
    first = 0.5 * (T * math.log(2) + 0.0) - 0.0
    second = 0.5 * (T * math.log(4) + 0.2 * T * math.log(3)) - T * math.log(3)
    assert penalty.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_log_sum_exp_of_two_samples_by_hand():
    # Samples 1 and 0 of ρ = (1/4, 3/4): T log ½ (e^(1/T) / ¾ + e^0 / ¼).
    T, q, rho = 0.5, torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.25, 0.75]]])
    uniform = torch.tensor([[[0.9, 0.1]]])
    by_hand = T * math.log((math.exp(1 / T) / 0.75 + 1 / 0.25) / 2)
    estimate = rho_log_sum_exp(q, rho.log(), torch.tensor([T]), uniform)
    assert estimate.item() == pytest.approx(by_hand, rel=1e-6)


def test_log_sum_exp_of_one_sample_has_the_gradient_of_the_mean():
    q, _, log_rho, _, temperature = random_case()
    q.requires_grad_()
    total = 0.0
    grid = (torch.arange(20_000, dtype=DOUBLE) + 0.5) / 20_000
    for part in grid.split(100):  # 100 batches of one sample each, side by side
        uniform = part.repeat(3).view(1, -1, 1).expand(2, -1, 1)
        repeated = [each.repeat_interleave(100, 1) for each in (q, log_rho)]
        values = rho_log_sum_exp(*repeated, temperature, uniform)
        total = total + torch.autograd.grad(values.sum() / 20_000, q)[0]
    torch.testing.assert_close(total, log_rho.exp(), atol=1e-4, rtol=0)


def test_log_sum_exp_of_many_samples_is_cqls_whatever_rho_is():
    q, _, log_rho, _, temperature = random_case()
    grid = ((torch.arange(20_000, dtype=DOUBLE) + 0.5) / 20_000).expand(2, 3, -1)
    estimate = rho_log_sum_exp(q, log_rho, temperature, grid)
    torch.testing.assert_close(estimate, soft_maximum(q, temperature), atol=1e-3, rtol=0)
    without_correction = temperature[:, None] * (
        (log_rho + q / temperature[:, None, None]).logsumexp(-1)
    )
    assert ((estimate - without_correction).abs() > 0.01).all()


@FORMS
def test_gradients_against_finite_differences(rho_term):
    q, actions, log_rho, uniform, temperature = random_case(1)
    tau = torch.tensor([0.5, 3.0], dtype=DOUBLE)
    targets = torch.randn(2, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    weights = bad_action_weights(policy_advantages(q, actions, temperature), tau)

    def loss(q):
        rho_values = {
            "mean": lambda: rho_mean(q, log_rho),
            "lse": lambda: rho_log_sum_exp(q, log_rho, temperature, uniform),
            "data": lambda: weights * taken(q, actions),
        }[rho_term]()
        penalty = support_penalty(q, actions, temperature, rho_values)
        return td_loss(taken(q, actions), targets) + 0.7 * penalty

    assert torch.autograd.gradcheck(loss, (q.requires_grad_(),))


def test_penalty_gradient_is_half_policy_and_half_rho_minus_data():
    """Eq. 8's gradient with π and ρ held fixed."""
    q, actions, log_rho, _, temperature = random_case()
    q.requires_grad_()
    penalty = support_penalty(q, actions, temperature, rho_mean(q, log_rho))
    (gradient,) = torch.autograd.grad(penalty.sum(), q)
    pushed_down = (boltzmann(q, temperature) + log_rho.exp()) / 2
    expected = (pushed_down - torch.nn.functional.one_hot(actions, 4)) / 3
    torch.testing.assert_close(gradient, expected.detach())


def test_rho_equal_to_the_behaviour_policy_halves_cqls_gradient():
    """The behaviour policy here is that of the batch: one state, several rows."""
    _, _, _, _, temperature = random_case()
    actions = torch.tensor([[0, 0, 1, 3, 3, 3]]).expand(2, -1)
    behaviour = torch.nn.functional.one_hot(actions, 4).double().mean(1)
    q = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    q.requires_grad_()
    rows = q[:, None].expand(-1, 6, -1)
    reds = support_penalty(rows, actions, temperature, (behaviour[:, None] * rows).sum(-1))
    ours = torch.autograd.grad(reds.sum(), q)[0]
    theirs = torch.autograd.grad(cql.conservative_penalty(rows, actions, temperature).sum(), q)[0]
    torch.testing.assert_close(ours, theirs / 2)


@pytest.mark.parametrize("normalised", [True, False], ids=["mean", "data"])
def test_tabular_minimiser_is_equation_10(normalised):
    """Q = target - α (π + ρ - 2β) / 2β, with ρ = β·g, normalised or not, held fixed."""
    alpha, temperature = 0.2, torch.tensor([0.5], dtype=DOUBLE)
    counts = torch.tensor([6, 3, 1])
    actions = torch.repeat_interleave(torch.arange(3), counts)[None]
    behaviour = counts.double() / counts.sum()
    backups = torch.tensor([0.0, 1.0, 0.4], dtype=DOUBLE)
    before = torch.tensor([0.3, 0.9, -0.1], dtype=DOUBLE).expand(1, 10, 3)
    advantages = policy_advantages(before, actions, temperature)
    g = bad_action_weights(advantages, torch.tensor([0.4], dtype=DOUBLE))
    rho = torch.zeros(3, dtype=DOUBLE).index_add(0, actions[0], g[0]) / 10
    assert rho.sum() > 1.1
    if normalised:
        rho = rho / rho.sum()
    q = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    optimiser = torch.optim.LBFGS([q], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        rows = q.expand(1, 10, 3)
        rho_values = rho_mean(rows, rho.log()) if normalised else g * taken(rows, actions)
        penalty = support_penalty(rows, actions, temperature, rho_values)
        loss = td_loss(taken(rows, actions), backups[actions]) + alpha * penalty
        loss.sum().backward()
        return loss.sum()

    optimiser.step(closure)
    policy = boltzmann(q[None, None], temperature)[0, 0]
    expected = backups - alpha * (policy + rho - 2 * behaviour) / (2 * behaviour)
    torch.testing.assert_close(q.detach(), expected.detach(), rtol=0, atol=1e-8)
