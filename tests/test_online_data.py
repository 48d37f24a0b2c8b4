from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.engine.data import MemberData
from baselines.engine.members import Member
from baselines.engine.online_data import MemberEnvironments, OnlineData
from baselines.engine.random import MemberRandom
from tests.toy import POINT_HORIZON, point, point_step

LONG, SHORT = point("long", episodes=2, seed=1), point("short", episodes=1, seed=2)


def transitions(step, members=3):
    """One recognisable transition per member: numbers 100 * step + member."""
    number = 100.0 * step + torch.arange(members, dtype=torch.float32)
    return {
        "observations": number[:, None].repeat(1, 2),
        "actions": (number[:, None] / 1e4).repeat(1, 2),
        "rewards": number,
        "next_observations": number[:, None].repeat(1, 2) + 0.5,
        "terminations": number % 2 == 0,
    }


def test_before_anything_is_collected_batches_are_those_of_the_dataset():
    data = MemberData([SHORT, LONG, SHORT])
    online = OnlineData(data, 5)
    ours = online.sample(MemberRandom([0, 1, 2], "batches"), 50)
    for mine, theirs in zip(ours, data.sample(MemberRandom([0, 1, 2], "batches"), 50), strict=True):
        assert torch.equal(mine, theirs)


def test_every_transition_of_both_is_as_likely_and_whole():
    data = MemberData([SHORT, LONG, SHORT])
    online = OnlineData(data, 30)
    for step in range(1, 21):
        online.append(**transitions(step))
    draws = 40_000
    batch = online.sample(MemberRandom([3, 4, 5], "batches"), draws)
    assert online.count == 20
    for member, offset in enumerate(data.offsets.tolist()):
        size = int(data.sizes[member])
        collected = batch.rewards[member] >= 100.0
        expected = 20 / (size + 20)
        share = collected.double().mean().item()
        assert share == pytest.approx(expected, abs=5 * (expected / draws) ** 0.5)
        own = batch.rewards[member][collected]
        assert sorted(own.unique().tolist()) == [100.0 * k + member for k in range(1, 21)]
        assert torch.equal(batch.observations[member][collected][:, 1], own)
        assert torch.equal(batch.next_observations[member][collected][:, 0], own + 0.5)
        assert torch.equal(batch.terminations[member][collected], own % 2 == 0)
        assert not batch.has_next[member][collected].any()
        rows = batch.row[member][~collected]
        assert rows.min() >= offset
        assert rows.max() < offset + size
        of_data = data.take(rows[None])
        assert torch.equal(of_data.actions[0], batch.actions[member][~collected])


def test_its_state_is_what_was_collected():
    data = MemberData([SHORT, LONG, SHORT])
    first, second = OnlineData(data, 5), OnlineData(data, 5)
    for step in range(1, 4):
        first.append(**transitions(step))
    for name, tensor in second.state_dict().items():
        tensor.copy_(first.state_dict()[name])
    assert second.count == 3
    for each in (first, second):
        each.append(**transitions(9))
    draws = [each.sample(MemberRandom([3, 4, 5], "batches"), 500) for each in (first, second)]
    for mine, theirs in zip(*draws, strict=True):
        assert torch.equal(mine, theirs)


def make_environments(seeds=(0, 1, 1)):
    return MemberEnvironments([Member(SHORT, None, seed) for seed in seeds])


def test_transitions_are_those_of_the_environment_across_episodes():
    environments = make_environments()
    environments.begin(np.ones(3, bool))
    assert np.allclose(np.linalg.norm(environments.observations, axis=-1), 1.0)
    rng = np.random.default_rng(0)
    ends = 0
    for step in range(1, 2 * POINT_HORIZON + 1):
        before = environments.observations.astype(np.float64)
        # The first member goes straight to the origin, the others wander until the time limit.
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32) * 0.1
        actions[0] = (-before[0] / np.linalg.norm(before[0])).astype(np.float32)
        steps = environments.step(actions)
        for member in range(3):
            place, reward, arrived = point_step(before[member], actions[member].astype(np.float64))
            assert steps.next_observations[member] == pytest.approx(place, abs=1e-5)
            assert steps.rewards[member] == pytest.approx(reward, abs=1e-5)
            assert steps.terminations[member] == arrived
        ends += int(steps.terminations[0])
        began = np.linalg.norm(environments.observations - steps.next_observations, axis=-1) > 1e-6
        time_limit = step % POINT_HORIZON == 0
        assert began.tolist() == [bool(steps.terminations[0]), time_limit, time_limit]
    assert ends >= 7
    assert environments.episodes.tolist() == [1 + ends, 3, 3]


def test_episodes_follow_from_the_members_seed_and_their_number():
    first, second = make_environments((0, 1, 1)), make_environments((5, 1, 0))
    everyone = np.ones(3, bool)
    seen = []
    for environments in (first, second):
        starts = []
        for _ in range(3):
            environments.begin(everyone)
            starts.append(environments.observations.copy())
        seen.append(np.stack(starts))
    assert np.array_equal(seen[0][:, 1], seen[0][:, 2])
    assert np.array_equal(seen[0][:, 1], seen[1][:, 1])
    assert np.array_equal(seen[0][:, 0], seen[1][:, 2])
    assert len(np.unique(seen[0][:, :2].reshape(-1, 2), axis=0)) == 6
    second.episodes[:] = [0, 1, 0]
    second.begin(everyone)
    assert np.array_equal(second.observations[1], seen[0][1, 1])
