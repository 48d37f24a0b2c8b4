from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from baselines import awr_discrete as awr
from baselines import bc_discrete as bc
from baselines import cql_discrete as cql
from baselines import reds_discrete as reds
from baselines import spot
from baselines.engine.data import MemberData
from baselines.engine.members import (
    Member,
    differences,
    make_members,
    opening_steps,
    per_member,
    product,
    shared,
)
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from tests.helpers import dataset_of, random_arrays
from tests.toy import CELLS, corridor


@dataclass(frozen=True)
class Config:
    alpha: float = 0.1
    tau: float = 1.0
    hidden_sizes: tuple[int, ...] = (8, 8)
    batch_size: int = 4


def test_members_draw_from_their_own_datasets():
    short, long = corridor("short", episodes=2, seed=0), corridor("long", episodes=30, seed=1)
    data = MemberData([long, short, long])
    assert data.sizes.tolist() == [len(long), len(short), len(long)]
    assert len(data.rows.rewards) == len(short) + len(long)  # stored once each
    batch = data.sample(MemberRandom([0, 1, 2], "batches"), 2_000)
    assert [tuple(each.shape) for each in batch] == [
        (3, 2_000, CELLS),
        (3, 2_000),
        (3, 2_000),
        (3, 2_000, CELLS),
        (3, 2_000),
        (3, 2_000),
        (3, 2_000),
        (3, 2_000),
        (3, 2_000),
    ]
    assert torch.equal(data.rows.rewards[batch.row], batch.rewards)
    for member, dataset in enumerate((long, short, long)):
        transitions = dataset.transitions
        known = {
            (o.tobytes(), int(a), n.tobytes(), float(r), bool(d), bool(t))
            for o, a, n, r, d, t in zip(
                transitions.observations,
                transitions.actions,
                transitions.next_observations,
                transitions.rewards,
                transitions.terminations,
                transitions.truncations,
                strict=True,
            )
        }
        drawn = {
            (o.numpy().tobytes(), int(a), n.numpy().tobytes(), float(r), bool(d), bool(t))
            for o, a, r, n, d, t, *_ in zip(*(each[member] for each in batch), strict=True)
        }
        assert drawn <= known


def test_every_row_is_drawn_equally_often():
    dataset = corridor(episodes=3)
    data = MemberData([dataset])
    data.rows = data.rows._replace(rewards=torch.arange(len(dataset), dtype=torch.float32))
    rows = data.sample(MemberRandom([5], "batches"), 1_000 * len(dataset)).rewards
    counts = torch.bincount(rows.flatten().long(), minlength=len(dataset))
    assert counts.min() > 850
    assert counts.max() < 1_150


def test_datasets_of_other_shapes_are_refused():
    wide = corridor("wide")
    padded = np.pad(wide.arrays.observations, [(0, 0), (0, 1)])
    object.__setattr__(wide.arrays, "observations", padded)
    with pytest.raises(ValueError, match=r"equal observation shapes.*corridor-v0.*wide-v0"):
        MemberData([corridor(), wide])


def test_draws_of_one_subset_are_compared_too():
    arrays = [random_arrays([20], observation_shape=(size,), extras=False) for size in (4, 5)]
    first, second = (replace(dataset_of(each), draw=k) for k, each in enumerate(arrays))
    with pytest.raises(ValueError, match=r"toy-v0 draw 0: .*\(4,\).*toy-v0 draw 1: .*\(5,\)"):
        MemberData([first, second])


def test_the_number_of_actions_is_the_largest_of_all_datasets():
    few, many = (
        replace(dataset_of(random_arrays([60], num_actions=n, extras=False)), draw=n)
        for n in (2, 5)
    )
    assert MemberData([many, few]).num_actions == MemberData([few, many]).num_actions == 5
    three = {"action": {"shape": [], "dtype": "int64", "n": 3}}
    declared = dataset_of(few.arrays, **three)
    assert MemberData([declared, few]).num_actions == 3
    with pytest.raises(ValueError, match="equal observation shapes and action spaces"):
        MemberData([declared, many])


def test_images_are_refused_by_methods_for_vectors():
    image = dataset_of(random_arrays([9], observation_shape=(8, 8, 3), extras=False))
    for method in (awr, bc, cql, reds):
        with pytest.raises(ValueError, match=r"shape \(8, 8, 3\); this method's networks take vec"):
            Trainer(method.METHOD, [Member(image, method.Config(), 0)], "cpu")


def test_members_are_datasets_times_configs_times_seeds():
    configs = product(Config(), {"alpha": [0.1, 1.0], "tau": [2.0]})
    assert configs == [Config(0.1, 2.0), Config(1.0, 2.0)]
    a, b = corridor("a"), corridor("b")
    members = make_members([a, b], configs, [7, 8])
    assert [(m.dataset.id, m.label, m.seed) for m in members] == [
        (dataset, label, seed)
        for dataset in ("a-v0", "b-v0")
        for label in ("alpha=0.1", "alpha=1")
        for seed in (7, 8)
    ]
    assert str(members[0]) == "a-v0 alpha=0.1 seed 7"


def test_labels_name_what_differs_and_nothing_else():
    configs = [Config(), Config(tau=0.30000000001), Config(alpha=2.0, hidden_sizes=(4,))]
    assert differences(configs) == [
        "alpha=0.1,tau=1,hidden_sizes=8x8",
        "alpha=0.1,tau=0.30000000001,hidden_sizes=8x8",
        "alpha=2,tau=1,hidden_sizes=4",
    ]
    assert differences([Config()]) == [""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [1, 1]}, "each seed may occur once"),
        ({"seeds": [0, -1]}, "seed -1 is not a non-negative integer"),
        ({"seeds": [0.5]}, "seed 0.5 is not a non-negative integer"),
        ({"seeds": [True]}, "seed True is not a non-negative integer"),
        ({"configs": [Config(), Config()]}, "each config may occur once"),
        ({"datasets": []}, "at least one dataset"),
        ({"datasets": [corridor(), corridor()]}, "each dataset may occur once"),
    ],
)
def test_empty_or_repeated_parts_are_refused(change, message):
    arguments = {"datasets": [corridor()], "configs": [Config()], "seeds": [0]} | change
    with pytest.raises(ValueError, match=message):
        make_members(**arguments)


def test_hyperparameters_per_member_and_shared():
    configs = [Config(alpha=1), Config(alpha=2)]
    assert per_member(configs, "alpha", "cpu").tolist() == [1.0, 2.0]
    assert shared(configs, "hidden_sizes") == (8, 8)
    with pytest.raises(ValueError, match=r"must agree in 'hidden_sizes'; got \[\(8, 8\), \(4,\)\]"):
        shared([Config(), Config(hidden_sizes=(4,))], "hidden_sizes")
    with pytest.raises(ValueError, match="cannot sweep 'alfa'; expected one of alpha, tau"):
        product(Config(), {"alfa": [1]})


def test_a_run_opens_with_a_tenth_of_its_steps_or_what_is_given():
    free, given = [spot.Config()] * 2, [spot.Config(density_steps=30)]
    assert opening_steps(free, "density_steps", 30_000) == 3_000
    assert opening_steps(free, "density_steps", None) == 100_000
    assert opening_steps(free, "density_steps", 1) == 0
    assert opening_steps(given, "density_steps", 31) == 30
    with pytest.raises(ValueError, match="density_steps is 30 and the run has 30 updates"):
        opening_steps(given, "density_steps", 30)
