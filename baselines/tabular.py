"""Exact tabular counterparts of the discrete methods, by dynamic programming on a known model.

What a method learns when its networks are tables, its data is without end and its transitions are
the true ones. Behavioural cloning is then the behaviour policy β itself, and the others are

    AWR    π ∝ β min(exp(Ã/T), 20),  Ã the standardised advantages of β
    CQL    the fixed point of  Q ← B^π Q - α (π/β - 1)               ReDS paper, Eq. 41
    ReDS   the fixed point of  Q ← B^π Q - α (π + ρ - 2β) / (2β)      ReDS paper, Eq. 10

with π(a|s) ∝ exp(Q(s,a)/T). Each iteration minimises the loss of :mod:`baselines.cql_discrete` or
:mod:`baselines.reds_discrete` exactly, so π in the penalty is the minimiser's own policy and π in
the backup that of the iteration before. An action that the data does not have (β = 0) gets Q = -∞
and π = 0: with tables all of them stay in the support, whatever their α. What differs from the
trained methods is what function approximation and finite data do. CAR has no fixed point; its
reference policy is here as a function of the policies that propose.

``S`` states, ``A`` actions. Hyperparameters are numbers, or arrays that broadcast to a grid of
shape ``P``; results then are (*P, S, A). All float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.special import wrightomega

from hetero_bench.tabular import TabularMDP

_EXPONENT_RANGE = (-10.0, 5.0)  # Eq. 52
_STD_FLOOR = 1e-5
_NEWTON_STEPS = 100
_SUM_TOLERANCE = 1e-7  # one Newton step, which squares the error, follows


class Solution(NamedTuple):
    """A fixed point of fitted Q iteration.

    Attributes:
        policy: (*P, S, A) π = softmax(Q/T).
        action_values: (*P, S, A) Q; -inf where β = 0.
        iterations: Iterations taken, the same for the whole grid.
        change: (*P,) largest change of Q in the last iteration; above the tolerance where it did
            not converge.
    """

    policy: np.ndarray
    action_values: np.ndarray
    iterations: int
    change: np.ndarray


def awr(
    mdp: TabularMDP,
    behaviour: np.ndarray,
    state_distribution: np.ndarray,
    *,
    temperature: ArrayLike,
    weight_clip: float = 20.0,
    discount: float = 0.99,
    rounds: int = 1,
) -> np.ndarray:
    """Returns AWR's (*P, S, A) policy: behaviour, reweighted by exponentiated advantages.

    Weights are of expected advantages. A trained AWR sees those of single trajectories, whose
    noise adds to the standard deviation that they are divided by.

    Args:
        mdp: The model.
        behaviour: (S, A) β.
        state_distribution: (S,) share of the data's rows in each state; advantages are standardised
            over it and β.
        temperature: T, in standard deviations.
        weight_clip: Largest weight.
        discount: γ.
        rounds: Offline AWR takes one. More show what it would reach if after each round new data
            was collected with its policy.
    """
    temperatures = np.asarray(temperature, np.float64)
    policies = []
    for each in temperatures.flat:
        policy = behaviour
        for _ in range(rounds):
            values = mdp.policy_evaluation(policy, discount)
            advantages = mdp.action_values(values, discount) - values[:, None]
            mass = state_distribution[:, None] * policy
            mean = (mass * advantages).sum()
            std = np.sqrt((mass * (advantages - mean) ** 2).sum())
            exponents = (advantages - mean) / ((std + _STD_FLOOR) * each)
            policy = policy * np.exp(np.minimum(exponents, np.log(weight_clip)))
            policy /= policy.sum(-1, keepdims=True)
        policies.append(policy)
    return np.stack(policies).reshape(*temperatures.shape, *behaviour.shape)


def cql(
    mdp: TabularMDP,
    behaviour: np.ndarray,
    *,
    alpha: ArrayLike,
    temperature: ArrayLike,
    discount: float = 0.99,
    tolerance: float = 1e-8,
    max_iterations: int = 5_000,
) -> Solution:
    """Iterates CQL's exact minimiser (Eq. 41) from Q = 0 to its fixed point.

    Args:
        mdp: The model.
        behaviour: (S, A) β.
        alpha: α, in units of reward.
        temperature: T of the policy, in units of reward.
        discount: γ.
        tolerance: Largest change of Q in an iteration at which to stop.
        max_iterations: Iterations at which to stop in any case.

    Raises:
        ValueError: If a hyperparameter is not positive.
    """
    alpha, temperature = _grid(alpha, temperature)
    return _fitted_q_iteration(
        mdp,
        behaviour,
        pushed_up=lambda advantages: alpha,
        pushed_down=alpha,
        temperature=temperature,
        discount=discount,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )


def reds(
    mdp: TabularMDP,
    behaviour: np.ndarray,
    *,
    alpha: ArrayLike,
    tau: ArrayLike,
    temperature: ArrayLike,
    rho_term: Literal["mean", "data"] = "mean",
    discount: float = 0.99,
    tolerance: float = 1e-8,
    max_iterations: int = 5_000,
) -> Solution:
    """Iterates the exact minimiser of CQL (ReDS), Eq. 10, from Q = 0 to a fixed point.

    ρ is computed from the Q of the iteration before. The lower an action is, the more it is pushed
    down: where α ρ/β > 2τ an action that falls a little falls further, until the clip or the
    normalisation of ρ stops it. So for small τ there can be several fixed points, of which this is
    the one that iteration reaches, or none that it reaches.

    Args:
        mdp: The model.
        behaviour: (S, A) β.
        alpha: α, in units of reward.
        tau: τ of g = exp(clip(-A/τ, -10, 5)), in units of reward.
        temperature: T of the policy, in units of reward.
        rho_term: ``mean``: ρ ∝ β·g normalised, as Eq. 7 fits it; ``data``: ρ = β·g, as Eq. 6 has
            it. (``lse`` with many samples is CQL.)
        discount: γ.
        tolerance: Largest change of Q in an iteration at which to stop.
        max_iterations: Iterations at which to stop in any case.

    Raises:
        ValueError: If a hyperparameter is not positive.
    """
    alpha, tau, temperature = _grid(alpha, tau, temperature)

    def pushed_up(advantages: np.ndarray) -> np.ndarray:
        weights = np.exp(np.clip(-advantages / tau, *_EXPONENT_RANGE))
        if rho_term == "mean":
            weights /= (behaviour * weights).sum(-1, keepdims=True)
        return alpha * (1.0 - 0.5 * weights)  # weights are ρ/β

    return _fitted_q_iteration(
        mdp,
        behaviour,
        pushed_up=pushed_up,
        pushed_down=0.5 * alpha,
        temperature=temperature,
        discount=discount,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )


def minimiser(
    centres: np.ndarray,
    pushed_down: np.ndarray,
    behaviour: np.ndarray,
    temperature: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """Returns the Q that minimises ``Σ_a ½ β (Q - c)² + κ T log Σ_a exp(Q/T)`` in every state.

    That is the solution of Q = c - κ π/β with π = softmax(Q/T). Given the normaliser
    Z = T log Σ exp(Q/T), every π(a) has a closed form in Lambert's function W; Z makes them sum to
    1. The sum is convex and decreasing in Z, so Newton's method finds it.

    Args:
        centres: (*P, S, A) c, where Q would be if nothing was pushed down.
        pushed_down: (*P, 1, 1) κ, positive weight of the soft maximum.
        behaviour: (S, A) β.
        temperature: (*P, 1, 1) T.
        start: (*P, S, A) a first guess.

    Returns:
        (*P, S, A); zero where β = 0.

    Raises:
        RuntimeError: If Newton's method fails.
    """
    # In units of T: π = exp(Q - Z) and Q = c - slope π, so slope π = W(slope exp(c - Z)).
    supported = behaviour > 0.0
    slope = pushed_down / np.where(supported, behaviour, 1.0) / temperature
    scaled = np.where(supported, centres / temperature, -np.inf)
    arguments = scaled + np.log(slope)
    lower_bound = (scaled - slope).max(-1, keepdims=True)  # no π(a) exceeds 1
    upper_bound = np.logaddexp.reduce(scaled, -1, keepdims=True)  # no Q exceeds c
    guess = np.where(supported, start / temperature, -np.inf)
    guess = np.logaddexp.reduce(guess, -1, keepdims=True)
    normaliser = np.clip(guess, lower_bound, upper_bound)
    excess = np.inf
    for _ in range(_NEWTON_STEPS):
        lambert = wrightomega(arguments - normaliser)
        if np.max(np.abs(excess)) <= _SUM_TOLERANCE:
            return temperature * np.where(supported, scaled - lambert, 0.0)
        excess = (lambert / slope).sum(-1, keepdims=True) - 1.0
        derivative = (lambert / (1.0 + lambert) / slope).sum(-1, keepdims=True)
        normaliser = np.maximum(normaliser + excess / derivative, lower_bound)
    raise RuntimeError(
        f"probabilities sum to 1 within {np.max(np.abs(excess)):.1e} after {_NEWTON_STEPS} Newton "
        f"steps; expected {_SUM_TOLERANCE}. Are alpha and temperature of a sensible size?"
    )


def soft_policy(q: np.ndarray, temperature: np.ndarray, supported: np.ndarray) -> np.ndarray:
    """Returns (*P, S, A) probabilities ∝ exp(Q/T) of the supported (S, A) bool actions."""
    scaled = np.where(supported, q / temperature, -np.inf)
    exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def _fitted_q_iteration(
    mdp: TabularMDP,
    behaviour: np.ndarray,
    *,
    pushed_up: Callable[[np.ndarray], np.ndarray],
    pushed_down: np.ndarray,
    temperature: np.ndarray,
    discount: float,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Iterates ``Q ← B^π Q + u - κ π/β`` from Q = 0.

    ``pushed_up`` gives u, broadcasting to (*P, S, A), from (*P, S, A) advantages; ``pushed_down``
    is κ, (*P, 1, 1).
    """
    supported = behaviour > 0.0
    S, A = behaviour.shape
    successors = csr_array(mdp.transitions.reshape(S * A, S))
    q = np.zeros((*temperature.shape[:-2], S, A))
    change = np.full(q.shape[:-2], np.inf)
    iteration = 0
    while iteration < max_iterations and change.max() > tolerance:
        values = (soft_policy(q, temperature, supported) * q).sum(-1)
        next_values = successors @ np.where(mdp.terminal, 0.0, values).reshape(-1, S).T
        backups = mdp.rewards + discount * next_values.T.reshape(q.shape)
        centres = backups + pushed_up(q - values[..., None])
        updated = minimiser(centres, pushed_down, behaviour, temperature, start=q)
        change = np.abs(updated - q).max(axis=(-2, -1), where=supported, initial=0.0)
        q, iteration = updated, iteration + 1
    return Solution(
        policy=soft_policy(q, temperature, supported),
        action_values=np.where(supported, q, -np.inf),
        iterations=iteration,
        change=change,
    )


def _grid(*hyperparameters: ArrayLike) -> list[np.ndarray]:
    """Broadcasts positive hyperparameters against each other; each becomes (*P, 1, 1)."""
    arrays = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in hyperparameters))
    if any((each <= 0.0).any() for each in arrays):
        raise ValueError(f"expected positive hyperparameters; got {hyperparameters}")
    return [each[..., None, None] for each in arrays]


def coverage_aware_mixture(
    policy: np.ndarray, behaviour: np.ndarray, previous: np.ndarray, threshold: float
) -> np.ndarray:
    """Returns CAR's mixed reference policy after one more policy has proposed (CAR, Eqs. 5 to 7).

    ``τ π̂ + (1 - τ) π_mix,t-1`` with ``τ π̂(a|s) = π(a|s) 1[β(a|s) ≥ ε]`` and τ its sum: what is
    rejected falls back on the mixture before. No action becomes more than 1/ε times as likely as
    under β (Theorem 1, Eq. 8). With β for ``previous`` it is Eq. 4.

    Args:
        policy: (S, A) π, which proposes.
        behaviour: (S, A) β, which verifies.
        previous: (S, A) π_mix,t-1, first of all β.
        threshold: ε in (0, 1].

    Returns:
        (S, A) π_mix,t.
    """
    accepted = np.where(behaviour >= threshold, policy, 0.0)
    return accepted + (1.0 - accepted.sum(axis=-1, keepdims=True)) * previous
