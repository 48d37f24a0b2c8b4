"""The one evaluation protocol: fixed seeds, whole episodes, every return kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetero_bench.action_check import ActionCheck
from hetero_bench.dataset import Dataset
from hetero_bench.ends import Ends
from hetero_bench.envs.batch import EnvironmentBatch, Steps, make_batch, require_environment
from hetero_bench.formatting import number
from hetero_bench.policies import Policy, Predictor, as_policy, takes_generator
from hetero_bench.progress import ProgressCallback, progress_bar
from hetero_bench.registry import get_spec
from hetero_bench.runs import EvaluationRecord
from hetero_bench.spec import DatasetSpec

DEFAULT_NUM_ENVS = 100


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured; episode ``k`` of equal seeds is the same episode.

    Attributes:
        dataset_id: Canonical id of the dataset whose environment and references were used.
        returns: (K,) float64 undiscounted sums of raw rewards.
        lengths: (K,) int64 environment steps.
        successes: (K,) bool, None where the task has no notion of success.
        scores: (K,) float64 normalised scores in percent, None without reference returns.
        seed: Seed of the episodes.
        num_envs: Environments stepped together; a stochastic policy's draws depend on it.
        ends: Where the episodes ended, None where the environment names no regions.
    """

    dataset_id: str
    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None
    scores: np.ndarray | None
    seed: int
    num_envs: int
    ends: Ends | None = None

    @property
    def episodes(self) -> int:
        """Number of episodes ``K``."""
        return len(self.returns)

    @cached_property
    def mean_return(self) -> float:
        """Mean undiscounted return."""
        return float(self.returns.mean())

    @cached_property
    def score(self) -> float | None:
        """Mean normalised score in percent."""
        return None if self.scores is None else float(self.scores.mean())

    @cached_property
    def success_rate(self) -> float | None:
        """Share of the episodes that succeeded at any step."""
        return None if self.successes is None else float(self.successes.mean())

    def record(self, step: int) -> EvaluationRecord:
        """Returns the entry of a run JSON.

        Args:
            step: Gradient steps taken before this evaluation.
        """
        return EvaluationRecord(
            step=step,
            seed=self.seed,
            returns=self.returns.tolist(),
            lengths=self.lengths.tolist(),
            successes=None if self.successes is None else self.successes.tolist(),
        )

    def __str__(self) -> str:
        parts = [f"{self.dataset_id}: return {self.mean_return:.3f} ± {self.returns.std():.3f}"]
        if self.score is not None:
            parts.append(f"score {number(self.score)}")
        if self.success_rate is not None:
            parts.append(f"success {self.success_rate:.0%}")
        return ", ".join(parts) + f" over {self.episodes} episodes (seed {self.seed})"


def evaluate(
    policy: Policy | Predictor | str | os.PathLike[str],
    dataset: Dataset | DatasetSpec | str | None = None,
    *,
    episodes: int | None = None,
    seed: int = 0,
    num_envs: int | None = None,
) -> Evaluation:
    """Runs a policy for whole episodes in its dataset's evaluation environment.

    Episode ``k`` has its own seed, derived from (seed, k), and environment ``i`` of ``n`` runs
    episodes ``i, i + n, ...``: which episodes are run never depends on how long others are, and
    the results of a policy that computes each row by itself do not depend on ``num_envs``. A
    network's matrix product may round a row differently among other rows, which a chaotic
    simulator makes visible.

    Args:
        policy: Batched function, Stable-Baselines3 model, or path of an ONNX file; see
            :mod:`hetero_bench.policies`.
        dataset: A dataset, its specification or its id; by default the policy's ``dataset``.
        episodes: How many; the manifest's number (usually 100) by default.
        seed: Seed of the episodes and of a stochastic policy's generator.
        num_envs: Environments stepped together, 100 by default, at most ``episodes``.

    Returns:
        Every episode's return, length, success, normalised score and end.

    Raises:
        TypeError: If there is no dataset, or the policy is none.
        PolicyError: If the policy's output has a wrong shape or dtype, is not finite or out of
            bounds; the message names episode and step.
        ValueError: If a number is out of range, or the dataset has no environment.
    """
    policy = as_policy(policy)
    spec = _find_spec(policy, dataset)
    environment = require_environment(spec)
    episodes = spec.evaluation_episodes if episodes is None else episodes
    num_envs = min(DEFAULT_NUM_ENVS if num_envs is None else num_envs, episodes)
    if num_envs < 1 or seed < 0:
        raise ValueError(
            f"episodes={episodes}, num_envs={num_envs}, seed={seed}: expected at least one "
            "episode and environment, and a seed from 0"
        )
    batch = make_batch(environment, num_envs)
    try:
        with progress_bar(f"evaluating on {spec.id}") as progress:
            log = _run_episodes(policy, batch, episodes, num_envs, seed, progress)
    finally:
        batch.close()
    return Evaluation(
        dataset_id=spec.id,
        returns=log.returns,
        lengths=log.lengths,
        successes=log.successes,
        scores=None if spec.reference is None else spec.normalized_score(log.returns),
        seed=seed,
        num_envs=num_envs,
        ends=None
        if batch.regions is None
        else Ends(batch.regions, log.positions, log.timeouts, log.successes),
    )


def _find_spec(policy: Policy, dataset: Dataset | DatasetSpec | str | None) -> DatasetSpec:
    dataset = getattr(policy, "dataset", None) if dataset is None else dataset
    if isinstance(dataset, Dataset):
        return dataset.spec
    if isinstance(dataset, DatasetSpec):
        return dataset
    if isinstance(dataset, str):
        return get_spec(dataset)
    raise TypeError(
        "no dataset to evaluate on: give evaluate(policy, dataset) a dataset or its id, or the "
        f"policy an attribute `dataset` (got {dataset!r})"
    )


def episode_seeds(seed: int, episodes: int) -> np.ndarray:
    """Returns (episodes,) environment seeds; the first ones do not depend on how many follow."""
    state = np.random.SeedSequence([seed, 0]).generate_state(episodes, np.uint32)
    return state.astype(np.int64)


@dataclass(eq=False)
class _Log:
    """What is recorded of ``K`` episodes; see :class:`Evaluation` and :class:`Ends`."""

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None
    timeouts: np.ndarray
    positions: np.ndarray

    @classmethod
    def empty(cls, episodes: int) -> _Log:
        return cls(
            returns=np.zeros(episodes),
            lengths=np.zeros(episodes, dtype=np.int64),
            successes=None,
            timeouts=np.zeros(episodes, dtype=bool),
            positions=np.full((episodes, 2), np.nan),
        )

    def add(self, step: Steps, active: np.ndarray, episodes: np.ndarray) -> None:
        """Adds a step of the ``active`` (n,) environments, which are at ``episodes`` (n,)."""
        playing = episodes[active]
        self.returns[playing] += step.rewards[active]
        self.lengths[playing] += 1
        if step.successes is not None:
            if self.successes is None:
                self.successes = np.zeros(len(self.returns), dtype=bool)
            self.successes[playing] |= step.successes[active]

    def end(
        self, step: Steps, done: np.ndarray, episodes: np.ndarray, batch: EnvironmentBatch
    ) -> None:
        """Notes how and where the episodes of the ``done`` (n,) environments ended."""
        ended = episodes[done]
        self.timeouts[ended] = ~step.terminations[done]
        if batch.regions is not None:
            self.positions[ended] = batch.positions(done)


def _run_episodes(
    policy: Policy,
    batch: EnvironmentBatch,
    episodes: int,
    num_envs: int,
    seed: int,
    progress: ProgressCallback,
) -> _Log:
    """Runs episodes, split statically over the batch."""
    seeds = episode_seeds(seed, episodes)
    arguments = (
        {"rng": np.random.default_rng(np.random.SeedSequence([seed, 1]))}
        if takes_generator(policy)
        else {}
    )
    begin_episodes = getattr(policy, "reset", None)
    check = ActionCheck(batch.action_space, num_envs)
    log = _Log.empty(episodes)

    current = np.arange(num_envs)  # episode that each environment is at
    active = np.ones(num_envs, dtype=bool)
    observations = batch.reset(active, seeds[current])
    if begin_episodes is not None:
        begin_episodes(active)
    finished = 0
    while active.any():
        actions = check(policy(observations, **arguments), active, current, log.lengths)
        step = batch.step(actions, active)
        observations = step.observations
        log.add(step, active, current)
        done = active & (step.terminations | step.truncations)
        if not done.any():
            continue
        log.end(step, done, current, batch)
        finished += int(done.sum())
        progress(finished, episodes)
        active = active & ~(done & (current + num_envs >= episodes))
        again = done & active
        if again.any():
            current = np.where(again, current + num_envs, current)
            observations = batch.reset(again, seeds[current])
            if begin_episodes is not None:
                begin_episodes(again)
    return log
