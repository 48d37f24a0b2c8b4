"""DR3: a penalty on how alike a critic's features of successive state-action pairs are.

Kumar, Agarwal, Ma, Courville, Tucker and Levine, "DR3: Value-Based Deep Reinforcement Learning
Requires Explicit Regularization", ICLR 2022, a plug-in for CQL (``dr3_cql``) and TD3+BC
(``dr3_td3_bc``); C4 is compared with it. TD learning makes the features φ of a critic's last hidden
layer at (s, a) and at the successor grow alike, which the penalty counters:

    Q:  min_θ  L(θ) + c₀ Σ_i E_D[ m φ_i(s,a)ᵀ φ_i(s',a') ]

L is the backbone's loss of its critics, a' what the backbone backs up in s' (with several, one of
them), m = 0 where the episode terminated. The gradient passes through both features, not through
a'. The product is taken as it is; of features that come out of a ReLU it is never negative.

c₀ was not found for these datasets: sweep {0.001, 0.01, 0.03}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from baselines import cql, td3_bc
from baselines.engine.checks import check_range
from baselines.engine.data import Batch, MemberData
from baselines.engine.members import per_member
from baselines.engine.method import Method
from baselines.parts.critics import Critics


@dataclass(frozen=True)
class PlugIn:
    """Hyperparameters of DR3, beside those of its backbone."""

    feature_weight: float = 0.01
    """c₀, weight of the penalty."""


@dataclass(frozen=True)
class Config(PlugIn, cql.Config):
    """Hyperparameters of DR3 on CQL."""

    def __post_init__(self) -> None:
        cql.Config.__post_init__(self)
        check_range(self, "feature_weight", 0.0)


@dataclass(frozen=True)
class TD3BCConfig(PlugIn, td3_bc.Config):
    """Hyperparameters of DR3 on TD3+BC."""

    def __post_init__(self) -> None:
        td3_bc.Config.__post_init__(self)
        check_range(self, "feature_weight", 0.0)


def alikeness(current: Tensor, following: Tensor, terminations: Tensor) -> Tensor:
    """Returns the (P,) penalty ``Σ_E mean_B m φ(s,a)ᵀ φ(s',a')``.

    Args:
        current: (E, P, B, m) φ(s, a).
        following: (E, P, B, m) φ(s', a').
        terminations: (P, B) bool.
    """
    products = (current * following).sum(-1).masked_fill(terminations, 0.0)
    return products.mean(-1).sum(0)


class FeaturePenalty:
    """c₀ times the alikeness of features."""

    def __init__(self, configs: Sequence[PlugIn], device: torch.device):
        self.weight = per_member(configs, "feature_weight", device)

    def __call__(
        self, critics: Critics, batch: Batch, next_actions: Tensor | None, features: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the (P,) penalty, weighted, and the alikeness."""
        if next_actions is None:
            raise ValueError("DR3 needs the policy's actions in s'; this backbone has none")
        _, following = critics.with_features(batch.next_observations, next_actions)
        penalty = alikeness(features, following, batch.terminations)
        return self.weight * penalty, {"feature_product": penalty}


def _agent(
    backbone: Callable[..., Any], configs: Sequence[Any], data: MemberData, seeds: Sequence[int]
) -> Any:
    return backbone(configs, data, seeds, critic_penalty=FeaturePenalty(configs, data.device))


def _on(backbone: Method, name: str, config: type) -> Method:
    return replace(
        backbone,
        name=name,
        title=f"DR3 ({backbone.title})",
        paper="Kumar et al., ICLR 2022",
        config=config,
        agent=partial(_agent, backbone.agent),
    )


METHODS = (_on(cql.METHOD, "dr3_cql", Config), _on(td3_bc.METHOD, "dr3_td3_bc", TD3BCConfig))
