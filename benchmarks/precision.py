"""Scores after training in bfloat16 against float32.

Trains the same seeds with the same batches in both precisions, evaluates the final policies on the
same episodes, and prints the difference of the mean scores with Welch's 95% interval. Rounding
makes runs part soon, so that seeds are no pairs. The comparison is decided as claims of equality
are: within 5 points, beyond, or undecided. ``benchmarks/train.py`` has the speeds.

    OMP_NUM_THREADS=1 python benchmarks/precision.py --methods td3_bc iql --seeds 10
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines.engine import get_method, train
from baselines.engine.precision import Precision
from baselines.reproduce.contrasts import contrast
from baselines.reproduce.scores import final_score
from baselines.reproduce.verdicts import decide
from hetero_bench.bootstrap import enough_runs
from hetero_bench.formatting import estimate, mean_and_std

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")


@dataclass(frozen=True)
class Arguments:
    """Compare precisions."""

    methods: tuple[str, ...] = ("td3_bc", "iql")
    """Methods for continuous control."""
    dataset: str = "halfcheetah-medium-replay-hb-10k"
    """Dataset id."""
    seeds: int = 10
    """Members of each population; 0, 1, ..."""
    steps: int = 5_000
    """Gradient steps."""
    threads: int = 1
    """CPU threads."""
    out: Path = Path("runs/precision")
    """Folder of the runs; the same command continues."""


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    dataset = hetero_bench.load(arguments.dataset)
    title = f"{dataset.id}, {arguments.steps:,} steps, {arguments.seeds} seeds"
    table = Table(title=title, title_justify="left")
    for name in ("method", *PRECISIONS, "difference", "verdict"):
        table.add_column(name, justify="left" if name in ("method", "verdict") else "right")
    for name in arguments.methods:
        method = get_method(name, "continuous")
        runs = {
            precision: train(
                method,
                [dataset],
                range(arguments.seeds),
                steps=arguments.steps,
                out=arguments.out / precision,
                precision=precision,
            )
            for precision in PRECISIONS
        }
        half, full = (np.array([final_score(run) for run in runs[each]]) for each in PRECISIONS)
        difference = contrast([[half]], [[full]])
        verdict = decide("equal", difference, enough=enough_runs([half], [full]))
        table.add_row(
            method.title,
            mean_and_std(half),
            mean_and_std(full),
            estimate(difference),
            {"held": "equal", "not held": "differs"}.get(verdict, verdict),
        )
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
