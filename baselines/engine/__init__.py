"""The population trainer: members = datasets × hyperparameters × seeds, trained in one process."""

from baselines.engine.dry_run import Estimate, estimate
from baselines.engine.jobs import Job, run_jobs
from baselines.engine.method import (
    Actor,
    Agent,
    Method,
    find_methods,
    get_method,
    list_methods,
    method_forms,
)
from baselines.engine.trained import TrainedRun, trained_actors, trained_runs
from baselines.engine.training import execute, make_plan, train

__all__ = [
    "Actor",
    "Agent",
    "Estimate",
    "Job",
    "Method",
    "TrainedRun",
    "estimate",
    "execute",
    "find_methods",
    "get_method",
    "list_methods",
    "make_plan",
    "method_forms",
    "run_jobs",
    "train",
    "trained_actors",
    "trained_runs",
]
