"""Data from one HDF5 file in D4RL's layout.

Keys: ``observations`` (N, *obs), ``actions`` (N, *act), ``rewards`` (N,), ``terminals`` (N,);
optional ``timeouts`` (N,), ``next_observations`` (N, *obs) and arrays under ``infos/``. An episode
ends at a terminal, at a timeout, and at the file's last row.

Without ``next_observations``, what followed an episode's last row was not recorded:

- a row cut by a timeout (or by the file's end) is dropped. Its own observation is the true
  successor of the row before, which is marked truncated in its place;
- a terminal row is kept. Bootstrapping stops there, so its successor is never used; its own
  observation stands in for it.

With ``next_observations`` no row is dropped, and where a successor is not the next row's
observation although no end is flagged, the trajectory is broken there: the row is marked truncated.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.errors import SourceError
from hetero_bench.sources import Answer, Request
from hetero_bench.sources.d4rl_file import open_file
from hetero_bench.sources.files import (
    Contents,
    files_identity,
    require_finite,
)
from hetero_bench.spec import ArraySpec, D4RLSource, DatasetSpec

SUFFIXES = (".hdf5", ".h5")
_CHUNK_BYTES = 1 << 25


def simulated(spec: DatasetSpec) -> bool:
    """A file has the same bits on every CPU."""
    return False


def identity(spec: DatasetSpec, source: D4RLSource) -> str | None:
    """Returns the file's path, size and time stamp; None when it is gone."""
    if source.path is None:
        return source.url
    return files_identity(source.path, [Path(source.path).expanduser()])


def fetch(spec: DatasetSpec, source: D4RLSource, request: Request) -> Answer:
    """Reads the file.

    Raises:
        FileNotFoundError: If it is gone.
        SourceError: If it is not in D4RL's layout, or has to be downloaded first.
    """
    if source.path is None:
        raise SourceError(
            f"this release does not download {source.url}; download it and give its place to "
            "hetero_bench.register(path)"
        )
    return Answer(read(source.path))


def read(path: str | os.PathLike[str]) -> EpisodeArrays:
    """Reads a file in D4RL's layout into the flat episode layout.

    Args:
        path: The HDF5 file.

    Returns:
        The arrays, extras from ``infos/``; the notes count rows in the file and rows dropped.

    Raises:
        FileNotFoundError: If there is no such file.
        SourceError: If a key is missing, has a wrong shape or dtype, or is not finite.
    """
    with open_file(path) as file:
        observations = file.array("observations")
        successors = file.array("next_observations") if "next_observations" in file else None
        if successors is not None and successors.shape != observations.shape:
            raise SourceError(
                f"{path}: next_observations has shape {successors.shape}; expected "
                f"{observations.shape} as observations"
            )
        actions = file.actions()
        for key, array in (
            ("observations", observations),
            ("next_observations", successors),
            ("actions", actions),
        ):
            if array is not None:
                require_finite(file.name(key), array)
        rewards = file.column("rewards").astype(np.float32)
        require_finite(file.name("rewards"), rewards)
        terminals, timeouts = file.flags("terminals"), file.timeouts()
        extras, left_out = file.infos()
    flat = EpisodeArrays(
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminations=terminals,
        truncations=timeouts,
        episode_ids=np.empty(0, dtype=np.int32),
        final_observations=observations[:0],
        extras=extras,
        notes={"rows_in_file": len(observations), "dropped_rows": 0},
    )
    if left_out:
        flat.notes["infos_left_out"] = left_out
    if successors is None:
        return _without_successors(flat, path)
    return _with_successors(flat, successors.astype(observations.dtype, copy=False))


def inspect(path: str | os.PathLike[str]) -> Contents:
    """Tells what :func:`read` will give, from the file's header, actions and flags.

    Raises:
        FileNotFoundError: If there is no such file.
        SourceError: If a key is missing or has a wrong shape or dtype.
    """
    with open_file(path) as file:
        observations = file.dataset("observations")
        actions = file.actions()
        n = int(actions.max()) + 1 if actions.dtype.kind in "iu" else None
        transitions, episodes = file.rows, None
        if "next_observations" not in file:
            keep, ends = _keep_and_ends(file.flags("terminals"), file.timeouts())
            transitions, episodes = int(keep.sum()), int(ends[keep].sum())
            _require_rows(transitions, path)
        return Contents(
            observation=ArraySpec(shape=observations.shape[1:], dtype=observations.dtype.name),
            action=ArraySpec(shape=actions.shape[1:], dtype=actions.dtype.name, n=n),
            transitions=transitions,
            episodes=episodes,
        )


def _with_successors(flat: EpisodeArrays, successors: np.ndarray) -> EpisodeArrays:
    terminations, ends = flat.terminations, flat.terminations | flat.truncations
    unflagged = _breaks(flat.observations, successors) & ~ends
    if unflagged.any():
        flat.notes["unflagged_ends"] = int(unflagged.sum())
    ends |= unflagged
    ends[-1] = True
    return EpisodeArrays(
        observations=flat.observations,
        actions=flat.actions,
        rewards=flat.rewards,
        terminations=terminations,
        truncations=flat.truncations | (ends & ~terminations),
        episode_ids=_episode_ids(ends),
        final_observations=successors[ends],
        extras=flat.extras,
        notes=flat.notes,
    )


def _without_successors(flat: EpisodeArrays, path: str | os.PathLike[str]) -> EpisodeArrays:
    terminations, timeouts = flat.terminations, flat.truncations
    keep, ends = _keep_and_ends(terminations, timeouts)
    _require_rows(int(keep.sum()), path)
    # A kept end is a terminal, or the row before one that was dropped, whose observation follows.
    last = np.flatnonzero(ends & keep)
    final_observations = flat.observations[last + ~terminations[last]]
    truncations = (timeouts | (ends & ~terminations))[keep]
    dropped = flat.observations.shape[0] - len(truncations)
    flat.notes["dropped_rows"] = dropped
    vanished = dropped - int((ends & keep & ~terminations).sum())
    if vanished:
        flat.notes["dropped_episodes"] = vanished
    if terminations.any():
        flat.notes["final_observations_of_terminal_rows"] = (
            "not recorded; the terminal row's own observation stands in and is never bootstrapped"
        )
    return EpisodeArrays(
        observations=flat.observations[keep],
        actions=flat.actions[keep],
        rewards=flat.rewards[keep],
        terminations=terminations[keep],
        truncations=truncations,
        episode_ids=_episode_ids(ends[keep]),
        final_observations=final_observations,
        extras={name: array[keep] for name, array in flat.extras.items()},
        notes=flat.notes,
    )


def _keep_and_ends(terminals: np.ndarray, timeouts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N,) rows whose successor is known or never used, and the ends of what is left."""
    ends = terminals | timeouts
    ends[-1] = True
    keep = terminals | ~ends
    before_dropped = np.append(~keep[1:], False)
    return keep, terminals | (before_dropped & ~ends)


def _breaks(observations: np.ndarray, successors: np.ndarray) -> np.ndarray:
    """Returns (N,) where a row's successor is not the next row's observation; last row: False."""
    rows, width = len(observations), observations[0].size
    breaks = np.zeros(rows, dtype=bool)
    step = max(1, _CHUNK_BYTES // (width * observations.itemsize))
    for start in range(0, rows - 1, step):
        stop = min(start + step, rows - 1)
        differs = successors[start:stop] != observations[start + 1 : stop + 1]
        breaks[start + np.flatnonzero(differs) // width] = True
    return breaks


def _episode_ids(ends: np.ndarray) -> np.ndarray:
    ids = np.zeros(len(ends), dtype=np.int32)
    np.cumsum(ends[:-1], out=ids[1:])
    return ids


def _require_rows(rows: int, path: str | os.PathLike[str]) -> None:
    if rows == 0:
        raise SourceError(
            f"{path}: no row has a known successor; without next_observations an episode needs "
            "at least two rows, or a terminal one"
        )
