"""Action noise and bias that depend on where in the maze the ant is: the heteroskedasticity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydantic


class Section(pydantic.BaseModel):
    """One x interval of a schedule, as in the manifest.

    Attributes:
        x: Lower and upper end, metres.
        noise: Standard deviation of the Gaussian noise on every action.
        bias: Constant added to every action.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    x: tuple[pydantic.FiniteFloat, pydantic.FiniteFloat]
    noise: float = pydantic.Field(gt=0, allow_inf_nan=False)
    bias: pydantic.FiniteFloat = 0.0


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Noise and bias as step functions of x; ``K`` sections.

    Attributes:
        edges: (K + 1,) ascending x, metres; a section holds its lower end.
        noise: (K,) standard deviations.
        bias: (K,) constants.
    """

    edges: np.ndarray
    noise: np.ndarray
    bias: np.ndarray

    @classmethod
    def from_sections(
        cls, sections: Sequence[Section], x_min: float, x_max: float
    ) -> NoiseSchedule:
        """Checks that sections cover a maze's free cells once, and joins them.

        Args:
            sections: In any order.
            x_min: Smallest x that must be covered, metres.
            x_max: Largest x that must be covered, metres.

        Raises:
            ValueError: If an interval is empty, missing or covered twice; the message says which.
        """
        ordered = sorted(sections, key=lambda section: section.x)
        reached = x_min
        for section in ordered:
            low, high = section.x
            if low >= high:
                raise ValueError(f"schedule section x = [{low:g}, {high:g}] is empty")
            if low > reached:
                raise ValueError(_missing(reached, low))
            if low < reached and section is not ordered[0]:
                raise ValueError(
                    f"schedule covers x from {low:g} to {min(reached, high):g} m twice; expected "
                    "each section to begin where the one before ends"
                )
            reached = high
        if reached < x_max:
            raise ValueError(_missing(reached, x_max))
        return cls(
            edges=np.array([ordered[0].x[0], *(section.x[1] for section in ordered)]),
            noise=np.array([section.noise for section in ordered]),
            bias=np.array([section.bias for section in ordered]),
        )

    def scaled(self, factor: float, base_noise: float) -> NoiseSchedule:
        """Returns the schedule with its departure from homoscedasticity scaled.

        Args:
            factor: 0 gives noise ``base_noise`` and no bias everywhere, 1 the schedule itself.
            base_noise: Standard deviation that departures are measured from.

        Raises:
            ValueError: If a standard deviation would not stay positive.
        """
        noise = base_noise + factor * (self.noise - base_noise)
        if noise.min() <= 0:
            raise ValueError(
                f"scaling the schedule by {factor:g} gives noise {noise.min():g}; expected more "
                f"than 0: raise the section's noise or base_noise ({base_noise:g})"
            )
        return NoiseSchedule(self.edges, noise, factor * self.bias)

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the noise and the bias, (n,) each, at x (n,); the end sections go on outside."""
        sections = np.searchsorted(self.edges[1:-1], x, side="right")
        return self.noise[sections], self.bias[sections]


def _missing(low: float, high: float) -> str:
    return (
        f"schedule does not cover x from {low:g} to {high:g} m; expected sections for all free "
        "cells of the maze"
    )
