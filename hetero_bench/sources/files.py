"""What the sources that read a user's files have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hetero_bench.errors import SourceError
from hetero_bench.spec import ArraySpec

MAX_DISCRETE_ACTIONS = 10_000
"""More than this is taken for a mistake: integers that are not action numbers."""


class Contents(NamedTuple):
    """What a file or folder says about its data without all of it being read.

    Attributes:
        observation: Shape and dtype of one observation.
        action: Shape and dtype of one action, with the space's extent as far as it is known.
        transitions: Rows that reading it will give.
        episodes: Episodes that reading it will give, None where only reading can tell.
    """

    observation: ArraySpec
    action: ArraySpec
    transitions: int
    episodes: int | None


def files_identity(path: str | os.PathLike[str], files: Iterable[Path]) -> str | None:
    """Returns a text that changes when a file does: resolved path, sizes and time stamps.

    Args:
        path: What the user named, a file or a folder.
        files: The files that hold its data.

    Returns:
        The text, None where there is nothing (any more).
    """
    try:
        states = [(file.name, os.stat(file)) for file in sorted(files)]
    except OSError:
        return None
    if not states:
        return None
    parts = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    return "\n".join([str(Path(path).expanduser().resolve()), *parts])


def discrete_actions(values: np.ndarray, origin: str) -> np.ndarray:
    """Returns integer actions as (N,) int64.

    Args:
        values: (N,) or (N, 1) integers.
        origin: Named in the error message.

    Raises:
        SourceError: If there are several integers per row, or one that is no action number.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise SourceError(
            f"{origin}: integer actions have shape {values.shape}; expected one per row, (N,). "
            "MultiDiscrete and MultiBinary action spaces are not supported"
        )
    if len(values) and not (values.min() >= 0 and values.max() < MAX_DISCRETE_ACTIONS):
        raise SourceError(
            f"{origin}: discrete actions reach from {values.min()} to {values.max()}; expected "
            f"numbers from 0 to {MAX_DISCRETE_ACTIONS - 1}"
        )
    return values.astype(np.int64)


def require_finite(name: str, array: np.ndarray) -> None:
    """Checks that an array has neither NaN nor infinity.

    Raises:
        SourceError: If it has; the message names array and row.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise SourceError(
            f"{name} is not finite in row {row}; drop or repair that episode in the file"
        )
