"""Trained policies as ONNX files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from baselines.cli import main
from baselines.engine import list_methods, make_plan, train, trained_runs
from baselines.engine.checkpoint import read_checkpoint, write_checkpoint
from baselines.engine.trainer import Trainer
from baselines.export import compare, write_policy
from hetero_bench import evaluate
from hetero_bench.onnx_policy import OnnxPolicy
from tests.toy import corridor, point

MAKERS = {
    "corridor-v0": lambda: corridor(episodes=5),
    "point-v0": lambda: point(episodes=3),
    "other-v0": lambda: point("other", episodes=3, seed=1),
}
UNEVEN = {"shape": [2], "dtype": "float32", "low": -2.0, "high": 4.0}
OPTIONS = {"steps": 4, "evaluation_episodes": 2, "quiet": True}


@pytest.fixture
def toy_datasets(monkeypatch, tmp_path):
    def load(name, *, size=None, draw=None):
        return MAKERS[name]()

    monkeypatch.setattr("hetero_bench.load", load)
    return tmp_path / "runs"


@pytest.mark.slow
@pytest.mark.parametrize("method", list_methods(), ids=lambda each: f"{each.name}-{each.actions}")
def test_every_method_is_exported_and_matches(method, tmp_path):
    discrete = method.actions == "discrete"
    dataset = corridor(episodes=5) if discrete else point(episodes=3, action=UNEVEN)
    trainer = Trainer.of(make_plan(method, [dataset], [0], steps=2))
    trainer.advance(2)
    actor, path = trainer.agent.actor(0), tmp_path / "policy.onnx"
    difference = write_policy(actor, dataset, path, {"dataset": dataset.id})
    assert difference.value <= difference.tolerance
    assert difference.counted == (discrete or method.name == "spar")
    policy = OnnxPolicy(path)
    assert policy.dataset == dataset.id
    for rows in (1, 7):
        observations = dataset.transitions.observations[:rows]
        rng = np.random.default_rng(1)
        noise = rng.standard_normal((rows, actor.noise_size), dtype=np.float32)
        with torch.inference_mode():
            expected = actor(torch.from_numpy(observations.copy()), torch.from_numpy(noise)).numpy()
        actions = policy(observations, rng=np.random.default_rng(1))
        np.testing.assert_allclose(actions, expected, atol=1e-4)
        assert actions.dtype == expected.dtype


def test_from_run_records_to_policies(toy_datasets, capsys):
    """Two datasets in one population; a policy is that of its own run."""
    small = {"configs": lambda dataset: _small("td3_bc", dataset), "out": toy_datasets}
    runs = train("td3_bc", [MAKERS["point-v0"](), MAKERS["other-v0"]()], [5], **small, **OPTIONS)
    assert main(["export", str(toy_datasets)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all("policy.onnx: largest difference of an action" in line for line in said)
    path = toy_datasets / "td3_bc/other-v0/seed-5/policy.onnx"
    policy = OnnxPolicy(path)
    expected = {
        "method": "td3_bc",
        "dataset": "other-v0",
        "dataset_digest": runs[1].dataset.digest,
        "seed": "5",
        "step": "4",
        "commit": runs[1].commit or "unknown",
        "hetero-bench": runs[1].versions.get("hetero-bench", "unknown"),
    }
    assert policy.metadata == expected
    content = path.read_bytes()
    assert b"site-packages" not in content
    assert b"baselines" not in content
    found = evaluate(path, MAKERS["other-v0"](), episodes=2, seed=5)
    np.testing.assert_allclose(found.returns, runs[1].evaluations[-1].returns, rtol=1e-3)
    assert sorted(each.name for each in path.parent.iterdir()) == ["policy.onnx", "run.json"]


def _small(name, dataset):
    from dataclasses import replace

    from baselines.engine import get_method

    method = get_method(name, "continuous")
    return replace(method.config_for(dataset.spec), hidden_sizes=(8,), batch_size=8)


def test_a_policy_that_differs_is_not_left(toy_datasets, monkeypatch, tmp_path):
    train("bc", [MAKERS["point-v0"]()], [0], out=toy_datasets, **OPTIONS)
    (trained,) = trained_runs([toy_datasets])
    actor, dataset = trained.actor(), trained.member.dataset
    monkeypatch.setattr("baselines.export.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"was not written: exported policy and original disagree"):
        write_policy(actor, dataset, tmp_path / "policy.onnx", {})
    assert not list(tmp_path.glob("*.onnx*"))


class Original:
    """An actor that repeats its observations, which have as many dimensions as actions."""

    noise_size = 0

    def __init__(self, chooses):
        if chooses:
            self.chooses = True

    def __call__(self, observations, noise):
        return observations.clone()


class Exported:
    """A policy that does the same but for the last few observations."""

    def __init__(self, changed, by):
        self.changed, self.by = changed, by

    def act(self, observations, noise):
        actions = observations.copy()
        if len(actions) > 1:
            actions[-self.changed :, 0] += np.float32(self.by)
        return actions


@pytest.mark.parametrize(
    ("chooses", "changed", "by", "agrees"),
    [
        (False, 1, 3e-4, True),  # of a range of 6
        (False, 1, 1.0, False),
        (True, 1, 1.0, True),  # one in a thousand: values that were compared were all but equal
        (True, 5, 1.0, False),
        (True, 900, 3e-4, True),
        (True, 5, np.nan, False),
    ],
)
def test_an_actor_that_chooses_may_choose_otherwise_now_and_then(chooses, changed, by, agrees):
    dataset = point(episodes=60, action=UNEVEN)
    assert len(dataset) > 1_000
    difference = compare(Exported(changed, by), Original(chooses), dataset)
    assert (difference.value <= difference.tolerance) == agrees
    assert difference.counted == chooses


def test_equal_actions_leave_room_for_rounding():
    """The tolerance follows from the bounds: a dataset may know one action alone."""
    dataset = point(episodes=2)
    dataset.arrays.actions[:] = 0.25
    assert compare(Exported(1, 1e-6), Original(False), dataset).tolerance == pytest.approx(2e-4)


def test_runs_are_matched_with_the_learners_that_made_them(toy_datasets, monkeypatch):
    dataset, out = MAKERS["corridor-v0"](), toy_datasets
    with pytest.raises(FileNotFoundError, match="does not exist; expected a run"):
        trained_runs([out])
    train("bc", [dataset], [0, 1], out=out, **OPTIONS)
    first = out / "bc/corridor-v0/seed-1/run.json"
    (trained,) = trained_runs([first])
    assert (trained.number, trained.member.seed, trained.run.seed) == (1, 1, 1)
    assert trained.population.trainer.data.device.type == "cpu"
    assert [each.run.seed for each in trained_runs([out, first])] == [0, 1]

    train("bc", [dataset], [0, 1], out=out, overwrite=True, **{**OPTIONS, "steps": 6})
    with monkeypatch.context() as without:  # what may be large is read where it is used
        without.delattr("baselines.engine.trained.read_checkpoint")
        again = trained_runs([out])
    assert {each.population.plan.steps for each in again} == {6}  # the older one is there, too
    path = again[0].population.path
    tensors, facts = read_checkpoint(path)
    write_checkpoint(path, tensors, {**facts, "plan": None})
    with pytest.raises(FileNotFoundError, match="written by an earlier version; train again"):
        trained_runs([out])
    write_checkpoint(path, tensors, facts)
    monkeypatch.setattr("hetero_bench.load", lambda *_, **__: corridor(episodes=5, seed=1))
    with pytest.raises(FileNotFoundError, match="datasets or the hyperparameters of BC × 2 are"):
        trained_runs([out])
    for folder in out.glob("bc/population-*"):
        shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="no checkpoint for .*keep these folders together"):
        trained_runs([out])
