"""Reference results: methods on datasets as a tier states them, made by one resumable command.

    python -m baselines table --tier gridworld

trains what is missing into a work folder and writes
``registry/results/<tier>/<method>/<dataset>.json``, one collection of runs per method and dataset
with every episode's return. A tier has a folder of its own because results of other budgets are
other results: what lies in one folder may be compared, as ``hetero-bench grade`` does.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import hetero_bench
from baselines.engine import Job, list_methods, method_forms, run_jobs
from baselines.engine.method import Method, pick_form
from baselines.engine.plan import config_values
from baselines.engine.precision import Precision, default_precision
from baselines.engine.preparation import ActionKind
from baselines.tiers import TIERS, Tier
from hetero_bench import DatasetSpec
from hetero_bench.errors import UnknownDatasetError
from hetero_bench.registry import registry_folder
from hetero_bench.runs import Run, RunCollection, read_run_file, write_run
from hetero_bench.spec import WHOLE, draw_artefact

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """One method on one dataset: a file of results.

    Attributes:
        method: The method.
        spec: The dataset.
        configs: The hyperparameters, of every setting.
        changes: Fields of the configs that differ from the method's defaults for the dataset.
        settings: Further such changes, one for each config.
        steps: Gradient steps.
        seeds: Seeds.
        draws: Official draws; None for a whole dataset.
    """

    method: Method
    spec: DatasetSpec
    configs: tuple[Any, ...]
    changes: Mapping[str, Any]
    settings: tuple[Mapping[str, Any], ...]
    steps: int
    seeds: tuple[int, ...]
    draws: tuple[int | None, ...]

    @property
    def members(self) -> int:
        """Runs that it consists of."""
        return len(self.configs) * len(self.seeds) * len(self.draws)

    @property
    def datasets(self) -> list[tuple[str, int | None]]:
        """Names and draws of what its runs are trained on."""
        return [(self.spec.name, draw) for draw in self.draws]

    @property
    def together_with(self) -> tuple[Any, ...]:
        """What is equal for cells that one population may train.

        Members may differ in hyperparameters that are numbers of some scale; of others it is not
        known here, so that cells which differ in them are trained apart.
        """
        spec = self.spec
        fixed = [
            {name: value for name, value in values.items() if not isinstance(value, float)}
            for values in map(config_values, self.configs)
        ]
        changes = (self.changes, self.settings)
        parts = (spec.family, spec.observation, spec.action, *changes, fixed)
        return self.method.name, self.method.actions, self.steps, self.seeds, *map(str, parts)

    def path(self, out: Path) -> Path:
        """Returns where its results lie."""
        return out / self.method.name / f"{self.spec.id}.json"

    def is_in(self, path: Path, precision: Precision) -> bool:
        """Whether a file holds all of its runs, and only these, on the data of this release."""
        runs = read_run_file(path)
        found = [
            (run.method, run.dataset.id, run.dataset.draw, run.seed, run.budget.steps, run.config)
            for run in runs
        ]
        expected = [
            (self.method.name, self.spec.id, draw, seed, self.steps, config_values(config))
            for draw in self.draws
            for config in self.configs
            for seed in self.seeds
        ]
        return found == expected and all(self._is_current(run, precision) for run in runs)

    def _is_current(self, run: Run, precision: Precision) -> bool:
        """Whether a run has this release's data and reference returns, and a precision."""
        reference, draw = self.spec.reference, run.dataset.draw
        pin = self.spec.sha256.get(WHOLE if draw is None else draw_artefact(draw))
        verified = run.dataset.provenance.get("status") == "verified"
        return (
            run.budget.precision in (precision, None)
            and reference is not None
            and (run.reference.random, run.reference.expert) == (reference.random, reference.expert)
            and (run.dataset.digest == pin or not verified)
        )

    def order(self, run: Run) -> tuple[int, int, int]:
        """Returns a run's place in the file: by draw, setting and seed."""
        values = [config_values(config) for config in self.configs]
        return run.dataset.draw or 0, values.index(run.config), run.seed


def make_table(
    tier: Tier | str,
    *,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    work: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Trains what is missing and writes the results.

    Args:
        tier: A tier or its name.
        methods: Only these; all of the tier's by default.
        datasets: Only these; all of the tier's by default.
        work: Folder of checkpoints and run records; the same call continues from there. By
            default runs/table/TIER.
        out: Folder of the results; the registry's for the tier by default.
        overwrite: Train again what is finished, and replace other results.
        workers: Worker processes; by default one per processor on a CPU, one on a GPU.
        device: Where to train; the tier's by default.
        precision: Of matrix products; the tier's by default.
        quiet: Show no progress.

    Returns:
        The files of the table, those that were complete before included.

    Raises:
        ValueError: If there is no such tier, a method or dataset is not in it, or no method of
            those chosen has a cell on a dataset of those chosen.
        UnknownDatasetError: If a dataset of the tier does not exist.
        FileExistsError: If a file holds other results than the tier's.
    """
    if isinstance(tier, str):
        if tier not in TIERS:
            raise ValueError(f"no tier {tier!r}; there are: {', '.join(TIERS)}")
        work = Path("runs/table") / tier if work is None else work
        out = registry_folder() / "results" / tier if out is None else out
        tier = TIERS[tier]
    if work is None or out is None:
        raise ValueError("a tier without a name has no folders of its own; give `work` and `out`")
    cells = list(cells_of(tier, methods, datasets))
    if not cells:
        raise ValueError("the tier has none of these methods on any of these datasets")
    device = tier.device if device is None else device
    precision = precision or tier.precision or default_precision(device)
    missing = cells if overwrite else list(_missing(cells, out, precision))
    jobs = jobs_of(
        missing,
        tier.population,
        out=work,
        device=device,
        precision=precision,
    )
    if workers is None and device != "cpu":
        workers = 1
    cell_of = {(cell.method.name, cell.spec.id): cell for cell in missing}
    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)

    def keep(finished: Sequence[Run]) -> None:
        for name, of_cell in itertools.groupby(finished, lambda run: (run.method, run.dataset.id)):
            cell = cell_of[name]
            runs[name].extend(of_cell)
            if len(runs[name]) == cell.members:
                _write_cell(sorted(runs[name], key=cell.order), cell.path(out))

    run_jobs(list(jobs), overwrite=overwrite, workers=workers, quiet=quiet, on_finished=keep)
    return [cell.path(out) for cell in cells]


def cells_of(
    tier: Tier, methods: Sequence[str] = (), datasets: Sequence[str] = ()
) -> Iterator[Cell]:
    """Yields a tier's cells, or those of some methods and datasets.

    Raises:
        ValueError: If a method or dataset that is asked for is not in the tier.
        UnknownDatasetError: If a dataset of the tier does not exist.
    """
    known = list_methods()
    wanted = [
        (each, _methods(each.methods, known), _datasets(each.datasets, datasets))
        for each in tier.cells
    ]
    _check_chosen("methods", methods, [name for _, names, _ in wanted for name in names])
    _check_chosen("datasets", datasets, [name for _, _, names in wanted for name in names])
    for each, its_methods, its_datasets in wanted:
        for name in its_methods:
            if methods and name not in methods:
                continue
            forms = method_forms(name)
            for dataset in its_datasets:
                if datasets and dataset not in datasets:
                    continue
                spec = hetero_bench.get_spec(dataset)
                kind = _kind(spec)
                if kind not in forms and name not in each.methods:
                    continue  # a pattern means what there is
                method = pick_form(forms, kind)
                default = dataclasses.replace(method.config_for(spec), **each.changes)
                yield Cell(
                    method=method,
                    spec=spec,
                    configs=tuple(dataclasses.replace(default, **one) for one in each.settings),
                    changes=each.changes,
                    settings=each.settings,
                    steps=each.steps,
                    seeds=each.seeds,
                    draws=each.draws if spec.subset else (None,),
                )


def _methods(patterns: Iterable[str], known: Sequence[Method]) -> list[str]:
    """Returns the names of methods that patterns stand for."""
    names = dict.fromkeys(method.name for method in known)
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in names if fnmatchcase(name, pattern)]
        found |= dict.fromkeys(matching if "*" in pattern else [pattern])
    return list(found)


def _datasets(patterns: Iterable[str], chosen: Sequence[str]) -> list[str]:
    """Returns the names of datasets that patterns stand for.

    Raises:
        UnknownDatasetError: If one does not exist, unless others are chosen.
    """
    names = [spec.name for spec in hetero_bench.list_datasets()]
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching and "*" not in pattern and (not chosen or pattern in chosen):
            raise UnknownDatasetError(
                f"the tier has the dataset {pattern}, which does not exist (yet); choose among the "
                "others with --datasets"
            )
        found |= dict.fromkeys(matching)
    return list(found)


def _check_chosen(what: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in chosen if name not in known]
    if unknown:
        names = ", ".join(dict.fromkeys(known))
        raise ValueError(f"{what} {', '.join(unknown)} not in the tier; it has {names}")


def _kind(spec: DatasetSpec) -> ActionKind:
    return "discrete" if spec.action is not None and spec.action.n is not None else "continuous"


def _missing(cells: Sequence[Cell], out: Path, precision: Precision) -> Iterator[Cell]:
    """Yields the cells without results; refuses if a file holds others."""
    for cell in cells:
        path = cell.path(out)
        if not path.exists():
            yield cell
        elif not cell.is_in(path, precision):
            raise FileExistsError(
                f"{path} holds other runs than the tier's: other seeds, draws, steps, "
                "hyperparameters or precision, or data of another release. Give another folder of "
                "results, or overwrite them (--overwrite)."
            )


def jobs_of(
    cells: Iterable[Cell],
    population: int,
    *,
    out: Path,
    device: str = "cpu",
    precision: Precision | None = None,
) -> Iterator[Job]:
    """Yields populations: as many cells together as fit, the draws of one apart if they must.

    A population has whole cells, or draws of a single one: a cell that is finished leaves no other
    cell's population half done, so that what is missing is later cut as it was.

    Args:
        cells: What is to be trained.
        population: Most members trained together; a dataset's settings and seeds stay together,
            though.
        out: Folder for checkpoints and run records.
        device: Where to train.
        precision: Of matrix products; None for the device's default.
    """
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.together_with].append(cell)
    for group in groups.values():
        first = group[0]
        size = max(population // (len(first.settings) * len(first.seeds)), 1)
        for datasets in _together([cell.datasets for cell in group], size):
            yield Job(
                method=first.method.name,
                configs=None,
                changes=first.changes,
                settings=first.settings,
                datasets=tuple(datasets),
                seeds=first.seeds,
                steps=first.steps,
                out=out,
                device=device,
                precision=precision,
            )


def _together(cells: Iterable[Sequence[T]], size: int) -> Iterator[list[T]]:
    """Yields the parts of cells, at most ``size`` at once; only what is too large is cut."""
    gathered: list[T] = []
    for parts in cells:
        if len(gathered) + len(parts) > size:
            if gathered:
                yield gathered
            gathered = []
        if len(parts) > size:
            yield from (list(parts[start : start + size]) for start in range(0, len(parts), size))
        else:
            gathered += parts
    if gathered:
        yield gathered


def _write_cell(runs: Sequence[Run], path: Path) -> Path:
    """Writes one method's runs on one dataset, training curves left out."""
    collection = RunCollection(runs=[run.model_copy(update={"metrics": {}}) for run in runs])
    return write_run(collection, path)
