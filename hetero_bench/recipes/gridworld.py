"""Trajectories of a behaviour policy whose variability depends on where in the maze it is.

ReDS paper (Singh et al., 2023), Section 3.1 and Appendix B. In hallways the behaviour policy takes
the action that leads to the goal; in rooms it is a mixture of the direction away from the room's
exit and of the uniform policy. Start states are drawn so that the occupancy is as uniform as whole
trajectories of a given length allow; what is missing is reported in the notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pydantic

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.envs import GRIDWORLD_MAZE_ID
from hetero_bench.envs.gridworld_layout import (
    NUM_ACTIONS,
    OPPOSITE_ACTIONS,
    GridworldLayout,
    get_layout,
)
from hetero_bench.envs.gridworld_model import (
    DEFAULT_ACTION_NOISE,
    DEFAULT_LAYOUT,
    GridworldModel,
    gridworld_model,
)
from hetero_bench.errors import ManifestError, describe_validation_error
from hetero_bench.recipes.balanced_starts import (
    allocate_starts,
    balanced_start_weights,
    distance_from_uniform,
    visit_counts,
)

VERSION = 1
SIMULATED = False
"""Integers, comparisons and sums in a fixed order: the same bits on every CPU."""


class Parameters(pydantic.BaseModel):
    """Recipe parameters, as in the manifest.

    Attributes:
        trajectories: Number of trajectories.
        episode_steps: Steps of a trajectory, truncated there unless the goal ended it.
        room_uniform: Weight of the uniform policy in rooms; the rest goes away from the exit.
        hallway_uniform: Weight of the uniform policy in hallways; the rest goes towards the goal.
        starts: "balanced" for the most even occupancy, "uniform" for every cell alike.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    trajectories: int = pydantic.Field(ge=1)
    episode_steps: int = pydantic.Field(default=50, ge=1)
    room_uniform: float = pydantic.Field(default=0.2, ge=0.0, le=1.0)
    hallway_uniform: float = pydantic.Field(default=0.0, ge=0.0, le=1.0)
    starts: Literal["balanced", "uniform"] = "balanced"


class EnvironmentArguments(pydantic.BaseModel):
    """Arguments of ``hetero_bench/GridworldMaze-v0`` that a dataset depends on."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    layout: str | tuple[str, ...] = DEFAULT_LAYOUT
    action_noise: Annotated[float, pydantic.Field(strict=True, ge=0.0, le=1.0)] = (
        DEFAULT_ACTION_NOISE
    )
    feature_seed: Annotated[int, pydantic.Field(strict=True, ge=0)] = 0
    feature_scaling: Literal["unit_variance", "none"] = "unit_variance"

    @pydantic.field_validator("layout")
    @classmethod
    def _is_a_maze(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        get_layout(value)
        return value


class _Environment(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def kwargs(self) -> Mapping[str, Any]: ...


def build(
    parameters: Mapping[str, Any],
    seed: int,
    *,
    environment: _Environment,
    progress: Callable[[int, int], None] | None = None,
) -> EpisodeArrays:
    """Collects a dataset.

    Args:
        parameters: Fields of :class:`Parameters`.
        seed: Seed of start order, actions and action noise.
        environment: ``hetero_bench/GridworldMaze-v0``, with ``kwargs``
            :class:`EnvironmentArguments`.
        progress: Called with (steps done, steps in all).

    Returns:
        Arrays with extras ``behaviour_probabilities`` (N, 5) float32, ``states`` and
        ``next_states`` (N,) int16 (the layout's numbers), and notes on the occupancy.

    Raises:
        ManifestError: If a parameter or environment argument is unknown or out of range.
    """
    settings, arguments = check(parameters, environment)
    model = gridworld_model(**arguments.model_dump())
    layout = model.layout
    behaviour = behaviour_probabilities(layout, settings.room_uniform, settings.hallway_uniform)
    counts = visit_counts(
        layout.next_states,
        model.executed_probabilities(behaviour),
        layout.goal,
        settings.episode_steps,
    )
    if settings.starts == "balanced":
        weights = balanced_start_weights(counts)
    else:
        weights = (np.arange(layout.num_states) != layout.goal) / (layout.num_states - 1)
    allocated = allocate_starts(weights, settings.trajectories)

    rng = np.random.default_rng(seed)
    starts = rng.permutation(np.repeat(np.arange(layout.num_states), allocated))
    states, actions = _roll(model, behaviour, starts, settings.episode_steps, rng, progress)
    arrays = _to_episodes(model, behaviour, states, actions)
    expected_visits = (allocated[:, None] * counts).sum(axis=0)
    arrays.notes.update(_notes(layout, behaviour, arrays, expected_visits, allocated))
    return arrays


def behaviour_probabilities(
    layout: GridworldLayout, room_uniform: float, hallway_uniform: float
) -> np.ndarray:
    """Returns the (S, 5) float64 behaviour policy.

    Args:
        layout: The maze.
        room_uniform: Weight of the uniform policy in rooms; the rest goes away from the exit.
        hallway_uniform: Weight of the uniform policy in hallways; the rest goes towards the goal.
    """
    preferred = np.where(layout.in_room, OPPOSITE_ACTIONS[layout.exit_actions], layout.goal_actions)
    uniform = np.where(layout.in_room, room_uniform, hallway_uniform)[:, None]
    return uniform / NUM_ACTIONS + (1.0 - uniform) * np.eye(NUM_ACTIONS)[preferred]


def check(
    parameters: Mapping[str, Any], environment: _Environment
) -> tuple[Parameters, EnvironmentArguments]:
    """Parses what :func:`build` is called with.

    Raises:
        ManifestError: If a parameter or environment argument is unknown or out of range, or it is
            another environment.
    """
    if environment.id != GRIDWORLD_MAZE_ID:
        raise ManifestError(
            f"environment.id: recipe 'gridworld' makes data of {GRIDWORLD_MAZE_ID}; "
            f"got {environment.id!r}"
        )
    try:
        settings = Parameters.model_validate(parameters)
    except pydantic.ValidationError as error:
        raise ManifestError(f"recipe.parameters: {describe_validation_error(error)}") from error
    try:
        return settings, EnvironmentArguments.model_validate(environment.kwargs)
    except pydantic.ValidationError as error:
        raise ManifestError(f"environment.kwargs: {describe_validation_error(error)}") from error


def _roll(
    model: GridworldModel,
    behaviour: np.ndarray,
    starts: np.ndarray,
    steps: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (steps + 1, n) states and (steps, n) actions; columns go on after the goal."""
    thresholds = np.cumsum(behaviour, axis=1)[:, :-1]
    states = np.empty((steps + 1, len(starts)), dtype=np.int64)
    actions = np.empty((steps, len(starts)), dtype=np.int64)
    states[0] = starts
    for step in range(steps):
        draws = rng.random(len(starts))
        actions[step] = (draws[:, None] >= thresholds[states[step]]).sum(axis=1)
        executed = model.executed_actions(actions[step], rng.random(len(starts)))
        states[step + 1] = model.layout.next_states[states[step], executed]
        if progress is not None:
            progress(step + 1, steps)
    return states, actions


def _to_episodes(
    model: GridworldModel, behaviour: np.ndarray, states: np.ndarray, actions: np.ndarray
) -> EpisodeArrays:
    """Cuts the rolls at the goal and lays them out one after the other."""
    at_goal = states == model.layout.goal
    before_goal = ~np.logical_or.accumulate(at_goal, axis=0)[:-1].T
    episode_ids, steps = np.nonzero(before_goal)
    row_states, next_states = states[steps, episode_ids], states[steps + 1, episode_ids]
    terminations = next_states == model.layout.goal
    is_last = np.append(np.diff(episode_ids) == 1, True)
    return EpisodeArrays(
        observations=model.features[row_states],
        actions=actions[steps, episode_ids],
        rewards=terminations.astype(np.float32),
        terminations=terminations,
        truncations=is_last & ~terminations,
        episode_ids=episode_ids.astype(np.int32),
        final_observations=model.features[next_states[is_last]],
        extras={
            "behaviour_probabilities": behaviour[row_states].astype(np.float32),
            "states": row_states.astype(np.int16),
            "next_states": next_states.astype(np.int16),
        },
    )


def _notes(
    layout: GridworldLayout,
    behaviour: np.ndarray,
    arrays: EpisodeArrays,
    expected_visits: np.ndarray,
    allocated: np.ndarray,
) -> dict[str, Any]:
    """Returns what the dataset card says about coverage."""
    live = np.arange(layout.num_states) != layout.goal
    samples = np.zeros((layout.num_states, NUM_ACTIONS), dtype=np.int64)
    np.add.at(samples, (arrays.extras["states"], arrays.actions), 1)
    visits = samples.sum(axis=1)[live]
    supported = samples[live][behaviour[live] > 0.0]
    expected, empirical = (
        distance_from_uniform(expected_visits[live]),
        distance_from_uniform(visits),
    )
    return {
        "occupancy_against_uniform": {
            "expected_total_variation": _rounded(expected[0]),
            "expected_kl_nats": _rounded(expected[1]),
            "empirical_total_variation": _rounded(empirical[0]),
            "empirical_kl_nats": _rounded(empirical[1]),
        },
        "start_states": int((allocated > 0).sum()),
        "visitable_states": int(live.sum()),
        "minimum_visits_of_a_state": int(visits.min()),
        "maximum_visits_of_a_state": int(visits.max()),
        "minimum_samples_of_a_supported_action": int(supported.min()),
        "episodes_reaching_the_goal": int(arrays.terminations.sum()),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)
