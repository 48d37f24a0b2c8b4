"""One process's work on a population: what training and fine-tuning share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
from torch import Tensor

from baselines.engine.checkpoint import read_checkpoint, remove_partial_writes, write_checkpoint
from baselines.engine.display import Display
from baselines.engine.evaluators import Evaluators
from baselines.engine.ledger import Ledger, LogEntry, same_results
from baselines.engine.plan import Plan, Work
from baselines.engine.tensorboard import Curves
from baselines.engine.trainer import Trainer
from hetero_bench.runs import Run, read_run_file, write_run

STALE = "trained by other code ({}); to train again delete checkpoints, or overwrite the results"
"""Said of a checkpoint whose code differs from the present one in the way given."""


@contextmanager
def claim(checkpoint: Path) -> Iterator[None]:
    """Keeps other processes from training the same population during the block.

    Args:
        checkpoint: The population's. What killed processes left beside it is removed.

    Raises:
        RuntimeError: If another process is training it.
    """
    folder = checkpoint.parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RuntimeError(
            f"another process is training this population in {folder}; wait for it, or give "
            "another output folder"
        ) from None
    try:
        remove_partial_writes(checkpoint)
        yield
    finally:
        lock.release()


class Session:
    """One process's work: from the last checkpoint, or the beginning, to the records.

    Args:
        work: What is done.
        plan: The population.
        beginning: The ledger of a population with which nothing has been done.
        out: Folder for results.
        display: What is shown.
        earlier_steps: Steps that records count before the first one.

    Attributes:
        ledger: What has been done.
        saved: Tensors of the checkpoint, by dotted names; None to begin at the beginning.
        stale: How the code that made the checkpoint differs from the present one; None if it does
            not.

    Raises:
        FileExistsError: If results of another run would be overwritten.
        ValueError: If the checkpoint is damaged or of something else.
    """

    def __init__(
        self,
        work: Work,
        plan: Plan,
        beginning: Ledger,
        out: Path,
        display: Display,
        *,
        earlier_steps: int = 0,
    ):
        self.plan = plan
        self.display = display
        self.path = work.checkpoint_path(out)
        self.saved: Mapping[str, Tensor] | None = None
        self.stale: str | None = None
        self.ledger = beginning
        self._work = work
        self._run_paths = [work.run_path(out, member) for member in plan.members]
        self._earlier_steps = earlier_steps
        if self.path.exists():
            tensors, facts = read_checkpoint(self.path)
            ledger = Ledger.of(work, facts, self.path)
            if not (ledger.recorded and beginning.overwrites):
                self.stale = ledger.made_elsewhere(beginning)
                self.saved, self.ledger = tensors, ledger
                self.ledger.overwrites |= beginning.overwrites
        if self.stale is not None:
            display.say(f"{display.title}: {STALE.format(self.stale)}")
        if not self.complete and not self.ledger.overwrites:
            self._refuse_overwriting()

    @property
    def complete(self) -> bool:
        """Whether everything is done but for the records."""
        return self.ledger.step == self._work.steps and not self._unevaluated()

    @property
    def _counted(self) -> int:
        """The present step as records count it."""
        return self._earlier_steps + self.ledger.step

    def _unevaluated(self) -> list[int]:
        """Returns the numbers of the members whose evaluation at the present step is missing."""
        if self.ledger.step == 0 or not self._work.evaluates_at(self.ledger.step):
            return []
        evaluations = enumerate(self.ledger.evaluations)
        return [each for each, own in evaluations if not own or own[-1].step < self._counted]

    def _refuse_overwriting(self, own: Sequence[Run] | None = None) -> None:
        """Raises an error if a member's place is taken by a run other than its own."""
        taken = [
            str(path)
            for number, path in enumerate(self._run_paths)
            if path.exists()
            and (own is None or not same_results(read_run_file(path)[0], own[number]))
        ]
        if taken:
            more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
            raise FileExistsError(
                f"results of another run are in the way: {', '.join(taken[:3])}{more}. Only the "
                "same settings, datasets and seeds in the same order, beside the checkpoint, go on "
                "with them. Give another output folder, or overwrite them (--overwrite)."
            )

    def _say_resuming(self) -> None:
        self.display.say(
            f"{self.display.title}: resuming at step {self.ledger.step:,} from {self.path}"
        )

    def _advanced(self, step: int, trainer: Trainer) -> LogEntry:
        """Takes down that ``step`` steps are done, and who is frozen; returns the new log entry."""
        self.ledger.step = step
        entry = LogEntry(step=self._counted, metrics=trainer.take_metrics())
        self.ledger.log.append(entry)
        for number in trainer.frozen():
            if number not in self.ledger.diverged:
                self.ledger.diverged[number] = self._counted
                self.display.say(
                    f"{self.plan.method.title} on {self.plan.members[number]} became non-finite "
                    f"before step {self._counted:,}; it is frozen at its last finite parameters"
                )
        return entry

    def _begin_evaluations(self, evaluators: Evaluators, trainer: Trainer) -> None:
        numbers = self._unevaluated()
        if numbers:
            actors = {number: trainer.agent.actor(number) for number in numbers}
            evaluators.begin(self._counted, actors)

    def _take_evaluations(
        self, evaluators: Evaluators, curves: Curves | None = None, *, wait: bool = False
    ) -> None:
        for number, record in evaluators.take(wait=wait):
            self.ledger.evaluations[number].append(record)
            if curves is not None:
                curves.evaluated(number, record)

    def _save(self, state: Mapping[str, Any]) -> None:
        write_checkpoint(self.path, state, self.ledger.model_dump(mode="json"))

    def record(self) -> list[Run]:
        """Writes the run records that are missing and returns all of them."""
        ledger, runs = self.ledger, self.ledger.runs(self.plan)
        if ledger.recorded or not ledger.overwrites:
            self._refuse_overwriting(own=runs)
        for path, run in zip(self._run_paths, runs, strict=True):
            if not (ledger.recorded and path.exists()):
                write_run(run, path)
        if ledger.recorded:
            self.display.say(f"{self.display.title}: already trained, nothing to do")
        else:
            ledger.recorded = True
            tensors, _ = read_checkpoint(self.path)
            self._save(tensors)
        return runs
