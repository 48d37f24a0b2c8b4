"""An HDF5 file with D4RL's keys, every array checked before it is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hetero_bench.errors import SourceError
from hetero_bench.sources.files import discrete_actions, require_finite

if TYPE_CHECKING:
    import h5py

_KINDS = {"observations": "fiu", "next_observations": "fiu", "actions": "fiu"}
_INFO_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_MAX_COMPRESSION = 2000
"""Deflate shrinks data 1,032 times at most; a file that claims more would only fill memory."""


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[D4RLFile]:
    """Opens a file for reading.

    Raises:
        FileNotFoundError: If there is no such file.
        SourceError: If it is not an HDF5 file with ``observations`` and ``actions``, or a part of
            it that is read inside the block is damaged.
    """
    import h5py

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            yield D4RLFile(path, file)
    except SourceError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise SourceError(f"{path}: not readable as HDF5 ({error}); it is damaged") from error


class D4RLFile:
    """An open file whose keys are checked as they are asked for.

    Only numbers stored in the file itself are read: no objects, no links to other files.

    Attributes:
        rows: Number of rows ``N``.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file
        self.rows = 0
        self.rows = int(self.dataset("observations").shape[0])

    def __contains__(self, key: str) -> bool:
        return key in self._file

    def name(self, key: str) -> str:
        """Returns what error messages call a key."""
        return f"{self._path}: {key}"

    def dataset(self, key: str) -> h5py.Dataset:
        """Returns the dataset of a key, its shape and dtype checked."""
        import h5py

        name = self.name(key)
        link = self._file.get(key, getlink=True)
        if link is None:
            keys = ", ".join(map(str, self._file)) or "none"
            raise SourceError(f"{name} is missing; the file has {keys}")
        found = self._file[key] if isinstance(link, h5py.HardLink) else None
        if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
            raise SourceError(f"{name} is not an array stored in this file")
        if found.dtype.kind not in _KINDS.get(key, "fiub") or found.dtype.itemsize > 8:
            raise SourceError(f"{name} has dtype {found.dtype}; expected numbers")
        if not found.shape or 0 in found.shape:
            raise SourceError(f"{name} has shape {found.shape}; expected at least one row")
        if found.shape[0] != (self.rows or found.shape[0]):
            raise SourceError(
                f"{name} has {found.shape[0]} rows; expected {self.rows} as observations"
            )
        if found.nbytes > _MAX_COMPRESSION * self._path.stat().st_size:
            raise SourceError(
                f"{name} claims {found.nbytes} bytes, more than the file can hold; it is damaged "
                "or was made to fill the memory"
            )
        return found

    def array(self, key: str) -> np.ndarray:
        """Returns a key's data in the machine's byte order."""
        found = self.dataset(key)
        return found[()].astype(found.dtype.newbyteorder("="), copy=False)

    def column(self, key: str) -> np.ndarray:
        """Returns one number per row, (N,)."""
        shape = self.dataset(key).shape
        if shape not in ((self.rows,), (self.rows, 1)):
            raise SourceError(f"{self.name(key)} has shape {shape}; expected one number per row")
        return self.array(key).reshape(self.rows)

    def flags(self, key: str) -> np.ndarray:
        """Returns (N,) bool."""
        values = self.column(key)
        flags = values.astype(bool)
        if not np.array_equal(flags, values):
            raise SourceError(f"{self.name(key)} has values other than 0 and 1; expected flags")
        return flags

    def timeouts(self) -> np.ndarray:
        """Returns (N,) bool, all False where the file has none."""
        return self.flags("timeouts") if "timeouts" in self else np.zeros(self.rows, dtype=bool)

    def actions(self) -> np.ndarray:
        """Returns (N, *act) floats, or (N,) int64."""
        values = self.array("actions")
        if values.dtype.kind in "iu":
            return discrete_actions(values, self.name("actions"))
        if values.ndim < 2:
            raise SourceError(
                f"{self.name('actions')} has shape {values.shape}; expected (N, dimensions) for "
                "continuous actions, integers for discrete ones"
            )
        return values

    def infos(self) -> tuple[dict[str, np.ndarray], list[str]]:
        """Returns finite per-row arrays under ``infos``, and the names of what else is there."""
        import h5py

        extras: dict[str, np.ndarray] = {}
        left_out: list[str] = []
        link = self._file.get("infos", getlink=True)
        group = self._file["infos"] if isinstance(link, h5py.HardLink) else None
        # A name that is not UTF-8 comes as bytes; as text it names nothing and is left out.
        for name in map(str, group.keys()) if isinstance(group, h5py.Group) else ():
            try:
                values = self.array(f"infos/{name}")
                require_finite(f"infos/{name}", values)
            except SourceError:
                left_out.append(name)
                continue
            if _INFO_NAME.fullmatch(name):
                extras[name] = values
            else:
                left_out.append(name)
        return extras, left_out
