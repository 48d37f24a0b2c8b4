"""What CQL and CQL (ReDS) have in common, written once more in float64 and without the engine."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from baselines.engine.random import MemberRandom
from tests.continuous import plain


def act(network, parameters, states, noise, lowest=-20.0):
    """Actions of a tanh-Gaussian with their log-densities, by the naive formula."""
    mean, log_std = plain(network, parameters, states).chunk(2, dim=-1)
    normal = torch.distributions.Normal(mean, log_std.clamp(lowest, 2.0).exp())
    u = normal.mean + normal.stddev * noise
    return u.tanh(), (normal.log_prob(u) - torch.log(1 - u.tanh() ** 2)).sum(-1)


def value(network, parameters, states, actions):
    """(B,) values of one critic."""
    return plain(network, parameters, torch.cat([states, actions], -1)).squeeze(-1)


class Terms(NamedTuple):
    """Of the losses of one member, by critic."""

    td: list[Tensor]  # () mean squared errors
    q_data: list[Tensor]  # (B,) values of the dataset's actions
    policy_term: list[Tensor]  # (B,) log Σ exp Q / p over uniform actions and those of the policy
    q_random: list[Tensor]  # (B,) mean values of the uniform actions
    q_policy: list[Tensor]  # (B,) values of one action of the policy
    policy_loss: Tensor  # (); α is 1 at first


def terms(agent, batch, config, theta, phi):
    """What the first update of member 0 computes, of its (E, n) critics and its (n,) policy."""
    learner, K, (B, size) = agent.learner, config.samples, batch.actions.shape[1:]
    noise = MemberRandom([0], "policy samples").normal(2 * K + 2, B, size)[0].double()
    uniform = 2.0 * MemberRandom([0], "uniform actions").uniform(B, K, size)[0].double() - 1.0
    s, s2 = batch.observations[0].double(), batch.next_observations[0].double()
    policy, critic, frozen = learner.policy.network, learner.critics.network, phi.detach()

    at_s = [act(policy, frozen, s, noise[1 + k]) for k in range(K)]
    at_next = [act(policy, frozen, s2, noise[K + 2 + k]) for k in range(K)]
    density = torch.full((B,), -size * math.log(2.0), dtype=torch.float64)
    proposals = [(uniform[:, k], density) for k in range(K)] + at_s + at_next
    backed_up = at_next if config.max_backup else [act(policy, frozen, s2, noise[K + 1])]
    targets = [learner.critics.target[e, 0] for e in (0, 1)]
    best = torch.stack(
        [torch.minimum(*(value(critic, each, s2, a) for each in targets)) for a, _ in backed_up]
    ).amax(0)
    alive = 1.0 - batch.terminations[0].double()
    y = (batch.rewards[0].double() + config.discount * alive * best).detach()

    found = Terms([], [], [], [], [], torch.zeros(()))
    actions, log_density = act(policy, phi, s, noise[0])
    for e in (0, 1):
        found.q_data.append(value(critic, theta[e], s, batch.actions[0].double()))
        found.td.append(((found.q_data[e] - y) ** 2).mean())
        values = [value(critic, theta[e], s, a.detach()) for a, _ in proposals]
        total = sum((q - p.detach()).exp() for q, (_, p) in zip(values, proposals, strict=True))
        found.policy_term.append(torch.log(torch.as_tensor(total)))
        found.q_random.append(torch.stack(values[:K]).mean(0))
        found.q_policy.append(value(critic, theta[e].detach(), s, actions))
    return found._replace(policy_loss=(log_density - torch.minimum(*found.q_policy)).mean())
