"""SPAR's stage III: the actor and its export."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from baselines.engine.members import Member
from baselines.engine.trainer import Trainer
from baselines.parts.networks import MLP
from baselines.parts.policies import DeterministicActor
from baselines.parts.residual_gate import RectifiedActor, Regressed
from baselines.parts.residual_rectifiers import Phase
from baselines.spar import METHOD
from tests.continuous import plain
from tests.spar_cases import EACH, GATE, SMALL, STEERED, VARIANTS, batch_of, decoded, opened, robust
from tests.toy import point


def test_until_residuals_are_trained_the_actor_is_the_base_policy():
    group = [Member(point(episodes=10), VARIANTS[kind], 1) for kind in ("mlp", "plas", "cvae")]
    trainer = Trainer(METHOD, group, "cpu", steps=100)
    trainer.advance(4)
    assert all(isinstance(trainer.agent.actor(m), DeterministicActor) for m in range(3))
    trainer.advance(6)
    kinds = [type(trainer.agent.actor(m)) for m in range(3)]
    assert kinds == [RectifiedActor, DeterministicActor, RectifiedActor]
    trainer.advance(1)
    assert isinstance(trainer.agent.actor(1), RectifiedActor)


@EACH
def test_the_actor_is_the_gate_over_all_candidates(kind):
    agent = opened(VARIANTS[kind])
    batch = batch_of(agent)
    for phase in (Phase(2), STEERED):
        agent.update(batch, phase)
    actor = agent.actor(0)
    assert actor.noise_size == (15 if kind.startswith(("proj", "cvae")) else 0)
    raw = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(40, actor.noise_size, generator=torch.Generator().manual_seed(1))
    frame = agent.data.frame(0)
    states = frame.observe(raw).double()
    base = plain(agent.anchor.policy.network, agent.anchor.policy.parameters[0].detach(), states)
    base, residual = base.tanh(), agent.rectifiers[kind].residual
    context = torch.cat([states, base], -1)
    if kind == "mlp":
        made = [plain(residual.network, residual.parameters[0].detach(), context)]
    else:
        theta = residual.parameters[0].detach()
        if kind == "plas":
            latents = [
                2 * plain(residual.pilot_network, residual.pilot[0].detach(), context).tanh()
            ]
        else:
            latents = [noise[:, 3 * k : 3 * k + 3].double() for k in range(5)]
        made = [decoded(residual, theta, states, base, z) for z in latents]
    candidates = [(base + each).clamp(-1, 1) for each in made]
    values = torch.stack([robust(agent, 0, GATE, states, each) for each in candidates])
    base_value = robust(agent, 0, GATE, states, base)
    gain, best = (values - base_value).max(0)
    taken = (gain > 1e-4) & (gain / (base_value.abs() + 1e-8) > 0.01)
    expected = torch.where(
        taken[:, None], torch.stack(candidates)[best, torch.arange(40)], base
    ).clamp(-1, 1)
    torch.testing.assert_close(actor(raw, noise).double(), expected, rtol=1e-4, atol=1e-5)
    never, always = (replace(actor, absolute=x, relative=x) for x in (math.inf, -math.inf))
    base_actor = agent.anchor.base_actor(0, agent.data, 0)
    assert torch.equal(never(raw, noise), base_actor(raw, noise[:, :0]))
    best_actions = torch.stack(candidates)[best, torch.arange(40)]
    torch.testing.assert_close(always(raw, noise).double(), best_actions, rtol=1e-4, atol=1e-5)
    paper = replace(actor, absolute=1e9, relative=1e9)  # Table 10's "off"
    assert torch.equal(paper(raw, noise), never(raw, noise))


def test_the_gate_refuses_where_critics_disagree_on_the_candidate():
    """ΔQ_rob = Δμ - λ_u (σ_a - σ_base), with critics that agree in a_base alone."""
    states, base = torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)
    critic = MLP((4, 1))
    # Q_1 = 1 + 3 a_1 and Q_2 = 1 + a_1: in a = (0.5, 0) they say 2.5 and 1.5.
    parameters = torch.tensor([[[0.0, 0.0, slope, 0.0, 1.0]] for slope in (3.0, 1.0)])
    actor = RectifiedActor(
        base=MLP((2, 2)),
        base_parameters=torch.zeros(1, MLP((2, 2)).num_parameters),
        proposal=Regressed(MLP((4, 2))),
        proposal_parameters=torch.tensor([[0.0] * 8 + [0.5, 0.0]]),
        critic=critic,
        critic_parameters=parameters,
        penalty=torch.tensor([0.0]),
        absolute=0.0,
        relative=-math.inf,
        frame=opened(SMALL).data.frame(0),
        action_size=2,
    )
    for penalty, gain in ((0.0, 1.0), (1.0, 0.5), (1.9, 0.05), (2.1, -0.05), (5.0, -1.5)):
        decision = replace(actor, penalty=torch.tensor([penalty])).decide(states, states[..., :0])
        assert decision.gains.item() == pytest.approx(gain, abs=1e-5)
        assert decision.accepted.item() == (gain > 0.0)
        taken = torch.tensor([[[0.5, 0.0]]]) if gain > 0.0 else base
        assert torch.allclose(decision.actions, taken)


def test_the_filter_of_plas_is_hard_on_every_task():
    config = METHOD.config_for(point("antmaze-large-diverse-hb", family="antmaze").spec)
    assert config.filtering == "soft"
    agent = opened(*(replace(SMALL, filtering="soft", variant=kind) for kind in ("plas", "cvae")))
    hard = {kind: each.weighting.hard.tolist() for kind, each in agent.rectifiers.items()}
    assert hard == {"plas": [True], "cvae": [False]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "plas", "proj-literal"])
def test_export_holds_candidates_and_gate(kind, tmp_path):
    from baselines.export import write_policy

    dataset = point(episodes=10)
    trainer = Trainer(METHOD, [Member(dataset, VARIANTS[kind], 0)], "cpu", steps=100)
    trainer.advance(20)
    difference = write_policy(trainer.agent.actor(0), dataset, tmp_path / "policy.onnx", {})
    assert difference.counted
    assert difference.value == 0.0
