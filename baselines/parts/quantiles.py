"""Quantiles of each member's numbers, that are among the numbers."""

from __future__ import annotations

import math

from torch import Tensor


def quantile(values: Tensor, share: Tensor | float) -> Tensor:
    """Returns the (P,) smallest of (P, B) values that at least a share does not exceed.

    Args:
        values: (P, B).
        share: (P,) shares in [0, 1], or one for all members.
    """
    ranked, count = values.sort(dim=-1).values, values.shape[-1]
    if isinstance(share, Tensor):
        index = (share * count).ceil().long().clamp(1, count).sub(1)
        return ranked.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return ranked[..., min(max(math.ceil(share * count), 1), count) - 1]
