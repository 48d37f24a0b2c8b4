"""What the tables of reference results consist of; :mod:`baselines.table` makes them.

Names of methods and datasets may be patterns: ``hopper-*`` stands for what there is. A pattern of
methods leaves out those that are not made for a dataset's actions. All methods have the defaults of
their files for the dataset but for the changes that are stated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from baselines.engine.precision import Precision
from hetero_bench.sources.subset import OFFICIAL_DRAWS


@dataclass(frozen=True)
class Cells:
    """Some methods on some datasets.

    Attributes:
        methods: Their names.
        datasets: Names of the datasets.
        steps: Gradient steps.
        seeds: Seeds of every cell.
        draws: Official draws of every dataset that is a subset.
        changes: Fields of the configs that differ from the defaults.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    steps: int
    seeds: tuple[int, ...] = tuple(range(5))
    draws: tuple[int, ...] = (0,)
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tier:
    """A table.

    Attributes:
        about: What it is and what it takes.
        cells: What is trained, the dearest first, so that workers end together.
        population: Most members trained together in one process.
        device: Where it is meant to be trained.
        precision: Of matrix products; None for the device's default.
    """

    about: str
    cells: tuple[Cells, ...]
    population: int
    device: str = "cpu"
    precision: Precision | None = None


_GRIDWORLDS = {
    "datasets": ("gridworld-*",),
    "seeds": tuple(range(10)),
    "draws": tuple(range(OFFICIAL_DRAWS)),
}
_CONTROL = (
    "hopper-medium-replay-hb-10k",
    "hopper-medium-expert-hb-10k",
    "walker2d-medium-replay-hb-10k",
    "halfcheetah-medium-replay-hb-10k",
    "antmaze-medium-noisy",
)
_UNEVEN = (
    "*-hb-10k",
    "antmaze-*-noisy-10k",
    "antmaze-*-biased-10k",
    "antmaze-medium-noisy",
    "antmaze-medium-biased",
    "antmaze-large-noisy",
    "antmaze-large-biased",
)

TIERS = {
    "gridworld": Tier(
        about="all gridworld datasets, 10 seeds, all draws of the subsets",
        cells=(
            Cells(("reds", "cql"), steps=6_000, **_GRIDWORLDS),
            Cells(("awr",), steps=3_000, **_GRIDWORLDS),
            Cells(("bc",), steps=2_000, **_GRIDWORLDS),
        ),
        population=60,
    ),
    "cpu": Tier(
        about="six datasets, 5 seeds, planned for at most 3 hours on two cores",
        cells=(
            Cells(("spot",), _CONTROL, steps=30_000, changes={"density_steps": 10_000}),
            Cells(("iql", "td3_bc", "bc"), _CONTROL, steps=30_000),
            Cells(
                # Only to show that they run: a real budget takes days on two cores.
                ("cql", "edac", "rebrac", "awac"),
                ("hopper-medium-replay-hb-10k",),
                steps=2_000,
                seeds=(0, 1, 2),
            ),
            Cells(("reds", "cql"), ("gridworld-hetero",), steps=6_000),
            Cells(("awr",), ("gridworld-hetero",), steps=3_000),
            Cells(("bc",), ("gridworld-hetero",), steps=2_000),
        ),
        population=5,
        precision="bf16",
    ),
    "gpu": Tier(
        about="all continuous datasets of 10,000 transitions and the uneven ant mazes, 5 seeds",
        cells=(Cells(("*",), _UNEVEN, steps=300_000),),
        population=60,
        device="cuda",
    ),
}
"""By name."""
