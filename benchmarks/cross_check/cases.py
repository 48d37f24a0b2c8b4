"""What is compared: a method with settings that both libraries have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hetero_bench
from baselines.engine import Method, get_method


@dataclass(frozen=True)
class Case:
    """One line of the comparison.

    Attributes:
        method: Name of the method.
        title: What the table calls it.
        steps: Gradient steps.
        changes: Settings other than the method's defaults, so that both libraries have them.
    """

    method: str
    title: str
    steps: int
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self, spec: hetero_bench.DatasetSpec) -> Any:
        """Returns the method's hyperparameters for a dataset."""
        return dataclasses.replace(self.form.config_for(spec), **self.changes)

    @property
    def form(self) -> Method:
        """The method's form for continuous actions."""
        return get_method(self.method, "continuous")


# 1,000 steps of CQL on one core take as long as 10,000 of the others. With the default step size of
# 3e-5 its policy would not move in so few; two hidden layers instead of three halve the time.
_CQL = {
    "orthogonal": False,
    "critic_sizes": (256, 256),
    "policy_sizes": (256, 256),
    "policy_rate": 3e-4,
}

CASES = {
    "td3_bc": Case("td3_bc", "TD3+BC", 10_000),
    "iql": Case("iql", "IQL", 10_000),
    "cql": Case("cql", "CQL", 1_000, _CQL),
    "cql_max_backup": Case("cql", "CQL, max backup", 1_000, _CQL | {"max_backup": True}),
}
"""By name."""
