"""Sorts run files into entries and datasets, and refuses to pool what does not belong together."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetero_bench.formatting import printable
from hetero_bench.runs import DatasetRecord, Run, read_runs

IGNORED_CONFIG = frozenset({"seed", "seeds"})
"""Config fields that tell runs of one configuration apart, not configurations."""

RunFile = tuple[Path, Run]


@dataclass(frozen=True)
class Entry:
    """A method with one configuration: what gets a row in the tables.

    Attributes:
        label: Unique name; the method's, with the fields that differ where it has several configs.
        method: The method's name.
        configs: The distinct configs of its runs, seeds left out. There are several only where the
            method is configured differently on different datasets.
    """

    label: str
    method: str
    configs: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Collection:
    """Runs in order.

    Attributes:
        entries: In order of their labels.
        datasets: Runs of every dataset, by its label, in order of label.
        runs: Runs of each entry on each dataset, (entry label, dataset label) to runs by seed.
        warnings: What a reader of the scores should know.
    """

    entries: tuple[Entry, ...]
    datasets: dict[str, list[Run]]
    runs: dict[tuple[str, str], list[Run]]
    warnings: tuple[str, ...]


def collect(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Collection:
    """Reads run files and groups them by entry and dataset.

    A method is split into several entries if it ran with several configs on the same dataset (a
    sweep). Where configs differ only between datasets it stays one entry, with a warning.

    Args:
        paths: Files and folders, as for ``hetero_bench.runs.read_runs``.

    Returns:
        The grouped runs; every group has each seed once.

    Raises:
        FileNotFoundError: A path does not exist, or no run is found.
        ValueError: A file is damaged, two runs claim the same place with different content, or
            runs of one dataset id were trained on different data or scored by other references.
    """
    found = [(path, _printable_method(run)) for path, run in read_runs(paths)]
    by_dataset: dict[str, list[RunFile]] = defaultdict(list)
    for path, run in found:
        by_dataset[dataset_label(run.dataset)].append((path, run))
    warnings: list[str] = []
    for label, runs in sorted(by_dataset.items()):
        _check_same_reference(label, runs)
        warnings += _check_same_data(label, runs)
        warnings += _not_verified(label, runs)

    labels = _entry_labels([run for _, run in found])
    groups: dict[tuple[str, str], list[RunFile]] = defaultdict(list)
    for path, run in found:
        groups[labels[run.method, _config_key(run)], dataset_label(run.dataset)].append((path, run))
    unique: dict[tuple[str, str], list[Run]] = {}
    for (entry, dataset), runs in sorted(groups.items()):
        unique[entry, dataset], notes = _one_per_seed(entry, dataset, runs)
        warnings += notes

    entries = _entries(unique)
    warnings += [
        f"{entry.label} has different configs on different datasets: "
        f"{', '.join(_differing(entry.configs))}"
        for entry in entries
        if len(entry.configs) > 1
    ]
    datasets = {
        label: [run for (_, dataset), runs in unique.items() if dataset == label for run in runs]
        for label in sorted(by_dataset)
    }
    warnings += _uneven_runs(unique, datasets)
    return Collection(tuple(entries), datasets, unique, tuple(warnings))


def dataset_label(record: DatasetRecord) -> str:
    """Names the data: the id, with size and draw where they are not the default."""
    size = f"{record.size} rows" if record.size is not None else ""
    draw = f"draw {record.draw}" if record.draw else ""
    detail = ", ".join(part for part in (size, draw) if part)
    return f"{record.id} ({detail})" if detail else record.id


def recipe_digest(provenance: Mapping[str, Any]) -> str | None:
    """The recipe that built the data, or the data it is a subset of; None if unknown."""
    own, parent = provenance.get("recipe_digest"), provenance.get("parent")
    if own is None and isinstance(parent, Mapping):
        return recipe_digest(parent)
    return None if own is None else str(own)


def _printable_method(run: Run) -> Run:
    return run.model_copy(update={"method": printable(run.method)})


def _uneven_runs(
    groups: Mapping[tuple[str, str], list[Run]], datasets: Mapping[str, list[Run]]
) -> list[str]:
    """What makes runs less comparable than they look."""
    warnings = []
    for (entry, dataset), runs in groups.items():
        where = f"{entry} on {dataset}"
        steps = sorted({run.evaluations[-1].step for run in runs})
        diverged = [str(run.seed) for run in runs if run.status == "diverged"]
        if len(runs) == 1:
            warnings.append(f"{where} has a single run: no interval, no verdict")
        if len(steps) > 1:
            warnings.append(
                f"{where}: runs ended after different numbers of steps, "
                f"{steps[0]:,} to {steps[-1]:,}"
            )
        if diverged:
            warnings.append(
                f"{where}: {len(diverged)} of {len(runs)} runs diverged "
                f"(seed {', '.join(diverged)}); scored by their last finite policy"
            )
    for dataset, runs in datasets.items():
        episodes = sorted({len(run.evaluations[-1].returns) for run in runs})
        if len(episodes) > 1:
            warnings.append(
                f"{dataset}: final evaluations differ in their number of episodes, "
                f"{episodes[0]} to {episodes[-1]}"
            )
        precisions = sorted({run.budget.precision or "not stated" for run in runs})
        if len(precisions) > 1:
            warnings.append(f"{dataset}: runs differ in precision: {', '.join(precisions)}")
    return warnings


def _check_same_reference(label: str, runs: list[RunFile]) -> None:
    for path, run in runs:
        if run.reference.expert <= run.reference.random:
            raise ValueError(
                f"{path}: reference expert ({run.reference.expert:g}) does not exceed random "
                f"({run.reference.random:g}); expected the registry's reference returns"
            )
    references = {(run.reference.random, run.reference.expert): path for path, run in runs}
    if len(references) > 1:
        parts = "; ".join(
            f"random {random:g}, expert {expert:g} in {path}"
            for (random, expert), path in references.items()
        )
        raise ValueError(
            f"{label}: runs carry different reference returns ({parts}), so their scores cannot be "
            "compared. Run again those that were made with another version of the registry."
        )


def _check_same_data(label: str, runs: list[RunFile]) -> list[str]:
    """Different digests are pooled only where one recipe explains them, and then with a warning."""
    by_digest = {run.dataset.digest: (path, run) for path, run in runs}
    if len(by_digest) == 1:
        return []
    recipes = {recipe_digest(run.dataset.provenance) for _, run in runs}
    verified = {
        run.dataset.digest for _, run in runs if run.dataset.provenance.get("status") == "verified"
    }
    if len(recipes) == 1 and None not in recipes and len(verified) <= 1:
        return [
            f"{label}: runs used {len(by_digest)} builds of the same recipe that differ in their "
            "bits (simulators differ between machines); they are pooled"
        ]
    parts = "; ".join(f"{digest[:12]} in {path}" for digest, (path, _) in by_digest.items())
    raise ValueError(
        f"{label}: runs were trained on different data under the same id ({parts}). Grade them "
        "apart, or run again those whose data is not the registry's (hetero-bench verify)."
    )


def _not_verified(label: str, runs: list[RunFile]) -> list[str]:
    """Says how many runs were not trained on the registry's very data."""
    statuses = [str(run.dataset.provenance.get("status", "of unknown status")) for _, run in runs]
    others = [status for status in statuses if status != "verified"]
    if not others:
        return []
    return [
        f"{label}: {len(others)} of {len(runs)} runs used data that is not verified to be the "
        f"registry's ({', '.join(sorted(set(others)))})"
    ]


def _entry_labels(runs: list[Run]) -> dict[tuple[str, str], str]:
    """Labels every (method, config) pair; pairs that are not a sweep's share the method's name."""
    configs: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    on_dataset: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        key = _config_key(run)
        configs[run.method][key] = _flat(run.config)
        on_dataset[run.method, dataset_label(run.dataset)].add(key)
    labels: dict[tuple[str, str], str] = {}
    for method, variants in configs.items():
        sweep = any(len(keys) > 1 for (name, _), keys in on_dataset.items() if name == method)
        fields = _differing(tuple(variants.values())) if sweep else []
        for key, config in variants.items():
            values = ", ".join(
                f"{name}={_short(config[name])}" if name in config else f"{name} unset"
                for name in fields
            )
            label = printable(f"{method} ({values})") if sweep else method
            taken = {other for (name, _), other in labels.items() if sweep or name != method}
            while label in taken:
                label += "*"
            labels[method, key] = label
    return labels


def _entries(groups: Mapping[tuple[str, str], list[Run]]) -> list[Entry]:
    by_label: dict[str, list[Run]] = defaultdict(list)
    for (label, _), runs in groups.items():
        by_label[label] += runs
    return [
        Entry(
            label=label,
            method=runs[0].method,
            configs=tuple({_config_key(run): _flat(run.config) for run in runs}.values()),
        )
        for label, runs in sorted(by_label.items())
    ]


def _one_per_seed(entry: str, dataset: str, runs: list[RunFile]) -> tuple[list[Run], list[str]]:
    """Checks that no seed has two different runs; equal copies count once, with a warning."""
    kept: dict[int, RunFile] = {}
    warnings = []
    for path, run in runs:
        if run.seed not in kept:
            kept[run.seed] = (path, run)
            continue
        first, other = kept[run.seed]
        if run != other:
            raise ValueError(
                f"{first} and {path} are different runs of {entry} on {dataset} with the same seed "
                f"{run.seed}; keep one of them, or give one another seed or method name"
            )
        warnings.append(f"{first} and {path} hold the same run; it counts once")
    return [kept[seed][1] for seed in sorted(kept)], warnings


def _config_key(run: Run) -> str:
    return json.dumps(_flat(run.config), sort_keys=True, default=str)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a config to dotted names, without seeds; whole floats equal integers."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if not prefix and name in IGNORED_CONFIG:
            continue
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            flat[f"{prefix}{name}"] = value
    return flat


def _differing(configs: tuple[dict[str, Any], ...]) -> list[str]:
    """Names of the fields that are not the same in all configs."""
    names = sorted({name for config in configs for name in config})
    spelled = [
        {name: json.dumps(config[name], default=str) for name in config} for config in configs
    ]
    return [name for name in names if len({config.get(name) for config in spelled}) > 1]


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
