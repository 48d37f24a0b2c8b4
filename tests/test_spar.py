"""SPAR as a whole: phases, populations, hyperparameters, learning."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from baselines.engine.checkpoint import flatten, read_checkpoint, restore, write_checkpoint
from baselines.engine.data import MemberData
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from baselines.parts.residual_rectifiers import Phase
from baselines.spar import METHOD, Agent, Config
from tests.spar_cases import SMALL, VARIANTS, make
from tests.test_population import WithoutSynchronisation
from tests.toy import point


def test_phases():
    agent = make(replace(SMALL, variant="plas"))
    phases = [agent.phase(step) for step in range(16)]
    assert phases[:4] == [Phase(1)] * 4
    assert [step for step, each in enumerate(phases) if each.first] == [4]
    assert [step for step, each in enumerate(phases) if each.guided] == [8, 13]
    assert [step for step, each in enumerate(phases) if each.steered] == list(range(10, 16))
    assert [str(phases[step]) for step in (3, 4, 5, 8, 13)] == [
        "stage I",
        "stage II, verdicts",
        "stage II",
        "stage II, guidance",
        "stage II, guidance, latent policy",
    ]
    assert not any(make().phase(step).steered for step in range(16))


def test_members_that_differ_in_stage_two_alone_share_stage_one():
    dataset = point(episodes=10)
    configs = [*VARIANTS.values(), replace(SMALL, temperature=0.3), replace(SMALL, variant="base")]
    configs += [replace(SMALL, expectile=0.9), replace(SMALL, reward_shift=-1.0)]
    group = [Member(dataset, config, 1) for config in configs] + [Member(dataset, SMALL, 2)]
    together = Trainer(METHOD, group, "cpu", steps=100)
    assert together.agent.groups.tolist() == [0] * 8 + [1, 2, 3]
    assert together.agent.anchor.policy.parameters.shape[0] == 4
    together.advance(24)
    observations = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    for number, member in enumerate(group):
        alone = Trainer(METHOD, [member], "cpu", steps=100)
        alone.advance(24)
        g = int(together.agent.groups[number])
        ours, theirs = (each.agent.anchor.critics.parameters for each in (together, alone))
        torch.testing.assert_close(ours[:, g], theirs[:, 0], rtol=0, atol=1e-5)
        for kind, rectifiers in alone.agent.rectifiers.items():
            mine = together.agent.rectifiers[kind]
            row = mine.index.tolist().index(number)
            ours, theirs = (x.residual.proposal_parameters() for x in (mine, rectifiers))
            torch.testing.assert_close(ours[row], theirs[0], rtol=0, atol=1e-5)
        actors = [together.agent.actor(number), alone.agent.actor(0)]
        noise = torch.zeros(6, actors[0].noise_size)
        assert actors[0].noise_size == actors[1].noise_size
        torch.testing.assert_close(
            *(actor(observations, noise) for actor in actors), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("stop", [2, 4, 5, 9, 10, 13])
def test_a_run_stopped_in_any_stage_goes_on_to_equal_bits(stop, tmp_path):
    group = [Member(point(episodes=10), config, 1) for config in VARIANTS.values()]
    whole, first, second = (Trainer(METHOD, group, "cpu", steps=100) for _ in range(3))
    whole.advance(17)
    first.advance(stop)
    write_checkpoint(tmp_path / "x", first.state_dict(), {})
    restore(second.state_dict(), read_checkpoint(tmp_path / "x")[0])
    second.advance(17 - stop)
    theirs = dict(flatten(second.state_dict()))
    for name, tensor in flatten(whole.state_dict()):
        assert torch.equal(theirs[name], tensor), name


def test_no_phase_synchronises_with_the_host():
    group = [Member(point(episodes=10), config, 1) for config in VARIANTS.values()]
    trainer = Trainer(METHOD, group, "cpu", steps=100)
    with WithoutSynchronisation():
        trainer.advance(16)
    assert trainer.frozen() == []


def test_metrics_of_a_variant_are_no_numbers_for_others():
    group = [Member(point(episodes=10), VARIANTS[kind], 1) for kind in ("mlp", "proj-literal")]
    trainer = Trainer(METHOD, group, "cpu", steps=100)
    trainer.advance(14)
    metrics = trainer.take_metrics()
    assert metrics["imitation_loss"][0] is None
    assert metrics["imitation_loss"][1] >= 0.0
    assert metrics["guide_loss"][1] is None
    for name in ("loss", "gate_accepted", "gate_gain", "weight", "residual"):
        assert all(math.isfinite(value) for value in metrics[name]), name


def test_a_run_that_ends_before_its_last_stage_is_refused():
    def start(steps, **changes):
        Agent([replace(SMALL, **changes)], MemberData([point()], steps=steps), [0])

    start(5)
    start(4, variant="base")
    with pytest.raises(ValueError, match="takes 4 updates before its last stage .stage1_steps., "):
        start(4)
    with pytest.raises(
        ValueError, match="10 updates before .* and generator_steps., .* run has 10"
    ):
        start(10, variant="plas")


def test_stages_have_half_of_the_run_each_unless_told_otherwise():
    def lengths(steps, **changes):
        config = replace(SMALL, **{"stage1_steps": None, "generator_steps": None} | changes)
        agent = Agent([config], MemberData([point(episodes=2)], steps=steps), [0])
        return agent.stage1_steps, agent.generator_steps

    assert lengths(2_000_000) == (1_000_000, 500_000)
    assert lengths(None) == (1_000_000, 500_000)
    assert lengths(100, stage1_steps=60) == (60, 20)
    assert lengths(100, generator_steps=10, variant="plas") == (50, 10)
    assert lengths(3, variant="plas") == (1, 1)
    assert lengths(2, variant="proj") == (1, 1), "of which PROJ makes no use"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("variant", "flow"),
        ("guidance", "both"),
        ("weighting", "linear"),
        ("filtering", "medium"),
        ("base_policy", "flow"),
        ("temperature", 0.0),
        ("temperature", 1e-39),
        ("guide_weight", -1.0),
        ("uncertainty_weight", math.nan),
        ("gate_absolute", math.inf),
        ("subset", 7),
        ("subset", 1),
        ("candidates", 0),
        ("generator_target", 1.5),
        ("generator_sizes", [8]),
        ("stage1_steps", 0),
        ("generator_steps", 0),
        ("generator_steps", 0.5),
    ],
)
def test_hyperparameters_without_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"Config: {name} is .*; expected"):
        replace(SMALL, **{name: value})


def test_overrides_are_those_of_table_8():
    def config(name, family="locomotion"):
        return METHOD.config_for(point(name, family=family).spec)

    expected = {
        "halfcheetah-medium-replay-hb": ("mlp", 0.5, 0.5, "hard", 1.0),
        "hopper-medium-replay-hb-10k": ("mlp", 0.5, 0.5, "hard", 1.0),
        "walker2d-medium-replay-hb": ("mlp", 0.5, 2.0, "hard", 1.0),
        "hopper-medium-hb": ("mlp", 0.5, 0.5, "hard", 1.0),
        "halfcheetah-medium-expert-hb": ("proj", 0.5, 0.5, "hard", 0.3),
        "hopper-medium-expert-hb-10k": ("proj", 2.0, 0.5, "hard", 0.3),
        "walker2d-medium-expert": ("proj", 0.5, 2.0, "hard", 0.3),
        "hopper-random-hb": ("proj", 0.5, 0.5, "hard", 0.3),
    }
    for name, values in expected.items():
        c = config(name)
        found = (c.variant, c.uncertainty_weight, c.guide_weight, c.filtering, c.temperature)
        assert found == values, name
        assert (c.base_policy, c.expectile, c.reward_shift) == ("deterministic", 0.5, 0.0)
    for name, weight in {"antmaze-umaze-diverse": 2.0, "antmaze-medium-noisy-10k": 0.5}.items():
        c = config(name, "antmaze")
        assert (c.variant, c.guide_weight, c.filtering, c.temperature) == (
            "proj",
            weight,
            "soft",
            0.3,
        )
        assert (c.base_policy, c.expectile, c.reward_shift) == ("gaussian", 0.9, -1.0)
    pen = config("pen-cloned", "adroit")
    assert (pen.variant, pen.filtering, pen.base_policy, pen.expectile) == (
        "proj",
        "soft",
        "gaussian",
        0.5,
    )


@pytest.mark.slow
def test_learns_to_reach_the_point():
    """Base, MLP and PROJ of two seeds share stage I; residuals improve on the base policy."""
    config = Config(
        hidden_sizes=(32, 32),
        generator_sizes=(32, 32),
        latent_size=4,
        guide_samples=8,
        stage1_steps=600,
        anchor_rate=3e-3,
        residual_rate=3e-3,
        target_rate=0.02,
        batch_size=64,
    )
    configs = [replace(config, variant=variant) for variant in ("base", "mlp", "proj")]
    group = [Member(point(), each, seed) for each in configs for seed in range(2)]
    trainer = Trainer(METHOD, group, "cpu", steps=1_200)
    trainer.advance(1_200)
    scores = []
    for number, member in enumerate(group):
        record = evaluate_member(member, trainer.agent.actor(number), 1_200, 20)
        scores.append(member.dataset.spec.normalized_score(record.returns).mean())
    base, mlp, proj = scores[:2], scores[2:4], scores[4:]
    assert min(mlp) > max(base) + 10.0
    assert min(proj) > max(base) + 10.0
