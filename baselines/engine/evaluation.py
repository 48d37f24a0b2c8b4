"""Members' policies in the one evaluation protocol of ``hetero_bench``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

import hetero_bench
from baselines.engine.members import Member
from baselines.engine.method import Actor
from hetero_bench.runs import EvaluationRecord


class ActorPolicy:
    """An actor as a ``hetero_bench`` policy: arrays in, arrays out, noise from the generator.

    Args:
        actor: The actor.
        dataset: What it was trained on, so that ``evaluate(policy)`` needs no second argument.
    """

    def __init__(self, actor: Actor, dataset: hetero_bench.Dataset | None = None):
        self.actor = actor
        self.dataset = dataset

    @torch.inference_mode()
    def __call__(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns (n, *act) actions for (n, *obs) observations."""
        inputs = torch.from_numpy(np.asarray(observations, np.float32))
        noise = rng.standard_normal((len(inputs), self.actor.noise_size), dtype=np.float32)
        return self.actor(inputs, torch.from_numpy(noise)).numpy()


def evaluate_member(
    member: Member, actor: Actor, step: int, episodes: int | None
) -> EvaluationRecord:
    """Evaluates one member with its own seed.

    Args:
        member: Gives dataset and seed.
        actor: Its policy.
        step: Gradient steps taken before.
        episodes: How many episodes; None for the dataset's number.
    """
    return evaluate_actor(
        actor, member.dataset.spec, seed=member.seed, step=step, episodes=episodes
    )


def evaluate_actor(
    actor: Actor,
    spec: hetero_bench.DatasetSpec,
    *,
    seed: int,
    step: int,
    episodes: int | None,
) -> EvaluationRecord:
    """Evaluates an actor.

    Args:
        actor: The policy.
        spec: The dataset's specification, which has the environment.
        seed: Of the episodes and of the policy's noise.
        step: Gradient steps taken before.
        episodes: How many episodes; None for the dataset's number.
    """
    with one_thread():
        found = hetero_bench.evaluate(ActorPolicy(actor), spec, episodes=episodes, seed=seed)
    return found.record(step)


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs the block on one thread: a small batch is slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
