"""Reference results: every method on every dataset of a family, made by one resumable command.

    python -m baselines table --family gridworld

trains what is missing into a work folder and writes ``registry/results/<method>/<dataset>.json``,
one collection of runs per method and dataset with every episode's return. Every method runs with
the defaults that its file states; nothing is tuned per seed.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hetero_bench
from baselines.engine import Job, run_jobs
from hetero_bench.registry import registry_folder
from hetero_bench.runs import Run, RunCollection, write_run
from hetero_bench.sources.subset import OFFICIAL_DRAWS

POPULATION = 60
"""Most members trained in one process."""


@dataclass(frozen=True)
class Tier:
    """What a table consists of.

    Attributes:
        steps: Gradient steps by method.
        seeds: Seeds of every cell.
        draws: Official draws of every subset.
    """

    steps: dict[str, int]
    seeds: tuple[int, ...] = tuple(range(10))
    draws: tuple[int, ...] = tuple(range(OFFICIAL_DRAWS))


TIERS = {"gridworld": Tier(steps={"reds": 6_000, "cql": 6_000, "awr": 3_000, "bc": 2_000})}
"""By dataset family; the dearest method first, so that workers end together."""


def make_table(
    family: str,
    *,
    methods: Sequence[str] = (),
    work: Path = Path("runs/table"),
    out: Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Trains what is missing and writes the reference results.

    Args:
        family: A family with an entry in ``TIERS``.
        methods: Only these; all of the tier's by default.
        work: Folder of checkpoints and run records; the same call continues from there.
        out: Folder of the results; the registry's by default.
        overwrite: Train what is finished again.
        workers: Worker processes; as many as processors by default.
        quiet: Show no progress.

    Returns:
        The files written.

    Raises:
        ValueError: If there is no such tier, or a method is not in it.
    """
    if family not in TIERS:
        raise ValueError(f"no table for family {family!r}; there are: {', '.join(TIERS)}")
    tier = TIERS[family]
    unknown = set(methods) - set(tier.steps)
    if unknown:
        raise ValueError(
            f"{', '.join(sorted(unknown))} not in the table of {family}; it has "
            f"{', '.join(tier.steps)}"
        )
    out = registry_folder() / "results" if out is None else out
    chosen = [method for method in tier.steps if not methods or method in methods]
    jobs = [job for method in chosen for job in jobs_of(tier, method, family, work)]
    populations = run_jobs(jobs, overwrite=overwrite, workers=workers, quiet=quiet)
    cells: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in itertools.chain.from_iterable(populations):
        cells[run.method, run.dataset.id].append(run)
    return [
        _write_cell(runs, out / method / f"{dataset_id}.json")
        for (method, dataset_id), runs in cells.items()
    ]


def jobs_of(tier: Tier, method: str, family: str, work: Path) -> Iterator[Job]:
    """Yields the populations of one method: as many cells together as fit."""
    cells = [
        (spec.name, draw)
        for spec in hetero_bench.list_datasets(family=family)
        for draw in (tier.draws if spec.subset else (None,))
    ]
    size = max(POPULATION // len(tier.seeds), 1)
    for start in range(0, len(cells), size):
        yield Job(
            method=method,
            configs=None,
            datasets=tuple(cells[start : start + size]),
            seeds=tier.seeds,
            steps=tier.steps[method],
            out=work,
        )


def _write_cell(runs: Sequence[Run], path: Path) -> Path:
    """Writes one method's runs on one dataset, all draws, training curves left out."""
    ordered = sorted(runs, key=lambda run: (run.dataset.draw or 0, run.seed))
    collection = RunCollection(runs=[run.model_copy(update={"metrics": {}}) for run in ordered])
    return write_run(collection, path)
