"""What a population is going to do, and where its results go."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

import hetero_bench
from baselines.engine.members import Member, make_members
from baselines.engine.method import Method, get_method
from baselines.engine.precision import PRECISIONS, Precision
from baselines.engine.preparation import action_kind
from hetero_bench.runs import DatasetRecord


class Work(Protocol):
    """What is done with a population, from a checkpoint to its records: a plan, or more."""

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        ...

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that determines the results."""
        ...

    def checkpoint_path(self, out: Path) -> Path:
        """Returns where the checkpoint lies, below a folder for results."""
        ...

    def run_path(self, out: Path, member: Member) -> Path:
        """Returns where a member's run record lies, below a folder for results."""
        ...

    def evaluates_at(self, step: int) -> bool:
        """Whether the members are evaluated after this many steps."""
        ...


@dataclass(frozen=True)
class Plan:
    """One population, from its members to its evaluations.

    Attributes:
        method: The method that all members use.
        members: (P,) members.
        steps: Gradient steps.
        log_every: Steps between two points of the training curves.
        eval_every: Steps between two evaluations; None for the final one only.
        evaluation_episodes: Episodes per evaluation; None for the dataset's number.
        device: ``cpu`` or a torch device.
        precision: Of the networks' matrix products; see :mod:`baselines.engine.precision`.

    Raises:
        ValueError: If a number is out of range, or a member's results could not be recorded.
    """

    method: Method
    members: tuple[Member, ...]
    steps: int
    log_every: int
    eval_every: int | None
    evaluation_episodes: int | None
    device: str
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "eval_every", "evaluation_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        for dataset in dict.fromkeys(member.dataset for member in self.members):
            for part in ("environment", "reference"):
                if getattr(dataset.spec, part) is None:
                    raise ValueError(
                        f"{dataset.id} was registered without {part}; training evaluates and "
                        f"records scores, so add the {part} when registering it"
                    )
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}"
            )

    @property
    def title(self) -> str:
        """What progress bars call the population."""
        count = len(self.members)
        return f"{self.method.title} × {count}" if count > 1 else self.method.title

    def next_stop(self, step: int) -> int:
        """Returns the next step after ``step`` at which to log."""
        candidates = [self.steps, (step // self.log_every + 1) * self.log_every]
        if self.eval_every is not None:
            candidates.append((step // self.eval_every + 1) * self.eval_every)
        return min(candidates)

    def evaluates_at(self, step: int) -> bool:
        """Whether the members are evaluated after this many steps."""
        return step == self.steps or (self.eval_every is not None and step % self.eval_every == 0)

    def document(self) -> dict[str, Any]:
        """Returns everything that determines the results, as JSON values."""
        return {
            "method": self.method.name,
            "steps": self.steps,
            "log_every": self.log_every,
            "eval_every": self.eval_every,
            "evaluation_episodes": self.evaluation_episodes,
            "device": torch.device(self.device).type,
            "precision": self.precision,
            "members": [
                {
                    "dataset": dataset_record(member).model_dump(exclude={"provenance"}),
                    "config": config_values(member.config),
                    "seed": member.seed,
                }
                for member in self.members
            ],
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Plan:
        """Returns the plan of a :meth:`document`; loads the datasets that it names.

        Raises:
            UnknownDatasetError: If a dataset is not registered.
            ValueError: If the datasets, or the method's hyperparameters, are others today.
        """
        rest = dict(document)
        entries = rest.pop("members")
        keys = [tuple(each["dataset"][name] for name in ("id", "size", "draw")) for each in entries]
        loaded = {
            key: hetero_bench.load(key[0], size=key[1], draw=key[2]) for key in dict.fromkeys(keys)
        }
        method = get_method(rest.pop("method"), action_kind(loaded[keys[0]]))
        configs: dict[hetero_bench.Dataset, list[Any]] = {each: [] for each in loaded.values()}
        for key, entry in zip(keys, entries, strict=True):
            config = _config(method, entry["config"])
            if config not in configs[loaded[key]]:
                configs[loaded[key]].append(config)
        seeds = list(dict.fromkeys(entry["seed"] for entry in entries))
        members = make_members(list(configs), configs.__getitem__, seeds)
        plan = cls(method=method, members=tuple(members), **rest)
        if plan.document() != document:
            raise ValueError(
                f"the datasets or the hyperparameters of {plan.title} are others today than when "
                "it was trained"
            )
        return plan

    @cached_property
    def fingerprint(self) -> str:
        """A digest of :meth:`document`: plans with equal fingerprints give equal results."""
        text = json.dumps(self.document(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def checkpoint_path(self, out: Path) -> Path:
        """Returns where the population's checkpoint lies."""
        folder = f"population-{self.fingerprint[:12]}"
        return out / self.method.name / folder / "checkpoint.safetensors"

    def run_path(self, out: Path, member: Member) -> Path:
        """Returns ``<out>/<method>/<dataset id>[/<draw>][/<label>]/seed-<k>/run.json``.

        ``<draw>`` is there for a subset of another size or draw than the id says, ``<label>`` if
        members differ in their configs.
        """
        dataset = member.dataset
        parts = [out, self.method.name, dataset.id]
        if dataset.size is not None:
            parts.append(f"size-{dataset.size}-draw-{dataset.draw}")
        elif dataset.draw:
            parts.append(f"draw-{dataset.draw}")
        if member.label:
            parts.append(member.label)
        return Path(*parts, f"seed-{member.seed}", "run.json")


def dataset_record(member: Member) -> DatasetRecord:
    """Returns which data a member is trained on."""
    dataset = member.dataset
    return DatasetRecord(
        id=dataset.id,
        size=dataset.size,
        draw=dataset.draw,
        digest=dataset.provenance.digest,
        provenance=dataset.provenance.model_dump(exclude={"digest"}),
    )


def config_values(config: Any) -> dict[str, Any]:
    """Returns a config's fields as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), allow_nan=False))


def _config(method: Method, values: Mapping[str, Any]) -> Any:
    """Returns a method's config of :func:`config_values`."""

    def as_tuple(value: Any) -> Any:
        return tuple(map(as_tuple, value)) if isinstance(value, list) else value

    try:
        return method.config(**{name: as_tuple(value) for name, value in values.items()})
    except TypeError as error:
        raise ValueError(
            f"the hyperparameters of {method.name} are others today: {error}"
        ) from error
