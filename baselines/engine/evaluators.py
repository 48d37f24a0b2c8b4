"""Evaluation of a population at once, or in worker processes while training goes on.

Both give equal bits: an evaluation is a function of the policy's parameters and the member's seed,
and runs on one thread of a CPU either way.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from typing import Self

import gymnasium
from gymnasium.envs.registration import EnvSpec

import hetero_bench
from baselines.engine.evaluation import evaluate_actor, evaluate_member
from baselines.engine.method import Actor
from baselines.engine.plan import Plan
from baselines.engine.processes import worker_pool
from hetero_bench.runs import EvaluationRecord


class Evaluators:
    """Evaluates a population's members, used as a context.

    Args:
        plan: The population.
        workers: Processes that evaluate while training goes on; with 0 of them, :meth:`begin`
            evaluates at once.
        paused: A context for evaluations at once, which show progress of their own.
    """

    def __init__(
        self, plan: Plan, workers: int, paused: Callable[[], AbstractContextManager[None]]
    ):
        if workers < 0:
            raise ValueError(f"{workers} evaluation workers; expected 0 or more")
        self._plan = plan
        self._workers = min(workers, len(plan.members))
        self._paused = paused
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None
        self._done: list[tuple[int, EvaluationRecord]] = []
        self._running: dict[int, Future[EvaluationRecord]] = {}
        self.step: int | None = None
        """Step of the evaluations that are not taken yet; None if there are none."""

    def __enter__(self) -> Self:
        if self._workers:
            self._pool = self._stack.enter_context(worker_pool(self._workers))
        return self

    def __exit__(self, *exception: object) -> bool | None:
        return self._stack.__exit__(*exception)  # type: ignore[arg-type]

    def begin(self, step: int, actors: Mapping[int, Actor]) -> None:
        """Begins the evaluations of a step; those of an earlier one have to be taken before.

        Args:
            step: Gradient steps taken.
            actors: By the members' numbers.
        """
        assert self.step is None, "evaluations of one step at a time"
        self.step = step
        episodes = self._plan.evaluation_episodes
        if self._pool is None:
            with self._paused():
                for number, actor in actors.items():
                    record = evaluate_member(self._plan.members[number], actor, step, episodes)
                    self._done.append((number, record))
            return
        for number, actor in actors.items():
            member = self._plan.members[number]
            # As bytes: the pool would move tensors to shared memory, which may be scarce.
            spec = member.dataset.spec
            self._running[number] = self._pool.submit(
                _evaluate, pickle.dumps(actor), spec, _own(spec), member.seed, step, episodes
            )

    def take(self, *, wait: bool = False) -> list[tuple[int, EvaluationRecord]]:
        """Returns (member, evaluation) pairs that have been finished and not been taken yet.

        Args:
            wait: Wait until all that were begun are finished.

        Raises:
            Exception: What an evaluation raised.
            RuntimeError: If a worker process ended.
        """
        if wait:
            wait_for(self._running.values())
        for number in [each for each, future in self._running.items() if future.done()]:
            try:
                self._done.append((number, self._running.pop(number).result()))
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "a process that evaluates ended, perhaps for lack of memory; train on with "
                    "fewer evaluation workers (--evaluation-workers 0 for none)"
                ) from error
        taken, self._done = self._done, []
        if not self._running:
            self.step = None
        return taken


def _own(spec: hetero_bench.DatasetSpec) -> EnvSpec | None:
    """Returns how a dataset's environment is registered, if that can be said in words."""
    if spec.environment is None:
        return None
    found = gymnasium.registry.get(spec.environment.id)
    if found is None or callable(found.entry_point) or callable(found.vector_entry_point):
        return None
    return found


def _evaluate(
    actor: bytes,
    spec: hetero_bench.DatasetSpec,
    registered: EnvSpec | None,
    seed: int,
    step: int,
    episodes: int | None,
) -> EvaluationRecord:
    """Evaluates an actor in a worker process, without a progress bar of its own."""
    if registered is not None:
        gymnasium.registry.setdefault(registered.id, registered)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            loaded: Actor = pickle.loads(actor)  # noqa: S301  # of the process that started this one
            return evaluate_actor(loaded, spec, seed=seed, step=step, episodes=episodes)
    finally:
        sys.stderr.write(said.getvalue())
