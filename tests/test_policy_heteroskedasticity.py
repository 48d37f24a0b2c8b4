"""Trained policies against the behaviour: ``diagnose heteroskedasticity``."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from baselines import cql, reds, td3_bc
from baselines.diagnostics import heteroskedasticity as diagnostic
from baselines.diagnostics.heteroskedasticity import (
    Diagnostic,
    before_tanh,
    gaussian_actors,
    measure,
    policy_heteroskedasticity,
)
from baselines.engine import make_plan
from baselines.engine.checkpoint import read_checkpoint
from baselines.engine.ledger import Ledger
from baselines.engine.members import Member
from baselines.engine.trained import TrainedPopulation, TrainedRun
from baselines.engine.trainer import Trainer
from baselines.engine.training import execute
from hetero_bench.dataset import Dataset
from hetero_bench.heteroskedasticity.policies import collecting_policies
from hetero_bench.registry import get_spec
from hetero_bench.spec import RecipeSpec
from tests.toy import point

SMALL = {"critic_sizes": (8, 8), "policy_sizes": (16,), "samples": 3, "batch_size": 32}
MEAN, STD = 0.3, 0.4


def recorded(dataset, means, stds, policies=1):
    """The dataset with a tanh-Gaussian behaviour on record, collected by so many policies."""
    extras = {
        "behaviour_means": np.float32(np.broadcast_to(means, dataset.arrays.actions.shape)),
        "behaviour_stds": np.float32(np.broadcast_to(stds, dataset.arrays.actions.shape)),
    }
    arrays = dataclasses.replace(dataset.arrays, extras=extras)
    parameters = {"policies": [{}] * policies}
    recipe = RecipeSpec(name="locomotion", version=1, seed=0, parameters=parameters)
    spec = dataset.spec.model_copy(update={"recipe": recipe if policies else None})
    return Dataset(spec=spec, arrays=arrays, provenance=dataset.provenance)


def tanh_point():
    """Actions are drawn from the recorded tanh-Gaussian, the same one in all states."""
    dataset = point(episodes=20)
    noise = np.random.default_rng(0).normal(size=dataset.arrays.actions.shape)
    actions = np.tanh(MEAN + STD * noise).astype(np.float32)
    arrays = dataclasses.replace(dataset.arrays, actions=actions)
    return recorded(
        Dataset(spec=dataset.spec, arrays=arrays, provenance=dataset.provenance), MEAN, STD
    )


def agent_of(module, dataset, **changes):
    config = module.Config(**{**SMALL, **changes})
    return Trainer(module.METHOD, [Member(dataset, config, 0)], "cpu").agent


def test_a_policy_before_tanh_is_the_one_that_acts():
    """Observations are normalised on the way, and actions have the environment's bounds."""
    bounds = {"action": {"shape": [2], "dtype": "float32", "low": -2.0, "high": 2.0}}
    dataset = point(episodes=5, **bounds)
    actor = agent_of(cql, dataset, normalise_observations=True).gaussian_actor(0)
    assert not torch.equal(actor.frame.std, torch.ones(2))
    observations = dataset.arrays.observations
    means, stds = before_tanh(actor)(observations, np.zeros((len(observations), 2)))
    noise = np.random.default_rng(0).normal(size=means.shape)
    actions = actor(torch.from_numpy(observations), torch.from_numpy(np.float32(noise)))
    np.testing.assert_allclose(actions.detach(), 2.0 * np.tanh(means + stds * noise), atol=1e-5)


def test_a_policy_that_is_the_behaviour_diverges_from_nothing():
    dataset = point(episodes=5)
    actor = agent_of(cql, dataset).gaussian_actor(0)
    means, stds = before_tanh(actor)(dataset.arrays.observations, None)
    found = policy_heteroskedasticity(recorded(dataset, means, stds), actor)
    assert (found.behaviour, found.squash) == ("exact", "tanh")
    np.testing.assert_allclose(found.divergence, 0.0, atol=1e-4)
    np.testing.assert_allclose(found.kl, 0.0, atol=1e-4)


def test_a_shifted_behaviour_has_the_divergence_of_two_gaussians():
    dataset = point(episodes=5)
    actor = agent_of(cql, dataset).gaussian_actor(0)
    means, stds = before_tanh(actor)(dataset.arrays.observations, None)
    found = policy_heteroskedasticity(recorded(dataset, means + 0.5 * stds, stds), actor)
    np.testing.assert_allclose(found.kl, 2 * 0.5 * 0.5**2, rtol=1e-3)
    np.testing.assert_allclose(found.divergence, math.exp(2 * 0.5**2) - 1.0, rtol=1e-3)
    assert found.std == pytest.approx(0.0, abs=1e-3)


def test_rho_fitted_without_reweighting_is_near_the_behaviour():
    """KL(ρ ‖ β) falls to almost nothing where all weights are one."""
    dataset = tanh_point()
    trainer = Trainer(reds.METHOD, [Member(dataset, reds.Config(**SMALL, rho_rate=1e-2), 0)], "cpu")
    agent, kl = trainer.agent, []
    for updates in (0, 300):
        for _ in range(updates):
            batch = trainer.data.sample(trainer.batches, 64)
            agent.fit_rho(batch, torch.ones(1, 64))
        actor = agent.rho.gaussian_actor(0)
        kl.append(policy_heteroskedasticity(dataset, actor).kl_summary.mean)
    assert kl[0] > 0.5
    assert kl[1] < 0.05


def trained(method, config, out, dataset):
    """A run of two updates, as ``trained_runs`` finds it."""
    plan = make_plan(method, [dataset], [3], config, steps=2, evaluation_episodes=1)
    (run,) = execute(plan, out, quiet=True)
    path = plan.checkpoint_path(out)
    ledger = Ledger.of(plan, read_checkpoint(path)[1], path)
    file = plan.run_path(out, plan.members[0])
    return TrainedRun(file, run, TrainedPopulation(path, plan, ledger), 0)


def test_the_command_measures_the_policy_and_rho(tmp_path, monkeypatch, capsys):
    dataset = tanh_point()
    runs = [
        trained(reds.METHOD, reds.Config(**SMALL), tmp_path, dataset),
        trained(reds.METHOD, reds.Config(**SMALL, rho_term="data"), tmp_path / "data", dataset),
    ]
    monkeypatch.setattr(diagnostic, "trained_runs", lambda paths: runs)
    Diagnostic(runs=(tmp_path,), out=tmp_path / "found.json").run()
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["of"] for each in found] == ["policy", "rho", "policy"]
    rho = runs[0].population.trainer.agent.rho.gaussian_actor(0)
    expected = policy_heteroskedasticity(dataset, rho)
    assert found[1]["std"] == pytest.approx(expected.std)
    assert found[1]["kl"]["mean"] == pytest.approx(expected.kl_summary.mean)
    assert (found[1]["method"], found[1]["seed"], found[1]["behaviour"]) == ("reds", 3, "exact")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("point-v0", "rho", f"{expected.kl_summary.mean:.3g}"))


def test_a_behaviour_that_is_not_recorded_is_fitted(tmp_path):
    run = trained(cql.METHOD, cql.Config(**SMALL), tmp_path, point(episodes=10))
    (found,) = measure([run])
    assert found.measures.behaviour == "fitted"
    assert found.measures.fit.rows > 200
    assert np.isfinite(found.measures.kl).all()


@pytest.mark.parametrize(("policies", "expected"), [(0, "fitted"), (1, "exact"), (2, "fitted")])
def test_one_policys_record_is_the_behaviour_and_a_mixtures_is_not(policies, expected):
    dataset = recorded(point(episodes=10), MEAN, STD, policies)
    actor = agent_of(cql, dataset).gaussian_actor(0)
    assert policy_heteroskedasticity(dataset, actor).behaviour == expected
    assert policy_heteroskedasticity(dataset, actor, "exact").behaviour == "exact"


def test_how_many_policies_collected_is_what_the_recipe_says():
    """A subset's is that of the dataset that it is drawn from."""
    numbers = {"medium": 1, "medium-expert": 2, "medium-replay": None}
    for quality, number in numbers.items():
        whole = get_spec(f"hopper-{quality}-hb")
        for spec in (whole, whole.resized(500), get_spec(f"hopper-{quality}-hb-10k")):
            assert collecting_policies(spec) == number, spec.id


def test_a_policy_of_another_kind_is_refused(tmp_path):
    config = td3_bc.Config(hidden_sizes=(8,), batch_size=16)
    run = trained(td3_bc.METHOD, config, tmp_path, point(episodes=5))
    with pytest.raises(ValueError, match="run of td3_bc; expected cql or reds"):
        gaussian_actors(run)
