"""What the tests of SPAR share: small agents, and its quantities written once more."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.engine.data import MemberData
from baselines.parts.residual_rectifiers import Phase
from baselines.spar import Agent, Config
from tests.continuous import plain, sampled_batch
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
LOOKED_AT = Phase(2, guided=True, steered=True)
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


def decoded(residual, theta, states, base, latents):
    return plain(
        residual.decoder,
        theta[residual.encoder.num_parameters :],
        torch.cat([states, base, latents], -1),
    )
