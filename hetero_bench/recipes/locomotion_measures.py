"""What is measured of a locomotion dataset once, when it is released, for its card."""

from __future__ import annotations

from typing import Any

import numpy as np

from hetero_bench.arrays import EpisodeArrays
from hetero_bench.dataset import Dataset
from hetero_bench.heteroskedasticity import continuous_heteroskedasticity
from hetero_bench.heteroskedasticity.marginal_fit import FitSettings
from hetero_bench.heteroskedasticity.policies import collecting_policies
from hetero_bench.provenance import Provenance
from hetero_bench.recipes.squashed_policy import SquashedGaussianMLP
from hetero_bench.spec import DatasetSpec

OF_SEVERAL = ", of the policy that collected the row"
"""What the exact behaviour of data of several policies is."""
_SMALLEST = 1e-6


def mean_return(arrays: EpisodeArrays) -> dict[str, float]:
    """Returns mean and standard deviation of the episodes' returns, the cut ones included."""
    returns = np.add.reduceat(arrays.rewards, arrays.episode_starts()[:-1], dtype=np.float64)
    return {"mean": round(float(returns.mean()), 1), "std": round(float(returns.std()), 1)}


def heteroskedasticity_against(
    expert: SquashedGaussianMLP,
    spec: DatasetSpec,
    arrays: EpisodeArrays,
    settings: FitSettings,
) -> dict[str, Any]:
    """Measures how unevenly the behaviour varies, with the expert as π.

    The behaviour is exact where the Gaussians before the tanh are recorded, else fitted to the
    actions; see :mod:`hetero_bench.heteroskedasticity.continuous`. Where several policies collected
    it is, row by row, the one that did, not their mixture.

    Args:
        expert: The final policy, stochastic.
        spec: The dataset's.
        arrays: The dataset's.
        settings: Of the fit.

    Returns:
        JSON values, rounded: std and maximum over the rows of D(π, β) and of log(1 + D), which is
        clamped to 20, and the share of rows where D is infinite.
    """

    def policy(
        observations: np.ndarray, waypoints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        means, log_stds = expert.distribution(observations)
        return means, np.exp(log_stds)

    provenance = Provenance(status="unpinned", source="build", digest="", made_at="")
    dataset = Dataset(spec=spec, arrays=arrays, provenance=provenance)
    measured = continuous_heteroskedasticity(dataset, policy, squash="tanh", settings=settings)
    several = measured.behaviour == "exact" and collecting_policies(spec) not in (None, 1)
    return {
        "policy": "expert; where log(1 + D) exceeds 20, it counts as 20",
        "behaviour": measured.behaviour + (OF_SEVERAL if several else ""),
        "std_of_D": _rounded(measured.std),
        "maximum_of_D": _rounded(measured.maximum),
        "std_of_log_1_plus_D": _rounded(measured.log_summary.std),
        "maximum_of_log_1_plus_D": _rounded(measured.log_summary.maximum),
        "share_of_rows_with_infinite_D": _rounded(measured.infinite),
    }


def _rounded(value: float) -> float:
    """Returns four digits; what single precision cannot tell from zero is zero."""
    return 0.0 if abs(value) < _SMALLEST else float(f"{value:.4g}")
