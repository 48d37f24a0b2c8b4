"""The same settings in d3rlpy's words.

What is done to a dataset before training (normalised observations, scaled rewards) has no entry:
d3rlpy is given the prepared transitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Equivalent:
    """How d3rlpy calls a method's settings.

    Attributes:
        names: Arguments of d3rlpy's config by the name of our setting.
        networks: Names of d3rlpy's networks by our setting with the widths of hidden layers.
        fixed: Arguments of d3rlpy's config that make it the method as it is here.
        absent: Settings of ours that d3rlpy has not, with the value that amounts to that.
        cosine: Whether the actor's step size falls to zero along half a cosine.
    """

    names: Mapping[str, tuple[str, ...]]
    networks: Mapping[str, tuple[str, ...]]
    fixed: Mapping[str, Any]
    absent: Mapping[str, Any]
    cosine: bool = False


_COMMON = {"batch_size": ("batch_size",), "discount": ("gamma",), "target_rate": ("tau",)}
_BOTH_RATES = ("actor_learning_rate", "critic_learning_rate")

EQUIVALENTS = {
    "td3_bc": Equivalent(
        names=_COMMON
        | {
            "alpha": ("alpha",),
            "policy_noise": ("target_smoothing_sigma",),
            "noise_clip": ("target_smoothing_clip",),
            "policy_delay": ("update_actor_interval",),
            "learning_rate": _BOTH_RATES,
        },
        networks={"hidden_sizes": ("actor", "critic")},
        fixed={"n_critics": 2},
        absent={"critic_norm": "none"},
    ),
    "iql": Equivalent(
        names=_COMMON
        | {
            "expectile": ("expectile",),
            "inverse_temperature": ("weight_temp",),
            "weight_clip": ("max_weight",),
            "learning_rate": _BOTH_RATES,
        },
        networks={"hidden_sizes": ("actor", "critic", "value")},
        fixed={"n_critics": 2},
        absent={"dropout": 0.0},
        cosine=True,
    ),
    "cql": Equivalent(
        names=_COMMON
        | {
            "penalty": ("conservative_weight",),
            "samples": ("n_action_samples",),
            "max_backup": ("max_q_backup",),
            "critic_rate": ("critic_learning_rate",),
            "policy_rate": ("actor_learning_rate", "temp_learning_rate"),
        },
        networks={"critic_sizes": ("critic",), "policy_sizes": ("actor",)},
        # A multiplier that stays at 1, and no entropy in the targets.
        fixed={
            "n_critics": 2,
            "initial_temperature": 1.0,
            "initial_alpha": 1.0,
            "alpha_learning_rate": 0.0,
            "alpha_threshold": 0.0,
            "soft_q_backup": False,
        },
        absent={"gap": None, "diff_min": None, "orthogonal": False, "critic_norm": "none"},
    ),
}
"""By the name of the method."""

PREPARED = ("normalise_observations", "scale_by_returns", "reward_scale", "reward_shift")
"""Settings that are in the data already."""


def d3rlpy_settings(method: str, config: Any, steps: int) -> dict[str, Any]:
    """Returns what ``d3rlpy_learner.py`` is told, as JSON values.

    Args:
        method: Name of the method.
        config: Its hyperparameters, an instance of the method's ``Config``.
        steps: Gradient steps in all, for schedules.

    Raises:
        ValueError: If d3rlpy has no such method, or cannot do what the config says.
    """
    if method not in EQUIVALENTS:
        raise ValueError(f"{method} is not compared with d3rlpy; what is: {', '.join(EQUIVALENTS)}")
    equivalent = EQUIVALENTS[method]
    for name, value in equivalent.absent.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{method}: d3rlpy has no {name}; it is {getattr(config, name)!r} and would have "
                f"to be {value!r}"
            )
    renamed = {
        theirs: getattr(config, ours)
        for ours, names in equivalent.names.items()
        for theirs in names
    }
    hidden_units = {
        network: list(getattr(config, ours))
        for ours, networks in equivalent.networks.items()
        for network in networks
    }
    return {
        "method": method,
        "config": renamed | dict(equivalent.fixed),
        "hidden_units": hidden_units,
        "cosine_steps": steps if equivalent.cosine else None,
    }
