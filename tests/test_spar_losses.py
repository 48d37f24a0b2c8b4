"""SPAR's equations, and the parts that it computes them with."""

from __future__ import annotations

import math

import pytest
import torch

from baselines.engine.random import MemberRandom
from baselines.parts.gradient_clipping import clipped
from baselines.parts.networks import MLP
from baselines.parts.repeated_inputs import with_repeated_context
from baselines.parts.residual_losses import (
    Weighting,
    imitation_loss,
    normalised_advantages,
    rectified,
    resampled,
    robust_values,
    weighted_distance,
)
from baselines.spar import SMALLEST_TEMPERATURE


def weighting(temperature=1.0, uniform=False, hard=False):
    return Weighting(torch.tensor([temperature]), torch.tensor([uniform]), torch.tensor([hard]))


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_robust_value_by_hand_falls_with_the_penalty():
    """Three members, of λ_u 0, 0.5 and 2: 3 - λ_u 0.5."""
    mean, std = torch.full((3, 1, 2), 3.0), torch.full((3, 1, 2), 0.5)
    values = robust_values(mean, std, torch.tensor([0.0, 0.5, 2.0]))
    assert values[:, 0].tolist() == [[3.0, 3.0], [2.75, 2.75], [2.0, 2.0]]


def test_advantages_by_hand_with_the_floor_of_the_deviation():
    base, std = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.5, 0.0]])
    values = torch.tensor([[2.0, 1.001]])
    assert normalised_advantages(values, base, std)[0].tolist() == pytest.approx([2, 1], rel=1e-3)
    several = torch.stack([values, 3 * values], -1)
    expected = [[2.0, 10.0], [1.0, 2003.0]]
    found = normalised_advantages(several, base, std)[0]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("uniform", "hard", "expected"),
    [
        (False, False, [math.exp(-2), 1.0, math.e, 100.0]),
        (False, True, [0.0, 0.0, math.e, 100.0]),
        (True, False, [1.0, 1.0, 1.0, 1.0]),
        (True, True, [0.0, 0.0, 1.0, 1.0]),
    ],
)
def test_the_four_regimes_of_weights_by_hand(uniform, hard, expected):
    advantages = torch.tensor([[-1.0, 0.0, 0.5, 50.0]])
    weights = weighting(0.5, uniform, hard).weights(advantages)
    assert weights[0].tolist() == pytest.approx(expected)


def test_soft_weights_at_an_infinite_temperature_are_one():
    assert torch.equal(weighting(1e30).weights(normal(1, 9).float()), torch.ones(1, 9))


def test_shares_sum_to_one_where_a_candidate_has_weight():
    advantages = torch.tensor([[[-1.0, 1.0, 2.0], [-1.0, -2.0, 0.0], [-900.0, -901.0, -950.0]]])
    hard, soft = (weighting(0.5, hard=each).shares(advantages)[0] for each in (True, False))
    e = math.exp
    assert hard[0].tolist() == pytest.approx([0, e(2) / (e(2) + e(4)), e(4) / (e(2) + e(4))])
    assert hard[1:].tolist() == [[0, 0, 0], [0, 0, 0]], "no candidate gains: the state is left out"
    torch.testing.assert_close(soft.sum(-1), torch.ones(3))
    torch.testing.assert_close(soft, (advantages[0] / 0.5).softmax(-1))


def test_weights_have_a_largest_and_shares_have_not():
    advantages = torch.tensor([[[5.0, 5.1, 0.0]]])
    assert weighting(0.1).weights(advantages)[0, 0].tolist() == [100.0, 100.0, 1.0]
    shares = weighting(0.1).shares(advantages)[0, 0]
    assert shares.tolist() == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e), 0.0])


@pytest.mark.parametrize("hard", [False, True])
def test_at_the_smallest_temperature_the_best_candidate_has_all_weight(hard):
    advantages = torch.tensor([[[5.0, 50.0, 0.0], [3.0, 3.0, -3.0]]])
    shares = weighting(SMALLEST_TEMPERATURE, hard=hard).shares(advantages)[0]
    assert shares.tolist() == [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]


def test_the_minimiser_of_the_guidance_is_the_convex_combination():
    """Proposition 3.3(i), for a prediction that is the same for all candidates."""
    targets, shares = normal(1, 1, 6, 3), normal(1, 1, 6).softmax(-1)
    best = (shares.unsqueeze(-1) * targets).sum(-2, keepdim=True).requires_grad_()
    loss = imitation_loss(best.expand_as(targets), targets, shares)
    assert torch.autograd.grad(loss.sum(), best)[0].abs().max() < 1e-15
    for seed in range(5):
        other = best.detach() + 0.1 * normal(1, 1, 1, 3, seed=seed)
        assert imitation_loss(other.expand_as(targets), targets, shares) > loss


def test_losses_by_hand():
    residuals = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    targets, weights = torch.zeros(1, 2, 2), torch.tensor([[4.0, 1.0]])
    assert weighted_distance(residuals, targets, weights).tolist() == [(4 * 0.5 + 1 * 2.0) / 2]
    shares = torch.tensor([[[0.25, 0.75]]])
    loss = imitation_loss(residuals.unsqueeze(1), torch.zeros(1, 1, 2, 2), shares)
    assert loss.tolist() == [0.25 * 0.5 + 0.75 * 2.0]


def test_gradients_against_finite_differences():
    residuals = normal(2, 3, 4, 2).requires_grad_()
    shares = normal(2, 3, 4, seed=1).softmax(-1)
    targets = normal(2, 3, 4, 2, seed=2)
    assert torch.autograd.gradcheck(lambda x: imitation_loss(x, targets, shares), residuals)
    one = residuals[:, :, 0].detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: weighted_distance(x, targets[:, :, 0], shares[:, :, 0]), one
    )


def test_resampling_draws_by_the_shares():
    targets = torch.arange(4.0).view(1, 1, 4, 1)
    shares = torch.tensor([[[0.5, 0.0, 0.25, 0.25]]])
    uniforms = torch.tensor([[[0.01, 0.49, 0.51, 0.99]]])
    assert resampled(targets, shares, uniforms).flatten().tolist() == [0.0, 0.0, 2.0, 3.0]
    many = (torch.arange(1000.0) + 0.5).view(1, 250, 4) / 1000
    drawn = resampled(
        targets.expand(1, 250, 4, 1), shares.expand(1, 250, 4), many.flip(1).contiguous()
    )
    assert [(drawn == k).sum().item() for k in range(4)] == [500, 0, 250, 250]


BASE = torch.tensor([[0.0, 0.0]])
CANDIDATES = torch.tensor([[[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]])


def decide(absolute, relative, values=(5.0, 5.4, 5.2), base=5.0):
    return rectified(
        BASE, CANDIDATES, torch.tensor([base]), torch.tensor([values]), absolute, relative
    )


@pytest.mark.parametrize(
    ("absolute", "relative", "accepted"),
    [
        (1e-4, 0.01, True),
        (0.3, 0.07, True),  # a gain of 0.4, of 8%
        (0.41, 0.01, False),
        (1e-4, 0.09, False),
        (math.inf, -math.inf, False),
        (-math.inf, math.inf, False),
        (-math.inf, -math.inf, True),
    ],
)
def test_the_gate_by_hand(absolute, relative, accepted):
    decision = decide(absolute, relative)
    assert decision.accepted.tolist() == [accepted]
    assert decision.gains.tolist() == pytest.approx([0.4])
    expected = CANDIDATES[0, 1] if accepted else BASE[0]
    assert torch.equal(decision.actions[0], expected)


def test_thresholds_at_infinity_give_the_base_action_or_the_best_candidate():
    never, always = (decide(each, each, (-9.0, -8.0, -7.0)) for each in (math.inf, -math.inf))
    assert torch.equal(never.actions, BASE)
    assert torch.equal(always.actions, CANDIDATES[:, 2]), "although it loses"
    assert decide(0.0, 0.0, (-9.0, -8.0, -7.0)).accepted.tolist() == [False]


def test_the_relative_gain_counts_the_size_of_a_negative_value():
    assert decide(1e-4, 0.01, (-10.0, -9.95, -9.95), base=-10.0).accepted.tolist() == [False]
    assert decide(1e-4, 0.01, (-10.0, -9.85, -9.95), base=-10.0).accepted.tolist() == [True]


@pytest.mark.parametrize("sizes", [(5, 8, 7, 3), (5, 2)])
@pytest.mark.parametrize("ensemble", [None, 3])
def test_repeated_contexts_are_those_of_the_whole_input(sizes, ensemble):
    network = MLP(sizes)
    theta = network.init(MemberRandom([1, 2], "x"), ensemble=ensemble)
    context, variables = normal(2, 6, 3).float(), normal(2, 6, 4, 2).float()
    whole = torch.cat([context.unsqueeze(-2).expand(-1, -1, 4, -1), variables], -1)
    expected = network(theta, whole.flatten(1, 2)).unflatten(-2, (6, 4))
    found = with_repeated_context(network, theta, context, variables)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(x.square().sum(), theta)[0] for x in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_repeated_contexts_refuse_normalisation():
    network = MLP((5, 8, 2), norm="before")
    with pytest.raises(ValueError, match="expected none"):
        with_repeated_context(
            network, torch.zeros(1, network.num_parameters), BASE[None], BASE[None, None]
        )


def test_gradients_are_shortened_by_their_length_over_all_critics():
    gradient = torch.tensor([[[3.0, 0.0], [0.1, 0.0]], [[0.0, 4.0], [0.0, 0.2]]])  # (E, P, n)
    short = clipped(gradient, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(short[:, 0], gradient[:, 0] / 5.0)
    assert torch.equal(short[:, 1], gradient[:, 1])
    torch.testing.assert_close(
        clipped(gradient[0], torch.tensor([1.5, 0.05])), torch.tensor([[1.5, 0.0], [0.05, 0.0]])
    )
