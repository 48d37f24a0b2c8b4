"""Grading: reads run files and says what they show, and how surely."""

from __future__ import annotations

from hetero_bench.grading.collect import Entry
from hetero_bench.grading.compute import grade
from hetero_bench.grading.results import (
    Aggregate,
    Comparison,
    DatasetSummary,
    Grade,
    Result,
)

__all__ = ["Aggregate", "Comparison", "DatasetSummary", "Entry", "Grade", "Result", "grade"]
