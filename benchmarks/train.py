"""Gradient steps per second of methods for continuous control, for populations of several sizes.

The data are random numbers in the shape of hopper's (11 observations, 3 actions): speed does not
depend on their values. Every method runs its shipped config. Each line also gives what a step of
plain PyTorch takes that was timed in the same run, alternately: TD3+BC written as most people write
it, with ``torch.nn`` modules and ``torch.optim.Adam``. Absolute numbers depend on the machine and
on what else it does; the ratio hardly does. With ``--d3rlpy`` the same method of d3rlpy, with equal
settings and threads, is timed alternately, too, in its own process and environment
(benchmarks/cross_check says how to make one).

    python benchmarks/train.py --methods td3_bc iql --members 1 5 25 --precision bf16
    python benchmarks/train.py --methods td3_bc iql cql --members 1 --d3rlpy ../d3rlpy/bin/python
    python benchmarks/train.py --device cuda --members 1 64
"""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import tyro
from cross_check.equivalents import EQUIVALENTS
from cross_check.process import D3rlpyProcess
from rich.console import Console
from rich.table import Table
from torch import nn

from baselines.engine import Method, get_method
from baselines.engine.members import Member
from baselines.engine.precision import Precision
from baselines.engine.trainer import CAPTURED_UPDATES, Trainer
from hetero_bench.arrays import EpisodeArrays
from hetero_bench.dataset import Dataset
from hetero_bench.provenance import Provenance
from hetero_bench.spec import DatasetSpec

OBSERVATIONS, ACTIONS, EPISODES, LENGTH = 11, 3, 20, 500


@dataclass(frozen=True)
class Arguments:
    """Measure steps per second."""

    methods: tuple[str, ...] = ("bc", "td3_bc", "iql", "cql")
    """Methods."""
    members: tuple[int, ...] = (1, 5, 25)
    """Sizes of the population."""
    device: str = "cpu"
    """cpu, or cuda."""
    precision: Precision = "fp32"
    """Of the networks' matrix products."""
    threads: int = 1
    """CPU threads."""
    rounds: int = 5
    """Repetitions; medians are reported."""
    seconds: float = 1.0
    """Of each repetition, about."""
    d3rlpy: str | None = None
    """The Python of an environment with d3rlpy, to time the same methods there; on a CPU only."""


class Reference(Protocol):
    """Something that trains one member; what it does in a step is its own affair."""

    def advance(self, updates: int) -> None:
        """Takes gradient steps."""
        ...


class PlainTD3BC:
    """TD3+BC in plain PyTorch."""

    def __init__(self, data: Dataset, device: str):
        rows = data.transitions
        columns = [rows.observations, rows.actions, rows.rewards, rows.next_observations]
        columns.append(rows.terminations.astype(np.float32))
        self.rows = [torch.from_numpy(np.array(each)).to(device) for each in columns]
        self.actor = _network(OBSERVATIONS, ACTIONS, nn.Tanh()).to(device)
        self.critics = nn.ModuleList(_network(OBSERVATIONS + ACTIONS, 1) for _ in range(2))
        self.critics.to(device)
        self.target_actor = copy.deepcopy(self.actor)
        self.target_critics = copy.deepcopy(self.critics)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.critic_optimiser = torch.optim.Adam(self.critics.parameters(), lr=3e-4)
        self.step = 0

    def advance(self, updates: int) -> None:
        """Takes gradient steps."""
        for _ in range(updates):
            self._update()

    def _update(self) -> None:
        index = torch.randint(len(self.rows[0]), (256,), device=self.rows[0].device)
        s, a, r, s2, ended = (each[index] for each in self.rows)
        with torch.no_grad():
            noise = (0.2 * torch.randn_like(a)).clamp(-0.5, 0.5)
            inputs = torch.cat([s2, (self.target_actor(s2) + noise).clamp(-1, 1)], -1)
            best = torch.minimum(*(critic(inputs) for critic in self.target_critics)).squeeze(-1)
            y = r + 0.99 * (1 - ended) * best
        inputs = torch.cat([s, a], -1)
        loss = sum(((critic(inputs).squeeze(-1) - y) ** 2).mean() for critic in self.critics)
        self.critic_optimiser.zero_grad()
        loss.backward()
        self.critic_optimiser.step()
        self.step += 1
        if self.step % 2:
            return
        actions = self.actor(s)
        q = self.critics[0](torch.cat([s, actions], -1))
        loss = -2.5 * q.mean() / q.detach().abs().mean() + ((actions - a) ** 2).mean()
        self.actor_optimiser.zero_grad()
        loss.backward()
        self.actor_optimiser.step()
        with torch.no_grad():
            for target, source in (
                (self.target_actor, self.actor),
                (self.target_critics, self.critics),
            ):
                for old, new in zip(target.parameters(), source.parameters(), strict=True):
                    old.lerp_(new, 0.005)


def _network(inputs: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    layers = [nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, outputs), *last)


def random_dataset(episodes: int = EPISODES) -> Dataset:
    rng, rows = np.random.default_rng(0), episodes * LENGTH
    ends = np.arange(1, rows + 1) % LENGTH == 0
    arrays = EpisodeArrays(
        observations=rng.normal(size=(rows, OBSERVATIONS)).astype(np.float32),
        actions=rng.uniform(-1, 1, (rows, ACTIONS)).astype(np.float32),
        rewards=rng.normal(size=rows).astype(np.float32),
        terminations=np.zeros(rows, bool),
        truncations=ends,
        episode_ids=np.repeat(np.arange(episodes, dtype=np.int32), LENGTH),
        final_observations=rng.normal(size=(episodes, OBSERVATIONS)).astype(np.float32),
    )
    spec = DatasetSpec.model_validate(
        {
            "name": "random-numbers",
            "version": 0,
            "family": "none",
            "summary": "Random numbers.",
            "sources": [{"kind": "d4rl", "path": "none"}],
            "licence": "MIT",
            "citation": "",
            "rewards": {"semantics": "none"},
        }
    )
    provenance = Provenance(
        status="unpinned", source="d4rl", digest="0" * 64, made_at="2000-01-01T00:00:00+00:00"
    )
    return Dataset(spec=spec, arrays=arrays, provenance=provenance)


def rate(learner: Reference, seconds: float, wait: Callable[[], None]) -> float:
    """Returns gradient steps per second over about that time."""
    steps, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds or steps == 0:
        learner.advance(CAPTURED_UPDATES)
        wait()
        steps += CAPTURED_UPDATES
    return steps / elapsed


def trainer_of(method: Method, dataset: Dataset, members: int, arguments: Arguments) -> Trainer:
    config = method.config_for(dataset.spec)
    group = [Member(dataset, config, seed) for seed in range(members)]
    return Trainer(method, group, arguments.device, steps=1_000_000, precision=arguments.precision)


@contextmanager
def other_library(
    method: Method, dataset: Dataset, arguments: Arguments
) -> Iterator[Reference | None]:
    """Yields the same method of d3rlpy; None if it has none, or none is asked for."""
    if arguments.d3rlpy is None or method.name not in EQUIVALENTS:
        yield None
        return
    # What d3rlpy cannot be told, such as initial weights, does not change what a step costs.
    absent = EQUIVALENTS[method.name].absent
    config = dataclasses.replace(method.config_for(dataset.spec), **absent)
    process = D3rlpyProcess(arguments.d3rlpy, method, config, dataset, arguments.threads)
    try:
        process.advance(2)
        yield process
    finally:
        process.close()


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    dataset = random_dataset()
    on_gpu = torch.device(arguments.device).type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    if on_gpu and arguments.d3rlpy is not None:
        raise SystemExit("--d3rlpy is timed on the CPU; leave --device at cpu")
    reference = PlainTD3BC(dataset, arguments.device)
    reference.advance(CAPTURED_UPDATES)
    table = Table(
        title=f"{arguments.device}, {arguments.precision}, {arguments.threads} thread(s)",
        title_justify="left",
    )
    names = ["method", "members", "steps/s", "member-steps/s", "to plain TD3+BC"]
    for name in names + ["d3rlpy's steps/s", "to d3rlpy"] * (arguments.d3rlpy is not None):
        table.add_column(name, justify="left" if name == "method" else "right")
    for name in arguments.methods:
        method = get_method(name, "continuous")
        with other_library(method, dataset, arguments) as other:
            for members in arguments.members:
                trainer = trainer_of(method, dataset, members, arguments)
                trainer.advance(3 * CAPTURED_UPDATES if on_gpu else 2)
                references = [reference] if other is None else [reference, other]
                ours, theirs = [], [[] for _ in references]
                for _ in range(arguments.rounds):
                    for each, rates in zip(references, theirs, strict=True):
                        rates.append(rate(each, 0.5 * arguments.seconds, wait))
                    ours.append(rate(trainer, arguments.seconds, wait))
                speed = statistics.median(ours)
                ratios = [
                    members * statistics.median(a / b for a, b in zip(ours, rates, strict=True))
                    for rates in theirs
                ]
                row = [method.title, str(members), _shown(speed), f"{members * speed:,.0f}"]
                row.append(f"{ratios[0]:.2f}x")
                if other is not None:
                    row += [_shown(statistics.median(theirs[1])), f"{ratios[1]:.2f}x"]
                table.add_row(*row)
    Console().print(table)


def _shown(speed: float) -> str:
    return f"{speed:,.0f}" if speed > 20 else f"{speed:.1f}"


if __name__ == "__main__":
    main(tyro.cli(Arguments))
