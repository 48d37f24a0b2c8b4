"""Progress of what takes longer than a moment: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ProgressCallback = Callable[[int, int], None]
"""Called with (done, total)."""

LINE_SECONDS = 30.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def progress_bar(description: str) -> Iterator[ProgressCallback]:
    """Shows progress on standard error once the callback it yields is called for the first time.

    Args:
        description: Said in front of the bar, or of every line.

    Yields:
        A callback that takes (done, total).
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(description, total=None, visible=False)
        last_line = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal last_line
            bar.update(task, completed=done, total=total, visible=True)
            if bar.disable and time.monotonic() - last_line >= LINE_SECONDS:
                last_line = time.monotonic()
                console.print(f"{description}: {done:,} of {total:,}", markup=False, soft_wrap=True)

        yield advance
