"""A recipe's noise schedule as a Markdown table with bars: Figure 11 of the ReDS paper in text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hetero_bench.errors import SourceError
from hetero_bench.recipes.action_noise import NoiseSchedule
from hetero_bench.registry import all_specs
from hetero_bench.sources.build import recipe_module
from hetero_bench.spec import DatasetSpec

_WIDTH = 12
"""Characters of the longest bar."""


def dataset_schedule(spec: DatasetSpec) -> NoiseSchedule | None:
    """Returns the action noise that a dataset was collected with, as a function of x.

    Args:
        spec: A dataset or a subset of one.

    Returns:
        The schedule, None where the dataset's recipe has none.
    """
    if spec.subset is not None:
        spec = all_specs().get(spec.subset.parent, spec)
    if spec.recipe is None or spec.environment is None:
        return None
    schedule: Callable[[Mapping[str, Any], Any], NoiseSchedule] | None
    try:
        schedule = getattr(recipe_module(spec), "noise_schedule", None)
    except SourceError:  # a manifest may be read where its recipe is not
        return None
    return None if schedule is None else schedule(spec.recipe.parameters, spec.environment)


def schedule_rows(schedule: NoiseSchedule) -> list[tuple[str, str, str]]:
    """Returns a row per section: x in metres, the noise's standard deviation, the bias.

    Noise bars grow from zero to the largest noise; a bias is drawn to the left or the right of a
    zero line, on the same scale as the noise.
    """
    unit = max(schedule.noise.max(), abs(schedule.bias).max()) / _WIDTH
    rows = []
    for section, (noise, bias) in enumerate(zip(schedule.noise, schedule.bias, strict=True)):
        low, high = schedule.edges[section : section + 2]
        length = round(abs(bias) / unit)
        left, right = ("█" * length, "") if bias < 0 else ("", "█" * length)
        rows.append(
            (
                f"{low:g} to {high:g}",
                f"`{'█' * round(noise / unit):·<{_WIDTH}}` {noise:.2f}",
                f"`{left:·>{_WIDTH}}│{right:·<{_WIDTH}}` {bias:+.2f}",
            )
        )
    return rows
