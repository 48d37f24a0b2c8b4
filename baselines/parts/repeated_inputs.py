"""Networks applied to many variables in one context: K actions, or K latents, in every state.

The first layer is linear: ``W [c; v] = W_c c + W_v v``. Its product with the context is taken once
per context and not once per variable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.engine.precision import hidden_dtype
from baselines.parts.networks import MLP


def with_repeated_context(
    network: MLP, parameters: Tensor, context: Tensor, variables: Tensor
) -> Tensor:
    """Applies every network to its context joined with each of K variables.

    Args:
        network: Its shape: no normalisation. No units are dropped.
        parameters: (*stack, n), with stack (P,) or (E, P).
        context: (P, B, c), the first inputs of the network.
        variables: (P, B, K, v), the others.

    Returns:
        (*stack, B, K, out).

    Raises:
        ValueError: If the network normalises.
    """
    if network.norm != "none":
        raise ValueError(f"a network with normalisation {network.norm!r}; expected none")
    stack, (B, K) = parameters.shape[:-1], variables.shape[1:3]
    split = context.shape[-1]
    first, *others = network.unpack(parameters)
    dtype = hidden_dtype(context.dtype)
    if not others:
        dtype = first.weight.dtype
    context = context.expand(*stack, -1, -1).flatten(0, -3).to(dtype)
    variables = variables.flatten(1, 2).expand(*stack, -1, -1).flatten(0, -3).to(dtype)
    weight = first.weight.to(dtype)
    once = torch.baddbmm(first.bias.to(dtype), context, weight[:, :split])
    x = torch.bmm(variables, weight[:, split:])
    x.view(-1, B, K, x.shape[-1]).add_(once.unsqueeze(2))
    for layer in others:
        dtype = hidden_dtype(layer.weight.dtype) if layer is not others[-1] else layer.weight.dtype
        x = torch.baddbmm(layer.bias.to(dtype), x.relu_().to(dtype), layer.weight.to(dtype))
    return x.view(*stack, B, K, -1)
