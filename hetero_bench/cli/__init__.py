"""``hetero-bench``: list, show, path, verify, build, evaluate, grade, train.

Commands import what they need when they run, so that help and errors come at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import tyro

from hetero_bench.cli import datasets, runs

DEBUG_VARIABLE = "HETERO_BENCH_DEBUG"
DESCRIPTION = f"""\
Offline reinforcement learning on small and heteroskedastic data: datasets, evaluation, grading.

Where the cache lies: --cache-dir, the variable HETERO_BENCH_CACHE, or the platform's own place.
An error is one line; --debug or {DEBUG_VARIABLE}=1 shows where it came from."""

COMMANDS = {
    "list": datasets.list_,
    "show": datasets.show,
    "path": datasets.path,
    "verify": datasets.verify,
    "build": datasets.build,
    "evaluate": runs.evaluate,
    "grade": runs.grade,
    "train": runs.train,
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: Words after the program's name; those it was called with by default.

    Returns:
        Exit status: 0, or 1 after an error that was told in one line on standard error.
    """
    from hetero_bench.cache import DamagedEntryError
    from hetero_bench.errors import SourceError, UnknownDatasetError

    words = list(sys.argv[1:] if args is None else args)
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    try:
        if words[:1] == ["train"]:
            return runs.hand_over(words[1:])
        debug = debug or "--debug" in words
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="hetero-bench",
            description=DESCRIPTION,
            args=[word for word in words if word != "--debug"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except BrokenPipeError:
        # The reader has left, as `| head` does; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (
        UnknownDatasetError,
        SourceError,
        DamagedEntryError,
        ValueError,
        OSError,
        ImportError,
    ) as error:
        if debug:
            raise
        print(f"hetero-bench: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
