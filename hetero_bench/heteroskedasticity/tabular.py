"""D(π, β)(s) and differential concentrability where the environment has an exact tabular model.

Differential concentrability (Singh et al. 2023, Eq. 4) is how unevenly D varies over the states
that π visits:

    C_diff = E_{s1,s2~d^π} [ (√(D(s1)/μ(s1)) - √(D(s2)/μ(s2)))² ] = 2 Var_{s~d^π} √(D(s)/μ(s)),

with d^π the state distribution of π and μ that of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hetero_bench.dataset import Dataset
from hetero_bench.heteroskedasticity.measures import (
    BehaviourSource,
    Heteroskedasticity,
    summarise,
)
from hetero_bench.tabular import TabularMDP

SMOOTHING = 1e-3
"""β is mixed with this much of the uniform distribution, so that D is finite."""
DEFAULT_DISCOUNT = 0.99
"""Used where a dataset's manifest states no discount for analysis."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False, kw_only=True)
class TabularHeteroskedasticity(Heteroskedasticity):
    """Measures of one tabular dataset against one policy.

    Attributes:
        divergence: (S,) D(π, β)(s); NaN where the data has no row.
        state_distribution: (S,) μ(s), share of the rows that begin in the state.
        occupancy: (S,) d^π(s), normalised discounted occupancy of π.
        unvisited: d^π mass of states without data; they are left out of ``c_diff``.
        c_diff: Differential concentrability, Eq. 4.
        twice_variance: 2 Var_{d^π} D, what is left of Eq. 4 without root and μ.
    """

    divergence: np.ndarray
    state_distribution: np.ndarray
    occupancy: np.ndarray
    unvisited: float
    c_diff: float
    twice_variance: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the scalar measures as plain JSON values."""
        names = ("c_diff", "twice_variance", "unvisited")
        return {**super().to_dict(), **{name: getattr(self, name) for name in names}}


class TabularBehaviour(NamedTuple):
    """The behaviour policy β of a tabular dataset.

    Attributes:
        probabilities: (S, A) float64 β(a|s); uniform where the data has no row.
        counts: (S,) int64 rows that begin in the state.
        source: ``exact``: β as recorded; ``fitted``: β estimated by counting.
    """

    probabilities: np.ndarray
    counts: np.ndarray
    source: BehaviourSource


def tabular_heteroskedasticity(
    dataset: Dataset,
    policy: np.ndarray | None = None,
    *,
    behaviour: BehaviourSource | None = None,
) -> TabularHeteroskedasticity:
    """Measures how unevenly a tabular dataset's behaviour varies over its states.

    Args:
        dataset: Has ``states`` (N,) among its extras, and an environment with an exact model
            (``env.unwrapped.mdp``).
        policy: (S, A) π; by default the optimal policy (value iteration with the manifest's
            discount for analysis, 0.99 if it states none).
        behaviour: Where β comes from: ``exact``, from ``behaviour_probabilities`` (N, A) among the
            extras, or ``fitted``, by counting actions; by default exact if recorded.

    Raises:
        ValueError: If the dataset is not tabular, the policy has another shape, or what
            ``behaviour`` needs is not recorded.
    """
    mdp = exact_model(dataset)
    if policy is not None and np.shape(policy) != mdp.rewards.shape:
        raise ValueError(
            f"{dataset.id} is tabular: expected policy as an array of action probabilities of "
            f"shape {mdp.rewards.shape}; got {np.shape(policy)}"
        )
    beta = tabular_behaviour(dataset, behaviour)
    states, counts, seen = dataset.extras["states"], beta.counts, beta.counts > 0
    discount = dataset.spec.discount or DEFAULT_DISCOUNT
    pi = mdp.value_iteration(discount).policy if policy is None else np.asarray(policy, np.float64)
    occupancy = mdp.occupancy(pi, discount)
    divergence = np.where(seen, chi_square(pi, smooth(beta.probabilities)), np.nan)
    mu = counts / counts.sum()
    return TabularHeteroskedasticity(
        dataset_id=dataset.id,
        behaviour=beta.source,
        **summarise(divergence[states], QUANTILES),
        divergence=divergence,
        state_distribution=mu,
        occupancy=occupancy,
        unvisited=float(occupancy[~seen].sum()),
        c_diff=differential_concentrability(divergence[seen], mu[seen], occupancy[seen]),
        twice_variance=2.0 * _variance(divergence[seen], occupancy[seen]),
    )


def tabular_behaviour(
    dataset: Dataset, behaviour: BehaviourSource | None = None
) -> TabularBehaviour:
    """Returns the behaviour policy and the state counts of a tabular dataset.

    Args:
        dataset: As for :func:`tabular_heteroskedasticity`.
        behaviour: ``exact`` or ``fitted``; by default exact if recorded.

    Raises:
        ValueError: If the dataset is not tabular, or what ``behaviour`` needs is not recorded.
    """
    mdp = exact_model(dataset)
    recorded = "behaviour_probabilities" in dataset.extras
    behaviour = behaviour or ("exact" if recorded else "fitted")
    if behaviour == "exact" and not recorded:
        raise ValueError(
            f"{dataset.id} does not record behaviour_probabilities; use behaviour='fitted'"
        )
    states = np.asarray(dataset.extras["states"], dtype=np.int64)
    counts = np.bincount(states, minlength=mdp.num_states)
    if behaviour == "exact":
        rows = np.asarray(dataset.extras["behaviour_probabilities"], dtype=np.float64)
        total = np.zeros(mdp.rewards.shape)
        np.add.at(total, states, rows)
    else:
        pairs = states * mdp.num_actions + np.asarray(dataset.arrays.actions)
        total = np.bincount(pairs, minlength=mdp.rewards.size).reshape(mdp.rewards.shape)
    seen = counts > 0
    probabilities = mdp.uniform_policy()
    probabilities[seen] = total[seen] / total[seen].sum(axis=1, keepdims=True)
    return TabularBehaviour(probabilities, counts, behaviour)


def smooth(probabilities: np.ndarray) -> np.ndarray:
    """Returns (S, A) probabilities mixed with a little of the uniform distribution."""
    return (1.0 - SMOOTHING) * probabilities + SMOOTHING / probabilities.shape[-1]


def chi_square(policy: np.ndarray, behaviour: np.ndarray) -> np.ndarray:
    """Returns (S,) D(π, β)(s) = Σ_a π (π/β - 1) of (S, A) probabilities, β positive."""
    return (policy * (policy / behaviour - 1.0)).sum(axis=-1)


def differential_concentrability(
    divergence: np.ndarray, state_distribution: np.ndarray, occupancy: np.ndarray
) -> float:
    """Returns C_diff (Eq. 4) as 2 Var_{d^π} √(D/μ).

    Args:
        divergence: (S,) D(π, β)(s), non-negative up to rounding.
        state_distribution: (S,) μ(s), positive.
        occupancy: (S,) d^π(s); it is normalised over the states given.
    """
    ratio = np.maximum(divergence, 0.0) / state_distribution
    return 2.0 * _variance(np.sqrt(ratio), occupancy)


def _variance(values: np.ndarray, weights: np.ndarray) -> float:
    weights = weights / weights.sum()
    mean = (weights * values).sum()
    return float((weights * (values - mean) ** 2).sum())


def exact_model(dataset: Dataset) -> TabularMDP:
    """Returns the exact MDP of a tabular dataset's environment.

    Raises:
        ValueError: If the dataset is not tabular.
    """
    if "states" not in dataset.extras:
        raise ValueError(
            f"{dataset.id} does not record states, so it is not tabular; expected a gridworld "
            "dataset"
        )
    model = getattr(dataset.make_env().unwrapped, "mdp", None)
    if not isinstance(model, TabularMDP):
        raise ValueError(f"the environment of {dataset.id} has no exact model `mdp`")
    return model
