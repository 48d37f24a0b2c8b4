"""Networks for populations: shapes here, parameters in one flat vector per member.

A population of ``P`` networks is one tensor ``(P, n)``; an ensemble of ``E`` critics per member is
``(E, P, n)``. A target network is then a clone, its exponential average one ``lerp_``, an optimiser
step a few elementwise kernels on one buffer, and a layer one batched matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from baselines.engine.precision import hidden_dtype
from baselines.engine.random import MemberRandom
from baselines.parts.initialisation import Initialiser, uniform_fan_in

NormPlace = Literal["none", "before", "after"]
"""Layer normalisation of hidden layers: none, before the ReLU, or after it."""
NORM_PLACES: tuple[NormPlace, ...] = ("none", "before", "after")


class Layer(NamedTuple):
    """One layer's parameters for ``S`` stacked networks."""

    weight: Tensor  # (S, in, out)
    bias: Tensor  # (S, 1, out)
    norm_weight: Tensor | None  # (S, 1, out), of layer normalisation
    norm_bias: Tensor | None  # (S, 1, out)


class LastLayer(torch.autograd.Function):
    """A layer in float32 on half precise activations, to which the gradient goes half precise, too.

    Left to automatic differentiation the gradient by the activations is made in float32 and then
    rounded, which takes five times as much memory: with few outputs, most of the layer's time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, widened: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Returns the (S, B, out) outputs.

        Args:
            ctx: Keeps what the gradients take.
            x: (S, B, in) activations, half precise.
            widened: The same in float32.
            weight: (S, in, out).
            bias: (S, 1, out).
        """
        ctx.save_for_backward(widened, weight)
        ctx.dtype = x.dtype
        return torch.baddbmm(bias, widened, weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients by ``x``, ``weight`` and ``bias``."""
        (gradient,) = grad_outputs
        widened, weight = ctx.saved_tensors
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_x = torch.bmm(gradient.to(ctx.dtype), weight.to(ctx.dtype).mT)
        if ctx.needs_input_grad[2]:
            by_weight = torch.bmm(widened.mT, gradient)
        if ctx.needs_input_grad[3]:
            by_bias = gradient.sum(1, keepdim=True)
        return by_x, None, by_weight, by_bias


class MLP:
    """A multilayer perceptron with ReLU between its layers.

    Args:
        sizes: Width of the input, of each hidden layer and of the output.
        norm: Where hidden layers have layer normalisation (Ba, Kiros and Hinton, 2016), if they do.
        dropout: Probability with which a hidden unit is dropped in a call that is given a stream.
        extra: Further parameters per network, initially zero, that belong to no layer: a standard
            deviation that does not depend on the input, for example.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        norm: NormPlace = "none",
        dropout: float = 0.0,
        extra: int = 0,
    ):
        self.sizes = tuple(sizes)
        self.layers = tuple(pairwise(self.sizes))
        self.norm = norm
        self.dropout = dropout
        self._extra = extra
        self._splits = [
            part
            for number, (fan_in, fan_out) in enumerate(self.layers)
            for part in (
                fan_in * fan_out,
                fan_out,
                *(2 * [fan_out] if self._normed(number) else []),
            )
        ] + [extra]
        self.num_parameters = sum(self._splits)

    def _normed(self, layer: int) -> bool:
        return self.norm != "none" and layer < len(self.layers) - 1

    def init(
        self,
        random: MemberRandom,
        *,
        ensemble: int | None = None,
        initialiser: Initialiser = uniform_fan_in,
    ) -> Tensor:
        """Draws parameters; by default uniformly within ``±1/sqrt(fan_in)``, as PyTorch does.

        Args:
            random: The members' stream.
            ensemble: Networks per member; None gives no ensemble axis.
            initialiser: Gives the weights and biases of every layer.

        Returns:
            (P, n) or (E, P, n) float32 leaf tensor that requires a gradient.
        """
        shape = () if ensemble is None else (ensemble,)
        parts: list[Tensor] = []
        drawn = initialiser(random, shape, self.layers)
        for number, (weight, bias) in enumerate(drawn):
            parts += [weight.flatten(-2), bias]
            if self._normed(number):
                parts += [torch.ones_like(bias), torch.zeros_like(bias)]
        parts.append(parts[-1].new_zeros(*parts[-1].shape[:-1], self._extra))
        parameters = torch.cat(parts, dim=-1)
        if ensemble is not None:
            parameters = parameters.transpose(0, 1).contiguous()
        return parameters.requires_grad_()

    def extra(self, parameters: Tensor) -> Tensor:
        """Returns the (*stack, extra) parameters that belong to no layer."""
        return parameters[..., self.num_parameters - self._extra :]

    def __call__(
        self, parameters: Tensor, inputs: Tensor, *, dropout: MemberRandom | None = None
    ) -> Tensor:
        """Applies every network to its inputs.

        Args:
            parameters: (*stack, n), with stack (P,) or (E, P).
            inputs: (P, B, in) shared by an ensemble, or (*stack, B, in).
            dropout: The stream that drops hidden units; None drops none.

        Returns:
            (*stack, B, out).
        """
        return self.with_features(parameters, inputs, dropout=dropout)[0]

    def with_features(
        self, parameters: Tensor, inputs: Tensor, *, dropout: MemberRandom | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns outputs and what the last layer is applied to.

        Args:
            parameters: (*stack, n).
            inputs: (P, B, in) shared by an ensemble, or (*stack, B, in).
            dropout: The stream that drops hidden units; None drops none.

        Returns:
            (*stack, B, out) outputs and (*stack, B, width) penultimate activations.
        """
        stack, batch = parameters.shape[:-1], inputs.shape[-2:]
        x = inputs.expand(*stack, *batch).reshape(-1, *batch)
        *hidden, last = self.unpack(parameters)
        dtype = hidden_dtype(x.dtype)
        for layer in hidden:
            x = torch.baddbmm(layer.bias.to(dtype), x.to(dtype), layer.weight.to(dtype))
            x = self._activate(x, layer)
            if dropout is not None and self.dropout > 0.0:
                x = x * self._kept(x, stack, dropout)
        features = x.to(last.weight.dtype)
        if x.dtype == features.dtype:
            outputs = torch.baddbmm(last.bias, features, last.weight)
        else:
            outputs = LastLayer.apply(x, features.detach(), last.weight, last.bias)
        return outputs.view(*stack, batch[0], -1), features.view(*stack, batch[0], -1)

    def _activate(self, x: Tensor, layer: Layer) -> Tensor:
        """Returns the ReLU of (S, B, width) preactivations, with normalisation where it belongs."""
        if layer.norm_weight is None or layer.norm_bias is None:
            return x.relu_()
        if self.norm == "after":
            x = x.relu_()
        x = layer_norm(x.to(layer.weight.dtype), x.shape[-1:])
        x = torch.addcmul(layer.norm_bias, x, layer.norm_weight)
        return x.relu_() if self.norm == "before" else x

    def _kept(self, x: Tensor, stack: tuple[int, ...], random: MemberRandom) -> Tensor:
        """Returns zeros for dropped units, and for kept ones what keeps the mean as it is."""
        shape = (*stack[:-1], *x.shape[-2:])
        kept = random.bernoulli(1.0 - self.dropout, *shape)
        if len(stack) > 1:
            kept = kept.transpose(0, 1)
        return kept.reshape(x.shape).to(x.dtype).mul_(1.0 / (1.0 - self.dropout))

    def unpack(self, parameters: Tensor) -> list[Layer]:
        """Returns the layers' views of (*stack, n) parameters."""
        pieces = iter(parameters.reshape(-1, self.num_parameters).split(self._splits, dim=-1))
        layers = []
        for number, (fan_in, fan_out) in enumerate(self.layers):
            weight, bias = next(pieces).view(-1, fan_in, fan_out), next(pieces).unsqueeze(1)
            norm_weight = norm_bias = None
            if self._normed(number):
                norm_weight, norm_bias = next(pieces).unsqueeze(1), next(pieces).unsqueeze(1)
            layers.append(Layer(weight, bias, norm_weight, norm_bias))
        return layers
