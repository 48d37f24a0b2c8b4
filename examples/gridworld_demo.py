"""The whole path in one go: load, train, evaluate, grade, and look at it.

    python examples/gridworld_demo.py        (or: make demo)

Trains each method with ten seeds as one population on ``gridworld-hetero``, whose rooms drive the
agent away from their exits and whose hallways have to be followed exactly, and writes
``runs/demo/report.html``. A method that fails on this maze is shown failing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import hetero_bench
from baselines.engine import Actor, Job, run_jobs, trained_actors
from baselines.gridworld import Maze
from baselines.table import TIERS
from hetero_bench.heteroskedasticity import tabular_behaviour
from hetero_bench.maze_plotting import behaviour_map, visitation_map
from hetero_bench.plotting import to_png
from hetero_bench.report import Figure, Section

METHODS = ("reds", "cql", "awr", "bc")
"""Longest first, so that the workers end together."""
VISITATION_WIDTH = 450
"""Two pictures side by side on the report's page, CSS pixels."""


@dataclass(frozen=True)
class Demo:
    """Trains the discrete methods on a gridworld dataset and writes a report."""

    dataset: str = "gridworld-hetero"
    """Any gridworld dataset."""
    seeds: int = 10
    """Seeds per method."""
    out: Path = Path("runs/demo")
    """Folder for results; the same call again resumes, or reuses what is there."""
    overwrite: bool = False
    """Train again, replacing results in the folder."""

    def run(self) -> None:
        """Loads, trains, grades, and writes the report."""
        started = time.perf_counter()
        dataset = hetero_bench.load(self.dataset)
        print(dataset)
        maze = Maze.of(dataset)
        cells = TIERS["gridworld"].cells
        steps = {method: each.steps for each in cells for method in each.methods}
        jobs = [
            Job(
                method=method,
                configs=None,
                datasets=((dataset.id, dataset.draw),),
                seeds=tuple(range(self.seeds)),
                steps=steps[method],
                out=self.out,
            )
            for method in METHODS
        ]
        run_jobs(jobs, overwrite=self.overwrite)
        plans = [job.plan() for job in reversed(jobs)]
        visitation = [
            visitation_figure(plan.method.title, maze, trained_actors(plan, self.out))
            for plan in plans
        ]
        grade = hetero_bench.grade(self.out)
        sections = [
            settings_section(),
            behaviour_section(maze, dataset),
            visitation_section(visitation),
        ]
        report = grade.to_html(self.out / "report.html", sections=sections)
        print(grade.to_text())
        print(f"{time.perf_counter() - started:.0f} s. Report: {report}")


def visitation_figure(title: str, maze: Maze, actors: Sequence[Actor]) -> Figure:
    """Draws where a method's policies go, exactly: the mean over seeds of their occupancy."""
    followed = maze.visitation(maze.action_probabilities(actors))
    low, mean, high = (f"{each(followed.successes):.0%}" for each in (np.min, np.mean, np.max))
    share = f"{mean} of episodes reach the goal ({low} to {high} by seed)"
    return Figure(
        caption=f"{title}: {share}.",
        alt=f"Map of the maze coloured by how often {title}'s policies visit each cell. {share}.",
        image=to_png(visitation_map(maze.model.layout, followed.occupancy, title)),
        width=VISITATION_WIDTH,
    )


def settings_section() -> Section:
    """Says how the hyperparameters came about."""
    return Section(
        title="Settings",
        text="Every method runs with the defaults of its Config, which are the settings that the "
        "sweep on this dataset chose by its evaluations (docs/results/gridworld.md): the best that "
        "each method can do here, chosen with the environment at hand.",
    )


def visitation_section(figures: Sequence[Figure]) -> Section:
    """Puts the methods' pictures side by side, as in the ReDS paper's Figures 1 and 7."""
    return Section(
        title="State visitation",
        text="Share of the time that each method's policies spend in each cell within 300 steps, "
        "computed exactly from the trained policies and the maze's model, mean over seeds. Start "
        "green, goal black. A policy that is stuck stays dark in one room.",
        figures=tuple(figures),
    )


def behaviour_section(maze: Maze, dataset: hetero_bench.Dataset) -> Section:
    """Shows the behaviour policy that the data was collected with."""
    probabilities, _, _ = tabular_behaviour(dataset)
    measured = hetero_bench.heteroskedasticity(dataset)
    return Section(
        title="The behaviour policy",
        text=f"{dataset.spec.summary}\n\n{len(dataset):,} transitions in "
        f"{dataset.arrays.num_episodes:,} episodes. Differential concentrability (ReDS, Eq. 4) "
        f"of the optimal policy: {measured.c_diff:,.0f}; standard deviation and maximum of "
        f"D(π, β)(s) over the data: {measured.std:.1f} and {measured.maximum:.1f}.",
        figures=(
            Figure(
                caption="An arm per action, as long as the root of its probability; colour is "
                "entropy.",
                alt="Map of the maze with the behaviour policy's actions in every cell: one arm "
                "in hallways, and in rooms a long arm away from the exit and short ones.",
                image=to_png(behaviour_map(maze.model.layout, probabilities)),
            ),
        ),
    )


if __name__ == "__main__":
    tyro.cli(Demo).run()
