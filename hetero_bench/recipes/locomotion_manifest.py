"""What the manifest says about a task's six datasets, as tables to which pins are added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hetero_bench.recipes.locomotion import VERSION
from hetero_bench.recipes.locomotion_policies import RANDOM
from hetero_bench.recipes.locomotion_tasks import ENVIRONMENTS, TaskName, make_task
from hetero_bench.spec import DatasetSpec

POLICY_MADE = ("random", "medium", "medium-expert", "expert")
"""Qualities that the recipe collects with bundled policies."""
REPLAY = ("medium-replay", "full-replay")
"""Qualities that are cut from the replay buffer of a training."""
QUALITIES = ("random", "medium", "medium-replay", "medium-expert", "expert", "full-replay")

DEFAULTS: dict[str, Any] = {
    "version": 0,
    "family": "locomotion",
    "licence": "MIT",
    "citation": (
        'Tasks and qualities after Fu, Kumar, Nachum, Tucker, Levine (2020), "D4RL: Datasets for '
        'Deep Data-Driven Reinforcement Learning"; collected with soft actor-critic (Haarnoja, '
        "Zhou, Abbeel, Levine, 2018) of Stable-Baselines3 (Raffin et al., 2021) in Gymnasium "
        "(Towers et al., 2024)."
    ),
    "subset_seed": 0,
    "rewards": {
        "semantics": (
            "the environment's own: forward speed, less the cost of control and contact, and, "
            "but for HalfCheetah, a bonus while healthy"
        )
    },
    "evaluation_episodes": 100,
}
"""The manifest's defaults."""

_D4RL: dict[str, dict[str, tuple[str, str]]] = {
    "hopper": {
        "expert": ("1M", "1,028"),
        "medium": ("1M", "2,187"),
        "medium-replay": ("402,000", "2,041"),
        "medium-expert": ("1,999,906", "3,214"),
        "full-replay": ("1M", "3,515"),
    },
    "halfcheetah": {
        "expert": ("1M", "1,000"),
        "medium": ("1M", "1,000"),
        "medium-replay": ("202,000", "202"),
        "medium-expert": ("2M", "2,000"),
        "full-replay": ("1M", "1,000"),
    },
    "walker2d": {
        "expert": ("1M", "1,001"),
        "medium": ("1M", "1,191"),
        "medium-replay": ("302,000", "1,093"),
        "medium-expert": ("1,999,995", "2,191"),
        "full-replay": ("1M", "1,888"),
    },
    "ant": {
        "expert": ("1M", "1,035"),
        "medium": ("1M", "1,203"),
        "medium-replay": ("302,000", "485"),
        "medium-expert": ("1,999,946", "2,237"),
        "full-replay": ("1M", "1,319"),
    },
}
"""Transitions and trajectories of D4RL's files, version 2 (C4 paper, Table 15)."""

_ENVIRONMENT_CHANGES = {
    "hopper": "v5 gives no healthy reward for a step that ends unhealthy.",
    "walker2d": (
        "v5 gives no healthy reward for a step that ends unhealthy, and both feet have friction "
        "1.9, where v2's right foot had 0.9."
    ),
    "halfcheetah": "v5's version history lists no change of model or reward.",
    "ant": (
        "v5 gives no healthy reward for a step that ends unhealthy and always subtracts the "
        "contact cost; observations have 27 numbers, where v2's had 84 more that were zero."
    ),
}
"""Gymnasium's version histories of the environments."""

_POLICY_CHANGES = {
    "random": "Actions here are uniform; D4RL unrolled a randomly initialised policy.",
    "medium": (
        "Both are early SAC policies that act stochastically; here at about a third of the "
        "expert's return."
    ),
    "medium-replay": (
        "Both are the training buffer up to the medium policy; the first 10,000 transitions here "
        "have uniform actions."
    ),
    "medium-expert": (
        "D4RL joined its medium and expert files to 2M transitions; here both policies collected "
        "500,000 transitions of their own."
    ),
    "expert": "Both are final SAC policies that act stochastically.",
    "full-replay": (
        "Both are the whole training buffer; the first 10,000 transitions here have uniform "
        "actions."
    ),
}


@dataclass(frozen=True)
class BehaviourPolicy:
    """A bundled policy.

    Attributes:
        name: Of its file.
        sha256: Of its file.
    """

    name: str
    sha256: str


def to_spec(name: str, table: Mapping[str, Any]) -> DatasetSpec:
    """Returns a table of the manifest as a specification."""
    return DatasetSpec.model_validate({**DEFAULTS, "name": name, **table})


def dataset_name(env: str, quality: str) -> str:
    """Returns the name of a whole dataset."""
    return f"{env}-{quality}-hb"


@cache
def task_table(env: TaskName) -> dict[str, Any]:
    """Returns what all datasets of a task have in common."""
    environment_id, kwargs = ENVIRONMENTS[env]
    task = make_task(env)
    assert task.spec is not None
    table = {
        "environment": {
            "id": environment_id,
            **({"kwargs": kwargs} if kwargs else {}),
            "max_episode_steps": task.spec.max_episode_steps,
        },
        "observation": {"shape": list(task.observation_space.shape or ()), "dtype": "float32"},
        "action": {
            "shape": list(task.action_space.shape or ()),
            "dtype": "float32",
            "low": -1.0,
            "high": 1.0,
        },
    }
    task.close()
    return table


def whole_table(
    env: TaskName,
    quality: str,
    policies: Mapping[str, BehaviourPolicy],
    transitions: int,
    bundled: list[str],
    collection: Mapping[str, int],
) -> dict[str, Any]:
    """Returns the table of a whole dataset, without pins, reference and measurements.

    Args:
        env: The task.
        quality: One of ``QUALITIES``.
        policies: ``medium`` and ``expert``.
        transitions: How many it has, if it is cut from a replay buffer.
        bundled: What is bundled of it, in words.
        collection: Recipe parameters besides the policies.
    """
    environment_id = ENVIRONMENTS[env][0]
    table: dict[str, Any] = {
        "summary": _SUMMARIES[quality].format(environment=environment_id, transitions=transitions),
        **task_table(env),
    }
    if quality in REPLAY:
        reason = (
            "It is cut from the replay buffer of a training, which is too large to come with the "
            "package and cannot be collected again; there is " + " and ".join(bundled)
        )
        table["sources"] = [{"kind": "bundled", "reason": reason}]
    else:
        table["sources"] = [{"kind": "build"}]
        table["recipe"] = {
            "name": "locomotion",
            "version": VERSION,
            "seed": 10 * list(ENVIRONMENTS).index(env) + QUALITIES.index(quality),
            "parameters": {**_policy_parameters(quality, policies), **collection},
        }
    table["differences"] = _differences(env, quality)
    return table


def subset_table(env: TaskName, quality: str, size: int, parent: Mapping[str, Any]) -> dict:
    """Returns the table of a subset, without pins and reference.

    Args:
        env: The task.
        quality: One of ``QUALITIES``.
        size: Transitions.
        parent: The parent's table.
    """
    name = dataset_name(env, quality)
    drawn = [{"kind": "bundled"}, {"kind": "subset"}]
    return {
        "summary": f"{size:,} transitions of {name}, whole trajectories.",
        **task_table(env),
        "transitions": size,
        "sources": parent["sources"] if quality in REPLAY else drawn,
        "subset": {"parent": name, "size": size},
    }


_SUMMARIES = {
    "random": "Uniform actions in {environment}.",
    "medium": "A SAC policy with about a third of the expert's return, in {environment}.",
    "medium-replay": (
        "The training buffer of SAC in {environment} up to the medium policy: {transitions:,} "
        "transitions. Subsets are bundled, the whole is not."
    ),
    "medium-expert": "Half the medium and half the expert policy, in {environment}.",
    "expert": "The final SAC policy in {environment}, stochastic as SAC collects.",
    "full-replay": (
        "The whole training buffer of SAC in {environment}: {transitions:,} transitions. Its 10k "
        "subset is bundled, the whole is not."
    ),
}


def _policy_parameters(
    quality: str, policies: Mapping[str, BehaviourPolicy]
) -> dict[str, list[dict[str, str]]]:
    if quality == "random":
        return {"policies": [{"name": RANDOM}]}
    used = [policies[part] for part in quality.split("-")]
    return {"policies": [{"name": each.name, "sha256": each.sha256} for each in used]}


def _differences(env: TaskName, quality: str) -> str:
    version = ENVIRONMENTS[env][0].removesuffix("-v5")
    counts = _D4RL[env].get(quality)
    original = f"D4RL's {env}-{quality} (version 2)" + (
        f" has {counts[0]} transitions in {counts[1]} trajectories" if counts else ""
    )
    return (
        f"{original}{' and ' if counts else ' '}was collected in gym's {version}-v2; this one is "
        f"not that data. It was collected anew, with Stable-Baselines3's SAC in Gymnasium's "
        f"{version}-v5. {_ENVIRONMENT_CHANGES[env]} {_POLICY_CHANGES[quality]} Scores are not "
        "comparable with D4RL's: they refer to the policies of this suite."
    )
