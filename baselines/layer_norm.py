"""LN: layer normalisation of the critics' hidden layers, on CQL and TD3+BC.

Yue, Lu, Kang, Song and Huang, "Understanding, Predicting and Better Resolving Q-Value Divergence in
Offline-RL", NeurIPS 2023; C4 is compared with it. A normalised critic cannot extrapolate without
bound, so its values do not feed on themselves outside the data. Every hidden layer is linear, then
normalised, then ReLU; nothing else of the backbone changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from baselines import cql, td3_bc
from baselines.engine.method import Method
from baselines.parts.networks import NormPlace


@dataclass(frozen=True)
class Config(cql.Config):
    """Hyperparameters of CQL, its critics normalised."""

    critic_norm: NormPlace = "before"
    """Where the critics' hidden layers have layer normalisation; the same for all members."""


@dataclass(frozen=True)
class TD3BCConfig(td3_bc.Config):
    """Hyperparameters of TD3+BC, its critics normalised."""

    critic_norm: NormPlace = "before"
    """Where the critics' hidden layers have layer normalisation; the same for all members."""


def _on(backbone: Method, name: str, config: type) -> Method:
    return replace(
        backbone,
        name=name,
        title=f"LN ({backbone.title})",
        paper="Yue et al., NeurIPS 2023",
        config=config,
    )


METHODS = (_on(cql.METHOD, "ln_cql", Config), _on(td3_bc.METHOD, "ln_td3_bc", TD3BCConfig))
