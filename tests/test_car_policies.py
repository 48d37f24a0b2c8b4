from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import hetero_bench
from baselines import bc, car
from baselines.diagnostics.car_policies import CarPolicies, action_energies, measure
from baselines.engine import train, trained_runs
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from tests.toy import point

CONFIG = car.Config(
    hidden_sizes=(8,), density_sizes=(8,), warmup_steps=5, batch_size=16, threshold=0.1
)


@pytest.fixture
def dataset(monkeypatch):
    """The point, and found by its id, as a registered dataset is."""
    made = point(episodes=20)
    monkeypatch.setattr(hetero_bench, "load", lambda *_, **__: made)
    return made


def test_energies_of_both_models_at_both_kinds_of_action():
    group = [Member(point(), replace(CONFIG, mix_rate=1e-2), seed) for seed in (0, 1)]
    trainer = Trainer(car.METHOD, group, "cpu", steps=100)
    trainer.advance(20)
    energies = action_energies(trainer, 500)
    assert {name: each.shape for name, each in energies.items()} == dict.fromkeys(
        ["data, behaviour", "data, mix", "policy, behaviour", "policy, mix"], (2, 500)
    )
    assert not torch.equal(energies["data, behaviour"], energies["data, mix"])
    with torch.no_grad():
        trainer.agent.mix.become(trainer.agent.behaviour)
    energies = action_energies(trainer, 500)
    assert torch.equal(energies["data, behaviour"], energies["data, mix"])
    assert not torch.equal(energies["data, mix"], energies["policy, mix"])


def test_energies_are_taken_where_runs_verify():
    config = replace(CONFIG, verify_at_mean=True)
    trainer = Trainer(car.METHOD, [Member(point(), config, 0)], "cpu", steps=100)
    trainer.advance(8)
    agent = trainer.agent
    batch = trainer.data.sample(MemberRandom([0], "states"), 50)
    random = MemberRandom([0], "anything")
    expected = agent.verify(batch.observations, batch.actions, random)
    torch.testing.assert_close(action_energies(trainer, 50)["data, behaviour"], expected)


def test_runs_are_measured_shown_and_written(dataset, tmp_path, capsys):
    train(car.METHOD, [dataset], [0, 1], CONFIG, steps=20, out=tmp_path, quiet=True)
    CarPolicies(runs=(tmp_path,), episodes=2, states=100, out=tmp_path / "found.json").run()
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["seed"] for each in found] == [0, 1]
    for each in found:
        assert list(each["scores"]) == ["policy", "behaviour", "mix"]
        assert each["threshold"] == pytest.approx(0.1)
        low, high, top = each["energies"]["policy, behaviour"]
        assert low < high <= top
        assert (each["accepted"] == 1.0) == (top <= 0.1)
        assert (each["accepted"] >= 0.5) == (low <= 0.1)
    shown = capsys.readouterr().out
    assert "ε_ood" in shown
    assert shown.count("policy, mix") == 2


def test_other_methods_are_refused(dataset, tmp_path):
    config = bc.Config(hidden_sizes=(8,), batch_size=16)
    train(bc.METHOD, [dataset], [0], config, steps=2, out=tmp_path, quiet=True)
    with pytest.raises(ValueError, match="is a run of bc; expected one of CAR"):
        measure(trained_runs([tmp_path]))
