"""Training curves for TensorBoard, as an option: one event folder per member."""

from __future__ import annotations

from pathlib import Path

from baselines.engine.ledger import LogEntry
from baselines.engine.plan import Plan
from hetero_bench.runs import EvaluationRecord


class Curves:
    """Writes metrics and evaluations beside every member's run record.

    Args:
        plan: The population.
        out: Folder for results.
        step: Gradient steps already taken; what an interrupted run wrote after them is dropped.

    Raises:
        ImportError: If tensorboard is not installed.
    """

    def __init__(self, plan: Plan, out: Path, step: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "--tensorboard needs the package tensorboard: pip install 'hetero-bench[baselines]'"
            ) from error
        self._members = plan.members
        self._writers = [
            SummaryWriter(
                str(plan.run_path(out, member).with_name("tensorboard")), purge_step=step + 1
            )
            for member in plan.members
        ]

    def log(self, entry: LogEntry) -> None:
        """Writes one point of every metric; a value that is not finite is left out."""
        for name, values in entry.metrics.items():
            for writer, value in zip(self._writers, values, strict=True):
                if value is not None:
                    writer.add_scalar(f"train/{name}", value, entry.step)

    def evaluated(self, member: int, record: EvaluationRecord) -> None:
        """Writes one evaluation of one member: normalised score and success rate in percent."""
        writer, dataset = self._writers[member], self._members[member].dataset
        score = dataset.spec.normalized_score(record.returns).mean()
        writer.add_scalar("evaluation/score", score, record.step)
        if record.successes is not None:
            success = 100.0 * sum(record.successes) / len(record.successes)
            writer.add_scalar("evaluation/success", success, record.step)

    def close(self) -> None:
        """Writes what is still buffered."""
        for writer in self._writers:
            writer.close()
