"""What the single and the vector gridworld share: dynamics, observation features, exact MDP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hetero_bench.envs.gridworld_layout import NUM_ACTIONS, GridworldLayout, get_layout
from hetero_bench.tabular import TabularMDP

DEFAULT_LAYOUT = "three-rooms"
DEFAULT_ACTION_NOISE = 0.05
DEFAULT_FEATURE_SCALING = "unit_variance"
FEATURE_SCALINGS = (DEFAULT_FEATURE_SCALING, "none")
FEATURE_DIMENSION = 50
SMOOTHING_SWEEPS = 10


@dataclass(frozen=True, eq=False)
class GridworldModel:
    """A maze with its action noise and observation features.

    Attributes:
        layout: The maze.
        action_noise: Probability that the executed action is redrawn uniformly over all five.
        features: (S, 50) float32 observation of each state.
    """

    layout: GridworldLayout
    action_noise: float
    features: np.ndarray

    def executed_actions(self, actions: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Applies the action noise.

        Args:
            actions: (n,) int64 chosen actions.
            uniforms: (n,) float64 in [0, 1). Those below ``action_noise`` redraw the action, and
                where in that interval they lie says which it becomes.

        Returns:
            (n,) int64 executed actions.
        """
        if self.action_noise == 0.0:
            return actions
        redrawn = (uniforms * (NUM_ACTIONS / self.action_noise)).astype(np.int64)
        return np.where(redrawn < NUM_ACTIONS, redrawn, actions)

    def executed_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns (S, A) probabilities of the executed action when (S, A) ones are chosen from."""
        return (1.0 - self.action_noise) * probabilities + self.action_noise / NUM_ACTIONS

    def mdp(self) -> TabularMDP:
        """Returns the exact MDP: reward 1 for entering the goal, which is terminal."""
        layout, S = self.layout, self.layout.num_states
        executed = self.executed_probabilities(np.eye(NUM_ACTIONS))
        transitions = np.zeros((S, NUM_ACTIONS, S))
        states = np.arange(S)[:, None]
        for action in range(NUM_ACTIONS):
            successors = layout.next_states[:, action, None]
            transitions[states, np.arange(NUM_ACTIONS), successors] += executed[:, action]
        transitions[layout.goal] = 0.0
        transitions[layout.goal, :, layout.goal] = 1.0
        rewards = transitions[:, :, layout.goal].copy()
        rewards[layout.goal] = 0.0
        return TabularMDP(
            transitions=transitions,
            rewards=rewards,
            terminal=np.arange(S) == layout.goal,
            initial=(np.arange(S) == layout.start).astype(np.float64),
        )


def gridworld_model(
    layout: str | Sequence[str] = DEFAULT_LAYOUT,
    action_noise: float = DEFAULT_ACTION_NOISE,
    feature_seed: int = 0,
    feature_scaling: str = DEFAULT_FEATURE_SCALING,
) -> GridworldModel:
    """Returns the model for an environment's keyword arguments; equal arguments share one.

    Raises:
        ValueError: If the layout is invalid, ``action_noise`` is outside [0, 1], ``feature_seed``
            is negative or ``feature_scaling`` is unknown.
    """
    if not 0.0 <= action_noise <= 1.0:
        raise ValueError(f"action_noise is {action_noise}; expected a probability in [0, 1]")
    if feature_scaling not in FEATURE_SCALINGS:
        raise ValueError(
            f"feature_scaling is {feature_scaling!r}; expected one of {FEATURE_SCALINGS}"
        )
    if feature_seed < 0:
        raise ValueError(f"feature_seed is {feature_seed}; expected a non-negative integer")
    return _build_model(get_layout(layout), float(action_noise), int(feature_seed), feature_scaling)


def gridworld_mdp(
    layout: str | Sequence[str] = DEFAULT_LAYOUT, action_noise: float = DEFAULT_ACTION_NOISE
) -> TabularMDP:
    """Returns the exact MDP of a gridworld; state numbers are those of the layout."""
    return gridworld_model(layout, action_noise).mdp()


def smoothed_features(next_states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws Gaussian features and smooths them over neighbouring cells.

    The "smoothobs" observations of Fu et al. (2019), "Diagnosing bottlenecks in deep Q-learning",
    as the ReDS paper uses them (Appendix B): from X ~ N(0, 1), ten sweeps over the states in
    ascending order set X[s] to the mean of X over the five successors of s, in place, so that a
    sweep sees its own results (Gauss-Seidel). The action noise does not change that mean. The sum
    is written out, without BLAS, so that the bits do not depend on the machine.

    Args:
        next_states: (S, A) successor of each state and action.
        rng: Source of the Gaussian draws.

    Returns:
        (S, 50) float64 features, not scaled.
    """
    features = rng.standard_normal((len(next_states), FEATURE_DIMENSION))
    for _ in range(SMOOTHING_SWEEPS):
        for state, successors in enumerate(next_states):
            total = features[successors[0]].copy()
            for successor in successors[1:]:
                total += features[successor]
            features[state] = total / len(successors)
    return features


@lru_cache(maxsize=32)
def _build_model(
    layout: GridworldLayout, action_noise: float, feature_seed: int, feature_scaling: str
) -> GridworldModel:
    features = smoothed_features(layout.next_states, np.random.default_rng(feature_seed))
    if feature_scaling == "unit_variance":
        features /= features.std(axis=0)
    features = features.astype(np.float32)
    features.setflags(write=False)
    return GridworldModel(layout=layout, action_noise=action_noise, features=features)
