"""Measures the returns that score 0 and 100 in a locomotion task, over 1,000 episodes each.

    python -m hetero_bench.recipes.measure_locomotion --env hopper --steps 1000000

writes every episode's return to ``registry/policies/locomotion/hopper-references.json``: of uniform
actions, and of the bundled policy after that many steps, stochastic as it collects. The protocol is
that of :func:`hetero_bench.evaluate`. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from hetero_bench.atomic import write_file
from hetero_bench.evaluation import evaluate
from hetero_bench.policies import Policy
from hetero_bench.recipes.locomotion_manifest import dataset_name, to_spec, whole_table
from hetero_bench.recipes.locomotion_policies import (
    UniformActions,
    policies_folder,
    policy_name,
    policy_path,
)
from hetero_bench.recipes.locomotion_tasks import TaskName
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP

SEED = 0
_NORMAL_QUANTILE = 1.959964
"""Of the standard normal distribution at 97.5%."""


def references_path(env: str) -> Path:
    """Returns where a task's measured returns lie."""
    return policies_folder() / f"{env}-references.json"


def measure(env: TaskName, steps: int, episodes: int = 1000) -> Path:
    """Runs uniform actions and a bundled policy, and writes their returns.

    Args:
        env: The task.
        steps: Environment steps after which the policy was saved.
        episodes: Episodes of each.

    Returns:
        The file written.
    """
    expert = policy_name(env, steps)
    table = whole_table(env, "random", {}, 0, [], {})
    spec = to_spec(dataset_name(env, "random"), table)
    policies: dict[str, Policy] = {
        "random": UniformActions(*table["action"]["shape"]),
        "expert": SquashedGaussianMLP.load(policy_path(expert)),
    }
    results = {
        name: evaluate(policy, spec, episodes=episodes, seed=SEED)
        for name, policy in policies.items()
    }
    document: dict[str, Any] = {
        "expert": expert,
        "sha256": hashlib.sha256(policy_path(expert).read_bytes()).hexdigest(),
        "seed": SEED,
        "returns": {name: result.returns.round(3).tolist() for name, result in results.items()},
        "lengths": {name: result.lengths.tolist() for name, result in results.items()},
    }
    return write_file(references_path(env), json.dumps(document) + "\n")


def read_reference(env: str, expert_sha256: str) -> dict[str, Any]:
    """Returns a manifest's reference table from what :func:`measure` wrote.

    Args:
        env: The task.
        expert_sha256: Digest of the weights that must have been measured.

    Raises:
        ValueError: If nothing was measured yet, or another policy.
    """
    path = references_path(env)
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if document.get("sha256") != expert_sha256:
        raise ValueError(
            f"{path} holds no returns of the policy with sha256 {expert_sha256}; measure them with "
            "python -m hetero_bench.recipes.measure_locomotion"
        )
    estimates = {
        name: _mean_and_interval(np.array(returns)) for name, returns in document["returns"].items()
    }
    texts = [f"{name} {mean:.1f} ± {half:.1f}" for name, (mean, half) in estimates.items()]
    episodes = len(document["returns"]["expert"])
    return {
        **{name: round(mean, 2) for name, (mean, _) in estimates.items()},
        "source": (
            f"mean return over {episodes:,} episodes with 95% intervals: {', '.join(texts)}; "
            f"uniform actions, and the bundled policy {document['expert']}, stochastic as it "
            f"collects, by hetero_bench.evaluate with seed {document['seed']}"
        ),
    }


def _mean_and_interval(returns: np.ndarray) -> tuple[float, float]:
    """Returns the mean and half the width of its normal 95% confidence interval."""
    error = returns.std(ddof=1) / np.sqrt(len(returns))
    return float(returns.mean()), float(_NORMAL_QUANTILE * error)


if __name__ == "__main__":
    import tyro

    print(tyro.cli(measure))
