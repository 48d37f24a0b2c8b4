"""SPAR's stage II: what moves, and the gradient of each variant."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from baselines.engine.members import Member
from baselines.engine.precision import MatmulPrecision
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.residual_rectifiers import Phase
from baselines.spar import METHOD
from tests.continuous import as_double, assert_gradient, gradient, moved, plain, snapshot
from tests.spar_cases import (
    DATA,
    EACH,
    FIRST,
    GUIDE,
    GUIDED,
    LOOKED_AT,
    ROWS,
    SMALL,
    STEERED,
    VARIANTS,
    batch_of,
    critic_values,
    decoded,
    make,
    opened,
    robust,
    seen,
)
from tests.toy import point


@EACH
def test_stage_two_moves_residuals_alone(kind):
    """No gradient and no moving average reaches stage I; a fixed generator stays."""
    agent = opened(VARIANTS[kind])
    prefix, target = f"residual.{kind}.", {"target"} if "proj" in kind else set()
    for phase in (Phase(2), GUIDED, STEERED, LOOKED_AT):
        before = snapshot(agent)
        metrics = agent.update(batch_of(agent), phase)
        pilot = kind == "plas" and phase.steered
        expected = {"pilot"} if pilot else {"parameters"} | target
        assert moved(agent, before) == {prefix + name for name in expected}
        assert metrics["loss"].shape == (1,)
        assert not any(value.requires_grad for value in metrics.values())
        proposes = kind != "plas" or phase.steered
        assert ("gate_accepted" in metrics) == (phase.guided and proposes)


@EACH
def test_no_loss_of_stage_two_has_a_gradient_to_stage_one(kind):
    agent = opened(VARIANTS[kind])
    anchor = agent.anchor
    frozen = [anchor.critics.parameters, anchor.policy.parameters, anchor.value]
    assert all(each.requires_grad for each in frozen)
    rectifiers = agent.rectifiers[kind]
    seen_batch = rectifiers.see(batch_of(agent), agent.rows)
    terms = rectifiers.residual.guided_fit(seen_batch)
    if terms is None:  # the generator alone
        residual = rectifiers.residual
        noise = torch.randn(1, ROWS, residual.latent)
        losses = sum(residual.fit_losses(residual.parameters, seen_batch, noise))
    else:
        own = terms.optimiser.parameters
        losses = terms.fit(own) + terms.guide(own)
        (gradient_of_own,) = torch.autograd.grad(losses.sum(), own, retain_graph=True)
        assert gradient_of_own.abs().max() > 0.0
    gradients = torch.autograd.grad(losses.sum(), frozen, allow_unused=True)
    assert gradients == (None, None, None)


def test_the_dataset_is_judged_in_the_first_update_of_stage_two():
    agent = make()
    before = snapshot(agent)
    agent.update(batch_of(agent), FIRST)
    assert "rows" in moved(agent, before)


def test_the_gradient_of_mlp_is_that_of_equation_7():
    config = VARIANTS["mlp"]
    agent = opened(config, replace(config, guide_weight=3.0, uncertainty_weight=2.0))
    batch = batch_of(agent)
    residual = agent.rectifiers["mlp"].residual
    residual.parameters.data.mul_(3.0)  # some actions beyond the bounds
    theta, total = as_double(residual.parameters), 0.0
    for p, (weight, penalty) in enumerate(((0.5, 0.7), (3.0, 2.0))):
        states, base, target, weights = seen(agent, batch, p)
        if p == 1:
            std = critic_values(agent, p, DATA, states, base).std(0, correction=0).clamp(min=1e-3)
            q = [robust(agent, p, DATA, states, each, penalty) for each in (base + target, base)]
            weights = ((q[0] - q[1]) / std).exp().clamp(max=100.0)
        f = plain(residual.network, theta[p], torch.cat([states, base], -1))
        total = total + (weights * ((f - target) ** 2).mean(-1)).mean()
        actions = (base + f).clamp(-1, 1)
        assert (actions.abs() == 1).any()
        total = total - weight * robust(agent, p, GUIDE, states, actions, penalty).mean()
    agent.update(batch, Phase(2))
    assert_gradient(residual.optimiser, gradient(total, theta))


def encoded(residual, theta, states, base, residuals):
    inputs = torch.cat([states, base, residuals], -1)
    mean, log_std = plain(residual.encoder, theta[: residual.encoder.num_parameters], inputs).chunk(
        2, -1
    )
    return mean, log_std.clamp(-4, 15)


def kl_of(mean, log_std):
    return -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())


def fit_of_cvae(agent, kind, batch, theta, weights=None):
    """Eq. 8 of member 0 in float64."""
    residual = agent.rectifiers[kind].residual
    states, base, target, own = seen(agent, batch)
    weights = own if weights is None else weights
    noise = MemberRandom([0], "latents of data").normal(ROWS, 3).double()[0]
    mean, log_std = encoded(residual, theta, states, base, target)
    f = decoded(residual, theta, states, base, mean + log_std.exp() * noise)
    distance = (weights * ((f - target) ** 2).mean(-1)).mean()
    return distance + 0.5 * kl_of(mean, log_std).mean()


def test_the_gradient_of_cvae_is_that_of_equation_8_with_an_unweighted_divergence():
    agent = opened(VARIANTS["cvae"])
    residual, batch = agent.rectifiers["cvae"].residual, batch_of(agent)
    theta = as_double(residual.parameters)
    total = fit_of_cvae(agent, "cvae", batch, theta[0])
    agent.update(batch, Phase(2))
    assert_gradient(residual.optimiser, gradient(total, theta))
    view = agent.rectifiers["cvae"].see(batch, agent.rows)
    noise = torch.zeros(1, ROWS, 3)
    once, twice = (
        residual.fit_losses(residual.parameters, each, noise)
        for each in (view, view._replace(weights=2 * view.weights))
    )
    torch.testing.assert_close(twice[0], 2 * once[0])
    assert torch.equal(twice[1], once[1])


@pytest.mark.parametrize("guidance", ["literal", "cross", "elbo"])
def test_the_gradient_of_proj_is_that_of_equations_2_9_and_10(guidance):
    kind = f"proj-{guidance}"
    agent = opened(replace(VARIANTS[kind], guide_weight=5.0))
    residual, batch = agent.rectifiers[kind].residual, batch_of(agent)
    residual.target.mul_(1.3)  # a target that differs
    theta = as_double(residual.parameters)
    total = fit_of_cvae(agent, kind, batch, theta[0])
    latents, noise, uniforms = (each[0].double() for each in residual.guide_numbers(ROWS))
    residual.guide_noise.counter.zero_()
    states, base, _, _ = seen(agent, batch)
    target = torch.cat([theta[0][: residual.encoder.num_parameters].detach(), residual.target[0]])
    base_value = robust(agent, 0, GUIDE, states, base)
    std = critic_values(agent, 0, GUIDE, states, base).std(0, correction=0).clamp(min=1e-3)
    made, logits = [], []
    for k in range(4):
        made.append(decoded(residual, target, states, base, latents[:, k]).detach())
        value = robust(agent, 0, GUIDE, states, (base + made[k]).clamp(-1, 1))
        logits.append((value - base_value) / std)
    shares = torch.stack(logits, -1).softmax(-1)
    guide = 0.0
    for k in range(4):
        goal, share, z = made[k], shares[:, k], latents[:, k]
        if guidance == "cross":
            drawn = (uniforms[:, k, None] > shares.cumsum(-1)).sum(-1).clamp(max=3)
            goal, share, z = torch.stack(made, 1)[range(ROWS), drawn], 0.25, noise[:, k]
        elif guidance == "elbo":
            mean, log_std = encoded(residual, theta[0], states, base, goal)
            z = mean + log_std.exp() * noise[:, k]
            guide = guide + 0.5 * kl_of(mean, log_std).mean() / 4
        f = decoded(residual, theta[0], states, base, z)
        guide = guide + (share * ((f - goal) ** 2).mean(-1)).mean()
    metrics = agent.update(batch, GUIDED)
    assert metrics["imitation_loss"].item() == pytest.approx(guide.item(), rel=1e-4)
    effective = (1.0 / shares.square().sum(-1)).mean()
    assert metrics["effective_candidates"].item() == pytest.approx(effective.item(), rel=1e-4)
    assert_gradient(residual.optimiser, gradient(total + 5.0 * guide, theta))


def test_the_gradient_of_plas_goes_through_critics_and_a_fixed_decoder():
    agent = opened(replace(VARIANTS["plas"], guide_weight=2.0))
    residual, batch = agent.rectifiers["plas"].residual, batch_of(agent)
    states, base, _, _ = seen(agent, batch)
    pilot = as_double(residual.pilot)
    z = 2 * plain(residual.pilot_network, pilot[0], torch.cat([states, base], -1)).tanh()
    f = decoded(residual, residual.parameters[0].detach(), states, base, z)
    loss = -2.0 * robust(agent, 0, GUIDE, states, (base + f).clamp(-1, 1)).mean()
    agent.update(batch, STEERED)
    assert_gradient(residual.pilot_optimiser, gradient(loss, pilot))


def test_a_decoder_that_equals_its_target_is_not_guided_by_equation_10_as_written():
    """Prediction and target share the latent variable: self-distillation."""
    gradients = {}
    for guidance in ("literal", "cross", "elbo"):
        agent = opened(VARIANTS[f"proj-{guidance}"])
        rectifiers = agent.rectifiers[f"proj-{guidance}"]
        residual = rectifiers.residual
        view = rectifiers.see(batch_of(agent), agent.rows)
        latents, noise, uniforms = residual.guide_numbers(ROWS)
        samples = residual.draw(view, latents)
        loss = residual.guide_loss(residual.parameters, view, samples, noise, uniforms)
        gradients[guidance] = gradient(loss.sum(), residual.parameters).abs().max().item()
    assert gradients["literal"] == 0.0
    assert min(gradients["cross"], gradients["elbo"]) > 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_base_action_has_no_advantage_over_itself(precision):
    """Candidates and a_base are judged alike, up to the last bits."""
    agent = opened(replace(SMALL, filtering="hard"))
    rectifiers = agent.rectifiers["proj-literal"]
    residual, view = rectifiers.residual, rectifiers.see(batch_of(agent), agent.rows)
    residual.target.zero_()
    latents = residual.guide_numbers(ROWS)[0]
    with MatmulPrecision(precision, "cpu"):
        samples = residual.draw(view, latents)
    assert samples.residuals.abs().max() == 0.0
    torch.testing.assert_close(
        samples.advantages, torch.zeros_like(samples.advantages), rtol=0, atol=1e-3
    )


@dataclass(frozen=True)
class Fixed:
    """Residuals that no precision changes."""

    residuals: torch.Tensor
    noise_size: int = 0

    def __call__(self, parameters, context, noise):
        return self.residuals


def test_the_gate_is_looked_at_in_full_precision():
    """What it would take is what it will take when the policy is evaluated, in fp32."""
    agent = opened(VARIANTS["mlp"])
    rectifiers = agent.rectifiers["mlp"]
    view = rectifiers.see(batch_of(agent), agent.rows)
    fixed = rectifiers.residual.proposal(
        rectifiers.residual.proposal_parameters(), view.context, view.context[..., :0]
    )
    rectifiers.residual.proposal = Fixed(fixed)
    gains = []
    for precision in ("fp32", "bf16"):
        with MatmulPrecision(precision, "cpu"):
            gains.append(rectifiers.look_at_gate(view)["gate_gain"].item())
    assert gains[1] == gains[0] != 0.0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_hard_filters_leave_candidates_that_gain_whatever_the_precision(precision):
    """And the number of those that count, 1 / Σ ω², is an average over states that have any."""
    agent = opened(replace(SMALL, filtering="hard", guide_samples=3))
    residual = agent.rectifiers["proj-literal"].residual
    residual.target.mul_(2.5)  # residuals of either sign
    batch = batch_of(agent)
    view = agent.rectifiers["proj-literal"].see(batch, agent.rows)
    states, base, _, _ = seen(agent, batch)
    std = critic_values(agent, 0, GUIDE, states, base).std(0, correction=0).clamp(min=1e-3)
    with MatmulPrecision(precision, "cpu"):
        samples = residual.draw(view, residual.guide_numbers(ROWS)[0])
        residual.guide_noise.counter.zero_()
        metrics = agent.update(batch, GUIDED)
    effective = []
    for n in range(ROWS):
        made = (base[n] + samples.residuals[0, n].double()).clamp(-1, 1)
        gains = robust(agent, 0, GUIDE, states[n].expand(3, -1), made)
        gains = (gains - robust(agent, 0, GUIDE, states[n : n + 1], base[n : n + 1])) / std[n]
        shares = gains.exp() * (gains > 0.0)
        if shares.sum() > 0.0:
            shares = shares / shares.sum()
            effective.append(1.0 / shares.square().sum().item())
        torch.testing.assert_close(samples.shares[0, n].double(), shares, rtol=2e-3, atol=1e-5)
    assert 0 < len(effective) < ROWS
    assert metrics["guided_states"].item() == pytest.approx(len(effective) / ROWS)
    assert metrics["effective_candidates"].item() == pytest.approx(
        sum(effective) / len(effective), rel=1e-3
    )


@pytest.mark.parametrize("guidance", ["literal", "cross", "elbo"])
def test_states_without_a_candidate_of_weight_are_left_out(guidance):
    agent = opened(replace(VARIANTS[f"proj-{guidance}"], filtering="hard"))
    rectifiers = agent.rectifiers[f"proj-{guidance}"]
    residual, view = rectifiers.residual, rectifiers.see(batch_of(agent), agent.rows)
    residual.target.mul_(1.3)
    latents, noise, uniforms = residual.guide_numbers(ROWS)
    losses = []
    for worth in (1e6, -1e6):  # of base actions in the second half of the batch
        base_values = view.base_values.clone()
        base_values[:, ROWS // 2 :] = worth
        batch = view._replace(base_values=base_values)
        samples = residual.draw(batch, latents)
        if worth > 0.0:
            assert samples.shares[:, ROWS // 2 :].abs().max() == 0.0
        first = [each[:, : ROWS // 2] for each in batch]
        first = residual.guide_loss(
            residual.parameters,
            type(batch)(*first),
            type(samples)(*(each[:, : ROWS // 2] for each in samples)),
            noise[:, : ROWS // 2],
            uniforms[:, : ROWS // 2],
        )
        whole = residual.guide_loss(residual.parameters, batch, samples, noise, uniforms)
        losses.append((2.0 * whole - first).item())
    assert losses[0] == pytest.approx(0.0, abs=1e-6)
    assert losses[1] > 1e-4


def test_metrics_say_how_many_weights_are_the_largest():
    agent = opened(replace(VARIANTS["mlp"], temperature=1e-3))
    batch = batch_of(agent)
    *_, advantages = seen(agent, batch, config=replace(SMALL, temperature=1.0))
    share = (advantages.log() / 1e-3 >= math.log(100.0)).double().mean().item()
    assert 0.0 < share < 1.0
    assert agent.update(batch, Phase(2))["capped_share"].item() == pytest.approx(share)


def test_proj_without_guidance_is_cvae_bit_for_bit():
    group = [
        Member(point(episodes=10), config, 3)
        for config in (VARIANTS["cvae"], replace(SMALL, guide_weight=0.0), SMALL)
    ]
    agents = []
    for member in group:
        trainer = Trainer(METHOD, [member], "cpu", steps=100)
        trainer.advance(24)
        agents.append(next(iter(trainer.agent.rectifiers.values())).residual)
    assert agents[0].optimiser.steps == 20
    assert torch.equal(agents[0].parameters, agents[1].parameters)
    assert not torch.equal(agents[0].parameters, agents[2].parameters)


def climb(config, kind, phase, steps=40):
    """Mean Q_rob, by the critics for guidance, before and after updates."""
    agent = opened(replace(config, residual_rate=3e-3))
    rectifiers, batch = agent.rectifiers[kind], batch_of(agent)
    residual = rectifiers.residual
    view = rectifiers.see(batch, agent.rows)
    noise = torch.zeros(1, ROWS, residual.proposal.noise_size)

    def measure():
        residuals = residual.proposal(residual.proposal_parameters(), view.context, noise)
        return residual.judge(view.observations, view.act(residuals)).mean().item()

    before = measure()
    for _ in range(steps):
        agent.update(batch, phase)
    return before, measure()


@pytest.mark.parametrize(("kind", "phase"), [("mlp", Phase(2)), ("plas", STEERED)])
def test_guidance_climbs_the_robust_value(kind, phase):
    before, after = climb(replace(VARIANTS[kind], guide_weight=1e3), kind, phase)
    assert after > before


def test_without_guidance_a_residual_approaches_the_data():
    agent = opened(replace(VARIANTS["mlp"], guide_weight=0.0, residual_rate=3e-3))
    batch = batch_of(agent)
    losses = [agent.update(batch, Phase(2))["fit_loss"].item() for _ in range(40)]
    assert losses[-1] < 0.8 * losses[0]
