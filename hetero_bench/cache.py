"""The cache on disk: one folder per dataset artefact, written once, memory-mapped ever after.

``<cache>/<dataset id>/<artefact>/`` holds one ``.npy`` file per array and ``metadata.json``. A
folder is made under a temporary name and renamed when complete, under a lock, so that no reader
ever sees half a dataset and two processes do not build the same one. Digests are checked in full
when an entry is written, when a file's time stamp has changed, and by :meth:`CacheEntry.verify`;
an ordinary opening checks names, sizes and time stamps only. What is damaged is set aside under
another name, never used and never deleted.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs

from hetero_bench import atomic
from hetero_bench.arrays import EpisodeArrays, digest_array

FORMAT = 1
METADATA = "metadata.json"
_logger = logging.getLogger(__name__)


class DamagedEntryError(RuntimeError):
    """A cache entry cannot be trusted."""


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the cache folder: the argument, ``HETERO_BENCH_CACHE``, or the platform's own."""
    chosen = cache_dir or os.environ.get("HETERO_BENCH_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("hetero_bench")


@dataclass(frozen=True)
class CacheEntry:
    """One dataset artefact's place in the cache.

    Attributes:
        folder: Where the arrays lie, or will lie.
    """

    folder: Path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the entry for writing; another process waits here."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder.parent / f".{self.folder.name}.lock")
        try:
            lock.acquire(timeout=2)
        except filelock.Timeout:
            _logger.warning("waiting for another process that is making %s", self.folder)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def exists(self) -> bool:
        """Whether a complete entry stands here."""
        return self.folder.is_dir()

    def write(self, arrays: EpisodeArrays, metadata: dict[str, Any]) -> None:
        """Writes the arrays and metadata; call it under :meth:`lock`.

        Args:
            arrays: What to store.
            metadata: JSON facts stored beside the arrays, returned by :meth:`read`.

        Raises:
            OSError: If the disk is full or not writable; nothing is left behind then.
        """
        self._remove_partial_writes()
        size = sum(array.nbytes for _, array in arrays.named())
        try:
            with atomic.new_folder(self.folder) as temporary:
                files = {
                    name: _write_array(temporary / f"{name}.npy", name, array)
                    for name, array in arrays.named()
                }
                document = {
                    **metadata,
                    "format": FORMAT,
                    "arrays": files,
                    "notes": arrays.notes,
                }
                (temporary / METADATA).write_text(json.dumps(document, indent=1), encoding="utf-8")
        except OSError as error:
            raise OSError(
                error.errno,
                f"could not write {self.folder} ({size / 1e6:.0f} MB needed): {error.strerror}. "
                "Nothing was kept; free some space or choose another HETERO_BENCH_CACHE",
            ) from error

    def read(self) -> tuple[EpisodeArrays, dict[str, Any]]:
        """Opens the arrays memory-mapped.

        Returns:
            The arrays, read-only, and the metadata given to :meth:`write`.

        Raises:
            DamagedEntryError: If a file is missing, cut short, changed, or not readable.
        """
        document = self._document()
        touched = False
        mapped = {}
        for name, record in document["arrays"].items():
            path = self.folder / f"{name}.npy"
            try:
                status = path.stat()
                if status.st_size != record["bytes"]:
                    raise DamagedEntryError(
                        f"{path} has {status.st_size} bytes; expected {record['bytes']}"
                    )
                mapped[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DamagedEntryError(f"{path}: {error}") from error
            if status.st_mtime_ns != record["mtime_ns"]:
                touched = True
                if digest_array(name, mapped[name]) != record["sha256"]:
                    raise DamagedEntryError(f"{path} has changed since it was written")
                record["mtime_ns"] = status.st_mtime_ns
        if touched:
            atomic.write_file(self.folder / METADATA, json.dumps(document, indent=1))
        try:
            return EpisodeArrays.from_named(mapped, document["notes"]), document
        except KeyError as error:
            raise DamagedEntryError(f"{self.folder} lacks the array {error}") from error

    def verify(self) -> None:
        """Reads every byte and compares its digest.

        Raises:
            DamagedEntryError: If an array's digest is not the one recorded when it was written.
        """
        arrays, document = self.read()
        for name, array in arrays.named():
            if digest_array(name, array) != document["arrays"][name]["sha256"]:
                raise DamagedEntryError(f"{self.folder / name}.npy is not what was written")

    def digests(self) -> dict[str, str]:
        """Returns the recorded sha256 of every array by name."""
        return {name: record["sha256"] for name, record in self._document()["arrays"].items()}

    def set_aside(self, reason: str) -> Path:
        """Renames the entry so that it is never used again; call it under :meth:`lock`.

        Returns:
            Where it lies now.
        """
        stamp = time.strftime("%Y%m%dT%H%M%S")
        aside = self.folder.with_name(f"{self.folder.name}.damaged-{stamp}-{os.getpid()}")
        os.rename(self.folder, aside)
        _logger.warning("%s; set aside as %s and made again", reason, aside)
        return aside

    def _document(self) -> dict[str, Any]:
        path = self.folder / METADATA
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise DamagedEntryError(
                    f"{path} has format {document['format']}; expected {FORMAT}"
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedEntryError(f"{path}: {error}") from error
        return document

    def _remove_partial_writes(self) -> None:
        for left in self.folder.parent.glob(f"{atomic.TEMPORARY_PREFIX}{self.folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)


def _write_array(path: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    np.save(path, little, allow_pickle=False)
    status = path.stat()
    return {
        "sha256": digest_array(name, little),
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
