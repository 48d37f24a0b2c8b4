"""CAR's mixed reference policy on tables: what proposing and verifying draws, and Theorem 1."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from baselines.car import in_support
from baselines.engine.data import MemberData
from baselines.parts.accepted_pairs import AcceptedPairs
from baselines.tabular import coverage_aware_mixture
from tests.toy import point

STATES, ACTIONS = 3, 5
BEHAVIOUR = np.array(
    [[0.5, 0.3, 0.1, 0.1, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2], [0.96, 0.01, 0.01, 0.01, 0.01]]
)
POLICY = np.array(
    [[0.1, 0.2, 0.3, 0.3, 0.1], [0.0, 0.0, 0.0, 0.0, 1.0], [0.02, 0.08, 0.5, 0.3, 0.1]]
)


def test_by_hand():
    mixture = coverage_aware_mixture(POLICY, BEHAVIOUR, BEHAVIOUR, 0.2)
    # 0.7 of the first policy's mass is rejected and goes back to β; all of the second's is kept.
    assert np.allclose(mixture[0], [0.1 + 0.35, 0.2 + 0.21, 0.07, 0.07, 0.0])
    assert np.allclose(mixture[1], POLICY[1])
    assert np.allclose(mixture[2], [0.02, 0, 0, 0, 0] + 0.98 * BEHAVIOUR[2])


def test_proposing_and_verifying_draws_from_it():
    threshold, draws = 0.1, 200_000
    rng = np.random.default_rng(0)
    previous = coverage_aware_mixture(POLICY[[1, 2, 0]], BEHAVIOUR, BEHAVIOUR, threshold)
    expected = coverage_aware_mixture(POLICY, BEHAVIOUR, previous, threshold)
    with np.errstate(divide="ignore"):
        energies = torch.from_numpy(-np.log(BEHAVIOUR))
    limit = torch.full((STATES,), -np.log(threshold)).double()
    accepts = in_support(energies, limit).numpy()
    for state in range(STATES):
        proposed = rng.choice(ACTIONS, draws, p=POLICY[state])
        fallen_back = rng.choice(ACTIONS, draws, p=previous[state])
        drawn = np.where(accepts[state][proposed], proposed, fallen_back)
        shares = np.bincount(drawn, minlength=ACTIONS) / draws
        error = np.sqrt(expected[state] * (1 - expected[state]) / draws)
        assert (np.abs(shares - expected[state]) <= 5 * error).all()


def test_the_ring_holds_draws_from_the_policy_in_support():
    """D' is τ π̂: of each state the share τ of proposals, distributed as π̂ (Eqs. 5 and 7)."""
    threshold, draws = 0.1, 30_000
    rng = np.random.default_rng(1)
    data = MemberData([point(episodes=1)])
    ring = AcceptedPairs(data, [STATES * draws], STATES * draws)
    states = np.repeat(np.arange(STATES), draws)
    proposed = np.concatenate([rng.choice(ACTIONS, draws, p=each) for each in POLICY])
    with np.errstate(divide="ignore"):
        energies = torch.from_numpy(-np.log(BEHAVIOUR))[states, proposed].unsqueeze(0)
    accepted = in_support(energies, torch.tensor([-np.log(threshold)]))
    actions = torch.zeros(1, len(states), 2)
    actions[0, :, 0] = torch.from_numpy(proposed) / ACTIONS
    ring.append(torch.from_numpy(states).unsqueeze(0), actions, accepted)
    size = int(ring.sizes)
    rows = ring.rows[0, :size].numpy()
    taken = np.rint(ring.actions[0, :size, 0].numpy() * ACTIONS).astype(int)
    in_ring = np.zeros((STATES, ACTIONS))
    np.add.at(in_ring, (rows, taken), 1.0 / draws)
    expected = np.where(threshold <= BEHAVIOUR, POLICY, 0.0)
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(in_ring - expected) <= 5 * error + 1e-9).all()
    with_nothing_left = coverage_aware_mixture(POLICY, BEHAVIOUR, np.zeros_like(POLICY), threshold)
    assert np.allclose(with_nothing_left, expected)


distributions = arrays(np.float64, (STATES, ACTIONS), elements=st.floats(0.0, 1.0)).map(
    lambda table: (table + 1e-3) / (table + 1e-3).sum(-1, keepdims=True)
)


@settings(max_examples=100, deadline=None)
@given(distributions, st.lists(distributions, min_size=1, max_size=6), st.floats(1e-3, 1.0))
def test_it_stays_covered(behaviour, policies, threshold):
    """Theorem 1 and Corollary 1, after any number of policies."""
    mixture = behaviour
    for policy in policies:
        mixture = coverage_aware_mixture(policy, behaviour, mixture, threshold)
        assert (mixture >= 0.0).all()
        assert np.allclose(mixture.sum(-1), 1.0)
        ratio = mixture / behaviour
        assert ratio.max() <= (1.0 + 1e-9) / threshold
        divergence = (mixture * np.log(np.where(mixture > 0, ratio, 1.0))).sum(-1)
        assert divergence.max() <= -np.log(threshold) + 1e-9


def test_without_verification_it_is_not_covered():
    """The bound is the verifier's work: with ε near 0 the ratio exceeds that of ε = 0.1."""
    careless = coverage_aware_mixture(POLICY, BEHAVIOUR, BEHAVIOUR, 1e-12)
    assert (careless[2] / BEHAVIOUR[2]).max() > 1.0 / 0.1
