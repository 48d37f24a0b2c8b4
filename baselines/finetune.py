"""The command ``python -m baselines finetune``: trained runs go on in their environments.

As SPOT's and CAR's papers do (CAR, Section 5.5 and Table 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import hetero_bench
from baselines.engine import trained_runs
from baselines.engine.fine_tuning import FineTuning
from baselines.engine.online import fine_tune
from baselines.engine.trained import TrainedPopulation
from hetero_bench.runs import Run


@dataclass(frozen=True)
class FineTuneArguments:
    """Fine-tune trained runs of SPOT, CAR, CAR-G or IQL in their environments.

    Every member takes one step in its own environment and one update per step, on its dataset and
    what it has collected. Populations that any of the runs belongs to are fine-tuned as a whole.
    Records lie beside those of training, under the method's name with "_online". The same command
    again continues from the last checkpoint, with the result it would have had.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files run.json that training wrote, or folders that are searched for them."""
    steps: int = 1_000_000
    """Steps in the environment, and updates."""
    noise: float = FineTuning.noise
    """Standard deviation of the noise on actions in [-1, 1]."""
    floor: float = FineTuning.floor
    """Factor of the regulariser's weight λ at the end of its decay."""
    decay_share: float = FineTuning.decay_share
    """Share of the steps in which λ decays: 0.2 as CAR's text has it, 0.8 as SPOT's code."""
    discount: float | None = FineTuning.discount
    """γ online; by default that of training, and 0.995 for SPOT and CAR in large mazes."""
    cut_every: int = FineTuning.cut_every
    """Steps between two checkpoints, at which all episodes are cut off."""
    eval_every: int | None = FineTuning.eval_every
    """Steps between two evaluations; by default only the final policy is evaluated."""
    log_every: int = FineTuning.log_every
    """Steps between two points of the training curves."""
    out: Path = Path("runs")
    """Folder for results."""
    device: str = FineTuning.device
    """cpu, or cuda."""
    overwrite: bool = False
    """Replace finished results."""
    register: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Datasets of your own that the runs were trained on, as for train."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Fine-tunes, and shows scores before and after."""
        for path in self.register:
            hetero_bench.register(path)
        tunings = [
            FineTuning(
                population,
                steps=self.steps,
                noise=self.noise,
                floor=self.floor,
                decay_share=self.decay_share,
                discount=self.discount,
                cut_every=self.cut_every,
                eval_every=self.eval_every,
                log_every=self.log_every,
                device=self.device,
            )
            for population in _populations(self.runs)
        ]
        for tuning in tunings:
            runs = fine_tune(tuning, self.out, overwrite=self.overwrite)
            Console().print(score_table(tuning, runs))


def _populations(paths: Iterable[Path]) -> list[TrainedPopulation]:
    """Returns the populations of runs, each once; those that were fine-tuned are passed over.

    Raises:
        ValueError: If all were.
    """
    found = {each.population.path: each.population for each in trained_runs(paths)}
    trained = [each for each in found.values() if each.ledger.fine_tuning is None]
    if not trained:
        raise ValueError("all of these runs have been fine-tuned; give the trained ones")
    return trained


def score_table(tuning: FineTuning, runs: Sequence[Run]) -> Table:
    """Returns a table of scores before and after, with a row per member."""
    title = f"{tuning.title}, {tuning.steps:,} steps in the environment"
    shown = Table(title=title, title_justify="left")
    shown.add_column("member", overflow="fold")
    for name in ("offline", "fine-tuned", "gain"):
        shown.add_column(name, justify="right")
    for member, run in zip(tuning.population.plan.members, runs, strict=True):
        spec = member.dataset.spec
        before, after = (
            float(np.mean(spec.normalized_score(run.evaluations[which].returns)))
            for which in (0, -1)
        )
        shown.add_row(str(member), f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}")
    return shown
