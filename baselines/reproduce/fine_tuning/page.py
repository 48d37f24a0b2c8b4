"""Writes the page: offline and fine-tuned scores of every run, and what they say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baselines.engine import get_method
from baselines.engine.ledger import FINE_TUNED
from baselines.reproduce.comparable import unlike
from baselines.reproduce.scores import evaluation_score
from baselines.reproduce.templates import fill_template
from baselines.reproduce.verdicts import FEWEST_PAIRS, Verdict, more_in_pairs
from hetero_bench.atomic import write_file
from hetero_bench.bootstrap import Interval
from hetero_bench.formatting import estimate, mean_and_std
from hetero_bench.runs import Run, RunCollection, write_run

TEMPLATE = Path(__file__).with_name("page.md.jinja")
VALUES = "runs.json"


@dataclass(frozen=True)
class Gain:
    """What fine-tuning added to a method.

    Attributes:
        title: The method's.
        dataset: Canonical id.
        offline: (R,) scores of its runs before, percent, in the order of draws and seeds.
        tuned: (R,) scores of the same runs after.
        steps: Steps in the environment.
        gain: Mean difference, with Student's interval, percentage points.
        diverged: Runs that diverged; scored by their last finite policies.
        verdict: Whether it is held that there is a gain.
    """

    title: str
    dataset: str
    offline: np.ndarray
    tuned: np.ndarray
    steps: int
    gain: Interval
    diverged: int
    verdict: Verdict


def write_page(runs: Sequence[Run], page: Path) -> list[Path]:
    """Writes the page and every run; returns the files written.

    Args:
        runs: Fine-tuned runs.
        page: The page.
    """
    collection = RunCollection(runs=[run.model_copy(update={"metrics": {}}) for run in runs])
    text = render(runs, page.stem)
    values = write_run(collection, page.with_suffix("") / VALUES)
    return [values, write_file(page, text)]


def render(runs: Sequence[Run], folder: str) -> str:
    """Returns the page's Markdown; the runs' file lies in ``folder`` beside it."""
    found = gains(runs)
    return fill_template(
        TEMPLATE,
        rows=[
            (
                each.title,
                len(each.tuned),
                mean_and_std(each.offline),
                mean_and_std(each.tuned),
                estimate(each.gain),
                each.diverged,
                each.verdict,
            )
            for each in found
        ],
        dataset=found[0].dataset,
        steps=found[0].steps,
        offline_steps=runs[0].evaluations[0].step,
        episodes=len(runs[0].evaluations[-1].returns),
        fewest=FEWEST_PAIRS,
        folder=folder,
        values=VALUES,
    )


def gains(runs: Sequence[Run]) -> list[Gain]:
    """Returns what fine-tuning added to each method, from runs that begin with the offline policy.

    Args:
        runs: Fine-tuned runs of methods on one dataset.

    Raises:
        ValueError: If there are none, or they differ in dataset, steps or episodes, or methods in
            what those that are compared have to share.
    """
    kinds = {
        (run.dataset.id, first.step, last.step, len(last.returns))
        for run in runs
        for first, last in [(run.evaluations[0], run.evaluations[-1])]
    }
    if len(kinds) != 1:
        raise ValueError(
            f"runs of {sorted(kinds)} (dataset, offline steps, all steps, episodes); expected runs "
            "of one kind"
        )
    ((dataset, before, after, _),) = kinds
    by_method: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.dataset.draw or 0, run.seed)):
        by_method[run.method].append(run)
    name_of_first, first_runs = next(iter(by_method.items()))
    found = []
    for name, several in by_method.items():
        difference = unlike(first_runs, several)
        if difference is not None:
            raise ValueError(f"runs of {name_of_first} and {name} differ in {difference}")
        offline, tuned = (
            np.array([evaluation_score(run, run.evaluations[which]) for run in several])
            for which in (0, -1)
        )
        gain, verdict = more_in_pairs(tuned, offline)
        found.append(
            Gain(
                title=get_method(name.removesuffix(FINE_TUNED), "continuous").title,
                dataset=dataset,
                offline=offline,
                tuned=tuned,
                steps=after - before,
                gain=gain,
                diverged=sum(run.status == "diverged" for run in several),
                verdict=verdict,
            )
        )
    return found
