"""The diagnostic of trained policies, on policies whose numbers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines import spar
from baselines.cli import main
from baselines.diagnostics import DIAGNOSTICS
from baselines.diagnostics.policy import diagnose
from baselines.engine import train, trained_runs
from baselines.named import find_named
from tests.toy import corridor, point

OPTIONS = {"steps": 2, "evaluation_episodes": 1, "quiet": True}


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Returns the one run that a method leaves on a dataset."""

    def run(method, dataset):
        monkeypatch.setattr("hetero_bench.load", lambda *_, **__: dataset)
        train(method, [dataset], [0], out=tmp_path, **OPTIONS)
        return trained_runs([tmp_path])[0]

    return run


class Fixed:
    """An actor that returns what it is told, plus its noise."""

    def __init__(self, actions, noise_size=0):
        self.actions, self.noise_size = torch.as_tensor(actions), noise_size

    def __call__(self, observations, noise):
        return self.actions + noise if self.noise_size else self.actions


def act(monkeypatch, actor):
    monkeypatch.setattr("baselines.engine.TrainedRun.actor", lambda self: actor)


def test_continuous_actions_are_measured_against_the_datas(trained, monkeypatch):
    dataset = point(episodes=2)
    run = trained("td3_bc", dataset)
    taken = np.asarray(dataset.transitions.actions)
    act(monkeypatch, Fixed(taken + np.float32(0.5)))
    found = diagnose(run, rows=10_000)
    assert found["distance"] == pytest.approx(0.5, rel=1e-5)
    assert found["spread"] == pytest.approx(found["spread (data)"], rel=1e-5)
    assert found["spread (data)"] == pytest.approx(taken.std(axis=0).mean(), rel=1e-5)
    assert found["at bounds (data)"] == pytest.approx((np.abs(taken) > 0.99).mean())
    assert "noise" not in found

    act(monkeypatch, Fixed(np.ones_like(taken)))
    found = diagnose(run, rows=10_000)
    assert (found["at bounds"], found["spread"]) == (1.0, 0.0)
    critics = run.population.trainer.agent.critics
    observations = run.population.trainer.data.rows.observations[None]
    values = critics(observations, torch.ones(1, len(taken), 2))[:, 0].detach()
    assert found["Q(policy)"] == pytest.approx(float(values.mean()), rel=1e-4)
    spread = (values[0] - values[1]).abs().mean() / 2
    assert found["Q std"] == pytest.approx(float(spread), rel=1e-4)
    act(monkeypatch, Fixed(taken, noise_size=2))
    # Two independent samples of noise of deviation 1
    assert diagnose(run, rows=10_000)["noise"] == pytest.approx(np.sqrt(2), rel=0.3)


def test_discrete_actions(trained, monkeypatch):
    dataset = corridor(episodes=4)
    run = trained("bc", dataset)
    taken = np.asarray(dataset.transitions.actions)
    act(monkeypatch, Fixed(taken))
    found = diagnose(run, rows=10_000)
    shares = np.bincount(taken) / len(taken)
    assert found["agreement"] == 1.0
    assert found["entropy"] == pytest.approx(-(shares * np.log(shares)).sum())
    act(monkeypatch, Fixed(np.zeros_like(taken)))
    found = diagnose(run, rows=10_000)
    assert found["agreement"] == pytest.approx(shares[0])
    assert found["entropy"] == 0.0


def test_members_of_spar_are_judged_by_the_critics_of_their_group(monkeypatch, tmp_path):
    """The second member has the first one's, the third the second of two sets of critics."""
    dataset = point(episodes=2)
    monkeypatch.setattr("hetero_bench.load", lambda *_, **__: dataset)
    small = spar.Config(
        hidden_sizes=(8,), generator_sizes=(8,), critics=4, subset=2, batch_size=8, stage1_steps=1
    )
    configs = [
        replace(small, variant=variant, discount=discount)
        for variant, discount in (("base", 0.9), ("mlp", 0.9), ("mlp", 0.5))
    ]
    train(spar.METHOD, [dataset], [0], configs, out=tmp_path, **OPTIONS)
    runs = sorted(trained_runs([tmp_path]), key=lambda each: each.number)
    data, agent = runs[0].population.trainer.data, runs[0].population.trainer.agent
    assert agent.groups.tolist() == [0, 0, 1]
    critics = agent.anchor.critics
    with torch.no_grad():
        values = critics(
            data.rows.observations.expand(2, -1, -1), data.rows.actions.expand(2, -1, -1)
        )
    of_group = values.mean((0, -1)).tolist()
    assert of_group[0] != pytest.approx(of_group[1])
    found = [diagnose(each, rows=10_000)["Q(data)"] for each in runs]
    assert found == pytest.approx([of_group[0], of_group[0], of_group[1]], rel=1e-4)


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_every_diagnostic_knows_datasets_of_ones_own(name, monkeypatch):
    def register(path):
        raise FileNotFoundError(f"looked for {path}")

    monkeypatch.setattr("hetero_bench.register", register)
    diagnostic = find_named("diagnostic", DIAGNOSTICS, name)
    asked = "dataset" if "dataset" in diagnostic.__dataclass_fields__ else "runs"
    with pytest.raises(FileNotFoundError, match=r"looked for mine\.json"):
        diagnostic(**{asked: ()}, register=("mine.json",)).run()


def test_from_the_command_line(trained, tmp_path, capsys):
    trained("td3_bc", point(episodes=2))
    assert main(["diagnose", "policy", str(tmp_path), "--rows", "5"]) == 0
    said = capsys.readouterr().out
    assert "distance" in said
    assert main(["diagnose", "policy", str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err
