"""The cache on disk: one folder per dataset artefact, written once, memory-mapped ever after.

``<cache>/<dataset id>/<artefact>/`` holds one ``.npy`` file per array and ``metadata.json``. A
folder is made under a temporary name and renamed when complete, under a lock, so that no reader
ever sees half a dataset and two processes do not build the same one. Digests are checked in full
when an entry is written, when a file's time stamp has changed, and by :meth:`CacheEntry.verify`;
an ordinary opening checks the metadata, names, sizes and time stamps only. What is damaged is set
aside under another name, never used and never deleted; what is stale, made from another recipe,
file or parent than today's, makes way for the new. A cache that cannot be written to can be read.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import platformdirs
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from hetero_bench import atomic
from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_array
from hetero_bench.errors import describe_validation_error
from hetero_bench.provenance import Provenance

FORMAT = 1
METADATA = "metadata.json"
_logger = logging.getLogger(__name__)


class DamagedEntryError(RuntimeError):
    """A cache entry cannot be trusted."""


class StaleEntryError(RuntimeError):
    """A cache entry is sound, but made from something else than today's recipe, file or parent."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArrayRecord(_Record):
    """What is known of one array's file.

    Attributes:
        sha256: Digest of the array, by :func:`hetero_bench.arrays.digest_array`.
        bytes: Size of the file.
        mtime_ns: Its time stamp when it was last known to hold what it should.
    """

    sha256: str
    bytes: NonNegativeInt
    mtime_ns: int


class Origin(_Record):
    """What an entry was made from.

    Attributes:
        source: Kind of the source that answered.
        identity: The source's ``identity`` at that time.
    """

    source: str
    identity: str | None


class Metadata(_Record):
    """The document beside the arrays.

    Attributes:
        origin: What the entry was made from.
        provenance: As it was when the entry was written.
        format: Counts up when an older release could not read the entry.
        arrays: The files, by the array's name.
        notes: JSON facts of the arrays.
    """

    origin: Origin
    provenance: Provenance
    format: Literal[1]
    arrays: dict[str, ArrayRecord]
    notes: dict[str, Any]


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
        """Holds the entry for writing; another process waits here.

        Raises:
            OSError: If the cache cannot be written to.
        """
        lock = filelock.FileLock(self.folder.parent / f".{self.folder.name}.lock")
        with self._advice():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
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
        """Whether something stands here, sound or not."""
        return os.path.lexists(self.folder)

    def write(self, arrays: EpisodeArrays, origin: Origin, provenance: Provenance) -> None:
        """Writes the arrays and what is known of them; call it under :meth:`lock`.

        Args:
            arrays: What to store.
            origin: What they were made from.
            provenance: Its digest is that of the arrays.

        Raises:
            OSError: If the disk is full or not writable; nothing is left behind then.
        """
        self._remove_partial_writes()
        size = sum(array.nbytes for _, array in arrays.named())
        detail = f" ({size / 1e6:.0f} MB needed)"
        with self._advice(detail), atomic.new_folder(self.folder) as temporary:
            files = {
                name: _write_array(temporary / f"{name}.npy", name, array)
                for name, array in arrays.named()
            }
            metadata = Metadata(
                origin=origin,
                provenance=provenance,
                format=FORMAT,
                arrays=files,
                notes=arrays.notes,
            )
            (temporary / METADATA).write_text(_to_json(metadata), encoding="utf-8")

    def read(self) -> tuple[EpisodeArrays, Metadata]:
        """Opens the arrays memory-mapped.

        Returns:
            The arrays, read-only, and what is known of them.

        Raises:
            DamagedEntryError: If a file is missing, cut short, changed, or not readable.
        """
        metadata = self._metadata()
        mapped = self._map(metadata)
        touched = {}
        for name, record in metadata.arrays.items():
            path = self._path(name)
            stamp = path.stat().st_mtime_ns
            if stamp != record.mtime_ns:
                if digest_array(name, mapped[name]) != record.sha256:
                    raise DamagedEntryError(f"{path} has changed since it was written")
                touched[name] = record.model_copy(update={"mtime_ns": stamp})
        if touched:
            metadata = metadata.model_copy(update={"arrays": {**metadata.arrays, **touched}})
            # Only saves the next opening from reading every byte again.
            with suppress(OSError):
                atomic.write_file(self.folder / METADATA, _to_json(metadata))
        return self._join(mapped, metadata), metadata

    def verify(self) -> Metadata:
        """Reads every byte and compares its digest; changes nothing.

        Returns:
            What is known of the arrays.

        Raises:
            DamagedEntryError: If the entry cannot be opened, or an array's digest is not the one
                recorded when it was written.
        """
        metadata = self._metadata()
        mapped = self._map(metadata)
        self._join(mapped, metadata)
        for name, array in mapped.items():
            if digest_array(name, array) != metadata.arrays[name].sha256:
                raise DamagedEntryError(f"{self._path(name)} is not what was written")
        return metadata

    def set_aside(self, reason: str) -> Path:
        """Renames a damaged entry so that it is never used again; call it under :meth:`lock`.

        Returns:
            Where it lies now.
        """
        stamp = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}"
        aside = self.folder.with_name(f"{self.folder.name}.damaged-{stamp}")
        with self._advice():
            os.rename(self.folder, aside)
        _logger.warning("%s; set aside as %s and made again", reason, aside)
        return aside

    def discard(self, reason: str) -> None:
        """Deletes a stale entry, which can be made again; call it under :meth:`lock`."""
        with self._advice():
            # Renamed first, so that no reader finds half of it. Open memory maps stay valid.
            waste = tempfile.mkdtemp(
                dir=self.folder.parent, prefix=f"{atomic.TEMPORARY_PREFIX}{self.folder.name}."
            )
            os.rename(self.folder, Path(waste) / self.folder.name)
        shutil.rmtree(waste, ignore_errors=True)
        _logger.info("%s; made again", reason)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _metadata(self) -> Metadata:
        path = self.folder / METADATA
        try:
            metadata = Metadata.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DamagedEntryError(f"{path}: {describe_validation_error(error)}") from error
        except OSError as error:
            raise DamagedEntryError(f"{path}: {error}") from error
        digest = dataset_digest({name: one.sha256 for name, one in metadata.arrays.items()})
        if digest != metadata.provenance.digest:
            raise DamagedEntryError(
                f"{path}: its arrays have digest {digest}; its provenance is that of other data, "
                f"{metadata.provenance.digest}"
            )
        return metadata

    def _map(self, metadata: Metadata) -> dict[str, np.ndarray]:
        """Opens the files whose names and sizes are as recorded."""
        mapped = {}
        for name, record in metadata.arrays.items():
            path = self._path(name)
            try:
                size = path.stat().st_size
                if size != record.bytes:
                    raise DamagedEntryError(f"{path} has {size} bytes; expected {record.bytes}")
                mapped[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DamagedEntryError(f"{path}: {error}") from error
        return mapped

    def _join(self, mapped: dict[str, np.ndarray], metadata: Metadata) -> EpisodeArrays:
        try:
            return EpisodeArrays.from_named(mapped, metadata.notes)
        except KeyError as error:
            raise DamagedEntryError(f"{self.folder} lacks the array {error}") from error

    def _remove_partial_writes(self) -> None:
        for left in self.folder.parent.glob(f"{atomic.TEMPORARY_PREFIX}{self.folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _advice(self, detail: str = "") -> Iterator[None]:
        """Says what to do where the cache cannot be written to."""
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno,
                f"could not write {self.folder}{detail}: {error.strerror}. "
                "Nothing was kept; free some space or choose another HETERO_BENCH_CACHE",
            ) from error


def _to_json(metadata: Metadata) -> str:
    return json.dumps(metadata.model_dump(), indent=1)


def _write_array(path: Path, name: str, array: np.ndarray) -> ArrayRecord:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    np.save(path, little, allow_pickle=False)
    status = path.stat()
    return ArrayRecord(
        sha256=digest_array(name, little), bytes=status.st_size, mtime_ns=status.st_mtime_ns
    )
