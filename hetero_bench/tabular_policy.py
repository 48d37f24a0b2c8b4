"""A table of action probabilities as a policy on observations."""

from __future__ import annotations

import numpy as np


class TabularPolicy:
    """Looks the state of an observation up and samples its row of an (S, A) table.

    Environments with finitely many states, such as the gridworld, show a feature vector instead of
    the state. The look-up is a binary search in one feature that takes different values in all
    states.

    Args:
        probabilities: (S, A) action probabilities.
        features: (S, d) observation of each state, no two alike in all features.

    Raises:
        ValueError: If the shapes disagree, or no single feature tells all states apart.
    """

    def __init__(self, probabilities: np.ndarray, features: np.ndarray) -> None:
        if probabilities.ndim != 2 or len(probabilities) != len(features):
            raise ValueError(
                f"probabilities have shape {probabilities.shape} and features {features.shape}; "
                "expected (S, A) and (S, d)"
            )
        distinct = [len(np.unique(column)) == len(features) for column in features.T]
        if not any(distinct):
            raise ValueError("no single feature tells all states apart; expected at least one")
        self.probabilities = probabilities
        self._column = distinct.index(True)
        self._order = np.argsort(features[:, self._column])
        self._sorted = features[self._order, self._column]
        self._thresholds = np.cumsum(probabilities, axis=1)[:, :-1]

    def states(self, observations: np.ndarray) -> np.ndarray:
        """Returns the (n,) int64 state of each of the (n, d) observations.

        Raises:
            ValueError: If an observation is of no state.
        """
        values = observations[:, self._column]
        places = np.searchsorted(self._sorted, values)
        known = self._sorted.take(places, mode="clip") == values
        if not known.all():
            row = int(np.argmin(known))
            raise ValueError(
                f"observation {row} is of none of the {len(self._sorted)} states; expected the "
                "environment that the features were taken from"
            )
        return self._order.take(places)

    def __call__(self, observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns (n,) int64 actions sampled for (n, d) observations."""
        draws = rng.random(len(observations))
        return (draws[:, None] >= self._thresholds.take(self.states(observations), axis=0)).sum(
            axis=1
        )
