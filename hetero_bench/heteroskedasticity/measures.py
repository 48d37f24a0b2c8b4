"""What every measure of heteroskedasticity reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

BehaviourSource = Literal["exact", "fitted"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Summary:
    """How a per-row quantity is distributed over a dataset's rows.

    Attributes:
        mean: Mean.
        std: Standard deviation (population).
        maximum: Largest value.
        quantiles: By probability.
    """

    mean: float
    std: float
    maximum: float
    quantiles: dict[float, float]

    @classmethod
    def of(cls, values: np.ndarray, probabilities: Sequence[float]) -> Summary:
        """Summarises (N,) finite values."""
        return Summary(**summarise(values, probabilities))

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as plain JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(Summary)}


def summarise(values: np.ndarray, probabilities: Sequence[float]) -> dict[str, Any]:
    """Returns the fields of a :class:`Summary` of (N,) finite values."""
    quantiles = np.quantile(values, probabilities)
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "maximum": float(values.max()),
        "quantiles": dict(zip(probabilities, quantiles.tolist(), strict=True)),
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class Heteroskedasticity(Summary):
    """Measures of one dataset against one policy; the summary is that of D(π, β)(s) over its rows.

    Its standard deviation and maximum are those of the ReDS paper's Table 3.

    Attributes:
        dataset_id: The dataset's canonical id.
        behaviour: ``exact``: β as recorded; ``fitted``: β estimated from the actions.
    """

    dataset_id: str
    behaviour: BehaviourSource

    def to_dict(self) -> dict[str, Any]:
        """Returns the scalar measures as plain JSON values."""
        return {
            "dataset_id": self.dataset_id,
            "behaviour": self.behaviour,
            **super().to_dict(),
        }
