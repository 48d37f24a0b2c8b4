"""Gradients of networks with respect to their inputs, as an ordinary differentiable function.

For ``f(x) = w_L ReLU(... ReLU(x W_1 + b_1) ...) + b_L``, with the units that are not zero as masks,

    ∇_x f = W_1 (m_1 ∘ W_2 (m_2 ∘ ... w_L)).

The masks have no derivative, almost everywhere. Written out like this, a loss of the gradient needs
one backward pass for the network's parameters and not one nested in another: as much arithmetic,
but it can be captured and compiled like any other function.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.engine.precision import hidden_dtype
from baselines.parts.networks import MLP


def values_and_gradients(
    network: MLP, parameters: Tensor, inputs: Tensor, columns: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Returns outputs of networks with one output, and their gradients by the inputs.

    Both are differentiable by the parameters. The gradients are piecewise constant in the inputs.

    Args:
        network: Its shape: one output, no normalisation. No units are dropped.
        parameters: (*stack, n), with stack (P,) or (E, P).
        inputs: (P, B, in) shared by an ensemble, or (*stack, B, in).
        columns: The inputs that the gradients are of; all by default.

    Returns:
        (*stack, B) outputs and (*stack, B, columns) gradients.

    Raises:
        ValueError: If the network has several outputs or normalises.
    """
    if network.sizes[-1] != 1 or network.norm != "none":
        raise ValueError(
            f"a network with {network.sizes[-1]} outputs and normalisation {network.norm!r}; "
            "expected one output and no normalisation"
        )
    stack, batch = parameters.shape[:-1], inputs.shape[-2:]
    x = inputs.expand(*stack, *batch).reshape(-1, *batch)
    layers = network.unpack(parameters)
    dtype = hidden_dtype(x.dtype)
    positive = []
    for layer in layers[:-1]:
        x = torch.baddbmm(layer.bias.to(dtype), x.to(dtype), layer.weight.to(dtype)).relu_()
        positive.append(x > 0)
    last = layers[-1]
    values = torch.baddbmm(last.bias, x.to(last.weight.dtype), last.weight)

    weights = [layers[0].weight[:, columns], *(layer.weight for layer in layers[1:])]
    gradients = weights.pop().mT.expand(-1, batch[0], -1)
    while weights:
        gradients = torch.bmm((gradients * positive.pop()).to(dtype), weights.pop().mT.to(dtype))
    gradients = gradients.to(values.dtype)
    return values.view(*stack, batch[0]), gradients.view(*stack, *gradients.shape[-2:])
