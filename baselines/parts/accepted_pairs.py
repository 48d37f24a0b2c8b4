"""A ring of pairs of a dataset's state and an action that was accepted there: CAR's dataset D'.

It lives on the device at its full size and keeps states as rows of the dataset. A batch of
proposals is appended without shapes that depend on how many of them are accepted: those that are
not go to places behind the ring that are never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from baselines.engine.data import MemberData
from baselines.engine.random import MemberRandom


class Pairs(NamedTuple):
    """States and actions from a dataset and a ring; ``P`` members, ``B`` pairs each."""

    observations: Tensor  # (P, B, obs) float32, as prepared
    actions: Tensor  # (P, B, act) float32 in [-1, 1]
    from_ring: Tensor  # (P, B) bool


class AcceptedPairs:
    """One ring per member, which forgets the oldest pairs first.

    Args:
        data: The datasets whose states are kept.
        capacities: (P,) pairs that each member's ring holds.
        batch_size: ``B``, proposals per call of :meth:`append`.

    Attributes:
        rows: (P, C + B) int32 rows of the states in the member's dataset, ``C`` the largest
            capacity.
        actions: (P, C + B, act) float32.
        accepted: (P,) int64 pairs accepted so far, those forgotten included.

    Raises:
        ValueError: If a ring does not hold a whole batch.
    """

    def __init__(self, data: MemberData, capacities: Sequence[int], batch_size: int):
        if min(capacities) < batch_size:
            raise ValueError(
                f"a ring of {min(capacities):,} accepted pairs does not hold one batch of "
                f"{batch_size:,}; enlarge the ring or lower batch_size"
            )
        members, places = len(capacities), max(capacities) + batch_size
        self.rows = torch.zeros(members, places, dtype=torch.int32, device=data.device)
        self.actions = torch.zeros(members, places, data.action_size, device=data.device)
        self.accepted = torch.zeros(members, dtype=torch.int64, device=data.device)
        self.capacities = torch.tensor(capacities, device=data.device)
        self._data = data
        # One place per proposal: no two of them are written to the same one.
        self._aside = max(capacities) + torch.arange(batch_size, device=data.device)

    @property
    def sizes(self) -> Tensor:
        """(P,) int64 pairs that are in the rings."""
        return torch.minimum(self.accepted, self.capacities)

    def append(self, rows: Tensor, actions: Tensor, accepted: Tensor) -> None:
        """Appends the accepted ones of a batch of pairs, in their order.

        Args:
            rows: (P, B) int64 rows of the states in ``data.rows``.
            actions: (P, B, act).
            accepted: (P, B) bool.
        """
        numbers = self.accepted.unsqueeze(-1) + accepted.cumsum(-1) - 1
        places = torch.where(accepted, numbers % self.capacities.unsqueeze(-1), self._aside)
        own = (rows - self._data.offsets.unsqueeze(-1)).to(torch.int32)
        self.rows.scatter_(1, places, own)
        self.actions.scatter_(1, places.unsqueeze(-1).expand_as(actions), actions)
        self.accepted.add_(accepted.sum(-1))

    def sample_union(self, random: MemberRandom, batch_size: int) -> Pairs:
        """Draws pairs uniformly with replacement from each member's dataset and ring together.

        Args:
            random: The members' stream.
            batch_size: ``B``, pairs per member.
        """
        sizes, offsets = self._data.sizes.unsqueeze(-1), self._data.offsets.unsqueeze(-1)
        numbers = random.integers(self._data.sizes + self.sizes, batch_size)
        from_ring = numbers >= sizes
        places = (numbers - sizes).clamp_(min=0)
        rows = torch.where(from_ring, self.rows.gather(1, places), numbers) + offsets
        stored = places.unsqueeze(-1).expand(-1, -1, self.actions.shape[-1])
        dataset = self._data.rows
        actions = torch.where(
            from_ring.unsqueeze(-1), self.actions.gather(1, stored), dataset.actions[rows]
        )
        return Pairs(dataset.observations[rows], actions, from_ring)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the live tensors, members first and without a third axis."""
        return {
            "rows": self.rows,
            "actions": self.actions.view(len(self.actions), -1),
            "accepted": self.accepted,
        }
