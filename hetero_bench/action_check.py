"""The check that evaluation makes of a policy's output."""

from __future__ import annotations

import gymnasium
import numpy as np

from hetero_bench.errors import PolicyError

BOUNDS_TOLERANCE = 1e-5
"""Slack for a continuous action's bounds, as a share of their width; then it is clipped."""


class ActionCheck:
    """Turns a policy's output into actions, or says what is wrong with it.

    Args:
        space: Action space of one environment, ``Discrete`` or ``Box``.
        rows: Rows ``n`` that a policy's output must have.
    """

    def __init__(self, space: gymnasium.Space, rows: int) -> None:
        if not isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.Box):
            raise ValueError(f"action space {space} is not supported; expected Discrete or Box")
        self._space = space
        self._shape = (rows, *(space.shape or ()))

    def __call__(
        self, actions: np.ndarray, active: np.ndarray, episodes: np.ndarray, steps: np.ndarray
    ) -> np.ndarray:
        """Returns the actions in the space's dtype.

        Args:
            actions: (n, *act) the policy's output.
            active: (n,) bool, rows whose actions will be used.
            episodes: (n,) episode of each row.
            steps: (K,) step that each episode is at.

        Raises:
            PolicyError: If shape, dtype or a value is wrong.
        """
        actions = np.asarray(actions)
        if actions.shape != self._shape:
            raise PolicyError(
                f"the policy returned actions of shape {actions.shape} for {self._shape[0]} "
                f"observations; expected {self._shape}"
            )
        if isinstance(self._space, gymnasium.spaces.Discrete):
            if actions.dtype.kind not in "iu":
                raise PolicyError(
                    f"the policy returned actions of dtype {actions.dtype}; expected integers for "
                    f"{self._space}"
                )
            low, high = int(self._space.start), int(self._space.start + self._space.n - 1)
            bad = (actions < low) | (actions > high)
            usable = actions
        else:
            if actions.dtype.kind not in "fiu":
                raise PolicyError(
                    f"the policy returned actions of dtype {actions.dtype}; expected floats"
                )
            low, high = self._space.low, self._space.high
            slack = BOUNDS_TOLERANCE * np.where(np.isfinite(high - low), high - low, 0.0)
            bad = ~((actions >= low - slack) & (actions <= high + slack))
            usable = np.clip(actions, low, high).astype(self._space.dtype)
            bad = bad.reshape(len(bad), -1).any(axis=1)
        bad &= active
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            episode = int(episodes[row])
            raise PolicyError(
                f"episode {episode}, step {int(steps[episode])}: action {actions[row]} is not "
                f"finite or out of bounds; expected values in [{np.min(low)}, {np.max(high)}]. "
                "Clip or squash the policy's output."
            )
        return usable
