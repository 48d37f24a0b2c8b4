"""Rollouts of bundled SAC policies, or of uniform actions, in Gymnasium's locomotion tasks.

D4RL's recipe (Fu et al., 2020, "Gym-MuJoCo") with policies that this suite trained
(:mod:`hetero_bench.recipes.train_locomotion`). Actions are drawn as SAC draws them in training: a
Gaussian, squashed by tanh. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pydantic

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.envs.batch import make_env
from hetero_bench.errors import ManifestError, describe_validation_error
from hetero_bench.recipes.locomotion_policies import RANDOM, UniformActions, policy_path
from hetero_bench.recipes.locomotion_tasks import ENVIRONMENTS
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.shards import run_shards
from hetero_bench.spec import EnvironmentSpec

VERSION = 1


class PolicyParameters(pydantic.BaseModel):
    """Which policy collects.

    Attributes:
        name: Of a bundled policy, or ``random`` for uniform actions.
        sha256: Digest of its weights; none for ``random``.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str = pydantic.Field(pattern=r"^[a-z0-9]+(-[0-9]+)?$")
    sha256: str | None = pydantic.Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @pydantic.model_validator(mode="after")
    def _weights_are_pinned(self) -> PolicyParameters:
        if (self.name == RANDOM) != (self.sha256 is None):
            raise ValueError(f"expected a sha256 for every policy but {RANDOM!r}")
        return self


class Parameters(pydantic.BaseModel):
    """Recipe parameters, as in the manifest; ``shards * envs * steps`` transitions come out.

    Attributes:
        policies: The shards are dealt out evenly among them, in their order.
        shards: Number of independent parts, each with random numbers of its own.
        envs: Environments stepped together in a shard.
        steps: Transitions of each environment, over as many episodes as it takes; the last is
            truncated.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    policies: tuple[PolicyParameters, ...] = pydantic.Field(min_length=1)
    shards: int = pydantic.Field(default=50, ge=1)
    envs: int = pydantic.Field(default=4, ge=1)
    steps: int = pydantic.Field(default=5000, ge=1)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Parameters:
        names = [policy.name for policy in self.policies]
        if RANDOM in names and len(names) > 1:
            raise ValueError(f"{RANDOM!r} has no Gaussians to store; expected it to stand alone")
        if self.shards % len(names):
            raise ValueError(f"{self.shards} shards cannot be dealt out evenly to {len(names)}")
        return self

    def policy_of(self, shard: int) -> PolicyParameters:
        """Returns the policy that collects a shard."""
        return self.policies[shard * len(self.policies) // self.shards]


def build(
    parameters: Mapping[str, Any],
    seed: int,
    *,
    environment: EnvironmentSpec,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    keep: Path | None = None,
) -> EpisodeArrays:
    """Collects a dataset with all cores.

    Args:
        parameters: Fields of :class:`Parameters`.
        seed: Seed of everything random; shard ``k`` uses the sequence of (seed, k).
        environment: One of the four locomotion tasks.
        progress: Called with (shards done, shards in all).
        workers: Processes; see :func:`hetero_bench.shards.run_shards`. Does not change the data.
        keep: Folder for finished shards, so that an interrupted collection goes on.

    Returns:
        Arrays with float32 observations and actions and these extras: ``reset_seeds`` (N,) uint32,
        with which ``env.reset(seed=...)`` gives the state that the row's episode began in;
        and, of a policy with weights, ``behaviour_means`` and ``behaviour_stds`` (N, A) float32 of
        the Gaussian that the action was drawn from before the tanh.

    Raises:
        ManifestError: As :func:`check` does.
        ValueError: If a policy's weights have another digest, or do not fit the environment.
        FileNotFoundError: If weights are missing.
    """
    settings = check(parameters, environment)
    files = {policy.name: str(policy_path(policy.name)) for policy in settings.policies}
    _require_that_policies_fit(settings, files, environment)
    arguments = {
        "parameters": settings.model_dump(),
        "seed": seed,
        "environment": environment.model_dump(),
        "files": files,
    }
    shards = run_shards(
        f"{__name__}:collect_shard",
        arguments,
        settings.shards,
        workers=workers,
        progress=progress,
        keep=keep,
    )
    return _join(shards, settings)


def check(parameters: Mapping[str, Any], environment: EnvironmentSpec) -> Parameters:
    """Parses what :func:`build` is called with.

    Raises:
        ManifestError: If a parameter is unknown or out of range, or it is another environment.
    """
    try:
        settings = Parameters.model_validate(parameters)
    except pydantic.ValidationError as error:
        raise ManifestError(f"recipe.parameters: {describe_validation_error(error)}") from error
    known = [environment_id for environment_id, _ in ENVIRONMENTS.values()]
    if environment.id not in known:
        raise ManifestError(
            f"recipe 'locomotion': environment.id is {environment.id!r}; expected one of "
            f"{', '.join(known)}"
        )
    return settings


def collect_shard(arguments: Mapping[str, Any], shard: int) -> dict[str, np.ndarray]:
    """Collects one shard; a function of its arguments and nothing else.

    Args:
        arguments: As :func:`build` makes them.
        shard: Number of the shard.

    Returns:
        The shard's arrays, rows of one environment after those of another.
    """
    settings = Parameters.model_validate(arguments["parameters"])
    rng = np.random.default_rng(np.random.SeedSequence([arguments["seed"], shard]))
    environment = EnvironmentSpec.model_validate(arguments["environment"])
    envs = [make_env(environment, disable_env_checker=True) for _ in range(settings.envs)]
    policy = _load(settings.policy_of(shard), arguments["files"], envs[0])
    collector = _Collector(policy, envs, rng)
    try:
        return collector.collect(settings.steps)
    finally:
        for env in envs:
            env.close()


_Policy = SquashedGaussianMLP | UniformActions


def _load(policy: PolicyParameters, files: Mapping[str, str], env: gymnasium.Env) -> _Policy:
    assert env.action_space.shape is not None
    if policy.name == RANDOM:
        return UniformActions(*env.action_space.shape)
    return SquashedGaussianMLP.load(Path(files[policy.name]), policy.sha256)


def _require_that_policies_fit(
    settings: Parameters, files: Mapping[str, str], environment: EnvironmentSpec
) -> None:
    env = make_env(environment, disable_env_checker=True)
    expected = (env.observation_space.shape, env.action_space.shape)
    for parameters in settings.policies:
        policy = _load(parameters, files, env)
        if not isinstance(policy, SquashedGaussianMLP):
            continue
        if ((policy.num_inputs,), (policy.num_outputs,)) != expected:
            raise ValueError(
                f"policy {parameters.name!r} takes {policy.num_inputs} numbers and gives "
                f"{policy.num_outputs}; {environment.id} has observations of shape {expected[0]} "
                f"and actions of shape {expected[1]}"
            )
    env.close()


class _Collector:
    """Environments of one shard, each running one episode after the other."""

    def __init__(
        self, policy: _Policy, envs: list[gymnasium.Env], rng: np.random.Generator
    ) -> None:
        self._policy = policy
        self._envs = envs
        self._rng = rng
        self._seeds = np.zeros(len(envs), dtype=np.uint32)
        shape = envs[0].observation_space.shape or ()
        self._observations = np.zeros((len(envs), *shape), dtype=np.float32)

    def collect(self, steps: int) -> dict[str, np.ndarray]:
        """Returns ``steps`` rows per environment and the ends of its episodes."""
        size = len(self._envs)
        columns: list[dict[str, np.ndarray]] = []
        finals: list[tuple[int, int, np.ndarray]] = []
        for index in range(size):
            self._start_episode(index)
        for step in range(steps):
            column = {
                "observations": self._observations.copy(),
                "reset_seeds": self._seeds.copy(),
                **self._draw(),
                "rewards": np.zeros(size, dtype=np.float32),
                **{name: np.zeros(size, bool) for name in ("terminations", "truncations", "cut")},
            }
            columns.append(column)
            for index, env in enumerate(self._envs):
                observation, reward, terminated, truncated, _ = env.step(column["actions"][index])
                cut = step == steps - 1 and not (terminated or truncated)
                column["rewards"][index] = reward
                column["terminations"][index] = terminated
                column["truncations"][index] = (truncated and not terminated) or cut
                column["cut"][index] = cut
                self._observations[index] = observation
                if terminated or truncated or cut:
                    finals.append((index, step, self._observations[index].copy()))
                    self._start_episode(index)
        rows = {}
        for name in columns[0]:
            by_env = np.stack([column[name] for column in columns], axis=1)
            rows[name] = by_env.reshape(-1, *by_env.shape[2:])
        finals.sort(key=lambda final: final[:2])
        return {**rows, "final_observations": np.stack([final[2] for final in finals])}

    def _start_episode(self, index: int) -> None:
        self._seeds[index] = self._rng.integers(2**32, dtype=np.uint32)
        self._observations[index], _ = self._envs[index].reset(seed=int(self._seeds[index]))

    def _draw(self) -> dict[str, np.ndarray]:
        if isinstance(self._policy, UniformActions):
            return {"actions": self._policy(self._observations, self._rng)}
        actions, means, stds = self._policy.draw(self._observations, self._rng)
        return {"actions": actions, "behaviour_means": means, "behaviour_stds": stds}


def _join(shards: list[dict[str, np.ndarray]], settings: Parameters) -> EpisodeArrays:
    """Joins the shards' rows, numbers the episodes and says how good each policy was."""
    joined = {
        name: np.concatenate([shard.pop(name) for shard in shards]) for name in list(shards[0])
    }
    cut = joined.pop("cut")
    ends = joined["terminations"] | joined["truncations"]
    joined["episode_ids"] = np.concatenate([[0], np.cumsum(ends)[:-1]]).astype(np.int32)
    extras = ("reset_seeds", "behaviour_means", "behaviour_stds")
    named = {f"extras.{name}" if name in extras else name: joined[name] for name in joined}
    arrays = EpisodeArrays.from_named(named, {})
    starts = arrays.episode_starts()
    returns = np.add.reduceat(arrays.rewards, starts[:-1], dtype=np.float64)
    policies = np.searchsorted(_first_rows(settings), starts[:-1], side="right") - 1
    arrays.notes["return_of_whole_episodes"] = {
        policy.name: _quality(returns[(policies == index) & ~cut[ends]])
        for index, policy in enumerate(settings.policies)
    }
    arrays.notes["episodes_cut_when_the_collection_ended"] = int(cut.sum())
    return arrays


def _first_rows(settings: Parameters) -> np.ndarray:
    """Returns the first row of each policy's."""
    per_policy = settings.shards // len(settings.policies) * settings.envs * settings.steps
    return per_policy * np.arange(len(settings.policies))


def _quality(returns: np.ndarray) -> dict[str, float]:
    if not len(returns):
        return {"episodes": 0}
    mean, std = round(float(returns.mean()), 1), round(float(returns.std()), 1)
    return {"mean": mean, "std": std, "episodes": len(returns)}
