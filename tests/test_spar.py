from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from baselines.engine.checkpoint import flatten, read_checkpoint, restore, write_checkpoint
from baselines.engine.data import MemberData
from baselines.engine.evaluation import evaluate_member
from baselines.engine.members import Member
from baselines.engine.random import MemberRandom
from baselines.engine.trainer import Trainer
from baselines.parts.gaussian import LARGEST_ACTION
from baselines.parts.networks import MLP
from baselines.parts.policies import DeterministicActor
from baselines.parts.residual_gate import RectifiedActor, Regressed
from baselines.parts.residual_rectifiers import Phase
from baselines.spar import METHOD, Agent, Config
from tests.continuous import (
    as_double,
    assert_gradient,
    gradient,
    moved,
    plain,
    sampled_batch,
    snapshot,
)
from tests.test_population import WithoutSynchronisation
from tests.toy import point

SMALL = Config(
    hidden_sizes=(8, 8),
    generator_sizes=(8, 8),
    latent_size=3,
    critics=6,
    subset=3,
    stage1_steps=4,
    generator_steps=6,
    guide_period=5,
    guide_samples=4,
    candidates=5,
    batch_size=16,
    gradient_clip=1e6,
    filtering="soft",
    temperature=1.0,
    uncertainty_weight=0.7,
)
VARIANTS = {
    "mlp": replace(SMALL, variant="mlp"),
    "cvae": replace(SMALL, variant="cvae"),
    "plas": replace(SMALL, variant="plas"),
    "proj-literal": SMALL,
    "proj-cross": replace(SMALL, guidance="cross"),
    "proj-elbo": replace(SMALL, guidance="elbo"),
}
EACH = pytest.mark.parametrize("kind", VARIANTS)
FIRST = Phase(2, first=True)
GUIDED = Phase(2, guided=True)
STEERED = Phase(2, steered=True)
ROWS = 16


def make(*configs, datasets=None, seeds=None):
    configs = configs or (SMALL,)
    datasets = datasets or [point(episodes=10)] * len(configs)
    data = MemberData(datasets, steps=100)
    return Agent(configs, data, seeds or range(len(configs)))


def batch_of(agent, seed=0):
    return sampled_batch(agent.data, ROWS, seed)


def opened(*configs, **options):
    """An agent whose stage I has taken a few steps and judged the dataset."""
    agent = make(*configs, **options)
    for seed in range(3):
        agent.update(batch_of(agent, seed), Phase(1))
    agent.rows.fill(agent.anchor)
    return agent


def critic_values(agent, member, which, states, actions):
    """(E, n) values of some critics in float64."""
    inputs = torch.cat([states, actions], -1)
    parameters = agent.anchor.critics.parameters.detach()
    values = [plain(agent.anchor.critics.network, parameters[e, member], inputs) for e in which]
    return torch.stack(values).squeeze(-1)


def robust(agent, member, which, states, actions, penalty=0.7):
    """Q_rob in float64 with its formula written once more."""
    q = critic_values(agent, member, which, states, actions)
    mean = sum(q) / len(q)
    return mean - penalty * (sum((each - mean) ** 2 for each in q) / len(q)).sqrt()


DATA, GUIDE, GATE = (0, 1, 2), (1, 2, 3), (3, 4, 5)  # three of six critics


def seen(agent, batch, member=0, config=SMALL):
    """States, a_base, Δa and w of one member in float64, computed from the networks."""
    states, actions = batch.observations[member].double(), batch.actions[member].double()
    policy = agent.anchor.policy
    base = plain(policy.network, policy.parameters[member].detach(), states)[:, :2].tanh()
    std = critic_values(agent, member, DATA, states, base).std(0, correction=0).clamp(min=1e-3)
    value, base_value = (robust(agent, member, DATA, states, a) for a in (actions, base))
    weights = ((value - base_value) / std / config.temperature).exp().clamp(max=100.0)
    return states, base, actions - base, weights


# Stage I


def test_stage_ones_gradients_are_those_of_the_paper():
    taus = (0.5, 0.9)
    agent = make(*(replace(SMALL, expectile=tau) for tau in taus))
    anchor, batch = agent.anchor, batch_of(agent)
    anchor.critics.target.mul_(1.5)  # targets that differ from the critics
    policy, value, critics = (
        as_double(each)
        for each in (anchor.policy.parameters, anchor.value, anchor.critics.parameters)
    )
    losses = [0.0, 0.0, 0.0]
    for p, tau in enumerate(taus):
        s, a, r, s2, ends = (each[p].double() for each in batch[:5])
        inputs = torch.cat([s, a], -1)
        network = anchor.critics.network
        q_bar = [plain(network, anchor.critics.target[e, p], inputs).squeeze(-1) for e in (0, 1)]
        u = torch.minimum(*q_bar) - plain(anchor.value_network, value[p], s).squeeze(-1)
        y = r + 0.99 * (1 - ends) * plain(anchor.value_network, value[p], s2).squeeze(-1).detach()
        losses[0] += ((plain(anchor.policy.network, policy[p], s).tanh() - a) ** 2).mean()
        losses[1] += ((tau - (u < 0).double()).abs() * u**2).mean()
        for e in range(6):
            losses[2] += ((plain(network, critics[e, p], inputs).squeeze(-1) - y) ** 2).mean()
    before = snapshot(agent)
    metrics = agent.update(batch, Phase(1))
    assert moved(agent, before) == {
        "anchor.policy.parameters",
        "anchor.value",
        "anchor.critics.parameters",
        "anchor.critics.target",
    }
    optimisers = (anchor.policy.optimiser, anchor.value_optimiser, anchor.critics.optimiser)
    for optimiser, loss, theta in zip(optimisers, losses, (policy, value, critics), strict=True):
        assert_gradient(optimiser, gradient(loss, theta))
    assert metrics["critic_loss"].sum().item() == pytest.approx(losses[2].item(), rel=1e-4)


def test_algorithm_1_backs_up_the_base_policys_values():
    tau, config = 0.8, replace(SMALL, backup="base", expectile=0.8)
    agent = make(config)
    anchor, batch = agent.anchor, batch_of(agent)
    anchor.critics.target.mul_(1.5)
    critics, loss, network = as_double(anchor.critics.parameters), 0.0, anchor.critics.network
    s, a, r, s2, ends = (each[0].double() for each in batch[:5])
    next_action = plain(anchor.policy.network, anchor.policy.parameters[0].detach(), s2).tanh()
    inputs = torch.cat([s2, next_action], -1)
    q2 = [plain(network, each[0], inputs).squeeze(-1) for each in anchor.critics.target]
    y = r + 0.99 * (1 - ends) * sum(q2) / 6
    for each in critics:
        u = y - plain(network, each[0], torch.cat([s, a], -1)).squeeze(-1)
        loss = loss + ((tau - (u < 0).double()).abs() * u**2).mean()
    before = snapshot(agent)
    agent.update(batch, Phase(1))
    assert_gradient(anchor.critics.optimiser, gradient(loss, critics))
    assert "anchor.value" not in moved(agent, before)


def test_v_may_regress_on_the_mean_of_the_critics_for_data():
    least, mean = make(), make(replace(SMALL, aggregate="mean"))
    batch = batch_of(least)
    q = least.anchor.critics.target_values(batch.observations, batch.actions)[:3].mean(0)
    values = least.anchor.values(batch.observations)
    expected = 0.5 * (q - values).square().mean(-1)
    losses = [each.update(batch, Phase(1))["value_loss"] for each in (least, mean)]
    torch.testing.assert_close(losses[1], expected.detach())
    assert losses[0] != losses[1]


def test_a_gaussian_base_policy_is_fitted_by_likelihood_and_anchors_at_its_mode():
    agent = make(replace(SMALL, base_policy="gaussian"))
    batch, policy = batch_of(agent), agent.anchor.policy
    outputs = plain(policy.network, policy.parameters[0].detach(), batch.observations[0])
    mean, log_std = outputs.chunk(2, -1)
    a = batch.actions[0].clamp(-LARGEST_ACTION, LARGEST_ACTION).double()
    density = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp()).log_prob(a.atanh())
    expected = -(density - (1 - a**2).log()).sum(-1).mean()
    base = agent.anchor.base_actions(batch.observations)
    torch.testing.assert_close(base[0].double(), mean.tanh(), rtol=1e-5, atol=1e-6)
    loss = agent.update(batch, Phase(1))["cloning_loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_critics_are_those_of_the_paper():
    subsets = make(replace(SMALL, critics=10, subset=4)).anchor.subsets
    assert subsets == (slice(0, 4), slice(3, 7), slice(6, 10))


def test_long_gradients_are_shortened():
    agent = make(replace(SMALL, gradient_clip=1e-3))
    agent.update(batch_of(agent), Phase(1))
    for optimiser in (agent.anchor.policy.optimiser, agent.anchor.critics.optimiser):
        assert (10 * optimiser.first_moment).norm().item() == pytest.approx(1e-3, rel=1e-4)


def test_rows_are_judged_as_the_networks_say():
    """Two members on datasets of different sizes, rows at random."""
    datasets = [point("long", episodes=12), point("short", episodes=5, seed=3)]
    agent = opened(SMALL, SMALL, datasets=datasets)
    batch = batch_of(agent)
    said = agent.rows.take(agent.groups, batch.row)
    for p in (0, 1):
        states, base, residuals, _ = seen(agent, batch, p)
        q = {which: critic_values(agent, p, which, states, base) for which in (DATA, GUIDE)}
        of_data = critic_values(agent, p, DATA, states, residuals + base)
        expected = {"base_actions": base, "data_mean": of_data.mean(0)}
        expected["data_std"] = of_data.std(0, correction=0)
        for name, which in (("base", DATA), ("guide", GUIDE)):
            expected[f"{name}_mean"] = q[which].mean(0)
            expected[f"{name}_std"] = q[which].std(0, correction=0)
        for name, value in expected.items():
            ours = getattr(said, name)[p].double()
            torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-5, msg=name)


# Stage II


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


@EACH
def test_stage_two_moves_residuals_alone(kind):
    """No gradient and no moving average reaches stage I; a fixed generator stays."""
    agent = opened(VARIANTS[kind])
    prefix, target = f"residual.{kind}.", {"target"} if "proj" in kind else set()
    for phase in (Phase(2), GUIDED, STEERED):
        before = snapshot(agent)
        metrics = agent.update(batch_of(agent), phase)
        pilot = kind == "plas" and phase.steered
        expected = {"pilot"} if pilot else {"parameters"} | target
        assert moved(agent, before) == {prefix + name for name in expected}
        assert metrics["loss"].shape == (1,)
        assert not any(value.requires_grad for value in metrics.values())
        assert ("gate_accepted" in metrics) == phase.guided


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
        states, base, target, _ = seen(agent, batch, p)
        _, _, _, weights = seen(agent, batch, p)
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


def decoded(residual, theta, states, base, latents):
    return plain(
        residual.decoder,
        theta[residual.encoder.num_parameters :],
        torch.cat([states, base, latents], -1),
    )


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
        logits.append(((value - base_value) / std).clamp(max=math.log(100.0)))
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


# Stages I and II of populations


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("variant", "flow"),
        ("guidance", "both"),
        ("weighting", "linear"),
        ("filtering", "medium"),
        ("base_policy", "flow"),
        ("temperature", 0.0),
        ("guide_weight", -1.0),
        ("uncertainty_weight", math.nan),
        ("gate_absolute", math.inf),
        ("subset", 7),
        ("subset", 1),
        ("candidates", 0),
        ("generator_target", 1.5),
        ("generator_sizes", [8]),
        ("stage1_steps", 0),
        ("generator_steps", 0.5),
    ],
)
def test_hyperparameters_without_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"Config: {name} is .*; expected"):
        replace(SMALL, **{name: value})


# Stage III


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
