"""What denormal moments of Adam cost, on a CPU: updates with and without taking them for zero.

The first moment of a unit that has died falls below the smallest normal number in some 800 updates.
Trains for longer than that, times further updates of the population, and then as many with
``engine.optimiser.denormals_flushed``: not in turn, because what is flushed once stays zero.

    OMP_NUM_THREADS=1 python benchmarks/denormals.py
"""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines.engine import get_method
from baselines.engine import optimiser as engine_optimiser
from baselines.engine.members import Member
from baselines.engine.precision import Precision
from baselines.engine.trainer import Trainer


@dataclass(frozen=True)
class Arguments:
    """Time updates with and without denormal moments."""

    methods: tuple[str, ...] = ("spot", "td3_bc", "iql")
    """Methods for continuous control; SPOT is in the phase of its density."""
    dataset: str = "halfcheetah-medium-replay-hb-10k"
    """Dataset id."""
    members: int = 5
    """Size of the population."""
    warm_up: int = 1_500
    """Updates before."""
    updates: int = 10
    """Updates of every measurement."""
    rounds: int = 9
    """Measurements of each kind; their medians are compared."""
    precision: Precision = "bf16"
    """Of the networks' matrix products."""
    threads: int = 1
    """CPU threads."""


def milliseconds(trainer: Trainer, updates: int) -> float:
    """Returns the processor time of an update."""
    begun = time.process_time()
    trainer.advance(updates)
    return (time.process_time() - begun) / updates * 1e3


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    dataset = hetero_bench.load(arguments.dataset)
    table = Table(title=f"P = {arguments.members}, {arguments.precision}", title_justify="left")
    for name in ("method", "denormals kept", "flushed", "ratio"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for name in arguments.methods:
        method = get_method(name, "continuous")
        config = method.config_for(dataset.spec)
        members = [Member(dataset, config, seed) for seed in range(arguments.members)]
        trainer = Trainer(method, members, "cpu", steps=100_000, precision=arguments.precision)
        with patch.object(engine_optimiser, "denormals_flushed", nullcontext):
            trainer.advance(arguments.warm_up)
            kept = [milliseconds(trainer, arguments.updates) for _ in range(arguments.rounds)]
        flushed = [milliseconds(trainer, arguments.updates) for _ in range(arguments.rounds)]
        slow, fast = statistics.median(kept), statistics.median(flushed)
        table.add_row(method.title, f"{slow:.1f} ms", f"{fast:.1f} ms", f"{slow / fast:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
