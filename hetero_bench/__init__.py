"""Offline reinforcement learning on small and heteroskedastic data.

import hetero_bench

dataset = hetero_bench.load("gridworld-hetero")
result = hetero_bench.evaluate(policy, dataset)
grade = hetero_bench.grade(["runs/"])
"""

from hetero_bench import envs as _envs
from hetero_bench.dataset import Dataset, Episode, Transitions
from hetero_bench.errors import (
    DigestError,
    ManifestError,
    PolicyError,
    SizeError,
    SourceError,
    UnknownDatasetError,
)
from hetero_bench.evaluation import Evaluation, evaluate
from hetero_bench.grading import Grade, grade
from hetero_bench.heteroskedasticity import Heteroskedasticity, heteroskedasticity
from hetero_bench.importing import register
from hetero_bench.loading import load
from hetero_bench.provenance import Provenance
from hetero_bench.registry import get_spec, list_datasets, normalized_score
from hetero_bench.runs import Run, read_runs, write_run
from hetero_bench.spec import DatasetSpec

__version__ = "0.1.0"

_envs.register_environments()

__all__ = [
    "load",
    "list_datasets",
    "get_spec",
    "register",
    "evaluate",
    "grade",
    "normalized_score",
    "heteroskedasticity",
    "Dataset",
    "DatasetSpec",
    "Episode",
    "Evaluation",
    "Grade",
    "Heteroskedasticity",
    "Provenance",
    "Run",
    "Transitions",
    "read_runs",
    "write_run",
    "DigestError",
    "ManifestError",
    "PolicyError",
    "SizeError",
    "SourceError",
    "UnknownDatasetError",
]
