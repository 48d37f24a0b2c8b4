"""How unevenly a dataset's behaviour varies over the state space.

Singh et al. (2023), "ReDS: Offline RL With Heteroskedastic Datasets via Support Constraints".
A policy π is compared with the behaviour policy β state by state,

    D(π, β)(s) = Σ_a π(a|s) (π(a|s) / β(a|s) - 1) = χ²(π(·|s) ‖ β(·|s)),

and heteroskedasticity is how much that varies: as differential concentrability (their Eq. 4), which
:mod:`~hetero_bench.heteroskedasticity.tabular` computes exactly, or, as in their Table 3, as the
standard deviation and the maximum of D over the dataset's states, which
:mod:`~hetero_bench.heteroskedasticity.continuous` does for Gaussian policies too.
"""

from __future__ import annotations

import numpy as np

from hetero_bench.dataset import Dataset
from hetero_bench.heteroskedasticity.continuous import (
    ContinuousHeteroskedasticity,
    continuous_heteroskedasticity,
)
from hetero_bench.heteroskedasticity.measures import (
    BehaviourSource,
    Heteroskedasticity,
    Summary,
)
from hetero_bench.heteroskedasticity.policies import GaussianPolicy, Squash
from hetero_bench.heteroskedasticity.tabular import (
    TabularBehaviour,
    TabularHeteroskedasticity,
    chi_square,
    differential_concentrability,
    smooth,
    tabular_behaviour,
    tabular_heteroskedasticity,
)

__all__ = [
    "BehaviourSource",
    "ContinuousHeteroskedasticity",
    "GaussianPolicy",
    "Heteroskedasticity",
    "Squash",
    "Summary",
    "TabularBehaviour",
    "TabularHeteroskedasticity",
    "chi_square",
    "continuous_heteroskedasticity",
    "differential_concentrability",
    "heteroskedasticity",
    "smooth",
    "tabular_behaviour",
    "tabular_heteroskedasticity",
]


def heteroskedasticity(
    dataset: Dataset,
    policy: np.ndarray | GaussianPolicy | None = None,
    *,
    behaviour: BehaviourSource | None = None,
    squash: Squash | None = None,
    seed: int = 0,
) -> TabularHeteroskedasticity | ContinuousHeteroskedasticity:
    """Measures how unevenly a dataset's behaviour varies over its states.

    Args:
        dataset: A tabular dataset, or one with continuous actions.
        policy: π. Tabular: (S, A) probabilities, by default the optimal policy. Continuous: a
            :class:`~hetero_bench.heteroskedasticity.policies.GaussianPolicy`, by default the
            controller that collected the data, without its noise.
        behaviour: Where β comes from: ``exact``, as recorded, or ``fitted``, estimated from the
            actions; by default exact if recorded.
        squash: Continuous only: ``clip`` (the default) or ``tanh``, what turns the policy's
            Gaussian into an action.
        seed: Of the fit of continuous actions; nothing else is random.

    Returns:
        The measures; of which kind, follows from the dataset's actions.

    Raises:
        TypeError: If ``dataset`` is no dataset.
        ValueError: If an argument is of the other kind of dataset, or what it needs is not
            recorded; the message says what to do.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; expected a Dataset, as hetero_bench.load gives"
        )
    if behaviour not in (None, "exact", "fitted"):
        raise ValueError(f"behaviour is {behaviour!r}; expected 'exact' or 'fitted'")
    if dataset.arrays.actions.dtype.kind == "f":
        if policy is not None and not callable(policy):
            raise ValueError(
                f"{dataset.id} has continuous actions: expected policy as a function "
                "(observations, waypoints) -> (means, standard deviations); got an array"
            )
        return continuous_heteroskedasticity(
            dataset, policy, behaviour=behaviour, squash=squash or "clip", seed=seed
        )
    if squash is not None:
        raise ValueError(f"{dataset.id} has discrete actions, which nothing squashes; drop squash")
    if callable(policy):
        raise ValueError(
            f"{dataset.id} has discrete actions: expected policy as an (S, A) array of action "
            "probabilities; got a function"
        )
    return tabular_heteroskedasticity(dataset, policy, behaviour=behaviour)
