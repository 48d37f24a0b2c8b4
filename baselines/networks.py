"""Networks for populations: shapes here, parameters in one flat vector per member.

A population of ``P`` networks is one tensor ``(P, n)``; an ensemble of ``E`` critics per member is
``(E, P, n)``. A target network is then a clone, its exponential average one ``lerp_``, an optimiser
step a few elementwise kernels on one buffer, and a layer one batched matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from baselines.engine.random import MemberRandom


class MLP:
    """A multilayer perceptron with ReLU between its layers.

    Args:
        sizes: Width of the input, of each hidden layer and of the output.
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = tuple(sizes)
        self.layers = tuple(pairwise(self.sizes))
        self._splits = [part for i, o in self.layers for part in (i * o, o)]
        self.num_parameters = sum(self._splits)

    def init(self, random: MemberRandom, *, ensemble: int | None = None) -> Tensor:
        """Draws parameters uniformly within ``±1/sqrt(fan_in)``, biases too, as PyTorch does.

        Args:
            random: The members' stream.
            ensemble: Networks per member; None gives no ensemble axis.

        Returns:
            (P, n) or (E, P, n) float32 leaf tensor that requires a gradient.
        """
        bounds = torch.cat(
            [torch.full((i * o + o,), i**-0.5, device=random.keys.device) for i, o in self.layers]
        )
        shape = (self.num_parameters,) if ensemble is None else (ensemble, self.num_parameters)
        parameters = (2.0 * random.uniform(*shape) - 1.0) * bounds
        if ensemble is not None:
            parameters = parameters.transpose(0, 1).contiguous()
        return parameters.requires_grad_()

    def __call__(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """Applies every network to its inputs.

        Args:
            parameters: (*stack, n), with stack (P,) or (E, P).
            inputs: (P, B, in) shared by an ensemble, or (*stack, B, in).

        Returns:
            (*stack, B, out).
        """
        stack, batch = parameters.shape[:-1], inputs.shape[-2:]
        x = inputs.expand(*stack, *batch).reshape(-1, *batch)
        pieces = parameters.view(-1, self.num_parameters).split(self._splits, dim=-1)
        for layer, (fan_in, fan_out) in enumerate(self.layers):
            if layer:
                x = x.relu_()
            weight, bias = pieces[2 * layer : 2 * layer + 2]
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.view(-1, fan_in, fan_out))
        return x.view(*stack, *x.shape[-2:])
