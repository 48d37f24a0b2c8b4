"""One or more two-hidden-layer ReLU networks of equal shape over one flat parameter vector.

Forward and backward passes are written out: on one core, networks of width 256 lose more time to
the bookkeeping of automatic differentiation than a handful of products takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_threshold_backward = torch.ops.aten.threshold_backward


@dataclass(frozen=True)
class Activations:
    """What a backward pass needs of a forward pass over B rows by E networks of width H.

    Attributes:
        inputs: (B, in) float32.
        first: (B, E * H) after the first layer.
        second: E arrays (B, H) after the second layer.
        weights: (E, H, H) of the second layer, in the dtype it was computed in.
        outputs: E arrays (B, out) float32.
    """

    inputs: Tensor
    first: Tensor
    second: list[Tensor]
    weights: Tensor
    outputs: list[Tensor]


class FlatMLP:
    """Takes over the parameters of E networks, which become views of one vector.

    Args:
        networks: Each network's layers (first, second, outputs); where there are several output
            layers they are computed as one.

    Attributes:
        parameters: Flat vector of all parameters, with ``grad``.
    """

    def __init__(self, networks: Sequence[Sequence[nn.Linear]]) -> None:
        first, second, *heads = zip(*networks, strict=True)
        outputs = [head for network_heads in zip(*heads, strict=True) for head in network_heads]
        self.width = first[0].out_features
        self.num_networks = len(networks)
        groups = [[layer.weight for layer in layers] for layers in (first, second, outputs)]
        groups += [[layer.bias for layer in layers] for layers in (first, second, outputs)]
        sizes = [sum(parameter.numel() for parameter in group) for group in groups]
        members = [parameter for group in groups for parameter in group]
        with torch.no_grad():
            flat = torch.cat([parameter.flatten() for parameter in members])
        self.parameters = nn.Parameter(flat)
        self.parameters.grad = torch.zeros_like(flat)
        start = 0
        for parameter in members:
            parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

        shapes = [
            (-1, first[0].in_features),
            (self.num_networks, self.width, self.width),
            (self.num_networks, -1, self.width),
            (-1,),
            (self.num_networks, self.width),
            (self.num_networks, -1),
        ]

        def views(vector: Tensor) -> list[Tensor]:
            parts = vector.split(sizes)
            return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

        self._weights = views(flat)
        self._gradients = views(self.parameters.grad)

    def forward(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Activations:
        """Computes the networks' outputs.

        Args:
            inputs: (B, in) float32, the same for all networks.
            dtype: Arithmetic of the second layer; the others are computed in float32.
        """
        w0, w1, w2, b0, b1, b2 = self._weights
        first = torch.addmm(b0, inputs, w0.t()).relu_().to(dtype)
        w1, b1 = w1.to(dtype), b1.to(dtype)
        second, outputs = [], []
        for e, part in enumerate(first.split(self.width, 1)):
            hidden = torch.addmm(b1[e], part, w1[e].t()).relu_()
            second.append(hidden)
            outputs.append(torch.addmm(b2[e], hidden.float(), w2[e].t()))
        return Activations(inputs, first, second, w1, outputs)

    def backward(
        self, seen: Activations, grads: Sequence[Tensor], *, to_inputs: bool = False
    ) -> Tensor | None:
        """Writes the parameters' gradient, or returns that of the inputs.

        Args:
            seen: Of the forward pass, parameters unchanged since.
            grads: E arrays (B, out), the loss's gradient by the outputs.
            to_inputs: Whether the inputs' gradient is wanted, and not the parameters'.

        Returns:
            (B, in) if ``to_inputs``.
        """
        dtype = seen.first.dtype
        w0, _, w2, *_ = self._weights
        d_w0, d_w1, d_w2, d_b0, d_b1, d_b2 = self._gradients
        passed = []
        for e, grad in enumerate(grads):
            hidden = seen.second[e]
            back = _threshold_backward((grad @ w2[e]).to(dtype), hidden, 0)
            passed.append(back @ seen.weights[e])
            if not to_inputs:
                part = seen.first[:, e * self.width : (e + 1) * self.width]
                d_w1[e] = back.t() @ part
                d_b1[e] = back.sum(0, dtype=torch.float32)
                torch.mm(grad.t(), hidden.float(), out=d_w2[e])
                torch.sum(grad, 0, out=d_b2[e])
        together = torch.cat(passed, 1) if len(passed) > 1 else passed[0]
        back = _threshold_backward(together, seen.first, 0).float()
        if to_inputs:
            return back @ w0
        torch.mm(back.t(), seen.inputs, out=d_w0)
        torch.sum(back, 0, out=d_b0)
        return None
