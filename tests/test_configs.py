"""Hyperparameters that make no sense are refused where they are written."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from baselines import (
    awac,
    awr,
    awr_discrete,
    bc,
    bc_discrete,
    c4,
    car,
    cql,
    cql_discrete,
    dr3,
    edac,
    iql,
    layer_norm,
    rebrac,
    reds,
    reds_discrete,
    spot,
    td3_bc,
)

EVERY = {
    "learning_rate": [0.0, -1e-3, math.nan, math.inf, "fast", True],
    "batch_size": [0, -1, 2.5, math.nan],
    "hidden_sizes": [(0,), (8, -1), (8.0,), [8], 8],
    "greedy": ["no", None],
}
POLICY = {"temperature": [0.0, -0.1, math.nan], "discount": [-0.1, 1.01, math.nan]}
CRITIC = {
    "alpha": [-1e-9, math.inf],
    "target_rate": [0.0, 1.1],
    "reward_scale": [math.nan, math.inf],
    "backup": ["mean", None],
}
WRONG = {
    bc_discrete.Config: EVERY,
    cql_discrete.Config: {**EVERY, **POLICY, **CRITIC},
    reds_discrete.Config: {
        **EVERY,
        **POLICY,
        **CRITIC,
        "tau": [0.0, math.nan],
        "rho_term": ["max"],
        "rho_samples": [0, 1.5],
    },
    awr_discrete.Config: {
        **EVERY,
        **POLICY,
        "weight_clip": [0.0, math.inf],
        "trace_decay": [-0.1, 1.1],
        "horizon": [0, 2.5],
    },
}
PREPARED = {
    "batch_size": EVERY["batch_size"],
    "normalise_observations": [None, "yes"],
    "reward_scale": [math.nan, math.inf],
    "reward_shift": [math.nan, -math.inf],
}
ACTOR_CRITIC = {
    **PREPARED,
    "hidden_sizes": EVERY["hidden_sizes"],
    "learning_rate": EVERY["learning_rate"],
    "discount": [-0.1, 1.01],
    "target_rate": [0.0, 1.1],
}
CRITIC_NORM = {"critic_norm": ["layer", None]}
TD3 = {"policy_noise": [-0.1], "noise_clip": [-0.1, math.nan], "policy_delay": [0, 1.5]}
WRONG |= {
    bc.Config: {
        **EVERY,
        "head": ["laplace"],
        "best_fraction": [0.0, 1.1],
        "normalise_observations": [None],
    },
    td3_bc.Config: {**ACTOR_CRITIC, **TD3, "alpha": [-1.0, math.inf], **CRITIC_NORM},
    rebrac.Config: {
        **{name: values for name, values in ACTOR_CRITIC.items() if name != "learning_rate"},
        **TD3,
        "policy_penalty": [-1.0, math.nan],
        "critic_penalty": [-1.0, math.inf],
        "policy_rate": EVERY["learning_rate"],
        "critic_rate": EVERY["learning_rate"],
    },
    awac.Config: {
        **ACTOR_CRITIC,
        "temperature": POLICY["temperature"],
        "weight_clip": [0.0, math.inf],
    },
    awr.Config: {
        **PREPARED,
        **POLICY,
        "hidden_sizes": EVERY["hidden_sizes"],
        "learning_rate": EVERY["learning_rate"],
        "weight_clip": [0.0, math.inf],
        "trace_decay": [-0.1, 1.1],
        "refresh_interval": [0, 2.5],
        "value_scale": [0.0, -1.0],
    },
    iql.Config: {
        **ACTOR_CRITIC,
        "expectile": [-0.1, 1.1],
        "inverse_temperature": [-1.0],
        "weight_clip": [0.0],
        "dropout": [-0.1, 1.0],
        "scale_by_returns": ["yes"],
    },
    cql.Config: {
        **PREPARED,
        "penalty": [-1.0, math.inf],
        "gap": [math.nan, "wide"],
        "samples": [0, 2.5],
        "diff_min": [-math.inf],
        "max_backup": [1.5],
        "discount": [-0.1, 1.01],
        "target_rate": [0.0, 1.1],
        "critic_sizes": EVERY["hidden_sizes"],
        "policy_sizes": EVERY["hidden_sizes"],
        "orthogonal": ["yes"],
        "critic_rate": EVERY["learning_rate"],
        "policy_rate": EVERY["learning_rate"],
        **CRITIC_NORM,
    },
}
WHOLE = [0, -1, 2.5, math.nan, True]
RATES = {"critic_rate": EVERY["learning_rate"], "policy_rate": EVERY["learning_rate"]}
SPOT = {
    **{name: values for name, values in ACTOR_CRITIC.items() if name != "learning_rate"},
    **TD3,
    **RATES,
    "density_sizes": EVERY["hidden_sizes"],
    "density_weight": [-0.1, math.inf],
    "dropout": [-0.1, 1.0],
    "small_outputs": ["yes"],
}
WRONG |= {
    spot.Config: {
        **SPOT,
        "density_rate": EVERY["learning_rate"],
        "density_steps": WHOLE,
    },
    car.Config: {
        **SPOT,
        "warmup_steps": WHOLE,
        "threshold": [math.nan, math.inf],
        "threshold_quantile": [-0.1, 1.1],
        "ring_factor": [0.0, math.nan],
        "behaviour_rate": EVERY["learning_rate"],
        "mix_rate": [-1e-3, math.nan],
        "density": ["flow"],
        "propose_always": ["yes"],
        "verify_at_mean": [None],
    },
    reds.Config: {
        **WRONG[cql.Config],
        "tau": [0.0, math.nan],
        "rho_term": ["max"],
        "rho_rate": EVERY["learning_rate"],
    },
    edac.Config: {
        **{name: values for name, values in ACTOR_CRITIC.items() if name != "learning_rate"},
        **RATES,
        "ensemble": [1, 2.5],
        "diversity": [-0.1, math.inf],
    },
}
C4 = {
    "penalty_weight": [-0.1, math.inf],
    "trace_weight": [-0.1, math.nan],
    **dict.fromkeys(["clusters", "refresh_interval", "pool", "fit_size", "projection"], WHOLE),
    **dict.fromkeys(["cold_iterations", "warm_iterations"], WHOLE),
    "ridge": [0.0, math.nan],
    "gradient": ["features", None],
    "next_network": ["both"],
}
DR3 = {"feature_weight": [-0.1, math.nan]}
WRONG |= {
    c4.Config: {**WRONG[cql.Config], **C4},
    c4.TD3BCConfig: {**WRONG[td3_bc.Config], **C4},
    c4.IQLConfig: {**WRONG[iql.Config], **C4},
    dr3.Config: {**WRONG[cql.Config], **DR3},
    dr3.TD3BCConfig: {**WRONG[td3_bc.Config], **DR3},
    layer_norm.Config: WRONG[cql.Config],
    layer_norm.TD3BCConfig: WRONG[td3_bc.Config],
}
CASES = [
    (config, name, value)
    for config, fields in WRONG.items()
    for name, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(("config", "name", "value"), CASES)
def test_what_is_out_of_range_is_refused_by_name(config, name, value):
    where = re.escape(f"{config.__module__}.{config.__qualname__}")
    with pytest.raises(ValueError, match=f"{where}: {name} is .*; expected "):
        config(**{name: value})


@pytest.mark.parametrize("config", WRONG)
def test_every_hyperparameter_is_checked(config):
    assert set(WRONG[config]) == set(config.__dataclass_fields__)


def test_messages_say_what_was_expected():
    for change, message in {
        "target_rate": "target_rate is 2; expected a finite number above 0 and at most 1",
        "batch_size": "batch_size is 2.5; expected an integer at least 1",
        "backup": "backup is 2; expected one of 'policy', 'max'",
    }.items():
        with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
            cql_discrete.Config(**{change: 2.5 if change == "batch_size" else 2})


def test_the_ends_of_ranges_are_allowed():
    replace(
        cql_discrete.Config(),
        alpha=0.0,
        discount=1.0,
        target_rate=1.0,
        batch_size=1,
        hidden_sizes=(),
    )
    replace(cql_discrete.Config(), discount=0.0, reward_scale=-1.0)
    replace(awr_discrete.Config(), trace_decay=0.0, horizon=1)
    replace(awr_discrete.Config(), trace_decay=1.0)
