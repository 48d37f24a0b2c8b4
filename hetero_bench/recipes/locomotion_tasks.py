"""The four locomotion environments and what SAC is trained with in each."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium

TaskName = Literal["hopper", "walker2d", "halfcheetah", "ant"]

ENVIRONMENTS: dict[TaskName, tuple[str, dict[str, Any]]] = {
    "hopper": ("Hopper-v5", {}),
    "walker2d": ("Walker2d-v5", {}),
    "halfcheetah": ("HalfCheetah-v5", {}),
    # Without contact forces, as D4RL's ant; unhealthy states terminate, as in v5.
    "ant": ("Ant-v5", {"include_cfrc_ext_in_observation": False}),
}
"""Gymnasium id and keyword arguments of each; all have actions between -1 and 1."""


def make_task(name: TaskName) -> gymnasium.Env:
    """Makes one environment, with its time limit of 1,000 steps."""
    environment_id, kwargs = ENVIRONMENTS[name]
    return gymnasium.make(environment_id, disable_env_checker=True, **kwargs)
