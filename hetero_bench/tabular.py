"""Exact solutions of small MDPs: values, returns and state occupancy without sampling.

``S`` states, ``A`` actions. Policies are (S, A) float64 arrays of action probabilities. Entering a
terminal state ends the episode: nothing is earned and no action taken there, whatever the arrays
say about it. A "visit" of a state is a time step at which an action is taken in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_SUM_TOLERANCE = 1e-9


class OptimalSolution(NamedTuple):
    """Result of value iteration.

    Attributes:
        values: (S,) optimal discounted values.
        action_values: (S, A) optimal action values; zero in terminal states.
        policy: (S, A) deterministic greedy policy, the lowest-numbered of equally good actions.
        iterations: Sweeps that were needed.
    """

    values: np.ndarray
    action_values: np.ndarray
    policy: np.ndarray
    iterations: int


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """A finite MDP as arrays.

    Attributes:
        transitions: (S, A, S) float64, probability of each successor.
        rewards: (S, A) float64, expected reward.
        terminal: (S,) bool, states that end an episode.
        initial: (S,) float64, probability that an episode starts in the state.

    Raises:
        ValueError: On construction, if shapes disagree or probabilities do not sum to one.
    """

    transitions: np.ndarray
    rewards: np.ndarray
    terminal: np.ndarray
    initial: np.ndarray

    def __post_init__(self) -> None:
        if self.transitions.ndim != 3 or self.transitions.shape[0] != self.transitions.shape[2]:
            raise ValueError(f"transitions have shape {self.transitions.shape}; expected (S, A, S)")
        S, A = self.transitions.shape[:2]
        for name, shape in (("rewards", (S, A)), ("terminal", (S,)), ("initial", (S,))):
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} has shape {getattr(self, name).shape}; expected {shape} as transitions"
                )
        _check_distribution(self.transitions, "transitions")
        _check_distribution(self.initial, "initial")

    @property
    def num_states(self) -> int:
        """Number of states ``S``, terminal ones included."""
        return self.transitions.shape[0]

    @property
    def num_actions(self) -> int:
        """Number of actions ``A``."""
        return self.transitions.shape[1]

    def uniform_policy(self) -> np.ndarray:
        """Returns the (S, A) policy that takes every action with the same probability."""
        return np.full((self.num_states, self.num_actions), 1.0 / self.num_actions)

    def action_values(self, values: np.ndarray, gamma: float) -> np.ndarray:
        """Returns (S, A) one-step look-ahead r + gamma·E[values(s')]; zero in terminal states."""
        successors = np.where(self.terminal, 0.0, values)
        return np.where(
            self.terminal[:, None], 0.0, self.rewards + gamma * (self.transitions @ successors)
        )

    def value_iteration(
        self, gamma: float, tol: float = 1e-10, max_iterations: int = 100_000
    ) -> OptimalSolution:
        """Solves for the optimal policy.

        Args:
            gamma: Discount in [0, 1).
            tol: Bound on the error of the values returned, in the sup norm.
            max_iterations: Sweeps after which to give up.

        Raises:
            ValueError: If ``gamma`` is outside [0, 1).
            RuntimeError: If the values are not within ``tol`` after ``max_iterations``.
        """
        if not 0.0 <= gamma < 1.0:
            raise ValueError(f"gamma is {gamma}; value iteration needs a discount in [0, 1)")
        values = np.zeros(self.num_states)
        for iteration in range(1, max_iterations + 1):
            action_values = self.action_values(values, gamma)
            change = np.abs(action_values.max(axis=1) - values).max()
            values = action_values.max(axis=1)
            if gamma * change <= tol * (1.0 - gamma):
                # Values are within tol, so equally good actions are within 2 tol of each other.
                best = np.argmax(action_values >= values[:, None] - 2.0 * tol, axis=1)
                policy = np.eye(self.num_actions)[best]
                return OptimalSolution(values, action_values, policy, iteration)
        raise RuntimeError(
            f"value iteration is not within {tol} after {max_iterations} sweeps; raise tol or "
            "max_iterations"
        )

    def policy_evaluation(
        self, policy: np.ndarray, gamma: float = 1.0, *, horizon: int | None = None
    ) -> np.ndarray:
        """Returns the (S,) expected discounted return from each state, exact.

        Args:
            policy: (S, A) action probabilities.
            gamma: Discount in [0, 1].
            horizon: Steps after which an episode is cut; ``None`` means never, solved as a linear
                system.

        Raises:
            ValueError: If the policy is not (S, A) probabilities; or if ``gamma`` is 1 without a
                horizon and some state never terminates.
        """
        rewards, successors = self._under(policy)
        _check_discount(gamma)
        if horizon is not None:
            values = np.zeros(self.num_states)
            for _ in range(_checked_horizon(horizon)):
                values = rewards + gamma * (successors @ values)
            return values
        if gamma == 1.0:
            self._require_termination(successors, np.ones(self.num_states, dtype=bool))
        return np.linalg.solve(np.eye(self.num_states) - gamma * successors, rewards)

    def expected_return(
        self, policy: np.ndarray, gamma: float = 1.0, *, horizon: int | None = None
    ) -> float:
        """Returns the expected (by default undiscounted) return of an episode.

        Arguments and errors are those of :meth:`expected_visits`, from which it follows: a return
        is the sum over states of visits times expected reward.
        """
        rewards, _ = self._under(policy)
        return float(self.expected_visits(policy, gamma, horizon=horizon) @ rewards)

    def expected_visits(
        self, policy: np.ndarray, gamma: float = 1.0, *, horizon: int | None = None
    ) -> np.ndarray:
        """Returns the (S,) expected number of visits, discounted: sum over t of gamma^t P(s_t = s).

        Terminal states have none. The visits n satisfy the flow equations
        n(s') = initial(s') + gamma · sum over s, a of n(s) policy(a|s) P(s'|s, a).

        Args:
            policy: (S, A) action probabilities.
            gamma: Discount in [0, 1].
            horizon: Steps after which an episode is cut; ``None`` means never, solved as a linear
                system.

        Raises:
            ValueError: If the policy is not (S, A) probabilities; or if ``gamma`` is 1 without a
                horizon and a state that an episode can reach never terminates.
        """
        _, successors = self._under(policy)
        _check_discount(gamma)
        initial = np.where(self.terminal, 0.0, self.initial)
        if horizon is not None:
            visits, present, discount = np.zeros(self.num_states), initial, 1.0
            for _ in range(_checked_horizon(horizon)):
                visits += discount * present
                present = np.where(self.terminal, 0.0, present @ successors)
                discount *= gamma
            return visits
        reachable = _reachable(successors, initial > 0.0)
        if gamma == 1.0:
            self._require_termination(successors, reachable)
        live = reachable & ~self.terminal
        flow = np.eye(int(live.sum())) - gamma * successors[np.ix_(live, live)].T
        visits = np.zeros(self.num_states)
        visits[live] = np.linalg.solve(flow, initial[live])
        return visits

    def occupancy(
        self, policy: np.ndarray, gamma: float = 1.0, *, horizon: int | None = None
    ) -> np.ndarray:
        """Returns the (S,) state distribution d^π: expected visits, scaled to sum to one.

        Arguments and errors are those of :meth:`expected_visits`.
        """
        visits = self.expected_visits(policy, gamma, horizon=horizon)
        return visits / visits.sum()

    def _under(self, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (S,) rewards and (S, S) transitions under a policy, zero in terminal states."""
        policy = np.asarray(policy, dtype=np.float64)
        if policy.shape != self.rewards.shape:
            raise ValueError(f"policy has shape {policy.shape}; expected {self.rewards.shape}")
        _check_distribution(policy, "policy")
        rewards = np.where(self.terminal, 0.0, (policy * self.rewards).sum(axis=1))
        successors = np.einsum("sa,sat->st", policy, self.transitions)
        return rewards, np.where(self.terminal[:, None], 0.0, successors)

    def _require_termination(self, successors: np.ndarray, states: np.ndarray) -> None:
        """Raises unless an episode from each of ``states`` (S,) bool ends with probability one."""
        stuck = np.flatnonzero(states & ~_reachable(successors.T, self.terminal))
        if len(stuck):
            raise ValueError(
                f"from {len(stuck)} states (for example state {stuck[0]}) the policy never "
                "reaches a terminal state, so undiscounted sums diverge; give a horizon or "
                "gamma < 1"
            )


def _reachable(transitions: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Returns (S,) bool: states with a path of positive probability from ``sources`` (S,) bool."""
    reached, frontier = sources.copy(), sources
    while frontier.any():
        frontier = (transitions[frontier] > 0.0).any(axis=0) & ~reached
        reached |= frontier
    return reached


def _check_distribution(probabilities: np.ndarray, name: str) -> None:
    wrong = (probabilities < 0.0).any(axis=-1) | ~np.isclose(
        probabilities.sum(axis=-1), 1.0, rtol=0.0, atol=_SUM_TOLERANCE
    )
    if np.any(wrong):
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}{list(index) if index else ''} is no probability distribution; expected "
            "non-negative numbers that sum to 1"
        )


def _check_discount(gamma: float) -> None:
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma is {gamma}; expected a discount in [0, 1]")


def _checked_horizon(horizon: int) -> int:
    if horizon < 0:
        raise ValueError(f"horizon is {horizon}; expected a non-negative number of steps")
    return horizon
