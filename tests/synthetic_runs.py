"""Run files with known scores, for the tests of grading and reports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hetero_bench.runs import Run, write_run

DATASET = "gridworld-hetero-v0"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_run(
    method: str = "bc",
    dataset: str = DATASET,
    seed: int = 0,
    scores: Sequence[float] = (50.0,),
    *,
    episodes: int = 4,
    random: float = 0.0,
    expert: float = 1.0,
    successes: Sequence[bool] | None = None,
    data: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Run:
    """A run whose evaluations reach these normalised scores, one evaluation per score."""
    evaluations = []
    for index, score in enumerate(scores):
        mean = random + score / 100.0 * (expert - random)
        spread = [0.1 * (expert - random) * (-1) ** k for k in range(episodes)]
        returns = [mean + (0.0 if episodes % 2 else one) for one in spread]
        evaluations.append(
            {
                "step": 1000 * (index + 1),
                "seed": seed,
                "returns": returns,
                "lengths": [10] * episodes,
                "successes": successes,
            }
        )
    size, draw = fields.pop("size", None), fields.pop("draw", None)
    document = {
        "schema": "hetero_bench/run/v1",
        "method": method,
        "config": {"learning_rate": 3e-4},
        "dataset": {
            "id": dataset,
            "size": size,
            "draw": draw,
            "digest": digest(data or f"{dataset} {size} {draw}"),
            "provenance": provenance or {"status": "verified", "source": "build"},
        },
        "reference": {"random": random, "expert": expert},
        "seed": seed,
        "budget": {"steps": 1000 * len(scores), "wall_seconds": 1.0, "device": "cpu"},
        "evaluations": evaluations,
    }
    return Run.model_validate(document | fields)


def save(root: Path, *runs: Run) -> Path:
    """Writes runs to files of their own below ``root`` and returns it."""
    start = len(list(root.rglob("run.json")))
    for index, run in enumerate(runs, start):
        write_run(run, root / f"{index:03d}" / "run.json")
    return root


def save_scores(root: Path, method: str, dataset: str, scores: Sequence[float], **kw: Any) -> Path:
    """Writes one run per score, with seeds 0, 1, ..."""
    runs = [make_run(method, dataset, seed, [score], **kw) for seed, score in enumerate(scores)]
    return save(root, *runs)
