"""Exports: a dataset in Minari's local store, or as one HDF5 file in D4RL's layout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetero_bench import atomic
from hetero_bench.progress import ProgressCallback, progress_bar
from hetero_bench.spec import ArraySpec

if TYPE_CHECKING:
    import gymnasium
    import h5py
    import minari
    from gymnasium.envs.registration import EnvSpec
    from minari.data_collector import EpisodeBuffer

    from hetero_bench.dataset import Dataset

_CHUNK_BYTES = 1 << 24


def minari_id(dataset: Dataset) -> str:
    """Returns the name a dataset gets in Minari, e.g. ``hetero_bench/gridworld-hetero-v0``.

    A draw of a subset says which, e.g. ``hetero_bench/gridworld-hetero-size-5000-draw-3-v0``.
    """
    spec = dataset.spec
    size = "" if dataset.size is None else f"-size-{dataset.size}"
    draw = "" if dataset.draw is None else f"-draw-{dataset.draw}"
    return f"hetero_bench/{spec.name}{size}{draw}-v{spec.version}"


def to_minari(dataset: Dataset, dataset_id: str | None = None) -> minari.MinariDataset:
    """Writes a dataset to Minari's local store, whole or not at all.

    Arrays are stored bit for bit, images uncompressed. Extras become ``infos`` with one entry per
    step. Environment, reference scores (``ref_min_score``, ``ref_max_score``), licence, citation
    and provenance are in the metadata.

    Args:
        dataset: The dataset.
        dataset_id: Name in Minari, ``namespace/name-vN``; see :func:`minari_id`.

    Returns:
        The dataset, opened by Minari.

    Raises:
        ValueError: If the name is not one that Minari takes.
        FileExistsError: If Minari has a dataset of that name already.
    """
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.dataset.minari_storage import MinariStorage
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage import get_dataset_path

    dataset_id = minari_id(dataset) if dataset_id is None else dataset_id
    try:
        namespace, _, _ = parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{dataset_id!r} is no Minari id; expected namespace/name-vN, for example "
            f"{minari_id(dataset)}"
        ) from error
    folder = get_dataset_path(dataset_id)
    if folder.exists():
        raise FileExistsError(
            f"Minari has {dataset_id} already; delete it with `minari delete {dataset_id}` or "
            "give another dataset_id"
        )
    observation_space, action_space, env_spec = _spaces(dataset)
    # Namespaces are made before the dataset, so that its folder appears last.
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    with (
        atomic.new_folder(folder) as temporary,
        progress_bar(f"{dataset_id}: writing episodes") as progress,
    ):
        storage = MinariStorage.new(
            temporary / "data",
            observation_space=observation_space,
            action_space=action_space,
            env_spec=env_spec,
            jpeg_encoding=False,
        )
        storage.update_metadata(_minari_metadata(dataset, dataset_id, minari.__version__))
        storage.update_episodes(_buffers(dataset, progress))
    return minari.load_dataset(dataset_id)


def to_d4rl(dataset: Dataset, path: str | os.PathLike[str]) -> Path:
    """Writes one HDF5 file in D4RL's layout, whole or not at all.

    ``terminals``, ``timeouts`` and ``next_observations`` are those of the dataset: the true
    successor in every row. Extras are under ``infos/``, facts about the dataset under
    ``metadata/``.

    Args:
        dataset: The dataset.
        path: The file, ending in ``.hdf5`` or ``.h5``; its folder is made.

    Returns:
        The path written.

    Raises:
        FileExistsError: If there is something at ``path`` already.
        ValueError: If the suffix is another.
    """
    import h5py

    from hetero_bench.sources.d4rl import SUFFIXES

    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if path.exists():
        raise FileExistsError(f"{path} exists already; delete it or choose another name")
    arrays = dataset.arrays
    columns = {
        "observations": arrays.observations,
        "actions": arrays.actions,
        "rewards": arrays.rewards,
        "terminals": arrays.terminations,
        "timeouts": arrays.truncations,
        "next_observations": arrays.observations,
        **{f"infos/{name}": array for name, array in arrays.extras.items()},
    }
    with (
        atomic.new_file(path) as temporary,
        h5py.File(temporary, "w") as file,
        progress_bar(f"writing {path.name}") as progress,
    ):
        targets = {
            key: file.create_dataset(
                key, array.shape, array.dtype, chunks=True, compression="gzip", compression_opts=1
            )
            for key, array in columns.items()
        }
        _write_rows(targets, columns, dataset, progress)
        for key, value in _facts(dataset).items():
            file[f"metadata/{key}"] = value if isinstance(value, str) else json.dumps(value)
    return path


def _write_rows(
    targets: dict[str, h5py.Dataset],
    columns: dict[str, np.ndarray],
    dataset: Dataset,
    progress: ProgressCallback,
) -> None:
    """Fills the columns chunk by chunk, successors put together on the way."""
    arrays = dataset.arrays
    rows, last_rows = arrays.num_transitions, arrays.episode_starts()[1:] - 1
    row_bytes = sum(array.nbytes for array in columns.values()) // rows
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        for key, array in columns.items():
            if key == "next_observations":
                block = np.empty_like(array[start:stop])
                shifted = array[start + 1 : stop + 1]
                block[: len(shifted)] = shifted
                ending = slice(*np.searchsorted(last_rows, [start, stop]))
                block[last_rows[ending] - start] = arrays.final_observations[ending]
            else:
                block = array[start:stop]
            targets[key][start:stop] = block
        progress(stop, rows)


def _buffers(dataset: Dataset, progress: ProgressCallback) -> Iterator[EpisodeBuffer]:
    from minari.data_collector import EpisodeBuffer

    for number, episode in enumerate(dataset.episodes()):
        yield EpisodeBuffer(
            id=number,
            observations=episode.observations,  # pyright: ignore[reportArgumentType]
            actions=episode.actions,  # pyright: ignore[reportArgumentType]
            rewards=episode.rewards,  # pyright: ignore[reportArgumentType]
            terminations=episode.terminations,  # pyright: ignore[reportArgumentType]
            truncations=episode.truncations,  # pyright: ignore[reportArgumentType]
            infos=episode.extras or None,
        )
        progress(number + 1, dataset.arrays.num_episodes)


def _spaces(
    dataset: Dataset,
) -> tuple[gymnasium.Space, gymnasium.Space, EnvSpec | None]:
    """Returns observation space, action space and, where there is an environment, its spec."""
    observation_space, action_space, env_spec = None, None, None
    if dataset.spec.environment is not None:
        env = dataset.make_env()
        observation_space, action_space = env.observation_space, env.action_space
        env_spec = env.spec
        env.close()
    return (
        _space(dataset.arrays.observations, dataset.spec.observation, observation_space),
        _space(dataset.arrays.actions, dataset.spec.action, action_space),
        env_spec,
    )


def _space(
    array: np.ndarray, spec: ArraySpec | None, own: gymnasium.Space | None
) -> gymnasium.Space:
    """Returns the environment's space where the data is of it, else one that holds the data."""
    from gymnasium.spaces import Box, Discrete

    shape, dtype = array.shape[1:], array.dtype
    if own is not None and own.shape == shape and own.dtype == dtype:
        return own
    if dtype.kind in "iu" and shape == ():
        known = None if spec is None else spec.n
        return Discrete(known or int(array.max()) + 1)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return Box(limits.min, limits.max, shape, dtype.type)
    low, high = (None, None) if spec is None else (spec.low, spec.high)
    return Box(-np.inf if low is None else low, np.inf if high is None else high, shape, dtype.type)


def _minari_metadata(dataset: Dataset, dataset_id: str, version: str) -> dict[str, Any]:
    spec = dataset.spec
    metadata: dict[str, Any] = {
        "dataset_id": dataset_id,
        "minari_version": version,
        "description": spec.summary,
        "author": {"hetero_bench"},
        "algorithm_name": spec.recipe.name if spec.recipe else "unknown",
        **_facts(dataset),
    }
    if spec.reference is not None:
        metadata["ref_min_score"] = spec.reference.random
        metadata["ref_max_score"] = spec.reference.expert
    if spec.environment is not None and spec.environment.id.startswith("hetero_bench/"):
        metadata["requirements"] = ["hetero-bench"]
    return metadata


def _facts(dataset: Dataset) -> dict[str, Any]:
    """Returns what every export says about where its data is from, as JSON values."""
    spec = dataset.spec
    return {
        "hetero_bench_id": dataset.id,
        "size": dataset.size,
        "draw": dataset.draw,
        "licence": spec.licence,
        "citation": spec.citation,
        "environment": spec.environment.model_dump() if spec.environment else None,
        "reference": spec.reference.model_dump() if spec.reference else None,
        "provenance": dataset.provenance.model_dump(),
        "notes": dataset.arrays.notes,
    }
