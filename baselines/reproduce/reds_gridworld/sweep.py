"""The populations of ``python -m baselines reproduce reds-gridworld``.

α, τ and T are given in units of the reward: with rewards × R a run has α·R, τ·R and T·R, and should
behave alike (it would exactly, but for initial weights and Adam's step size, which do not scale).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines import awr_discrete as awr
from baselines import bc_discrete as bc
from baselines import cql_discrete as cql
from baselines import reds_discrete as reds
from baselines.engine import Job

DATASET = "gridworld-hetero"
FIGURE_2_DATASETS = ("gridworld-uniform", "gridworld-mixed", "gridworld-skewed")
SEEDS = tuple(range(10))
POPULATION = 60
"""Most members trained in one process; larger populations gain nothing on a CPU."""

TEMPERATURE = 0.02
"""T of the policy where it is not what is swept."""
TAU = 0.1
"""τ where it is not what is swept."""
CQL_ALPHAS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.1, 1.0, 10.0)
REDS_ALPHAS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.1)
SCALED_LOW_ALPHAS = (0.000125, 0.00025, 0.0005)
"""With scaled rewards success lasts to smaller α, so smaller ones are tried, too."""
FIGURE_2_ALPHAS = (0.001, 0.004, 0.016)
TAUS = (0.03, 0.1, 0.3)
DATA_TAUS = (0.03, 0.1)
AWR_TEMPERATURES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
PAPER_ALPHAS = PAPER_TEMPERATURES = (0.1, 1.0, 10.0)
"""What the paper's Figures 6 and 7 show of CQL and AWR."""
REWARD_SCALE = 10.0


@dataclass(frozen=True)
class Arm:
    """One part of the sweep: a method on one dataset with a grid of settings.

    Attributes:
        name: Also the folder of its results.
        method: The method's name.
        steps: Gradient steps.
        configs: One per setting.
        dataset: What it trains on.
    """

    name: str
    method: str
    steps: int
    configs: tuple[Any, ...]
    dataset: str = DATASET

    def jobs(self, out: Path, seeds: Sequence[int]) -> Iterator[Job]:
        """Yields its populations; each has a folder of its own below ``out``."""
        size = max(POPULATION // len(seeds), 1)
        for part, start in enumerate(range(0, len(self.configs), size)):
            yield Job(
                method=self.method,
                configs=self.configs[start : start + size],
                datasets=((self.dataset, None),),
                seeds=tuple(seeds),
                steps=self.steps,
                out=out / self.name / f"part-{part}",
            )


def cql_config(alpha: float, temperature: float = TEMPERATURE, scale: float = 1.0) -> cql.Config:
    """Returns CQL's config for α and T in units of the reward."""
    return cql.Config(alpha=alpha * scale, temperature=temperature * scale, reward_scale=scale)


def reds_config(
    alpha: float,
    tau: float = TAU,
    temperature: float = TEMPERATURE,
    scale: float = 1.0,
    rho_term: str = "mean",
) -> reds.Config:
    """Returns ReDS's config for α, τ and T in units of the reward."""
    return reds.Config(
        alpha=alpha * scale,
        tau=tau * scale,
        temperature=temperature * scale,
        reward_scale=scale,
        rho_term=rho_term,  # pyright: ignore[reportArgumentType]
    )


def arms() -> list[Arm]:
    """Returns the whole sweep."""
    cql_arms = [
        Arm("cql", "cql", 6_000, tuple(map(cql_config, CQL_ALPHAS))),
        Arm("cql-cold", "cql", 6_000, tuple(cql_config(a, TEMPERATURE / 2) for a in CQL_ALPHAS)),
        Arm(
            "cql-scaled",
            "cql",
            6_000,
            tuple(cql_config(a, scale=REWARD_SCALE) for a in REDS_ALPHAS),
        ),
    ]
    grid = list(itertools.product(REDS_ALPHAS, TAUS))
    reds_arms = [
        Arm("reds", "reds", 6_000, tuple(reds_config(a, tau) for a, tau in grid)),
        Arm(
            "reds-cold",
            "reds",
            6_000,
            tuple(reds_config(a, temperature=TEMPERATURE / 2) for a in REDS_ALPHAS),
        ),
        Arm(
            "reds-scaled",
            "reds",
            6_000,
            tuple(reds_config(a, scale=REWARD_SCALE) for a in REDS_ALPHAS),
        ),
        Arm("reds-lse", "reds", 6_000, tuple(reds_config(a, rho_term="lse") for a in REDS_ALPHAS)),
        Arm(
            "reds-data",
            "reds",
            6_000,
            tuple(reds_config(a, tau, rho_term="data") for a, tau in grid if tau in DATA_TAUS),
        ),
    ]
    scaled_low = [
        Arm(
            f"{method}-scaled-low",
            method,
            6_000,
            tuple(config(a, scale=REWARD_SCALE) for a in SCALED_LOW_ALPHAS),
        )
        for method, config in (("reds", reds_config), ("cql", cql_config))
    ]
    figure_2 = [
        Arm(f"figure-2-{name}", "cql", 6_000, tuple(map(cql_config, FIGURE_2_ALPHAS)), name)
        for name in FIGURE_2_DATASETS
    ]
    others = [
        Arm("awr", "awr", 3_000, tuple(awr.Config(temperature=t) for t in AWR_TEMPERATURES)),
        Arm("bc", "bc", 2_000, (bc.Config(),)),
    ]
    return reds_arms + cql_arms + scaled_low + figure_2 + others
