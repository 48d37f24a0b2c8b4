"""The sweep as series over α, named as in its tables and figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from baselines.reproduce.reds_gridworld.results import Cell, select
from baselines.reproduce.reds_gridworld.sweep import (
    DATA_TAUS,
    REWARD_SCALE,
    TAU,
    TAUS,
    TEMPERATURE,
)

COLD = TEMPERATURE / 2


@dataclass(frozen=True)
class Series:
    """Cells that differ in α only.

    Attributes:
        method: ``cql`` or ``reds``.
        temperature: T.
        tau: τ of ReDS.
        rho_term: What stands for ReDS's E_ρ[Q].
        reward_scale: What rewards were multiplied by.
    """

    method: str
    temperature: float = TEMPERATURE
    tau: float | None = None
    rho_term: str | None = None
    reward_scale: float = 1.0

    @property
    def title(self) -> str:
        """Its name, with what distinguishes it from the plain comparison."""
        parts = ["CQL" if self.method == "cql" else "ReDS"]
        if self.tau is not None:
            parts.append(f"τ = {self.tau:g}")
        if self.rho_term not in (None, "mean"):
            parts.append(f"ρ: {self.rho_term}")
        if self.temperature != TEMPERATURE:
            parts.append(f"T = {self.temperature:g}")
        if self.reward_scale != 1.0:
            parts.append(f"rewards × {self.reward_scale:g}")
        return ", ".join(parts)

    def cells(self, cells: Iterable[Cell], dataset: str) -> list[Cell]:
        """Returns its cells on a dataset, ascending in α."""
        return select(
            cells,
            dataset=dataset,
            method=self.method,
            temperature=self.temperature,
            tau=self.tau,
            rho_term=self.rho_term,
            reward_scale=self.reward_scale,
        )


def condition(each: Series) -> str:
    """Names what a pair of series has in common."""
    scaled = f", rewards × {each.reward_scale:g}" if each.reward_scale != 1.0 else ""
    return f"T = {each.temperature:g}{scaled}"


CQL = Series("cql")
REDS = Series("reds", tau=TAU, rho_term="mean")
PAIRS = (
    (REDS, CQL),
    (
        Series("reds", tau=TAU, rho_term="mean", temperature=COLD),
        Series("cql", temperature=COLD),
    ),
    (
        Series("reds", tau=TAU, rho_term="mean", reward_scale=REWARD_SCALE),
        Series("cql", reward_scale=REWARD_SCALE),
    ),
)
"""ReDS and CQL with all else equal."""
ALL = (
    *(cql for _, cql in PAIRS),
    *(Series("reds", tau=tau, rho_term="mean") for tau in TAUS),
    *(reds for reds, _ in PAIRS[1:]),
    Series("reds", tau=TAU, rho_term="lse"),
    *(Series("reds", tau=tau, rho_term="data") for tau in DATA_TAUS),
)
