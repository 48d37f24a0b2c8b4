"""The directions in which vectors vary most: principal components by subspace iteration.

Only the space that they span is wanted, not its axes, and every call may begin where the one before
ended: two or three products with a tall matrix take the place of an eigendecomposition.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Projection(NamedTuple):
    """``y = (x - x̄) V``."""

    mean: Tensor  # (G, m) x̄
    basis: Tensor  # (G, m, d) V, orthonormal columns

    def __call__(self, vectors: Tensor) -> Tensor:
        """Returns the (G, n, d) coordinates of (G, n, m) vectors."""
        offset = -(self.mean.unsqueeze(1) @ self.basis)
        return torch.baddbmm(offset, vectors, self.basis)


def principal(vectors: Tensor, counted: Tensor, start: Tensor, iterations: int) -> Projection:
    """Returns the projection onto the directions of largest variance.

    Halko, Martinsson and Tropp, "Finding Structure with Randomness", SIAM Review 2011, Algorithm
    4.4. If all directions are asked for, ``start`` is returned.

    Args:
        vectors: (G, n, m) x.
        counted: (G, n) bool, which of them count; at least one.
        start: (G, m, d) directions to begin with.
        iterations: Steps of the iteration.
    """
    weight = counted.unsqueeze(-1).to(vectors.dtype)
    mean = (weight * vectors).sum(1) / weight.sum(1)
    basis = start
    if start.shape[-1] < start.shape[-2]:
        centred = weight * (vectors - mean.unsqueeze(1))
        for _ in range(iterations):
            basis, _ = torch.linalg.qr(centred.mT @ (centred @ basis))
    return Projection(mean, basis)
