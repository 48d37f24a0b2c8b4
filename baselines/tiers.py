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

_CHEETAH = "halfcheetah-medium-replay-hb-10k"
"""Where 20,000 steps tell BC, IQL and TD3+BC apart; on hopper's and walker's five seeds do not."""
_NO_GATE = -1e9
"""A threshold of SPAR's that everything exceeds (its Table 10)."""
_FOUR = (0, 1, 2, 3)
"""With fewer seeds no test on one dataset could tell two settings apart."""
_SMALL_CQL: dict[str, Any] = {
    "critic_sizes": (128, 128),
    "policy_sizes": (128, 128),
    "samples": 4,
    "policy_rate": 3e-4,
}
"""CQL that takes 10,000 steps in minutes, with equal networks for all that stand on it. With its
own step size the policy would hardly move in so few."""
_SHORT_CAR: dict[str, Any] = {"warmup_steps": 5_000, "mix_rate": 2.5e-4}
"""As long an opening as SPOT's here; and in 20,000 steps the mixed reference goes as far as in the
paper's million."""


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
        about="cheap methods on six datasets, and a cell of most others, 5 seeds; hours on "
        "two cores",
        cells=(
            Cells(("spot",), _CONTROL, steps=20_000, changes={"density_steps": 5_000}),
            Cells(("iql", "td3_bc", "bc"), _CONTROL, steps=20_000),
            Cells(("reds", "cql"), ("gridworld-hetero",), steps=6_000),
            Cells(("awr",), ("gridworld-hetero",), steps=3_000),
            Cells(("bc",), ("gridworld-hetero",), steps=2_000),
            # One cell for each of the others; a real budget of most takes days on two cores.
            Cells(
                ("spar",),
                (_CHEETAH,),
                steps=10_000,
                settings=(
                    *_grid(variant=("base", "mlp", "proj", "plas", "cvae")),
                    {"variant": "mlp", "gate_absolute": _NO_GATE, "gate_relative": _NO_GATE},
                ),
            ),
            Cells(
                ("spar",),
                ("hopper-medium-expert-hb-10k",),
                steps=10_000,
                settings=_grid(variant=("mlp", "proj")),
            ),
            Cells(("car", "car_g"), (_CHEETAH,), steps=20_000, changes=_SHORT_CAR),
            Cells(
                ("reds", "c4", "dr3_cql", "ln_cql", "cql"),
                (_CHEETAH,),
                steps=10_000,
                changes=_SMALL_CQL,
            ),
            Cells(("c4_iql", "c4_td3_bc", "dr3_td3_bc", "ln_td3_bc"), (_CHEETAH,), steps=20_000),
            Cells(("reds", "cql"), ("antmaze-medium-noisy-10k",), steps=2_000, changes=_SMALL_CQL),
            Cells(("edac", "rebrac", "awac"), (_CHEETAH,), steps=2_000),
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
    "ablations": Tier(
        about="one sweep for each of C4, CQL (ReDS), CAR and SPAR, 4 seeds per setting",
        cells=(
            Cells(
                ("spar",),
                (_CHEETAH,),
                steps=6_000,
                settings=(
                    *_grid(filtering=("soft", "hard"), temperature=(0.1, 0.3, 1.0)),
                    *_grid(filtering=("soft", "hard"), weighting=("uniform",)),
                ),
                seeds=_FOUR,
            ),
            Cells(
                ("c4_td3_bc",),
                (_CHEETAH,),
                steps=5_000,
                changes={"hidden_sizes": (128, 128)},
                settings=_grid(clusters=(1, 2, 5, 20), penalty_weight=(0.0, 0.1, 0.3, 1.0)),
                seeds=_FOUR,
            ),
            Cells(
                ("car",),
                (_CHEETAH,),
                steps=6_000,
                changes=_SHORT_CAR | {"warmup_steps": 2_000, "density_sizes": (256, 256)},
                # From nothing is accepted over shares of the data's own actions to everything is.
                settings=(
                    {"threshold": -1.0},
                    *_grid(threshold_quantile=(0.5, 0.75, 0.9, 0.99)),
                    {"threshold": 1e9},
                ),
                seeds=_FOUR,
            ),
            Cells(
                ("reds",),
                (_CHEETAH,),
                steps=5_000,
                changes=_SMALL_CQL,
                settings=_grid(tau=(0.1, 0.3, 1.0, 10.0)),
                seeds=_FOUR,
            ),
        ),
        population=64,
        precision="bf16",
    ),
}
"""By name."""
