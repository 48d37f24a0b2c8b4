"""Quantiles of each member's numbers, that are among the numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def quantile(values: Tensor, share: Tensor | float) -> Tensor:
    """Returns the (P,) smallest of (P, B) values that at least a share does not exceed.

    Args:
        values: (P, B).
        share: (P,) shares in [0, 1], or one for all members.
    """
    count = values.shape[-1]
    shares = torch.as_tensor(share, dtype=values.dtype, device=values.device)
    index = (shares * count).ceil().long().clamp(1, count).sub(1).expand(values.shape[:1])
    return values.sort(dim=-1).values.gather(-1, index.unsqueeze(-1)).squeeze(-1)
