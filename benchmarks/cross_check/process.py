"""d3rlpy's own process: what it is given, how it is called, and how it is timed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

import hetero_bench
from baselines.engine import Method
from baselines.engine.preparation import frame_of, prepared_columns
from hetero_bench.atomic import new_file, write_file

from .equivalents import d3rlpy_settings

LEARNER = Path(__file__).with_name("d3rlpy_learner.py")
COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "next_observations",
    "terminations",
    "truncations",
)


def write_inputs(
    folder: Path, method: Method, config: Any, dataset: hetero_bench.Dataset, steps: int
) -> None:
    """Writes the transitions as our networks see them, and the settings in d3rlpy's words.

    Args:
        folder: Where ``data.npz`` and ``settings.json`` go.
        method: The method.
        config: Its hyperparameters, which d3rlpy has to have.
        dataset: The dataset.
        steps: Gradient steps in all, for schedules.
    """
    settings = d3rlpy_settings(method.name, config, steps)
    write_file(folder / "settings.json", json.dumps(settings, indent=1))
    preparation = method.prepare(config, dataset)
    frame = frame_of(dataset, preparation)
    columns = prepared_columns(dataset, preparation, frame, discrete=False)
    with new_file(folder / "data.npz") as path, path.open("wb") as stream:
        np.savez(stream, **{name: columns[name] for name in COLUMNS})


Task = Literal["train", "serve", "replay"]


def command(python: str, task: Task, folder: Path, threads: int) -> list[str]:
    """Returns how d3rlpy's process is started on the inputs in a folder."""
    inputs = ["--data", str(folder / "data.npz"), "--settings", str(folder / "settings.json")]
    return [python, str(LEARNER), task, *inputs, "--threads", str(threads)]


def environment(threads: int) -> dict[str, str]:
    """Returns the environment of a process with so many threads."""
    return os.environ | {"OMP_NUM_THREADS": str(threads)}


class D3rlpyProcess:
    """A learner in d3rlpy's environment that takes gradient steps when asked.

    Args:
        python: The Python of d3rlpy's environment.
        method: The method.
        config: Its hyperparameters, which d3rlpy has to have.
        dataset: The dataset.
        threads: CPU threads.
    """

    def __init__(
        self,
        python: str,
        method: Method,
        config: Any,
        dataset: hetero_bench.Dataset,
        threads: int,
    ):
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        write_inputs(folder, method, config, dataset, steps=1_000_000)
        self._command = command(python, "serve", folder, threads)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(threads),
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def advance(self, updates: int) -> None:
        """Takes gradient steps.

        Raises:
            RuntimeError: If the process has ended.
        """
        with suppress(BrokenPipeError):  # the empty answer says so, too
            self._stdin.write(f"{updates}\n")
            self._stdin.flush()
        while (line := self._stdout.readline()) != "done\n":
            if not line:
                raise RuntimeError(
                    f"d3rlpy's process ended with status {self._process.wait()}; start it by hand "
                    f"to see why: {shlex.join(self._command)}"
                )

    def close(self) -> None:
        """Ends the process."""
        with suppress(BrokenPipeError):
            self._stdin.close()
        self._process.wait()
        self._folder.cleanup()
