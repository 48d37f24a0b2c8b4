from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch

from baselines.engine import optimiser
from baselines.engine.optimiser import MemberAdam, cosine, track

RATES = [1e-2, 1e-3, 3e-4]


def leaf(seed=0, shape=(3, 40), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def gradients(count, shape=(3, 40), dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    # Scales from 1e-6 to 1e3, so that eps and the bias corrections matter.
    scale = torch.logspace(-6, 3, shape[-1], dtype=dtype)
    return [scale * torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(count)]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)], ids=str
)
def test_equals_torch_adam_with_a_rate_per_member(dtype, tolerance):
    ours = leaf(dtype=dtype)
    theirs = [row.detach().clone().requires_grad_() for row in ours]
    adam = MemberAdam(ours, torch.tensor(RATES, dtype=dtype))
    reference = [torch.optim.Adam([row], lr=rate) for row, rate in zip(theirs, RATES, strict=True)]
    active = torch.ones(3, dtype=torch.bool)
    for gradient in gradients(200, dtype=dtype):
        adam.step(gradient, active)
        for row, each, part in zip(theirs, reference, gradient, strict=True):
            row.grad = part.clone()
            each.step()
    torch.testing.assert_close(ours.detach(), torch.stack(theirs).detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 40)])
def test_the_step_of_a_gpu_is_that_of_a_cpu(shape):
    """The first is elementwise over all members, the second goes member by member."""
    ours, theirs = leaf(shape=shape), leaf(shape=shape)
    rates, active = torch.tensor(RATES), torch.tensor([True, False, True])
    by_member, together = MemberAdam(ours, rates), MemberAdam(theirs, rates)
    together._step_by_member = together._step_together
    for gradient in gradients(50, shape):
        for adam in (by_member, together):
            adam.step(gradient, active)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_a_gradient_of_any_strides_will_do():
    parameters = leaf()
    before = parameters.detach().clone()
    adam = MemberAdam(parameters, torch.tensor(RATES))
    adam.minimise(parameters.sum(-1), torch.ones(3, dtype=torch.bool))  # a gradient of one number
    moved = before - parameters.detach()
    torch.testing.assert_close(moved, torch.tensor(RATES)[:, None].expand(3, 40))


def test_a_schedule_multiplies_the_step_size():
    parameters = leaf()
    active = torch.ones(3, dtype=torch.bool)
    adam = MemberAdam(parameters, torch.tensor(RATES), schedule=cosine(10))
    sizes = []
    for _ in range(12):
        before = parameters.detach().clone()
        adam.minimise(parameters.sum(-1), active)
        sizes.append((before - parameters.detach()).mean(-1))
    factors = [0.5 * (1 + math.cos(math.pi * min(k, 10) / 10)) for k in range(12)]
    expected = torch.tensor(factors)[:, None] * torch.tensor(RATES)
    torch.testing.assert_close(torch.stack(sizes), expected, rtol=0, atol=1e-6)


def test_an_ensemble_steps_like_its_networks():
    ensemble = leaf(shape=(2, 3, 40))
    singles = [ensemble[e].detach().clone().requires_grad_() for e in range(2)]
    rates, active = torch.tensor(RATES), torch.ones(3, dtype=torch.bool)
    adams = [MemberAdam(each, rates) for each in (ensemble, *singles)]
    for gradient in gradients(20, (2, 3, 40)):
        for adam, part in zip(adams, (gradient, *gradient), strict=True):
            adam.step(part, active)
    assert torch.equal(ensemble, torch.stack(singles))


def test_an_inactive_member_keeps_every_bit_and_its_neighbours_do_not_notice():
    frozen, healthy = leaf(), leaf()
    before = frozen.detach().clone()
    rates = torch.tensor(RATES)
    with_frozen, without = MemberAdam(frozen, rates), MemberAdam(healthy, rates)
    active = torch.tensor([True, False, True])
    for gradient in gradients(10):
        without.step(gradient, torch.ones(3, dtype=torch.bool))
        poisoned = gradient.clone()
        poisoned[1] = torch.nan
        with_frozen.step(poisoned, active)
    assert torch.equal(frozen[1], before[1])
    assert torch.equal(frozen[::2], healthy[::2])
    assert not torch.equal(frozen[0], before[0])


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_minimise_freezes_a_member_before_the_step_that_would_spoil_it(what):
    parameters = leaf()
    before = parameters.detach().clone()
    adam = MemberAdam(parameters, torch.tensor(RATES))
    active = torch.ones(3, dtype=torch.bool)
    losses = parameters.square().sum(-1)
    if what == "loss":
        losses = losses * torch.tensor([1.0, torch.inf, 1.0])
    else:  # sqrt has value 0 and slope infinity at 0
        root = (parameters[1] - before[1]).square().sum().sqrt()
        losses = losses + torch.tensor([0.0, 1.0, 0.0]) * root
        assert losses.isfinite().all()
    adam.minimise(losses, active)
    assert active.tolist() == [True, False, True]
    assert torch.equal(parameters[1], before[1])
    for member in (0, 2):
        step = parameters[member] - before[member]
        assert (step.sign() == -before[member].sign()).all()  # downhill


def test_frozen_stays_frozen():
    parameters = leaf()
    adam = MemberAdam(parameters, torch.tensor(RATES))
    active = torch.tensor([True, False, True])
    adam.minimise(parameters.square().sum(-1), active)
    assert active.tolist() == [True, False, True]


def test_track_moves_targets_by_their_members_rate():
    target, source = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    rate, active = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([True, False, True])
    track(target, source, rate, active)
    track(target, source, rate, active)
    expected = torch.tensor([1 - 0.9**2, 0.0, 1.0])
    torch.testing.assert_close(target, expected[:, None].expand(2, 3, 4))


def dead_after(steps, monkeypatch, flush):
    """Returns parameters and first moments when half of the gradient has been zero for long."""
    if not flush:
        monkeypatch.setattr(optimiser, "denormals_flushed", nullcontext)
    theta = leaf()
    adam = MemberAdam(theta, torch.tensor(RATES))
    active = torch.ones(3, dtype=torch.bool)
    for number, gradient in enumerate(gradients(steps)):
        if number >= 10:
            gradient[:, ::2] = 0.0
        adam.step(gradient, active)
    return theta.detach(), adam.first_moment


def test_denormal_moments_are_dropped_and_change_no_parameter(monkeypatch):
    """They slow a CPU down by a factor; 0.9 to the power of 900 is 6e-42."""
    theta, moment = dead_after(910, monkeypatch, flush=True)
    plain, plain_moment = dead_after(910, monkeypatch, flush=False)
    assert torch.equal(theta, plain)
    smallest = torch.finfo(torch.float32).tiny
    assert ((plain_moment != 0.0) & (plain_moment.abs() < smallest)).any()
    assert not ((moment != 0.0) & (moment.abs() < smallest)).any()
    assert torch.equal(moment[:, 1::2], plain_moment[:, 1::2])


def test_denormals_are_kept_outside_of_the_step():
    theta = leaf()
    adam = MemberAdam(theta, torch.tensor(RATES))
    adam.step(torch.ones(3, 40), torch.ones(3, dtype=torch.bool))
    assert (torch.tensor([1e-40]) * torch.tensor([0.5])).item() > 0.0
    with optimiser.denormals_flushed():
        assert (torch.tensor([1e-40]) * torch.tensor([0.5])).item() == 0.0
    assert (torch.tensor([1e-40]) * torch.tensor([0.5])).item() > 0.0
