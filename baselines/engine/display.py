"""What a training process shows: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hetero_bench.progress import LINE_SECONDS


class Display:
    """Progress of one population, on standard error.

    Args:
        title: Said in front of the progress bar.
        steps: Gradient steps in all.
        quiet: Show nothing at all.
        on_step: Told the number of steps done, too.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        *,
        quiet: bool = False,
        on_step: Callable[[int], None] | None = None,
    ):
        self.title = title
        self.steps = steps
        self._on_step = on_step
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=steps, rate="")
        self._begun = self._last_line = time.perf_counter()
        self._first_step = 0

    @contextmanager
    def running(self, first_step: int) -> Iterator[None]:
        """Shows progress during the block, from ``first_step`` on."""
        self._first_step = first_step
        self._begun = self._last_line = time.perf_counter()
        self._bar.update(self._task, completed=first_step)
        with self._bar:
            yield

    def update(self, step: int) -> None:
        """Says how many steps are done."""
        if self._on_step is not None:
            self._on_step(step)
        now = time.perf_counter()
        rate = f"{(step - self._first_step) / (now - self._begun):,.0f} steps/s"
        self._bar.update(self._task, completed=step, rate=rate)
        if self._bar.disable and now - self._last_line > LINE_SECONDS:
            self._last_line = now
            self.say(f"{self.title}: step {step:,} of {self.steps:,}, {rate}")

    def say(self, line: str) -> None:
        """Shows one line."""
        self._bar.console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the progress bar away for the block, in which others may show theirs."""
        paused_at = time.perf_counter()
        self._bar.stop()
        try:
            yield
        finally:
            self._begun += time.perf_counter() - paused_at
            self._bar.start()
