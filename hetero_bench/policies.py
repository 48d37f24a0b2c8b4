"""What a policy is to this benchmark, and adapters that make one of other things.

A policy is a batched function ``observations (n, *obs) -> actions (n, *act)``. Three optional
things make it more than that:

- a parameter ``rng``: a stochastic policy is called as ``policy(observations, rng=generator)`` and
  draws from that ``numpy.random.Generator`` alone, so that evaluations can be repeated;
- a method ``reset(mask)``: a policy with memory is told which rows (n,) bool start a new episode;
- an attribute ``dataset``: the dataset (or its id) it was trained on, so that ``evaluate(policy)``
  needs no second argument.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import gymnasium
import numpy as np

from hetero_bench.onnx_policy import OnnxPolicy

Policy = Callable[..., np.ndarray]
"""``policy(observations)`` or ``policy(observations, rng=generator)``; see the module."""


@runtime_checkable
class Predictor(Protocol):
    """A Stable-Baselines3 model, or anything with its ``predict``."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Returns actions and the recurrent state."""
        ...


class PredictorPolicy:
    """A Stable-Baselines3 model as a policy, recurrent ones included.

    Args:
        model: The model.
        deterministic: Take the mode of the action distribution. Otherwise the model samples from
            its own global generator, which an evaluation's seed does not reach.
    """

    def __init__(self, model: Predictor, *, deterministic: bool = True) -> None:
        self.model = model
        self.dataset = getattr(model, "dataset", None)
        self.deterministic = deterministic
        self._state: Any = None
        self._starts: np.ndarray | None = None

    def reset(self, mask: np.ndarray) -> None:
        """Marks rows (n,) that begin an episode."""
        if self._starts is None or len(self._starts) != len(mask):
            self._state, self._starts = None, np.ones(len(mask), dtype=bool)
        self._starts |= mask

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Returns (n, *act) actions for (n, *obs) observations."""
        actions, self._state = self.model.predict(
            observations,
            state=self._state,
            episode_start=self._starts,
            deterministic=self.deterministic,
        )
        if self._starts is not None:
            self._starts[:] = False
        return actions


class RandomPolicy:
    """Uniform over the action space: every action, or the box between its bounds.

    Args:
        action_space: ``Discrete``, or a ``Box`` that is bounded on all sides.
    """

    def __init__(self, action_space: gymnasium.Space) -> None:
        self.action_space = action_space

    def __call__(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns (n, *act) random actions."""
        rows, space = len(observations), self.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return rng.integers(space.n, size=rows) + space.start
        if isinstance(space, gymnasium.spaces.Box) and space.is_bounded():
            return rng.uniform(space.low, space.high, (rows, *space.shape)).astype(space.dtype)
        raise ValueError(f"no uniform distribution over {space}; expected Discrete or bounded Box")


def as_policy(policy: Any) -> Policy:
    """Returns what ``evaluate`` can call.

    Args:
        policy: A function, which is returned as it is, a Stable-Baselines3 model, or the path of an
            ``.onnx`` file.

    Raises:
        TypeError: If it is none of these.
        ValueError: If the file is not a policy; see :class:`OnnxPolicy`.
    """
    if isinstance(policy, os.PathLike) or (isinstance(policy, str) and policy.endswith(".onnx")):
        return OnnxPolicy(policy)
    if isinstance(policy, Predictor):
        return PredictorPolicy(policy)
    if callable(policy):
        return cast(Policy, policy)
    raise TypeError(
        f"a policy is a function (n, *obs) -> (n, *act), a Stable-Baselines3 model or the path of "
        f"an ONNX file; got {type(policy).__name__}"
    )


def takes_generator(policy: Policy) -> bool:
    """Whether a policy has a parameter named ``rng``."""
    try:
        return "rng" in inspect.signature(policy).parameters
    except (TypeError, ValueError):
        return False


def find_policy(name: str, action_space: gymnasium.Space) -> Policy:
    """Finds a policy by the name that the command line takes.

    Args:
        name: ``random``, an ``.onnx`` file, or ``package.module:attribute``.
        action_space: For ``random``.

    Raises:
        ValueError: If the name is none of these.
    """
    if name == "random":
        return RandomPolicy(action_space)
    if name.endswith(".onnx"):
        if not Path(name).is_file():
            raise ValueError(f"no file {name}")
        return OnnxPolicy(name)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"{name!r} is no policy; expected random, FILE.onnx or package.module:attribute"
        )
    try:
        return as_policy(getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"could not import the policy {name!r}: {error}") from error
