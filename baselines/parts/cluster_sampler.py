"""Batches of one cluster each, from tables that are written now and then."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.engine.random import MemberRandom

WORD = 1 << 32
"""Draws are integers of 32 bits, as in :meth:`~baselines.engine.random.MemberRandom.integers`."""


def thresholds(weights: Tensor) -> Tensor:
    """Returns the least 32-bit words that do not draw entries 0, ..., k, in proportion to weights.

    ``word`` draws the entry whose number is that of the thresholds not above it. With equal weights
    it is the number that :meth:`~baselines.engine.random.MemberRandom.integers` draws with it.

    Args:
        weights: (..., n) non-negative, float64; if all are 0, nothing is ever drawn.

    Returns:
        (..., n) int64, non-decreasing, in [0, 2³²].
    """
    cumulated = weights.cumsum(-1)
    total = cumulated[..., -1:]
    shares = cumulated * WORD / torch.where(total > 0.0, total, 1.0)
    return shares.ceil().long()


class ClusterSampler:
    """Draws a cluster z ~ Cat(p), then transitions i.i.d. in proportion to r_iz.

    Both are searches in sorted tables of fixed shape, without host synchronisation. A transition's
    probability is ``Σ_z p_z r_iz / N_z = 1/n``: clusters change the composition of batches, not how
    often a transition is seen. Before anything is written all batches are of row 0.

    Args:
        seeds: (P,) member seeds.
        clusters: ``K``, the largest number of clusters.
        pool: ``n``, transitions that batches are drawn from until tables are next written.
        device: Where tables are.

    Attributes:
        rows: (P, n) int64 rows, in a member's own dataset, of its pool's transitions.
    """

    def __init__(self, seeds: Sequence[int], clusters: int, pool: int, device: torch.device):
        members = len(seeds)
        self.rows = torch.zeros(members, pool, dtype=torch.int64, device=device)
        self._random = MemberRandom(seeds, "clusters", device)
        self._clusters = torch.full((members, clusters), WORD, dtype=torch.int64, device=device)
        ends = torch.arange(1, clusters + 1, device=device) * WORD
        self._entries = ends.repeat_interleave(pool).repeat(members, 1)

    def write(self, members: slice, rows: Tensor, responsibilities: Tensor, keep: Tensor) -> None:
        """Writes the tables of some members.

        Args:
            members: Which.
            rows: (G, n') int64 rows, in their datasets, of their pools; n' at most n.
            responsibilities: (G, n', K) r, summing to 1 over z; all 0 for rows that are not drawn.
            keep: (G,) bool, members whose tables stay as they are.
        """
        weights = responsibilities.mT.double()
        starts = torch.arange(weights.shape[1], device=weights.device).unsqueeze(-1) * WORD
        count, pool = rows.shape[1], self.rows.shape[1]
        # What lies beyond n' is never drawn: its thresholds are those of the last entry.
        entries = thresholds(weights) + starts
        entries = torch.cat([entries, entries[..., -1:].expand(-1, -1, pool - count)], dim=-1)
        rows = torch.cat([rows, rows[:, -1:].expand(-1, pool - count)], dim=-1)
        clusters = thresholds(weights.sum(-1))
        for table, new in (
            (self.rows, rows),
            (self._clusters, clusters),
            (self._entries, entries.flatten(1)),
        ):
            table[members] = torch.where(keep.unsqueeze(-1), table[members], new)

    def draw(self, random: MemberRandom, batch_size: int) -> Tensor:
        """Returns (P, B) int64 rows in the members' datasets, each member's of one cluster.

        Args:
            random: The members' stream of batches. With one cluster of equal weights over a whole
                dataset the rows are those of a uniform batch from it.
            batch_size: ``B``.
        """
        pool = self.rows.shape[1]
        cluster = torch.searchsorted(self._clusters, _words(self._random, 1), right=True)
        words = _words(random, batch_size) + cluster * WORD
        entry = torch.searchsorted(self._entries, words, right=True) - cluster * pool
        return self.rows.gather(1, entry)

    def state_dict(self) -> dict[str, object]:
        """Returns the live tensors that determine all further draws."""
        return {
            "rows": self.rows,
            "clusters": self._clusters,
            "entries": self._entries,
            "random": self._random.state_dict(),
        }


def _words(random: MemberRandom, count: int) -> Tensor:
    """Returns (P, count) int64 numbers of 32 random bits."""
    return random.bits(count).bitwise_right_shift_(32).bitwise_and_(WORD - 1)
