"""Evaluation in worker processes: the same bits as in turn, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing

import gymnasium
import pytest
import torch

from baselines import td3_bc
from baselines.engine import execute, make_plan
from baselines.engine.checkpoint import read_checkpoint
from baselines.engine.evaluators import Evaluators
from baselines.engine.ledger import LogEntry
from baselines.engine.trainer import Trainer
from hetero_bench.runs import read_runs
from tests.toy import POINT_HORIZON, point

ENVIRONMENT = {"id": "hetero_bench_tests/NamedPoint-v0", "max_episode_steps": POINT_HORIZON}
gymnasium.register(ENVIRONMENT["id"], "tests.toy:Point")


def plan(environment=ENVIRONMENT, **changes):
    arguments = {
        "configs": td3_bc.Config(hidden_sizes=(8,), batch_size=8),
        "steps": 40,
        "log_every": 10,
        "eval_every": 20,
        "evaluation_episodes": 3,
        **changes,
    }
    dataset = point(episodes=4, environment=environment)
    return make_plan("td3_bc", [dataset], [0, 4], **arguments)


def results(runs):
    return [run.model_dump(exclude={"budget": {"wall_seconds"}, "commit": True}) for run in runs]


class Killed(BaseException):
    """Stands in for the end of the process."""


def killed_at_entry(number):
    """``LogEntry`` that ends the process when it is made for the given time."""
    made = []

    def make(**fields):
        made.append(fields)
        if len(made) == number:
            raise Killed
        return LogEntry(**fields)

    return make


def test_workers_and_a_kill_change_no_bit(tmp_path, monkeypatch):
    expected = results(execute(plan(), tmp_path / "turns", quiet=True))
    begin, begun = Evaluators.begin, []

    def noted(self, step, actors):
        begun.append((step, sorted(actors)))
        begin(self, step, actors)

    monkeypatch.setattr(Evaluators, "begin", noted)
    options = {"quiet": True, "checkpoint_seconds": 0, "evaluation_workers": 2}
    with monkeypatch.context() as patch:  # killed at step 30, when those of 20 are still going on
        patch.setattr(Evaluators, "take", lambda self, *, wait=False: [])
        patch.setattr("baselines.engine.session.LogEntry", killed_at_entry(3))
        with pytest.raises(Killed):
            execute(plan(), tmp_path / "parts", **options)
    assert multiprocessing.active_children() == []
    _, facts = read_checkpoint(plan().checkpoint_path(tmp_path / "parts"))
    assert (facts["step"], facts["evaluations"]) == (20, [[], []])
    assert results(execute(plan(), tmp_path / "parts", **options)) == expected
    assert begun == [(20, [0, 1]), (20, [0, 1]), (40, [0, 1])]
    assert results([run for _, run in read_runs(tmp_path / "parts")]) == expected
    ours, theirs = (
        read_checkpoint(plan().checkpoint_path(tmp_path / name))[0] for name in ("turns", "parts")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert multiprocessing.active_children() == []


def test_a_final_evaluation_is_begun_again(tmp_path, monkeypatch):
    """Killed while the last policies are evaluated, nothing is trained again."""
    made = plan(eval_every=None)
    expected = results(execute(made, tmp_path / "turns", quiet=True))

    def killed_when_waiting(self, *, wait=False):
        if wait and self.step is not None:
            raise Killed
        return []

    with monkeypatch.context() as patch:
        patch.setattr(Evaluators, "take", killed_when_waiting)
        with pytest.raises(Killed):
            execute(made, tmp_path / "parts", quiet=True, evaluation_workers=1)
    assert not list((tmp_path / "parts").rglob("run.json"))
    monkeypatch.setattr(Trainer, "advance", None)
    assert results(execute(made, tmp_path / "parts", quiet=True)) == expected


def test_errors_of_workers_reach_the_caller(tmp_path):
    nowhere = {"id": "hetero_bench_tests/Nowhere-v0", "max_episode_steps": 3}
    with pytest.raises(ValueError, match="Nowhere"):
        execute(plan(nowhere), tmp_path, quiet=True, evaluation_workers=1)
    with pytest.raises(ValueError, match="-1 evaluation workers; expected 0 or more"):
        execute(plan(), tmp_path, quiet=True, evaluation_workers=-1)
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed_is_reported():
    made = plan()
    actors = {0: Trainer.of(made).agent.actor(0)}
    with Evaluators(made, 1, contextlib.nullcontext) as evaluators:
        evaluators.begin(20, actors)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(RuntimeError, match="--evaluation-workers 0"):
            evaluators.take(wait=True)
