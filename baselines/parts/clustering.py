"""A mixture of Gaussians over gradient pairs, per member, and the tables to sample from it (C4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member, shared
from baselines.engine.precision import MatmulPrecision
from baselines.engine.random import MemberRandom
from baselines.parts.cluster_sampler import ClusterSampler
from baselines.parts.critics import Critics
from baselines.parts.cross_covariance import gradients, successive_inputs, traces
from baselines.parts.mixture import Mixture, expectation, fit, maximisation, spread_out
from baselines.parts.projection import Projection, principal

COLD_SWEEPS, WARM_SWEEPS = 10, 2
"""Steps of subspace iteration at first, and from the directions of the refresh before."""
GROUP_NUMBERS = 1 << 28
"""Numbers in the largest intermediate result on a GPU: as many members at a time as that allows."""
OCCUPIED = 0.01
"""Share of the transitions above which a cluster counts as occupied."""


def spread_rows(sizes: Tensor, count: int, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Chooses ``count`` of every member's transitions, evenly spread and equally likely.

    One of each stretch of ``size / count``; where two stretches share a transition it may come
    twice.

    Args:
        sizes: (G,) int64 transitions of each member.
        count: How many; all, in their order, of a member that has no more.
        uniforms: (G, count) uniforms on (0, 1).

    Returns:
        (G, count) int64 numbers below the sizes, and (G, count) bool, false for those that only
        fill up the row of a member that has fewer.
    """
    number = torch.arange(count, device=sizes.device)
    last = (sizes - 1).unsqueeze(-1)
    strata = (number + uniforms.double()) * (sizes.unsqueeze(-1) / count)
    spread = torch.where(last >= count, strata.long(), number)
    return spread.minimum(last), number <= last


class Clustering:
    """Fits the members' mixtures to the gradient pairs of their first critics.

    Before the first fit, and for good if that fails, a member's batches are uniform over a pool
    that is spread over its dataset. On a CPU members are computed one by one, each with its own
    sizes, on a GPU together.

    Args:
        configs: (P,) configs with the fields of :class:`baselines.c4.PlugIn`.
        data: The members' transitions.
        seeds: (P,) member seeds.
        critics: Gives the shape of the critics.

    Attributes:
        sampler: The tables, which :meth:`refresh` writes.
    """

    def __init__(
        self, configs: Sequence[Any], data: MemberData, seeds: Sequence[int], critics: Critics
    ):
        members, device = len(configs), data.device
        self._data = data
        self._kind = shared(configs, "gradient")
        self._sizes: list[int] = data.sizes.tolist()
        self._clusters = torch.tensor([each.clusters for each in configs], device=device)
        self._ridge = per_member(configs, "ridge", device)
        self._cold: int = shared(configs, "cold_iterations")
        self._warm: int = shared(configs, "warm_iterations")
        self._pool = shared(configs, "pool")
        self._fit = shared(configs, "fit_size")

        clusters, pool = max(each.clusters for each in configs), min(self._pool, max(self._sizes))
        size = critics.network.sizes[-2 if self._kind == "feature" else 0]
        reduced = min(size, shared(configs, "projection"))
        self.sampler = ClusterSampler(seeds, clusters, pool, device)
        self._random = {
            name: MemberRandom(seeds, name, device) for name in ("pool", "fitted", "centres")
        }
        if reduced < size:
            start = MemberRandom(seeds, "directions", device).normal(size, reduced)
        else:
            start = torch.eye(size, device=device).repeat(members, 1, 1)
        mean = torch.zeros(members, size, device=device)
        self._projections = [Projection(mean.clone(), start.clone()) for _ in range(2)]
        self._mixture = Mixture(
            torch.zeros(members, clusters, device=device),
            torch.zeros(members, clusters, 2 * reduced, device=device),
            torch.zeros(members, clusters, 2 * reduced, 2 * reduced, device=device),
        )
        fitted = min(self._fit, pool)
        self._rows = torch.zeros(members, fitted, dtype=torch.int64, device=device)
        self._responsibilities = torch.zeros(members, fitted, clusters, device=device)
        together = 1
        if device.type == "cuda":
            together = max(1, GROUP_NUMBERS // (pool * 2 * max(size, clusters * reduced)))
        self._groups = [
            slice(first, min(first + together, members)) for first in range(0, members, together)
        ]
        for group in self._groups:
            self._write_uniform(group)

    def _write_uniform(self, group: slice) -> None:
        """Writes tables of one cluster that all of the pool belongs to."""
        slots, valid = self._choose(self._data.sizes[group], self._count(group), None)
        one = torch.zeros(self._mixture.means.shape[1], device=slots.device)
        one[0] = 1.0
        none = torch.zeros(len(slots), dtype=torch.bool, device=slots.device)
        self.sampler.write(group, slots, valid.unsqueeze(-1) * one, none)

    def _count(self, group: slice) -> int:
        """Returns the number of transitions in the pools of some members, the largest of them."""
        return min(self._pool, max(self._sizes[group]))

    @torch.no_grad()
    def refresh(self, critics: Critics, *, cold: bool) -> dict[str, Tensor]:
        """Fits the mixtures and writes the tables; a member whose fit fails keeps what it had.

        Args:
            critics: As they are now.
            cold: Start from scattered centres instead of the mixture of the refresh before.

        Returns:
            Metrics by name, (P,) each: the traces of :class:`~baselines.parts.cross_covariance.
            Traces` over the pool, exp of the entropy of p, clusters with more than a hundredth of
            the transitions, and the mean log-likelihood.
        """
        longest = max(self._sizes)
        draws = {
            name: self._random[name].uniform(count)
            for name, count in (("pool", self._pool), ("fitted", self._fit))
            if count < longest
        }
        if cold:
            draws["centres"] = self._random["centres"].uniform(self._mixture.means.shape[1])
        with MatmulPrecision("fp32", self._data.device):
            metrics = [
                self._refresh(group, critics, {name: each[group] for name, each in draws.items()})
                for group in self._groups
            ]
        return {name: torch.cat([each[name] for each in metrics]) for name in metrics[0]}

    def _choose(self, sizes: Tensor, count: int, draws: Tensor | None) -> tuple[Tensor, Tensor]:
        uniforms = torch.zeros(len(sizes), count, device=sizes.device)
        return spread_rows(sizes, count, uniforms if draws is None else draws[:, :count])

    def _refresh(
        self, group: slice, critics: Critics, draws: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        count = self._count(group)
        sizes = self._data.sizes[group]
        slots, valid = self._choose(sizes, count, draws.get("pool"))
        batch = self._data.take(slots + self._data.offsets[group].unsqueeze(-1))
        paired = batch.has_next & valid
        following, current = self._pairs(critics, group, batch)

        fitted = min(self._fit, count)
        chosen, counted = self._choose(sizes.clamp(max=count), fitted, draws.get("fitted"))
        counted &= paired.gather(1, chosen)
        index = chosen.unsqueeze(-1).expand(-1, -1, current.shape[-1])
        projections, mixture = self._fitted(
            group, critics, (following.gather(1, index), current.gather(1, index)), counted, draws
        )
        points = _coordinates((following, current), projections)
        responsibilities, likelihoods = expectation(points, mixture)
        weight = paired.unsqueeze(-1)
        shares = (weight * responsibilities).sum(1) / weight.sum(1)
        # A transition without a pair is of every cluster as much as transitions are on average.
        everywhere = torch.where(weight, responsibilities, shares.unsqueeze(1))
        everywhere = everywhere * valid.unsqueeze(-1)

        new = (*mixture, *(tensor for each in projections for tensor in each))
        failed = torch.stack(
            [~each.flatten(1).isfinite().all(-1) for each in (everywhere, *new[1:])]
        )
        failed = failed.any(0)
        for tensor, value in zip(self._tensors(), new, strict=True):
            keep = failed.view(-1, *(1 for _ in value.shape[1:]))
            tensor[group] = torch.where(keep, tensor[group], value)
        self.sampler.write(group, slots, everywhere, failed)
        index = chosen.unsqueeze(-1).expand(-1, -1, responsibilities.shape[-1])
        for tensor, value in (
            (self._rows, slots.gather(1, chosen)),
            (self._responsibilities, counted.unsqueeze(-1) * responsibilities.gather(1, index)),
        ):
            keep = failed.view(-1, *(1 for _ in value.shape[1:]))
            own = tensor[group, :fitted]
            own.copy_(torch.where(keep, own, value))

        found = traces(following, current, weight * responsibilities)
        entropy = -torch.special.xlogy(shares, shares).sum(-1)
        return {
            "trace_uniform": found.uniform,
            "trace_cluster": found.within,
            "term_a": found.following,
            "term_b": found.current,
            "effective_clusters": entropy.exp(),
            "occupied_clusters": (shares > OCCUPIED).sum(-1).float(),
            "log_likelihood": (paired * likelihoods).sum(-1) / paired.sum(-1),
        }

    def _pairs(self, critics: Critics, group: slice, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the (G, n, m) rows g' and g of transitions."""
        following, current = successive_inputs(batch)
        network, first = critics.network, (0, group)
        return (
            gradients(network, critics.target[first], following, self._kind),
            gradients(network, critics.parameters[first], current, self._kind),
        )

    @torch.no_grad()
    def assign(self, critics: Critics, member: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns where transitions lie, and to which clusters they belong by the last fit.

        Args:
            critics: As they are now.
            member: The member.
            rows: (n,) int64 rows in its dataset, each with a next action.

        Returns:
            (n, 2 d) points y, and (n, K) responsibilities.
        """
        group = slice(member, member + 1)
        batch = self._data.take((rows + self._data.offsets[member]).unsqueeze(0))
        projections = [
            Projection(each.mean[group], each.basis[group]) for each in self._projections
        ]
        points = _coordinates(self._pairs(critics, group, batch), projections)
        mixture = Mixture(*(each[group] for each in self._mixture))
        return points[0], expectation(points, mixture)[0][0]

    def _fitted(
        self,
        group: slice,
        critics: Critics,
        pairs: tuple[Tensor, Tensor],
        counted: Tensor,
        draws: dict[str, Tensor],
    ) -> tuple[list[Projection], Mixture]:
        """Returns the projections and mixtures of (G, n, m) pairs, of which (G, n) count."""
        cold = "centres" in draws
        projections = [
            principal(vectors, counted, old.basis[group], COLD_SWEEPS if cold else WARM_SWEEPS)
            for vectors, old in zip(pairs, self._projections, strict=True)
        ]
        points = _coordinates(pairs, projections)
        weight = counted.unsqueeze(-1).to(points.dtype)
        # Points are centred, so their mean square is their variance.
        spread = (weight * points.square()).sum((1, 2)) / (weight.sum((1, 2)) * points.shape[-1])
        ridge = self._ridge[group] * spread
        if cold:
            start = spread_out(points, counted, self._clusters[group], draws["centres"])
            return projections, fit(points, start, ridge, self._cold)
        # Transitions keep their responsibilities while their gradients move. A mixture that stayed
        # where it was would see all gradients as outliers, which fall to its widest component.
        rows = self._rows[group, : points.shape[1]] + self._data.offsets[group].unsqueeze(-1)
        moved = _coordinates(self._pairs(critics, group, self._data.take(rows)), projections)
        known = self._responsibilities[group, : points.shape[1]]
        start = weight * expectation(points, maximisation(moved, known, ridge))[0]
        return projections, fit(points, start, ridge, self._warm)

    def _tensors(self) -> list[Tensor]:
        return [*self._mixture, *(tensor for each in self._projections for tensor in each)]

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further draws and refreshes."""
        parts = {
            "mixture": self._mixture,
            "following": self._projections[0],
            "current": self._projections[1],
        }
        fitted = {"rows": self._rows, "responsibilities": self._responsibilities}
        return {
            **{name: _per_member(part._asdict()) for name, part in parts.items()},
            "fitted": _per_member(fitted),
            "sampler": self.sampler.state_dict(),
            "random": {name: each.state_dict() for name, each in self._random.items()},
        }


def _per_member(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns views of shape (P, ...) tensors with one axis besides the members'."""
    return {name: tensor.view(len(tensor), -1) for name, tensor in tensors.items()}


def _coordinates(pairs: Sequence[Tensor], projections: Sequence[Projection]) -> Tensor:
    """Returns the (G, n, 2 d) points y that mixtures are of, from (G, n, m) pairs g' and g."""
    return torch.cat([each(x) for each, x in zip(projections, pairs, strict=True)], dim=-1)
