"""What policies trained on a gridworld do, computed exactly from the maze's model.

``P`` policies, ``S`` states, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from baselines.engine import Actor
from baselines.parts.discrete import SoftmaxActor
from hetero_bench.envs.gridworld_model import GridworldModel, gridworld_model
from hetero_bench.tabular import TabularMDP

if TYPE_CHECKING:
    from hetero_bench import Dataset


@dataclass(frozen=True, eq=False)
class Visitation:
    """Where policies go, and how often they arrive.

    Attributes:
        visits: (P, S) expected visits of each state in an episode.
        successes: (P,) probability of reaching the goal in an episode.
    """

    visits: np.ndarray
    successes: np.ndarray

    @property
    def occupancy(self) -> np.ndarray:
        """(S,) share of the time spent in each state, mean over policies."""
        return (self.visits / self.visits.sum(axis=1, keepdims=True)).mean(axis=0)


@dataclass(frozen=True, eq=False)
class Maze:
    """The maze that a gridworld dataset is evaluated in.

    Attributes:
        model: Layout, action noise and observation features.
        mdp: The exact model.
        horizon: Steps after which an episode is cut.
    """

    model: GridworldModel
    mdp: TabularMDP
    horizon: int

    @classmethod
    def of(cls, dataset: Dataset) -> Maze:
        """Returns a dataset's maze.

        Raises:
            ValueError: If the dataset is of another family.
        """
        environment = dataset.spec.environment
        if environment is None or dataset.spec.family != "gridworld":
            raise ValueError(f"{dataset.id} is {dataset.spec.family} data; expected a gridworld")
        model = gridworld_model(**environment.kwargs)
        return cls(model, model.mdp(), environment.max_episode_steps)

    @torch.inference_mode()
    def action_probabilities(self, actors: Sequence[Actor]) -> np.ndarray:
        """Returns the (P, S, A) float64 action probabilities of trained policies.

        Raises:
            TypeError: If a policy is not a softmax.
        """
        features = torch.from_numpy(np.array(self.model.features))
        tables = []
        for actor in actors:
            if not isinstance(actor, SoftmaxActor):
                raise TypeError(f"{type(actor).__name__} has no action probabilities")
            tables.append(actor.probabilities(features).double().numpy())
        probabilities = np.stack(tables)
        return probabilities / probabilities.sum(axis=-1, keepdims=True)

    def visitation(self, policies: np.ndarray) -> Visitation:
        """Follows (P, S, A) policies for an episode each."""
        visits = [self.mdp.expected_visits(each, horizon=self.horizon) for each in policies]
        successes = [self.success(each) for each in policies]
        return Visitation(visits=np.stack(visits), successes=np.array(successes))

    def success(self, policy: np.ndarray) -> float:
        """Returns the probability that an (S, A) policy reaches the goal in an episode."""
        return self.mdp.expected_return(policy, horizon=self.horizon)
