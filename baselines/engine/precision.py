"""With what precision networks multiply matrices; everything else is float32.

``fp32``
    Exact products of float32 numbers, summed in float32.
``tf32``
    On a GPU numbers are rounded to 11 significant bits before they are multiplied. On a CPU fp32.
``bf16``
    Hidden layers are computed with numbers of 8 significant bits, sums in float32. The last layer
    is not: values and log-densities come from it.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, Self

import torch

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")

_half = False


def default_precision(device: torch.device | str) -> Precision:
    """Returns the precision that a device has if none is asked for: tf32 on a GPU, else fp32."""
    return "tf32" if torch.device(device).type == "cuda" else "fp32"


def hidden_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which hidden layers multiply numbers of ``dtype``."""
    return torch.bfloat16 if _half and dtype == torch.float32 else dtype


class MatmulPrecision:
    """A block in which networks multiply with a precision.

    Args:
        precision: The precision.
        device: Where.
    """

    def __init__(self, precision: Precision, device: torch.device | str):
        self._half = precision == "bf16"
        if torch.device(device).type == "cuda":
            self._setting = "highest" if precision == "fp32" else "high"
        else:
            self._setting = "medium" if _medium_is_exact() else "highest"

    def __enter__(self) -> Self:
        global _half
        self._outside = (_half, torch.get_float32_matmul_precision())
        _half = self._half
        torch.set_float32_matmul_precision(self._setting)
        return self

    def __exit__(self, *exception: object) -> None:
        global _half
        _half, setting = self._outside
        torch.set_float32_matmul_precision(setting)


@cache
def _medium_is_exact() -> bool:
    """Whether float32 products are exact on this CPU at torch's precision ``medium``.

    At ``medium`` torch leaves products to oneDNN, which may round to bfloat16 but does so only on
    processors that are faster at that. On others it is exact, and may be twice as fast as the
    library that torch uses otherwise: that one does not use every processor's widest instructions.
    """
    size = 256
    numbers = torch.arange(1, 2 * size * size + 1).view(2, size, size) * 63.0  # up to 23 bits
    outside = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        one = torch.eye(size).expand(2, size, size).contiguous()
        return torch.equal(one @ numbers, numbers) and torch.equal(numbers @ one, numbers)
    finally:
        torch.set_float32_matmul_precision(outside)
