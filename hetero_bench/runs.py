"""The run JSON: what one training run of one method on one dataset with one seed leaves behind.

Training writes it, :func:`hetero_bench.grade` reads it, a leaderboard submission carries it. The
schema is published as ``docs/schemas/run-v1.json``; a change of meaning raises its version. Raw
episode returns are kept, so that every score can be recomputed.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt

from hetero_bench import atomic
from hetero_bench.errors import describe_validation_error

SCHEMA: Literal["hetero_bench/run/v1"] = "hetero_bench/run/v1"
COLLECTION_SCHEMA: Literal["hetero_bench/runs/v1"] = "hetero_bench/runs/v1"


_COLLECTION = b'"hetero_bench/runs/'
"""Marks a file as a collection of some version, wherever in it the schema stands."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DatasetRecord(_Record):
    """Which data a run was trained on."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*-v\d+$")] = Field(
        description="Canonical dataset id, version included, e.g. gridworld-hetero-10k-v0."
    )
    size: NonNegativeInt | None = Field(
        default=None, description="Rows asked for with load(size=...); null: the whole dataset."
    )
    draw: NonNegativeInt | None = Field(
        default=None, description="Which official draw of a subset; null for a whole dataset."
    )
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="sha256 over the digests of all arrays."
    )
    provenance: dict[str, Any] = Field(
        default_factory=dict,
        description="Which source answered, verified or rebuilt, versions, recipe digest.",
    )


class ReferenceRecord(_Record):
    """Returns that normalised scores are measured against: 0 = random, 100 = expert."""

    random: FiniteFloat
    expert: FiniteFloat


class EvaluationRecord(_Record):
    """One evaluation of the policy: every episode's undiscounted raw return."""

    step: NonNegativeInt = Field(description="Gradient steps taken before this evaluation.")
    seed: NonNegativeInt = Field(description="Seed of the evaluation's episodes.")
    returns: Annotated[list[FiniteFloat], Field(min_length=1)]
    lengths: list[NonNegativeInt] = Field(description="Environment steps of every episode.")
    successes: list[bool] | None = Field(
        default=None, description="Per episode, for tasks with a notion of success."
    )

    @pydantic.model_validator(mode="after")
    def _equal_lengths(self) -> EvaluationRecord:
        episodes = len(self.returns)
        for name in ("lengths", "successes"):
            values = getattr(self, name)
            if values is not None and len(values) != episodes:
                raise ValueError(f"{name} has {len(values)} entries; expected {episodes}")
        return self


class Budget(_Record):
    """What the run cost."""

    steps: NonNegativeInt = Field(description="Gradient steps.")
    wall_seconds: Annotated[FiniteFloat, Field(ge=0)] = Field(
        description="Wall time of the training process, shared by all members of a population."
    )
    refresh_seconds: Annotated[FiniteFloat, Field(ge=0)] | None = Field(
        default=None,
        description="The part of it spent on what is computed anew every few updates, as C4's "
        "mixtures are; null: not stated.",
    )
    members: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Members trained together in that wall time."
    )
    device: str = Field(description="cpu, or the accelerator's name.")
    precision: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,16}$")] | None = Field(
        default=None,
        description="Of the networks' matrix products: fp32, tf32, bf16, ...; null: not stated.",
    )


class Run(_Record):
    """One training run."""

    schema_: Literal["hetero_bench/run/v1"] = Field(default=SCHEMA, alias="schema")
    method: Annotated[str, Field(min_length=1)]
    config: dict[str, Any] = Field(description="Resolved hyperparameters.")
    dataset: DatasetRecord
    reference: ReferenceRecord
    seed: NonNegativeInt
    budget: Budget
    evaluations: Annotated[list[EvaluationRecord], Field(min_length=1)] = Field(
        description="In order of steps; the last one is the final checkpoint, which ranks."
    )
    status: Literal["finished", "diverged"] = Field(
        default="finished",
        description="diverged: parameters became non-finite and were frozen before that.",
    )
    metrics: dict[str, list[tuple[int, float | None]]] = Field(
        default_factory=dict, description="Training curves: name to (step, value) pairs."
    )
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = Field(default=None, description="Commit of the code, where known.")

    @pydantic.model_validator(mode="after")
    def _ascending(self) -> Run:
        steps = [evaluation.step for evaluation in self.evaluations]
        if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
            raise ValueError(f"evaluation steps must ascend; got {steps}")
        return self


class RunCollection(_Record):
    """Several runs in one file: the reference results under ``registry/results``."""

    schema_: Literal["hetero_bench/runs/v1"] = Field(default=COLLECTION_SCHEMA, alias="schema")
    runs: Annotated[list[Run], Field(min_length=1)]


def write_run(run: Run | RunCollection, path: str | os.PathLike[str]) -> Path:
    """Writes a run as JSON, whole or not at all.

    Args:
        run: The run, or a collection of runs.
        path: The file to write, replaced if it exists; its folder is made.

    Returns:
        The path written.
    """
    return atomic.write_file(path, run.model_dump_json(by_alias=True) + "\n")


def read_run_file(path: str | os.PathLike[str]) -> list[Run]:
    """Reads one run JSON or one collection.

    Raises:
        ValueError: If the file is not JSON, of another schema, or breaks the schema; the message
            names the file, the field and the reason.
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: not readable as JSON ({error}); the file is damaged or was cut short. "
            "Delete it and run that seed again."
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    models: dict[str, type[Run] | type[RunCollection]] = {
        SCHEMA: Run,
        COLLECTION_SCHEMA: RunCollection,
    }
    if schema not in models:
        raise ValueError(
            f"{path}: schema is {schema!r}; this version reads {' and '.join(map(repr, models))}"
        )
    try:
        record = models[schema].model_validate_json(content, strict=True)
    except pydantic.ValidationError as error:
        raise ValueError(f"{path}: {describe_validation_error(error)}") from error
    return record.runs if isinstance(record, RunCollection) else [record]


def read_runs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> list[tuple[Path, Run]]:
    """Reads every run under the given files and folders.

    Args:
        paths: Files, or folders that are searched for ``run.json`` and for collections
            (``*.json`` whose schema is a collection's) at any depth; one path or several.

    Returns:
        (file, run) pairs in the order of their paths.

    Raises:
        FileNotFoundError: If a path does not exist, or no run is found at all.
        ValueError: If a file is damaged or of another schema.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    roots = [Path(path) for path in paths]
    files: list[Path] = []
    for root in roots:
        if not root.exists():
            raise FileNotFoundError(f"{root} does not exist; expected a run.json or a folder")
        files += [root] if root.is_file() else _run_files(root)
    runs = [(file, run) for file in dict.fromkeys(files) for run in read_run_file(file)]
    if not runs:
        names = ", ".join(str(root) for root in roots) or "no path given"
        raise FileNotFoundError(f"no run.json and no collection of runs found in: {names}")
    return runs


def _run_files(folder: Path) -> list[Path]:
    """Lists run files below a folder; other JSON files there are not runs and are passed over."""
    found = []
    for file in sorted(folder.rglob("*.json")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        if file.is_file() and (file.name == "run.json" or _COLLECTION in file.read_bytes()):
            found.append(file)
    return found


def run_json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a run, as published in ``docs/schemas/run-v1.json``."""
    schema = Run.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **schema}
