"""Stage I of SPAR: a cloned policy that anchors residuals, and critics that judge actions.

    π_base: min_φ  E_D ‖π_base(s) - a‖²,  or  -E_D log π(a|s)  of a Gaussian         pure cloning
    V:      min_ψ  E_D[ L_τ( min_{i<2} Q̄_i(s,a) - V(s) ) ]                           expectiles
    Q:      min_θ  Σ_i E_D[ (Q_i(s,a) - r - γ V(s'))² ],  i = 1, ..., M

What the members of a population share of this stage is trained once: there are G groups of members
with equal data, seed and settings of the stage. Afterwards everything is frozen, so that what later
stages ask of the dataset's own actions is answered once for every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from baselines.bc import negative_log_likelihood, squared_distance
from baselines.engine.data import Batch, MemberData
from baselines.engine.optimiser import MemberAdam
from baselines.engine.precision import MatmulPrecision
from baselines.engine.random import MemberRandom
from baselines.parts.critics import Critics, expectile_error, squared_error, td_targets
from baselines.parts.gradient_clipping import minimise_clipped
from baselines.parts.networks import MLP
from baselines.parts.policies import DeterministicActor, Policy
from baselines.parts.repeated_inputs import with_repeated_context
from baselines.parts.residual_losses import robust_values

BaseKind = Literal["deterministic", "gaussian"]
Backup = Literal["value", "base"]
Aggregate = Literal["min", "mean"]

ROWS_AT_ONCE = 4096
"""Rows of the dataset that are judged together."""


class Subsets(NamedTuple):
    """Which critics judge where."""

    data: slice  # actions of the dataset
    guide: slice  # what a residual policy proposes in training
    gate: slice  # what it proposes in the environment

    @classmethod
    def of(cls, critics: int, size: int) -> Subsets:
        """Returns the first ``size`` critics, those in the middle, and the last."""
        middle = (critics - size) // 2
        return cls(slice(0, size), slice(middle, middle + size), slice(critics - size, critics))


class Anchor:
    """G cloned policies with their value functions and critics.

    Args:
        data: Gives sizes and device.
        seeds: (G,) seeds.
        hidden_sizes: Width of each hidden layer of all networks.
        learning_rate: (G,) Adam's step sizes.
        critics: M, critics per group.
        subset: Critics that judge together.
        kind: What the cloned policy is. A Gaussian anchors residuals at its mode before squashing.
        backup: ``value`` as above; ``base`` for ``y = r + γ mean_i Q̄_i(s', π_base(s'))`` and
            expectile regression of Q itself.
        aggregate: What of Q̄ the expectiles are of: the smaller of two, or the mean of the critics
            that judge actions of the dataset.
        expectile: (G,) τ.
        discount: (G,) γ.
        target_rate: (G,) fraction by which targets move.
        clip: (G,) longest gradient of each network.

    Attributes:
        policy: π_base.
        critics: Q and Q̄.
        value: (G, n) parameters of V.
        active: (G,) bool; a group that became non-finite is switched off.
        subsets: Which critics judge where.
    """

    def __init__(
        self,
        data: MemberData,
        seeds: Sequence[int],
        hidden_sizes: Sequence[int],
        learning_rate: Tensor,
        *,
        critics: int,
        subset: int,
        kind: BaseKind,
        backup: Backup,
        aggregate: Aggregate,
        expectile: Tensor,
        discount: Tensor,
        target_rate: Tensor,
        clip: Tensor,
    ):
        self.policy = Policy(
            data,
            seeds,
            hidden_sizes,
            learning_rate,
            heads=2 if kind == "gaussian" else 1,
            stream="base policy",
        )
        self.critics = Critics(data, seeds, hidden_sizes, learning_rate, ensemble=critics)
        self.value_network = MLP((data.observation_size, *hidden_sizes, 1))
        self.value = self.value_network.init(MemberRandom(seeds, "value", data.device))
        self.value_optimiser = MemberAdam(self.value, learning_rate)
        self.active = torch.ones(len(seeds), dtype=torch.bool, device=data.device)
        self.subsets = Subsets.of(critics, subset)
        self.cloning_loss = negative_log_likelihood if kind == "gaussian" else squared_distance
        self.action_size = data.action_size
        self.backup, self.aggregate = backup, aggregate
        self.expectile, self.discount = expectile, discount
        self.target_rate, self.clip = target_rate, clip

    def values(self, observations: Tensor) -> Tensor:
        """Returns the (G, B) values V(s) of (G, B, obs) observations."""
        return self.value_network(self.value, observations).squeeze(-1)

    @torch.no_grad()
    def base_actions(self, observations: Tensor) -> Tensor:
        """Returns the (G, B, act) actions π_base(s) of (G, B, obs) observations."""
        return self.policy(observations)[..., : self.action_size].tanh()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes one gradient step on π_base, V and Q each, then moves the targets Q̄."""
        losses = {"cloning_loss": self.cloning_loss(self.policy(batch.observations), batch.actions)}
        losses |= self._implicit(batch) if self.backup == "value" else self._on_policy(batch)
        optimisers = {
            "cloning_loss": self.policy.optimiser,
            "value_loss": self.value_optimiser,
            "critic_loss": self.critics.optimiser,
        }
        for name, loss in losses.items():
            minimise_clipped(optimisers[name], loss, self.active, self.clip)
        self.critics.track(self.target_rate, self.active)
        losses["loss"] = torch.stack(list(losses.values())).sum(0)
        return {name: loss.detach() for name, loss in losses.items()}

    def _implicit(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of V and Q, which ask for no actions but the dataset's."""
        with torch.no_grad():
            next_values = self.values(batch.next_observations)
            asked = slice(2) if self.aggregate == "min" else self.subsets.data
            q = self.critics.values(self.critics.target[asked], batch.observations, batch.actions)
            best = q.amin(0) if self.aggregate == "min" else q.mean(0)
        targets = td_targets(batch.rewards, batch.terminations, next_values, self.discount)
        return {
            "value_loss": expectile_error(best - self.values(batch.observations), self.expectile),
            "critic_loss": squared_error(self.critics(batch.observations, batch.actions), targets),
        }

    def _on_policy(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of Q as Algorithm 1 writes it, the values of π_base."""
        next_actions = self.base_actions(batch.next_observations)
        next_values = self.critics.target_values(batch.next_observations, next_actions).mean(0)
        targets = td_targets(batch.rewards, batch.terminations, next_values, self.discount)
        errors = targets - self.critics(batch.observations, batch.actions)
        return {"critic_loss": expectile_error(errors, self.expectile).sum(0)}

    def base_actor(self, group: int, data: MemberData, member: int) -> DeterministicActor:
        """Returns a copy of a group's π_base on the CPU, for one of its members."""
        parameters = self.policy.parameters.detach()[group : group + 1].cpu().clone()
        frame = data.frame(member)
        return DeterministicActor(self.policy.network, parameters, frame, self.action_size)

    def state_dict(self) -> dict[str, Any]:
        """Returns the live tensors that determine all further updates."""
        return {
            "policy": self.policy.state_dict(),
            "critics": self.critics.state_dict(),
            "value": self.value,
            "value_optimiser": self.value_optimiser.state_dict(),
            "active": self.active,
        }


def judged(
    network: MLP, parameters: Tensor, observations: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of critics' values, over the critics.

    Args:
        network: The shape of a critic.
        parameters: (E, P, n). Detached ones let a gradient through to the actions alone.
        observations: (P, B, obs).
        actions: (P, B, act), or (P, B, K, act) for K actions in every state.

    Returns:
        Two tensors (P, B) or (P, B, K).
    """
    if actions.dim() == 4:
        values = with_repeated_context(network, parameters, observations, actions)
    else:
        values = network(parameters, torch.cat([observations, actions], dim=-1))
    values = values.squeeze(-1)
    return values.mean(0), values.std(0, correction=0)


class Judge:
    """Q_rob (Eq. 1) of some frozen critics, for members that may share them.

    Args:
        anchor: The groups.
        subset: Which critics.
        groups: (P,) int64 group of each member; None if member p has group p.
        penalty: (P,) λ_u.
    """

    def __init__(self, anchor: Anchor, subset: slice, groups: Tensor | None, penalty: Tensor):
        self.network = anchor.critics.network
        self._all = anchor.critics.parameters.detach()[subset]
        self._groups, self._penalty = groups, penalty

    def parameters(self) -> Tensor:
        """Returns the (E, P, n) parameters of the members' critics, without gradient."""
        return self._all if self._groups is None else self._all.index_select(1, self._groups)

    def __call__(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Returns Q_rob, with a gradient to the actions alone; see :func:`judged`."""
        mean, std = judged(self.network, self.parameters(), observations, actions)
        return robust_values(mean, std, self._penalty)

    @torch.no_grad()
    def exactly(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Returns Q_rob in fp32 whatever the run's precision, for what compares actions.

        Values of actions that are near each other differ by less than bf16 can tell.
        """
        with MatmulPrecision("fp32", observations.device):
            return self(observations, actions)


class Judgements(NamedTuple):
    """What a frozen anchor says of transitions."""

    base_actions: Tensor  # (P, B, act) a_base
    data_mean: Tensor  # (P, B) μ_Q(s, a) of the critics for actions of the dataset
    data_std: Tensor  # (P, B) their σ_Q(s, a)
    base_mean: Tensor  # (P, B) their μ_Q(s, a_base)
    base_std: Tensor  # (P, B) their σ_Q(s, a_base)
    guide_mean: Tensor  # (P, B) μ_Q(s, a_base) of the critics for guidance
    guide_std: Tensor  # (P, B) their σ_Q(s, a_base)


class JudgedRows:
    """What a frozen anchor says of every row of its groups' datasets, asked once.

    Args:
        data: The transitions.
        members: (G,) a member of each group, whose dataset is the group's.

    Attributes:
        columns: (act + 6, G, N) the fields of :class:`Judgements`, for the first N rows of each
            group's dataset; N is the size of the largest.
    """

    def __init__(self, data: MemberData, members: Sequence[int]):
        self._data = data
        index = torch.tensor(members, device=data.device)
        self._offsets, self._sizes = data.offsets[index], data.sizes[index]
        rows = int(self._sizes.max())
        self.columns = torch.zeros(data.action_size + 6, len(members), rows, device=data.device)

    @torch.no_grad()
    def fill(self, anchor: Anchor) -> None:
        """Asks for all rows, in fp32; a dataset smaller than the largest repeats its last one."""
        with MatmulPrecision("fp32", self.columns.device):
            self._ask(anchor)

    def _ask(self, anchor: Anchor) -> None:
        subsets, network = anchor.subsets, anchor.critics.network
        rows = torch.arange(self.columns.shape[-1], device=self.columns.device)
        for part in rows.split(ROWS_AT_ONCE):
            own = part.minimum(self._sizes.unsqueeze(-1) - 1) + self._offsets.unsqueeze(-1)
            batch = self._data.take(own)
            base = anchor.base_actions(batch.observations)
            asked = (
                (subsets.data, batch.actions),
                (subsets.data, base),
                (subsets.guide, base),
            )
            answers = [
                answer
                for subset, actions in asked
                for answer in judged(
                    network, anchor.critics.parameters[subset], batch.observations, actions
                )
            ]
            columns = torch.cat([base.movedim(-1, 0), torch.stack(answers)])
            self.columns.index_copy_(2, part, columns)

    def take(self, groups: Tensor, rows: Tensor) -> Judgements:
        """Returns what is said of transitions.

        Args:
            groups: (P,) int64 group of each member.
            rows: (P, B) int64 rows of :attr:`MemberData.rows`, each of its group's dataset.
        """
        own = rows - self._offsets.index_select(0, groups).unsqueeze(-1)
        index = (own + groups.unsqueeze(-1) * self.columns.shape[-1]).flatten()
        taken = self.columns.flatten(1).index_select(1, index).unflatten(1, rows.shape)
        size = len(taken) - 6
        return Judgements(taken[:size].movedim(0, -1), *taken[size:])
