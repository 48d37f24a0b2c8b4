"""``python -m baselines reproduce fine-tuning``: what steps in the environment add (CAR, Table 5).

Trains the methods that can be fine-tuned as the CPU tier does, goes on with them in their
environments, and writes a page with offline and fine-tuned scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from baselines.engine import Job, execute, trained_runs
from baselines.engine.fine_tuning import FineTuning, check_online
from baselines.engine.online import fine_tune
from baselines.reproduce.fine_tuning.page import write_page
from baselines.table import cells_of, jobs_of
from baselines.tiers import TIERS
from hetero_bench.runs import Run

TIER = "cpu"
"""Whose budget the offline training has."""


@dataclass(frozen=True)
class Reproduction:
    """Fine-tune SPOT, CAR and IQL in their environment, and say what it added.

    The same command again continues, and only writes the page when all is done.
    """

    dataset: str = "halfcheetah-medium-replay-hb-10k"
    """Dataset id; one that the CPU tier has for these methods."""
    methods: tuple[str, ...] = ("iql", "spot", "car")
    """Methods."""
    steps: int = 10_000
    """Steps in the environment, and updates."""
    work: Path = Path("runs/table/cpu")
    """Folder of populations that the CPU tier has trained; what is missing is trained there."""
    out: Path = Path("runs/fine-tuning")
    """Folder of the fine-tuned runs."""
    page: Path = Path("docs/results/fine-tuning.md")
    """The page to write; its values go into a folder of its name."""
    overwrite: bool = False
    """Train and fine-tune again what is finished, and replace other results."""

    def run(self) -> None:
        """Runs the reproduction.

        Raises:
            ValueError: If there are no steps, the tier does not have a method on the dataset, or
                one cannot be fine-tuned.
        """
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        tier = TIERS[TIER]
        cells = {each: list(cells_of(tier, [each], [self.dataset])) for each in self.methods}
        for method, found in cells.items():
            if not found:
                raise ValueError(
                    f"the tier {TIER} has no cell of {method} on {self.dataset}; choose another "
                    "--dataset or other --methods"
                )
            check_online(found[0].method)
        jobs = [
            job
            for found in cells.values()
            for job in jobs_of(found, tier.population, out=self.work, precision=tier.precision)
        ]
        runs = [run for job in jobs for run in self._fine_tuned(job)]
        for path in write_page(runs, self.page):
            print(path)

    def _fine_tuned(self, job: Job) -> list[Run]:
        """Returns a population's fine-tuned runs."""
        plan = job.plan()
        execute(plan, self.work, overwrite=self.overwrite)
        (trained,) = trained_runs([plan.run_path(self.work, plan.members[0])])
        tuning = FineTuning(trained.population, steps=self.steps)
        return fine_tune(tuning, self.out, overwrite=self.overwrite)
