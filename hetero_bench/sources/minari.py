"""Data from a Minari dataset in a local folder, the one that holds ``data/``.

Box and Discrete spaces only. Minari records every episode's true final observation, so no row is
dropped. An episode whose last step carries no flag is marked truncated; a flag inside an episode
ends it there, and the observation recorded next is its final one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.errors import SourceError
from hetero_bench.progress import ProgressCallback
from hetero_bench.sources import Answer, Request
from hetero_bench.sources.files import (
    Contents,
    discrete_actions,
    files_identity,
    require_finite,
)
from hetero_bench.spec import ArraySpec, DatasetSpec, MinariSource

if TYPE_CHECKING:
    import gymnasium
    import minari

METADATA = "metadata.json"


def simulated(spec: DatasetSpec) -> bool:
    """A file has the same bits on every CPU."""
    return False


def identity(spec: DatasetSpec, source: MinariSource) -> str | None:
    """Returns path, sizes and time stamps of the data files; None when they are gone."""
    data = Path(source.path).expanduser() / "data"
    return files_identity(source.path, [file for file in data.rglob("*") if file.is_file()])


def fetch(spec: DatasetSpec, source: MinariSource, request: Request) -> Answer:
    """Reads the folder.

    Raises:
        FileNotFoundError: If it is gone.
        SourceError: If it is damaged, or has other spaces.
    """
    return Answer(read(source.path, request.progress))


def read(path: str | os.PathLike[str], progress: ProgressCallback | None = None) -> EpisodeArrays:
    """Reads a Minari dataset into the flat episode layout.

    Args:
        path: The folder that holds ``data/``.
        progress: Called with (episodes read, episodes).

    Returns:
        The arrays; ``infos`` with one number or array per step are extras.

    Raises:
        FileNotFoundError: If there is no such folder.
        SourceError: If it is damaged, or its spaces are neither Box nor Discrete.
    """
    dataset = open_folder(path)
    array_spec(dataset.observation_space, f"{path}: observation space")
    array_spec(dataset.action_space, f"{path}: action space")
    steps = _Steps(path)
    episodes = iter(dataset.iterate_episodes())
    for number in range(dataset.total_episodes):
        with _reading(path, number):
            steps.add(number, next(episodes))
        if progress is not None:
            progress(number + 1, dataset.total_episodes)
    if steps.rows != dataset.total_steps:
        raise SourceError(
            f"{path}: the episodes have {steps.rows} steps; its metadata states "
            f"{dataset.total_steps}. The dataset is damaged or was not written to its end"
        )
    return steps.join()


def inspect(path: str | os.PathLike[str]) -> Contents:
    """Tells what :func:`read` will give, from the dataset's metadata and first episode.

    Raises:
        FileNotFoundError: If there is no such folder.
        SourceError: If it is damaged, or its spaces are neither Box nor Discrete.
    """
    dataset = open_folder(path)
    observation = array_spec(dataset.observation_space, f"{path}: observation space")
    action = array_spec(dataset.action_space, f"{path}: action space")
    steps = _Steps(path)
    with _reading(path, 0):
        steps.add(0, dataset[0])
    first = steps.join()
    return Contents(
        # Minari does not ask that what is stored has its space's dtype.
        observation=observation.model_copy(update=_layout(first.observations)),
        action=action.model_copy(update=_layout(first.actions)),
        transitions=dataset.total_steps,
        episodes=dataset.total_episodes,
    )


def _layout(array: np.ndarray) -> dict[str, Any]:
    return {"shape": array.shape[1:], "dtype": array.dtype.name}


@contextmanager
def _reading(path: str | os.PathLike[str], episode: int) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, AssertionError) as error:
        raise SourceError(f"{path}: episode {episode} is not readable: {error!r}") from error


def open_folder(path: str | os.PathLike[str]) -> minari.MinariDataset:
    """Opens a Minari dataset by its folder.

    Raises:
        FileNotFoundError: If there is no ``data/metadata.json`` in it.
        SourceError: If Minari cannot read it, or it is empty.
    """
    import minari

    data = Path(path).expanduser() / "data"
    if not (data / METADATA).is_file():
        raise FileNotFoundError(f"{path} is no Minari dataset; expected {data / METADATA}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = minari.MinariDataset(data)
        empty = dataset.total_episodes == 0 or dataset.total_steps == 0
    except Exception as error:
        # Minari raises whatever a malformed metadata.json leads it to.
        raise SourceError(f"{path}: Minari cannot read it: {error!r}") from error
    if empty:
        raise SourceError(f"{path}: the dataset has no steps; expected at least one")
    return dataset


def array_spec(space: gymnasium.Space, name: str) -> ArraySpec:
    """Returns what a space says about one of its elements.

    Args:
        space: ``Box`` or ``Discrete``.
        name: Named in the error message.

    Raises:
        SourceError: If it is another space.
    """
    from gymnasium.spaces import Box, Discrete

    if isinstance(space, Discrete):
        return ArraySpec(shape=(), dtype="int64", n=int(space.start + space.n))
    if not isinstance(space, Box):
        raise SourceError(f"{name} is {space}; expected Box or Discrete")
    low, high = float(np.min(space.low)), float(np.max(space.high))
    uniform = np.all(space.low == low) and np.all(space.high == high)
    bounded = bool(uniform and np.isfinite([low, high]).all())
    return ArraySpec(
        shape=space.shape,
        dtype=np.dtype(space.dtype).name,
        low=low if bounded else None,
        high=high if bounded else None,
    )


class _Steps:
    """Collects episodes, then joins them."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.rows = 0
        self.observations: list[np.ndarray] = []
        self.final_observations: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[np.ndarray] = []
        self.terminations: list[np.ndarray] = []
        self.truncations: list[np.ndarray] = []
        self.infos: list[dict[str, np.ndarray]] = []
        self.info_names: set[str] = set()
        self.notes = {"empty_episodes": 0, "unflagged_ends": 0, "ends_inside_episodes": 0}

    def add(self, number: int, episode: minari.EpisodeData) -> None:
        """Checks an episode and cuts it where a step is flagged."""
        where = f"{self.path}: episode {number}"
        rewards = _column(np.asarray(episode.rewards), "rewards", where)
        steps = len(rewards)
        observations, actions = np.asarray(episode.observations), np.asarray(episode.actions)
        terminations = _flags(np.asarray(episode.terminations), "terminations", where)
        truncations = _flags(np.asarray(episode.truncations), "truncations", where)
        for name, array, expected in (
            ("observations", observations, steps + 1),
            ("actions", actions, steps),
            ("terminations", terminations, steps),
            ("truncations", truncations, steps),
        ):
            if array.dtype.kind not in "fiub" or array.ndim == 0 or len(array) != expected:
                raise SourceError(
                    f"{where}: {name} have shape {array.shape} and dtype {array.dtype}; expected "
                    f"numbers, {expected} rows, as there are {steps} rewards"
                )
        if steps == 0:
            self.notes["empty_episodes"] += 1
            return
        if self.observations:
            _require_alike(observations, self.observations[0], f"{where}: observations")
            _require_alike(actions, self.actions[0], f"{where}: actions")
        ends = terminations | truncations
        self.notes["ends_inside_episodes"] += int(ends[:-1].sum())
        if not ends[-1]:
            self.notes["unflagged_ends"] += 1
            truncations[-1] = ends[-1] = True
        self.rows += steps
        self.observations.append(observations[:-1])
        self.final_observations.append(observations[1:][ends])
        self.actions.append(actions)
        self.rewards.append(rewards.astype(np.float32))
        self.terminations.append(terminations)
        self.truncations.append(truncations)
        self.infos.append(_per_step(episode.infos or {}, steps))
        self.info_names |= set(episode.infos or {})

    def join(self) -> EpisodeArrays:
        """Returns the arrays of all episodes."""
        actions = np.concatenate(self.actions)
        if actions.dtype.kind in "iu":
            actions = discrete_actions(actions, f"{self.path}: actions")
        truncations = np.concatenate(self.truncations)
        terminations = np.concatenate(self.terminations)
        ends = terminations | truncations
        extras = _join_infos(self.infos)
        notes: dict[str, Any] = {name: count for name, count in self.notes.items() if count}
        left_out = sorted(self.info_names - set(extras))
        if left_out:
            notes["infos_left_out"] = left_out
        arrays = EpisodeArrays(
            observations=np.concatenate(self.observations),
            actions=actions,
            rewards=np.concatenate(self.rewards),
            terminations=terminations,
            truncations=truncations,
            episode_ids=np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int32),
            final_observations=np.concatenate(self.final_observations),
            extras=extras,
            notes=notes,
        )
        for name, array in arrays.named():
            require_finite(f"{self.path}: {name}", array)
        return arrays


def _column(array: np.ndarray, name: str, where: str) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.ndim != 1:
        raise SourceError(
            f"{where}: {name} have shape {array.shape} and dtype {array.dtype}; expected one "
            "number per step, (T,)"
        )
    return array


def _flags(array: np.ndarray, name: str, where: str) -> np.ndarray:
    flags = _column(array, name, where).astype(bool)
    if np.any(flags != array):
        raise SourceError(f"{where}: {name} have values other than 0 and 1; expected flags")
    return flags


def _require_alike(array: np.ndarray, first: np.ndarray, name: str) -> None:
    if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
        raise SourceError(
            f"{name} have shape {array.shape[1:]} and dtype {array.dtype}; those of the episodes "
            f"before have {first.shape[1:]} and {first.dtype}"
        )


def _per_step(infos: dict[str, Any], steps: int) -> dict[str, np.ndarray]:
    """Picks the infos with one number or array per step; Minari's own have one for reset too."""
    return {
        name: values
        for name, values in infos.items()
        if isinstance(values, np.ndarray)
        and values.dtype.kind in "fiub"
        and values.ndim > 0
        and len(values) == steps
        and name.isidentifier()
    }


def _join_infos(infos: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the infos that every episode has, with one shape and dtype, and finite."""
    extras = {}
    for name, first in infos[0].items():
        arrays = [episode[name] for episode in infos if name in episode]
        alike = {(array.shape[1:], array.dtype) for array in arrays}
        if len(arrays) == len(infos) and len(alike) == 1:
            joined = np.concatenate(arrays)
            if first.dtype.kind != "f" or np.isfinite(joined).all():
                extras[name] = joined
    return extras
