"""What the tests of methods for continuous actions share: batches, and networks written plainly."""

from __future__ import annotations

import torch

from baselines.engine.data import Batch, MemberData
from baselines.engine.random import MemberRandom
from tests.toy import point


def data_of(members=1, **dataset):
    return MemberData([point(**dataset)] * members, steps=100)


def random_batch(members=1, rows=8, seed=0):
    """Normal observations and rewards, uniform actions, one in four rows terminated."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(members, rows, *shape, generator=generator)

    def uniform(*shape):
        return 2.0 * torch.rand(members, rows, *shape, generator=generator) - 1.0

    terminations = torch.arange(rows).expand(members, rows) % 4 == 0
    return Batch(
        observations=normal(2),
        actions=uniform(2),
        rewards=normal(),
        next_observations=normal(2),
        terminations=terminations,
        truncations=torch.zeros_like(terminations),
        next_actions=uniform(2),
        has_next=~terminations,
        row=torch.arange(rows).expand(members, rows),
    )


def sampled_batch(data, rows=64, seed=0):
    return data.sample(MemberRandom([seed] * data.num_members, "batches"), rows)


def plain(network, parameters, inputs):
    """One network applied to (n, in) inputs in float64, layer by layer, by hand."""
    x, flat = inputs.double(), parameters.double()
    for number, (fan_in, fan_out) in enumerate(network.layers):
        weight = flat[: fan_in * fan_out].view(fan_in, fan_out)
        bias, flat = flat[fan_in * fan_out :][:fan_out], flat[fan_in * fan_out + fan_out :]
        x = (x.clamp(min=0.0) if number else x) @ weight + bias
    return x


def as_double(parameters):
    return parameters.detach().double().requires_grad_()


def applied_gradient(optimiser):
    """The gradient of an optimiser's first step: Adam's first moment is then a tenth of it."""
    assert optimiser.steps == 1
    return 10.0 * optimiser.first_moment.double()


def gradient(loss, parameters):
    return torch.autograd.grad(loss, parameters, allow_unused=True)[0]


def assert_gradient(optimiser, expected):
    torch.testing.assert_close(applied_gradient(optimiser), expected, rtol=1e-4, atol=1e-6)


def snapshot(agent):
    """Copies of an agent's tensors by name, for :func:`moved`."""
    from baselines.engine.checkpoint import flatten

    return {name: tensor.detach().clone() for name, tensor in flatten(agent.state_dict())}


def moved(agent, before):
    """Names of the parameters that differ from a snapshot, optimisers left out."""
    from baselines.engine.checkpoint import flatten

    return {
        name
        for name, tensor in flatten(agent.state_dict())
        if not torch.equal(tensor, before[name])
        and not name.endswith(("counter", "steps", "moment", "keys"))
    }
