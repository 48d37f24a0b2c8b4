"""Writes the page: offline and fine-tuned scores of every run, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from baselines.engine import get_method
from baselines.engine.ledger import FINE_TUNED
from baselines.reproduce.templates import fill_template
from baselines.reproduce.verdicts import Verdict, decide
from baselines.reproduce.welch import contrast
from hetero_bench import scoring
from hetero_bench.atomic import write_file
from hetero_bench.bootstrap import Interval, enough_runs
from hetero_bench.formatting import estimate, plus_minus
from hetero_bench.runs import EvaluationRecord, Run, RunCollection, write_run

TEMPLATE = Path(__file__).with_name("page.md.jinja")
VALUES = "runs.json"


@dataclass(frozen=True)
class Gain:
    """What fine-tuning added to a method.

    Attributes:
        title: The method's.
        offline: (R,) scores of its runs before, percent.
        tuned: (R,) scores after.
        steps: Steps in the environment.
        gain: Of the mean score, with Welch's interval over runs, percentage points.
        verdict: Whether it is held that there is a gain.
    """

    title: str
    offline: np.ndarray
    tuned: np.ndarray
    steps: int
    gain: Interval
    verdict: Verdict


def write_page(runs: Sequence[Run], page: Path) -> list[Path]:
    """Writes the page and every run; returns the files written.

    Args:
        runs: Fine-tuned runs, those of a method together.
        page: The page.
    """
    collection = RunCollection(runs=[run.model_copy(update={"metrics": {}}) for run in runs])
    values = write_run(collection, page.with_suffix("") / VALUES)
    return [values, write_file(page, render(runs, values.parent.name))]


def render(runs: Sequence[Run], folder: str) -> str:
    """Returns the page's Markdown; the runs' file lies in ``folder`` beside it."""
    found = gains(runs)
    return fill_template(
        TEMPLATE,
        rows=[
            (
                each.title,
                plus_minus(float(each.offline.mean()), float(each.offline.std(ddof=1))),
                plus_minus(float(each.tuned.mean()), float(each.tuned.std(ddof=1))),
                estimate(each.gain),
                each.verdict,
            )
            for each in found
        ],
        dataset=runs[0].dataset.id,
        steps=found[0].steps,
        offline_steps=runs[0].evaluations[0].step,
        seeds=len(found[0].offline),
        folder=folder,
        values=VALUES,
    )


def gains(runs: Sequence[Run]) -> list[Gain]:
    """Returns what fine-tuning added to each method, from runs that begin with the offline policy.

    Args:
        runs: Fine-tuned runs, those of a method together.
    """
    found = []
    for name, of_method in groupby(runs, lambda run: run.method):
        several = list(of_method)
        offline, tuned = (
            np.array([_score(run, run.evaluations[which]) for run in several]) for which in (0, -1)
        )
        gain = contrast([[tuned]], [[offline]])
        found.append(
            Gain(
                title=get_method(name.removesuffix(FINE_TUNED), "continuous").title,
                offline=offline,
                tuned=tuned,
                steps=several[0].evaluations[-1].step - several[0].evaluations[0].step,
                gain=gain,
                verdict=decide("more", gain, enough=enough_runs([tuned], [offline])),
            )
        )
    return found


def _score(run: Run, evaluation: EvaluationRecord) -> float:
    reference = run.reference
    scores = scoring.normalized_scores(evaluation.returns, reference.random, reference.expert)
    return float(scores.mean())
