"""The section of a dataset's card on how unevenly its behaviour varies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetero_bench.markdown_tables import markdown_table

if TYPE_CHECKING:
    from hetero_bench.dataset import Dataset


def heteroskedasticity_section(dataset: Dataset) -> str:
    """Returns the exact measure of a dataset that records its behaviour's Gaussians.

    Args:
        dataset: Memory-mapped or in memory; all rows are read.

    Returns:
        Markdown, empty where the Gaussians are not recorded.
    """
    from hetero_bench.heteroskedasticity.continuous import (
        LARGEST_LOG,
        continuous_heteroskedasticity,
    )
    from hetero_bench.heteroskedasticity.policies import CONTROLLER_STD, has_exact_behaviour

    if not has_exact_behaviour(dataset):
        return ""
    measured = continuous_heteroskedasticity(dataset, behaviour="exact")
    rows = [
        (name, summary.mean, summary.std, summary.quantiles[0.5], summary.maximum)
        for name, summary in (
            ("D(π, β)", measured),
            ("log(1 + D)", measured.log_summary),
            ("KL(π ‖ β), nats", measured.kl_summary),
        )
    ]
    table = markdown_table(("", "mean", "std", "median", "max"), rows)
    return (
        "## Heteroskedasticity\n\nChi-square divergence D (ReDS, Table 3) of the controller with "
        f"Gaussian noise {CONTROLLER_STD:g} from the behaviour, given the waypoint and before "
        f"clipping, over all rows; D depends on the added noise and bias alone.\n\n{table}\n\nD is "
        f"infinite in {measured.infinite:.1%} of the rows and clamped to e^{LARGEST_LOG:g} in "
        f"{measured.clamped:.1%}."
    )
