"""Measures every dataset's heteroskedasticity for docs/heteroskedasticity.md.

    python docs/measure_heteroskedasticity.py datasets   # builds what is not cached
    python docs/measure_heteroskedasticity.py severity   # the severity axis, 40,000 rows each

writes docs/heteroskedasticity/measurements.json, from which the tables and pictures are made
(`docs/make_tables.py`, `docs/make_heteroskedasticity_figures.py`). A dataset's measures are kept
where their digest is the dataset's; the severity axis is measured anew. Locomotion has a page of
its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import hetero_bench
from hetero_bench.atomic import write_file
from hetero_bench.dataset import Dataset
from hetero_bench.loading import Artefact

MEASUREMENTS = Path(__file__).parent / "heteroskedasticity" / "measurements.json"
SEVERITY_PARAMETERS = {"shards": 8, "ants": 5, "steps": 1000}
"""A smaller collection by the same recipe."""


def measure(dataset: Dataset) -> dict[str, Any]:
    """Returns a dataset's measures, exact where the behaviour is recorded, and fitted."""
    exact = hetero_bench.heteroskedasticity(dataset, behaviour="exact").to_dict()
    fitted = hetero_bench.heteroskedasticity(dataset, behaviour="fitted").to_dict()
    return {
        "digest": dataset.provenance.digest,
        "transitions": len(dataset),
        "episodes": dataset.arrays.num_episodes,
        "notes": dataset.arrays.notes,
        "exact": exact,
        "fitted": fitted,
    }


def measure_datasets(document: dict[str, Any]) -> None:
    """Adds every whole dataset of AntMaze and the gridworld, the severity axis aside."""
    found = document.setdefault("datasets", {})
    for spec in hetero_bench.list_datasets(reduced=False):
        built = any(source.kind == "build" for source in spec.sources)
        if not built or "-noisy-s" in spec.name or spec.family == "locomotion":
            continue  # locomotion is measured at its release, against its own expert
        dataset = hetero_bench.load(spec.name)
        if found.get(spec.name, {}).get("digest") != dataset.provenance.digest:
            found[spec.name] = measure(dataset)
            _save(document)
        print(spec.name, _line(found[spec.name]), flush=True)


def measure_severity(document: dict[str, Any]) -> None:
    """Adds small collections along the severity axis."""
    for maze in ("medium", "large"):
        levels = document.setdefault("severity", {}).setdefault(maze, {})
        for severity in range(5):
            spec = hetero_bench.get_spec(f"antmaze-{maze}-noisy-s{severity}")
            assert spec.recipe is not None
            parameters = {**spec.recipe.parameters, **SEVERITY_PARAMETERS}
            recipe = spec.recipe.model_copy(update={"parameters": parameters})
            free = {"recipe": recipe, "transitions": None, "episodes": None, "sha256": {}}
            with tempfile.TemporaryDirectory() as folder:
                dataset = Artefact.of(spec.model_copy(update=free)).load(Path(folder))
                levels[str(severity)] = measure(dataset)
            _save(document)
            print(spec.name, _line(levels[str(severity)]), flush=True)


def _line(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{kind}: std {found[kind]['std']:.3g}, max {found[kind]['maximum']:.3g}"
        for kind in ("exact", "fitted")
    )


def _save(document: dict[str, Any]) -> None:
    write_file(MEASUREMENTS, json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    content = json.loads(MEASUREMENTS.read_text(encoding="utf-8")) if MEASUREMENTS.exists() else {}
    for part in sys.argv[1:] or ["datasets", "severity"]:
        {"datasets": measure_datasets, "severity": measure_severity}[part](content)
