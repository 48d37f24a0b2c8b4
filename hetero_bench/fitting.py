"""Whether a user's data fits the environment it is to be evaluated in."""

from __future__ import annotations

import gymnasium

from hetero_bench.envs.batch import make_env, registered
from hetero_bench.errors import SourceError
from hetero_bench.sources.minari import array_spec
from hetero_bench.spec import ArraySpec, EnvironmentSpec


def time_limit(environment: str) -> int:
    """Returns the time limit that an environment is registered with, in steps.

    Raises:
        ValueError: If there is no such environment, or it has no limit.
    """
    limit = registered(EnvironmentSpec(id=environment, max_episode_steps=1)).max_episode_steps
    if limit is None:
        raise ValueError(f"{environment} has no time limit of its own; give max_episode_steps")
    return limit


def fit_spaces(
    observation: ArraySpec, action: ArraySpec, environment: EnvironmentSpec, origin: str
) -> tuple[ArraySpec, ArraySpec]:
    """Adds the extent of an environment's spaces to what was found in a file.

    Args:
        observation: Shape and dtype of the data's observations.
        action: Shape and dtype of its actions.
        environment: Made once for its spaces.
        origin: The file, named in error messages.

    Returns:
        Observation and action with the data's dtypes and the spaces' extents.

    Raises:
        ValueError: If the environment cannot be made, or the data has other shapes.
    """
    env = make_env(environment)
    env.close()
    return (
        _fit(observation, env.observation_space, f"{origin}: observations", environment.id),
        _fit(action, env.action_space, f"{origin}: actions", environment.id),
    )


def _fit(found: ArraySpec, space: gymnasium.Space, name: str, environment: str) -> ArraySpec:
    try:
        expected = array_spec(space, f"the space of {environment}")
    except SourceError as error:
        raise ValueError(str(error)) from error
    if found.shape != expected.shape or (found.n is None) != (expected.n is None):
        raise ValueError(
            f"{name} are {_words(found)}; {environment} has {_words(expected)}. Give the "
            "environment that the data is from"
        )
    if found.n is not None and expected.n is not None and found.n > expected.n:
        raise ValueError(f"{name} reach {found.n - 1}; {environment} has {expected.n} of them")
    return expected.model_copy(update={"dtype": found.dtype})


def _words(spec: ArraySpec) -> str:
    return f"discrete ({spec.n})" if spec.n is not None else f"arrays of shape {spec.shape}"
