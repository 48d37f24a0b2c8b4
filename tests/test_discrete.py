from __future__ import annotations

import math

import pytest
import torch

import hetero_bench
from baselines.engine.evaluation import ActorPolicy
from baselines.engine.random import MemberRandom
from baselines.parts.discrete import (
    NO_ACTION,
    SoftmaxActor,
    boltzmann,
    invert_cumulative,
    log_likelihood,
    weighted_likelihood_loss,
)
from baselines.parts.networks import MLP
from hetero_bench.errors import PolicyError
from tests.toy import CELLS, corridor


def test_weighted_likelihood_of_two_samples_by_hand():
    # Softmax of (0, log 3) is (1/4, 3/4); of (0, 0) it is (1/2, 1/2).
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
    actions = torch.tensor([[0, 1]])
    assert log_likelihood(logits, actions)[0].tolist() == pytest.approx(
        [-math.log(4), -math.log(2)]
    )
    loss = weighted_likelihood_loss(logits, actions, torch.tensor([[3.0, 0.5]]))
    assert loss.tolist() == pytest.approx([(3 * math.log(4) + 0.5 * math.log(2)) / 2])


def test_weighted_likelihood_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(4, (2, 3), generator=generator)
    weights = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: weighted_likelihood_loss(x, actions, weights), (logits,)
    )


def test_weighted_likelihood_is_maximal_at_the_reweighted_data():
    """π(a) ∝ β(a) w(a): there the gradient vanishes."""
    actions = torch.tensor([[0, 0, 0, 1, 1, 2]])
    weight_of = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
    optimum = torch.tensor([3.0, 8.0, 0.5], dtype=torch.float64)
    logits = (optimum / optimum.sum()).log().requires_grad_()
    loss = weighted_likelihood_loss(logits.expand(1, 6, 3), actions, weight_of[actions])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_sampled_actions_have_their_probabilities():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    probabilities = boltzmann(logits, torch.tensor([1.0, 0.3]))
    grid = (torch.arange(10_000) + 0.5) / 10_000
    samples = invert_cumulative(probabilities, grid.expand(2, 3, -1))
    shares = torch.nn.functional.one_hot(samples, 5).float().mean(-2)
    torch.testing.assert_close(shares, probabilities, rtol=0, atol=2e-4)


def test_no_sample_lies_past_the_last_action():
    probabilities = torch.full((1, 1, 3), 0.3)  # as if rounding had lost a tenth
    almost_one = torch.tensor([[[1.0 - 2**-24]]])
    assert invert_cumulative(probabilities, almost_one).item() == 2


@pytest.mark.parametrize("greedy", [False, True])
def test_outputs_that_are_not_numbers_choose_no_action(greedy):
    network = MLP((CELLS, 3))
    parameters = network.init(MemberRandom([0], "policy")).detach()
    healthy = SoftmaxActor(network, parameters, greedy=greedy)
    observations, noise = torch.eye(CELLS), torch.zeros(CELLS, healthy.noise_size)
    assert set(healthy(observations, noise).tolist()) <= {0, 1, 2}
    spoiled = parameters.clone()
    spoiled[0, 0] = math.nan
    sick = SoftmaxActor(network, spoiled, greedy=greedy)
    assert sick(observations, noise).tolist() == CELLS * [NO_ACTION]
    with pytest.raises(PolicyError, match="episode 0, step 0: action -1 is not finite or out of"):
        hetero_bench.evaluate(ActorPolicy(sick, corridor()), episodes=2)
