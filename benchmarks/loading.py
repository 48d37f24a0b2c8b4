"""Opening a cached dataset of a million transitions against reading its Minari export.

    python benchmarks/loading.py

Makes a synthetic dataset (29-d observations, 8-d actions, episodes of 1,000 steps) in a temporary
folder, exports it to Minari, registers that export and loads it through a cache of its own. Then,
in one process and with warm file caches, it times opening the cached dataset, opening it and
reading every byte, and reading the export into the same arrays with Minari alone. Targets: opening
takes under 0.1 s, and is at least 10 times faster than reading the export.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import minari
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from hetero_bench.arrays import EpisodeArrays, dataset_digest, digest_arrays
from hetero_bench.spec import DatasetSpec, MinariSource, RewardSpec

NAME = "synthetic"


def synthetic(transitions: int, episode_steps: int) -> EpisodeArrays:
    rng = np.random.default_rng(0)
    episodes = transitions // episode_steps
    rows = episodes * episode_steps
    truncations = np.zeros(rows, dtype=bool)
    truncations[episode_steps - 1 :: episode_steps] = True
    return EpisodeArrays(
        observations=rng.standard_normal((rows, 29), dtype=np.float32),
        actions=rng.uniform(-1, 1, (rows, 8)).astype(np.float32),
        rewards=rng.standard_normal(rows, dtype=np.float32),
        terminations=np.zeros(rows, dtype=bool),
        truncations=truncations,
        episode_ids=np.repeat(np.arange(episodes, dtype=np.int32), episode_steps),
        final_observations=rng.standard_normal((episodes, 29), dtype=np.float32),
    )


def in_memory(arrays: EpisodeArrays) -> hetero_bench.Dataset:
    spec = DatasetSpec(
        name=NAME,
        version=0,
        family="benchmark",
        summary="Random numbers.",
        sources=(MinariSource(path="none"),),
        licence="none",
        citation="",
        rewards=RewardSpec(semantics="random numbers"),
    )
    provenance = hetero_bench.Provenance(
        status="unpinned",
        source="minari",
        digest=dataset_digest(digest_arrays(arrays)),
        made_at="now",
    )
    return hetero_bench.Dataset(spec=spec, arrays=arrays, provenance=provenance)


def read_export(dataset_id: str) -> dict[str, np.ndarray]:
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    lists: dict[str, list[np.ndarray]] = {name: [] for name in names}
    finals = []
    for episode in minari.load_dataset(dataset_id).iterate_episodes():
        lists["observations"].append(episode.observations[:-1])
        finals.append(episode.observations[-1])
        for name in names[1:]:
            lists[name].append(getattr(episode, name))
    return {
        "final_observations": np.stack(finals),
        **{name: np.concatenate(parts) for name, parts in lists.items()},
    }


def touch(dataset: hetero_bench.Dataset) -> None:
    for _, array in dataset.arrays.named():
        array.sum()


def seconds(function: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def main(transitions: int = 1_000_000, episode_steps: int = 1_000, repeats: int = 5) -> None:
    """Measures and prints a table.

    Args:
        transitions: Rows of the synthetic dataset.
        episode_steps: Steps of an episode.
        repeats: Times that everything is measured; the median counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = str(Path(folder) / "minari")
        os.environ["HETERO_BENCH_CACHE"] = str(Path(folder) / "cache")
        arrays = synthetic(transitions, episode_steps)
        export = in_memory(arrays).minari(f"{NAME}-v0")
        hetero_bench.register(Path(export.spec.data_path).parent)

        first = seconds(lambda: hetero_bench.load(NAME), 1)
        opening = seconds(lambda: hetero_bench.load(NAME), repeats)
        reading = seconds(lambda: touch(hetero_bench.load(NAME)), repeats)
        minari_reading = seconds(lambda: read_export(export.id), repeats)

        loaded = hetero_bench.load(NAME).arrays
        for name, array in read_export(export.id).items():
            np.testing.assert_array_equal(array, getattr(loaded, name), err_msg=name)

    console = Console()
    table = Table(title=f"{arrays.num_transitions:,} transitions, {arrays.num_episodes:,} episodes")
    for column in ("", "median, s", "fastest, s", "slowest, s"):
        table.add_column(column, justify="right" if column else "left")
    for label, times in (
        ("first load: import, digests, cache", first),
        ("open from the cache", opening),
        ("open and sum every array", reading),
        ("read the Minari export into arrays", minari_reading),
    ):
        values = (statistics.median(times), min(times), max(times))
        table.add_row(label, *(f"{value:.4f}" for value in values))
    console.print(table)
    opened, summed, read = map(statistics.median, (opening, reading, minari_reading))
    console.print(
        f"opening takes {opened:.4f} s (target: 0.1) and is {read / opened:.0f} times faster than "
        f"reading the export (target: 10); with every array summed, {read / summed:.0f} times"
    )


if __name__ == "__main__":
    tyro.cli(main)
