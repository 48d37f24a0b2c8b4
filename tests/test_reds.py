"""The equations of CQL (ReDS) for continuous actions; its updates are in test_reds_update.py."""

from __future__ import annotations

import math

import pytest
import torch

from baselines.cql import conservative_difference
from baselines.engine.random import MemberRandom
from baselines.parts.conservatism import log_sum_exp
from baselines.parts.critics import squared_error
from baselines.parts.reweighting import bad_action_weights, support_difference
from baselines.parts.soft_actor_critic import draw
from baselines.reds import (
    METHOD,
    Agent,
    Config,
    policy_advantages,
    rho_loss,
)
from tests.continuous import data_of, random_batch
from tests.toy import point

DOUBLE = torch.float64


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=DOUBLE)


# Eq. 7: which actions are bad, and ρ


def test_advantages_are_of_the_smaller_value():
    q_data = torch.tensor([[[1.0, 5.0]], [[2.0, 3.0]]])
    q_policy = torch.tensor([[[4.0, 0.0]], [[3.0, 1.0]]])
    assert policy_advantages(q_data, q_policy).tolist() == [[1.0 - 3.0, 3.0 - 0.0]]


def test_rho_loss_by_hand():
    """One transition at the mean and one off it, weighted 2 and ½."""
    mean, log_std = torch.tensor([[[0.3], [0.3]]]), torch.tensor([[[-1.0], [0.5]]])
    actions = torch.tensor([[[math.tanh(0.3)], [math.tanh(1.3)]]])
    loss = rho_loss((mean, log_std), actions, torch.tensor([[2.0, 0.5]]))
    first = 1.0 - math.log(math.sqrt(2 * math.pi)) - math.log(1 - math.tanh(0.3) ** 2)
    second = -0.5 - math.log(math.sqrt(2 * math.pi)) - math.log(1 - math.tanh(1.3) ** 2)
    second -= 0.5 * math.exp(-1.0)
    assert loss.item() == pytest.approx(-(2.0 * first + 0.5 * second) / 2, rel=1e-5)


def test_the_fitted_rho_is_the_reweighted_data():
    """The best Gaussian has the weighted mean and standard deviation of the data before tanh."""
    u, weights = randn(1, 50, 2), bad_action_weights(randn(1, 50, seed=1), torch.tensor([0.7]))
    share = (weights / weights.sum()).unsqueeze(-1)
    mean = (share * u).sum(1, keepdim=True)
    std = (share * (u - mean).square()).sum(1, keepdim=True).sqrt()
    heads = [each.requires_grad_() for each in (mean.clone(), std.log())]
    loss = rho_loss((heads[0].expand(1, 50, 2), heads[1].expand(1, 50, 2)), u.tanh(), weights)
    for gradient in torch.autograd.grad(loss.sum(), heads):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_actions_at_their_bounds_count_as_almost_there():
    heads, ones = (torch.zeros(1, 1, 2), torch.full((1, 1, 2), -5.0)), torch.ones(1, 1)
    at_bounds, almost, inside = (
        rho_loss(heads, scale * torch.tensor([[[1.0, -1.0]]]), ones) for scale in (1.0, 0.999, 0.99)
    )
    assert at_bounds.isfinite().all()
    torch.testing.assert_close(at_bounds, almost)
    assert at_bounds > inside


# Eq. 8: the penalty


def test_penalty_by_hand():
    """Two samples of π, two of ρ, in one state."""
    policy_term = log_sum_exp(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[0.0, -1.0]]]))
    rho_term = log_sum_exp(torch.tensor([[[[0.0, 3.0]]]]), torch.tensor([[[0.5, 0.0]]]))
    diff = support_difference(policy_term, rho_term, torch.tensor([[[0.7]]]))
    first, second = math.log(math.e + math.e**3), math.log(math.exp(-0.5) + math.e**3)
    assert diff.item() == pytest.approx(0.5 * (first + second) - 0.7)


@pytest.mark.parametrize("rho_term", ["lse", "mean"])
def test_gradients_of_the_penalty_against_finite_differences(rho_term):
    q, q_rho, q_data = randn(2, 1, 3, 4), randn(2, 1, 3, 5, seed=1), randn(2, 1, 3, seed=2)
    densities, densities_rho = randn(1, 3, 4, seed=3), randn(1, 3, 5, seed=4)

    def penalty(q, q_rho, q_data):
        of_rho = log_sum_exp(q_rho, densities_rho) if rho_term == "lse" else q_rho.mean(-1)
        return support_difference(log_sum_exp(q, densities), of_rho, q_data)

    assert torch.autograd.gradcheck(penalty, [x.requires_grad_() for x in (q, q_rho, q_data)])


def test_gradients_of_rhos_loss_against_finite_differences():
    heads, actions = [randn(1, 3, 2, seed=seed) for seed in (1, 2)], randn(1, 3, 2).tanh()
    weights = randn(1, 3).exp()
    assert torch.autograd.gradcheck(
        lambda *heads: rho_loss(heads, actions, weights), [x.requires_grad_() for x in heads]
    )


def tabular(q, actions, counts):
    """Values, in one state with several rows, of all actions and of an exact sample of ρ."""
    rows = q.expand(1, 1, len(actions), len(q))
    sample = torch.repeat_interleave(torch.arange(len(q)), counts)
    return rows, rows[..., sample], rows[0, 0].gather(-1, actions[:, None]).T[None]


def test_rho_equal_to_the_behaviour_policy_halves_cqls_gradient():
    """``mean``, with the batch for the behaviour policy: Lemma 4.3."""
    actions, counts = torch.tensor([0, 0, 1, 3, 3, 3]), torch.tensor([2, 1, 0, 3])
    q, densities = randn(4).requires_grad_(), torch.zeros(1, 6, 4, dtype=DOUBLE)
    values, q_rho, q_data = tabular(q, actions, counts)
    reds = support_difference(log_sum_exp(values, densities), q_rho.mean(-1), q_data).mean()
    plain = conservative_difference(values, densities, q_data).mean()
    ours, theirs = (torch.autograd.grad(each, q, retain_graph=True)[0] for each in (reds, plain))
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs / 2)


def test_tabular_minimiser_is_equation_10():
    """Q = y - α (π + ρ - 2β) / 2β, with α half of the code's weight and π the softmax of Q."""
    weight, counts = 0.4, torch.tensor([6, 3, 1])
    actions = torch.repeat_interleave(torch.arange(3), counts)
    behaviour, rho_counts = counts / 10.0, torch.tensor([2, 1, 5])
    backups = torch.tensor([0.0, 1.0, 0.4], dtype=DOUBLE)
    q = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    optimiser = torch.optim.LBFGS([q], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        values, q_rho, q_data = tabular(q, actions, rho_counts)
        policy_term = log_sum_exp(values, torch.zeros(1, 10, 3, dtype=DOUBLE))
        diff = support_difference(policy_term, q_rho.mean(-1), q_data)
        loss = squared_error(q_data, backups[actions][None]).sum() + weight * diff.mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    pushed_down = q.softmax(-1) + rho_counts / 8.0
    expected = backups - 0.5 * weight * (pushed_down - 2 * behaviour) / (2 * behaviour)
    torch.testing.assert_close(q.detach(), expected.detach(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.4, 0.2)])
def test_log_sum_exp_of_many_samples_is_the_integral_whatever_rho_is(mean, log_std):
    """log ∫ exp Q over [-1, 1]² of a linear Q is known; the estimate carries log K."""
    count, slope = 400_000, torch.tensor([1.0, -2.0], dtype=DOUBLE)
    heads = torch.full((1, 1, 2), mean, dtype=DOUBLE), torch.full((1, 1, 2), log_std, dtype=DOUBLE)
    samples = draw(heads, randn(1, count, 1, 2))
    estimate = log_sum_exp(samples.actions @ slope, samples.log_densities).item()
    exact = math.log(2.0 * math.sinh(1.0)) + math.log(math.sinh(2.0))
    assert estimate - math.log(count) == pytest.approx(exact, abs=0.02)
    uncorrected = torch.logsumexp(samples.actions @ slope, -1).item() - math.log(count)
    assert abs(uncorrected - exact) > 0.5


@pytest.mark.parametrize("size", [2, 8])
def test_the_printed_random_term_is_wrong_by_what_is_stated(size):
    """It subtracts the density ½^d of uniform actions; with its logarithm log ∫ exp Q comes out."""
    count, Q = 1000, 0.3
    q = torch.full((1, 1, 1, count), Q, dtype=DOUBLE)
    corrected = torch.full((1, 1, count), -size * math.log(2.0), dtype=DOUBLE)
    printed = torch.full((1, 1, count), 0.5**size, dtype=DOUBLE)
    exact = Q + size * math.log(2.0)
    assert log_sum_exp(q, corrected).item() - math.log(count) == pytest.approx(exact)
    error = log_sum_exp(q, corrected) - log_sum_exp(q, printed)
    assert error.item() == pytest.approx(size * math.log(2.0) + 0.5**size)


def test_uniform_proposals_have_the_logarithm_of_their_density():
    """And lie in [-1, 1]; K of them, as of the two others."""
    agent = Agent([Config(samples=5, critic_sizes=(8,), policy_sizes=(8,))], data_of(), [0])
    uniform, at_s, at_next = agent.learner.draw(random_batch()).proposals
    assert (uniform.log_densities == -2 * math.log(2.0)).all()
    expected = 2.0 * MemberRandom([0], "uniform actions").uniform(8, 5, 2) - 1.0
    assert torch.equal(uniform.actions, expected)
    assert at_s.actions.shape == at_next.actions.shape == (1, 8, 5, 2)
    assert not torch.equal(at_s.actions, at_next.actions)


def test_the_papers_settings():
    """Figure 10 and appendix F.1 for the AntMaze; CQL's elsewhere."""
    config = METHOD.config_for(point(family="antmaze").spec)
    assert (config.gap, config.max_backup, config.samples, config.tau) == (0.8, True, 10, 0.3)
    assert (config.critic_sizes, config.policy_sizes) == ((256,) * 4, (256,) * 2)
    assert (config.reward_scale, config.reward_shift) == (10.0, -5.0)
    assert METHOD.config_for(point(family="locomotion").spec) == Config()
    assert METHOD.config_for(point(family="adroit").spec).penalty == 1.0
    assert (METHOD.name, METHOD.actions) == ("reds", "continuous")


@pytest.mark.parametrize("change", [{"tau": 0.0}, {"rho_term": "none"}, {"rho_rate": 0.0}])
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Config(**change)
