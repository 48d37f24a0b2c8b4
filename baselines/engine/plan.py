"""What a population is going to do, and where its results go."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from baselines.engine.members import Member
from baselines.engine.method import Method
from baselines.engine.precision import PRECISIONS, Precision
from hetero_bench.runs import DatasetRecord


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
        if torch.device(self.device).type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {self.device!r} is not available; expected cpu here")

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
