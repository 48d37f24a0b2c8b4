"""The whole path in one go: load, train, evaluate, grade, and look at it.

    python examples/gridworld_demo.py        (or: make demo)

Trains each method with ten seeds as one population on ``gridworld-hetero``, whose rooms drive the
agent away from their exits and whose hallways have to be followed exactly, and writes
``runs/demo/report.html``. A method that fails on this maze is shown failing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

import hetero_bench
from baselines.engine import make_plan, train, trained_actors
from hetero_bench import maze_plotting
from hetero_bench.envs.gridworld_model import GridworldModel, gridworld_model
from hetero_bench.plotting import to_png
from hetero_bench.recipes.gridworld import behaviour_probabilities
from hetero_bench.report import Figure, Section

METHODS = {"bc": 2_000, "cql": 8_000}
"""Methods of the demo and their gradient steps."""


@dataclass(frozen=True)
class Demo:
    """Trains BC and CQL on gridworld-hetero and writes a report."""

    dataset: str = "gridworld-hetero"
    """Any gridworld dataset."""
    seeds: int = 10
    """Seeds per method."""
    out: Path = Path("runs/demo")
    """Folder for results; the same call resumes or reuses what is there."""

    def run(self) -> None:
        """Loads, trains, grades and writes the report."""
        started = time.perf_counter()
        torch.set_num_threads(torch.get_num_threads())
        dataset = hetero_bench.load(self.dataset)
        print(dataset)

        model = gridworld_model(**dataset.spec.environment.kwargs)
        pictures = []
        for method, steps in METHODS.items():
            plan = make_plan(method, [dataset], range(self.seeds), steps=steps)
            train_quietly(plan, self.out)
            policies = [
                actor.probabilities(torch.from_numpy(model.features)).numpy()
                for actor in trained_actors(plan, self.out)
            ]
            pictures.append(visitation_picture(plan.method.title, model, policies, dataset))

        grade = hetero_bench.grade(self.out)
        report = grade.to_html(
            self.out / "report.html",
            sections=[behaviour_section(model, dataset), visitation_section(pictures)],
        )
        print(grade.to_text())
        print(f"{time.perf_counter() - started:.0f} s. Report: {report}")


if __name__ == "__main__":
    tyro.cli(Demo).run()
