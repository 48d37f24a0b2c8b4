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

from hetero_bench.errors import PolicyError

_ONNX_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_MOST_NOISE = 2**20

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


class OnnxPolicy:
    """A policy stored as ONNX: input ``observation``, optional input ``noise``, output ``action``.

    ``noise`` is filled with standard normal numbers of the input's shape.

    Args:
        path: The ``.onnx`` file.

    Raises:
        ImportError: If onnxruntime is not installed.
        ValueError: If the file is damaged, or an input or the output has another name, type or
            shape than described.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "evaluating an ONNX policy needs onnxruntime: pip install 'hetero-bench[baselines]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no public base class
            raise ValueError(f"{path} is not a readable ONNX model: {error}") from error
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        outputs = [tensor.name for tensor in self._session.get_outputs()]
        if "observation" not in inputs or set(inputs) - {"observation", "noise"}:
            raise ValueError(
                f"{path} has inputs {sorted(inputs)}; expected observation and optionally noise"
            )
        if "action" not in outputs:
            raise ValueError(f"{path} has outputs {outputs}; expected action")
        for tensor in inputs.values():
            if tensor.type not in _ONNX_FLOATS or isinstance(tensor.shape[0], int):
                raise ValueError(
                    f"{path}: input {tensor.name} is {tensor.type} of shape {tensor.shape}; "
                    f"expected {' or '.join(_ONNX_FLOATS)} with a symbolic first axis"
                )
        self._dtype = _ONNX_FLOATS[inputs["observation"].type]
        self._noise = None
        if "noise" in inputs:
            noise = inputs["noise"]
            sizes = noise.shape[1:]
            if not all(isinstance(size, int) for size in sizes) or np.prod(sizes) > _MOST_NOISE:
                raise ValueError(
                    f"{path}: input noise has shape {noise.shape}; expected fixed sizes after the "
                    f"first axis, at most {_MOST_NOISE} numbers per observation"
                )
            self._noise = (tuple(sizes), _ONNX_FLOATS[noise.type])

    def __call__(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns (n, *act) actions for (n, *obs) observations.

        Raises:
            PolicyError: If the model cannot take these observations.
        """
        feed = {"observation": observations.astype(self._dtype, copy=False)}
        if self._noise is not None:
            sizes, dtype = self._noise
            feed["noise"] = rng.standard_normal((len(observations), *sizes)).astype(dtype)
        try:
            return np.asarray(self._session.run(["action"], feed)[0])
        except Exception as error:  # onnxruntime's own errors share no public base class
            raise PolicyError(
                f"the ONNX policy failed on observations of shape {observations.shape}: {error}"
            ) from error


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
    """Returns what ``evaluate`` can call: a function as it is, a Stable-Baselines3 model adapted.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(policy, Predictor):
        return PredictorPolicy(policy)
    if callable(policy):
        return cast(Policy, policy)
    raise TypeError(
        f"a policy is a function (n, *obs) -> (n, *act) or a Stable-Baselines3 model; got "
        f"{type(policy).__name__}"
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
