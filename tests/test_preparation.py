from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.engine.data import MemberData
from baselines.engine.method import get_method
from baselines.engine.preparation import (
    Frame,
    Preparation,
    action_kind,
    best_rows,
    return_range,
)
from tests.helpers import dataset_of, random_arrays
from tests.toy import corridor, point


def test_members_see_their_own_preparation_of_one_dataset():
    dataset = point()
    preparations = [
        Preparation(),
        Preparation(normalise_observations=True, reward_scale=10.0, reward_shift=-5.0),
        Preparation(),
    ]
    data = MemberData([dataset] * 3, preparations=preparations)
    assert len(data.rows.rewards) == 2 * len(dataset)  # two preparations of one dataset
    assert data.offsets.tolist() == [0, len(dataset), 0]
    source = dataset.transitions
    batch = data.take(torch.arange(len(dataset)) + data.offsets[:, None])
    mean, std = source.observations.mean(0), source.observations.std(0) + 1e-3
    for member in (0, 2):
        np.testing.assert_array_equal(batch.observations[member], source.observations)
        np.testing.assert_array_equal(batch.rewards[member], source.rewards)
    for ours, theirs in (
        (batch.observations, source.observations),
        (batch.next_observations, source.next_observations),
    ):
        np.testing.assert_allclose(ours[1], (theirs - mean) / std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch.rewards[1], 10.0 * source.rewards - 5.0, rtol=1e-5)
    assert data.frame(0).mean.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(data.frame(1).mean, mean, rtol=1e-4, atol=1e-6)


def test_next_actions_stay_within_their_trajectories():
    dataset = point(episodes=5)
    rows = MemberData([dataset, point("other", episodes=3, seed=1)]).rows
    ends = rows.terminations | rows.truncations
    assert torch.equal(rows.has_next, ~ends)
    inside = torch.nonzero(~ends).flatten()
    assert torch.equal(rows.next_actions[inside], rows.actions[inside + 1])
    assert (rows.next_actions[ends] == 0).all()
    assert MemberData([corridor()]).rows.next_actions.dtype == torch.int64


def test_actions_are_between_minus_one_and_one_and_lead_back():
    bounds = {"shape": [2], "dtype": "float32", "low": -2.0, "high": 6.0}
    dataset = point(action=bounds)
    data = MemberData([dataset])
    np.testing.assert_allclose(
        data.rows.actions, (dataset.transitions.actions - 2.0) / 4.0, rtol=1e-6, atol=1e-6
    )
    back = data.frame(0).act(data.rows.actions)
    np.testing.assert_allclose(back, dataset.transitions.actions, rtol=1e-5, atol=1e-5)
    frame = Frame(torch.tensor([1.0]), torch.tensor([2.0]), low=0.0, high=1.0)
    assert frame.observe(torch.tensor([[5.0]])).tolist() == [[2.0]]
    assert frame.act(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]
    narrow = point(action={**bounds, "low": -0.1, "high": 0.1})
    with pytest.raises(ValueError, match="actions of point-v0 are up to 10 times as far out"):
        MemberData([narrow])


def test_the_best_trajectories():
    """Returns 1, 5, 3 of trajectories of 2, 3 and 5 rows."""
    arrays = random_arrays([2, 3, 5], num_actions=None, extras=False)
    rewards = np.zeros(10, np.float32)
    rewards[[0, 2, 5]] = [1.0, 5.0, 3.0]
    object.__setattr__(arrays, "rewards", rewards)
    dataset = dataset_of(arrays)
    second, third = [2, 3, 4], [5, 6, 7, 8, 9]
    assert best_rows(dataset, 0.1).tolist() == second
    assert best_rows(dataset, 0.3).tolist() == second
    assert best_rows(dataset, 0.31).tolist() == second + third
    assert best_rows(dataset, 1.0).tolist() == list(range(10))
    assert return_range(dataset) == 4.0
    data = MemberData([dataset], preparations=[Preparation(True, best_fraction=0.3)])
    np.testing.assert_allclose(data.rows.observations.mean(0), 0.0, atol=1e-5)
    assert data.sizes.tolist() == [3]
    rewards[:] = 0.0
    with pytest.raises(ValueError, match="all 3 trajectories of toy-v0 have the return 0"):
        return_range(dataset)


def test_kinds_of_action():
    assert (action_kind(point()), action_kind(corridor())) == ("continuous", "discrete")


def test_defaults_depend_on_family_and_name():
    method = get_method("td3_bc")
    assert method.config_for(point().spec) == method.config()
    assert method.config_for(point(family="antmaze").spec).reward_shift == -1.0
    rebrac_like = type(method)(
        **{
            **method.__dict__,
            "overrides": {
                "toy": {"alpha": 1.0, "discount": 0.5},
                "hopper-*": {"alpha": 2.0},
                "hopper-medium-*": {"alpha": 3.0},
            },
        }
    )
    settings = {"point": 1.0, "hopper-expert": 2.0, "hopper-medium-hb": 3.0}
    for name, alpha in settings.items():
        config = rebrac_like.config_for(point(name).spec)
        assert (config.alpha, config.discount) == (alpha, 0.5)
