"""Transitions on the device, once, and uniform batches for every member from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from baselines.engine.preparation import Frame, Preparation, frame_of, prepared_columns
from baselines.engine.random import MemberRandom

if TYPE_CHECKING:
    from hetero_bench import Dataset


class Batch(NamedTuple):
    """Transitions for every member; ``P`` members, ``B`` transitions each."""

    observations: Tensor  # (P, B, *obs) float32, as prepared
    actions: Tensor  # (P, B) int64, or (P, B, act) float32 in [-1, 1]
    rewards: Tensor  # (P, B) float32, as prepared
    next_observations: Tensor  # (P, B, *obs) float32, true successors, at truncations too
    terminations: Tensor  # (P, B) bool; a truncation is not one
    truncations: Tensor  # (P, B) bool, where trajectories end without terminating
    next_actions: Tensor  # the dataset's next action, shaped as actions; 0 where there is none
    has_next: Tensor  # (P, B) bool, false on the last step of a trajectory
    row: Tensor  # (P, B) int64, the transitions' rows in MemberData.rows


class MemberData:
    """The members' datasets, each stored once however many members share it.

    Args:
        datasets: (P,) one dataset per member; they may repeat. Sizes may differ, shapes may not.
        device: Where the transitions live.
        preparations: (P,) what is done to each member's dataset; nothing by default.
        steps: Updates that the members are going to take in all.

    Attributes:
        num_members: ``P``.
        steps: Updates that the members are going to take in all, for schedules; None if unknown.
        observation_shape: Shape of one observation.
        action_shape: Shape of one action, ``()`` if discrete.
        discrete: Whether actions are discrete.
        rows: :class:`Batch` of all datasets' transitions, one after the other, without the member
            axis. A row that ends no trajectory is followed by its successor.
        offsets: (P,) int64 first row of each member's dataset.
        sizes: (P,) int64 transitions of each member's dataset.

    Raises:
        ValueError: If two datasets differ in observations or actions, or continuous actions are
            out of bounds.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        device: torch.device | str = "cpu",
        *,
        preparations: Sequence[Preparation] | None = None,
        steps: int | None = None,
    ):
        if preparations is None:
            preparations = [Preparation()] * len(datasets)
        pairs = list(zip(datasets, preparations, strict=True))
        unique = list(dict.fromkeys(pairs))
        layout = _common_layout(list(dict.fromkeys(datasets)))
        self.observation_shape, self.action_shape, self._num_actions = layout
        self.discrete = self._num_actions is not None
        self.num_members = len(datasets)
        self.device = torch.device(device)
        self.steps = steps
        frames = [frame_of(*pair) for pair in unique]
        columns = [
            prepared_columns(*pair, frame, discrete=self.discrete)
            for pair, frame in zip(unique, frames, strict=True)
        ]
        sizes = np.array([len(each["rewards"]) for each in columns])
        self.rows = Batch(
            **{name: _join([each[name] for each in columns], device) for name in columns[0]},
            row=torch.arange(int(sizes.sum()), device=device),
        )
        which = [unique.index(pair) for pair in pairs]
        self._frames = [frames[each] for each in which]
        self.sizes = torch.from_numpy(sizes[which]).to(device)
        self.offsets = torch.from_numpy((np.cumsum(sizes) - sizes)[which]).to(device)

    @property
    def observation_size(self) -> int:
        """Length of an observation that is a vector.

        Raises:
            ValueError: If observations have another shape, as images have.
        """
        if len(self.observation_shape) != 1:
            raise ValueError(
                f"observations have shape {self.observation_shape}; this method's networks take "
                "vectors. Flatten or encode them when registering the dataset, or choose a method "
                "with a network for them."
            )
        return self.observation_shape[0]

    @property
    def num_actions(self) -> int:
        """Number of discrete actions.

        Raises:
            ValueError: If actions are continuous.
        """
        if self._num_actions is None:
            raise ValueError("continuous actions have no number; look at `discrete` first")
        return self._num_actions

    @property
    def action_size(self) -> int:
        """Length of a continuous action, a vector.

        Raises:
            ValueError: If actions are discrete or have another shape.
        """
        if self.discrete or len(self.action_shape) != 1:
            raise ValueError(f"actions have shape {self.action_shape}; expected continuous vectors")
        return self.action_shape[0]

    def frame(self, member: int) -> Frame:
        """Returns the way from a member's environment to its networks and back, on the CPU."""
        return self._frames[member]

    def sample(self, random: MemberRandom, batch_size: int) -> Batch:
        """Draws transitions uniformly with replacement, each member from its own dataset.

        Args:
            random: The members' stream.
            batch_size: ``B``, transitions per member.
        """
        rows = random.integers(self.sizes, batch_size).add_(self.offsets.unsqueeze(-1))
        return self.take(rows)

    def take(self, rows: Tensor) -> Batch:
        """Returns the transitions in the given (P, B) int64 rows of :attr:`rows`."""
        index = rows.flatten()
        return Batch(
            *(each.index_select(0, index).view(*rows.shape, *each.shape[1:]) for each in self.rows)
        )


class Layout(NamedTuple):
    """What a network has to know of a dataset."""

    observation_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    num_actions: int | None  # None if continuous


def _common_layout(datasets: Sequence[Dataset]) -> Layout:
    """Returns the layout that datasets share.

    Numbers of actions have to be equal where the specification declares them. Where none does, the
    largest that is seen in any dataset counts: a dataset need not contain every action.
    """
    layouts = [_layout(dataset) for dataset in datasets]
    shapes = {(*layout[:2], layout.num_actions is None) for layout in layouts}
    declared = {n for dataset in datasets if (n := _declared_actions(dataset)) is not None}
    most = max((layout.num_actions or 0 for layout in layouts), default=0)
    if len(shapes) > 1 or len(declared) > 1 or (declared and most > max(declared)):
        listing = "; ".join(
            f"{_name(dataset)}: {layout}" for dataset, layout in zip(datasets, layouts, strict=True)
        )
        raise ValueError(
            "the members of a population need equal observation shapes and action spaces; got "
            f"{listing}. Train these datasets in separate runs."
        )
    return layouts[0]._replace(num_actions=most or None)


def _layout(dataset: Dataset) -> Layout:
    actions = dataset.transitions.actions
    num_actions = None
    if actions.dtype.kind in "iu":
        num_actions = _declared_actions(dataset) or int(actions.max()) + 1
    return Layout(dataset.transitions.observations.shape[1:], actions.shape[1:], num_actions)


def _declared_actions(dataset: Dataset) -> int | None:
    return dataset.spec.action.n if dataset.spec.action is not None else None


def _name(dataset: Dataset) -> str:
    parts = [dataset.id]
    parts += [f"size {dataset.size}"] if dataset.size is not None else []
    parts += [f"draw {dataset.draw}"] if dataset.draw is not None else []
    return " ".join(parts)


def _join(arrays: list[np.ndarray], device: torch.device | str) -> Tensor:
    """Concatenates arrays into one tensor on the device."""
    return torch.from_numpy(np.concatenate(arrays)).to(device)
