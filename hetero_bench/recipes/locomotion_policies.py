"""Policies that locomotion data is collected with: bundled SAC actors, and uniform actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hetero_bench.registry import registry_folder

RANDOM = "random"
"""Name of the policy that draws every action uniformly; it has no weights."""


def policies_folder() -> Path:
    """Returns where the bundled policies and learning curves lie."""
    return registry_folder() / "policies" / "locomotion"


def policy_name(env: str, steps: int) -> str:
    """Returns the name of a task's policy after ``steps`` environment steps."""
    return f"{env}-{steps}"


def policy_path(name: str) -> Path:
    """Returns where the weights of a bundled policy lie."""
    return policies_folder() / f"{name}.safetensors"


@dataclass(frozen=True)
class UniformActions:
    """Actions drawn uniformly between -1 and 1, whatever the observation.

    Attributes:
        num_outputs: Length of an action.
    """

    num_outputs: int

    def __call__(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws actions (n, act) float32 for observations (n, obs)."""
        return rng.uniform(-1.0, 1.0, (len(observations), self.num_outputs)).astype(np.float32)
