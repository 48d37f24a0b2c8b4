"""What C4 costs: the share of training time spent fitting mixtures, and in the penalty.

The data are random numbers in the shape of hopper's, as in ``train.py``, the networks those of the
shipped configs. A fit is a warm one, of which there is one per refresh interval. Times are of the
processor on a CPU, so that other work on the machine counts little, and of the clock on a GPU.

    python benchmarks/clustering.py --methods c4 c4_td3_bc --rows 10000 1000000
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from train import LENGTH, random_dataset

from baselines.engine import get_method
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer

WARM_UP = 5


@dataclass(frozen=True)
class Arguments:
    """Measure shares of training time."""

    methods: tuple[str, ...] = ("c4", "c4_td3_bc")
    """Methods: C4 on its backbones."""
    updates: tuple[int, ...] = (5, 50)
    """Updates that are timed at a time, by method."""
    rows: tuple[int, ...] = (10_000, 1_000_000)
    """Transitions."""
    gradient: str = "feature"
    """feature, or exact."""
    members: int = 1
    """Size of the population."""
    rounds: int = 5
    """Repetitions; medians are reported."""
    device: str = "cpu"
    """cpu, or cuda."""
    threads: int = 1
    """CPU threads."""


@dataclass(frozen=True)
class Cost:
    """Medians, in seconds: of an update with and without the penalty, a fit, and all measures."""

    update: float
    without_penalty: float
    fit: float
    measures: float

    def shares(self, interval: int) -> list[str]:
        """Returns the shares of fits, the penalty and measures in all time, as text."""
        total = interval * self.update + self.fit + self.measures
        penalty = interval * (self.update - self.without_penalty)
        return [f"{part / total:.1%}" for part in (self.fit, penalty, self.measures)]


def seconds(action: Callable[[], object], device: str) -> float:
    """Returns how long something takes."""
    on_gpu = torch.device(device).type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    begun = clock()
    action()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - begun


def cost(ours: Trainer, plain: Trainer, updates: int, arguments: Arguments) -> Cost:
    """Times the parts of C4, alternately; ``plain`` has no penalty."""
    agent: Any = ours.agent
    actions: list[tuple[Callable[[], object], int]] = [
        (lambda: ours.advance(updates), updates),
        (lambda: plain.advance(updates), updates),
        (lambda: agent.clustering.refresh(agent.backbone.critics, cold=False), 1),
        (agent.measures, 1),
    ]
    for trainer in (ours, plain):
        trainer.advance(WARM_UP)
    rounds = [
        [seconds(action, arguments.device) / count for action, count in actions]
        for _ in range(arguments.rounds)
    ]
    return Cost(*(statistics.median(column) for column in zip(*rounds, strict=True)))


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    table = Table(
        title=f"{arguments.device}, {arguments.members} member(s), {arguments.gradient}",
        title_justify="left",
    )
    for name in ("method", "rows", "ms/update", "ms/fit", "clustering", "penalty", "measures"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for rows in arguments.rows:
        dataset = random_dataset(rows // LENGTH)
        for name, updates in zip(arguments.methods, arguments.updates, strict=True):
            method = get_method(name)
            config = method.config(gradient=arguments.gradient)
            ours, plain = (
                Trainer(
                    method,
                    [Member(dataset, each, seed) for seed in range(arguments.members)],
                    arguments.device,
                    steps=1_000_000,
                )
                for each in (config, replace(config, penalty_weight=0.0))
            )
            found = cost(ours, plain, updates, arguments)
            times = [f"{1e3 * found.update:.1f}", f"{1e3 * found.fit:.0f}"]
            shares = found.shares(config.refresh_interval)
            table.add_row(method.title, f"{rows:,}", *times, *shares)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
