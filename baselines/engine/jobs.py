"""Many populations, several at a time: each in a worker process with one thread.

Small networks gain little from a second thread; a second process gives twice the throughput.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

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
from baselines.engine.method import get_method, method_forms
from baselines.engine.plan import Plan
from baselines.engine.precision import Precision
from baselines.engine.preparation import action_kind
from baselines.engine.processes import CONTEXT, worker_pool
from baselines.engine.session import STALE
from baselines.engine.training import execute, make_plan
from hetero_bench.progress import LINE_SECONDS
from hetero_bench.runs import Run

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Job:
    """A population, described in few enough words to be sent to another process.

    Attributes:
        method: Name of the method.
        configs: Its configs, one per hyperparameter setting; None for each dataset's defaults.
        datasets: (id, draw) of each dataset; draw None for a whole dataset.
        seeds: Member seeds.
        steps: Gradient steps.
        out: Folder for results.
        changes: Fields of the datasets' default configs that differ, where ``configs`` is None.
        settings: Further such changes, one per hyperparameter setting of a dataset.
        device: ``cpu`` or a torch device.
        precision: Of matrix products; None for the device's default.
    """

    method: str
    configs: tuple[Any, ...] | None
    datasets: tuple[tuple[str, int | None], ...]
    seeds: tuple[int, ...]
    steps: int
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[Mapping[str, Any], ...] = ({},)
    device: str = "cpu"
    precision: Precision | None = None

    @property
    def members(self) -> int:
        """Size of the population."""
        settings = self.settings if self.configs is None else self.configs
        return len(settings) * len(self.datasets) * len(self.seeds)

    @property
    def title(self) -> str:
        """What progress bars call it."""
        title = next(iter(method_forms(self.method).values())).title
        return f"{title} × {self.members}"

    def plan(self) -> Plan:
        """Loads the datasets and makes the plan."""
        loaded = [hetero_bench.load(name, draw=draw) for name, draw in self.datasets]
        method = get_method(self.method, action_kind(loaded[0]))

        def configs_of(dataset: hetero_bench.Dataset) -> Any:
            default = dataclasses.replace(method.config_for(dataset.spec), **self.changes)
            return [dataclasses.replace(default, **setting) for setting in self.settings]

        return make_plan(
            method,
            loaded,
            self.seeds,
            configs_of if self.configs is None else self.configs,
            steps=self.steps,
            device=self.device,
            precision=self.precision,
        )


Outcome = tuple[list[Run], str | None]
"""(P,) run records, and how the code that trained them differs from the present one, if it does."""


def run_jobs(
    jobs: Sequence[Job],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    quiet: bool = False,
    on_finished: Callable[[list[Run]], None] | None = None,
) -> list[list[Run]]:
    """Trains every job's population and writes its run records; finished ones take no time.

    Says in one line if finished populations that it found were trained by other code.

    Args:
        jobs: What to train; longest first keeps the workers busy to the end.
        overwrite: Train finished populations again, and replace others' results.
        workers: Processes; as many as processors by default.
        quiet: Show no progress.
        on_finished: Takes the runs of every job once it is done; of those that are done before
            another one fails, too.

    Returns:
        Every job's (P,) run records, in the order of :func:`~baselines.engine.training.train`.

    Raises:
        Exception: What a worker raised first. The other workers are ended at once; the same call
            continues their populations from the last checkpoints.
    """
    if not jobs:
        return []
    counters = [CONTEXT.Value("q", 0) for _ in jobs]
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    failures: list[Future[Outcome]] = []  # in the order of time

    def ended(future: Future[Outcome]) -> None:
        if not future.cancelled() and future.exception() is not None:
            failures.append(future)

    # Whatever workers do when an error ends them: their files are whole, and their checkpoints let
    # them resume.
    with worker_pool(workers, _begin_worker, counters) as pool:
        futures = [pool.submit(_run, number, job, overwrite) for number, job in enumerate(jobs)]
        for future in futures:
            future.add_done_callback(ended)
        for finished in _show(jobs, counters, futures, failures, quiet=quiet):
            if on_finished is not None:
                on_finished(finished)
        if failures:
            failures[0].result()
    outcomes = [future.result() for future in futures]
    _say_stale([stale for _, stale in outcomes if stale is not None], quiet=quiet)
    return [runs for runs, _ in outcomes]


def _say_stale(differences: Sequence[str], *, quiet: bool) -> None:
    """Shows one line if some populations were trained by other code."""
    if differences:
        kinds = list(dict.fromkeys(differences))
        more = f", and {len(kinds) - 1} other ways" if len(kinds) > 1 else ""
        console = Console(stderr=True, quiet=quiet, highlight=False)
        said = STALE.format(kinds[0] + more)
        console.print(f"{len(differences)} populations were {said}", markup=False, soft_wrap=True)


_counters: Sequence[Synchronized[int]] = ()


def _begin_worker(counters: Sequence[Synchronized[int]]) -> None:
    global _counters
    _counters = counters


def _run(number: int, job: Job, overwrite: bool = False) -> Outcome:
    counter = _counters[number]
    stale: list[str] = []

    def count(step: int) -> None:
        counter.value = step

    runs = execute(
        job.plan(),
        job.out,
        overwrite=overwrite,
        quiet=True,
        on_step=count,
        on_stale=stale.append,
    )
    counter.value = job.steps
    return runs, stale[0] if stale else None


def _show(
    jobs: Sequence[Job],
    counters: Sequence[Synchronized[int]],
    futures: Sequence[Future[Outcome]],
    failures: Sequence[Future[Outcome]],
    *,
    quiet: bool,
) -> Iterator[list[Run]]:
    """Shows the work done until every job has ended or one has failed, and yields what is done."""
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
    pending = list(futures)
    with bar:
        while True:
            over = bool(failures) or all(future.done() for future in futures)
            ended = [future for future in pending if future.done()]
            pending = [future for future in pending if future not in ended]
            for future in ended:
                if not future.cancelled() and future.exception() is None:
                    yield future.result()[0]
            steps = [counter.value for counter in counters]
            for task, job, step in zip(tasks, jobs, steps, strict=True):
                bar.update(task, completed=step, visible=0 < step < job.steps)
            if over:
                return
            if bar.disable and time.perf_counter() - said > LINE_SECONDS:
                said = time.perf_counter()
                work = sum(job.members * job.steps for job in jobs)
                done = sum(job.members * step for job, step in zip(jobs, steps, strict=True))
                done_jobs = len(futures) - len(pending)
                console.print(
                    f"{done_jobs} of {len(jobs)} populations done, {done / work:.0%} of the work"
                )
            time.sleep(POLL_SECONDS)
