"""Many populations, several at a time: each in a worker process with one thread.

Small networks gain little from a second thread; a second process gives twice the throughput.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import hetero_bench
from baselines.engine.display import LINE_SECONDS
from baselines.engine.method import get_method
from baselines.engine.plan import Plan
from baselines.engine.training import execute, make_plan

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Job:
    """A population, described in few enough words to be sent to another process.

    Attributes:
        method: Name of the method.
        configs: Its configs, one per hyperparameter setting.
        datasets: (id, draw) of each dataset; draw None for a whole dataset.
        seeds: Member seeds.
        steps: Gradient steps.
        out: Folder for results.
    """

    method: str
    configs: tuple[Any, ...]
    datasets: tuple[tuple[str, int | None], ...]
    seeds: tuple[int, ...]
    steps: int
    out: Path

    @property
    def members(self) -> int:
        """Size of the population."""
        return len(self.configs) * len(self.datasets) * len(self.seeds)

    @property
    def title(self) -> str:
        """What progress bars call it."""
        return f"{get_method(self.method).title} × {self.members}"

    def plan(self) -> Plan:
        """Loads the datasets and makes the plan."""
        loaded = [hetero_bench.load(name, draw=draw) for name, draw in self.datasets]
        return make_plan(self.method, loaded, self.seeds, self.configs, steps=self.steps)


def run_jobs(jobs: Sequence[Job], *, workers: int | None = None, quiet: bool = False) -> None:
    """Trains every job's population and writes its run records; finished ones take no time.

    Args:
        jobs: What to train; longest first keeps the workers busy to the end.
        workers: Processes; as many as processors by default.
        quiet: Show no progress.

    Raises:
        Exception: What a worker raised first. The others' finished populations are recorded, and
            the same call continues the rest.
    """
    context = multiprocessing.get_context("spawn")
    counters = [context.Value("q", 0) for _ in jobs]
    workers = min(workers or os.cpu_count() or 1, len(jobs)) or 1
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(counters,)
    ) as pool:
        futures = [pool.submit(_run, number, job) for number, job in enumerate(jobs)]
        try:
            _show(jobs, counters, futures, quiet=quiet)
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_counters: Sequence[Synchronized[int]] = ()


def _begin_worker(counters: Sequence[Synchronized[int]]) -> None:
    global _counters
    _counters = counters
    torch.set_num_threads(1)


def _run(number: int, job: Job) -> None:
    counter = _counters[number]

    def count(step: int) -> None:
        counter.value = step

    execute(job.plan(), job.out, quiet=True, on_step=count)
    counter.value = job.steps


def _show(
    jobs: Sequence[Job],
    counters: Sequence[Synchronized[int]],
    futures: Sequence[Any],
    *,
    quiet: bool,
) -> None:
    """Shows the work done until every job has ended or one has failed."""
    console = Console(stderr=True, quiet=quiet, highlight=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )
    tasks = [bar.add_task(job.title, total=job.steps, visible=False) for job in jobs]
    said = time.perf_counter()
    with bar:
        while True:
            steps = [counter.value for counter in counters]
            for task, job, step in zip(tasks, jobs, steps, strict=True):
                bar.update(task, completed=step, visible=0 < step < job.steps)
            if all(future.done() for future in futures) or any(
                future.done() and future.exception() for future in futures
            ):
                return
            if bar.disable and time.perf_counter() - said > LINE_SECONDS:
                said = time.perf_counter()
                work = sum(job.members * job.steps for job in jobs)
                done = sum(job.members * step for job, step in zip(jobs, steps, strict=True))
                ended = sum(future.done() for future in futures)
                console.print(
                    f"{ended} of {len(jobs)} populations done, {done / work:.0%} of the work"
                )
            time.sleep(POLL_SECONDS)
