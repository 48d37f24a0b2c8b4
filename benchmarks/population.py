"""Ten seeds as one population against ten runs one after the other.

Trains the shipped config of each method both ways, alternately and on equal threads, and prints
steps per second, their ratio, and what bounds it: how much of an update is matrix products, timed
by themselves at the same shapes. Imports, loading of the data and evaluation are excluded on both
sides.

    python benchmarks/population.py --seeds 10 --threads 1
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines import awr_discrete as awr
from baselines.engine import Method, get_method
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from baselines.parts.networks import MLP

WARM_UP = 20


@dataclass(frozen=True)
class Passes:
    """Passes through networks of one shape in one update."""

    forward: int
    backward: int
    outputs: int | None = None  # None: one per action
    rows: int = 1  # per transition of the batch


PASSES = {
    "bc": [Passes(1, 1)],
    "cql": [Passes(3, 1)],
    "reds": [Passes(5, 2)],  # CQL's, and one of ρ to fit it, one to use it
    "awr": [
        Passes(1, 1),
        Passes(1, 1, outputs=1),
        Passes(1, 0, outputs=1, rows=awr.Config.horizon),
    ],
}
"""By method, with its shipped config."""


@dataclass(frozen=True)
class Arguments:
    """Compare a population with sequential runs."""

    methods: tuple[str, ...] = tuple(PASSES)
    """Methods."""
    dataset: str = "gridworld-hetero"
    """Dataset id."""
    seeds: int = 10
    """Members of the population, and number of sequential runs."""
    steps: int = 500
    """Gradient steps of every run; the ratio does not depend on it."""
    rounds: int = 3
    """Repetitions; medians are reported."""
    threads: int = 1
    """CPU threads on both sides."""


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def training_seconds(method: Method, dataset: hetero_bench.Dataset, seeds: range, steps: int):
    trainer = Trainer(method, [Member(dataset, method.config(), seed) for seed in seeds], "cpu")
    trainer.advance(WARM_UP)
    return seconds(lambda: trainer.advance(steps))


def matmul_seconds(method: Method, trainer: Trainer, members: int, repeats: int = 50) -> float:
    """Times the matrix products of one update, and nothing else."""
    config, data = method.config(), trainer.data
    products = []
    for passes in PASSES[method.name]:
        outputs = passes.outputs or data.num_actions
        network = MLP((data.observation_size, *config.hidden_sizes, outputs))
        rows = passes.rows * config.batch_size
        for layer, (fan_in, fan_out) in enumerate(network.layers):
            x = torch.randn(members, rows, fan_in)
            weight = torch.randn(members, fan_in, fan_out)
            y = torch.randn(members, rows, fan_out)
            products += passes.forward * [(x, weight)]
            products += passes.backward * [(x.transpose(1, 2), y)]
            if layer:  # no gradient with respect to observations
                products += passes.backward * [(y, weight.transpose(1, 2))]

    def multiply():
        for a, b in products:
            torch.bmm(a, b)

    multiply()
    return statistics.median(seconds(multiply) for _ in range(repeats))


def main(arguments: Arguments) -> None:
    unknown = set(arguments.methods) - set(PASSES)
    if unknown:
        raise SystemExit(f"add {', '.join(sorted(unknown))} to PASSES; known: {', '.join(PASSES)}")
    torch.set_num_threads(arguments.threads)
    dataset = hetero_bench.load(arguments.dataset)
    P, steps = arguments.seeds, arguments.steps
    table = Table(
        title=f"{P} seeds, {arguments.dataset}, {arguments.threads} thread(s), CPU",
        title_justify="left",
    )
    for name in ("method", "sequential", "population", "ratio", "matmul share"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for name in arguments.methods:
        method = get_method(name)
        sequential, together = [], []
        for _ in range(arguments.rounds):
            runs = [training_seconds(method, dataset, range(k, k + 1), steps) for k in range(P)]
            sequential.append(sum(runs))
            together.append(training_seconds(method, dataset, range(P), steps))
        slow, fast = statistics.median(sequential), statistics.median(together)
        trainer = Trainer(method, [Member(dataset, method.config(), 0)], "cpu")
        shares = [
            matmul_seconds(method, trainer, members) / (total / count)
            for members, total, count in ((1, slow, P * steps), (P, fast, steps))
        ]
        table.add_row(
            method.title,
            f"{P * steps / slow:,.0f} member-steps/s",
            f"{P * steps / fast:,.0f} member-steps/s",
            f"{slow / fast:.2f}x",
            f"{shares[0]:.0%} -> {shares[1]:.0%}",
        )
    console = Console()
    console.print(table)
    console.print(
        "matmul share: part of an update's time that its matrix products take by themselves, "
        "sequential -> population. What is left above it is the most a population can still gain "
        "from fewer and larger kernels; the matrix products themselves do not become cheaper."
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
