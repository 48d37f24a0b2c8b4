"""Finished runs, read back with their learners: from a ``run.json`` to the policy that made it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from baselines.engine.checkpoint import read_checkpoint, read_facts, restore
from baselines.engine.ledger import Ledger, same_results
from baselines.engine.members import Member
from baselines.engine.method import Actor
from baselines.engine.plan import Plan
from baselines.engine.trainer import Trainer
from hetero_bench.errors import UnknownDatasetError
from hetero_bench.runs import Run, read_run_file


@dataclass(frozen=True)
class TrainedPopulation:
    """A population that was trained to its end.

    Attributes:
        path: Its checkpoint.
        plan: What it was to do.
        ledger: What it did.
    """

    path: Path
    plan: Plan
    ledger: Ledger

    @cached_property
    def trainer(self) -> Trainer:
        """The learners on the CPU, as they were at the end."""
        tensors, _ = read_checkpoint(self.path)
        trainer = Trainer.of(self.plan, device="cpu")
        own = {name: each for name, each in tensors.items() if not name.startswith("online.")}
        restore(trainer.state_dict(), own)
        return trainer

    @cached_property
    def digest(self) -> str:
        """A sha256 over the checkpoint's tensors, which tells populations of one plan apart."""
        tensors, _ = read_checkpoint(self.path)
        digest = hashlib.sha256()
        for name in sorted(tensors):
            digest.update(name.encode())
            digest.update(tensors[name].numpy().tobytes())
        return digest.hexdigest()

    def actors(self) -> list[Actor]:
        """Returns the (P,) members' final policies, on the CPU."""
        return [self.trainer.agent.actor(number) for number in range(len(self.plan.members))]


@dataclass(frozen=True)
class TrainedRun:
    """A member of a trained population and the run record that it left.

    Attributes:
        path: The ``run.json``.
        run: What it says.
        population: Whose member it is.
        number: The member's number in it.
    """

    path: Path
    run: Run
    population: TrainedPopulation
    number: int

    @property
    def member(self) -> Member:
        """The member."""
        return self.population.plan.members[self.number]

    def actor(self) -> Actor:
        """Returns the final policy, on the CPU."""
        return self.population.trainer.agent.actor(self.number)


def trained_actors(plan: Plan, out: str | os.PathLike[str] = "runs") -> list[Actor]:
    """Returns the (P,) members' final policies, on the CPU.

    Args:
        plan: The population.
        out: The folder that it was trained into.

    Raises:
        FileNotFoundError: If it was not trained there, or not to the end.
        ValueError: If the checkpoint is damaged or of another plan.
    """
    path = plan.checkpoint_path(Path(out))
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint {path}; train this plan first")
    ledger = Ledger.of(plan, read_facts(path), path)
    if ledger.step < plan.steps:
        raise FileNotFoundError(
            f"{path} is at step {ledger.step:,} of {plan.steps:,}; train it on first"
        )
    return TrainedPopulation(path, plan, ledger).actors()


def trained_runs(paths: Iterable[str | os.PathLike[str]]) -> list[TrainedRun]:
    """Finds the learners of run records; their populations' checkpoints lie beside them.

    Args:
        paths: Files ``run.json`` that training wrote, or folders that are searched for them.

    Returns:
        One entry per file, in the order of their paths.

    Raises:
        FileNotFoundError: If a path does not exist or has no runs, or the checkpoint that belongs
            to a run is gone.
        ValueError: If a file is damaged.
    """
    populations: dict[Path, list[TrainedPopulation | str]] = {}
    found = []
    for path in _run_files(paths):
        run, *others = read_run_file(path)
        if others:
            raise ValueError(f"{path} is a collection of runs; expected the run.json of one")
        folder = _method_folder(path, run)
        if folder not in populations:
            populations[folder] = list(_populations(folder))
        found.append(_trained_run(path, run, folder, populations[folder]))
    return found


def _run_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    files: list[Path] = []
    for root in map(Path, paths):
        if not root.exists():
            raise FileNotFoundError(f"{root} does not exist; expected a run.json or a folder")
        here = [root] if root.is_file() else sorted(root.rglob("run.json"))
        if not here:
            raise FileNotFoundError(f"no run.json below {root}; train something into it first")
        files += here
    return list(dict.fromkeys(files))


def _method_folder(path: Path, run: Run) -> Path:
    """Returns the ``<out>/<method>`` that a run lies in, where the checkpoints are, too."""
    for folder in path.absolute().parents:
        if folder.name == run.method and next(folder.glob("population-*"), None) is not None:
            return folder
    raise FileNotFoundError(
        f"no checkpoint for {path}: expected {run.method}/population-*/checkpoint.safetensors "
        "above it, as training writes it; train again, or keep these folders together"
    )


def _populations(folder: Path) -> Iterator[TrainedPopulation | str]:
    """Yields the trained populations of a folder, or why one cannot be read."""
    for path in sorted(folder.glob("population-*/checkpoint.safetensors")):
        try:
            ledger = Ledger.model_validate(read_facts(path))
            if ledger.plan is None:
                raise ValueError("written by an earlier version; train again")
            plan = Plan.of_document(ledger.plan)
        except (ValueError, OSError, UnknownDatasetError) as error:
            yield f"{path}: {error}"
        else:
            if ledger.is_finished(plan):
                yield TrainedPopulation(path, plan, ledger)


def _trained_run(
    path: Path, run: Run, folder: Path, populations: Iterable[TrainedPopulation | str]
) -> TrainedRun:
    unread = []
    for population in populations:
        if isinstance(population, str):
            unread.append(population)
            continue
        plan = population.plan
        for number, member in enumerate(plan.members):
            place = plan.run_path(Path(), member).relative_to(plan.method.name)
            if folder / place != path.absolute():
                continue
            if same_results(run, population.ledger.run(plan, number)):
                return TrainedRun(path, run, population, number)
    why = "; ".join(unread) or "it was deleted, or has been trained on for other results"
    raise FileNotFoundError(f"no checkpoint below {folder} belongs to {path}: {why}")
