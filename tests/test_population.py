"""Members of a population are independent of each other, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from baselines import (
    awac,
    awr,
    awr_discrete,
    bc,
    bc_discrete,
    c4,
    car,
    cql,
    cql_discrete,
    dr3,
    edac,
    iql,
    layer_norm,
    rebrac,
    reds,
    reds_discrete,
    spar,
    spot,
    td3_bc,
)
from baselines.engine import Method
from baselines.engine.checkpoint import flatten, restore
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from tests.toy import corridor, point

DATASETS = {
    "discrete": [corridor("long", episodes=60, seed=1), corridor("short", episodes=20, seed=2)],
    "continuous": [point("long", episodes=20, seed=1), point("short", episodes=10, seed=2)],
}


@dataclass(frozen=True)
class Form:
    """A method with the config of most members, and what differs for the one looked at."""

    method: Method
    config: Any
    special: dict[str, Any] = field(default_factory=dict)

    def at_rate(self, rate, **changes):
        """The config with every step size set."""
        names = [each.name for each in fields(self.config) if each.name.endswith("_rate")]
        rates = dict.fromkeys(set(names) - {"target_rate"}, rate)
        return replace(self.config, **rates, **changes)


DISCRETE = {
    "awr-discrete": Form(
        awr_discrete.METHOD, awr_discrete.Config(), {"temperature": 0.3, "trace_decay": 0.7}
    ),
    "bc-discrete": Form(bc_discrete.METHOD, bc_discrete.Config()),
    "cql-discrete": Form(
        cql_discrete.METHOD, cql_discrete.Config(), {"alpha": 0.05, "target_rate": 0.01}
    ),
    **{
        f"reds-discrete-{term}": Form(
            reds_discrete.METHOD,
            reds_discrete.Config(rho_term=term),
            {"alpha": 0.05, "tau": 0.5},
        )
        for term in ("mean", "lse", "data")
    },
}
SMALL = {"hidden_sizes": (12, 12), "batch_size": 16}
SMALL_SPAR = {
    "generator_sizes": (12, 12),
    "latent_size": 2,
    "critics": 4,
    "subset": 2,
    "stage1_steps": 2,
    "generator_steps": 6,
    "guide_period": 3,
    "guide_samples": 3,
    "candidates": 3,
    **SMALL,
}
SMALL_CQL = {"critic_sizes": (12, 12), "policy_sizes": (12,), "batch_size": 16, "samples": 3}
CONTINUOUS = {
    "bc": Form(bc.METHOD, bc.Config(**SMALL), {"best_fraction": 0.5}),
    "bc-gaussian": Form(bc.METHOD, bc.Config(head="gaussian", **SMALL)),
    "td3-bc": Form(
        td3_bc.METHOD,
        td3_bc.Config(**SMALL),
        {"alpha": 1.0, "reward_shift": -1.0, "normalise_observations": False},
    ),
    "iql": Form(
        iql.METHOD,
        iql.Config(dropout=0.1, **SMALL),
        {"expectile": 0.9, "scale_by_returns": True, "discount": 0.9},
    ),
    "awr": Form(
        awr.METHOD,
        awr.Config(refresh_interval=7, value_scale=10.0, **SMALL),
        {"temperature": 0.3, "trace_decay": 0.7, "value_scale": 1.0, "discount": 0.9},
    ),
    "awac": Form(awac.METHOD, awac.Config(**SMALL), {"temperature": 1.0, "weight_clip": 5.0}),
    "rebrac": Form(
        rebrac.METHOD,
        rebrac.Config(**SMALL),
        {"policy_penalty": 0.1, "critic_penalty": 0.5, "reward_scale": 3.0},
    ),
    "spot": Form(
        spot.METHOD,
        spot.Config(density_sizes=(12,), density_steps=4, **SMALL),
        {"density_weight": 1.0, "reward_shift": -1.0, "normalise_observations": False},
    ),
    **{
        f"car-{density}": Form(
            car.METHOD,
            car.Config(
                density=density, density_sizes=(12,), warmup_steps=4, ring_factor=0.1, **SMALL
            ),
            {"density_weight": 1.0, "threshold": 0.1, "reward_shift": -1.0, "discount": 0.9},
        )
        for density in ("vae", "gaussian")
    },
    "edac": Form(
        edac.METHOD,
        edac.Config(ensemble=3, diversity=0.1, **SMALL),
        {"diversity": 0.2, "discount": 0.9, "reward_scale": 3.0},
    ),
    "cql": Form(cql.METHOD, cql.Config(**SMALL_CQL), {"penalty": 2.0, "target_rate": 0.01}),
    "cql-constrained": Form(
        cql.METHOD,
        cql.Config(gap=1.0, max_backup=True, diff_min=-5.0, orthogonal=False, **SMALL_CQL),
        {"gap": 0.1, "diff_min": 0.0, "reward_scale": 3.0},
    ),
    **{
        f"reds-{term}": Form(
            reds.METHOD,
            reds.Config(rho_term=term, gap=1.0, **SMALL_CQL),
            {"tau": 0.3, "gap": 0.1, "penalty": 2.0, "reward_scale": 3.0},
        )
        for term in ("lse", "mean", "data")
    },
}
SPAR_SPECIAL = {"uncertainty_weight": 1.0, "filtering": "soft", "kl_weight": 0.1}
CONTINUOUS |= {
    "spar-base": Form(
        spar.METHOD,
        spar.Config(variant="base", backup="base", base_policy="gaussian", **SMALL_SPAR),
        {"expectile": 0.9, "discount": 0.9},
    ),
    **{
        f"spar-{variant}": Form(
            spar.METHOD, spar.Config(variant=variant, **SMALL_SPAR), SPAR_SPECIAL
        )
        for variant in ("mlp", "cvae", "plas", "proj")
    },
    **{
        f"spar-proj-{guidance}": Form(
            spar.METHOD, spar.Config(guidance=guidance, **SMALL_SPAR), SPAR_SPECIAL
        )
        for guidance in ("cross", "elbo")
    },
}
SMALL_C4 = {
    "clusters": 3,
    "refresh_interval": 7,
    "pool": 500,
    "fit_size": 200,
    "projection": 4,
    "cold_iterations": 5,
    "warm_iterations": 2,
}
C4, C4_TD3_BC, C4_IQL = c4.METHODS
DR3_CQL, DR3_TD3_BC = dr3.METHODS
LN_CQL, LN_TD3_BC = layer_norm.METHODS
CONTINUOUS |= {
    "c4": Form(C4, c4.Config(**SMALL_C4, **SMALL_CQL), {"penalty_weight": 1.0, "ridge": 0.1}),
    "c4-td3-bc": Form(
        C4_TD3_BC,
        c4.TD3BCConfig(gradient="exact", next_network="online", **SMALL_C4, **SMALL),
        {"trace_weight": 1.0, "normalise_observations": False},
    ),
    "c4-iql": Form(C4_IQL, c4.IQLConfig(**SMALL_C4, **SMALL), {"expectile": 0.9, "discount": 0.9}),
    "dr3-cql": Form(DR3_CQL, dr3.Config(**SMALL_CQL), {"feature_weight": 0.1}),
    "dr3-td3-bc": Form(DR3_TD3_BC, dr3.TD3BCConfig(**SMALL), {"feature_weight": 0.1}),
    "ln-cql": Form(LN_CQL, layer_norm.Config(**SMALL_CQL), {"penalty": 2.0}),
    "ln-td3-bc": Form(LN_TD3_BC, layer_norm.TD3BCConfig(**SMALL), {"alpha": 1.0}),
}
FORMS = {**DISCRETE, **CONTINUOUS}
METHODS = pytest.mark.parametrize("form", FORMS)
STEPS = 20


def members(form, seeds, dataset=1, rate=None, **changes):
    """Members of which the third is always the same."""
    form = FORMS[form]
    others = replace(form.config, **changes) if rate is None else form.at_rate(rate, **changes)
    datasets = DATASETS[form.method.actions]
    group = [Member(datasets[dataset], others, seed) for seed in seeds]
    group.insert(2, Member(datasets[0], form.at_rate(2e-3, **form.special), seed=77))
    return group


def trained(form, group, steps=STEPS, **options):
    trainer = Trainer(FORMS[form].method, group, "cpu", steps=100, **options)
    trainer.advance(steps)
    return trainer


def member_tensors(trainer, number):
    """The tensors of one member, by name, without those that all members share.

    The member axis is the first one, or the second of an ensemble's (E, P, n). Where equal members
    share networks, it has a row per group of them.
    """
    found, groups = {}, getattr(trainer.agent, "groups", None)
    for name, tensor in flatten(trainer.state_dict()):
        if tensor.dim() > 0:
            axis = 0 if tensor.dim() < 3 else 1
            shared = tensor.shape[axis] < trainer.data.num_members
            found[name] = tensor.select(axis, int(groups[number]) if shared else number).clone()
    return found


def network_tensors(trainer, number):
    """The parameters of one member's networks and their targets, by name."""
    endings = (".parameters", ".target", ".policy", ".value", ".critic")
    found = {
        name: tensor
        for name, tensor in member_tensors(trainer, number).items()
        if name.endswith(endings) and "optimiser" not in name
    }
    assert found
    return found


@METHODS
def test_a_member_is_bit_equal_when_its_neighbours_change(form):
    first = trained(form, members(form, [0, 1, 2, 3]))
    second = trained(form, members(form, [9, 8, 7, 6], 0, rate=0.1))
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
        one, other = (as_shares(name, each[name]) for each in (ours, theirs))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5, msg=name)


def as_shares(name, tensor):
    """Tables of weights for sampling are in units of 2**-32."""
    return tensor / 2**32 if name.endswith(("sampler.clusters", "sampler.entries")) else tensor


@METHODS
def test_members_with_equal_settings_are_equal_and_others_differ(form):
    chosen = FORMS[form]
    dataset = DATASETS[chosen.method.actions][0]
    twins = [Member(dataset, chosen.config, seed) for seed in (5, 5, 6)]
    trainer = trained(form, twins, 10)
    first, second, third = (member_tensors(trainer, number) for number in range(3))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6)
    name = next(iter(network_tensors(trainer, 0)))
    assert not torch.equal(first[name], third[name])


@METHODS
def test_all_that_determines_further_updates_is_in_the_state(form):
    group = members(form, [0, 1])
    first, second = trained(form, group, 9), trained(form, group, 2)
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
    sick[1] = replace(sick[1], config=FORMS[form].at_rate(1e30))
    without, with_sick = trained(form, healthy), trained(form, sick)
    assert (without.frozen(), with_sick.frozen()) == ([], [1])
    for name, tensor in network_tensors(with_sick, 1).items():
        assert tensor.isfinite().all(), name
    for number in (0, 2):
        ours, theirs = member_tensors(with_sick, number), member_tensors(without, number)
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name


def test_a_member_that_diverges_is_frozen_and_its_neighbours_do_not_notice():
    """Rewards near the largest float overflow the squared TD error."""
    healthy, sick = cql_discrete.Config(), cql_discrete.Config(reward_scale=1e38)
    dataset = DATASETS["discrete"][0]
    groups = [
        [Member(dataset, config, seed) for seed, config in enumerate(configs)]
        for configs in ([healthy, sick, healthy], [healthy, healthy, healthy])
    ]
    with_sick = Trainer(cql_discrete.METHOD, groups[0], "cpu")
    initial = with_sick.agent.q.critic[1].detach().clone()
    with_sick.advance(30)
    without = trained("cql-discrete", groups[1], 30)
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
    dataset, config = DATASETS["discrete"][0], bc_discrete.Config()
    group = [Member(dataset, config, seed) for seed in (0, 1)]
    single = Trainer(bc_discrete.METHOD, group, "cpu")
    losses = []
    for _ in range(5):
        single.advance(1)
        losses.append(single.take_metrics()["loss"])
    many = Trainer(bc_discrete.METHOD, group, "cpu")
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
    """From the third update on, over all phases; the trainer's metrics wait for nobody either."""
    trainer = trained(form, members(form, [0, 1]), 2)
    with WithoutSynchronisation():
        trainer.advance(STEPS - 2)


@pytest.mark.parametrize("wait", [torch.Tensor.item, torch.Tensor.nonzero, lambda x: x[x > 0]])
def test_synchronisation_is_noticed(wait):
    with WithoutSynchronisation(), pytest.raises(AssertionError, match="waits for the device"):
        wait(torch.ones(1))


def test_members_have_to_agree_in_what_shapes_the_computation():
    group = [
        Member(DATASETS["discrete"][0], bc_discrete.Config(hidden_sizes=sizes), seed)
        for seed, sizes in enumerate([(8,), (16,)])
    ]
    with pytest.raises(ValueError, match="must agree in 'hidden_sizes'"):
        Trainer(bc_discrete.METHOD, group, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@METHODS
def test_a_gpu_trains_the_same_members(form):
    if form.startswith("c4"):
        pytest.skip("which transitions it draws depends on values, and so on their rounding")
    group = members(form, [0, 1])
    on_cpu, on_gpu = trained(form, group), Trainer(FORMS[form].method, group, "cuda", steps=100)
    on_gpu.advance(STEPS)
    ours, theirs = dict(flatten(on_cpu.state_dict())), dict(flatten(on_gpu.state_dict()))
    for name in ours:
        torch.testing.assert_close(theirs[name].cpu(), ours[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@METHODS
def test_captured_updates_are_the_eager_ones(form):
    """31 updates: three graphs of ten, of which one runs as it is, and a single one."""
    group = members(form, [0, 1])
    trainers = [
        Trainer(FORMS[form].method, group, "cuda", steps=100, capture=capture)
        for capture in (True, False)
    ]
    for trainer in trainers:
        trainer.advance(31)
    captured, eager = (dict(flatten(trainer.state_dict())) for trainer in trainers)
    for name in eager:
        torch.testing.assert_close(captured[name], eager[name], rtol=0, atol=1e-5, msg=name)
    ours, theirs = (trainer.take_metrics() for trainer in trainers)
    for name in theirs:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@METHODS
def test_tf32_is_near_fp32(form):
    group = members(form, [0, 1])
    trainers = [
        Trainer(FORMS[form].method, group, "cuda", steps=100, precision=precision)
        for precision in ("fp32", "tf32")
    ]
    losses = []
    for trainer in trainers:
        trainer.advance(STEPS)
        losses.append(trainer.take_metrics()["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.02)


@METHODS
def test_bf16_is_near_fp32(form):
    group = members(form, [0, 1])
    losses = []
    for precision in ("fp32", "bf16"):
        trainer = trained(form, group, precision=precision)
        assert trainer.frozen() == []
        losses.append(trainer.take_metrics()["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.02)
