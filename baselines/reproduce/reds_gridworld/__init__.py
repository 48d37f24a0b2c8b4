"""``python -m baselines reproduce reds-gridworld``: the gridworld of the ReDS paper.

Singh, Kumar, Vuong, Chebotar and Levine, "ReDS: Offline RL With Heteroskedastic Datasets via
Support Constraints", NeurIPS 2023, Section 3.1, Figures 1, 2 and 6 to 8, Appendix B. Trains BC,
AWR, CQL and CQL (ReDS) over their hyperparameters, solves their exact tabular counterparts, and
writes what held and what did not as a page with figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from baselines.engine import Job, estimate, run_jobs
from baselines.reproduce.reds_gridworld import sweep
from baselines.reproduce.reds_gridworld.findings import analyse
from baselines.reproduce.reds_gridworld.page import write_page


@dataclass(frozen=True)
class Reproduction:
    """Reproduce the gridworld of the ReDS paper: train the sweep, analyse it, write the page.

    The same command again continues, and takes no time for what is trained.
    """

    out: Path = Path("runs/reds-gridworld")
    """Folder of checkpoints and run records."""
    seeds: int = len(sweep.SEEDS)
    """Seeds per setting; 0, 1, ..."""
    workers: int | None = None
    """Worker processes; by default one per processor."""
    page: Path = Path("docs/results/gridworld.md")
    """The page to write; its figures go into a folder of its name."""
    overwrite: bool = False
    """Train again, replacing finished results."""
    dry_run: bool = False
    """Only say what would be trained and how long it would take."""

    def run(self) -> None:
        """Runs the reproduction.

        Raises:
            ValueError: If there are fewer than two seeds.
        """
        if self.seeds < 2:
            raise ValueError(f"seeds is {self.seeds}; expected at least 2, for intervals")
        arms, seeds = sweep.arms(), tuple(range(self.seeds))
        jobs = [job for arm in arms for job in arm.jobs(self.out, seeds)]
        if self.dry_run:
            show_cost(jobs)
            return
        run_jobs(jobs, workers=self.workers, overwrite=self.overwrite)
        for path in write_page(analyse(self.out, arms, seeds), self.page):
            print(path)


def show_cost(jobs: list[Job]) -> None:
    """Prints the populations with the time that each would take, from a few updates of each."""
    table = Table("population", "members", "steps", "minutes on one core")
    minutes = 0.0
    for job in jobs:
        cost = estimate(job.plan(), seconds=0.5)
        minutes += cost.training_seconds / 60.0
        name = f"{job.out.parent.name}/{job.out.name}"
        steps, expected = f"{job.steps:,}", f"{cost.training_seconds / 60.0:.1f}"
        table.add_row(name, str(job.members), steps, expected)
    Console().print(table)
    members = sum(job.members for job in jobs)
    print(
        f"{len(jobs)} populations, {members} members, {minutes:.0f} minutes on one core without "
        "evaluations"
    )
