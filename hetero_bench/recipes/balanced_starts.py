"""Start states from which rolling a fixed policy visits all states as evenly as it can.

Nothing here calls BLAS and every sum has a fixed order, so that machines agree on the result to
the last bits; :func:`allocate_starts` rounds those away before it decides anything.
"""

from __future__ import annotations

import numpy as np

EM_ITERATIONS = 3000
_SHARE_DECIMALS = 6


def visit_counts(
    next_states: np.ndarray, executed_probabilities: np.ndarray, goal: int, steps: int
) -> np.ndarray:
    """Computes how often each state is expected to be visited from each start.

    Args:
        next_states: (S, A) successor of each state and executed action.
        executed_probabilities: (S, A) probability of each executed action.
        goal: Terminal state; it is never visited, as no action is taken there.
        steps: Length of a roll unless the goal ends it.

    Returns:
        (S, S) float64; row = start, column = state visited.
    """
    S = len(next_states)
    own_visit = np.eye(S)
    own_visit[goal] = 0.0
    counts = np.zeros((S, S))
    for _ in range(steps):
        updated = own_visit.copy()
        for action in range(next_states.shape[1]):
            probabilities = executed_probabilities[:, action, None]
            updated += probabilities * counts[next_states[:, action]]
        updated[goal] = 0.0
        counts = updated
    return counts


def balanced_start_weights(counts: np.ndarray) -> np.ndarray:
    """Finds the start distribution whose visits are closest to uniform.

    Minimises KL(uniform || occupancy), where occupancy is the distribution of visits over the
    states that can be visited. Each start's visits scaled to sum to one are a mixture component,
    so this is maximum likelihood for mixture proportions; its expectation-maximisation update is
    the Richardson-Lucy iteration. The problem is convex; a fixed number of iterations keeps the
    result reproducible.

    Args:
        counts: (S, S) expected visits, as from :func:`visit_counts`.

    Returns:
        (S,) float64 start probabilities; zero where an episode would be empty.
    """
    lengths = counts.sum(axis=1)
    live = np.flatnonzero(lengths > 0.0)
    components = counts[np.ix_(live, live)] / lengths[live, None]
    by_state = np.ascontiguousarray(components.T)
    shares = np.full(len(live), 1.0 / len(live))
    for _ in range(EM_ITERATIONS):
        # Sums run along the first axis: row after row, in the same order on every machine.
        occupancy = (shares[:, None] * components).sum(axis=0)
        shares *= (by_state / (len(live) * occupancy[:, None])).sum(axis=0)
    weights = np.zeros(len(counts))
    weights[live] = shares / lengths[live]
    return weights / weights.sum()


def allocate_starts(weights: np.ndarray, trajectories: int) -> np.ndarray:
    """Shares trajectories out among start states by largest remainder.

    Args:
        weights: (S,) start probabilities.
        trajectories: Number to share out.

    Returns:
        (S,) int64 trajectories per start state, summing to ``trajectories``.
    """
    shares = np.round(weights * trajectories, _SHARE_DECIMALS)
    allocated = np.floor(shares).astype(np.int64)
    remainders = np.round(shares - allocated, _SHARE_DECIMALS)
    missing = trajectories - int(allocated.sum())
    allocated[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return allocated


def distance_from_uniform(visits: np.ndarray) -> tuple[float, float | None]:
    """Compares visits with the uniform distribution over the same states.

    Args:
        visits: (K,) visits of the states that can be visited, in expectation or counted.

    Returns:
        Total variation distance, and KL(uniform || visits) in nats, ``None`` where it is infinite.
    """
    occupancy = visits / visits.sum()
    uniform = 1.0 / len(occupancy)
    total_variation = 0.5 * float(np.abs(occupancy - uniform).sum())
    if occupancy.min() == 0.0:
        return total_variation, None
    return total_variation, float(np.log(uniform / occupancy).mean())
