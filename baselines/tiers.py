"""What the tables of reference results consist of; :mod:`baselines.table` makes them.

Names of methods and datasets may be patterns: ``hopper-*`` stands for what there is. A pattern of
methods leaves out those that are not made for a dataset's actions. All methods have the defaults of
their files for the dataset but for the changes that are stated here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
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
        settings: Further such changes, one for each of several configs that one population has;
            their runs lie in one file, told apart by their configs.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    steps: int
    seeds: tuple[int, ...] = tuple(range(5))
    draws: tuple[int, ...] = (0,)
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[Mapping[str, Any], ...] = ({},)


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

_SMOKE = "hopper-medium-replay-hb-10k"
_THREE: dict[str, Any] = {"seeds": (0, 1, 2)}
_NO_GATE = -1e9
"""A threshold of SPAR's that everything exceeds (its Table 10)."""


def _grid(**values: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Returns all combinations of some fields' values, the last field varying fastest."""
    return tuple(
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
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
        cells=(
            Cells(("*",), _UNEVEN, steps=300_000),
            # The ends of the axis of severity; antmaze-medium-noisy is its middle.
            Cells(
                ("reds", "cql"),
                ("antmaze-medium-noisy-s0", "antmaze-medium-noisy-s4"),
                steps=300_000,
            ),
        ),
        population=60,
        device="cuda",
    ),
    "smoke": Tier(
        about="the plug-ins, densities and variants of the four papers beside their backbones, "
        "3 seeds, planned for at most 30 minutes per method and setting on a core",
        cells=(
            Cells(
                ("spar",),
                (_SMOKE,),
                steps=25_000,
                settings=(
                    *_grid(variant=("base", "mlp", "proj", "plas", "cvae")),
                    {"variant": "mlp", "gate_absolute": _NO_GATE, "gate_relative": _NO_GATE},
                ),
                **_THREE,
            ),
            Cells(
                ("spar",),
                ("hopper-medium-expert-hb-10k",),
                steps=25_000,
                settings=_grid(variant=("mlp", "proj")),
                **_THREE,
            ),
            Cells(("reds", "c4", "dr3_cql", "ln_cql", "cql"), (_SMOKE,), steps=3_000, **_THREE),
            Cells(("reds", "cql", "bc"), ("antmaze-medium-noisy-10k",), steps=2_000, **_THREE),
            Cells(("car", "car_g", "spot"), (_SMOKE,), steps=25_000, **_THREE),
            Cells(
                ("c4_td3_bc", "dr3_td3_bc", "ln_td3_bc", "td3_bc", "c4_iql", "iql", "bc"),
                (_SMOKE,),
                steps=25_000,
                **_THREE,
            ),
        ),
        population=18,
    ),
    "ablations": Tier(
        about="one sweep for each of C4, CQL (ReDS), CAR and SPAR, 3 seeds per setting",
        cells=(
            Cells(
                ("spar",),
                (_SMOKE,),
                steps=10_000,
                settings=(
                    *_grid(filtering=("soft", "hard"), temperature=(0.1, 0.3, 1.0)),
                    *_grid(filtering=("soft", "hard"), weighting=("uniform",)),
                ),
                **_THREE,
            ),
            Cells(
                ("c4_td3_bc",),
                (_SMOKE,),
                steps=10_000,
                settings=_grid(clusters=(1, 2, 5, 20), penalty_weight=(0.0, 0.1, 0.3, 1.0)),
                **_THREE,
            ),
            Cells(
                ("car",),
                (_SMOKE,),
                steps=10_000,
                # From nothing is accepted over shares of the data's own actions to everything is.
                settings=(
                    {"threshold": -1.0},
                    *_grid(threshold_quantile=(0.5, 0.75, 0.9, 0.99)),
                    {"threshold": 1e9},
                ),
                **_THREE,
            ),
            Cells(
                ("reds",),
                (_SMOKE,),
                steps=2_000,
                settings=_grid(tau=(0.1, 0.3, 1.0, 10.0)),
                **_THREE,
            ),
        ),
        population=48,
    ),
}
"""By name."""
