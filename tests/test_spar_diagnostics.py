from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hetero_bench
from baselines import bc, spar, td3_bc
from baselines.diagnostics import gradient_conflict as conflicts
from baselines.diagnostics.gradient_conflict import GradientConflict, gradient_conflict, measure
from baselines.diagnostics.spar import (
    ResidualGeometry,
    Residuals,
    picture,
    residual_geometry,
    residuals_of,
)
from baselines.diagnostics.support_ratio import (
    SupportRatio,
    neighbour_distances,
    support_ratio,
)
from baselines.diagnostics.support_ratio import measure as measure_support
from baselines.engine import execute, get_method, make_plan
from baselines.engine.checkpoint import flatten, restore
from baselines.engine.members import Member
from baselines.engine.optimiser import MemberAdam
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.guided import GuidedFit
from tests.toy import point

SMALL = spar.Config(
    hidden_sizes=(8,),
    generator_sizes=(8,),
    latent_size=2,
    critics=4,
    subset=2,
    batch_size=16,
    guide_samples=4,
)


def test_neighbour_distances_by_hand():
    support = np.array([[0.0], [1.0], [3.0], [7.0]])
    points, none, own = np.array([[0.0], [3.0]]), np.array([-1, -1]), np.array([0, 2])
    assert neighbour_distances(points, support, none, 2).tolist() == [0.5, 1.0]
    assert neighbour_distances(points, support, own, 2).tolist() == [2.0, 2.5]
    with pytest.raises(ValueError, match="4 actions; expected more than 4"):
        neighbour_distances(points, support, own, 4)


def test_equal_actions_are_each_others_neighbours():
    support = np.zeros((30, 2))
    distances = neighbour_distances(support, support, np.arange(30), 5)
    assert distances.tolist() == [0.0] * 30


def test_the_support_ratio_of_the_dataset_itself_is_one_and_grows_with_distance():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (400, 2))
    rows = rng.permutation(400)[:200]
    assert support_ratio(actions[rows], actions, rows) == 1.0
    near = support_ratio(0.5 * actions[rows], actions, rows)
    far = support_ratio(actions[rows] + 4.0, actions, rows)
    assert near < 1.0
    assert far > 10.0


def test_actions_without_distances_have_no_support_ratio():
    actions = np.repeat(np.eye(2), 20, axis=0)
    with pytest.raises(ValueError, match="95% of the actions are among more than 10 equal ones"):
        support_ratio(actions[:5], actions, np.arange(5))


def test_a_policys_support_ratio():
    dataset = point(episodes=10)

    class Far:
        noise_size = 0

        def __call__(self, observations, noise):
            return torch.full((len(observations), 2), 5.0)

    assert measure_support(Far(), dataset, states=100) > 10.0


def test_the_conflict_of_a_quadratic_by_hand():
    """L_fit = θ², guidance -2θ from θ = 1: its gradient is -2 whatever θ."""
    theta = torch.tensor([[1.0]], requires_grad=True)
    optimiser = MemberAdam(theta, torch.tensor([1.0]))
    optimiser.second_moment.fill_(4.0)
    optimiser.first_moment.fill_(1.0)
    optimiser.steps.fill_(100_000.0)  # no correction is left
    terms = GuidedFit(optimiser, lambda x: x.square().sum(-1), lambda x: -2.0 * x.sum(-1))
    expected = {"none": 3e-4, "second": 3e-4 * 2 / 2.0, "both": 3e-4 * (-0.7) / 2.0}
    for moments, step in expected.items():
        found = gradient_conflict(terms, moments)
        assert found.direction.item() == pytest.approx(2.0 * step, rel=1e-3)
        assert found.degradation.item() == pytest.approx((1 + step) ** 2 - 1, rel=1e-2)
    assert (theta.item(), optimiser.steps.item()) == (1.0, 1e5)


@pytest.mark.parametrize("scale", [1.0, 2.0, 1e6])
def test_guidance_is_clipped_as_in_training(scale):
    """A gradient (-3, -4) of length 5, clipped to 1, is (-0.6, -0.8), however long it was."""
    theta = torch.tensor([[1.0, 0.0]], requires_grad=True)
    optimiser = MemberAdam(theta, torch.tensor([1.0]))
    optimiser.second_moment.fill_(4.0)
    optimiser.steps.fill_(100_000.0)
    slope = torch.tensor([3.0, 4.0]) * scale
    terms = GuidedFit(
        optimiser, lambda x: x.square().sum(-1), lambda x: -(slope * x).sum(-1), torch.ones(1)
    )
    assert gradient_conflict(terms).direction.item() == pytest.approx(2 * 3e-4 * 0.6 / 2, rel=1e-3)


def spar_population(*configs, seeds=(0,), steps=30):
    group = [Member(point(episodes=10), config, seed) for config in configs for seed in seeds]
    trainer = Trainer(spar.METHOD, group, "cpu", steps=steps)
    trainer.advance(steps)
    return trainer


STAGED = replace(SMALL, stage1_steps=10, generator_steps=10)
KINDS = {
    "mlp": replace(STAGED, variant="mlp"),
    "plas": replace(STAGED, variant="plas"),
    "cvae": replace(STAGED, variant="cvae"),
    "proj-literal": STAGED,
    "proj-cross": replace(STAGED, guidance="cross"),
}


def test_conflicts_of_spar_leave_the_population_as_it_is_and_literal_proj_conflicts_least():
    trainer = spar_population(*KINDS.values())

    def learned():
        state = dict(flatten(trainer.state_dict()))
        return {k: v.detach().clone() for k, v in state.items() if not k.endswith("counter")}

    before = learned()
    found = measure(trainer, batches=3)
    assert [each.kind for each in found.values()] == ["mlp", "plas", "proj-literal", "proj-cross"]
    assert list(found) == [0, 1, 3, 4], "a generator without guidance is left out"
    for name, tensor in learned().items():
        assert torch.equal(before[name], tensor), name
    assert np.isfinite([list(each.by_moments.values()) for each in found.values()]).all()
    dd = {number: abs(each.by_moments["second"][0]) for number, each in found.items()}
    assert min(dd[0], dd[1]) > 10 * dd[3]


def test_all_ways_to_start_adam_see_the_same_noise(monkeypatch):
    """Three equal ways give three equal answers, for a guidance that draws numbers."""
    monkeypatch.setattr(conflicts, "MOMENTS", ("second", "none", "both"))
    monkeypatch.setattr(
        conflicts,
        "gradient_conflict",
        lambda terms, moments: gradient_conflict(terms, "second"),
    )
    (found,) = measure(spar_population(KINDS["proj-cross"]), batches=2).values()
    assert found.by_moments["second"] == found.by_moments["none"] == found.by_moments["both"]


def test_conflicts_of_seeds_are_kept_apart():
    found = measure(spar_population(KINDS["mlp"], seeds=(3, 4)), batches=1)
    assert found[0].by_moments["second"] != found[1].by_moments["second"]


SMALL_TD3 = {"hidden_sizes": (8,), "batch_size": 16, "policy_delay": 1}
SMALL_DENSITY = {"dropout": 0.0, "density_sizes": (8,)}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("td3_bc", {}),
        ("c4_td3_bc", {}),
        ("rebrac", {}),
        ("spot", SMALL_DENSITY | {"density_steps": 1, "density_weight": 0.7}),
        ("car", SMALL_DENSITY | {"warmup_steps": 1, "density_weight": 0.7}),
    ],
)
def test_the_terms_of_a_method_are_those_of_what_it_minimises(name, changes):
    method = get_method(name, "continuous")
    config = replace(method.config(), **(SMALL_TD3 | changes))
    trainer = Trainer(method, [Member(point(episodes=5), config, 0)], "cpu", steps=9)
    trainer.advance(3)
    agent = trainer.agent
    batch = trainer.data.sample(MemberRandom([0], "test"), 16)
    td3 = getattr(agent, "backbone", agent).td3
    theta = td3.policy.parameters
    before = {key: each.clone() for key, each in flatten(agent.state_dict())}
    (found,) = agent.guided(batch)
    fitting, guiding = (
        torch.autograd.grad(term(theta).sum(), theta)[0]
        for term in (found.terms.fit, found.terms.guide)
    )
    restore(agent.state_dict(), before)  # the same noise once more
    applied = []
    optimiser = td3.policy.optimiser
    optimiser.minimise = lambda loss, active: applied.extend(torch.autograd.grad(loss.sum(), theta))
    td3.improve_critics = lambda batch, active: {}
    agent.update(batch, agent.phase(4))
    torch.testing.assert_close(fitting + guiding, applied[0], rtol=1e-4, atol=1e-7)
    assert min(fitting.abs().max(), guiding.abs().max()) > 0.0


def test_policies_that_only_climb_or_only_fit_have_no_conflict():
    for name in ("bc", "iql", "c4_iql", "edac"):
        method = get_method(name, "continuous")
        config = replace(method.config(), hidden_sizes=(8,), batch_size=16)
        trainer = Trainer(method, [Member(point(episodes=5), config, 0)], "cpu", steps=2)
        assert measure(trainer, batches=1) == {}


def clouds(*centres, spread=0.1, rows=900):
    rng = np.random.default_rng(0)
    which = rng.integers(len(centres), size=rows)
    return np.array(centres, float)[which] + spread * rng.normal(size=(rows, len(centres[0])))


@pytest.mark.parametrize(
    ("residuals", "clusters", "recommendation"),
    [
        (clouds((0, 0)), 1, "mlp"),
        (clouds((0.6, 0), (-0.6, 0)), 2, "proj"),
        (clouds((0.6, 0), (-0.6, 0), (0, 0.8)), 3, "proj"),
    ],
)
def test_clusters_decide_the_recommendation(residuals, clusters, recommendation):
    geometry = residual_geometry(residuals, residuals)
    assert (geometry.clusters, geometry.recommendation) == (clusters, recommendation)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 6, 8])
def test_the_recommendation_does_not_depend_on_the_dimension(dimensions):
    rng = np.random.default_rng(dimensions)
    round_cloud = rng.normal(size=(1500, dimensions))
    far_off = rng.standard_t(2, size=(1500, dimensions))
    found = residual_geometry(round_cloud, round_cloud)
    assert (found.clusters, found.recommendation) == (1, "mlp")
    assert found.tail == pytest.approx(found.normal_tail, rel=0.2)
    assert residual_geometry(far_off, far_off).recommendation == "proj"


def test_the_geometry_of_a_stretched_cloud_by_hand():
    rng = np.random.default_rng(0)
    residuals = rng.normal(size=(2000, 2)) * [0.3, 0.1]
    actions = rng.uniform(-1, 1, (2000, 2))
    geometry = residual_geometry(residuals, actions, rho=0.1)
    lengths = np.linalg.norm(residuals, axis=1)
    assert (lengths <= geometry.radius).mean() == pytest.approx(0.9, abs=1e-3)
    assert (lengths < geometry.radius).mean() < 0.9
    assert geometry.top_share == pytest.approx(0.9, abs=0.02)  # 0.09 of 0.09 + 0.01
    assert geometry.diameter == pytest.approx(2 * math.sqrt(2), rel=0.05)
    isotropic = residual_geometry(residuals / [0.3, 0.1], actions)
    assert isotropic.top_share < 0.6
    assert geometry.recommendation == "mlp"
    assert replace(geometry, tail=1.6 * geometry.normal_tail).recommendation == "proj"
    assert replace(geometry, clusters=2).recommendation == "proj"


def test_residuals_are_what_is_left_of_actions(tmp_path):
    config = replace(SMALL, variant="base", stage1_steps=5)
    trainer = Trainer(spar.METHOD, [Member(point(episodes=10), config, 0)], "cpu", steps=5)
    trainer.advance(5)
    found = residuals_of(trainer, 50, seed=3)
    rows = np.sort(np.random.default_rng(3).permutation(len(trainer.data.rows.actions))[:50])
    observations = trainer.data.rows.observations[rows].unsqueeze(0)
    base = trainer.agent.anchor.base_actions(observations)[0].numpy()
    np.testing.assert_array_equal(found.actions, trainer.data.rows.actions[rows].numpy())
    np.testing.assert_allclose(found.residuals, found.actions - base, atol=1e-6)
    assert found.values.shape == (50,)


def test_support_ratios_of_trained_runs(tmp_path, capsys):
    """A BC run on a bundled dataset, trained for an instant."""
    plan = make_plan(
        "bc", ["hopper-random-hb-10k"], [0], steps=1, log_every=1, evaluation_episodes=1
    )
    execute(plan, tmp_path / "runs", overwrite=False, quiet=True)
    SupportRatio((tmp_path / "runs",), states=50, out=tmp_path / "x.json").run()
    (found,) = json.loads((tmp_path / "x.json").read_text())
    assert (found["method"], found["seed"]) == ("bc", 0)
    assert found["ratio"] > 0.0
    assert "support ratio" in capsys.readouterr().out


@pytest.mark.slow
def test_the_picture_shows_every_residual():
    rng = np.random.default_rng(0)
    figure = picture(
        Residuals(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)), np.arange(60)), "t"
    )
    (points,) = figure.axes[0].collections
    assert points.get_offsets().shape == (60, 2)
    assert points.get_array().tolist() == list(range(60))


@pytest.mark.slow
def test_diagnostics_run(tmp_path, cache, monkeypatch, capsys):
    from baselines.diagnostics.spar import ResidualGeometry

    dataset = point(episodes=10)
    monkeypatch.setattr(hetero_bench, "load", lambda name: dataset)
    monkeypatch.setattr(type(spar.METHOD), "config_for", lambda method, spec: SMALL)
    ResidualGeometry("point", steps=5, residuals=100, out=tmp_path).run()
    facts = json.loads((tmp_path / f"{dataset.id}-seed-0.json").read_text())
    assert facts["recommendation"] in ("mlp", "proj")
    assert (tmp_path / f"{dataset.id}-seed-0.png").stat().st_size > 1000
    assert "recommendation: --config.variant" in capsys.readouterr().out


def test_conflicts_of_trained_runs(tmp_path, capsys):
    names = ["hopper-random-hb-10k"]
    small = {"hidden_sizes": (8,), "batch_size": 8}
    plans = [
        make_plan("td3_bc", names, [3], [td3_bc.Config(**small)], steps=3, evaluation_episodes=1),
        make_plan("bc", names, [3], [bc.Config(**small)], steps=2, evaluation_episodes=1),
    ]
    for plan in plans:
        execute(plan, tmp_path / "runs", overwrite=False, quiet=True)
    GradientConflict((tmp_path / "runs",), batches=2, out=tmp_path / "x.json").run()
    found = json.loads((tmp_path / "x.json").read_text())
    assert {(each["method"], each["seed"], each["steps"]) for each in found} == {("td3_bc", 3, 3)}
    assert [each["moments"] for each in found] == ["second", "both", "none"]
    assert "left out: 1 runs" in capsys.readouterr().out


def test_a_geometry_that_makes_no_sense_is_refused():
    few = clouds((0.0, 0.0), rows=10)
    with pytest.raises(ValueError, match="10 residuals; expected at least 100"):
        residual_geometry(few, few)
    damaged = clouds((0.0, 0.0))
    damaged[5, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        residual_geometry(damaged, damaged)
    with pytest.raises(ValueError, match="all residuals are alike"):
        residual_geometry(np.ones((100, 2)), clouds((0.0, 0.0), rows=100))
    with pytest.raises(ValueError, match="rho is 1; expected"):
        ResidualGeometry("hopper-medium-replay-hb-10k", rho=1.0).run()
    with pytest.raises(ValueError, match="steps is 0; expected at least 1"):
        ResidualGeometry("hopper-medium-replay-hb-10k", steps=0).run()
    with pytest.raises(ValueError, match="residuals is 99; expected at least 100"):
        ResidualGeometry("hopper-medium-replay-hb-10k", residuals=99).run()


def test_a_dataset_without_enough_transitions_is_refused_before_anything_is_trained(monkeypatch):
    tiny = SimpleNamespace(id="tiny-v0", transitions=range(99))
    monkeypatch.setattr(hetero_bench, "load", lambda name: tiny)
    with pytest.raises(ValueError, match="tiny-v0 has 99 transitions; expected at least 100"):
        ResidualGeometry("tiny").run()
