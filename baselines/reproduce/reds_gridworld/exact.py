"""The exact tabular counterparts: what the methods would learn without networks and sampling."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from baselines import tabular
from baselines.gridworld import Maze
from baselines.reproduce.reds_gridworld import sweep
from baselines.reproduce.reds_gridworld.regions import success_edges
from hetero_bench import Dataset
from hetero_bench.heteroskedasticity import TabularBehaviour, tabular_behaviour

ALPHAS = (*np.geomspace(0.00025, 0.064, 33).tolist(), 0.1, 1.0, 10.0)
"""Four values per factor of two, and the sweep's large ones."""
EDGE_TAUS = (0.003, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0)
EDGE_ALPHAS = tuple(np.geomspace(0.006, 0.024, 17).tolist())
"""Where ReDS's upper edge is looked for, more finely: steps of 9%."""
TOLERANCE = 1e-6
"""Of Q, in units of reward."""
AWR_ROUNDS = (1, 10, 100)
"""1 is offline AWR; more is what it would reach by collecting data anew."""


class Curve(BaseModel):
    """Success of one method's fixed points over α.

    Attributes:
        method: ``cql`` or ``reds``.
        temperature: T.
        tau: τ of ReDS.
        rho_term: ``mean`` or ``data``, of ReDS.
        alphas: Ascending.
        successes: Probability of reaching the goal within the horizon.
        converged: Whether the iteration came to a fixed point.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    temperature: float
    tau: float | None = None
    rho_term: str | None = None
    alphas: tuple[float, ...]
    successes: tuple[float, ...]
    converged: tuple[bool, ...]

    @property
    def edge(self) -> float:
        """The largest α that succeeds."""
        return float(success_edges(self.alphas, np.array([self.successes])).upper[0])


class Exact(BaseModel):
    """Everything exact about one dataset.

    Attributes:
        curves: CQL's and ReDS's.
        behaviour: Success of the behaviour policy, which is what BC converges to.
        awr: Success of AWR by rounds of data collection, then by temperature.
        edges: Largest succeeding α of ReDS (``mean``) by τ.
    """

    curves: tuple[Curve, ...]
    behaviour: float
    awr: dict[int, dict[float, float]]
    edges: dict[float, float]

    def curve(
        self, method: str, temperature: float, tau: float | None = None, rho_term: str | None = None
    ) -> Curve | None:
        """Returns one of the curves, if it was computed."""
        wanted = (method, temperature, tau, rho_term)
        for curve in self.curves:
            if (curve.method, curve.temperature, curve.tau, curve.rho_term) == wanted:
                return curve
        return None


def solve(dataset: Dataset, alphas: tuple[float, ...] = ALPHAS) -> Exact:
    """Computes the counterparts of the sweep's arms on a dataset's own behaviour policy."""
    maze = Maze.of(dataset)
    beta = tabular_behaviour(dataset)
    cold = sweep.TEMPERATURE / 2
    reds_series = [
        *((sweep.TEMPERATURE, tau, "mean") for tau in sweep.TAUS),
        (cold, sweep.TAU, "mean"),
        *((sweep.TEMPERATURE, tau, "data") for tau in sweep.DATA_TAUS),
    ]
    curves = [cql_curve(maze, beta, T, alphas) for T in (sweep.TEMPERATURE, cold)]
    curves += [reds_curve(maze, beta, *each, alphas) for each in reds_series]
    return Exact(
        curves=tuple(curves),
        behaviour=maze.success(beta.probabilities),
        awr={rounds: awr_successes(maze, beta, rounds) for rounds in AWR_ROUNDS},
        edges={
            tau: reds_curve(maze, beta, sweep.TEMPERATURE, tau, "mean", EDGE_ALPHAS).edge
            for tau in EDGE_TAUS
        },
    )


def cql_curve(
    maze: Maze, beta: TabularBehaviour, temperature: float, alphas: tuple[float, ...]
) -> Curve:
    """Solves CQL for every α."""
    solution = tabular.cql(
        maze.mdp,
        beta.probabilities,
        alpha=np.array(alphas),
        temperature=temperature,
        tolerance=TOLERANCE,
    )
    return _curve(maze, solution, alphas, method="cql", temperature=temperature)


def reds_curve(
    maze: Maze,
    beta: TabularBehaviour,
    temperature: float,
    tau: float,
    rho_term: str,
    alphas: tuple[float, ...],
) -> Curve:
    """Solves ReDS for every α."""
    solution = tabular.reds(
        maze.mdp,
        beta.probabilities,
        alpha=np.array(alphas),
        tau=tau,
        temperature=temperature,
        rho_term=rho_term,  # pyright: ignore[reportArgumentType]
        tolerance=TOLERANCE,
    )
    return _curve(
        maze, solution, alphas, method="reds", temperature=temperature, tau=tau, rho_term=rho_term
    )


def awr_successes(maze: Maze, beta: TabularBehaviour, rounds: int) -> dict[float, float]:
    """Solves AWR for every temperature of the sweep."""
    policies = tabular.awr(
        maze.mdp,
        beta.probabilities,
        beta.counts / beta.counts.sum(),
        temperature=sweep.AWR_TEMPERATURES,
        rounds=rounds,
    )
    return {
        temperature: maze.success(policy)
        for temperature, policy in zip(sweep.AWR_TEMPERATURES, policies, strict=True)
    }


def _curve(maze: Maze, solution: tabular.Solution, alphas: tuple[float, ...], **fields) -> Curve:
    return Curve(
        alphas=alphas,
        successes=tuple(maze.success(policy) for policy in solution.policy),
        converged=tuple(bool(change <= TOLERANCE) for change in solution.change),
        **fields,
    )
