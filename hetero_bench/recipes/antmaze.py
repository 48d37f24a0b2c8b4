"""Trajectories of the AntMaze controller with noise and bias that depend on the ant's place.

D4RL's collection (Fu et al., 2020): a goal-reaching controller follows breadth-first waypoints
that are jittered at every step. ReDS (Singh et al., 2023, Section 5.2, Appendix E): Gaussian noise
and a bias, both functions of x, are added to its actions. A homoscedastic dataset has a schedule of
one section.

Rewards are the environment's own: each episode has an evaluated goal, drawn as at the environment's
reset, and ends there with reward 1. An episode that aims at the evaluated goal's cell aims at that
very point; others end, or go on, where ``on_arrival`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import gymnasium
import numpy as np
import pydantic

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.envs.antmaze import maze_model
from hetero_bench.envs.antmaze_layout import CELL_SIZE, AntMazeLayout, get_layout
from hetero_bench.envs.antmaze_model import AntBatch
from hetero_bench.errors import ManifestError, describe_validation_error
from hetero_bench.recipes.action_noise import NoiseSchedule, Section
from hetero_bench.recipes.antmaze_collector import Collector
from hetero_bench.recipes.antmaze_controller import AntMazeController
from hetero_bench.recipes.antmaze_planner import collection_task
from hetero_bench.shards import run_shards

VERSION = 1


class Parameters(pydantic.BaseModel):
    """Recipe parameters, as in the manifest; ``shards * ants * steps`` transitions come out.

    Attributes:
        mode: Starts and goals; see :func:`hetero_bench.recipes.antmaze_planner.collection_task`.
        on_arrival: Whether an episode ends where it was sent to or stays there until its time is
            up. Ending there is a truncation.
        schedule: Noise and bias over x.
        severity: Scales the schedule: 2 is the schedule itself, 0 homoscedastic ``base_noise``.
        base_noise: Standard deviation of the action noise at severity 0.
        policy_sha256: Digest of the controller's weights.
        shards: Number of independent parts, each with random numbers of its own.
        ants: Ants stepped together in a shard.
        steps: Transitions of each ant, over as many episodes as it takes; the last is truncated.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    mode: Literal["single", "play", "diverse"]
    on_arrival: Literal["end", "stay"]
    schedule: tuple[Section, ...] = pydantic.Field(min_length=1)
    severity: float = pydantic.Field(default=2.0, ge=0.0, allow_inf_nan=False)
    base_noise: float = pydantic.Field(default=0.1, gt=0.0, allow_inf_nan=False)
    policy_sha256: str = pydantic.Field(pattern=r"^[0-9a-f]{64}$")
    shards: int = pydantic.Field(default=50, ge=1)
    ants: int = pydantic.Field(default=5, ge=1)
    steps: int = pydantic.Field(default=4000, ge=1)


class _Environment(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def kwargs(self) -> Mapping[str, Any]: ...
    @property
    def max_episode_steps(self) -> int: ...


def build(
    parameters: Mapping[str, Any],
    seed: int,
    *,
    environment: _Environment,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    keep: Path | None = None,
) -> EpisodeArrays:
    """Collects a dataset with all cores.

    Args:
        parameters: Fields of :class:`Parameters`.
        seed: Seed of everything random; shard ``k`` uses the sequence of (seed, k).
        environment: One of ``hetero_bench/AntMaze*``.
        progress: Called with (shards done, shards in all).
        workers: Processes; see :func:`hetero_bench.shards.run_shards`. Does not change the data.
        keep: Folder for finished shards, so that an interrupted collection goes on.

    Returns:
        Arrays with float32 observations and actions and these extras, which make the density of
        the behaviour exact before clipping and given the waypoint: ``controller_means`` (N, 8), and
        ``noise_stds`` and ``noise_means`` (N,), equal for all eight actions, all float32;
        ``waypoints`` (N, 2) float32. An action is the sum of the controller's mean, the noise's
        mean and Gaussian noise, clipped to ±1.

    Raises:
        ManifestError: As :func:`check` does.
        ValueError: If the controller's weights have another digest.
        FileNotFoundError: If the weights are missing.
    """
    settings, layout = check(parameters, environment)
    AntMazeController.load(settings.policy_sha256)
    arguments = {
        "parameters": settings.model_dump(),
        "seed": seed,
        "maze": layout.name if layout.name != "custom" else list(layout.rows),
        "max_episode_steps": environment.max_episode_steps,
    }
    shards = run_shards(
        f"{__name__}:collect_shard",
        arguments,
        settings.shards,
        workers=workers,
        progress=progress,
        keep=keep,
    )
    return _join(shards)


def check(
    parameters: Mapping[str, Any], environment: _Environment
) -> tuple[Parameters, AntMazeLayout]:
    """Parses what :func:`build` is called with.

    Raises:
        ManifestError: If a parameter is unknown or out of range, the schedule does not cover the
            maze, the maze does not allow the mode, or it is another environment.
    """
    try:
        settings = Parameters.model_validate(parameters)
    except pydantic.ValidationError as error:
        raise ManifestError(f"recipe.parameters: {describe_validation_error(error)}") from error
    try:
        layout = environment_layout(environment)
        schedule_of(settings, layout)
        collection_task(layout, settings.mode)
    except (ValueError, gymnasium.error.Error) as error:
        raise ManifestError(f"recipe 'antmaze': {error}") from error
    return settings, layout


def environment_layout(environment: _Environment) -> AntMazeLayout:
    """Returns the maze of an environment, from its registration and the manifest's arguments.

    Raises:
        ValueError: If it is not an AntMaze.
    """
    kwargs = {**gymnasium.spec(environment.id).kwargs, **environment.kwargs}
    if "AntMaze" not in environment.id or "maze" not in kwargs:
        raise ValueError(f"{environment.id} is no hetero_bench/AntMaze environment")
    return get_layout(kwargs["maze"])


def schedule_of(settings: Parameters, layout: AntMazeLayout) -> NoiseSchedule:
    """Returns the noise schedule that parameters ask for in a maze.

    Raises:
        ValueError: If it does not cover the maze's free cells.
    """
    x = layout.centres[:, 0]
    covered = x.min() - CELL_SIZE / 2, x.max() + CELL_SIZE / 2
    schedule = NoiseSchedule.from_sections(settings.schedule, *covered)
    return schedule.scaled(settings.severity / 2, settings.base_noise)


def noise_schedule(parameters: Mapping[str, Any], environment: _Environment) -> NoiseSchedule:
    """Returns the noise schedule of a manifest's recipe table, severity included.

    Raises:
        ManifestError: As :func:`check` does.
    """
    return schedule_of(*check(parameters, environment))


def collect_shard(arguments: Mapping[str, Any], shard: int) -> dict[str, np.ndarray]:
    """Collects one shard; a function of its arguments and nothing else.

    Args:
        arguments: As :func:`build` makes them.
        shard: Number of the shard.

    Returns:
        The shard's arrays, rows of one ant after those of another.
    """
    settings = Parameters.model_validate(arguments["parameters"])
    layout = get_layout(arguments["maze"])
    collector = Collector(
        layout=layout,
        task=collection_task(layout, settings.mode),
        schedule=schedule_of(settings, layout),
        controller=AntMazeController.load(settings.policy_sha256),
        rng=np.random.default_rng(np.random.SeedSequence([arguments["seed"], shard])),
        ants=AntBatch(maze_model(layout), settings.ants),
        max_episode_steps=arguments["max_episode_steps"],
        stay=settings.on_arrival == "stay",
    )
    return collector.collect(settings.steps)


def _join(shards: list[dict[str, np.ndarray]]) -> EpisodeArrays:
    """Joins the shards' rows, numbers the episodes and counts for the notes."""
    joined = {
        name: np.concatenate([shard.pop(name) for shard in shards]) for name in list(shards[0])
    }
    ends = joined["terminations"] | joined["truncations"]
    final_observations = joined["final_observations"]
    episode_ids = np.concatenate([[0], np.cumsum(ends)[:-1]]).astype(np.int32)
    succeeded, cut = joined["terminations"][ends], joined["cut"][ends]
    arrived = np.zeros(len(final_observations), dtype=bool)
    arrived[episode_ids[joined["arrivals"]]] = True
    arrived &= ~succeeded
    cut &= ~arrived
    percent = 100 * (succeeded | arrived).sum() / max(1, (~cut).sum())
    notes = {
        "episodes_that_reached_the_evaluated_goal": int(succeeded.sum()),
        "other_episodes_that_arrived_where_sent": int(arrived.sum()),
        "episodes_out_of_time": int((~succeeded & ~arrived & ~cut).sum()),
        "episodes_cut_when_the_collection_ended": int(cut.sum()),
        "percent_that_got_there_of_those_not_cut": round(float(percent), 1),
        "episodes_that_ended_fallen": int(joined["fallen"][ends].sum()),
        "mean_episode_steps": round(len(ends) / len(final_observations), 1),
        "share_of_clipped_actions": round(float((np.abs(joined["actions"]) == 1).mean()), 4),
    }
    extras = ("controller_means", "noise_stds", "noise_means", "waypoints")
    return EpisodeArrays(
        observations=joined["observations"],
        actions=joined["actions"],
        rewards=joined["terminations"].astype(np.float32),
        terminations=joined["terminations"],
        truncations=joined["truncations"],
        episode_ids=episode_ids,
        final_observations=final_observations,
        extras={name: joined[name] for name in extras},
        notes=notes,
    )
