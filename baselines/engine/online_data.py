"""What fine-tuning in an environment adds to data: each member's own environment and transitions.

Every member collects one transition per step. They are kept behind the rows of the datasets, in
space that is taken once, and batches are drawn from a member's dataset and transitions together.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.engine.data import Batch, MemberData
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from hetero_bench.envs.batch import make_batch, require_environment

_COLLECTED = ("observations", "actions", "rewards", "next_observations", "terminations")


class OnlineData:
    """The members' datasets, and space for what they collect.

    Args:
        data: The datasets, as prepared.
        capacity: Transitions that every member may collect.

    Attributes:
        rows: :class:`Batch` of all datasets' transitions and then each member's collected ones.
            These have no next action.
    """

    def __init__(self, data: MemberData, capacity: int):
        more = data.num_members * capacity
        extended = [torch.cat([each, each.new_zeros(more, *each.shape[1:])]) for each in data.rows]
        self.rows = Batch(*extended)
        self._first = len(data.rows.rewards)
        self.rows.row[self._first :] = torch.arange(more, device=data.device) + self._first
        self._data = data
        self._begins = self._first + capacity * torch.arange(data.num_members, device=data.device)
        self._count = np.zeros((), np.int64)  # for the host, and as a tensor for the checkpoint

    @property
    def count(self) -> int:
        """Transitions that every member has collected."""
        return int(self._count)

    def append(self, **columns: Tensor) -> None:
        """Adds one transition per member.

        Args:
            columns: (P, ...) ``observations``, ``actions``, ``rewards``, ``next_observations`` and
                ``terminations``, as prepared.
        """
        places = self._begins + self.count
        for name in _COLLECTED:
            getattr(self.rows, name).index_copy_(0, places, columns[name])
        self._count += 1

    def sample(self, random: MemberRandom, batch_size: int) -> Batch:
        """Draws transitions uniformly with replacement from datasets and collected ones together.

        Args:
            random: The members' stream.
            batch_size: ``B``, transitions per member.
        """
        sizes = self._data.sizes.unsqueeze(-1)
        numbers = random.integers(self._data.sizes + self.count, batch_size)
        offsets = torch.where(
            numbers < sizes,
            self._data.offsets.unsqueeze(-1),
            self._begins.unsqueeze(-1) - sizes,
        )
        rows = numbers + offsets
        return Batch(*(each[rows] for each in self.rows))

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the live tensors of what has been collected."""
        collected = {name: getattr(self.rows, name)[self._first :] for name in _COLLECTED}
        return {**collected, "count": torch.from_numpy(self._count)}


class Steps(NamedTuple):
    """What one step in every member's environment gave."""

    rewards: np.ndarray  # (P,) float32, raw
    next_observations: np.ndarray  # (P, *obs) float32, true successors
    terminations: np.ndarray  # (P,) bool


class MemberEnvironments:
    """One environment per member, in which episodes follow each other.

    The seed of a member's episode follows from the member's seed and the episode's number. Members
    with the same environment are stepped together.

    Args:
        members: (P,) members.

    Attributes:
        observations: (P, *obs) float32 present observations.
        episodes: (P,) int64 episodes begun.

    Raises:
        ValueError: If a dataset was registered without an environment.
    """

    def __init__(self, members: Sequence[Member]):
        environments = [require_environment(member.dataset.spec) for member in members]
        self._groups = []
        for environment in (
            each for k, each in enumerate(environments) if environments.index(each) == k
        ):
            numbers = np.flatnonzero([each == environment for each in environments])
            self._groups.append((numbers, make_batch(environment, len(numbers))))
        self._seeds = [member.seed for member in members]
        shape = members[0].dataset.transitions.observations.shape[1:]
        self.observations = np.zeros((len(members), *shape), np.float32)
        self.episodes = np.zeros(len(members), np.int64)

    def begin(self, where: np.ndarray) -> None:
        """Begins new episodes for the members of a (P,) mask."""
        if not where.any():
            return
        numbered = zip(self._seeds, self.episodes.tolist(), strict=True)
        seeds = np.array([_seed(*each) for each in numbered])
        for numbers, batch in self._groups:
            if where[numbers].any():
                self.observations[numbers] = batch.reset(where[numbers], seeds[numbers])
        self.episodes += where

    def step(self, actions: np.ndarray) -> Steps:
        """Takes a step in every environment; where an episode ends, the next one begins.

        Args:
            actions: (P, *act) in the environments' units.
        """
        members = len(self.episodes)
        rewards = np.zeros(members, np.float32)
        terminations, truncations = np.zeros(members, bool), np.zeros(members, bool)
        for numbers, batch in self._groups:
            steps = batch.step(actions[numbers], np.ones(len(numbers), bool))
            self.observations[numbers] = steps.observations
            rewards[numbers] = steps.rewards
            terminations[numbers] = steps.terminations
            truncations[numbers] = steps.truncations
        successors = self.observations.copy()
        self.begin(terminations | truncations)
        return Steps(rewards, successors, terminations)

    def close(self) -> None:
        """Frees what the environments hold."""
        for _, batch in self._groups:
            batch.close()


def _seed(member_seed: int, episode: int) -> int:
    key = (zlib.crc32(b"online episodes"), episode)
    return int(np.random.SeedSequence(member_seed, spawn_key=key).generate_state(1, np.uint32)[0])
