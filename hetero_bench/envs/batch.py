"""Evaluation environments stepped together, each starting and ending on its own.

What :func:`hetero_bench.evaluate` needs is less than a Gymnasium vector environment and one thing
more: finished environments are left alone while the others go on. An environment with a batched
implementation of this suite's is stepped as one, any other as a list.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from hetero_bench.envs.regions import Regions
from hetero_bench.spec import DatasetSpec, EnvironmentSpec


class Steps(NamedTuple):
    """One step of ``n`` environments; entries of those not stepped are undefined.

    Attributes:
        observations: (n, *obs).
        rewards: (n,) float64.
        terminations: (n,) bool.
        truncations: (n,) bool.
        successes: (n,) bool, None where the task has no notion of success.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    successes: np.ndarray | None


class EnvironmentBatch(Protocol):
    """``n`` environments of one kind."""

    action_space: gymnasium.Space
    """The action space of one environment."""
    regions: Regions | None
    """Where episodes can end, ``None`` if the environment does not say."""

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Resets the environments where ``mask`` (n,), with ``seeds`` (n,); (n, *obs)."""
        ...

    def step(self, actions: np.ndarray, mask: np.ndarray) -> Steps:
        """Steps the environments where ``mask`` (n,) with ``actions`` (n, *act)."""
        ...

    def positions(self, mask: np.ndarray) -> np.ndarray:
        """Returns (k, 2) where the ``k`` environments of the mask (n,) are; needs ``regions``."""
        ...

    def close(self) -> None:
        """Frees what the environments hold."""
        ...


class EnvironmentList:
    """Any environment, ``n`` times, stepped one after the other."""

    def __init__(self, environment: EnvironmentSpec, num_envs: int) -> None:
        """Makes the environments."""
        self._envs = [make_env(environment) for _ in range(num_envs)]
        self.action_space = self._envs[0].action_space
        self.regions = _regions(self._envs[0])
        space = self._envs[0].observation_space
        self._observations = np.zeros((num_envs, *(space.shape or ())), dtype=space.dtype)
        self._rewards = np.zeros(num_envs)
        self._terminations = np.zeros(num_envs, dtype=bool)
        self._truncations = np.zeros(num_envs, dtype=bool)
        self._successes: np.ndarray | None = None

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """See :class:`EnvironmentBatch`."""
        for i in np.flatnonzero(mask):
            self._observations[i], _ = self._envs[i].reset(seed=int(seeds[i]))
        return self._observations.copy()

    def step(self, actions: np.ndarray, mask: np.ndarray) -> Steps:
        """See :class:`EnvironmentBatch`."""
        if self._successes is not None:
            self._successes[mask] = False
        for i in np.flatnonzero(mask):
            (
                self._observations[i],
                self._rewards[i],
                self._terminations[i],
                self._truncations[i],
                info,
            ) = self._envs[i].step(actions[i])
            if "success" in info:
                if self._successes is None:
                    self._successes = np.zeros(len(self._envs), dtype=bool)
                self._successes[i] = info["success"]
        return Steps(
            self._observations.copy(),
            self._rewards,
            self._terminations,
            self._truncations,
            self._successes,
        )

    def positions(self, mask: np.ndarray) -> np.ndarray:
        """See :class:`EnvironmentBatch`."""
        inner: list[Any] = [self._envs[i].unwrapped for i in np.flatnonzero(mask)]
        return np.array([env.position for env in inner], dtype=np.float64)

    def close(self) -> None:
        """See :class:`EnvironmentBatch`."""
        for env in self._envs:
            env.close()


class BatchedEnvironment:
    """A Gymnasium vector environment with its own batched implementation."""

    def __init__(self, environment: EnvironmentSpec, num_envs: int) -> None:
        """Makes the vector environment."""
        self._env = make_vec_env(environment, num_envs)
        self.action_space = self._env.single_action_space
        self.regions = _regions(self._env)

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """See :class:`EnvironmentBatch`."""
        observations, _ = self._env.reset(seed=seeds.tolist(), options={"reset_mask": mask})
        return observations

    def step(self, actions: np.ndarray, mask: np.ndarray) -> Steps:
        """See :class:`EnvironmentBatch`; environments outside the mask are stepped to no effect."""
        observations, rewards, terminations, truncations, infos = self._env.step(actions)
        return Steps(observations, rewards, terminations, truncations, infos.get("success"))

    def positions(self, mask: np.ndarray) -> np.ndarray:
        """See :class:`EnvironmentBatch`."""
        inner: Any = self._env.unwrapped
        return inner.positions[mask]

    def close(self) -> None:
        """See :class:`EnvironmentBatch`."""
        self._env.close()


def make_batch(environment: EnvironmentSpec, num_envs: int) -> EnvironmentBatch:
    """Makes ``num_envs`` environments, batched where the environment has an implementation."""
    batched = _is_batched(registered(environment))
    return (BatchedEnvironment if batched else EnvironmentList)(environment, num_envs)


def _regions(env: gymnasium.Env | gymnasium.vector.VectorEnv) -> Regions | None:
    regions = getattr(env.unwrapped, "regions", None)
    return regions if isinstance(regions, Regions) else None


def _is_batched(spec: EnvSpec) -> bool:
    """Whether a batched implementation takes a seed and a reset mask for each environment.

    Those of this suite do; others, as Gymnasium's own CartPole, need not.
    """
    return str(spec.vector_entry_point).startswith("hetero_bench.")


def require_environment(spec: DatasetSpec) -> EnvironmentSpec:
    """Returns the dataset's environment.

    Raises:
        ValueError: If it was registered without one.
    """
    if spec.environment is None:
        raise ValueError(
            f"{spec.id} names no environment to evaluate in; give environment=... when "
            "registering it"
        )
    return spec.environment


def make_env(environment: EnvironmentSpec, **kwargs: Any) -> gymnasium.Env:
    """Makes one environment as the manifest describes it."""
    registered(environment)
    arguments = {**environment.kwargs, "max_episode_steps": environment.max_episode_steps}
    return gymnasium.make(environment.id, **{**arguments, **kwargs})


def make_vec_env(
    environment: EnvironmentSpec, num_envs: int, **kwargs: Any
) -> gymnasium.vector.VectorEnv:
    """Makes environments stepped together, without autoreset (reset with ``reset_mask``)."""
    spec = registered(environment)
    arguments = {**environment.kwargs, "max_episode_steps": environment.max_episode_steps}
    mode = gymnasium.vector.AutoresetMode.DISABLED
    options = (
        {}
        if _is_batched(spec)
        else {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    )
    return gymnasium.make_vec(environment.id, num_envs, **options, **{**arguments, **kwargs})


def registered(environment: EnvironmentSpec) -> EnvSpec:
    """Looks the environment up in Gymnasium.

    Raises:
        ValueError: If it is not registered; the message says which package brings it, if known.
    """
    try:
        return gymnasium.spec(environment.id)
    except gymnasium.error.Error as error:
        raise ValueError(
            f"Gymnasium has no environment {environment.id!r} ({error}); install and import the "
            "package that registers it"
        ) from error
