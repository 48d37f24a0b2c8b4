"""Work cut into fixed shards and done by several processes, equal bits whatever their number.

A shard is computed by ``function(arguments, shard)``, which must depend on nothing else. The
workers are child processes of their own (``python -m hetero_bench.shards``) with one BLAS thread
each; they decide which shard is computed when and where, never what comes out. Plain child
processes need no ``if __name__ == "__main__"`` in the caller's script and inherit no threads or
CUDA contexts.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hetero_bench.atomic import new_folder, write_file
from hetero_bench.progress import ProgressCallback
from hetero_bench.provenance import package_versions

WORKERS_VARIABLE = "HETERO_BENCH_WORKERS"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SIMULATORS = ("gymnasium", "mujoco")
Arrays = dict[str, np.ndarray]


def run_shards(
    function: str,
    arguments: Mapping[str, Any],
    shards: int,
    *,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
    keep: Path | None = None,
) -> list[Arrays]:
    """Computes all shards.

    Args:
        function: ``package.module:name`` of ``function(arguments, shard) -> dict of arrays``.
        arguments: JSON values, handed to every call.
        shards: How many; they are numbered from 0.
        workers: Processes. By default ``HETERO_BENCH_WORKERS``, or one per core available.
        progress: Called with (shards done, shards in all).
        keep: Folder of this job's own, in which finished shards outlive an interruption: the next
            call with equal arguments and package versions takes them up. Deleted at the end. By
            default nothing is left on the disk.

    Returns:
        The shards' arrays in the order of their numbers.

    Raises:
        ValueError: If a number is not positive.
        RuntimeError: If a worker fails; the message holds its traceback. All workers are ended.
    """
    workers = min(default_workers() if workers is None else workers, shards)
    if shards < 1 or workers < 1:
        raise ValueError(f"{shards} shards, {workers} workers: expected at least one of each")
    job = {"function": function, "arguments": dict(arguments)}
    with _job_folder(job, keep) as folder:
        missing = [shard for shard in range(shards) if not (folder / str(shard)).is_dir()]
        counts = _computed({**job, "folder": str(folder)}, missing, workers)
        with contextlib.closing(counts):
            for done in counts:
                if progress is not None:
                    progress(shards - len(missing) + done, shards)
        return [_read(folder / str(shard)) for shard in range(shards)]


def _computed(job: dict[str, Any], missing: list[int], workers: int) -> Generator[int, None, None]:
    """Has the missing shards written into the job's folder; yields how many of them are done."""
    pending: queue.SimpleQueue[int] = queue.SimpleQueue()
    for shard in missing:
        pending.put(shard)
    finished: queue.SimpleQueue[BaseException | int | None] = queue.SimpleQueue()
    processes = [_start_worker(job) for _ in range(min(workers, len(missing)))]
    threads = [
        threading.Thread(target=_feed, args=(process, pending, finished), daemon=True)
        for process in processes
    ]
    try:
        for thread in threads:
            thread.start()
        for done in range(1, len(missing) + 1):
            outcome = finished.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield done
    finally:
        for process in processes:
            process.kill()
        for process, thread in zip(processes, threads, strict=True):
            process.wait()
            thread.join()
            _close(process)


@contextlib.contextmanager
def _job_folder(job: dict[str, Any], keep: Path | None) -> Iterator[Path]:
    """Yields a folder for finished shards: a temporary one, or the kept one of the same job."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="hetero-bench-shards-") as folder:
            yield Path(folder)
        return
    label, text = keep / "job.json", json.dumps(job | {"versions": package_versions(*_SIMULATORS)})
    if not label.is_file() or label.read_text(encoding="utf-8") != text:
        shutil.rmtree(keep, ignore_errors=True)
        write_file(label, text)
    yield keep
    shutil.rmtree(keep)


def default_workers() -> int:
    """Returns ``HETERO_BENCH_WORKERS``, or the number of cores this process may use.

    Raises:
        ValueError: If the variable is not a positive integer.
    """
    text = os.environ.get(WORKERS_VARIABLE)
    if text is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{WORKERS_VARIABLE} is {text!r}; expected a number of processes from 1")
    return int(text)


def _start_worker(job: dict[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hetero_bench.shards"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")},
        text=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
    return process


def _feed(
    process: subprocess.Popen[str],
    pending: queue.SimpleQueue[int],
    finished: queue.SimpleQueue[BaseException | int | None],
) -> None:
    """Gives a worker one shard after the other and passes on how each went."""
    assert process.stdin is not None
    assert process.stdout is not None
    while True:
        try:
            shard = pending.get_nowait()
        except queue.Empty:
            return
        try:
            process.stdin.write(f"{shard}\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except (BrokenPipeError, ValueError):
            reply = ""
        whole = reply.endswith("\n")  # a worker may end in the middle of a reply
        problem = json.loads(reply)["error"] if whole else "the worker process ended"
        if problem is None:
            finished.put(shard)
        else:
            finished.put(RuntimeError(f"shard {shard} could not be computed: {problem}"))
            return


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def _read(folder: Path) -> Arrays:
    return {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def _work(requests: IO[str], replies: IO[str]) -> None:
    """The worker's side: one JSON line describes the job, then one line per shard."""
    job = json.loads(requests.readline())
    module, _, name = job["function"].partition(":")
    for line in requests:
        shard, problem = int(line), None
        try:
            arrays = getattr(importlib.import_module(module), name)(job["arguments"], shard)
            with new_folder(Path(job["folder"]) / str(shard)) as folder:
                for key, array in arrays.items():
                    np.save(folder / f"{key}.npy", array, allow_pickle=False)
        except Exception:
            problem = traceback.format_exc()
        replies.write(json.dumps({"error": problem}) + "\n")
        replies.flush()


def _claim_standard_output() -> IO[str]:
    """Returns this process's standard output for replies alone; what is printed goes to the errors.

    Below Python too: MuJoCo prints its warnings from C.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


if __name__ == "__main__":
    _work(sys.stdin, _claim_standard_output())
