"""The exact tabular counterparts: what the methods would learn without networks and sampling."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pydantic import BaseModel, ConfigDict

from baselines import tabular
from baselines.gridworld import Maze
from baselines.reproduce.reds_gridworld import sweep
from baselines.reproduce.reds_gridworld.regions import LEVEL, success_edges
from baselines.reproduce.reds_gridworld.series import ALL, Series
from hetero_bench import Dataset
from hetero_bench.heteroskedasticity import tabular_behaviour

ALPHAS = (*np.geomspace(0.00025, 0.064, 17).tolist(), 0.1, 1.0, 10.0)
"""Two values per factor of two, and the sweep's large ones."""
EDGE_TAUS = (0.003, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0)
EDGE_ALPHAS = (0.004, 0.008, 0.012, 0.016, 0.024)
REFINEMENT = 8
"""Values of α that are added between the two that enclose the upper edge."""
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
        curves: CQL's and ReDS's, as in the sweep.
        edges: Largest succeeding α of ReDS (``mean``) by τ.
        behaviour: Success of the behaviour policy, which is what BC converges to.
        awr: Success of AWR by rounds of data collection, then by temperature.
    """

    curves: tuple[Curve, ...]
    edges: dict[float, float]
    behaviour: float
    awr: dict[int, dict[float, float]]

    def curve(self, series: Series) -> Curve | None:
        """Returns the counterpart of a series; the scale of rewards makes no difference to it."""
        wanted = (series.method, series.temperature, series.tau, series.rho_term)
        for curve in self.curves:
            if (curve.method, curve.temperature, curve.tau, curve.rho_term) == wanted:
                return curve
        return None


def solve(dataset: Dataset) -> Exact:
    """Computes the counterparts of the sweep's series on a dataset's own behaviour policy.

    ``lse`` has none: with all actions sampled it is CQL.
    """
    maze = Maze.of(dataset)
    beta = tabular_behaviour(dataset)
    behaviour = beta.probabilities
    awr = {
        rounds: tabular.awr(
            maze.mdp,
            behaviour,
            beta.counts / beta.counts.sum(),
            temperature=sweep.AWR_TEMPERATURES,
            rounds=rounds,
        )
        for rounds in AWR_ROUNDS
    }
    settings = list(
        dict.fromkeys(
            (each.method, each.temperature, each.tau, each.rho_term)
            for each in ALL
            if each.rho_term != "lse"
        )
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        curves = pool.map(lambda each: fixed_points(maze, behaviour, ALPHAS, *each), settings)
        over_tau = pool.map(
            lambda tau: fixed_points(
                maze, behaviour, EDGE_ALPHAS, "reds", sweep.TEMPERATURE, tau, "mean"
            ),
            EDGE_TAUS,
        )
    return Exact(
        curves=tuple(curves),
        edges={tau: _rounded(curve.edge) for tau, curve in zip(EDGE_TAUS, over_tau, strict=True)},
        behaviour=_rounded(maze.success(behaviour)),
        awr={
            rounds: {
                temperature: _rounded(maze.success(policy))
                for temperature, policy in zip(sweep.AWR_TEMPERATURES, policies, strict=True)
            }
            for rounds, policies in awr.items()
        },
    )


def fixed_points(
    maze: Maze,
    behaviour: np.ndarray,
    alphas: Sequence[float],
    method: str,
    temperature: float,
    tau: float | None = None,
    rho_term: str | None = None,
) -> Curve:
    """Solves CQL or ReDS for values of α, and for more of them around the upper edge.

    Args:
        maze: The maze.
        behaviour: (S, A) behaviour policy.
        alphas: Ascending.
        method: ``cql`` or ``reds``.
        temperature: T.
        tau: τ of ReDS.
        rho_term: ``mean`` or ``data``, of ReDS.
    """

    def points(values: Sequence[float]) -> dict[float, tuple[float, bool]]:
        given = {"alpha": values, "temperature": temperature, "tolerance": TOLERANCE}
        solver: Callable[..., tabular.Solution] = tabular.cql
        if method == "reds":
            solver = tabular.reds
            given |= {"tau": tau, "rho_term": rho_term}
        solution = solver(maze.mdp, behaviour, **given)
        return {
            alpha: (_rounded(maze.success(policy)), bool(change <= TOLERANCE))
            for alpha, policy, change in zip(values, solution.policy, solution.change, strict=True)
        }

    found = points(alphas)
    succeeding = [index for index, alpha in enumerate(alphas) if found[alpha][0] >= LEVEL]
    if succeeding and succeeding[-1] + 1 < len(alphas):
        low, high = alphas[succeeding[-1]], alphas[succeeding[-1] + 1]
        found |= points(np.geomspace(low, high, REFINEMENT + 2)[1:-1].tolist())
    ordered = sorted(found)
    return Curve(
        method=method,
        temperature=temperature,
        tau=tau,
        rho_term=rho_term,
        alphas=tuple(ordered),
        successes=tuple(found[alpha][0] for alpha in ordered),
        converged=tuple(found[alpha][1] for alpha in ordered),
    )


def _rounded(value: float) -> float:
    """Leaves out digits that differ between machines."""
    return float(f"{value:.6g}")
