"""Initial parameters of networks, drawn from the members' own streams.

An initialiser takes the members' stream, a shape such as ``()`` or ``(E,)`` and the (in, out)
widths of every layer, and returns per layer the (P, *shape, in, out) weights and (P, *shape, out)
biases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from baselines.engine.random import MemberRandom

Widths = Sequence[tuple[int, int]]
Initialiser = Callable[[MemberRandom, tuple[int, ...], Widths], list[tuple[Tensor, Tensor]]]


def uniform_fan_in(
    random: MemberRandom,
    shape: tuple[int, ...],
    layers: Widths,
    *,
    last: float | None = None,
    hidden_bias: float | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Uniform within ``±1/sqrt(fan_in)``, biases too, as PyTorch's linear layers are.

    Args:
        random: The members' stream.
        shape: Networks per member.
        layers: (in, out) widths.
        last: Bound of the last layer instead; None leaves it like the others.
        hidden_bias: All biases of the other layers instead; None leaves them random.
    """
    sizes = [fan_in * fan_out + fan_out for fan_in, fan_out in layers]
    bounds = [fan_in**-0.5 for fan_in, _ in layers]
    if last is not None:
        bounds[-1] = last
    numbers = 2.0 * random.uniform(*shape, sum(sizes)) - 1.0
    drawn = []
    for (fan_in, fan_out), bound, part in zip(
        layers, bounds, numbers.split(sizes, dim=-1), strict=True
    ):
        weight, bias = (bound * part).split([fan_in * fan_out, fan_out], dim=-1)
        drawn.append((weight.unflatten(-1, (fan_in, fan_out)), bias))
    if hidden_bias is not None:
        for _, bias in drawn[:-1]:
            bias.fill_(hidden_bias)
    return drawn


def small_output(bound: float, *, hidden_bias: float | None = None) -> Initialiser:
    """Returns the initialiser whose last layer is uniform within ``±bound``.

    Args:
        bound: The bound.
        hidden_bias: All biases of the other layers; None leaves them random.
    """
    return partial(uniform_fan_in, last=bound, hidden_bias=hidden_bias)


def orthogonal(
    random: MemberRandom,
    shape: tuple[int, ...],
    layers: Widths,
    *,
    gain: float = 2.0**0.5,
    last_gain: float = 1e-2,
) -> list[tuple[Tensor, Tensor]]:
    """Orthogonal weights (Saxe, McClelland and Ganguli, 2014) and no biases.

    Args:
        random: The members' stream.
        shape: Networks per member.
        layers: (in, out) widths.
        gain: Length of rows or columns, whichever are fewer, in hidden layers.
        last_gain: The same in the last layer.
    """
    gains = [gain] * (len(layers) - 1) + [last_gain]
    drawn = []
    for (fan_in, fan_out), length in zip(layers, gains, strict=True):
        high, wide = max(fan_in, fan_out), min(fan_in, fan_out)
        # Decomposed on the CPU, so that a GPU starts from the same numbers.
        basis, triangle = torch.linalg.qr(random.normal(*shape, high, wide).cpu())
        # With these signs the distribution is uniform over orthogonal matrices.
        basis = basis * triangle.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
        weight = (basis if fan_in >= fan_out else basis.transpose(-1, -2)) * length
        weight = weight.to(random.keys.device)
        drawn.append((weight, weight.new_zeros(*weight.shape[:-2], fan_out)))
    return drawn
