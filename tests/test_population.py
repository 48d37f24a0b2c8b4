"""Members of a population are independent of each other, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from baselines import awr, bc, cql, reds
from baselines.engine.checkpoint import flatten, restore
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from tests.toy import corridor

DATASETS = [corridor("long", episodes=60, seed=1), corridor("short", episodes=20, seed=2)]
# For each method the config of most members, and that of the one that is looked at.
FORMS = {
    "awr": (awr.METHOD, awr.Config(), {"temperature": 0.3, "trace_decay": 0.7}),
    "bc": (bc.METHOD, bc.Config(), {}),
    "cql": (cql.METHOD, cql.Config(), {"alpha": 0.05, "target_rate": 0.01}),
    **{
        f"reds-{form}": (reds.METHOD, reds.Config(rho_term=form), {"alpha": 0.05, "tau": 0.5})
        for form in ("mean", "lse", "data")
    },
}
METHODS = pytest.mark.parametrize("form", FORMS)


def members(form, seeds, dataset=1, **changes):
    """Members of which the third is always the same."""
    _, config, special = FORMS[form]
    others, config = replace(config, **changes), replace(config, learning_rate=2e-3, **special)
    group = [Member(DATASETS[dataset], others, seed) for seed in seeds]
    group.insert(2, Member(DATASETS[0], config, seed=77))
    return group


def trained(form, group, steps=50):
    trainer = Trainer(FORMS[form][0], group, "cpu")
    trainer.advance(steps)
    return trainer


def member_tensors(trainer, number):
    """The tensors of one member, by name, without those that all members share."""
    return {
        name: tensor[number].clone()
        for name, tensor in flatten(trainer.state_dict())
        if tensor.dim() > 0
    }


@METHODS
def test_a_member_is_bit_equal_when_its_neighbours_change(form):
    first = trained(form, members(form, [0, 1, 2, 3]))
    second = trained(form, members(form, [9, 8, 7, 6], 0, learning_rate=0.1))
    ours, theirs = member_tensors(first, 2), member_tensors(second, 2)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    assert not torch.equal(member_tensors(first, 1)["batches.keys"], ours["batches.keys"])


@METHODS
def test_a_member_is_the_same_in_populations_of_any_size(form):
    group = members(form, [0, 1, 2, 3, 4, 5])
    together, alone = trained(form, group), trained(form, group[2:3])
    ours, theirs = member_tensors(together, 2), member_tensors(alone, 0)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5, msg=name)


@METHODS
def test_members_with_equal_settings_are_equal_and_others_differ(form):
    twins = [Member(DATASETS[0], FORMS[form][1], seed) for seed in (5, 5, 6)]
    trainer = trained(form, twins, 10)
    first, second, third = (member_tensors(trainer, number) for number in range(3))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6)
    parameters = next(name for name in first if name in ("agent.policy", "agent.critic"))
    assert not torch.equal(first[parameters], third[parameters])


@METHODS
def test_all_that_determines_further_updates_is_in_the_state(form):
    group = members(form, [0, 1])
    first, second = trained(form, group, 20), trained(form, group, 3)
    saved = {name: tensor.clone() for name, tensor in flatten(first.state_dict())}
    restore(second.state_dict(), saved)
    for trainer in (first, second):
        trainer.advance(10)
    theirs = dict(flatten(second.state_dict()))
    for name, tensor in flatten(first.state_dict()):
        assert torch.equal(theirs[name], tensor), name


@METHODS
def test_whatever_makes_a_member_diverge_its_neighbours_go_on(form):
    healthy, sick = members(form, [0, 1]), members(form, [0, 1])
    sick[1] = replace(sick[1], config=replace(sick[1].config, learning_rate=1e30))
    without, with_sick = trained(form, healthy, 20), trained(form, sick, 20)
    assert (without.frozen(), with_sick.frozen()) == ([], [1])
    parameters = member_tensors(with_sick, 1).keys() & {
        f"agent.{name}" for name in ("policy", "value", "critic", "target", "rho.parameters")
    }
    assert parameters
    for name in parameters:
        assert member_tensors(with_sick, 1)[name].isfinite().all(), name
    for number in (0, 2):
        ours, theirs = member_tensors(with_sick, number), member_tensors(without, number)
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name


def test_a_member_that_diverges_is_frozen_and_its_neighbours_do_not_notice():
    """Rewards near the largest float overflow the squared TD error."""
    healthy, sick = cql.Config(), cql.Config(reward_scale=1e38)
    groups = [
        [Member(DATASETS[0], config, seed) for seed, config in enumerate(configs)]
        for configs in ([healthy, sick, healthy], [healthy, healthy, healthy])
    ]
    with_sick = Trainer(cql.METHOD, groups[0], "cpu")
    initial = with_sick.agent.q.critic[1].detach().clone()
    with_sick.advance(30)
    without = trained("cql", groups[1], 30)
    assert with_sick.frozen() == [1]
    assert without.frozen() == []
    frozen = with_sick.agent.q.critic[1].detach().clone()
    assert frozen.isfinite().all()
    target = with_sick.agent.q.target[1].clone()
    with_sick.advance(10)
    without.advance(10)
    assert torch.equal(with_sick.agent.q.critic[1], frozen)
    assert torch.equal(with_sick.agent.q.target[1], target)
    assert (frozen - initial).abs().max() < 1.0
    for number in (0, 2):
        ours, theirs = member_tensors(with_sick, number), member_tensors(without, number)
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name


def test_metrics_are_means_since_the_last_reading():
    group = [Member(DATASETS[0], bc.Config(), seed) for seed in (0, 1)]
    single = Trainer(bc.METHOD, group, "cpu")
    losses = []
    for _ in range(5):
        single.advance(1)
        losses.append(single.take_metrics()["loss"])
    many = Trainer(bc.METHOD, group, "cpu")
    many.advance(2)
    many.advance(3)
    expected = torch.tensor(losses).mean(0).tolist()
    assert many.take_metrics()["loss"] == pytest.approx(expected, rel=1e-6)


class WithoutSynchronisation(TorchDispatchMode):
    """Raises where the host would wait for values, on whatever device."""

    WAITING = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "equal",
        "is_nonzero",
        "bincount",
        "_unique",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "repeat_interleave",
    )

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        indices = args[1] if name.startswith("index") and isinstance(args[1], list) else []
        by_mask = any(each is not None and each.dtype == torch.bool for each in indices)
        assert not by_mask, f"{name} by a mask waits for the device"
        assert name not in self.WAITING, f"{name} waits for the device"
        return function(*args, **(kwargs or {}))


@METHODS
def test_updates_do_not_synchronise_with_the_host(form):
    trainer = trained(form, members(form, [0, 1]), 2)
    with WithoutSynchronisation():
        trainer.advance(2)


@pytest.mark.parametrize("wait", [torch.Tensor.item, torch.Tensor.nonzero, lambda x: x[x > 0]])
def test_synchronisation_is_noticed(wait):
    with WithoutSynchronisation(), pytest.raises(AssertionError, match="waits for the device"):
        wait(torch.ones(1))


def test_members_have_to_agree_in_what_shapes_the_computation():
    group = [
        Member(DATASETS[0], bc.Config(hidden_sizes=sizes), seed)
        for seed, sizes in enumerate([(8,), (16,)])
    ]
    with pytest.raises(ValueError, match="must agree in 'hidden_sizes'"):
        Trainer(bc.METHOD, group, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@METHODS
def test_a_gpu_trains_the_same_members(form):
    group = members(form, [0, 1])
    on_cpu, on_gpu = trained(form, group), Trainer(FORMS[form][0], group, "cuda")
    on_gpu.advance(50)
    ours, theirs = dict(flatten(on_cpu.state_dict())), dict(flatten(on_gpu.state_dict()))
    for name in ours:
        torch.testing.assert_close(theirs[name].cpu(), ours[name], rtol=0, atol=1e-4, msg=name)
