"""A run's score as the protocol has it."""

from __future__ import annotations

from hetero_bench import scoring
from hetero_bench.runs import EvaluationRecord, Run


def final_score(run: Run) -> float:
    """Returns the mean normalised score of the final policy, percent."""
    return evaluation_score(run, run.evaluations[-1])


def evaluation_score(run: Run, evaluation: EvaluationRecord) -> float:
    """Returns the mean normalised score of one of a run's evaluations, percent."""
    reference = run.reference
    scores = scoring.normalized_scores(evaluation.returns, reference.random, reference.expert)
    return float(scores.mean())
