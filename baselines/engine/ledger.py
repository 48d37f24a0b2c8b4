"""What a population has done so far, and the run records that follow from it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from baselines.engine.members import Member
from baselines.engine.plan import Plan, Work, config_values, dataset_record
from hetero_bench.provenance import package_versions
from hetero_bench.runs import Budget, EvaluationRecord, ReferenceRecord, Run

FINE_TUNED = "_online"
"""Follows a method's name in the records of its fine-tuned runs."""


class LogEntry(BaseModel):
    """Training metrics at one step.

    Attributes:
        step: Gradient steps taken.
        metrics: (P,) mean of each metric since the entry before; None where not finite.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    metrics: dict[str, list[float | None]]


class Ledger(BaseModel):
    """Kept in the checkpoint beside the tensors.

    Attributes:
        fingerprint: Of the plan it belongs to.
        plan: The plan's document, from which it can be made again; None in checkpoints of earlier
            versions.
        fine_tuning: Settings of the fine-tuning of that plan's population, if this is its ledger.
        step: Gradient steps taken, those of training not counted in fine-tuning.
        wall_seconds: Time spent, interruptions left out.
        refresh_seconds: The part of it spent on what agents compute anew every few updates.
        log: Training curves.
        evaluations: (P,) lists of each member's evaluations.
        diverged: Step by which a member had become non-finite, by its number.
        overwrites: Whether existing results of other runs may be replaced.
        recorded: Whether the run records have been written.
        versions: Releases of the packages that trained it.
        commit: Commit of the code, where known.
    """

    model_config = ConfigDict(extra="forbid")

    fingerprint: str
    plan: dict[str, Any] | None = None
    fine_tuning: dict[str, Any] | None = None
    step: int = 0
    wall_seconds: float = 0.0
    refresh_seconds: float = 0.0
    log: list[LogEntry] = []
    evaluations: list[list[EvaluationRecord]]
    diverged: dict[int, int] = {}
    overwrites: bool = False
    recorded: bool = False
    versions: dict[str, str]
    commit: str | None

    @classmethod
    def begin(cls, plan: Plan, *, overwrites: bool) -> Ledger:
        """Returns the ledger of a population that has not done anything yet."""
        return cls(
            fingerprint=plan.fingerprint,
            plan=plan.document(),
            evaluations=[[] for _ in plan.members],
            overwrites=overwrites,
            versions=package_versions("torch", "gymnasium", "mujoco"),
            commit=code_commit(),
        )

    @classmethod
    def of(cls, work: Work, facts: Mapping[str, Any], path: Path) -> Ledger:
        """Returns the ledger kept in a checkpoint.

        Args:
            work: The plan or fine-tuning that the checkpoint has to be of.
            facts: As :func:`~baselines.engine.checkpoint.read_checkpoint` gives them.
            path: The checkpoint, for the message.

        Raises:
            ValueError: If it is the checkpoint of another plan.
        """
        ledger = cls.model_validate(facts)
        if ledger.fingerprint != work.fingerprint:
            raise ValueError(f"{path} belongs to another plan; delete it to start over")
        return ledger

    def made_elsewhere(self, now: Ledger) -> str | None:
        """Returns how the code that began this differs from the present one's, or None.

        Args:
            now: A ledger that begins with the present code.
        """
        releases = sorted(self.versions.keys() | now.versions.keys())
        pairs = [("commit", self.commit, now.commit)]
        pairs += [(name, self.versions.get(name), now.versions.get(name)) for name in releases]
        changes = [
            f"{name} {then}, now {current}" for name, then, current in pairs if then != current
        ]
        return ", ".join(changes) or None

    @property
    def method_suffix(self) -> str:
        """What follows the method's name in records: fine-tuned runs rank by themselves."""
        return "" if self.fine_tuning is None else FINE_TUNED

    def is_finished(self, plan: Plan) -> bool:
        """Whether all that was to be done has been done."""
        return self.step == (plan.steps if self.fine_tuning is None else self.fine_tuning["steps"])

    def runs(self, plan: Plan) -> list[Run]:
        """Returns the (P,) run records of the members, in their order."""
        return [self.run(plan, number) for number in range(len(plan.members))]

    def run(self, plan: Plan, number: int) -> Run:
        """Returns one member's run record."""
        member = plan.members[number]
        reference = member.dataset.spec.reference
        assert reference is not None, "the plan has checked it"
        names = dict.fromkeys(name for entry in self.log for name in entry.metrics)
        return Run(
            method=plan.method.name + self.method_suffix,
            config=config_values(member.config) | self._online(plan, member),
            dataset=dataset_record(member),
            reference=ReferenceRecord(random=reference.random, expert=reference.expert),
            seed=member.seed,
            budget=Budget(
                steps=plan.steps + (self.fine_tuning or {}).get("steps", 0),
                wall_seconds=self.wall_seconds,
                refresh_seconds=self.refresh_seconds,
                members=len(plan.members),
                device=device_name((self.fine_tuning or {}).get("device", plan.device)),
                precision=plan.precision,
            ),
            evaluations=self.evaluations[number],
            status="diverged" if number in self.diverged else "finished",
            metrics={
                name: [
                    (entry.step, entry.metrics[name][number])
                    for entry in self.log
                    if name in entry.metrics
                ]
                for name in names
            },
            versions=self.versions,
            commit=self.commit,
        )

    def _online(self, plan: Plan, member: Member) -> dict[str, Any]:
        """Returns what a record says of a member's fine-tuning, if there was any."""
        if self.fine_tuning is None:
            return {}
        settings = dict(self.fine_tuning)
        if settings["discount"] is None:
            online = plan.method.config_online(member.config, member.dataset.spec)
            settings["discount"] = online.discount
        return {f"online_{name}": value for name, value in settings.items()}


def same_results(run: Run, other: Run) -> bool:
    """Whether two runs have the same results, on whatever release of the code."""
    fields = {"method", "config", "seed", "evaluations", "metrics", "status"}
    return run.model_dump(include=fields) == other.model_dump(include=fields)


def device_name(device: str) -> str:
    """Returns ``cpu``, or the accelerator's name where this machine has one."""
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return torch.device(device).type


def code_commit() -> str | None:
    """Returns the commit of this checkout, ``-dirty`` if changed since, or None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
